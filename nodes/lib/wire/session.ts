import { EventEmitter } from 'node:events';
import { DESCRIPTOR } from '../codec/codes';
import type { PeerError } from '../errors';
import type { Disposition, Flow, MessageFrames, Transfer } from './frames';
import {
  type Answered,
  type EndSession,
  type LinkEnd,
  type LinkEndOptions,
  type OutgoingDelivery,
  ReceivingEnd,
  SendingEnd,
} from './link-end';
import type { Due, Output } from './output';
import { writeDisposition, writeFlow } from './performatives';
import { peerErrorOf } from './remote';
import { coordinator } from './typed';
import type { Attach, RheaLink, RheaSession } from './rhea';
import { Ring } from '../ring';
import { distance, serial } from './serial';

/** Frames that the peer may send before it is told of more. What bounds deliveries is credit. */
const INCOMING_WINDOW = 2048;
/** Descriptors of what a source and a target can be (3.5). */
const TERMINI = new Set<unknown>([DESCRIPTOR.source, DESCRIPTOR.target, 'amqp:source:list', 'amqp:target:list']);

/** What a session needs of its connection. */
export interface SessionUser {
  readonly output: Output;
  /** The most bytes of a frame that the peer takes. */
  readonly maxFrameSize: number;
  /** From now on the frames of messages on this channel of the peer are for the session; undefined: no more. */
  route(channel: number, session: Session | undefined): void;
  /** Bytes of deliveries that have not come whole: more, or fewer. Throws where that is too much. */
  hold?(bytes: number): void;
  /** What was thrown by who uses a link: it does not harm the connection. */
  fault(error: unknown): void;
}

/**
 * A session of which rhea does begin, attach, detach and end, and this the messages: transfers, dispositions and flows
 * (2.5.6). rhea's own are slow, mix up outcomes (R1), and stall (R9, R32, R33). Emits 'open' once the peer has begun,
 * and 'end' once it has ended, whoever was first.
 */
export class Session extends EventEmitter<{ open: []; end: [PeerError] }> implements MessageFrames, EndSession, Due {
  readonly channel: number;
  protected readonly rhea: RheaSession;
  readonly #user: SessionUser;
  /** Sent, and without an outcome that is final, by how many were before it: ids begin anew at 2^32. */
  readonly #unsettled = new Ring<OutgoingDelivery>();
  #deliveries = 0;
  readonly #ends = new Map<string, LinkEnd>();
  /** By the peer's handle. */
  readonly #byHandle = new Map<number, LinkEnd>();
  #firstOutgoingId = 0;
  #nextOutgoingId = 0;
  #nextDeliveryId = 0;
  /** Frames that the peer takes now. */
  #window = 0;
  #nextIncomingId = 0;
  /** The first transfer id beyond the window that the peer knows of. */
  #incomingEnd = INCOMING_WINDOW;
  /** Undefined before the first delivery. */
  #nextIncomingDelivery: number | undefined;
  /** Deliveries in a row that are to be settled with the same state. */
  #run: { first: number; last: number; state: Buffer; isSettled: boolean } | undefined;
  /** By their ids: deliveries whose state was sent, and that the peer has yet to settle (2.6.12, mode second). */
  readonly #unanswered = new Map<number, Answered>();
  /** Links of which the peer is to be told. */
  readonly #flows = new Set<LinkEnd>();
  #isFlowDue = false;
  /** Nothing may be written on it any more (2.5.5), though the peer may still write. */
  isEnded = false;

  constructor(user: SessionUser, rhea: RheaSession) {
    super();
    // Where the peer has only one session, each link listens.
    this.setMaxListeners(0);
    this.#user = user;
    this.rhea = rhea;
    this.channel = rhea.local.channel;
    rhea.local.begin.incoming_window = INCOMING_WINDOW;
    this.#intercept(rhea);
  }

  get output(): Output {
    return this.#user.output;
  }

