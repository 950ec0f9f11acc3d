import type { Directive } from './syntax.js';
import { confPath, type Work } from './work.js';

const MODES: Readonly<Record<string, string>> = {
  on: 'required',
  off: 'off',
  optional: 'optional',
  optional_no_ca: 'optional-no-ca',
};

/** Our mode for a server whose mode nginx writes so. */
export function modeOf(work: Work): string {
  return MODES[work.scope.value('ssl_verify_client') ?? 'off'] ?? 'required';
}

/** Carries whom the callers' certificates must come from. */
export function carryClientCert(work: Work): void {
  const { ledger, scope, server } = work;
  const verify = scope.one('ssl_verify_client');
  const mode = modeOf(work);
  // nginx's default is off, ours is not.
  ledger.set('clientCert.verify', mode, verify ?? server);
  if (verify !== undefined && MODES[verify.args[0] ?? ''] === undefined) ledger.changed(verify, 'read as on');
  else if (verify !== undefined) ledger.carried(verify);
  carryAuthorities(work, mode);
  const depth = scope.one('ssl_verify_depth');
  if (depth !== undefined && /^\d{1,2}$/.test(depth.args[0] ?? '')) {
    ledger.set('clientCert.depth', Number(depth.args[0]), depth);
    ledger.carried(depth);
  }
  const crl = scope.one('ssl_crl');
  if (crl === undefined) return;
  ledger.set('clientCert.crl', confPath(work, crl.args[0] ?? ''), crl);
  ledger.carried(crl);
}

function carryAuthorities(work: Work, mode: string): void {
  const { ledger, scope } = work;
  const client = scope.one('ssl_client_certificate');
  const trusted = scope.one('ssl_trusted_certificate');
  if (mode === 'off') {
    for (const directive of [client, trusted]) {
      if (directive !== undefined) ledger.notNeeded(directive, 'no caller is verified');
    }
    return;
  }
  if (trusted !== undefined) carryTrusted(work, client, trusted);
  if (client === undefined) return;
  // Keeps its place before the other, and its origin.
  const more = ledger.settings.get('clientCert.ca')?.value;
  ledger.settings.delete('clientCert.ca');
  const own = confPath(work, client.args[0] ?? '');
  ledger.set('clientCert.ca', Array.isArray(more) ? [own, ...(more as string[])] : own, client);
  ledger.carried(client);
}

/**
 * nginx admits callers under these as well, which surprises those who mean it for OCSP stapling alone: there they are
 * the public CA of the server's own certificate, and everybody can have a certificate of it.
 */
function carryTrusted(work: Work, client: Directive | undefined, trusted: Directive): void {
  const { ledger, scope } = work;
  const isForStapling = scope.value('ssl_stapling') === 'on' || scope.value('ssl_stapling_verify') === 'on';
  if (isForStapling && client !== undefined) {
    return ledger.lost(
      trusted,
      'nginx admits callers under these CAs, too; add the file to clientCert.ca if you mean it',
    );
  }
  ledger.set('clientCert.ca', [confPath(work, trusted.args[0] ?? '')], trusted);
  ledger.changed(trusted, 'callers are told these names of CAs, too');
}
