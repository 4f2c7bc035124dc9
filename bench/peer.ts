// A peer that costs next to nothing per message, in a process of its own: of a message only what routes it is read. What becomes
// of it depends on its address: `sink` accepts, `requests` answers, any other is a queue.
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { answer } from './child';
import { Link, Out, Queue, Session, WINDOW } from './session';
import * as wire from './wire';

export interface PeerOptions {
  /** Messages that a sender may have on their way. */
  credit?: number;
  /** One disposition for each message, and not for a range. */
  settlesEach?: boolean;
}

const { credit = 2000, settlesEach = false }: PeerOptions = JSON.parse(process.argv[2]!);
let window = credit;
const MAX_FRAME = 131_072;
const CHANNEL_MAX = 2047;
const HEARTBEAT = Buffer.of(0, 0, 0, 8, 2, 0, 0, 0);
const HEARTBEAT_TIME = 5000;

const connections = new Set<Connection>();
const queues = new Map<string, Queue>();
let links = 0;
let settled = 0;
/** Called after each change of the two numbers. */
let changed = (): void => {};

function queueOf(address: string): Queue {
  let queue = queues.get(address);
  if (!queue) queues.set(address, (queue = new Queue()));
  return queue;
}

class Connection {
  readonly #out: Out;
  readonly #sessions = new Map<number, Session>();
  /** Sessions with messages of the last read. */
  readonly #busy = new Set<Session>();
  readonly #heartbeat: NodeJS.Timeout;
  #maxFrame = 512;
  #rest: Buffer | undefined;

