/** Several messages as one (Azure Service Bus and Event Hubs): each in a data section of its own. Pure. */
import { decode, encode } from './message';

/** Bytes of a data section beside its content: descriptor, type, and length. */
const HEAD = 8;
/** What there is only of each message by itself. */
const OF_EACH = ['application_properties', 'delivery_annotations', 'footer', 'content_type', 'content_encoding'];

/** The messages as one. Header, annotations and properties of the first are those of the batch, by which it is routed. */
export function encodeBatch(messages: readonly [Buffer, ...Buffer[]]): Buffer {
  const [first, ...rest] = messages;
  const { fields } = decode(first, { fields: 'exact', body: 'exact' });
  for (const name of OF_EACH) delete fields[name];
  const head = encode({
    fields: { ...fields, body_type: 'data' },
    payload: first,
    payloadPath: 'msg.payload',
    fieldsPath: 'msg.amqp',
    body: 'auto',
    isReceived: false,
  });
  return Buffer.concat([head, ...rest.flatMap((bytes) => [sectionHead(bytes.length), bytes])]);
}

/** Bytes that a message takes in a batch, at most: the first one stands for its sections too. */
export function sizeInBatch({ length }: Buffer, isFirst: boolean): number {
  return HEAD + (isFirst ? 2 * length : length);
}

function sectionHead(length: number): Buffer {
  const head = Buffer.from([0x00, 0x53, 0x75, 0xb0, 0, 0, 0, 0]);
  head.writeUInt32BE(length, 4);
  return head;
}
