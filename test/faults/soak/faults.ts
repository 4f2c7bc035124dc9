// The faults that a soak run draws from.
import { setTimeout as delay } from 'node:timers/promises';
import type { Answer, PeerError } from '../../../broker/broker';
import type { Random } from './random';
import type { Deploy, Site } from './site';

/** A fault with all its parameters. */
export interface Fault {
  name: string;
  /** The parameters, in words. */
  text: string;
  /** Milliseconds from the beginning of the round. */
  start: number;
  /** Begins and ends it. */
  run(site: Site): unknown;
}

type Draft = Pick<Fault, 'text' | 'run'>;

/** Conditions that peers give. */
const ERRORS: PeerError[] = [
  {},
  { condition: 'amqp:internal-error', description: 'something broke' },
  { condition: 'amqp:resource-limit-exceeded' },
  { condition: 'amqp:connection:forced', description: 'maintenance' },
];
/** Ends of the links: '' has the replies of the responder, and the asking for a reply address. */
const ADDRESSES = ['load', 'requests', '', 'reply'] as const;

const KINDS: Record<string, (random: Random) => Draft> = {
  'broker stopped'(random) {
    const ms = random.integer(50, 3000);
    return {
      text: `${ms} ms`,
      async run({ broker }) {
        await broker.stop();
        await delay(ms);
        await broker.resume();
      },
    };
  },
  'connection reset': (random) => often(random, '', ({ proxy }) => proxy.reset()),
  'connection silent'(random) {
    const ms = random.integer(50, 4000);
    return lasting(`${ms} ms`, ms, ({ proxy }, isOn) => (proxy.silent = isOn));
  },
  'bytes dribble'(random) {
    const ms = random.integer(200, 3000);
    return lasting(`${ms} ms`, ms, ({ proxy }, isOn) => (proxy.dribbling = isOn));
  },
  latency(random) {
    const ms = random.integer(500, 4000);
    const latency = random.integer(5, 400);
    return lasting(`${latency} ms for ${ms} ms`, ms, ({ proxy }, isOn) => (proxy.latency = isOn ? latency : 0));
  },
  'connection closed'(random) {
    const error = random.pick(ERRORS);
    return often(random, error.condition ?? 'no error', ({ broker }) => broker.closeConnections(error));
  },
  'link detached'(random) {
    const to = random.pick(ADDRESSES);
    const error = { closed: random.chance(0.6), ...random.pick(ERRORS) };
    return often(random, `"${to}" ${JSON.stringify(error)}`, (site) => site.broker.detach(addressOf(site, to), error));
  },
  'session ended'(random) {
    const to = random.pick(ADDRESSES);
    const error = random.pick(ERRORS);
    return often(random, `"${to}" ${error.condition ?? 'no error'}`, (site) =>
      site.broker.endSessions(addressOf(site, to), error),
    );
  },
  'no credit'(random) {
    const to = random.pick(['load', 'requests', ''] as const);
    const ms = random.integer(200, 3000);
    const drops = random.integer(0, 3);
    return {
      text: `"${to}" for ${ms} ms, ${drops} times a little`,
      async run({ broker }) {
        broker.holdCredit(to);
        for (let i = 0; i < drops; i++) {
          await delay(ms / (drops + 1));
          broker.giveCredit(to, 3);
        }
        await delay(ms / (drops + 1));
        broker.giveCredit(to);
      },
    };
  },
  'messages refused'(random) {
    const to = random.pick(['load', 'requests', 'reply'] as const);
    const answer: Answer = random.pick(['reject', 'release', 'modify']);
    const ms = random.integer(100, 2000);
    return {
      text: `${answer} at "${to}" for ${ms} ms`,
      async run(site) {
        const address = addressOf(site, to);
        site.broker.answer(address, answer);
        await delay(ms);
        site.broker.answer(address, 'accept', 1);
      },
    };
  },
  'no outcome'(random) {
    const to = random.pick(['load', 'requests', 'reply'] as const);
    const times = random.integer(1, 50);
    const ms = random.integer(100, 1500);
    return {
      text: `${times} times at "${to}", connection closed after ${ms} ms`,
      async run(site) {
        const address = addressOf(site, to);
        site.broker.answer(address, 'none', times);
        await delay(ms);
        site.broker.answer(address, 'accept', 1);
        site.broker.closeConnections();
      },
    };
  },
  'outcome lost'(random) {
    const next = random.pick<Answer>(['accept', 'reject', 'release']);
    const ms = random.integer(100, 1500);
    return {
      text: `within ${ms} ms, then ${next}`,
      async run({ broker, proxy }) {
        // The message is there, its sender is not told, and sends it again.
        const refuse = (): void => broker.answer('load', next, 20);
        const lose = (address: string): void => {
          if (address !== 'load') return;
          broker.off('message', lose);
          broker.once('connection', refuse);
          proxy.reset();
        };
        broker.on('message', lose);
        await delay(ms);
        broker.off('message', lose);
        broker.off('connection', refuse);
        broker.answer('load', 'accept', 1);
      },
    };
  },
  'address refused'(random) {
    const to = random.pick(['load', 'requests', ''] as const);
    const ms = random.integer(100, 2500);
    const error = random.pick([{ condition: 'amqp:unauthorized-access' }, { condition: 'amqp:not-found' }]);
    return {
      text: `"${to}" ${error.condition} for ${ms} ms`,
      async run({ broker }) {
        broker.refuse(to, error);
        broker.detach(to, error);
        await delay(ms);
        broker.allow(to);
      },
    };
  },
  'login refused'(random) {
    const ms = random.integer(100, 2000);
    return {
      text: `${ms} ms`,
      async run({ broker }) {
        const { users } = broker;
        broker.users = {};
        broker.dropSockets();
        await delay(ms);
        broker.users = users;
      },
    };
  },
  deployed(random) {
    const type = random.pick<Deploy>(['nodes', 'nodes', 'flows', 'full']);
    const all = ['broker', 'sender', 'receiver', 'requester', 'responder'];
    const changed = random.sample(all, random.integer(1, 3));
    return { text: `${type}: ${changed.join(', ')}`, run: (site) => site.deploy(type, changed) };
  },
  'receiver paused'(random) {
    const ms = random.integer(100, 2500);
    return lasting(`${ms} ms`, ms, (site, isOn) => site.tell({ action: isOn ? 'pause' : 'resume' }));
  },
  'receiver unsubscribed'(random) {
    const ms = random.integer(100, 2500);
    return lasting(`${ms} ms`, ms, (site, isOn) => site.tell({ action: isOn ? 'unsubscribe' : 'subscribe' }));
  },
  'receiver drained': (random) => often(random, '', (site) => site.tell({ action: 'drain' })),
  'flow slow'(random) {
    const ms = random.integer(200, 2500);
    return lasting(`${ms} ms`, ms, (site, isOn) => site.slow(isOn));
  },
  burst(random) {
    const messages = random.integer(500, 2500);
    const requests = random.integer(0, 200);
    return { text: `${messages}, and ${requests} requests`, run: (site) => site.feed(random, messages, requests) };
  },
  'process busy'(random) {
    const ms = random.integer(100, 1500);
    return {
      text: `${ms} ms`,
      run() {
        const end = performance.now() + ms;
        while (performance.now() < end);
      },
    };
  },
};

