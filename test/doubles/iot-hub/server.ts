/* oxlint-disable no-underscore-dangle -- rhea's inner methods are named so */
// Connections, links and transfers of a server, whatever its nodes are for.
import { EventEmitter, once } from 'node:events';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import rhea, { type Connection, type Delivery, type EventContext } from 'rhea';
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
import { mechanismsOf, watchLogin } from '../../../broker/sasl';
import { webSocketServer } from '../../../broker/websocket';
import { agreement, sendSettled, settleIncoming } from '../azure/links';
import { Refusal, refusalOf, toError } from '../azure/refusals';
import type { Claim } from './authorization';

/** What a link can ask for, and what it is asked by. */
export interface Asked {
  peer: Peer;
  /** the source of a receiver, or the target of a sender, without the server in it */
  address: string;
  role: 'sender' | 'receiver';
  properties: Fields;
}

/** What a link does; what throws a Refusal tells the client so. */
export interface Purpose {
  /** for those who have such a claim; default: for everybody */
  isFor?: (claim: Claim) => boolean;
  /** the next message for a receiver; without `settle` it is sent settled */
  next?: () => { bytes: Buffer; tag?: Buffer; settle?: (outcome: string) => void } | undefined;
  /** takes a message of a sender */
  take?: (bytes: Buffer, format: number) => void;
  /** where it is to be attached instead: the info of a redirect */
  elsewhere?: object;
  /** the link is there */
  begin?: () => void;
  /** the link is gone */
  end?: () => void;
}

/** A link, as the client sees it. */
export interface LinkInfo {
  name: string;
  address: string;
  role: 'sender' | 'receiver';
}

/** What a receiver has said of a message; `error` when the service did not agree. */
export interface Settled {
  address: string;
  outcome: string;
  error?: string;
}

/** Another server has the node. */
export class Redirect extends Refusal {
  constructor(readonly info: object) {
    super('amqp:link:redirect', 'The node is elsewhere.');
  }
}

interface Attached {
  info: LinkInfo;
  link: Link;
  peer: Peer;
  purpose: Purpose;
  unsettled: Map<Delivery, (outcome: string) => void>;
}

/** A connection, and what it may do, by the audiences. */
export interface Peer {
  connection: Connection;
  claims: Map<string, Claim & { timer?: NodeJS.Timeout }>;
}

export interface ServerOptions {
  tls?: tls.TlsOptions;
  /** speak AMQP over WebSocket at this path, and nothing else */
  websocket?: string;
  /** bytes (default 262 144) */
  maxMessageSize?: number;
}

const CREDIT = 100;
const linkOf = (context: EventContext) => (context.sender ?? context.receiver) as unknown as Link;

export abstract class Server extends EventEmitter {
  port = 0;

  private readonly container = rhea.create_container({ id: 'iot-hub' });
  private readonly sockets = new Set<Duplex>();
  private readonly peers = new Map<Connection, Peer>();
  private readonly attached = new Map<Link, Attached>();
  /** links that it has detached itself */
  private readonly cutOff = new WeakMap<Link, LinkInfo>();
  private server?: net.Server;
  private delivering = false;

  protected constructor(private readonly serverOptions: ServerOptions) {
    super();
    this.setMaxListeners(0);
    this.listenToPeers();
  }

  /** Who logs in by PLAIN like that, if it is right. */
  protected abstract login(user: string, password: string): Claim | undefined;
  /** What a link is for; throws a Refusal when there is no such node. */
  protected abstract admit(asked: Asked): Purpose;

