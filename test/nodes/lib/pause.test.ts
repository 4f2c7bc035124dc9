import { setImmediate as turn } from 'node:timers/promises';
import should from 'should';
import { Pause } from '../../../nodes/lib/pause';

describe('a pause', () => {
  it('ends by itself after its time', async () => {
    await new Pause().wait(1);
  });

  it('ends as soon as it is ended, and leaves no timer', async () => {
    const pause = new Pause();
    // Mocha's own timer comes with the first wait.
    await turn();
    for (const timeout of [3_600_000, Infinity]) {
      const timers = process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
      const waiting = pause.wait(timeout);
      pause.end();
      await waiting;
      should(process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout')).have.length(timers);
    }
  });

  it('does not remember that it was ended before', async () => {
    const pause = new Pause();
    pause.end();
    let isOver = false;
    const waiting = pause.wait(Infinity).then(() => (isOver = true));
    await Promise.resolve();
    should(isOver).be.false();
    pause.end();
    await waiting;
  });
});
