import type { ConnectionUser, LinkConnection } from '../connection/connection';
import { type AmqpError, amqpError, type PeerError } from '../errors';
import { isOverdue, Lane } from './lane';
import type { Entry } from '../link/entry';
import { SenderLink, type SenderLinkOptions, type SenderLinkUser } from '../link/sender-link';
import { type State, worstOf } from '../state';

/** Options of a sender's links. With neither `address` nor `dynamic`, each message names its address. */
export interface RoutesOptions extends SenderLinkOptions {
  /** Link name; the same after each restart. */
  name: string;
  /** Milliseconds for which a message is sent again that the peer has released or modified. */
  retryTime: number;
  /** Where clients attach links: each of them gets a copy of each message. Else they compete for it. */
  isCopied?: boolean;
}

export interface RoutesUser extends Omit<SenderLinkUser, 'ready'> {
  /** The state, or the number of those that wait, may be another one. */
  changed(): void;
}

/** Where a sender's messages wait for links, and the links: what the sender needs of it. */
export interface Routing {
  /** True when all messages go to one address. */
  readonly hasAddress: boolean;
  readonly state: State;
  /** Messages on their way. */
  readonly inFlight: number;
  /** Messages that were sent, and sent again. */
  readonly sent: number;
  /** Messages that the peers take now. */
  readonly credit: number;
  /** Messages that wait for credit or a link. */
  readonly waiting: number;
  /** The most bytes of a message that all peers take which are attached; undefined: there are none. */
  readonly maxMessageSize: number | undefined;
  /** The oldest message that waits. */
  readonly first: Entry | undefined;
  /** True while messages are to be sent again that the peer did not take. */
  readonly isRefused: boolean;
  open(): void;
  close(): Promise<void>;
  detach(error?: PeerError): Promise<void>;
  push(entry: Entry): void;
  putBack(...messages: Entry[]): void;
  retry(entry: Entry, isReleased: boolean): boolean;
  delete(entry: Entry): void;
  stateFor(entry: Entry): State;
  pause(): void;
  resume(): void;
}

/** A link, and what waits for it. */
interface Route {
  readonly address: string;
  readonly lane: Lane;
  link?: SenderLink;
  isPumping: boolean;
  /** Counts uses of all routes. */
  lastUsed: number;
}

/** Links to single addresses that are kept where the peer has no anonymous relay. */
const MAX_LINKS = 64;

/**
 * The links of a sender, and what waits for each, in order: one link for all messages where the sender has an address
 * or the peer relays, else one for each address, attached as messages need it.
 */
export class Routes implements ConnectionUser, Routing {
  readonly sessions = 0;
  readonly #connection: LinkConnection;
  readonly #options: RoutesOptions;
  readonly #user: RoutesUser;
  /** Messages that wait for credit or a link. */
  waiting = 0;
  sent = 0;
  /** By address; the one route for all is under the empty string. */
  #routes = new Map<string, Route>();
  /** Those on which messages are to be sent again that the peer did not take. */
  #refused = new Set<Route>();
  #uses = 0;
  #connectionState: State = { name: 'idle' };
  /** Of connection and links together; undefined after a change of one of them. */
  #state: State | undefined;
  /** Whether the peer offers an anonymous relay: assumed until its open. */
  #isRelayed = true;
  #isPaused = false;
  #isDetached = false;

  constructor(connection: LinkConnection, options: RoutesOptions, user: RoutesUser) {
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
    return this.#links().reduce((sum, { inFlight }) => sum + inFlight, 0);
  }

  get credit(): number {
    return this.#links().reduce((sum, { credit }) => sum + credit, 0);
  }

  /** The most bytes of a message that all peers take which are attached; undefined: there are none. */
  get maxMessageSize(): number | undefined {
    const sizes = this.#links().flatMap(({ maxMessageSize }) => maxMessageSize ?? []);
    return sizes.length > 0 ? Math.min(...sizes) : undefined;
  }

  /** The oldest message that waits. */
  get first(): Entry | undefined {
    let oldest: Entry | undefined;
    for (const { lane } of this.#routes.values()) {
      const { first } = lane;
      if (first && !(oldest && oldest.sequence < first.sequence)) oldest = first;
    }
    return oldest;
  }

