import { once } from 'node:events';
import should from 'should';
import { collect, endpointNode, flow, helper, inject, load, message, type Msg, node, status } from '../../flow';
import { Broker } from '../../../broker/broker';

let broker: Broker;

async function start(properties: object = {}, endpoint: object = {}): Promise<void> {
  broker = await Broker.start();
  await load(flow(endpointNode(broker.port, endpoint), node('amqp-receiver', { settle: 'flow', ...properties })));
}

const several = (properties: object = {}) => start({ addresses: 'several', address: '', ...properties });

/** Sends a msg into the receiver, and waits until that is done. */
async function tell(msg: object): Promise<Msg> {
  const completed = message('completed');
  inject('receiver', msg);
  return completed;
}

async function refusal(msg: object): Promise<Required<Msg>['error']> {
  const caught = message('caught');
  inject('receiver', msg);
  return (await caught).error!;
}

async function subscriptions(): Promise<Record<string, unknown>[]> {
  const out = message('out');
  await tell({ action: 'subscriptions', keep: 1 });
  const msg = await out;
  should(msg['keep']).equal(1);
  return msg['payload'] as Record<string, unknown>[];
}

async function to(msg: object): Promise<void> {
  const attached = once(broker, 'attach');
  await tell({ action: 'subscribe', ...msg });
  await attached;
}

