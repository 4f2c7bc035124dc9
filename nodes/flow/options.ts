/**
 * What the nodes are configured with, of whatever age their flow is, as the options of lib. A node without `format` was
 * saved by node-red-contrib-rhea: it speaks that package's dialect, and other properties say how it settles.
 */
import type { NodeDef } from 'node-red';
import type { ManagementOptions } from '../lib/exchange/management-requester';
import { DIRECT_REPLY_TO, type RequesterOptions } from '../lib/exchange/requester';
import type { ResponderOptions } from '../lib/exchange/responder';
import type { Guarantee } from '../lib/link/sender-link';
import type { AddressKind, SourceOptions } from '../lib/link/source';
import { BODIES, type BodyOption, type OutputOption, OUTPUTS } from '../lib/message/body';
import { type Format, type HeaderDefaults, stylesOf } from '../lib/message/message';
import type { IntakeOptions } from '../lib/receiver/intake';
import type { ReceiverOptions, Settle } from '../lib/receiver/receiver';
import type { SenderOptions } from '../lib/sender/sender';
import type { Durability } from '../lib/sender/store';
import type { Filter } from '../lib/wire/filter';
import type { Outcome } from '../lib/wire/outcome';
import type { LinkProperties } from '../lib/wire/properties';
import type { Service } from './endpoint';
import { filterOf } from './filters';
import type { Settings } from './settings';

interface LinkDef extends NodeDef {
  endpoint: string;
  /** Missing in flows of node-red-contrib-rhea, and so is all that they are not said to have. */
  format?: Format;
  address?: string;
  kind?: '' | AddressKind;
}

export interface AddressDef extends LinkDef {
  addressType?: string;
  /** The peer makes the address. */
  dynamic?: boolean;
}

/** Of node-red-contrib-rhea, as long as the node has not been edited since. */
interface LegacyTerminus {
  durable?: number | string;
  expirypolicy?: string;
}

export interface SenderDef extends AddressDef, LegacyTerminus {
  /** Of node-red-contrib-rhea. */
  sndsettlemode?: number | string;
}

export interface ReceiverDef extends LinkDef, LegacyTerminus {
  selector?: string;
  /** Rows of the form. */
  filters?: unknown;
  /** Kept by the peer while there is no link, shared by several receivers, or both. */
  subscription?: '' | 'durable' | 'shared' | 'shared-durable';
  /** Of node-red-contrib-rhea. */
  autoaccept?: boolean;
  sndsettlemode?: number | string;
}

/** How a msg becomes a message, and a message a msg. */
export interface Mapping {
  format: Format;
  body: BodyOption;
  output: OutputOption;
}

const REPLY_TO: ['dynamic', 'capability', 'direct', 'fixed', 'pair', 'target'] = [
  'dynamic',
  'capability',
  'direct',
  'fixed',
  'pair',
  'target',
];
/** Bytes of requests that wait for a reply. */
const REQUEST_BYTES = 64 * 2 ** 20;
/**
 * Milliseconds. Who left without waiting for the reply stays away, mostly, and requests that are held for such would
 * keep others from being answered.
 */
const REPLY_RETRY_TIME = 1000;

export function isLegacy({ format }: LinkDef): boolean {
  return format === undefined;
}

export function mappingOf(settings: Settings, service?: Service): Mapping {
  const body = settings.choice<BodyOption>('body', BODIES);
  return {
    format: settings.choice<Format>('format', ['message', 'body']),
    // The clients that are mostly at the other end read nothing else (Service Bus, "AMQP messages with .NET").
    body: body === 'auto' && service !== undefined ? 'bytes' : body,
    output: settings.choice<OutputOption>('output', OUTPUTS),
  };
}

/** What the node says of the header of its messages. Flows of node-red-contrib-rhea know nothing of it. */
export function headerOf(settings: Settings, { isDurable }: { isDurable: boolean }): HeaderDefaults {
  const ttl = settings.optionalNumber('ttl');
  return {
    durable: settings.flag('durablemessages', isDurable),
    priority: settings.optionalNumber('priority'),
    ttl: ttl === undefined ? undefined : Math.round(1000 * ttl),
  };
}

function kindOf(settings: Settings): AddressKind | undefined {
  return settings.choice<'' | AddressKind>('kind', ['', 'queue', 'topic']) || undefined;
}

