// `npm run soak -- --minutes N --seed S`: faults drawn at random, against load on all four nodes. All decisions come from the
// seed: the same seed gives the same rounds, whatever the machine.
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { draw, type Fault } from '../test/faults/soak/faults';
import { Random } from '../test/faults/soak/random';
import { type Book, count, REPLY_TIMEOUT, Round, Site } from '../test/faults/soak/site';
import { helper } from '../test/flow';

const USAGE = `npm run soak -- [options]

  --minutes 2    how long to run
  --seed 1       where all decisions come from (default: another one each time)
  --first 1      the round to begin with, to come to a failure sooner
  --rounds       so many rounds at most
  --verbose      tell each fault as it comes
`;

/** Milliseconds between two helpings of load, and the most that is on its way. */
const TICK = 20;
const MOST_UNDER_WAY = 4000;
/** Milliseconds of load without faults after the last one of a round: a link attached for 5 s counts as stable again. */
const CALM = 5500;
/** Milliseconds in which everything must have settled after that. */
const QUIET = 30_000;
/** Milliseconds beyond its time-out at which a request must have ended: the process may be busy. */
const SLACK = 3000;
/** Milliseconds for faults to be over; a redeploy may flush, and close links of a peer that is away. */
const FAULTS = 40_000;
/** Bytes by which the heap, after garbage collection in quiet phases, may be larger in the last quarter than in the first. */
const GROWTH = 8 * 2 ** 20;
const CHECK = 50;
const REPORT = 10_000;
/** Of one connection through the proxy: the endpoint's, the proxy's two, the broker's. */
const SOCKETS = 4;

