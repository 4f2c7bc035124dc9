// A contestant: this package in a Node-RED, each node as the editor saves it.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { savedEndpoint, savedNode } from '../test/brokers/saved';
import { type NodeConfig, nodeRedDir } from '../test/node-red';
import type { Task } from './course';

const root = join(__dirname, '..');

/** The flow of a workload; `extra`: further nodes, properties of the sender, and of the receiver. */
export interface Setup {
  nodes?: NodeConfig[];
  sender?: object;
  receiver?: object;
}

function flowOf({ workload, port }: Task, { nodes = [], sender = {}, receiver = {} }: Setup): NodeConfig[] {
  const place = { z: 'flow', x: 0, y: 0 };
  const start = (to: string): NodeConfig => ({ id: 'start', type: 'bench-start', ...place, wires: [[to]] });
  const count = { id: 'count', type: 'bench-count', ...place, wires: [] };
  const send = (address: string, wires: string[][]): NodeConfig =>
    savedNode('amqp-sender', { id: 'send', address, wires, ...sender });
  const receive = (address: string, properties = {}): NodeConfig =>
    savedNode('amqp-receiver', {
      id: 'receive',
      address,
      wires: [['count']],
      creditwindow: 500,
      ...properties,
      ...receiver,
    });
  const flows: Record<Task['workload'], () => NodeConfig[]> = {
    sink: () => [start('send'), send('sink', [['count']])],
    source: () => [receive('source')],
    'round trip': () => [start('send'), send('queue', [[]]), receive('queue')],
    requests: () => [
      start('request'),
      savedNode('amqp-requester', { id: 'request', address: 'requests', wires: [[], ['count']] }),
    ],
    settle: () => [
      receive('source', { settle: 'flow' }),
      { id: 'complete', type: 'complete', ...place, scope: ['count'], wires: [['receive']] },
    ],
  };
  return [{ id: 'flow', type: 'tab' }, savedEndpoint(port), count, ...flows[workload](), ...nodes];
}

/** Starts it; it ends by itself. `remove` is to be called then. */
export function startNodeRed(task: Task, setup: Setup = {}): { child: ChildProcess; remove(): void } {
  const userDir = mkdtempSync(join(tmpdir(), 'bench-'));
  const modules = join(userDir, 'node_modules');
  mkdirSync(join(modules, '@amqp10'), { recursive: true });
  symlinkSync(root, join(modules, '@amqp10/node-red-amqp10'));
  writeFileSync(join(userDir, 'flows.json'), JSON.stringify(flowOf(task, setup)));
  const settings = join(userDir, 'settings.js');
  const nodes = join(userDir, 'nodes');
  mkdirSync(nodes);
  writeFileSync(
    join(nodes, 'bench.js'),
    `module.exports = require(${JSON.stringify(join(root, 'bench/nodes.ts'))}).default;`,
  );
  writeFileSync(join(nodes, 'bench.html'), '');
  writeFileSync(
    settings,
    `module.exports = { ...require(${JSON.stringify(join(root, 'scripts/node-red-settings.cjs'))}),
      httpAdminRoot: false, httpNodeRoot: false, flowFile: 'flows.json' };`,
  );
  const red = [join(nodeRedDir, 'red.js'), '-u', userDir, '-s', settings];
  // A profile of each run, for whoever wants to know where the time goes.
  const profile = process.env['BENCH_PROFILE'] ? ['--cpu-prof', `--cpu-prof-dir=${process.env['BENCH_PROFILE']}`] : [];
  const child = spawn(process.execPath, [...profile, '--require', 'tsx/cjs', ...red], {
    cwd: root,
    env: { ...process.env, HOME: userDir, BENCH: JSON.stringify(task) },
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  });
  return { child, remove: () => rmSync(userDir, { recursive: true, force: true }) };
}
