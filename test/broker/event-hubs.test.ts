// The double of Azure Event Hubs, where Microsoft's clients (test/brokers/event-hubs.test.ts) do not go.
import { once } from 'node:events';
import rhea, { type Connection, type Receiver } from 'rhea';
import should from 'should';
import { EventHubs, type EventHubsOptions } from '../doubles/event-hubs/event-hubs';
import { secretOf } from '../secrets';
import { begin, connectTo, first, receiver, send, sender, take } from './client';

const { types } = rhea;
const FILTER = 'apache.org:selector-filter:string';
const CODE = 0x468c00000004;
const ADDRESS = 'telemetry/ConsumerGroups/$Default/Partitions/0';
const EPOCH = 'com.microsoft:epoch';

const from = (
  expression: string,
  { key = FILTER, descriptor }: { key?: string; descriptor?: number | string } = {},
) => ({
  address: ADDRESS,
  filter: { [key]: types.wrap_described(expression, descriptor ?? CODE) },
});
const offsetAfter = (offset: string) => `amqp.annotation.x-opt-offset > '${offset}'`;
const withEpoch = (epoch: number) => ({ properties: { [EPOCH]: types.wrap_long(epoch) } });
const filterOf = (link: Receiver) => link.source.filter as Record<string, unknown> | undefined;

/** A batch whose own annotations have a key. */
const batchOf = (...messages: Buffer[]) =>
  rhea.message.encode({
    message_annotations: { 'x-opt-partition-key': 'k' },
    body: rhea.message.data_sections(messages),
  });
/** Asks about a hub. */
const request = (properties: object = {}) => ({
  message_id: 1,
  reply_to: 'me',
  body: null,
  application_properties: { operation: 'READ', name: 'telemetry', type: 'com.microsoft:eventhub', ...properties },
});

