import rhea, { type Source } from 'rhea';

/** What kind of node an address is, for peers that have both (the capabilities `queue` and `topic`). */
export type AddressKind = 'queue' | 'topic';

/** What a receiver asks of its source (3.5.3) beyond the address. */
export interface SourceOptions {
  kind?: AddressKind;
  /** A JMS selector: only messages that it is true for. */
  selector?: string;
  /** Read what is there, and leave it there. */
  browse?: boolean;
  /** Terminus durability. Above 0 the peer keeps the subscription, by container id and link name. */
  durable?: number;
  expiry_policy?: string;
  /** Other receivers of the same subscription name, of whatever container, take part of the messages. */
  shared?: boolean;
}

/** An option of which a peer's answer tells whether it has taken it. */
export type SourceOption = 'selector' | 'browse' | 'durable' | 'shared';

/** What a peer says of itself in its open. */
export interface Product {
  name?: string;
  version?: string;
}

/** Peers that confirm what they do not do, as seen on the versions that the README names (and taken for true of those between). */
const CONFIRMED_IN_VAIN: { name: RegExp; version?: RegExp; options: SourceOption[] }[] = [
  { name: /^RabbitMQ$/, options: ['browse'] },
  // Later ones confirm a selector only where the queue knows selectors.
  { name: /^RabbitMQ$/, version: /^(3\.|4\.[0-2]\.)/, options: ['selector'] },
  { name: /^RabbitMQ$/, version: /^3\./, options: ['durable', 'shared'] },
  { name: /^ActiveMQ$/, options: ['shared'] },
  { name: /^(qpid-dispatch|skupper)-router$/, options: ['selector', 'browse', 'durable'] },
];

/** Fields of the source that ask for the options. */
export function sourceOf({ kind, selector, browse, shared, ...fields }: SourceOptions): object {
  // `global`: the subscription is not bound to one container.
  const capabilities = [...(kind ? [kind] : []), ...(shared ? ['shared', 'global'] : [])];
  return {
    ...fields,
    ...(selector && { filter: rhea.filter.selector(selector) }),
    ...(browse && { distribution_mode: 'copy' }),
    // As an array: a peer may not take a single symbol (R23).
    ...(capabilities.length > 0 && { capabilities }),
  };
}

/** The options that the peer has not taken: missing in its own source, or confirmed by one that is known not to do it. */
export function ignoredOptions(options: SourceOptions, source: Source, product: Product): SourceOption[] {
  const { filter, distribution_mode: mode, durable, expiry_policy: expiry, capabilities } = source;
  const isTaken: Record<SourceOption, boolean> = {
    selector: Object.keys((filter as object | undefined) ?? {}).length > 0,
    browse: String(mode) === 'copy',
    // Some have one kind of durability only.
    durable: Number(durable) > 0 && [undefined, String(expiry)].includes(options.expiry_policy),
    shared: [capabilities].flat().includes('shared'),
  };
  const { name: productName = '', version: productVersion = '' } = product;
  const inVain = CONFIRMED_IN_VAIN.filter(
    ({ name, version }) => name.test(productName) && (!version || version.test(productVersion)),
  ).flatMap((row) => row.options);
  const asked = (Object.keys(isTaken) as SourceOption[]).filter((option) => options[option]);
  return asked.filter((option) => !isTaken[option] || inVain.includes(option));
}
