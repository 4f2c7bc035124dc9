import type { Node, NodeAPI, NodeDef, NodeMessageInFlow } from 'node-red';
import { endpointOf, FLUSH_TIMEOUT } from './amqp-endpoint';
import { AmqpError } from './lib/errors';
import { type BodyOption, encode, type Format, type Outgoing, outgoing, withMessageId } from './lib/message';
import { type Guarantee, Sender, type Sent } from './lib/sender';

export interface AddressDef extends NodeDef {
  address?: string;
  addressType?: string;
  /** The peer makes the address. */
  dynamic?: boolean;
}

interface SenderDef extends AddressDef {
  endpoint: string;
  /** Missing in flows of node-red-contrib-rhea, and so are the properties after it. */
  format?: Format;
  body?: BodyOption;
  guarantee?: Guarantee;
  buffer?: number | string;
  full?: 'refuse' | 'drop';
  retries?: number | string;
  outcomes?: 'accepted' | 'all';
  sndsettlemode?: number | string;
  durable?: number | string;
  expirypolicy?: string;
}

/** Where messages go: always to one address, or to the one that each gives. */
export interface Addressing {
  fixed?: string;
  /** Calls `send` with the address of the msg (without one when it is fixed), in the order in which messages came. */
  resolve(msg: NodeMessageInFlow, message: Outgoing, send: (to?: string) => void, fail: (error: Error) => void): void;
}

/** The address that the node's typed input gives; where that is empty, each msg gives its own. */
export function addressing(RED: NodeAPI, node: Node, config: AddressDef): Addressing {
  const { address = '', addressType = 'str', dynamic = false } = config;
  if (dynamic) return { resolve: (_msg, _message, send) => send() };
  if (address === '') {
    return {
      resolve(msg, { fields }, send) {
        const to = fields.to ?? msg.topic;
        fields.to = typeof to === 'string' && to !== '' ? to : undefined;
        send(fields.to as string | undefined);
      },
    };
  }
  if (addressType === 'str') return { fixed: address, resolve: (_msg, _message, send) => send() };

  const evaluate = (msg: NodeMessageInFlow): Promise<string | undefined> =>
    new Promise<string | undefined>((resolve, reject) => {
      // Some types throw, some call back at once, JSONata and some context stores later.
      RED.util.evaluateNodeProperty(address, addressType, node, msg, (error, value: unknown) => {
        if (error) reject(error);
        else if (value === undefined || value === null || value === '') resolve(undefined);
        else if (typeof value === 'string') resolve(value);
        else
          reject(
            new AmqpError('AMQP_NO_ADDRESS', `the address ${addressType} ${address} is no string: ${typeof value}`),
          );
      });
    });
  let previous: Promise<unknown> = Promise.resolve();
  return {
    resolve(msg, { fields }, send, fail) {
      const to = evaluate(msg);
      previous = Promise.allSettled([previous, to])
        .then(() => to)
        .then((value) => {
          fields.to = value;
          send(value);
        })
        // JSONata throws objects that are no errors.
        .catch((error: Error) => fail(error instanceof Error ? error : addressError((error as Error).message)));
    },
  };
}

/** `msg` with what became of it, in the dialect of the node. */
export function withSent<T extends object>(msg: T, sent: Sent, format: Format): T {
  const { state, tag, address } = sent;
  if (format === 'body') return Object.assign(msg, { sent });
  // The token stays, by which a receiver settles what it has received.
  const { id } = (msg as { delivery?: { id?: string } }).delivery ?? {};
  return Object.assign(msg, { sent, deliveryStatus: state, delivery: { ...(id && { id }), state, tag, address } });
}

export default function init(RED: NodeAPI): void {
  function SenderNode(this: Node, config: SenderDef): void {
    RED.nodes.createNode(this, config);
    const endpoint = endpointOf(RED, this, config.endpoint);
    if (!endpoint) return;

    const {
      format = 'message',
      body = 'auto',
      dynamic = false,
      outcomes = config.format ? 'accepted' : 'all',
    } = config;
    const guarantee = config.guarantee ?? (Number(config.sndsettlemode) === 1 ? 'pre-settled' : 'at-least-once');
    const address = addressing(RED, this, config);
    const sender = new Sender(endpoint.connection, {
      name: this.id,
      address: address.fixed,
      dynamic,
      target: {
        ...(Number(config.durable) > 0 && { durable: Number(config.durable) }),
        ...(config.expirypolicy && { expiry_policy: config.expirypolicy }),
      },
      guarantee,
      buffer: Number(config.buffer || 10_000),
      full: config.full ?? 'refuse',
      retries: Number(config.retries ?? 3),
    });

    this.on('input', (msg, send, done) => {
      try {
        const message = outgoing(msg, { format, body });
        if (guarantee !== 'pre-settled') withMessageId(message);
        const dispatch = (to?: string): void =>
          sender.send({
            bytes: encode(message),
            address: to,
            done: (error, sent) => {
              withSent(msg, sent, format);
              if (!error || outcomes === 'all') send(msg);
              done(error);
            },
          });
        address.resolve(msg, message, dispatch, done);
      } catch (error) {
        done(error as Error);
      }
    });

    endpoint.register(this, sender);
    this.on('close', (done: () => void) => {
      void endpoint.deregister(this, sender.close(FLUSH_TIMEOUT)).finally(done);
    });
  }

  RED.nodes.registerType('amqp-sender', SenderNode);
}

function addressError(text: string): AmqpError {
  return new AmqpError('AMQP_NO_ADDRESS', `the address cannot be found out: ${text}`);
}
