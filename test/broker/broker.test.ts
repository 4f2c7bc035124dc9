import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import rhea, { type EventContext, type Receiver, type Session } from 'rhea';
import should from 'should';
import { Broker, type BrokerOptions } from '../../broker/broker';
import { begin, connectTo, first, receiver, send, sender, take } from './client';

type Options = Record<string, unknown>;

const fixture = (name: string) => readFileSync(path.join(__dirname, '..', 'fixtures', name));

/** rhea's own PLAIN cuts letters that are not ASCII (R26). */
const plainBob = (done: (error: undefined, response: Buffer) => void) => done(undefined, Buffer.from('\0bob\0paß'));

let broker: Broker;
const start = async (options?: BrokerOptions) => (broker = await Broker.start(options));
const connect = (options?: Options) => connectTo(broker.port, options);

/** Takes one message as it is on the wire, and gives it back. */
async function takeRaw(link: Receiver, format?: number): Promise<Buffer> {
  const session = link.session as Session & { on_transfer(frame: { performative: Options }): void };
  const onTransfer = session.on_transfer.bind(session);
  session.on_transfer = (frame) => {
    if (format !== undefined) (frame.performative.message_format as number).should.equal(format);
    frame.performative.message_format = 1;
    onTransfer(frame);
  };
  const { message, delivery } = await take(link);
  delivery.release();
  return message as unknown as Buffer;
}

/** The next disposition the broker sees after the action. */
async function settled(action: () => void) {
  const seen = once(broker, 'settled');
  action();
  return (await seen)[0];
}

const bodies = (name: string) => broker.messages(name).map((message) => message!.body);