  get maxFrameSize(): number {
    return this.#user.maxFrameSize;
  }

  /** True from the peer's begin to its end. */
  get isRemoteOpen(): boolean {
    return this.rhea.is_remote_open();
  }

  begin(): void {
    this.rhea.begin();
    this.countFromBegin();
  }

  /** Ids may begin anywhere (2.7.2). */
  protected countFromBegin(): void {
    this.#firstOutgoingId = this.rhea.local.begin.next_outgoing_id;
    this.#nextOutgoingId = this.#nextDeliveryId = this.#firstOutgoingId;
  }

  /**
   * Ends it once the peer has answered its begin: earlier, rhea frees the channel, and the late answer ends the
   * connection (R73).
   */
  end(): void {
    const { state } = this.rhea;
    if (state.remote_open || !state.local_open) this.#end();
    else this.once('open', () => this.#end());
  }

  #end(): void {
    this.writeDue();
    this.isEnded = true;
    this.rhea.close();
  }

  /** Attaches a link of that name. Throws when the fields cannot be encoded. */
  attachSender(name: string, options: LinkEndOptions): SendingEnd {
    const { isControlling, ...fields } = options;
    const link = this.rhea.attach_sender({ name, ...fields } as Parameters<RheaSession['attach_sender']>[0]);
    if (isControlling) (link as unknown as RheaLink).local.attach.target = coordinator();
    return this.addEnd(name, new SendingEnd(this, link));
  }

  attachReceiver(name: string, options: LinkEndOptions): ReceivingEnd {
    const link = this.rhea.attach_receiver({
      name,
      ...options,
      // R3, R5, R45: credit and settling are ours.
      autoaccept: false,
      credit_window: 0,
    } as Parameters<RheaSession['attach_receiver']>[0]);
    return this.addEnd(name, new ReceivingEnd(this, link, options.max_message_size));
  }

  protected addEnd<E extends LinkEnd>(name: string, end: E): E {
    this.#ends.set(name, end);
    return end;
  }

  /** For a link end: takes back an attach that was not written yet. */
  remove(name: string): void {
    this.#ends.delete(name);
  }

  /** Takes from rhea what it does wrong, and the messages. */
  #intercept(rhea: RheaSession): void {
    // rhea writes a flow of its own when it takes the window for used up.
    rhea.incoming.max_transfer_id = Infinity;
    rhea._write_flow = () => {};

    const onBegin = rhea.on_begin.bind(rhea);
    rhea.on_begin = (frame) => {
      const { next_outgoing_id: next, incoming_window: window } = frame.performative;
      this.#nextIncomingId = next;
      this.#incomingEnd = serial(next, INCOMING_WINDOW);
      this.#window = window;
      this.#user.route(frame.channel, this);
      onBegin(frame);
      rhea.incoming.max_transfer_id = Infinity;
      this.emit('open');
    };
    const onEnd = rhea.on_end.bind(rhea);
    rhea.on_end = (frame) => {
      this.#user.route(frame.channel, undefined);
      this.isEnded = true;
      onEnd(frame);
      this.emit('end', peerErrorOf(rhea.error));
    };
    const onAttach = rhea.on_attach.bind(rhea);
    rhea.on_attach = (frame) => {
      this.#answered(frame.performative);
      onAttach(frame);
    };
    const onDetach = rhea.on_detach.bind(rhea);
    rhea.on_detach = (frame) => {
      const { handle } = frame.performative;
      const end = this.#byHandle.get(handle);
      this.#byHandle.delete(handle);
      if (end && this.#ends.get(end.name) === end) this.#ends.delete(end.name);
      onDetach(frame);
    };
  }

