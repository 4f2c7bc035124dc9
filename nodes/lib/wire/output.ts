import type { Duplex } from 'node:stream';

/** Bytes of frames that are gathered before they go to the socket. */
const SLAB_SIZE = 2 ** 16;
/** Slabs that are kept to be used again. */
const MAX_SPARE = 8;

interface Slab {
  readonly bytes: Buffer;
  /** Parts of it that the socket still has. */
  out: number;
}

/** What has frames to write that were put off to the end of the turn: they may become fewer until then. */
export interface Due {
  writeDue(): void;
}

/**
 * What is written to a socket, in order, whoever writes it. All that is written within one turn of the event loop goes
 * out by one system call: rhea writes each frame on its own, and with Nagle off, as it must be, each would be a packet
 * (R82).
 */
export class Output {
  readonly #socket: Duplex;
  readonly #write: (bytes: Buffer, done?: () => void) => void;
  /** Used again, since a new one for each turn would be garbage of many megabytes. */
  #slab: Slab = newSlab(SLAB_SIZE);
  readonly #spare: Slab[] = [];
  readonly #due = new Set<Due>();
  /** Of the slab, what the socket has been given, and what has been written. */
  #given = 0;
  #written = 0;
  #isCorked = false;

  constructor(socket: Duplex) {
    this.#socket = socket;
    const write = socket.write.bind(socket) as (...args: unknown[]) => boolean;
    this.#write = write;
    socket.write = (...args: unknown[]): boolean => {
      this.#cork();
      // A link's last frames, which are ours, are to be before its detach, which is rhea's.
      this.#give();
      return write(...args);
    };
  }

  /** Bytes that the peer has not read yet, as far as that is known here. */
  get unread(): number {
    return this.#socket.writableLength + this.#written - this.#given;
  }

  /** Where frames are written, at the place that `reserve` gives. */
  get slab(): Buffer {
    return this.#slab.bytes;
  }

  /** Makes room for so many bytes in the slab, to be written there at once. Returns where. */
  reserve(size: number): number {
    this.#cork();
    if (this.#written + size > this.#slab.bytes.length) {
      this.#giveSlab();
      this.#slab = size <= SLAB_SIZE ? (this.#spare.pop() ?? newSlab(SLAB_SIZE)) : newSlab(size);
      this.#given = this.#written = 0;
    }
    const at = this.#written;
    this.#written += size;
    return at;
  }

  /** Writes bytes as they are, behind what is in the slab. */
  append(bytes: Buffer): void {
    this.#giveSlab();
    if (this.#socket.writable) this.#write(bytes);
  }

  /** Has frames written at the end of this turn, or before rhea writes one. */
  put(due: Due): void {
    this.#cork();
    this.#due.add(due);
  }

  #cork(): void {
    if (this.#isCorked) return;
    this.#isCorked = true;
    this.#socket.cork();
    setImmediate(() => {
      this.#give();
      this.#isCorked = false;
      this.#socket.uncork();
    });
  }

  #give(): void {
    for (const due of this.#due) due.writeDue();
    this.#due.clear();
    this.#giveSlab();
  }

  #giveSlab(): void {
    if (this.#given === this.#written) return;
    const slab = this.#slab;
    const bytes = slab.bytes.subarray(this.#given, this.#written);
    this.#given = this.#written;
    if (!this.#socket.writable) return;
    slab.out++;
    this.#write(bytes, () => this.#gone(slab));
  }

  /** The socket is done with a part of a slab. */
  #gone(slab: Slab): void {
    if (--slab.out > 0) return;
    if (slab === this.#slab && this.#given === this.#written) this.#given = this.#written = 0;
    else if (slab !== this.#slab && slab.bytes.length === SLAB_SIZE && this.#spare.length < MAX_SPARE)
      this.#spare.push(slab);
  }
}

function newSlab(size: number): Slab {
  return { bytes: Buffer.allocUnsafe(size), out: 0 };
}
