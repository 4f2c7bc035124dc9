import { once } from 'node:events';
import * as net from 'node:net';
import should from 'should';
import { type Account, accountOf } from '../../../../nodes/lib/auth/accounts';
import { amqpError } from '../../../../nodes/lib/errors';
import { Entry } from '../../../../nodes/lib/link/entry';
import { Listener, type ListenerOptions, type ClientNote } from '../../../../nodes/lib/listen/listener';
import type { Sender } from '../../../../nodes/lib/sender/sender';
import type { State } from '../../../../nodes/lib/state';
import { freePort } from '../../../../scripts/free-port';
import { connectTo, receiver } from '../../../broker/client';
import { takeFrom } from '../../../listen';
import { secretOf } from '../../../secrets';

describe('a listener', () => {
  let port: number;
  let listener: Listener;
  let states: State['name'][];
  let account: Account;
  const all: Listener[] = [];

  before(async () => {
    account = await accountOf('user', secretOf('password'));
  });
  beforeEach(async () => {
    port = await freePort();
  });
  afterEach(async () => {
    await Promise.all(all.splice(0).map((one) => one.close()));
  });

  function make(options: Partial<ListenerOptions> = {}): Listener {
    listener = new Listener({
      host: '127.0.0.1',
      port,
      accounts: [],
      allowsAnonymous: true,
      takesCertificates: false,
      maxClients: 10,
      maxLinks: 10,
      maxMemory: 2 ** 20,
      idleTimeout: 0,
      connectTimeout: 1000,
      backoff: { initial: 10, max: 10 },
      containerId: 'server',
      ...options,
    });
    all.push(listener);
    states = [];
    listener.on('state', ({ name }) => void states.push(name));
    return listener;
  }

  async function until(name: State['name'], one = listener): Promise<void> {
    while (one.state.name !== name) await once(one, 'state');
  }

  it('listens once it is opened, and not any more once it is closed', async () => {
    make();
    listener.open();
    listener.open();
    await until('listening');
    const connection = await connectTo(port);
    const closed = once(connection, 'connection_error');
    await listener.close();
    await closed;
    should(states).eql(['listening', 'listening', 'idle']);
    await connectTo(port).should.be.rejected();
  });

  it('finds a port of its own where it is given none', async () => {
    make({ port: 0 });
    listener.open();
    await until('listening');
    should(listener.port).be.above(0);
    (await connectTo(listener.port)).close();
  });

  it('says what is wrong with its options once, and does nothing', async () => {
    const fault = amqpError('AMQP_CONFIG.listens');
    make({ fault });
    for (let time = 0; time < 3; time++) listener.open();
    should(listener.state).eql({ name: 'fault', error: fault });
    should(states).eql(['fault']);
  });

  it('tries a port again that is taken, until it is closed', async () => {
    const other = net.createServer().listen(port, '127.0.0.1');
    await once(other, 'listening');
    make();
    listener.open();
    await until('disconnected');
    should((listener.state as { error: Error }).error.message).match(
      new RegExp(`cannot listen on port ${port}: another program uses the port`),
    );
    should(states.length).equal(1);
    other.close();
    await once(other, 'close');
    await until('listening');
  });

  it('gives up such a port when it is closed meanwhile', async () => {
    const other = net.createServer().listen(port, '127.0.0.1');
    await once(other, 'listening');
    make();
    listener.open();
    await until('disconnected');
    await listener.close();
    should(listener.state.name).equal('idle');
    other.close();
    await once(other, 'close');
  });

  it('stays disconnected until it is told to connect', async () => {
    make();
    listener.open();
    await until('listening');
    await listener.disconnect();
    listener.open();
    should(listener.state.name).equal('idle');
    listener.connect();
    await until('listening');
  });

  it('listens when it is told to connect right after disconnect', async () => {
    make();
    listener.open();
    await until('listening');
    const connection = await connectTo(port);
    connection.on('connection_error', () => {});
    const disconnecting = listener.disconnect();
    listener.connect();
    await disconnecting;
    await until('listening');
    (await connectTo(port)).close();
    should(listener.state.name).equal('listening');
  });

  it('tells of the logins from one place that fail no more than once a minute', async () => {
    make({ accounts: [account], allowsAnonymous: false });
    const notes: ClientNote[] = [];
    listener.on('note', (note) => void notes.push(note));
    listener.open();
    await until('listening');
    await Promise.all(
      ['one', 'two', 'three'].map((username) => connectTo(port, { username, password: 'wrong' }).catch(() => {})),
    );
    should(notes.length).equal(1);
    should(notes[0]).match({ name: 'login-refused', from: '127.0.0.1' });
  });

  it('takes no more connections than it may', async () => {
    make({ maxClients: 2 });
    listener.open();
    await until('listening');
    const connections = [await connectTo(port), await connectTo(port)];
    await connectTo(port).should.be.rejected();
    for (const one of connections) one.close();
  });

  describe('has senders, which', () => {
    const options = {
      name: 's',
      guarantee: 'at-least-once',
      buffer: 10,
      bufferBytes: Infinity,
      full: 'refuse',
      retryTime: 1000,
      timeout: 0,
    } as const;
    let sender: Sender;
    afterEach(() => sender.close(0));

    function put(address?: string, bytes = Buffer.from([0, 0x53, 0x77, 0x40])): Promise<Error | undefined> {
      return new Promise((resolve) => sender.send(new Entry(bytes, resolve, { address })));
    }

    it('fail a message for an address that was made for a client which is gone', async () => {
      make();
      sender = listener.sender(options);
      sender.open();
      await until('listening');
      const connection = await connectTo(port);
      const link = await receiver(connection, { dynamic: true });
      const address = link.source.address;
      const waiting = put(address);
      connection.close();
      should((await waiting)!.message).match(/is gone/);
      should((await put(address))!.message).match(/is gone/);
      should((await put('temporary/never'))!.message).match(/is gone/);
      should(listener.fed).equal(0);
    });

    it('count nothing as on its way that a client is too small for', async () => {
      make();
      sender = listener.sender({ ...options, address: 'q' });
      sender.open();
      await until('listening');
      const link = await receiver(await connectTo(port), 'q', { max_message_size: 10 });
      link.add_credit(10);
      should((await put(undefined, Buffer.alloc(20)))!.message).match(/10/);
      const taken = takeFrom(link, 1);
      should(await put()).be.undefined();
      await taken;
      should((sender as unknown as { size: number }).size).equal(0);
      link.connection.close();
    });

    it('keep each of many addresses only for as long as there is something for it', async () => {
      make();
      sender = listener.sender(options);
      sender.open();
      await until('listening');
      const connection = await connectTo(port);
      const links = [];
      for (let n = 0; n < 4; n++) links.push(await receiver(connection, { dynamic: true }));
      const taken = Promise.all(links.map((link) => takeFrom(link, 1)));
      // At the same time.
      should(await Promise.all(links.map((link) => put(link.source.address)))).eql(Array(4).fill(undefined));
      await taken;
      const closed = once(connection, 'connection_close');
      connection.close();
      await closed;
      while (listener.state.name === 'listening' && listener.state.count > 0) await once(listener, 'state');
      should(listener.fed).equal(0);
    });
  });
});
