// Microsoft's clients in a suite.
import type { ClientKind, Driver } from '../doubles/azure/client';
import { needed } from './broker';

/** Starts a client before the tests of the suite, and ends it after them. Without it they are skipped. */
export function startBefore(kind: ClientKind, use: (client: Driver) => void): void {
  let client: Driver | undefined;
  before(async function () {
    this.timeout(300_000);
    await needed(this, kind.name, () => kind.prepare());
    client = kind.start();
    use(client);
  });
  after(() => client?.end());
}
