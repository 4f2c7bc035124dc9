import type { SourceOption } from '../state';
import { type Filters, filtersOf } from '../wire/filter';
import type { Product, RemoteSource } from '../wire/remote';

/** What kind of node an address is, for peers that have both (the capabilities `queue` and `topic`). */
export type AddressKind = 'queue' | 'topic';

/** What a receiver asks of its source (3.5.3) beyond the address. */
export interface SourceOptions extends Filters {
  kind?: AddressKind;
  /** Read what is there, and leave it there. */
  browse?: boolean;
  /** Terminus durability. Above 0 the peer keeps the subscription, by container id and link name. */
  durable?: number;
  expiry_policy?: string;
  /** Other receivers of the same subscription name, of whatever container, take part of the messages. */
  shared?: boolean;
  /** What the peer confirms is believed, also of products that are known to confirm in vain. */
  trust?: boolean;
  /** Receive also where the peer does not filter as was asked. */
  unfiltered?: boolean;
  /** Seconds after the end of the link, session or connection (`expiry_policy`) until the peer forgets the terminus. */
  timeout?: number;
  /** Of the source, beside those that other options ask for. */
  capabilities?: string[];
  distribution_mode?: 'move' | 'copy';
}

/** Peers that confirm what they do not do, as seen on the versions that the README names (and taken for true of those between). */
const FALSELY_CONFIRMED: { name: RegExp; version?: RegExp; options: SourceOption[]; isSure: boolean }[] = [
  { name: /^RabbitMQ$/, options: ['browse'], isSure: true },
  // Later ones confirm a selector only where the queue knows selectors.
  { name: /^RabbitMQ$/, version: /^(3\.|4\.[0-2]\.)/, options: ['selector'], isSure: true },
  { name: /^RabbitMQ$/, version: /^3\./, options: ['durable', 'shared'], isSure: true },
  { name: /^ActiveMQ$/, options: ['shared'], isSure: true },
  // By themselves they do not, but the broker behind a link route may, and nothing tells whether there is one.
  { name: /^(qpid-dispatch|skupper)-router$/, options: ['selector', 'browse', 'durable'], isSure: false },
];

/** What a peer has made of the options. */
export interface Answer {
  /** Those that it has not taken, and filters by name. */
  ignored: string[];
  /** Those that it confirms, and may not do. */
  unsure: string[];
}

/** Fields of the source that ask for the options. */
export function sourceOf(options: SourceOptions): object {
  const { kind, browse, shared, durable, expiry_policy, timeout, distribution_mode } = options;
  const filter = filtersOf(options);
  const mode = browse ? 'copy' : distribution_mode;
  // `global`: the subscription is not bound to one container.
  const own = [...(kind ? [kind] : []), ...(shared ? ['shared', 'global'] : [])];
  const capabilities = [...new Set([...own, ...(options.capabilities ?? [])])];
  return {
    ...(durable !== undefined && { durable }),
    ...(expiry_policy !== undefined && { expiry_policy }),
    ...(timeout !== undefined && { timeout }),
    ...(filter && { filter }),
    ...(mode && { distribution_mode: mode }),
    // As an array: a peer may not take a single symbol (R56).
    ...(capabilities.length > 0 && { capabilities }),
  };
}

/** What the peer has made of the options, by its own source and by what is known of the product. */
export function answerTo(options: SourceOptions, source: RemoteSource, product: Product): Answer {
  const { filters, mode, durable, expiry, capabilities } = source;
  const others = (options.filters ?? []).map(({ name }) => name);
  const isConfirmed: Record<SourceOption, boolean> = {
    // By whatever key.
    selector: Object.keys(filters).some((name) => !others.includes(name)),
    browse: mode === 'copy',
    // Some have one kind of durability only.
    durable: durable > 0 && [undefined, expiry].includes(options.expiry_policy),
    shared: capabilities.includes('shared'),
  };
  const { name: productName = '', version: productVersion = '' } = product;
  const rows = FALSELY_CONFIRMED.filter(
    ({ name, version }) => !options.trust && name.test(productName) && (!version || version.test(productVersion)),
  );
  const isFalse = (option: SourceOption, isSure: boolean): boolean =>
    rows.some((row) => row.isSure === isSure && row.options.includes(option));
  const asked = (Object.keys(isConfirmed) as SourceOption[]).filter((option) => options[option]);
  const ignored = asked.filter((option) => !isConfirmed[option] || isFalse(option, true));
  const unsure = asked.filter((option) => !ignored.includes(option) && isFalse(option, false));
  const missing = others.filter((name) => filters[name] === undefined || filters[name] === null);
  return { ignored: [...ignored, ...missing], unsure };
}

/** Whether messages would come that the options are to keep away, or be taken that are only to be read. */
export function isHarmful({ unfiltered, filters = [] }: SourceOptions, { ignored, unsure }: Answer): boolean {
  if ([...ignored, ...unsure].includes('browse')) return true;
  return !unfiltered && (ignored.includes('selector') || filters.some(({ name }) => ignored.includes(name)));
}
