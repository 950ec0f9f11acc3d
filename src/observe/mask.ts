/**
 * Keeps secrets in queries out of everything that is written down. An IM callback URL is a bearer token: its Sign
 * covers the time but not the body, so whoever reads it in a log can post any body for as long as it is fresh.
 */

const SECRET_NAMES: ReadonlySet<string> = new Set(['sign', 'token', 'password', 'secret', 'signature', 'key']);
const MASK = '***';
// A name can be spelled with escapes only if there is one, so a query with neither needs no closer look.
const MAY_HOLD_SECRET = /sign|token|password|secret|key|[%+]/i;
const SPELLED_OTHERWISE = /[%+[\s]/;

/**
 * Replaces the values of secret query parameters by `***` and leaves every other byte alone.
 * @param target a request target or a URL, as received
 */
export function maskQuery(target: string): string {
  const question = target.indexOf('?');
  if (question < 0 || !MAY_HOLD_SECRET.test(target)) return target;
  let masked = target.slice(0, question + 1);
  let from = question + 1;
  for (let end = target.indexOf('&', from); end >= 0; end = target.indexOf('&', from)) {
    masked += `${maskParameter(target.slice(from, end))}&`;
    from = end + 1;
  }
  return masked + maskParameter(target.slice(from));
}

/**
 * Some applications read `;` as a separator too. So a secret name after one counts, while a value reaches to the next
 * `&` whatever it contains: masking too much is the safe error here.
 */
function maskParameter(parameter: string): string {
  let start = 0;
  for (let equals = parameter.indexOf('='); equals >= 0; equals = parameter.indexOf('=', start)) {
    const name = parameter.slice(Math.max(start, parameter.lastIndexOf(';', equals) + 1), equals);
    if (isSecret(name)) return parameter.slice(0, equals + 1) + MASK;
    const separator = parameter.indexOf(';', equals);
    if (separator < 0) break;
    start = separator + 1;
  }
  return parameter;
}

function isSecret(name: string): boolean {
  return SECRET_NAMES.has(name.toLowerCase()) || (SPELLED_OTHERWISE.test(name) && SECRET_NAMES.has(plainName(name)));
}

/** The name as a lenient application may read it: decoded, trimmed, without an array suffix (`key[]`, `key[0]`). */
function plainName(name: string): string {
  // Not decodeURIComponent: it throws on a malformed escape, and one bad escape must not unmask the rest.
  const decoded = name.replace(/\+/g, ' ').replace(/%([0-9a-f]{2})/gi, (_escape, hex: string) => {
    return String.fromCharCode(parseInt(hex, 16));
  });
  return decoded
    .replace(/\[.*$/s, '')
    .replace(/[\s\0]+/g, '')
    .toLowerCase();
}
