import { EventEmitter } from 'node:events';
import { isDeepStrictEqual } from 'node:util';
import { bytesOf, isPlainObject, type Style } from '../codec/notation';
import type { Counters } from '../counters';
import { type AmqpError, amqpError } from '../errors';
import { Pause } from '../pause';
import { type Expires, Expiring } from '../expiring';
import type { AmqpFields } from '../message/fields';
import { encode, type Incoming, type Outgoing } from '../message/message';
import type { DeliveryInfo, Outcome, ReceiverUser } from '../receiver/receiver';
import type { Links, Receiving } from './links';
import { type Done, Entry, type Sent } from '../link/entry';
import type { Sender } from '../sender/sender';
import type { AddressKind } from '../link/source';
import { type State, worstOf } from '../state';

export interface ResponderOptions {
  /** Begins the link names; the same after each restart. */
  name: string;
  address: string;
  /** What that address is. */
  kind?: AddressKind;
  /** When a request is accepted: once its reply has been, or once the flow has it. */
  settle: 'reply' | 'arrival';
  creditWindow: number;
  /** Most bytes of requests that are not settled. */
  windowBytes: number;
  /** Milliseconds after which a request without a reply is released, or (accepted on arrival) forgotten. 0: never. */
  timeout: number;
  /** Milliseconds for which a reply is sent again that nobody takes. Its request is held for so long. */
  retryTime: number;
  styles: { fields: Style; body: Style };
}

interface Request extends Expires {
  /** Its token. */
  id: string;
  replyTo: string;
  /** Of the request as it came: the flow may change the msg in place. */
  fields: AmqpFields;
  /** To be accepted with its reply. */
  isHeld: boolean;
  /** The reply on its way. */
  entry?: Entry;
}

/** What belongs to the request, and is wrong in a reply made of the same msg unless the flow has set it anew. */
const OF_THE_REQUEST = [
  'message_id',
  'reply_to',
  'reply_to_group_id',
  'group_id',
  'group_sequence',
  'absolute_expiry_time',
  'creation_time',
  'ttl',
  'content_encoding',
];
/** Annotations of JMS that tell what the request's own `to` and `reply_to` are. */
const JMS_ADDRESSES = ['x-opt-jms-dest', 'x-opt-jms-reply-to'];
/** Ends the token of a request to which there is no reply: nothing is kept of it. */
const NO_REPLY_TO = '.no-reply-to';
/** Most replies that wait to be sent, and bytes of them. */
const BUFFER = 10_000;
const BUFFER_BYTES = 64 * 1024 * 1024;

/**
 * Takes requests, any number at a time, and sends each reply to the reply-to of its own request with its correlation
 * id, in whatever order they come. Emits 'state' after each change.
 */
export class Responder extends EventEmitter<{ state: [State] }> {
  readonly #options: ResponderOptions;
  /** By the number that ends the token. */
  readonly #requests: Expiring<Request>;
  readonly #receiver: Receiving;
  readonly #isDirect: boolean;
  readonly #replies: Sender;
  /** Ends `leave`. */
  readonly #left = new Pause();