/** Whether node-red-contrib-rhea sent or received pre-settled (2.8.2: "settled"). */
function isPreSettled({ sndsettlemode }: { sndsettlemode?: number | string }): boolean {
  return Number(sndsettlemode) === 1;
}

/** Of a sender, all but its store. Without `address` each message has its own. */
export function senderOptions(settings: Settings, config: SenderDef, address: string | undefined): SenderOptions {
  const kind = kindOf(settings);
  const guarantee = settings.choice<Guarantee>(
    'guarantee',
    isPreSettled(config)
      ? ['pre-settled', 'at-least-once', 'at-most-once']
      : ['at-least-once', 'at-most-once', 'pre-settled'],
  );
  const { capabilities = [], ...terminus } = terminusOf(settings);
  const all = [...new Set([...(kind ? [kind] : []), ...capabilities])];
  return {
    name: settings.text('linkname') ?? config.id,
    address,
    dynamic: settings.flag('dynamic', false),
    target: { ...legacyTerminus(config), ...terminus, ...(all.length > 0 && { capabilities: all }) },
    properties: settings.linkProperties(),
    guarantee,
    buffer: settings.number('buffer'),
    bufferBytes: settings.megabytes('bufferbytes'),
    full: settings.choice('full', ['refuse', 'drop']),
    retryTime: settings.milliseconds('retrytime'),
    timeout: settings.milliseconds('timeout'),
    ...(settings.flag('copies', false) && { isCopied: true }),
  };
}

/** How a sender keeps its messages on disk. */
export function durabilityOf(settings: Settings): Durability | undefined {
  const store = settings.choice<'none' | Durability>('store', ['none', 'write', 'sync']);
  return store === 'none' ? undefined : store;
}

/** Which outcomes a sender gives to the flow. */
export function outcomesOf(settings: Settings, config: SenderDef): 'accepted' | 'all' {
  return settings.choice('outcomes', isLegacy(config) ? ['all', 'accepted'] : ['accepted', 'all']);
}

export function receiverOptions(settings: Settings, config: ReceiverDef, { format, output }: Mapping): ReceiverOptions {
  const subscription = subscriptionOf(settings);
  const settle = settleOf(settings, config);
  const size = settings.optionalNumber('maxmessagesize');
  return {
    ...intakeOptions(settings),
    name: linkNameOf(config.id, settings, subscription),
    address: settings.typedText('address'),
    dynamic: settings.flag('dynamic', false),
    source: sourceOptionsOf(settings, subscription, config),
    properties: receiverProperties(settings),
    ...(size !== undefined && { maxMessageSize: 1024 * size }),
    settle,
    isAnswered: settings.flag('answered', false) && settle === 'flow',
    creditWindow: settings.number('creditwindow'),
    windowBytes: settings.megabytes('windowbytes'),
    settleTimeout: settings.milliseconds('settletimeout'),
    styles: stylesOf(format, output),
  };
}

/** What comes before the flow. */
function intakeOptions(settings: Settings): Pick<ReceiverOptions, keyof IntakeOptions | 'exhausted'> {
  const [count, window] = [settings.number('together'), settings.number('creditwindow')];
  if (count > 1 && window > 0 && count > window) settings.refuse('together', `is more than the ${window} in progress`);
  const maxAttempts = settings.optionalNumber('maxattempts');
  const exhausted = settings.choice('exhausted', ['reject', 'accept', 'output']);
  return {
    ...(settings.choice('order', ['', 'group']) === 'group' && { inOrder: true }),
    ...(count > 1 && { together: { count, time: settings.milliseconds('togethertime') } }),
    ...(maxAttempts !== undefined && { maxAttempts, ...(exhausted !== 'output' && { exhausted }) }),
  };
}

/** Refuses what is asked of a server's source: what clients send comes unfiltered, and is not kept without them. */
export function refuseAsked(settings: Settings, { source = {} }: ReceiverOptions): void {
  const why = 'is for an endpoint that connects to a server';
  if (subscriptionOf(settings)) settings.refuse('subscription', why);
  if (source.selector) settings.refuse('selector', why);
  if (source.filters) settings.refuse('filters', why);
  if (source.browse) settings.refuse('browse', why);
}

