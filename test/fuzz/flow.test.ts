// Gives the nodes what only a careless flow does, against a broker that behaves. Each msg has to end once, with a code of ours;
// what was accepted has to be decoded again; and nothing may cost the connection.
//
// FLOW_CASES=n cases, drawn from FLOW_SEED=s; FLOW_CASE=n runs one alone.
import { once } from 'node:events';
import { setImmediate as turn, setTimeout as pause } from 'node:timers/promises';
import { inspect } from 'node:util';
import should from 'should';
import { endpointNode, flow, helper, inject, type Msg, node, nodes } from '../flow';
import { Broker } from '../../broker/broker';
import { Draw } from './cases';

const SEED = Number(process.env['FLOW_SEED'] ?? 1);
const ONE = process.env['FLOW_CASE'];
const [FIRST, LAST] = ONE ? [Number(ONE), Number(ONE)] : [0, Number(process.env['FLOW_CASES'] ?? 600) - 1];
/** Milliseconds in which each msg has to end. */
const PATIENCE = 10_000;
const FAULTS = ['uncaughtException', 'unhandledRejection'] as const;

function deep(levels: number, wrap: (inner: unknown) => unknown): unknown {
  let value: unknown = 1;
  for (let level = 0; level < levels; level++) value = wrap(value);
  return value;
}
class Custom {
  value = 1;
}
const cyclic: Record<string, unknown> = {};
cyclic['self'] = cyclic;
const nulls = (count: number): unknown => ({
  $amqp: 'array',
  of: 'null',
  value: Array.from({ length: count }, () => null),
});
const fails = (): never => {
  throw new Error('of the flow');
};

/** Values of all kinds: each anew, since Node-RED and the nodes may change them. */
const VALUES: ((d: Draw) => unknown)[] = [
  () => null,
  () => undefined,
  (d) => d.chance(50),
  (d) => d.pick([0, -0, 1, -1, 255, 256, 2 ** 31, 2 ** 32, 2 ** 53, 1e300, -1e300, 0.5, NaN, Infinity]),
  (d) => d.pick([0n, 2n ** 63n, 2n ** 64n, -(2n ** 63n), 10n ** 30n]),
  (d) => d.pick(['', 'text', 'ü€😀', '\ud800', 'a\nb\u001b[31m', '\0', '2020-01-01', '5', 'x'.repeat(100_000)]),
  (d) => Buffer.alloc(d.pick([0, 1, 16, 300])),
  () => new Uint8Array(3),
  (d) => new Date(d.pick([0, NaN, 8.64e15])),
  () =>
    new Map<unknown, unknown>([
      [1, 'a'],
      [{ $amqp: 'int', value: 1 }, 'b'],
    ]),
  () => new Map([[new Map([['a', 1]]), 2]]),
  () => new Set([1, 'a']),
  () => Symbol('x'),
  () => fails,
  () => new Custom(),
  () => cyclic,
  () => ({ toJSON: fails }),
  () => ({ toString: null, valueOf: null }),
  () => JSON.parse('{"__proto__": {"a": 1}}') as unknown,
  (d) => nulls(d.pick([0, 1000, 1025, 3000])),
  (d) => ({
    $amqp: d.pick(['int', 'ulong', 'uuid', 'binary', 'symbol', 'map', 'list', 'array', 'nonsense', 5]),
    value: d.pick(SIMPLE)(d),
  }),
  (d) => ({ $amqp: 'described', descriptor: d.pick(SIMPLE)(d), value: d.pick(SIMPLE)(d) }),
  (d) => deep(d.pick([20, 126, 127, 128, 129, 500]), d.pick([(inner) => [inner], (inner) => ({ a: inner })])),
  (d) => deep(d.pick([20, 100]), (inner) => new Map([[inner, 1]])),
];
const SIMPLE = VALUES.slice(0, 9);
const anything = (d: Draw): unknown =>
  d.chance(80) ? d.pick(VALUES)(d) : d.pick([() => [d.pick(VALUES)(d), 1], () => ({ a: d.pick(VALUES)(d), b: 2 })])();

