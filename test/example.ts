// An example flow as it is shipped, in the test helper's Node-RED: only ports are changed.
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { NodeInitializer } from 'node-red';
import { Broker } from '../broker/broker';
import { inject, message, messages, nodes, status } from './flow';
import helper, { coreNode, type NodeConfig } from './node-red';

const CORE = [
  'common/20-inject',
  'common/21-debug',
  'common/24-complete',
  'common/25-catch',
  'common/25-status',
  'common/90-comment',
  'common/91-global-config',
  'function/10-function',
  'function/10-switch',
  'function/15-change',
  'function/80-template',
  'function/89-delay',
  'network/10-mqtt',
  'network/21-httpin',
  'network/31-tcpin',
  'sequence/17-split',
].map(coreNode);

export const examplesFolder = join(__dirname, '..', 'examples');

/** The names of those in a folder, as `readExample` takes them: `Systems/Kafka.json`. */
export function exampleFiles(folder = ''): string[] {
  return readdirSync(join(examplesFolder, folder))
    .filter((file) => file.endsWith('.json'))
    .map((file) => join(folder, file))
    .toSorted();
}

export function readExample(file: string): NodeConfig[] {
  return JSON.parse(readFileSync(join(examplesFolder, file), 'utf8'));
}

let flow: NodeConfig[];
let userDir: string;

/** What http in nodes give their pages to: the helper serves it nowhere. */
let httpNode: RequestListener;
const keepHttpNode: NodeInitializer = (RED) => {
  httpNode = RED.httpNode as RequestListener;
};

/** To be called in a `describe` whose tests load flows with all their nodes, core nodes too. */
export function startHelper(): void {
  const loaded = helper as unknown as { _nodeModules: object };
  let ofOthers: object;
  before(async () => {
    ofOthers = loaded._nodeModules;
    // It would register a type once for each node of it.
    loaded._nodeModules = {};
    await helper.startServer();
  });
  after(async () => {
    await helper.stopServer();
    // Other files of the same process go on with what they have.
    loaded._nodeModules = ofOthers;
  });
}

/**
 * To be called in a `describe`: each of its tests has a folder of its own for what Node-RED keeps, and an embedded broker if it
 * says what to do with that.
 */
export function startExamples(use?: (broker: Broker) => void): void {
  let broker: Broker | undefined;
  startHelper();
  if (use)
    beforeEach(async () => {
      broker = await Broker.start();
      use(broker);
    });
  beforeEach(() => {
    userDir = mkdtempSync(join(tmpdir(), 'examples-'));
  });
  afterEach(async () => {
    await helper.unload();
    await broker?.stop();
    rmSync(userDir, { recursive: true, force: true });
  });
}

/**
 * `port`: of the server; `ports`: those of others, by the end of a config node's id; `changes`: what else is not as it is shipped,
 * by that of a node's id, such as lower limits; `more`: nodes of the test.
 */
export async function loadExample(
  file: string,
  port: number,
  ports: Record<string, number> = {},
  changes: Record<string, object> = {},
  { more = [], credentials = {} }: { more?: NodeConfig[]; credentials?: object } = {},
): Promise<void> {
  flow = changed(readExample(file), changes);
  for (const node of flow) {
    if (!('port' in node)) continue;
    const [, own = port] = Object.entries(ports).find(([end]) => node.id.endsWith(end)) ?? [];
    Object.assign(node, { port: own });
  }
  flow.push(...more);
  helper.settings({ amqpEndpointReconnectTime: 20, amqpEndpointLoginRetryTime: 40, mqttReconnectTime: 100, userDir });
  await helper.load([keepHttpNode, ...nodes, ...CORE], flow, credentials);
}

/** Deploys nodes that have these properties now, by the ends of their ids. */
export async function deploy(changes: Record<string, object>): Promise<void> {
  flow = changed(structuredClone(flow), changes);
  await helper.setFlows(flow, 'nodes');
}

function changed(configs: NodeConfig[], changes: Record<string, object>): NodeConfig[] {
  for (const [end, properties] of Object.entries(changes))
    Object.assign(
      configs.find(({ id }) => id.endsWith(end))!,
      properties,
    );
  return configs;
}

/** A node of the flow, by its type and name. */
export function idOf(type: string, name: string): string {
  const found = flow.find((candidate) => candidate.type === type && candidate['name'] === name);
  if (!found) throw new Error(`there is no ${type} ${name}`);
  return found.id;
}

/** Presses the button of an inject node. */
export const press = (name: string): void => inject(idOf('inject', name), {});
/** The next message that a debug node shows. */
export const shown = (name: string) => message(idOf('debug', name));
export const allShown = (name: string, count: number) => messages(idOf('debug', name), count);
export const isConnected = (type: string, name: string) => status(idOf(type, name), '.connected');

/** Asks what http in nodes serve. */
export async function ask(path: string, init?: RequestInit): Promise<{ status: number; text: string }> {
  const server = createServer(httpNode).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const response = await fetch(`http://127.0.0.1:${port}${path}`, init);
  const answer = { status: response.status, text: await response.text() };
  server.close();
  server.closeAllConnections();
  return answer;
}
