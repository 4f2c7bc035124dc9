import { randomFillSync } from 'node:crypto';

const SIZE = 16;
/** Random bytes for so many ids at once: to ask the system for each would take ten times as long. */
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
