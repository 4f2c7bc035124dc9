import { EventEmitter } from 'node:events';
import type {
  Connection as RheaConnection,
  EventContext,
  Receiver as RheaReceiver,
  Sender as RheaSender,
  Session,
} from 'rhea';
import { pauseAfter } from '../connection/backoff';
import { type Connection, type ConnectionUser, flush, type SessionLease } from '../connection/connection';
import { AmqpError, type PeerError } from '../errors';
import { peerErrorOf } from '../wire/remote';
import { end, sizeOf } from '../wire/session';
import { isSame, type State } from '../state';

/** A link that was attached for so long works: the next loss starts with the shortest pause again. */
const STABLE_AFTER = 5000;
/** An attach answered without an address counts when no detach has followed it by then: some peers never name one. */
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
  link?: RheaSender | RheaReceiver;
}

/** The peer detaches a link that was idle for long (Azure: ten minutes). */
const IDLE_DETACH = 'amqp:link:detach-forced';
/** Another client attached the link of the same name and container id. */
const STOLEN = 'amqp:link:stolen';
/** Milliseconds: the longest pause before a link is taken back. */
const LONGEST_TRUCE = 3_600_000;

/**
 * A link that stays attached: whenever the connection is open, on a session of its own (R9, R17) where the peer has
 * more than one, with the same name. Detached or refused by the peer, it attaches again after a pause; the connection and
 * other links go on. Emits 'state' after each change.
 */
