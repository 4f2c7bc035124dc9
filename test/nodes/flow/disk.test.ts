import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { NodeAPI } from 'node-red';
import should from 'should';
import { Disk } from '../../../nodes/flow/disk';
import { Store } from '../../../nodes/lib/sender/store';
import { endpointNode, flow, helper, inject, load, message, messages, node, status } from '../../flow';
import { Broker } from '../../../broker/broker';

/** Resolves once the log has this. */
async function logged(text: string): Promise<void> {
  const has = (): boolean => helper.log().args.some(([{ msg }]) => String(msg).includes(text));
  while (!has()) await new Promise(setImmediate);
}

describe('the folders of senders', () => {
  let userDir: string;

  beforeEach(() => (userDir = mkdtempSync(join(tmpdir(), 'disk-'))));
  afterEach(() => rmSync(userDir, { recursive: true }));

  describe('without Node-RED', () => {
    let warnings: object[];
    let disk: Disk;

    beforeEach(() => {
      warnings = [];
      const log = { warn: (text: object) => warnings.push(text) };
      disk = new Disk({
        settings: { userDir },
        log,
        _: (_key: string, blanks: object) => blanks,
      } as unknown as NodeAPI);
    });

    async function fill(id: string, count: number): Promise<string> {
      const directory = disk.directoryOf(id);
      const user = { restored: () => {}, missing: () => {}, damaged: () => {}, changed: () => {} };
      mkdirSync(join(directory, '..'), { recursive: true });
      const store = new Store(directory, 'write', user);
      await store.open();
      for (let sequence = 1; sequence <= count; sequence++)
        await store.put({ sequence, bytes: Buffer.from('x'), isOfSender: true, isBatch: false, taken: 0 });
      await store.close();
      return directory;
    }

    it('are told of, with how many messages are there, once as long as the number is the same', async () => {
      const [a, b] = [await fill('a', 2), await fill('b', 1)];
      await fill('empty', 0);
      await disk.tellOfLeft();
      should(warnings).eql([
        { n: 2, directory: a },
        { n: 1, directory: b },
      ]);
      await disk.tellOfLeft();
      await fill('b', 3);
      await disk.tellOfLeft();
      should(warnings.slice(2)).eql([{ n: 3, directory: b }]);
    });

    it('are not told of while a sender has them', async () => {
      const directory = await fill('a', 2);
      disk.use(directory);
      await disk.tellOfLeft();
      should(warnings).eql([]);
      disk.leave(directory);
      await disk.tellOfLeft();
      should(warnings).eql([{ n: 2, directory }]);
    });

    it('may be missing, in use by another process, or something else', async () => {
      await disk.tellOfLeft();
      mkdirSync(join(userDir, 'amqp-buffer'));
      writeFileSync(join(userDir, 'amqp-buffer', 'file'), '');
      mkdirSync(join(userDir, 'amqp-buffer', 'folder'));
      await disk.tellOfLeft();
      should(warnings).eql([]);
    });
  });

  describe('in Node-RED', () => {
    let broker: Broker;

    before(() => helper.startServer());
    after(() => helper.stopServer());
    beforeEach(async () => {
      broker = await Broker.start();
    });
    afterEach(async () => {
      await helper.unload();
      await broker.stop();
    });

    const configs = (properties: object) =>
      flow(endpointNode(broker.port), node('amqp-sender', { store: 'write', ...properties }));
    /** Leaves two messages on disk, and deploys a sender that is set up in another way. */
    async function redeploy(properties: object): Promise<void> {
      await load(configs({}), {}, { userDir, amqpEndpointCloseTime: 1 });
      await status('sender', 'connected');
      await broker.stop();
      const completed = messages('completed', 2);
      for (const payload of [1, 2]) inject('sender', { payload });
      await completed;
      await broker.resume();
      await helper.setFlows(configs(properties), 'full');
    }
    it('whose sender has another address now are emptied to the address that it had', async () => {
      await redeploy({ address: 'other' });
      while (broker.depth('q') < 2) await once(broker, 'message');
      should(broker.messages('q').map((stored) => stored!.body as unknown)).eql([1, 2]);
      should(broker.depth('other')).equal(0);
    });

    for (const [what, properties] of Object.entries({
      'is disabled': { d: true },
      'keeps nothing on disk any more': { store: 'none' },
      'may send nothing twice': { guarantee: 'at-most-once' },
      'is another one': { id: 'another' },
    })) {
      it(`are told of when the sender ${what}`, async () => {
        await redeploy(properties);
        await logged('amqp-sender.log.left');
        await helper.setFlows(configs({}), 'full');
        while (broker.depth('q') < 2) await once(broker, 'message');
      });
    }

    it('keep a msg as it is sent with what became of it after a restart', async () => {
      await redeploy({ outcomes: 'all' });
      const out = await message('out');
      should(out).match({ payload: 1, sent: { state: 'accepted', address: 'q' } });
    });
  });
});
