import { once } from 'node:events';
import should from 'should';
import { endpointNode, fail, flow, helper, inject, load, message, messages, node, send, status } from '../../flow';
import { Broker, type BrokerOptions } from '../../../broker/broker';

let broker: Broker;

/** A sender on a new broker. */
async function start(properties: object = {}, options: BrokerOptions = {}): Promise<void> {
  broker = await Broker.start(options);
  await load(flow(endpointNode(broker.port), node('amqp-sender', properties)));
}

const bodies = (name: string) => broker.messages(name).map((stored) => stored!.body as unknown);
const addressed = (name: string) => broker.messages(name).map((stored) => [stored!.body, stored!.to]);
const context = () => (helper.getNode('sender') as unknown as { context(): any }).context();

describe('the address', () => {
  before(() => helper.startServer());
  after(() => helper.stopServer());
  afterEach(async () => {
    await helper.unload();
    await broker.stop();
  });

  const KINDS: [type: string, value: string, prepare?: () => void][] = [
    ['str', 'wanted'],
    ['msg', 'to.queue'],
    ['flow', 'queue', () => context().flow.set('queue', 'wanted')],
    ['global', 'queue', () => context().global.set('queue', 'wanted')],
    ['env', 'QUEUE'],
    ['jsonata', '"want" & $substring(to.queue, 4)'],
  ];
  for (const [addressType, address, prepare = () => {}] of KINDS) {
    it(`can be given as ${addressType}`, async () => {
      broker = await Broker.start();
      const configs = flow(endpointNode(broker.port), node('amqp-sender', { addressType, address }));
      configs[0]!['env'] = [{ name: 'QUEUE', value: 'wanted', type: 'str' }];
      await load(configs);
      prepare();
      const { sent } = await send({ payload: 1, to: { queue: 'wanted' }, topic: 'unwanted' });
      should(sent!.address).equal('wanted');
      bodies('wanted').should.eql([1]);
    });
  }

  it('is evaluated for each msg, and the order stays, however long that takes', async () => {
    // The first takes far longer than all others.
    const work = '$map([1..3000], function($i) { $i })';
    await start({ addressType: 'jsonata', address: `($x := payload = 0 ? ${work} : 0; "q")` });
    await status('sender', 'connected');
    const completed = messages('completed', 20);
    for (let payload = 0; payload < 20; payload++) inject('sender', { payload });
    await completed;
    bodies('q').should.eql([...bodies('q').keys()]);
    bodies('q').should.have.length(20);
  });

  it('that is not text fails its own msg only', async () => {
    await start({ addressType: 'msg', address: 'to' });
    for (const to of [7, { queue: 'q' }]) {
      should((await fail({ payload: 1, to })).error).match({
        code: 'AMQP_NO_ADDRESS',
        message: /the address msg to is not text/,
      });
    }
    await send({ payload: 1, to: 'q' });
    bodies('q').should.eql([1]);
  });

  it('that evaluates to nothing is missing', async () => {
    await start({ addressType: 'msg', address: 'to' });
    for (const to of [undefined, null, '']) {
      should((await fail({ payload: 1, to, topic: 'q' })).error).have.property('code', 'AMQP_NO_ADDRESS');
    }
  });

  it('that cannot be evaluated fails its own msg only, and says why', async () => {
    await start({ addressType: 'jsonata', address: '$exists(to) ? to : $error("no to")' });
    const { payload, error } = await fail({ payload: 1 });
    should(payload).equal(1);
    should(error).match({ code: 'AMQP_NO_ADDRESS', message: /no to/, source: { id: 'sender' } });
    await send({ payload: 2, to: 'q' });
    bodies('q').should.eql([2]);
  });

  it('that is no JSONata expression fails each msg, and says why', async () => {
    await start({ addressType: 'jsonata', address: '((' });
    for (const payload of [1, 2]) should((await fail({ payload })).error!.message).match(/expected|syntax|unexpected/i);
  });

  it('of a msg that is not text is called that, and not missing', async () => {
    await start({ address: '' });
    for (const [msg, text] of [
      [{ topic: 7 }, /msg\.topic is not text: it is of type number/],
      [{ amqp: { to: { queue: 'q' } } }, /msg\.amqp\.to is not text: it is of type object/],
    ] as const) {
      should((await fail({ payload: 3, ...msg })).error).match({ code: 'AMQP_NO_ADDRESS', message: text });
    }
  });

  for (const anonymousRelay of [true, false]) {
    it(`is that of each msg where the node has none, ${anonymousRelay ? 'with' : 'without'} a relay`, async () => {
      await start({ address: '' }, { anonymousRelay });
      should((await send({ payload: 1, topic: 'a' })).sent!.address).equal('a');
      should((await send({ payload: 2, topic: 'a', amqp: { to: 'b' } })).sent!.address).equal('b');
      for (const none of [{}, { topic: '' }, { amqp: { to: '' } }]) {
        const { error, sent } = await fail({ payload: 3, ...none });
        should(error).have.property('code', 'AMQP_NO_ADDRESS');
        should(sent).match({ state: 'failed', error: { code: 'AMQP_NO_ADDRESS' } });
      }
      addressed('a').should.eql([[1, 'a']]);
      addressed('b').should.eql([[2, 'b']]);
    });

    it(`that is no good fails its own msg only, ${anonymousRelay ? 'with' : 'without'} a relay`, async () => {
      await start({ address: '' }, { anonymousRelay, mustExist: true });
      broker.declare('good');
      const caught = message('caught');
      const completed = messages('completed', 2);
      for (const topic of ['good', 'bad', 'good']) inject('sender', { payload: topic, topic });
      const { payload, sent, error } = await caught;
      should(payload).equal('bad');
      should(sent!.error!.condition).equal('amqp:not-found');
      should(error!.code).equal(anonymousRelay ? 'AMQP_REJECTED' : 'AMQP_LINK_REFUSED');
      await completed;
      bodies('good').should.eql(['good', 'good']);
    });
  }

  it('that the node has wins over those of the msg, and leaves the to of the message alone', async () => {
    await start();
    await send({ payload: 1, topic: 'a', amqp: { to: 'b' } });
    addressed('q').should.eql([[1, 'b']]);
  });

  it('can be made by the peer', async () => {
    await start({ address: '', dynamic: true });
    const { sent } = await send({ payload: 1 });
    sent!.address.should.startWith('dynamic-');
    bodies(sent!.address).should.eql([1]);
  });
});

