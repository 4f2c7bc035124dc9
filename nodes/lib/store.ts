import type { ClassicLevel } from 'classic-level';
import { AmqpError } from './errors';

/** A message on disk. */
export interface Stored {
  /** Its place in the order of all. */
  sequence: number;
  bytes: Buffer;
  /** For senders without an address of their own. */
  address?: string;
}

/**
 * When a message counts as on disk. `write`: once the operating system has it, which survives the end of this process
 * however it comes. `sync`: once the disk has it too (fsync), which survives a power failure.
 */
export type Durability = 'write' | 'sync';

interface Write {
  operations: ({ type: 'put'; key: string; value: Buffer } | { type: 'del'; key: string })[];
  isSync: boolean;
  done: Promise<void>;
}

/** Messages on disk, in order. One process at a time can have it open. */
export class Store {
  readonly #level: ClassicLevel<string, Buffer>;
  readonly #durability: Durability;
  /** What waits for the present write to end, and is then written in one go: an fsync costs the same for many. */
  #next: Write | undefined;
  #last: Promise<void> = Promise.resolve();

  /** Opens a folder, which is made when it is not there. */
  static async open(directory: string, durability: Durability): Promise<Store> {
    try {
      // Loaded when it is wanted: an optional dependency, of native code.
      const { ClassicLevel: Level } = await import('classic-level');
      const level = new Level<string, Buffer>(directory, { valueEncoding: 'buffer' });
      await level.open();
      return new Store(level, durability);
    } catch (error) {
      throw storeError(`cannot open ${directory}`, error);
    }
  }

  private constructor(level: ClassicLevel<string, Buffer>, durability: Durability) {
    this.#level = level;
    this.#durability = durability;
  }

  /** All messages, in order. */
  async read(): Promise<Stored[]> {
    try {
      const stored: Stored[] = [];
      for await (const [key, value] of this.#level.iterator())
        stored.push({ sequence: parseInt(key, 36), ...unpack(value) });
      return stored;
    } catch (error) {
      throw storeError('cannot read the messages on disk', error);
    }
  }

  /** Resolves once the message is on disk; in the order of the calls. Its number is to be larger than all before. */
  put({ sequence, bytes, address }: Stored): Promise<void> {
    return this.#write({ type: 'put', key: keyOf(sequence), value: pack(bytes, address) });
  }

  /** One whose deletion is lost with the process is sent again. */
  async delete(sequence: number): Promise<void> {
    await this.#write({ type: 'del', key: keyOf(sequence) });
  }

  /** Writes what is to be written, and closes. */
  async close(): Promise<void> {
    // Whoever wrote knows of its failure.
    await this.#last.catch(() => {});
    await this.#level.close();
  }

  #write(operation: Write['operations'][number]): Promise<void> {
    const next = (this.#next ??= this.#schedule());
    next.operations.push(operation);
    if (operation.type === 'put') next.isSync ||= this.#durability === 'sync';
    return next.done;
  }

  #schedule(): Write {
    const write: Write = { operations: [], isSync: false, done: Promise.resolve() };
    write.done = this.#last
      .catch(() => {})
      .then(async () => {
        this.#next = undefined;
        try {
          await this.#level.batch(write.operations, { sync: write.isSync });
        } catch (error) {
          throw storeError('cannot write to disk', error);
        }
      });
    this.#last = write.done;
    return write;
  }
}

/** Numbers as text that sorts as they do. */
function keyOf(sequence: number): string {
  return sequence.toString(36).padStart(11, '0');
}

/** The address, its length in bytes before it, then the message. */
function pack(bytes: Buffer, address = ''): Buffer {
  const text = Buffer.from(address);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(text.length);
  return Buffer.concat([length, text, bytes]);
}

function unpack(value: Buffer): { bytes: Buffer; address?: string } {
  const start = 4 + value.readUInt32BE();
  return { bytes: value.subarray(start), address: value.toString('utf8', 4, start) || undefined };
}

function storeError(text: string, cause: unknown): AmqpError {
  // The library tells why in the cause of its error.
  const { message, cause: reason } = cause as Error;
  return new AmqpError('AMQP_STORE', `${text}: ${(reason as Error | undefined)?.message ?? message}`, null, cause);
}
