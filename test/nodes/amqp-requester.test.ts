import { once } from 'node:events';
import rhea, { type Message } from 'rhea';
import should from 'should';
import {
  collect,
  endpointNode,
  flow,
  helper,
  inject,
  load,
  message,
  messages,
  type Msg,
  node,
  nodes,
  status,
} from '../flow';
import { coreNode } from '../node-red';
import { Broker, type BrokerOptions } from '../../broker/broker';

let broker: Broker;

async function start(properties: object = {}, options?: BrokerOptions, settings?: object): Promise<void> {
  broker = await Broker.start(options);
  await load(flow(endpointNode(broker.port), node('amqp-requester', properties)), {}, settings);
}

/** The next requests that reach the broker. */
function requests(count = 1, address = 'q'): Promise<Message[]> {
  const taken: Message[] = [];
  return new Promise((resolve) => {
    const listener = (to: string, request: Message): void => {
      if (to !== address || taken.push(request) < count) return;
      broker.off('message', listener);
      resolve(taken);
    };
    broker.on('message', listener);
  });
}

function reply({ reply_to: to, correlation_id: id }: Message, body: unknown, fields: object = {}): void {
  broker.put(to!, { correlation_id: id, body, ...fields });
}

/** Answers all requests from now on. */
function serve(answer: (request: Message) => unknown, address = 'q'): void {
  broker.on('message', (to: string, request: Message) => {
    if (to === address) reply(request, answer(request));
  });
}

/** Lets the broker answer each request with these bodies. */
function answerWith(...bodies: unknown[]): void {
  broker.on('message', (to: string, request: Message) => {
    if (to === 'q') for (const body of bodies) reply(request, body);
  });
}

/** What the requester's reply link asked for. */
const source = () => broker.links().find(({ name }) => name === 'requester:reply')!.source!;

/** Sends a request that is to fail. Resolves with what the Catch node got. */
async function failure(msg: object): Promise<Msg> {
  const [caught, out] = [message('caught'), collect('out')];
  inject('requester', { ...msg, keep: 1 });
  const failed = await caught;
  failed['keep']!.should.equal(1);
  out.should.eql([]);
  return failed;
}

const redeploy = () =>
  helper.setFlows(flow(endpointNode(broker.port), node('amqp-requester', { name: 'changed' })), 'nodes');

const shuffled = <T>(items: T[]): T[] => items.map((_, i) => items[(i * 7919 + 13) % items.length]!);

