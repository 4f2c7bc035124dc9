import type { Connection as RheaConnection, Delivery, EventContext, Sender as RheaSender, Session } from 'rhea';
import { type Connection, flush } from '../connection/connection';
import { AmqpError, type PeerError } from '../errors';
import { Link } from './link';
import { peerErrorOf } from '../wire/remote';
import { forget } from '../wire/session';
import type { State } from '../state';

/**
 * What happens to a message when the connection is lost before its outcome is known. `at-least-once`: it is sent again.
 * `at-most-once`: it fails. `pre-settled`: no outcome is asked for; it counts as sent once written.
 */
export type Guarantee = 'at-least-once' | 'at-most-once' | 'pre-settled';

export interface SenderLinkOptions {
  /** Where messages go. Without, the target is anonymous, and each message goes where its `to` says. */
  address?: string;
  /** The peer makes the address. */
  dynamic?: boolean;
  /** Further fields of the target (3.5.4). */
  target?: { durable?: number; expiry_policy?: string; capabilities?: string[] };
  guarantee: Guarantee;
}

/** What became of a message: `msg.sent`. */
export type Sent = {
  address?: string;
  /** Delivery tag in hexadecimal. */
  tag?: string;
  state: 'accepted' | 'rejected' | 'released' | 'modified' | 'settled' | 'failed';
  error?: { code: string; condition?: string; description?: string };
};

/** A message to send. `done` is called once, with an error unless it was accepted (or, pre-settled, written). */
export interface Entry {
  bytes: Buffer;
  /** For senders without an address of their own. */
  address?: string;
  /** It goes by a link to that address, whatever the sender's own is. */
  isDirect?: boolean;
  done: (error: AmqpError | undefined, sent: Sent) => void;
  /** With a store: called once it is on disk, before `done`. What fails before that has only `done`. */
  stored?: () => void;
}

/** A message that a sender holds. */
export interface Held {
  readonly entry: Entry;
  /** While it is on its way. */
  delivery?: Delivery;
}

const OUTCOMES = ['accepted', 'rejected', 'released', 'modified'].map((name) => `amqp:${name}:list`);

/** Bytes that the socket keeps while the peer does not read: the rest waits in the buffer, which is bounded. */
const MAX_UNREAD = 2 ** 20;
/** Bytes that are given to rhea at most before it writes them. */
const MAX_UNWRITTEN = 2 ** 18;

/** Milliseconds after which to look again whether the session's window has let a message through. */
const WINDOW_PAUSE = 20;

/** What is used of rhea's sender beyond its typings. */
type SenderInternals = RheaSender & {
  connection: RheaConnection;
  credit: number;
  /** Grows with each transfer that was written. */
  delivery_count: number;
  issue_flow: boolean;
  _draining: boolean;
  _get_drain(): boolean;
};

/** How it went with one message. */
export interface Outcome {
  sent: Sent;
  peer?: PeerError;
  mayRetry?: boolean;
}

/** Ends a message with an error. */
export function fail(entry: Entry, error: AmqpError, sent: Sent = { address: entry.address, state: 'failed' }): void {
  const { code, condition, description } = error;
  entry.done(error, {
    ...sent,
    error: { code, ...(condition && { condition }), ...(description && { description }) },
  });
}

/** What the link tells its sender. */
export interface SenderLinkUser<H> {
  /** It may be able to send again. `isNew`: the peer wants messages again after a time in which it wanted none. */
  ready(isNew?: boolean): void;
  settled(message: H, outcome: Outcome): void;
  /** It cannot be sent by this link. */
  failed(message: H, error: AmqpError): void;
  /** The link is gone, and with it the outcomes of these, in the order in which they were sent. */
  lost(inDoubt: H[], error: AmqpError): void;
}

/** The link of a sender: hands messages over while it has credit, and tells how it went with each. */
export class SenderLink<H extends Held> extends Link<RheaSender> {
  /** Sent and not settled, by rhea's delivery: ids begin anew with each session (R28). */
  readonly inFlight = new Map<Delivery, H>();
  readonly #options: SenderLinkOptions;
  readonly #user: SenderLinkUser<H>;
  #written: Delivery[] = [];
  /** Bytes of messages that rhea was given, since it was last made to write. */
  #unwritten = 0;
  /** What the delivery count comes to once rhea has written all that it was given. */
  #count = 0;
  /** The peer has taken its credit back. */
  #isDrained = false;

  constructor(connection: Connection, name: string, options: SenderLinkOptions, user: SenderLinkUser<H>) {
    super(connection, name);
    this.#options = options;
    this.#user = user;
  }

