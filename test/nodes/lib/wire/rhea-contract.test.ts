// What nodes/ uses of rhea beyond its typings: one test for each member, which fails when rhea has it no longer, or as
// something else. What we replace with our own has to be called by rhea, too.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import * as net from 'node:net';
import { join } from 'node:path';
import rhea, { type ConnectionOptions, type EventContext, type Sender } from 'rhea';
import should from 'should';

type Inner = Record<string, any>;

const lib = join(__dirname, '..', '..', '..', '..', 'nodes', 'lib');
const { Reader, Writer } = rhea.types as unknown as Inner;
const ACCEPTED = Buffer.from('00532445', 'hex');
/** Does not fit one frame. */
const BODY = 'x'.repeat(2000);

/** Our side. */
let connection: Inner;
let session: Inner;
let sender: Inner;
let receiver: Inner;
/** Deliveries that have come and gone, and the message of the first. */
let received: Inner;
let sent: Inner;
let message: unknown;
/** What the receiver kept of the message after its first frame. */
let incomplete: unknown;
/** What rhea gave to the function that opens the socket. */
let dialled: unknown[];
let isNoDelay: unknown;
/** Of what was replaced, by name: the fields of the frame that it got with each call, if it was one. */
const calls = new Map<string, Inner[]>();

/** What we replace, by name, and the files below nodes/lib/ that do. */
const REPLACED: Record<string, string> = {
  'connection.input': 'connection/connection',
  'connection.on_open': 'connection/connection',
  'connection.on_begin': 'connection/connection',
  'connection._process': 'connection/connection',
  'sasl_transport.on_sasl_mechanisms': 'auth/sasl',
  'session.output': 'wire/session',
  'session.on_attach': 'wire/session',
  'session.on_transfer': 'wire/session',
  'session.on_flow': 'wire/session',
  'session.on_disposition': 'wire/session',
  'incoming.deliveries.push': 'wire/session',
  'incoming.deliveries.pop_if': 'wire/session',
  'incoming.deliveries.available': 'wire/session',
  'incoming.deliveries.by_id': 'wire/session',
  'outgoing.deliveries.push': 'wire/session',
  'outgoing.deliveries.pop_if': 'wire/session',
  'outgoing.deliveries.available': 'wire/session',
  'outgoing.deliveries.by_id': 'wire/session',
  'sender._get_drain': 'link/sender-link',
};

