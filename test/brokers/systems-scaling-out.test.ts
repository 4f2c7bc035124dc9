// The flow Systems/Scaling out in three Node-REDs, on a cluster of two Artemises: who gets what, and what a kill costs.
import should from 'should';
import { readExample } from '../example';
import type { NodeConfig } from '../node-red';
import { ArtemisCluster } from './artemis-cluster';
import { needed } from './broker';
import { Copy, packed } from './copy';

const [JOBS, NEWS, STEPS] = ['example.scale.jobs', 'example.scale.news', 'example.scale.steps'] as const;
const WORKERS = ['one', 'two', 'three'];
/** _Messages in progress_ of each receiver. */
const CREDIT = 10;
/** Jobs that are not done yet at most, so that there are always some on their way to the server. */
const AHEAD = 200;

const flow: NodeConfig[] = readExample('Systems/Scaling out.json').map((node) =>
  node.type === 'amqp-endpoint' ? { ...node, connectto: 'urls', urls: '${SERVERS}' } : node,
);
const idOf = (type: string, name: string): string =>
  flow.find((node) => node.type === type && node['name'] === name)!.id;
const receivers = flow.filter(({ type }) => type === 'amqp-receiver').map(({ id }) => id);

type Job = { job: number; by?: string };
type Step = { order: number; step: number };

const at = <T>(copy: Copy, type: string, name: string): T[] => copy.got(idOf(type, name)) as T[];
const isConnected = (copy: Copy): boolean => receivers.every((id) => copy.status(id)?.fill === 'green');
const newsReadBy = (copy: Copy): number[] => at<{ news: number }>(copy, 'debug', 'news item').map(({ news }) => news);
/** The steps that one has begun. */
const begunBy = (copy: Copy): Step[] => at(copy, 'function', 'do a step');
const nameOf = ({ order, step }: Step): string => `${order}, ${step}`;
const tell = (text: string): void => void process.stdout.write(`      ${text}\n`);

