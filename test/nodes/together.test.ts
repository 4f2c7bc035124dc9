// What only shows when several nodes, or several links, meet.
import { once } from 'node:events';
import { linksOn } from '../../nodes/lib/exchange/links';
import type { AddressInfo, Socket } from 'node:net';
import rhea, { type EventContext } from 'rhea';
import should from 'should';
import { Connection } from '../../nodes/lib/connection/connection';
import { encode, outgoing, stylesOf } from '../../nodes/lib/message/message';
import { Requester } from '../../nodes/lib/exchange/requester';
import { Responder } from '../../nodes/lib/exchange/responder';
import { Entry } from '../../nodes/lib/link/entry';
import { Sender } from '../../nodes/lib/sender/sender';
import { Broker } from '../../broker/broker';
import { collect, endpointNode, flow, helper, inject, load, message, node, status } from '../flow';

type ListenOptions = Parameters<typeof rhea.listen>[0];

let broker: Broker;
let connection: Connection;
const connect = (options: object = {}) =>
  (connection = new Connection({
    servers: [{ host: '127.0.0.1', port: broker?.port }],
    containerId: 'x',
    connectTimeout: 5000,
    idleTimeout: 0,
    backoff: { initial: 10, max: 10 },
    loginBackoff: { initial: 10, max: 10 },
    ...options,
  }));
const styles = stylesOf('body', 'auto');
const requester = (name: string, options: object = {}) => {
  const r = new Requester(linksOn(connection), {
    name,
    address: 'q',
    replyTo: {},
    timeout: 500,
    reconnect: 'resend',
    buffer: 100,
    bufferBytes: Infinity,
    styles,
    ...options,
  });
  r.open();
  connection.open();
  return r;
};
const msg = (payload: unknown, amqp: object = {}) => outgoing({ payload, amqp }, { format: 'body', body: 'auto' });
const ask = (r: Requester, payload: unknown, amqp?: object) =>
  new Promise((resolve, reject) =>
    r.request(msg(payload, amqp), undefined, {
      sent: () => {},
      reply: ({ body }) => resolve(body?.content),
      failed: reject,
    }),
  );
const state = async (x: any, name: string) => {
  while (x.state.name !== name) await once(x, 'state');
};
const requests = (count = 1) =>
  new Promise<any[]>((resolve) => {
    const seen: any[] = [];
    const l = (address: string, m: any) => {
      if (address === 'q' && seen.push(m) === count) {
        broker.off('message', l);
        resolve(seen);
      }
    };
    broker.on('message', l);
  });
const serve = () =>
  broker.on('message', (a: string, m: any) => {
    if (a === 'q') broker.put(m.reply_to, { correlation_id: m.correlation_id, body: 'reply' });
  });

describe('links and requests that meet each other', () => {
  beforeEach(async () => {
    broker = await Broker.start();
  });
  afterEach(() => broker.stop());

  it('a link closed before its begin is answered leaves the connection alone', async () => {
    connect();
    const a = requester('a');
    await state(a, 'connected');
    const states: string[] = [];
    connection.on('state', (s) => states.push(s.name));
    await requester('b').close(0);
    const taken = requests();
    const answer = ask(a, 'hi');
    const [r] = await taken;
    broker.put(r.reply_to, { correlation_id: r.correlation_id, body: 'ho' });
    await answer;
    states.should.eql([]);
    await a.close(0);
  });

  it('more addresses than links, without relay, cost no connection and open no second one', async () => {
    await broker.stop();
    broker = await Broker.start({ anonymousRelay: false });
    let connections = 0;
    broker.on('connection', () => connections++);
    connect();
    const taken: any[] = [];
    const r = new Responder(
      linksOn(connection),
      {
        name: 'r',
        address: 'q',
        settle: 'reply',
        creditWindow: 100,
        windowBytes: 2 ** 26,
        retryTime: 0,
        timeout: 60000,
        styles,
      },
      {
        message: (m, { id }) => void taken.push({ ...m, id: id! }),
        undelivered: () => ({ settle: 'modify' }),
        undecodable: () => {},
      },
    );
    r.open();
    connection.open();
    for (let n = 0; n < 70; n++) broker.put('q', { body: n, message_id: n, reply_to: `back ${n}` });
    while (taken.length < 70) await new Promise((x) => setImmediate(x));
    await Promise.all(
      taken.map(
        ({ id }) => new Promise<void>((resolve, reject) => r.respond(id, msg('x'), (e) => (e ? reject(e) : resolve()))),
      ),
    );
    await r.close(0);
    connections.should.equal(1);
    broker.connections().should.equal(0);
  });

  const IDS: [string, unknown][] = [
    ['uuid without dashes', { $amqp: 'uuid', value: '0123456789abcdef0123456789abcdef' }],
    ['uuid of bytes', { $amqp: 'uuid', value: Buffer.alloc(16, 7) }],
    ['string notation', { $amqp: 'string', value: 'ABC' }],
    ['binary notation', { $amqp: 'binary', value: Buffer.from('ABC').toString('base64') }],
  ];
  for (const [type, id] of IDS) {
    it(`B5 requester.ts keyOf: finds the request by an id written as ${type}`, async () => {
      connect();
      // Our responder: it keeps types (tested).
      const r = new Responder(
        linksOn(connection),
        {
          name: 'r',
          address: 'q',
          settle: 'reply',
          creditWindow: 100,
          windowBytes: 2 ** 26,
          retryTime: 0,
          timeout: 60000,
          styles,
        },
        {
          message: (_m, { id: token }) => r.respond(token!, msg('ho'), () => {}),
          undelivered: () => ({ settle: 'modify' }),
          undecodable: () => {},
        },
      );
      r.open();
      const a = requester('a', { timeout: 60_000 });
      try {
        (await ask(a, 'hi', { correlation_id: id }))!.should.equal('ho');
      } finally {
        await a.close(0);
        await r.close(0);
      }
    });
  }

  it('a request that timed out makes room, also when the peer never told its outcome', async () => {
    connect();
    broker.answer('q', 'none', 1);
    const a = requester('a', { timeout: 100, buffer: 1 });
    try {
      await ask(a, 1).should.be.rejectedWith({ code: 'AMQP_REPLY_TIMEOUT' });
      serve();
      (await ask(a, 2))!.should.equal('reply');
    } finally {
      await a.close(0);
    }
  });
});