export abstract class Link<R extends RheaSender | RheaReceiver>
  extends EventEmitter<{ state: [State] }>
  implements ConnectionUser
{
  readonly sessions = 1;
  state: State = { name: 'detached' };
  readonly name: string;
  protected readonly connection: Connection;
  /** The rhea link while it is attached. */
  protected rhea: R | undefined;
  #current: Attach | undefined;
  #retry: NodeJS.Timeout | undefined;
  #failures = 0;
  /** How often another client has taken the link since the connection was opened. */
  #thefts = 0;
  #isOpen = false;
  #closing: Promise<void> | undefined;

  constructor(connection: Connection, name: string) {
    super();
    this.connection = connection;
    this.name = name;
  }

  /** Creates the rhea link on the session given, and listens to it by `listen`. */
  protected abstract attach(session: Session): R;
  /** The address that the peer's attach names, of the end that is the peer's. */
  protected abstract addressOf(link: R): string | undefined;
  /** Whether there is no link without such an address, or null is an answer too. */
  protected abstract readonly needsAddress: 'always' | 'usually' | 'never';
  /** Called once attached, after the change of state. */
  protected abstract attached(link: R): void;
  /** Called when no longer attached, whatever the reason. Deliveries of the rhea link are in doubt from now on. */
  protected abstract lost(error: AmqpError): void;

  /** The state of the link while it is attached. */
  protected attachedState(_link: R): State {
    return { name: 'connected' };
  }

  /** Whether the peer is to keep the end that is its own while the link is detached. */
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
  protected detach({ deletes = !this.isDurable } = {}): Promise<void> {
    if (!this.#isOpen) return this.#closing ?? Promise.resolve();
    this.#isOpen = false;
    this.#closing = this.#detach(deletes).finally(() => (this.#closing = undefined));
    return this.#closing;
  }

  /** Detaches; what is durable stays at the peer. */
  close(): Promise<void> {
    return this.detach();
  }

  async #detach(deletes: boolean): Promise<void> {
    clearTimeout(this.#retry);
    await this.#give(new AmqpError('AMQP_SHUTDOWN', 'the link was closed'), deletes);
    await this.connection.remove(this);
    this.change({ name: 'detached' });
  }

  /** Gives the link up, and shows `state` until the connection is another one or the link is opened again. */
  protected giveUp(state: State): void {
    void this.#give(new AmqpError('AMQP_SHUTDOWN', 'the link was given up'), !this.isDurable);
    this.change(state);
  }

  /** Detaches, then ends the session. Resolves in bounded time. */
  async #give(reason: AmqpError, deletes: boolean): Promise<void> {
    const current = this.#current;
    this.#lose(reason);
    if (!current) return;
    const { session, isShared, link, since } = current;
    const role = link?.is_receiver() ? 'receiver' : 'sender';
    // On a session that goes on, the answer would come for a link that is not there any more.
    if (link && isShared && since === Infinity) await this.#answered(link, `${role}_open`);
    if (link && (isShared || since !== Infinity)) {
      // R22: a detach that closes deletes a durable subscription.
      if (deletes) link.close();
      else link.detach();
      // Qpid Dispatch 1.19 falls over a detach and the end of the session that come in one go.
      await this.#answered(link, `${role}_close`);
    }
    if (isShared) return;
    // Only that makes some peers give back what is unsettled (RabbitMQ 3).
    end(session);
    await this.#answered(session, 'session_close');
  }

  /** For the connection. */
  connected(connection: RheaConnection): void {
    clearTimeout(this.#retry);
    this.#lose(new AmqpError('AMQP_DISCONNECTED', 'connection lost'));
    this.#failures = 0;
    this.#thefts = 0;
    if (this.#isOpen) this.#attach(connection);
  }

  /** For the connection. */
  disconnected(state: State): void {
    clearTimeout(this.#retry);
    this.#lose('error' in state ? state.error : new AmqpError('AMQP_DISCONNECTED', 'not connected'));
    this.change(state);
  }

  protected change(state: State): void {
    if (isSame(state, this.state)) return;
    this.state = state;
    this.emit('state', state);
  }

  /**
   * Listens to a rhea emitter for as long as this attach lasts. What is thrown in there would end the connection or,
   * from an outcome, the process (R11, R36).
   */
  protected listen(emitter: EventEmitter, event: string, listener: (context: EventContext) => void): void {
    const guarded = this.#guarded(listener);
    emitter.on(event, guarded);
    this.#current?.unlisten.push(() => emitter.off(event, guarded));
  }

  /** Calls back after so many milliseconds (0: in the next turn), if this attach lasts until then. */
  protected later(callback: () => void, delay = 0): void {
    const guarded = this.#guarded(callback);
    if (delay > 0) setTimeout(guarded, delay);
    else setImmediate(guarded);
  }

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

  #attach(connection: RheaConnection): void {
    // While it is refused, that is what users see until it is attached.
    if (this.state.name !== 'refused') this.change({ name: 'connecting' });
    const refused = (text: string, peer?: PeerError): void => this.#refused(connection, text, peer);
    const lease = this.connection.beginSession(connection);
    if (!lease) return refused('the peer allows no more sessions');

    const { session } = lease;
    const late = this.connection.guarded(() => refused('no answer to the attach'));
    const timer = setTimeout(late, this.connection.options.connectTimeout);
    const current: Attach = { ...lease, timer, since: Infinity, unlisten: [] };
    this.#current = current;
    // R17: when the peer ends a session its links get no event.
    this.listen(session, 'session_error', () => {});
    this.listen(session, 'session_close', () => refused('the peer ended the session', peerErrorOf(session.error)));

    let link: R;
    try {
      link = this.attach(session);
      const size = sizeOf((link as unknown as { local: { attach: object } }).local.attach);
      const limit = connection.max_frame_size ?? Infinity;
      if (size > limit) {
        // It would cost the connection (2.3.2), over and over.
        link.remove();
        return refused(
          `address, name and options of the link take ${size} bytes, the peer takes no more than ${limit}`,
        );
      }
      current.link = link;
    } catch (error) {
      return refused((error as Error).message);
    }
    const role = link.is_receiver() ? 'receiver' : 'sender';
    this.listen(link, `${role}_error`, () => {});
    this.listen(link, `${role}_close`, () => {
      // R22, R46: by itself rhea answers with closed=true, which deletes a durable subscription. Later is a leak.
      const { detach } = (link as unknown as { remote: { detach?: { closed?: boolean } } }).remote;
      if (detach?.closed) link.close();
      else link.detach();
      refused('the peer detached the link', peerErrorOf(link.error));
    });
    const attached = (): void => {
      clearTimeout(current.timer);
      current.since = performance.now();
      this.rhea = link;
      this.change(this.attachedState(link));
      this.attached(link);
    };
    this.listen(link, `${role}_open`, () => {
      // R21: a refused attach is answered too, but with no address, and then detached.
      this.later(() => {
        if (this.needsAddress === 'never' || this.addressOf(link)) return attached();
        if (this.needsAddress === 'always') return;
        clearTimeout(current.timer);
        current.timer = setTimeout(this.#guarded(attached), DETACH_GRACE);
      });
    });
  }

  #refused(connection: RheaConnection, text: string, peer?: PeerError): void {
    flush(connection);
    const { backoff, loginBackoff, containerId } = this.connection.options;
    const isStolen = peer?.condition === STOLEN;
    const why = isStolen ? `another client uses the client ID ${containerId} and this link` : text;
    const code = this.rhea ? 'AMQP_LINK_DETACHED' : 'AMQP_LINK_REFUSED';
    const error = new AmqpError(code, why, peer, null, isStolen ? { diagnosis: 'client-id' } : {});
    const isOrderly = this.rhea !== undefined && (!peer?.condition || peer.condition === IDLE_DETACH);
    const current = this.#current;
    this.#lose(error);
    if (current && !current.isShared) end(current.session);
    // Unless the peer has detached it, or ended the session, its name is still taken there.
    else if (current?.session.is_remote_open()) current.link?.detach();
    this.#failures++;
    // Two clients are not to take it from each other for ever.
    const pause = isStolen
      ? pauseAfter(this.#thefts++, { initial: loginBackoff.initial, max: LONGEST_TRUCE })
      : pauseAfter(this.#failures - 1, backoff);
    this.#retry = setTimeout(
      this.connection.guarded(() => this.#attach(connection)),
      pause,
    );
    if (!isOrderly || this.#failures > 1) return this.change({ name: 'refused', error });
    // Nothing is wrong unless it happens again at once.
    this.connection.emit('quiet', error);
    this.change({ name: 'connecting' });
  }

  #lose(error: AmqpError): void {
    if (!this.#current) return;
    const { timer, since, unlisten } = this.#current;
    this.#current = undefined;
    clearTimeout(timer);
    for (const off of unlisten) off();
    if (!this.rhea) return;
    this.rhea = undefined;
    if (performance.now() - since > STABLE_AFTER) this.#failures = 0;
    this.lost(error);
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
