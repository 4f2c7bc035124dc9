import should from 'should';
import type { Incoming } from '../../../../nodes/lib/message/message';
import type { AmqpFields } from '../../../../nodes/lib/message/fields';
import { Intake, type IntakeOptions, type Pending } from '../../../../nodes/lib/receiver/intake';

/** An intake of deliveries that are names, with what it has given, and its timers. */
class Trial {
  readonly given: string[][] = [];
  readonly attempts: (number | undefined)[] = [];
  /** Those that are not cancelled. */
  timers: { run: () => void; delay: number }[] = [];
  readonly intake: Intake<string>;
  readonly #fields = new Map<string, AmqpFields>();

  constructor(options: IntakeOptions, onGiven: (names: string[]) => void = () => {}) {
    this.intake = new Intake(options, {
      give: (messages) => {
        const names = namesOf(messages);
        this.given.push(names);
        for (const { attempt } of messages) this.attempts.push(attempt);
        onGiven(names);
      },
      later: (run, delay) => {
        const timer = { run, delay };
        this.timers.push(timer);
        return () => (this.timers = this.timers.filter((one) => one !== timer));
      },
    });
  }

  /** Messages of these names; "a1" is of the group "a", "1" of none. */
  take(...names: string[]): void {
    for (const name of names) {
      const group = name.replaceAll(/\d/g, '');
      const fields = { message_id: name, ...(group && { group_id: group }) };
      this.#fields.set(name, fields);
      this.intake.take({ fields, body: undefined }, name);
    }
  }

