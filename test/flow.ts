// Loads flows of the AMQP nodes into the Node-RED under test, with an embedded broker beside it.
import type { EventEmitter } from 'node:events';
import type { Node, NodeMessage } from 'node-red';
import endpoint from '../nodes/amqp-endpoint';
import receiver from '../nodes/amqp-receiver';
import requester from '../nodes/amqp-requester';
import responder from '../nodes/amqp-responder';
import sender from '../nodes/amqp-sender';
import helper, { type NodeConfig } from './node-red';

/** What tells a node from a config node. */
const PLACE = { x: 0, y: 0 };

export const nodes = [endpoint, sender, receiver, requester, responder];

/** A msg as flows see it, with all that our nodes may put into it. */
export type Msg = NodeMessage & {
  topic?: string;
  amqp?: Record<string, unknown>;
  delivery?: { id?: string; tag: string; address: string; redelivered: boolean; to?: string };
  sent?: { address: string; tag: string; state: string; error?: { code: string; condition?: string } };
  error?: { message: string; code?: string; condition?: string; source: { id: string } };
  [property: string]: unknown;
};

/** New nodes, as the editor saves them. Their id is the type without "amqp-", they are on `broker`, output to "out". */
export function node(type: string, properties: object = {}): NodeConfig {
  const id = type.replace('amqp-', '');
  const wires = type === 'amqp-requester' ? [['outcome'], ['out']] : [['out']];
  return { id, type, z: 'flow', ...PLACE, endpoint: 'broker', format: 'body', address: 'q', wires, ...properties };
}

export function endpointNode(port: number, properties: object = {}): NodeConfig {
  return { id: 'broker', type: 'amqp-endpoint', z: '', host: '127.0.0.1', port, autoconnect: true, ...properties };
}

/** A flow of the nodes given, with helper nodes "out" and "outcome", and Catch, Complete and Status nodes on all. */
export function flow(...configs: NodeConfig[]): NodeConfig[] {
  return [
    { id: 'flow', type: 'tab', label: 'flow' },
    { id: 'out', type: 'helper', z: 'flow', ...PLACE, wires: [] },
    { id: 'outcome', type: 'helper', z: 'flow', ...PLACE, wires: [] },
    { id: 'catch', type: 'catch', z: 'flow', ...PLACE, scope: null, uncaught: false, wires: [['caught']] },
    { id: 'caught', type: 'helper', z: 'flow', ...PLACE, wires: [] },
    {
      id: 'complete',
      type: 'complete',
      z: 'flow',
      ...PLACE,
      scope: configs.filter(({ type }) => type.startsWith('amqp-')).map(({ id }) => id),
      wires: [['completed']],
    },
    { id: 'completed', type: 'helper', z: 'flow', ...PLACE, wires: [] },
    ...configs,
  ];
}

/** Settings with the short pauses that tests want. */
const SETTINGS = { amqpEndpointReconnectTime: 20, amqpEndpointLoginRetryTime: 40 };

export async function load(configs: NodeConfig[], credentials: object = {}, settings: object = {}): Promise<void> {
  helper.settings({ ...SETTINGS, ...settings });
  await helper.load(nodes, configs, credentials);
}

/** The next `count` messages that reach a node. */
export function messages(id: string, count = 1): Promise<Msg[]> {
  const received: Msg[] = [];
  return new Promise((resolve) => {
    const target = helper.getNode(id);
    const listener = (msg: Msg): void => {
      if (received.push(msg) < count) return;
      target.off('input', listener);
      resolve(received);
    };
    target.on('input', listener);
  });
}

export async function message(id: string): Promise<Msg> {
  return (await messages(id))[0]!;
}

/** All messages that reach a node from now on. */
export function collect(id: string): Msg[] {
  const received: Msg[] = [];
  helper.getNode(id).on('input', (msg) => void received.push(msg));
  return received;
}

type Status = { fill: string; shape: string; text: string };

/** Resolves once the node has, or gets, a status whose text ends so. */
export function status(id: string, text: string): Promise<Status> {
  const target = helper.getNode(id);
  const calls = target as unknown as EventEmitter;
  // The helper's spy on the prototype of all nodes.
  const { status: spy } = target as unknown as { status: { args: [Status][]; thisValues: Node[] } };
  return new Promise((resolve) => {
    const check = (): void => {
      const current = spy.args[spy.thisValues.lastIndexOf(target)]?.[0];
      if (!current?.text?.endsWith(text)) return;
      calls.off('call:status', check);
      resolve(current);
    };
    calls.on('call:status', check);
    check();
  });
}

/** Sends a msg into a node. */
export function inject(id: string, msg: object): void {
  helper.getNode(id).receive(msg as NodeMessage);
}

/** Gives a sender a msg, and the msg as it is once it is done. */
export function send(msg: object): Promise<Msg> {
  const completed = message('completed');
  inject('sender', msg);
  return completed;
}

/** Gives a sender a msg, and the msg as a Catch node gets it. */
export function fail(msg: object): Promise<Msg> {
  const caught = message('caught');
  inject('sender', msg);
  return caught;
}

/** When each message reaches a node. */
export function timesAt(id: string): number[] {
  const times: number[] = [];
  helper.getNode(id).on('input', () => times.push(Date.now()));
  return times;
}

export const payloadsOf = (msgs: Msg[]): unknown[] => msgs.map(({ payload }) => payload);

export { helper };