  /** True while messages are to be sent again that the peer did not take. */
  get isRefused(): boolean {
    return this.#refused.size > 0;
  }

  open(): void {
    this.#connection.add(this);
    if (this.hasAddress) this.#attach(this.#routeOf(''));
  }

  async close(): Promise<void> {
    await Promise.all(this.#links().map((link) => link.close()));
    await this.#connection.remove(this);
  }

  /** Detaches, with an error if one is given, until the next message is pushed. */
  async detach(error?: PeerError): Promise<void> {
    this.#isDetached = true;
    await Promise.all(this.#links().map((link) => link.detach({ error })));
  }

  #attachAgain(): void {
    this.#isDetached = false;
    for (const link of this.#links()) link.open();
  }

  push(entry: Entry): void {
    if (this.#isDetached) this.#attachAgain();
    const route = this.#routeFor(entry);
    const { link, lane } = route;
    const mustWait = route.isPumping || this.#isPaused || this.#connectionState.name !== 'connected';
    // Most messages wait for nothing.
    if (!mustWait && lane.isEmpty && link?.isReady) {
      this.sent++;
      return link.send(entry);
    }
    lane.put(entry);
    this.waiting++;
    this.#pump(route);
  }

  /** Returns messages to their places; `pump` sends them. */
  putBack(...messages: Entry[]): void {
    for (const entry of messages) this.#routeFor(entry).lane.put(entry);
    this.waiting += messages.length;
  }

  /**
   * Sends a message again that the peer has released or modified, after a pause; its address keeps its order. False when
   * that has been going on for too long.
   */
  retry(entry: Entry, isReleased: boolean): boolean {
    const route = this.#routeFor(entry);
    const { retryTime } = this.#options;
    if (retryTime === 0 || isOverdue(entry, retryTime)) {
      // What waits behind it has waited as long.
      const error = amqpError('AMQP_RELEASED.before');
      for (const other of route.lane.overdue(entry.address, retryTime)) this.#user.failed(other, error);
      return false;
    }
    route.lane.retry(entry, isReleased);
    this.waiting++;
    this.#count(route);
    return true;
  }

  /** Forgets a message that waits or is on its way. */
  delete(entry: Entry): void {
    const route = this.#routes.get(this.#routeName(entry));
    if (!route) return;
    const { lane, link } = route;
    if (lane.delete(entry)) this.waiting--;
    else link?.forget(entry);
    this.#count(route);
    if (!link && lane.isEmpty) this.#routes.delete(route.address);
    // What was on its way by the link is not any more: a message to another address may wait for that.
    if (route.address && isIdle(route)) this.#serveNext();
  }

  /** The state of the link that the message waits for. */
  stateFor(entry: Entry): State {
    return this.#routes.get(this.#routeName(entry))?.link?.state ?? this.#connectionState;
  }

  /** Sends nothing until `resume`. */
  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.pump();
  }

  /** Hands over what can be sent. */
  pump(): void {
    for (const route of Array.from(this.#routes.values())) this.#pump(route);
  }

  /** For the connection. */
  connected(): void {
    this.#connectionState = { name: 'connected' };
    this.#state = undefined;
    if (!this.hasAddress) this.#chooseRoutes();
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
  #chooseRoutes(): void {
    // Queue or topic can only be asked for on a link; through the relay Artemis makes a topic and drops the message.
    const isRelayed = this.#connection.offers('ANONYMOUS-RELAY') && !this.#options.target?.capabilities;
    if (isRelayed !== this.#isRelayed) {
      const messages = Array.from(this.#routes.values()).flatMap((route) => this.#drop(route));
      this.#isRelayed = isRelayed;
      for (const entry of messages.toSorted((a, b) => a.sequence - b.sequence)) {
        this.#routeFor(entry).lane.put(entry);
      }
    }
    if (isRelayed) this.#attach(this.#routeOf(''));
  }

  #routeName(entry: Entry): string {
    return !entry.isDirect && (this.hasAddress || this.#isRelayed) ? '' : entry.address!;
  }

  #routeFor(entry: Entry): Route {
    return this.#routeOf(this.#routeName(entry));
  }

  #routeOf(address: string): Route {
    let route = this.#routes.get(address);
    if (!route) {
      const ready = (): void => {
        this.#count(made);
        this.#pump(made);
      };
      const lane = new Lane(this.#connection.guarded(ready), this.#options.retryTime);
      const made: Route = { address, lane, isPumping: false, lastUsed: 0 };
      route = made;
      this.#routes.set(address, route);
    }
    route.lastUsed = ++this.#uses;
    return route;
  }

  #count(route: Route): void {
    if (route.lane.isRefused) this.#refused.add(route);
    else this.#refused.delete(route);
  }

  #links(): SenderLink[] {
    return Array.from(this.#routes.values()).flatMap(({ link }) => link ?? []);
  }

  #attach(route: Route): SenderLink {
    if (route.link) return route.link;
    const { address, lane } = route;
    const { name } = this.#options;
    const link = new SenderLink(
      this.#connection,
      address ? `${name}:${address}` : name,
      { ...this.#options, address: address || this.#options.address, dynamic: !address && this.#options.dynamic },
      {
        ready: (isNew) => {
          if (isNew) this.#lift(route);
          this.#pump(route);
        },
        settled: (entry, outcome) => {
          if (!outcome.mayRetry) lane.taken(entry);
          this.#user.settled(entry, outcome);
          this.#idle(route);
        },
        failed: (entry, error) => this.#user.failed(entry, error),
        lost: (messages, error) => {
          this.#lift(route);
          this.#user.lost(messages, error);
        },
      },
    );
    route.link = link;
    this.#state = undefined;
    link.on('state', (state) => {
      this.#state = undefined;
      // With a link for each address nothing but this tells that one of them is no good.
      if (address && state.name === 'refused' && state.error.code === 'AMQP_LINK_REFUSED')
        this.#refuse(route, state.error);
      this.#user.changed();
    });
    link.open();
    return link;
  }

  #lift(route: Route): void {
    route.lane.lift();
    this.#count(route);
  }

  /** Gives up a link. Returns what waits for it. */
  #drop(route: Route): Entry[] {
    this.#routes.delete(route.address);
    this.#state = undefined;
    const messages = route.lane.clear();
    this.#count(route);
    route.link?.removeAllListeners();
    void route.link?.close();
    return messages;
  }

  #refuse(route: Route, error: AmqpError): void {
    const messages = this.#drop(route);
    this.waiting -= messages.length;
    for (const entry of messages) this.#user.failed(entry, error);
    this.#serveNext();
  }

