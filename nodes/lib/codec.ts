/**
 * AMQP 1.0 types <-> bytes (specification part 1), with JavaScript values on one side and, where JavaScript has no
 * such type, the notation `{"$amqp": type, "value": …}`. Pure: knows neither messages nor connections.
 */
import { isUtf8 } from 'node:buffer';
import { types } from 'node:util';
import { decimalFromBytes, decimalToBytes } from './decimal';
import { AmqpError } from './errors';

/** The AMQP type names of the notation. */
export type TypeName = keyof typeof TYPES;

/**
 * `exact`: whatever would be encoded as another type is given in the notation, so that encoding gives the same value
 * and type again. `plain`: the nearest JavaScript value; the notation only where there is none that holds the value.
 */
export type Style = 'exact' | 'plain';

/** Values nested deeper than this are refused in both directions. A cyclic object always is. */
const MAX_DEPTH = 128;
/** Elements that take no bytes (an array of nulls) that a decoder makes beyond one per byte of its input. */
const SPARE_EMPTY = 1024;

const INT = { min: -0x80000000, max: 0x7fffffff };
const LONG = { min: -(2n ** 63n), max: 2n ** 63n - 1n };
const ULONG = { min: 0n, max: 2n ** 64n - 1n };
const UUID = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
const INTEGER = /^-?\d{1,20}$/;
const ISO_DATE = /^\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?$/;

/**
 * For each type the code of its widest encoding, and how its content is written in it. The widest is what the
 * elements of an array share; compact encodings are a matter of `Encoder.typed`.
 */
const TYPES = {
  null: {
    code: 0x40,
    write: (e: Encoder, v: unknown) => (v === null || v === undefined ? undefined : e.fail('is not null')),
  },
  boolean: { code: 0x56, write: (e: Encoder, v: unknown) => e.uint8(e.boolean(v) ? 1 : 0) },
  ubyte: { code: 0x50, write: (e: Encoder, v: unknown) => e.uint8(e.integer(v, 0, 0xff)) },
  ushort: { code: 0x60, write: (e: Encoder, v: unknown) => e.uint16(e.integer(v, 0, 0xffff)) },
  uint: { code: 0x70, write: (e: Encoder, v: unknown) => e.uint32(e.integer(v, 0, 0xffffffff)) },
  ulong: { code: 0x80, write: (e: Encoder, v: unknown) => e.uint64(e.bigInteger(v, ULONG)) },
  byte: { code: 0x51, write: (e: Encoder, v: unknown) => e.uint8(e.integer(v, -0x80, 0x7f) & 0xff) },
  short: { code: 0x61, write: (e: Encoder, v: unknown) => e.uint16(e.integer(v, -0x8000, 0x7fff) & 0xffff) },
  int: { code: 0x71, write: (e: Encoder, v: unknown) => e.uint32(e.integer(v, INT.min, INT.max) >>> 0) },
  long: { code: 0x81, write: (e: Encoder, v: unknown) => e.uint64(BigInt.asUintN(64, e.bigInteger(v, LONG))) },
  float: { code: 0x72, write: (e: Encoder, v: unknown) => e.float(v) },
  double: { code: 0x82, write: (e: Encoder, v: unknown) => e.double(e.number(v)) },
  decimal32: { code: 0x74, write: (e: Encoder, v: unknown) => e.decimal(v, 4) },
  decimal64: { code: 0x84, write: (e: Encoder, v: unknown) => e.decimal(v, 8) },
  decimal128: { code: 0x94, write: (e: Encoder, v: unknown) => e.decimal(v, 16) },
  char: { code: 0x73, write: (e: Encoder, v: unknown) => e.uint32(e.char(v)) },
  timestamp: { code: 0x83, write: (e: Encoder, v: unknown) => e.uint64(BigInt.asUintN(64, e.timestamp(v))) },
  uuid: { code: 0x98, write: (e: Encoder, v: unknown) => e.raw(e.uuid(v)) },
  binary: { code: 0xb0, write: (e: Encoder, v: unknown) => e.sized32(e.binary(v)) },
  string: { code: 0xb1, write: (e: Encoder, v: unknown) => e.sized32(e.string(v)) },
  symbol: { code: 0xb3, write: (e: Encoder, v: unknown) => e.sized32(e.symbol(v)) },
  list: { code: 0xd0, write: (e: Encoder, v: unknown) => e.listContent(v, true) },
  map: { code: 0xd1, write: (e: Encoder, v: unknown) => e.mapContent(e.pairs(v), 'any', true) },
  array: { code: 0xf0, write: (e: Encoder) => e.fail('needs the notation with "of" for an array inside an array') },
  described: { code: 0x00, write: (e: Encoder) => e.fail('needs "of" with a descriptor for described elements') },
};

const NAMES = new Map(Object.entries(TYPES).map(([name, { code }]) => [code, name as TypeName]));

