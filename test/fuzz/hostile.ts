// A peer that behaves up to a stage, and the frames of which its side of a conversation is made.
import { EventEmitter } from 'node:events';
import type * as net from 'node:net';
import * as amqp from './frames';

/** How far the peer behaves. `delivering`: also the first frame of a message has come. */
export const STAGES = ['header', 'sasl', 'open', 'begin', 'attach', 'attached', 'delivering'] as const;
export type Stage = (typeof STAGES)[number];

/** A link of the endpoint under test. */
export interface Link {
  name: string;
  channel: number;
  handle: number;
  /** The endpoint sends on it. */
  isSender: boolean;
  fields: unknown[];
  credit: number;
  nextId: number;
  /** Messages that the peer has sent on it, from where it began to count. */
  count: number;
  /** Ids of the deliveries that have come. */
  inFlight: number[];
}

export const INBOUND = ['receiver', 'responder:request', 'requester:reply'];
export const LINKS = [...INBOUND, 'sender', 'requester:request', 'responder:reply'];

/** Where the peer begins to count what it sends. */
export interface Beginnings {
  transferId: number;
  deliveryId: number;
  deliveryCount: number;
}

export interface Manners {
  maxFrameSize?: number;
  begins?: Partial<Beginnings>;
  /** The credit that it gives. */
  credit?: number;
  /** Frames that it takes on a session, as it says. */
  window?: number;
}

/** The least that any peer takes (2.7.1), and all that it takes before it has opened. */
const MIN_MAX_FRAME_SIZE = 512;

/**
 * Answers what the endpoint asks, as far as the stage goes. Emits 'frame' after each that has come, 'fault' at one that must
 * not be, in the end 'over'.
 */
export class Peer extends EventEmitter<{ frame: [amqp.Frame]; fault: [string]; over: [] }> {
  readonly links = new Map<string, Link>();
  readonly socket: net.Socket;
  readonly stage: Stage;
  isOver = false;
  /** The stage is reached. */
  isReady = false;
  /** It accepts what comes. */
  accepts = false;
  frames = 0;
  readonly #reader = new amqp.FrameReader();
  readonly #manners: Manners;
  /** The largest frame that the endpoint may send. */
  #limit = MIN_MAX_FRAME_SIZE;

  constructor(socket: net.Socket, stage: Stage, manners: Manners = {}) {
    super();
    this.socket = socket;
    this.stage = stage;
    this.#manners = manners;
    socket.setNoDelay(true);
    // A case may wait for many writes at a time.
    this.setMaxListeners(0);
    const over = (): void => {
      this.isOver = true;
      socket.destroy();
      this.emit('over');
    };
    socket.on('error', over).on('end', over).on('close', over);
    socket.on('data', (chunk) => {
      for (const frame of this.#reader.read(chunk)) {
        this.frames++;
        if (frame.size > this.#limit)
          this.emit('fault', `a frame (${frame.code}) of ${frame.size} bytes to a peer that takes ${this.#limit}`);
        if (frame.isHeader) this.#greet(frame.code!);
        else this.#answer(frame);
        this.emit('frame', frame);
      }
    });
  }

  /** Resolves when it is written, or the connection is over. */
  write(bytes: Buffer): Promise<void> {
    return new Promise((resolve) => {
      if (this.isOver) return resolve();
      this.once('over', resolve);
      this.socket.write(bytes, () => {
        this.off('over', resolve);
        resolve();
      });
    });
  }

  send(...plans: amqp.Plan[]): void {
    if (!this.isOver) for (const plan of plans) this.socket.write(amqp.write(plan));
  }

  /** The link of that name; one that is not there, if there is none. */
  link(name: string): Link {
    return this.links.get(name) ?? { ...NONE, name, inFlight: [] };
  }

  isBeyond(stage: Stage): boolean {
    return STAGES.indexOf(this.stage) > STAGES.indexOf(stage);
  }

  #greet(id: number): void {
    if (id === 0 || this.isBeyond('header')) this.socket.write(amqp.protocolHeader(id));
    if (id !== 0 && this.isBeyond('sasl')) this.send(mechanisms('ANONYMOUS'));
    this.isReady ||= !this.isBeyond('sasl');
  }

