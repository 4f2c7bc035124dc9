import type { Node } from 'node-red';
import { AmqpError, amqpError, flowError, messageOf, nameOf } from '../lib/errors';

/**
 * Gives a msg to the flow. Node-RED copies it for each wire but the first, and throws for one that is nested too deeply:
 * that is the error which comes back then.
 */
export function give(send: () => void): AmqpError | undefined {
  try {
    send();
    return undefined;
  } catch (cause) {
    return flowError(cause);
  }
}

/** What was thrown as an error with a code: a msg may have getters, and these may throw anything. */
export function errorOf(thrown: unknown): AmqpError {
  if (thrown instanceof AmqpError) return thrown;
  return amqpError('AMQP_BAD_MESSAGE.unreadable', { text: messageOf(thrown) }, { cause: thrown });
}

/**
 * Ends a msg of the flow. Complete and Catch nodes get copies too: when that fails, the error is told without the msg,
 * since nobody would catch what is thrown where an outcome is told.
 */
export function endMsg(node: Node, done: (error?: Error) => void, error?: Error): void {
  const failure = give(() => done(error));
  if (failure) node.error(failure.message);
}

/** Ends a msg once what it has asked for is done. */
export function endAfter(node: Node, doing: Promise<unknown>, done: (error?: Error) => void): void {
  doing.then(
    () => endMsg(node, done),
    (error: unknown) => endMsg(node, done, errorOf(error)),
  );
}

/**
 * What a msg asks of a node that sends, one of `actions`: with a payload it is a message, whatever else it has. Throws
 * AMQP_BAD_INPUT for any other text: nobody means to send an empty message by that.
 */
export function actionOf<A extends string>(msg: object, ...actions: A[]): A | 'connect' | 'disconnect' | undefined {
  const { action } = msg as { action?: unknown };
  if ('payload' in msg || typeof action !== 'string') return undefined;
  const all = ['connect', 'disconnect', ...actions] as const;
  const known = all.find((one) => one === action);
  if (known === undefined) throw amqpError('AMQP_BAD_INPUT.asked', { actions: all.join(', '), given: nameOf(action) });
  return known;
}
