import type { Node, NodeAPI } from 'node-red';
import { endpointOf } from './amqp-endpoint';
import { received } from './amqp-receiver';
import { type AddressDef, addressing, headerOf, REQUEST_BYTES, withSent } from './amqp-sender';
import { ending, errorOf, give } from './flow/give';
import { Settings } from './flow/settings';
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
import { Requester, type RequesterOptions } from './lib/exchange/requester';
import type { AddressKind } from './lib/link/source';

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

    const settings = new Settings(RED, this, config, 'amqp-requester');
    const format = settings.choice<Format>('format', ['message', 'body']);
    const body = settings.choice<BodyOption>('body', BODIES);
    const output = settings.choice<OutputOption>('output', OUTPUTS);
    const address = addressing(RED, this, settings, config);
    // The node itself keeps each request until its reply has come, sends it again when the reply address is lost, and
    // tells when there is none. A copy that survives the server would be answered to nobody.
    const header = headerOf(settings, { isDurable: false });
    const replyTo = settings.choice('replyto', ['dynamic', 'capability', 'fixed']);
    const capability = settings.text('replycapability') ?? 'temporary-queue';
    const replyAddress = settings.text('replyaddress');
    if (replyTo === 'fixed' && replyAddress === undefined) settings.refuse('replyaddress', 'is missing');
    const options: RequesterOptions = {
      name: this.id,
      address: address.fixed,
      kind: settings.choice<'' | AddressKind>('kind', ['', 'queue', 'topic']) || undefined,
      replyTo:
        replyTo === 'fixed'
          ? { address: replyAddress ?? '' }
          : { capabilities: replyTo === 'capability' ? [capability] : undefined },
      timeout: settings.milliseconds('timeout'),
      reconnect: settings.choice('reconnect', ['resend', 'fail']),
      buffer: settings.number('buffer'),
      bufferBytes: REQUEST_BYTES,
      styles: stylesOf(format, output),
    };
    if (!settings.check()) return;
    const requester = new Requester(endpoint.connection, options);

    this.on('input', (msg, send, done) => {
      const end = ending(this, done);
      try {
        const message = outgoing(msg, { format, body });
        withHeader(message, header);
        // The msg itself is to leave with the reply; what tells of the outcome is a copy of the request.
        let request: typeof msg | undefined;
        let isTold = false;
        const dispatch = (to?: string): void =>
          requester.request(message, to, {
            sent: (sent) => {
              isTold = true;
              const failure = give(() => send([withSent(request ?? RED.util.cloneMessage(msg), sent, format), null]));
              if (failure) this.error(failure);
            },
            reply: (incoming, delivery) => {
              const failure = give(() => {
                if (!isTold) request = RED.util.cloneMessage(msg);
                const { msg: reply, error } = received(incoming, delivery, { format, output });
                // What the request came with stays, above all the token by which its own receiver settles it.
                const { topic: _topic, delivery: own, ...rest } = reply;
                Object.assign(msg, rest, 'delivery' in msg ? {} : { delivery: own });
                if (error) return end(error);
                send([null, msg]);
                end();
              });
              if (failure) end(failure);
            },
            failed: (error, fields) => {
              // What could be read of a reply, above all the status in its application properties.
              give(() => fields && Object.assign(msg, format === 'body' ? { amqp: fields } : { payload: fields }));
              end(error);
            },
          });
        address.resolve(msg, message, dispatch, end);
      } catch (error) {
        end(errorOf(error));
      }
    });

    endpoint.register(this, requester);
  }

  RED.nodes.registerType('amqp-requester', RequesterNode);
}
