/* oxlint-disable no-underscore-dangle -- rhea's inner methods are named so */
import { randomUUID } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import rhea, { type AmqpError, type Connection, type Delivery, type EventContext, type Message } from 'rhea';
import { decode, inspect, recount } from './bytes';
import { type Attached, type Entry, type LinkInfo, Queue } from './queue';
import { type Accounts, certifiedName, type Login, mechanismsOf, saslOf, type ScramOptions, watchLogin } from './sasl';
import { azureResponse, rabbitResponse, responseTo } from './management';
import { isCoordinator, transactionalIn, Transactions } from './transactions';
import { renewalIn, TokenBook, type Tokens } from './tokens';
import { type HttpAnswer, type Upgrade, type WebSocketOptions, webSocketServer } from './websocket';
import {
  answerDrains,
  echo,
  errorOf,
  type Fields,
  keepBytes,
  keepDirectionsApart,
  type Link,
  nameOf,
  type PeerError,
  type PeerSession,
  plain,
  renew,
  takeEarlyFlows,
  terminus,
} from './rhea';

export type { LinkInfo } from './queue';
export type { PeerError } from './rhea';
export type { Tokens } from './tokens';
export type { HttpAnswer, Upgrade, WebSocketOptions } from './websocket';
export type { Login, ScramOptions } from './sasl';
export type { Step, Turn } from './transactions';

export interface BrokerOptions {
  host?: string;
  /** 0 = any free one, the default */
  port?: number;
  /** accept a null target and route by `to` (default true) */
  anonymousRelay?: boolean;
  /** make a node when a peer asks for a dynamic one (default true) */
  dynamic?: boolean;
  /** Accounts for PLAIN and SCRAM; without them SCRAM accepts nothing, and PLAIN anything, unless there are tokens. */
  users?: Record<string, string>;
  /** accept SASL ANONYMOUS and connections without SASL (default true) */
  anonymous?: boolean;
  /**
   * The SASL mechanisms it offers, in this order: ANONYMOUS, PLAIN, EXTERNAL, XOAUTH2, SCRAM-SHA-1, -256, -512. Default:
   * PLAIN, ANONYMOUS (see there), and EXTERNAL to a client with a certificate. None at all = it speaks no SASL.
   */
  mechanisms?: string[];
  scram?: ScramOptions;
  /** Tokens for XOAUTH2, for the password of PLAIN, and for WebSocket; a Map gives each its life in milliseconds. */
  tokens?: Tokens;
  tls?: tls.TlsOptions;
  /** take AMQP over WebSocket, and nothing else (wss with `tls`) */
  websocket?: true | WebSocketOptions;
  /** credit kept at each sender (default 100) */
  credit?: number;
  /** failed deliveries after which a message moves to `DLQ` (default 5) */
  maxDeliveries?: number;
  channelMax?: number;
  /** milliseconds */
  idleTimeout?: number;
  maxFrameSize?: number;
  maxMessageSize?: number;
  /** What it says of itself in its open. */
  properties?: { product?: string; version?: string };
  /** Other servers that it names in its open, as `failover-server-list`: `network-host`, `hostname`, `port`, `scheme`… */
  failoverServers?: object[];
  /** answer with the filters that were asked for, or those of them that are named, and apply none, as routers do (default false) */
  confirmsFilters?: boolean | string[];
  /** close the connection at its second begin, as IBM MQ does (default false) */
  oneSession?: boolean;
  /** close the connection of a consumer that answers anything but accepted, as IBM MQ does (default false) */
  acceptedOnly?: boolean;
  /** renew tokens in place as RabbitMQ does: `PUT /auth/tokens` over a pair of links on `/management` (default false) */
  tokenRenewal?: boolean;
  /** answer requests to `/management`, as RabbitMQ does, and to `$management`, as Azure does (default false) */
  management?: boolean;
  /** refuse queues that were not declared, instead of making them (default false) */
  mustExist?: boolean;
  /** coordinate local transactions (default false) */
  transactions?: boolean;
}

export type Answer = 'accept' | 'reject' | 'release' | 'modify' | 'none';

export interface Disposition {
  address: string;
  id?: unknown;
  state: Outcome;
  deliveryFailed?: boolean;
  undeliverableHere?: boolean;
  error?: AmqpError;
}

type Outcome = 'accepted' | 'rejected' | 'released' | 'modified';
const DEAD_LETTERS = 'DLQ';
/** by which attaches to what coordinates transactions are refused, and held */
export const COORDINATOR = '$coordinator';
const REFUSED: PeerError = { condition: 'amqp:not-allowed', description: 'rejected' };
const MANAGEMENT = '/management';
const AZURE_MANAGEMENT = /(^|\/)\$management$/;
/** asks RabbitMQ for an address whose messages come at most once, on the session of whoever names it for replies */
const VOLATILE = 'rabbitmq:volatile-queue';
const isTopic = (address: string) => address.startsWith('topic/') || address.startsWith('topic://');

