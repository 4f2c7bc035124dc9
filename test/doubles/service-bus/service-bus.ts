/* oxlint-disable no-underscore-dangle -- rhea's inner methods are named so */
import { EventEmitter, once } from 'node:events';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import rhea, { type Connection, type Delivery, type EventContext } from 'rhea';
import { decode, inspect } from '../../../broker/bytes';
import {
  answerDrains,
  echo,
  errorOf,
  type Fields,
  keepBytes,
  keepDirectionsApart,
  type Link,
  nameOf,
  type PeerSession,
  renew,
  room,
  takeEarlyFlows,
  terminus,
} from '../../../broker/rhea';
import { type Accounts, mechanismsOf, watchLogin } from '../../../broker/sasl';
import { webSocketServer } from '../../../broker/websocket';
import { secretOf } from '../../secrets';
import { allows, Authority, type Claim, pathOf, type Policy, type Right, type Tokens } from './authorization';
import { Entity, type EntityOptions, type Entry, type Outcome } from './entity';
import {
  agreement,
  answer,
  grantSession,
  outcomeOf,
  sendSettled,
  sessionAskedFor,
  settleIncoming,
  withhold,
} from './links';
import { answerTo, operationOf, type Request, statusProperties } from './management';
import { BATCH, type LockToken, Message, tagOf, unpack } from './messages';
import {
  busy,
  disabled,
  missing,
  notAllowed,
  Refusal,
  refusalOf,
  sessionLost,
  timedOut,
  toError,
  tooLarge,
  unauthorized,
} from './refusals';

export type { Policy, Right, Tokens } from './authorization';
export type { Entity, EntityOptions } from './entity';

export interface ServiceBusOptions {
  queues?: Record<string, EntityOptions>;
  /** the subscriptions of each topic */
  topics?: Record<string, Record<string, EntityOptions>>;
  /** by their names; default: RootManageSharedAccessKey, which may do everything */
  policies?: Record<string, Policy>;
  /** tokens of Entra (type `jwt`) that it takes */
  tokens?: Tokens;
  /** bytes (default 262 144) */
  maxMessageSize?: number;
  /**
   * Detach the sender of what is too large, as the standard has it. By default the message is rejected: only so do the
   * vendor's clients tell what is wrong.
   */
  detachesTooLarge?: boolean;
  tls?: tls.TlsOptions;
  /** speak AMQP over WebSocket, at `/$servicebus/websocket`, and nothing else (default false) */
  websocket?: boolean;
}

/** What a connection, a link or a message is refused with. */
export interface ServiceError {
  condition: string;
  description?: string;
}

/** A link, as the client sees it. */
export interface LinkInfo {
  name: string;
  /** the path of the node, in small letters */
  address: string;
  role: 'sender' | 'receiver';
  sessionId?: string;
}

/** What became of a message at a consumer; `error` when the service did not agree. */
export interface Settled {
  address: string;
  outcome: Outcome['name'];
  error?: string;
}

const linkOf = (context: EventContext) => (context.sender ?? context.receiver) as unknown as Link;

const ROOT = 'RootManageSharedAccessKey';
const CBS = '$cbs';
const MANAGEMENT = '/$management';
const CREDIT = 100;

interface Attached {
  info: LinkInfo;
  link: Link;
  peer: Peer;
  /** What it receives from, once it may: not as long as it waits for a session. */
  entity?: Entity;
  /** What is unsettled; nothing, where messages are received and deleted. */
  locks?: Map<Delivery, LockToken>;
  waiting?: { session: string | null; timer: NodeJS.Timeout };
}

/** A connection, with what it may do. */
interface Peer {
  connection: Connection;
  claims: Map<string, Claim & { timer?: NodeJS.Timeout }>;
}

