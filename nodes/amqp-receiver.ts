import type { Node, NodeAPI, NodeDef, NodeMessage } from 'node-red';
import { endpointOf } from './amqp-endpoint';
import { ending, errorOf } from './flow/give';
import { isOwnError } from './flow/own-error';
import { Settings } from './flow/settings';
import { fromCloudEvent } from './lib/message/cloudevents';
import { AmqpError, nameOf, type PeerError } from './lib/errors';
import {
  type Format,
  type Incoming,
  type OutputOption,
  OUTPUTS,
  payloadOf,
  stylesOf,
  toMsg,
} from './lib/message/message';
import { isPlainObject } from './lib/codec/notation';
import { type DeliveryInfo, type Outcome, Receiver, type ReceiverOptions, type Settle } from './lib/receiver/receiver';
import type { AddressKind, SourceOptions } from './lib/link/source';

interface ReceiverDef extends NodeDef {
  endpoint: string;
  address?: string;
  dynamic?: boolean;
  /** Missing in flows of node-red-contrib-rhea, and so are output, settle, onerror and settletimeout. */
  format?: Format;
  output?: OutputOption;
  kind?: '' | AddressKind;
  selector?: string;
  browse?: boolean;
  /** What the server confirms is believed. */
  trust?: boolean;
  /** Kept by the peer while there is no link, shared by several receivers, or both. */
  subscription?: '' | 'durable' | 'shared' | 'shared-durable';
  /** Blank: the id of the node. */
  subscriptionname?: string;
  settle?: Settle;
  onerror?: Outcome['settle'];
  creditwindow?: number | string;
  windowbytes?: number | string;
  settletimeout?: number | string;
  autoaccept?: boolean;
  sndsettlemode?: number | string;
  durable?: number | string;
  expirypolicy?: string;
}

/** What the input of a receiver understands. */
type Input = NodeMessage & {
  delivery?: { id?: unknown };
  settle?: unknown;
  error?: PeerError & { message?: string };
  annotations?: Record<string, unknown>;
  undeliverable_here?: boolean;
  credit?: unknown;
  action?: unknown;
};

type Received = NodeMessage & { topic?: string; amqp?: unknown; delivery: DeliveryInfo & { id?: string } };

/** The msg for a message that was received. A body that is not what it says stays as it is, and gives an error. */
export function received(
  incoming: Incoming,
  delivery: DeliveryInfo & { id?: string },
  { format, output }: { format: Format; output: OutputOption },
): { msg: Received; error?: AmqpError } {
  const topic = (incoming.fields.to as string | undefined) ?? delivery.address;
  try {
    const message = output === 'cloudevent' ? fromCloudEvent(incoming) : incoming;
    return { msg: { topic, ...toMsg(message, payloadOf(message, output), format), delivery } };
  } catch (error) {
    const raw = incoming.body?.content;
    return { msg: { topic, ...toMsg(incoming, raw, format), delivery }, error: error as AmqpError };
  }
}

const LOG = '@amqp10/node-red-amqp10/amqp-endpoint:amqp-endpoint.log.';

export default function init(RED: NodeAPI): void {
  function ReceiverNode(this: Node, config: ReceiverDef): void {
    RED.nodes.createNode(this, config);
    const endpoint = endpointOf(RED, this, config.endpoint);
    if (!endpoint) return;

    const settings = new Settings(RED, this, config, 'amqp-receiver');
    const format = settings.choice<Format>('format', ['message', 'body']);
    const output = settings.choice<OutputOption>('output', OUTPUTS);
    // Modified as failed, a message is counted by the server, and goes to its dead letters in the end.
    const isOld = config.format === undefined;
    const onerror = settings.choice<Outcome['settle']>(
      'onerror',
      isOld ? ['release', 'modify', 'reject', 'accept'] : ['modify', 'release', 'reject', 'accept'],
    );
    const settle = settleOf(settings, config);
    const subscription = subscriptionOf(settings);
    const options: ReceiverOptions = {
      name: linkNameOf(this.id, settings, subscription),
      address: settings.text('address'),
      dynamic: settings.flag('dynamic', false),
      source: sourceOptionsOf(settings, subscription, config),
      settle,
      creditWindow: settings.number('creditwindow'),
      windowBytes: settings.megabytes('windowbytes'),
      settleTimeout: settings.milliseconds('settletimeout'),
      styles: stylesOf(format, output),
    };
    if (!settings.check()) return;
    const receiver = new Receiver(endpoint.connection, options, {
      message: (incoming, delivery, id) => {
        const { msg, error } = received(incoming, delivery, { format, output });
        if (!error) return this.send(settle === 'flow' ? { ...msg, delivery: { id, ...delivery } } : msg);
        if (settle === 'flow') receiver.fail(id, outcomeOf(onerror, { error }));
        this.error(error, msg);
      },
      undelivered: (error, delivery) => {
        this.error(error, { topic: delivery.address, delivery });
        return outcomeOf(onerror, { error });
      },
      undecodable: (error, delivery) => this.error(error, { topic: delivery.address, delivery }),
    });
    if (subscription === 'durable' && !endpoint.isNamed)
      this.log(RED._(`${LOG}durable`, { id: endpoint.connection.options.containerId }));

    this.on('input', (msg, _send, done) => {
      const end = ending(this, done);
      take(msg as Input).then(
        () => end(),
        (error) => end(errorOf(error)),
      );
    });

    const take = async (msg: Input): Promise<void> => {
      const { delivery, credit, action } = msg;
      if (isOwnError(this, msg)) return fail(msg);
      const id = tokenOf(delivery);
      if (id !== undefined) {
        const holder = endpoint.holderOf(this, receiver, id);
        if (msg.error && msg.settle === undefined) holder.fail(id, outcomeOf(onerror, msg));
        else holder.settle(id, outcomeOf(msg.settle ?? 'accept', msg));
      }
      if (credit !== undefined) receiver.grant(creditOf(credit));
      // A msg that was received may well have an action of its own, for other nodes.
      if (action !== undefined && !delivery) return act(action, msg.topic);
      if (!delivery && credit === undefined) {
        throw new AmqpError('AMQP_BAD_INPUT', 'the msg has nothing for a receiver: no delivery, credit or action');
      }
    };

    /** What could not be settled as asked has failed, if it is still there. */
    const fail = ({ delivery, error }: Input): void => {
      if (typeof delivery?.id !== 'string') return;
      const holder = endpoint.holderOf(this, receiver, delivery.id);
      if (holder.holds(delivery.id)) holder.fail(delivery.id, outcomeOf(onerror, { error }));
    };

    const act = async (action: unknown, topic: unknown): Promise<void> => {
      switch (action) {
        case 'pause':
          return receiver.pause();
        case 'resume':
          return receiver.resume();
        case 'drain':
          return receiver.drain();
        case 'unsubscribe':
          return receiver.unsubscribe();
        case 'subscribe':
          // Needed when the endpoint does not connect by itself.
          if (await receiver.subscribe(typeof topic === 'string' && topic !== '' ? topic : undefined))
            endpoint.connection.open();
          return;
        default:
          throw new AmqpError(
            'AMQP_BAD_INPUT',
            `msg.action is not one of pause, resume, drain, subscribe, unsubscribe: ${nameOf(action)}`,
          );
      }
    };

    endpoint.register(this, receiver);
  }

  RED.nodes.registerType('amqp-receiver', ReceiverNode);
}