/** The faults of a round: some kinds, each at its time. They overlap. */
export function draw(random: Random): Fault[] {
  const names = random.sample(Object.keys(KINDS), random.pick([1, 1, 2, 3, 4]));
  // What Node-RED does to the nodes is more than one kind of many.
  if (!names.includes('deployed') && random.chance(0.25)) names.push('deployed');
  return names.map((name) => ({ name, start: random.integer(0, 3000), ...KINDS[name]!(random) }));
}

/** On, and off again. */
function lasting(text: string, ms: number, set: (site: Site, isOn: boolean) => unknown): Draft {
  return {
    text,
    async run(site) {
      set(site, true);
      await delay(ms);
      set(site, false);
    },
  };
}

/** Several times in a row. */
function often(random: Random, text: string, act: (site: Site) => unknown): Draft {
  const times = random.pick([1, 1, 2, 5]);
  const ms = random.integer(0, 400);
  return {
    text: `${text} ${times} times, ${ms} ms apart`.trim(),
    async run(site) {
      for (let i = 0; i < times; i++) {
        act(site);
        await delay(ms);
      }
    },
  };
}

/** Replies go to an address that the broker has made. */
function addressOf({ broker }: Site, to: (typeof ADDRESSES)[number]): string {
  if (to !== 'reply') return to;
  return broker.links().find(({ name }) => name === 'requester:reply')?.address ?? 'reply';
}
