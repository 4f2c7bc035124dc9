import type { Diagnosis } from '../errors';

/** Diagnoses of which others tell in their own words. */
type Untold =
  | 'client-id'
  | 'given-up'
  | 'mechanism'
  | 'no-token'
  | 'port-taken'
  | `redirect-${string}`
  | 'token-expired'
  | 'token-refused'
  | 'token-server'
  | 'unverified';
/** What can be found out by errors of the socket and the bytes that came. */
export type Told = Exclude<Diagnosis, Untold>;

/** What is told of each, in place of the system's own words, which name host and port again. */
export const TEXTS: Record<Told, string> = {
  'client-certificate': 'the client certificate is missing, or not accepted',
  expired: "the server's certificate is out of date",
  'host-not-found': 'there is no host of that name',
  http: 'the server speaks HTTP, not AMQP',
  'login-expected': 'the server insists on a login by SASL',
  'no-tls': 'the server does not speak TLS on this port',
  'no-websocket': 'the server takes no AMQP over WebSocket there',
  'other-protocol': 'the server does not speak AMQP 1.0',
  'proxy-login': 'the proxy asks for a user name and password, or refuses these',
  'proxy-refused': 'the proxy refuses to connect to the server',
  'proxy-unreachable': 'the proxy cannot be reached',
  refused: 'connection refused',
  silent: 'no answer',
  'tls-expected': 'the server may expect TLS',
  unreachable: 'the host cannot be reached',
  untrusted: "the server's certificate is not trusted",
  'wrong-name': "the server's certificate is for another name",
};

const BY_CODE: Record<string, Told> = {
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
export function diagnose(error: unknown, progress: Progress): Told | undefined {
  const code = codeOf(error);
  if (BY_CODE[code]) return BY_CODE[code];
  if (code.startsWith('PROXY_')) return ofProxy(code);
  if (code === 'NO_AMQP' || code.startsWith('HTTP_')) return 'no-websocket';
  if (NOT_TLS.test(code)) return 'no-tls';
  if (CLIENT_CERTIFICATE.test(code)) return 'client-certificate';
  if (code !== '' && code !== 'ECONNRESET' && code !== 'EPIPE') return undefined;
  if (progress.isSecure) return progress.isConnected ? undefined : 'no-tls';
  return progress.hasAnswered ? undefined : 'tls-expected';
}

/** The protocol id of the SASL layer (5.3.1). */
const SASL = 3;
/** Bytes of a protocol header. */
const HEADER_SIZE = 8;

/**
 * The same by the first bytes that came where a protocol header of AMQP 1.0 belongs (2.2, 5.3.1). `isLogin`: we have
 * asked for a login by SASL.
 */
export function diagnoseBytes(bytes: Buffer, isLogin = true): Told | undefined {
  // A TLS record, which may be shorter: an alert, or part of a handshake.
  if ((bytes[0] === 0x15 || bytes[0] === 0x16) && bytes[1] === 3) return 'tls-expected';
  if (bytes.length < HEADER_SIZE) return undefined;
  if (bytes.toString('latin1', 0, 5) === 'HTTP/') return 'http';
  const isAmqp = bytes.toString('latin1', 0, 4) === 'AMQP';
  const isVersion1 = [0, 2, 3].includes(bytes[4]!) && bytes[5] === 1 && bytes[6] === 0 && bytes[7] === 0;
  if (!isAmqp || !isVersion1) return 'other-protocol';
  return bytes[4] === SASL && !isLogin ? 'login-expected' : undefined;
}

function ofProxy(code: string): Told {
  if (code === 'PROXY_407' || code === 'PROXY_401') return 'proxy-login';
  return /^PROXY_\d/.test(code) ? 'proxy-refused' : 'proxy-unreachable';
}

/** The status of a server that refuses who asks for a WebSocket, rather than WebSockets. */
export function isRefusedLogin(error: unknown): boolean {
  return ['HTTP_401', 'HTTP_403'].includes(codeOf(error));
}

function codeOf(error: unknown): string {
  const { code, errors } = (error ?? {}) as { code?: string; errors?: { code?: string }[] };
  // A host with several addresses fails with one error for each.
  return code ?? errors?.[0]?.code ?? '';
}
