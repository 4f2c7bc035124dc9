import type { Node, NodeAPI, NodeMessageInFlow } from 'node-red';
import { AmqpError } from '../lib/errors';
import type { Outgoing } from '../lib/message/message';
import type { AddressDef } from './options';
import type { Settings } from './settings';

/** Where messages go: always to one address, or to the one that each gives. */
export interface Addressing {
  fixed?: string;
  /** Calls `send` with the address of the msg (without one when it is fixed), in the order in which messages came. */
  resolve(msg: NodeMessageInFlow, message: Outgoing, send: (to?: string) => void, fail: (error: Error) => void): void;
}

/** The address that the node's typed input gives; where that is empty, each msg gives its own. */
export function addressing(RED: NodeAPI, node: Node, settings: Settings, config: AddressDef): Addressing {
  const addressType = settings.choice('addressType', ['str', 'msg', 'flow', 'global', 'env', 'jsonata']);
  const isDynamic = settings.flag('dynamic', false);
  // Of another type it is an expression, in which `${…}` is not ours.
  const address = (addressType === 'str' ? settings.text('address') : config.address) ?? '';
  if (isDynamic) return { resolve: (_msg, _message, send) => send() };
  if (address === '') {
    return {
      resolve(msg, { fields, fieldsPath }, send, fail) {
        const [name, to] = fields.to === undefined ? ['msg.topic', msg.topic] : [`${fieldsPath}.to`, fields.to];
        const isMissing = to === undefined || to === null || to === '';
        if (!isMissing && typeof to !== 'string') return fail(notText(name, to));
        fields.to = isMissing ? undefined : to;
        send(fields.to as string | undefined);
      },
    };
  }
  if (addressType === 'str') return { fixed: address, resolve: (_msg, _message, send) => send() };

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
    resolve(msg, { fields }, send, fail) {
      const to = evaluate(msg);
      previous = Promise.allSettled([previous, to])
        .then(() => to)
        .then((value) => {
          fields.to = value;
          send(value);
        })
        // JSONata throws objects that are no errors.
        .catch((error: Error) => fail(error instanceof Error ? error : addressError((error as Error).message)));
    },
  };
}

function notText(name: string, value: unknown): AmqpError {
  return new AmqpError('AMQP_NO_ADDRESS', `${name} is not text: it is of type ${typeof value}`);
}

function addressError(text: string): AmqpError {
  return new AmqpError('AMQP_NO_ADDRESS', `the address cannot be found out: ${text}`);
}
