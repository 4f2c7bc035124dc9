import { type EventEmitter, once } from 'node:events';
import should from 'should';
import { endpointNode, flow, helper, inject, load, message, messages, type Msg, node, status } from '../../flow';
import type { NodeConfig } from '../../node-red';
import { Broker, type LinkInfo } from '../../../broker/broker';

const HOUR = 3_600_000;

/** What the log says of refusals of the receiver: the test helper gives the key in place of the text. */
function refusals(): unknown[] {
  const entries = helper.log().args.map(([entry]) => entry);
  return entries.filter(({ id, msg }) => id === 'receiver' && String(msg).includes('log.refused'));
}

/** The code of the error that a msg ends with. */
async function code(id: string, msg: object): Promise<string | undefined> {
  const caught = message('caught');
  inject(id, msg);
  return (await caught).error!.code;
}

/** Once this is done, the broker has seen all that was written before, and the nodes its answer. */
async function roundTrip(): Promise<void> {
  const outcome = message('outcome');
  inject('probe', { payload: 'there and back' });
  await outcome;
}
const receiver = (properties: object = {}) => node('amqp-receiver', { settle: 'flow', ...properties });
const responder = (name: string) => node('amqp-responder', { name });
const probe = node('amqp-sender', { id: 'probe', address: 'probe', wires: [['outcome']] });

