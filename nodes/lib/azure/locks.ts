import type { AmqpError } from '../errors';

/** A lock of the peer on a message that is held, which ends unless it is renewed. */
interface Lock {
  /** A uuid, in the order of the network. */
  token: Buffer;
  /** When to renew it, by the clock of `performance`. */
  due: number;
}

export interface LocksUser {
  /** Renews them all, or rejects with the AmqpError. Resolves with the times at which they end now. */
  renew(tokens: Buffer[]): Promise<Date[]>;
  /** Whether the message is still held. */
  holds(id: string): boolean;
}

/**
 * Milliseconds between renewals: two thirds of what a lock has left, within these bounds. The clocks of the two sides may
 * differ by any time, and locks last 30 s at least wherever people have set them by hand.
 */
const [SHORTEST, LONGEST] = [1000, 20_000];
/** Locks that are due within so many milliseconds are renewed together. */
const TOGETHER = 1000;
/** Milliseconds until what could not be renewed is tried again. */
const RETRY = 2000;

/** Renews the locks of messages for as long as they are held. One that is lost is told when the message is settled. */
export class Locks {
  readonly #user: LocksUser;
  readonly #locks = new Map<string, Lock>();
  #timer: NodeJS.Timeout | undefined;
  /** When the timer ends, by the clock of `performance`; Infinity: none is running. */
  #next = Infinity;
  #isRenewing = false;
  #isClosed = false;

  constructor(user: LocksUser) {
    this.#user = user;
  }

  /** `until`: the end of the lock, by the peer's clock. */
  hold(id: string, token: Buffer, until: unknown): void {
    const due = performance.now() + pauseUntil(until);
    this.#locks.set(id, { token, due });
    if (due < this.#next) this.#waitUntil(due);
  }

  release(id: string): void {
    this.#locks.delete(id);
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#locks.clear();
  }

  #waitUntil(due: number): void {
    clearTimeout(this.#timer);
    this.#next = due;
    // After a renewal it is looked at all of them.
    if (this.#isClosed || this.#isRenewing || due === Infinity) return;
    this.#timer = setTimeout(() => void this.#renewDue(), Math.max(0, due - performance.now()));
  }

  async #renewDue(): Promise<void> {
    this.#isRenewing = true;
    const now = performance.now() + TOGETHER;
    const due: [string, Lock][] = [];
    for (const [id, lock] of this.#locks) {
      if (!this.#user.holds(id)) this.#locks.delete(id);
      else if (lock.due <= now) due.push([id, lock]);
    }
    if (due.length > 0) await this.#renew(due);
    this.#isRenewing = false;
    let first = Infinity;
    for (const lock of this.#locks.values()) first = Math.min(first, lock.due);
    this.#waitUntil(first);
  }

  /** One that is lost makes the peer refuse all of them. */
  async #renew(due: [string, Lock][]): Promise<void> {
    try {
      const ends = await this.#user.renew(due.map(([, { token }]) => token));
      const now = performance.now();
      for (const [index, [, lock]] of due.entries()) lock.due = now + pauseUntil(ends[index]);
    } catch (error) {
      if ((error as AmqpError).code !== 'AMQP_LOCK_LOST') {
        for (const [, lock] of due) lock.due = performance.now() + RETRY;
      } else if (due.length === 1) this.#locks.delete(due[0]![0]);
      else for (const one of due) await this.#renew([one]);
    }
  }
}

/** Milliseconds until a lock is to be renewed that ends then. */
export function pauseUntil(end: unknown): number {
  const left = end instanceof Date ? end.getTime() - Date.now() : NaN;
  return Math.min(LONGEST, Math.max(SHORTEST, (2 / 3) * left || 0));
}

/**
 * The lock that a message was delivered under: its delivery tag is a GUID as .NET orders it, given in hexadecimal.
 * Undefined: it came without.
 */
export function lockTokenOf(tag: string): Buffer | undefined {
  const token = Buffer.from(tag, 'hex');
  if (token.length !== 16) return undefined;
  token.subarray(0, 4).reverse();
  token.subarray(4, 6).reverse();
  token.subarray(6, 8).reverse();
  return token;
}
