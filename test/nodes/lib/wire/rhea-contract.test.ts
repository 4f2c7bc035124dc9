// What nodes/lib/wire/ uses of rhea beyond its typings, or relies on in a way that they do not promise: one test for each
// member. What we replace with our own has to be called by rhea, too.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import * as net from 'node:net';
import { join } from 'node:path';
import rhea, { type ConnectionOptions } from 'rhea';
import should from 'should';

type Inner = Record<string, any>;

const declared = readFileSync(join(__dirname, '..', '..', '..', '..', 'nodes', 'lib', 'wire', 'rhea.ts'), 'utf8');
const { Writer } = rhea.types as unknown as Inner;
const log: Inner = require('rhea/lib/log.js');
const { ...traces } = log;

/** Our side. */
let connection: Inner;
let session: Inner;
let sender: Inner;
/** What has been created is there before it has begun. */
let channels: Inner;
/** The connection as it is to who has accepted it, and what logs its client in. */
let theirs: Inner;
const login = (): Inner => theirs['sasl_transport'].transports[3];
/** What rhea gave to the function that opens the socket. */
let dialled: unknown[];
let isNoDelay: unknown;
/** Of what we replace, by name: the frame that it got with its first call, if it was one. */
const calls = new Map<string, Inner>();

const REPLACED: Record<string, () => Inner> = {
  'connection.input': () => connection,
  'connection.on_open': () => connection,
  'connection.on_begin': () => connection,
  'connection._process': () => connection,
  'connection.sasl_transport.on_sasl_mechanisms': () => connection['sasl_transport'],
  'connection.sasl_transport.on_sasl_outcome': () => connection['sasl_transport'],
  'connection.sasl_transport.transport.read': () => connection['sasl_transport'].transport,
  'connection.sasl_transport.transport.write': () => connection['sasl_transport'].transport,
  'log.frames': () => log,
  'log.raw': () => log,
  'session.on_begin': () => session,
  'session.on_end': () => session,
  'session.on_attach': () => session,
  'session.on_detach': () => session,
  'session._write_flow': () => session,
};

