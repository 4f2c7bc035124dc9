import type { NodeMessage } from 'node-red';
import type { AmqpError } from '../lib/errors';
import type { Sent } from '../lib/link/entry';
import { fromCloudEvent } from '../lib/message/cloudevents';
import { type Format, type Incoming, type OutputOption, payloadOf, toMsg } from '../lib/message/message';
import type { DeliveryInfo } from '../lib/receiver/receiver';

type Received = NodeMessage & { topic?: string; amqp?: unknown; delivery: DeliveryInfo & { id?: string } };

/** The msg for a message that was received. A body that is not what it says stays as it is, and gives an error. */
export function received(
  incoming: Incoming,
  delivery: DeliveryInfo & { id?: string },
  { format, output }: { format: Format; output: OutputOption },
): { msg: Received; error?: AmqpError } {
  const topic = (incoming.fields.to as string | undefined) ?? delivery.address;
  try {
    const message = output === 'cloudevent' ? fromCloudEvent(incoming) : incoming;
    return { msg: { topic, ...toMsg(message, payloadOf(message, output), format), delivery } };
  } catch (error) {
    const raw = incoming.body?.content;
    return { msg: { topic, ...toMsg(incoming, raw, format), delivery }, error: error as AmqpError };
  }
}

/** `msg` with what became of it, in the dialect of the node. */
export function withSent<T extends object>(msg: T, sent: Sent, format: Format): T {
  const { state, tag, address } = sent;
  if (format === 'body') return Object.assign(msg, { sent });
  // The token stays, by which a receiver settles what it has received.
  const { id } = (msg as { delivery?: { id?: string } }).delivery ?? {};
  return Object.assign(msg, { sent, deliveryStatus: state, delivery: { ...(id && { id }), state, tag, address } });
}
