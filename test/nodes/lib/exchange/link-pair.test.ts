import { once } from 'node:events';
import type { EventContext } from 'rhea';
import should from 'should';
import { Connection } from '../../../../nodes/lib/connection/connection';
import { LinkPair } from '../../../../nodes/lib/exchange/link-pair';
import { Broker, type BrokerOptions } from '../../../../broker/broker';

const NODE = {
  address: '/management',
  own: '/management',
  names: ['management', 'management'],
  attach: { snd_settle_mode: 1, properties: { paired: true } },
  isSettled: true,
  timeout: 5000,
} as const;

describe('a link pair', () => {
  let broker: Broker;
  let connection: Connection;

  async function open(options: BrokerOptions): Promise<void> {
    broker = await Broker.start(options);
    const backoff = { initial: 10, max: 10 };
    connection = new Connection({
      servers: [{ host: '127.0.0.1', port: broker.port }],
      containerId: 'client',
      connectTimeout: 5000,
      idleTimeout: 0,
      backoff,
      loginBackoff: backoff,
    });
    connection.open();
    while (connection.state.name !== 'connected') await once(connection, 'state');
  }

  afterEach(async () => {
    await connection.close();
    await broker.stop();
  });

  const renewal = { message_id: 'a', to: '/auth/tokens', subject: 'PUT', reply_to: '$me' };

  it('asks one question after another, and gives each answer', async () => {
    await open({ tokenRenewal: true, tokens: new Set(['token']) });
    const pair = await LinkPair.open(connection, NODE);
    for (const id of ['a', 'b', 'c']) {
      const answer = await pair.ask({ ...renewal, message_id: id }, Buffer.from('token'));
      should(answer.fields).match({ subject: '204', correlation_id: id });
    }
    pair.close();
    should(pair.isOver).equal(true);
  });

  it('is not there where the peer does not take its links', async () => {
    await open({ mustExist: true });
    const refused = { code: 'AMQP_LINK_REFUSED', condition: 'amqp:not-found' };
    // Again and again on the same connection: what is written behind the end of a session would end it.
    for (let times = 0; times < 3; times++) await should(LinkPair.open(connection, NODE)).be.rejectedWith(refused);
    should(broker.connections()).equal(1);
  });

  it('is not there without a connection', async () => {
    await open({});
    await connection.close();
    await should(LinkPair.open(connection, NODE)).be.rejectedWith({ code: 'AMQP_DISCONNECTED' });
  });

  it('fails a question that is not answered in time', async () => {
    await open({});
    broker.answer('/management', 'none', 1);
    const pair = await LinkPair.open(connection, { ...NODE, timeout: 50 });
    await should(pair.ask(renewal, 'x')).be.rejectedWith({ code: 'AMQP_LINK_DETACHED', message: /does not answer/ });
    pair.close();
  });

  it('does not take an answer that comes late for that of the next question', async () => {
    await open({ management: true });
    broker.answer('/management', 'none', 2);
    const pair = await LinkPair.open(connection, { ...NODE, timeout: 200 });
    const question = { to: '/queues/a', subject: 'GET', reply_to: '$me' };
    await should(pair.ask({ ...question, message_id: 'early' }, null)).be.rejected();
    const arrived = once(broker, 'answer');
    const asked = pair.ask({ ...question, message_id: 'now' }, null);
    await arrived;
    broker.put('/management', { correlation_id: 'early', body: 'late' });
    broker.put('/management', { correlation_id: 'now', body: 'right' });
    should((await asked).body!.content).equal('right');
    pair.close();
  });

  it('fails a question over an answer that cannot be decoded, and goes on', async () => {
    await open({ management: true });
    broker.answer('/management', 'none', 1);
    const pair = await LinkPair.open(connection, NODE);
    const question = { message_id: 'a', to: '/queues/a', subject: 'GET', reply_to: '$me' };
    const arrived = once(broker, 'answer');
    const asked = pair.ask(question, null);
    await arrived;
    broker.put('/management', Buffer.from('005377ff', 'hex'));
    await should(asked).be.rejectedWith({ code: 'AMQP_DECODE' });
    should((await pair.ask(question, null)).fields).match({ subject: '404' });
    pair.close();
  });

  it('tells when it is over, and why', async () => {
    await open({ management: true });
    const pair = await LinkPair.open(connection, NODE);
    const over = once(pair.over, 'abort');
    broker.detach('/management', { condition: 'app:why' });
    await over;
    should(pair.loss).match({ code: 'AMQP_LINK_REFUSED', condition: 'app:why' });
    pair.close();
  });

  it('fails a question when the connection is lost, and all later ones', async () => {
    await open({});
    const pair = await LinkPair.open(connection, NODE);
    broker.answer('/management', 'none', 1);
    const asked = pair.ask(renewal, 'x');
    broker.dropSockets();
    await should(asked).be.rejectedWith({ code: 'AMQP_LINK_DETACHED' });
    should(pair.isOver).equal(true);
    await should(pair.ask(renewal, 'x')).be.rejectedWith({ code: 'AMQP_LINK_DETACHED' });
    pair.close();
  });

  it('tells why the peer has ended its session', async () => {
    await open({});
    broker['container'].on('message', ({ session }: EventContext) =>
      session!.close({ condition: 'amqp:internal-error', description: 'function_clause' }),
    );
    const pair = await LinkPair.open(connection, NODE);
    const why = { condition: 'amqp:internal-error', description: 'function_clause' };
    await should(pair.ask({ ...renewal, subject: 'NONSENSE' }, 'x')).be.rejectedWith(why);
    should(connection.state.name).equal('connected');
    pair.close();
  });
});
