// A queue, a subscription or a dead-letter queue: its messages, their locks, and its sessions. No word of AMQP's links.
import { EventEmitter } from 'node:events';
import rhea from 'rhea';
import { type LockToken, newLockToken } from '../azure/locks';
import type { Message } from '../azure/messages';
import { lockLost, notAllowed } from '../azure/refusals';
import { notFound, sessionLost, sessionTaken } from './refusals';

const { types } = rhea;

export interface EntityOptions {
  requiresSession?: boolean;
  /** milliseconds that a message or a session stays locked (default 60 000) */
  lockDuration?: number;
  /** deliveries after which a message is dead-lettered (default 10) */
  maxDeliveryCount?: number;
  /** milliseconds, where the message says none or more (default: forever) */
  timeToLive?: number;
  /** dead-letter what expires, instead of dropping it (default false) */
  deadLetterOnExpiration?: boolean;
}

/** What becomes of a locked message. `changes` are of its application properties. */
export type Outcome =
  | { name: 'complete' | 'release' }
  | { name: 'abandon' | 'defer'; changes?: object }
  | { name: 'dead-letter'; reason?: string; description?: string; changes?: object };

/** Who holds a session's lock. */
export interface SessionHolder {
  onSessionLost(): void;
}

/** As `x-opt-message-state` tells them. */
const STATES = { active: 0, deferred: 1, scheduled: 2 };

interface Lock {
  token: LockToken;
  until: number;
  timer: NodeJS.Timeout | undefined;
}

/** A message of an entity. */
export interface Entry {
  sequenceNumber: number;
  message: Message;
  state: keyof typeof STATES;
  enqueuedAt: number;
  expiresAt: number;
  /** failed ones */
  deliveryCount: number;
  lock?: Lock;
}

interface Session {
  state: Buffer | null;
  lock?: { holder: SessionHolder; until: number; timer: NodeJS.Timeout };
}

/** Emits 'ready' when there may be something to be delivered. */
export class Entity extends EventEmitter {
  readonly path: string;
  /** The dead-letter queue; it has none itself. */
  readonly deadLetters: Entity | undefined;
  disabled = false;

  private entries: Entry[] = [];
  private readonly sessions = new Map<string, Session>();
  private readonly timers = new Set<NodeJS.Timeout>();
  private lastSequenceNumber = 0;

  constructor(
    path: string,
    readonly options: EntityOptions = {},
    { isDeadLetterQueue = false } = {},
  ) {
    super();
    this.path = path;
    if (isDeadLetterQueue) return;
    const { lockDuration } = options;
    this.deadLetters = new Entity(`${path}/$deadletterqueue`, { lockDuration }, { isDeadLetterQueue: true });
  }

  /** How many messages it has, of all states. */
  get depth(): number {
    return this.entries.length;
  }

  /** Ends all timers. */
  stop(): void {
    for (const timer of this.timers) clearTimeout(timer);
    this.deadLetters?.stop();
  }

  // Messages come, and are looked at

  /** Resolves with the sequence number. */
  add(message: Message): number {
    const dueAt = message.scheduledFor ?? 0;
    const entry = this.insert(message);
    if (dueAt > Date.now()) {
      entry.state = 'scheduled';
      this.after(dueAt - Date.now(), () => this.enqueueScheduled(entry));
    } else {
      this.enqueue(entry);
    }
    return entry.sequenceNumber;
  }

  cancelScheduled(sequenceNumbers: number[]): void {
    const all = sequenceNumbers.map((number) => this.find(number, 'scheduled'));
    for (const entry of all) this.remove(entry);
  }

  /** Makes all that is scheduled due now. */
  enqueueAllScheduled(): void {
    for (const entry of this.entries.filter(({ state }) => state === 'scheduled')) this.enqueueScheduled(entry);
  }

  /** The next ones from a sequence number on, whatever their state, locked or not. */
  peek(from = 0, count = Infinity, sessionId?: string): Entry[] {
    return this.entries
      .filter(({ sequenceNumber, message }) => {
        return sequenceNumber >= from && (sessionId === undefined || message.sessionId === sessionId);
      })
      .slice(0, count);
  }

  /** The message as a client gets it. */
  encode({ message, sequenceNumber, enqueuedAt, deliveryCount, state, lock }: Entry): Buffer {
    message.deliveryCount = deliveryCount;
    message.annotate({
      'x-opt-sequence-number': types.wrap_long(sequenceNumber),
      'x-opt-enqueued-time': types.wrap_timestamp(enqueuedAt),
      'x-opt-message-state': types.wrap_int(STATES[state]),
      ...(lock && { 'x-opt-locked-until': types.wrap_timestamp(this.lockedUntil(message, lock)) }),
    });
    return message.encode();
  }

