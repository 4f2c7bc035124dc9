// Faults of the disk under a sender that keeps its messages there.
import { once } from 'node:events';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import rhea from 'rhea';
import should from 'should';
import { Connection } from '../../nodes/lib/connection/connection';
import type { AmqpError } from '../../nodes/lib/errors';
import { Sender } from '../../nodes/lib/sender/sender';
import { Entry } from '../../nodes/lib/link/entry';
import { statusOf } from '../../nodes/flow/status';
import { type Durability, Store } from '../../nodes/lib/sender/store';
import { Broker } from '../../broker/broker';
import { FailingDisk, SmallDisk } from './small-disk';

/** Tries again, turn by turn, until it does not fail. */
async function until(attempt: () => unknown): Promise<void> {
  for (;;) {
    try {
      await attempt();
      return;
    } catch {
      await turn();
    }
  }
}

const numbers = (first: number, count: number) => Array.from({ length: count }, (_, index) => first + index);
/** Of the disk: LevelDB alone takes some of it. */
const KILOBYTES = 3000;

describe('A sender with messages on a disk', function () {
  this.timeout(60_000);

  let broker: Broker;
  let connection: Connection;
  let sender: Sender;
  let disk: SmallDisk;
  let copy: string;
  let damaged: string[];

  beforeEach(async () => {
    broker = await Broker.start();
    disk = new SmallDisk(KILOBYTES);
    copy = mkdtempSync(join(tmpdir(), 'copy-'));
    damaged = [];
  });
  afterEach(async () => {
    await sender.close(1000);
    await connection.close();
    await broker.stop();
    disk.remove();
    rmSync(copy, { recursive: true });
    should(damaged).eql([]);
  });

  function start(durability: Durability, directory = join(disk.directory, 'buffer')): void {
    connection = new Connection({
      servers: [{ host: '127.0.0.1', port: broker.port }],
      containerId: 'test',
      connectTimeout: 5000,
      idleTimeout: 0,
      backoff: { initial: 10, max: 10 },
      loginBackoff: { initial: 10, max: 10 },
    });
    sender = new Sender(connection, {
      name: 'sender',
      address: 'q',
      guarantee: 'at-least-once',
      buffer: 10_000,
      bufferBytes: Infinity,
      full: 'refuse',
      retryTime: 60_000,
      timeout: 0,
      store: {
        directory,
        durability,
        restored: ({ bytes }) => new Entry(bytes, () => {}),
        damaged: ({ message }) => void damaged.push(message),
      },
    });
    sender.open();
    connection.open();
  }

  /** Sends a message; resolves once it is on disk, and rejects when it is not. */
  const keep = (body: number): Promise<void> =>
    new Promise((stored, reject) => {
      const bytes = rhea.message.encode({ body, subject: 'x'.repeat(1000) });
      sender.send(new Entry(bytes, (error) => error && reject(error), { stored }));
    });
  async function keepAll(first: number, count: number): Promise<void> {
    await Promise.all(Array.from({ length: count }, (_, index) => keep(first + index)));
  }
  /** Fills the disk. Resolves once a message could not be kept, with the numbers of those that could. */
  async function fill(first: number): Promise<number[]> {
    disk.fill();
    for (let body = first; ; body++) {
      try {
        await keep(body);
      } catch (error) {
        should((error as AmqpError).code).equal('AMQP_STORE');
        return Array.from({ length: body - first }, (_, index) => first + index);
      }
    }
  }
  const isFaulty = (): boolean => sender.state.name === 'fault';
  async function repaired(): Promise<void> {
    while (isFaulty()) await once(sender, 'state');
  }
  const bodies = () => broker.messages('q').map((stored) => stored!.body as unknown as number);
  async function arrived(count: number): Promise<void> {
    while (bodies().length < count) await once(broker, 'message');
  }

  for (const durability of ['write', 'sync'] as const) {
    it(`that was full takes messages again by itself, and loses none that it has taken (${durability})`, async () => {
      await broker.stop();
      start(durability);
      await keepAll(0, 20);
      const kept = await fill(20);
      isFaulty().should.be.true();
      statusOf(sender.state).should.match({ fill: 'red', args: { reason: 'No space left on device' } });
      await should(keep(998)).be.rejectedWith({ code: 'AMQP_STORE' });
      disk.makeRoom();
      await repaired();
      await keepAll(1000, 150);
      // What a process that is killed now leaves.
      cpSync(join(disk.directory, 'buffer'), copy, { recursive: true });
      await sender.close(0);

      await broker.resume();
      start(durability, copy);
      const expected = [...numbers(0, 20), ...kept, ...numbers(1000, 150)];
      await arrived(expected.length);
      await keepAll(2000, 1);
      await arrived(expected.length + 1);
      bodies().should.eql([...expected, 2000]);
    });
  }

  it('that is full sends what is there, and makes up for the deletions once there is room', async () => {
    await broker.stop();
    start('write');
    await keepAll(0, 50);
    const kept = await fill(50);
    await broker.resume();
    await arrived(50 + kept.length);
    isFaulty().should.be.true();
    disk.makeRoom();
    await repaired();
    await keepAll(1000, 1);
    await sender.close(1000);
    bodies().should.eql([...numbers(0, 50), ...kept, 1000]);
    should(await Store.count(join(disk.directory, 'buffer'))).equal(0);
  });

  it('that becomes read-only takes messages again once it can be written to', async () => {
    start('write');
    await keepAll(0, 10);
    const kept = await fill(10);
    // Once it has closed its files.
    await until(() => disk.setWritable(false));
    await until(() => should(keep(998)).be.rejectedWith({ code: 'AMQP_STORE', message: /read-only/i }));
    disk.setWritable(true);
    disk.makeRoom();
    await repaired();
    await keepAll(1000, 10);
    await arrived(20 + kept.length);
    bodies().should.eql([...numbers(0, 10), ...kept, ...numbers(1000, 10)]);
  });

  it('that fails to write back what it has cached takes messages again by itself, and loses none (sync)', async () => {
    const failing = new FailingDisk();
    try {
      await broker.stop();
      start('sync', join(failing.directory, 'buffer'));
      await keepAll(0, 20);
      failing.fail();
      const refused: number[] = [];
      const kept: number[] = [];
      for (let body = 20; !isFaulty(); body++)
        await keep(body).then(
          () => kept.push(body),
          () => refused.push(body),
        );
      failing.mend();
      await repaired();
      await keepAll(1000, 20);
      cpSync(join(failing.directory, 'buffer'), copy, { recursive: true });
      await sender.close(0);
      await connection.close();

      await broker.resume();
      start('write', copy);
      const expected = [...numbers(0, 20), ...kept, ...numbers(1000, 20)];
      await arrived(expected.length);
      bodies().should.eql(expected);
      refused.should.not.be.empty();
    } finally {
      await sender.close(1000);
      failing.remove();
    }
  });

  it('that is full from the start is opened once there is room', async () => {
    disk.fill();
    start('write');
    await should(keep(0)).be.rejectedWith({ code: 'AMQP_STORE' });
    isFaulty().should.be.true();
    disk.makeRoom();
    await repaired();
    await keepAll(1, 5);
    await arrived(5);
    bodies().should.eql(numbers(1, 5));
  });
});
