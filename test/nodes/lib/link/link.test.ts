import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import rhea, { type EventContext, type Message, type Sender, type Session as RheaSession } from 'rhea';
import should from 'should';
import { Connection, type ConnectionOptions, type LinkConnection } from '../../../../nodes/lib/connection/connection';
import { AmqpError } from '../../../../nodes/lib/errors';
import { Link } from '../../../../nodes/lib/link/link';
import type { State } from '../../../../nodes/lib/state';
import type { ReceivingEnd } from '../../../../nodes/lib/wire/link-end';
import type { Session } from '../../../../nodes/lib/wire/session';
import { secretOf } from '../../../secrets';
import { Broker, type BrokerOptions, type LinkInfo } from '../../../../broker/broker';

/** What a scripted peer writes: rhea's frames, as its sessions take them. */
type Frames = Record<'disposition' | 'transfer' | 'flow', (fields: object) => unknown>;
const frames: Frames = require('rhea/lib/frames.js');
type PeerSession = RheaSession & { output(frame: unknown, payload?: Buffer): void };

/** The simplest link there is: it reads bytes, and writes down what becomes of it. */
class Reader extends Link<ReceivingEnd> {
  readonly told: string[] = [];
  readonly states: State[] = [];
  onMessage: (bytes: Buffer) => void = () => {};
  onAttached: (end: ReceivingEnd) => void = () => {};
  protected override readonly needsAddress = 'usually';
  readonly address: string;

  constructor(connection: LinkConnection, address: string) {
    super(connection, `reader of ${address}`);
    this.address = address;
    this.on('state', (current) => this.states.push(current));
  }

  protected override attach(session: Session): ReceivingEnd {
    const end = session.attachReceiver(this.name, { source: { address: this.redirectedTo ?? this.address } });
    end.user = { message: ({ bytes }) => this.onMessage(bytes), drained: () => {} };
    return end;
  }

  protected override addressOf(end: ReceivingEnd): string | undefined {
    return end.sourceAddress;
  }

  protected override attached(end: ReceivingEnd): void {
    this.told.push('attached');
    this.onAttached(end);
  }

  protected override lost(error: AmqpError): void {
    this.told.push(error.code);
  }
}

/** Resolves once the link has, or gets, this state. */
function state(link: Reader, name: State['name']): Promise<State> {
  return new Promise((resolve) => {
    const check = (current: State): void => {
      if (current.name !== name) return;
      link.off('state', check);
      resolve(current);
    };
    link.on('state', check);
    check(link.state);
  });
}

/** Resolves at the next change to this state. */
async function next(link: Reader, name: State['name']): Promise<State> {
  let current: State;
  do [current] = (await once(link, 'state')) as [State];
  while (current.name !== name);
  return current;
}

const bodyOf = (bytes: Buffer): unknown => (rhea.message.decode(bytes) as unknown as Message).body;

const transfer = (id: number, fields: object = {}) =>
  frames.transfer({ handle: 0, delivery_id: id, delivery_tag: Buffer.from([id]), ...fields });
const encoded = (body: string): Buffer => rhea.message.encode({ body });
const received = (reader: Reader) => new Promise<Buffer>((resolve) => (reader.onMessage = resolve));

const infoOf = ({ port }: Broker, address?: string) => ({
  'network-host': '127.0.0.1',
  port,
  ...(address !== undefined && { address }),
});

