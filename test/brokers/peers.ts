// Each peer that the nodes are tested with, and all that it does otherwise than others. Tests have no ifs for peers.
import { activemq } from './activemq';
import { artemis } from './artemis';
import { brokerJ } from './broker-j';
import type { BrokerKind } from './broker';
import * as words from './features';
import type { FeatureName, RefusalName } from './features';
import { protonBroker } from './proton-broker';
import { rabbitmq3, rabbitmq40, rabbitmq43 } from './rabbitmq';

/** Properties of a node: its address, and what the peer wants beside it. */
export type Address = { address: string; kind?: 'queue' | 'topic' };

export interface Peer {
  name: string;
  kind: BrokerKind;
  login: { user?: string; pass?: string };
  /** A virtual host that is not there. */
  hostname?: string;
  queue(name: string): Address;
  /** Where to send what all subscribers of a topic get. */
  topic(name: string): Address;
  /** Where one of its subscribers receives. */
  subscriber(topic: string, who: string): Address;
  /** What does not simply work, and how it differs. Undefined: nobody has described it yet. */
  differs?: Partial<Record<FeatureName, string>>;
  /** Whether it refuses, and in what words. */
  refuses?: Partial<Record<RefusalName, RegExp | string>>;
  /** What comes of two clients with the same client ID, and of subscriptions in particular. Undefined: nobody has described it yet. */
  twins?: { links: string; subscriptions?: string };
  /** What it does not have, so that there is nothing to try. */
  lacks?: readonly (FeatureName | RefusalName)[];
}

const guest = { user: 'guest', pass: 'guest' };
const rabbitmq4 = {
  login: guest,
  hostname: 'vhost:nowhere',
  queue: (name: string) => ({ address: `/queues/${name}` }),
  topic: (name: string) => ({ address: `/exchanges/amq.topic/${name}` }),
  subscriber: (name: string, who: string) => ({ address: `/queues/${name}.${who}` }),
};

