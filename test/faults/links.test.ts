// Faults of single links and sessions, of messages, of clocks, and what they are to requests.
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import should from 'should';
import { collect, helper, inject, type Msg, node } from '../flow';
import type { PeerError } from '../../broker/broker';
import type { Ledger } from './ledger';
import {
  connected,
  helperNode,
  inNodeRed,
  ledgerOf,
  order,
  range,
  type Run,
  send,
  sendOne,
  shows,
  start,
  under,
  work,
} from './run';

/** The sender's address is another one than the receiver's, so that a fault has only one of the two links. */
async function startApart(options: Parameters<typeof start>[0] = {}): Promise<Run> {
  const run = await start({ sender: { address: 'in' }, receiver: { settle: 'flow' }, ...options });
  const { broker } = run;
  broker.on('message', (address: string, { body }: { body: unknown }) => {
    if (address !== 'in') return;
    broker.put('q', { body });
    broker.purge('in');
  });
  return run;
}

const SIBLINGS = [
  node('amqp-sender', { id: 'sibling-sender', address: 'sibling', wires: [] }),
  node('amqp-receiver', { id: 'sibling-receiver', address: 'sibling', wires: [['sibling-out']], settle: 'flow' }),
  helperNode('sibling-out'),
];

function siblingLedger(): Ledger {
  const ledger = ledgerOf({ sender: 'sibling-sender', out: 'sibling-out' });
  work('sibling-out', 'sibling-receiver');
  return ledger;
}

const ERROR = { condition: 'amqp:resource-deleted', description: 'by the test' };
type Fault = (run: Run, address: string) => void;
const detached =
  (closed: boolean, error: PeerError): Fault =>
  ({ broker }, address) =>
    broker.detach(address, { closed, ...error });
const ended =
  (error: PeerError): Fault =>
  ({ broker }, address) =>
    broker.endSessions(address, error);

/** Has the flow keep the very first message, and each other one until some have come after it. */
function linger(at: string, to: string): { keep(): void; end(): void } {
  let lag = 20;
  let isFirst = true;
  const recent: Msg[] = [];
  const kept: Msg[] = [];
  const handOn = (): void => {
    for (const msg of recent.splice(0, Math.max(0, recent.length - lag))) inject(to, msg);
  };
  helper.getNode(at).on('input', (msg) => {
    if (!isFirst) recent.push(msg);
    isFirst = false;
    handOn();
  });
  return {
    /** Has it keep what it has, until the end. */
    keep: () => void kept.push(...recent.splice(0)),
    end() {
      lag = 0;
      recent.unshift(...kept);
      handOn();
    },
  };
}

/** Messages that the flow fails, each time they come. */
const isPoison = (n: number): boolean => n % 100 === 7;

