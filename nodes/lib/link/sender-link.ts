import type { LinkConnection } from '../connection/connection';
import { type AmqpError, amqpError, type PeerError } from '../errors';
import type { State } from '../state';
import type { SendingEnd } from '../wire/link-end';
import { isBusy, readOutcome, type RemoteOutcome } from '../wire/outcome';
import { type LinkProperties, propertiesOf } from '../wire/properties';
import type { Session } from '../wire/session';
import type { Wire } from '../wire/wire';
import type { Entry, Sent } from './entry';
import { type DetachOptions, Link } from './link';
import type { SharedSession } from './shared-session';

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
  target?: { durable?: number; expiry_policy?: string; timeout?: number; capabilities?: string[] };
  properties?: LinkProperties;
  /** Of this link and others. */
  session?: SharedSession;
  /** A client has attached it, to an address of ours. */
  isAccepted?: boolean;
  guarantee: Guarantee;
}

const OUTCOMES = ['accepted', 'rejected', 'released', 'modified'].map((name) => `amqp:${name}:list`);

/** Milliseconds after which to look again whether the session's window has let a message through. */
const WINDOW_PAUSE = 20;

/** How it went with one message. */
export interface Outcome {
  sent: Sent & { state: RemoteOutcome['state'] | 'settled' | 'failed' };
  peer?: PeerError;
  mayRetry?: boolean;
}

/** What the link tells its sender. */
export interface SenderLinkUser {
  /** It may be able to send again. `isNew`: the peer wants messages again after a time in which it wanted none. */
  ready(isNew?: boolean): void;
  settled(entry: Entry, outcome: Outcome): void;
  /** It cannot be sent by this link. */
  failed(entry: Entry, error: AmqpError): void;
  /** The link is gone, and with it the outcomes of these, in the order in which they were sent. */
  lost(inDoubt: Entry[], error: AmqpError): void;
}

/** The link of a sender: hands messages over while it has credit, and tells how it went with each. */
export class SenderLink extends Link<SendingEnd> {
  /** Messages that were sent and are not settled. */
  inFlight = 0;
  readonly #options: SenderLinkOptions;
  readonly #user: SenderLinkUser;
  #wire: Wire | undefined;
  /** Pre-settled and written, to be told of in the next turn. */
  #written: Entry[] = [];
  /** The peer has taken its credit back. */
  #isDrained = false;

  constructor(connection: LinkConnection, name: string, options: SenderLinkOptions, user: SenderLinkUser) {
    super(connection, name);
    this.#options = options;
    this.#user = user;
  }

  get isReady(): boolean {
    return this.end?.isReady === true && this.#wire!.output.unread < this.#wire!.maxUnread;
  }

  /** Messages that the peer takes now. */
  get credit(): number {
    return this.end?.credit ?? 0;
  }

  /** The most bytes of a message that the peer takes; undefined: that is not known yet. */
  get maxMessageSize(): number | undefined {
    return this.end?.maxMessageSize;
  }

