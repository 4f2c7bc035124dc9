import { EventEmitter, once } from 'node:events';
import rhea from 'rhea';
import should from 'should';
import { Connection } from '../../../../nodes/lib/connection/connection';
import type { AmqpError } from '../../../../nodes/lib/errors';
import { Entry } from '../../../../nodes/lib/link/entry';
import type { Outcome } from '../../../../nodes/lib/link/sender-link';
import { Routes, type RoutesOptions } from '../../../../nodes/lib/sender/routes';
import { Broker, type BrokerOptions, type LinkInfo } from '../../../../broker/broker';

/** What the routes have told. */
interface Told {
  changed: [];
  settled: [Entry, Outcome];
  failed: [Entry, AmqpError];
  lost: [Entry[], AmqpError];
}

const addressesOf = (count: number) => Array.from({ length: count }, (_, index) => `a${index}`);

describe('routes', () => {
  let broker: Broker;
  let connection: Connection;
  let routes: Routes;
  let told: EventEmitter<Told>;
  let sequence: number;

  afterEach(async () => {
    await routes.close();
    await connection.close();
    await broker.stop();
  });

  /** Routes on a connection to a new broker. That keeps credit back from the address `held`. */
  async function open(
    options: Partial<RoutesOptions> = {},
    { held, ...brokerOptions }: BrokerOptions & { held?: string } = {},
  ): Promise<void> {
    broker = await Broker.start(brokerOptions);
    if (held !== undefined) broker.holdCredit(held);
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
    sequence = 0;
    routes = new Routes(
      connection,
      { name: 'sender', guarantee: 'at-least-once', retryTime: 60_000, ...options },
      {
        changed: () => void told.emit('changed'),
        settled: (entry, outcome) => void told.emit('settled', entry, outcome),
        failed: (entry, error) => void told.emit('failed', entry, error),
        lost: (entries, error) => void told.emit('lost', entries, error),
      },
    );
    routes.open();
    connection.open();
    while (routes.state.name !== 'connected') await once(told, 'changed');
  }

  const withoutRelay = (options: Partial<RoutesOptions> = {}) => open(options, { anonymousRelay: false });

  /** Pushes one message, whose body is its place in the order of all. */
  function push(address: string): Entry {
    const body = ++sequence;
    const entry = new Entry(rhea.message.encode({ to: address, body }), () => {}, { address });
    entry.sequence = body;
    routes.push(entry);
    return entry;
  }

  /** Resolves with the next outcome of each. */
  function settled(...entries: Entry[]): Promise<string[]> {
    const left = new Set(entries);
    const states: string[] = [];
    return new Promise((resolve) => {
      const note = (entry: Entry, { sent }: Outcome): void => {
        if (left.delete(entry)) states.push(sent.state);
        if (left.size > 0) return;
        told.off('settled', note);
        resolve(states);
      };
      told.on('settled', note);
    });
  }

  /** Pushes one message to each, and waits for the outcomes. */
  const use = (...addresses: string[]) => settled(...addresses.map(push));
  /** Tries again what the peer has released, as a sender does. Resolves with what is given up. */
  function retrying(): Promise<Entry> {
    return new Promise((resolve) => {
      told.on('settled', (entry, { mayRetry, sent }) => {
        if (mayRetry && !routes.retry(entry, sent.state === 'released')) resolve(entry);
      });
    });
  }

  const names = () => broker.links().map(({ name }) => name);
  const bodies = (address: string) => broker.messages(address).map((message) => message!.body as number);

  describe('to a peer without a relay', () => {
    it('attach a link to an address when its first message comes, and use it for the next', async () => {
      await withoutRelay();
      should(names()).deepEqual([]);
      await use('a', 'b');
      await use('a');
      should(names()).deepEqual(['sender:a', 'sender:b']);
      should(broker.received).deepEqual({ a: 2, b: 1 });
    });

    it('detach the link that was idle for longest when a 65th address needs one', async () => {
      await withoutRelay();
      await use(...addressesOf(64));
      await use('a0');
      const detached = once(broker, 'detach') as Promise<[LinkInfo]>;
      await use('another');
      should((await detached)[0].address).equal('a1');
      should(names()).have.length(64);
      should(names()).containEql('sender:another');
    });

    it('let a 65th address wait while all 64 links are in use, and serve it once one is idle', async () => {
      await withoutRelay();
      for (const address of addressesOf(64)) broker.answer(address, 'none', 1);
      const waitingForCredit = 'a7';
      broker.holdCredit(waitingForCredit);
      for (const address of addressesOf(64)) push(address);
      while (routes.inFlight < 63) await once(told, 'changed');
      const late = push('another');
      const served = settled(late);
      should([routes.waiting, names().length]).deepEqual([2, 64]);
      should(routes.first).have.property('address', waitingForCredit);
      broker.answer(waitingForCredit, 'accept');
      broker.giveCredit(waitingForCredit);
      should(await served).deepEqual(['accepted']);
      should(routes.waiting).equal(0);
      should(names()).have.length(64);
      should(names()).containEql('sender:another').and.not.containEql('sender:a7');
    });

    it('serve a 65th address also when a message that is on its way is deleted', async () => {
      await withoutRelay();
      const addresses = addressesOf(64);
      for (const address of addresses) broker.answer(address, 'none', 1);
      const [first, second] = addresses.map(push);
      while (routes.inFlight < 64) await once(told, 'changed');
      const [late, later] = [push('late'), push('later')];
      for (const [given, waits] of [
        [first!, late],
        [second!, later],
      ] as const) {
        const served = settled(waits);
        routes.delete(given);
        should(await served).deepEqual(['accepted']);
      }
    });

    it('keep messages to an address whose link is lost after it was attached', async () => {
      await withoutRelay();
      await use('a');
      told.on('failed', () => should.fail('failed', 'kept'));
      broker.detach('a', { condition: 'amqp:internal-error' });
      while (routes.state.name !== 'refused') await once(told, 'changed');
      const entry = push('a');
      should(routes.stateFor(entry)).match({ name: 'refused', error: { condition: 'amqp:internal-error' } });
      should(await settled(entry)).deepEqual(['accepted']);
    });
  });

  describe('to a peer that relays', () => {
    it('attach their one link before there is a message', async () => {
      await open();
      should(names()).deepEqual(['sender']);
      await use('a', 'b');
      should(names()).deepEqual(['sender']);
    });

    it('give what waits to links of its addresses, in order, when the peer relays no longer', async () => {
      await open({}, { held: '' });
      const all = use('a', 'b', 'a');
      should(routes.waiting).equal(3);
      await broker.stop();
      broker.options.anonymousRelay = false;
      await broker.resume();
      await all;
      should([bodies('a'), bodies('b')]).deepEqual([[1, 3], [2]]);
      should(names().toSorted()).deepEqual(['sender:a', 'sender:b']);
      should(routes.waiting).equal(0);
    });
  });

  it('keep what waits for their own address while that is refused', async () => {
    await open({ address: 'own' });
    broker.refuse('own', { condition: 'amqp:not-found' });
    told.on('failed', () => should.fail('failed', 'kept'));
    broker.detach('own');
    while (routes.state.name !== 'refused') await once(told, 'changed');
    const sent = use('own');
    should([routes.state, routes.waiting]).match([{ error: { code: 'AMQP_LINK_REFUSED' } }, 1]);
    broker.allow('own');
    await sent;
    should([routes.state.name, routes.waiting]).deepEqual(['connected', 0]);
  });

  it('send nothing between pause and resume, and then all of it in order', async () => {
    await withoutRelay();
    await use('a');
    routes.pause();
    const all = use('a', 'b', 'a');
    should([routes.waiting, routes.inFlight, names().length]).deepEqual([3, 0, 1]);
    should(routes.first).have.property('sequence', 2);
    routes.resume();
    await all;
    should([bodies('a'), bodies('b')]).deepEqual([[1, 2, 4], [3]]);
  });

  describe('for a message that the peer has released', () => {
    it('count it as waiting and refused until the peer takes it', async () => {
      await open({ address: 'own' });
      broker.answer('own', 'release', 1);
      void retrying();
      const entry = push('own');
      should(await settled(entry)).deepEqual(['released']);
      should([routes.isRefused, routes.waiting, routes.inFlight]).deepEqual([true, 1, 0]);
      should(await settled(entry)).deepEqual(['accepted']);
      should([routes.isRefused, routes.waiting, routes.inFlight]).deepEqual([false, 0, 0]);
    });

    it('give it up when its time is over, and leave to another address what is for that', async () => {
      await open({ retryTime: 50 });
      broker.answer('away', 'release');
      const givenUp = retrying();
      const entry = push('away');
      await use('there');
      should(await givenUp).equal(entry);
      should(broker.received['away']).be.above(1);
      should(bodies('there')).deepEqual([2]);
    });
  });

  it('tell no outcome of a deleted message that is on its way, and do not send it again', async () => {
    await open({ address: 'own' });
    broker.answer('own', 'none', 1);
    const forgotten = push('own');
    await use('own');
    should(routes.inFlight).equal(1);
    routes.delete(forgotten);
    should(routes.inFlight).equal(0);
    const lost = once(told, 'lost');
    broker.dropSockets();
    should((await lost)[0]).deepEqual([]);
  });
});
