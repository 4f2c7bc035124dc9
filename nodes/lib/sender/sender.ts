import { EventEmitter } from 'node:events';
import { type Bounds, isFull } from '../bounds';
import type { LinkConnection } from '../connection/connection';
import { type AmqpError, amqpError, type PeerError } from '../errors';
import type { ErrorKey } from '../error-texts';
import { Pause } from '../pause';
import type { Counters } from '../counters';
import { Expiring } from '../expiring';
import type { Entry, Sent } from '../link/entry';
import type { Outcome } from '../link/sender-link';
import { Routes, type RoutesOptions, type RoutesUser, type Routing } from './routes';
import { isSame, type State } from '../state';
import { type Durability, Store, type Stored } from './store';

export interface SenderOptions extends RoutesOptions, Bounds {
  /** What to do with a new message when the buffer is full. `drop`: the oldest ones that are still waiting fail. */
  full: 'refuse' | 'drop';
  /** Milliseconds after which a message that has no outcome fails. 0: never. */
  timeout: number;
  /** Keeps the messages on disk too. */
  store?: {
    directory: string;
    durability: Durability;
    /** Who is to be told of a message that was on disk at the start. Throws when it is no message. */
    restored(stored: Stored): Entry;
    /** Messages on disk are damaged, or cannot be sent. */
    damaged(error: AmqpError): void;
  };
}

/** What is needed of a connection beside its links. */
type Opener = Pick<LinkConnection, 'guarded' | 'open'>;

/** A message is given up when so many connections in a row were lost over it: some brokers fall over a message. */
const MAX_LOSSES = 10;
/** States in which the number of messages that wait changes all the time. */
const WAITING = new Set<State['name']>(['waiting', 'buffering', 'retrying']);
/** How often the number of waiting messages is told, in milliseconds. */
const COUNT_INTERVAL = 1000;

/** A bounded buffer in front of the links to the peer. Order is kept per address. Emits 'state' after each change. */
export class Sender extends EventEmitter<{ state: [State] }> {
  readonly #connection: Opener;
  readonly #options: SenderOptions;
  readonly #routes: Routing;
  /** All messages that have not ended. */
  readonly #held: Expiring<Entry>;
  /** The numbers that are given out: those of earlier messages are put in front. */
  #firstNumber = 0;
  #lastNumber = 0;
  #bytes = 0;
  #sequence = 0;
  /** On their way to the disk. */
  #storing = 0;
  readonly #store: Store | undefined;
  #isClosing = false;
  readonly #drained = new Pause();
  #counting: NodeJS.Timeout | undefined;
  #told: State = { name: 'detached' };
  readonly #counts = { sent: 0, accepted: 0, rejected: 0, released: 0, modified: 0, retried: 0, failed: 0 };

