// The flow examples/Systems/Replacing TCP.json, and what answers six pitfalls of messages over a TCP protocol of one's own.
import { once } from 'node:events';
import { connect } from 'node:net';
import should from 'should';
import { Broker } from '../../broker/broker';
import { freePort } from '../../scripts/free-port';
import { allShown, idOf, isConnected, loadExample, press, shown, startExamples } from '../example';
import { collect, endpointNode, flow, inject, message, messages, type Msg, node, nodes, status } from '../flow';
import helper, { coreNode, type NodeConfig } from '../node-red';

const FILE = 'Systems/Replacing TCP.json';
const READINGS = 'example.tcp.readings';
const MALFORMED = 'example.tcp.malformed';

const payloads = (msgs: Msg[]) => msgs.map(({ payload }) => payload);
const sorted = (msgs: Msg[]) =>
  payloads(msgs)
    .map(Number)
    .toSorted((a, b) => a - b);
/** A receiver whose messages reach a node of its own, named after it. */
const reader = (id: string, properties: object = {}): NodeConfig[] => [
  node('amqp-receiver', { id, wires: [[`at ${id}`]], ...properties }),
  { id: `at ${id}`, type: 'helper', z: 'flow', x: 0, y: 0, wires: [] },
];
const numbers = (count: number) => Array.from({ length: count }, (_, i) => i + 1);

