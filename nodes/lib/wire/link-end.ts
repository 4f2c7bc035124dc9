import { EventEmitter } from 'node:events';
import rhea, { type Receiver, type Sender } from 'rhea';
import type { PeerError } from '../errors';
import type { Transfer } from './frames';
import type { Output } from './output';
import { type LinkFlow, TRANSFER_SIZE, writeTransfer } from './performatives';
import { peerErrorOf, type RemoteSource, sourceOf } from './remote';
import type { RheaLink, RheaTypes } from './rhea';
import { distance, serial } from './serial';

/** The largest message that is taken where a link does not say (R78). */
const MAX_MESSAGE_SIZE = 64 * 2 ** 20;
/** Deliveries beyond credit that are taken before the connection is closed (R30). */
const MAX_DELIVERIES = 5000;
const NOTHING = Buffer.alloc(0);

/** Fields of an attach (2.7.3), named as rhea does. */
export interface LinkEndOptions {
  source?: object;
  target?: object;
  snd_settle_mode?: number;
  rcv_settle_mode?: number;
  properties?: object;
  max_message_size?: number;
  /** The target is what coordinates transactions (4.5.1). */
  isControlling?: boolean;
}

/** What the ends of links need of their session. */
export interface EndSession {
  /** Nothing may be written on it any more (2.5.5), though the peer may still write. */
  readonly isEnded: boolean;
  readonly output: Output;
  readonly channel: number;
  readonly maxFrameSize: number;
  /** Frames that may be sent now. */
  readonly window: number;
  /** Deliveries that were sent and have no outcome that is final, in that order. */
  readonly unsettled: Iterable<OutgoingDelivery>;
  keep(delivery: OutgoingDelivery): void;
  forget(delivery: OutgoingDelivery): void;
  /** Takes one frame of the window. */
  takeWindow(): void;
  /** The id of a delivery that begins. */
  takeId(): number;
  /** Checks the id of a delivery that begins to come (2.7.5). */
  expect(id: number): void;
  /** Settles a delivery that came, with the state, which is encoded; with `answered` only once the peer has. */
  settle(id: number, state: Buffer, answered?: Answered): void;
  forgetAnswer(id: number): void;
  /** The peer is to be told of the link's credit. */
  flowDue(end: LinkEnd): void;
  /** Takes back an attach that was not written yet. */
  remove(name: string): void;
  /** Bytes of deliveries that have not come whole: more, or fewer. Throws where that is too much. */
  hold(bytes: number): void;
  /** What was thrown by who uses a link: it does not harm the connection (R11, R36). */
  fault(error: unknown): void;
}

/** Called when the peer settles a delivery that it sent, with its own state. */
export type Answered = (outcome: { descriptor?: number; bytes?: Buffer }) => void;

/** A terminus of the peer. */
interface Terminus {
  address?: unknown;
}

/**
 * One end of a link, from its attach to its loss: ours. Attaching and detaching is rhea's, the messages are ours. Emits
 * 'open' when the peer has attached, and 'close' when it has detached, whoever was first.
 */
export abstract class LinkEnd extends EventEmitter<{ open: []; close: [PeerError] }> implements LinkFlow {
  readonly handle: number;
  deliveryCount = 0;
  credit = 0;
  drain = false;
  // Read once, when the peer attaches: rhea unwraps what its attach says each time (R85).
  /** The address of the peer's source; undefined when it named none. */
  sourceAddress: string | undefined;
  targetAddress: string | undefined;
  /** The most bytes of a message that the peer takes. */
  maxMessageSize = Infinity;
  /** Nothing may be written for it any more, though the peer may still write. */
  isDetached = false;
  protected readonly session: EndSession;
  readonly #rhea: RheaLink;

