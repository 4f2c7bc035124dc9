import type { Node, NodeAPI, NodeMessage } from 'node-red';
import { eventHubOptions, type Kept, serviceBusOptions } from './flow/azure';
import { endpointOf } from './flow/endpoint';
import { endMsg, errorOf } from './flow/give';
import { newMsg, togetherMsg } from './flow/msg';
import {
  isInTransactions,
  isOfSeveral,
  mappingOf,
  onErrorOf,
  type ReceiverDef,
  receiverOptions,
  refuseAsked,
  subscriptionOf,
} from './flow/options';
import { isOwnError } from './flow/own-error';
import { type Asked, receiverAction, sessionStateOf } from './flow/receiver-actions';
import { Settings } from './flow/settings';
import { EventHubReceiver } from './lib/azure/event-hub-receiver';
import { ServiceBusReceiver } from './lib/azure/service-bus-receiver';
import { isPlainObject } from './lib/codec/notation';
import { TransactionalReceiver } from './lib/exchange/transactional-receiver';
import { AmqpError, amqpError, nameOf, type PeerError } from './lib/errors';
import type { Received, Receiver, ReceiverUser } from './lib/receiver/receiver';
import type { Receivers } from './lib/receiver/receivers';
import { Subscriptions } from './lib/receiver/subscriptions';
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
  const places: Kept = new Map();

  function ReceiverNode(this: Node, config: ReceiverDef): void {
    RED.nodes.createNode(this, config);
    const endpoint = endpointOf(RED, this, config.endpoint);
    if (!endpoint) return;

    const settings = new Settings(RED, this, config, 'amqp-receiver');
    const mapping = { ...mappingOf(settings), carriesTrace: endpoint.carriesTrace };
    const onerror = onErrorOf(settings, config);
    const options = receiverOptions(settings, config, mapping);
    const { service } = endpoint;
    const serviceBus = service === 'servicebus' ? serviceBusOptions(settings, options) : undefined;
    const eventHub = service === 'eventhubs' ? eventHubOptions(this, settings, options, places) : undefined;
    const isSeveral = isOfSeveral(settings, service);
    if (isSeveral && endpoint.isListening) settings.refuse('addresses', 'is for an endpoint that connects to a server');
    if (endpoint.isListening) refuseAsked(settings, options);
    const isTransactional = isInTransactions(settings, options);
    if (isTransactional && endpoint.isListening)
      settings.refuse('transaction', 'is for an endpoint that connects to a server');
    if (isTransactional && service) settings.refuse('transaction', 'is not for the services of Azure');
    if (isTransactional && isSeveral) settings.refuse('transaction', 'is for a receiver of one address');
    if (!settings.check()) return;
    const { maxAttempts = Infinity } = options;
    /** The msg of a message; undefined: it is not what it says, and has failed. */
    const msgOf = ({ incoming, delivery }: Received): ReturnType<typeof newMsg>['msg'] | undefined => {
      const { msg, error } = newMsg(incoming, delivery, mapping);
      if (!error) return msg;
      if (delivery.id !== undefined) receiver.fail(delivery.id, outcomeOf(onerror, { error }));
      this.error(error, msg);
      return undefined;
    };
    const user: ReceiverUser = {
      message: (incoming, delivery) => {
        const msg = msgOf({ incoming, delivery });
        if (!msg) return;
        const { attempt = 0 } = delivery;
        this.send(attempt > maxAttempts ? [null, msg] : msg);
      },
      messages: (all) => {
        const msgs = all.flatMap((one) => msgOf(one) ?? []);
        const isExhausted = ({ delivery: { attempt = 0 } }: (typeof msgs)[number]): boolean => attempt > maxAttempts;
        for (const msg of msgs) if (isExhausted(msg)) this.send([null, msg]);
        const rest = msgs.filter((msg) => !isExhausted(msg));
        if (rest.length > 0) this.send(togetherMsg(rest));
      },
      exhausted: (error, { incoming, delivery }) => this.error(error, newMsg(incoming, delivery, mapping).msg),
      undelivered: (error, delivery) => {
        this.error(error, { topic: delivery.address, delivery });
        return outcomeOf(onerror, { error });
      },
      undecodable: (error, delivery) => this.error(error, { topic: delivery.address, delivery }),
    };
    const receiver = serviceBus
      ? new ServiceBusReceiver(endpoint.connection, serviceBus, user)
      : eventHub
        ? new EventHubReceiver(endpoint.connection, eventHub, user)
        : isTransactional
          ? new TransactionalReceiver(endpoint.connection, options, user)
          : isSeveral
            ? new Subscriptions(endpoint.connection, options, user)
            : (endpoint.links.receiver(options, user) as Receiver | Receivers);
    const isAnswered = serviceBus !== undefined || isTransactional || options.isAnswered;
    if (subscriptionOf(settings) === 'durable' && !endpoint.isNamed && !service)
      this.log(RED._(`${LOG}durable`, { id: endpoint.containerId }));

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
      const ids = tokensOf(delivery);
      const answer = ids.length > 0 ? settleAll(ids, msg) : undefined;
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

    /** The promise is there only where something takes longer. */
    const settleOne = (id: string, msg: Input): Promise<void> | undefined => {
      if (msg.sessionState !== undefined)
        return storeState(id, msg.sessionState).then(() => settled((ended) => settle(id, msg, ended)));
      if (isAnswered) return settled((ended) => settle(id, msg, ended));
      settle(id, msg);
      return undefined;
    };

    /** Of several, some may have been settled one by one. */
    const settleAll = (ids: string[], msg: Input): Promise<void> | undefined => {
      if (ids.length === 1) return settleOne(ids[0]!, msg);
      const answers: Promise<void>[] = [];
      let isAnySettled = false;
      const failures: unknown[] = [];
      for (const id of ids) {
        try {
          const answer = settleOne(id, msg);
          if (answer) answers.push(answer);
          isAnySettled = true;
        } catch (error) {
          failures.push(error);
        }
      }
      const failure = failures.find((error) => !isSettled(error)) ?? (isAnySettled ? undefined : failures[0]);
      if (failure !== undefined) throw failure;
      return answers.length > 0 ? Promise.all(answers).then(() => {}) : undefined;
    };

    /** The session is to be as the flow says before the message is gone that has made it so. */
    const storeState = async (id: string, given: unknown): Promise<void> => {
      const holder: unknown = endpoint.holderOf(this, receiver, id);
      if (!(holder instanceof ServiceBusReceiver)) throw amqpError('AMQP_BAD_INPUT.no-session');
      await holder.storeState(id, sessionStateOf(given));
    };

    /** What could not be settled as asked has failed, if it is still there. */
    const fail = ({ delivery, error }: Input): void => {
      for (const id of [delivery?.id].flat()) {
        if (typeof id !== 'string') continue;
        const holder = endpoint.holderOf(this, receiver, id);
        if (holder.holds(id)) holder.fail(id, outcomeOf(onerror, { error }));
      }
    };

    const act = async (action: unknown, msg: Input): Promise<void> => {
      const answer =
        action === 'status' ? endpoint.reportOf(this) : await receiverAction(endpoint, receiver, action, msg);
      if (answer === undefined) return;
      msg.payload = answer;
      this.send(msg);
    };

    endpoint.register(this, receiver);
  }

  RED.nodes.registerType('amqp-receiver', ReceiverNode);
}

/** Resolves once a message is settled. */
function settled(settle: (ended: (error?: Error) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => settle((error) => (error ? reject(error) : resolve())));
}

/** Whether that is all there is to an error: the message was settled before. */
function isSettled(error: unknown): boolean {
  return error instanceof AmqpError && error.code === 'AMQP_DELIVERY_SETTLED';
}

/** The tokens of messages that are to be settled. What was accepted on arrival has none. */
function tokensOf(delivery: unknown): string[] {
  if (delivery === undefined || delivery === null) return [];
  const { id } = isPlainObject(delivery) ? delivery : { id: null };
  const ids: unknown[] = [id].flat();
  if (id === undefined) return [];
  if (ids.length > 0 && ids.every((one) => typeof one === 'string')) return ids;
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
