// Messages as bytes: the broker reads no more of them than it needs, and changes nothing but the delivery count.
import rhea, { type Message, type Typed } from 'rhea';

const { Reader, Writer } = rhea.types as unknown as {
  Reader: new (bytes: Buffer) => {
    position: number;
    remaining(): number;
    read_uint(width: number): number;
    read(): Typed;
  };
  Writer: new () => { write(value: Typed): void; toBuffer(): Buffer };
};

const SECTIONS = [
  'amqp:header:list',
  'amqp:delivery-annotations:map',
  'amqp:message-annotations:map',
  'amqp:properties:list',
];

/** Reads the sections before the body as far as the broker needs them; the body is never touched. */
export function inspect(bytes: Buffer): {
  header: Typed[];
  headerEnd: number;
  to?: string;
  id?: unknown;
  replyTo?: string;
  typedId?: Typed;
} {
  const seen: ReturnType<typeof inspect> = { header: [], headerEnd: 0 };
  const reader = new Reader(bytes);
  try {
    while (reader.remaining() && reader.read_uint(1) === 0) {
      const descriptor: unknown = reader.read().value;
      const section = typeof descriptor === 'number' ? descriptor - 0x70 : SECTIONS.indexOf(String(descriptor));
      if (section < 0 || section >= SECTIONS.length) break;
      const fields = reader.read().value as Typed[];
      if (section === 0) {
        seen.header = fields;
        seen.headerEnd = reader.position;
      } else if (section === 3) {
        seen.typedId = fields[0];
        seen.id = fields[0]?.value ?? undefined;
        seen.to = fields[2]?.value ?? undefined;
        seen.replyTo = fields[4]?.value ?? undefined;
      }
    }
  } catch {
    // not our business: whoever reads the message has to cope with its bytes
  }
  return seen;
}

/** The message with its failed deliveries added to the header's delivery-count; all other bytes as they came. */
export function recount(bytes: Buffer, failures: number): Buffer {
  if (failures === 0) return bytes;
  const { header, headerEnd } = inspect(bytes);
  const fields = [...header];
  fields[4] = rhea.types.wrap_uint((header[4]?.value ?? 0) + failures);
  const writer = new Writer();
  writer.write(rhea.types.described(rhea.types.wrap_ulong(0x70), rhea.types.wrap_list(fields)));
  return Buffer.concat([writer.toBuffer(), bytes.subarray(headerEnd)]);
}

export function decode(bytes: Buffer): Message | undefined {
  try {
    return rhea.message.decode(bytes) as unknown as Message;
  } catch {
    return undefined;
  }
}