describe('amqp-requester', () => {
  before(() => helper.startServer());
  after(() => helper.stopServer());
  afterEach(async () => {
    await helper.unload();
    await broker.stop();
  });

  it('makes its requests no more durable than it is told to: it keeps each until its reply has come', async () => {
    for (const durablemessages of [undefined, true]) {
      await start({ durablemessages, ttl: 5 });
      const taken = requests();
      inject('requester', { payload: 1 });
      should((await taken)[0]).match({ ttl: 5000 });
      should(Boolean((await taken)[0]!.durable)).equal(durablemessages === true);
      await helper.unload();
      await broker.stop();
    }
    await start();
  });

  it('fails a request with what could be read of a reply that cannot be decoded', async () => {
    await start();
    const taken = requests();
    const failed = failure({ payload: 'hi', amqp: { message_id: 'm' } });
    const [{ reply_to: to }] = (await taken) as [Message];
    const refusal = rhea.message.encode({ correlation_id: 'm', application_properties: { why: 'no' }, body: '' });
    broker.put(to!, Buffer.concat([refusal.subarray(0, refusal.length - 5), Buffer.from('005377ff', 'hex')]));
    (await failed).should.match({
      payload: 'hi',
      amqp: { application_properties: { why: 'no' } },
      error: { code: 'AMQP_DECODE' },
    });
  });

  it("sends a request, and its reply leaves by the second output with the request's own msg", async () => {
    await start();
    const taken = requests();
    const [out, completed] = [message('out'), message('completed')];
    const res = { end: () => {} };
    const asked = { payload: 'hi', topic: 'mine', keep: { all: 1 }, res, amqp: { subject: 'greet', priority: 7 } };
    inject('requester', asked);
    const [request] = await taken;
    request!.should.match({ body: 'hi', subject: 'greet', priority: 7 });
    reply(request!, 'ho', { application_properties: { grade: 'a' }, message_id: 'r1' });
    const answer = await out;
    answer.should.match({ payload: 'ho', topic: 'mine', keep: { all: 1 } });
    answer['res']!.should.equal(res);
    answer.amqp!.should.eql({
      message_id: 'r1',
      correlation_id: request!.correlation_id,
      application_properties: { grade: 'a' },
      body_type: 'value',
    });
    answer.delivery!.should.match({ address: request!.reply_to, redelivered: false });
    answer.delivery!.should.not.have.property('id');
    (await completed)['keep']!.should.eql({ all: 1 });
  });

  it('reports by the first output what became of the request', async () => {
    await start();
    const taken = requests();
    const outcome = message('outcome');
    const out = message('out');
    inject('requester', { payload: 'hi', keep: 1 });
    const [request] = await taken;
    const { sent, ...msg } = await outcome;
    msg.should.match({ payload: 'hi', keep: 1 });
    sent!.should.match({ address: 'q', state: 'accepted' });
    reply(request!, 'ho');
    (await out).should.not.have.property('sent');
  });

  it('gives each of 1000 replies to its own msg, in whatever order they come', async () => {
    await start();
    const taken = requests(1000);
    const [out, completed] = [messages('out', 1000), messages('completed', 1000)];
    const caught = collect('caught');
    for (let n = 0; n < 1000; n++) inject('requester', { payload: n, topic: `topic ${n}`, n, nested: { n: [n] } });
    for (const request of shuffled(await taken)) reply(request, { answers: request.body });
    for (const { payload, topic, n, nested } of await out) {
      should({ payload, topic, nested }).eql({
        payload: { answers: n },
        topic: `topic ${String(n)}`,
        nested: { n: [n] },
      });
    }
    new Set((await completed).map(({ n }) => n)).size.should.equal(1000);
    caught.should.eql([]);
  });

  it('works beside another one on the same endpoint and address, each with 100 requests in flight', async () => {
    broker = await Broker.start();
    const requesters = ['a', 'b'].map((id) => node('amqp-requester', { id, wires: [[], [`${id} out`]] }));
    const outs = ['a', 'b'].map((id) => ({ id: `${id} out`, type: 'helper', z: 'flow', x: 0, y: 0, wires: [] }));
    await load(flow(endpointNode(broker.port), ...requesters, ...outs));
    const taken = requests(200);
    const out = ['a', 'b'].map((id) => messages(`${id} out`, 100));
    for (let n = 0; n < 100; n++) for (const id of ['a', 'b']) inject(id, { payload: `${id}${n}`, from: id, n });
    for (const request of shuffled(await taken)) reply(request, request.body);
    const [a, b] = await Promise.all(out);
    for (const [id, replies] of [['a', a!] as const, ['b', b!] as const]) {
      for (const { payload, from, n } of replies)
        should({ payload, from }).eql({ payload: `${id}${String(n)}`, from: id });
    }
  });

  it('keeps the msg.delivery that the request came with, so that its receiver settles it', async () => {
    broker = await Broker.start();
    const configs = flow(
      endpointNode(broker.port),
      node('amqp-receiver', { address: 'jobs', settle: 'flow', onerror: 'reject', wires: [['requester']] }),
      node('amqp-requester', { wires: [[], []] }),
    );
    for (const config of configs) {
      if (config.id !== 'complete' && config.id !== 'catch') continue;
      Object.assign(config, { scope: ['requester'], wires: [['receiver']] });
    }
    await load(configs);
    serve((request) => `done: ${request.body}`);
    const settled = (): Promise<unknown> =>
      new Promise((resolve) => {
        broker.on('settled', (disposition) => disposition.address === 'jobs' && resolve(disposition));
      });
    let outcome = settled();
    broker.put('jobs', { message_id: 'good', body: 'job' });
    (await outcome)!.should.match({ id: 'good', state: 'accepted' });

    outcome = settled();
    broker.answer('q', 'reject', 1);
    broker.put('jobs', { message_id: 'bad', body: 'job' });
    (await outcome)!.should.match({ id: 'bad', state: 'rejected' });
    broker.depth('jobs').should.equal(0);
  });

  describe('takes replies at', () => {
    it('an address that the peer makes', async () => {
      await start();
      await status('requester', 'connected');
      source().should.have.property('dynamic', true);
      source().should.not.have.property('capabilities');
    });

    it('one that it makes with a capability', async () => {
      await start({ replyto: 'capability', replycapability: 'temporary-topic' });
      await status('requester', 'connected');
      source().should.match({ dynamic: true, capabilities: ['temporary-topic'] });
    });

    it('one that the node names', async () => {
      await start({ replyto: 'fixed', replyaddress: 'replies' });
      serve(() => 'ho');
      const out = message('out');
      inject('requester', { payload: 'hi' });
      (await out).should.match({ payload: 'ho', delivery: { address: 'replies' } });
    });
  });

  describe('finds the address in', () => {
    for (const [where, properties, msg] of [
      ['a property of the msg', { address: 'to', addressType: 'msg' }, { to: 'there' }],
      ['msg.amqp.to', { address: '' }, { amqp: { to: 'there' }, topic: 'not here' }],
      ['msg.topic', { address: '' }, { topic: 'there' }],
    ] as const) {
      it(where, async () => {
        await start(properties);
        serve(() => 'ho', 'there');
        const out = message('out');
        inject('requester', { payload: 'hi', ...msg });
        (await out).payload!.should.equal('ho');
      });
    }
  });

  it('writes the body and reads that of the reply as its options say', async () => {
    await start({ body: 'json', output: 'string' });
    const taken = requests();
    const out = message('out');
    inject('requester', { payload: { a: 1 } });
    const [request] = await taken;
    request!.content_type!.should.equal('application/json');
    reply(request!, { b: 2 });
    (await out).payload!.should.equal('{"b":2}');
  });

  describe('hands to a Catch node, with the msg of the request', () => {
    it('that no reply came in time', async () => {
      await start({ timeout: '0.03' });
      const { payload, error } = await failure({ payload: 'hi' });
      should({ payload, code: error!.code }).eql({ payload: 'hi', code: 'AMQP_REPLY_TIMEOUT' });
    });

    it('that the peer rejected the request', async () => {
      await start();
      broker.answer('q', 'reject', 1);
      const outcome = message('outcome');
      const { error } = await failure({ payload: 'hi' });
      error!.should.match({ code: 'AMQP_REJECTED', message: /amqp:not-allowed/ });
      (await outcome).should.match({
        keep: 1,
        sent: { state: 'rejected', error: { code: 'AMQP_REJECTED', condition: 'amqp:not-allowed' } },
      });
    });

    it('that too many requests are in flight', async () => {
      await start({ buffer: '1' });
      const [taken, first] = [requests(), message('completed')];
      inject('requester', { payload: 'first' });
      const { payload, error } = await failure({ payload: 'second' });
      should({ payload, code: error!.code }).eql({ payload: 'second', code: 'AMQP_BUFFER_FULL' });
      reply((await taken)[0]!, 'ho');
      (await first).payload!.should.equal('ho');
    });

    it('that its correlation id is in flight already', async () => {
      await start();
      const [taken, first] = [requests(), message('completed')];
      inject('requester', { payload: 'first', amqp: { correlation_id: 7 } });
      const { error } = await failure({ amqp: { correlation_id: 7 } });
      error!.should.match({ code: 'AMQP_BAD_MESSAGE', message: /msg\.amqp\.correlation_id/ });
      reply((await taken)[0]!, 'ho');
      (await first).payload!.should.equal('ho');
    });

    it('that the reply is not what it says to be; the bytes can be looked at', async () => {
      await start({ output: 'json' });
      serve(() => '{');
      const { payload, error } = await failure({ payload: 'hi' });
      should({ payload, code: error!.code }).eql({ payload: '{', code: 'AMQP_DECODE' });
    });

    const cyclic: Record<string, unknown> = {};
    cyclic['self'] = cyclic;
    for (const [what, msg, code, text] of [
      ['a field that AMQP does not have', { amqp: { sujbect: 1 } }, 'AMQP_BAD_MESSAGE', /sujbect/],
      ['a field of the wrong type', { amqp: { subject: 1 } }, 'AMQP_BAD_MESSAGE', /msg\.amqp\.subject/],
      ['an id that is none', { amqp: { correlation_id: -1 } }, 'AMQP_BAD_MESSAGE', /msg\.amqp\.correlation_id/],
      ['a function as payload', { payload: () => {} }, 'AMQP_BAD_MESSAGE', /msg\.payload/],
      ['a cyclic payload', { payload: cyclic }, 'AMQP_BAD_MESSAGE', /msg\.payload/],
    ] as const) {
      it(`${what}; the next request is answered`, async () => {
        await start();
        serve(() => 'ho');
        (await failure(msg)).error!.should.match({ code, message: text });
        const out = message('out');
        inject('requester', { payload: 'hi' });
        (await out).payload!.should.equal('ho');
      });
    }

    it('that nothing says where to', async () => {
      await start({ address: '' });
      (await failure({ payload: 'hi' })).error!.should.have.property('code', 'AMQP_NO_ADDRESS');
    });

    it('that no endpoint is chosen', async () => {
      await start({ endpoint: '' });
      (await failure({ payload: 'hi' })).error!.should.have.property('code', 'AMQP_NO_ENDPOINT');
      await status('requester', 'no-endpoint');
    });
  });

  describe('with several replies', () => {
    const several = { replies: 'several' };
    type Part = Msg & { parts: { id: string; type: string; index: number; count?: number } };
    it('gives each as a msg of its own with all else of the request, and is done with the last', async () => {
      await start({ ...several, replycount: 3 });
      answerWith('a', 'b', 'c');
      const [out, completed] = [messages('out', 3), collect('completed')];
      const done = message('completed');
      inject('requester', { payload: 'hi', keep: { all: 1 } });
      const all = (await out) as Part[];
      should(all).match([
        { payload: 'a', keep: { all: 1 }, parts: { index: 0, type: 'array' } },
        { payload: 'b', keep: { all: 1 }, parts: { index: 1 } },
        { payload: 'c', keep: { all: 1 }, parts: { index: 2, count: 3 } },
      ]);
      should(all.map(({ parts }) => 'count' in parts)).eql([false, false, true]);
      should(new Set(all.map(({ parts: { id } }) => id)).size).equal(1);
      await done;
      should(completed).have.length(1);
    });

    it('keeps the parts of the request, for splits within splits', async () => {
      await start({ ...several, replycount: 1 });
      answerWith('a');
      const out = message('out');
      const parts = { id: 'outer', index: 4, count: 9 };
      inject('requester', { payload: 'hi', parts });
      should((await out)['parts']).match({ index: 0, count: 1, parts });
    });

    it('is done with the end marker, in any property of the msg', async () => {
      await start({ ...several, endmarker: 'msg.amqp.application_properties.last' });
      broker.on('message', (to: string, request: Message) => {
        if (to !== 'q') return;
        for (const body of [1, 2]) reply(request, body);
        reply(request, 3, { application_properties: { last: true } });
        reply(request, 4);
      });
      const [out, done] = [collect('out') as Part[], message('completed')];
      inject('requester', { payload: 'hi' });
      await done;
      should(out.map(({ payload, parts: { count } }) => [payload, count])).eql([
        [1, undefined],
        [2, undefined],
        [3, 3],
      ]);
    });

    it('is a fault where the end marker is no name of a property', async () => {
      await start({ ...several, endmarker: 'payload[' });
      await status('requester', '.fault');
    });

    it('takes nothing but true for an end marker', async () => {
      await start({ ...several, endmarker: 'payload.end', replycount: 3 });
      answerWith({ end: 'true' }, { end: 1 }, { end: false });
      const [out, done] = [messages('out', 3), message('completed')];
      inject('requester', { payload: 'hi' });
      await Promise.all([out, done]);
    });

    it('fails when the end marker never comes, with what came given', async () => {
      await start({ ...several, endmarker: 'payload.end', timeout: 0.1 });
      answerWith('a', 'b');
      const [out, caught] = [collect('out'), message('caught')];
      inject('requester', { payload: 'hi', keep: 1 });
      should(await caught).match({ keep: 1, error: { code: 'AMQP_REPLY_TIMEOUT', message: /2 came/ } });
      should(out).have.length(2);
    });

    it('is done after the time where nothing else ends them', async () => {
      await start({ ...several, timeout: 0.1 });
      answerWith('a', 'b');
      const [out, done, caught] = [collect('out'), message('completed'), collect('caught')];
      inject('requester', { payload: 'hi' });
      await done;
      should([out.length, caught.length]).eql([2, 0]);
    });

    it('fails without any reply in time', async () => {
      await start({ ...several, timeout: 0.1 });
      (await failure({ payload: 'hi' })).should.match({ error: { code: 'AMQP_REPLY_TIMEOUT' } });
    });

    it('is a fault where nothing would end them', async () => {
      await start({ ...several, timeout: 0 });
      await status('requester', '.fault');
    });

    it('are put together by a join node', async () => {
      broker = await Broker.start();
      const join = { id: 'join', type: 'join', z: 'flow', x: 0, y: 0, mode: 'auto', build: 'array', wires: [['out']] };
      const wires = [['outcome'], ['join']];
      await helper.load(
        [...nodes, coreNode('sequence/17-split')],
        flow(endpointNode(broker.port), node('amqp-requester', { ...several, replycount: 3, wires }), join),
        {},
      );
      answerWith('a', 'b', 'c');
      const out = messages('out', 2);
      for (const payload of [1, 2]) inject('requester', { payload });
      should((await out).map(({ payload }) => payload)).eql([
        ['a', 'b', 'c'],
        ['a', 'b', 'c'],
      ]);
    });

    it('fails over a reply that is not what it says to be, and gives the others', async () => {
      await start({ ...several, replycount: 2, output: 'json' });
      answerWith('{', '1');
      const [out, caught] = [message('out'), message('caught')];
      inject('requester', { payload: 'hi' });
      should((await out).payload).equal(1);
      should((await caught).error).match({ code: 'AMQP_DECODE' });
    });
  });

  describe('with replies that tell of an error', () => {
    const words = { statusDescription: 'no room', errorCondition: 'a:b' };
    const refused = { application_properties: { statusCode: 404, ...words } };
    const told = { application_properties: { statusCode: { $amqp: 'uint', value: 404 }, ...words } };

    it('fails, by choice, with the words of the service and the reply', async () => {
      await start({ statuserrors: true });
      broker.on('message', (to: string, request: Message) => to === 'q' && reply(request, 'sorry', refused));
      const failed = await failure({ payload: 'hi' });
      failed.should.match({
        payload: 'sorry',
        amqp: told,
        error: { code: 'AMQP_REPLY_STATUS', message: /404 \(a:b: no room\)/ },
      });
    });

    it('gives a reply that tells of success, or of nothing', async () => {
      await start({ statuserrors: true });
      for (const fields of [{}, { application_properties: { statusCode: 399 } }, { subject: '500' }]) {
        broker.once('message', (_to: string, request: Message) => reply(request, 'fine', fields));
        const out = message('out');
        inject('requester', { payload: 'hi' });
        should((await out).payload).equal('fine');
      }
    });

    it('gives it as any other without that choice', async () => {
      await start();
      broker.on('message', (to: string, request: Message) => to === 'q' && reply(request, 'sorry', refused));
      const out = message('out');
      inject('requester', { payload: 'hi' });
      should(await out).match({ payload: 'sorry', amqp: told });
    });

    it('fails once for several replies, one of which tells of it', async () => {
      await start({ statuserrors: true, replies: 'several', replycount: 3 });
      broker.on('message', (to: string, request: Message) => {
        if (to === 'q') for (const fields of [{}, refused, {}]) reply(request, 'x', fields);
      });
      const [out, caught] = [messages('out', 2), message('caught')];
      inject('requester', { payload: 'hi' });
      should((await caught).error).match({ code: 'AMQP_REPLY_STATUS' });
      await out;
    });

    it('fails with the error reply of a responder of ours', async () => {
      broker = await Broker.start();
      const configs = flow(
        endpointNode(broker.port),
        node('amqp-requester', { statuserrors: true }),
        node('amqp-responder', { errorreplies: true, wires: [['outcome']] }),
      );
      Object.assign(
        configs.find(({ type }) => type === 'catch')!,
        { scope: ['outcome'], wires: [['responder']] },
      );
      configs.find(({ id }) => id === 'requester')!['wires'] = [[], ['out']];
      await load(configs);
      helper.getNode('outcome').on('input', (_msg, _send, done) => {
        done(Object.assign(new Error('no such room'), { code: 'ROOM' }));
      });
      const failed = once(helper.getNode('requester'), 'call:error');
      inject('requester', { payload: 'hi' });
      const [{ args }] = (await failed) as [{ args: unknown[] }];
      should(args[0]).match({ code: 'AMQP_REPLY_STATUS', condition: 'ROOM', message: /500/ });
    });
  });

  describe('msg.action, of a msg without a payload,', () => {
    it('pending lists the requests in flight', async () => {
      await start();
      const taken = requests(2);
      for (const payload of [1, 2]) inject('requester', { payload });
      await taken;
      const out = message('out');
      inject('requester', { action: 'pending', keep: 1 });
      const { payload, keep } = await out;
      should(keep).equal(1);
      should(payload).match([{ address: 'q', replies: 0 }, { address: 'q' }]);
      should(payload).have.length(2);
      for (const request of await taken) reply(request, 'done');
    });

    it('disconnect closes the connection until connect; what was asked is asked again then', async () => {
      await start();
      const first = requests();
      const out = messages('out', 2);
      inject('requester', { payload: 1 });
      await first;
      inject('requester', { action: 'disconnect' });
      await status('requester', '.idle');
      should(broker.connections()).equal(0);
      inject('requester', { payload: 2 });
      serve(({ body }) => `re ${body}`);
      inject('requester', { action: 'connect' });
      should(new Set((await out).map(({ payload }) => payload))).eql(new Set(['re 1', 're 2']));
    });
  });

  describe('at a management node', () => {
    it("of RabbitMQ's kind asks by path and method, and the status is an error by choice", async () => {
      await start({ replyto: 'pair', address: '', statuserrors: true }, { management: true });
      broker.declare('orders');
      const out = message('out');
      inject('requester', { payload: null, amqp: { subject: 'GET', to: '/queues/orders' } });
      should(await out).match({ payload: { name: 'orders' }, amqp: { subject: '200' } });
      const failed = await failure({ payload: null, amqp: { subject: 'GET', to: '/queues/none' } });
      failed.should.match({ payload: 'no queue none', error: { code: 'AMQP_REPLY_STATUS', message: /404/ } });
    });

    it("of Azure's kind asks by operation", async () => {
      await start({ replyto: 'target', address: 'orders/$management', statuserrors: true }, { management: true });
      broker.declare('orders');
      const out = message('out');
      inject('requester', { payload: {}, amqp: { application_properties: { operation: 'READ', name: 'orders' } } });
      should(await out).match({ payload: { name: 'orders' } });
      const failed = await failure({ payload: {}, amqp: { application_properties: { operation: 'FLY' } } });
      failed.should.match({ error: { code: 'AMQP_REPLY_STATUS', message: /501 \(amqp:not-implemented/ } });
    });

    it("of Azure's kind needs its address", async () => {
      await start({ replyto: 'target', address: '' }, { management: true });
      await status('requester', '.fault');
    });
  });

  it('takes replies directly, as RabbitMQ has it', async () => {
    await start({ replyto: 'direct' });
    serve(({ body }) => `re ${body}`);
    const out = message('out');
    inject('requester', { payload: 'hi' });
    should((await out).payload).equal('re hi');
    should([source()['capabilities']].flat()).eql(['rabbitmq:volatile-queue']);
  });

  describe('when the connection is lost', () => {
    it('sends requests in flight again; each is answered once', async () => {
      await start({ reconnect: 'resend' });
      let taken = requests(3);
      const [out, completed] = [messages('out', 3), messages('completed', 3)];
      for (const n of [0, 1, 2]) inject('requester', { payload: n, n });
      await taken;
      taken = requests(3);
      broker.dropSockets();
      for (const request of (await taken).toReversed()) reply(request, request.body);
      (await out).map(({ payload, n }) => [payload, n]).should.eql([2, 1, 0].map((n) => [n, n]));
      (await completed).should.have.length(3);
    });

    it('or fails them, when told so', async () => {
      await start({ reconnect: 'fail' });
      const outcome = message('outcome');
      inject('requester', { payload: 'hi', keep: 1 });
      await outcome;
      const caught = message('caught');
      broker.dropSockets();
      (await caught).should.match({ payload: 'hi', keep: 1, error: { code: 'AMQP_IN_DOUBT' } });
    });

    it('asks the broker that comes later what was asked before', async () => {
      await start();
      await status('requester', 'connected');
      await broker.stop();
      await status('requester', '.reason.refused');
      serve((request) => request.body);
      const out = messages('out', 2);
      inject('requester', { payload: 1 });
      inject('requester', { payload: 2 });
      await broker.resume();
      (await out).map(({ payload }) => payload).should.eql([1, 2]);
      await status('requester', 'connected');
    });
  });

  it('shows when the peer makes no address for replies, and works as soon as it does', async () => {
    broker = await Broker.start();
    broker.refuse('', { condition: 'amqp:not-implemented' });
    await load(flow(endpointNode(broker.port), node('amqp-requester')));
    (await status('requester', 'refused')).should.match({ fill: 'red', shape: 'ring' });
    serve(() => 'ho');
    const out = message('out');
    inject('requester', { payload: 'hi' });
    broker.allow('');
    (await out).payload!.should.equal('ho');
    (await status('requester', 'connected')).should.match({ fill: 'green', shape: 'dot' });
  });

  describe('on a deploy', () => {
    it('gives replies their time; the new node works', async () => {
      await start();
      const taken = requests();
      const out = message('out');
      inject('requester', { payload: 'before' });
      const [request] = await taken;
      const deployed = redeploy();
      reply(request!, 'ho');
      (await out).payload!.should.equal('ho');
      await deployed;
      serve(() => 'ho again');
      const next = message('out');
      inject('requester', { payload: 'after' });
      (await next).payload!.should.equal('ho again');
    });

    it('fails what has no reply in the time that Node-RED gives it', async () => {
      await start({}, {}, { amqpEndpointCloseTime: 100 });
      const [taken, caught] = [requests(), message('caught')];
      inject('requester', { payload: 'hi', keep: 1 });
      await taken;
      await redeploy();
      (await caught).should.match({ keep: 1, error: { code: 'AMQP_SHUTDOWN' } });
    });
  });
});
