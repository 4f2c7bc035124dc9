import { once } from 'node:events';
import type net from 'node:net';
import rhea, { type Container, type EventContext, type Session as RheaSession } from 'rhea';
import should from 'should';
import { Connection } from '../../../../nodes/lib/connection/connection';
import { Entry } from '../../../../nodes/lib/link/entry';
import type { IncomingDelivery, LinkEnd, ReceivingEnd, SendingEnd } from '../../../../nodes/lib/wire/link-end';
import type { Session } from '../../../../nodes/lib/wire/session';

type Fields = Record<string, unknown>;
/** What a scripted peer writes: rhea's frames, as its sessions take them. */
const frames: Record<'disposition' | 'transfer' | 'flow', (fields: Fields) => unknown> = require('rhea/lib/frames.js');
type PeerSession = RheaSession & {
  output(frame: unknown, payload?: Buffer): void;
  on_transfer(frame: unknown): void;
  on_disposition(frame: { performative: Fields }): void;
  on_flow(frame: { performative: Fields }): void;
};

const WINDOWS = { next_incoming_id: 0, incoming_window: 100, next_outgoing_id: 0, outgoing_window: 100 };
const accepted = (rhea.message as unknown as { accepted(): { described(): unknown } }).accepted().described();
const entryOf = (body: unknown) => new Entry(rhea.message.encode({ body }), () => {});
const transfer = (id: number, fields: Fields = {}) =>
  frames.transfer({ handle: 0, delivery_id: id, delivery_tag: Buffer.of(id), ...fields });

async function opened<E extends LinkEnd>(end: E): Promise<E> {
  await once(end, 'open');
  return end;
}

