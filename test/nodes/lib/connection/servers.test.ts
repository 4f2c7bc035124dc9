import { once } from 'node:events';
import should from 'should';
import { Connection, type ConnectionOptions, MAX_HOPS, type Note } from '../../../../nodes/lib/connection/connection';
import { nameOf, Servers, urlOf, type ServersOptions } from '../../../../nodes/lib/connection/servers';
import { AmqpError } from '../../../../nodes/lib/errors';
import { Entry } from '../../../../nodes/lib/link/entry';
import { encode, outgoing } from '../../../../nodes/lib/message/message';
import { Sender } from '../../../../nodes/lib/sender/sender';
import type { State } from '../../../../nodes/lib/state';
import type { Server } from '../../../../nodes/lib/wire/transport';
import { Broker, type BrokerOptions } from '../../../../broker/broker';
import { secretOf } from '../../../secrets';

const PLAIN: Server = { host: 'one', port: 5672 };
const TLS: Server = { host: 'one', port: 5671, isSecure: true };
const WEB: Server = { host: 'one', port: 443, isSecure: true, path: '/amqp' };

const serversOf = (options: Partial<ServersOptions> = {}) =>
  new Servers({ servers: [PLAIN], hasLogin: false, ...options });

/** Where a redirect from a server leads, as a URL, or why it is not followed. */
function redirected(from: Server, info: unknown, options: Partial<ServersOptions> = {}): string {
  const to = serversOf({ servers: [from], ...options }).redirected(from, info);
  return to instanceof AmqpError ? (to.diagnosis ?? to.code) : nameOf(to);
}

const at = ({ port }: { port: number }): Server => ({ host: '127.0.0.1', port });
const infoOf = ({ port }: { port: number }) => ({ 'network-host': '127.0.0.1', port });

async function next(connection: Connection, name: State['name']): Promise<State> {
  while (connection.state.name !== name) await once(connection, 'state');
  return connection.state;
}

