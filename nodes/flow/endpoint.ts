import type { EventEmitter } from 'node:events';
import type { Node, NodeAPI } from 'node-red';
import { Connection, type ConnectionOptions, type Note } from '../lib/connection/connection';
import type { Tokens } from '../lib/auth/tokens';
import { nameOf } from '../lib/connection/servers';
import { isPlainObject } from '../lib/codec/notation';
import type { Counters } from '../lib/counters';
import { type AmqpError, amqpError, cleaned, messageOf } from '../lib/errors';
import { addressesOf } from '../lib/exchange/addresses';
import { type Links, linksOn } from '../lib/exchange/links';
import { TransactionalReceiver } from '../lib/exchange/transactional-receiver';
import { Listener, type ListenerOptions, type ClientNote } from '../lib/listen/listener';
import { isSame, type State } from '../lib/state';
import type { Server } from '../lib/wire/transport';
import { isLoopback } from './server';
import { named, show, STATUS } from './status';

/** What a node does on a connection: a sender, receiver, requester or responder of lib. */
interface Link extends EventEmitter<{ state: [State] }> {
  readonly state: State;
  /** Where it sends to, or receives from. */
  readonly address?: string | undefined;
  readonly counters: Counters;
  open(): void;
  /** Takes no more messages from the peer. */
  stop?(): void;
  /** Bounded by `timeout` milliseconds and the little that detaching takes. */
  close(timeout: number): Promise<void>;
}

/** A link whose messages come back from the flow, to be settled. */
export interface Holder extends Link {
  holds(id: string): boolean;
  /** Takes nothing more, and waits for what is held, at most `timeout` milliseconds. */
  leave(timeout: number): Promise<void>;
}

/** A kind of server that has more than AMQP. */
export type Service = 'servicebus' | 'eventhubs' | 'iothub';

/** The config node. */
export interface EndpointNode extends Node {
  endpoint: Endpoint;
  /** Node-RED hands status and errors of a config node to the flows of these. */
  users: Record<string, Node>;
}

/** What an endpoint is: a client of a server, or a server for clients. */
export type EndpointOptions = (ConnectingOptions & { listens?: false }) | (ListeningOptions & { listens: true });

/** What helps to follow messages and connections. */
interface WatchingOptions {
  /** The log has each frame. */
  isTraced: boolean;
  /** Messages carry the trace context of their msg. */
  carriesTrace: boolean;
}

export interface ListeningOptions extends ListenerOptions, WatchingOptions {
  closeTime: number;
}

export interface ConnectingOptions extends ConnectionOptions, WatchingOptions {
  /** The client ID is a person's choice. */
  isNamed: boolean;
  /** Whose extensions of AMQP the nodes use. */
  service?: Service;
  /** Connects for its first node; else for the first message. */
  isAutomatic: boolean;
  /** Where tokens go that a flow gives. */
  flowTokens?: Tokens;
  /** Milliseconds for which nodes may finish when they are closed. */
  closeTime: number;
}

/** What is wrong, and since when (ISO 8601). */
export interface Wrong {
  code: string;
  condition?: string;
  message: string;
  time: string;
}

/** How it stands with a connection: plain data. */
export interface ConnectionReport {
  state: State['name'];
  /** That is connected to, or tried; or where it listens. */
  server: string;
  /** What the server says of itself: its product and version, and its container id. */
  product?: string;
  version?: string;
  container?: string;
  /** Connections after the first. */
  reconnects: number;
  /** That are connected, where it listens. */
  clients?: number;
  lastError?: Wrong;
}

/** How it stands with a node: plain data. */
export type NodeReport = {
  id: string;
  type: string;
  name?: string;
  address?: string;
  endpoint: string;
  state: State['name'];
  lastError?: Wrong;
} & Counters;

/** Of what a client has given as its name, or what was wrong with it, in characters. */
const LONGEST_WORD = 200;
/** Milliseconds in which a server is to tell its addresses, and for which they are not asked for again. */
const [ADDRESSES_TIME, ADDRESSES_LIFE] = [5000, 30_000];
/** What detaching and closing take at most, in milliseconds. */
const DETACH_TIME = 7000;

