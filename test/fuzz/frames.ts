// AMQP 1.0 on the wire, for a peer that lies: each value is its bytes, so anything can stand where something else should.
// Knows neither rhea nor the code of nodes/.

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
};
const u64 = (value: bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt.asUintN(64, value));
  return bytes;
};

// Values (part 1)

export const nul = Buffer.of(0x40);
export const emptyList = Buffer.of(0x45);
export const bool = (value: boolean): Buffer => Buffer.of(value ? 0x41 : 0x42);
export const ubyte = (value: number): Buffer => Buffer.of(0x50, value & 0xff);
export const ushort = (value: number): Buffer => Buffer.of(0x60, (value >> 8) & 0xff, value & 0xff);
export const uint = (value: number): Buffer => Buffer.concat([Buffer.of(0x70), u32(value)]);
export const ulong = (value: number | bigint): Buffer => Buffer.concat([Buffer.of(0x80), u64(BigInt(value))]);
export const int = (value: number): Buffer => Buffer.concat([Buffer.of(0x71), u32(value)]);
export const long = (value: number | bigint): Buffer => Buffer.concat([Buffer.of(0x81), u64(BigInt(value))]);
export const double = (value: number): Buffer => {
  const bytes = Buffer.alloc(9, 0x82);
  bytes.writeDoubleBE(value, 1);
  return bytes;
};
/** A type whose content has a width given by its code. */
export const fixed = (code: number, byte: number): Buffer =>
  Buffer.concat([Buffer.of(code), Buffer.alloc([0, 1, 2, 4, 8, 16][(code >> 4) - 4] ?? 0, byte)]);

const variable = (code8: number, content: Buffer): Buffer =>
  content.length < 0x100
    ? Buffer.concat([Buffer.of(code8, content.length), content])
    : Buffer.concat([Buffer.of(code8 + 0x10), u32(content.length), content]);

export const binary = (content: Buffer): Buffer => variable(0xa0, content);
export const str = (text: string | Buffer): Buffer => variable(0xa1, Buffer.from(text));
export const sym = (text: string | Buffer): Buffer => variable(0xa3, Buffer.from(text));

/** What a compound value says of itself, where that is not true. */
export interface Lie {
  size?: number;
  count?: number;
}

const compound = (code: number, count: number, content: Buffer, lie: Lie): Buffer =>
  Buffer.concat([Buffer.of(code), u32(lie.size ?? content.length + 4), u32(lie.count ?? count), content]);

export const list = (items: Buffer[], lie: Lie = {}): Buffer => compound(0xd0, items.length, Buffer.concat(items), lie);
export const map = (items: Buffer[], lie: Lie = {}): Buffer => compound(0xd1, items.length, Buffer.concat(items), lie);
/** `constructor` is that of all elements, which are their bare contents. */
export const array = (constructor: Buffer, elements: Buffer[], lie: Lie = {}): Buffer =>
  compound(0xf0, elements.length, Buffer.concat([constructor, ...elements]), lie);
export const symbols = (...names: string[]): Buffer =>
  array(
    Buffer.of(0xb3),
    names.map((name) => Buffer.concat([u32(Buffer.byteLength(name)), Buffer.from(name)])),
  );
export const described = (descriptor: Buffer, value: Buffer): Buffer =>
  Buffer.concat([Buffer.of(0x00), descriptor, value]);
export const composite = (code: number, fields: Buffer[]): Buffer =>
  described(Buffer.of(0x53, code), fields.length === 0 ? emptyList : list(fields));

// Frames (part 2)

export const [OPEN, BEGIN, ATTACH, FLOW, TRANSFER] = [0x10, 0x11, 0x12, 0x13, 0x14] as const;
export const [DISPOSITION, DETACH, END, CLOSE] = [0x15, 0x16, 0x17, 0x18] as const;
export const [MECHANISMS, INIT, CHALLENGE, OUTCOME] = [0x40, 0x41, 0x42, 0x44] as const;

export const protocolHeader = (id: number, major = 1, minor = 0, revision = 0): Buffer =>
  Buffer.concat([Buffer.from('AMQP'), Buffer.of(id, major, minor, revision)]);