describe('the servers of a connection', () => {
  it('are named by URLs', () => {
    should(nameOf(PLAIN)).equal('amqp://one:5672');
    should(nameOf(TLS)).equal('amqps://one:5671');
    should(nameOf(WEB)).equal('wss://one:443/amqp');
    should(nameOf({ host: '::1', port: 80, path: '/' })).equal('ws://[::1]:80/');
    const path = `/amqp?key=${secretOf('connection key')}`;
    should(nameOf({ ...WEB, path })).equal('wss://one:443/amqp?…', 'a query may hold a key');
    should(urlOf({ ...WEB, path })).endWith(path);
  });

  it('are tried in the order of the list', () => {
    const servers = [1, 2, 3].map((port) => ({ host: 'one', port }));
    should(serversOf({ servers }).round()).deepEqual(servers);
  });

  it('are tried in random order where that is wanted, each once', () => {
    const servers = [1, 2, 3, 4, 5, 6, 7, 8].map((port) => ({ host: 'one', port }));
    const random = serversOf({ servers, order: 'random' });
    const rounds = Array.from({ length: 20 }, () => random.round());
    for (const round of rounds) should(new Set(round)).have.size(8);
    should(new Set(rounds.map((round) => round.map(({ port }) => port).join())).size).be.above(1);
  });

  describe('that a peer announces', () => {
    it('come behind those that are configured, each once', () => {
      const servers = serversOf();
      const list = [{ 'network-host': 'two', port: '5673' }, { hostname: 'three' }, { hostname: 'one', port: 5672 }];
      should(servers.announce(PLAIN, [...list, list[0]])).deepEqual([]);
      should(servers.round().map(nameOf)).deepEqual(['amqp://one:5672', 'amqp://two:5673', 'amqp://three:5672']);
    });

    it('are replaced by those of the next one', () => {
      const servers = serversOf();
      servers.announce(PLAIN, [{ hostname: 'two' }]);
      servers.announce(PLAIN, [{ hostname: 'three' }]);
      should(servers.round().map(({ host }) => host)).deepEqual(['one', 'three']);
    });

    it('are told of instead where the login must not go there', () => {
      const servers = serversOf({ hasLogin: true });
      should(servers.announce(PLAIN, [{ hostname: 'two' }]).map(nameOf)).deepEqual(['amqp://two:5672']);
      should(servers.round()).deepEqual([PLAIN]);
    });

    it('may be anything, and any number', () => {
      const servers = serversOf();
      const odd = [undefined, null, 5, 'two', {}, { hostname: 5 }, { hostname: 'a b' }, { hostname: 'two', port: 'x' }];
      const noText = { toString: null, valueOf: null };
      servers.announce(PLAIN, [...odd, noText, { hostname: noText }, { hostname: 'two', port: noText }]);
      servers.announce(PLAIN, [
        { hostname: 'two', port: 70_000 },
        { hostname: 'two', scheme: 'http' },
      ]);
      should(servers.round()).deepEqual([PLAIN]);
      servers.announce(
        PLAIN,
        Array.from({ length: 1000 }, (_, port) => ({ hostname: 'two', port: port + 1 })),
      );
      should(servers.round().length).be.below(20);
    });
  });

  describe('to which a peer redirects', () => {
    it('are reached as the peer is, where it does not say otherwise', () => {
      should(redirected(PLAIN, { 'network-host': 'two' })).equal('amqp://two:5672');
      should(redirected(TLS, { 'network-host': 'two' })).equal('amqps://two:5671');
      should(redirected(WEB, { 'network-host': 'two' })).equal('wss://two:443/amqp');
      should(redirected(WEB, { 'network-host': 'two', port: '8443', path: '/other' })).equal('wss://two:8443/other');
      should(redirected(WEB, { 'network-host': 'two', scheme: 'amqps' })).equal('amqps://two:5671');
      should(redirected(PLAIN, { 'network-host': 'two', scheme: 'amqps', port: 1 })).equal('amqps://two:1');
    });

    it('keep a name of their own for the open', () => {
      const to = serversOf().redirected(PLAIN, { 'network-host': '10.0.0.1', hostname: 'tenant' });
      should(to).match({ host: '10.0.0.1', hostname: 'tenant' });
    });

    it('are never without TLS where the peer has it', () => {
      for (const scheme of ['amqp', 'ws'])
        should(redirected(TLS, { 'network-host': 'two', scheme })).equal('redirect-plain');
    });

    it('get no login that is not in the list, unless a person wants that', () => {
      const info = { 'network-host': 'two' };
      should(redirected(PLAIN, info, { hasLogin: true })).equal('redirect-unlisted');
      should(redirected(PLAIN, info, { hasLogin: true, trustsNamed: true })).equal('amqp://two:5672');
      const servers = [PLAIN, { host: 'TWO', port: 1 }];
      should(redirected(PLAIN, info, { hasLogin: true, servers })).equal('amqp://two:5672');
    });

    it('have to be named', () => {
      for (const info of [undefined, {}, { port: 1 }, { hostname: 'a/b' }, 'two'])
        should(redirected(PLAIN, info)).equal('AMQP_CONNECT');
    });
  });

  describe('on the wire', () => {
    const cleanups: (() => unknown)[] = [];
    afterEach(async () => {
      for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
    });

    async function start(options?: BrokerOptions): Promise<Broker> {
      const broker = await Broker.start(options);
      cleanups.push(() => broker.stop());
      return broker;
    }

    function connect(servers: Server[], options: Partial<ConnectionOptions> = {}): Connection {
      const connection = new Connection({
        servers,
        containerId: 'client',
        connectTimeout: 5000,
        idleTimeout: 0,
        backoff: { initial: 10, max: 20 },
        loginBackoff: { initial: 10, max: 20 },
        ...options,
      });
      cleanups.push(() => connection.close());
      connection.open();
      return connection;
    }

    /** Servers that are away. */
    async function away(count: number): Promise<Broker[]> {
      const brokers = await Promise.all(Array.from({ length: count }, () => start()));
      for (const broker of brokers) await broker.stop();
      return brokers;
    }

    it('are tried until one is there, and again from the first when that is lost', async () => {
      const [first] = await away(1);
      const [second, third] = [await start(), await start()];
      const connection = connect([first!, second, third].map(at));
      await next(connection, 'connected');
      should(connection.server.port).equal(second.port);
      await second.stop();
      await next(connection, 'disconnected');
      await next(connection, 'connected');
      should(connection.server.port).equal(third.port);
      await first!.resume();
      await third.stop();
      await next(connection, 'disconnected');
      await next(connection, 'connected');
      should(connection.server.port).equal(first!.port);
    });

    it('are away with one error for all of them, that stays the same', async () => {
      const brokers = await away(3);
      const states: State[] = [];
      const connection = connect(brokers.map(at));
      connection.on('state', (state) => states.push(state));
      const state = await next(connection, 'disconnected');
      should(state).match({ error: { code: 'AMQP_CONNECT', diagnosis: 'refused', message: /any of 3 servers/ } });
      for (const { port } of brokers) should((state as { error: Error }).error.message).containEql(String(port));
      await brokers[2]!.resume();
      await next(connection, 'connected');
      should(states.map(({ name }) => name)).deepEqual(['connecting', 'disconnected', 'connected']);
    });

    it('are tried one after another without a pause, and then all after one', async () => {
      const brokers = await away(3);
      const connection = connect(brokers.map(at), { backoff: { initial: 3_600_000, max: 3_600_000 } });
      // One pause for each server would last longer than any test.
      should(await next(connection, 'disconnected')).match({ error: { message: /any of 3 servers/ } });
      should(connection.server.port).equal(brokers[2]!.port);
    });

    it('do not all see a login that the first refuses', async () => {
      const users = { anna: secretOf('password') };
      const [first, second] = [await start({ users, anonymous: false }), await start({ users, anonymous: false })];
      const backoff = { initial: 3_600_000, max: 3_600_000 };
      const seen: number[] = [];
      for (const broker of [first, second]) broker.on('login', () => seen.push(broker.port));
      const login = { username: 'anna', password: secretOf('other password') };
      const connection = connect([at(first), at(second)], { ...login, loginBackoff: backoff });
      should(await next(connection, 'auth')).match({ error: { code: 'AMQP_AUTH' } });
      should(seen).deepEqual([first.port]);
    });

    it('are all tried in the end, when the first one refuses the login', async () => {
      const users = { anna: secretOf('password') };
      const first = await start({ users: { anna: secretOf('other password') }, anonymous: false });
      const second = await start({ users, anonymous: false });
      const connection = connect([at(first), at(second)], { username: 'anna', password: users.anna });
      await next(connection, 'auth');
      await next(connection, 'connected');
      should(connection.server.port).equal(second.port);
    });

    it('that a peer announces are used when it is gone', async () => {
      const second = await start();
      const first = await start({ failoverServers: [{ 'network-host': '127.0.0.1', port: String(second.port) }] });
      const connection = connect([at(first)]);
      await next(connection, 'connected');
      await first.stop();
      await next(connection, 'disconnected');
      await next(connection, 'connected');
      should(connection.server.port).equal(second.port);
    });

    it('lose nothing when one dies with messages on their way, and the next takes over', async () => {
      const [first, second] = [await start(), await start()];
      const seen = new Set<unknown>();
      for (const broker of [first, second]) broker.on('message', (_address, message) => seen.add(message.body));
      const connection = connect([at(first), at(second)]);
      const sender = new Sender(connection, {
        name: 'sender',
        address: 'q',
        guarantee: 'at-least-once',
        buffer: 10_000,
        bufferBytes: Infinity,
        full: 'refuse',
        retryTime: 60_000,
        timeout: 0,
      });
      cleanups.push(() => sender.close(0));
      sender.open();
      first.once('message', () => void first.stop());
      const outcomes = Array.from({ length: 2000 }, (_, payload) => {
        const bytes = encode(outgoing({ payload }, { format: 'body', body: 'auto' }));
        return new Promise((resolve) => {
          sender.send(new Entry(bytes, (error, sent) => resolve(error?.code ?? sent.state)));
        });
      });
      should(new Set(await Promise.all(outcomes))).deepEqual(new Set(['accepted']));
      should(seen.size).equal(2000);
      should(connection.server.port).equal(second.port);
    });

    it('that must not be used are told of once', async () => {
      const users = { anna: secretOf('password') };
      const broker = await start({ users, failoverServers: [{ 'network-host': 'elsewhere.example', port: 5672 }] });
      const connection = connect([at(broker)], { username: 'anna', password: users.anna });
      const notes: Note[] = [];
      connection.on('note', (note) => notes.push(note));
      for (let times = 0; times < 2; times++) {
        await next(connection, 'connected');
        broker.dropSockets();
        await next(connection, 'disconnected');
      }
      should(notes).deepEqual([{ name: 'unused-servers', servers: 'amqp://elsewhere.example:5672' }]);
    });

    it('are followed where a peer redirects, at its open and later', async () => {
      const [first, second] = [await start(), await start()];
      first.redirect = infoOf(second);
      const connection = connect([at(first)]);
      await next(connection, 'connected');
      should(connection.server.port).equal(second.port);
      const third = await start();
      second.closeConnections({ condition: 'amqp:connection:redirect', info: infoOf(third) });
      await next(connection, 'connecting');
      await next(connection, 'connected');
      should(connection.server.port).equal(third.port);
    });

    it('that redirect to each other are left, and tried again after a pause', async () => {
      const [first, second] = [await start(), await start()];
      first.redirect = infoOf(second);
      second.redirect = infoOf(first);
      let connections = 0;
      for (const broker of [first, second]) broker.on('connection', () => connections++);
      const connection = connect([at(first)], { backoff: { initial: 3_600_000, max: 3_600_000 } });
      should(await next(connection, 'disconnected')).match({
        error: { code: 'AMQP_CONNECT', diagnosis: 'redirect-loop' },
      });
      should(connections).equal(MAX_HOPS + 1);
    });

    it('that redirect to a server that is away are failures, with a pause', async () => {
      const [gone] = await away(1);
      const first = await start();
      first.redirect = infoOf(gone!);
      const connection = connect([at(first)]);
      const states: string[] = [];
      should(await next(connection, 'disconnected')).match({ error: { diagnosis: 'refused' } });
      connection.on('state', ({ name }) => states.push(name));
      for (let times = 0; times < 3; times++) await once(first, 'connection');
      should(states).deepEqual([]);
      await gone!.resume();
      await next(connection, 'connected');
      should(connection.server.port).equal(gone!.port);
    });

    it('get no login where the redirect leads to one that is not listed', async () => {
      const users = { anna: secretOf('password') };
      const first = await start({ users, anonymous: false });
      first.redirect = { 'network-host': 'localhost', port: first.port };
      const login = { username: 'anna', password: users.anna };
      should(await next(connect([at(first)], login), 'disconnected')).match({
        error: { code: 'AMQP_CONNECT', diagnosis: 'redirect-unlisted', message: /localhost/ },
      });
    });
  });
});