const FIELDS = (
  'durable priority ttl first_acquirer delivery_count message_id user_id to subject reply_to correlation_id content_type ' +
  'content_encoding absolute_expiry_time creation_time group_id group_sequence reply_to_group_id delivery_annotations ' +
  'message_annotations application_properties footer body_type nonsense'
).split(' ');
const RIGHT: Record<string, (d: Draw) => unknown> = {
  content_type: (d) => d.pick(['application/json', 'text/plain', 'x']),
  body_type: (d) => d.pick(['value', 'data', 'sequence']),
  to: (d) => d.pick(['back', 'x'.repeat(70_000)]),
  application_properties: (d) => ({ a: d.pick(SIMPLE)(d) }),
  message_annotations: (d) => ({ 'x-a': anything(d) }),
};

function fields(d: Draw): Record<string, unknown> | undefined {
  if (d.chance(30)) return undefined;
  return Object.fromEntries(
    d.times(0, 4, () => {
      const name = d.pick(FIELDS);
      return [name, d.chance(60) ? (RIGHT[name] ?? d.pick(SIMPLE))(d) : anything(d)];
    }),
  );
}

/** How a flow settles: rightly, or not. */
const settlement = (d: Draw): object => ({
  ...(d.chance(80) && { settle: d.chance(80) ? d.pick(['accept', 'reject', 'release', 'modify']) : anything(d) }),
  ...(d.chance(60) && {
    error: d.chance(80)
      ? {
          condition: d.pick([undefined, 'amqp:not-allowed', 'grün', 'x'.repeat(300), 5]),
          description: d.pick([undefined, 'why', 'x'.repeat(100_000), 5]),
          info: d.pick([undefined, { a: 1 }, { a: 1e300 }, { a: 2n ** 70n }, { a: 'x'.repeat(100_000) }, anything(d)]),
        }
      : anything(d),
  }),
  ...(d.chance(50) && {
    annotations: d.pick([{ 'x-a': 1 }, { 'x-a': 2n ** 70n }, { 'x-a': 'x'.repeat(100_000) }, anything(d)]),
  }),
});

function on(id: string, listener: (msg: Msg) => void): void {
  helper.getNode(id).on('input', listener as never);
}

