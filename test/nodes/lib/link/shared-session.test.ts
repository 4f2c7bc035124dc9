import { once } from 'node:events';
import should from 'should';
import { Connection } from '../../../../nodes/lib/connection/connection';
import { SharedSession } from '../../../../nodes/lib/link/shared-session';
import { Broker } from '../../../../broker/broker';

describe('a shared session', () => {
  let broker: Broker;
  let connection: Connection;
  let shared: SharedSession;

  beforeEach(async () => {
    broker = await Broker.start();
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
    await connected();
    shared = new SharedSession();
  });
  afterEach(async () => {
    await connection.close();
    await broker.stop();
  });

  async function connected(): Promise<void> {
    while (connection.state.name !== 'connected') await once(connection, 'state');
  }

  const lease = () => shared.lease(connection, connection.wire!)!;

  it('is one and the same for all that ask for it, and none of them is to end it', () => {
    const first = lease();
    should(first.isShared).equal(true);
    should(lease().session).equal(first.session);
    shared.end();
  });

  it('is another one once it has ended', async () => {
    const { session } = lease();
    await once(session, 'open');
    const ended = once(session, 'end');
    shared.end();
    await ended;
    should(lease().session).not.equal(session);
    shared.end();
  });

  it('is another one on the next connection', async () => {
    const { session } = lease();
    broker.dropSockets();
    while (connection.state.name === 'connected') await once(connection, 'state');
    await connected();
    should(lease().session).not.equal(session);
    shared.end();
  });

  it('ends for nothing where there is none, or its connection is gone', async () => {
    shared.end();
    lease();
    await connection.close();
    shared.end();
  });
});
