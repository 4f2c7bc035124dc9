// What is to be reached, beside what was measured.
import type { Result } from './measure';
import type { Waiting } from './waiting';
import { MQTT, NODES, RAW } from './workloads';

/** Results, to be asked for. Each answer is undefined where nothing was measured. */
export class Results {
  readonly all: Result[] = [];
  waiting: Waiting[] = [];

  of(workload: string, size: number, contestant: string): Result | undefined {
    return this.all.find((one) => one.workload === workload && one.size === size && one.contestant === contestant);
  }

  /** The median of a number of one contestant in each pair, divided by that of another. */
  ratio(workload: string, size: number, one: string, other: string, of: 'rate' | 'p50' | 'p99' = 'rate') {
    const [first, second] = [this.of(workload, size, one), this.of(workload, size, other)];
    return first && second && median(ratios(first, second, of));
  }
}

export function ratios(one: Result, other: Result, of: 'rate' | 'p50' | 'p99' = 'rate'): number[] {
  return one.runs.map((run, pair) => run[of]! / other.runs[pair]![of]!);
}

export function median(numbers: number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The median of a number in each; undefined when there is none. */
export function medianOf<T>(all: T[], number: (one: T) => number): number | undefined {
  return all.length > 0 ? median(all.map(number)) : undefined;
}

interface Goal {
  text: string;
  least?: number;
  most?: number;
  value: (results: Results) => number | undefined;
}

const toRaw = (workload: string, size: number) => (results: Results) => results.ratio(workload, size, NODES, RAW);
const REQUEST = 'request, 1 in flight';

export const GOALS: Goal[] = [
  { text: 'sink 100 B, to raw', least: 1.5, value: toRaw('sink', 100) },
  { text: 'sink 100 B, each settled alone, to raw', least: 1.5, value: toRaw('sink, each settled alone', 100) },
  { text: 'source 100 B, to raw', least: 1.1, value: toRaw('source', 100) },
  { text: 'round trip 100 B, to raw', least: 1.8, value: toRaw('round trip', 100) },
  {
    text: 'round trip 100 B, to core MQTT',
    least: 3,
    value: (results) => results.ratio('round trip', 100, NODES, MQTT),
  },
  { text: 'sink 10 kB, to raw', least: 1.3, value: toRaw('sink', 10_000) },
  { text: 'source 10 kB, to raw', least: 1, value: toRaw('source', 10_000) },
  { text: 'source 100 kB, to raw', least: 1, value: toRaw('source', 100_000) },
  { text: 'request, 100 in flight, to raw', least: 1.4, value: toRaw('request, 100 in flight', 100) },
  {
    text: 'request, 1 in flight, p50 to raw',
    most: 1.1,
    value: (results) => results.ratio(REQUEST, 100, NODES, RAW, 'p50'),
  },
  {
    text: 'request, 1 in flight, p99 to raw',
    most: 1.5,
    value: (results) => results.ratio(REQUEST, 100, NODES, RAW, 'p99'),
  },
  {
    text: 'sink with 500 idle receivers, to none',
    least: 0.9,
    value: (results) => results.ratio('idle', 100, '500 idle', 'none'),
  },
  { text: 'window 2000, to 500', least: 0.95, value: (results) => results.ratio('window', 100, '2000', '500') },
  {
    text: 'settle by the flow, to on arrival',
    least: 0.5,
    value: (results) => results.ratio('settle', 100, 'by the flow', 'on arrival'),
  },
  { text: 'disk buffer write, to none', least: 0.5, value: (results) => results.ratio('disk', 100, 'write', 'none') },
  {
    text: 'peak memory of sink 100 B above raw, MB',
    most: 10,
    value: (results) => {
      const [one, other] = [results.of('sink', 100, NODES), results.of('sink', 100, RAW)];
      return one && other && (one.peak - other.peak) / 2 ** 20;
    },
  },
  { text: 'heap of a waiting message, B', most: 600, value: ({ waiting }) => medianOf(waiting, ({ heap }) => heap) },
  {
    text: 'flushing what waits, to the rate of the sink',
    least: 0.6,
    value: ({ waiting }) => medianOf(waiting, ({ flushed, sent }) => flushed / sent),
  },
];
