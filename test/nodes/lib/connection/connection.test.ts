import { EventEmitter, once } from 'node:events';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import rhea, { type EventContext } from 'rhea';
import should from 'should';
import { Connection, type ConnectionOptions, type ConnectionUser } from '../../../../nodes/lib/connection/connection';
import { type Token, Tokens } from '../../../../nodes/lib/auth/tokens';
import { AmqpError, amqpError } from '../../../../nodes/lib/errors';
import type { State } from '../../../../nodes/lib/state';
import { Broker, type BrokerOptions } from '../../../../broker/broker';
import { secretOf } from '../../../secrets';

const HOUR = { initial: 3_600_000, max: 3_600_000 };
const fixture = (name: string) => readFileSync(join(__dirname, '../../../fixtures', name));
const EMPTY_FRAME = '0000000802000000';

/** What a peer may send that is no AMQP frame. */
const HOSTILE: Record<string, string> = {
  'with an array of more elements than it has bytes': '0000001e02000000005318d00000000e00000001f000000005ffffffff40',
  'of size 0': '0000000002000000',
  'shorter than its header': '0000000702000000',
  'with data offset 0': '0000000800000000',
  'with its data beyond its end': '00000010ff0000000053104500000000',
  'of an unknown type': '0000000802070000',
  'with an unknown performative': '0000000c020000000053ff45',
  'with a performative that is not described': '00000009020000004500',
  'cut short': '000000100200000000531ad000000fff',
  'on a channel that nobody has begun': '0000000c0200000500531645',
};

/** Tokens that live so many milliseconds, and those that were given so far. */
function tokensOf(life: number) {
  const accepted = new Map<string, number>();
  const issue = async (): Promise<Token> => {
    const value = secretOf(`${accepted.size} token`);
    accepted.set(value, life);
    return { value, expires: Date.now() + life };
  };
  return { accepted, tokens: new Tokens(issue) };
}

type Proxy = Awaited<ReturnType<typeof startProxy>>;

/** Stands between the clients and a broker, and passes on what they say until told otherwise. */
async function startProxy(target: number) {
  const clients: net.Socket[] = [];
  const sent: Buffer[] = [];
  const proxy = {
    isMute: false,
    answer: undefined as string | undefined,
    clients,
    sent,
    port: 0,
    stop,
  };
  const server = net.createServer({ allowHalfOpen: true }, (client) => {
    clients.push(client);
    client.on('error', () => {});
    if (proxy.answer) {
      client.write(proxy.answer);
      // A socket that is only half closed takes this, one that is destroyed answers it with a reset.
      const write = (): unknown => client.write('more', (error) => error ?? setTimeout(write, 5));
      client.on('end', write);
    }
    if (proxy.answer || proxy.isMute) return void client.resume();
    const peer = net.connect(target, '127.0.0.1');
    peer.on('error', () => {});
    peer.on('data', (data) => proxy.isMute || client.write(data));
    peer.on('end', () => proxy.isMute || client.end());
    client.on('data', (data) => {
      sent.push(data);
      if (!proxy.isMute) peer.write(data);
    });
    client.on('close', () => peer.destroy());
    client.on('end', () => proxy.isMute || peer.end());
  });
  function stop(): Promise<unknown> {
    for (const client of clients) client.destroy();
    return new Promise((resolve) => server.close(resolve));
  }
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  proxy.port = (server.address() as net.AddressInfo).port;
  return Object.assign(proxy, { server });
}

/** Resolves at the next change to this state. */
function next(connection: Connection, name: State['name']): Promise<State> {
  return new Promise((resolve) => {
    const check = (state: State): void => {
      if (state.name !== name) return;
      connection.off('state', check);
      resolve(state);
    };
    connection.on('state', check);
  });
}

const errorOf = (state: State): AmqpError => (state as { error: AmqpError }).error;

function statesOf(connection: Connection): string[] {
  const states: string[] = [];
  connection.on('state', ({ name }) => states.push(name));
  return states;
}

/** A user that writes down what it is told. */
function user(sessions = 1): ConnectionUser & { told: string[] } {
  const told: string[] = [];
  return {
    told,
    sessions,
    connected: () => void told.push('connected'),
    disconnected: ({ name }) => void told.push(name),
  };
}

