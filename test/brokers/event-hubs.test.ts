// The double of Azure Event Hubs, with Microsoft's own clients, which know nothing of it, and with our nodes.
import { on, once } from 'node:events';
import { setImmediate as nextTurn } from 'node:timers/promises';
import should from 'should';
import { type Driver, refused } from '../doubles/azure/client';
import {
  type Ability,
  type EventHubsClient,
  javascript,
  type Position,
  python,
  type Received,
  type Subscription,
} from '../doubles/event-hubs/client';
import {
  type Event,
  EventHubs,
  type EventHubsOptions,
  type LinkInfo,
  type Partition,
} from '../doubles/event-hubs/event-hubs';
import { ours } from '../doubles/event-hubs/nodes';
import { secretOf } from '../secrets';
import { startBefore } from './microsoft';

const EARLIEST = { offset: '-1' };
const LATEST = { offset: '@latest' };
const texts = (events: Received[]) => events.map(({ body }) => body);
const numbered = (count: number, from = 0) => Array.from({ length: count }, (_, i) => ({ body: `m${from + i}` }));
const source = (partition: string, group = '$default') => `telemetry/consumergroups/${group}/partitions/${partition}`;

for (const kind of [javascript, python, ours]) test(kind);

function test(kind: EventHubsClient): void {
  describe(`double of Azure Event Hubs, with ${kind.name}`, () => {
    let eventHubs: EventHubs;
    let client: Driver;
    const can = (ability: Ability) => kind.lacks[ability] === undefined;
    const itIf = (ability: Ability) => (can(ability) ? it : () => {});

    startBefore(kind, (started) => {
      client = started;
    });

    async function start(options: EventHubsOptions = {}): Promise<void> {
      eventHubs = await EventHubs.start({ hubs: { telemetry: { partitions: 4, groups: ['other'] } }, ...options });
      await open();
    }
    const open = (hub = 'telemetry', connectionString = eventHubs.connectionString()) =>
      client.call('open', connectionString, hub);
    afterEach(async () => {
      await client.call('close');
      await eventHubs.stop();
    });

    const send = (events: object[], to: { partition?: string; partitionKey?: string; batch?: boolean } = {}) =>
      client.call('send', events, to);
    const sendBatch = (count: number, from = 0, partition = '0') =>
      send(numbered(count, from), { batch: true, partition });
    const partition = (id: number): Partition => eventHubs.hub('telemetry').partition(id);

    /** Resolves once the event has come for a receiver of the address. */
    async function receiverAt(address: string, event: 'attach' | 'detach' = 'attach'): Promise<void> {
      for await (const [info] of on(eventHubs, event) as AsyncIterable<[LinkInfo]>) {
        if (info.address === address && info.role === 'receiver') return;
      }
    }
    /** Has a receiver of one partition, once it is attached. */
    async function subscribe(name: string, subscription: Subscription): Promise<void> {
      const attached = receiverAt(source(subscription.partition!, subscription.group));
      await client.call('receiver', name, subscription);
      await attached;
    }
    const receive = (name: string, count: number, wait = 15_000) =>
      client.call<Received[]>('receive', name, count, wait);
    const failure = (name: string) => client.call<string | null>('failure', name, 15_000);
    /** Sends an event to the first partition that is of a later time than those before. */
    async function sendLater(number: number): Promise<Event> {
      const { enqueuedAt } = partition(0).events.at(-1)!;
      while (Date.now() <= enqueuedAt) await nextTurn();
      await sendBatch(1, number);
      return partition(0).events.at(-1)!;
    }
    /** What the first partition has from a position on. */
    async function received(position: Position, count: number): Promise<string[]> {
      const name = JSON.stringify(position);
      await subscribe(name, { partition: '0', ...position });
      return texts(await receive(name, count));
    }
    /** Tries to have a receiver, and tells what it is refused with. */
    async function refusal(name: string, subscription: Subscription): Promise<string> {
      await client.call('receiver', name, { retries: 0, ...subscription });
      return String(await failure(name));
    }
    /** Does it, and waits until the client has taken note with its sender, where it does so by itself. */
    async function noted(event: string, misbehave: () => void): Promise<void> {
      const answered = once(eventHubs, event);
      misbehave();
      if (kind.isAttentive) await answered;
    }

    describe('tells', () => {
      it('of a hub and of a partition where nothing ever was', async () => {
        const before = Date.now();
        await start();
        const hub = await client.call<{ createdAt: number }>('hub');
        hub.should.match({ name: 'telemetry', partitions: ['0', '1', '2', '3'] });
        if (can('createdAt')) hub.createdAt.should.be.within(before, Date.now());
        const told = await client.call<object>('partition', '3');
        told.should.match({ hub: 'telemetry', id: '3', first: 0, last: -1, lastOffset: '-1', isEmpty: true });
      });

      it('of a partition with events, older ones of which are gone', async () => {
        await start();
        await sendBatch(3);
        const [, second, third] = partition(0).events;
        eventHubs.trim('telemetry', 0, 1);
        const told = await client.call<{ lastAt: number }>('partition', '0');
        told.should.match({ first: second!.sequenceNumber, last: 2, lastOffset: third!.offset, isEmpty: false });
        told.lastAt.should.equal(third!.enqueuedAt);
        eventHubs.trim('telemetry', 0, 3);
        (await client.call<object>('partition', '0')).should.match({ first: 3, last: 2, isEmpty: true });
      });

      itIf('partition')('that there is no such partition', async () => {
        await start();
        // the client for Python leaves out what the answer says
        (await refused(client.call('partition', '4'))).should.match(/^ArgumentOutOfRangeError: |Status code: 400/);
      });
    });

    describe('sends', () => {
      it('an event, with its properties', async () => {
        await start();
        await send([{ body: 'grüße', properties: { a: 'b', n: 7 } }]);
        const [event] = eventHubs.hub('telemetry').events;
        should(event).match({ sequenceNumber: 0, message: { application_properties: { a: 'b', n: 7 } } });
        await client.call('receiver', 'r', EARLIEST);
        const [again] = await receive('r', 1);
        again!.should.match({ body: 'grüße', properties: { a: 'b', n: 7 }, partitionKey: null });
      });

      it('batches, and what is not in a batch', async () => {
        await start();
        await sendBatch(20);
        partition(0).events.length.should.equal(20);
        await send([{ body: 'single' }]);
        eventHubs.hub('telemetry').events.length.should.equal(21);
      });

      it('events with a key always to the same partition, and tells their receivers', async () => {
        await start();
        for (const partitionKey of ['a', 'b', 'a']) {
          await send(numbered(2), { partitionKey, batch: true });
          await send(numbered(1), { partitionKey });
        }
        const { events, partitions } = eventHubs.hub('telemetry');
        events.filter((each) => each.partitionKey === 'a').length.should.equal(6);
        const places = partitions.filter((each) => each.events.some(({ partitionKey }) => partitionKey === 'a'));
        places.length.should.equal(1);
        await client.call('receiver', 'r', EARLIEST);
        const told = await receive('r', 9);
        told.filter(({ partitionKey }) => partitionKey === 'a').length.should.equal(6);
        told.filter(({ partitionKey }) => partitionKey === 'b').length.should.equal(3);
      });

      it('events without a key to all partitions in turn', async () => {
        await start();
        for (const { body } of numbered(8)) await send([{ body }]);
        for (const { events } of eventHubs.hub('telemetry').partitions) events.length.should.equal(2);
      });

      it('to a partition', async () => {
        await start();
        await send([{ body: 'a' }], { partition: '2' });
        await send([{ body: 'b' }], { partition: '2' });
        partition(2)
          .events.map(({ sequenceNumber }) => sequenceNumber)
          .should.eql([0, 1]);
        (await refused(send([{ body: 'c' }], { partition: '4' }))).should.match(
          /specified partition is invalid|Invalid partition 4/,
        );
      });

      it('again what was rejected because the service is busy', async () => {
        await start();
        // the client for Python tries again where it has sent before
        await sendBatch(1);
        eventHubs.throttle('telemetry', 1);
        await sendBatch(2, 1);
        partition(0).events.length.should.equal(3);
      });
    });

    describe('receives', () => {
      it('from the earliest event on, with all that is told of it', async () => {
        await start();
        const sentAt = Date.now();
        await sendBatch(3);
        await subscribe('r', { partition: '0', ...EARLIEST });
        await sendBatch(1, 3);
        const events = await receive('r', 4);
        texts(events).should.eql(['m0', 'm1', 'm2', 'm3']);
        const told = events.map(({ sequenceNumber, offset, enqueuedAt }) => ({ sequenceNumber, offset, enqueuedAt }));
        told.should.match(
          partition(0).events.map(({ sequenceNumber, offset, enqueuedAt }) => ({ sequenceNumber, offset, enqueuedAt })),
        );
        for (const { enqueuedAt } of events) enqueuedAt.should.be.within(sentAt, Date.now());
      });

      it('only what comes later', async () => {
        await start();
        await sendBatch(3);
        await subscribe('r', { partition: '0', ...LATEST });
        await sendBatch(2, 3);
        texts(await receive('r', 2)).should.eql(['m3', 'm4']);
      });

      it('what comes after an offset', async () => {
        await start();
        await sendBatch(3);
        (await received({ offset: partition(0).events[1]!.offset }, 1)).should.eql(['m2']);
      });

      itIf('with an offset')('what comes with an offset, and after it', async () => {
        await start();
        await sendBatch(3);
        const { offset } = partition(0).events[1]!;
        (await received({ offset, isInclusive: true }, 2)).should.eql(['m1', 'm2']);
      });

      itIf('after a sequence number')('what comes after a sequence number', async () => {
        await start();
        await sendBatch(3);
        (await received({ sequenceNumber: 0 }, 2)).should.eql(['m1', 'm2']);
      });

      it('what comes with a sequence number, and after it', async () => {
        await start();
        await sendBatch(3);
        (await received({ sequenceNumber: 1, isInclusive: true }, 2)).should.eql(['m1', 'm2']);
      });

      itIf('after a time')('what comes after a time', async () => {
        await start();
        await sendBatch(2);
        const { enqueuedAt } = partition(0).events[1]!;
        await sendLater(2);
        (await received({ enqueuedAt }, 1)).should.eql(['m2']);
      });

      itIf('with a time')('what comes from a time on', async () => {
        await start();
        await sendBatch(2);
        const { enqueuedAt } = await sendLater(2);
        (await received({ enqueuedAt, isInclusive: true }, 1)).should.eql(['m2']);
      });

      it('what retention has left', async () => {
        await start();
        await sendBatch(3);
        eventHubs.trim('telemetry', 0, 2);
        (await received(EARLIEST, 1)).should.eql(['m2']);
      });

      it('from all partitions', async () => {
        await start();
        for (const id of ['0', '1', '2', '3']) await send([{ body: `from ${id}` }], { partition: id });
        await client.call('receiver', 'r', EARLIEST);
        const events = await receive('r', 4);
        texts(events).toSorted().should.eql(['from 0', 'from 1', 'from 2', 'from 3']);
        for (const { body, partition: id } of events) body.should.equal(`from ${id}`);
      });

      it('the same in each group, and again, since events stay', async () => {
        await start();
        await sendBatch(2);
        for (const [name, group] of Object.entries({ one: '$default', another: 'other', again: '$default' })) {
          await subscribe(name, { partition: '0', group, ...EARLIEST });
          texts(await receive(name, 2)).should.eql(['m0', 'm1']);
        }
        partition(0).events.length.should.equal(2);
      });

      itIf('metrics')('what there is to tell of the partition with each event', async () => {
        await start();
        await sendBatch(3);
        await subscribe('r', { partition: '0', metrics: true, ...EARLIEST });
        const { sequenceNumber, offset } = partition(0).events[2]!;
        const events = await receive('r', 3);
        for (const { last } of events) should(last).eql({ sequenceNumber, offset });
      });
    });

    describe('with epochs', () => {
      it('takes a partition from those with a lower one and without, and tells them', async () => {
        await start();
        await subscribe('none', { partition: '0', ...LATEST });
        await subscribe('low', { partition: '0', epoch: 1, ...LATEST });
        const stolen = /^(ReceiverDisconnected|ConnectionLost)Error: New receiver .* with higher epoch of '(1|2)'/;
        String(await failure('none')).should.match(stolen);
        await subscribe('high', { partition: '0', epoch: 2, ...EARLIEST });
        String(await failure('low')).should.match(stolen);
        await sendBatch(1);
        texts(await receive('high', 1)).should.eql(['m0']);
      });

      it('is refused while there is a higher one', async () => {
        await start();
        await subscribe('high', { partition: '0', epoch: 2, ...LATEST });
        const low = await refusal('low', { partition: '0', epoch: 1, ...LATEST });
        low.should.match(
          /^(ReceiverDisconnected|ConnectionLost)Error: Receiver .* with a higher epoch '2' already exists/,
        );
        (await refusal('none', { partition: '0', ...LATEST })).should.match(/created with epoch of '2'/);
        await subscribe('elsewhere', { partition: '0', group: 'other', ...LATEST });
        await sendBatch(1);
        texts(await receive('high', 1)).should.eql(['m0']);
      });

      it('has no more than five receivers without one', async () => {
        await start();
        for (const { body } of numbered(5)) await subscribe(body, { partition: '0', ...LATEST });
        const refusedWith = await refusal('sixth', { partition: '0', ...LATEST });
        refusedWith.should.match(/maximum number of allowed receivers per partition in a consumer group which is 5/);
      });
    });

    describe('is refused', () => {
      const UNAUTHORIZED = /^(Unauthorized|Authentication)Error: |amqp:unauthorized-access/;

      it('with a wrong key', async () => {
        await start();
        await open(
          'telemetry',
          eventHubs.connectionString().replace(secretOf('event hubs key'), secretOf('wrong key')),
        );
        const status = once(eventHubs, 'token');
        (await refused(send([{ body: 'a' }]))).should.match(UNAUTHORIZED);
        (await status)[1].should.equal(401);
        (await refused(client.call('hub'))).should.match(UNAUTHORIZED);
      });

      it('without the right that it takes', async () => {
        await start({ policies: { reader: { key: secretOf('reader key'), rights: ['Listen'] } } });
        (await refused(send([{ body: 'a' }]))).should.match(UNAUTHORIZED);
        await subscribe('r', { partition: '0', ...EARLIEST });
        (await client.call<object>('hub')).should.match({ name: 'telemetry' });
      });

      it('where there is no such hub, or no such group', async () => {
        await start();
        (await refusal('r', { partition: '0', group: 'nobody', ...LATEST })).should.match(/could not be found/);
        await open('nothing');
        (await refused(send([{ body: 'a' }]))).should.match(
          /messaging entity 'nothing' could not be found|Status code: 404/,
        );
        (await refused(client.call('hub'))).should.match(/^MessagingEntityNotFoundError: |Status code: 404/);
      });

      it('as long as the hub is disabled', async () => {
        await start();
        await subscribe('r', { partition: '0', retries: 0, ...EARLIEST });
        eventHubs.disable('telemetry');
        String(await failure('r')).should.match(/is disabled/);
        (await refused(send([{ body: 'a' }]))).should.match(/is disabled/);
        eventHubs.enable('telemetry');
        await sendBatch(1);
        (await received(EARLIEST, 1)).should.eql(['m0']);
      });

      it('when a message is too large', async () => {
        await start({ maxMessageSize: 10_000 });
        const large = send([{ body: 'x'.repeat(10_001) }]);
        // our nodes do not even send it
        (await refused(large)).should.match(/exceeds the limit of the link|the peer takes no more than 10000/);
        eventHubs.hub('telemetry').events.should.be.empty();
      });

      it('when it begins beyond the end', async () => {
        await start();
        await sendBatch(2);
        const { offset } = partition(0).events[1]!;
        const beyond = { sequenceNumber: 2, offset: String(Number(offset) + 1) };
        const refusedWith = await refusal('number', { partition: '0', sequenceNumber: beyond.sequenceNumber });
        refusedWith.should.match(/sequence number '2' is invalid\. The last sequence number in the system is '1'/);
        const other = await refusal('offset', { partition: '0', offset: beyond.offset });
        other.should.match(new RegExp(`The last offset in the system is '${offset}'`));
      });
    });

    it('goes on after links that were idle for too long', async () => {
      await start();
      await subscribe('r', { partition: '0', ...EARLIEST });
      await sendBatch(1);
      texts(await receive('r', 1)).should.eql(['m0']);
      const again = receiverAt(source('0'));
      await noted('detach', () => eventHubs.detachIdle('telemetry'));
      await again;
      await sendBatch(1, 1);
      texts(await receive('r', 1)).should.eql(['m1']);
    });

    it('goes on after connections that were idle for too long', async () => {
      await start();
      await sendBatch(1);
      await noted('disconnected', () => eventHubs.closeIdleConnections());
      await sendBatch(1, 1);
      partition(0).events.length.should.equal(2);
    });

    it('loses nothing when connections break', async () => {
      await start();
      await subscribe('r', { partition: '0', ...EARLIEST });
      await sendBatch(5);
      texts(await receive('r', 5)).should.eql(['m0', 'm1', 'm2', 'm3', 'm4']);
      const again = receiverAt(source('0'));
      await noted('disconnected', () => eventHubs.dropSockets());
      await sendBatch(5, 5);
      await again;
      texts(await receive('r', 5)).should.eql(['m5', 'm6', 'm7', 'm8', 'm9']);
    });

    it('goes on after its tokens have ended', async () => {
      await start();
      await subscribe('r', { partition: '0', ...EARLIEST });
      await sendBatch(1);
      const again = receiverAt(source('0'));
      await noted('detach', () => eventHubs.expireTokens());
      await sendBatch(1, 1);
      await again;
      texts(await receive('r', 2)).should.eql(['m0', 'm1']);
    });
  });
}