/** What we look at or call, by name: the files that do, what it is, and where it is. */
const MEMBERS: Record<string, [files: string, kind: string, look: () => unknown]> = {
  'options.connection_details.connect': ['connection/connection', 'function', () => dialled[3]],
  'connection._register': ['wire/session receiver/receiver', 'function', () => connection['_register']],
  'connection.abort_socket': ['connection/connection', 'function', () => connection['abort_socket']],
  'connection.socket': ['connection/connection link/sender-link', 'object', () => connection['socket']],
  'connection.socket_ready': ['connection/connection', 'boolean', () => connection['socket_ready']],
  'connection.local.open': ['connection/connection', 'object', () => connection['local'].open],
  'connection.local.open.idle_time_out': [
    'connection/connection',
    'number',
    () => connection['local'].open.idle_time_out,
  ],
  'connection.local_channel_map': ['wire/session', 'object', () => connection['local_channel_map'][0]],
  'connection.offered_capabilities': ['wire/remote', 'array', () => connection['offered_capabilities']],
  'connection.sasl_transport': ['auth/sasl', 'object', () => connection['sasl_transport']],
  'mechanisms.sasl_server_mechanisms': [
    'auth/sasl',
    'array',
    () => fieldsOf('sasl_transport.on_sasl_mechanisms')['sasl_server_mechanisms'],
  ],
  'open.idle_time_out': [
    'connection/connection',
    'number',
    () => fieldsOf('connection.on_open', 'idle_time_out')['idle_time_out'],
  ],
  'begin.remote_channel': ['connection/connection', 'number', () => fieldsOf('connection.on_begin')['remote_channel']],

  'session.state': ['wire/session', 'object', () => session['state']],
  'session.state.local_open': ['wire/session', 'boolean', () => session['state'].local_open],
  'session.state.remote_open': ['wire/session', 'boolean', () => session['state'].remote_open],
  'session.links': ['wire/session', 'object', () => session['links']['sender']],
  'session._write_flow': ['wire/session', 'function', () => session['_write_flow']],
  'session._get_link': ['wire/session', 'function', () => session['_get_link']],
  'session.incoming': ['wire/session', 'object', () => session['incoming']],
  'session.incoming.next_delivery_id': ['wire/session', 'number', () => session['incoming'].next_delivery_id],
  'session.incoming.next_transfer_id': ['wire/session', 'number', () => session['incoming'].next_transfer_id],
  'session.incoming.max_transfer_id': ['wire/session', 'number', () => session['incoming'].max_transfer_id],
  'session.incoming.deliveries': ['wire/session', 'object', () => session['incoming'].deliveries],
  'session.outgoing': ['wire/session', 'object', () => session['outgoing']],
  'session.outgoing.next_delivery_id': ['wire/session', 'number', () => session['outgoing'].next_delivery_id],
  'session.outgoing.next_transfer_id': ['wire/session', 'number', () => session['outgoing'].next_transfer_id],
  'session.outgoing.deliveries': ['wire/session', 'object', () => session['outgoing'].deliveries],

  'attach.name': ['wire/session', 'string', () => fieldsOf('session.on_attach')['name']],
  'attach.source.descriptor': [
    'wire/session',
    'number',
    () => fieldsOf('session.on_attach')['source'].descriptor.value,
  ],
  'attach.target.descriptor': [
    'wire/session',
    'number',
    () => fieldsOf('session.on_attach')['target'].descriptor.value,
  ],
  'attach.initial_delivery_count': [
    'wire/session',
    'number',
    () => fieldsOf('session.on_attach', 'initial_delivery_count')['initial_delivery_count'],
  ],
  'frame.payload': ['wire/session', 'bytes', () => fieldsOf('session.on_transfer')['payload']],
  'transfer.message_format': ['wire/session', 'number', () => fieldsOf('session.on_transfer')['message_format']],
  'transfer.delivery_id': ['wire/session', 'number', () => fieldsOf('session.on_transfer')['delivery_id']],
  'transfer.delivery_tag': ['wire/session', 'bytes', () => fieldsOf('session.on_transfer')['delivery_tag']],
  'transfer.aborted': ['wire/session', 'boolean', () => 'aborted' in fieldsOf('session.on_transfer') || undefined],
  'flow.echo': ['wire/session', 'boolean', () => 'echo' in fieldsOf('session.on_flow') || undefined],
  'flow.drain': ['wire/session', 'boolean', () => fieldsOf('session.on_flow', 'drain')['drain']],
  'flow.handle': ['wire/session', 'number', () => fieldsOf('session.on_flow', 'handle')['handle']],
  'flow.delivery_count': ['wire/session', 'number', () => fieldsOf('session.on_flow', 'handle')['delivery_count']],
  'flow.link_credit': ['wire/session', 'number', () => fieldsOf('session.on_flow', 'handle')['link_credit']],
  'flow.next_incoming_id': ['wire/session', 'number', () => fieldsOf('session.on_flow')['next_incoming_id']],
  'disposition.role': ['wire/session', 'boolean', () => fieldsOf('session.on_disposition')['role']],
  'disposition.first': ['wire/session', 'number', () => fieldsOf('session.on_disposition')['first']],
  'disposition.last': ['wire/session', 'number', () => fieldsOf('session.on_disposition', 'last')['last']],
  'disposition.state.descriptor': [
    'wire/session',
    'number',
    () => fieldsOf('session.on_disposition', 'state')['state'].descriptor.value,
  ],

  'link.local.attach': ['link/link', 'object', () => sender['local'].attach],
  'link.remote.detach.closed': ['link/link', 'boolean', () => receiver['remote'].detach.closed],
  'link.connection': ['link/sender-link receiver/receiver', 'object', () => sender['connection']],
  'sender.credit': ['link/sender-link', 'number', () => sender['credit']],
  'sender.delivery_count': ['link/sender-link', 'number', () => sender['delivery_count']],
  'sender.issue_flow': ['link/sender-link', 'boolean', () => sender['issue_flow']],
  'sender._draining': ['link/sender-link', 'boolean', () => sender['_draining']],
  'receiver.credit': ['receiver/receiver wire/session', 'number', () => receiver['credit']],
  'receiver.delivery_count': ['wire/session', 'number', () => receiver['delivery_count']],
  'receiver.issue_flow': ['receiver/receiver wire/session', 'boolean', () => receiver['issue_flow']],
  'receiver._incomplete': ['wire/session', 'object', () => incomplete],
  // Taken away, it keeps rhea from decoding the message.
  'delivery.format': ['receiver/receiver', 'null', () => received['format']],
  'context.message': ['receiver/receiver', 'bytes', () => message],
  'delivery.tag': ['receiver/receiver link/sender-link', 'bytes', () => received['tag']],
  'delivery.remote_settled': ['link/sender-link', 'boolean', () => sent['remote_settled']],
  'delivery.remote_state': ['link/sender-link', 'object', () => sent['remote_state']],

  'types.Reader.read': ['wire/outcome', 'object', () => new Reader(ACCEPTED).read()],
  'types.Writer.write': ['wire/session', 'function', () => new Writer().write],
  'types.Writer.toBuffer': [
    'wire/session',
    'bytes',
    () => {
      const writer = new Writer();
      writer.write(sender['local'].attach);
      return writer.toBuffer();
    },
  ],
};

