import rhea from 'rhea';

/** Key of the filter by which Azure Service Bus gives a session. */
export const SESSION_FILTER = 'com.microsoft:session-filter';
const EVENT_FILTER = 'apache.org:selector-filter:string';
const EVENT_FILTER_CODE = 0x468c00000004;

/** What is asked of a source beyond its address (3.5.8). */
export interface Filters {
  /** A JMS selector. */
  selector?: string;
  /** A session of Azure Service Bus by its id; null: the next free one. */
  session?: string | null;
  /** Where a receiver of Azure Event Hubs begins: a condition on annotations. */
  events?: string;
}

/** The filters as rhea writes them; undefined: none. */
export function filtersOf({ selector, session, events }: Filters): object | undefined {
  const filters = {
    ...(selector && (rhea.filter.selector(selector) as object)),
    // Plain, as the clients of Azure for JavaScript and Python write it.
    ...(session !== undefined && { [SESSION_FILTER]: session }),
    ...(events && { [EVENT_FILTER]: rhea.types.wrap_described(events, EVENT_FILTER_CODE) }),
  };
  return Object.keys(filters).length > 0 ? filters : undefined;
}