/** In flows of node-red-contrib-rhea other properties say it. */
function settleOf(settings: Settings, { autoaccept, sndsettlemode }: ReceiverDef): Settle {
  if (Number(sndsettlemode) === 1) return settings.choice('settle', ['pre-settled', 'arrival', 'flow']);
  if (autoaccept === false) return settings.choice('settle', ['flow', 'arrival', 'pre-settled']);
  return settings.choice('settle', ['arrival', 'flow', 'pre-settled']);
}

type Subscription = '' | 'durable' | 'shared' | 'shared-durable';

/** A dynamic address is there for its link only. */
function subscriptionOf(settings: Settings): Subscription {
  const subscription = settings.choice<Subscription>('subscription', ['', 'durable', 'shared', 'shared-durable']);
  return settings.flag('dynamic', false) ? '' : subscription;
}

/** A shared subscription has a link of each receiver, told apart by what follows the bar, as JMS clients do it. */
function linkNameOf(id: string, settings: Settings, subscription: Subscription): string {
  const name = (subscription && settings.text('subscriptionname')) || id;
  return subscription.startsWith('shared') ? `${name}|${id}` : name;
}

function sourceOptionsOf(settings: Settings, subscription: Subscription, config: ReceiverDef): SourceOptions {
  return {
    kind: settings.choice<'' | AddressKind>('kind', ['', 'queue', 'topic']) || undefined,
    selector: config.selector || undefined,
    browse: settings.flag('browse', false) && !subscription,
    shared: subscription.startsWith('shared'),
    trust: settings.flag('trust', false),
    // 2: it keeps what is not settled, too (3.5.5).
    ...(subscription.endsWith('durable') ? { durable: 2, expiry_policy: 'never' } : legacySource(config)),
  };
}

/** In flows of node-red-contrib-rhea, until they are edited. */
function legacySource({ subscription, durable, expirypolicy }: ReceiverDef): SourceOptions {
  if (subscription !== undefined) return {};
  return {
    ...(Number(durable) > 0 && { durable: Number(durable) }),
    ...(expirypolicy && { expiry_policy: expirypolicy }),
  };
}

/** The token of a message that is to be settled. What was accepted on arrival has none. */
function tokenOf(delivery: unknown): string | undefined {
  if (delivery === undefined || delivery === null) return undefined;
  const { id } = isPlainObject(delivery) ? delivery : { id: null };
  if (id === undefined || typeof id === 'string') return id;
  throw new AmqpError('AMQP_DELIVERY_UNKNOWN', 'msg.delivery is not that of a message which this node has received');
}

function creditOf(credit: unknown): number {
  const number = typeof credit === 'string' && credit !== '' ? Number(credit) : credit;
  if (typeof number === 'number' && Number.isInteger(number) && number > 0) return number;
  throw new AmqpError('AMQP_BAD_INPUT', `msg.credit is not a whole number above 0: ${nameOf(credit)}`);
}

function outcomeOf(
  settle: unknown,
  { error, annotations, undeliverable_here: undeliverableHere }: Partial<Input>,
): Outcome {
  switch (settle) {
    case 'accept':
    case 'release':
      return { settle };
    case 'modify':
      return { settle, undeliverableHere: undeliverableHere === true, annotations };
    case 'reject': {
      if (!error) return { settle };
      const { condition = 'amqp:internal-error', description = error.message, info } = error;
      return { settle, error: { condition, description, info } };
    }
    default:
      throw new AmqpError(
        'AMQP_BAD_INPUT',
        `msg.settle is not one of accept, reject, release, modify: ${nameOf(settle)}`,
      );
  }
}
