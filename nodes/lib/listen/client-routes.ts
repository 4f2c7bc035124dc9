import { amqpError, type AmqpError, type PeerError } from '../errors';
import type { Entry } from '../link/entry';
import type { Outcome, SenderLink } from '../link/sender-link';
import { isOverdue, Lane } from '../sender/lane';
import type { RoutesOptions, RoutesUser, Routing } from '../sender/routes';
import type { State } from '../state';
import type { Feed, Source } from './feed';
import type { Hub } from './hub';

/** What waits for the clients of one address. */
interface Route {
  readonly feed: Feed;
  readonly lane: Lane;
  /** Messages on their way to it. */
  inFlight: number;
}

/** Why clients are sent away that receive from the address of a node. */
export const STOPPED = {
  condition: 'amqp:link:detach-forced',
  description: 'the node is stopped or deployed anew',
};

/**
 * Where a sender's messages wait for clients that receive from their address. The clients compete for them: each message
 * goes to one, in turn, and to another one where it comes back. Order is kept as far as several clients let it.
 */
export class ClientRoutes implements Routing, Source {
  waiting = 0;
  inFlight = 0;
  sent = 0;
  protected readonly hub: Hub;
  protected readonly options: RoutesOptions;
  protected readonly user: RoutesUser;
  readonly #routes = new Map<string, Route>();
  readonly #refused = new Set<Route>();
  protected isPaused = false;
  #isOpen = false;

  constructor(hub: Hub, options: RoutesOptions, user: RoutesUser) {
    this.hub = hub;
    this.options = options;
    this.user = user;
  }

  get hasAddress(): boolean {
    return this.options.address !== undefined;
  }

