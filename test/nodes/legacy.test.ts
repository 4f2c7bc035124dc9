// Flows of node-red-contrib-rhea, as its nodes were saved: without `format`, and with numbers now and then as strings.
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import rhea, { type EventContext } from 'rhea';
import should from 'should';
import { collect, helper, inject, message, messages, type Msg, nodes } from '../flow';
import { coreNode, type NodeConfig } from '../node-red';
import { Broker, type BrokerOptions } from '../../broker/broker';
import { secretIn, secretOf } from '../secrets';

const CORE = ['common/20-inject', 'function/10-function'].map(coreNode);

let broker: Broker;

const TAB = { id: 'df507335.a4e92', type: 'tab', label: 'Flow 1' };
const ON_TAB = { z: TAB.id, x: 100, y: 100, name: '' };

const endpoint = (port: number, properties: object = {}): NodeConfig => ({
  id: 'endpoint',
  type: 'amqp-endpoint',
  z: TAB.id,
  host: '127.0.0.1',
  port: String(port),
  name: '',
  ...properties,
});

const sender = (properties: object = {}): NodeConfig => ({
  id: 'sender',
  type: 'amqp-sender',
  ...ON_TAB,
  endpoint: 'endpoint',
  address: 'my_queue',
  autosettle: true,
  dynamic: false,
  sndsettlemode: 2,
  rcvsettlemode: 0,
  durable: 0,
  expirypolicy: 'session-end',
  wires: [['outcome']],
  ...properties,
});

const receiver = (properties: object = {}): NodeConfig => ({
  id: 'receiver',
  type: 'amqp-receiver',
  ...ON_TAB,
  endpoint: 'endpoint',
  address: 'my_queue',
  autoaccept: true,
  creditwindow: 100,
  dynamic: false,
  sndsettlemode: 2,
  rcvsettlemode: 0,
  durable: 0,
  expirypolicy: 'session-end',
  wires: [['out']],
  ...properties,
});

const requester = (properties: object = {}): NodeConfig => ({
  id: 'requester',
  type: 'amqp-requester',
  ...ON_TAB,
  endpoint: 'endpoint',
  address: 'my_request',
  wires: [['outcome'], ['out']],
  ...properties,
});

const responder = (properties: object = {}): NodeConfig => ({
  id: 'responder',
  type: 'amqp-responder',
  ...ON_TAB,
  endpoint: 'endpoint',
  address: 'my_request',
  wires: [['answer']],
  ...properties,
});

const code = (id: string, func: string, ...wires: string[]): NodeConfig => ({
  id,
  type: 'function',
  ...ON_TAB,
  func,
  outputs: 1,
  noerr: 0,
  wires: [wires],
});

const button = (id: string, payload: string, payloadType: string, wire: string): NodeConfig => ({
  id,
  type: 'inject',
  ...ON_TAB,
  topic: '',
  payload,
  payloadType,
  repeat: '',
  crontab: '',
  once: false,
  wires: [[wire]],
});

const press = (id: string): void => inject(id, {});

/** Stands for the debug nodes of these flows. */
const shown = (id: string): NodeConfig => ({ id, type: 'helper', ...ON_TAB, wires: [] });

const CATCH: NodeConfig = { id: 'catch', type: 'catch', ...ON_TAB, scope: null, wires: [['caught']] };

async function load(...configs: NodeConfig[]): Promise<void> {
  helper.settings({ amqpEndpointReconnectTime: 20 });
  await helper.load([...nodes, ...CORE], [TAB, ...['out', 'outcome', 'caught'].map(shown), CATCH, ...configs]);
}

async function start(configs: NodeConfig[], options?: BrokerOptions, login?: object): Promise<void> {
  broker = await Broker.start(options);
  await load(endpoint(broker.port, login), ...configs);
}

const settled = async (): Promise<unknown> => (await once(broker, 'settled'))[0];

