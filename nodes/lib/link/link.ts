import { EventEmitter } from 'node:events';
import { pauseAfter, STABLE_AFTER } from '../connection/backoff';
import {
  type Connection,
  type ConnectionUser,
  type LinkConnection,
  MAX_HOPS,
  type SessionLease,
} from '../connection/connection';
import { type AmqpError, amqpError, type Brief, type PeerError } from '../errors';
import type { ReceivingEnd, SendingEnd } from '../wire/link-end';
import type { Session } from '../wire/session';
import type { Wire } from '../wire/wire';
import { isSame, type State } from '../state';
import type { SharedSession } from './shared-session';

/** An attach reply without address counts as attached if no detach follows in this time: some peers never name one. */
const DETACH_GRACE = 500;
/** Bounds the wait for the peer's answer to a detach. */
const CLOSE_TIMEOUT = 2000;

/** One attach, from its begin to the loss of the link. */
interface Attach extends SessionLease {
  /** Runs until the peer has answered. */
  timer: NodeJS.Timeout;
  since: number;
  /** Takes the listeners off, which a shared session would keep. */
  unlisten: (() => void)[];
  /** From its attach on, answered or not. */
  end?: SendingEnd | ReceivingEnd;
}

export interface DetachOptions {
  /** The peer keeps nothing of its terminus (2.6.4). Default: unless that is durable. */
  deletes?: boolean;
  /** Why, for the peer: some do what a client asked them to do in this case. */
  error?: PeerError;
}

/** The peer detaches a link that was idle for long (Azure: ten minutes). */
const IDLE_DETACH = 'amqp:link:detach-forced';
/** The link is to be attached elsewhere (2.8.17). */
const REDIRECT = 'amqp:link:redirect';
/** Another client attached the link of the same name and container id. */
const STOLEN = 'amqp:link:stolen';
/** Milliseconds until what is not there for now is asked for again. */
const ASK_AGAIN = 1000;
const UNAUTHORIZED = 'amqp:unauthorized-access';
/** Milliseconds: the longest pause before a link is taken back. */
const LONGEST_TRUCE = 3_600_000;

/**
 * A link that stays attached: whenever the connection is open, on a session of its own (R9, R17) where the peer has
 * more than one, with the same name. Detached or refused by the peer, it attaches again after a pause; the connection and
 * other links go on. Emits 'state' after each change.
 */
