import { once } from 'node:events';
import net from 'node:net';
import rhea from 'rhea';
import should from 'should';
import { Connection } from '../../../../nodes/lib/connection/connection';
import { type Login, mechanismsOf } from '../../../../nodes/lib/auth/sasl';
import { type Mechanisms, Wire } from '../../../../nodes/lib/wire/wire';
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
        const wire: Wire = new Wire(options, ours, {
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
