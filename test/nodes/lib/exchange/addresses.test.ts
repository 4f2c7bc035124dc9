import { once } from 'node:events';
import rhea, { type EventContext } from 'rhea';
import should from 'should';
import { Broker } from '../../../../broker/broker';
import { Connection } from '../../../../nodes/lib/connection/connection';
import { addressesOf } from '../../../../nodes/lib/exchange/addresses';

describe('the addresses of a server', () => {
  const cleanups: (() => unknown)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
  });

  async function connect(product: string): Promise<{ broker: Broker; connection: Connection }> {
    const broker = await Broker.start({ properties: { product, version: '2.56.0' } });
    cleanups.push(() => broker.stop());
    const connection = new Connection({
      servers: [{ host: '127.0.0.1', port: broker.port }],
      containerId: 'client',
      connectTimeout: 5000,
      idleTimeout: 0,
      backoff: { initial: 10, max: 20 },
      loginBackoff: { initial: 10, max: 20 },
    });
    cleanups.push(() => connection.close());
    connection.open();
    while (connection.state.name !== 'connected') await once(connection, 'state');
    return { broker, connection };
  }

  /** Answers as Artemis does, whose answers have a list of results in JSON. */
  async function manage({ port }: Broker, body: string, succeeded = true): Promise<object[]> {
    const asked: object[] = [];
    const client = rhea.create_container().connect({ host: '127.0.0.1', port, reconnect: false });
    cleanups.push(() => client.close());
    client.on('disconnected', () => {});
    client.open_receiver('activemq.management');
    client.on('message', ({ message }: EventContext) => {
      asked.push({ ...message!.application_properties, body: message!.body });
      client.open_sender(message!.reply_to).send({
        correlation_id: message!.correlation_id,
        application_properties: { _AMQ_OperationSucceeded: succeeded },
        body,
      });
    });
    await once(client, 'receiver_open');
    return asked;
  }

  it('are those of Artemis, without its own and temporary ones', async () => {
    const { broker, connection } = await connect('apache-activemq-artemis');
    const names = ['orders', 'a', '$sys.x', 'activemq.notifications', '5b1c2d3e-0000-4000-8000-0123456789ab', 7];
    const asked = await manage(broker, JSON.stringify([names]));
    (await addressesOf(connection, 5000)).should.deepEqual(['a', 'orders']);
    asked.should.deepEqual([{ _AMQ_ResourceName: 'broker', _AMQ_OperationName: 'getAddressNames', body: '[]' }]);
  });

  for (const [what, body, succeeded] of [
    ['a refusal', '["AMQ229032: User: guest does not have permission"]', false],
    ['no list', '"orders"', true],
    ['no JSON', 'orders', true],
  ] as const) {
    it(`are not told by ${what}`, async () => {
      const { broker, connection } = await connect('apache-activemq-artemis');
      await manage(broker, body, succeeded);
      await addressesOf(connection, 5000).should.be.rejectedWith({ code: 'AMQP_BAD_INPUT' });
    });
  }

  it('are not asked of a server that does not tell them', async () => {
    const { broker, connection } = await connect('Embedded');
    await addressesOf(connection, 5000).should.be.rejectedWith({ code: 'AMQP_BAD_INPUT' });
    should(broker.received['activemq.management']).be.undefined();
  });

  it('are not waited for long', async () => {
    const { connection } = await connect('apache-activemq-artemis');
    await addressesOf(connection, 50).should.be.rejectedWith({ code: 'AMQP_REPLY_TIMEOUT' });
  });
});
