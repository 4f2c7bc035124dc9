// The double of a router does what was seen of real ones, with a client that knows nothing of the nodes.
import { once } from 'node:events';
import rhea, { type Connection, type Delivery, type EventContext, type Receiver, type Sender } from 'rhea';
import should from 'should';
import { Router } from '../doubles/router';

const OUTCOMES = ['accepted', 'rejected', 'released', 'modified'];

describe('The double of a router', () => {
  let router: Router;
  let connection: Connection;

  beforeEach(async () => {
    router = await Router.start({ unavailable: ['closed'] });
    const options = {
      port: router.port,
      host: '127.0.0.1',
      tcp_no_delay: true,
      reconnect: false,
      treat_modified_as_released: false,
    };
    connection = rhea.create_container().connect(options);
    await once(connection, 'connection_open');
  });
  afterEach(async () => {
    const closed = once(connection, 'connection_close');
    connection.close();
    await closed;
    await router.stop();
  });

  async function receive(address: string, credit: number): Promise<Receiver> {
    const receiver = connection.open_receiver({ source: { address }, credit_window: 0, autoaccept: false });
    await once(receiver, 'receiver_open');
    receiver.add_credit(credit);
    return receiver;
  }

  async function open(address?: string): Promise<Sender> {
    const sender = connection.open_sender({ target: address === undefined ? {} : { address } });
    if (!sender.sendable()) await once(sender, 'sendable');
    return sender;
  }

  it('gives a sender 250 credits once there is a receiver, however much that one has, and none before', async () => {
    const sender = connection.open_sender('q');
    await once(sender, 'sender_open');
    should(creditOf(sender)).equal(0);
    const sendable = once(sender, 'sendable');
    await receive('q', 10);
    await sendable;
    should(creditOf(sender)).equal(250);
  });

  it('releases what a receiver that goes had not got, and modifies what it had not settled', async () => {
    const receiver = await receive('q', 5);
    const five = taken(receiver, 5);
    const sent = send(await open('q'), 8);
    await five;
    receiver.close();
    const deliveries = await sent.all;
    should(sent.states().toSorted()).deepEqual([...Array(5).fill('modified'), ...Array(3).fill('released')]);
    const modified = deliveries.map(({ remote_state: state }) => state as unknown as { delivery_failed?: boolean });
    modified.filter((state) => state.delivery_failed).length.should.equal(5);
  });

  it('shares out thirty among three receivers', async () => {
    const receivers = await Promise.all([1, 2, 3].map(() => receive('closest/q', 100)));
    const counts = Promise.all(receivers.map((receiver) => taken(receiver, 10)));
    const sent = send(await open('closest/q'), 30);
    for (const delivery of (await counts).flat()) delivery.accept();
    await sent.all;
    should(sent.states()).deepEqual(Array(30).fill('accepted'));
  });

  it('tells the sender why a receiver rejects', async () => {
    const receiver = await receive('q', 1);
    const one = taken(receiver, 1);
    const sent = send(await open('q'), 1);
    const [delivery] = await one;
    delivery!.reject({ condition: 'app:no-amount', description: 'an order needs an amount' });
    const [rejected] = await sent.all;
    should(sent.states()).deepEqual(['rejected']);
    should((rejected!.remote_state as unknown as { error: object }).error).match({ condition: 'app:no-amount' });
  });

  const answers: Record<string, (delivery: Delivery) => void> = {
    accept: (delivery) => delivery.accept(),
    reject: (delivery) => delivery.reject({ condition: 'app:no' }),
    release: (delivery) => delivery.release(),
    modify: (delivery) => delivery.modified({ delivery_failed: true }),
  };
  for (const [first, second, outcome] of [
    ['accept', 'accept', 'accepted'],
    ['accept', 'reject', 'rejected'],
    ['accept', 'release', 'accepted'],
    ['accept', 'modify', 'accepted'],
    ['release', 'release', 'released'],
  ] as const)
    it(`makes ${first} and ${second} of two receivers of a multicast ${outcome}`, async () => {
      const receivers = [await receive('multicast/q', 1), await receive('multicast/q', 1)];
      const both = Promise.all(receivers.map((receiver) => taken(receiver, 1)));
      const sent = send(await open('multicast/q'), 1);
      const [[one], [other]] = (await both) as [Delivery[], Delivery[]];
      answers[first]!(one!);
      // Apart, as rhea mixes up outcomes that go together (R1).
      setImmediate(() => answers[second]!(other!));
      const [delivery] = await sent.all;
      should(sent.states()).deepEqual([outcome]);
      should((delivery!.remote_state as { error?: object } | undefined)?.error).not.be.ok();
    });

  it('lets one receiver that holds stop the sender of a multicast at its credit', async () => {
    const holding = await receive('multicast/q', 1000);
    const other = await receive('multicast/q', 1000);
    other.on('message', ({ delivery }: EventContext) => delivery!.accept());
    const sender = await open('multicast/q');
    const held = taken(holding, 250);
    send(sender, 250);
    await held;
    should(sender.sendable()).equal(false);
  });

  it('releases what nobody receives, takes the credit away, and gives it again with the next receiver', async () => {
    const receiver = await receive('q', 10);
    const sender = await open('q');
    receiver.close();
    await once(receiver, 'receiver_close');
    sender.on('sender_draining', () => sender.set_drained(true));
    const drained = once(router, 'drained');
    const sent = send(sender, 1);
    await sent.all;
    should(sent.states()).deepEqual(['released']);
    await drained;
    const sendable = once(sender, 'sendable');
    await receive('q', 10);
    await sendable;
    should(creditOf(sender)).equal(250);
  });

  it('releases what an anonymous sender sends to nobody, and rejects what is for an address that is unavailable', async () => {
    const anonymous = await open();
    const nobody = send(anonymous, 1, 'q');
    await nobody.all;
    should(nobody.states()).deepEqual(['released']);
    anonymous.removeAllListeners();
    const closed = send(anonymous, 1, 'closed.q');
    const [rejected] = await closed.all;
    should((rejected!.remote_state as unknown as { error: object }).error).match({ condition: 'amqp:not-found' });

    const refused = connection.open_sender('closed/q');
    refused.on('sender_error', () => {});
    await once(refused, 'sender_close');
    should(refused.error).match({ condition: 'amqp:not-found', description: 'Node not found' });
  });
});

/** Sends so many, and gives their outcomes as they come. */
function send(sender: Sender, count: number, to?: string): { all: Promise<Delivery[]>; states(): string[] } {
  const settled: [string, Delivery][] = [];
  const all = new Promise<Delivery[]>((resolve) => {
    for (const state of OUTCOMES)
      sender.on(state, ({ delivery }: EventContext) => {
        if (settled.push([state, delivery!]) === count) resolve(settled.map(([, one]) => one));
      });
  });
  for (let i = 0; i < count; i++) sender.send({ body: i, ...(to !== undefined && { to }) });
  return { all, states: () => settled.map(([state]) => state) };
}

function taken(receiver: Receiver, count: number): Promise<Delivery[]> {
  const deliveries: Delivery[] = [];
  return new Promise((resolve) => {
    receiver.on('message', ({ delivery }: EventContext) => {
      if (deliveries.push(delivery!) === count) resolve(deliveries);
    });
  });
}

function creditOf(sender: Sender): number {
  return (sender as unknown as { credit: number }).credit;
}
