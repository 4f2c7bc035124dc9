// What is tried on each broker, written once. How a broker differs is data: see peers.ts.
import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import should from 'should';
import type { EndpointNode } from '../../nodes/flow/endpoint';
import { helper, type Msg } from '../flow';
import type { Broker, Queue } from './broker';
import type { Trial } from './trial';

export interface Feature {
  /** Its row in the compatibility table. */
  title: string;
  queues?: Queue[];
  topics?: string[];
  /** Resolves with 'works' or with how the peer differs; throws when what happens is neither. */
  try(trial: Trial): Promise<string>;
}

/** A receiver that holds messages until the flow settles them. */
const BY_FLOW = { settle: 'flow', creditwindow: 10 };
export const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);
const isWork = ({ payload }: Msg) => payload === 'work';
const payloads = (messages: Msg[]) => messages.map(({ payload }) => payload);

/** Loads a sender, has the message taken, and a receiver that has got it. */
async function held(trial: Trial, queue: string, payload: unknown = 'work'): Promise<Msg> {
  const address = trial.peer.queue(queue);
  await trial.load([trial.sender(address), trial.receiver({ ...address, ...BY_FLOW })]);
  const received = trial.inbox();
  await trial.deliver({ payload });
  return received.next();
}

/** What a source that asks for something comes to: it is loaded, and the peer's answer known. */
async function asked(trial: Trial, source: object): Promise<'connected' | 'ignored'> {
  await trial.load([trial.receiver(source)]);
  const settled = await trial.settled('receiver');
  if (settled === 'refused') throw new Error(trial.warnings('receiver').join());
  if (settled === 'ignored') should(trial.warnings('receiver').join()).match(/ignores: /);
  return settled;
}

/** How peers differ, in the words of docs/compatibility.md. */
export const TOLD = 'the broker does not do it, and the node tells';
/** What no client can find out: the peer confirms, and does not say what it is. */
export const UNTOLD = 'the broker confirms it, does not do it, and does not say what it is';
export const IGNORED = 'the broker ignores it';
export const NONE = 'the broker has none';
export const UNMARKED = 'not marked as redelivered';
export const MARKED = 'marked as redelivered, but not counted';
export const COUNTED = 'counts as a failed attempt, and only the last one leads there';
export const ELSEWHERE = 'kept for other receivers';
export const AGAIN = 'delivered again';
export const KEPT = 'unsubscribe does not delete the queue';
export const REJECTED = 'the broker rejects such messages';
export const REFUSED = 'refused, as this one is set up';
export const LOST = 'lost, as asked';
export const SURVIVED = 'kept all the same';
export const SIDE_BY_SIDE = 'both go on';
export const TURNED_AWAY = 'the second one is turned away, says why, and waits';
export const TAKEN_OVER = 'the second one takes over, and the first one says so, and waits';
export const SECOND_REFUSED = 'the second one is refused';

const request = (replies: object) => async (trial: Trial) => {
  const { peer } = trial;
  const address = peer.queue('requests');
  await trial.load([
    trial.requester({ ...address, ...replies, wires: [[], ['replies']] }),
    trial.responder({ ...address, wires: [['requests']] }),
  ]);
  const [requests, answers] = [trial.inbox('requests'), trial.inbox('replies')];
  if ((await trial.settled('requester')) === 'refused') return NONE;
  for (const n of numbers(20)) trial.send({ payload: n, own: `property ${n}` }, 'requester');
  for (const msg of (await requests.take(20)).toReversed()) {
    trial.send({ ...msg, payload: Number(msg.payload) ** 2 }, 'responder');
  }
  const replied = (await answers.take(20)).map(({ payload, own }) => ({ payload, own }));
  should(replied.toSorted((a, b) => Number(a.payload) - Number(b.payload))).eql(
    numbers(20).map((n) => ({ payload: n * n, own: `property ${n}` })),
  );
  return 'works';
};

const digest = (buffer: unknown) =>
  createHash('sha1')
    .update(buffer as Buffer)
    .digest('hex');

/** A message of so many bytes. */
const large = (bytes: number) => async (trial: Trial) => {
  const payload = randomBytes(bytes);
  const { payload: received, ...rest } = await held(trial, 'large', payload);
  should(digest(received)).equal(digest(payload));
  await settle(trial, rest, 'accept');
  return 'works';
};

