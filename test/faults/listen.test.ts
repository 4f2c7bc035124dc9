// Clients of an endpoint that listens, which do what none should. After each the endpoint works for one that behaves.
import { EventEmitter, once } from 'node:events';
import { readFileSync } from 'node:fs';
import * as net from 'node:net';
import { join } from 'node:path';
import * as tls from 'node:tls';
import should from 'should';
import { accountOf } from '../../nodes/lib/auth/accounts';
import type { EndpointNode } from '../../nodes/flow/endpoint';
import type { Listener } from '../../nodes/lib/listen/listener';
import { connectTo, receiver, sender } from '../broker/client';
import { flow, helper, inject, message, messages, node, nodes } from '../flow';
import * as amqp from '../fuzz/frames';
import { freePort } from '../../scripts/free-port';
import { clients, listening, sendTo, takeFrom } from '../listen';
import { coreNode, type NodeConfig } from '../node-red';
import { secretOf } from '../secrets';

const fixture = (name: string): string => join(__dirname, '..', 'fixtures', name);
const password = secretOf('password');
const AMQP = amqp.protocolHeader(0);
const SASL = amqp.protocolHeader(3);
const { uint, str, nul, bool } = amqp;
const OPEN: amqp.Plan = { code: amqp.OPEN, fields: [str('hostile')] };
const begin = (channel = 0): amqp.Plan => ({
  code: amqp.BEGIN,
  channel,
  fields: [nul, uint(0), uint(2048), uint(2048)],
});
const terminus = (code: number, address: string): Buffer => amqp.composite(code, [str(address)]);
const attach = (handle: number, role: 'sender' | 'receiver', address: string, name = `link ${handle}`): amqp.Plan => ({
  code: amqp.ATTACH,
  fields: [
    str(name),
    uint(handle),
    bool(role === 'receiver'),
    nul,
    nul,
    terminus(0x28, address),
    terminus(0x29, address),
    nul,
    nul,
    role === 'sender' ? uint(0) : nul,
  ],
});
const transfer = (id: number, payload: Buffer, more = false): amqp.Plan => ({
  code: amqp.TRANSFER,
  fields: [uint(0), uint(id), amqp.binary(Buffer.of(id)), uint(0), bool(false), bool(more)],
  payload,
});
const flowOf = (
  credit: number,
  { handle = 0, count = 0, drain = false, echo = false, window = 2048 } = {},
): amqp.Plan => ({
  code: amqp.FLOW,
  fields: [
    uint(0),
    uint(window),
    uint(0),
    uint(2048),
    uint(handle),
    uint(count),
    uint(credit),
    nul,
    bool(drain),
    bool(echo),
  ],
});
const BODY = Buffer.concat([amqp.described(Buffer.of(0x53, 0x77), str('raw'))]);

/** A client that writes whatever it is told. Emits 'frame', in the end 'over'. */
class Raw extends EventEmitter<{ frame: [amqp.Frame]; over: [] }> {
  readonly frames: amqp.Frame[] = [];
  isOver = false;
  bytes = 0;
  readonly socket: net.Socket;
  readonly #reader = new amqp.FrameReader();

  constructor(port: number, wrap: (socket: net.Socket) => net.Socket = (socket) => socket) {
    super();
    this.setMaxListeners(0);
    this.socket = wrap(net.connect(port, '127.0.0.1'));
    const over = (): void => {
      if (this.isOver) return;
      this.isOver = true;
      this.socket.destroy();
      this.emit('over');
    };
    this.socket.on('error', over).on('end', over).on('close', over);
    this.socket.on('data', (chunk) => {
      this.bytes += chunk.length;
      for (const frame of this.#reader.read(chunk)) {
        this.frames.push(frame);
        this.emit('frame', frame);
      }
    });
    raws.add(this);
  }

  write(...parts: (Buffer | amqp.Plan)[]): void {
    if (!this.isOver)
      this.socket.write(Buffer.concat(parts.map((one) => (Buffer.isBuffer(one) ? one : amqp.write(one)))));
  }

  /** The next frame of that kind, also one that has come already. */
  async until(code: number, count = 1): Promise<amqp.Frame> {
    for (;;) {
      const found = this.frames.filter((frame) => frame.code === code && !frame.isHeader);
      if (found.length >= count) return found[count - 1]!;
      if (this.isOver) throw new Error('the connection is over');
      await Promise.race([once(this, 'frame'), once(this, 'over')]);
    }
  }

