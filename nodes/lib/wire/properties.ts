import rhea, { type Typed } from 'rhea';
import { bytesOf, isNotation, isPlainObject, numberType } from '../codec/notation';

/** Properties of a link (2.7.3): values as they are, or in the notation of AMQP types. */
export type LinkProperties = Record<string, unknown>;

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

/** Whether they can be sent: an object of simple values. */
export function areLinkProperties(given: unknown): given is LinkProperties {
  return isPlainObject(given) && Object.values(given).every((value) => typed(value) !== undefined);
}

/** The properties as rhea writes them. */
export function propertiesOf(properties: LinkProperties): object {
  return Object.fromEntries(Object.entries(properties).map(([name, value]) => [name, typed(value)]));
}

function typed(value: unknown): Typed | undefined {
  const [type, bare] = isNotation(value) ? [value.$amqp, value.value] : [typeOf(value), value];
  if (!FITS[type]?.(bare)) return undefined;
  return wrappers[`wrap_${type}`]!(type === 'binary' ? bytesOf(bare) : bare);
}

function typeOf(value: unknown): string {
  return typeof value === 'number' ? numberType(value) : typeof value;
}

/** Whole numbers from the lowest to below the other. */
function within(lowest: number, below: number): (value: unknown) => boolean {
  return (value) => Number.isInteger(value) && (value as number) >= lowest && (value as number) < below;
}
