import { once } from 'node:events';
import net from 'node:net';
import rhea from 'rhea';
import should from 'should';
import { Connection } from '../../../../nodes/lib/connection/connection';
import { type Login, mechanismsOf } from '../../../../nodes/lib/auth/sasl';
import { type Mechanisms, DialledWire } from '../../../../nodes/lib/wire/wire';
import { Broker, type BrokerOptions } from '../../../../broker/broker';
import { secretIn, secretOf } from '../../../secrets';

type ServerMechanism = { outcome?: boolean; start(response: Buffer): unknown; step(response: Buffer): unknown };

const PASSWORD = secretOf('password');
const STRANGE = secretOf('password', 'äö€🔑');

const names = (login: Login) => Object.keys(mechanismsOf(login) ?? {});

const ignore = (): void => {};

describe('SASL', () => {
  const cleanups: (() => unknown)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
  });

  /** The state in which the first attempt with this login ends. */
  async function logIn(port: number, login: Login): Promise<Connection['state']> {
    const connection = new Connection({
      servers: [{ host: '127.0.0.1', port }],
      ...login,
      containerId: 'client',
      connectTimeout: 5000,
      idleTimeout: 0,
      backoff: { initial: 20, max: 20 },
      loginBackoff: { initial: 20, max: 20 },
    });
    cleanups.push(() => connection.close());
    connection.open();
    do await once(connection, 'state');
    while (connection.state.name === 'connecting');
    return connection.state;
  }

  async function broker(options: BrokerOptions): Promise<number> {
    const started = await Broker.start(options);
    cleanups.push(() => started.stop());
    return started.port;
  }

  /** A peer that offers these mechanisms and no others. */
  async function peer(mechanisms: Record<string, ServerMechanism>): Promise<number> {
    const container = rhea.create_container();
    for (const [name, mechanism] of Object.entries(mechanisms)) {
      Object.assign(container.sasl_server_mechanisms, { [name]: () => mechanism });
    }
    for (const event of ['connection_close', 'disconnected', 'error', 'protocol_error']) container.on(event, () => {});
    const server = container.listen({ port: 0, host: '127.0.0.1' });
    cleanups.push(() => new Promise((resolve) => server.close(resolve)));
    await once(server, 'listening');
    return (server.address() as net.AddressInfo).port;
  }

  it('logs in with letters beyond ASCII (R26)', async () => {
    const port = await broker({ users: { jörg: STRANGE }, anonymous: false });
    should(await logIn(port, { username: 'jörg', password: STRANGE })).match({ name: 'connected' });
  });

  it('is there without a login too, since many brokers insist on it (R25)', async () => {
    const server = net.createServer();
    cleanups.push(() => new Promise((resolve) => server.close(resolve)));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const header = new Promise((resolve) => {
      server.on('connection', (socket) => {
        socket.once('data', (data) => {
          resolve(data.toString('hex'));
          socket.destroy();
        });
      });
    });
    await logIn((server.address() as net.AddressInfo).port, {});
    should(await header).equal(Buffer.from('AMQP\x03\x01\x00\x00').toString('hex'));

    const responses: string[] = [];
    const port = await peer({
      ANONYMOUS: { outcome: true, start: (response) => responses.push(response.toString()), step: () => {} },
    });
    should(await logIn(port, {})).match({ name: 'connected' });
    should(responses).deepEqual(['anonymous']);
  });

  it('logs in with an empty password as that user, not anonymously (R57)', async () => {
    const port = await broker({ users: { guest: '' }, anonymous: false });
    should(await logIn(port, { username: 'guest' })).match({ name: 'connected' });
    should(await logIn(port, { username: 'guest', password: '' })).match({ name: 'connected' });
  });

  it('does not let the peer turn a login into an anonymous one (R27)', async () => {
    const port = await peer({ ANONYMOUS: { outcome: true, start: () => {}, step: () => {} } });
    should(await logIn(port, { username: 'anna', password: PASSWORD })).match({
      name: 'auth',
      error: { code: 'AMQP_AUTH', diagnosis: 'mechanism', message: /ANONYMOUS/ },
    });
  });

  it('takes a wrong password for a refused login, and does not repeat it', async () => {
    const port = await broker({ users: { anna: 'other' }, anonymous: false });
    const state = await logIn(port, { username: 'anna', password: PASSWORD });
    should(state).match({ name: 'auth', error: { code: 'AMQP_AUTH' } });
    should(secretIn(JSON.stringify(state) + String((state as { error?: Error }).error?.stack))).equal(undefined);
  });

  it('takes a challenge that its mechanism does not know for a refused login', async () => {
    const port = await peer({ PLAIN: { start: () => Buffer.from('more'), step: () => {} } });
    should(await logIn(port, { username: 'anna', password: PASSWORD })).match({ name: 'auth' });
  });

  it('is by the client certificate rather than anonymous, whatever the peer prefers (R27)', async () => {
    const responses: string[] = [];
    const mechanism = (name: string): ServerMechanism => ({
      outcome: true,
      start: (response) => responses.push(`${name} ${response.toString()}`),
      step: () => {},
    });
    const { ANONYMOUS, EXTERNAL } = mechanismsOf({ tls: { cert: 'certificate' } })!;
    const container = rhea.create_container();
    Object.assign(container.sasl_server_mechanisms, {
      ANONYMOUS: () => mechanism('ANONYMOUS'),
      EXTERNAL: () => mechanism('EXTERNAL'),
    });
    for (const event of ['connection_close', 'disconnected', 'error', 'protocol_error']) container.on(event, () => {});
    const server = container.listen({ port: 0, host: '127.0.0.1' });
    cleanups.push(() => new Promise((resolve) => server.close(resolve)));
    await once(server, 'listening');
    const { port } = server.address() as net.AddressInfo;
    for (const ours of [{ EXTERNAL, ANONYMOUS }, { ANONYMOUS }] as Mechanisms[]) {
      await new Promise<void>((resolve) => {
        const user = {
          began: ignore,
          loggingIn: ignore,
          refused: ignore,
          closed: ignore,
          dropped: ignore,
          unspoken: ignore,
          failed: ignore,
          fault: ignore,
        };
        const options = { host: '127.0.0.1', port, containerId: 'client', idleTimeout: 0 };
        const wire: DialledWire = new DialledWire(options, ours, {
          ...user,
          opened: () => {
            wire.discard();
            resolve();
          },
        });
        wire.connect();
      });
    }
    should(responses).eql(['EXTERNAL ', 'ANONYMOUS anonymous']);
  });

  for (const mechanism of ['SCRAM-SHA-512', 'SCRAM-SHA-256', 'SCRAM-SHA-1', 'PLAIN']) {
    it(`is by ${mechanism} where the peer has nothing stronger`, async () => {
      const all = ['PLAIN', 'SCRAM-SHA-1', 'SCRAM-SHA-256', 'SCRAM-SHA-512', 'ANONYMOUS'];
      const offered = all.slice(0, all.indexOf(mechanism) + 1);
      const started = await Broker.start({ users: { jörg: STRANGE }, mechanisms: [...offered, 'ANONYMOUS'] });
      cleanups.push(() => started.stop());
      should(await logIn(started.port, { username: 'jörg', password: STRANGE })).match({ name: 'connected' });
      should(started.logins).match([{ mechanism, user: 'jörg' }]);
    });
  }

  it('is refused by SCRAM to who has another password', async () => {
    const port = await broker({ users: { anna: PASSWORD }, mechanisms: ['SCRAM-SHA-256'] });
    should(await logIn(port, { username: 'anna', password: secretOf('other password') })).match({
      name: 'auth',
      error: { code: 'AMQP_AUTH' },
    });
  });

  for (const finalIn of ['outcome', 'challenge'] as const) {
    it(`by SCRAM takes the proof of the server in the ${finalIn}, and refuses a server without it (R60)`, async () => {
      const options = { users: { anna: PASSWORD }, mechanisms: ['SCRAM-SHA-256'] };
      const login = { username: 'anna', password: PASSWORD };
      should(await logIn(await broker({ ...options, scram: { finalIn } }), login)).match({ name: 'connected' });
      for (const fault of ['signature', 'no signature'] as const) {
        const state = await logIn(await broker({ ...options, scram: { finalIn, fault } }), login);
        should(state).match({ name: 'auth', error: { code: 'AMQP_AUTH', diagnosis: 'unverified' } });
      }
    });
  }

  it('by SCRAM refuses a server that has taken its nonce from elsewhere', async () => {
    const port = await broker({ users: { anna: PASSWORD }, mechanisms: ['SCRAM-SHA-1'], scram: { fault: 'nonce' } });
    should(await logIn(port, { username: 'anna', password: PASSWORD })).match({
      name: 'auth',
      error: { message: /not that of this login/ },
    });
  });

  it('by SCRAM is not talked down to PLAIN by the peer, where a person has chosen it', async () => {
    const started = await Broker.start({ users: { anna: PASSWORD }, mechanisms: ['PLAIN'] });
    cleanups.push(() => started.stop());
    const login = { username: 'anna', password: PASSWORD, mechanism: 'SCRAM-SHA-256' } as const;
    should(await logIn(started.port, login)).match({
      name: 'auth',
      error: { diagnosis: 'mechanism', message: /PLAIN/ },
    });
    should([...started.logins, ...started.refusedLogins]).deepEqual([]);
  });

  it('is over when the peer ends it before it has begun', async () => {
    const server = net.createServer((socket) => {
      socket.on('error', ignore).resume();
      // An outcome that is good, in place of the mechanisms.
      socket.write('AMQP\x03\x01\x00\x00\x00\x00\x00\x10\x02\x01\x00\x00\x00\x53\x44\xc0\x03\x01\x50\x00', 'latin1');
    });
    cleanups.push(() => new Promise((resolve) => server.close(resolve)));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as net.AddressInfo;
    should(await logIn(port, { username: 'anna', password: PASSWORD })).match({ error: { code: 'AMQP_CONNECT' } });
  });

  it('by XOAUTH2 shows a token, and hears what is wrong with it', async () => {
    const token = secretOf('token');
    const port = await broker({ tokens: new Set([token]), mechanisms: ['XOAUTH2'] });
    const login = { username: 'anna', mechanism: 'XOAUTH2' } as const;
    should(await logIn(port, { ...login, password: token })).match({ name: 'connected' });
    should(await logIn(port, { ...login, password: secretOf('other token') })).match({
      name: 'auth',
      error: { code: 'AMQP_AUTH' },
    });
  });

  it('may be left out altogether', async () => {
    const started = await Broker.start({ mechanisms: [] });
    cleanups.push(() => started.stop());
    should(await logIn(started.port, { mechanism: 'none' })).match({ name: 'connected' });
    should(started.logins).match([{ mechanism: 'none' }]);
    const server = net.createServer((socket) => {
      socket.on('error', ignore).resume().end('AMQP\x03\x01\x00\x00');
    });
    cleanups.push(() => new Promise((resolve) => server.close(resolve)));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as net.AddressInfo;
    should(await logIn(port, { mechanism: 'none' })).match({
      error: { code: 'AMQP_CONNECT', diagnosis: 'login-expected' },
    });
  });

  it('offers what a user name can do, the strongest first; without, what needs none', () => {
    const scram = ['SCRAM-SHA-512', 'SCRAM-SHA-256', 'SCRAM-SHA-1'];
    should(names({})).deepEqual(['ANONYMOUS']);
    should(names({ username: 'anna' })).deepEqual([...scram, 'PLAIN']);
    should(names({ username: 'anna', tls: { cert: 'certificate' } })).deepEqual([...scram, 'PLAIN', 'EXTERNAL']);
    should(names({ password: 'token' })).deepEqual(['PLAIN']);
    should(names({ tls: { pfx: 'certificate' } })).deepEqual(['EXTERNAL', 'ANONYMOUS']);
    should(names({ tls: {} })).deepEqual(['ANONYMOUS']);
  });

  it('offers nothing but what a person has chosen', () => {
    for (const mechanism of ['SCRAM-SHA-256', 'PLAIN', 'EXTERNAL', 'XOAUTH2', 'ANONYMOUS'] as const)
      should(names({ username: 'anna', password: PASSWORD, mechanism })).deepEqual([mechanism]);
    should(mechanismsOf({ username: 'anna', mechanism: 'none' })).equal(undefined);
  });
});
