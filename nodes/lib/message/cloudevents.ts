/**
 * CloudEvents on AMQP (AMQP protocol binding 1.0.2), the same to a flow in both content modes: `msg.payload` is the
 * event's data, `content_type` its datacontenttype, and each other attribute an application property
 * `cloudEvents:<name>`. Pure.
 */
import { randomUUID } from 'node:crypto';
import { types } from 'node:util';
import { bareOf, bytesOf, isNotation, isPlainObject } from '../codec/notation';
import { amqpError } from '../errors';
import { parseJson, writeJson } from './json';

/** Content modes on send: attributes as application properties (3.1), or all of the event as JSON (3.2). */
export type CloudEventMode = 'cloudevent' | 'cloudevent-json';

interface Outgoing {
  fields: Record<string, unknown>;
  payload: unknown;
  fieldsPath: string;
  payloadPath: string;
}

interface Incoming {
  fields: Record<string, unknown>;
  body: { type: string; content: unknown } | undefined;
}

/** An attribute in the types that events have, integers as numbers and timestamps as Dates. */
type Attribute = boolean | number | string | Date | Buffer;

const PREFIX = 'cloudEvents:';
/** The variant for peers whose property names may have no colon, such as JMS. */
const JMS_PREFIX = 'cloudEvents_';
const REQUIRED = ['id', 'source', 'specversion', 'type'];
/** Not attributes in this binding: the body, and the content type. */
const RESERVED = ['data', 'datacontenttype'];
/** "lower-case letters or digits" (CloudEvents 1.0.2, naming conventions) */
const NAME = /^[a-z0-9]+$/;
const INTEGERS = ['ubyte', 'ushort', 'uint', 'ulong', 'byte', 'short', 'int', 'long'];
const JSON_TYPE = /^\s*[\w.-]+\/(?:[\w.-]+\+)?json\s*(?:;|$)/i;
const JSON_ENVELOPE = /^\s*application\/cloudevents\+json\s*(?:;|$)/i;

/** The message for an event. Throws AMQP_BAD_MESSAGE when a required attribute is missing or one is not valid. */
export function toCloudEvent<T extends Outgoing>(message: T, mode: CloudEventMode): T {
  const { fields, payload } = message;
  const { attributes, others } = split(message);
  const hasData = payload !== undefined && payload !== null;
  const type = bareOf(fields.content_type);
  if (mode === 'cloudevent') {
    for (const [name, value] of attributes) {
      // "Integer: long", whatever its size (3.1.3.2)
      others[PREFIX + name] = typeof value === 'number' ? { $amqp: 'long', value } : value;
    }
    // Data without a type is JSON in the other mode, and so it is here. A message has a body, be there data or not.
    const isUntypedText = typeof payload === 'string' && (type === undefined || type === null);
    return {
      ...message,
      payload: hasData ? payload : Buffer.alloc(0),
      fields: {
        ...fields,
        ...(isUntypedText && { content_type: 'application/json' }),
        application_properties: others,
        body_type: 'data',
      },
    };
  }
  const event: Record<string, unknown> = {};
  for (const [name, value] of attributes) event[name] = canonical(value);
  if (type !== undefined && type !== null) event.datacontenttype = type;
  const bytes = bytesOf(payload);
  if (bytes) event.data_base64 = bytes.toString('base64');
  else if (hasData) event.data = jsonData(message, type);
  return {
    ...message,
    payload: writeJson(event, message.payloadPath),
    fields: {
      ...fields,
      content_encoding: undefined,
      content_type: 'application/cloudevents+json; charset=utf-8',
      application_properties: Object.keys(others).length > 0 ? others : undefined,
      body_type: 'data',
    },
  };
}

/** The attributes of the event, and the application properties that are none. */
function split({ fields, fieldsPath }: Outgoing): {
  attributes: Map<string, Attribute>;
  others: Record<string, unknown>;
} {
  const path = `${fieldsPath}.application_properties`;
  const given = fields.application_properties ?? {};
  if (!isPlainObject(given)) throw amqpError('AMQP_BAD_MESSAGE.object', { path });
  const attributes = new Map<string, Attribute>();
  const others: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(given)) {
    const name = nameOf(key);
    if (name === undefined) others[key] = value;
    else if (!NAME.test(name)) throw amqpError('AMQP_BAD_MESSAGE.attribute-name', { path: `${path}["${key}"]` });
    else if (RESERVED.includes(name))
      throw amqpError('AMQP_BAD_MESSAGE.attribute-reserved', { path: `${path}["${key}"]` });
    else if (value !== undefined && value !== null) attributes.set(name, attributeOf(value, `${path}["${key}"]`));
  }
  if (!attributes.has('specversion')) attributes.set('specversion', '1.0');
  if (!attributes.has('id')) {
    attributes.set('id', typeof fields.message_id === 'string' ? fields.message_id : randomUUID());
  }
  for (const name of REQUIRED) {
    const value = attributes.get(name);
    if (value === undefined)
      throw amqpError('AMQP_BAD_MESSAGE.attribute-missing', { path: `${path}["${PREFIX}${name}"]` });
    if (value === '') throw amqpError('AMQP_BAD_MESSAGE.attribute-empty', { path: `${path}["${PREFIX}${name}"]` });
  }
  return { attributes, others };
}

function nameOf(key: string): string | undefined {
  if (key.startsWith(PREFIX)) return key.slice(PREFIX.length);
  return key.startsWith(JMS_PREFIX) ? key.slice(JMS_PREFIX.length) : undefined;
}

