// A root hook for runs in parallel: Mocha ends its workers by force, which hides what would keep a process from ending.
import { setTimeout as delay } from 'node:timers/promises';
import type { Context, RootHookObject } from 'mocha';

/** How many of each kind there are of timers, servers, sockets, child processes. */
function open(): Map<string, number> {
  const counts = new Map<string, number>();
  for (const kind of process.getActiveResourcesInfo()) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return counts;
}

let before: Map<string, number>;

export const mochaHooks: RootHookObject = {
  async beforeAll() {
    await delay(0); // Mocha's own timer comes with the first wait
    before = open();
  },

  /** Fails the file that leaves something open for good. */
  async afterAll(this: Context) {
    let left: string[];
    const end = Date.now() + 10_000;
    do {
      await delay(10);
      left = [...open()].filter(([kind, count]) => count > (before.get(kind) ?? 0)).map(([kind]) => kind);
    } while (left.length > 0 && Date.now() < end);
    const { suites } = this.test!.parent!;
    if (left.length > 0)
      throw new Error(`${suites.map(({ title }) => title).join(', ')} left open: ${left.join(', ')}`);
  },
};
