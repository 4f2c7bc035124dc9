// What can be asked of an entity over its `$management` node.
import rhea from 'rhea';
import type { Answer } from '../azure/answers';
import type { Right } from '../azure/authorization';
import { tokenOf, uuidOf } from '../azure/locks';
import { Message } from '../azure/messages';
import { Refusal } from '../azure/refusals';
import type { Entity, Entry, Outcome } from './entity';

const { types } = rhea;
const TIMESTAMP = 0x83;
const LONG = 0x81;

export interface Request {
  'lock-tokens': Buffer[];
  'sequence-numbers': number[];
  'from-sequence-number': number;
  'message-count': number;
  'session-id'?: string;
  'session-state': Buffer | null;
  'receiver-settle-mode': number;
  'disposition-status': string;
  'deadletter-reason'?: string;
  'deadletter-description'?: string;
  'properties-to-modify'?: object;
  messages: { message: Buffer }[];
  skip?: number;
  top?: number;
}

interface Operation {
  right: Right;
  run(entity: Entity, request: Request): Answer;
}

/** By their names, without `com.microsoft:`. */
const OPERATIONS: Record<string, Operation> = {
  'renew-lock': {
    right: 'Listen',
    run: (entity, request) => {
      const times = request['lock-tokens'].map((token) => entity.renewLock(tokenOf(token)));
      return { expirations: types.wrap_array(times, TIMESTAMP, undefined) };
    },
  },
  'peek-message': {
    right: 'Listen',
    run: (entity, request) => {
      const { 'from-sequence-number': from, 'message-count': count, 'session-id': sessionId } = request;
      const messages = entity.peek(from, count, sessionId ?? undefined);
      if (messages.length === 0) return undefined;
      return { messages: messages.map((entry) => ({ message: entity.encode(entry) })) };
    },
  },
  'schedule-message': {
    right: 'Send',
    run: (entity, { messages }) => {
      const numbers = messages.map(({ message }) => entity.add(Message.decode(message)));
      return { 'sequence-numbers': types.wrap_array(numbers, LONG, undefined) };
    },
  },
  'cancel-scheduled-message': {
    right: 'Send',
    run: (entity, request) => {
      entity.cancelScheduled(request['sequence-numbers']);
      return {};
    },
  },
  'receive-by-sequence-number': {
    right: 'Listen',
    run: (entity, request) => {
      const { 'sequence-numbers': numbers, 'receiver-settle-mode': mode, 'session-id': sessionId } = request;
      const entries = entity.receiveDeferred(numbers, { peekLock: mode === 1, sessionId: sessionId ?? undefined });
      return { messages: entries.map((entry) => withLockToken(entity, entry)) };
    },
  },
  'update-disposition': {
    right: 'Listen',
    run: (entity, request) => {
      for (const token of request['lock-tokens']) entity.settle(tokenOf(token), outcomeIn(request));
      return {};
    },
  },
  'renew-session-lock': {
    right: 'Listen',
    run: (entity, request) => ({ expiration: types.wrap_timestamp(entity.renewSession(sessionIn(request))) }),
  },
  'get-session-state': {
    right: 'Listen',
    run: (entity, request) => ({ 'session-state': entity.sessionState(sessionIn(request)) }),
  },
  'set-session-state': {
    right: 'Listen',
    run: (entity, request) => {
      entity.setSessionState(sessionIn(request), request['session-state'] ?? null);
      return {};
    },
  },
  'get-message-sessions': {
    right: 'Listen',
    run: (entity, { skip = 0, top = Infinity }) => {
      const ids = entity.sessionIds().slice(skip, skip + top);
      return ids.length > 0 ? { skip: types.wrap_int(skip + ids.length), 'sessions-ids': ids } : undefined;
    },
  },
};

/** The operation of this name, with the right that it takes. */
export function operationOf(name: string): Operation {
  const operation = OPERATIONS[name.replace(/^com\.microsoft:/, '')];
  if (!operation) throw new Refusal('amqp:not-implemented', `There is no operation ${name}.`, 501);
  return operation;
}

function withLockToken(entity: Entity, entry: Entry): object {
  const token = entry.lock && { 'lock-token': types.wrap_uuid(uuidOf(entry.lock.token)) };
  return { message: entity.encode(entry), ...token };
}

function sessionIn({ 'session-id': id }: Request): string {
  if (typeof id === 'string') return id;
  throw new Refusal('amqp:invalid-field', 'The request names no session.');
}

function outcomeIn(request: Request): Outcome {
  const changes = request['properties-to-modify'];
  switch (request['disposition-status']) {
    case 'completed':
      return { name: 'complete' };
    case 'abandoned':
      return { name: 'abandon', changes };
    // so it is spelt
    case 'defered':
      return { name: 'defer', changes };
    case 'suspended': {
      const { 'deadletter-reason': reason, 'deadletter-description': description } = request;
      return { name: 'dead-letter', reason, description, changes };
    }
    default:
      throw new Refusal('amqp:invalid-field', `There is no disposition ${request['disposition-status']}.`);
  }
}
