// `npm run bench`: how fast the nodes are beside what they are built on. Contestants take turns, pair by pair, since rates
// move by a third from hour to hour: only ratios within one run say something.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { savedNode } from '../test/brokers/saved';
import type { Result, Task } from './course';
import { type Setup, startNodeRed } from './node-red';

const USAGE = `npm run bench -- [options]

  --pairs 5       runs of each contestant, taking turns
  --only text     workloads whose name has this in it
  --scale 1       more or fewer messages in each run
  --quick         one pair of short runs: only to see that all of it runs
  --json file     writes all results
`;

/** What one side of a comparison runs. Without a setup: rhea alone. */
interface Side {
  task: Omit<Task, 'port'>;
  setup?: Setup;
}

interface Comparison {
  name: string;
  ours: Side;
  base: Side;
  /** The peer settles each message by itself. */
  each?: boolean;
  /** What the median of the ratios is to reach, as the project wants it. */
  goal?: number;
}

const task = (workload: Task['workload'], size: number, count: number, inFlight = 1000): Omit<Task, 'port'> => ({
  workload,
  size,
  count,
  inFlight,
});

/** The nodes, against rhea alone. */
function toRaw(name: string, work: Omit<Task, 'port'>, goal?: number, options: Partial<Comparison> = {}): Comparison {
  return { name, ours: { task: work, setup: {} }, base: { task: work }, goal, ...options };
}

/** The nodes set up in one way, against the same set up in another. */
function toItself(name: string, work: Omit<Task, 'port'>, setup: Setup, goal?: number, base: Setup = {}): Comparison {
  return { name, ours: { task: work, setup }, base: { task: work, setup: base }, goal };
}

const idle = (count: number): Setup => ({
  nodes: Array.from({ length: count }, (_, index) =>
    savedNode('amqp-receiver', { id: `idle-${index}`, address: `idle-${index}`, wires: [[]] }),
  ),
});

const SINK = task('sink', 100, 150_000);
const SOURCE = task('source', 100, 300_000);
const COMPARISONS: Comparison[] = [
  toRaw('sink 100 B', SINK, 1.5),
  toRaw('sink 100 B, settled one by one', SINK, 1.5, { each: true }),
  toRaw('sink 1 kB', task('sink', 1000, 100_000)),
  toRaw('sink 10 kB', task('sink', 10_000, 50_000), 1.3),
  toRaw('source 100 B', SOURCE, 1.1),
  toRaw('source 1 kB', task('source', 1000, 200_000)),
  toRaw('source 10 kB', task('source', 10_000, 100_000), 1),
  toRaw('source 100 kB', task('source', 100_000, 10_000), 1),
  toRaw('round trip 100 B', task('round trip', 100, 100_000), 1.8),
  toRaw('round trip 10 kB', task('round trip', 10_000, 30_000)),
  toRaw('requests 100 B, 100 in flight', task('requests', 100, 60_000, 100), 1.4),
  toRaw('requests 100 B, one in flight', task('requests', 100, 5000, 1)),
  {
    name: 'settled by the flow, to on arrival',
    ours: { task: task('settle', 100, 100_000), setup: {} },
    base: { task: SOURCE, setup: {} },
    goal: 0.5,
  },
  toItself('100 idle receivers, to none', SINK, idle(100)),
  toItself('500 idle receivers, to none', SINK, idle(500), 0.9),
  toItself('2000 in progress, to 500', SOURCE, { receiver: { creditwindow: 2000 } }, 0.95),
  toItself('kept on disk (write), to not', task('sink', 100, 50_000), { sender: { store: 'write' } }, 0.5),
  toItself('kept on disk (sync), to not', task('sink', 100, 1000), { sender: { store: 'sync' } }),
];

const root = join(__dirname);

async function fromChild<V>(child: ChildProcess): Promise<V> {
  const failed = once(child, 'exit').then(([code]) => {
    throw new Error(`a contestant ended with ${code}`);
  });
  const [value] = (await Promise.race([once(child, 'message'), failed])) as [V];
  failed.catch(() => {});
  return value;
}

async function run({ task: given, setup }: Side, each: boolean, scale: number): Promise<Result> {
  const work = { ...given, count: Math.max(100, Math.round(given.count * scale)) };
  const execArgv = ['--require', 'tsx/cjs'];
  const peer = fork(join(root, 'peer.ts'), [JSON.stringify({ size: work.size, each })], { execArgv });
  const port = await fromChild<number>(peer);
  const whole = { ...work, port };
  const contestant = setup
    ? startNodeRed(whole, setup)
    : { child: fork(join(root, 'raw.ts'), [JSON.stringify(whole)], { execArgv }), remove: () => {} };
  const { child } = contestant;
  try {
    return await fromChild<Result>(child);
  } finally {
    child.kill('SIGKILL');
    peer.kill();
    for (const one of [child, peer]) if (one.exitCode === null && one.signalCode === null) await once(one, 'exit');
    contestant.remove();
  }
}

const median = (values: number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!;
const rounded = (value: number | undefined, digits: number): string =>
  value === undefined ? '' : value.toFixed(digits);

/** A row of the table: the ratios, and the medians of the nodes / of what they are compared with. */
function row({ name, goal }: Comparison, pairs: [ours: Result, base: Result][]): string {
  const ratios = pairs.map(([ours, base]) => ours.rate / base.rate);
  const of = (key: keyof Result, digits: number): string =>
    [0, 1].map((side) => rounded(median(pairs.map((pair) => pair[side]![key] ?? NaN)), digits)).join(' / ');
  const reached = goal === undefined ? '' : `${goal} ${median(ratios) >= goal ? '✓' : '✗'}`;
  const spread = [Math.min(...ratios), median(ratios), Math.max(...ratios)].map((ratio) => ratio.toFixed(2)).join(' ');
  const times = pairs[0]![0].p50 === undefined ? '' : `${of('p50', 2)}; ${of('p99', 2)}`;
  return `| ${[name, spread, reached, of('rate', 0), of('cpu', 2), of('memory', 0), times].join(' | ')} |`;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      pairs: { type: 'string', default: '5' },
      only: { type: 'string', default: '' },
      scale: { type: 'string', default: '1' },
      quick: { type: 'boolean', default: false },
      json: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return void process.stdout.write(USAGE);
  const pairs = values.quick ? 1 : Number(values.pairs);
  const scale = values.quick ? 0.02 : Number(values.scale);
  const all: Record<string, [Result, Result][]> = {};
  console.log('| workload | ratio min med max | goal | messages/s | CPU s per 100,000 | peak MB | p50; p99 ms |');
  console.log('| --- | --- | --- | --- | --- | --- | --- |');
  for (const comparison of COMPARISONS.filter(({ name }) => name.includes(values.only))) {
    const { name, ours, base, each = false } = comparison;
    const results: [Result, Result][] = [];
    for (let pair = 0; pair < pairs; pair++) {
      // Whoever comes first may find the machine in another state.
      const isFirst = pair % 2 === 0;
      const first = await run(isFirst ? ours : base, each, scale);
      const second = await run(isFirst ? base : ours, each, scale);
      results.push(isFirst ? [first, second] : [second, first]);
    }
    all[name] = results;
    console.log(row(comparison, results));
  }
  if (values.json) writeFileSync(values.json, JSON.stringify(all, null, 2));
}

void main();