  /** Before an attach of the peer comes to rhea. */
  #answered(attach: Attach): void {
    // R20: rhea complains on the console of what it does not know.
    for (const terminus of ['source', 'target'] as const) {
      if (!TERMINI.has(attach[terminus]?.descriptor?.value)) attach[terminus] = null;
    }
    const end = this.endOf(attach);
    // R6: some begin to count elsewhere than at 0.
    if (end instanceof ReceivingEnd) end.deliveryCount = attach.initial_delivery_count ?? 0;
    this.#byHandle.set(attach.handle, end);
  }

  /** Our end of the link that the peer attaches. */
  protected endOf({ name }: Attach): LinkEnd {
    const end = this.ownEnd(name);
    // R74: rhea would make a link of any that the peer attaches, in any number.
    if (!end) throw new Error('the peer attaches a link of its own');
    return end;
  }

  protected ownEnd(name: string): LinkEnd | undefined {
    return Object.hasOwn(this.rhea.links, name) ? this.#ends.get(name) : undefined;
  }

  // What comes

  onTransfer(transfer: Transfer): void {
    this.#nextIncomingId = serial(this.#nextIncomingId);
    if (distance(this.#nextIncomingId, this.#incomingEnd) < INCOMING_WINDOW / 2) this.#flowDue();
    const end = this.#byHandle.get(transfer.handle);
    if (!(end instanceof ReceivingEnd)) throw new Error('the peer sent a message on a wrong handle');
    end.onTransfer(transfer);
  }

  /** For a link end: checks the id of a delivery that begins (2.7.5). */
  expect(id: number): void {
    const expected = this.#nextIncomingDelivery ?? id;
    if (id !== expected) throw new Error(`the peer sent delivery ${id} where ${expected} is next`);
    this.#nextIncomingDelivery = serial(id);
  }

  onFlow({ nextIncomingId, incomingWindow, nextOutgoingId, handle, echo, ...flow }: Flow): void {
    // Unset before the peer has had our begin (2.7.4): then it counts from our first id.
    const wasShut = this.#window <= 0;
    this.#window = distance(this.#nextOutgoingId, nextIncomingId ?? this.#firstOutgoingId) + incomingWindow;
    this.#nextIncomingId = nextOutgoingId;
    if (wasShut && this.#window > 0) for (const end of this.#ends.values()) if (end instanceof SendingEnd) end.resume();
    if (handle === undefined) {
      if (echo) this.#flowDue();
      return;
    }
    const end = this.#byHandle.get(handle);
    if (!end) throw new Error('the peer sent a flow on a wrong handle');
    end.onFlow(flow);
    if (echo && !end.isDetached) this.flowDue(end);
  }

  onDisposition({ role, first, last: end, isSettled, state }: Disposition): void {
    // What the peer has settled itself we need not settle, but may.
    if (!role) return isSettled ? this.#onAnswer(first, end, state) : undefined;
    // R76: the range may be all 2^32; of these only those count that were sent by now.
    const newest = serial(this.#nextDeliveryId, -1);
    const last = distance(newest, end) > 0 ? newest : end;
    // `received` is no end, and a state that is not of messaging says nothing to us (3.4).
    const descriptor = state?.descriptor === DESCRIPTOR.received ? undefined : state?.descriptor;
    if (!isSettled && descriptor === undefined) return;
    const width = distance(first, last) + 1;
    const outcome = { descriptor, bytes: state?.bytes };
    let isAny = false;
    if (width <= this.#unsettled.size) {
      for (let number = this.#numberOf(first), left = width; left > 0; left--, number++)
        isAny = this.#settled(this.#unsettled.get(number), outcome) || isAny;
    } else {
      for (const delivery of this.#unsettled.values()) {
        const from = distance(first, delivery.id);
        if (from >= 0 && from < width) isAny = this.#settled(delivery, outcome) || isAny;
      }
    }
    // R7: a peer may give the outcome and leave the settling to us.
    if (!isSettled && isAny && !this.isEnded)
      writeDisposition(this.output, this.channel, false, first, last, state!.bytes);
  }

  #onAnswer(first: number, last: number, state: Disposition['state']): void {
    const width = distance(first, last);
    for (const [id, answered] of this.#unanswered) {
      const from = distance(first, id);
      if (from < 0 || from > width) continue;
      this.#unanswered.delete(id);
      answered({ descriptor: state?.descriptor, bytes: state?.bytes });
    }
  }

  /** False for one that is settled already. */
  #settled(delivery: OutgoingDelivery | undefined, outcome: { descriptor?: number; bytes?: Buffer }): boolean {
    if (!delivery) return false;
    this.forget(delivery);
    delivery.end!.settled(delivery, outcome);
    return true;
  }

  // What goes

  /** For a link end: frames that may be sent now. */
  get window(): number {
    return this.#window;
  }

  /** For a link end: takes one frame of the window. */
  takeWindow(): void {
    this.#window--;
    this.#nextOutgoingId = serial(this.#nextOutgoingId);
  }

  /** For a link end: the id of a delivery that begins. */
  takeId(): number {
    const id = this.#nextDeliveryId;
    this.#nextDeliveryId = serial(id);
    this.#deliveries++;
    return id;
  }

  /** For a link end: waits for the outcome of a delivery. */
  keep(delivery: OutgoingDelivery): void {
    this.#unsettled.set(this.#numberOf(delivery.id), delivery);
  }

  /** For a link end: waits for it no more. */
  forget({ id }: OutgoingDelivery): void {
    this.#unsettled.take(this.#numberOf(id));
  }

  /** For a link end: what is waited for, in the order in which it was sent. */
  get unsettled(): Iterable<OutgoingDelivery> {
    return this.#unsettled.values();
  }

  #numberOf(id: number): number {
    return this.#deliveries - distance(id, this.#nextDeliveryId);
  }

  /**
   * For a link end: settles a delivery that came, with the state, which is encoded. `answered`: it is the peer that
   * settles it then, with a state of its own.
   */
  settle(id: number, state: Buffer, answered?: Answered): void {
    const isSettled = answered === undefined;
    if (answered) this.#unanswered.set(id, answered);
    const run = this.#run;
    const isNext = run && id === serial(run.last) && isSettled === run.isSettled;
    if (isNext && (state === run.state || state.equals(run.state))) {
      run.last = id;
      return;
    }
    this.#writeRun();
    this.#run = { first: id, last: id, state, isSettled };
    this.output.put(this);
  }

  /** For a link end: nobody waits for the peer's answer any more. */
  forgetAnswer(id: number): void {
    this.#unanswered.delete(id);
  }

  /** For a link end: the peer is to be told of its credit. */
  flowDue(end: LinkEnd): void {
    this.#flows.add(end);
    this.output.put(this);
  }

  #flowDue(): void {
    if (this.#isFlowDue) return;
    this.#isFlowDue = true;
    this.output.put(this);
  }

  /** For the output. */
  writeDue(): void {
    if (this.isEnded) return;
    this.#writeRun();
    if (!this.#isFlowDue && this.#flows.size === 0) return;
    this.#incomingEnd = serial(this.#nextIncomingId, INCOMING_WINDOW);
    const windows = {
      nextIncomingId: this.#nextIncomingId,
      incomingWindow: INCOMING_WINDOW,
      nextOutgoingId: this.#nextOutgoingId,
    };
    if (this.#flows.size === 0) writeFlow(this.output, this.channel, windows);
    for (const end of this.#flows) writeFlow(this.output, this.channel, windows, end);
    this.#flows.clear();
    this.#isFlowDue = false;
  }

  #writeRun(): void {
    const run = this.#run;
    if (!run) return;
    this.#run = undefined;
    writeDisposition(this.output, this.channel, true, run.first, run.last, run.state, run.isSettled);
  }

  /** For a link end. */
  hold(bytes: number): void {
    this.#user.hold?.(bytes);
  }

  /** For a link end. */
  fault(error: unknown): void {
    this.#user.fault(error);
  }
}
