import type { Node, NodeAPI, NodeMessageInFlow } from 'node-red';
import { AmqpError, amqpError, messageOf } from '../lib/errors';
import type { Outgoing } from '../lib/message/message';
import type { AddressDef } from './options';
import type { Settings } from './settings';

/** Where messages go: always to one address, or to the one that each gives. */
export interface Addressing {
  fixed?: string;
  /**
   * The address of the msg; undefined when it is fixed, or there is none. Promises are kept in the order in which they
   * were made, so that messages keep theirs. Throws, or rejects with, AMQP_NO_ADDRESS for what is no address.
   */
  of(msg: NodeMessageInFlow, message: Outgoing): string | undefined | Promise<string | undefined>;
}

/** The address that the node's typed input gives; where that is empty, each msg gives its own. */
export function addressing(RED: NodeAPI, node: Node, settings: Settings, config: AddressDef): Addressing {
  const addressType = settings.choice('addressType', ['str', 'msg', 'flow', 'global', 'env', 'jsonata']);
  const isDynamic = settings.flag('dynamic', false);
  // Of another type it is an expression, in which `${…}` is not ours.
  const address = (addressType === 'str' ? settings.text('address') : config.address) ?? '';
  if (isDynamic) return { of: () => undefined };
  if (address === '') {
    return {
      of(msg, { fields, fieldsPath }) {
        const [name, to] = fields.to === undefined ? ['msg.topic', msg.topic] : [`${fieldsPath}.to`, fields.to];
        const given = to === null || to === '' ? undefined : to;
        if (given !== undefined && typeof given !== 'string') throw notText(name, given);
        fields.to = given;
        return given;
      },
    };
  }
  if (addressType === 'str') return { fixed: address, of: () => undefined };

  const evaluate = (msg: NodeMessageInFlow): Promise<string | undefined> =>
    new Promise<string | undefined>((resolve, reject) => {
      // Some types throw, some call back at once, JSONata and some context stores later.
      RED.util.evaluateNodeProperty(address, addressType, node, msg, (error, value: unknown) => {
        if (error) reject(error);
        else if (value === undefined || value === null || value === '') resolve(undefined);
        else if (typeof value === 'string') resolve(value);
        else reject(notText(`the address ${addressType} ${address}`, value));
      });
    });
  let previous: Promise<unknown> = Promise.resolve();
  return {
    of(msg, { fields }) {
      const to = evaluate(msg);
      const inOrder = Promise.allSettled([previous, to]).then(() => to);
      previous = inOrder;
      return inOrder.then(
        (value) => (fields.to = value),
        (error: unknown) => {
          // JSONata throws objects that are no errors.
          if (error instanceof AmqpError) throw error;
          throw amqpError('AMQP_NO_ADDRESS.unknown', { text: messageOf(error) }, { cause: error });
        },
      );
    },
  };
}

function notText(name: string, value: unknown): AmqpError {
  return amqpError('AMQP_NO_ADDRESS.text', { name, type: typeof value });
}
