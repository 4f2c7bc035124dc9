// `npm start`: builds the nodes, runs a broker and a Node-RED with the example flows in it, and shows that messages flow.
import { spawnSync } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual, parseArgs } from 'node:util';
import type { NodeRedApp } from 'node-red';
import { Broker } from '../broker/broker';
import { freePort } from './free-port';

const USAGE = `npm start -- [options]

  --broker amqp://user:password@host:port   use this broker (amqps:// for TLS) instead of the embedded one
  --address-prefix /queue/                  what this broker wants before every address of the examples
  --reply-address /queue/replies            for a broker that makes no reply addresses of its own
  --fresh                                   begin with the examples again, not with the flows of the last start
  --user-dir .start                         where Node-RED keeps its files
`;

/** Press the button of `inject` with this payload, and `expected` arrives at the node `seenBy`. */
type Proof = { title: string; inject: string; payload: unknown; seenBy: string; expected: unknown };
type Peer = { host: string; port: number; usetls: boolean; credentials: { user: string; pass: string } };
type Handler = (request: IncomingMessage, response: ServerResponse, next?: () => void) => void;
type LogEntry = { level: number; msg: unknown; type?: string; name?: string; id?: string };
type FlowNode = { id: string; type: string; [property: string]: unknown };

const root = join(__dirname, '..');
/** The endpoints of the examples. */
const ENDPOINT = /^amqp-example-\d+-endpoint/;
const PROOF_SECONDS = 10;
const mark = randomUUID().slice(0, 8);
const PROOFS: Proof[] = [
  {
    title: 'a message was sent and received',
    inject: 'amqp-example-01-hello',
    payload: `Hello ${mark}`,
    seenBy: 'amqp-example-01-received',
    expected: `Hello ${mark}`,
  },
  {
    title: 'a request was answered',
    inject: 'amqp-example-03-ask',
    payload: mark,
    seenBy: 'amqp-example-03-reply',
    expected: `Hello, ${mark}`,
  },
  {
    title: 'a message was processed, and confirmed after that',
    inject: 'amqp-example-02-good',
    payload: { item: mark, amount: 1 },
    seenBy: 'amqp-example-02-receive',
    expected: { item: mark, amount: 1, state: 'processed' },
  },
];

const { values: options } = parseArgs({
  options: {
    broker: { type: 'string' },
    'address-prefix': { type: 'string', default: '' },
    'reply-address': { type: 'string' },
    fresh: { type: 'boolean', default: false },
    'user-dir': { type: 'string', default: join(root, '.start') },
    help: { type: 'boolean', default: false },
  },
});

async function main(): Promise<void> {
  if (options.help) return say(USAGE);
  const built = spawnSync(process.execPath, [join(root, 'scripts', 'build.mjs')], { stdio: 'inherit' });
  if (built.status !== 0) throw new Error('the build failed');

  const closing: (() => Promise<unknown>)[] = [];
  let stopping: Promise<void> | undefined;
  const stop = async () => {
    for (const close of closing.toReversed()) await close();
    process.exit();
  };
  const stopOnce = () => void (stopping ??= stop());
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, stopOnce);
  // The shell between npm and us dies of a SIGTERM without passing it on.
  const parent = process.ppid;
  setInterval(() => process.ppid === parent || stopOnce(), 250).unref();

  const peer = options.broker ? peerAt(new URL(options.broker)) : await embeddedBroker(closing);
  say(`Broker  ${peer.usetls ? 'amqps' : 'amqp'}://${peer.host}:${peer.port}${options.broker ? '' : ' (embedded)'}`);

  const flowFile = join(options['user-dir'], 'flows.json');
  if (options.fresh) rmSync(flowFile, { force: true });
  const kept = existsSync(flowFile);
  const { RED, url } = await nodeRed(closing);
  const flows: FlowNode[] = kept ? JSON.parse(await (await fetch(`${url}/flows`)).text()) : examples();
  const started = settled(RED);
  // Credentials go the way the editor sends them: Node-RED takes them out of the flow and keeps them encrypted.
  await post(
    `${url}/flows`,
    flows.map((node) => (ENDPOINT.test(node.id) ? { ...node, ...peer } : node)),
  );
  await started;
  say(`Flows   ${kept ? 'as you left them (--fresh brings the examples back)' : 'the examples, one tab each'}`);

  for (const proof of PROOFS) say(`        ${await prove(proof, RED, url)}`);
  say(`Editor  ${url}/\n\nCtrl-C stops all of it.`);
}

async function embeddedBroker(closing: (() => Promise<unknown>)[]): Promise<Peer> {
  const broker = await Broker.start({ port: await freePort(5672), management: true });
  closing.push(() => broker.stop());
  return { host: 'localhost', port: broker.port, usetls: false, credentials: { user: '', pass: '' } };
}

