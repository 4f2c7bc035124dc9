/** W3C Trace Context: a flow has it as `msg.traceparent` and `msg.tracestate`, a message as application properties of these names. */
import { isPlainObject } from '../lib/codec/notation';
import type { AmqpFields } from '../lib/message/fields';
import type { Outgoing } from '../lib/message/message';

export interface TraceContext {
  traceparent?: string;
  tracestate?: string;
}

/** Version, trace id, parent id and flags; later versions may go on (Trace Context, 3.2). */
const TRACEPARENT = /^[\da-f]{2}-[\da-f]{32}-[\da-f]{16}-[\da-f]{2}(-|$)/;
/** Characters of a tracestate that is handed on (Trace Context, 3.3.1.5). */
const LONGEST_STATE = 512;

function contextIn(given: unknown): TraceContext {
  if (!isPlainObject(given)) return {};
  const { traceparent, tracestate } = given;
  if (typeof traceparent !== 'string' || !TRACEPARENT.test(traceparent)) return {};
  const isState = typeof tracestate === 'string' && tracestate !== '' && tracestate.length <= LONGEST_STATE;
  return { traceparent, ...(isState && { tracestate }) };
}

/** That of a message which was received: what is none is nothing. */
export function traceOf({ application_properties: properties }: AmqpFields): TraceContext {
  return contextIn(properties);
}

/** Has a message carry that of its msg, if it has one. */
export function withTraceOf(msg: object, { fields }: Outgoing): void {
  const context = contextIn(msg);
  if (!context.traceparent) return;
  const { application_properties: properties } = fields;
  if (properties instanceof Map) fields.application_properties = new Map([...properties, ...Object.entries(context)]);
  else fields.application_properties = { ...(isPlainObject(properties) && properties), ...context };
}
