import { once } from 'node:events';
import type net from 'node:net';
import rhea, { type Container, type EventContext, type Session } from 'rhea';
import should from 'should';
import { Connection } from '../../../../nodes/lib/connection/connection';
import { Receiver } from '../../../../nodes/lib/receiver/receiver';
import { Entry, type Sent } from '../../../../nodes/lib/link/entry';
import type { Guarantee } from '../../../../nodes/lib/link/sender-link';
import { Sender } from '../../../../nodes/lib/sender/sender';

type Fields = Record<string, unknown>;
/** What a scripted peer writes: rhea's frames, as its sessions take them. */
const frames: Record<'disposition' | 'transfer' | 'flow', (fields: Fields) => unknown> = require('rhea/lib/frames.js');
type Frame = { performative: Fields };
type PeerSession = Session & {
  local: { begin: Fields };
  output(frame: unknown, payload?: Buffer): void;
  on_disposition(frame: Frame): void;
  on_flow(frame: Frame): void;
  on_transfer(frame: Frame): void;
};

/** A session of either side, before it has begun. */
type Opening = PeerSession & { connection: { is_server: boolean } };

const LAST = 2 ** 32 - 1;
/** Two before the end, from where serial numbers go on at 0 (RFC 1982). */
const NEAR_END = LAST - 2;
const COUNT = 20;
const serials = Array.from({ length: COUNT }, (_, index) => (NEAR_END + index) % 2 ** 32);
const outcome = (name: 'accepted' | 'released') =>
  (rhea.message as unknown as Record<string, () => { described(): unknown }>)[name]!().described();

/** The ids of a range, across the end. */
function idsIn({ first, last }: Fields): number[] {
  const count = (((last ?? first) as number) - (first as number)) >>> 0;
  return Array.from({ length: count + 1 }, (_, index) => ((first as number) + index) % 2 ** 32);
}