describe('an end of a link', () => {
  let container: Container;
  let server: net.Server;
  let connection: Connection;
  let session: Session;
  /** The session of the peer. */
  let peer: PeerSession;
  /** The last id that the peer has said it is at, by which its flow is known from others. */
  let marked = 0;

  beforeEach(async () => {
    container = rhea.create_container();
    for (const event of ['connection_close', 'session_close', 'sender_close', 'receiver_close', 'disconnected'])
      container.on(event, () => {});
    container.on('session_open', (context: EventContext) => {
      peer = context.session as PeerSession;
      // What comes is neither answered nor counted by itself.
      peer.on_transfer = () => {};
    });
    server = container.listen({ port: 0, host: '127.0.0.1', receiver_options: { credit_window: 0 } } as never);
    await once(server, 'listening');
    const { port } = server.address() as net.AddressInfo;
    const backoff = { initial: 3_600_000, max: 3_600_000 };
    const options = { host: '127.0.0.1', containerId: 'test', connectTimeout: 5000, idleTimeout: 0 };
    connection = new Connection({ ...options, servers: [{ host: '127.0.0.1', port }], backoff, loginBackoff: backoff });
    const begun = new Promise<Session>((resolve) => {
      connection.add({
        sessions: 1,
        connected: (wire) => resolve(connection.beginSession(wire)!.session),
        disconnected: () => {},
      });
    });
    connection.open();
    session = await begun;
  });
  afterEach(async () => {
    await connection.close();
    await new Promise((resolve) => server.close(resolve));
  });

  const sending = (name = 'sender') => opened(session.attachSender(name, { target: { address: 'q' } }));

  /** Resolves with a receiving end, and what has come by it. */
  async function receiving(): Promise<{ end: ReceivingEnd; came: IncomingDelivery[]; drains: number[] }> {
    const end = session.attachReceiver('receiver', { source: { address: 'q' } });
    const [came, drains]: [IncomingDelivery[], number[]] = [[], []];
    end.user = { message: (delivery) => came.push(delivery), drained: () => drains.push(end.credit) };
    await opened(end);
    return { end, came, drains };
  }

  /** Has the peer give credit, and resolves once that has come. */
  async function credit(end: SendingEnd, fields: Fields): Promise<void> {
    const told = new Promise<void>((resolve) => {
      end.user = { ready: resolve, draining: resolve, written: () => {}, settled: () => {} };
    });
    peer.output(frames.flow({ ...WINDOWS, handle: 0, ...fields }));
    await told;
  }

  /** Resolves once all that the peer has written is taken, and what there is to say was written. */
  async function taken(): Promise<void> {
    const marker = (marked += 100);
    const onFlow = peer.on_flow.bind(peer);
    const answered = new Promise<void>((resolve) => {
      peer.on_flow = (frame) => {
        onFlow(frame);
        if (frame.performative['next_incoming_id'] === marker) resolve();
      };
    });
    peer.output(frames.flow({ ...WINDOWS, next_outgoing_id: marker, echo: true }));
    await answered;
  }

  it('knows what the peer has said of it in its attach', async () => {
    container.on('receiver_open', ({ receiver }: EventContext) => {
      receiver!.set_target({ address: 'made' });
      (receiver as unknown as { local: { attach: Fields } }).local.attach['max_message_size'] = 1000;
    });
    const { targetAddress, sourceAddress, maxMessageSize } = await sending();
    should({ targetAddress, sourceAddress, maxMessageSize }).deepEqual({
      targetAddress: 'made',
      sourceAddress: undefined,
      maxMessageSize: 1000,
    });
  });

  it('takes a largest message of 0 bytes for no limit', async () => {
    container.on('receiver_open', ({ receiver }: EventContext) => {
      (receiver as unknown as { local: { attach: Fields } }).local.attach['max_message_size'] = 0;
    });
    should((await sending()).maxMessageSize).equal(Infinity);
  });

  describe('that sends', () => {
    it('takes off the credit what the peer did not know of when it gave that', async () => {
      const end = await sending();
      await credit(end, { delivery_count: 0, link_credit: 3 });
      for (const body of [1, 2]) end.send(entryOf(body), entryOf(body).bytes, false);
      should(end.credit).equal(1);
      await credit(end, { delivery_count: 1, link_credit: 3 });
      should([end.credit, end.isReady]).deepEqual([2, true]);
    });

    it('counts from 0 where the peer gives credit before it knows a count', async () => {
      const end = await sending();
      await credit(end, { link_credit: 3 });
      end.send(entryOf(1), entryOf(1).bytes, false);
      await credit(end, { link_credit: 3 });
      should(end.credit).equal(2);
    });

    it('lets go of its own deliveries only, in the order in which they were sent', async () => {
      const end = await sending();
      const other = await sending('other');
      const entries = [1, 2, 3, 4].map((body) => entryOf(body));
      await credit(end, { delivery_count: 0, link_credit: 10 });
      await credit(other, { delivery_count: 0, link_credit: 10, handle: 1 });
      for (const [index, entry] of entries.entries()) (index === 1 ? other : end).send(entry, entry.bytes, false);
      should(end.forgetAll().map((entry) => entries.indexOf(entry as Entry))).deepEqual([0, 2, 3]);
      should([...session.unsettled]).deepEqual([entries[1]]);
    });

    it('tells of each outcome, also when its user throws over one', async () => {
      const end = await sending();
      await credit(end, { delivery_count: 0, link_credit: 10 });
      const error = new Error('thrown by a user');
      const ids: number[] = [];
      Object.assign(end.user!, {
        settled({ id }: Entry) {
          ids.push(id);
          throw error;
        },
      });
      const faults: unknown[] = [];
      connection.on('fault', (fault) => faults.push(fault));
      for (const entry of [entryOf(1), entryOf(2)]) end.send(entry, entry.bytes, false);
      peer.output(frames.disposition({ role: true, first: 0, last: 1, settled: true, state: accepted }));
      await taken();
      should([ids, faults]).deepEqual([
        [0, 1],
        [error, error],
      ]);
      should(connection.state.name).equal('connected');
    });
  });

  describe('that receives', () => {
    it('puts a message of several frames together, and heeds that the last one says it is settled', async () => {
      const { end, came } = await receiving();
      const dispositions: Fields[] = [];
      peer.on_disposition = ({ performative }) => dispositions.push(performative);
      end.setCredit(2);
      for (const more of [true, true, false])
        peer.output(
          frames.transfer({ handle: 0, delivery_id: 0, delivery_tag: Buffer.of(7), more, settled: !more }),
          Buffer.from('part'),
        );
      peer.output(transfer(1), Buffer.from('whole'));
      await taken();
      should(came.map(({ bytes, tag, isSettled }) => [bytes.toString(), tag, isSettled])).deepEqual([
        ['partpartpart', '07', true],
        ['whole', '01', false],
      ]);
      should(end.credit).equal(0);
      for (const delivery of came) end.settle(delivery, Buffer.from('00532445', 'hex'));
      await taken();
      should(dispositions).match([{ first: 1 }]);
      should(dispositions).have.length(1);
    });

    it('ends the connection over a delivery that begins within another one', async () => {
      await receiving();
      const lost = once(connection, 'state');
      peer.output(transfer(0, { more: true }), Buffer.from('part'));
      peer.output(transfer(1), Buffer.from('whole'));
      should((await lost)[0]).match({ error: { message: /the peer sent delivery 1 before all of 0/ } });
    });

    it('has drained only once the peer says that no credit is left (R48)', async () => {
      const { end, drains } = await receiving();
      end.setCredit(5);
      end.startDrain();
      peer.output(frames.flow({ ...WINDOWS, handle: 0, delivery_count: 0, link_credit: 3, drain: true }));
      peer.output(frames.flow({ ...WINDOWS, handle: 0, delivery_count: 3, link_credit: 0 }));
      await taken();
      should([drains, end.credit]).deepEqual([[], 3]);
      peer.output(frames.flow({ ...WINDOWS, handle: 0, delivery_count: 5, link_credit: 0, drain: true }));
      await taken();
      should([drains, end.credit, end.deliveryCount]).deepEqual([[0], 0, 5]);
    });
  });
});
