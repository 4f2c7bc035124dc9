import { Ring } from './ring';

/** What expires. */
export interface Expires {
  /** For `Expiring` alone: when that is, by the clock of `performance`. */
  deadline: number;
}

/**
 * Values by numbers that rise, which expire all after the same time, so that one timer on the oldest serves any number
 * of them. What has expired is removed, then given to `expired`.
 */
export class Expiring<V extends Expires> {
  readonly #values = new Ring<V>();
  #timer: NodeJS.Timeout | undefined;
  readonly #timeout: number;
  readonly #expired: (value: V, number: number) => void;

  /** `timeout` in milliseconds; 0: values never expire. */
  constructor(timeout: number, expired: (value: V, number: number) => void) {
    this.#timeout = timeout;
    this.#expired = expired;
  }

  get size(): number {
    return this.#values.size;
  }

  get(number: number): V | undefined {
    return this.#values.get(number);
  }

  /** In the order of their numbers; values may be taken meanwhile. */
  values(): Generator<V> {
    return this.#values.values();
  }

  set(number: number, value: V): void {
    this.#values.set(number, value);
    if (this.#timeout === 0) return;
    value.deadline = performance.now() + this.#timeout;
    this.#timer ??= this.#wait(this.#timeout);
  }

  /** Adds values that are older than all others, each with the milliseconds that it has been there already. */
  prepend(entries: Iterable<[number: number, value: V, age: number]>): void {
    const now = performance.now();
    for (const [number, value, age] of entries) {
      value.deadline = now + this.#timeout - age;
      this.#values.set(number, value);
    }
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#timeout > 0 && this.size > 0) this.#timer = this.#wait(0);
  }

  /** Removes a value, and gives it. */
  take(number: number): V | undefined {
    return this.#values.take(number);
  }

  /** Removes all values, and gives them in the order of their numbers. */
  clear(): V[] {
    const entries = [...this.#values.entries()];
    for (const [number] of entries) this.#values.take(number);
    clearTimeout(this.#timer);
    this.#timer = undefined;
    return entries.map(([, value]) => value);
  }

  #wait(delay: number): NodeJS.Timeout {
    return setTimeout(() => {
      const now = performance.now();
      let oldest = this.#values.first;
      while (oldest !== undefined && this.#values.get(oldest)!.deadline <= now) {
        this.#expired(this.#values.take(oldest)!, oldest);
        oldest = this.#values.first;
      }
      // Of those added meanwhile none is older than what is left.
      this.#timer =
        oldest === undefined ? undefined : this.#wait(Math.max(0, this.#values.get(oldest)!.deadline - now));
    }, Math.ceil(delay));
  }
}
