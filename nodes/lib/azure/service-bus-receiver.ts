import { randomBytes } from 'node:crypto';
import { bareOf } from '../codec/notation';
import { Allowance } from '../codec/decoder';
import type { Connection } from '../connection/connection';
import { amqpError } from '../errors';
import { type Expires, Expiring } from '../expiring';
import type { Settled } from '../link/receiver-link';
import type { AmqpFields } from '../message/fields';
import { decode } from '../message/message';
import { Pause } from '../pause';
import {
  type DeliveryInfo,
  infoOf,
  type Received,
  Receiver,
  type ReceiverOptions,
  type ReceiverUser,
} from '../receiver/receiver';
import { Receivers, share } from '../receiver/receivers';
import type { Outcome } from '../wire/outcome';
import { deadLetter, Entity, type Given, type SequenceNumber } from './entity';
import { Locks, lockTokenOf } from './locks';
import { Session } from './session';

/** Which sessions to receive from. */
export interface SessionOptions {
  /** By its id; null: the next free one. */
  id: string | null;
  /** How many at the same time. */
  count: number;
  /** Milliseconds without a message after which a session is given back, for the next one. */
  idleTime: number;
}

export interface ServiceBusReceiverOptions extends Omit<ReceiverOptions, 'isAnswered' | 'dynamic'> {
  address: string;
  sessions?: SessionOptions;
}

/** A deferred message that is held. */
interface Deferred extends Expires {
  lock: Buffer;
  session?: string;
}

/** Milliseconds for which a link waits for a session to become free before it asks again. */
const SESSION_WAIT = 60_000;
const RELEASE: Outcome = { settle: 'release' };

/**
 * Receives from a queue or subscription of Azure Service Bus, with its sessions where it has such. The locks of messages
 * are renewed while the flow has them, and what the service makes of each outcome is awaited.
 */
export class ServiceBusReceiver extends Receivers {
  readonly #options: ServiceBusReceiverOptions;
  readonly #user: ReceiverUser;
  readonly #entity: Entity;
  readonly #locks: Locks;
  readonly #sessions = new Map<Receiver, Session>();
  /** What was received by its sequence number, by the number that ends its token. */
  readonly #deferred: Expiring<Deferred>;
  readonly #prefix: string;
  #count = 0;
  readonly #left = new Pause();

