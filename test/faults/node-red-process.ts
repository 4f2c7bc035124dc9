// A Node-RED in a process of its own, to be killed: with the package as it is built, and reports of each message.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { node } from '../flow';
import { type NodeConfig, nodeRedDir } from '../node-red';
import { audit } from '../audit';
import type { Ledger } from './ledger';
import type { Feed, Report } from './reports';

const root = join(__dirname, '..', '..');
const PACKAGE = '@amqp10/node-red-amqp10';
const TSX = ['--require', 'tsx/cjs'];
const SETTINGS = join(__dirname, 'node-red-settings.ts');

export interface NodeRedOptions {
  /** Where messages go to, from the start on. */
  feed?: Feed;
  /** Further settings of Node-RED. */
  settings?: Record<string, unknown>;
  /** Further variables of its environment. */
  env?: Record<string, string>;
  /** By the id of their node; they are kept as they are. */
  credentials?: Record<string, Record<string, string>>;
  /** It reports nothing, and has nothing of the tests in its memory: to measure it. */
  isPlain?: boolean;
  /** It prints `<id> shows <text>` for each status: Status nodes get none that a node has from the start. */
  printsStatuses?: boolean;
}

/** Its user directory outlives the process: `start` again goes on with what a killed one has left there. */
export class NodeRedProcess {
  /** Numbers of what reached the flow and was not settled by it yet. */
  readonly held = new Set<number>();
  /** Numbers of what its flow was done with. */
  readonly worked = new Set<number>();
  /** Numbers of what it took and has not ended yet. */
  readonly taken = new Set<number>();
  /** Numbers of what reached the flow. */
  readonly got = new Set<number>();
  /** All that it printed since its start. */
  log = '';
  readonly #ledger: Ledger;
  readonly #reports = new EventEmitter();
  readonly #userDir: string;
  #child: ChildProcess | undefined;
  #closed: Promise<unknown> = Promise.resolve();
  readonly #lastResort = (): void => void this.#child?.kill('SIGKILL');

  /** Compiles the package under test. */
  static async build(): Promise<void> {
    await promisify(execFile)(process.execPath, [join('scripts', 'build.mjs')], { cwd: root });
  }

