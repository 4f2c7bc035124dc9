// Who takes part: raw rhea, the nodes of this package in Node-RED, and Node-RED's own MQTT nodes.
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { savedEndpoint, savedNode } from '../test/brokers/saved';
import { type NodeConfig, nodeRedDir } from '../test/node-red';
import { Child } from './child';
import type { RawOptions } from './raw';

const root = join(__dirname, '..');
const PACKAGE = '@amqp10/node-red-amqp10';
const TSX = ['--require', 'tsx/cjs'];
const SPOT = { z: 'flow', x: 0, y: 0 };

export function rawRhea(options: RawOptions): Promise<Child> {
  return Child.start([...TSX, join(__dirname, 'raw.ts'), JSON.stringify(options)], { cwd: root });
}

const userDirs: string[] = [];
process.once('exit', () => userDirs.forEach((userDir) => rmSync(userDir, { recursive: true, force: true })));

/** A Node-RED with the package as it is built, and a user directory of its own, which is removed with this process. */
export function nodeRed(flow: NodeConfig[], login: object = {}): Promise<Child> {
  const userDir = mkdtempSync(join(tmpdir(), 'node-red-'));
  userDirs.push(userDir);
  const modules = join(userDir, 'node_modules');
  mkdirSync(join(modules, PACKAGE, '..'), { recursive: true });
  symlinkSync(root, join(modules, PACKAGE));
  writeFileSync(join(userDir, 'flows.json'), JSON.stringify([{ id: 'flow', type: 'tab', label: 'flow' }, ...flow]));
  writeFileSync(join(userDir, 'flows_cred.json'), JSON.stringify({ broker: login }));
  const red = [join(nodeRedDir, 'red.js'), '-u', userDir, '-s', join(__dirname, 'settings.cjs')];
  return Child.start(['--expose-gc', ...TSX, ...red], { cwd: root, env: { ...process.env, HOME: userDir } });
}

export const counter = (id: string): NodeConfig => ({ id, type: 'bench-counter', ...SPOT, wires: [] });
export const generator = (to: string): NodeConfig => ({
  id: 'generator',
  type: 'bench-generator',
  ...SPOT,
  wires: [[to]],
});
export const FAILURES: NodeConfig[] = [
  { id: 'catch', type: 'catch', ...SPOT, scope: null, uncaught: false, wires: [['failed']] },
  { id: 'failed', type: 'bench-failed', ...SPOT, wires: [] },
];

/** What the nodes of a flow have that the form does not give them. */
export type Properties = object;

/** Flows for each kind of work, of nodes as the editor saves them. */
export const flows = {
  sink: (port: number, properties: Properties = {}) => [
    savedEndpoint(port),
    generator('sender'),
    savedNode('amqp-sender', { address: 'sink', wires: [['taken']], ...properties }),
    counter('taken'),
    ...FAILURES,
  ],
  source: (port: number, properties: Properties = {}) => [
    savedEndpoint(port),
    savedNode('amqp-receiver', { address: 'source', wires: [['arrived']], ...properties }),
    counter('arrived'),
    // It belongs to the workload only where the flow settles.
    ...('settle' in properties
      ? [{ id: 'complete', type: 'complete', ...SPOT, scope: ['arrived'], uncaught: false, wires: [['receiver']] }]
      : []),
    ...FAILURES,
  ],
  'round trip': (port: number, properties: Properties = {}) => [
    savedEndpoint(port),
    generator('sender'),
    savedNode('amqp-sender', { address: 'queue', wires: [[]], ...properties }),
    savedNode('amqp-receiver', { address: 'queue', wires: [['arrived']], ...properties }),
    counter('arrived'),
    ...FAILURES,
  ],
  request: (port: number) => [
    savedEndpoint(port),
    generator('requester'),
    savedNode('amqp-requester', { address: 'requests', wires: [[], ['replied']] }),
    counter('replied'),
    ...FAILURES,
  ],
} satisfies Record<RawOptions['does'], (port: number, properties?: Properties) => NodeConfig[]>;

/** Receivers on addresses where nothing comes. */
export function idle(count: number): NodeConfig[] {
  return Array.from({ length: count }, (_, n) =>
    savedNode('amqp-receiver', { id: `idle${n}`, address: `idle${n}`, wires: [[]] }),
  );
}

export function mqtt(port: number): NodeConfig[] {
  const topic = { topic: 'queue', qos: '1', broker: 'mosquitto' };
  return [
    {
      id: 'mosquitto',
      type: 'mqtt-broker',
      name: '',
      broker: '127.0.0.1',
      port: String(port),
      clientid: '',
      autoConnect: true,
      usetls: false,
      protocolVersion: '4',
      keepalive: '60',
      cleansession: true,
    },
    generator('out'),
    { id: 'out', type: 'mqtt out', ...SPOT, ...topic, retain: 'false', wires: [] },
    { id: 'in', type: 'mqtt in', ...SPOT, ...topic, datatype: 'auto-detect', inputs: 0, wires: [['arrived']] },
    counter('arrived'),
    ...FAILURES,
  ];
}
