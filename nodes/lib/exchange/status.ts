import { bareOf, isNotation, isPlainObject } from '../codec/notation';
import type { PeerError } from '../errors';
import type { AmqpFields } from '../message/fields';

/** What a reply says of its request, in the words of HTTP: condition and description are the service's own. */
export interface ReplyStatus extends PeerError {
  code: number;
}

/** The application property by which RabbitMQ marks a reply whose subject is the status. */
const HTTP_RESPONSE = 'http:response';

/**
 * The status of a reply, by the names that services give it: `statusCode` or `status-code` (AMQP Management, Azure), the
 * subject beside `http:response` (HTTP over AMQP, RabbitMQ). Undefined: it tells of none.
 */
export function statusOf({ application_properties: given, subject }: AmqpFields): ReplyStatus | undefined {
  const properties = propertiesOf(given);
  const first = (...names: string[]): unknown => bareOf(names.map((name) => properties[name]).find(isThere));
  const code = first('statusCode', 'status-code') ?? (isThere(properties[HTTP_RESPONSE]) ? subject : undefined);
  if (!isThere(code) || !Number.isInteger(Number(code))) return undefined;
  const condition = first('errorCondition', 'error-condition');
  const description = first('statusDescription', 'status-description');
  return {
    code: Number(code),
    ...(typeof condition === 'string' && { condition }),
    ...(typeof description === 'string' && { description }),
  };
}

function isThere(value: unknown): boolean {
  return value !== undefined && value !== null;
}

/** In either of the styles in which a map is given. */
function propertiesOf(given: unknown): Record<string, unknown> {
  if (isNotation(given) && Array.isArray(given.value)) return Object.fromEntries(given.value as [string, unknown][]);
  return isPlainObject(given) ? given : {};
}