  constructor(socket: Socket) {
    this.#out = new Out(socket.setNoDelay(true));
    connections.add(this);
    this.#heartbeat = setInterval(() => {
      this.#out.put(HEARTBEAT);
      this.#out.flush();
    }, HEARTBEAT_TIME);
    socket.on('data', (chunk) => this.#read(chunk));
    socket.on('drain', pumpAll);
    socket.on('error', () => {}); // 'close' follows
    socket.on('close', () => {
      clearInterval(this.#heartbeat);
      connections.delete(this);
      for (const session of this.#sessions.values()) this.#end(session);
    });
  }

  /** Gives credit again, once half of it is used up. */
  refill(sessions: Iterable<Session> = this.#sessions.values(), isChanged = false): void {
    for (const session of sessions) {
      session.flush();
      for (const link of session.links.values()) {
        if (link.isSender || (link.credit >= window / 2 && !isChanged)) continue;
        link.credit = window;
        link.flow();
      }
    }
    this.#out.flush();
  }

  #read(chunk: Buffer): void {
    const bytes = this.#rest ? Buffer.concat([this.#rest, chunk]) : chunk;
    let at = 0;
    while (bytes.length - at >= 8) {
      const size = bytes[at] === 0x41 ? this.#greet(bytes.subarray(at, at + 8)) : bytes.readUInt32BE(at);
      if (bytes.length - at < size) break;
      if (size > 8) this.#frame(bytes, at, at + size);
      at += size;
    }
    this.#rest = at < bytes.length ? bytes.subarray(at) : undefined;
    this.refill(this.#busy);
    this.#busy.clear();
  }

  /** Answers a protocol header, and resolves with its length. */
  #greet(header: Buffer): number {
    this.#out.put(header);
    const mechanisms = wire.symbolsBytes('ANONYMOUS', 'PLAIN');
    if (header[4] === 3) this.#out.put(wire.frame(0, wire.described(wire.SASL_MECHANISMS, mechanisms), 'sasl'));
    return header.length;
  }

  #frame(bytes: Buffer, at: number, end: number): void {
    const channel = bytes.readUInt16BE(at + 6);
    const code = bytes[at + 10];
    const list = at + 11;
    const session = this.#sessions.get(channel)!;
    if (code === wire.TRANSFER) return this.#transfer(session, bytes, list, end);
    wire.fieldsOf(bytes, list, 14);
    switch (code) {
      case wire.SASL_INIT:
        return this.#out.put(wire.frame(0, wire.described(wire.SASL_OUTCOME, Buffer.of(0x50, 0)), 'sasl'));
      case wire.OPEN:
        return this.#open(bytes);
      case wire.BEGIN:
        return this.#begin(channel);
      case wire.ATTACH:
        return this.#attach(session, bytes);
      case wire.FLOW:
        return this.#flow(session, bytes);
      case wire.DISPOSITION:
        // Of a receiver.
        if (wire.flag(bytes, 0)) settled += wire.uint(bytes, 2, wire.uint(bytes, 1)) - wire.uint(bytes, 1) + 1;
        return changed();
      case wire.DETACH: {
        const link = session.links.get(wire.uint(bytes, 0))!;
        const isClosed = wire.flag(bytes, 1) ? wire.TRUE : wire.FALSE;
        this.#out.frame(channel, wire.DETACH, wire.uintBytes(link.handle), isClosed);
        return this.#detach(link);
      }
      case wire.END:
        this.#end(session);
        this.#sessions.delete(channel);
        return this.#out.frame(channel, wire.END);
      case wire.CLOSE:
        this.#out.frame(0, wire.CLOSE);
        this.#out.flush();
        this.#out.socket.end();
    }
  }

  #open(bytes: Buffer): void {
    this.#maxFrame = Math.min(wire.uint(bytes, 2, MAX_FRAME), MAX_FRAME);
    const numbers = [wire.uintBytes(MAX_FRAME), wire.ushortBytes(CHANNEL_MAX)];
    this.#out.frame(0, wire.OPEN, wire.stringBytes('bench'), wire.NULL, ...numbers);
    this.#out.flushLater();
  }

  #begin(channel: number): void {
    this.#sessions.set(channel, new Session(channel, this.#out, this.#maxFrame));
    const numbers = [0, WINDOW, WINDOW, 255].map(wire.uintBytes);
    this.#out.frame(channel, wire.BEGIN, wire.ushortBytes(channel), ...numbers);
  }

  #attach(session: Session, bytes: Buffer): void {
    const [name, source, target] = [wire.raw(bytes, 0), wire.raw(bytes, 5), wire.raw(bytes, 6)];
    const handle = wire.uint(bytes, 1);
    const isSender = wire.flag(bytes, 2);
    // Behind its descriptor.
    const terminus = (isSender ? source : target).subarray(3);
    wire.fieldsOf(terminus, 0, 5);
    const isDynamic = wire.flag(terminus, 4);
    const address = isDynamic ? `made-${queues.size}` : (wire.text(terminus, 0) ?? '');
    const made = [wire.stringBytes(address), wire.uintBytes(0), wire.NULL, wire.uintBytes(0), wire.TRUE];
    const [roleBytes, countBytes] = isSender ? [wire.FALSE, wire.uintBytes(0)] : [wire.TRUE, wire.NULL];
    const { NULL } = wire;
    const fields = [name, wire.uintBytes(handle), roleBytes, NULL, NULL];
    const termini = [isDynamic ? wire.described(wire.SOURCE, ...made) : source, target];
    this.#out.frame(session.channel, wire.ATTACH, ...fields, ...termini, NULL, NULL, countBytes);
    const link = new Link(session, handle, isSender, address);
    session.links.set(handle, link);
    if (isSender) queueOf(address).receivers.push(link);
    this.#busy.add(session);
    links++;
    changed();
  }

  #flow(session: Session, bytes: Buffer): void {
    session.remoteWindow = wire.uint(bytes, 0) + wire.uint(bytes, 1) - session.outgoing;
    const link = wire.place(bytes, 4) < 0 ? undefined : session.links.get(wire.uint(bytes, 4));
    const [isDrain, isEcho] = [wire.flag(bytes, 8), wire.flag(bytes, 9)];
    if (link?.isSender) link.credit = wire.uint(bytes, 5) + wire.uint(bytes, 6) - link.deliveryCount;
    for (const { isSender, address } of session.links.values()) if (isSender) queueOf(address).pump();
    if (link?.isSender && isDrain) {
      link.deliveryCount += link.credit;
      link.credit = 0;
    }
    if (link && (isDrain || isEcho)) link.flow();
  }

  #transfer(session: Session, bytes: Buffer, list: number, end: number): void {
    wire.fieldsOf(bytes, list, 6);
    const link = session.links.get(wire.uint(bytes, 0))!;
    link.id = wire.uint(bytes, 1, link.id);
    const [isPresettled, hasMore] = [wire.flag(bytes, 4), wire.flag(bytes, 5)];
    const isSink = link.address === 'sink';
    session.incoming++;
    this.#busy.add(session);
    if (!isSink) link.parts.push(bytes.subarray(wire.skip(bytes, list), end));
    if (hasMore) return;
    link.credit--;
    link.deliveryCount++;
    if (!isPresettled) session.settle(link.id, settlesEach);
    if (isSink) return;
    const message = link.parts.length === 1 ? link.parts[0]! : Buffer.concat(link.parts);
    link.parts = [];
    if (link.address !== 'requests') return queueOf(link.address).put(message);
    const answered = wire.replyTo(message);
    if (answered) queueOf(answered.address).put(answered.reply);
  }

  #end(session: Session): void {
    for (const link of session.links.values()) this.#detach(link);
  }

  #detach(link: Link): void {
    links--;
    link.session.links.delete(link.handle);
    const { receivers } = queueOf(link.address);
    if (receivers.includes(link)) receivers.splice(receivers.indexOf(link), 1);
  }
}

function pumpAll(): void {
  for (const queue of queues.values()) queue.pump();
}

function until(isSo: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    changed = () => isSo() && resolve();
    changed();
  });
}

/** Sends messages, and resolves with how many seconds it took until all were settled. */
async function feed({ size, count }: { size: number; count: number }): Promise<number> {
  settled = 0;
  const start = performance.now();
  queueOf('source').feed(wire.message(size), count);
  await until(() => settled >= count);
  return (performance.now() - start) / 1000;
}

async function main(): Promise<void> {
  const server = createServer((socket) => new Connection(socket)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  answer({
    port: () => (server.address() as AddressInfo).port,
    attached: (count: number) => until(() => links >= count),
    feed,
    credit(count: number) {
      window = count;
      for (const connection of connections) connection.refill(undefined, true);
    },
  });
}

void main();
