import type { PeerCertificate } from '../identify/peer-identity.js';

/**
 * One element of Envoy's header: `Hash=…;Subject="…";URI=…;DNS=…`, URI and DNS once per name.
 *
 * Readers disagree about quoting: some know `\"` only, some take any backslash as an escape, and a widely used one
 * splits on `;` without looking at quotes at all. So no value contains a quote, a semicolon or an escape that one of
 * them would misread: in the subject, RFC 2253's `\,` is written as its equal `\2C`. Envoy itself writes `\,`.
 * @returns null when a URI or DNS name holds a character that neither belongs there nor can be written safely: left
 * out one by one, the rest would be half an identity.
 */
export function xfccElement(certificate: PeerCertificate): string | null {
  const uris = valuesOf(certificate, 'uri');
  const names = valuesOf(certificate, 'dns');
  if (![...uris, ...names].every((value) => /^[^\x00-\x20",;\\\x7f-\uffff]+$/.test(value))) return null;
  return [
    `Hash=${certificate.sha256}`,
    `Subject="${hexEscaped(certificate.subject)}"`,
    ...uris.map((value) => `URI=${quoted(value)}`),
    ...names.map((value) => `DNS=${quoted(value)}`),
  ].join(';');
}

function valuesOf(certificate: PeerCertificate, type: 'uri' | 'dns'): string[] {
  return certificate.subjectAltNames.filter((name) => name.type === type).map(({ value }) => value);
}

/** `\,` becomes `\2C`; `\E5` stays. */
function hexEscaped(subject: string): string {
  return subject.replace(/\\(?:[0-9A-F]{2}|(.))/g, (whole, character: string | undefined) =>
    character === undefined ? whole : `\\${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

function quoted(value: string): string {
  return value.includes('=') ? `"${value}"` : value;
}