const isVolatile = (source: Fields | null | undefined) =>
  [source?.capabilities ?? []].flat().some((capability: unknown) => String(capability) === VOLATILE);

const subscriptionOf = ({ containerId, name }: LinkInfo) => `${containerId} ${name}`;

const linkOf = (context: EventContext) => (context.sender ?? context.receiver) as unknown as Link;

/**
 * An AMQP 1.0 broker in memory, for tests and for trying things out: queues, topics (`topic/…`), durable subscriptions,
 * browsing, dynamic nodes, an anonymous relay, redelivery, dead letters, SASL and TLS, and hooks to misbehave.
 *
 * Events: 'connection', 'attach' and 'detach' (a LinkInfo; 'detach' has `closed` and `error` as the client said them),
 * 'message' (address, decoded message), 'settled' (a Disposition), 'fault' (an error that cost a connection),
 * 'request' (to a node of management: address, decoded message), 'renewal' (of a token: '204', as the answer is always), 'login' (a Login, and whether it was accepted), 'upgrade' (an Upgrade, whether it was accepted or not).
 */
export class Broker extends EventEmitter {
  port: number;
  users: Record<string, string> | undefined;
  /** how each connection logged in, oldest first */
  readonly logins: Login[] = [];
  /** the logins that were refused */
  readonly refusedLogins: Login[] = [];
  /** what clients asked for to speak WebSocket */
  readonly upgrades: Upgrade[] = [];
  /** when set, clients that ask for WebSocket get this answer instead */
  refuseUpgrades: HttpAnswer | undefined;
  /** when set, each connection is closed once it is open, with `amqp:connection:redirect` and this for its info */
  redirect: object | undefined;
  /** transfers that arrived, by address */
  readonly received: Record<string, number> = {};
  /** what consumers answered, oldest first; the oldest go when there are very many */
  readonly dispositions: Disposition[] = [];
  /** what has begun, and hooks to misbehave, where `transactions` says that there are any */
  readonly transactions = new Transactions({
    route: ({ address, bytes, format }) => void this.route(address, bytes, format),
    isOut: (delivery) => this.attached.get(delivery.link as Link)?.unsettled.has(delivery) === true,
    drop: ({ connection }) => this.dropSocketOf(connection),
  });

  private readonly container = rhea.create_container({ id: 'embedded-broker' });
  private readonly sockets = new Map<Duplex, Connection | undefined>();
  private readonly open = new Set<Connection>();
  private readonly attached = new Map<Link, Attached>();
  private readonly queues = new Map<string, Queue>();
  /** durable subscriptions to topics, by container id and link name */
  private readonly kept = new Map<string, Queue>();
  private readonly refusals = new Map<string, PeerError>();
  private readonly answers = new Map<string, { answer: Answer; times: number }>();
  private readonly held = new Set<string>();
  private readonly tokenBook = new TokenBook((connection) =>
    this.expel(connection, { condition: 'amqp:unauthorized-access', description: 'credentials expired' }),
  );
  /** those that began a session */
  private readonly begun = new WeakSet<Connection>();
  private server?: net.Server;
  private waiting = new Set<Queue>();

  static async start(options: BrokerOptions = {}): Promise<Broker> {
    const broker = new Broker(options);
    await broker.resume();
    return broker;
  }

  private constructor(readonly options: BrokerOptions) {
    super();
    this.setMaxListeners(0);
    this.port = options.port ?? 0;
    this.users = options.users;
    this.tokens = options.tokens;
    this.listenToPeers();
  }

  get tokens(): Tokens | undefined {
    return this.tokenBook.tokens;
  }

  set tokens(tokens: Tokens | undefined) {
    this.tokenBook.tokens = tokens;
  }

  get url(): string {
    const { tls: secure, host = '127.0.0.1', websocket } = this.options;
    const scheme = (websocket ? 'ws' : 'amqp') + (secure ? 's' : '');
    return `${scheme}://${host}:${this.port}${this.webSocketOptions.path ?? ''}`;
  }

  private get webSocketOptions(): WebSocketOptions {
    const { websocket = true } = this.options;
    return websocket === true ? {} : websocket;
  }

  /** Stops listening and drops every connection; queues stay. */
  async stop(): Promise<void> {
    if (!this.server?.listening) return;
    const closed = once(this.server, 'close');
    this.server.close();
    this.dropSockets();
    await closed;
  }