/** The endpoint that a node names. Without one the node says so, in its status and to each msg. */
export function endpointOf(RED: NodeAPI, node: Node, id: string): Endpoint | undefined {
  const { endpoint } = (RED.nodes.getNode(id) ?? {}) as Partial<EndpointNode>;
  if (endpoint) {
    endpoint.expect(node);
    return endpoint;
  }
  const isDisabled = configOf(RED, id)?.['d'] === true;
  node.status({ fill: 'red', shape: 'ring', text: STATUS + (isDisabled ? 'disabled' : 'no-endpoint') });
  const key = isDisabled ? 'AMQP_NO_ENDPOINT.disabled' : 'AMQP_NO_ENDPOINT.none';
  node.on('input', (_msg, _send, done) => done(amqpError(key)));
  return undefined;
}

/** A node as it stands in the flow file. */
export function configOf(RED: NodeAPI, id: string): Record<string, unknown> | undefined {
  let found: Record<string, unknown> | undefined;
  RED.nodes.eachNode((config) => {
    if (config.id === id) found = config as unknown as Record<string, unknown>;
  });
  return found;
}

/** The connection of an endpoint, shown as its status and in the log, and the links of the nodes on it. */
export class Endpoint {
  /** Where nodes get their links. */
  readonly links: Links;
  readonly isNamed: boolean;
  readonly service: Service | undefined;
  /** Messages carry the trace context of their msg. */
  readonly carriesTrace: boolean;
  readonly #own: Connection | Listener;
  readonly #RED: NodeAPI;
  readonly #node: EndpointNode;
  readonly #options: EndpointOptions;
  /** A login without protection was told of. */
  #isWarned = false;
  /** The last end of the connection was no fault. */
  #isQuiet = false;
  /** The log has that it listens. */
  #isTold = false;
  #isClosing = false;
  /** By their ids; without a link, those whose settings cannot be used. */
  readonly #nodes = new Map<string, { node: Node; link?: Link; lastError?: Wrong }>();
  /** Those that were asked for last. */
  #addresses: { since: number; names: Promise<string[]> } | undefined;
  #connections = 0;
  #lastError: Wrong | undefined;
  readonly #closings = new Set<Promise<void>>();
  /** Also those that are leaving. */
  readonly #transactional = new Set<TransactionalReceiver>();
  /** Links of nodes that were redeployed, by the node's id, while the flow has messages of them. */
  readonly #leaving = new Map<string, { link: Holder; left: Promise<void> }>();

