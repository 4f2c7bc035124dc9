import should from 'should';
import { pauseAfter } from '../../../../nodes/lib/connection/backoff';

const pauses = (failures: number) =>
  Array.from({ length: 200 }, () => pauseAfter(failures, { initial: 100, max: 3000 }));

describe('pauseAfter', () => {
  it('doubles the pause with each failure, up to the longest', () => {
    for (const [failures, full] of [100, 200, 400, 800, 1600, 3000, 3000].entries()) {
      for (const pause of pauses(failures)) pause.should.be.within(full / 2, full);
    }
  });

  it('stays at the longest pause, however long the outage', () => {
    for (const pause of pauses(100_000)) pause.should.be.within(1500, 3000);
  });

  it('differs from one client to the next', () => {
    should(new Set(pauses(3)).size).be.above(1);
  });
});
