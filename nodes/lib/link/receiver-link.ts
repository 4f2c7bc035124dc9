import type { LinkConnection } from '../connection/connection';
import { type AmqpError, amqpError, type Brief, type PeerError } from '../errors';
import { Pause } from '../pause';
import type { State } from '../state';
import type { IncomingDelivery, ReceivingEnd } from '../wire/link-end';
import { type Outcome, readOutcome, stateOf } from '../wire/outcome';
import type { Session } from '../wire/session';
import { SESSION_FILTER } from '../wire/filter';
import { type LinkProperties, propertiesOf } from '../wire/properties';
import { type DetachOptions, Link } from './link';
import type { SharedSession } from './shared-session';
import { type Answer, answerTo, isHarmful, type SourceOptions, sourceOf } from './source';

export interface ReceiverLinkOptions {
  /** Link name; the same after each restart. */
  name: string;
  address?: string;
  /** The peer makes the address; it is another one after each reconnect. */
  dynamic?: boolean;
  /** Asked of a dynamic source. */
  capabilities?: string[];
  source?: SourceOptions;
  properties?: LinkProperties;
  /** Of this link and others. */
  session?: SharedSession;
  /** A client has attached it, to an address of ours. */
  isAccepted?: boolean;
  /** Milliseconds that the peer may wait before it answers the attach. */
  patience?: number;
  /** The peer forgets each message once it is sent. */
  isPreSettled: boolean;
  /** The peer is to answer each outcome: it settles a message, not we (2.6.12, mode second). */
  isAnswered?: boolean;
  /** The most bytes of a message that is taken (2.7.3). */
  maxMessageSize?: number;
}

/** Called when a delivery is settled, or cannot be. */
export type Settled = (error?: AmqpError) => void;

/** What the link calls. */
export interface ReceiverLinkUser {
  message(delivery: IncomingDelivery): void;
  /** There is a link, which has no credit yet. */
  attached(): void;
  /** The link is gone, and with it what came by it and is not settled. */
  lost(error: AmqpError): void;
}

/** Bounds the wait for the peer's answer to a drain, which some peers never give (R48). */
const DRAIN_TIMEOUT = 5000;
/** Milliseconds that the peer has to answer an outcome. */
const ANSWER_TIMEOUT = 30_000;
/** The refusal of Azure Service Bus where no session has become free in time. */
const NO_SESSION = 'com.microsoft:timeout';

/** The link of a receiver: asks for the source, and says what the peer has made of that. Credit is given by its user. */
export class ReceiverLink extends Link<ReceivingEnd> {
  readonly #options: ReceiverLinkOptions;
  readonly #user: ReceiverLinkUser;
  #address: string | undefined;
  #isPaused = false;
  /** Each ends a delivery that waits for the peer's answer. */
  readonly #unanswered = new Set<Settled>();
  /** What the peer has made of the options. */
  #answer: Answer = { ignored: [], unsure: [] };
  #draining: Promise<void> | undefined;
  readonly #drain = new Pause();

  constructor(connection: LinkConnection, options: ReceiverLinkOptions, user: ReceiverLinkUser) {
    super(connection, options.name);
    this.#options = options;
    this.#user = user;
    this.#address = options.address;
  }

  /** The address read from: what was asked for, or what the peer has made. */
  get address(): string | undefined {
    return this.#options.dynamic ? this.end?.sourceAddress : this.#address;
  }

