// Nodes on an endpoint that listens, with clients that connect to it.
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import * as net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Connection } from 'rhea';
import should from 'should';
import { freePort } from '../../scripts/free-port';
import { type Account, accountOf } from '../../nodes/lib/auth/accounts';
import { connectTo, first, receiver, sender, take } from '../broker/client';
import {
  collect,
  endpointNode,
  fail,
  flow,
  helper,
  inject,
  load,
  message,
  messages,
  node,
  nodes,
  send,
  status,
} from '../flow';
import { clients, detached, listening, sendTo, takeFrom } from '../listen';
import { coreNode, type NodeConfig } from '../node-red';
import { secretOf } from '../secrets';

const fixture = (name: string): string => join(__dirname, '..', 'fixtures', name);

let port: number;
const open = new Set<Connection>();

/** A client, closed after the test. */
async function client(options: Record<string, unknown> = {}): Promise<Connection> {
  const connection = await connectTo(port, options);
  open.add(connection);
  return connection;
}

/** Ends a connection without a word. */
function drop(connection: Connection): void {
  open.delete(connection);
  (connection as unknown as { socket: net.Socket }).socket.destroy();
}

const start = (...configs: NodeConfig[]): Promise<void> => load(flow(listening(port), ...configs));
const code = (msg: { error?: { code?: string } }): string | undefined => msg.error?.code;

const copies = (properties: object = {}): NodeConfig => node('amqp-sender', { copies: true, wires: [], ...properties });

/** A reply address that is made for the client. */
const replies = (connection: Connection) => receiver(connection, { dynamic: true });

const password = secretOf('password');

const tls = (files: object = {}): NodeConfig => ({
  id: 'tls',
  type: 'tls-config',
  cert: fixture('server.crt'),
  key: fixture('server.key'),
  ca: fixture('ca.crt'),
  ...files,
});

const lines = (): string[] => helper.log().args.flatMap(([{ msg }]) => String(msg));

/** How a login ends. */
const login = (options: Record<string, unknown>): Promise<string> =>
  client(options).then(
    async (connection) => (await sendTo(await sender(connection, 'q'), 1)).state,
    (error: Error & { condition?: string }) => error.condition ?? error.message,
  );

