/** What the nodes are configured with for Azure's services, as the options of lib. */
import type { Node } from 'node-red';
import type { EventHubReceiverOptions, Places, PlaceStore, Start } from '../lib/azure/event-hub-receiver';
import type { ServiceBusReceiverOptions, SessionOptions } from '../lib/azure/service-bus-receiver';
import { isPlainObject } from '../lib/codec/notation';
import type { ReceiverOptions } from '../lib/receiver/receiver';
import { required } from './options';
import type { Settings } from './settings';

/** What a sender sends as one: the elements of a payload that is an array, or what comes within some time. */
export type BatchOption = 'off' | 'array' | 'time';

export function batchOf(settings: Settings): BatchOption {
  return settings.choice<BatchOption>('batch', ['off', 'array', 'time']);
}

/** What is asked of a source elsewhere is nothing that Azure's services know. */
export function serviceBusOptions(settings: Settings, options: ReceiverOptions): ServiceBusReceiverOptions {
  return {
    ...options,
    source: {},
    address: required(settings, 'address', options.address),
    sessions: sessionsOf(settings),
  };
}

/** Undefined: the entity has no sessions. */
function sessionsOf(settings: Settings): SessionOptions | undefined {
  const sessions = settings.choice<'' | 'next' | 'named'>('session', ['', 'next', 'named']);
  if (!sessions) return undefined;
  const isNamed = sessions === 'named';
  return {
    id: isNamed ? required(settings, 'sessionid', settings.text('sessionid')) : null,
    count: isNamed ? 1 : settings.number('sessions'),
    idleTime: settings.milliseconds('sessionidle'),
  };
}

const PARTITION = /^(.+)\/ConsumerGroups\/([^/]+)\/Partitions\/([^/]+)$/i;

export function eventHubOptions(
  node: Node,
  settings: Settings,
  options: ReceiverOptions,
  kept: Kept,
): EventHubReceiverOptions {
  const given = required(settings, 'address', options.address);
  // As other clients have to write it.
  const [, address = given, group = settings.text('group') ?? '$Default', partition] = PARTITION.exec(given) ?? [];
  const store = settings.text('places') ?? 'default';
  return {
    ...options,
    // What is behind an event that waits would be taken for done; and events do not come again.
    inOrder: false,
    maxAttempts: undefined,
    source: {},
    address,
    group,
    partitions: partition === undefined ? partitionsOf(settings) : [partition],
    start: startOf(settings),
    epoch: settings.optionalNumber('epoch'),
    ...(store !== 'none' && { places: placesIn(node, store, { hub: address, group }, kept) }),
  };
}

/** Undefined: all. */
function partitionsOf(settings: Settings): string[] | undefined {
  const ids = (settings.text('partitions') ?? '').split(',').map((id) => id.trim());
  const named = [...new Set(ids)].filter(Boolean);
  if (named.some((id) => !/^\w+$/.test(id))) settings.refuse('partitions', 'is not a list such as 0, 1, 2');
  return named.length > 0 ? named : undefined;
}

function startOf(settings: Settings): Start {
  const at = settings.choice('start', ['latest', 'earliest', 'offset', 'sequence', 'time']);
  if (at === 'latest' || at === 'earliest') return { at };
  const text = required(settings, 'startvalue', settings.text('startvalue')).trim();
  if (at === 'offset') {
    // It stands in quotes, in an expression.
    if (text.includes("'")) settings.refuse('startvalue', 'is no offset');
    return { at, offset: text };
  }
  if (at === 'sequence') {
    if (!/^\d+$/.test(text)) settings.refuse('startvalue', 'is no sequence number');
    return { at, number: text };
  }
  const time = /^\d+$/.test(text) ? Number(text) : Date.parse(text);
  if (Number.isNaN(time)) settings.refuse('startvalue', 'is no time such as 2026-11-27T12:00:00Z');
  return { at, time };
}

const KEY = 'places';

interface Saved {
  hub: string;
  group: string;
  places: Places;
}

/**
 * What was saved last, by the ids of nodes, as long as this process lives. Node-RED deletes the context of a node at each deploy
 * that restarts it, unless settings.js says where context is stored.
 */
export type Kept = Map<string, Saved>;

/** Places in the context of a node, in the store of this name. Those of another event hub or group are not its own. */
function placesIn(node: Node, store: string, whose: Omit<Saved, 'places'>, kept: Kept): PlaceStore {
  const context = node.context();
  // The one that settings.js says, whatever its name.
  const name = store === 'default' ? undefined : store;
  return {
    load: async () => {
      const saved = await new Promise<unknown>((resolve, reject) => {
        context.get(KEY, name, (error: Error | null, value: unknown) => (error ? reject(error) : resolve(value)));
      });
      const { hub, group, places } = (isPlainObject(saved) ? saved : (kept.get(node.id) ?? {})) as Partial<Saved>;
      return hub === whose.hub && group === whose.group && isPlainObject(places) ? { ...places } : {};
    },
    save: (places) =>
      new Promise((resolve, reject) => {
        const saved = { ...whose, places };
        kept.set(node.id, saved);
        context.set(KEY, saved, name, (error: Error | null) => (error ? reject(error) : resolve()));
      }),
  };
}
