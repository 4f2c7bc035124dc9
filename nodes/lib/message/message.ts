/**
 * What a flow sees of a message <-> the sections of an AMQP message (specification part 3.2). Pure.
 * `msg.payload` is the body, `msg.amqp` everything else, under the specification's names with `_` for `-`.
 */
import { types } from 'node:util';
import { DESCRIPTOR, type TypeName } from '../codec/codes';
import { type Allowance, Decoder, kept } from '../codec/decoder';
import { Encoder, type Field } from '../codec/encoder';
import { bytesOf, isNotation, isPlainObject, objectOf, type Style } from '../codec/notation';
import { toCloudEvent } from './cloudevents';
import { type AmqpError, amqpError } from '../errors';
import { randomId } from '../random-id';
import { parseJson, writeJson } from './json';

/** How `msg` maps to a message: body in `msg.payload`, or (dialect of node-red-contrib-rhea) all of it in there. */
export type Format = 'body' | 'message';
/** How a payload becomes a body: the default first. */
export const BODIES = ['auto', 'value', 'json', 'string', 'binary', 'cloudevent', 'cloudevent-json'] as const;
export type BodyOption = (typeof BODIES)[number];
/** How a body becomes a payload: the default first. */
export const OUTPUTS = ['auto', 'buffer', 'string', 'json', 'typed', 'cloudevent'] as const;
export type OutputOption = (typeof OUTPUTS)[number];

const HEADER: readonly Field[] = [
  ['durable', 'boolean'],
  ['priority', 'ubyte'],
  ['ttl', 'uint'],
  ['first_acquirer', 'boolean'],
  ['delivery_count', 'uint'],
];
const PROPERTIES: readonly Field[] = [
  ['message_id', 'id'],
  ['user_id', 'binary'],
  ['to', 'string'],
  ['subject', 'string'],
  ['reply_to', 'string'],
  ['correlation_id', 'id'],
  ['content_type', 'symbol'],
  ['content_encoding', 'symbol'],
  ['absolute_expiry_time', 'timestamp'],
  ['creation_time', 'timestamp'],
  ['group_id', 'string'],
  ['group_sequence', 'uint'],
  ['reply_to_group_id', 'string'],
];
const JMS_REPLY_TO = 'x-opt-jms-reply-to';
const MAPS = ['delivery_annotations', 'message_annotations', 'application_properties', 'footer'] as const;
const BODY_TYPES = ['value', 'data', 'sequence'] as const;
const KNOWN = new Set([...HEADER, ...PROPERTIES].map(([name]) => name).concat(MAPS, 'body_type'));

/**
 * Annotations with a type that their readers insist on (JMS mapping), so that a plain number does for them. Both ways:
 * they are received as plain numbers too.
 */
const ANNOTATION_TYPES: Record<string, TypeName> = {
  'x-opt-jms-msg-type': 'byte',
  'x-opt-jms-dest': 'byte',
  'x-opt-jms-reply-to': 'byte',
  'x-opt-delivery-time': 'long',
};

/** `msg.amqp`: the fields that are present. */
export type AmqpFields = Record<string, unknown> & { body_type?: (typeof BODY_TYPES)[number] };

/** A message without its hop: ready to be sent to any address, more than once. */
export interface Outgoing {
  fields: AmqpFields;
  payload: unknown;
  /** Name of the payload in errors. */
  payloadPath: string;
  /** Name of the fields in errors. */
  fieldsPath: string;
  body: BodyOption;
  /** The msg came from a receiver, and so did its ids. */
  isReceived: boolean;
}

/** The parts of a Node-RED message that are read here. */
export type Msg = {
  payload?: unknown;
  topic?: unknown;
  amqp?: unknown;
  delivery?: unknown;
};

/** What belongs to one hop, or to the one who sent it, and so is not passed on when a received message is sent again. */
const OF_THE_HOP = ['delivery_count', 'first_acquirer', 'delivery_annotations', 'footer', 'user_id'];

/**
 * Takes from `msg` what is to be sent. A message that was received (it has `msg.delivery`) loses what belongs to the
 * hop it came by; `to` goes only if it is still the one it came with, so that a flow can address it anew.
 */
