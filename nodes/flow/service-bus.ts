import type { NodeMessage } from 'node-red';
import type { Member } from '../lib/azure/batches';
import { sequenceNumbersOf } from '../lib/azure/entity';
import type { Schedule } from '../lib/azure/schedule';
import { bareOf, isPlainObject } from '../lib/codec/notation';
import { amqpError, nameOf } from '../lib/errors';
import type { Sent } from '../lib/link/entry';
import { encode, type Outgoing, withMessageId } from '../lib/message/message';
import type { Service } from './endpoint';

const PARTITION_KEY = 'x-opt-partition-key';
const TIME = 'x-opt-scheduled-enqueue-time';

/** What a sender of Azure Service Bus understands beyond messages. */
export type Scheduling = NodeMessage & {
  action?: unknown;
  scheduledEnqueueTime?: unknown;
  sequenceNumber?: unknown;
};

/**
 * Whether a msg schedules a message, or takes one back that was. Throws AMQP_BAD_INPUT for one that means to where that
 * cannot be: the message would be sent at once.
 */
export function isScheduling({ action, scheduledEnqueueTime }: Scheduling, service?: Service): boolean {
  const isAsked = action === 'schedule' || action === 'cancel';
  if (isAsked && service === 'servicebus') return true;
  if (isAsked && scheduledEnqueueTime !== undefined) throw amqpError('AMQP_BAD_INPUT.schedule');
  return false;
}

/** Does what the msg asks for at the address. Rejects with an AmqpError. */
export async function scheduled(
  schedule: Schedule,
  msg: Scheduling,
  message: Outgoing,
  address: string | undefined,
): Promise<Sent> {
  if (address === undefined) throw amqpError('AMQP_NO_ADDRESS.message');
  if (msg.action === 'cancel') {
    await schedule.cancel(address, sequenceNumbersOf(msg.sequenceNumber, 'msg.sequenceNumber'));
    return { address, state: 'cancelled' };
  }
  const { fields } = message;
  const annotations = annotationsOf(fields.message_annotations);
  const value = timeOf(msg.scheduledEnqueueTime);
  fields.message_annotations = { ...annotations, [TIME]: { $amqp: 'timestamp', value } };
  withMessageId(message);
  const { message_id: id, group_id: session } = fields;
  const partition = annotations[PARTITION_KEY];
  const sequenceNumber = await schedule.put(address, {
    bytes: encode(message),
    id: String(bareOf(id)),
    ...(typeof session === 'string' && { session }),
    ...(typeof partition === 'string' && { partition }),
  });
  return { address, state: 'scheduled', sequenceNumber };
}

/** What messages must have in common to be sent as one: their session, or their partition. */
export function batchKey({ fields }: Outgoing): string {
  return JSON.stringify([fields.group_id, annotationsOf(fields.message_annotations)[PARTITION_KEY]]);
}

/** A message for each element of the payload. An id that was given is that of none of them, so each gets its place behind it. */
export function eachOf(message: Outgoing): Outgoing[] {
  const { fields, payload, payloadPath } = message;
  if (!Array.isArray(payload)) return [message];
  const { message_id: given } = fields;
  const id = bareOf(given) as string | number | undefined | null;
  return payload.map((one: unknown, index) => ({
    ...message,
    fields: { ...fields, message_id: id === undefined || id === null ? undefined : `${id}-${index}` },
    payload: one,
    payloadPath: `${payloadPath}[${index}]`,
  }));
}

/** The parts of one msg: it ends with the last of them, and fails with the first that does. */
export function parts(whole: Omit<Member, 'bytes'>, messages: Buffer[]): Member[] {
  let [open, unstored] = [messages.length, messages.length];
  let failure: Parameters<Member['done']> | undefined;
  return messages.map((bytes) => ({
    bytes,
    done: (error, sent) => {
      if (error) failure ??= [error, sent];
      if (--open === 0) whole.done(...(failure ?? [undefined, sent]));
    },
    ...(whole.stored && {
      stored: () => {
        if (--unstored === 0) whole.stored!();
      },
    }),
  }));
}

function annotationsOf(given: unknown): Record<string, unknown> {
  const annotations = bareOf(given);
  if (annotations === undefined || annotations === null) return {};
  if (isPlainObject(annotations)) return annotations;
  throw amqpError('AMQP_BAD_MESSAGE.object', { path: 'msg.amqp.message_annotations' });
}

/** Milliseconds since 1970, of a date, such a number, or text as ISO 8601 has it. */
function timeOf(given: unknown): number {
  const isTime = typeof given === 'number' || typeof given === 'string' || given instanceof Date;
  const time = isTime ? new Date(given).getTime() : NaN;
  if (Number.isNaN(time)) throw amqpError('AMQP_BAD_INPUT.time', { given: nameOf(given) });
  return time;
}
