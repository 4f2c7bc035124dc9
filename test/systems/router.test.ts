// The flow Systems/Qpid router, with a double of one router or of two that are linked, and with a broker behind it. With a real
// router as well where AMQP_TEST_ROUTER names one, as host:port.
import { once } from 'node:events';
import net, { type AddressInfo, type Server } from 'node:net';
import should from 'should';
import { Broker } from '../../broker/broker';
import { Router, type RouterOptions } from '../doubles/router';
import { allShown, idOf, isConnected, loadExample, press, shown, startExamples } from '../example';
import { inject, message, type Msg, status } from '../flow';
import helper from '../node-red';

const FILE = 'Systems/Qpid router.json';
const TEN = 'example.routed.ten';
const ORDERS = 'example.routed.orders';
const STORED = 'example.routed.stored';
const [A, B] = ['A', 'B'];
const KINDS = ['closest', 'balanced', 'multicast'];
const real = process.env['AMQP_TEST_ROUTER'];

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index);
const times = (count: number, word: string) => Array.from({ length: count }, () => word);

/** `b`: of the second router. */
async function load(a: number, b = a): Promise<void> {
  await loadExample(FILE, a, { '-endpoint-b': b });
  const receivers = [...KINDS.flatMap((kind) => [A, B].map((at) => `${kind}, at ${at}`)), 'by hand'];
  await Promise.all(receivers.map((name) => isConnected('amqp-receiver', name)));
  await Promise.all([...KINDS, 'fifty'].map((name) => isConnected('amqp-sender', name)));
}

async function received(): Promise<Record<string, number>> {
  const counted = allShown('how many', 6);
  press('2. how many came');
  const counters = (await counted).map(({ payload }) => payload as { name: string; received: number });
  return Object.fromEntries(counters.map((one) => [one.name, one.received]));
}

async function senderIs(): Promise<Record<string, number>> {
  const told = shown('sender');
  press('4. how the sender is');
  return (await told).payload as Record<string, number>;
}

/** Once it has an outcome for each. */
async function senderIsDone(): Promise<Record<string, number>> {
  for (;;) {
    const counters = await senderIs();
    if (counters['buffered'] === 0) return counters;
  }
}

/** Presses a button and gives the answer of `$management`, with its status. */
async function ask(name: string): Promise<{ status: unknown; payload: Record<string, unknown>[] }> {
  const answer = shown('answer');
  press(name);
  const { payload, amqp } = await answer;
  const { statusCode } = amqp!['application_properties'] as Record<string, unknown>;
  return { status: statusCode, payload: payload as Record<string, unknown>[] };
}

async function refused(name: string): Promise<Msg['error']> {
  const why = shown('why not');
  press(name);
  return (await why).error;
}

/** What the flow is told when it asks `$management` for something else. */
async function errorOf(application_properties: object): Promise<Msg['error']> {
  const why = shown('why not');
  inject(idOf('amqp-requester', '$management'), { payload: {}, amqp: { application_properties } });
  return (await why).error;
}

async function order(broker: Broker, count: number): Promise<void> {
  const [sent, came] = [shown('sent'), shown('order')];
  press('9. send an order');
  should((await sent).sent).match({ state: 'accepted', address: ORDERS });
  should((await came).payload).deepEqual({ item: 'tea', amount: 2 });
  should(broker.received).deepEqual({ [ORDERS]: count });
}

/** The first state of its links that is so. */
async function linkState(condition: string): Promise<Msg> {
  for (;;) {
    const told = await message(idOf('debug', 'state of the links'));
    if ((told['status'] as { amqp: { condition?: string } }).amqp.condition === condition) return told;
  }
}

