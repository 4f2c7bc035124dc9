import type { Node, NodeAPI } from 'node-red';
import { endpointOf } from './amqp-endpoint';
import { received } from './amqp-receiver';
import { type AddressDef, addressing, bytesOf, withSent } from './amqp-sender';
import { type BodyOption, type Format, outgoing, type OutputOption, stylesOf } from './lib/message';
import { Requester } from './lib/requester';

interface RequesterDef extends AddressDef {
  endpoint: string;
  /** Missing in flows of node-red-contrib-rhea, and so are the properties after it. */
  format?: Format;
  body?: BodyOption;
  output?: OutputOption;
  replyto?: 'dynamic' | 'capability' | 'fixed';
  replycapability?: string;
  replyaddress?: string;
  timeout?: number | string;
  reconnect?: 'resend' | 'fail';
  buffer?: number | string;
}

export default function init(RED: NodeAPI): void {
  function RequesterNode(this: Node, config: RequesterDef): void {
    RED.nodes.createNode(this, config);
    const endpoint = endpointOf(RED, this, config.endpoint);
    if (!endpoint) return;

    const { format = 'message', body = 'auto', output = 'auto', replyto = 'dynamic', replyaddress = '' } = config;
    const address = addressing(RED, this, config);
    const capabilities = replyto === 'capability' ? [config.replycapability || 'temporary-queue'] : undefined;
    const requester = new Requester(endpoint.connection, {
      name: this.id,
      address: address.fixed,
      kind: config.kind || undefined,
      replyTo: replyto === 'fixed' ? { address: replyaddress } : { capabilities },
      timeout: 1000 * Number(config.timeout ?? 30),
      reconnect: config.reconnect ?? 'resend',
      buffer: Number(config.buffer || 10_000),
      bufferBytes: bytesOf(),
      styles: stylesOf(format, output),
    });

    this.on('input', (msg, send, done) => {
      try {
        const message = outgoing(msg, { format, body });
        // The msg itself is to leave with the reply; what tells of the outcome is a copy of the request.
        let request: typeof msg | undefined;
        let isTold = false;
        const dispatch = (to?: string): void =>
          requester.request(message, to, {
            sent: (sent) => {
              isTold = true;
              send([withSent(request ?? RED.util.cloneMessage(msg), sent, format), null]);
            },
            reply: (incoming, delivery) => {
              if (!isTold) request = RED.util.cloneMessage(msg);
              const { msg: reply, error } = received(incoming, delivery, { format, output });
              // What the request came with stays, above all the token by which its own receiver settles it.
              const { topic: _topic, delivery: own, ...rest } = reply;
              Object.assign(msg, rest, 'delivery' in msg ? {} : { delivery: own });
              if (!error) send([null, msg]);
              done(error);
            },
            failed: done,
          });
        address.resolve(msg, message, dispatch, done);
      } catch (error) {
        done(error as Error);
      }
    });

    endpoint.register(this, requester);
  }

  RED.nodes.registerType('amqp-requester', RequesterNode);
}
