/** Milliseconds: what has lasted for so long works, and its next loss starts with the shortest pause again. */
export const STABLE_AFTER = 5000;

/** Milliseconds: the pause after the first failure, and the longest one. */
export interface Backoff {
  initial: number;
  max: number;
}

/**
 * The pause before the next attempt, in milliseconds: doubled with each failure in a row, bounded, and with jitter, so
 * that clients that lost the same broker do not all come back at the same moment.
 */
export function pauseAfter(failures: number, { initial, max }: Backoff): number {
  const pause = Math.min(max, initial * 2 ** failures);
  return pause / 2 + (Math.random() * pause) / 2;
}
