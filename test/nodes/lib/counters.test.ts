import should from 'should';
import { GAUGES, sumOf, TOTALS, totalsOf } from '../../../nodes/lib/counters';

describe('counters', () => {
  it('are added up by their names', () => {
    sumOf([{ sent: 1, credit: 2 }, { sent: 3 }, {}]).should.deepEqual({ sent: 4, credit: 2 });
    sumOf([]).should.deepEqual({});
  });

  it('of what is gone are those that do not go back', () => {
    totalsOf({ received: 3, held: 2, credit: 5 }).should.deepEqual({ received: 3 });
  });

  it('have each name once', () => {
    const names = [...TOTALS, ...GAUGES];
    should(new Set(names).size).equal(names.length);
  });
});
