import { EventEmitter } from 'node:events';
import { type Bounds, isFull } from '../bounds';
import { Encoder } from '../codec/encoder';
import type { Counters } from '../counters';
import { type AmqpError, amqpError } from '../errors';
import { Pause } from '../pause';
import { randomId } from '../random-id';
import { type Expires, Expiring } from '../expiring';
import { type AmqpFields, withTemporaryReplyTo } from '../message/fields';
import { encode, type Incoming, type Outgoing, withReplyTo } from '../message/message';
import { CODE } from '../codec/codes';
import type { Style } from '../codec/notation';
import type { DeliveryInfo } from '../receiver/receiver';
import type { Links, Receiving } from './links';
import { Entry, type Sent } from '../link/entry';
import { SharedSession } from '../link/shared-session';
import { because, type Sender } from '../sender/sender';
import type { AddressKind } from '../link/source';
import { type State, worstOf } from '../state';
import type { LinkProperties } from '../wire/properties';

/** The bounds are those of requests in flight. */
export interface RequesterOptions extends Bounds {
  /** Begins the link names; the same after each restart. */
  name: string;
  /** Where all requests go. Without, each has its own address. */
  address?: string;
  /** What that address is. */
  kind?: AddressKind;
  /** Where replies come to: an address that the peer makes (with these capabilities), or a fixed one. */
  replyTo: { capabilities?: string[]; isDirect?: boolean } | { address: string };
  /** Each request has several replies: so many, or up to one that its user calls the last; else all within the time-out. */
  replies?: { count?: number; isMarked: boolean };
  /** Of both links. */
  properties?: LinkProperties;
  /** Milliseconds to wait for a reply. 0: for ever. */
  timeout: number;
  /** What becomes of requests in flight when the reply address is lost. */
  reconnect: 'resend' | 'fail';
  styles: { fields: Style; body: Style };
}

/**
 * RabbitMQ's direct reply-to ("Direct Reply-To", 4.2): replies come at most once, by the session that the request went by.
 * Its documentation leaves out that the source is dynamic.
 */
export const DIRECT_REPLY_TO = { capabilities: ['rabbitmq:volatile-queue'], isDirect: true };

/** Which of the replies to a request it is. */
export interface ReplyPlace {
  /** From 0 on. */
  index: number;
  /** As far as that is told by their number. */
  isLast: boolean;
}

/** A request in flight, as a flow is told of it. Plain data. */
export interface PendingRequest {
  address?: string;
  /** `sending`: it waits to be sent, or for its outcome. */
  stage: 'sending' | 'delivered';
  /** Milliseconds since it was taken. */
  age: number;
  /** How many replies it has had. */
  replies: number;
}

/**
 * What is told of one request: `sent` each time it was sent, and either `reply` or `failed`, once. Where there are several
 * replies, `reply` for each, which says whether that was the last one, and then `ended`, or `failed`, once.
 */
export interface RequestUser {
  sent(sent: Sent): void;
  reply(incoming: Incoming, delivery: DeliveryInfo, place?: ReplyPlace): boolean | void;
  ended?(): void;
  /** `fields`: what could be read of a reply that cannot be decoded. */
  failed(error: AmqpError, fields?: AmqpFields): void;
}

/** One request, until it has its reply or has failed. */
class Request implements Expires {
  deadline = 0;
  entry!: Entry;
  /** Where it is: with the sender, or delivered and waiting for its reply. */
  stage: 'sending' | 'delivered' = 'sending';
  /** Sent with the former reply address, and unsettled when that changed. */
  isStale = false;
  replies = 0;
  /** When it was taken: milliseconds since 1970. */
  readonly since = Date.now();

  constructor(
    readonly number: number,
    readonly user: RequestUser,
    /** Its message id, unless the flow has given one. */
    readonly ownId: string | undefined,
    /** Of the ids that the flow has given. */
    readonly keys: readonly string[],
    /** Bytes. */
    readonly size: number,
  ) {}
}

