import rhea from 'rhea';
import { typed } from './typed';

/** Key of the filter by which Azure Service Bus gives a session. */
export const SESSION_FILTER = 'com.microsoft:session-filter';
const EVENT_FILTER = 'apache.org:selector-filter:string';
/** That of a selector, whatever the key. */
export const SELECTOR_CODE = 0x468c00000004;

/** One filter of a source (3.5.8). */
export interface Filter {
  /** Its key in the filter-set. */
  name: string;
  /** What describes the value: a symbol, or a code. Undefined: the value stands plain, as some peers want it. */
  descriptor?: string | number;
  /** As it is, or in the notation of AMQP types. */
  value: unknown;
}

/** What is asked of a source beyond its address. */
export interface Filters {
  /** A JMS selector. */
  selector?: string;
  /** A session of Azure Service Bus by its id; null: the next free one. */
  session?: string | null;
  /** Where a receiver of Azure Event Hubs begins: a condition on annotations. */
  events?: string;
  /** Any others. */
  filters?: Filter[];
}

/** Whether a filter can be sent. */
export function isFilter({ name, descriptor, value }: Filter): boolean {
  return isSymbol(name) && (typeof descriptor !== 'string' || isSymbol(descriptor)) && typed(value) !== undefined;
}

/** The filters as rhea writes them; undefined: none. */
export function filtersOf({ selector, session, events, filters = [] }: Filters): object | undefined {
  const all = {
    ...(selector && (rhea.filter.selector(selector) as object)),
    // Plain, as the clients of Azure for JavaScript and Python write it.
    ...(session !== undefined && { [SESSION_FILTER]: session }),
    ...(events && { [EVENT_FILTER]: rhea.types.wrap_described(events, SELECTOR_CODE) }),
    ...Object.fromEntries(filters.map((filter) => [filter.name, written(filter)])),
  };
  return Object.keys(all).length > 0 ? all : undefined;
}

function written({ descriptor, value }: Filter): unknown {
  const content = typed(value);
  return descriptor === undefined ? content : rhea.types.wrap_described(content, descriptor);
}

function isSymbol(text: string): boolean {
  return /^[\x20-\x7e]+$/.test(text);
}
