import { EventEmitter } from 'node:events';
import { type Backoff, pauseAfter } from './backoff';
import type { Connection, ConnectionUser } from './connection';
import { AmqpError } from './errors';
import { type Entry, fail, type Outcome, SenderLink, type SenderLinkOptions, type Sent } from './sender-link';
import { isSame, type State, worstOf } from './status';

export type { Entry, Guarantee, Sent } from './sender-link';

/** Without an address, and not dynamic: each entry has its own. */
export interface SenderOptions extends SenderLinkOptions {
  /** Link name; the same after each restart. */
  name: string;
  /** Most messages held: waiting, on their way, and to be tried again. */
  buffer: number;
  /** What to do with a new message when the buffer is full. `drop`: the oldest one that is still waiting fails. */
  full: 'refuse' | 'drop';
  /** How often a message that the peer released or modified is sent again. */
  retries: number;
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
  #links = new Map<string, SenderLink<Pending>>();
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

  #link(address: string): SenderLink<Pending> {
    const existing = this.#links.get(address);
    if (existing) return existing;
    const { name } = this.#options;
    const link = new SenderLink<Pending>(
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
  #linkFor(pending: Pending): SenderLink<Pending> | undefined {
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

  #drop(address: string, link: SenderLink<Pending>): void {
    this.#links.delete(address);
    this.#linkState = undefined;
    link.removeAllListeners();
    void link.close();
  }

  #refused(address: string, link: SenderLink<Pending>, error: AmqpError): void {
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
    try {
      this.#handOver();
    } finally {
      this.#isPumping = false;
    }
    // A message may have failed at once.
    if (this.#isClosing && this.size === 0) this.#drained?.();
    this.#tell();
  }

  #handOver(): void {
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

const FAILURE: Record<Exclude<Sent['state'], 'accepted' | 'settled'>, [AmqpError['code'], string]> = {
  rejected: ['AMQP_REJECTED', 'the peer rejected the message'],
  released: ['AMQP_RELEASED', 'the peer released the message: nobody takes it'],
  modified: ['AMQP_MODIFIED', 'the peer could not deliver the message'],
  failed: ['AMQP_IN_DOUBT', 'the peer settled the message without an outcome'],
};
