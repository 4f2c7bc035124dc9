import { EventEmitter } from 'node:events';
import type { Delivery, EventContext, Sender as RheaSender, Session } from 'rhea';
import { type Backoff, pauseAfter } from './backoff';
import { type Connection, type ConnectionUser, peerErrorOf } from './connection';
import { AmqpError, type PeerError } from './errors';
import { forget, Link, type SessionInternals } from './link';
import { isSame, type State, worstOf } from './status';

/**
 * What happens to a message when the connection is lost before its outcome is known. `at-least-once`: it is sent again.
 * `at-most-once`: it fails. `pre-settled`: no outcome is asked for; it counts as sent once written.
 */
export type Guarantee = 'at-least-once' | 'at-most-once' | 'pre-settled';

export interface SenderOptions {
  /** Link name; the same after each restart. */
  name: string;
  /** Where all messages go. Without, each entry has its own address. */
  address?: string;
  /** The peer makes the address. */
  dynamic?: boolean;
  /** Further fields of the target (3.5.4). */
  target?: { durable?: number; expiry_policy?: string };
  guarantee: Guarantee;
  /** Most messages held: waiting, on their way, and to be tried again. */
  buffer: number;
  /** What to do with a new message when the buffer is full. `drop`: the oldest one that is still waiting fails. */
  full: 'refuse' | 'drop';
  /** How often a message that the peer released or modified is sent again. */
  retries: number;
}

/** What became of a message: `msg.sent`. */
export type Sent = {
  address?: string;
  /** Delivery tag in hexadecimal. */
  tag?: string;
  state: 'accepted' | 'rejected' | 'released' | 'modified' | 'settled' | 'failed';
  error?: { code: string; condition?: string; description?: string };
};

/** A message on its way. `done` is called once, with an error unless it was accepted (or, pre-settled, written). */
export interface Entry {
  bytes: Buffer;
  /** For senders without an address of their own. */
  address?: string;
  done: (error: AmqpError | undefined, sent: Sent) => void;
}

interface Pending extends Entry {
  attempts: number;
  /** Connections that were lost with this as the oldest message in doubt. */
  losses: number;
  timer?: NodeJS.Timeout;
}

/** A message is given up when so many connections in a row were lost over it: some brokers fall over a message. */
const MAX_LOSSES = 10;
/** Links to single addresses that are kept where the peer has no anonymous relay. */
const MAX_LINKS = 64;
const RETRY: Backoff = { initial: 200, max: 10_000 };
/** How often the number of waiting messages is told, in milliseconds. */
const COUNT_INTERVAL = 1000;

/**
 * A bounded buffer in front of one link or, for messages that name their address themselves, of an anonymous link or
 * as many links as there are addresses. Order is kept per address. Emits 'state' after each change.
 */
export class Sender extends EventEmitter<{ state: [State] }> implements ConnectionUser {
  readonly sessions = 0;
  readonly #connection: Connection;
  readonly #options: SenderOptions;
  #waiting: Pending[] = [];
  /** Looked at by the present `#pump`, and still waiting. */
  #blocked: Pending[] = [];
  #retrying = new Set<Pending>();
  /** By address; the only one of a sender with an address, and an anonymous one, are under the empty string. */
  #links = new Map<string, SenderLink>();
  #connectionState: State = { name: 'idle' };
  /** Of connection and links together; undefined after a change of one of them. */
  #linkState: State | undefined;
  #isHeld = false;
  #isPumping = false;
  #isClosing = false;
  #drained: (() => void) | undefined;
  #counting: NodeJS.Timeout | undefined;
  #told: State = { name: 'detached' };

  constructor(connection: Connection, options: SenderOptions) {
    super();
    this.#connection = connection;
    this.#options = options;
  }

