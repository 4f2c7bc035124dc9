// The peer's sessions, links and queues. Frames that come with every message are copied from one that is prepared.
import type { Socket } from 'node:net';
import * as wire from './wire';

/** Wide enough never to be in the way. */
export const WINDOW = 2 ** 31 - 1;
const SLAB = 2 ** 18;
/** Bytes that may wait for the socket. */
const PENDING = 2 ** 20;
/** Messages that a receiver gets before it is the next one's turn. */
const TURN = 50;

const HEAD = [0, 0, 0, 0, 2, 0, 0, 0];
const ZERO = [0x70, 0, 0, 0, 0];
/** Handle, delivery id, tag, format 0, not settled, more. */
const DELIVERY = [...ZERO, ...ZERO, 0xa0, 4, 0, 0, 0, 0, 0x43, 0x42, 0x41];
const TRANSFER = Buffer.from([...HEAD, 0, 0x53, wire.TRANSFER, 0xc0, DELIVERY.length + 1, 6, ...DELIVERY]);
/** As receiver, first, last, settled, accepted. */
const RANGE = [0x41, ...ZERO, ...ZERO, 0x41, 0, 0x53, 0x24, 0x45];
const DISPOSITION = Buffer.from([...HEAD, 0, 0x53, wire.DISPOSITION, 0xc0, RANGE.length + 1, 5, ...RANGE]);
DISPOSITION.writeUInt32BE(DISPOSITION.length);
const CHANNEL_AT = 6;
const [HANDLE_AT, ID_AT, TAG_AT, MORE_AT] = [15, 20, 26, 32];
const [FIRST_AT, LAST_AT] = [16, 21];

/** Frames on their way to the socket, written together. */
export class Out {
  #slab = Buffer.allocUnsafe(SLAB);
  #from = 0;
  #to = 0;
  #isFlushing = false;

  constructor(readonly socket: Socket) {}

  get isFull(): boolean {
    return this.socket.writableLength > PENDING;
  }

  /** Room for so many bytes in `slab`, to be filled in now. */
  take(length: number): number {
    if (this.#to + length > this.#slab.length) {
      this.flush();
      this.#slab = Buffer.allocUnsafe(Math.max(SLAB, length));
      this.#from = this.#to = 0;
    }
    this.#to += length;
    return this.#to - length;
  }

  get slab(): Buffer {
    return this.#slab;
  }

  put(bytes: Buffer): void {
    bytes.copy(this.#slab, this.take(bytes.length));
  }

  /** A frame that comes seldom. */
  frame(channel: number, code: number, ...fields: Buffer[]): void {
    const bytes = wire.frame(channel, wire.described(code, ...fields));
    const at = this.take(bytes.length);
    bytes.copy(this.#slab, at);
  }

  flush(): void {
    this.#isFlushing = false;
    if (this.#to === this.#from || this.socket.destroyed) return;
    this.socket.write(this.#slab.subarray(this.#from, this.#to));
    this.#from = this.#to;
  }

  flushLater(): void {
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    process.nextTick(() => this.flush());
  }
}

export class Session {
  readonly links = new Map<number, Link>();
  /** Numbers of frames. */
  incoming = 0;
  outgoing = 0;
  remoteWindow = WINDOW;
  nextId = 0;
  /** What the next disposition settles; nothing while `first` is -1. */
  #first = -1;
  #last = -1;

  constructor(
    readonly channel: number,
    readonly out: Out,
    /** The most that the other side takes in one frame. */
    readonly maxFrame: number,
  ) {}

  settle(id: number, isAlone: boolean): void {
    if (this.#first >= 0 && (isAlone || id !== this.#last + 1)) this.flush();
    if (this.#first < 0) this.#first = id;
    this.#last = id;
  }

  flush(): void {
    if (this.#first < 0) return;
    const at = this.out.take(DISPOSITION.length);
    const { slab } = this.out;
    DISPOSITION.copy(slab, at);
    slab.writeUInt16BE(this.channel, at + CHANNEL_AT);
    slab.writeUInt32BE(this.#first, at + FIRST_AT);
    slab.writeUInt32BE(this.#last, at + LAST_AT);
    this.#first = -1;
  }
}

export class Link {
  credit = 0;
  deliveryCount = 0;
  /** Of the delivery that is coming in, and what of it is there. */
  id = 0;
  parts: Buffer[] = [];

  constructor(
    readonly session: Session,
    readonly handle: number,
    /** We are. */
    readonly isSender: boolean,
    readonly address: string,
  ) {}

  flow(): void {
    const { incoming, outgoing, channel, out } = this.session;
    const numbers = [incoming, WINDOW, outgoing, WINDOW, this.handle, this.deliveryCount, this.credit];
    out.frame(channel, wire.FLOW, ...numbers.map(wire.uintBytes));
  }

  /** Whether a message can go now. */
  get isOpen(): boolean {
    return this.credit > 0 && this.session.remoteWindow > 0 && !this.session.out.isFull;
  }

  send(message: Buffer): void {
    const { session } = this;
    const { out } = session;
    const most = session.maxFrame - TRANSFER.length;
    const id = session.nextId++;
    for (let from = 0; from < message.length; from += most) {
      const to = Math.min(from + most, message.length);
      const length = TRANSFER.length + to - from;
      const at = out.take(length);
      const { slab } = out;
      TRANSFER.copy(slab, at);
      slab.writeUInt32BE(length, at);
      slab.writeUInt16BE(session.channel, at + CHANNEL_AT);
      slab.writeUInt32BE(this.handle, at + HANDLE_AT);
      slab.writeUInt32BE(id, at + ID_AT);
      slab.writeUInt32BE(id, at + TAG_AT);
      if (to === message.length) slab[at + MORE_AT] = 0x42;
      message.copy(slab, at + TRANSFER.length, from, to);
      session.outgoing++;
      session.remoteWindow--;
    }
    this.credit--;
    this.deliveryCount++;
  }
}

/** Messages for those who receive from one address: what has come in, and then one message so many times. */
export class Queue {
  readonly receivers: Link[] = [];
  #waiting: Buffer[] = [];
  #next = 0;
  #fed: Buffer = wire.NULL;
  #left = 0;
  #turn = 0;

  feed(message: Buffer, count: number): void {
    this.#fed = message;
    this.#left = count;
    this.pump();
  }

  put(message: Buffer): void {
    this.#waiting.push(message);
    this.pump();
  }

  pump(): void {
    const { receivers } = this;
    for (let idle = 0; idle < receivers.length; this.#turn++) {
      const link = receivers[this.#turn % receivers.length]!;
      let given = 0;
      for (; given < TURN && link.isOpen; given++) {
        const message = this.#take();
        if (!message) return link.session.out.flushLater();
        link.send(message);
      }
      if (given > 0) link.session.out.flushLater();
      idle = given > 0 ? 0 : idle + 1;
    }
  }

  #take(): Buffer | undefined {
    if (this.#next < this.#waiting.length) return this.#waiting[this.#next++];
    if (this.#next > 0) {
      this.#waiting = [];
      this.#next = 0;
    }
    if (this.#left === 0) return undefined;
    this.#left--;
    return this.#fed;
  }
}
