import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import type { ClassicLevel } from 'classic-level';
import { type Backoff, pauseAfter } from '../connection/backoff';
import { type AmqpError, amqpError } from '../errors';
import type { ErrorKey } from '../error-texts';

/** A message on disk. */
export interface Stored {
  /** Its place in the order of all. */
  sequence: number;
  bytes: Buffer;
  /** Where it goes, whatever the sender is set to when it is read. */
  address?: string;
  /** The address was the sender's own: the message itself may not name it. */
  isOfSender: boolean;
  /** It holds several messages. */
  isBatch: boolean;
  /** When it was taken: milliseconds since 1970. */
  taken: number;
}

/**
 * When a message counts as on disk. `write`: once the operating system has it, which survives the end of this process
 * however it comes. `sync`: once the disk has it too (fsync), which survives a power failure.
 */
export type Durability = 'write' | 'sync';

export interface StoreUser {
  /**
   * All messages, in order, once: when the store is open for the first time. What is not deleted stays on disk. No number
   * was larger than `last`.
   */
  restored(messages: Stored[], last: number): void;
  /** It has opened again, and does not have these any more: they are to be put once more. */
  missing(sequences: number[]): void;
  /** Messages on disk were damaged. */
  damaged(error: AmqpError): void;
  /** There is a `fault`, or there is none any more. */
  changed(): void;
}

type Level = ClassicLevel<string, Buffer>;

interface Put {
  sequence: number;
  value: Buffer;
  resolve: () => void;
  reject: (error: AmqpError) => void;
}

const RETRY: Backoff = { initial: 500, max: 30_000 };

/**
 * Messages on disk, in order. One process at a time can have it open. What fails is closed and opened again by itself,
 * after growing pauses; until then nothing can be put, and what is deleted meanwhile is deleted then.
 */
export class Store {
  readonly #directory: string;
  readonly #durability: Durability;
  readonly #user: StoreUser;
  readonly #backoff: Backoff;
  #level: Level | undefined;
  #opening: Promise<void> | undefined;
  #writing: Promise<void> | undefined;
  #fault: AmqpError | undefined;
  #failures = 0;
  #timer: NodeJS.Timeout | undefined;
  #isRead = false;
  #isClosing = false;
  /** Those that were put, and those that were there. */
  #sequences = new Set<number>();
  /** What waits for the present write to end, and is then written in one go: an fsync costs the same for many. */
  #puts: Put[] = [];
  /** Also those whose put has failed: they may be there all the same. */
  #deletions = new Set<number>();

  /** The folder is made when it is not there. */
  constructor(directory: string, durability: Durability, user: StoreUser, backoff = RETRY) {
    this.#directory = directory;
    this.#durability = durability;
    this.#user = user;
    this.#backoff = backoff;
  }

  /** How many messages are in a folder. Throws an AmqpError when it cannot be opened. */
  static async count(directory: string): Promise<number> {
    try {
      const level = await levelIn(directory, false);
      try {
        let count = 0;
        for await (const _key of level.keys()) count++;
        return count;
      } finally {
        await level.close();
      }
    } catch (error) {
      throw storeError('AMQP_STORE.open', error, { directory });
    }
  }

  /** Why nothing can be put for now. */
  get fault(): AmqpError | undefined {
    return this.#fault;
  }

