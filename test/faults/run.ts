// A flow under load: "sender" -> queue -> "receiver" -> "out", and a ledger of its messages.
import type { EventEmitter } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import type { NodeInitializer } from 'node-red';
import { collect, endpointNode, flow, helper, inject, type Msg, node, nodes } from '../flow';
import type { NodeConfig } from '../node-red';
import { Broker, type BrokerOptions } from '../../broker/broker';
import { keep, Ledger, table } from './ledger';
import { Proxy } from './proxy';

export interface RunOptions {
  broker?: BrokerOptions;
  /** There is a proxy between the nodes and the broker. */
  isProxied?: boolean;
  endpoint?: object;
  credentials?: object;
  /** Properties of the two nodes. With `settle: 'flow'` what "out" has worked on goes back to the receiver. */
  sender?: object;
  receiver?: object;
  /** Further nodes. */
  nodes?: NodeConfig[];
  /** Messages that the flow fails. */
  isPoison?: (n: number) => boolean;
  /** "out" does nothing of the kind. */
  isIdle?: boolean;
  /** Done before the nodes connect. */
  prepare?: (broker: Broker) => void;
}

export interface Run {
  broker: Broker;
  proxy: Proxy;
  ledger: Ledger;
  /** What Catch nodes got. */
  caught: Msg[];
  /** Connections that the broker has had. */
  readonly connections: number;
}

/** Connections lost are failed deliveries, and not what dead letters are for. */
const PATIENT = 1e6;
const catalogue = JSON.parse(readFileSync(join(__dirname, '../../locales/en-US/amqp-endpoint.json'), 'utf8'));
const none = (): boolean => false;

let broker: Broker;
let proxy: Proxy | undefined;
let ledgers: Ledger[] = [];

/** Gives the nodes their texts, which the test helper replaces by their keys. */
const texts: NodeInitializer = (RED) => void Object.assign(RED, { _: translate });

function translate(key: string, blanks: Record<string, string> = {}): string {
  const place = key.replace(/.*:/, '').split('.');
  const text: string = place.reduce((part, name) => part?.[name], catalogue) ?? `no text for ${key}`;
  return text.replace(/__(\w+?)__/g, (_, name: string) => blanks[name] ?? name);
}

/** To be called by each suite that runs flows. */
export function inNodeRed(): void {
  before(() => helper.startServer());
  after(() => helper.stopServer());
  // For machines that are slow.
  beforeEach(function begin() {
    this.currentTest?.timeout(60_000);
  });
  afterEach(async function end() {
    // All that is known of a test that waits for what does not come.
    if (this.currentTest?.state === 'failed')
      for (const { counts } of ledgers) process.stdout.write(`${JSON.stringify(counts)}\n`);
    await helper.unload();
    await proxy?.stop();
    await broker.stop();
    proxy = undefined;
    ledgers = [];
  });
}

// Once for all suites.
after(() => void process.stdout.write(`\n${table()}\n`));

export function helperNode(id: string): NodeConfig {
  return { id, type: 'helper', z: 'flow', x: 0, y: 0, wires: [] };
}

/** A ledger of what ends at a node, and arrives at another. */
export function ledgerOf(ends?: { sender: string; out: string }): Ledger {
  const ledger = new Ledger();
  keep(ledger, ends);
  ledgers.push(ledger);
  return ledger;
}

/** Does what a node would do that has Complete and Catch nodes wired to the receiver. */
export function work(at: string, receiver: string, isPoison: (n: number) => boolean = none): void {
  helper.getNode(at).on('input', (msg) => {
    const { n } = msg.payload as { n: number };
    inject(receiver, isPoison(n) ? { ...msg, error: { message: 'the flow fails this' } } : msg);
  });
}

/** Starts a broker, and a flow on it; resolves once the sender is connected. */
export async function start(options: RunOptions = {}): Promise<Run> {
  broker = await Broker.start({ maxDeliveries: PATIENT, ...options.broker });
  options.prepare?.(broker);
  let connections = 0;
  broker.on('connection', () => connections++);
  if (options.isProxied) proxy = await Proxy.start(broker.port);
  const receiver = node('amqp-receiver', options.receiver);
  // Pauses grow with each loss of a connection that has not been open for long, and here they are many.
  helper.settings({ amqpEndpointReconnectTime: 0, amqpEndpointLoginRetryTime: 20 });
  await helper.load(
    [texts, ...nodes],
    flow(
      endpointNode(proxy?.port ?? broker.port, options.endpoint),
      node('amqp-sender', { wires: [], ...options.sender }),
      receiver,
      ...(options.nodes ?? []),
    ),
    options.credentials,
  );
  const ledger = ledgerOf();
  if (receiver['settle'] === 'flow' && !options.isIdle) work('out', 'receiver', options.isPoison);
  const caught = collect('caught');
  await Promise.all([connected('sender'), connected('receiver')]);
  return {
    broker,
    proxy: proxy!,
    ledger,
    caught,
    get connections() {
      return connections;
    },
  };
}

type Status = { fill: string; shape: string; text: string };

/** Resolves once the node has, or gets, a status with this in its text; the number of those that wait may follow. */
export function shows(id: string, part: string): Promise<Status> {
  const target = helper.getNode(id);
  // The helper's spy on the prototype of all nodes.
  const { status: spy } = target as unknown as { status: { args: [Status][]; thisValues: unknown[] } };
  return new Promise((resolve) => {
    const check = (): void => {
      const current = spy.args[spy.thisValues.lastIndexOf(target)]?.[0];
      if (!current?.text?.includes(part)) return;
      calls.off('call:status', check);
      resolve(current);
    };
    const calls = target as unknown as EventEmitter;
    calls.on('call:status', check);
    check();
  });
}

export async function connected(id: string): Promise<void> {
  await shows(id, 'status.connected');
}

/** Sends a message, whatever has become of those before. */
export function sendOne(to: Ledger, id = 'sender', more: object = {}): void {
  const n = to.next();
  inject(id, { n, payload: { n }, ...more });
}

/** Sends so many messages, with a bounded number of them under way. */
export async function send(count: number, to: Ledger, { id = 'sender', atOnce = 300 } = {}): Promise<void> {
  for (let i = 0; i < count; i++) {
    await to.until(({ sent, done, failed }) => sent - done.size - failed.size < atOnce);
    sendOne(to, id);
    // Node-RED's own work and the sockets get their turns.
    if (i % 50 === 0) await turn();
  }
}

/** Sends so many messages, and meanwhile does `fault` so many times. Resolves once all messages have ended. */
export async function under(
  fault: (time: number) => unknown,
  { to, count, times = 1, id }: { to: Ledger; count: number; times?: number; id?: string },
): Promise<void> {
  const sending = send(count, to, { id });
  for (let time = 1; time <= times; time++) {
    await to.until(({ done, failed }) => done.size + failed.size >= (time * count) / (times + 1));
    await fault(time);
  }
  await sending;
  await to.settle();
}

/** Numbers from `first` up to, and without, `end`. */
export function range(first: number, end: number): number[] {
  return Array.from({ length: end - first }, (_, i) => first + i);
}

/** Messages in the order in which they first arrived. */
export function order({ delivered }: Ledger): number[] {
  return [...delivered.keys()];
}
