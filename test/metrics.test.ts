import type { X509Certificate } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { CONNECTION_REASONS, REQUEST_CODES } from '../src/errors.js';
import { createMetrics, type MetricsSources } from '../src/observe/metrics.js';
import type { Credentials } from '../src/trust/credentials.js';
import { aConnection, aRecord } from './support/observed.js';

const NOW = Date.parse('2026-01-01T00:00:00Z');
const DAY = 86_400;

function setUp(sources: Partial<MetricsSources> = {}) {
  const metrics = createMetrics({
    version: '1.2.3',
    pool: () => ({ open: 5, busy: 3, waiting: 2 }),
    credentials: () => null,
    draining: () => false,
    droppedLines: () => 0,
    now: () => NOW,
    processMetrics: false,
    ...sources,
  });
  return { metrics, scrape: async () => parse(await metrics.render()) };
}

/** Sample name with labels → value, without the prefix. */
function parse(text: string): Map<string, number> {
  const samples = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    samples.map((line) => {
      const space = line.lastIndexOf(' ');
      return [line.slice(0, space).replace(/^mtls_sidecar_/, ''), Number(line.slice(space + 1))];
    }),
  );
}

describe('metrics', () => {
  it('count handshakes by result and reason', async () => {
    const { metrics, scrape } = setUp();
    metrics.connectionAdmitted(aConnection());
    metrics.connectionRefused('expired');
    metrics.connectionRefused('expired');
    metrics.connectionRefused('no_shared_cipher');
    const samples = await scrape();
    expect(samples.get('handshakes_total{result="admitted",reason="none"}')).toBe(1);
    expect(samples.get('handshakes_total{result="refused",reason="expired"}')).toBe(2);
    expect(samples.get('handshakes_total{result="failed",reason="no_shared_cipher"}')).toBe(1);
    expect(samples.get('admitted_connections_total{version="TLSv1.3",resumed="false"}')).toBe(1);
  });

  it('show every reason and code from the start, so that the first one is an increase', async () => {
    const samples = [...(await setUp().scrape()).keys()];
    expect(samples.filter((name) => name.startsWith('handshakes_total'))).toHaveLength(CONNECTION_REASONS.length + 1);
    expect(samples.filter((name) => name.startsWith('request_refusals'))).toHaveLength(REQUEST_CODES.length);
  });

  it('know how many connections are open', async () => {
    const { metrics, scrape } = setUp();
    metrics.connectionAdmitted(aConnection());
    metrics.connectionAdmitted(aConnection());
    metrics.connectionClosed();
    expect((await scrape()).get('connections_open')).toBe(1);
  });

  it('count requests by status class and method, and bytes', async () => {
    const { metrics, scrape } = setUp();
    for (const status of [200, 204, 404, 0, 999]) metrics.requestFinished(aRecord({ status }));
    metrics.requestRefused('misdirected');
    const samples = await scrape();
    expect(samples.get('requests_total{status="2xx",method="POST"}')).toBe(2);
    expect(samples.get('requests_total{status="4xx",method="POST"}')).toBe(1);
    expect(samples.get('requests_total{status="none",method="POST"}')).toBe(2);
    expect(samples.get('request_refusals_total{code="misdirected"}')).toBe(1);
    expect(samples.get('request_body_bytes_total')).toBe(50);
    expect(samples.get('response_body_bytes_total')).toBe(100);
  });

  it('do not grow with what callers invent', async () => {
    const { metrics, scrape } = setUp();
    const before = [...(await scrape()).keys()];
    for (let i = 0; i < 100; i += 1) metrics.requestFinished(aRecord({ method: `M${i}` }));
    const tls = { version: 'TLSv9"} 1\n', cipher: '', serverName: null, sessionReused: true };
    metrics.connectionAdmitted(aConnection({ certificate: null, tls }));
    const after = await scrape();
    expect([...after.keys()]).toEqual(before);
    expect(after.get('requests_total{status="2xx",method="other"}')).toBe(100);
  });

  it('measure durations in cumulative buckets', async () => {
    const { metrics, scrape } = setUp();
    metrics.requestFinished(aRecord({ durationMs: 2.5, upstreamMs: 1 }));
    metrics.requestFinished(aRecord({ durationMs: 1500, upstreamMs: null }));
    metrics.requestFinished(aRecord({ durationMs: 90_000, upstreamMs: null }));
    const samples = await scrape();
    const bucket = (le: string) => samples.get(`request_duration_seconds_bucket{le="${le}"}`);
    expect([bucket('0.001'), bucket('0.0025'), bucket('1'), bucket('2'), bucket('60'), bucket('+Inf')]).toEqual([
      0, 1, 1, 2, 2, 3,
    ]);
    expect(samples.get('request_duration_seconds_sum')).toBeCloseTo(91.5025);
    expect(samples.get('request_duration_seconds_count')).toBe(3);
    expect(samples.get('upstream_duration_seconds_count')).toBe(1);
  });

  it('leave tunnels out of durations', async () => {
    const { metrics, scrape } = setUp();
    metrics.requestFinished(aRecord({ status: 101, upgraded: true, durationMs: 3_600_000 }));
    expect((await scrape()).get('request_duration_seconds_count')).toBe(0);
  });

  it('show the upstream pool, draining, lost log lines and the version', async () => {
    const samples = await setUp({ draining: () => true, droppedLines: () => 7 }).scrape();
    expect(samples.get('upstream_connections{state="busy"}')).toBe(3);
    expect(samples.get('upstream_connections{state="idle"}')).toBe(2);
    expect(samples.get('upstream_requests_waiting')).toBe(2);
    expect(samples.get('draining')).toBe(1);
    expect(samples.get('log_lines_dropped_total')).toBe(7);
    expect([...samples.keys()].some((name) => name.startsWith('build_info{version="1.2.3"'))).toBe(true);
  });

  it('tell of reloads, and that a failed one left the old in use', async () => {
    let now = NOW;
    const { metrics, scrape } = setUp({ now: () => now });
    now += 60_000;
    metrics.reloaded(true);
    now += 60_000;
    metrics.reloaded(false);
    const samples = await scrape();
    expect(samples.get('reloads_total{result="success"}')).toBe(1);
    expect(samples.get('reloads_total{result="failure"}')).toBe(1);
    expect(samples.get('reload_last_successful')).toBe(0);
    expect(samples.get('reload_last_success_timestamp_seconds')).toBe(NOW / 1000 + 60);
  });

  it('can be scraped twice without counting twice', async () => {
    const { metrics, scrape } = setUp();
    metrics.requestFinished(aRecord());
    await scrape();
    expect((await scrape()).get('requests_total{status="2xx",method="POST"}')).toBe(1);
  });

  it('come with those of the process', async () => {
    expect(await setUp({ processMetrics: true }).metrics.render()).toContain('process_cpu_seconds_total');
  });
});