  /** Gives those that come back with it. */
  settle(name: string, settle: 'accept' | 'reject' | 'release' | 'modify' = 'accept'): string[] {
    return namesOf(this.intake.settled({ fields: this.#fields.get(name)!, body: undefined }, { settle }));
  }
}

const namesOf = (messages: Pending<string>[]) => messages.map(({ delivery }) => delivery);

describe('an intake', () => {
  it('gives each message at once where nothing is asked of it', () => {
    const trial = new Trial({});
    trial.take('a1', 'a2', '3');
    should(trial.given).eql([['a1'], ['a2'], ['3']]);
    should(trial.settle('a1', 'release')).be.empty();
    should([trial.intake.size, trial.attempts]).eql([0, [undefined, undefined, undefined]]);
  });

  describe('in order', () => {
    it('gives the next of a group once the one before is accepted or rejected, and other groups meanwhile', () => {
      const trial = new Trial({ inOrder: true });
      trial.take('a1', 'a2', 'b1', 'a3', 'b2');
      should([trial.given, trial.intake.size]).eql([[['a1'], ['b1']], 3]);
      should(trial.settle('a1')).be.empty();
      should(trial.settle('b1', 'reject')).be.empty();
      should([trial.given.slice(2), trial.intake.size]).eql([[['a2'], ['b2']], 1]);
      trial.settle('a2');
      should([trial.given.slice(4), trial.intake.size]).eql([[['a3']], 0]);
    });

    it('gives messages without a group, or with an empty one, as they come', () => {
      const trial = new Trial({ inOrder: true });
      trial.take('1', '2');
      for (const name of ['empty', 'empty too']) trial.intake.take({ fields: { group_id: '' }, body: undefined }, name);
      should(trial.given.flat()).eql(['1', '2', 'empty', 'empty too']);
      should(trial.settle('1', 'release')).be.empty();
    });

    for (const outcome of ['release', 'modify'] as const) {
      it(`gives back by ${outcome} what is behind in the group, and nothing of others`, () => {
        const trial = new Trial({ inOrder: true });
        trial.take('a1', 'b1', 'a2', 'a3', 'b2');
        should(trial.settle('a1', outcome)).eql(['a2', 'a3']);
        should(trial.intake.size).equal(1);
        trial.settle('b1');
        should(trial.given).eql([['a1'], ['b1'], ['b2']]);
        // They come again.
        trial.intake.mend();
        trial.take('a1', 'a2', 'a3');
        trial.settle('a1');
        should(trial.given.slice(3)).eql([['a1'], ['a2']]);
      });
    }

    it('forgets a group of which there is nothing left', () => {
      const trial = new Trial({ inOrder: true });
      trial.take('a1');
      trial.settle('a1');
      should(trial.settle('a1')).be.empty();
      trial.take('a2');
      should(trial.given).eql([['a1'], ['a2']]);
    });

    it('takes back what waits, in its order, and begins anew', () => {
      const trial = new Trial({ inOrder: true, together: { count: 3, time: 1 } });
      trial.take('a1', 'a2', 'b1', 'a3');
      should(namesOf(trial.intake.clear())).eql(['a1', 'b1', 'a2', 'a3']);
      should(trial.intake.size).equal(0);
      trial.take('a2', 'b2', '3');
      should(trial.given).eql([['a2', 'b2', '3']]);
    });

    it('gives a group of any length that is settled as it is given', () => {
      const trial: Trial = new Trial({ inOrder: true }, ([name]) => name !== 'a0' && trial.settle(name!));
      const names = Array.from({ length: 20_000 }, (_, index) => `a${index}`);
      trial.take(...names.slice(0, 1));
      trial.take(...names.slice(1));
      trial.settle('a0');
      should(trial.given.flat()).eql(names);
      should(trial.intake.size).equal(0);
    });
  });

  describe('together', () => {
    it('gives as many as were asked for', () => {
      const trial = new Trial({ together: { count: 2, time: 1000 } });
      trial.take('1', '2', '3', '4', '5');
      should([trial.given, trial.intake.size]).eql([
        [
          ['1', '2'],
          ['3', '4'],
        ],
        1,
      ]);
    });

    it('gives those that have come within the time since the first of them', () => {
      const trial = new Trial({ together: { count: 3, time: 1000 } });
      trial.take('1', '2');
      should(trial.timers).match([{ delay: 1000 }]);
      trial.timers[0]!.run();
      should([trial.given, trial.intake.size]).eql([[['1', '2']], 0]);
      trial.take('3');
      should(trial.timers).have.length(1);
    });

    it('leaves no timer of messages that were given or taken back', () => {
      const trial = new Trial({ together: { count: 2, time: 1000 } });
      trial.take('1', '2');
      should(trial.timers).be.empty();
      trial.take('3');
      should(trial.timers).have.length(1);
      trial.intake.clear();
      should(trial.timers).be.empty();
    });

    it('gives what there is when it is told to, and nothing when there is nothing', () => {
      const trial = new Trial({ together: { count: 3, time: 1000 } });
      trial.intake.flush();
      trial.take('1');
      trial.intake.flush();
      trial.intake.flush();
      should(trial.given).eql([['1']]);
    });

    it('has one of each group at most where they are in order', () => {
      const trial = new Trial({ inOrder: true, together: { count: 2, time: 1000 } });
      trial.take('a1', 'a2', 'b1', 'b2');
      should(trial.given).eql([['a1', 'b1']]);
      trial.settle('b1');
      trial.settle('a1');
      should(trial.given.slice(1)).eql([['b2', 'a2']]);
    });
  });

  describe('that counts attempts', () => {
    it('counts those that reach the flow', () => {
      const trial = new Trial({ maxAttempts: 2 });
      trial.take('1');
      trial.settle('1', 'release');
      trial.take('1');
      trial.settle('1', 'modify');
      trial.take('1', '2');
      should(trial.attempts).eql([1, 2, 3, 1]);
    });

    it('does not count a message that was given back behind another one', () => {
      const trial = new Trial({ maxAttempts: 2, inOrder: true });
      for (let round = 0; round < 3; round++) {
        trial.take('a1', 'a2');
        trial.settle('a1', 'release');
        trial.intake.mend();
      }
      trial.take('a1', 'a2');
      trial.settle('a1');
      should(trial.given.at(-1)).eql(['a2']);
      should(trial.attempts).eql([1, 2, 3, 4, 1]);
    });

    it('does not count a message that was lost before the flow had it', () => {
      const trial = new Trial({ maxAttempts: 2, together: { count: 2, time: 1000 } });
      trial.take('1');
      trial.intake.clear();
      trial.take('1', '2');
      should(trial.attempts).eql([1, 1]);
    });

    it('begins anew for a message that was accepted or rejected', () => {
      const trial = new Trial({ maxAttempts: 2 });
      for (const outcome of ['accept', 'reject'] as const) {
        trial.take('1');
        trial.settle('1', outcome);
      }
      trial.take('1');
      should(trial.attempts).eql([1, 1, 1]);
    });
  });
});

const ofGroup = (group?: string): Incoming => ({ fields: group === undefined ? {} : { group_id: group } }) as Incoming;

describe('an intake of which a group is broken', () => {
  let given: string[];
  let intake: Intake<string>;
  beforeEach(() => {
    given = [];
    intake = new Intake(
      { inOrder: true },
      {
        give: (messages) => given.push(...messages.map(({ delivery }) => delivery)),
        later: () => () => {},
      },
    );
  });
  const take = (...deliveries: string[]): boolean[] => deliveries.map((one) => intake.take(ofGroup(one[0]), one));

  it('gives back what comes after a message that is to come again, also what comes only then', () => {
    take('a1', 'a2', 'b1');
    const behind = intake.settled(ofGroup('a'), { settle: 'release' });
    should(behind.map(({ delivery }) => delivery)).eql(['a2']);
    should(intake.isBroken).be.true();
    should(take('a3', 'b2')).eql([false, true]);
    should(intake.size).equal(1);
    intake.mend();
    should(take('a1')).eql([true]);
    should(given).eql(['a1', 'b1', 'a1']);
  });

  it('goes on behind a message that is rejected', () => {
    take('a1', 'a2');
    intake.settled(ofGroup('a'), { settle: 'reject' });
    should(given).eql(['a1', 'a2']);
    should(intake.isBroken).be.false();
  });

  it('knows of no group after the link was lost', () => {
    take('a1', 'a2');
    intake.settled(ofGroup('a'), { settle: 'modify' });
    intake.clear();
    should(take('a1')).eql([true]);
  });
});