describe('a message that the peer falls over', () => {
  it('is given up after ten connections, and those behind it are delivered', async () => {
    const container = rhea.create_container();
    const accepted: number[] = [];
    container.on('message', ({ message: received, delivery, connection: peer }: EventContext) => {
      const { socket } = peer as unknown as { socket: Socket & { isDoomed?: boolean } };
      if (socket.isDoomed) return;
      if (received!.body !== 2) {
        accepted.push(received!.body);
        delivery!.accept();
        return;
      }
      // What it has accepted before is still told.
      socket.isDoomed = true;
      setImmediate(() => socket.destroy());
    });
    for (const event of ['disconnected', 'error', 'connection_error']) container.on(event, () => {});
    const server = container.listen({
      port: 0,
      host: '127.0.0.1',
      receiver_options: { autoaccept: false },
    } as ListenOptions);
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    connect({ servers: [{ host: '127.0.0.1', port }] });
    const sender = new Sender(connection, {
      name: 's',
      address: 'q',
      guarantee: 'at-least-once',
      buffer: 10,
      bufferBytes: Infinity,
      full: 'refuse',
      retryTime: 60_000,
      timeout: 0,
    });
    sender.open();
    connection.open();
    const outcomes = [1, 2, 3, 4].map(
      (payload) =>
        new Promise<string>((resolve) => {
          const bytes = encode(outgoing({ payload }, { format: 'body', body: 'auto' }));
          sender.send(new Entry(bytes, (error, sent) => resolve(error?.code ?? sent.state)));
        }),
    );
    should(await Promise.all(outcomes)).eql(['accepted', 'AMQP_IN_DOUBT', 'accepted', 'accepted']);
    should(accepted).containDeep([1, 3, 4]);
    await sender.close(0);
    server.close();
  });
});

