import type { Socket } from 'node:net';
import rhea from 'rhea';
import should from 'should';
import { Broker, type BrokerOptions } from '../../broker/broker';
import { begin, connectTo, first, receiver, sender } from './client';

let broker: Broker;
const start = async (options?: BrokerOptions) => (broker = await Broker.start(options));

const ELSEWHERE = { 'network-host': '127.0.0.2', hostname: 'b.example', port: 5673, scheme: 'amqp', path: '/amqp' };

describe('embedded broker, other servers', () => {
  afterEach(() => broker.stop());

  it('names them in its open, beside what it says of itself', async () => {
    const failoverServers = [ELSEWHERE, { hostname: 'c.example', port: '5674' }];
    await start({ properties: { product: 'double' }, failoverServers });
    const { properties } = await connectTo(broker.port);
    should(properties).eql({ product: 'double', 'failover-server-list': failoverServers });
  });

  it('sends connections to another one, until that is over', async () => {
    await start();
    broker.redirect = ELSEWHERE;
    const connection = rhea.create_container().connect({ host: '127.0.0.1', port: broker.port, reconnect: false });
    const opened = first(connection, 'connection_open', 'connection_close');
    const closed = first(connection, 'connection_close', 'connection_error');
    const bytes: Buffer[] = [];
    (connection as unknown as { socket: Socket }).socket.on('data', (chunk: Buffer) => bytes.push(chunk));
    await opened;
    const { error } = (await closed).connection as unknown as { error: unknown };
    JSON.parse(JSON.stringify(error)).should.eql({ condition: 'amqp:connection:redirect', info: ELSEWHERE });
    Buffer.concat(bytes).includes('\xa3\x0cnetwork-host', 0, 'latin1').should.be.true(); // a symbol, as specified
    broker.redirect = undefined;
    await connectTo(broker.port);
  });

  it('sends links to another one, with null for the terminus', async () => {
    await start();
    broker.redirectLink('q', { ...ELSEWHERE, address: 'q2' });
    const client = await connectTo(broker.port);
    await sender(client, 'q').should.be.rejectedWith({ condition: 'amqp:link:redirect' });
    const link = begin(client).open_receiver('q');
    await first(link, 'receiver_error');
    JSON.parse(JSON.stringify(link.error)).should.match({
      condition: 'amqp:link:redirect',
      info: { ...ELSEWHERE, address: 'q2' },
    });
    broker.allow('q');
    await receiver(client, 'q');
  });
});
