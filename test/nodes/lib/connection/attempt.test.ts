import { once } from 'node:events';
import net from 'node:net';
import rhea, { type Connection, type Container, type EventContext } from 'rhea';
import should from 'should';
import { Attempt, type AttemptOptions, type End } from '../../../../nodes/lib/connection/attempt';
import type { Wire } from '../../../../nodes/lib/wire/wire';
import { secretIn, secretOf } from '../../../secrets';

describe('an attempt', () => {
  const cleanups: (() => unknown)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
  });

  async function portOf(server: net.Server): Promise<number> {
    cleanups.push(() => new Promise((resolve) => server.close(resolve)));
    if (!server.listening) await once(server, 'listening');
    return (server.address() as net.AddressInfo).port;
  }

  /** A peer that opens, and then does as `habit` says. */
  async function peer(habit: (connection: Connection) => void = () => {}, options: object = {}) {
    const container: Container = rhea.create_container();
    for (const event of ['connection_close', 'disconnected', 'error']) container.on(event, () => {});
    container.on('connection_open', ({ connection }: EventContext) => habit(connection));
    const port = await portOf(container.listen({ port: 0, host: '127.0.0.1', ...options }));
    return { container, port };
  }

  /** A server that takes the connection and says nothing. */
  async function silent(): Promise<{ port: number; socket: Promise<net.Socket> }> {
    const server = net.createServer((socket) => void socket.on('error', () => {}).resume());
    const socket = once(server, 'connection').then(([one]) => one as net.Socket);
    server.listen(0, '127.0.0.1');
    return { port: await portOf(server), socket };
  }

  function start(options: Partial<AttemptOptions>, onOpened: () => void = () => {}, secrets: string[] = []) {
    const faults: unknown[] = [];
    let open!: (wire: Wire) => void;
    const opened = new Promise<Wire>((resolve) => (open = resolve));
    const attempt = new Attempt(
      { host: '127.0.0.1', port: 0, containerId: 'client', connectTimeout: 5000, idleTimeout: 0, ...options },
      {
        opened: (wire) => {
          open(wire);
          onOpened();
        },
        fault: (error) => faults.push(error),
        secrets: () => secrets,
      },
    );
    cleanups.push(() => attempt.close());
    return { attempt, opened, ended: attempt.ended, faults };
  }

  /** How an attempt ends that must not open. */
  const unopened = (options: Partial<AttemptOptions>): Promise<End> =>
    start(options, () => should.fail('opened', 'not opened')).ended;

  it('hands over a wire once the peer has opened', async () => {
    const { port } = await peer(undefined, { properties: { product: 'peer' } });
    const { opened } = start({ port });
    should((await opened).opened.product).have.property('name', 'peer');
  });

  it('says who it is, and which capability it would make use of', async () => {
    const { container, port } = await peer();
    const opening = once(container, 'connection_open') as Promise<[EventContext]>;
    start({ port, properties: { product: 'nodes', version: '1' } });
    const [{ connection }] = await opening;
    const { properties, desired_capabilities: desired } = connection as unknown as Record<string, unknown>;
    should({ properties, desired }).deepEqual({
      properties: { product: 'nodes', version: '1' },
      desired: ['ANONYMOUS-RELAY'],
    });
  });

  for (const [what, error, isOrderly] of [
    ['without an error in good order', undefined, true],
    ['by force, as for a restart, in good order', { condition: 'amqp:connection:forced' }, true],
    ['with another error not in good order', { condition: 'amqp:internal-error', description: 'broken' }, false],
  ] as const) {
    it(`that the peer closes ${what} has ended`, async () => {
      const { container, port } = await peer();
      const opening = once(container, 'connection_open') as Promise<[EventContext]>;
      const { opened, ended } = start({ port });
      const [{ connection }] = await opening;
      await opened;
      connection.close(error);
      const end = await ended;
      should(end).match({ wasOpen: true, isOrderly, error: { code: 'AMQP_DISCONNECTED', ...error } });
      should(end.openFor).be.aboveOrEqual(0);
    });
  }

  it('says that it lost a peer that goes without a word', async () => {
    const { container, port } = await peer();
    const opening = once(container, 'connection_open') as Promise<[EventContext]>;
    const { opened, ended } = start({ port });
    const [{ connection }] = await opening;
    await opened;
    (connection as unknown as { socket: net.Socket }).socket.destroy();
    should(await ended).match({ wasOpen: true, isOrderly: false, error: { code: 'AMQP_DISCONNECTED' } });
  });

  describe('to a peer that opens only to close', () => {
    for (const [what, error, expected] of [
      ['as a refused login', { condition: 'amqp:unauthorized-access' }, { code: 'AMQP_AUTH' }],
      [
        'as a client ID in use',
        { condition: 'amqp:invalid-field', description: 'client is already connected' },
        { code: 'AMQP_CONNECT', diagnosis: 'client-id', message: /another client uses the client ID client/ },
      ],
      [
        'as a failure in the words of the peer',
        { condition: 'amqp:not-found', description: 'no such host' },
        { code: 'AMQP_CONNECT', condition: 'amqp:not-found', description: 'no such host' },
      ],
    ] as const) {
      it(`ends ${what}, and never opens`, async () => {
        const { port } = await peer((connection) => connection.close(error));
        should(await unopened({ port })).match({ wasOpen: false, openFor: 0, isOrderly: false, error: expected });
      });
    }
  });

  it('does not repeat what the peer was told in confidence', async () => {
    const description = `no such token: {badarg,[<<"${secretOf('token')}">>]}`;
    const info = { token: secretOf('token') };
    const { port } = await peer((connection) =>
      connection.close({ condition: 'amqp:internal-error', description, info }),
    );
    const { ended } = start({ port }, undefined, [secretOf('token')]);
    const { error } = await ended;
    should(error).match({ condition: 'amqp:internal-error', description: 'no such token: {badarg,[<<"…">>]}' });
    should(secretIn(JSON.stringify(error) + error.message)).equal(undefined);
  });

  it('never opens to a peer whose frames are too small', async () => {
    const { port } = await peer(undefined, { max_frame_size: 511 });
    const { error } = await unopened({ port });
    should(error).match({ code: 'AMQP_CONNECT', message: /its max-frame-size is 511/ });
  });

  it('gives up a peer that does not answer in time, and lets go of the socket', async () => {
    const { port, socket } = await silent();
    const closed = socket.then((one) => once(one, 'close'));
    const { error } = await unopened({ port, connectTimeout: 50 });
    should(error).match({ code: 'AMQP_CONNECT', diagnosis: 'silent', message: /no answer within 0\.05 s/ });
    await closed;
  });

  it('tells what is thrown by who hears that it opened, and stays open', async () => {
    const { port } = await peer();
    const fault = new Error('thrown by a user');
    const { attempt, opened, ended, faults } = start({ port }, () => {
      throw fault;
    });
    await opened;
    attempt.close();
    should(await ended).match({ wasOpen: true });
    should(faults).deepEqual([fault]);
  });

  describe('that is closed', () => {
    it('before the peer has answered ends at once, and lets go of the socket', async () => {
      const { port, socket } = await silent();
      const { attempt, ended } = start({ port });
      const closed = once(await socket, 'close');
      attempt.close();
      should(await ended).match({ wasOpen: false, openFor: 0, error: { code: 'AMQP_SHUTDOWN' } });
      await closed;
    });

    it('once it is open ends when the peer has closed too, however often it is closed', async () => {
      const { container, port } = await peer();
      const { attempt, opened, ended } = start({ port });
      await opened;
      const closing = once(container, 'connection_close');
      attempt.close();
      attempt.close();
      await closing;
      should(await ended).match({ wasOpen: true, isOrderly: false, error: { code: 'AMQP_SHUTDOWN' } });
      attempt.close();
    });
  });
});
