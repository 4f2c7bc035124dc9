// What Event Hubs alone refuses.
import { Refusal } from '../azure/refusals';

/** A receiver, as the service tells of it. */
interface Named {
  receiver: string;
  epoch?: number;
}

export const badFilter = (expression: unknown) =>
  new Refusal('amqp:invalid-field', `The filter '${String(expression)}' does not name a position.`);
export const badPartition = (count: number) =>
  new Refusal(
    'com.microsoft:argument-out-of-range',
    `The specified partition is invalid for an EventHub partition sender or receiver. It should be between 0 and ${count - 1}.`,
  );
export const beyondTheEnd = (what: 'offset' | 'sequence number', given: string, last: unknown) =>
  new Refusal(
    'com.microsoft:argument-error',
    `The supplied ${what} '${given}' is invalid. The last ${what} in the system is '${String(last)}'`,
  );
export const epochRequired = (epoch: number) =>
  stolen(
    `At least one receiver for the endpoint is created with epoch of '${epoch}', and so non-epoch receiver is not allowed. ` +
      'Either reconnect with a higher epoch, or make sure all epoch receivers are closed or disconnected.',
  );
export const epochTooLow = (higher: Named, lower: Named) =>
  stolen(
    `Receiver '${higher.receiver}' with a higher epoch '${higher.epoch}' already exists. ` +
      `Receiver '${lower.receiver}' with epoch ${lower.epoch} cannot be created. Make sure you are creating receiver with ` +
      'increasing epoch value to ensure connectivity, or ensure all old epoch receivers are closed or disconnected.',
  );
export const stolenBy = (thief: Named, { receiver, epoch = -1 }: Named) =>
  stolen(
    `New receiver '${thief.receiver}' with higher epoch of '${thief.epoch}' is created hence current receiver ` +
      `'${receiver}' with epoch '${epoch}' is getting disconnected. If you are recreating the receiver, make sure a higher ` +
      'epoch is used.',
  );
export const tooManyReceivers = (names: string[]) =>
  new Refusal(
    'amqp:resource-limit-exceeded',
    `Exceeded the maximum number of allowed receivers per partition in a consumer group which is ${names.length}. ` +
      `List of connected receivers - ${names.join(', ')}.`,
  );

const stolen = (description: string) => new Refusal('amqp:link:stolen', description);
