import type { Node, NodeAPI, NodeDef } from 'node-red';
import { endpointOf } from './amqp-endpoint';
import { received } from './amqp-receiver';
import { headerOf, withSent } from './amqp-sender';
import { ending, errorOf, give } from './flow/give';
import { isOwnError } from './flow/own-error';
import { Settings } from './flow/settings';
import { AmqpError } from './lib/errors';
import {
  BODIES,
  type BodyOption,
  type Format,
  outgoing,
  type OutputOption,
  OUTPUTS,
  stylesOf,
  withHeader,
} from './lib/message/message';
import { Responder, type ResponderOptions } from './lib/exchange/responder';
import type { AddressKind } from './lib/link/source';

interface ResponderDef extends NodeDef {
  endpoint: string;
  address: string;
  kind?: '' | AddressKind;
  /** Missing in flows of node-red-contrib-rhea, and so are the properties after it. */
  format?: Format;
  body?: BodyOption;
  output?: OutputOption;
  settle?: 'reply' | 'arrival';
  creditwindow?: number | string;
  windowbytes?: number | string;
  settletimeout?: number | string;
}

/**
 * Milliseconds. Who left without waiting for the reply stays away, mostly, and requests that are held for such would
 * keep others from being answered.
 */
const RETRY_TIME = 1000;

export default function init(RED: NodeAPI): void {
  function ResponderNode(this: Node, config: ResponderDef): void {
    RED.nodes.createNode(this, config);
    const endpoint = endpointOf(RED, this, config.endpoint);
    if (!endpoint) return;

    const settings = new Settings(RED, this, config, 'amqp-responder');
    const format = settings.choice<Format>('format', ['message', 'body']);
    const body = settings.choice<BodyOption>('body', BODIES);
    const output = settings.choice<OutputOption>('output', OUTPUTS);
    // The request is forgotten once its reply was accepted: from then on the server alone has the reply.
    const header = headerOf(settings, { isDurable: config.format !== undefined });
    const address = settings.text('address');
    if (address === undefined) settings.refuse('address', 'is missing');
    const options: ResponderOptions = {
      name: this.id,
      address: address ?? '',
      kind: settings.choice<'' | AddressKind>('kind', ['', 'queue', 'topic']) || undefined,
      settle: settings.choice('settle', ['reply', 'arrival']),
      creditWindow: settings.number('creditwindow'),
      windowBytes: settings.megabytes('windowbytes'),
      timeout: settings.milliseconds('settletimeout'),
      retryTime: RETRY_TIME,
      styles: stylesOf(format, output),
    };
    if (!settings.check()) return;
    const responder = new Responder(endpoint.connection, options, {
      message: (incoming, delivery, id) => {
        const { msg, error } = received(incoming, { id, ...delivery }, { format, output });
        if (error) this.error(error, msg);
        else this.send(msg);
      },
      undelivered: (error, delivery) => {
        this.error(error, { topic: delivery.address, delivery });
        return { settle: 'modify' };
      },
      undecodable: (error, delivery) => this.error(error, { topic: delivery.address, delivery }),
    });

    this.on('input', (msg, _send, done) => {
      const end = ending(this, done);
      try {
        if (isOwnError(this, msg)) return end();
        const { id } = (msg as { delivery?: { id?: unknown } }).delivery ?? {};
        if (typeof id !== 'string')
          throw new AmqpError('AMQP_NO_REQUEST', 'msg.delivery.id is missing: reply with the msg that came in');
        const message = outgoing(msg, { format, body });
        withHeader(message, header);
        endpoint.holderOf(this, responder, id).respond(id, message, (error, sent) => {
          const failure = give(() => withSent(msg, sent, 'body'));
          end(error ?? failure);
        });
      } catch (error) {
        end(errorOf(error));
      }
    });

    endpoint.register(this, responder);
  }

  RED.nodes.registerType('amqp-responder', ResponderNode);
}
