import type { Node, NodeAPI } from 'node-red';
import { endpointOf } from './flow/endpoint';
import { actionOf, endAfter, endMsg, errorOf, give } from './flow/give';
import { errorReply, newMsg, withSent } from './flow/msg';
import { type AddressDef, headerOf, isLegacy, mappingOf, responderOptions } from './flow/options';
import { isOwnError } from './flow/own-error';
import { Settings } from './flow/settings';
import { withTraceOf } from './flow/trace-context';
import { amqpError } from './lib/errors';
import { Responder } from './lib/exchange/responder';
import { outgoing, withHeader } from './lib/message/message';

export default function init(RED: NodeAPI): void {
  function ResponderNode(this: Node, config: AddressDef): void {
    RED.nodes.createNode(this, config);
    const endpoint = endpointOf(RED, this, config.endpoint);
    if (!endpoint) return;

    const settings = new Settings(RED, this, config, 'amqp-responder');
    const mapping = { ...mappingOf(settings), carriesTrace: endpoint.carriesTrace };
    // The request is forgotten once its reply was accepted: from then on the server alone has the reply.
    const header = headerOf(settings, { isDurable: !isLegacy(config) });
    const options = responderOptions(settings, config, mapping);
    const errorReplies = settings.flag('errorreplies', false);
    if (!settings.check()) return;
    const responder = new Responder(endpoint.links, options, {
      message: (incoming, delivery) => {
        const { msg, error } = newMsg(incoming, delivery, mapping);
        if (error) this.error(error, msg);
        else this.send(msg);
      },
      undelivered: (error, delivery) => {
        this.error(error, { topic: delivery.address, delivery });
        return { settle: 'modify' };
      },
      undecodable: (error, delivery) => this.error(error, { topic: delivery.address, delivery }),
    });

    this.on('input', (msg, send, done) => {
      const end = (error?: Error): void => endMsg(this, done, error);
      try {
        if (isOwnError(this, msg) || endpoint.takesToken(msg)) return end();
        const action = actionOf(msg, 'status');
        if (action === 'status') {
          send(Object.assign(msg, { payload: endpoint.reportOf(this) }));
          return end();
        }
        const doing = endpoint.act(action);
        if (doing) return endAfter(this, doing, done);
        const { id } = (msg as { delivery?: { id?: unknown } }).delivery ?? {};
        if (typeof id !== 'string') throw amqpError('AMQP_NO_REQUEST.none');
        const { error: cause } = msg as { error?: unknown };
        const message = outgoing(errorReplies && cause ? errorReply(cause, mapping.format) : msg, mapping);
        withHeader(message, header);
        if (endpoint.carriesTrace) withTraceOf(msg, message);
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
