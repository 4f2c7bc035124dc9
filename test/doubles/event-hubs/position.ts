// Where a receiver begins.
import type { Fields } from '../../../broker/rhea';
import type { Event, Partition } from './hub';
import { badFilter, beyondTheEnd } from './refusals';

export const FILTER = 'apache.org:selector-filter:string';
const CODE = 0x468c00000004;

const EXPRESSION = /^\s*amqp\.annotation\.(x-opt-[a-z-]+)\s*(>=?)\s*'([^']*)'\s*$/;

/**
 * The sequence number of the first event for a receiver with this source; it may be that of an event to come. Throws a
 * Refusal, when its filter is none.
 */
export function startOf(source: Fields | null, partition: Partition): number {
  const filter: Fields = source?.['filter'] ?? {};
  if (!(FILTER in filter)) return partition.beginSequenceNumber;
  const { descriptor, value }: Fields = filter[FILTER] ?? {};
  if (![CODE, FILTER].includes(descriptor?.value ?? descriptor)) throw badFilter(value);
  const [, name = '', operator, text = ''] = EXPRESSION.exec(String(value)) ?? [];
  const limit = LIMITS[name]?.(text, partition);
  if (!limit) throw badFilter(value);
  const { at, of } = limit;
  const first = partition.events.find((event) => of(event) > at || (operator === '>=' && of(event) === at));
  return first?.sequenceNumber ?? partition.lastSequenceNumber + 1;
}

/** What the filter compares, and with what; undefined, when the text is none that can be compared. */
type Limit = { at: number; of: (event: Event) => number } | undefined;

const LIMITS: Record<string, (text: string, partition: Partition) => Limit> = {
  'x-opt-offset': (text, { lastOffset }) => {
    if (text === '@latest') return { at: Infinity, of: offsetOf };
    if (isNumber(text) && Number(text) > Number(lastOffset)) throw beyondTheEnd('offset', text, lastOffset);
    return limit(text, offsetOf);
  },
  'x-opt-sequence-number': (text, { lastSequenceNumber: last }) => {
    if (isNumber(text) && Number(text) > last) throw beyondTheEnd('sequence number', text, last);
    return limit(text, ({ sequenceNumber }) => sequenceNumber);
  },
  'x-opt-enqueued-time': (text) => limit(text, ({ enqueuedAt }) => enqueuedAt),
};

const isNumber = (text: string) => /^-?\d+$/.test(text);
const limit = (text: string, of: (event: Event) => number): Limit =>
  isNumber(text) ? { at: Number(text), of } : undefined;
const offsetOf = ({ offset }: Event) => Number(offset);