const known: Peer[] = [
  {
    name: 'RabbitMQ 3.10',
    kind: rabbitmq3,
    login: guest,
    hostname: 'vhost:nowhere',
    queue: (name) => ({ address: `/amq/queue/${name}` }),
    topic: (name) => ({ address: `/topic/${name}` }),
    subscriber: (name) => ({ address: `/topic/${name}` }),
    differs: {
      modify: words.MARKED,
      undeliverable: words.AGAIN,
      relay: words.NONE,
      request: words.NONE,
      'request-capability': words.NONE,
      durable: words.TOLD,
      shared: words.TOLD,
      'shared-durable': words.TOLD,
      selector: words.TOLD,
      browse: words.TOLD,
      delay: words.IGNORED,
      volatile: words.LOST,
    },
    twins: { links: words.SIDE_BY_SIDE },
    refuses: {
      source: /amqp:not-found: NOT_FOUND - no queue 'nowhere' in vhost '\/'/,
      target: 'taken',
      // Permission is asked for the exchange, and this is the default one.
      unroutable: 'taken',
      write: 'taken',
      read: /amqp:unauthorized-access: ACCESS_REFUSED - access to queue 'forbidden' .* refused for user 'limited'/,
      password: /amqp:unauthorized-access/,
      vhost: /amqp:unauthorized-access: Access for user 'guest' was refused/,
      // It gives no outcome at all.
      full: /AMQP_IN_DOUBT/,
      size: 'taken',
      duplicate: words.TOLD,
    },
  },
  {
    name: 'RabbitMQ 4.0',
    kind: rabbitmq40,
    ...rabbitmq4,
    differs: {
      modify: words.MARKED,
      request: words.NONE,
      'request-capability': words.NONE,
      durable: words.KEPT,
      selector: words.TOLD,
      browse: words.TOLD,
      delay: words.IGNORED,
      volatile: words.SURVIVED,
    },
    twins: { links: words.SIDE_BY_SIDE },
    refuses: {
      source: /amqp:not-found: no queue 'nowhere' in vhost '\/'/,
      target: /AMQP_TIMEOUT amqp:not-found no queue 'elsewhere' in vhost '\/'/,
      unroutable: /AMQP_RELEASED/,
      write: 'taken',
      read: /amqp:unauthorized-access: read access to queue 'forbidden' .* refused for user 'limited'/,
      password: /amqp:unauthorized-access/,
      // It says nothing, and drops the connection.
      vhost: /ECONNRESET|the peer is gone/,
      full: /rejected: AMQP_REJECTED/,
      size: /AMQP_TOO_LARGE/,
      duplicate: 'taken',
    },
  },
  {
    name: 'RabbitMQ 4.3',
    kind: rabbitmq43,
    ...rabbitmq4,
    differs: {
      request: words.NONE,
      durable: words.KEPT,
      shared: words.TOLD,
      'shared-durable': words.TOLD,
      selector: words.TOLD,
      browse: words.TOLD,
      delay: words.IGNORED,
      volatile: words.LOST,
    },
    twins: { links: words.SIDE_BY_SIDE },
    refuses: {
      source: /amqp:not-found: no queue 'nowhere' in vhost '\/'/,
      target: /AMQP_TIMEOUT amqp:not-found no queue 'elsewhere' in vhost '\/'/,
      unroutable: /AMQP_RELEASED/,
      write: 'taken',
      read: /amqp:unauthorized-access: read access to queue 'forbidden' .* refused for user 'limited'/,
      password: /amqp:unauthorized-access/,
      vhost: /ECONNRESET|the peer is gone/,
      full: /AMQP_REJECTED amqp:resource-limit-exceeded queue 'full' exceeded maximum length/,
      size: /AMQP_TOO_LARGE/,
      duplicate: 'taken',
    },
  },
  {
    name: 'ActiveMQ Artemis',
    kind: artemis,
    login: guest,
    queue: (address) => ({ address, kind: 'queue' }),
    topic: (address) => ({ address, kind: 'topic' }),
    subscriber: (address) => ({ address, kind: 'topic' }),
    differs: {
      release: words.UNMARKED,
      undeliverable: words.ELSEWHERE,
      volatile: words.LOST,
    },
    twins: { links: words.SIDE_BY_SIDE, subscriptions: words.SECOND_REFUSED },
    refuses: {
      source: 'taken',
      target: 'taken',
      unroutable: 'taken',
      write:
        /AMQP_TIMEOUT amqp:unauthorized-access .* User: limited does not have permission='SEND' on address forbidden/,
      read: /amqp:unauthorized-access: .* User: limited does not have permission='CONSUME' for queue forbidden/,
      password: /amqp:unauthorized-access/,
      vhost: 'taken',
      full: /AMQP_REJECTED amqp:resource-limit-exceeded AMQ229102: Address "full" is full/,
      size: 'taken',
      duplicate: /amqp:internal-error: .*Maximum Consumer Limit Reached on Queue.*nodered_\w+_broker\.twice/,
    },
  },
  {
    name: 'ActiveMQ Classic',
    kind: activemq,
    login: guest,
    queue: (name) => ({ address: `queue://${name}` }),
    topic: (name) => ({ address: `topic://${name}` }),
    subscriber: (name) => ({ address: `topic://${name}` }),
    differs: {
      release: words.UNMARKED,
      shared: words.TOLD,
      'shared-durable': words.TOLD,
      delay: words.IGNORED,
      volatile: words.LOST,
    },
    twins: { links: words.TURNED_AWAY },
    refuses: {
      source: 'taken',
      target: 'taken',
      unroutable: 'taken',
      write: /AMQP_TIMEOUT amqp:unauthorized-access User limited is not authorized to write to: queue:\/\/forbidden/,
      read: /amqp:unauthorized-access: User limited is not authorized to read from: queue:\/\/forbidden/,
      password: /amqp:unauthorized-access/,
      vhost: 'taken',
      full: /AMQP_REJECTED amqp:resource-limit-exceeded Usage Manager Memory Limit reached on queue:\/\/full/,
      size: 'taken',
      duplicate:
        /amqp:internal-error: Durable consumer is in use for client: nodered_\w+_broker and subscriptionName: twice/,
    },
  },
  {
    name: 'Qpid Broker-J',
    kind: brokerJ,
    login: guest,
    queue: (address) => ({ address }),
    topic: (name) => ({ address: `amq.topic/${name}` }),
    subscriber: (name) => ({ address: `amq.topic/${name}` }),
    differs: {
      release: words.UNMARKED,
      reject: words.COUNTED,
      undeliverable: words.ELSEWHERE,
      delay: words.REJECTED,
      anonymous: words.REFUSED,
      volatile: words.LOST,
    },
    twins: { links: words.TAKEN_OVER },
    refuses: {
      source: /amqp:not-found: Could not find destination for source 'Source\{address=nowhere/,
      target: /AMQP_TIMEOUT amqp:not-found Could not find destination for target 'Target\{address=elsewhere/,
      // The link goes with the message on its way.
      unroutable: /AMQP_REJECTED amqp:not-found Unknown destination 'astray'/,
      write: /AMQP_IN_DOUBT amqp:not-allowed Permission PERFORM_ACTION\(publish\) is denied for : Queue 'forbidden'/,
      read: /amqp:unauthorized-access: Permission CREATE is denied for : Consumer .* on Queue 'forbidden'/,
      password: /amqp:unauthorized-access/,
      vhost: /amqp:not-found: Unknown hostname in connection open: 'nowhere'/,
      full: /AMQP_REJECTED amqp:resource-limit-exceeded Maximum depth exceeded on 'full'/,
      size: 'taken',
      duplicate: /amqp:link:stolen: Link is being stolen by connection/,
    },
  },
  {
    name: 'Proton example broker',
    kind: protonBroker,
    login: {},
    queue: (address) => ({ address }),
    topic: (address) => ({ address }),
    subscriber: (address) => ({ address }),
    differs: {
      relay: words.NONE,
      selector: words.UNTOLD,
      browse: words.UNTOLD,
      ttl: words.IGNORED,
      delay: words.IGNORED,
    },
    twins: { links: words.SIDE_BY_SIDE },
    refuses: { source: 'taken', target: 'taken', unroutable: 'taken', size: 'taken' },
    lacks: [
      // What is not accepted is forgotten.
      'release',
      'modify',
      'lost',
      'topic',
      'durable',
      'shared',
      'shared-durable',
      'reject',
      'undeliverable',
      'certificate',
      'disconnect',
      'restart',
      'kept',
      'volatile',
      'replied',
      'kill',
      'write',
      'read',
      'password',
      'vhost',
      'full',
      'duplicate',
    ],
  },
];

