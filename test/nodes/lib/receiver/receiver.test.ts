import { EventEmitter, once } from 'node:events';
import type { AddressInfo } from 'node:net';
import rhea, { type Delivery, type EventContext, type Sender } from 'rhea';
import should from 'should';
import { Connection, type ConnectionOptions } from '../../../../nodes/lib/connection/connection';
import type { AmqpError } from '../../../../nodes/lib/errors';
import type { Incoming } from '../../../../nodes/lib/message/message';
import {
  type DeliveryInfo,
  type Outcome,
  type Received,
  Receiver,
  type ReceiverOptions,
} from '../../../../nodes/lib/receiver/receiver';
import type { State } from '../../../../nodes/lib/state';
import { Broker } from '../../../../broker/broker';

interface Got {
  incoming: Incoming;
  delivery: DeliveryInfo;
  id: string;
}

/** A receiver with all that it has told. */
class Inbox extends EventEmitter {
  readonly got: Got[] = [];
  /** How many came at once, where they come together. */
  readonly batches: number[] = [];
  readonly exhausted: { error: AmqpError; received: Received }[] = [];
  readonly undecodable: AmqpError[] = [];
  readonly undelivered: AmqpError[] = [];
  readonly receiver: Receiver;

  constructor(name: string, options: Partial<ReceiverOptions>, onMessage: (got: Got) => void = () => {}) {
    super();
    const defaults = { settle: 'arrival', creditWindow: 100, windowBytes: 2 ** 26, settleTimeout: 0 } as const;
    const styles = { fields: 'exact', body: 'plain' } as const;
    this.receiver = new Receiver(
      connection,
      { name, ...defaults, styles, ...options },
      {
        message: (incoming, delivery) => this.#take({ incoming, delivery }, onMessage),
        messages: (all) => {
          this.batches.push(all.length);
          for (const one of all) this.#take(one, onMessage);
        },
        exhausted: (error, received) => void this.exhausted.push({ error, received }),
        undelivered: (error) => {
          this.undelivered.push(error);
          return { settle: 'modify' };
        },
        undecodable: (error) => {
          this.undecodable.push(error);
          this.emit('message');
        },
      },
    );
    this.receiver.open();
  }

  #take({ incoming, delivery }: Received, onMessage: (got: Got) => void): void {
    const id = delivery.id ?? '';
    this.got.push({ incoming, delivery, id });
    this.emit('message');
    onMessage({ incoming, delivery, id });
  }

  /** Resolves once there have been so many. */
  async count(count: number): Promise<Got[]> {
    while (this.got.length < count) await once(this, 'message');
    return this.got;
  }

  get bodies(): unknown[] {
    return this.got.map(({ incoming }) => incoming.body?.content);
  }

  async state(name: State['name']): Promise<State> {
    while (this.receiver.state.name !== name) await once(this.receiver, 'state');
    return this.receiver.state;
  }
}

let broker: Broker;
let connection: Connection;
let inbox: Inbox;

function connect(port: number, options: Partial<ConnectionOptions> = {}): void {
  connection = new Connection({
    ...options,
    servers: [{ host: '127.0.0.1', port }],
    containerId: 'test',
    connectTimeout: 5000,
    idleTimeout: 0,
    backoff: { initial: 10, max: 10 },
    loginBackoff: { initial: 10, max: 10 },
  });
  connection.open();
}

/** A receiver of the address "q" of the broker. */
async function open(options: Partial<ReceiverOptions> = {}, onMessage?: (got: Got) => void): Promise<void> {
  connect(broker.port);
  inbox = new Inbox('receiver', { address: 'q', ...options }, onMessage);
  await inbox.state('connected');
}

function putAll(name: string, count: number): void {
  for (let body = 0; body < count; body++) broker.put(name, { body, message_id: `${name}${body}` });
}

/** Puts one of 100 kB. */
function putLarge(id: number): void {
  broker.put('q', { body: 'x'.repeat(100_000), message_id: id });
}

async function dispositions(count: number) {
  while (broker.dispositions.length < count) await once(broker, 'settled');
  return broker.dispositions;
}

/** What the broker was told of each message. */
const answered = () => broker.dispositions.map(({ id, state }) => `${String(id)} ${state}`);

/** Once this is done, the peer has seen all that was written before, and we all that it had to say to that. */
async function roundTrip(): Promise<void> {
  const other = new Inbox('other', { address: 'other', settle: 'pre-settled' });
  await other.state('connected');
  broker.put('other', { body: 'there and back' });
  await other.count(1);
  await other.receiver.close();
}

/** Puts messages of these names; "a1" is of the group "a", "1" of none. */
function putNamed(...names: string[]): void {
  for (const body of names) {
    const group = body.replaceAll(/\d/g, '');
    broker.put('q', { body, message_id: body, ...(group && { group_id: group }) });
  }
}

const settle = (index: number, outcome: Outcome) => inbox.receiver.settle(inbox.got[index]!.id, outcome);

const cyclic: Record<string, unknown> = {};
cyclic['x-self'] = cyclic;
const STATES = { accept: 'accepted', reject: 'rejected', release: 'released', modify: 'modified' };

/** What rhea is to write into its attach. */
type Local = { attach: { source: unknown } };

