import type { Node, NodeAPI, NodeDef, NodeMessage, NodeMessageInFlow } from 'node-red';
import { endpointOf } from './amqp-endpoint';
import { received } from './amqp-receiver';
import { Disk } from './flow/disk';
import { ending, errorOf, give } from './flow/give';
import { Settings } from './flow/settings';
import { AmqpError } from './lib/errors';
import {
  BODIES,
  type BodyOption,
  decode,
  encode,
  type Format,
  type HeaderDefaults,
  type Outgoing,
  outgoing,
  stylesOf,
  withHeader,
  withMessageId,
} from './lib/message/message';
import { type Entry, type Guarantee, Sender, type SenderOptions, type Sent } from './lib/sender/sender';
import type { AddressKind } from './lib/link/source';
import type { Durability, Stored } from './lib/sender/store';

export interface AddressDef extends NodeDef {
  address?: string;
  addressType?: string;
  kind?: '' | AddressKind;
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
  bufferbytes?: number | string;
  full?: 'refuse' | 'drop';
  store?: 'none' | Durability;
  timeout?: number | string;
  retrytime?: number | string;
  /** Of the message; `durable` is the target's, in flows of node-red-contrib-rhea. */
  durablemessages?: boolean;
  priority?: number | string;
  ttl?: number | string;
  outcomes?: 'accepted' | 'all';
  sndsettlemode?: number | string;
  durable?: number | string;
  expirypolicy?: string;
}

/** Who is told of a msg, and how. */
interface Teller {
  msg: NodeMessage;
  send: (msg: NodeMessage) => void;
  done: (error?: Error) => void;
}

/** Where messages go: always to one address, or to the one that each gives. */
export interface Addressing {
  fixed?: string;
  /** Calls `send` with the address of the msg (without one when it is fixed), in the order in which messages came. */
  resolve(msg: NodeMessageInFlow, message: Outgoing, send: (to?: string) => void, fail: (error: Error) => void): void;
}

