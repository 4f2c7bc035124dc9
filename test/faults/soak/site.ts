// What is soaked: a flow of all four nodes, its broker, and the bad network in between; and the books of what becomes of
// each message, request and reply.
import { once, type EventEmitter } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { endpointNode, helper, node } from '../../flow';
import { nodeRedDir, type NodeConfig } from '../../node-red';
import { Broker } from '../../../broker/broker';
import { Ledger } from '../ledger';
import { Proxy } from '../proxy';
import { type Input, loadUnspied } from '../unspied';
import { Random } from './random';
import { drawVariant, type Variant } from './variant';
import { secretOf } from '../../secrets';

/** Seconds until a request fails. */
export const REPLY_TIMEOUT = 4;
/** Most messages unsettled at a time. */
export const WINDOWS = { load: 50, requests: 30 };
const IDLE = 2;
const LOGIN = { user: 'soak', pass: secretOf('password') };
const SETTINGS = { amqpEndpointReconnectTime: 20, amqpEndpointLoginRetryTime: 1000, amqpEndpointCloseTime: 2000 };
/** What a receiver may say of a msg that comes back too late. */
const STALE = new Set(['AMQP_DELIVERY_LOST', 'AMQP_DELIVERY_SETTLED', 'AMQP_DELIVERY_UNKNOWN']);
export type Deploy = 'nodes' | 'flows' | 'full';
export type Book = 'load' | 'requests' | 'replies';
type Mark = { round: number; n: number };
type Msg = { [property: string]: any };
type Done = (error?: Error) => void;
type Hooks = { add(id: string, hook: (event: any) => void): void; remove(id: string): void };

/** What each node is fed, and by which property of the msg its messages are known. */
const BOOK_OF: Record<string, Book> = { sender: 'load', requester: 'requests', responder: 'replies' };
const MARK_OF = { load: 'payload', requests: 'request', replies: 'reply' } as const;

const util = createRequire(join(nodeRedDir, 'package.json'))('@node-red/util') as {
  hooks: Hooks;
  events: EventEmitter;
};

/** The books of one round. */
export class Round {
  readonly books: Record<Book, Ledger> = { load: new Ledger(), requests: new Ledger(), replies: new Ledger() };
  /** When each request without an end was sent. */
  readonly pending = new Map<number, number>();
  /** Ended at the node, and not seen by Complete or Catch yet. */
  readonly unrouted: Record<Book, Map<number, string | undefined>> = {
    load: new Map(),
    requests: new Map(),
    replies: new Map(),
  };
  constructor(readonly number: number) {}
}

export class Site {
  round = new Round(0);
  /** What must not be. */
  readonly problems: string[] = [];
  /** Error codes seen by Catch nodes, with how often. */
  readonly codes = new Map<string, number>();
  /** Why connections were lost, with how often. */
  readonly losses = new Map<string, number>();
  #flow: NodeConfig[] = [];
  #deploys: Promise<unknown> = Promise.resolve();
  #versions = 0;
  /** While the flow is slow: what goes on afterwards. */
  #slowed: (() => void)[] | undefined;
  readonly #connections = new WeakSet<object>();

  /** Where Node-RED keeps its files. */
  readonly #userDir = mkdtempSync(join(tmpdir(), 'amqp-soak-'));

  static async start(seed: number): Promise<Site> {
    const users = { [LOGIN.user]: LOGIN.pass };
    const variant = drawVariant(new Random(seed, 'variant'));
    const broker = await Broker.start({
      users,
      maxDeliveries: Infinity,
      idleTimeout: 1000 * IDLE,
      ...variant.broker,
    });
    const site = new Site(seed, variant, broker, await Proxy.start(broker.port));
    await site.#load();
    return site;
  }

  private constructor(
    readonly seed: number,
    readonly variant: Variant,
    readonly broker: Broker,
    readonly proxy: Proxy,
  ) {
    broker.on('fault', (error) =>
      this.problems.push(`a connection broke the protocol: ${String(error?.stack ?? error)}`),
    );
  }

