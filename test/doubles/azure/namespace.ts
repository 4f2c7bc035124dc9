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
import { type Answer, answerTo, type StatusNames, statusProperties } from './answers';
import { allows, Authority, type Claim, pathOf, type Policy, type Right, type Tokens } from './authorization';
import { writeAllFields } from './frames';
import { agreement, sendSettled, settleIncoming } from './links';
import { BATCH } from './messages';
import { busy, disabled, Refusal, refusalOf, toError, tooLarge, unauthorized } from './refusals';

export interface NamespaceOptions {
  /** by their names; default: RootManageSharedAccessKey, which may do everything */
  policies?: Record<string, Policy>;
  /** tokens of Entra (type `jwt`) that it takes */
  tokens?: Tokens;
  /** bytes (default 262 144 of Service Bus, 1 048 576 of Event Hubs) */
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

/** What differs between the services, in all that they have in common. */
export interface Service {
  name: string;
  /** bytes */
  maxMessageSize: number;
  /** its own number for what is throttled */
  busyCode: number;
  /** how the answers of its `$management` are written */
  statusNames: StatusNames;
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
}

/** A link that is attached, or will be; what a service adds is there later, or never. */
export interface Attached {
  info: LinkInfo;
  link: Link;
  peer: Peer;
  /** Sends it the next message, and tells whether there was one. Not there as long as it may have none. */
  sendNext?: () => boolean;
  /** It has no answer to its attach yet. */
  waiting?: object;
}

/** A connection, with what it may do. */
export interface Peer {
  connection: Connection;
  claims: Map<string, Claim & { timer?: NodeJS.Timeout }>;
}

const linkOf = (context: EventContext) => (context.sender ?? context.receiver) as unknown as Link;

const ROOT = 'RootManageSharedAccessKey';
const CBS = '$cbs';
const MANAGEMENT = '$management';
const CREDIT = 100;

export const isManagement = (path: string) => path === MANAGEMENT || path.endsWith(`/${MANAGEMENT}`);
/** Whether what is sent there is a request, which is answered. */
const isRequested = (path: string) => path === CBS || isManagement(path);

/**
 * A namespace, with what Service Bus and Event Hubs have in common: connections, tokens, links, requests with answers, and
 * the ways to misbehave.
 *
 * Events: 'connection', 'disconnected', 'attach' and, when the client has detached or answered a detach, 'detach' (a
 * LinkInfo), 'token' (the audience, and the status of the answer), 'request' (address, operation, status), 'message'
 * (address), 'fault' (an error that cost a connection).
 */
export abstract class Namespace<A extends Attached> extends EventEmitter {
  port = 0;
  readonly authority: Authority;

  protected readonly attached = new Map<Link, A>();
  private readonly container: rhea.Container;
  private readonly sockets = new Set<Duplex>();
  private readonly peers = new Map<Connection, Peer>();
  /** links that it has detached itself */
  private readonly cutOff = new WeakMap<Link, LinkInfo>();
  private readonly failures = new Map<string, { error: ServiceError; times: number }>();
  private server?: net.Server;
  private delivering = false;

  protected constructor(
    private readonly settings: NamespaceOptions,
    private readonly service: Service,
  ) {
    super();
    this.setMaxListeners(0);
    this.container = rhea.create_container({ id: service.name });
    const { policies = { [ROOT]: { key: secretOf(`${service.name} key`) } }, tokens = new Set() } = settings;
    this.authority = new Authority(policies, tokens);
    this.listenToPeers();
  }

  /** Throws a Refusal, when it may not be attached. Opens it otherwise, now or later. */
  protected abstract admit(attached: A): void;
  /** Takes a delivery, whose bytes are a batch or a message; throws a Refusal, when it does not. */
  protected abstract take(attached: A, bytes: Buffer, isBatch: boolean): void;
  /** Does what is asked for by a request to `$management`; throws a Refusal, when it does not. */
  protected abstract manage(attached: A, request: Fields): Answer;
  /** Takes note of an outcome; throws a Refusal, when it does not agree. */
  protected abstract settle(attached: A, delivery: Delivery, state: string, remote: Fields): void;
  /** The links that have to do with an entity. */
  protected abstract linksOf(address: string): A[];
  protected abstract setDisabled(address: string, isDisabled: boolean): void;

  /** As an administrator copies it from the portal; with the switch that makes official clients do without TLS. */
  connectionString(policy = Object.keys(this.authority.policies)[0]!, entityPath?: string): string {
    const { key } = this.authority.policies[policy]!;
    return [
      `Endpoint=sb://127.0.0.1:${this.port}/`,
      `SharedAccessKeyName=${policy}`,
      `SharedAccessKey=${key}`,
      ...(entityPath === undefined ? [] : [`EntityPath=${entityPath}`]),
      ...(this.settings.tls ? [] : ['UseDevelopmentEmulator=true']),
    ].join(';');
  }