  async over(): Promise<void> {
    if (!this.isOver) await once(this, 'over');
  }

  /** Opens a connection and a session. */
  async begun(): Promise<this> {
    this.write(AMQP, OPEN, begin());
    await this.until(amqp.BEGIN);
    return this;
  }
}

const raws = new Set<Raw>();
let port: number;

async function start(properties: object = {}, ...more: NodeConfig[]): Promise<void> {
  port = await freePort();
  const configs = flow(
    listening(port, { connecttimeout: 1, ...properties }),
    node('amqp-receiver'),
    node('amqp-sender', { address: 's', wires: [] }),
    ...more,
  );
  await helper.load([...nodes, coreNode('network/05-tls')], configs, {
    broker: { accounts: JSON.stringify([await accountOf('user', password)]) },
  });
  await clients(0);
}

const listener = (): Listener => (helper.getNode('broker') as EndpointNode).endpoint.links as Listener;

/** A client that behaves sends a message and receives one. */
async function works(options: Record<string, unknown> = {}): Promise<void> {
  const connection = await connectTo(port, options);
  const out = message('out');
  should(await sendTo(await sender(connection, 'q'), 'hello')).eql({ state: 'accepted' });
  should((await out).payload).equal('hello');
  const taken = takeFrom(await receiver(connection, 's'), 1);
  inject('sender', { payload: 'there' });
  should(await taken).eql(['there']);
  const closed = once(connection, 'connection_close');
  connection.close();
  await closed;
}

/** All that was said is gone, and the endpoint works. */
async function recovered(options?: Record<string, unknown>): Promise<void> {
  for (const { socket } of raws) socket.destroy();
  raws.clear();
  await clients(0);
  await works(options);
  await clients(0);
  const faults = helper.log().args.filter(([{ level }]) => level <= 20);
  should(faults.map(([{ msg }]) => String(msg))).eql([]);
}

function memory(): number {
  (global as { gc?: () => void }).gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / 2 ** 20;
}

