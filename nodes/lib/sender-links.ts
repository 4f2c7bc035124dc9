import type { Connection, ConnectionUser } from './connection';
import type { AmqpError } from './errors';
import { Queue } from './queue';
import { type Held, SenderLink, type SenderLinkOptions, type SenderLinkUser } from './sender-link';
import { type State, worstOf } from './status';

/** Without an address, and not dynamic: each message has its own. */
export interface SenderLinksOptions extends SenderLinkOptions {
  /** Link name; the same after each restart. */
  name: string;
}

interface Ordered extends Held {
  readonly sequence: number;
}

export interface SenderLinksUser<H> extends Omit<SenderLinkUser<H>, 'ready'> {
  /** The state, or the number of those that wait, may be another one. */
  changed(): void;
}

/** What waits for one link. */
interface Lane<H extends Ordered> {
  readonly address: string;
  readonly waiting: Queue<H>;
  link?: SenderLink<H>;
  isPumping: boolean;
  /** Counts uses of all lanes. */
  lastUsed: number;
}

/** Links to single addresses that are kept where the peer has no anonymous relay. */
const MAX_LINKS = 64;

/**
 * The links of a sender, and what waits for each, in order: one link for all messages where the sender has an address
 * or the peer relays, else one for each address, attached as messages need it.
 */
export class SenderLinks<H extends Ordered> implements ConnectionUser {
  readonly sessions = 0;
  readonly #connection: Connection;
  readonly #options: SenderLinksOptions;
  readonly #user: SenderLinksUser<H>;
  /** Messages that wait for credit or a link. */
  waiting = 0;
  /** By address; the one lane for all is under the empty string. */
  #lanes = new Map<string, Lane<H>>();
  #uses = 0;
  #connectionState: State = { name: 'idle' };
  /** Of connection and links together; undefined after a change of one of them. */
  #state: State | undefined;
  /** Whether the peer relays what comes by an anonymous link; of a new connection that is not known yet. */
  #isRelayed = true;
  #isHeld = false;

  constructor(connection: Connection, options: SenderLinksOptions, user: SenderLinksUser<H>) {
    this.#connection = connection;
    this.#options = options;
    this.#user = user;
  }

  /** True when all messages go to one address. */
  get hasAddress(): boolean {
    return this.#options.address !== undefined || this.#options.dynamic === true;
  }

