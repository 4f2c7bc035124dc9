// The example Systems/Artemis as it is shipped, on an Artemis that has nothing but what the flow makes there.
import should from 'should';
import { allShown, idOf, isConnected, loadExample, press, shown, startExamples } from '../example';
import { collect, helper, payloadsOf, status, timesAt } from '../flow';
import { artemis } from './artemis';
import { type Broker, needed } from './broker';
import { byText, shareGroups } from './workers';

describe('on an ActiveMQ Artemis, the flow Systems/Artemis', function () {
  this.timeout(30_000);
  let broker: Broker;

  before(async function () {
    this.timeout(300_000); // the first time, it is fetched
    await needed(this, 'ActiveMQ Artemis', () => artemis.prepare());
    broker = await artemis.start({ queues: [], topics: [] });
  });
  after(() => broker?.stop());
  startExamples();
  beforeEach(() => loadExample('Systems/Artemis.json', broker.port));

  it('says what the server has against a question', async () => {
    should(await asked('3. how many dead letters?')).match(
      /Cannot find resource with name queue\.example\.artemis\.dead/,
    );
  });

  it('sets pauses and attempts, and makes queues, once and again', async () => {
    for (let time = 0; time < 2; time++)
      should(await prepare()).match([
        { maxDeliveryAttempts: 3, redeliveryDelay: 1000, redeliveryMultiplier: 2 },
        { name: 'example.artemis.dead', 'routing-type': 'ANYCAST' },
        { name: 'example.artemis.prices', 'last-value-key': 'item' },
      ]);
  });

  it('has an order that fails tried three times, after pauses that the server makes, looks at the dead letter, and moves it back', async () => {
    await prepare();
    const attempts = allShown('failed attempt', 3);
    const times = timesAt(idOf('debug', 'failed attempt'));
    press('2. send an order');
    should((await attempts).map(({ amqp }) => amqp?.['delivery_count'] ?? 0)).deepEqual([0, 1, 2]);
    const [first, second, third] = times as [number, number, number];
    // Clocks of two processes round differently.
    should(second - first).within(990, 1990);
    should(third - second).within(1990, 3990);
    await told('3. how many dead letters?', 1);

    for (let looks = 0; looks < 2; looks++) {
      const seen = shown('seen');
      press('4. look at dead letters');
      should(await seen).match({
        payload: { item: 'tea', amount: 2 },
        amqp: { message_annotations: { 'x-opt-ORIG-ADDRESS': 'example.artemis.orders' } },
      });
    }
    should(await asked('3. how many dead letters?')).equal(1);

    press('5. switch the machine on');
    const processed = shown('processed');
    should(await asked('6. move them back')).equal(1);
    should(await processed).match({ payload: { item: 'tea', amount: 2 } });
    should(await asked('3. how many dead letters?')).equal(0);
    should(times.length).equal(3);
  });

  it('sends one order twice, and it arrives once', async () => {
    const [accepted, arrived] = [allShown('accepted', 2), collect(idOf('debug', 'arrived once'))];
    press('7. send it twice');
    for (const { sent } of await accepted) should(sent).match({ state: 'accepted' });
    // What came behind it is there: so would the second one be.
    const [again, next] = [allShown('accepted', 2), shown('arrived once')];
    press('7. send it twice');
    await next;
    await again;
    should(payloadsOf(arrived)).deepEqual(['coffee', 'coffee']);
  });

  it('keeps the last price of each item', async () => {
    await prepare();
    const accepted = allShown('price accepted', 4);
    press('8. four prices of two goods');
    await accepted;
    const prices = allShown('seen', 2);
    press('9. look at the prices');
    should(payloadsOf(await prices)).deepEqual([
      { item: 'coffee', price: 3 },
      { item: 'tea', price: 2.2 },
    ]);
    should(await asked('10. how many prices?')).equal(2);
  });

  it('has messages arrive after a time, and at a time', async () => {
    const due = allShown('due', 2);
    const start = Date.now();
    const times = timesAt(idOf('debug', 'due'));
    press('12. at a time');
    press('11. in two seconds');
    const [delayed, timed] = await due;
    should(delayed!.payload).equal('in two seconds');
    should(times[0]! - start).within(1990, 2990);
    should(times[1]!).within(Number(timed!.payload) - 10, Number(timed!.payload) + 1000);
  });

  it('gives each group of jobs to one of two workers, in order', () => shareGroups('13. six jobs of two groups'));

  it('shares a subscription between two connections, and keeps it while both are away', async () => {
    const readers = ['A', 'B'];
    const read = readers.map((name) => collect(idOf('debug', `read by ${name}`)));
    const areConnected = () => Promise.all(readers.map((name) => isConnected('amqp-receiver', `reader ${name}`)));
    await areConnected();
    const both = readers.map((name) => allShown(`read by ${name}`, 2));
    press('14. publish four news');
    should((await Promise.all(both)).flatMap(payloadsOf).toSorted(byText)).deepEqual([1, 2, 3, 4]);

    press('15. both go away');
    await Promise.all(readers.map((name) => status(idOf('amqp-receiver', `reader ${name}`), '.detached')));
    const published = allShown('published', 4);
    press('14. publish four news');
    await published;
    should(read.map(({ length }) => length)).deepEqual([2, 2]);
    const later = new Promise<void>((resolve) => {
      const count = () => read.flat().length === 8 && resolve();
      for (const name of readers) helper.getNode(idOf('debug', `read by ${name}`)).on('input', count);
    });
    press('16. both come back');
    await later;
    should(read.flatMap(payloadsOf).toSorted(byText)).deepEqual([1, 1, 2, 2, 3, 3, 4, 4]);
  });
});

/** What the server answers to the question of an inject node. */
async function asked(name: string): Promise<unknown> {
  const answer = shown('answer');
  press(name);
  return (await answer).payload;
}

/** Asks until this is the answer: the server takes its time. One that it never gives lets the test time out. */
async function told(name: string, answer: unknown): Promise<void> {
  while ((await asked(name)) !== answer);
}

/** Has the server know what the flow needs there. */
async function prepare(): Promise<unknown[]> {
  const answers = allShown('answer', 3);
  press('1. prepare the queues');
  return payloadsOf(await answers).map((answer) => JSON.parse(String(answer)));
}
