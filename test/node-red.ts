// The test helper on the Node-RED under test: the project's own, or the one that NODE_RED_DIR holds.
import { type EventEmitter, once } from 'node:events';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { Node, NodeInitializer } from 'node-red';

export type NodeConfig = { id: string; type: string; [property: string]: unknown };

type Asking = PromiseLike<{ status: number; text: string; headers: Record<string, string> }>;

type Helper = {
  init(runtimePath: string): void;
  settings(settings: object): void;
  startServer(): Promise<void>;
  stopServer(): Promise<void>;
  load(nodes: NodeInitializer | NodeInitializer[], flow: NodeConfig[], credentials?: object): Promise<void>;
  unload(): Promise<void>;
  getNode(id: string): Node;
  setFlows(flow: NodeConfig[], type?: 'full' | 'flows' | 'nodes', credentials?: object): Promise<void>;
  url(): string;
  /** Asks an admin route of the nodes loaded last; it knows no permissions. */
  request(): { get(path: string): Asking; post(path: string): Asking & { send(body: object): Asking } };
  log(): { args: [{ level: number; msg: unknown; type?: string; id?: string }][] };
};

/** The folder of the Node-RED under test. */
export const nodeRedDir =
  process.env['NODE_RED_DIR'] ?? join(createRequire(__filename).resolve('node-red/package.json'), '..');

const fromNodeRed = createRequire(join(nodeRedDir, 'package.json'));

/** A node of the core palette, for `helper.load`: `coreNode('common/20-inject')`. */
export function coreNode(path: string): NodeInitializer {
  return fromNodeRed(`@node-red/nodes/core/${path}.js`);
}

type Inside = {
  _events: EventEmitter;
  _redNodes: { setFlows(flow: NodeConfig[], credentials: object, type: string): Promise<unknown> };
};

const helper: Helper & Inside = require('node-red-node-test-helper');
helper.init(fromNodeRed.resolve(nodeRedDir));

// Its own gives up after 300 ms, and begins to listen only when the flows may have started already.
helper.setFlows = async (flow, type = 'full', credentials = {}) => {
  const started = once(helper._events, 'flows:started');
  await helper._redNodes.setFlows(flow, credentials, type);
  await started;
};

export default helper as Helper;
