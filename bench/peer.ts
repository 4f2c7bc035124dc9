// A peer that costs next to nothing per message, in a process of its own. What it does with an address:
//   sink       accepts what it is sent
//   source     sends messages of the size that it was started with, as many as there is credit
//   requests   replies to each, with the same body
//   any other  is a queue with one reader
// Options as JSON in argv: {"size": 100, "each": false}; with `each` it settles each message by itself.
import net from 'node:net';
import {
  ACCEPTED,
  endOf,
  FALSE,
  fieldsAt,
  frame,
  header,
  list,
  NULL,
  numberAt,
  text,
  textIn,
  transferTo,
  TRUE,
  uint,
} from './frames';

const { size = 100, each = false } = JSON.parse(process.argv[2] ?? '{}') as { size?: number; each?: boolean };
const CREDIT = 1000;
const BODY =
  size < 1000
    ? Buffer.concat([Buffer.of(0x00, 0x53, 0x77), text('x'.repeat(size))])
    : Buffer.concat([Buffer.of(0x00, 0x53, 0x75), text('x'.repeat(size), 0xb0)]);
const MAX_FRAME = 65_536;

/** A link on which we send. */
interface Outlet {
  socket: Connection;
  channel: number;
  handle: number;
  sent: number;
  credit: number;
  waiting: Buffer[];
  isSource: boolean;
}

class Session {
  incoming = 0;
  deliveries = 0;
  outgoing = 0;
  nextDelivery = 0;
  readonly inlets = new Map<number, { address: string; count: number }>();
  readonly outlets = new Map<number, Outlet>();
  /** Deliveries to be settled together. */
  first = -1;
}

const readers = new Map<string, Outlet>();
let dynamic = 0;

class Connection {
  readonly #socket: net.Socket;
  readonly #sessions = new Map<number, Session>();
  #rest: Buffer = Buffer.alloc(0);
  #out: Buffer[] = [];

  constructor(socket: net.Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on('error', () => {});
    socket.on('data', (chunk) => this.#take(chunk));
    socket.on('close', () => {
      for (const [address, { socket: owner }] of readers) if (owner === this) readers.delete(address);
    });
  }

  write(...frames: Buffer[]): void {
    if (this.#out.length === 0) setImmediate(() => this.flush());
    this.#out.push(...frames);
  }

  flush(): void {
    if (this.#out.length > 0) this.#socket.write(Buffer.concat(this.#out));
    this.#out = [];
  }

  #take(chunk: Buffer): void {
    const bytes = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
    let at = 0;
    while (bytes.length - at >= 8) {
      const isHeader = bytes[at] === 0x41;
      const length = isHeader ? 8 : bytes.readUInt32BE(at);
      if (bytes.length - at < length) break;
      if (isHeader) this.#header(bytes[at + 4]!);
      else if (length > 8) this.#frame(bytes.subarray(at, at + length));
      at += length;
    }
    this.#rest = bytes.subarray(at);
    for (const [channel, session] of this.#sessions) this.#settle(channel, session);
    this.flush();
  }

  #header(protocol: number): void {
    this.write(header(protocol));
    if (protocol === 3) this.write(frame(1, 0, list(0x40, text('ANONYMOUS', 0xb3))));
  }

  #frame(bytes: Buffer): void {
    const channel = bytes.readUInt16BE(6);
    const session = this.#sessions.get(channel)!;
    switch (bytes[10]) {
      case 0x41:
        return this.write(frame(1, 0, list(0x44, Buffer.of(0x50, 0))));
      case 0x10:
        return this.write(frame(0, 0, list(0x10, text('bench'), NULL, uint(MAX_FRAME))));
      case 0x11:
        this.#sessions.set(channel, new Session());
        return this.write(
          frame(
            0,
            channel,
            list(0x11, Buffer.of(0x60, channel >> 8, channel & 0xff), uint(0), uint(CREDIT * 5), uint(CREDIT * 5)),
          ),
        );
      case 0x12:
        return this.#attach(channel, session, fieldsAt(bytes, 11));
      case 0x13:
        return this.#flow(session, fieldsAt(bytes, 11));
      case 0x14:
        return this.#transfer(channel, session, bytes);
      case 0x16:
        return this.write(frame(0, channel, list(0x16, fieldsAt(bytes, 11)[0]!, TRUE)));
      case 0x17:
      case 0x18:
        return this.write(frame(0, channel, list(bytes[10])));
    }
  }

  #attach(channel: number, session: Session, [name, number, role, , , source, target]: Buffer[]): void {
    const handle = numberAt(number)!;
    const isReader = role![0] === 0x41;
    const terminus = isReader ? source : target;
    const fields = terminus && terminus[0] === 0x00 ? fieldsAt(terminus, endOf(terminus, 1)) : [];
    const address = textIn(fields[0]) ?? `dynamic-${++dynamic}`;
    const named = list(isReader ? 0x28 : 0x29, text(address));
    const termini = isReader ? [named, target ?? NULL] : [source ?? NULL, named];
    const none = Buffer.of(0x50, 0);
    this.write(
      frame(
        0,
        channel,
        list(
          0x12,
          name!,
          uint(handle),
          isReader ? FALSE : TRUE,
          none,
          none,
          ...termini,
          NULL,
          NULL,
          isReader ? uint(0) : NULL,
        ),
      ),
    );
    if (isReader) {
      const outlet = { socket: this, channel, handle, sent: 0, credit: 0, waiting: [], isSource: address === 'source' };
      session.outlets.set(handle, outlet);
      readers.set(address, outlet);
    } else {
      session.inlets.set(handle, { address: textIn(fields[0]) ?? '', count: 0 });
      this.#grant(channel, session, handle, 0);
    }
  }

