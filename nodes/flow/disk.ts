import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { NodeAPI } from 'node-red';
import { Store } from '../lib/sender/store';

/** The folders that senders keep their messages in. */
export class Disk {
  readonly #RED: NodeAPI;
  /** Those of the senders that there are. */
  readonly #used = new Set<string>();
  /** How many messages were told of, by folder. */
  readonly #told = new Map<string, number>();

  constructor(RED: NodeAPI) {
    this.#RED = RED;
  }

  /** The folder of a sender. */
  directoryOf(id: string): string {
    return join(this.#root, `sender-${encodeURIComponent(id)}`);
  }

  /** A sender reads the folder and writes it, until `leave`. */
  use(directory: string): void {
    this.#used.add(directory);
  }

  leave(directory: string): void {
    this.#used.delete(directory);
  }

  /**
   * Tells of messages that no sender sends: it is disabled or was deleted, keeps nothing on disk any more, or may send
   * nothing twice. Once for each folder, as long as their number stays the same.
   */
  async tellOfLeft(): Promise<void> {
    // Most have never kept anything.
    const names = await readdir(this.#root).catch(() => []);
    for (const directory of names.map((name) => join(this.#root, name))) {
      if (this.#used.has(directory)) continue;
      // Another process may have it open, or it is something else.
      const count = await Store.count(directory).catch(() => 0);
      if (count === 0 || count === this.#told.get(directory)) continue;
      this.#told.set(directory, count);
      this.#RED.log.warn(this.#RED._('amqp-sender.log.left', { n: count, directory }));
    }
  }

  get #root(): string {
    return join(this.#RED.settings.userDir ?? '.', 'amqp-buffer');
  }
}
