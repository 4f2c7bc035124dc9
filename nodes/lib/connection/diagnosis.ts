import type { Diagnosis } from '../errors';

/** What can be found out by errors of the socket and the bytes that came. */
type Cause = keyof typeof TEXTS;

/** What is told of each, in place of the system's own words, which name host and port again. */
export const TEXTS: Record<Exclude<Diagnosis, 'client-id'>, string> = {
  'client-certificate': 'the client certificate is missing, or not accepted',
  expired: "the server's certificate is out of date",
  'host-not-found': 'there is no host of that name',
  http: 'the server speaks HTTP, not AMQP',
  'no-tls': 'the server does not speak TLS on this port',
  'other-protocol': 'the server does not speak AMQP 1.0',
  refused: 'connection refused',
  silent: 'no answer',
  'tls-expected': 'the server may expect TLS',
  unreachable: 'the host cannot be reached',
  untrusted: "the server's certificate is not trusted",
  'wrong-name': "the server's certificate is for another name",
};

const BY_CODE: Record<string, Cause> = {
  ECONNREFUSED: 'refused',
  ENOTFOUND: 'host-not-found',
  EAI_AGAIN: 'host-not-found',
  EHOSTUNREACH: 'unreachable',
  ENETUNREACH: 'unreachable',
  EHOSTDOWN: 'unreachable',
  EADDRNOTAVAIL: 'unreachable',
  ETIMEDOUT: 'silent',
  CERT_HAS_EXPIRED: 'expired',
  CERT_NOT_YET_VALID: 'expired',
  ERR_TLS_CERT_ALTNAME_INVALID: 'wrong-name',
  CERT_UNTRUSTED: 'untrusted',
  CERT_REJECTED: 'untrusted',
  CERT_SIGNATURE_FAILURE: 'untrusted',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'untrusted',
  SELF_SIGNED_CERT_IN_CHAIN: 'untrusted',
  UNABLE_TO_GET_ISSUER_CERT: 'untrusted',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'untrusted',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'untrusted',
};
/** OpenSSL's words for bytes that are not TLS, and for a handshake that the server ends. */
const NOT_TLS = /WRONG_VERSION_NUMBER|PACKET_LENGTH|UNEXPECTED_MESSAGE|UNKNOWN_PROTOCOL|HTTP_REQUEST/;
const CLIENT_CERTIFICATE = /ALERT_(?:CERTIFICATE_REQUIRED|BAD_CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE|CERTIFICATE_)/;

/** How far an attempt came. */
export interface Progress {
  isSecure: boolean;
  /** The socket can be written to: with TLS, once the handshake is over. */
  isConnected: boolean;
  /** The peer has sent something that was not TLS. */
  hasAnswered: boolean;
}

/** What an attempt failed of, by the error of the socket (undefined: it was closed) and how far it had come. */
export function diagnose(error: unknown, progress: Progress): Cause | undefined {
  const code = codeOf(error);
  if (BY_CODE[code]) return BY_CODE[code];
  if (NOT_TLS.test(code)) return 'no-tls';
  if (CLIENT_CERTIFICATE.test(code)) return 'client-certificate';
  if (code !== '' && code !== 'ECONNRESET' && code !== 'EPIPE') return undefined;
  if (progress.isSecure) return progress.isConnected ? undefined : 'no-tls';
  return progress.hasAnswered ? undefined : 'tls-expected';
}

/** Bytes of a protocol header. */
const HEADER_SIZE = 8;

/** The same by the first bytes that came where a protocol header of AMQP 1.0 belongs (2.2, 5.3.1). */
export function diagnoseBytes(bytes: Buffer): Cause | undefined {
  // A TLS record, which may be shorter: an alert, or part of a handshake.
  if ((bytes[0] === 0x15 || bytes[0] === 0x16) && bytes[1] === 3) return 'tls-expected';
  if (bytes.length < HEADER_SIZE) return undefined;
  if (bytes.toString('latin1', 0, 5) === 'HTTP/') return 'http';
  const isAmqp = bytes.toString('latin1', 0, 4) === 'AMQP';
  const isVersion1 = [0, 2, 3].includes(bytes[4]!) && bytes[5] === 1 && bytes[6] === 0 && bytes[7] === 0;
  return isAmqp && isVersion1 ? undefined : 'other-protocol';
}

function codeOf(error: unknown): string {
  const { code, errors } = (error ?? {}) as { code?: string; errors?: { code?: string }[] };
  // A host with several addresses fails with one error for each.
  return code ?? errors?.[0]?.code ?? '';
}
