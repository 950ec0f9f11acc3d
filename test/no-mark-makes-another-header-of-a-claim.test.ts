import { describe, expect, it } from 'vitest';
import { createRequestRewriter, rewriteTrailers } from '../src/rewrite/request-headers.js';

const RULES = { customNames: new Set<string>(), underscores: 'keep', rfc7239: false, facts: null } as const;
const CLAIMS = [
  'X-Forwarded-For',
  'X-Forwarded-Proto',
  'X-Forwarded',
  'Forwarded-For',
  'X-Real-IP',
  'X-Client-IP',
  'Host',
  'Transfer-Encoding',
  'Content-Length',
  'X-Request-Id',
  'Proxy',
];
/** Every mark that a header name may hold (RFC 9110 §5.6.2). */
const MARKS = [..."!#$%&'*+.^_`|~"];

const rewrite = createRequestRewriter(RULES as unknown as Parameters<typeof createRequestRewriter>[0]);

function forwarded(name: string): string[] {
  return rewrite({
    rawHeaders: [name, 'forged'],
    connectionTokens: [],
    host: 'localhost',
    requestId: 'id',
    source: { remoteAddress: '192.0.2.7', localPort: 8443, trusted: false },
  });
}

describe('a header by which a caller claims something', () => {
  const spellings = CLAIMS.flatMap((claim) => MARKS.map((mark) => claim.replaceAll('-', mark)));
  const foreign = spellings.filter((name) => !['Host', 'Proxy'].includes(name));

  it.each(foreign)('never arrives as %s', (name) => {
    expect(forwarded(name)).not.toContain('forged');
    expect(rewriteTrailers([name, 'forged'], RULES as unknown as Parameters<typeof rewriteTrailers>[1])).toEqual([]);
  });

  it('never arrives as Proxy, which CGI makes an environment variable of', () => {
    expect(forwarded('Proxy')).not.toContain('forged');
  });

  it('is told from headers that claim nothing', () => {
    expect(forwarded('X~Colour')).toContain('forged');
    expect(forwarded('Content-Type')).toContain('forged');
  });
});
