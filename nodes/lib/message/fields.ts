/**
 * The fields of `msg.amqp` <-> the sections of a message beside its body (3.2.1 to 3.2.5, 3.2.9), under the names of the
 * specification with `_` for `-`. Pure.
 */
import type { TypeName } from '../codec/codes';
import type { Decoder } from '../codec/decoder';
import type { Encoder, Field } from '../codec/encoder';
import { isNotation, isPlainObject, objectOf } from '../codec/notation';
import { type AmqpError, amqpError } from '../errors';

export const HEADER: readonly Field[] = [
  ['durable', 'boolean'],
  ['priority', 'ubyte'],
  ['ttl', 'uint'],
  ['first_acquirer', 'boolean'],
  ['delivery_count', 'uint'],
];
export const PROPERTIES: readonly Field[] = [
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
export const BODY_TYPES = ['value', 'data', 'sequence'] as const;
export const KNOWN = new Set([...HEADER, ...PROPERTIES].map(([name]) => name).concat(MAPS, 'body_type'));

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

export function unknownFields(fields: AmqpFields, path: string): AmqpError {
  const unknown = Object.keys(fields).filter((name) => !KNOWN.has(name));
  const key = unknown.length > 1 ? 'AMQP_BAD_MESSAGE.fields' : 'AMQP_BAD_MESSAGE.field';
  return amqpError(key, { path, names: unknown.join(', ') });
}

/** What a peer has put under reserved keys cannot be passed on: others end the link over it. */
export function withoutReserved(annotations: unknown): unknown {
  const given = mapOf(annotations);
  // Anything else is told of when it is encoded.
  if (!isPlainObject(given) && !Array.isArray(given)) return annotations;
  const pairs = Array.isArray(given) ? given : Object.entries(given);
  if (!pairs.every((pair): pair is [unknown, unknown] => Array.isArray(pair) && pair.length === 2)) return annotations;
  return new Map(pairs.filter(([key]) => typeof key === 'string' && key.startsWith('x-')));
}

export function isPresent(value: unknown): boolean {
  return value !== undefined && value !== null;
}

export function mapOf(value: unknown): unknown {
  return isNotation(value) && value.$amqp === 'map' ? value.value : value;
}

export function annotationsSection(
  encoder: Encoder,
  descriptor: number,
  { fields, fieldsPath }: { fields: AmqpFields; fieldsPath: string },
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

export function readFields(decoder: Decoder, definition: readonly Field[], fields: AmqpFields): void {
  decoder.fields((index) => {
    const field = definition[index];
    if (!field) return decoder.fail('a section has more fields than are defined');
    const [name, type] = field;
    const value = type === 'id' ? decoder.id() : decoder.typed(type);
    if (value !== undefined) fields[name] = value;
  });
}

export function readMap(decoder: Decoder, known = ANNOTATION_TYPES): unknown {
  const pairs = decoder.pairs().map(([key, value]): [unknown, unknown] => {
    const isPlain = isNotation(value) && typeof key === 'string' && value.$amqp === known[key];
    return [key, isPlain && typeof value.value === 'number' ? value.value : value];
  });
  return objectOf(pairs) ?? { $amqp: 'map', value: pairs };
}

/** Tells JMS clients that `reply_to` is a temporary queue: to another kind some of them would add a prefix. */
export function withTemporaryReplyTo(annotations: unknown): unknown {
  const kind = { $amqp: 'byte', value: 2 };
  const given = mapOf(annotations ?? {});
  if (given instanceof Map) return new Map([...given, [JMS_REPLY_TO, kind]]);
  // Anything else is told of when it is encoded.
  return isPlainObject(given) ? { ...given, [JMS_REPLY_TO]: kind } : annotations;
}
