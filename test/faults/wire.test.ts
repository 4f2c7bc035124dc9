// Faults of the network, and of a peer that goes, is silent or lets nobody in.
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import should from 'should';
import { connected, inNodeRed, order, range, type Run, send, shows, sendOne, start, under } from './run';
import { secretOf } from '../secrets';

/** Both sides find out about a peer that is silent. */
const WATCHFUL = { isProxied: true, endpoint: { idletimeout: 0.4 }, broker: { idleTimeout: 300 } };

async function goneSilent({ proxy }: Run): Promise<void> {
  const found = shows('sender', 'the peer is gone or silent');
  proxy.silent = true;
  await found;
  proxy.silent = false;
}

describe('under faults of the network', () => {
  inNodeRed();

  const GONE: [settle: string, count: number][] = [
    ['arrival', 20_000],
    ['flow', 5000],
  ];
  for (const [settle, count] of GONE) {
    it(`nothing is lost when the broker is gone 20 times without a word, with settling ${settle}`, async () => {
      const run = await start({ receiver: { settle } });
      const { broker, ledger } = run;
      const gone = async (): Promise<void> => {
        await broker.stop();
        await broker.resume();
      };
      await under(gone, { to: ledger, count, times: 20 });
      ledger.check(`broker gone 20 times, settled ${settle}`).failed.should.equal(0);
      order(ledger).should.eql(range(0, count));
      run.connections.should.equal(21);
    });
  }

  const FULL: [full: string, failed: number[], kept: number[]][] = [
    ['refuse', range(1500, 3000), range(500, 1500)],
    ['drop', range(500, 2000), range(2000, 3000)],
  ];
  for (const [full, failed, kept] of FULL) {
    it(`a broker gone for longer than the buffer lasts costs what is above it, with "${full}"`, async () => {
      const { broker, ledger } = await start({ sender: { buffer: 1000, full } });
      await send(500, ledger);
      await ledger.settle();
      await broker.stop();
      await shows('sender', 'reason.refused');
      for (let i = 0; i < 2500; i++) sendOne(ledger);
      await ledger.until((of) => of.failed.size >= failed.length);
      await broker.resume();
      await ledger.settle();
      ledger.check(`buffer full, ${full}`);
      [...ledger.failed.keys()].should.eql(failed);
      [...new Set(ledger.failed.values())].should.eql(['AMQP_BUFFER_FULL']);
      order(ledger).should.eql([...range(0, 500), ...kept]);
    });
  }

  it('nothing is lost over TCP resets', async () => {
    const run = await start({ isProxied: true, receiver: { settle: 'flow' } });
    const { proxy, ledger } = run;
    await under(() => proxy.reset(), { to: ledger, count: 1500, times: 5 });
    ledger.check('TCP reset 5 times').failed.should.equal(0);
    order(ledger).should.eql(range(0, 1500));
    run.connections.should.equal(6);
  });

  it('a connection that is half open in mid load is found by its silence, and nothing is lost', async () => {
    const run = await start({ ...WATCHFUL, receiver: { settle: 'flow' } });
    const { ledger } = run;
    await under(() => goneSilent(run), { to: ledger, count: 1500, times: 2 });
    ledger.check('half open twice').failed.should.equal(0);
    run.connections.should.be.above(2);
  });

  it('a connection that is silent while there is nothing to send is found too', async () => {
    const run = await start(WATCHFUL);
    const { broker, ledger } = run;
    await send(100, ledger);
    await ledger.settle();
    // They are accepted one turn after they were counted.
    while (broker.depth('q') > 0) await once(broker, 'settled');
    await goneSilent(run);
    await send(100, ledger);
    await ledger.settle();
    ledger.check('silent while idle').should.match({ failed: 0, duplicated: 0 });
    run.connections.should.be.above(1);
  });

  it("heartbeats keep an idle connection open through many of the peer's short idle time-outs", async () => {
    const run = await start({ broker: { idleTimeout: 200 } });
    const { ledger } = run;
    await send(100, ledger);
    await ledger.settle();
    // Time is what is tested here: the broker gives up after two of its periods without a frame.
    await delay(1500);
    await send(100, ledger);
    await ledger.settle();
    ledger.check("peer's short idle time-out").should.match({ failed: 0, duplicated: 0 });
    run.connections.should.equal(1);
  });

  it('bytes that come one at a time are as good as others', async () => {
    const { proxy, ledger } = await start({ isProxied: true });
    proxy.dribbling = true;
    await send(200, ledger);
    await ledger.settle();
    ledger.check('1 byte at a time').should.match({ failed: 0, duplicated: 0 });
    order(ledger).should.eql(range(0, 200));
  });

  it('200 ms of latency cost time, and no message', async () => {
    const { proxy, ledger } = await start({
      isProxied: true,
      broker: { credit: 500 },
      receiver: { settle: 'flow', creditwindow: 500 },
    });
    proxy.latency = 200;
    await send(1000, ledger, { atOnce: 1000 });
    await ledger.settle();
    ledger.check('200 ms latency').should.match({ failed: 0, duplicated: 0 });
    order(ledger).should.eql(range(0, 1000));
  });

  // In good order it is no fault, unless it happens again within seconds.
  const CLOSES: [name: string, error: object, ...told: string[]][] = [
    ['forced', { condition: 'amqp:connection:forced' }, 'connecting', 'amqp:connection:forced'],
    ['with an internal error', { condition: 'amqp:internal-error' }, 'amqp:internal-error'],
    ['cleanly', {}, 'connecting', 'closed by the peer'],
  ];
  for (const [name, error, ...told] of CLOSES) {
    it(`nothing is lost when the peer closes the connection ${name}`, async () => {
      const run = await start({ receiver: { settle: 'flow' } });
      const { broker, ledger } = run;
      const close = async (): Promise<void> => {
        const reason = Promise.race(told.map((text) => shows('sender', text)));
        broker.closeConnections(error);
        await reason;
      };
      await under(close, { to: ledger, count: 1500, times: 5 });
      ledger.check(`connection closed ${name} 5 times`).failed.should.equal(0);
      order(ledger).should.eql(range(0, 1500));
      run.connections.should.equal(6);
    });
  }

  it('messages wait while the login is refused, until the password is right again', async () => {
    const { broker, ledger } = await start({
      broker: { users: { me: secretOf('password') }, anonymous: false },
      credentials: { broker: { user: 'me', pass: secretOf('password') } },
      receiver: { settle: 'flow' },
    });
    const changed = async (): Promise<void> => {
      broker.users = { me: 'wrong' };
      broker.dropSockets();
      await shows('sender', 'login refused');
      for (let i = 0; i < 500; i++) sendOne(ledger);
      broker.users = { me: secretOf('password') };
      await connected('sender');
    };
    await under(changed, { to: ledger, count: 2000 });
    ledger.check('password changed').should.match({ sent: 2500, failed: 0 });
    order(ledger).should.eql(range(0, 2500));
    should(await shows('receiver', 'status.connected')).match({ fill: 'green' });
  });
});