/** Deploys a node once the contexts of the flow, and of all flows, have what they are to have. */
async function deploy(type: string, properties: object): Promise<void> {
  broker = await Broker.start();
  const environment = [{ name: 'QUEUE', value: 'wanted', type: 'str' }];
  const configs = (...nodes: ReturnType<typeof node>[]) =>
    flow(endpointNode(broker.port), node('amqp-sender'), ...nodes).map((config) =>
      config.id === 'flow' ? { ...config, env: environment } : config,
    );
  await load(configs());
  for (const scope of ['flow', 'global']) {
    context()[scope].set('queue', 'wanted');
    context()[scope].set('number', 5);
  }
  await helper.setFlows(configs(node(type, properties)), 'nodes');
}

describe('the address that a node finds when it starts', () => {
  before(() => helper.startServer());
  after(() => helper.stopServer());
  afterEach(async () => {
    await helper.unload();
    await broker.stop();
  });

  const FOUND: [addressType: string, address: string][] = [
    ['str', 'wanted'],
    ['str', '${QUEUE}'],
    ['env', 'QUEUE'],
    ['flow', 'queue'],
    ['global', 'queue'],
  ];
  for (const [addressType, address] of FOUND) {
    for (const type of ['amqp-receiver', 'amqp-responder']) {
      it(`is that of the ${addressType} ${address} for an ${type}`, async () => {
        await deploy(type, { addressType, address });
        const out = message('out');
        broker.put('wanted', { body: 'for it', reply_to: 'back' });
        (await out).should.match({ payload: 'for it', topic: 'wanted' });
      });
    }

    it(`is that of the ${addressType} ${address} for the replies to an amqp-requester`, async () => {
      await deploy('amqp-requester', { replyto: 'fixed', replyaddressType: addressType, replyaddress: address });
      await status('requester', 'connected');
      const asked = once(broker, 'message');
      inject('requester', { payload: 'hello' });
      const [, request] = await asked;
      should(request).have.property('reply_to', 'wanted');
    });
  }

  const MISSING: [addressType: string, address: string, why: RegExp][] = [
    ['env', 'NOT_SET', /gives nothing/],
    ['flow', 'nothing.there', /gives nothing/],
    ['global', 'number', /does not give text/],
    ['flow', 'a b', /cannot be evaluated: .*expression/],
    ['jsonata', '"wanted"', /is not one of str, env, flow, global/],
    ['msg', 'topic', /is not one of/],
  ];
  for (const [addressType, address, why] of MISSING) {
    const fields: [type: string, name: string, more?: object][] = [
      ['amqp-receiver', 'address'],
      ['amqp-responder', 'address'],
      ['amqp-requester', 'replyaddress', { replyto: 'fixed' }],
    ];
    for (const [type, name, more] of fields) {
      it(`puts the ${name} of an ${type} into error for the ${addressType} ${address}`, async () => {
        await deploy(type, { ...more, [name]: address, [`${name}Type`]: addressType });
        const id = type.replace('amqp-', '');
        await status(id, '.fault');
        const caught = message('caught');
        inject(id, { payload: 1 });
        should((await caught).error).match({ code: 'AMQP_CONFIG', message: why });
      });
    }
  }
});