describe('receiver', () => {
  beforeEach(async () => {
    broker = await Broker.start();
  });
  afterEach(async () => {
    await inbox.receiver.close();
    await connection.close();
    await broker.stop();
  });

  describe('settles', () => {
    it('by accepting each message once it was handed over', async () => {
      await open();
      putAll('q', 3);
      (await dispositions(3)).map(({ state }) => state).should.eql(['accepted', 'accepted', 'accepted']);
      inbox.bodies.should.eql([0, 1, 2]);
      inbox.receiver.unsettled.should.equal(0);
    });

    it('nothing that it has not handed over, also when it is closed meanwhile (R3)', async () => {
      putAll('q', 50);
      await open({}, () => void inbox.receiver.close());
      await inbox.count(1);
      await inbox.receiver.close();
      inbox.got.length.should.equal(1);
      broker.dispositions.filter(({ state }) => state === 'accepted').length.should.be.belowOrEqual(1);
      broker.ready('q').should.be.aboveOrEqual(49);
    });

    const orders: Outcome['settle'][][] = [
      ['accept', 'reject'],
      ['reject', 'accept', 'accept'],
      ['release', 'accept'],
      ['accept', 'accept', 'reject', 'accept'],
      ['modify', 'reject', 'release', 'accept', 'modify'],
      ['reject', 'reject'],
    ];
    for (const order of orders) {
      it(`by ${order.join(', ')} within one turn just so (R1)`, async () => {
        await open({ settle: 'flow', creditWindow: order.length });
        putAll('q', order.length);
        await inbox.count(order.length);
        order.forEach((name, i) => settle(i, { settle: name, error: { condition: `test:${i}` } }));
        const seen = (await dispositions(order.length)).slice(0, order.length);
        seen
          .map(({ id, state, error }) => [id, state, error?.condition])
          .should.eql(order.map((name, i) => [`q${i}`, STATES[name], name === 'reject' ? `test:${i}` : undefined]));
      });
    }

    it('by releasing what the flow has not settled in time', async () => {
      await open({ settle: 'flow', settleTimeout: 20 });
      broker.put('q', { body: 1, message_id: 'late' });
      should((await dispositions(1))[0]).match({ id: 'late', state: 'released' });
      should(() => settle(0, { settle: 'accept' })).throw({ code: 'AMQP_DELIVERY_SETTLED' });
      (await inbox.count(2))[1]!.id.should.not.equal(inbox.got[0]!.id);
    });

    it('by releasing what the flow has failed after a pause, which grows until something is accepted', async () => {
      broker.options.maxDeliveries = Infinity;
      const { setTimeout: original } = globalThis;
      const pauses: number[] = [];
      try {
        await open({ settle: 'flow', creditWindow: 1 });
        // Those of other timers are of other lengths.
        globalThis.setTimeout = ((run: () => void, delay = 0) => {
          if (delay >= 100 && delay <= 2000) pauses.push(delay);
          return original(run, Math.min(delay, 5));
        }) as typeof setTimeout;
        putAll('q', 1);
        for (let round = 0; round < 4; round++) {
          await inbox.count(round + 1);
          inbox.receiver.fail(inbox.got[round]!.id, { settle: 'release' });
          should(() => settle(round, { settle: 'accept' })).throw({ code: 'AMQP_DELIVERY_SETTLED' });
        }
        await inbox.count(5);
        settle(4, { settle: 'accept' });
        putAll('q', 1);
        await inbox.count(6);
        inbox.receiver.fail(inbox.got[5]!.id, { settle: 'release' });
        await inbox.count(7);
      } finally {
        globalThis.setTimeout = original;
      }
      [200, 400, 800, 1600, 200].forEach((pause, index) => pauses[index]!.should.be.within(pause / 2, pause));
    });

    it('at once by releasing what the flow has failed, when it is closed', async () => {
      await open({ settle: 'flow' });
      putAll('q', 2);
      await inbox.count(2);
      for (const { id } of inbox.got) inbox.receiver.fail(id, { settle: 'release' });
      broker.dispositions.should.be.empty();
      await inbox.receiver.close();
      broker.dispositions.map(({ state }) => state).should.eql(['released', 'released']);
    });

    it('by releasing what it holds before it detaches', async () => {
      await open({ settle: 'flow' });
      putAll('q', 3);
      await inbox.count(3);
      settle(1, { settle: 'accept' });
      await inbox.receiver.close();
      broker.dispositions
        .map(({ id, state }) => [id, state])
        .should.eql([
          ['q1', 'accepted'],
          ['q0', 'released'],
          ['q2', 'released'],
        ]);
      // A release is no failed delivery.
      broker
        .messages('q')
        .map((message) => message!.delivery_count ?? 0)
        .should.eql([0, 0]);
    });

    it('nothing when messages come pre-settled, and is not stalled by 3,000 of them (R49)', async () => {
      await open({ settle: 'pre-settled' });
      broker.links()[0]!.sndSettleMode.should.equal(1);
      putAll('q', 3000);
      await inbox.count(3000);
      await roundTrip();
      broker.depth('q').should.equal(0);
      broker.dispositions.filter(({ address }) => address === 'q').should.be.empty();
    });

    it('a token once, and says what became of it', async () => {
      await open({ settle: 'flow' });
      putAll('q', 2);
      await inbox.count(2);
      settle(0, { settle: 'accept' });
      should(() => settle(0, { settle: 'reject' })).throw({ code: 'AMQP_DELIVERY_SETTLED' });
      settle(1, { settle: 'accept' });
      (await dispositions(2)).map(({ state }) => state).should.eql(['accepted', 'accepted']);
    });

    for (const [what, outcome] of [
      ['a condition that is no string', { settle: 'reject', error: { condition: 5 } }],
      ['a condition that is no symbol', { settle: 'reject', error: { condition: 'größe' } }],
      ['a description that is no string', { settle: 'reject', error: { condition: 'app:bad', description: {} } }],
      ['info that is no map', { settle: 'reject', error: { condition: 'app:bad', info: 'x' } }],
      ['annotations that are no map', { settle: 'modify', annotations: 'x' }],
      ['annotations with a function', { settle: 'modify', annotations: { 'x-f': () => {} } }],
      ['cyclic annotations', { settle: 'modify', annotations: cyclic }],
    ] as [string, unknown][]) {
      it(`nothing by ${what}: that is one clear error, and the message can still be settled`, async () => {
        await open({ settle: 'flow' });
        putAll('q', 1);
        await inbox.count(1);
        should(() => settle(0, outcome as Outcome)).throw({ code: 'AMQP_BAD_INPUT' });
        settle(0, { settle: 'accept' });
        (await dispositions(1)).map(({ state }) => state).should.eql(['accepted']);
      });
    }

    it('no token that it has not given', async () => {
      await open({ settle: 'flow' });
      const other = new Inbox('other', { address: 'other', settle: 'flow' });
      broker.put('other', { body: 1 });
      putAll('q', 1);
      const [{ id }] = (await inbox.count(1)) as [Got];
      const [given] = (await other.count(1)) as [Got];
      for (const unknown of ['', 'x', `${id}0`, id.replace(/\d+$/, '7'), id.replace('.0.', '.1.'), given.id]) {
        should(() => inbox.receiver.settle(unknown, { settle: 'accept' })).throw({ code: 'AMQP_DELIVERY_UNKNOWN' });
      }
      inbox.receiver.holds(id).should.be.true();
      await other.receiver.close();
    });

    for (const [what, lose] of Object.entries({
      connection: () => broker.dropSockets(),
      session: () => broker.endSessions('q'),
      link: () => broker.detach('q'),
    })) {
      it(`no token from before the loss of the ${what}, and so never a wrong message`, async () => {
        await open({ settle: 'flow' });
        broker.put('q', { body: 'first' });
        broker.put('q', { body: 'second' });
        await inbox.count(2);
        lose();
        await inbox.count(4);
        should(() => settle(0, { settle: 'accept' })).throw({ code: 'AMQP_DELIVERY_LOST' });
        settle(3, { settle: 'accept' });
        const seen = await dispositions(1);
        seen.should.have.length(1);
        inbox.bodies.should.eql(['first', 'second', 'first', 'second']);
        broker.unsettled('q').should.equal(1);
      });
    }

    it('no token while there is no connection, or after it was closed', async () => {
      await open({ settle: 'flow' });
      putAll('q', 1);
      await inbox.count(1);
      await broker.stop();
      await inbox.state('disconnected');
      should(() => settle(0, { settle: 'accept' })).throw({ code: 'AMQP_DELIVERY_LOST' });
      await inbox.receiver.close();
      should(() => settle(0, { settle: 'accept' })).throw({ code: 'AMQP_DELIVERY_LOST' });
    });
  });

  describe('credit', () => {
    it('counts what is not settled: no more than the window is ever out (R5)', async () => {
      await open({ settle: 'flow', creditWindow: 3 });
      putAll('q', 10);
      await inbox.count(3);
      await roundTrip();
      inbox.bodies.should.eql([0, 1, 2]);
      settle(1, { settle: 'accept' });
      await inbox.count(4);
      await roundTrip();
      inbox.bodies.should.eql([0, 1, 2, 3]);
      broker.unsettled('q').should.equal(3);
      broker.ready('q').should.equal(6);
    });

    it('comes back by each outcome, by the settle time-out, and by a message that cannot be decoded', async () => {
      await open({ settle: 'flow', creditWindow: 1, settleTimeout: 50 });
      putAll('q', 2);
      await inbox.count(1);
      settle(0, { settle: 'reject' });
      await inbox.count(2);
      settle(1, { settle: 'modify', undeliverableHere: true });
      broker.put('q', Buffer.from('no message'));
      putAll('q', 2);
      await inbox.count(3);
      await inbox.count(4);
      inbox.undecodable.should.have.length(1);
    });

    it('counts bytes of what is not settled too: no more than the window are out, once it is known how large they are', async () => {
      await open({ settle: 'flow', windowBytes: 260_000 });
      const body = 'x'.repeat(50_000);
      for (let n = 0; n < 30; n++) broker.put('q', { body, message_id: n });
      await inbox.count(5);
      await roundTrip();
      // Credit for a few was given before.
      const count = inbox.got.length;
      count.should.be.within(5, 10);
      for (let n = 0; n < count; n++) settle(n, { settle: 'accept' });
      await inbox.count(count + 5);
      await roundTrip();
      inbox.got.should.have.length(count + 5);
    });

    it('is one for a message that is larger than the window', async () => {
      await open({ settle: 'flow', windowBytes: 1000 });
      for (let n = 0; n < 12; n++) broker.put('q', { body: 'x'.repeat(2000), message_id: n });
      for (let n = 0; n < 12; n++) {
        await inbox.count(n + 1);
        settle(n, { settle: 'accept' });
      }
    });

    it('is taken back when messages are larger than those before', async () => {
      await open({ settle: 'flow', windowBytes: 250_000 });
      putAll('q', 1);
      await inbox.count(1);
      for (let n = 0; n < 2; n++) {
        putLarge(n);
        await inbox.count(n + 2);
      }
      await roundTrip();
      putLarge(2);
      await roundTrip();
      inbox.got.should.have.length(3);
      settle(1, { settle: 'accept' });
      await inbox.count(4);
    });

    it('is enough for another receiver while 2,100 messages are held (R9)', async () => {
      await open({ settle: 'flow', creditWindow: 2200 });
      putAll('q', 2100);
      await inbox.count(2100);
      const other = new Inbox('other', { address: 'other' });
      putAll('other', 2100);
      await other.count(2100);
      inbox.receiver.unsettled.should.equal(2100);
      inbox.got.forEach((_, i) => settle(i, { settle: 'accept' }));
      await dispositions(4200);
      broker.depth('q').should.equal(0);
      await other.receiver.close();
    });

    it('is not used up by one message that is held while 5,000 later ones are settled (R32)', async () => {
      await open({ settle: 'flow', creditWindow: 50 }, ({ id, incoming }) => {
        if (incoming.body!.content !== 0) inbox.receiver.settle(id, { settle: 'accept' });
      });
      putAll('q', 5001);
      await inbox.count(5001);
      await dispositions(5000);
      settle(0, { settle: 'reject' });
      should((await dispositions(5001)).at(-1)).match({ id: 'q0', state: 'rejected' });
    });

    it('is only what is granted when the window is 0', async () => {
      await open({ creditWindow: 0 });
      putAll('q', 5);
      await roundTrip();
      inbox.got.should.be.empty();
      inbox.receiver.grant(2);
      await inbox.count(2);
      await roundTrip();
      inbox.receiver.grant(1);
      await inbox.count(3);
      await roundTrip();
      inbox.bodies.should.eql([0, 1, 2]);
    });

    it('that was granted outlives the connection, as far as it was not used', async () => {
      await open({ creditWindow: 0 });
      inbox.receiver.grant(3);
      putAll('q', 1);
      await inbox.count(1);
      await dispositions(1);
      broker.dropSockets();
      await inbox.state('disconnected');
      await inbox.state('connected');
      putAll('q', 5);
      await inbox.count(3);
      await roundTrip();
      inbox.got.should.have.length(3);
    });

    it('can be granted before there is a connection', async () => {
      await broker.stop();
      connect(broker.port);
      inbox = new Inbox('receiver', { address: 'q', creditWindow: 0 });
      inbox.receiver.grant(2);
      putAll('q', 3);
      await broker.resume();
      await inbox.count(2);
      await roundTrip();
      inbox.got.should.have.length(2);
    });

    it('is taken back by pause, also over a reconnect, and given again by resume', async () => {
      await open();
      inbox.receiver.pause();
      inbox.receiver.state.name.should.equal('paused');
      await roundTrip();
      putAll('q', 3);
      await roundTrip();
      broker.dropSockets();
      await inbox.state('disconnected');
      await inbox.state('paused');
      await roundTrip();
      inbox.got.should.be.empty();
      inbox.receiver.resume();
      inbox.receiver.state.name.should.equal('connected');
      await inbox.count(3);
    });

    it('that is granted during a pause counts from resume on', async () => {
      await open({ creditWindow: 0 });
      inbox.receiver.pause();
      inbox.receiver.grant(2);
      putAll('q', 3);
      await roundTrip();
      inbox.got.should.be.empty();
      inbox.receiver.resume();
      await inbox.count(2);
      await roundTrip();
      inbox.got.should.have.length(2);
    });
  });

  describe('in the order of groups', () => {
    const inOrder = { settle: 'flow', inOrder: true } as const;

    it('gives the next of a group once the one before is settled, and other groups beside', async () => {
      await open(inOrder);
      putNamed('a1', 'a2', 'b1', 'a3', 'b2', '1', '2');
      await inbox.count(4);
      await roundTrip();
      inbox.bodies.should.eql(['a1', 'b1', '1', '2']);
      settle(0, { settle: 'accept' });
      settle(1, { settle: 'reject' });
      inbox.bodies.slice(4).should.eql(['a2', 'b2']);
      settle(4, { settle: 'accept' });
      inbox.bodies.slice(6).should.eql(['a3']);
    });

    it('gives back what is behind one that is modified, and then all of the group once more in its order', async () => {
      await open(inOrder);
      putNamed('a1', 'a2', 'b1', 'a3');
      await inbox.count(2);
      await roundTrip();
      settle(0, { settle: 'modify' });
      await inbox.count(3);
      await dispositions(3);
      answered().should.eql(['a1 modified', 'a2 released', 'a3 released']);
      for (let index = 2; index < 5; index++) {
        await inbox.count(index + 1);
        settle(index, { settle: 'accept' });
      }
      inbox.bodies.should.eql(['a1', 'b1', 'a1', 'a2', 'a3']);
      settle(1, { settle: 'accept' });
      await dispositions(7);
      broker.depth('q').should.equal(0);
    });

    it('gives nothing of a group while one that has failed waits to be released, also what comes later', async () => {
      await open(inOrder);
      putNamed('a1', 'a2');
      await inbox.count(1);
      await roundTrip();
      inbox.receiver.fail(inbox.got[0]!.id, { settle: 'release' });
      putNamed('a3', 'b1');
      await inbox.count(2);
      await roundTrip();
      inbox.bodies.should.eql(['a1', 'b1']);
      broker.dispositions.should.be.empty();
      for (let index = 2; index < 5; index++) {
        await inbox.count(index + 1);
        settle(index, { settle: 'accept' });
      }
      inbox.bodies.should.eql(['a1', 'b1', 'a1', 'a2', 'a3']);
      answered().slice(0, 3).should.eql(['a1 released', 'a2 released', 'a3 released']);
    });

    it('gives the group back when one of it is not settled in time, and is not stuck', async () => {
      await open({ ...inOrder, settleTimeout: 20 });
      putNamed('a1', 'a2', 'a3');
      await inbox.count(2);
      inbox.bodies.should.eql(['a1', 'a1']);
      for (let index = 1; index < 4; index++) {
        await inbox.count(index + 1);
        settle(index, { settle: 'accept' });
      }
      inbox.bodies.slice(1).should.eql(['a1', 'a2', 'a3']);
      while (broker.depth('q') > 0) await once(broker, 'settled');
    });

    for (const [what, lose] of [
      ['the connection', () => broker.dropSockets()],
      ['the session', () => broker.endSessions('q')],
      ['the link', () => broker.detach('q')],
    ] as const) {
      it(`begins anew with what comes again after the loss of ${what}`, async () => {
        await open(inOrder);
        putNamed('a1', 'a2', 'a3');
        await inbox.count(1);
        await roundTrip();
        lose();
        for (let index = 1; index < 4; index++) {
          await inbox.count(index + 1);
          settle(index, { settle: 'accept' });
        }
        inbox.bodies.should.eql(['a1', 'a1', 'a2', 'a3']);
        should(() => settle(0, { settle: 'accept' })).throw({ code: 'AMQP_DELIVERY_LOST' });
        while (broker.depth('q') > 0) await once(broker, 'settled');
      });
    }

    it('releases what waits when it is closed, while the flow settles what it has', async () => {
      await open(inOrder);
      putNamed('a1', 'a2', 'a3');
      await inbox.count(1);
      await roundTrip();
      const leaving = inbox.receiver.leave(5000);
      settle(0, { settle: 'accept' });
      await leaving;
      await inbox.receiver.close();
      answered().should.eql(['a2 released', 'a3 released', 'a1 accepted']);
      inbox.bodies.should.eql(['a1']);
      broker
        .messages('q')
        .map((message) => message!.body)
        .should.eql(['a2', 'a3']);
    });

    it('has no more than the window, whatever waits', async () => {
      await open({ ...inOrder, creditWindow: 4 });
      putNamed(...Array.from({ length: 20 }, (_, index) => `a${index}`));
      await inbox.count(1);
      await roundTrip();
      broker.unsettled('q').should.equal(4);
      for (let index = 0; index < 20; index++) {
        await inbox.count(index + 1);
        broker.unsettled('q').should.be.belowOrEqual(4);
        settle(index, { settle: 'accept' });
      }
      await dispositions(20);
      inbox.bodies.should.eql(Array.from({ length: 20 }, (_, index) => `a${index}`));
    });

    it('counts for nothing where messages are accepted on arrival', async () => {
      await open({ settle: 'arrival', inOrder: true });
      putNamed('a1', 'a2');
      await inbox.count(2);
    });
  });

  describe('together', () => {
    const three = { together: { count: 3, time: 60_000 } };
    const soon = { together: { count: 3, time: 20 } };

    it('gives as many as were asked for, each with its own token', async () => {
      await open({ settle: 'flow', ...three });
      putNamed('1', '2', '3', '4');
      await inbox.count(3);
      await roundTrip();
      inbox.batches.should.eql([3]);
      settle(1, { settle: 'accept' });
      settle(0, { settle: 'release' });
      await dispositions(2);
      broker.dispositions
        .map(({ id, state }) => [id, state])
        .should.eql([
          ['2', 'accepted'],
          ['1', 'released'],
        ]);
    });

    it('gives fewer once the time is over', async () => {
      await open({ settle: 'flow', ...soon });
      putNamed('1', '2');
      await inbox.count(2);
      inbox.batches.should.eql([2]);
    });

    it('accepts them on arrival once the flow has them', async () => {
      await open({ settle: 'arrival', ...three });
      putNamed('1', '2');
      await roundTrip();
      broker.dispositions.should.be.empty();
      putNamed('3');
      (await dispositions(3)).forEach(({ state }) => state.should.equal('accepted'));
      inbox.batches.should.eql([3]);
    });

    it('gives those that were settled by the peer, as many as come', async () => {
      await open({ settle: 'pre-settled', ...three });
      putNamed(...Array.from({ length: 300 }, (_, index) => `${index}`));
      await inbox.count(300);
      inbox.batches.should.eql(Array.from({ length: 100 }, () => 3));
      broker.dispositions.should.be.empty();
    });

    for (const settleBy of ['flow', 'arrival'] as const) {
      it(`releases what it has not given when it is closed (${settleBy})`, async () => {
        await open({ settle: settleBy, ...three });
        putNamed('1', '2');
        await roundTrip();
        await inbox.receiver.leave(1000);
        await inbox.receiver.close();
        inbox.got.should.be.empty();
        broker.ready('q').should.equal(2);
      });
    }

    for (const [what, end] of [
      ['closed', () => inbox.receiver.close()],
      ['detached', () => inbox.receiver.detach()],
      ['unsubscribed', () => inbox.receiver.unsubscribe()],
      ['set to another address', () => inbox.receiver.subscribe('other')],
      ['stopped', async () => inbox.receiver.stop()],
      ['disconnected', () => connection.close()],
    ] as const) {
      it(`gives what the peer has forgotten when it is ${what}`, async () => {
        await open({ settle: 'pre-settled', ...three });
        putNamed('1', '2');
        await roundTrip();
        inbox.got.should.be.empty();
        await end();
        inbox.bodies.should.eql(['1', '2']);
      });
    }

    it('gives nothing from before the loss of the connection, and each message once after it', async () => {
      await open({ settle: 'flow', ...three });
      putNamed('1', '2');
      await roundTrip();
      broker.dropSockets();
      putNamed('3');
      await inbox.count(3);
      await roundTrip();
      inbox.bodies.should.eql(['1', '2', '3']);
      inbox.batches.should.eql([3]);
    });

    it('has no more than the window in messages that wait', async () => {
      await open({ settle: 'flow', creditWindow: 5, together: { count: 5, time: 60_000 } });
      putNamed(...Array.from({ length: 12 }, (_, index) => `${index}`));
      await inbox.count(5);
      await roundTrip();
      broker.unsettled('q').should.equal(5);
      for (let index = 0; index < 5; index++) settle(index, { settle: 'accept' });
      await inbox.count(10);
      await roundTrip();
      broker.unsettled('q').should.equal(5);
      inbox.batches.should.eql([5, 5]);
    });

    it('settles each as the flow says that could not be given them', async () => {
      await open({ settle: 'flow', ...three }, () => {
        throw new Error('closed');
      });
      broker.options.maxDeliveries = 1;
      putNamed('1', '2', '3');
      (await dispositions(3)).forEach(({ state }) => state.should.equal('modified'));
      inbox.undelivered.should.have.length(3);
    });
  });

  describe('that gives up', () => {
    const twice = { settle: 'flow', maxAttempts: 2 } as const;

    it('counts the deliveries of a message by the count of the peer', async () => {
      await open(twice);
      broker.put('q', { body: 'x' });
      for (let index = 0; index < 3; index++) {
        await inbox.count(index + 1);
        settle(index, { settle: 'modify' });
      }
      await inbox.count(4);
      inbox.got.map(({ delivery: { attempt } }) => attempt).should.eql([1, 2, 3, 4]);
    });

    it('counts them by the id of the message where the peer does not count', async () => {
      await open(twice);
      putNamed('1');
      for (let index = 0; index < 3; index++) {
        await inbox.count(index + 1);
        settle(index, { settle: 'release' });
      }
      await inbox.count(4);
      inbox.got
        .map(({ delivery: { attempt, redelivered } }) => [attempt, redelivered])
        .should.eql([
          [1, false],
          [2, false],
          [3, false],
          [4, false],
        ]);
    });

    for (const [exhausted, state] of [
      ['reject', 'rejected'],
      ['accept', 'accepted'],
    ] as const) {
      it(`has a message ${state} that came too often, and tells of it`, async () => {
        await open({ ...twice, exhausted });
        putNamed('1', '2');
        await inbox.count(2);
        settle(0, { settle: 'release' });
        await inbox.count(3);
        settle(2, { settle: 'release' });
        const [, , given] = await dispositions(3);
        given!.should.match({ id: '1', state });
        if (state === 'rejected')
          given!.error!.should.match({ condition: 'amqp:internal-error', description: /2 attempts/ });
        inbox.exhausted.should.match([
          {
            error: { code: 'AMQP_ATTEMPTS' },
            received: { delivery: { attempt: 3 }, incoming: { fields: { message_id: '1' } } },
          },
        ]);
        // It goes on.
        settle(1, { settle: 'accept' });
        putNamed('3');
        await inbox.count(4);
        inbox.bodies.should.eql(['1', '2', '1', '3']);
      });
    }

    it('goes on with the group of a message that it has given up', async () => {
      await open({ ...twice, exhausted: 'reject', inOrder: true });
      putNamed('a1', 'a2');
      for (const index of [0, 1]) {
        await inbox.count(index + 1);
        await roundTrip();
        settle(index, { settle: 'release' });
      }
      await inbox.count(3);
      inbox.got
        .map(({ incoming, delivery: { attempt } }) => [incoming.body!.content, attempt])
        .should.eql([
          ['a1', 1],
          ['a1', 2],
          ['a2', 1],
        ]);
      await dispositions(5);
      broker.depth('DLQ').should.equal(1);
    });

    it('gives the rest of those that come together', async () => {
      await open({ ...twice, exhausted: 'accept', together: { count: 2, time: 60_000 } });
      putNamed('1', '2');
      for (let index = 0; index < 4; index += 2) {
        await inbox.count(index + 2);
        settle(index, { settle: 'release' });
        if (index === 0) settle(1, { settle: 'release' });
        else settle(3, { settle: 'accept' });
      }
      putNamed('3');
      await inbox.count(5);
      inbox.batches.should.eql([2, 2, 1]);
      inbox.exhausted.should.have.length(1);
    });
  });

  describe('with a largest message', () => {
    for (const [what, size] of [
      ['one frame', 2000],
      ['several frames', 300_000],
    ] as const) {
      it(`rejects one of ${what} that is larger, and goes on`, async () => {
        const attached = once(broker, 'attach');
        await open({ settle: 'flow', maxMessageSize: 1000 });
        (await attached)[0].should.match({ maxMessageSize: 1000 });
        broker.put('q', { body: 'x'.repeat(size), message_id: 'large' });
        broker.put('q', { body: 'y'.repeat(900), message_id: 'small' });
        const [rejected] = await dispositions(1);
        rejected!.should.match({
          id: 'large',
          state: 'rejected',
          error: { condition: 'amqp:link:message-size-exceeded' },
        });
        await inbox.count(1);
        inbox.undecodable.should.match([{ code: 'AMQP_TOO_LARGE', message: /larger than the 1000 bytes/ }]);
        settle(0, { settle: 'accept' });
        await dispositions(2);
        inbox.receiver.state.name.should.equal('connected');
      });
    }

    it('takes one of just that size', async () => {
      const bytes = rhea.message.encode({ body: 'x'.repeat(5000) });
      await open({ settle: 'flow', maxMessageSize: bytes.length });
      broker.put('q', bytes);
      await inbox.count(1);
      broker.put('q', rhea.message.encode({ body: 'x'.repeat(5001) }));
      while (inbox.undecodable.length === 0) await once(inbox, 'message');
    });
  });

  describe('detaches', () => {
    it('with the error that it is given, and attaches again with the next subscribe', async () => {
      await open({ settle: 'flow' });
      putAll('q', 1);
      await inbox.count(1);
      const detached = once(broker, 'detach');
      await inbox.receiver.detach({ condition: 'app:why', description: 'because' });
      (await detached)[0].should.match({
        name: 'receiver',
        closed: true,
        error: { condition: 'app:why', description: 'because' },
      });
      inbox.receiver.state.should.eql({ name: 'detached' });
      broker.dispositions.should.match([{ state: 'released' }]);
      should(await inbox.receiver.subscribe()).be.true();
      connection.open();
      await inbox.count(2);
    });

    it('without an error where none is given', async () => {
      await open();
      const detached = once(broker, 'detach');
      await inbox.receiver.detach();
      (await detached)[0].should.not.have.property('error');
    });
  });

  describe('drain', () => {
    it('brings what there is and uses up the credit that was granted', async () => {
      await open({ creditWindow: 0 });
      putAll('q', 2);
      inbox.receiver.grant(5);
      await inbox.receiver.drain();
      inbox.bodies.should.eql([0, 1]);
      putAll('q', 2);
      await roundTrip();
      inbox.got.should.have.length(2);
      inbox.receiver.grant(1);
      await inbox.count(3);
    });

    it('is over once it is done: later credit stays (R47)', async () => {
      await open({ creditWindow: 10 });
      await Promise.all([inbox.receiver.drain(), inbox.receiver.drain()]);
      await roundTrip();
      putAll('q', 30);
      await inbox.count(30);
    });

    it('needs a link', async () => {
      await open();
      await broker.stop();
      await inbox.state('disconnected');
      await inbox.receiver.drain().should.be.rejectedWith({ code: 'AMQP_DISCONNECTED' });
    });
  });

  describe('hands over', () => {
    it('how the message came', async () => {
      await open({ settle: 'flow' });
      broker.put('q', { body: 1, to: 'somewhere' });
      broker.put('q', { body: 2 });
      await inbox.count(2);
      settle(0, { settle: 'modify' });
      settle(1, { settle: 'accept' });
      await inbox.count(3);
      const [first, second, again] = inbox.got.map(({ delivery }) => delivery);
      should(first).have.properties({ address: 'q', redelivered: false, to: 'somewhere' });
      should(second).have.properties({ address: 'q', redelivered: false }).and.not.have.property('to');
      should(again).have.properties({ address: 'q', redelivered: true, to: 'somewhere' });
      for (const delivery of [first, second, again]) delivery!.tag.should.match(/^[0-9a-f]+$/);
    });

    for (const [what, bytes] of Object.entries({
      'with no sections at all': Buffer.alloc(0),
      'with a section that is not known': Buffer.from([0x00, 0x53, 0x79, 0x40]),
      'whose body says to be longer than it is': Buffer.from([0x00, 0x53, 0x75, 0xa0, 0x05, 0x01]),
      'that is only noise': Buffer.from('noise'),
    })) {
      it(`no message ${what}: it is rejected, and the link goes on (R8)`, async () => {
        await open();
        broker.put('q', bytes);
        broker.put('q', { body: 'good' });
        await inbox.count(1);
        inbox.undecodable.map(({ code }) => code).should.eql(['AMQP_DECODE']);
        (await dispositions(2)).should.match([
          { state: 'rejected', error: { condition: 'amqp:decode-error' } },
          { state: 'accepted' },
        ]);
        broker.connections().should.equal(1);
      });
    }

    for (const mode of ['flow', 'arrival'] as const) {
      it(`messages also after those that the flow could not be given, which get their own outcome (${mode})`, async () => {
        broker.options.maxDeliveries = 1;
        await open({ settle: mode, creditWindow: 2 }, ({ incoming, id }) => {
          if (incoming.body!.content !== 4) throw new RangeError('too deep');
          if (mode === 'flow') inbox.receiver.settle(id, { settle: 'accept' });
        });
        putAll('q', 5);
        const states = (await dispositions(5)).map(({ id, state }) => `${String(id)} ${state}`);
        states.should.eql(['q0 modified', 'q1 modified', 'q2 modified', 'q3 modified', 'q4 accepted']);
        should(inbox.undelivered).have.length(4);
        should(inbox.undelivered[0]).match({ code: 'AMQP_FLOW', message: /too deep/ });
        broker.connections().should.equal(1);
      });
    }
  });

  describe('reads', () => {
    it('from the source as it was set', async () => {
      await open({ source: { durable: 2, expiry_policy: 'never' } });
      should(broker.links()[0]).match({
        name: 'receiver',
        role: 'receiver',
        source: { address: 'q', durable: 2, expiry_policy: 'never' },
      });
    });

    it('from a durable source that stays with the peer when the receiver goes; any other is deleted (R22)', async () => {
      for (const durable of [2, undefined]) {
        await open({ source: { durable } });
        const detached = once(broker, 'detach');
        await inbox.receiver.close();
        should((await detached)[0]).have.property('closed', durable === undefined);
      }
    });

    it('from an address that the peer makes, another one after each reconnect (R52)', async () => {
      await open({ address: undefined, dynamic: true, capabilities: ['temporary-queue'] });
      should(broker.links()[0]).match({ source: { dynamic: true, capabilities: ['temporary-queue'] } });
      const { address } = inbox.receiver;
      should(inbox.receiver.state).eql({ name: 'connected', address });
      broker.put(address!, { body: 1 });
      (await inbox.count(1))[0]!.delivery.address!.should.equal(address);
      broker.dropSockets();
      await inbox.state('disconnected');
      should(inbox.receiver.address).equal(undefined);
      await inbox.state('connected');
      inbox.receiver.address!.should.startWith('dynamic-').and.not.equal(address);
    });

    it('from another address from the next subscribe on', async () => {
      await open({ settle: 'flow' });
      broker.put('q', { body: 'held' });
      await inbox.count(1);
      await inbox.receiver.subscribe('r');
      connection.open();
      await inbox.state('connected');
      broker
        .links()
        .map(({ address }) => address)
        .should.eql(['r']);
      should((await dispositions(1))[0]).match({ address: 'q', state: 'released' });
      broker.put('r', { body: 'new' });
      (await inbox.count(2))[1]!.delivery.address!.should.equal('r');
    });

    it('from the address that was named last, also when it is told of several at once', async () => {
      await open();
      const neighbour = new Inbox('neighbour', { address: 'n' });
      await neighbour.state('connected');
      await Promise.all(['a', 'b', 'c'].map((address) => inbox.receiver.subscribe(address)));
      await inbox.state('connected');
      await roundTrip();
      const links = broker.links().filter(({ name }) => name === 'receiver');
      links.map(({ address }) => address).should.eql(['c']);
      inbox.receiver.address!.should.equal('c');
      await neighbour.receiver.close();
    });

    it('nothing once it is closed, also when it was just subscribing to another address', async () => {
      await open();
      const neighbour = new Inbox('neighbour', { address: 'n' });
      await neighbour.state('connected');
      const subscribed = inbox.receiver.subscribe('r').catch(() => {});
      await inbox.receiver.close();
      await subscribed;
      await roundTrip();
      broker
        .links()
        .map(({ name }) => name)
        .should.eql(['neighbour']);
      await neighbour.receiver.close();
    });

    it('on where it already reads, without an interruption', async () => {
      await open({ settle: 'flow' });
      putAll('q', 1);
      await inbox.count(1);
      await inbox.receiver.subscribe('q');
      await inbox.receiver.subscribe();
      settle(0, { settle: 'accept' });
      should((await dispositions(1))[0]).match({ state: 'accepted' });
    });
  });

  describe('with a peer of other habits', () => {
    let stop: () => void;

    /** A peer that sends one message to whoever attaches, and does as `habit` says. */
    async function openToPeer(habit: (link: Sender) => void, options: Partial<ReceiverOptions> = {}) {
      const container = rhea.create_container();
      container.sasl_server_mechanisms.enable_anonymous();
      for (const event of ['disconnected', 'connection_close', 'session_close', 'sender_close', 'error'])
        container.on(event, () => {});
      container.on('sender_open', ({ sender }: EventContext) => {
        sender!.set_source({ address: 'q' });
        habit(sender!);
      });
      container.once('sendable', ({ sender }: EventContext) => sender!.send({ body: 'hello' }));
      const server = container.listen({ port: 0, treat_modified_as_released: false } as Parameters<
        typeof container.listen
      >[0]);
      await once(server, 'listening');
      stop = () => server.close();
      connect((server.address() as AddressInfo).port);
      inbox = new Inbox('receiver', { address: 'q', ...options });
      await inbox.state('connected');
    }
    afterEach(() => stop());

    it('tells a reason in full', async () => {
      let link!: Sender;
      await openToPeer((sender) => void (link = sender), { settle: 'flow' });
      await inbox.count(1);
      const told = once(link, 'rejected');
      const error = { condition: 'app:bad', description: 'why', info: { line: 7 } };
      settle(0, { settle: 'reject', error });
      const [{ delivery }] = (await told) as [{ delivery: Delivery }];
      should(delivery.remote_state).match({ error });
    });

    it('tells what it has noted on a message that it could not process', async () => {
      let link!: Sender;
      await openToPeer((sender) => void (link = sender), { settle: 'flow' });
      await inbox.count(1);
      const told = once(link, 'modified');
      settle(0, { settle: 'modify', undeliverableHere: true, annotations: { 'x-tried': 'once' } });
      const [{ delivery }] = (await told) as [{ delivery: Delivery }];
      should(delivery.remote_state).match({
        delivery_failed: true,
        undeliverable_here: true,
        message_annotations: { 'x-tried': 'once' },
      });
    });

    it('takes messages from one that answers without a source', async () => {
      await openToPeer((link) => void ((link as unknown as { local: Local }).local.attach.source = null));
      await inbox.count(1);
    });

    it('gives up on a drain that the peer never answers (R48)', async () => {
      await openToPeer((link) => Object.assign(link, { _get_drain: () => false }));
      await inbox.receiver.drain().should.be.rejectedWith({ code: 'AMQP_TIMEOUT' });
    });

    it('gives up on a drain when the link is lost', async () => {
      await openToPeer((link) => {
        Object.assign(link, { _get_drain: () => false });
        link.once('sender_draining', () => link.close());
      });
      await inbox.receiver.drain().should.be.rejectedWith({ code: 'AMQP_LINK_DETACHED' });
    });
  });

  it('sends no outcome but accepted to a peer that has one session only, as IBM MQ', async () => {
    await broker.stop();
    broker = await Broker.start({ oneSession: true, acceptedOnly: true });
    connect(broker.port, { hasOneSession: true });
    inbox = new Inbox('receiver', { address: 'q', settle: 'flow' });
    await inbox.state('connected');
    putAll('q', 4);
    await inbox.count(4);
    settle(0, { settle: 'reject' });
    settle(1, { settle: 'release' });
    settle(2, { settle: 'modify' });
    settle(3, { settle: 'accept' });
    should((await dispositions(1)).map(({ id, state }) => [id, state])).deepEqual([['q3', 'accepted']]);
    await inbox.receiver.close();
    // What was not accepted comes again.
    should(broker.ready('q')).equal(3);
  });
});