  /** Whether it is known what to attach to. */
  get hasAddress(): boolean {
    return Boolean(this.#address) || this.#options.dynamic === true;
  }

  /** The session of Azure Service Bus that the peer has given. */
  get session(): string | undefined {
    const id = this.end?.source.filters[SESSION_FILTER];
    return typeof id === 'string' ? id : undefined;
  }

  get isAttached(): boolean {
    return this.end !== undefined;
  }

  override get isDurable(): boolean {
    return (this.#options.source?.durable ?? 0) > 0;
  }

  /** Reads from this address, after `detach`. */
  moveTo(address: string): void {
    this.#address = address;
  }

  /** Attaches, once there is an address. */
  override open(): void {
    if (this.hasAddress) super.open();
  }

  override detach(options?: DetachOptions): Promise<void> {
    return super.detach(options);
  }

  /** Messages that the peer may send. */
  get credit(): number {
    return this.end?.credit ?? 0;
  }

  setCredit(credit: number): void {
    this.end?.setCredit(credit);
  }

  addCredit(credit: number): void {
    this.end?.addCredit(credit);
  }

  /** Shows whether messages are wanted. */
  setPaused(isPaused: boolean): void {
    this.#isPaused = isPaused;
    if (this.end) this.change(this.attachedState(this.end));
  }

  /** Whether the peer is using up the credit, as it was asked to. */
  get isDraining(): boolean {
    return this.end?.drain === true;
  }

  /** Has the peer send at once what it has, up to the credit, and use up the rest of it. Resolves when that is done. */
  drain(): Promise<void> {
    this.#draining ??= this.#drainCredit().finally(() => (this.#draining = undefined));
    return this.#draining;
  }

  async #drainCredit(): Promise<void> {
    const { end } = this;
    if (!end) throw amqpError('AMQP_DISCONNECTED.drain');
    end.startDrain();
    await this.#drain.wait(DRAIN_TIMEOUT);
    const isDone = end.credit === 0;
    // R47: drain stays on for good otherwise.
    end.drain = false;
    if (this.end !== end) throw amqpError('AMQP_LINK_DETACHED.drain');
    if (!isDone) throw amqpError('AMQP_TIMEOUT.drain');
  }

  /** Throws when the outcome cannot be sent. */
  check(outcome: Outcome): void {
    stateOf(outcome, this.#maxFrameSize);
  }

  /**
   * Settles a delivery. `settled` is called once: when the peer has taken the outcome, where it is to answer, else at once;
   * with AMQP_LOCK_LOST where it does not take it, with AMQP_IN_DOUBT where it does not say.
   */
  settle(delivery: IncomingDelivery, outcome: Outcome, settled?: Settled): void {
    const { end } = this;
    // A peer with one session (IBM MQ) takes no other outcome. What is not settled it delivers again when the link is gone.
    const isTaken = outcome.settle === 'accept' || !this.connection.hasOneSession;
    if (!end || !isTaken) return settled?.();
    const state = stateOf(outcome, this.#maxFrameSize);
    if (this.#options.isAnswered && !delivery.isSettled)
      return this.#settleAnswered(end, delivery, outcome, state, settled);
    end.settle(delivery, state);
    settled?.();
  }

  #settleAnswered(
    end: ReceivingEnd,
    delivery: IncomingDelivery,
    outcome: Outcome,
    state: Buffer,
    settled?: Settled,
  ): void {
    const ended = (error?: AmqpError): void => {
      clearTimeout(timer);
      this.#unanswered.delete(ended);
      end.forgetAnswer(delivery);
      settled?.(error);
    };
    const late = this.connection.guarded(() => ended(amqpError('AMQP_IN_DOUBT.outcome')));
    const timer = setTimeout(late, ANSWER_TIMEOUT);
    this.#unanswered.add(ended);
    end.settle(delivery, state, ({ descriptor, bytes }) => {
      const { error } = (bytes && readOutcome(descriptor, bytes)) ?? {};
      // Some give our own rejection back.
      const isOurs = outcome.settle === 'reject' && outcome.error?.condition === error?.condition;
      ended(error?.condition && !isOurs ? amqpError('AMQP_LOCK_LOST.refused', {}, { peer: error }) : undefined);
    });
  }

  get #maxFrameSize(): number {
    return this.end?.maxFrameSize ?? Infinity;
  }

  protected override get sharedSession(): SharedSession | undefined {
    return this.#options.session;
  }

  protected override get ownAddress(): string | undefined {
    return this.#address;
  }

  protected override attach(session: Session): ReceivingEnd {
    const { dynamic, capabilities, source = {}, isPreSettled, properties, maxMessageSize } = this.#options;
    const end = session.attachReceiver(this.name, {
      source: {
        ...sourceOf(source),
        ...(dynamic
          ? { dynamic: true, ...(capabilities && { capabilities }) }
          : { address: this.redirectedTo ?? this.#address }),
      },
      snd_settle_mode: isPreSettled ? 1 : 0,
      rcv_settle_mode: this.#options.isAnswered ? 1 : 0,
      ...(properties && { properties: propertiesOf(properties) }),
      ...(maxMessageSize && { max_message_size: maxMessageSize }),
    });
    end.user = {
      message: (delivery) => {
        if (this.end === end) this.#user.message(delivery);
      },
      drained: () => this.#drain.end(),
    };
    return end;
  }

  protected override addressOf(end: ReceivingEnd): string | undefined {
    return end.sourceAddress;
  }

  protected override get needsAddress(): 'always' | 'usually' | 'never' {
    if (this.#options.isAccepted) return 'never';
    return this.#options.dynamic ? 'always' : 'usually';
  }

  protected override get attachingState(): State {
    return this.#waitsForSession ? { name: 'no-session' } : super.attachingState;
  }

  protected override get attachTimeout(): number {
    return super.attachTimeout + (this.#options.patience ?? 0);
  }

  protected override get theft(): Brief & { why: string } {
    if (this.#options.source?.events === undefined) return super.theft;
    return { why: 'another receiver of the partition has a higher epoch' };
  }

  protected override isForNow({ condition }: PeerError): boolean {
    return this.#waitsForSession && condition === NO_SESSION;
  }

  /** For the next free one: one that is named is refused at once, and shown so. */
  get #waitsForSession(): boolean {
    return this.#options.source?.session === null;
  }

  protected override attachedState(end: ReceivingEnd): State {
    const { source = {}, dynamic } = this.#options;
    this.#answer = answerTo(source, end.source, this.connection.product);
    if (this.#isPaused) return { name: 'paused' };
    const address = dynamic ? end.sourceAddress : source.session === undefined ? undefined : this.session;
    return this.#answerState ?? { name: 'connected', ...(address !== undefined && { address }) };
  }

  /** The state when the peer does not do all that was asked, or may not. */
  get #answerState(): State | undefined {
    const { ignored, unsure } = this.#answer;
    if (ignored.length > 0) return { name: 'ignored', options: ignored };
    return unsure.length > 0 ? { name: 'unsure', options: unsure } : undefined;
  }

  protected override attached(): void {
    // A browser that the peer takes for a consumer would empty the queue, and what is not filtered would be taken from
    // whom it is for; attached without credit, it would keep its share of a router's messages from others.
    if (isHarmful(this.#options.source ?? {}, this.#answer)) return this.giveUp(this.#answerState!);
    this.#user.attached();
  }

  protected override lost(error: AmqpError): void {
    for (const ended of this.#unanswered) ended(amqpError('AMQP_IN_DOUBT.outcome'));
    this.#user.lost(error);
    this.#drain.end();
  }
}
