import { type Done, Entry } from '../link/entry';
import { encodeBatch, sizeInBatch } from '../message/batch';
import { BATCH_FORMAT } from '../message/message';

/** One message of those that are sent together. */
export interface Member {
  bytes: Buffer;
  /** Called with the outcome of all of them. */
  done: Done;
  /** Called once they are on disk, where they are kept there. */
  stored?: () => void;
}

/** What was sent to the same address, and is of the same session or partition. */
interface Batch {
  address: string | undefined;
  members: Member[];
  /** Bytes. */
  size: number;
  timer: NodeJS.Timeout;
}

export interface BatchesOptions {
  /** Milliseconds that a message waits for others. */
  time: number;
  /** The most bytes of a batch. */
  readonly mostBytes: number;
  send(entry: Entry): void;
}

/** Messages that wait to be sent together. */
export class Batches {
  readonly #options: BatchesOptions;
  readonly #waiting = new Map<string, Batch>();

  constructor(options: BatchesOptions) {
    this.#options = options;
  }

  /** Those with the same address and `key` are sent together, in their order. */
  add(address: string | undefined, key: string, member: Member): void {
    const name = JSON.stringify([address, key]);
    const { mostBytes, time } = this.#options;
    let batch = this.#waiting.get(name);
    if (batch && batch.size + sizeInBatch(member.bytes, false) > mostBytes) {
      this.#send(name);
      batch = undefined;
    }
    if (!batch) {
      const timer = setTimeout(() => this.#send(name), time);
      batch = { address, members: [], size: 0, timer };
      this.#waiting.set(name, batch);
    }
    batch.size += sizeInBatch(member.bytes, batch.members.length === 0);
    batch.members.push(member);
  }

  /** Sends all that waits. */
  flush(): void {
    for (const name of this.#waiting.keys()) this.#send(name);
  }

  #send(name: string): void {
    const batch = this.#waiting.get(name);
    if (!batch) return;
    clearTimeout(batch.timer);
    this.#waiting.delete(name);
    this.#options.send(entryOf(batch.members, batch.address));
  }
}

/** One message for all of them; one that is alone goes as it is. */
function entryOf(members: readonly Member[], address: string | undefined): Entry {
  const done: Done = (error, sent) => {
    for (const member of members) member.done(error, sent);
  };
  const isStored = members.some(({ stored }) => stored);
  const stored = (): void => {
    for (const member of members) member.stored?.();
  };
  const [first, ...rest] = members.map(({ bytes }) => bytes);
  const isBatch = rest.length > 0;
  return new Entry(isBatch ? encodeBatch([first!, ...rest]) : first!, done, {
    address,
    ...(isBatch && { format: BATCH_FORMAT }),
    ...(isStored && { stored }),
  });
}
