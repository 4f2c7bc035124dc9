import { once } from 'node:events';
import should from 'should';
import {
  collect,
  endpointNode,
  fail,
  flow,
  helper,
  inject,
  load,
  message,
  messages,
  type Msg,
  node,
  send,
  status,
} from '../flow';
import type { NodeConfig } from '../node-red';
import { Broker, type BrokerOptions } from '../../broker/broker';

let broker: Broker;

/** A sender, with others beside it, on a new broker. */
async function start(properties: object = {}, options: BrokerOptions = {}, ...others: NodeConfig[]): Promise<void> {
  broker = await Broker.start(options);
  await load(flow(endpointNode(broker.port), node('amqp-sender', properties), ...others));
}

const bodies = (name: string) => broker.messages(name).map((stored) => stored!.body as unknown);
/** The header of the message that came last. */
const headerSent = () => {
  const { durable, priority, ttl } = broker.messages('q').at(-1)!;
  return { durable, priority, ttl };
};
const payloads = (msgs: Msg[]) => msgs.map(({ payload }) => payload);

const deployed = (properties: object) =>
  flow(endpointNode(broker.port), node('amqp-sender', properties), node('amqp-receiver', { address: 'other' }));

const deploy = (properties: object) => helper.setFlows(deployed(properties), 'nodes');

