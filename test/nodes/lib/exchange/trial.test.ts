import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import should from 'should';
import { Broker, type BrokerOptions } from '../../../../broker/broker';
import { Tokens } from '../../../../nodes/lib/auth/tokens';
import { Connection, type ConnectionOptions } from '../../../../nodes/lib/connection/connection';
import { Cbs, readySignature } from '../../../../nodes/lib/exchange/cbs';
import { type Target, tryOut, type Verdict } from '../../../../nodes/lib/exchange/trial';
import { amqpError } from '../../../../nodes/lib/errors';
import { HttpProxy } from '../../../doubles/http-proxy';
import { ServiceBus } from '../../../doubles/service-bus/service-bus';
import { secretOf } from '../../../secrets';

const fixture = (name: string) => readFileSync(join(__dirname, '../../../fixtures', name));
const CERTIFICATE = { cert: fixture('server.crt'), key: fixture('server.key') };
const TRUSTED = { ca: fixture('ca.crt') };

function optionsOf(port: number, options: Partial<ConnectionOptions> & { server?: object } = {}): ConnectionOptions {
  const { server, ...others } = options;
  return {
    servers: [{ host: '127.0.0.1', port, ...server }],
    containerId: 'client',
    connectTimeout: 5000,
    idleTimeout: 0,
    backoff: { initial: 10, max: 20 },
    loginBackoff: { initial: 10, max: 20 },
    ...others,
  };
}

const attempt = (options: ConnectionOptions, target?: Target): Promise<Verdict> => tryOut(options, target, 10_000);

/** The step that fails, and the diagnosis or code of its error. */
async function failure(options: ConnectionOptions, target?: Target): Promise<[string?, string?]> {
  const { failure: failed } = await attempt(options, target);
  return [failed?.step, failed?.error.diagnosis ?? failed?.error.code];
}