  constructor(session: EndSession, link: Sender | Receiver) {
    super();
    this.session = session;
    this.#rhea = link as unknown as RheaLink;
    this.handle = this.#rhea.local.handle;
    const role = link.is_receiver() ? 'receiver' : 'sender';
    link.on(`${role}_open`, () => {
      this.sourceAddress = addressOf(link.source);
      this.targetAddress = addressOf(link.target);
      // R24: rhea gives a Buffer for limits beyond 2^53; 0 and null stand for none.
      const limit: unknown = link.max_message_size;
      if (typeof limit === 'number' && limit > 0) this.maxMessageSize = limit;
      this.emit('open');
    });
    link.on(`${role}_error`, () => {});
    link.on(`${role}_close`, () => {
      // R22, R46: by itself rhea answers with closed=true, which deletes a durable subscription. Later is a leak.
      this.detach(this.#rhea.remote.detach?.closed === true);
      this.emit('close', peerErrorOf(link.error));
    });
  }

  get name(): string {
    return this.#rhea.name;
  }

  /** What the peer has made of the source. */
  get source(): RemoteSource {
    return sourceOf(this.#rhea.source, this.#rhea.offered_capabilities);
  }

  /** The most bytes of a frame that the peer takes. */
  get maxFrameSize(): number {
    return this.session.maxFrameSize;
  }

  /** Bytes of the attach on the wire. */
  get attachSize(): number {
    const { Writer } = rhea.types as unknown as RheaTypes;
    const writer = new Writer();
    writer.write(this.#rhea.local.attach);
    return writer.toBuffer().length + 8;
  }

  /** Detaches. With `closed` the peer keeps nothing of the terminus (2.6.4). */
  detach(closed: boolean, error?: PeerError): void {
    // What was said first holds: rhea would write what was said last.
    if (this.isDetached && !this.session.isEnded) return;
    this.isDetached = true;
    if (error) this.#rhea.local.detach.error = error;
    // R90: rhea writes it all the same, also by itself when the peer detaches, and the peer ends the connection over it.
    if (this.session.isEnded) this.#rhea.state.local_open = false;
    else if (closed) this.#rhea.close();
    else this.#rhea.detach();
  }

  /** Takes the attach back, which was not written yet. */
  remove(): void {
    this.#rhea.remove();
    this.session.remove(this.name);
  }

  /** For the session. */
  abstract onFlow(flow: { deliveryCount?: number; credit?: number; drain: boolean }): void;

  /** Calls who uses the link: what is thrown there does not harm the connection (R11, R36). */
  protected guarded(callback: () => void): void {
    try {
      callback();
    } catch (error) {
      this.session.fault(error);
    }
  }
}

/** A delivery that is sent. */
export interface OutgoingDelivery {
  id: number;
  end?: SendingEnd;
  /** The message-format, where it is not 0. */
  readonly format?: number;
  /** Of the transaction that it belongs to, encoded. */
  state?: Buffer | undefined;
}

/** What a sending end calls. */
export interface SendingUser {
  /** The peer has given credit, or taken frames again. */
  ready(): void;
  /** The peer wants its credit back. */
  draining(): void;
  /** A pre-settled delivery was written, all of it. */
  written(delivery: OutgoingDelivery): void;
  /** The peer has settled a delivery. `descriptor` and `bytes`: of the state, if it has one that is an outcome. */
  settled(delivery: OutgoingDelivery, outcome: { descriptor?: number; bytes?: Buffer }): void;
}

export class SendingEnd extends LinkEnd {
  user: SendingUser | undefined;
  /** What of a delivery the session's window has kept back. */
  #rest: { delivery: OutgoingDelivery; bytes: Buffer; at: number; isSettled: boolean } | undefined;

  /** Whether a delivery can be sent now. */
  get isReady(): boolean {
    return this.credit > 0 && this.#rest === undefined && this.session.window > 0;
  }

  /** To be called while the end is ready. */
  send(delivery: OutgoingDelivery, bytes: Buffer, isSettled: boolean): void {
    const id = this.session.takeId();
    delivery.id = id;
    delivery.end = this;
    this.credit--;
    this.deliveryCount = serial(this.deliveryCount);
    if (!isSettled) this.session.keep(delivery);
    this.#write(delivery, bytes, 0, isSettled);
  }

  /** Whether all of what was sent has been written. */
  get isWritten(): boolean {
    return this.#rest === undefined;
  }

  /** Goes on with what the session's window has kept back. */
  resume(): void {
    const rest = this.#rest;
    this.#rest = undefined;
    if (rest) this.#write(rest.delivery, rest.bytes, rest.at, rest.isSettled);
    this.guarded(() => this.user?.ready());
  }

  #write(delivery: OutgoingDelivery, bytes: Buffer, start: number, isSettled: boolean): void {
    const { session, handle } = this;
    const { state } = delivery;
    const most = session.maxFrameSize - TRANSFER_SIZE - (state ? state.length : 0);
    let from = start;
    do {
      if (session.window <= 0) {
        this.#rest = { delivery, bytes, at: from, isSettled };
        return;
      }
      const to = Math.min(bytes.length, from + most);
      session.takeWindow();
      const { id, format = 0 } = delivery;
      const more = to < bytes.length;
      const head = { channel: session.channel, handle, id, format, isSettled, more, state };
      writeTransfer(session.output, head, bytes, from, to);
      from = to;
    } while (from < bytes.length);
    if (isSettled) this.guarded(() => this.user?.written(delivery));
  }

  /** Uses up the credit that is left, and tells the peer so (2.6.7). */
  drained(): void {
    this.deliveryCount = serial(this.deliveryCount, this.credit);
    this.credit = 0;
    this.session.flowDue(this);
  }

  /** Lets go of a delivery: its outcome goes nowhere. */
  forget(delivery: OutgoingDelivery): void {
    this.session.forget(delivery);
  }

  /** Lets go of all deliveries, and returns those without an end in the order in which they were sent. */
  forgetAll(): OutgoingDelivery[] {
    const all = [...this.session.unsettled].filter(({ end }) => end === this);
    for (const delivery of all) this.session.forget(delivery);
    // One that is pre-settled ends when all of it is written.
    if (this.#rest?.isSettled) all.push(this.#rest.delivery);
    this.#rest = undefined;
    return all;
  }

  /** For the session. */
  settled(delivery: OutgoingDelivery, outcome: { descriptor?: number; bytes?: Buffer }): void {
    try {
      this.user?.settled(delivery, outcome);
    } catch (error) {
      this.session.fault(error);
    }
  }

  override onFlow({ deliveryCount, credit, drain }: { deliveryCount?: number; credit?: number; drain: boolean }): void {
    // Unset before the peer has had our attach (2.7.4): then it counts from 0.
    if (credit !== undefined) this.credit = Math.max(0, distance(this.deliveryCount, deliveryCount ?? 0) + credit);
    this.drain = drain;
    this.guarded(() => {
      if (drain) this.user?.draining();
      else if (this.credit > 0) this.user?.ready();
    });
  }
}

/** A delivery that came. */
export interface IncomingDelivery {
  id: number;
  /** In hexadecimal. */
  tag: string;
  format: number;
  /** The peer has settled it already. */
  isSettled: boolean;
  /** Empty for one that is larger than the link takes. */
  bytes: Buffer;
  isTooLarge?: true;
}

/** A delivery of which more frames are to come. */
interface Partial {
  delivery: IncomingDelivery;
  chunks: Buffer[];
  /** Bytes that have come, and those of them that are kept. */
  size: number;
  held: number;
}

/** What a receiving end calls. */
export interface ReceivingUser {
  message(delivery: IncomingDelivery): void;
  /** The peer has used up the credit, as it was asked to. */
  drained(): void;
}

export class ReceivingEnd extends LinkEnd {
  user: ReceivingUser | undefined;
  /** The most bytes of a message that the link has said it takes. */
  readonly #limit: number;
  /** Deliveries that came, and that we have not settled. */
  #held = 0;
  /** A delivery of which more frames are to come. */
  #partial: Partial | undefined;

  constructor(session: EndSession, link: Receiver, limit = Infinity) {
    super(session, link);
    this.#limit = limit;
    this.once('close', () => this.#endPartial());
  }

  /** Sets the credit, and tells the peer. */
  setCredit(credit: number): void {
    this.credit = credit;
    this.session.flowDue(this);
  }

  addCredit(credit: number): void {
    if (credit > 0) this.setCredit(this.credit + credit);
  }

  /** Has the peer send at once what it has, up to the credit, and use up the rest. */
  startDrain(): void {
    this.drain = true;
    this.session.flowDue(this);
  }

  /** Settles a delivery with a state, which is encoded; with `answered`, once the peer has settled it with its own. */
  settle({ id, isSettled }: IncomingDelivery, state: Buffer, answered?: Answered): void {
    this.#held--;
    if (!isSettled) this.session.settle(id, state, answered);
  }

  /** Nobody waits for the peer's answer any more. */
  forgetAnswer({ id }: IncomingDelivery): void {
    this.session.forgetAnswer(id);
  }

  /** For the session. */
  onTransfer(transfer: Transfer): void {
    const { deliveryId, more, isAborted, payload } = transfer;
    const partial = this.#partial;
    if (!partial) {
      const delivery = this.#begin(transfer);
      if (isAborted) this.#count();
      else if (more) {
        this.#partial = { delivery, chunks: [], size: 0, held: 0 };
        this.#keep(this.#partial, payload);
      } else if (payload.length > this.#limit) this.#refuse(delivery);
      else this.#deliver(delivery);
      return;
    }
    const { delivery } = partial;
    if (deliveryId !== undefined && deliveryId !== delivery.id)
      throw new Error(`the peer sent delivery ${deliveryId} before all of ${delivery.id}`);
    if (isAborted) {
      this.#endPartial();
      return this.#count();
    }
    this.#keep(partial, payload);
    if (transfer.isSettled) delivery.isSettled = true;
    if (more) return;
    this.#endPartial();
    if (partial.size > this.#limit) return this.#refuse(delivery);
    delivery.bytes = Buffer.concat(partial.chunks, partial.size);
    this.#deliver(delivery);
  }

  /** Of a message that is too large nothing is kept. */
  #keep(partial: Partial, payload: Buffer): void {
    partial.size += payload.length;
    if (partial.size > this.#limit) {
      partial.chunks = [];
      this.session.hold(-partial.held);
      partial.held = 0;
    } else if (partial.size > MAX_MESSAGE_SIZE) {
      throw new Error(`the peer sent a message of more than ${MAX_MESSAGE_SIZE} bytes`);
    } else {
      partial.chunks.push(payload);
      partial.held += payload.length;
      this.session.hold(payload.length);
    }
  }

  #endPartial(): void {
    if (this.#partial) this.session.hold(-this.#partial.held);
    this.#partial = undefined;
  }

  /** Not every peer heeds what a link takes: it is told of each such message. */
  #refuse(delivery: IncomingDelivery): void {
    delivery.bytes = NOTHING;
    delivery.isTooLarge = true;
    this.#deliver(delivery);
  }

  #begin({ deliveryId: id, tag, format, isSettled, isAborted, payload }: Transfer): IncomingDelivery {
    // An abort may come where all that it aborts was never sent.
    if (id === undefined || (tag === undefined && !isAborted))
      throw new Error('the peer sent a message without id or tag');
    this.session.expect(id);
    if (this.credit === 0 && this.#held > MAX_DELIVERIES)
      throw new Error(`the peer sent more than ${MAX_DELIVERIES} messages without credit`);
    return { id, tag: tag ?? '', format: format ?? 0, isSettled, bytes: payload };
  }

  /** Each delivery uses credit, also one that comes without (R30), or not whole. */
  #count(): void {
    if (this.credit > 0) this.credit--;
    this.deliveryCount = serial(this.deliveryCount);
  }

  #deliver(delivery: IncomingDelivery): void {
    this.#count();
    this.#held++;
    try {
      this.user?.message(delivery);
    } catch (error) {
      this.session.fault(error);
    }
  }

  override onFlow({ deliveryCount, credit, drain }: { deliveryCount?: number; credit?: number; drain: boolean }): void {
    // R48: some peers answer to drain with credit left, and that is all they answer.
    if (!drain) return;
    if (credit !== undefined) this.credit = credit;
    if (credit !== 0) return;
    if (deliveryCount !== undefined) this.deliveryCount = deliveryCount;
    this.guarded(() => this.user?.drained());
  }
}

function addressOf(terminus: Terminus | undefined | null): string | undefined {
  const { address } = terminus ?? {};
  return typeof address === 'string' ? address : undefined;
}