  #grant(channel: number, session: Session, handle: number, count: number): void {
    this.write(
      frame(
        0,
        channel,
        list(
          0x13,
          uint(session.incoming),
          uint(CREDIT * 5),
          uint(session.outgoing),
          uint(CREDIT * 5),
          uint(handle),
          uint(count),
          uint(CREDIT),
        ),
      ),
    );
  }

  #flow(session: Session, fields: Buffer[]): void {
    const outlet = session.outlets.get(numberAt(fields[4]) ?? -1);
    if (!outlet) return;
    outlet.credit = (numberAt(fields[5]) ?? 0) + numberAt(fields[6])! - outlet.sent;
    if (outlet.isSource) while (outlet.credit > 0) this.send(outlet, BODY);
    while (outlet.credit > 0 && outlet.waiting.length > 0) this.send(outlet, outlet.waiting.shift()!);
  }

  send(outlet: Outlet, payload: Buffer): void {
    if (outlet.credit <= 0) return void outlet.waiting.push(payload);
    outlet.credit--;
    outlet.sent++;
    const session = this.#sessions.get(outlet.channel)!;
    const id = session.nextDelivery++;
    for (let at = 0; at < payload.length; at += MAX_FRAME - 100) {
      const part = payload.subarray(at, at + MAX_FRAME - 100);
      const transfer = transferTo(outlet.channel, outlet.handle, part);
      transfer.bytes.writeUInt32BE(id, transfer.id);
      transfer.bytes.writeUInt32BE(id, transfer.tag);
      if (at + part.length < payload.length) transfer.bytes[transfer.tag + 6] = 0x41;
      session.outgoing++;
      this.write(transfer.bytes);
    }
  }

  #transfer(channel: number, session: Session, bytes: Buffer): void {
    session.incoming++;
    const end = endOf(bytes, 11);
    let at = bytes[11] === 0xc0 ? 14 : 20;
    const handle = numberAt(bytes, at)!;
    // handle, delivery-id, delivery-tag, message-format, settled
    for (let field = 0; field < 5 && at < end; field++) at = endOf(bytes, at);
    const inlet = session.inlets.get(handle)!;
    if (at < end && bytes[at] === 0x41) return;
    const id = session.deliveries++;
    if (each) this.write(frame(0, channel, list(0x15, TRUE, uint(id), NULL, TRUE, ACCEPTED)));
    else if (session.first < 0) session.first = id;
    if (++inlet.count % (CREDIT / 2) === 0) this.#grant(channel, session, handle, inlet.count);
    if (inlet.address === 'sink') return;
    if (inlet.address === 'requests') return this.#reply(Buffer.from(bytes.subarray(end)));
    const reader = readers.get(inlet.address);
    reader?.socket.send(reader, Buffer.from(bytes.subarray(end)));
  }

  #reply(message: Buffer): void {
    let at = 0;
    while (message[at + 2] !== 0x73) at = endOf(message, at);
    const end = endOf(message, at);
    const [messageId, , , , replyTo, correlationId] = fieldsAt(message, at + 3);
    const reader = readers.get(textIn(replyTo)!);
    const id = correlationId && correlationId[0] !== 0x40 ? correlationId : messageId!;
    const properties = list(0x73, NULL, NULL, NULL, NULL, NULL, id);
    reader?.socket.send(reader, Buffer.concat([properties, message.subarray(end)]));
  }

  #settle(channel: number, session: Session): void {
    if (session.first < 0) return;
    this.write(frame(0, channel, list(0x15, TRUE, uint(session.first), uint(session.deliveries - 1), TRUE, ACCEPTED)));
    session.first = -1;
  }
}

const server = net.createServer((socket) => void new Connection(socket));
server.listen(0, '127.0.0.1', () => process.send?.((server.address() as net.AddressInfo).port));
process.on('disconnect', () => process.exit());