/**
 * A double of Azure Service Bus: it does what the vendor's documentation says and the vendor's own clients rely on, and was
 * never compared with the service itself.
 *
 * Left out: rules of subscriptions (each gets all messages), transactions, duplicate detection, forwarding, partitions.
 *
 * Events: 'connection', 'disconnected', 'attach' and, when the client has detached or answered a detach, 'detach' (a
 * LinkInfo), 'waiting' (for a session: a LinkInfo), 'token' (the audience, and the status of the answer), 'request'
 * (address, operation, status), 'message' (address), 'settled' (a Settled), 'fault' (an error that cost a connection).
 */
export class ServiceBus extends EventEmitter {
  port = 0;
  readonly authority: Authority;

  private readonly container = rhea.create_container({ id: 'service-bus' });
  private readonly sockets = new Set<Duplex>();
  private readonly peers = new Map<Connection, Peer>();
  private readonly attached = new Map<Link, Attached>();
  /** links that it has detached itself */
  private readonly cutOff = new WeakMap<Link, LinkInfo>();
  private readonly entities = new Map<string, Entity>();
  private readonly topics = new Map<string, Entity[]>();
  private readonly failures = new Map<string, { error: ServiceError; times: number }>();
  private server?: net.Server;
  private delivering = false;

  static async start(options: ServiceBusOptions = {}): Promise<ServiceBus> {
    const serviceBus = new ServiceBus(options);
    await serviceBus.listen();
    return serviceBus;
  }

  private constructor(readonly options: ServiceBusOptions) {
    super();
    this.setMaxListeners(0);
    const { policies = { [ROOT]: { key: secretOf('service bus key') } }, tokens = new Set() } = options;
    this.authority = new Authority(policies, tokens);
    for (const [name, settings] of Object.entries(options.queues ?? {})) this.addEntity(name, settings);
    for (const [name, subscriptions] of Object.entries(options.topics ?? {})) {
      const entities = Object.entries(subscriptions).map(([subscription, settings]) =>
        this.addEntity(`${name}/subscriptions/${subscription}`, settings),
      );
      this.topics.set(pathOf(name), entities);
    }
    this.listenToPeers();
  }

  /** As an administrator copies it from the portal; with the switch that makes official clients do without TLS. */
  connectionString(policy = Object.keys(this.authority.policies)[0]!, entityPath?: string): string {
    const { key } = this.authority.policies[policy]!;
    return [
      `Endpoint=sb://127.0.0.1:${this.port}/`,
      `SharedAccessKeyName=${policy}`,
      `SharedAccessKey=${key}`,
      ...(entityPath === undefined ? [] : [`EntityPath=${entityPath}`]),
      ...(this.options.tls ? [] : ['UseDevelopmentEmulator=true']),
    ].join(';');
  }

  /** A queue, a subscription, or the dead-letter queue of one. */
  entity(address: string): Entity {
    const entity = this.entities.get(pathOf(address));
    if (!entity) throw new Error(`no entity ${address}`);
    return entity;
  }

  links(): LinkInfo[] {
    return [...this.attached.values()].map(({ info }) => info);
  }

  async stop(): Promise<void> {
    for (const entity of this.entities.values()) entity.stop();
    const { server } = this;
    if (!server?.listening) return;
    const closed = once(server, 'close');
    server.close();
    this.dropSockets();
    await closed;
  }

  // Misbehaving

  /**
   * The next so many messages to the address are rejected with this error, receivers of it are refused, and requests to its
   * `$management` fail.
   */
  fail(address: string, error: ServiceError, times = Infinity): void {
    this.failures.set(pathOf(address), { error, times });
  }

  /** The service has too much to do, so many times. */
  throttle(address: string, times = Infinity): void {
    this.fail(address, toError(busy()), times);
  }

  recover(address: string): void {
    this.failures.delete(pathOf(address));
  }

  /** As an administrator disables an entity: its links end, and none is attached. */
  disable(address: string): void {
    this.entity(address).disabled = true;
    for (const attached of this.at(address)) this.cut(attached, disabled(address));
  }

