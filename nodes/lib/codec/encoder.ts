import { types } from 'node:util';
import { CODE, isTypeName, type TypeName } from './codes';
import { decimalToBytes } from './decimal';
import { AmqpError, amqpError, messageOf } from '../errors';
import {
  bytesOf,
  INT,
  isNotation,
  isPlainObject,
  LONG,
  MAX_DEPTH,
  MAX_EMPTY,
  maxKeyBytes,
  type Notation,
  numberType,
  type Of,
} from './notation';

const ULONG = { min: 0n, max: 2n ** 64n - 1n };
const UUID = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i;
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;
const INTEGER = /^-?\d{1,20}$/;
const ISO_DATE = /^\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?$/;

/** What the notation of a type has beside its value. */
const OWN_KEYS: Partial<Record<TypeName, string[]>> = { array: ['of'], described: ['descriptor'] };

/** How the content of a value is written in the widest encoding of its type; what refuses it names what is wrong. */
const WRITERS: Record<TypeName, (e: Encoder, v: unknown) => void> = {
  null: (e, v) => (v === null || v === undefined ? undefined : e.fail('is not null')),
  boolean: (e, v) => e.uint8(e.boolean(v) ? 1 : 0),
  ubyte: (e, v) => e.uint8(e.integer(v, 0, 0xff)),
  ushort: (e, v) => e.uint16(e.integer(v, 0, 0xffff)),
  uint: (e, v) => e.uint32(e.integer(v, 0, 0xffffffff)),
  ulong: (e, v) => e.uint64(e.bigInteger(v, ULONG)),
  byte: (e, v) => e.uint8(e.integer(v, -0x80, 0x7f) & 0xff),
  short: (e, v) => e.uint16(e.integer(v, -0x8000, 0x7fff) & 0xffff),
  int: (e, v) => e.uint32(e.integer(v, INT.min, INT.max) >>> 0),
  long: (e, v) => e.uint64(BigInt.asUintN(64, e.bigInteger(v, LONG))),
  float: (e, v) => e.float(v),
  double: (e, v) => e.double(e.number(v)),
  decimal32: (e, v) => e.decimal(v, 4),
  decimal64: (e, v) => e.decimal(v, 8),
  decimal128: (e, v) => e.decimal(v, 16),
  char: (e, v) => e.uint32(e.char(v)),
  timestamp: (e, v) => e.uint64(BigInt.asUintN(64, e.timestamp(v))),
  uuid: (e, v) => e.raw(e.uuid(v)),
  binary: (e, v) => e.sized32(e.binary(v)),
  string: (e, v) => e.sized32(e.string(v)),
  symbol: (e, v) => e.sized32(e.symbol(v)),
  list: (e, v) => e.listContent(v, true),
  map: (e, v) => e.mapContent(e.pairs(v), 'any', true),
  array: (e) => e.fail('needs the notation with "of" for an array inside an array'),
  described: (e) => e.fail('needs "of" with a descriptor for described elements'),
};

const NOTHING = Buffer.alloc(0);
const SCRATCH_SIZE = 4096;
/** Most messages fit it, and leave it to the next: two buffers for each would be twice the garbage. */
let scratch: Buffer | undefined;

function takeScratch(): Buffer {
  const taken = scratch ?? Buffer.allocUnsafe(SCRATCH_SIZE);
  scratch = undefined;
  return taken;
}

/** A field of a composite type. */
export type Field = readonly [name: string, type: TypeName | 'id'];

/** Which keys a map may have: any value, only strings, or only symbols (annotations). */
type Keys = 'any' | 'string' | 'symbol';

/**
 * Writes AMQP values one after the other. Every failure is an `AmqpError` with code AMQP_BAD_MESSAGE that begins with
 * the path of the value, as in `msg.amqp.message_annotations["x"]`.
 */
export class Encoder {
  #bytes = takeScratch();
  #length = 0;
  #path: (string | number)[] = [];
  /** Of the limits that the decoder has. */
  #empty = 0;
  #keyBytes = 0;
  #root: string;
  /** Of a composite, while it is encoded. */
  #field: string | undefined;

  /** `path` names the value to be encoded in errors. */
  constructor(path = 'value') {
    this.#root = path;
  }

  /** Names what is encoded next. */
  at(path: string): this {
    this.#root = path;
    return this;
  }