export function outgoing(msg: Msg, options: { format: Format; body: BodyOption }): Outgoing {
  let fields: AmqpFields;
  let payload: unknown = msg.payload;
  const isMessage = options.format === 'message';
  const fieldsPath = isMessage ? 'msg.payload' : 'msg.amqp';
  if (isMessage) {
    if (!isPlainObject(payload)) throw amqpError('AMQP_BAD_MESSAGE.message');
    ({ body: payload, ...fields } = payload as { body?: unknown });
  } else {
    if (msg.amqp !== undefined && msg.amqp !== null && !isPlainObject(msg.amqp))
      throw amqpError('AMQP_BAD_MESSAGE.object', { path: 'msg.amqp' });
    fields = { ...(msg.amqp as AmqpFields) };
  }
  for (const name in fields) if (!KNOWN.has(name)) throw unknownFields(fields, fieldsPath);

  const { delivery } = msg;
  const isReceived = typeof delivery === 'object' && delivery !== null;
  if (isReceived) {
    for (const name of OF_THE_HOP) delete fields[name];
    if (fields.to !== undefined && fields.to === (delivery as { to?: unknown }).to) delete fields.to;
    if (isPresent(fields.message_annotations)) fields.message_annotations = withoutReserved(fields.message_annotations);
  }
  return {
    fields,
    payload,
    payloadPath: isMessage ? 'msg.payload.body' : 'msg.payload',
    fieldsPath,
    body: options.body,
    isReceived,
  };
}

function unknownFields(fields: AmqpFields, path: string): AmqpError {
  const unknown = Object.keys(fields).filter((name) => !KNOWN.has(name));
  const key = unknown.length > 1 ? 'AMQP_BAD_MESSAGE.fields' : 'AMQP_BAD_MESSAGE.field';
  return amqpError(key, { path, names: unknown.join(', ') });
}

/** What a peer has put under reserved keys cannot be passed on: others end the link over it. */
function withoutReserved(annotations: unknown): unknown {
  const given = mapOf(annotations);
  // Anything else is told of when it is encoded.
  if (!isPlainObject(given) && !Array.isArray(given)) return annotations;
  const pairs = Array.isArray(given) ? given : Object.entries(given);
  if (!pairs.every((pair): pair is [unknown, unknown] => Array.isArray(pair) && pair.length === 2)) return annotations;
  return new Map(pairs.filter(([key]) => typeof key === 'string' && key.startsWith('x-')));
}

/** What the header of a message says where the flow does not (3.2.1). */
export interface HeaderDefaults {
  durable: boolean;
  priority?: number;
  /** Milliseconds. */
  ttl?: number;
}

export function withHeader({ fields }: Outgoing, { durable, priority, ttl }: HeaderDefaults): void {
  // Left out it is false, which need not be said.
  if (durable) fields.durable ??= true;
  fields.priority ??= priority;
  fields.ttl ??= ttl;
}

/** A message id for a message that has none, so that a consumer can tell a repeated delivery from a new one. */
export function withMessageId(message: Outgoing): Outgoing {
  message.fields.message_id ??= randomId();
  return message;
}

/** The bytes of the message: all sections in the order of the specification, absent ones left out. */
export function encode(given: Outgoing): Buffer {
  const message =
    given.body === 'cloudevent' || given.body === 'cloudevent-json' ? toCloudEvent(given, given.body) : given;
  const { fields, fieldsPath } = message;
  const encoder = new Encoder(fieldsPath);
  const body = bodyOf(message);
  let properties = fields;
  if (body.contentType !== undefined) properties = { ...fields, content_type: body.contentType };
  // Binary, but mostly a name (3.2.4).
  if (typeof fields.user_id === 'string') properties = { ...properties, user_id: Buffer.from(fields.user_id) };

  encoder.composite(DESCRIPTOR.header, HEADER, fields);
  annotationsSection(encoder, DESCRIPTOR.deliveryAnnotations, message, 'delivery_annotations');
  annotationsSection(encoder, DESCRIPTOR.messageAnnotations, message, 'message_annotations');
  encoder.at(fieldsPath).composite(DESCRIPTOR.properties, PROPERTIES, properties);
  encoder.at(`${fieldsPath}.application_properties`);
  if (isPresent(fields.application_properties)) {
    encoder.describe(DESCRIPTOR.applicationProperties);
    // "restricted to be of simple types only" (3.2.5)
    encoder.map(encoder.pairs(mapOf(fields.application_properties)), 'string', true);
  }
  encoder.at(message.payloadPath);
  encoder.describe(DESCRIPTOR[body.type]);
  if (body.type === 'data') encoder.typed('binary', body.content);
  else if (body.type === 'sequence') encoder.typed('list', body.content);
  else encoder.value(body.content);
  annotationsSection(encoder, DESCRIPTOR.footer, message, 'footer');
  return encoder.finish();
}