  /** R29: `sendable()` is true on links that are gone, and does not count what waits for rhea's next turn. */
  get isReady(): boolean {
    const link = this.rhea as SenderInternals | undefined;
    if (!link || link.credit <= this.#count - link.delivery_count) return false;
    return link.connection.socket.writableLength < MAX_UNREAD;
  }

  /** To be called while the link is ready. */
  send(message: H): void {
    const { rhea } = this;
    if (!rhea) throw new AmqpError('AMQP_DISCONNECTED', 'not attached');
    const { bytes } = message.entry;
    // rhea gives a Buffer for limits beyond 2^53; 0 and null stand for none.
    const limit: unknown = rhea.max_message_size;
    if (typeof limit === 'number' && limit > 0 && bytes.length > limit) {
      const text = `the message has ${bytes.length} bytes, the peer takes no more than ${limit}`;
      return this.#user.failed(message, new AmqpError('AMQP_TOO_LARGE', text));
    }
    const delivery = rhea.send(bytes, undefined, 0);
    message.delivery = delivery;
    this.#count++;
    this.inFlight.set(delivery, message);
    this.#unwritten += bytes.length;
    // Only then the socket knows.
    if (this.#unwritten > MAX_UNWRITTEN) this.#write(rhea.connection);
    if (this.#options.guarantee !== 'pre-settled') return;
    if (this.#written.push(delivery) === 1) this.later(() => this.#flush());
  }

  #write(connection: RheaConnection): void {
    this.#unwritten = 0;
    flush(connection);
  }

  /** Lets go of a message that is on its way: its outcome will tell nobody. */
  forget({ delivery }: H): void {
    if (delivery) this.inFlight.delete(delivery);
  }

  protected override attach(session: Session): RheaSender {
    const { address, dynamic, target, guarantee } = this.#options;
    const link = session.attach_sender({
      name: this.name,
      // Qpid Broker-J detaches where it could reject, unless told that we take that.
      source: { outcomes: OUTCOMES },
      target: dynamic ? { ...target, dynamic: true } : { ...target, address },
      snd_settle_mode: guarantee === 'pre-settled' ? 1 : 0,
      rcv_settle_mode: 0,
      // R4: else each `modified` comes as `released` first.
      treat_modified_as_released: false,
    });
    this.#count = 0;
    this.#isDrained = false;
    const internals = link as SenderInternals;
    internals._get_drain = () => internals._draining;
    // The peer reads again.
    this.listen(link.connection.socket, 'drain', () => this.#user.ready());
    this.listen(link, 'sender_draining', () => this.later(() => this.#drain(internals)));
    this.listen(link, 'sendable', () => {
      if (internals._draining) return;
      const isNew = this.#isDrained;
      this.#isDrained = false;
      this.#user.ready(isNew);
    });
    for (const state of ['accepted', 'rejected', 'released', 'modified'] as const) {
      this.listen(link, state, (context) => this.#outcome(context, state));
    }
    this.listen(link, 'settled', (context) => this.#outcome(context, 'failed'));
    return link;
  }

  protected override addressOf(link: RheaSender): string | undefined {
    return link.target?.address;
  }

  protected override get needsAddress(): 'always' | 'usually' | 'never' {
    if (this.#options.dynamic) return 'always';
    return this.#options.address ? 'usually' : 'never';
  }

  protected override attachedState(link: RheaSender): State {
    return { name: 'connected', ...(this.#options.dynamic && { address: link.target.address }) };
  }

  protected override attached(): void {
    this.#user.ready();
  }

  protected override lost(error: AmqpError): void {
    const inDoubt = [...this.inFlight.values()];
    for (const message of inDoubt) message.delivery = undefined;
    this.inFlight.clear();
    this.#written = [];
    this.#user.lost(inDoubt, error);
  }

  /**
   * The peer wants its credit back (2.6.7), and rhea leaves that to us: what waits is sent up to it, the rest is used
   * up. Unanswered, a router goes on releasing what it is sent, and gives no credit again.
   */
  #drain(link: SenderInternals): void {
    // What it has released is to wait, with all behind it, before anything else is sent.
    flush(link.connection);
    this.#user.ready();
    flush(link.connection);
    if (this.rhea !== link || !link._draining) return;
    // The session's window keeps some of it.
    if (this.#count > link.delivery_count) return this.later(() => this.#drain(link), WINDOW_PAUSE);
    link.delivery_count += link.credit;
    this.#count = link.delivery_count;
    link.credit = 0;
    link.issue_flow = true;
    flush(link.connection);
    link._draining = false;
    this.#isDrained = true;
  }

  /** Tells of what was pre-settled and has been written since: rhea marks it, unless the session's window is used up. */
  #flush(): void {
    const [...given] = this.#written;
    this.#written = given.filter((delivery) => !delivery.remote_settled);
    if (this.#written.length > 0) this.later(() => this.#flush(), WINDOW_PAUSE);
    for (const delivery of given) if (delivery.remote_settled) this.#settle(delivery, 'settled', {});
  }

  #outcome({ delivery }: EventContext, state: Sent['state']): void {
    if (!delivery) return;
    // R7: a peer may give the outcome and leave the settling to us.
    if (!delivery.remote_settled) delivery.update(true);
    const { error, undeliverable_here: undeliverable } = (delivery.remote_state ?? {}) as {
      error?: unknown;
      undeliverable_here?: boolean;
    };
    this.#settle(delivery, state, {
      peer: error ? peerErrorOf(error) : undefined,
      mayRetry: state === 'released' || (state === 'modified' && !undeliverable),
    });
    if (this.rhea) forget(this.rhea, delivery);
  }

  #settle(delivery: Delivery, state: Sent['state'], outcome: Omit<Outcome, 'sent'>): void {
    const message = this.inFlight.get(delivery);
    if (!message) return;
    this.inFlight.delete(delivery);
    message.delivery = undefined;
    const address = this.#options.address ?? message.entry.address ?? this.rhea?.target?.address;
    const tag = Buffer.from(delivery.tag as unknown as Buffer).toString('hex');
    this.#user.settled(message, { ...outcome, sent: { address, tag, state } });
  }
}
