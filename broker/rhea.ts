/* oxlint-disable no-underscore-dangle -- rhea's inner methods are named so */
// What the broker uses of rhea beyond its typings.
import type { Receiver, Sender, Session } from 'rhea';

export type Fields = Record<string, any>;
export type Frame = { performative: Fields; payload?: Buffer };

export type PeerSession = Session & {
  remote: { channel: number };
  outgoing: {
    next_delivery_id: number;
    next_pending_delivery: number;
    available(): number;
    transfer_window(): number;
  };
  on_attach(frame: Frame): void;
  on_transfer(frame: Frame): void;
  on_flow(frame: Frame): void;
};
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

/** The name that the client gave to the link. */
export const nameOf = (link: Link): string => (link.is_sender() ? link.name.slice(0, -TO_RECEIVER.length) : link.name);