  links(): A['info'][] {
    return [...this.attached.values()].map(({ info }) => info);
  }

  async stop(): Promise<void> {
    const { server } = this;
    if (!server?.listening) return;
    const closed = once(server, 'close');
    server.close();
    this.dropSockets();
    await closed;
  }

  // Misbehaving

  /** The next so many operations on the entity fail with this error; which ones, the service says. */
  fail(address: string, error: ServiceError, times = Infinity): void {
    this.failures.set(pathOf(address), { error, times });
  }

  /** The service has too much to do, so many times. */
  throttle(address: string, times = Infinity): void {
    this.fail(address, toError(busy(this.service.busyCode)), times);
  }

  recover(address: string): void {
    this.failures.delete(pathOf(address));
  }

  /** As an administrator disables an entity: its links end, and none is attached. */
  disable(address: string): void {
    this.setDisabled(address, true);
    for (const attached of this.linksOf(address)) this.cut(attached, disabled(address));
  }

  enable(address: string): void {
    this.setDisabled(address, false);
  }

  /** The links of the entity were without traffic for too long. */
  detachIdle(address: string): void {
    for (const attached of this.linksOf(address)) {
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

  /** All tokens of all connections end now. */
  expireTokens(): void {
    for (const peer of this.peers.values()) {
      for (const claim of peer.claims.values()) claim.until = 0;
      this.endUnclaimed(peer);
    }
  }

  // Connections

  protected async listen(): Promise<void> {
    const { tls: secure, websocket } = this.settings;
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
    writeAllFields(connection);
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
    (session as Fields)['local'].begin.handle_max = 255;
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
    const attached = { info, link, peer } as A;
    this.cutOff.delete(link);
    try {
      if (info.address === CBS) this.open(attached);
      else this.admit(attached);
    } catch (error) {
      this.refuse(link, refusalOf(error));
    }
  }

  protected open(attached: A): void {
    const { link } = attached;
    this.attached.set(link, attached);
    if (!link.is_sender()) {
      if (!isRequested(attached.info.address)) link.local.attach.max_message_size = this.maxMessageSize;
      link.add_credit(CREDIT);
    } else {
      answerDrains(link);
    }
    this.emit('attach', attached.info);
  }

  protected refuse(link: Link, error: Refusal): void {
    const nothing = link.is_sender() ? { source: null } : { target: null };
    Object.assign(link.local.attach, nothing);
    link.close(errorOf(toError(error)));
  }

  private onDetach(link: Link): void {
    // outcomes that came along with the detach first
    link.connection._process();
    const attached = this.attached.get(link);
    if (attached?.waiting) this.answerLate(attached);
    const cut = this.cutOff.get(link);
    if (cut) this.emit('detach', cut);
    this.forget((other) => other.link === link);
    if (link.remote.detach.closed) link.close();
    else link.detach();
    link.connection._process();
  }

  /** Ends a link of a client. */
  protected cut(attached: A, error: ServiceError | Refusal): void {
    const { link, info, waiting } = attached;
    const refusal = error instanceof Refusal ? error : new Refusal(error.condition, error.description ?? '');
    if (!waiting) this.cutOff.set(link, info);
    this.forget((other) => other === attached);
    if (!waiting) return link.close(errorOf(toError(refusal)));
    this.answerLate(attached);
    this.refuse(link, refusal);
  }

  private forget(which: (attached: A) => boolean): void {
    for (const attached of [...this.attached.values()].filter(which)) {
      this.attached.delete(attached.link);
      this.leave(attached);
      if (!attached.waiting && !this.cutOff.has(attached.link)) this.emit('detach', attached.info);
    }
  }

  /** Answers an attach that waits. */
  protected answerLate(_attached: A): void {}
  /** Gives back what a link has, which is gone or will be. */
  protected leave(_attached: A): void {}

  protected at(address: string): A[] {
    return [...this.attached.values()].filter(({ info }) => info.address === pathOf(address));
  }

  /** Throws a Refusal, unless some token of its connection allows the link. */
  protected authorizeLink({ peer, info }: A): void {
    const right = info.role === 'receiver' ? 'Listen' : 'Send';
    this.authorize(peer.claims.values(), info.address, isManagement(info.address) ? undefined : right);
  }

  /** Throws a Refusal, unless a claim has the right, or any one. */
  protected authorize(claims: Iterable<Claim>, path: string, right: Right | undefined): void {
    const rights: Right[] = right ? [right] : ['Send', 'Listen', 'Manage'];
    if ([...claims].some((claim) => rights.some((each) => allows(claim, path, each)))) return;
    const claimsNeeded = right ? `'${right}'` : 'Some';
    throw unauthorized(`Unauthorized access. ${claimsNeeded} claim(s) are required.`);
  }

  /** Ends the links whose token is over. */
  private endUnclaimed(peer: Peer): void {
    for (const attached of [...this.attached.values()].filter((other) => other.peer === peer)) {
      if (attached.info.address === CBS) continue;
      try {
        this.authorizeLink(attached);
      } catch (error) {
        this.cut(attached, refusalOf(error));
      }
    }
  }

  // Messages and requests that come

  private get maxMessageSize(): number {
    return this.settings.maxMessageSize ?? this.service.maxMessageSize;
  }

  private onTransfer(link: Link, delivery: Delivery, bytes: Buffer): void {
    const attached = this.attached.get(link);
    const isTooLarge = bytes.length > this.maxMessageSize;
    if (attached && isTooLarge && this.settings.detachesTooLarge) this.cut(attached, tooLarge(bytes));
    if (!attached || !this.attached.has(link)) {
      Object.assign(delivery, { settled: true }); // frees it in rhea without a word to the peer
      return;
    }
    if (link.credit <= CREDIT / 2) link.add_credit(CREDIT - link.credit);
    if (isRequested(attached.info.address)) {
      settleIncoming(delivery);
      this.respond(attached, bytes);
      return;
    }
    try {
      if (isTooLarge) throw tooLarge(bytes);
      this.take(attached, bytes, delivery.format - 1 === BATCH);
      settleIncoming(delivery);
      this.emit('message', attached.info.address);
    } catch (error) {
      settleIncoming(delivery, refusalOf(error));
    }
  }

  /** Throws what `fail` has planned for the path. */
  protected failAsPlanned(path: string): void {
    const plan = this.failures.get(path);
    if (!plan) return;
    if (--plan.times <= 0) this.failures.delete(path);
    throw new Refusal(plan.error.condition, plan.error.description ?? '', 503);
  }

  private respond(attached: A, bytes: Buffer): void {
    const { address } = attached.info;
    const request: Fields = decode(bytes) ?? {};
    const { operation, name } = request.application_properties ?? {};
    const isToken = address === CBS;
    let body: Answer;
    let status = 200;
    let refusal: Refusal | undefined;
    try {
      if (isToken) this.putToken(attached.peer, request);
      else body = this.manage(attached, request);
      if (isToken) status = 202;
      else if (!body) status = 204;
    } catch (error) {
      refusal = refusalOf(error);
      ({ status } = refusal);
    }
    const names = isToken ? 'hyphenated' : this.service.statusNames;
    const answered = answerTo(inspect(bytes).typedId, statusProperties(names, status, refusal), body ?? null);
    // the answers to requests are few: a client gives credit for all of them, and none is kept
    const reader = this.readerOf(attached, request.reply_to);
    if (reader && room(reader) > 0) sendSettled(reader, answered);
    if (isToken) this.emit('token', name, status);
    else this.emit('request', address, operation, status);
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
  private readerOf(request: A, replyTo: unknown): Link | undefined {
    const readers = this.at(request.info.address).filter(
      ({ info, link }) => info.role === 'receiver' && link.session === request.link.session,
    );
    const named = readers.find(({ info, link }) => [link.remote.attach.target?.address, info.name].includes(replyTo));
    return (named ?? readers[0])?.link;
  }

  // Messages that go

  /** Deliveries go out on the next turn: rhea would write them before the attach they belong to. */
  protected wake(): void {
    if (this.delivering) return;
    this.delivering = true;
    setImmediate(() => {
      this.delivering = false;
      for (const attached of this.attached.values()) this.deliver(attached);
    });
  }

  protected deliver({ link, sendNext }: A): void {
    if (!sendNext || !link.is_open()) return;
    for (let left = room(link); left > 0; left--) {
      if (!sendNext()) break;
    }
    link.set_drained(true);
    // before the next link: on a session with messages that are not written yet, no link takes more
    link.connection._process();
  }

  private onOutcome(link: Link, delivery: Delivery, state: string): void {
    const attached = this.attached.get(link);
    if (!attached) return;
    const remote: Fields = delivery.remote_state ?? {};
    let refusal: Refusal | undefined;
    try {
      this.settle(attached, delivery, state, remote);
    } catch (error) {
      refusal = refusalOf(error);
    }
    if (delivery.remote_settled) return;
    // apart from others, for R1, and not from within the _process that brought us here
    setImmediate(() => {
      delivery.update(true, agreement(state, remote, refusal));
      link.connection._process();
    });
  }
}
