import { once } from 'node:events';
import should from 'should';
import { Connection } from '../../../../nodes/lib/connection/connection';
import { CoordinatorLink } from '../../../../nodes/lib/link/coordinator-link';
import { SharedSession } from '../../../../nodes/lib/link/shared-session';
import { Broker, type BrokerOptions, COORDINATOR } from '../../../../broker/broker';

describe('a link to what coordinates transactions', () => {
  let broker: Broker;
  let connection: Connection;
  let session: SharedSession;
  let link: CoordinatorLink;

  async function open(options: BrokerOptions = {}, state = 'connected'): Promise<void> {
    broker = await Broker.start({ transactions: true, ...options });
    const backoff = { initial: 10, max: 10 };
    connection = new Connection({
      servers: [{ host: '127.0.0.1', port: broker.port }],
      containerId: 'client',
      connectTimeout: 5000,
      idleTimeout: 0,
      backoff,
      loginBackoff: backoff,
    });
    session = new SharedSession();
    link = new CoordinatorLink(connection, 'transactions', session);
    link.open();
    connection.open();
    await reached(state);
  }

  afterEach(async () => {
    await link.close();
    session.end();
    await connection.close();
    await broker.stop();
  });

  async function reached(state: string): Promise<void> {
    while (link.state.name !== state) await once(link, 'state');
  }

  it('begins transactions, commits them and rolls them back', async () => {
    await open();
    const [one, other] = await Promise.all([link.declare(), link.declare()]);
    should(one.equals(other)).equal(false);
    should(broker.transactions.size).equal(2);
    await Promise.all([link.discharge(one, false), link.discharge(other, true)]);
    should(broker.transactions).match({ size: 0, steps: ['declare', 'declare', 'commit', 'rollback'] });
  });

  it('asks as many questions at a time as the peer gives it credit for', async () => {
    await open({ credit: 1 });
    broker.transactions.answer('declare', 'done');
    const ids = await Promise.all(Array.from({ length: 20 }, () => link.declare()));
    should(new Set(ids.map(String)).size).equal(20);
    should(link.state.name).equal('connected');
  });

  it('waits for credit', async () => {
    await open();
    broker.holdCredit(COORDINATOR);
    broker.giveCredit(COORDINATOR, 1);
    await link.declare();
    const later = Promise.all([link.declare(), link.declare()]);
    await new Promise((resolve) => setTimeout(resolve, 20));
    should(broker.transactions.steps).have.length(1);
    broker.giveCredit(COORDINATOR, 1);
    while (broker.transactions.steps.length < 2) await new Promise(setImmediate);
    await new Promise((resolve) => setTimeout(resolve, 20));
    should(broker.transactions.steps).have.length(2);
    broker.giveCredit(COORDINATOR);
    await later;
  });

  it('tells why the peer begins no transaction', async () => {
    await open();
    broker.transactions.answer('declare', { condition: 'amqp:resource-limit-exceeded', description: 'too many' }, 1);
    const refused = { code: 'AMQP_TRANSACTION', condition: 'amqp:resource-limit-exceeded', description: 'too many' };
    await should(link.declare()).be.rejectedWith(refused);
    await link.declare();
  });

  it('takes ids that are longer than they may be, within reason', async () => {
    await open();
    broker.transactions.idSize = 200;
    const id = await link.declare();
    should(id).have.length(200);
    await link.discharge(id, false);
    broker.transactions.idSize = 201;
    await should(link.declare()).be.rejectedWith({ code: 'AMQP_TRANSACTION' });
  });

  it('tells why the peer does not commit, as for a transaction that it does not know', async () => {
    await open();
    broker.transactions.answer('commit', { condition: 'amqp:transaction:rollback' }, 1);
    const id = await link.declare();
    const refused = { code: 'AMQP_TRANSACTION', condition: 'amqp:transaction:rollback' };
    await should(link.discharge(id, false)).be.rejectedWith(refused);
    const unknown = { code: 'AMQP_TRANSACTION', condition: 'amqp:transaction:unknown-id' };
    await should(link.discharge(id, false)).be.rejectedWith(unknown);
  });

  it('is refused by a peer that has no transactions', async () => {
    await open({ transactions: false }, 'refused');
    should(link.state).match({ error: { code: 'AMQP_LINK_REFUSED', condition: 'amqp:not-implemented' } });
  });

  it('asks nothing while it is not attached, and waits while it is being attached', async () => {
    await open();
    await connection.close();
    await should(link.declare()).be.rejectedWith({ code: 'AMQP_DISCONNECTED' });
    await should(link.discharge(Buffer.of(1), false)).be.rejectedWith({ code: 'AMQP_DISCONNECTED' });
    connection.open();
    await reached('connected');
  });

  for (const turn of ['drop', 'done-drop', 'end'] as const) {
    it(`is in doubt of a commit when the peer comes to "${turn}" instead of an answer`, async () => {
      await open();
      broker.transactions.answer('commit', turn, 1);
      const id = await link.declare();
      await should(link.discharge(id, false)).be.rejectedWith({ code: 'AMQP_IN_DOUBT' });
      await reached('connected');
      await link.declare();
    });
  }

  it('ends what waits for credit or an answer when it is closed', async () => {
    await open();
    broker.transactions.answer('declare', 'none', 1);
    const unanswered = should(link.declare()).be.rejectedWith({ code: 'AMQP_IN_DOUBT' });
    while (broker.transactions.steps.length < 1) await new Promise(setImmediate);
    broker.holdCredit(COORDINATOR);
    await new Promise((resolve) => setTimeout(resolve, 20));
    const unasked = should(link.declare()).be.rejectedWith({ code: 'AMQP_DISCONNECTED' });
    await link.close();
    await Promise.all([unanswered, unasked]);
  });

  it('does not wait for credit or an answer for ever', async () => {
    await open();
    broker.transactions.answer('declare', 'none', 1);
    const quick = new CoordinatorLink(connection, 'quick', session, 50);
    quick.open();
    while (quick.state.name !== 'connected') await once(quick, 'state');
    await should(quick.declare()).be.rejectedWith({ code: 'AMQP_IN_DOUBT' });
    broker.holdCredit(COORDINATOR);
    await new Promise((resolve) => setTimeout(resolve, 20));
    await should(quick.declare()).be.rejectedWith({ code: 'AMQP_TIMEOUT' });
    broker.giveCredit(COORDINATOR);
    await quick.declare();
    await quick.close();
  });
});