  get state(): State {
    return (this.#state ??= worstOf(this.#connectionState, ...this.#links().map((link) => link.state)));
  }

  /** Messages on their way. */
  get inFlight(): number {
    return this.#links().reduce((sum, { inFlight }) => sum + inFlight.size, 0);
  }

  /** The oldest message that waits. */
  get first(): H | undefined {
    let oldest: H | undefined;
    for (const { waiting } of this.#lanes.values()) {
      const { first } = waiting;
      if (first && !(oldest && oldest.sequence < first.sequence)) oldest = first;
    }
    return oldest;
  }

  open(): void {
    this.#connection.add(this);
    if (this.hasAddress) this.#attach(this.#laneOf(''));
  }

  async close(): Promise<void> {
    await Promise.all(this.#links().map((link) => link.close()));
    await this.#connection.remove(this);
  }

  push(message: H): void {
    const lane = this.#laneFor(message);
    lane.waiting.push(message);
    this.waiting++;
    this.#pump(lane);
  }

  /** Puts messages that were taken before where they were; sent they are with the next `pump`. */
  putBack(...messages: H[]): void {
    for (const message of messages) this.#laneFor(message).waiting.putBack(message);
    this.waiting += messages.length;
  }

  /** Forgets a message that waits or is on its way. */
  delete(message: H): void {
    const lane = this.#lanes.get(this.#laneName(message));
    if (!lane) return;
    if (lane.waiting.delete(message)) this.waiting--;
    else lane.link?.forget(message);
    if (!lane.link && lane.waiting.size === 0) this.#lanes.delete(lane.address);
  }

  /** The state of the link that the message waits for. */
  stateFor(message: H): State {
    return this.#lanes.get(this.#laneName(message))?.link?.state ?? this.#connectionState;
  }

  /** Sends nothing until `resume`. */
  hold(): void {
    this.#isHeld = true;
  }

  resume(): void {
    this.#isHeld = false;
    this.pump();
  }

  /** Hands over what can be sent. */
  pump(): void {
    for (const lane of Array.from(this.#lanes.values())) this.#pump(lane);
  }

  /** For the connection. */
  connected(): void {
    this.#connectionState = { name: 'connected' };
    this.#state = undefined;
    if (!this.hasAddress) this.#chooseLanes();
    this.#user.changed();
    this.pump();
  }

  /** For the connection. */
  disconnected(state: State): void {
    this.#connectionState = state;
    this.#state = undefined;
    this.#user.changed();
  }

  /** An anonymous link where the peer relays, else links as messages need them. */
  #chooseLanes(): void {
    // Only a link can say of what kind its address is: what comes by the relay to a new one, Artemis makes a topic of, and loses.
    const isRelayed = this.#connection.offers('ANONYMOUS-RELAY') && !this.#options.target?.capabilities;
    if (isRelayed !== this.#isRelayed) {
      const lanes = Array.from(this.#lanes.values());
      for (const lane of lanes) this.#drop(lane);
      this.#isRelayed = isRelayed;
      const messages = lanes.flatMap(({ waiting }) => [...waiting]).toSorted((a, b) => a.sequence - b.sequence);
      for (const message of messages) this.#laneFor(message).waiting.push(message);
    }
    if (isRelayed) this.#attach(this.#laneOf(''));
  }

  #laneName({ entry }: H): string {
    return this.hasAddress || this.#isRelayed ? '' : entry.address!;
  }

  #laneFor(message: H): Lane<H> {
    return this.#laneOf(this.#laneName(message));
  }

  #laneOf(address: string): Lane<H> {
    let lane = this.#lanes.get(address);
    if (!lane) {
      lane = { address, waiting: new Queue(), isPumping: false, lastUsed: 0 };
      this.#lanes.set(address, lane);
    }
    lane.lastUsed = ++this.#uses;
    return lane;
  }

  #links(): SenderLink<H>[] {
    return Array.from(this.#lanes.values()).flatMap(({ link }) => link ?? []);
  }

  #attach(lane: Lane<H>): SenderLink<H> {
    if (lane.link) return lane.link;
    const { address } = lane;
    const { name } = this.#options;
    const link = new SenderLink<H>(
      this.#connection,
      address ? `${name}:${address}` : name,
      { ...this.#options, address: address || this.#options.address },
      {
        ready: () => this.#pump(lane),
        settled: (message, outcome) => {
          this.#user.settled(message, outcome);
          this.#idle(lane);
        },
        failed: (message, error) => this.#user.failed(message, error),
        lost: (messages, error) => this.#user.lost(messages, error),
      },
    );
    lane.link = link;
    this.#state = undefined;
    link.on('state', (state) => {
      this.#state = undefined;
      // With a link for each address nothing but this tells that one of them is no good.
      if (address && state.name === 'refused' && state.error.code === 'AMQP_LINK_REFUSED')
        this.#refused(lane, state.error);
      this.#user.changed();
    });
    link.open();
    return link;
  }

  #drop(lane: Lane<H>): void {
    this.#lanes.delete(lane.address);
    this.#state = undefined;
    lane.link?.removeAllListeners();
    void lane.link?.close();
  }

  #refused(lane: Lane<H>, error: AmqpError): void {
    this.#drop(lane);
    this.waiting -= lane.waiting.size;
    for (const message of lane.waiting) this.#user.failed(message, error);
    this.#serveNext();
  }

  /** A link that is not in use makes room for one to another address. */
  #idle(lane: Lane<H>): void {
    if (lane.address && isIdle(lane)) this.#serveNext();
  }

  #serveNext(): void {
    for (const lane of this.#lanes.values()) if (!lane.link && lane.waiting.size > 0) return this.#pump(lane);
  }

  /** False when there are too many links already, all in use. */
  #makeRoom(): boolean {
    if (this.#lanes.size <= MAX_LINKS) return true;
    const lanes = Array.from(this.#lanes.values()).filter(({ link }) => link);
    if (lanes.length < MAX_LINKS) return true;
    const idle = lanes.filter(isIdle).toSorted((a, b) => a.lastUsed - b.lastUsed);
    if (!idle[0]) return false;
    this.#drop(idle[0]);
    return true;
  }

  /** Hands over what can be sent, in order. */
  #pump(lane: Lane<H>): void {
    // What is told from in here may send again.
    if (lane.isPumping || this.#isHeld || this.#connectionState.name !== 'connected') return;
    if (lane.waiting.size === 0 || !(lane.link || this.#makeRoom())) return;
    const link = this.#attach(lane);
    lane.isPumping = true;
    try {
      while (lane.waiting.size > 0 && link.isReady) {
        this.waiting--;
        link.send(lane.waiting.shift()!);
      }
    } finally {
      lane.isPumping = false;
    }
    this.#user.changed();
  }
}

function isIdle({ link, waiting }: Lane<Ordered>): boolean {
  return waiting.size === 0 && link?.inFlight.size === 0;
}
