import { SOURCE_OPTIONS, type SourceOption } from '../state';
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

/** What a link to a stream of RabbitMQ offers, from 4.1 on, and from 4.2 on. */
const FILTERS_PROPERTIES = 'AMQP_FILTEX_PROP_V1_0';
const FILTERS_SQL = 'AMQP_FILTEX_SQL_V1_0';

/** Peers that confirm what they do not do, as seen on the versions that docs/compatibility.md names (and taken for true of those between). */
const FALSELY_CONFIRMED: {
  name: RegExp;
  version?: RegExp;
  options?: SourceOption[];
  /** By their names. */
  filters?: RegExp;
  /** What the link offers where it is done. */
  unless?: string;
  isSure: boolean;
}[] = [
  // Whatever the queue is, it gives back each filter that it can read; only streams filter, and only they can be browsed.
  { name: /^RabbitMQ$/, options: ['browse'], unless: FILTERS_PROPERTIES, isSure: true },
  { name: /^RabbitMQ$/, filters: /^(?!rabbitmq:stream-)/, unless: FILTERS_PROPERTIES, isSure: true },
  { name: /^RabbitMQ$/, filters: /^sql-filter$/, unless: FILTERS_SQL, isSure: true },
  { name: /^RabbitMQ$/, version: /^(?!4\.0\.)/, filters: /^rabbitmq:/, unless: FILTERS_PROPERTIES, isSure: true },
  // Streams of 4.0 have these filters, and do not tell that they are streams.
  { name: /^RabbitMQ$/, version: /^4\.0\./, filters: /^rabbitmq:/, isSure: false },
  // Later ones confirm a selector only where the queue knows selectors.
  { name: /^RabbitMQ$/, version: /^(3\.|4\.[0-2]\.)/, options: ['selector'], isSure: true },
  { name: /^RabbitMQ$/, version: /^3\./, options: ['durable', 'shared'], isSure: true },
  { name: /^ActiveMQ$/, options: ['shared'], isSure: true },
  // By themselves they do not, but the broker behind a link route may, and nothing tells whether there is one.
  {
    name: /^(qpid-dispatch|skupper)-router$/,
    options: ['selector', 'browse', 'durable'],
    filters: /./,
    isSure: false,
  },
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
  const names = (options.filters ?? []).map(({ name }) => name);
  const isConfirmed: Record<SourceOption, boolean> = {
    // By whatever key.
    selector: Object.keys(filters).some((name) => !names.includes(name)),
    browse: mode === 'copy',
    // Some have one kind of durability only.
    durable: durable > 0 && [undefined, expiry].includes(options.expiry_policy),
    shared: capabilities.includes('shared'),
  };
  const known = options.trust ? [] : FALSELY_CONFIRMED.filter((row) => isOf(row, product, source));
  const asked = SOURCE_OPTIONS.filter((option) => options[option]);
  const isFalse = (option: SourceOption, sure: boolean): boolean =>
    known.some((row) => row.isSure === sure && row.options?.includes(option));
  const isFalseFilter = (name: string, sure: boolean): boolean =>
    known.some((row) => row.isSure === sure && row.filters?.test(name));
  const ignored = [
    ...asked.filter((option) => !isConfirmed[option] || isFalse(option, true)),
    ...names.filter((name) => (filters[name] ?? null) === null || isFalseFilter(name, true)),
  ];
  const unsure = [
    ...asked.filter((option) => isFalse(option, false)),
    ...names.filter((name) => isFalseFilter(name, false)),
  ].filter((one) => !ignored.includes(one));
  return { ignored, unsure };
}

/** Whether what is known of a product is true of this link. */
function isOf(
  { name, version, unless }: (typeof FALSELY_CONFIRMED)[number],
  product: Product,
  { offered }: RemoteSource,
): boolean {
  const isVersion = !version || version.test(product.version ?? '');
  return name.test(product.name ?? '') && isVersion && !(unless !== undefined && offered.includes(unless));
}

/** Whether messages would come that the options are to keep away, or be taken that are only to be read. */
export function isHarmful({ unfiltered, filters = [] }: SourceOptions, { ignored, unsure }: Answer): boolean {
  if ([...ignored, ...unsure].includes('browse')) return true;
  return !unfiltered && (ignored.includes('selector') || filters.some(({ name }) => ignored.includes(name)));
}