describe('double of Azure Event Hubs', () => {
  let eventHubs: EventHubs;
  let connection: Connection;

  async function start(options: EventHubsOptions = {}): Promise<void> {
    eventHubs = await EventHubs.start({ hubs: { telemetry: { partitions: 2 } }, ...options });
    connection = await connectTo(eventHubs.port, {
      username: 'RootManageSharedAccessKey',
      password: secretOf('event hubs key'),
    });
  }
  afterEach(() => eventHubs.stop());

  /** Sends events to the first partition, one by one. */
  async function sendEach(...bodies: string[]): Promise<void> {
    const link = await sender(connection, 'telemetry/Partitions/0');
    for (const body of bodies) (await send(link, { body })).should.equal('accepted');
  }

  for (const descriptor of [CODE, FILTER]) {
    it(`takes a filter described by ${descriptor}, and answers with the same`, async () => {
      await start();
      await sendEach('a', 'b');
      const { offset } = eventHubs.hub('telemetry').partition(0).events[0]!;
      const link = await receiver(connection, from(offsetAfter(offset), { descriptor }));
      const echoed = filterOf(link)![FILTER] as { value: unknown; descriptor: { value: unknown } };
      String(echoed.value).should.equal(offsetAfter(offset));
      should(echoed.descriptor.value).equal(descriptor);
      (await take(link)).message.body.should.equal('b');
    });
  }

  it('says nothing of filters that it does not know, and begins with the first event', async () => {
    await start();
    await sendEach('a', 'b');
    const link = await receiver(connection, from(offsetAfter('@latest'), { key: 'jms-selector' }));
    should(filterOf(link)).not.have.property('jms-selector');
    (await take(link)).message.body.should.equal('a');
    const plain = await receiver(connection, ADDRESS);
    (await take(plain)).message.body.should.equal('a');
  });

  it('refuses filters that name no position', async () => {
    await start();
    const refused = [
      from('color = red'),
      from(offsetAfter('first')),
      from("amqp.annotation.x-opt-enqueued-time > 'yesterday'"),
      from("amqp.annotation.x-opt-publisher > '1'"),
      from(offsetAfter('-1'), { descriptor: 'another:descriptor' }),
      { address: ADDRESS, filter: { [FILTER]: offsetAfter('-1') } },
    ];
    for (const source of refused) {
      await receiver(connection, source).should.be.rejectedWith({ condition: 'amqp:invalid-field' });
    }
  });

  it('refuses receivers of a hub or a group as a whole, and senders to a group', async () => {
    await start();
    const notFound = { condition: 'amqp:not-found' };
    await receiver(connection, 'telemetry').should.be.rejectedWith(notFound);
    await receiver(connection, 'telemetry/ConsumerGroups/$Default').should.be.rejectedWith(notFound);
    await sender(connection, ADDRESS).should.be.rejectedWith(notFound);
    const noPartition = receiver(connection, ADDRESS.replace('/0', '/2'));
    await noPartition.should.be.rejectedWith({ condition: 'com.microsoft:argument-out-of-range' });
  });

  it('writes sequence number, offset, time and key as its clients read them', async () => {
    await start();
    const link = await sender(connection, 'telemetry');
    await send(link, { body: 'a', message_annotations: { 'x-opt-partition-key': 'k' } });
    const [event] = eventHubs.hub('telemetry').events;
    should(event!.message.message_annotations).eql({
      'x-opt-partition-key': 'k',
      'x-opt-sequence-number': 0,
      'x-opt-offset': event!.offset,
      'x-opt-enqueued-time': new Date(event!.enqueuedAt),
    });
    event!.offset.should.not.equal(String(event!.sequenceNumber));
  });

  it('takes a batch as a whole, with the key of its own annotations, or not at all', async () => {
    await start();
    const link = await sender(connection, 'telemetry');
    const good = rhea.message.encode({ body: 'a' });
    (await send(link, batchOf(good, good), 0x80013700)).should.equal('accepted');
    (await send(link, batchOf(good, Buffer.from('00', 'hex')), 0x80013700)).should.equal('rejected');
    eventHubs.hub('telemetry').events.should.matchEach({ partitionKey: 'k', message: { body: 'a' } });
    eventHubs.hub('telemetry').events.length.should.equal(2);
  });

  it('sends settled events, whatever is asked for', async () => {
    await start();
    await sendEach('a');
    const link = await receiver(connection, ADDRESS, { snd_settle_mode: 0 });
    const { delivery } = await take(link);
    should(delivery.remote_settled).equal(true);
  });

  it('sends unsettled ones where it is told to, and takes outcomes, which change nothing', async () => {
    await start({ settled: false });
    await sendEach('a');
    const link = await receiver(connection, ADDRESS, { snd_settle_mode: 0, rcv_settle_mode: 1, autosettle: false });
    const { delivery } = await take(link);
    should(delivery.remote_settled).equal(false);
    const settled = first(link, 'settled');
    delivery.reject();
    await settled;
    eventHubs.hub('telemetry').events.length.should.equal(1);
    (await take(await receiver(connection, ADDRESS))).message.body.should.equal('a');
  });

  it('lets a receiver with the same epoch take over, and tells the loser', async () => {
    await start();
    const old = await receiver(connection, ADDRESS, withEpoch(3));
    const lost = first(old, 'receiver_error');
    await receiver(connection, ADDRESS, withEpoch(3));
    await lost;
    should(old.error).match({ condition: 'amqp:link:stolen' });
    eventHubs.links().should.matchEach({ epoch: 3 });
    eventHubs.links().length.should.equal(1);
  });

  it('fails messages as it is told to, so many times, and nothing else', async () => {
    await start();
    eventHubs.fail('telemetry', { condition: 'amqp:internal-error' }, 1);
    await receiver(connection, ADDRESS);
    const link = await sender(connection, 'telemetry/Partitions/1');
    (await send(link, { body: 'a' })).should.equal('rejected');
    (await send(link, { body: 'b' })).should.equal('accepted');
    eventHubs.throttle('telemetry');
    (await send(link, { body: 'c' })).should.equal('rejected');
    eventHubs.recover('telemetry');
    (await send(link, { body: 'd' })).should.equal('accepted');
  });

  describe('asked about a hub', () => {
    it('wants a token for it', async () => {
      await start({ tokens: new Set([secretOf('entra token')]) });
      const session = begin(connection);
      const answers = session.open_receiver({ source: '$management', target: 'me' });
      const requests = session.open_sender({ target: '$management' });
      await first(requests, 'sendable');
      for (const [status, properties] of [
        [400, {}],
        [401, { security_token: secretOf('unknown token') }],
        [200, { security_token: secretOf('entra token') }],
        [404, { security_token: secretOf('entra token'), name: 'nothing' }],
        [501, { security_token: secretOf('entra token'), operation: 'WRITE' }],
      ] as const) {
        const answer = first(answers, 'message');
        requests.send(request(properties));
        const { message } = await answer;
        should(message!.application_properties!['status-code']).equal(status);
      }
    });

    it('answers in the session of the request only', async () => {
      await start({ tokens: new Set([secretOf('entra token')]) });
      const answers = await receiver(connection, '$management', { target: 'me', credit_window: 10 });
      const requests = await sender(connection, '$management');
      let answered = 0;
      answers.on('message', () => answered++);
      const handled = once(eventHubs, 'request');
      requests.send(request({ security_token: secretOf('entra token') }));
      (await handled).should.eql(['$management', 'READ', 200]);
      // what is written after it has come: an answer would have come before
      await sender(connection, 'telemetry');
      answered.should.equal(0);
    });
  });
});