function isPresent(value: unknown): boolean {
  return value !== undefined && value !== null;
}

function mapOf(value: unknown): unknown {
  return isNotation(value) && value.$amqp === 'map' ? value.value : value;
}

function annotationsSection(
  encoder: Encoder,
  descriptor: number,
  { fields, fieldsPath }: Outgoing,
  name: string,
): void {
  const annotations = fields[name];
  if (!isPresent(annotations)) return;
  const path = `${fieldsPath}.${name}`;
  // Keys without "x-" are reserved (3.2.10), but some services have such (Azure IoT Hub: operation, resource).
  const pairs = Array.from(encoder.at(path).pairs(mapOf(annotations)), ([key, value]): [unknown, unknown] => {
    const type = typeof key === 'string' ? ANNOTATION_TYPES[key] : undefined;
    return [key, type && typeof value === 'number' ? { $amqp: type, value } : value];
  });
  encoder.describe(descriptor);
  encoder.map(pairs, 'symbol');
}

interface Body {
  type: 'data' | 'sequence' | 'value';
  content: unknown;
  /** Set when the message gets a content type that the flow did not give. */
  contentType?: string;
}

function bodyOf({ payload, payloadPath, fields, fieldsPath, body }: Outgoing): Body {
  const given = isNotation(fields.content_type) ? fields.content_type.value : fields.content_type;
  const jsonType = isJson(given) ? undefined : 'application/json';
  const json = (): Body => ({ type: 'data', content: writeJson(payload, payloadPath), contentType: jsonType });
  switch (fields.body_type) {
    case undefined:
    case null:
      break;
    case 'value':
      return { type: 'value', content: payload };
    case 'sequence':
      if (!Array.isArray(payload))
        throw amqpError('AMQP_BAD_MESSAGE.sequence', { path: payloadPath, fields: fieldsPath });
      return { type: 'sequence', content: payload };
    case 'data': {
      const content =
        bytesOf(payload) ?? (typeof payload === 'string' && !isJson(given) ? Buffer.from(payload) : undefined);
      if (content) return { type: 'data', content };
      if (isPresent(given) && !isJson(given)) {
        throw amqpError('AMQP_BAD_MESSAGE.data', { path: payloadPath, fields: fieldsPath });
      }
      return json();
    }
    default:
      throw amqpError('AMQP_BAD_MESSAGE.body-type', { fields: fieldsPath, types: BODY_TYPES.join(', ') });
  }
  const bytes = bytesOf(payload);
  switch (body) {
    case 'json':
      return json();
    case 'string':
      return { type: 'value', content: bytes ? bytes.toString() : toText(payload, payloadPath) };
    case 'binary':
      if (!bytes && typeof payload !== 'string') throw amqpError('AMQP_BAD_MESSAGE.binary', { path: payloadPath });
      return { type: 'data', content: bytes ?? Buffer.from(payload as string) };
    case 'auto':
      if (bytes) return { type: 'data', content: bytes };
      return isJson(given) ? json() : { type: 'value', content: payload };
    default:
      return { type: 'value', content: payload };
  }
}

function toText(payload: unknown, path: string): string {
  if (payload === undefined || payload === null) return '';
  if (typeof payload === 'string' || typeof payload === 'bigint' || typeof payload === 'number') return String(payload);
  // One that is no point in time is null in JSON.
  if (types.isDate(payload) && !Number.isNaN(payload.getTime())) return payload.toISOString();
  if (isNotation(payload) && typeof payload.value === 'string') return payload.value;
  return writeJson(payload, path).toString();
}

/** Message-format of a batch: each data section is an encoded message of its own (Azure Event Hubs and Service Bus). */
const BATCH_FORMAT = 0x80013700;

/** The encoded messages in a delivery. Throws AMQP_DECODE for a message-format that is not known. */
export function messagesIn(bytes: Buffer, format: number, allowance?: Allowance): Buffer[] {
  if (format === 0) return [bytes];
  if (format !== BATCH_FORMAT) {
    throw amqpError('AMQP_DECODE.format', { format: `0x${format.toString(16)}` });
  }
  const body = readSections(bytes, { fields: 'exact', body: 'exact' }, {}, allowance);
  if (body && body.type !== 'data') throw amqpError('AMQP_DECODE.batch');
  return body?.content ?? [];
}

