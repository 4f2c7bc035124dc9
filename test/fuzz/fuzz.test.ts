// Feeds the nodes the bytes of a hostile peer, while another endpoint works and must go on working.
//
// FUZZ_CASES=n cases, drawn from FUZZ_SEED=s. What fails is printed with seed and number; FUZZ_CASE=n runs it alone, which
// is after those before it on the same connection.
import { EventEmitter, once } from 'node:events';
import * as net from 'node:net';
import { setImmediate as turn, setTimeout as pause } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import rhea from 'rhea';
import should from 'should';
import type { EndpointNode } from '../../nodes/flow/endpoint';
import { endpointNode, flow, helper, inject, type Msg, node, nodes } from '../flow';
import { Broker } from '../../broker/broker';
import { Draw, drawn, TRICKS } from './cases';
import { Peer, type Stage, STAGES, transfer } from './hostile';

const SEED = Number(process.env['FUZZ_SEED'] ?? 1);
const LAST = Number(process.env['FUZZ_CASE'] ?? Number(process.env['FUZZ_CASES'] ?? 20_000) - 1);
/** Cases that are drawn share a connection, as long as it lasts. The first cases are the tricks. */
const BLOCK = 10;
const FIRST = process.env['FUZZ_CASE'] ? Math.max(LAST - (LAST % BLOCK), Math.min(LAST, TRICKS.length)) : 0;
/** Cases after which the peer is a broker for a while. */
const BATCH = 1000;
/** Bounds everything that is waited for, in milliseconds. */
const PATIENCE = 10_000;
/** Milliseconds that a case may block the event loop for; MB in use after a trick, and left of all that is drawn. */
const [MAX_BLOCKED, MAX_PEAK, MAX_LEFT] = [8000, 150, 20];
const FAULTS = ['uncaughtException', 'unhandledRejection', 'warning'] as const;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
function memory(): number {
  // Buffers are let go of only in the second.
  for (let i = 0; i < 2; i++) collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / 2 ** 20;
}
/** Timers and sockets. */
const resources = (): number => process.getActiveResourcesInfo().filter((one) => /Timeout|TCPSocket/.test(one)).length;

/** Ends the process when its event loop hangs or its memory runs away, and names the case: nothing else could. */
const WATCHDOG = `
  const { workerData: { shared, seed } } = require('node:worker_threads');
  let beat, since;
  setInterval(() => {
    const [now, rss] = [performance.now(), process.memoryUsage.rss() / 2 ** 20];
    if (Atomics.load(shared, 0) !== beat) [beat, since] = [Atomics.load(shared, 0), now];
    if (now - since < 20_000 && rss < 3000) return;
    const text = rss < 3000 ? 'the event loop hangs' : 'memory runs away';
    require('node:fs').writeSync(2, text + ': FUZZ_SEED=' + seed + ' FUZZ_CASE=' + Atomics.load(shared, 1) + '\\n');
    process.kill(process.pid, 'SIGKILL');
  }, 100);`;

const victim = (type: string, id: string, address: string, properties: object): ReturnType<typeof node> =>
  node(type, { id, address, endpoint: 'victim', ...properties });
const flows = (victimPort: number, otherPort: number): ReturnType<typeof flow> =>
  flow(
    endpointNode(victimPort, { id: 'victim' }),
    victim('amqp-sender', 'sender', 'q', { retrytime: 0.2, wires: [[]] }),
    victim('amqp-receiver', 'receiver', 'q', { settle: 'flow', creditwindow: 20, wires: [['received']] }),
    victim('amqp-requester', 'requester', 'rq', { timeout: 600, wires: [[], ['received']] }),
    victim('amqp-responder', 'responder', 'rq', { wires: [['responder']] }),
    node('helper', { id: 'received', wires: [] }),
    endpointNode(otherPort, { id: 'other' }),
    node('amqp-sender', { id: 'other-sender', endpoint: 'other', address: 'other', wires: [[]] }),
    node('amqp-receiver', { id: 'other-receiver', endpoint: 'other', address: 'other', wires: [['out']] }),
  );

const on = (id: string, listener: (msg: Msg) => void): void =>
  void helper.getNode(id).on('input', listener as () => void);

/** Waits, but not for ever. */
async function patiently<T>(promise: Promise<T>, what: string | (() => string)): Promise<T> {
  const done = new AbortController();
  const late = pause(PATIENCE, undefined, { signal: done.signal }).then(() => {
    throw new Error(`waited too long for ${typeof what === 'string' ? what : what()}`);
  });
  late.catch(() => {});
  return Promise.race([promise, late]).finally(() => done.abort());
}

