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
  /** Those that it has not taken. */
  ignored: SourceOption[];
  /** Those that it confirms, and may not do. */
  unsure: SourceOption[];
}

/** Fields of the source that ask for the options. */
export function sourceOf(options: SourceOptions): object {
  const { kind, browse, shared, durable, expiry_policy } = options;
  const filter = filtersOf(options);
  // `global`: the subscription is not bound to one container.
  const capabilities = [...(kind ? [kind] : []), ...(shared ? ['shared', 'global'] : [])];
  return {
    ...(durable !== undefined && { durable }),
    ...(expiry_policy !== undefined && { expiry_policy }),
    ...(filter && { filter }),
    ...(browse && { distribution_mode: 'copy' }),
    // As an array: a peer may not take a single symbol (R56).
    ...(capabilities.length > 0 && { capabilities }),
  };
}

/** What the peer has made of the options, by its own source and by what is known of the product. */
export function answerTo(options: SourceOptions, source: RemoteSource, product: Product): Answer {
  const { filters, mode, durable, expiry, capabilities } = source;
  const isConfirmed: Record<SourceOption, boolean> = {
    selector: Object.keys(filters).length > 0,
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
  return { ignored, unsure: asked.filter((option) => !ignored.includes(option) && isFalse(option, false)) };
}