describe('a link', () => {
  const faults: unknown[] = [];
  const onFault = (fault: unknown): number => faults.push(fault);
  const cleanups: (() => unknown)[] = [];

  before(() => process.on('uncaughtException', onFault).on('unhandledRejection', onFault));
  after(() => process.off('uncaughtException', onFault).off('unhandledRejection', onFault));
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
    should(faults.splice(0)).deepEqual([]);
  });

  let broker: Broker;
  async function start(options?: BrokerOptions): Promise<Broker> {
    const started = await Broker.start(options);
    cleanups.push(() => started.stop());
    return (broker = started);
  }

  function connectionTo(port: number, options: Partial<ConnectionOptions> = {}): Connection {
    const connection = new Connection({
      servers: [{ host: '127.0.0.1', port }],
      containerId: 'client',
      connectTimeout: 5000,
      idleTimeout: 0,
      backoff: { initial: 10, max: 20 },
      loginBackoff: { initial: 10, max: 20 },
      ...options,
    });
    cleanups.push(() => connection.close());
    connection.open();
    return connection;
  }

  /** Links to these addresses, all attached, on one connection. */
  async function attached(...addresses: string[]): Promise<Reader[]> {
    const connection = connectionTo(broker.port);
    const links = addresses.map((address) => new Reader(connection, address));
    for (const link of links) link.open();
    await Promise.all(links.map((link) => state(link, 'connected')));
    return links;
  }

  /** A peer that runs this on each of its sessions to which a client attaches a receiver. */
  async function scripted(script: (session: PeerSession, sender: Sender) => void): Promise<Reader> {
    const container = rhea.create_container();
    for (const event of ['connection_close', 'session_close', 'sender_close', 'disconnected']) {
      container.on(event, () => {});
    }
    container.on('sender_open', ({ sender }: EventContext) => {
      // rhea would write them before the attach they belong to.
      setImmediate(() => script(sender!.session as PeerSession, sender!));
    });
    const server = container.listen({ port: 0, host: '127.0.0.1' });
    cleanups.push(() => new Promise((resolve) => server.close(resolve)));
    await once(server, 'listening');
    const reader = new Reader(connectionTo((server.address() as net.AddressInfo).port), 'q');
    reader.open();
    return reader;
  }

  const names = () => broker.links().map(({ name }) => name);

  describe('whose attach is larger than the frames that the peer takes', () => {
    it('is refused before it costs the connection, and its siblings go on', async () => {
      await start({ maxFrameSize: 512 });
      const [sibling] = await attached('q');
      const { connection } = sibling as unknown as { connection: Connection };
      const large = new Reader(connection, 'x'.repeat(600));
      large.open();
      const { error } = (await state(large, 'refused')) as { error: AmqpError };
      should(error).match({ code: 'AMQP_LINK_REFUSED', message: /take \d{4} bytes, the peer takes no more than 512/ });
      await large.close();
      const other = new Reader(connection, 'other');
      other.open();
      await state(other, 'connected');
      should(sibling!.told).deepEqual(['attached']);
      should(broker.connections()).equal(1);
    });
  });

  describe('stays attached', () => {
    it('attaches as soon as there is a connection, also when it was opened before (R16)', async () => {
      await start();
      await broker.stop();
      const connection = connectionTo(broker.port);
      const [early, late] = [new Reader(connection, 'early'), new Reader(connection, 'late')];
      early.open();
      await state(early, 'disconnected');
      await broker.resume();
      await state(early, 'connected');
      late.open();
      await state(late, 'connected');
      should(names()).deepEqual(['reader of early', 'reader of late']);
    });

    it('attaches again after a loss of the connection, under the same name', async () => {
      await start();
      const [link] = await attached('q');
      for (let round = 0; round < 3; round++) {
        broker.dropSockets();
        await next(link!, 'connected');
      }
      should(names()).deepEqual(['reader of q']);
      should(link!.told.filter((event) => event === 'attached')).have.length(4);
      should(link!.told.filter((event) => event === 'AMQP_DISCONNECTED')).have.length(3);
    });

    for (const [what, end] of Object.entries<() => void>({
      'was detached with an error': () => broker.detach('q', { condition: 'amqp:resource-deleted' }),
      'was on a session that was ended with an error': () =>
        broker.endSessions('q', { condition: 'amqp:internal-error' }),
    })) {
      it(`attaches again when it ${what}, while the connection and its other links go on (R17, R41)`, async () => {
        await start();
        let connections = 0;
        broker.on('connection', () => connections++);
        const [link, other] = await attached('q', 'other');
        end();
        const { error } = (await next(link!, 'refused')) as { error: AmqpError };
        should(error).match({ code: 'AMQP_LINK_DETACHED' });
        await next(link!, 'connected');
        should(link!.told).deepEqual(['attached', 'AMQP_LINK_DETACHED', 'attached']);
        should(other!.told).deepEqual(['attached']);
        should(connections).equal(1);
        should(names().toSorted()).deepEqual(['reader of other', 'reader of q']);
      });
    }

    for (const [what, end] of Object.entries<() => void>({
      'was detached': () => broker.detach('q'),
      'was detached for being idle': () => broker.detach('q', { condition: 'amqp:link:detach-forced' }),
      'was on a session that was ended': () => broker.endSessions('q'),
    })) {
      it(`attaches again when it ${what}, which is no fault`, async () => {
        await start();
        const [link] = await attached('q');
        const { states } = link!;
        states.length = 0;
        end();
        await next(link!, 'connected');
        should(states.map(({ name }) => name)).deepEqual(['connecting', 'connected']);
        should(link!.told).deepEqual(['attached', 'AMQP_LINK_DETACHED', 'attached']);
      });
    }

    it('says that it was detached when it is again and again', async () => {
      await start();
      const [link] = await attached('q');
      broker.detach('q');
      await next(link!, 'connected');
      broker.detach('q');
      should(await next(link!, 'refused')).match({ error: { code: 'AMQP_LINK_DETACHED' } });
    });

    it('waits long when another client has taken it, and says so', async () => {
      await start();
      const connection = connectionTo(broker.port, { loginBackoff: { initial: 3_600_000, max: 3_600_000 } });
      const [stolen, other] = [new Reader(connection, 'q'), new Reader(connection, 'other')];
      for (const link of [stolen, other]) link.open();
      await Promise.all([state(stolen, 'connected'), state(other, 'connected')]);
      broker.detach('q', { condition: 'amqp:link:stolen' });
      should(await next(stolen, 'refused')).match({
        error: { diagnosis: 'client-id', message: /another client uses the client ID client/ },
      });
      for (let round = 0; round < 3; round++) {
        broker.detach('other');
        await next(other, 'connected');
      }
      should(names()).deepEqual(['reader of other']);
    });

    it('says why the peer let it go', async () => {
      await start();
      const [link] = await attached('q');
      broker.detach('q', { condition: 'amqp:resource-deleted', description: 'q was deleted' });
      should(await next(link!, 'refused')).match({
        error: { condition: 'amqp:resource-deleted', description: 'q was deleted' },
      });
    });

    it('that is refused is never attached, and harms no other; it attaches once it is allowed (R10)', async () => {
      await start();
      broker.refuse('secret', { condition: 'amqp:unauthorized-access', description: 'not for you' });
      const [other] = await attached('q');
      const refused = new Reader(other!['connection'], 'secret');
      refused.open();
      should(await state(refused, 'refused')).match({
        error: { code: 'AMQP_LINK_REFUSED', condition: 'amqp:unauthorized-access', description: 'not for you' },
      });
      broker.allow('secret');
      await state(refused, 'connected');
      should(refused.told).deepEqual(['attached']);
      should(refused.states.map(({ name }) => name)).deepEqual(['connecting', 'refused', 'connected']);
      should(other!.told).deepEqual(['attached']);
      should(broker.connections()).equal(1);
    });

    it('tries again when the peer does not answer its attach in time, and harms no other', async () => {
      await start();
      let held: Buffer[] | undefined;
      const peers: net.Socket[] = [];
      const proxy = net.createServer((client) => {
        const peer = net.connect(broker.port, '127.0.0.1');
        peers.push(peer);
        client.on('data', (data) => (held ? held.push(data) : peer.write(data)));
        peer.pipe(client);
        client.on('close', () => peer.destroy()).on('error', () => {});
        peer.on('close', () => client.destroy()).on('error', () => {});
      });
      cleanups.push(() => new Promise((resolve) => proxy.close(resolve)));
      proxy.listen(0, '127.0.0.1');
      await once(proxy, 'listening');
      const connection = connectionTo((proxy.address() as net.AddressInfo).port, { connectTimeout: 100 });
      const [first, second] = [new Reader(connection, 'first'), new Reader(connection, 'second')];
      first.open();
      await state(first, 'connected');
      held = [];
      second.open();
      should(await state(second, 'refused')).match({ error: { code: 'AMQP_LINK_REFUSED', message: /no answer/ } });
      for (const data of held) peers[0]!.write(data);
      held = undefined;
      await state(second, 'connected');
      should(first.told).deepEqual(['attached']);
    });
  });

  it('shares one session with all others where the peer ends the connection over a second one', async () => {
    // As the AMQP channel of IBM MQ does.
    const container = rhea.create_container();
    container.sasl_server_mechanisms.enable_anonymous();
    for (const event of ['connection_close', 'session_close', 'sender_close', 'disconnected', 'error']) {
      container.on(event, () => {});
    }
    let connections = 0;
    const sessions = new Map<unknown, number>();
    container.on('connection_open', () => connections++);
    container.on('session_open', ({ connection }: EventContext) => {
      sessions.set(connection, (sessions.get(connection) ?? 0) + 1);
      const peer = connection as unknown as { socket: net.Socket; _process(): void };
      if (sessions.get(connection) === 1) peer._process();
      else peer.socket.end();
    });
    container.on('sender_open', ({ sender }: EventContext) => sender!.set_source({ address: sender!.source.address }));
    container.on('sendable', ({ sender }: EventContext) => sender!.send({ body: sender!.source.address }));
    const server = container.listen({ port: 0, host: '127.0.0.1' });
    cleanups.push(() => new Promise((resolve) => server.close(resolve)));
    await once(server, 'listening');
    const connection = connectionTo((server.address() as net.AddressInfo).port);
    const links = ['a', 'b', 'c'].map((address) => new Reader(connection, address));
    for (const link of links) {
      link.onAttached = (it) => it.addCredit(1);
      link.open();
    }
    const bodies = await Promise.all(links.map(async (link) => bodyOf(await received(link))));
    should(bodies).deepEqual(['a', 'b', 'c']);
    should(connections).equal(3);

    await links[1]!.close();
    should(links[0]!.state).match({ name: 'connected' });
    links[1]!.open();
    await next(links[1]!, 'connected');
    should([...sessions.values()].at(-1)).equal(1);
    should(connections).equal(3);
  });

  it('shares one session with all others at once where a person says so', async () => {
    const { port } = await start({ oneSession: true });
    let connections = 0;
    broker.on('connection', () => connections++);
    const connection = connectionTo(port, { hasOneSession: true });
    const links = ['a', 'b'].map((address) => new Reader(connection, address));
    for (const link of links) link.open();
    await Promise.all(links.map((link) => state(link, 'connected')));
    should(connections).equal(1);
  });

  describe('that the peer redirects', () => {
    it('attaches there, over a connection of its own, while its siblings stay', async () => {
      const home = await start();
      const other = await start();
      home.redirectLink('a', infoOf(other, 'b'));
      const connection = connectionTo(home.port);
      const links = ['a', 'stays'].map((address) => new Reader(connection, address));
      for (const link of links) link.open();
      await Promise.all(links.map((link) => state(link, 'connected')));
      should(home.links().map(({ address }) => address)).deepEqual(['stays']);
      should(other.links().map(({ address }) => address)).deepEqual(['b']);
      await Promise.all(links.map((link) => link.close()));
      should([home.connections(), other.connections()]).deepEqual([0, 0]);
    });

    it('attaches to another address of the same server', async () => {
      const home = await start();
      home.redirectLink('a', infoOf(home, 'b'));
      const link = new Reader(connectionTo(home.port), 'a');
      link.open();
      await state(link, 'connected');
      should(home.links().map(({ address }) => address)).deepEqual(['b']);
      should(home.connections()).equal(1);
    });

    it('later on attaches there, too', async () => {
      const home = await start();
      const other = await start();
      const link = new Reader(connectionTo(home.port), 'a');
      link.open();
      await state(link, 'connected');
      home.detach('a', { condition: 'amqp:link:redirect', info: infoOf(other) });
      await next(link, 'connected');
      should(other.links()).have.length(1);
    });

    it('asks at home again when that server is gone', async () => {
      const home = await start();
      const other = await start();
      const third = await start();
      home.redirectLink('a', infoOf(other, 'b'));
      const link = new Reader(connectionTo(home.port), 'a');
      link.open();
      await state(link, 'connected');
      home.redirectLink('a', infoOf(third));
      await other.stop();
      await next(link, 'connected');
      should(third.links().map(({ address }) => address)).deepEqual(['a']);
      home.allow('a');
      await third.stop();
      await next(link, 'connected');
      should(home.links().map(({ address }) => address)).deepEqual(['a']);
    });

    it('from one server to another leaves no connection to the first', async () => {
      const [home, other, third] = [await start(), await start(), await start()];
      home.redirectLink('a', infoOf(other));
      const link = new Reader(connectionTo(home.port), 'a');
      link.open();
      await state(link, 'connected');
      other.detach('a', { condition: 'amqp:link:redirect', info: infoOf(third) });
      await next(link, 'connected');
      should(third.links()).have.length(1);
      // One that stays makes the test time out.
      while (other.connections() > 0) await pause(5);
    });

    it('comes back with a pause, when that server cannot be reached', async () => {
      const home = await start();
      const other = await start();
      await other.stop();
      home.redirectLink('a', infoOf(other));
      const link = new Reader(connectionTo(home.port), 'a');
      link.open();
      should(await state(link, 'refused')).match({ error: { code: 'AMQP_CONNECT', diagnosis: 'refused' } });
      home.allow('a');
      await next(link, 'connected');
    });

    it('to and fro is refused, and tried again', async () => {
      const home = await start();
      const other = await start();
      home.redirectLink('a', infoOf(other));
      other.redirectLink('a', infoOf(home));
      const link = new Reader(connectionTo(home.port), 'a');
      link.open();
      should(await state(link, 'refused')).match({ error: { code: 'AMQP_CONNECT', diagnosis: 'redirect-loop' } });
      other.allow('a');
      await next(link, 'connected');
      should(other.links()).have.length(1);
    });

    it('does not go where the login must not', async () => {
      const home = await start();
      home.redirectLink('a', { 'network-host': 'localhost', port: home.port, address: 'b' });
      const login = { username: 'anna', password: secretOf('password') };
      const link = new Reader(connectionTo(home.port, login), 'a');
      link.open();
      should(await state(link, 'refused')).match({ error: { diagnosis: 'redirect-unlisted' } });
      home.allow('a');
      await next(link, 'connected');
      should(home.links().map(({ address }) => address)).deepEqual(['a']);
    });
  });

  it('answers a flow of the peer that asks for an echo', async () => {
    const asked = new Promise<number>((resolve) => {
      void scripted((session, sender) => {
        const peer = session as unknown as { on_flow(frame: object): void };
        const onFlow = peer.on_flow.bind(peer);
        Object.assign(session, {
          on_flow(frame: { performative: { handle?: number } }) {
            onFlow(frame);
            // One flow of the link tells of the session, too.
            if (frame.performative.handle !== undefined) resolve(frame.performative.handle);
          },
        });
        const window = { next_incoming_id: 0, incoming_window: 100, next_outgoing_id: 0, outgoing_window: 100 };
        session.output(frames.flow({ ...window, echo: true }));
        session.output(frames.flow({ ...window, echo: true, handle: 0, delivery_count: 0, link_credit: 0 }));
        void sender;
      });
    });
    should(await asked).equal(0);
  });

  it('ends its session only once the peer has answered the detach', async () => {
    await start();
    const [link] = await attached('q', 'other');
    // What the peer gets is looked at chunk by chunk.
    const order: string[] = [];
    broker.on('detach', () => {
      order.push('detach');
      setImmediate(() => order.push('turn'));
    });
    broker['container'].on('session_close', () => order.push('end'));
    await link!.close();
    should(order).deepEqual(['detach', 'turn', 'end']);
  });

  it('answers a detach as the peer has asked: with closed, a durable subscription would be deleted (R22)', async () => {
    await start();
    const [link] = await attached('q');
    for (const closed of [false, true]) {
      const detached = once(broker, 'detach') as Promise<[LinkInfo & { closed: boolean }]>;
      broker.detach('q', { closed });
      should((await detached)[0]).match({ name: 'reader of q', closed });
      await next(link!, 'connected');
    }
  });

  describe('that is closed', () => {
    it('is detached at the peer, and leaves the others', async () => {
      await start();
      const [link, other] = await attached('q', 'other');
      await link!.close();
      should(names()).deepEqual(['reader of other']);
      should(link!.state).deepEqual({ name: 'detached' });
      should(link!.told).deepEqual(['attached', 'AMQP_SHUTDOWN']);
      should(other!.state).match({ name: 'connected' });
    });

    it('does not attach again, whatever it was doing', async () => {
      await start();
      broker.refuse('q');
      const [witness] = await attached('other');
      const refused = new Reader(witness!['connection'], 'q');
      const attaching = new Reader(witness!['connection'], 'attaching');
      refused.open();
      await state(refused, 'refused');
      attaching.open();
      await Promise.all([refused.close(), attaching.close()]);
      broker.allow('q');
      // The pauses of this one are together longer than the longest of the others.
      for (let round = 0; round < 3; round++) {
        broker.detach('other');
        await next(witness!, 'connected');
      }
      should(names()).deepEqual(['reader of other']);
      broker.dropSockets();
      await next(witness!, 'connected');
      broker.detach('other');
      await next(witness!, 'connected');
      should(names()).deepEqual(['reader of other']);
      should([...refused.told, ...attaching.told]).deepEqual([]);
    });

    it('before the peer has answered it harms no other', async () => {
      await start();
      const [other] = await attached('other');
      const hasty = new Reader(other!['connection'], 'q');
      hasty.open();
      await hasty.close();
      // By the time that the peer has answered another one, it has answered all there was of this one.
      const later = new Reader(other!['connection'], 'later');
      later.open();
      await state(later, 'connected');
      should(other!.told).deepEqual(['attached']);
      should(hasty.told).deepEqual([]);
      should(names().toSorted()).deepEqual(['reader of later', 'reader of other']);
    });

    it('can be opened again, even while it closes', async () => {
      await start();
      const [link] = await attached('q', 'other');
      const closing = link!.close();
      link!.open();
      await closing;
      await next(link!, 'connected');
      await link!.close();
      link!.open();
      await next(link!, 'connected');
      should(names().toSorted()).deepEqual(['reader of other', 'reader of q']);
    });

    it('is closed once, however often it is asked to', async () => {
      await start();
      const [link] = await attached('q');
      const detaches: unknown[] = [];
      broker.on('detach', (info) => detaches.push(info));
      await Promise.all([link!.close(), link!.close()]);
      await link!.close();
      should(detaches).have.length(1);
      should(broker.connections()).equal(0);
    });

    it('does not wait for a connection that is lost meanwhile', async () => {
      await start();
      const [link] = await attached('q', 'other');
      const closing = link!.close();
      broker.dropSockets();
      await closing;
      should(link!.state).deepEqual({ name: 'detached' });
    });
  });

  describe('and a peer that is not as it should be', () => {
    const refused: Record<string, (session: PeerSession) => void> = {
      'a delivery without id': (session) =>
        session.output(frames.transfer({ handle: 0, delivery_tag: Buffer.of(1) }), encoded('x')),
      'a message without end': (session) => {
        for (let i = 0; i < 1200; i++) session.output(transfer(0, { more: true }), Buffer.alloc(60_000));
      },
      'thousands of messages without credit': (session) => {
        for (let id = 0; id < 6000; id++)
          session.output(frames.transfer({ handle: 0, delivery_id: id, delivery_tag: Buffer.of(1) }), encoded('x'));
      },
    };
    for (const [what, script] of Object.entries(refused)) {
      it(`ends the connection over ${what}`, async () => {
        const reader = await scripted((session) => script(session));
        while (!reader.states.some(({ name }) => name === 'disconnected')) await once(reader, 'state');
        await reader.close();
      });
    }

    it('survives an address that cannot be one', async () => {
      const types = rhea.types as unknown as Record<string, (...values: unknown[]) => unknown>;
      const container = rhea.create_container();
      container.on('sender_open', ({ sender }: EventContext) => {
        const address = types['wrap_described']!(1, 'toString');
        const { attach } = (sender as unknown as { local: { attach: { source: unknown } } }).local;
        attach.source = types['wrap_described']!([address], 0x28);
      });
      for (const event of ['connection_close', 'session_close', 'sender_close', 'disconnected']) {
        container.on(event, () => {});
      }
      const server = container.listen({ port: 0, host: '127.0.0.1' });
      cleanups.push(() => new Promise((resolve) => server.close(resolve)));
      await once(server, 'listening');
      const reader = new Reader(connectionTo((server.address() as net.AddressInfo).port), 'q');
      reader.open();
      while (!reader.states.some(({ name }) => name === 'disconnected')) await once(reader, 'state');
      await reader.close();
    });

    it('is attached also when the peer never names an address', async () => {
      const reader = await scripted(() => {});
      await state(reader, 'connected');
      should(reader.told).deepEqual(['attached']);
    });

    it('is not attached when the refusal comes long after the attach (R21)', async () => {
      const error = { condition: 'amqp:not-found', description: 'no node q' };
      const reader = await scripted((_session, sender) => setTimeout(() => sender.close(error), 50));
      should(await state(reader, 'refused')).match({ error: { code: 'AMQP_LINK_REFUSED', ...error } });
      should(reader.told).deepEqual([]);
    });

    it('takes a disposition of all ids there can be', async () => {
      const reader = await scripted((session) => {
        for (const role of [false, true]) {
          session.output(frames.disposition({ role, first: 0, last: 0xffffffff, settled: true }));
        }
        session.output(transfer(0), encoded('afterwards'));
      });
      should(bodyOf(await received(reader))).equal('afterwards');
    });

    it('drops a delivery that the peer aborts, and takes the next (R37)', async () => {
      const reader = await scripted((session) => {
        session.output(transfer(0, { more: true }), encoded('never finished').subarray(0, 4));
        session.output(transfer(0, { aborted: true }));
        session.output(transfer(1), encoded('afterwards'));
      });
      should(bodyOf(await received(reader))).equal('afterwards');
      await state(reader, 'connected');
      should(reader.told).deepEqual(['attached']);
    });

    it('takes what comes without credit (R30)', async () => {
      const complaints: unknown[] = [];
      const { error } = console;
      cleanups.push(() => (console.error = error));
      console.error = (...words) => complaints.push(words);
      const reader = await scripted((session) => session.output(transfer(0), encoded('unasked')));
      should(bodyOf(await received(reader))).equal('unasked');
      should(complaints).deepEqual([]);
    });
  });

  it('whose listener throws tells of it, and goes on (R36)', async () => {
    await start();
    const [link] = await attached('q', 'other');
    const error = new Error('thrown by a listener');
    const fault = once(link!['connection'] as Connection, 'fault');
    const twice = new Promise<void>((resolve) => {
      let count = 0;
      link!.onMessage = () => {
        if (++count === 2) resolve();
        throw error;
      };
    });
    broker.put('q', { body: 1 });
    broker.put('q', { body: 2 });
    link!.onAttached = (receiver) => receiver.addCredit(2);
    broker.detach('q');
    await twice;
    should((await fault)[0]).equal(error);
    await pause(0);
    should(link!.state).match({ name: 'connected' });
  });
});
