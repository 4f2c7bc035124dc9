/** Items in the order of their sequence numbers. Those taken may be put back: they go where they were. */
export class Queue<T extends { readonly sequence: number }> {
  /** Put back: all of them are before the rest. */
  #returned = new Set<T>();
  #isSorted = true;
  #rest = new Set<T>();

  get size(): number {
    return this.#returned.size + this.#rest.size;
  }

  get first(): T | undefined {
    if (!this.#isSorted) {
      this.#returned = new Set([...this.#returned].toSorted((a, b) => a.sequence - b.sequence));
      this.#isSorted = true;
    }
    for (const item of this.#returned) return item;
    for (const item of this.#rest) return item;
    return undefined;
  }

  /** Adds an item whose number is larger than those of all others. */
  push(item: T): void {
    this.#rest.add(item);
  }

  /** Takes the first item. */
  shift(): T | undefined {
    const item = this.first;
    if (item) this.delete(item);
    return item;
  }

  /** Takes back an item that was the first one once. */
  putBack(item: T): void {
    this.#returned.add(item);
    this.#isSorted = false;
  }

  delete(item: T): boolean {
    return this.#returned.delete(item) || this.#rest.delete(item);
  }

  *[Symbol.iterator](): Generator<T> {
    if (this.first) yield* this.#returned;
    yield* this.#rest;
  }
}
