import { EventEmitter } from 'node:events';
import type { AmqpError } from '../errors';
import { Pause } from '../pause';
import { isSame, type State } from '../state';
import type { Opened, Product } from '../wire/remote';
import type { Session } from '../wire/session';
import type { Wire } from '../wire/wire';
import { Attempt, type AttemptOptions, type End } from './attempt';
import { type Backoff, pauseAfter, STABLE_AFTER } from './backoff';

export interface ConnectionOptions extends AttemptOptions {
  backoff: Backoff;
  /** Why these options cannot be used: no attempt is made then. */
  fault?: AmqpError;
  /** Pauses after what no retry repairs until a person acts: a refused login, a client ID that another client uses. */
  loginBackoff: Backoff;
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
  connected(wire: Wire): void;
  /** There is no connection. What was attached to the last one is gone. */
  disconnected(state: State): void;
}

/** Connections in a row that a peer must end over a further begin before all links share one session. */
const MAX_BEGIN_LOSSES = 2;

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
  #wire: Wire | undefined;
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
  /** Between two attempts. */
  readonly #pause = new Pause();
  #attempted: Attempt | undefined;

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
  beginSession(wire: Wire): SessionLease | undefined {
    const isShared = this.#hasOneSession;
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
    this.#pause.end();
    this.#attempted?.close();
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
        await this.#pause.wait(fault ? Infinity : pauseAfter(failures - 1, isRefused ? loginBackoff : backoff));
    }
    this.#change({ name: 'idle' });
  }

  async #attempt(): Promise<End> {
    this.#begins = { sent: 0, answered: 0 };
    this.#shared = undefined;
    const attempt = new Attempt(this.options, {
      opened: (wire) => {
        this.#reclaim();
        this.#change({ name: 'connected' }, wire);
      },
      fault: (error) => this.emit('fault', error),
    });
    this.#attempted = attempt;
    const end = await attempt.ended;
    this.#attempted = undefined;
    // Ended by the peer, and soon after its open.
    if (end.error.code !== 'AMQP_SHUTDOWN' && end.wasOpen && end.openFor < STABLE_AFTER) this.#countBeginLoss();
    return end;
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
    if (this.#hasOneSession) return user.connected(wire);
    let sessions = wire.maxSessions;
    for (const other of this.#users) {
      sessions -= other.sessions;
      if (other === user && sessions >= 0) return user.connected(wire);
    }
    this.#users.delete(user);
    const { containerId } = this.options;
    this.#overflow ??= new Connection({ ...this.options, containerId: `${containerId}_2` });
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
  }
}

function nameOf(error: AmqpError): 'auth' | 'fault' | 'disconnected' {
  if (error.code === 'AMQP_CONFIG') return 'fault';
  return error.code === 'AMQP_AUTH' ? 'auth' : 'disconnected';
}