  enable(address: string): void {
    this.entity(address).disabled = false;
  }

  /** The links of the address were without traffic for too long. */
  detachIdle(address: string): void {
    for (const attached of this.at(address)) {
      const description = `The link '${attached.info.name}' is force detached. Code: publisher. Details: IdleTimerExpired: Idle timeout: 00:10:00.`;
      this.cut(attached, { condition: 'amqp:link:detach-forced', description });
    }
  }

  /** All connections were without links for too long. */
  closeIdleConnections(): void {
    const description = 'The connection was inactive for more than the allowed 300000 milliseconds and is closed.';
    this.closeConnections({ condition: 'amqp:connection:forced', description });
  }

  closeConnections(error: ServiceError): void {
    for (const { connection } of this.peers.values()) {
      this.forget(({ peer }) => peer.connection === connection);
      connection.close(errorOf(error));
    }
  }

  dropSockets(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  /** All message locks of the entity are lost now. */
  expireLocks(address: string): void {
    this.entity(address).expireLocks();
  }

  /** The lock of the session is lost now, and its holder's link with it. */
  expireSession(address: string, sessionId: string): void {
    this.entity(address).expireSession(sessionId);
  }

  /** All tokens of all connections end now. */
  expireTokens(): void {
    for (const peer of this.peers.values()) {
      for (const claim of peer.claims.values()) claim.until = 0;
      this.endUnclaimed(peer);
    }
  }

  // Connections

  private addEntity(path: string, settings: EntityOptions): Entity {
    const entity = new Entity(path, settings);
    for (const each of [entity, entity.deadLetters!]) {
      this.entities.set(pathOf(each.path), each);
      each.on('ready', () => this.wake());
    }
    return entity;
  }

  private async listen(): Promise<void> {
    const { tls: secure, websocket } = this.options;
    const accept = (socket: net.Socket) => this.accept(socket, socket);
    const upgrades = {
      refuse: () => undefined,
      upgraded: () => {},
      accept: (stream: Duplex, { socket }: { socket: net.Socket }) => this.accept(stream, socket),
    };
    if (websocket) this.server = webSocketServer({ path: '/$servicebus/websocket' }, secure, upgrades);
    else this.server = secure ? tls.createServer(secure, accept) : net.createServer(accept);
    this.server.on('connection', (socket) => this.track(socket));
    this.server.listen(0, '127.0.0.1');
    await once(this.server, 'listening');
    this.port = (this.server.address() as net.AddressInfo).port;
  }

  private track(socket: Duplex): void {
    this.sockets.add(socket);
    socket.once('close', () => this.sockets.delete(socket));
  }

  private accept(stream: Duplex, socket: net.Socket): void {
    const connection = this.container.create_connection({
      port: this.port,
      reconnect: false,
      tcp_no_delay: true,
      autoaccept: false,
      credit_window: 0,
      treat_modified_as_released: false,
      session_buffer_size: 65536,
      require_sasl: true,
      max_frame_size: 65536,
    } as Fields as rhea.ConnectionOptions);
    const peer: Peer = { connection, claims: new Map() };
    const accounts: Accounts = {
      passwordOf: (name) => this.authority.policies[name]?.key,
      passwordFits: (name, key) => {
        const claim = this.authority.login(name, key);
        if (claim) peer.claims.set('(login)', claim);
        return claim !== undefined;
      },
      tokenIsValid: () => false,
      scram: {},
    };
    const offered = mechanismsOf(['ANONYMOUS', 'PLAIN', 'EXTERNAL'], accounts, socket);
    Object.assign(this.container, { sasl_server_mechanisms: { MSSBCBS: offered['ANONYMOUS'], ...offered } });
    this.track(stream);
    // rhea listens for 'end' and 'error' only, and would leave its timers behind
    stream.once('close', () => {
      connection._disconnected();
      this.onGone(peer);
    });
    connection.accept(stream);
    this.peers.set(connection, peer);
    watchLogin(connection, () => {});
  }

  private listenToPeers(): void {
    const on = (event: string, listener: (context: EventContext) => void) => this.container.on(event, listener);
    on('connection_open', ({ connection }) => this.emit('connection', { containerId: connection.container_id }));
    on('connection_close', ({ connection }) => this.forget(({ peer }) => peer.connection === connection));
    on('session_open', ({ session }) => this.onBegin(session as PeerSession));
    on('session_close', ({ session }) => this.forget(({ link }) => link.session === session));
    for (const side of ['sender', 'receiver']) {
      on(`${side}_open`, (context) => this.onAttach(linkOf(context)));
      on(`${side}_close`, (context) => this.onDetach(linkOf(context)));
    }
    on('message', (context) =>
      this.onTransfer(linkOf(context), context.delivery!, context.message as unknown as Buffer),
    );
    for (const outcome of ['accepted', 'rejected', 'released', 'modified']) {
      on(outcome, (context) => this.onOutcome(linkOf(context), context.delivery!, outcome));
    }
    // R10: without a listener these throw
    for (const event of ['error', 'protocol_error']) this.container.on(event, (error) => this.emit('fault', error));
    for (const event of ['disconnected', 'connection_error', 'session_error', 'sender_error', 'receiver_error']) {
      on(event, () => {});
    }
  }

  private onGone(peer: Peer): void {
    this.peers.delete(peer.connection);
    for (const { timer } of peer.claims.values()) clearTimeout(timer);
    this.forget((attached) => attached.peer === peer);
    this.emit('disconnected');
  }

  private onBegin(session: PeerSession): void {
    keepDirectionsApart(session);
    keepBytes(session);
    takeEarlyFlows(session);
    const onFlow = session.on_flow.bind(session);
    session.on_flow = (frame) => {
      onFlow(frame);
      this.wake();
    };
  }

  // Links

  private onAttach(link: Link): void {
    const asked = link.remote.attach;
    const reads = link.is_sender();
    const peer = this.peers.get(link.connection)!;
    const address: string = terminus(reads ? asked.source : asked.target)?.address ?? '';
    renew(link);
    link.local.attach.source = echo(terminus(asked.source));
    link.local.attach.target = echo(terminus(asked.target));
    link.local.attach.snd_settle_mode = asked.snd_settle_mode;
    link.local.attach.rcv_settle_mode = asked.rcv_settle_mode;
    const info: LinkInfo = { name: nameOf(link), address: pathOf(address), role: reads ? 'receiver' : 'sender' };
    const attached: Attached = { info, link, peer };
    this.cutOff.delete(link);
    try {
      this.admit(attached);
    } catch (error) {
      this.refuse(link, refusalOf(error));
    }
  }

  /** Throws a Refusal, when it may not be attached. */
  private admit(attached: Attached): void {
    const { link, peer, info } = attached;
    const path = info.address;
    const reads = info.role === 'receiver';
    if (path === CBS) return this.open(attached);
    if (path.endsWith(MANAGEMENT)) {
      this.found(path.slice(0, -MANAGEMENT.length));
      this.authorize(peer, path, undefined);
      return this.open(attached);
    }
    this.authorize(peer, path, reads ? 'Listen' : 'Send');
    if (!reads) {
      const targets = this.found(path);
      if (targets.some((target) => target.disabled)) throw disabled(path);
      if (targets.some((target) => !target.deadLetters)) throw notAllowed('Nothing is sent to a dead-letter queue.');
      link.local.attach.max_message_size = this.maxMessageSize;
      return this.open(attached);
    }
    const entity = this.entities.get(path);
    if (!entity) throw this.topics.has(path) ? notAllowed('A topic has subscriptions to receive from.') : missing(path);
    if (entity.disabled) throw disabled(path);
    this.failAsPlanned(path);
    // who asks for messages that are settled already receives and deletes
    if (link.remote.attach.snd_settle_mode !== 1) attached.locks = new Map();
    const session = sessionAskedFor(link);
    const { requiresSession = false } = entity.options;
    if (requiresSession && session === undefined) throw notAllowed('A receiver must ask for a session here.');
    if (!requiresSession && session !== undefined) throw notAllowed('The entity does not have sessions.');
    if (session === undefined) return this.consume(attached, entity);
    if (this.acceptSession(attached, entity, session)) return;
    this.waitForSession(attached, session);
  }

  private open(attached: Attached): void {
    const { link } = attached;
    this.attached.set(link, attached);
    if (link.is_sender()) answerDrains(link);
    else link.add_credit(CREDIT);
    this.emit('attach', attached.info);
  }

  private consume(attached: Attached, entity: Entity): void {
    attached.entity = entity;
    this.open(attached);
    this.wake();
  }

  private acceptSession(attached: Attached, entity: Entity, asked: string | null): boolean {
    const { link, info } = attached;
    const holder = { onSessionLost: () => this.cut(attached, sessionLost()) };
    const session = entity.acceptSession(asked, holder);
    if (!session) return false;
    info.sessionId = session.id;
    grantSession(link, session);
    this.consume(attached, entity);
    return true;
  }

  /** The attach is answered once there is a session with messages, or when the client's time is over. */
  private waitForSession(attached: Attached, session: string | null): void {
    const { link } = attached;
    const { properties } = link.remote.attach;
    const time: number = properties?.['com.microsoft:timeout'] ?? 60_000;
    withhold(link);
    const timer = setTimeout(() => this.cut(attached, timedOut()), time);
    attached.waiting = { session, timer };
    this.emit('waiting', attached.info);
    this.attached.set(link, attached);
  }

  private refuse(link: Link, error: Refusal): void {
    const nothing = link.is_sender() ? { source: null } : { target: null };
    Object.assign(link.local.attach, nothing);
    link.close(errorOf(toError(error)));
  }

  private onDetach(link: Link): void {
    // outcomes that came along with the detach first
    link.connection._process();
    // it waited for a session
    if (this.attached.get(link)?.waiting) answer(link);
    const cut = this.cutOff.get(link);
    if (cut) this.emit('detach', cut);
    this.forget((attached) => attached.link === link);
    if (link.remote.detach.closed) link.close();
    else link.detach();
    link.connection._process();
  }

  private cut(attached: Attached, error: ServiceError | Refusal): void {
    const { link, info, waiting } = attached;
    const refusal = error instanceof Refusal ? error : new Refusal(error.condition, error.description ?? '');
    if (!waiting) this.cutOff.set(link, info);
    this.forget((other) => other === attached);
    if (!waiting) return link.close(errorOf(toError(refusal)));
    answer(link);
    this.refuse(link, refusal);
  }

  private forget(which: (attached: Attached) => boolean): void {
    for (const attached of [...this.attached.values()].filter(which)) {
      const { info, entity, link, waiting } = attached;
      clearTimeout(waiting?.timer);
      this.attached.delete(link);
      if (entity && info.sessionId !== undefined) entity.releaseSession(info.sessionId);
      if (!waiting && !this.cutOff.has(link)) this.emit('detach', info);
    }
  }

  private at(address: string): Attached[] {
    return [...this.attached.values()].filter(({ info }) => info.address === pathOf(address));
  }

  /** What messages to the path go to. */
  private found(path: string): Entity[] {
    const entity = this.entities.get(path);
    const targets = entity ? [entity] : this.topics.get(path);
    if (!targets) throw missing(path);
    return targets;
  }

  private authorize(peer: Peer, path: string, right: Right | undefined): void {
    const rights: Right[] = right ? [right] : ['Send', 'Listen', 'Manage'];
    const claims = [...peer.claims.values()];
    if (claims.some((claim) => rights.some((each) => allows(claim, path, each)))) return;
    const claimsNeeded = right ? `'${right}'` : 'Some';
    throw unauthorized(`Unauthorized access. ${claimsNeeded} claim(s) are required.`);
  }

  /** Ends the links whose token is over. */
  private endUnclaimed(peer: Peer): void {
    for (const attached of [...this.attached.values()].filter((other) => other.peer === peer)) {
      const path = attached.info.address;
      if (path === CBS) continue;
      const right = attached.info.role === 'receiver' ? 'Listen' : 'Send';
      try {
        this.authorize(peer, path, path.endsWith(MANAGEMENT) ? undefined : right);
      } catch (error) {
        this.cut(attached, refusalOf(error));
      }
    }
  }

  // Messages and requests that come

  private get maxMessageSize(): number {
    return this.options.maxMessageSize ?? 262_144;
  }

  private onTransfer(link: Link, delivery: Delivery, bytes: Buffer): void {
    const attached = this.attached.get(link);
    const path = attached?.info.address ?? '';
    const isTooLarge = bytes.length > this.maxMessageSize;
    if (attached && isTooLarge && this.options.detachesTooLarge) this.cut(attached, tooLarge(bytes));
    if (!attached || !this.attached.has(link)) {
      Object.assign(delivery, { settled: true }); // frees it in rhea without a word to the peer
      return;
    }
    if (link.credit <= CREDIT / 2) link.add_credit(CREDIT - link.credit);
    if (path === CBS || path.endsWith(MANAGEMENT)) {
      settleIncoming(delivery);
      this.respond(attached, path, bytes);
      return;
    }
    try {
      if (isTooLarge) throw tooLarge(bytes);
      this.failAsPlanned(path);
      this.enqueue(this.found(path), delivery.format - 1 === BATCH ? unpack(bytes) : [bytes]);
      settleIncoming(delivery);
      this.emit('message', attached.info.address);
    } catch (error) {
      settleIncoming(delivery, refusalOf(error));
    }
  }

  private enqueue(targets: Entity[], messages: Buffer[]): void {
    const decoded = messages.map((bytes) => Message.decode(bytes));
    for (const { options } of targets) {
      const lacking = options.requiresSession && decoded.some(({ sessionId }) => sessionId === undefined);
      if (lacking) throw notAllowed('The entity requires sessions: a message must have a SessionId.');
    }
    for (const entity of targets) for (const message of decoded) entity.add(message.copy());
  }

  private failAsPlanned(path: string): void {
    const plan = this.failures.get(path);
    if (!plan) return;
    if (--plan.times <= 0) this.failures.delete(path);
    throw new Refusal(plan.error.condition, plan.error.description ?? '', 503);
  }

  private respond({ link, peer, info }: Attached, path: string, bytes: Buffer): void {
    const request: Fields = decode(bytes) ?? {};
    const { operation, name } = request.application_properties ?? {};
    let body: Record<string, unknown> | undefined;
    let status = path === CBS ? 202 : 200;
    let refusal: Refusal | undefined;
    try {
      if (path === CBS) {
        this.putToken(peer, request);
      } else {
        body = this.manage(peer, path, String(operation), request.body);
        if (!body) status = 204;
      }
    } catch (error) {
      refusal = refusalOf(error);
      ({ status } = refusal);
    }
    const answered = answerTo(
      inspect(bytes).typedId,
      statusProperties(path === CBS ? 'cbs' : 'management', status, refusal),
      body ?? null,
    );
    this.send(this.readerOf(link, info.address, request.reply_to), answered);
    if (path === CBS) this.emit('token', name, status);
    else this.emit('request', info.address, operation, status);
  }

  private manage(peer: Peer, path: string, name: string, request: Request): Record<string, unknown> | undefined {
    const operation = operationOf(name);
    const entityPath = path.slice(0, -MANAGEMENT.length);
    this.authorize(peer, path, operation.right);
    this.failAsPlanned(entityPath);
    const targets = this.found(entityPath);
    const answers = targets.map((entity) => operation.run(entity, request));
    // a topic can only be scheduled to, and its subscriptions number their messages alike
    return answers[0];
  }

  private putToken(peer: Peer, { application_properties: properties = {}, body }: Fields): void {
    if (properties.operation !== 'put-token') throw new Refusal('amqp:not-implemented', 'only put-token', 501);
    const claim = this.authority.claim(properties.type, properties.name, body);
    clearTimeout(peer.claims.get(claim.path)?.timer);
    const longest = 2 ** 31 - 1; // of a timer
    const timer = setTimeout(() => this.endUnclaimed(peer), Math.min(claim.until - Date.now() + 1, longest));
    peer.claims.set(claim.path, { ...claim, timer });
  }

  /**
   * Where answers go: reply-to is the target of the client's receiver, or its name; some clients say none at all. All
   * clients known have both links in one session, so nothing else is taken.
   */
  private readerOf(request: Link, address: string, replyTo: unknown): Link | undefined {
    const readers = this.at(address).filter(
      ({ info, link }) => info.role === 'receiver' && link.session === request.session,
    );
    const named = readers.find(({ info, link }) => [link.remote.attach.target?.address, info.name].includes(replyTo));
    return (named ?? readers[0])?.link;
  }

  private send(link: Link | undefined, bytes: Buffer): void {
    // the answers to requests are few: a client gives credit for all of them, and none is kept
    if (link && room(link) > 0) sendSettled(link, bytes);
  }

  // Messages that go

  /** Deliveries go out on the next turn: rhea would write them before the attach they belong to. */
  private wake(): void {
    if (this.delivering) return;
    this.delivering = true;
    setImmediate(() => {
      this.delivering = false;
      this.deliver();
    });
  }

  private deliver(): void {
    for (const attached of this.attached.values()) {
      const { info, link, entity, waiting } = attached;
      if (waiting) this.tryAgain(attached);
      if (!entity || !link.is_open()) continue;
      for (let left = room(link); left > 0; left--) {
        const entry = entity.next(info.sessionId);
        if (!entry) break;
        this.transfer(attached, entity, entry);
      }
      link.set_drained(true);
      // before the next link: on a session with messages that are not written yet, no link takes more
      link.connection._process();
    }
  }

  private tryAgain(attached: Attached): void {
    const { link, info, waiting } = attached;
    if (!this.acceptSession(attached, this.entity(info.address), waiting!.session)) return;
    clearTimeout(waiting!.timer);
    attached.waiting = undefined;
    answer(link);
  }

  private transfer({ link, locks }: Attached, entity: Entity, entry: Entry): void {
    if (!locks) {
      entity.remove(entry);
      sendSettled(link, entity.encode(entry));
      return;
    }
    const token = entity.lock(entry);
    locks.set(link.send(entity.encode(entry), tagOf(token), 0), token);
  }

  private onOutcome(link: Link, delivery: Delivery, state: string): void {
    const attached = this.attached.get(link);
    const token = attached?.locks?.get(delivery);
    if (!attached?.entity || token === undefined) return;
    attached.locks!.delete(delivery);
    const remote: Fields = delivery.remote_state ?? {};
    const outcome = outcomeOf(state, remote);
    let refusal: Refusal | undefined;
    try {
      attached.entity.settle(token, outcome);
    } catch (error) {
      refusal = refusalOf(error);
    }
    if (!delivery.remote_settled) {
      // apart from others, for R1, and not from within the _process that brought us here
      setImmediate(() => {
        delivery.update(true, agreement(state, remote, refusal));
        link.connection._process();
      });
    }
    const { address } = attached.info;
    const settled: Settled = { address, outcome: outcome.name, ...(refusal && { error: refusal.condition }) };
    this.emit('settled', settled);
  }
}
