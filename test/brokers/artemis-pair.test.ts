// A pair of Artemises of which the first is killed under load: what was told to be delivered is.
import should from 'should';
import { Ledger, table } from '../faults/ledger';
import { consumer, sender } from '../faults/node-red-process';
import { observe, type Report } from '../faults/reports';
import { endpointNode, helper, nodes } from '../flow';
import { coreNode, nodeRedDir } from '../node-red';
import { ArtemisCluster, type Sharing } from './artemis-cluster';
import { needed } from './broker';

const COUNT = 1000;
/** How many messages wait for their outcome, and how many the receiver has at most. */
const [AHEAD, WINDOW] = [50, 100];

const pairs: { sharing: Sharing; listed: number; how: string }[] = [
  { sharing: 'shared-store', listed: 2, how: 'goes on with the second of the list' },
  { sharing: 'replication', listed: 1, how: 'goes on with the one that the first had announced' },
];

describe('on a pair of Artemises', () => {
  after(() => void process.stdout.write(`\n${table()}\n\n`));

  for (const { sharing, listed, how } of pairs)
    describe(`with ${sharing}`, function () {
      this.timeout(60_000);
      let pair: ArtemisCluster | undefined;
      let ledger: Ledger;
      let stop: (() => void) | undefined;
      /** Called with each message that arrives. */
      let arrived: (() => void) | undefined;

      const take = (...[what, n, code]: Report): void => {
        if (what === 'sent') ledger.next();
        else if (what === 'done' || what === 'failed') ledger.end(n, code);
        else if (what === 'got') {
          ledger.arrive(n);
          arrived?.();
        }
      };

      before(async function () {
        this.timeout(300_000); // the first time, it is fetched
        await needed(this, 'ActiveMQ Artemis', () => ArtemisCluster.prepare());
        await helper.startServer();
      });
      after(() => helper.stopServer());
      // For each try a new one: what is killed stays dead.
      beforeEach(async () => {
        pair = await ArtemisCluster.pair(sharing);
        ledger = new Ledger();
        stop = observe(nodeRedDir, take, { to: 'sender', from: 0, count: COUNT, ahead: AHEAD, pause: 10 });
      });
      afterEach(async () => {
        stop?.();
        await helper.unload();
        await pair?.stop();
      });

      it(`a kill of the first under load loses nothing, and Node-RED ${how}`, async () => {
        helper.settings({ amqpEndpointReconnectTime: 20 });
        const address = { address: 'orders', kind: 'queue' };
        await helper.load(
          [...nodes, coreNode('function/10-function')],
          [
            { id: 'flow', type: 'tab', label: 'flow' },
            endpointNode(0, { connectto: 'urls', urls: pair!.urls.slice(0, listed).join('\n') }),
            sender(address),
            ...consumer({ ...address, creditwindow: WINDOW }),
          ],
        );
        await ledger.until(({ delivered }) => delivered.size >= COUNT / 3);
        await pair!.members[0]!.kill();
        const killed = performance.now();
        should(ledger.sent).be.below(COUNT);
        await new Promise<void>((resolve) => (arrived = resolve));
        const pause = Math.round(performance.now() - killed);
        process.stdout.write(`      from the kill to the next delivery: ${pause} ms\n`);
        await ledger.until(({ sent }) => sent === COUNT);
        await ledger.settle();

        const { done, failed, duplicated } = ledger.check(`kill of the first of two Artemises, ${sharing}`);
        should({ done, failed }).deepEqual({ done: COUNT, failed: 0 });
        // What was in doubt is sent again, and what was not settled is delivered again.
        should(duplicated).not.be.above(AHEAD + WINDOW);
      });
    });
});
