// As much of AMQP 1.0 as the peer of the benchmarks needs, and no more per message than can be helped. Shares no code
// with nodes/.

export const header = (protocol: number): Buffer => Buffer.from([0x41, 0x4d, 0x51, 0x50, protocol, 1, 0, 0]);
export const NULL = Buffer.of(0x40);
export const TRUE = Buffer.of(0x41);
export const FALSE = Buffer.of(0x42);
export const ACCEPTED = Buffer.of(0x00, 0x53, 0x24, 0x45);

export function uint(value: number): Buffer {
  const bytes = Buffer.alloc(5, 0x70);
  bytes.writeUInt32BE(value, 1);
  return bytes;
}

export function text(value: string, code = 0xb1): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.of(code), uint(bytes.length).subarray(1), bytes]);
}

export function list(descriptor: number, ...fields: Buffer[]): Buffer {
  const content = Buffer.concat(fields);
  const head = Buffer.alloc(12);
  head.set([0x00, 0x53, descriptor, 0xd0]);
  head.writeUInt32BE(content.length + 4, 4);
  head.writeUInt32BE(fields.length, 8);
  return Buffer.concat([head, content]);
}

export function frame(type: number, channel: number, ...body: Buffer[]): Buffer {
  const head = Buffer.alloc(8);
  const bytes = Buffer.concat([head, ...body]);
  bytes.writeUInt32BE(bytes.length);
  bytes[4] = 2;
  bytes[5] = type;
  bytes.writeUInt16BE(channel, 6);
  return bytes;
}

/** Where the value ends that begins here. */
export function endOf(bytes: Buffer, at: number): number {
  const code = bytes[at]!;
  if (code === 0x00) return endOf(bytes, endOf(bytes, at + 1));
  const width = [0, 1, 2, 4, 8, 16][(code >> 4) - 4];
  if (width !== undefined) return at + 1 + width;
  return (code & 0x10) === 0 ? at + 2 + bytes[at + 1]! : at + 5 + bytes.readUInt32BE(at + 1);
}

/** The fields of the list that begins here, each as its bytes. */
export function fieldsAt(bytes: Buffer, start: number): Buffer[] {
  if (bytes[start] === 0x45) return [];
  const isShort = bytes[start] === 0xc0;
  const count = isShort ? bytes[start + 2]! : bytes.readUInt32BE(start + 5);
  const fields: Buffer[] = [];
  let at = start + (isShort ? 3 : 9);
  for (let index = 0; index < count; index++) {
    const end = endOf(bytes, at);
    fields.push(bytes.subarray(at, end));
    at = end;
  }
  return fields;
}

export function numberAt(bytes: Buffer | undefined, at = 0): number | undefined {
  switch (bytes?.[at]) {
    case 0x43:
      return 0;
    case 0x52:
      return bytes[at + 1];
    case 0x60:
      return bytes.readUInt16BE(at + 1);
    case 0x70:
      return bytes.readUInt32BE(at + 1);
    default:
      return undefined;
  }
}

export function textIn(field: Buffer | undefined): string | undefined {
  if (field?.[0] === 0xa1) return field.toString('utf8', 2);
  return field?.[0] === 0xb1 ? field.toString('utf8', 5) : undefined;
}

/** A transfer with all that follows it, but for its ids, which are to be written at the places returned. */
export function transferTo(
  channel: number,
  handle: number,
  payload: Buffer,
): { bytes: Buffer; id: number; tag: number } {
  const tag = Buffer.concat([Buffer.of(0xa0, 4), uint(0).subarray(1)]);
  const bytes = frame(0, channel, list(0x14, uint(handle), uint(0), tag, Buffer.of(0x43), FALSE, FALSE), payload);
  return { bytes, id: 8 + 12 + 5 + 1, tag: 8 + 12 + 10 + 2 };
}
