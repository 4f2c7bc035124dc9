import { assert, integer, property } from 'fast-check';
import should from 'should';
import { distance, serial } from '../../../../nodes/lib/wire/serial';

const LAST = 2 ** 32 - 1;

describe('serial numbers', () => {
  it('go on at 0 after the last', () => {
    should(serial(LAST)).equal(0);
    should(serial(0, -1)).equal(LAST);
    should(serial(LAST - 1, 3)).equal(1);
  });

  it('are as far from each other as one is counted on to the other, across the end too (RFC 1982)', () => {
    const far = 2 ** 31 - 1;
    assert(
      property(integer({ min: 0, max: LAST }), integer({ min: -far, max: far }), (number, steps) => {
        should(distance(number, serial(number, steps))).equal(steps);
      }),
    );
  });
});
