import rhea from 'rhea';
import should from 'should';
import { encodeBatch, sizeInBatch } from '../../../../nodes/lib/message/batch';
import { BATCH_FORMAT, encode, messagesIn } from '../../../../nodes/lib/message/message';

function encoded(payload: unknown, fields: object = {}): Buffer {
  return encode({
    fields: { ...fields },
    payload,
    payloadPath: 'msg.payload',
    fieldsPath: 'msg.amqp',
    body: 'auto',
    isReceived: false,
  });
}

describe('several messages as one', () => {
  const messages = [
    encoded('a', {
      durable: true,
      message_id: 'm',
      group_id: 's',
      content_type: 'text/plain',
      application_properties: { n: 1 },
      message_annotations: { 'x-opt-partition-key': 'k' },
    }),
    encoded({ degrees: 21 }),
    encoded(Buffer.alloc(70_000, 'x')),
  ] as [Buffer, ...Buffer[]];

  it('are those again, byte by byte', () => {
    const parts = messagesIn(encodeBatch(messages), BATCH_FORMAT);
    should(parts.map((part, index) => part.equals(messages[index]!))).deepEqual([true, true, true]);
  });

  it('have what the first says of where they go, and what is of each alone only in each', () => {
    const batch = rhea.message.decode(encodeBatch(messages)) as unknown as Record<string, unknown>;
    should(batch).match({
      durable: true,
      message_id: 'm',
      group_id: 's',
      message_annotations: { 'x-opt-partition-key': 'k' },
    });
    for (const name of ['application_properties', 'content_type']) should(batch[name]).equal(undefined, name);
  });

  it('take no more than each was counted for', () => {
    const size = messages.reduce((sum, one, index) => sum + sizeInBatch(one, index === 0), 0);
    should(encodeBatch(messages).length).be.belowOrEqual(size);
  });
});
