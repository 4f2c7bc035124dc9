import type { Node, NodeAPI, NodeDef } from 'node-red';
import { endpointOf } from './amqp-endpoint';
import { received } from './amqp-receiver';
import { withSent } from './amqp-sender';
import { AmqpError } from './lib/errors';
import { type BodyOption, type Format, outgoing, type OutputOption, stylesOf } from './lib/message';
import { Responder } from './lib/responder';
import type { AddressKind } from './lib/source';

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
  settletimeout?: number | string;
}

export default function init(RED: NodeAPI): void {
  function ResponderNode(this: Node, config: ResponderDef): void {
    RED.nodes.createNode(this, config);
    const endpoint = endpointOf(RED, this, config.endpoint);
    if (!endpoint) return;

    const { format = 'message', body = 'auto', output = 'auto', address, settle = 'reply' } = config;
    const responder = new Responder(
      endpoint.connection,
      {
        name: this.id,
        address,
        kind: config.kind || undefined,
        settle,
        creditWindow: Number(config.creditwindow ?? 100),
        timeout: 1000 * Number(config.settletimeout ?? 300),
        styles: stylesOf(format, output),
      },
      {
        message: (incoming, delivery, id) => {
          const { msg, error } = received(incoming, { id, ...delivery }, { format, output });
          if (error) this.error(error, msg);
          else this.send(msg);
        },
        undecodable: (error, delivery) => this.error(error, { topic: delivery.address, delivery }),
      },
    );

    this.on('input', (msg, _send, done) => {
      try {
        const { id } = (msg as { delivery?: { id?: unknown } }).delivery ?? {};
        if (typeof id !== 'string')
          throw new AmqpError('AMQP_NO_REQUEST', 'msg.delivery.id is missing: reply with the msg that came in');
        endpoint.holderOf(this, responder, id).respond(id, outgoing(msg, { format, body }), (error, sent) => {
          withSent(msg, sent, 'body');
          done(error);
        });
      } catch (error) {
        done(error as Error);
      }
    });

    endpoint.register(this, responder);
  }

  RED.nodes.registerType('amqp-responder', ResponderNode);
}
