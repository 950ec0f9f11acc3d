import type { X509Certificate } from 'node:crypto';
import type { VerifyMode } from '../config/config.js';
import { readPeerCertificate } from '../identify/peer-certificate.js';
import type { Fault, PeerCertificate, PeerIdentity, Verify } from '../identify/peer-identity.js';
import type { RevocationCheck } from '../trust/revocation.js';
import { endOfPath, isOnlyPath, isPathValid, pathToAnchor, type Issuers } from './chain.js';
import type { KnownCaller, KnownCallers } from './known-callers.js';
import { hiddenProblem } from './pardon.js';
import { sharedIdentity } from './shared-identity.js';
import type { PeerVerification } from './tls-socket.js';
import { explainVerifyError, isIssuerError } from './verify-errors.js';

/** What a certificate is judged by. Replaced whole together with the credentials. */
export interface Policy {
  /** What the settings and each route ask for. Whoever satisfies one of them comes in; each request is judged by its own. */
  readonly modes: ReadonlySet<VerifyMode>;
  /** Intermediates allowed between leaf and trust anchor, as nginx's ssl_verify_depth on OpenSSL >= 1.1. */
  readonly depth: number;
  readonly purpose: 'clientAuth' | 'any';
  readonly anchors: readonly X509Certificate[];
  /**
   * Our own look at the CRLs, for what OpenSSL does not do: lists that may be out of date, resumed sessions, connections
   * already open.
   */
  readonly revocation: RevocationCheck;
  /** Whether OpenSSL was not given the CRLs, so that a handshake needs our look as well. */
  readonly readsCrls: boolean;
  readonly knownCallers: KnownCallers;
}

export type Refusal = Fault;

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
  const finding = examine(handshake, policy);
  const { fault, certificate = null } = finding;
  if (fault === null || isForgiven(finding, policy)) return admit(handshake, finding);
  // Where nobody is asked, nothing of a bad certificate may count: it is as if it had not been shown.
  if (policy.modes.has('off')) return admit(handshake, { fault: withSubject(fault, certificate) });
  return { admitted: false, refusal: fault, certificate };
}

/** What was found out about a caller. */
interface Finding {
  /** Null: verified. */
  readonly fault: Fault | null;
  readonly certificate?: PeerCertificate | null;
  /** In nginx's `optional_no_ca` these errors alone are passed over. */
  readonly isOfIssuer?: boolean;
  readonly issuers?: readonly X509Certificate[];
  readonly anchorSha256?: string;
  readonly validUntil?: number;
}

function examine(handshake: Handshake, policy: Policy): Finding {
  const { leaf } = handshake.peer;
  if (leaf === null) return faulty('no_certificate', 'client sent no required SSL certificate', null);
  const known = handshake.peer.known ?? policy.knownCallers.recall(leaf.raw);
  const certificate = known?.certificate ?? readOrNull(leaf);
  if (certificate === null) return faulty('invalid', 'the certificate cannot be parsed', null);
  return examineCertificate({ handshake, policy, leaf, certificate, known });
}

/** Whether one of the modes takes this caller for what it is. */
function isForgiven({ fault, isOfIssuer = false }: Finding, { modes }: Policy): boolean {
  if (isOfIssuer) return modes.has('optional-no-ca');
  return fault?.reason === 'no_certificate' && (modes.size > 1 || !modes.has('required'));
}

/** Requests under stricter routes are refused by this: their records should say whose certificate it was. */
function withSubject({ reason, detail }: Fault, certificate: PeerCertificate | null): Fault {
  return {
    reason,
    detail: certificate === null ? detail : `${detail}: ${certificate.subject.slice(0, LONGEST_SUBJECT)}`,
  };
}

/** A record is no place for all that a stranger can put into a name. Characters. */
const LONGEST_SUBJECT = 256;

interface Case {
  readonly handshake: Handshake;
  readonly policy: Policy;
  readonly leaf: X509Certificate;
  readonly certificate: PeerCertificate;
  readonly known: KnownCaller | null;
}

function examineCertificate(subject: Case): Finding {
  const { handshake, policy, certificate } = subject;
  const { error } = handshake.peer;
  if (error !== null && !isPurposeToForgive(error.code, policy)) {
    const { reason, text } = explainVerifyError(error);
    if (!isIssuerError(error.code)) return faulty(reason, text, certificate);
    return { ...faulty(reason, text, certificate), isOfIssuer: true, issuers: handshake.peer.presented };
  }
  return examinePath(subject);
}

function examinePath(subject: Case): Finding {
  const { policy, leaf, certificate } = subject;
  const path = findPath(subject);
  if (path === null) return faulty('untrusted_issuer', NO_PATH, certificate);
  if (path.length - 1 > policy.depth) {
    const detail = `certificate chain too long: ${path.length - 1} intermediates, ${policy.depth} allowed`;
    return faulty('chain_too_long', detail, certificate);
  }
  const refusal = hiddenRefusal(subject, path) ?? outsideValidity(subject, path) ?? revocationOf(subject, path);
  if (refusal !== null) return { fault: refusal, certificate };
  policy.knownCallers.remember({ leaf, certificate, path });
  // A self-signed leaf that stands in the bundle is its own anchor.
  const anchorSha256 = sha256Of(path.at(-1) ?? leaf);
  const validUntil = Math.min(certificate.notAfter, endOfPath(path));
  return { fault: null, certificate, issuers: path.slice(0, -1), anchorSha256, validUntil };
}

/** A session is bound to the very lists that it began under, but they may have run out since. */
function revocationOf({ policy, leaf, handshake }: Case, path: readonly X509Certificate[]): Refusal | null {
  const { sessionReused } = handshake.tls;
  return policy.readsCrls || sessionReused ? policy.revocation(leaf, path, handshake.now) : null;
}

const NO_PATH = 'no path to a CA of the bundle can be followed';

/**
 * A resumed session carries the leaf but not the intermediates, so the path is remembered from the full handshake.
 * Not remembered: the bundle alone may still suffice; otherwise no admission. `resumption.ts` keeps it from coming to that.
 */
function findPath(subject: Case): readonly X509Certificate[] | null {
  const { handshake, leaf, known } = subject;
  const { tls, peer, now } = handshake;
  // Behind a complaint, what this caller presented has to be looked at.
  const suffices = known !== null && (tls.sessionReused || (peer.error === null && isPathValid(known.path, now)));
  return suffices ? known.path : pathToAnchor(leaf, issuersOf(subject));
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

function admit({ tls }: Handshake, finding: Finding): Verdict {
  const { fault, certificate = null, issuers = [], anchorSha256, validUntil } = finding;
  const identity: PeerIdentity = {
    verify: wordFor(fault, certificate),
    fault,
    certificate,
    chain: issuers.map((issuer) => issuer.raw),
    anchorSha256: anchorSha256 ?? null,
    validUntil: validUntil ?? certificate?.notAfter ?? Infinity,
    tls,
  };
  return { admitted: true, identity: sharedIdentity(identity) };
}

function wordFor(fault: Fault | null, certificate: PeerCertificate | null): Verify {
  if (fault === null) return 'SUCCESS';
  return certificate === null ? 'NONE' : `FAILED:${fault.detail}`;
}

function sha256Of(certificate: X509Certificate): string {
  return certificate.fingerprint256.replaceAll(':', '').toLowerCase();
}

function faulty(reason: Fault['reason'], detail: string, certificate: PeerCertificate | null): Finding {
  return { fault: { reason, detail }, certificate };
}