  /** Listens again, on the port it had. */
  async resume(): Promise<void> {
    const server = this.createServer();
    server.on('connection', (socket) => this.track(socket));
    server.listen(this.port, this.options.host ?? '127.0.0.1');
    await once(server, 'listening');
    this.port = (server.address() as net.AddressInfo).port;
    this.server = server;
  }

  private createServer(): net.Server {
    const { tls: secure, websocket } = this.options;
    const accept = (socket: net.Socket) => void this.accept(socket, socket);
    if (!websocket) return secure ? tls.createServer(secure, accept) : net.createServer(accept);
    const options = this.webSocketOptions;
    return webSocketServer(options, secure, {
      refuse: (token) => {
        if (this.refuseUpgrades) return this.refuseUpgrades;
        if (!options.bearer || this.tokenBook.isValid(token ?? '')) return undefined;
        return { status: 401, headers: { 'WWW-Authenticate': 'Bearer' } };
      },
      upgraded: (upgrade) => {
        this.upgrades.push(upgrade);
        this.emit('upgrade', upgrade);
      },
      accept: (stream, { socket }, token) => {
        const connection = this.accept(stream, socket);
        if (options.bearer) this.tokenBook.give(connection, token!);
      },
    });
  }

  // Queues

  declare(name: string): void {
    this.queue(name);
  }

  /** Messages ready and messages out with consumers. */
  depth(name: string): number {
    return this.ready(name) + this.unsettled(name);
  }

  ready(name: string): number {
    return this.queues.get(name)?.ready.length ?? 0;
  }

  unsettled(name: string): number {
    return this.queues.get(name)?.unsettled() ?? 0;
  }

  purge(name: string): void {
    const queue = this.queues.get(name);
    if (queue) queue.ready = [];
  }

  /** Puts in a message in rhea's notation, or ready encoded. */
  put(name: string, message: Message | Buffer): void {
    this.route(name, Buffer.isBuffer(message) ? message : rhea.message.encode(message), 0);
  }

  /** The messages that are ready, decoded; undefined stands for one that cannot be. */
  messages(name: string): (Message | undefined)[] {
    return (this.queues.get(name)?.ready ?? []).map(({ bytes }) => decode(bytes));
  }

  // What is connected

  connections(): number {
    return [...this.open].filter((connection) => connection.is_open()).length;
  }

  links(): LinkInfo[] {
    return [...this.attached.values()].filter(({ link }) => link.is_open()).map(({ info }) => info);
  }

  // Misbehaving

  /** Attaches to the address are refused from now on ('' = attaches that name none: anonymous, dynamic). */
  refuse(address: string, error: PeerError = { condition: 'amqp:unauthorized-access' }): void {
    this.refusals.set(address, error);
  }

  /** Attaches to the address are refused with `amqp:link:redirect` from now on, until they are allowed again. */
  redirectLink(address: string, info: object): void {
    this.refuse(address, { condition: 'amqp:link:redirect', description: 'it is elsewhere', info });
  }

  allow(address: string): void {
    this.refusals.delete(address);
  }

  detach(address: string, { closed = true, ...error }: PeerError & { closed?: boolean } = {}): void {
    for (const attached of this.at(address)) this.cut(attached, closed, error);
  }

  endSessions(address: string, error: PeerError = {}): void {
    for (const session of new Set(this.at(address).map(({ link }) => link.session))) {
      for (const attached of this.attached.values()) if (attached.link.session === session) this.halt(attached);
      session.close(errorOf(error));
    }
  }

  dropSockets(): void {
    this.dropSocketOf();
  }

  private dropSocketOf(only?: Connection): void {
    for (const [socket, connection] of this.sockets) {
      if (only && only !== connection) continue;
      socket.destroy();
      connection?._disconnected();
    }
  }

  closeConnections(error: PeerError = {}): void {
    for (const connection of this.open) this.expel(connection, error);
  }

  /** The next `times` messages to the address get this answer, and only accepted ones are stored. */
  answer(address: string, answer: Answer, times = Infinity): void {
    this.answers.set(address, { answer, times });
  }

  /** Takes the credit of the senders to this address away, and gives none to later ones ('' = anonymous senders). */
  holdCredit(address: string): void {
    this.held.add(address);
    for (const { link, info } of this.at(address)) {
      if (info.role === 'receiver') continue;
      link.credit = 0;
      link.issue_flow = true;
      link.connection._register();
    }
  }