  #answer({ code, channel, fields }: amqp.Frame): void {
    const on = [...this.links.values()].filter((link) => link.channel === channel);
    const link = on.find(({ handle }) => handle === fields[code === amqp.FLOW ? 4 : 0]);
    if (code === amqp.INIT && this.isBeyond('sasl')) this.send(saslOutcome(0));
    if (code === amqp.OPEN && this.isBeyond('open')) {
      const { maxFrameSize } = this.#manners;
      this.#limit = maxFrameSize ?? Infinity;
      this.send(open(maxFrameSize));
    }
    if (code === amqp.BEGIN && this.isBeyond('begin')) {
      const { begins, window } = this.#manners;
      this.send(begin(channel, undefined, begins?.transferId, window));
    }
    if (code === amqp.ATTACH) this.#attach(channel, fields);
    if (code === amqp.FLOW && link) link.credit = Number(fields[6]);
    // Of a message in several frames only the first has to have an id.
    if (code === amqp.TRANSFER && typeof fields[1] === 'number' && link && link.inFlight.at(-1) !== fields[1])
      link.inFlight.push(fields[1]);
    if (code === amqp.TRANSFER && this.accepts && link && !fields[5]) this.accept(link);
    if (code === amqp.DETACH && link) {
      if (this.isBeyond('attach')) this.send(detach(link, true));
      this.links.delete(link.name);
    }
    if (code === amqp.END) {
      for (const { name } of on) this.links.delete(name);
      this.send({ code, channel, fields: [] });
    }
    if (code === amqp.CLOSE) {
      this.send({ code, fields: [] });
      this.socket.end();
    }
    const isThere = (one?: Link): unknown => one && (!this.isBeyond('attach') || one.isSender || one.credit > 0);
    this.isReady ||= this.isBeyond('open') ? LINKS.every((name) => isThere(this.links.get(name))) : code === amqp.OPEN;
  }

  /** Accepts all that has come on the link. */
  accept(link: Link): void {
    for (const id of link.inFlight.splice(0))
      this.send(disposition({ ...link, isSender: true }, id, id, amqp.composite(0x24, [])));
  }

  #attach(channel: number, fields: unknown[]): void {
    const [name, handle, role] = fields as [string, number, boolean];
    const { begins: { deliveryId: nextId = 0, deliveryCount: count = 0 } = {}, credit = 1000 } = this.#manners;
    const link = { ...NONE, name, channel, handle, isSender: !role, fields, nextId, count, inFlight: [] };
    this.links.set(name, link);
    if (!this.isBeyond('attach')) return;
    this.send(attach(link));
    if (link.isSender) this.send(flow(link, credit, this.#manners.window));
  }
}

const NONE: Omit<Link, 'inFlight'> = {
  name: '',
  channel: 0,
  handle: 0,
  isSender: true,
  fields: [],
  credit: 0,
  nextId: 0,
  count: 0,
};

// What is right

export const mechanisms = (...names: string[]): amqp.Plan => ({
  code: amqp.MECHANISMS,
  fields: [amqp.symbols(...names)],
});
export const saslOutcome = (code: number): amqp.Plan => ({ code: amqp.OUTCOME, fields: [amqp.ubyte(code)] });
export const CHALLENGE: amqp.Plan = { code: amqp.CHALLENGE, fields: [amqp.binary(Buffer.alloc(9))] };
const WINDOW = 2048;
const NULS = [amqp.nul, amqp.nul, amqp.nul];
const RELAY = amqp.symbols('ANONYMOUS-RELAY');
export const open = (maxFrameSize = 65536): amqp.Plan => ({
  code: amqp.OPEN,
  fields: [amqp.str('hostile'), amqp.nul, amqp.uint(maxFrameSize), amqp.ushort(255), ...NULS, RELAY],
});
export const OPEN = open();
export const begin = (channel: number, answers = amqp.ushort(channel), transferId = 0, window = WINDOW): amqp.Plan => ({
  code: amqp.BEGIN,
  channel,
  fields: [answers, ...[transferId, window, WINDOW, 255].map(amqp.uint)],
});

export function attach({ name, channel, handle, isSender, fields, count }: Link): amqp.Plan {
  const terminus = (code: number, asked: unknown): Buffer => {
    const [address, , , , isDynamic] = ((asked ?? {}) as { value?: unknown[] }).value ?? [];
    const given = isDynamic ? `made-${name}` : address;
    return amqp.composite(code, [typeof given === 'string' ? amqp.str(given) : amqp.nul]);
  };
  const ends = [terminus(0x28, fields[5]), terminus(0x29, fields[6]), amqp.nul, amqp.nul];
  const modes = [amqp.bool(isSender), amqp.ubyte(2), amqp.ubyte(0)];
  return {
    code: amqp.ATTACH,
    channel,
    fields: [amqp.str(name), amqp.uint(handle), ...modes, ...ends, isSender ? amqp.nul : amqp.uint(count)],
  };
}

export const flow = ({ channel, handle }: Link, credit: number, window = WINDOW): amqp.Plan => ({
  code: amqp.FLOW,
  channel,
  fields: [...[0, window, 0, WINDOW, handle, 0, credit, 0].map(amqp.uint), amqp.bool(false), amqp.bool(false)],
});

export const VALUE = Buffer.of(0x00, 0x53, 0x77);

/** A frame of the next delivery. */
export function transfer(link: Link, payload: Buffer | string, { more = false, aborted = false } = {}): amqp.Plan {
  const id = link.nextId;
  if (!more) {
    link.nextId = (id + 1) % 2 ** 32;
    link.count = (link.count + 1) % 2 ** 32;
  }
  const flags = [amqp.bool(false), amqp.bool(more), amqp.nul, amqp.nul, amqp.bool(false), amqp.bool(aborted)];
  return {
    code: amqp.TRANSFER,
    channel: link.channel,
    fields: [amqp.uint(link.handle), amqp.uint(id), amqp.binary(Buffer.from(`${id}`)), amqp.uint(0), ...flags],
    payload: typeof payload === 'string' ? Buffer.concat([VALUE, amqp.str(payload)]) : payload,
  };
}

export const disposition = ({ channel, isSender }: Link, first: number, last: number, state: Buffer): amqp.Plan => ({
  code: amqp.DISPOSITION,
  channel,
  fields: [amqp.bool(isSender), amqp.uint(first), amqp.uint(last), amqp.bool(true), state],
});
export const errorOf = (condition: Buffer, description = amqp.str('because'), info = amqp.map([])): Buffer =>
  amqp.composite(0x1d, [condition, description, info]);
export const detach = ({ channel, handle }: Link, isClosed: boolean, ...error: Buffer[]): amqp.Plan => ({
  code: amqp.DETACH,
  channel,
  fields: [amqp.uint(handle), amqp.bool(isClosed), ...error],
});
