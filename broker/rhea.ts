/* oxlint-disable no-underscore-dangle -- rhea's inner methods are named so */
// What a server needs of rhea beyond its typings, and around its traps.
import rhea, { type AmqpError, type Delivery, type Receiver, type Sender, type Session } from 'rhea';

export type Fields = Record<string, any>;
export type Frame = { performative: Fields; payload?: Buffer };

export type PeerSession = Session & {
  remote: { channel: number };
  outgoing: {
    next_delivery_id: number;
    next_pending_delivery: number;
    available(): number;
    transfer_window(): number;
    deliveries: { by_id(id: number): Delivery | undefined };
  };
  on_attach(frame: Frame): void;
  on_transfer(frame: Frame): void;
  on_flow(frame: Frame): void;
  on_disposition(frame: Frame): void;
};
export interface PeerError {
  condition?: string;
  description?: string;
  info?: object;
}

export type Link = Sender &
  Receiver & {
    session: PeerSession;
    credit: number;
    delivery_count: number;
    issue_flow: boolean;
    _draining: boolean;
    _drained: boolean;
    _get_drain(): boolean;
    local: { attach: Fields; detach: Fields };
    remote: { attach: Fields; detach: Fields };
  };

/** The terminus a client sent, or null; rhea hands over a null one as an object. */
export const terminus = (sent: Fields | null): Fields | null => (sent && 'address' in sent ? sent : null);

/** A terminus ready to be sent back, with some fields changed. */
export function echo(sent: Fields | null, changes: Fields = {}): unknown {
  if (!sent) return undefined;
  const copy: Fields = Object.create(Object.getPrototypeOf(sent));
  return Object.assign(copy, { value: [...sent.value] }, changes).described();
}

export const plain = (sent: Fields | null): Fields | null => JSON.parse(JSON.stringify(sent));
/** How many messages the session takes for this link now. rhea lowers credit only when it writes, hence the first test. */
export function room(link: Link): number {
  const { outgoing } = link.session;
  if (!link.is_open() || outgoing.next_pending_delivery !== outgoing.next_delivery_id) return 0;
  // the window is NaN before the first flow
  return Math.max(0, Math.min(link.credit, outgoing.transfer_window() || 0, outgoing.available()));
}

const TO_RECEIVER = ' (to a receiver)';

/** rhea knows the links of a session by their names alone; a sender and a receiver may have the same one. */
export function keepDirectionsApart(session: PeerSession): void {
  const onAttach = session.on_attach.bind(session);
  session.on_attach = (frame) => {
    if (frame.performative.role) frame.performative.name += TO_RECEIVER;
    onAttach(frame);
  };
}

/** rhea decodes what has format 0, which loses types (R24); one above the true format everything arrives as bytes. */
export function keepBytes(session: PeerSession): void {
  const onTransfer = session.on_transfer.bind(session);
  session.on_transfer = (frame) => {
    frame.performative.message_format = (frame.performative.message_format ?? 0) + 1;
    frame.payload ??= Buffer.alloc(0);
    onTransfer(frame);
  };
}

/** A client that sends begin, attach and flow in one go knows neither of our counts, which start at 0. */
export function takeEarlyFlows(session: PeerSession): void {
  const onFlow = session.on_flow.bind(session);
  session.on_flow = (frame) => {
    frame.performative.next_incoming_id ??= 0;
    frame.performative.delivery_count ??= 0;
    onFlow(frame);
  };
}

/** A client that attaches again at once under the same name gets the old object from rhea: it starts anew. */
export function renew(link: Link): void {
  const deliveryCount = link.is_sender() ? 0 : (link.remote.attach.initial_delivery_count ?? 0);
  Object.assign(link, { credit: 0, delivery_count: deliveryCount });
  Object.assign(link.local.detach, { closed: true, error: undefined });
  link.local.attach.name = nameOf(link);
}

/** rhea answers a drain only while there is credit; a client with none left waits for the answer as well. */
export function answerDrains(link: Link): void {
  link._get_drain = () => {
    if (!link._draining || !link._drained) return false;
    link.delivery_count += link.credit;
    link.credit = 0;
    link._draining = false;
    return true;
  };
}

/** An error for rhea, as the encoded fields: given by their names, the keys of its info would not be symbols. */
export function errorOf({ condition, description, info }: PeerError): AmqpError | undefined {
  if (!condition) return undefined;
  const { types } = rhea;
  const value = [types.wrap_symbol(condition), description, info && types.wrap_symbolic_map(info)];
  return { value };
}

/** The name that the client gave to the link. */
export const nameOf = (link: Link): string => (link.is_sender() ? link.name.slice(0, -TO_RECEIVER.length) : link.name);
