// What a receiver does before the flow and for it, with brokers of someone else: attempts, groups, several at once, filters.
import { setImmediate as turn } from 'node:timers/promises';
import should from 'should';
import { helper, type Msg, status } from '../flow';
import { type Broker, needed } from './broker';
import { numbers } from './features';
import { type Peer, peerNamed } from './peers';
import { savedEndpoint } from './saved';
import { Trial } from './trial';

/** How brokers differ in what is tried here. */
interface Differences {
  /** A rejected message is delivered again, until it has failed often enough for the broker. */
  counts?: true;
  /** It does not apply selectors; it cannot leave out what came by the same connection. */
  lacks?: ('selector' | 'no-local')[];
  /** It keeps what is larger than the receiver takes, and ends the session over it each time. */
  keepsLarge?: true;
  /** It knows of priorities of receivers. */
  ranks?: true;
  /** What of `TERMINI` it does not do, and tells. */
  ignores?: (keyof typeof TERMINI)[];
}

const TERMINI = {
  capabilities: { capabilities: 'x-one x-two' },
  kept: { durability: 'configuration', expiry: 'never', expirytime: 60 },
  'kept with its session': { durability: 'unsettled-state', expiry: 'session-end' },
  move: { distribution: 'move' },
  copy: { distribution: 'copy' },
  'a link name': { linkname: 'my-link' },
  'a priority': { consumerpriority: 3 },
};

const PEERS: Record<string, Differences> = {
  'RabbitMQ 3.10': { lacks: ['selector', 'no-local'], ignores: ['kept', 'kept with its session', 'copy'] },
  'RabbitMQ 4.0': { lacks: ['selector', 'no-local'], keepsLarge: true, ranks: true, ignores: ['copy'] },
  'RabbitMQ 4.3': { lacks: ['selector', 'no-local'], keepsLarge: true, ranks: true, ignores: ['copy'] },
  'ActiveMQ Artemis': { lacks: ['no-local'], ranks: true },
  'ActiveMQ Classic': { ignores: ['kept with its session'] },
  'Qpid Broker-J': { counts: true, ignores: ['kept with its session'] },
};
const BY_FLOW = { settle: 'flow' };
const QUEUES = [
  'failed',
  'together',
  'collected',
  'groups',
  'retried',
  'selected',
  'local',
  'size',
  'terminus',
  'priority',
];
const payloads = (messages: Msg[]) => messages.map(({ payload }) => payload);
const attemptOf = ({ delivery }: Msg) => (delivery as { attempt?: number } | undefined)?.attempt;

