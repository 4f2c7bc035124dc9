// `node --import tsx bench/scale.ts`, after a build: what a further process brings, and a further broker, on a queue of ActiveMQ Artemis.
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { ArtemisCluster, type Member } from '../test/brokers/artemis-cluster';
import { savedEndpoint, savedNode } from '../test/brokers/saved';
import type { NodeConfig } from '../test/node-red';
import { Child } from './child';
import { counter, FAILURES, generator, nodeRed } from './contestants';
import { median } from './goals';
import type { Ran, Run } from './load';
import { bounded } from './measure';
import { program, say } from './program';

const USAGE = `node --import tsx bench/scale.ts [options]

  --rounds 3        measurements of each
  --processes 4     Node-REDs at most
  --seconds 2       about how long each measurement takes
`;

interface Work {
  name: string;
  queue: string;
  /** _Messages in progress_ of each process. */
  credit: number;
  /** Milliseconds of each message. */
  wait: number;
  /** How far it counts for each message. */
  compute: number;
}

const WORKS: Work[] = [
  { name: 'waits 20 ms, 10 in progress', queue: 'wait', credit: 10, wait: 20, compute: 0 },
  { name: 'waits 20 ms, 40 in progress', queue: 'wait-more', credit: 40, wait: 20, compute: 0 },
  { name: 'counts to a million, 10 in progress', queue: 'compute', credit: 10, wait: 0, compute: 1_000_000 },
  { name: 'does nothing, 100 in progress', queue: 'nothing', credit: 100, wait: 0, compute: 0 },
];
/** Counts, which takes the CPU, and not a time that passes for several processes at once. */
const computing = (count: number): string =>
  `let x = 1; for (let n = 0; n < ${count}; n++) x = (x * 31 + n) | 0; msg.x = x;`;
const SPOT = { z: 'flow', x: 0, y: 0 };
const done = ({ queue }: Work): string => `${queue}-done`;

/** Takes a message, works, and sends on what came of it: only then the message is confirmed. */
const worker = (port: number): NodeConfig[] => [
  savedEndpoint(port),
  ...WORKS.flatMap((work): NodeConfig[] => {
    const [take, give, id] = ['take', 'give', 'work'].map((name) => `${name}-${work.queue}`) as [
      string,
      string,
      string,
    ];
    const func = work.wait
      ? `setTimeout(() => { node.send(msg); node.done(); }, ${work.wait});`
      : `${computing(work.compute)} return msg;`;
    const queue = { kind: 'queue', settle: 'flow', creditwindow: work.credit };
    return [
      savedNode('amqp-receiver', { id: take, address: work.queue, ...queue, wires: [[id]] }),
      { id, type: 'function', ...SPOT, outputs: 1, func, wires: [[give]] },
      savedNode('amqp-sender', { id: give, address: done(work), kind: 'queue', wires: [[]] }),
      { id: `done-${id}`, type: 'complete', ...SPOT, scope: [give], uncaught: false, wires: [[take]] },
    ];
  }),
];
/** Sends messages, and waits until all of them have been worked on. */
const measuring = (port: number, work: Work): NodeConfig[] => [
  savedEndpoint(port),
  generator('sender'),
  savedNode('amqp-sender', { address: work.queue, kind: 'queue', wires: [[]] }),
  savedNode('amqp-receiver', { address: done(work), kind: 'queue', creditwindow: 500, wires: [['arrived']] }),
  counter('arrived'),
  ...FAILURES,
];

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    processes: { type: 'string', default: '4' },
    seconds: { type: 'string', default: '2' },
    help: { type: 'boolean', default: false },
  },
});
const [rounds, processes, seconds] = [values.rounds, values.processes, values.seconds].map(Number) as [
  number,
  number,
  number,
];

/** Messages a second of each work, by the number of processes. */
async function round(brokers: number): Promise<number[][]> {
  const queues = WORKS.flatMap((work) => [work.queue, done(work)]);
  const cluster = await ArtemisCluster.of(brokers, { queues, topics: [] });
  const children: Child[] = [];
  const start = async (member: Member, flow: (port: number) => NodeConfig[]): Promise<Child> => {
    const child = await nodeRed(flow(member.port));
    children.push(child);
    return child;
  };
  try {
    const meters = await Promise.all(WORKS.map((work) => start(cluster.members[0]!, (port) => measuring(port, work))));
    const rates: number[][] = WORKS.map(() => []);
    for (let n = 0; n < processes; n++) {
      await start(cluster.members[n % brokers]!, worker);
      for (const [index, meter] of meters.entries()) {
        // The first one is to be warm, and tells how many are enough.
        const guess = await measure(meter, { count: 200 * (n + 1), window: 100 * (n + 1) });
        const count = Math.ceil(guess * seconds);
        rates[index]!.push(await measure(meter, { count, window: 100 * (n + 1) }));
      }
    }
    return rates;
  } finally {
    await Promise.all(children.map((child) => child.stop()));
    await cluster.stop();
  }
}

async function measure(meter: Child, run: Omit<Run, 'size'>): Promise<number> {
  const ran = (await bounded('a measurement', false, meter.ask('run', { size: 100, ...run }))) as Ran;
  return run.count / ran.seconds;
}

async function main(): Promise<void> {
  if (values.help) return say(USAGE);
  const counts = Array.from({ length: processes }, (_, n) => n + 1);
  say(
    `Node.js ${process.version}, ${availableParallelism()} cores, ${rounds} rounds: messages/s (times those of one process)\n`,
  );
  say(`| each message | brokers | ${counts.map((n) => (n === 1 ? '1 process' : n)).join(' | ')} |`);
  say(`|---|--:|${counts.map(() => '--:|').join('')}`);
  const all: Record<number, number[][][]> = { 1: [], 2: [] };
  for (let n = 0; n < rounds; n++) for (const brokers of [1, 2]) all[brokers]!.push(await round(brokers));
  for (const [index, { name }] of WORKS.entries())
    for (const brokers of [1, 2]) {
      const cells = counts.map((_, n) => {
        const rate = median(all[brokers]!.map((rates) => rates[index]![n]!));
        // Of the same round, on one broker.
        const times = median(all[brokers]!.map((rates, one) => rates[index]![n]! / all[1]![one]![index]![0]!));
        return `${Math.round(rate).toLocaleString('en')} (${times.toFixed(1)})`;
      });
      say(`| ${name} | ${brokers} | ${cells.join(' | ')} |`);
    }
}

program(main);
