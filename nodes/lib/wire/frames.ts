import { CODE, DESCRIPTOR, DESCRIPTOR_OF } from '../codec/codes';
import { MAX_FRAME_SIZE } from './transport';

/** What a field has to be. Narrower types than the specification's are not asked for: rhea gives the same for them. */
type Kind = 'number' | 'text' | 'boolean' | 'binary' | 'map' | 'any' | 'error' | 'state' | 'terminus';

const CODES: Record<'number' | 'text' | 'boolean' | 'binary' | 'map', readonly number[]> = {
  number: [CODE.uint0, CODE.ubyte, CODE.uint8, CODE.ushort, CODE.uint],
  text: [CODE.string8, CODE.symbol8, CODE.string, CODE.symbol],
  boolean: [CODE.true, CODE.false, CODE.boolean],
  binary: [CODE.binary8, CODE.binary],
  map: [CODE.map8, CODE.map],
};

/** Fields by descriptor (2.7, 3.4, 3.5, 5.3.3). `!`: mandatory. */
const FIELDS = new Map(
  Object.entries({
    [DESCRIPTOR.open]: 'text! text number number number any any any any map',
    [DESCRIPTOR.begin]: 'number number! number! number! number any any map',
    [DESCRIPTOR.attach]: 'text! number! boolean! number number terminus terminus map boolean number any any any map',
    [DESCRIPTOR.flow]: 'number number! number! number! number number number number boolean boolean map',
    [DESCRIPTOR.transfer]: 'number! number binary number boolean boolean number state boolean boolean boolean',
    [DESCRIPTOR.disposition]: 'boolean! number! number boolean state boolean',
    [DESCRIPTOR.detach]: 'number! boolean error',
    [DESCRIPTOR.end]: 'error',
    [DESCRIPTOR.close]: 'error',
    [DESCRIPTOR.error]: 'text! text map',
    [DESCRIPTOR.received]: 'number! any!',
    [DESCRIPTOR.accepted]: '',
    [DESCRIPTOR.rejected]: 'error',
    [DESCRIPTOR.released]: '',
    [DESCRIPTOR.modified]: 'boolean boolean map',
    [DESCRIPTOR.source]: 'text number text number boolean map text map state any any',
    [DESCRIPTOR.target]: 'text number text number boolean map any',
    [DESCRIPTOR.saslMechanisms]: 'any!',
    [DESCRIPTOR.saslInit]: 'text! binary text',
    [DESCRIPTOR.saslChallenge]: 'binary!',
    [DESCRIPTOR.saslResponse]: 'binary!',
    [DESCRIPTOR.saslOutcome]: 'number! binary',
  }).map(([code, fields]) => [Number(code), fields.split(' ').filter(Boolean)]),
);
const HEADER = 0x414d5150;
const HEADER_SIZE = 8;
const MAX_DEPTH = 64;
const NOTHING = Buffer.alloc(0);

/** A frame of a message (2.7.5). */
export interface Transfer {
  handle: number;
  deliveryId: number | undefined;
  /** In hexadecimal, as flows see it. */
  tag: string | undefined;
  format: number | undefined;
  isSettled: boolean;
  more: boolean;
  isAborted: boolean;
  payload: Buffer;
}

/** What became of deliveries (2.7.6). */
export interface Disposition {
  /** True: they were sent by us. */
  role: boolean;
  first: number;
  last: number;
  isSettled: boolean;
  state: State | undefined;
}

/** The state of a delivery, encoded and checked. */
export interface State {
  /** Undefined for one that is neither of messaging (3.4) nor of transactions (4.5). */
  descriptor: number | undefined;
  bytes: Buffer;
}

/** The windows of the peer's session, and the state of one of its links (2.7.4). */
export interface Flow {
  nextIncomingId: number | undefined;
  incomingWindow: number;
  nextOutgoingId: number;
  handle: number | undefined;
  deliveryCount: number | undefined;
  credit: number | undefined;
  drain: boolean;
  echo: boolean;
}

/** What takes the frames of messages on one session. */
export interface MessageFrames {
  onTransfer(transfer: Transfer): void;
  onDisposition(disposition: Disposition): void;
  onFlow(flow: Flow): void;
}

/** Where frames go, once they are whole and checked. */
export interface FramesUser {
  /** Who takes the frames of messages on the channel, which is the peer's. */
  sessionOf(channel: number): MessageFrames | undefined;
  /** All other frames, one or several, in order with those of messages. */
  others(bytes: Buffer): void;
  /** Nothing more is taken. */
  readonly isOver: boolean;
}