describe('under faults of links', () => {
  inNodeRed();

  // Once it is no fault; again within seconds, it is.
  const QUIET = ['connecting', 'the peer detached the link', 'the peer ended the session'];
  const FAULTS: [name: string, fault: Fault, ...told: string[]][] = [
    ['is detached with an error, closed', detached(true, ERROR), ERROR.condition],
    ['is detached with an error, not closed', detached(false, ERROR), ERROR.condition],
    [
      'is detached with qd:routed-link-lost',
      detached(true, { condition: 'qd:routed-link-lost' }),
      'qd:routed-link-lost',
    ],
    ['is detached with amqp:link:redirect', detached(true, { condition: 'amqp:link:redirect' }), 'amqp:link:redirect'],
    [
      'is detached with amqp:link:stolen',
      detached(true, { condition: 'amqp:link:stolen' }),
      'reason.client-id',
      'client ID in use',
    ],
    ['is detached without an error, closed', detached(true, {}), ...QUIET],
    ['is detached without an error, not closed', detached(false, {}), ...QUIET],
    ['has its session ended with an error', ended(ERROR), ERROR.condition],
    ['has its session ended without an error', ended({}), ...QUIET],
  ];
  for (const [role, address] of [
    ['sender', 'in'],
    ['receiver', 'q'],
  ] as const) {
    for (const [name, fault, ...told] of FAULTS) {
      it(`nothing is lost when a ${role} ${name}, and its siblings do not notice`, async () => {
        const run = await startApart({ nodes: SIBLINGS });
        const sibling = siblingLedger();
        const strike = async (): Promise<void> => {
          const refused = Promise.race(told.map((text) => shows(role, text)));
          fault(run, address);
          await refused;
        };
        await Promise.all([
          under(strike, { to: run.ledger, count: 400, times: 3 }),
          send(400, sibling, { id: 'sibling-sender' }).then(() => sibling.settle()),
        ]);
        run.ledger.check(`${role} ${name} 3 times`).failed.should.equal(0);
        order(run.ledger).should.eql(range(0, 400));
        sibling.check('... its sibling').should.match({ failed: 0, duplicated: 0 });
        run.connections.should.equal(1);
        run.broker.connections().should.equal(1);
      });
    }
  }

  it('messages wait while there is no credit, and go in order when it comes 1 at a time', async () => {
    const { broker, ledger } = await startApart({ prepare: (it) => it.holdCredit('in') });
    for (let i = 0; i < 500; i++) sendOne(ledger);
    should(await shows('sender', 'buffering 500')).match({ fill: 'yellow', shape: 'dot' });
    for (let given = 1; given <= 500; given++) {
      broker.giveCredit('in', 1);
      await ledger.until(({ done }) => done.size >= given);
      ledger.done.size.should.equal(given);
    }
    await ledger.settle();
    ledger.check('credit withheld, then 1 at a time').should.match({ failed: 0, duplicated: 0 });
    order(ledger).should.eql(range(0, 500));
    await connected('sender');
  });

  it('2,100 messages held by one receiver stop neither it nor another one (R9, R32)', async () => {
    const holder = node('amqp-receiver', {
      id: 'holder',
      address: 'held',
      settle: 'flow',
      creditwindow: 2200,
      wires: [['held']],
    });
    const filler = node('amqp-sender', { id: 'filler', address: 'held', wires: [] });
    const run = await start({ receiver: { settle: 'flow' }, nodes: [holder, filler, helperNode('held')] });
    const { broker, ledger, caught } = run;
    const held = ledgerOf({ sender: 'filler', out: 'held' });
    const kept: Msg[] = [];
    helper.getNode('held').on('input', (msg) => {
      const taken = msg as Msg;
      if ((taken.payload as { n: number }).n < 2100) kept.push(taken);
      else inject('holder', taken);
    });
    await send(2100, held, { id: 'filler' });
    await held.settle();
    broker.unsettled('held').should.equal(2100);

    await Promise.all([send(1500, ledger), send(1500, held, { id: 'filler' })]);
    await Promise.all([ledger.settle(), held.settle()]);
    ledger.check('beside 2,100 held').should.match({ failed: 0, duplicated: 0 });
    order(ledger).should.eql(range(0, 1500));
    while (broker.unsettled('held') > 2100) await once(broker, 'settled');

    for (const msg of kept) inject('holder', msg);
    while (broker.unsettled('held') > 0) await once(broker, 'settled');
    held.check('2,100 held').should.match({ failed: 0, duplicated: 0 });
    const settled = broker.dispositions.filter(({ address }) => address === 'held');
    settled.length.should.equal(3600);
    settled.every(({ state }) => state === 'accepted').should.equal(true);
    caught.should.eql([]);
    run.connections.should.equal(1);
  });

  it('messages that the flow always fails end as dead letters, and all others are processed', async () => {
    const { broker, ledger } = await start({
      broker: { maxDeliveries: 5 },
      receiver: { settle: 'flow', onerror: 'modify' },
      isPoison,
    });
    await send(1000, ledger);
    await ledger.settle();
    while (broker.depth('q') > 0) await once(broker, 'settled');
    ledger.check('poison messages').should.match({ failed: 0, duplicated: 40 });
    const poison = range(0, 1000).filter(isPoison);
    const letters = broker.messages('DLQ').map((letter) => letter?.body.n as number);
    letters.toSorted((a, b) => a - b).should.eql(poison);
    for (const [n, times] of ledger.delivered) times.should.equal(isPoison(n) ? 5 : 1);
  });

  it('messages that cannot be decoded are rejected, and all others are processed', async () => {
    const run = await start({ receiver: { settle: 'flow' } });
    const { broker, ledger, caught } = run;
    await under(() => broker.put('q', Buffer.from('0053', 'hex')), { to: ledger, count: 1000, times: 9 });
    while (broker.depth('q') > 0) await once(broker, 'settled');
    ledger.check('undecodable messages').should.match({ failed: 0, duplicated: 0 });
    broker.ready('DLQ').should.equal(9);
    caught.map(({ error }) => error!.code).should.eql(Array(9).fill('AMQP_DECODE'));
    run.connections.should.equal(1);
  });
});

