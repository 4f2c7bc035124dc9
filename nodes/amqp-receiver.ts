import type { Node, NodeAPI, NodeMessage } from 'node-red';
import { eventHubOptions, serviceBusOptions } from './flow/azure';
import { type Asked, azureAction, sessionStateOf } from './flow/azure-actions';
import { endpointOf } from './flow/endpoint';
import { endMsg, errorOf } from './flow/give';
import { newMsg } from './flow/msg';
import { mappingOf, onErrorOf, type ReceiverDef, receiverOptions, subscriptionOf } from './flow/options';
import { isOwnError } from './flow/own-error';
import { Settings } from './flow/settings';
import { EventHubReceiver } from './lib/azure/event-hub-receiver';
import { ServiceBusReceiver } from './lib/azure/service-bus-receiver';
import { isPlainObject } from './lib/codec/notation';
import { amqpError, nameOf, type PeerError } from './lib/errors';
import { Receiver, type ReceiverUser } from './lib/receiver/receiver';
import type { Receivers } from './lib/receiver/receivers';
import type { Outcome } from './lib/wire/outcome';

/** What the input of a receiver understands. */
type Input = NodeMessage &
  Asked & {
    delivery?: { id?: unknown };
    settle?: unknown;
    error?: PeerError & { message?: string };
    annotations?: Record<string, unknown>;
    undeliverable_here?: boolean;
    credit?: unknown;
    action?: unknown;
    sessionState?: unknown;
  };

const LOG = '@amqp10/node-red-amqp10/amqp-endpoint:amqp-endpoint.log.';

export default function init(RED: NodeAPI): void {
  function ReceiverNode(this: Node, config: ReceiverDef): void {
    RED.nodes.createNode(this, config);
    const endpoint = endpointOf(RED, this, config.endpoint);
    if (!endpoint) return;

    const settings = new Settings(RED, this, config, 'amqp-receiver');
    const mapping = mappingOf(settings);
    const onerror = onErrorOf(settings, config);
    const options = receiverOptions(settings, config, mapping);
    const { connection, service } = endpoint;
    const serviceBus = service === 'servicebus' ? serviceBusOptions(settings, options) : undefined;
    const eventHub = service === 'eventhubs' ? eventHubOptions(this, settings, options) : undefined;
    if (!settings.check()) return;
    const user: ReceiverUser = {
      message: (incoming, delivery) => {
        const { msg, error } = newMsg(incoming, delivery, mapping);
        if (!error) return this.send(msg);
        if (delivery.id !== undefined) receiver.fail(delivery.id, outcomeOf(onerror, { error }));
        this.error(error, msg);
      },
      undelivered: (error, delivery) => {
        this.error(error, { topic: delivery.address, delivery });
        return outcomeOf(onerror, { error });
      },
      undecodable: (error, delivery) => this.error(error, { topic: delivery.address, delivery }),
    };
    const receiver: Receiver | Receivers = serviceBus
      ? new ServiceBusReceiver(connection, serviceBus, user)
      : eventHub
        ? new EventHubReceiver(connection, eventHub, user)
        : new Receiver(connection, options, user);
    const isAnswered = serviceBus !== undefined || options.isAnswered;
    if (subscriptionOf(settings) === 'durable' && !endpoint.isNamed && !service)
      this.log(RED._(`${LOG}durable`, { id: connection.options.containerId }));

    this.on('input', (msg, _send, done) => {
      const end = (error?: Error): void => endMsg(this, done, error);
      const failed = (error: unknown): void => end(errorOf(error));
      try {
        const acting = take(msg);
        if (acting) acting.then(() => end(), failed);
        else end();
      } catch (error) {
        failed(error);
      }
    });

    /** Settles at once. What takes longer is over with the promise. */
    const take = (msg: Input): Promise<void> | undefined => {
      const { delivery, credit, action } = msg;
      if (isOwnError(this, msg)) {
        fail(msg);
        return undefined;
      }
      if (endpoint.takesToken(msg)) return undefined;
      const id = tokenOf(delivery);
      let answer: Promise<void> | undefined;
      if (id !== undefined) {
        if (msg.sessionState !== undefined)
          answer = storeState(id, msg.sessionState).then(() => settleAnswered(id, msg));
        else if (isAnswered) answer = settleAnswered(id, msg);
        else settle(id, msg);
      }
      if (credit !== undefined) receiver.grant(creditOf(credit));
      // A msg that was received may well have an action of its own, for other nodes.
      if (action !== undefined && !delivery) return act(action, msg);
      if (!delivery && credit === undefined) {
        throw amqpError('AMQP_BAD_INPUT.nothing');
      }
      return answer;
    };

    const settle = (id: string, msg: Input, ended?: (error?: Error) => void): void => {
      const holder = endpoint.holderOf(this, receiver, id);
      if (msg.error && msg.settle === undefined) holder.fail(id, outcomeOf(onerror, msg), ended);
      else holder.settle(id, outcomeOf(msg.settle ?? 'accept', msg), ended);
    };

    const settleAnswered = (id: string, msg: Input): Promise<void> => settled((ended) => settle(id, msg, ended));

    /** The session is to be as the flow says before the message is gone that has made it so. */
    const storeState = async (id: string, given: unknown): Promise<void> => {
      const holder: unknown = endpoint.holderOf(this, receiver, id);
      if (!(holder instanceof ServiceBusReceiver)) throw amqpError('AMQP_BAD_INPUT.no-session');
      await holder.storeState(id, sessionStateOf(given));
    };

    /** What could not be settled as asked has failed, if it is still there. */
    const fail = ({ delivery, error }: Input): void => {
      if (typeof delivery?.id !== 'string') return;
      const holder = endpoint.holderOf(this, receiver, delivery.id);
      if (holder.holds(delivery.id)) holder.fail(delivery.id, outcomeOf(onerror, { error }));
    };

    const act = async (action: unknown, msg: Input): Promise<void> => {
      const { topic } = msg;
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
        case 'info':
          msg.payload = await azureAction(receiver, action, msg);
          this.send(msg);
          return;
        default:
          await azureAction(receiver, action, msg);
      }
    };

    endpoint.register(this, receiver);
  }

  RED.nodes.registerType('amqp-receiver', ReceiverNode);
}

/** Resolves once a message is settled. */
function settled(settle: (ended: (error?: Error) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => settle((error) => (error ? reject(error) : resolve())));
}

/** The token of a message that is to be settled. What was accepted on arrival has none. */
function tokenOf(delivery: unknown): string | undefined {
  if (delivery === undefined || delivery === null) return undefined;
  const { id } = isPlainObject(delivery) ? delivery : { id: null };
  if (id === undefined || typeof id === 'string') return id;
  throw amqpError('AMQP_DELIVERY_UNKNOWN.delivery');
}

function creditOf(credit: unknown): number {
  const number = typeof credit === 'string' && credit !== '' ? Number(credit) : credit;
  if (typeof number === 'number' && Number.isInteger(number) && number > 0) return number;
  throw amqpError('AMQP_BAD_INPUT.credit', { given: nameOf(credit) });
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
      throw amqpError('AMQP_BAD_INPUT.settle', { given: nameOf(settle) });
  }
}
