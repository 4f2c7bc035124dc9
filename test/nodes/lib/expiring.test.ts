import should from 'should';
import { Expiring } from '../../../nodes/lib/expiring';

const timers = () => process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;

/** A map whose entries are short-lived; `told(n)` resolves with the first n that expired. */
function expiring(timeout = 20) {
  const expired: [string, number][] = [];
  let wanted = Infinity;
  let resolve: (told: typeof expired) => void;
  const entries = new Expiring<string, number>(timeout, (key, value) => {
    should(entries.get(key)).equal(undefined, 'is removed before it is told');
    if (expired.push([key, value]) === wanted) resolve(expired);
  });
  const told = (count: number) =>
    new Promise<typeof expired>((done) => {
      wanted = count;
      resolve = done;
    });
  return { entries, told };
}

/** Stands in for the real one, which nobody can hold to the millisecond. */
class Clock {
  #now = 0;
  #timers: { at: number; run: () => void }[] = [];
  readonly #setTimeout = globalThis.setTimeout;

  constructor() {
    Object.defineProperty(performance, 'now', { configurable: true, value: () => this.#now });
    const set = (run: () => void, delay: number) => this.#timers.push({ at: this.#now + delay, run });
    globalThis.setTimeout = set as unknown as typeof setTimeout;
  }

  /** Lets time go by, and does what is due at its time. */
  pass(time: number): void {
    const end = this.#now + time;
    for (;;) {
      const [next] = this.#timers.toSorted((a, b) => a.at - b.at);
      if (!next || next.at > end) break;
      this.#timers.splice(this.#timers.indexOf(next), 1);
      this.#now = next.at;
      next.run();
    }
    this.#now = end;
  }

  restore(): void {
    globalThis.setTimeout = this.#setTimeout;
    Reflect.deleteProperty(performance, 'now');
  }
}

describe('Expiring', () => {
  it('keeps entries like a map', () => {
    const { entries } = expiring(0);
    entries.set('a', 1);
    entries.set('b', 2);
    should(entries.get('a')).equal(1);
    should(entries.get('c')).equal(undefined);
    should(entries.size).equal(2);
    should([...entries.keys()]).deepEqual(['a', 'b']);
    should([...entries.values()]).deepEqual([1, 2]);
  });

  it('removes what has expired and tells of it, oldest first', async () => {
    const { entries, told } = expiring();
    entries.set('a', 1);
    entries.set('b', 2);
    setTimeout(() => entries.set('c', 3), 10);
    should(await told(3)).deepEqual([
      ['a', 1],
      ['b', 2],
      ['c', 3],
    ]);
    should(entries.size).equal(0);
  });

  it('never tells of an entry that was taken', async () => {
    const { entries, told } = expiring();
    entries.set('taken', 1);
    entries.set('left', 2);
    should(entries.take('taken')).equal(1);
    should(entries.take('taken')).equal(undefined);
    should(await told(1)).deepEqual([['left', 2]]);
  });

  it('gives back what it held when it is cleared, and tells of none of it', async () => {
    const { entries, told } = expiring();
    entries.set('a', 1);
    entries.set('b', 2);
    should(entries.clear()).deepEqual([1, 2]);
    entries.set('c', 3);
    should(await told(1)).deepEqual([['c', 3]]);
  });

  it('needs one timer for any number of entries, and none once cleared', () => {
    const { entries } = expiring(60_000);
    const before = timers();
    for (let i = 0; i < 1000; i++) entries.set(`entry ${i}`, i);
    should(timers()).equal(before + 1);
    entries.clear();
    should(timers()).equal(before);
  });

  it('lets an entry expire in time though another one is added just before', () => {
    const clock = new Clock();
    try {
      const told: [string, number][] = [];
      const entries = new Expiring<string, number>(60, (key) => {
        told.push([key, performance.now()]);
        if (key === 'first') entries.set('added', 3);
      });
      entries.set('first', 1);
      clock.pass(20);
      entries.set('second', 2);
      clock.pass(1000);
      should(told).deepEqual([
        ['first', 60],
        ['second', 80],
        ['added', 120],
      ]);
    } finally {
      clock.restore();
    }
  });

  it('takes entries that are older than all others, whose time is over sooner', () => {
    const clock = new Clock();
    try {
      const expired: string[] = [];
      const aged = new Expiring<string, number>(100, (key) => expired.push(key));
      clock.pass(10);
      aged.set('new', 1);
      clock.pass(10);
      aged.prepend([
        ['older', 2, 90],
        ['old', 3, 40],
      ]);
      should([...aged.keys()]).eql(['older', 'old', 'new']);
      for (const [time, keys] of [
        [9, []],
        [1, ['older']],
        [50, ['older', 'old']],
        [30, ['older', 'old', 'new']],
      ] as const) {
        clock.pass(time);
        should(expired).eql(keys);
      }
    } finally {
      clock.restore();
    }
  });

  it('without a time-out keeps entries for good', () => {
    const { entries } = expiring(0);
    const before = timers();
    entries.set('a', 1);
    should(timers()).equal(before);
  });
});