/** Whether each message is in one transaction with what the flow sends over it. */
export function isInTransactions(settings: Settings, { settle, together }: ReceiverOptions): boolean {
  if (!settings.flag('transaction', false)) return false;
  if (settle !== 'flow') settings.refuse('transaction', 'is for messages that the flow settles');
  if (together) settings.refuse('transaction', 'is for one message at a time');
  return true;
}

/** Whether the flow names the addresses of a receiver, any number of them. */
export function isOfSeveral(settings: Settings, service: Service | undefined): boolean {
  return settings.choice('addresses', ['one', 'several']) === 'several' && service === undefined;
}

/** The outcome of what the flow fails. Modified as failed, a message is counted by the server, and goes to its dead letters. */
export function onErrorOf(settings: Settings, config: ReceiverDef): Outcome['settle'] {
  return settings.choice<Outcome['settle']>(
    'onerror',
    isLegacy(config) ? ['release', 'modify', 'reject', 'accept'] : ['modify', 'release', 'reject', 'accept'],
  );
}

function settleOf(settings: Settings, config: ReceiverDef): Settle {
  if (isPreSettled(config)) return settings.choice('settle', ['pre-settled', 'arrival', 'flow']);
  if (config.autoaccept === false) return settings.choice('settle', ['flow', 'arrival', 'pre-settled']);
  return settings.choice('settle', ['arrival', 'flow', 'pre-settled']);
}

type Subscription = '' | 'durable' | 'shared' | 'shared-durable';

/** A dynamic address is there for its link only. */
export function subscriptionOf(settings: Settings): Subscription {
  const subscription = settings.choice<Subscription>('subscription', ['', 'durable', 'shared', 'shared-durable']);
  return settings.flag('dynamic', false) ? '' : subscription;
}

/** A shared subscription has a link of each receiver, told apart by what follows the bar, as JMS clients do it. */
function linkNameOf(id: string, settings: Settings, subscription: Subscription): string {
  const name = (subscription && settings.text('subscriptionname')) || settings.text('linkname') || id;
  return subscription.startsWith('shared') ? `${name}|${id}` : name;
}

function sourceOptionsOf(settings: Settings, subscription: Subscription, config: ReceiverDef): SourceOptions {
  const filters = settings.rows('filters', filterOf);
  const mode = settings.choice<'' | 'move' | 'copy'>('distribution', ['', 'move', 'copy']);
  return {
    kind: kindOf(settings),
    selector: settings.text('selector'),
    ...(filters.length > 0 && { filters: unique(settings, filters) }),
    ...(settings.flag('unfiltered', false) && { unfiltered: true }),
    browse: (settings.flag('browse', false) || mode === 'copy') && !subscription,
    ...(mode === 'move' && { distribution_mode: mode }),
    shared: subscription.startsWith('shared'),
    trust: settings.flag('trust', false),
    // 2: it keeps what is not settled, too (3.5.5).
    ...(subscription.endsWith('durable') && { durable: 2, expiry_policy: 'never' }),
    ...(config.subscription === undefined && legacyTerminus(config)),
    ...terminusOf(settings),
  };
}

function unique(settings: Settings, filters: Filter[]): Filter[] {
  const names = filters.map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) settings.refuse('filters', `has ${twice} twice`);
  return filters;
}

const DURABILITY = { none: 0, configuration: 1, 'unsettled-state': 2 };

interface Terminus {
  durable?: number;
  expiry_policy?: string;
  timeout?: number;
  capabilities?: string[];
}

/** What a person asks of the peer's source or target by the names that the specification has (3.5.3, 3.5.4). */
function terminusOf(settings: Settings): Terminus {
  const durability = settings.choice('durability', ['', 'none', 'configuration', 'unsettled-state']);
  const expiry = settings.choice('expiry', ['', 'link-detach', 'session-end', 'connection-close', 'never']);
  const timeout = settings.optionalNumber('expirytime');
  const capabilities = settings.list('capabilities');
  if (capabilities.some((one) => !/^[\x21-\x7e]+$/.test(one)))
    settings.refuse('capabilities', 'is not plain ASCII text');
  return {
    ...(durability && { durable: DURABILITY[durability] }),
    ...(expiry && { expiry_policy: expiry }),
    ...(timeout !== undefined && { timeout }),
    ...(capabilities.length > 0 && { capabilities }),
  };
}

