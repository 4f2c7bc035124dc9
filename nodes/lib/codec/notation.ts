/**
 * AMQP types (specification part 1) as JavaScript has them: its own values and, where it has no such type, the notation
 * `{"$amqp": type, "value": …}`.
 */
import { types } from 'node:util';
import type { TypeName } from './codes';

/**
 * `exact`: whatever would be encoded as another type is given in the notation, so that encoding gives the same value
 * and type again. `plain`: the nearest JavaScript value; the notation only where there is none that holds the value.
 */
export type Style = 'exact' | 'plain';

/** Values nested deeper than this are refused in both directions. A cyclic object always is. */
export const MAX_DEPTH = 128;

/** Elements that take no bytes (nulls in arrays) that a message may have in all: a few bytes could claim any number. */
export const MAX_EMPTY = 1024;

/**
 * Bytes that may be compared to find keys that a map has twice, in a message of so many. Those of a key that is a map or
 * list count for each that it stands in, so without a bound deep ones would take for ever.
 */
export function maxKeyBytes(length: number): number {
  return 4 * length + 65_536;
}

export const INT = { min: -0x80000000, max: 0x7fffffff };
export const LONG = { min: -(2n ** 63n), max: 2n ** 63n - 1n };

/** The element type of an array: a type name, or a described type. */
export type Of = TypeName | { descriptor: unknown; of: Of };

export interface Notation {
  $amqp: TypeName;
  value?: unknown;
  of?: Of;
  descriptor?: unknown;
}

export function isNotation(value: unknown): value is Notation {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, '$amqp');
}

/** The value itself, also of one in the notation. */
export function bareOf(value: unknown): unknown {
  return isNotation(value) ? value.value : value;
}

/**
 * The bytes in a Buffer, Uint8Array, ArrayBuffer or in what JSON makes of a Buffer; undefined for anything else.
 * By `util.types`, not `instanceof`: the values of a function node come from another realm.
 */
export function bytesOf(value: unknown): Buffer | undefined {
  if (Buffer.isBuffer(value)) return value;
  if (types.isUint8Array(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (types.isAnyArrayBuffer(value)) return Buffer.from(value);
  if (isBufferJson(value)) return Buffer.from(value.data);
  return undefined;
}

function isBufferJson(value: unknown): value is { data: number[] } {
  if (typeof value !== 'object' || value === null) return false;
  const { type, data } = value as { type?: unknown; data?: unknown };
  return (
    type === 'Buffer' &&
    Array.isArray(data) &&
    Object.keys(value).length === 2 &&
    data.every((byte) => Number.isInteger(byte) && byte >= 0 && byte <= 0xff)
  );
}

/** True for objects that are nothing but their own properties, whatever realm they come from. */
export function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** The type of a JavaScript number: int, long where it is too large for that, double unless whole and exact. */
export function numberType(value: number): 'int' | 'long' | 'double' {
  if (!Number.isSafeInteger(value) || Object.is(value, -0)) return 'double';
  return value >= INT.min && value <= INT.max ? 'int' : 'long';
}

/** JSON has no NaN, no infinities and no negative zero: they are text. */
export function jsonOf(value: unknown): unknown {
  if (Object.is(value, -0)) return '-0';
  return typeof value === 'number' && !Number.isFinite(value) ? String(value) : value;
}

/**
 * A plain object of the pairs, or undefined where an object would be read as something else on the way back: keys that
 * are not strings, the notation's own key, or what JSON makes of a Buffer.
 */
export function objectOf(pairs: [unknown, unknown][]): Record<string, unknown> | undefined {
  const object: Record<string, unknown> = {};
  for (const [key, value] of pairs) {
    // "__proto__": Node-RED's clone would set the prototype of the object.
    if (typeof key !== 'string' || key === '$amqp' || key === '__proto__') return undefined;
    object[key] = value;
  }
  return isBufferJson(object) ? undefined : object;
}
