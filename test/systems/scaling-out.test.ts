// The flow Systems/Scaling out as it is shipped, in one process on the embedded broker; test/brokers/systems-scaling-out.test.ts
// has three processes on a cluster.
import { once } from 'node:events';
import should from 'should';
import { Broker } from '../../broker/broker';
import { allShown, idOf, isConnected, loadExample, press, startExamples } from '../example';
import { collect, helper } from '../flow';

type Job = { job: number; by: string };
type Step = { order: number; step: number };

describe('The flow Systems/Scaling out', () => {
  let broker: Broker;

  startExamples((started) => (broker = started));
  beforeEach(async () => {
    process.env['WORKER'] = 'here';
    await loadExample('Systems/Scaling out.json', broker.port);
    await Promise.all(['jobs', 'news', 'steps'].map((name) => isConnected('amqp-receiver', name)));
  });
  afterEach(() => delete process.env['WORKER']);

  const emptied = async (address: string) => {
    while (broker.depth(address) > 0) await once(broker, 'settled');
  };

  it('has as many jobs in progress as the receiver takes, does each once, and says who did it', async () => {
    let most = 0;
    helper.getNode(idOf('function', 'work')).on('input', () => {
      most = Math.max(most, broker.unsettled('example.scale.jobs'));
    });
    const [jobs, done] = [collect(idOf('debug', 'job')), allShown('job', 200)];
    press('1. a hundred jobs that wait');
    press('2. a hundred jobs that compute');
    await done;
    await emptied('example.scale.jobs');
    const payloads = jobs.map(({ payload }) => payload as Job);
    for (const kind of ['wait', 'compute']) {
      const numbers = payloads.flatMap((payload) => (kind in payload ? [payload.job] : []));
      should(numbers.toSorted((a, b) => a - b)).deepEqual(Array.from({ length: 100 }, (_, n) => n + 1));
    }
    should(new Set(payloads.map(({ by }) => by))).deepEqual(new Set(['here']));
    most.should.equal(10);
  });

  it('reads each news item once', async () => {
    const news = allShown('news item', 10);
    press('3. ten news');
    should((await news).map(({ payload }) => payload)).deepEqual(
      Array.from({ length: 10 }, (_, n) => ({ news: n + 1, by: 'here' })),
    );
    await emptied('example.scale.news');
  });

  it('does the steps of an order one after the other, and those of other orders beside them', async () => {
    const open = new Set<number>();
    let [most, together] = [0, 0];
    const steps: Step[] = [];
    helper.getNode(idOf('function', 'do a step')).on('input', ({ payload }) => {
      const { order } = payload as Step;
      if (open.has(order)) together++;
      most = Math.max(most, open.add(order).size);
    });
    helper.getNode(idOf('debug', 'step')).on('input', ({ payload }) => {
      steps.push(payload as Step);
      open.delete((payload as Step).order);
    });
    const done = allShown('step', 20);
    press('4. four orders of five steps');
    await done;
    for (const order of [1, 2, 3, 4])
      should(steps.filter((step) => step.order === order).map(({ step }) => step)).deepEqual([1, 2, 3, 4, 5]);
    should({ most, together }).deepEqual({ most: 4, together: 0 });
    await emptied('example.scale.steps');
  });
});
