import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import should from 'should';
import { openSocket, type TransportOptions } from '../../../../nodes/lib/wire/transport';
import { Broker, type BrokerOptions, type Upgrade } from '../../../../broker/broker';
import { HttpProxy } from '../../../doubles/http-proxy';
import { secretOf } from '../../../secrets';

const fixture = (name: string) => readFileSync(join(__dirname, '../../../fixtures', name));
const ca = fixture('ca.crt');
const TLS = { key: fixture('server.key'), cert: fixture('server.crt'), ca };
const HEADER = 'AMQP\x00\x01\x00\x00';

describe('a WebSocket', () => {
  const cleanups: (() => unknown)[] = [];
  const environment = { ...process.env };
  afterEach(async () => {
    process.env = { ...environment };
    for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
  });

  async function start(options: BrokerOptions = {}): Promise<Broker> {
    const broker = await Broker.start({ websocket: true, ...options });
    cleanups.push(() => broker.stop());
    return broker;
  }

  async function proxyOf(options?: Parameters<typeof HttpProxy.start>[0]): Promise<HttpProxy> {
    const proxy = await HttpProxy.start(options);
    cleanups.push(() => proxy.stop());
    return proxy;
  }

  /** Resolves with the stream once it is `connected`, rejects with its error. */
  function open(port: number, options: Partial<TransportOptions> = {}): Promise<Duplex> {
    return new Promise((resolve, reject) => {
      const stream = openSocket({ host: '127.0.0.1', port, path: '/', connectTimeout: 200, ...options }, () =>
        resolve(stream),
      );
      cleanups.push(() => stream.destroy());
      stream.on('error', reject);
    });
  }

  it('takes and gives bytes, whatever messages the peer makes of them', async () => {
    for (const websocket of [{ cut: 1 }, { fragment: 3 }, { join: true }] as const) {
      const broker = await start({ websocket });
      const stream = await open(broker.port);
      stream.write(HEADER.slice(0, 3));
      stream.write(HEADER.slice(3));
      let received = '';
      await new Promise<void>((resolve) => {
        stream.on('data', (bytes) => {
          received += String(bytes);
          if (received.startsWith(HEADER)) resolve();
        });
      });
    }
  });

  it('asks for AMQP by both of its names, at the path and with the headers given', async () => {
    const broker = await start();
    const upgraded = once(broker, 'upgrade') as Promise<[Upgrade]>;
    await open(broker.port, { path: '/$servicebus/websocket?a=b', headers: { 'x-key': secretOf('header') } });
    should((await upgraded)[0]).match({
      path: '/$servicebus/websocket?a=b',
      protocols: ['amqp', 'AMQPWSB10'],
      headers: { 'x-key': secretOf('header') },
    });
  });

  it('with TLS is connected only once the peer is verified', async () => {
    const { port } = await start({ tls: TLS });
    await should(open(port, { isSecure: true })).be.rejectedWith({ code: 'SELF_SIGNED_CERT_IN_CHAIN' });
    await open(port, { isSecure: true, tls: { ca } });
    await should(open(port, { isSecure: true, tls: { ca, servername: 'other' } })).be.rejectedWith({
      code: 'ERR_TLS_CERT_ALTNAME_INVALID',
    });
  });

  it('is told by a code why there is none', async () => {
    const refusing = await start();
    refusing.refuseUpgrades = { status: 403, body: '<html></html>' };
    await should(open(refusing.port)).be.rejectedWith({ code: 'HTTP_403', message: /status 403/ });
    const { port: other } = await start({ websocket: { protocols: ['mqtt'] } });
    await should(open(other)).be.rejectedWith({ code: /NO_AMQP|HTTP_400/ });
    const gone = await start();
    await gone.stop();
    await should(open(gone.port)).be.rejectedWith({ code: 'ECONNREFUSED' });
  });

  it('ends with the connection, from either side', async () => {
    const broker = await start();
    const stream = await open(broker.port);
    stream.resume();
    const ended = once(stream, 'end');
    broker.dropSockets();
    await ended;
    const other = await open(broker.port);
    const closed = once(other, 'close');
    other.destroy();
    await closed;
  });

  describe('by way of a proxy', () => {
    it('goes there with user name and password', async () => {
      const { port } = await start();
      const password = secretOf('proxy password');
      const proxy = await proxyOf({ user: 'p@:', password });
      await open(port, { proxy: { url: proxy.url, username: 'p@:', password, except: [] } });
      should(proxy.targets).deepEqual([`127.0.0.1:${port}`]);
    });

    it('goes there with TLS to the server', async () => {
      const { port } = await start({ tls: TLS });
      const { url } = await proxyOf();
      await open(port, { isSecure: true, tls: { ca }, proxy: { url, except: [] } });
      await should(open(port, { isSecure: true, proxy: { url, except: [] } })).be.rejectedWith({
        code: 'SELF_SIGNED_CERT_IN_CHAIN',
      });
    });

    it('goes to a proxy with TLS, which is verified as the server is', async () => {
      const { port } = await start({ tls: TLS });
      const proxy = await proxyOf({ tls: true });
      await open(port, { isSecure: true, tls: { ca }, proxy: { url: proxy.url, except: [] } });
      should(proxy.targets).have.length(1);
      await should(open(port, { isSecure: true, proxy: { url: proxy.url, except: [] } })).be.rejectedWith({
        code: /SELF_SIGNED|UNABLE_TO_VERIFY/,
      });
      should(proxy.targets).have.length(1);
    });

    it('goes there as the environment variables say', async () => {
      const { port } = await start();
      const proxy = await proxyOf();
      process.env['HTTP_PROXY'] = proxy.url;
      await open(port);
      process.env['NO_PROXY'] = '127.0.0.1';
      await open(port);
      should(proxy.targets).have.length(1);
    });

    it('goes straight to the hosts that are excepted, and those below', async () => {
      const { port } = await start();
      const { url, requests } = await proxyOf();
      for (const except of ['localhost', '.localhost', `localhost:${port}`, '*.localhost', ' localhost '])
        await open(port, { host: 'localhost', proxy: { url, except: [except] } });
      should(requests).have.length(0);
      for (const except of ['', 'ocalhost', 'localhost.example', '*'])
        await open(port, { host: 'localhost', proxy: { url, except: [except] } });
      should(requests).have.length(4);
    });

    it('is told by a code what the proxy does not do', async () => {
      const { port } = await start();
      const closed = await proxyOf({ user: 'p', password: secretOf('proxy password') });
      await should(open(port, { proxy: { url: closed.url, except: [] } })).be.rejectedWith({ code: 'PROXY_407' });
      const refusing = await proxyOf();
      refusing.refuse = 403;
      await should(open(port, { proxy: { url: refusing.url, except: [] } })).be.rejectedWith({ code: 'PROXY_403' });
      const mute = await proxyOf();
      mute.silent = true;
      await should(open(port, { proxy: { url: mute.url, except: [] } })).be.rejectedWith({ code: 'PROXY_ETIMEDOUT' });
      await refusing.stop();
      await should(open(port, { proxy: { url: refusing.url, except: [] } })).be.rejectedWith({
        code: 'PROXY_ECONNREFUSED',
      });
    });
  });
});