describe('a flow of node-red-contrib-rhea', () => {
  before(() => helper.startServer());
  after(() => helper.stopServer());
  afterEach(async () => {
    await helper.unload();
    await broker?.stop();
  });

  it('sends and receives: the payload is the whole message', async () => {
    await start([
      button('hello', 'Hello', 'str', 'to message'),
      code('to message', 'msg.payload = { body: msg.payload }\nreturn msg;\n', 'sender'),
      sender(),
      receiver(),
    ]);
    const [out, outcome] = [message('out'), message('outcome')];
    press('hello');
    const received = await out;
    received.payload!.should.have.property('body', 'Hello');
    received.delivery!.should.match({ tag: /./, address: 'my_queue' });
    received.should.not.have.property('amqp');

    const { deliveryStatus, delivery } = await outcome;
    deliveryStatus!.should.equal('accepted');
    delivery!.should.match({ state: 'accepted', tag: /./, address: 'my_queue' });
    for (const msg of [received, await outcome]) JSON.parse(JSON.stringify(msg)).should.eql(structuredClone(msg));
  });

  it('receives by the credit that comes back to the receiver, and sends pre-settled', async () => {
    await start([
      button('hello', 'Hello', 'str', 'to message'),
      code(
        'to message',
        // The flow of the old package gives it 10 ms to live.
        'msg.payload = { ttl: 10000, message_id: 40, body: msg.payload }\nreturn msg;',
        'sender',
      ),
      sender({ address: 'my_address', sndsettlemode: '1', rcvsettlemode: '0', durable: '0' }),
      receiver({
        address: 'my_address',
        creditwindow: '100',
        sndsettlemode: '2',
        rcvsettlemode: '0',
        durable: '0',
        wires: [['out', 'add credit']],
      }),
      code('add credit', 'msg.credit = 10\nreturn msg;', 'receiver'),
      button('credit', '10', 'num', 'grant'),
      code('grant', 'msg.credit = msg.payload\nreturn msg;', 'receiver'),
    ]);
    const caught = collect('caught');
    press('credit');
    for (let n = 0; n < 3; n++) {
      const [out, outcome] = [message('out'), message('outcome')];
      press('hello');
      (await out).payload!.should.match({ ttl: 10000, message_id: 40, body: 'Hello' });
      (await outcome).should.match({ deliveryStatus: 'settled', delivery: { state: 'settled' } });
    }
    caught.should.eql([]);
  });

  it('asks and answers: each reply finds its own request', async () => {
    await start([
      button('hello', 'Hello', 'str', 'to message'),
      code('to message', 'msg.payload = { body: msg.payload }\nreturn msg;', 'requester'),
      requester(),
      responder({ wires: [['to answer']] }),
      code('to answer', 'msg.payload = { body: msg.payload.body + " Paolo" };\nreturn msg;', 'answer', 'responder'),
      shown('answer'),
    ]);
    const [out, outcome, answer] = [message('out'), message('outcome'), message('answer')];
    press('hello');
    should((await answer).payload).match({ body: 'Hello Paolo' });
    const { deliveryStatus, delivery } = await outcome;
    deliveryStatus!.should.equal('accepted');
    delivery!.should.match({ state: 'accepted', tag: /./, address: 'my_request' });
    const { payload, delivery: received } = await out;
    payload!.should.have.property('body', 'Hello Paolo');
    received!.should.match({ tag: /./, address: /^dynamic-/ });

    const replies = messages('out', 20);
    for (let n = 0; n < 20; n++) inject('to message', { payload: `Hello ${n}`, n });
    for (const { payload: reply, n } of await replies) {
      (reply as { body: string }).body.should.equal(`Hello ${String(n)} Paolo`);
    }
    // The old requester sent nothing but the body.
    const [whole, request] = [message('out'), message('answer')];
    inject('requester', { payload: { body: 'Hi', subject: 'greeting', message_id: 7 } });
    await request;
    (await whole).payload!.should.match({ body: 'Hi Paolo', correlation_id: 7 });
  });

  it('shows fields, annotations and properties in the payload, and sends them on from there', async () => {
    await start([receiver({ wires: [['out', 'forward']] }), sender({ id: 'forward', address: 'next' })]);
    const fields = {
      body: { a: [1, 'x'] },
      subject: 's',
      correlation_id: 'c',
      durable: true,
      application_properties: { n: 1, s: 'x', b: true },
      message_annotations: { 'x-opt-a': 1 },
    };
    const [out, outcome] = [message('out'), message('outcome')];
    broker.put('my_queue', fields);
    (await out).payload!.should.eql(fields);
    await outcome;
    broker.messages('next').should.match([fields]);
  });

  it('receives nothing but what it has credit for when its window is 0', async () => {
    await start([receiver({ creditwindow: '0' })]);
    for (let n = 0; n < 5; n++) broker.put('my_queue', { body: n });
    const all = collect('out');
    let out = messages('out', 2);
    inject('receiver', { credit: 2 });
    await out;
    out = messages('out', 1);
    inject('receiver', { credit: '1' });
    await out;
    all.map(({ payload }) => (payload as { body: number }).body).should.eql([0, 1, 2]);
    broker.ready('my_queue').should.equal(2);
  });

  it('keeps what it receives, without autoaccept, until the msg comes back', async () => {
    await start([receiver({ autoaccept: false })]);
    const out = messages('out', 2);
    broker.put('my_queue', { body: 1, message_id: 1 });
    broker.put('my_queue', { body: 2, message_id: 2 });
    const [, second] = await out;
    broker.unsettled('my_queue').should.equal(2);
    const outcome = settled();
    inject('receiver', second!);
    (await outcome)!.should.match({ id: 2, state: 'accepted' });
    broker.unsettled('my_queue').should.equal(1);
  });

  it('reports a message that the peer does not take by the output and to Catch nodes', async () => {
    await start([sender(), requester()]);
    for (const [id, address] of [
      ['sender', 'my_queue'],
      ['requester', 'my_request'],
    ] as const) {
      broker.answer(address, 'reject', 1);
      const [outcome, caught] = [message('outcome'), message('caught')];
      inject(id, { payload: { body: 'no' }, keep: 1 });
      (await outcome).should.match({ keep: 1, deliveryStatus: 'rejected', delivery: { state: 'rejected', address } });
      (await caught).should.match({ keep: 1, error: { code: 'AMQP_REJECTED', source: { id } } });
    }
  });

  for (const payload of ['Hello', 7, null, Buffer.from('x'), [1]]) {
    it(`is told that a payload such as ${JSON.stringify(payload)} is no message`, async () => {
      await start([sender()]);
      const caught = message('caught');
      inject('sender', { payload });
      (await caught).error!.should.match({
        code: 'AMQP_BAD_MESSAGE',
        message: /msg\.payload must be the AMQP message/,
      });
    });
  }

  it('logs in with the user and password that stand in it, warns of that once, and shows them nowhere', async () => {
    await start(
      [sender(), receiver()],
      { users: { paolo: secretOf('password') }, anonymous: false },
      {
        username: 'paolo',
        password: secretOf('password'),
      },
    );
    const out = message('out');
    inject('sender', { payload: { body: 'Hello' } });
    (await out).payload!.should.have.property('body', 'Hello');
    const log = helper.log().args.map(([entry]) => entry);
    log.filter(({ msg }) => String(msg).includes('clear-text')).should.have.length(1);
    should(secretIn(JSON.stringify(log))).equal(undefined);
  });

  it('attaches with the durability and expiry that it names', async () => {
    await start([
      sender({ durable: '1', expirypolicy: 'connection-close' }),
      receiver({ durable: '2', expirypolicy: 'never' }),
    ]);
    while (broker.links().length < 2) await once(broker, 'attach');
    const [to, from] = ['sender', 'receiver'].map((role) => broker.links().find((link) => link.role === role)!);
    to!.target!.should.match({ address: 'my_queue', durable: 1, expiry_policy: 'connection-close' });
    from!.source!.should.match({ address: 'my_queue', durable: 2, expiry_policy: 'never' });
  });

  it('has the peer make addresses where it says dynamic', async () => {
    await start([sender({ dynamic: true }), receiver({ dynamic: true })]);
    while (broker.links().length < 2) await once(broker, 'attach');
    const [to, from] = ['sender', 'receiver'].map((role) => broker.links().find((link) => link.role === role)!);
    to!.target!.should.have.property('dynamic', true);
    from!.source!.should.have.property('dynamic', true);
    const out = message('out');
    broker.put(from!.address, { body: 'Hello' });
    (await out).should.match({ payload: { body: 'Hello' }, delivery: { address: from!.address } });
    const outcome = message('outcome');
    inject('sender', { payload: { body: 'Hello' } });
    (await outcome).should.match({ deliveryStatus: 'accepted', delivery: { address: to!.address } });
  });

  it('sends pre-settled indeed where its settle mode is "1", a string', async () => {
    const container = rhea.create_container({ id: 'peer' });
    container.sasl_server_mechanisms.enable_anonymous();
    container.on('disconnected', () => {});
    const server = container.listen({ host: '127.0.0.1', port: 0 });
    await once(server, 'listening');
    const received = once(container, 'message') as Promise<[EventContext]>;
    await load(endpoint((server.address() as AddressInfo).port), sender({ sndsettlemode: '1' }));
    inject('sender', { payload: { body: 'Hello' } });
    const [{ delivery, receiver: link }] = await received;
    delivery!.remote_settled.should.be.true();
    link!.snd_settle_mode.should.equal(1);
    await helper.unload();
    server.close();
  });
});

describe('a new node with format "message"', () => {
  before(() => helper.startServer());
  after(() => helper.stopServer());
  afterEach(async () => {
    await helper.unload();
    await broker.stop();
  });

  it('has the payload of the old nodes, and otherwise does as new ones do', async () => {
    broker = await Broker.start();
    const fresh = { ...ON_TAB, endpoint: 'endpoint', address: 'q', format: 'message' };
    await load(
      endpoint(broker.port),
      { ...fresh, id: 'sender', type: 'amqp-sender', wires: [['outcome']] },
      { ...fresh, id: 'receiver', type: 'amqp-receiver', wires: [['out']] },
    );
    const outcomes = collect('outcome');
    broker.answer('q', 'reject', 1);
    const caught = message('caught');
    inject('sender', { payload: { body: 'no' } });
    (await caught).error!.should.have.property('code', 'AMQP_REJECTED');
    should(outcomes).eql([]);

    const [out, outcome] = [message('out'), message('outcome')];
    inject('sender', { payload: { body: 'Hello', subject: 's' } });
    const received: Msg = await out;
    received.payload!.should.match({ body: 'Hello', subject: 's' });
    (await outcome).should.match({ deliveryStatus: 'accepted', sent: { state: 'accepted' } });
  });
});