  get state(): State {
    const { state } = this.hub;
    if (!this.#isOpen) return { name: 'detached' };
    return state.name === 'listening' ? { name: 'listening', count: this.#clients } : state;
  }

  /** That receive from its address; without one of its own, from those that it has sent to. */
  get #clients(): number {
    return Array.from(this.#routes.values()).reduce((sum, { feed }) => sum + feed.links.length, 0);
  }

  get credit(): number {
    const links = Array.from(this.#routes.values()).flatMap(({ feed }) => feed.links);
    return links.reduce((sum, { credit }) => sum + credit, 0);
  }

  get maxMessageSize(): number | undefined {
    const links = Array.from(this.#routes.values()).flatMap(({ feed }) => feed.links);
    const sizes = links.flatMap(({ maxMessageSize }) => maxMessageSize ?? []);
    return sizes.length > 0 ? Math.min(...sizes) : undefined;
  }

  get first(): Entry | undefined {
    const firsts = Array.from(this.#routes.values()).flatMap(({ lane }) => lane.first ?? []);
    return firsts.toSorted((one, other) => one.sequence - other.sequence)[0];
  }

  get isRefused(): boolean {
    return this.#refused.size > 0;
  }

  open(): void {
    if (this.#isOpen) return;
    this.#isOpen = true;
    this.hub.on('state', this.#changed);
    this.hub.open();
    const { address } = this.options;
    if (address !== undefined) this.#routeOf(address);
    this.user.changed();
  }

  async close(): Promise<void> {
    this.hub.off('state', this.#changed);
    this.#isOpen = false;
    const routes = Array.from(this.#routes.values());
    this.#routes.clear();
    await Promise.all(
      routes.map(async ({ feed, lane }) => {
        lane.clear();
        feed.sources.delete(this);
        // What a client has had made for itself stays for as long as the client does.
        if (feed.sources.size === 0 && !this.hub.isMade(feed.address)) await feed.dismissAll(STOPPED);
        this.hub.release(feed.address);
      }),
    );
  }

  /** Clients that receive from the address are sent away, with an error if one is given. */
  async detach(error?: PeerError): Promise<void> {
    const links = Array.from(this.#routes.values()).flatMap(({ feed }) => feed.links);
    await Promise.all(links.map((link) => link.detach({ error })));
  }

  push(entry: Entry): void {
    const address = this.addressOf(entry);
    if (this.hub.isGone(address)) return this.user.failed(entry, gone(address));
    const route = this.#routeOf(address);
    route.lane.put(entry);
    this.waiting++;
    this.pump(route.feed, route.lane);
  }

  putBack(...messages: Entry[]): void {
    for (const entry of messages) this.#routeOf(this.addressOf(entry)).lane.put(entry);
    this.waiting += messages.length;
    this.#pumpAll();
  }

  retry(entry: Entry, isReleased: boolean): boolean {
    const { retryTime } = this.options;
    const route = this.#routeOf(this.addressOf(entry));
    if (retryTime === 0 || isOverdue(entry, retryTime)) return false;
    route.lane.retry(entry, isReleased);
    this.waiting++;
    this.#refused.add(route);
    return true;
  }

  delete(entry: Entry): void {
    const route = this.#routes.get(this.addressOf(entry));
    if (!route) return;
    if (route.lane.delete(entry)) this.waiting--;
    else if (entry.end) {
      this.count(route.feed, -1);
      route.feed.forget(entry);
    }
    this.#release(route);
  }

  stateFor(): State {
    return this.state;
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
    this.#pumpAll();
  }

  // For feeds

  ready(feed: Feed): void {
    const route = this.#routes.get(feed.address);
    if (route) this.pump(feed, route.lane);
  }

  joined(feed: Feed, _link: SenderLink): void {
    // Another client may take what others did not.
    this.#routes.get(feed.address)?.lane.lift();
    this.user.changed();
  }

  left(_feed: Feed, _link: SenderLink): void {
    this.user.changed();
  }

  gone(feed: Feed): void {
    const route = this.#routes.get(feed.address);
    if (!route) return;
    this.#failAll(route);
    this.#release(route);
  }

  settled(entry: Entry, outcome: Outcome): void {
    const route = this.#routes.get(this.addressOf(entry));
    if (route) this.count(route.feed, -1);
    if (!outcome.mayRetry) route?.lane.taken(entry);
    this.user.settled(entry, outcome);
    if (route) this.#release(route);
  }

  failed(entry: Entry, error: AmqpError): void {
    const route = this.#routes.get(this.addressOf(entry));
    if (route) this.count(route.feed, -1);
    this.user.failed(entry, error);
  }

  lost(feed: Feed, inDoubt: Entry[], error: AmqpError): void {
    this.count(feed, -inDoubt.length);
    this.user.lost(inDoubt, error);
  }

  /** Counts what is on its way. */
  protected count(feed: Feed, change: number): void {
    this.inFlight += change;
    if (change > 0) this.sent += change;
    const route = this.#routes.get(feed.address);
    if (route) route.inFlight += change;
  }

  /** Hands over what can be sent. */
  protected pump(feed: Feed, lane: Lane): void {
    if (this.isPaused) return;
    for (let link = feed.ready(); link; link = feed.ready()) {
      const entry = lane.shift();
      if (!entry) break;
      this.waiting--;
      this.count(feed, 1);
      feed.send(link, entry, this);
    }
    this.user.changed();
  }

  #pumpAll(): void {
    for (const { feed, lane } of this.#routes.values()) this.pump(feed, lane);
  }

  readonly #changed = (): void => this.user.changed();

  protected addressOf(entry: Entry): string {
    return (entry.isDirect ? undefined : this.options.address) ?? entry.address!;
  }

  #routeOf(address: string): Route {
    const known = this.#routes.get(address);
    if (known) return known;
    const ready = this.hub.guarded(() => {
      if (!route.lane.isRefused) this.#refused.delete(route);
      this.pump(route.feed, route.lane);
    });
    const route: Route = { feed: this.hub.feed(address), lane: new Lane(ready, this.options.retryTime), inFlight: 0 };
    route.feed.sources.add(this);
    this.#routes.set(address, route);
    return route;
  }

  /** What is not used any more, of addresses that messages name. */
  #release(route: Route): void {
    if (!route.lane.isRefused) this.#refused.delete(route);
    const { feed, lane } = route;
    if (feed.address === this.options.address || !lane.isEmpty || route.inFlight > 0) return;
    if (this.#routes.get(feed.address) !== route) return;
    this.#routes.delete(feed.address);
    feed.sources.delete(this);
    this.hub.release(feed.address);
  }

  #failAll(route: Route): void {
    const messages = route.lane.clear();
    this.waiting -= messages.length;
    this.#refused.delete(route);
    for (const entry of messages) this.user.failed(entry, gone(route.feed.address));
  }
}

function gone(address: string): AmqpError {
  const peer = { condition: 'amqp:not-found' };
  return amqpError('AMQP_LINK_REFUSED.why', { why: `the client that had ${address} is gone` }, { peer });
}
