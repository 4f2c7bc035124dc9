import { MAX_FRAME_SIZE } from './transport';

/** What a field has to be. Narrower types than the specification's are not asked for: rhea gives the same for them. */
type Kind = 'number' | 'text' | 'boolean' | 'binary' | 'map' | 'any' | 'error' | 'state' | 'terminus';

const CODES: Record<'number' | 'text' | 'boolean' | 'binary' | 'map', readonly number[]> = {
  number: [0x43, 0x50, 0x52, 0x60, 0x70],
  text: [0xa1, 0xa3, 0xb1, 0xb3],
  boolean: [0x41, 0x42, 0x56],
  binary: [0xa0, 0xb0],
  map: [0xc1, 0xd1],
};

/** By descriptor, the fields of performatives, outcomes and ends of links (2.7, 3.4, 3.5, 5.3.3). `!`: mandatory. */
const FIELDS = new Map(
  Object.entries({
    0x10: 'text! text number number number any any any any map',
    0x11: 'number number! number! number! number any any map',
    0x12: 'text! number! boolean! number number terminus terminus map boolean number any any any map',
    0x13: 'number number! number! number! number number number number boolean boolean map',
    0x14: 'number! number binary number boolean boolean number state boolean boolean boolean',
    0x15: 'boolean! number! number boolean state boolean',
    0x16: 'number! boolean error',
    0x17: 'error',
    0x18: 'error',
    0x1d: 'text! text map',
    0x23: 'number! any!',
    0x24: '',
    0x25: 'error',
    0x26: '',
    0x27: 'boolean boolean map',
    0x28: 'text number text number boolean map text map state any any',
    0x29: 'text number text number boolean map any',
    0x40: 'any!',
    0x42: 'binary!',
    0x44: 'number! binary',
  }).map(([code, fields]) => [Number(code), fields.split(' ').filter(Boolean)]),
);
/** Of those above, which are found by a name: the others are always sent with a number. */
const NAMES: Record<string, number> = Object.assign(Object.create(null), {
  'amqp:error:list': 0x1d,
  'amqp:received:list': 0x23,
  'amqp:accepted:list': 0x24,
  'amqp:rejected:list': 0x25,
  'amqp:released:list': 0x26,
  'amqp:modified:list': 0x27,
  'amqp:source:list': 0x28,
  'amqp:target:list': 0x29,
});
const HEADER = 0x414d5150;
const HEADER_SIZE = 8;
const MAX_DEPTH = 64;

/**
 * Cuts what a peer sends into frames, and checks them: rhea believes sizes, counts and types, and keeps what it believes
 * (R19, R44). Values have to be whole and no deeper than any use, and fields of the kind that they are specified as.
 */
export class Frames {
  #chunks: Buffer[] = [];
  #length = 0;
  #needed = HEADER_SIZE;

  /** The whole frames that there are now. Throws at one that cannot be. */
  take(chunk: Buffer): Buffer | undefined {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    if (this.#length < this.#needed) return undefined;
    const bytes = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks);
    let at = 0;
    this.#needed = HEADER_SIZE;
    while (bytes.length - at >= HEADER_SIZE) {
      const first = bytes.readUInt32BE(at);
      const size = first === HEADER ? HEADER_SIZE : first;
      if (size < HEADER_SIZE || size > MAX_FRAME_SIZE) throw new Error(`the peer sent a frame of ${size} bytes`);
      this.#needed = size;
      if (bytes.length - at < size) break;
      if (first !== HEADER) new Frame(bytes.subarray(at, at + size)).check();
      at += size;
      this.#needed = HEADER_SIZE;
    }
    this.#chunks = [bytes.subarray(at)];
    this.#length = bytes.length - at;
    return bytes.subarray(0, at);
  }
}