/** The element type of an array: a type name, or a described type. */
type Of = TypeName | { descriptor: unknown; of: Of };

interface Notation {
  $amqp: TypeName;
  value?: unknown;
  of?: Of;
  descriptor?: unknown;
}

export function isNotation(value: unknown): value is Notation {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, '$amqp');
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
    data.every((byte) => Number.isInteger(byte) && byte >= 0 && byte <= 0xff)
  );
}

/** True for objects that are nothing but their own properties, whatever realm they come from. */
export function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** Which keys a map may have: any value, only strings, or only symbols (annotations). */
type Keys = 'any' | 'string' | 'symbol';

/**
 * Writes AMQP values one after the other. Every failure is an `AmqpError` with code AMQP_BAD_MESSAGE that begins with
 * the path of the value, as in `msg.amqp.message_annotations["x"]`.
 */
export class Encoder {
  #bytes = Buffer.allocUnsafe(256);
  #length = 0;
  #path: (string | number)[] = [];
  #root: string;

  /** `path` names the value to be encoded in errors. */
  constructor(path = 'value') {
    this.#root = path;
  }

  /** Names what is encoded next. */
  at(path: string): this {
    this.#root = path;
    return this;
  }

  /** What was written so far, in a buffer of its own size. */
  finish(): Buffer {
    return this.#length > this.#bytes.length >> 1
      ? this.#bytes.subarray(0, this.#length)
      : Buffer.from(this.#bytes.subarray(0, this.#length));
  }

  fail(text: string, cause?: unknown): never {
    const steps = this.#path.map((step) => `[${JSON.stringify(step)}]`);
    const path = steps.length > 12 ? `${steps.slice(0, 6).join('')}…${steps.slice(-3).join('')}` : steps.join('');
    throw new AmqpError('AMQP_BAD_MESSAGE', `${this.#root}${path} ${text}`, null, cause);
  }

  /** A value whose type follows from JavaScript, or from the notation. */
  value(value: unknown): void {
    switch (typeof value) {
      case 'undefined':
        return this.uint8(0x40);
      case 'boolean':
        return this.uint8(value ? 0x41 : 0x42);
      case 'string':
        return this.typed('string', value);
      case 'number':
        return this.typed(numberType(value), value);
      case 'bigint':
        return this.typed(value > LONG.max ? 'ulong' : 'long', value);
      case 'object':
        return value === null ? this.uint8(0x40) : this.#object(value);
      default:
        return this.fail(`is a ${typeof value}, which cannot be sent`);
    }
  }

  /** A value of the given type, in its most compact encoding. */
  typed(type: TypeName, value: unknown): void {
    switch (type) {
      case 'null':
        TYPES.null.write(this, value);
        return this.uint8(0x40);
      case 'boolean':
        return this.uint8(this.boolean(value) ? 0x41 : 0x42);
      case 'uint': {
        const number = this.integer(value, 0, 0xffffffff);
        if (number === 0) return this.uint8(0x43);
        if (number > 0xff) break;
        this.uint8(0x52);
        return this.uint8(number);
      }
      case 'ulong': {
        const number = this.bigInteger(value, ULONG);
        if (number === 0n) return this.uint8(0x44);
        if (number > 0xffn) break;
        this.uint8(0x53);
        return this.uint8(Number(number));
      }
      case 'int': {
        const number = this.integer(value, INT.min, INT.max);
        if (number < -0x80 || number > 0x7f) break;
        this.uint8(0x54);
        return this.uint8(number & 0xff);
      }
      case 'long': {
        const number = this.bigInteger(value, LONG);
        if (number < -0x80n || number > 0x7fn) break;
        this.uint8(0x55);
        return this.uint8(Number(number) & 0xff);
      }
      case 'binary':
        return this.#sized(0xa0, this.binary(value));
      case 'string':
        return this.#string(value);
      case 'symbol':
        return this.#sized(0xa3, this.symbol(value));
      case 'list':
        return this.#list(value);
      case 'map':
        return this.map(this.pairs(value), 'any');
      default:
    }
    this.uint8(TYPES[type].code);
    this.#write(type, value);
  }

  /** A map from pairs; keys that are not of the kind are refused. */
  map(pairs: Iterable<[unknown, unknown]>, keys: Keys, simple = false): void {
    const start = this.#open(0xc1);
    this.#close(start, this.mapContent(pairs, keys, false, simple));
  }

  /** A described list of fields (a section, or a composite type), without the absent ones at its end. */
  composite(descriptor: number, fields: [name: string, type: TypeName | 'id', value: unknown][]): void {
    this.describe(descriptor);
    const start = this.#open(0xc0);
    const root = this.#root;
    for (const [name, type, value] of fields) {
      this.#root = `${root}.${name}`;
      if (value === undefined || value === null) this.uint8(0x40);
      else if (type === 'id') this.#id(value);
      else this.typed(type, isNotation(value) && value.$amqp === type ? value.value : value);
    }
    this.#root = root;
    this.#close(start, fields.length);
  }

  /** The constructor of a value described by a number below 256. */
  describe(descriptor: number): void {
    this.uint8(0x00);
    this.uint8(0x53);
    this.uint8(descriptor);
  }

  /** message-id and correlation-id: a string, an unsigned long, a uuid or binary (3.2.11-14). */
  #id(value: unknown): void {
    if (typeof value === 'string') return this.typed('string', value);
    if (typeof value === 'number' || typeof value === 'bigint') return this.typed('ulong', value);
    const bytes = bytesOf(value);
    if (bytes) return this.typed('binary', bytes);
    if (isNotation(value) && ['string', 'ulong', 'uuid', 'binary'].includes(value.$amqp)) return this.value(value);
    this.fail('is no message id: give a string, a number, a Buffer or {"$amqp": "uuid", "value": …}');
  }