describe('the nodes with a hostile peer', function () {
  this.timeout(900_000);

  const { log, warn, error, trace } = console;
  const listeners = FAULTS.map((event) => process.listeners(event as 'warning'));
  const failures = new Map<string, string>();
  let current = { number: FIRST, name: 'start', bytes: Buffer.alloc(0) };
  function fail(fault: unknown): void {
    const text = fault instanceof Error ? (fault.stack ?? fault.message) : String(fault);
    const { number, name, bytes } = current;
    const hex = bytes.subarray(0, 1000).toString('hex');
    const report = `FUZZ_SEED=${SEED} FUZZ_CASE=${number} (${name})\n${text}\nbytes: ${hex}\n`;
    // Of one cause there may be many.
    failures.set(text.split('\n', 3).join(), failures.get(text.split('\n', 3).join()) ?? report);
  }

  const shared = new Int32Array(new SharedArrayBuffer(8));
  let watchdog: Worker;
  let heart: NodeJS.Timeout;
  let [beat, longest] = [0, 0];
  function tick(): void {
    Atomics.add(shared, 0, 1);
    const blocked = beat === 0 ? 0 : performance.now() - beat - 20;
    if (blocked > MAX_BLOCKED) fail(`the event loop was blocked for ${blocked.toFixed(0)} ms`);
    longest = Math.max(longest, blocked);
    beat = performance.now();
  }

  let hostile: net.Server;
  let broker: Broker;
  let [stage, peer]: [Stage, Peer | undefined] = ['attached', undefined];
  /** The peer is the broker. */
  let isBroker = false;
  const arrivals = new EventEmitter<{ peer: [Peer] }>();
  const sockets = new Set<net.Socket>();
  let [connections, trips, sent] = [0, 0, 0];
  /** Numbers of the msgs that have not ended yet. */
  const pending = new Set<unknown>();
  const received = new EventEmitter();
  const closing = new AbortController();
  let other: Promise<void>;

  function accept(socket: net.Socket): void {
    sockets.add(socket);
    socket.on('error', () => {}).on('close', () => sockets.delete(socket));
    if (!isBroker) return void arrivals.emit('peer', new Peer(socket, stage));
    const onward = net.connect(broker.port, '127.0.0.1');
    onward.on('error', () => {}).on('close', () => socket.destroy());
    socket.on('close', () => onward.destroy());
    socket.pipe(onward).pipe(socket);
  }

  before(async () => {
    for (const event of FAULTS) process.removeAllListeners(event).on(event, fail);
    // rhea complains there (R20).
    console.log = console.warn = console.error = console.trace = () => {};
    await helper.startServer();
    broker = await Broker.start();
    hostile = net.createServer({ allowHalfOpen: true }, accept).listen(0, '127.0.0.1');
    await once(hostile, 'listening');
    helper.settings({ amqpEndpointReconnectTime: 1, amqpEndpointLoginRetryTime: 1 });
    const configs = flows((hostile.address() as net.AddressInfo).port, broker.port);
    await helper.load(nodes, configs);
    // What its spies remember of each call would be a leak here. Nodes have their own copies, hence the second start.
    (helper as unknown as { _sandbox: { restore(): void } })._sandbox.restore();
    await helper.setFlows(configs);
    (helper.getNode('victim') as EndpointNode).endpoint.connection.options.backoff.max = 1;
    for (const id of ['completed', 'caught']) on(id, (msg) => pending.delete(msg['fuzz']));
    on('received', (msg) => {
      const settle = isBroker ? 'accept' : new Draw(SEED, sent).pick(['accept', 'reject', 'release', 'modify']);
      // What is not settled is to be bounded all the same.
      if (msg.payload !== 'held') inject('receiver', { delivery: msg.delivery, settle, error: { message: 'no' } });
      received.emit(String(msg.payload), msg);
    });
    watchdog = new Worker(WATCHDOG, { eval: true, execArgv: [], workerData: { shared, seed: SEED } });
    heart = setInterval(tick, 20);
    other = work();
  });

  after(async () => {
    closing.abort();
    await other;
    await helper.unload();
    await helper.stopServer();
    for (const socket of sockets) socket.destroy();
    hostile.close();
    await broker.stop();
    clearInterval(heart);
    await watchdog.terminate();
    FAULTS.forEach((event, index) => {
      process.removeAllListeners(event);
      for (const listener of listeners[index]!) process.on(event, listener as () => void);
    });
    Object.assign(console, { log, warn, error, trace });
  });

  /** Has the other endpoint work all the time. */
  async function work(): Promise<void> {
    while (!closing.signal.aborted) {
      const arrived = once(helper.getNode('out') as unknown as EventEmitter, 'input') as Promise<[Msg]>;
      inject('other-sender', { payload: ++trips });
      const ended = patiently(arrived, 'a message of the other endpoint');
      await ended.then(([msg]) => should(msg.payload).equal(trips)).catch(fail);
      await pause(10);
    }
  }

  function send(id: string, payload: unknown): void {
    pending.add(++sent);
    inject(id, { payload, fuzz: sent });
  }

  /** The endpoint's next connection, as far as the stage. Once attached, a message goes each way. */
  async function connect(): Promise<Peer> {
    for (;;) {
      for (const socket of sockets) socket.resetAndDestroy();
      const [next] = await patiently(once(arrivals, 'peer') as Promise<[Peer]>, 'the next attempt to connect');
      const until = async (is: () => boolean, what: string): Promise<void> => {
        const events = (): Promise<unknown> => Promise.race([once(next, 'frame'), once(next, 'over')]);
        while (!next.isOver && !is())
          await patiently(events(), () => `${what}; there are ${[...next.links.keys()].join()}`);
      };
      connections++;
      await until(() => next.isReady, stage);
      if (!next.isOver && next.isBeyond('attach')) {
        const incoming = once(received, `in ${++sent}`);
        next.send(transfer(next.link('receiver'), `in ${sent}`));
        await patiently(Promise.race([incoming, once(next, 'over')]), 'a message in');
        const { inFlight } = next.link('sender');
        if (inFlight.length === 0) send('sender', 'out');
        await until(() => inFlight.length > 0, 'a message out');
      }
      if (stage === 'delivering') next.send(transfer(next.link('receiver'), 'half', { more: true }));
      if (!next.isOver) return next;
    }
  }

  async function write(to: Peer, chunks: Buffer[]): Promise<void> {
    current.bytes = Buffer.concat(chunks.map((chunk) => chunk.subarray(0, 1000)));
    for (const chunk of chunks) {
      await to.write(chunk);
      await turn();
    }
    for (let i = 0; i < 3; i++) await turn();
  }

  async function run(number: number): Promise<void> {
    const trick = TRICKS[number];
    const block = new Draw(~SEED, Math.floor(number / BLOCK));
    Atomics.store(shared, 1, number);
    current = { number, name: trick?.name ?? 'drawn', bytes: Buffer.alloc(0) };
    if (trick || number % BLOCK === 0) peer = undefined;
    stage = trick?.stage ?? (block.chance(50) ? 'attached' : block.pick(STAGES));
    if (!peer || peer.isOver) peer = await connect();
    while (pending.size < 10) for (const id of ['sender', 'requester']) send(id, { a: 1 });
    await write(peer, trick ? trick.write(peer) : drawn(new Draw(SEED, number), peer));
    if (!trick) return;
    const { frames } = peer;
    await pause(stage === 'open' ? 300 : 50);
    if (stage === 'open' && peer.frames > frames + 50) fail(`${peer.frames - frames} frames without being asked`);
    should(memory()).be.below(MAX_PEAK);
  }

  /** The peer behaves: the endpoint comes back by itself, and everything that was under way ends. */
  async function recover(): Promise<void> {
    current.name += ', recovery';
    [isBroker, peer] = [true, undefined];
    for (const socket of sockets) socket.destroy();
    const texts = ['sender', 'requester'].map((id) => `${id} ${sent}`);
    const arrived = Promise.all(texts.map((text) => once(received, text)));
    for (const text of texts) send(text.split(' ')[0]!, text);
    await patiently(arrived, 'messages through a broker');
    const deadline = performance.now() + PATIENCE;
    while (pending.size > 0 && performance.now() < deadline) await pause(5);
    if (pending.size > 0) throw new Error(`${pending.size} msgs have not ended`);
    [isBroker, stage] = [false, 'attached'];
    await connect();
  }

  /** What one connection must not do to others. */
  function checkProcess(): void {
    for (const name of Object.keys(Object.prototype)) fail(`Object.prototype.${name}`);
    // rhea gives this array to each empty list that it reads.
    const { value } = (rhea.types as unknown as { List0(): { value: unknown[] } }).List0();
    if (value.length > 0) fail(`the empty list has ${value.length} elements`);
    value.length = 0;
  }

  it(`survives, lets another endpoint work, and recovers (FUZZ_SEED=${SEED}, ${LAST - FIRST + 1} cases)`, async () => {
    await recover();
    const [start, used] = [performance.now(), resources()];
    let before = memory();
    for (let number = FIRST; number <= LAST && failures.size < 5; number++) {
      try {
        await run(number);
        checkProcess();
        if (TRICKS[number] || number % BATCH === BATCH - 1 || number === LAST) await recover();
      } catch (fault) {
        fail(fault);
        [isBroker, peer] = [false, undefined];
        pending.clear();
      }
      if (number === TRICKS.length + BATCH) before = memory();
    }
    await pause(100);
    const [left, more, seconds] = [memory() - before, resources() - used, (performance.now() - start) / 1000];
    log(
      `      ${connections} connections in ${seconds.toFixed(0)} s, ${trips} messages of the other endpoint, ` +
        `blocked for ${longest.toFixed(0)} ms, ${before.toFixed(0)} + ${left.toFixed(1)} MB, ${more} more timers and sockets`,
    );
    should([...failures.values()].join('\n')).equal('');
    should(left).be.below(MAX_LEFT);
    should(more).be.below(20);
  });
});
