// Results as tables of Markdown.
import { GOALS, median, ratios, type Results } from './goals';
import type { Result } from './measure';

export const HEAD = [
  '| workload | size | contestant | ratio min / median / max | messages/s | CPU s per 100,000 | of the peer | peak MB | p50 / p99 ms |',
  '|---|--:|---|--:|--:|--:|--:|--:|--:|',
].join('\n');

/** A line of the first table. */
export function line(result: Result, results: Results): string {
  const { workload, size, contestant, runs, peak } = result;
  const base = results.of(workload, size, result.base);
  const compared = base && base !== result ? ratios(result, base).toSorted((a, b) => a - b) : [];
  const ratio =
    compared.length > 0
      ? `${two(compared[0]!)} / **${two(median(compared))}** / ${two(compared.at(-1)!)}`
      : base
        ? '1'
        : '';
  const of = (name: 'rate' | 'cpu' | 'peerCpu' | 'p50' | 'p99'): number => median(runs.map((run) => run[name] ?? NaN));
  const times = [of('p50'), of('p99')].map(orNothing).filter(Boolean).join(' / ');
  const rate = Math.round(of('rate')).toLocaleString('en');
  return row(
    workload,
    sizeOf(size),
    contestant,
    ratio,
    rate,
    two(of('cpu')),
    orNothing(of('peerCpu')),
    mega(peak),
    times,
  );
}

export function idleTable(results: Results): string {
  const lines = results.all.flatMap(({ contestant, idle }) =>
    idle ? [row(contestant, two(idle.start), mega(idle.memory), `${two(idle.cpu)} %`)] : [],
  );
  return ['| idle receivers | start s | memory MB | CPU with nothing to do |', '|---|--:|--:|--:|', ...lines].join(
    '\n',
  );
}

export function waitingTable({ waiting }: Results): string {
  const numbers = (['heap', 'outside', 'flushed', 'sent'] as const).map((name) =>
    Math.round(median(waiting.map((one) => one[name]))).toLocaleString('en'),
  );
  return [
    '| a message that waits: heap B | beside the heap B | flushed messages/s | sink messages/s |',
    '|--:|--:|--:|--:|',
    row(...numbers),
  ].join('\n');
}

export function goalTable(results: Results): string {
  const lines = GOALS.flatMap(({ text, least, most, value }) => {
    const measured = value(results);
    if (measured === undefined) return [];
    const bound = least === undefined ? `≤ ${most}` : `≥ ${least}`;
    const isReached = least === undefined ? measured <= most! : measured >= least;
    return [row(text, bound, two(measured), isReached ? 'reached' : '**not reached**')];
  });
  return ['| goal | | measured | |', '|---|--:|--:|---|', ...lines].join('\n');
}

const row = (...cells: string[]): string => `| ${cells.join(' | ')} |`;
const two = (number: number): string => (number >= 100 ? number.toFixed() : number.toFixed(2));
const orNothing = (number: number): string => (Number.isNaN(number) ? '' : two(number));
const mega = (bytes: number): string => (bytes / 2 ** 20).toFixed();
const sizeOf = (size: number): string => (size < 1000 ? `${size} B` : `${size / 1000} kB`);
