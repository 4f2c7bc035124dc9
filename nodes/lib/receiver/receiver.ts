import { randomBytes } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { pauseAfter } from '../connection/backoff';
import type { LinkConnection } from '../connection/connection';
import { Allowance } from '../codec/decoder';
import type { Counters } from '../counters';
import { type AmqpError, amqpError, flowError, type PeerError } from '../errors';
import type { DetachOptions } from '../link/link';
import { type Expires, Expiring } from '../expiring';
import { ReceiverLink, type ReceiverLinkOptions, type Settled } from '../link/receiver-link';
import { Pause } from '../pause';
import type { AmqpFields } from '../message/fields';
import { decode, type Incoming, messagesIn } from '../message/message';
import type { Style } from '../codec/notation';
import type { IncomingDelivery } from '../wire/link-end';
import type { Outcome } from '../wire/outcome';
import type { State } from '../state';
import { Intake, type IntakeOptions, type Pending } from './intake';

export type { Outcome } from '../wire/outcome';

/**
 * When the peer may forget a message: once the flow has it, when the flow says so, or before it is even sent.
 */
export type Settle = 'arrival' | 'flow' | 'pre-settled';

export interface ReceiverOptions extends Omit<ReceiverLinkOptions, 'isPreSettled'>, IntakeOptions {
  settle: Settle;
  /** What a message comes to that was delivered more than `maxAttempts` times. Undefined: that is for the flow to say. */
  exhausted?: 'reject' | 'accept';
  /** Most messages that are unsettled or on their way. 0: only what `grant` asks for. */
  creditWindow: number;
  /** Most bytes of unsettled messages, roughly: how large those on their way are is known only once they have come. */
  windowBytes: number;
  /** Most messages on their way before it is known how large they are: 10, unless the peer drops what there is no credit for. */
  firstCredit?: number;
  /** Milliseconds after which a message that the flow has not settled is released. 0: never. */
  settleTimeout: number;
  styles: { fields: Style; body: Style };
  /** Memory that several receivers share. */
  budget?: Budget;
}

/** Bytes of unsettled messages, of several receivers together. */
export interface Budget {
  bytes: number;
  readonly most: number;
}

/** How a message came: `msg.delivery`. Plain data. */
export type DeliveryInfo = {
  /** The token for settling it, where the flow settles. */
  id?: string;
  /** Delivery tag in hexadecimal. */
  tag: string;
  address?: string;
  redelivered: boolean;
  /** The message's own `to`, by which a flow that sets another one is told from one that forwards. */
  to?: string;
  /** The session of Azure Service Bus that it came in, with the state that was stored for that. */
  session?: { id: string; state: Buffer | null };
  /** That of Azure Event Hubs which it is in. */
  partition?: string;
  /** It was only looked at: it is still where it was. */
  peeked?: true;
  /** Which delivery of the message it is, where that is counted. */
  attempt?: number;
};

/** A message, and how it came. */
export interface Received {
  incoming: Incoming;
  delivery: DeliveryInfo;
}

/** What a receiver tells its node. */
export interface ReceiverUser {
  /** May throw when the flow cannot be given the message. */
  message(incoming: Incoming, delivery: DeliveryInfo): void;
  /** The same for several at once (`together`). */
  messages?(all: Received[]): void;
  /** A message was delivered too often: it has been given up. */
  exhausted?(error: AmqpError, received: Received): void;
  /** That has thrown: gives the outcome that the message is to have. */
  undelivered(error: AmqpError, delivery: DeliveryInfo): Outcome;
  /** A message that cannot be decoded, or is too large: it has been rejected. `fields` are those that could be read. */
  undecodable(error: AmqpError, delivery: DeliveryInfo, fields: AmqpFields): void;
  /** There is a link. The first credit is given once the promise resolves, where there is one; it is not to reject. */
  attached?(): Promise<void> | undefined;
  /** The link is lost; what is held still is, for this moment. */
  lost?(): void;
}

