import { once } from 'node:events';
import type net from 'node:net';
import rhea, { type Container, type EventContext, type Session } from 'rhea';
import should from 'should';
import { Connection } from '../../../../nodes/lib/connection/connection';
import { Receiver } from '../../../../nodes/lib/receiver/receiver';
import { Entry, type Sent } from '../../../../nodes/lib/link/entry';
import { Sender } from '../../../../nodes/lib/sender/sender';

type Fields = Record<string, unknown>;
/** What a scripted peer writes: rhea's frames, as its sessions take them. */
const frames: Record<'disposition' | 'transfer', (fields: Fields) => unknown> = require('rhea/lib/frames.js');
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
      host: '127.0.0.1',
      port: (server.address() as net.AddressInfo).port,
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
        message: ({ body }, _info, id) => got.push([body?.content, id]) === count && arrived(),
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
});
