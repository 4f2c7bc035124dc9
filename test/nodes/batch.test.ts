// Batches of Azure Event Hubs and Service Bus: one delivery whose data sections are messages of their own.
import { once } from 'node:events';
import rhea, { type Message } from 'rhea';
import should from 'should';
import { collect, endpointNode, flow, helper, inject, load, message, messages, type Msg, node } from '../flow';
import { Broker, type Disposition } from '../../broker/broker';

const BATCH = 0x80013700;
/** A section with the one annotation x-opt-partition-key. */
const ANNOTATIONS = `005372c11902a313${Buffer.from('x-opt-partition-key').toString('hex')}a1016b`;

let broker: Broker;

/** Loads a receiver and a sender to another address. */
async function start(properties: object = {}): Promise<void> {
  broker = await Broker.start();
  await load(
    flow(
      endpointNode(broker.port),
      node('amqp-receiver', properties),
      node('amqp-sender', { address: 'mark', wires: [['outcome']] }),
    ),
  );
}

/** The delivery that holds these messages, as the clients of Azure write it: annotations, then a data section each. */
function batch(...contents: (Message | Buffer)[]): Buffer {
  const sections = contents.flatMap((content) => {
    const bytes = Buffer.isBuffer(content) ? content : rhea.message.encode(content);
    const section = Buffer.from('005375b000000000', 'hex');
    section.writeUInt32BE(bytes.length, 4);
    return [section, bytes];
  });
  return Buffer.concat([Buffer.from(ANNOTATIONS, 'hex'), ...sections]);
}

/** Puts a delivery of the message-format into the queue, and resolves once it is there. */
async function put(bytes: Buffer, format = BATCH, address = 'q'): Promise<void> {
  const client = rhea.create_container().connect({ port: broker.port, reconnect: false });
  const sender = client.open_sender(address);
  await once(sender, 'sendable');
  sender.send(bytes, undefined, format);
  await once(sender, 'accepted');
  client.close();
  await once(client, 'connection_close');
}

const settled = async (): Promise<Disposition> => (await once(broker, 'settled'))[0] as Disposition;
const json = (text: string) => ({ body: rhea.message.data_section(Buffer.from(text)) });
const bodies = (msgs: Msg[]) => msgs.map(({ payload }) => payload);

