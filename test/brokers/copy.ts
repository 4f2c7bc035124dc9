// One of several Node-REDs that run the same flow: a process with a user directory of its own, and what tells it from the others.
import { type ChildProcess, spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type NodeConfig, nodeRedDir } from '../node-red';
import { run } from './broker';

const root = join(__dirname, '..', '..');
const PACKAGE = '@amqp10/node-red-amqp10';

/**
 * Builds the package in a folder of its own, and resolves with that: suites that run at the same time build it too, and
 * begin by deleting what was built before.
 */
export async function packed(): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'node-red-amqp10-'));
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  for (const name of ['nodes', 'icons', 'locales', 'resources', 'scripts', 'package.json', 'tsconfig.json'])
    cpSync(join(root, name), join(directory, name), { recursive: true });
  symlinkSync(join(root, 'node_modules'), join(directory, 'node_modules'));
  await run(process.execPath, [join(directory, 'scripts', 'build.mjs')]);
  return directory;
}

type Shown = { fill: string; text: string };
/** What a copy tells of a node: the status that it shows now, or what has reached it. */
export type Told = { id: string; status: Shown } | { id: string; payload: unknown };
/** What it is told to do: give a node a message, or deploy a flow. */
export type Order = { to?: string; msg?: object; flow?: object[] };

/** The environment variable by which a flow finds the broker: the flow file is the same for all copies. */
export const PORT = '${AMQP_PORT}';

export class Copy {
  /** Something has happened in one of the copies. */
  static readonly #changes = new EventEmitter();

  /** All statuses since its start, or since the last deploy. */
  shown: { id: string; status: Shown }[] = [];
  log = '';
  readonly #payloads = new Map<string, unknown[]>();
  readonly #userDir = mkdtempSync(join(tmpdir(), 'node-red-'));
  #child: ChildProcess | undefined;
  readonly #lastResort = (): void => void this.#child?.kill('SIGKILL');

  /** With the package in that folder, and these variables in its environment. */
  constructor(
    directory: string,
    private readonly env: Record<string, string>,
  ) {
    const modules = join(this.#userDir, 'node_modules');
    mkdirSync(join(modules, PACKAGE, '..'), { recursive: true });
    symlinkSync(directory, join(modules, PACKAGE));
    process.once('exit', this.#lastResort);
  }

  /** Resolves once the flow runs. */
  async start(flow: NodeConfig[], login: object = {}): Promise<void> {
    writeFileSync(join(this.#userDir, 'flows.json'), JSON.stringify(flow));
    writeFileSync(join(this.#userDir, 'flows_cred.json'), JSON.stringify({ broker: login }));
    this.shown = [];
    this.log = '';
    this.#payloads.clear();
    const red = [join(nodeRedDir, 'red.js'), '-u', this.#userDir, '-s', join(__dirname, 'copy-settings.ts')];
    const child = spawn(process.execPath, ['--require', 'tsx/cjs', ...red], {
      cwd: root,
      env: { ...process.env, HOME: this.#userDir, COPY: nodeRedDir, ...this.env },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    this.#child = child;
    child.on('message', (told: Told) => {
      if ('status' in told) this.shown.push(told);
      else this.got(told.id).push(told.payload);
      Copy.#changes.emit('change');
    });
    await new Promise<void>((resolve, reject) => {
      const read = (chunk: Buffer): void => {
        this.log += chunk.toString();
        if (this.log.includes('Started flows')) resolve();
      };
      child.stdout!.on('data', read);
      child.stderr!.on('data', read);
      child.once('error', reject);
      child.once('exit', (code) => reject(new Error(`Node-RED ended with ${code}:\n${this.log}`)));
    });
  }

  /** Payloads of all messages that have reached a node. */
  got(id: string): unknown[] {
    if (!this.#payloads.has(id)) this.#payloads.set(id, []);
    return this.#payloads.get(id)!;
  }

  /** What a node shows now. */
  status(id: string): Shown | undefined {
    return this.shown.findLast((shown) => shown.id === id)?.status;
  }

  /** Resolves as soon as this is true; looked at whenever something has happened in one of the copies. */
  static async until(isSo: () => boolean): Promise<void> {
    while (!isSo()) await once(Copy.#changes, 'change');
  }

  send(to: string, ...payloads: unknown[]): void {
    for (const payload of payloads) this.#child!.send({ to, msg: { payload } } satisfies Order);
  }

  deploy(flow: NodeConfig[]): void {
    this.shown = [];
    this.#child!.send({ flow } satisfies Order);
  }

  /** As an administrator stops it; its user directory stays for the next start. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    child.kill(signal);
    await once(child, 'exit');
  }

  /** Ends it, and removes all it left behind. */
  async remove(): Promise<void> {
    await this.end('SIGKILL');
    process.removeListener('exit', this.#lastResort);
    rmSync(this.#userDir, { recursive: true, force: true });
  }
}

/** One that finds the broker at a port of its own. */
export class RelayedCopy extends Copy {
  constructor(
    directory: string,
    readonly relay: Relay,
  ) {
    super(directory, { AMQP_PORT: String(relay.port) });
  }

  override async remove(): Promise<void> {
    await super.remove();
    await this.relay.stop();
  }
}

/** The container id: the first field of an open frame (2.7.1), here a string of less than 256 bytes. Undefined: not there yet. */
function clientIdIn(bytes: Buffer): string | undefined {
  const open = bytes.indexOf(Buffer.of(0, 0x53, 0x10));
  if (open < 0) return undefined;
  // Behind the head of the list of fields.
  const field = open + (bytes[open + 3] === 0xc0 ? 6 : 12);
  const length = bytes[field + 1]!;
  return bytes.toString('utf8', field + 2, field + 2 + length);
}

/** Carries what comes on a port of its own to the broker, and reads who it is from. */
export class Relay {
  /** The client ID of each connection that there was. */
  readonly clientIds: string[] = [];
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();

  static async to(target: { host: string; port: number }): Promise<Relay> {
    const relay = new Relay(target);
    relay.#server.listen(0, '127.0.0.1');
    await once(relay.#server, 'listening');
    return relay;
  }

  private constructor(target: { host: string; port: number }) {
    this.#server = net.createServer((near) => {
      const far = net.connect(target);
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(from);
        from.setNoDelay(true);
        from.on('error', () => {}); // 'close' follows, with all there is to do
        from.on('close', () => {
          this.#sockets.delete(from);
          to.destroy();
        });
        from.pipe(to);
      }
      let bytes = Buffer.alloc(0);
      const read = (chunk: Buffer): void => {
        bytes = Buffer.concat([bytes, chunk]);
        const id = clientIdIn(bytes);
        if (id === undefined) return;
        this.clientIds.push(id);
        near.off('data', read);
      };
      near.on('data', read);
    });
  }

  get port(): number {
    return (this.#server.address() as net.AddressInfo).port;
  }

  async stop(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}
