import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { EventEmitter, once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ClassicLevel } from 'classic-level';
import should from 'should';
import type { AmqpError } from '../../../../nodes/lib/errors';
import { type Durability, Store, type Stored } from '../../../../nodes/lib/sender/store';

const message = (sequence: number): Stored => ({
  sequence,
  bytes: Buffer.from(`message ${sequence}`),
  address: 'grüße',
  isOfSender: sequence % 2 === 0,
  isBatch: sequence % 3 === 0,
  taken: 1e12 + sequence,
});

/** Puts bytes where a message belongs. */
async function garble(directory: string, sequence: number, value: Buffer): Promise<void> {
  const level = new ClassicLevel<string, Buffer>(directory, { valueEncoding: 'buffer' });
  await level.put(sequence.toString(36).padStart(11, '0'), value);
  await level.close();
}

describe('a store', () => {
  let directory: string;
  /** What it has told its user. */
  let told: { restored: Stored[]; last: number; missing: number[]; damaged: string[] };
  let changes: EventEmitter<{ changed: [] }>;
  const stores: Store[] = [];

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'store-'));
    changes = new EventEmitter();
  });
  afterEach(async () => {
    for (const store of stores.splice(0)) await store.close();
    rmSync(directory, { recursive: true });
  });

  function made(durability: Durability = 'write', folder = directory): Store {
    told = { restored: [], last: -1, missing: [], damaged: [] };
    const user = {
      restored: (restored: Stored[], last: number) => void Object.assign(told, { restored, last }),
      missing: (sequences: number[]) => void told.missing.push(...sequences),
      damaged: ({ code, message: text }: AmqpError) => void told.damaged.push(`${code}: ${text}`),
      changed: () => void changes.emit('changed'),
    };
    const store = new Store(folder, durability, user, { initial: 10, max: 10 });
    stores.push(store);
    return store;
  }

  async function opened(durability?: Durability, folder?: string): Promise<Store> {
    const store = made(durability, folder);
    await store.open();
    return store;
  }

  /** Resolves once the store can be written to again. */
  async function repaired(store: Store): Promise<void> {
    while (store.fault) await once(changes, 'changed');
  }

  /** Writes messages, and closes. */
  async function filled(...sequences: number[]): Promise<void> {
    const store = await opened();
    await Promise.all(sequences.map((sequence) => store.put(message(sequence))));
    await store.close();
  }

  /** Changes bytes in the middle of the largest file whose name ends so. */
  function damage(ending: string, count: number): void {
    const files = readdirSync(directory).filter((name) => name.endsWith(ending));
    const [[file, bytes]] = files
      .map((name): [string, Buffer] => [name, readFileSync(join(directory, name))])
      .toSorted(([, a], [, b]) => b.length - a.length) as [[string, Buffer]];
    for (let n = 0; n < count; n++) bytes[(bytes.length >> 1) + n]! ^= 1;
    writeFileSync(join(directory, file), bytes);
  }

  for (const durability of ['write', 'sync'] as const) {
    it(`gives back in order what was put, after it was closed and opened again (${durability})`, async () => {
      const folder = join(directory, 'new');
      const store = await opened(durability, folder);
      should(told).match({ restored: [], last: 0 });
      const sequences = Array.from({ length: 200 }, (_, n) => n * 7);
      await Promise.all(sequences.map((sequence) => store.put(message(sequence))));
      await store.close();
      await opened(durability, folder);
      should(told).eql({ restored: sequences.map(message), last: 199 * 7, missing: [], damaged: [] });
    });
  }

  it('forgets what is deleted, also when that is still to be written', async () => {
    const store = await opened();
    const writes = [store.put(message(1)), store.put(message(2))];
    store.delete(1);
    await Promise.all(writes);
    await store.close();
    await opened();
    should(told.restored).eql([message(2)]);
  });

  it('keeps messages that have no address', async () => {
    const bare = { ...message(1), bytes: Buffer.alloc(0), address: undefined };
    const store = await opened();
    await store.put(bare);
    await store.close();
    await opened();
    should(told.restored).eql([bare]);
  });

  it('counts what is in a folder that no store has open', async () => {
    await filled(1, 2, 5);
    should(await Store.count(directory)).equal(3);
    await Store.count(join(directory, 'nothing')).should.be.rejectedWith({ code: 'AMQP_STORE' });
  });

  describe('that cannot be opened', () => {
    it('says why, and opens by itself once it can', async () => {
      const folder = join(directory, 'file');
      writeFileSync(folder, '');
      const store = made('write', folder);
      const why = { code: 'AMQP_STORE', message: /cannot open .*file/ };
      await store.open().should.be.rejectedWith(why);
      await store.put(message(1)).should.be.rejectedWith(why);
      rmSync(folder);
      await repaired(store);
      await store.put(message(1));
    });

    it('since another has it open, as the process before it may, takes it over once that has closed', async () => {
      const first = await opened();
      await first.put(message(1));
      const second = made();
      await second.open().should.be.rejectedWith({ code: 'AMQP_STORE', message: /lock/i });
      await first.close();
      await repaired(second);
      should(told.restored).eql([message(1)]);
    });
  });

  describe('that is damaged', () => {
    it('gives all that can be read, tells of the rest, and leaves it there', async () => {
      await filled(1, 2, 3, 4);
      await garble(directory, 2, Buffer.from('ffffffff', 'hex'));
      await garble(directory, 5, Buffer.alloc(0));
      for (const _start of [1, 2]) {
        const store = await opened();
        should(told).match({ restored: [1, 3, 4].map(message), last: 5 });
        should(told.damaged).match([/^AMQP_STORE: .*: 2 are damaged, and stay there$/]);
        await store.close();
      }
    });

    it('knows a record of which one bit has changed, wherever it is', async () => {
      await filled(1);
      const level = new ClassicLevel<string, Buffer>(directory, { valueEncoding: 'buffer' });
      const [record] = await level.values().all();
      await level.close();
      for (let at = 0; at < record!.length; at++) {
        const changed = Buffer.from(record!);
        changed[at]! ^= 0x80;
        await garble(directory, 1, changed);
        const store = await opened();
        should(told.restored).eql([], `byte ${at}`);
        await store.close();
      }
    });

    it('tells how much of its log was lost', async () => {
      await filled(...Array.from({ length: 100 }, (_, n) => n));
      damage('.log', 1);
      await opened();
      should(told.restored.length).be.below(100);
      should(told.damaged).match([/^AMQP_STORE: .*: \d+ bytes of messages were damaged, and are lost$/]);
    });

    it('gives what the other parts of a table hold, goes on, and keeps the damaged one aside', async () => {
      const store = await opened();
      const big = (sequence: number): Stored => ({ ...message(sequence), bytes: Buffer.alloc(3000, `${sequence}`) });
      for (let n = 0; n < 100; n++) await store.put(big(n));
      await store.close();
      // Makes a table of the log.
      await (await opened()).close();
      damage('.ldb', 200);
      const again = await opened();
      should(told.restored.length).be.within(80, 99);
      for (const stored of told.restored) should(stored).eql(big(stored.sequence));
      should(told.damaged).match([/^AMQP_STORE: .*corrupt.*kept in the folder "lost"$/i]);
      readdirSync(join(directory, 'lost')).should.not.be.empty();
      await again.put(message(100));
      await again.close();
      await opened();
      should(told.damaged).eql([]);
      should(told.restored.at(-1)).eql(message(100));
    });
  });

  it('reads records of the first format', async () => {
    const level = new ClassicLevel<string, Buffer>(directory, { valueEncoding: 'buffer' });
    await level.put('00000000001', Buffer.from('\0\0\0\x01qbytes'));
    await level.close();
    await opened();
    should(told.restored).match([{ sequence: 1, address: 'q', bytes: Buffer.from('bytes'), isOfSender: false }]);
  });
});
