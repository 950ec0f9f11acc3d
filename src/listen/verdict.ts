import type { X509Certificate } from 'node:crypto';
import type { VerifyMode } from '../config/config.js';
import type { ConnectionReason } from '../errors.js';
import { readPeerCertificate } from '../identify/peer-certificate.js';
import type { PeerCertificate, PeerIdentity, Verify } from '../identify/peer-identity.js';
import { isOnlyPath, isPathValid, pathToAnchor, type Issuers } from './chain.js';
import type { KnownPaths } from './known-paths.js';
import { hiddenProblem } from './pardon.js';
import type { PeerVerification } from './tls-socket.js';
import { explainVerifyError, isIssuerError } from './verify-errors.js';

/** What a certificate is judged by. Replaced whole together with the credentials. */
export interface Policy {
  readonly verify: VerifyMode;
  /** Intermediates allowed between leaf and trust anchor, as nginx's ssl_verify_depth on OpenSSL >= 1.1. */
  readonly depth: number;
  readonly purpose: 'clientAuth' | 'any';
  readonly anchors: readonly X509Certificate[];
  /** Our own look at the CRLs, for what OpenSSL does not do: lists that may be out of date, connections already open. */
  readonly revocation: (leaf: X509Certificate, path: readonly X509Certificate[]) => Refusal | null;
  /** Whether OpenSSL was not given the CRLs, so that a handshake needs our look as well. */
  readonly readsCrls: boolean;
  readonly knownPaths: KnownPaths;
}

export interface Refusal {
  readonly reason: ConnectionReason;
  readonly detail: string;
}

export interface Handshake {
  readonly peer: PeerVerification;
  readonly tls: PeerIdentity['tls'];
  /** Milliseconds since the epoch. */
  readonly now: number;
}

export type Verdict =
  | { readonly admitted: true; readonly identity: PeerIdentity }
  | { readonly admitted: false; readonly refusal: Refusal; readonly certificate: PeerCertificate | null };

/**
 * The one verdict about a connection.
 *
 * Never trust the absence of an OpenSSL error alone: with TLS 1.3 a caller without any certificate who resumes its
 * session has none (nodejs/node#35317). A caller is verified only with a leaf present, no error, and a path to an
 * anchor that we can follow ourselves.
 */
export function judge(handshake: Handshake, policy: Policy): Verdict {
  const { leaf } = handshake.peer;
  if (policy.verify === 'off') return admit(handshake, { verify: 'NONE' });
  if (leaf === null) return withoutCertificate(handshake, policy);
  const certificate = readOrNull(leaf);
  if (certificate === null) return refuse('invalid', 'the certificate cannot be parsed', null);
  return judgeCertificate({ handshake, policy, leaf, certificate });
}

interface Case {
  readonly handshake: Handshake;
  readonly policy: Policy;
  readonly leaf: X509Certificate;
  readonly certificate: PeerCertificate;
}

function withoutCertificate(handshake: Handshake, policy: Policy): Verdict {
  if (policy.verify === 'required') return refuse('no_certificate', 'client sent no required SSL certificate', null);
  return admit(handshake, { verify: 'NONE' });
}

function judgeCertificate(subject: Case): Verdict {
  const { handshake, policy, certificate } = subject;
  const { error } = handshake.peer;
  if (error !== null && !isPurposeToForgive(error.code, policy)) {
    const { reason, text } = explainVerifyError(error);
    if (policy.verify !== 'optional-no-ca' || !isIssuerError(error.code)) return refuse(reason, text, certificate);
    return admit(handshake, { verify: `FAILED:${text}`, certificate, issuers: handshake.peer.presented });
  }
  return judgePath(subject);
}

