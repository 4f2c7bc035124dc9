// RabbitMQ 3.10 that is killed again and again, and Node-RED that is: what was told to be delivered is.
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { endpointNode, helper, nodes } from '../flow';
import { coreNode, type NodeConfig, nodeRedDir } from '../node-red';
import { Ledger, table } from '../faults/ledger';
import { consumer, NodeRedProcess, sender } from '../faults/node-red-process';
import { observe, type Report } from '../faults/reports';
import { needed } from './broker';
import { RabbitMQ, rabbitmq3 } from './rabbitmq';

/** A connection that was open for 5 s, and is lost, is dialled again without delay; else pauses go on growing. */
const WORKING = 5100;

describe('on a RabbitMQ 3.10 under faults', function () {
  // A broker that was killed takes 10 s to start where two cores are shared with another suite.
  this.timeout(900_000);

  const settings = { amqpEndpointReconnectTime: 20 };
  let broker: RabbitMQ;
  let ledger: Ledger;

  before(async function () {
    await needed(this, 'RabbitMQ 3.10', () => rabbitmq3.prepare());
    await NodeRedProcess.build();
    broker = await RabbitMQ.start({ queues: ['killed', 'kept'] });
  });
  beforeEach(() => {
    ledger = new Ledger();
  });
  after(async () => {
    if (!broker) return;
    await broker.stop();
    process.stdout.write(`\n${table()}\n\n`);
  });

  const flow = (...configs: NodeConfig[]): NodeConfig[] => [
    { id: 'flow', type: 'tab', label: 'flow' },
    endpointNode(broker.port),
    ...configs,
  ];

  it('20 kills of the broker lose nothing that was reported done', async () => {
    const [count, kills] = [20_000, 20];
    const waits: number[] = [];
    let got: (() => void) | undefined;
    const take = (...[what, n, code]: Report): void => {
      if (what === 'sent') ledger.next();
      else if (what === 'done' || what === 'failed') ledger.end(n, code);
      else if (what === 'got') {
        ledger.arrive(n);
        got?.();
      }
    };
    // No faster than so many in that time: there have to be some left when the broker is back for the last time.
    const stop = observe(nodeRedDir, take, { to: 'sender', from: 0, count, ahead: 30, pause: 165 });
    try {
      helper.settings(settings);
      await helper.startServer();
      const address = '/amq/queue/killed';
      await helper.load(
        [...nodes, coreNode('function/10-function')],
        flow(sender({ address }), ...consumer({ address }, 250)),
      );
      for (let round = 1; round <= kills; round++) {
        const enough = ledger.until(({ sent }) => sent >= (round * count) / (kills + 1));
        await Promise.all([enough, delay(WORKING)]);
        await broker.kill();
        const starting = broker.start();
        await accepting(broker.port);
        const since = performance.now();
        await new Promise<void>((resolve) => (got = resolve));
        waits.push(performance.now() - since);
        await starting;
      }
      await ledger.until(({ sent }) => sent === count);
      await ledger.settle();
    } finally {
      stop();
      await helper.unload();
      await helper.stopServer();
    }
    const sorted = waits.toSorted((a, b) => a - b).map(Math.round);
    process.stdout.write(
      `      from accepting connections to the next delivery: median ${sorted[kills >> 1]} ms, max ${sorted.at(-1)} ms\n`,
    );
    const { done } = ledger.check(`RabbitMQ killed ${kills} times`);
    done.should.equal(count);
  });

  it('a kill of Node-RED under load loses only what nobody was told of, and what its flow held is delivered again', async () => {
    const address = '/amq/queue/kept';
    const [killed, next] = [new NodeRedProcess(ledger), new NodeRedProcess(ledger)];
    try {
      const feed = { to: 'sender', from: 0, ahead: 100, pause: 20 };
      await killed.start(flow(sender({ address }), ...consumer({ address })), { feed, settings });
      await ledger.until(({ done }) => done.size >= 5000);
      await killed.until(() => killed.held.size >= 10);
      await killed.end('SIGKILL');
      killed.forgetTaken();
      const held = [...killed.held];

      await next.start(flow(...consumer({ address })), { settings });
      await ledger.settle();
      // The outcome of one may have been on its way already, and not reported.
      await next.until(() => held.filter((n) => !next.got.has(n)).length <= 1);
    } finally {
      await Promise.all([killed.remove(), next.remove()]);
    }
    ledger.check('SIGKILL of Node-RED on RabbitMQ');
  });
});

/** Waits until somebody listens on the port. */
async function accepting(port: number): Promise<void> {
  for (;;) {
    const socket = net.connect(port, '127.0.0.1');
    try {
      await once(socket, 'connect');
      return;
    } catch {
      await delay(10);
    } finally {
      socket.destroy();
    }
  }
}