  // Messages go

  /** The next message to be delivered; those of sessions only to their holders. */
  next(sessionId?: string): Entry | undefined {
    if (this.disabled) return undefined;
    return this.entries.find((entry) => isFree(entry) && this.isIn(entry, sessionId));
  }

  /** Locks a message for a consumer, which settles it by the token. */
  lock(entry: Entry): LockToken {
    const { lockDuration = 60_000, requiresSession } = this.options;
    const until = Date.now() + lockDuration;
    // in a session it is the session's lock that expires
    const timer = requiresSession ? undefined : this.after(lockDuration, () => this.unlock(entry, { failed: true }));
    entry.lock = { token: newLockToken(), until, timer };
    return entry.lock.token;
  }

  remove(entry: Entry): void {
    this.cancel(entry.lock?.timer);
    entry.lock = undefined;
    this.entries = this.entries.filter((other) => other !== entry);
  }

  settle(token: LockToken, outcome: Outcome): void {
    const entry = this.locked(token);
    if ('changes' in outcome) entry.message.change({ ...outcome.changes });
    if (outcome.name === 'complete') this.remove(entry);
    if (outcome.name === 'release') this.unlock(entry);
    if (outcome.name === 'abandon') this.unlock(entry, { failed: true });
    if (outcome.name === 'defer') {
      entry.state = 'deferred';
      this.unlock(entry);
    }
    if (outcome.name === 'dead-letter') this.bury(entry, outcome.reason, outcome.description);
  }

  /** Resolves with the time until which it is locked now. */
  renewLock(token: LockToken): number {
    const entry = this.locked(token);
    const { lockDuration = 60_000 } = this.options;
    this.cancel(entry.lock!.timer);
    const timer = this.after(lockDuration, () => this.unlock(entry, { failed: true }));
    entry.lock = { token, until: Date.now() + lockDuration, timer };
    return entry.lock.until;
  }

  /** All message locks expire now, or that of one message. */
  expireLocks(sequenceNumber?: number): void {
    const isMeant = (entry: Entry) => sequenceNumber === undefined || entry.sequenceNumber === sequenceNumber;
    for (const entry of this.entries.filter((one) => one.lock && isMeant(one))) this.unlock(entry, { failed: true });
  }

  /** Deferred messages, which come in no other way; locked, unless they are received for good. */
  receiveDeferred(
    sequenceNumbers: number[],
    { peekLock = true, sessionId = undefined as string | undefined },
  ): Entry[] {
    const all = sequenceNumbers.map((number) => this.find(number, 'deferred'));
    for (const entry of all) {
      if (entry.lock || !this.isIn(entry, sessionId)) throw notFound(entry.sequenceNumber);
    }
    for (const entry of all) {
      if (peekLock) this.lock(entry);
      else this.remove(entry);
    }
    return all;
  }

  // Sessions

  /** Locks a session, or with null the next one that has messages; undefined when there is none now. */
  acceptSession(id: string | null, holder: SessionHolder): { id: string; lockedUntil: number } | undefined {
    if (id !== null && this.sessions.get(id)?.lock) {
      throw sessionTaken(id);
    }
    const chosen = id ?? this.nextSession();
    if (chosen === undefined) return undefined;
    const session = this.session(chosen);
    session.lock = { holder, ...this.sessionLock(chosen) };
    return { id: chosen, lockedUntil: session.lock.until };
  }

  renewSession(id: string): number {
    const session = this.session(id);
    if (!session.lock) throw sessionLost();
    this.cancel(session.lock.timer);
    Object.assign(session.lock, this.sessionLock(id));
    return session.lock.until;
  }

  sessionState(id: string): Buffer | null {
    return this.session(id).state;
  }

  setSessionState(id: string, state: Buffer | null): void {
    const session = this.session(id);
    if (!session.lock) throw sessionLost();
    session.state = state;
  }

  /** Sessions that have messages, or a state. */
  sessionIds(): string[] {
    const withMessages = this.entries.flatMap(({ message }) => message.sessionId ?? []);
    const withState = [...this.sessions].flatMap(([id, { state }]) => (state ? [id] : []));
    return [...new Set([...withMessages, ...withState])];
  }

  /** The holder is done with it, which is no failure of its messages. */
  releaseSession(id: string): void {
    this.unlockSession(id, { failed: false });
  }

  /** The lock of a session is lost, now. */
  expireSession(id: string): void {
    const holder = this.sessions.get(id)?.lock?.holder;
    this.unlockSession(id, { failed: true });
    holder?.onSessionLost();
  }

  /** Where sessions are not required, a session id is one more property. */
  private isIn({ message }: Entry, sessionId: string | undefined): boolean {
    return !this.options.requiresSession || message.sessionId === sessionId;
  }