  /** `routing`: what takes the place of links that we attach. */
  constructor(connection: LinkConnection, options: SenderOptions);
  constructor(connection: Opener, options: SenderOptions, routing: (user: RoutesUser) => Routing);
  constructor(
    connection: Opener,
    options: SenderOptions,
    routing = (user: RoutesUser): Routing => new Routes(connection as LinkConnection, options, user),
  ) {
    super();
    this.#connection = connection;
    this.#options = options;
    this.#held = new Expiring(
      options.timeout,
      connection.guarded((entry: Entry) => this.#expired(entry)),
    );
    this.#routes = routing({
      settled: (entry, outcome) => this.#settled(entry, outcome),
      failed: (entry, error) => this.#fail(entry, error),
      lost: (inDoubt, error) => this.#lost(inDoubt, error),
      changed: () => this.#tell(),
    });
    const { store } = options;
    if (!store) return;
    const kept = new Store(store.directory, store.durability, {
      restored: connection.guarded((messages: Stored[], last: number) => this.#restore(messages, last, store)),
      missing: connection.guarded((sequences: number[]) => this.#putAgain(new Set(sequences), kept)),
      damaged: connection.guarded((error: AmqpError) => store.damaged(error)),
      changed: connection.guarded(() => this.#tell()),
    });
    this.#store = kept;
  }

  /** Messages held: waiting, on their way, and to be tried again. */
  get size(): number {
    return this.#held.size;
  }

  /** Where all messages go. */
  get address(): string | undefined {
    return this.#options.address;
  }

  get counters(): Counters {
    const { sent, inFlight: inflight, credit } = this.#routes;
    return { ...this.#counts, sent: this.#counts.sent + sent, buffered: this.size, inflight, credit };
  }

  /** Counts a message that has ended and was sent over another link: with a transaction, over that of its session. */
  count(error: Error | undefined, { state }: Sent): void {
    if (state !== 'failed') this.#counts.sent++;
    if (isOutcome(state)) this.#counts[state]++;
    if (error) this.#counts.failed++;
  }

  /** The most bytes of a message that the peer takes; undefined: that is not known yet. */
  get maxMessageSize(): number | undefined {
    return this.#routes.maxMessageSize;
  }

  /** Whether a message is held that is not on its way yet, or not any more. */
  isWaiting(entry: Entry): boolean {
    return this.#holds(entry) && !entry.end;
  }

  /** Why a message is still held, as far as that is known. Undefined: nothing is wrong. */
  whyHeld(entry: Entry): AmqpError | undefined {
    return this.#holds(entry) ? this.#whyHeld(entry) : undefined;
  }

  #whyHeld(entry: Entry): AmqpError | undefined {
    const state = this.#routes.stateFor(entry);
    if ('error' in state) return state.error;
    return entry.refusedAt === undefined ? undefined : amqpError(FAILURE.released);
  }

  #holds(entry: Entry): boolean {
    return this.#held.get(entry.number) === entry;
  }

  get state(): State {
    const fault = this.#store?.fault;
    if (fault) return { name: 'fault', error: fault };
    const { state, waiting: count, isRefused } = this.#routes;
    if (count === 0 && !isRefused) return state;
    if ('error' in state) return { ...state, count, percent: this.#percent };
    if (state.name !== 'connected' && state.name !== 'listening') return state;
    if (isRefused) return { name: 'retrying', count, percent: this.#percent };
    return count === 1 ? { name: 'waiting' } : { name: 'buffering', count, percent: this.#percent };
  }

  open(): void {
    this.#routes.open();
    // The state tells of a failure.
    this.#store?.open().catch(() => {});
  }

  /**
   * Takes a message. Whatever happens to it is told by its `done`, and by `stored` once it is on
   * disk. This never throws.
   */
  send(entry: Entry): void {
    const objection = this.#objectionTo(entry);
    if (objection) {
      this.#counts.failed++;
      return entry.fail(objection);
    }
    entry.sequence = ++this.#sequence;
    entry.taken = Date.now();
    entry.number = ++this.#lastNumber;
    this.#held.set(entry.number, entry);
    this.#bytes += entry.bytes.length;
    // Needed when the endpoint does not connect by itself.
    this.#connection.open();
    if (this.#store) void this.#keep(entry, this.#store);
    else this.#enqueue(entry);
  }

  /** Forgets a message that is not wanted any more: its `done` is not called. */
  cancel(entry: Entry): void {
    if (this.#holds(entry)) this.#end(entry);
  }

  /** Sends nothing until `resume`. */
  pause(): void {
    this.#routes.pause();
  }

  resume(): void {
    this.#routes.resume();
  }

  /** Detaches, with an error if one is given, until the next message is sent. What has no outcome yet is sent again then. */
  detach(error?: PeerError): Promise<void> {
    return this.#routes.detach(error);
  }

  /**
   * Gives what is held `timeout` milliseconds to be sent, fails the rest, and detaches. What is on disk stays there: of
   * that only outcomes are waited for.
   */
  async close(timeout: number): Promise<void> {
    this.#isClosing = true;
    if (!this.#isDrained) await this.#drained.wait(timeout);
    // What is given up now makes room for nothing else.
    this.#routes.pause();
    for (const entry of this.#held.clear()) {
      this.#routes.delete(entry);
      if (entry.isOnDisk) continue;
      this.#counts.failed++;
      entry.fail(amqpError(entry.end || entry.isInDoubt ? 'AMQP_SHUTDOWN.no-outcome' : 'AMQP_SHUTDOWN.not-sent'));
    }
    clearTimeout(this.#counting);
    await this.#routes.close();
    await this.#store?.close();
  }

  get #isDrained(): boolean {
    return this.#options.store ? this.#storing + this.#routes.inFlight === 0 : this.#held.size === 0;
  }

  get #percent(): number {
    const { buffer, bufferBytes } = this.#options;
    return Math.round(100 * Math.max(this.#held.size / buffer, this.#bytes / bufferBytes));
  }

  // The buffer

  #objectionTo(entry: Entry): AmqpError | undefined {
    if (this.#isClosing) return amqpError('AMQP_SHUTDOWN.closing');
    if (!this.#routes.hasAddress && !entry.address) {
      return amqpError('AMQP_NO_ADDRESS.message');
    }
    while (isFull(this.#options, this.size, this.#bytes, entry.bytes.length)) {
      const error = amqpError('AMQP_BUFFER_FULL.messages', { count: this.size });
      const oldest = this.#options.full === 'drop' ? this.#routes.first : undefined;
      if (!oldest) return error;
      this.#fail(oldest, error);
    }
    return undefined;
  }

  #enqueue(entry: Entry): void {
    this.#routes.push(entry);
    this.#tell();
  }

  /** Releases all that is held for a message; the caller calls `done`. */
  #end(entry: Entry): void {
    this.#routes.delete(entry);
    this.#release(entry);
  }

  /** As `#end`, for a message that waits nowhere. */
  #release(entry: Entry): void {
    this.#held.take(entry.number);
    this.#bytes -= entry.bytes.length;
    // One that stays there is sent again by the next start, as after a crash.
    if (entry.isOnDisk) this.#store?.delete(entry.sequence);
  }

  #fail(entry: Entry, error: AmqpError, sent?: Sent): void {
    this.#counts.failed++;
    this.#end(entry);
    entry.fail(doubted(entry, error), sent);
    this.#ended();
  }

  #ended(): void {
    if (this.#isClosing && this.#isDrained) this.#drained.end();
    this.#tell();
  }

  #expired(entry: Entry): void {
    const seconds = this.#options.timeout / 1000;
    const why = this.#whyHeld(entry);
    const key = entry.end || entry.isInDoubt ? 'AMQP_IN_DOUBT.time' : 'AMQP_TIMEOUT.message';
    this.#fail(entry, amqpError(key, { seconds, because: because(why) }, { peer: why, cause: why }));
  }

  // The store

  /** Takes up what an earlier process has left. It is older than all that has come since. */
  #restore(messages: Stored[], last: number, store: NonNullable<SenderOptions['store']>): void {
    const restored: [Entry, age: number][] = [];
    const left: AmqpError[] = [];
    this.#sequence = Math.max(this.#sequence, last);
    const now = Date.now();
    for (const { sequence, taken, ...stored } of messages) {
      try {
        const { address, isDirect = false } = this.#destinationOf(stored);
        const entry = store.restored({ sequence, taken, ...stored });
        // The process before this one may have sent it.
        Object.assign(entry, { address, isDirect, sequence, taken, isOnDisk: true, isInDoubt: true });
        restored.push([entry, Math.max(0, now - taken)]);
      } catch (error) {
        left.push(error as AmqpError);
      }
    }
    this.#firstNumber -= restored.length;
    restored.forEach(([entry], index) => (entry.number = this.#firstNumber + index + 1));
    this.#held.prepend(restored.map(([entry, age]) => [entry.number, entry, age]));
    for (const [entry] of restored) {
      this.#bytes += entry.bytes.length;
      this.#routes.push(entry);
    }
    if (!left[0]) return;
    const [cause] = left;
    const { directory } = store;
    const values = { count: left.length, directory, reason: cause.message };
    store.damaged(amqpError('AMQP_STORE.stay', values, { cause }));
  }

  /** Where a message goes that was taken when the sender may have been set to something else. */
  #destinationOf({ address, isOfSender }: Pick<Stored, 'address' | 'isOfSender'>): {
    address?: string;
    isDirect?: boolean;
  } {
    const { hasAddress } = this.#routes;
    if (!address && !hasAddress) throw amqpError('AMQP_NO_ADDRESS.stored');
    if (!address || (isOfSender && address === this.#options.address)) return { address: undefined };
    return { address, isDirect: hasAddress || isOfSender };
  }

  /** Sends a message once it is on disk. */
  async #keep(entry: Entry, store: Store): Promise<void> {
    this.#storing++;
    try {
      await store.open();
      // Behind those that were on disk already.
      entry.sequence = ++this.#sequence;
      await store.put(this.#storedOf(entry));
      // It may have failed meanwhile.
      if (!this.#holds(entry)) return store.delete(entry.sequence);
      entry.isOnDisk = true;
      entry.stored?.();
      this.#enqueue(entry);
    } catch (error) {
      if (this.#holds(entry)) this.#fail(entry, error as AmqpError);
    } finally {
      this.#storing--;
      this.#ended();
    }
  }

  #storedOf({ bytes, address, sequence, taken, format }: Entry): Stored {
    const to = address ?? this.#options.address;
    return { sequence, bytes, address: to, isOfSender: address === undefined, isBatch: format !== 0, taken };
  }

  /** Puts messages that the disk has lost. */
  #putAgain(sequences: Set<number>, store: Store): void {
    for (const entry of this.#held.values()) {
      // Its failure is told by the state.
      if (entry.isOnDisk && sequences.has(entry.sequence)) store.put(this.#storedOf(entry)).catch(() => {});
    }
  }

  // Outcomes

  #settled(entry: Entry, { sent, peer, mayRetry }: Outcome): void {
    // Those that were not asked for an outcome have none.
    if (isOutcome(sent.state)) this.#counts[sent.state]++;
    if (sent.state === 'accepted' || sent.state === 'settled') {
      this.#release(entry);
      entry.done(undefined, sent);
      this.#ended();
    } else if (mayRetry && this.#routes.retry(entry, sent.state !== 'modified')) {
      this.#counts.retried++;
      this.#tell();
    } else this.#fail(entry, amqpError(FAILURE[sent.state], {}, { peer }), sent);
  }

  #lost(inDoubt: Entry[], error: AmqpError): void {
    const isResent = this.#options.guarantee === 'at-least-once';
    const [oldest] = inDoubt;
    if (oldest) oldest.losses++;
    for (const entry of inDoubt) entry.isInDoubt = true;
    const isGivenUp = ({ losses }: Entry): boolean => !isResent || losses >= MAX_LOSSES;
    const again = inDoubt.filter((entry) => !isGivenUp(entry));
    this.#counts.retried += again.length;
    this.#routes.putBack(...again);
    for (const entry of inDoubt.filter(isGivenUp)) {
      this.#fail(entry, amqpError('AMQP_IN_DOUBT.lost', { text: error.message }, { cause: error }));
    }
  }

  // The state

  /** Emits changes at once; the number waiting at most once a second. */
  #tell(): void {
    const { state } = this;
    const isWaiting = WAITING.has(state.name);
    if (!isWaiting && !isSame(state, this.#told)) return this.#emit(state);
    if (!isWaiting && countOf(state) === countOf(this.#told)) return;
    this.#counting ??= this.#tellLater();
  }

  #tellLater(): NodeJS.Timeout {
    const tell = (): void => {
      this.#counting = undefined;
      const now = this.state;
      if (countOf(now) !== countOf(this.#told) || !isSame(now, this.#told)) this.#emit(now);
    };
    return setTimeout(this.#connection.guarded(tell), COUNT_INTERVAL);
  }

  #emit(state: State): void {
    clearTimeout(this.#counting);
    this.#counting = undefined;
    this.#told = state;
    this.emit('state', state);
  }
}

/** What follows "not sent within 3 s" and the like. The peer's own words, if there are any, are added by the error itself. */
export function because(why: AmqpError | undefined): string {
  return why && !why.condition ? `: ${why.message}` : '';
}

/** A failure after a lost outcome is in doubt: the first attempt may have arrived. */
function doubted({ isInDoubt }: Entry, error: AmqpError): AmqpError {
  if (!isInDoubt || error.code === 'AMQP_IN_DOUBT') return error;
  return amqpError('AMQP_IN_DOUBT.before', { text: error.message }, { cause: error });
}

function countOf(state: State): number | undefined {
  return 'count' in state ? state.count : undefined;
}

const OUTCOMES = ['accepted', 'rejected', 'released', 'modified'] as const;

function isOutcome(state: string): state is (typeof OUTCOMES)[number] {
  return (OUTCOMES as readonly string[]).includes(state);
}

const FAILURE: Record<Exclude<Outcome['sent']['state'], 'accepted' | 'settled'>, ErrorKey> = {
  rejected: 'AMQP_REJECTED.message',
  released: 'AMQP_RELEASED.message',
  modified: 'AMQP_MODIFIED.message',
  failed: 'AMQP_IN_DOUBT.settled',
};
