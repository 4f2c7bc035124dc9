import { EventEmitter, once } from 'node:events';
import should from 'should';
import { Connection } from '../../../../nodes/lib/connection/connection';
import type { Received, ReceiverOptions } from '../../../../nodes/lib/receiver/receiver';
import { Subscriptions } from '../../../../nodes/lib/receiver/subscriptions';
import type { State } from '../../../../nodes/lib/state';
import { Broker } from '../../../../broker/broker';

describe('subscriptions', () => {
  let broker: Broker;
  let connection: Connection;
  let subscriptions: Subscriptions;
  let got: Received[];
  let events: EventEmitter;

  beforeEach(async () => {
    broker = await Broker.start();
    const backoff = { initial: 10, max: 10 };
    connection = new Connection({
      servers: [{ host: '127.0.0.1', port: broker.port }],
      containerId: 'test',
      connectTimeout: 5000,
      idleTimeout: 0,
      backoff,
      loginBackoff: backoff,
    });
    got = [];
    events = new EventEmitter();
  });
  afterEach(async () => {
    await subscriptions.close();
    await connection.close();
    await broker.stop();
  });

  function make(options: Partial<ReceiverOptions> = {}): void {
    subscriptions = new Subscriptions(
      connection,
      {
        name: 'node',
        settle: 'flow',
        creditWindow: 10,
        windowBytes: 2 ** 26,
        settleTimeout: 0,
        styles: { fields: 'exact', body: 'plain' },
        ...options,
      },
      {
        message: (incoming, delivery) => {
          got.push({ incoming, delivery });
          events.emit('message');
        },
        undelivered: () => ({ settle: 'modify' }),
        undecodable: () => {},
      },
    );
    subscriptions.open();
    connection.open();
  }

  async function state(name: State['name']): Promise<void> {
    while (subscriptions.state.name !== name) await once(subscriptions, 'state');
  }

  async function to(...addresses: string[]): Promise<void> {
    for (const address of addresses) subscriptions.receiveFrom(address, {});
    connection.open();
    await state('connected');
  }

  async function count(many: number): Promise<void> {
    while (got.length < many) await once(events, 'message');
  }

  const addresses = () =>
    broker
      .links()
      .map(({ address }) => address)
      .toSorted((one, other) => one.localeCompare(other));
  const idOf = (body: unknown) => got.find(({ incoming }) => incoming.body!.content === body)!.delivery.id!;

  it('are none at first, which is a state of its own', async () => {
    make();
    should(subscriptions.state).eql({ name: 'unsubscribed' });
    should(subscriptions.list()).be.empty();
    await to('a');
    await subscriptions.end('a');
    should(subscriptions.state).eql({ name: 'unsubscribed' });
  });

  it('receive from each address by a link of its own, of the same name after each restart', async () => {
    make();
    await to('a', 'b');
    should(broker.links().map(({ name }) => name)).eql(['node:a', 'node:b']);
    for (const address of ['a', 'b']) broker.put(address, { body: `of ${address}` });
    await count(2);
    should(new Set(got.map(({ delivery: { address } }) => address))).eql(new Set(['a', 'b']));
    subscriptions.settle(idOf('of b'), { settle: 'accept' });
    while (broker.depth('b') > 0) await once(broker, 'settled');
    should(broker.depth('a')).equal(1);
  });

  it('are told apart where one name begins with another', async () => {
    make();
    await to('a', 'a.0');
    broker.put('a', { body: 'short' });
    broker.put('a.0', { body: 'long' });
    await count(2);
    const [short, long] = [idOf('short'), idOf('long')];
    for (const id of [long, short]) subscriptions.settle(id, { settle: 'accept' });
    for (const id of [long, short])
      should(() => subscriptions.settle(id, { settle: 'accept' })).throw({ code: 'AMQP_DELIVERY_SETTLED' });
  });

  it('have the options of the node, but for those that come with the address', async () => {
    make({ source: { selector: 'a = 1', unfiltered: true }, settle: 'arrival' });
    subscriptions.receiveFrom('own', {});
    subscriptions.receiveFrom('other', { selector: 'b = 2', creditWindow: 3, settle: 'pre-settled' });
    while (broker.links().length < 2) await once(broker, 'attach');
    await state('ignored');
    should(subscriptions.list()).eql([
      { address: 'own', selector: 'a = 1', window: 10, settle: 'arrival', state: 'ignored', unsettled: 0 },
      { address: 'other', selector: 'b = 2', window: 3, settle: 'pre-settled', state: 'ignored', unsettled: 0 },
    ]);
    should(broker.links()).match([{ sndSettleMode: 0 }, { sndSettleMode: 1 }]);
  });

  it('are one for each address: a second one is refused, also while it is attaching', async () => {
    make();
    subscriptions.receiveFrom('a', {});
    const twice = { code: 'AMQP_BAD_INPUT', message: /subscribed to a already/ };
    should(() => subscriptions.receiveFrom('a', { selector: 'x' })).throw(twice);
    await state('connected');
    should(() => subscriptions.receiveFrom('a', {})).throw(twice);
    should(addresses()).eql(['a']);
  });

  it('end one by one, with what the flow has not settled released', async () => {
    make();
    await to('a', 'b');
    broker.put('a', { body: 1 });
    await count(1);
    should(subscriptions.list()).match([{ address: 'a', unsettled: 1 }, { unsettled: 0 }]);
    const id = idOf(1);
    await subscriptions.end('a');
    should([addresses(), broker.ready('a')]).eql([['b'], 1]);
    should(() => subscriptions.settle(id, { settle: 'accept' })).throw({ code: 'AMQP_DELIVERY_LOST' });
    should(subscriptions.list().map(({ address }) => address)).eql(['b']);
    await should(subscriptions.end('a')).be.rejectedWith({ code: 'AMQP_BAD_INPUT', message: /not subscribed to a/ });
    await to('a');
    await count(2);
  });

  it('end once, also when they are told so by two at a time', async () => {
    make();
    await to('a');
    await Promise.all([subscriptions.end('a'), subscriptions.end('a')]);
    should([subscriptions.list(), addresses()]).eql([[], []]);
  });

  it('end all together', async () => {
    make();
    await to('a', 'b');
    await subscriptions.unsubscribe();
    should([subscriptions.state.name, addresses()]).eql(['unsubscribed', []]);
  });

  it('outlive the connection, and are shown as long as it is away', async () => {
    make();
    await to('a', 'b');
    await broker.stop();
    await state('disconnected');
    await broker.resume();
    await state('connected');
    should(addresses()).eql(['a', 'b']);
  });

  it('begin anew when they are named again after they were detached', async () => {
    make();
    await to('a', 'b');
    broker.put('a', { body: 1 });
    await count(1);
    await subscriptions.detach({ condition: 'app:why' });
    should([addresses(), subscriptions.list()]).match([[], [{ state: 'detached' }, { state: 'detached' }]]);
    subscriptions.receiveFrom('a', { creditWindow: 1 });
    connection.open();
    await count(2);
    should(addresses()).eql(['a']);
    should(subscriptions.list().find(({ address }) => address === 'a')).match({ window: 1, state: 'connected' });
    should(() => subscriptions.settle(got[0]!.delivery.id!, { settle: 'accept' })).throw({
      code: 'AMQP_DELIVERY_LOST',
    });
  });

  it('that are added during a pause are paused', async () => {
    make();
    subscriptions.pause();
    subscriptions.receiveFrom('a', {});
    broker.put('a', { body: 1 });
    await state('paused');
    should(broker.ready('a')).equal(1);
    subscriptions.resume();
    await count(1);
  });

  it('refuse tokens that are none of theirs', async () => {
    make();
    should(() => subscriptions.settle('node:a.0.0.1', { settle: 'accept' })).throw({ code: 'AMQP_DELIVERY_LOST' });
    await to('a');
    should(() => subscriptions.settle('foreign', { settle: 'accept' })).throw({ code: 'AMQP_DELIVERY_UNKNOWN' });
  });
});