  constructor(RED: NodeAPI, node: EndpointNode, given: EndpointOptions) {
    this.#RED = RED;
    this.#node = node;
    const trace = (line: string): void => node.log(line);
    const options = given.isTraced ? { ...given, trace } : given;
    this.#options = options;
    this.carriesTrace = options.carriesTrace;
    if (options.listens) {
      this.isNamed = true;
      const listener = new Listener(options);
      this.#own = this.links = listener;
      listener.on('note', (note) => this.#noteClient(note));
      this.#watch(listener);
      return;
    }
    this.isNamed = options.isNamed;
    this.service = options.service;
    const connection = new Connection(options);
    this.#own = connection;
    this.links = linksOn(connection);
    this.#watch(connection);
    connection.on('quiet', (error) => {
      this.#isQuiet ||= error.code === 'AMQP_DISCONNECTED';
      node.debug(`${this.#peer}: ${error.message}`);
    });
    connection.on('note', (note) => this.#note(note));
    connection.on('revealing', (server) => this.#warn(server));
  }

  #watch(own: Connection | Listener): void {
    const node = this.#node;
    own.on('state', (state: State) => this.#show(state));
    // Node-RED takes no error that cannot be made a text.
    own.on('fault', (error: unknown) => node.error(error instanceof Error ? error : messageOf(error)));
  }

  /** That to a server. Where there is none, since the endpoint listens, what it is asked for is an error that says so. */
  get connection(): Connection {
    if (this.#own instanceof Connection) return this.#own;
    throw amqpError('AMQP_CONFIG.listens');
  }

  get isListening(): boolean {
    return this.#own instanceof Listener;
  }

  /** How servers, or clients, know it. */
  get containerId(): string {
    return this.#own.options.containerId;
  }

  /** Connects, or listens, if it does not yet. */
  open(): void {
    this.#own.open();
  }

  /** The server, as the log names it: the one in use, or all that were tried in vain. */
  get #peer(): string {
    const own = this.#own;
    if (own instanceof Listener) return `${own.settings.host ?? '*'}:${own.port}`;
    const { state, server } = own;
    const { servers } = own.options;
    return servers.length === 1 || state.name === 'connected' ? nameOf(server) : servers.map(nameOf).join(', ');
  }

  /** The server in use, where that is not the only one. */
  get #server(): string | undefined {
    const own = this.#own;
    if (own instanceof Listener) return undefined;
    const { server } = own;
    const { servers } = own.options;
    return servers.length > 1 || server !== servers[0] ? nameOf(server) : undefined;
  }

  #note(note: Note): void {
    const peer = this.#peer;
    const node = this.#node;
    const reason = note.name === 'token-not-renewed' ? note.error.message : '';
    const servers = note.name === 'unused-servers' ? note.servers : '';
    const line = this.#RED._(`amqp-endpoint.log.${note.name}`, { peer, reason, servers });
    if (note.name === 'token-not-renewed') node.warn(line);
    else node.log(line);
  }

  #tellOfListening(): void {
    const { settings } = this.#own as Listener;
    const { host = '', tls, accounts } = settings;
    this.#node.log(this.#RED._('amqp-endpoint.log.listening', { peer: this.#peer }));
    // What logs in by PLAIN shows its password to all on the way.
    if (tls || accounts.length === 0 || isLoopback(host) || this.#isWarned) return;
    this.#isWarned = true;
    this.#node.warn(this.#RED._('amqp-endpoint.log.unprotected-clients', { peer: this.#peer }));
  }

  #noteClient({ name, from, ...values }: ClientNote): void {
    const cleanedValues = Object.entries(values).map(([key, text]) => [key, cleaned(text, LONGEST_WORD)]);
    this.#node.warn(this.#RED._(`amqp-endpoint.log.${name}`, { from, ...Object.fromEntries(cleanedValues) }));
  }

  /** What logs in by password or token shows it to all on the way, where that is not this computer alone. */
  #warn(server: Server): void {
    if (this.#isWarned || isLoopback(server.host)) return;
    this.#isWarned = true;
    this.#node.warn(this.#RED._('amqp-endpoint.log.unprotected', { peer: nameOf(server) }));
  }