describe('amqp-sender', () => {
  before(() => helper.startServer());
  after(() => helper.stopServer());
  afterEach(async () => {
    await helper.unload();
    await broker.stop();
  });

  describe('the msg', () => {
    it('leaves with what became of it, and all else as it was', async () => {
      await start();
      const [out, completed] = [message('out'), message('completed')];
      const delivery = { id: 'of another node', tag: '00', address: 'other', redelivered: false };
      inject('sender', { payload: 'hello', topic: 'mine', other: { kept: true }, delivery });
      for (const msg of [await out, await completed]) {
        msg.should.match({ payload: 'hello', topic: 'mine', other: { kept: true }, delivery });
        should(msg.sent).eql({ address: 'q', tag: msg.sent!.tag, state: 'accepted' });
        msg.sent!.tag.should.match(/^[0-9a-f]+$/);
      }
      bodies('q').should.eql(['hello']);
    });

    it('is neither done nor sent on before the peer has accepted the message', async () => {
      await start();
      broker.answer('q', 'none', 1);
      const [out, completed] = [collect('out'), collect('completed')];
      inject('sender', { payload: 'no answer' });
      await send({ payload: 'accepted' });
      payloads(completed).should.eql(['accepted']);
      payloads(out).should.eql(['accepted']);
    });

    it('that the peer rejected goes to Catch nodes, with the code and the words of the peer', async () => {
      await start();
      const [out, completed] = [collect('out'), collect('completed')];
      broker.answer('q', 'reject', 1);
      const { error, sent, payload } = await fail({ payload: 'bad' });
      should(payload).equal('bad');
      should(error).match({
        code: 'AMQP_REJECTED',
        message: /amqp:not-allowed: rejected/,
        cause: { condition: 'amqp:not-allowed', description: 'rejected' },
        source: { id: 'sender' },
      });
      should(sent).match({
        address: 'q',
        state: 'rejected',
        error: { code: 'AMQP_REJECTED', condition: 'amqp:not-allowed', description: 'rejected' },
      });
      await send({ payload: 'good' });
      payloads(out).should.eql(['good']);
      payloads(completed).should.eql(['good']);
    });

    for (const [answer, code] of [
      ['release', 'AMQP_RELEASED'],
      ['modify', 'AMQP_MODIFIED'],
    ] as const) {
      it(`is caught as ${code} after the time for which it is to be tried again`, async () => {
        await start({ retrytime: '0.05' });
        broker.answer('q', answer);
        should((await fail({ payload: 1 })).error).match({ code });
        broker.received['q']!.should.be.above(1);
      });
    }

    it('leaves whatever became of it, by choice', async () => {
      await start({ outcomes: 'all', retrytime: 0 });
      const outs = messages('out', 2);
      broker.answer('q', 'release', 1);
      should((await fail({ payload: 1 })).error).have.property('code', 'AMQP_RELEASED');
      await send({ payload: 2 });
      (await outs).map(({ sent }) => sent!.state).should.eql(['released', 'accepted']);
    });
  });

  describe('the header', () => {
    it('says durable: what the server has accepted survives its restart', async () => {
      await start();
      await send({ payload: 1 });
      headerSent().should.match({ durable: true });
    });

    it('says what the node says of it, and the msg has the last word', async () => {
      await start({ durablemessages: false, priority: '7', ttl: '60' });
      await send({ payload: 1 });
      should(headerSent()).match({ priority: 7, ttl: 60_000 });
      should(Boolean(headerSent().durable)).be.false();
      await send({ payload: 1, amqp: { durable: true, priority: 2, ttl: 5000 } });
      should(headerSent()).match({ durable: true, priority: 2, ttl: 5000 });
    });

    it('says not durable where the msg says so', async () => {
      await start();
      await send({ payload: 1, amqp: { durable: false } });
      should(headerSent().durable).be.false();
    });

    it('says nothing in flows of node-red-contrib-rhea', async () => {
      await start({ format: undefined });
      await send({ payload: { body: 1 } });
      should(Boolean(headerSent().durable)).be.false();
    });
  });

  describe('the message', () => {
    it('has the fields of msg.amqp, and the body that the node shapes', async () => {
      await start({ body: 'json' });
      await send({
        payload: { a: 1 },
        amqp: { subject: 'reading', durable: true, ttl: 60_000, application_properties: { room: 'kitchen' } },
      });
      const [stored] = broker.messages('q');
      should(stored).match({
        subject: 'reading',
        content_type: 'application/json',
        durable: true,
        ttl: 60_000,
        application_properties: { room: 'kitchen' },
      });
      JSON.parse(String(stored!.body.content)).should.eql({ a: 1 });
    });

    it('has a message id of its own where the flow gives none, and msg.amqp stays as it is', async () => {
      await start();
      const amqp = { subject: 'same' };
      await send({ payload: 1, amqp });
      await send({ payload: 2, amqp });
      await send({ payload: 3, amqp: { message_id: 'mine' } });
      const ids = broker.messages('q').map((stored) => stored!.message_id);
      new Set(ids).size.should.equal(3);
      should(ids[0]).be.a.String().and.not.be.empty();
      should(ids[2]).equal('mine');
      amqp.should.eql({ subject: 'same' });
    });

    it('comes again with the same id when its outcome was lost with the connection (R2)', async () => {
      await start();
      // The broker has it, and cannot say so any more.
      broker.once('message', () => broker.dropSockets());
      await send({ payload: 'once' });
      const [first, second] = broker.messages('q');
      should([first!.body, second!.body]).eql(['once', 'once']);
      should(first!.message_id).be.a.String().and.equal(second!.message_id);
    });

    it('fails when its outcome was lost with the connection, by choice', async () => {
      await start({ guarantee: 'at-most-once' });
      broker.once('message', () => broker.dropSockets());
      const { error, sent } = await fail({ payload: 'once' });
      should(error).have.property('code', 'AMQP_IN_DOUBT');
      should(sent).match({ state: 'failed', error: { code: 'AMQP_IN_DOUBT' } });
      await send({ payload: 'next' });
      bodies('q').should.eql(['once', 'next']);
    });

    it('that is sent pre-settled is done once it is written', async () => {
      await start({ guarantee: 'pre-settled' });
      broker.answer('q', 'reject');
      should((await send({ payload: 1 })).sent).match({ state: 'settled' });
      broker.links()[0]!.sndSettleMode.should.equal(1);
    });
  });

  describe('the address', () => {
    it('that is refused is asked for again, until it is allowed; others go on meanwhile', async () => {
      broker = await Broker.start();
      broker.refuse('q');
      const other = node('amqp-sender', { id: 'other', address: 'other' });
      await load(flow(endpointNode(broker.port), node('amqp-sender'), other));
      should(await status('sender', 'refused')).match({ fill: 'red', shape: 'ring' });
      inject('sender', { payload: 'waits' });
      const completed = message('completed');
      inject('other', { payload: 'goes on' });
      should((await completed).payload).equal('goes on');
      const allowed = message('completed');
      broker.allow('q');
      should((await allowed).payload).equal('waits');
      should(await status('sender', 'connected')).match({ fill: 'green', shape: 'dot' });
    });
  });

  describe('a msg that cannot be sent is one clear error, and the next is sent', () => {
    const cyclic: Record<string, unknown> = {};
    cyclic['self'] = cyclic;
    const BAD: [what: string, msg: object, text: RegExp][] = [
      ['a payload that is a function', { payload: () => {} }, /msg\.payload.*function/],
      ['a function within the payload', { payload: { list: [1, () => {}] } }, /msg\.payload.*list.*function/],
      ['a cyclic payload', { payload: cyclic }, /msg\.payload.*cyclic/],
      ['a symbol of JavaScript', { payload: Symbol('s') }, /msg\.payload.*symbol/],
      ['a field that is not known', { amqp: { subjct: 'x' } }, /msg\.amqp.*subjct/],
      ['several of those', { amqp: { subject: 'x', a: 1, b: 2 } }, /fields.*a, b/],
      ['a field of the wrong type', { amqp: { ttl: 'soon' } }, /msg\.amqp\.ttl/],
      ['fields that are no object', { amqp: 'durable' }, /msg\.amqp/],
      ['properties that are not simple', { amqp: { application_properties: { a: {} } } }, /application_properties/],
    ];
    for (const [what, msg, text] of BAD) {
      it(`for ${what}`, async () => {
        await start();
        const caught = collect('caught');
        const { error } = await fail(msg);
        should(error).match({ code: 'AMQP_BAD_MESSAGE', message: text, source: { id: 'sender' } });
        await send({ payload: 'good' });
        caught.should.have.length(1);
        bodies('q').should.eql(['good']);
      });
    }

    it('for a message that is larger than the peer takes', async () => {
      await start({}, { maxMessageSize: 1000 });
      const { error, sent } = await fail({ payload: 'x'.repeat(1000) });
      should(error).have.property('code', 'AMQP_TOO_LARGE');
      should(sent).match({ state: 'failed', error: { code: 'AMQP_TOO_LARGE' } });
      await send({ payload: 'good' });
      bodies('q').should.eql(['good']);
      broker.received['q']!.should.equal(1);
    });
  });

  describe('messages wait', () => {
    it('for a broker that comes later, in order', async () => {
      await start();
      await broker.stop();
      await status('sender', '.reason.refused');
      const completed = messages('completed', 3);
      for (const payload of [1, 2, 3]) inject('sender', { payload });
      await broker.resume();
      await completed;
      bodies('q').should.eql([1, 2, 3]);
    });

    it('for a server that releases them, and the status says so', async () => {
      await start();
      broker.answer('q', 'release');
      const completed = message('completed');
      inject('sender', { payload: 1 });
      should(await status('sender', 'count)')).match({ fill: 'yellow', shape: 'dot', text: /status\.retrying \(/ });
      broker.answer('q', 'accept');
      await completed;
      await status('sender', 'connected');
    });

    it('for credit, in order, and the status says so', async () => {
      broker = await Broker.start();
      broker.holdCredit('q');
      await load(flow(endpointNode(broker.port), node('amqp-sender')));
      await status('sender', 'connected');
      inject('sender', { payload: 1 });
      should(await status('sender', 'waiting')).match({ fill: 'yellow', shape: 'dot' });
      for (const payload of [2, 3]) inject('sender', { payload });
      const completed = messages('completed', 3);
      broker.giveCredit('q');
      await completed;
      bodies('q').should.eql([1, 2, 3]);
      await status('sender', 'connected');
    });

    it('as many as the buffer holds: a further one is refused', async () => {
      broker = await Broker.start();
      broker.holdCredit('q');
      await load(flow(endpointNode(broker.port), node('amqp-sender', { buffer: '2' })));
      for (const payload of [1, 2]) inject('sender', { payload });
      const { payload, error } = await fail({ payload: 3 });
      should(payload).equal(3);
      should(error).have.property('code', 'AMQP_BUFFER_FULL');
      const completed = messages('completed', 2);
      broker.giveCredit('q');
      payloads(await completed).should.eql([1, 2]);
    });

    it('as many as the buffer holds: the oldest makes room, by choice', async () => {
      broker = await Broker.start();
      broker.holdCredit('q');
      await load(flow(endpointNode(broker.port), node('amqp-sender', { buffer: '2', full: 'drop' })));
      for (const payload of [1, 2]) inject('sender', { payload });
      const { payload, error } = await fail({ payload: 3 });
      should(payload).equal(1);
      should(error).have.property('code', 'AMQP_BUFFER_FULL');
      const completed = messages('completed', 2);
      broker.giveCredit('q');
      payloads(await completed).should.eql([2, 3]);
    });
  });

  describe('msg.action, of a msg without a payload,', () => {
    it('detach tells the server why; the next message attaches again', async () => {
      await start();
      await send({ payload: 1 });
      const detached = once(broker, 'detach');
      await send({ action: 'detach', error: { condition: 'app:enough', description: 'no more' } });
      should((await detached)[0]).match({
        name: 'sender',
        closed: true,
        error: { condition: 'app:enough', description: 'no more' },
      });
      await status('sender', '.detached');
      should(broker.links()).be.empty();
      await send({ payload: 2 });
      await status('sender', 'connected');
      should(bodies('q')).eql([1, 2]);
    });

    it('detach needs no reason, and does nothing twice', async () => {
      await start();
      await status('sender', 'connected');
      const detached = once(broker, 'detach');
      await send({ action: 'detach' });
      should((await detached)[0]).not.have.property('error');
      await send({ action: 'detach' });
      await send({ payload: 1 });
    });

    it('detach leaves a message without an outcome to be sent again with the next one', async () => {
      await start();
      broker.answer('q', 'none', 1);
      const arrived = once(broker, 'answer');
      const done = messages('completed', 3);
      inject('sender', { payload: 'first' });
      await arrived;
      inject('sender', { action: 'detach' });
      await status('sender', '.detached');
      inject('sender', { payload: 'second' });
      await done;
      should(bodies('q')).eql(['first', 'second']);
    });

    it('detach of a sender with many addresses detaches from all of them', async () => {
      await start({ address: '' }, { anonymousRelay: false });
      for (const topic of ['a', 'b']) await send({ payload: topic, topic });
      await send({ action: 'detach', error: { condition: 'app:enough' } });
      should(broker.links()).be.empty();
      for (const topic of ['b', 'a']) await send({ payload: topic, topic });
      should([bodies('a'), bodies('b')]).eql([
        ['a', 'a'],
        ['b', 'b'],
      ]);
    });

    for (const error of [{ condition: '' }, { condition: 'ä' }, { condition: 'a', description: 1 }, 'text']) {
      it(`detach with ${JSON.stringify(error)} is refused, and the link stays`, async () => {
        await start();
        await status('sender', 'connected');
        should((await fail({ action: 'detach', error })).error).match({ code: 'AMQP_BAD_INPUT' });
        should(broker.links()).have.length(1);
      });
    }

    it('means nothing beside a payload: that is a message', async () => {
      await start();
      await send({ action: 'disconnect', payload: 'hi' });
      should([bodies('q'), broker.connections()]).eql([['hi'], 1]);
    });

    it('disconnect closes the connection until connect; messages wait meanwhile, in order', async () => {
      await start();
      await send({ payload: 0 });
      await send({ action: 'disconnect' });
      await status('sender', '.idle');
      should(broker.connections()).equal(0);
      const done = messages('completed', 4);
      for (const payload of [1, 2, 3]) inject('sender', { payload });
      inject('sender', { action: 'connect' });
      await done;
      should(bodies('q')).eql([0, 1, 2, 3]);
    });

    it('disconnect keeps a message without an outcome, which is sent again', async () => {
      await start();
      broker.answer('q', 'none', 1);
      const arrived = once(broker, 'answer');
      const done = messages('completed', 3);
      inject('sender', { payload: 1 });
      await arrived;
      inject('sender', { action: 'disconnect' });
      await status('sender', '.idle');
      inject('sender', { action: 'connect' });
      await done;
      should(bodies('q')).eql([1]);
    });

    it('connect has an endpoint connect that does not do so by itself, and disconnect keeps messages from that', async () => {
      broker = await Broker.start();
      await load(flow(endpointNode(broker.port, { autoconnect: false }), node('amqp-sender')));
      should(broker.connections()).equal(0);
      await send({ action: 'connect' });
      await status('sender', 'connected');
      await send({ action: 'disconnect' });
      inject('sender', { payload: 1 });
      await status('sender', '.idle');
      should(broker.connections()).equal(0);
      const done = messages('completed', 2);
      inject('sender', { action: 'connect' });
      await done;
      should(bodies('q')).eql([1]);
    });
  });

  it('asks for what the node is set to: terminus, properties, name', async () => {
    await start({
      linkname: 'mine',
      capabilities: 'one two',
      kind: 'topic',
      durability: 'unsettled-state',
      expiry: 'never',
      expirytime: 30,
      linkproperties: '{"a": {"$amqp": "uint", "value": 1}}',
    });
    await status('sender', 'connected');
    const [link] = broker.links();
    should(link).match({ name: 'mine', properties: { a: 1 } });
    should(link!.target).match({ durable: 2, expiry_policy: 'never', timeout: 30 });
    should([link!.target!['capabilities']].flat()).eql(['topic', 'one', 'two']);
  });

  it('with a capability that is not ASCII is not started', async () => {
    await start({ capabilities: 'grün' });
    await status('sender', '.fault');
  });

  describe('when its link is taken', () => {
    for (const [how, take] of [
      ['by a detach', () => broker.detach('q', { condition: 'amqp:resource-deleted' })],
      ['by the end of its session', () => broker.endSessions('q', { condition: 'amqp:internal-error' })],
    ] as const) {
      it(`${how} it attaches again, and others notice nothing`, async () => {
        await start({}, {}, node('amqp-sender', { id: 'other', address: 'other' }));
        await send({ payload: 1 });
        const gone: string[] = [];
        broker.on('detach', ({ address }) => gone.push(address));
        const [detached, attached] = [once(broker, 'detach'), once(broker, 'attach')];
        take();
        await Promise.all([detached, attached]);
        await send({ payload: 2 });
        bodies('q').should.eql([1, 2]);
        gone.should.eql(['q']);
        broker.connections().should.equal(1);
      });
    }
  });

  describe('when it is deployed anew', () => {
    it('what is buffered is sent first, and other nodes go on', async () => {
      broker = await Broker.start();
      broker.holdCredit('q');
      await load(deployed({ name: 'before' }));
      await Promise.all([status('sender', 'connected'), status('receiver', 'connected')]);
      const completed = messages('completed', 2);
      for (const payload of [1, 2]) inject('sender', { payload });
      const [received, detached] = [message('out'), once(broker, 'detach')];
      const done = deploy({ name: 'after' });
      broker.put('other', { body: 'meanwhile' });
      should((await received).payload).equal('meanwhile');
      broker.giveCredit('q');
      payloads(await completed).should.eql([1, 2]);
      await Promise.all([done, detached]);
      await send({ payload: 3 });
      bodies('q').should.eql([1, 2, 3]);
      broker.connections().should.equal(1);
    });

    it('what cannot be sent within some seconds fails loudly', async () => {
      broker = await Broker.start();
      broker.holdCredit('q');
      await load(deployed({ name: 'before' }), {}, { amqpEndpointCloseTime: 100 });
      const caught = messages('caught', 2);
      for (const payload of [1, 2]) inject('sender', { payload });
      await deploy({ name: 'after' });
      for (const { error, sent } of await caught) {
        should(error).have.property('code', 'AMQP_SHUTDOWN');
        should(sent).match({ state: 'failed', error: { code: 'AMQP_SHUTDOWN' } });
      }
      broker.giveCredit('q');
      await send({ payload: 3 });
      bodies('q').should.eql([3]);
    });
  });
});
