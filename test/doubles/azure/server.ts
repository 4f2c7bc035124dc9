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
import { type Answer, answerTo, type StatusNames, statusProperties } from './answers';
import { writeAllFields } from './frames';
import { agreement, answerAttach, sendSettled, settleIncoming, withholdAttach } from './links';
import { BATCH } from './messages';
import { pathIn } from './paths';
import { idle, Refusal, refusalOf, type ServiceError, toError, tooLarge } from './refusals';

export interface ServerOptions {
  /** bytes (default: what the service has) */
  maxMessageSize?: number;
  /**
   * Detach the sender of what is too large, as the standard has it. By default the message is rejected: only so do the
   * vendor's clients tell what is wrong.
   */
  detachesTooLarge?: boolean;
  tls?: tls.TlsOptions;
  /** speak AMQP over WebSocket, and nothing else (default false) */
  websocket?: boolean;
}

/** What differs between the services, in all that they have in common. */
export interface Service {
  name: string;
  /** bytes */
  maxMessageSize: number;
  /** where it speaks AMQP over WebSocket */
  websocketPath: string;
  /** whether a connection has to begin with SASL */
  requiresSasl: boolean;
  /** of the answer to a token that it takes */
  tokenStatus: 200 | 202;
}

/** What a connection may do. */
export interface Claim {
  /** what it is for; a later one for the same takes its place */
  audience: string;
  /** milliseconds since 1970 */
  until: number;
}

/** Knows who is who. */
export interface Guard<C extends Claim> {
  /** What somebody may do who logs in by PLAIN; undefined = nothing, not even log in. */
  login(user: string, password: string): C | undefined;
  /** The claim in a token of a type, for an audience; throws a Refusal, when there is none. */
  claim(type: unknown, audience: string, token: string): C;
}

/** A connection, with what it may do. */
export interface Peer<C extends Claim> {
  connection: Connection;
  claims: Map<string, C & { timer?: NodeJS.Timeout }>;
}

/** A link, as the client sees it. */
export interface LinkInfo {
  name: string;
  /** the path of the node */
  address: string;
  role: 'sender' | 'receiver';
}

/** A message for a receiver. */
export interface Outgoing {
  bytes: Buffer;
  tag?: Buffer;
  /** Takes note of an outcome; throws a Refusal, when it does not agree. Without it the message is sent settled. */
  settle?: (state: string, remote: Fields) => void;
}

/** What is sent on a link are requests, each of which is answered. */
export interface Requests {
  /** how the answers are written */
  names: StatusNames;
  /** Does what is asked for; throws a Refusal, when it does not. */
  run: (request: Fields) => { status: number; body?: Answer };
  /** Is called with the application properties of a request, and the status of the answer. */
  answered: (properties: Fields, status: number) => void;
}

/** What a link does. */
export interface Purpose {
  /** the next message for a receiver, if there is one */
  next?: () => Outgoing | undefined;
  /** what waits for a receiver, and is sent settled, before all else */
  outbox?: Buffer[];
  /** Takes a delivery of a sender, whose bytes are a batch or a message; throws a Refusal, when it does not. */
  take?: (bytes: Buffer, isBatch: boolean) => void;
  requests?: Requests;
  /** The attach is not answered as long as this gives nothing; it is asked again when something may have changed. */
  later?: () => Purpose | undefined;
  /** Gives back what the link has: it is gone, will be, or has another purpose now. */
  end?: () => void;
}

/** A link that is attached, or will be; what a service adds to its info is there later, or never. */
export interface Attached<C extends Claim, I extends LinkInfo> {
  readonly info: I;
  readonly link: Link;
  readonly peer: Peer<C>;
  purpose: Purpose;
  readonly unsettled: Map<Delivery, NonNullable<Outgoing['settle']>>;
}

/** What became of a message at a consumer; `error` when the service did not agree. */
export interface Settled {
  address: string;
  outcome: string;
  error?: string;
}