  /** Gives so much credit to the senders held; without a number the hold ends. */
  giveCredit(address: string, credit?: number): void {
    if (credit === undefined) this.held.delete(address);
    for (const attached of this.at(address)) {
      if (attached.info.role === 'receiver') continue;
      if (credit === undefined) this.topUp(attached);
      else attached.link.add_credit(credit);
    }
  }

  // Connections

  /** rhea asks for its mechanisms as it accepts a connection. */
  private offerSasl(socket: net.Socket): void {
    const { mechanisms, anonymous, tls: tlsOptions, scram = {} } = this.options;
    const usual = ['PLAIN'];
    if (anonymous !== false) usual.push('ANONYMOUS');
    if (tlsOptions?.requestCert && certifiedName(socket) !== undefined) usual.push('EXTERNAL');
    const accounts: Accounts = {
      passwordOf: (user) => (this.users && Object.hasOwn(this.users, user) ? this.users[user] : undefined),
      passwordFits: (user, password) =>
        this.users ? accounts.passwordOf(user) === password : this.tokens === undefined,
      tokenIsValid: (token) => this.tokenBook.isValid(token),
      scram,
    };
    const offered = mechanismsOf(mechanisms ?? usual, accounts, socket);
    Object.assign(this.container, { sasl_server_mechanisms: offered });
  }

  private listenToPeers(): void {
    const on = (event: string, listener: (context: EventContext) => void) => this.container.on(event, listener);
    on('connection_open', ({ connection }) => this.onOpen(connection));
    on('connection_close', ({ connection }) => this.onGone(connection));
    on('disconnected', ({ connection }) => this.onGone(connection));
    on('session_open', ({ session }) => this.onBegin(session as PeerSession));
    on('session_close', ({ session }) => this.onEnd(session as PeerSession));
    for (const side of ['sender', 'receiver']) {
      on(`${side}_open`, (context) => this.onAttach(linkOf(context)));
      on(`${side}_close`, (context) => this.onDetach(linkOf(context)));
    }
    on('message', (context) =>
      this.onTransfer(linkOf(context), context.delivery!, context.message as unknown as Buffer),
    );
    for (const outcome of ['accepted', 'rejected', 'released', 'modified'] as const) {
      on(outcome, (context) => this.onOutcome(linkOf(context), context.delivery!, outcome));
    }
    // settled without an outcome; after an outcome the delivery is no longer known
    on('settled', (context) => this.onOutcome(linkOf(context), context.delivery!, 'released'));
    // R10: without a listener these throw
    for (const event of ['error', 'protocol_error']) this.container.on(event, (error) => this.emit('fault', error));
    for (const event of ['connection_error', 'session_error', 'sender_error', 'receiver_error']) on(event, () => {});
  }

  private track(socket: Duplex, connection?: Connection): void {
    this.sockets.set(socket, this.sockets.get(socket) ?? connection);
    socket.once('close', () => {
      this.sockets.delete(socket);
      // rhea listens for 'end' and 'error' only, and would leave its timers behind
      connection?._disconnected();
      if (connection) this.tokenBook.forget(connection);
    });
  }

  /** AMQP goes over the stream; the socket, which may have TLS, is below it. */
  private accept(stream: Duplex, socket: net.Socket): Connection {
    const { options } = this;
    const connection = this.container.create_connection({
      port: this.port,
      reconnect: false,
      tcp_no_delay: true,
      autoaccept: false,
      credit_window: 0,
      treat_modified_as_released: false,
      session_buffer_size: 65536,
      channel_max: options.channelMax,
      idle_time_out: options.idleTimeout,
      properties: this.openProperties(),
      max_frame_size: options.maxFrameSize,
      require_sasl: options.anonymous === false,
      disable_sasl: options.mechanisms?.length === 0,
      offered_capabilities: options.anonymousRelay === false ? undefined : ['ANONYMOUS-RELAY'],
    } as Fields as rhea.ConnectionOptions);
    this.track(stream, connection);
    this.offerSasl(socket);
    connection.accept(stream);
    watchLogin(connection, (login, accepted, token) => {
      (accepted ? this.logins : this.refusedLogins).push(login);
      if (accepted && token !== undefined) this.tokenBook.give(connection, token);
      this.emit('login', login, accepted);
    });
    return connection;
  }

  private openProperties(): object | undefined {
    const { properties, failoverServers } = this.options;
    if (!failoverServers) return properties;
    const list = failoverServers.map((server) => rhea.types.wrap_symbolic_map(server));
    return { ...properties, 'failover-server-list': rhea.types.wrap_list(list) };
  }

