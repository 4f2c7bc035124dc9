// How the services answer requests.
import rhea, { type Typed } from 'rhea';
import type { Refusal } from './refusals';

const { types } = rhea;

/** The body of an answer; undefined = there is nothing. */
export type Answer = Record<string, unknown> | undefined;

/** How an answer tells what became of the request: `$cbs` and Event Hubs write it in another way than Service Bus. */
const NAMES = {
  hyphenated: { code: 'status-code', text: 'status-description', condition: 'error-condition' },
  camelCase: { code: 'statusCode', text: 'statusDescription', condition: 'errorCondition' },
};

export type StatusNames = keyof typeof NAMES;

/** The application properties of an answer. */
export function statusProperties(names: StatusNames, status: number, refusal?: Refusal): Record<string, unknown> {
  const { code, text, condition } = NAMES[names];
  return {
    [code]: types.wrap_int(status),
    [text]: refusal?.message ?? (status === 202 ? 'Accepted' : 'OK'),
    ...(refusal && { [condition]: types.wrap_symbol(refusal.condition) }),
  };
}

/** A message to answer a request with. */
export function answerTo(id: Typed | undefined, properties: Record<string, unknown>, body: Answer | null): Buffer {
  return rhea.message.encode({ correlation_id: id as unknown as string, application_properties: properties, body });
}