const linkOf = (context: EventContext) => (context.sender ?? context.receiver) as unknown as Link;

const CBS = '$cbs';
const CREDIT = 100;
const LONGEST_TIMER = 2 ** 31 - 1;

/**
 * What the services of Azure have in common, whatever their nodes are for: connections, tokens, links, messages, requests
 * with answers, and the ways to misbehave.
 *
 * Events: 'connection', 'disconnected', 'attach', 'waiting' (for an answer to its attach) and, when the client has detached
 * or answered a detach, 'detach' (a LinkInfo), 'token' (the audience, and the status of the answer), 'message' (address),
 * 'settled' (a Settled), 'fault' (an error that cost a connection).
 */
export abstract class Server<C extends Claim, I extends LinkInfo = LinkInfo> extends EventEmitter {
  port = 0;
  abstract readonly authority: Guard<C>;

  private readonly attached = new Map<Link, Attached<C, I>>();
  private readonly container: rhea.Container;
  private readonly sockets = new Set<Duplex>();
  private readonly peers = new Map<Connection, Peer<C>>();
  /** links that it has detached itself */
  private readonly cutOff = new WeakMap<Link, LinkInfo>();
  private server?: net.Server;
  private delivering = false;

  protected constructor(
    private readonly settings: ServerOptions,
    private readonly service: Service,
  ) {
    super();
    this.setMaxListeners(0);
    this.container = rhea.create_container({ id: service.name });
    this.listenToPeers();
  }

  /** Throws a Refusal, unless some claim of its connection allows the link. */
  protected abstract authorizeLink(attached: Attached<C, I>): void;
  /** What a link is for that is allowed; throws a Refusal, when it may not be attached all the same. */
  protected abstract admit(attached: Attached<C, I>): Purpose;

