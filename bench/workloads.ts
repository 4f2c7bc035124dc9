// What is measured, with whom.
import { artemis } from '../test/brokers/artemis';
import type { BrokerKind } from '../test/brokers/broker';
import { mosquitto } from '../test/brokers/mosquitto';
import { rabbitmq43 } from '../test/brokers/rabbitmq';
import type { Child } from './child';
import { flows, idle, mqtt, nodeRed, type Properties, rawRhea } from './contestants';
import type { PeerOptions } from './peer';
import type { RawOptions } from './raw';

type Does = RawOptions['does'];
/** Starts the processes of a contestant, which do their work with a peer on that port. */
export type Start = (port: number) => Promise<Child>[];

export interface Contestant {
  name: string;
  start: Start;
  /** What they work with, if not the bench's own peer. */
  broker?: BrokerKind;
  /** How many links it attaches. */
  links?: number;
}

export interface Workload {
  name: string;
  sizes: number[];
  /** Of messages of 100 B in each measurement; of large ones there are fewer. */
  count: number;
  /** Messages on their way at most; where the peer sends there is no such bound. */
  window?: number;
  /** The peer sends, and measures the time until all are settled. */
  isFed?: boolean;
  /** The time of each message is measured. */
  isTimed?: boolean;
  peer?: PeerOptions;
  /** The first is what the others are compared with. */
  contestants: Contestant[];
  /** What the contestants cost with nothing to do is measured too. */
  isIdle?: boolean;
  /** Left out where all is to be quick. */
  isSlow?: boolean;
}

export const RAW = 'raw rhea';
export const NODES = 'nodes';
export const MQTT = 'core MQTT';
const SIZES = [100, 1000, 10_000];
const WINDOW = 1000;

const raw = (does: Does, address: string = does): Contestant => ({
  name: RAW,
  start: (port) => [rawRhea({ does, port, address })],
});
const nodes = (does: Does, name = NODES, properties?: Properties): Contestant => ({
  name,
  start: (port) => [nodeRed(flows[does](port, properties))],
});
const withIdle = (count: number): Contestant => ({
  name: count === 0 ? 'none' : `${count} idle`,
  start: (port) => [nodeRed([...flows.sink(port), ...idle(count)])],
  links: count + 1,
});
const core: Contestant = { name: MQTT, start: (port) => [nodeRed(mqtt(port))], broker: mosquitto };

/** What address each has for the queue `queue`. */
const BROKERS: Record<string, { broker: BrokerKind; address: string }> = {
  rabbitmq: { broker: rabbitmq43, address: '/queues/queue' },
  artemis: { broker: artemis, address: 'queue' },
};
export const BROKER_NAMES = Object.keys(BROKERS);

/** A round trip through a real broker, of durable messages. Both contestants have one of their own. */
function throughBroker(name: string): Workload {
  const { broker, address } = BROKERS[name]!;
  const login = { username: 'guest', password: 'guest' };
  const account = { user: login.username, pass: login.password };
  return {
    name,
    sizes: [100, 10_000],
    count: 20_000,
    window: WINDOW,
    isSlow: true,
    contestants: [
      { name: RAW, broker, start: (port) => [rawRhea({ does: 'round trip', port, address, login })] },
      { name: NODES, broker, start: (port) => [nodeRed(flows['round trip'](port, { address }), account)] },
    ],
  };
}

export const workloads = (broker: string): Workload[] => [
  { name: 'sink', sizes: SIZES, count: 60_000, window: WINDOW, contestants: [raw('sink'), nodes('sink')] },
  {
    name: 'sink, each settled alone',
    sizes: [100],
    count: 60_000,
    window: WINDOW,
    peer: { settlesEach: true },
    contestants: [raw('sink'), nodes('sink')],
  },
  {
    name: 'source',
    sizes: [...SIZES, 100_000],
    count: 120_000,
    isFed: true,
    contestants: [raw('source'), nodes('source'), nodes('source', 'nodes, window 1000', { creditwindow: 1000 })],
  },
  {
    name: 'round trip',
    sizes: SIZES,
    count: 40_000,
    window: WINDOW,
    contestants: [raw('round trip'), nodes('round trip'), core],
  },
  throughBroker(broker),
  {
    name: 'request, 1 in flight',
    sizes: [100],
    count: 4000,
    window: 1,
    isTimed: true,
    contestants: [raw('request', 'requests'), nodes('request')],
  },
  {
    name: 'request, 100 in flight',
    sizes: SIZES,
    count: 20_000,
    window: 100,
    isTimed: true,
    contestants: [raw('request', 'requests'), nodes('request')],
  },
  {
    name: 'settle',
    sizes: [100],
    count: 60_000,
    isFed: true,
    contestants: [nodes('source', 'on arrival'), nodes('source', 'by the flow', { settle: 'flow' })],
  },
  {
    name: 'window',
    sizes: [100],
    count: 120_000,
    isFed: true,
    contestants: [500, 2000, 100].map((window) => nodes('source', String(window), { creditwindow: window })),
  },
  {
    name: 'disk',
    sizes: [100],
    count: 20_000,
    window: WINDOW,
    contestants: ['none', 'write', 'sync'].map((store) => nodes('sink', store, { store })),
  },
  {
    name: 'idle',
    sizes: [100],
    count: 40_000,
    window: WINDOW,
    isIdle: true,
    contestants: [0, 1, 10, 100, 500].map(withIdle),
  },
  {
    name: 'processes',
    sizes: [100],
    count: 120_000,
    isFed: true,
    contestants: [1, 2].map((count) => ({
      name: String(count),
      start: (port) => Array.from({ length: count }, () => nodeRed(flows.source(port))),
      links: count,
    })),
  },
];