  async stop(): Promise<void> {
    util.hooks.remove('*.soak');
    await helper.unload();
    await this.proxy.stop();
    await this.broker.stop();
    rmSync(this.#userDir, { recursive: true });
  }

  // The flow

  async #load(): Promise<void> {
    const place = { z: 'flow', x: 0, y: 0 };
    const ends = ['sender', 'receiver', 'requester', 'responder'];
    this.#flow = [
      { id: 'flow', type: 'tab', label: 'flow' },
      endpointNode(this.proxy.port, { idletimeout: IDLE, connecttimeout: 5 }),
      node('amqp-sender', { address: 'load', body: 'json', wires: [[]], ...this.variant.sender }),
      node('amqp-receiver', {
        address: 'load',
        settle: 'flow',
        creditwindow: WINDOWS.load,
        settletimeout: 3,
        wires: [['work']],
        ...this.variant.receiver,
      }),
      { id: 'work', type: 'soak-work', ...place, wires: [[]] },
      { id: 'worked', type: 'complete', ...place, scope: ['work'], wires: [['receiver']] },
      { id: 'failed', type: 'catch', ...place, scope: ['work'], uncaught: false, wires: [['receiver']] },
      node('amqp-requester', {
        address: 'requests',
        body: 'json',
        timeout: REPLY_TIMEOUT,
        wires: [[], ['replied']],
        ...this.variant.requester,
      }),
      { id: 'replied', type: 'soak-replied', ...place, wires: [] },
      node('amqp-responder', {
        address: 'requests',
        creditwindow: WINDOWS.requests,
        settletimeout: 3,
        wires: [['answer']],
        ...this.variant.responder,
      }),
      { id: 'answer', type: 'soak-answer', ...place, wires: [] },
      { id: 'complete', type: 'complete', ...place, scope: ends, wires: [['completed']] },
      { id: 'completed', type: 'soak-completed', ...place, wires: [] },
      { id: 'catch', type: 'catch', ...place, scope: ends, uncaught: false, wires: [['caught']] },
      { id: 'caught', type: 'soak-caught', ...place, wires: [] },
    ];
    const inputs: Record<string, Input> = {
      'soak-work': (msg, _send, done) => this.#work(msg, done),
      'soak-replied': (msg) => this.#replied(msg),
      'soak-answer': (msg, _send, done) => this.#answer(msg, done),
      'soak-completed': (msg) => this.#routed(msg, msg['complete'].source.id),
      'soak-caught': (msg) => this.#caught(msg),
    };
    await loadUnspied(this.#flow, inputs, {
      settings: { ...SETTINGS, userDir: this.#userDir },
      credentials: { broker: LOGIN },
    });
    util.hooks.add('onComplete.soak', ({ node: { id }, msg, error }) => this.#ended(id, msg, error));
  }

