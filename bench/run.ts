// `npm run bench`: how fast the nodes are, beside raw rhea and others, all measured in turns within one run.
import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { Results } from './goals';
import { measure } from './measure';
import { program, say } from './program';
import { goalTable, HEAD, idleTable, line, waitingTable } from './report';
import { wait } from './waiting';
import { BROKER_NAMES, type Workload, workloads } from './workloads';

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    sizes: { type: 'string' },
    pairs: { type: 'string' },
    broker: { type: 'string', default: 'rabbitmq' },
    json: { type: 'string' },
    quick: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
const WAITING = 'waiting';
const isQuick = values.quick;
const pairs = Number(values.pairs ?? (isQuick ? 1 : 5));
if (!BROKER_NAMES.includes(values.broker)) throw new Error(`--broker is ${BROKER_NAMES.join(' or ')}`);
const all = workloads(values.broker);

const USAGE = `npm run bench -- [options]

  --only sink,source    these workloads (a name, or how it begins): ${[...all.map(({ name }) => name), WAITING].join(' · ')}
  --sizes 100,10000     of messages, in bytes
  --pairs 5             measurements of each contestant
  --broker rabbitmq     for the round trip through a real broker: ${BROKER_NAMES.join(' or ')}
  --json file           writes all numbers there
  --quick               few messages, no real broker: shows only that everything runs
`;

function isChosen(name: string): boolean {
  return !values.only || values.only.split(',').some((begin) => name.startsWith(begin));
}

function sizesOf({ sizes }: Workload): number[] {
  const chosen = values.sizes?.split(',').map(Number);
  return sizes.filter((size) => (chosen ? chosen.includes(size) : !isQuick || size === 100 || size === sizes.at(-1)));
}

function failed(name: string, error: Error): void {
  process.stderr.write(`\n*** ${name} CANNOT RUN: ${error.message} ***\n\n`);
  process.exitCode = 1;
}

/** In CI every contestant is a must. */
function skipped(name: string, reason: Error): void {
  if (process.env['CI']) return failed(name, reason);
  process.stderr.write(`\n*** ${name} was skipped: ${reason.message} ***\n\n`);
}

async function main(): Promise<void> {
  if (values.help) return say(USAGE);
  const results = new Results();
  say(`Node.js ${process.version}, ${availableParallelism()} cores, ${pairs} pairs\n\n${HEAD}`);
  for (const workload of all.filter(({ name, isSlow }) => isChosen(name) && !(isSlow && isQuick))) {
    for (const size of sizesOf(workload)) {
      const measured = await measure(workload, size, { pairs, isQuick, skipped, failed });
      results.all.push(...measured);
      for (const result of measured) say(line(result, results));
    }
  }
  if (isChosen(WAITING)) {
    results.waiting = await wait({ pairs, isQuick }).catch((error: Error) => (failed(WAITING, error), []));
  }
  if (results.all.some(({ idle }) => idle)) say(`\n${idleTable(results)}`);
  if (results.waiting.length > 0) say(`\n${waitingTable(results)}`);
  say(`\n${goalTable(results)}`);
  if (values.json)
    writeFileSync(values.json, JSON.stringify({ waiting: results.waiting, results: results.all }, null, 2));
}

program(main);