  private onOpen(connection: Connection): void {
    this.open.add(connection);
    const { container_id: containerId, hostname, properties } = connection;
    if (!saslOf(connection)) this.logins.push({ mechanism: 'none', user: undefined, hostname });
    this.tokenBook.watch(connection);
    this.emit('connection', { containerId, hostname, ...(properties && { properties }) });
    if (this.redirect) this.expel(connection, { condition: 'amqp:connection:redirect', info: this.redirect });
  }

  private expel(connection: Connection, error: PeerError): void {
    for (const attached of this.attached.values()) if (attached.link.connection === connection) this.halt(attached);
    connection.close(errorOf(error));
  }

  private onGone(connection: Connection): void {
    connection._process();
    this.open.delete(connection);
    this.tokenBook.forget(connection);
    this.forget(({ link }) => link.connection === connection);
  }

  private onBegin(session: PeerSession): void {
    const { channelMax = 65535 } = this.options;
    if (session.remote.channel > channelMax) {
      session.connection.close({ condition: 'amqp:connection:framing-error', description: 'channel-max exceeded' });
    }
    if (this.options.oneSession && this.begun.has(session.connection)) {
      this.expel(session.connection, { condition: 'amqp:not-allowed', description: 'one session per connection' });
    }
    this.begun.add(session.connection);
    keepDirectionsApart(session);
    keepBytes(session);
    takeEarlyFlows(session);
    this.transactions.teach(session);
    const onFlow = session.on_flow.bind(session);
    session.on_flow = (frame) => {
      onFlow(frame);
      for (const { link, queue } of this.attached.values()) if (queue && link.session === session) this.wake(queue);
    };
  }

  private onEnd(session: PeerSession): void {
    session.connection._process();
    this.forget(({ link }) => link.session === session);
  }

  // Links

  private onAttach(link: Link): void {
    const asked = link.remote.attach;
    const reads = link.is_sender();
    const source = terminus(asked.source);
    const target = terminus(asked.target);
    const node = reads ? source : target;
    renew(link);

    const dynamic = Boolean(node?.dynamic);
    const wanted: string = node?.address ?? '';
    const refusal =
      this.refusals.get(wanted) ??
      (wanted === MANAGEMENT && this.isManagement(wanted)
        ? this.objectionToPair(asked)
        : (this.objectionToVolatile(asked) ??
          this.objectionToCoordinator(asked) ??
          this.objection(reads, dynamic, wanted)));
    if (refusal) {
      Object.assign(
        link.local.attach,
        reads ? { source: null, target: echo(target) } : { source: echo(source), target: null },
      );
      link.close(errorOf(refusal));
      return;
    }
    const address = isCoordinator(asked) ? COORDINATOR : dynamic ? `dynamic-${randomUUID()}` : wanted;
    const named = wanted || dynamic ? { address } : {};
    const filter = this.confirmed(source?.filter);
    link.local.attach.source = echo(source, reads ? { ...named, filter } : {});
    link.local.attach.target = echo(target, reads ? {} : named);
    link.local.attach.snd_settle_mode = asked.snd_settle_mode;
    if (isCoordinator(asked)) link.local.attach.target = asked.coordinator;
    if (reads) link.local.attach.rcv_settle_mode = asked.rcv_settle_mode;
    else link.local.attach.max_message_size = this.options.maxMessageSize;

    const info: LinkInfo = {
      name: nameOf(link),
      address,
      role: reads ? 'receiver' : 'sender',
      containerId: link.connection.container_id,
      sndSettleMode: asked.snd_settle_mode ?? 2,
      rcvSettleMode: asked.rcv_settle_mode ?? 0,
      source: plain(source),
      target: plain(target),
      ...(asked.properties && { properties: plain(asked.properties)! }),
      ...(asked.max_message_size && { maxMessageSize: Number(asked.max_message_size) }),
    };
    const attached: Attached = { info, link, dynamic, unsettled: new Map() };
    this.attached.set(link, attached);
    if (dynamic) this.queue(address);
    if (reads) {
      attached.queue = this.read(info);
      attached.queue.consumers.push(attached);
      answerDrains(link);
    } else {
      this.topUp(attached);
    }
    this.emit('attach', info);
  }

  /** What a link reads from. A browser gets what is in the queue as it attaches, and nothing that comes later. */
  private read(info: LinkInfo): Queue {
    const { address, source } = info;
    if (this.isManagement(address)) return new Queue(address);
    if (!isTopic(address)) {
      const queue = this.queue(address);
      return source?.distribution_mode === 'copy' ? queue.copy() : queue;
    }
    if (!(source?.durable > 0)) return new Queue(address);
    const subscription = this.kept.get(subscriptionOf(info)) ?? new Queue(address);
    this.kept.set(subscriptionOf(info), subscription);
    return subscription;
  }

