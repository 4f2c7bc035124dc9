// A peer that behaves up to a stage, and the frames of which its side of a conversation is made.
import { EventEmitter } from 'node:events';
import type * as net from 'node:net';
import * as amqp from './frames';

/** How far the peer behaves. `delivering`: also the first frame of a message has come. */
export const STAGES = ['header', 'sasl', 'open', 'begin', 'attach', 'attached', 'delivering'] as const;
export type Stage = (typeof STAGES)[number];

/** A link of the endpoint under test. */
interface Link {
  name: string;
  channel: number;
  handle: number;
  /** The endpoint sends on it. */
  isSender: boolean;
  fields: unknown[];
  credit: number;
  nextId: number;
  /** Ids of the deliveries that have come. */
  inFlight: number[];
}

export const INBOUND = ['receiver', 'responder:request', 'requester:reply'];
export const LINKS = [...INBOUND, 'sender', 'requester:request', 'responder:reply'];

/** Answers what the endpoint asks, as far as the stage goes. Emits 'frame' after each that has come, in the end 'over'. */
export class Peer extends EventEmitter<{ frame: []; over: [] }> {
  readonly links = new Map<string, Link>();
  readonly socket: net.Socket;
  readonly stage: Stage;
  isOver = false;
  /** The stage is reached. */
  isReady = false;
  frames = 0;
  readonly #reader = new amqp.FrameReader();

  constructor(socket: net.Socket, stage: Stage) {
    super();
    this.socket = socket;
    this.stage = stage;
    socket.setNoDelay(true);
    const over = (): void => {
      this.isOver = true;
      socket.destroy();
      this.emit('over');
    };
    socket.on('error', over).on('end', over).on('close', over);
    socket.on('data', (chunk) => {
      for (const frame of this.#reader.read(chunk)) {
        this.frames++;
        if (frame.isHeader) this.#greet(frame.code!);
        else this.#answer(frame);
        this.emit('frame');
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
    const none = { name, channel: 0, handle: 0, isSender: true, fields: [], credit: 0, nextId: 0, inFlight: [] };
    return this.links.get(name) ?? none;
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
    if (code === amqp.OPEN && this.isBeyond('open')) this.send(OPEN);
    if (code === amqp.BEGIN && this.isBeyond('begin')) this.send(begin(channel));
    if (code === amqp.ATTACH) this.#attach(channel, fields);
    if (code === amqp.FLOW && link) link.credit = Number(fields[6]);
    if (code === amqp.TRANSFER) link?.inFlight.push(fields[1] as number);
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

  #attach(channel: number, fields: unknown[]): void {
    const [name, handle, role] = fields as [string, number, boolean];
    const link = { ...this.link(name), channel, handle, isSender: !role, fields, nextId: 0, credit: 0, inFlight: [] };
    this.links.set(name, link);
    if (!this.isBeyond('attach')) return;
    this.send(attach(link));
    if (link.isSender) this.send(flow(link, 1000));
  }
}

// What is right

export const mechanisms = (...names: string[]): amqp.Plan => ({
  code: amqp.MECHANISMS,
  fields: [amqp.symbols(...names)],
});
export const saslOutcome = (code: number): amqp.Plan => ({ code: amqp.OUTCOME, fields: [amqp.ubyte(code)] });
export const CHALLENGE: amqp.Plan = { code: amqp.CHALLENGE, fields: [amqp.binary(Buffer.alloc(9))] };
const RELAY = amqp.symbols('ANONYMOUS-RELAY');
export const OPEN: amqp.Plan = {
  code: amqp.OPEN,
  fields: [amqp.str('hostile'), amqp.nul, amqp.uint(65536), amqp.ushort(255), amqp.nul, amqp.nul, amqp.nul, RELAY],
};
export const begin = (channel: number, answers = amqp.ushort(channel)): amqp.Plan => ({
  code: amqp.BEGIN,
  channel,
  fields: [answers, ...[0, 2048, 2048, 255].map(amqp.uint)],
});

export function attach({ name, channel, handle, isSender, fields }: Link): amqp.Plan {
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
    fields: [amqp.str(name), amqp.uint(handle), ...modes, ...ends, isSender ? amqp.nul : amqp.uint(0)],
  };
}

export const flow = ({ channel, handle }: Link, credit: number): amqp.Plan => ({
  code: amqp.FLOW,
  channel,
  fields: [...[0, 2048, 0, 2048, handle, 0, credit, 0].map(amqp.uint), amqp.bool(false), amqp.bool(false)],
});

export const VALUE = Buffer.of(0x00, 0x53, 0x77);

/** A frame of the next delivery. */
export function transfer(link: Link, payload: Buffer | string, { more = false, aborted = false } = {}): amqp.Plan {
  const id = more ? link.nextId : link.nextId++;
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
export const errorOf = (condition: Buffer): Buffer =>
  amqp.composite(0x1d, [condition, amqp.str('because'), amqp.map([])]);
export const detach = ({ channel, handle }: Link, isClosed: boolean, ...error: Buffer[]): amqp.Plan => ({
  code: amqp.DETACH,
  channel,
  fields: [amqp.uint(handle), amqp.bool(isClosed), ...error],
});
