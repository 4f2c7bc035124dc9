/**
 * What a peer tells of itself. rhea unwraps a field of a performative each time that it is read, and gives whatever
 * came (R85): so what is used is read here, once, and is what its type says.
 */
import type { Source } from 'rhea';
import { cleaned, type PeerError } from '../errors';

/** What a peer says of itself in its open (2.7.1). */
export interface Opened {
  product: Product;
  /** Its container id. */
  container?: string;
  capabilities: string[];
  /** Other servers to turn to when this one is gone, each a map as of a redirect (2.8.16), as they came. */
  failover: unknown[];
}

export interface Product {
  name?: string;
  version?: string;
}

export function openedOf(connection: {
  container_id?: unknown;
  properties?: unknown;
  offered_capabilities?: unknown;
}): Opened {
  const { product, version, 'failover-server-list': failover } = mapOf(connection.properties);
  return {
    product: { name: shown(product), version: shown(version) },
    container: shown(connection.container_id),
    capabilities: textsOf(connection.offered_capabilities),
    failover: Array.isArray(failover) ? failover.map((one) => plainOf(one)) : [],
  };
}

/** A link that a client attaches: what it asks for. */
export interface AskedLink {
  name: string;
  /** What the client is. */
  role: 'sender' | 'receiver';
  /** Of its target, or of its source: where it sends to, or receives from. Undefined: it names none. */
  address: string | undefined;
  /** The address is to be made here. */
  dynamic: boolean;
  /** The terminus is not one of messages, as that of a transaction. */
  isUnknown: boolean;
  /** Messages are to come settled, or will. */
  isPreSettled: boolean;
}

/** `terminus`: the one that is ours, as rhea reads it. */
export function askedOf(
  { name, role, snd_settle_mode: mode }: { name: string; role: boolean; snd_settle_mode?: number | null },
  terminus: { address?: unknown; dynamic?: unknown } | null,
): AskedLink {
  return {
    name,
    role: role ? 'receiver' : 'sender',
    address: textOf(terminus?.address),
    dynamic: terminus?.dynamic === true,
    isUnknown: terminus === null,
    isPreSettled: mode === 1,
  };
}

/** What a peer has made of a source (3.5.3). */
export interface RemoteSource {
  /** The filters that it has taken, by their keys: each as its value, without what describes it. */
  filters: Record<string, unknown>;
  mode?: string;
  durable: number;
  expiry?: string;
  capabilities: string[];
  /** What the link itself can do (2.7.3). */
  offered: string[];
}

export function sourceOf(source: Source, offered?: unknown): RemoteSource {
  const { filter, distribution_mode: mode, durable, expiry_policy: expiry, capabilities } = source;
  return {
    filters: Object.fromEntries(Object.entries(mapOf(filter)).map(([key, value]) => [key, undescribed(value)])),
    mode: textOf(mode),
    durable: typeof durable === 'number' ? durable : 0,
    expiry: textOf(expiry),
    capabilities: textsOf(capabilities),
    offered: textsOf(offered),
  };
}

/** The peer's own words in what rhea gives as an error. */
export function peerErrorOf(error: unknown): PeerError {
  const { condition, description, info } = mapOf(error);
  return { condition: textOf(condition), description: textOf(description), info: plainOf(info) };
}

/** A text that is only shown. */
function shown(value: unknown): string | undefined {
  return typeof value === 'string' ? cleaned(value) : undefined;
}

/** rhea gives what is described as an object. */
function undescribed(value: unknown): unknown {
  return typeof value === 'object' && value !== null && 'value' in value ? value.value : value;
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function textsOf(value: unknown): string[] {
  return [value].flat().filter((one) => typeof one === 'string');
}

function mapOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

/** Plain data, for a flow. rhea's own objects and what JavaScript takes for something else are left out. */
function plainOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map((one) => plainOf(one));
  if (typeof value !== 'object' || value === null || Buffer.isBuffer(value)) return value;
  if (Object.getPrototypeOf(value) !== Object.prototype) return undefined;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plainOf(one)]));
}
