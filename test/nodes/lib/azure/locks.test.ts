import should from 'should';
import { Locks, lockTokenOf, pauseUntil } from '../../../../nodes/lib/azure/locks';
import { amqpError } from '../../../../nodes/lib/errors';

const left = (milliseconds: number) => pauseUntil(new Date(Date.now() + milliseconds));
const token = (number: number) => Buffer.alloc(16, number);

describe('a lock', () => {
  it('has the delivery tag as its token, with the first three groups turned around', () => {
    const turned = lockTokenOf('33221100554477668899aabbccddeeff');
    should(turned?.toString('hex')).equal('00112233445566778899aabbccddeeff');
  });

  it('is none where the delivery tag is no GUID', () => {
    for (const tag of ['', '00', '00000001', '33221100554477668899aabbccddeeff00'])
      should(lockTokenOf(tag)).equal(undefined, tag);
  });

  it('is renewed after two thirds of what it has left, whatever the clocks say', () => {
    should(left(15_000)).be.approximately(10_000, 100);
    should(left(300_000)).equal(20_000);
    should(left(-3_600_000)).equal(1000);
    should(left(3_600_000)).equal(20_000);
    for (const odd of [undefined, 'soon', new Date(NaN)]) should(pauseUntil(odd)).equal(1000);
  });
});

describe('locks', () => {
  let asked: number[][];
  let lost: number | undefined;
  let held: Set<string>;
  let told: () => void;
  let locks: Locks;
  beforeEach(() => {
    [asked, lost, held, told] = [[], undefined, new Set(), () => {}];
    locks = new Locks({
      renew: async (tokens) => {
        asked.push(tokens.map(([first]) => first!));
        told();
        if (lost !== undefined && tokens.some(([first]) => first === lost)) throw amqpError('AMQP_LOCK_LOST.refused');
        return tokens.map(() => new Date(Date.now() + 60_000));
      },
      holds: (id) => held.has(id),
    });
  });
  afterEach(() => locks.close());

  const hold = (number: number) => {
    held.add(`${number}`);
    locks.hold(`${number}`, token(number), undefined);
  };
  /** Until so many requests have been made. */
  const requests = (count: number) =>
    new Promise<void>((resolve) => {
      told = () => {
        if (asked.length >= count) resolve();
      };
    });

  it('that are due at about the same time are renewed by one request', async () => {
    for (const number of [1, 2, 3]) hold(number);
    await requests(1);
    should(asked).deepEqual([[1, 2, 3]]);
  });

  it('are renewed one by one when one of them is lost, which is not asked for again', async () => {
    for (const number of [1, 2, 3]) hold(number);
    lost = 2;
    await requests(4);
    should(asked).deepEqual([[1, 2, 3], [1], [2], [3]]);
  });

  it('of what is not held any more are forgotten', async () => {
    for (const number of [1, 2]) hold(number);
    held.delete('1');
    await requests(1);
    should(asked).deepEqual([[2]]);
  });
});
