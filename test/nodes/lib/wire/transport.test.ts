import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import should from 'should';
import { openSocket, type TransportOptions } from '../../../../nodes/lib/wire/transport';

const fixture = (name: string) => readFileSync(join(__dirname, '../../../fixtures', name));
const SERVER = { key: fixture('server.key'), cert: fixture('server.crt'), ca: fixture('ca.crt') };
const ca = fixture('ca.crt');

describe('a socket', () => {
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

  /** Resolves with the socket once it is `connected`, rejects with its error. */
  function open(options: TransportOptions): Promise<Duplex> {
    return new Promise((resolve, reject) => {
      const socket = openSocket(options, () => resolve(socket));
      cleanups.push(() => socket.destroy());
      socket.on('error', reject);
    });
  }

  it('with TLS is connected only once the peer is verified', async () => {
    const port = await listen(tls.createServer(SERVER));
    await should(open({ host: '127.0.0.1', port, isSecure: true, tls: {} })).be.rejectedWith({
      code: 'SELF_SIGNED_CERT_IN_CHAIN',
    });
    const socket = (await open({ host: '127.0.0.1', port, isSecure: true, tls: { ca } })) as unknown as tls.TLSSocket;
    should(socket.authorized).equal(true);
  });

  it('with TLS verifies the name of the host', async () => {
    const port = await listen(tls.createServer(SERVER));
    await open({ host: 'localhost', port, isSecure: true, tls: { ca } });
    await should(open({ host: '127.0.0.1', port, isSecure: true, tls: { ca, servername: 'other' } })).be.rejectedWith({
      code: 'ERR_TLS_CERT_ALTNAME_INVALID',
    });
  });

  it('with TLS names the host to the peer, unless it is an IP address', async () => {
    const server = tls.createServer(SERVER);
    const port = await listen(server);
    const names: unknown[] = [];
    server.on('secureConnection', (socket) => names.push(socket.servername));
    for (const [host, servername] of [['localhost'], ['127.0.0.1'], ['127.0.0.1', 'localhost']] as const) {
      const secured = once(server, 'secureConnection');
      await open({ host, port, isSecure: true, tls: { ca, ...(servername && { servername }) } });
      await secured;
    }
    should(names).deepEqual(['localhost', false, 'localhost']);
  });
});
