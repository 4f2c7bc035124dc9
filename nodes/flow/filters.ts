/** The filters of a receiver's source, as the form has them, as filters of lib. */
import { isPlainObject } from '../lib/codec/notation';
import { type Filter, isFilter, SELECTOR_CODE } from '../lib/wire/filter';
import { SIMPLE_TYPES } from '../lib/wire/typed';

/** A row of the form. */
interface Row {
  filter?: unknown;
  value?: unknown;
  /** Of a filter that is not in the list. */
  name?: unknown;
  descriptor?: unknown;
  type?: unknown;
}

/** What a filter of the list is on the wire; `read` throws an Error that says why the text is no value of it. */
interface Kind {
  name: string;
  descriptor?: string | number;
  read: (text: string) => unknown;
}

const NO_LOCAL_CODE = 0x468c00000003;
const INTERVAL = /^\d+[YMDhms]$/;

/**
 * The filters that the form has by name. RabbitMQ ("Stream filtering", "AMQP 1.0 filter expressions") has its values
 * described by a symbol that is the key; Strimzi's bridge (io.strimzi) wants plain ones.
 */
const KINDS: Record<string, Kind> = {
  'no-local': { name: 'no-local', descriptor: NO_LOCAL_CODE, read: () => [] },
  'stream-offset': described('rabbitmq:stream-offset-spec', offsetOf),
  'stream-filter': described('rabbitmq:stream-filter', listOf),
  'stream-unfiltered': described('rabbitmq:stream-match-unfiltered', () => true),
  properties: {
    name: 'properties-filter',
    descriptor: 'amqp:properties-filter',
    read: (text) => ({
      $amqp: 'map',
      value: Object.entries(objectOf(text)).map(([name, value]) => [
        { $amqp: 'symbol', value: name.replaceAll('_', '-') },
        value,
      ]),
    }),
  },
  'application-properties': {
    name: 'application-properties-filter',
    descriptor: 'amqp:application-properties-filter',
    read: (text) => ({ $amqp: 'map', value: Object.entries(objectOf(text)) }),
  },
  sql: { name: 'sql-filter', descriptor: 'amqp:sql-filter', read: (text) => text },
  annotations: { name: 'apache.org:selector-filter:string', descriptor: SELECTOR_CODE, read: (text) => text },
  'kafka-partition': { name: 'io.strimzi:partition-filter:int', read: (text) => whole('int', text) },
  'kafka-offset': { name: 'io.strimzi:offset-filter:long', read: (text) => whole('long', text) },
};
/** Those that need no value. */
const COMPLETE = ['no-local', 'stream-unfiltered'];

/** Reads a row. Throws an Error that says what is wrong with it. */
export function filterOf(given: unknown): Filter {
  const row: Row = isPlainObject(given) ? given : {};
  const text = textOf(row.value);
  const kind = textOf(row.filter);
  if (kind === 'other') return checked(otherOf(row, text));
  if (!Object.hasOwn(KINDS, kind)) throw new Error('is of a kind that is not known');
  if (text === '' && !COMPLETE.includes(kind)) throw new Error('has no value');
  const { name, descriptor, read } = KINDS[kind]!;
  return checked({ name, ...(descriptor !== undefined && { descriptor }), value: read(text) });
}

function otherOf({ name, descriptor: given, type: chosen }: Row, text: string): Filter {
  if (typeof name !== 'string' || name.trim() === '') throw new Error('has no name');
  const descriptor = textOf(given);
  const isCode = /^(0x[\da-f]+|\d+)$/i.test(descriptor);
  if (isCode && !Number.isSafeInteger(Number(descriptor))) throw new Error('has a descriptor that is no code');
  const type = textOf(chosen) || 'string';
  return {
    name: name.trim(),
    ...(descriptor && { descriptor: isCode ? Number(descriptor) : descriptor }),
    value: valueOf(type, text),
  };
}

/** What stands in a cell; a list or object is none. */
function textOf(cell: unknown): string {
  return typeof cell === 'string' || typeof cell === 'number' || typeof cell === 'boolean' ? String(cell).trim() : '';
}

function valueOf(type: string, text: string): unknown {
  if (type === 'json') return jsonOf(text);
  if (!SIMPLE_TYPES.includes(type) || type === 'binary') throw new Error('has a type that is not known');
  if (type === 'string' || type === 'symbol') return { $amqp: type, value: text };
  if (type === 'boolean') return booleanOf(text);
  if (type === 'timestamp') return { $amqp: type, value: timeOf(text) };
  // What is no number stays text, which is none of a type of numbers.
  return { $amqp: type, value: text === '' || Number.isNaN(Number(text)) ? text : Number(text) };
}

function booleanOf(text: string): boolean {
  if (text === 'true' || text === 'false') return text === 'true';
  throw new Error('is neither true nor false');
}

function checked(filter: Filter): Filter {
  if (isFilter(filter) && (filter.value !== '' || filter.descriptor !== undefined)) return filter;
  throw new Error('has a value or name that cannot be sent');
}

function described(name: string, read: (text: string) => unknown): Kind {
  return { name, descriptor: name, read };
}

/** Where to begin in a stream of RabbitMQ: its first, last or next message, a number, an interval such as 10m, or a time. */
function offsetOf(text: string): unknown {
  if (['first', 'last', 'next'].includes(text) || INTERVAL.test(text)) return text;
  return /^\d+$/.test(text) ? whole('ulong', text) : { $amqp: 'timestamp', value: timeOf(text) };
}

function timeOf(text: string): number {
  const time = /^\d+$/.test(text) ? Number(text) : Date.parse(text);
  if (Number.isNaN(time)) throw new Error('has no time such as 2026-11-27T12:00:00Z');
  return time;
}

function listOf(text: string): unknown {
  return text
    .split(',')
    .map((one) => one.trim())
    .filter(Boolean);
}

function whole(type: 'int' | 'long' | 'ulong', text: string): unknown {
  if (!/^-?\d+$/.test(text)) throw new Error('has no whole number');
  return { $amqp: type, value: Number(text) };
}

function objectOf(text: string): Record<string, unknown> {
  const object = jsonOf(text);
  if (isPlainObject(object)) return object;
  throw new Error('has no JSON object such as {"subject": "text"}');
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error('has no valid JSON');
  }
}