describe('Through a router', () => {
  let router: Router;

  startExamples();
  afterEach(async () => {
    await helper.unload();
    await router.stop();
  });

  async function start(options?: RouterOptions): Promise<void> {
    router = await Router.start(options);
    const [a, b] = router.ports;
    await load(a!, b);
  }

  /** The next outcomes that senders to an address get. */
  function settled(address: string, count: number): Promise<string[]> {
    const states: string[] = [];
    return new Promise((resolve) => {
      const listener = (name: string, state: string) => {
        if (name !== address || states.push(state) < count) return;
        router.off('settled', listener);
        resolve(states);
      };
      router.on('settled', listener);
    });
  }

  const sendTwenty = async () => {
    const addresses = ['closest/example.routed.near', 'example.routed.even', 'multicast/example.routed.all'];
    const all = Promise.all(addresses.map((address) => settled(address, 20)));
    press('1. send 20 to each');
    return (await all).flat();
  };

  it('all go to the closest receiver, to each its share, or a copy to each', async () => {
    await start({ names: [A, B] });
    should(await sendTwenty()).deepEqual(times(60, 'accepted'));
    should(await received()).deepEqual({
      'closest, at A': 20,
      'closest, at B': 0,
      'balanced, at A': 11,
      'balanced, at B': 9,
      'multicast, at A': 20,
      'multicast, at B': 20,
    });
  });

  it('those that are equally close take turns', async () => {
    await start();
    should(await sendTwenty()).deepEqual(times(60, 'accepted'));
    should(await received()).deepEqual({
      'closest, at A': 10,
      'closest, at B': 10,
      'balanced, at A': 10,
      'balanced, at B': 10,
      'multicast, at A': 20,
      'multicast, at B': 20,
    });
  });

  it('ten of fifty are accepted when the receiver takes ten and goes, and forty wait in the sender until it is back', async () => {
    await start();
    press('3. send 50');
    const accepted = settled(TEN, 10);
    const taken = allShown('taken', 10);
    press('5. take ten');
    should(await accepted).deepEqual(times(10, 'accepted'));
    should((await taken).map(({ payload }) => payload)).deepEqual(numbers(1, 10));

    const given = settled(TEN, 40);
    const [retrying, drained] = [shown('state'), once(router, 'drained')];
    press('6. the receiver goes');
    should(await given).deepEqual(times(40, 'released'));
    should((await retrying)['status']).match({ amqp: { state: 'retrying', count: 40 } });
    // One is tried again, comes back, and the router takes the credit away.
    await drained;
    should(await senderIs()).deepEqual({ accepted: 10, released: 41, buffered: 40, inflight: 0, credit: 0 });

    const delivered = settled(TEN, 40);
    const rest = allShown('taken', 40);
    press('7. it comes back');
    press('8. take forty');
    should(await delivered).deepEqual(times(40, 'accepted'));
    should((await rest).map(({ payload }) => payload)).deepEqual(numbers(11, 50));
    should(await senderIsDone()).match({ accepted: 50, released: 41 });
    await isConnected('amqp-sender', 'fifty');
  });

  it('a sender has no credit, and its messages wait, until there is a receiver', async () => {
    await start();
    press('10. store one');
    await status(idOf('amqp-sender', 'to be kept'), '.waiting');
    const [stored, fetched] = [shown('stored'), shown('fetched')];
    press('11. fetch');
    should((await stored).sent).match({ state: 'accepted', address: STORED });
    should((await fetched).payload).equal('kept');
  });

  describe('with a broker behind it', () => {
    let broker: Broker;

    beforeEach(async () => {
      broker = await Broker.start();
      await start({ broker: { port: broker.port, linkRoutes: [ORDERS], waypoints: [STORED] } });
      await isConnected('amqp-sender', 'orders out');
      await isConnected('amqp-receiver', 'orders in');
    });
    afterEach(() => broker.stop());

    it('a link route leads to it, is lost with it, and comes back with it, while the connection stays', async () => {
      await order(broker, 1);

      const [lost, away] = [linkState('qd:routed-link-lost'), linkState('qd:no-route-to-dest')];
      await broker.stop();
      should((await lost)['status']).match({ amqp: { state: 'refused', code: 'AMQP_LINK_DETACHED' } });
      await away;
      press('9. send an order');
      // The rest goes on, on the same connection.
      should(await sendTwenty()).deepEqual(times(60, 'accepted'));

      const [sent, came] = [shown('sent'), shown('order')];
      await broker.resume();
      should((await sent).sent).match({ state: 'accepted' });
      should((await came).payload).deepEqual({ item: 'tea', amount: 2 });
      should(broker.received).match({ [ORDERS]: 2 });
    });

    it('a waypoint keeps a message there until somebody receives', async () => {
      const stored = shown('stored');
      press('10. store one');
      should((await stored).sent).match({ state: 'accepted' });
      should(broker.received).deepEqual({ [STORED]: 1 });
      const fetched = shown('fetched');
      press('11. fetch');
      should((await fetched).payload).equal('kept');
    });
  });

  it('`$management` shows tables, makes and removes addresses, and what it refuses is an error of the flow', async () => {
    await start({ names: [A, B] });
    await sendTwenty();
    const connections = await ask('12. connections');
    should(connections.status).equal(200);
    should(connections.payload.map(({ dir, user }) => ({ dir, user }))).deepEqual(
      [A, B].map(() => ({ dir: 'in', user: 'anonymous' })),
    );

    const links = (await ask('13. links')).payload;
    should(links.find(({ linkDir, owningAddr }) => linkDir === 'in' && owningAddr === 'M0example.routed.even')).match({
      deliveryCount: 20,
      undeliveredCount: 0,
      unsettledCount: 0,
    });

    const addresses = (await ask('14. addresses')).payload;
    const row = (name: string) => addresses.find((address) => address['name'] === name);
    const counts = { subscriberCount: 2, deliveriesIngress: 20, deliveriesEgress: 20 };
    should(row('M0closest/example.routed.near')).match({ ...counts, distribution: 'closest' });
    should(row('M0example.routed.even')).match({ ...counts, distribution: 'balanced' });
    should(row('M0multicast/example.routed.all')).match({ ...counts, deliveriesEgress: 40, distribution: 'multicast' });

    await managesAddresses();
  });

  it('`$management` answers what it does not know with an error status', async () => {
    await start();
    should(await errorOf({ operation: 'QUERY', entityType: 'io.skupper.router.router.address' })).match({
      code: 'AMQP_REPLY_STATUS',
      message: /400/,
    });
    should(await errorOf({ operation: 'BAKE', type: 'org.apache.qpid.dispatch.connection' })).match({
      code: 'AMQP_REPLY_STATUS',
      message: /501/,
    });
  });
});