  private isStored(queue: Queue): boolean {
    return this.queues.get(queue.name) === queue || [...this.kept.values()].includes(queue);
  }

  private objection(reads: boolean, dynamic: boolean, address: string): PeerError | undefined {
    if (dynamic) {
      if (this.options.dynamic === false) return { condition: 'amqp:not-implemented', description: 'no dynamic nodes' };
    } else if (address === '') {
      if (reads) return { condition: 'amqp:invalid-field', description: 'no source address' };
      if (this.options.anonymousRelay === false) {
        return { condition: 'amqp:not-implemented', description: 'no anonymous relay' };
      }
    } else if (!this.exists(address)) {
      return { condition: 'amqp:not-found', description: `no node ${address}` };
    }
    return undefined;
  }

  private confirmed(asked: Fields | undefined): Fields | undefined {
    const { confirmsFilters = false } = this.options;
    if (!Array.isArray(confirmsFilters)) return confirmsFilters ? asked : undefined;
    return Object.fromEntries(Object.entries(asked ?? {}).filter(([name]) => confirmsFilters.includes(name)));
  }

  private isManagement(address: string): boolean {
    const { tokenRenewal = false, management = false } = this.options;
    if (address === MANAGEMENT) return tokenRenewal || management;
    return management && AZURE_MANAGEMENT.test(address);
  }

  /** RabbitMQ takes a link that reads volatile messages only so. */
  private objectionToVolatile({ source, snd_settle_mode }: Fields): PeerError | undefined {
    if (!isVolatile(source)) return undefined;
    if (source.dynamic && snd_settle_mode === 1 && source.expiry_policy === 'link-detach' && !source.durable)
      return undefined;
    return { condition: 'amqp:invalid-field', description: `${VOLATILE} wants a dynamic source, and settled messages` };
  }

  /** RabbitMQ takes a link of a pair only so. */
  private objectionToPair({ source, target, properties, snd_settle_mode }: Fields): PeerError | undefined {
    const paired = properties?.paired === true && source?.address === MANAGEMENT && target?.address === MANAGEMENT;
    if (paired && snd_settle_mode === 1) return undefined;
    return { condition: 'amqp:not-allowed', description: `${MANAGEMENT} wants a pair of links, both settled` };
  }

  private objectionToCoordinator(asked: Fields): PeerError | undefined {
    if (!isCoordinator(asked)) return undefined;
    if (!this.options.transactions) return { condition: 'amqp:not-implemented', description: 'no transactions' };
    return this.refusals.get(COORDINATOR);
  }

  private onDetach(link: Link): void {
    // outcomes that came along with the detach first
    link.connection._process();
    const { closed, error } = link.remote.detach;
    const { condition, description } = error ?? {};
    const told = condition ? { condition: String(condition), description } : undefined;
    this.forget((attached) => attached.link === link, Boolean(closed), told);
    if (closed) link.close();
    else link.detach();
    link.connection._process();
  }

  private cut(attached: Attached, closed: boolean, error: PeerError): void {
    this.halt(attached);
    attached.link.local.detach.error = errorOf(error);
    if (closed) attached.link.close();
    else attached.link.detach();
  }

  /** Ends what a link does: nothing more goes out on it, and what was out comes back. */
  private halt(attached: Attached): void {
    const { queue, unsettled, info, dynamic } = attached;
    attached.queue = undefined;
    if (dynamic) this.queues.delete(info.address);
    if (!queue) return;
    queue.consumers = queue.consumers.filter((other) => other !== attached);
    if (!this.isStored(queue)) return;
    for (const entry of [...unsettled.values()].toReversed()) this.retry(queue, entry);
    this.wake(queue);
  }

  private forget(which: (attached: Attached) => boolean, closed?: boolean, error?: PeerError): void {
    for (const attached of [...this.attached.values()].filter(which)) {
      this.halt(attached);
      this.transactions.forget(attached.link);
      this.attached.delete(attached.link);
      if (closed && attached.info.role === 'receiver') this.kept.delete(subscriptionOf(attached.info));
      this.emit('detach', { ...attached.info, closed, ...(error && { error }) });
    }
  }

  private at(address: string): Attached[] {
    return [...this.attached.values()].filter(({ info, link }) => info.address === address && link.is_open());
  }

  private topUp({ link, info }: Attached): void {
    const { credit = 100 } = this.options;
    if (!this.held.has(info.address) && link.credit <= credit / 2) link.add_credit(credit - link.credit);
  }

  // Messages

