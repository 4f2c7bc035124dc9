import { once } from 'node:events';
import type { Message } from 'rhea';
import should from 'should';
import { Connection } from '../../../../nodes/lib/connection/connection';
import { ManagementRequester, type ManagementOptions } from '../../../../nodes/lib/exchange/management-requester';
import { type Incoming, type Outgoing, outgoing, stylesOf } from '../../../../nodes/lib/message/message';
import { Broker, type BrokerOptions } from '../../../../broker/broker';

const PAIR = { kind: 'pair', address: '/management' } as const;
const TARGET = { kind: 'target', address: '$management' } as const;

const get = (queue: string): Outgoing =>
  outgoing({ payload: null, amqp: { subject: 'GET', to: `/queues/${queue}` } }, { format: 'body', body: 'auto' });
const read = (queue: string): Outgoing =>
  outgoing(
    { payload: {}, amqp: { application_properties: { operation: 'READ', name: queue } } },
    { format: 'body', body: 'auto' },
  );

describe('a requester of a management node', () => {
  let broker: Broker;
  let connection: Connection;
  let requester: ManagementRequester;

  afterEach(async () => {
    await requester.close(0);
    await connection.close();
    await broker.stop();
  });

  async function start(options: Partial<ManagementOptions>, brokerOptions: BrokerOptions = {}): Promise<void> {
    broker = await Broker.start({ management: true, ...brokerOptions });
    const backoff = { initial: 10, max: 10 };
    connection = new Connection({
      servers: [{ host: '127.0.0.1', port: broker.port }],
      containerId: 'client',
      connectTimeout: 5000,
      idleTimeout: 0,
      backoff,
      loginBackoff: backoff,
    });
    requester = new ManagementRequester(connection, {
      name: 'node',
      timeout: 60_000,
      buffer: 100,
      bufferBytes: 2 ** 20,
      styles: stylesOf('body', 'auto'),
      ...PAIR,
      ...options,
    });
    requester.open();
    connection.open();
  }

  function ask(message: Outgoing): Promise<Incoming> {
    return new Promise((resolve, reject) => {
      requester.request(message, undefined, { sent: () => {}, reply: resolve, failed: reject });
    });
  }

  async function state(name: string): Promise<void> {
    while (requester.state.name !== name) await once(requester, 'state');
  }

  /** The next requests that reach the node, so many. */
  async function requests(count: number): Promise<Message[]> {
    const taken: Message[] = [];
    while (taken.length < count) taken.push((await once(broker, 'request'))[1]);
    return taken;
  }

  it("asks RabbitMQ's by a pair of settled links of one name, with replies to $me", async () => {
    await start(PAIR);
    broker.declare('orders');
    broker.put('orders', { body: 1 });
    const taken = requests(1);
    const { fields, body } = await ask(get('orders'));
    should(fields).match({ subject: '200' });
    should(body!.content).match({ name: 'orders', message_count: 1 });
    should((await taken)[0]).match({ reply_to: '$me', subject: 'GET', to: '/queues/orders' });
    should(broker.links()).match([
      { name: 'node', address: '/management', role: 'receiver', sndSettleMode: 1, properties: { paired: true } },
      { name: 'node', address: '/management', role: 'sender', sndSettleMode: 1, properties: { paired: true } },
    ]);
  });

  it("asks Azure's with replies to the target of its link", async () => {
    await start({ ...TARGET, address: 'orders/$management' });
    broker.declare('orders');
    const taken = requests(1);
    const { fields, body } = await ask(read('orders'));
    should(fields.application_properties).match({ statusCode: 200 });
    should(body!.content).match({ name: 'orders' });
    const { target } = broker.links().find(({ role }) => role === 'receiver')!;
    should((await taken)[0]!.reply_to).equal(target!['address']);
  });

  for (const node of [PAIR, TARGET]) {
    const question = node === PAIR ? get : read;
    describe(`at ${node.address}`, () => {
      it('gives each request its own reply, one after the other', async () => {
        await start(node);
        const queues = Array.from({ length: 20 }, (_, n) => `q${n}`);
        for (const queue of queues) broker.declare(queue);
        const replies = await Promise.all(queues.map((queue) => ask(question(queue))));
        should(replies.map(({ body }) => (body!.content as { name: string }).name)).eql(queues);
      });

      it('sends what was asked before there was a connection', async () => {
        await start(node);
        await broker.stop();
        const asked = ask(question('none'));
        await state('disconnected');
        should(requester.pending()).match([{ address: node.address, stage: 'sending', replies: 0 }]);
        await broker.resume();
        should((await asked).fields).be.an.Object();
        await state('connected');
        should(requester.pending()).be.empty();
      });

      it('fails a request that was sent when the connection is lost, and asks what waits of the next one', async () => {
        await start(node);
        broker.answer(node.address, 'none', 1);
        const arrived = once(broker, 'answer');
        const [lost, kept] = [ask(question('a')), ask(question('b'))];
        await arrived;
        should(requester.pending()).match([{ stage: 'delivered' }, { stage: 'sending' }]);
        broker.dropSockets();
        await should(lost).be.rejectedWith({ code: 'AMQP_IN_DOUBT' });
        await kept;
      });

      it('fails a request that is not answered in time, and goes on with the next', async () => {
        await start({ ...node, timeout: 200 });
        broker.answer(node.address, 'none', 1);
        const lost = ask(question('a'));
        await should(lost).be.rejectedWith({ code: 'AMQP_REPLY_TIMEOUT' });
        await ask(question('b'));
      });

      it('does not take an answer that comes late for that of the next request', async () => {
        await start({ ...node, timeout: 200 });
        broker.answer(node.address, 'none', 1);
        await should(ask({ ...question('a'), fields: { ...question('a').fields, message_id: 'early' } })).be.rejected();
        broker.answer(node.address, 'none', 1);
        const arrived = once(broker, 'answer');
        const asked = ask({ ...question('b'), fields: { ...question('b').fields, message_id: 'now' } });
        await arrived;
        broker.put(node.address, { correlation_id: 'early', body: 'late' });
        broker.put(node.address, { correlation_id: 'now', body: 'right' });
        should((await asked).body!.content).equal('right');
      });

      it('shows that the peer refuses its links, and asks as soon as it does not', async () => {
        await start(node);
        broker.refuse(node.address);
        const asked = ask(question('a'));
        await state('refused');
        should(requester.state).match({ error: { condition: 'amqp:unauthorized-access' } });
        broker.allow(node.address);
        await asked;
        should(requester.state).eql({ name: 'connected' });
      });

      it('attaches again when its links are lost', async () => {
        await start(node);
        await ask(question('a'));
        broker.detach(node.address);
        await state('refused');
        await ask(question('b'));
      });

      it('takes no more than its buffer holds', async () => {
        await start({ ...node, buffer: 1 });
        broker.answer(node.address, 'none', 1);
        const first = ask(question('a'));
        first.catch(() => {});
        await should(ask(question('b'))).be.rejectedWith({ code: 'AMQP_BUFFER_FULL' });
      });

      it('gives replies their time when it is closed, and fails the rest', async () => {
        await start(node);
        await state('connected');
        const answered = ask(question('a'));
        const closed = requester.close(5000);
        await should(ask(question('b'))).be.rejectedWith({ code: 'AMQP_SHUTDOWN' });
        await answered;
        await closed;
        should(broker.links()).be.empty();
      });

      it('fails what has no reply when it is closed', async () => {
        await start(node);
        broker.answer(node.address, 'none', 1);
        const lost = ask(question('a'));
        lost.catch(() => {});
        await once(broker, 'answer');
        await requester.close(10);
        await should(lost).be.rejectedWith({ code: 'AMQP_SHUTDOWN' });
      });
    });
  }

  it('refuses a request that cannot be encoded', async () => {
    await start(PAIR);
    const cyclic: unknown[] = [];
    cyclic.push(cyclic);
    await should(
      ask(outgoing({ payload: cyclic, amqp: { body_type: 'value' } }, { format: 'body', body: 'auto' })),
    ).be.rejected();
    should(requester.pending()).be.empty();
    await ask(get('a'));
  });
});