/** The same with a real router. */
async function managesAddresses(): Promise<void> {
  const added = await ask('15. add an address');
  should(added.status).equal(201);
  should(added.payload).match({ prefix: 'example.routed.added', distribution: 'multicast' });
  should(await refused('15. add an address')).match({ code: 'AMQP_REPLY_STATUS', message: /400/ });
  should((await ask('16. remove it')).status).equal(204);
  should(await refused('16. remove it')).match({ code: 'AMQP_REPLY_STATUS', message: /404/ });
}

if (real)
  describe(`Through the router at ${real}`, () => {
    let server: Server;

    startExamples();
    before(async () => {
      const { hostname: host, port } = new URL(`amqp://${real}`);
      server = net.createServer((socket) => {
        const onward = net.connect({ host, port: Number(port) });
        socket.pipe(onward).pipe(socket);
        socket.on('close', () => onward.destroy()).on('error', () => {});
        onward.on('close', () => socket.destroy()).on('error', () => {});
      });
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
    });
    beforeEach(() => load((server.address() as AddressInfo).port));
    afterEach(() => helper.unload());
    after(async () => {
      const closed = once(server, 'close');
      server.close();
      await closed;
    });

    it('each distribution gives what it is to give', async () => {
      press('1. send 20 to each');
      let counts = await received();
      while (Object.values(counts).reduce((sum, count) => sum + count) < 80) counts = await received();
      should(counts).match({ 'closest, at A': 10, 'closest, at B': 10, 'multicast, at A': 20, 'multicast, at B': 20 });
      should(counts['balanced, at A']! + counts['balanced, at B']!).equal(20);
    });

    it('ten of fifty are accepted, and forty once the receiver is back', async () => {
      press('3. send 50');
      const taken = allShown('taken', 10);
      press('5. take ten');
      should((await taken).map(({ payload }) => payload)).deepEqual(numbers(1, 10));
      const retrying = shown('state');
      press('6. the receiver goes');
      should((await retrying)['status']).match({ amqp: { state: 'retrying' } });
      should(await senderIs()).match({ accepted: 10, buffered: 40 });
      const rest = allShown('taken', 40);
      press('7. it comes back');
      press('8. take forty');
      should((await rest).map(({ payload }) => payload)).deepEqual(numbers(11, 50));
    });

    it('`$management` shows tables, makes and removes addresses', async () => {
      for (const table of ['12. connections', '13. links', '14. addresses'])
        (await ask(table)).payload.length.should.be.above(0);
      await managesAddresses();
    });
  });