const plain = (address: string): Address => ({ address });

/** What cannot be tried without being the administrator: some needs a queue with dead letters, and its depth. */
const ADMINISTRATION = [
  'reject',
  'undeliverable',
  'certificate',
  'lost',
  'disconnect',
  'restart',
  'kept',
  'volatile',
  'replied',
  'kill',
  'write',
  'read',
  'full',
] as const;

/**
 * The peer at AMQP_TEST_PEER (amqp://user:password@host:port), with its queues made and empty where it does not make them on
 * demand. AMQP_TEST_KIND names one that is described here and does as it does; without, names are addresses, and what the
 * peer does is printed.
 */
function given(url: string): Peer {
  const { hostname: host, port, username, password } = new URL(url);
  const name = process.env['AMQP_TEST_KIND'];
  const kind = known.find((peer) => peer.name === name);
  if (name && !kind) throw new Error(`AMQP_TEST_KIND is none of ${known.map((peer) => peer.name).join(', ')}`);
  return {
    queue: plain,
    topic: plain,
    subscriber: plain,
    ...kind,
    name: `${name ?? 'the peer'} at ${host}`,
    kind: {
      prepare: async () => {},
      start: async () => ({ version: name ?? host, host, port: Number(port || 5672), stop: async () => {} }),
    },
    login: username ? { user: decodeURIComponent(username), pass: decodeURIComponent(password) } : {},
    lacks: [...(kind?.lacks ?? []), ...ADMINISTRATION],
  };
}

/** One that is described here. */
export function peerNamed(name: string): Peer {
  const peer = known.find((one) => one.name === name);
  if (!peer) throw new Error(`there is no peer ${name}`);
  return peer;
}

const url = process.env['AMQP_TEST_PEER'];
export const peers = url ? [given(url)] : known;