  constructor(links: Links, options: ResponderOptions, user: ReceiverUser) {
    super();
    this.#options = options;
    this.#isDirect = links.isDirect === true;
    const { name, address, kind, creditWindow, windowBytes, timeout, retryTime, styles } = options;
    this.#requests = new Expiring(
      timeout,
      links.guarded((request: Request) => this.#expired(request)),
    );
    this.#replies = links.sender({
      name: `${name}:reply`,
      guarantee: 'at-least-once',
      buffer: BUFFER,
      bufferBytes: BUFFER_BYTES,
      full: 'refuse',
      retryTime,
      timeout: 0,
    });
    this.#receiver = links.receiver(
      {
        name: `${name}:request`,
        address,
        source: { kind },
        settle: 'flow',
        creditWindow,
        windowBytes,
        settleTimeout: 0,
        styles,
      },
      {
        message: (incoming, delivery) => this.#request(incoming, delivery, user),
        undelivered: (error, delivery) => user.undelivered(error, delivery),
        undecodable: (error, delivery, fields) => user.undecodable(error, delivery, fields),
      },
    );
    this.#receiver.on('state', () => {
      // Requests that went with the link are delivered again.
      for (const { id, isHeld } of this.#requests.values()) if (isHeld && !this.#receiver.holds(id)) this.#take(id);
      this.emit('state', this.state);
    });
    this.#replies.on('state', () => this.emit('state', this.state));
  }

  get state(): State {
    return worstOf(this.#receiver.state, this.#replies.state);
  }

  get address(): string {
    return this.#options.address;
  }

  /** What was received are requests, and the outcomes are those; what was sent are replies. */
  get counters(): Counters {
    const { sent, retried, failed, buffered, inflight } = this.#replies.counters;
    return { ...this.#receiver.counters, sent, retried, failed, buffered, inflight };
  }

  open(): void {
    this.#receiver.open();
    this.#replies.open();
  }

  /**
   * Sends the reply to the request with the token `id`; `done` is called once, with the outcome. Throws when there is
   * no such request any more, it wants no reply, or the reply cannot be encoded.
   */
  respond(id: string, message: Outgoing, done: Done): void {
    if (id.endsWith(NO_REPLY_TO)) {
      throw amqpError('AMQP_NO_REPLY_TO.none');
    }
    const request = this.#requestOf(id);
    if (!request || request.entry) throw this.#receiver.notHeld(id);
    const { replyTo, fields: given } = request;
    const correlationId = given.correlation_id ?? given.message_id;
    const fields: AmqpFields = { ...message.fields, to: replyTo, correlation_id: correlationId };
    const isEcho = (name: string): boolean => isSame(message.fields[name], given[name]);
    // If msg.amqp is still the request's, its body_type is a leftover; in a msg.amqp made by the flow it is a choice.
    if (isEcho('message_id') && isEcho('body_type')) delete fields.body_type;
    for (const name of OF_THE_REQUEST) if (isEcho(name)) delete fields[name];
    const { message_annotations: annotations } = fields;
    if (annotations instanceof Map) for (const key of JMS_ADDRESSES) annotations.delete(key);
    const bytes = encode({ ...message, fields });
    const entry = new Entry(bytes, (error, sent) => this.#sent(id, request, error, sent, done), { address: replyTo });
    request.entry = entry;
    this.#replies.send(entry);
    if (this.#isDirect && request.entry === entry) this.#acceptEarly(id, request);
  }

  /** A client may wait for its request to be accepted before it looks at what comes, which is the reply. */
  #acceptEarly(id: string, request: Request): void {
    request.isHeld = false;
    if (this.#receiver.holds(id)) this.#receiver.settle(id, { settle: 'accept' });
  }

  /** True while the request can be replied to. */
  holds(id: string): boolean {
    return this.#requestOf(id) !== undefined;
  }

  #requestOf(id: string): Request | undefined {
    const request = this.#requests.get(numberIn(id));
    return request?.id === id ? request : undefined;
  }

  /** From now on no request is taken. For good. */
  stop(): void {
    this.#receiver.stop();
  }

  /** Takes nothing more, and gives the flow `timeout` milliseconds to reply to what it has. */
  async leave(timeout: number): Promise<void> {
    const left = this.#receiver.leave(timeout);
    if (this.#requests.size > 0) await this.#left.wait(timeout);
    await left;
  }

  /** Gives replies on their way `timeout` milliseconds, releases all other requests, and detaches. */
  async close(timeout: number): Promise<void> {
    this.removeAllListeners();
    this.#left.end();
    void this.#receiver.leave(timeout);
    await this.#replies.close(timeout);
    this.#requests.clear();
    await this.#receiver.close();
  }

  #request(incoming: Incoming, delivery: DeliveryInfo, user: ReceiverUser): void {
    const id = delivery.id!;
    const { reply_to: replyTo } = incoming.fields;
    if (typeof replyTo !== 'string' || replyTo === '') {
      user.message(incoming, { ...delivery, id: id + NO_REPLY_TO });
      // Nobody waits for a reply, so nothing is to be waited for here either.
      return this.#receiver.acceptOnArrival(id);
    }
    const isHeld = this.#options.settle === 'reply';
    this.#requests.set(numberIn(id), { id, replyTo, fields: copyOf(incoming.fields), isHeld, deadline: 0 });
    try {
      user.message(incoming, delivery);
    } catch (error) {
      this.#take(id);
      throw error;
    }
    if (!isHeld) this.#receiver.acceptOnArrival(id);
  }

  #sent(id: string, request: Request, error: AmqpError | undefined, sent: Sent, done: Done): void {
    request.entry = undefined;
    // Nobody waits for the reply any more. A request that is kept, or released, would come again and again, and with as
    // many as the window holds no other would ever be answered.
    const isGone =
      error?.code === 'AMQP_LINK_REFUSED' || sent.state === 'released' || error?.condition === 'amqp:not-found';
    if (!error || isGone) {
      this.#take(id);
      const outcome: Outcome = error
        ? { settle: 'reject', error: { condition: 'amqp:precondition-failed', description: error.message } }
        : { settle: 'accept' };
      // Not held: it was accepted on arrival, or lost since, and the peer delivers it again.
      if (this.#receiver.holds(id)) this.#receiver.settle(id, outcome);
    }
    done(error, sent);
  }

  #take(id: string): void {
    this.#requests.take(numberIn(id));
    if (this.#requests.size === 0) this.#left.end();
  }

  #expired({ id, entry, replyTo }: Request): void {
    if (this.#receiver.holds(id)) this.#receiver.settle(id, { settle: 'release' });
    if (!entry) return;
    const { done } = entry;
    this.#replies.cancel(entry);
    const error = amqpError('AMQP_TIMEOUT.reply');
    done(error, { address: replyTo, state: 'failed', error: { code: error.code } });
  }
}

/** The number that ends a token of the receiver. */
function numberIn(id: string): number {
  return Number(id.slice(id.lastIndexOf('.') + 1));
}

/** Whether two fields have the same value, also when one of them has been JSON in between. */
function isSame(one: unknown, other: unknown): boolean {
  const [bytes, others] = [bytesOf(one), bytesOf(other)];
  return bytes && others ? bytes.equals(others) : isDeepStrictEqual(one, other);
}

/** What is needed of a request later. */
function copyOf(fields: AmqpFields): AmqpFields {
  const copy: AmqpFields = {};
  for (const name of [...OF_THE_REQUEST, 'correlation_id', 'body_type']) {
    const value = fields[name];
    if (value === undefined) continue;
    if (Buffer.isBuffer(value)) copy[name] = Buffer.from(value);
    else copy[name] = isPlainObject(value) ? { ...value } : value;
  }
  return copy;
}