const countOf = (type: RegExp): number => process.getActiveResourcesInfo().filter((name) => type.test(name)).length;

/** The timers and sockets there are; that of mocha comes once the test waits for something. */
async function resources(): Promise<{ timers: number; sockets: number }> {
  await pause(5);
  return { timers: countOf(/Timeout/), sockets: countOf(/TCP|TLS|Connect/) };
}

/** Waits until there are no more timers and sockets than before. One that stays makes the test time out. */
async function released(before: { timers: number; sockets: number }): Promise<void> {
  let left = await resources();
  while (left.timers > before.timers || left.sockets > before.sockets) left = await resources();
}

async function opened(connection: Connection): Promise<void> {
  const connected = next(connection, 'connected');
  connection.open();
  await connected;
}

describe('a connection', () => {
  const faults: unknown[] = [];
  const onFault = (fault: unknown): number => faults.push(fault);
  const cleanups: (() => unknown)[] = [];

  before(() => process.on('uncaughtException', onFault).on('unhandledRejection', onFault));
  after(() => process.off('uncaughtException', onFault).off('unhandledRejection', onFault));
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
    should(faults.splice(0)).deepEqual([]);
  });

  async function startBroker(options?: BrokerOptions): Promise<Broker> {
    const broker = await Broker.start(options);
    cleanups.push(() => broker.stop());
    return broker;
  }

  /** A peer that opens, and closes at once because of this. */
  async function closing(error: object, options: object = {}): Promise<rhea.Container & { port: number }> {
    const container = rhea.create_container();
    container.on('connection_open', (context: EventContext) => context.connection.close(error));
    for (const event of ['connection_close', 'disconnected', 'error']) container.on(event, () => {});
    const server = container.listen({ port: 0, host: '127.0.0.1', ...options });
    cleanups.push(() => new Promise((resolve) => server.close(resolve)));
    await once(server, 'listening');
    return Object.assign(container, {
      port: (server.address() as net.AddressInfo).port,
    });
  }

  async function proxyOf(broker: Broker): Promise<Proxy> {
    const proxy = await startProxy(broker.port);
    cleanups.push(() => proxy.stop());
    return proxy;
  }

  function connectionTo({ port }: { port: number }, options: Partial<ConnectionOptions> = {}): Connection {
    const connection = new Connection({
      servers: [{ host: '127.0.0.1', port }],
      containerId: 'client',
      connectTimeout: 5000,
      idleTimeout: 0,
      backoff: { initial: 10, max: 20 },
      loginBackoff: { initial: 10, max: 20 },
      ...options,
    });
    cleanups.push(() => connection.close());
    return connection;
  }

  describe('while it is wanted', () => {
    for (const [how, end] of Object.entries<(broker: Broker) => void>({
      'a close for an internal error': (broker) => broker.closeConnections({ condition: 'amqp:internal-error' }),
      'the loss of its socket': (broker) => broker.dropSockets(),
    })) {
      it(`comes back after ${how} (R13)`, async () => {
        const broker = await startBroker();
        const connection = connectionTo(broker);
        await opened(connection);
        const lost = next(connection, 'disconnected');
        end(broker);
        should(errorOf(await lost)).match({ code: 'AMQP_DISCONNECTED' });
        await next(connection, 'connected');
        should(broker.connections()).equal(1);
      });
    }

    for (const [how, error] of Object.entries({
      'a clean close': undefined,
      'a forced close': { condition: 'amqp:connection:forced' },
    })) {
      it(`comes back after ${how} (R13), which is no fault`, async () => {
        const broker = await startBroker();
        const connection = connectionTo(broker);
        await opened(connection);
        const states = statesOf(connection);
        const quiet = once(connection, 'quiet');
        broker.closeConnections(error);
        should((await quiet)[0]).match({ code: 'AMQP_DISCONNECTED' });
        await next(connection, 'connected');
        should(states).deepEqual(['connecting', 'connected']);
      });

      it(`tells of ${how} when there is no coming back`, async () => {
        const broker = await startBroker();
        const connection = connectionTo(broker);
        await opened(connection);
        const states = statesOf(connection);
        const isGone = new Promise((resolve) => connection.once('quiet', () => resolve(broker.stop())));
        broker.closeConnections(error);
        await Promise.all([next(connection, 'disconnected'), isGone]);
        should(states).deepEqual(['connecting', 'disconnected']);
      });
    }

    it('tells of a peer that closes again and again', async () => {
      const connection = connectionTo(await closing({ condition: 'amqp:connection:forced' }));
      connection.open();
      should(errorOf(await next(connection, 'disconnected'))).match({ condition: 'amqp:connection:forced' });
    });

    it('waits long while another client uses its client ID, and says so', async () => {
      const taken = {
        condition: 'amqp:invalid-field',
        description: 'Broker: b - Client: client already connected from tcp://10.0.0.1',
        info: { 'invalid-field': 'container-id' },
      };
      const peer = await closing(taken);
      const connection = connectionTo(peer, { loginBackoff: HOUR });
      let attempts = 0;
      peer.on('connection_open', () => attempts++);
      connection.open();
      should(errorOf(await next(connection, 'disconnected'))).match({
        diagnosis: 'client-id',
        condition: 'amqp:invalid-field',
        message: /another client uses the client ID client/,
      });
      // Two others come back meanwhile, which this one would have done too.
      const other = connectionTo(await startBroker());
      await opened(other);
      should(attempts).equal(1);
    });

    it('knows by the info of a close alone that its client ID is in use (R89)', async () => {
      const peer = await closing({ condition: 'amqp:invalid-field', info: { 'invalid-field': 'container-id' } });
      const connection = connectionTo(peer, { loginBackoff: HOUR });
      connection.open();
      should(errorOf(await next(connection, 'disconnected'))).match({
        diagnosis: 'client-id',
        info: { 'invalid-field': 'container-id' },
      });
    });

    it('waits for a peer that is not there yet', async () => {
      const broker = await startBroker();
      await broker.stop();
      const connection = connectionTo(broker);
      connection.open();
      const error = errorOf(await next(connection, 'disconnected'));
      should(error).match({
        code: 'AMQP_CONNECT',
        cause: { code: 'ECONNREFUSED' },
      });
      should(error.message).equal('cannot connect: connection refused');
      await broker.resume();
      await next(connection, 'connected');
    });

    it('logs in as soon as the account is right, with the same object (R14)', async () => {
      const broker = await startBroker({
        users: { anna: 'other' },
        anonymous: false,
      });
      // Far apart, to show which of the two a refused login takes.
      const connection = connectionTo(broker, {
        username: 'anna',
        password: secretOf('password'),
        backoff: HOUR,
      });
      connection.open();
      should(errorOf(await next(connection, 'auth'))).match({
        code: 'AMQP_AUTH',
        condition: 'amqp:unauthorized-access',
      });
      broker.users = { anna: secretOf('password') };
      await next(connection, 'connected');
    });

    it('does not take the long pause after a refused login for other failures', async () => {
      const broker = await startBroker();
      const connection = connectionTo(broker, { loginBackoff: HOUR });
      await opened(connection);
      broker.dropSockets();
      await next(connection, 'connected');
    });

    it('tells of an outage once, however many attempts fail', async () => {
      const broker = await startBroker();
      const proxy = await proxyOf(broker);
      proxy.answer = 'HTTP/1.1 400 Bad Request\r\n\r\n';
      const connection = connectionTo(proxy);
      const states = statesOf(connection);
      connection.open();
      while (proxy.clients.length < 6) await once(proxy.server, 'connection');
      proxy.answer = undefined;
      await next(connection, 'connected');
      should(states).deepEqual(['connecting', 'disconnected', 'connected']);
    });

    it('makes no attempt with options that cannot be used', async () => {
      const broker = await startBroker();
      let accepted = 0;
      broker.on('connection', () => accepted++);
      const fault = new AmqpError('AMQP_CONFIG', 'the TLS configuration is not valid');
      const faulty = connectionTo(broker, { fault });
      const states = statesOf(faulty);
      faulty.open();
      should(errorOf(await next(faulty, 'fault'))).equal(fault);
      await opened(connectionTo(broker));
      await opened(connectionTo(broker));
      should(accepted).equal(2);
      await faulty.close();
      should(states).deepEqual(['connecting', 'fault', 'idle']);
    });

    it('survives options that Node refuses', async () => {
      const broker = await startBroker();
      const connection = connectionTo(broker, {
        servers: [{ host: '127.0.0.1', port: broker.port, isSecure: true }],
        tls: { ca: 'no certificate', cert: 'nor this' },
      });
      connection.open();
      should(errorOf(await next(connection, 'disconnected'))).match({
        code: 'AMQP_CONNECT',
      });
    });
  });

  describe('to a peer that is silent', () => {
    it('gives up after the connect time-out, and tries again (R18)', async () => {
      const proxy = await proxyOf(await startBroker());
      proxy.isMute = true;
      const connection = connectionTo(proxy, { connectTimeout: 50 });
      const accepted = once(proxy.server, 'connection');
      connection.open();
      const [socket] = (await accepted) as [net.Socket];
      const ended = once(socket, 'end');
      should(errorOf(await next(connection, 'disconnected'))).match({
        code: 'AMQP_CONNECT',
        message: /no answer/,
      });
      await ended;
      proxy.isMute = false;
      await next(connection, 'connected');
    });

    it('gives up after the idle time-out, and connects again (R42)', async () => {
      const proxy = await proxyOf(await startBroker());
      const connection = connectionTo(proxy, { idleTimeout: 100 });
      await opened(connection);
      proxy.isMute = true;
      should(errorOf(await next(connection, 'disconnected'))).match({
        code: 'AMQP_DISCONNECTED',
      });
      proxy.isMute = false;
      await next(connection, 'connected');
    });

    it('announces half of its idle time-out, since rhea gives up after twice of it (R42)', async () => {
      const container = rhea.create_container();
      for (const event of ['connection_close', 'disconnected']) container.on(event, () => {});
      const server = container.listen({ port: 0, host: '127.0.0.1' });
      cleanups.push(() => new Promise((resolve) => server.close(resolve)));
      await once(server, 'listening');
      const announced = once(container, 'connection_open');
      const connection = connectionTo(server.address() as net.AddressInfo, {
        idleTimeout: 30_000,
      });
      await opened(connection);
      should((await announced)[0].connection.idle_time_out).equal(15_000);
      await connection.close();
    });

    it('is not silent itself', async () => {
      const broker = await startBroker({ idleTimeout: 300 });
      const proxy = await proxyOf(broker);
      const connection = connectionTo(proxy);
      const states = statesOf(connection);
      await opened(connection);
      // One each 150 ms; without them the broker is gone after 600.
      const beats = () => proxy.sent.filter((data) => data.toString('hex') === EMPTY_FRAME).length;
      while (beats() < 8) await once(proxy.clients[0]!, 'data');
      should(states).deepEqual(['connecting', 'connected']);
    });
  });

  describe('to a peer that does not speak AMQP', () => {
    for (const [what, answer] of Object.entries({
      'another protocol': 'SSH-2.0-OpenSSH_9.2p1 Debian\r\n',
      'another version of AMQP': 'AMQP\x00\x00\x09\x01',
      'a peer without SASL': 'AMQP\x00\x01\x00\x00',
      'a frame of SASL that cannot be': 'AMQP\x03\x01\x00\x00\x00\x00\x00\x02\x02\x01\x00\x00',
    })) {
      it(`lets go of ${what}, and connects when a broker is there (R43)`, async () => {
        const proxy = await proxyOf(await startBroker());
        proxy.answer = answer;
        const connection = connectionTo(proxy);
        const destroyed = new Promise((resolve) => {
          proxy.server.once('connection', (socket) => socket.once('close', resolve));
        });
        connection.open();
        should(errorOf(await next(connection, 'disconnected'))).match({
          code: 'AMQP_CONNECT',
        });
        await destroyed;
        proxy.answer = undefined;
        await next(connection, 'connected');
      });
    }

    for (const [what, bytes] of Object.entries(HOSTILE)) {
      it(`survives a frame ${what}, and connects again (R43, R44)`, async () => {
        const proxy = await proxyOf(await startBroker());
        const connection = connectionTo(proxy);
        await opened(connection);
        const lost = next(connection, 'disconnected');
        proxy.clients[0]!.write(Buffer.from(bytes, 'hex'));
        should(errorOf(await lost)).match({ code: 'AMQP_DISCONNECTED' });
        await next(connection, 'connected');
      });
    }

    it('survives a frame that claims 2 GiB and never comes (R19)', async () => {
      const proxy = await proxyOf(await startBroker());
      const connection = connectionTo(proxy, { idleTimeout: 100 });
      await opened(connection);
      const lost = next(connection, 'disconnected');
      proxy.isMute = true;
      proxy.clients[0]!.write(Buffer.from('8000000002000000', 'hex'));
      await lost;
      proxy.isMute = false;
      await next(connection, 'connected');
    });

    it('survives a frame that claims 2 GiB, goes on for a while, and never ends (R19)', async () => {
      const proxy = await proxyOf(await startBroker({ idleTimeout: 50 }));
      const connection = connectionTo(proxy, { idleTimeout: 600 });
      await opened(connection);
      const lost = next(connection, 'disconnected');
      proxy.isMute = true;
      // By its next heartbeat it has read this, unless it has gone over it before.
      const heard = once(proxy.clients[0]!, 'data');
      proxy.clients[0]!.write(Buffer.from('8000000002000000', 'hex'));
      await Promise.race([heard, lost]);
      proxy.clients[0]!.write('more');
      await lost;
      proxy.isMute = false;
      await next(connection, 'connected');
    });

    it('does not serve a peer whose frames are too small to be: rhea would cut messages up for ever', async () => {
      const broker = await startBroker({ maxFrameSize: 40 });
      const connection = connectionTo(broker);
      connection.open();
      should(errorOf(await next(connection, 'disconnected')).message).match(/frame/);
    });

    it('knows a refused login also from a peer that opens first', async () => {
      const error = {
        condition: 'amqp:unauthorized-access',
        description: 'not for you',
      };
      const connection = connectionTo(await closing(error), {
        loginBackoff: HOUR,
      });
      connection.open();
      should(errorOf(await next(connection, 'auth'))).match({
        code: 'AMQP_AUTH',
        ...error,
      });
      await connection.close();
    });

    it('hears a peer out that opens with frames too small to be, only to say why it closes', async () => {
      const error = { condition: 'amqp:not-found', description: 'no such host' };
      const connection = connectionTo(await closing(error, { max_frame_size: 40 }));
      connection.open();
      should(errorOf(await next(connection, 'disconnected'))).match({ code: 'AMQP_CONNECT', ...error });
      await connection.close();
    });

    it('tells once of a peer that opens only to refuse', async () => {
      const peer = await closing({
        condition: 'amqp:not-found',
        description: 'no vhost',
      });
      const connection = connectionTo(peer);
      const states = statesOf(connection);
      connection.open();
      for (let attempts = 0; attempts < 3; attempts++) await once(peer, 'connection_open');
      should(states).deepEqual(['connecting', 'disconnected']);
      await connection.close();
    });
  });

  describe('that is closed', () => {
    it('is idle at once while it waits for the next attempt, and makes none (R15)', async () => {
      const broker = await startBroker();
      await broker.stop();
      const before = await resources();
      const connection = connectionTo(broker, { backoff: HOUR });
      connection.open();
      await next(connection, 'disconnected');
      await connection.close();
      should(connection.state).deepEqual({ name: 'idle' });
      await released(before);
    });

    it('lets go of a peer that has not answered yet (R40)', async () => {
      const proxy = await proxyOf(await startBroker());
      proxy.isMute = true;
      const before = await resources();
      const connection = connectionTo(proxy);
      const states = statesOf(connection);
      const accepted = once(proxy.server, 'connection');
      connection.open();
      const [socket] = (await accepted) as [net.Socket];
      await connection.close();
      should(states).deepEqual(['connecting', 'idle']);
      socket.end();
      await once(socket, 'close');
      await released(before);
    });

    it('does not wait for ever for a peer that no longer answers', async () => {
      const proxy = await proxyOf(await startBroker());
      const before = await resources();
      const connection = connectionTo(proxy);
      await opened(connection);
      proxy.isMute = true;
      await connection.close();
      should(connection.state).deepEqual({ name: 'idle' });
      for (const client of proxy.clients) client.destroy();
      await released(before);
    });

    it('does not take its own close for a loss', async () => {
      const broker = await startBroker();
      const connection = connectionTo(broker, { backoff: HOUR });
      const states = statesOf(connection);
      await opened(connection);
      await connection.close();
      await opened(connection);
      const closed = connection.close();
      broker.dropSockets();
      await closed;
      should(states).deepEqual(['connecting', 'connected', 'idle', 'connecting', 'connected', 'idle']);
    });

    it('is closed also by who is just told of a loss', async () => {
      const broker = await startBroker();
      for (const options of [{ backoff: HOUR }, { fault: new AmqpError('AMQP_CONFIG', 'not valid') }]) {
        const connection = connectionTo({ port: 1 }, options);
        const closed = new Promise<void>((resolve) => {
          connection.on('state', (state) => 'error' in state && resolve(connection.close()));
        });
        connection.open();
        await closed;
        should(connection.state).deepEqual({ name: 'idle' });
      }
      should(broker.connections()).equal(0);
    });

    for (const [how, end] of Object.entries<(broker: Broker, connection: Connection) => unknown>({
      'it was closed': (_broker, connection) => connection.close(),
      'its peer has closed it': (broker) => broker.closeConnections(),
      'its peer has closed it for an error': (broker) => broker.closeConnections({ condition: 'amqp:internal-error' }),
      'its socket was lost': (broker) => broker.dropSockets(),
    })) {
      it(`leaves nothing open after ${how}`, async () => {
        const before = await resources();
        const broker = await Broker.start();
        const connection = connectionTo(broker, {
          idleTimeout: 3_600_000,
          backoff: HOUR,
        });
        await opened(connection);
        const ended = Promise.race(
          ['idle', 'disconnected', 'connecting'].map((name) => next(connection, name as State['name'])),
        );
        await end(broker, connection);
        await ended;
        await connection.close();
        await broker.stop();
        await released(before);
      });
    }

    it('has no timer left, however often it is closed', async () => {
      const broker = await startBroker();
      const { timers } = await resources();
      const connection = connectionTo(broker);
      await opened(connection);
      await Promise.all([connection.close(), connection.close()]);
      await connection.close();
      should((await resources()).timers).equal(timers);
    });

    it('leaves nothing open after a login was refused', async () => {
      const before = await resources();
      const broker = await Broker.start({ users: {}, anonymous: false });
      const connection = connectionTo(broker, {
        username: 'anna',
        idleTimeout: 3_600_000,
        loginBackoff: HOUR,
      });
      connection.open();
      await next(connection, 'auth');
      await connection.close();
      await broker.stop();
      await released(before);
    });

    it('before it has even dialled does not dial', async () => {
      const broker = await startBroker();
      let accepted = 0;
      broker.on('connection', () => accepted++);
      const connection = connectionTo(broker);
      connection.open();
      await connection.close();
      await opened(connectionTo(broker));
      should(accepted).equal(1);
      should(connection.state).deepEqual({ name: 'idle' });
    });

    it('can be opened again, even while it closes', async () => {
      const broker = await startBroker();
      const connection = connectionTo(broker);
      await opened(connection);
      const closed = connection.close();
      await opened(connection);
      await connection.close();
      await closed;
      await opened(connection);
    });
  });

  describe('and its users', () => {
    it('is closed with the last of them', async () => {
      const broker = await startBroker();
      const connection = connectionTo(broker);
      const [one, other] = [user(), user()];
      connection.add(one);
      connection.add(other);
      await opened(connection);
      await connection.remove(one);
      should(connection.state).match({ name: 'connected' });
      should(one.told).deepEqual(['idle', 'connecting', 'connected']);
      await connection.remove(other);
      should(connection.state).match({ name: 'idle' });
      should(broker.connections()).equal(0);
    });

    it('tells each its state, when it comes and at each change', async () => {
      const broker = await startBroker();
      const connection = connectionTo(broker);
      const early = user();
      connection.add(early);
      await opened(connection);
      const late = user();
      connection.add(late);
      broker.dropSockets();
      await next(connection, 'disconnected');
      await next(connection, 'connected');
      should(early.told).deepEqual(['idle', 'connecting', 'connected', 'disconnected', 'connected']);
      should(late.told).deepEqual(['connected', 'disconnected', 'connected']);
    });

    it('needs no further one any more once the peer allows enough sessions', async () => {
      const small = await startBroker({ channelMax: 0 });
      const large = await startBroker();
      const proxy = await proxyOf(small);
      const connection = connectionTo(proxy);
      const users = Array.from({ length: 3 }, () => user());
      const all = async (): Promise<void> => {
        for (const { told } of users) while (told.at(-1) !== 'connected') await pause(5);
      };
      for (const one of users) connection.add(one);
      connection.open();
      await all();
      should(small.connections()).equal(3);
      proxy.server.removeAllListeners('connection').on('connection', (client) => {
        const peer = net.connect(large.port, '127.0.0.1');
        client.on('error', () => {}).on('close', () => peer.destroy());
        client.pipe(peer).pipe(client);
      });
      small.dropSockets();
      for (const { told } of users) while (told.at(-1) === 'connected') await pause(1);
      await all();
      while (large.connections() !== 1) await pause(5);
      await connection.close();
    });

    it('opens a further one for those whose sessions the peer does not allow, and closes it with them (R53)', async () => {
      const broker = await startBroker({ channelMax: 1 });
      const peers: string[] = [];
      broker.on('connection', ({ containerId }) => peers.push(containerId));
      const connection = connectionTo(broker);
      const users = Array.from({ length: 5 }, () => user());
      // A further connection may be back before the first one, which then takes its users to a new one.
      const isThere = () => broker.connections() === 3 && users.every(({ told }) => told.at(-1) === 'connected');
      const all = async () => {
        while (!isThere()) await pause(5);
      };
      for (const one of users) connection.add(one);
      connection.open();
      await all();
      should(new Set(peers).size).equal(3, 'each tells the peer another name');

      broker.dropSockets();
      for (const { told } of users) while (told.at(-1) === 'connected') await pause(1);
      await all();

      const [first, ...others] = users;
      await Promise.all(others.map((one) => connection.remove(one)));
      should(broker.connections()).equal(1);
      await connection.remove(first!);
      should(broker.connections()).equal(0);
      should(connection.state).match({ name: 'idle' });
    });

    it('counts the sessions that each takes', async () => {
      const broker = await startBroker({ channelMax: 1 });
      const connection = connectionTo(broker);
      for (const sessions of [1, 0, 1, 0]) connection.add(user(sessions));
      await opened(connection);
      await opened(connectionTo(broker));
      should(broker.connections()).equal(2);
    });

    it('says who it is: the container id and the virtual host', async () => {
      const broker = await startBroker();
      const peers: unknown[] = [];
      broker.on('connection', (peer) => peers.push(peer));
      await opened(connectionTo(broker));
      await opened(connectionTo(broker, { containerId: 'me', hostname: 'vhost:test' }));
      should(peers).deepEqual([
        { containerId: 'client', hostname: '127.0.0.1' },
        { containerId: 'me', hostname: 'vhost:test' },
      ]);
    });

    it('knows what the peer offers while it is connected', async () => {
      const broker = await startBroker();
      const connection = connectionTo(broker);
      should(connection.offers('ANONYMOUS-RELAY')).equal(false);
      await opened(connection);
      should(connection.offers('ANONYMOUS-RELAY')).equal(true);
      should(connection.offers('SHARED-SUBS')).equal(false);
      await connection.close();
      should(connection.offers('ANONYMOUS-RELAY')).equal(false);
    });
  });

  describe('with an end to its attempts', () => {
    it('gives up after so long without a connection, and is dialled again when it is opened again', async () => {
      const broker = await startBroker();
      await broker.stop();
      const connection = connectionTo(broker, { giveUpAfter: 50 });
      const states = statesOf(connection);
      connection.open();
      while (!('error' in connection.state && connection.state.error.diagnosis === 'given-up'))
        await once(connection, 'state');
      should(errorOf(connection.state)).match({
        code: 'AMQP_CONNECT',
        message: /^given up after 0.05 s: cannot connect: connection refused/,
      });
      await broker.resume();
      await opened(connection);
      should(states).deepEqual(['connecting', 'disconnected', 'disconnected', 'connected']);
    });

    it('counts from the loss of a connection that was open', async () => {
      const broker = await startBroker();
      const connection = connectionTo(broker, { giveUpAfter: 300 });
      await opened(connection);
      await pause(350);
      const lost = next(connection, 'disconnected');
      broker.dropSockets();
      should(errorOf(await lost).diagnosis).not.equal('given-up');
      await next(connection, 'connected');
    });
  });

  describe('that logs in with a token', () => {
    for (const [tokenUse, options] of [
      ['password', { mechanisms: ['PLAIN'] }],
      ['xoauth2', { mechanisms: ['XOAUTH2'] }],
      ['header', { websocket: { bearer: true } }],
    ] as const) {
      it(`as ${tokenUse} is connected anew before it expires, which is no fault`, async () => {
        const { accepted, tokens: source } = tokensOf(1000);
        const broker = await startBroker({ ...options, tokens: accepted } as BrokerOptions);
        const path = 'websocket' in options ? { path: '/' } : {};
        const servers = [{ host: '127.0.0.1', port: broker.port, ...path }];
        const connection = connectionTo(broker, { servers, tokens: source, tokenUse, username: 'anna' });
        const states = statesOf(connection);
        await opened(connection);
        await next(connection, 'connecting');
        await next(connection, 'connected');
        should(accepted.size).equal(2);
        should(states).deepEqual(['connecting', 'connected', 'connecting', 'connected']);
      });
    }

    it('asks for another one when it is refused', async () => {
      const { accepted, tokens: source } = tokensOf(60_000);
      const broker = await startBroker({ mechanisms: ['PLAIN'], tokens: new Set() });
      const connection = connectionTo(broker, { tokens: source, tokenUse: 'password' });
      connection.open();
      should(errorOf(await next(connection, 'auth'))).match({
        code: 'AMQP_AUTH',
        message: /^the login with the token was refused/,
      });
      broker.tokens = accepted;
      await next(connection, 'connected');
      should(accepted.size).be.aboveOrEqual(2);
    });

    it('waits for one that a flow gives, and logs in as soon as there is one', async () => {
      const broker = await startBroker({ mechanisms: ['PLAIN'], tokens: new Set([secretOf('token')]) });
      const source = new Tokens();
      const connection = connectionTo(broker, { tokens: source, tokenUse: 'password', loginBackoff: HOUR });
      connection.open();
      should(errorOf(await next(connection, 'auth'))).match({ code: 'AMQP_AUTH', diagnosis: 'no-token' });
      source.give(secretOf('token'));
      await next(connection, 'connected');
    });

    it('closes at once while it asks for one', async () => {
      const broker = await startBroker();
      const asked = new EventEmitter();
      const source = new Tokens(() => {
        asked.emit('asked');
        return new Promise(() => {});
      });
      const connection = connectionTo(broker, { tokens: source, tokenUse: 'password' });
      const asking = once(asked, 'asked');
      connection.open();
      await asking;
      await connection.close();
      should(connection.state).deepEqual({ name: 'idle' });
    });

    it('says why there is none', async () => {
      const broker = await startBroker();
      const error = amqpError('AMQP_CONNECT.token-server', { server: 's', why: 'is down' });
      const source = new Tokens(() => Promise.reject(error));
      const connection = connectionTo(broker, { tokens: source, tokenUse: 'password' });
      connection.open();
      should(errorOf(await next(connection, 'disconnected'))).equal(error);
    });
  });

  it('tells before a login is shown to all on the way, which one with TLS or by SCRAM is not', async () => {
    const users = { anna: secretOf('password') };
    const login = { username: 'anna', password: users.anna };
    const told: unknown[] = [];
    for (const mechanisms of [['SCRAM-SHA-256'], ['PLAIN']]) {
      const broker = await startBroker({ users, mechanisms });
      const connection = connectionTo(broker, login);
      connection.on('revealing', ({ port }) => told.push(mechanisms, port === broker.port));
      await opened(connection);
    }
    const tls = { key: fixture('server.key'), cert: fixture('server.crt') };
    const broker = await startBroker({ users, mechanisms: ['PLAIN'], tls });
    const servers = [{ host: 'localhost', port: broker.port, isSecure: true }];
    const connection = connectionTo(broker, { ...login, servers, tls: { ca: fixture('ca.crt') } });
    connection.on('revealing', () => told.push('by TLS'));
    await opened(connection);
    should(told).deepEqual([['PLAIN'], true]);
  });
});
