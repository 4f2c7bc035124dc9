import should from 'should';
import { Ring } from '../../../nodes/lib/ring';

/** A ring of numbers under themselves. */
function ringOf(...numbers: number[]): Ring<number> {
  const ring = new Ring<number>();
  for (const number of numbers) ring.set(number, number);
  return ring;
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, n) => from + n);

describe('Ring', () => {
  it('gives values in the order of their numbers, whatever the order in which they were set', () => {
    const ring = ringOf(5, 6, 9, 3, 7, -2);
    should([...ring.values()]).eql([-2, 3, 5, 6, 7, 9]);
    should([ring.size, ring.first]).eql([6, -2]);
  });

  it('gives a value once when it is taken', () => {
    const ring = ringOf(1, 2, 3);
    should([ring.take(1), ring.take(1), ring.take(7), ring.get(1)]).eql([1, undefined, undefined, undefined]);
    should([...ring.entries()]).eql([
      [2, 2],
      [3, 3],
    ]);
    should([ring.size, ring.first]).eql([2, 2]);
  });

  it('replaces the value of a number', () => {
    const ring = new Ring<string>();
    ring.set(1, 'a');
    ring.set(1, 'b');
    should([ring.size, ring.get(1)]).eql([1, 'b']);
  });

  it('has no first number when it is empty, also after it was not', () => {
    const ring = ringOf(1);
    should(ring.take(1)).equal(1);
    should([ring.first, ring.size, [...ring.values()]]).eql([undefined, 0, []]);
    ring.set(0, 0);
    should([ring.first, ring.size]).eql([0, 1]);
  });

  it('keeps any number of values, and some from far behind the others', () => {
    const ring = ringOf(...range(0, 5000));
    for (const number of range(10, 4990)) ring.take(number);
    const later = range(5000, 200_000);
    for (const number of later) {
      ring.set(number, number);
      if (number % 2) ring.take(number);
      ring.take(number - 100);
    }
    const left = [...range(0, 10), ...range(199_900, 200_000).filter((number) => number % 2 === 0)];
    should([...ring.values()]).eql(left);
    should([ring.size, ring.first]).eql([left.length, 0]);
    should(left.map((number) => ring.get(number))).eql(left);
    should(left.map((number) => ring.take(number))).eql(left);
    should([ring.size, ring.first]).eql([0, undefined]);
  });

  it('takes what is far before all others', () => {
    const ring = ringOf(1_000_000, -1_000_000, -2_000_000, 0);
    should([...ring.values()]).eql([-2_000_000, -1_000_000, 0, 1_000_000]);
    should(ring.first).equal(-2_000_000);
  });

  it('can be changed while its values are gone through: what is taken is left out', () => {
    const ring = ringOf(...range(0, 10));
    const seen: number[] = [];
    for (const value of ring.values()) {
      seen.push(value);
      ring.take(value + 1);
      for (const number of range(1000 * value + 1000, 1000 * value + 1200)) ring.set(number, number);
    }
    should(seen).eql([0, 2, 4, 6, 8]);
  });

  it('does what a Map does, for numbers that come and go by chance', () => {
    const [ring, map] = [new Ring<number>(), new Map<number, number>()];
    let seed = 7;
    const random = (below: number) => (seed = (seed * 48_271) % 2_147_483_647) % below;
    let next = 0;
    for (let step = 0; step < 50_000; step++) {
      const number = random(20) === 0 ? next - random(500) : random(3) ? (next += random(3)) : next - random(100);
      if (random(2)) {
        ring.set(number, step);
        map.set(number, step);
      } else {
        should(ring.take(number)).equal(map.get(number));
        map.delete(number);
      }
      should(ring.size).equal(map.size);
    }
    should([...ring.entries()]).eql([...map].toSorted(([one], [other]) => one - other));
  });
});
