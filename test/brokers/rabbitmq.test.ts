// The nodes against a real RabbitMQ 3.10: what only a broker of someone else can show.
import should from 'should';
import endpoint from '../../nodes/amqp-endpoint';
import receiver from '../../nodes/amqp-receiver';
import requester from '../../nodes/amqp-requester';
import responder from '../../nodes/amqp-responder';
import sender from '../../nodes/amqp-sender';
import helper, { coreNode, type NodeConfig } from '../node-red';
import { needed } from './broker';
import { RabbitMQ, rabbitmq3 } from './rabbitmq';
import { Inbox } from './trial';

type Msg = Record<string, any>;
type Status = { text: string };

const QUEUES = ['message', 'accept', 'release', 'one', 'two', 'requests', 'replies', 'login', 'many', 'dead', 'buried'];

/** Arguments of a queue. */
const deadLettersTo = (key: string) => ({ 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': key });

describe('on RabbitMQ 3.10', function () {
  this.timeout(60_000);

  let broker: RabbitMQ;

  before(async function () {
    await needed(this, 'RabbitMQ 3.10', () => rabbitmq3.prepare());
    broker = await RabbitMQ.start({
      queues: [
        ...QUEUES,
        { name: 'work', arguments: deadLettersTo('dead') },
        // Under load a consumer of the test before this one may still be there for a moment.
        { name: 'task', arguments: deadLettersTo('buried') },
      ],
      users: { test: 'pässwörd€' },
    });
    await helper.startServer();
  });
  after(async () => {
    if (!broker) return;
    await helper.stopServer();
    await broker.stop();
  });
  afterEach(() => helper.unload());

  /** Loads nodes with an endpoint for this broker; whatever else they name as a wire becomes a helper node. */
  const load = async (nodes: NodeConfig[], login: object = { user: 'guest', pass: 'guest' }) => {
    const flow = nodes.map((node) => ({ z: 'flow', endpoint: 'broker', format: 'body', wires: [], ...node }));
    const wired = new Set(flow.flatMap(({ wires }) => wires as string[][]).flat());
    const inboxes = [...wired].filter((id) => !flow.some((node) => node.id === id));
    await helper.load(
      [endpoint, sender, receiver, requester, responder, coreNode('function/10-function')],
      [
        { id: 'flow', type: 'tab' },
        { id: 'broker', type: 'amqp-endpoint', host: broker.host, port: broker.port },
        ...flow,
        ...inboxes.map((id) => ({ id, type: 'helper', z: 'flow', wires: [] })),
      ],
      { broker: login },
    );
  };

  /** Resolves once these queues hold nothing: what was settled last may reach them after the connection is closed. */
  async function emptied(...queues: string[]): Promise<void> {
    for (;;) {
      const depths = await broker.depths();
      if (queues.every((queue) => depths[queue] === 0)) return;
    }
  }

  it('hands a message over as it was sent', async () => {
    await load([
      { id: 'send', type: 'amqp-sender', address: '/amq/queue/message', wires: [['sent']] },
      { id: 'receive', type: 'amqp-receiver', address: '/amq/queue/message', wires: [['in']] },
    ]);
    const [sent, received] = [inbox('sent'), inbox('in')];
    const amqp = {
      subject: 'reading',
      message_id: 'one',
      correlation_id: 'two',
      content_type: 'text/message',
      application_properties: { room: 'kitchen', floor: 2, warm: true },
    };
    send({ payload: 'grüße €', amqp });
    should((await sent.next())['sent']).match({ state: 'accepted', address: '/amq/queue/message' });
    const msg = await received.next();
    should(msg['payload']).equal('grüße €');
    should(msg['amqp']).match(amqp);
  });

  it('forgets what the flow accepts', async () => {
    await load([
      { id: 'send', type: 'amqp-sender', address: '/amq/queue/accept' },
      { id: 'receive', type: 'amqp-receiver', address: '/amq/queue/accept', settle: 'flow', wires: [['in']] },
    ]);
    const received = inbox('in');
    send({ payload: 'a' });
    const msg = await received.next();
    should(await broker.depths()).have.property('accept', 1);
    send({ ...msg, settle: 'accept' }, 'receive');
    await helper.unload();
    await emptied('accept');
  });

  it('delivers again what the flow releases, and says so', async () => {
    await load([
      { id: 'send', type: 'amqp-sender', address: '/amq/queue/release' },
      { id: 'receive', type: 'amqp-receiver', address: '/amq/queue/release', settle: 'flow', wires: [['in']] },
    ]);
    const received = inbox('in');
    send({ payload: 'again' });
    const first = await received.next();
    should(first['delivery']).match({ redelivered: false });
    send({ ...first, settle: 'release' }, 'receive');
    const second = await received.next();
    should(second).match({ payload: 'again', delivery: { redelivered: true } });
    send({ ...second, settle: 'accept' }, 'receive');
    await helper.unload();
    await emptied('release');
  });

  it('moves what the flow rejects to the dead-letter queue', async () => {
    await load([
      { id: 'send', type: 'amqp-sender', address: '/amq/queue/work' },
      { id: 'receive', type: 'amqp-receiver', address: '/amq/queue/work', settle: 'flow', wires: [['in']] },
      { id: 'bury', type: 'amqp-receiver', address: '/amq/queue/dead', wires: [['buried']] },
    ]);
    const [received, buried] = [inbox('in'), inbox('buried')];
    send({ payload: 'poison' });
    send({ ...(await received.next()), settle: 'reject' }, 'receive');
    should(await buried.next()).match({ payload: 'poison' });
    await emptied('work', 'dead');
  });

  it('settles by Complete and Catch wired back to the receiver', async () => {
    await load([
      { id: 'send', type: 'amqp-sender', address: '/amq/queue/task' },
      {
        id: 'receive',
        type: 'amqp-receiver',
        address: '/amq/queue/task',
        settle: 'flow',
        onerror: 'reject',
        wires: [['process']],
      },
      {
        id: 'process',
        type: 'function',
        func: `if (msg.payload % 2) throw new Error('odd'); return msg;`,
        outputs: 1,
      },
      { id: 'done', type: 'complete', scope: ['process'], wires: [['receive']] },
      { id: 'failed', type: 'catch', scope: ['process'], wires: [['receive']] },
      { id: 'bury', type: 'amqp-receiver', address: '/amq/queue/buried', wires: [['buried']] },
    ]);
    const buried = inbox('buried');
    for (let n = 0; n < 10; n++) send({ payload: n });
    const bodies = (await buried.take(5)).map(({ payload }) => payload as number);
    // Which of them the broker buries first is its own matter.
    should(bodies.toSorted((a, b) => a - b)).deepEqual([1, 3, 5, 7, 9]);
    await helper.unload();
    await emptied('task', 'buried');
  });

  it('sends to the address of each message, without an anonymous relay', async () => {
    await load([
      { id: 'send', type: 'amqp-sender', address: '' },
      { id: 'receive', type: 'amqp-receiver', address: '/amq/queue/one', wires: [['in']] },
      { id: 'other', type: 'amqp-receiver', address: '/amq/queue/two', wires: [['out']] },
    ]);
    const [one, two] = [inbox('in'), inbox('out')];
    send({ payload: 1, topic: '/amq/queue/one' });
    send({ payload: 2, topic: '/amq/queue/two' });
    should(await one.next()).match({ payload: 1 });
    should(await two.next()).match({ payload: 2 });
  });

  it('answers each of many requests over a fixed reply address, in whatever order', async () => {
    await load([
      {
        id: 'ask',
        type: 'amqp-requester',
        address: '/amq/queue/requests',
        replyto: 'fixed',
        replyaddress: '/amq/queue/replies',
        wires: [['accepted'], ['reply']],
      },
      { id: 'answer', type: 'amqp-responder', address: '/amq/queue/requests', wires: [['request']] },
    ]);
    const [requests, replies] = [inbox('request'), inbox('reply')];
    for (let n = 0; n < 50; n++) send({ payload: n, own: `property ${n}` }, 'ask');
    for (const msg of (await requests.take(50)).toReversed()) {
      send({ ...msg, payload: (msg['payload'] as number) ** 2 }, 'answer');
    }
    const answers = (await replies.take(50)).map(({ payload, own }) => ({ payload, own }));
    answers
      .toSorted((a, b) => Number(a.payload) - Number(b.payload))
      .should.deepEqual(Array.from({ length: 50 }, (_, n) => ({ payload: n * n, own: `property ${n}` })));
    await helper.unload();
    await emptied('requests', 'replies');
  });

  it('takes a password that is not ASCII', async () => {
    const login = { user: 'test', pass: 'pässwörd€' };
    await load([{ id: 'send', type: 'amqp-sender', address: '/amq/queue/login', wires: [['sent']] }], login);
    const sent = inbox('sent');
    send({ payload: 'a' });
    should(await sent.next()).match({ sent: { state: 'accepted' } });
  });

  it('says that the login was refused, and goes on once the account exists', async () => {
    const nodes = [
      { id: 'send', type: 'amqp-sender', address: '/amq/queue/login', wires: [['sent']] },
      { id: 'watch', type: 'status', scope: ['send'], wires: [['state']] },
    ];
    helper.settings({ amqpEndpointLoginRetryTime: 200 }); // 30 s by default
    await load(nodes, { user: 'later', pass: 'secret' });
    const [sent, state] = [inbox('sent'), inbox('state')];
    send({ payload: 'a' });
    await state.until(({ status }) => (status as Status).text.endsWith('auth'));
    await broker.addUser('later', 'secret');
    should(await sent.next()).match({ sent: { state: 'accepted' } });
  });

  it('leaves the other nodes working when an address is refused, and attaches once it is there', async () => {
    await load([
      { id: 'send', type: 'amqp-sender', address: '/amq/queue/one' },
      { id: 'receive', type: 'amqp-receiver', address: '/amq/queue/one', wires: [['in']] },
      { id: 'late', type: 'amqp-receiver', address: '/amq/queue/late', wires: [['in late']] },
      { id: 'watch', type: 'status', scope: ['late'], wires: [['state']] },
      { id: 'send late', type: 'amqp-sender', address: '/queue/late' },
    ]);
    const [received, late, state] = [inbox('in'), inbox('in late'), inbox('state')];
    await state.until(({ status }) => /refused|not-found/.test((status as Status).text));
    send({ payload: 'still here' });
    should(await received.next()).match({ payload: 'still here' });
    send({ payload: 'at last' }, 'send late'); // this address makes the queue
    should(await late.next()).match({ payload: 'at last' });
  });

  for (const [how, interrupt] of [
    ['restarted', () => broker.restart()],
    [
      'killed and started again',
      async () => {
        await broker.kill();
        await broker.start();
      },
    ],
  ] as const) {
    it(`loses nothing it was told is delivered when the broker is ${how} in the middle of a run`, async () => {
      const count = 2000;
      await load([
        { id: 'send', type: 'amqp-sender', address: '/amq/queue/many' },
        { id: 'done', type: 'complete', scope: ['send'], wires: [['delivered']] },
        { id: 'failed', type: 'catch', scope: ['send'], wires: [['lost']] },
        { id: 'receive', type: 'amqp-receiver', address: '/amq/queue/many', wires: [['in']] },
      ]);
      const [delivered, lost, received] = [inbox('delivered'), inbox('lost'), inbox('in')];
      sendNumbers(0, count / 2);
      await received.take(count / 10);
      const back = interrupt();
      sendNumbers(count / 2, count);
      await back;
      await delivered.take(count);
      await received.until(() => received.all.length >= count && distinct(received.all) === count);
      const repeated = received.all.length - count;
      process.stdout.write(`      ${count} delivered, ${repeated} of them more than once\n`);
      distinct(delivered.all).should.equal(count);
      lost.all.should.be.empty();
    });
  }
});

function send(msg: Msg, id = 'send'): void {
  helper.getNode(id).receive(msg);
}

function sendNumbers(from: number, to: number): void {
  for (let n = from; n < to; n++) send({ payload: n, amqp: { durable: true } });
}

const distinct = (messages: Msg[]) => new Set(messages.map(({ payload }) => payload as number)).size;

const inbox = (id: string) => new Inbox(id);
