// The nodes against each broker of someone else: one suite, and a table of how peers differ.
import should from 'should';
import { helper } from '../flow';
import { type Broker, needed } from './broker';
import { bare, publish, published, type Results, tables } from './compatibility';
import { type Feature, features, refusals } from './features';
import { peers } from './peers';
import { Trial } from './trial';

const all: Feature[] = [...Object.values(features), ...Object.values(refusals)];
const setup = {
  queues: [...new Map(all.flatMap(({ queues = [] }) => queues).map((queue) => [queue.name, queue])).values()],
  topics: [...new Set(all.flatMap(({ topics = [] }) => topics))],
};
const results: Results = new Map();

for (const peer of peers) {
  describe(`on ${peer.name}`, function () {
    this.timeout(120_000); // restarting a broker takes a while on a busy machine

    const seen = new Map<Feature, string>();
    let broker: Broker;
    let trial: Trial;

    before(async function () {
      this.timeout(300_000); // the first time, it is fetched
      await needed(this, peer.name, () => peer.kind.prepare());
      broker = await peer.kind.start(setup);
      results.set(/^\D+\d+(\.\d+)?/.exec(broker.version)?.[0] ?? broker.version, seen);
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

    const group = (tried: Record<string, Feature>, expected: Partial<Record<string, RegExp | string>> | undefined) => {
      for (const [name, feature] of Object.entries(tried)) {
        if ((peer.lacks as string[] | undefined)?.includes(name)) continue;
        const comesTo = expected?.[name] ?? 'works';
        it(expected && !(comesTo instanceof RegExp) ? `${feature.title}: ${comesTo}` : feature.title, async () => {
          const verdict = await feature.try(trial);
          seen.set(feature, verdict);
          if (expected) should(verdict).match(comesTo);
          else process.stdout.write(`      ${verdict}\n`);
        });
      }
    };

    group(features, peer.differs);
    describe('passes on what is refused', () => group(refusals, peer.refuses));
  });
}

if (!process.env['AMQP_TEST_PEER']) {
  describe('The page of compatibility', () => {
    it('tells what was seen with these brokers', async function () {
      const isComplete = peers.every(
        ({ lacks = [] }, i) => [...results.values()][i]?.size === all.length - lacks.length,
      );
      // A run of some brokers or features only (mocha -g) says nothing of the others.
      if (!isComplete) this.skip();
      if (process.env['UPDATE_COMPATIBILITY']) await publish(tables(results));
      else should(bare(published())).equal(bare(tables(results)));
    });
  });
}
