import { once } from 'node:events';
import type { Message } from 'rhea';
import should from 'should';
import { collect, endpointNode, flow, helper, inject, load, message, messages, type Msg, node, status } from '../flow';
import { Broker, type BrokerOptions } from '../../broker/broker';

let broker: Broker;

async function start(properties: object = {}, options?: BrokerOptions, settings?: object): Promise<void> {
  broker = await Broker.start(options);
  await load(flow(endpointNode(broker.port), node('amqp-responder', properties)), {}, settings);
}

/** Sends a request, and resolves with the msg that it becomes. */
async function request(fields: Message): Promise<Msg> {
  const taken = message('out');
  broker.put('q', fields);
  return taken;
}

/** Replies with a msg that the responder is to refuse. Resolves with what the Catch node gets. */
async function refusal(msg: object): Promise<Msg> {
  const caught = message('caught');
  inject('responder', msg);
  return caught;
}

const settled = async (): Promise<unknown> => (await once(broker, 'settled'))[0];

const shuffled = <T>(items: T[]): T[] => items.map((_, i) => items[(i * 7919 + 13) % items.length]!);

/** Catch nodes on "out" lead to the responder, by way of what `repair` makes of the msg. */
async function startFailing(properties: object, repair?: (msg: Msg) => Msg): Promise<void> {
  broker = await Broker.start();
  const configs = flow(endpointNode(broker.port), node('amqp-responder', properties));
  const caught = configs.find(({ type }) => type === 'catch')!;
  Object.assign(caught, { scope: ['out'], wires: [repair ? ['outcome'] : ['responder']] });
  await load(configs);
  helper.getNode('out').on('input', (_msg, _send, done) => {
    done(Object.assign(new Error('no such room'), { code: 'ROOM' }));
  });
  helper.getNode('outcome').on('input', (msg) => inject('responder', repair!(msg)));
}

/** The reply to a request. */
async function ask(): Promise<Message> {
  const accepted = settled();
  broker.put('q', { body: 'x', message_id: 'm', reply_to: 'back' });
  await accepted;
  return broker.messages('back')[0]!;
}

