// The nodes as a user of Azure Service Bus has them, with a double of the service that its official clients have proved.
// Nothing here has run against the service itself.
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import rhea, { type Message } from 'rhea';
import should from 'should';
import { ServiceBus, type ServiceBusOptions } from '../doubles/service-bus/service-bus';
import {
  collect,
  endpointNode,
  fail,
  flow,
  helper,
  inject,
  message,
  messages,
  node,
  nodes,
  send,
  status,
} from '../flow';
import type { NodeConfig } from '../node-red';
import { sharedAccessSignature } from '../../nodes/lib/auth/sas';
import { secretIn, secretOf } from '../secrets';
import { logged, texts, WARN } from '../texts';

const POLICY = 'RootManageSharedAccessKey';
const KEY = secretOf('service bus key');

const receiver = (properties: object = {}) =>
  node('amqp-receiver', { settle: 'flow', wires: [['outcome']], ...properties });
const sender = (properties: object = {}) => node('amqp-sender', { ...properties });
const SESSIONS = { queues: { q: { requiresSession: true, lockDuration: 60_000 } } };
const HOUR = 3_600_000;

const inSession = (id: string, payload: string) => send({ payload, amqp: { group_id: id } });

/** Text bodies of what an entity holds. */
const bodiesIn = (service: ServiceBus, address: string) =>
  service
    .entity(address)
    .peek()
    .map((entry) => textOf(rhea.message.decode(entry.message.encode()).body));

/** The next so many times that an operation is asked for. */
async function requests(service: ServiceBus, operation: string, count = 1): Promise<void> {
  for (let left = count; left > 0;) {
    const [, name] = (await once(service, 'request')) as [string, string];
    if (name === `com.microsoft:${operation}`) left--;
  }
}

/** What is in a data section. */
const textOf = (body: unknown) => String((body as { content: Buffer }).content);

