import type { Connection } from '../connection/connection';
import { bareOf, type Notation } from '../codec/notation';
import { amqpError, nameOf, type PeerError } from '../errors';
import type { Outcome } from '../wire/outcome';
import { type Answer, Management } from './management';

/** A message that the service gives in an answer, encoded. `lock` where it is to be settled. */
export interface Given {
  message: Buffer;
  lock?: Buffer;
}

/** A number that the service gives to each message of an entity: text where JavaScript has no such number. */
export type SequenceNumber = number | string;

const PREFIX = 'com.microsoft:';
/** What does the same when it is done twice. */
const REPEATABLE = new Set([
  'renew-lock',
  'renew-session-lock',
  'get-session-state',
  'set-session-state',
  'peek-message',
]);
/** The condition by which a message goes to the dead letters, with a reason that is read there. */
export const DEAD_LETTER = `${PREFIX}dead-letter`;

/** The operations of an entity of Azure Service Bus (Service Bus, "AMQP 1.0 request/response-based operations"). */
export class Entity {
  readonly #management: Management;

  constructor(connection: Connection, address: string) {
    this.#management = new Management(connection, `${address}/$management`);
  }

  close(): void {
    this.#management.close();
  }

  /** Resolves with the times at which the locks end now. */
  async renewLocks(tokens: Buffer[]): Promise<Date[]> {
    const { expirations } = await this.#ask('renew-lock', { 'lock-tokens': arrayOf('uuid', tokens) });
    return Array.isArray(expirations) ? (expirations as Date[]) : [];
  }

  /** Resolves with the time at which the session's lock ends now. */
  async renewSession(id: string): Promise<unknown> {
    return (await this.#ask('renew-session-lock', { 'session-id': id }))['expiration'];
  }

  async sessionState(id: string): Promise<Buffer | null> {
    const { 'session-state': state } = await this.#ask('get-session-state', { 'session-id': id });
    return Buffer.isBuffer(state) ? state : null;
  }

  async setSessionState(id: string, state: Buffer | null): Promise<void> {
    await this.#ask('set-session-state', { 'session-id': id, 'session-state': state });
  }

  /** Messages as they stand there, from a sequence number on, at most `count`. */
  async peek(from: SequenceNumber, count: number, session?: string): Promise<Given[]> {
    const answer = await this.#ask('peek-message', {
      'from-sequence-number': { $amqp: 'long', value: from },
      'message-count': { $amqp: 'int', value: count },
      ...sessionOf(session),
    });
    return givenIn(answer);
  }

  /** Takes deferred messages: held under a lock, or else for good. */
  async receiveDeferred(numbers: SequenceNumber[], isLocked: boolean, session?: string): Promise<Given[]> {
    const answer = await this.#ask('receive-by-sequence-number', {
      'sequence-numbers': arrayOf('long', numbers),
      'receiver-settle-mode': { $amqp: 'ubyte', value: isLocked ? 1 : 0 },
      ...sessionOf(session),
    });
    return givenIn(answer);
  }

  /** Settles a message by its lock alone. */
  async settle(lock: Buffer, outcome: Outcome, session?: string): Promise<void> {
    await this.#ask('update-disposition', {
      'lock-tokens': arrayOf('uuid', [lock]),
      ...dispositionOf(outcome),
      ...sessionOf(session),
    });
  }

  /** Has the service keep a message until the time that it is annotated with. Resolves with its sequence number. */
  async schedule(message: {
    bytes: Buffer;
    id: string;
    session?: string;
    partition?: string;
  }): Promise<SequenceNumber | undefined> {
    const { bytes, id, session, partition } = message;
    const answer = await this.#ask('schedule-message', {
      messages: [
        {
          'message-id': id,
          message: bytes,
          ...sessionOf(session),
          ...(partition !== undefined && { 'partition-key': partition }),
        },
      ],
    });
    const { 'sequence-numbers': numbers } = answer;
    return Array.isArray(numbers) ? (bareOf(numbers[0]) as SequenceNumber) : undefined;
  }

  async cancelScheduled(numbers: SequenceNumber[]): Promise<void> {
    await this.#ask('cancel-scheduled-message', { 'sequence-numbers': arrayOf('long', numbers) });
  }

  #ask(operation: string, body: Answer): Promise<Answer> {
    return this.#management.ask({ operation: PREFIX + operation }, body, REPEATABLE.has(operation));
  }
}

/** As the service is told why a message goes to the dead letters. What says so in its own words is left as it is. */
export function deadLetter({ condition, description, info }: PeerError): PeerError {
  if (condition === DEAD_LETTER) return { condition, description, info };
  // The error of a flow has no condition of its own.
  const reason = condition === 'amqp:internal-error' ? 'the flow failed' : condition;
  const told = { DeadLetterReason: reason, DeadLetterErrorDescription: description, ...(info as object) };
  return { condition: DEAD_LETTER, description, info: told };
}

/** Sequence numbers as a flow gives them: one or several, as numbers, as text, or as they stand in a message. */
export function sequenceNumbersOf(given: unknown, path: string): SequenceNumber[] {
  const all = (Array.isArray(given) ? given : [given]).map((one) => bareOf(one));
  if (all.length > 0 && all.every((one) => isSequenceNumber(one))) return all;
  throw amqpError('AMQP_BAD_INPUT.sequence', { path, given: nameOf(given) });
}

function isSequenceNumber(value: unknown): value is SequenceNumber {
  if (typeof value === 'number') return Number.isSafeInteger(value) && value >= 0;
  return typeof value === 'string' && /^\d{1,19}$/.test(value);
}

function arrayOf(of: 'uuid' | 'long', value: unknown[]): Notation {
  return { $amqp: 'array', of, value };
}

function sessionOf(id: string | undefined): object {
  return id === undefined ? {} : { 'session-id': id };
}

function givenIn({ messages }: Answer): Given[] {
  const all = Array.isArray(messages) ? (messages as Record<string, unknown>[]) : [];
  return all.flatMap(({ message, 'lock-token': lock }) =>
    Buffer.isBuffer(message)
      ? [{ message, ...(typeof lock === 'string' && { lock: Buffer.from(lock.replaceAll('-', ''), 'hex') }) }]
      : [],
  );
}

function dispositionOf(outcome: Outcome): object {
  switch (outcome.settle) {
    case 'accept':
      return { 'disposition-status': 'completed' };
    case 'release':
      return { 'disposition-status': 'abandoned' };
    case 'modify': {
      // So the service spells it.
      const status = outcome.undeliverableHere ? 'defered' : 'abandoned';
      return {
        'disposition-status': status,
        ...(outcome.annotations && { 'properties-to-modify': outcome.annotations }),
      };
    }
    default: {
      const { info } = outcome.error ? deadLetter(outcome.error) : {};
      const { DeadLetterReason: reason, DeadLetterErrorDescription: description } = (info ?? {}) as Answer;
      return {
        'disposition-status': 'suspended',
        ...(reason !== undefined && { 'deadletter-reason': reason }),
        ...(description !== undefined && { 'deadletter-description': description }),
      };
    }
  }
}
