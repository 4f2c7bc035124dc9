// How the nodes are configured, and what kind of broker they meet: drawn once for a run.
import type { BrokerOptions } from '../../../broker/broker';
import type { Random } from './random';

export interface Variant {
  broker: BrokerOptions;
  sender: { store: 'none' | 'write'; guarantee: string; buffer: number; full: string; timeout: number };
  receiver: { onerror: string };
  requester: { reconnect: string; replyto: string; replyaddress: string };
  responder: { settle: string };
  /** Messages are done once they are on disk. */
  isStored: boolean;
  /** Connections that the links need. */
  connections: number;
  /** Their names, as the broker sees them. */
  links: string[];
}

export function drawVariant(random: Random): Variant {
  const anonymousRelay = random.chance(0.7);
  const store = random.pick(['none', 'none', 'write'] as const);
  const links = ['receiver', 'requester:reply', 'requester:request', 'responder:request', 'sender'];
  // Without a relay there is a link for each address that has been replied to.
  if (anonymousRelay) links.push('responder:reply');
  const isNarrow = anonymousRelay && random.chance(0.2);
  return {
    broker: {
      anonymousRelay,
      credit: random.pick([5, 100, 100]),
      ...(random.chance(0.3) && { maxFrameSize: 512 }),
      // Four sessions for each connection.
      ...(isNarrow && { channelMax: 3 }),
    },
    sender: {
      store,
      guarantee: store === 'none' && random.chance(0.3) ? 'at-most-once' : 'at-least-once',
      buffer: random.pick([10_000, 10_000, 300]),
      full: random.pick(['refuse', 'drop']),
      timeout: random.pick([0, 0, 3, 20]),
    },
    receiver: { onerror: random.pick(['modify', 'release']) },
    requester: {
      reconnect: random.pick(['resend', 'resend', 'fail']),
      replyto: random.pick(['dynamic', 'dynamic', 'fixed']),
      replyaddress: 'replies',
    },
    responder: { settle: random.pick(['reply', 'reply', 'arrival']) },
    isStored: store !== 'none',
    connections: isNarrow ? 2 : 1,
    links: links.toSorted(),
  };
}