describe('the nodes in a careless flow', function () {
  this.timeout(600_000);

  let broker: Broker;
  let connections = 0;
  const faults: unknown[] = [];
  const listeners = FAULTS.map((event) => process.listeners(event as 'uncaughtException'));
  /** What has been given to nodes and has not ended yet, by number. */
  const pending = new Map<number, (error?: Msg['error']) => void>();
  /** Requests that the responder has given to the flow, and messages that the receiver has. */
  const [requests, held]: [Msg[], Msg[]] = [[], []];

  before(async () => {
    for (const event of FAULTS) process.removeAllListeners(event).on(event, (fault) => faults.push(fault));
    await helper.startServer();
    broker = await Broker.start({ maxFrameSize: 4096, maxDeliveries: 2 });
    broker.on('connection', () => connections++);
    helper.settings({ amqpEndpointReconnectTime: 5 });
    const none = { wires: [[]] };
    await helper.load(
      nodes,
      flow(
        endpointNode(broker.port),
        node('amqp-sender', { id: 'sender', address: 'back', timeout: 5, retrytime: 1, ...none }),
        node('amqp-sender', { id: 'anywhere', address: '', timeout: 5, retrytime: 1, ...none }),
        node('amqp-receiver', { id: 'receiver', address: 'jobs', settle: 'flow', settletimeout: 1, wires: [['held']] }),
        node('amqp-requester', { id: 'requester', address: 'rq', timeout: 2, wires: [[], []] }),
        node('amqp-responder', { id: 'responder', address: 'rq', settletimeout: 1, wires: [['requests']] }),
        node('amqp-receiver', { id: 'back', address: 'back', output: 'typed', wires: [['arrived']] }),
        ...['held', 'requests', 'arrived'].map((id) => node('helper', { id, wires: [] })),
      ),
    );
    // What its spies remember of each call would be too much.
    (helper as unknown as { _sandbox: { restore(): void } })._sandbox.restore();
    on('held', (msg) => held.push(msg));
    on('requests', (msg) => requests.push(msg));
    on('completed', (msg) => pending.get(msg['fuzz'] as number)?.());
    // Of the receiver that reads back what was accepted.
    on('caught', ({ error, fuzz, payload }) => {
      pending.get(fuzz as number)?.(error);
      if (fuzz === undefined && error?.source.id === 'back') faults.push([error.message, payload]);
    });
  });

  after(async () => {
    await helper.unload();
    await helper.stopServer();
    await broker.stop();
    FAULTS.forEach((event, index) => {
      process.removeAllListeners(event);
      for (const listener of listeners[index]!) process.on(event, listener);
    });
  });

  /** Gives a msg to a node. Resolves with the error that it ended with. */
  async function ended(id: string, msg: object, number: number): Promise<Msg['error']> {
    const end = new Promise<Msg['error']>((resolve) => pending.set(number, resolve));
    inject(id, { ...msg, fuzz: number });
    const late = new AbortController();
    const late_ = pause(PATIENCE, undefined, { signal: late.signal }).then(
      () => Promise.reject(new Error(`a msg to the ${id} has not ended: ${inspect(msg).slice(0, 300)}`)),
      () => new Promise<never>(() => {}),
    );
    try {
      return await Promise.race([end, late_]);
    } finally {
      late.abort();
      pending.delete(number);
    }
  }

  async function run(number: number): Promise<void> {
    const d = new Draw(SEED, number);
    const id = d.pick(['sender', 'sender', 'anywhere', 'requester', 'responder', 'receiver', 'receiver']);
    const msg: Record<string, unknown> = { payload: anything(d), amqp: fields(d) };
    if (d.chance(20)) msg['topic'] = d.pick(['back', 'x'.repeat(70_000), 5, undefined]);
    if (d.chance(10)) msg['delivery'] = anything(d);
    if (d.chance(5)) msg['amqp'] = anything(d);
    if (id === 'receiver') {
      broker.put('jobs', { body: number, message_id: number });
      while (held.length === 0) await once(helper.getNode('held') as never, 'input');
      const { delivery } = held.shift()!;
      Object.assign(msg, settlement(d), { delivery: d.chance(90) ? delivery : anything(d) });
      if (d.chance(10)) msg['credit'] = anything(d);
      if (d.chance(10)) msg['action'] = d.pick(['resume', 'nonsense', anything(d)]);
    }
    if (id === 'responder') {
      inject('requester', { payload: number });
      while (requests.length === 0) await once(helper.getNode('requests') as never, 'input');
      Object.assign(msg, { delivery: requests.shift()!.delivery });
    }
    const error = await ended(id, msg, number);
    if (error && !/^AMQP_[A-Z_]+$/.test(String(error.code)))
      throw new Error(`an error without a code: ${error.message}`);
    while (requests.length > 5) requests.shift();
  }

  it(`end each msg once, keep their connection, and take again what they have sent (FLOW_SEED=${SEED})`, async () => {
    const failures: string[] = [];
    for (let number = FIRST; number <= LAST && failures.length < 5; number++) {
      const count = connections;
      await run(number).catch((error: Error) => failures.push(`FLOW_CASE=${number}: ${error.message}`));
      await turn();
      for (const fault of faults.splice(0))
        failures.push(`FLOW_CASE=${number}: ${String((fault as Error).stack ?? fault)}`);
      if (connections > Math.max(1, count)) failures.push(`FLOW_CASE=${number}: the connection was lost`);
    }
    should(failures.join('\n')).equal('');
    const arrived = once(helper.getNode('arrived') as never, 'input') as Promise<[Msg]>;
    should(await ended('sender', { payload: 'last' }, -1)).equal(undefined);
    await arrived;
  });
});
