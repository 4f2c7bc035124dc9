import { EventEmitter } from 'node:events';
import { REVEALING } from '../auth/sasl';
import type { Token, Tokens } from '../auth/tokens';
import { AmqpError, amqpError, guarded, messageOf } from '../errors';
import { Pause } from '../pause';
import { isSame, type State } from '../state';
import type { Opened, Product } from '../wire/remote';
import type { Session } from '../wire/session';
import type { Server } from '../wire/transport';
import type { Wire } from '../wire/wire';
import { Attempt, type AttemptOptions, type End } from './attempt';
import { type Backoff, pauseAfter, STABLE_AFTER } from './backoff';
import { nameOf, Servers, urlOf } from './servers';

export interface ConnectionOptions extends Omit<AttemptOptions, keyof Server> {
  /** Where to; they are tried in turn. */
  servers: Server[];
  order?: 'listed' | 'random';
  /** The login may go to servers too that a server names, and that are not in the list. */
  trustsNamed?: boolean;
  hostname?: string;
  backoff: Backoff;
  /** Milliseconds without a connection after which it is tried no more, until it is opened again. Undefined: never. */
  giveUpAfter?: number;
  /** Why these options cannot be used: no attempt is made then. */
  fault?: AmqpError;
  /** Pauses after what no retry repairs until a person acts: a refused login, a client ID that another client uses. */
  loginBackoff: Backoff;
  /** What there is to log in with instead of a password, and how it is used. */
  tokens?: Tokens;
  tokenUse?: TokenUse;
  /** Renews the token on a connection that goes on. False: this peer cannot, so that a new connection has to. */
  renew?(connection: Connection, token: string): Promise<boolean>;
  /**
   * Has the peer permit links to an address before they are attached; `anew`, also where it has before. Rejects with an
   * AmqpError where it does not.
   */
  authorize?: (connection: Connection, address: string, anew?: boolean) => Promise<void>;
  /** A token that permits what is done with an address, for requests that carry one. Rejects with an AmqpError. */
  tokenFor?: (connection: Connection, address: string) => Promise<string>;
  /** All links share one session, as some peers want it (IBM MQ). Undefined: found out. */
  hasOneSession?: boolean;
}

/** As the password of PLAIN, by XOAUTH2, or as the header `Authorization` of the upgrade to WebSocket. */
export type TokenUse = 'password' | 'xoauth2' | 'header';

/** A session to attach to. */
export interface SessionLease {
  session: Session;
  /** Other links use it too: it is not to be ended with one of them. */
  isShared: boolean;
}

/** What a connection tells of itself to each of its links. */
export interface ConnectionUser {
  /** Sessions that it takes. */
  readonly sessions: number;
  /** The peer has opened: attach to this, by sessions of this connection. */
  connected(wire: Wire, connection: LinkConnection): void;
  /** For one that asked for `redirect`: what it was redirected to is gone, or cannot be reached, so it is back on this. */
  returned?(wire: Wire, connection: LinkConnection, error: AmqpError): void;
  /** There is no connection. What was attached to the last one is gone. */
  disconnected(state: State): void;
}

/** What links need of a connection: that of an endpoint, or that of a client which has connected to one. */
export interface LinkConnection {
  readonly options: Pick<
    ConnectionOptions,
    'connectTimeout' | 'containerId' | 'backoff' | 'loginBackoff' | 'authorize'
  >;
  readonly product: Product;
  readonly hasOneSession: boolean;
  open(): void;
  add(user: ConnectionUser): void;
  remove(user: ConnectionUser): Promise<void>;
  beginSession(wire: Wire): SessionLease | undefined;
  redirect(user: ConnectionUser, info: unknown): AmqpError | undefined;
  offers(capability: string): boolean;
  guarded<A extends unknown[]>(callback: (...args: A) => void): (...args: A) => void;
  emit(event: 'fault', error: unknown): boolean;
  emit(event: 'quiet', error: AmqpError): boolean;
  on(event: 'state', listener: (state: State) => void): unknown;
  off(event: 'state', listener: (state: State) => void): unknown;
}

