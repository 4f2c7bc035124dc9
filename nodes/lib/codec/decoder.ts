import { isUtf8 } from 'node:buffer';
import { CODE, DESCRIPTOR_OF, type TypeName, TYPES } from './codes';
import { decimalFromBytes } from './decimal';
import { amqpError } from '../errors';
import { jsonOf, MAX_DEPTH, MAX_EMPTY, maxKeyBytes, numberType, objectOf, type Style } from './notation';

// oxlint-disable-next-line no-control-regex -- they are ASCII
const NOT_ASCII = /[^\x00-\x7f]/;
const INTEGERS = new Set<TypeName>(['ubyte', 'ushort', 'uint', 'ulong', 'byte', 'short', 'int', 'long']);

/** Bytes of memory that JavaScript takes for each of these beside its content, roughly. */
export const COST = { value: 16, notation: 64, container: 64, entry: 128, bytes: 128, text: 32 };

/** What may be made of one delivery, which may be a batch of messages. */
export class Allowance {
  /** Bytes of memory beside the contents of texts and binaries, which are as long as what came. */
  left = 64 * 2 ** 20;
}

/**
 * Reads AMQP values one after the other. Whatever the bytes are, it ends with a value or with an `AmqpError` of code
 * AMQP_DECODE that tells the position. The time that this takes grows linearly with the bytes, and the memory is bounded:
 * a byte can stand for a value that takes a hundred.
 */
export class Decoder {
  offset = 0;
  /** May be changed between values. */
  style: Style;
  readonly bytes: Buffer;
  /** What has been done, counted in values that were read and bytes of keys that were compared. */
  steps = 0;
  readonly #allowance: Allowance;
  #depth = 0;
  #emptyLeft = MAX_EMPTY;
  #keyBytesLeft: number;

  constructor(bytes: Buffer, style: Style = 'exact', allowance = new Allowance()) {
    this.bytes = bytes;
    this.style = style;
    this.#allowance = allowance;
    this.#keyBytesLeft = maxKeyBytes(bytes.length);
  }

  get done(): boolean {
    return this.offset >= this.bytes.length;
  }

  fail(text: string, position = this.offset): never {
    throw amqpError('AMQP_DECODE.value', { text, position }, { peer: { info: { position } } });
  }

  /** The next value, whatever its type, in the style asked for. */
  value(): unknown {
    return this.#value(this.#byte());
  }

  /** The descriptor of the value that comes next, when that is described by a number, as sections and composites are. */
  descriptor(): number {
    const start = this.offset;
    if (this.#byte() !== CODE.described) this.fail('a section must be described', start);
    const code = this.#byte();
    if (code === CODE.ulong8) return this.#byte();
    if (code === CODE.ulong) return Number(this.bytes.readBigUInt64BE(this.#skip(8)));
    if (code === CODE.symbol8 || code === CODE.symbol) return DESCRIPTOR_OF[this.#symbol(code)] ?? 0;
    return this.fail('a section must be described by a number or a symbol', start);
  }

  /** The values of a list, for a section that is one; each is read in turn by `read`, which gets its index. */
  fields(read: (index: number) => void): void {
    const code = this.#byte();
    if (code === CODE.list0) return;
    if (code !== CODE.list8 && code !== CODE.list) this.fail('expected a list', this.offset - 1);
    this.#compound(code, (count) => {
      for (let index = 0; index < count; index++) read(index);
    });
  }

  /** The pairs of a map, for a section that is one, with string or symbol keys where it has such. */
  pairs(): [unknown, unknown][] {
    const code = this.#byte();
    if (code !== CODE.map8 && code !== CODE.map) this.fail('expected a map', this.offset - 1);
    return this.#pairs(code, true);
  }

  /** A list, for a section that is one. */
  list(): unknown[] {
    const code = this.#byte();
    if (code !== CODE.list0 && code !== CODE.list8 && code !== CODE.list) this.fail('expected a list', this.offset - 1);
    return this.#list(code);
  }

  /** The bytes of a binary value: a slice of the input. */
  binary(): Buffer {
    const code = this.#byte();
    if (code !== CODE.binary8 && code !== CODE.binary) this.fail('expected binary', this.offset - 1);
    this.#make(COST.bytes);
    return this.#sized(code);
  }

  /** The next value if it is of `type`; `null` counts as absent and gives undefined. */
  typed(type: TypeName): unknown {
    const start = this.offset;
    const code = this.#byte();
    if (code === CODE.null) return undefined;
    if (TYPES[code] !== type) this.fail(`expected ${type}, got code 0x${code.toString(16)}`, start);
    return this.#raw(code, type);
  }

  /** message-id and correlation-id: plain when a string, number or binary, else in the notation. */
  id(): unknown {
    const start = this.offset;
    const code = this.#byte();
    if (code === CODE.null) return undefined;
    const type = TYPES[code];
    if (type === 'string' || type === 'binary') return this.#raw(code, type);
    if (type === 'uuid') return { $amqp: 'uuid', value: this.#raw(code, type) };
    // An id is a ulong (3.2.11), but Qpid Dispatch's management answers a number as an int.
    const number = type && INTEGERS.has(type) ? this.#raw(code, type) : undefined;
    if (typeof number === 'number' && number >= 0) return number;
    if (typeof number === 'string' && !number.startsWith('-')) return { $amqp: 'ulong', value: number };
    return this.fail(`expected a message id, got code 0x${code.toString(16)}`, start);
  }

  /** Counts what is about to be made. */
  #make(cost: number): void {
    this.steps++;
    this.#allowance.left -= cost;
    if (this.#allowance.left < 0) this.fail('the message takes too much memory: it has too many values');
  }

  #value(code: number): unknown {
    this.#make(COST.value);
    if (++this.#depth > MAX_DEPTH) this.fail(`nested deeper than ${MAX_DEPTH}`);
    const value = code === CODE.described ? this.#described() : this.#undescribed(code);
    this.#depth--;
    return value;
  }

  /** Descriptors are read in exact style: their own type matters. */
  #descriptor(): unknown {
    const { style } = this;
    this.style = 'exact';
    const descriptor = this.value();
    this.style = style;
    return descriptor;
  }

  #described(): unknown {
    const descriptor = this.#descriptor();
    return { $amqp: 'described', descriptor, value: this.value() };
  }

  #undescribed(code: number): unknown {
    const type = TYPES[code];
    if (type === undefined) return this.fail(`unknown type code 0x${code.toString(16)}`, this.offset - 1);
    if (type === 'list') return this.#list(code);
    if (type === 'map') return this.#map(code);
    if (type === 'array') return this.#array(code);
    return this.#present(type, this.#raw(code, type));
  }

