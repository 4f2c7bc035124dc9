/* oxlint-disable no-underscore-dangle -- rhea's inner methods are named so */
// How the services settle messages, and answer attaches later.
import rhea, { type Delivery } from 'rhea';
import { errorOf, type Fields, type Link } from '../../../broker/rhea';
import { type Refusal, toError } from './refusals';

/** Outcomes for dispositions; rhea makes them, and does not say so in its typings. */
const outcomes = rhea.message as unknown as Record<
  'accepted' | 'rejected',
  (fields: object) => { described(): Fields }
>;

export function settleIncoming(delivery: Delivery, error?: Refusal): void {
  // settled even where the link has receiver-settle-mode second: the client for Python asks for it, and then waits for this
  if (delivery.remote_settled) return delivery.update(true);
  if (!error) return delivery.update(true, outcomes.accepted({}).described());
  // R1: in one batch with others this outcome would become theirs, or theirs this one
  const { connection } = delivery.link;
  connection._process();
  delivery.update(true, outcomes.rejected({ error: errorOf(toError(error)) }).described());
  connection._process();
}

/** The outcome that the service settles with: the client's own one, or what was wrong. Only a wrong one has an error. */
export function agreement(state: string, remote: Fields, refusal: Refusal | undefined): Fields {
  if (refusal) return outcomes.rejected({ error: errorOf(toError(refusal)) }).described();
  return state === 'rejected' ? outcomes.rejected({}).described() : remote.described();
}

export const sendSettled = (link: Link, bytes: Buffer) =>
  Object.assign(link.send(bytes, undefined, 0), { settled: true });

/**
 * rhea answers an attach at once: what it has yet to write is counted, and the count can wait until the answer is there.
 */
export function withholdAttach(link: Link): void {
  stateOf(link).open_requests = 0;
}

export function answerAttach(link: Link): void {
  stateOf(link).open_requests = 1;
  link.connection._register();
}

const stateOf = (link: Link): Fields => (link as unknown as { state: Fields }).state;
