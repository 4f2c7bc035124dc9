import should from 'should';
import type { Incoming } from '../../../../nodes/lib/message/message';
import { Intake } from '../../../../nodes/lib/receiver/intake';

const message = (group?: string): Incoming => ({ fields: group === undefined ? {} : { group_id: group } }) as Incoming;

describe('an intake in the order of groups', () => {
  let given: string[];
  let intake: Intake<string>;
  beforeEach(() => {
    given = [];
    intake = new Intake(
      { inOrder: true },
      {
        give: (messages) => given.push(...messages.map(({ delivery }) => delivery)),
        later: () => {},
      },
    );
  });
  const take = (...deliveries: string[]): boolean[] => deliveries.map((one) => intake.take(message(one[0]), one));

  it('gives the next message of a group once the one before is settled, and others as they are', () => {
    take('a1', 'a2', 'b1');
    intake.take(message(), 'of none');
    should(given).eql(['a1', 'b1', 'of none']);
    should(intake.settled(message('a'), { settle: 'accept' })).be.empty();
    should(given.at(-1)).equal('a2');
  });

  it('gives back what comes after a message that is to come again, also what comes only then', () => {
    take('a1', 'a2', 'b1');
    const behind = intake.settled(message('a'), { settle: 'release' });
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
    intake.settled(message('a'), { settle: 'reject' });
    should(given).eql(['a1', 'a2']);
    should(intake.isBroken).be.false();
  });

  it('knows of no group after the link was lost', () => {
    take('a1', 'a2');
    intake.settled(message('a'), { settle: 'modify' });
    intake.clear();
    should(take('a1')).eql([true]);
  });
});
