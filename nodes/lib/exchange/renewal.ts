import type { Connection } from '../connection/connection';
import { LinkPair, PAIRED } from './link-pair';

/** Milliseconds to open the links, and for the answer. */
const TIMEOUT = 5000;

/**
 * Gives a RabbitMQ of 4.1 or later a new token for a connection that goes on: `PUT /auth/tokens` by its management
 * (RabbitMQ, "AMQP 1.0 management"; a pair of links of one name on one session). False: the peer is none such, or does
 * not answer. One that does not take the token says so by its close.
 */
export async function renewToken(connection: Connection, token: string): Promise<boolean> {
  const { name, version } = connection.product;
  if (name !== 'RabbitMQ' || !isAtLeast41(version)) return false;
  try {
    const pair = await LinkPair.open(connection, {
      address: '/management',
      own: '/management',
      names: ['management', 'management'],
      ...PAIRED,
      timeout: TIMEOUT,
    });
    try {
      const fields = { message_id: 'token', to: '/auth/tokens', subject: 'PUT', reply_to: '$me' };
      const { fields: answer } = await pair.ask(fields, Buffer.from(token));
      return answer.subject === '204';
    } finally {
      pair.close();
    }
  } catch {
    // A new connection renews it as well.
    return false;
  }
}

function isAtLeast41(version = ''): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > 4 || (major === 4 && minor >= 1);
}