describe('In place of a TCP protocol of your own', () => {
  let broker: Broker;

  startExamples((started) => (broker = started));

  const until = async (isTrue: () => boolean): Promise<void> => {
    while (!isTrue())
      await Promise.race(['message', 'settled', 'attach', 'detach'].map((event) => once(broker, event)));
  };
  async function start(...configs: NodeConfig[]): Promise<void> {
    helper.settings({ amqpEndpointReconnectTime: 20 });
    const isThere = configs.some(({ id }) => id === 'broker');
    await helper.load(
      [...nodes, ...['common/24-complete', 'common/25-catch'].map(coreNode)],
      flow(...(isThere ? [] : [endpointNode(broker.port)]), ...configs),
    );
  }

  describe('the flow', () => {
    let port: number;
    const loadFlow = () => loadExample(FILE, broker.port, { 'tcp-in': port, client: port });

    beforeEach(async () => {
      port = await freePort();
      await loadFlow();
    });

    /** Writes to the port as a client of the old protocol does, and hangs up. */
    async function write(...pieces: string[]): Promise<void> {
      const socket = connect(port, 'localhost').setNoDelay();
      await once(socket, 'connect');
      for (const piece of pieces) await new Promise((resolve) => socket.write(piece, resolve));
      socket.end();
      await once(socket, 'close');
    }

    it('sends what a client writes, however the network cuts it, and takes it out of the queue once it is processed', async () => {
      const [sent, processed] = [shown('sent'), shown('processed')];
      press('1. a reading');
      should((await sent).sent).match({ address: READINGS, state: 'accepted' });
      should(await processed).match({
        payload: { machine: 7, degrees: 21.5 },
        amqp: { content_type: 'application/json', durable: true },
      });
      const more = allShown('processed', 2);
      await write('{"machine":8,"de', 'grees":1}\n{"machine":9,"degrees":2}\n');
      should(payloads(await more)).deepEqual([
        { machine: 8, degrees: 1 },
        { machine: 9, degrees: 2 },
      ]);
      await until(() => broker.dispositions.length === 3);
      should(broker.dispositions.map(({ state }) => state)).deepEqual(['accepted', 'accepted', 'accepted']);
      should(broker.depth(READINGS)).equal(0);
    });

    it('puts a malformed line aside with the reason, takes the next one, and shows what is put aside again and again', async () => {
      const [aside, processed] = [shown('put aside'), shown('processed')];
      press('2. a broken line');
      should((await aside).sent).match({ address: MALFORMED, state: 'accepted' });
      await write('{"machine":7}\n{"machine":7,"degrees":3}\n');
      should((await processed).payload).deepEqual({ machine: 7, degrees: 3 });
      await until(() => broker.depth(MALFORMED) === 2);
      should(broker.messages(MALFORMED)).match([
        { body: '{"machine":7,', application_properties: { reason: /JSON/ } },
        { body: '{"machine":7}', application_properties: { reason: 'Error: a reading needs degrees' } },
      ]);
      for (let looks = 0; looks < 2; looks++) {
        const seen = allShown('looked at', 2);
        press('3. look at what is put aside');
        should(payloads(await seen)).deepEqual(['{"machine":7,', '{"machine":7}']);
      }
      should(broker.depth(MALFORMED)).equal(2);
    });

    it('keeps what comes while there is no server, through a restart of Node-RED', async () => {
      await isConnected('amqp-sender', 'readings');
      await broker.stop();
      await status(idOf('amqp-sender', 'readings'), '.reason.refused');
      await write('{"machine":1,"degrees":10}\n{"machine":2,"degrees":20}\n');
      await status(idOf('amqp-sender', 'readings'), '.count)');
      await helper.unload();
      await broker.resume();
      await loadFlow();
      should(payloads(await allShown('processed', 2))).deepEqual([
        { machine: 1, degrees: 10 },
        { machine: 2, degrees: 20 },
      ]);
    });
  });

  it('a queue has a bound at both ends: what is beyond is refused, or stays at the server', async () => {
    broker.holdCredit('q');
    await start(node('amqp-sender', { buffer: 3 }), ...reader('slow', { settle: 'flow', creditwindow: 2 }));
    await status('sender', '.connected');
    const refused = messages('caught', 2);
    for (const payload of numbers(5)) inject('sender', { payload });
    const failed = await refused;
    should(payloads(failed)).deepEqual([4, 5]);
    for (const { error } of failed) should(error).match({ code: 'AMQP_BUFFER_FULL' });

    const taken = messages('at slow', 2);
    broker.giveCredit('q');
    should(payloads(await taken)).deepEqual([1, 2]);
    await until(() => broker.received['q'] === 3);
    should([broker.unsettled('q'), broker.ready('q')]).deepEqual([2, 1]);
  });

  it('a malformed message is rejected, and the one behind it arrives', async () => {
    await start(node('amqp-receiver'));
    const [caught, out] = [message('caught'), message('out')];
    // A section that is announced and then cut off.
    broker.put('q', Buffer.from('005377b0ffff', 'hex'));
    broker.put('q', { body: 'sound' });
    should((await caught).error).match({ code: 'AMQP_DECODE' });
    should((await out).payload).equal('sound');
    await until(() => broker.dispositions.length === 2);
    should(broker.dispositions.map(({ state }) => state).toSorted()).deepEqual(['accepted', 'rejected']);
  });

  it('a message is durable, and is still there after the consumer went away in the middle of its work', async () => {
    await start(node('amqp-sender'), ...reader('work', { settle: 'flow' }));
    const taken = message('at work');
    inject('sender', { payload: 'work' });
    await taken;
    await helper.unload();
    should(broker.ready('q')).equal(1);
    should(broker.messages('q')).match([{ body: 'work', durable: true }]);
  });

  it('replicas share a queue, and one takes over what another has not finished', async () => {
    await start(...['a', 'b'].flatMap((id) => reader(id, { settle: 'flow', creditwindow: 3 })));
    await Promise.all(['a', 'b'].map((id) => status(id, '.connected')));
    const [first, second] = [messages('at a', 3), messages('at b', 3)];
    for (const body of numbers(6)) broker.put('q', { body });
    const shared = [...(await first), ...(await second)];
    should(sorted(shared)).deepEqual(numbers(6));

    const taken = messages('at b', 3);
    for (const { delivery } of await second) inject('b', { delivery });
    inject('a', { action: 'detach' });
    const again = await taken;
    should(sorted(again)).deepEqual(sorted(await first));
    for (const { delivery } of again) inject('b', { delivery });
    await until(() => broker.depth('q') === 0);
    should(broker.dispositions.filter(({ state }) => state === 'accepted')).have.length(6);
  });

  it('a replica of the server takes over when the first one is gone, and no message is lost', async () => {
    const second = await Broker.start();
    try {
      const urls = [broker, second].map(({ url }) => url).join('\n');
      await start(endpointNode(0, { connectto: 'urls', urls }), node('amqp-sender'));
      const accepted = messages('completed', 3);
      inject('sender', { payload: 1 });
      await once(broker, 'message');
      await broker.stop();
      for (const payload of [2, 3]) inject('sender', { payload });
      await accepted;
      should(broker.received).deepEqual({ q: 1 });
      should(second.messages('q')).match([{ body: 2 }, { body: 3 }]);
      await helper.unload();
    } finally {
      await second.stop();
    }
  });

  it('fan-out is a topic: each subscriber has each message once, and a slow one holds up nobody', async () => {
    const topic = 'topic/q';
    await start(
      node('amqp-sender', { address: topic }),
      ...reader('slow', { address: topic, settle: 'flow', creditwindow: 1 }),
      ...['b', 'c'].flatMap((id) => reader(id, { address: topic })),
    );
    await Promise.all(['slow', 'b', 'c'].map((id) => status(id, '.connected')));
    const slow = collect('at slow');
    const quick = ['b', 'c'].map((id) => messages(`at ${id}`, 20));
    for (const payload of numbers(20)) inject('sender', { payload });
    for (const got of await Promise.all(quick)) should(payloads(got)).deepEqual(numbers(20));
    should(payloads(slow)).deepEqual([1]);
    should(broker.received[topic]).equal(20);
  });

  it('to look into a queue takes nothing out of it', async () => {
    for (const body of numbers(3)) broker.put('q', { body });
    await start(...reader('look', { browse: true }));
    should(payloads(await messages('at look', 3))).deepEqual(numbers(3));
    await helper.unload();
    should(broker.ready('q')).equal(3);
  });
});
