// `npm start` as a person uses it, but for its home and user directory: those are scratch.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import should from 'should';
import { Broker } from '../../broker/broker';
import { audit } from '../audit';
import { secretOf } from '../secrets';

const root = join(__dirname, '..', '..');
const PASSWORD = secretOf('password', ':/ö');
const SHOWN = ['a message was sent and received', 'a request was answered', 'a message was processed'];

describe('npm start', function () {
  this.timeout(120_000);

  const directory = mkdtempSync(join(tmpdir(), 'start-'));
  const userDir = join(directory, 'user');
  const flowFile = join(userDir, 'flows.json');
  let child: ChildProcess | undefined;

  /** Resolves with what it printed, once all is running. */
  const start = async (command: string, ...args: string[]): Promise<string> => {
    const started = spawn(command, [...args, '--user-dir', userDir], {
      cwd: root,
      env: { ...process.env, HOME: directory },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true, // a process group of its own, as a terminal would make it
    });
    child = started;
    let output = '';
    await new Promise<void>((resolve, reject) => {
      const read = (chunk: Buffer) => {
        output += chunk.toString();
        if (output.includes('Ctrl-C stops')) resolve();
      };
      started.stdout.on('data', read);
      started.stderr.on('data', read);
      started.once('exit', (code) => reject(new Error(`ended with ${code}:\n${output}`)));
    });
    return output;
  };
  const npmStart = () => start('npm', 'start', '--');

  afterEach(() => {
    try {
      process.kill(-child!.pid!, 'SIGKILL');
    } catch {
      // nothing is left of the group, as it should be
    }
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  it('shows messages flowing in a Node-RED with the examples, until Ctrl-C', async () => {
    const output = await npmStart();
    for (const shown of SHOWN) output.should.containEql(`✔ ${shown}`);
    const page = await fetch(/Editor\s+(\S+)/.exec(output)![1]!);
    page.status.should.equal(200);
    (await page.text()).should.containEql('Node-RED');
    process.kill(-child!.pid!, 'SIGINT');
    await Promise.all(ports(output).map(closed));
    existsSync(join(directory, '.node-red')).should.be.false();
  });

  it('keeps the flows of the last start, and takes other ports where the usual ones are taken', async () => {
    const flows = readFileSync(flowFile, 'utf8');
    writeFileSync(flowFile, flows.replace('"01 Hello"', '"My own name"'));
    const taken = await Promise.all([1880, 5672].map(take));
    try {
      const output = await npmStart();
      for (const shown of SHOWN) output.should.containEql(`✔ ${shown}`);
      const [, broker] = ports(output);
      ports(output).should.not.containEql(1880).and.not.containEql(5672);
      const saved: { type: string; port: number }[] = JSON.parse(readFileSync(flowFile, 'utf8'));
      const endpoints = saved.filter(({ type }) => type === 'amqp-endpoint');
      new Set(endpoints.map(({ port }) => port)).should.deepEqual(new Set([broker]));
      readFileSync(flowFile, 'utf8').should.containEql('"My own name"');
      process.kill(child!.pid!, 'SIGTERM'); // npm alone: its shell does not pass that on
      await Promise.all(ports(output).map(closed));
    } finally {
      for (const server of taken) server?.close();
    }
  });

  it('uses the broker it is given, puts the password nowhere in the open, and ends without error', async () => {
    const broker = await Broker.start({ users: { 'me@home': PASSWORD }, anonymous: false });
    try {
      const login = `${encodeURIComponent('me@home')}:${encodeURIComponent(PASSWORD)}`;
      const options = ['--fresh', '--broker', `amqp://${login}@127.0.0.1:${broker.port}`];
      const output = await start(process.execPath, '--import', 'tsx', 'scripts/start.ts', ...options);
      for (const shown of SHOWN) output.should.containEql(`✔ ${shown}`);
      output.should.containEql(`:${broker.port}`);
      audit('the output', output);
      const saved = readFileSync(flowFile, 'utf8');
      saved.should.not.containEql('My own name');
      audit('the saved flow', saved);
      child!.kill('SIGINT');
      should(await once(child!, 'exit')).deepEqual([0, null]);
    } finally {
      await broker.stop();
    }
  });
});

/** Of the editor and of the broker. */
function ports(output: string): number[] {
  return [/Editor\s+(\S+)/, /Broker\s+(\S+)/].map((line) => Number(new URL(line.exec(output)![1]!).port));
}

/** Holds a port; undefined when somebody else does already. */
async function take(port: number): Promise<Server | undefined> {
  const server = createServer().listen(port, '127.0.0.1');
  return await once(server, 'listening').then(
    () => server,
    () => undefined,
  );
}

/** Waits until nobody listens on the port. */
async function closed(port: number): Promise<void> {
  for (;;) {
    const socket = connect(port, '127.0.0.1');
    try {
      await once(socket, 'connect');
    } catch {
      return;
    } finally {
      socket.destroy();
    }
    await delay(50);
  }
}
