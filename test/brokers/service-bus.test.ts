// The double of Azure Service Bus, with Microsoft's own clients, which know nothing of it.
import { once } from 'node:events';
import should from 'should';
import { type ClientKind, type Driver, refused } from '../doubles/azure/client';
import { javascript, python, type Received } from '../doubles/service-bus/client';
import { ours } from '../doubles/service-bus/nodes';
import { ServiceBus, type ServiceBusOptions, type Settled } from '../doubles/service-bus/service-bus';
import { secretOf } from '../secrets';
import { startBefore } from './microsoft';

const HOUR = 3_600_000;
const texts = (messages: Received[]) => messages.map(({ body }) => body);
const numbered = (count: number) => Array.from({ length: count }, (_, i) => ({ body: `m${i}` }));

const inSessions = (...ids: string[]) => ids.map((sessionId, i) => ({ sessionId, body: `${sessionId}${i}` }));

for (const kind of [javascript, python, ours]) test(kind);

function test(kind: ClientKind): void {
  describe(`double of Azure Service Bus, with ${kind.name}`, () => {
    let serviceBus: ServiceBus;
    let client: Driver;
    // Our nodes do by themselves what the clients are asked for: test/nodes/service-bus.test.ts.
    const byRequest = kind.isOurs ? () => {} : it;

    startBefore(kind, (started) => {
      client = started;
    });

    async function start(options: ServiceBusOptions = { queues: { q: {} } }): Promise<void> {
      serviceBus = await ServiceBus.start(options);
      await client.call('open', serviceBus.connectionString());
    }
    afterEach(async () => {
      await client.call('close');
      await serviceBus.stop();
    });

    async function sendEach(messages: object[]): Promise<void> {
      for (const message of messages) await client.call('send', 'q', [message]);
    }
    const receive = (count: number, wait = 10_000) => client.call<Received[]>('receive', 'r', count, wait);
    async function receiveOne(): Promise<Received> {
      const [message] = await receive(1);
      return message!;
    }
    /** Does it, and waits until the client has taken note, where it does so by itself. */
    async function noted(event: string, misbehave: () => void): Promise<void> {
      const answered = once(serviceBus, event);
      misbehave();
      if (kind.isAttentive) await answered;
    }

    it('sends, receives and completes, with fields, properties and annotations', async () => {
      await start();
      const sentAt = Date.now();
      await client.call('send', 'q', [{ id: 'm1', body: 'grüße', properties: { a: 'b', n: 7 } }]);
      await client.call('receiver', 'r', { queue: 'q' });
      const message = await receiveOne();
      message.should.match({
        id: 'm1',
        body: 'grüße',
        properties: { a: 'b', n: 7 },
        sequenceNumber: 1,
        state: 'active',
      });
      message.deliveryCount.should.equal(0);
      message.enqueuedAt.should.be.within(sentAt, Date.now());
      message.lockedUntil!.should.be.within(sentAt + 60_000, Date.now() + 60_000);
      serviceBus.entity('q').depth.should.equal(1);
      const settled = once(serviceBus, 'settled') as Promise<[Settled]>;
      await client.call('settle', 'r', message.handle, 'complete');
      (await settled)[0].should.eql({ address: 'q', outcome: 'complete' });
      serviceBus.entity('q').depth.should.equal(0);
    });

    it('sends batches, and receives and deletes', async () => {
      await start();
      await client.call('send', 'q', numbered(20), { batch: true });
      serviceBus.entity('q').depth.should.equal(20);
      await client.call('receiver', 'r', { queue: 'q', receiveAndDelete: true });
      const messages = await receive(20);
      texts(messages).should.eql(numbered(20).map(({ body }) => body));
      serviceBus.entity('q').depth.should.equal(0);
    });

    it('stops waiting when there are fewer messages than it asks for', async () => {
      await start();
      await client.call('receiver', 'r', { queue: 'q' });
      (await receive(5, 1000)).should.eql([]);
      await client.call('send', 'q', [{ body: 'a' }]);
      texts(await receive(5, 1000)).should.eql(['a']);
    });

    it('abandons, and gets it again, until it is dead-lettered', async () => {
      await start({ queues: { q: { maxDeliveryCount: 2 } } });
      await client.call('send', 'q', [{ body: 'a' }]);
      await client.call('receiver', 'r', { queue: 'q' });
      const first = await receiveOne();
      await client.call('settle', 'r', first.handle, 'abandon');
      const second = await receiveOne();
      second.should.match({ body: 'a', deliveryCount: 1, sequenceNumber: first.sequenceNumber });
      await client.call('settle', 'r', second.handle, 'abandon');
      serviceBus.entity('q').depth.should.equal(0);
      await client.call('receiver', 'r', { queue: 'q', deadLetters: true });
      const dead = await receiveOne();
      dead.should.match({ body: 'a', reason: 'MaxDeliveryCountExceeded' });
      await client.call('settle', 'r', dead.handle, 'complete');
      serviceBus.entity('q/$DeadLetterQueue').depth.should.equal(0);
    });

    it('dead-letters with reason and description', async () => {
      await start();
      await client.call('send', 'q', [{ body: 'a', properties: { kept: 'yes' } }]);
      await client.call('receiver', 'r', { queue: 'q' });
      const { handle } = await receiveOne();
      await client.call('settle', 'r', handle, 'dead-letter', { reason: 'bad', description: 'very bad' });
      await client.call('receiver', 'r', { queue: 'q', deadLetters: true });
      const dead = await receiveOne();
      dead.should.match({ body: 'a', reason: 'bad', description: 'very bad', properties: { kept: 'yes' } });
    });

    it('defers, and receives what is deferred by its number', async () => {
      await start();
      await client.call('send', 'q', [{ body: 'a' }]);
      await client.call('receiver', 'r', { queue: 'q' });
      const { handle, sequenceNumber } = await receiveOne();
      await client.call('settle', 'r', handle, 'defer');
      (await receive(1, 100)).should.eql([]);
      const [deferred] = await client.call<Received[]>('receiveDeferred', 'r', [sequenceNumber]);
      deferred!.should.match({ body: 'a', sequenceNumber, state: 'deferred' });
      await client.call('settle', 'r', deferred!.handle, 'complete');
      serviceBus.entity('q').depth.should.equal(0);
      (await refused(client.call('receiveDeferred', 'r', [sequenceNumber]))).should.match(/^MessageNotFound/);
    });

    it('is told that a lock is lost', async () => {
      await start();
      await client.call('send', 'q', [{ body: 'a' }]);
      await client.call('receiver', 'r', { queue: 'q' });
      const { handle } = await receiveOne();
      serviceBus.expireLocks('q');
      (await refused(client.call('settle', 'r', handle, 'complete'))).should.match(/^MessageLockLost/);
      serviceBus.entity('q').depth.should.equal(1);
      const again = await receiveOne();
      again.deliveryCount.should.equal(1);
      await client.call('settle', 'r', again.handle, 'complete');
    });

    byRequest('renews a lock, if it has it', async () => {
      await start({ queues: { q: { lockDuration: HOUR } } });
      await client.call('send', 'q', [{ body: 'a' }]);
      await client.call('receiver', 'r', { queue: 'q' });
      const { handle, lockedUntil } = await receiveOne();
      (await client.call<number>('renew', 'r', handle)).should.be.aboveOrEqual(lockedUntil!);
      serviceBus.expireLocks('q');
      (await refused(client.call('renew', 'r', handle))).should.match(/^MessageLockLost/);
    });

    it('peeks at all messages, whatever their state', async () => {
      await start();
      await client.call('send', 'q', numbered(2), { batch: true });
      await client.call('schedule', 'q', [{ body: 'later' }], HOUR);
      await client.call('receiver', 'r', { queue: 'q' });
      await receiveOne();
      await client.call('receiver', 'peeker', { queue: 'q' });
      const peeked = await client.call<Received[]>('peek', 'peeker', 10);
      texts(peeked).should.eql(['m0', 'm1', 'later']);
      peeked.map(({ state }) => state).should.eql(['active', 'active', 'scheduled']);
      const [, , last] = peeked;
      last!.sequenceNumber.should.equal(3);
    });

    it('schedules, by request and by annotation, and cancels', async () => {
      await start();
      await client.call('receiver', 'r', { queue: 'q' });
      const sequenceNumbers = await client.call<number[]>('schedule', 'q', numbered(2), HOUR);
      await client.call('cancel', 'q', sequenceNumbers.slice(0, 1));
      await client.call('send', 'q', [{ body: 'annotated', scheduledIn: HOUR }]);
      serviceBus.entity('q').peek().should.matchEach({ state: 'scheduled' });
      serviceBus.entity('q').enqueueAllScheduled();
      const messages = await receive(2);
      texts(messages).should.eql(['m1', 'annotated']);
      messages[0]!.sequenceNumber.should.be.above(sequenceNumbers[1]!);
      (await refused(client.call('cancel', 'q', sequenceNumbers))).should.match(/^MessageNotFound/);
    });

    it('has what is scheduled when its time has come', async () => {
      await start();
      await client.call('receiver', 'r', { queue: 'q' });
      await client.call('schedule', 'q', [{ body: 'soon' }], 300);
      texts(await receive(1)).should.eql(['soon']);
    });

    it('dead-letters or drops what has expired', async () => {
      await start({ queues: { q: { deadLetterOnExpiration: true }, other: {} } });
      await client.call('send', 'other', [{ body: 'dropped', ttl: 100 }]);
      await client.call('send', 'q', [{ body: 'kept', ttl: 100 }]);
      await client.call('receiver', 'r', { queue: 'q', deadLetters: true });
      (await receiveOne()).should.match({ body: 'kept', reason: 'TTLExpiredException' });
      serviceBus.entity('other').depth.should.equal(0);
    });

    it('publishes to the subscriptions of a topic', async () => {
      await start({ topics: { t: { s1: {}, s2: {} } } });
      await client.call('send', 't', [{ body: 'a' }]);
      for (const subscription of ['s1', 's2']) {
        await client.call('receiver', 'r', { topic: 't', subscription });
        const message = await receiveOne();
        message.body.should.equal('a');
        await client.call('settle', 'r', message.handle, 'complete');
        serviceBus.entity(`t/Subscriptions/${subscription}`).depth.should.equal(0);
      }
    });

    describe('with sessions', () => {
      const sessions = { queues: { q: { requiresSession: true, lockDuration: HOUR } } };

      it('receives from a named one, and from the next that is free', async () => {
        await start(sessions);
        await sendEach(inSessions('a', 'b', 'a'));
        await client.call('receiver', 'r', { queue: 'q', session: 'a' });
        const messages = await receive(2);
        texts(messages).should.eql(['a0', 'a2']);
        for (const { handle } of messages) await client.call('settle', 'r', handle, 'complete');
        should(await client.call('receiver', 'next', { queue: 'q', session: null })).equal('b');
        const [other] = await client.call<Received[]>('receive', 'next', 1, 10_000);
        other!.should.match({ body: 'b1', sessionId: 'b' });
        const again = client.call('receiver', 'again', { queue: 'q', session: 'b' });
        (await refused(again)).should.match(/^SessionCannotBeLocked/);
      });

      it('waits for a session that has messages', async () => {
        await start(sessions);
        const waiting = client.call('receiver', 'r', { queue: 'q', session: null });
        await once(serviceBus, 'waiting');
        const message = [{ sessionId: 'late', body: 'a' }];
        if (kind.isOurs) await client.call('send', 'q', message);
        else {
          // They do one thing after the other.
          const other = kind.start();
          await other.call('open', serviceBus.connectionString());
          await other.call('send', 'q', message);
          await other.call('close');
          await other.end();
        }
        should(await waiting).equal('late');
      });

      it('gives a session back when its receiver is closed', async () => {
        await start(sessions);
        await sendEach(inSessions('a'));
        await client.call('receiver', 'r', { queue: 'q', session: 'a' });
        await receiveOne();
        await client.call('closeReceiver', 'r');
        await client.call('receiver', 'r', { queue: 'q', session: null });
        (await receiveOne()).should.match({ body: 'a0', deliveryCount: 0 });
      });

      byRequest('keeps state, renews the lock, and is told when it is lost', async () => {
        await start(sessions);
        await sendEach(inSessions('a'));
        await client.call('receiver', 'r', { queue: 'q', session: 'a' });
        should(await client.call('state', 'r')).equal(null);
        await client.call('setState', 'r', 'half way');
        should(await client.call('state', 'r')).equal('half way');
        (await client.call<number>('renewSession', 'r')).should.be.above(Date.now());
        const { handle } = await receiveOne();
        await noted('detach', () => serviceBus.expireSession('q', 'a'));
        (await refused(client.call('settle', 'r', handle, 'complete'))).should.match(/^SessionLockLost/);
        await client.call('receiver', 'again', { queue: 'q', session: 'a' });
        should(await client.call('state', 'again')).equal('half way');
      });
    });

    describe('refused', () => {
      const UNAUTHORIZED = /^(UnauthorizedAccess|ServiceBusAuth(entication|orization)Error): /;

      it('with a wrong key', async () => {
        await start();
        const wrong = serviceBus.connectionString().replace(secretOf('service bus key'), secretOf('wrong key'));
        await client.call('open', wrong);
        const status = once(serviceBus, 'token');
        (await refused(client.call('send', 'q', [{ body: 'a' }]))).should.match(UNAUTHORIZED);
        (await status)[1].should.equal(401);
      });

      it('without the right that it takes', async () => {
        await start({ queues: { q: {} }, policies: { reader: { key: secretOf('reader key'), rights: ['Listen'] } } });
        (await refused(client.call('send', 'q', [{ body: 'a' }]))).should.match(UNAUTHORIZED);
        await client.call('receiver', 'r', { queue: 'q' });
        (await client.call<Received[]>('peek', 'r', 1)).should.eql([]);
      });

      it('where there is no such entity, or it is disabled', async () => {
        await start();
        (await refused(client.call('send', 'nothing', [{ body: 'a' }]))).should.match(/^MessagingEntityNotFound/);
        serviceBus.disable('q');
        (await refused(client.call('send', 'q', [{ body: 'a' }]))).should.match(/^MessagingEntityDisabled/);
      });

      it('when a message is too large', async () => {
        await start({ queues: { q: {} }, maxMessageSize: 10_000 });
        const large = client.call('send', 'q', [{ body: 'x'.repeat(10_001) }]);
        (await refused(large)).should.match(/^MessageSizeExceeded/);
      });

      it('as long as the service is busy', async () => {
        await start();
        serviceBus.throttle('q');
        (await refused(client.call('send', 'q', [{ body: 'a' }]))).should.match(/Busy/);
        serviceBus.recover('q');
        await client.call('send', 'q', [{ body: 'b' }]);
        serviceBus.entity('q').depth.should.equal(1);
      });
    });

    it('goes on after links and connections that were idle for too long', async () => {
      await start();
      await client.call('send', 'q', [{ body: 'a' }]);
      await noted('detach', () => serviceBus.detachIdle('q'));
      await client.call('send', 'q', [{ body: 'b' }]);
      await noted('disconnected', () => serviceBus.closeIdleConnections());
      await client.call('send', 'q', [{ body: 'c' }]);
      serviceBus.entity('q').depth.should.equal(3);
    });

    it('goes on after its token has ended', async () => {
      await start();
      await client.call('send', 'q', [{ body: 'a' }]);
      await noted('detach', () => serviceBus.expireTokens());
      await client.call('send', 'q', [{ body: 'b' }]);
      serviceBus.entity('q').depth.should.equal(2);
    });
  });
}