async function settle(trial: Trial, msg: Msg, outcome: string): Promise<void> {
  const completed = trial.inbox('completed');
  trial.send({ ...msg, settle: outcome, payload: 'settled' }, 'receiver');
  await completed.until(({ payload }) => payload === 'settled');
}

/** Numbered messages through the queue, with something done to the broker in the middle. */
const throughout = (queue: string, interrupt: (trial: Trial) => Promise<void>) => async (trial: Trial) => {
  const address = trial.peer.queue(queue);
  await trial.load([trial.sender(address), trial.receiver(address)]);
  const [received, outcomes] = [trial.inbox(), trial.inbox('outcome')];
  const send = (n: number) => trial.send({ payload: n });
  numbers(200).forEach(send);
  await received.take(20);
  const over = interrupt(trial);
  for (const n of numbers(200)) send(200 + n);
  await over;
  await outcomes.distinct(400);
  should(outcomes.all.filter(({ sent }) => sent?.state !== 'accepted')).be.empty();
  await received.distinct(400);
  return 'works';
};

/** How many messages are there after a restart, and the reply that a flow gave before it. */
interface Left {
  durable: number;
  volatile: number;
  reply: unknown;
}

/** Restarting a broker takes longest, and once shows it all. */
const leftovers = new WeakMap<Broker, Promise<Left>>();

function left(trial: Trial): Promise<Left> {
  const { broker } = trial;
  if (!leftovers.has(broker)) leftovers.set(broker, restarted(trial));
  return leftovers.get(broker)!;
}

/** Nodes as they are dragged in, and a sender that was told otherwise; all that they sent is accepted, and then the broker restarted. */
async function restarted(trial: Trial): Promise<Left> {
  const { peer } = trial;
  const [durable, volatile, requests, replies] = ['durable', 'volatile', 'asked', 'replied'].map((name) =>
    peer.queue(name),
  );
  await trial.load([
    trial.sender(durable!),
    trial.sender({ id: 'volatile', ...volatile, durablemessages: false, wires: [['outcome']] }),
    trial.sender({ id: 'asks', ...requests, wires: [['outcome']] }),
    trial.responder({ ...requests, wires: [['responder']] }),
  ]);
  const [outcomes, replied] = [trial.inbox('outcome'), trial.inbox('completed')];
  for (const payload of numbers(100)) {
    trial.send({ payload });
    trial.send({ payload }, 'volatile');
  }
  trial.send({ payload: 'question', amqp: { reply_to: replies!.address, correlation_id: 'one' } }, 'asks');
  for (const { sent } of await outcomes.take(201)) should(sent!.state).equal('accepted');
  await replied.until(({ sent }) => sent?.address === replies!.address);
  await trial.unload();
  await trial.broker.restart!();
  // Sent behind what is left: once it is here, that is.
  const count = async (address: object): Promise<number> => {
    await trial.load([trial.receiver(address), trial.sender(address)]);
    const received = trial.inbox();
    await trial.deliver({ payload: 'last' });
    await received.until(({ payload }) => payload === 'last');
    await trial.unload();
    return new Set(payloads(received.all)).size - 1;
  };
  const counts = { durable: await count(durable!), volatile: await count(volatile!) };
  await trial.load([trial.receiver(replies!), trial.sender(replies!)]);
  const received = trial.inbox();
  await trial.deliver({ payload: 'last' });
  return { ...counts, reply: (await received.next()).payload };
}

/** A subscription that several receivers share. */
const shared = (subscription: string) => async (trial: Trial) => {
  const [receive, send] = [trial.peer.subscriber('prices', 'one'), trial.peer.topic('prices')];
  const source = { ...receive, subscription, subscriptionname: subscription };
  if ((await asked(trial, source)) === 'ignored') return TOLD;
  await trial.unload();
  await trial.load([trial.receiver(source), trial.receiver({ id: 'second', ...source }), trial.sender(send)]);
  await Promise.all([trial.settled('receiver'), trial.settled('second')]);
  const received = trial.inbox();
  await trial.deliver(...numbers(10).map((payload) => ({ payload })));
  await received.distinct(10);
  if (subscription === 'shared-durable') await unsubscribe(trial, 'receiver', 'second');
  should(received.all).have.length(10);
  return 'works';
};