describe('seconds to expiry', () => {
  const certificate = { validTo: 'Jan 11 00:00:00 2026 GMT', serialNumber: '01' } as X509Certificate;
  const ca = {
    file: '/ca.pem',
    pem: '',
    certificate,
    subject: 'CN=IM "CA"\\0A',
    label: '',
    notAfter: NOW - DAY * 1000,
  };
  const crl = { file: '/crl.pem', pem: '', issuer: 'CN=IM', thisUpdate: 0 };
  const credentials: Credentials = {
    servers: [
      {
        file: '/server.pem',
        cert: '',
        key: '',
        passphrase: null,
        serverCertificate: certificate,
        serverSubject: 'CN=localhost',
        serverAltNames: 'DNS:localhost',
        serverNames: [],
      },
    ],
    cas: [
      ca,
      {
        ...ca,
        certificate: { validTo: certificate.validTo, serialNumber: '02' } as X509Certificate,
        notAfter: NOW + DAY * 1000,
      },
    ],
    ticketKeys: [],
    crls: [
      { ...crl, nextUpdate: NOW + 3_600_000 },
      { ...crl, file: '/never.pem', nextUpdate: null },
    ],
  };

  it('are those of the server certificate, each CA and each CRL', async () => {
    const samples = await setUp({ credentials: () => credentials }).scrape();
    expect(samples.get('server_certificate_expiry_seconds{file="/server.pem",subject="CN=localhost"}')).toBe(10 * DAY);
    const subject = 'CN=IM \\"CA\\"\\\\0A';
    expect(samples.get(`ca_expiry_seconds{file="/ca.pem",subject="${subject}",serial="01"}`)).toBe(-DAY);
    expect(samples.get(`ca_expiry_seconds{file="/ca.pem",subject="${subject}",serial="02"}`)).toBe(DAY);
    expect(samples.get('crl_expiry_seconds{file="/crl.pem",issuer="CN=IM"}')).toBe(3600);
    expect([...samples.keys()].filter((name) => name.startsWith('crl_expiry'))).toHaveLength(1);
  });

  it('follow the credentials in force', async () => {
    let current: Credentials | null = credentials;
    const { scrape } = setUp({ credentials: () => current });
    await scrape();
    current = { ...credentials, crls: [] };
    expect([...(await scrape()).keys()].filter((name) => name.startsWith('crl_expiry'))).toEqual([]);
  });

  it('are absent, not zero, while nothing is known', async () => {
    const names = [...(await setUp().scrape()).keys()].filter((name) => name.includes('expiry'));
    expect(names).toEqual([]);
  });

  it('include the client certificate admitted last, if it was verified', async () => {
    const { metrics, scrape } = setUp();
    const expired = { ...aConnection().identity.certificate!, notAfter: NOW - 1000 };
    metrics.connectionAdmitted(aConnection());
    metrics.connectionAdmitted(aConnection({ verify: 'FAILED:self-signed certificate', certificate: expired }));
    expect((await scrape()).get('last_client_certificate_expiry_seconds')).toBe(365 * DAY);
  });
});