  /** What it reports goes into the ledger. Its user directory is made in `disk`. */
  constructor(ledger: Ledger, disk = tmpdir()) {
    this.#ledger = ledger;
    this.#userDir = mkdtempSync(join(disk, 'node-red-'));
    const modules = join(this.#userDir, 'node_modules');
    mkdirSync(join(modules, PACKAGE, '..'), { recursive: true });
    symlinkSync(root, join(modules, PACKAGE));
    process.once('exit', this.#lastResort);
  }

  /** Resolves once the flows run. */
  async start(flow: NodeConfig[], options: NodeRedOptions = {}): Promise<void> {
    const { env, credentials, ...others } = options;
    writeFileSync(join(this.#userDir, 'flows.json'), JSON.stringify(flow));
    if (credentials) writeFileSync(join(this.#userDir, 'flows_cred.json'), JSON.stringify(credentials));
    const red = [join(nodeRedDir, 'red.js'), '-u', this.#userDir, '-s'];
    const child = spawn(
      process.execPath,
      options.isPlain ? [...red, this.#plain(options)] : [...TSX, ...red, SETTINGS],
      {
        cwd: root,
        env: { ...process.env, ...env, HOME: this.#userDir, FAULTS: JSON.stringify({ dir: nodeRedDir, ...others }) },
        stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
      },
    );
    this.#child = child;
    this.log = '';
    this.held.clear();
    // Once all that it reported has been read.
    this.#closed = once(child, 'close');
    let rest = '';
    child.stdio[3]!.on('data', (chunk: Buffer) => {
      const lines = (rest + chunk.toString()).split('\n');
      rest = lines.pop()!;
      for (const line of lines) this.#take(JSON.parse(line));
    });
    await new Promise<void>((resolve, reject) => {
      const read = (chunk: Buffer): void => {
        this.log += chunk.toString();
        if (this.log.includes('Started flows')) resolve();
        this.#reports.emit('report');
      };
      child.stdout!.on('data', read);
      child.stderr!.on('data', read);
      child.once('error', reject);
      child.once('exit', (code) => reject(new Error(`Node-RED ended with ${code}:\n${this.log}`)));
    });
  }

  /** A file of settings that needs no TypeScript. */
  #plain({ settings }: NodeRedOptions): string {
    const file = join(this.#userDir, 'settings.js');
    const usual = join(root, 'scripts', 'node-red-settings.cjs');
    writeFileSync(
      file,
      `module.exports = { ...require(${JSON.stringify(usual)}), ...${JSON.stringify(settings ?? {})} };`,
    );
    return file;
  }

  /** Of the process that runs. */
  get pid(): number {
    return this.#child!.pid!;
  }

  /** Sends a signal, and resolves with the exit code and the signal that it ended by, after its last report. */
  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<[code: number | null, signal: string | null]> {
    const child = this.#child!;
    child.kill(signal);
    await this.#closed;
    audit('the output of Node-RED', this.log);
    return [child.exitCode, child.signalCode];
  }

  /** Resolves as soon as this is true; looked at after each report, and whenever it has printed something. */
  async until(isSo: () => boolean): Promise<void> {
    while (!isSo()) await once(this.#reports, 'report');
  }

  /** What was under way in a killed one has ended as well, and nobody was told. */
  forgetTaken(): void {
    for (const n of this.taken) this.#ledger.end(n, 'KILLED');
    this.taken.clear();
  }

  /** Kills it if it still runs, and removes what it has left behind. */
  async remove(): Promise<void> {
    if (this.#child && this.#child.exitCode === null && this.#child.signalCode === null) await this.end('SIGKILL');
    process.removeListener('exit', this.#lastResort);
    rmSync(this.#userDir, { recursive: true, force: true });
  }

  #take([what, n, code]: Report): void {
    const ledger = this.#ledger;
    switch (what) {
      case 'sent':
        if (ledger.next() !== n) ledger.violations.push(`${n} was sent out of turn`);
        this.taken.add(n);
        break;
      case 'done':
      case 'failed':
        this.taken.delete(n);
        ledger.end(n, code);
        break;
      case 'got':
        this.got.add(n);
        this.held.add(n);
        ledger.arrive(n);
        break;
      case 'worked':
        this.worked.add(n);
        break;
      case 'settled':
        this.held.delete(n);
        break;
      case 'unsettled':
        break;
    }
    this.#reports.emit('report');
  }
}

/** A sender that nothing is wired to. */
export function sender(properties: object = {}): NodeConfig {
  return node('amqp-sender', { wires: [[]], ...properties });
}

/** A flow that takes some milliseconds for each message, and settles it by a Complete node. */
export function consumer(properties: object = {}, pause = 10): NodeConfig[] {
  return [
    node('amqp-receiver', { settle: 'flow', wires: [['work']], ...properties }),
    { ...WORK, func: `setTimeout(() => node.done(), ${pause});`, wires: [[]] },
    { id: 'worked', type: 'complete', z: 'flow', x: 0, y: 0, scope: ['work'], wires: [['receiver']] },
  ];
}

/** A receiver that accepts what it gives to its flow, which is done with it at once. */
export function onArrival(properties: object = {}): NodeConfig[] {
  return [
    node('amqp-receiver', { settle: 'arrival', wires: [['work']], ...properties }),
    { ...WORK, func: 'return msg;', wires: [[]] },
  ];
}

/** A requester that nothing is wired to. */
export function asking(properties: object = {}): NodeConfig[] {
  return [node('amqp-requester', { wires: [[], []], ...properties })];
}

/** A flow that takes a while to answer each request. */
export function answering(properties: object = {}): NodeConfig[] {
  return [
    node('amqp-responder', { wires: [['work']], ...properties }),
    { ...WORK, func: 'setTimeout(() => { node.send(msg); node.done(); }, 5);', wires: [['responder']] },
  ];
}

const WORK = { id: 'work', type: 'function', z: 'flow', x: 0, y: 0, outputs: 1 };