  /** Messages held: waiting, on their way, and to be tried again. */
  get size(): number {
    let size = this.#waiting.length + this.#blocked.length + this.#retrying.size;
    for (const link of this.#links.values()) size += link.inFlight.size;
    return size;
  }

  /** Messages that are not on their way yet, or not any more. */
  get waiting(): Set<Entry> {
    return new Set<Entry>([...this.#waiting, ...this.#retrying]);
  }

  get state(): State {
    // Kept, since this is asked for each message.
    const state = (this.#linkState ??= worstOf(
      this.#connectionState,
      ...[...this.#links.values()].map((link) => link.state),
    ));
    if (state.name !== 'connected' || this.#waiting.length === 0) return state;
    return this.#waiting.length === 1 ? { name: 'waiting' } : { name: 'buffering', count: this.#waiting.length };
  }

  open(): void {
    this.#connection.add(this);
    if (this.#hasAddress) this.#link('');
  }

  /** Takes a message. Whatever happens to it is told by its `done`; this never throws. */
  send(entry: Entry): void {
    const pending: Pending = Object.assign(entry, { attempts: 0, losses: 0 });
    const { buffer, full } = this.#options;
    if (this.#isClosing) return fail(pending, new AmqpError('AMQP_SHUTDOWN', 'the node is closing'));
    if (!this.#hasAddress && !entry.address) {
      return fail(
        pending,
        new AmqpError('AMQP_NO_ADDRESS', 'the message has no address: set it in the node, msg.amqp.to or msg.topic'),
      );
    }
    if (this.size >= buffer) {
      const error = new AmqpError('AMQP_BUFFER_FULL', `the buffer is full: ${buffer} messages wait to be sent`);
      const oldest = full === 'drop' ? this.#waiting.shift() : undefined;
      if (!oldest) return fail(pending, error);
      fail(oldest, error);
    }
    this.#waiting.push(pending);
    // Needed when the endpoint does not connect by itself.
    this.#connection.open();
    if (this.#waiting.length === 1 || !this.#isOneLink) this.#pump();
    else this.#tell();
  }

  /** Forgets a message that is not wanted any more: its `done` is not called. */
  cancel(entry: Entry): void {
    const pending = entry as Pending;
    this.#waiting = this.#waiting.filter((other) => other !== pending);
    clearTimeout(pending.timer);
    this.#retrying.delete(pending);
    for (const link of this.#links.values()) link.forget(pending);
    pending.done = () => {};
  }

  /** Sends nothing until `resume`. */
  hold(): void {
    this.#isHeld = true;
  }

  resume(): void {
    this.#isHeld = false;
    this.#pump();
  }

  /** Gives what is held `timeout` milliseconds to be sent, fails the rest, and detaches. */
  async close(timeout: number): Promise<void> {
    this.#isClosing = true;
    if (this.size > 0) {
      const timer = new Promise<void>((resolve) => {
        const handle = setTimeout(resolve, timeout);
        this.#drained = () => {
          clearTimeout(handle);
          resolve();
        };
      });
      await timer;
    }
    const error = new AmqpError('AMQP_SHUTDOWN', 'not sent before the node was closed');
    for (const pending of this.#retrying) clearTimeout(pending.timer);
    const unsent = [...this.#retrying, ...this.#waiting];
    this.#retrying.clear();
    this.#waiting = [];
    for (const pending of unsent) fail(pending, error);
    const links = [...this.#links.values()];
    for (const link of links) {
      const inDoubt = [...link.inFlight.values()];
      link.inFlight.clear();
      for (const pending of inDoubt)
        fail(pending, new AmqpError('AMQP_SHUTDOWN', 'no outcome before the node was closed'));
    }
    clearTimeout(this.#counting);
    await Promise.all(links.map((link) => link.close()));
    await this.#connection.remove(this);
  }

  /** For the connection. */
  connected(): void {
    this.#connectionState = { name: 'connected' };
    this.#linkState = undefined;
    if (!this.#hasAddress) this.#chooseLinks();
    this.#tell();
    this.#pump();
  }

  /** For the connection. */
  disconnected(state: State): void {
    this.#connectionState = state;
    this.#linkState = undefined;
    this.#tell();
  }

  /** An anonymous link where the peer relays, else links as messages need them. */
  #chooseLinks(): void {
    const isRelayed = this.#isRelayed;
    for (const [address, link] of this.#links) {
      if ((address === '') !== isRelayed) this.#drop(address, link);
    }
    if (isRelayed) this.#link('');
  }

  get #isRelayed(): boolean {
    return this.#connection.offers('ANONYMOUS-RELAY');
  }

  get #isOneLink(): boolean {
    return this.#hasAddress || this.#isRelayed;
  }

  get #hasAddress(): boolean {
    return this.#options.address !== undefined || this.#options.dynamic === true;
  }

  #link(address: string): SenderLink {
    const existing = this.#links.get(address);
    if (existing) return existing;
    const { name } = this.#options;
    const link = new SenderLink(
      this.#connection,
      address ? `${name}:${address}` : name,
      { ...this.#options, address: address || this.#options.address },
      {
        ready: () => this.#pump(),
        settled: (pending, outcome) => this.#settled(pending, outcome),
        lost: (pending, error) => this.#lost(pending, error),
      },
    );
    this.#links.set(address, link);
    this.#linkState = undefined;
    link.on('state', (state) => {
      this.#linkState = undefined;
      // With a link for each address nothing but this tells that one of them is no good.
      if (address && state.name === 'refused' && state.error.code === 'AMQP_LINK_REFUSED')
        this.#refused(address, link, state.error);
      this.#tell();
    });
    link.open();
    return link;
  }

  /** The link to the address of an entry, or undefined when there are too many links already, all in use. */
  #linkFor(pending: Pending): SenderLink | undefined {
    const address = pending.address!;
    const link = this.#links.get(address);
    if (link) {
      // Least recently used first.
      this.#links.delete(address);
      this.#links.set(address, link);
      return link;
    }
    if (this.#links.size >= MAX_LINKS) {
      const idle = [...this.#links].find(([other, { inFlight }]) => inFlight.size === 0 && !this.#isNeeded(other));
      if (!idle) return undefined;
      this.#drop(...idle);
    }
    return this.#link(address);
  }

  #isNeeded(address: string): boolean {
    const isFor = (pending: Pending): boolean => pending.address === address;
    return this.#waiting.some(isFor) || this.#blocked.some(isFor);
  }

  #drop(address: string, link: SenderLink): void {
    this.#links.delete(address);
    this.#linkState = undefined;
    link.removeAllListeners();
    void link.close();
  }

  #refused(address: string, link: SenderLink, error: AmqpError): void {
    this.#drop(address, link);
    const refused = this.#waiting.filter((pending) => pending.address === address);
    this.#waiting = this.#waiting.filter((pending) => pending.address !== address);
    for (const pending of refused) fail(pending, error);
    this.#idle();
  }

  /** Hands over what can be sent, in order; a message whose link has no credit holds up only those for the same link. */
  #pump(): void {
    // What is told from in here may send again.
    if (this.#isPumping || this.#isHeld || this.#connectionState.name !== 'connected') return;
    this.#isPumping = true;
    if (this.#isOneLink) {
      const link = this.#link('');
      while (this.#waiting.length > 0 && link.isReady) link.send(this.#waiting.shift()!);
    } else {
      for (let pending; (pending = this.#waiting.shift());) {
        const link = this.#linkFor(pending);
        if (link?.isReady) link.send(pending);
        else this.#blocked.push(pending);
      }
      this.#waiting = this.#blocked;
      this.#blocked = [];
    }
    this.#isPumping = false;
    this.#tell();
  }

  #settled(pending: Pending, { sent, peer, mayRetry }: Outcome): void {
    if (sent.state === 'accepted' || sent.state === 'settled') {
      pending.done(undefined, sent);
    } else if (mayRetry && pending.attempts < this.#options.retries) {
      this.#retrying.add(pending);
      const pause = pauseAfter(pending.attempts++, RETRY);
      pending.timer = setTimeout(() => {
        this.#retrying.delete(pending);
        this.#waiting.unshift(pending);
        this.#pump();
      }, pause);
    } else {
      fail(pending, new AmqpError(...FAILURE[sent.state], peer), sent);
    }
    this.#idle();
  }

  #lost(inDoubt: Pending[], error: AmqpError): void {
    const isResent = this.#options.guarantee === 'at-least-once';
    const [oldest] = inDoubt;
    if (isResent && oldest) oldest.losses++;
    const given = isResent ? inDoubt.filter(({ losses }) => losses >= MAX_LOSSES) : inDoubt;
    if (isResent) this.#waiting = inDoubt.filter(({ losses }) => losses < MAX_LOSSES).concat(this.#waiting);
    for (const pending of given) {
      const text = `it is not known whether the message was delivered: ${error.message}`;
      fail(pending, new AmqpError('AMQP_IN_DOUBT', text, null, error));
    }
    if (given.length > 0) this.#idle();
  }

  #idle(): void {
    if (this.#isClosing && this.size === 0) this.#drained?.();
    // A link in use may have been in the way of a message to one address more.
    if (!this.#isOneLink && this.#waiting.length > 0) this.#pump();
    else this.#tell();
  }

  /** Emits the state when it is another one. That messages wait is told only when it lasts, and the number now and then. */
  #tell(): void {
    const { state } = this;
    if (isWaiting(state)) {
      this.#counting ??= setTimeout(() => {
        this.#counting = undefined;
        if (isWaiting(this.state)) this.#emit(this.state);
        this.#tell();
      }, COUNT_INTERVAL);
      return;
    }
    clearTimeout(this.#counting);
    this.#counting = undefined;
    if (state !== this.#told && !isSame(state, this.#told)) this.#emit(state);
  }

  #emit(state: State): void {
    this.#told = state;
    this.emit('state', state);
  }
}

function isWaiting({ name }: State): boolean {
  return name === 'waiting' || name === 'buffering';
}

interface Outcome {
  sent: Sent;
  peer?: PeerError;
  mayRetry?: boolean;
}

const FAILURE: Record<Exclude<Sent['state'], 'accepted' | 'settled'>, [AmqpError['code'], string]> = {
  rejected: ['AMQP_REJECTED', 'the peer rejected the message'],
  released: ['AMQP_RELEASED', 'the peer released the message: nobody takes it'],
  modified: ['AMQP_MODIFIED', 'the peer could not deliver the message'],
  failed: ['AMQP_IN_DOUBT', 'the peer settled the message without an outcome'],
};

function fail(pending: Pending, error: AmqpError, sent: Sent = { address: pending.address, state: 'failed' }): void {
  const { code, condition, description } = error;
  pending.done(error, {
    ...sent,
    error: { code, ...(condition && { condition }), ...(description && { description }) },
  });
}

/** What the link tells its sender. */
interface SenderLinkUser {
  /** It may be able to send again. */
  ready(): void;
  settled(pending: Pending, outcome: Outcome): void;
  /** The link is gone, and with it the outcomes of these, in the order in which they were sent. */
  lost(inDoubt: Pending[], error: AmqpError): void;
}

class SenderLink extends Link<RheaSender> {
  /** Sent and not settled, by rhea's delivery: ids begin anew with each session (R2). */
  readonly inFlight = new Map<Delivery, Pending>();
  readonly #options: SenderOptions;
  readonly #user: SenderLinkUser;
  #written: Delivery[] = [];

  constructor(connection: Connection, name: string, options: SenderOptions, user: SenderLinkUser) {
    super(connection, name);
    this.#options = options;
    this.#user = user;
  }

  /** R2: `sendable()` is true on links that are gone, and does not count what waits for rhea's next turn. */
  get isReady(): boolean {
    if (!this.rhea) return false;
    const { credit, session } = this.rhea as RheaSender & { credit: number };
    const { outgoing } = session as unknown as SessionInternals;
    return credit > outgoing.next_delivery_id - outgoing.next_pending_delivery;
  }

  send(pending: Pending): void {
    const { rhea } = this;
    if (!rhea) throw new AmqpError('AMQP_DISCONNECTED', 'not attached');
    // rhea gives a Buffer for limits beyond 2^53; 0 and null stand for none.
    const limit: unknown = rhea.max_message_size;
    if (typeof limit === 'number' && limit > 0 && pending.bytes.length > limit) {
      const text = `the message has ${pending.bytes.length} bytes, the peer takes no more than ${limit}`;
      return fail(pending, new AmqpError('AMQP_TOO_LARGE', text));
    }
    const delivery = rhea.send(pending.bytes, undefined, 0);
    this.inFlight.set(delivery, pending);
    if (this.#options.guarantee !== 'pre-settled') return;
    if (this.#written.push(delivery) === 1) setImmediate(() => this.#flush());
  }

  /** Lets go of a message that is on its way: its outcome will tell nobody. */
  forget(pending: Pending): void {
    for (const [delivery, other] of this.inFlight) if (other === pending) this.inFlight.delete(delivery);
  }

  protected override attach(session: Session): RheaSender {
    const { address, dynamic, target, guarantee } = this.#options;
    const link = session.attach_sender({
      name: this.name,
      target: dynamic ? { ...target, dynamic: true } : { ...target, address },
      snd_settle_mode: guarantee === 'pre-settled' ? 1 : 0,
      rcv_settle_mode: 0,
      // R4: else each `modified` comes as `released` first.
      treat_modified_as_released: false,
    });
    this.listen(link, 'sendable', () => this.#user.ready());
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

  protected override attached(link: RheaSender): void {
    if (this.#options.dynamic) this.change({ name: 'connected', address: link.target.address });
    this.#user.ready();
  }

  protected override lost(error: AmqpError): void {
    const inDoubt = [...this.inFlight.values()];
    this.inFlight.clear();
    this.#written = [];
    this.#user.lost(inDoubt, error);
  }

  /** What was pre-settled has been written in rhea's turn since. */
  #flush(): void {
    const written = this.#written;
    this.#written = [];
    for (const delivery of written) this.#settle(delivery, 'settled', {});
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
    const pending = this.inFlight.get(delivery);
    if (!pending) return;
    this.inFlight.delete(delivery);
    const address = this.#options.address ?? pending.address ?? this.rhea?.target?.address;
    const tag = Buffer.from(delivery.tag as unknown as Buffer).toString('hex');
    this.#user.settled(pending, { ...outcome, sent: { address, tag, state } });
  }
}
