// A peer that behaves, and counts from anywhere: serial numbers begin anew after 2^32-1 (RFC 1982; AMQP 1.0, 2.8.10).
import should from 'should';
import { helper, inject, message, messages, type Msg, node } from '../flow';
import * as amqp from './frames';
import { type Beginnings, disposition, flow, type Link, type Peer, transfer } from './hostile';
import { patiently, Scene, until } from './scene';

const SIZE = 2 ** 32;
const plus = (id: number, more: number): number => (((id + more) % SIZE) + SIZE) % SIZE;
const ACCEPTED = 0x24;
const RELEASED = 0x26;
const WINDOW = 8;

/** Sends on a link as far as credit and the session's window go, and keeps what is settled. */
class Sending {
  /** By delivery-id, the descriptor of the outcome. */
  readonly outcomes = new Map<number, number>();
  sent = 0;
  readonly #peer: Peer;
  readonly #link: Link;
  #waiting: string[] = [];
  #transferId: number;
  #credit: number;
  #window = 2048;
  isDraining = false;

  constructor(peer: Peer, link: Link, { transferId = 0 }: Partial<Beginnings>) {
    this.#peer = peer;
    this.#link = link;
    this.#transferId = transferId;
    // What came before this was made.
    this.#credit = link.credit;
    peer.on('frame', (frame) => this.#take(frame));
  }

  get credit(): number {
    return this.#credit;
  }

  send(...texts: string[]): void {
    this.#waiting.push(...texts);
    this.#pump();
  }

  /** Uses up the credit, as a drain asks for (2.6.7). */
  drain(): void {
    const { handle, channel } = this.#link;
    this.#link.count = plus(this.#link.count, this.#credit);
    this.#credit = 0;
    this.isDraining = false;
    const numbers = [0, 2048, this.#transferId, 2048, handle, this.#link.count, 0, 0].map(amqp.uint);
    this.#peer.send({ code: amqp.FLOW, channel, fields: [...numbers, amqp.bool(true), amqp.bool(false)] });
  }

  #pump(): void {
    while (this.#waiting.length > 0 && this.#credit > 0 && this.#window > 0) {
      this.#peer.send(transfer(this.#link, this.#waiting.shift()!));
      this.#transferId = plus(this.#transferId, 1);
      this.#credit--;
      this.#window--;
      this.sent++;
    }
  }

  #take({ code, channel, fields }: amqp.Frame): void {
    if (channel !== this.#link.channel) return;
    if (code === amqp.FLOW) {
      const [nextIncoming, window, , , handle, count, credit, , drain] = fields as number[];
      this.#window = plus(nextIncoming! + window!, -this.#transferId);
      if (handle !== this.#link.handle) return;
      this.#credit = plus((count ?? this.#link.count) + credit!, -this.#link.count);
      this.isDraining = Boolean(drain);
      // More than is ever given: the difference is below zero.
      if (this.#credit > 1e6) this.#peer.emit('fault', `a flow of delivery-count ${count} at ${this.#link.count}`);
      else this.#pump();
    }
    if (code === amqp.DISPOSITION && fields[0] === true) {
      const [, first, last] = fields as number[];
      const { descriptor } = (fields[4] ?? {}) as { descriptor?: number };
      const count = plus(last ?? first!, -first!) + 1;
      if (count > 1e6) return void this.#peer.emit('fault', `a disposition from ${first} to ${last}`);
      for (let i = 0; i < count; i++) this.outcomes.set(plus(first!, i), descriptor ?? -1);
    }
  }
}

const texts = (length: number, from = 0): string[] => Array.from({ length }, (_, index) => `${from + index}`);

const settle = ({ payload, delivery }: Msg): void =>
  inject('receiver', { delivery, settle: Number(payload) % 5 === 4 ? 'release' : 'accept' });

describe('serial numbers that wrap', () => {
  before(() => helper.startServer());
  after(() => helper.stopServer());

  let scene: Scene | undefined;
  afterEach(async () => {
    await scene?.stop();
    scene = undefined;
  });

  async function receiving(begins: Beginnings): Promise<{ peer: Peer; sending: Sending }> {
    scene = await Scene.start([node('amqp-receiver', { settle: 'flow', creditwindow: WINDOW })], { begins });
    const peer = await scene.attached('receiver');
    return { peer, sending: new Sending(peer, peer.link('receiver'), begins) };
  }

  for (const begins of [
    { transferId: 0, deliveryId: 7, deliveryCount: 0 },
    { transferId: 0, deliveryId: 2 ** 31, deliveryCount: 0 },
    { transferId: 2 ** 31 - 3, deliveryId: 2 ** 31 - 2, deliveryCount: 2 ** 31 - 2 },
    { transferId: SIZE - 3, deliveryId: 0, deliveryCount: 0 },
    { transferId: 0, deliveryId: SIZE - 2, deliveryCount: 0 },
    { transferId: 0, deliveryId: 0, deliveryCount: SIZE - 2 },
    { transferId: SIZE - 3, deliveryId: SIZE - 2, deliveryCount: SIZE - 2 },
  ]) {
    it(`receives and settles from ${JSON.stringify(begins)} on`, async () => {
      const { peer, sending } = await receiving(begins);
      const arrived = messages('out', 20);
      helper.getNode('out').on('input', (msg) => settle(msg));
      sending.send(...texts(20));
      const msgs = await patiently(arrived, '20 messages').catch((error: unknown) => error as Error);
      scene!.check();
      if (msgs instanceof Error) throw new Error(`${msgs.message}; ${sending.sent} were sent`);
      should(msgs.map(({ payload }) => payload)).deepEqual(texts(20));
      await until(peer, () => sending.outcomes.size >= 20, 'the outcomes of 20 messages');
      for (const text of texts(20))
        should(sending.outcomes.get(plus(begins.deliveryId, Number(text)))).equal(
          Number(text) % 5 === 4 ? RELEASED : ACCEPTED,
        );
      await until(peer, () => sending.credit > 0, 'credit for more');
      should(sending.credit).be.belowOrEqual(WINDOW);
      scene!.check();
    });
  }

  it('drains across the wrap', async () => {
    const { peer, sending } = await receiving({ transferId: 0, deliveryId: 0, deliveryCount: SIZE - 2 });
    const done = message('completed');
    inject('receiver', { action: 'drain' });
    await until(peer, () => sending.isDraining, 'a drain');
    sending.drain();
    await patiently(done, 'the end of the drain');
    await until(peer, () => sending.credit > 0, 'credit after it');
    const arrived = messages('out', 20);
    helper.getNode('out').on('input', (msg) => settle(msg));
    sending.send(...texts(20));
    await patiently(arrived, '20 messages after it');
    scene!.check();
  });

  it('takes that the peer settles a range across the wrap', async () => {
    const deliveryId = SIZE - 2;
    const { peer, sending } = await receiving({ transferId: SIZE - 2, deliveryId, deliveryCount: SIZE - 2 });
    const held = messages('out', 4);
    sending.send(...texts(4));
    await patiently(held, '4 messages');
    const accepted = amqp.composite(ACCEPTED, []);
    peer.send(disposition({ ...peer.link('receiver'), isSender: false }, deliveryId, 1, accepted));
    // Its own outcomes tell nobody then, but the messages after these are as all are.
    for (const msg of await held) settle(msg);
    const arrived = messages('out', 20);
    helper.getNode('out').on('input', (msg) => settle(msg));
    sending.send(...texts(20, 4));
    await patiently(arrived, '20 messages after them');
    await until(peer, () => sending.outcomes.has(plus(deliveryId, 23)), 'the last outcome');
    scene!.check();
  });

  /** A sender that is given so many messages, and the ids of those that have come. */
  async function sendingOf(count: number): Promise<{ peer: Peer; ids: number[]; ended: Promise<Msg[]> }> {
    const begins = { transferId: SIZE - 3, deliveryId: SIZE - 2, deliveryCount: SIZE - 2 };
    scene = await Scene.start([node('amqp-sender', { outcomes: 'all' })], { begins, credit: count });
    const peer = await scene.attached('sender');
    const ended = messages('completed', count);
    ended.catch(() => {});
    for (const payload of texts(count)) inject('sender', { payload });
    const { inFlight: ids } = peer.link('sender');
    await until(peer, () => ids.length === count, `${count} messages`);
    return { peer, ids, ended };
  }

  it('sends to a peer whose own numbers wrap', async () => {
    const { peer, ids, ended } = await sendingOf(20);
    const link = { ...peer.link('sender'), isSender: true };
    peer.send(disposition(link, ids[0]!, ids[9]!, amqp.composite(ACCEPTED, [])));
    for (const id of ids.slice(10)) peer.send(disposition(link, id, id, amqp.composite(ACCEPTED, [])));
    const states = (await patiently(ended, 'the ends of 20 msgs')).map(({ sent }) => sent?.state);
    should(states).deepEqual(Array.from({ length: 20 }, () => 'accepted'));
    scene!.check();
  });

  it('takes outcomes of a range that begins before its first id, across the wrap', async () => {
    const { peer, ids, ended } = await sendingOf(2);
    const link = { ...peer.link('sender'), isSender: true };
    peer.send(disposition(link, plus(ids[0]!, -2), ids[1]!, amqp.composite(ACCEPTED, [])));
    await patiently(ended, 'the ends of 2 msgs');
    scene!.check();
  });

  it('goes on sending with the credit of a later flow, whose numbers are those of its own', async () => {
    const { peer, ids, ended } = await sendingOf(3);
    const link = peer.link('sender');
    const accepted = amqp.composite(ACCEPTED, []);
    peer.send(disposition({ ...link, isSender: true }, ids[0]!, ids[2]!, accepted));
    await patiently(ended, 'the ends of 3 msgs');
    const begun = (link.fields[9] as number | null) ?? 0;
    const { fields, ...rest } = flow(link, 5);
    // Three transfers have come, and the peer has sent none itself.
    const right: Record<number, number> = { 0: ids[0]! + 3, 2: SIZE - 3, 5: plus(begun, 3) };
    peer.send({ ...rest, fields: fields.map((one, at) => (at in right ? amqp.uint(right[at]!) : one)) });
    const more = messages('completed', 5);
    for (const payload of texts(5)) inject('sender', { payload });
    peer.accepts = true;
    await patiently(more, 'the ends of 5 more msgs');
    scene!.check();
  });
});
