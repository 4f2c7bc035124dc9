/** What a flow sees of a message <-> the sections of an AMQP message (specification part 3.2). Pure. */
import { DESCRIPTOR } from '../codec/codes';
import { type Allowance, Decoder, kept } from '../codec/decoder';
import { Encoder } from '../codec/encoder';
import { isPlainObject, type Style } from '../codec/notation';
import { amqpError } from '../errors';
import { randomId } from '../random-id';
import { bodyOf, type BodyOption, type IncomingBody, type OutgoingBody, type OutputOption } from './body';
import { toCloudEvent } from './cloudevents';
import {
  type AmqpFields,
  annotationsSection,
  HEADER,
  isPresent,
  KNOWN,
  mapOf,
  PROPERTIES,
  readFields,
  readMap,
  unknownFields,
  withoutReserved,
} from './fields';

/** How `msg` maps to a message: body in `msg.payload`, or (dialect of node-red-contrib-rhea) all of it in there. */
export type Format = 'body' | 'message';
/** A message without its hop: ready to be sent to any address, more than once. */
export interface Outgoing extends OutgoingBody {
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

/** Message-format of a batch: each data section is an encoded message of its own (Azure Event Hubs and Service Bus). */
export const BATCH_FORMAT = 0x80013700;

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
  body: IncomingBody;
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

/** The styles that an output option asks for. In the older dialect all values are plain, as rhea gives them. */
export function stylesOf(format: Format, output: OutputOption): { fields: Style; body: Style } {
  const body = output === 'typed' ? 'exact' : 'plain';
  return { fields: format === 'message' ? body : 'exact', body };
}

/** Puts a received message into the form that the format gives it. */
export function toMsg(incoming: Incoming, payload: unknown, format: Format): { payload: unknown; amqp?: AmqpFields } {
  if (format === 'body') return { payload, amqp: incoming.fields };
  const { body_type: _, ...fields } = incoming.fields;
  return { payload: { ...fields, body: payload } };
}
