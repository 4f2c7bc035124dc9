// The example Systems/ActiveMQ Classic as it is shipped, on an ActiveMQ Classic with what its page has switched on, and what
// else that page says of it.
import should from 'should';
import { allShown, idOf, loadExample, press, shown, startExamples } from '../example';
import {
  endpointNode,
  flow,
  helper,
  inject,
  load,
  message,
  messages,
  type Msg,
  node,
  payloadsOf,
  send,
  status,
  timesAt,
} from '../flow';
import { activemqWith } from './activemq';
import { type Broker, needed } from './broker';
import { byText, shareGroups } from './workers';

const activemq = activemqWith({
  attributes: 'schedulerSupport="true"',
  policies: `
    <policyEntry topic="prices.&gt;" alwaysRetroactive="true">
      <subscriptionRecoveryPolicy><lastImageSubscriptionRecoveryPolicy/></subscriptionRecoveryPolicy>
    </policyEntry>`,
  plugins: `
    <statisticsBrokerPlugin/>
    <redeliveryPlugin>
      <redeliveryPolicyMap><redeliveryPolicyMap><redeliveryPolicyEntries>
        <redeliveryPolicy queue="patient" maximumRedeliveries="2" initialRedeliveryDelay="1000" redeliveryDelay="1000"/>
      </redeliveryPolicyEntries></redeliveryPolicyMap></redeliveryPolicyMap>
    </redeliveryPlugin>`,
});
const ORDER = { item: 'tea', amount: 2 };

