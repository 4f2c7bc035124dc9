// Node-RED under load: the test helper without what it keeps of each msg.
import type { NodeAPI, Node } from 'node-red';
import { helper, nodes } from '../flow';
import type { NodeConfig } from '../node-red';

type Msg = { [property: string]: any };
/** What a node of a test does with a msg. */
export type Input = (msg: Msg, send: (msg: Msg) => void, done: (error?: Error) => void) => void;

/**
 * Loads a flow of our nodes, and of node types that are given by what they do with a msg. The helper spies on `send` and
 * other methods, which keeps each msg and its stack: the spies are taken off before any node is made.
 */
export async function loadUnspied(
  configs: NodeConfig[],
  inputs: Record<string, Input>,
  { settings = {}, credentials = {} }: { settings?: object; credentials?: object } = {},
): Promise<void> {
  const own = Object.entries(inputs).map(([type, input]) => (RED: NodeAPI) => {
    RED.nodes.registerType(type, function (this: Node, config) {
      RED.nodes.createNode(this, config);
      this.on('input', (msg, send, done) => input(msg, send, done));
    });
  });
  const spies = helper as unknown as { _NodePrototype: object; _sandbox: { restore(): void } };
  const { ...unspied } = spies._NodePrototype;
  helper.settings(settings);
  // The helper registers a core type once for each node of it that is there at the beginning.
  const beginning = configs.filter(
    ({ type }, n) => type === 'tab' || (isCore(type) && configs.findIndex((other) => other.type === type) === n),
  );
  await helper.load([...nodes, ...own], beginning);
  spies._sandbox.restore();
  Object.assign(spies._NodePrototype, unspied);
  await helper.setFlows(configs, 'full', credentials);
}

function isCore(type: string): boolean {
  return type === 'catch' || type === 'complete';
}
