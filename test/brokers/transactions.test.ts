// One message taken and several sent, all or nothing, at brokers that coordinate transactions, and at one that does not.
import should from 'should';
import { collect, helper, inject, message, messages, type Msg, status } from '../flow';
import { type Broker, needed } from './broker';
import { peerNamed } from './peers';
import { Trial } from './trial';

const QUEUES = ['orders', 'invoices', 'parcels'];
type Work = (msg: Msg, done: (error?: Error) => void) => void;
const pass: Work = (msg) => inject('invoices', msg);
const fail: Work = (msg, done) => {
  // The invoice was taken when the flow fails.
  void message('alone-sent').then(() => done(new Error('the printer is out of paper')));
  inject('alone', { ...msg, payload: 'in vain' });
};
const refused: Work = (msg) => inject('invoices', { ...msg, amqp: { priority: 'none' } });

for (const name of ['ActiveMQ Artemis', 'ActiveMQ Classic', 'Qpid Broker-J']) {
  describe(`transactions on ${name}`, function () {
    this.timeout(60_000);

    const peer = peerNamed(name);
    let broker: Broker;
    let trial: Trial;

    before(async function () {
      this.timeout(300_000); // the first time, it is fetched
      await needed(this, name, () => peer.kind.prepare());
      broker = await peer.kind.start({ queues: QUEUES.map((queue) => ({ name: queue })), topics: [] });
      await helper.startServer();
    });
    after(async () => {
      if (!broker) return;
      await helper.stopServer();
      await broker.stop();
    });
    beforeEach(() => {
      trial = new Trial(peer, broker);
    });
    afterEach(() => trial?.end());

    /** Orders become an invoice and a parcel. The node "work" gets each msg; `steps` say what it does, in turn. */
    async function load(...steps: Work[]): Promise<void> {
      await trial.load([
        trial.receiver({ ...peer.queue('orders'), settle: 'flow', transaction: true, wires: [['work']] }),
        trial.sender({ id: 'invoices', ...peer.queue('invoices'), wires: [['parcels']], outcomes: 'accepted' }),
        trial.sender({ id: 'parcels', ...peer.queue('parcels'), wires: [['parcel-sent']], outcomes: 'accepted' }),
        trial.sender({ id: 'alone', ...peer.queue('invoices'), wires: [['alone-sent']] }),
        trial.sender({ id: 'customer', ...peer.queue('orders'), wires: [['outcome']] }),
        trial.receiver({ id: 'seen-invoices', ...peer.queue('invoices'), wires: [['got-invoice']] }),
        trial.receiver({ id: 'seen-parcels', ...peer.queue('parcels'), wires: [['got-parcel']] }),
      ]);
      // As a Complete node on the last sender, and a Catch node, that are wired to the receiver.
      const ended = new Set<unknown>();
      helper.getNode('completed').on('input', (msg: Msg) => {
        const isLast = msg.sent?.address === peer.queue('parcels').address;
        if (isLast && !ended.has(msg.delivery!.id)) inject('receiver', msg);
        if (isLast) ended.add(msg.delivery!.id);
      });
      helper.getNode('caught').on('input', (msg: Msg) => {
        if (msg.error!.source.id !== 'receiver') inject('receiver', msg);
      });
      helper.getNode('work').on('input', (msg, _send, done) => steps.shift()!(msg, done));
      for (const id of ['receiver', 'seen-invoices', 'seen-parcels']) await status(id, 'connected');
    }

    const lose: Work = (msg) => {
      void message('alone-sent').then(() => broker.disconnect!());
      inject('alone', { ...msg, payload: 'in vain' });
    };

    it('take an order, and send an invoice and a parcel', async () => {
      await load(pass, pass);
      const [invoices, parcels] = [messages('got-invoice', 2), messages('got-parcel', 2)];
      inject('customer', { payload: 'order 1' });
      inject('customer', { payload: 'order 2' });
      should((await invoices).map(({ payload }) => payload)).eql(['order 1', 'order 2']);
      should((await parcels).map(({ payload }) => payload)).eql(['order 1', 'order 2']);
      await trial.depth('orders', 0);
    });

    it('send nothing when the flow fails, and the order comes again', async () => {
      await load(fail, pass);
      const seen = collect('got-invoice');
      const parcel = message('got-parcel');
      inject('customer', { payload: 'order 3' });
      should((await parcel).payload).equal('order 3');
      await trial.depth('orders', 0);
      should(seen.map(({ payload }) => payload)).eql(['order 3']);
    });

    it('send nothing when one of them is refused', async () => {
      await load(refused, pass);
      const [seen, caught] = [collect('got-invoice'), message('caught')];
      const [invoice, parcel] = [message('got-invoice'), message('got-parcel')];
      inject('customer', { payload: 'order 4' });
      should((await caught).error).match({ code: 'AMQP_BAD_MESSAGE' });
      should((await invoice).payload).equal('order 4');
      should((await parcel).payload).equal('order 4');
      should(seen).have.length(1);
    });

    it('end with the connection: what was sent in them is gone, and the order comes again', async () => {
      await load(lose, pass);
      const seen = collect('got-invoice');
      const parcel = message('got-parcel');
      inject('customer', { payload: 'order 5' });
      should((await parcel).payload).equal('order 5');
      await trial.depth('orders', 0);
      should(seen.map(({ payload }) => payload)).eql(['order 5']);
    });
  });
}

describe('transactions on RabbitMQ 4.3', function () {
  this.timeout(60_000);

  it('there are none: the status says so, and nothing is received', async function () {
    this.timeout(300_000); // the first time, it is fetched
    const peer = peerNamed('RabbitMQ 4.3');
    await needed(this, peer.name, () => peer.kind.prepare());
    const broker = await peer.kind.start({ queues: [{ name: 'orders' }], topics: [] });
    await helper.startServer();
    const trial = new Trial(peer, broker);
    try {
      await trial.load([
        trial.receiver({ ...peer.queue('orders'), settle: 'flow', transaction: true, wires: [['work']] }),
        trial.sender({ ...peer.queue('orders'), wires: [['outcome']] }),
      ]);
      should(await trial.settled('receiver')).equal('refused');
      await trial.deliver({ payload: 'order' });
      await trial.depth('orders', 1);
    } finally {
      await trial.end();
      await helper.stopServer();
      await broker.stop();
    }
  });
});
