// `node --expose-gc --import tsx bench/memory.ts`: what the nodes hold after much work, and how soon they are back after an
// outage. The broker runs in a process of its own, so that its memory does not count.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { loadUnspied } from '../test/faults/unspied';
import { endpointNode, helper, node } from '../test/flow';
import type { NodeConfig } from '../test/node-red';
import { Broker } from '../broker/broker';
import type { EndpointNode } from '../nodes/flow/endpoint';
import { say } from './program';

const USAGE = `node --expose-gc --import tsx bench/memory.ts [options]

  --messages 1000000   messages sent and received
  --reconnects 1000    connections lost
  --requests 10000     requests in flight
  --outages 10         outages for each of 10 endpoints
`;
/** Most messages on their way. */
const UNDER_WAY = 5000;
const REQUEST_ROUNDS = 10;
const ENDPOINTS = 10;
/** Milliseconds after which a connection counts as stable, and the next pause is the shortest again. */
const STABLE = 5500;
/** The default back-off, and the same 25 times as fast. */
const BACKOFFS = {
  '500 ms to 30 s (default)': { initial: 500, max: 30_000 },
  '20 ms to 1.2 s (25 times as fast)': { initial: 20, max: 1200 },
};

type Command =
  | { do: 'drop' | 'stop' | 'port' }
  | { do: 'resume'; queues: string[] }
  /** Replies to so many requests, as soon as they are there. */
  | { do: 'answer'; count: number };
type Msg = { [property: string]: any };

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      messages: { type: 'string', default: '1000000' },
      reconnects: { type: 'string', default: '1000' },
      requests: { type: 'string', default: '10000' },
      outages: { type: 'string', default: '10' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return say(USAGE);
  if (!globalThis.gc) throw new Error('node needs --expose-gc');
  const broker = fork(__filename, ['broker'], { execArgv: ['--import', 'tsx'] });
  const port = (await ask(broker, { do: 'port' })) as number;
  say(`Node.js ${process.version}\n\n| | heap | RSS | |\n|---|--:|--:|---|`);
  await memory(broker, port, Number(values.messages), Number(values.reconnects), Number(values.requests));
  say('\n| back-off | outages | from broker back to first delivery, median | longest |\n|---|--:|--:|--:|');
  for (const [name, backoff] of Object.entries(BACKOFFS))
    await outages(broker, port, Number(values.outages), name, backoff);
  broker.disconnect();
}

async function memory(
  broker: ChildProcess,
  port: number,
  messages: number,
  reconnects: number,
  requests: number,
): Promise<void> {
  let received = 0;
  let replied = 0;
  const failures: string[] = [];
  /** Called after each arrival. */
  let seen: (() => void) | undefined;
  const flow: NodeConfig[] = [
    { id: 'flow', type: 'tab', label: 'flow' },
    endpointNode(port),
    node('amqp-sender', { address: 'load', wires: [[]] }),
    node('amqp-receiver', { address: 'load', creditwindow: 1000, wires: [['arrived']] }),
    node('amqp-requester', { address: 'requests', timeout: 600, wires: [[], ['replied']] }),
    { id: 'arrived', type: 'bench-arrived', z: 'flow', x: 0, y: 0, wires: [] },
    { id: 'replied', type: 'bench-replied', z: 'flow', x: 0, y: 0, wires: [] },
    { id: 'catch', type: 'catch', z: 'flow', x: 0, y: 0, scope: null, uncaught: false, wires: [['failed']] },
    { id: 'failed', type: 'bench-failed', z: 'flow', x: 0, y: 0, wires: [] },
  ];
  await loadUnspied(flow, {
    'bench-arrived'({ payload: { n } }) {
      // Messages come in order, and after a reconnect some of them again.
      received = Math.max(received, n);
      seen?.();
    },
    'bench-replied'() {
      replied++;
      seen?.();
    },
    'bench-failed': ({ error }) => void failures.push(error.message),
  });
  const until = (isSo: () => boolean): Promise<void> =>
    new Promise((resolve) => {
      seen = () => {
        if (!isSo()) return;
        seen = undefined;
        resolve();
      };
      seen();
    });
  let sent = 0;
  const send = (): void => {
    sent++;
    put('sender', {
      payload: { n: sent, text: 'a message of an ordinary size, that is to say a few hundred bytes '.repeat(3) },
    });
  };
  const transfer = async (count: number): Promise<void> => {
    const end = sent + count;
    await until(() => {
      // In larger steps: each is a turn of the event loop.
      if (sent - received <= UNDER_WAY / 2) for (let n = Math.min(end - sent, UNDER_WAY / 2); n > 0; n--) send();
      return received === end;
    });
  };

  await transfer(10_000);
  const start = used();
  row('at the start (after 10,000 messages)', start);
  const began = performance.now();
  await transfer(messages);
  const rate = Math.round(messages / (performance.now() - began));
  row(`after ${messages.toLocaleString('en')} messages`, used(), start, `${rate},000 messages/s`);

  // Pauses would grow from one loss to the next otherwise, to 30 s.
  const { connection } = (helper.getNode('broker') as EndpointNode).endpoint;
  Object.assign(connection.options.backoff, { initial: 1, max: 1 });
  const before = used();
  row('before reconnects', before, undefined, handles());
  for (let n = 0; n < reconnects; n++) {
    await ask(broker, { do: 'drop' });
    await transfer(1);
  }
  row(`after ${reconnects.toLocaleString('en')} reconnects`, used(), before, handles());

  let first = used();
  for (let n = 1; n <= REQUEST_ROUNDS; n++) {
    const idle = used();
    for (let i = 0; i < requests; i++) put('requester', { payload: { n: i } });
    const waiting = used();
    if (n === 1) {
      const each = Math.round((waiting.heap - idle.heap) / requests);
      row(`${requests.toLocaleString('en')} requests in flight`, waiting, idle, `${each} bytes of heap each`);
    }
    const all = replied + requests;
    void ask(broker, { do: 'answer', count: requests });
    await until(() => replied >= all);
    if (n === 1) row('after round 1 of requests', (first = used()));
  }
  row(`after round ${REQUEST_ROUNDS}`, used(), first);
  if (failures.length > 0) say(`\n${failures.length} failures: ${[...new Set(failures)].slice(0, 5).join('; ')}`);
  await helper.unload();
}

