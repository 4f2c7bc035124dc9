// What nodes/ uses of rhea beyond its typings (`wire/rhea.ts`): one test for each member, which fails when rhea has it no
// longer, or as something else. What we put something of our own in place of has to be called by rhea, too.
import { once } from 'node:events';
import * as net from 'node:net';
import rhea, { type EventContext } from 'rhea';
import should from 'should';

type Inner = Record<string, any>;

/** What we replace: rhea has to call it. */
const REPLACED = {
  'connection.input': () => connection,
  'connection.on_open': () => connection,
  'connection.on_begin': () => connection,
  'connection._process': () => connection,
  'session.on_begin': () => session,
  'session.on_end': () => session,
  'session.on_attach': () => session,
  'session.on_detach': () => session,
  'session._write_flow': () => session,
};

const DETACH = 'link.remote.detach.closed';
/** What we read, set or call: what it is, and where. */
const MEMBERS: Record<string, [kind: string, look: () => unknown]> = {
  'connection.socket_ready': ['boolean', () => connection['socket_ready']],
  'connection.abort_socket': ['function', () => connection['abort_socket']],
  'connection.local.open.idle_time_out': ['number', () => connection['local'].open.idle_time_out],
  'connection.local_channel_map': ['object', () => connection['local_channel_map'][0]],
  'connection.offered_capabilities': ['object', () => connection['offered_capabilities']],
  'connection.properties': ['object', () => connection['properties']],
  'connection.max_frame_size': ['number', () => connection['max_frame_size']],
  'connection.channel_max': ['number', () => connection['channel_max']],
  'connection.sasl_transport.on_sasl_mechanisms': ['function', () => connection['sasl_transport'].on_sasl_mechanisms],
  'session.local.channel': ['number', () => session['local'].channel],
  'session.local.begin.next_outgoing_id': ['number', () => session['local'].begin.next_outgoing_id],
  'session.local.begin.incoming_window': ['number', () => session['local'].begin.incoming_window],
  'session.incoming.max_transfer_id': ['number', () => session['incoming'].max_transfer_id],
  'session.state.local_open': ['boolean', () => session['state'].local_open],
  'session.state.remote_open': ['boolean', () => session['state'].remote_open],
  'session.links': ['object', () => session['links']['name']],
  'link.local.handle': ['number', () => link['local'].handle],
  'link.local.attach': ['object', () => link['local'].attach],
  [DETACH]: ['boolean', () => link['remote'].detach.closed],
  'link.max_message_size': ['number', () => link['max_message_size']],
  'types.Writer': ['function', () => (rhea.types as unknown as Inner)['Writer']],
};

let connection: Inner;
let session: Inner;
let link: Inner;
/** What each member was while the link was open. */
const kinds = new Map<string, string>();
/** The fields of the first frame that each of those replaced got. */
const calls = new Map<string, Inner>();

/** Counts the calls of a member, which does what it did. */
function watch(name: string, owner: Inner): void {
  const member = name.split('.').at(-1)!;
  const original = owner[member].bind(owner);
  owner[member] = (...args: Inner[]) => {
    if (!calls.has(name)) calls.set(name, args[0]?.['performative'] ?? {});
    return original(...args);
  };
}

describe('rhea', () => {
  let server: net.Server;
  let socket: net.Socket | undefined;
  let dialled: unknown[];

  before(async () => {
    const open = { channel_max: 5, max_frame_size: 4096, offered_capabilities: ['c'], properties: { product: 'p' } };
    const peer = rhea.create_container();
    for (const event of ['connection_close', 'session_close', 'sender_close', 'disconnected']) peer.on(event, () => {});
    peer.on('connection_open', (context: EventContext) => {
      const { local } = context.connection as unknown as Inner;
      Object.assign(local.open, { ...open, idle_time_out: 60_000 });
    });
    peer.on('sender_open', ({ sender }: EventContext) => {
      Object.assign((sender as unknown as Inner)['local'].attach, { max_message_size: 1000 });
    });
    peer.on('sendable', ({ sender }: EventContext) => sender!.detach());
    server = peer.listen({ port: 0, host: '127.0.0.1' });
    await once(server, 'listening');
    const { port } = server.address() as net.AddressInfo;
    const container = rhea.create_container();
    const options = {
      port,
      host: '127.0.0.1',
      username: 'anonymous',
      reconnect: false,
      idle_time_out: 30_000,
      tcp_no_delay: true,
      connection_details: () => ({
        port,
        host: '127.0.0.1',
        connect: (...args: unknown[]) => {
          dialled = args;
          socket = net.connect(port, '127.0.0.1', args[3] as () => void);
          return socket;
        },
      }),
    };
    connection = container.create_connection(options);
    for (const [name, owner] of Object.entries(REPLACED)) if (name.startsWith('connection')) watch(name, owner());
    const opened = once(container, 'connection_open');
    connection['connect']();
    await opened;
    session = connection['create_session']();
    for (const [name, owner] of Object.entries(REPLACED)) if (name.startsWith('session')) watch(name, owner());
    session['begin']();
    link = session['attach_receiver']({ name: 'name', source: 'q', autoaccept: false, credit_window: 0 });
    container.on('receiver_open', () => {
      for (const [name, [, look]] of Object.entries(MEMBERS))
        if (!name.includes('detach')) kinds.set(name, typeof look());
      link['add_credit'](1);
    });
    await once(container, 'receiver_close');
    kinds.set(DETACH, typeof link['remote'].detach.closed);
    const ended = once(container, 'session_close');
    session['close']();
    await ended;
  });
  after(async () => {
    const closed = new Promise((resolve) => socket!.once('close', resolve));
    connection['close']();
    await closed;
    await new Promise((resolve) => server.close(resolve));
  });

  for (const name of Object.keys(REPLACED)) {
    it(`calls ${name}`, () => {
      should(calls.has(name)).be.true();
    });
  }

  for (const [name, [kind]] of Object.entries(MEMBERS)) {
    it(`has ${name}`, () => {
      should(kinds.get(name)).equal(kind);
    });
  }

  it('gives a function to be called once the socket is connected', () => {
    should(typeof dialled[3]).equal('function');
  });

  it('sends at once, by the option tcp_no_delay (R63)', () => {
    should(connection['options'].tcp_no_delay).be.true();
  });

  it('hands on the fields of begin, attach and detach', () => {
    should(typeof calls.get('connection.on_begin')!['remote_channel']).equal('number');
    should(typeof calls.get('session.on_begin')!['next_outgoing_id']).equal('number');
    should(typeof calls.get('session.on_begin')!['incoming_window']).equal('number');
    should(typeof calls.get('session.on_detach')!['handle']).equal('number');
    const attach = calls.get('session.on_attach')!;
    should(attach).match({ name: 'name', handle: 0, initial_delivery_count: 0 });
    should(typeof calls.get('connection.on_open')!['idle_time_out']).equal('number');
  });
});
