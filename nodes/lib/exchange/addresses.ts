import { isPlainObject } from '../codec/notation';
import type { Connection } from '../connection/connection';
import { amqpError } from '../errors';
import { type Incoming, outgoing } from '../message/message';
import { linksOn } from './links';
import { Requester } from './requester';

/** Where Artemis is managed, by messages ("Management", 2.x: using management via core messages, over AMQP alike). */
const MANAGEMENT = 'activemq.management';
/** Addresses of Artemis itself, and those that it makes for the length of a connection. */
const INTERNAL = /^(activemq\.|\$)|^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i;

/**
 * The addresses that an Artemis has, sorted, without its own; as far as the login may manage it. Rejects with an AmqpError:
 * for another peer, and where there is no answer in `timeout` milliseconds.
 */
export async function addressesOf(connection: Connection, timeout: number): Promise<string[]> {
  if (!/artemis/i.test(connection.product.name ?? '')) throw amqpError('AMQP_BAD_INPUT.no-addresses');
  const requester = new Requester(linksOn(connection), {
    name: 'addresses',
    address: MANAGEMENT,
    replyTo: {},
    timeout,
    reconnect: 'fail',
    buffer: 1,
    bufferBytes: Infinity,
    styles: { fields: 'plain', body: 'plain' },
  });
  try {
    requester.open();
    const { fields, body } = await ask(requester);
    const { _AMQ_OperationSucceeded: isDone } = isPlainObject(fields['application_properties'])
      ? fields['application_properties']
      : {};
    const names = namesIn(body?.content);
    if (isDone !== true || !names) throw amqpError('AMQP_BAD_INPUT.no-addresses');
    return names.filter((name) => !INTERNAL.test(name)).toSorted((one, other) => (one < other ? -1 : 1));
  } finally {
    await requester.close(0);
  }
}

function ask(requester: Requester): Promise<Incoming> {
  const amqp = {
    application_properties: { _AMQ_ResourceName: 'broker', _AMQ_OperationName: 'getAddressNames' },
  };
  const message = outgoing({ payload: '[]', amqp }, { format: 'body', body: 'value' });
  return new Promise((resolve, reject) =>
    requester.request(message, undefined, {
      sent: () => {},
      reply: (incoming) => resolve(incoming),
      failed: reject,
    }),
  );
}

/** The result is the first element of a list, in JSON. */
function namesIn(text: unknown): string[] | undefined {
  try {
    const [names] = JSON.parse(String(text)) as unknown[];
    return Array.isArray(names) ? names.filter((name) => typeof name === 'string') : undefined;
  } catch {
    return undefined;
  }
}
