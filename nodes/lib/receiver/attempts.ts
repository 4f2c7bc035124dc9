import type { Incoming } from '../message/message';

/** Messages that are remembered: beyond that, those that came first are forgotten. */
const MOST = 10_000;

/**
 * Counts how often each message was delivered: by the peer's own count where it keeps one (3.2.1, delivery-count), else by
 * the message's id, for as long as this object lives.
 */
export class Attempts {
  readonly #counts = new Map<string, number>();

  /** Which attempt this delivery is: 1 for the first. */
  next({ fields: { delivery_count: failures, message_id: id } }: Incoming): number {
    const counted = typeof failures === 'number' ? failures + 1 : 1;
    const key = keyOf(id);
    if (key === undefined) return counted;
    const attempt = Math.max(counted, (this.#counts.get(key) ?? 0) + 1);
    // The last one that came is the last to be forgotten.
    this.#counts.delete(key);
    this.#counts.set(key, attempt);
    if (this.#counts.size > MOST) this.#counts.delete(this.#counts.keys().next().value!);
    return attempt;
  }

  /** The message is done with: should it come again, that is another one. */
  forget({ fields: { message_id: id } }: Incoming): void {
    const key = keyOf(id);
    if (key !== undefined) this.#counts.delete(key);
  }
}

/** Undefined: it has none. */
function keyOf(id: unknown): string | undefined {
  if (id === undefined || id === null) return undefined;
  // Text too: '1' is not 1.
  return JSON.stringify(id, (_key, value: unknown) => (typeof value === 'bigint' ? String(value) : value));
}
