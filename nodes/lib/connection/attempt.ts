import { type Login, mechanismsOf } from '../auth/sasl';
import { type AmqpError, amqpError, type Diagnosis, guarded, type PeerError } from '../errors';
import { DialledWire, MIN_MAX_FRAME_SIZE, type Wire, type WireOptions, type WireUser } from '../wire/wire';
import { diagnose, diagnoseBytes, isRefusedLogin, TEXTS, type Told } from './diagnosis';

export interface AttemptOptions extends WireOptions, Login {
  /** Milliseconds from dialling to the peer's open. */
  connectTimeout: number;
}

/** How an attempt ended. */
export interface End {
  error: AmqpError;
  /** The peer has opened. */
  wasOpen: boolean;
  /** Milliseconds. */
  openFor: number;
  /** The peer closed in good order, as services do with idle connections and before a restart. */
  isOrderly: boolean;
}

export interface AttemptUser {
  /** The login is about to begin, by this SASL mechanism. */
  loggingIn?(mechanism: string): void;
  opened(wire: Wire): void;
  fault(error: unknown): void;
  /** What the peer must not have repeated where its words are shown. */
  secrets?(): string[];
}

/** Bounds the wait for the peer's answer to our close. */
const CLOSE_TIMEOUT = 2000;

/** One connection from dialling to its end, and in words that help why it ended. */
export class Attempt implements WireUser {
  /** Resolves when it is over, however it ended (R13, R18). Nothing of it is left then. */
  readonly ended: Promise<End>;
  readonly #options: AttemptOptions;
  readonly #user: AttemptUser;
  readonly #end: (end: End) => void;
  #wire: DialledWire | undefined;
  #openedAt: number | undefined;
  /** Why we close. */
  #closing: AmqpError | undefined;
  /** R13, R43, R66: several events may tell of one end, so the first one counts. */
  #isOver = false;
  #timer: NodeJS.Timeout;
  /** A peer may repeat a token that it refuses. */
  readonly #mask = (text: string): string => without(text, this.#user.secrets?.() ?? []);

