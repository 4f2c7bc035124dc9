// A flow that takes one message and sends several, all or nothing.
import { setTimeout as delay } from 'node:timers/promises';
import should from 'should';
import { collect, endpointNode, flow, helper, inject, load, message, type Msg, node, status } from '../flow';
import type { NodeConfig } from '../node-red';
import { Broker, type BrokerOptions } from '../../broker/broker';

type Work = (msg: Msg, done: (error?: Error) => void) => void;
const pass: Work = (msg) => inject('invoices', msg);
const hold: Work = () => {};
const printThenFail: Work = (msg, done) => {
  void message('alone-sent').then(() => done(new Error('out of paper')));
  inject('alone', msg);
};
const print: Work = (msg) => inject('alone', msg);
const printAndAccept: Work = (msg) => {
  inject('alone', { ...msg, payload: 'late' });
  inject('receiver', { ...msg });
};
const sendElsewhere: Work = (msg, done) => {
  void message('audited').then(() => {
    inject('alone', { payload: 'without delivery' });
    void message('alone-sent').then(() => done(new Error('out of paper')));
  });
  inject('audit', { ...msg });
};

function work(...steps: Work[]): void {
  helper.getNode('work').on('input', (msg, _send, done) => steps.shift()!(msg, done));
}

async function report(): Promise<unknown> {
  const shown = message('alone-sent');
  inject('alone', { action: 'status' });
  return (await shown).payload;
}

