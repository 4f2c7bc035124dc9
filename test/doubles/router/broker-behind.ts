// A broker that the router is connected to: links that are routed to it one by one, and addresses whose messages it keeps.
import rhea, { type Connection, type Delivery, type EventContext } from 'rhea';
import { errorOf, keepBytes, type Link, type PeerError, type PeerSession } from '../../../broker/rhea';
import { describedIn, isPrefix, linkOf, OUTCOMES, type Outcome } from './addresses';

const NO_ROUTE: PeerError = { condition: 'qd:no-route-to-dest', description: 'No route to the destination node' };
const LOST: PeerError = {
  condition: 'qd:routed-link-lost',
  description: 'Connectivity to the peer container was lost',
};
/** Milliseconds until the router tries again. */
const PAUSE = 20;

/** What the router does for it. */
export interface Around {
  later(connection: Connection, step: () => void): void;
  /** A link by which the broker gets what clients send to a waypoint. */
  writes(link: Link, name: string): void;
  /** The link by which it gives that back. */
  reads(link: Link, name: string): void;
  message(link: Link, delivery: Delivery, bytes: Buffer): void;
  outcome(link: Link, delivery: Delivery, outcome: Outcome): void;
  flow(link: Link): void;
  gone(link: Link): void;
  reached(): void;
}

export interface Behind {
  port: number;
  linkRoutes?: string[];
  waypoints?: string[];
}

export class BrokerBehind {
  #connection: Connection | undefined;
  #pause: NodeJS.Timeout | undefined;
  #isStopped = false;
  /** The link of a client and the one to the broker, each to the other. */
  readonly #routed = new Map<Link, Link>();
  /** What was passed on, to what came in. */
  readonly #passed = new Map<Delivery, Delivery>();
  readonly #waypoints: Link[] = [];

  constructor(
    private readonly behind: Behind,
    private readonly router: Around,
  ) {}

  start(): void {
    const container = rhea.create_container({ id: 'router' });
    const on = (event: string, listener: (context: EventContext) => void) => container.on(event, listener);
    on('connection_open', ({ connection }) => this.#reached(connection));
    on('disconnected', () => this.#lost(container));
    on('sender_flow', (context) => this.flows(linkOf(context)) || this.router.flow(linkOf(context)));
    on('message', (context) => {
      const bytes = context.message as unknown as Buffer;
      if (!this.passes(linkOf(context), context.delivery!, bytes))
        this.router.message(linkOf(context), context.delivery!, bytes);
    });
    for (const state of OUTCOMES)
      on(state, (context) => {
        const outcome = { state, described: describedIn(context.delivery!) };
        if (!this.settles(context.delivery!, outcome)) this.router.outcome(linkOf(context), context.delivery!, outcome);
      });
    for (const event of ['connection_error', 'session_error', 'sender_error', 'receiver_error', 'error'])
      on(event, () => {});
    this.#dial(container);
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#pause);
    this.#connection?.close();
  }

  links(): Link[] {
    return [...this.#routed.keys()];
  }

  // Link routes

  routes(name: string): boolean {
    return this.behind.linkRoutes?.some((prefix) => isPrefix(prefix, name)) ?? false;
  }

  /** Why no link can be routed now. */
  objection(): PeerError | undefined {
    return this.#connection ? undefined : NO_ROUTE;
  }

  /** Attaches to the broker for a client. */
  route(link: Link, name: string, address: string): void {
    const other = this.#attach(name, address, link.is_sender());
    this.#routed.set(link, other).set(other, link);
  }

  /** The credit of one is that of the other. */
  flows(link: Link): boolean {
    const other = this.#routed.get(link);
    if (!other) return false;
    this.router.later(other.connection, () => {
      const more = link.credit - other.credit;
      if (other.is_open() && more > 0) other.add_credit(more);
    });
    return true;
  }

  passes(link: Link, delivery: Delivery, bytes: Buffer): boolean {
    const other = this.#routed.get(link);
    if (!other) return false;
    this.router.later(other.connection, () => {
      if (other.is_open()) this.#passed.set(other.send(bytes, undefined, delivery.format - 1), delivery);
    });
    return true;
  }

  settles(delivery: Delivery, { described }: Outcome): boolean {
    const came = this.#passed.get(delivery);
    if (!came) return false;
    this.#passed.delete(delivery);
    for (const one of [came, ...(delivery.remote_settled ? [] : [delivery])])
      this.router.later(one.link.connection, () => {
        if (one.link.is_open()) one.update(true, described as Parameters<Delivery['update']>[1]);
      });
    return true;
  }

  /** The client's link has ended. */
  forget(link: Link): void {
    const other = this.#routed.get(link);
    if (!other) return;
    this.#routed.delete(link);
    this.#routed.delete(other);
    this.router.later(other.connection, () => {
      if (other.is_open()) other.close();
    });
  }

  // The connection

  #dial(container: rhea.Container): void {
    const { port } = this.behind;
    const options = {
      port,
      host: '127.0.0.1',
      tcp_no_delay: true,
      reconnect: false,
      autoaccept: false,
      credit_window: 0,
    };
    container.connect({ ...options, treat_modified_as_released: false } as rhea.ConnectionOptions);
  }

  #reached(connection: Connection): void {
    this.#connection = connection;
    for (const name of this.behind.waypoints ?? []) {
      const [out, back] = [this.#attach(`${name} out`, name, false), this.#attach(`${name} in`, name, true)];
      this.#waypoints.push(out, back);
      this.router.writes(out, name);
      this.router.reads(back, name);
    }
    this.router.reached();
  }

  #lost(container: rhea.Container): void {
    this.#connection = undefined;
    for (const [link, other] of this.#routed) {
      // either of the two is the client's
      for (const one of [link, other]) if (one.is_open() && one.connection.is_open()) one.close(errorOf(LOST));
    }
    this.#routed.clear();
    this.#passed.clear();
    for (const link of this.#waypoints.splice(0)) this.router.gone(link);
    if (!this.#isStopped) this.#pause = setTimeout(() => this.#dial(container), PAUSE);
  }

  #attach(name: string, address: string, reads: boolean): Link {
    const session = this.#connection!.create_session();
    session.begin();
    keepBytes(session as PeerSession);
    const link = reads
      ? session.open_receiver({ name, source: { address }, credit_window: 0, autoaccept: false })
      : session.open_sender({ name, target: { address } });
    return link as unknown as Link;
  }
}
