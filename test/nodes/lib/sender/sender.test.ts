import { EventEmitter, once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import rhea, { type Delivery, type EventContext, type Receiver } from 'rhea';
import should from 'should';
import { Connection } from '../../../../nodes/lib/connection/connection';
import type { AmqpError } from '../../../../nodes/lib/errors';
import { Sender, type SenderOptions } from '../../../../nodes/lib/sender/sender';
import { type Done, Entry, type Sent } from '../../../../nodes/lib/link/entry';
import type { State } from '../../../../nodes/lib/state';
import { Store, type Stored } from '../../../../nodes/lib/sender/store';
import { Broker, type BrokerOptions } from '../../../../broker/broker';

type Failed = AmqpError & { sent: Sent };

let broker: Broker;
let connection: Connection;
let sender: Sender;

/** A sender to the address "q" of a new broker, on a connection of its own. */
async function open(options: Partial<SenderOptions> = {}, brokerOptions?: BrokerOptions): Promise<void> {
  broker = await Broker.start(brokerOptions);
  openTo(broker.port, { address: 'q', ...options });
}

function openTo(port: number, options: Partial<SenderOptions>): void {
  connection = new Connection({
    servers: [{ host: '127.0.0.1', port }],
    containerId: 'test',
    connectTimeout: 5000,
    idleTimeout: 0,
    backoff: { initial: 10, max: 10 },
    loginBackoff: { initial: 10, max: 10 },
  });
  sender = anotherSender('sender', options);
  connection.open();
}

function anotherSender(name: string, options: Partial<SenderOptions>): Sender {
  const another = new Sender(connection, {
    name,
    guarantee: 'at-least-once',
    buffer: 10_000,
    bufferBytes: Infinity,
    full: 'refuse',
    retryTime: 60_000,
    timeout: 0,
    ...options,
  });
  another.open();
  return another;
}

/** Resolves once the sender knows that a message was released. */
async function released(): Promise<void> {
  while (sender.state.name !== 'retrying') await turn();
}

/** The embedded broker relays by the `to` of the message. */
const encoded = (body: unknown, to?: string) => rhea.message.encode({ to, body });

/** Sends, and gives what became of it. A second call of `done` would be a second end of one message. */
function send(body: unknown, { to, by = sender }: { to?: string; by?: Sender } = {}): Promise<Sent> {
  let ends = 0;
  return new Promise((resolve, reject) => {
    const done: Done = (error, sent) => {
      should(++ends).equal(1);
      if (error) reject(Object.assign(error, { sent }));
      else resolve(sent);
    };
    by.send(new Entry(encoded(body, to), done, { address: to }));
  });
}

/** Several at once, in order. */
const sendAll = (...all: unknown[]) => Promise.all(all.map((body) => send(body)));

async function failure(sending: Promise<Sent>): Promise<Failed> {
  return sending.then(
    () => should.fail('accepted', 'failed') as never,
    (error) => error as Failed,
  );
}

function stateOf(name: State['name']): Promise<State> {
  return new Promise((resolve) => {
    const check = (state: State): void => {
      if (state.name !== name) return;
      sender.off('state', check);
      resolve(state);
    };
    sender.on('state', check);
    check(sender.state);
  });
}

const bodies = (name: string) => broker.messages(name).map((message) => message!.body as unknown);

describe('sender', () => {
  afterEach(async () => {
    await sender.close(0);
    await broker.stop();
  });

  describe('the outcome', () => {
    it('accepted is told with address and tag once the peer has the message', async () => {
      await open();
      const sent = await send('hello');
      sent.should.have.properties({ address: 'q', state: 'accepted' });
      sent.tag!.should.match(/^[0-9a-f]+$/);
      bodies('q').should.eql(['hello']);
    });

    it('rejected fails the message at once, with the words of the peer', async () => {
      await open();
      broker.answer('q', 'reject');
      const error = await failure(send(1));
      error.should.have.properties({ code: 'AMQP_REJECTED', condition: 'amqp:not-allowed', description: 'rejected' });
      error.sent.should.match({
        address: 'q',
        state: 'rejected',
        error: { code: 'AMQP_REJECTED', condition: 'amqp:not-allowed', description: 'rejected' },
      });
      broker.received['q']!.should.equal(1);
    });

    it('released is retried; messages that the peer takes meanwhile do not wait for that', async () => {
      await open();
      broker.answer('q', 'release', 1);
      const states = (await sendAll('first', 'second')).map(({ state }) => state);
      states.should.eql(['accepted', 'accepted']);
      bodies('q').should.eql(['second', 'first']);
    });

    it('released for as long as it may be retried fails the message', async () => {
      await open({ retryTime: 300 });
      broker.answer('q', 'release');
      (await failure(send(1))).should.match({ code: 'AMQP_RELEASED', sent: { state: 'released' } });
      broker.received['q']!.should.be.above(1);
    });

    it('released holds up what is for the same address behind it, and the order stays', async () => {
      await open({ address: undefined });
      broker.answer('away', 'release', 1);
      const first = send('first', { to: 'away' });
      await released();
      const sent = [first, send('second', { to: 'away' }), send('third', { to: 'away' })];
      await send('elsewhere', { to: 'q' });
      bodies('away').should.be.empty();
      await Promise.all(sent);
      bodies('away').should.eql(['first', 'second', 'third']);
    });

    it('released by an address that takes nothing is tried with one message at a time', async () => {
      await open({ retryTime: 300 });
      broker.answer('q', 'release');
      const failed = failure(send(0));
      await released();
      const others = [1, 2, 3, 4, 5].map((n) => failure(send(n)));
      should((await failed).code).equal('AMQP_RELEASED');
      broker.answer('q', 'accept');
      await Promise.allSettled(others);
      broker.received['q']!.should.be.below(6);
    });

    it('modified is one outcome, not released and then modified (R4)', async () => {
      await open();
      broker.answer('q', 'modify', 1);
      (await send(1)).state.should.equal('accepted');
      broker.received['q']!.should.equal(2);
    });

    it('is right for each of several messages with different ones', async () => {
      await open({ retryTime: 0 });
      const outcomes = [];
      for (const answer of ['accept', 'reject', 'release', 'modify', 'accept'] as const) {
        broker.answer('q', answer, 1);
        const sending = send(answer).catch(({ sent }: Failed) => sent);
        // The broker plans one answer at a time.
        outcomes.push((await sending).state);
      }
      outcomes.should.eql(['accepted', 'rejected', 'released', 'modified', 'accepted']);
    });

    it('missing for one message holds up none of 3,000 later ones (R32)', async () => {
      await open();
      broker.answer('q', 'none', 1);
      const first = failure(send('first'));
      const sent = await sendAll(...Array.from({ length: 3000 }, (_, i) => i));
      sent.should.have.length(3000);
      sender.size.should.equal(1);
      bodies('q').should.eql([...sent.keys()]);
      await sender.close(0);
      (await first).code.should.equal('AMQP_SHUTDOWN');
    });

    it('told by a callback that throws costs neither the process nor the link (R11)', async () => {
      await open();
      const fault = once(connection, 'fault');
      sender.send(
        new Entry(encoded(1), () => {
          throw new Error('of the flow');
        }),
      );
      should((await fault)[0]).have.property('message', 'of the flow');
      (await send(2)).state.should.equal('accepted');
      broker.connections().should.equal(1);
    });
  });

  describe('with a peer of other habits', () => {
    let stop: () => void;
    let link: Promise<Receiver>;

    /** A peer that does with each delivery just what it is told to. */
    async function openToPeer(
      answer: (delivery: Delivery, body: unknown) => void,
      options: Partial<SenderOptions> = {},
      peerOptions: object = {},
    ) {
      const container = rhea.create_container();
      container.sasl_server_mechanisms.enable_anonymous();
      for (const event of ['disconnected', 'connection_close', 'session_close', 'receiver_close', 'error'])
        container.on(event, () => {});
      container.on('receiver_open', ({ receiver }: EventContext) => receiver!.set_target({ address: 'q' }));
      container.on('message', ({ delivery, message }: EventContext) => answer(delivery!, message!.body));
      link = once(container, 'receiver_open').then(([{ receiver }]) => receiver as Receiver);
      const server = container.listen({ port: 0, autoaccept: false, ...peerOptions } as Parameters<
        typeof container.listen
      >[0]);
      await once(server, 'listening');
      stop = () => server.close();
      openTo((server.address() as AddressInfo).port, { address: 'q', ...options });
    }
    afterEach(() => stop());

    const accepted = (rhea.message as unknown as { accepted(): { described(): unknown } }).accepted().described();

    it('settles what the peer accepts without settling it (R7)', async () => {
      await openToPeer((delivery) => delivery.update(false, accepted));
      const settled = link.then((receiver) => once(receiver, 'settled'));
      (await send(1)).state.should.equal('accepted');
      await settled;
    });

    it('fails a message that the peer settles without an outcome', async () => {
      await openToPeer((delivery) => delivery.update(true));
      (await failure(send(1))).should.match({ code: 'AMQP_IN_DOUBT', sent: { state: 'failed' } });
    });

    it('counts no pre-settled message as sent that the window of the peer keeps from being written', async () => {
      const written: Delivery[] = [];
      const peer = new EventEmitter();
      const arrived = (delivery: Delivery) => {
        written.push(delivery);
        peer.emit('message');
      };
      // Not settled by the peer, so its window of two stays used up.
      await openToPeer(arrived, { guarantee: 'pre-settled' }, { session_buffer_size: 2 });
      const sending = [1, 2, 3, 4, 5].map((body) => send(body).catch((error: Failed) => error.sent));
      while (written.length < 2) await once(peer, 'message');
      await Promise.all(sending.slice(0, 2));
      sender.size.should.equal(3);
      await sender.close(1);
      (await Promise.all(sending))
        .map(({ state }) => state)
        .should.eql(['settled', 'settled', 'failed', 'failed', 'failed']);
      written.should.have.length(2);
    });

    it('does not retry what the peer calls undeliverable here', async () => {
      let deliveries = 0;
      await openToPeer((delivery) => {
        deliveries++;
        delivery.modified({ delivery_failed: true, undeliverable_here: true });
      });
      (await failure(send(1))).code.should.equal('AMQP_MODIFIED');
      deliveries.should.equal(1);
    });

    it('gives its credit back to a peer that drains, and goes on when it gets some', async () => {
      const got: unknown[] = [];
      await openToPeer(
        (delivery) => {
          got.push(delivery.id);
          delivery.accept();
        },
        {},
        { receiver_options: { credit_window: 0 } },
      );
      const receiver = await link;
      receiver.add_credit(5);
      await sendAll(1, 2);
      const drained = once(receiver, 'receiver_drained');
      receiver.drain_credit();
      await drained;
      should((receiver as unknown as { credit: number }).credit).equal(0);
      receiver.drain = false;
      const sending = sendAll(3, 4, 5);
      await stateOf('buffering');
      got.should.have.length(2);
      receiver.add_credit(5);
      await sending;
    });

    it('sends first what waits when a peer drains', async () => {
      await openToPeer((delivery) => delivery.accept(), {}, { receiver_options: { credit_window: 0 } });
      const receiver = await link;
      await stateOf('connected');
      const sending = sendAll(1, 2, 3);
      receiver.add_credit(5);
      receiver.drain_credit();
      await Promise.all([sending, once(receiver, 'receiver_drained')]);
    });

    it('keeps messages for a router whose consumer goes, in order, until there is another', async () => {
      const taken: unknown[] = [];
      let isThere = true;
      // As Qpid Dispatch does: it releases what has nobody to go to, and takes its credit back.
      const route = (delivery: Delivery, body: unknown): void => {
        if (isThere) {
          taken.push(body);
          delivery.accept();
          isThere = taken.length !== 10;
        } else {
          delivery.release();
          (delivery as unknown as { link: Receiver }).link.drain_credit();
        }
      };
      await openToPeer(route, {}, { receiver_options: { credit_window: 0 } });
      const receiver = await link;
      receiver.add_credit(250);
      const drained = once(receiver, 'receiver_drained');
      const numbers = Array.from({ length: 50 }, (_, n) => n);
      const sending = sendAll(...numbers);
      await drained;
      await stateOf('retrying');
      taken.should.eql(numbers.slice(0, 10));
      isThere = true;
      receiver.drain = false;
      receiver.add_credit(250);
      (await sending).map(({ state }) => state).should.eql(numbers.map(() => 'accepted'));
      taken.should.eql(numbers);
    });

    it('takes an outcome as one when it comes in two steps', async () => {
      await openToPeer((delivery) => {
        delivery.update(false, accepted);
        setImmediate(() => delivery.update(true, accepted));
      });
      await sendAll(1, 2, 3);
      sender.size.should.equal(0);
    });
  });

  describe('the buffer', () => {
    it('keeps messages for a peer that comes later, in order', async () => {
      await open();
      await broker.stop();
      const sending = sendAll(1, 2, 3);
      await stateOf('disconnected');
      await broker.resume();
      await sending;
      bodies('q').should.eql([1, 2, 3]);
    });

    it('keeps messages while there is no credit, in order', async () => {
      await open();
      broker.holdCredit('q');
      await stateOf('connected');
      const sending = [1, 2, 3, 4, 5].map((body) => send(body));
      broker.giveCredit('q', 2);
      await Promise.all(sending.slice(0, 2));
      sender.state.should.eql({ name: 'buffering', count: 3, percent: 0 });
      bodies('q').should.eql([1, 2]);
      broker.giveCredit('q');
      await Promise.all(sending);
      bodies('q').should.eql([1, 2, 3, 4, 5]);
    });

    it('refuses a message when it is full', async () => {
      await open({ buffer: 2 });
      broker.holdCredit('q');
      const kept = [send(1), send(2)];
      (await failure(send(3))).should.match({
        code: 'AMQP_BUFFER_FULL',
        sent: { state: 'failed', error: { code: 'AMQP_BUFFER_FULL' } },
      });
      broker.giveCredit('q');
      await Promise.all(kept);
      await send(4);
      bodies('q').should.eql([1, 2, 4]);
    });

    it('drops the oldest message that still waits when it is full, by choice', async () => {
      await open({ buffer: 2, full: 'drop' });
      broker.holdCredit('q');
      const [oldest, ...kept] = [send(1), send(2), send(3)];
      (await failure(oldest)).code.should.equal('AMQP_BUFFER_FULL');
      broker.giveCredit('q');
      await Promise.all(kept);
      bodies('q').should.eql([2, 3]);
    });

    it('counts messages that have no outcome yet, and never drops those', async () => {
      await open({ buffer: 1, full: 'drop' });
      broker.answer('q', 'none', 1);
      const sent = failure(send(1));
      await stateOf('connected');
      (await failure(send(2))).code.should.equal('AMQP_BUFFER_FULL');
      await sender.close(0);
      (await sent).code.should.equal('AMQP_SHUTDOWN');
    });

    it('holds everything back between hold and resume', async () => {
      await open();
      sender.pause();
      const sending = send(1);
      const other = anotherSender('other', { address: 'other' });
      await send(2, { by: other });
      should(broker.received['q']).equal(undefined);
      sender.resume();
      await sending;
      await other.close(0);
    });

    it('forgets a message that is cancelled', async () => {
      await open();
      sender.pause();
      const entry = new Entry(encoded(1), () => should.fail('told', 'forgotten'));
      sender.send(entry);
      const second = send(2);
      sender.cancel(entry);
      sender.resume();
      await second;
      bodies('q').should.eql([2]);
    });

    it('forgets also a message on its way: it is not sent again (R2)', async () => {
      await open();
      broker.answer('q', 'none', 1);
      const entry = new Entry(encoded('cancelled'), () => should.fail('told', 'forgotten'));
      sender.send(entry);
      await send(1);
      sender.cancel(entry);
      broker.dropSockets();
      await stateOf('disconnected');
      await send(2);
      bodies('q').should.eql([1, 2]);
    });
  });

  describe('a time-out', () => {
    it("tells why the message had to wait, in the peer's own words", async () => {
      await open({ timeout: 300 }, { mustExist: true });
      const { code, condition } = await failure(send('nowhere'));
      should({ code, condition }).eql({ code: 'AMQP_TIMEOUT', condition: 'amqp:not-found' });
    });

    it('fails a message that was not sent by then, and leaves those behind it alone', async () => {
      await open({ timeout: 500 });
      broker.holdCredit('q');
      await send('late').should.be.rejectedWith({ code: 'AMQP_TIMEOUT' });
      should(sender.size).equal(0);
      const next = send('in time');
      broker.giveCredit('q');
      (await next).state.should.equal('accepted');
      broker
        .messages('q')
        .map((message) => message!.body as string)
        .should.eql(['in time']);
    });

    it('leaves in doubt a message that was sent and has no outcome by then', async () => {
      await open({ timeout: 50 });
      await stateOf('connected');
      broker.answer('q', 'none');
      await send('a').should.be.rejectedWith({ code: 'AMQP_IN_DOUBT' });
    });
  });

  it('refuses a message when the bytes it may hold are used up, but takes any single one', async () => {
    await open({ bufferBytes: 100 });
    broker.answer('q', 'none');
    void send('x'.repeat(1000)).catch(() => {});
    await send('x').should.be.rejectedWith({ code: 'AMQP_BUFFER_FULL' });
    should(sender.size).equal(1);
  });

  it('leaves a message in doubt whose outcome was lost, also when it is rejected when sent again', async () => {
    await open();
    broker.once('message', () => {
      broker.answer('q', 'reject');
      broker.dropSockets();
    });
    await send('a').should.be.rejectedWith({ code: 'AMQP_IN_DOUBT' });
    broker.depth('q').should.equal(1);
  });

  describe('when the connection is lost before the outcome', () => {
    it('sends at least once: again, in order, before what came later (R2)', async () => {
      await open();
      broker.answer('q', 'none', 2);
      const inDoubt = [send(1), send(2)];
      await send(3);
      sender.pause();
      const later = send(4);
      await broker.stop();
      await stateOf('disconnected');
      sender.resume();
      await broker.resume();
      const states = (await Promise.all([...inDoubt, later])).map(({ state }) => state);
      states.should.eql(['accepted', 'accepted', 'accepted']);
      bodies('q').should.eql([3, 1, 2, 4]);
      broker.received['q']!.should.equal(6);
    });

    it('fails at most once: it is never sent again, and what waited goes on', async () => {
      await open({ guarantee: 'at-most-once' });
      broker.answer('q', 'none', 2);
      const inDoubt = [send(1), send(2)].map(failure);
      await send(3);
      await broker.stop();
      await stateOf('disconnected');
      const later = send(4);
      await broker.resume();
      for (const error of await Promise.all(inDoubt)) {
        error.should.match({ code: 'AMQP_IN_DOUBT', sent: { state: 'failed' } });
      }
      await later;
      bodies('q').should.eql([3, 4]);
      broker.received['q']!.should.equal(4);
    });

    it('sends again also when only the link or its session is lost', async () => {
      await open();
      for (const lose of [() => broker.detach('q'), () => broker.endSessions('q')]) {
        broker.answer('q', 'none', 1);
        const inDoubt = send('in doubt');
        await send('known');
        lose();
        (await inDoubt).state.should.equal('accepted');
      }
      bodies('q').should.eql(['known', 'in doubt', 'known', 'in doubt']);
      broker.connections().should.equal(1);
    });

    it('believes an outcome that came just before the end', async () => {
      await open({ guarantee: 'at-most-once' });
      broker.once('message', () => setImmediate(() => broker.detach('q')));
      (await send(1)).state.should.equal('accepted');
    });
  });

  describe('pre-settled', () => {
    it('tells the peer so, and counts a message as sent once it is written', async () => {
      await open({ guarantee: 'pre-settled' });
      const stored = once(broker, 'message');
      (await send('hello')).should.match({ address: 'q', state: 'settled' });
      await stored;
      bodies('q').should.eql(['hello']);
      broker.links()[0]!.sndSettleMode.should.equal(1);
      sender.size.should.equal(0);
    });

    it('waits for credit and connection all the same', async () => {
      await open({ guarantee: 'pre-settled' });
      broker.holdCredit('q');
      await stateOf('connected');
      const sending = [1, 2].map((body) => send(body));
      const stored = once(broker, 'message');
      broker.giveCredit('q', 1);
      await Promise.all([sending[0], stored]);
      sender.size.should.equal(1);
      await broker.stop();
      broker.giveCredit('q');
      const storedLater = once(broker, 'message');
      await broker.resume();
      await Promise.all([sending[1], storedLater]);
      bodies('q').should.eql([1, 2]);
    });
  });

  it('fails a message that is larger than the peer takes, and sends the next one', async () => {
    await open({}, { maxMessageSize: 1000 });
    const results = [send('small'), failure(send('x'.repeat(1000))), send('small too')] as const;
    (await results[1]).should.match({ code: 'AMQP_TOO_LARGE', sent: { state: 'failed' } });
    await Promise.all(results);
    bodies('q').should.eql(['small', 'small too']);
    broker.received['q']!.should.equal(2);
  });

  describe('without an address of its own', () => {
    for (const anonymousRelay of [true, false]) {
      describe(anonymousRelay ? 'through the anonymous relay' : 'where there is no relay', () => {
        it('sends each message to its own address', async () => {
          await open({ address: undefined }, { anonymousRelay });
          const sent = await Promise.all([send(1, { to: 'a' }), send(2, { to: 'b' }), send(3, { to: 'a' })]);
          sent.map(({ address }) => address).should.eql(['a', 'b', 'a']);
          bodies('a').should.eql([1, 3]);
          bodies('b').should.eql([2]);
          const links = broker.links().map(({ address }) => address);
          links.toSorted().should.eql(anonymousRelay ? [''] : ['a', 'b']);
        });

        it('fails only the messages to an address that is no good', async () => {
          await open({ address: undefined }, { anonymousRelay, mustExist: true });
          broker.declare('good');
          const bad = [failure(send(1, { to: 'bad' })), failure(send(2, { to: 'bad' }))];
          await Promise.all([send(1, { to: 'good' }), send(2, { to: 'good' })]);
          for (const error of await Promise.all(bad)) {
            error.should.match({
              code: anonymousRelay ? 'AMQP_REJECTED' : 'AMQP_LINK_REFUSED',
              condition: 'amqp:not-found',
              sent: { error: { condition: 'amqp:not-found' } },
            });
          }
          bodies('good').should.eql([1, 2]);
          sender.state.should.eql({ name: 'connected' });
          broker.declare('bad');
          await send(3, { to: 'bad' });
        });

        it('keeps the order for each of more than 64 addresses, on no more links than that', async () => {
          await open({ address: undefined }, { anonymousRelay });
          const addresses = Array.from({ length: 80 }, (_, i) => `a${i}`);
          let attaches = 0;
          broker.on('attach', () => {
            attaches++;
            broker.links().length.should.be.belowOrEqual(64);
          });
          await Promise.all([1, 2].flatMap((body) => addresses.map((address) => send(body, { to: address }))));
          for (const address of addresses) bodies(address).should.eql([1, 2]);
          attaches.should.equal(anonymousRelay ? 1 : 80);
          broker.connections().should.equal(1);
        });

        it('sends again what was in doubt, to its own address', async () => {
          await open({ address: undefined }, { anonymousRelay });
          // The relay answers for the address that the message names.
          broker.answer('a', 'none', 1);
          const inDoubt = send('in doubt', { to: 'a' });
          await send('known', { to: 'b' });
          if (!anonymousRelay) await send('known', { to: 'a' });
          broker.dropSockets();
          await inDoubt;
          bodies('a').should.eql(anonymousRelay ? ['in doubt'] : ['known', 'in doubt']);
        });

        it('fails a message that has no address', async () => {
          await open({ address: undefined }, { anonymousRelay });
          (await failure(send(1))).code.should.equal('AMQP_NO_ADDRESS');
        });
      });
    }

    it('uses no relay where it says of what kind its addresses are, which only a link can', async () => {
      await open({ address: undefined, target: { capabilities: ['queue'] } });
      await Promise.all([send(1, { to: 'a' }), send(2, { to: 'b' })]);
      for (const { address, target } of broker.links()) should(target).match({ address, capabilities: ['queue'] });
      broker
        .links()
        .map(({ address }) => address)
        .toSorted()
        .should.eql(['a', 'b']);
    });

    it('lets an address without credit hold up only its own messages', async () => {
      await open({ address: undefined }, { anonymousRelay: false });
      broker.holdCredit('slow');
      const slow = [send(1, { to: 'slow' }), send(2, { to: 'slow' })];
      await send(3, { to: 'fast' });
      broker.giveCredit('slow');
      await Promise.all(slow);
      bodies('slow').should.eql([1, 2]);
    });

    it('goes with what the peer offers after each reconnect', async () => {
      await open({ address: undefined });
      await send(1, { to: 'a' });
      let connections = 1;
      broker.on('connection', () => connections++);
      for (const anonymousRelay of [false, true]) {
        await broker.stop();
        broker.options.anonymousRelay = anonymousRelay;
        await broker.resume();
        await send(2, { to: 'a' });
        broker
          .links()
          .map(({ address }) => address)
          .should.eql([anonymousRelay ? '' : 'a']);
      }
      connections.should.equal(3);
      bodies('a').should.eql([1, 2, 2]);
    });
  });

  it('sends to an address that the peer makes, and tells which', async () => {
    await open({ address: undefined, dynamic: true });
    const { address } = await send('hello');
    address!.should.startWith('dynamic-');
    sender.state.should.eql({ name: 'connected', address });
    bodies(address!).should.eql(['hello']);
    broker.dropSockets();
    const { address: another } = await send('again');
    another!.should.startWith('dynamic-').and.not.equal(address);
  });

  it('asks for the target as it was set', async () => {
    await open({ target: { durable: 2, expiry_policy: 'never' } });
    await send(1);
    should(broker.links()[0]).match({ name: 'sender', target: { address: 'q', durable: 2, expiry_policy: 'never' } });
  });

  it('says that it waits, and later how many messages do', async () => {
    await open();
    broker.holdCredit('q');
    await stateOf('connected');
    const told: State[] = [];
    sender.on('state', (state) => told.push(state));
    const sending = [send(1)];
    await once(sender, 'state');
    sending.push(send(2), send(3));
    while (told.at(-1)!.name !== 'buffering') await once(sender, 'state');
    broker.giveCredit('q');
    await Promise.all(sending);
    await stateOf('connected');
    told.should.eql([{ name: 'waiting' }, { name: 'buffering', count: 3, percent: 0 }, { name: 'connected' }]);
  });

  describe('closing', () => {
    it('gives what is buffered and in doubt the time to be accepted', async () => {
      await open();
      broker.holdCredit('q');
      await stateOf('connected');
      const sending = sendAll(1, 2);
      const closed = sender.close(60_000);
      broker.giveCredit('q');
      (await sending).should.have.length(2);
      await closed;
      bodies('q').should.eql([1, 2]);
      broker.connections().should.equal(0);
    });

    it('is over with the last message, also when that was too large', async () => {
      await open({}, { maxMessageSize: 1000 });
      await stateOf('connected');
      sender.pause();
      const waiting = failure(send('x'.repeat(1000)));
      const closed = sender.close(60_000);
      sender.resume();
      (await waiting).code.should.equal('AMQP_TOO_LARGE');
      await closed;
    });

    it('fails what is left after that: waiting, without an outcome, or to be retried', async () => {
      await open();
      broker.answer('q', 'none', 1);
      const left = [send('without outcome')];
      await send('accepted');
      broker.answer('q', 'release', 1);
      left.push(send('to be retried'));
      await send('accepted');
      sender.pause();
      left.push(send('waiting'));
      const errors = left.map(failure);
      sender.size.should.equal(3);
      await sender.close(1);
      for (const error of await Promise.all(errors)) {
        error.should.match({ code: 'AMQP_SHUTDOWN', sent: { state: 'failed', error: { code: 'AMQP_SHUTDOWN' } } });
      }
      sender.size.should.equal(0);
    });

    it('ends also when there was never a connection', async () => {
      await open();
      await broker.stop();
      const waiting = failure(send(1));
      await sender.close(1);
      (await waiting).code.should.equal('AMQP_SHUTDOWN');
      connection.state.should.eql({ name: 'idle' });
    });

    it('fails messages that come during and after it', async () => {
      await open();
      broker.holdCredit('q');
      await stateOf('connected');
      const waiting = send(1);
      const closed = sender.close(60_000);
      (await failure(send(2))).code.should.equal('AMQP_SHUTDOWN');
      broker.giveCredit('q');
      await Promise.all([waiting, closed]);
      (await failure(send(3))).code.should.equal('AMQP_SHUTDOWN');
    });
  });

  describe('with a peer that does not read', () => {
    it('keeps in memory no more than its buffer, pre-settled too, and goes on once the peer reads', async () => {
      const container = rhea.create_container();
      for (const event of ['connection_close', 'session_close', 'receiver_close', 'disconnected'])
        container.on(event, () => {});
      const server = container.listen({ port: 0, host: '127.0.0.1' });
      await once(server, 'listening');
      const opened = once(container, 'receiver_open') as Promise<[EventContext]>;
      const options = { guarantee: 'pre-settled', bufferBytes: 20e6 } as const;
      broker = await Broker.start();
      openTo((server.address() as AddressInfo).port, { address: 'q', ...options });
      const [{ receiver }] = await opened;
      receiver!.add_credit(10_000);
      await stateOf('connected');
      const { socket } = receiver!.connection as unknown as { socket: Socket };
      socket.pause();
      const body = 'x'.repeat(100_000);
      const sent: Promise<Sent>[] = [];
      const refusals: AmqpError[] = [];
      while (refusals.length === 0 && sent.length < 2000) {
        const sending = send(body);
        sent.push(sending);
        sending.catch((error: AmqpError) => refusals.push(error));
        await turn();
      }
      should(refusals).match([{ code: 'AMQP_BUFFER_FULL' }]);
      // What the system's sockets hold, and the buffer.
      sent.length.should.be.below(600);
      socket.resume();
      const states = (await Promise.all(sent.slice(0, -1))).map(({ state }) => state);
      new Set(states).should.eql(new Set(['settled']));
      await sender.close(1000);
      await connection.close();
      await new Promise((resolve) => server.close(resolve));
    });
  });

  describe('with messages on disk', () => {
    let directory: string;
    let damaged: string[];
    /** What was told of messages that were on disk. */
    let ended: EventEmitter<{ ended: [body: string, error?: AmqpError] }>;

    beforeEach(() => {
      directory = mkdtempSync(join(tmpdir(), 'sender-'));
      damaged = [];
      ended = new EventEmitter();
    });
    afterEach(() => rmSync(directory, { recursive: true, force: true }));

    const store = (): NonNullable<SenderOptions['store']> => ({
      directory,
      durability: 'write',
      restored: ({ bytes }) => {
        const { body } = rhea.message.decode(bytes) as unknown as { body: string };
        if (body === 'bad') throw new Error('it is bad');
        return new Entry(bytes, (error) => void ended.emit('ended', body, error));
      },
      damaged: ({ message }) => void damaged.push(message),
    });

    /** Puts messages on disk as a sender did that was set up in another way. */
    async function left(...messages: (Partial<Stored> & { body: string; to?: string })[]): Promise<void> {
      const user = { restored: () => {}, missing: () => {}, damaged: () => {}, changed: () => {} };
      const before = new Store(directory, 'write', user);
      await before.open();
      for (const [index, { body, to, ...stored }] of messages.entries()) {
        const defaults = {
          sequence: index + 1,
          bytes: encoded(body, to),
          isOfSender: false,
          isBatch: false,
          taken: Date.now(),
        };
        await before.put({ ...defaults, ...stored });
      }
      await before.close();
    }

    /** Resolves once so many messages that were on disk have ended. */
    function all(count: number): Promise<[body: string, error?: AmqpError][]> {
      const ends: [string, AmqpError?][] = [];
      return new Promise((resolve) => {
        ended.on('ended', (...end) => ends.push(end) === count && resolve(ends));
      });
    }

    const onDisk = async (): Promise<number> => {
      await sender.close(1000);
      return Store.count(directory);
    };

    it('sends them before all others, in order', async () => {
      await left({ body: 'a', address: 'q', isOfSender: true }, { body: 'b', address: 'q', isOfSender: true });
      await open({ store: store() });
      await send('c');
      bodies('q').should.eql(['a', 'b', 'c']);
      (await onDisk()).should.equal(0);
    });

    for (const anonymousRelay of [true, false]) {
      const peer = anonymousRelay ? 'a peer that relays' : 'a peer that does not relay';
      for (const [own, options] of Object.entries({
        'another address': { address: 'q' },
        'no address': { address: undefined },
        'an address that the peer makes': { address: undefined, dynamic: true },
      })) {
        it(`sends each to the address it was taken for, though the sender has ${own} now, on ${peer}`, async () => {
          // Of these the message itself names only the address that its msg gave.
          await left({ body: 'a', address: 'old', isOfSender: true }, { body: 'b', to: 'given', address: 'given' });
          const ends = all(2);
          await open({ store: store(), ...options }, { anonymousRelay });
          (await ends)
            .map(([body, error]) => [body, error])
            .should.containDeep([
              ['a', undefined],
              ['b', undefined],
            ]);
          bodies('old').should.eql(['a']);
          bodies('given').should.eql(['b']);
          (await onDisk()).should.equal(0);
        });
      }
    }

    it('gives up the links to other addresses once these are served', async () => {
      await left({ body: 'a', address: 'old', isOfSender: true });
      await open({ store: store() });
      if (broker.messages('old').length === 0) await once(broker, 'message');
      await once(broker, 'detach');
      sender.state.should.eql({ name: 'connected' });
    });

    it('leaves there what has no address while the sender has none, and tells', async () => {
      await left({ body: 'a' }, { body: 'b', to: 'q', address: 'q' });
      await open({ store: store(), address: undefined });
      should((await all(1))[0]![0]).equal('b');
      damaged.should.match([/1 messages stay in .*: they have no address/]);
      (await onDisk()).should.equal(1);

      await broker.stop();
      await open({ store: store(), address: 'q' });
      should((await all(1))[0]![0]).equal('a');
      (await onDisk()).should.equal(0);
    });

    it('leaves there what cannot be decoded, tells, sends the rest, and no message twice', async () => {
      await left(...['a', 'bad', 'b'].map((body) => ({ body, address: 'q', isOfSender: true })));
      for (const expected of [['a', 'b', 'c'], ['c']]) {
        await open({ store: store() });
        await send('c');
        bodies('q').should.eql(expected);
        damaged.splice(0).should.match([/1 messages stay in .*: it is bad/]);
        (await onDisk()).should.equal(1);
        await broker.stop();
      }
      await open();
    });

    it('gives them up when their time is over, counted from when they were taken', async () => {
      const [long, short] = [Date.now() - 60_000, Date.now()];
      await left({ body: 'old', taken: long }, { body: 'new', taken: short });
      broker = await Broker.start();
      broker.holdCredit('q');
      const ends = all(1);
      openTo(broker.port, { address: 'q', store: store(), timeout: 50_000 });
      const [[body, error]] = (await ends) as [[string, AmqpError]];
      should([body, error.code]).eql(['old', 'AMQP_IN_DOUBT']);
      sender.size.should.equal(1);
      (await onDisk()).should.equal(1);
    });

    it('says that they cannot be written to, takes none, and goes on by itself once they can', async () => {
      rmSync(directory, { recursive: true });
      writeFileSync(directory, '');
      await open({ store: store() });
      await stateOf('fault');
      (await failure(send(1))).code.should.equal('AMQP_STORE');
      rmSync(directory);
      await stateOf('connected');
      await send(2);
      bodies('q').should.eql([2]);
    });
  });
});
