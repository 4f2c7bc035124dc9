import { randomBytes } from 'node:crypto';
import type { NodeMessage } from 'node-red';
import type { AmqpError } from '../lib/errors';
import type { Sent } from '../lib/link/entry';
import { fromCloudEvent } from '../lib/message/cloudevents';
import { type Format, type Incoming, type OutputOption, payloadOf, toMsg } from '../lib/message/message';
import type { DeliveryInfo } from '../lib/receiver/receiver';

type Received = NodeMessage & { topic?: string; amqp?: unknown; delivery: DeliveryInfo };
type Mapping = { format: Format; output: OutputOption };

/** What a flow gets of a message that was received. A body that is not what it says stays as it is, and gives an error. */
export function received(
  incoming: Incoming,
  delivery: DeliveryInfo,
  { format, output }: Mapping,
): { msg: Received; error?: AmqpError } {
  const topic = (incoming.fields.to as string | undefined) ?? delivery.address;
  let message = incoming;
  let content: unknown = incoming.body?.content;
  let error: AmqpError | undefined;
  try {
    if (output === 'cloudevent') message = fromCloudEvent(incoming);
    content = payloadOf(message, output);
  } catch (cause) {
    message = incoming;
    error = cause as AmqpError;
  }
  const { payload, amqp } = toMsg(message, content, format);
  const msg: Received = amqp ? { topic, payload, amqp, delivery } : { topic, payload, delivery };
  return { msg, error };
}

/** As `received`, for a msg that begins here. */
export function newMsg(
  incoming: Incoming,
  delivery: DeliveryInfo,
  mapping: Mapping,
): { msg: Received; error?: AmqpError } {
  const made = received(incoming, delivery, mapping);
  made.msg._msgid = newId();
  return made;
}

let begin = '';
let next = 0;
const IDS = 2 ** 24;

/**
 * An id as Node-RED's own, which is unique by chance too. It would make one for a msg that has none, at the cost of all
 * that is done here with a small message.
 */
function newId(): string {
  next = (next + 1) % IDS;
  if (begin === '' || next === 0) begin = randomBytes(5).toString('hex');
  return begin + (IDS + next).toString(16).slice(1);
}

/** `msg` with what became of it, in the dialect of the node. */
export function withSent<T extends object>(msg: T, sent: Sent, format: Format): T {
  const { state, tag, address } = sent;
  if (format === 'body') return Object.assign(msg, { sent });
  // The token stays, by which a receiver settles what it has received.
  const { id } = (msg as { delivery?: { id?: string } }).delivery ?? {};
  return Object.assign(msg, { sent, deliveryStatus: state, delivery: { ...(id && { id }), state, tag, address } });
}
