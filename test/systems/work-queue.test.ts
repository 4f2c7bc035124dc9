// The flow Systems/Work queue as it is shipped, on the embedded broker: what is delivered again is stored once.
import { once } from 'node:events';
import should from 'should';
import { Broker } from '../../broker/broker';
import { allShown, idOf, isConnected, loadExample, press, startExamples } from '../example';
import { collect, type Msg, status } from '../flow';
import helper from '../node-red';

const FILE = 'Systems/Work queue.json';
const JOBS = 'example.work.jobs';
const LETTERS = 'example.work.dead';
/** Those that count on the canvas. */
const COUNTED = ['sent', 'delivered', 'never done', 'stored', 'came again', 'dead letter'];

const times = (count: number, word: string) => Array.from({ length: count }, () => word);
/** What the server is told of a job, by what goes wrong with it. */
const TOLD: Record<string, string[]> = {
  unconfirmed: ['released', 'accepted'],
  stuck: [...times(3, 'released'), 'accepted'],
  fails: [...times(3, 'modified'), 'accepted'],
};
const jobIdOf = ({ amqp }: Msg) => String(amqp!['message_id']);
const wrongWith = ({ payload }: Msg) => (payload as { wrong?: string }).wrong ?? 'nothing';
/** All that comes to a debug node from now on. */
const at = (name: string) => collect(idOf('debug', name));

describe('The flow Systems/Work queue', () => {
  let broker: Broker;

  startExamples((started) => (broker = started));
  beforeEach(async () => {
    await loadExample(FILE, broker.port);
    await Promise.all(['jobs', 'dead letters'].map((name) => isConnected('amqp-receiver', name)));
  });

  const outcomes = (address: string, id?: unknown) =>
    broker.dispositions
      .filter((disposition) => disposition.address === address && (id === undefined || disposition.id === id))
      .map(({ state }) => state);
  /** Waits until so many messages have left the queue for good. */
  const done = async (address: string, count: number) => {
    while (outcomes(address).filter((state) => state === 'accepted').length < count) await once(broker, 'settled');
  };

  it('delivers 18 jobs 27 times, stores 14 of them once each, and has 3 dead letters', async () => {
    const seen = COUNTED.map(at);
    const [, delivered, , stored, again, dead] = seen;
    const counts = [18, 27, 6, 14, 4, 3];
    press('1. ten jobs');
    press('2. three whose confirmation is lost');
    press('3. two that are never done');
    press('4. one that always fails');
    press('5. one with an ID of its own: press it twice');
    press('5. one with an ID of its own: press it twice');
    await Promise.all([done(JOBS, 18), done(LETTERS, 3)]);
    should(seen.map(({ length }) => length)).deepEqual(counts);
    // The number below a debug node comes a moment after the last msg.
    for (const [index, name] of COUNTED.entries()) {
      const { text } = await status(idOf('debug', name), String(counts[index]));
      should(text).equal(String(counts[index]));
    }
    broker.depth(JOBS).should.equal(0);
    broker.depth(LETTERS).should.equal(0);
    should(broker.received).deepEqual({ [JOBS]: 18, [LETTERS]: 3 });

    const ids = stored!.map(jobIdOf);
    new Set(ids).size.should.equal(14);
    ids.should.containDeep(again!.map(jobIdOf));
    should(again!.map(wrongWith).toSorted()).deepEqual(['nothing', ...times(3, 'unconfirmed')]);
    should(dead!.map(wrongWith).toSorted()).deepEqual(['fails', 'stuck', 'stuck']);

    for (const [wrong, states] of Object.entries(TOLD)) {
      const some = delivered!.filter((msg) => wrongWith(msg) === wrong);
      some.length.should.be.above(0);
      for (const msg of some) should(outcomes(JOBS, jobIdOf(msg))).deepEqual(states, wrong);
    }
    outcomes(JOBS).length.should.equal(27 + 3);
  });

  it('stores what the server delivers again after a lost connection once', async () => {
    const [stored, again] = ['stored', 'came again'].map(at);
    const first = allShown('stored', 3);
    press('2. three whose confirmation is lost');
    const ids = (await first).map(jobIdOf);
    broker.dropSockets();
    await done(JOBS, 3);
    should(stored!.map(jobIdOf)).deepEqual(ids);
    should(again!.map(jobIdOf).toSorted()).deepEqual(ids.toSorted());
    broker.depth(JOBS).should.equal(0);
  });

  it('remembers 1000 IDs, and forgets the oldest first', async () => {
    const { flow } = helper.getNode(idOf('function', 'store once')).context();
    flow.set(
      'seen',
      Array.from({ length: 1000 }, (_, index) => `"${index}"`),
    );
    const stored = at('stored');
    press('5. one with an ID of its own: press it twice');
    press('5. one with an ID of its own: press it twice');
    await done(JOBS, 2);
    should(stored.map(jobIdOf)).deepEqual(['job-42']);
    const seen = flow.get('seen') as string[];
    should([seen.length, seen[0], seen.at(-1)]).deepEqual([1000, '"1"', '"job-42"']);
  });
});