describe('when the clock jumps', () => {
  inNodeRed();

  const RealDate = Date;
  afterEach(() => void (globalThis.Date = RealDate));

  function jump(by: number): void {
    globalThis.Date = class extends RealDate {
      constructor(...args: unknown[]) {
        super(...((args.length > 0 ? args : [RealDate.now() + by]) as [number]));
      }
      static override now(): number {
        return RealDate.now() + by;
      }
    } as DateConstructor;
  }

  /** Seconds; long when compared with how long each message and request takes. */
  const TIMEOUT = 1.5;
  const NODES = [
    node('amqp-requester', { address: 'rpc', timeout: TIMEOUT, wires: [[], ['answer']] }),
    node('amqp-responder', { address: 'rpc', settletimeout: 60, wires: [['asked']] }),
    ...['answer', 'asked'].map(helperNode),
  ];

  for (const [name, by] of [
    ['forward', 86_400_000],
    ['backward', -86_400_000],
  ] as const) {
    it(`by a day ${name}, only what is due expires`, async () => {
      const { broker, ledger, caught } = await start({
        sender: { timeout: TIMEOUT },
        receiver: { settle: 'flow', settletimeout: TIMEOUT },
        nodes: NODES,
        isIdle: true,
      });
      const asked = ledgerOf({ sender: 'requester', out: 'answer' });
      const flows = [linger('out', 'receiver'), linger('asked', 'responder')];
      const over = new AbortController();
      // The first two are due in time. When they are, others that came before the jump are not.
      const released = new Promise<void>((resolve) => {
        broker.on('settled', ({ state }) => state === 'released' && resolve());
      });
      const expired = asked.until(({ failed }) => failed.size > 0);
      void Promise.all([released, expired]).then(() => {
        over.abort();
        for (const one of flows) one.end();
      });
      const load = async (to: Ledger, id: string): Promise<void> => {
        while (!over.signal.aborted) await send(50, to, { id, atOnce: 50 });
        await to.settle();
      };
      const loads = [load(ledger, 'sender'), load(asked, 'requester')];
      // Time is what is tested here: late, but long before they are due.
      await delay((TIMEOUT * 1000 * 2) / 3);
      for (const one of flows) one.keep();
      jump(by);
      await Promise.all(loads);
      while (broker.depth('q') > 0) await once(broker, 'settled');
      ledger.check(`clock a day ${name}`).should.match({ failed: 0, duplicated: 1 });
      asked.check(`clock a day ${name}: requests`);
      [...asked.failed].should.eql([[0, 'AMQP_REPLY_TIMEOUT']]);
      broker.dispositions.filter(({ state }) => state !== 'accepted').length.should.equal(1);
      caught.map(({ error }) => error!.source.id).should.eql(['requester']);
    });
  }
});

describe('requests under faults', () => {
  inNodeRed();

  const COUNT = 600;

  const FAULTS: [name: string, fault: (run: Run) => unknown][] = [
    [
      'the broker is gone without a word',
      async ({ broker }) => {
        await broker.stop();
        await broker.resume();
      },
    ],
    ['TCP is reset', ({ proxy }) => proxy.reset()],
    ['the sessions of requests are ended', ({ broker }) => broker.endSessions('rpc', { condition: 'amqp:not-found' })],
    [
      'the sessions of replies are ended',
      ({ broker }) => {
        for (const { address, role } of broker.links())
          if (role === 'receiver' && address.startsWith('dynamic-')) broker.endSessions(address);
      },
    ],
  ];
  /** Requests that get no answer. */
  const IGNORED = [50, 300, 550];
  const RUNS = [
    ...FAULTS.map((fault) => ({
      fault,
      reconnect: 'resend',
      settle: 'arrival',
      times: 5,
      timeout: 15,
      ignored: [] as number[],
    })),
    // Requests that come again here have a reply address that is gone, more of them with each time.
    { fault: FAULTS[0]!, reconnect: 'resend', settle: 'reply', times: 1, timeout: 3, ignored: IGNORED },
    { fault: FAULTS[0]!, reconnect: 'fail', settle: 'arrival', times: 5, timeout: 3, ignored: IGNORED },
  ];
  for (const {
    fault: [name, fault],
    reconnect,
    settle,
    times,
    timeout,
    ignored,
  } of RUNS) {
    it(`each request ends once, with its own reply or none, when ${name} ("${reconnect}", settled on ${settle})`, async () => {
      const run = await start({
        isProxied: true,
        nodes: [
          node('amqp-requester', { address: 'rpc', timeout, reconnect, wires: [[], ['answer']] }),
          node('amqp-responder', { address: 'rpc', settle, creditwindow: 10 * COUNT, wires: [['asked']] }),
          ...['answer', 'asked'].map(helperNode),
        ],
      });
      const ledger = ledgerOf({ sender: 'requester', out: 'answer' });
      // Answers come in another order than questions.
      const open: Msg[] = [];
      helper.getNode('asked').on('input', (msg) => {
        const { n } = msg.payload as { n: number };
        if (ignored.includes(n) || open.push(msg) > 1) return;
        setImmediate(() => {
          for (const one of open.splice(0).toReversed()) inject('responder', one);
        });
      });
      const answers = collect('answer');
      await under(() => fault(run), { to: ledger, count: COUNT, times, id: 'requester' });
      ledger.check(`requests: ${name} ${times} times, ${reconnect}, ${settle}`);
      for (const { n, payload } of answers) should(payload).eql({ n });
      if (reconnect === 'resend') {
        should(new Map(ledger.failed)).eql(new Map(ignored.map((n) => [n, 'AMQP_REPLY_TIMEOUT'])));
      } else {
        const codes = new Set(ledger.failed.values());
        codes.has('AMQP_IN_DOUBT').should.equal(true);
        codes.delete('AMQP_REPLY_TIMEOUT');
        [...codes].should.eql(['AMQP_IN_DOUBT']);
      }
    });
  }
});