  /** Opens, and resolves once what was there has been read. Rejects when it failed, and is to be opened again. */
  async open(): Promise<void> {
    if (this.#fault) throw this.#fault;
    await (this.#opening ??= this.#open());
  }

  /**
   * Resolves once the message is on disk; in the order of the calls. Its number is to be larger than all before. Rejects
   * with an AmqpError when it is not, and will not be.
   */
  put(stored: Stored): Promise<void> {
    if (this.#fault) return Promise.reject(this.#fault);
    return new Promise((resolve, reject) => {
      this.#puts.push({ sequence: stored.sequence, value: pack(stored), resolve, reject });
      this.#write();
    });
  }

  /** One whose deletion is lost with the process is read again. */
  delete(sequence: number): void {
    this.#deletions.add(sequence);
    this.#write();
  }

  /** Writes what is to be written, and closes. */
  async close(): Promise<void> {
    this.#isClosing = true;
    clearTimeout(this.#timer);
    // Whoever waited for it has been told.
    await this.#opening?.catch(() => {});
    await this.#writing;
    await this.#level?.close();
  }

  async #open(): Promise<void> {
    try {
      this.#level = await levelIn(this.#directory, true);
      await this.#tellOfDropped();
      const missing = this.#isRead ? await this.#missing(this.#level) : [];
      if (!this.#isRead) await this.#read();
      this.#fault = undefined;
      this.#failures = 0;
      if (missing.length > 0) this.#user.missing(missing);
    } catch (error) {
      await this.#fail(storeError('AMQP_STORE.open', error, { directory: this.#directory }));
      throw this.#fault;
    }
    this.#user.changed();
    this.#write();
  }

  /** LevelDB passes over the damaged parts of its log, and tells only its own log file. */
  async #tellOfDropped(): Promise<void> {
    const log = await readFile(join(this.#directory, 'LOG'), 'latin1').catch(() => '');
    const bytes = Array.from(log.matchAll(/dropping (\d+) bytes/g), ([, number]) => Number(number));
    const sum = bytes.reduce((total, number) => total + number, 0);
    if (sum > 0) this.#damaged('AMQP_STORE.lost', { bytes: sum });
  }

  #damaged(key: ErrorKey, values: Record<string, string | number>): void {
    this.#user.damaged(amqpError(key, { directory: this.#directory, ...values }));
  }

  /** Reads record by record: what cannot be read stays where it is, and keeps nothing from the rest. */
  async #read(): Promise<void> {
    const messages: Stored[] = [];
    let [bad, last] = [0, 0];
    for await (const [key, value] of this.#entries()) {
      const sequence = (last = parseInt(key, 36));
      try {
        messages.push({ sequence, ...unpack(value) });
        this.#sequences.add(sequence);
      } catch {
        bad++;
      }
    }
    if (bad > 0) this.#damaged('AMQP_STORE.damaged', { count: bad });
    if (this.#isClosing) return;
    this.#isRead = true;
    this.#user.restored(messages, last);
  }

  /** All entries. LevelDB passes over a damaged table, or part of one, and says so at the end. */
  async *#entries(): AsyncGenerator<[string, Buffer]> {
    let last = '';
    try {
      for await (const entry of this.#level!.iterator()) {
        [last] = entry;
        yield entry;
      }
      return;
    } catch (error) {
      this.#damaged('AMQP_STORE.kept', { reason: reasonOf(error) });
    }
    await this.#level!.close();
    this.#level = undefined;
    const { ClassicLevel: Class } = await import('classic-level');
    await Class.repair(this.#directory);
    this.#level = await levelIn(this.#directory, true);
    yield* this.#level.iterator({ gt: last });
  }

  /** What was put, and is not there after a failure. */
  async #missing(level: Level): Promise<number[]> {
    const missing = new Set(this.#sequences);
    for await (const key of level.keys()) missing.delete(parseInt(key, 36));
    for (const sequence of missing) this.#sequences.delete(sequence);
    return [...missing].filter((sequence) => !this.#deletions.has(sequence));
  }

  /** LevelDB goes on behind a write that failed, in a log that can be read only up to there: so it is given up. */
  async #fail(error: AmqpError): Promise<void> {
    this.#fault = error;
    const [level, puts] = [this.#level, this.#puts];
    this.#level = this.#opening = undefined;
    this.#puts = [];
    for (const { reject } of puts) reject(error);
    this.#user.changed();
    // Nothing more can be done about one that does not close: the next attempt tells.
    await level?.close().catch(() => {});
    if (this.#isClosing) return;
    const again = (): void => {
      // It has told of its failure.
      this.#opening = this.#open();
      this.#opening.catch(() => {});
    };
    this.#timer = setTimeout(again, pauseAfter(this.#failures++, this.#backoff));
  }

  get #canWrite(): boolean {
    return this.#level !== undefined && !this.#fault && this.#puts.length + this.#deletions.size > 0;
  }

  #write(): void {
    if (this.#canWrite) this.#writing ??= this.#writeAll();
  }

  async #writeAll(): Promise<void> {
    while (this.#canWrite) await this.#writeWaiting(this.#level!);
    this.#writing = undefined;
  }

  /** Writes in one go what waits. */
  async #writeWaiting(level: Level): Promise<void> {
    const [puts, deletions] = [this.#puts, [...this.#deletions]];
    this.#puts = [];
    try {
      // An array of operations, of which the library makes copies, would take three times as long.
      const batch = level.batch();
      for (const { sequence, value } of puts) batch.put(keyOf(sequence), value);
      for (const sequence of deletions) batch.del(keyOf(sequence));
      await batch.write({ sync: puts.length > 0 && this.#durability === 'sync' });
    } catch (cause) {
      const error = storeError('AMQP_STORE.write', cause);
      for (const { sequence, reject } of puts) {
        this.#deletions.add(sequence);
        reject(error);
      }
      return this.#fail(error);
    }
    for (const { sequence, resolve } of puts) {
      this.#sequences.add(sequence);
      resolve();
    }
    for (const sequence of deletions) {
      this.#deletions.delete(sequence);
      this.#sequences.delete(sequence);
    }
  }
}

async function levelIn(directory: string, createIfMissing: boolean): Promise<Level> {
  // Loaded when it is wanted: an optional dependency, of native code.
  const { ClassicLevel: Class } = await import('classic-level');
  const level = new Class<string, Buffer>(directory, { valueEncoding: 'buffer', createIfMissing });
  try {
    await level.open();
  } catch (error) {
    await level.close();
    throw error;
  }
  return level;
}

/** Numbers as text that sorts as they do. */
function keyOf(sequence: number): string {
  return sequence.toString(36).padStart(11, '0');
}

/** What a record begins with, which no change of a bit makes the zero of older ones, and bytes before the address. */
const [FORMAT, HEAD] = [0xa1, 18];
/** Flags: the address is the sender's; there are several messages. */
const [OF_SENDER, BATCH] = [1, 2];

/** Format, CRC of what follows, flags, time, length of the address, address, message. */
function pack({ bytes, address = '', isOfSender, isBatch, taken }: Stored): Buffer {
  const text = Buffer.from(address);
  const record = Buffer.allocUnsafe(HEAD + text.length + bytes.length);
  record[0] = FORMAT;
  record[5] = (isOfSender ? OF_SENDER : 0) | (isBatch ? BATCH : 0);
  record.writeDoubleBE(taken, 6);
  record.writeUInt32BE(text.length, 14);
  record.set(text, HEAD);
  record.set(bytes, HEAD + text.length);
  record.writeUInt32BE(crc32(record.subarray(5)), 1);
  return record;
}

function unpack(value: Buffer): Omit<Stored, 'sequence'> {
  // Older records begin with the length of the address.
  if (value[0] === 0) return { ...addressed(value, 0), isOfSender: false, isBatch: false, taken: Date.now() };
  if (value[0] !== FORMAT || value.readUInt32BE(1) !== crc32(value.subarray(5))) throw new Error('damaged');
  const flags = value[5]!;
  const isOfSender = (flags & OF_SENDER) !== 0;
  return { ...addressed(value, 14), isOfSender, isBatch: (flags & BATCH) !== 0, taken: value.readDoubleBE(6) };
}

function addressed(value: Buffer, at: number): { bytes: Buffer; address?: string } {
  const start = at + 4 + value.readUInt32BE(at);
  if (start > value.length) throw new Error('damaged');
  return { bytes: value.subarray(start), address: value.toString('utf8', at + 4, start) || undefined };
}

function reasonOf(error: unknown): string {
  // The library tells why in the cause of its error.
  const { message, cause } = error as Error;
  return (cause as Error | undefined)?.message ?? message;
}

function storeError(key: ErrorKey, cause: unknown, values: Record<string, string> = {}): AmqpError {
  const reason = reasonOf(cause);
  // The system's own words stand behind LevelDB's and the path.
  const field = reason.split(': ').at(-1);
  return amqpError(key, { reason, ...values }, { cause, field });
}
