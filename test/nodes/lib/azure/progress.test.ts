import { setImmediate as turn } from 'node:timers/promises';
import should from 'should';
import { Progress } from '../../../../nodes/lib/azure/progress';

describe('the progress in a partition', () => {
  let held: Set<string>;
  let progress: Progress;
  beforeEach(() => {
    held = new Set();
    progress = new Progress((id) => held.has(id));
  });

  /** Gives the flow events that it holds, with offsets of these numbers. */
  function give(...numbers: number[]): void {
    for (const number of numbers) {
      held.add(`id-${number}`);
      progress.given(`${number}`, `id-${number}`);
    }
  }
  const settle = (...numbers: number[]) => numbers.forEach((number) => held.delete(`id-${number}`));

  it('is nowhere before there was an event, or where it is told to begin', () => {
    should(progress.place).equal(undefined);
    progress.begin({ offset: '7' });
    should(progress.place).deepEqual({ offset: '7' });
  });

  it('is at each event that nobody has to settle, once the flow has it', async () => {
    progress.given('1');
    progress.given('2');
    should(progress.place).equal(undefined);
    await turn();
    should(progress.place).deepEqual({ offset: '2' });
  });

  it('is before what the flow has not had when it was closed', async () => {
    progress.given('1');
    await turn();
    progress.given('2');
    progress.stop();
    await turn();
    should(progress.place).deepEqual({ offset: '1' });
  });

  it('is before the first event that the flow is not done with', () => {
    give(1, 2, 3, 4);
    should(progress.place).equal(undefined);
    settle(2, 4);
    should(progress.place).equal(undefined);
    settle(1);
    should(progress.place).deepEqual({ offset: '2' });
    settle(3);
    should(progress.place).deepEqual({ offset: '4' });
  });

  it('goes no further for what comes back after an interruption', () => {
    give(1, 2, 3);
    settle(1);
    progress.interrupt();
    held.clear();
    should(progress.place).deepEqual({ offset: '1' });
    give(2);
    settle(2);
    should(progress.place).deepEqual({ offset: '2' });
  });

  it('keeps up with any number of events', () => {
    for (let number = 0; number < 10_000; number++) {
      give(number);
      if (number >= 50) settle(number - 50);
      if (number % 100 === 99) should(progress.place).deepEqual({ offset: `${number - 50}` });
    }
  });
});