describe('The flow Systems/Scaling out in three Node-REDs, on a cluster of two Artemises', function () {
  this.timeout(60_000);
  let cluster: ArtemisCluster;
  let copies: Copy[];

  before(async function () {
    this.timeout(300_000); // the first time, it is fetched
    await needed(this, 'ActiveMQ Artemis', () => ArtemisCluster.prepare());
    const directory = await packed();
    cluster = await ArtemisCluster.of(2, { queues: [JOBS, STEPS], topics: [NEWS] });
    // The second one begins with the second broker.
    const orders = [cluster.urls, cluster.urls.toReversed(), cluster.urls];
    copies = WORKERS.map((worker, n) => new Copy(directory, { WORKER: worker, SERVERS: orders[n]!.join(' ') }));
  });
  after(async () => {
    await Promise.all((copies ?? []).map((copy) => copy.remove()));
    await cluster?.stop();
  });
  // What reached the nodes of the test before is forgotten.
  beforeEach(async () => {
    await Promise.all(copies.map((copy) => copy.end()));
    await Promise.all(copies.map((copy) => copy.start(flow)));
    await Copy.until(() => copies.every(isConnected));
  });

  const all = <T>(type: string, name: string): T[] => copies.flatMap((copy) => at<T>(copy, type, name));
  const finished = (): number => copies.reduce((sum, copy) => sum + at(copy, 'debug', 'job').length, 0);

  /** Gives so many jobs to the first Node-RED. Something happens when a third of them is done. */
  async function work(count: number, wait: number, happens?: () => Promise<unknown>): Promise<void> {
    let happened: Promise<unknown> | undefined;
    for (let job = 0; job < count; job++) {
      await Copy.until(() => job < finished() + AHEAD);
      copies[0]!.send(idOf('amqp-sender', 'send jobs'), { job, wait });
      if (finished() >= count / 3) happened ??= happens?.();
    }
    await happened;
    await Copy.until(() => new Set(all<Job>('debug', 'job').map(({ job }) => job)).size === count);
    await emptied(JOBS);
  }
  /** Asks until the queue is empty on all brokers. */
  async function emptied(queue: string): Promise<void> {
    while ((await cluster.depth(queue)) > 0);
  }
  /** Jobs that came more than once. */
  function twice(): number[] {
    const jobs = all<Job>('function', 'work').map(({ job }) => job);
    return jobs.filter((job, index) => jobs.indexOf(job) < index);
  }

  /** The steps that are done, and how many orders each has had. */
  const done = (): Set<string> => new Set(all<Step>('debug', 'step').map(nameOf));
  const ordersOf = (): number[] => copies.map((copy) => new Set(begunBy(copy).map(({ order }) => order)).size);

  it('shares the jobs of a queue: each is done once, and all of them have some', async () => {
    await work(900, 20);
    should(twice()).be.empty();
    should(finished()).equal(900);
    const shares = copies.map((copy) => at<Job>(copy, 'debug', 'job'));
    for (const [n, jobs] of shares.entries()) {
      should(jobs.length).be.above(0);
      should([...new Set(jobs.map(({ by }) => by))]).deepEqual([WORKERS[n]]);
    }
    tell(`jobs of each: ${shares.map(({ length }) => length).join(', ')}`);
  });

  it('loses no job when one of them is killed, and does again at most what that one had in progress', async () => {
    const killed = copies[2]!;
    const begun = () => at<Job>(killed, 'function', 'work').map(({ job }) => job);
    await work(600, 100, async () => {
      await Copy.until(() => begun().length >= at(killed, 'debug', 'job').length + CREDIT / 2);
      await killed.end('SIGKILL');
    });
    const again = twice();
    should(again.length).be.within(1, CREDIT);
    should(again.filter((job) => !begun().includes(job))).be.empty();
    tell(`done again: ${again.length}`);
  });

  it('shares a subscription: each news item comes to one of them', async () => {
    const count = 300;
    copies[0]!.send(idOf('amqp-sender', 'publish news'), ...Array.from({ length: count }, (_, news) => ({ news })));
    await Copy.until(() => new Set(copies.flatMap(newsReadBy)).size === count);
    await emptied('example.scale.readers:global');
    should(copies.flatMap(newsReadBy)).have.length(count);
    for (const copy of copies) should(at(copy, 'debug', 'news item')).not.be.empty();
  });

  /** Messages that are at the brokers and in no process: without their data these would be lost. */
  const BACKLOG = 50;

  it('loses no job when the broker that has most of them is stopped and started again', async () => {
    // It gets half of the jobs, and has one process.
    const stopped = cluster.members[1]!;
    await work(1500, 20, async () => {
      while ((await stopped.depth(JOBS)) < CREDIT + BACKLOG);
      await stopped.restart();
    });
    tell(`done again: ${twice().length}`);
    should(twice().length).not.be.above(CREDIT);
  });

  it('loses no job when both brokers are killed and started again', async () => {
    const { members } = cluster;
    await work(1500, 20, async () => {
      while ((await cluster.depth(JOBS)) < WORKERS.length * CREDIT + BACKLOG);
      await Promise.all(members.map((member) => member.kill()));
      await Promise.all(members.map((member) => member.start()));
    });
    tell(`done again: ${twice().length}`);
    should(twice().length).not.be.above(WORKERS.length * CREDIT + AHEAD);
  });

  describe('with an order of steps', () => {
    // An odd number, or in turns each order would come to one broker even without a grouping handler.
    const [orders, steps] = [11, 40];

    /** Kills it when a third is done. */
    async function workUntilKilled(killed: Copy): Promise<void> {
      for (let step = 0; step < steps; step++) {
        const next = Array.from({ length: orders }, (_, order) => ({ order, step }));
        copies[0]!.send(idOf('change', 'an order is a group'), ...next);
      }
      await Copy.until(() => done().size >= (orders * steps) / 3);
      await killed.end('SIGKILL');
    }

    it('gives an order to one of them, step by step, and once that is killed to another one at the same broker', async () => {
      const killed = copies[2]!;
      await workUntilKilled(killed);
      await Copy.until(() => done().size === orders * steps);
      await emptied(STEPS);
      let again = 0;
      let moved = 0;
      for (let order = 0; order < orders; order++) {
        const parts = copies.map((copy) => begunBy(copy).flatMap((one) => (one.order === order ? [one.step] : [])));
        for (const part of parts) should(part).deepEqual(part.map((_, index) => part[0]! + index));
        const owners = copies.filter((_, n) => parts[n]!.length > 0);
        if (owners.length === 1) continue;
        // No other one has changed hands.
        should(owners).deepEqual([copies[0], killed]);
        const [later, , earlier] = parts;
        again += earlier!.filter((step) => later!.includes(step)).length;
        moved++;
      }
      should(moved).be.above(0);
      should(again).not.be.above(CREDIT);
      tell(`orders of each: ${ordersOf().join(', ')}; moved: ${moved}; steps done again: ${again}`);
    });

    it('has its orders wait at a broker that has no process any more, until one is back', async () => {
      const killed = copies[1]!;
      await workUntilKilled(killed);
      const [waiting, before] = [ordersOf()[1]!, at<Step>(killed, 'debug', 'step').map(nameOf)];
      await Copy.until(() => done().size === before.length + (orders - waiting) * steps);
      // What was done last may not be confirmed.
      const left = orders * steps - done().size;
      should(await cluster.members[1]!.depth(STEPS)).be.within(left, left + CREDIT);
      should(left).be.above(0);
      await killed.start(flow);
      await Copy.until(() => new Set([...before, ...done()]).size === orders * steps);
      await emptied(STEPS);
    });
  });
});