  /** What was written, in a buffer of its own. Nothing can be written after that. */
  finish(): Buffer {
    if (this.#keyBytes > maxKeyBytes(this.#length))
      this.fail('has a map with keys that are maps or lists, nested too deeply');
    const written = this.#bytes;
    this.#bytes = NOTHING;
    if (written.length > SCRATCH_SIZE) return written.subarray(0, this.#length);
    const bytes = Buffer.allocUnsafe(this.#length);
    written.copy(bytes, 0, 0, this.#length);
    scratch = written;
    return bytes;
  }

  fail(text: string, cause?: unknown): never {
    const steps = this.#path.map((step) => `[${JSON.stringify(step)}]`);
    const path = steps.length > 12 ? `${steps.slice(0, 6).join('')}…${steps.slice(-3).join('')}` : steps.join('');
    const root = this.#field === undefined ? this.#root : `${this.#root}.${this.#field}`;
    throw amqpError('AMQP_BAD_MESSAGE.value', { path: root + path, text }, { cause });
  }

  /** A value whose type follows from JavaScript, or from the notation. */
  value(value: unknown): void {
    switch (typeof value) {
      case 'undefined':
        return this.uint8(CODE.null);
      case 'boolean':
        return this.uint8(value ? CODE.true : CODE.false);
      case 'string':
        return this.typed('string', value);
      case 'number':
        return this.typed(numberType(value), value);
      case 'bigint':
        return this.typed(value > LONG.max ? 'ulong' : 'long', value);
      case 'object':
        return value === null ? this.uint8(CODE.null) : this.#object(value);
      default:
        return this.fail(`is a ${typeof value}, which cannot be sent`);
    }
  }

  /** A value of the given type, in its most compact encoding. */
  typed(type: TypeName, value: unknown): void {
    switch (type) {
      case 'null':
        WRITERS.null(this, value);
        return this.uint8(CODE.null);
      case 'boolean':
        return this.uint8(this.boolean(value) ? CODE.true : CODE.false);
      case 'uint': {
        const number = this.integer(value, 0, 0xffffffff);
        if (number === 0) return this.uint8(CODE.uint0);
        if (number > 0xff) break;
        this.uint8(CODE.uint8);
        return this.uint8(number);
      }
      case 'ulong': {
        const number = this.bigInteger(value, ULONG);
        if (number === 0n) return this.uint8(CODE.ulong0);
        if (number > 0xffn) break;
        this.uint8(CODE.ulong8);
        return this.uint8(Number(number));
      }
      case 'int': {
        const number = this.integer(value, INT.min, INT.max);
        if (number < -0x80 || number > 0x7f) break;
        this.uint8(CODE.int8);
        return this.uint8(number & 0xff);
      }
      case 'long': {
        const number = this.bigInteger(value, LONG);
        if (number < -0x80n || number > 0x7fn) break;
        this.uint8(CODE.long8);
        return this.uint8(Number(number) & 0xff);
      }
      case 'binary':
        return this.#sized(CODE.binary8, this.binary(value));
      case 'string':
        return this.#string(value);
      case 'symbol':
        return this.#sized(CODE.symbol8, this.symbol(value));
      case 'list':
        return this.#list(value);
      case 'map':
        return this.map(this.pairs(value), 'any');
      default:
    }
    this.uint8(CODE[type]);
    this.#write(type, value);
  }

  /** A map from pairs; keys that are not of the kind are refused. */
  map(pairs: Iterable<[unknown, unknown]>, keys: Keys, simple = false): void {
    const start = this.#open(CODE.map8);
    this.#close(start, this.mapContent(pairs, keys, false, simple));
  }

  /** A described list of fields (a section), without the absent ones at its end; nothing when all are absent. */
  composite(descriptor: number, definition: readonly Field[], values: Readonly<Record<string, unknown>>): void {
    let count = definition.length;
    while (count > 0 && !isPresent(values[definition[count - 1]![0]])) count--;
    if (count === 0) return;
    this.describe(descriptor);
    const start = this.#open(CODE.list8);
    for (let index = 0; index < count; index++) {
      const [name, type] = definition[index]!;
      const value = values[name];
      this.#field = name;
      if (!isPresent(value)) this.uint8(CODE.null);
      else if (type === 'id') this.id(value);
      else this.typed(type, isNotation(value) && value.$amqp === type ? value.value : value);
    }
    this.#field = undefined;
    this.#close(start, count);
  }

  /** The constructor of a value described by a number below 256. */
  describe(descriptor: number): void {
    this.uint8(CODE.described);
    this.uint8(CODE.ulong8);
    this.uint8(descriptor);
  }

  /** message-id and correlation-id: a string, an unsigned long, a uuid or binary (3.2.11-14). */
  id(value: unknown): void {
    if (typeof value === 'string') return this.typed('string', value);
    if (typeof value === 'number' || typeof value === 'bigint') return this.typed('ulong', value);
    const bytes = bytesOf(value);
    if (bytes) return this.typed('binary', bytes);
    if (isNotation(value) && ['string', 'ulong', 'uuid', 'binary'].includes(value.$amqp)) return this.value(value);
    this.fail('is no message id: give a string, a number, a Buffer or {"$amqp": "uuid", "value": …}');
  }

  #object(value: object): void {
    try {
      this.#objectValue(value);
    } catch (error) {
      if (error instanceof AmqpError) throw error;
      this.fail(`cannot be read: ${messageOf(error)}`, error);
    }
  }

  #objectValue(value: object): void {
    if (isNotation(value)) return this.#notation(value);
    if (Array.isArray(value)) return this.#list(value);
    const bytes = bytesOf(value);
    if (bytes) return this.#sized(CODE.binary8, bytes);
    if (types.isDate(value)) return this.typed('timestamp', value);
    if (types.isSet(value)) return this.#list(value);
    if (types.isMap(value) || isPlainObject(value)) return this.map(this.pairs(value), 'any');
    const { toJSON } = value as { toJSON?: unknown };
    if (typeof toJSON === 'function') return this.#nest(undefined, () => this.value(toJSON.call(value)));
    this.fail(`is an object of class ${value.constructor?.name || 'unknown'}, which cannot be sent`);
  }

  #notation(notation: Notation): void {
    const type: unknown = notation.$amqp;
    if (!isTypeName(type)) return this.fail(`names an unknown AMQP type ${JSON.stringify(type)}`);
    const allowed = ['$amqp', 'value', ...(OWN_KEYS[type] ?? [])];
    const unknown = Object.keys(notation).find((key) => !allowed.includes(key));
    if (unknown) this.fail(`has an unknown key ${JSON.stringify(unknown)} beside "$amqp"`);
    if (type !== 'null' && notation.value === undefined) this.fail('has no "value"');
    if (type === 'array') return this.#array(notation);
    if (type === 'described') {
      if (notation.descriptor === undefined) this.fail('has no "descriptor"');
      this.uint8(CODE.described);
      this.#nest('descriptor', () => this.value(notation.descriptor));
      return this.#nest('value', () => this.value(notation.value));
    }
    this.typed(type, notation.value);
  }

  #array(notation: Notation): void {
    const elements = notation.value;
    if (!Array.isArray(elements)) this.fail('needs an array as "value"');
    const of = notation.of ?? this.#commonType(elements);
    this.uint8(CODE.array);
    this.#arrayContent(elements, of);
  }