/** What was received, decoded: the fields as for `msg.amqp`, and the body as it was sent. */
export interface Incoming {
  fields: AmqpFields;
  body: { type: 'data'; content: Buffer } | { type: 'value' | 'sequence'; content: unknown } | undefined;
}

/**
 * Decodes the sections of a message. Throws AMQP_DECODE for anything that is no message: malformed or unknown
 * sections, sections that are there twice, bodies of different kinds, no sections at all.
 * `fields` and `body` are the styles in which maps and values are given; messages of one delivery share an allowance.
 * `fields`, when given, has those of the sections before the bad one then.
 */
export function decode(
  bytes: Buffer,
  styles: { fields: Style; body: Style },
  allowance?: Allowance,
  fields: AmqpFields = {},
): Incoming {
  const body = readSections(bytes, styles, fields, allowance);
  // Some peers send a null as no body at all; it is the other sections that show this to be a message.
  if (body) fields.body_type = body.type;
  return { fields, body: body?.type === 'data' ? { type: 'data', content: joined(body.content) } : body };
}

/** One Buffer of them. */
function joined(parts: Buffer[]): Buffer {
  return parts.length === 1 ? kept(parts[0]!) : Buffer.concat(parts);
}

/** Tells JMS clients that `reply_to` is a temporary queue: to another kind some of them would add a prefix. */
export function withTemporaryReplyTo(annotations: unknown): unknown {
  const kind = { $amqp: 'byte', value: 2 };
  const given = mapOf(annotations ?? {});
  if (given instanceof Map) return new Map([...given, [JMS_REPLY_TO, kind]]);
  // Anything else is told of when it is encoded.
  return isPlainObject(given) ? { ...given, [JMS_REPLY_TO]: kind } : annotations;
}

/** The same message with another reply-to: what the flow has made of the payload since does not matter. */
export function withReplyTo(bytes: Buffer, replyTo: string): Buffer {
  const { fields, body } = decode(bytes, { fields: 'exact', body: 'exact' });
  return encode({
    fields: { ...fields, reply_to: replyTo },
    payload: body?.content,
    payloadPath: 'msg.payload',
    fieldsPath: 'msg.amqp',
    body: 'auto',
    isReceived: false,
  });
}

/** The body of a message, in the sections that it came in. */
type BodySections =
  { type: 'data'; content: Buffer[] } | { type: 'sequence'; content: unknown[] } | { type: 'value'; content: unknown };

/** Reads all sections: those of the fields into `fields`. */
function readSections(
  bytes: Buffer,
  styles: { fields: Style; body: Style },
  fields: AmqpFields = {},
  allowance?: Allowance,
): BodySections | undefined {
  if (bytes.length === 0) throw amqpError('AMQP_DECODE.empty');
  const decoder = new Decoder(bytes, styles.fields, allowance);
  let body: BodySections | undefined;
  /** A bit for each section. */
  let seen = 0;
  while (!decoder.done) {
    const start = decoder.offset;
    const section = decoder.descriptor();
    const mayRepeat = section === DESCRIPTOR.data || section === DESCRIPTOR.sequence;
    const bit = 1 << (section - DESCRIPTOR.header);
    if ((seen & bit) !== 0 && !mayRepeat) decoder.fail('a section is there twice', start);
    seen |= bit;
    switch (section) {
      case DESCRIPTOR.header:
        readFields(decoder, HEADER, fields);
        break;
      case DESCRIPTOR.properties:
        readFields(decoder, PROPERTIES, fields);
        break;
      case DESCRIPTOR.deliveryAnnotations:
        fields.delivery_annotations = readMap(decoder);
        break;
      case DESCRIPTOR.messageAnnotations:
        fields.message_annotations = readMap(decoder);
        break;
      case DESCRIPTOR.applicationProperties:
        fields.application_properties = readMap(decoder, {});
        break;
      case DESCRIPTOR.footer:
        fields.footer = readMap(decoder);
        break;
      case DESCRIPTOR.data:
        body ??= { type: 'data', content: [] };
        if (body.type !== 'data') return otherKind(decoder, start, body.type, 'data');
        body.content.push(decoder.binary());
        break;
      case DESCRIPTOR.sequence:
        body ??= { type: 'sequence', content: [] };
        if (body.type !== 'sequence') return otherKind(decoder, start, body.type, 'sequence');
        decoder.style = styles.body;
        for (const element of decoder.list()) body.content.push(element);
        decoder.style = styles.fields;
        break;
      case DESCRIPTOR.value:
        if (body) return otherKind(decoder, start, body.type, 'value');
        decoder.style = styles.body;
        body = { type: 'value', content: decoder.value() };
        decoder.style = styles.fields;
        break;
      default:
        decoder.fail(`unknown message section 0x${section.toString(16)}`, start);
    }
  }
  return body;
}