  #object(value: object): void {
    if (isNotation(value)) return this.#notation(value);
    if (Array.isArray(value)) return this.#list(value);
    const bytes = bytesOf(value);
    if (bytes) return this.#sized(0xa0, bytes);
    if (types.isDate(value)) return this.typed('timestamp', value);
    if (types.isSet(value)) return this.#list(value);
    if (types.isMap(value) || isPlainObject(value)) return this.map(this.pairs(value), 'any');
    const { toJSON } = value as { toJSON?: unknown };
    if (typeof toJSON === 'function') return this.#nest(undefined, () => this.value(toJSON.call(value)));
    this.fail(`is an object of class ${value.constructor?.name || 'unknown'}, which cannot be sent`);
  }

  #notation(notation: Notation): void {
    const type: unknown = notation.$amqp;
    if (typeof type !== 'string' || !Object.hasOwn(TYPES, type)) {
      this.fail(`names an unknown AMQP type ${JSON.stringify(type)}`);
    }
    const allowed = ['$amqp', 'value', ...({ array: ['of'], described: ['descriptor'] }[type] ?? [])];
    const unknown = Object.keys(notation).find((key) => !allowed.includes(key));
    if (unknown) this.fail(`has an unknown key ${JSON.stringify(unknown)} beside "$amqp"`);
    if (type !== 'null' && notation.value === undefined) this.fail('has no "value"');
    if (type === 'array') return this.#array(notation);
    if (type === 'described') {
      if (notation.descriptor === undefined) this.fail('has no "descriptor"');
      this.uint8(0x00);
      this.#nest('descriptor', () => this.value(notation.descriptor));
      return this.#nest('value', () => this.value(notation.value));
    }
    this.typed(type as TypeName, notation.value);
  }

  #array(notation: Notation): void {
    const elements = notation.value;
    if (!Array.isArray(elements)) this.fail('needs an array as "value"');
    const of = notation.of ?? this.#commonType(elements);
    this.uint8(0xf0);
    this.#arrayContent(elements, of);
  }

  #arrayContent(elements: unknown[], of: Of): void {
    const size = this.#skip(4);
    this.uint32(elements.length);
    let element = of;
    while (typeof element === 'object' && element !== null) {
      const { descriptor, of: inner } = element;
      if (descriptor === undefined) this.fail('has no "descriptor" in "of"');
      this.uint8(0x00);
      this.#nest('of', () => this.value(descriptor));
      element = inner;
    }
    const type = element;
    if (!Object.hasOwn(TYPES, type) || type === 'described')
      this.fail(`has an unknown type in "of": ${JSON.stringify(type)}`);
    this.uint8(TYPES[type].code);
    elements.forEach((value, index) => this.#nest(index, () => this.#element(type, value)));
    this.#bytes.writeUInt32BE(this.#length - size - 4, size);
  }

  #element(type: TypeName, value: unknown): void {
    if (type === 'array') {
      if (!isNotation(value) || value.$amqp !== 'array' || !Array.isArray(value.value))
        this.fail('is not in array notation');
      return this.#arrayContent(value.value, value.of ?? this.#commonType(value.value));
    }
    this.#write(type, isNotation(value) && value.$amqp === type ? value.value : value);
  }

  /** The one type of all elements, for an array given without "of". */
  #commonType(elements: unknown[]): Of {
    const [first, ...rest] = elements.map((value) => this.#typeOf(value));
    if (first === undefined) return this.fail('is an empty array and needs "of"');
    // Whole numbers of different size are of one type when taken as the larger.
    const numbers = ['int', 'long', 'double'];
    if (numbers.includes(first)) {
      const largest = [first, ...rest].map((type) => numbers.indexOf(type));
      if (!largest.includes(-1)) return numbers[Math.max(...largest)] as TypeName;
    }
    if (rest.some((type) => type !== first)) this.fail('has elements of different types: it needs "of"');
    return first;
  }

  #typeOf(value: unknown): TypeName {
    if (isNotation(value)) return value.$amqp;
    if (value === null || value === undefined) return 'null';
    if (typeof value === 'number') return numberType(value);
    if (typeof value === 'bigint') return value > LONG.max ? 'ulong' : 'long';
    if (typeof value === 'boolean' || typeof value === 'string') return typeof value as TypeName;
    if (Array.isArray(value) || types.isSet(value)) return 'list';
    if (bytesOf(value)) return 'binary';
    return types.isDate(value) ? 'timestamp' : 'map';
  }

  #write(type: TypeName, value: unknown): void {
    TYPES[type].write(this, value);
  }

  #list(value: unknown): void {
    if (Array.isArray(value) && value.length === 0) return this.uint8(0x45);
    const start = this.#open(0xc0);
    this.#close(start, this.listContent(value, false));
  }

  /** The elements of a list; with `framed`, behind a size and count of four bytes each. Gives the count. */
  listContent(value: unknown, framed: boolean): number {
    if (!Array.isArray(value) && !types.isSet(value)) this.fail('is not a list');
    const start = framed ? this.#skip(8) : 0;
    let index = 0;
    for (const element of value) {
      const position = index++;
      this.#nest(position, () => this.value(element));
    }
    if (framed) this.#frame(start, index);
    return index;
  }

  /** The keys and values of a map; with `framed`, behind a size and count of four bytes each. Gives the count. */
  mapContent(pairs: Iterable<[unknown, unknown]>, keys: Keys, framed: boolean, simple = false): number {
    const start = framed ? this.#skip(8) : 0;
    let count = 0;
    for (const [key, value] of pairs) {
      // As in JSON: a property that is undefined is not there.
      if (value === undefined) continue;
      const step = typeof key === 'string' ? key : count / 2;
      this.#nest(step, () => {
        if (keys === 'any') this.value(key);
        else if (typeof key !== 'string') this.fail('has a key that is not a string');
        else this.typed(keys, key);
        if (simple && ['list', 'map', 'array', 'described'].includes(this.#typeOf(value))) {
          this.fail('is not a simple value: a list, map or array is not allowed here');
        }
        this.value(value);
      });
      count += 2;
    }
    if (framed) this.#frame(start, count);
    return count;
  }

  /** The pairs of a plain object, a Map, or a list of pairs. */
  pairs(value: unknown): Iterable<[unknown, unknown]> {
    if (types.isMap(value)) return value;
    if (isPlainObject(value)) return Object.entries(value);
    if (Array.isArray(value) && value.every((pair) => Array.isArray(pair) && pair.length === 2)) return value;
    return this.fail('is not a map');
  }

  #nest(step: string | number | undefined, inner: () => void): void {
    // As the decoder counts: a value in so many lists is one level deeper than its list. A toJSON may return its like.
    if (++this.#depth >= MAX_DEPTH) this.fail(`is cyclic, or nested deeper than ${MAX_DEPTH}`);
    if (step !== undefined) this.#path.push(step);
    inner();
    if (step !== undefined) this.#path.pop();
    this.#depth--;
  }
  #depth = 0;

  boolean(value: unknown): boolean {
    return typeof value === 'boolean' ? value : this.fail('is not a boolean');
  }

  integer(value: unknown, min: number, max: number): number {
    const number = typeof value === 'number' ? value : Number(this.bigInteger(value, LONG));
    if (!Number.isInteger(number)) this.fail(`is not a whole number: ${number}`);
    if (number < min || number > max) this.fail(`is out of range: ${number} is not within ${min} and ${max}`);
    return number;
  }

  bigInteger(value: unknown, { min, max }: { min: bigint; max: bigint }): bigint {
    let number: bigint;
    if (typeof value === 'bigint') number = value;
    else if (Number.isSafeInteger(value)) number = BigInt(value as number);
    else if (typeof value === 'string' && INTEGER.test(value)) number = BigInt(value);
    else if (typeof value === 'number')
      return this.fail(`is not a whole number that JavaScript holds exactly: ${value}`);
    else return this.fail('is not a whole number');
    if (number < min || number > max) this.fail(`is out of range: ${number} is not within ${min} and ${max}`);
    return number;
  }

  number(value: unknown): number {
    if (typeof value === 'number') return value;
    const number = typeof value === 'string' && value.trim() ? Number(value) : NaN;
    return Number.isNaN(number) && value !== 'NaN' ? this.fail('is not a number') : number;
  }

  char(value: unknown): number {
    const code =
      typeof value === 'string' && /^.$/su.test(value) ? value.codePointAt(0)! : this.integer(value, 0, 0x10ffff);
    return code >= 0xd800 && code <= 0xdfff ? this.fail('is half of a surrogate pair, not a character') : code;
  }

  timestamp(value: unknown): bigint {
    let time: unknown = value;
    if (types.isDate(value)) time = value.getTime();
    else if (typeof value === 'string' && ISO_DATE.test(value)) time = Date.parse(value);
    if (typeof time === 'number' && !Number.isSafeInteger(time)) this.fail('is not a valid point in time');
    if (typeof time === 'string' && !INTEGER.test(time))
      this.fail('is not a point in time: give a Date, milliseconds or ISO 8601 text');
    return this.bigInteger(time, LONG);
  }

  uuid(value: unknown): Buffer {
    if (typeof value === 'string' && UUID.test(value)) return Buffer.from(value.replaceAll('-', ''), 'hex');
    const bytes = bytesOf(value);
    return bytes?.length === 16 ? bytes : this.fail('is not a uuid');
  }

  binary(value: unknown): Buffer {
    if (typeof value === 'string' && BASE64.test(value)) return Buffer.from(value, 'base64');
    return bytesOf(value) ?? this.fail('is not binary: give a Buffer or base64 text');
  }

  string(value: unknown): Buffer {
    if (typeof value !== 'string') return this.fail('is not a string');
    return Buffer.from(this.#wellFormed(value));
  }

  symbol(value: unknown): Buffer {
    // eslint-disable-next-line no-control-regex
    if (typeof value !== 'string' || !/^[\x00-\x7f]*$/.test(value))
      return this.fail('is not a symbol: only ASCII text is allowed here');
    return Buffer.from(value, 'latin1');
  }

  decimal(value: unknown, bytes: 4 | 8 | 16): void {
    if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'bigint')
      this.fail('is not a decimal number');
    try {
      this.raw(decimalToBytes(String(value), bytes));
    } catch (error) {
      this.fail((error as Error).message);
    }
  }

  float(value: unknown): void {
    const number = this.number(value);
    if (Number.isFinite(number) && !Number.isFinite(Math.fround(number)))
      this.fail(`is out of range: ${number} is no float`);
    this.#reserve(4);
    this.#length = this.#bytes.writeFloatBE(number, this.#length);
  }

  double(value: number): void {
    this.#reserve(8);
    this.#length = this.#bytes.writeDoubleBE(value, this.#length);
  }

  uint8(value: number): void {
    this.#reserve(1);
    this.#bytes[this.#length++] = value;
  }

  uint16(value: number): void {
    this.#reserve(2);
    this.#length = this.#bytes.writeUInt16BE(value, this.#length);
  }

  uint32(value: number): void {
    this.#reserve(4);
    this.#length = this.#bytes.writeUInt32BE(value, this.#length);
  }

  uint64(value: bigint): void {
    this.#reserve(8);
    this.#length = this.#bytes.writeBigUInt64BE(value, this.#length);
  }

  raw(bytes: Buffer): void {
    this.#reserve(bytes.length);
    this.#length += bytes.copy(this.#bytes, this.#length);
  }

  sized32(bytes: Buffer): void {
    this.uint32(bytes.length);
    this.raw(bytes);
  }

  #wellFormed(value: string): string {
    return value.isWellFormed() ? value : this.fail('has half of a surrogate pair in it, which UTF-8 cannot hold');
  }

  #string(value: unknown): void {
    if (typeof value !== 'string') this.fail('is not a string');
    const length = Buffer.byteLength(this.#wellFormed(value));
    this.uint8(length > 0xff ? 0xb1 : 0xa1);
    if (length > 0xff) this.uint32(length);
    else this.uint8(length);
    this.#reserve(length);
    this.#length += this.#bytes.write(value, this.#length, length, 'utf8');
  }

  /** Bytes behind the code and a length of one byte or, with the code's wide form, four. */
  #sized(code: number, bytes: Buffer): void {
    if (bytes.length > 0xff) {
      this.uint8(code + 0x10);
      return this.sized32(bytes);
    }
    this.uint8(code);
    this.uint8(bytes.length);
    this.raw(bytes);
  }

  /** Begins a list or map in its one-byte-size form; `#close` widens it when it has grown too large for that. */
  #open(code: number): number {
    this.uint8(code);
    return this.#skip(2);
  }

  #close(start: number, count: number): void {
    const size = this.#length - start - 1;
    if (size <= 0xff && count <= 0xff) {
      this.#bytes[start] = size;
      this.#bytes[start + 1] = count;
      return;
    }
    this.#skip(6);
    this.#bytes.copyWithin(start + 8, start + 2, this.#length - 6);
    this.#bytes[start - 1]! += 0x10;
    this.#frame(start, count);
  }

  #frame(start: number, count: number): void {
    this.#bytes.writeUInt32BE(this.#length - start - 4, start);
    this.#bytes.writeUInt32BE(count, start + 4);
  }

  #skip(bytes: number): number {
    this.#reserve(bytes);
    const start = this.#length;
    this.#length += bytes;
    return start;
  }

  #reserve(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(needed, this.#bytes.length * 2));
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
  }
}

