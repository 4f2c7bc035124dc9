// The example Systems/RabbitMQ 4 as it is shipped, on the real RabbitMQ: only the port is changed. Nobody logs in, as on a
// new installation. Streams, filters, direct reply-to and management by themselves are in rabbitmq-4.test.ts, tokens in
// reach.test.ts.
import should from 'should';
import { allShown, idOf, isConnected, loadExample, press, shown, startExamples } from '../example';
import { collect, helper, type Msg } from '../flow';
import { needed } from './broker';
import { peerNamed } from './peers';
import { type RabbitMQ, rabbitmq40, rabbitmq43 } from './rabbitmq';
import { Trial } from './trial';

const FILE = 'Systems/RabbitMQ 4.json';

type Told = { status: string; answer: { name: string; type: string; message_count: number } };

const payloads = (msgs: Msg[]) => msgs.map(({ payload }) => payload);
const times = (count: number, word: string) => Array.from({ length: count }, () => word);
const annotations = ({ amqp }: Msg) => amqp!['message_annotations'] as Record<string, unknown>;

/** What the answers to the requests of an inject node are. */
async function told(button: string, count: number): Promise<Told[]> {
  const replies = allShown('reply', count);
  press(button);
  return payloads(await replies) as Told[];
}

/** Of what is made: exchanges, queues, bindings. */
const ofQueues = (status: string) => [...times(2, '204'), ...times(4, status), ...times(3, '204')];
const statuses = (answers: Told[]) => answers.map(({ status }) => status);

/** Resolves once the queues hold so many orders and dead letters. */
async function holding(orders: number, deadLetters: number): Promise<void> {
  for (;;) {
    const [first, second] = await told('9. inspect', 4);
    if (first!.answer.message_count === orders && second!.answer.message_count === deadLetters) return;
  }
}

async function order(button: string): Promise<void> {
  const sent = shown('sent');
  press(button);
  should((await sent).sent).match({ address: '/exchanges/example.rabbit.events/order.new', state: 'accepted' });
}

