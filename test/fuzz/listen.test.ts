// Feeds an endpoint that listens the bytes of hostile clients. It must live, work for one that behaves, and keep nothing.
//
// As in fuzz.test.ts: LISTEN_CASES=n cases, drawn from FUZZ_SEED=s, after the tricks.
import { once } from 'node:events';
import * as net from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import should from 'should';
import type { EndpointNode } from '../../nodes/flow/endpoint';
import type { Listener } from '../../nodes/lib/listen/listener';
import { connectTo, receiver, sender } from '../broker/client';
import { flow as flowOf, helper, inject, load, node } from '../flow';
import { freePort } from '../../scripts/free-port';
import { clients, listening, sendTo, takeFrom } from '../listen';
import { Draw, drawn, TRICKS } from './cases';
import * as amqp from './frames';
import {
  attach,
  begin,
  flow,
  INBOUND,
  type Link,
  LINKS,
  open,
  type Peer,
  type Stage,
  STAGES,
  transfer,
} from './hostile';

const SEED = Number(process.env['FUZZ_SEED'] ?? 1);
const CASES = Number(process.env['LISTEN_CASES'] ?? 3000);
/** Cases that are drawn share a connection, as long as it lasts. */
const BLOCK = 10;
/** Cases after which a client behaves. */
const BATCH = 250;
/** Milliseconds that a case may block the event loop for, and MB that may be left of all. */
const [MAX_BLOCKED, MAX_LEFT] = [8000, 30];

const ADDRESSES: Record<string, string> = { receiver: 'q', sender: 's', 'responder:request': 'rq' };

/** A client that behaves up to a stage, as `Peer` is a server that does. */
class Client implements Pick<Peer, 'stage' | 'link'> {
  readonly stage: Stage;
  readonly socket: net.Socket;
  isOver = false;
  readonly #links: Map<string, Link>;

  constructor(port: number, stage: Stage) {
    this.stage = stage;
    this.socket = net.connect(port, '127.0.0.1');
    const over = (): void => {
      this.isOver = true;
      this.socket.destroy();
    };
    this.socket.on('error', over).on('end', over).on('close', over).resume();
    this.#links = new Map(
      LINKS.map((name, handle) => {
        const isSender = !INBOUND.includes(name);
        const terminus = { value: [ADDRESSES[name] ?? 'q'] };
        const fields = [name, handle, isSender, null, null, terminus, terminus];
        return [name, { name, channel: 0, handle, isSender, fields, credit: 0, nextId: 0, count: 0, inFlight: [] }];
      }),
    );
  }

  link(name: string): Link {
    return this.#links.get(name)!;
  }

  async behave(): Promise<void> {
    await Promise.race([once(this.socket, 'connect'), once(this.socket, 'close')]);
    const at = STAGES.indexOf(this.stage);
    const links = LINKS.map((name) => this.link(name));
    const said: [Stage, (amqp.Plan | Buffer)[]][] = [
      ['sasl', [amqp.protocolHeader(at === 1 ? 3 : 0)]],
      ['begin', [open()]],
      ['attach', [begin(0, amqp.nul)]],
      ['attached', [...links.map(attach), flow(this.link('sender'), 100)]],
      ['delivering', [transfer(this.link('receiver'), 'half', { more: true })]],
    ];
    for (const [stage, parts] of said) if (at >= STAGES.indexOf(stage)) await this.write(parts.map(bytesOf));
  }

  async write(chunks: Buffer[]): Promise<void> {
    for (const chunk of chunks) {
      if (this.isOver) return;
      const isTaken = this.socket.write(chunk);
      await turn();
      if (isTaken || this.isOver) continue;
      const done = new AbortController();
      const { signal } = done;
      // It may be that it is not read any more.
      const events = [once(this.socket, 'drain', { signal }), once(this.socket, 'close', { signal }), pause(signal)];
      await Promise.race(events).catch(() => {});
      for (const one of events) one.catch(() => {});
      done.abort();
    }
    for (let i = 0; i < 3; i++) await turn();
  }
}

