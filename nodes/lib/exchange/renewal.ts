import { once } from 'node:events';
import type { Connection } from '../connection/connection';
import { decode, encode } from '../message/message';
import type { LinkEnd } from '../wire/link-end';
import type { Session } from '../wire/session';

const ADDRESS = '/management';
/** Milliseconds for all of it. */
const TIMEOUT = 5000;

/**
 * Gives a RabbitMQ of 4.1 or later a new token for a connection that goes on: `PUT /auth/tokens` by its management
 * (RabbitMQ, "AMQP 1.0 management"; a pair of links of one name on one session). False: the peer is none such, or does
 * not take the token.
 */
export async function renewToken(connection: Connection, token: string): Promise<boolean> {
  const { wire, product } = connection;
  if (!wire || product.name !== 'RabbitMQ' || !isAtLeast41(product.version)) return false;
  const session = connection.beginSession(wire)?.session;
  if (!session) return false;
  const over = new AbortController();
  const abort = (): void => over.abort();
  const timer = setTimeout(abort, TIMEOUT);
  session.once('end', abort);
  connection.once('state', abort);
  try {
    return await put(session, token, over);
  } catch {
    // The session, the connection or the time is over. A new connection renews it as well.
    return false;
  } finally {
    clearTimeout(timer);
    connection.off('state', abort);
    session.off('end', abort);
    if (connection.wire === wire) session.end();
  }
}

async function put(session: Session, token: string, over: AbortController): Promise<boolean> {
  const { signal } = over;
  const options = {
    source: { address: ADDRESS },
    target: { address: ADDRESS },
    snd_settle_mode: 1,
    rcv_settle_mode: 0,
    properties: { paired: true },
  };
  // R23: of two that attach at the same time rhea would forget the first.
  const replies = session.attachReceiver('management', options);
  await opened(replies, over);
  const answered = new Promise<string | undefined>((resolve, reject) => {
    signal.addEventListener('abort', () => reject(new Error('no answer')), { once: true });
    const message = ({ bytes }: { bytes: Buffer }): void => {
      const { subject } = decode(bytes, { fields: 'plain', body: 'plain' }).fields;
      resolve(typeof subject === 'string' ? subject : undefined);
    };
    replies.user = { message, drained: () => {} };
  });
  answered.catch(() => {});
  replies.setCredit(1);
  // Only now: the server ends the session at a request that comes before the credit for its reply.
  const requests = session.attachSender('management', options);
  await opened(requests, over);
  await new Promise<void>((resolve, reject) => {
    signal.addEventListener('abort', () => reject(new Error('no credit')), { once: true });
    requests.user = { ready: resolve, draining: () => {}, written: () => {}, settled: () => {} };
    if (requests.isReady) resolve();
  });
  const fields = { message_id: 'token', to: '/auth/tokens', subject: 'PUT', reply_to: '$me' };
  requests.send({ id: 0 }, requestOf(fields, token), true);
  return (await answered) === '204';
}

function requestOf(fields: Record<string, unknown>, token: string): Buffer {
  const payload = Buffer.from(token);
  return encode({ fields, payload, payloadPath: 'token', fieldsPath: 'token', body: 'value', isReceived: false });
}

/** From then on the loss of the link ends it all. */
async function opened(end: LinkEnd, over: AbortController): Promise<void> {
  end.once('close', () => over.abort());
  await once(end, 'open', { signal: over.signal });
}

function isAtLeast41(version = ''): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > 4 || (major === 4 && minor >= 1);
}