describe('embedded broker', () => {
  afterEach(() => broker.stop());

  describe('queues', () => {
    it('keep a message until a consumer accepts it', async () => {
      await start();
      const client = await connect();
      (await send(await sender(client, 'q'), { body: 'hello', message_id: 'm1' })).should.equal('accepted');
      broker.depth('q').should.equal(1);
      bodies('q').should.eql(['hello']);

      const { message, delivery } = await take(await receiver(client, 'q'));
      message.body.should.equal('hello');
      [broker.ready('q'), broker.unsettled('q'), broker.depth('q')].should.eql([0, 1, 1]);
      (await settled(() => delivery.accept())).should.eql({ address: 'q', id: 'm1', state: 'accepted' });
      broker.depth('q').should.equal(0);
      broker.dispositions.should.have.length(1);
      broker.received.should.eql({ q: 1 });
    });

    it('keep the order, also of 3000 messages', async () => {
      await start();
      for (let i = 0; i < 3000; i++) broker.put('q', { body: i });
      const link = await receiver(await connect(), 'q', { autoaccept: true, credit_window: 500 });
      const seen: number[] = [];
      await new Promise<void>((resolve) => {
        link.on('message', ({ message }: EventContext) => seen.push(message!.body) === 3000 && resolve());
      });
      seen.should.eql([...seen.keys()]);
    });

    it('give competing consumers their turns, and nothing to one without credit', async () => {
      await start();
      const client = await connect();
      const links = [await receiver(client, 'q'), await receiver(client, 'q'), await receiver(client, 'q')];
      const seen: number[] = [];
      const four = new Promise<void>((resolve) => {
        links.forEach((link, i) => link.on('message', () => seen.push(i) === 4 && resolve()));
      });
      broker.put('other', { body: 0 });
      links[0]!.add_credit(10);
      links[2]!.add_credit(10);
      // once this one is here the broker has seen the credit of the others
      await take(await receiver(client, 'other'));
      for (let i = 0; i < 4; i++) broker.put('q', { body: i });
      await four;
      seen.toSorted((a, b) => a - b).should.eql([0, 0, 2, 2]);
    });

    it('serve a second link of the same session while the first has no credit', async () => {
      await start();
      const session = begin(await connect());
      const [idle, busy] = ['a', 'b'].map((source) => session.open_receiver({ source, credit_window: 0 }));
      await Promise.all([first(idle!, 'receiver_open'), first(busy!, 'receiver_open')]);
      broker.put('a', { body: 'a' });
      broker.put('b', { body: 'b' });
      (await take(busy!)).message.body.should.equal('b');
    });

    it('are made on demand, or refused when they must exist', async () => {
      await start({ mustExist: true });
      broker.declare('known');
      const client = await connect();
      await sender(client, 'known');
      await sender(client, 'other').should.be.rejectedWith({ condition: 'amqp:not-found' });
      await receiver(client, 'other').should.be.rejectedWith({ condition: 'amqp:not-found' });
    });

    it('skip a message whose time to live is over', async () => {
      await start();
      broker.put('q', { body: 'short', ttl: 1 });
      broker.put('q', { body: 'long', ttl: 100000 });
      await new Promise((resolve) => setTimeout(resolve, 5));
      (await take(await receiver(await connect(), 'q'))).message.body.should.equal('long');
    });

    it('can be purged', async () => {
      await start();
      broker.put('q', { body: 1 });
      broker.purge('q');
      broker.depth('q').should.equal(0);
    });

    it('forget a pre-settled message once it is sent', async () => {
      await start();
      broker.put('q', { body: 1 });
      const link = await receiver(await connect(), 'q', { snd_settle_mode: 1 });
      link.snd_settle_mode.should.equal(1);
      const { delivery } = await take(link);
      delivery.remote_settled.should.be.true();
      broker.depth('q').should.equal(0);
    });

    it('take pre-settled messages', async () => {
      await start();
      const link = await sender(await connect(), 'q', { snd_settle_mode: 1 });
      const stored = once(broker, 'message');
      if (!link.sendable()) await first(link, 'sendable');
      link.send({ body: 'fire' });
      (await stored)[0].should.equal('q');
      bodies('q').should.eql(['fire']);
    });

    it('answer a drain, with messages left and without', async () => {
      await start();
      broker.put('q', { body: 1 });
      const link = await receiver(await connect(), 'q', { autoaccept: true });
      const seen: unknown[] = [];
      link.on('message', ({ message }: EventContext) => seen.push(message!.body));
      const drained = first(link, 'receiver_drained');
      link.add_credit(10);
      link.drain_credit();
      await drained;
      seen.should.eql([1]);
      const again = first(link, 'receiver_drained');
      link.drain_credit();
      await again;
    });
  });

  describe('outcomes of a consumer', () => {
    it('released puts a message back in its place, its delivery count unchanged', async () => {
      await start();
      for (const body of [1, 2]) broker.put('q', { body });
      const link = await receiver(await connect(), 'q');
      const { delivery } = await take(link);
      (await settled(() => delivery.release())).state.should.equal('released');
      bodies('q').should.eql([1, 2]);
      const again = (await take(link)).message;
      again.body.should.equal(1);
      (again.delivery_count ?? 0).should.equal(0);
    });

    it('modified as failed counts up and keeps the rest of the header', async () => {
      await start();
      broker.put('q', { body: 1, durable: true, priority: 7, ttl: 60000, application_properties: { a: 'b' } });
      const link = await receiver(await connect(), 'q');
      for (const count of [0, 1, 2]) {
        const { message, delivery } = await take(link);
        (message.delivery_count ?? 0).should.equal(count);
        message.should.match({ body: 1, durable: true, priority: 7, ttl: 60000, application_properties: { a: 'b' } });
        (await settled(() => delivery.modified({ delivery_failed: true }))).should.match({ deliveryFailed: true });
      }
    });

    it('modified as undeliverable here leaves the message to others', async () => {
      await start();
      broker.put('q', { body: 1 });
      const client = await connect();
      const [here, there] = [await receiver(client, 'q'), await receiver(client, 'q')];
      const { delivery } = await take(here);
      (await settled(() => delivery.modified({ undeliverable_here: true }))).should.match({ undeliverableHere: true });
      here.add_credit(1);
      (await take(there)).message.body.should.equal(1);
      here.on('message', () => {
        throw new Error('delivered here again');
      });
    });

    it('modified as failed too often leads to the dead letters', async () => {
      await start({ maxDeliveries: 2 });
      broker.put('q', { body: 1 });
      const link = await receiver(await connect(), 'q');
      for (let i = 0; i < 2; i++) {
        const { delivery } = await take(link);
        await settled(() => delivery.modified({ delivery_failed: true }));
      }
      broker.depth('q').should.equal(0);
      broker.messages('DLQ').should.match([{ body: 1, delivery_count: 2 }]);
    });

    it('rejected leads to the dead letters, with its error told', async () => {
      await start();
      broker.put('q', { body: 1, message_id: 'bad' });
      const { delivery } = await take(await receiver(await connect(), 'q'));
      const disposition = await settled(() => delivery.reject({ condition: 'app:no', description: 'why' }));
      disposition.should.match({ id: 'bad', state: 'rejected', error: { condition: 'app:no', description: 'why' } });
      bodies('DLQ').should.eql([1]);
    });

    it('left unsettled by the consumer are settled by the broker', async () => {
      await start();
      broker.put('q', { body: 1 });
      const link = await receiver(await connect(), 'q', { rcv_settle_mode: 1 });
      const { delivery } = await take(link);
      const done = first(link, 'settled');
      delivery.accept();
      await done;
      broker.depth('q').should.equal(0);
    });

    it('missing when its link, session or connection goes put it back, counted', async () => {
      await start();
      broker.put('q', { body: 1 });
      const client = await connect();
      const endings = [
        (link: Receiver) => link.close(),
        (link: Receiver) => link.detach(),
        (link: Receiver) => link.session.close(),
        (link: Receiver) => link.connection.close(),
      ];
      for (const [count, end] of endings.entries()) {
        const link = await receiver(client, 'q');
        ((await take(link)).message.delivery_count ?? 0).should.equal(count);
        const gone = once(broker, 'detach');
        end(link);
        await gone;
        broker.ready('q').should.equal(1);
      }
    });

    it('sent just before the detach still count', async () => {
      await start();
      broker.put('q', { body: 1 });
      const link = await receiver(await connect(), 'q');
      const { delivery } = await take(link);
      const gone = once(broker, 'detach');
      delivery.accept();
      link.close();
      await gone;
      broker.depth('q').should.equal(0);
    });
  });

  describe('topics', () => {
    it('copy to every receiver attached, and drop what nobody reads', async () => {
      await start();
      const client = await connect();
      const out = await sender(client, 'topic/news');
      (await send(out, { body: 'unheard' })).should.equal('accepted');
      const taken = [await receiver(client, 'topic/news'), await receiver(client, 'topic/news')].map(take);
      (await send(out, { body: 'heard' })).should.equal('accepted');
      (await Promise.all(taken)).map(({ message }) => message.body).should.eql(['heard', 'heard']);
    });

    it('keep messages for a durable subscription that is away, until it is closed', async () => {
      await start();
      const client = await connect();
      const out = await sender(client, 'topic/news');
      const subscribe = () => receiver(client, { address: 'topic/news', durable: 2 }, { name: 'mine' });
      const leave = async (link: Receiver, how: 'detach' | 'close') => {
        const gone = once(broker, 'detach');
        link[how]();
        await gone;
        (await send(out, { body: how })).should.equal('accepted');
      };

      await leave(await subscribe(), 'detach');
      const again = await subscribe();
      const { message, delivery } = await take(again);
      message.body.should.equal('detach');
      delivery.accept();

      await leave(again, 'close');
      const taken = take(await subscribe());
      await send(out, { body: 'new' });
      (await taken).message.body.should.equal('new');
    });
  });

  describe('browsers', () => {
    it('get what is in the queue, and leave it there for consumers', async () => {
      await start();
      const client = await connect();
      broker.put('q', { body: 1 });
      const browse = () => receiver(client, { address: 'q', distribution_mode: 'copy' });
      for (const link of [await browse(), await browse()]) {
        const { message, delivery } = await take(link);
        message.body.should.equal(1);
        delivery.accept();
      }
      (await take(await receiver(client, 'q'))).message.body.should.equal(1);
    });
  });

  describe('dynamic nodes', () => {
    it('carry a reply, by an anonymous sender, and end with their link', async () => {
      await start();
      const client = await connect();
      const replies = await receiver(client, { dynamic: true });
      const { address } = replies.source;
      address.should.match(/^dynamic-/);
      const relay = await sender(await connect(), {});
      const arrived = take(replies);
      (await send(relay, { to: address, correlation_id: 1, body: 'reply' })).should.equal('accepted');
      (await arrived).message.should.match({ correlation_id: 1, body: 'reply' });

      const gone = once(broker, 'detach');
      replies.close();
      await gone;
      (await send(relay, { to: address, body: 'late' })).should.equal('released');
      await sender(client, address).should.be.rejectedWith({ condition: 'amqp:not-found' });
    });

    it('are made for senders too', async () => {
      await start();
      const client = await connect();
      const out = await sender(client, { dynamic: true });
      (await send(out, { body: 1 })).should.equal('accepted');
      (await take(await receiver(client, out.target.address))).message.body.should.equal(1);
    });

    it('are refused when switched off', async () => {
      await start({ dynamic: false });
      await receiver(await connect(), { dynamic: true }).should.be.rejectedWith({ condition: 'amqp:not-implemented' });
    });
  });

  describe('the anonymous relay', () => {
    it('is offered, and rejects a message without an address', async () => {
      await start();
      const client = await connect();
      [client.offered_capabilities].flat().should.containEql('ANONYMOUS-RELAY');
      const relay = await sender(client, {});
      (await send(relay, { to: 'q', body: 1 })).should.equal('accepted');
      (await send(relay, { body: 2 })).should.equal('rejected');
      const bare = begin(client).open_sender({}); // a null target, not one without an address
      (await send(bare, { to: 'q', body: 3 })).should.equal('accepted');
      bodies('q').should.eql([1, 3]);
    });

    it('can be absent', async () => {
      await start({ anonymousRelay: false });
      const client = await connect();
      should.not.exist(client.offered_capabilities);
      await sender(client, {}).should.be.rejectedWith({ condition: 'amqp:not-implemented' });
    });
  });

  describe('login', () => {
    it('takes the right password only, whatever its alphabet', async () => {
      await start({ users: { ann: 'secret', bob: 'paß' } });
      await connect({ username: 'ann', password: 'secret' });
      await connect({ username: 'ann', password: 'wrong' }).should.be.rejectedWith({
        condition: 'amqp:unauthorized-access',
      });
      await connect({ username: 'constructor', password: 'x' }).should.be.rejected();
      await connect({ sasl_mechanisms: { PLAIN: { start: plainBob } } });
      broker.users = { ann: 'new' };
      await connect({ username: 'ann', password: 'new' });
      broker.connections().should.equal(3);
    });

    it('can be made a must', async () => {
      await start({ anonymous: false });
      await connect().should.be.rejected();
      await connect({ username: undefined }).should.be.rejected();
      await connect({ username: 'anyone', password: 'anything' });
    });

    it('can be left out altogether', async () => {
      await start();
      const seen = once(broker, 'connection');
      await connect({ username: undefined, hostname: 'vhost' });
      (await seen)[0].should.eql({ containerId: 'client', hostname: 'vhost' });
    });
  });

  describe('TLS', () => {
    const server = { key: fixture('server.key'), cert: fixture('server.crt'), ca: fixture('ca.crt') };
    const trusting = { transport: 'tls', ca: fixture('ca.crt'), host: 'localhost' };

    it('carries AMQP', async () => {
      await start({ tls: server });
      const client = await connect(trusting);
      (await send(await sender(client, 'q'), { body: 1 })).should.equal('accepted');
      broker.url.should.startWith('amqps://');
      await connect({ ...trusting, ca: undefined }).should.be.rejected();
    });

    it('takes a client certificate for a login', async () => {
      await start({ tls: { ...server, requestCert: true, rejectUnauthorized: true }, anonymous: false });
      const own = { key: fixture('client.key'), cert: fixture('client.crt'), enable_sasl_external: true };
      await connect({ ...trusting, ...own, username: undefined });
      await connect({ ...trusting, username: undefined }).should.be.rejected();
    });

    it('stops with a handshake under way', async () => {
      await start({ tls: server });
      const socket = net.connect(broker.port, '127.0.0.1');
      await once(socket, 'connect');
      await Promise.all([broker.stop(), once(socket, 'close')]);
    });
  });

  describe('bytes', () => {
    // properties with a uuid id; an amqp-value body that is a ulong below 256: rhea would make them something else
    const uuid = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
    const bytes = Buffer.concat([Buffer.from('005373c0120198', 'hex'), uuid, Buffer.from('0053775307', 'hex')]);

    it('pass unchanged, and so does the message format', async () => {
      await start();
      const client = await connect();
      for (const format of [0, 0x80013700]) {
        (await send(await sender(client, `q${format}`), bytes, format)).should.equal('accepted');
        (await takeRaw(await receiver(client, `q${format}`), format)).equals(bytes).should.be.true();
      }
      broker.messages('q0').should.match([{ message_id: uuid, body: 7 }]);
    });

    it('pass in many frames', async () => {
      await start({ maxFrameSize: 512 });
      const client = await connect({ max_frame_size: 1024 });
      const long = Buffer.concat([Buffer.from('005375b000004e20', 'hex'), Buffer.alloc(20000, 'long ')]);
      (await send(await sender(client, 'q'), long, 0)).should.equal('accepted');
      (await takeRaw(await receiver(client, 'q'))).equals(long).should.be.true();
    });

    it('after the header stay as they are on redelivery', async () => {
      await start();
      const client = await connect();
      const header = Buffer.from('005370c0060541500a404043', 'hex');
      for (const sent of [bytes, Buffer.concat([header, bytes])]) {
        broker.put('q', sent);
        const { delivery } = await take(await receiver(client, 'q'));
        await settled(() => delivery.modified({ delivery_failed: true }));
        const again = await takeRaw(await receiver(client, 'q'));
        again.subarray(-bytes.length).equals(bytes).should.be.true();
        rhea.message.decode(again).delivery_count.should.equal(1);
        (rhea.message.decode(again).priority === 10).should.equal(sent.length > bytes.length);
        broker.detach('q');
        broker.purge('q');
      }
    });

    it('that no one can decode are stored and delivered all the same', async () => {
      await start();
      const client = await connect();
      const garbage = Buffer.from('0053770500ff', 'hex');
      (await send(await sender(client, 'q'), garbage, 0)).should.equal('accepted');
      broker.messages('q').should.eql([undefined]);
      (await takeRaw(await receiver(client, 'q'))).equals(garbage).should.be.true();
    });

    it('beyond the largest message size cost the link', async () => {
      await start({ maxMessageSize: 100 });
      const link = await sender(await connect(), 'q');
      link.max_message_size.should.equal(100);
      const closed = first(link, 'sender_close');
      if (!link.sendable()) await first(link, 'sendable');
      link.send({ body: 'x'.repeat(200) });
      await closed.should.be.rejectedWith({ condition: 'amqp:link:message-size-exceeded' });
      broker.depth('q').should.equal(0);
    });
  });

  describe('misbehaving', () => {
    it('refuses an address until it is allowed', async () => {
      await start();
      broker.refuse('q', { condition: 'amqp:unauthorized-access', description: 'not you' });
      const client = await connect();
      await sender(client, 'q').should.be.rejectedWith({ condition: 'amqp:unauthorized-access' });
      await receiver(client, 'q').should.be.rejectedWith({ condition: 'amqp:unauthorized-access' });
      broker.links().should.eql([]);
      broker.allow('q');
      await sender(client, 'q');
      broker.links().should.match([{ address: 'q', role: 'sender', containerId: 'client' }]);
    });

    it('detaches the links of an address, with closed and error as told', async () => {
      await start();
      const client = await connect();
      const [one, other] = [await sender(client, 'q'), await receiver(client, 'other')];
      const closed = first(one, 'sender_close');
      broker.detach('q', { condition: 'amqp:resource-deleted', description: 'gone' });
      const gone = once(broker, 'detach');
      await closed.should.be.rejectedWith({ condition: 'amqp:resource-deleted' });
      (await gone)[0].should.match({ address: 'q', closed: true });
      const [answer, detached] = [once(broker, 'detach'), first(other, 'receiver_close')];
      other.once('receiver_close', () => other.detach());
      broker.detach('other', { closed: false });
      await detached;
      (await answer)[0].should.match({ address: 'other', closed: false });
      broker.links().should.eql([]);
    });

    it('lets a link come back under its name in the same breath', async () => {
      await start();
      const session = begin(await connect());
      const open = () => session.open_receiver({ name: 'mine', source: 'q', credit_window: 0 });
      let link = open();
      await first(link, 'receiver_open');
      for (let i = 0; i < 3; i++) {
        broker.put('q', { body: i });
        (await take(link)).message.body.should.equal(i);
        const closed = first(link, 'receiver_close');
        broker.detach('q');
        await closed;
        link.remove();
        link = open();
        await first(link, 'receiver_open');
        broker.purge('q');
      }
    });

    it('ends the sessions that carry an address, and no other', async () => {
      await start();
      const client = await connect();
      const [one, other] = [await sender(client, 'q'), await sender(client, 'other')];
      const [ended, gone] = [first(one.session, 'session_close'), once(broker, 'detach')];
      broker.endSessions('q', { condition: 'amqp:internal-error' });
      await ended.should.be.rejectedWith({ condition: 'amqp:internal-error' });
      (await gone)[0].address.should.equal('q');
      (await send(other, { body: 1 })).should.equal('accepted');
    });

    it('drops sockets', async () => {
      await start();
      const client = await connect();
      const [lost] = [first(client, 'disconnected'), await sender(client, 'q')];
      broker.dropSockets();
      await lost;
      broker.connections().should.equal(0);
      broker.links().should.eql([]);
    });

    it('closes connections, cleanly or with an error', async () => {
      await start();
      const clean = first(await connect(), 'connection_close');
      broker.closeConnections();
      should((await clean).connection.error).be.undefined();
      const client = await connect();
      const closed = first(client, 'connection_close');
      broker.closeConnections({ condition: 'amqp:internal-error', description: 'shutdown' });
      await closed.should.be.rejectedWith({ condition: 'amqp:internal-error' });
      broker.connections().should.equal(0);
    });

    it('answers as planned, so many times, each message with its own outcome', async () => {
      await start();
      const client = await connect();
      const relay = await sender(client, {});
      if (!relay.sendable()) await first(relay, 'sendable');
      broker.answer('a', 'reject', 2);
      broker.answer('b', 'release');
      broker.answer('c', 'modify');
      // R1: all in one tick, and each answer must be its own
      const sent = ['ok', 'a', 'b', 'ok', 'c', 'a', 'a', 'ok'].map((to) => send(relay, { to, body: to }));
      (await Promise.all(sent)).should.eql([
        'accepted',
        'rejected',
        'released',
        'accepted',
        'modified',
        'rejected',
        'accepted',
        'accepted',
      ]);
      [broker.depth('a'), broker.depth('b'), broker.depth('c'), broker.depth('ok')].should.eql([1, 0, 0, 3]);
      broker.received.should.eql({ ok: 3, a: 3, b: 1, c: 1 });
    });

    it('leaves messages without an answer, and does not keep them', async () => {
      await start();
      const link = await sender(await connect(), 'q');
      broker.answer('q', 'none', 1);
      const [unanswered, answered] = [send(link, { body: 1 }), send(link, { body: 2 })];
      (await Promise.race([unanswered.then(() => 'unanswered'), answered])).should.equal('accepted');
      bodies('q').should.eql([2]);
    });

    it('holds credit, from before the attach or after, and gives it out', async () => {
      await start({ credit: 10 });
      broker.holdCredit('q');
      const client = await connect();
      const link = await sender(client, 'q');
      link.sendable().should.be.false();
      const sendable = first(link, 'sendable');
      broker.giveCredit('q', 2);
      await sendable;
      (await Promise.all([send(link, { body: 1 }), send(link, { body: 2 })])).should.eql(['accepted', 'accepted']);
      link.sendable().should.be.false();
      broker.giveCredit('q');
      (await send(link, { body: 3 })).should.equal('accepted');
      link.sendable().should.be.true();
      const flow = first(link, 'sender_flow');
      broker.holdCredit('q');
      await flow;
      link.sendable().should.be.false();
    });

    it('closes a connection that opens more sessions than announced', async () => {
      await start({ channelMax: 1 });
      const client = await connect();
      client.channel_max!.should.equal(1);
      const closed = first(client, 'connection_close');
      for (let i = 0; i < 3; i++) begin(client);
      await closed.should.be.rejectedWith({ condition: 'amqp:connection:framing-error' });
    });

    it('drops garbage and goes on', async () => {
      await start();
      const fault = once(broker, 'fault');
      const socket = net.connect(broker.port, '127.0.0.1');
      socket.write('GET / HTTP/1.1\r\n\r\n');
      await Promise.all([fault, once(socket, 'close')]);
      await connect();
    });
  });

  describe('stopping', () => {
    it('keeps the queues for when it listens again on its port', async () => {
      await start();
      for (const body of [1, 2]) broker.put('q', { body });
      const client = await connect();
      await take(await receiver(client, 'q'));
      const { port } = broker;
      const lost = first(client, 'disconnected');
      await broker.stop();
      await lost;
      [broker.ready('q'), broker.unsettled('q')].should.eql([2, 0]);
      await connect().should.be.rejected();

      await broker.resume();
      broker.port.should.equal(port);
      (await take(await receiver(await connect(), 'q'))).message.should.match({ body: 1, delivery_count: 1 });
    });

    it('leaves no socket or timer, also with heart beats', async () => {
      await start({ idleTimeout: 1000 });
      const before = process.getActiveResourcesInfo().length;
      const client = await connect({ idle_time_out: 1000 });
      await sender(client, 'q');
      const lost = first(client, 'disconnected');
      await broker.stop();
      await lost;
      await new Promise(setImmediate);
      process.getActiveResourcesInfo().length.should.be.belowOrEqual(before);
    });
  });

  describe('filters', () => {
    const filter = { a: rhea.types.wrap_described('x', 'app:a'), b: 'y' };

    for (const [confirmsFilters, answered] of [
      [undefined, []],
      [true, ['a', 'b']],
      [['b'], ['b']],
      [['c'], []],
    ] as const) {
      it(`are confirmed as it is told (${JSON.stringify(confirmsFilters)})`, async () => {
        await start({ confirmsFilters: confirmsFilters as boolean | string[] | undefined });
        const link = await receiver(await connect(), { address: 'q', filter });
        should(Object.keys((link.source.filter as object | undefined) ?? {})).eql(answered);
      });
    }
  });

  it('knows properties and the largest message of a link, and the error of its detach', async () => {
    await start();
    const client = await connect();
    const link = await receiver(client, 'q', { properties: { a: 1 }, max_message_size: 77 });
    should(broker.links()).match([{ properties: { a: 1 }, maxMessageSize: 77 }]);
    const detached = once(broker, 'detach');
    link.close({ condition: 'app:why', description: 'because' });
    should((await detached)[0]).match({ error: { condition: 'app:why', description: 'because' } });
  });

  it('gives volatile addresses only for settled messages, and to requests of the same session', async () => {
    await start();
    const client = await connect();
    const source = { dynamic: true, capabilities: ['rabbitmq:volatile-queue'], expiry_policy: 'link-detach' };
    await should(receiver(client, source, { snd_settle_mode: 0 })).be.rejected();
    const link = await receiver(client, source, { snd_settle_mode: 1 });
    const elsewhere = await sender(client, 'q');
    should(await send(elsewhere, { reply_to: link.source.address, body: 'x' })).equal('rejected');
    should(await send(elsewhere, { reply_to: 'other', body: 'x' })).equal('accepted');
  });
});