  /** Deploys the flow with these nodes changed. One deploy at a time. */
  deploy(type: Deploy, changed: string[]): Promise<unknown> {
    const deploy = async (): Promise<void> => {
      this.#flow = this.#flow.map((config) =>
        changed.includes(config.id) ? { ...config, version: ++this.#versions } : config,
      );
      const started = once(util.events, 'flows:started');
      // The helper does not wait long for the start; the event comes all the same.
      await Promise.all([started, helper.setFlows(this.#flow, type).catch(() => {})]);
      this.watch();
    };
    return (this.#deploys = this.#deploys.then(deploy));
  }

  /** Notes why the connection is lost, whenever it is. */
  watch(): void {
    const { connection } = (helper.getNode('broker') ?? {}) as unknown as { connection?: EventEmitter };
    if (!connection || this.#connections.has(connection)) return;
    this.#connections.add(connection);
    connection.on('state', (state) => {
      if (!state.error) return;
      const { message } = state.error;
      if (/does not speak AMQP|sent a frame of/.test(message)) this.problems.push(`the endpoint says: ${message}`);
      count(this.losses, message);
    });
  }

  // Load

  /** Puts in so many messages and requests. What is asked of a node that is just restarted is left out. */
  feed(random: Random, messages: number, requests: number): void {
    for (; messages > 0; messages--) {
      // Most are small, few need several frames.
      const size = random.chance(0.005) ? random.integer(60_000, 200_000) : random.integer(0, 500);
      this.#feed('sender', { payload: { text: 'x'.repeat(size) } });
    }
    // Nobody waits longer for the reply, so a request that is older is of no use.
    for (; requests > 0; requests--) this.#feed('requester', { amqp: { ttl: 1500 * REPLY_TIMEOUT }, payload: {} });
  }

  #feed(id: 'sender' | 'requester', msg: Msg): void {
    const target = helper.getNode(id);
    if (!target) return;
    const book = BOOK_OF[id]!;
    const { round } = this;
    const mark: Mark = { round: round.number, n: round.books[book].next() };
    if (book === 'requests') round.pending.set(mark.n, performance.now());
    const property = book === 'requests' && { request: mark };
    target.receive({ ...msg, payload: { ...msg['payload'], ...mark }, ...property });
  }

  /** A msg for the receiver, as a flow would send it. */
  tell(msg: Msg): void {
    helper.getNode('receiver')?.receive(msg);
  }

  /** From now on the flow finishes nothing, until it is told otherwise. */
  slow(isSlow: boolean): void {
    const slowed = this.#slowed;
    this.#slowed = isSlow ? (slowed ?? []) : undefined;
    if (!isSlow) slowed?.forEach((go) => go());
  }

  #after(milliseconds: number, go: () => void): void {
    setTimeout(() => (this.#slowed ? this.#slowed.push(go) : go()), milliseconds);
  }

  #work(msg: Msg, done: Done): void {
    this.checkWindows();
    const { round, n } = msg['payload'] as Mark;
    if (round !== this.round.number) return void this.problems.push(`message ${n} of round ${round} came after it`);
    const { load } = this.round.books;
    load.arrive(n);
    const fate = new Random(this.seed, 'work', round, n, load.delivered.get(n)!);
    const roll = fate.next();
    const pause = fate.chance(0.3) ? fate.integer(0, 100) : 0;
    if (roll < 0.005) return; // forgotten: released by the time-out
    this.#after(pause, () => {
      if (roll < 0.035) return done(new Error('the flow has failed'));
      if (roll < 0.06) msg['settle'] = fate.pick(['release', 'modify', 'reject']);
      done();
    });
  }

  #answer(msg: Msg, done: Done): void {
    this.checkWindows();
    const { round, n } = msg['payload'] as Mark;
    if (round !== this.round.number) return void this.problems.push(`request ${n} of round ${round} came after it`);
    const { requests, replies } = this.round.books;
    requests.arrive(n);
    const fate = new Random(this.seed, 'answer', round, n, requests.delivered.get(n)!);
    const roll = fate.next();
    const pause = roll < 0.05 ? fate.integer(500, 1500) : fate.integer(0, 50);
    if (roll > 0.98) return; // never answered
    this.#after(pause, () => {
      if (roll > 0.96) return done(new Error('the flow has failed'));
      // Not by a wire: what a node sends that has been redeployed meanwhile goes nowhere. Without a responder the reply is
      // lost, and the request is delivered again.
      const reply = { round, n: replies.next() };
      const target = helper.getNode('responder');
      if (target) target.receive({ ...msg, payload: { reply: n }, reply });
      else replies.end(reply.n, 'there was no responder');
      done();
    });
  }

  #replied(msg: Msg): void {
    const { n } = msg['request'] as Mark;
    const { reply } = msg['payload'];
    if (reply !== n) this.problems.push(`request ${n} was given the reply to ${reply}`);
  }

  // Books

  /** A node has called done: that is what Complete and Catch nodes tell, as long as the flow is not being restarted. */
  #ended(id: string, msg: Msg, error?: { code?: string; message?: string }): void {
    const book = BOOK_OF[id];
    const mark = book && (msg[MARK_OF[book]] as Mark | undefined);
    if (!mark) return;
    const { round, n } = mark;
    if (round !== this.round.number) return void this.problems.push(`${book} ${n} of round ${round} ended after it`);
    const { unrouted, books, pending } = this.round;
    const { done, failed } = books[book];
    if (unrouted[book].has(n) || done.has(n) || failed.has(n)) this.problems.push(`${book} ${n} ended twice`);
    unrouted[book].set(n, error ? (error.code ?? error.message) : undefined);
    if (book === 'requests') pending.delete(n);
  }

  #routed(msg: Msg, id: string): void {
    const book = BOOK_OF[id];
    if (book) this.#end(book, (msg[MARK_OF[book]] as Mark).n);
  }

  #end(book: Book, n: number): void {
    const { unrouted, books } = this.round;
    const ledger = books[book];
    if (!unrouted[book].has(n)) this.problems.push(`${book} ${n} was routed without an end`);
    const code = unrouted[book].get(n);
    unrouted[book].delete(n);
    // Nobody is asked whether a reply came: its request may have been given up.
    if (book === 'replies' && code === undefined) ledger.arrive(n);
    ledger.end(n, code);
  }

  /** A message on disk is done; what becomes of it after that may be a failure still. */
  #failedLater({ round, n }: Mark, code: string): boolean {
    const { done, failed } = this.round.books.load;
    const isLater = round === this.round.number && done.delete(n);
    if (isLater) failed.set(n, code);
    return isLater;
  }

  /** Ends what no Complete or Catch node was told of: Node-RED routes nothing from flows that it restarts. */
  endUnrouted(): number {
    let ends = 0;
    for (const book of Object.keys(MARK_OF) as Book[]) {
      for (const n of this.round.unrouted[book].keys()) {
        this.#end(book, n);
        ends++;
      }
    }
    return ends;
  }

  #caught(msg: Msg): void {
    const { code, message, source } = msg['error'] as { code?: string; message: string; source: { id: string } };
    count(this.codes, `${source.id} ${code ?? message}`);
    const book = BOOK_OF[source.id];
    if (book === 'load' && this.variant.isStored && this.#failedLater(msg['payload'], code ?? message)) return;
    if (book && msg[MARK_OF[book]]) return this.#routed(msg, source.id);
    if (source.id === 'receiver' && STALE.has(code ?? '')) return;
    if (source.id === 'receiver' && msg['action']) return; // drain while there is no link
    this.problems.push(`${source.id} failed: ${code} ${message}`);
  }

  /** Ends connections of which the broker has not heard yet, as those made while the network was silent: it would wait for ever. */
  dropSilent(): void {
    for (const [socket, connection] of this.broker['sockets']) if (!connection?.is_open()) socket.destroy();
  }

  // What must be true at any time

  checkWindows(): void {
    for (const { info, queue, unsettled } of this.broker['attached'].values()) {
      if (!queue) continue;
      const window = WINDOWS[info.address as keyof typeof WINDOWS] ?? 500;
      if (unsettled.size > window)
        this.problems.push(`${unsettled.size} unsettled at ${info.name}, with a window of ${window}`);
    }
  }
}

export function count(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}
