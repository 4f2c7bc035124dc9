// Who may ask what the nodes add to Node-RED's admin API, in a Node-RED where users log in.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import should from 'should';
import { freePort } from '../../scripts/free-port';
import { Ledger } from './ledger';
import { NodeRedProcess } from './node-red-process';
import { nodeRedDir } from '../node-red';
import { secretOf } from '../secrets';

const PASSWORD = secretOf('editor password');
const READ = ['GET counters', 'GET counters?format=prometheus', 'GET health', 'POST addresses'];
const WRITE = ['POST test', 'POST account'];

const all = (routes: string[], status: number) => routes.map((route) => [route, status] as const);

describe('The admin routes of a Node-RED where users log in', function () {
  this.timeout(120_000);
  const red = new NodeRedProcess(new Ledger());
  let url: string;

  before(() => NodeRedProcess.build());
  before(async () => {
    const bcrypt = createRequire(join(nodeRedDir, 'package.json'))('bcryptjs') as {
      hashSync(text: string, rounds: number): string;
    };
    const password = bcrypt.hashSync(PASSWORD, 4);
    const user = (username: string, permissions: string) => ({ username, password, permissions });
    const users = [
      user('editor', '*'),
      user('reader', 'read'),
      user('watcher', 'amqp-endpoint.read'),
      user('other', 'x.read'),
    ];
    const uiPort = await freePort();
    url = `http://127.0.0.1:${uiPort}`;
    const settings = { httpAdminRoot: '/', uiHost: '127.0.0.1', uiPort, adminAuth: { type: 'credentials', users } };
    const tab = { id: 'flow', type: 'tab', label: 'flow' };
    await red.start([tab, { id: 'broker', type: 'amqp-endpoint' }], { settings });
  });
  after(() => red.remove());

  async function tokenOf(username: string): Promise<string> {
    const login = { client_id: 'node-red-admin', grant_type: 'password', scope: '', username, password: PASSWORD };
    const response = await fetch(`${url}/auth/token`, { method: 'POST', body: new URLSearchParams(login) });
    return ((await response.json()) as { access_token: string }).access_token;
  }

  /** The statuses of HTTP, by route. */
  async function ask(username?: string): Promise<Record<string, number>> {
    const headers: Record<string, string> = { 'content-type': 'application/json' };
    if (username) headers['authorization'] = `Bearer ${await tokenOf(username)}`;
    const statuses: Record<string, number> = {};
    for (const route of [...READ, ...WRITE]) {
      const [method, path] = route.split(' ');
      const body = method === 'POST' ? '{}' : undefined;
      statuses[route] = (await fetch(`${url}/amqp-endpoint/${path}`, { method, headers, body })).status;
    }
    return statuses;
  }

  it('are for nobody who has not logged in, or has other permissions', async () => {
    const refused = Object.fromEntries(all([...READ, ...WRITE], 401));
    should(await ask()).deepEqual(refused);
    should(await ask('other')).deepEqual(refused);
  });

  it('are, but for those that do something, for who may read', async () => {
    for (const user of ['reader', 'watcher']) {
      const statuses = await ask(user);
      should(statuses).match(Object.fromEntries(all(WRITE, 401)));
      for (const route of READ) should(statuses[route]).not.equal(401, `${user}: ${route}`);
      should(statuses['GET health']).equal(200);
    }
  });

  it('are for who may deploy flows', async () => {
    should(await ask('editor')).match({
      'GET counters': 200,
      'POST test': 400,
      'POST account': 400,
      'POST addresses': 200,
    });
  });
});