  links(): I[] {
    return this.all().map(({ info }) => info);
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

  /** The links that have to do with an address were without traffic for too long (default: all links). */
  detachIdle(address?: string): void {
    const links = address === undefined ? this.all() : this.linksOf(address);
    for (const attached of links) this.cut(attached, idle(attached.info.name));
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

  /** All claims of all connections end now. */
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
    if (websocket) this.server = webSocketServer({ path: this.service.websocketPath }, secure, upgrades);
    else this.server = secure ? tls.createServer(secure, accept) : net.createServer(accept);
    // of one that TLS could not be agreed on with
    this.server.on('tlsClientError', (error) => this.emit('fault', error));
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
      require_sasl: this.service.requiresSasl,
      max_frame_size: 65536,
    } as Fields as rhea.ConnectionOptions);
    writeAllFields(connection);
    const peer: Peer<C> = { connection, claims: new Map() };
    const accounts: Accounts = {
      passwordOf: () => undefined, // which only SCRAM wants
      passwordFits: (user, password) => {
        const claim = this.authority.login(user, password);
        if (claim) this.grant(peer, claim, '(login)');
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

  private onGone(peer: Peer<C>): void {
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

  // Tokens

  /** The claim in a token; throws a Refusal, when there is none. */
  protected claim(type: unknown, audience: unknown, token: unknown): C {
    if (typeof audience === 'string' && typeof token === 'string') return this.authority.claim(type, audience, token);
    throw new Refusal('amqp:invalid-field', 'put-token wants a name, a type, and a token', 400);
  }

  private putToken(peer: Peer<C>, { application_properties: properties = {}, body }: Fields): void {
    if (properties.operation !== 'put-token') throw new Refusal('amqp:not-implemented', 'only put-token', 501);
    const claim = this.claim(properties.type, properties.name, body);
    this.grant(peer, claim, claim.audience);
  }

  /** What the connection may do from now on, in place of what it could by a claim of the same name. */
  private grant(peer: Peer<C>, claim: C, name: string): void {
    clearTimeout(peer.claims.get(name)?.timer);
    // timers may be early by a part of a millisecond
    const life = Math.min(claim.until - Date.now() + 1, LONGEST_TIMER);
    peer.claims.set(name, { ...claim, timer: setTimeout(() => this.endUnclaimed(peer), life) });
  }

  /** Ends the links whose claim is over. */
  private endUnclaimed(peer: Peer<C>): void {
    for (const attached of this.all().filter((other) => other.peer === peer)) {
      if (attached.info.address === CBS) continue;
      try {
        this.authorizeLink(attached);
      } catch (error) {
        this.cut(attached, refusalOf(error));
      }
    }
  }

  // Links

  /** The path of a node, from its address or its URL, in the letters that the service takes for the same. */
  protected pathOf(address: string): string {
    return pathIn(address);
  }

  /** The links that have to do with an address. */
  protected linksOf(address: string): Attached<C, I>[] {
    return this.at(address);
  }

  protected at(address: string): Attached<C, I>[] {
    return this.all().filter(({ info }) => info.address === this.pathOf(address));
  }

  protected all(): Attached<C, I>[] {
    return [...this.attached.values()];
  }

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
    const info: LinkInfo = { name: nameOf(link), address: this.pathOf(address), role: reads ? 'receiver' : 'sender' };
    const attached: Attached<C, I> = { info: info as I, link, peer, purpose: {}, unsettled: new Map() };
    this.cutOff.delete(link);
    try {
      this.open(attached, info.address === CBS ? this.tokens(peer) : this.allow(attached));
    } catch (error) {
      this.refuse(link, refusalOf(error));
    }
  }

  /** What a link to `$cbs` is for. */
  private tokens(peer: Peer<C>): Purpose {
    const run = (request: Fields) => {
      this.putToken(peer, request);
      return { status: this.service.tokenStatus };
    };
    const answered = ({ name }: Fields, status: number) => this.emit('token', name, status);
    return { requests: { names: 'hyphenated', run, answered }, outbox: [] };
  }

  private allow(attached: Attached<C, I>): Purpose {
    this.authorizeLink(attached);
    return this.admit(attached);
  }

  private open(attached: Attached<C, I>, purpose: Purpose): void {
    const { link, info } = attached;
    attached.purpose = purpose;
    this.attached.set(link, attached);
    if (purpose.later) {
      withholdAttach(link);
      this.emit('waiting', info);
      return;
    }
    if (link.is_sender()) {
      answerDrains(link);
      this.wake();
    } else {
      if (!purpose.requests) link.local.attach.max_message_size = this.maxMessageSize;
      link.add_credit(CREDIT);
    }
    this.emit('attach', info);
  }

  private openLate(attached: Attached<C, I>): void {
    const { link, purpose } = attached;
    const now = purpose.later!();
    if (!now) return;
    purpose.end?.();
    this.open(attached, now);
    answerAttach(link);
  }

  private refuse(link: Link, error: Refusal): void {
    const nothing = link.is_sender() ? { source: null } : { target: null };
    Object.assign(link.local.attach, nothing);
    link.close(errorOf(toError(error)));
  }

  private onDetach(link: Link): void {
    // outcomes that came along with the detach first
    link.connection._process();
    if (this.attached.get(link)?.purpose.later) answerAttach(link);
    const cut = this.cutOff.get(link);
    if (cut) this.emit('detach', cut);
    this.forget((attached) => attached.link === link);
    if (link.remote.detach.closed) link.close();
    else link.detach();
    link.connection._process();
  }

  /** Ends a link of a client. */
  protected cut(attached: Attached<C, I>, error: Refusal): void {
    const { link, info, purpose } = attached;
    if (!purpose.later) this.cutOff.set(link, info);
    this.forget((other) => other === attached);
    if (!purpose.later) return link.close(errorOf(toError(error)));
    answerAttach(link);
    this.refuse(link, error);
  }

  private forget(which: (attached: Attached<C, I>) => boolean): void {
    for (const { link, info, purpose } of this.all().filter(which)) {
      this.attached.delete(link);
      purpose.end?.();
      if (!purpose.later && !this.cutOff.has(link)) this.emit('detach', info);
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
    const { info, purpose } = attached;
    if (purpose.requests) {
      settleIncoming(delivery);
      this.respond(attached, purpose.requests, bytes);
      return;
    }
    try {
      if (isTooLarge) throw tooLarge(bytes);
      purpose.take!(bytes, delivery.format - 1 === BATCH);
      settleIncoming(delivery);
      this.emit('message', info.address);
    } catch (error) {
      settleIncoming(delivery, refusalOf(error));
    }
  }

  private respond(attached: Attached<C, I>, { names, run, answered }: Requests, bytes: Buffer): void {
    const request: Fields = decode(bytes) ?? {};
    let answer: ReturnType<Requests['run']>;
    let refusal: Refusal | undefined;
    try {
      answer = run(request);
    } catch (error) {
      refusal = refusalOf(error);
      answer = refusal;
    }
    const properties = statusProperties(names, answer.status, refusal);
    // some clients ask before they give credit for the answer
    const reader = this.readerOf(attached, request.reply_to);
    reader?.purpose.outbox!.push(answerTo(inspect(bytes).typedId, properties, answer.body ?? null));
    this.wake();
    answered(request.application_properties ?? {}, answer.status);
  }

  /**
   * Where answers go: reply-to is the target of the client's receiver, or its name; some clients say none at all. All
   * clients known have both links in one session, so nothing else is taken.
   */
  private readerOf(request: Attached<C, I>, replyTo: unknown): Attached<C, I> | undefined {
    const readers = this.at(request.info.address).filter(
      ({ info, link }) => info.role === 'receiver' && link.session === request.link.session,
    );
    const named = readers.find(({ info, link }) => [link.remote.attach.target?.address, info.name].includes(replyTo));
    return named ?? readers[0];
  }

  // Messages that go

  /** Deliveries go out on the next turn: rhea would write them before the attach they belong to. */
  protected wake(): void {
    if (this.delivering) return;
    this.delivering = true;
    setImmediate(() => {
      this.delivering = false;
      for (const attached of this.attached.values()) {
        if (attached.purpose.later) this.openLate(attached);
        else this.deliver(attached);
      }
    });
  }

  private deliver({ link, purpose, unsettled }: Attached<C, I>): void {
    if (!link.is_sender() || !link.is_open()) return;
    for (let left = room(link); left > 0; left--) {
      const message = nextOf(purpose);
      if (!message) break;
      const { bytes, tag, settle } = message;
      if (settle && link.local.attach.snd_settle_mode !== 1) {
        unsettled.set(link.send(bytes, tag, 0), settle);
      } else {
        sendSettled(link, bytes);
        settle?.('accepted', {});
      }
    }
    link.set_drained(true);
    // before the next link: on a session with messages that are not written yet, no link takes more
    link.connection._process();
  }

  private onOutcome(link: Link, delivery: Delivery, state: string): void {
    const attached = this.attached.get(link);
    const settle = attached?.unsettled.get(delivery);
    if (!attached || !settle) return;
    attached.unsettled.delete(delivery);
    const remote: Fields = delivery.remote_state ?? {};
    const settled: Settled = { address: attached.info.address, outcome: this.outcomeName(state, remote) };
    let refusal: Refusal | undefined;
    try {
      settle(state, remote);
    } catch (error) {
      refusal = refusalOf(error);
      settled.error = refusal.condition;
    }
    this.emit('settled', settled);
    if (delivery.remote_settled) return;
    // apart from others, for R1, and not from within the _process that brought us here
    setImmediate(() => {
      delivery.update(true, agreement(state, remote, refusal));
      link.connection._process();
    });
  }

  /** What the service calls an outcome (default: as the standard does). */
  protected outcomeName(state: string, _remote: Fields): string {
    return state;
  }
}

function nextOf({ next, outbox }: Purpose): Outgoing | undefined {
  const bytes = outbox?.shift();
  return bytes ? { bytes } : next?.();
}