/** A delivery that is to be settled. */
interface Held extends Expires {
  delivery: IncomingDelivery;
  /** Its message, where that stands in an order or is counted. */
  incoming?: Incoming;
  /** How many of its messages are not settled yet: more than one in a batch. */
  messages: number;
  outcome: Outcome;
  /** Bytes. */
  size: number;
  /** The flow has failed one of them. */
  isFailed?: boolean;
}

const ACCEPT: Outcome = { settle: 'accept' };
const RELEASE: Outcome = { settle: 'release' };
const COUNTER = { accept: 'accepted', reject: 'rejected', release: 'released', modify: 'modified' } as const;
const NOTHING = Buffer.alloc(0);
const MAX_CREDIT = 0x7fffffff;
/** Most messages on their way before it is known how large they are. */
const FIRST_CREDIT = 10;
/** The service has given the session of Azure Service Bus to another receiver, or may. */
const SESSION_LOST = 'com.microsoft:session-lock-lost';
/** In the reason of a message that is given up. */
const ATTEMPTS_CONDITION = 'amqp:internal-error';
/** Milliseconds before a message that the flow has failed is released. */
const RELEASE_PAUSE = { initial: 200, max: 30_000 };
/** Milliseconds in which what is on its way has come, once there is no more credit. */
const QUIET = 100;

/**
 * Takes messages from an address. Credit follows what is settled, not what has arrived (R5), so that a slow flow slows
 * the peer: unsettled messages never exceed the window.
 */
export class Receiver extends EventEmitter<{ state: [State] }> {
  readonly #connection: LinkConnection;
  readonly #link: ReceiverLink;
  readonly #options: ReceiverOptions;
  readonly #user: ReceiverUser;
  /** What comes before the flow, where that is asked for. */
  readonly #intake: Intake<Held> | undefined;
  /** What is to be settled, by the number that ends the token of each message. */
  readonly #held: Expiring<Held>;
  /** Tokens are `<name>.<object>.<attach>.<number>`: so a stale one is told from one that was never given. */
  readonly #object = randomBytes(6).toString('hex');
  /** What tokens begin with now. */
  #prefix: string;
  /** What the flow was given in this turn, to be accepted in the next: deliveries, and tokens of messages. */
  #given: (IncomingDelivery | string)[] = [];
  #attaches = 0;
  /** Why the link was lost the last time. */
  #loss: AmqpError | undefined;
  #deliveries = 0;
  /** Credit asked for by `grant` and not used yet: it survives a reconnect. */
  #granted = 0;
  #isPaused = false;
  /** Nothing more is taken: the node is closing. */
  #isStopped = false;
  /** What is done before the first credit. */
  #preparing: Promise<void> | undefined;
  /** Bytes of what is to be settled. */
  #bytes = 0;
  /** Of a message, as it is expected: rises at once, and falls slowly. */
  #size: number | undefined;
  /** What the flow has failed, to be released together. */
  #failed: Held[] = [];
  #failedTimer: NodeJS.Timeout | undefined;
  /** No credit is given, so that nothing of a group overtakes what is given back of it. */
  #isQuiet = false;
  /** Releases of such, since the flow last accepted a message. */
  #failures = 0;
  readonly #counts = { received: 0, accepted: 0, rejected: 0, released: 0, modified: 0 };
  /** Ends `leave`. */
  readonly #left = new Pause();
  /** Counts calls of `subscribe` and `close`: the last one counts. */
  #turn = 0;