for (const [name, { counts, lacks = [], keepsLarge, ranks, ignores = [] }] of Object.entries(PEERS)) {
  const peer: Peer = peerNamed(name);

  describe(`a receiver on ${name}`, function () {
    this.timeout(60_000);

    let broker: Broker;
    let trial: Trial;

    before(async function () {
      this.timeout(300_000); // the first time, it is fetched
      await needed(this, name, () => peer.kind.prepare());
      broker = await peer.kind.start({
        queues: [
          { name: 'failing', deadLetters: 'failed' },
          { name: 'given' },
          ...QUEUES.map((queue) => ({ name: queue })),
        ],
        topics: [],
      });
      await helper.startServer();
    });
    after(async () => {
      if (!broker) return;
      await helper.stopServer();
      await broker.stop();
    });
    beforeEach(() => {
      trial = new Trial(peer, broker);
    });
    afterEach(() => trial?.end());

    /** As a Catch node does it. */
    const fail = (msg: Msg): void => trial.send({ ...msg, error: { message: 'no good' } }, 'receiver');
    const accept = (msg: Msg): void => trial.send({ ...msg, settle: 'accept' }, 'receiver');

    for (const onerror of counts ? [] : ['release', 'modify']) {
      it(`gives up a message that always fails, to the dead letters, once (${onerror})`, async () => {
        const source = { ...peer.queue('failing'), ...BY_FLOW, onerror, maxattempts: 3, exhausted: 'reject' };
        await trial.load([
          trial.sender(peer.queue('failing')),
          trial.receiver(source),
          trial.receiver({ id: 'dead', ...peer.queue('failed'), wires: [['dead letters']] }),
        ]);
        const [received, dead, caught] = [trial.inbox(), trial.inbox('dead letters'), trial.inbox('caught')];
        await trial.deliver({ payload: 'poison' });
        for (const attempt of [1, 2, 3]) {
          const msg = await received.next();
          should([msg.payload, attemptOf(msg)]).eql(['poison', attempt]);
          fail(msg);
        }
        should(await caught.next()).match({
          payload: 'poison',
          error: { code: 'AMQP_ATTEMPTS', message: /3 attempts/ },
        });
        should((await dead.next()).payload).equal('poison');
        await trial.deliver({ payload: 'good' });
        const next = await received.next();
        should([next.payload, attemptOf(next)]).eql(['good', 1]);
        accept(next);
        await trial.depth('failing', 0);
        should(dead.all).have.length(1);
      });
    }

    it('gives what always fails to its second output, for the flow to say', async () => {
      const source = { ...peer.queue('given'), ...BY_FLOW, onerror: 'release', maxattempts: 2, exhausted: 'output' };
      await trial.load([
        trial.sender(peer.queue('given')),
        trial.receiver({ ...source, wires: [['out'], ['given up']] }),
      ]);
      const [received, givenUp] = [trial.inbox(), trial.inbox('given up')];
      await trial.deliver({ payload: 'poison' }, { payload: 'good' });
      for (let failures = 0; failures < 2;) {
        const msg = await received.next();
        if (msg.payload === 'good') accept(msg);
        else fail(msg);
        if (msg.payload === 'poison') failures++;
      }
      const msg = await givenUp.next();
      should([msg.payload, attemptOf(msg)]).eql(['poison', 3]);
      accept(msg);
      await trial.depth('given', 0);
      should(received.all).have.length(3);
    });

    it('gives several messages as one under load, each once, and they are settled with it', async () => {
      const count = 1000;
      const source = { ...peer.queue('together'), ...BY_FLOW, together: 25, togethertime: 0.05, creditwindow: 200 };
      await trial.load([trial.sender(peer.queue('together')), trial.receiver(source)]);
      const sizes: number[] = [];
      const seen: unknown[] = [];
      helper.getNode('out').on('input', (msg) => {
        const all = (msg as Msg).payload as Msg[];
        sizes.push(all.length);
        seen.push(...payloads(all));
        should((msg as Msg).delivery).match({ count: all.length });
        accept({ ...(msg as Msg), payload: 'settled' });
      });
      await trial.deliver(...numbers(count).map((payload) => ({ payload })));
      while (seen.length < count) await turn();
      await trial.depth('together', 0);
      should((seen as number[]).toSorted((a, b) => a - b)).eql(numbers(count));
      should(Math.max(...sizes)).equal(25);
    });

    it('gives what there is after a time, and settles some of it one by one', async () => {
      const source = { ...peer.queue('collected'), ...BY_FLOW, together: 10, togethertime: 0.3 };
      await trial.load([trial.sender(peer.queue('collected')), trial.receiver({ ...source, onerror: 'release' })]);
      const received = trial.inbox();
      await trial.deliver(...numbers(4).map((payload) => ({ payload })));
      const msg = await received.next();
      const all = msg.payload as Msg[];
      should(payloads(all)).eql(numbers(4));
      accept(all[1]!);
      // The rest together.
      fail({ ...msg, payload: 'failed' });
      const again = (await received.next()).payload as Msg[];
      should(
        payloads(again)
          .map(Number)
          .toSorted((a, b) => a - b),
      ).eql([0, 2, 3]);
      for (const one of again) accept(one);
      await trial.depth('collected', 0);
    });

    it('gives the messages of a group in sequence, and groups side by side', async () => {
      const groups = ['a', 'b', 'c', 'd'];
      const source = { ...peer.queue('groups'), ...BY_FLOW, order: 'group', creditwindow: 40 };
      await trial.load([trial.sender(peer.queue('groups')), trial.receiver(source)]);
      const done: Record<string, number[]> = Object.fromEntries(groups.map((group) => [group, []]));
      const open = new Set<string>();
      let most = 0;
      helper.getNode('out').on('input', (msg) => {
        const { payload, amqp } = msg as Msg;
        const group = String(amqp!['group_id']);
        should(open.has(group)).be.false();
        open.add(group);
        most = Math.max(most, open.size);
        // As a flow that takes a while, one group longer than the other.
        setTimeout(
          () => {
            open.delete(group);
            done[group]!.push(payload as number);
            accept(msg);
          },
          1 + 2 * groups.indexOf(group),
        );
      });
      await trial.deliver(
        ...numbers(80).map((payload) => ({ payload, amqp: { group_id: groups[payload % groups.length] } })),
      );
      while (Object.values(done).flat().length < 80) await turn();
      await trial.depth('groups', 0);
      groups.forEach((group, i) => should(done[group]).eql(numbers(20).map((n) => 4 * n + i)));
      should(most).be.above(1);
    });

    for (const onerror of ['release', 'modify']) {
      it(`keeps the order of groups in which some fail (${onerror})`, async () => {
        const groups = ['a', 'b', 'c'];
        const source = { ...peer.queue('retried'), ...BY_FLOW, order: 'group', onerror, creditwindow: 10 };
        await trial.load([trial.sender(peer.queue('retried')), trial.receiver(source)]);
        const accepted: number[] = [];
        const failed: number[] = [];
        helper.getNode('out').on('input', (given) => {
          const msg = given as Msg;
          const n = Number(msg.payload);
          const isFailing = [4, 5, 15].includes(n) && failed.filter((one) => one === n).length < 2;
          if (isFailing) failed.push(n);
          else accepted.push(n);
          setImmediate(() => (isFailing ? fail(msg) : accept(msg)));
        });
        await trial.deliver(
          ...numbers(30).map((payload) => ({ payload, amqp: { group_id: groups[payload % groups.length] } })),
        );
        while (accepted.length < 30) await turn();
        await trial.depth('retried', 0);
        for (const i of groups.keys())
          should(accepted.filter((n) => n % groups.length === i)).eql(numbers(10).map((n) => 3 * n + i));
        should(failed).have.length(6);
      });
    }

    const isSelecting = !lacks.includes('selector');
    it(`gets ${isSelecting ? 'only' : 'nothing of'} what a selector is for`, async () => {
      const address = peer.queue('selected');
      const source = { ...address, selector: "colour = 'red'" };
      await trial.load([trial.sender(address), trial.receiver(source)]);
      should(await trial.settled('receiver')).equal(isSelecting ? 'connected' : 'ignored');
      const received = trial.inbox();
      const red = { payload: 'red', amqp: { application_properties: { colour: 'red' } } };
      await trial.deliver({ payload: 'blue' }, red);
      if (isSelecting) should((await received.next()).payload).equal('red');
      await trial.depth('selected', isSelecting ? 1 : 2);
      await trial.unload();
      should(received.all).have.length(isSelecting ? 1 : 0);
      // By choice all of it.
      await trial.load([trial.receiver({ ...source, unfiltered: true, ...(isSelecting && { selector: '' }) })]);
      should(payloads(await trial.inbox().take(isSelecting ? 1 : 2))[0]).equal('blue');
    });

    const isNoLocal = !lacks.includes('no-local');
    it(`gets ${isNoLocal ? 'only what others send' : 'nothing'} where it is to get nothing of its own connection`, async () => {
      const address = peer.queue('local');
      await trial.load(
        [
          savedEndpoint(broker.port, { id: 'other' }),
          trial.receiver({ ...address, filters: [{ filter: 'no-local' }] }),
          trial.sender(address),
          trial.sender({ id: 'far', endpoint: 'other', ...address, wires: [['far outcome']] }),
        ],
        { credentials: { other: peer.login } },
      );
      if (!isNoLocal) await status('receiver', ': no-local');
      should(await trial.settled('receiver')).equal(isNoLocal ? 'connected' : 'ignored');
      const [received, outcome] = [trial.inbox(), trial.inbox('far outcome')];
      await trial.deliver({ payload: 'local' });
      trial.send({ payload: 'far' }, 'far');
      await outcome.next();
      if (isNoLocal) await received.next();
      await trial.depth('local', isNoLocal ? 1 : 2);
      should(payloads(received.all)).eql(isNoLocal ? ['far'] : []);
    });

    it(`${keepsLarge ? 'is refused over' : 'rejects'} a message larger than it takes`, async () => {
      const address = peer.queue('size');
      await trial.load([trial.sender(address), trial.receiver({ ...address, maxmessagesize: 10 })]);
      const [received, caught] = [trial.inbox(), trial.inbox('caught')];
      await trial.deliver({ payload: Buffer.alloc(50_000) });
      if (keepsLarge) {
        should(await trial.warned('receiver', /refused/)).match(/amqp:link:message-size-exceeded: .*10240 bytes/);
        return;
      }
      should((await caught.next()).error).match({ code: 'AMQP_TOO_LARGE', message: /10240 bytes/ });
      await trial.deliver({ payload: 'small' });
      should((await received.next()).payload).equal('small');
    });

    if (ranks) {
      it('gets all that there is when it is the one with the highest priority', async () => {
        const address = peer.queue('priority');
        await trial.load([
          trial.receiver({ ...address, consumerpriority: 1, creditwindow: 10 }),
          trial.receiver({ id: 'high', ...address, consumerpriority: 5, creditwindow: 10, wires: [['high']] }),
          trial.receiver({ id: 'low', ...address, consumerpriority: -1, creditwindow: 10 }),
          trial.sender(address),
        ]);
        await Promise.all(['receiver', 'high', 'low'].map((id) => trial.settled(id)));
        const [received, high] = [trial.inbox(), trial.inbox('high')];
        // It is attached, but its credit may not have arrived.
        while (high.all.length === 0) await trial.deliver({ payload: 'early' });
        for (const n of numbers(20)) await trial.deliver({ payload: n });
        await high.until(({ payload }) => payload === 19);
        should(payloads(high.all).filter((payload) => payload !== 'early')).eql(numbers(20));
        should(payloads(received.all).filter((payload) => payload !== 'early')).be.empty();
      });
    }

    for (const [what, more] of Object.entries(TERMINI)) {
      const isIgnored = (ignores as string[]).includes(what);
      it(`asks for ${what}, and ${isIgnored ? 'says that it does not have it' : 'has it'}`, async () => {
        const address = peer.queue('terminus');
        await trial.load([trial.sender(address), trial.receiver({ ...address, ...more })]);
        should(await trial.settled('receiver')).equal(isIgnored ? 'ignored' : 'connected');
        const received = trial.inbox();
        await trial.deliver({ payload: 1 });
        if (what !== 'copy') await received.next();
      });
    }
  });
}
