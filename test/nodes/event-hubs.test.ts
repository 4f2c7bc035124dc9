// The nodes as a user of Azure Event Hubs has them, with a double of the service that its official clients have proved.
// Nothing here has run against the service itself.
import { once } from 'node:events';
import should from 'should';
import { EventHubs, type EventHubsOptions } from '../doubles/event-hubs/event-hubs';
import {
  collect,
  endpointNode,
  fail,
  flow,
  helper,
  inject,
  message,
  messages,
  type Msg,
  node,
  nodes,
  send,
  status,
} from '../flow';
import type { NodeConfig } from '../node-red';
import { secretOf } from '../secrets';
import { logged, texts, WARN } from '../texts';

const sender = (properties: object = {}) => node('amqp-sender', { address: 'telemetry', ...properties });
const receiver = (properties: object = {}) =>
  node('amqp-receiver', {
    address: 'telemetry',
    start: 'latest',
    places: 'default',
    wires: [['outcome']],
    ...properties,
  });

/** Body, partition and sequence number of an event. */
const told = ({ payload, delivery, amqp }: Msg) => {
  const { partition } = delivery as unknown as { partition: string };
  const annotations = amqp!['message_annotations'] as Record<string, { value: number }>;
  return [payload, partition, annotations['x-opt-sequence-number']!.value];
};

/** Sends to a partition. */
async function sendTo(id: number, ...payloads: unknown[]): Promise<void> {
  for (const payload of payloads) await send({ payload, topic: `telemetry/Partitions/${id}` });
}

/** What is in a data section. */
const textOf = (body: unknown) => String((body as { content: Buffer }).content);

