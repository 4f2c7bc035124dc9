// Faults of Node-RED itself: redeploys under load, and processes that are told to end or are killed.
import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import should from 'should';
import { endpointNode, helper, nodes } from '../flow';
import { coreNode, type NodeConfig, nodeRedDir } from '../node-red';
import { Broker } from '../../broker/broker';
import { Ledger, table } from './ledger';
import { answering, asking, consumer, NodeRedProcess, onArrival, sender } from './node-red-process';
import { type Feed, LAST, observe, type Report } from './reports';

/** Some thousand messages a second, without an end. */
const LOAD: Feed = { to: 'sender', from: 0, ahead: 40, pause: 10 };
/** The nodes have this long to send what they hold when they are closed. */
const SETTINGS = { amqpEndpointReconnectTime: 20, amqpEndpointCloseTime: 1000 };

describe('Node-RED that goes, with messages on their way', function () {
  this.timeout(60_000);

  let broker: Broker;
  let ledger: Ledger;
  /** Numbers of what flows have accepted. */
  let accepted: Set<number>;
  /** Numbers of what the flow in this process was done with. */
  let worked: Set<number>;
  let processes: NodeRedProcess[];

  before(() => NodeRedProcess.build());
  beforeEach(async () => {
    broker = await Broker.start({ maxDeliveries: Infinity });
    ledger = new Ledger();
    accepted = new Set();
    worked = new Set();
    processes = [];
    broker.on('settled', ({ id, state }) => state === 'accepted' && accepted.add(Number(id)));
  });
  afterEach(async () => {
    await Promise.all(processes.map((one) => one.remove()));
    await broker.stop();
  });
  after(() => process.stdout.write(`\n${table()}\n\n`));

  const nodeRed = (): NodeRedProcess => {
    const one = new NodeRedProcess(ledger);
    processes.push(one);
    return one;
  };
  const flow = (...configs: NodeConfig[]): NodeConfig[] => [
    { id: 'flow', type: 'tab', label: 'flow' },
    endpointNode(broker.port),
    ...configs,
  ];

  /** Waits until the broker has nothing left: all that it had was accepted, and a flow was done with it. */
  const emptied = async (): Promise<void> => {
    while (broker.depth('q') > 0) await once(broker, 'settled');
    await turn();
    const flows = [worked, ...processes.map((one) => one.worked)];
    [...ledger.done].filter((n) => !accepted.has(n) || !flows.some((set) => set.has(n))).should.be.empty();
    broker.depth('DLQ').should.equal(0);
  };

  /** Waits for the end of a run of so many. */
  const all = async (count: number): Promise<void> => {
    await ledger.until(({ sent }) => sent === count);
    await ledger.settle();
    await emptied();
  };

  /** Kills, and resolves with what its flow had got, and the broker has back. */
  const kill = async (one: NodeRedProcess): Promise<number[]> => {
    const back = new Promise<number[]>((resolve) => {
      broker.on('detach', ({ role }) => role === 'receiver' && resolve([...one.got].filter((n) => !accepted.has(n))));
    });
    should(await one.end('SIGKILL')).deepEqual([null, 'SIGKILL']);
    one.forgetTaken();
    return await back;
  };

  const take = (...[what, n, code]: Report): void => {
    if (what === 'sent') ledger.next().should.equal(n);
    else if (what === 'done' || what === 'failed') ledger.end(n, code);
    else if (what === 'got') ledger.arrive(n);
    else if (what === 'worked') worked.add(n);
  };
  const bothEnds = (round: number): NodeConfig[] =>
    flow(sender({ name: `${round}` }), ...consumer({ name: `${round}` }));
  const oneEnd = (round: number): NodeConfig[] => {
    const [requester, responder] = [`${round >> 1}`, `${(round + 1) >> 1}`];
    return flow(...asking({ name: requester }), ...answering({ name: responder }));
  };

  describe('by a redeploy', () => {
    let stop: () => void;

    before(() => helper.startServer());
    after(() => helper.stopServer());
    afterEach(async () => {
      stop();
      await helper.unload();
    });

    /** Runs so many messages, and deploys so often meanwhile. */
    const run = async (
      { type, deploys, ...feed }: Partial<Feed> & { count: number; type: 'full' | 'flows' | 'nodes'; deploys: number },
      configs: (round: number) => NodeConfig[],
    ): Promise<void> => {
      helper.settings(SETTINGS);
      stop = observe(nodeRedDir, take, { ...LOAD, ...feed });
      await helper.load([...nodes, coreNode('function/10-function')], configs(0));
      for (let round = 1; round <= deploys; round++) {
        const enough = ledger.sent + feed.count / (deploys + 2);
        await ledger.until(({ sent }) => sent >= enough);
        await helper.setFlows(configs(round), type);
      }
      await ledger.until(({ sent }) => sent === feed.count);
      await ledger.settle();
    };
    for (const type of ['full', 'flows', 'nodes'] as const) {
      it(`of ${type} ends each message once, and delivers again what the flow held`, async () => {
        const deploys = 6;
        await run({ count: 4000, type, deploys }, bothEnds);
        await emptied();
        // What was there before had the time to be sent.
        ledger.check(`redeploy of ${type}: sender and receiver, ${deploys} times`).failed.should.equal(deploys * LAST);
        new Set(ledger.failed.values()).should.deepEqual(new Set(['AMQP_SHUTDOWN']));
      });
    }

    for (const type of ['full', 'flows'] as const) {
      it(`of ${type} loses nothing that was accepted on arrival`, async () => {
        const deploys = 10;
        await run({ count: 4000, type, deploys }, (round) =>
          flow(sender({ name: `${round}` }), ...onArrival({ name: `${round}` })),
        );
        await emptied();
        ledger.check(`redeploy of ${type}: accepted on arrival, ${deploys} times`);
      });
    }

    for (const type of ['flows', 'nodes'] as const) {
      it(`of ${type} answers all requests that were under way, whichever end is redeployed`, async () => {
        const [deploys, ofRequester] = [6, 3];
        await run({ to: 'requester', count: 3000, type, deploys }, oneEnd);
        await emptied();
        const { failed } = ledger.check(`redeploy of ${type}: requester or responder, ${deploys} times`);
        failed.should.equal(ofRequester * LAST);
        new Set(ledger.failed.values()).should.deepEqual(new Set(['AMQP_SHUTDOWN']));
      });
    }

    it('of all ends each request once, with its reply or an error', async () => {
      const deploys = 2;
      // Requests of a requester that is gone stay with the responder: nobody takes their replies.
      const creditwindow = 100 + deploys * LOAD.ahead;
      await run({ to: 'requester', count: 2000, type: 'full', deploys }, () =>
        flow(...asking(), ...answering({ creditwindow })),
      );
      ledger.check(`redeploy of full: requester and responder, ${deploys} times`);
      new Set(ledger.failed.values()).should.deepEqual(new Set(['AMQP_SHUTDOWN']));
    });
  });

  describe('by a signal', () => {
    it('SIGKILL under load loses only what nobody was told of, and what its flow held is delivered again', async () => {
      const killed = nodeRed();
      await killed.start(flow(sender(), ...consumer()), { feed: LOAD, settings: SETTINGS });
      await ledger.until(({ done }) => done.size >= 2000);
      await killed.until(() => killed.held.size >= 10);
      const held = await kill(killed);
      held.should.not.be.empty();

      const next = nodeRed();
      await next.start(flow(...consumer()));
      await ledger.settle();
      await emptied();
      held.filter((n) => !next.got.has(n)).should.be.empty();
      ledger.check('SIGKILL of Node-RED under load').duplicated.should.equal(held.length);
    });

    it('SIGTERM under load ends each message, releases what its flow held, and ends the process', async () => {
      const ended = nodeRed();
      await ended.start(flow(sender(), ...consumer()), { feed: LOAD, settings: SETTINGS });
      await ledger.until(({ done }) => done.size >= 2000);
      await ended.until(() => ended.held.size >= 10);
      const released = new Set<number>();
      broker.on('settled', ({ id, state }) => state === 'released' && released.add(Number(id)));
      should(await ended.end('SIGTERM')).deepEqual([0, null]);
      [...ended.taken].should.be.empty();
      released.size.should.be.above(0);

      const next = nodeRed();
      await next.start(flow(...consumer()));
      await ledger.settle();
      await emptied();
      [...released].filter((n) => !next.got.has(n)).should.be.empty();
      ledger.check('SIGTERM of Node-RED under load').failed.should.equal(LAST);
      new Set(ledger.failed.values()).should.deepEqual(new Set(['AMQP_SHUTDOWN']));
    });

    it('SIGTERM while the broker is away fails what waits, in time for the process to end by itself', async () => {
      const ended = nodeRed();
      await ended.start(flow(sender(), ...consumer()), { feed: LOAD, settings: SETTINGS });
      await ledger.until(({ done }) => done.size >= 2000);
      await broker.stop();
      await ended.until(() => ended.taken.size === LOAD.ahead);
      should(await ended.end('SIGTERM')).deepEqual([0, null]);
      ended.log.should.not.containEql('Close timed out');
      [...ended.taken].should.be.empty();

      await broker.resume();
      const next = nodeRed();
      await next.start(flow(...consumer()));
      await ledger.settle();
      await emptied();
      ledger.check('SIGTERM of Node-RED, broker away').failed.should.equal(LOAD.ahead + LAST);
      new Set(ledger.failed.values()).should.deepEqual(new Set(['AMQP_SHUTDOWN']));
    });

    it('SIGKILL of one of two that take from a queue gives the other what that one held', async () => {
      const [killed, other] = [nodeRed(), nodeRed()];
      await killed.start(flow(...consumer()));
      await other.start(flow(sender(), ...consumer()), { feed: { ...LOAD, count: 6000 } });
      await ledger.until(({ done }) => done.size >= 2000);
      await Promise.all([killed, other].map((one) => one.until(() => one.held.size >= 10)));
      const held = await kill(killed);
      held.should.not.be.empty();
      await all(6000);
      held.filter((n) => !other.got.has(n)).should.be.empty();
      const { done, duplicated } = ledger.check('SIGKILL of one of two consumers');
      done.should.equal(6000);
      duplicated.should.equal(held.length);
    });
  });

  describe('with a buffer on disk', () => {
    /** Numbers as they reach the broker, each for the first time. */
    let arrived: number[];

    beforeEach(() => {
      arrived = [];
      broker.on('message', (_address, { body }) => {
        if (!ledger.delivered.has(body.n)) arrived.push(body.n);
        ledger.arrive(body.n);
      });
    });

    it('a SIGKILL while the broker is away loses nothing: the next start sends all of it, in order', async () => {
      const count = 1000;
      await broker.stop();
      const killed = nodeRed();
      await killed.start(flow(sender({ store: 'write' })), { feed: { ...LOAD, count } });
      await ledger.until(({ done }) => done.size === count);
      await killed.end('SIGKILL');
      ledger.delivered.size.should.equal(0);

      await killed.start(flow(sender({ store: 'write' })), { settings: SETTINGS });
      await broker.resume();
      await ledger.settle();
      arrived.should.deepEqual(Array.from({ length: count }, (_, n) => n));
      ledger.check('SIGKILL, broker away, buffer on disk').done.should.equal(count);
    });

    it('SIGKILLs at any moment lose nothing that was reported done', async function () {
      this.timeout(180_000); // six starts of Node-RED
      const killed = nodeRed();
      const points: number[] = [];
      for (let round = 0; round < 5; round++) {
        await killed.start(flow(sender({ store: 'write' })), { feed: { ...LOAD, from: ledger.sent } });
        const point = ledger.sent + 1 + Math.floor(Math.random() * 1500);
        points.push(point);
        await ledger.until(({ sent }) => sent >= point);
        await killed.end('SIGKILL');
        killed.forgetTaken();
      }
      await killed.start(flow(sender({ store: 'write' })));
      await ledger.settle();
      ledger.check(`5 SIGKILLs in a stream, buffer on disk`);
      arrived.should.deepEqual(
        arrived.toSorted((a, b) => a - b),
        `killed at ${points.join(', ')}`,
      );
    });
  });
});