  /** To be called while the link is ready. */
  send(entry: Entry): void {
    const { end } = this;
    if (!end) throw amqpError('AMQP_DISCONNECTED.detached');
    const { bytes } = entry;
    const { maxMessageSize } = end;
    if (bytes.length > maxMessageSize) {
      const values = { size: bytes.length, most: maxMessageSize };
      return this.#user.failed(entry, amqpError('AMQP_TOO_LARGE.message', values));
    }
    this.inFlight++;
    end.send(entry, bytes, this.#options.guarantee === 'pre-settled');
  }

  /** Lets go of a message that is on its way: its outcome will tell nobody. */
  forget(entry: Entry): void {
    if (!entry.end) return;
    entry.end.forget(entry);
    entry.end = undefined;
    this.inFlight--;
  }

  override detach(options?: DetachOptions): Promise<void> {
    return super.detach(options);
  }

  protected override get sharedSession(): SharedSession | undefined {
    return this.#options.session;
  }

  protected override get ownAddress(): string | undefined {
    return this.#options.address;
  }

  protected override attach(session: Session, wire: Wire): SendingEnd {
    const { address, dynamic, target, properties, guarantee } = this.#options;
    const end = session.attachSender(this.name, {
      // Qpid Broker-J detaches where it could reject, unless told that we take that.
      source: { outcomes: OUTCOMES },
      target: dynamic ? { ...target, dynamic: true } : { ...target, address: this.redirectedTo ?? address },
      snd_settle_mode: guarantee === 'pre-settled' ? 1 : 0,
      rcv_settle_mode: 0,
      ...(properties && { properties: propertiesOf(properties) }),
    });
    this.#wire = wire;
    this.#isDrained = false;
    end.user = {
      ready: () => {
        const isNew = this.#isDrained;
        this.#isDrained = false;
        this.#user.ready(isNew);
      },
      // What it has released, in the frames behind this one, is to wait, with all behind it, before anything else is sent.
      draining: () => this.later(() => this.#drain(end)),
      written: (delivery) => {
        if (this.#written.push(delivery as Entry) === 1) this.later(() => this.#settleWritten());
      },
      settled: (delivery, { descriptor, bytes }) => {
        const { state, error, isUndeliverable } = (bytes && readOutcome(descriptor, bytes)) ?? NO_OUTCOME;
        const mayRetry =
          state === 'released' || (state === 'modified' && !isUndeliverable) || (error !== undefined && isBusy(error));
        this.#settle(delivery as Entry, state, mayRetry, error);
      },
    };
    return end;
  }

  protected override addressOf(end: SendingEnd): string | undefined {
    return end.targetAddress;
  }

  protected override get needsAddress(): 'always' | 'usually' | 'never' {
    if (this.#options.isAccepted) return 'never';
    if (this.#options.dynamic) return 'always';
    return this.#options.address ? 'usually' : 'never';
  }

  protected override attachedState(end: SendingEnd): State {
    return { name: 'connected', ...(this.#options.dynamic && { address: end.targetAddress }) };
  }

  protected override attached(): void {
    this.#user.ready();
  }

  protected override unblocked(): void {
    this.#user.ready();
  }

  protected override lost(error: AmqpError, end: SendingEnd): void {
    // What is pre-settled and written may still be in the socket.
    const inDoubt = [...this.#written, ...(end.forgetAll() as Entry[])];
    for (const entry of inDoubt) entry.end = undefined;
    this.inFlight = 0;
    this.#written = [];
    this.#user.lost(inDoubt, error);
  }

  /**
   * The peer wants its credit back (2.6.7): what waits is sent up to it, the rest is used up. Unanswered, a router goes
   * on releasing what it is sent, and gives no credit again.
   */
  #drain(end: SendingEnd): void {
    this.#user.ready();
    if (this.end !== end || !end.drain) return;
    // The session's window keeps some of it.
    if (!end.isWritten) return this.later(() => this.#drain(end), WINDOW_PAUSE);
    end.drained();
    this.#isDrained = true;
  }

  /** Tells of what was pre-settled and has been written since. */
  #settleWritten(): void {
    const written = this.#written;
    this.#written = [];
    for (const entry of written) if (entry.end) this.#settle(entry, 'settled', false);
  }

  #settle(entry: Entry, state: Outcome['sent']['state'], mayRetry: boolean, peer?: PeerError): void {
    if (!entry.end) return;
    entry.end = undefined;
    this.inFlight--;
    const address = this.#options.address ?? entry.address ?? this.end?.targetAddress;
    this.#user.settled(entry, { sent: { address, tag: tagOf(entry.id), state }, peer, mayRetry });
  }
}

/** Settled with a state that says nothing of a message. */
const NO_OUTCOME: { state: 'failed'; error?: PeerError; isUndeliverable?: boolean } = { state: 'failed' };

/** The delivery tag, in hexadecimal. */
function tagOf(id: number): string {
  return id.toString(16).padStart(8, '0');
}