/** The type of a JavaScript number: int, long where it is too large for that, double unless whole and exact. */
function numberType(value: number): 'int' | 'long' | 'double' {
  if (!Number.isSafeInteger(value) || Object.is(value, -0)) return 'double';
  return value >= INT.min && value <= INT.max ? 'int' : 'long';
}

/**
 * Reads AMQP values one after the other. Whatever the bytes are, it ends with a value or with an `AmqpError` of code
 * AMQP_DECODE that tells the position; it never makes more than the input's length allows.
 */
export class Decoder {
  offset = 0;
  /** May be changed between values. */
  style: Style;
  readonly bytes: Buffer;
  #depth = 0;
  #emptyLeft: number;

  constructor(bytes: Buffer, style: Style = 'exact') {
    this.bytes = bytes;
    this.style = style;
    this.#emptyLeft = bytes.length + SPARE_EMPTY;
  }

  get done(): boolean {
    return this.offset >= this.bytes.length;
  }

  fail(text: string, position = this.offset): never {
    throw new AmqpError('AMQP_DECODE', `${text} at byte ${position}`, { info: { position } });
  }

  /** The next value, whatever its type, in the style asked for. */
  value(): unknown {
    return this.#value(this.#code());
  }

  /** The descriptor of the value that comes next, when that is described by a number, as sections and composites are. */
  descriptor(): number {
    const start = this.offset;
    if (this.#code() !== 0x00) this.fail('a section must be described', start);
    const code = this.#code();
    if (code === 0x53) return this.#take(1)[0]!;
    if (code === 0x80) return Number(this.#take(8).readBigUInt64BE());
    if (code === 0xa3 || code === 0xb3) return SECTION_SYMBOLS.indexOf(this.#symbol(code)) + 0x70;
    return this.fail('a section must be described by a number or a symbol', start);
  }

  /** The values of a list, for a section that is one; each is read in turn by `read`, which gets its index. */
  fields(read: (index: number) => void): void {
    const code = this.#code();
    if (code === 0x45) return;
    if (code !== 0xc0 && code !== 0xd0) this.fail('expected a list', this.offset - 1);
    this.#compound(code, (count) => {
      for (let index = 0; index < count; index++) read(index);
    });
  }

  /** The pairs of a map, for a section that is one, with string or symbol keys where it has such. */
  pairs(): [unknown, unknown][] {
    const code = this.#code();
    if (code !== 0xc1 && code !== 0xd1) this.fail('expected a map', this.offset - 1);
    return this.#pairs(code, true);
  }

  /** A list, for a section that is one. */
  list(): unknown[] {
    const code = this.#code();
    if (code !== 0x45 && code !== 0xc0 && code !== 0xd0) this.fail('expected a list', this.offset - 1);
    return this.#list(code);
  }

  /** The bytes of a binary value: a slice of the input. */
  binary(): Buffer {
    const code = this.#code();
    if (code !== 0xa0 && code !== 0xb0) this.fail('expected binary', this.offset - 1);
    return this.#sized(code);
  }

  /** The next value if it is of `type`; `null` counts as absent and gives undefined. */
  typed(type: TypeName): unknown {
    const start = this.offset;
    const code = this.#code();
    if (code === 0x40) return undefined;
    if (typeOfCode(code) !== type) this.fail(`expected ${type}, got code 0x${code.toString(16)}`, start);
    return this.#raw(code, type);
  }

  /** message-id and correlation-id: plain when a string, number or binary, else in the notation. */
  id(): unknown {
    const start = this.offset;
    const code = this.#code();
    if (code === 0x40) return undefined;
    const type = typeOfCode(code);
    if (type === 'string' || type === 'binary') return this.#raw(code, type);
    if (type === 'uuid') return { $amqp: 'uuid', value: this.#raw(code, type) };
    if (type !== 'ulong') this.fail(`expected a message id, got code 0x${code.toString(16)}`, start);
    const number = this.#raw(code, type);
    return typeof number === 'number' ? number : { $amqp: 'ulong', value: number };
  }

  #value(code: number): unknown {
    if (++this.#depth > MAX_DEPTH) this.fail(`nested deeper than ${MAX_DEPTH}`);
    const value = code === 0x00 ? this.#described() : this.#undescribed(code);
    this.#depth--;
    return value;
  }

  #described(): unknown {
    const descriptor = this.value();
    return { $amqp: 'described', descriptor, value: this.value() };
  }

  #undescribed(code: number): unknown {
    const type = typeOfCode(code);
    if (type === undefined) return this.fail(`unknown type code 0x${code.toString(16)}`, this.offset - 1);
    if (type === 'list') return this.#list(code);
    if (type === 'map') return this.#map(code);
    if (type === 'array') return this.#array(code);
    return this.#present(type, this.#raw(code, type));
  }

