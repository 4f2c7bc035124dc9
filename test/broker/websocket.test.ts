import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import path from 'node:path';
import rhea, { type Connection } from 'rhea';
import should from 'should';
import { type ClientOptions, type RawData, WebSocket } from 'ws';
import { Broker, type BrokerOptions } from '../../broker/broker';
import { connectTo, first, receiver, send, sender, take } from './client';

const fixture = (name: string) => readFileSync(path.join(__dirname, '..', 'fixtures', name));

let broker: Broker;
const start = async (options: BrokerOptions = {}) => (broker = await Broker.start({ websocket: true, ...options }));

/** How rhea gets to the broker by WebSocket. */
function webSocketTo(url: string, protocol: string, options: ClientOptions): unknown {
  // its typings know the WebSocket of browsers only
  const open = rhea.websocket_connect(WebSocket) as (...args: unknown[]) => unknown;
  return open(url, [protocol], options);
}

const connect = (protocol = 'amqp', options: ClientOptions = {}, url = broker.url) =>
  connectTo(broker.port, { connection_details: webSocketTo(url, protocol, options) });

/** What the server answers in place of the upgrade. */
async function refusal(options: ClientOptions = {}): Promise<IncomingMessage & { body: string }> {
  const [, response] = (await once(new WebSocket(broker.url, ['amqp'], options), 'unexpected-response')) as [
    unknown,
    IncomingMessage,
  ];
  const chunks: Buffer[] = await response.toArray();
  return Object.assign(response, { body: String(Buffer.concat(chunks)) });
}

/** The sizes of the first messages that the server sends, until there are so many bytes. */
async function sizes(total: number): Promise<number[]> {
  const socket = new WebSocket(broker.url, ['amqp']);
  await once(socket, 'open');
  const received: number[] = [];
  await new Promise<void>((resolve) => {
    socket.on('message', (data: RawData) => {
      received.push((data as Buffer).length);
      if (received.reduce((sum, size) => sum + size, 0) >= total) resolve();
    });
    // the header of SASL, and with it the mechanisms
    socket.send(Buffer.from('AMQP\x03\x01\x00\x00', 'latin1'));
  });
  socket.terminate();
  await once(socket, 'close');
  return received;
}

/** A message of 20000 bytes there and back. */
async function roundTrip(client: Connection): Promise<void> {
  const body = 'long '.repeat(4000);
  (await send(await sender(client, 'q'), { body })).should.equal('accepted');
  const { message, delivery } = await take(await receiver(client, 'q'));
  message.body.should.equal(body);
  const settled = once(broker, 'settled');
  delivery.accept();
  await settled;
}

describe('embedded broker, WebSocket', () => {
  afterEach(() => broker.stop());

  it('carries AMQP, and tells what was asked for', async () => {
    await start();
    for (const protocol of ['amqp', 'AMQPWSB10']) {
      await roundTrip(await connect(protocol, { headers: { 'X-Tenant': 'a' } }, `${broker.url}/amqp?a=b`));
    }
    broker.upgrades.should.match([
      { path: '/amqp?a=b', headers: { 'x-tenant': 'a' }, protocols: ['amqp'], protocol: 'amqp', status: 101 },
      { protocol: 'AMQPWSB10' },
    ]);
    broker.logins.should.match([{ mechanism: 'ANONYMOUS' }, { mechanism: 'ANONYMOUS' }]);
    broker.connections().should.equal(2);
  });

  it('is closed by either side', async () => {
    await start();
    let client = await connect();
    const gone = once(broker, 'detach');
    await sender(client, 'q');
    client.close();
    await gone;
    await first(client, 'connection_close', 'disconnected');
    broker.connections().should.equal(0);

    client = await connect();
    const closed = first(client, 'connection_close');
    broker.closeConnections({ condition: 'amqp:connection:forced' });
    await closed.should.be.rejectedWith({ condition: 'amqp:connection:forced' });

    client = await connect();
    const lost = first(client, 'disconnected');
    broker.dropSockets();
    await lost;
  });

  it('has the path and the sub-protocols that it is given', async () => {
    await start({ websocket: { path: '/amqp', protocols: ['AMQPWSB10'] } });
    broker.url.should.endWith('/amqp');
    await connect('AMQPWSB10');
    await connect('amqp').should.be.rejected();
    broker.upgrades[1]!.should.not.have.property('protocol');
    await connect('AMQPWSB10', {}, broker.url.replace('amqp', 'other')).should.be.rejected();
    broker.upgrades[2]!.status.should.equal(404);
  });

  it('cuts or joins what it writes, or sends it in small frames', async () => {
    await start();
    const [header, mechanisms, ...others] = await sizes(9);
    should(header).equal(8);
    others.should.be.empty();
    const total = header! + mechanisms!;
    for (const websocket of [{ cut: 7 }, { join: true }, { fragment: 5 }, { join: true, cut: 100, fragment: 30 }]) {
      await broker.stop();
      await start({ websocket });
      if (websocket.join) (await sizes(total)).should.eql([total]);
      else if (websocket.cut) (await sizes(total)).slice(0, 3).should.eql([7, 1, 7]);
      else (await sizes(total)).should.eql([header, mechanisms]);
      await roundTrip(await connect());
    }
  });

  it('refuses upgrades with any answer', async () => {
    await start();
    broker.refuseUpgrades = { status: 403 };
    (await refusal()).statusCode!.should.equal(403);
    broker.refuseUpgrades = { status: 200, body: '<html>a portal</html>' };
    (await refusal()).should.match({ statusCode: 200, body: /portal/, headers: { 'content-type': 'text/html' } });
    broker.refuseUpgrades = undefined;
    await connect();
    broker.upgrades.map(({ status }) => status).should.eql([403, 200, 101]);
  });

  it('asks for a token, and ends the connection with it', async () => {
    await start({ websocket: { bearer: true }, tokens: new Map([['good', 100]]) });
    const { statusCode, headers } = await refusal();
    should(statusCode).equal(401);
    headers['www-authenticate']!.should.equal('Bearer');
    await refusal({ headers: { Authorization: 'Bearer bad' } });
    const client = await connect('amqp', { headers: { Authorization: 'Bearer good' } });
    await first(client, 'connection_close').should.be.rejectedWith({ condition: 'amqp:unauthorized-access' });
  });

  it('goes over TLS, with client certificates', async () => {
    const server = { key: fixture('server.key'), cert: fixture('server.crt'), ca: fixture('ca.crt') };
    await start({ tls: { ...server, requestCert: true, rejectUnauthorized: false }, mechanisms: ['EXTERNAL'] });
    broker.url.should.startWith('wss://');
    const own = { ca: fixture('ca.crt'), key: fixture('client.key'), cert: fixture('client.crt') };
    const sasl_mechanisms = {
      EXTERNAL: { start: (done: (error: undefined, response: string) => void) => done(undefined, '') },
    };
    const client = await connectTo(broker.port, {
      connection_details: webSocketTo(broker.url, 'amqp', own),
      sasl_mechanisms,
    });
    broker.logins.should.match([{ mechanism: 'EXTERNAL', user: 'client' }]);
    await roundTrip(client);
  });

  it('leaves nothing open, whatever state clients are in', async () => {
    await start({ idleTimeout: 1000 });
    const client = await connect();
    const silent = new WebSocket(broker.url, ['amqp']);
    await once(silent, 'open');
    const lost = [first(client, 'disconnected'), once(silent, 'close')];
    await broker.stop();
    await Promise.all(lost);
    await broker.resume();
    await connect();
  });
});
