import { Ring } from '../ring';

/** Items in the order of their sequence numbers, which no two share. Those taken may be put back, where they were. */
export class Queue<T extends { readonly sequence: number }> {
  readonly #items = new Ring<T>();

  get size(): number {
    return this.#items.size;
  }

  get first(): T | undefined {
    const { first } = this.#items;
    return first === undefined ? undefined : this.#items.get(first);
  }

  put(item: T): void {
    this.#items.set(item.sequence, item);
  }

  /** Takes the first item. */
  shift(): T | undefined {
    const { first } = this.#items;
    return first === undefined ? undefined : this.#items.take(first);
  }

  delete({ sequence }: T): boolean {
    return this.#items.take(sequence) !== undefined;
  }

  [Symbol.iterator](): Generator<T> {
    return this.#items.values();
  }
}