  private onTransfer(link: Link, delivery: Delivery, bytes: Buffer): void {
    const attached = this.attached.get(link);
    const { maxMessageSize = Infinity } = this.options;
    if (!attached || !link.is_open() || bytes.length > maxMessageSize) {
      if (attached && link.is_open()) this.cut(attached, true, { condition: 'amqp:link:message-size-exceeded' });
      Object.assign(delivery, { settled: true }); // frees it in rhea without a word to the peer
      return;
    }
    if (isCoordinator(link.remote.attach)) {
      this.topUp(attached);
      return this.transactions.ask(delivery, bytes);
    }
    const address = attached.info.address || inspect(bytes).to || '';
    this.received[address] = (this.received[address] ?? 0) + 1;
    this.topUp(attached);
    const planned = this.plannedAnswer(address);
    this.emit('answer', { address, answer: planned });
    if (planned === 'none') return;
    const transactional = transactionalIn(delivery.remote_state);
    if (transactional) {
      const sent = { address, bytes, format: delivery.format - 1 };
      const refusal = planned === 'accept' ? this.objection(false, false, address) : REFUSED;
      return this.transactions.take(delivery, transactional.id, sent, refusal);
    }
    if (this.isManagement(address)) {
      this.manage(attached, bytes);
      return this.settle(delivery, 'accept');
    }
    if (this.isVolatileElsewhere(link, bytes))
      return this.settle(delivery, {
        condition: 'amqp:precondition-failed',
        description: 'reply-to of another session',
      });
    this.settle(delivery, planned === 'accept' ? this.route(address, bytes, delivery.format - 1) : planned);
  }

  /** RabbitMQ looks for the consumer of volatile replies on the session of the request. */
  private isVolatileElsewhere({ session }: Link, request: Buffer): boolean {
    const { replyTo } = inspect(request);
    const reader = [...this.attached.values()].find(({ info, queue }) => queue && info.address === replyTo);
    return isVolatile(reader?.info.source) && reader!.link.session !== session;
  }

  private manage(attached: Attached, request: Buffer): void {
    const { address } = attached.info;
    const { to } = inspect(request);
    if (this.options.tokenRenewal && (to === '/auth/tokens' || !this.options.management))
      return this.renewToken(attached, request);
    const managed = {
      exists: (name: string) => this.queues.has(name),
      depth: (name: string) => this.depth(name),
      declare: (name: string) => this.declare(name),
      remove: (name: string) => void this.queues.delete(name),
    };
    this.emit('request', address, decode(request));
    const isPair = address === MANAGEMENT;
    const { replyTo } = inspect(request);
    const reader = [...this.attached.values()].find(
      ({ info, link, queue }) =>
        queue &&
        info.address === address &&
        (isPair
          ? replyTo === '$me' && link.session === attached.link.session && info.name === attached.info.name
          : link.connection === attached.link.connection && info.target?.address === replyTo),
    );
    if (!reader?.queue) return;
    const bytes = isPair ? rabbitResponse(request, managed) : azureResponse(request, managed);
    reader.queue.add({ bytes, format: 0, id: undefined });
    this.wake(reader.queue);
  }

  private renewToken({ link: { session } }: Attached, request: Buffer): void {
    const readers = [...this.attached.values()].filter(({ link, queue }) => queue && link.session === session);
    const reader = readers.find(({ info }) => this.isManagement(info.address));
    if (!reader?.link.credit) {
      session.close({
        condition: 'amqp:precondition-failed',
        description: 'insufficient credit (0) for management link',
      });
      return;
    }
    const token = renewalIn(request);
    if (token === undefined) {
      session.close({ condition: 'amqp:internal-error', description: '{badmatch,undefined}' });
      return;
    }
    // the answer is the same whatever the token is worth; one that is worth nothing ends the connection right after it
    this.emit('renewal', '204');
    reader.queue?.add({ bytes: responseTo(request, '204', null), format: 0, id: undefined });
    if (reader.queue) this.wake(reader.queue);
    const { connection } = session;
    if (this.tokenBook.isValid(token)) {
      this.tokenBook.give(connection, token);
      this.tokenBook.watch(connection);
      return;
    }
    const description = `credential update failed: {error,{invalid_token,error,{badarg,[<<"${token}">>]}}}`;
    setImmediate(() => this.expel(connection, { condition: 'amqp:unauthorized-access', description }));
  }

  private plannedAnswer(address: string): Answer {
    const plan = this.answers.get(address);
    if (!plan) return 'accept';
    if (--plan.times <= 0) this.answers.delete(address);
    return plan.answer;
  }