  constructor(connection: Connection, options: ServiceBusReceiverOptions, user: ReceiverUser) {
    super();
    const { name, address, sessions, settleTimeout } = options;
    this.#options = options;
    this.#user = user;
    this.#entity = new Entity(connection, address);
    this.#locks = new Locks({
      renew: (tokens) => this.#entity.renewLocks(tokens),
      holds: (id) => this.holds(id),
    });
    this.#prefix = `${name}.${randomBytes(6).toString('hex')}.deferred.`;
    this.#deferred = new Expiring(
      settleTimeout,
      connection.guarded((one: Deferred) => this.#settleDeferred(one, RELEASE)),
    );
    const { count = 1, id, idleTime } = sessions ?? {};
    for (let index = 0; index < count; index++) {
      const received = ({ incoming, delivery }: Received): void => {
        const session = this.#sessions.get(receiver);
        session?.used();
        // The lock of a session is that of its messages.
        if (!session && delivery.id !== undefined) this.#hold(delivery.id, delivery.tag, incoming.fields);
        if (session?.id !== undefined) delivery.session = { id: session.id, state: session.state };
      };
      const receiver: Receiver = new Receiver(connection, this.#optionsOf(index), {
        ...user,
        message: (incoming, delivery) => {
          received({ incoming, delivery });
          user.message(incoming, delivery);
        },
        messages: (all) => {
          for (const one of all) received(one);
          user.messages?.(all);
        },
        attached: () => this.#sessions.get(receiver)?.attached(),
      });
      if (sessions) {
        const session = new Session(connection, receiver, this.#entity, id === null ? idleTime : undefined);
        this.#sessions.set(receiver, session);
      }
      this.add(receiver);
    }
  }

  /** Several share what was meant for one. */
  #optionsOf(index: number): ReceiverOptions {
    const { sessions, ...options } = this.#options;
    const count = sessions?.count ?? 1;
    // The flow is to be done with a message of a session before it gets the next, and with it the state that is stored.
    const isInTurn = sessions !== undefined && options.settle === 'flow' && options.creditWindow > 0;
    return {
      ...options,
      name: count > 1 ? `${options.name}:${index}` : options.name,
      creditWindow: isInTurn ? 1 : share(options.creditWindow, count),
      windowBytes: share(options.windowBytes, count),
      isAnswered: options.settle === 'flow',
      dynamic: false,
      ...(sessions && {
        source: { ...options.source, session: sessions.id },
        ...(sessions.id === null && {
          properties: { 'com.microsoft:timeout': { $amqp: 'uint', value: SESSION_WAIT } },
          patience: SESSION_WAIT,
        }),
      }),
    };
  }

  // Settling

  override holds(id: string): boolean {
    return this.#deferred.get(this.#numberOf(id)) !== undefined || super.holds(id);
  }

  override settle(id: string, outcome: Outcome, settled?: Settled): void {
    if (this.#takesDeferred(id, outcome, settled)) return;
    super.settle(id, told(outcome), settled);
    this.#locks.release(id);
  }

  override fail(id: string, outcome: Outcome, settled?: Settled): void {
    if (this.#takesDeferred(id, outcome, settled)) return;
    super.fail(id, told(outcome), settled);
  }

  #takesDeferred(id: string, outcome: Outcome, settled?: Settled): boolean {
    const deferred = this.#deferred.take(this.#numberOf(id));
    if (!deferred) return false;
    this.#locks.release(id);
    this.#settleDeferred(deferred, outcome, settled);
    return true;
  }

  /** Where nobody asks what came of it, a message that is not settled stays deferred. */
  #settleDeferred({ lock, session }: Deferred, outcome: Outcome, settled: Settled = () => {}): void {
    if (this.#deferred.size === 0) this.#left.end();
    this.#entity.settle(lock, outcome, session).then(() => settled(), settled);
  }

  /** What ends the token of a deferred message; NaN: it is none. */
  #numberOf(id: string): number {
    return id.startsWith(this.#prefix) ? Number(id.slice(this.#prefix.length)) : NaN;
  }

  #hold(id: string, tag: string, { message_annotations: annotations }: AmqpFields): void {
    const until = (annotations as Record<string, unknown> | undefined)?.['x-opt-locked-until'];
    const token = until === undefined ? undefined : lockTokenOf(tag);
    if (token) this.#locks.hold(id, token, timeOf(until));
  }

  // Sessions

  /** Stores the state of the session that a message came in, which the flow has. Rejects when it is not stored. */
  async storeState(id: string, state: Buffer | null): Promise<void> {
    const receiver = this.holderOf(id);
    if (!this.holds(id)) throw receiver.notHeld(id);
    const session = this.#sessions.get(receiver);
    if (!session) throw amqpError('AMQP_BAD_INPUT.no-session');
    await session.store(state);
  }

  get #session(): string | undefined {
    const { sessions } = this.#options;
    return sessions?.id ?? undefined;
  }

  // What is asked for by number

  /** Gives the flow messages without taking them, from a sequence number on. Resolves with how many. */
  async peek(from: SequenceNumber, count: number, session = this.#session): Promise<number> {
    const all = await this.#entity.peek(from, count, session);
    for (const one of all) this.#give(one, { peeked: true });
    return all.length;
  }

  /** Receives messages that were deferred. Resolves with how many. */
  async receive(numbers: SequenceNumber[], session = this.#session): Promise<number> {
    const { settle } = this.#options;
    const all = await this.#entity.receiveDeferred(numbers, settle !== 'pre-settled', session);
    for (const one of all) this.#take(one, session);
    return all.length;
  }

  #take(given: Given, session: string | undefined): void {
    const { lock } = given;
    if (!lock) return this.#give(given, {});
    const deferred: Deferred = { lock, session, deadline: 0 };
    if (this.#options.settle === 'arrival') {
      this.#give(given, {});
      return this.#settleDeferred(deferred, { settle: 'accept' });
    }
    const number = ++this.#count;
    const id = this.#prefix + number;
    this.#deferred.set(number, deferred);
    this.#locks.hold(id, lock, undefined);
    try {
      this.#give(given, { id });
    } catch (error) {
      this.#takesDeferred(id, RELEASE);
      throw error;
    }
  }

  #give({ message }: Given, more: Partial<DeliveryInfo>): void {
    const { styles, address } = this.#options;
    const incoming = decode(message, styles, new Allowance());
    this.#user.message(incoming, { ...infoOf(incoming, '', address), ...more });
  }

  // The end

  override stop(): void {
    for (const session of this.#sessions.values()) session.stop();
    super.stop();
  }

  override async leave(timeout: number): Promise<void> {
    const deferred = this.#deferred.size > 0 ? this.#left.wait(timeout) : undefined;
    await Promise.all([super.leave(timeout), deferred]);
  }

  override async close(): Promise<void> {
    this.stop();
    this.#left.end();
    // Their locks end by themselves.
    this.#deferred.clear();
    this.#locks.close();
    await super.close();
    this.#entity.close();
  }
}

function told(outcome: Outcome): Outcome {
  return outcome.settle === 'reject' && outcome.error
    ? { settle: 'reject', error: deadLetter(outcome.error) }
    : outcome;
}

/** In either of the styles in which fields are given. */
function timeOf(value: unknown): Date | undefined {
  const time = bareOf(value);
  if (time instanceof Date) return time;
  return typeof time === 'number' ? new Date(time) : undefined;
}