describe('Azure Service Bus', () => {
  let service: ServiceBus;

  before(() => helper.startServer());
  after(() => helper.stopServer());
  afterEach(async () => {
    delete process.env['AMQP_TEST_VALUE'];
    delete process.env['AMQP_TEST_SIGNED'];
    await helper.unload();
    await service.stop();
  });

  const start = async (options: ServiceBusOptions = {}) => {
    service = await ServiceBus.start({ queues: { q: {}, other: {} }, ...options });
  };

  /** Loads nodes whose endpoint has the connection string of the environment, unless it has something else. */
  const endpointOf = (properties: object = {}) =>
    endpointNode(service.port, { host: '${AMQP_TEST_VALUE}', peer: 'servicebus', ...properties });

  async function run(
    configs: NodeConfig[],
    properties: object = {},
    credentials: object = {},
    settings: object = {},
  ): Promise<void> {
    if (POLICY in service.authority.policies) process.env['AMQP_TEST_VALUE'] = service.connectionString();
    const endpoint = endpointOf(properties);
    helper.settings({ amqpEndpointReconnectTime: 20, amqpEndpointLoginRetryTime: 40, ...settings });
    await helper.load([texts, ...nodes], flow(endpoint, ...configs), { broker: credentials });
  }

  /** What comes of a message to which the flow says this. */
  async function settled(reply: object): Promise<void> {
    await run([node('amqp-sender'), receiver()]);
    const received = message('outcome');
    await send({ payload: 'x' });
    const done = message('completed');
    inject('receiver', { ...(await received), ...reply });
    await done;
  }

  it('takes and gives messages with the connection string, whose key stays where it is', async () => {
    await start();
    await run([node('amqp-sender'), receiver()]);
    const received = message('outcome');
    await send({ payload: { degrees: 21 } });
    should(await received).match({ payload: { degrees: 21 }, delivery: { address: 'q' } });
    should(service.entity('q').peek()).have.length(1);
    should(secretIn(JSON.stringify(helper.log().args))).equal(undefined);
  });

  it('takes text and JSON as other clients read them, which have no AMQP values', async () => {
    await start();
    await run([sender(), receiver()]);
    const three = messages('outcome', 3);
    for (const payload of ['grüße', { degrees: 21 }, [1, null]]) await send({ payload });
    should((await three).map(({ payload, amqp }) => [payload, amqp!['content_type'], amqp!['body_type']])).deepEqual([
      ['grüße', 'text/plain; charset=utf-8', 'data'],
      [{ degrees: 21 }, 'application/json', 'data'],
      [[1, null], 'application/json', 'data'],
    ]);
  });

  it('takes a key and its name from the form, and shows an address for which they are not', async () => {
    await start({ policies: { narrow: { key: KEY, entity: 'q' } } });
    const login = { host: '127.0.0.1', login: 'sas' };
    await run([node('amqp-sender'), receiver({ address: 'other' })], login, { user: 'narrow', pass: KEY });
    await status('receiver', 'refused: amqp:unauthorized-access');
    should(await send({ payload: 1 })).match({ sent: { state: 'accepted' } });
  });

  it('takes a token of Entra that a flow gives', async () => {
    await start({ policies: {}, tokens: new Set([secretOf('token')]) });
    await run([node('amqp-sender')], { host: '127.0.0.1', login: 'flow', tokenuse: 'cbs' });
    await status('sender', '.reason.no-token');
    await send({ action: 'token', token: secretOf('token') });
    should(await send({ payload: 1 })).match({ sent: { state: 'accepted' } });
  });

  it('says that a key is wrong', async () => {
    await start();
    const login = { host: '127.0.0.1', login: 'sas' };
    await run([node('amqp-sender')], login, { user: POLICY, pass: secretOf('other key') });
    await status('sender', 'refused: amqp:unauthorized-access');
    should(logged(WARN, 'sender')).match([/InvalidSignature/]);
  });

  describe('when the flow is done with a message', () => {
    beforeEach(() => start({ queues: { q: { maxDeliveryCount: 2 } } }));

    it('completes it', async () => {
      await settled({});
      should(service.entity('q').peek()).have.length(0);
    });

    it('moves it to the dead letters with a reason that all clients see', async () => {
      const info = { DeadLetterReason: 'bad', DeadLetterErrorDescription: 'no degrees' };
      await settled({ settle: 'reject', error: { condition: 'com.microsoft:dead-letter', info } });
      const [entry] = service.entity('q/$deadletterqueue').peek();
      const { application_properties: told } = rhea.message.decode(entry!.message.encode()) as unknown as Message;
      should(told).match({ DeadLetterReason: 'bad', DeadLetterErrorDescription: 'no degrees' });
    });

    it('gives it back, and the service counts', async () => {
      await run([node('amqp-sender'), receiver()]);
      const twice = messages('outcome', 2);
      const first = message('outcome');
      await send({ payload: 'x' });
      inject('receiver', { ...(await first), settle: 'modify' });
      const [, again] = await twice;
      should(again).match({ delivery: { redelivered: true } });
      inject('receiver', { ...again, settle: 'modify' });
      // The second delivery was the last.
      while (service.entity('q/$deadletterqueue').peek().length === 0) await once(service, 'settled');
    });

    it('tells that the lock was lost, and gets the message again', async () => {
      await run([node('amqp-sender'), receiver()]);
      const twice = messages('outcome', 2);
      const first = message('outcome');
      await send({ payload: 'x' });
      const msg = await first;
      service.expireLocks('q');
      const caught = message('caught');
      inject('receiver', msg);
      should((await caught).error).match({ code: 'AMQP_LOCK_LOST', message: /com\.microsoft:message-lock-lost/ });
      const [, again] = await twice;
      const done = message('completed');
      inject('receiver', again!);
      should(await done).match({ payload: 'x' });
    });
  });

  describe('while the flow has a message', () => {
    it('keeps its lock', async () => {
      await start({ queues: { q: { lockDuration: 1500 } } });
      await run([sender(), receiver()]);
      const received = message('outcome');
      await send({ payload: 'x' });
      const msg = await received;
      await requests(service, 'renew-lock', 2);
      const done = message('completed');
      inject('receiver', msg);
      await done;
      should(service.entity('q').depth).equal(0);
    });

    it('keeps the locks of the others when one is lost', async () => {
      await start({ queues: { q: { lockDuration: 1500 } } });
      await run([sender(), receiver()]);
      const received = messages('outcome', 2);
      for (const payload of ['a', 'b']) await send({ payload });
      const [first, second] = await received;
      const again = message('outcome');
      service.entity('q').expireLocks(1);
      await again;
      await requests(service, 'renew-lock', 3);
      const done = message('completed');
      inject('receiver', second!);
      await done;
      const caught = message('caught');
      inject('receiver', first!);
      should((await caught).error).match({ code: 'AMQP_LOCK_LOST' });
    });

    it('keeps its lock no longer than the flow may have it', async () => {
      await start({ queues: { q: { lockDuration: 60_000 } } });
      await run([sender(), receiver({ settletimeout: 0.2 })]);
      const twice = messages('outcome', 2);
      await send({ payload: 'x' });
      const [first, again] = await twice;
      const caught = message('caught');
      inject('receiver', first!);
      should((await caught).error).match({ code: 'AMQP_DELIVERY_SETTLED' });
      const done = message('completed');
      inject('receiver', again!);
      await done;
    });
  });

  describe('with sessions', () => {
    beforeEach(() => start(SESSIONS));

    it('takes several at once, each in order, and the next one when one is idle', async () => {
      await run([sender(), receiver({ session: 'next', sessions: 2, sessionidle: 0.1 })]);
      for (const id of ['a', 'b', 'c', 'a', 'b', 'c']) await inSession(id, id);
      const got: string[] = [];
      const all = messages('outcome', 6);
      helper.getNode('outcome').on('input', (msg) => {
        const { delivery } = msg as unknown as { delivery: { session: { id: string } } };
        got.push(delivery.session.id);
        inject('receiver', msg);
      });
      await all;
      should(got.toSorted()).deepEqual(['a', 'a', 'b', 'b', 'c', 'c']);
      await status('receiver', '.no-session');
      should(service.entity('q').depth).equal(0);
    });

    it('waits for one, which is no fault, and shows it once it has it', async () => {
      await run([sender(), receiver({ session: 'next', sessions: 1 })]);
      const { fill } = await status('receiver', '.no-session');
      should(fill).equal('green');
      await inSession('late', 'x');
      await status('receiver', 'late');
      should(logged(WARN, 'receiver')).deepEqual([]);
    });

    it('asks again by and by when there is none, which is no fault either', async () => {
      service.fail('q', { condition: 'com.microsoft:timeout' }, 1);
      await run([sender(), receiver({ session: 'next', sessions: 1 })]);
      await once(service, 'waiting');
      await status('receiver', '.no-session');
      should(logged(WARN, 'receiver')).deepEqual([]);
    });

    it('gives the flow one message of a session at a time', async () => {
      await run([sender(), receiver({ session: 'named', sessionid: 'a' })]);
      const got = collect('outcome');
      const first = message('outcome');
      for (const payload of ['one', 'two']) await inSession('a', payload);
      inject('receiver', await first);
      await message('outcome');
      should(got.map(({ payload }) => payload)).deepEqual(['one', 'two']);
      should(service.entity('q').depth).equal(1);
    });

    it('gives what was deferred in any session', async () => {
      await run([sender(), receiver({ session: 'next', sessions: 1 })]);
      const received = message('outcome');
      await inSession('a', 'x');
      const msg = await received;
      const deferred = message('completed');
      inject('receiver', { ...msg, settle: 'modify', undeliverable_here: true });
      await deferred;
      const [again, asked] = [message('outcome'), message('completed')];
      inject('receiver', { action: 'receive', sequenceNumber: 1, sessionId: 'a' });
      const taken = await again;
      await asked;
      const done = message('completed');
      inject('receiver', taken);
      await done;
      should(service.entity('q').depth).equal(0);
    });

    it('is drained of the sessions that it has', async () => {
      await run([sender(), receiver({ session: 'next', sessions: 2 })]);
      await inSession('a', 'x');
      await message('outcome');
      const drained = message('completed');
      inject('receiver', { action: 'drain' });
      should(await drained).match({ action: 'drain' });
    });

    it('has the state that was stored, and stores another before the message is gone', async () => {
      const named = { session: 'named', sessionid: 'a', creditwindow: 1 };
      await run([sender(), receiver(named)]);
      const first = message('outcome');
      await inSession('a', 'one');
      const msg = await first;
      should(msg.delivery).match({ session: { id: 'a', state: null } });
      const second = message('outcome');
      await inSession('a', 'two');
      inject('receiver', { ...msg, sessionState: 'half way' });
      should((await second).delivery).match({ session: { id: 'a', state: Buffer.from('half way') } });
      should(service.entity('q').sessionState('a')?.toString()).equal('half way');
    });

    it('keeps a message whose state is nothing that can be stored', async () => {
      await run([sender(), receiver({ session: 'named', sessionid: 'a' })]);
      const received = message('outcome');
      await inSession('a', 'x');
      const caught = message('caught');
      inject('receiver', { ...(await received), sessionState: { step: 1 } });
      should((await caught).error).match({ code: 'AMQP_BAD_INPUT', message: /msg\.sessionState/ });
      should(service.entity('q').depth).equal(1);
    });

    it('says that one is lost, and has its messages again', async () => {
      await run([sender(), receiver({ session: 'named', sessionid: 'a' })]);
      const twice = messages('outcome', 2);
      const first = message('outcome');
      await inSession('a', 'x');
      const msg = await first;
      service.expireSession('q', 'a');
      await status('receiver', 'refused: com.microsoft:session-lock-lost');
      const caught = message('caught');
      inject('receiver', msg);
      should((await caught).error).match({ code: 'AMQP_LOCK_LOST', message: /session/ });
      const [, again] = await twice;
      const done = message('completed');
      inject('receiver', again!);
      await done;
      should(service.entity('q').depth).equal(0);
    });

    it('says that another receiver has it, and takes it when that is gone', async () => {
      const named = { session: 'named', sessionid: 'a' };
      await run([receiver(named)]);
      await status('receiver', 'a');
      const other = { ...receiver(named), id: 'other' };
      await helper.setFlows(flow(endpointOf(), receiver(named), other), 'nodes');
      await status('other', 'refused: com.microsoft:session-cannot-be-locked');
      await helper.setFlows(flow(endpointOf(), other), 'nodes');
      await status('other', 'a');
    });
  });

  describe('asked for messages by number', () => {
    beforeEach(() => start());

    it('shows what is there, and leaves it there', async () => {
      await run([sender(), receiver({ creditwindow: 0 })]);
      for (const payload of ['a', 'b', 'c']) await send({ payload });
      const two = messages('outcome', 2);
      inject('receiver', { action: 'peek', sequenceNumber: 2, count: 5 });
      should((await two).map(({ payload, delivery }) => [payload, delivery])).match([
        ['b', { peeked: true, address: 'q' }],
        ['c', { peeked: true }],
      ]);
      should(service.entity('q').depth).equal(3);
    });

    it('gives what was deferred, under a lock that is kept', async () => {
      await run([sender(), receiver()]);
      const received = message('outcome');
      await send({ payload: 'x' });
      const msg = await received;
      const deferred = message('completed');
      inject('receiver', { ...msg, settle: 'modify', undeliverable_here: true, annotations: { step: 'later' } });
      await deferred;
      const number = (msg.amqp!['message_annotations'] as Record<string, unknown>)['x-opt-sequence-number'];
      const [again, asked] = [message('outcome'), message('completed')];
      inject('receiver', { action: 'receive', sequenceNumber: number });
      const taken = await again;
      await asked;
      should(taken).match({ payload: 'x', amqp: { application_properties: { step: 'later' } } });
      await requests(service, 'renew-lock');
      const dead = message('completed');
      inject('receiver', { ...taken, settle: 'reject', error: { condition: 'bad', description: 'no degrees' } });
      await dead;
      should(bodiesIn(service, 'q/$deadletterqueue')).deepEqual(['x']);
    });

    it('asks again while the service is busy', async () => {
      await run([sender(), receiver({ creditwindow: 0 })]);
      await send({ payload: 'x' });
      service.throttle('q', 2);
      const peeked = message('outcome');
      inject('receiver', { action: 'peek' });
      should(await peeked).match({ payload: 'x' });
    });

    it('goes on after links to it that were idle for too long', async () => {
      await run([sender(), receiver({ creditwindow: 0 })]);
      await send({ payload: 'x' });
      for (let round = 0; round < 2; round++) {
        const peeked = message('outcome');
        inject('receiver', { action: 'peek' });
        should(await peeked).match({ payload: 'x' });
        service.detachIdle('q/$management');
      }
    });

    for (const [what, msg, text] of [
      ['no number', { action: 'receive' }, /msg\.sequenceNumber/],
      ['a number that is none', { action: 'receive', sequenceNumber: ['x'] }, /msg\.sequenceNumber/],
      ['too many', { action: 'peek', count: 1000 }, /msg\.count/],
      ['a message that is not there', { action: 'receive', sequenceNumber: 7 }, /message-not-found/],
    ] as const) {
      it(`says what is wrong with ${what}`, async () => {
        await run([receiver()]);
        await status('receiver', '.connected');
        const caught = message('caught');
        inject('receiver', msg);
        should((await caught).error).match({ message: text });
      });
    }
  });

  describe('given messages for later', () => {
    beforeEach(() => start());

    it('keeps them until their time, or takes them back', async () => {
      await run([sender()]);
      const time = new Date(Date.now() + HOUR);
      const msg = { action: 'schedule', scheduledEnqueueTime: time.toISOString() };
      const [first, second] = [await send({ ...msg, payload: 'a' }), await send({ ...msg, payload: 'b' })];
      should(first.sent).match({ state: 'scheduled', address: 'q', sequenceNumber: 1 });
      const { sequenceNumber } = second.sent as unknown as { sequenceNumber: number };
      should(await send({ action: 'cancel', sequenceNumber })).match({ sent: { state: 'cancelled' } });
      should(service.entity('q').peek()).match([{ state: 'scheduled', sequenceNumber: 1 }]);
      should(bodiesIn(service, 'q')).deepEqual(['a']);
    });

    it('gives them to the address of each msg', async () => {
      await run([sender({ address: '' })]);
      await send({ action: 'schedule', scheduledEnqueueTime: Date.now() + HOUR, topic: 'other', payload: 'a' });
      should(service.entity('other').depth).equal(1);
    });

    it('does not know whether it was given them when the connection goes just then', async () => {
      await run([sender()]);
      await status('sender', '.connected');
      service.once('request', () => service.dropSockets());
      const { error } = await fail({ action: 'schedule', scheduledEnqueueTime: Date.now() + HOUR, payload: 'a' });
      should(error).match({ code: 'AMQP_IN_DOUBT' });
    });

    it('is told by no other kind of server: it would send them at once', async () => {
      await run([sender()], { peer: '' });
      const { error } = await fail({ action: 'schedule', scheduledEnqueueTime: Date.now() + HOUR, payload: 'a' });
      should(error).match({ code: 'AMQP_BAD_INPUT', message: /server kind/ });
      should(service.entity('q').depth).equal(0);
    });

    it('says what is wrong with them', async () => {
      await run([sender({ address: '' })]);
      const action = 'schedule';
      should((await fail({ action, topic: 'q', payload: 1 })).error).match({ message: /msg\.scheduledEnqueueTime/ });
      const time = Date.now() + HOUR;
      should((await fail({ action, scheduledEnqueueTime: time, payload: 1 })).error).match({ code: 'AMQP_NO_ADDRESS' });
      const missing = await fail({ action: 'cancel', topic: 'q', sequenceNumber: 7 });
      should(missing).match({ sent: { state: 'failed', error: { condition: 'com.microsoft:message-not-found' } } });
    });
  });

  describe('given several messages as one', () => {
    beforeEach(() => start({ maxMessageSize: 10_000 }));

    it('takes the elements of an array, in as few batches as they fit into', async () => {
      await run([sender({ batch: 'array' })]);
      await status('sender', '.connected');
      let transfers = 0;
      service.on('message', () => transfers++);
      const payload = Array.from({ length: 10 }, (_, index) => `${index}`.repeat(2000));
      should(await send({ payload, amqp: { message_id: 'm' } })).match({ sent: { state: 'accepted' } });
      should(bodiesIn(service, 'q')).deepEqual(payload);
      const ids = service
        .entity('q')
        .peek()
        .map((entry) => rhea.message.decode(entry.message.encode()).message_id);
      should(ids).deepEqual(payload.map((_, index) => `m-${index}`));
      should(transfers).be.belowOrEqual(5);
    });

    it('fails all of a msg when a part of it fails', async () => {
      await run([sender({ batch: 'array' })]);
      await status('sender', '.connected');
      const { error } = await fail({ payload: ['a', 'x'.repeat(20_000)] });
      should(error).match({ code: 'AMQP_TOO_LARGE' });
    });

    it('takes what comes within a time, each session by itself, and ends each msg', async () => {
      await run([sender({ batch: 'time', batchtime: 0.05 })]);
      await status('sender', '.connected');
      let transfers = 0;
      service.on('message', () => transfers++);
      const done = messages('completed', 6);
      for (const [payload, id] of ['a1', 'b1', 'a2', 'b2', 'a3', 'b3'].map((text) => [text, text[0]]))
        inject('sender', { payload, amqp: { group_id: id } });
      for (const { sent } of await done) should(sent).match({ state: 'accepted' });
      should(transfers).equal(2);
      should(bodiesIn(service, 'q')).deepEqual(['a1', 'a2', 'a3', 'b1', 'b2', 'b3']);
    });

    it('is given from disk what a process before this one has left there, each message by itself', async () => {
      const userDir = mkdtempSync(join(tmpdir(), 'node-red-'));
      const kept = sender({ batch: 'array', store: 'write' });
      try {
        // It takes nothing for as long as it is disabled.
        service.disable('q');
        await run([kept], {}, {}, { userDir });
        await send({ payload: ['a', 'b'] });
        await helper.unload();
        service.enable('q');
        await run([kept], {}, {}, { userDir });
        while (service.entity('q').depth < 2) await once(service, 'message');
        should(bodiesIn(service, 'q')).deepEqual(['a', 'b']);
        await helper.unload();
      } finally {
        rmSync(userDir, { recursive: true, force: true });
      }
    });

    it('is given what waits when the node is closed', async () => {
      await run([sender({ batch: 'time', batchtime: 60 })]);
      await status('sender', '.connected');
      inject('sender', { payload: 'a' });
      inject('sender', { payload: 'b' });
      await new Promise((resolve) => setImmediate(resolve));
      await helper.unload();
      should(bodiesIn(service, 'q')).deepEqual(['a', 'b']);
    });
  });

  it('is asked again by and by when it is busy, and takes the message then', async () => {
    await start();
    await run([sender()]);
    await status('sender', '.connected');
    service.throttle('q', 3);
    should(await send({ payload: 'x' })).match({ sent: { state: 'accepted' } });
    should(bodiesIn(service, 'q')).deepEqual(['x']);
  });

  it('is busy for too long, and the msg fails with its words', async () => {
    await start();
    await run([sender({ retrytime: 0.3 })]);
    await status('sender', '.connected');
    service.throttle('q');
    should(await fail({ payload: 'x' })).match({
      error: { code: 'AMQP_REJECTED', message: /throttled/ },
      sent: { error: { condition: 'com.microsoft:server-busy' } },
    });
  });

  it('refuses a signature that has expired, with its words', async () => {
    await start();
    const signature = sharedAccessSignature('sb://127.0.0.1/q', { name: POLICY, key: KEY }, Date.now() - HOUR);
    const string = `Endpoint=sb://127.0.0.1:${service.port}/;SharedAccessSignature=${signature};UseDevelopmentEmulator=true`;
    process.env['AMQP_TEST_SIGNED'] = string;
    await run([sender()], { host: '${AMQP_TEST_SIGNED}' });
    await status('sender', 'refused: amqp:unauthorized-access');
    should(logged(WARN, 'sender')).match([/ExpiredToken/]);
  });

  it('refuses the signatures of a computer whose clock is behind, which says so', async () => {
    await start();
    const { now } = Date;
    service.authority.clock = () => now() + 2 * HOUR;
    await run([sender()]);
    await status('sender', 'refused: amqp:unauthorized-access');
    should(logged(WARN, 'sender')).match([/the clock of this computer is wrong/]);
  });

  it('detaches idle links and idle connections, which is no fault', async () => {
    await start();
    await run([node('amqp-sender'), receiver({ address: 'other' })]);
    await Promise.all(['sender', 'receiver'].map((id) => status(id, '.connected')));
    const log = helper.log().args.length;
    service.detachIdle('other');
    await once(service, 'attach');
    await status('receiver', '.connected');
    service.closeIdleConnections();
    await Promise.all(['sender', 'receiver'].map((id) => status(id, '.connecting')));
    await Promise.all(['sender', 'receiver'].map((id) => status(id, '.connected')));
    const told = helper
      .log()
      .args.slice(log)
      .map(([entry]) => entry);
    should(told.filter(({ level, id }) => level <= 30 && id !== undefined)).deepEqual([]);
    should(await send({ payload: 1 })).match({ sent: { state: 'accepted' } });
  });

  it('refuses a message that is too large, with the size', async () => {
    await start({ maxMessageSize: 1000 });
    await run([node('amqp-sender')]);
    should((await fail({ payload: 'x'.repeat(2000) })).error).match({ code: 'AMQP_TOO_LARGE', message: /1000/ });
  });

  it('says that an entity is disabled, and goes on once it is enabled', async () => {
    await start();
    await run([node('amqp-sender')]);
    await status('sender', '.connected');
    service.disable('q');
    await status('sender', 'refused: com.microsoft:entity-disabled');
    const sent = message('out');
    inject('sender', { payload: 'later' });
    service.enable('q');
    should(await sent).match({ payload: 'later', sent: { state: 'accepted' } });
  });

  it('loses nothing when the connection goes with messages on their way', async () => {
    await start();
    await run([node('amqp-sender')]);
    await status('sender', '.connected');
    const done = collect('completed');
    for (let payload = 0; payload < 200; payload++) inject('sender', { payload });
    await once(service, 'message');
    service.dropSockets();
    while (done.length < 200) await once(helper.getNode('completed'), 'input');
    const entries = service.entity('q').peek();
    const bodies = entries.map((entry) => textOf(rhea.message.decode(entry.message.encode()).body));
    should(new Set(bodies).size).equal(200);
  });
});