describe('Azure Event Hubs', () => {
  let service: EventHubs;

  before(() => helper.startServer());
  after(() => helper.stopServer());
  afterEach(async () => {
    delete process.env['AMQP_TEST_VALUE'];
    await helper.unload();
    await service.stop();
  });

  const start = async (options: EventHubsOptions = {}) => {
    service = await EventHubs.start({ hubs: { telemetry: { partitions: 2, groups: ['other'] } }, ...options });
    process.env['AMQP_TEST_VALUE'] = service.connectionString();
  };
  const endpointOf = () => endpointNode(service.port, { host: '${AMQP_TEST_VALUE}', peer: 'eventhubs' });
  const partition = (id: number) => service.hub('telemetry').partition(id);
  const bodiesIn = (id: number) => partition(id).events.map(({ message: { body } }) => textOf(body));

  async function run(...configs: NodeConfig[]): Promise<void> {
    helper.settings({ amqpEndpointReconnectTime: 20, amqpEndpointLoginRetryTime: 40 });
    await helper.load([texts, ...nodes], flow(endpointOf(), ...configs));
  }

  /** Deploys these and no other nodes. */
  const deploy = (...configs: NodeConfig[]) => helper.setFlows(flow(endpointOf(), ...configs), 'nodes');

  describe('receives', () => {
    beforeEach(() => start());

    it('what comes from now on, from all partitions', async () => {
      await run(sender({ address: '' }));
      await sendTo(0, 'before');
      await deploy(sender({ address: '' }), receiver());
      await status('receiver', '.connected');
      const both = messages('outcome', 2);
      await sendTo(0, 'a');
      await sendTo(1, 'b');
      const all = (await both).map((msg) => told(msg));
      should(all).containDeep([
        ['a', '0', 1],
        ['b', '1', 0],
      ]);
    });

    for (const [from, properties, expected] of [
      ['the earliest event on', { start: 'earliest' }, ['a', 'b', 'c']],
      ['a sequence number on', { start: 'sequence', startvalue: '1' }, ['b', 'c']],
      ['a time on', { start: 'time', startvalue: '2020-01-01T00:00:00Z' }, ['a', 'b', 'c']],
    ] as const) {
      it(`from ${from}`, async () => {
        await run(sender({ address: '' }));
        await sendTo(1, 'a', 'b', 'c');
        await deploy(sender({ address: '' }), receiver({ ...properties, partitions: '1' }));
        const all = await messages('outcome', expected.length);
        should(all.map(({ payload }) => payload)).deepEqual(expected);
      });
    }

    it('what is behind an offset', async () => {
      await run(sender({ address: '' }));
      await sendTo(1, 'a', 'b', 'c');
      const { offset } = partition(1).events[1]!;
      await deploy(sender({ address: '' }), receiver({ start: 'offset', startvalue: offset, partitions: '1' }));
      should(await message('outcome')).match({ payload: 'c' });
    });

    it('only what was asked for, also when that was before it knew its partitions', async () => {
      await run(sender({ address: '' }));
      await sendTo(1, 'a', 'b');
      await deploy(sender({ address: '' }), receiver({ start: 'earliest', creditwindow: 0 }));
      const received = message('outcome');
      inject('receiver', { credit: 1 });
      should(await received).match({ payload: 'a' });
      const got = collect('outcome');
      await sendTo(1, 'c');
      should(got).deepEqual([]);
    });

    it('nothing while it is paused, also from before it knew its partitions', async () => {
      await run(receiver({ start: 'earliest' }));
      inject('receiver', { action: 'pause' });
      await status('receiver', '.paused');
      await deploy(sender({ address: '' }), receiver({ start: 'earliest' }));
      const got = collect('outcome');
      await sendTo(1, 'a');
      should(got).deepEqual([]);
      const received = message('outcome');
      inject('receiver', { action: 'resume' });
      should(await received).match({ payload: 'a' });
    });

    it('the same in each group', async () => {
      const other = { ...receiver({ start: 'earliest', group: 'other', wires: [['out']] }), id: 'other' };
      await run(sender({ wires: [] }), receiver({ start: 'earliest' }), other);
      const [one, two] = [message('outcome'), message('out')];
      await send({ payload: 'x' });
      should([(await one).payload, (await two).payload]).deepEqual(['x', 'x']);
    });

    it('nothing twice and nothing not at all when connections break', async () => {
      await run(sender(), receiver({ settle: 'arrival' }));
      await status('receiver', '.connected');
      const got = collect('outcome');
      for (let payload = 0; payload < 30; payload++) {
        await send({ payload });
        if (payload % 10 === 5) service.dropSockets();
      }
      while (got.length < 30) await once(helper.getNode('outcome'), 'input');
      const bodies = got.map(({ payload }) => payload as number).toSorted((a, b) => a - b);
      should(bodies).deepEqual(Array.from({ length: 30 }, (_, index) => index));
    });

    it('what the flow was not done with again, when the link is lost', async () => {
      await run(sender({ address: '' }), receiver({ settle: 'flow', partitions: '0' }));
      await status('receiver', '.connected');
      const four = messages('outcome', 4);
      await sendTo(0, 'a', 'b', 'c', 'd');
      const [first, , third] = await four;
      const done = messages('completed', 2);
      // The second is not done, so the third comes again too.
      for (const msg of [first!, third!]) inject('receiver', msg);
      await done;
      const again = messages('outcome', 3);
      service.detachIdle('telemetry/ConsumerGroups/$Default/Partitions/0');
      should((await again).map(({ payload }) => payload)).deepEqual(['b', 'c', 'd']);
    });

    // What is full restarts all nodes, and makes Node-RED forget their context, if that is in memory: what Deploy does by default.
    for (const what of ['nodes', 'full'] as const) {
      it(`goes on where it was after it was deployed again (${what})`, async () => {
        await run(sender({ address: '' }), receiver({ partitions: '0' }));
        await status('receiver', '.connected');
        const first = message('outcome');
        await sendTo(0, 'a');
        await first;
        inject('receiver', { action: 'pause' });
        await status('receiver', '.paused');
        await sendTo(0, 'meanwhile');
        const again = [sender({ address: '' }), receiver({ partitions: '0', name: 'again' })];
        await helper.setFlows(flow(endpointOf(), ...again), what);
        should(await message('outcome')).match({ payload: 'meanwhile' });
      });
    }

    it('begins anew when it is told to forget where it was', async () => {
      await run(sender({ address: '' }), receiver({ partitions: '0', start: 'earliest' }));
      const first = message('outcome');
      await sendTo(0, 'a');
      await first;
      const again = message('outcome');
      inject('receiver', { action: 'forget' });
      should(await again).match({ payload: 'a' });
    });

    it('begins anew where the places are of another group', async () => {
      await run(sender({ address: '' }), receiver({ partitions: '0', start: 'earliest' }));
      const first = message('outcome');
      await sendTo(0, 'a');
      await first;
      await deploy(sender({ address: '' }), receiver({ partitions: '0', start: 'earliest', group: 'other' }));
      should(await message('outcome')).match({ payload: 'a' });
    });

    it('as the one with the highest epoch, which the others are told', async () => {
      const other = { ...receiver({ epoch: 2, partitions: '0' }), id: 'other' };
      await run(receiver({ epoch: 1, partitions: '0' }));
      await status('receiver', '.connected');
      await deploy(receiver({ epoch: 1, partitions: '0' }), other);
      await status('other', '.connected');
      await status('receiver', 'refused: amqp:link:stolen');
      should(logged(WARN, 'receiver')).match([/has a higher epoch/]);
    });

    it('after idle links and idle connections, which is no fault', async () => {
      await run(sender(), receiver());
      await status('receiver', '.connected');
      service.detachIdle('telemetry');
      await once(service, 'attach');
      service.closeIdleConnections();
      await status('receiver', '.connecting');
      await status('receiver', '.connected');
      const received = message('outcome');
      await send({ payload: 'x' });
      should(await received).match({ payload: 'x' });
      should(logged(WARN, 'receiver').concat(logged(WARN))).deepEqual([]);
    });
  });

  describe('says what is wrong', () => {
    beforeEach(() => start());

    it('with a hub, and finds it once it is there', async () => {
      await run(receiver({ address: 'nothing' }));
      await status('receiver', 'refused: amqp:not-found');
    });

    it('with a group', async () => {
      await run(receiver({ group: 'nothing', partitions: '0' }));
      await status('receiver', 'refused: amqp:not-found');
    });

    it('with a key', async () => {
      process.env['AMQP_TEST_VALUE'] = service
        .connectionString()
        .replace(secretOf('event hubs key'), secretOf('other key'));
      await run(receiver());
      await status('receiver', 'refused: amqp:unauthorized-access');
      should(logged(WARN, 'receiver')).match([/InvalidSignature/]);
    });

    it('with a msg that comes back while it knows no partition', async () => {
      await run(receiver({ address: 'nothing', settle: 'flow' }));
      const caught = message('caught');
      inject('receiver', { delivery: { id: 'receiver:0.abc.0.1' } });
      should((await caught).error).match({ code: 'AMQP_DELIVERY_LOST' });
    });

    for (const [field, properties] of Object.entries({
      partitions: { partitions: '0; 1' },
      startvalue: { start: 'sequence', startvalue: 'x' },
      'startvalue ': { start: 'time', startvalue: 'yesterday' },
      'startvalue  ': { start: 'offset', startvalue: "' or '" },
      'startvalue   ': { start: 'offset', startvalue: '' },
      epoch: { epoch: '-1' },
      address: { address: '' },
    })) {
      it(`with ${field.trim()} ${JSON.stringify(properties)}`, async () => {
        await run(receiver(properties));
        const line = logged(20, 'receiver').concat(logged(WARN, 'receiver')).join();
        should(line).match(new RegExp(field === 'address' ? 'address' : field.trim()));
      });
    }
  });

  it('tells of its partitions', async () => {
    await start();
    await run(sender({ address: '' }), receiver({ partitions: '0' }));
    await sendTo(1, 'a', 'b');
    const asked = message('outcome');
    inject('receiver', { action: 'info' });
    const { payload } = await asked;
    should(payload).match({
      name: 'telemetry',
      partitions: [
        { id: '0', isEmpty: true, lastOffset: '-1' },
        { id: '1', firstSequenceNumber: 0, lastSequenceNumber: 1, lastOffset: partition(1).lastOffset, isEmpty: false },
      ],
    });
  });

  describe('is sent', () => {
    beforeEach(() => start());

    it('events with a key, always to the same partition', async () => {
      await run(sender({ batch: 'array' }));
      const amqp = { message_annotations: { 'x-opt-partition-key': 'sensor 1' } };
      await send({ payload: ['a', 'b'], amqp });
      await send({ payload: ['c'], amqp });
      const [full, empty] = [0, 1].map((id) => bodiesIn(id)).toSorted((a, b) => b.length - a.length);
      should([full, empty]).deepEqual([['a', 'b', 'c'], []]);
    });

    it('batches that are made by time, one for each key', async () => {
      await run(sender({ batch: 'time', batchtime: 0.05 }));
      await status('sender', '.connected');
      const done = messages('completed', 4);
      for (const [payload, key] of [
        ['a', 'x'],
        ['b', 'y'],
        ['c', 'x'],
        ['d', 'y'],
      ])
        inject('sender', { payload, amqp: { message_annotations: { 'x-opt-partition-key': key } } });
      for (const { sent } of await done) should(sent).match({ state: 'accepted' });
      const all = [...partition(0).events, ...partition(1).events];
      should(
        all.filter(({ partitionKey }) => partitionKey === 'x').map(({ message: { body } }) => textOf(body)),
      ).deepEqual(['a', 'c']);
    });

    it('what it was too busy for, again', async () => {
      await run(sender());
      await status('sender', '.connected');
      service.throttle('telemetry', 2);
      should(await send({ payload: 'x' })).match({ sent: { state: 'accepted' } });
    });

    it('no event that is too large', async () => {
      await run(sender());
      should((await fail({ payload: 'x'.repeat(1_100_000) })).error).match({
        code: 'AMQP_TOO_LARGE',
        message: /1048576/,
      });
    });
  });
});
