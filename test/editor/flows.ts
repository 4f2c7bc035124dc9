// Flows that the tests of the editor open.
import type { Flow } from './installation';

export const NODES = ['amqp-sender', 'amqp-receiver', 'amqp-requester', 'amqp-responder'];

export const TAB = { id: 'tab', type: 'tab', label: 'Test' };
export const ENDPOINT = {
  id: 'endpoint',
  type: 'amqp-endpoint',
  name: '',
  host: 'localhost',
  port: 5672,
  autoconnect: false,
};

export function node(type: string, properties: object = {}): Flow {
  return {
    id: type,
    type,
    z: 'tab',
    x: 300,
    y: 60 + 80 * NODES.indexOf(type),
    wires: type === 'amqp-requester' ? [[], []] : [[]],
    format: 'body',
    ...properties,
  };
}

/** A node as node-red-contrib-rhea saved it. */
export function rhea(type: string, properties: object): Flow {
  const { format: _format, ...saved } = node(type, { endpoint: 'endpoint', address: 'queue', name: '', ...properties });
  return saved;
}

/** A flow with one node of each kind, all valid. */
export const FLOW = [TAB, ENDPOINT, ...NODES.map((type) => node(type, { endpoint: 'endpoint', address: 'queue' }))];
