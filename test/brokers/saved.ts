// Nodes as the editor saves them: dragged in, with the form left as it is but for what is given.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runInNewContext } from 'node:vm';
import { endpointNode, node } from '../flow';
import type { NodeConfig } from '../node-red';

type Defaults = Record<string, { value?: unknown }>;

/** What the palette entry in nodes/<type>.html gives a new node. */
function defaultsOf(type: string): Record<string, unknown> {
  const html = readFileSync(join(__dirname, '..', '..', 'nodes', `${type}.html`), 'utf8');
  const scripts = [...html.matchAll(/<script type="text\/javascript">(.*?)<\/script>/gs)].map(([, script]) => script);
  let defaults: Defaults = {};
  const RED = {
    _: (key: string) => key,
    nodes: { registerType: (_type: string, entry: { defaults: Defaults }) => (defaults = entry.defaults) },
    // Makers of validators, which nobody calls here.
    validators: { typedInput: () => undefined, number: () => undefined, regex: () => undefined },
  };
  runInNewContext(scripts.join('\n'), { RED, window: {} });
  // Through JSON, as in a flow file, which has no undefined.
  return JSON.parse(
    JSON.stringify(Object.fromEntries(Object.entries(defaults).map(([name, { value }]) => [name, value]))),
  );
}

/** Where a node is and whom it is with is no matter of the form. */
function saved(type: string): Record<string, unknown> {
  const { address: _address, ...rest } = defaultsOf(type);
  return rest;
}

const TYPES = ['amqp-sender', 'amqp-receiver', 'amqp-requester', 'amqp-responder', 'amqp-endpoint'];
const NEW = new Map(TYPES.map((type) => [type, saved(type)]));

/** `node` of flow.ts, with all that the form saves. */
export function savedNode(type: string, properties: object = {}): NodeConfig {
  return node(type, { ...NEW.get(type), ...properties });
}

/** `endpointNode` of flow.ts, with all that the form saves. */
export function savedEndpoint(port: number | string, properties: object = {}): NodeConfig {
  return endpointNode(0, { ...NEW.get('amqp-endpoint'), host: '127.0.0.1', port, ...properties });
}
