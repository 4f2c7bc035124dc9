// One flow in two Node-REDs at the same time, as it is scaled out or runs on many gateways: what brokers make of it.
import should from 'should';
import type { NodeConfig } from '../node-red';
import { type Broker, needed } from './broker';
import { Copy, packed, PORT, Relay, RelayedCopy } from './copy';
import * as words from './features';
import { peers } from './peers';
import { savedEndpoint, savedNode } from './saved';

const { numbers } = words;
const INBOX = { type: 'junction', z: 'flow', x: 0, y: 0, wires: [] };
/** Ends the key of the status text that says so. */
const MARK = 'reason.client-id';

/** Where the package is built, once for all. */
let directory: string | undefined;

for (const peer of peers) {
  describe(`one flow in two Node-REDs on ${peer.name}`, function () {
    this.timeout(120_000);

    /** There, each subscriber is known by its client ID and a name. */
    const isKept = !peer.lacks?.includes('durable') && !peer.differs?.durable;
    let broker: Broker;
    let first: RelayedCopy;
    let second: RelayedCopy;
    let copies: RelayedCopy[];

    before(async function () {
      this.timeout(300_000);
      await needed(this, peer.name, () => peer.kind.prepare());
      directory ??= await packed();
      broker = await peer.kind.start({ queues: [{ name: 'work' }], topics: ['news'] });
      first = new RelayedCopy(directory, await Relay.to(broker));
      second = new RelayedCopy(directory, await Relay.to(broker));
      copies = [first, second];
      await Promise.all(copies.map((copy) => copy.start(flow(), peer.login)));
      await Copy.until(() => copies.every(isConnected));
    });
    after(async () => {
      await Promise.all((copies ?? []).map((copy) => copy.remove()));
      await broker?.stop();
    });

    const subscription = { ...peer.subscriber('news', 'one'), subscription: 'durable', wires: [['news']] };
    const users = [
      savedNode('amqp-sender', { ...peer.queue('work'), wires: [['taken']] }),
      savedNode('amqp-receiver', { ...peer.queue('work'), wires: [['work']] }),
      ...(isKept
        ? [
            savedNode('amqp-sender', { id: 'publisher', ...peer.topic('news'), wires: [['taken']] }),
            savedNode('amqp-receiver', { id: 'subscriber', ...subscription }),
          ]
        : []),
    ];
    const flow = (endpoint: object = {}): NodeConfig[] => [
      { id: 'flow', type: 'tab', label: 'flow' },
      savedEndpoint(PORT, endpoint),
      ...users,
      ...['work', 'news', 'taken'].map((id) => ({ id, ...INBOX })),
    ];
    const isConnected = (copy: Copy): boolean => users.every(({ id }) => copy.status(id)?.fill === 'green');
    /** All that came from the queue, wherever it came. */
    const shared = (): unknown[] => copies.flatMap((copy) => copy.got('work'));

    it('shares a queue, each message to one of them, and both stay connected', async () => {
      first.send('sender', ...numbers(500));
      await Copy.until(() => new Set(shared()).size === 500 && first.got('taken').length === 500);
      should(shared()).have.length(500);
      for (const { relay } of copies) should(relay.clientIds).have.length(1);
      for (const copy of copies) {
        should(copy.got('work')).not.be.empty();
        should(copy.shown.filter(({ status: { fill } }) => fill === 'red')).be.empty();
      }
      should(first.relay.clientIds).not.eql(second.relay.clientIds);
    });

    if (isKept) {
      it('subscribes each of them for itself: both get everything', async () => {
        first.send('publisher', ...numbers(20));
        await Copy.until(() => copies.every((copy) => copy.got('news').length === 20));
        for (const copy of copies) should(copy.got('news')).eql(numbers(20));
      });
    }

    it(`comes back from a restart as the same client${isKept ? ', and gets what it has missed' : ''}`, async () => {
      await second.end();
      if (isKept) {
        const taken = first.got('taken').length;
        first.send('publisher', 'missed', 'missed too');
        await Copy.until(() => first.got('taken').length === taken + 2);
      }
      await second.start(flow(), peer.login);
      await Copy.until(() => isConnected(second));
      const [before, after] = second.relay.clientIds;
      should(after).equal(before);
      if (!isKept) return;
      await Copy.until(() => second.got('news').length === 2);
      should(second.got('news')).eql(['missed', 'missed too']);
    });

    if (!peer.twins) return;
    const { links, subscriptions = links } = peer.twins;
    const isAsExpected = (): boolean =>
      users.every(({ id }) => comesTo(id) === (id === 'subscriber' ? subscriptions : links));
    const special = subscriptions === links ? '' : `; of a subscription: ${subscriptions}`;
    it(`with one client ID in both: ${links}${special}`, async () => {
      const named = flow({ container_id: 'twin' });
      first.deploy(named);
      await Copy.until(() => isConnected(first));
      second.deploy(named);
      await Copy.until(isAsExpected);

      // Nobody fights: while those that work do so, the others wait, and what they show stays as it is. Senders show what they
      // have to do besides, and the endpoint may not have shown all of it yet.
      const shown = (): string[] =>
        copies.flatMap((copy) =>
          copy.shown
            .filter(({ id }) => !['sender', 'broker'].includes(id))
            .map(({ id, status }) => `${id}: ${status.text}`),
        );
      const before = shown();
      const working = copies.filter((copy) => copy.status('sender')!.fill !== 'red');
      const taken = working.map((copy) => copy.got('taken').length);
      for (const n of numbers(100)) {
        for (const copy of working) copy.send('sender', n);
        await Copy.until(() => working.every((copy, i) => copy.got('taken').length === taken[i]! + n + 1));
      }
      await Copy.until(isAsExpected);
      should(shown()).eql(before);
      should(first.relay.clientIds.filter((id) => id === 'twin')).have.length(1);
      should(second.relay.clientIds.filter((id) => id === 'twin').length).be.belowOrEqual(2);
    });

    /** What became of a node in both, in the words of peers.ts; undefined while that is not known yet. */
    function comesTo(id: string): string | undefined {
      const [one, two] = [first.status(id), second.status(id)];
      for (const shown of [one, two]) if (shown?.fill !== 'green' && shown?.fill !== 'red') return undefined;
      if (two!.text.includes(MARK)) return words.TURNED_AWAY;
      if (one!.text.includes(MARK)) return words.TAKEN_OVER;
      return two!.fill === 'red' ? words.SECOND_REFUSED : words.SIDE_BY_SIDE;
    }
  });
}
