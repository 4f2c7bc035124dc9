import { type ErrorKey, errorText } from './error-texts';

/** What went wrong, as a closed list: docs/error-codes.md has each for users. */
export type AmqpErrorCode =
  | 'AMQP_ATTEMPTS'
  | 'AMQP_AUTH'
  | 'AMQP_BAD_INPUT'
  | 'AMQP_BAD_MESSAGE'
  | 'AMQP_BUFFER_FULL'
  | 'AMQP_CONFIG'
  | 'AMQP_CONNECT'
  | 'AMQP_DECODE'
  | 'AMQP_DELIVERY_LOST'
  | 'AMQP_DELIVERY_SETTLED'
  | 'AMQP_DELIVERY_UNKNOWN'
  | 'AMQP_DISCONNECTED'
  | 'AMQP_FLOW'
  | 'AMQP_IN_DOUBT'
  | 'AMQP_LINK_DETACHED'
  | 'AMQP_LINK_REFUSED'
  | 'AMQP_LISTEN'
  | 'AMQP_LOCK_LOST'
  | 'AMQP_MODIFIED'
  | 'AMQP_NO_ADDRESS'
  | 'AMQP_NO_ENDPOINT'
  | 'AMQP_NO_REPLY_TO'
  | 'AMQP_NO_REQUEST'
  | 'AMQP_REJECTED'
  | 'AMQP_RELEASED'
  | 'AMQP_REPLY_STATUS'
  | 'AMQP_REPLY_TIMEOUT'
  | 'AMQP_SHUTDOWN'
  | 'AMQP_STORE'
  | 'AMQP_TIMEOUT'
  | 'AMQP_TOO_LARGE'
  | 'AMQP_TRANSACTION';

/** The error a peer gives in a close, end, detach or rejected outcome (AMQP 1.0, 2.8.14). */
export interface PeerError {
  condition?: string;
  description?: string;
  info?: unknown;
}

/** Why there is no connection, as far as a person can do something about it. */
export type Diagnosis =
  | 'client-certificate'
  | 'client-id'
  | 'expired'
  | 'given-up'
  | 'host-not-found'
  | 'http'
  | 'login-expected'
  | 'mechanism'
  | 'no-tls'
  | 'no-token'
  | 'no-websocket'
  | 'other-protocol'
  | 'port-taken'
  | 'proxy-login'
  | 'proxy-refused'
  | 'proxy-unreachable'
  | 'redirect-loop'
  | 'redirect-plain'
  | 'redirect-unlisted'
  | 'refused'
  | 'silent'
  | 'tls-expected'
  | 'token-expired'
  | 'token-refused'
  | 'token-server'
  | 'unreachable'
  | 'untrusted'
  | 'unverified'
  | 'wrong-name';

/** The longest text of a peer, and the longest message with it, in characters. */
const [LONGEST, LONGEST_MESSAGE] = [500, 1000];
/** Control characters, line breaks of all kinds, and marks that turn the direction of text around. */
// oxlint-disable-next-line no-control-regex -- they are what is to be found
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]+/g;

/** A peer's text as it can be shown and logged: on one line, and no longer than people read. */
export function cleaned(text: string, longest = LONGEST): string {
  const line = text
    .slice(0, 2 * longest)
    .replace(UNPRINTABLE, ' ')
    .trim();
  return line.length > longest ? `${line.slice(0, longest - 1)}…` : line;
}

/** A value of a flow as an error names it: not every value can be made a text. */
export function nameOf(value: unknown): string {
  if (typeof value === 'string') return value.slice(0, LONGEST);
  if (value === null || ['number', 'bigint', 'boolean', 'undefined'].includes(typeof value)) return String(value);
  return `of type ${typeof value}`;
}

/** What somebody else's error says. Flows may throw anything. */
export function messageOf(error: unknown): string {
  const { message } = (error ?? {}) as { message?: unknown };
  return nameOf(typeof message === 'string' ? message : error);
}

/** What a status can say in few words. */
export interface Brief {
  diagnosis?: Diagnosis;
  /** The name of the setting that is wrong, or the system's own words. */
  field?: string;
}

/**
 * The one error class of the package. `condition`, `description` and `info` are the peer's own words, when it gave any. They are
 * the cause of an error that has no other, as `{ condition, description }`: of an error, Node-RED gives Catch nodes no more than
 * message, code, stack and cause.
 */
export class AmqpError extends Error {
  readonly code: AmqpErrorCode;
  declare readonly condition?: string;
  declare readonly description?: string;
  declare readonly info?: unknown;
  declare readonly diagnosis?: Diagnosis;
  declare readonly field?: string;

  constructor(code: AmqpErrorCode, message: string, peer?: PeerError | null, cause?: unknown, brief: Brief = {}) {
    // A peer may send anything under these.
    const [condition, description] = [peer?.condition, peer?.description].map((text) =>
      typeof text === 'string' ? cleaned(text) : undefined,
    );
    const words = [condition, description].filter(Boolean).join(': ');
    const reason =
      cause ?? (words ? { ...(condition && { condition }), ...(description && { description }) } : undefined);
    // What came of the network or of a message may be in our own words as well.
    const text = cleaned(words ? `${message} (${words})` : message, LONGEST_MESSAGE);
    super(text, reason === undefined ? undefined : { cause: reason });
    this.name = 'AmqpError';
    this.code = code;
    if (condition) this.condition = condition;
    if (description) this.description = description;
    if (peer?.info) this.info = peer.info;
    if (brief.diagnosis) this.diagnosis = brief.diagnosis;
    if (brief.field) this.field = brief.field;
  }
}

type CodeOf<K extends string> = K extends `${infer Code}.${string}` ? Code : never;

/** What else an error tells: the peer's own words, what it comes of, and what a status says. */
export interface ErrorOrigin extends Brief {
  peer?: PeerError | null;
  cause?: unknown;
}

/** An error with a text of the table, whose gaps are filled with `values`. */
export function amqpError(
  key: ErrorKey,
  values: Record<string, string | number> = {},
  { peer, cause, ...brief }: ErrorOrigin = {},
): AmqpError {
  // A key whose code is not in the list does not compile.
  const code = key.slice(0, key.indexOf('.')) as CodeOf<ErrorKey>;
  return new AmqpError(code, errorText(key, values), peer, cause, brief);
}

/**
 * The callback, for a timer or an event: what it throws goes to `fault`. Nobody else would catch it there, and Node-RED
 * would end (R11).
 */
export function guarded<A extends unknown[]>(
  callback: (...args: A) => void,
  fault: (error: unknown) => void,
): (...args: A) => void {
  return (...args) => {
    try {
      callback(...args);
    } catch (error) {
      fault(error);
    }
  };
}

/** What Node-RED, or a node of the flow, throws when it is given a msg. */
export function flowError(cause: unknown): AmqpError {
  return amqpError('AMQP_FLOW.refused', { text: messageOf(cause) }, { cause });
}
