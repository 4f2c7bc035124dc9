// Node-RED as a user has it: the packed package installed into a new user directory, started as a process of its own.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { freePort } from '../../scripts/free-port';
import { audit } from '../audit';

const project = join(__dirname, '..', '..');
const place = process.env['NODE_RED_DIR'] ?? project;
const nodeRed = [place, join(place, 'node_modules', 'node-red')].find((folder) => existsSync(join(folder, 'red.js')))!;
const node = process.env['NODE_BIN'] ?? process.execPath;

export const nodeRedVersion: string = JSON.parse(readFileSync(join(nodeRed, 'package.json'), 'utf8')).version;

export type Flow = { id: string; type: string; [property: string]: unknown };

/** Holds a Node-RED from `start()` to `stop()`; NODE_RED_DIR and NODE_BIN name another one than the project's own. */
export class Installation {
  readonly #directory = mkdtempSync(join(tmpdir(), 'amqp10-editor-'));
  #stop = async (): Promise<void> => {};
  url = '';

  async start(): Promise<void> {
    const packed = join(this.#directory, 'packed');
    const user = join(this.#directory, 'user');
    mkdirSync(packed);
    mkdirSync(user);
    npm(project, 'pack', '--ignore-scripts', '--silent', '--pack-destination', packed);
    const [tarball] = readdirSync(packed);
    writeFileSync(join(user, 'package.json'), '{"name": "user-directory", "version": "0.0.1", "private": true}');
    npm(user, 'install', '--no-audit', '--no-fund', '--silent', join(packed, tarball!));

    const port = await freePort();
    const settings = join(user, 'settings.js');
    writeFileSync(
      settings,
      `module.exports = ${JSON.stringify({
        uiHost: '127.0.0.1',
        uiPort: port,
        // Not at the root, so that an absolute url in a form fails.
        httpAdminRoot: '/admin',
        flowFile: 'flows.json',
        credentialSecret: 'editor-test',
        telemetry: { enabled: false, updateNotification: false },
        editorTheme: { tours: false, multiplayer: { enabled: false } },
        externalModules: { palette: { allowInstall: false } },
      })};`,
    );
    const child = spawn(node, [join(nodeRed, 'red.js'), '-u', user, '-s', settings], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let log = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (log += data));
    const exited = once(child, 'exit');
    this.#stop = async () => {
      child.kill();
      await exited;
      audit('the output of Node-RED', log);
    };

    this.url = `http://127.0.0.1:${port}/admin`;
    // The admin routes come a moment after the server listens, so ask until the answer is there.
    while (!(await this.get('/nodes').then(Array.isArray, () => false))) {
      if (child.exitCode !== null) throw new Error(`Node-RED did not start:\n${log}`);
      await wait(50);
    }
  }

  async stop(): Promise<void> {
    await this.#stop();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async get(path: string): Promise<unknown> {
    const response = await fetch(this.url + path, { headers: { accept: 'application/json' } });
    if (!response.ok) throw new Error(`${path}: ${response.status}`);
    const answer = await response.json();
    audit(`GET ${path}`, answer);
    return answer;
  }

  flows(): Promise<Flow[]> {
    return this.get('/flows') as Promise<Flow[]>;
  }

  async deploy(flows: Flow[]): Promise<void> {
    const response = await fetch(`${this.url}/flows`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(flows),
    });
    if (response.status !== 204) throw new Error(`POST /flows: ${response.status} ${await response.text()}`);
  }
}

function npm(cwd: string, ...args: string[]): void {
  execFileSync('npm', args, { cwd, stdio: ['ignore', 'ignore', 'pipe'] });
}
