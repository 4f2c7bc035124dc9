import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import should from 'should';
import { Store } from '../nodes/lib/store';

const message = (sequence: number) => ({ sequence, bytes: Buffer.from(`message ${sequence}`), address: 'grüße' });

describe('a store', () => {
  let directory: string;
  let store: Store | undefined;

  beforeEach(() => (directory = mkdtempSync(join(tmpdir(), 'store-'))));
  afterEach(async () => {
    await store?.close();
    store = undefined;
    rmSync(directory, { recursive: true });
  });

  for (const durability of ['write', 'sync'] as const) {
    it(`gives back in order what was put, after it was closed and opened again (${durability})`, async () => {
      store = await Store.open(join(directory, 'new'), durability);
      const sequences = Array.from({ length: 200 }, (_, n) => n * 7);
      await Promise.all(sequences.map((sequence) => store!.put(message(sequence))));
      await store.close();
      store = await Store.open(join(directory, 'new'), durability);
      should(await store.read()).eql(sequences.map(message));
    });
  }

  it('forgets what is deleted, also when that is still to be written', async () => {
    store = await Store.open(directory, 'write');
    const writes = [store.put(message(1)), store.put(message(2)), store.delete(1)];
    await Promise.all(writes);
    should(await store.read()).eql([message(2)]);
  });

  it('keeps messages that have no address', async () => {
    store = await Store.open(directory, 'write');
    const bare = { sequence: 1, bytes: Buffer.alloc(0) };
    await store.put(bare);
    should(await store.read()).eql([{ ...bare, address: undefined }]);
  });

  it('says why its folder cannot be opened', async () => {
    const file = join(directory, 'file');
    writeFileSync(file, '');
    await Store.open(file, 'write').should.be.rejectedWith({ code: 'AMQP_STORE', message: /cannot open .*file/ });
  });

  it('is open in one place at a time', async () => {
    store = await Store.open(directory, 'write');
    await Store.open(directory, 'write').should.be.rejectedWith({ code: 'AMQP_STORE', message: /lock/i });
  });
});