  #show(state: State): void {
    const node = this.#node;
    if ('error' in state) this.#lastError = wrongOf(state.error);
    if (state.name === 'connected') this.#connections++;
    show(this.#RED, node, state, this.#peer, this.#server);
    if (state.name === 'fault') node.error(state.error.message);
    else if ('error' in state) node.warn(this.#lineOf(state.name, state.error));
    else if (state.name === 'connected')
      node[this.#isQuiet ? 'debug' : 'log'](this.#RED._('amqp-endpoint.log.connected', { peer: this.#peer }));
    else if (state.name === 'listening' && !this.#isTold) this.#tellOfListening();
    // Of the clients that come and go the log has nothing.
    this.#isTold = state.name === 'listening';
    if (state.name !== 'connecting') this.#isQuiet = false;
  }

  /** A line of the log: what is wrong, and what to do about it where that is known. */
  #lineOf(name: string, { message, diagnosis }: AmqpError): string {
    // A login that was not even tried was refused by nobody.
    const own = name === 'auth' && diagnosis ? 'disconnected' : name;
    const key = own === 'disconnected' && this.isListening ? 'not-listening' : own;
    const line = this.#RED._(`amqp-endpoint.log.${key}`, { peer: this.#peer, reason: message });
    return diagnosis ? `${line}; ${this.#RED._(`amqp-endpoint.log.remedy.${diagnosis}`)}` : line;
  }

  /** A node names this endpoint. */
  expect(node: Node): void {
    this.#nodes.set(node.id, { node });
    node.on('close', () => {
      if (this.#nodes.get(node.id)?.node === node) this.#nodes.delete(node.id);
    });
  }

  /** How it stands with the connection. */
  report(): ConnectionReport {
    const own = this.#own;
    const { state } = own;
    const { product, container } = own instanceof Connection ? (own.opened ?? {}) : {};
    return {
      state: state.name,
      server: this.#peer,
      ...(product?.name && { product: product.name }),
      ...(product?.version && { version: product.version }),
      ...(container && { container }),
      reconnects: Math.max(0, this.#connections - 1),
      ...(state.name === 'listening' && { clients: state.count }),
      ...(this.#lastError && { lastError: this.#lastError }),
    };
  }

  /** How it stands with the nodes that are here. */
  reports(): NodeReport[] {
    return Array.from(this.#nodes.values(), ({ node, link, lastError }) => ({
      id: node.id,
      type: node.type,
      ...(node.name && { name: node.name }),
      ...(link?.address !== undefined && { address: link.address }),
      endpoint: this.#node.id,
      state: link?.state.name ?? 'fault',
      ...link?.counters,
      ...(lastError && { lastError }),
    }));
  }

  /** The same for one of them, with the connection: what a msg with the action "status" gets. */
  reportOf({ id }: Node): NodeReport & { connection: ConnectionReport } {
    return { ...this.reports().find((report) => report.id === id)!, connection: this.report() };
  }

  /** The addresses that the server has, for the editor to suggest; asked for at most twice a minute. Rejects where it has none to tell. */
  addresses(): Promise<string[]> {
    const own = this.#own;
    if (!(own instanceof Connection) || own.state.name !== 'connected')
      return Promise.reject(amqpError('AMQP_DISCONNECTED.never'));
    const { since, names } = this.#addresses ?? {};
    if (names && Date.now() - since! < ADDRESSES_LIFE) return names;
    const asked = addressesOf(own, ADDRESSES_TIME);
    this.#addresses = { since: Date.now(), names: asked };
    return asked;
  }

  /** Opens the link of a node, shows its state as the status of the node, and closes it with the node. */
  register(node: Node, link: Link | Holder): void {
    const { users } = this.#node;
    users[node.id] = node;
    this.#nodes.set(node.id, { node, link });
    const showState = this.#shows(node, link.state);
    link.on('state', showState);
    let isOpen = true;
    const open = (): void => {
      if (!isOpen) return;
      link.open();
      if (this.#options.listens || this.#options.isAutomatic) this.#own.open();
    };
    // Two links of one name would be one and the same to the peer.
    const predecessor = this.#leaving.get(node.id);
    if (predecessor) void predecessor.left.finally(open);
    else open();
    show(this.#RED, node, link.state, this.#peer, this.#server);

    if (link instanceof TransactionalReceiver) this.#transactional.add(link);

    node.on('close', (isRemoved: boolean, done: () => void) => {
      isOpen = false;
      // In this very turn: what is accepted later would be lost with the flow, which is closed at the same time.
      link.stop?.();
      link.off('state', showState);
      if (users[node.id] === node) delete users[node.id];
      // All nodes of a flow are closed at the same time, config nodes last.
      const closing = new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
        if ('leave' in link && !isRemoved && !this.#isClosing) return this.#leave(node, link);
        return this.#close(link);
      });
      this.#keep(closing);
      void closing.finally(done);
    });
  }

  /** Shows each state of a node's link, and logs what is wrong with it, once. */
  #shows(node: Node, first: State): (state: State) => void {
    let logged = first;
    return (state) => {
      const entry = this.#nodes.get(node.id);
      if (entry && 'error' in state) entry.lastError = wrongOf(state.error);
      show(this.#RED, node, state, this.#peer, this.#server);
      if (!['fault', 'refused', 'ignored', 'unsure', 'connected'].includes(state.name)) return;
      if (!isSame(state, logged)) this.#log(node, state);
      logged = state;
    };
  }

  /** Of the connection the endpoint says it itself, once for all its nodes. */
  #log(node: Node, state: State): void {
    if (state.name === 'refused') node.warn(this.#lineOf('refused', state.error));
    if (state.name === 'fault' && state.error !== this.#options.fault) node.error(state.error);
    if ((state.name !== 'ignored' && state.name !== 'unsure') || !(this.#own instanceof Connection)) return;
    const { name = '', version = '' } = this.#own.product;
    const product = `${name} ${version}`.trim();
    const peer = product ? `${this.#peer} (${product})` : this.#peer;
    const options = named(this.#RED, state.options);
    node.warn(this.#RED._(`amqp-endpoint.log.${state.name}`, { peer, options }));
  }

  /**
   * What a msg without a payload has for the endpoint: `action` "connect" or "disconnect", which resolves once that is done.
   * Undefined: nothing.
   */
  act(action: unknown): Promise<void> | undefined {
    if (action === 'disconnect') return this.#own.disconnect();
    if (action !== 'connect') return undefined;
    this.#own.connect();
    return Promise.resolve();
  }

  /**
   * Whether a msg gives the endpoint the token to log in with: `action` "token", and `token` as text or as the answer of a
   * token server. It is taken out of the msg, which goes on to Complete nodes. Throws AMQP_BAD_INPUT where there is none, and
   * where the endpoint has no use for it: it would be in what Catch nodes get, or be sent on.
   */
  takesToken(msg: object): boolean {
    const tokens = this.#options.listens ? undefined : this.#options.flowTokens;
    const given = msg as { action?: unknown; token?: unknown };
    if (given.action !== 'token' || !(tokens || 'token' in given)) return false;
    const { token } = given;
    delete given.token;
    if (!tokens) throw amqpError('AMQP_BAD_INPUT.token-unasked');
    const { access_token: value, expires_in: life } = isPlainObject(token)
      ? (token as { access_token?: unknown; expires_in?: unknown })
      : { access_token: token };
    if (typeof value !== 'string' || value === '') throw amqpError('AMQP_BAD_INPUT.token');
    tokens.give(value, Number(life) > 0 ? Number(life) : undefined);
    return true;
  }

  /**
   * The receiver whose transaction a message of the flow belongs to, by the token of what was received; also where that is
   * over, so that nothing is sent outside of it unnoticed.
   */
  transactionOf(msg: object): { receiver: TransactionalReceiver; token: string } | undefined {
    if (this.#transactional.size === 0) return undefined;
    const { id } = (msg as { delivery?: { id?: unknown } }).delivery ?? {};
    if (typeof id !== 'string') return undefined;
    for (const receiver of this.#transactional) if (receiver.hasGiven(id)) return { receiver, token: id };
    return undefined;
  }

  /** The link that holds a message: the node's own, or that of the node as it was before it was redeployed. */
  holderOf<L extends Holder>(node: Node, link: L, id: string): L {
    const former = this.#leaving.get(node.id)?.link;
    return former?.holds(id) ? (former as L) : link;
  }

  /** Node-RED routes what comes back to the next instance of the node, so that is not to wait for this one. */
  #leave(node: Node, link: Holder): void {
    const { closeTime } = this.#options;
    const gone = link.leave(closeTime).then(() => this.#close(link));
    // One that still waits for its predecessor has no link: what comes back is still for that one.
    const predecessor = this.#leaving.get(node.id);
    const left = predecessor ? predecessor.left.then(() => gone) : gone;
    const entry = { link: predecessor?.link ?? link, left };
    this.#leaving.set(node.id, entry);
    this.#keep(left.finally(() => this.#leaving.get(node.id) === entry && this.#leaving.delete(node.id)));
  }

  async #close(link: Link): Promise<void> {
    await link.close(this.#options.closeTime);
    if (link instanceof TransactionalReceiver) this.#transactional.delete(link);
  }

  #keep(closing: Promise<void>): void {
    const closed = closing.finally(() => this.#closings.delete(closed));
    this.#closings.add(closed);
  }

  /** Closes the connection once the links of all nodes are closed. Resolves in bounded time. */
  async close(): Promise<void> {
    const { closeTime } = this.#options;
    this.#isClosing = true;
    // Node-RED routes nothing back any more.
    for (const { link } of this.#leaving.values()) void link.close(closeTime);
    const timer = setTimeout(() => void this.#own.close(), closeTime + DETACH_TIME);
    await new Promise<void>((resolve) => setImmediate(resolve));
    await Promise.allSettled(this.#closings);
    await this.#own.close();
    clearTimeout(timer);
  }
}

function wrongOf({ code, condition, message }: AmqpError): Wrong {
  return { code, ...(condition && { condition }), message, time: new Date().toISOString() };
}
