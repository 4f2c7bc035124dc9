// Settings of a Node-RED that Copy starts: it tells by IPC what nodes show and what reaches them, and does what it is told.
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import type { Node, NodeMessage } from 'node-red';
import type { Order, Told } from './copy';

/** What is used of Node-RED. */
interface NodeRed {
  events: { on(name: 'node-status', listener: (event: { id: string; status: object }) => void): void };
  hooks: {
    add(name: 'onReceive.copy', listener: (event: { msg: NodeMessage; destination: { id: string } }) => void): void;
  };
  nodes: { getNode(id: string): Node | null };
  runtime: { flows: { setFlows(options: { flows: { flows: object[] }; deploymentType: 'full' }): Promise<unknown> } };
}

/** Of the palette, what flows of these tests have: without the rest it starts faster. */
const NEEDED = /-(inject|debug|complete|comment|junction|function|change|split)\.js$/;

const { COPY: dir } = process.env;
const fromNodeRed = createRequire(join(dir!, 'package.json'));
const RED: NodeRed = fromNodeRed(dir!);
const palette = join(dirname(fromNodeRed.resolve('@node-red/nodes/package.json')), 'core');
const files = readdirSync(palette, { recursive: true, encoding: 'utf8' }).map((file) => basename(file));
const tell = (told: Told): void => void process.send!(told);

RED.events.on('node-status', ({ id, status }) => tell({ id, status: status as { fill: string; text: string } }));
RED.hooks.add('onReceive.copy', ({ msg, destination }) => tell({ id: destination.id, payload: msg.payload }));
process.on('message', ({ to, msg, flow }: Order) => {
  if (flow) void RED.runtime.flows.setFlows({ flows: { flows: flow }, deploymentType: 'full' });
  else RED.nodes.getNode(to!)!.receive(msg as NodeMessage);
});

module.exports = {
  ...require('../../scripts/node-red-settings.cjs'),
  httpAdminRoot: false,
  httpNodeRoot: false,
  nodesExcludes: files.filter((file) => /^\d.*\.js$/.test(file) && !NEEDED.test(file)),
  credentialSecret: false,
};