async function unsubscribe(trial: Trial, ...ids: string[]): Promise<void> {
  const completed = trial.inbox('completed');
  for (const id of ids) trial.send({ action: 'unsubscribe' }, id);
  await completed.take(ids.length);
}

export const features = {
  message: {
    title: 'Bodies, properties, application properties, annotations',
    queues: [{ name: 'message' }],
    async try(trial) {
      const address = trial.peer.queue('message');
      await trial.load([trial.sender(address), trial.receiver(address)]);
      const received = trial.inbox();
      const amqp = {
        durable: true,
        priority: 7,
        subject: 'reading',
        message_id: 'one',
        correlation_id: 'two',
        reply_to: 'replies',
        group_id: 'group',
        application_properties: { room: 'kitchen €', floor: 2, large: 2 ** 40, warm: true, degrees: 21.5 },
        message_annotations: { 'x-opt-colour': 'red' },
      };
      for (const payload of ['grüße €', Buffer.from('0001feff', 'hex'), { a: 'b', n: 1 }, true, 42, 21.5, null]) {
        await trial.deliver({ payload, amqp });
        const msg = await received.next();
        should(msg.payload).eql(payload);
        should(msg.amqp).match(amqp);
      }
      return 'works';
    },
  },
  accept: {
    title: 'Accept: the message is gone',
    queues: [{ name: 'accept' }],
    async try(trial) {
      const msg = await held(trial, 'accept');
      await trial.depth('accept', 1);
      await settle(trial, msg, 'accept');
      await trial.depth('accept', 0);
      return 'works';
    },
  },
  release: {
    title: 'Release: delivered again',
    queues: [{ name: 'release' }],
    async try(trial) {
      const first = await held(trial, 'release');
      should(first.delivery?.redelivered).be.false();
      const again = trial.inbox();
      await settle(trial, first, 'release');
      const second = await again.next();
      should(second.payload).equal('work');
      await settle(trial, second, 'accept');
      await trial.depth('release', 0);
      return second.delivery?.redelivered ? 'works' : UNMARKED;
    },
  },
  modify: {
    title: 'Modify: delivered again as a failed attempt',
    queues: [{ name: 'modify' }],
    async try(trial) {
      const first = await held(trial, 'modify');
      const again = trial.inbox();
      await settle(trial, first, 'modify');
      const second = await again.next();
      should(second.payload).equal('work');
      const { delivery_count: count } = second.amqp ?? {};
      await settle(trial, second, 'accept');
      await trial.depth('modify', 0);
      if (count === 1) return 'works';
      return second.delivery?.redelivered ? MARKED : UNMARKED;
    },
  },
  reject: {
    title: 'Reject: to the dead letters',
    queues: [{ name: 'reject', deadLetters: 'dead' }, { name: 'dead' }],
    async try(trial) {
      const first = await held(trial, 'reject', 'poison');
      const again = trial.inbox();
      await settle(trial, first, 'reject');
      const isBuried = trial.depth('dead', 1).then(() => undefined);
      const second = await Promise.race([again.next(), isBuried]);
      if (second) await settle(trial, second, 'reject');
      await isBuried;
      await trial.depth('reject', 0);
      await trial.unload();
      await trial.load([trial.receiver(trial.peer.queue('dead'))]);
      should((await trial.inbox().next()).payload).equal('poison');
      return second ? COUNTED : 'works';
    },
  },
  undeliverable: {
    title: 'Modify with undeliverable_here: to the dead letters',
    queues: [{ name: 'undeliverable', deadLetters: 'undelivered' }, { name: 'undelivered' }],
    async try(trial) {
      const first = await held(trial, 'undeliverable');
      const again = trial.inbox();
      await settle(trial, { ...first, undeliverable_here: true }, 'modify');
      // Behind it in the queue: once this is here, it is elsewhere.
      await trial.deliver({ payload: 'next' });
      const next = await again.next();
      if (next.payload === 'work') return AGAIN;
      await settle(trial, next, 'accept');
      await trial.unload();
      await trial.load([
        trial.receiver(trial.peer.queue('undeliverable')),
        trial.receiver({ id: 'dead', ...trial.peer.queue('undelivered'), wires: [['buried']] }),
      ]);
      const [kept, buried] = [trial.inbox().until(isWork), trial.inbox('buried').until(isWork)];
      return Promise.race([kept.then(() => ELSEWHERE), buried.then(() => 'works')]);
    },
  },
  lost: {
    title: 'Connection lost with a message in the flow: delivered again',
    queues: [{ name: 'lost' }],
    async try(trial) {
      await held(trial, 'lost');
      const again = trial.inbox();
      await trial.broker.disconnect!();
      const second = await again.next();
      should(second.payload).equal('work');
      await settle(trial, second, 'accept');
      await trial.depth('lost', 0);
      // Whether it is marked as redelivered is chance with some (Artemis).
      return 'works';
    },
  },
  relay: {
    title: 'Anonymous relay (else the sender attaches to each address)',
    async try(trial) {
      await trial.load([trial.sender({ address: '' })]);
      await trial.settled('sender');
      const { connection } = (helper.getNode('broker') as EndpointNode).endpoint;
      return connection.offers('ANONYMOUS-RELAY') ? 'works' : NONE;
    },
  },
  addresses: {
    title: 'Sender with an address per message',
    queues: [{ name: 'one' }, { name: 'two' }],
    async try(trial) {
      const [one, two] = ['one', 'two'].map((name) => trial.peer.queue(name));
      await trial.load([
        trial.sender({ ...one, address: '' }),
        trial.receiver(one!),
        trial.receiver({ id: 'second', ...two, wires: [['other']] }),
      ]);
      await Promise.all([trial.settled('receiver'), trial.settled('second')]);
      const [first, second] = [trial.inbox(), trial.inbox('other')];
      await trial.deliver({ payload: 1, topic: one!.address }, { payload: 2, topic: two!.address });
      should((await first.next()).payload).equal(1);
      should((await second.next()).payload).equal(2);
      return 'works';
    },
  },
  request: {
    title: 'Request and reply: dynamic reply address',
    queues: [{ name: 'requests' }],
    try: request({ replyto: 'dynamic' }),
  },
  'request-capability': {
    title: 'Request and reply: reply address with capability temporary-queue',
    queues: [{ name: 'requests' }],
    try: request({ replyto: 'capability', replycapability: 'temporary-queue' }),
  },
  'request-fixed': {
    title: 'Request and reply: fixed reply address',
    queues: [{ name: 'requests' }, { name: 'replies' }],
    try: (trial) => request({ replyto: 'fixed', replyaddress: trial.peer.queue('replies').address })(trial),
  },
  competing: {
    title: 'Competing receivers: each message once',
    queues: [{ name: 'competing' }],
    async try(trial) {
      const address = trial.peer.queue('competing');
      const source = { ...address, creditwindow: 5 };
      await trial.load([trial.sender(address), trial.receiver(source), trial.receiver({ id: 'second', ...source })]);
      const received = trial.inbox();
      await trial.deliver(...numbers(20).map((payload) => ({ payload })));
      await received.distinct(20);
      await trial.depth('competing', 0);
      should(received.all).have.length(20);
      return 'works';
    },
  },
  topic: {
    title: 'Topic: each receiver gets each message',
    topics: ['news'],
    async try(trial) {
      const { peer } = trial;
      await trial.load([
        trial.sender(peer.topic('news')),
        trial.receiver(peer.subscriber('news', 'one')),
        trial.receiver({ id: 'second', ...peer.subscriber('news', 'two'), wires: [['other']] }),
      ]);
      await Promise.all([trial.settled('receiver'), trial.settled('second')]);
      const [first, second] = [trial.inbox(), trial.inbox('other')];
      await trial.deliver(...numbers(5).map((payload) => ({ payload })));
      should(payloads(await first.take(5))).eql(numbers(5));
      should(payloads(await second.take(5))).eql(numbers(5));
      return 'works';
    },
  },
  durable: {
    title: 'Durable subscription: kept while away, deleted by unsubscribe',
    topics: ['orders'],
    async try(trial) {
      const send = trial.peer.topic('orders');
      const subscriber = trial.peer.subscriber('orders', 'one');
      const source = { ...subscriber, subscription: 'durable', subscriptionname: 'ledger' };
      if ((await asked(trial, source)) === 'ignored') return TOLD;
      await trial.unload();
      await trial.load([trial.sender(send)]);
      await trial.deliver(...numbers(3).map((payload) => ({ payload })));
      await trial.unload();
      await trial.load([trial.receiver(source), trial.sender(send)]);
      const received = trial.inbox();
      should(payloads(await received.take(3))).eql(numbers(3));
      await unsubscribe(trial, 'receiver');
      await trial.deliver({ payload: 'nobody subscribes' });
      trial.send({ action: 'subscribe' }, 'receiver');
      await trial.settled('receiver');
      await trial.deliver({ payload: 'subscribed again' });
      const next = await received.next();
      await unsubscribe(trial, 'receiver');
      if (next.payload === 'nobody subscribes') return KEPT;
      should(next.payload).equal('subscribed again');
      return 'works';
    },
  },
  shared: { title: 'Shared subscription', topics: ['prices'], try: shared('shared') },
  'shared-durable': { title: 'Shared durable subscription', topics: ['prices'], try: shared('shared-durable') },
  selector: {
    title: 'Selector',
    queues: [{ name: 'selector' }],
    async try(trial) {
      const address = trial.peer.queue('selector');
      const source = { ...address, selector: "colour = 'red'" };
      const settled = await asked(trial, source);
      await trial.unload();
      await trial.load([trial.receiver(source), trial.sender(address)]);
      await trial.settled('receiver');
      const received = trial.inbox();
      if (settled === 'ignored') {
        await trial.deliver({ payload: 'for another' });
        await trial.depth('selector', 1);
        should(received.all).be.empty();
        return TOLD;
      }
      const colours = ['red', 'blue', 'red', 'green', 'red'];
      await trial.deliver(
        ...colours.map((colour) => ({ payload: colour, amqp: { application_properties: { colour } } })),
      );
      const taken = payloads(await received.take(3));
      if (taken.includes('blue')) return UNTOLD;
      should(taken).eql(['red', 'red', 'red']);
      await trial.depth('selector', 2);
      return 'works';
    },
  },
  browse: {
    title: 'Read without removing',
    queues: [{ name: 'browse' }],
    async try(trial) {
      const address = trial.peer.queue('browse');
      await trial.load([trial.sender(address)]);
      await trial.deliver(...numbers(3).map((payload) => ({ payload })));
      await trial.unload();
      const settled = await asked(trial, { ...address, browse: true });
      const received = trial.inbox();
      if (settled === 'connected') should(payloads(await received.take(3))).eql(numbers(3));
      await trial.unload();
      await trial.depth('browse', 3);
      await trial.load([trial.receiver(address), trial.sender(address)]);
      const consumed = trial.inbox();
      await trial.deliver({ payload: 'last' });
      if ((await consumed.next()).payload !== 0) return UNTOLD;
      if (settled === 'connected') return 'works';
      should(received.all).be.empty();
      return TOLD;
    },
  },
  ttl: {
    title: 'Time to live',
    queues: [{ name: 'ttl' }],
    async try(trial) {
      const address = trial.peer.queue('ttl');
      await trial.load([trial.sender(address)]);
      await trial.deliver({ payload: 'short-lived', amqp: { ttl: 200 } }, { payload: 'stays' });
      await trial.unload();
      await pause(1000); // what is tried here is time
      await trial.load([trial.receiver(address)]);
      return (await trial.inbox().next()).payload === 'stays' ? 'works' : IGNORED;
    },
  },
  delay: {
    title: 'Delayed delivery (x-opt-delivery-time)',
    queues: [{ name: 'delay' }],
    async try(trial) {
      const address = trial.peer.queue('delay');
      await trial.load([trial.sender(address), trial.receiver(address)]);
      const received = trial.inbox();
      const outcome = trial.inbox('outcome');
      trial.send({ payload: 'later', amqp: { message_annotations: { 'x-opt-delivery-time': Date.now() + 1500 } } });
      if ((await outcome.next()).sent?.state === 'rejected') return REJECTED;
      await trial.deliver({ payload: 'now' });
      const order = payloads(await received.take(2));
      return order[0] === 'now' ? 'works' : IGNORED;
    },
  },
  credit: {
    title: 'Messages in progress: never more than the window',
    queues: [{ name: 'credit' }],
    async try(trial) {
      const address = trial.peer.queue('credit');
      await trial.load([trial.sender(address), trial.receiver({ ...address, ...BY_FLOW, creditwindow: 5 })]);
      const received = trial.inbox();
      await trial.deliver(...numbers(20).map((payload) => ({ payload })));
      const [first] = await received.take(5);
      // What the peer does with this, it does after all that it has to send.
      await settle(trial, first!, 'accept');
      await received.next();
      should(received.all).have.length(6);
      for (let n = 1; n < 20; n++) {
        while (received.all.length <= n) await received.next();
        trial.send({ ...received.all[n], settle: 'accept' }, 'receiver');
      }
      await trial.depth('credit', 0);
      return 'works';
    },
  },
  '1MB': { title: 'Message of 1 MB', queues: [{ name: 'large' }], try: large(1e6) },
  '10MB': { title: 'Message of 10 MB', queues: [{ name: 'large' }], try: large(1e7) },
  anonymous: {
    title: 'Login: none (SASL ANONYMOUS)',
    async try(trial) {
      await trial.load([trial.sender({ address: '' })], { login: {} });
      return (await trial.settled('sender')) === 'connected' ? 'works' : REFUSED;
    },
  },
  certificate: {
    title: 'TLS, login by client certificate',
    queues: [{ name: 'secure' }],
    async try(trial) {
      const { broker, peer } = trial;
      if (!broker.tlsPort) return NONE;
      const endpoint = { port: broker.tlsPort, usetls: true, tls: 'tls' };
      await trial.load([trial.tls(), trial.sender(peer.queue('secure'))], { endpoint, login: {} });
      should(await trial.settled('sender')).equal('refused');
      await trial.unload();
      await trial.load([trial.tls('client'), trial.sender(peer.queue('secure'))], { endpoint, login: {} });
      await trial.deliver({ payload: 'secret' });
      return 'works';
    },
  },
  disconnect: {
    title: 'Connections closed by the administrator: nothing lost',
    queues: [{ name: 'disconnect' }],
    try: throughout('disconnect', (trial) => trial.broker.disconnect!()),
  },
  restart: {
    title: 'Broker restarted: nothing lost',
    queues: [{ name: 'restart' }],
    try: throughout('restart', (trial) => trial.broker.restart!()),
  },
  kept: {
    title: 'Broker restarted: 100 accepted messages of a new sender are there',
    queues: [{ name: 'durable' }],
    async try(trial) {
      should((await left(trial)).durable).equal(100);
      return 'works';
    },
  },
  volatile: {
    title: 'Broker restarted: 100 accepted messages of a sender with _Durable_ off',
    queues: [{ name: 'volatile' }],
    async try(trial) {
      const { volatile } = await left(trial);
      return volatile === 0 ? LOST : volatile === 100 ? SURVIVED : `${volatile} of 100 kept`;
    },
  },
  replied: {
    title: 'Broker restarted: the accepted reply of a new responder is there',
    queues: [{ name: 'asked' }, { name: 'replied' }],
    async try(trial) {
      should((await left(trial)).reply).equal('question');
      return 'works';
    },
  },
  kill: {
    title: 'Broker killed: what it had accepted is there',
    queues: [{ name: 'kill' }],
    async try(trial) {
      const address = trial.peer.queue('kill');
      await trial.load([trial.sender(address)]);
      await trial.deliver(...numbers(100).map((payload) => ({ payload })));
      await trial.unload();
      await trial.broker.kill!();
      await trial.broker.start!();
      await trial.load([trial.receiver(address)]);
      await trial.inbox().distinct(100);
      return 'works';
    },
  },
} satisfies Record<string, Feature>;

