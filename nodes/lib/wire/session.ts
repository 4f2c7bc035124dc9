import rhea, {
  type Connection as RheaConnection,
  type Delivery,
  type Receiver as RheaReceiver,
  type Sender as RheaSender,
  type Session,
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
/** Deliveries beyond credit that are forgiven (R30). */
const MAX_DELIVERIES = 5000;

interface Described {
  descriptor?: { value: unknown };
}

interface Frame {
  payload?: Buffer;
  performative: {
    message_format?: number;
    delivery_id?: number | null;
    delivery_tag?: Buffer | null;
    aborted?: boolean;
    role: boolean;
    first: number;
    last?: number | null;
    state?: Described | null;
    handle?: number | null;
    echo?: boolean;
    drain?: boolean;
    link_credit?: number | null;
    delivery_count?: number | null;
    next_incoming_id?: number | null;
  };
}

interface AttachFrame {
  performative: {
    name: string;
    source?: Described | null;
    target?: Described | null;
    initial_delivery_count?: number | null;
  };
}

interface Deliveries {
  available(): number;
}

/** What is used here of rhea's links beyond its typings. */
type RheaLink = (RheaReceiver | RheaSender) & {
  credit: number;
  delivery_count: number;
  issue_flow: boolean;
  _incomplete?: Delivery;
};

/** What is used here of rhea's session beyond its typings. */
export interface SessionInternals {
  incoming: {
    deliveries: Unsettled;
    /** Undefined before the first. */
    next_delivery_id?: number;
    next_transfer_id: number;
    max_transfer_id: number;
  };
  outgoing: { deliveries: Unsettled; next_delivery_id: number; next_transfer_id: number };
  links: Record<string, RheaLink>;
  on_attach(frame: AttachFrame): void;
  on_transfer(frame: Frame): void;
  on_disposition(frame: Frame): void;
  on_flow(frame: Frame): void;
  _write_flow(): void;
  _get_link(frame: Frame): RheaLink;
  output(frame: Record<string, unknown>, payload?: Buffer): void;
  state: { local_open: boolean; remote_open: boolean };
}

/**
 * The deliveries of a session that are not settled yet, in place of rhea's ring buffer, which frees only its oldest
 * entry: there one delivery held back stalls the link after 2047 later ones (R32).
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

/**
 * Ids and counts are serial numbers of 32 bits, which go on at 0 (2.8.10, RFC 1982). rhea counts on beyond that: so what
 * comes is given to it as a number that goes on too, and what it writes is cut.
 */
const SERIAL = 2 ** 32;
const SERIAL_FIELDS = ['delivery_id', 'first', 'last', 'delivery_count'];

/** The number that a serial number stands for: of those alike the one next to `near`. */
function unwrapped(serial: number, near: number): number {
  return near + ((serial - near) | 0);
}

const OUTCOMES = new Set<unknown>(
  ['received', 'accepted', 'rejected', 'released', 'modified'].flatMap((name, index) => [
    0x23 + index,
    `amqp:${name}:list`,
  ]),
);
const TERMINI = new Set<unknown>([0x28, 0x29, 'amqp:source:list', 'amqp:target:list']);

/** A new session on which rhea leaves the message to us, and takes what it otherwise loses the connection over. */
export function ownSession(connection: RheaConnection): Session {
  const session = connection.create_session();
  const internals = session as unknown as SessionInternals;
  const { incoming, outgoing } = internals;
  incoming.deliveries = new Unsettled();
  outgoing.deliveries = new Unsettled();

  const output = internals.output.bind(session);
  internals.output = (frame, payload) => {
    for (const name of SERIAL_FIELDS) {
      const value = frame[name];
      if (typeof value === 'number' && value >= SERIAL) frame[name] = value % SERIAL;
    }
    output(frame, payload);
  };

  const onAttach = internals.on_attach.bind(session);
  internals.on_attach = (frame) => {
    const { performative } = frame;
    // rhea would make a link of any that the peer attaches, in any number.
    if (!Object.hasOwn(internals.links, performative.name)) throw new Error('the peer attaches a link of its own');
    // R20: rhea complains on the console of what it does not know.
    for (const terminus of ['source', 'target'] as const) {
      if (!TERMINI.has(performative[terminus]?.descriptor?.value)) performative[terminus] = null;
    }
    const link = internals.links[performative.name]!;
    // R6: rhea begins at 0, and asks for more or less than it wants.
    if (link.is_receiver()) link.delivery_count = performative.initial_delivery_count ?? 0;
    onAttach(frame);
  };

  const sizes = new Map<RheaLink, number>();
  /** rhea compares the two, of which it keeps one within 32 bits. */
  const keepWindow = (): void => {
    incoming.next_transfer_id %= SERIAL;
    incoming.max_transfer_id = unwrapped(incoming.max_transfer_id, incoming.next_transfer_id);
  };
  const onTransfer = internals.on_transfer.bind(session);
  internals.on_transfer = (frame) => {
    const { performative } = frame;
    const receiver = internals._get_link(frame);
    // R37: one bad frame would end the connection, with all links on it.
    if (performative.aborted) {
      incoming.next_transfer_id++;
      keepWindow();
      if (receiver._incomplete) incoming.deliveries.delete(receiver._incomplete.id);
      receiver._incomplete = undefined;
      return;
    }
    // R8, R12: only an undefined message-format keeps rhea from decoding the message.
    if (performative.message_format === 0) performative.message_format = undefined;
    const { delivery_id: id, delivery_tag: tag } = performative;
    // rhea would throw at the disposition, where nobody catches it.
    if (!receiver._incomplete && (typeof id !== 'number' || !tag)) throw new Error('a transfer without id or tag');
    if (typeof id === 'number' && incoming.next_delivery_id !== undefined)
      performative.delivery_id = unwrapped(id, incoming.next_delivery_id);
    const size = (receiver._incomplete ? (sizes.get(receiver) ?? 0) : 0) + (frame.payload?.length ?? 0);
    if (size > MAX_MESSAGE_SIZE) throw new Error(`the peer sent a message of more than ${MAX_MESSAGE_SIZE} bytes`);
    sizes.set(receiver, size);
    if (receiver.credit === 0 && incoming.deliveries.size > MAX_DELIVERIES)
      throw new Error(`the peer sent more than ${MAX_DELIVERIES} messages without credit`);
    // R30: some peers send more than their credit; rhea complains of that on the console.
    if (receiver.credit === 0) receiver.credit = 1;
    onTransfer(frame);
    keepWindow();
    // R33: rhea opens the session's window again only in its own turn, which a transfer alone does not bring about.
    (connection as unknown as { _register(): void })._register();
  };

  const onFlow = internals.on_flow.bind(session);
  internals.on_flow = (frame) => {
    const { performative } = frame;
    const { echo, handle, delivery_count: count, next_incoming_id: next } = performative;
    if (typeof next === 'number') performative.next_incoming_id = unwrapped(next, outgoing.next_transfer_id);
    const link = typeof handle === 'number' ? internals._get_link(frame) : undefined;
    if (link && typeof count === 'number') performative.delivery_count = unwrapped(count, link.delivery_count);
    // R20, R48: some peers answer to drain with credit left; rhea complains on the console, and says nothing else.
    if (link?.is_receiver() && performative.drain && performative.link_credit !== 0) {
      link.credit = performative.link_credit ?? link.credit;
      performative.drain = false;
    }
    onFlow(frame);
    keepWindow();
    // rhea leaves it to us to answer (2.7.4: "echo").
    if (!echo) return;
    if (link) link.issue_flow = true;
    else if (internals.state.local_open) internals._write_flow();
  };

  const onDisposition = internals.on_disposition.bind(session);
  internals.on_disposition = (frame) => {
    const { performative } = frame;
    const { deliveries, next_delivery_id: next } = performative.role ? outgoing : incoming;
    if (next === undefined) return;
    // R20: of an outcome that it does not know rhea complains on the console. What is settled has ended all the same.
    if (performative.state && !OUTCOMES.has(performative.state.descriptor?.value))
      Object.defineProperty(performative, 'state', { value: undefined });
    const first = unwrapped(performative.first, next);
    const last = first + (((performative.last ?? performative.first) - performative.first) >>> 0);
    // rhea visits each id of the range, which may be all 2^32.
    performative.first = Math.max(first, deliveries.first);
    performative.last = Math.min(last, next - 1);
    if (performative.first > performative.last) return;
    onDisposition(frame);
  };
  return session;
}

/** Bytes of a performative on the wire, with the head of its frame. */
export function sizeOf(performative: object): number {
  const { Writer } = rhea.types as unknown as {
    Writer: new () => { write(value: object): void; toBuffer(): Buffer };
  };
  const writer = new Writer();
  writer.write(performative);
  return writer.toBuffer().length + 8;
}

/** Forgets a delivery that is settled, in whatever order they are settled (R32). */
export function forget(link: RheaSender | RheaReceiver, delivery: Delivery): void {
  const { incoming, outgoing } = link.session as unknown as SessionInternals;
  (link.is_receiver() ? incoming : outgoing).deliveries.delete(delivery.id);
}