/**
 * Cuts what a peer sends into frames, and looks at each once: rhea believes sizes, counts and types, and keeps what it
 * believes (R19, R44), so values have to be whole and no deeper than any use, and fields of the kind that they are
 * specified as. Frames of messages are read on the way, and do not come to rhea.
 */
export class Frames {
  readonly #user: FramesUser;
  readonly #frame = new Frame();
  #chunks: Buffer[] = [];
  #length = 0;
  #needed = HEADER_SIZE;

  constructor(user: FramesUser) {
    this.#user = user;
  }

  /** Hands on the whole frames that there are now. Throws at one that cannot be. */
  take(chunk: Buffer): void {
    let rest = chunk;
    // Only the frame that has begun is put together: the others are read where they are.
    while (this.#length > 0 && rest.length > 0 && !this.#user.isOver) {
      const part = rest.subarray(0, this.#needed - this.#length);
      rest = rest.subarray(part.length);
      this.#chunks.push(part);
      this.#length += part.length;
      if (this.#length < this.#needed) return;
      const begun = Buffer.concat(this.#chunks, this.#length);
      this.#chunks = [];
      this.#length = 0;
      this.#read(begun);
    }
    if (rest.length > 0 && !this.#user.isOver) this.#read(rest);
  }

  #read(bytes: Buffer): void {
    let at = 0;
    /** Where those begin that are for others. */
    let start = 0;
    this.#needed = HEADER_SIZE;
    while (bytes.length - at >= HEADER_SIZE) {
      const first = bytes.readUInt32BE(at);
      const size = first === HEADER ? HEADER_SIZE : first;
      if (size < HEADER_SIZE || size > MAX_FRAME_SIZE) throw new Error(`the peer sent a frame of ${size} bytes`);
      this.#needed = size;
      const next = at + size;
      if (next > bytes.length) break;
      if (first !== HEADER) {
        const code = this.#frame.open(bytes, at, next);
        if (code >= DESCRIPTOR.flow && code <= DESCRIPTOR.disposition) {
          // What is before it comes first: its session may begin there.
          if (start < at) this.#user.others(bytes.subarray(start, at));
          if (this.#user.isOver) return;
          const session = this.#user.sessionOf(bytes.readUInt16BE(at + 6));
          if (!session) throw new Error('the peer sent a message on a channel without session');
          this.#hand(code, session);
          if (this.#user.isOver) return;
          start = next;
        } else {
          this.#frame.check(code);
          // What is behind it may have to wait for the login.
          if (code >= DESCRIPTOR.saslMechanisms) {
            this.#user.others(bytes.subarray(start, next));
            if (this.#user.isOver) return;
            start = next;
          }
        }
      }
      at = next;
      this.#needed = HEADER_SIZE;
    }
    this.#chunks = at === bytes.length ? [] : [bytes.subarray(at)];
    this.#length = bytes.length - at;
    // Without anything rhea would take the connection for idle.
    if (at > 0) this.#user.others(start < at ? bytes.subarray(start, at) : NOTHING);
  }

  #hand(code: number, session: MessageFrames): void {
    if (code === DESCRIPTOR.transfer) session.onTransfer(this.#frame.transfer());
    else if (code === DESCRIPTOR.disposition) session.onDisposition(this.#frame.disposition());
    else session.onFlow(this.#frame.flow());
  }
}

/** Reads one frame after the other. */
class Frame {
  #bytes: Buffer = NOTHING;
  #at = 0;
  #end = 0;
  /** Of the list that was begun last. */
  #listEnd = 0;

  /** Begins with the frame in these bytes. Returns the descriptor of its performative; 0 when it has none. */
  open(bytes: Buffer, start: number, end: number): number {
    this.#bytes = bytes;
    this.#end = end;
    const offset = 4 * bytes[start + 4]!;
    this.#at = start + offset;
    if (offset < HEADER_SIZE || this.#at > end) throw wrong('data offset');
    if (this.#at === end) return 0;
    const code = this.#descriptor(0);
    const type = bytes[start + 5];
    const isKnown =
      type === 1
        ? code >= DESCRIPTOR.saslMechanisms && code <= DESCRIPTOR.saslOutcome
        : type === 0 && code >= DESCRIPTOR.open && code <= DESCRIPTOR.close;
    if (!isKnown) throw wrong('performative');
    return code;
  }

  /** Checks the rest of the frame. */
  check(code: number): void {
    if (code !== 0) this.#fields(code, 0);
  }

  transfer(): Transfer {
    const count = this.#list(11);
    const end = this.#listEnd;
    const handle = this.#mandatory(this.#number(count > 0));
    const deliveryId = this.#number(count > 1);
    const tag = this.#hex(count > 2);
    const format = this.#number(count > 3);
    const isSettled = this.#boolean(count > 4) === true;
    const more = this.#boolean(count > 5) === true;
    this.#number(count > 6);
    this.#state(count > 7);
    this.#boolean(count > 8);
    const isAborted = this.#boolean(count > 9) === true;
    this.#boolean(count > 10);
    this.#closeList(end);
    const payload = this.#bytes.subarray(this.#at, this.#end);
    return { handle, deliveryId, tag, format, isSettled, more, isAborted, payload };
  }

  disposition(): Disposition {
    const count = this.#list(6);
    const end = this.#listEnd;
    const role = this.#mandatory(this.#boolean(count > 0));
    const first = this.#mandatory(this.#number(count > 1));
    const last = this.#number(count > 2) ?? first;
    const isSettled = this.#boolean(count > 3) === true;
    const state = this.#state(count > 4);
    this.#boolean(count > 5);
    this.#closeList(end);
    return { role, first, last, isSettled, state };
  }

  flow(): Flow {
    const count = this.#list(11);
    const end = this.#listEnd;
    const nextIncomingId = this.#number(count > 0);
    const incomingWindow = this.#mandatory(this.#number(count > 1));
    const nextOutgoingId = this.#mandatory(this.#number(count > 2));
    this.#mandatory(this.#number(count > 3));
    const handle = this.#number(count > 4);
    const deliveryCount = this.#number(count > 5);
    const credit = this.#number(count > 6);
    this.#number(count > 7);
    const drain = this.#boolean(count > 8) === true;
    const echo = this.#boolean(count > 9) === true;
    if (count > 10 && !this.#isNull()) this.#field('map', 1);
    this.#closeList(end);
    return { nextIncomingId, incomingWindow, nextOutgoingId, handle, deliveryCount, credit, drain, echo };
  }

  /** Begins with a list of at most so many fields. Returns how many there are. */
  #list(most: number): number {
    const type = this.#byte();
    let count = 0;
    if (type === CODE.list0) this.#listEnd = this.#at;
    else if (type === CODE.list8) {
      this.#listEnd = this.#byte() + this.#at;
      count = this.#byte();
    } else if (type === CODE.list) {
      this.#listEnd = this.#word() + this.#at;
      count = this.#word();
    } else throw wrong('list');
    if (count > most) throw wrong('number of fields');
    if (this.#listEnd > this.#end) throw wrong('length');
    return count;
  }

  #closeList(end: number): void {
    if (this.#at !== end) throw wrong('size of a list');
  }

  #mandatory<V>(value: V | undefined): V {
    if (value === undefined) throw wrong('field that is missing');
    return value;
  }

  #isNull(): boolean {
    if (this.#bytes[this.#at] !== CODE.null) return false;
    this.#to(this.#at + 1);
    return true;
  }

  #number(isThere: boolean): number | undefined {
    if (!isThere) return undefined;
    switch (this.#byte()) {
      case CODE.null:
        return undefined;
      case CODE.uint0:
        return 0;
      case CODE.ubyte:
      case CODE.uint8:
        return this.#byte();
      case CODE.ushort:
        return this.#byte() * 256 + this.#byte();
      case CODE.uint:
        return this.#word();
      default:
        throw wrong('number');
    }
  }

  #boolean(isThere: boolean): boolean | undefined {
    if (!isThere) return undefined;
    switch (this.#byte()) {
      case CODE.null:
        return undefined;
      case CODE.true:
        return true;
      case CODE.false:
        return false;
      case CODE.boolean:
        return this.#byte() !== 0;
      default:
        throw wrong('boolean');
    }
  }

  #hex(isThere: boolean): string | undefined {
    if (!isThere || this.#isNull()) return undefined;
    const code = this.#byte();
    if (code !== CODE.binary8 && code !== CODE.binary) throw wrong('binary');
    const length = code === CODE.binary8 ? this.#byte() : this.#word();
    const start = this.#at;
    this.#to(start + length);
    return this.#bytes.toString('hex', start, this.#at);
  }

  #state(isThere: boolean): State | undefined {
    if (!isThere || this.#isNull()) return undefined;
    const start = this.#at;
    const descriptor = this.#field('state', 1);
    const isKnown = descriptor !== undefined && isOfDelivery(descriptor);
    return { descriptor: isKnown ? descriptor : undefined, bytes: this.#bytes.subarray(start, this.#at) };
  }

  #byte(): number {
    const at = this.#at;
    this.#to(at + 1);
    return this.#bytes[at]!;
  }

  #word(): number {
    const at = this.#at;
    this.#to(at + 4);
    return this.#bytes.readUInt32BE(at);
  }

  #to(end: number): void {
    if (end > this.#end) throw wrong('length');
    this.#at = end;
  }

  /** The descriptor's number; -1 when it has none of those above. */
  #descriptor(depth: number): number {
    if (this.#byte() !== CODE.described) throw wrong('performative');
    const start = this.#at;
    if (this.#bytes[start] === CODE.ulong8) {
      this.#to(start + 2);
      return this.#bytes[start + 1]!;
    }
    this.#value(depth);
    const bytes = this.#bytes.subarray(start, this.#at);
    if (bytes[0] === CODE.ulong) return Number(bytes.readBigUInt64BE(1));
    const name =
      bytes[0] === CODE.symbol8
        ? bytes.toString('latin1', 2)
        : bytes[0] === CODE.symbol
          ? bytes.toString('latin1', 5)
          : '';
    // R86: rhea looks it up in a plain object.
    if (name in Object.prototype) throw wrong('descriptor');
    return DESCRIPTOR_OF[name] ?? -1;
  }

  #fields(code: number, depth: number): void {
    const fields = FIELDS.get(code)!;
    const count = this.#list(fields.length);
    const end = this.#listEnd;
    fields.forEach((field, index) => {
      const isMissing = index >= count || this.#bytes[this.#at] === CODE.null;
      if (isMissing && field.endsWith('!')) throw wrong('field that is missing');
      if (index < count && isMissing) this.#at++;
      if (!isMissing) this.#field(field.replace('!', '') as Kind, depth + 1);
    });
    this.#closeList(end);
  }

  /** Returns the descriptor of what is described. */
  #field(kind: Kind, depth: number): number | undefined {
    if (kind === 'any') this.#value(depth);
    else if (kind === 'error' || kind === 'state' || kind === 'terminus') {
      const descriptor = this.#descriptor(depth);
      if (kind === 'error' && descriptor !== DESCRIPTOR.error) throw wrong('error');
      const isKnown =
        kind === 'terminus'
          ? descriptor === DESCRIPTOR.source || descriptor === DESCRIPTOR.target
          : descriptor >= DESCRIPTOR.error && descriptor <= DESCRIPTOR.modified;
      // Others there are, as those of transactions.
      if (isKnown && FIELDS.has(descriptor)) this.#fields(descriptor, depth);
      else this.#value(depth);
      return descriptor;
    } else {
      if (!CODES[kind].includes(this.#bytes[this.#at] ?? -1)) throw wrong(kind);
      this.#value(depth);
    }
    return undefined;
  }

  #value(depth: number): void {
    if (depth > MAX_DEPTH) throw wrong('depth');
    if (this.#bytes[this.#at] === 0) {
      this.#descriptor(depth + 1);
      return this.#value(depth + 1);
    }
    this.#content(this.#byte(), depth);
  }

  /**
   * R86: rhea makes a property name of each key of a map when the map is read, which may be anywhere. It throws for a
   * map that has a key `toString`, and those of performatives are symbols anyway (2.8.13).
   */
  #entry(isKey: boolean, depth: number): void {
    const code = this.#bytes[this.#at] ?? 0;
    if (isKey && (code === 0 || code >= 0xc0 || code === CODE.list0)) throw wrong('key of a map');
    this.#value(depth);
  }

  #content(code: number, depth: number): void {
    const width = [0, 1, 2, 4, 8, 16][(code >> 4) - 4];
    if (width !== undefined) return this.#to(this.#at + width);
    const isShort = (code & 0x10) === 0;
    const end = (isShort ? this.#byte() : this.#word()) + this.#at;
    if (code < 0xa0 || end > this.#end) throw wrong('value');
    if (code < 0xc0) return this.#to(end);
    const count = isShort ? this.#byte() : this.#word();
    const isMap = code === CODE.map8 || code === CODE.map;
    // Elements of no width would cost nothing to send.
    if (count > end - this.#at) throw wrong('count');
    if (code < 0xe0) for (let i = 0; i < count; i++) this.#entry(isMap && i % 2 === 0, depth + 1);
    else {
      while (this.#bytes[this.#at] === 0) this.#descriptor(++depth);
      const element = this.#byte();
      for (let i = 0; i < count; i++) this.#content(element, depth + 1);
    }
    if (this.#at !== end) throw wrong('size');
  }
}

function isOfDelivery(descriptor: number): boolean {
  const isOfMessaging = descriptor >= DESCRIPTOR.received && descriptor <= DESCRIPTOR.modified;
  return isOfMessaging || descriptor === DESCRIPTOR.declared || descriptor === DESCRIPTOR.transactional;
}

function wrong(what: string): Error {
  return new Error(`the peer sent a frame with a wrong ${what}`);
}
