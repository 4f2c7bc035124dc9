import { EventEmitter, once } from 'node:events';
import { mock } from 'node:test';
import rhea, { type Delivery, type EventContext, type Message, type Sender } from 'rhea';
import should from 'should';
import { Connection } from '../../../../nodes/lib/connection/connection';
import { ReceiverLink, type ReceiverLinkOptions } from '../../../../nodes/lib/link/receiver-link';
import type { State } from '../../../../nodes/lib/state';
import type { IncomingDelivery } from '../../../../nodes/lib/wire/link-end';
import type { Outcome } from '../../../../nodes/lib/wire/outcome';
import { Broker, type BrokerOptions, type LinkInfo } from '../../../../broker/broker';

/** What the link has told its user. */
interface Told {
  message: [IncomingDelivery];
  attached: [];
  lost: [];
}

const rejected = (error: object): never =>
  (rhea.message as unknown as { rejected(fields: object): { described(): never } }).rejected({ error }).described();

describe('a receiver link', () => {
  let broker: Broker;
  let connection: Connection;
  let link: ReceiverLink;
  let told: EventEmitter<Told>;
  /** The peer's end. */
  let sender: Sender;

  afterEach(async () => {
    mock.timers.reset();
    await link.close();
    await connection.close();
    await broker.stop();
  });

  /** A link to "q" of a new broker, which does with its end as `habit` says. */
  async function open(
    options: Partial<ReceiverLinkOptions> = {},
    { habit = () => {}, ...brokerOptions }: BrokerOptions & { habit?: (end: Sender) => void } = {},
  ): Promise<void> {
    broker = await Broker.start(brokerOptions);
    broker['container'].on('sender_open', (context: EventContext) => habit((sender = context.sender!)));
    const backoff = { initial: 10, max: 10 };
    const to = { host: '127.0.0.1', port: broker.port, containerId: 'test' };
    connection = new Connection({
      servers: [to],
      containerId: to.containerId,
      connectTimeout: 5000,
      idleTimeout: 0,
      backoff,
      loginBackoff: backoff,
    });
    told = new EventEmitter();
    link = new ReceiverLink(
      connection,
      { name: 'receiver', address: 'q', isPreSettled: false, ...options },
      {
        message: (delivery) => void told.emit('message', delivery),
        attached: () => void told.emit('attached'),
        lost: () => void told.emit('lost'),
      },
    );
    link.open();
    connection.open();
  }

  const settled = (delivery: IncomingDelivery, outcome: Outcome) =>
    new Promise<void>((resolve, reject) =>
      link.settle(delivery, outcome, (error) => (error ? reject(error) : resolve())),
    );

  async function state(name: State['name']): Promise<State> {
    while (link.state.name !== name) await once(link, 'state');
    return link.state;
  }

  async function attach(...args: Parameters<typeof open>): Promise<void> {
    await open(...args);
    if (!link.isAttached) await once(told, 'attached');
  }

  /** Resolves with the bodies of the next messages, so many, each of which is accepted. */
  async function bodies(count: number): Promise<unknown[]> {
    const got: unknown[] = [];
    return new Promise((resolve) => {
      const take = (delivery: IncomingDelivery): void => {
        link.settle(delivery, { settle: 'accept' });
        if (got.push((rhea.message.decode(delivery.bytes) as unknown as Message).body) < count) return;
        told.off('message', take);
        resolve(got);
      };
      told.on('message', take);
    });
  }

  it('gives no credit by itself, and counts down what its user gives', async () => {
    await attach();
    for (const body of [1, 2, 3, 4]) broker.put('q', { body });
    should([link.credit, broker.ready('q')]).deepEqual([0, 4]);
    link.setCredit(2);
    should(await bodies(2)).deepEqual([1, 2]);
    should(link.credit).equal(0);
    link.addCredit(1);
    link.addCredit(2);
    should(link.credit).equal(3);
    should(await bodies(2)).deepEqual([3, 4]);
    should(link.credit).equal(1);
  });

  describe('that drains', () => {
    it('gets what there is, and uses up the rest of its credit', async () => {
      await attach();
      broker.put('q', { body: 1 });
      const got = bodies(1);
      link.setCredit(5);
      const draining = link.drain();
      should([link.isDraining, link.drain()]).deepEqual([true, draining]);
      await draining;
      should(await got).deepEqual([1]);
      should([link.isDraining, link.credit]).deepEqual([false, 0]);
    });

    it('gives up when the peer does not answer in time, and goes on with its credit', async () => {
      await attach({}, { habit: (end) => Object.assign(end, { _get_drain: () => false }) });
      link.setCredit(5);
      mock.timers.enable({ apis: ['setTimeout'] });
      const asked = once(sender, 'sender_draining');
      const draining = link.drain();
      await asked;
      mock.timers.tick(4999);
      should(link.isDraining).be.true();
      mock.timers.tick(1);
      await should(draining).be.rejectedWith({ code: 'AMQP_TIMEOUT' });
      should([link.isDraining, link.credit]).deepEqual([false, 5]);
      broker.put('q', { body: 'later' });
      should(await bodies(1)).deepEqual(['later']);
    });
  });

  it('shows that it is paused, also after it is attached again, until it is resumed', async () => {
    await attach();
    link.setPaused(true);
    should(link.state).deepEqual({ name: 'paused' });
    const attached = once(told, 'attached');
    broker.detach('q');
    await attached;
    should(link.state).deepEqual({ name: 'paused' });
    link.setPaused(false);
    should(link.state).deepEqual({ name: 'connected' });
  });

  it('does not show a pause while it is not attached', async () => {
    await attach();
    await broker.stop();
    await state('disconnected');
    link.setPaused(true);
    should(link.state.name).equal('disconnected');
    await broker.resume();
    await state('paused');
  });

  describe('that browses', () => {
    for (const [what, name, brokerOptions] of [
      ['takes it for a consumer', 'ignored', { habit: (end: Sender) => end.set_source({ address: 'q' }) }],
      ['may take it for one', 'unsure', { properties: { product: 'qpid-dispatch-router' } }],
    ] as const) {
      it(`is given up where the peer ${what}`, async () => {
        await open({ source: { browse: true } }, brokerOptions);
        told.on('attached', () => should.fail('attached', 'given up'));
        const detached = once(broker, 'detach') as Promise<[LinkInfo & { closed: boolean }]>;
        should(await state(name)).deepEqual({ name, options: ['browse'] });
        should((await detached)[0]).match({ name: 'receiver', closed: true });
        should(link.isAttached).be.false();
      });
    }

    it('is attached where the peer confirms that', async () => {
      await attach({ source: { browse: true } });
      should(await state('connected')).deepEqual({ name: 'connected' });
    });
  });

  it('shows what the peer has ignored of its options, and reads all the same where that does no harm', async () => {
    await attach({ source: { selector: 'a = 1', unfiltered: true } });
    should(await state('ignored')).deepEqual({ name: 'ignored', options: ['selector'] });
    broker.put('q', { body: 1 });
    link.setCredit(1);
    should(await bodies(1)).deepEqual([1]);
  });

  describe('with filters', () => {
    const filters = [
      { name: 'taken', descriptor: 'app:taken', value: 'x' },
      { name: 'refused', value: { $amqp: 'int', value: 1 } },
    ];

    it('is given up where the peer leaves one out, and names it', async () => {
      await open({ source: { filters } }, { confirmsFilters: ['taken'] });
      told.on('attached', () => should.fail('attached', 'given up'));
      const detached = once(broker, 'detach') as Promise<[LinkInfo & { closed: boolean }]>;
      should(await state('ignored')).deepEqual({ name: 'ignored', options: ['refused'] });
      should((await detached)[0]).match({ name: 'receiver', closed: true });
    });

    it('is attached where the peer confirms them all', async () => {
      await attach({ source: { filters } }, { confirmsFilters: true });
      should(link.state).deepEqual({ name: 'connected' });
      should(broker.links()[0]!.source!['filter']).match({ taken: 'x', refused: 1 });
    });

    it('is attached where it does not matter', async () => {
      await attach({ source: { filters, unfiltered: true } });
      should(link.state).deepEqual({ name: 'ignored', options: ['taken', 'refused'] });
    });

    it('is attached once the next server takes them', async () => {
      await open({ source: { filters } });
      await state('ignored');
      broker.options.confirmsFilters = true;
      broker.dropSockets();
      await state('connected');
    });
  });

  it('tells the peer the largest message that it takes, and its properties', async () => {
    await attach({ maxMessageSize: 4096, properties: { priority: { $amqp: 'int', value: 7 } } });
    should(broker.links()).match([{ maxMessageSize: 4096, properties: { priority: 7 } }]);
  });

  it('tells the peer why it detaches', async () => {
    await attach();
    const detached = once(broker, 'detach');
    await link.detach({ error: { condition: 'app:why', description: 'because' } });
    should((await detached)[0]).match({ error: { condition: 'app:why', description: 'because' } });
  });

  it('reads from an address that the peer makes, and has none while it is not attached', async () => {
    await attach({ address: undefined, dynamic: true });
    const { address } = link;
    should(address).match(/^dynamic-/);
    should(link.state).deepEqual({ name: 'connected', address });
    await link.close();
    should([link.address, link.hasAddress]).deepEqual([undefined, true]);
  });

  it('attaches only once it has an address', async () => {
    await open({ address: undefined });
    should([link.hasAddress, link.state.name]).deepEqual([false, 'detached']);
    link.moveTo('other');
    link.open();
    await state('connected');
    should(broker.links().map(({ address }) => address)).deepEqual(['other']);
  });

  it('refuses an outcome that is larger than the frames of the peer', async () => {
    await attach({}, { maxFrameSize: 512 });
    const error = { condition: 'app:bad', info: { text: 'x'.repeat(500) } };
    should(() => link.check({ settle: 'reject', error })).throw({ code: 'AMQP_BAD_INPUT' });
    link.check({ settle: 'reject', error: { condition: 'app:bad' } });
  });

  describe('that has the peer answer each outcome', () => {
    const answered = { isAnswered: true };
    const LOST = { condition: 'com.microsoft:message-lock-lost', description: 'The lock is lost.' };

    /** Attaches, gets a message, and leaves the settling to what the peer does with the outcome. */
    async function received(answer: (delivery: Delivery) => void): Promise<IncomingDelivery> {
      const habit = (end: Sender): void => {
        for (const outcome of ['accepted', 'rejected', 'released'])
          end.on(outcome, ({ delivery }: EventContext) => answer(delivery!));
      };
      await attach(answered, { habit });
      const message = once(told, 'message') as Promise<[IncomingDelivery]>;
      broker.put('q', { body: 'x' });
      link.addCredit(1);
      return (await message)[0];
    }

    it('asks the peer for that', async () => {
      await open(answered, { habit: () => {} });
      const [info] = (await once(broker, 'attach')) as [LinkInfo];
      should(info.rcvSettleMode).equal(1);
    });

    it('has settled a message once the peer has', async () => {
      const delivery = await received((one) => one.update(true));
      await settled(delivery, { settle: 'accept' });
    });

    it('says that the peer no longer holds the message', async () => {
      const delivery = await received((one) => one.update(true, rejected(LOST)));
      await should(settled(delivery, { settle: 'accept' })).be.rejectedWith({ code: 'AMQP_LOCK_LOST', ...LOST });
    });

    it('takes its own rejection, which the peer gives back, for what it is', async () => {
      const error = { condition: 'app:bad', description: 'of no use' };
      const delivery = await received((one) => one.update(true, rejected(error)));
      await settled(delivery, { settle: 'reject', error });
    });

    it('does not know what became of an outcome when the link is lost before', async () => {
      const delivery = await received(() => {});
      const ended = settled(delivery, { settle: 'accept' });
      broker.dropSockets();
      await should(ended).be.rejectedWith({ code: 'AMQP_IN_DOUBT' });
    });

    it('does not know what became of an outcome when the peer does not answer in time', async () => {
      const delivery = await received(() => {});
      mock.timers.enable({ apis: ['setTimeout'] });
      const ended = settled(delivery, { settle: 'accept' });
      mock.timers.tick(30_000);
      await should(ended).be.rejectedWith({ code: 'AMQP_IN_DOUBT' });
    });
  });
});
