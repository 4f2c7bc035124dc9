import type { Connection } from '../connection/connection';
import { amqpError } from '../errors';
import type { Receiver } from '../receiver/receiver';
import type { Entity } from './entity';
import { pauseUntil } from './locks';

/** Milliseconds until another session is asked for where the state of the last one could not be had. */
const RETRY = 5000;

/**
 * The sessions of Azure Service Bus that one receiver has, one after the other: it keeps the lock of each for as long as
 * messages come, then gives it back and takes the next.
 */
export class Session {
  /** What was stored for the session that it has. */
  state: Buffer | null = null;
  readonly #connection: Connection;
  readonly #receiver: Receiver;
  readonly #entity: Entity;
  /** Milliseconds without a message after which it is given back; undefined: never. */
  readonly #idleTime: number | undefined;
  #idle: NodeJS.Timeout | undefined;
  #renewal: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor(connection: Connection, receiver: Receiver, entity: Entity, idleTime: number | undefined) {
    this.#connection = connection;
    this.#receiver = receiver;
    this.#entity = entity;
    this.#idleTime = idleTime;
  }

  get id(): string | undefined {
    return this.#receiver.session;
  }

  /** To be called once there is a link: reads what was stored, before any message comes. */
  async attached(): Promise<void> {
    const { id } = this;
    if (id === undefined) return;
    try {
      this.state = await this.#entity.sessionState(id);
      if (this.id !== id || this.#isStopped) return;
      this.used();
      this.#renewIn(0, id);
    } catch (error) {
      // Without its state a session would be taken for a new one. A link that is gone says so itself.
      if (this.id !== id || this.#isStopped) return;
      this.#connection.emit('fault', error);
      await this.#next(RETRY);
    }
  }

  /** To be called for each message. */
  used(): void {
    if (this.#idleTime === undefined) return;
    clearTimeout(this.#idle);
    this.#idle = setTimeout(
      this.#connection.guarded(() => this.#rest()),
      this.#idleTime,
    );
  }

  async store(state: Buffer | null): Promise<void> {
    const { id } = this;
    if (id === undefined) throw amqpError('AMQP_LOCK_LOST.session');
    await this.#entity.setSessionState(id, state);
    if (this.id === id) this.state = state;
  }

  stop(): void {
    this.#isStopped = true;
    this.#clear();
  }

  #clear(): void {
    clearTimeout(this.#idle);
    clearTimeout(this.#renewal);
  }

  #rest(): void {
    if (this.id === undefined) return;
    if (this.#receiver.unsettled > 0 || this.#receiver.state.name !== 'connected') return this.used();
    void this.#next(0);
  }

  async #next(pause: number): Promise<void> {
    this.#clear();
    await this.#receiver.close();
    if (this.#isStopped) return;
    this.#idle = setTimeout(
      this.#connection.guarded(() => this.#receiver.open()),
      pause,
    );
  }

  #renewIn(pause: number, id: string): void {
    clearTimeout(this.#renewal);
    this.#renewal = setTimeout(
      this.#connection.guarded(() => void this.#renew(id)),
      pause,
    );
  }

  async #renew(id: string): Promise<void> {
    let end: unknown;
    try {
      end = await this.#entity.renewSession(id);
    } catch {
      // When the lock is lost, the service detaches the link, which says so; all else may go better the next time.
    }
    if (this.id === id && !this.#isStopped) this.#renewIn(pauseUntil(end), id);
  }
}
