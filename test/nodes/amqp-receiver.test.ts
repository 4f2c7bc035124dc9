import { once } from 'node:events';
import rhea, { type Message } from 'rhea';
import should from 'should';
import { collect, endpointNode, flow, helper, inject, load, message, messages, type Msg, node, status } from '../flow';
import type { NodeConfig } from '../node-red';
import { Broker, type BrokerOptions } from '../../broker/broker';

type Done = (error?: Error) => void;

let broker: Broker;

/** A receiver, with others beside it, on a new broker. */
async function start(properties: object = {}, options: BrokerOptions = {}, ...others: NodeConfig[]): Promise<void> {
  broker = await Broker.start(options);
  await load(flow(endpointNode(broker.port), node('amqp-receiver', properties), ...others));
}

/** Puts a message into the queue, and gives the msg that the flow gets. */
function receive(content: Message | Buffer): Promise<Msg> {
  const out = message('out');
  broker.put('q', content);
  return out;
}

/** Sends a msg into the receiver that it is to refuse, and gives the error of it. */
async function refusal(msg: object): Promise<Required<Msg>['error']> {
  const caught = message('caught');
  inject('receiver', msg);
  return (await caught).error!;
}

/** Sends a msg into the receiver, and waits until that is done. */
async function tell(msg: object): Promise<void> {
  const completed = message('completed');
  inject('receiver', msg);
  await completed;
}

/** What the broker was told of messages, once it is so many, and no more. */
async function dispositions(count: number) {
  while (broker.dispositions.length < count) await once(broker, 'settled');
  broker.dispositions.should.have.length(count);
  return broker.dispositions;
}

/** The same, with Complete and Catch nodes on one of the nodes, wired to the input of the receiver. */
async function startSettledBy(settling: string, properties: object, ...others: NodeConfig[]): Promise<void> {
  broker = await Broker.start();
  const configs = flow(endpointNode(broker.port), node('amqp-receiver', { settle: 'flow', ...properties }), ...others);
  for (const config of configs) {
    if (config.type === 'complete' || config.type === 'catch')
      Object.assign(config, { scope: [settling], wires: [['receiver']] });
  }
  await load(configs);
}

/** With a Catch node for all nodes, wired to the receiver too. */
async function startCaught(properties: object, ...others: NodeConfig[]): Promise<void> {
  broker = await Broker.start();
  const configs = flow(endpointNode(broker.port), node('amqp-receiver', { settle: 'flow', ...properties }), ...others);
  configs.find(({ type }) => type === 'catch')!['wires'] = [['caught', 'receiver']];
  await load(configs);
}

/** What the node "out" does with each msg. */
function work(process: (msg: Msg, done: Done) => void): void {
  helper.getNode('out').on('input', (msg, _send, done) => process(msg, done));
}

/** Puts messages with these bodies, and ids made of them. */
function putAll(...all: unknown[]): void {
  for (const body of all) broker.put('q', { body, message_id: `m${String(body)}` });
}

/** Puts messages of these names, the first letter of which is their group. */
function putNamed(...names: string[]): void {
  for (const name of names) broker.put('q', { body: name, group_id: name[0], message_id: name });
}

/** What the broker was told of each message. */
const answered = () => broker.dispositions.map(({ id, state }) => `${String(id)} ${state}`);

/** Lets the flow release each message that it gets from now on. */
function refuseAll(): Msg[] {
  helper.getNode('out').on('input', (msg) => inject('receiver', { ...(msg as Msg), settle: 'release' }));
  return collect('out');
}

/** Once this is done, the broker has seen all that the receiver wrote before, and we its answer. */
async function roundTrip(): Promise<void> {
  const outcome = message('outcome');
  inject('probe', { payload: 'there and back' });
  await outcome;
}
const probe = node('amqp-sender', { id: 'probe', address: 'probe', wires: [['outcome']] });

const throughJson = (msg: Msg) => JSON.parse(JSON.stringify(msg)) as Msg;
const payloads = (msgs: Msg[]) => msgs.map(({ payload }) => payload);
const data = (content: string) => rhea.message.data_section(Buffer.from(content));

/** What the log says of options that the peer ignores: the test helper gives the key in place of the text. */
const warnings = () =>
  helper
    .log()
    .args.map(([entry]) => entry)
    .filter(({ id, msg }) => id === 'receiver' && /ignored|unsure/.test(String(msg)));

