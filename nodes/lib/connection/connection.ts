import { EventEmitter } from 'node:events';
import rhea, { type Connection as RheaConnection, type EventContext, type Session } from 'rhea';
import { type Backoff, pauseAfter } from './backoff';
import { diagnose, diagnoseBytes, HEADER_SIZE, TEXTS } from './diagnosis';
import { AmqpError, type Diagnosis, type PeerError } from '../errors';
import { type Login, mechanismsOf, preferOurs } from '../auth/sasl';
import { Frames } from '../wire/frames';
import { channelsOf, ownSession } from '../wire/session';
import { type Opened, openedOf, peerErrorOf, type Product } from '../wire/remote';
import { isSame, type State } from '../state';
import { MAX_FRAME_SIZE, openSocket, type TransportOptions } from '../wire/transport';

export interface ConnectionOptions extends TransportOptions, Login {
  /** Sent in open.container-id: who we are to the peer, also after a restart. */
  containerId: string;
  /** Sent in open.hostname: the virtual host. Default: the host. */
  hostname?: string;
  /** Milliseconds from dialling to the peer's open. */
  connectTimeout: number;
  /** Milliseconds without a frame from the peer after which the connection counts as lost. 0: never. */
  idleTimeout: number;
  backoff: Backoff;
  /** Why these options cannot be used: no attempt is made then. */
  fault?: AmqpError;
  /** Pauses after what no retry repairs until a person acts: a refused login, a client ID that another client uses. */
  loginBackoff: Backoff;
}

/** How an attempt ended. */
interface End {
  error: AmqpError;
  /** Milliseconds. */
  openFor: number;
  /** The peer closed in good order, as services do with idle connections and before a restart. */
  isOrderly: boolean;
}

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
  /** The peer has opened: attach to this. */
  connected(connection: RheaConnection): void;
  /** There is no connection. What was attached to the last one is gone. */
  disconnected(state: State): void;
}

/** A connection that was open for so long has worked: the next loss starts with the shortest pause again. */
const STABLE_AFTER = 5000;
/** Connections in a row that a peer must end over a further begin before all links share one session. */
const MAX_BEGIN_LOSSES = 2;
const MIN_MAX_FRAME_SIZE = 512;
/** Bounds the wait for the peer's answer to our close. */
const CLOSE_TIMEOUT = 2000;

/**
 * The connection that all nodes of an endpoint share. It is wanted from the first link that opens it to the last that
 * leaves; as long as it is wanted, it is dialled again whatever ends it. Emits 'state' after each change, and 'quiet'
 * before one to "connecting" that comes of an end which is no fault.
 *
 * Each attempt is a new rhea connection with rhea's own reconnecting switched off (R2, R13-R17): recovery is the
 * set-up run again.
 */
export class Connection extends EventEmitter<{ state: [State]; fault: [unknown]; quiet: [AmqpError] }> {
  readonly options: ConnectionOptions;
  state: State = { name: 'idle' };
  #users = new Set<ConnectionUser>();
  /** Carries the links for which this one has no session left (RabbitMQ 4 has 64). The links do not know. */
  #overflow: Connection | undefined;
  #rhea: RheaConnection | undefined;
  /** What the peer has said of itself. */
  #opened: Opened | undefined;
  #isWanted = false;
  #running: Promise<void> | undefined;
  /** Begins of the present connection, and how many of them the peer has answered. */
  #begins = { sent: 0, answered: 0 };
  /** Connections in a row that ended with a begin unanswered, while there was another session. */
  #beginLosses = 0;
  /** The session of all links, where the peer has only one. */
  #shared: Session | undefined;
  /** Ends the pause or the attempt that the loop is in. */
  #interrupt: () => void = () => {};

  constructor(options: ConnectionOptions) {
    super();
    this.setMaxListeners(0);
    this.options = options;
  }

  /** True while the peer offers the capability in its open. */
  offers(capability: string): boolean {
    return this.#opened?.capabilities.includes(capability) === true;
  }

