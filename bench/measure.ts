// Runs workloads: all contestants are there at the same time, and work in turns.
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Child, type Usage } from './child';
import type { Ran } from './load';
import type { PeerOptions } from './peer';
import type { Contestant, Workload } from './workloads';

export interface Measured extends Ran {
  /** Messages a second. */
  rate: number;
  /** Seconds for 100,000 messages, of the contestant and of the bench's peer. */
  cpu: number;
  peerCpu?: number;
}

/** What a contestant costs with nothing to do. */
export interface Idle {
  /** Seconds until its links were attached. */
  start: number;
  /** Per cent of one core. */
  cpu: number;
  memory: number;
}

export interface Result {
  workload: string;
  size: number;
  contestant: string;
  /** Whom it is compared with. */
  base: string;
  runs: Measured[];
  peak: number;
  idle?: Idle;
}

/** The longest that anything may take, in milliseconds; only what hangs takes that. */
const LONGEST = 180_000;
/** Messages that CPU is told for. */
const ALL = 100_000;

export async function bounded<T>(what: string, isQuick: boolean, promise: Promise<T>): Promise<T> {
  const aborted = new AbortController();
  const timeout = delay(isQuick ? LONGEST / 3 : LONGEST, undefined, { signal: aborted.signal }).then(() => {
    throw new Error(`${what} did not end`);
  });
  timeout.catch(() => {}); // aborted
  return await Promise.race([promise, timeout]).finally(() => aborted.abort());
}

export function startPeer(options: PeerOptions = {}): Promise<Child> {
  return Child.start(['--require', 'tsx/cjs', join(__dirname, 'peer.ts'), JSON.stringify(options)]);
}

/** A contestant's processes, and what they work with. */
class Team {
  readonly runs: Measured[] = [];
  idle: Idle | undefined;
  readonly #closing: (() => Promise<unknown>)[] = [];
  #children: Child[] = [];
  #peer: Child | undefined;

  constructor(
    readonly contestant: Contestant,
    private readonly workload: Workload,
  ) {}

  async start(idleTime: number): Promise<void> {
    const { broker, start, links = 1 } = this.contestant;
    let port: number;
    if (broker) {
      const server = await broker.start({ queues: [{ name: 'queue' }], topics: [] });
      this.#closing.push(() => server.stop());
      port = server.port;
    } else {
      const peer = (this.#peer = await startPeer(this.workload.peer));
      this.#closing.push(() => peer.stop());
      port = (await peer.ask('port')) as number;
    }
    const began = performance.now();
    // Some may fail to start, and the others are to be ended.
    const starting = await Promise.allSettled(start(port));
    for (const started of starting) {
      if (started.status === 'rejected') throw started.reason;
      this.#children.push(started.value);
      this.#closing.push(() => started.value.stop());
    }
    await this.#peer?.ask('attached', links);
    if (this.workload.isIdle) this.idle = await this.#idle((performance.now() - began) / 1000, idleTime);
  }

  async run(size: number, count: number): Promise<void> {
    const { window, isFed, isTimed } = this.workload;
    const peerBefore = await this.#peer?.usage();
    const before = await this.usage();
    const ran: Ran = isFed
      ? { seconds: (await this.#peer!.ask('feed', { size, count })) as number }
      : ((await this.#children[0]!.ask('run', { size, count, window, isTimed })) as Ran);
    const after = await this.usage();
    const perAll = (one: Usage, other: Usage): number => ((other.cpu - one.cpu) / count) * ALL;
    const rate = count / ran.seconds;
    const peerAfter = await this.#peer?.usage();
    const peerCpu = peerBefore && peerAfter && perAll(peerBefore, peerAfter);
    this.runs.push({ ...ran, rate, cpu: perAll(before, after), peerCpu });
  }

  async usage(): Promise<Usage> {
    const all = await Promise.all(this.#children.map((child) => child.usage()));
    const sum = (name: keyof Usage): number => all.reduce((total, one) => total + one[name], 0);
    return { cpu: sum('cpu'), memory: sum('memory'), peak: sum('peak') };
  }

  async stop(): Promise<void> {
    for (const close of this.#closing.toReversed()) await close();
  }

  async #idle(start: number, time: number): Promise<Idle> {
    const before = await this.usage();
    await delay(time);
    const { cpu, memory } = await this.usage();
    return { start, cpu: ((cpu - before.cpu) / time) * ALL, memory };
  }
}

export interface Options {
  pairs: number;
  isQuick: boolean;
  /** Told of a contestant whose broker cannot be had here. */
  skipped: (name: string, reason: Error) => void;
  /** Told of a contestant that cannot run. */
  failed: (name: string, error: Error) => void;
}

/** Measures one workload with messages of one size. */
export async function measure(workload: Workload, size: number, options: Options): Promise<Result[]> {
  const { pairs, isQuick, skipped, failed } = options;
  const count = Math.ceil((workload.count / Math.max(1, size / 2000)) * (isQuick ? 0.05 : 1));
  let teams = workload.contestants.map((contestant) => new Team(contestant, workload));
  const all = teams;
  const nameOf = (team: Team): string => `${workload.name}, ${size} B, ${team.contestant.name}`;
  const attempt = async (team: Team, work: () => Promise<void>, tell = failed): Promise<void> => {
    await bounded(nameOf(team), isQuick, work()).catch((error: Error) => {
      teams = teams.filter((other) => other !== team);
      tell(nameOf(team), error);
    });
  };
  try {
    for (const team of teams) await attempt(team, async () => team.contestant.broker?.prepare(), skipped);
    for (const team of teams) await attempt(team, () => team.start(isQuick ? 500 : 5000));
    for (const team of teams) await attempt(team, () => team.run(size, count));
    for (const team of teams) team.runs.length = 0; // to be warm
    for (let pair = 0; pair < pairs; pair++) {
      for (const team of pair % 2 ? teams.toReversed() : teams) await attempt(team, () => team.run(size, count));
    }
    const results: Result[] = [];
    for (const team of teams) {
      const { contestant, runs, idle } = team;
      const { peak } = await team.usage();
      results.push({
        workload: workload.name,
        size,
        contestant: contestant.name,
        base: workload.contestants[0]!.name,
        runs,
        peak,
        idle,
      });
    }
    return results;
  } finally {
    for (const team of all) await team.stop();
  }
}