/** What we look at, set or call: its type, and where it is. */
const MEMBERS: Record<string, [type: string, look: () => unknown]> = {
  'options.connection_details.connect': ['function', () => dialled[3]],
  'connection.local_channel_map': ['object', () => channels[session['local'].channel]],
  'connection.offered_capabilities': ['object', () => connection['offered_capabilities']],
  'connection.socket_ready': ['boolean', () => connection['socket_ready']],
  'connection.local.open.idle_time_out': ['number', () => connection['local'].open.idle_time_out],
  'connection.remote.close.error': ['object', () => connection['remote'].close.error],
  'connection.abort_socket': ['function', () => connection['abort_socket']],
  'session.local.channel': ['number', () => session['local'].channel],
  'session.local.begin.next_outgoing_id': ['number', () => session['local'].begin.next_outgoing_id],
  'session.local.begin.incoming_window': ['number', () => session['local'].begin.incoming_window],
  'session.state.local_open': ['boolean', () => session['state'].local_open],
  'session.state.remote_open': ['boolean', () => session['state'].remote_open],
  'session.incoming.max_transfer_id': ['number', () => session['incoming'].max_transfer_id],
  'accepted.accept': ['function', () => theirs['accept']],
  'accepted.remote_channel_map': ['object', () => theirs['remote_channel_map']],
  'accepted.sasl_transport.transports.3': ['object', login],
  'login.do_step': ['function', () => login()['do_step']],
  'login.on_sasl_init': ['function', () => login()['on_sasl_init']],
  'login.on_sasl_response': ['function', () => login()['on_sasl_response']],
  'login.mechanism': ['object', () => login()['mechanism']],
  'login.outcome': ['number', () => login()['outcome']],
  'session.create_sender': ['function', () => session['create_sender']],
  'session.create_receiver': ['function', () => session['create_receiver']],
  'link.set_source': ['function', () => sender['set_source']],
  'link.set_target': ['function', () => sender['set_target']],
  'session.links': ['object', () => session['links']['receiver']],
  'link.local.handle': ['number', () => sender['local'].handle],
  'link.local.attach': ['object', () => sender['local'].attach],
  'link.state.local_open': ['boolean', () => sender['state'].local_open],
  'link.remote.detach.closed': ['boolean', () => sender['remote'].detach.closed],
  'frame.channel': ['number', () => calls.get('session.on_begin')!['channel']],
  'frame.performative': ['object', () => fieldsOf('session.on_begin')],
  'open.idle_time_out': ['number', () => fieldsOf('connection.on_open')['idle_time_out']],
  'begin.remote_channel': ['number', () => fieldsOf('connection.on_begin')['remote_channel']],
  'begin.next_outgoing_id': ['number', () => fieldsOf('session.on_begin')['next_outgoing_id']],
  'begin.incoming_window': ['number', () => fieldsOf('session.on_begin')['incoming_window']],
  'attach.name': ['string', () => fieldsOf('session.on_attach')['name']],
  'attach.handle': ['number', () => fieldsOf('session.on_attach')['handle']],
  'attach.role': ['boolean', () => fieldsOf('session.on_attach')['role']],
  'attach.snd_settle_mode': ['number', () => fieldsOf('session.on_attach')['snd_settle_mode']],
  'attach.source.descriptor.value': ['number', () => fieldsOf('session.on_attach')['source'].descriptor.value],
  'attach.target.descriptor.value': ['number', () => fieldsOf('session.on_attach')['target'].descriptor.value],
  'attach.initial_delivery_count': ['number', () => fieldsOf('session.on_attach')['initial_delivery_count']],
  'detach.handle': ['number', () => fieldsOf('session.on_detach')['handle']],
  'mechanisms.sasl_server_mechanisms': [
    'object',
    () => fieldsOf('connection.sasl_transport.on_sasl_mechanisms')['sasl_server_mechanisms'],
  ],
  'connection.sasl_transport.mechanisms.ANONYMOUS.start': [
    'function',
    () => connection['sasl_transport'].mechanisms.ANONYMOUS.start,
  ],
  'outcome.code': ['number', () => fieldsOf('connection.sasl_transport.on_sasl_outcome')['code']],
  'outcome.additional_data': [
    'object',
    () => fieldsOf('connection.sasl_transport.on_sasl_outcome')['additional_data'] ?? null,
  ],
  'log.frames.enabled': ['boolean', () => 'enabled' in traces['frames'] || undefined],
  'log.raw.enabled': ['boolean', () => 'enabled' in traces['raw'] || undefined],
  'types.List32': ['function', () => (rhea.types as unknown as Inner)['List32']],
  'types.Map32': ['function', () => (rhea.types as unknown as Inner)['Map32']],
  'types.Writer.write': ['function', () => new Writer().write],
  'types.Writer.toBuffer': ['function', () => new Writer().toBuffer],
};