describe('a trial', () => {
  const cleanups: (() => unknown)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
  });

  async function start(options?: BrokerOptions): Promise<Broker> {
    const broker = await Broker.start(options);
    cleanups.push(() => broker.stop());
    return broker;
  }

  it('tells what the peer is, and leaves nothing open', async () => {
    const broker = await start({ properties: { product: 'Embedded', version: '1.2' } });
    const { steps, failure: failed, peer } = await attempt(optionsOf(broker.port));
    should(failed).be.undefined();
    steps.should.deepEqual(['tcp', 'login', 'open']);
    peer!.product.should.deepEqual({ name: 'Embedded', version: '1.2' });
    peer!.capabilities.should.containEql('ANONYMOUS-RELAY');
    should(peer!.container).be.a.String();
    broker.connections().should.equal(0);
  });

  it('passes all that is on the way, by name, proxy, TLS and WebSocket', async () => {
    const broker = await start({ tls: CERTIFICATE, websocket: true });
    const server = { host: 'localhost', isSecure: true, path: '/' };
    const straight = await attempt(optionsOf(broker.port, { server, tls: TRUSTED }));
    straight.steps.should.deepEqual(['name', 'tcp', 'tls', 'websocket', 'login', 'open']);

    const proxy = await HttpProxy.start();
    cleanups.push(() => proxy.stop());
    const options = { server, tls: TRUSTED, proxy: { url: proxy.url, except: [] } };
    const { steps } = await attempt(optionsOf(broker.port, options));
    steps.should.deepEqual(['proxy', 'tls', 'websocket', 'login', 'open']);
  });

  it('does not disturb a connection of the same endpoint', async () => {
    const broker = await start();
    const connection = new Connection(optionsOf(broker.port));
    cleanups.push(() => connection.close());
    connection.open();
    while (connection.state.name !== 'connected') await once(connection, 'state');
    const [, { containerId: name }] = await Promise.all([
      attempt(optionsOf(broker.port)),
      once(broker, 'connection').then(([one]) => one),
    ]);
    name.should.equal('client_test');
  });

  describe('says which step fails:', () => {
    it('the name', async () => {
      const options = optionsOf(5672, { server: { host: 'no-such-host.invalid' } });
      (await failure(options)).should.deepEqual(['name', 'host-not-found']);
    });

    it('TCP, where nothing listens', async () => {
      const server = net.createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      const { port } = server.address() as net.AddressInfo;
      server.close();
      (await failure(optionsOf(port))).should.deepEqual(['tcp', 'refused']);
    });

    it('the proxy', async () => {
      const proxy = await HttpProxy.start({ user: 'a', password: secretOf('proxy password') });
      cleanups.push(() => proxy.stop());
      const options = optionsOf(80, { server: { path: '/' }, proxy: { url: proxy.url, except: [] } });
      (await failure(options)).should.deepEqual(['proxy', 'proxy-login']);
    });

    it('TLS: a certificate that nobody vouches for, a name that is not its own, a port without', async () => {
      const secure = await start({ tls: CERTIFICATE });
      const plain = await start();
      const server = { host: 'localhost', isSecure: true };
      (await failure(optionsOf(secure.port, { server }))).should.deepEqual(['tls', 'untrusted']);
      const named = { ...TRUSTED, servername: 'elsewhere.example' };
      (await failure(optionsOf(secure.port, { server, tls: named }))).should.deepEqual(['tls', 'wrong-name']);
      (await failure(optionsOf(plain.port, { server }))).should.deepEqual(['tls', 'no-tls']);
      (await failure(optionsOf(secure.port))).should.deepEqual(['tls', 'tls-expected']);
    });

    it('TLS, where it is never answered', async () => {
      const server = net.createServer((socket) => cleanups.push(() => socket.destroy())).listen(0, '127.0.0.1');
      await once(server, 'listening');
      cleanups.push(() => server.close());
      const { port } = server.address() as net.AddressInfo;
      const options = optionsOf(port, { server: { isSecure: true }, connectTimeout: 100 });
      (await failure(options)).should.deepEqual(['tls', 'silent']);
    });

    it('the WebSocket', async () => {
      const broker = await start({ websocket: true });
      broker.refuseUpgrades = { status: 404 };
      const options = optionsOf(broker.port, { server: { path: '/elsewhere' } });
      (await failure(options)).should.deepEqual(['websocket', 'no-websocket']);
    });

    it('the login', async () => {
      const broker = await start({ users: { a: secretOf('password') }, anonymous: false });
      const options = optionsOf(broker.port, { username: 'a', password: 'wrong' });
      (await failure(options)).should.deepEqual(['login', 'AMQP_AUTH']);
      (await failure(optionsOf(broker.port))).should.deepEqual(['login', 'mechanism']);
    });

    it('the open, where it never comes', async () => {
      const broker = await start();
      const proxy = net.createServer((client) => {
        const peer = net.connect(broker.port, '127.0.0.1');
        cleanups.push(() => [client, peer].map((socket) => socket.destroy()));
        client.pipe(peer);
        // Up to the outcome of the login.
        peer.once('data', (header) => {
          client.write(header);
          peer.once('data', (outcome) => client.write(outcome));
        });
      });
      proxy.listen(0, '127.0.0.1');
      await once(proxy, 'listening');
      cleanups.push(() => proxy.close());
      const { port } = proxy.address() as net.AddressInfo;
      const { steps, failure: failed } = await attempt(optionsOf(port, { connectTimeout: 300 }));
      should(failed?.error.diagnosis).equal('silent');
      [...steps, failed!.step].should.deepEqual(steps.includes('login') ? ['tcp', 'login', 'open'] : ['tcp', 'login']);
    });

    it('the token, of a server for tokens, and of an address', async () => {
      const broker = await start();
      const tokens = new Tokens(async () => {
        throw amqpError('AMQP_CONNECT.token-server', { server: 'tokens', why: 'gone' }, { diagnosis: 'token-server' });
      });
      const options = optionsOf(broker.port, { tokens, tokenUse: 'password' });
      (await failure(options)).should.deepEqual(['token', 'token-server']);

      const service = await ServiceBus.start({ queues: { a: {} } });
      cleanups.push(() => service.stop());
      const { authorize } = new Cbs(readySignature('SharedAccessSignature sr=x&sig=y&se=1&skn=z'));
      const shared = optionsOf(service.port, { mechanism: 'ANONYMOUS', authorize });
      const [step] = await failure(shared, { address: 'a', role: 'source' });
      should(step).equal('token');
    });

    it('the attach, by the words of the peer', async () => {
      const broker = await start();
      broker.refuse('secret', { condition: 'amqp:unauthorized-access', description: 'not for you' });
      const { steps, failure: failed } = await attempt(optionsOf(broker.port), {
        address: 'secret',
        role: 'target',
      });
      should(failed?.step).equal('attach');
      should(failed?.error.message).match(/amqp:unauthorized-access: not for you/);
      steps.should.deepEqual(['tcp', 'login', 'open']);
    });
  });

  it('attaches without a message being sent or taken', async () => {
    const broker = await start();
    broker.put('orders', { body: 'one' });
    for (const role of ['source', 'target'] as const) {
      const { steps } = await attempt(optionsOf(broker.port), { address: 'orders', role });
      steps.should.deepEqual(['tcp', 'login', 'open', 'attach']);
    }
    broker.ready('orders').should.equal(1);
    should(broker.received['orders']).be.undefined();
  });

  it('gives up in time, whatever the peer does', async () => {
    const broker = await start();
    const held = optionsOf(broker.port, { connectTimeout: 60_000 });
    const server = net.createServer((socket) => cleanups.push(() => socket.destroy())).listen(0, '127.0.0.1');
    await once(server, 'listening');
    cleanups.push(() => server.close());
    const servers = [{ host: '127.0.0.1', port: (server.address() as net.AddressInfo).port }];
    const { failure: failed } = await tryOut({ ...held, servers }, undefined, 100);
    should(failed?.error.message).match(/no answer within 0.1 s/);
  });
});