  /** A simple value as it stands, or in the notation where the style asks for that. */
  #present(type: TypeName, value: unknown): unknown {
    if (type === 'null' || type === 'boolean' || type === 'string' || type === 'binary' || type === 'int') return value;
    if (this.style === 'plain') {
      if (type === 'timestamp')
        return typeof value === 'number' && Math.abs(value) <= 8.64e15 ? new Date(value) : { $amqp: type, value };
      const isText = type === 'uuid' || type === 'symbol' || type === 'char';
      return typeof value === 'number' || isText ? value : { $amqp: type, value };
    }
    const json = jsonOf(value);
    // Plain when a plain number is sent as the same type again.
    if (typeof json === 'number' && (type === 'double' || type === 'long') && numberType(json) === type) return json;
    return { $amqp: type, value: json };
  }

  /** The content of a simple value: numbers beyond exact JavaScript, and decimals, as text. */
  #raw(code: number, type: TypeName): unknown {
    switch (code) {
      case 0x40:
        return null;
      case 0x41:
        return true;
      case 0x42:
        return false;
      case 0x43:
      case 0x44:
        return 0;
      case 0x56: {
        const byte = this.#take(1)[0]!;
        return byte > 1 ? this.fail('a boolean is neither 0 nor 1', this.offset - 1) : byte === 1;
      }
      case 0x50:
      case 0x52:
      case 0x53:
        return this.#take(1)[0];
      case 0x51:
      case 0x54:
      case 0x55:
        return this.#take(1).readInt8();
      case 0x60:
        return this.#take(2).readUInt16BE();
      case 0x61:
        return this.#take(2).readInt16BE();
      case 0x70:
        return this.#take(4).readUInt32BE();
      case 0x71:
        return this.#take(4).readInt32BE();
      case 0x72:
        return this.#take(4).readFloatBE();
      case 0x73:
        return this.#char();
      case 0x80:
        return exactNumber(this.#take(8).readBigUInt64BE());
      case 0x81:
      case 0x83:
        return exactNumber(this.#take(8).readBigInt64BE());
      case 0x82:
        return this.#take(8).readDoubleBE();
      case 0x74:
        return decimalFromBytes(this.#take(4));
      case 0x84:
        return decimalFromBytes(this.#take(8));
      case 0x94:
        return decimalFromBytes(this.#take(16));
      case 0x98:
        return this.#take(16)
          .toString('hex')
          .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
      case 0xa0:
      case 0xb0:
        // A copy: the slice would keep the whole chunk read from the socket alive.
        return Buffer.from(this.#sized(code));
      case 0xa1:
      case 0xb1: {
        const bytes = this.#sized(code);
        return isUtf8(bytes) ? bytes.toString() : this.fail('a string is not UTF-8', this.offset - bytes.length);
      }
      case 0xa3:
      case 0xb3:
        return this.#symbol(code);
      default:
        return this.fail(`a ${type} is not allowed here`, this.offset - 1);
    }
  }

  #symbol(code: number): string {
    const bytes = this.#sized(code);
    return bytes.some((byte) => byte > 0x7f)
      ? this.fail('a symbol is not ASCII', this.offset - bytes.length)
      : bytes.toString('latin1');
  }

  #char(): string {
    const code = this.#take(4).readUInt32BE();
    if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
      this.fail('a char is not a Unicode character', this.offset - 4);
    return String.fromCodePoint(code);
  }

  #list(code: number): unknown[] {
    const list: unknown[] = [];
    if (code === 0x45) return list;
    this.#compound(code, (count) => {
      for (let index = 0; index < count; index++) list.push(this.value());
    });
    return list;
  }

  #pairs(code: number, asText: boolean): [unknown, unknown][] {
    const pairs: [unknown, unknown][] = [];
    const keys = new Set<string>();
    this.#compound(code, (count) => {
      if (count % 2) this.fail('a map has a key without a value');
      for (let index = 0; index < count; index += 2) {
        const start = this.offset;
        const key = asText ? this.#key() : this.value();
        const identity = this.bytes.toString('latin1', start, this.offset);
        if (keys.has(identity)) this.fail('a map has the same key twice', start);
        keys.add(identity);
        pairs.push([key, this.value()]);
      }
    });
    return pairs;
  }

  /** The key of a map whose keys are text of one kind by definition, so that string and symbol need no notation. */
  #key(): unknown {
    const code = this.bytes[this.offset]!;
    const type = typeOfCode(code);
    if (type !== 'symbol' && type !== 'string') return this.value();
    this.offset++;
    return this.#raw(code, type);
  }

  #map(code: number): unknown {
    const pairs = this.#pairs(code, false);
    return objectOf(pairs) ?? { $amqp: 'map', value: pairs };
  }

  #array(code: number): unknown {
    let array: unknown;
    this.#compound(code, (count) => {
      const descriptors: unknown[] = [];
      let element = this.#code();
      while (element === 0x00) {
        descriptors.push(this.value());
        if (descriptors.length > MAX_DEPTH) this.fail(`nested deeper than ${MAX_DEPTH}`);
        element = this.#code();
      }
      const type = typeOfCode(element);
      if (type === undefined) return this.fail(`unknown type code 0x${element.toString(16)}`, this.offset - 1);
      // Elements that take no bytes are bounded by what all of the input may have of them.
      const isEmpty = element >= 0x40 && element <= 0x45;
      if (isEmpty) this.#emptyLeft -= count;
      if (isEmpty ? this.#emptyLeft < 0 : count > this.bytes.length - this.offset) {
        this.fail('an array claims more elements than there are');
      }
      const values: unknown[] = [];
      if (++this.#depth > MAX_DEPTH) this.fail(`nested deeper than ${MAX_DEPTH}`);
      for (let index = 0; index < count; index++) values.push(this.#element(element, type));
      this.#depth--;
      const of = descriptors.reduceRight((inner, descriptor) => ({ descriptor, of: inner }), type as unknown);
      array = this.style === 'plain' && of === type ? values : { $amqp: 'array', of, value: values };
    });
    return array;
  }

  /** An element of an array: the array names its type, so the notation is needed only for what is no JSON. */
  #element(code: number, type: TypeName): unknown {
    const isContainer = type === 'list' || type === 'map' || type === 'array';
    return isContainer || this.style === 'plain' ? this.#undescribed(code) : jsonOf(this.#raw(code, type));
  }

  /** Reads size and count, then `read`, which must use up just that many bytes. */
  #compound(code: number, read: (count: number) => void): void {
    const start = this.offset - 1;
    const isWide = code >= 0xd0 && code !== 0xe0;
    const width = isWide ? 4 : 1;
    const size = isWide ? this.#take(4).readUInt32BE() : this.#take(1)[0]!;
    const end = this.offset + size;
    if (end > this.bytes.length || size < width) this.fail('a list, map or array has a wrong size', start);
    const count = isWide ? this.#take(4).readUInt32BE() : this.#take(1)[0]!;
    const isArray = code === 0xe0 || code === 0xf0;
    if (!isArray && count > end - this.offset) this.fail('a list or map claims more values than there are', start);
    read(count);
    if (this.offset !== end) this.fail('a list, map or array does not fill its size', start);
  }

  #sized(code: number): Buffer {
    return this.#take(code >= 0xb0 ? this.#take(4).readUInt32BE() : this.#take(1)[0]!);
  }

  #code(): number {
    return this.#take(1)[0]!;
  }

  #take(length: number): Buffer {
    const end = this.offset + length;
    if (end > this.bytes.length) this.fail('the bytes end too early');
    const bytes = this.bytes.subarray(this.offset, end);
    this.offset = end;
    return bytes;
  }
}

