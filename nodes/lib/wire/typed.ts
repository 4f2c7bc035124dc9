/** Values of flows as rhea writes them: as JavaScript has them, or in the notation of AMQP types. */
import rhea, { type Typed } from 'rhea';
import { DESCRIPTOR } from '../codec/codes';
import { bytesOf, isNotation, isPlainObject, numberType } from '../codec/notation';
import type { RheaTypes } from './rhea';

const types = rhea.types as unknown as RheaTypes;
const wrappers = rhea.types as unknown as Record<string, (value: unknown) => Typed>;
/** What a value must be to be of a type. Numbers beyond what JavaScript has exactly cannot be given. */
const FITS: Record<string, (value: unknown) => boolean> = {
  boolean: (value) => typeof value === 'boolean',
  string: (value) => typeof value === 'string',
  symbol: (value) => typeof value === 'string' && /^[\x20-\x7e]*$/.test(value),
  ubyte: within(0, 2 ** 8),
  ushort: within(0, 2 ** 16),
  uint: within(0, 2 ** 32),
  ulong: within(0, 2 ** 53),
  byte: within(-(2 ** 7), 2 ** 7),
  short: within(-(2 ** 15), 2 ** 15),
  int: within(-(2 ** 31), 2 ** 31),
  long: within(-(2 ** 53) + 1, 2 ** 53),
  double: (value) => typeof value === 'number',
  timestamp: within(0, 2 ** 53),
  binary: (value) => bytesOf(value) !== undefined,
};

/** The types of single values that can be written. */
export const SIMPLE_TYPES = Object.keys(FITS);

/** A single value; undefined: it cannot be written. */
export function simple(value: unknown): Typed | undefined {
  const [type, bare] = isNotation(value) ? [value.$amqp, value.value] : [typeOf(value), value];
  if (!Object.hasOwn(FITS, type) || !FITS[type]!(bare)) return undefined;
  return wrappers[`wrap_${type}`]!(type === 'binary' ? bytesOf(bare) : bare);
}

/** A single value, or lists and maps of such; undefined: it cannot be written. */
export function typed(value: unknown): Typed | undefined {
  const [type, content] = isNotation(value) ? [value.$amqp, value.value] : [undefined, value];
  if (Array.isArray(content) && (type ?? 'list') === 'list') return collection('List32', content);
  if (Array.isArray(content) && type === 'map')
    return content.every((pair) => Array.isArray(pair) && pair.length === 2)
      ? collection('Map32', content.flat())
      : undefined;
  if (isPlainObject(content) && !isNotation(content) && (type ?? 'map') === 'map' && !bytesOf(content))
    return collection('Map32', Object.entries(content).flat());
  return simple(value);
}

function collection(type: 'List32' | 'Map32', values: unknown[]): Typed | undefined {
  const items = values.map((one) => typed(one));
  return items.every((item) => item !== undefined) ? types[type](items) : undefined;
}

function typeOf(value: unknown): string {
  return typeof value === 'number' ? numberType(value) : typeof value;
}

/** Whole numbers from the lowest to below the other. */
function within(lowest: number, below: number): (value: unknown) => boolean {
  return (value) => Number.isInteger(value) && (value as number) >= lowest && (value as number) < below;
}

const LOCAL_TRANSACTIONS = 'amqp:local-transactions';
/** The code of the type of the elements of an array (1.6.16). */
const SYMBOL = 0xa3;

/** The target of a link that controls transactions (4.5.1), which rhea does not have. */
export function coordinator(): Typed {
  const capabilities = rhea.types.wrap_array([LOCAL_TRANSACTIONS], SYMBOL, undefined);
  return rhea.types.wrap_described(types.List32([capabilities]), DESCRIPTOR.coordinator);
}
