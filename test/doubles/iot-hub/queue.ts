// Messages that wait for a consumer, which settles each of them: the commands of a device, and feedback.
import { type LockToken, newLockToken } from '../azure/locks';
import type { Message } from '../azure/messages';
import { lockLost } from '../azure/refusals';

/** What a consumer does with a message. */
export type Outcome = 'complete' | 'abandon' | 'reject';
/** What became of a message in the end, as feedback names it. */
export type Fate = 'Success' | 'Expired' | 'DeliveryCountExceeded' | 'Rejected';

export interface QueueOptions {
  /** milliseconds that a message stays locked for a consumer that says nothing (default 60 000) */
  lockDuration?: number;
  /** deliveries after which a message is given up (default 10) */
  maxDeliveryCount?: number;
}

export interface Entry {
  message: Message;
  sequenceNumber: number;
  enqueuedAt: number;
  /** failed ones */
  deliveryCount: number;
  /** when it is given up; milliseconds */
  expiresAt: number;
  over(fate: Fate): void;
  lock?: LockToken;
  unlocking?: NodeJS.Timeout;
  expiring?: NodeJS.Timeout;
}

export class Queue {
  private entries: Entry[] = [];
  private lastSequenceNumber = 0;

  /** `ready` is called when there may be something to be delivered. */
  constructor(
    private readonly options: QueueOptions,
    private readonly ready: () => void,
  ) {}

  get depth(): number {
    return this.entries.length;
  }

  add(message: Message, { expiresAt = Infinity, over = (_fate: Fate): void => {} } = {}): void {
    const sequenceNumber = ++this.lastSequenceNumber;
    const entry: Entry = { message, sequenceNumber, enqueuedAt: Date.now(), deliveryCount: 0, expiresAt, over };
    const longest = 2 ** 31 - 1; // of a timer
    if (expiresAt < Infinity) {
      // timers may be early by a part of a millisecond
      const life = Math.min(expiresAt - Date.now() + 1, longest);
      entry.expiring = setTimeout(() => this.expire(entry), life);
    }
    this.entries.push(entry);
    this.ready();
  }

  /** Locks the next message, if there is one. */
  next(): { entry: Entry; token: LockToken } | undefined {
    const entry = this.entries.find(({ lock }) => lock === undefined);
    if (!entry) return undefined;
    const { lockDuration = 60_000 } = this.options;
    const token = newLockToken();
    entry.lock = token;
    entry.unlocking = setTimeout(() => this.unlock(entry), lockDuration);
    return { entry, token };
  }

  /** Throws a Refusal when the lock is lost. */
  settle(token: LockToken, outcome: Outcome): void {
    const entry = this.entries.find(({ lock }) => lock === token);
    if (!entry) throw lockLost();
    if (outcome === 'complete') this.end(entry, 'Success');
    else if (outcome === 'reject') this.end(entry, 'Rejected');
    else this.unlock(entry);
  }

  /** All locks are lost now. */
  expireLocks(): void {
    for (const entry of this.entries.filter(({ lock }) => lock !== undefined)) this.unlock(entry);
  }

  /** Ends all timers. */
  stop(): void {
    for (const { unlocking, expiring } of this.entries) {
      clearTimeout(unlocking);
      clearTimeout(expiring);
    }
  }

  private unlock(entry: Entry): void {
    clearTimeout(entry.unlocking);
    entry.lock = undefined;
    entry.deliveryCount++;
    if (entry.deliveryCount >= (this.options.maxDeliveryCount ?? 10)) this.end(entry, 'DeliveryCountExceeded');
    else if (entry.expiresAt <= Date.now()) this.end(entry, 'Expired');
    else this.ready();
  }

  private expire(entry: Entry): void {
    // while it is locked its consumer decides
    if (entry.lock === undefined) this.end(entry, 'Expired');
  }

  private end(entry: Entry, fate: Fate): void {
    clearTimeout(entry.unlocking);
    clearTimeout(entry.expiring);
    this.entries = this.entries.filter((other) => other !== entry);
    entry.over(fate);
  }
}