  /** A simple value as it stands, or in the notation where the style asks for that. */
  #present(type: TypeName, value: unknown): unknown {
    if (type === 'null' || type === 'boolean' || type === 'string' || type === 'binary' || type === 'int') return value;
    this.#make(COST.notation);
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
      case CODE.null:
        return null;
      case CODE.true:
        return true;
      case CODE.false:
        return false;
      case CODE.uint0:
      case CODE.ulong0:
        return 0;
      case CODE.boolean: {
        const byte = this.#byte();
        return byte > 1 ? this.fail('a boolean is neither 0 nor 1', this.offset - 1) : byte === 1;
      }
      case CODE.ubyte:
      case CODE.uint8:
      case CODE.ulong8:
        return this.#byte();
      case CODE.byte:
      case CODE.int8:
      case CODE.long8:
        return this.bytes.readInt8(this.#skip(1));
      case CODE.ushort:
        return this.bytes.readUInt16BE(this.#skip(2));
      case CODE.short:
        return this.bytes.readInt16BE(this.#skip(2));
      case CODE.uint:
        return this.#word();
      case CODE.int:
        return this.bytes.readInt32BE(this.#skip(4));
      case CODE.float:
        return this.bytes.readFloatBE(this.#skip(4));
      case CODE.char:
        return this.#char();
      case CODE.ulong:
        return exactNumber(this.bytes.readBigUInt64BE(this.#skip(8)));
      case CODE.long:
      case CODE.timestamp:
        return exactNumber(this.bytes.readBigInt64BE(this.#skip(8)));
      case CODE.double:
        return this.bytes.readDoubleBE(this.#skip(8));
      case CODE.decimal32:
        return decimalFromBytes(this.#take(4));
      case CODE.decimal64:
        return decimalFromBytes(this.#take(8));
      case CODE.decimal128:
        return decimalFromBytes(this.#take(16));
      case CODE.uuid:
        return this.#take(16)
          .toString('hex')
          .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
      case CODE.binary8:
      case CODE.binary:
        this.#make(COST.bytes);
        return kept(this.#sized(code));
      case CODE.string8:
      case CODE.string: {
        this.#make(COST.text);
        const start = this.#skip(this.#size(code));
        const text = this.bytes.toString('utf8', start, this.offset);
        // It stands for what is no UTF-8, or for itself.
        if (text.includes('\ufffd') && !isUtf8(this.bytes.subarray(start, this.offset)))
          this.fail('a string is not UTF-8', start);
        return text;
      }
      case CODE.symbol8:
      case CODE.symbol:
        return this.#symbol(code);
      default:
        return this.fail(`a ${type} is not allowed here`, this.offset - 1);
    }
  }

  #symbol(code: number): string {
    const start = this.#skip(this.#size(code));
    const text = this.bytes.toString('latin1', start, this.offset);
    return NOT_ASCII.test(text) ? this.fail('a symbol is not ASCII', start) : text;
  }

  #char(): string {
    const code = this.#word();
    if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
      this.fail('a char is not a Unicode character', this.offset - 4);
    return String.fromCodePoint(code);
  }

  #list(code: number): unknown[] {
    const list: unknown[] = [];
    if (code === CODE.list0) {
      this.#make(COST.container);
      return list;
    }
    this.#compound(code, (count) => {
      for (let index = 0; index < count; index++) list.push(this.value());
    });
    return list;
  }

  #pairs(code: number, asText: boolean): [unknown, unknown][] {
    const pairs: [unknown, unknown][] = [];
    const identities = new Set<string>();
    this.#compound(code, (count) => {
      if (count % 2) this.fail('a map has a key without a value');
      for (let index = 0; index < count; index += 2) {
        this.#make(COST.entry);
        const start = this.offset;
        const [key, identity] = this.#key(asText);
        this.steps += identity.length;
        if (identities.has(identity)) this.fail('a map has the same key twice', start);
        identities.add(identity);
        pairs.push([key, this.value()]);
      }
    });
    return pairs;
  }

  /**
   * The key of a map, and a text that is the same for the same keys, however they are written. `asText`: string and symbol
   * need no notation, since all keys are of one kind by definition.
   */
  #key(asText: boolean): [key: unknown, identity: string] {
    const start = this.offset;
    const code = this.bytes[start] ?? -1;
    const type = TYPES[code];
    if (type === undefined || type === 'list' || type === 'map' || type === 'array') {
      const key = this.value();
      this.#keyBytesLeft -= this.offset - start;
      if (this.#keyBytesLeft < 0) this.fail('a map has keys that are maps or lists, nested too deeply', start);
      return [key, this.bytes.toString('latin1', start, this.offset)];
    }
    this.offset++;
    const raw = this.#raw(code, type);
    const isText = type === 'symbol' || type === 'string';
    if (asText && isText) return [raw, raw as string];
    const content = Buffer.isBuffer(raw) ? raw.toString('latin1') : Object.is(raw, -0) ? '-0' : String(raw);
    return [this.#present(type, raw), `${type} ${content}`];
  }

  #map(code: number): unknown {
    const pairs = this.#pairs(code, false);
    const object = objectOf(pairs);
    const keys = object && Object.keys(object);
    const isWhole = keys?.length === pairs.length;
    // Maps are ordered (1.6.23), but objects have keys that are whole numbers first.
    const isOrdered = this.style === 'plain' || keys?.every((key, index) => key === pairs[index]![0]);
    return isWhole && isOrdered ? object : { $amqp: 'map', value: pairs };
  }

  #array(code: number): unknown {
    let array: unknown;
    this.#compound(code, (count) => {
      const descriptors: unknown[] = [];
      let element = this.#byte();
      while (element === CODE.described) {
        descriptors.push(this.value());
        if (descriptors.length > MAX_DEPTH) this.fail(`nested deeper than ${MAX_DEPTH}`);
        element = this.#byte();
      }
      const type = TYPES[element];
      if (type === undefined) return this.fail(`unknown type code 0x${element.toString(16)}`, this.offset - 1);
      // Bounded by what all of the input may have of them.
      const isEmpty = element >= 0x40 && element <= 0x45;
      if (isEmpty) this.#emptyLeft -= count;
      if (isEmpty ? this.#emptyLeft < 0 : count > this.bytes.length - this.offset) {
        this.fail('an array claims more elements than there are');
      }
      const values: unknown[] = [];
      if (++this.#depth > MAX_DEPTH) this.fail(`nested deeper than ${MAX_DEPTH}`);
      for (let index = 0; index < count; index++) {
        this.#make(COST.value);
        values.push(this.#element(element, type));
      }
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
    this.#make(COST.container);
    const isWide = code >= 0xd0 && code !== CODE.array8;
    const width = isWide ? 4 : 1;
    const size = isWide ? this.#word() : this.#byte();
    const end = this.offset + size;
    if (end > this.bytes.length || size < width) this.fail('a list, map or array has a wrong size', start);
    const count = isWide ? this.#word() : this.#byte();
    const isArray = code === CODE.array8 || code === CODE.array;
    if (!isArray && count > end - this.offset) this.fail('a list or map claims more values than there are', start);
    read(count);
    if (this.offset !== end) this.fail('a list, map or array does not fill its size', start);
  }

  #sized(code: number): Buffer {
    return this.#take(this.#size(code));
  }

  /** The size of a value of variable width (1.6.19 to 1.6.21). */
  #size(code: number): number {
    return code >= CODE.binary ? this.#word() : this.#byte();
  }

  #byte(): number {
    const byte = this.bytes[this.offset];
    if (byte === undefined) this.fail('the bytes end too early');
    this.offset++;
    return byte;
  }

  #word(): number {
    return this.bytes.readUInt32BE(this.#skip(4));
  }

  /** Goes on by so many bytes. Returns where they begin. */
  #skip(length: number): number {
    const start = this.offset;
    if (start + length > this.bytes.length) this.fail('the bytes end too early');
    this.offset = start + length;
    return start;
  }

  #take(length: number): Buffer {
    const start = this.#skip(length);
    return this.bytes.subarray(start, this.offset);
  }
}

/** The bytes to be kept: a copy where they are part of a much larger chunk, which they would keep alive. */
export function kept(bytes: Buffer): Buffer {
  return bytes.buffer.byteLength <= 2 * bytes.length ? bytes : Buffer.from(bytes);
}

/** A number where JavaScript holds it exactly, else its digits. */
function exactNumber(value: bigint): number | string {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : String(value);
}