class Frame {
  readonly #bytes: Buffer;
  #at: number;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.#at = 4 * bytes[4]!;
  }

  check(): void {
    if (this.#at < HEADER_SIZE || this.#at > this.#bytes.length) throw wrong('data offset');
    if (this.#at === this.#bytes.length) return;
    const type = this.#bytes[5];
    const code = this.#descriptor(0);
    const isKnown = type === 1 ? code >= 0x40 && code <= 0x44 : type === 0 && code >= 0x10 && code <= 0x18;
    if (!isKnown) throw wrong('performative');
    this.#fields(code, 0);
  }

  #read(width: 1 | 4): number {
    const at = this.#at;
    this.#to(at + width);
    return this.#bytes.readUIntBE(at, width);
  }

  #to(end: number): void {
    if (end > this.#bytes.length) throw wrong('length');
    this.#at = end;
  }

  /** The descriptor's number; -1 when it has none of those above. */
  #descriptor(depth: number): number {
    if (this.#read(1) !== 0) throw wrong('performative');
    const start = this.#at;
    this.#value(depth);
    const bytes = this.#bytes.subarray(start, this.#at);
    if (bytes[0] === 0x53) return bytes[1]!;
    if (bytes[0] === 0x80) return Number(bytes.readBigUInt64BE(1));
    const name = bytes[0] === 0xa3 ? bytes.toString('latin1', 2) : bytes[0] === 0xb3 ? bytes.toString('latin1', 5) : '';
    // rhea looks it up in a plain object.
    if (name in Object.prototype) throw wrong('descriptor');
    return NAMES[name] ?? -1;
  }

  #fields(code: number, depth: number): void {
    const fields = FIELDS.get(code)!;
    const type = this.#read(1);
    if (![0x45, 0xc0, 0xd0].includes(type)) throw wrong('list');
    const width = type === 0xd0 ? 4 : 1;
    const end = type === 0x45 ? this.#at : this.#read(width) + this.#at;
    const count = type === 0x45 ? 0 : this.#read(width);
    if (count > fields.length) throw wrong('number of fields');
    fields.forEach((field, index) => {
      const isMissing = index >= count || this.#bytes[this.#at] === 0x40;
      if (isMissing && field.endsWith('!')) throw wrong('field that is missing');
      if (index < count && isMissing) this.#at++;
      if (!isMissing) this.#field(field.replace('!', '') as Kind, depth + 1);
    });
    if (this.#at !== end) throw wrong('size of a list');
  }

  #field(kind: Kind, depth: number): void {
    const code = this.#bytes[this.#at] ?? -1;
    if (kind === 'any') return this.#value(depth);
    if (kind === 'error' || kind === 'state' || kind === 'terminus') {
      const descriptor = this.#descriptor(depth);
      if (kind === 'error' && descriptor !== 0x1d) throw wrong('error');
      const isKnown =
        kind === 'terminus' ? [0x28, 0x29].includes(descriptor) : descriptor >= 0x1d && descriptor <= 0x27;
      // Others there are, as those of transactions.
      return isKnown && FIELDS.has(descriptor) ? this.#fields(descriptor, depth) : this.#value(depth);
    }
    if (!CODES[kind].includes(code)) throw wrong(kind);
    this.#value(depth);
  }

  #value(depth: number): void {
    if (depth > MAX_DEPTH) throw wrong('depth');
    if (this.#bytes[this.#at] === 0) {
      this.#descriptor(depth + 1);
      return this.#value(depth + 1);
    }
    this.#content(this.#read(1), depth);
  }

  /**
   * rhea makes a property name of each key of a map when the map is read, which may be anywhere. It throws for a map that
   * has a key `toString`, and those of performatives are symbols anyway (2.8.13).
   */
  #entry(isKey: boolean, depth: number): void {
    const code = this.#bytes[this.#at] ?? 0;
    if (isKey && (code === 0 || code >= 0xc0 || code === 0x45)) throw wrong('key of a map');
    this.#value(depth);
  }

  #content(code: number, depth: number): void {
    const width = [0, 1, 2, 4, 8, 16][(code >> 4) - 4];
    if (width !== undefined) return this.#to(this.#at + width);
    const lengthWidth = (code & 0x10) === 0 ? 1 : 4;
    const end = this.#read(lengthWidth) + this.#at;
    if (code < 0xa0 || end > this.#bytes.length) throw wrong('value');
    if (code < 0xc0) return this.#to(end);
    const count = this.#read(lengthWidth);
    const isMap = code === 0xc1 || code === 0xd1;
    // Elements of no width would cost nothing to send.
    if (count > end - this.#at) throw wrong('count');
    if (code < 0xe0) for (let i = 0; i < count; i++) this.#entry(isMap && i % 2 === 0, depth + 1);
    else {
      while (this.#bytes[this.#at] === 0) this.#descriptor(++depth);
      const element = this.#read(1);
      for (let i = 0; i < count; i++) this.#content(element, depth + 1);
    }
    if (this.#at !== end) throw wrong('size');
  }
}

function wrong(what: string): Error {
  return new Error(`the peer sent a frame with a wrong ${what}`);
}