describe('amqp-receiver', () => {
  before(() => helper.startServer());
  after(() => helper.stopServer());
  afterEach(async () => {
    await helper.unload();
    await broker.stop();
  });

  describe('the msg', () => {
    it('has the body, what else the message says, and how it came', async () => {
      await start();
      const msg = await receive({
        body: 'hello',
        to: 'somewhere',
        subject: 'greeting',
        durable: true,
        message_id: 'm1',
        application_properties: { room: 'kitchen' },
      });
      should(msg).have.properties({ payload: 'hello', topic: 'somewhere' });
      should(msg.amqp).eql({
        body_type: 'value',
        to: 'somewhere',
        subject: 'greeting',
        durable: true,
        message_id: 'm1',
        application_properties: { room: 'kitchen' },
      });
      const { tag } = msg.delivery!;
      should(msg.delivery).eql({ tag, address: 'q', redelivered: false, to: 'somewhere' });
      should(msg).not.have.property('sent');
    });

    it('has the address as its topic when the message names none', async () => {
      await start();
      should((await receive({ body: 1 })).topic).equal('q');
    });

    for (const [output, payload] of [
      ['auto', { a: 1 }],
      ['string', '{"a":1}'],
      ['buffer', Buffer.from('{"a":1}')],
      ['json', { a: 1 }],
    ] as const) {
      it(`has the payload that the output "${output}" shapes`, async () => {
        await start({ output });
        should((await receive({ body: data('{"a":1}'), content_type: 'application/json' })).payload).eql(payload);
      });
    }

    it('is plain data, which JSON and structuredClone leave as it is', async () => {
      await start({ settle: 'flow' });
      const msg = await receive({ body: { a: [1, 'b', null] }, message_id: 'm', application_properties: { x: 1 } });
      structuredClone(msg).should.eql(msg);
      JSON.parse(JSON.stringify(msg)).should.eql(msg);
    });

    it('of a message that was delivered before says so', async () => {
      await start({ settle: 'flow' });
      const first = await receive({ body: 1 });
      const again = message('out');
      inject('receiver', { ...first, settle: 'modify' });
      const { amqp, delivery } = await again;
      should(first.delivery!.redelivered).be.false();
      should(delivery!.redelivered).be.true();
      should(amqp!['delivery_count']).equal(1);
    });
  });

  describe('the peer may forget a message', () => {
    it('once the flow has it', async () => {
      await start();
      const { delivery } = await receive({ body: 1, message_id: 'm1' });
      should(delivery).not.have.property('id');
      (await dispositions(1)).should.eql([{ address: 'q', id: 'm1', state: 'accepted' }]);
    });

    it('before it is even sent, by choice', async () => {
      await start({ settle: 'pre-settled' });
      should((await receive({ body: 1 })).delivery).not.have.property('id');
      broker.links()[0]!.sndSettleMode.should.equal(1);
      broker.depth('q').should.equal(0);
      broker.dispositions.should.be.empty();
    });

    it('when the flow says so, by choice: once the msg comes to the input', async () => {
      await start({ settle: 'flow' }, {}, probe);
      const msg = await receive({ body: 1 });
      should(msg.delivery!.id).be.a.String();
      await roundTrip();
      broker.unsettled('q').should.equal(1);
      await tell(msg);
      (await dispositions(1)).should.match([{ state: 'accepted' }]);
      broker.depth('q').should.equal(0);
    });

    it('that the flow never settles never: it is released after the settle time-out', async () => {
      await start({ settle: 'flow', settletimeout: '0.02' });
      const twice = messages('out', 2);
      broker.put('q', { body: 1 });
      const [first, second] = await twice;
      (await dispositions(1))[0]!.state.should.equal('released');
      should(second!.payload).equal(1);
      should(await refusal(first!)).have.property('code', 'AMQP_DELIVERY_SETTLED');
    });
  });

  describe('with Complete and Catch nodes wired to its input', () => {
    for (const [onerror, outcome] of [
      ['release', { state: 'released' }],
      ['modify', { state: 'modified', deliveryFailed: true, undeliverableHere: false }],
      ['reject', { state: 'rejected', error: { description: /broken/ } }],
    ] as const) {
      it(`accepts what succeeded, and what failed gets its on error outcome: ${onerror}`, async () => {
        await startSettledBy('out', { onerror });
        let isRepaired = false;
        work(({ payload }, done) => {
          if (payload === 'good' || isRepaired) return done();
          isRepaired = true;
          done(new Error('broken'));
        });
        broker.put('q', { body: 'good', message_id: 'good' });
        broker.put('q', { body: 'bad', message_id: 'bad' });
        const isTriedAgain = onerror !== 'reject';
        const seen = await dispositions(isTriedAgain ? 3 : 2);
        should(seen.find(({ id }) => id === 'good')).match({ state: 'accepted' });
        const ends = seen.filter(({ id }) => id === 'bad');
        should(ends[0]).match(outcome);
        if (isTriedAgain) should(ends[1]).match({ state: 'accepted' });
        broker.depth('q').should.equal(0);
        broker.depth('DLQ').should.equal(isTriedAgain ? 0 : 1);
      });
    }

    for (const [format, state] of [
      ['body', 'modified'],
      [undefined, 'released'],
    ] as const) {
      it(`has what failed ${state}, unless it is told, in ${format ? 'new flows' : 'those of node-red-contrib-rhea'}`, async () => {
        await startSettledBy('out', { format });
        let isRepaired = false;
        work((_msg, done) => {
          done(isRepaired ? undefined : new Error('broken'));
          isRepaired = true;
        });
        broker.put('q', { body: 1 });
        (await dispositions(2)).map((one) => one.state).should.eql([state, 'accepted']);
      });
    }

    it('dead-letters what a flow never gets done, and is not fed it without end', async () => {
      await startSettledBy('out', {});
      let attempts = 0;
      work((_msg, done) => {
        attempts++;
        done(new Error('broken'));
      });
      broker.put('q', { body: 1 });
      while (broker.depth('DLQ') === 0) await once(broker, 'settled');
      should(attempts).equal(broker.options.maxDeliveries ?? 5);
    });

    it('takes errors and annotations of any size: cut, or refused while the message is still held', async () => {
      await start({ settle: 'flow' }, { maxFrameSize: 512 });
      const long = 'x'.repeat(100_000);
      const out = messages('out', 3);
      for (let body = 0; body < 3; body++) broker.put('q', { body, message_id: body });
      const [first, second, third] = await out;
      inject('receiver', { ...first, settle: 'reject', error: { condition: 'a', description: long } });
      (await dispositions(1)).should.match([{ state: 'rejected', error: { description: /^x{50,500}$/ } }]);
      for (const [msg, wrong] of [
        [second, { settle: 'modify', annotations: { 'x-a': long } }],
        [third, { settle: 'reject', error: { condition: 'a', info: { a: 2n ** 70n } } }],
      ] as const) {
        const caught = message('caught');
        inject('receiver', { ...msg, ...wrong });
        should((await caught).error).match({ code: 'AMQP_BAD_INPUT' });
        inject('receiver', { ...msg, settle: 'accept' });
      }
      (await dispositions(3)).slice(1).should.match([{ state: 'accepted' }, { state: 'accepted' }]);
      broker.connections().should.equal(1);
    });

    it('does for a failed msg what the flow says rather than its on error outcome', async () => {
      await startSettledBy('out', { onerror: 'reject' });
      work((msg, done) => {
        msg['settle'] = 'accept';
        done(new Error('not so bad'));
      });
      broker.put('q', { body: 1 });
      (await dispositions(1)).should.match([{ state: 'accepted' }]);
    });

    it('slows the peer down to the pace of a slow flow (R5)', async () => {
      await startSettledBy('out', { creditwindow: '2' }, probe);
      const running: Done[] = [];
      work((_msg, done) => void running.push(done));
      const two = messages('out', 2);
      for (let body = 0; body < 5; body++) broker.put('q', { body });
      await two;
      for (let left = 3; left > 0; left--) {
        await roundTrip();
        running.should.have.length(2);
        [broker.ready('q'), broker.unsettled('q')].should.eql([left, 2]);
        const next = message('out');
        running.shift()!();
        await next;
      }
      for (const done of running) done();
      await dispositions(5);
    });
  });

  describe('msg.settle', () => {
    const OUTCOMES: [msg: object, outcome: object][] = [
      [{ settle: 'accept' }, { state: 'accepted' }],
      [{ settle: 'release' }, { state: 'released' }],
      [{ settle: 'reject' }, { state: 'rejected' }],
      [
        { settle: 'reject', error: { condition: 'app:bad', description: 'why' } },
        { state: 'rejected', error: { condition: 'app:bad', description: 'why' } },
      ],
      [
        { settle: 'reject', error: { message: 'of a Catch node' } },
        { state: 'rejected', error: { condition: 'amqp:internal-error', description: 'of a Catch node' } },
      ],
      [{ settle: 'modify' }, { state: 'modified', deliveryFailed: true, undeliverableHere: false }],
      [
        { settle: 'modify', undeliverable_here: true },
        { state: 'modified', deliveryFailed: true, undeliverableHere: true },
      ],
      [{ settle: 'accept', error: { message: 'was repaired' } }, { state: 'accepted' }],
    ];
    for (const [settle, outcome] of OUTCOMES) {
      it(`settles by ${JSON.stringify(settle)}`, async () => {
        await start({ settle: 'flow', onerror: 'release' });
        await tell({ ...(await receive({ body: 1 })), ...settle });
        (await dispositions(1))[0]!.should.match(outcome);
      });
    }

    it('carries the annotations of the flow along', async () => {
      await start({ settle: 'flow' });
      const modified = new Promise<Record<string, any>>((resolve) => {
        broker.once('attach', () => broker['container'].once('modified', ({ delivery }: any) => resolve(delivery)));
      });
      await status('receiver', 'connected');
      await tell({ ...(await receive({ body: 1 })), settle: 'modify', annotations: { 'x-tried': 'once' } });
      should((await modified)['remote_state'].message_annotations).match({ 'x-tried': 'once' });
    });

    it('that is no outcome is an error, and the message can still be settled', async () => {
      await start({ settle: 'flow' });
      const msg = await receive({ body: 1 });
      for (const settle of ['accepted', '', 7, {}]) {
        should(await refusal({ ...msg, settle })).match({ code: 'AMQP_BAD_INPUT', message: /msg\.settle/ });
      }
      await tell({ ...msg, settle: 'reject' });
      (await dispositions(1)).should.match([{ state: 'rejected' }]);
    });

    it('is heeded for each of several msgs that come in one turn (R1)', async () => {
      await start({ settle: 'flow', onerror: 'reject', creditwindow: 4 });
      const all = messages('out', 4);
      for (let i = 0; i < 4; i++) broker.put('q', { body: i, message_id: `m${i}` });
      const [first, second, third, fourth] = await all;
      inject('receiver', first!);
      inject('receiver', { ...second, error: { message: 'failed' } });
      inject('receiver', third!);
      inject('receiver', { ...fourth, settle: 'modify', undeliverable_here: true });
      (await dispositions(4))
        .map(({ id, state }) => [id, state])
        .should.eql([
          ['m0', 'accepted'],
          ['m1', 'rejected'],
          ['m2', 'accepted'],
          ['m3', 'modified'],
        ]);
    });
  });

  describe('a msg settles the message that it came with', () => {
    it('also as a clone, when two wires leave a node; the other one comes too late', async () => {
      const second = { id: 'second', type: 'helper', z: 'flow', x: 0, y: 0, wires: [] };
      await start({ settle: 'flow', wires: [['out', 'second']] }, {}, second);
      const clone = message('second');
      const original = await receive({ body: 1 });
      await tell(await clone);
      (await dispositions(1)).should.match([{ state: 'accepted' }]);
      should(await refusal(original)).have.property('code', 'AMQP_DELIVERY_SETTLED');
    });

    it('also when it went through JSON or structuredClone', async () => {
      await start({ settle: 'flow' });
      for (const through of [structuredClone<Msg>, throughJson]) await tell(through(await receive({ body: 1 })));
      (await dispositions(2)).should.match([{ state: 'accepted' }, { state: 'accepted' }]);
    });

    it('also when only msg.delivery is left of it', async () => {
      await start({ settle: 'flow' });
      const { delivery } = await receive({ body: 1 });
      await tell({ delivery: { id: delivery!.id } });
      (await dispositions(1)).should.match([{ state: 'accepted' }]);
    });

    it('once: a second time is an error', async () => {
      await start({ settle: 'flow' });
      const msg = await receive({ body: 1 });
      await tell(msg);
      should(await refusal({ ...msg, settle: 'reject' })).match({
        code: 'AMQP_DELIVERY_SETTLED',
        source: { id: 'receiver' },
      });
      (await dispositions(1)).should.match([{ state: 'accepted' }]);
    });

    it('and no other: a token that this node has not given is an error', async () => {
      await start({ settle: 'flow' });
      const { delivery } = await receive({ body: 1 });
      for (const id of ['', 'made up', `${delivery!.id}1`, 7, null, { id: delivery!.id }]) {
        should(await refusal({ delivery: { ...delivery, id } })).have.property('code', 'AMQP_DELIVERY_UNKNOWN');
      }
      broker.unsettled('q').should.equal(1);
    });

    it('unless the connection was lost since: that is an error, and the message comes again', async () => {
      await start({ settle: 'flow' });
      const lost = await receive({ body: 1 });
      const again = message('out');
      broker.dropSockets();
      const { delivery, payload } = await again;
      should(payload).equal(1);
      should(await refusal(lost)).have.property('code', 'AMQP_DELIVERY_LOST');
      await tell({ delivery });
      (await dispositions(1)).should.match([{ state: 'accepted' }]);
    });

    it('also by the next instance of the node, when that was deployed anew since', async () => {
      broker = await Broker.start();
      const flowOf = (name: string) =>
        flow(endpointNode(broker.port), node('amqp-receiver', { name, settle: 'flow' }), probe);
      await load(flowOf('before'));
      const held = await receive({ body: 1 });
      const again = message('out');
      await helper.setFlows(flowOf('after'), 'nodes');
      broker.put('q', { body: 2 });
      await tell(held);
      (await dispositions(1)).should.match([{ state: 'accepted' }]);
      should(await again).match({ payload: 2, delivery: { redelivered: false } });
      await tell(await again);
    });

    it('unless all was deployed anew since: what it held was released, and comes again', async () => {
      broker = await Broker.start();
      const flowOf = (name: string) =>
        flow(endpointNode(broker.port, { name }), node('amqp-receiver', { settle: 'flow' }), probe);
      await load(flowOf('before'));
      const held = await receive({ body: 1 });
      await helper.setFlows(flowOf('after'), 'full');
      const next = message('out');
      (await dispositions(1)).should.match([{ state: 'released' }]);
      should(await next).match({ payload: 1, delivery: { redelivered: false } });
      should(await refusal(held)).have.property('code', 'AMQP_DELIVERY_LOST');
      await tell(await next);
    });
  });

  describe('a message that is not what it should be', () => {
    it('that cannot be decoded at all is rejected and told once; the link lives (R12)', async () => {
      await start({ settle: 'flow' });
      const [caught, out] = [collect('caught'), messages('out', 2)];
      broker.put('q', { body: 'before' });
      broker.put('q', Buffer.from([0x00, 0x53, 0x75, 0xa0, 0xff, 0x00]));
      broker.put('q', { body: 'after' });
      payloads(await out).should.eql(['before', 'after']);
      (await dispositions(1)).should.match([{ state: 'rejected', error: { condition: 'amqp:decode-error' } }]);
      should(caught).match([{ topic: 'q', delivery: { address: 'q' }, error: { code: 'AMQP_DECODE' } }]);
      caught.should.have.length(1);
      broker.depth('DLQ').should.equal(1);
      broker.connections().should.equal(1);
    });

    it('whose JSON does not parse goes to Catch nodes as it is, and nowhere else', async () => {
      await start({ output: 'json' });
      const out = collect('out');
      const caught = message('caught');
      broker.put('q', { body: data('no json') });
      const { payload, error, delivery } = await caught;
      should(payload).eql(Buffer.from('no json'));
      should(error).match({ code: 'AMQP_DECODE', source: { id: 'receiver' } });
      should(delivery!.address).equal('q');
      (await dispositions(1)).should.match([{ state: 'accepted' }]);
      await receive({ body: data('{"a":1}') });
      payloads(out).should.eql([{ a: 1 }]);
    });

    it('whose JSON does not parse gets the on error outcome, where the flow settles', async () => {
      await start({ output: 'json', settle: 'flow', onerror: 'reject' });
      const caught = message('caught');
      broker.put('q', { body: data('no json') });
      should((await caught).error).have.property('code', 'AMQP_DECODE');
      (await dispositions(1)).should.match([{ state: 'rejected', error: { description: /JSON/ } }]);
    });
  });

  describe('its input', () => {
    it('grants credit, which is the only one when the window is 0', async () => {
      await start({ creditwindow: 0 }, {}, probe);
      const out = collect('out');
      await status('receiver', 'connected');
      for (let body = 1; body <= 5; body++) broker.put('q', { body });
      await roundTrip();
      out.should.be.empty();
      for (const [credit, count] of [
        [2, 2],
        ['1', 3],
      ] as const) {
        const last = messages('out', count - out.length);
        inject('receiver', { credit });
        await last;
        await roundTrip();
        payloads(out).should.eql(Array.from({ length: count }, (_, i) => i + 1));
      }
    });

    it('settles a msg and grants credit for the next by one msg', async () => {
      await start({ creditwindow: 0, settle: 'flow' });
      const first = message('out');
      for (const body of [1, 2]) broker.put('q', { body });
      inject('receiver', { credit: 1 });
      const settled = { ...(await first), credit: 1 };
      const second = message('out');
      inject('receiver', settled);
      should((await second).payload).equal(2);
      (await dispositions(1)).should.match([{ state: 'accepted' }]);
    });

    for (const [what, msg, text] of [
      ['a credit of 0', { credit: 0 }, /msg\.credit/],
      ['a credit below 0', { credit: -1 }, /msg\.credit/],
      ['half a credit', { credit: 0.5 }, /msg\.credit/],
      ['a credit that is no number', { credit: 'much' }, /msg\.credit/],
      ['an empty credit', { credit: '' }, /msg\.credit/],
      ['a credit that is true', { credit: true }, /msg\.credit/],
      ['an action that there is not', { action: 'stop' }, /msg\.action.*stop/],
      ['an action that is no string', { action: {} }, /msg\.action/],
      ['nothing that it could do', { payload: 1 }, /nothing for a receiver/],
    ] as const) {
      it(`refuses ${what}`, async () => {
        await start();
        should(await refusal(msg)).match({ code: 'AMQP_BAD_INPUT', message: text, source: { id: 'receiver' } });
        should((await receive({ body: 'goes on' })).payload).equal('goes on');
      });
    }

    it('pauses and resumes', async () => {
      await start({}, {}, probe);
      await status('receiver', 'connected');
      const out = collect('out');
      await tell({ action: 'pause' });
      should(await status('receiver', 'paused')).match({ fill: 'yellow', shape: 'dot' });
      await roundTrip();
      broker.put('q', { body: 1 });
      await roundTrip();
      out.should.be.empty();
      const resumed = message('out');
      await tell({ action: 'resume' });
      should((await resumed).payload).equal(1);
      await status('receiver', 'connected');
    });

    it('drains: done once the peer has sent all that it has', async () => {
      await start({ creditwindow: 0 }, {}, probe);
      await status('receiver', 'connected');
      for (const body of [1, 2]) broker.put('q', { body });
      const out = collect('out');
      inject('receiver', { credit: 10 });
      await Promise.all([messages('out', 2), tell({ action: 'drain' })]);
      broker.put('q', { body: 3 });
      await roundTrip();
      payloads(out).should.eql([1, 2]);
    });

    it('unsubscribes, which gives back what is held, and subscribes again', async () => {
      await start({ settle: 'flow' });
      await receive({ body: 'held' });
      await tell({ action: 'unsubscribe' });
      should(await status('receiver', 'detached')).match({ fill: 'grey', shape: 'ring' });
      broker.links().should.be.empty();
      (await dispositions(1)).should.match([{ state: 'released' }]);
      const again = message('out');
      await tell({ action: 'subscribe' });
      should((await again).payload).equal('held');
    });

    it('subscribes to another address', async () => {
      await start({}, {}, probe);
      await status('receiver', 'connected');
      await tell({ action: 'subscribe', topic: 'other' });
      const out = message('out');
      broker.put('q', { body: 'from q' });
      broker.put('other', { body: 'from other' });
      should(await out).match({ payload: 'from other', topic: 'other', delivery: { address: 'other' } });
      broker
        .links()
        .filter(({ role }) => role === 'receiver')
        .map(({ address }) => address)
        .should.eql(['other']);
    });

    it('is gone with its node, also when that was just subscribing', async () => {
      broker = await Broker.start();
      const receiver = node('amqp-receiver');
      const rest = [endpointNode(broker.port), probe];
      await load(flow(receiver, ...rest));
      await Promise.all([status('receiver', 'connected'), status('probe', 'connected')]);
      inject('receiver', { action: 'subscribe', topic: 'other' });
      await helper.setFlows(flow(...rest), 'nodes');
      await roundTrip();
      broker
        .links()
        .map(({ address }) => address)
        .should.eql(['probe']);
    });

    it('subscribes where the node has no address, which waits for that, but not to nothing', async () => {
      await start({ address: '' }, {}, probe);
      should(await status('receiver', 'detached')).match({ fill: 'grey' });
      await roundTrip();
      broker
        .links()
        .map(({ address }) => address)
        .should.eql(['probe']);
      should(await refusal({ action: 'subscribe' })).have.property('code', 'AMQP_NO_ADDRESS');
      await tell({ action: 'subscribe', topic: 'q' });
      should((await receive({ body: 1 })).topic).equal('q');
      await tell({ action: 'unsubscribe' });
      await status('receiver', 'detached');
    });

    it('takes an action of a msg that was received for one of the flow', async () => {
      await start({ settle: 'flow' });
      const msg = await receive({ body: 1 });
      await tell({ ...msg, action: 'unsubscribe' });
      (await dispositions(1)).should.match([{ state: 'accepted' }]);
      should((await receive({ body: 2 })).payload).equal(2);
    });
  });

  describe('the address', () => {
    it('can be made by the peer, another one after each reconnect, and the status shows it', async () => {
      await start({ address: '', dynamic: true });
      const attached = once(broker, 'attach');
      const [{ address }] = (await attached) as [{ address: string }];
      should(await status('receiver', address)).match({ fill: 'green', text: address });
      const out = message('out');
      broker.put(address, { body: 1 });
      should(await out).match({ payload: 1, topic: address, delivery: { address } });
      const next = once(broker, 'attach');
      broker.dropSockets();
      const [{ address: another }] = (await next) as [{ address: string }];
      another.should.not.equal(address);
      await status('receiver', another);
    });

    it('that is refused is asked for again, until it is allowed; others go on meanwhile', async () => {
      broker = await Broker.start();
      broker.refuse('q');
      const other = node('amqp-receiver', { id: 'other', address: 'other' });
      await load(flow(endpointNode(broker.port), node('amqp-receiver'), other));
      should(await status('receiver', 'refused')).match({ fill: 'red', shape: 'ring' });
      const out = message('out');
      broker.put('other', { body: 'goes on' });
      should((await out).payload).equal('goes on');
      broker.allow('q');
      should((await receive({ body: 'allowed' })).payload).equal('allowed');
      should(await status('receiver', 'connected')).match({ fill: 'green', shape: 'dot' });
      broker.connections().should.equal(1);
    });

    for (const [how, take] of [
      ['a detach', () => broker.detach('q', { condition: 'amqp:resource-deleted' })],
      ['the end of its session', () => broker.endSessions('q', { condition: 'amqp:internal-error' })],
    ] as const) {
      it(`is attached to again after ${how}, and others notice nothing`, async () => {
        const other = node('amqp-receiver', { id: 'other', address: 'other' });
        await start({ settle: 'flow' }, {}, other);
        const lost = await receive({ body: 1 });
        const gone: string[] = [];
        broker.on('detach', ({ address }) => gone.push(address));
        const again = message('out');
        take();
        should((await again).payload).equal(1);
        should(await refusal(lost)).have.property('code', 'AMQP_DELIVERY_LOST');
        gone.should.eql(['q']);
        broker.connections().should.equal(1);
      });
    }
  });

  describe('its subscription', () => {
    const named = { address: 'topic', kind: 'topic', subscriptionname: 'ledger' };

    it('asks for nothing special by default', async () => {
      await start();
      await status('receiver', 'connected');
      const { name, source } = broker.links()[0]!;
      name.should.equal('receiver');
      should(source).eql({ address: 'q' });
    });

    it('is kept while the node is away when it is durable, and deleted when it unsubscribes', async () => {
      await start({ ...named, subscription: 'durable' }, {}, probe);
      await status('receiver', 'connected');
      const [link] = broker.links().filter(({ role }) => role === 'receiver');
      should(link).match({ name: 'ledger', source: { durable: 2, expiry_policy: 'never', capabilities: ['topic'] } });
      let detached = once(broker, 'detach');
      await helper.setFlows(flow(endpointNode(broker.port), probe), 'nodes');
      should((await detached)[0]).match({ name: 'ledger', closed: false });
      await helper.unload();
      await load(flow(endpointNode(broker.port), node('amqp-receiver', { ...named, subscription: 'durable' })));
      await status('receiver', 'connected');
      detached = once(broker, 'detach');
      await tell({ action: 'unsubscribe' });
      should((await detached)[0]).match({ name: 'ledger', closed: true });
    });

    it('cannot be deleted without a link: the msg fails, and the subscription stays', async () => {
      await start({ ...named, subscription: 'durable' });
      await status('receiver', 'connected');
      await broker.stop();
      await status('receiver', '.reason.refused');
      should(await refusal({ action: 'unsubscribe' })).match({ code: 'AMQP_DISCONNECTED' });
      broker = await Broker.start({ port: broker.port });
      await status('receiver', 'connected');
    });

    it('is shared by receivers that name it, each with a link of its own', async () => {
      const shared = { ...named, subscription: 'shared' };
      await start(shared, {}, node('amqp-receiver', { id: 'second', ...shared }));
      await Promise.all([status('receiver', 'connected'), status('second', 'connected')]);
      broker
        .links()
        .map(({ name }) => name)
        .toSorted()
        .should.eql(['ledger|receiver', 'ledger|second']);
      should(broker.links()[0]!.source).not.have.property('durable');
      should(broker.links()[0]!.source).match({ capabilities: ['topic', 'shared', 'global'] });
    });

    it('is none when the address is dynamic, and the legacy properties count only until the node is edited', async () => {
      const legacy = { durable: 2, expirypolicy: 'never' };
      const dynamic = { id: 'second', address: '', dynamic: true, subscription: 'shared-durable' };
      await start({ ...legacy, subscription: '' }, {}, node('amqp-receiver', dynamic));
      await status('receiver', 'connected');
      while (broker.links().length < 2) await once(broker, 'attach');
      for (const { source } of broker.links()) should(source).not.have.properties('durable', 'capabilities');
    });
  });

  describe('with a Catch node for all nodes wired to its input', () => {
    it('ends its own error where it comes back: the msg does not go round and round', async () => {
      await startCaught({}, probe);
      const caught = collect('caught');
      inject('receiver', { payload: 1, delivery: { id: 'made up' } });
      inject('receiver', { payload: 2 });
      await roundTrip();
      caught.should.have.length(2);
    });

    it('treats a message that the flow could not settle as asked as one that has failed', async () => {
      await startCaught({ onerror: 'reject' });
      const received = message('out');
      broker.put('q', { body: 'work' });
      inject('receiver', { ...(await received), settle: 'maybe' });
      const [outcome] = await dispositions(1);
      outcome!.should.match({ state: 'rejected', error: { description: /msg\.settle is not one of/ } });
    });
  });

  it('takes nothing from the turn on in which it is closed', async () => {
    await start();
    await status('receiver', 'connected');
    const out = collect('out');
    const closed = helper.getNode('receiver').close(false);
    broker.put('q', { body: 'late' });
    await closed;
    out.should.be.empty();
    broker.depth('q').should.equal(1);
    should(broker.dispositions.filter(({ state }) => state === 'accepted')).be.empty();
  });

  describe('gives several messages as one msg', () => {
    const three = { settle: 'flow', together: 3, togethertime: 3600 };
    type One = Msg & { delivery: { id: string } };
    /** The msg, and its parts. */
    async function batch(...bodies: unknown[]): Promise<[msg: Msg, parts: One[]]> {
      const out = message('out');
      putAll(...bodies);
      const msg = await out;
      return [msg, msg['payload'] as One[]];
    }

    it('each with what it says and how it came, and a list of their tokens', async () => {
      await start(three);
      const [msg, parts] = await batch(1, 2, 3);
      should(msg).match({ topic: 'q', delivery: { address: 'q', count: 3 } });
      should(parts).match([
        { payload: 1, topic: 'q', amqp: { message_id: 'm1' }, delivery: { address: 'q', redelivered: false } },
        { payload: 2 },
        { payload: 3 },
      ]);
      should(msg.delivery!.id).eql(parts.map(({ delivery: { id } }) => id));
      should(structuredClone(msg)).eql(msg);
    });

    it('fewer once the time is over', async () => {
      await start({ ...three, togethertime: 0.02 });
      const [msg] = await batch(1, 2);
      should(msg.delivery).match({ count: 2 });
    });

    for (const [settle, state] of [
      [undefined, 'accepted'],
      ['reject', 'rejected'],
      ['release', 'released'],
    ] as const) {
      it(`that are settled together (${state})`, async () => {
        await start(three);
        const [msg] = await batch(1, 2, 3);
        inject('receiver', { ...msg, ...(settle && { settle }) });
        await dispositions(3);
        should(answered()).eql([1, 2, 3].map((n) => `m${n} ${state}`));
      });
    }

    it('that are settled one by one', async () => {
      await start(three);
      const [, parts] = await batch(1, 2, 3);
      for (const [index, settle] of ['reject', 'accept', 'modify'].entries()) await tell({ ...parts[index], settle });
      await dispositions(3);
      should(answered()).eql(['m1 rejected', 'm2 accepted', 'm3 modified']);
    });

    it('of which the rest is settled together, after some were settled one by one', async () => {
      await start(three);
      const [msg, parts] = await batch(1, 2, 3);
      await tell({ ...parts[1], settle: 'reject' });
      await tell(msg);
      await dispositions(3);
      should(answered()).eql(['m2 rejected', 'm1 accepted', 'm3 accepted']);
    });

    it('that cannot be settled when all of them are', async () => {
      await start(three);
      const [msg, parts] = await batch(1, 2, 3);
      for (const part of parts) await tell(part);
      should(await refusal({ ...msg })).match({ code: 'AMQP_DELIVERY_SETTLED' });
      should(await refusal({ ...parts[0] })).match({ code: 'AMQP_DELIVERY_SETTLED' });
    });

    it('that cannot be settled when they were lost with the connection', async () => {
      await start(three);
      const [msg] = await batch(1, 2, 3);
      const again = message('out');
      broker.dropSockets();
      await again;
      should(await refusal({ ...msg })).match({ code: 'AMQP_DELIVERY_LOST' });
      should(broker.unsettled('q')).equal(3);
    });

    it('that stay as they are when the outcome is none, so that they can still be settled', async () => {
      await start(three);
      const [msg] = await batch(1, 2, 3);
      should(await refusal({ ...msg, settle: 'maybe' })).match({ code: 'AMQP_BAD_INPUT' });
      await tell(msg);
      await dispositions(3);
    });

    it('whose tokens are no list of texts is refused', async () => {
      await start(three);
      const [{ delivery }] = await batch(1, 2, 3);
      for (const id of [[], [5], [delivery!.id![0], null], {}])
        should(await refusal({ delivery: { id } })).match({ code: 'AMQP_DELIVERY_UNKNOWN' });
    });

    it('which a Complete node settles, and which a Catch node fails, all of them', async () => {
      await startSettledBy('out', three);
      let turn = 0;
      work((_msg, done) => done(turn++ === 0 ? undefined : new Error('no')));
      putAll(1, 2, 3);
      await dispositions(3);
      putAll(4, 5, 6);
      while (broker.dispositions.length < 6) await once(broker, 'settled');
      should(answered()).match([/m1 acc/, /m2 acc/, /m3 acc/, /m4 mod/, /m5 mod/, /m6 mod/]);
    });

    it('accepted on arrival, without tokens', async () => {
      await start({ ...three, settle: 'arrival' });
      const [msg, parts] = await batch(1, 2, 3);
      should(msg.delivery).eql({ address: 'q', count: 3 });
      for (const { delivery } of parts) should(delivery).not.have.property('id');
      await dispositions(3);
    });

    it('that came settled', async () => {
      await start({ ...three, settle: 'pre-settled' });
      const [msg] = await batch(1, 2, 3);
      should(msg.delivery).eql({ address: 'q', count: 3 });
    });

    for (const settle of ['flow', 'arrival']) {
      it(`and gives back those of an unfinished one when it is deployed anew (${settle})`, async () => {
        await start({ ...three, settle }, {}, probe);
        putAll(1, 2);
        await roundTrip();
        const out = message('out');
        await helper.setFlows(
          flow(endpointNode(broker.port), node('amqp-receiver', { ...three, settle, name: 'new' }), probe),
          'nodes',
        );
        putAll(3);
        const parts = (await out)['payload'] as One[];
        should(payloads(parts)).eql([1, 2, 3]);
      });
    }

    it('without one that is not what it says to be: that goes to Catch nodes, and the rest to the flow', async () => {
      await start({ ...three, output: 'json' });
      const [caught, out] = [message('caught'), message('out')];
      broker.put('q', { body: data('{'), content_type: 'application/json' });
      for (const body of ['1', '2']) broker.put('q', { body: data(body), content_type: 'application/json' });
      should((await caught).error).match({ code: /^AMQP_/ });
      should((await out).delivery).match({ count: 2 });
    });

    it('is refused where more are to come together than may be in progress', async () => {
      await start({ settle: 'flow', together: 10, creditwindow: 5 });
      await status('receiver', '.fault');
    });
  });

  describe('keeps the order of groups', () => {
    it('each in sequence, several side by side', async () => {
      await startSettledBy('out', { order: 'group' });
      const doing = new Map<string, Done>();
      const done: string[] = [];
      work((msg, end) => {
        const group = String(msg['payload'])[0]!;
        should(doing.has(group)).be.false();
        doing.set(group, end);
        done.push(String(msg['payload']));
      });
      putNamed('a1', 'a2', 'b1', 'b2', 'a3');
      const finish = (group: string): void => {
        const end = doing.get(group)!;
        doing.delete(group);
        end();
      };
      while (doing.size < 2) await once(helper.getNode('out'), 'input');
      should(done).eql(['a1', 'b1']);
      for (const group of ['b', 'a', 'a']) {
        const next = once(helper.getNode('out'), 'input');
        finish(group);
        await next;
      }
      should(done).eql(['a1', 'b1', 'b2', 'a2', 'a3']);
      for (const group of ['a', 'b']) finish(group);
      await dispositions(5);
    });

    it('and has a failed one come again before those behind it', async () => {
      await startSettledBy('out', { order: 'group' });
      const seen: string[] = [];
      work((msg, end) => {
        seen.push(String(msg['payload']));
        end(seen.length === 1 ? new Error('once') : undefined);
      });
      putNamed('a1', 'a2', 'a3');
      while (broker.depth('q') > 0) await once(broker, 'settled');
      should(seen).eql(['a1', 'a1', 'a2', 'a3']);
    });

    it('also over a deploy', async () => {
      const properties = { settle: 'flow', order: 'group' };
      await start(properties, {}, probe);
      const first = message('out');
      putNamed('a1', 'a2', 'a3');
      const msg = await first;
      await roundTrip();
      await helper.setFlows(
        flow(endpointNode(broker.port), node('amqp-receiver', { ...properties, name: 'new' }), probe),
        'nodes',
      );
      const seen: unknown[] = [];
      helper.getNode('out').on('input', (next) => {
        seen.push((next as Msg)['payload']);
        inject('receiver', next);
      });
      inject('receiver', msg);
      while (broker.depth('q') > 0) await once(broker, 'settled');
      should(seen).eql(['a2', 'a3']);
    });
  });

  describe('gives up a message that fails too often', () => {
    const twice = { settle: 'flow', maxattempts: 2 };
    for (const [exhausted, state] of [
      [undefined, 'rejected'],
      ['reject', 'rejected'],
      ['accept', 'accepted'],
    ] as const) {
      it(`as ${state}, and tells Catch nodes (${exhausted ?? 'by default'})`, async () => {
        await start({ ...twice, exhausted });
        const [caught, out] = [message('caught'), refuseAll()];
        broker.put('q', { body: 'x', message_id: 'm' });
        const { error, delivery, payload } = (await caught) as Msg & { delivery: { attempt: number } };
        should(error).match({ code: 'AMQP_ATTEMPTS', message: /2 attempts/ });
        should([payload, delivery.attempt, 'id' in delivery]).eql(['x', 3, false]);
        should(out.map((msg) => (msg.delivery as unknown as { attempt: number }).attempt)).eql([1, 2]);
        const all = await dispositions(3);
        should(all[2]).match({ id: 'm', state });
      });
    }

    it('to another output by choice, where the flow settles it', async () => {
      await start({ ...twice, exhausted: 'output', wires: [['out'], ['outcome']] });
      const [spent, out] = [message('outcome'), refuseAll()];
      broker.put('q', { body: 'x', message_id: 'm' });
      const msg = await spent;
      should(msg).match({ payload: 'x', delivery: { attempt: 3 } });
      should(out).have.length(2);
      await tell(msg);
      should((await dispositions(3))[2]).match({ state: 'accepted' });
    });

    it('to another output out of several that came together', async () => {
      await start({ ...twice, exhausted: 'output', together: 2, togethertime: 3600, wires: [['out'], ['outcome']] });
      const spent = message('outcome');
      const given: unknown[][] = [];
      helper.getNode('out').on('input', (msg) => {
        const all = (msg as Msg)['payload'] as Msg[];
        given.push(payloads(all));
        for (const one of all) inject('receiver', { ...one, settle: one['payload'] === 'bad' ? 'release' : 'accept' });
        if (given.length < 3) broker.put('q', { body: `later ${given.length}` });
      });
      broker.put('q', { body: 'bad', message_id: 'm' });
      broker.put('q', { body: 'good' });
      should(await spent).match({ payload: 'bad', delivery: { attempt: 3 } });
      should(given.flat().filter((body) => body === 'bad')).have.length(2);
    });
  });

  it('rejects a message that is larger than it takes, tells Catch nodes, and goes on', async () => {
    const attached = start({ settle: 'flow', maxmessagesize: 1 });
    await attached;
    const caught = message('caught');
    broker.put('q', { body: 'x'.repeat(2000), message_id: 'large' });
    should((await caught).error).match({ code: 'AMQP_TOO_LARGE', message: /1024 bytes/ });
    should(await dispositions(1)).match([{ id: 'large', error: { condition: 'amqp:link:message-size-exceeded' } }]);
    should((await receive({ body: 'small' })).payload).equal('small');
    should(broker.links()).match([{ maxMessageSize: 1024 }]);
  });

  it('asks for what the node is set to: terminus, mode, properties, name', async () => {
    await start({
      linkname: 'mine',
      capabilities: 'one, two',
      kind: 'queue',
      durability: 'configuration',
      expiry: 'session-end',
      expirytime: 60,
      distribution: 'move',
      linkproperties: '{"a": 1}',
      consumerpriority: -5,
    });
    await status('receiver', 'connected');
    const [link] = broker.links();
    should(link).match({ name: 'mine', properties: { a: 1, priority: -5, 'rabbitmq:priority': -5 } });
    should(link!.source).match({
      durable: 1,
      expiry_policy: 'session-end',
      timeout: 60,
      distribution_mode: 'move',
    });
    should([link!.source!['capabilities']].flat()).eql(['queue', 'one', 'two']);
  });

  describe('filters', () => {
    const filters = [
      { filter: 'stream-offset', value: 'first' },
      { filter: 'other', name: 'mine', descriptor: 'app:mine', type: 'ubyte', value: '7' },
    ];

    it('that the server confirms are all there is to it', async () => {
      await start({ filters }, { confirmsFilters: true });
      await status('receiver', 'connected');
      should(broker.links()[0]!.source!['filter']).match({ 'rabbitmq:stream-offset-spec': 'first', mine: 7 });
      should(warnings()).be.empty();
    });

    it('that it leaves out are named in the status, and nothing is received unfiltered', async () => {
      await start({ filters }, { confirmsFilters: ['mine'] }, probe);
      broker.put('q', { body: 1 });
      should(await status('receiver', 'ignored')).match({ fill: 'yellow', shape: 'ring' });
      await roundTrip();
      should([broker.depth('q'), broker.links().map(({ name }) => name)]).eql([1, ['probe']]);
      should(warnings()).have.length(1);
    });

    it('that it leaves out do not matter by choice', async () => {
      await start({ filters, unfiltered: true });
      await status('receiver', 'ignored');
      should((await receive({ body: 1 })).payload).equal(1);
    });

    it('that it refuses are shown as the refusal that they are', async () => {
      broker = await Broker.start();
      broker.refuse('q', { condition: 'amqp:invalid-field', description: 'bad filter' });
      await load(flow(endpointNode(broker.port), node('amqp-receiver', { filters })));
      should(await status('receiver', 'refused')).match({ fill: 'red' });
    });

    for (const [what, wrong, why] of [
      ['of an unknown kind', [{ filter: 'colour', value: 'red' }], /number 1 is of a kind that is not known/],
      ['without a value', [filters[0], { filter: 'sql', value: '' }], /number 2 has no value/],
      ['that stands twice', [filters[0], filters[0]], /has rabbitmq:stream-offset-spec twice/],
      ['that is no list', { filter: 'sql' }, /is not a list/],
      ['with a variable that is not set', [{ filter: 'sql', value: '${NOT_SET}' }], /NOT_SET is not set/],
    ] as const) {
      it(`${what} are a fault of the node`, async () => {
        await start({ filters: wrong });
        await status('receiver', '.fault');
        should(await refusal({ payload: 1 })).match({ code: 'AMQP_CONFIG', message: why });
        should(broker.links()).be.empty();
      });
    }
  });

  describe('an option that the peer ignores', () => {
    it('that would keep messages away keeps all of them away', async () => {
      await start({ selector: "colour = 'red'" }, {}, probe);
      broker.put('q', { body: 1 });
      should(await status('receiver', 'ignored')).match({ fill: 'yellow', shape: 'ring' });
      await tell({ credit: 5 });
      await roundTrip();
      should(broker.depth('q')).equal(1);
      should(broker.links().map(({ name }) => name)).eql(['probe']);
    });

    it('shows as a warning, and is logged once, also over a reconnect', async () => {
      await start({ selector: "colour = 'red'", unfiltered: true });
      should(await status('receiver', 'ignored')).match({ fill: 'yellow', shape: 'ring' });
      warnings().should.have.length(1);
      should((await receive({ body: 1 })).payload).equal(1);
      await broker.stop();
      await status('receiver', '.reason.refused');
      broker = await Broker.start({ port: broker.port });
      await status('receiver', 'ignored');
      warnings().should.have.length(1);
    });

    it('takes nothing where reading without removing would remove, credit of the flow or not', async () => {
      const product = { product: 'RabbitMQ', version: '4.3.6' };
      await start({ browse: true }, { properties: product }, probe);
      await status('receiver', 'ignored');
      broker.put('q', { body: 1 });
      await tell({ credit: 5 });
      await tell({ action: 'pause' });
      await tell({ action: 'resume' });
      await roundTrip();
      broker.depth('q').should.equal(1);
    });

    it('leaves the address to others where reading without removing would remove', async () => {
      const product = { product: 'RabbitMQ', version: '4.3.6' };
      broker = await Broker.start({ properties: product });
      const detached = once(broker, 'detach');
      await load(flow(endpointNode(broker.port), node('amqp-receiver', { browse: true })));
      should((await detached)[0]).match({ name: 'receiver' });
      await status('receiver', 'ignored');
      should(broker.links()).be.empty();
    });

    describe('or may not do, as a router by itself and behind a link route', () => {
      const router = { properties: { product: 'qpid-dispatch-router', version: '1.19.0' }, confirmsFilters: true };
      const selector = "colour = 'red'";

      it('is not claimed to be ignored: the status says that nobody can tell', async () => {
        await start({ selector }, router);
        should(await status('receiver', 'unsure')).match({ fill: 'yellow', shape: 'ring' });
        warnings().should.have.length(1);
        should((await receive({ body: 1 })).payload).equal(1);
      });

      it('is believed where the user says so', async () => {
        await start({ selector, browse: true, trust: true }, router);
        await status('receiver', 'connected');
        warnings().should.be.empty();
      });

      it('is not risked where it would remove what is only to be read', async () => {
        broker = await Broker.start(router);
        const detached = once(broker, 'detach');
        await load(flow(endpointNode(broker.port), node('amqp-receiver', { selector, browse: true })));
        await detached;
        await status('receiver', 'unsure');
      });
    });
  });

  describe('wired into a sender', () => {
    const FOOTER = Buffer.from('005378c10902a303782d66a10176', 'hex');
    const sender = node('amqp-sender', { address: 'copy' });
    const uuid = Buffer.from('00112233445566778899aabbccddeeff', 'hex');

    const MESSAGES: Record<string, Message> = {
      'with all there is to forward': {
        body: 'hello',
        durable: true,
        priority: 7,
        message_id: 'm1',
        subject: 'greeting',
        reply_to: 'answers',
        correlation_id: 'c1',
        content_type: 'text/plain',
        content_encoding: 'identity',
        absolute_expiry_time: new Date(4e12),
        creation_time: new Date(1e12),
        group_id: 'g',
        group_sequence: 3,
        reply_to_group_id: 'rg',
        application_properties: { string: 's', number: 1.5, boolean: true, date: new Date(1e12) },
        message_annotations: { 'x-opt-a': 'b', 'x-number': 5 },
      },
      'of binary data': { body: data('\0\u{1F600}') },
      'of JSON': { body: data('{"a":[1,2,null]}'), content_type: 'application/json' },
      'of text': { body: data('grüße'), content_type: 'text/plain; charset=utf-8' },
      'of a sequence': { body: rhea.message.sequence_section([1, 'two', null]) },
      'of a map': { body: { a: 1, nested: { list: [true, false, null] }, date: new Date(1e12) } },
      'of a list': { body: [1, -1, 0.5, 'x'] },
      'of a number': { body: 42 },
      'of a boolean': { body: false },
      'of null': { body: null },
      'with a uuid and a number as ids': { body: 1, message_id: uuid, correlation_id: 7 },
    };
    for (const [what, original] of Object.entries(MESSAGES)) {
      it(`forwards a message ${what} as it is`, async () => {
        await start({ wires: [['sender']] }, {}, sender);
        const bytes = rhea.message.encode(original);
        const sent = messages('completed', 1);
        broker.put('q', bytes);
        await sent;
        // A sender makes durable what is not said to be otherwise.
        const decoded = { durable: true, ...(rhea.message.decode(bytes) as object as Message) };
        // One without an id is given one.
        const copy = { ...broker.messages('copy')[0]!, ...(original.message_id ? {} : { message_id: undefined }) };
        should({ ...copy }).eql({ ...decoded, message_id: decoded.message_id ?? undefined });
      });
    }

    it('forwards nothing that belongs to the hop, and no address that the message had', async () => {
      await start({ wires: [['sender']] }, {}, sender);
      const completed = message('completed');
      const bytes = rhea.message.encode({
        body: 1,
        to: 'q',
        user_id: 'someone',
        delivery_count: 3,
        first_acquirer: true,
        delivery_annotations: { 'x-hop': 1 },
      });
      broker.put('q', Buffer.concat([bytes, FOOTER]));
      const { amqp } = await completed;
      should(amqp).match({ user_id: Buffer.from('someone'), delivery_count: 3, footer: { 'x-f': 'v' }, to: 'q' });
      const [copy] = broker.messages('copy');
      should(copy!.body).equal(1);
      for (const field of ['to', 'user_id', 'delivery_count', 'first_acquirer', 'delivery_annotations', 'footer']) {
        should(copy![field as keyof Message]).not.be.ok();
      }
    });

    it('forwards to an address that the flow has set meanwhile', async () => {
      await start({}, {}, node('amqp-sender', { address: '' }));
      const msg = await receive({ body: 1, to: 'q' });
      const completed = message('completed');
      inject('sender', { ...msg, amqp: { ...msg.amqp, to: 'copy' } });
      await completed;
      broker
        .messages('copy')
        .map((copy) => [copy!.body, copy!.to])
        .should.eql([[1, 'copy']]);
    });

    it('settles what was received once what was sent is accepted', async () => {
      await startSettledBy('sender', { wires: [['sender']] }, sender);
      await Promise.all([status('sender', 'connected'), status('receiver', 'connected')]);
      broker.holdCredit('copy');
      for (const message_id of ['m1', 'm2']) broker.put('q', { body: message_id, message_id });
      broker.giveCredit('copy', 1);
      (await dispositions(1)).should.match([{ id: 'm1', state: 'accepted' }]);
      [broker.ready('copy'), broker.unsettled('q')].should.eql([1, 1]);
      broker.giveCredit('copy');
      (await dispositions(2)).should.match([
        { address: 'q', id: 'm1' },
        { address: 'q', id: 'm2', state: 'accepted' },
      ]);
      broker.depth('q').should.equal(0);
    });

    it('does with what was received as on error says when what was sent is rejected', async () => {
      await startSettledBy('sender', { onerror: 'reject', wires: [['sender']] }, sender);
      broker.answer('copy', 'reject', 1);
      broker.put('q', { body: 1, message_id: 'bad' });
      broker.put('q', { body: 2, message_id: 'good' });
      const seen = await dispositions(2);
      should(seen.find(({ id }) => id === 'bad')).match({ state: 'rejected', error: { description: /rejected/ } });
      should(seen.find(({ id }) => id === 'good')).match({ state: 'accepted' });
      broker
        .messages('copy')
        .map((copy) => copy!.body as unknown)
        .should.eql([2]);
    });
  });
});