const { values: options } = parseArgs({
  options: {
    minutes: { type: 'string', default: '2' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    first: { type: 'string', default: '1' },
    rounds: { type: 'string', default: 'Infinity' },
    verbose: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

setFlagsFromString('--expose-gc');
const gc: () => void = runInNewContext('gc');

const seed = Number(options.seed);
const began = performance.now();
const clock = (): string => `${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s`;
const say = (line: string): void => void process.stdout.write(`${line}\n`);
/** What was done, and when. */
const log: string[] = [];
const note = (line: string): void => {
  log.push(`${clock()}  ${line}`);
  if (log.length > 100) log.shift();
  if (options.verbose) say(log.at(-1)!);
};

type Sums = Record<Book, { sent: number; done: number; failed: number; delivered: number; duplicated: number }>;
/** By the faults of a round: how often, and what became of everything in these rounds. */
const summary = new Map<string, { rounds: number; sums: Sums }>();
const heaps: number[] = [];
let site: Site;
let now: string = 'starting';

async function main(): Promise<void> {
  if (options.help) return say(USAGE);
  say(`seed ${seed}, ${options.minutes} minutes, Node.js ${process.version}`);
  const before = resources();
  site = await Site.start(seed);
  const { broker, sender, receiver, requester, responder } = site.variant;
  say(JSON.stringify({ broker, sender, receiver, requester, responder }));
  const checking = setInterval(check, CHECK);
  const reporting = setInterval(report, REPORT);

  const end = began + 60_000 * Number(options.minutes);
  const first = Number(options.first);
  for (let n = first; performance.now() < end && n < first + Number(options.rounds); n++) await round(n);

  clearInterval(checking);
  clearInterval(reporting);
  say(`\n${table()}\n`);
  say(`Caught: ${listed(site.codes)}`);
  say(`Connections lost: ${listed(site.losses)}`);
  checkMemory();
  await within(QUIET, 'closing everything', site.stop());
  await helper.stopServer();
  // Sockets that are closed are gone in a later turn.
  await eventually(
    QUIET,
    'handles are left',
    () => !exceeds(resources(), before),
    () => `${text(resources())}, at the start ${text(before)}`,
  );
  say(`Handles at the start ${text(before)}, at the end ${text(resources())}`);
  say(`${clock()}  nothing was lost`);
}

async function round(number: number): Promise<void> {
  const faults = draw(new Random(seed, number, 'faults'));
  const load = new Random(seed, number, 'load');
  const name = faults.map((fault) => fault.name).join(' + ');
  site.round = new Round(number);
  now = `round ${number}: ${name}`;
  note(now);
  let isCalm = false;
  const feeding = setInterval(() => {
    const [messages, requests] = [load.integer(0, isCalm ? 4 : 12), load.integer(0, isCalm ? 1 : 3)];
    const { sent, ended } = books('load');
    site.feed(load, sent - ended > MOST_UNDER_WAY ? 0 : messages, requests);
  }, TICK);

  await within(FAULTS, 'the faults', Promise.all(faults.map((fault) => run(fault))));
  isCalm = true;
  now = `round ${number}: after ${name}`;
  await delay(CALM);
  clearInterval(feeding);

  now = `round ${number}: quiet`;
  const redeployed = faults.some((fault) => fault.name === 'deployed' && !fault.text.startsWith('nodes'));
  if (redeployed) note(`${site.endUnrouted()} ends that Node-RED did not route`);
  await settle();
  gc();
  heaps.push(process.memoryUsage().heapUsed);
  add(faults.length === 1 ? name : 'several at a time', site.round);
}

async function run(fault: Fault): Promise<void> {
  await delay(fault.start);
  note(`${fault.name}: ${fault.text}`);
  await fault.run(site);
  note(`${fault.name}: over`);
}

/** Everything has ended, everything done has arrived, nothing is left at the broker, and all links are there once. */
async function settle(): Promise<void> {
  const { broker, variant } = site;
  const { load, requests, replies } = site.round.books;
  for (const [book, ledger] of Object.entries({ load, requests, replies })) {
    await within(QUIET, `"${book}" to settle`, ledger.settle());
  }
  const left = (): string => {
    const links = broker.links().map((link) => link.name);
    const names = links.filter((link) => !link.startsWith('responder:reply:')).toSorted();
    const problems = [
      ...['load', 'requests', 'replies']
        .filter((queue) => broker.depth(queue) > 0)
        .map((queue) => `messages left in "${queue}"`),
      ...(broker.connections() === variant.connections ? [] : [`${broker.connections()} connections`]),
      ...(names.join() === variant.links.join() ? [] : [`links ${links.join(', ')}`]),
      ...(site.round.pending.size === 0 ? [] : [`${site.round.pending.size} requests pending`]),
    ];
    return problems.join('; ');
  };
  await eventually(QUIET, 'the broker is not at rest', () => left() === '', left);
  site.dropSilent();
  await eventually(
    QUIET,
    'sockets are left',
    () => Number(resources().get('TCPSocketWrap')) <= SOCKETS * variant.connections,
    () => text(resources()),
  );
  for (const book of ['load', 'requests', 'replies'] as const) {
    const { delivered, failed } = site.round.books[book];
    site.round.books[book].check(`${now} (${book})`);
    if (book !== 'load') continue;
    for (const [n, code] of failed) {
      // Of a message without an outcome when the node is closed only the text tells that it was sent.
      if (delivered.has(n) && code !== 'AMQP_IN_DOUBT' && code !== 'AMQP_SHUTDOWN')
        site.problems.push(`message ${n} was delivered, and failed with ${code}`);
    }
  }
  check();
  broker.purge('DLQ');
  broker.dispositions.length = 0;
}

function check(): void {
  if (!site) return;
  site.watch();
  site.checkWindows();
  const oldest = performance.now() - 1000 * REPLY_TIMEOUT - SLACK;
  for (const [n, since] of site.round.pending) {
    if (since < oldest) site.problems.push(`request ${n} is pending after its time-out`);
    break;
  }
  for (const { violations } of Object.values(site.round.books)) site.problems.push(...violations);
  if (site.problems.length > 0) fail(new Error(site.problems.slice(0, 20).join('\n')));
}

function books(book: Book): { sent: number; ended: number } {
  const { sent, done, failed } = site.round.books[book];
  return { sent, ended: done.size + failed.size };
}

function add(name: string, { books: ledgers }: Round): void {
  const row = summary.get(name) ?? { rounds: 0, sums: {} as Sums };
  row.rounds++;
  for (const book of ['load', 'requests', 'replies'] as const) {
    const sums = (row.sums[book] ??= { sent: 0, done: 0, failed: 0, delivered: 0, duplicated: 0 });
    for (const [key, n] of Object.entries(ledgers[book].counts)) sums[key as keyof typeof sums] += n;
  }
  summary.set(name, row);
}

function table(): string {
  const total: Sums = {} as Sums;
  const lines = [...summary]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, { rounds, sums }]) => {
      for (const book of ['load', 'requests'] as const) {
        const all = (total[book] ??= { sent: 0, done: 0, failed: 0, delivered: 0, duplicated: 0 });
        for (const [key, n] of Object.entries(sums[book])) all[key as keyof typeof all] += n;
      }
      return cells(name, rounds, sums);
    });
  const rounds = [...summary.values()].reduce((sum, row) => sum + row.rounds, 0);
  return [
    '| fault | rounds | messages sent | done | failed | delivered | duplicated | requests | answered | failed |',
    '|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|',
    ...lines,
    ...(rounds > 0 ? [cells('all', rounds, total)] : []),
  ].join('\n');
}

function cells(name: string, rounds: number, { load, requests }: Sums): string {
  const { sent, done, failed, delivered, duplicated } = load;
  const { sent: asked, done: answered, failed: unanswered } = requests;
  return `| ${[name, rounds, sent, done, failed, delivered, duplicated, asked, answered, unanswered].join(' | ')} |`;
}

function report(): void {
  gc();
  const { heapUsed, rss } = process.memoryUsage();
  const counts = (['load', 'requests', 'replies'] as const).map((book) => {
    const { sent, done, failed } = site.round.books[book];
    return `${book} ${sent}=${done.size}+${failed.size}+${sent - done.size - failed.size}`;
  });
  say(`${clock()}  ${now}  ${counts.join(' ')}  heap ${mega(heapUsed)} rss ${mega(rss)}  ${text(resources())}`);
}

function checkMemory(): void {
  const quarter = Math.max(1, Math.floor(heaps.length / 4));
  const [early, late] = [median(heaps.slice(0, quarter)), median(heaps.slice(-quarter))];
  say(`Heap in quiet phases ${mega(early)} in the first quarter, ${mega(late)} in the last`);
  if (late - early > GROWTH) throw new Error('the heap has grown');
}

function resources(): Map<string, number> {
  const counts = new Map<string, number>();
  for (const resource of process.getActiveResourcesInfo()) count(counts, resource);
  return counts;
}

function exceeds(counts: Map<string, number>, before: Map<string, number>): boolean {
  return [...counts].some(([resource, n]) => n > (before.get(resource) ?? 0));
}

function listed(counts: Map<string, number>): string {
  const list = [...counts].toSorted(([, a], [, b]) => b - a).map(([key, n]) => `${n} ${key}`);
  return list.join('; ') || 'none';
}

const text = (counts: Map<string, number>): string => [...counts].map(([key, n]) => `${key} ${n}`).join(' ');
const mega = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MB`;
const median = (numbers: number[]): number => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]!;

async function within<T>(milliseconds: number, what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${milliseconds / 1000} s for ${what}`)), milliseconds);
  });
  return Promise.race([promise, timeout]).finally(() => clearTimeout(timer));
}