  constructor(options: AttemptOptions, user: AttemptUser) {
    this.#options = options;
    this.#user = user;
    let end!: (end: End) => void;
    this.ended = new Promise((resolve) => (end = resolve));
    this.#end = end;
    const { connectTimeout } = options;
    this.#timer = this.#after(connectTimeout, () =>
      this.#lost(`no answer within ${connectTimeout / 1000} s`, null, null, 'silent'),
    );
    try {
      this.#wire = new DialledWire({ ...options, mask: this.#mask }, mechanismsOf(options), this);
      this.#wire.connect();
    } catch (error) {
      // A port or TLS option that Node refuses is thrown by the dial itself.
      this.failed(error);
    }
  }

  /** Closes, or gives up dialling. Ends with this error, in bounded time. */
  close(reason = amqpError('AMQP_SHUTDOWN.endpoint')): void {
    if (this.#isOver) return;
    this.#closing = reason;
    clearTimeout(this.#timer);
    if (this.#openedAt === undefined || !this.#wire) return this.#lost('not open yet');
    this.#wire.close();
    this.#timer = this.#after(CLOSE_TIMEOUT, () => this.#lost('no answer to our close'));
  }

  #after(delay: number, callback: () => void): NodeJS.Timeout {
    return setTimeout(this.#guarded(callback), delay);
  }

  #guarded(callback: () => void): () => void {
    return guarded(callback, (error) => this.fault(error));
  }

  // For the wire

  began(first: Buffer): void {
    const diagnosis = this.#diagnoseBytes(first);
    if (diagnosis) throw new Error(TEXTS[diagnosis]);
  }

  #diagnoseBytes(first: Buffer): Told | undefined {
    return diagnoseBytes(first, this.#options.mechanism !== 'none');
  }

  loggingIn(mechanism: string): void {
    this.#user.loggingIn?.(mechanism);
  }

  refused(error: AmqpError): void {
    this.#over(this.#closing ?? error);
  }

  opened(): void {
    clearTimeout(this.#timer);
    // A peer may open only to say in its close, right behind, that it refuses.
    setImmediate(this.#guarded(() => this.#opened(this.#wire!)));
  }

  #opened(wire: Wire): void {
    if (this.#isOver || this.#closing) return;
    // R80: below the least that is allowed (2.7.1) no frame has room for anything.
    if (wire.maxFrameSize < MIN_MAX_FRAME_SIZE) return this.#lost(`its max-frame-size is ${wire.maxFrameSize}`);
    this.#openedAt = performance.now();
    this.#user.opened(wire);
  }

  closed(given: PeerError | undefined): void {
    // RabbitMQ repeats a token that it cannot read.
    const peer = given && withoutSecrets(given, this.#user.secrets?.() ?? []);
    const { containerId } = this.#options;
    const isOpen = this.#openedAt !== undefined && !this.#closing;
    if (peer && isOwnIdTaken(peer))
      return this.#lost(`another client uses the client ID ${containerId}`, peer, null, 'client-id');
    if (this.#openedAt === undefined && peer?.condition === 'amqp:unauthorized-access')
      return this.#over(amqpError('AMQP_AUTH.refused', {}, { peer }));
    if (!isOpen || (peer && peer.condition !== 'amqp:connection:forced')) return this.#lost('closed by the peer', peer);
    this.#over(amqpError('AMQP_DISCONNECTED.lost-by', { why: 'closed by the peer' }, { peer }), true);
  }

  /** Why is told by the error (undefined: closed), what the peer has sent, and how far it came. */
  dropped(error: unknown): void {
    const { first = Buffer.alloc(0), isConnected = false } = this.#wire ?? {};
    if (isRefusedLogin(error) && !this.#closing)
      return this.#over(amqpError('AMQP_AUTH.status', { why: textOf(error) }, { cause: error }));
    const progress = { isSecure: this.#options.isSecure === true, isConnected, hasAnswered: first.length > 0 };
    const diagnosis =
      this.#openedAt === undefined ? (this.#diagnoseBytes(first) ?? diagnose(error, progress)) : undefined;
    const text = diagnosis ? TEXTS[diagnosis] : error ? textOf(error) : 'the peer is gone or silent';
    this.#lost(text, null, error, diagnosis);
  }

  unspoken(error: unknown): void {
    const first = this.#wire?.first ?? Buffer.alloc(0);
    const diagnosis = this.#openedAt === undefined ? (this.#diagnoseBytes(first) ?? 'other-protocol') : undefined;
    const text =
      diagnosis && diagnosis !== 'other-protocol'
        ? TEXTS[diagnosis]
        : `the peer does not speak AMQP 1.0: ${textOf(error)}`;
    this.#lost(text, null, error, diagnosis);
  }

  failed(error: unknown): void {
    this.#lost(textOf(error), null, error);
  }

  fault(error: unknown): void {
    this.#user.fault(error);
  }

  // The end

  get #openFor(): number {
    return this.#openedAt === undefined ? 0 : performance.now() - this.#openedAt;
  }

  #lost(text: string, peer?: PeerError | null, cause?: unknown, diagnosis?: Diagnosis): void {
    if (this.#closing) return this.#over(this.#closing);
    const key = this.#openedAt === undefined ? 'AMQP_CONNECT.failed' : 'AMQP_DISCONNECTED.lost-by';
    this.#over(amqpError(key, { why: text }, { peer, cause, diagnosis }));
  }

  #over(error: AmqpError, isOrderly = false): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#wire?.discard();
    this.#end({ error, wasOpen: this.#openedAt !== undefined, openFor: this.#openFor, isOrderly });
  }
}

function without(text: string, secrets: string[]): string {
  return secrets.reduce((rest, secret) => rest.replaceAll(secret, '…'), text);
}

/** The peer's words, but for what it was told in confidence. */
function withoutSecrets({ condition, description, info }: PeerError, secrets: string[]): PeerError {
  const masked = (text?: string): string | undefined => (text === undefined ? text : without(text, secrets));
  const isRepeated = secrets.some((secret) => JSON.stringify(info ?? '').includes(secret));
  return { condition: masked(condition), description: masked(description), info: isRepeated ? undefined : info };
}

/** Whether the peer refuses us because another connection has our container id. */
function isOwnIdTaken({ condition, description, info }: PeerError): boolean {
  if (condition !== 'amqp:invalid-field') return false;
  const { 'invalid-field': field } = (info ?? {}) as Record<string, unknown>;
  return field === 'container-id' || /already connected/i.test(description ?? '');
}

function textOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // The error of a host with several addresses has a code only.
  return error.message || ((error as { code?: string }).code ?? error.name);
}