describe('nodes wired to each other', () => {
  before(() => helper.startServer());
  after(() => helper.stopServer());
  beforeEach(async () => {
    broker = await Broker.start();
  });
  afterEach(async () => {
    await helper.unload();
    await broker.stop();
  });

  it('the first output gives the request, and before the reply, however fast that comes', async () => {
    await load(flow(endpointNode(broker.port), node('amqp-requester')));
    await status('requester', 'connected');
    serve();
    const order: unknown[] = [];
    for (const id of ['outcome', 'out']) helper.getNode(id).on('input', (m) => order.push([id, m.payload]));
    const both = Promise.all([message('outcome'), message('out')]);
    inject('requester', { payload: 'request' });
    await both;
    order.should.eql([
      ['outcome', 'request'],
      ['out', 'reply'],
    ]);
  });

  it('a reply sent on by a sender loses the `to` of its hop, also when msg.delivery is that of a receiver', async () => {
    await load(
      flow(
        endpointNode(broker.port),
        node('amqp-receiver', { address: 'in', settle: 'flow', wires: [['requester']] }),
        node('amqp-requester', { wires: [[], ['sender']] }),
        node('amqp-sender', { address: 'fin', wires: [['out']] }),
        node('amqp-responder', { wires: [['responder']] }),
      ),
    );
    const out = message('out');
    broker.put('in', { body: 1 });
    await out;
    should(broker.messages('fin')[0]!.to).be.undefined();
  });

  it('a reply to a request from before a reconnect is AMQP_DELIVERY_LOST', async () => {
    await load(flow(endpointNode(broker.port), node('amqp-responder')));
    let taken = message('out');
    broker.put('q', { body: 1, message_id: 1, reply_to: 'back' });
    const stale = await taken;
    taken = message('out');
    broker.dropSockets();
    const fresh = await taken;
    const ended = Promise.race([message('caught'), message('completed')]);
    inject('responder', stale);
    const { error } = await ended;
    const settled = once(broker, 'settled');
    inject('responder', fresh);
    await settled;
    should(error?.code).equal('AMQP_DELIVERY_LOST');
    broker.messages('back').should.have.length(1);
  });

  it('an empty reply_to is none', async () => {
    await load(flow(endpointNode(broker.port), node('amqp-responder')));
    const [taken, caught, settled] = [message('out'), message('caught'), once(broker, 'settled')];
    broker.put('q', { body: 1, message_id: 1, reply_to: '' });
    inject('responder', await taken);
    (await caught).error!.code!.should.equal('AMQP_NO_REPLY_TO');
    should((await settled)[0]).match({ state: 'accepted' });
  });

  it('the body option says how the reply is written, not the body_type of the request', async () => {
    await load(flow(endpointNode(broker.port), node('amqp-responder', { body: 'json' })));
    const [taken, completed] = [message('out'), message('completed')];
    broker.put('q', { body: { a: 1 }, message_id: 1, reply_to: 'back' });
    inject('responder', { ...(await taken), payload: { b: 2 } });
    await completed;
    should(broker.messages('back')[0]!.content_type).equal('application/json');
  });

  it('the flow says of what kind the body of a reply is, in a msg.amqp of its own', async () => {
    await load(flow(endpointNode(broker.port), node('amqp-responder')));
    const [taken, completed] = [message('out'), message('completed')];
    broker.put('q', { body: rhea.message.sequence_section(['a', 1]), message_id: 1, reply_to: 'back' });
    inject('responder', { ...(await taken), amqp: { body_type: 'sequence' } });
    await completed;
    should(broker.messages('back')[0]!.body).match({ typecode: 0x76 });
  });

  it('a reply keeps the type of JMS message of the request, and not what its addresses were', async () => {
    await load(flow(endpointNode(broker.port), node('amqp-responder')));
    const [taken, completed] = [message('out'), message('completed')];
    const message_annotations = { 'x-opt-jms-msg-type': 5, 'x-opt-jms-dest': 0, 'x-opt-jms-reply-to': 2 };
    broker.put('q', { body: 'text', message_id: 1, reply_to: 'back', message_annotations });
    inject('responder', await taken);
    await completed;
    should(broker.messages('back')[0]!.message_annotations).eql({ 'x-opt-jms-msg-type': 5 });
  });

  it('a request that is redelivered while it is in flight does not loop', async () => {
    const configs = flow(
      endpointNode(broker.port),
      node('amqp-receiver', { address: 'jobs', settle: 'flow', wires: [['requester', 'out']] }),
      node('amqp-requester', { wires: [[], []] }),
    );
    for (const c of configs)
      if (c.id === 'complete' || c.id === 'catch') Object.assign(c, { scope: ['requester'], wires: [['receiver']] });
    await load(configs);
    const out = collect('out');
    let taken = requests();
    broker.put('jobs', { message_id: 'm', body: 1 });
    await taken;
    taken = requests();
    broker.dropSockets();
    await taken;
    const settled = once(broker, 'settled');
    serve();
    for (const m of broker.messages('q')) broker.put(m!.reply_to!, { correlation_id: m!.correlation_id, body: 'ok' });
    should((await settled)[0]).match({ state: 'accepted' });
    out.length.should.equal(2);
  });

  it('a receiver -> sender -> Complete -> receiver settles, or says why not', async () => {
    const configs = flow(
      endpointNode(broker.port),
      node('amqp-receiver', { address: 'jobs', settle: 'flow', format: 'message', wires: [['sender']] }),
      node('amqp-sender', { format: 'message', wires: [['out']] }),
    );
    for (const c of configs) if (c.id === 'complete') Object.assign(c, { scope: ['sender'], wires: [['receiver']] });
    await load(configs);
    const [caught, settled] = [message('caught'), once(broker, 'settled')];
    broker.put('jobs', { message_id: 'm', body: 1 });
    await Promise.race([caught, settled]);
  });

  it('what is sent again is what was sent, whatever became of the payload', async () => {
    await load(flow(endpointNode(broker.port), node('amqp-requester')));
    const payload = { n: 1 };
    let taken = requests();
    inject('requester', { payload });
    await taken;
    payload.n = 2;
    taken = requests();
    broker.dropSockets();
    const [again] = await taken;
    const out = message('out');
    broker.put(again.reply_to, { correlation_id: again.correlation_id, body: 'x' });
    await out;
    should(again.body).match({ n: 1 });
  });
});
