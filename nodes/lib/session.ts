import type {
  Connection as RheaConnection,
  Delivery,
  Receiver as RheaReceiver,
  Sender as RheaSender,
  Session,
} from 'rhea';

/**
 * Ends a session, but not before the peer has answered its begin: rhea frees the channel, and the answer would cost the
 * connection.
 */
export function end(session: Session): void {
  const { state } = session as unknown as SessionInternals;
  if (state.remote_open || !state.local_open) session.close();
  else session.once('session_open', () => session.close());
}

/** Sessions on a connection that have not ended yet. */
export function channelsOf(connection: RheaConnection): number {
  return Object.keys((connection as unknown as { local_channel_map: object }).local_channel_map).length;
}

/** The largest message that is taken: rhea keeps its frames until the last has come. */
const MAX_MESSAGE_SIZE = 64 * 2 ** 20;
/** Deliveries beyond credit that are forgiven (R6). */
const MAX_DELIVERIES = 5000;

interface Frame {
  payload?: Buffer;
  performative: {
    message_format?: number;
    delivery_id?: number | null;
    delivery_tag?: Buffer | null;
    aborted?: boolean;
    role: boolean;
    first: number;
    last?: number;
    handle?: number | null;
    echo?: boolean;
  };
}

interface AttachFrame {
  performative: { name: string };
}

interface Deliveries {
  available(): number;
}

/** What is used here of rhea's session beyond its typings. */
export interface SessionInternals {
  incoming: { deliveries: Unsettled; next_delivery_id: number; next_transfer_id: number };
  outgoing: { deliveries: Unsettled; next_delivery_id: number; next_pending_delivery: number };
  links: object;
  on_attach(frame: AttachFrame): void;
  on_transfer(frame: Frame): void;
  on_disposition(frame: Frame): void;
  on_flow(frame: Frame): void;
  _write_flow(): void;
  _get_link(
    frame: Frame,
  ): RheaReceiver & { credit: number; delivery_count: number; issue_flow: boolean; _incomplete?: Delivery };
  state: { local_open: boolean; remote_open: boolean };
}

/**
 * The deliveries of a session that are not settled yet, in place of rhea's ring buffer, which frees only its oldest
 * entry: there one delivery held back stalls the link after 2047 later ones (R9).
 */
class Unsettled implements Deliveries {
  #deliveries = new Map<number, Delivery>();

  get size(): number {
    return this.#deliveries.size;
  }

  /** The session's window in frames. What bounds the deliveries is credit. */
  available(): number {
    return 2048;
  }

  push(delivery: Delivery): void {
    this.#deliveries.set(delivery.id, delivery);
  }

  by_id(id: number): Delivery | undefined {
    return this.#deliveries.get(id);
  }

  delete(id: number): void {
    this.#deliveries.delete(id);
  }

  get first(): number {
    return this.#deliveries.keys().next().value ?? 0;
  }

  pop_if(isDone: (delivery: Delivery) => boolean): void {
    for (const delivery of this.#deliveries.values()) {
      if (!isDone(delivery)) return;
      this.#deliveries.delete(delivery.id);
    }
  }
}

/** A new session on which rhea leaves the message to us, and takes what it otherwise loses the connection over. */
export function ownSession(connection: RheaConnection): Session {
  const session = connection.create_session();
  const internals = session as unknown as SessionInternals;
  const { incoming, outgoing } = internals;
  incoming.deliveries = new Unsettled();
  outgoing.deliveries = new Unsettled();

  const onAttach = internals.on_attach.bind(session);
  internals.on_attach = (frame) => {
    // rhea would make a link of any that the peer attaches, in any number.
    if (!Object.hasOwn(internals.links, frame.performative.name))
      throw new Error('the peer attaches a link of its own');
    onAttach(frame);
  };

  const sizes = new Map<RheaReceiver, number>();
  const onTransfer = internals.on_transfer.bind(session);
  internals.on_transfer = (frame) => {
    const { performative } = frame;
    const receiver = internals._get_link(frame);
    // R12: one bad frame would end the connection, with all links on it.
    if (performative.aborted) {
      incoming.next_transfer_id++;
      if (receiver._incomplete) incoming.deliveries.delete(receiver._incomplete.id);
      receiver._incomplete = undefined;
      return;
    }
    // R8, R12: only an undefined message-format keeps rhea from decoding the message.
    if (performative.message_format === 0) performative.message_format = undefined;
    const { delivery_id: id, delivery_tag: tag } = performative;
    // rhea would throw at the disposition, where nobody catches it.
    if (!receiver._incomplete && (typeof id !== 'number' || !tag)) throw new Error('a transfer without id or tag');
    const size = (receiver._incomplete ? (sizes.get(receiver) ?? 0) : 0) + (frame.payload?.length ?? 0);
    if (size > MAX_MESSAGE_SIZE) throw new Error(`the peer sent a message of more than ${MAX_MESSAGE_SIZE} bytes`);
    sizes.set(receiver, size);
    if (receiver.credit === 0 && incoming.deliveries.size > MAX_DELIVERIES)
      throw new Error(`the peer sent more than ${MAX_DELIVERIES} messages without credit`);
    // R6: some peers send more than their credit; rhea complains of that on the console.
    if (receiver.credit === 0) receiver.credit = 1;
    onTransfer(frame);
    // R9: rhea opens the session's window again only in its own turn, which a transfer alone does not bring about.
    (connection as unknown as { _register(): void })._register();
  };

  const onFlow = internals.on_flow.bind(session);
  internals.on_flow = (frame) => {
    onFlow(frame);
    // rhea leaves it to us to answer (2.7.4: "echo").
    const { echo, handle } = frame.performative;
    if (!echo) return;
    if (typeof handle === 'number') internals._get_link(frame).issue_flow = true;
    else if (internals.state.local_open) internals._write_flow();
  };

  const onDisposition = internals.on_disposition.bind(session);
  internals.on_disposition = (frame) => {
    const { performative } = frame;
    const { deliveries, next_delivery_id: next } = performative.role ? outgoing : incoming;
    // rhea visits each id of the range, which may be all 2^32.
    const first = Math.max(performative.first, deliveries.first);
    const last = Math.min(performative.last ?? performative.first, next - 1);
    if (first > last) return;
    performative.first = first;
    performative.last = last;
    onDisposition(frame);
  };
  return session;
}

/** Forgets a delivery that is settled, in whatever order they are settled (R9). */
export function forget(link: RheaSender | RheaReceiver, delivery: Delivery): void {
  const { incoming, outgoing } = link.session as unknown as SessionInternals;
  (link.is_receiver() ? incoming : outgoing).deliveries.delete(delivery.id);
}