  private insert(message: Message): Entry {
    const entry: Entry = {
      sequenceNumber: ++this.lastSequenceNumber,
      message,
      state: 'active',
      enqueuedAt: Date.now(),
      expiresAt: Infinity,
      deliveryCount: 0,
    };
    this.entries.push(entry);
    return entry;
  }

  private enqueue(entry: Entry): void {
    const { timeToLive = Infinity } = this.options;
    const life = this.deadLetters ? Math.min(entry.message.timeToLive, timeToLive) : Infinity;
    entry.enqueuedAt = Date.now();
    entry.expiresAt = entry.enqueuedAt + life;
    // timers may be early by a part of a millisecond
    if (life < Infinity) this.after(life + 1, () => this.expire(entry));
    this.emit('ready');
  }

  /** It comes to the end of the queue, with a number from there. */
  private enqueueScheduled(entry: Entry): void {
    if (!this.entries.includes(entry) || entry.state !== 'scheduled') return;
    this.remove(entry);
    this.enqueue(this.insert(entry.message));
  }

  private expire(entry: Entry): void {
    if (entry.lock || entry.expiresAt > Date.now() || !this.entries.includes(entry)) return;
    if (this.options.deadLetterOnExpiration) {
      this.bury(entry, 'TTLExpiredException', 'The message expired and was dead lettered.');
    } else {
      this.remove(entry);
    }
  }

  private bury(entry: Entry, reason?: string, description?: string): void {
    if (!this.deadLetters) throw notAllowed('There is nothing below a dead-letter queue.');
    this.remove(entry);
    if (reason !== undefined) entry.message.change({ DeadLetterReason: reason });
    if (description !== undefined) entry.message.change({ DeadLetterErrorDescription: description });
    const buried = this.deadLetters.insert(entry.message);
    buried.deliveryCount = entry.deliveryCount;
    this.deadLetters.enqueue(buried);
  }

  private unlock(entry: Entry, { failed = false } = {}): void {
    this.cancel(entry.lock?.timer);
    entry.lock = undefined;
    if (failed) entry.deliveryCount++;
    const { maxDeliveryCount = 10 } = this.options;
    if (failed && this.deadLetters && entry.deliveryCount >= maxDeliveryCount) {
      this.bury(entry, 'MaxDeliveryCountExceeded', `Message could not be consumed after ${maxDeliveryCount} attempts.`);
    }
    this.expire(entry);
    this.emit('ready');
  }

  private locked(token: LockToken): Entry {
    const entry = this.entries.find(({ lock }) => lock?.token === token);
    if (entry) return entry;
    throw this.options.requiresSession ? sessionLost() : lockLost();
  }

  private lockedUntil({ sessionId }: Message, lock: Lock): number {
    return this.sessions.get(sessionId ?? '')?.lock?.until ?? lock.until;
  }

  private find(sequenceNumber: number, state: Entry['state']): Entry {
    const entry = this.entries.find((one) => one.sequenceNumber === sequenceNumber && one.state === state);
    if (!entry) throw notFound(sequenceNumber);
    return entry;
  }

  private session(id: string): Session {
    const session = this.sessions.get(id) ?? { state: null };
    this.sessions.set(id, session);
    return session;
  }

  private nextSession(): string | undefined {
    const free = this.entries.find((entry) => {
      const id = entry.message.sessionId;
      return id !== undefined && isFree(entry) && !this.sessions.get(id)?.lock;
    });
    return this.disabled ? undefined : free?.message.sessionId;
  }

  private sessionLock(id: string): { until: number; timer: NodeJS.Timeout } {
    const { lockDuration = 60_000 } = this.options;
    return { until: Date.now() + lockDuration, timer: this.after(lockDuration, () => this.expireSession(id)) };
  }

  private unlockSession(id: string, { failed }: { failed: boolean }): void {
    const session = this.sessions.get(id);
    if (!session?.lock) return;
    this.cancel(session.lock.timer);
    session.lock = undefined;
    for (const entry of this.entries) {
      if (entry.lock && entry.message.sessionId === id) this.unlock(entry, { failed });
    }
    this.emit('ready');
  }

  private after(milliseconds: number, then: () => void): NodeJS.Timeout {
    const longest = 2 ** 31 - 1; // of a timer
    const timer = setTimeout(
      () => {
        this.timers.delete(timer);
        then();
      },
      Math.min(milliseconds, longest),
    );
    this.timers.add(timer);
    return timer;
  }

  private cancel(timer: NodeJS.Timeout | undefined): void {
    if (!timer) return;
    clearTimeout(timer);
    this.timers.delete(timer);
  }
}

const isFree = ({ state, lock }: Entry): boolean => state === 'active' && !lock;
