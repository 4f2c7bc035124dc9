import type { Node, NodeAPI } from 'node-red';
import { addressing } from './flow/address';
import { endpointOf } from './flow/endpoint';
import { actionOf, endAfter, endMsg, errorOf, give } from './flow/give';
import { received, withSent } from './flow/msg';
import { type AddressDef, headerOf, mappingOf, requesterOptions } from './flow/options';
import { Settings } from './flow/settings';
import { Requester } from './lib/exchange/requester';
import { outgoing, withHeader } from './lib/message/message';

/** The output that says what became of the request. */
const OUTCOME = 0;

/** Whether what leaves by an output goes anywhere: a copy for nobody costs as much. */
function isWired(node: Node, output: number): boolean {
  const { wires } = node as unknown as { wires?: string[][] };
  return (wires?.[output]?.length ?? 0) > 0;
}

export default function init(RED: NodeAPI): void {
  function RequesterNode(this: Node, config: AddressDef): void {
    RED.nodes.createNode(this, config);
    const endpoint = endpointOf(RED, this, config.endpoint);
    if (!endpoint) return;

    const settings = new Settings(RED, this, config, 'amqp-requester');
    const mapping = mappingOf(settings);
    const address = addressing(RED, this, settings, config);
    // The node itself keeps each request until its reply has come, sends it again when the reply address is lost, and
    // says when there is none. A copy that survives the server would be answered to nobody.
    const header = headerOf(settings, { isDurable: false });
    const options = requesterOptions(settings, config, address.fixed, mapping);
    if (!settings.check()) return;
    const requester = new Requester(endpoint.connection, options);

    this.on('input', (msg, send, done) => {
      const end = (error?: Error): void => endMsg(this, done, error);
      try {
        if (endpoint.takesToken(msg)) return end();
        const doing = endpoint.act(actionOf(msg));
        if (doing) return endAfter(this, doing, done);
        const message = outgoing(msg, mapping);
        withHeader(message, header);
        // The msg itself is to leave with the reply; what tells of the outcome is a copy of the request.
        let request: typeof msg | undefined;
        let isTold = false;
        const ask = (to?: string): void =>
          requester.request(message, to, {
            sent: (sent) => {
              isTold = true;
              if (!isWired(this, OUTCOME)) return;
              const failure = give(() =>
                send([withSent(request ?? RED.util.cloneMessage(msg), sent, mapping.format), null]),
              );
              if (failure) this.error(failure);
            },
            reply: (incoming, delivery) => {
              const failure = give(() => {
                if (!isTold && isWired(this, OUTCOME)) request = RED.util.cloneMessage(msg);
                const { msg: reply, error } = received(incoming, delivery, mapping);
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
              give(
                () => fields && Object.assign(msg, mapping.format === 'body' ? { amqp: fields } : { payload: fields }),
              );
              end(error);
            },
          });
        const to = address.of(msg, message);
        if (to instanceof Promise) to.then(ask).catch((error: unknown) => end(errorOf(error)));
        else ask(to);
      } catch (error) {
        end(errorOf(error));
      }
    });

    endpoint.register(this, requester);
  }

  RED.nodes.registerType('amqp-requester', RequesterNode);
}