  private settle(delivery: Delivery, answer: Answer | PeerError): void {
    if (delivery.remote_settled) return delivery.update(true);
    if (answer === 'accept') return delivery.accept();
    // R1: in one batch with others this outcome would become theirs, or theirs this one
    const { connection } = delivery.link;
    connection._process();
    if (answer === 'release') delivery.release();
    else if (answer === 'modify') delivery.modified({ delivery_failed: true });
    else
      delivery.reject(
        typeof answer === 'object' ? errorOf(answer) : { condition: 'amqp:not-allowed', description: 'rejected' },
      );
    connection._process();
  }

  private exists(address: string): boolean {
    if (isTopic(address) || this.queues.has(address)) return true;
    return !this.options.mustExist && !address.startsWith('dynamic-');
  }

  private queue(name: string): Queue {
    const queue = this.queues.get(name) ?? new Queue(name);
    this.queues.set(name, queue);
    return queue;
  }

  private subscriptions(topic: string): Queue[] {
    const read = [...this.attached.values()].flatMap(({ info, queue }) => (info.address === topic && queue) || []);
    return [...new Set([...read, ...[...this.kept.values()].filter(({ name }) => name === topic)])];
  }

  private route(address: string, bytes: Buffer, format: number): Answer | PeerError {
    if (!address) return { condition: 'amqp:precondition-failed', description: 'the message says no address' };
    if (!this.exists(address)) {
      return address.startsWith('dynamic-') ? 'release' : { condition: 'amqp:not-found', description: address };
    }
    const { header, id } = inspect(bytes);
    const ttl: unknown = header[2]?.value;
    const expires = typeof ttl === 'number' ? Date.now() + ttl : Infinity;
    const isShared = isTopic(address) || this.isManagement(address);
    for (const queue of isShared ? this.subscriptions(address) : [this.queue(address)]) {
      queue.add({ bytes, format, id }, expires);
      this.wake(queue);
    }
    if (this.listenerCount('message')) this.emit('message', address, decode(bytes));
    return 'accept';
  }

  /** Deliveries go out on the next turn: rhea would write them before the attach they belong to. */
  private wake(queue: Queue): void {
    if (this.waiting.size === 0) setImmediate(() => this.deliver());
    this.waiting.add(queue);
  }

  private deliver(): void {
    const queues = this.waiting;
    this.waiting = new Set();
    for (const queue of queues) {
      queue.deliver();
      for (const { link } of queue.consumers) link.set_drained(true);
      // before the next queue: on a session with messages that are not written yet, no link takes more
      for (const connection of new Set(queue.consumers.map(({ link }) => link.connection))) connection._process();
    }
  }

  private onOutcome(link: Link, delivery: Delivery, state: Outcome): void {
    const attached = this.attached.get(link);
    const entry = attached?.unsettled.get(delivery);
    if (!attached || !entry) return;
    if (this.options.acceptedOnly && state !== 'accepted') {
      return this.expel(link.connection, { condition: 'amqp:not-allowed', description: `${state} is not supported` });
    }
    attached.unsettled.delete(delivery);
    const outcome: Fields = delivery.remote_state ?? {};
    if (!delivery.remote_settled) {
      // apart from others, for R1, and not from within the _process that brought us here
      setImmediate(() => {
        delivery.update(true, outcome.described());
        link.connection._process();
      });
    }
    const { queue } = attached;
    if (queue) {
      if (state === 'rejected') this.bury(queue, entry);
      if (state === 'released') queue.putBack(entry);
      if (state === 'modified') {
        if (outcome.undeliverable_here) entry.undeliverableAt.add(link);
        if (outcome.delivery_failed) this.retry(queue, entry);
        else queue.putBack(entry);
      }
      this.wake(queue);
    }
    const disposition: Disposition = { address: attached.info.address, id: entry.id, state };
    if (state === 'modified') {
      disposition.deliveryFailed = Boolean(outcome.delivery_failed);
      disposition.undeliverableHere = Boolean(outcome.undeliverable_here);
    }
    if (outcome.error) disposition.error = outcome.error;
    if (this.dispositions.length === 20000) this.dispositions.splice(0, 10000);
    this.dispositions.push(disposition);
    this.emit('settled', disposition);
  }

  private retry(queue: Queue, entry: Entry): void {
    entry.failures++;
    if (entry.failures < (this.options.maxDeliveries ?? 5)) queue.putBack(entry);
    else this.bury(queue, entry);
  }

  private bury(queue: Queue, entry: Entry): void {
    if (queue.name === DEAD_LETTERS) return;
    const letters = this.queue(DEAD_LETTERS);
    letters.add({ ...entry, bytes: recount(entry.bytes, entry.failures) });
    this.wake(letters);
  }
}