export abstract class Link<E extends SendingEnd | ReceivingEnd>
  extends EventEmitter<{ state: [State] }>
  implements ConnectionUser
{
  readonly sessions = 1;
  state: State = { name: 'detached' };
  readonly name: string;
  protected readonly connection: LinkConnection;
  /** Our end while it is attached. */
  protected end: E | undefined;
  #current: Attach | undefined;
  #retry: NodeJS.Timeout | undefined;
  #failures = 0;
  /** What was asked for in an earlier one comes too late. */
  #turn = 0;
  /** Redirects in a row. */
  #hops = 0;
  /** Where the last redirect came from. */
  #redirectedBy: Wire | undefined;
  /** The peer says that it does not permit the link, or not any more. */
  #isUnauthorized = false;
  /** The address to which the peer has redirected it, in place of its own. */
  protected redirectedTo: string | undefined;
  /** How often another client has taken the link since the connection was opened. */
  #thefts = 0;
  #isOpen = false;
  #closing: Promise<void> | undefined;

  constructor(connection: LinkConnection, name: string) {
    super();
    this.connection = connection;
    this.name = name;
  }

  /** Attaches on the session given. */
  protected abstract attach(session: Session, wire: Wire): E;
  /** The address that the peer's attach names, of the end that is the peer's. */
  protected abstract addressOf(end: E): string | undefined;
  /** Whether the attach reply must name the address: always, usually (null may be a refusal), never. */
  protected abstract readonly needsAddress: 'always' | 'usually' | 'never';
  /** The address that it asks for, of the end that is the peer's. Undefined: there is none yet. */
  protected get ownAddress(): string | undefined {
    return undefined;
  }

  /** The session that it shares with other links. Undefined: it has one of its own. */
  protected get sharedSession(): SharedSession | undefined {
    return undefined;
  }

  /** Called once attached, after the change of state. */
  protected abstract attached(end: E): void;
  /** Called when no longer attached, whatever the reason. Deliveries of this end are in doubt from now on. */
  protected abstract lost(error: AmqpError, end: E): void;

  /** The state of the link while it is attached. */
  protected attachedState(_end: E): State {
    return { name: 'connected' };
  }

  /** The state of the link until the peer has answered its attach. */
  protected get attachingState(): State {
    return { name: 'connecting' };
  }

  /** Milliseconds that the peer has to answer the attach. */
  protected get attachTimeout(): number {
    return this.connection.options.connectTimeout;
  }

  /** What it means that the peer has given the link to another client. */
  protected get theft(): Brief & { why: string } {
    const { containerId } = this.connection.options;
    return { why: `another client uses the client ID ${containerId} and this link`, diagnosis: 'client-id' };
  }

  /** Whether the peer's refusal of an attach only says that there is nothing for now: it is asked again soon. */
  protected isForNow(_refusal: PeerError): boolean {
    return false;
  }

  /** Whether the peer's terminus is durable, so that closing only detaches. */
  protected get isDurable(): boolean {
    return false;
  }

  /** From now on the link attaches whenever the connection is open. */
  open(): void {
    if (this.#isOpen) return;
    this.#isOpen = true;
    this.#failures = 0;
    if (!this.#closing) return this.connection.add(this);
    void this.#closing.then(() => this.#isOpen && this.connection.add(this));
  }

  /** Detaches for good, or until the next `open`; with `deletes` the peer keeps nothing. Resolves in bounded time. */
  protected detach({ deletes = !this.isDurable, error }: DetachOptions = {}): Promise<void> {
    if (!this.#isOpen) return this.#closing ?? Promise.resolve();
    this.#isOpen = false;
    this.#closing = this.#detach(deletes, error).finally(() => (this.#closing = undefined));
    return this.#closing;
  }

  /** Detaches; what is durable stays at the peer. */
  close(): Promise<void> {
    return this.detach();
  }

  async #detach(deletes: boolean, error?: PeerError): Promise<void> {
    clearTimeout(this.#retry);
    await this.#give(amqpError('AMQP_SHUTDOWN.link'), deletes, error);
    await this.connection.remove(this);
    this.change({ name: 'detached' });
  }

  /** Gives the link up, and shows `state` until the connection is another one or the link is opened again. */
  protected giveUp(state: State): void {
    void this.#give(amqpError('AMQP_SHUTDOWN.given-up'), !this.isDurable);
    this.change(state);
  }

  /** Detaches, then ends the session. Resolves in bounded time. */
  async #give(reason: AmqpError, deletes: boolean, error?: PeerError): Promise<void> {
    this.#turn++;
    const current = this.#current;
    this.#lose(reason);
    if (!current) return;
    const { session, isShared, end, since } = current;
    // R39: on a session that goes on, the answer would come for a link that is not there any more.
    if (end && isShared && since === Infinity) await this.#answered(end, 'open');
    if (end && (isShared || since !== Infinity)) {
      // R22: a detach that closes deletes a durable subscription.
      end.detach(deletes, error);
      // Qpid Dispatch 1.19 falls over a detach and the end of the session that come in one go.
      await this.#answered(end, 'close');
    }
    if (isShared) return;
    // Only that makes some peers give back what is unsettled (RabbitMQ 3).
    session.end();
    await this.#answered(session, 'end');
  }

  /** For the connection. */
  connected(wire: Wire, connection: LinkConnection): void {
    clearTimeout(this.#retry);
    this.#turn++;
    this.#lose(amqpError('AMQP_DISCONNECTED.lost'));
    if (this.#hops === 0) this.#failures = 0;
    this.#thefts = 0;
    // What it was told by another connection of the pool is told anew, if it still holds.
    if (connection === this.connection && wire !== this.#redirectedBy) this.redirectedTo = undefined;
    if (this.#isOpen) this.#attach(wire, connection);
  }

  /** For the connection. */
  returned(wire: Wire, connection: LinkConnection, error: AmqpError): void {
    this.redirectedTo = undefined;
    this.#turn++;
    this.#lose(error);
    this.#denied(wire, connection, error);
  }

  /** For the connection. */
  disconnected(state: State): void {
    clearTimeout(this.#retry);
    this.#turn++;
    this.#lose('error' in state ? state.error : amqpError('AMQP_DISCONNECTED.never'));
    this.change(state);
  }

  protected change(state: State): void {
    if (isSame(state, this.state)) return;
    this.state = state;
    this.emit('state', state);
  }

  /** Listens for as long as this attach lasts. */
  #listen(emitter: EventEmitter, event: string, listener: (error: PeerError) => void): void {
    const guarded = this.#guarded(listener);
    emitter.on(event, guarded);
    this.#current?.unlisten.push(() => emitter.off(event, guarded));
  }

  /** Calls back after so many milliseconds (0: in the next turn), if this attach lasts until then. */
  later(callback: () => void, delay = 0): void {
    const guarded = this.#guarded(callback);
    if (delay > 0) setTimeout(guarded, delay);
    else setImmediate(guarded);
  }

  /** What is thrown in there would end the connection or, from a timer, the process (R11, R36). */
  #guarded<A extends unknown[]>(callback: (...args: A) => void): (...args: A) => void {
    const attach = this.#current;
    return (...args) => {
      if (this.#current !== attach) return;
      try {
        callback(...args);
      } catch (error) {
        this.connection.emit('fault', error);
      }
    };
  }

  /** Attaches once the peer permits it, where that has to be asked for. */
  #attach(wire: Wire, connection: LinkConnection): void {
    const { authorize } = this.connection.options;
    const address = this.redirectedTo ?? this.ownAddress;
    if (!authorize || address === undefined) return this.#attachNow(wire, connection);
    if (this.state.name !== 'refused') this.change({ name: 'connecting' });
    const turn = ++this.#turn;
    const ifStill = <A extends unknown[]>(callback: (...args: A) => void): ((...args: A) => void) =>
      this.connection.guarded((...args: A) => {
        if (turn === this.#turn) callback(...args);
      });
    // Only a connection that we have opened has that.
    authorize(connection as Connection, address, this.#isUnauthorized).then(
      ifStill(() => this.#attachNow(wire, connection)),
      ifStill((error: AmqpError) => this.#denied(wire, connection, error)),
    );
  }

  #denied(wire: Wire, connection: LinkConnection, error: AmqpError): void {
    this.#attachLater(wire, connection, pauseAfter(this.#failures++, this.connection.options.backoff));
    this.change({ name: 'refused', error });
  }

  #attachNow(wire: Wire, connection: LinkConnection): void {
    // While it is refused, that is what users see until it is attached.
    if (this.state.name !== 'refused') this.change(this.attachingState);
    const refused = (text: string, peer?: PeerError): void => this.#refused(wire, connection, text, peer);
    const lease = this.sharedSession ? this.sharedSession.lease(connection, wire) : connection.beginSession(wire);
    if (!lease) return refused('the peer allows no more sessions');

    const { session } = lease;
    const late = this.connection.guarded(() => refused('no answer to the attach'));
    const timer = setTimeout(late, this.attachTimeout);
    const current: Attach = { ...lease, timer, since: Infinity, unlisten: [] };
    this.#current = current;
    // R17: when the peer ends a session its links get no event.
    this.#listen(session, 'end', (error) => refused('the peer ended the session', error));

    let end: E;
    try {
      end = this.attach(session, wire);
    } catch (error) {
      return refused((error as Error).message);
    }
    const { attachSize: size } = end;
    const { maxFrameSize: limit } = wire;
    if (size > limit) {
      // R81: it would cost the connection (2.3.2), over and over.
      end.remove();
      return refused(`address, name and options of the link take ${size} bytes, the peer takes no more than ${limit}`);
    }
    current.end = end;
    this.#listen(end, 'close', (error) => refused('the peer detached the link', error));
    // The peer reads again.
    current.unlisten.push(wire.onRead(this.#guarded(() => this.unblocked())));
    const attached = (): void => {
      clearTimeout(current.timer);
      current.since = performance.now();
      this.end = end;
      this.change(this.attachedState(end));
      this.attached(end);
    };
    this.#listen(end, 'open', () => {
      // R21: a refused attach is answered too, but with no address, and then detached.
      this.later(() => {
        if (this.needsAddress === 'never' || this.addressOf(end)) return attached();
        if (this.needsAddress === 'always') return;
        clearTimeout(current.timer);
        current.timer = setTimeout(this.#guarded(attached), DETACH_GRACE);
      });
    });
  }

  /** The peer reads again what it has let wait. */
  protected unblocked(): void {}

  #refused(wire: Wire, connection: LinkConnection, text: string, peer?: PeerError): void {
    const { backoff, loginBackoff } = this.connection.options;
    const isStolen = peer?.condition === STOLEN;
    const { why, ...brief } = isStolen ? this.theft : { why: text };
    const key = this.end ? 'AMQP_LINK_DETACHED.why' : 'AMQP_LINK_REFUSED.why';
    let error = amqpError(key, { why }, { peer, ...brief });
    this.#isUnauthorized = peer?.condition === UNAUTHORIZED;
    const isOrderly = this.end !== undefined && (!peer?.condition || peer.condition === IDLE_DETACH);
    const current = this.#current;
    this.#lose(error);
    if (current && !current.isShared) current.session.end();
    // Unless the peer has detached it, or ended the session, its name is still taken there.
    else if (current?.session.isRemoteOpen) current.end?.detach(false);
    if (peer?.condition === REDIRECT) {
      const refusal = this.#redirect(wire, peer.info);
      if (!refusal) return;
      // Where the peer does not say where to, its own words say as much.
      if (refusal.diagnosis) error = refusal;
    }
    if (peer && this.isForNow(peer)) {
      this.change(this.attachingState);
      return this.#attachLater(wire, connection, ASK_AGAIN);
    }
    this.#failures++;
    // Two clients are not to take it from each other for ever.
    const pause = isStolen
      ? pauseAfter(this.#thefts++, { initial: loginBackoff.initial, max: LONGEST_TRUCE })
      : pauseAfter(this.#failures - 1, backoff);
    this.#attachLater(wire, connection, pause);
    if (!isOrderly || this.#failures > 1) return this.change({ name: 'refused', error });
    // Nothing is wrong unless it happens again at once.
    this.connection.emit('quiet', error);
    this.change({ name: 'connecting' });
  }

  /** Attaches where the peer says. Returns why not, if so. */
  #redirect(wire: Wire, info: unknown): AmqpError | undefined {
    const { address } = (info ?? {}) as { address?: unknown };
    if (++this.#hops > MAX_HOPS) {
      this.#hops = 0;
      const server = typeof address === 'string' ? address : 'another server';
      return amqpError('AMQP_CONNECT.redirect-loop', { hops: MAX_HOPS, server }, { diagnosis: 'redirect-loop' });
    }
    this.#redirectedBy = wire;
    const before = this.redirectedTo;
    if (typeof address === 'string' && address !== '') this.redirectedTo = address;
    this.change({ name: 'connecting' });
    const refusal = this.connection.redirect(this, info);
    // It stays where it is, and so does its address.
    if (refusal) this.redirectedTo = before;
    return refusal;
  }

  #attachLater(wire: Wire, connection: LinkConnection, pause: number): void {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(
      this.connection.guarded(() => this.#attach(wire, connection)),
      pause,
    );
  }

  #lose(error: AmqpError): void {
    if (!this.#current) return;
    const { timer, since, unlisten, end } = this.#current;
    this.#current = undefined;
    clearTimeout(timer);
    for (const off of unlisten) off();
    if (end) end.user = undefined;
    const attached = this.end;
    if (!attached) return;
    this.end = undefined;
    if (performance.now() - since > STABLE_AFTER) this.#failures = this.#hops = 0;
    this.lost(error, attached);
  }

  /** Resolves once the peer has answered, the connection is lost, or after some time. */
  #answered(emitter: EventEmitter, event: string): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.connection.off('state', done);
        emitter.off(event, done);
        resolve();
      };
      const timer = setTimeout(done, CLOSE_TIMEOUT);
      this.connection.on('state', done);
      emitter.on(event, done);
    });
  }
}