function judgePath(subject: Case): Verdict {
  const { handshake, policy, leaf, certificate } = subject;
  const path = findPath(subject);
  if (path === null) return refuse('untrusted_issuer', NO_PATH, certificate);
  if (path.length - 1 > policy.depth) {
    const detail = `certificate chain too long: ${path.length - 1} intermediates, ${policy.depth} allowed`;
    return refuse('chain_too_long', detail, certificate);
  }
  const refusal = hiddenRefusal(subject, path) ?? outsideValidity(subject, path) ?? revocationOf(subject, path);
  if (refusal !== null) return refuse(refusal.reason, refusal.detail, certificate);
  policy.knownPaths.remember(leaf, path);
  // A self-signed leaf that stands in the bundle is its own anchor.
  const anchorSha256 = sha256Of(path.at(-1) ?? leaf);
  return admit(handshake, { verify: 'SUCCESS', certificate, issuers: path.slice(0, -1), anchorSha256 });
}

function revocationOf({ policy, leaf }: Case, path: readonly X509Certificate[]): Refusal | null {
  return policy.readsCrls ? policy.revocation(leaf, path) : null;
}

const NO_PATH = 'no path to a CA of the bundle can be followed';

/**
 * A resumed session carries the leaf but not the intermediates, so the path is remembered from the full handshake.
 * Not remembered: the bundle alone may still suffice; otherwise no admission. `resumption.ts` keeps it from coming to that.
 */
function findPath(subject: Case): readonly X509Certificate[] | null {
  const { handshake, policy, leaf } = subject;
  const remembered = handshake.tls.sessionReused ? policy.knownPaths.recall(leaf) : null;
  return remembered ?? pathToAnchor(leaf, issuersOf(subject));
}

function issuersOf({ handshake, policy }: Case): Issuers {
  return { presented: handshake.peer.presented, anchors: policy.anchors, now: handshake.now };
}

/** OpenSSL does not look at the clock again when a session is resumed. */
function outsideValidity({ certificate, handshake }: Case, path: readonly X509Certificate[]): Refusal | null {
  const { now } = handshake;
  if (now < certificate.notBefore) return { reason: 'not_yet_valid', detail: 'certificate is not yet valid' };
  if (now <= certificate.notAfter && isPathValid(path, now)) return null;
  return { reason: 'expired', detail: 'certificate has expired' };
}

function isPurposeToForgive(code: string, { purpose }: Policy): boolean {
  return purpose === 'any' && code === 'INVALID_PURPOSE';
}

/** What a forgiven purpose may hide: OpenSSL tells but the last of several errors. */
function hiddenRefusal(subject: Case, path: readonly X509Certificate[]): Refusal | null {
  const { handshake, leaf } = subject;
  if (handshake.peer.error === null) return null;
  if (!isOnlyPath(leaf, path, issuersOf(subject))) {
    return { reason: 'untrusted_issuer', detail: 'several issuers of the same name were presented' };
  }
  const detail = hiddenProblem(leaf, path);
  return detail === null ? null : { reason: 'invalid', detail };
}

function readOrNull(leaf: X509Certificate): PeerCertificate | null {
  try {
    return readPeerCertificate(leaf.raw);
  } catch {
    return null;
  }
}

/** What was found out about a caller; little of one who is let in without a certificate. */
interface Finding {
  readonly verify: Verify;
  readonly certificate?: PeerCertificate;
  readonly issuers?: readonly X509Certificate[];
  readonly anchorSha256?: string;
}

function admit({ tls }: Handshake, { verify, certificate, issuers = [], anchorSha256 }: Finding): Verdict {
  const chain = issuers.map((issuer) => issuer.raw);
  const identity = { verify, certificate: certificate ?? null, chain, anchorSha256: anchorSha256 ?? null, tls };
  return { admitted: true, identity };
}

function sha256Of(certificate: X509Certificate): string {
  return certificate.fingerprint256.replaceAll(':', '').toLowerCase();
}

function refuse(reason: ConnectionReason, detail: string, certificate: PeerCertificate | null): Verdict {
  return { admitted: false, refusal: { reason, detail }, certificate };
}