for (const [version, kind] of [
  ['4.0', rabbitmq40],
  ['4.3', rabbitmq43],
] as const) {
  describe(`on RabbitMQ ${version}`, function () {
    this.timeout(30_000);

    let broker: RabbitMQ;

    before(async function () {
      this.timeout(300_000); // the first time, it is fetched
      await needed(this, `RabbitMQ ${version}`, () => kind.prepare());
      const toDeadLetters = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'rejected' };
      broker = await kind.startWith({
        queues: ['rejected', { name: 'in', arguments: { 'x-queue-type': 'quorum', ...toDeadLetters } }],
      });
    });
    after(() => broker?.stop());

    describe('the example', () => {
      // Also where a hook has failed, and those behind it are left out.
      after(() => helper.unload());

      let made: Told[];
      // Before the flow ends.
      afterEach(() => told('11. delete all', 6));
      startExamples();
      beforeEach(async () => {
        await loadExample(FILE, broker.port);
        made = await told('1. set up', 9);
      });

      it('makes two exchanges, four queues and three bindings, and may do so again', async () => {
        should(statuses(made)).eql(ofQueues('201'));
        should(made.slice(2, 6).map(({ answer: { name, type } }) => [name, type])).eql([
          ['example.rabbit.orders', 'quorum'],
          ['example.rabbit.deadletters', 'quorum'],
          ['example.rabbit.log', 'stream'],
          ['example.rabbit.prices', 'quorum'],
        ]);
        should(statuses(await told('1. set up', 9))).eql(ofQueues('200'));
        const [, , , bindings] = await told('9. inspect', 4);
        should(bindings!.answer).match([
          { source: 'example.rabbit.events', destination_queue: 'example.rabbit.orders', binding_key: 'order.*' },
        ]);
      });

      it('processes what is sent to the exchange once, from the quorum queue', async () => {
        const processed = collect(idOf('debug', 'processed'));
        await order('2. order tea');
        await order('3. order coffee');
        await isConnected('amqp-receiver', 'orders');
        await holding(0, 0);
        should(payloads(processed)).eql([
          { item: 'tea', amount: 2 },
          { item: 'coffee', amount: 1 },
        ]);
        for (const msg of processed) {
          should(annotations(msg)).match({ 'x-exchange': 'example.rabbit.events', 'x-routing-key': 'order.new' });
          should(msg.amqp).match({ first_acquirer: true, delivery_count: 0 });
        }
      });

      it('reads dead letters one by one, with the reason of RabbitMQ and that of the flow', async () => {
        const attempts = collect(idOf('debug', 'attempt failed'));
        const letters = collect(idOf('change', 'order and reason'));
        await order('4. order nothing');
        await holding(0, 1);
        await order('5. order without an amount');
        await holding(0, 2);
        should(attempts.map(({ amqp }) => amqp!['delivery_count'])).eql([0, 1, 2]);
        should(letters).be.empty();

        await isConnected('amqp-receiver', 'dead letters');
        const queue = 'example.rabbit.orders';
        for (const [left, expected] of [
          [1, { order: { amount: 2 }, reason: 'rejected', queue, why: 'an order needs an item' }],
          [0, { order: { item: 'tea' }, reason: 'delivery_limit', queue }],
        ] as const) {
          const letter = shown('dead letter');
          press('6. read a dead letter');
          should((await letter).payload).eql(expected);
          await holding(0, left);
        }
        for (const [index, reason] of ['rejected', 'delivery_limit'].entries()) {
          const names = { reason, queue, exchange: 'example.rabbit.events' };
          const of = (which: string) =>
            Object.fromEntries(Object.entries(names).map(([name, value]) => [`x-${which}-death-${name}`, value]));
          should(annotations(letters[index]!)).match({ ...of('first'), ...of('last') });
          const deaths = annotations(letters[index]!)['x-opt-deaths'] as { value: { value: [{ value: string }][] }[] };
          should(deaths.value).have.length(1);
          should(deaths.value[0]!.value.map(([name]) => name.value)).eql([
            'queue',
            'reason',
            'count',
            'first-time',
            'last-time',
            'exchange',
            'routing-keys',
          ]);
        }
      });

      it('empties the dead letters, and says how many there were', async () => {
        await order('4. order nothing');
        await order('4. order nothing');
        await holding(0, 2);
        should(await told('10. empty the dead letters', 1)).eql([{ status: '200', answer: { message_count: 2 } }]);
        await holding(0, 0);
      });

      it('reads the stream from message 1 on, only tea and coffee, as often as one likes', async () => {
        for (const button of [
          '2. order tea',
          '3. order coffee',
          '4. order nothing',
          '5. order without an amount',
          '3. order coffee',
        ])
          await order(button);
        const all = collect(idOf('debug', 'in the stream'));
        const expected = [
          { number: 1, order: { item: 'coffee', amount: 1 } },
          { number: 3, order: { item: 'tea' } },
          { number: 4, order: { item: 'coffee', amount: 1 } },
        ];
        for (let reads = 1; reads <= 2; reads++) {
          const read = allShown('in the stream', 3);
          press('7. read the stream');
          should(payloads(await read)).eql(expected);
        }
        should(all).have.length(6);
      });

      if (version !== '4.0')
        it('gets the answer to what it asks without a queue for replies', async () => {
          await isConnected('amqp-responder', 'prices');
          const [price, asked] = [shown('price'), collect(idOf('change', 'look it up'))];
          press('8. ask for the price of tea');
          should((await price).payload).equal(2.5);
          should(asked.map(({ amqp }) => amqp)).match([{ reply_to: /^\/queues\/amq\.rabbitmq\.reply-to\./ }]);
          const names = ['in', 'rejected', ...['orders', 'deadletters', 'log', 'prices'].map(named)];
          should(await broker.depths()).have.only.keys(...names);
        });

      it('says what is not there once all is deleted, and goes on when it is made anew', async () => {
        await isConnected('amqp-receiver', 'orders');
        should(statuses(await told('11. delete all', 6))).eql([...times(4, '200'), ...times(2, '204')]);
        should(await broker.depths()).have.only.keys('in', 'rejected');
        const [refused, bindings] = [allShown('why not', 3), told('9. inspect', 1)];
        should((await refused).map(({ error }) => error)).match(
          ['orders', 'deadletters', 'log'].map((queue) => ({
            code: 'AMQP_REPLY_STATUS',
            message: new RegExp(`404 \\(queue '${named(queue)}' in vhost '/' not found\\)`),
          })),
        );
        should(await bindings).eql([{ status: '200', answer: [] }]);

        should(statuses(await told('1. set up', 9))).eql(statuses(made));
        const processed = shown('processed');
        await order('2. order tea');
        should((await processed).payload).eql({ item: 'tea', amount: 2 });
        await holding(0, 0);
      });
    });

    describe('a receiver that rejects', () => {
      let trial: Trial;
      before(() => helper.startServer());
      after(() => helper.stopServer());
      beforeEach(() => {
        trial = new Trial(peerNamed(`RabbitMQ ${version}`), broker);
      });
      afterEach(() => trial.end());

      it('has its own reason lost: the dead letter has that of RabbitMQ alone', async () => {
        await trial.load([
          trial.sender({ address: '/queues/in' }),
          trial.receiver({ id: 'rejecting', address: '/queues/in', settle: 'flow', wires: [['given']] }),
          trial.receiver({ address: '/queues/rejected' }),
        ]);
        const [given, letters] = [trial.inbox('given'), trial.inbox()];
        await trial.deliver({ payload: 'an order' });
        const error = { condition: 'amqp:decode-error', description: 'an order needs an item' };
        trial.send({ ...(await given.next()), settle: 'reject', error }, 'rejecting');
        const letter = await letters.next();
        should(annotations(letter)).match({ 'x-last-death-reason': 'rejected', 'x-last-death-queue': 'in' });
        JSON.stringify(letter).should.not.containEql('needs an item').and.not.containEql('decode-error');
      });
    });
  });
}

function named(queue: string): string {
  return `example.rabbit.${queue}`;
}
