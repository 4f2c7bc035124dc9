import should from 'should';
import { type Expires, Expiring } from '../../../nodes/lib/expiring';

const timers = () => process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;

/** What expires. */
interface Item extends Expires {
  name: string;
}
const item = (name: string): Item => ({ name, deadline: 0 });
const names = (items: Iterable<Item>) => Array.from(items, ({ name }) => name);

/** Values that are short-lived; `told(n)` resolves with the names of the first n that expired. */
function expiring(timeout = 20) {
  const expired: string[] = [];
  let wanted = Infinity;
  let resolve: (told: typeof expired) => void;
  const values = new Expiring<Item>(timeout, ({ name }, number) => {
    should(values.get(number)).equal(undefined, 'is removed before it is told');
    if (expired.push(name) === wanted) resolve(expired);
  });
  const told = (count: number) =>
    new Promise<typeof expired>((done) => {
      wanted = count;
      resolve = done;
    });
  return { values, told };
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
  it('keeps values by their numbers, in the order of these', () => {
    const { values } = expiring(0);
    values.set(1, item('a'));
    values.set(2, item('b'));
    should(values.get(1)).match({ name: 'a' });
    should(values.get(3)).equal(undefined);
    should(values.size).equal(2);
    should(names(values.values())).deepEqual(['a', 'b']);
  });

  it('removes what has expired and tells of it, oldest first', async () => {
    const { values, told } = expiring();
    values.set(1, item('a'));
    values.set(2, item('b'));
    setTimeout(() => values.set(3, item('c')), 10);
    should(await told(3)).deepEqual(['a', 'b', 'c']);
    should(values.size).equal(0);
  });

  it('never tells of a value that was taken', async () => {
    const { values, told } = expiring();
    values.set(1, item('taken'));
    values.set(2, item('left'));
    should(values.take(1)).match({ name: 'taken' });
    should(values.take(1)).equal(undefined);
    should(await told(1)).deepEqual(['left']);
  });

  it('gives back what it held when it is cleared, and tells of none of it', async () => {
    const { values, told } = expiring();
    values.set(1, item('a'));
    values.set(2, item('b'));
    should(names(values.clear())).deepEqual(['a', 'b']);
    values.set(3, item('c'));
    should(await told(1)).deepEqual(['c']);
  });

  it('needs one timer for any number of values, and none once cleared', () => {
    const { values } = expiring(60_000);
    const before = timers();
    for (let i = 0; i < 1000; i++) values.set(i, item(`${i}`));
    should(timers()).equal(before + 1);
    values.clear();
    should(timers()).equal(before);
  });

  it('lets a value expire in time though another one is added just before', () => {
    const clock = new Clock();
    try {
      const told: [string, number][] = [];
      const values = new Expiring<Item>(60, ({ name }) => {
        told.push([name, performance.now()]);
        if (name === 'first') values.set(3, item('added'));
      });
      values.set(1, item('first'));
      clock.pass(20);
      values.set(2, item('second'));
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

  it('takes values that are older than all others, whose time is over sooner', () => {
    const clock = new Clock();
    try {
      const expired: string[] = [];
      const aged = new Expiring<Item>(100, ({ name }) => expired.push(name));
      clock.pass(10);
      aged.set(1, item('new'));
      clock.pass(10);
      aged.prepend([
        [-1, item('older'), 90],
        [0, item('old'), 40],
      ]);
      should(names(aged.values())).eql(['older', 'old', 'new']);
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

  it('without a time-out keeps values for good', () => {
    const { values } = expiring(0);
    const before = timers();
    values.set(1, item('a'));
    should(timers()).equal(before);
  });
});