/** Artemis and RabbitMQ name the priority of a consumer differently; each ignores the other's name. */
function receiverProperties(settings: Settings): LinkProperties | undefined {
  const priority = settings.optionalNumber('consumerpriority');
  const properties = settings.linkProperties();
  if (priority === undefined) return properties;
  const value = { $amqp: 'int', value: priority };
  return { priority: value, 'rabbitmq:priority': value, ...properties };
}

function legacyTerminus({ durable, expirypolicy }: LegacyTerminus): { durable?: number; expiry_policy?: string } {
  return {
    ...(Number(durable) > 0 && { durable: Number(durable) }),
    ...(expirypolicy && { expiry_policy: expirypolicy }),
  };
}

/** Of a requester. Without `address` each request has its own. */
export function requesterOptions(
  settings: Settings,
  { id }: AddressDef,
  address: string | undefined,
  { format, output }: Mapping,
): RequesterOptions {
  return {
    name: id,
    address,
    kind: kindOf(settings),
    replyTo: replyToOf(settings),
    ...repliesOf(settings),
    properties: settings.linkProperties(),
    timeout: settings.milliseconds('timeout'),
    reconnect: settings.choice('reconnect', ['resend', 'fail']),
    buffer: settings.number('buffer'),
    bufferBytes: REQUEST_BYTES,
    styles: stylesOf(format, output),
  };
}

/** Of a requester that asks a management node of the peer. Undefined: replies come by an address. */
export function managementOptions(
  settings: Settings,
  { id }: AddressDef,
  address: string | undefined,
  { format, output }: Mapping,
): ManagementOptions | undefined {
  const kind = settings.choice('replyto', REPLY_TO);
  if (kind !== 'pair' && kind !== 'target') return undefined;
  if (kind === 'target' && address === undefined) settings.refuse('address', 'is missing');
  return {
    name: id,
    address: address ?? '/management',
    kind,
    timeout: settings.milliseconds('timeout'),
    buffer: settings.number('buffer'),
    bufferBytes: REQUEST_BYTES,
    styles: stylesOf(format, output),
  };
}

function repliesOf(settings: Settings): Pick<RequesterOptions, 'replies'> {
  if (settings.choice('replies', ['one', 'several']) === 'one') return {};
  const count = settings.optionalNumber('replycount');
  const isMarked = endMarkerOf(settings) !== undefined;
  if (count === undefined && !isMarked && settings.number('timeout') === 0)
    settings.refuse('timeout', 'is 0, so that nothing ends the replies: there is no number or end marker of them');
  return { replies: { ...(count !== undefined && { count }), isMarked } };
}

/** The property of the msg that is true in the last of several replies. */
export function endMarkerOf(settings: Settings): string | undefined {
  if (settings.choice('replies', ['one', 'several']) === 'one') return undefined;
  return settings.text('endmarker')?.replace(/^msg\./, '');
}

function replyToOf(settings: Settings): RequesterOptions['replyTo'] {
  const kind = settings.choice('replyto', REPLY_TO);
  if (kind === 'direct') return DIRECT_REPLY_TO;
  if (kind === 'dynamic' || kind === 'pair' || kind === 'target') return {};
  if (kind === 'capability') return { capabilities: [settings.text('replycapability') ?? 'temporary-queue'] };
  return { address: required(settings, 'replyaddress', settings.typedText('replyaddress')) };
}

export function responderOptions(settings: Settings, { id }: LinkDef, { format, output }: Mapping): ResponderOptions {
  return {
    name: id,
    address: required(settings, 'address', settings.typedText('address')),
    kind: kindOf(settings),
    settle: settings.choice('settle', ['reply', 'arrival']),
    creditWindow: settings.number('creditwindow'),
    windowBytes: settings.megabytes('windowbytes'),
    timeout: settings.milliseconds('settletimeout'),
    retryTime: REPLY_RETRY_TIME,
    styles: stylesOf(format, output),
  };
}

/** The text of a field that must not be blank. */
export function required(settings: Settings, name: string, text: string | undefined): string {
  if (text === undefined) settings.refuse(name, 'is missing');
  return text ?? '';
}
