// Messages as the services see them: they read and write header, annotations and application properties, with all types
// kept, and never look into the body.
import rhea, { type Typed } from 'rhea';

const { Reader, Writer, ...types } = rhea.types as unknown as {
  Reader: new (bytes: Buffer) => { position: number; remaining(): number; read(): Typed & { descriptor?: Typed } };
  Writer: new () => { write(value: Typed): void; toBuffer(): Buffer };
} & typeof rhea.types;

/** The message format of a batch: each of its data sections is a message. */
export const BATCH = 0x80013700;

const HEADER = 0x70;
const DELIVERY_ANNOTATIONS = 0x71;
const MESSAGE_ANNOTATIONS = 0x72;
const PROPERTIES = 0x73;
const APPLICATION_PROPERTIES = 0x74;
const DATA = 0x75;
/** The names of sections, from the header's code on. */
const SECTIONS = [
  'header:list',
  'delivery-annotations:map',
  'message-annotations:map',
  'properties:list',
  'application-properties:map',
  'data:binary',
];

/** The values of a map, by their keys; another key than a text is none that the service knows. */
type Fields = Map<string, Typed>;

export class Message {
  private constructor(
    private readonly header: Typed[],
    private readonly annotations: Fields,
    private readonly properties: Typed[],
    private readonly applicationProperties: Fields,
    /** the body and what follows, as it came */
    private readonly body: Buffer,
  ) {}

  static decode(bytes: Buffer): Message {
    let header: Typed[] = [];
    let properties: Typed[] = [];
    let annotations: Fields = new Map();
    let applicationProperties: Fields = new Map();
    let body = 0;
    for (const { code, value, end } of sectionsOf(bytes)) {
      if (code > APPLICATION_PROPERTIES) break;
      body = end;
      // Copied: rhea has one array for all lists that are empty, and would show it everywhere with what is set here.
      if (code === HEADER) header = [...(value as Typed[])];
      if (code === MESSAGE_ANNOTATIONS) annotations = fieldsOf(value as Typed[]);
      if (code === PROPERTIES) properties = [...(value as Typed[])];
      if (code === APPLICATION_PROPERTIES) applicationProperties = fieldsOf(value as Typed[]);
    }
    return new Message(header, annotations, properties, applicationProperties, bytes.subarray(body));
  }

  copy(): Message {
    return Message.decode(this.encode());
  }

  /** With delivery annotations, where there are to be some; none are kept of those that it came with. */
  encode(deliveryAnnotations?: Record<string, Typed>): Buffer {
    const writer = new Writer();
    const write = (code: number, value: Typed) => writer.write(types.described(types.wrap_ulong(code), value) as Typed);
    const symbol = (key: string) => types.wrap_symbol(key);
    write(HEADER, types.wrap_list(this.header));
    if (deliveryAnnotations) write(DELIVERY_ANNOTATIONS, mapOf(Object.entries(deliveryAnnotations), symbol));
    write(MESSAGE_ANNOTATIONS, mapOf(this.annotations, symbol));
    write(PROPERTIES, types.wrap_list(this.properties));
    write(
      APPLICATION_PROPERTIES,
      mapOf(this.applicationProperties, (key) => types.wrap_string(key)),
    );
    return Buffer.concat([writer.toBuffer(), this.body]);
  }

  /** milliseconds */
  get timeToLive(): number {
    return this.header[2]?.value ?? Infinity;
  }

  set deliveryCount(count: number) {
    this.header[4] = types.wrap_uint(count);
  }

  get sessionId(): string | undefined {
    return this.properties[10]?.value ?? undefined;
  }

  /** What decides on its partition. */
  get partitionKey(): string | undefined {
    return this.annotations.get('x-opt-partition-key')?.value ?? undefined;
  }

  /** When it is to be enqueued, if its sender has said so. */
  get scheduledFor(): number | undefined {
    const time: Date | undefined = this.annotations.get('x-opt-scheduled-enqueue-time')?.value ?? undefined;
    return time && Number(time);
  }

  annotate(annotations: Record<string, Typed>): void {
    for (const [name, value] of Object.entries(annotations)) this.annotations.set(name, value);
  }

  /** Changes application properties, as those do who abandon, defer or dead-letter it. */
  change(properties: Record<string, unknown>): void {
    for (const [name, value] of Object.entries(properties)) this.applicationProperties.set(name, types.wrap(value));
  }
}

/** The messages in a batch. */
export function unpack(batch: Buffer): Buffer[] {
  return [...sectionsOf(batch)].flatMap(({ code, value }) => (code === DATA ? [value as Buffer] : []));
}

function* sectionsOf(bytes: Buffer): Generator<{ code: number; value: unknown; end: number }> {
  const reader = new Reader(bytes);
  while (reader.remaining() > 0) {
    const { descriptor, value } = reader.read();
    const name: unknown = descriptor?.value;
    const code = typeof name === 'number' ? name : HEADER + SECTIONS.findIndex((section) => name === `amqp:${section}`);
    yield { code, value, end: reader.position };
  }
}

function fieldsOf(flat: Typed[]): Fields {
  const fields: Fields = new Map();
  for (let i = 0; i + 1 < flat.length; i += 2) fields.set(String(flat[i]!.value), flat[i + 1]!);
  return fields;
}

function mapOf(fields: Iterable<[string, Typed]>, wrapKey: (key: string) => Typed): Typed {
  const map = types.wrap_map({});
  map.value = [...fields].flatMap(([key, value]) => [wrapKey(key), value]);
  return map;
}
