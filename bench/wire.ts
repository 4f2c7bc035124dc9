// What the peer knows of AMQP's encoding. It shares no code with nodes/, or both would agree on the same mistake.

/** Where the value after the one at `at` begins. */
export function skip(bytes: Buffer, at: number): number {
  const code = bytes[at]!;
  switch (code >> 4) {
    case 0:
      return skip(bytes, skip(bytes, at + 1));
    case 4:
      return at + 1;
    case 5:
      return at + 2;
    case 6:
      return at + 3;
    case 7:
      return at + 5;
    case 8:
      return at + 9;
    case 9:
      return at + 17;
    case 0xa:
    case 0xc:
    case 0xe:
      return at + 2 + bytes[at + 1]!;
    default:
      return at + 5 + bytes.readUInt32BE(at + 1);
  }
}

/** Fields of the list that `fieldsOf` has read last, as places of their values. */
const places = new Int32Array(32);
let count = 0;

/** Reads where the fields of a list begin, the first `most` of them. */
export function fieldsOf(bytes: Buffer, list: number, most: number): void {
  const code = bytes[list];
  const isSmall = code === 0xc0;
  const length = code === 0x45 ? 0 : isSmall ? bytes[list + 2]! : bytes.readUInt32BE(list + 5);
  count = Math.min(length, most, places.length);
  for (let n = 0, at = list + (isSmall ? 3 : 9); n < count; n++, at = skip(bytes, at)) places[n] = at;
}

/** The place of a field, or -1 where it is missing or null. */
export function place(bytes: Buffer, n: number): number {
  return n < count && bytes[places[n]!] !== 0x40 ? places[n]! : -1;
}

export function uint(bytes: Buffer, n: number, missing = 0): number {
  const at = place(bytes, n);
  if (at < 0) return missing;
  switch (bytes[at]) {
    case 0x43:
      return 0;
    case 0x50:
    case 0x52:
      return bytes[at + 1]!;
    case 0x60:
      return bytes.readUInt16BE(at + 1);
    default:
      return bytes.readUInt32BE(at + 1);
  }
}

export function flag(bytes: Buffer, n: number): boolean {
  const at = place(bytes, n);
  return at >= 0 && (bytes[at] === 0x41 || (bytes[at] === 0x56 && bytes[at + 1] === 1));
}

/** A string, symbol or binary. */
export function text(bytes: Buffer, n: number): string | undefined {
  const at = place(bytes, n);
  if (at < 0) return undefined;
  return bytes.toString('latin1', at + (bytes[at]! & 0x10 ? 5 : 2), skip(bytes, at));
}

/** The bytes of a field as they are, null where it is missing. */
export function raw(bytes: Buffer, n: number): Buffer {
  const at = place(bytes, n);
  return at < 0 ? NULL : Buffer.from(bytes.subarray(at, skip(bytes, at)));
}

export const NULL = Buffer.of(0x40);
export const TRUE = Buffer.of(0x41);
export const FALSE = Buffer.of(0x42);

export const OPEN = 0x10;
export const BEGIN = 0x11;
export const ATTACH = 0x12;
export const FLOW = 0x13;
export const TRANSFER = 0x14;
export const DISPOSITION = 0x15;
export const DETACH = 0x16;
export const END = 0x17;
export const CLOSE = 0x18;
export const SOURCE = 0x28;
export const SASL_MECHANISMS = 0x40;
export const SASL_INIT = 0x41;
export const SASL_OUTCOME = 0x44;

export function uintBytes(value: number): Buffer {
  const bytes = Buffer.alloc(5, 0x70);
  bytes.writeUInt32BE(value, 1);
  return bytes;
}

export function ushortBytes(value: number): Buffer {
  return Buffer.of(0x60, value >> 8, value & 0xff);
}

export function stringBytes(value: string): Buffer {
  return Buffer.concat([Buffer.of(0xb1), uintBytes(Buffer.byteLength(value)).subarray(1), Buffer.from(value)]);
}

/** An array of symbols. */
export function symbolsBytes(...names: string[]): Buffer {
  const all = Buffer.concat(names.map((name) => Buffer.from(String.fromCharCode(name.length) + name)));
  const sizes = [all.length + 5, names.length].map((n) => uintBytes(n).subarray(1));
  return Buffer.concat([Buffer.of(0xf0), ...sizes, Buffer.of(0xa3), all]);
}

export function described(code: number, ...fields: Buffer[]): Buffer {
  const body = Buffer.concat(fields);
  const head = Buffer.of(0, 0x53, code, 0xd0, 0, 0, 0, 0, 0, 0, 0, 0);
  head.writeUInt32BE(body.length + 4, 4);
  head.writeUInt32BE(fields.length, 8);
  return Buffer.concat([head, body]);
}

export function frame(channel: number, body: Buffer, type: 'amqp' | 'sasl' = 'amqp'): Buffer {
  const head = Buffer.of(0, 0, 0, 0, 2, type === 'sasl' ? 1 : 0, channel >> 8, channel & 0xff);
  head.writeUInt32BE(8 + body.length);
  return Buffer.concat([head, body]);
}

/** The sections of a message with a body of so many bytes: a string up to 100, else a section of data. */
export function message(size: number): Buffer {
  if (size <= 100) return Buffer.concat([Buffer.of(0, 0x53, 0x77, 0xa1, size), Buffer.alloc(size, 'x')]);
  return Buffer.concat([Buffer.of(0, 0x53, 0x75, 0xb0), uintBytes(size).subarray(1), Buffer.alloc(size, 'x')]);
}

const PROPERTIES = 0x73;
const APPLICATION_PROPERTIES = 0x74;

/** The address that the reply to a message goes to, and the reply: with the correlation id of the request, and its body. */
export function replyTo(bytes: Buffer): { address: string; reply: Buffer } | undefined {
  let at = 0;
  while (at < bytes.length && bytes[at + 2]! < PROPERTIES) at = skip(bytes, at);
  if (bytes[at + 2] !== PROPERTIES) return undefined;
  fieldsOf(bytes, at + 3, 6);
  const address = text(bytes, 4);
  if (address === undefined) return undefined;
  const id = raw(bytes, place(bytes, 5) < 0 ? 0 : 5);
  const properties = described(PROPERTIES, NULL, NULL, NULL, NULL, NULL, id);
  let body = skip(bytes, at);
  while (body < bytes.length && bytes[body + 2] === APPLICATION_PROPERTIES) body = skip(bytes, body);
  return { address, reply: Buffer.concat([properties, bytes.subarray(body)]) };
}