/** Window of the link that replies come by: they are accepted on arrival. */
const REPLY_CREDIT = 500;
/** Direct replies that there is credit for at the same time; requests beyond that may lose theirs. */
const MOST_DIRECT = 100_000;
const REPLY_BYTES = 64 * 1024 * 1024;

/**
 * Sends requests and gives each the reply that carries its correlation id, with any number in flight. Nothing is sent
 * before there is an address for replies. Emits 'state' after each change.
 */
export class Requester extends EventEmitter<{ state: [State] }> {
  readonly #options: RequesterOptions;
  readonly #sender: Sender;
  readonly #replies: Receiving;
  readonly #requests: Expiring<Request>;
  #lastNumber = 0;
  /** By the correlation id and message id that the flow has given, since peers answer with either. */
  #byKey = new Map<string, Request>();
  #bytes = 0;
  #replyTo: string | undefined;
  readonly #session: SharedSession | undefined;
  #isClosing = false;
  readonly #drained = new Pause();
  /** Replies that no request waits for: late, or never asked for. */
  unmatched = 0;
  #failures = 0;

  constructor(links: Links, options: RequesterOptions) {
    super();
    this.#options = options;
    const { name, address, kind, replyTo, timeout, reconnect, styles, properties } = options;
    const isDirect = 'isDirect' in replyTo && replyTo.isDirect === true;
    const session = isDirect ? new SharedSession() : undefined;
    // RabbitMQ drops a direct reply that there is no credit for. It is topped up before half of the window is used up.
    const window = isDirect ? Math.max(REPLY_CREDIT, 2 * Math.min(options.buffer, MOST_DIRECT)) : REPLY_CREDIT;
    this.#session = session;
    this.#requests = new Expiring(
      timeout,
      links.guarded((request: Request) => this.#expired(request)),
    );
    this.#sender = links.sender({
      name: `${name}:request`,
      address,
      target: kind && { capabilities: [kind] },
      properties,
      session,
      guarantee: reconnect === 'resend' ? 'at-least-once' : 'at-most-once',
      buffer: Infinity,
      bufferBytes: Infinity,
      full: 'refuse',
      // It is given up with the request.
      retryTime: timeout || Infinity,
      timeout: 0,
    });
    this.#sender.pause();
    this.#replies = links.receiver(
      {
        name: `${name}:reply`,
        ...('address' in replyTo
          ? { address: replyTo.address }
          : { dynamic: true, capabilities: replyTo.capabilities }),
        ...(isDirect && { source: { durable: 0, expiry_policy: 'link-detach', timeout: 0 } }),
        session,
        settle: isDirect ? 'pre-settled' : 'arrival',
        creditWindow: window,
        ...(isDirect && { firstCredit: window }),
        windowBytes: REPLY_BYTES,
        settleTimeout: 0,
        styles,
        properties,
      },
      {
        message: (incoming, delivery) => this.#reply(incoming, delivery),
        undelivered: (error) => {
          // The request has ended, and nobody else waits for its reply.
          links.emit('fault', error);
          return { settle: 'accept' };
        },
        undecodable: (error, _delivery, fields) => this.#undecodable(error, fields),
      },
    );
    this.#replies.on('state', (state) => {
      if (state.name === 'connected') this.#replyAddress();
      else this.#noReplyAddress();
      this.emit('state', this.state);
    });
    this.#sender.on('state', () => this.emit('state', this.state));
  }

  get state(): State {
    const state = worstOf(this.#replies.state, this.#sender.state);
    return state.name === 'connected' ? { name: 'connected' } : state;
  }

  get address(): string | undefined {
    return this.#options.address;
  }

  /** What was sent are requests, what was received are replies. */
  get counters(): Counters {
    const { unmatched } = this;
    const { received } = this.#replies.counters;
    const [failed, pending] = [this.#failures, this.#requests.size];
    return { ...this.#sender.counters, received, failed, unmatched, pending };
  }

  open(): void {
    this.#replies.open();
    this.#sender.open();
  }

  /** Sends a request. Throws when it cannot be encoded, or its correlation id is that of another one in flight. */
  request(message: Outgoing, address: string | undefined, user: RequestUser): void {
    if (this.#isClosing) throw amqpError('AMQP_SHUTDOWN.closing');
    const { fields } = message;
    const number = ++this.#lastNumber;
    // By the number its request is found. Nobody who was asked something else is to guess it.
    const ownId = isGiven(fields.message_id) ? undefined : `${number}.${randomId()}`;
    fields.message_id ??= ownId;
    fields.correlation_id ??= fields.message_id;
    // Until there is an address this only finds out whether the message can be encoded.
    fields.reply_to = this.#replyTo ?? '';
    if (!('address' in this.#options.replyTo))
      fields.message_annotations = withTemporaryReplyTo(fields.message_annotations);
    const bytes = encode(message);
    const { size } = this.#requests;
    if (isFull(this.#options, size, this.#bytes, bytes.length))
      throw amqpError('AMQP_BUFFER_FULL.requests', { count: size });
    const given = [fields.correlation_id, fields.message_id].filter((id) => id !== ownId);
    if (given.some((id) => this.#find(id))) {
      // A message delivered again, whose first request is still in flight, is a request of its own.
      if (message.isReceived) {
        fields.message_id = fields.correlation_id = undefined;
        return this.request(message, address, user);
      }
      throw amqpError('AMQP_BAD_MESSAGE.in-flight', { fields: message.fieldsPath });
    }
    const request = new Request(number, user, ownId, given.map(keyOf), bytes.length);
    request.entry = this.#entryOf(request, bytes, address);
    this.#requests.set(request.number, request);
    this.#bytes += request.size;
    for (const key of request.keys) this.#byKey.set(key, request);
    this.#sender.send(request.entry);
  }

  /** Waits `timeout` milliseconds for the replies that are missing, fails the rest, and detaches. */
  async close(timeout: number): Promise<void> {
    this.#isClosing = true;
    if (this.#requests.size > 0) await this.#drained.wait(timeout);
    for (const request of this.#requests.clear()) this.#fail(request, amqpError('AMQP_SHUTDOWN.no-reply'));
    this.removeAllListeners();
    await Promise.all([this.#sender.close(0), this.#replies.close()]);
    this.#session?.end();
  }

  /** The requests in flight, the oldest first. */
  pending(): PendingRequest[] {
    const now = Date.now();
    const { address: own } = this.#options;
    return Array.from(this.#requests.values(), ({ entry, stage, since, replies }) => {
      const address = entry.address ?? own;
      return { ...(address !== undefined && { address }), stage, age: now - since, replies };
    });
  }

  #replyAddress(): void {
    const { address } = this.#replies;
    if (address !== this.#replyTo) {
      this.#replyTo = address;
      for (const request of this.#requests.values()) this.#readdress(request, address);
    }
    this.#sender.resume();
  }

  #readdress(request: Request, address: string | undefined): void {
    try {
      if (address !== undefined) request.entry.bytes = withReplyTo(request.entry.bytes, address);
    } catch (error) {
      this.#sender.cancel(request.entry);
      return this.#fail(request, error as AmqpError);
    }
    request.isStale = request.stage === 'sending' && !this.#sender.isWaiting(request.entry);
    if (request.stage === 'delivered') this.#resend(request);
  }

  #noReplyAddress(): void {
    this.#sender.pause();
    // A fixed address goes on collecting replies meanwhile.
    if ('address' in this.#options.replyTo || this.#options.reconnect === 'resend') return;
    for (const request of this.#requests.values()) {
      if (request.stage === 'delivered') this.#fail(request, replyAddressLost());
    }
  }

  #resend(request: Request): void {
    // Replies that it has had would come once more.
    if (this.#options.reconnect === 'fail' || request.replies > 0) return this.#fail(request, replyAddressLost());
    request.stage = 'sending';
    request.isStale = false;
    const { bytes, address } = request.entry;
    request.entry = this.#entryOf(request, bytes, address);
    this.#sender.send(request.entry);
  }

  #entryOf(request: Request, bytes: Buffer, address: string | undefined): Entry {
    return new Entry(bytes, (error, sent) => this.#sent(request, error, sent), { address });
  }

  #sent(request: Request, error: AmqpError | undefined, sent: Sent): void {
    if (!this.#isClosing) request.user.sent(sent);
    if (!this.#requests.get(request.number)) return;
    if (error) return this.#fail(request, error);
    request.stage = 'delivered';
    if (request.isStale) this.#resend(request);
  }

  /** The request that a reply is for; without, the reply is counted. */
  #requestOf({ correlation_id: correlationId, message_id: messageId }: AmqpFields): Request | undefined {
    const id = correlationId ?? messageId;
    const request = id === undefined ? undefined : this.#find(id);
    if (!request) this.unmatched++;
    return request;
  }

  #find(id: unknown): Request | undefined {
    const request = typeof id === 'string' ? this.#requests.get(parseInt(id, 10)) : undefined;
    return request && request.ownId === id ? request : this.#byKey.get(keyOf(id));
  }

  #reply(incoming: Incoming, delivery: DeliveryInfo): void {
    const request = this.#requestOf(incoming.fields);
    if (!request) return;
    // The address of the reply says nothing to a flow, and is not to be where it forwards the reply to.
    const { to, ...fields } = incoming.fields;
    const reply = to === undefined ? incoming : { ...incoming, fields };
    if (this.#options.replies) return this.#oneOfSeveral(request, reply, delivery);
    this.#forget(request);
    request.user.reply(reply, delivery);
  }

  #oneOfSeveral(request: Request, incoming: Incoming, delivery: DeliveryInfo): void {
    const index = request.replies++;
    const isLast = request.replies === this.#options.replies?.count;
    if (isLast) this.#forget(request);
    const isMarked = request.user.reply(incoming, delivery, { index, isLast });
    // Whoever was given the reply may have closed this.
    if (!isLast && isMarked && this.#requests.get(request.number)) this.#forget(request);
    if (isLast || isMarked) request.user.ended?.();
  }

  #undecodable({ message }: AmqpError, fields: AmqpFields): void {
    const request = this.#requestOf(fields);
    if (!request) return;
    this.#forget(request);
    this.#failures++;
    request.user.failed(amqpError('AMQP_DECODE.reply', { text: message }), fields);
  }

  #expired(request: Request): void {
    const { replies: several, timeout } = this.#options;
    const why = this.#sender.whyHeld(request.entry);
    this.#sender.cancel(request.entry);
    const { replies: count, user } = request;
    const values = { seconds: timeout / 1000, because: because(why), count };
    if (several && !several.isMarked && several.count === undefined && count > 0) {
      this.#forget(request);
      return user.ended?.();
    }
    if (count > 0) return this.#fail(request, amqpError('AMQP_REPLY_TIMEOUT.last', values));
    this.#fail(request, amqpError('AMQP_REPLY_TIMEOUT.time', values, { peer: why, cause: why }));
  }

  #fail(request: Request, error: AmqpError): void {
    this.#failures++;
    this.#forget(request);
    request.user.failed(error);
  }

  #forget(request: Request): void {
    this.#requests.take(request.number);
    this.#bytes -= request.size;
    for (const key of request.keys) this.#byKey.delete(key);
    if (this.#isClosing && this.#requests.size === 0) this.#drained.end();
  }
}

function replyAddressLost(): AmqpError {
  return amqpError('AMQP_IN_DOUBT.reply-address');
}

function isGiven(id: unknown): boolean {
  return id !== undefined && id !== null;
}

/** Two ids are the same only when value and type are, however they are written. */
function keyOf(id: unknown): string {
  // Most are text, which needs no encoding to be compared.
  if (typeof id === 'string') return `text ${id}`;
  const encoder = new Encoder('the id');
  encoder.id(id);
  const bytes = encoder.finish();
  if (bytes[0] === CODE.string8) return `text ${bytes.toString('utf8', 2)}`;
  if (bytes[0] === CODE.string) return `text ${bytes.toString('utf8', 5)}`;
  return bytes.toString('latin1');
}