/** How long it takes from the broker's coming back to the first message, for ten endpoints at a time. */
async function outages(
  broker: ChildProcess,
  port: number,
  count: number,
  name: string,
  backoff: object,
): Promise<void> {
  const queues = Array.from({ length: ENDPOINTS }, (_, n) => `queue${n}`);
  const times: number[] = [];
  let back = 0;
  let left = 0;
  let finished: (() => void) | undefined;
  await loadUnspied(
    [
      { id: 'flow', type: 'tab', label: 'flow' },
      ...queues.flatMap((queue) => [
        { ...endpointNode(port), id: `${queue}-broker` },
        { ...node('amqp-receiver', { address: queue, wires: [['first']] }), id: queue, endpoint: `${queue}-broker` },
      ]),
      { id: 'first', type: 'bench-first', z: 'flow', x: 0, y: 0, wires: [] },
    ],
    {
      'bench-first'() {
        times.push(performance.timeOrigin + performance.now() - back);
        if (--left === 0) finished?.();
      },
    },
  );
  for (const queue of queues) {
    const { connection } = (helper.getNode(`${queue}-broker`) as EndpointNode).endpoint;
    Object.assign(connection.options.backoff, backoff);
  }
  for (let n = 0; n < count; n++) {
    await delay(STABLE);
    await ask(broker, { do: 'stop' });
    await delay(100 + Math.random() * 2900);
    left = ENDPOINTS;
    const all = new Promise<void>((resolve) => (finished = resolve));
    back = (await ask(broker, { do: 'resume', queues })) as number;
    await all;
  }
  const sorted = times.toSorted((a, b) => a - b);
  const [middle, longest] = [sorted[sorted.length >> 1] ?? NaN, sorted.at(-1) ?? NaN];
  say(`| ${name} | ${times.length} | ${middle.toFixed()} ms | ${longest.toFixed()} ms |`);
  await helper.unload();
}

/** The other process. */
async function serve(): Promise<void> {
  const broker = await Broker.start({ credit: 1000 });
  const answers: Record<Command['do'], (command: any) => unknown> = {
    port: () => broker.port,
    drop: () => broker.dropSockets(),
    stop: () => broker.stop(),
    async resume({ queues }: { queues: string[] }) {
      await broker.resume();
      const back = performance.timeOrigin + performance.now();
      for (const queue of queues) broker.put(queue, { body: 'first' });
      return back;
    },
    async answer({ count }: { count: number }) {
      while (broker.ready('requests') < count) await delay(10);
      const requests = broker.messages('requests');
      broker.purge('requests');
      for (const request of requests) {
        const { reply_to: to, correlation_id: id } = request as { reply_to: string; correlation_id: string };
        broker.put(to, { correlation_id: id, body: 'reply' });
      }
    },
  };
  process.on('message', (command: Command) => {
    void Promise.resolve(answers[command.do](command)).then((answer) => {
      broker.dispositions.length = 0;
      process.send!({ answer });
    });
  });
  process.on('disconnect', () => process.exit());
}

/** One question at a time. */
async function ask(broker: ChildProcess, command: Command): Promise<unknown> {
  broker.send(command);
  const [{ answer }] = (await once(broker, 'message')) as [{ answer: unknown }];
  return answer;
}

function put(id: string, msg: Msg): void {
  helper.getNode(id).receive(msg);
}

type Used = { heap: number; rss: number };

function used(): Used {
  for (let n = 0; n < 4; n++) globalThis.gc!();
  const { heapUsed: heap, rss } = process.memoryUsage();
  return { heap, rss };
}

function row(name: string, { heap, rss }: Used, before?: Used, remark = ''): void {
  const change = (now: number, then?: number): string =>
    then === undefined ? '' : ` (${now < then ? '' : '+'}${mega(now - then)})`;
  say(
    `| ${name} | ${mega(heap)} MB${change(heap, before?.heap)} | ${mega(rss)} MB${change(rss, before?.rss)} | ${remark} |`,
  );
}

const handles = (): string => `${process.getActiveResourcesInfo().length} handles`;
const mega = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);

void (process.argv[2] === 'broker' ? serve() : main());