describe('a flow in transactions', () => {
  let broker: Broker;
  let configs: NodeConfig[];
  let rejections: unknown[];
  const rejected = (reason: unknown) => void rejections.push(reason);

  before(() => helper.startServer());
  after(() => helper.stopServer());
  beforeEach(() => {
    rejections = [];
    process.on('unhandledRejection', rejected);
  });
  afterEach(async () => {
    await helper.unload();
    while (broker.connections() > 0) await delay(5);
    should(broker.links()).be.empty();
    should(broker.transactions.size).equal(0);
    await broker.stop();
    process.off('unhandledRejection', rejected);
    should(rejections).be.empty();
  });

  /**
   * Orders become an invoice and a parcel: then a Complete node on the last sender, and a Catch node on all, tell the
   * receiver. The node "work" gets each msg, and does the steps in turn.
   */
  async function start(options: BrokerOptions, properties: object, ...steps: Work[]): Promise<void> {
    broker = await Broker.start({ transactions: true, ...options });
    configs = flow(
      endpointNode(broker.port),
      endpointNode(broker.port, { id: 'elsewhere' }),
      node('amqp-receiver', { address: 'orders', settle: 'flow', transaction: true, wires: [['work']], ...properties }),
      node('amqp-sender', { id: 'invoices', address: 'invoices', wires: [['parcels']], outcomes: 'accepted' }),
      node('amqp-sender', { id: 'parcels', address: 'parcels', outcomes: 'accepted' }),
      node('amqp-sender', { id: 'alone', address: 'invoices', wires: [['alone-sent']] }),
      node('amqp-sender', { id: 'audit', address: 'audit', endpoint: 'elsewhere', wires: [['audited']] }),
      ...['work', 'alone-sent', 'audited'].map((id) => ({ id, type: 'helper', z: 'flow', x: 0, y: 0, wires: [] })),
    );
    for (const config of configs) {
      if (config.type === 'catch') config['wires'] = [['caught', 'receiver']];
      if (config.type === 'complete') Object.assign(config, { scope: ['parcels'], wires: [['completed', 'receiver']] });
    }
    await load(configs);
    work(...steps);
  }

  /** What the flow gets. */
  function given(): Promise<Msg> {
    const came = message('work');
    broker.put('orders', { body: 'order' });
    return came;
  }

  const depths = () => Object.fromEntries(['orders', 'invoices', 'parcels'].map((name) => [name, broker.depth(name)]));

  async function ended(orders: number, sent: number): Promise<void> {
    while (broker.transactions.size > 0 || broker.depth('orders') > orders || broker.depth('parcels') < sent)
      await delay(5);
    should(depths()).eql({ orders, invoices: sent, parcels: sent });
  }

  /** One message is answered after those before it were not. */
  async function answered(): Promise<void> {
    await ended(0, 1);
  }

  it('takes a message, and sends others', async () => {
    await start({}, {}, pass, pass, pass);
    for (const body of ['1', '2', '3']) broker.put('orders', { body });
    await ended(0, 3);
    should(broker.messages('parcels').map((one) => one!.body)).eql(['1', '2', '3']);
    should(broker.transactions.steps).eql(['declare', 'commit', 'declare', 'commit', 'declare', 'commit']);
  });

  it('fails what is sent for a message once its transaction is over: it would go outside of it', async () => {
    await start({}, {}, pass);
    const order = await given();
    await answered();
    const caught = message('caught');
    inject('alone', { ...order, payload: 'too late' });
    should((await caught).error).match({ code: 'AMQP_DELIVERY_SETTLED', source: { id: 'alone' } });
    await ended(0, 1);
  });

  it('counts what is sent in them at its sender', async () => {
    await start({}, {}, printThenFail, pass, hold);
    broker.put('orders', { body: 'order' });
    await answered();
    should(await report()).match({ sent: 1, accepted: 1, failed: 0, buffered: 0 });
    const held = await given();
    broker.answer('invoices', 'reject', 1);
    const caught = message('caught');
    inject('alone', held);
    await caught;
    should(await report()).match({ sent: 2, accepted: 1, rejected: 1, failed: 1, buffered: 0 });
  });

  it('sends nothing when it fails: the message comes again', async () => {
    await start({}, {}, printThenFail, pass);
    broker.put('orders', { body: 'order' });
    await answered();
    should(broker.transactions.steps).eql(['declare', 'rollback', 'declare', 'commit']);
  });

  it('sends nothing when one of several is not taken', async () => {
    await start({}, {}, pass, pass);
    broker.answer('parcels', 'reject', 1);
    const caught = message('caught');
    broker.put('orders', { body: 'order' });
    should(await caught).match({ error: { code: 'AMQP_REJECTED', source: { id: 'parcels' } } });
    await answered();
  });

  it('sends nothing when a msg cannot be sent at all', async () => {
    await start({}, {}, (msg) => inject('invoices', { ...msg, amqp: { priority: 'none' } }), pass);
    broker.put('orders', { body: 'order' });
    await answered();
  });

  it('sends nothing when it takes too long: the message comes again', async () => {
    await start({}, { settletimeout: 0.1 }, print, pass);
    broker.put('orders', { body: 'order' });
    await answered();
    should(broker.transactions.steps).eql(['declare', 'rollback', 'declare', 'commit']);
  });

  it('has the last word of what is still on its way', async () => {
    await start({}, {}, printAndAccept);
    broker.holdCredit('invoices');
    const sent = message('alone-sent');
    broker.put('orders', { body: 'order' });
    while (!broker.links().some(({ name }) => name === 'receiver:alone')) await delay(5);
    await delay(20);
    should(broker.transactions.steps).eql(['declare']);
    broker.giveCredit('invoices');
    await sent;
    while (broker.depth('orders') > 0) await delay(5);
    should(broker.messages('invoices').map((one) => one!.body)).eql(['late']);
  });

  it('needs no transaction where nothing is sent', async () => {
    await start({}, {}, (msg) => inject('receiver', msg));
    broker.put('orders', { body: 'order' });
    while (broker.depth('orders') > 0) await delay(5);
    should(broker.transactions.steps).be.empty();
  });

  it('tells that a message comes again since the server did not commit', async () => {
    await start({}, {}, pass, pass);
    broker.transactions.answer('commit', { condition: 'amqp:transaction:rollback', description: 'deadlock' }, 1);
    const caught = collect('caught');
    broker.put('orders', { body: 'order' });
    await answered();
    should(caught).match([{ error: { code: 'AMQP_TRANSACTION', source: { id: 'receiver' } } }]);
  });

  it('tells that it is not known what became of a message', async () => {
    await start({}, {}, pass);
    broker.transactions.answer('commit', 'done-drop', 1);
    const caught = message('caught');
    broker.put('orders', { body: 'order' });
    should(await caught).match({ error: { code: 'AMQP_IN_DOUBT', source: { id: 'receiver' } } });
    await status('receiver', 'connected');
    await answered();
  });

  for (const loss of ['connection', 'session'] as const) {
    it(`starts again when the ${loss} is lost in between`, async () => {
      const lose: Work = (msg) => {
        void message('alone-sent').then(() =>
          loss === 'session' ? broker.endSessions('orders') : broker.dropSockets(),
        );
        inject('alone', msg);
      };
      await start({}, {}, lose, pass);
      broker.put('orders', { body: 'order' });
      await answered();
    });
  }

  it('receives nothing where the server has no transactions, and says so', async () => {
    await start({ transactions: false }, {});
    await status('receiver', '.refused');
    broker.put('orders', { body: 'order' });
    await delay(50);
    should(broker.ready('orders')).equal(1);
  });

  it('sends outside of them what another endpoint sends, and what was not received', async () => {
    await start({}, {}, sendElsewhere, (msg) => inject('receiver', msg));
    broker.put('orders', { body: 'order' });
    while (broker.depth('orders') > 0) await delay(5);
    should(broker.messages('audit').map((one) => one!.body)).eql(['order']);
    should(broker.messages('invoices').map((one) => one!.body)).eql(['without delivery']);
    should(broker.transactions.steps).be.empty();
  });

  it('goes on in its transaction when the receiver is deployed anew meanwhile', async () => {
    await start({}, {}, hold, pass);
    const held = await given();
    const sent = message('alone-sent');
    inject('alone', { ...held, payload: 'before' });
    await sent;
    const next = configs.map((one) => (one.id === 'receiver' ? { ...one, name: 'new' } : one));
    await helper.setFlows(next, 'nodes');
    inject('invoices', { ...held, payload: 'after' });
    while (broker.depth('orders') > 0) await delay(5);
    should(broker.messages('invoices').map((one) => one!.body)).eql(['before', 'after']);
    should(broker.transactions.steps).eql(['declare', 'commit']);
    await status('receiver', 'connected');
    broker.put('orders', { body: 'next' });
    while (broker.depth('parcels') < 2) await delay(5);
  });

  it('has nothing half done when all is deployed anew meanwhile', async () => {
    await start({}, {}, hold);
    const held = await given();
    const sent = message('alone-sent');
    inject('alone', held);
    await sent;
    await helper.setFlows([...configs], 'full');
    work(pass);
    await answered();
  });

  it('goes on when a sender is deployed anew meanwhile', async () => {
    await start({}, {}, hold, pass);
    const held = await given();
    const sent = message('alone-sent');
    inject('alone', held);
    await sent;
    const next = configs.map((one) => (one.id === 'alone' ? { ...one, name: 'new' } : one));
    await helper.setFlows(next, 'nodes');
    const again = message('alone-sent');
    inject('alone', held);
    await again;
    inject('receiver', held);
    while (broker.depth('orders') > 0) await delay(5);
    should(broker.depth('invoices')).equal(2);
    should(broker.transactions.steps).eql(['declare', 'commit']);
  });

  it('has nothing half done when a sender is deployed anew with a message on its way', async () => {
    await start({}, {}, hold, pass);
    broker.holdCredit('invoices');
    const held = await given();
    inject('alone', held);
    while (!broker.links().some(({ name }) => name === 'receiver:alone')) await delay(5);
    const next = configs.map((one) => (one.id === 'alone' ? { ...one, name: 'new' } : one));
    await helper.setFlows(next, 'nodes');
    broker.giveCredit('invoices');
    inject('alone', held);
    const caught = message('caught');
    should((await caught).error).match({ code: 'AMQP_SHUTDOWN' });
    await answered();
  });

  it('is one beside another', async () => {
    await start({}, {}, pass, pass);
    await helper.setFlows(
      [
        ...configs,
        node('amqp-receiver', {
          id: 'returns',
          address: 'returns',
          settle: 'flow',
          transaction: true,
          wires: [['returned']],
        }),
        { id: 'returned', type: 'helper', z: 'flow', x: 0, y: 0, wires: [] },
      ],
      'nodes',
    );
    await status('returns', 'connected');
    const returned = message('returned');
    broker.put('returns', { body: 'return' });
    const held = await returned;
    const sent = message('alone-sent');
    inject('alone', held);
    await sent;
    broker.put('orders', { body: 'order' });
    while (broker.depth('parcels') < 1) await delay(5);
    should(broker.transactions.size).equal(1);
    should(broker.depth('invoices')).equal(1);
    inject('returns', held);
    while (broker.depth('returns') > 0) await delay(5);
    should(broker.depth('invoices')).equal(2);
  });
});
