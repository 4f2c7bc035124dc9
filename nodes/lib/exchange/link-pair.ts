import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { Connection } from '../connection/connection';
import { type AmqpError, amqpError, type PeerError } from '../errors';
import type { AmqpFields } from '../message/fields';
import { bareOf, type Style } from '../codec/notation';
import { decode, encode, type Incoming } from '../message/message';
import type { LinkEnd, LinkEndOptions, ReceivingEnd, SendingEnd } from '../wire/link-end';
import type { Session } from '../wire/session';
import type { Wire } from '../wire/wire';

export interface LinkPairOptions {
  /** Of the node of the peer that answers. */
  address: string;
  /** Of our ends of both links. */
  own: string;
  /** Of the link for requests and of that for answers. */
  names: readonly [string, string];
  /** Further fields of both attaches. */
  attach?: LinkEndOptions;
  /** Requests are settled when they are sent. */
  isSettled?: boolean;
  /** Milliseconds to open the pair, and for each answer. */
  timeout: number;
}

/** What RabbitMQ wants of the pair by which it is managed ("AMQP 1.0 management"), of links that have one and the same name. */
export const PAIRED = {
  attach: { snd_settle_mode: 1, rcv_settle_mode: 0, properties: { paired: true } },
  isSettled: true,
};
const PLAIN = { fields: 'plain', body: 'plain' } as const;

/**
 * For answers: more than one, so that there is some whenever a request arrives. Without, RabbitMQ ends the session, and
 * others may never answer.
 */
const CREDIT = 10;
/** Milliseconds in which an attach that was answered without an address may be refused yet. */
const DETACH_GRACE = 500;

/**
 * Two links on a session of their own, by which a node that belongs to the peer itself (`$cbs`, `/management`) is asked,
 * one question at a time. It ends with the first of its links, with the session or the connection; whatever is asked
 * fails then.
 */
export class LinkPair {
  readonly #options: LinkPairOptions;
  readonly #connection: Connection;
  readonly #wire: Wire;
  readonly #session: Session;
  readonly #over = new AbortController();
  #requests!: SendingEnd;
  #replies!: ReceivingEnd;
  /** The peer's own words on why there is no link any more. */
  #refusal: PeerError | undefined;
  #answered: ((bytes: Buffer) => void) | undefined;
  #ready: (() => void) | undefined;

  /** Rejects where there is no connection, or the peer does not take the links. */
  static async open(connection: Connection, options: LinkPairOptions): Promise<LinkPair> {
    const { wire } = connection;
    const session = wire && connection.beginSession(wire)?.session;
    if (!session) throw amqpError('AMQP_DISCONNECTED.never');
    const pair = new LinkPair(connection, wire, session, options);
    try {
      await pair.#open();
    } catch (error) {
      pair.close();
      throw error;
    }
    return pair;
  }

  private constructor(connection: Connection, wire: Wire, session: Session, options: LinkPairOptions) {
    this.#connection = connection;
    this.#wire = wire;
    this.#session = session;
    this.#options = options;
    session.once('end', this.#abort);
    connection.once('state', this.#abort);
  }

  /** Where answers are to go. */
  get own(): string {
    return this.#options.own;
  }

  get isOver(): boolean {
    return this.#over.signal.aborted;
  }

  /** Aborts when it is over. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  readonly #abort = (): void => this.#over.abort();

  async #open(): Promise<void> {
    const { address, own, names, attach } = this.#options;
    await this.#within(async () => {
      // R23: of two that attach at the same time rhea would forget the first.
      this.#replies = this.#session.attachReceiver(names[1], {
        source: { address },
        target: { address: own },
        ...attach,
      });
      this.#replies.user = { message: ({ bytes }) => this.#answered?.(bytes), drained: () => {} };
      await this.#opened(this.#replies, () => this.#replies.sourceAddress);
      this.#replies.setCredit(CREDIT);
      this.#requests = this.#session.attachSender(names[0], {
        source: { address: own },
        target: { address },
        ...attach,
      });
      const ready = (): void => this.#ready?.();
      this.#requests.user = { ready, draining: () => {}, written: () => {}, settled: () => {} };
      await this.#opened(this.#requests, () => this.#requests.targetAddress);
    });
  }

  /** From then on the loss of the link ends it all. */
  async #opened(end: LinkEnd, addressOf: () => string | undefined): Promise<void> {
    end.once('close', (refusal) => {
      this.#refusal = refusal;
      this.#abort();
    });
    await once(end, 'open', { signal: this.#over.signal });
    // R21: a refused attach is answered too, but with no address, and then detached. Some peers never name one.
    if (addressOf() === undefined) await delay(DETACH_GRACE, undefined, { signal: this.#over.signal });
  }

  /** Sends a request with a body of one value, and resolves with the answer. To be called one at a time. */
  ask(fields: AmqpFields, body: unknown): Promise<Incoming> {
    const bytes = encode({
      fields,
      payload: body,
      payloadPath: 'request',
      fieldsPath: 'request',
      body: 'value',
      isReceived: false,
    });
    return this.request(bytes, fields.message_id);
  }

  /** Sends a request that is encoded, and resolves with the answer to its id. To be called one at a time. */
  request(
    bytes: Buffer,
    id: unknown,
    styles: { fields: Style; body: Style } = PLAIN,
    timeout = this.#options.timeout,
  ): Promise<Incoming> {
    return this.#within(async () => {
      if (!this.#requests.isReady) await new Promise<void>((resolve) => (this.#ready = resolve));
      const answer = this.#answerTo(id, styles);
      this.#requests.send({ id: 0 }, bytes, this.#options.isSettled === true);
      const answered = await answer;
      this.#replies.setCredit(CREDIT);
      return answered;
    }, timeout);
  }

  /** An answer that comes too late is not to be taken for that of the next request. */
  #answerTo(id: unknown, styles: { fields: Style; body: Style }): Promise<Incoming> {
    return new Promise((resolve, reject) => {
      this.#answered = (bytes) => {
        try {
          const answer = decode(bytes, styles);
          const { correlation_id: given } = answer.fields;
          if (given === undefined || String(bareOf(given)) === String(bareOf(id))) resolve(answer);
          else this.#replies.setCredit(CREDIT);
        } catch (error) {
          reject(error);
        }
      };
    });
  }

  /** Rejects when the pair is over, or it takes too long. */
  async #within<T>(task: () => Promise<T>, timeout = this.#options.timeout): Promise<T> {
    const { signal } = this.#over;
    let lost!: () => void;
    const loss = new Promise<never>((_resolve, reject) => {
      lost = () => reject(this.loss);
    });
    loss.catch(() => {});
    const timer = timeout === Infinity ? undefined : setTimeout(lost, timeout);
    signal.addEventListener('abort', lost, { once: true });
    if (signal.aborted) lost();
    try {
      return await Promise.race([task(), loss]);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', lost);
    }
  }

  /** Why it is over. */
  get loss(): AmqpError {
    const { address } = this.#options;
    const peer = this.#refusal;
    if (peer?.condition) return amqpError('AMQP_LINK_REFUSED.why', { why: `the peer refused ${address}` }, { peer });
    return amqpError('AMQP_LINK_DETACHED.why', { why: `${address} does not answer` });
  }

  close(): void {
    this.#session.off('end', this.#abort);
    this.#connection.off('state', this.#abort);
    this.#over.abort();
    if (this.#connection.wire === this.#wire) this.#session.end();
  }
}