  #arrayContent(elements: unknown[], of: Of): void {
    const size = this.#skip(4);
    this.uint32(elements.length);
    let element = of;
    for (let depth = 0; typeof element === 'object' && element !== null; depth++) {
      if (depth > MAX_DEPTH) this.fail(`has an "of" that is cyclic, or nested deeper than ${MAX_DEPTH}`);
      const { descriptor, of: inner } = element;
      if (descriptor === undefined) this.fail('has no "descriptor" in "of"');
      this.uint8(CODE.described);
      this.#nest('of', () => this.value(descriptor));
      element = inner;
    }
    const type = element;
    if (!isTypeName(type) || type === 'described') this.fail(`has an unknown type in "of": ${JSON.stringify(type)}`);
    this.uint8(CODE[type]);
    if (type === 'null') this.#empty += elements.length;
    if (this.#empty > MAX_EMPTY) this.fail(`has more than ${MAX_EMPTY} nulls in arrays`);
    for (const [index, value] of elements.entries()) this.#nest(index, () => this.#element(type, value));
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
    WRITERS[type](this, value);
  }

  #list(value: unknown): void {
    if (Array.isArray(value) && value.length === 0) return this.uint8(CODE.list0);
    const start = this.#open(CODE.list8);
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
    const seen = mayRepeat(pairs) ? new Set<string>() : undefined;
    for (const [key, value] of pairs) {
      // As in JSON: a property that is undefined is not there.
      if (value === undefined) continue;
      const step = typeof key === 'string' ? key : count / 2;
      this.#nest(step, () => {
        const before = this.#length;
        if (keys === 'any') this.value(key);
        else if (typeof key !== 'string') this.fail('has a key that is not a string');
        else this.typed(keys, key);
        if (seen) {
          const identity = this.#bytes.toString('latin1', before, this.#length);
          if (seen.has(identity)) this.fail('is there twice');
          seen.add(identity);
        }
        if (typeof key === 'object') this.#keyBytes += this.#length - before;
        if (
          simple &&
          typeof value !== 'function' &&
          ['list', 'map', 'array', 'described'].includes(this.#typeOf(value))
        ) {
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
    if (isPlainObject(value)) return new Map(Object.entries(value));
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
    if (!Number.isFinite(number) && !/^(?:NaN|[+-]?Infinity)$/.test(String(value).trim()))
      this.fail(Number.isNaN(number) ? 'is not a number' : 'is out of range: it is no double');
    return number;
  }

  char(value: unknown): number {
    if (typeof value === 'string' && !/^.$/su.test(value)) this.fail('is not a character');
    const code = typeof value === 'string' ? value.codePointAt(0)! : this.integer(value, 0, 0x10ffff);
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
    if (typeof value === 'string' && value.length % 4 === 0 && BASE64.test(value)) return Buffer.from(value, 'base64');
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
    this.uint8(length > 0xff ? CODE.string : CODE.string8);
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

/** Whether two keys may be the same once encoded: texts in a Map are not. */
function mayRepeat(pairs: Iterable<[unknown, unknown]>): boolean {
  if (!types.isMap(pairs)) return true;
  for (const key of pairs.keys()) if (typeof key !== 'string') return true;
  return false;
}

function isPresent(value: unknown): boolean {
  return value !== undefined && value !== null;
}
