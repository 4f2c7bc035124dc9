import type { Node, NodeAPI, NodeMessage } from 'node-red';
import { addressing } from './flow/address';
import { endpointOf } from './flow/endpoint';
import { actionOf, endAfter, endMsg, errorOf, give } from './flow/give';
import { received, withSent } from './flow/msg';
import { type AddressDef, endMarkerOf, headerOf, managementOptions, mappingOf, requesterOptions } from './flow/options';
import { Settings } from './flow/settings';
import { withTraceOf } from './flow/trace-context';
import { bareOf } from './lib/codec/notation';
import { type AmqpError, amqpError } from './lib/errors';
import { ManagementRequester } from './lib/exchange/management-requester';
import { type ReplyPlace, Requester, type RequestUser } from './lib/exchange/requester';
import { statusOf } from './lib/exchange/status';
import { type Incoming, outgoing, withHeader } from './lib/message/message';

/** The output that says what became of the request. */
const OUTCOME = 0;
/** The first status that is an error. */
const LEAST_ERROR = 400;

type Received = ReturnType<typeof received>;

/** Whether what leaves by an output goes anywhere: a copy for nobody costs as much. */
function isWired(node: Node, output: number): boolean {
  const { wires } = node as unknown as { wires?: string[][] };
  return (wires?.[output]?.length ?? 0) > 0;
}

/** The error that a reply tells of. */
function statusError({ fields, body }: Incoming): AmqpError | undefined {
  const status = statusOf(fields);
  if (!status || status.code < LEAST_ERROR) return undefined;
  // RabbitMQ says why in the body.
  const text = bareOf(body?.content);
  const { code, description = typeof text === 'string' ? text : undefined, ...peer } = status;
  return amqpError('AMQP_REPLY_STATUS.code', { code }, { peer: { ...peer, description } });
}

/** What the request came with stays, above all the token by which its own receiver settles it. */
function withReply(msg: NodeMessage, { topic: _topic, delivery, ...rest }: Received['msg']): NodeMessage {
  return Object.assign(msg, rest, 'delivery' in msg ? {} : { delivery });
}

export default function init(RED: NodeAPI): void {
  function RequesterNode(this: Node, config: AddressDef): void {
    RED.nodes.createNode(this, config);
    const endpoint = endpointOf(RED, this, config.endpoint);
    if (!endpoint) return;

    const settings = new Settings(RED, this, config, 'amqp-requester');
    const mapping = { ...mappingOf(settings), carriesTrace: endpoint.carriesTrace };
    const address = addressing(RED, this, settings, config);
    // The node itself keeps each request until its reply has come, sends it again when the reply address is lost, and
    // says when there is none. A copy that survives the server would be answered to nobody.
    const header = headerOf(settings, { isDurable: false });
    const options = requesterOptions(settings, config, address.fixed, mapping);
    const management = managementOptions(settings, config, address.fixed, mapping);
    const endMarker = endMarkerOf(settings);
    if (management && endpoint.isListening) settings.refuse('replyto', 'is for an endpoint that connects to a server');
    if (endMarker !== undefined && give(() => RED.util.normalisePropertyExpression(endMarker)))
      settings.refuse('endmarker', 'is not the name of a property');
    const failsByStatus = settings.flag('statuserrors', false);
    if (!settings.check()) return;
    const requester = management
      ? new ManagementRequester(endpoint.connection, management)
      : new Requester(endpoint.links, options);

    const isMarked = (msg: NodeMessage): boolean => {
      try {
        return endMarker !== undefined && RED.util.getMessageProperty(msg, endMarker) === true;
      } catch {
        // The msg has nothing on the way to it either.
        return false;
      }
    };

    /** One of several replies, as a msg of its own, which a join node can put together with the others. */
    const oneOf = (msg: NodeMessage, reply: Received['msg'], { index, isLast }: ReplyPlace): NodeMessage => {
      const one = withReply(RED.util.cloneMessage(msg), reply) as NodeMessage & { parts?: object };
      const count = isLast || isMarked(one) ? { count: index + 1 } : {};
      // As the split node does it, for splits within splits.
      one.parts = { id: msg._msgid, type: 'array', index, ...count, ...(one.parts && { parts: one.parts }) };
      return one;
    };

    this.on('input', (msg, send, done) => {
      const end = (error?: Error): void => endMsg(this, done, error);
      try {
        if (endpoint.takesToken(msg)) return end();
        const action = actionOf(msg, 'pending', 'status');
        if (action === 'pending' || action === 'status') {
          const payload = action === 'pending' ? requester.pending() : endpoint.reportOf(this);
          send([null, Object.assign(msg, { payload })]);
          return end();
        }
        const doing = endpoint.act(action);
        if (doing) return endAfter(this, doing, done);
        const message = outgoing(msg, mapping);
        withHeader(message, header);
        if (endpoint.carriesTrace) withTraceOf(msg, message);
        // The msg itself is to leave with the reply; what tells of the outcome is a copy of the request.
        let request: typeof msg | undefined;
        let isTold = false;
        /** Why one of several replies is no good. */
        let failure: AmqpError | undefined;
        const user: RequestUser = {
          sent: (sent) => {
            isTold = true;
            if (!isWired(this, OUTCOME)) return;
            const fault = give(() =>
              send([withSent(request ?? RED.util.cloneMessage(msg), sent, mapping.format), null]),
            );
            if (fault) this.error(fault);
          },
          reply: (incoming, delivery, place) => {
            let isLast = false;
            const fault = give(() => {
              if (!isTold && isWired(this, OUTCOME)) request ??= RED.util.cloneMessage(msg);
              const { msg: reply, error } = received(incoming, delivery, mapping);
              const refusal = failsByStatus ? statusError(incoming) : undefined;
              const bad = error ?? refusal;
              if (place) {
                const one = oneOf(msg, reply, place);
                // Whoever was to say which is the last has failed.
                isLast = isMarked(one) || (refusal !== undefined && endMarker !== undefined);
                if (bad) failure ??= bad;
                else send([null, one]);
                return;
              }
              withReply(msg, reply);
              if (bad) return end(bad);
              send([null, msg]);
              end();
            });
            if (fault && place) failure ??= fault;
            else if (fault) end(fault);
            return isLast;
          },
          ended: () => end(failure),
          failed: (error, fields) => {
            // What could be read of a reply, above all the status in its application properties.
            give(
              () => fields && Object.assign(msg, mapping.format === 'body' ? { amqp: fields } : { payload: fields }),
            );
            end(error);
          },
        };
        // RabbitMQ's management takes the path where others have an address.
        const to = management ? undefined : address.of(msg, message);
        const ask = (given?: string): void => requester.request(message, given, user);
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