/** Descriptors of the message sections as symbols, from 0x70 on: rarely used on the wire, but allowed (1.3.1). */
const SECTION_SYMBOLS = [
  'amqp:header:list',
  'amqp:delivery-annotations:map',
  'amqp:message-annotations:map',
  'amqp:properties:list',
  'amqp:application-properties:map',
  'amqp:data:binary',
  'amqp:amqp-sequence:list',
  'amqp:amqp-value:*',
  'amqp:footer:map',
];

/** Codes that are not the widest of their type. */
const COMPACT = new Map<number, TypeName>([
  [0x41, 'boolean'],
  [0x42, 'boolean'],
  [0x43, 'uint'],
  [0x44, 'ulong'],
  [0x45, 'list'],
  [0x52, 'uint'],
  [0x53, 'ulong'],
  [0x54, 'int'],
  [0x55, 'long'],
  [0xa0, 'binary'],
  [0xa1, 'string'],
  [0xa3, 'symbol'],
  [0xc0, 'list'],
  [0xc1, 'map'],
  [0xe0, 'array'],
]);

function typeOfCode(code: number): TypeName | undefined {
  return COMPACT.get(code) ?? (code === 0x00 ? undefined : NAMES.get(code));
}

/** JSON has no NaN, no infinities and no negative zero: they are text. */
function jsonOf(value: unknown): unknown {
  if (Object.is(value, -0)) return '-0';
  return typeof value === 'number' && !Number.isFinite(value) ? String(value) : value;
}

/** A number where JavaScript holds it exactly, else its digits. */
function exactNumber(value: bigint): number | string {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : String(value);
}

/**
 * A plain object of the pairs, or undefined where an object would be read as something else on the way back: keys that
 * are not strings, the notation's own key, or what JSON makes of a Buffer.
 */
export function objectOf(pairs: [unknown, unknown][]): Record<string, unknown> | undefined {
  const object: Record<string, unknown> = {};
  for (const [key, value] of pairs) {
    if (typeof key !== 'string' || key === '$amqp') return undefined;
    // Assigning to this key would set the prototype of the object.
    if (key === '__proto__')
      Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
    else object[key] = value;
  }
  return isBufferJson(object) ? undefined : object;
}