describe('on an ActiveMQ Classic', function () {
  this.timeout(30_000);
  let broker: Broker;

  before(async function () {
    this.timeout(300_000); // the first time, it is fetched
    await needed(this, 'ActiveMQ Classic', () => activemq.prepare());
    broker = await activemq.start({ queues: [], topics: [] });
  });
  after(() => broker?.stop());

  /** A sender that has its address from the msg, a receiver, and one of the dead letters. */
  const loadNodes = (receiver: object): Promise<void> =>
    load(
      flow(
        endpointNode(broker.port),
        node('amqp-sender', { address: '', wires: [] }),
        node('amqp-receiver', receiver),
        node('amqp-receiver', { id: 'letters', address: 'queue://ActiveMQ.DLQ', wires: [['dead']] }),
        { id: 'dead', type: 'helper', z: 'flow', x: 0, y: 0, wires: [] },
      ),
    );

  describe('the flow Systems/ActiveMQ Classic', () => {
    startExamples();
    beforeEach(() => loadExample('Systems/ActiveMQ Classic.json', broker.port));

    it('tries an order three times, with pauses of its own, looks at the dead letter, and moves it back', async () => {
      const [attempts, givenUp] = [allShown('failed attempt', 3), shown('given up')];
      const times = timesAt(idOf('debug', 'failed attempt'));
      press('1. send an order');
      should((await attempts).map(({ amqp }) => amqp?.['delivery_count'] ?? 0)).deepEqual([0, 1, 2]);
      should((await givenUp).error).match({ code: 'AMQP_ATTEMPTS' });
      const [first, second, third] = times as [number, number, number];
      for (const pause of [second - first, third - second]) should(pause).be.aboveOrEqual(990);
      await isDead(1);

      for (let looks = 0; looks < 2; looks++) {
        const seen = shown('seen');
        press('2. look at dead letters');
        should((await seen).payload).deepEqual(ORDER);
      }
      await isDead(1);

      press('4. switch the machine on');
      const processed = shown('processed');
      press('5. move one back');
      should((await processed).payload).deepEqual(ORDER);
      await isDead(0);
      should(times.length).equal(3);
    });

    it('has messages arrive after a time, and at a time', async () => {
      const due = allShown('due', 2);
      const start = Date.now();
      const times = timesAt(idOf('debug', 'due'));
      press('7. at a time');
      press('6. in two seconds');
      const [delayed, timed] = await due;
      should(delayed!.payload).equal('in two seconds');
      should(times[0]! - start).be.aboveOrEqual(1990);
      should(times[1]!).be.aboveOrEqual(Number(timed!.payload) - 10);
    });

    it('gives each group of jobs to one of two workers, in order', () => shareGroups('8. six jobs of two groups'));

    it('shares a virtual topic between two readers, and keeps what comes while both are away', async () => {
      const readers = ['A', 'B'].map((name) => idOf('amqp-receiver', `reader ${name}`));
      await Promise.all(readers.map((id) => status(id, '.connected')));
      const both = ['A', 'B'].map((name) => allShown(`read by ${name}`, 2));
      press('9. publish four news');
      should((await Promise.all(both)).flatMap(payloadsOf).toSorted(byText)).deepEqual([1, 2, 3, 4]);

      for (const id of readers) inject(id, { action: 'detach' });
      await Promise.all(readers.map((id) => status(id, '.detached')));
      const published = allShown('published', 4);
      press('9. publish four news');
      await published;
      const later = allShown('read by A', 4);
      inject(readers[0]!, { action: 'subscribe' });
      should(payloadsOf(await later)).deepEqual([1, 2, 3, 4]);
    });
  });

  describe('as its page says,', () => {
    before(() => helper.startServer());
    after(() => helper.stopServer());
    afterEach(() => helper.unload());
    it('what is sent twice arrives twice, whatever is the same about both', async () => {
      await loadNodes({ address: 'queue://twice' });
      const arrived = messages('out', 2);
      const amqp = { message_id: 'one', application_properties: { _AMQ_DUPL_ID: 'one' } };
      for (let time = 0; time < 2; time++) await send({ payload: 'tea', topic: 'queue://twice', amqp });
      should((await arrived).map(({ amqp: of }) => of?.['message_id'])).deepEqual(['one', 'one']);
    });

    it('each topic gives its last message to those who come later, where it is told to', async () => {
      await loadNodes({ address: '' });
      for (const [item, price] of Object.entries({ tea: 2, coffee: 3 }))
        for (const payload of [price * 2, price]) await send({ payload, topic: `topic://prices.${item}` });
      const arrived = messages('out', 3);
      inject('receiver', { action: 'subscribe', address: 'topic://prices.>' });
      await status('receiver', '.connected');
      await send({ payload: 1, topic: 'topic://prices.tea' });
      should(payloadsOf(await arrived).toSorted(byText)).deepEqual([1, 2, 3]);
    });

    it('the queue of a virtual topic begins with its first reader', async () => {
      await loadNodes({ address: '' });
      await send({ payload: 'before', topic: 'topic://VirtualTopic.early' });
      inject('receiver', { action: 'subscribe', address: 'queue://Consumer.readers.VirtualTopic.early' });
      await status('receiver', '.connected');
      const arrived = message('out');
      await send({ payload: 'after', topic: 'topic://VirtualTopic.early' });
      should((await arrived).payload).equal('after');
    });

    it('what failed comes again, however often, and what is rejected is a dead letter, with the address that it was sent to', async () => {
      await loadNodes({ address: 'queue://failing', settle: 'flow' });
      const [attempts, dead] = [messages('out', 20), message('dead')];
      helper.getNode('out').on('input', (msg: Msg) => {
        inject('receiver', { ...msg, settle: Number(msg.amqp?.['delivery_count'] ?? 0) < 19 ? 'modify' : 'reject' });
      });
      await send({ payload: 'tea', topic: 'queue://failing' });
      should((await attempts).map(({ amqp }) => amqp?.['delivery_count'] ?? 0)).deepEqual([...Array(20).keys()]);
      should(await dead).match({ payload: 'tea', topic: 'queue://failing' });
    });

    it('what is rejected comes again after a pause, where the redelivery plugin is on, and is a dead letter in the end', async () => {
      await loadNodes({ address: 'queue://patient', settle: 'flow' });
      const [attempts, dead] = [messages('out', 3), message('dead')];
      const times = timesAt('out');
      helper.getNode('out').on('input', (msg: Msg) => inject('receiver', { ...msg, settle: 'reject' }));
      await send({ payload: 'tea', topic: 'queue://patient' });
      should((await attempts).map(({ amqp }) => amqp?.['delivery_count'] ?? 0)).deepEqual([0, 1, 2]);
      const [first, second, third] = times as [number, number, number];
      for (const pause of [second - first, third - second]) should(pause).be.aboveOrEqual(990);
      should(await dead).match({ payload: 'tea', topic: 'queue://patient' });
      should(times.length).equal(3);
    });

    it('a message is repeated as its properties ask for', async () => {
      await loadNodes({ address: 'queue://repeated' });
      const arrived = messages('out', 3);
      const start = Date.now();
      const properties = { AMQ_SCHEDULED_DELAY: 1000, AMQ_SCHEDULED_PERIOD: 500, AMQ_SCHEDULED_REPEAT: 2 };
      await send({ payload: 'tea', topic: 'queue://repeated', amqp: { application_properties: properties } });
      should(payloadsOf(await arrived)).deepEqual(['tea', 'tea', 'tea']);
      should(Date.now() - start).be.aboveOrEqual(1990);
    });

    it('nobody tells how long a queue is, where the statistics plugin is off', async () => {
      const plain = await activemqWith({}).start({ queues: [], topics: [] });
      try {
        const address = 'queue://ActiveMQ.Statistics.Destination.ActiveMQ.DLQ';
        await load(flow(endpointNode(plain.port), node('amqp-requester', { address, timeout: 1 })));
        const failed = message('caught');
        inject('requester', { payload: '' });
        should((await failed).error).match({ code: 'AMQP_REPLY_TIMEOUT' });
        await helper.unload();
      } finally {
        await plain.stop();
      }
    });
  });
});

/** Asks until there are so many dead letters: the server takes its time. Another number lets the test time out. */
async function isDead(count: number): Promise<void> {
  for (;;) {
    const answer = shown('answer');
    press('3. how many dead letters?');
    const { payload } = await answer;
    if ((payload as { size: number }).size === count) return;
  }
}