function attributeOf(value: unknown, path: string): Attribute {
  const attribute = read(value);
  if (attribute === undefined) throw amqpError('AMQP_BAD_MESSAGE.attribute', { path });
  if (typeof attribute === 'number' && attribute !== Math.trunc(attribute))
    throw amqpError('AMQP_BAD_MESSAGE.attribute-whole', { path });
  // "a whole number in the range -2,147,483,648 to +2,147,483,647" (CloudEvents 1.0.2, type system)
  if (typeof attribute === 'number' && attribute !== (attribute | 0))
    throw amqpError('AMQP_BAD_MESSAGE.attribute-size', { path });
  if (types.isDate(attribute) && Number.isNaN(attribute.getTime()))
    throw amqpError('AMQP_BAD_MESSAGE.attribute-time', { path });
  return attribute;
}

/** A value in the types that events have; undefined for any other, and for times that no Date holds. */
function read(value: unknown): Attribute | undefined {
  if (typeof value === 'boolean' || typeof value === 'string' || typeof value === 'number') return value;
  if (typeof value === 'bigint') return Number(value);
  if (types.isDate(value)) return value;
  if (isNotation(value)) {
    const { $amqp: name, value: content } = value;
    const isSimple = ['string', 'number', 'bigint'].includes(typeof content);
    // What a number does not hold exactly stays as it is.
    if (INTEGERS.includes(name)) return isSimple && Number.isSafeInteger(Number(content)) ? Number(content) : undefined;
    if (name === 'symbol' || name === 'string') return isSimple ? String(content) : undefined;
    if (name === 'boolean' && typeof content === 'boolean') return content;
    if (name === 'binary') return typeof content === 'string' ? Buffer.from(content, 'base64') : bytesOf(content);
    if (name !== 'timestamp') return undefined;
    if (types.isDate(content)) return content;
    return isSimple ? new Date(/^-?\d+$/.test(String(content)) ? Number(content) : String(content)) : undefined;
  }
  return bytesOf(value);
}

/** An attribute as JSON has it: text for timestamps and binary. */
function canonical(attribute: Attribute): boolean | number | string {
  if (Buffer.isBuffer(attribute)) return attribute.toString('base64');
  return types.isDate(attribute) ? attribute.toISOString() : attribute;
}

/** The data as a member of the event's JSON (JSON event format, 3.1.1). */
function jsonData({ payload, payloadPath }: Outgoing, type: unknown): unknown {
  if (typeof payload !== 'string' && typeof type === 'string' && !JSON_TYPE.test(type)) {
    throw amqpError('AMQP_BAD_MESSAGE.event-data', { path: payloadPath, type });
  }
  // As a member of the event, what JSON does not have would be left out.
  writeJson(payload, payloadPath);
  return payload;
}

/** A received message as an event, when it is one; any other message as it is. */
export function fromCloudEvent<T extends Incoming>(incoming: T): T {
  const { fields, body } = incoming;
  const type = fields.content_type;
  if (typeof type !== 'string' || !JSON_ENVELOPE.test(type)) {
    // "an event format that it cannot handle … MAY still treat the event as binary" (3)
    const attributes = attributesOf(fields);
    const isEvent = Object.keys(attributes).length > 0;
    const isEmpty = isEvent && body?.type === 'data' && bytesOf(body.content)?.length === 0;
    return { ...incoming, fields: withAttributes(fields, attributes), body: isEmpty ? undefined : body };
  }
  const { content: given } = body ?? {};
  const bytes = bytesOf(given) ?? Buffer.from(typeof given === 'string' ? given : '');
  const event = parseJson(bytes, 'the event');
  if (!isPlainObject(event)) throw amqpError('AMQP_DECODE.event');
  const { data, data_base64: base64, datacontenttype, ...attributes } = event;
  const { content_type: _envelope, ...others } = withAttributes(fields, { ...attributesOf(fields), ...attributes });
  const content = typeof base64 === 'string' ? Buffer.from(base64, 'base64') : data;
  const hasData = content !== undefined && content !== null;
  // Data without a type is JSON, unless it is binary (JSON event format, 3.1.2).
  const isBinary = typeof base64 === 'string';
  const dataType = datacontenttype ?? (hasData && !isBinary ? 'application/json' : undefined);
  return {
    ...incoming,
    fields: dataType === undefined ? others : { ...others, content_type: dataType },
    // JSON is parsed already, and a string in it is a string.
    body: hasData ? { type: isBinary ? 'data' : 'value', content } : undefined,
  };
}

function attributesOf({ application_properties: properties }: Record<string, unknown>): Record<string, unknown> {
  const attributes: Record<string, unknown> = {};
  if (!isPlainObject(properties)) return attributes;
  for (const [key, value] of Object.entries(properties)) {
    const name = nameOf(key);
    if (name === undefined) continue;
    const attribute = read(value);
    const isValid = attribute !== undefined && !(types.isDate(attribute) && Number.isNaN(attribute.getTime()));
    attributes[name] = isValid ? canonical(attribute) : value;
  }
  return attributes;
}

/** The fields with these attributes under the names of the binding, in place of any they have. */
function withAttributes(fields: Record<string, unknown>, attributes: Record<string, unknown>): Record<string, unknown> {
  const properties: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(fields.application_properties ?? {})) {
    if (nameOf(key) === undefined) properties[key] = value;
  }
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null) properties[PREFIX + name] = value;
  }
  return Object.keys(properties).length > 0 ? { ...fields, application_properties: properties } : fields;
}
