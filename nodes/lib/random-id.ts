import { randomFillSync } from 'node:crypto';

const SIZE = 16;
/** Random bytes for so many ids at once: asking the system costs about the same for one. */
const pool = Buffer.alloc(256 * SIZE);
let at = pool.length;

/** A text that nobody can guess, as random as a UUID. That of Node.js leaves a Buffer behind for each. */
export function randomId(): string {
  if (at === pool.length) {
    randomFillSync(pool);
    at = 0;
  }
  at += SIZE;
  return pool.toString('hex', at - SIZE, at);
}
