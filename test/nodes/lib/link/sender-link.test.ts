import { EventEmitter, once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import rhea, { type EventContext, type Receiver } from 'rhea';
import should from 'should';
import { Connection } from '../../../../nodes/lib/connection/connection';
import type { AmqpError } from '../../../../nodes/lib/errors';
import { Entry } from '../../../../nodes/lib/link/entry';
import { type Outcome, SenderLink, type SenderLinkOptions } from '../../../../nodes/lib/link/sender-link';
import { Broker, type BrokerOptions } from '../../../../broker/broker';

/** What the link has told its user. */
interface Told {
  ready: [isNew: boolean];
  settled: [Entry, Outcome];
  failed: [Entry, AmqpError];
  lost: [Entry[], AmqpError];
}

const entryOf = (body: unknown, address?: string) =>
  new Entry(rhea.message.encode({ to: address, body }), () => {}, { address });

describe('a sender link', () => {
  let broker: Broker;
  let connection: Connection;
  let link: SenderLink;
  let told: EventEmitter<Told>;
  /** The peer's end. */
  let receiver: Receiver & { credit: number };

  afterEach(async () => {
    await link.close();
    await connection.close();
    await broker.stop();
  });

  /** A link to "q" of a new broker, attached. */
  async function attach(options: Partial<SenderLinkOptions> = {}, brokerOptions: BrokerOptions = {}): Promise<void> {
    broker = await Broker.start(brokerOptions);
    broker['container'].on('receiver_open', (context: EventContext) => (receiver = context.receiver as never));
    const backoff = { initial: 10, max: 10 };
    const to = { host: '127.0.0.1', port: broker.port, containerId: 'test' };
    connection = new Connection({
      servers: [to],
      containerId: to.containerId,
      connectTimeout: 5000,
      idleTimeout: 0,
      backoff,
      loginBackoff: backoff,
    });
    told = new EventEmitter();
    link = new SenderLink(
      connection,
      'sender',
      { address: 'q', guarantee: 'at-least-once', ...options },
      {
        ready: (isNew = false) => void told.emit('ready', isNew),
        settled: (entry, outcome) => void told.emit('settled', entry, outcome),
        failed: (entry, error) => void told.emit('failed', entry, error),
        lost: (entries, error) => void told.emit('lost', entries, error),
      },
    );
    link.open();
    connection.open();
    while (link.state.name !== 'connected') await once(link, 'state');
  }

  async function ready(): Promise<void> {
    while (!link.isReady) await once(told, 'ready');
  }

  const bodies = () => broker.messages('q').map((message) => message!.body as unknown);

  it('is ready for as many messages as the peer has given credit for', async () => {
    await attach({}, { credit: 0 });
    should(link.isReady).be.false();
    receiver.add_credit(2);
    await ready();
    let sent = 0;
    for (; link.isReady; sent++) link.send(entryOf(sent));
    should([sent, link.inFlight]).deepEqual([2, 2]);
    while (link.inFlight > 0) await once(told, 'settled');
    should(bodies()).deepEqual([0, 1]);
  });

  it('throws when it is to send a message after it was closed', async () => {
    await attach();
    await link.close();
    should(() => link.send(entryOf(1))).throw({ code: 'AMQP_DISCONNECTED' });
    should(link.inFlight).equal(0);
  });

  it('gives back the credit that a drain leaves, and says that credit after it is new', async () => {
    await attach({}, { credit: 0 });
    receiver.add_credit(5);
    await ready();
    const drained = once(receiver, 'receiver_drained');
    receiver.drain_credit();
    await drained;
    should([link.isReady, receiver.credit]).deepEqual([false, 0]);
    const isNew: boolean[] = [];
    told.on('ready', (value) => isNew.push(value));
    receiver.drain = false;
    for (let round = 0; round < 2; round++) {
      receiver.add_credit(1);
      await once(told, 'ready');
    }
    should(isNew).deepEqual([true, false]);
  });

  it('fails a message that is larger than the peer takes, without using credit', async () => {
    await attach({}, { credit: 0, maxMessageSize: 100 });
    receiver.add_credit(1);
    await ready();
    const [large, small] = [entryOf('x'.repeat(100)), entryOf('small')];
    const failed = once(told, 'failed');
    link.send(large);
    const [entry, error] = (await failed) as Told['failed'];
    should(entry).equal(large);
    should(error).match({ code: 'AMQP_TOO_LARGE', message: /has \d{3} bytes, the peer takes no more than 100$/ });
    should([link.inFlight, link.isReady]).deepEqual([0, true]);
    link.send(small);
    should((await once(told, 'settled'))[0]).equal(small);
  });

  it('tells no outcome of a message that it has forgotten, nor its loss', async () => {
    await attach();
    await ready();
    const [forgotten, other] = [entryOf('forgotten'), entryOf('other')];
    const settled: Entry[] = [];
    told.on('settled', (entry) => settled.push(entry));
    link.send(forgotten);
    link.send(other);
    link.forget(forgotten);
    link.forget(forgotten);
    should(link.inFlight).equal(1);
    while (settled.length < 1) await once(told, 'settled');
    should(bodies()).deepEqual(['forgotten', 'other']);
    const lost = once(told, 'lost');
    broker.detach('q');
    should((await lost)[0]).deepEqual([]);
    should(settled).deepEqual([other]);
  });

  it('tells what is lost in the order in which it was sent, without what has an outcome', async () => {
    await attach();
    await ready();
    const entries = [1, 2, 3, 4].map((body) => entryOf(body));
    broker.answer('q', 'none', 1);
    for (const entry of entries.slice(0, 2)) link.send(entry);
    should((await once(told, 'settled'))[0]).equal(entries[1]);
    broker.answer('q', 'none', 2);
    for (const entry of entries.slice(2)) link.send(entry);
    while (broker.received['q'] !== 4) await once(broker, 'answer');
    const lost = once(told, 'lost');
    broker.endSessions('q', { condition: 'amqp:internal-error' });
    const [inDoubt, error] = (await lost) as Told['lost'];
    should(inDoubt.map((entry) => entries.indexOf(entry))).deepEqual([0, 2, 3]);
    should(inDoubt.map(({ end }) => end)).deepEqual([undefined, undefined, undefined]);
    should(error).match({ code: 'AMQP_LINK_DETACHED', condition: 'amqp:internal-error' });
    should(link.inFlight).equal(0);
  });

  describe('that is pre-settled', () => {
    it('tells of a message in the turn after it was written', async () => {
      await attach({ guarantee: 'pre-settled' });
      await ready();
      const settled: string[] = [];
      told.on('settled', (_entry, { sent }) => settled.push(sent.state));
      link.send(entryOf(1));
      link.send(entryOf(2));
      should([settled, link.inFlight]).deepEqual([[], 2]);
      await turn();
      should([settled, link.inFlight]).deepEqual([['settled', 'settled'], 0]);
    });

    it('tells of a message as lost when it is closed in the turn in which it was written', async () => {
      await attach({ guarantee: 'pre-settled' });
      await ready();
      told.on('settled', () => should.fail('settled', 'lost'));
      const entry = entryOf(1);
      const lost = once(told, 'lost');
      link.send(entry);
      await link.close();
      should((await lost)[0]).deepEqual([entry]);
    });
  });

  for (const [what, options, pattern] of [
    ['its own address', {}, /^q$/],
    ['the address that the peer has made', { address: undefined, dynamic: true }, /^dynamic-/],
    ['the address of the message where it has none', { address: undefined }, /^other$/],
  ] as const) {
    it(`names in an outcome ${what}`, async () => {
      await attach(options);
      await ready();
      link.send(entryOf(1, 'dynamic' in options || !('address' in options) ? undefined : 'other'));
      const [, { sent }] = (await once(told, 'settled')) as Told['settled'];
      should(sent).match({ state: 'accepted', address: pattern, tag: /^[0-9a-f]{8}$/ });
    });
  }
});
