import type { NodeMessage } from 'node-red';
import { isPlainObject } from '../lib/codec/notation';
import { type AmqpError, cleaned, messageOf } from '../lib/errors';
import type { Sent } from '../lib/link/entry';
import { fromCloudEvent } from '../lib/message/cloudevents';
import { type OutputOption, payloadOf } from '../lib/message/body';
import { type Format, type Incoming, toMsg } from '../lib/message/message';
import { randomId } from '../lib/random-id';
import type { DeliveryInfo } from '../lib/receiver/receiver';
import { traceOf } from './trace-context';

type Received = NodeMessage & { topic?: string; amqp?: unknown; delivery: DeliveryInfo };
/** The status of an error that is not the requester's, in the words of HTTP. */
const SERVER_ERROR = 500;

type Mapping = { format: Format; output: OutputOption; carriesTrace?: boolean };

/** What a flow gets of a message that was received. A body that is not what it says stays as it is, and gives an error. */
export function received(
  incoming: Incoming,
  delivery: DeliveryInfo,
  { format, output, carriesTrace }: Mapping,
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
  if (carriesTrace) Object.assign(msg, traceOf(incoming.fields));
  return { msg, error };
}

/** As `received`, for a msg that begins here. Node-RED makes an id for one without, which takes longer than all of this. */
export function newMsg(
  incoming: Incoming,
  delivery: DeliveryInfo,
  mapping: Mapping,
): { msg: Received; error?: AmqpError } {
  const made = received(incoming, delivery, mapping);
  made.msg._msgid = randomId();
  return made;
}

/** Several msgs as one: the payload is a list of them, and `delivery` settles them all. */
export function togetherMsg(msgs: Received[]): NodeMessage {
  const ids = msgs.flatMap(({ delivery: { id } }) => id ?? []);
  const { address } = msgs[0]!.delivery;
  return {
    _msgid: randomId(),
    topic: address,
    payload: msgs.map(({ _msgid, ...msg }) => msg),
    delivery: { ...(ids.length > 0 && { id: ids }), address, count: msgs.length },
  };
}

/** `msg` with what became of it, in the dialect of the node. */
export function withSent<T extends object>(msg: T, sent: Sent, format: Format): T {
  const { state, tag, address } = sent;
  if (format === 'body') return Object.assign(msg, { sent });
  // The token stays, by which a receiver settles what it has received.
  const { id } = (msg as { delivery?: { id?: string } }).delivery ?? {};
  return Object.assign(msg, { sent, deliveryStatus: state, delivery: { ...(id && { id }), state, tag, address } });
}

/**
 * What a requester gets of an error of the flow, by the names that AMQP Management and Azure have for it: requesters that
 * look at the status (`AMQP_REPLY_STATUS`) fail over it.
 */
export function errorReply(error: unknown, format: Format): object {
  const { message, condition, code } = isPlainObject(error) ? error : { message: error };
  const text = cleaned(messageOf({ message: message ?? 'the flow has failed' }));
  const name = [condition, code].find((one) => typeof one === 'string' && one !== '');
  const fields = {
    application_properties: {
      statusCode: SERVER_ERROR,
      statusDescription: text,
      errorCondition: name ?? 'amqp:internal-error',
    },
  };
  return format === 'body' ? { payload: text, amqp: fields } : { payload: { ...fields, body: text } };
}
