/**
 * A Map whose entries expire, all after the same time, so that one timer on the oldest serves any number of them.
 * An expired entry is removed, then given to `expired`.
 */
export class Expiring<K, V> {
  #entries = new Map<K, { value: V; deadline: number }>();
  #timer: NodeJS.Timeout | undefined;
  readonly #timeout: number;
  readonly #expired: (key: K, value: V) => void;

  /** `timeout` in milliseconds; 0: entries never expire. */
  constructor(timeout: number, expired: (key: K, value: V) => void) {
    this.#timeout = timeout;
    this.#expired = expired;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: K): V | undefined {
    return this.#entries.get(key)?.value;
  }

  /** Keys in the order in which they came; entries may be taken meanwhile. */
  keys(): IterableIterator<K> {
    return this.#entries.keys();
  }

  *values(): IterableIterator<V> {
    for (const { value } of this.#entries.values()) yield value;
  }

  set(key: K, value: V): void {
    const deadline = this.#timeout > 0 ? performance.now() + this.#timeout : Infinity;
    this.#entries.set(key, { value, deadline });
    if (this.#timeout > 0) this.#timer ??= this.#wait(this.#timeout);
  }

  /** Adds entries that are older than all others: each with the milliseconds that it has been there already. */
  prepend(entries: Iterable<[key: K, value: V, age: number]>): void {
    const now = performance.now();
    const later = this.#entries;
    this.#entries = new Map();
    for (const [key, value, age] of entries) this.#entries.set(key, { value, deadline: now + this.#timeout - age });
    for (const [key, entry] of later) this.#entries.set(key, entry);
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#timeout > 0 && this.#entries.size > 0) this.#timer = this.#wait(0);
  }

  /** Removes the entry and gives its value. */
  take(key: K): V | undefined {
    const entry = this.#entries.get(key);
    this.#entries.delete(key);
    return entry?.value;
  }

  /** Removes all entries, in the order in which they came, and gives their values. */
  clear(): V[] {
    const values = [...this.values()];
    this.#entries.clear();
    clearTimeout(this.#timer);
    this.#timer = undefined;
    return values;
  }

  #wait(delay: number): NodeJS.Timeout {
    return setTimeout(() => {
      const now = performance.now();
      for (const [key, { value, deadline }] of this.#entries) {
        if (deadline > now) break;
        this.#entries.delete(key);
        this.#expired(key, value);
      }
      // Of those added meanwhile none is older than what is left.
      const [oldest] = this.#entries.values();
      this.#timer = oldest && this.#wait(Math.max(0, oldest.deadline - now));
    }, Math.ceil(delay));
  }
}