describe('a session', () => {
  let container: Container;
  let server: net.Server;
  let connection: Connection;
  let connections = 0;
  const complaints: unknown[][] = [];
  const { error, warn } = console;

  beforeEach(async () => {
    connections = 0;
    container = rhea.create_container();
    for (const event of ['connection_close', 'session_close', 'sender_close', 'receiver_close', 'disconnected']) {
      container.on(event, () => {});
    }
    container.on('connection_open', () => connections++);
    server = container.listen({ port: 0, host: '127.0.0.1' });
    await once(server, 'listening');
    connection = new Connection({
      servers: [{ host: '127.0.0.1', port: (server.address() as net.AddressInfo).port }],
      containerId: 'test',
      connectTimeout: 5000,
      idleTimeout: 0,
      backoff: { initial: 10, max: 10 },
      loginBackoff: { initial: 10, max: 10 },
    });
    console.error = console.warn = (...args: unknown[]) => complaints.push(args);
  });
  afterEach(async () => {
    Object.assign(console, { error, warn });
    await connection.close();
    await new Promise((resolve) => server.close(resolve));
    should(complaints.splice(0)).eql([]);
  });

  /** A receiver, and what it has got: bodies and tokens. */
  async function receiver(count: number): Promise<{ link: Receiver; got: [unknown, string][] }> {
    const got: [unknown, string][] = [];
    const styles = { fields: 'exact', body: 'plain' } as const;
    const options = { name: 'r', address: 'q', settle: 'flow', creditWindow: 50, windowBytes: 1e6 } as const;
    let arrived: () => void;
    const all = new Promise<void>((resolve) => (arrived = resolve));
    const link = new Receiver(
      connection,
      { ...options, settleTimeout: 0, styles },
      {
        message: ({ body }, { id }) => void (got.push([body?.content, id!]) === count && arrived()),
        undelivered: () => ({ settle: 'modify' }),
        undecodable: () => {},
      },
    );
    link.open();
    connection.open();
    await all;
    return { link, got };
  }

  for (const start of [NEAR_END, 7, 2 ** 31]) {
    it(`takes deliveries whose ids, counts and transfers begin at ${start}, also where they wrap (RFC 1982)`, async () => {
      const ids = Array.from({ length: COUNT }, (_, index) => (start + index) % 2 ** 32);
      const states = new Map<number, unknown>();
      const flows: Fields[] = [];
      let settled: () => void;
      const all = new Promise<void>((resolve) => (settled = resolve));
      container.on('session_open', ({ session }: EventContext) => {
        const peer = session as PeerSession;
        peer.local.begin['next_outgoing_id'] = start;
        peer.on_disposition = ({ performative }) => {
          const { descriptor } = performative['state'] as { descriptor: { value: unknown } };
          for (const id of idsIn(performative)) states.set(id, descriptor.value);
          if (states.size === COUNT) settled();
        };
        const onFlow = peer.on_flow.bind(peer);
        peer.on_flow = (frame) => {
          const { delivery_count, link_credit, next_incoming_id } = frame.performative;
          if (link_credit !== undefined) flows.push({ delivery_count, next_incoming_id });
          onFlow(frame);
        };
      });
      container.on('sender_open', ({ sender }: EventContext) => {
        (sender as unknown as { local: { attach: Fields } }).local.attach['initial_delivery_count'] = start;
      });
      container.once('sendable', ({ sender }: EventContext) => {
        const peer = sender!.session as PeerSession;
        for (const id of ids) {
          const tag = Buffer.from(`${id}`);
          const fields = { handle: 0, delivery_id: id, delivery_tag: tag, message_format: 0 };
          // In two frames, of which the second names the id again.
          const bytes = rhea.message.encode({ body: id });
          peer.output(frames.transfer({ ...fields, more: true }), bytes.subarray(0, 3));
          peer.output(frames.transfer({ handle: 0, delivery_id: id, more: false }), bytes.subarray(3));
        }
      });

      const { link, got } = await receiver(COUNT);
      should(got.map(([body]) => body)).eql(ids);
      for (const [index, [, token]] of got.entries())
        link.settle(token, { settle: index % 3 === 0 ? 'release' : 'accept' });
      await all;
      should(ids.map((id) => states.get(id))).eql(ids.map((_, index) => (index % 3 === 0 ? 0x26 : 0x24)));
      should(flows[0]).match({ delivery_count: start });
      for (const { delivery_count: count } of flows)
        should([start, ...ids, (start + COUNT) % 2 ** 32]).containEql(count);
      await link.close();
      should(connections).equal(1);
    });
  }

  it('sends deliveries whose ids and transfers wrap, and takes a range of outcomes across the end', async () => {
    const { prototype } = require('rhea/lib/session.js') as { prototype: { begin: (this: Opening) => void } };
    const { begin } = prototype;
    // As after four billion messages.
    prototype.begin = function () {
      if (!this.connection.is_server) this.local.begin['next_outgoing_id'] = NEAR_END;
      begin.call(this);
    };
    const ids: unknown[] = [];
    container.on('receiver_open', ({ receiver: link }: EventContext) => {
      const peer = link!.session as PeerSession;
      peer.on_transfer = ({ performative }) => {
        if (ids.push(performative['delivery_id']) < COUNT) return;
        const [first, middle, last] = [serials[0], serials[9], serials.at(-1)];
        const fields = { role: true, settled: true };
        peer.output(frames.disposition({ ...fields, first, last: middle, state: outcome('accepted') }));
        peer.output(frames.disposition({ ...fields, first: serials[10], last, state: outcome('accepted') }));
        // Of none that there are, or were.
        peer.output(frames.disposition({ ...fields, first: 500, last: 600, state: outcome('released') }));
      };
    });
    try {
      const options = { buffer: 100, bufferBytes: 1e6, full: 'refuse', retryTime: 0, timeout: 0 } as const;
      const sender = new Sender(connection, { name: 's', address: 'q', guarantee: 'at-least-once', ...options });
      sender.open();
      connection.open();
      const bytes = rhea.message.encode({ body: 'x' });
      const all = serials.map(
        () => new Promise<Sent>((resolve) => sender.send(new Entry(bytes, (_error, sent) => resolve(sent)))),
      );
      should((await Promise.all(all)).map(({ state }) => state)).eql(serials.map(() => 'accepted'));
      should(ids).eql(serials);
      await sender.close(1000);
      should(connections).equal(1);
    } finally {
      prototype.begin = begin;
    }
  });

  it('ends what a peer settles with a state that is none of the outcomes, and leaves the console alone (R20)', async () => {
    container.on('receiver_open', ({ receiver: link }: EventContext) => {
      const peer = link!.session as PeerSession;
      const transactional = rhea.types.wrap_described([], 0x34);
      peer.on_transfer = ({ performative: { delivery_id: first } }) =>
        peer.output(frames.disposition({ role: true, first, settled: true, state: transactional }));
    });
    const options = { buffer: 100, bufferBytes: 1e6, full: 'refuse', retryTime: 0, timeout: 0 } as const;
    const sender = new Sender(connection, { name: 's', address: 'q', guarantee: 'at-least-once', ...options });
    sender.open();
    connection.open();
    const bytes = rhea.message.encode({ body: 'x' });
    const sent = await new Promise<Sent>((resolve) => sender.send(new Entry(bytes, (_error, one) => resolve(one))));
    should(sent).match({ state: 'failed', error: { code: 'AMQP_IN_DOUBT' } });
    await sender.close(1000);
    should(connections).equal(1);
  });

  /** The peer takes frames of 512 bytes. */
  function smallFrames(): void {
    container.on('connection_open', (context: EventContext) => {
      (context.connection as unknown as { local: { open: Fields } }).local.open['max_frame_size'] = 512;
    });
  }

  /** A sender with these options, and what becomes of `bodies` that it sends. */
  function sending(
    bodies: unknown[],
    guarantee: Guarantee = 'at-least-once',
  ): { sender: Sender; ends: Promise<Sent>[] } {
    const options = { buffer: 100, bufferBytes: 1e6, full: 'refuse', retryTime: 0, timeout: 0 } as const;
    const sender = new Sender(connection, { name: 's', address: 'q', guarantee, ...options });
    sender.open();
    connection.open();
    const ends = bodies.map((body) => {
      const bytes = rhea.message.encode({ body });
      return new Promise<Sent>((resolve) => sender.send(new Entry(bytes, (_error, sent) => resolve(sent))));
    });
    return { sender, ends };
  }

  it('sends no frame beyond the window of the peer, and goes on where it was (2.5.6)', async () => {
    const got: number[] = [];
    let peer: PeerSession;
    let window = 2;
    /** Opens the window by two frames once it is used up. */
    const open = (): void => {
      const windows = { next_incoming_id: got.length, incoming_window: 2, next_outgoing_id: 0, outgoing_window: 100 };
      peer.output(frames.flow({ ...windows, handle: 0, delivery_count: 0, link_credit: 10 }));
      window = got.length + 2;
    };
    container.on('session_open', ({ session }: EventContext) => {
      peer = session as PeerSession;
      peer.local.begin['incoming_window'] = 2;
      peer.on_transfer = ({ performative: { delivery_id: id, more }, payload }: Frame & { payload?: Buffer }) => {
        should(got.push(payload!.length)).be.belowOrEqual(window);
        if (!more)
          peer.output(frames.disposition({ role: true, first: id, settled: true, state: outcome('accepted') }));
        if (got.length === window) setImmediate(open);
      };
    });
    smallFrames();
    container.on('receiver_open', () => setImmediate(open));
    const { sender, ends } = sending(['x'.repeat(3000), 'y', 'z'.repeat(1500)]);
    should((await Promise.all(ends)).map(({ state }) => state)).eql(['accepted', 'accepted', 'accepted']);
    should(got.length).be.greaterThan(10);
    await sender.close(1000);
    should(connections).equal(1);
  });

  it('tells of what is pre-settled once all of it is written', async () => {
    const got: boolean[] = [];
    let opened: () => void;
    const opening = new Promise<void>((resolve) => (opened = resolve));
    let peer: PeerSession;
    smallFrames();
    container.on('session_open', ({ session }: EventContext) => {
      peer = session as PeerSession;
      peer.local.begin['incoming_window'] = 1;
      peer.on_transfer = ({ performative: { more } }) => {
        if (got.push(more === true) === 1) setImmediate(opened);
      };
    });
    container.on('receiver_open', () => {
      const windows = { next_incoming_id: 0, incoming_window: 1, next_outgoing_id: 0, outgoing_window: 100 };
      setImmediate(() => peer.output(frames.flow({ ...windows, handle: 0, delivery_count: 0, link_credit: 10 })));
    });
    const { sender, ends } = sending(['x'.repeat(800)], 'pre-settled');
    let isTold = false;
    void ends[0]!.then(() => (isTold = true));
    await opening;
    should(isTold).be.false();
    peer!.output(frames.flow({ next_incoming_id: 1, incoming_window: 100, next_outgoing_id: 0, outgoing_window: 100 }));
    should(await ends[0]).match({ state: 'settled' });
    await sender.close(1000);
    should(got).eql([true, false]);
  });

  it('lets none go without an end that is pre-settled, when the connection goes before all of it is written', async () => {
    smallFrames();
    let written: () => void;
    const begun = new Promise<void>((resolve) => (written = resolve));
    container.on('session_open', ({ session }: EventContext) => {
      const peer = session as PeerSession;
      peer.local.begin['incoming_window'] = 1;
      peer.on_transfer = () => setImmediate(written);
    });
    container.on('receiver_open', ({ receiver: link }: EventContext) => {
      const windows = { next_incoming_id: 0, incoming_window: 1, next_outgoing_id: 0, outgoing_window: 100 };
      const peer = link!.session as PeerSession;
      setImmediate(() => peer.output(frames.flow({ ...windows, handle: 0, delivery_count: 0, link_credit: 10 })));
    });
    const { sender, ends } = sending(['x'.repeat(800)], 'pre-settled');
    await begun;
    await connection.close();
    should(await ends[0]).match({ state: 'failed', error: { code: 'AMQP_IN_DOUBT' } });
    await sender.close(0);
  });

  it('settles what the peer gives an outcome and leaves unsettled, with that outcome (R7)', async () => {
    const answers: Fields[] = [];
    container.on('receiver_open', ({ receiver: link }: EventContext) => {
      const peer = link!.session as PeerSession;
      let last: unknown;
      peer.on_transfer = ({ performative: { delivery_id: id } }) => {
        last = id;
        if (id !== 2) return;
        const received = rhea.types.wrap_described([rhea.types.wrap_uint(0), rhea.types.wrap_ulong(0)], 0x23);
        peer.output(frames.disposition({ role: true, first: 0, last, settled: false, state: received }));
        peer.output(frames.disposition({ role: true, first: 0, last, settled: false, state: outcome('accepted') }));
      };
      peer.on_disposition = ({ performative }) => answers.push(performative);
    });
    const { sender, ends } = sending([1, 2, 3]);
    should((await Promise.all(ends)).map(({ state }) => state)).eql(['accepted', 'accepted', 'accepted']);
    await sender.close(1000);
    should(answers).have.length(1);
    should(answers[0]).match({ role: false, first: 0, last: 2, settled: true });
    should((answers[0]!['state'] as { descriptor: { value: unknown } }).descriptor.value).equal(0x24);
  });

  it('writes outcomes as ranges of what is alike, each with its own (R1)', async () => {
    const seen: unknown[] = [];
    let settled: () => void;
    const all = new Promise<void>((resolve) => (settled = resolve));
    container.on('session_open', ({ session }: EventContext) => {
      (session as PeerSession).on_disposition = ({ performative: { first, last, state } }) => {
        seen.push([first, last ?? first, (state as { descriptor: { value: unknown } }).descriptor.value]);
        if (seen.length === 4) settled();
      };
    });
    container.once('sendable', ({ sender }: EventContext) => {
      for (let body = 0; body < 8; body++) sender!.send({ body });
    });
    const { link, got } = await receiver(8);
    for (const [index, [, token]] of got.entries())
      link.settle(token, { settle: index === 3 ? 'reject' : index < 6 ? 'accept' : 'release' });
    await all;
    should(seen).eql([
      [0, 2, 0x24],
      [3, 3, 0x25],
      [4, 5, 0x24],
      [6, 7, 0x26],
    ]);
    await link.close();
  });

  it('takes an aborted delivery as one that has used credit', async () => {
    let counted: () => void;
    const allCounted = new Promise<void>((resolve) => (counted = resolve));
    container.on('session_open', ({ session }: EventContext) => {
      const peer = session as PeerSession;
      const onFlow = peer.on_flow.bind(peer);
      peer.on_flow = (frame) => {
        if (frame.performative['delivery_count'] === 3) counted();
        onFlow(frame);
      };
    });
    container.once('sendable', ({ sender }: EventContext) => {
      const peer = sender!.session as PeerSession;
      const bytes = rhea.message.encode({ body: 'whole' });
      const fields = { handle: 0, message_format: 0 };
      peer.output(frames.transfer({ ...fields, delivery_id: 0, delivery_tag: Buffer.of(0), more: true }), bytes);
      peer.output(frames.transfer({ handle: 0, aborted: true }));
      peer.output(frames.transfer({ ...fields, delivery_id: 1, delivery_tag: Buffer.of(1), aborted: true }));
      peer.output(frames.transfer({ ...fields, delivery_id: 2, delivery_tag: Buffer.of(2) }), bytes);
    });
    const { link, got } = await receiver(1);
    should(got.map(([body]) => body)).eql(['whole']);
    link.settle(got[0]![1], { settle: 'accept' });
    await allCounted;
    await link.close();
    should(connections).equal(1);
  });

  it('writes nothing more once it has ended, whatever still comes', async () => {
    const late: string[] = [];
    let peer: PeerSession;
    let answered: () => void;
    const all = new Promise<void>((resolve) => (answered = resolve));
    container.on('session_open', ({ session }: EventContext) => {
      peer = session as PeerSession;
      peer.on_transfer = () => {};
    });
    container.once('session_close', () => {
      peer.on_disposition = () => late.push('disposition');
      peer.on_flow = () => late.push('flow');
      peer.output(frames.disposition({ role: true, first: 0, settled: false, state: outcome('accepted') }));
      const windows = { next_incoming_id: 1, incoming_window: 100, next_outgoing_id: 0, outgoing_window: 100 };
      peer.output(frames.flow({ ...windows, echo: true }));
      answered();
    });
    container.on('receiver_open', ({ receiver: link }: EventContext) => setImmediate(() => link!.add_credit(10)));
    const { sender, ends } = sending([1]);
    await once(sender, 'state');
    await sender.close(100);
    await all;
    should(await ends[0]).match({ state: 'failed' });
    should(connections).equal(1);
    should(late).eql([]);
  });

  it('writes nothing behind its end, also where the peer detaches a link just then (R90)', async () => {
    connection.open();
    while (connection.state.name !== 'connected') await once(connection, 'state');
    const { session } = connection.beginSession(connection.wire!)!;
    const [{ session: peer }] = (await once(container, 'session_open')) as [{ session: PeerSession }];
    const detached: Fields[] = [];
    Object.assign(peer, { on_detach: ({ performative }: Frame) => detached.push(performative) });
    const link = session.attachReceiver('r', { source: { address: 'q' } });
    const [{ sender }] = (await once(container, 'sender_open')) as [{ sender: { close(): void } }];
    await once(link, 'open');
    // Both at the same time: neither has read what the other writes.
    const over = Promise.all([once(link, 'close'), once(container, 'session_close')]);
    sender.close();
    session.end();
    await over;
    should(detached).eql([]);
    // The connection goes on.
    const { session: next } = connection.beginSession(connection.wire!)!;
    await once(next.attachReceiver('next', { source: { address: 'q' } }), 'open');
    should(connections).equal(1);
  });
});