  links(): LinkInfo[] {
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

  dropSockets(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  /** All links, or those of an address, were without traffic for too long. */
  detachIdle(address?: string): void {
    for (const attached of this.attached.values()) {
      const { info } = attached;
      if (address !== undefined && info.address !== address) continue;
      const description = `The link '${info.name}' is force detached. Code: publisher. Details: IdleTimerExpired: Idle timeout: 00:10:00.`;
      this.cut(attached, new Refusal('amqp:link:detach-forced', description));
    }
  }

  /** All claims of all connections end now. */
  expireTokens(): void {
    for (const peer of this.peers.values()) {
      for (const claim of peer.claims.values()) claim.until = 0;
      this.endUnclaimed(peer);
    }
  }

  /** What the connection may do from now on, in place of what it could with the same audience. */
  protected grant(peer: Peer, claim: Claim): void {
    clearTimeout(peer.claims.get(claim.audience)?.timer);
    const longest = 2 ** 31 - 1; // of a timer
    const life = Math.min(claim.until - Date.now() + 1, longest);
    peer.claims.set(claim.audience, { ...claim, timer: setTimeout(() => this.endUnclaimed(peer), life) });
  }

  /** There may be something to be delivered: it goes out on the next turn, for rhea would write it before its attach. */
  protected wake(): void {
    if (this.delivering) return;
    this.delivering = true;
    setImmediate(() => {
      this.delivering = false;
      for (const attached of this.attached.values()) this.deliver(attached);
    });
  }

  // Connections

  protected async listen(): Promise<void> {
    const { tls: secure, websocket } = this.serverOptions;
    const accept = (socket: net.Socket) => this.accept(socket, socket);
    if (websocket !== undefined) {
      this.server = webSocketServer({ path: websocket }, secure, {
        refuse: () => undefined,
        upgraded: () => {},
        accept: (stream, { socket }) => this.accept(stream, socket),
      });
    } else {
      this.server = secure ? tls.createServer(secure, accept) : net.createServer(accept);
    }
    // one that TLS could not be agreed on with
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
    const options: Fields = {
      port: this.port,
      reconnect: false,
      tcp_no_delay: true,
      autoaccept: false,
      credit_window: 0,
      treat_modified_as_released: false,
      require_sasl: false, // the vendor's clients for JavaScript begin with the open, and bring a token then
      max_frame_size: 65536,
    };
    const connection = this.container.create_connection(options as rhea.ConnectionOptions);
    const peer: Peer = { connection, claims: new Map() };
    const accounts = {
      passwordOf: () => undefined,
      passwordFits: (user: string, password: string) => {
        const claim = this.login(user, password);
        if (claim) this.grant(peer, claim);
        return claim !== undefined;
      },
      tokenIsValid: () => false,
      scram: {},
    };
    const mechanisms = mechanismsOf(['ANONYMOUS', 'PLAIN'], accounts, socket);
    Object.assign(this.container, { sasl_server_mechanisms: { MSSBCBS: mechanisms['ANONYMOUS'], ...mechanisms } });
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
    renew(link);
    this.cutOff.delete(link);
    link.local.attach.source = echo(terminus(asked.source));
    link.local.attach.target = echo(terminus(asked.target));
    link.local.attach.snd_settle_mode = asked.snd_settle_mode;
    link.local.attach.rcv_settle_mode = asked.rcv_settle_mode;
    const role = reads ? 'receiver' : 'sender';
    const address = pathOf(terminus(reads ? asked.source : asked.target)?.['address'] ?? undefined);
    try {
      const purpose = this.admit({ peer, address, role, properties: asked.properties ?? {} });
      authorize(peer, purpose);
      if (purpose.elsewhere) throw new Redirect(purpose.elsewhere);
      purpose.begin?.();
      const info: LinkInfo = { name: nameOf(link), address, role };
      this.attached.set(link, { info, link, peer, purpose, unsettled: new Map() });
      if (reads) answerDrains(link);
      else this.openTo(link);
      this.emit('attach', info);
      this.wake();
    } catch (error) {
      Object.assign(link.local.attach, reads ? { source: null } : { target: null });
      const refusal = refusalOf(error);
      link.close(errorOf({ ...toError(refusal), ...(refusal instanceof Redirect && { info: refusal.info }) }));
    }
  }

  private openTo(link: Link): void {
    link.local.attach.max_message_size = this.maxMessageSize;
    link.add_credit(CREDIT);
  }

  private onDetach(link: Link): void {
    // outcomes that came along with the detach first
    link.connection._process();
    const cut = this.cutOff.get(link);
    if (cut) this.emit('detach', cut);
    this.forget((attached) => attached.link === link);
    if (link.remote.detach.closed) link.close();
    else link.detach();
    link.connection._process();
  }

  private cut(attached: Attached, error: Refusal): void {
    this.cutOff.set(attached.link, attached.info);
    this.forget((other) => other === attached);
    attached.link.close(errorOf(toError(error)));
  }

  private forget(which: (attached: Attached) => boolean): void {
    for (const attached of [...this.attached.values()].filter(which)) {
      this.attached.delete(attached.link);
      attached.purpose.end?.();
      if (!this.cutOff.has(attached.link)) this.emit('detach', attached.info);
    }
  }

  /** Ends the links whose token is over. */
  private endUnclaimed(peer: Peer): void {
    for (const attached of [...this.attached.values()].filter((other) => other.peer === peer)) {
      try {
        authorize(peer, attached.purpose);
      } catch (error) {
        this.cut(attached, refusalOf(error));
      }
    }
  }

  // Transfers

  private get maxMessageSize(): number {
    return this.serverOptions.maxMessageSize ?? 262_144;
  }

  private onTransfer(link: Link, delivery: Delivery, bytes: Buffer): void {
    const attached = this.attached.get(link);
    if (!attached) {
      Object.assign(delivery, { settled: true }); // frees it in rhea without a word to the peer
      return;
    }
    if (link.credit <= CREDIT / 2) link.add_credit(CREDIT - link.credit);
    try {
      if (bytes.length > this.maxMessageSize) {
        throw new Refusal('amqp:link:message-size-exceeded', `A message of ${bytes.length} bytes is too large.`);
      }
      attached.purpose.take?.(bytes, delivery.format - 1);
      settleIncoming(delivery);
    } catch (error) {
      settleIncoming(delivery, refusalOf(error));
    }
  }

  private deliver({ link, purpose, unsettled }: Attached): void {
    if (!purpose.next || !link.is_open()) return;
    for (let left = room(link); left > 0; left--) {
      const message = purpose.next();
      if (!message) break;
      const { bytes, tag, settle } = message;
      if (settle && link.remote.attach.snd_settle_mode !== 1) unsettled.set(link.send(bytes, tag, 0), settle);
      else {
        sendSettled(link, bytes);
        settle?.('accepted');
      }
    }
    link.set_drained(true);
    // before the next link: on a session with messages that are not written yet, no link takes more
    link.connection._process();
  }

  private onOutcome(link: Link, delivery: Delivery, outcome: string): void {
    const attached = this.attached.get(link);
    const settle = attached?.unsettled.get(delivery);
    if (!attached || !settle) return;
    attached.unsettled.delete(delivery);
    let refusal: Refusal | undefined;
    try {
      settle(outcome);
    } catch (error) {
      refusal = refusalOf(error);
    }
    if (!delivery.remote_settled) {
      // apart from others, for R1, and not from within the _process that brought us here
      setImmediate(() => {
        delivery.update(true, agreement(outcome, delivery.remote_state ?? {}, refusal));
        link.connection._process();
      });
    }
    const { address } = attached.info;
    const settled: Settled = { address, outcome, ...(refusal && { error: refusal.condition }) };
    this.emit('settled', settled);
  }
}

function authorize({ claims }: Peer, { isFor }: Purpose): void {
  if (!isFor || [...claims.values()].some((claim) => claim.until > Date.now() && isFor(claim))) return;
  throw new Refusal('amqp:unauthorized-access', '401002: IotHubUnauthorizedAccess (no token for it)', 401);
}

/** The path in an address, which some clients write with the server before it; device ids differ by case. */
const pathOf = (address = ''): string =>
  address
    .replace(/^[a-z]+:\/\/[^/]*/i, '')
    .replace(/^\/?/, '/')
    .replace(/(?<=.)\/$/, '');