describe('an endpoint that listens', () => {
  before(() => helper.startServer());
  after(() => helper.stopServer());
  beforeEach(async () => {
    port = await freePort();
  });
  afterEach(async () => {
    for (const connection of open) drop(connection);
    await helper.unload();
  });

  describe('with a receiver', () => {
    it('accepts on arrival what a client sends to its address', async () => {
      await start(node('amqp-receiver'));
      const out = message('out');
      const link = await sender(await client(), 'q');
      should(await sendTo(link, 'hello', { subject: 's' })).eql({ state: 'accepted' });
      should(await out).match({ payload: 'hello', topic: 'q', amqp: { subject: 's' } });
    });

    it('gives a client the outcome that the flow gives', async () => {
      await start(node('amqp-receiver', { settle: 'flow' }));
      const link = await sender(await client(), 'q');
      const told = async (settling: object): Promise<object> => {
        const out = message('out');
        const outcome = sendTo(link, 1);
        inject('receiver', { delivery: (await out).delivery, ...settling });
        return outcome;
      };
      should(await told({})).eql({ state: 'accepted' });
      should(await told({ settle: 'reject', error: { condition: 'my:error', description: 'no good' } })).eql({
        state: 'rejected',
        condition: 'my:error',
        description: 'no good',
      });
      should(await told({ settle: 'release' })).eql({ state: 'released' });
      should(await told({ settle: 'modify', undeliverable_here: true })).match({
        state: 'modified',
        isFailed: true,
        isUndeliverable: true,
      });
    });

    it('modifies what the flow fails, as a Catch node tells it, and accepts what it completes', async () => {
      await start(node('amqp-receiver', { settle: 'flow', onerror: 'reject' }));
      const link = await sender(await client(), 'q');
      const out = messages('out', 2);
      const outcomes = Promise.all([sendTo(link, 1), sendTo(link, 2)]);
      const [one, two] = await out;
      inject('receiver', { ...one, error: { message: 'it broke', source: { id: 'x' } } });
      inject('receiver', { ...two });
      const [rejected, accepted] = await outcomes;
      should(rejected).match({ state: 'rejected', description: 'it broke' });
      should(accepted).eql({ state: 'accepted' });
    });

    it('takes what comes pre-settled', async () => {
      await start(node('amqp-receiver', { settle: 'pre-settled' }));
      const out = messages('out', 20);
      const link = await sender(await client(), 'q', { snd_settle_mode: 1 });
      for (let i = 0; i < 20; i++) link.send({ body: i });
      should((await out).map(({ payload }) => payload)).eql(Array.from({ length: 20 }, (_, i) => i));
    });

    it('gives each client no more credit than its window, and more once the flow has settled', async () => {
      await start(node('amqp-receiver', { settle: 'flow', creditwindow: 5 }));
      const link = await sender(await client(), 'q');
      if (!link.sendable()) await first(link, 'sendable');
      should((link as unknown as { credit: number }).credit).equal(5);
      const out = messages('out', 5);
      for (let i = 0; i < 5; i++) link.send({ body: i });
      const all = await out;
      should(link.sendable()).be.false();
      const again = first(link, 'sendable');
      for (const msg of all) inject('receiver', msg);
      await again;
    });

    it('gives a flow several messages as one, of each client in its order', async () => {
      await start(node('amqp-receiver', { settle: 'flow', together: 3, togethertime: 1 }));
      const link = await sender(await client(), 'q');
      const out = message('out');
      const outcomes = Promise.all([1, 2, 3].map((n) => sendTo(link, n)));
      const msg = await out;
      should((msg.payload as { payload: number }[]).map(({ payload }) => payload)).eql([1, 2, 3]);
      inject('receiver', msg);
      should(await outcomes).eql([1, 2, 3].map(() => ({ state: 'accepted' })));
    });

    it('keeps the order of a group until the flow has settled its first message', async () => {
      await start(node('amqp-receiver', { settle: 'flow', order: 'group' }));
      const link = await sender(await client(), 'q');
      const out = collect('out');
      const firsts = messages('out', 2);
      const outcomes = [
        sendTo(link, 'a1', { group_id: 'a' }),
        sendTo(link, 'a2', { group_id: 'a' }),
        sendTo(link, 'b1', { group_id: 'b' }),
      ];
      const [a1, b1] = await firsts;
      should(out.map(({ payload }) => payload)).eql(['a1', 'b1']);
      const next = message('out');
      inject('receiver', a1!);
      const a2 = await next;
      should(a2.payload).equal('a2');
      for (const msg of [a2, b1!]) inject('receiver', msg);
      await Promise.all(outcomes);
    });

    it('rejects what is larger than it takes, and what cannot be decoded, and goes on', async () => {
      await start(node('amqp-receiver', { maxmessagesize: 1 }));
      const link = await sender(await client(), 'q');
      should(link.max_message_size).equal(1024);
      const caught = message('caught');
      should(await sendTo(link, 'x'.repeat(2000))).match({
        state: 'rejected',
        condition: 'amqp:link:message-size-exceeded',
      });
      should(code(await caught)).equal('AMQP_TOO_LARGE');
      const second = message('caught');
      const delivery = link.send(Buffer.from([0, 0x53]), undefined, 0x80);
      void delivery;
      should(code(await second)).equal('AMQP_DECODE');
      should(await sendTo(link, 'x')).eql({ state: 'accepted' });
    });

    it('says that a client is gone whose message the flow settles', async () => {
      await start(node('amqp-receiver', { settle: 'flow' }));
      const [other, gone] = [await client(), await client()];
      const held = message('out');
      (await sender(gone, 'q')).send({ body: 1 });
      const msg = await held;
      await sender(other, 'q');
      drop(gone);
      await clients(1);
      const caught = message('caught');
      inject('receiver', msg);
      should(code(await caught)).equal('AMQP_DELIVERY_LOST');
    });

    it('shares the clients among receivers of one address', async () => {
      await start(node('amqp-receiver', { id: 'one' }), node('amqp-receiver', { id: 'two', wires: [['outcome']] }));
      const arrived = [message('out'), message('outcome')];
      for (let i = 0; i < 2; i++) await sendTo(await sender(await client(), 'q'), i);
      should((await Promise.all(arrived)).map(({ payload }) => payload)).eql([0, 1]);
    });

    it('pauses and resumes', async () => {
      await start(node('amqp-receiver'));
      const link = await sender(await client(), 'q');
      if (!link.sendable()) await first(link, 'sendable');
      const flowed = once(link, 'sender_flow');
      inject('receiver', { action: 'pause' });
      await flowed;
      should(link.sendable()).be.false();
      await status('receiver', 'status.paused');
      // One that comes meanwhile has to wait too.
      const late = await sender(await client(), 'q');
      should(late.sendable()).be.false();
      inject('receiver', { action: 'resume' });
      should(await sendTo(link, 1)).eql({ state: 'accepted' });
      should(await sendTo(late, 1)).eql({ state: 'accepted' });
    });

    it('detaches clients with the error of the flow, and takes them again once it subscribes', async () => {
      await start(node('amqp-receiver'));
      const connection = await client();
      const link = await sender(connection, 'q');
      const gone = detached(link);
      inject('receiver', { action: 'detach', error: { condition: 'my:error' } });
      should(await gone).equal('my:error');
      inject('receiver', { action: 'unsubscribe' });
      await status('receiver', 'status.detached');
      await sender(connection, 'q').should.be.rejectedWith({ condition: 'amqp:not-found' });
      inject('receiver', { action: 'subscribe' });
      await status('receiver', 'status.listening');
      should(await sendTo(await sender(connection, 'q'), 1)).eql({ state: 'accepted' });
    });

    it('takes an address that the flow names', async () => {
      await start(node('amqp-receiver', { address: '' }));
      const connection = await client();
      await sender(connection, 'later').should.be.rejectedWith({ condition: 'amqp:not-found' });
      inject('receiver', { action: 'subscribe', address: 'later' });
      await status('receiver', 'status.listening');
      should(await sendTo(await sender(connection, 'later'), 1)).eql({ state: 'accepted' });
    });

    it('hands a redeployed node its clients anew, and leaves others alone', async () => {
      const configs = flow(
        listening(port),
        node('amqp-receiver', { settle: 'flow' }),
        node('amqp-receiver', { id: 'other', address: 'other', wires: [['outcome']] }),
      );
      await load(configs);
      const connection = await client();
      const [link, other] = [await sender(connection, 'q'), await sender(connection, 'other')];
      let isDetached = false;
      other.on('sender_close', () => (isDetached = true));
      const gone = detached(link);
      await helper.setFlows(
        configs.map((one) => (one.id === 'receiver' ? { ...one, creditwindow: 7 } : one)),
        'nodes',
      );
      should(await gone).equal('amqp:link:detach-forced');
      await status('receiver', 'status.listening');
      const again = await sender(connection, 'q');
      if (!again.sendable()) await first(again, 'sendable');
      should((again as unknown as { credit: number }).credit).equal(7);
      should(await sendTo(other, 1)).eql({ state: 'accepted' });
      should(isDetached).be.false();
    });

    it('gives a redeployed node nothing of a client that attaches while the flow has messages of before', async () => {
      const configs = flow(listening(port), node('amqp-receiver', { settle: 'flow' }));
      await load(configs);
      const connection = await client();
      const link = await sender(connection, 'q');
      const held = message('out');
      const outcome = sendTo(link, 1);
      const msg = await held;
      await helper.setFlows(
        configs.map((one) => (one.id === 'receiver' ? { ...one, creditwindow: 7 } : one)),
        'nodes',
      );
      const late = await sender(connection, 'q');
      const gone = detached(late);
      inject('receiver', msg);
      should(await outcome).eql({ state: 'accepted' });
      should(await gone).equal('amqp:link:detach-forced');
      should((late as unknown as { credit: number }).credit).equal(0);
      await status('receiver', 'status.listening');
      const next = message('out');
      (await sender(connection, 'q')).send({ body: 2 });
      should((await next).payload).equal(2);
    });
  });

  describe('with a sender', () => {
    it('keeps messages until a client comes for them', async () => {
      await start(node('amqp-sender', { wires: [['outcome']] }));
      const done = messages('completed', 3);
      for (let i = 0; i < 3; i++) inject('sender', { payload: i });
      should(await takeFrom(await receiver(await client(), 'q'), 3)).eql([0, 1, 2]);
      should((await done).map(({ sent }) => sent!.state)).eql(['accepted', 'accepted', 'accepted']);
    });

    it('has clients take turns', async () => {
      await start(node('amqp-sender', { wires: [] }));
      const links = [await receiver(await client(), 'q'), await receiver(await client(), 'q')];
      const taken = Promise.all(links.map((link) => takeFrom(link, 5)));
      await Promise.all(links.map(() => clients(2)));
      for (let i = 0; i < 10; i++) inject('sender', { payload: i });
      const [one, other] = await taken;
      should([...one!, ...other!].toSorted((a, b) => Number(a) - Number(b))).eql([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    });

    it('gives what a client leaves unsettled to the next one, in order', async () => {
      await start(node('amqp-sender', { wires: [] }));
      const gone = await client();
      const kept = takeFrom(await receiver(gone, 'q'), 3, true);
      for (let i = 0; i < 5; i++) inject('sender', { payload: i });
      should(await kept).eql([0, 1, 2]);
      const done = messages('completed', 5);
      drop(gone);
      should(await takeFrom(await receiver(await client(), 'q'), 5)).eql([0, 1, 2, 3, 4]);
      await done;
    });

    it('fails what a client rejects, with the words of the client', async () => {
      await start(node('amqp-sender', { wires: [] }));
      const link = await receiver(await client(), 'q');
      const caught = fail({ payload: 1 });
      (await take(link)).delivery.reject({ condition: 'my:error', description: 'no good' });
      should((await caught).error).match({ code: 'AMQP_REJECTED', message: /my:error: no good/ });
    });

    it('gives what one client releases to another', async () => {
      await start(node('amqp-sender', { wires: [] }));
      const [one, other] = [await receiver(await client(), 'q'), await receiver(await client(), 'q')];
      const completed = send({ payload: 1 });
      (await take(one)).delivery.release();
      should(await takeFrom(other, 1)).eql([1]);
      should((await completed).sent!.state).equal('accepted');
    });

    it('fails what is larger than the client takes, and goes on', async () => {
      await start(node('amqp-sender', { wires: [] }));
      const link = await receiver(await client(), 'q', { max_message_size: 100 });
      const taken = takeFrom(link, 1);
      should(code(await fail({ payload: 'x'.repeat(200) }))).equal('AMQP_TOO_LARGE');
      const completed = send({ payload: 'x' });
      should(await taken).eql(['x']);
      await completed;
    });

    it('sends pre-settled to a client that asks for it', async () => {
      await start(node('amqp-sender', { wires: [['outcome']] }));
      const link = await receiver(await client(), 'q', { snd_settle_mode: 1 });
      const arrived = first(link, 'message');
      link.add_credit(1);
      should((await send({ payload: 1 })).sent!.state).equal('settled');
      should((await arrived).delivery!.remote_settled).be.true();
    });

    it('keeps messages on disk over a restart until a client comes', async () => {
      const userDir = mkdtempSync(join(tmpdir(), 'amqp-listen-'));
      try {
        const configs = flow(listening(port), node('amqp-sender', { store: 'write', wires: [] }));
        await load(configs, {}, { userDir });
        const stored = messages('completed', 3);
        for (let i = 0; i < 3; i++) inject('sender', { payload: i });
        await stored;
        await helper.unload();
        await load(configs, {}, { userDir });
        should(await takeFrom(await receiver(await client(), 'q'), 3)).eql([0, 1, 2]);
        await status('sender', 'status.listening');
        await helper.unload();
      } finally {
        rmSync(userDir, { recursive: true });
      }
    });

    it('sends to the address that a message names', async () => {
      await start(node('amqp-sender', { address: '', wires: [] }), node('amqp-sender', { id: 'x', address: 'one' }));
      const link = await receiver(await client(), 'one');
      const completed = send({ payload: 1, topic: 'one' });
      should(await takeFrom(link, 1)).eql([1]);
      await completed;
    });

    it('pauses nothing when the endpoint disconnects, and lets clients in again once it connects', async () => {
      await start(node('amqp-sender', { wires: [] }));
      const connection = await client();
      await receiver(connection, 'q');
      const closed = first(connection, 'connection_close', 'connection_error', 'disconnected');
      inject('sender', { action: 'disconnect' });
      await closed;
      await status('broker', 'status.idle');
      await client().should.be.rejected();
      inject('sender', { payload: 1 });
      inject('sender', { action: 'connect' });
      await clients(0);
      should(await takeFrom(await receiver(await client(), 'q'), 1)).eql([1]);
    });

    it('detaches clients with the error of the flow', async () => {
      await start(node('amqp-sender', { wires: [] }));
      const link = await receiver(await client(), 'q');
      const gone = detached(link);
      inject('sender', { action: 'detach', error: { condition: 'my:error' } });
      should(await gone).equal('my:error');
    });

    it('detaches the clients of a node that is redeployed, and only these', async () => {
      const configs = flow(
        listening(port),
        node('amqp-sender', { wires: [] }),
        node('amqp-sender', { id: 'other', address: 'other', wires: [] }),
      );
      await load(configs);
      const connection = await client();
      const [link, other] = [await receiver(connection, 'q'), await receiver(connection, 'other')];
      const gone = detached(link);
      await helper.setFlows(
        configs.map((one) => (one.id === 'sender' ? { ...one, buffer: 7 } : one)),
        'nodes',
      );
      should(await gone).equal('amqp:link:detach-forced');
      inject('sender', { payload: 1 });
      should(await takeFrom(await receiver(connection, 'q'), 1)).eql([1]);
      inject('other', { payload: 2 });
      should(await takeFrom(other, 1)).eql([2]);
    });
  });

  describe('with a sender of copies', () => {
    it('gives each client each message, and is done once all have taken it', async () => {
      await start(copies());
      const links = [await receiver(await client(), 'q'), await receiver(await client(), 'q')];
      const done = messages('completed', 5);
      for (let i = 0; i < 5; i++) inject('sender', { payload: i });
      should(await Promise.all(links.map((link) => takeFrom(link, 5)))).eql([
        [0, 1, 2, 3, 4],
        [0, 1, 2, 3, 4],
      ]);
      should((await done).map(({ sent }) => sent!.state)).eql(Array(5).fill('accepted'));
    });

    it('keeps messages for the first client', async () => {
      await start(copies());
      for (let i = 0; i < 5; i++) inject('sender', { payload: i });
      should(await takeFrom(await receiver(await client(), 'q'), 5)).eql([0, 1, 2, 3, 4]);
    });

    it('fails a message that one client rejects', async () => {
      await start(copies());
      const [one, other] = [await receiver(await client(), 'q'), await receiver(await client(), 'q')];
      const taken = takeFrom(other, 1);
      const caught = fail({ payload: 1 });
      (await take(one)).delivery.reject({ condition: 'my:error' });
      await taken;
      should((await caught).error).match({ code: 'AMQP_REJECTED', message: /my:error/ });
    });

    it('sends a burst of thousands to a client that reads', async function () {
      await start(copies());
      const link = await receiver(await client(), 'q');
      const taken = takeFrom(link, 3000);
      const done = messages('completed', 3000);
      for (let i = 0; i < 3000; i++) inject('sender', { payload: i });
      should(await taken).eql(Array.from({ length: 3000 }, (_, i) => i));
      await done;
    });

    it('sends away a client that falls behind, answers or not, and goes on for the others', async () => {
      await start(copies());
      const [slow, quick] = [await client(), await client()];
      const behind = await receiver(slow, 'q');
      const gone = detached(behind);
      const link = await receiver(quick, 'q');
      const done = messages('completed', 3000);
      const taken = takeFrom(link, 3000);
      for (let i = 0; i < 3000; i++) inject('sender', { payload: i });
      should((await taken).length).equal(3000);
      should(await gone).equal('amqp:resource-limit-exceeded');
      await done;
    });

    it('goes on when the only other client that has it leaves', async () => {
      await start(copies());
      const gone = await client();
      const kept = takeFrom(await receiver(gone, 'q'), 1, true);
      const link = await receiver(await client(), 'q');
      const completed = send({ payload: 1 });
      await kept;
      should(await takeFrom(link, 1)).eql([1]);
      drop(gone);
      should((await completed).sent!.state).equal('accepted');
    });
  });

  describe('with a responder', () => {
    it('replies to the address that was made for the client', async () => {
      await start(node('amqp-responder', { wires: [['responder']] }));
      const connection = await client();
      const link = await replies(connection);
      should(link.source.address).match(/^temporary\/\S{10,}/);
      const taken = takeFrom(link, 1);
      const told = await sendTo(await sender(connection, 'q'), 'hi', {
        reply_to: link.source.address,
        correlation_id: 'c',
      });
      should(told).eql({ state: 'accepted' });
      should(await taken).eql(['hi']);
    });

    it('accepts a request once the flow has answered, for a client that waits for that before it takes the reply', async () => {
      await start(node('amqp-responder'));
      const connection = await client();
      const link = await replies(connection);
      const out = message('out');
      let isAccepted = false;
      const told = sendTo(await sender(connection, 'q'), 'hi', { reply_to: link.source.address, message_id: 'm' });
      void told.then(() => (isAccepted = true));
      const request = await out;
      should(isAccepted).be.false();
      const completed = message('completed');
      inject('responder', { ...request, payload: 'reply' });
      should(await told).eql({ state: 'accepted' });
      should(await takeFrom(link, 1)).eql(['reply']);
      should((await completed).sent!.state).equal('accepted');
    });

    it('replies to a temporary queue that a link for sending has made, as JMS asks for it', async () => {
      await start(node('amqp-responder', { wires: [['responder']] }));
      const connection = await client();
      const maker = await sender(connection, { dynamic: true, capabilities: ['temporary-queue'] });
      const { address } = maker.target;
      should(address).match(/^temporary\//);
      const link = await receiver(connection, address);
      const taken = takeFrom(link, 1);
      await sendTo(await sender(connection, 'q'), 'hi', { reply_to: address, correlation_id: 'c' });
      should(await taken).eql(['hi']);
      const gone = detached(link);
      maker.close();
      should(await gone).equal('amqp:resource-deleted');
      await receiver(connection, address).should.be.rejectedWith({ condition: 'amqp:not-found' });
    });

    it('fails the reply to a client that is gone, and rejects nothing of others', async () => {
      await start(node('amqp-responder'));
      const [gone, other] = [await client(), await client()];
      const link = await replies(gone);
      const out = message('out');
      void sendTo(await sender(other, 'q'), 'hi', { reply_to: link.source.address, message_id: 'm' });
      const request = await out;
      drop(gone);
      await clients(1);
      const caught = message('caught');
      inject('responder', { ...request, payload: 'late' });
      should((await caught).error).match({ code: 'AMQP_LINK_REFUSED', message: /amqp:not-found/ });
    });

    it('keeps nothing of a thousand clients that have asked and gone', async function () {
      await start(node('amqp-responder', { wires: [['responder']] }));
      const connection = await client();
      const to = await sender(connection, 'q');
      for (let i = 0; i < 50; i++) {
        const links = [await replies(connection), await replies(connection)];
        await Promise.all(
          links.map(async (link) => {
            const taken = takeFrom(link, 1);
            await sendTo(to, i, { reply_to: link.source.address, message_id: 'm' });
            await taken;
          }),
        );
        for (const link of links) {
          const ended = once(link.session, 'session_close');
          link.session.close();
          await ended;
        }
      }
      const { endpoint } = helper.getNode('broker') as unknown as { endpoint: { links: { fed: number } } };
      should(endpoint.links.fed).equal(0);
    });
  });

  describe('with a requester', () => {
    it('asks a client that serves an address', async () => {
      await start(node('amqp-requester'));
      const connection = await client();
      const link = await receiver(connection, 'q');
      const reply = message('out');
      inject('requester', { payload: 'question' });
      const { message: request, delivery } = await take(link);
      delivery.accept();
      should(request.body).equal('question');
      should(request.reply_to).match(/^temporary\//);
      const to = await sender(connection, request.reply_to);
      should(await sendTo(to, 'answer', { correlation_id: request.correlation_id ?? request.message_id })).eql({
        state: 'accepted',
      });
      should((await reply).payload).equal('answer');
      // Nobody can take replies from there.
      await receiver(connection, request.reply_to).should.be.rejectedWith({ condition: 'amqp:not-found' });
    });

    it('tells of a request that no client answers', async () => {
      await start(node('amqp-requester', { timeout: 0.05 }));
      const caught = message('caught');
      inject('requester', { payload: 'question' });
      should(code(await caught)).equal('AMQP_REPLY_TIMEOUT');
    });
  });

  describe('refuses', () => {
    it('an address that no node has', async () => {
      await start(node('amqp-receiver'), node('amqp-sender', { address: 's' }));
      const connection = await client();
      for (const address of ['nobody', 's', 'temporary/made-up'])
        await sender(connection, address).should.be.rejectedWith({ condition: /^amqp:not-/ });
      for (const address of ['nobody', 'q', 'temporary/made-up'])
        await receiver(connection, address).should.be.rejectedWith({ condition: 'amqp:not-found' });
    });
  });

  it('refuses a port that another endpoint has, and takes it once that is gone', async () => {
    const one = [listening(port), node('amqp-receiver')];
    const second = [
      listening(port, { id: 'second' }),
      node('amqp-receiver', { id: 'two', endpoint: 'second', address: 'two' }),
    ];
    await load(flow(...one));
    await clients(0);
    await helper.setFlows(flow(...one, ...second), 'nodes');
    should(await status('second', 'reason.port-taken')).match({ fill: 'red' });
    should(await sendTo(await sender(await client(), 'q'), 1)).eql({ state: 'accepted' });
    await helper.setFlows(flow(...second), 'nodes');
    await clients(0, 'second');
    should(await sendTo(await sender(await client(), 'two'), 1)).eql({ state: 'accepted' });
  });

  it('sends clients away when it is redeployed, and has them back', async () => {
    const configs = flow(listening(port), node('amqp-receiver', { settle: 'flow' }));
    await load(configs);
    const connection = await client();
    const link = await sender(connection, 'q');
    const out = message('out');
    link.send({ body: 1 });
    const msg = await out;
    const closed = once(connection, 'connection_error');
    await helper.setFlows(
      configs.map((one) => (one.id === 'broker' ? { ...one, maxlinks: 7 } : one)),
      'nodes',
    );
    await closed;
    should((connection.error as unknown as { condition: string }).condition).equal('amqp:connection:forced');
    const again = message('out');
    (await sender(await client(), 'q')).send({ body: 2 });
    should((await again).payload).equal(2);
    const caught = message('caught');
    inject('receiver', msg);
    should(code(await caught)).equal('AMQP_DELIVERY_LOST');
  });

  describe('with accounts', () => {
    let accounts: Account[];

    before(async () => {
      accounts = [await accountOf('user', password), await accountOf('client', secretOf('other password'))];
    });

    async function guarded(properties: object = {}, ...more: NodeConfig[]): Promise<void> {
      helper.settings({ amqpEndpointReconnectTime: 20 });
      const configs = flow(listening(port, { anonymous: false, ...properties }), ...more, node('amqp-receiver'));
      await helper.load([...nodes, coreNode('network/05-tls')], configs, {
        broker: { accounts: JSON.stringify(accounts) },
      });
      await clients(0);
    }

    it('lets in by PLAIN who has the password, and nobody else', async () => {
      await guarded();
      should(await login({ username: 'user', password })).equal('accepted');
      const wrong = [{ username: 'user', password: 'wrong' }, { username: 'nobody', password }, { username: 'user' }];
      should(await Promise.all(wrong.map(login))).eql(Array(3).fill('amqp:unauthorized-access'));
    });

    for (const sasl of ['PLAIN', 'SCRAM-SHA-256']) {
      it(`lets our own nodes in by ${sasl}, and says so to the one with a wrong password`, async () => {
        const own = (id: string, address: string): NodeConfig[] => [
          endpointNode(port, { id, sasl }),
          node('amqp-sender', { id: address, endpoint: id, address: 'q', wires: [[]] }),
        ];
        helper.settings({ amqpEndpointReconnectTime: 20, amqpEndpointLoginRetryTime: 60_000 });
        await helper.load(
          nodes,
          flow(listening(port, { anonymous: false }), node('amqp-receiver'), ...own('good', 'a'), ...own('bad', 'b')),
          {
            broker: { accounts: JSON.stringify(accounts) },
            good: { user: 'user', pass: password },
            bad: { user: 'user', pass: secretOf('wrong password') },
          },
        );
        await status('a', 'status.connected');
        const out = message('out');
        inject('a', { payload: 1 });
        should((await out).payload).equal(1);
        await status('bad', 'status.auth');
        should(lines().filter((line) => /login-refused/.test(line)).length).equal(1);
      });
    }

    it('lets nobody in without a login, and everybody when it is told to', async () => {
      await guarded();
      should(await login({})).not.equal('accepted');
      await helper.unload();
      await guarded({ anonymous: true });
      should(await login({})).equal('accepted');
      should(await login({ username: undefined })).equal('accepted');
      should(await login({ username: 'user', password: 'wrong' })).equal('amqp:unauthorized-access');
    });

    it('is in error without accounts and without anonymous clients, and listens to nobody', async () => {
      await load(flow(listening(port, { anonymous: false }), node('amqp-receiver'), node('amqp-sender')));
      await status('broker', 'status.fault');
      await client().should.be.rejected();
      inject('sender', { payload: 1 });
      inject('sender', { payload: 1 });
      const errors = helper.log().args.filter(([{ level, id }]) => level === 20 && id === 'broker');
      should(errors.length).equal(1);
    });

    it('is in error where the accounts cannot be read, and shows nothing of them', async () => {
      await load(flow(listening(port), node('amqp-receiver')), { broker: { accounts: `[{"name":"${password}"}]` } });
      await status('broker', 'status.fault');
    });

    it('speaks TLS, and is not there without', async () => {
      await guarded({ usetls: true, tls: 'tls' }, tls());
      const ca = readFileSync(fixture('ca.crt'));
      const secure = { transport: 'tls', ca: [ca], servername: 'localhost' };
      should(await login({ ...secure, username: 'user', password })).equal('accepted');
      should(await login({ username: 'user', password })).not.equal('accepted');
      should(await login({ ...secure, username: 'user', password })).equal('accepted');
    });

    it('takes the certificate of a client whose name is that of an account, and no other', async () => {
      await guarded({ usetls: true, tls: 'tls', clientcertificates: true }, tls());
      const own = (files: object): NodeConfig[] => [
        { id: 'certificate', type: 'tls-config', ca: fixture('ca.crt'), servername: 'localhost', ...files },
        endpointNode(port, { id: 'own', usetls: true, tls: 'certificate', sasl: 'EXTERNAL' }),
        node('amqp-sender', { id: 'a', endpoint: 'own', wires: [[]] }),
      ];
      const configs = flow(
        listening(port, { anonymous: false, usetls: true, tls: 'tls', clientcertificates: true }),
        tls(),
        node('amqp-receiver'),
      );
      const files = { cert: fixture('client.crt'), key: fixture('client.key') };
      await helper.setFlows([...configs, ...own(files)], 'nodes');
      await status('a', 'status.connected');
      const out = message('out');
      inject('a', { payload: 1 });
      should((await out).payload).equal(1);
      // That of a server of the same authority: there is no account "localhost".
      await helper.setFlows([...configs, ...own({ cert: fixture('server.crt'), key: fixture('server.key') })], 'nodes');
      await status('own', 'reason.mechanism');
    });

    it('is in error where any authority could vouch for a client', async () => {
      helper.settings({});
      await helper.load(
        [...nodes, coreNode('network/05-tls')],
        flow(
          listening(port, { usetls: true, tls: 'tls', clientcertificates: true }),
          tls({ ca: '' }),
          node('amqp-receiver'),
        ),
      );
      await status('broker', 'status.fault');
    });

    it('is as good as new after a thousand logins with a wrong password', async function () {
      this.timeout(60_000);
      await guarded({ maxclients: 2000 });
      const before = lines().length;
      const secret = secretOf('wrong password');
      let right = 0;
      for (let round = 0; round < 4; round++) {
        const wrong = Array.from({ length: 250 }, () => login({ username: 'user', password: secret }));
        if ((await login({ username: 'user', password })) === 'accepted') right++;
        for (const ended of await Promise.all(wrong)) should(ended).not.equal('accepted');
      }
      should(right).equal(4);
      should(lines().length - before).be.below(10);
      should(await login({ username: 'user', password })).equal('accepted');
    });
  });
});
