/** What the input of a receiver understands for Azure's services. */
import { sequenceNumbersOf } from '../lib/azure/entity';
import { EventHubReceiver } from '../lib/azure/event-hub-receiver';
import { ServiceBusReceiver } from '../lib/azure/service-bus-receiver';
import { bytesOf } from '../lib/codec/notation';
import { amqpError, nameOf } from '../lib/errors';

/** The parts of a msg that say more of an action. */
export interface Asked {
  count?: unknown;
  sequenceNumber?: unknown;
  sessionId?: unknown;
}

/** Messages that may be looked at in one go. */
const MOST_PEEKED = 250;

/** Does what the msg asks for. Resolves with what there is to tell; rejects with an AmqpError, also for an action that is none. */
export async function azureAction(receiver: unknown, action: unknown, msg: Asked): Promise<unknown> {
  switch (action) {
    case 'peek': {
      const [first] = sequenceNumbersOf(msg.sequenceNumber ?? 0, 'msg.sequenceNumber');
      return serviceBus(receiver, action).peek(first!, countOf(msg.count ?? 1), sessionIdOf(msg.sessionId));
    }
    case 'receive': {
      const numbers = sequenceNumbersOf(msg.sequenceNumber, 'msg.sequenceNumber');
      return serviceBus(receiver, action).receive(numbers, sessionIdOf(msg.sessionId));
    }
    case 'forget':
      return eventHub(receiver, action).forget();
    case 'info':
      return eventHub(receiver, action).info();
    default:
      throw amqpError('AMQP_BAD_INPUT.action', { given: nameOf(action) });
  }
}

/** The state of a session as it is stored. Null: none, as before the first one was. */
export function sessionStateOf(given: unknown): Buffer | null {
  if (given === null) return null;
  const bytes = typeof given === 'string' ? Buffer.from(given) : bytesOf(given);
  if (!bytes) throw amqpError('AMQP_BAD_INPUT.session-state');
  return bytes;
}

function serviceBus(receiver: unknown, action: string): ServiceBusReceiver {
  if (receiver instanceof ServiceBusReceiver) return receiver;
  throw amqpError('AMQP_BAD_INPUT.service-bus', { given: action });
}

function eventHub(receiver: unknown, action: string): EventHubReceiver {
  if (receiver instanceof EventHubReceiver) return receiver;
  throw amqpError('AMQP_BAD_INPUT.event-hubs', { given: action });
}

function countOf(count: unknown): number {
  const number = Number(count);
  if (Number.isInteger(number) && number >= 1 && number <= MOST_PEEKED) return number;
  throw amqpError('AMQP_BAD_INPUT.count', { most: MOST_PEEKED, given: nameOf(count) });
}

/** Undefined: that of the node, where it has one. */
function sessionIdOf(given: unknown): string | undefined {
  if (given === undefined || typeof given === 'string') return given;
  throw amqpError('AMQP_BAD_INPUT.session-id', { given: nameOf(given) });
}