describe('an endpoint that listens, with clients that are hostile,', function () {
  this.timeout(30_000);
  before(() => helper.startServer());
  after(() => helper.stopServer());
  afterEach(async () => {
    for (const { socket } of raws) socket.destroy();
    raws.clear();
    await helper.unload();
  });

  const HALF: [what: string, ...parts: (Buffer | amqp.Plan)[]][] = [
    ['says nothing'],
    ['sends half a header', AMQP.subarray(0, 5)],
    ['sends a header only', AMQP],
    ['does not log in', SASL],
    [
      'begins a login and does not end it',
      SASL,
      { code: amqp.INIT, fields: [amqp.sym('SCRAM-SHA-256'), amqp.binary(Buffer.from('n,,n=user,r=abc'))] },
    ],
    ['logs in and does not open', SASL, { code: amqp.INIT, fields: [amqp.sym('ANONYMOUS')] }, AMQP],
    ['asks for a mechanism that is none', SASL, { code: amqp.INIT, fields: [amqp.sym('constructor')] }],
    ['asks for a mechanism that is not there', SASL, { code: amqp.INIT, fields: [amqp.sym('GSSAPI')] }],
    ['sends a frame half', AMQP, amqp.write(OPEN).subarray(0, 10)],
  ];
  for (const [what, ...parts] of HALF) {
    it(`drops one that ${what}`, async () => {
      await start();
      const raw = new Raw(port);
      raw.write(...parts);
      await raw.over();
      await recovered();
    });
  }

  it('drops one whose message never comes whole, once such fill the memory, and no other', async () => {
    await start({ maxmemory: 1 });
    const PART = Buffer.alloc(60_000);
    const [first, second] = [await new Raw(port).begun(), await new Raw(port).begun()];
    for (const raw of [first, second]) {
      raw.write(attach(0, 'sender', 'q'));
      await raw.until(amqp.FLOW);
    }
    first.write(...Array.from({ length: 15 }, () => transfer(0, PART, true)));
    while (listener().memory < 15 * PART.length) await new Promise((resolve) => setImmediate(resolve));
    second.write(...Array.from({ length: 5 }, () => transfer(0, PART, true)));
    await second.over();
    should(first.isOver).be.false();
    should(listener().memory).equal(15 * PART.length);
    should(helper.log().args.map(([{ msg }]) => String(msg))).containEql('amqp-endpoint.log.client-dropped');
    await recovered();
    should(listener().memory).equal(0);
  });

  it('keeps nothing of a message that is larger than the receiver takes', async () => {
    await start({ maxmemory: 2 });
    const raw = await new Raw(port).begun();
    raw.write(attach(0, 'sender', 'q'));
    await raw.until(amqp.FLOW);
    raw.write(...Array.from({ length: 60 }, () => transfer(0, Buffer.alloc(60_000), true)), transfer(0, BODY));
    await raw.until(amqp.DISPOSITION);
    should(listener().memory).equal(0);
    await works();
  });

  const WRONG: [what: string, ...parts: (Buffer | amqp.Plan)[]][] = [
    ['speaks HTTP', Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')],
    ['speaks TLS', Buffer.from('16030100c8010000c40303', 'hex')],
    ['speaks AMQP 0-9-1', amqp.protocolHeader(0, 0, 9, 1)],
    ['sends garbage', Buffer.alloc(1000, 0xa5)],
    ['sends garbage behind the header', AMQP, Buffer.alloc(1000, 0xff)],
    ['claims a frame of 2 GB', AMQP, OPEN, Buffer.from('7fffffff02000000', 'hex')],
    ['sends a frame that is larger than was said', AMQP, OPEN, amqp.frame(0, Buffer.alloc(2 ** 21))],
    ['opens twice', AMQP, OPEN, OPEN],
    ['takes frames of no size', AMQP, { code: amqp.OPEN, fields: [str('x'), nul, uint(1)] }],
    ['begins beyond channel-max', AMQP, OPEN, begin(5000)],
    ['begins a channel twice', AMQP, OPEN, begin(1), begin(1)],
    ['attaches on a channel without session', AMQP, OPEN, attach(0, 'sender', 'q')],
    ['sends on a handle of nobody', AMQP, OPEN, begin(), transfer(0, BODY)],
    ['attaches a name twice', AMQP, OPEN, begin(), attach(0, 'sender', 'q', 'a'), attach(1, 'sender', 'q', 'a')],
    ['uses a handle twice', AMQP, OPEN, begin(), attach(0, 'sender', 'q', 'a'), attach(0, 'sender', 'q', 'b')],
    ['flows on a handle of nobody', AMQP, OPEN, begin(), flowOf(1, { handle: 77 })],
    [
      'answers a session of nobody',
      AMQP,
      OPEN,
      { code: amqp.BEGIN, fields: [amqp.ushort(0), uint(0), uint(1), uint(1)] },
    ],
    ['answers a login before it has begun', SASL, { code: 0x43, fields: [amqp.binary(Buffer.of(1))] }],
    ['sends what a server sends', SASL, { code: amqp.OUTCOME, fields: [amqp.ubyte(0)] }],
  ];
  for (const [what, ...parts] of WRONG) {
    it(`drops one that ${what}, at once`, async () => {
      await start({ connecttimeout: 25 });
      const raw = new Raw(port);
      raw.write(...parts);
      await raw.over();
      await recovered();
    });
  }

  it('drops one that sends and sends behind a login that is not answered yet', async () => {
    await start({ anonymous: false });
    const raw = new Raw(port);
    const wrong: amqp.Plan = {
      code: amqp.INIT,
      fields: [amqp.sym('PLAIN'), amqp.binary(Buffer.from('\0user\0wrong'))],
    };
    raw.write(SASL, wrong, ...Array.from({ length: 3000 }, () => wrong));
    await raw.over();
    should(raw.frames.filter(({ code }) => code === amqp.OUTCOME).length).be.belowOrEqual(1);
    await recovered({ username: 'user', password });
  });

  it('takes one try at a login of each connection', async () => {
    await start({ anonymous: false });
    const raw = new Raw(port);
    const wrong: amqp.Plan = {
      code: amqp.INIT,
      fields: [amqp.sym('PLAIN'), amqp.binary(Buffer.from('\0user\0wrong'))],
    };
    raw.write(SASL, wrong, wrong, wrong);
    await raw.over();
    should(raw.frames.filter(({ code }) => code === amqp.OUTCOME).length).be.belowOrEqual(1);
    await recovered({ username: 'user', password });
  });

  it('refuses links of addresses that are none by the thousand, and drops one that does not detach them', async () => {
    await start();
    const raw = await new Raw(port).begun();
    for (let n = 0; n < 5000 && !raw.isOver; n++) raw.write(attach(n, n % 2 ? 'sender' : 'receiver', `no ${n}`));
    await raw.over();
    await recovered();
  });

  it('refuses links beyond what a client may have, and keeps nothing of those that it detaches', async () => {
    await start({ maxlinks: 10 });
    const raw = await new Raw(port).begun();
    for (let n = 0; n < 12; n++) raw.write(attach(n, 'sender', 'q'));
    const first = await raw.until(amqp.DETACH);
    should((first.fields[2] as { value: unknown[] }).value[0]).equal('amqp:resource-limit-exceeded');
    await raw.until(amqp.DETACH, 2);
    for (const n of [10, 11]) raw.write({ code: amqp.DETACH, fields: [uint(n), bool(true)] });
    // Room for more again and again.
    for (let n = 0; n < 2000; n++) {
      raw.write({ code: amqp.DETACH, fields: [uint(0), bool(true)] }, attach(0, 'sender', 'q', `again ${n}`));
      if (n % 100 === 99) await raw.until(amqp.ATTACH, n + 13);
    }
    should(raw.isOver).be.false();
    await recovered();
  });

  it('answers a coordinator of transactions with amqp:not-implemented', async () => {
    await start();
    const raw = await new Raw(port).begun();
    const { fields, ...plan } = attach(0, 'sender', 'q');
    raw.write({ ...plan, fields: fields.with(6, amqp.composite(0x30, [])) });
    const { fields: detached } = await raw.until(amqp.DETACH);
    should((detached[2] as { value: unknown[] }).value[0]).equal('amqp:not-implemented');
    await recovered();
  });

  it('answers a detach that closes with one that closes', async () => {
    await start();
    const raw = await new Raw(port).begun();
    raw.write(attach(0, 'sender', 'q'), attach(1, 'receiver', 's'));
    await raw.until(amqp.ATTACH, 2);
    for (const handle of [0, 1]) raw.write({ code: amqp.DETACH, fields: [uint(handle), bool(true)] });
    await raw.until(amqp.DETACH, 2);
    should(raw.frames.filter(({ code }) => code === amqp.DETACH).map(({ fields }) => fields[1])).eql([true, true]);
    await recovered();
  });

  it('drops one that sends thousands of messages without credit', async () => {
    await start({}, node('amqp-receiver', { id: 'held', address: 'held', settle: 'flow', creditwindow: 1 }));
    const raw = await new Raw(port).begun();
    raw.write(attach(0, 'sender', 'held'));
    await raw.until(amqp.FLOW);
    for (let n = 0; n < 8000 && !raw.isOver; n++) raw.write(transfer(n, BODY));
    await raw.over();
    await recovered();
  });

  it('goes on with one that plays with credit', async () => {
    await start();
    const raw = await new Raw(port).begun();
    raw.write(attach(0, 'receiver', 's'));
    await raw.until(amqp.ATTACH);
    for (const credit of [0xffffffff, 0, 0x7fffffff, 0x80000000])
      raw.write(flowOf(credit), flowOf(credit, { count: 0xffffffff }), flowOf(credit, { window: 0xffffffff }));
    for (let n = 0; n < 5000; n++) raw.write(flowOf(1000, { drain: true, count: n }));
    raw.write(flowOf(10, { echo: true }), { code: amqp.FLOW, fields: [uint(0), uint(0), uint(0), uint(0)] });
    await raw.until(amqp.FLOW);
    should(raw.isOver).be.false();
    await recovered();
  });

  it('keeps little for one that never reads, however much it asks', async () => {
    await start();
    await works();
    const before = memory();
    const raw = await new Raw(port).begun();
    raw.write(attach(0, 'receiver', 's'));
    await raw.until(amqp.ATTACH);
    raw.socket.pause();
    const asked = amqp.write(flowOf(0, { echo: true }));
    const many = Buffer.concat(Array(1000).fill(asked));
    // Each write has a turn of its own there: each is answered.
    let written = 0;
    const end = performance.now() + 5000;
    while (performance.now() < end && written < 100 * 2 ** 20) {
      const isTaken = raw.socket.write(many);
      written += many.length;
      if (!isTaken)
        await Promise.race([once(raw.socket, 'drain'), new Promise((resolve) => setTimeout(resolve, 1000))]);
      if (raw.socket.writableLength > 20 * 2 ** 20) break;
    }
    const ours = raw.socket.writableLength / 2 ** 20;
    should(memory() - before - ours).be.below(30);
    await works();
    await recovered();
  });

  it('bounds what waits for a receiving client that never reads, and gives it to the next', async () => {
    await start();
    const raw = await new Raw(port).begun();
    raw.write(attach(0, 'receiver', 's'), flowOf(1000));
    await raw.until(amqp.ATTACH);
    raw.socket.pause();
    const done = messages('completed', 200);
    for (let n = 0; n < 200; n++) inject('sender', { payload: Buffer.alloc(100_000) });
    const connection = await connectTo(port);
    const link = await receiver(connection, 's');
    const taken: unknown[] = [];
    link.on('message', ({ delivery }) => {
      taken.push(1);
      delivery!.accept();
    });
    link.add_credit(200);
    // What it has of the kernel, and a little more.
    raw.socket.destroy();
    await done;
    should(taken.length).equal(200);
    connection.close();
    await recovered();
  });

  it('takes a thousand connections at once, and drops those beyond maxclients', async () => {
    await start({ maxclients: 1000, connecttimeout: 20 });
    const many = Array.from({ length: 1100 }, () => new Raw(port));
    await Promise.all(many.map(({ socket }) => Promise.race([once(socket, 'connect'), once(socket, 'close')])));
    for (const raw of many) raw.write(AMQP, OPEN);
    await clients(1000);
    const over = many.filter(({ isOver }) => isOver);
    should(over.length).be.belowOrEqual(100);
    await recovered();
  });

  it('outlives resets in every state', async () => {
    await start({ connecttimeout: 20 });
    const stages = [
      AMQP,
      OPEN,
      begin(),
      attach(0, 'sender', 'q'),
      transfer(0, BODY),
      attach(1, 'receiver', 's'),
      flowOf(10, { handle: 1 }),
    ];
    for (let count = 0; count <= stages.length; count++) {
      for (let time = 0; time < 10; time++) {
        const raw = new Raw(port);
        await once(raw.socket, 'connect');
        raw.write(...stages.slice(0, count));
        if (time % 2) await new Promise((resolve) => setImmediate(resolve));
        raw.socket.resetAndDestroy();
      }
    }
    await recovered();
  });

  describe('over TLS', () => {
    const secure = { usetls: true, tls: 'tls' };
    const certificates: NodeConfig = {
      id: 'tls',
      type: 'tls-config',
      cert: fixture('server.crt'),
      key: fixture('server.key'),
      ca: fixture('ca.crt'),
    };
    const well = { transport: 'tls', ca: [readFileSync(fixture('ca.crt'))], servername: 'localhost' };

    it('drops those that do not speak it, or do not finish their handshake', async () => {
      await start(secure, certificates);
      for (const bytes of [
        AMQP,
        Buffer.from('GET / HTTP/1.1\r\n\r\n'),
        Buffer.alloc(0),
        Buffer.from('160301', 'hex'),
      ]) {
        const raw = new Raw(port);
        raw.write(bytes);
        await raw.over();
      }
      await recovered(well);
    });

    it('closes in bounded time while handshakes hang', async () => {
      await start({ ...secure, connecttimeout: 3600 }, certificates);
      const raw = new Raw(port);
      await once(raw.socket, 'connect');
      await works(well);
      const since = performance.now();
      await helper.unload();
      should(performance.now() - since).be.below(5000);
      await raw.over();
    });

    it('drops one that goes away in its handshake, or right after it', async () => {
      await start(secure, certificates);
      for (let time = 0; time < 20; time++) {
        const raw = new Raw(port, (socket) => tls.connect({ socket, rejectUnauthorized: false }));
        if (time % 2) await once(raw.socket, 'secureConnect');
        raw.write(AMQP);
        raw.socket.destroy();
      }
      await recovered(well);
    });
  });

  it('is in a state that says how many there are', async () => {
    await start();
    const raw = await new Raw(port).begun();
    should(listener().state).eql({ name: 'listening', count: 1 });
    raw.write({ code: amqp.CLOSE, fields: [] });
    await raw.until(amqp.CLOSE);
    await recovered();
  });
});