  /** A link that is not in use makes room for one to another address; it is not needed beside the sender's own. */
  #idle(route: Route): void {
    if (!route.address || !isIdle(route)) return;
    if (this.hasAddress) this.#drop(route);
    this.#serveNext();
  }

  #serveNext(): void {
    for (const route of this.#routes.values()) if (!route.link && !route.lane.isEmpty) return this.#pump(route);
  }

  /** False when there are too many links already, all in use. */
  #makeRoom(): boolean {
    if (this.#routes.size <= MAX_LINKS) return true;
    const routes = Array.from(this.#routes.values()).filter(({ link }) => link);
    if (routes.length < MAX_LINKS) return true;
    const idle = routes.filter(isIdle).toSorted((a, b) => a.lastUsed - b.lastUsed);
    if (!idle[0]) return false;
    this.#drop(idle[0]);
    return true;
  }

  /** Hands over what can be sent, in order. */
  #pump(route: Route): void {
    // What is told from in here may send again.
    if (route.isPumping || this.#isPaused || this.#connectionState.name !== 'connected') return;
    const { lane } = route;
    if (lane.isEmpty || !(route.link || this.#makeRoom())) return;
    const link = this.#attach(route);
    route.isPumping = true;
    try {
      while (link.isReady) {
        const entry = lane.shift();
        if (!entry) break;
        this.waiting--;
        this.sent++;
        link.send(entry);
      }
    } finally {
      route.isPumping = false;
    }
    this.#user.changed();
  }
}

function isIdle({ link, lane }: Route): boolean {
  return lane.isEmpty && link?.inFlight === 0;
}