describe('an endpoint', () => {
  let broker: Broker;
  /** Attaches and detaches at the broker, as "+name address" and "-name address". */
  let links: string[];

  before(() => helper.startServer());
  after(() => helper.stopServer());
  beforeEach(async () => {
    broker = await Broker.start();
    links = [];
    broker.on('attach', ({ name, address }: LinkInfo) => links.push(`+${name} ${address}`));
    broker.on('detach', ({ name, address }: LinkInfo) => links.push(`-${name} ${address}`));
  });
  afterEach(async () => {
    await helper.unload();
    await broker.stop();
  });

  const configs = (...nodes: NodeConfig[]) => flow(endpointNode(broker.port), ...nodes);
  const deploy = (...nodes: NodeConfig[]) => helper.setFlows(configs(...nodes), 'nodes');
  async function settled(count: number) {
    while (broker.dispositions.length < count) await once(broker, 'settled');
    return broker.dispositions;
  }

  /** A receiver that holds messages of `q`, on an endpoint that gives it an hour. */
  async function holding(count: number, closeTime = HOUR): Promise<Msg[]> {
    await load(configs(receiver()), {}, { amqpEndpointCloseTime: closeTime });
    const out = messages('out', count);
    for (let n = 1; n <= count; n++) broker.put('q', { body: n, message_id: n });
    return out;
  }

  describe('with a node that is deployed anew while the flow has messages of it', () => {
    it('settles them by the former instance, and attaches the next one once that has left', async () => {
      const [first, second] = await holding(2);
      await deploy(receiver({ address: 'next' }));
      await status('receiver', '.detached');
      inject('receiver', first!);
      should(await settled(1)).match([{ id: 1, state: 'accepted' }]);
      should(links).eql(['+receiver q']);
      inject('receiver', { ...second!, settle: 'reject' });
      should(await settled(2)).match([{}, { id: 2, state: 'rejected' }]);
      await status('receiver', '.connected');
      should(links).eql(['+receiver q', '-receiver q', '+receiver next']);
    });

    it('settles them by the former instance also when it is deployed anew once more meanwhile', async () => {
      const [held] = await holding(1);
      await deploy(receiver({ address: 'second' }));
      await status('receiver', '.detached');
      await deploy(receiver({ address: 'third' }));
      inject('receiver', held!);
      should(await settled(1)).match([{ id: 1, state: 'accepted' }]);
      await status('receiver', '.connected');
      should(links).eql(['+receiver q', '-receiver q', '+receiver third']);
    });

    it('takes nothing more from the peer until they are settled', async () => {
      const [held] = await holding(1);
      await deploy(receiver({ name: 'next' }));
      broker.put('q', { body: 'later', message_id: 'later' });
      const next = message('out');
      inject('receiver', held!);
      const { payload, delivery } = await next;
      should(payload).equal('later');
      should(links).eql(['+receiver q', '-receiver q', '+receiver q']);
      inject('receiver', { delivery });
      should(await settled(2)).match([
        { id: 1, state: 'accepted' },
        { id: 'later', state: 'accepted' },
      ]);
    });

    it('tells the next instance what it never had', async () => {
      const [held] = await holding(1);
      await deploy(receiver({ name: 'next' }));
      should(await code('receiver', { delivery: { id: 'made up' } })).equal('AMQP_DELIVERY_UNKNOWN');
      inject('receiver', held!);
      await settled(1);
      should(await code('receiver', held!)).equal('AMQP_DELIVERY_LOST');
    });

    it('releases them when the time is up, for the next instance to have', async () => {
      const [held] = await holding(1, 50);
      const again = message('out');
      await deploy(receiver({ name: 'next' }));
      should(await again).match({ payload: 1 });
      should(await settled(1)).match([{ id: 1, state: 'released' }]);
      should(links).eql(['+receiver q', '-receiver q', '+receiver q']);
      should(await code('receiver', held!)).equal('AMQP_DELIVERY_LOST');
    });

    it('never opens an instance that is closed before its predecessor has left', async () => {
      await holding(1, 50);
      await deploy(receiver({ address: 'next' }), probe);
      await deploy(probe);
      while (!links.includes('-receiver q')) await once(broker, 'detach');
      // A session begins before its link attaches.
      for (let trip = 0; trip < 3; trip++) await roundTrip();
      should(links.filter((link) => link.includes('receiver'))).eql(['+receiver q', '-receiver q']);
    });

    it('answers requests by the former instance, and takes no other before', async () => {
      await load(configs(responder('former')), {}, { amqpEndpointCloseTime: HOUR });
      const request = message('out');
      broker.put('q', { body: 'first', message_id: 1, reply_to: 'back' });
      const held = await request;
      await deploy(responder('next'));
      broker.put('q', { body: 'second', message_id: 2, reply_to: 'back' });
      const [completed, next] = [message('completed'), message('out')];
      inject('responder', { ...held, payload: 'answer' });
      await completed;
      should(broker.messages('back')).match([{ body: 'answer', correlation_id: 1 }]);
      should(await next).match({ payload: 'second' });
      should(broker.dispositions).match([{ id: 1, state: 'accepted' }]);
      const answered = message('completed');
      inject('responder', await next);
      await answered;
    });
  });

  describe('gives up what the flow has of a node, without waiting for it', () => {
    it('when the node is deleted', async () => {
      await holding(1);
      await deploy();
      should(await settled(1)).match([{ id: 1, state: 'released' }]);
    });

    it('when the endpoint is closed together with the node', async () => {
      await holding(1);
      await helper.unload();
      should(await settled(1)).match([{ id: 1, state: 'released' }]);
    });

    it('when the endpoint is closed after the node was deployed anew', async () => {
      await holding(1);
      await deploy(receiver({ address: 'next' }));
      await helper.unload();
      should(await settled(1)).match([{ id: 1, state: 'released' }]);
      should(broker.connections()).equal(0);
    });

    it('when the connection is lost: the next instance attaches at once', async () => {
      await holding(1);
      await deploy(receiver({ name: 'next' }));
      const again = message('out');
      broker.dropSockets();
      should(await again).match({ payload: 1 });
      should(links).eql(['+receiver q', '-receiver q', '+receiver q']);
    });
  });

  describe('shows', () => {
    it('the state of the next instance, and none of the former one any more', async () => {
      const [held] = await holding(1);
      const former = helper.getNode('receiver');
      await status('receiver', '.connected');
      await deploy(receiver({ address: 'next' }));
      const { status: spy } = former as unknown as { status: { thisValues: unknown[] } };
      const shown = spy.thisValues.filter((one) => one === former).length;
      should(await status('receiver', '.detached')).match({ fill: 'grey', shape: 'ring' });
      inject('receiver', held!);
      should(await status('receiver', '.connected')).match({ fill: 'green', shape: 'dot' });
      should(spy.thisValues.filter((one) => one === former)).have.length(shown);
    });

    it('a refusal in the log too, for each reason once, also over a reconnect', async () => {
      broker.refuse('q', { condition: 'amqp:unauthorized-access' });
      await load(configs(receiver()));
      const calls = helper.getNode('receiver') as unknown as EventEmitter;
      should(await status('receiver', '.refused')).match({ fill: 'red', shape: 'ring' });
      const lost = once(calls, 'call:status');
      broker.dropSockets();
      await lost;
      await status('receiver', '.refused');
      should(refusals()).have.length(1);
      const warned = once(calls, 'call:warn');
      broker.refuse('q', { condition: 'amqp:not-allowed' });
      await warned;
      should(refusals()).have.length(2);
    });
  });

  describe('is missing', () => {
    for (const type of ['amqp-sender', 'amqp-receiver', 'amqp-requester', 'amqp-responder']) {
      it(`for ${type} that names another kind of node, until it names one`, async () => {
        const id = type.replace('amqp-', '');
        await load(configs(node(type, { endpoint: 'out' })));
        should(await status(id, '.no-endpoint')).match({ fill: 'red', shape: 'ring' });
        should(await code(id, { payload: 1 })).equal('AMQP_NO_ENDPOINT');
        should(broker.connections()).equal(0);
        await deploy(node(type));
        await status(id, '.connected');
      });
    }
  });
});