describe('amqp-responder', () => {
  before(() => helper.startServer());
  after(() => helper.stopServer());
  afterEach(async () => {
    await helper.unload();
    await broker.stop();
  });

  it('gives each request as a msg, and sends the msg that comes back to the one who asked', async () => {
    await start();
    const msg = await request({
      body: 2,
      message_id: 'm',
      correlation_id: 'c',
      reply_to: 'back',
      subject: 'double',
      application_properties: { a: 'b' },
    });
    msg.should.match({
      payload: 2,
      topic: 'q',
      amqp: { message_id: 'm', correlation_id: 'c', reply_to: 'back', subject: 'double', body_type: 'value' },
      delivery: { address: 'q', redelivered: false },
    });
    msg.delivery!.id!.should.be.a.String();
    JSON.parse(JSON.stringify(msg)).should.eql(msg);

    const completed = message('completed');
    inject('responder', { ...msg, payload: 4, keep: 1 });
    (await completed).should.match({ payload: 4, keep: 1, sent: { state: 'accepted', address: 'back' } });
    const [reply, ...more] = broker.messages('back');
    more.should.eql([]);
    reply!.should.match({
      body: 4,
      to: 'back',
      correlation_id: 'c',
      subject: 'double',
      application_properties: { a: 'b' },
    });
    should([reply!.message_id, reply!.reply_to]).eql([undefined, undefined]);
  });

  it('makes its replies durable, since the request is forgotten with them; the msg has the last word', async () => {
    await start({ priority: 6 });
    for (const [amqp, durable] of [
      [{}, true],
      [{ durable: false }, false],
    ] as const) {
      const msg = await request({ body: 1, message_id: 'm', reply_to: 'back' });
      const completed = message('completed');
      inject('responder', { ...msg, amqp });
      await completed;
      should(broker.messages('back').at(-1)).match({ durable, priority: 6 });
    }
  });

  it('takes the ids of the request out of its reply, also when the msg has been JSON in between', async () => {
    await start();
    const [taken, completed] = [message('out'), message('completed')];
    // A binary message id, which rhea cannot write, and the reply-to "back".
    broker.put('q', Buffer.from('005373c00f05a003010203404040a1046261636b00537740', 'hex'));
    const msg = await taken;
    should(Buffer.isBuffer(msg.amqp!['message_id'])).be.true();
    inject('responder', JSON.parse(JSON.stringify(msg)));
    await completed;
    should(broker.messages('back').at(-1)!.message_id).be.undefined();
  });

  it('answers with the ids of the request, whatever the flow has made of its msg.amqp', async () => {
    await start();
    for (const change of [
      (amqp: Record<string, unknown>) => ['message_id', 'correlation_id'].forEach((name) => delete amqp[name]),
      (amqp: Record<string, unknown>) => Object.assign(amqp, { message_id: 'other', correlation_id: 'other' }),
      (amqp: Record<string, unknown>) => Object.assign(amqp, { group_sequence: 5n }),
    ]) {
      const msg = await request({ body: 1, message_id: 'm', correlation_id: 'c', reply_to: 'back' });
      change(msg.amqp!);
      const completed = message('completed');
      inject('responder', msg);
      await completed;
      should(broker.messages('back').at(-1)).match({ correlation_id: 'c' });
    }
  });

  it('holds 300 requests at a time; each reply finds its own, in whatever order flows finish', async () => {
    broker = await Broker.start();
    await load(
      flow(
        endpointNode(broker.port),
        node('amqp-requester', { wires: [[], ['replies']] }),
        node('amqp-responder', { creditwindow: '300' }),
        { id: 'replies', type: 'helper', z: 'flow', x: 0, y: 0, wires: [] },
      ),
    );
    const [taken, replies] = [messages('out', 300), messages('replies', 300)];
    const caught = collect('caught');
    for (let n = 0; n < 300; n++) inject('requester', { payload: n, n });
    const requests = await taken;
    broker.unsettled('q').should.equal(300);
    for (const msg of shuffled(requests)) inject('responder', { ...msg, payload: `reply to ${String(msg.payload)}` });
    for (const { payload, n } of await replies) payload!.should.equal(`reply to ${String(n)}`);
    while (broker.unsettled('q') > 0) await once(broker, 'settled');
    caught.should.eql([]);
  });

  it('serves requesters where there is no anonymous relay too', async () => {
    broker = await Broker.start({ anonymousRelay: false });
    await load(
      flow(
        endpointNode(broker.port),
        node('amqp-requester', { id: 'first' }),
        node('amqp-requester', { id: 'second' }),
        node('amqp-responder', { wires: [['responder']] }),
      ),
    );
    const out = messages('out', 2);
    inject('first', { payload: 'one', from: 'first' });
    inject('second', { payload: 'two', from: 'second' });
    const replies = (await out).map(({ payload, from }) => `${String(from)} ${String(payload)}`);
    replies.toSorted().should.eql(['first one', 'second two']);
  });

  it('replies also with a copy of the msg, but once', async () => {
    await start();
    const msg = await request({ body: 1, message_id: 'm', reply_to: 'back' });
    const completed = message('completed');
    inject('responder', structuredClone({ ...msg, payload: 'first' }));
    const { payload, error } = await refusal(structuredClone({ ...msg, payload: 'second' }));
    should({ payload, code: error!.code }).eql({ payload: 'second', code: 'AMQP_DELIVERY_SETTLED' });
    (await completed).payload!.should.equal('first');
    broker.messages('back').should.match([{ body: 'first' }]);
  });

  describe('accepts a request', () => {
    it('once its reply is accepted', async () => {
      await start();
      const msg = await request({ body: 1, message_id: 'm', reply_to: 'back' });
      broker.unsettled('q').should.equal(1);
      const outcome = settled();
      inject('responder', msg);
      (await outcome)!.should.match({ id: 'm', state: 'accepted' });
      broker.messages('back').should.have.length(1);
      broker.depth('q').should.equal(0);
    });

    it('when the flow has it, if told so', async () => {
      await start({ settle: 'arrival' });
      const outcome = settled();
      const msg = await request({ body: 1, message_id: 'm', reply_to: 'back' });
      (await outcome)!.should.match({ id: 'm', state: 'accepted' });
      const completed = message('completed');
      inject('responder', msg);
      await completed;
      broker.messages('back').should.match([{ body: 1, correlation_id: 'm' }]);
    });

    it('not without a reply: it is released after the time-out, and comes again', async () => {
      await start({ settletimeout: '0.03' });
      const outcome = settled();
      const msg = await request({ body: 1, message_id: 'm', reply_to: 'back' });
      const again = message('out');
      (await outcome)!.should.match({ id: 'm', state: 'released' });
      (await again).payload!.should.equal(1);
      (await refusal(msg)).error!.should.have.property('code', 'AMQP_DELIVERY_SETTLED');
    });
  });

  it('takes no more requests at a time than its credit window', async () => {
    await start({ creditwindow: '2' });
    const taken = messages('out', 2);
    for (let n = 0; n < 4; n++) broker.put('q', { body: n, message_id: n, reply_to: 'back' });
    const [first] = await taken;
    should([broker.unsettled('q'), broker.ready('q')]).eql([2, 2]);
    const next = message('out');
    inject('responder', first!);
    (await next).payload!.should.equal(2);
    should([broker.unsettled('q'), broker.ready('q')]).eql([2, 1]);
  });

  it('reads bodies and writes those of replies as its options say', async () => {
    await start({ body: 'json', output: 'string' });
    const msg = await request({ body: { a: 1 }, message_id: 'm', reply_to: 'back' });
    msg.payload!.should.equal('{"a":1}');
    const completed = message('completed');
    inject('responder', { ...msg, payload: { b: 2 }, amqp: undefined });
    await completed;
    const [reply] = broker.messages('back');
    reply!.content_type!.should.equal('application/json');
    reply!.body.content.toString().should.equal('{"b":2}');
  });

  it('hands a request that is not what it says to be to a Catch node; that may answer it', async () => {
    await start({ output: 'json' });
    const [caught, out] = [message('caught'), collect('out')];
    broker.put('q', { body: '{', message_id: 'm', reply_to: 'back' });
    const { error, ...msg } = await caught;
    should({ payload: msg.payload, code: error!.code }).eql({ payload: '{', code: 'AMQP_DECODE' });
    const completed = message('completed');
    inject('responder', { ...msg, payload: 'what?' });
    await completed;
    broker.messages('back').should.match([{ body: 'what?', correlation_id: 'm' }]);
    out.should.eql([]);
  });

  describe('hands to a Catch node, with the msg,', () => {
    it('that the request wants no reply; the flow has got it all the same', async () => {
      await start();
      const outcome = settled();
      const msg = await request({ body: 'just so', message_id: 'm' });
      msg.payload!.should.equal('just so');
      (await outcome)!.should.match({ id: 'm', state: 'accepted' });
      const { keep, error } = await refusal({ ...msg, keep: 1 });
      should({ keep, code: error!.code }).eql({ keep: 1, code: 'AMQP_NO_REPLY_TO' });
    });

    for (const [what, msg, code] of [
      ['that there is no request to it', { payload: 'reply' }, 'AMQP_NO_REQUEST'],
      ['that its token is none', { payload: 'reply', delivery: { id: 7 } }, 'AMQP_NO_REQUEST'],
      ['that its token is of no request', { payload: 'reply', delivery: { id: 'a.0.1' } }, 'AMQP_DELIVERY_UNKNOWN'],
    ] as const) {
      it(what, async () => {
        await start();
        const { keep, error } = await refusal({ ...msg, keep: 1 });
        should({ keep, code: error!.code }).eql({ keep: 1, code });
      });
    }

    const cyclic: Record<string, unknown> = {};
    cyclic['self'] = cyclic;
    for (const [what, bad, text] of [
      ['a field that AMQP does not have', { amqp: { sujbect: 1 } }, /sujbect/],
      ['a field of the wrong type', { amqp: { subject: 1 } }, /msg\.amqp\.subject/],
      ['a function as payload', { payload: () => {} }, /msg\.payload/],
      ['a cyclic payload', { payload: cyclic }, /msg\.payload/],
    ] as const) {
      it(`${what}; the request can still be answered`, async () => {
        await start();
        const msg = await request({ body: 1, message_id: 'm', reply_to: 'back' });
        (await refusal({ ...msg, ...bad })).error!.should.match({ code: 'AMQP_BAD_MESSAGE', message: text });
        const outcome = settled();
        inject('responder', msg);
        (await outcome)!.should.match({ id: 'm', state: 'accepted' });
        broker.messages('back').should.match([{ body: 1 }]);
      });
    }

    it('that the reply was rejected, and why', async () => {
      await start();
      const msg = await request({ body: 1, message_id: 'm', reply_to: 'back' });
      broker.answer('back', 'reject', 1);
      const { keep, error, sent } = await refusal({ ...msg, keep: 1 });
      should(keep).equal(1);
      error!.should.match({ code: 'AMQP_REJECTED', message: /amqp:not-allowed/ });
      sent!.should.match({ address: 'back', state: 'rejected', error: { code: 'AMQP_REJECTED' } });
    });

    for (const [anonymousRelay, code] of [
      [true, 'AMQP_RELEASED'],
      [false, 'AMQP_LINK_REFUSED'],
    ] as const) {
      it(`once, that the address for the reply is gone, ${anonymousRelay ? 'by' : 'without'} a relay`, async () => {
        await start({}, { anonymousRelay });
        const lost = await request({ body: 1, message_id: 1, reply_to: 'dynamic-gone' });
        const other = await request({ body: 2, message_id: 2, reply_to: 'back' });
        const [caught, completed] = [collect('caught'), message('completed')];
        const failed = refusal({ ...lost, keep: 1 });
        inject('responder', other);
        (await completed).payload!.should.equal(2);
        const { payload, keep, error } = await failed;
        should({ payload, keep, code: error!.code }).eql({ payload: 1, keep: 1, code });
        caught.should.have.length(1);
      });
    }

    it('that no endpoint is chosen', async () => {
      await start({ endpoint: '' });
      (await refusal({ payload: 'reply' })).error!.should.have.property('code', 'AMQP_NO_ENDPOINT');
      await status('responder', 'no-endpoint');
    });
  });

  it('shows that its address is refused, harms nobody by that, and works as soon as it is not', async () => {
    broker = await Broker.start();
    broker.refuse('q', { condition: 'amqp:unauthorized-access' });
    await load(
      flow(
        endpointNode(broker.port),
        node('amqp-responder', { wires: [['responder']] }),
        node('amqp-requester', { address: 'other' }),
        node('amqp-responder', { id: 'sibling', address: 'other', wires: [['sibling']] }),
      ),
    );
    (await status('responder', 'refused')).should.match({ fill: 'red', shape: 'ring' });
    const out = message('out');
    inject('requester', { payload: 'hi' });
    (await out).payload!.should.equal('hi');
    broker.allow('q');
    (await status('responder', 'connected')).should.match({ fill: 'green', shape: 'dot' });
    const outcome = settled();
    broker.put('q', { body: 1, message_id: 'm', reply_to: 'back' });
    (await outcome)!.should.match({ address: 'q', state: 'accepted' });
  });

  describe('with error replies', () => {
    it('answers what the flow fails with the error, by the names that AMQP Management has', async () => {
      await startFailing({ errorreplies: true });
      should(await ask()).match({
        body: 'Error: no such room',
        correlation_id: 'm',
        application_properties: { statusCode: 500, statusDescription: 'Error: no such room', errorCondition: 'ROOM' },
      });
      should(broker.dispositions.filter(({ address }) => address === 'q')).match([{ state: 'accepted' }]);
    });

    it('does so once, whatever else the flow has made of the msg', async () => {
      await startFailing({ errorreplies: true }, (msg) => ({
        ...msg,
        payload: { many: 'things' },
        amqp: { subject: 'mine', correlation_id: 'wrong' },
      }));
      const answer = await ask();
      should(answer).match({ body: 'Error: no such room', correlation_id: 'm' });
      should(answer.subject).equal(undefined);
      should(broker.messages('back')).have.length(1);
    });

    it('answers with what the flow makes of it once that is no error any more', async () => {
      await startFailing({ errorreplies: true }, ({ error: _error, ...msg }) => ({ ...msg, payload: 'sorry' }));
      const answer = await ask();
      should(answer).match({ body: 'sorry', correlation_id: 'm' });
      should(answer.application_properties).equal(undefined);
    });

    it('has a condition for any error', async () => {
      await startFailing({ errorreplies: true }, (msg) => ({ ...msg, error: 'just text' }) as unknown as Msg);
      should(await ask()).match({
        body: 'just text',
        application_properties: { statusCode: 500, errorCondition: 'amqp:internal-error' },
      });
    });

    it('is by choice: without it the msg is the reply, as it comes', async () => {
      await startFailing({});
      const answer = await ask();
      should(answer.body).equal('x');
      should(answer.application_properties).equal(undefined);
    });

    it('does not answer an error of its own, that a Catch node brings back: there is no end to that', async () => {
      broker = await Broker.start();
      const configs = flow(endpointNode(broker.port), node('amqp-responder', { errorreplies: true }));
      configs.find(({ type }) => type === 'catch')!['wires'] = [['responder', 'caught']];
      await load(configs);
      helper.getNode('out').on('input', (msg) => inject('responder', msg));
      const caught = collect('caught');
      const failed = message('caught');
      broker.put('q', { body: 'x', message_id: 'unanswerable' });
      await failed;
      await ask();
      should(caught).match([{ error: { code: 'AMQP_NO_REPLY_TO' } }]);
      should(caught).have.length(1);
    });
  });

  describe('when the connection is lost', () => {
    it('gets the requests without a reply again, and answers them', async () => {
      await start();
      await request({ body: 1, message_id: 'm', reply_to: 'back' });
      const again = message('out');
      broker.dropSockets();
      const msg = await again;
      msg.should.match({ payload: 1, delivery: { redelivered: true } });
      const outcome = settled();
      inject('responder', msg);
      (await outcome)!.should.match({ id: 'm', state: 'accepted' });
    });

    it('and the requester loses it too: that gets one reply all the same', async () => {
      broker = await Broker.start();
      await load(
        flow(endpointNode(broker.port), node('amqp-requester'), node('amqp-responder', { wires: [['taken']] }), {
          id: 'taken',
          type: 'helper',
          z: 'flow',
          x: 0,
          y: 0,
          wires: [],
        }),
      );
      const [taken, replies, out, caught] = [message('taken'), collect('out'), message('out'), message('caught')];
      inject('requester', { payload: 'hi', keep: 1 });
      await taken;
      helper.getNode('taken').on('input', (msg) => inject('responder', msg));
      broker.dropSockets();
      (await out).should.match({ payload: 'hi', keep: 1 });
      // The request came again too, and its reply finds nobody.
      (await caught).error!.should.match({ code: 'AMQP_RELEASED', source: { id: 'responder' } });
      replies.should.have.length(1);
    });
  });

  it('gives requests back on a deploy, and answers them afterwards', async () => {
    await start({}, {}, { amqpEndpointCloseTime: 100 });
    await request({ body: 1, message_id: 'm', reply_to: 'back' });
    const again = message('out');
    const changed = node('amqp-responder', { name: 'changed' });
    await helper.setFlows(flow(endpointNode(broker.port), changed), 'nodes');
    const msg = await again;
    broker.dispositions.should.match([{ id: 'm', state: 'released' }]);
    const completed = message('completed');
    inject('responder', msg);
    await completed;
    broker.messages('back').should.match([{ correlation_id: 'm' }]);
  });
});