export type FeatureName = keyof typeof features;

/** Sends and resolves with 'taken', or with the peer's words for the first message that it refuses. */
async function refusal(trial: Trial, messages: object[]): Promise<string> {
  const outcomes = trial.inbox('outcome');
  for (const msg of messages) trial.send(msg);
  for (const { sent } of await outcomes.take(messages.length)) {
    const { code, condition = '', description = '' } = { code: '', ...sent?.error };
    if (sent?.state !== 'accepted') return `${sent?.state}: ${code} ${condition} ${description}`.trim();
  }
  return 'taken';
}

const WAITS = { timeout: 2 };
const ONE = [{ payload: 'one' }];
const LIMITED = { user: 'limited', pass: 'limited' };

/** What peers refuse. Resolves with 'taken', or with the words that a person gets to read. */
export const refusals = {
  source: {
    title: 'Receive from a queue that is not there',
    async try(trial) {
      await trial.load([trial.receiver(trial.peer.queue('nowhere'))]);
      const settled = await trial.settled('receiver');
      return settled === 'connected' ? 'taken' : trial.warnings('receiver').at(-1)!;
    },
  },
  target: {
    title: 'Send to a queue that is not there',
    async try(trial) {
      await trial.load([trial.sender({ ...trial.peer.queue('elsewhere'), ...WAITS })]);
      return refusal(trial, ONE);
    },
  },
  unroutable: {
    title: 'Send a message with an address of its own that is not there',
    async try(trial) {
      const { address, ...kind } = trial.peer.queue('astray');
      await trial.load([trial.sender({ ...kind, address: '', ...WAITS, retrytime: 0 })]);
      return refusal(trial, [{ payload: 'one', topic: address }]);
    },
  },
  write: {
    title: 'Send without permission',
    queues: [{ name: 'forbidden' }],
    async try(trial) {
      await trial.load([trial.sender({ ...trial.peer.queue('forbidden'), ...WAITS })], { login: LIMITED });
      return refusal(trial, ONE);
    },
  },
  read: {
    title: 'Receive without permission',
    queues: [{ name: 'forbidden' }],
    async try(trial) {
      await trial.load([trial.receiver(trial.peer.queue('forbidden'))], { login: LIMITED });
      const settled = await trial.settled('receiver');
      return settled === 'connected' ? 'taken' : trial.warnings('receiver').at(-1)!;
    },
  },
  password: {
    title: 'Wrong password',
    async try(trial) {
      await trial.load([trial.sender({ address: '' })], { login: { user: 'guest', pass: 'wrong' } });
      const settled = await trial.settled('sender');
      return settled === 'connected' ? 'taken' : trial.warnings('broker').at(-1)!;
    },
  },
  vhost: {
    title: 'Virtual host that is not there',
    async try(trial) {
      const endpoint = { hostname: trial.peer.hostname ?? 'nowhere' };
      await trial.load([trial.sender(trial.peer.queue('message'))], { endpoint });
      const settled = await trial.settled('sender');
      return settled === 'connected' ? 'taken' : trial.warnings('broker').at(-1)!;
    },
  },
  full: {
    title: 'Full queue',
    queues: [{ name: 'full', maxLength: 3 }],
    async try(trial) {
      await trial.load([trial.sender({ ...trial.peer.queue('full'), ...WAITS })]);
      return refusal(
        trial,
        numbers(10).map((payload) => ({ payload })),
      );
    },
  },
  size: {
    title: 'Message of 20 MB',
    queues: [{ name: 'size' }],
    async try(trial) {
      await trial.load([trial.sender({ ...trial.peer.queue('size'), timeout: 20 })]);
      return refusal(trial, [{ payload: Buffer.alloc(2e7) }]);
    },
  },
  duplicate: {
    title: 'A second durable subscription of the same name',
    topics: ['orders'],
    async try(trial) {
      const source = { ...trial.peer.subscriber('orders', 'one'), subscription: 'durable', subscriptionname: 'twice' };
      await trial.load([trial.receiver(source)]);
      if ((await trial.settled('receiver')) === 'ignored') return TOLD;
      await trial.unload();
      await trial.load([trial.receiver(source), trial.receiver({ id: 'second', ...source })]);
      const [first, second] = [trial.settled('receiver'), trial.settled('second')];
      const states = await Promise.all([first, second]);
      const words = [...trial.warnings('receiver'), ...trial.warnings('second')];
      return states.every((state) => state === 'connected') ? 'taken' : words[0]!;
    },
  },
} satisfies Record<string, Feature>;

export type RefusalName = keyof typeof refusals;