describe('rhea', () => {
  const container = rhea.create_container();
  let server: net.Server;
  let failure: unknown;

  before(async () => {
    let timer: NodeJS.Timeout;
    const late = new Promise((resolve) => {
      timer = setTimeout(() => resolve(new Error('the peer did not answer')), 5000);
    });
    failure = await Promise.race([play().catch((error: unknown) => error), late]).finally(() => clearTimeout(timer));
  });

  after(async () => {
    Object.assign(log, traces);
    const { socket } = connection;
    if (!socket.closed) await once(socket, 'close');
    await new Promise((resolve) => server.close(resolve));
  });

  /** Logs in, begins, attaches both ways; the peer detaches, ends and closes. */
  async function play(): Promise<void> {
    const peer = rhea.create_container();
    for (const one of [peer, container])
      for (const event of ['connection_close', 'disconnected', 'error', 'protocol_error']) one.on(event, () => {});
    peer.sasl_server_mechanisms.enable_anonymous();
    peer.on('connection_open', ({ connection: one }: Inner) => {
      theirs = one;
      one.local.open.channel_max = 7;
    });
    peer.once('receiver_open', ({ receiver: link }: Inner) => link.close());
    peer.once('sender_open', ({ sender: link }: Inner) => {
      link.set_source({ address: 'q' });
      link.set_target({});
      link.local.attach.initial_delivery_count = 3;
      link.local.attach.snd_settle_mode = 1;
    });
    peer.once('receiver_close', ({ session: one }: Inner) => one.close());
    server = peer.listen({
      port: 0,
      host: '127.0.0.1',
      idle_time_out: 60_000,
      offered_capabilities: ['a', 'b'],
      max_frame_size: 1000,
    });
    await once(server, 'listening');

    const { port } = server.address() as net.AddressInfo;
    connection = container.create_connection({
      reconnect: false,
      idle_time_out: 60_000,
      max_frame_size: 2000,
      tcp_no_delay: true,
      sasl_mechanisms: { ANONYMOUS: { start: (done: (...args: unknown[]) => void) => done(undefined, Buffer.of(0)) } },
      connection_details: () => ({
        port,
        host: '127.0.0.1',
        connect: (...args: unknown[]) => {
          dialled = args;
          const socket = net.connect(port, '127.0.0.1', args[3] as () => void);
          socket.setNoDelay = (noDelay) => {
            isNoDelay = noDelay;
            return socket;
          };
          return socket;
        },
      }),
    } as unknown as ConnectionOptions);
    replace('connection.input', 'connection.on_open', 'connection.on_begin', 'connection._process');
    connection['connect']();
    replace(...Object.keys(REPLACED).filter((name) => /^connection\.sasl_transport\.|^log\./.test(name)));
    await once(container, 'connection_open');

    session = connection['create_session']();
    channels = { ...connection['local_channel_map'] };
    replace(...Object.keys(REPLACED).filter((name) => name.startsWith('session.')));
    session['begin']();
    const receiver = session['attach_receiver']({ name: 'receiver', source: 'q', credit_window: 0, autoaccept: false });
    await once(container, 'receiver_open');
    receiver.add_credit(1);
    sender = session['attach_sender']({ name: 'sender', target: 'q' });
    const ended = once(container, 'session_close');
    await once(container, 'sender_close');
    sender['close']();
    await ended;
    const closed = once(container, 'connection_close');
    theirs['close']({ condition: 'amqp:internal-error', info: { key: 'value' } });
    await closed;
  }

  it('begins, attaches, detaches and ends', () => {
    should(failure).equal(undefined);
  });

  for (const name of Object.keys(REPLACED)) {
    it(`calls ${name}`, () => {
      should(calls.has(name)).equal(true);
    });
  }

  for (const [name, [type, look]] of Object.entries(MEMBERS)) {
    it(`has ${name}`, () => {
      should(typeof look()).equal(type);
    });
  }

  it('tells what the peer takes, and not what we do, by max_frame_size and channel_max', () => {
    const { max_frame_size, channel_max } = connection;
    should({ max_frame_size, channel_max }).deepEqual({ max_frame_size: 1000, channel_max: 7 });
  });

  it('sends at once, by the option tcp_no_delay (R63)', () => {
    should(isNoDelay).equal(true);
  });

  it('is asked here for each member that wire/rhea.ts declares', () => {
    const asked = new Set([...Object.keys(REPLACED), ...Object.keys(MEMBERS)].flatMap((name) => name.split('.')));
    const members = [...declared.matchAll(/^ {2,4}(\w+)\??[:(]/gm)].map(([, name]) => name!);
    should(members.filter((name) => !asked.has(name))).deepEqual([]);
  });
});

/** Notes the first call of methods, as we put our own in the place of them. */
function replace(...names: string[]): void {
  for (const name of names) {
    const object = REPLACED[name]!();
    const method = name.split('.').at(-1)!;
    const original = object[method];
    object[method] = (...args: unknown[]) => {
      if (!calls.has(name)) calls.set(name, copyOf(args[0] as Inner | undefined));
      return original.apply(object, args);
    };
  }
}

/** rhea changes fields once it has read them; they are accessors of the prototype. */
function copyOf({ channel, performative }: Inner = {}): Inner {
  const fields: Inner = {};
  for (const name in performative) fields[name] = performative[name];
  return { channel, performative: performative && fields };
}

function fieldsOf(name: string): Inner {
  return calls.get(name)!['performative'];
}