async function eventually(
  milliseconds: number,
  what: string,
  isSo: () => boolean,
  detail: () => string,
): Promise<void> {
  const end = performance.now() + milliseconds;
  while (!isSo()) {
    if (performance.now() > end) throw new Error(`${what}: ${detail()}`);
    await delay(CHECK);
  }
}

let hasFailed = false;
function fail(error: unknown): void {
  if (hasFailed) return;
  hasFailed = true;
  say(`\n${clock()}  FAILED in ${now}\n${(error as Error)?.stack ?? String(error)}`);
  if (site) {
    report();
    for (const [book, ledger] of Object.entries(site.round.books)) {
      const open = Array.from({ length: ledger.sent }, (_, n) => n).filter(
        (n) => !ledger.done.has(n) && !ledger.failed.has(n),
      );
      const missing = [...ledger.done].filter((n) => !ledger.delivered.has(n));
      const unrouted = [...site.round.unrouted[book as Book].keys()];
      say(
        `${book}: without an end ${short(open)}; done and not delivered ${short(missing)}; not routed ${short(unrouted)}`,
      );
    }
    const { broker } = site;
    for (const queue of ['load', 'requests'])
      say(`broker: "${queue}" has ${broker.ready(queue)} ready, ${broker.unsettled(queue)} unsettled`);
    say(
      `broker: ${broker.connections()} connections, links ${broker
        .links()
        .map((link) => `${link.name} (${link.role}, "${link.address}")`)
        .join(', ')}`,
    );
    say(`Caught: ${listed(site.codes)}\nConnections lost: ${listed(site.losses)}`);
  }
  say(`\nThe last faults:\n${log.slice(-40).join('\n')}`);
  say(`\nAgain: npm run soak -- --seed ${seed} --first ${site?.round.number ?? 1} --rounds 1`);
  process.exit(1);
}

const short = (numbers: number[]): string => `${numbers.length} (${numbers.slice(0, 10).join(', ')})`;

process.on('uncaughtException', fail);
process.on('unhandledRejection', fail);
main().catch(fail);
