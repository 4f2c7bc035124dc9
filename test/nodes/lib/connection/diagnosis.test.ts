import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { join } from 'node:path';
import tls from 'node:tls';
import should from 'should';
import { Connection, type ConnectionOptions } from '../../../../nodes/lib/connection/connection';
import { diagnose, diagnoseBytes } from '../../../../nodes/lib/connection/diagnosis';
import type { AmqpError } from '../../../../nodes/lib/errors';
import type { Server } from '../../../../nodes/lib/wire/transport';

const fixture = (name: string) => readFileSync(join(__dirname, '../../../fixtures', name));
const SERVER = { key: fixture('server.key'), cert: fixture('server.crt'), ca: fixture('ca.crt') };
const HOUR = { initial: 3_600_000, max: 3_600_000 };

describe('why there is no connection', () => {
  const cleanups: (() => unknown)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
  });

  async function listen(server: net.Server): Promise<number> {
    const sockets = new Set<net.Socket>();
    server.on('connection', (socket: net.Socket) => {
      sockets.add(socket);
      socket.on('error', () => {});
    });
    server.on('tlsClientError', () => {});
    cleanups.push(() => {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(resolve));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return (server.address() as net.AddressInfo).port;
  }

  /** The error that a first attempt ends with. */
  async function failure({
    host = '127.0.0.1',
    port,
    ...options
  }: Partial<ConnectionOptions & Server>): Promise<AmqpError> {
    const connection = new Connection({
      servers: [{ host, port: port ?? 0, isSecure: options.tls !== undefined }],
      containerId: 'client',
      connectTimeout: 5000,
      idleTimeout: 0,
      backoff: HOUR,
      loginBackoff: HOUR,
      ...options,
    });
    cleanups.push(() => connection.close());
    const told = new Promise<AmqpError>((resolve) => {
      connection.on('state', (state) => 'error' in state && resolve(state.error));
    });
    connection.open();
    return told;
  }

  const secure = { ca: SERVER.ca };

  it('is told of a port on which nothing listens', async () => {
    const server = net.createServer();
    const port = await listen(server);
    await cleanups.pop()!();
    should(await failure({ port })).match({ code: 'AMQP_CONNECT', diagnosis: 'refused' });
  });

  it('is told of a name that is no host', async () => {
    should(await failure({ host: 'no-such-host.invalid', port: 5672 })).match({ diagnosis: 'host-not-found' });
  });

  it('is told of a server that takes the connection and says nothing', async () => {
    const port = await listen(net.createServer());
    should(await failure({ port, connectTimeout: 50 })).match({ diagnosis: 'silent' });
  });

  for (const [what, make] of Object.entries<() => net.Server>({
    'speaks AMQP': () => net.createServer((socket) => socket.end('AMQP\x00\x01\x00\x00')),
    'closes at what is none of its protocol': () =>
      net.createServer((socket) => socket.once('data', () => socket.end())),
    'speaks HTTP': () => http.createServer(),
  })) {
    it(`is told of TLS to a port without, where the server ${what}`, async () => {
      should(await failure({ port: await listen(make()), tls: secure })).match({ diagnosis: 'no-tls' });
    });
  }

  it('is told of a port that expects TLS, by the alert of the server', async () => {
    should(await failure({ port: await listen(tls.createServer(SERVER)) })).match({ diagnosis: 'tls-expected' });
  });

  it('is told of a port that may expect TLS, where the server closes without a word', async () => {
    const server = net.createServer((socket) => socket.once('data', () => socket.end()));
    should(await failure({ port: await listen(server) })).match({ diagnosis: 'tls-expected' });
  });

  it('is told of HTTP', async () => {
    should(await failure({ port: await listen(http.createServer()) })).match({ diagnosis: 'http' });
  });

  for (const [what, answer] of Object.entries({
    'AMQP 0-9-1': 'AMQP\x00\x00\x09\x01',
    'something else': 'SSH-2.0-OpenSSH_9.2\r\n',
  })) {
    it(`is told of a server that speaks ${what}`, async () => {
      const server = net.createServer((socket) => socket.write(answer));
      should(await failure({ port: await listen(server) })).match({ diagnosis: 'other-protocol' });
    });
  }

  it('is told of a certificate that is not trusted', async () => {
    should(await failure({ port: await listen(tls.createServer(SERVER)), tls: {} })).match({ diagnosis: 'untrusted' });
  });

  it('is told of a certificate for another name', async () => {
    const port = await listen(tls.createServer(SERVER));
    should(await failure({ port, tls: { ...secure, servername: 'elsewhere.example' } })).match({
      diagnosis: 'wrong-name',
    });
  });

  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    it(`is told of a client certificate that is missing, with ${version}`, async () => {
      const server = tls.createServer({ ...SERVER, requestCert: true, maxVersion: version });
      should(await failure({ port: await listen(server), tls: secure })).match({ diagnosis: 'client-certificate' });
    });
  }

  it('is told of a certificate that is out of date', () => {
    const progress = { isSecure: true, isConnected: false, hasAnswered: false };
    should(diagnose({ code: 'CERT_HAS_EXPIRED' }, progress)).equal('expired');
    should(diagnose({ code: 'CERT_NOT_YET_VALID' }, progress)).equal('expired');
  });

  it('is told of a host with several addresses, none of which answers', () => {
    const progress = { isSecure: false, isConnected: false, hasAnswered: false };
    should(diagnose({ errors: [{ code: 'ECONNREFUSED' }, { code: 'ECONNREFUSED' }] }, progress)).equal('refused');
  });

  it('is not guessed where a server that speaks AMQP 1.0 closes', () => {
    should(diagnose(undefined, { isSecure: false, isConnected: true, hasAnswered: true })).be.undefined();
    should(diagnose(undefined, { isSecure: true, isConnected: true, hasAnswered: true })).be.undefined();
    for (const protocol of [0, 2, 3])
      should(diagnoseBytes(Buffer.from([...Buffer.from('AMQP'), protocol, 1, 0, 0]))).be.undefined();
    should(diagnoseBytes(Buffer.from('AMQP'))).be.undefined();
  });
});
