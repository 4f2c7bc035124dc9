/**
 * CloudEvents on AMQP (AMQP protocol binding 1.0.2), the same to a flow in both content modes: `msg.payload` is the
 * event's data, `content_type` its datacontenttype, and each other attribute an application property
 * `cloudEvents:<name>`. Pure.
 */
import { randomUUID } from 'node:crypto';
import { bytesOf, isNotation, isPlainObject } from './codec';
import { AmqpError } from './errors';

/** Content modes on send: attributes as application properties (3.1), or all of the event as JSON (3.2). */
export type CloudEventMode = 'cloudevent' | 'cloudevent-json';

const PREFIX = 'cloudEvents:';
/** The variant for peers whose property names may have no colon, such as JMS. */
const JMS_PREFIX = 'cloudEvents_';
const STRUCTURED = 'application/cloudevents';
const REQUIRED = ['id', 'source', 'specversion', 'type'];
/** "lower-case letters or digits" (CloudEvents 1.0.2, naming conventions) */
const NAME = /^[a-z0-9]+$/;

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

/** The message for an event. Throws AMQP_BAD_MESSAGE when a required attribute is missing or one is not valid. */
export function toCloudEvent<T extends Outgoing>(message: T, mode: CloudEventMode): T {
  const { fields, payload } = message;
  const path = `${message.fieldsPath}.application_properties`;
  const given = fields.application_properties ?? {};
  if (!isPlainObject(given)) throw new AmqpError('AMQP_BAD_MESSAGE', `${path} must be an object`);
  const attributes = new Map<string, unknown>();
  const others: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(given)) {
    const name = key.startsWith(JMS_PREFIX) ? key.slice(JMS_PREFIX.length) : key.slice(PREFIX.length);
    if (!key.startsWith(PREFIX) && !key.startsWith(JMS_PREFIX)) others[key] = value;
    else if (!NAME.test(name)) throw new AmqpError('AMQP_BAD_MESSAGE', `${path}["${key}"] is no name of an attribute`);
    else if (value !== undefined && value !== null) attributes.set(name, value);
  }
  if (!attributes.has('specversion')) attributes.set('specversion', '1.0');
  if (!attributes.has('id'))
    attributes.set('id', typeof fields.message_id === 'string' ? fields.message_id : randomUUID());
  const missing = REQUIRED.find((name) => !attributes.has(name));
  if (missing)
    throw new AmqpError('AMQP_BAD_MESSAGE', `${path}["${PREFIX}${missing}"] is missing: every event has one`);

  if (mode === 'cloudevent') {
    for (const [name, value] of attributes) others[PREFIX + name] = native(value, `${path}["${PREFIX}${name}"]`);
    // An event without data has an empty data section, since a message has a body.
    const data = payload === undefined || payload === null ? Buffer.alloc(0) : payload;
    return { ...message, payload: data, fields: { ...fields, application_properties: others, body_type: 'data' } };
  }
  const event: Record<string, unknown> = {};
  for (const [name, value] of attributes) event[name] = canonical(value);
  if (fields.content_type !== undefined) event.datacontenttype = fields.content_type;
  const bytes = bytesOf(payload);
  if (bytes) event.data_base64 = bytes.toString('base64');
  else if (payload !== undefined && payload !== null) event.data = payload;
  let json: string;
  try {
    json = JSON.stringify(event);
  } catch (error) {
    throw new AmqpError('AMQP_BAD_MESSAGE', `${message.payloadPath} cannot be written as JSON`, null, error);
  }
  const envelope = {
    ...fields,
    content_type: `${STRUCTURED}+json; charset=utf-8`,
    application_properties: Object.keys(others).length ? others : undefined,
    body_type: 'data',
  };
  return { ...message, payload: Buffer.from(json), fields: envelope };
}

/** The types that the binding has for attributes (3.1.3.2): an integer is a long, whatever its size. */
function native(value: unknown, path: string): unknown {
  if (typeof value === 'number') {
    if (Number.isInteger(value)) return { $amqp: 'long', value };
    throw new AmqpError('AMQP_BAD_MESSAGE', `${path} is no whole number, and events have no other numbers`);
  }
  return value;
}

/** An attribute as JSON has it: timestamps and binary as text, all else as it is. */
function canonical(value: unknown): unknown {
  const bytes = bytesOf(value);
  if (bytes) return bytes.toString('base64');
  if (!isNotation(value)) return value;
  if (value.$amqp === 'timestamp') return new Date(Number(value.value)).toISOString();
  return value.value;
}

/** A received message as an event, when it is one; any other message as it is. */
export function fromCloudEvent<T extends Incoming>(incoming: T): T {
  const { fields, body } = incoming;
  const type = fields.content_type;
  const isStructured = typeof type === 'string' && type.toLowerCase().startsWith(STRUCTURED);
  if (!isStructured) return { ...incoming, fields: withAttributes(fields, attributesOf(fields)) };
  // "an event format that it cannot handle … MAY still treat the event as binary" (3)
  if (!/\+json\s*(;|$)/i.test(type) || !body) return incoming;

  const text = bytesOf(body.content)?.toString() ?? body.content;
  let event: unknown;
  try {
    event = JSON.parse(text as string);
  } catch (error) {
    throw new AmqpError('AMQP_DECODE', `the event is not JSON: ${(error as Error).message}`, null, error);
  }
  if (!isPlainObject(event)) throw new AmqpError('AMQP_DECODE', 'the event is not a JSON object');
  const { data, data_base64: base64, datacontenttype, ...attributes } = event;
  const result = withAttributes(fields, { ...attributesOf(fields), ...attributes });
  // Without a content type the data is JSON (JSON event format, 3.1).
  result.content_type = datacontenttype ?? 'application/json';
  const isBinary = typeof base64 === 'string';
  const content = isBinary
    ? { type: 'data', content: Buffer.from(base64, 'base64') }
    : { type: 'value', content: data };
  return { ...incoming, fields: result, body: isBinary || data !== undefined ? content : undefined };
}

function attributesOf({ application_properties: properties }: Record<string, unknown>): Record<string, unknown> {
  const attributes: Record<string, unknown> = {};
  if (!isPlainObject(properties)) return attributes;
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith(PREFIX)) attributes[key.slice(PREFIX.length)] = canonical(value);
    else if (key.startsWith(JMS_PREFIX)) attributes[key.slice(JMS_PREFIX.length)] = canonical(value);
  }
  return attributes;
}

function withAttributes(fields: Record<string, unknown>, attributes: Record<string, unknown>): Record<string, unknown> {
  const properties: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(fields.application_properties ?? {})) {
    if (!key.startsWith(JMS_PREFIX)) properties[key] = value;
  }
  for (const [name, value] of Object.entries(attributes)) properties[PREFIX + name] = value;
  return Object.keys(properties).length ? { ...fields, application_properties: properties } : fields;
}