/** What goes into a frame. */
export interface Plan {
  code: number;
  channel?: number;
  fields: Buffer[];
  payload?: Buffer;
}

/** A frame of any content. SASL's performatives, and only these, are in frames of type 1. */
export function frame(channel: number, body: Buffer, type = 0): Buffer {
  const head = Buffer.of(2, type, (channel >> 8) & 0xff, channel & 0xff);
  return Buffer.concat([u32(body.length + 8), head, body]);
}

export const typeOf = (code: number): number => (code >= MECHANISMS ? 1 : 0);

export const write = ({ code, channel = 0, fields, payload = Buffer.alloc(0) }: Plan): Buffer =>
  frame(channel, Buffer.concat([composite(code, fields), payload]), typeOf(code));

// What the other side says: it is under test and writes what is right, so nothing is expected to be wrong

export interface Frame {
  /** Of the performative; absent in an empty frame; of a protocol header its id. */
  code?: number;
  isHeader: boolean;
  channel: number;
  fields: unknown[];
  /** In bytes. */
  size: number;
  /** What follows the performative. */
  payload: Buffer;
}

/** Cuts a stream into frames. */
export class FrameReader {
  #rest = Buffer.alloc(0);

  read(chunk: Buffer): Frame[] {
    const bytes = Buffer.concat([this.#rest, chunk]);
    const frames: Frame[] = [];
    let at = 0;
    while (bytes.length - at >= 8) {
      const isHeader = bytes.toString('latin1', at, at + 4) === 'AMQP';
      const size = isHeader ? 8 : bytes.readUInt32BE(at);
      if (bytes.length - at < size) break;
      const body = bytes.subarray(at + 8, at + size);
      if (isHeader) frames.push({ isHeader, code: bytes[at + 4], channel: 0, fields: [], size, payload: body });
      else frames.push({ isHeader, channel: bytes.readUInt16BE(at + 6), size, ...bodyOf(body) });
      at += size;
    }
    this.#rest = bytes.subarray(at);
    return frames;
  }
}

function bodyOf(bytes: Buffer): Pick<Frame, 'code' | 'fields' | 'payload'> {
  if (bytes.length === 0) return { fields: [], payload: bytes };
  const [body, end] = read(bytes, 0);
  const { descriptor, value } = body as { descriptor: number; value: unknown[] };
  return { code: descriptor, fields: value, payload: bytes.subarray(end) };
}

/** The value at an offset, and where the next one begins. Arrays are given as their bytes. */
function read(bytes: Buffer, at: number): [value: unknown, end: number] {
  const code = bytes[at]!;
  const start = at + 1;
  if (code === 0x00) {
    const [descriptor, middle] = read(bytes, start);
    const [value, end] = read(bytes, middle);
    return [{ descriptor, value }, end];
  }
  const width = [0, 1, 2, 4, 8, 16][(code >> 4) - 4];
  if (width !== undefined) return [fixedOf(code, bytes.subarray(start, start + width)), start + width];
  const lengthWidth = (code & 0x10) === 0 ? 1 : 4;
  const content = start + lengthWidth;
  const end = content + bytes.readUIntBE(start, lengthWidth);
  const slice = bytes.subarray(content, end);
  if (code < 0xc0) return [(code & 0x0f) === 0 ? slice : slice.toString(), end];
  if (code >= 0xe0) return [slice, end];
  const items: unknown[] = [];
  for (let next = content + lengthWidth; next < end;) {
    const [item, after] = read(bytes, next);
    items.push(item);
    next = after;
  }
  return [items, end];
}

function fixedOf(code: number, bytes: Buffer): unknown {
  if (code === 0x45) return [];
  if (code === 0x40) return null;
  if (code === 0x41 || code === 0x42) return code === 0x41;
  if (code === 0x80) return Number(bytes.readBigUInt64BE());
  return bytes.length > 6 ? bytes : bytes.length === 0 ? 0 : bytes.readUIntBE(0, bytes.length);
}