/** Redirects in a row that are followed. */
export const MAX_HOPS = 5;
/** A password shorter than this is part of ordinary words. */
const MIN_SECRET = 6;
const REDIRECT = 'amqp:connection:redirect';
/** A connection is closed for another one, which logs in with a new token. */
const RENEWED = amqpError('AMQP_DISCONNECTED.renewed');

/** What is worth a line in the log, though nothing is wrong with the connection. */
export type Note =
  | { name: 'one-session' }
  | { name: 'unused-servers'; servers: string }
  | { name: 'token-not-renewed'; error: AmqpError };

/** Connections in a row that a peer must end over a further begin before all links share one session. */
const MAX_BEGIN_LOSSES = 2;

/**
 * The connection that all nodes of an endpoint share. It is wanted from the first link that opens it to the last that
 * leaves; as long as it is wanted, it is dialled again whatever ends it. Emits 'state' after each change, and 'quiet'
 * before one to "connecting" that comes of an end which is no fault; 'note' with what is worth a line in the log;
 * 'revealing' before a login that shows a password or token to whoever listens.
 *
 * Each attempt is a new rhea connection with rhea's own reconnecting switched off (R2, R13-R17): recovery is the
 * set-up run again.
 */
export class Connection extends EventEmitter<{
  state: [State];
  fault: [unknown];
  quiet: [AmqpError];
  note: [Note];
  revealing: [Server];
}> {
  readonly options: ConnectionOptions;
  state: State = { name: 'idle' };
  /** The one that is, or was last, connected to, or tried. */
  server: Server;
  readonly #servers: Servers;
  #users = new Set<ConnectionUser>();
  /** Carries the links for which this one has no session left (RabbitMQ 4 has 64). The links do not know. */
  #overflow: Connection | undefined;
  /** Carry the links that the peer has redirected, by the name of the server. */
  readonly #detours = new Map<string, Connection>();
  #wire: Wire | undefined;
  /** What the peer has said of itself. */
  #opened: Opened | undefined;
  #isWanted = false;
  /** A person wants no connection. */
  #isBarred = false;
  #running: Promise<void> | undefined;
  /** Begins of the present connection, and how many of them the peer has answered. */
  #begins = { sent: 0, answered: 0 };
  /** Connections in a row that ended with a begin unanswered, while there was another session. */
  #beginLosses = 0;
  /** The session of all links, where the peer has only one. */
  #shared: Session | undefined;
  /** When the outage began. */
  #downSince = 0;
  /** The server that has refused the login, since the last connection. */
  #refusedBy: Server | undefined;
  /** Between two attempts. */
  readonly #pause = new Pause();
  #attempted: Attempt | undefined;
  /** Ends the wait for a token. */
  #abandon: (() => void) | undefined;
  /** The token of the present connection. */
  #token: Token | undefined;
  /** Tokens that the peer has been shown on the present connection. */
  #shown: string[] = [];
  /** Servers that a peer has named and that are not used: told once. */
  #unused = '';

  constructor(options: ConnectionOptions) {
    super();
    this.setMaxListeners(0);
    this.options = options;
    const { servers, order, trustsNamed, username, password, tokens, headers, authorize } = options;
    const hasLogin = Boolean(username || password || tokens || headers || authorize);
    this.#servers = new Servers({ servers, order, trustsNamed, hasLogin });
    this.server = servers[0]!;
  }

  /** True while the peer offers the capability in its open. */
  offers(capability: string): boolean {
    return this.#opened?.capabilities.includes(capability) === true;
  }

  /** What the peer says it is, in the properties of its open. */
  get product(): Product {
    return this.#opened?.product ?? {};
  }

  /** What the peer has said of itself in its open. Undefined: there is no connection. */
  get opened(): Opened | undefined {
    return this.#opened;
  }

  /** What is open now. */
  get wire(): Wire | undefined {
    return this.#wire;
  }

  /** For the callback of a timer or the like: what it throws is a fault of this connection. */
  guarded<A extends unknown[]>(callback: (...args: A) => void): (...args: A) => void {
    return guarded(callback, (error) => this.emit('fault', error));
  }

  /** Some peers (IBM MQ) end the connection over a second session. Remembered as long as this object lives. */
  get hasOneSession(): boolean {
    return this.options.hasOneSession ?? this.#beginLosses >= MAX_BEGIN_LOSSES;
  }

  /** Begins a session for a link: one of its own (R9, R17), unless the peer has only one. Undefined: it has no more. */
  beginSession(wire: Wire): SessionLease | undefined {
    const isShared = this.hasOneSession;
    if (isShared && this.#shared) return { session: this.#shared, isShared };
    const session = wire.session();
    if (!session) return undefined;
    const begins = this.#begins;
    begins.sent++;
    session.once('open', () => begins.answered++);
    if (isShared) {
      this.#shared = session;
      session.once('end', () => {
        if (this.#shared === session) this.#shared = undefined;
      });
    }
    session.begin();
    return { session, isShared };
  }

  /** Adds a link. It is told the present state at once, and each later one. */
  add(user: ConnectionUser): void {
    this.#users.add(user);
    this.#tell(user);
  }

  /** Takes a link away; the connection is closed with the last. Resolves in bounded time. */
  async remove(user: ConnectionUser): Promise<void> {
    this.#users.delete(user);
    await Promise.all(this.#others.map((other) => other.remove(user)));
    this.#dropDetours();
    if (this.#isUnused) await this.close();
  }

  #dropDetours(): void {
    for (const [name, detour] of this.#detours) {
      if (!detour.#isUnused) continue;
      this.#detours.delete(name);
      void detour.close();
    }
  }

  get #others(): Connection[] {
    return [...(this.#overflow ? [this.#overflow] : []), ...this.#detours.values()];
  }

  get #isUnused(): boolean {
    return this.#users.size === 0 && this.#others.every((other) => other.#isUnused);
  }

  /** Connects, and stays connected until `close` or `disconnect`. After `disconnect` only `connect` does that. */
  open(): void {
    if (this.#isWanted || this.#isBarred) return;
    this.#isWanted = true;
    // A loop that is just closing goes on as soon as that is done.
    this.#running = (this.#running ?? Promise.resolve()).then(() => this.#run());
  }

  connect(): void {
    this.#isBarred = false;
    this.open();
  }

  /** Closes until `connect`, whatever wants to send or receive meanwhile. Resolves in bounded time. */
  async disconnect(): Promise<void> {
    this.#isBarred = true;
    for (const [name, detour] of this.#detours)
      this.#dissolve(name, detour, (user) => user.disconnected({ name: 'idle' }));
    await this.close();
  }

  /** Closes, and cancels a pending attempt (R15). Resolves in bounded time. */
  async close(): Promise<void> {
    this.#isWanted = false;
    this.#pause.end();
    this.#abandon?.();
    this.#attempted?.close();
    await Promise.all([this.#running, ...this.#others.map((other) => other.close())]);
  }

  async #run(): Promise<void> {
    const { backoff, loginBackoff, fault, giveUpAfter = Infinity } = this.options;
    const release = this.options.tokens?.use({
      renewed: this.guarded((token: Token) => void this.#renewed(token)),
      failed: (error) => this.emit('note', { name: 'token-not-renewed', error }),
    });
    let failures = 0;
    let wasRefused = false;
    this.#downSince = performance.now();
    while (this.#isWanted) {
      if (!('error' in this.state)) this.#change({ name: 'connecting' });
      // Who is told may close at once.
      if (!this.#isWanted) break;
      const { error, openFor, isOrderly } = fault ? notTried(fault) : await this.#round().catch(this.#unforeseen);
      if (error.code === 'AMQP_SHUTDOWN' || error === RENEWED) continue;
      const isRefused = error.code === 'AMQP_AUTH' || error.diagnosis === 'client-id';
      // A series of refused logins says nothing of how long an outage lasts.
      if (openFor > STABLE_AFTER || isRefused !== wasRefused) failures = 0;
      failures++;
      wasRefused = isRefused;
      const left = giveUpAfter - (performance.now() - this.#downSince);
      if (left <= 0 && !fault) return this.#giveUp(error, release);
      if (isOrderly && failures === 1) {
        // Nothing is wrong unless the next attempt fails too.
        this.emit('quiet', error);
        this.#change({ name: 'connecting' });
      } else this.#change({ name: nameOfState(error), error });
      const pause = fault ? Infinity : pauseAfter(failures - 1, isRefused ? loginBackoff : backoff);
      if (this.#isWanted) await this.#pause.wait(Math.min(pause, fault ? Infinity : left));
    }
    release?.();
    this.#change({ name: 'idle' });
  }

  /** An error of ours must not end the loop, and with it Node-RED. */
  readonly #unforeseen = (cause: unknown): End => {
    this.emit('fault', cause);
    return notTried(amqpError('AMQP_CONNECT.failed', { why: messageOf(cause) }, { cause }));
  };

  #giveUp(cause: AmqpError, release: (() => void) | undefined): void {
    release?.();
    this.#isWanted = false;
    const values = { seconds: this.options.giveUpAfter! / 1000, why: cause.message };
    const error = amqpError('AMQP_CONNECT.given-up', values, { diagnosis: 'given-up', cause });
    this.#change({ name: 'disconnected', error });
  }

  /** Tries the servers in turn, until one has been open, or refuses the login, or all have failed. */
  async #round(): Promise<End> {
    const failures: { server: Server; end: End }[] = [];
    const all = this.#servers.round();
    // One that refuses the login is not to keep the others from being tried for ever.
    const first = all.findIndex((server) => server === this.#refusedBy) + 1;
    const servers = [...all.slice(first), ...all.slice(0, first)];
    for (const server of servers) {
      const end = await this.#reach(server);
      const { code } = end.error;
      // A login that one refuses is not to be shown to all, which might count it as guessing.
      if (code === 'AMQP_AUTH') this.#refusedBy = server;
      const isOfLogin = code === 'AMQP_AUTH' || end.error.diagnosis === 'token-server';
      if (end.wasOpen || isOfLogin || !this.#isWanted || servers.length === 1) return end;
      failures.push({ server, end });
    }
    return allFailed(failures.toSorted((one, other) => (nameOf(one.server) < nameOf(other.server) ? -1 : 1)));
  }

  /** Connects to a server, and to where that redirects. */
  async #reach(first: Server): Promise<End> {
    let server = first;
    for (let hops = 1; ; hops++) {
      const end = await this.#attempt(server);
      const { error, openFor } = end;
      if (error.condition !== REDIRECT || !this.#isWanted) return end;
      if (openFor > STABLE_AFTER) hops = 1;
      const next = this.#servers.redirected(server, error.info);
      if (next instanceof AmqpError) return { ...end, error: next, wasOpen: false, isOrderly: false };
      if (hops > MAX_HOPS) return { ...end, error: endless(next), wasOpen: false, isOrderly: false };
      this.emit('quiet', error);
      if (end.wasOpen) this.#change({ name: 'connecting' });
      server = next;
    }
  }

  async #attempt(server: Server): Promise<End> {
    this.#begins = { sent: 0, answered: 0 };
    this.#shared = undefined;
    this.#shown = [];
    this.server = server;
    let login: Pick<AttemptOptions, 'username' | 'password' | 'mechanism' | 'headers'>;
    try {
      login = await this.#login();
    } catch (error) {
      return notTried(error as AmqpError);
    }
    if (!this.#isWanted) return notTried(amqpError('AMQP_SHUTDOWN.endpoint'));
    const attempt = new Attempt(
      { ...this.options, ...server, ...login },
      {
        loggingIn: (mechanism) => {
          const isRevealing = REVEALING.includes(mechanism) || this.options.authorize !== undefined;
          if (isRevealing && !server.isSecure) this.emit('revealing', server);
        },
        opened: (wire) => {
          this.#reclaim();
          this.#announce(server, wire.opened);
          this.#change({ name: 'connected' }, wire);
        },
        fault: (error) => this.emit('fault', error),
        secrets: () => [login.password ?? '', ...this.#shown].filter((secret) => secret.length >= MIN_SECRET),
      },
    );
    this.#attempted = attempt;
    const end = await attempt.ended;
    this.#attempted = undefined;
    if (end.wasOpen) {
      this.#downSince = performance.now();
      this.#refusedBy = undefined;
    }
    // Ended by the peer, and soon after its open.
    if (end.error.code !== 'AMQP_SHUTDOWN' && end.error !== RENEWED && end.wasOpen && end.openFor < STABLE_AFTER)
      this.#countBeginLoss();
    const { code, cause, diagnosis } = end.error;
    if (code !== 'AMQP_AUTH' || diagnosis || !this.#token) return end;
    this.options.tokens?.drop(this.#token);
    const because = cause ? `: ${messageOf(cause)}` : '';
    return { ...end, error: amqpError('AMQP_AUTH.token', { because }, { peer: end.error, cause: end.error }) };
  }

  /** What to log in with. Rejects with an AmqpError where there is nothing. */
  async #login(): Promise<Pick<AttemptOptions, 'username' | 'password' | 'mechanism' | 'headers'>> {
    const { tokens, tokenUse, username, password, mechanism, headers } = this.options;
    if (!tokens) return { username, password, mechanism, headers };
    const asked = tokens.get();
    // It may take longer than closing may.
    const abandoned = new Promise<undefined>((resolve) => (this.#abandon = () => resolve(undefined)));
    this.#token = await Promise.race([asked, abandoned]);
    const value = this.#token?.value;
    if (value) this.#shown.push(value);
    if (tokenUse === 'header')
      return { mechanism: 'ANONYMOUS', headers: { ...headers, authorization: `Bearer ${value}` } };
    return { username, password: value, mechanism: tokenUse === 'xoauth2' ? 'XOAUTH2' : 'PLAIN', headers };
  }

  /** The connection goes on with a new token where the peer can do that; else there is a new connection. */
  async #renewed(token: Token): Promise<void> {
    if (!this.#wire) return this.#pause.end();
    const wire = this.#wire;
    this.#shown.push(token.value);
    if (this.options.tokenUse === 'password' && (await this.options.renew?.(this, token.value))) {
      this.#token = token;
      return;
    }
    if (this.#wire !== wire) return;
    this.emit('quiet', RENEWED);
    this.#attempted?.close(RENEWED);
  }

  #announce(from: Server, { failover }: Opened): void {
    const unused = this.#servers.announce(from, failover).map(nameOf).join(', ');
    if (unused && unused !== this.#unused) this.emit('note', { name: 'unused-servers', servers: unused });
    this.#unused = unused;
  }

  /** Has a link attach over a connection to where the peer redirects it. Returns why not, if so. */
  redirect(user: ConnectionUser, info: unknown): AmqpError | undefined {
    const home = this.#holderOf(user);
    if (!home) return undefined;
    const server = this.#servers.redirected(home.server, info);
    if (server instanceof AmqpError) return server;
    home.#users.delete(user);
    const name = urlOf(server);
    if (name === urlOf(this.server)) {
      this.add(user);
      return undefined;
    }
    let detour = this.#detours.get(name);
    if (!detour) {
      detour = this.#another({ servers: [server] });
      this.#detours.set(name, detour);
      detour.on('state', (state) => this.#watch(name, state));
    }
    detour.add(user);
    detour.open();
    this.#dropDetours();
    return undefined;
  }

  /** A further connection of the pool. */
  #another(options: Partial<ConnectionOptions>): Connection {
    const other = new Connection({ ...this.options, ...options });
    other.on('fault', (error) => this.emit('fault', error));
    other.on('quiet', (error) => this.emit('quiet', error));
    other.on('note', (note) => this.emit('note', note));
    other.on('revealing', (server) => this.emit('revealing', server));
    return other;
  }

  /** Links come back from a server that is gone, or cannot be reached: who has sent them there may know better by now. */
  #watch(name: string, state: State): void {
    const detour = this.#detours.get(name);
    if (!detour || !('error' in state)) return;
    this.#dissolve(name, detour, (user) => {
      if (this.#wire) user.returned?.(this.#wire, this, state.error);
      else user.disconnected(this.state);
    });
  }

  /** Brings the links of a further connection back to this one. */
  #dissolve(name: string, detour: Connection, tell: (user: ConnectionUser) => void): void {
    this.#detours.delete(name);
    const users = Array.from(detour.#users);
    detour.#users.clear();
    void detour.close();
    for (const user of users) {
      this.#users.add(user);
      tell(user);
    }
  }

  #holderOf(user: ConnectionUser): Connection | undefined {
    if (this.#users.has(user)) return this;
    return this.#others.map((other) => other.#holderOf(user)).find(Boolean);
  }

  #change(state: State, wire?: Wire): void {
    // An outage is told once, however many attempts fail in the same way.
    if (isSame(state, this.state)) return;
    this.state = state;
    this.#opened = wire?.opened;
    this.#wire = wire;
    // A copy: a link may add another one, or leave, when it is told.
    for (const user of Array.from(this.#users)) if (this.#users.has(user)) this.guarded(() => this.#tell(user))();
    this.guarded(() => this.emit('state', state))();
  }

  #tell(user: ConnectionUser): void {
    const wire = this.#wire;
    if (!wire) return user.disconnected(this.state);
    if (this.hasOneSession) return user.connected(wire, this);
    let sessions = wire.maxSessions;
    for (const other of this.#users) {
      sessions -= other.sessions;
      if (other === user && sessions >= 0) return user.connected(wire, this);
    }
    this.#users.delete(user);
    const { containerId } = this.options;
    this.#overflow ??= this.#another({ containerId: `${containerId}_2` });
    this.#overflow.add(user);
    this.#overflow.open();
  }

  /** Moves links back from the overflow connection: the peer may now allow more sessions. */
  #reclaim(): void {
    const overflow = this.#overflow;
    if (!overflow) return;
    this.#overflow = undefined;
    overflow.#reclaim();
    for (const user of overflow.#users) this.#users.add(user);
    overflow.#users.clear();
    void overflow.close();
  }

  /** Counts connections in a row that the peer ended over a further begin. One session that does not last is no cure. */
  #countBeginLoss(): void {
    const { sent, answered } = this.#begins;
    if (sent > 1 && answered === 1) this.#beginLosses++;
    else this.#beginLosses = 0;
    if (this.#beginLosses === MAX_BEGIN_LOSSES) this.emit('note', { name: 'one-session' });
  }
}

function nameOfState(error: AmqpError): 'auth' | 'fault' | 'disconnected' {
  if (error.code === 'AMQP_CONFIG') return 'fault';
  return error.code === 'AMQP_AUTH' ? 'auth' : 'disconnected';
}

function notTried(error: AmqpError): End {
  return { error, wasOpen: false, openFor: 0, isOrderly: false };
}

function endless(to: Server): AmqpError {
  return amqpError(
    'AMQP_CONNECT.redirect-loop',
    { hops: MAX_HOPS, server: nameOf(to) },
    { diagnosis: 'redirect-loop' },
  );
}

/** One error for all servers, which says the same as long as each of them fails in the same way. */
function allFailed(failures: { server: Server; end: End }[]): End {
  const errors = failures.map(({ end }) => end.error);
  const why = failures.map(({ server, end }) => `${nameOf(server)} ${end.error.message}`).join('; ');
  const [diagnosis, ...others] = new Set(errors.map((error) => error.diagnosis));
  return notTried(
    amqpError(
      'AMQP_CONNECT.all-failed',
      { count: failures.length, why },
      { cause: errors[0], ...(others.length === 0 && { diagnosis }) },
    ),
  );
}