function pause(signal: AbortSignal): Promise<unknown[]> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve([]), 3000);
    signal.addEventListener('abort', () => clearTimeout(timer));
  });
}

const bytesOf = (one: amqp.Plan | Buffer): Buffer => (Buffer.isBuffer(one) ? one : amqp.write(one));

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
function memory(): number {
  for (let i = 0; i < 2; i++) collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / 2 ** 20;
}

describe('an endpoint that listens, with a hostile client,', function () {
  this.timeout(600_000);
  const { log, warn, error, trace } = console;
  let port: number;
  const faults: unknown[] = [];

  before(async () => {
    // rhea complains there (R20).
    console.log = console.warn = console.error = console.trace = () => {};
    await helper.startServer();
    port = await freePort();
    const configs = flowOf(
      listening(port, { connecttimeout: 3600 }),
      node('amqp-receiver', { wires: [['out']] }),
      node('amqp-sender', { address: 's', wires: [] }),
      node('amqp-responder', { address: 'rq', wires: [['responder']] }),
    );
    await load(configs);
    // What its spies remember of each call would be a leak here. Nodes have their own copies, hence the second start.
    (helper as unknown as { _sandbox: { restore(): void } })._sandbox.restore();
    await helper.setFlows(configs);
    const { endpoint } = helper.getNode('broker') as EndpointNode;
    (endpoint.links as Listener).on('fault', (fault) => void faults.push(fault));
    await clients(0);
  });
  after(async () => {
    Object.assign(console, { log, warn, error, trace });
    await helper.unload();
    await helper.stopServer();
  });

  /** A client that behaves, once all others are gone. */
  async function works(): Promise<void> {
    await clients(0);
    const connection = await connectTo(port);
    const out = helper.getNode('out') as unknown as NodeJS.EventEmitter;
    const arrived = once(out, 'input');
    should(await sendTo(await sender(connection, 'q'), 'hello')).eql({ state: 'accepted' });
    await arrived;
    const taken = takeFrom(await receiver(connection, 's'), 1);
    inject('sender', { payload: 'there' });
    should(await taken).eql(['there']);
    const closed = once(connection, 'connection_close');
    connection.close();
    await closed;
    await clients(0);
  }

  it(`lives, and works for others (FUZZ_SEED=${SEED}, ${TRICKS.length} tricks, ${CASES} cases)`, async () => {
    await works();
    const before = memory();
    let [peer, current, longest, connections] = [undefined as Client | undefined, '', 0, 0];
    const beat = { at: performance.now() };
    const heart = setInterval(() => {
      longest = Math.max(longest, performance.now() - beat.at - 20);
      beat.at = performance.now();
    }, 20);
    try {
      for (let number = 0; number < TRICKS.length + CASES; number++) {
        const trick = TRICKS[number];
        const block = new Draw(~SEED, Math.floor(number / BLOCK));
        current = `FUZZ_SEED=${SEED}, case ${number} (${trick?.name ?? 'drawn'})`;
        if (trick || number % BLOCK === 0) {
          peer?.socket.destroy();
          peer = undefined;
        }
        const stage = trick?.stage ?? (block.chance(50) ? 'attached' : block.pick(STAGES));
        if (!peer || peer.isOver) {
          peer = new Client(port, stage);
          connections++;
          await peer.behave();
        }
        // They use no more of it.
        const like = peer as unknown as Peer;
        await peer.write(trick ? trick.write(like) : drawn(new Draw(SEED, number), like));
        if (!trick && number % BATCH !== BATCH - 1) continue;
        peer.socket.destroy();
        peer = undefined;
        await works();
      }
    } catch (failure) {
      throw new Error(current, { cause: failure });
    } finally {
      clearInterval(heart);
      peer?.socket.destroy();
    }
    await works();
    const left = memory() - before;
    log(`      ${connections} connections, blocked for ${longest.toFixed(0)} ms, ${left.toFixed(1)} MB left`);
    should(faults.slice(0, 3)).eql([]);
    should(longest).be.below(MAX_BLOCKED);
    should(left).be.below(MAX_LEFT);
  });
});
