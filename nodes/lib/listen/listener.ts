import { EventEmitter } from 'node:events';
import * as net from 'node:net';
import * as tls from 'node:tls';
import { Accounts, type Account } from '../auth/accounts';
import { type Backoff, pauseAfter } from '../connection/backoff';
import type { LinkConnection } from '../connection/connection';
import { amqpError, guarded, messageOf, type PeerError } from '../errors';
import { Pause } from '../pause';
import { randomId } from '../random-id';
import { isSame, type State } from '../state';
import type { AcceptedOptions } from '../wire/accepted-wire';
import type { AskedLink } from '../wire/remote';
import type { Links } from '../exchange/links';
import type { ReceiverOptions, ReceiverUser } from '../receiver/receiver';
import { Sender, type SenderOptions } from '../sender/sender';
import { Client, type ClientUser } from './client';
import type { Place } from './client-connection';
import { ClientReceivers } from './client-receivers';
import { ClientRoutes } from './client-routes';
import { CopyRoutes } from './copy-routes';
import { Feed } from './feed';
import type { Gone, Hub, Taker } from './hub';

export interface ListenerOptions extends Omit<AcceptedOptions, 'maxSessions'> {
  /** Of this computer. Undefined: all. */
  host?: string;
  port: number;
  /** With a certificate of this computer. Undefined: without TLS. */
  tls?: tls.TlsOptions;
  accounts: Account[];
  /** Clients may do without a login. */
  allowsAnonymous: boolean;
  /** Clients may log in by a certificate, whose common name is that of an account. */
  takesCertificates: boolean;
  maxClients: number;
  /** For each client. */
  maxLinks: number;
  /** Bytes of messages that have not come whole, of all clients. */
  maxMemory: number;
  /** Milliseconds from a connection to its open. */
  connectTimeout: number;
  /** Pauses before the port is tried again. */
  backoff: Backoff;
  /** Why these options cannot be used. */
  fault?: ReturnType<typeof amqpError>;
}

/** What is worth a line in the log of clients from one address: a login that has failed, or what cost a connection. */
export type ClientNote =
  { name: 'login-refused'; from: string; user: string } | { name: 'client-dropped'; from: string; reason: string };

/** Milliseconds in which a log has one line of each kind on the clients from one address. */
const QUIET_TIME = 60_000;
/** Such lines that are known of. */
const MOST_TOLD = 1000;
/** Begins the addresses that are made here. */
const MADE = 'temporary/';
/** Bounds the wait for clients to answer our close, in milliseconds. */
const CLOSE_TIMEOUT = 2000;

/**
 * Takes connections of AMQP clients, and gives their links to the nodes that have their addresses. Emits 'state' after each
 * change, 'note' for what is worth a line in the log, and 'fault'.
 */