describe('rhea', () => {
  const peer = rhea.create_container();
  const container = rhea.create_container();
  let server: net.Server;
  let failure: unknown;

  before(async () => {
    let timer: NodeJS.Timeout;
    const late = new Promise((resolve) => {
      timer = setTimeout(() => resolve(new Error('a message, an outcome or a detach did not come')), 5000);
    });
    failure = await Promise.race([play().catch((error: unknown) => error), late]).finally(() => clearTimeout(timer));
  });

  after(async () => {
    sender['close']();
    session['close']();
    connection['close']();
    await once(connection['socket'], 'close');
    await new Promise((resolve) => server.close(resolve));
  });

  /** Each side sends the other a message, ours is accepted, the other one accepted and then settled; last, a detach. */
  async function play(): Promise<void> {
    for (const one of [peer, container])
      for (const event of ['connection_close', 'disconnected', 'error', 'protocol_error']) one.on(event, () => {});
    peer.sasl_server_mechanisms.enable_anonymous();
    let far!: Sender;
    peer.once('sender_open', ({ sender: link }: EventContext) => {
      link!.set_source({ address: 'q' });
      link!.set_target({ address: 'q' });
    });
    peer.once('sendable', (context: EventContext) => {
      far = context.sender!;
      far.send({ body: BODY });
    });
    peer.once('accepted', ({ delivery }: EventContext) => delivery!.update(true, new Reader(ACCEPTED).read()));
    server = peer.listen({ port: 0, host: '127.0.0.1', idle_time_out: 60_000, offered_capabilities: ['a', 'b'] });
    await once(server, 'listening');

    const { port } = server.address() as net.AddressInfo;
    connection = container.create_connection({
      reconnect: false,
      idle_time_out: 60_000,
      max_frame_size: 512,
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
    replace('connection', connection, ['input', 'on_open', 'on_begin', '_process']);
    connection['connect']();
    replace('sasl_transport', connection['sasl_transport'], ['on_sasl_mechanisms']);
    await once(container, 'connection_open');

    session = connection['create_session']();
    replace('session', session, ['output', 'on_attach', 'on_transfer', 'on_flow', 'on_disposition']);
    for (const name of ['incoming', 'outgoing'])
      replace(`${name}.deliveries`, session[name].deliveries, ['push', 'pop_if', 'available', 'by_id']);
    const onTransfer = session['on_transfer'];
    session['on_transfer'] = (frame: Inner) => {
      onTransfer(frame);
      incomplete ??= receiver['_incomplete'];
    };
    session['begin']();
    receiver = session['attach_receiver']({ name: 'receiver', source: 'q', credit_window: 0, autoaccept: false });
    sender = session['attach_sender']({ name: 'sender', target: 'q' });
    replace('sender', sender, ['_get_drain']);

    const arrived = once(container, 'message');
    await Promise.all([once(container, 'receiver_open'), once(container, 'sendable')]);
    receiver['add_credit'](1);
    const [context] = (await arrived) as [EventContext];
    received = context.delivery!;
    message = context.message;
    received['update'](false, new Reader(ACCEPTED).read());
    await once(receiver as NodeJS.EventEmitter, 'settled');

    const taken = once(peer, 'message') as Promise<[EventContext]>;
    sent = sender['send'](rhea.message.encode({ body: BODY }), undefined, 0);
    await once(sender as NodeJS.EventEmitter, 'accepted');
    const [{ receiver: drained }] = await taken;
    drained!.drain_credit();
    await once(sender as NodeJS.EventEmitter, 'sender_draining');

    sender['issue_flow'] = true;
    connection['_register']();
    await once(peer, 'receiver_flow');
    far.close();
    await once(container, 'receiver_close');
  }

  it('carries messages, outcomes and a detach', () => {
    should(failure).equal(undefined);
  });

  for (const [name, files] of Object.entries(REPLACED)) {
    it(`calls ${name}`, () => {
      should(calls.get(name) ?? []).not.be.empty();
      isUsed(name, files);
    });
  }

  for (const [name, [files, kind, look]] of Object.entries(MEMBERS)) {
    it(`has ${name}`, () => {
      should(kindOf(look())).equal(kind);
      isUsed(name, files);
    });
  }

  it('sends at once, by the option tcp_no_delay (R63)', () => {
    should(isNoDelay).equal(true);
  });
});

/** The table is of what is used, and where. */
function isUsed(name: string, files: string): void {
  for (const file of files.split(' '))
    readFileSync(join(lib, `${file}.ts`), 'utf8').should.containEql(name.split('.').at(-1));
}

/** Counts the calls of methods, as we put our own in the place of some. */
function replace(name: string, object: Inner, methods: string[]): void {
  for (const method of methods) {
    const original = object[method];
    const told: Inner[] = [];
    object[method] = (...args: unknown[]) => {
      told.push(fieldsIn(args[0] as Inner | undefined));
      if (method === 'on_transfer') (args[0] as Inner)['performative'].message_format = undefined;
      return original.apply(object, args);
    };
    calls.set(`${name}.${method}`, told);
  }
}

/** Fields are accessors of the prototype. */
function fieldsIn(frame: Inner | undefined): Inner {
  const { performative, payload } = frame ?? {};
  const fields: Inner = { payload };
  for (const name in performative) fields[name] = performative[name];
  return fields;
}

/** Of the first frame that a method got: of those that have something in the field, if one is named. */
function fieldsOf(method: string, field?: string): Inner {
  const has = ({ [field!]: value }: Inner) =>
    ['number', 'boolean'].includes(typeof value) || value?.descriptor !== undefined;
  return calls.get(method)!.find((fields) => field === undefined || has(fields))!;
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Buffer.isBuffer(value)) return 'bytes';
  if (Array.isArray(value)) return 'array';
  return typeof value;
}