/** The address that the node's typed input gives; where that is empty, each msg gives its own. */
export function addressing(RED: NodeAPI, node: Node, settings: Settings, config: AddressDef): Addressing {
  const addressType = settings.choice('addressType', ['str', 'msg', 'flow', 'global', 'env', 'jsonata']);
  const isDynamic = settings.flag('dynamic', false);
  // Of another type it is an expression, in which `${…}` is not ours.
  const address = (addressType === 'str' ? settings.text('address') : config.address) ?? '';
  if (isDynamic) return { resolve: (_msg, _message, send) => send() };
  if (address === '') {
    return {
      resolve(msg, { fields, fieldsPath }, send, fail) {
        const [name, to] = fields.to === undefined ? ['msg.topic', msg.topic] : [`${fieldsPath}.to`, fields.to];
        const isMissing = to === undefined || to === null || to === '';
        if (!isMissing && typeof to !== 'string') return fail(notText(name, to));
        fields.to = isMissing ? undefined : to;
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
        else reject(notText(`the address ${addressType} ${address}`, value));
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

/** Bytes of requests that wait for a reply. */
export const REQUEST_BYTES = 64 * 2 ** 20;

/** What the node says of the header of its messages. Flows of node-red-contrib-rhea know nothing of it. */
export function headerOf(settings: Settings, { isDurable }: { isDurable: boolean }): HeaderDefaults {
  const ttl = settings.optionalNumber('ttl');
  return {
    durable: settings.flag('durablemessages', isDurable),
    priority: settings.optionalNumber('priority'),
    ttl: ttl === undefined ? undefined : Math.round(1000 * ttl),
  };
}

let tellOfLeft: (() => void) | undefined;

export default function init(RED: NodeAPI): void {
  const disk = new Disk(RED);
  // Only tests load the module more than once.
  if (tellOfLeft) RED.events.off('flows:started', tellOfLeft);
  tellOfLeft = () => void disk.tellOfLeft();
  RED.events.on('flows:started', tellOfLeft);

  function SenderNode(this: Node, config: SenderDef): void {
    RED.nodes.createNode(this, config);
    const endpoint = endpointOf(RED, this, config.endpoint);
    if (!endpoint) return;

    const settings = new Settings(RED, this, config, 'amqp-sender');
    const format = settings.choice<Format>('format', ['message', 'body']);
    const isOld = config.format === undefined;
    const body = settings.choice<BodyOption>('body', BODIES);
    const outcomes = settings.choice('outcomes', isOld ? ['all', 'accepted'] : ['accepted', 'all']);
    const isPreSettled = Number(config.sndsettlemode) === 1;
    const guarantee = settings.choice<Guarantee>(
      'guarantee',
      isPreSettled
        ? ['pre-settled', 'at-least-once', 'at-most-once']
        : ['at-least-once', 'at-most-once', 'pre-settled'],
    );
    const address = addressing(RED, this, settings, config);
    const header = headerOf(settings, { isDurable: !isOld });
    const kind = settings.choice<'' | AddressKind>('kind', ['', 'queue', 'topic']);
    const store = settings.choice<'none' | Durability>('store', ['none', 'write', 'sync']);
    const durability = store !== 'none' && guarantee === 'at-least-once' ? store : undefined;
    // A message that may be sent only once cannot be sent again from the disk.
    if (store !== 'none' && !durability) this.warn(RED._('amqp-sender.log.no-store'));
    const directory = disk.directoryOf(this.id);
    const options: SenderOptions = {
      name: this.id,
      address: address.fixed,
      dynamic: settings.flag('dynamic', false),
      target: {
        ...(Number(config.durable) > 0 && { durable: Number(config.durable) }),
        ...(config.expirypolicy && { expiry_policy: config.expirypolicy }),
        ...(kind && { capabilities: [kind] }),
      },
      guarantee,
      buffer: settings.number('buffer'),
      bufferBytes: settings.megabytes('bufferbytes'),
      full: settings.choice('full', ['refuse', 'drop']),
      retryTime: settings.milliseconds('retrytime'),
      timeout: settings.milliseconds('timeout'),
      store: durability && {
        directory,
        durability,
        restored: (stored) => restored(stored),
        damaged: (error) => this.error(error),
      },
    };
    if (!settings.check()) return;
    if (durability) disk.use(directory);
    const sender = new Sender(endpoint.connection, options);

    const entryOf = (bytes: Buffer, to: string | undefined, { msg, send, done }: Teller): Entry => {
      let tell = ending(this, done);
      return {
        bytes,
        address: to,
        stored: () => {
          tell();
          // Node-RED takes one end of a msg only; what fails later is an error of the node.
          tell = ending(this, (error) => error && this.error(error, msg));
        },
        done: (error, sent) => {
          const failure = give(() => {
            withSent(msg, sent, format);
            if (!error || outcomes === 'all') send(msg);
          });
          tell(error ?? failure);
        },
      };
    };

    const restored = ({ bytes, address: to }: Stored): Entry => {
      const output = 'auto';
      const delivery = { tag: '', address: to, redelivered: false };
      const { msg } = received(decode(bytes, stylesOf(format, output)), delivery, { format, output });
      const { delivery: _, ...rest } = msg;
      const entry = entryOf(bytes, to, { msg: rest, send: (sent) => this.send(sent), done: () => {} });
      entry.stored?.();
      return entry;
    };

    this.on('input', (msg, send, done) => {
      const end = ending(this, done);
      try {
        const message = outgoing(msg, { format, body });
        withHeader(message, header);
        if (guarantee !== 'pre-settled') withMessageId(message);
        const dispatch = (to?: string): void => sender.send(entryOf(encode(message), to, { msg, send, done }));
        address.resolve(msg, message, dispatch, end);
      } catch (error) {
        end(errorOf(error));
      }
    });

    this.on('close', () => disk.leave(directory));
    endpoint.register(this, sender);
  }

  RED.nodes.registerType('amqp-sender', SenderNode);
}

function notText(name: string, value: unknown): AmqpError {
  return new AmqpError('AMQP_NO_ADDRESS', `${name} is not text: it is of type ${typeof value}`);
}

function addressError(text: string): AmqpError {
  return new AmqpError('AMQP_NO_ADDRESS', `the address cannot be found out: ${text}`);
}
