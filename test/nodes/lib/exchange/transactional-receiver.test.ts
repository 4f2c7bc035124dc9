import { EventEmitter, once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import rhea from 'rhea';
import should from 'should';
import { Connection } from '../../../../nodes/lib/connection/connection';
import type { AmqpError } from '../../../../nodes/lib/errors';
import { TransactionalReceiver } from '../../../../nodes/lib/exchange/transactional-receiver';
import { Entry, type Sent } from '../../../../nodes/lib/link/entry';
import type { Received, ReceiverOptions } from '../../../../nodes/lib/receiver/receiver';
import type { SenderOptions } from '../../../../nodes/lib/sender/sender';
import type { Outcome } from '../../../../nodes/lib/wire/outcome';
import { Broker, type BrokerOptions, COORDINATOR } from '../../../../broker/broker';

const ACCEPT: Outcome = { settle: 'accept' };
const ROLLED_BACK = { code: 'AMQP_TRANSACTION' };

/** Of who sends to this address. */
const to = (address: string): SenderOptions => ({
  name: `to-${address}`,
  address,
  guarantee: 'at-least-once',
  buffer: 100,
  bufferBytes: Infinity,
  full: 'refuse',
  retryTime: 60_000,
  timeout: 0,
});

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await delay(2);
}

describe('a receiver in transactions', () => {
  let broker: Broker;
  let connection: Connection;
  let receiver: TransactionalReceiver;
  let got: Received[];
  let events: EventEmitter;
  const [invoices, parcels] = [to('invoices'), to('parcels')];

  async function open(options: Partial<ReceiverOptions> = {}, brokerOptions: BrokerOptions = {}): Promise<void> {
    broker = await Broker.start({ transactions: true, maxDeliveries: 100, ...brokerOptions });
    const backoff = { initial: 10, max: 10 };
    connection = new Connection({
      servers: [{ host: '127.0.0.1', port: broker.port }],
      containerId: 'test',
      connectTimeout: 5000,
      idleTimeout: 0,
      backoff,
      loginBackoff: backoff,
    });
    got = [];
    events = new EventEmitter();
    receiver = new TransactionalReceiver(
      connection,
      {
        name: 'node',
        address: 'orders',
        settle: 'flow',
        creditWindow: 10,
        windowBytes: 2 ** 26,
        settleTimeout: 0,
        styles: { fields: 'exact', body: 'plain' },
        ...options,
      },
      {
        message: (incoming, delivery) => {
          got.push({ incoming, delivery });
          events.emit('message');
        },
        undelivered: () => ({ settle: 'modify' }),
        undecodable: () => {},
      },
    );
    receiver.open();
    connection.open();
    broker.put('orders', { body: 'order' });
  }

  afterEach(async () => {
    await receiver.close();
    await connection.close();
    while (broker.connections() > 0 || broker.transactions.size > 0) await delay(5);
    await broker.stop();
  });

  /** The token of a message, once so many have come. */
  async function token(count = 1): Promise<string> {
    while (got.length < count) await once(events, 'message');
    return got[count - 1]!.delivery.id!;
  }

  function send(id: string, options: SenderOptions, body: unknown = 'sent'): Promise<Sent> {
    return new Promise((resolve, reject) => {
      const bytes = rhea.message.encode({ body });
      receiver.send(id, new Entry(bytes, (error, sent) => (error ? reject(error) : resolve(sent))), options);
    });
  }

  function settle(id: string, outcome = ACCEPT): Promise<void> {
    return new Promise((resolve, reject) =>
      receiver.settle(id, outcome, (error?: AmqpError) => (error ? reject(error) : resolve())),
    );
  }

  const depths = (): Record<string, number> => ({
    orders: broker.depth('orders'),
    invoices: broker.depth('invoices'),
    parcels: broker.depth('parcels'),
  });

  async function reached(state: string): Promise<void> {
    while (receiver.state.name !== state) await once(receiver, 'state');
  }

  /** The message came again, and is answered in a transaction that lasts. */
  async function answeredAgain(count = 2): Promise<void> {
    const again = await token(count);
    await send(again, invoices, 'again');
    await settle(again);
    should(depths()).eql({ orders: 0, invoices: 1, parcels: 0 });
    should(broker.messages('invoices')[0]!.body).equal('again');
  }

  it('has the peer take what is sent, and forget the message, at once', async () => {
    await open();
    const id = await token();
    should(await send(id, invoices)).match({ state: 'accepted', address: 'invoices' });
    await send(id, parcels);
    should(depths()).eql({ orders: 1, invoices: 0, parcels: 0 });
    await settle(id);
    should(depths()).eql({ orders: 0, invoices: 1, parcels: 1 });
    should(broker.transactions.steps).eql(['declare', 'commit']);
  });

  it('begins none for a message that nothing is sent for', async () => {
    await open();
    await settle(await token());
    await until(() => broker.depth('orders') === 0);
    broker.put('orders', { body: 'next' });
    await settle(await token(2), { settle: 'release' });
    should(broker.transactions.steps).be.empty();
    should(broker.transactions.size).equal(0);
  });

  it('is over with many messages, one after another', async () => {
    await open();
    for (let count = 1; count <= 50; count++) {
      const id = await token(count);
      if (count < 50) broker.put('orders', { body: count });
      await Promise.all([send(id, invoices, count), send(id, parcels, count)]);
      await settle(id);
    }
    should(depths()).eql({ orders: 0, invoices: 50, parcels: 50 });
    should(broker.messages('invoices').map((message) => message!.body)).eql(
      Array.from({ length: 50 }, (_, i) => i + 1),
    );
  });

  it('may have the peer answer outcomes', async () => {
    await open({ isAnswered: true });
    const id = await token();
    await send(id, invoices);
    receiver.fail(id, { settle: 'release' });
    const next = await token(2);
    await send(next, invoices);
    broker.transactions.answer('commit', { condition: 'amqp:transaction:rollback' }, 1);
    await should(settle(next)).be.rejectedWith(ROLLED_BACK);
    await answeredAgain(3);
    broker.put('orders', { body: 'nothing to send' });
    await settle(await token(4));
    should(broker.depth('orders')).equal(0);
  });

  it('sends messages of several frames', async () => {
    await open({}, { maxFrameSize: 512 });
    const id = await token();
    await send(id, invoices, 'x'.repeat(5000));
    await settle(id);
    should(broker.messages('invoices')[0]!.body).equal('x'.repeat(5000));
  });

  for (const outcome of [
    { settle: 'release' },
    { settle: 'modify' },
    { settle: 'reject', error: { condition: 'a' } },
  ] as Outcome[]) {
    it(`has the peer forget what was sent when the message comes to "${outcome.settle}"`, async () => {
      await open();
      const id = await token();
      await send(id, invoices);
      await settle(id, outcome);
      await until(() => broker.transactions.size === 0);
      should(broker.transactions.steps).eql(['declare', 'rollback']);
      should(broker.depth('invoices')).equal(0);
      if (outcome.settle === 'reject') should(broker.depth('DLQ')).equal(1);
      else await answeredAgain();
    });
  }

  it('rolls back when the flow fails, and the message comes again', async () => {
    await open();
    const id = await token();
    await send(id, invoices);
    receiver.fail(id, { settle: 'release' });
    await answeredAgain();
    should(broker.transactions.steps).eql(['declare', 'rollback', 'declare', 'commit']);
  });

  it('rolls back when the flow fails while something is on its way, which fails too', async () => {
    await open();
    broker.answer('invoices', 'none', 1);
    const id = await token();
    const sent = should(send(id, invoices)).be.rejectedWith(ROLLED_BACK);
    await until(() => (broker.received['invoices'] ?? 0) > 0);
    receiver.fail(id, { settle: 'release' });
    await sent;
    await answeredAgain();
  });

  it('rolls all back when one of them is not taken, even if the flow accepts the message', async () => {
    await open();
    const id = await token();
    await send(id, invoices);
    broker.answer('parcels', 'reject', 1);
    await should(send(id, parcels)).be.rejectedWith({ code: 'AMQP_REJECTED' });
    await should(settle(id)).be.rejectedWith(ROLLED_BACK);
    await should(settle(id)).be.rejectedWith(ROLLED_BACK);
    should(depths()).eql({ orders: 1, invoices: 0, parcels: 0 });
    should(receiver.holds(id)).equal(true);
    receiver.fail(id, { settle: 'release' });
    await answeredAgain();
  });

  it('commits once all that is on its way has its outcome', async () => {
    await open();
    broker.holdCredit('parcels');
    const id = await token();
    await send(id, invoices);
    const sent = send(id, parcels);
    const settled = settle(id);
    await delay(30);
    should(broker.transactions.steps).eql(['declare']);
    should(receiver.holds(id)).equal(true);
    broker.giveCredit('parcels');
    await Promise.all([sent, settled]);
    should(depths()).eql({ orders: 0, invoices: 1, parcels: 1 });
  });

  it('does not commit when what it waits for is not taken', async () => {
    await open();
    broker.holdCredit('parcels');
    broker.answer('parcels', 'reject', 1);
    const id = await token();
    const sent = should(send(id, parcels)).be.rejectedWith({ code: 'AMQP_REJECTED' });
    const settled = should(settle(id)).be.rejectedWith(ROLLED_BACK);
    await delay(20);
    broker.giveCredit('parcels');
    await Promise.all([sent, settled]);
    should(broker.depth('parcels')).equal(0);
    receiver.fail(id, { settle: 'release' });
    await answeredAgain();
  });

  it('commits once where several say that the flow is done', async () => {
    await open();
    broker.holdCredit('invoices');
    const id = await token();
    const sent = send(id, invoices);
    const settled = [settle(id), settle(id), settle(id)];
    await delay(20);
    broker.giveCredit('invoices');
    await Promise.all([sent, ...settled]);
    should(broker.transactions.steps).eql(['declare', 'commit']);
  });

  it('does not wait to commit when the flow fails meanwhile', async () => {
    await open();
    broker.answer('invoices', 'none', 1);
    const id = await token();
    const sent = should(send(id, invoices)).be.rejectedWith(ROLLED_BACK);
    await until(() => (broker.received['invoices'] ?? 0) > 0);
    const settled = should(settle(id)).be.rejectedWith(ROLLED_BACK);
    receiver.fail(id, { settle: 'release' });
    await Promise.all([sent, settled]);
    await answeredAgain();
  });

  for (const commits of [false, true]) {
    it(`rolls back what the flow ${commits ? 'has accepted and is still on its way' : 'does not settle'} in time`, async () => {
      await open({ settleTimeout: 60 });
      broker.answer('invoices', 'none', 1);
      const id = await token();
      const sent = should(send(id, invoices)).be.rejectedWith(ROLLED_BACK);
      const settled = commits && should(settle(id)).be.rejectedWith(ROLLED_BACK);
      await Promise.all([sent, settled]);
      await until(() => broker.transactions.size === 0);
      await should(send(id, parcels)).be.rejectedWith({ code: 'AMQP_DELIVERY_SETTLED' });
      should(() => receiver.settle(id, ACCEPT)).throw({ code: 'AMQP_DELIVERY_SETTLED' });
      await answeredAgain(got.length + (receiver.holds(got.at(-1)!.delivery.id!) ? 0 : 1));
    });
  }

  it('takes one message at a time, whatever is asked for', async () => {
    await open();
    broker.put('orders', { body: 'second' });
    const id = await token();
    receiver.grant(10);
    await delay(20);
    should(got).have.length(1);
    await settle(id);
    await settle(await token(2));
  });

  it('fails what is sent, and the message, where the peer begins no transaction', async () => {
    await open();
    broker.transactions.answer('declare', { condition: 'amqp:resource-limit-exceeded' }, 1);
    const id = await token();
    const refused = { code: 'AMQP_TRANSACTION', condition: 'amqp:resource-limit-exceeded' };
    await should(send(id, invoices)).be.rejectedWith(refused);
    await should(settle(id)).be.rejectedWith(refused);
    await should(settle(id)).be.rejectedWith(ROLLED_BACK);
    receiver.fail(id, { settle: 'release' });
    await answeredAgain();
  });

  it('says so where the peer does not commit: the message comes again', async () => {
    await open();
    broker.transactions.answer('commit', { condition: 'amqp:transaction:rollback', description: 'deadlock' }, 1);
    const id = await token();
    await send(id, invoices);
    await should(settle(id)).be.rejectedWith({ code: 'AMQP_TRANSACTION', description: 'deadlock' });
    should(broker.depth('invoices')).equal(0);
    await answeredAgain();
  });

  it('may leave out what is to be told', async () => {
    await open();
    broker.transactions.answer('commit', { condition: 'amqp:transaction:rollback' }, 1);
    const id = await token();
    await send(id, invoices);
    receiver.settle(id, ACCEPT);
    await answeredAgain();
  });

  it('is in doubt of a commit whose answer is lost with the connection', async () => {
    await open();
    broker.transactions.answer('commit', 'done-drop', 1);
    const id = await token();
    await send(id, invoices);
    await should(settle(id)).be.rejectedWith({ code: 'AMQP_IN_DOUBT' });
    should(depths()).eql({ orders: 0, invoices: 1, parcels: 0 });
  });

  for (const turn of ['drop', 'end'] as const) {
    it(`is in doubt of a commit that was lost ("${turn}"): the message comes again`, async () => {
      await open();
      broker.transactions.answer('commit', turn, 1);
      const id = await token();
      await send(id, invoices);
      await should(settle(id)).be.rejectedWith({ code: 'AMQP_IN_DOUBT' });
      await answeredAgain();
    });
  }

  it('has nothing of a transaction whose connection is lost before the commit', async () => {
    await open();
    const id = await token();
    await send(id, invoices);
    broker.answer('parcels', 'none', 1);
    const sent = should(send(id, parcels)).be.rejectedWith({ code: /AMQP_(TRANSACTION|IN_DOUBT)/ });
    const settled = should(settle(id)).be.rejectedWith(ROLLED_BACK);
    await until(() => (broker.received['parcels'] ?? 0) > 0);
    broker.dropSockets();
    await Promise.all([sent, settled]);
    should(() => receiver.settle(id, ACCEPT)).throw({ code: 'AMQP_DELIVERY_LOST' });
    await should(send(id, invoices)).be.rejectedWith({ code: 'AMQP_DELIVERY_LOST' });
    await answeredAgain();
  });

  it('has nothing of a transaction whose session the peer ends', async () => {
    await open();
    const id = await token();
    await send(id, invoices);
    broker.endSessions('orders', { condition: 'amqp:internal-error' });
    await until(() => !receiver.holds(id));
    await answeredAgain();
  });

  it('has nothing of a transaction whose coordinator goes', async () => {
    await open();
    const id = await token();
    await send(id, invoices);
    broker.detach(COORDINATOR, { condition: 'amqp:internal-error' });
    await reached('refused');
    await until(() => !receiver.holds(id));
    await reached('connected');
    await answeredAgain();
  });

  it('has nothing of a transaction one of whose senders is detached in between', async () => {
    await open();
    broker.answer('parcels', 'none', 1);
    const id = await token();
    await send(id, invoices);
    const sent = should(send(id, parcels)).be.rejectedWith({ code: 'AMQP_IN_DOUBT' });
    await until(() => (broker.received['parcels'] ?? 0) > 0);
    broker.detach('parcels', { condition: 'amqp:internal-error' });
    await sent;
    await should(settle(id)).be.rejectedWith(ROLLED_BACK);
    receiver.fail(id, { settle: 'release' });
    await answeredAgain();
  });

  it('receives nothing where there is no coordinator', async () => {
    await open({}, { transactions: false });
    await reached('refused');
    should(receiver.state).match({ error: { condition: 'amqp:not-implemented' } });
    await delay(50);
    should(got).be.empty();
    should(broker.links()).be.empty();
    await should(receiver.subscribe()).be.fulfilledWith(true);
    await delay(20);
    should(got).be.empty();
  });

  it('receives nothing while there is no coordinator any more', async () => {
    await open();
    await settle(await token());
    await until(() => broker.depth('orders') === 0);
    broker.refuse(COORDINATOR, { condition: 'amqp:not-allowed' });
    broker.dropSockets();
    await reached('refused');
    await until(() => !broker.links().some(({ address }) => address === 'orders'));
    broker.put('orders', { body: 'order' });
    await delay(50);
    should(got).have.length(1);
    broker.allow(COORDINATOR);
    await answeredAgain();
  });

  it('goes on with another sender of the same name: one that was deployed anew', async () => {
    await open();
    const id = await token();
    await send(id, invoices);
    await settle(id);
    broker.put('orders', { body: 'next' });
    const next = await token(2);
    await send(next, { ...invoices });
    await settle(next);
    should(depths()).eql({ orders: 0, invoices: 2, parcels: 0 });
    should(broker.links().filter(({ address }) => address === 'invoices')).have.length(1);
  });

  it('has nothing of a transaction whose sender is deployed anew while something is on its way', async () => {
    await open();
    broker.answer('invoices', 'none', 1);
    const id = await token();
    const sent = should(send(id, invoices)).be.rejectedWith({ code: 'AMQP_SHUTDOWN' });
    await until(() => (broker.received['invoices'] ?? 0) > 0);
    await send(id, { ...invoices });
    await sent;
    await should(settle(id)).be.rejectedWith(ROLLED_BACK);
    should(depths()).eql({ orders: 1, invoices: 0, parcels: 0 });
    receiver.fail(id, { settle: 'release' });
    await answeredAgain();
  });

  it('rolls back when it is closed', async () => {
    await open();
    const id = await token();
    await send(id, invoices);
    broker.holdCredit('parcels');
    const sent = should(send(id, parcels)).be.rejectedWith(ROLLED_BACK);
    await receiver.close();
    await sent;
    await until(() => broker.transactions.size === 0);
    should(depths()).eql({ orders: 1, invoices: 0, parcels: 0 });
    should(broker.links()).be.empty();
  });

  it('waits when it is closed for the answer to a commit', async () => {
    await open();
    const id = await token();
    await send(id, invoices);
    const settled = settle(id);
    await until(() => !receiver.holds(id));
    await Promise.all([receiver.close(), settled]);
    should(depths()).eql({ orders: 0, invoices: 1, parcels: 0 });
  });

  it('leaves the flow the time to settle what it has, in its transaction', async () => {
    await open();
    broker.put('orders', { body: 'second' });
    const id = await token();
    await send(id, invoices);
    const left = receiver.leave(5000);
    await send(id, parcels);
    const settled = settle(id);
    await left;
    await Promise.all([receiver.close(), settled]);
    should(depths()).eql({ orders: 1, invoices: 1, parcels: 1 });
  });

  it('stays detached by the flow, also after a reconnect, until it subscribes again', async () => {
    await open();
    const id = await token();
    await send(id, invoices);
    await receiver.detach();
    await until(() => broker.transactions.size === 0);
    broker.dropSockets();
    await until(() => connection.state.name !== 'connected');
    await until(() => broker.links().some(({ address }) => address === COORDINATOR));
    await delay(20);
    should(receiver.state.name).equal('detached');
    should(got).have.length(1);
    await receiver.subscribe();
    await answeredAgain();
  });

  it('has its transactions beside those of another one', async () => {
    await open();
    const seen = new EventEmitter();
    const other = new TransactionalReceiver(
      connection,
      {
        name: 'other',
        address: 'returns',
        settle: 'flow',
        creditWindow: 1,
        windowBytes: 2 ** 26,
        settleTimeout: 0,
        styles: { fields: 'exact', body: 'plain' },
      },
      {
        message: (_incoming, delivery) => seen.emit('message', delivery.id),
        undelivered: () => ({ settle: 'modify' }),
        undecodable: () => {},
      },
    );
    const came = once(seen, 'message');
    other.open();
    broker.put('returns', { body: 'return' });
    const [id, [otherId]] = await Promise.all([token(), came]);
    should(receiver.holds(otherId)).equal(false);
    await send(id, invoices, 'of the order');
    await new Promise<void>((resolve) =>
      other.send(otherId, new Entry(rhea.message.encode({ body: 'of the return' }), () => resolve()), parcels),
    );
    should(broker.transactions.size).equal(2);
    other.fail(otherId, { settle: 'release' });
    await settle(id);
    should(depths()).eql({ orders: 0, invoices: 1, parcels: 0 });
    await other.close();
  });
});