describe('A batch', () => {
  before(() => helper.startServer());
  after(() => helper.stopServer());
  afterEach(async () => {
    await helper.unload();
    await broker.stop();
  });

  it('is as many messages as it holds, each with its own body, properties and annotations', async () => {
    await start();
    const received = messages('out', 3);
    const outcome = settled();
    await put(
      batch(
        { body: 'one', message_id: '1', application_properties: { n: 'a' } },
        { body: { two: true }, subject: 's', message_annotations: { 'x-opt-partition-key': 'own' } },
        { body: rhea.message.data_section(Buffer.from('{"three":3}')), content_type: 'application/json' },
      ),
    );
    const msgs = await received;
    should(msgs.map(({ payload, amqp }) => ({ payload, amqp }))).eql([
      { payload: 'one', amqp: { message_id: '1', application_properties: { n: 'a' }, body_type: 'value' } },
      {
        payload: { two: true },
        amqp: { subject: 's', message_annotations: { 'x-opt-partition-key': 'own' }, body_type: 'value' },
      },
      { payload: { three: 3 }, amqp: { content_type: 'application/json', body_type: 'data' } },
    ]);
    for (const { topic, delivery } of msgs) {
      should(topic).equal('q');
      should(delivery).eql({ tag: msgs[0]!.delivery!.tag, address: 'q', redelivered: false });
    }
    should((await outcome).state).equal('accepted');
  });

  it('is accepted only when the flow has accepted all of it, in whatever order', async () => {
    await start({ settle: 'flow' });
    const received = messages('out', 3);
    await put(batch({ body: 'a' }, { body: 'b' }, { body: 'c' }));
    const [a, b, c] = await received;
    should(new Set([a, b, c].map((msg) => msg!.delivery!.id)).size).equal(3);
    should(bodies([a!, b!, c!])).eql(['a', 'b', 'c']);
    for (const msg of [c!, a!]) inject('receiver', msg);
    // What is sent on the same connection arrives after any outcome that there might be.
    const marked = message('outcome');
    inject('sender', { payload: 'mark' });
    await marked;
    should(broker.dispositions).be.empty();
    const outcome = settled();
    inject('receiver', b!);
    should(await outcome).match({ address: 'q', state: 'accepted' });
    should(broker.depth('q')).equal(0);
  });

  for (const [settle, state] of [
    ['release', 'released'],
    ['reject', 'rejected'],
    ['modify', 'modified'],
  ] as const) {
    it(`is ${state} as a whole when one of it is, and not before the others are settled`, async () => {
      await start({ settle: 'flow' });
      const received = messages('out', 3);
      await put(batch({ body: 'a' }, { body: 'b' }, { body: 'c' }));
      const [a, b, c] = await received;
      inject('receiver', a!);
      inject('receiver', { ...b, settle });
      const marked = message('outcome');
      inject('sender', { payload: 'mark' });
      await marked;
      should(broker.dispositions).be.empty();
      const outcome = settled();
      inject('receiver', c!);
      should((await outcome).state).equal(state);
    });
  }

  it('has the outcome of the first that failed', async () => {
    await start({ settle: 'flow' });
    const received = messages('out', 3);
    await put(batch({ body: 'a' }, { body: 'b' }, { body: 'c' }));
    const [a, b, c] = await received;
    const outcome = settled();
    inject('receiver', a!);
    inject('receiver', { ...c, settle: 'reject', error: { condition: 'x:bad', description: 'no' } });
    inject('receiver', { ...b, settle: 'release' });
    should(await outcome).match({ state: 'rejected', error: { condition: 'x:bad', description: 'no' } });
  });

  it('comes again as a whole when it was released', async () => {
    await start({ settle: 'flow' });
    const first = messages('out', 2);
    await put(batch({ body: 'a' }, { body: 'b' }));
    const again = (async () => {
      await first;
      return messages('out', 2);
    })();
    const [a, b] = await first;
    inject('receiver', a!);
    inject('receiver', { ...b, settle: 'release' });
    const redelivered = await again;
    should(bodies(redelivered)).eql(['a', 'b']);
    const outcome = settled();
    for (const msg of redelivered) inject('receiver', msg);
    should((await outcome).state).equal('accepted');
  });

  it('comes again as a whole when the node is closed with some of it not settled', async () => {
    await start({ settle: 'flow' });
    const received = messages('out', 2);
    await put(batch({ body: 'a' }, { body: 'b' }));
    const [a] = await received;
    inject('receiver', a!);
    const outcome = settled();
    await helper.unload();
    should((await outcome).state).equal('released');
    should(broker.ready('q')).equal(1);
  });

  it('is released when one of its messages is not settled in time', async () => {
    await start({ settle: 'flow', settletimeout: 0.02 });
    const received = messages('out', 2);
    const outcome = settled();
    await put(batch({ body: 'a' }, { body: 'b' }));
    inject('receiver', (await received)[0]!);
    should((await outcome).state).equal('released');
  });

  it('counts each of its messages against the credit window', async () => {
    await start({ settle: 'flow', creditwindow: 2 });
    const [received, all] = [messages('out', 3), collect('out')];
    await put(batch({ body: 'a' }, { body: 'b' }, { body: 'c' }));
    await put(batch({ body: 'd' }));
    await put(batch({ body: 'e' }));
    const [a, b, c] = await received;
    const marked = message('outcome');
    inject('sender', { payload: 'mark' });
    await marked;
    // One more was on its way: credit is granted for deliveries, whose size no one knows before.
    should(bodies(all)).eql(['a', 'b', 'c', 'd']);
    const last = messages('out');
    for (const msg of [a, b, c]) inject('receiver', msg!);
    should(bodies(await last)).eql(['e']);
  });

  it('of one message, and one of none, is accepted', async () => {
    await start();
    const [received, out] = [message('out'), collect('out')];
    const none = settled();
    await put(batch());
    should((await none).state).equal('accepted');
    const one = settled();
    await put(batch({ body: 'alone' }));
    should((await received)['payload']).equal('alone');
    should((await one).state).equal('accepted');
    should(out).have.length(1);
  });

  for (const settle of ['arrival', 'flow']) {
    it(`has what cannot be read in one of it settled by "on error" (${settle})`, async () => {
      await start({ settle, onerror: 'reject', output: 'json' });
      const caught = message('caught');
      const received = messages('out', 2);
      const outcome = settled();
      await put(batch(json('1'), json('{'), json('3')));
      should((await caught).error!.code).equal('AMQP_DECODE');
      const msgs = await received;
      should(bodies(msgs)).eql([1, 3]);
      if (settle === 'flow') for (const msg of msgs) inject('receiver', msg);
      should((await outcome).state).equal(settle === 'flow' ? 'rejected' : 'accepted');
    });
  }

  const good = { body: 'good' };
  for (const [what, bytes, format] of [
    ['in one of its messages', () => batch(good, Buffer.from('005377ff', 'hex'), good), BATCH],
    ['by a message without bytes', () => batch(good, Buffer.alloc(0)), BATCH],
    ['by a message without its end', () => batch(good).subarray(0, -1), BATCH],
    ['by something else than data sections', () => rhea.message.encode({ body: 'no batch' }), BATCH],
    ['by bytes that are no message', () => Buffer.from('garbage'), BATCH],
    ['by a message-format that is not known', () => rhea.message.encode(good), 0x80013701],
  ] as const) {
    for (const settle of ['arrival', 'flow']) {
      it(`malformed ${what} is rejected and told to Catch once, with nothing of it in the flow (${settle})`, async () => {
        await start({ settle });
        const [caught, out] = [collect('caught'), message('out')];
        const outcome = settled();
        await put(bytes(), format);
        should(await outcome).match({ address: 'q', state: 'rejected', error: { condition: 'amqp:decode-error' } });
        await put(batch({ body: 'next' }));
        should((await out)['payload']).equal('next');
        should(caught).have.length(1);
        const [{ error, topic, delivery }] = caught as [Msg];
        should(error!.code).equal('AMQP_DECODE');
        should(topic).equal('q');
        should(delivery).have.properties({ address: 'q' }).and.not.have.property('id');
        should(broker.ready('DLQ')).equal(1);
      });
    }
  }

  it('of a message-format that is not known is told by its number', async () => {
    await start();
    const caught = message('caught');
    await put(rhea.message.encode(good), 7);
    should((await caught).error!.message).endWith('the message has the unknown message-format 0x7');
  });
});