function otherKind(decoder: Decoder, start: number, first: string, other: string): never {
  return decoder.fail(`the message has bodies of different kinds: ${first} and ${other}`, start);
}

function readFields(decoder: Decoder, definition: readonly Field[], fields: AmqpFields): void {
  decoder.fields((index) => {
    const field = definition[index];
    if (!field) return decoder.fail('a section has more fields than are defined');
    const [name, type] = field;
    const value = type === 'id' ? decoder.id() : decoder.typed(type);
    if (value !== undefined) fields[name] = value;
  });
}

function readMap(decoder: Decoder, known = ANNOTATION_TYPES): unknown {
  const pairs = decoder.pairs().map(([key, value]): [unknown, unknown] => {
    const isPlain = isNotation(value) && typeof key === 'string' && value.$amqp === known[key];
    return [key, isPlain && typeof value.value === 'number' ? value.value : value];
  });
  return objectOf(pairs) ?? { $amqp: 'map', value: pairs };
}

/** The styles that an output option asks for. In the older dialect all values are plain, as rhea gives them. */
export function stylesOf(format: Format, output: OutputOption): { fields: Style; body: Style } {
  const body = output === 'typed' ? 'exact' : 'plain';
  return { fields: format === 'message' ? body : 'exact', body };
}

/**
 * The payload for a body. Throws AMQP_DECODE for JSON that does not parse; the raw body can be had with 'buffer' then.
 */
export function payloadOf({ body, fields }: Incoming, output: OutputOption): unknown {
  if (!body) return null;
  const { content_type: type, content_encoding: encoding } = fields;
  if (body.type === 'data') {
    const { content } = body;
    if (output === 'string') return content.toString();
    if (output === 'json') return parseJson(content, 'the body');
    if ((output !== 'auto' && output !== 'cloudevent') || isPresent(encoding)) return content;
    if (isJson(type)) return parseJson(content, 'the body');
    return isText(type) ? asUtf8(content) : content;
  }
  const { content } = body;
  switch (output) {
    case 'buffer':
      return bytesOf(content) ?? Buffer.from(toText(content, 'the body'));
    case 'string':
      return bytesOf(content)?.toString() ?? toText(content, 'the body');
    case 'json': {
      const bytes = typeof content === 'string' ? Buffer.from(content) : bytesOf(content);
      return bytes ? parseJson(bytes, 'the body') : content;
    }
    default:
      return content;
  }
}

/** Puts a received message into the form that the format gives it. */
export function toMsg(incoming: Incoming, payload: unknown, format: Format): { payload: unknown; amqp?: AmqpFields } {
  if (format === 'body') return { payload, amqp: incoming.fields };
  const { body_type: _, ...fields } = incoming.fields;
  return { payload: { ...fields, body: payload } };
}

/** Text when it is UTF-8; the bytes as they are when it is not, so that nothing is lost. */
function asUtf8(content: Buffer): string | Buffer {
  const text = content.toString();
  return Buffer.byteLength(text) === content.length && Buffer.from(text).equals(content) ? text : content;
}

function isJson(contentType: unknown): boolean {
  return typeof contentType === 'string' && /^\s*application\/(?:[\w.-]+\+)?json\s*(?:;|$)/i.test(contentType);
}

function isText(contentType: unknown): boolean {
  if (typeof contentType !== 'string') return false;
  const charset = /;\s*charset\s*=\s*"?([^\s;"]+)/i.exec(contentType)?.[1]?.toLowerCase();
  if (charset && !['utf-8', 'utf8', 'us-ascii', 'ascii'].includes(charset)) return false;
  return /^\s*(?:text\/|application\/(?:[\w.-]+\+)?xml\s*(?:;|$))/i.test(contentType);
}