function peerAt({ protocol, hostname, port, username, password }: URL): Peer {
  if (protocol !== 'amqp:' && protocol !== 'amqps:') throw new Error(`--broker wants amqp:// or amqps://`);
  const usetls = protocol === 'amqps:';
  const credentials = { user: decodeURIComponent(username), pass: decodeURIComponent(password) };
  return { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || (usetls ? 5671 : 5672)), usetls, credentials };
}

/** Node-RED in this process, with a user directory of its own and the nodes of this project. Its flows wait for a deploy. */
async function nodeRed(closing: (() => Promise<unknown>)[]): Promise<{ RED: NodeRedApp; url: string }> {
  const RED: NodeRedApp = require(process.env['NODE_RED_DIR'] ?? 'node-red');
  const userDir = options['user-dir'];
  mkdirSync(userDir, { recursive: true });
  const secretFile = join(userDir, 'secret');
  if (!existsSync(secretFile)) writeFileSync(secretFile, randomBytes(32).toString('hex'), { mode: 0o600 });
  const port = await freePort(1880);
  const server = createServer();
  RED.init(server, {
    ...require('./node-red-settings.cjs'),
    uiPort: port,
    userDir,
    nodesDir: root,
    credentialSecret: readFileSync(secretFile, 'utf8'),
    safeMode: true,
    logging: {
      console: { level: 'off' },
      terminal: { level: 'warn', metrics: false, audit: false, handler: () => log },
    },
  });
  const admin: Handler = RED.httpAdmin;
  const node: Handler = RED.httpNode;
  server.on('request', (request, response) => admin(request, response, () => node(request, response)));
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  closing.push(async () => {
    await RED.stop();
    server.close();
    server.closeAllConnections();
  });
  const loaded = settled(RED);
  await RED.start();
  await loaded;
  return { RED, url: `http://127.0.0.1:${port}` };
}

/** Waits until the flows run, or until Node-RED has said why they do not. */
async function settled(RED: NodeRedApp): Promise<void> {
  await new Promise<void>((resolve) => {
    RED.events.once('flows:started', resolve);
    RED.events.on('runtime-event', (event: { payload?: { error?: string } }) => {
      if (event.payload?.error) resolve();
    });
  });
}

/** Shows what nodes warn of; Node-RED's own remarks on how it is set up only when they are errors. */
function log(entry: LogEntry): void {
  if (entry.type === undefined && entry.level > 20) return;
  const from = entry.type === undefined ? '' : `[${entry.type}:${entry.name ?? entry.id}] `;
  say(`${entry.level > 20 ? 'warning' : 'error'}: ${from}${String(entry.msg)}`);
}

/** The nodes of the example flows for beginners, at the addresses that the broker wants. */
function examples(): FlowNode[] {
  const files = readdirSync(join(root, 'examples'))
    .filter((file) => file.endsWith('.json'))
    .toSorted();
  const nodes = files.flatMap((file): FlowNode[] => JSON.parse(readFileSync(join(root, 'examples', file), 'utf8')));
  for (const node of nodes) {
    // Blank is for the flow to name, and a topic has a prefix of its own.
    const { address } = node;
    if (typeof address === 'string' && /^(?!topic:)./.test(address))
      node['address'] = options['address-prefix'] + address;
    if (node.type === 'amqp-requester' && options['reply-address']) {
      Object.assign(node, { replyto: 'fixed', replyaddress: options['reply-address'] });
    }
  }
  return nodes;
}

async function prove(proof: Proof, RED: NodeRedApp, url: string): Promise<string> {
  const seen = new Promise<boolean>((resolve) => {
    RED.hooks.add('onReceive.proof', ({ destination, msg }) => {
      if (destination.id === proof.seenBy && isDeepStrictEqual(msg['payload'], proof.expected)) resolve(true);
    });
  });
  try {
    const props = [{ p: 'payload', v: JSON.stringify(proof.payload), vt: 'json' }];
    const pressed = await post(`${url}/inject/${proof.inject}`, { __user_inject_props__: props });
    if (pressed.status === 404) return `– not shown: ${proof.title} (the example is no longer there)`;
    const proven = await Promise.race([seen, delay(PROOF_SECONDS * 1000, false, { ref: false })]);
    return proven
      ? `✔ ${proof.title}`
      : `✘ not within ${PROOF_SECONDS} s: ${proof.title} (the nodes' status tells why)`;
  } finally {
    RED.hooks.remove('onReceive.proof');
  }
}

async function post(url: string, body: unknown): Promise<Response> {
  const headers = { 'Content-Type': 'application/json' };
  return await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) });
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
});