export class Listener
  extends EventEmitter<{ state: [State]; fault: [unknown]; note: [ClientNote] }>
  implements Hub, Links, ClientUser
{
  state: State = { name: 'idle' };
  readonly isDirect = true;
  readonly options: LinkConnection['options'];
  readonly accounts: Accounts;
  readonly settings: ListenerOptions;
  /** Bytes of messages that have not come whole. */
  memory = 0;
  readonly #receivers = new Map<string, Taker[]>();
  readonly #feeds = new Map<string, Feed>();
  /** Those that were made for a link, and are still there. */
  readonly #made = new Set<string>();
  readonly #clients = new Set<Client>();
  /** All connections, also those of which nothing has come yet. */
  readonly #sockets = new Set<net.Socket>();
  /** When the log had a line on clients, by its kind and where they came from. */
  readonly #told = new Map<string, number>();
  #server: net.Server | undefined;
  #isBarred = false;
  #failures = 0;
  #retry: NodeJS.Timeout | undefined;

  constructor(settings: ListenerOptions) {
    super();
    this.setMaxListeners(0);
    this.settings = settings;
    this.accounts = new Accounts(settings.accounts);
    const { connectTimeout, containerId, backoff } = settings;
    this.options = { connectTimeout, containerId, backoff, loginBackoff: backoff };
  }

  /** Where it listens: the port that was given, or found. */
  get port(): number {
    const address = this.#server?.address();
    return typeof address === 'object' && address ? address.port : this.settings.port;
  }

  fault(error: unknown): void {
    this.emit('fault', error);
  }

  guarded<A extends unknown[]>(callback: (...args: A) => void): (...args: A) => void {
    return guarded(callback, (error) => this.fault(error));
  }

  // The port

  open(): void {
    if (this.#server || this.#isBarred) return;
    const { fault } = this.settings;
    if (fault && this.state.name === 'fault') return;
    if (fault) return this.#change({ name: 'fault', error: fault });
    this.#listen();
  }

  connect(): void {
    this.#isBarred = false;
    this.open();
  }

  async disconnect(): Promise<void> {
    this.#isBarred = true;
    await this.close();
  }

  #listen(): void {
    const { host, port, tls: secure, maxClients, connectTimeout, takesCertificates } = this.settings;
    const take = this.guarded((socket: net.Socket) => this.#take(socket));
    const server = secure
      ? tls.createServer(
          {
            ...secure,
            // One without is to log in by password; one that cannot be verified is none.
            requestCert: takesCertificates,
            rejectUnauthorized: false,
            handshakeTimeout: connectTimeout,
          },
          take,
        )
      : net.createServer(take);
    this.#server = server;
    server.maxConnections = maxClients;
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    // A handshake that fails is the client's matter. Node ends the socket of some, but not of one that takes too long.
    server.on('tlsClientError', (_error: Error, socket: net.Socket) => socket.destroy());
    server.on('error', (cause: NodeJS.ErrnoException) => this.#failed(server, cause));
    server.listen({ host, port }, () => {
      this.#failures = 0;
      this.#tell();
    });
  }

  #failed(server: net.Server, cause: NodeJS.ErrnoException): void {
    if (this.#server !== server) return;
    const { port, backoff } = this.settings;
    const isTaken = cause.code === 'EADDRINUSE';
    const why = isTaken ? 'another program uses the port' : messageOf(cause);
    const origin = { cause, ...(isTaken && { diagnosis: 'port-taken' as const }) };
    this.#change({ name: 'disconnected', error: amqpError('AMQP_LISTEN.port', { port, why }, origin) });
    server.close();
    this.#server = undefined;
    this.#retry = setTimeout(
      this.guarded(() => this.open()),
      pauseAfter(this.#failures++, backoff),
    );
  }

  /** Sends all clients away. Resolves in bounded time. */
  async close(): Promise<void> {
    clearTimeout(this.#retry);
    const server = this.#server;
    this.#server = undefined;
    const closed = new Promise<void>((resolve) => (server ? server.close(() => resolve()) : resolve()));
    // It may be opened anew meanwhile.
    const [clients, sockets] = [Array.from(this.#clients), Array.from(this.#sockets)];
    for (const client of clients) client.close();
    const pause = new Pause();
    void closed.then(() => pause.end());
    if (server) await pause.wait(CLOSE_TIMEOUT);
    for (const client of clients) client.discard();
    // A handshake of TLS may take as long as the client likes.
    for (const socket of sockets) socket.destroy();
    await closed;
    if (!this.#server) this.#change({ name: 'idle' });
  }

  #take(socket: net.Socket): void {
    const client = new Client(this, socket);
    this.#clients.add(client);
  }

  /** For a client: it has opened, or is gone. */
  changed(client: Client): void {
    if (client.isOver) this.#clients.delete(client);
    if (this.#server?.listening) this.#tell();
  }

  /** For a client. */
  refused({ from }: Client, user: string): void {
    this.#note({ name: 'login-refused', from, user });
  }

  /** For a client. */
  dropped({ from }: Client, reason: string): void {
    this.#note({ name: 'client-dropped', from, reason });
  }

  /** A line of the log for each attempt would be what an attacker fills a disk with. */
  #note(note: ClientNote): void {
    const key = `${note.name} ${note.from}`;
    const now = performance.now();
    if (now - (this.#told.get(key) ?? -Infinity) < QUIET_TIME) return;
    this.#told.delete(key);
    this.#told.set(key, now);
    if (this.#told.size > MOST_TOLD) this.#told.delete(this.#told.keys().next().value!);
    this.emit('note', note);
  }

  #tell(): void {
    const count = Array.from(this.#clients).filter(({ isOpen }) => isOpen).length;
    const { state } = this;
    if (state.name !== 'listening' || state.count !== count) this.#change({ name: 'listening', count });
  }

  #change(state: State): void {
    if (isSame(state, this.state)) return;
    this.state = state;
    this.emit('state', state);
  }

  // Links

  sender(options: SenderOptions): Sender {
    return new Sender(this, options, (user) =>
      options.isCopied ? new CopyRoutes(this, options, user) : new ClientRoutes(this, options, user),
    );
  }

  receiver(options: ReceiverOptions, user: ReceiverUser): ClientReceivers {
    return new ClientReceivers(this, options, user);
  }

  // Addresses

  newAddress(): string {
    const address = MADE + randomId();
    this.#made.add(address);
    return address;
  }

  isGone(address: string): boolean {
    return address.startsWith(MADE) && !this.#made.has(address);
  }

  isMade(address: string): boolean {
    return this.#made.has(address);
  }

  receive(address: string, taker: Taker): void {
    if (address.startsWith(MADE)) this.#made.add(address);
    this.#receivers.set(address, [...(this.#receivers.get(address) ?? []), taker]);
  }

  forget(address: string, taker: Taker): void {
    const rest = (this.#receivers.get(address) ?? []).filter((one) => one !== taker);
    if (rest.length > 0) this.#receivers.set(address, rest);
    else {
      this.#receivers.delete(address);
      this.#made.delete(address);
    }
  }

  /** How many there are that nodes feed, or clients receive from. */
  get fed(): number {
    return this.#feeds.size;
  }

  feed(address: string): Feed {
    let feed = this.#feeds.get(address);
    if (!feed) this.#feeds.set(address, (feed = new Feed(address, this)));
    return feed;
  }

  release(address: string): void {
    if (this.#feeds.get(address)?.isUnused) this.#feeds.delete(address);
  }

  /** For a client: it attaches a link. Gives what ends it, and the address where that is made here; or why it is refused. */
  attach(asked: AskedLink, place: Place): { gone: Gone; address?: string } | PeerError {
    const { role, address, dynamic, isUnknown, isPreSettled } = asked;
    if (isUnknown) return { condition: 'amqp:not-implemented', description: 'there is no such kind of node here' };
    if (dynamic) return role === 'receiver' ? this.#attachMade(place, isPreSettled) : this.#make(place);
    if (address === undefined) return { condition: 'amqp:not-implemented', description: 'name the address to send to' };
    if (role === 'sender') {
      const [first, ...others] = this.#receivers.get(address) ?? [];
      if (!first) return notFound(address);
      // To the one that has the fewest.
      const least = others.reduce((best, one) => (one.count < best.count ? one : best), first);
      return { gone: least.attach(place) };
    }
    // What was made for a client is there before anything is sent to it.
    const feed = this.#isOfClient(address) ? this.feed(address) : this.#feeds.get(address);
    if (!feed || !(feed.sources.size > 0 || this.#isOfClient(address))) return notFound(address);
    const detached = feed.attach(place, isPreSettled);
    const gone = (): void => {
      detached();
      this.release(address);
    };
    return { gone };
  }

  #isOfClient(address: string): boolean {
    return this.#made.has(address) && !this.#receivers.has(address);
  }

  #attachMade(place: Place, isPreSettled: boolean): { gone: Gone; address: string } {
    const address = this.newAddress();
    const detached = this.feed(address).attach(place, isPreSettled);
    const gone = (): void => {
      detached();
      this.#unmake(address);
    };
    return { gone, address };
  }

  /** JMS makes a temporary queue by a link that is to send to it, and sends nothing by that. */
  #make(place: Place): { gone: Gone; address: string } {
    const address = this.newAddress();
    place.session.attachReceiver(address, {});
    return { gone: () => this.#unmake(address), address };
  }

  #unmake(address: string): void {
    this.#made.delete(address);
    this.#feeds.get(address)?.end();
    this.release(address);
  }
}

function notFound(address: string): PeerError {
  return { condition: 'amqp:not-found', description: `no node of the flow has the address ${address}` };
}