  constructor(connection: LinkConnection, options: ReceiverOptions, user: ReceiverUser) {
    super();
    this.#connection = connection;
    this.#options = options;
    this.#user = user;
    this.#prefix = this.#newPrefix();
    this.#link = new ReceiverLink(
      connection,
      { ...options, isPreSettled: options.settle === 'pre-settled' },
      {
        message: (delivery) => this.#message(delivery),
        attached: () => this.#prepare(),
        lost: (error) => this.#lost(error),
      },
    );
    this.#link.on('state', (state) => this.emit('state', state));
    // What is accepted on arrival has no order, and does not come again.
    const isByFlow = options.settle === 'flow';
    const { together } = options;
    const inOrder = isByFlow && options.inOrder;
    const maxAttempts = isByFlow ? options.maxAttempts : undefined;
    if (inOrder || together || maxAttempts !== undefined) {
      this.#intake = new Intake(
        { inOrder, together, maxAttempts },
        {
          give: (messages) => this.#giveAll(messages),
          later: (callback, delay) => {
            const timer = setTimeout(connection.guarded(callback), delay);
            return () => clearTimeout(timer);
          },
        },
      );
    }
    const late = connection.guarded((held: Held) => this.#settlePart(held, RELEASE));
    this.#held = new Expiring(options.settleTimeout, late);
  }

  get state(): State {
    return this.#link.state;
  }

  /** That of its link, with which its tokens begin. */
  get name(): string {
    return this.#options.name;
  }

  get isAttached(): boolean {
    return this.#link.isAttached;
  }

  /** The session of Azure Service Bus that it receives from. */
  get session(): string | undefined {
    return this.#link.session;
  }

  /** The address read from: what was asked for, or what the peer has made. */
  get address(): string | undefined {
    return this.#link.address;
  }

  /** Messages that are to be settled. */
  get unsettled(): number {
    return this.#held.size;
  }

  get counters(): Counters {
    return { ...this.#counts, held: this.#held.size, credit: this.#link.credit };
  }

  /** Attaches, to `address` if given. False if a later `subscribe` or `close` overtook it. */
  async subscribe(address?: string): Promise<boolean> {
    const turn = ++this.#turn;
    if (address !== undefined && address !== this.#link.address) {
      await this.#detach();
      if (turn !== this.#turn) return false;
      this.#link.moveTo(address);
    }
    if (!this.#link.hasAddress) {
      throw amqpError('AMQP_NO_ADDRESS.subscribe');
    }
    this.open();
    return true;
  }

  /**
   * Settles a message that was received. Throws when the outcome is not valid (the message is still held then), and when
   * the token is unknown, was used, or is from before a reconnect. `settled` is called once otherwise, as the link does;
   * at once for what is settled only later, with others.
   */
  settle(id: string, outcome: Outcome, settled?: Settled): void {
    this.#settleBy(id, outcome, false, settled);
  }

  /**
   * As `settle`, for a message that the flow has failed: one that is released is released after a pause, which grows as
   * long as the flow accepts nothing. Until then it counts as unsettled.
   */
  fail(id: string, outcome: Outcome, settled?: Settled): void {
    this.#settleBy(id, outcome, true, settled);
  }

  #settleBy(id: string, outcome: Outcome, isFailed: boolean, settled: Settled | undefined): void {
    // Tells what is wrong with it while the message is still held.
    this.#link.check(outcome);
    const held = this.#held.take(this.#numberOf(id));
    if (!held) throw this.notHeld(id);
    held.isFailed ||= isFailed;
    if (outcome.settle === 'accept') this.#failures = 0;
    this.#settlePart(held, outcome, settled);
  }

  /** Accepts a message as one is that is accepted on arrival. Stays held when nothing more is taken by then. */
  acceptOnArrival(id: string): void {
    this.#acceptLater(id);
  }

  /**
   * Node-RED hands a msg to the next node in its next turn, and not at all when the flow is closed by then: so that is when
   * the flow has it (R3).
   */
  #acceptLater(given: IncomingDelivery | string): void {
    if (this.#given.push(given) === 1) this.#link.later(() => this.#acceptGiven());
  }

  #acceptGiven(): void {
    const given = this.#given;
    if (given.length === 0) return;
    this.#given = [];
    for (const one of given) {
      if (typeof one !== 'string') this.#settleNow(one, this.#isStopped ? RELEASE : ACCEPT);
      else if (!this.#isStopped && this.holds(one)) this.settle(one, ACCEPT);
    }
    this.#replenish();
  }

  /** True while the message can be settled. */
  holds(id: string): boolean {
    return this.#held.get(this.#numberOf(id)) !== undefined;
  }

  #newPrefix(): string {
    return `${this.#options.name}.${this.#object}.${this.#attaches}.`;
  }

  /** What ends a token of now; NaN: it is none. */
  #numberOf(id: string): number {
    if (!id.startsWith(this.#prefix)) return NaN;
    const text = id.slice(this.#prefix.length);
    const number = Number(text);
    return String(number) === text ? number : NaN;
  }

  /** Why a token does not name a message that can be settled. */
  notHeld(id: string): AmqpError {
    const isOfNode = id.startsWith(`${this.#options.name}.`);
    const [object, attach, number] = id.slice(this.#options.name.length + 1).split('.');
    const isOfThis = object === this.#object;
    const isGiven = Number(attach) <= this.#attaches && Number(number) <= this.#deliveries;
    if (!isOfNode || number === undefined || (isOfThis && !isGiven)) {
      return amqpError('AMQP_DELIVERY_UNKNOWN.id');
    }
    if (!isOfThis || Number(attach) < this.#attaches || !this.#link.isAttached) {
      const isSessionLost = isOfThis && this.#loss?.condition === SESSION_LOST;
      return amqpError(isSessionLost ? 'AMQP_LOCK_LOST.session' : 'AMQP_DELIVERY_LOST.lost');
    }
    return amqpError('AMQP_DELIVERY_SETTLED.settled');
  }

  /** Grants credit beyond the window. */
  grant(credit: number): void {
    this.#granted = Math.min(MAX_CREDIT, this.#granted + credit);
    if (this.#takes) this.#link.addCredit(Math.min(credit, MAX_CREDIT - this.#link.credit));
  }

  /** Takes no more messages until `resume`, but for those on their way. */
  pause(): void {
    this.#isPaused = true;
    this.#link.setCredit(0);
    this.#link.setPaused(true);
  }

  resume(): void {
    this.#isPaused = false;
    this.#link.setPaused(false);
    this.#attached();
  }

  /** Has the peer send at once what it has, up to the credit, and use up the rest of it. Resolves when that is done. */
  async drain(): Promise<void> {
    try {
      await this.#link.drain();
    } finally {
      if (this.#link.isAttached) this.#granted = 0;
      this.#replenish();
    }
  }

  /** From now on nothing is taken: what still comes is released. For good. */
  stop(): void {
    this.#isStopped = true;
    this.#link.setCredit(0);
    this.#releasePending();
    this.#releaseFailed();
  }

  /** Attaches, once there is an address: without one, `subscribe` has to name it. */
  open(): void {
    this.#link.open();
  }

  /**
   * Takes nothing more, and gives the flow `timeout` milliseconds to settle what it has. Resolves when that is settled,
   * lost, or to be released by `close`.
   */
  async leave(timeout: number): Promise<void> {
    this.stop();
    if (this.#held.size > 0) await this.#left.wait(timeout);
  }

  /** Releases what the flow has not settled yet, and detaches. */
  async close(): Promise<void> {
    this.#left.end();
    await this.detach();
  }

  /** Releases what the flow has not settled yet, and detaches, with an error if one is given, until the next `subscribe`. */
  async detach(error?: PeerError): Promise<void> {
    this.#turn++;
    await this.#detach({ error });
  }

  /** As `close`; a durable subscription is deleted, which takes a link. */
  async unsubscribe(): Promise<void> {
    if (this.#link.isDurable && !this.#link.isAttached) throw amqpError('AMQP_DISCONNECTED.unsubscribe');
    this.#turn++;
    await this.#detach({ deletes: true });
  }

  async #detach(options?: DetachOptions): Promise<void> {
    this.#acceptGiven();
    this.#releasePending();
    for (const held of this.#held.clear()) this.#settlePart(held, RELEASE);
    this.#releaseFailed();
    await this.#link.detach(options);
  }

  get #takes(): boolean {
    return !this.#isPaused && !this.#isStopped && !this.#preparing && !this.#isQuiet;
  }

  #prepare(): void {
    const preparing = this.#user.attached?.();
    this.#preparing = preparing;
    if (!preparing) return this.#attached();
    void preparing.then(() => {
      // Of an attach that is gone it is not waited for any more.
      if (preparing !== this.#preparing) return;
      this.#preparing = undefined;
      if (this.#link.isAttached) this.#attached();
    });
  }

  #attached(): void {
    if (!this.#takes) return;
    if (this.#granted > 0) this.#link.addCredit(this.#granted - this.#link.credit);
    this.#replenish();
  }

  #lost(error: AmqpError): void {
    this.#user.lost?.();
    this.#preparing = undefined;
    this.#loss = error;
    this.#attaches++;
    this.#prefix = this.#newPrefix();
    this.#given = [];
    if (this.#options.settle === 'pre-settled') this.#intake?.flush();
    this.#intake?.clear();
    this.#held.clear();
    clearTimeout(this.#failedTimer);
    this.#failedTimer = undefined;
    this.#failed = [];
    this.#isQuiet = false;
    this.#keep(-this.#bytes);
    this.#left.end();
  }

  #message(delivery: IncomingDelivery): void {
    // On its way when the credit was taken back.
    if (this.#isStopped) return this.#settle(delivery, RELEASE);
    if (this.#granted > 0) this.#granted--;
    const { format, bytes } = delivery;
    if (delivery.isTooLarge) return this.#refuse(delivery);
    const { budget } = this.#options;
    // Each of many could have used its first credit at the same time.
    if (budget && budget.bytes >= budget.most && !delivery.isSettled) return this.#settle(delivery, RELEASE);
    // They are part of a chunk from the socket, which would stay for as long as the delivery is not settled.
    delivery.bytes = NOTHING;
    let messages: Incoming[];
    this.#size = Math.max(bytes.length, 0.9 * (this.#size ?? 0));
    let fields: AmqpFields = {};
    try {
      const allowance = new Allowance();
      const { styles } = this.#options;
      messages = messagesIn(bytes, format, allowance).map((one) => decode(one, styles, allowance, (fields = {})));
      this.#counts.received += messages.length;
    } catch (error) {
      return this.#reject(delivery, 'amqp:decode-error', error as AmqpError, fields);
    }
    const held: Held = { delivery, messages: messages.length, outcome: ACCEPT, size: bytes.length, deadline: 0 };
    const isHeld = this.#options.settle === 'flow' && messages.length > 0;
    if (this.#intake && messages.length > 0) return this.#takeIn(this.#intake, messages, held);
    if (isHeld) this.#keep(held.size);
    for (const incoming of messages) this.#give(incoming, held);
    if (isHeld) this.#replenish();
    else if (held.outcome.settle === 'accept') this.#acceptLater(delivery);
    else this.#settle(delivery, held.outcome);
  }

  #refuse(delivery: IncomingDelivery): void {
    const error = amqpError('AMQP_TOO_LARGE.received', { most: this.#options.maxMessageSize! });
    this.#reject(delivery, 'amqp:link:message-size-exceeded', error, {});
  }

  /** A message of which the flow gets nothing but the error. */
  #reject(delivery: IncomingDelivery, condition: string, error: AmqpError, fields: AmqpFields): void {
    const { tag } = delivery;
    this.#counts.received++;
    this.#settle(delivery, { settle: 'reject', error: { condition, description: error.message } });
    this.#user.undecodable(error, { tag, address: this.address, redelivered: false }, fields);
  }

  #give(incoming: Incoming, held: Held): void {
    const info = this.#infoOf(incoming, held);
    try {
      this.#user.message(incoming, info);
    } catch (cause) {
      this.#undelivered(cause, info, held);
    }
  }

  /** What tells of a message that the flow is about to get, with its token. */
  #infoOf(incoming: Incoming, held: Held): DeliveryInfo {
    const info = infoOf(incoming, held.delivery.tag, this.#link.address);
    if (this.#options.settle === 'flow') {
      const number = ++this.#deliveries;
      info.id = `${this.#prefix}${number}`;
      this.#held.set(number, held);
    }
    return info;
  }

  #undelivered(cause: unknown, info: DeliveryInfo, held: Held): void {
    const { id } = info;
    const outcome = this.#user.undelivered(flowError(cause), { ...info, id: undefined });
    if (id === undefined) held.outcome = outcome;
    else if (this.holds(id)) this.fail(id, outcome);
  }

  // What comes before the flow, where that is asked for

  #takeIn(intake: Intake<Held>, messages: Incoming[], held: Held): void {
    this.#keep(held.size);
    const [incoming] = messages;
    if (messages.length === 1) {
      if (!intake.take(incoming!, held)) this.#failed.push(Object.assign(held, { outcome: RELEASE }));
    }
    // A batch is settled as one, so that nothing of it can wait for another message.
    else this.#giveAll(messages.map((one) => ({ incoming: one, delivery: held })));
    this.#replenish();
  }

  #giveAll(messages: Pending<Held>[]): void {
    const { maxAttempts = Infinity, exhausted, settle } = this.#options;
    const isGivenUp = ({ attempt = 0 }: Pending<Held>): boolean => exhausted !== undefined && attempt > maxAttempts;
    for (const one of messages) if (isGivenUp(one)) this.#giveUp(one, exhausted!);
    const given = messages
      .filter((one) => !isGivenUp(one))
      .map(({ incoming, delivery: held, attempt }) => {
        if (held.messages === 1) held.incoming = incoming;
        const delivery = { ...this.#infoOf(incoming, held), ...(attempt !== undefined && { attempt }) };
        return { incoming, delivery, held };
      });
    if (given.length === 0) return;
    if (this.#options.together) this.#tell(given, () => this.#user.messages?.(given));
    else for (const one of given) this.#tell([one], () => this.#user.message(one.incoming, one.delivery));
    if (settle === 'flow') return;
    for (const { held } of given) this.#settleUntold(held);
  }

  #tell(given: (Received & { held: Held })[], tell: () => void): void {
    try {
      tell();
    } catch (cause) {
      for (const { delivery, held } of given) this.#undelivered(cause, delivery, held);
    }
  }

  /** Of what the flow is not to settle: it is accepted on arrival, unless the flow could not be given it. */
  #settleUntold(held: Held): void {
    if (--held.messages > 0) return;
    this.#keep(-held.size);
    if (held.outcome.settle === 'accept') this.#acceptLater(held.delivery);
    else this.#settle(held.delivery, held.outcome);
  }

  #giveUp({ incoming, delivery: held, attempt }: Pending<Held>, settle: 'reject' | 'accept'): void {
    const error = amqpError('AMQP_ATTEMPTS.most', { count: attempt! - 1 });
    held.incoming = incoming;
    const { tag } = held.delivery;
    const delivery = { ...infoOf(incoming, tag, this.#link.address), attempt: attempt! };
    const rejected: Outcome = {
      settle: 'reject',
      error: { condition: ATTEMPTS_CONDITION, description: error.message },
    };
    this.#settlePart(held, settle === 'accept' ? ACCEPT : rejected);
    this.#user.exhausted?.(error, { incoming, delivery });
  }

  #releasePending(): void {
    // The peer has forgotten these.
    if (this.#options.settle === 'pre-settled') this.#intake?.flush();
    for (const { delivery } of this.#intake?.clear() ?? []) this.#settlePart(delivery, RELEASE);
  }

  /** Settles one message of a delivery, and the delivery with its last: accepted if all of them were. */
  #settlePart(held: Held, outcome: Outcome, settled?: Settled): void {
    const isMore = outcome.settle !== 'accept' || outcome.transaction !== undefined;
    if (isMore && held.outcome.settle === 'accept') held.outcome = outcome;
    const isLast = --held.messages === 0;
    const isLater = this.#isLater(held) && !this.#isStopped;
    if (isLast && !isLater) this.#settleHeld(held, settled);
    else {
      if (isLast) this.#releaseLater(held);
      settled?.();
    }
    const { incoming } = held;
    const behind = incoming ? this.#intake?.settled(incoming, outcome) : undefined;
    for (const { delivery } of behind ?? []) {
      // They are to come again in their order: at the same time as the one before them.
      delivery.isFailed = isLater;
      this.#settlePart(delivery, RELEASE);
    }
    if (this.#held.size === 0) this.#left.end();
  }

  #isLater({ isFailed = false, outcome: { settle }, incoming }: Held): boolean {
    if (settle === 'release' && isFailed) return true;
    const isAgain = settle === 'release' || settle === 'modify';
    return isAgain && incoming !== undefined && this.#intake?.isInOrder(incoming) === true;
  }

  #settleHeld({ delivery, outcome, size }: Held, settled?: Settled): void {
    this.#keep(-size);
    this.#settle(delivery, outcome, settled);
  }

  /** All that fail meanwhile are released together. */
  #releaseLater(held: Held): void {
    this.#failed.push(held);
    const release = this.#connection.guarded(() => this.#becomeQuiet());
    this.#failedTimer ??= setTimeout(release, pauseAfter(this.#failures++, RELEASE_PAUSE));
  }

  /** What comes of a group while one of its messages waits to be given back is given back with it, and then in order. */
  #becomeQuiet(): void {
    if (!this.#intake?.isBroken) return this.#releaseFailed();
    this.#isQuiet = true;
    this.#link.setCredit(0);
    this.#failedTimer = setTimeout(
      this.#connection.guarded(() => this.#releaseFailed()),
      QUIET,
    );
  }

  #releaseFailed(): void {
    clearTimeout(this.#failedTimer);
    this.#failedTimer = undefined;
    const failed = this.#failed;
    this.#failed = [];
    for (const held of failed) this.#settleHeld(held);
    this.#intake?.mend();
    if (!this.#isQuiet) return;
    this.#isQuiet = false;
    if (this.#link.isAttached) this.#attached();
  }

  #settle(delivery: IncomingDelivery, outcome: Outcome, settled?: Settled): void {
    if (!this.#link.isAttached) return settled?.();
    this.#settleNow(delivery, outcome, settled);
    this.#replenish();
  }

  #settleNow(delivery: IncomingDelivery, outcome: Outcome, settled?: Settled): void {
    // The peer has forgotten what came settled.
    if (!delivery.isSettled) this.#counts[COUNTER[outcome.settle]]++;
    this.#link.settle(delivery, outcome, settled);
  }

  /** Tops the credit up to the window: in larger steps, since each is a frame, unless there is none left at all. */
  #replenish(): void {
    const { creditWindow: window } = this.#options;
    const link = this.#link;
    if (!link.isAttached || !this.#takes || link.isDraining || window === 0) return;
    const { credit } = link;
    const pending = this.#intake?.size ?? 0;
    const free = window - this.#held.size - this.#failed.length - this.#given.length - pending;
    const room = Math.min(free, this.#room);
    const missing = room - credit;
    if (missing > 0 && (credit === 0 || missing >= window / 4)) link.addCredit(missing);
    // They are larger than was expected. What a flow has asked for is its own matter.
    const most = Math.max(0, room, this.#granted);
    if (this.#room < free && credit > most) link.setCredit(most);
  }

  #keep(bytes: number): void {
    const { budget } = this.#options;
    this.#bytes += bytes;
    if (budget) budget.bytes += bytes;
  }

  /** Messages for which there is room in bytes: one at least when there is nothing else. */
  get #room(): number {
    if (this.#size === undefined) return this.#options.firstCredit ?? FIRST_CREDIT;
    const { windowBytes, budget } = this.#options;
    const count = Math.floor((windowBytes - (budget?.bytes ?? this.#bytes)) / this.#size);
    return Math.max(this.#bytes === 0 ? 1 : 0, count);
  }
}

/** What is told of a message, with what it tells of itself. RabbitMQ 3 marks a redelivery by first-acquirer only. */
export function infoOf({ fields }: Incoming, tag: string, address: string | undefined): DeliveryInfo {
  const { delivery_count: count, first_acquirer: isFirst, to } = fields;
  const redelivered = (typeof count === 'number' && count > 0) || isFirst === false;
  return typeof to === 'string' ? { tag, address, redelivered, to } : { tag, address, redelivered };
}
