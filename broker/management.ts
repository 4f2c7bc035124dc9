// The nodes by which brokers are managed: RabbitMQ's `/management` (HTTP over AMQP), and `$management` as Azure has it.
import rhea, { type Message } from 'rhea';
import { decode, inspect } from './bytes';

/** What a request may look at and change. */
export interface Managed {
  exists(queue: string): boolean;
  depth(queue: string): number;
  declare(queue: string): void;
  remove(queue: string): void;
}

const QUEUE = /^\/queues\/([^/]+)$/;

/** The response of RabbitMQ: its subject is a status of HTTP. */
export function rabbitResponse(request: Buffer, managed: Managed): Buffer {
  const { subject: method, to = '' }: Partial<Message> = decode(request) ?? {};
  const queue = QUEUE.exec(to)?.[1];
  if (queue === undefined) return responseTo(request, '404', 'no such path');
  if (method === 'PUT') {
    const status = managed.exists(queue) ? '200' : '201';
    managed.declare(queue);
    return responseTo(request, status, null);
  }
  if (!managed.exists(queue)) return responseTo(request, '404', `no queue ${queue}`);
  const content = { name: queue, message_count: managed.depth(queue) };
  if (method === 'GET') return responseTo(request, '200', content);
  if (method !== 'DELETE') return responseTo(request, '405', `no method ${String(method)}`);
  managed.remove(queue);
  return responseTo(request, '200', content);
}

/** The response of a service of Azure: its application properties have the status. */
export function azureResponse(request: Buffer, managed: Managed): Buffer {
  const { application_properties: { operation, name } = {} }: Partial<Message> = decode(request) ?? {};
  const queue = String(name);
  const [code, description, condition] =
    operation !== 'READ'
      ? [501, `no operation ${String(operation)}`, 'amqp:not-implemented']
      : managed.exists(queue)
        ? [200, 'OK']
        : [404, `no queue ${queue}`, 'amqp:not-found'];
  return rhea.message.encode({
    correlation_id: inspect(request).typedId,
    application_properties: {
      statusCode: rhea.types.wrap_int(code),
      statusDescription: description,
      ...(condition && { errorCondition: rhea.types.wrap_symbol(condition) }),
    },
    body: code === 200 ? { name: queue, message_count: managed.depth(queue) } : {},
  });
}

/** The response to a request, with a status of HTTP. */
export function responseTo(request: Buffer, status: string, body: unknown): Buffer {
  return rhea.message.encode({
    subject: status,
    correlation_id: inspect(request).typedId, // of the same type as the message-id
    application_properties: { 'http:response': '1.1' },
    body,
  });
}