  /** What the peer says it is, in the properties of its open. */
  get product(): Product {
    return this.#opened?.product ?? {};
  }

  /** The callback, for a timer or the like: nobody catches what is thrown in there, and Node-RED would end (R11). */
  guarded<A extends unknown[]>(callback: (...args: A) => void): (...args: A) => void {
    return (...args) => {
      try {
        callback(...args);
      } catch (error) {
        this.emit('fault', error);
      }
    };
  }

  /** Some peers (IBM MQ) end the connection over a second session. Remembered as long as this object lives. */
  get #hasOneSession(): boolean {
    return this.#beginLosses >= MAX_BEGIN_LOSSES;
  }

  /** Begins a session for a link: one of its own (R9, R17), unless the peer has only one. Undefined: it has no more. */
  beginSession(connection: RheaConnection): SessionLease | undefined {
    const isShared = this.#hasOneSession;
    if (isShared && this.#shared) return { session: this.#shared, isShared };
    // R53: rhea takes a channel beyond the peer's channel-max, which costs the connection.
    if (channelsOf(connection) > (connection.channel_max ?? 0xffff)) return undefined;
    const begins = this.#begins;
    begins.sent++;
    const session = ownSession(connection);
    session.once('session_open', () => begins.answered++);
    if (isShared) {
      this.#shared = session;
      session.setMaxListeners(0);
      session.once('session_close', () => {
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
    await this.#overflow?.remove(user);
    if (this.#isUnused) await this.close();
  }

  get #isUnused(): boolean {
    return this.#users.size === 0 && (!this.#overflow || this.#overflow.#isUnused);
  }

  /** Connects, and stays connected until `close`. */
  open(): void {
    if (this.#isWanted) return;
    this.#isWanted = true;
    // A loop that is just closing goes on as soon as that is done.
    this.#running = (this.#running ?? Promise.resolve()).then(() => this.#run());
  }

  /** Closes, and cancels a pending attempt (R15). Resolves in bounded time. */
  async close(): Promise<void> {
    this.#isWanted = false;
    this.#interrupt();
    await Promise.all([this.#running, this.#overflow?.close()]);
  }

  async #run(): Promise<void> {
    const { backoff, loginBackoff, fault } = this.options;
    let failures = 0;
    let wasRefused = false;
    while (this.#isWanted) {
      if (!('error' in this.state)) this.#change({ name: 'connecting' });
      // Who is told may close at once.
      if (!this.#isWanted) break;
      const { error, openFor, isOrderly } = fault
        ? { error: fault, openFor: 0, isOrderly: false }
        : await this.#attempt();
      if (error.code === 'AMQP_SHUTDOWN') continue;
      const isRefused = error.code === 'AMQP_AUTH' || error.diagnosis === 'client-id';
      // A series of refused logins says nothing of how long an outage lasts.
      if (openFor > STABLE_AFTER || isRefused !== wasRefused) failures = 0;
      failures++;
      wasRefused = isRefused;
      if (isOrderly && failures === 1) {
        // Nothing is wrong unless the next attempt fails too.
        this.emit('quiet', error);
        this.#change({ name: 'connecting' });
      } else this.#change({ name: nameOf(error), error });
      if (this.#isWanted)
        await this.#pause(fault ? Infinity : pauseAfter(failures - 1, isRefused ? loginBackoff : backoff));
    }
    this.#change({ name: 'idle' });
  }

  #change(state: State, connection?: RheaConnection): void {
    // An outage is told once, however many attempts fail in the same way.
    if (isSame(state, this.state)) return;
    this.state = state;
    this.#opened = connection && openedOf(connection);
    this.#rhea = connection;
    // A copy: a link may add another one, or leave, when it is told.
    for (const user of Array.from(this.#users)) if (this.#users.has(user)) this.guarded(() => this.#tell(user))();
    this.guarded(() => this.emit('state', state))();
  }

  #tell(user: ConnectionUser): void {
    if (!this.#rhea) return user.disconnected(this.state);
    if (this.#hasOneSession) return user.connected(this.#rhea);
    let sessions = (this.#rhea.channel_max ?? 0xffff) + 1;
    for (const other of this.#users) {
      sessions -= other.sessions;
      if (other === user && sessions >= 0) return user.connected(this.#rhea);
    }
    this.#users.delete(user);
    const { containerId } = this.options;
    this.#overflow ??= new Connection({ ...this.options, containerId: `${containerId}_2` });
    this.#overflow.add(user);
    this.#overflow.open();
  }

  /** Takes back what went to a further connection: this peer may have more sessions than the last one. */
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
  }

  #pause(delay: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = delay === Infinity ? undefined : setTimeout(resolve, delay);
      this.#interrupt = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** One connection from dialling to its end. Resolves with why it ended, however it did (R13, R18). */
  #attempt(): Promise<End> {
    return new Promise((resolve) => {
      const { connectTimeout, containerId, hostname, host, port, idleTimeout, tls } = this.options;
      let openedAt: number | undefined;
      let connection: RheaConnection | undefined;
      let timer: NodeJS.Timeout | undefined;
      let isConnected = false;
      this.#begins = { sent: 0, answered: 0 };
      this.#shared = undefined;

      // R13-R19: several events may tell of one end, so the first one counts.
      let isOver = false;
      const over = (error: AmqpError, isOrderly = false): void => {
        if (isOver) return;
        isOver = true;
        // Ended by the peer, and soon after its open.
        if (!isClosing && openedAt !== undefined && performance.now() - openedAt < STABLE_AFTER) this.#countBeginLoss();
        try {
          if (connection && openedAt !== undefined) flush(connection);
        } catch {
          // What can be told of outcomes has been: the connection is lost anyway.
        }
        clearTimeout(timer);
        if (connection) discard(connection);
        resolve({ error, openFor: openedAt === undefined ? 0 : performance.now() - openedAt, isOrderly });
      };
      const lost = (text: string, peer?: PeerError | null, cause?: unknown, diagnosis?: Diagnosis): void => {
        if (isClosing) over(new AmqpError('AMQP_SHUTDOWN', 'closed by the endpoint'));
        else if (openedAt !== undefined)
          over(new AmqpError('AMQP_DISCONNECTED', `connection lost: ${text}`, peer, cause, { diagnosis }));
        else over(new AmqpError('AMQP_CONNECT', `cannot connect: ${text}`, peer, cause, { diagnosis }));
      };
      /** The socket is gone: why, by its error (undefined: closed), what the peer has sent, and how far it came. */
      const dropped = (error: unknown): void => {
        const { first } = input;
        const progress = { isSecure: tls !== undefined, isConnected, hasAnswered: first.length > 0 };
        const diagnosis = openedAt === undefined ? (diagnoseBytes(first) ?? diagnose(error, progress)) : undefined;
        const text = diagnosis ? TEXTS[diagnosis] : error ? textOf(error) : 'the peer is gone or silent';
        lost(text, null, error, diagnosis);
      };
      const unspoken = (error: unknown): void => {
        const diagnosis = openedAt === undefined ? (diagnoseBytes(input.first) ?? 'other-protocol') : undefined;
        const text =
          diagnosis && diagnosis !== 'other-protocol'
            ? TEXTS[diagnosis]
            : `the peer does not speak AMQP 1.0: ${textOf(error)}`;
        lost(text, null, error, diagnosis);
      };
      const input = new Input(unspoken);

      let isClosing = false;
      this.#interrupt = () => {
        if (isOver) return;
        isClosing = true;
        clearTimeout(timer);
        if (openedAt === undefined || !connection) return lost('not open yet');
        connection.close();
        timer = setTimeout(
          this.guarded(() => lost('no answer to our close')),
          CLOSE_TIMEOUT,
        );
      };

      const container = rhea.create_container();
      container.on('connection_open', (context: EventContext) => {
        clearTimeout(timer);
        connection = context.connection;
        const { max_frame_size: maxFrameSize } = connection;
        const opened = (): void => {
          if (isOver || isClosing) return;
          // Below the least that is allowed (2.7.1) rhea cuts messages up for ever.
          if ((maxFrameSize ?? MAX_FRAME_SIZE) < MIN_MAX_FRAME_SIZE)
            return lost(`its max-frame-size is ${maxFrameSize}`);
          openedAt = performance.now();
          this.#reclaim();
          this.#change({ name: 'connected' }, connection);
        };
        // A peer may open only to say in its close, right behind, that it refuses.
        setImmediate(this.guarded(opened));
      });
      container.on('connection_error', ({ error }: EventContext) => {
        const peer = peerErrorOf(error);
        if (isOwnIdTaken(peer))
          return lost(`another client uses the client ID ${containerId}`, peer, null, 'client-id');
        if (openedAt === undefined && peer.condition === 'amqp:unauthorized-access')
          return over(new AmqpError('AMQP_AUTH', 'the login was refused', peer));
        if (openedAt === undefined || isClosing || peer.condition !== 'amqp:connection:forced')
          return lost('closed by the peer', peer);
        over(new AmqpError('AMQP_DISCONNECTED', 'connection lost: closed by the peer', peer), true);
      });
      container.on('connection_close', () => {
        if (openedAt === undefined || isClosing) return lost('closed by the peer');
        over(new AmqpError('AMQP_DISCONNECTED', 'connection lost: closed by the peer'), true);
      });
      container.on('disconnected', ({ error }: EventContext) => dropped(error));
      // R34, R43: these two get the error itself. The socket may stay half open after them.
      container.on('protocol_error', unspoken);
      container.on('error', (error: unknown) => lost(textOf(error), null, error));
      // R10: without a listener anywhere these would be thrown. Links and sessions have their own, this is the last resort.
      for (const event of [
        'session_error',
        'session_close',
        'sender_error',
        'sender_close',
        'receiver_error',
        'receiver_close',
      ]) {
        container.on(event, () => {});
      }

      const late = (): void => lost(`no answer within ${connectTimeout / 1000} s`, null, null, 'silent');
      timer = setTimeout(this.guarded(late), connectTimeout);
      try {
        const mechanisms = mechanismsOf(this.options);
        connection = container.create_connection({
          reconnect: false,
          container_id: containerId,
          hostname: hostname || host,
          host,
          port,
          // R42: rhea gives up after twice the value.
          ...(idleTimeout ? { idle_time_out: idleTimeout / 2 } : {}),
          sasl_mechanisms: mechanisms,
          tcp_no_delay: true,
          max_frame_size: MAX_FRAME_SIZE,
          connection_details: () => ({
            host,
            port,
            connect: (_port: number, _host: string, _options: unknown, connected: () => void) =>
              openSocket(this.options, () => {
                isConnected = true;
                connected();
              }),
          }),
        } as unknown as Parameters<typeof container.create_connection>[0]);
        connection.setMaxListeners(0);
        guard(connection, input);
        connection.connect();
        preferOurs(connection, mechanisms);
      } catch (error) {
        // A port or TLS option that Node refuses is thrown by the dial itself.
        lost(textOf(error), null, error);
      }
    });
  }
}

/** The longest that a timer of Node runs. */
const MAX_TIMEOUT = 2 ** 31 - 1;

interface Open {
  performative: { idle_time_out?: number | null };
}

interface Begin {
  performative: { remote_channel?: number | null };
}

/** What comes in on one connection, checked before rhea sees it. */
class Input {
  /** The first bytes, by which a peer that speaks something else is told. */
  first: Buffer = Buffer.alloc(0);
  readonly #frames = new Frames();
  readonly #refused: (error: unknown) => void;
  #isRefused = false;

  /** `refused` is called at most once, with what is wrong. */
  constructor(refused: (error: unknown) => void) {
    this.#refused = refused;
  }

  /** The whole frames that there are now, for rhea. Throws at what cannot be. */
  take(chunk: Buffer): Buffer | undefined {
    if (this.#isRefused) return undefined;
    if (this.first.length < HEADER_SIZE) this.#begin(chunk);
    return this.#frames.take(chunk);
  }

  /** Takes nothing more. */
  refuse(error: unknown): void {
    if (this.#isRefused) return;
    this.#isRefused = true;
    this.#refused(error);
  }

  #begin(chunk: Buffer): void {
    this.first = Buffer.concat([this.first, chunk.subarray(0, HEADER_SIZE - this.first.length)]);
    const diagnosis = diagnoseBytes(this.first);
    if (diagnosis) throw new Error(TEXTS[diagnosis]);
  }
}

/** Keeps from rhea what would make it hang, grow without bound, or throw where nobody catches. */
function guard(connection: RheaConnection, input: Input): void {
  const internals = connection as unknown as {
    input(chunk: Buffer): void;
    on_open(frame: Open): void;
    on_begin(frame: Begin): void;
    _process(): void;
  };
  const rheaInput = internals.input.bind(connection);
  internals.input = (chunk) => {
    try {
      const bytes = input.take(chunk);
      if (bytes) rheaInput(bytes);
    } catch (error) {
      input.refuse(error);
    }
  };
  const process = internals._process.bind(connection);
  // R11: rhea runs it in a turn of its own, where nobody catches what outcomes and frames that cannot be written throw.
  internals._process = () => {
    try {
      process();
    } catch (error) {
      input.refuse(error);
    }
  };
  const onOpen = internals.on_open.bind(connection);
  internals.on_open = (frame) => {
    // rhea sends its empty frames in half the time, and Node makes 1 ms of what is beyond 2^31.
    const { performative } = frame;
    if ((performative.idle_time_out ?? 0) > MAX_TIMEOUT) performative.idle_time_out = MAX_TIMEOUT;
    onOpen(frame);
  };
  const onBegin = internals.on_begin.bind(connection);
  internals.on_begin = (frame) => {
    // A client has no use for sessions of its peer, and rhea would keep any number.
    if (typeof frame.performative.remote_channel !== 'number') throw new Error('the peer begins a session');
    onBegin(frame);
  };
}

/** Whether the peer refuses us because another connection has our container id. */
function isOwnIdTaken({ condition, description, info }: PeerError): boolean {
  if (condition !== 'amqp:invalid-field') return false;
  const { 'invalid-field': field } = (info ?? {}) as Record<string, unknown>;
  return field === 'container-id' || /already connected/i.test(description ?? '');
}

function nameOf(error: AmqpError): 'auth' | 'fault' | 'disconnected' {
  if (error.code === 'AMQP_CONFIG') return 'fault';
  return error.code === 'AMQP_AUTH' ? 'auth' : 'disconnected';
}

function textOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // The error of a host with several addresses has a code only.
  return error.message || ((error as { code?: string }).code ?? error.name);
}

/**
 * Writes what is queued, and tells of the outcomes that have arrived: rhea would do both only in its next turn, which
 * is too late for outcomes when the link goes, and mixes up different outcomes that are settled in one turn (R1).
 */
export function flush(connection: RheaConnection): void {
  (connection as unknown as { _process(): void })._process();
}

/** Lets go of a rhea connection at once, in whatever state: no timer, listener or socket of it stays (R40, R43, R87). */
function discard(connection: RheaConnection): void {
  const internals = connection as unknown as {
    socket?: { on(event: string, listener: () => void): void };
    socket_ready: boolean;
    local: { open: { idle_time_out?: number } };
    abort_socket(socket: unknown): void;
  };
  const { socket } = internals;
  if (!socket) return;
  internals.abort_socket(socket);
  // What rhea still has to say goes nowhere, or it would start its idle timer again.
  internals.socket_ready = false;
  internals.local.open.idle_time_out = 0;
  socket.on('error', () => {});
}