describe('msg.action of a receiver', () => {
  before(() => helper.startServer());
  after(() => helper.stopServer());
  afterEach(async () => {
    await helper.unload();
    await broker.stop();
  });

  it('that is none is refused, by a list of those that there are', async () => {
    await start();
    should(await refusal({ action: 'jump' })).match({
      code: 'AMQP_BAD_INPUT',
      message: /subscriptions.*detach.*: jump/,
    });
  });

  describe('where the flow names the addresses', () => {
    it('subscribes to any number of them, by address or topic, and the status says when there is none', async () => {
      await several();
      should(await status('receiver', '.unsubscribed')).match({ fill: 'grey', shape: 'ring' });
      await to({ address: 'a', topic: 'leftover' });
      await to({ topic: 'b' });
      await status('receiver', 'connected');
      for (const address of ['a', 'b']) {
        const out = message('out');
        broker.put(address, { body: address });
        const msg = await out;
        should(msg).match({ payload: address, delivery: { address } });
        inject('receiver', msg);
        await once(broker, 'settled');
      }
      should(broker.dispositions.map(({ address, state }) => `${address} ${state}`)).eql(['a accepted', 'b accepted']);
    });

    it('has a selector, a window and a time of settling for each, and lists them', async () => {
      await several({ creditwindow: 5, unfiltered: true });
      await to({ address: 'a' });
      await to({ address: 'b', selector: 'x = 1', window: 2, settle: 'arrival' });
      await to({ address: 'c', window: '0', settle: 'pre-settled' });
      await status('receiver', 'ignored');
      const out = message('out');
      broker.put('a', { body: 1 });
      await out;
      should(await subscriptions()).eql([
        { address: 'a', window: 5, settle: 'flow', state: 'connected', unsettled: 1 },
        { address: 'b', selector: 'x = 1', window: 2, settle: 'arrival', state: 'ignored', unsettled: 0 },
        { address: 'c', window: 0, settle: 'pre-settled', state: 'connected', unsettled: 0 },
      ]);
    });

    it('ends one, or all', async () => {
      await several();
      for (const address of ['a', 'b', 'c']) await to({ address });
      await tell({ action: 'unsubscribe', address: 'b' });
      should((await subscriptions()).map(({ address }) => address)).eql(['a', 'c']);
      await tell({ action: 'unsubscribe' });
      should(await subscriptions()).eql([]);
      await status('receiver', '.unsubscribed');
      should(broker.links()).be.empty();
    });

    it('refuses a second subscription to an address, and goes on with the first', async () => {
      await several();
      await to({ address: 'a' });
      should(await refusal({ action: 'subscribe', address: 'a', window: 1 })).match({
        code: 'AMQP_BAD_INPUT',
        message: /subscribed to a already/,
      });
      const out = message('out');
      broker.put('a', { body: 1 });
      await out;
      should(await refusal({ action: 'unsubscribe', address: 'b' })).match({ code: 'AMQP_BAD_INPUT' });
    });

    it('shows the worst of them, and goes on with the others', async () => {
      await several();
      broker.refuse('bad', { condition: 'amqp:not-found' });
      await to({ address: 'good' });
      await tell({ action: 'subscribe', address: 'bad' });
      should(await status('receiver', 'refused')).match({ fill: 'red' });
      const out = message('out');
      broker.put('good', { body: 1 });
      await out;
      broker.allow('bad');
      await status('receiver', 'connected');
    });

    for (const [what, msg] of [
      ['no address', {}],
      ['an empty address', { address: '' }],
      ['a topic that is no text', { topic: 5 }],
    ] as const) {
      it(`needs more than ${what}`, async () => {
        await several();
        should(await refusal({ action: 'subscribe', ...msg })).match({ code: 'AMQP_NO_ADDRESS' });
      });
    }

    for (const [what, msg, why] of [
      ['an address that is no text', { address: 5 }, /msg.address/],
      ['a selector that is no text', { selector: {} }, /msg.selector/],
      ['a window that is no number', { window: 'wide' }, /msg.window/],
      ['a window below 0', { window: -1 }, /msg.window/],
      ['a window with a fraction', { window: 1.5 }, /msg.window/],
      ['a time of settling that is none', { settle: 'accept' }, /msg.settle/],
    ] as const) {
      it(`refuses ${what}`, async () => {
        await several();
        const asked = { action: 'subscribe', address: 'a', ...msg };
        should(await refusal(asked)).match({ code: 'AMQP_BAD_INPUT', message: why });
        should(await subscriptions()).eql([]);
      });
    }

    it('has the endpoint connect that does not do so by itself', async () => {
      broker = await Broker.start();
      await load(
        flow(
          endpointNode(broker.port, { autoconnect: false }),
          node('amqp-receiver', { addresses: 'several', address: '' }),
        ),
      );
      should(broker.connections()).equal(0);
      await to({ address: 'a' });
      await status('receiver', 'connected');
    });
  });

  it('lists no subscriptions where there is one address', async () => {
    await start();
    should(await refusal({ action: 'subscriptions' })).match({ code: 'AMQP_BAD_INPUT', message: /several addresses/ });
  });

  describe('detach', () => {
    it('tells the server why, gives back what is not settled, and lasts until the next subscribe', async () => {
      await start();
      const out = message('out');
      broker.put('q', { body: 1 });
      await out;
      const detached = once(broker, 'detach');
      await tell({ action: 'detach', error: { condition: 'app:enough', description: 'no more for today' } });
      should((await detached)[0]).match({
        name: 'receiver',
        error: { condition: 'app:enough', description: 'no more for today' },
      });
      await status('receiver', '.detached');
      should(broker.ready('q')).equal(1);
      const again = message('out');
      await tell({ action: 'subscribe' });
      should((await again).payload).equal(1);
    });

    it('needs no reason', async () => {
      await start();
      await status('receiver', 'connected');
      const detached = once(broker, 'detach');
      await tell({ action: 'detach' });
      should((await detached)[0]).not.have.property('error');
    });

    for (const [what, error] of [
      ['a condition that is no symbol', { condition: 'ä' }],
      ['no condition', { description: 'x' }],
      ['a description that is no text', { condition: 'a', description: 5 }],
      ['an error that is text', 'x'],
    ] as const) {
      it(`with ${what} is refused, and the link stays`, async () => {
        await start();
        await status('receiver', 'connected');
        should(await refusal({ action: 'detach', error })).match({ code: 'AMQP_BAD_INPUT' });
        should(broker.links()).have.length(1);
      });
    }
  });

  describe('disconnect', () => {
    it('closes the connection of the endpoint until connect, and no message is lost', async () => {
      await start();
      await status('receiver', 'connected');
      const closed = once(broker, 'detach');
      await tell({ action: 'disconnect' });
      await closed;
      await status('receiver', '.idle');
      should(broker.connections()).equal(0);
      broker.put('q', { body: 1 });
      await tell({ action: 'subscribe' });
      should(broker.connections()).equal(0);
      const out = message('out');
      await tell({ action: 'connect' });
      should((await out).payload).equal(1);
    });

    it('gives back what the flow has not settled: it comes again', async () => {
      await start();
      const first = message('out');
      broker.put('q', { body: 1 });
      const msg = await first;
      await tell({ action: 'disconnect' });
      should(await refusal({ ...msg })).match({ code: 'AMQP_DELIVERY_LOST' });
      const again = collect('out');
      await tell({ action: 'connect' });
      while (again.length === 0) await once(helper.getNode('out'), 'input');
      should(again.map(({ payload }) => payload)).eql([1]);
    });
  });
});
