import { once } from 'node:events';
import * as net from 'node:net';
import rhea, { type Connection } from 'rhea';
import should from 'should';
import { AcceptedSession, type Attaching } from '../../../../nodes/lib/wire/accepted-session';
import { AcceptedWire, type ServerMechanisms } from '../../../../nodes/lib/wire/accepted-wire';
import type { ReceivingEnd, SendingEnd } from '../../../../nodes/lib/wire/link-end';
import type { AskedLink } from '../../../../nodes/lib/wire/remote';
import * as amqp from '../../../fuzz/frames';

/** What a wire has told of itself. */
type Told = [event: string, detail?: string][];

const OPEN: amqp.Plan = { code: amqp.OPEN, fields: [amqp.str('client')] };
const BEGIN: amqp.Plan = {
  code: amqp.BEGIN,
  fields: [amqp.nul, amqp.uint(0), amqp.uint(10), amqp.uint(10)],
};

const attach = (handle: number, role: boolean): amqp.Plan => ({
  code: amqp.ATTACH,
  fields: [
    amqp.str('same'),
    amqp.uint(handle),
    amqp.bool(role),
    amqp.nul,
    amqp.nul,
    amqp.composite(0x28, [amqp.str('x')]),
    amqp.composite(0x29, [amqp.str('x')]),
    amqp.nul,
    amqp.nul,
    role ? amqp.nul : amqp.uint(0),
  ],
});

describe('an accepted wire', () => {
  let server: net.Server;
  let socket: net.Socket;
  let accepted: net.Socket;
  let wire: AcceptedWire;
  let told: Told;
  let asked: AskedLink[];
  let sessions: Set<AcceptedSession>;
  let gone: number;
  let answer: (session: AcceptedSession, asked: AskedLink) => ReturnType<Attaching['attaching']>;
  const events = new (require('node:events').EventEmitter)() as NodeJS.EventEmitter;

  const ends: (SendingEnd | ReceivingEnd)[] = [];
  const take = (session: AcceptedSession, { role }: AskedLink): { gone(): void } => {
    ends.push(role === 'receiver' ? session.attachSender('x', {}) : session.attachReceiver('x', {}));
    return { gone: () => void gone++ };
  };

  async function start(mechanisms: ServerMechanisms = {}, isLoginOptional = true): Promise<void> {
    told = [];
    asked = [];
    ends.length = 0;
    sessions = new Set();
    gone = 0;
    answer = take;
    const tell =
      (event: string) =>
      (error?: unknown): void => {
        told.push([event, (error as Error | undefined)?.message]);
        events.emit('told');
      };
    server = net.createServer((one) => {
      accepted = one;
      accepted.on('error', () => {});
      wire = new AcceptedWire(
        { containerId: 'server', properties: { product: 'x' }, idleTimeout: 0, maxSessions: 3 },
        mechanisms,
        isLoginOptional,
        {
          began: () => {},
          loggingIn: tell('loggingIn'),
          refused: tell('refused'),
          opened: tell('opened'),
          closed: tell('closed'),
          dropped: tell('dropped'),
          unspoken: (error) => {
            tell('unspoken')(error);
            wire.discard();
            accepted.destroy();
          },
          failed: tell('failed'),
          fault: tell('fault'),
        },
        {
          hold: () => {},
          attaching: (session, what) => {
            sessions.add(session);
            asked.push(what);
            return answer(session, what);
          },
        },
      );
      wire.accept(accepted);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  }

  afterEach(async () => {
    socket?.destroy();
    wire?.discard();
    const closed = once(server, 'close');
    server.close();
    await closed;
  });

  const port = (): number => (server.address() as net.AddressInfo).port;

  async function until(event: string): Promise<string | undefined> {
    for (;;) {
      const found = told.find(([name]) => name === event);
      if (found) return found[1];
      await once(events, 'told');
    }
  }

  /** Bytes written by a client that is none. */
  function write(...parts: (amqp.Plan | Buffer)[]): amqp.FrameReader {
    socket = net.connect(port(), '127.0.0.1');
    socket.on('error', () => {});
    socket.write(Buffer.concat(parts.map((one) => (Buffer.isBuffer(one) ? one : amqp.write(one)))));
    return new amqp.FrameReader();
  }

  async function frame(reader: amqp.FrameReader, code: number): Promise<amqp.Frame> {
    for (;;) {
      const [chunk] = (await once(socket, 'data')) as [Buffer];
      const found = reader.read(chunk).find((one) => one.code === code && !one.isHeader);
      if (found) return found;
    }
  }

  it('opens with what it is, and how many sessions it takes', async () => {
    await start();
    const { fields } = await frame(write(amqp.protocolHeader(0), OPEN), amqp.OPEN);
    should(fields[0]).equal('server');
    should(fields[3]).equal(2);
    await until('opened');
  });

  it('takes no client without a login where there has to be one', async () => {
    await start({ PLAIN: () => ({ start: async () => {}, step: async () => {} }) }, false);
    write(amqp.protocolHeader(0), OPEN);
    should(await until('unspoken')).match(/SASL/);
  });

  it('says in the outcome of a login what the mechanism has to say (R60)', async () => {
    const proof = Buffer.from('v=proof');
    await start(
      { X: () => ({ outcome: true, additionalData: proof, start: async () => {}, step: async () => {} }) },
      false,
    );
    const reader = write(amqp.protocolHeader(3), { code: amqp.INIT, fields: [amqp.sym('X')] });
    const { fields } = await frame(reader, amqp.OUTCOME);
    should(fields).eql([0, proof]);
  });

  it('keeps what comes behind a step of the login until that is answered', async () => {
    let steps = 0;
    await start(
      {
        X: () => {
          const mechanism: ReturnType<ServerMechanisms[string]> = {
            start: async () => {
              steps++;
              await new Promise((resolve) => setImmediate(resolve));
              return Buffer.from('challenge');
            },
            step: async () => {
              steps++;
              await new Promise((resolve) => setImmediate(resolve));
              mechanism.outcome = true;
            },
          };
          return mechanism;
        },
      },
      false,
    );
    // All in one go.
    write(
      amqp.protocolHeader(3),
      { code: amqp.INIT, fields: [amqp.sym('X')] },
      { code: 0x43, fields: [amqp.binary(Buffer.of(1))] },
      amqp.protocolHeader(0),
      OPEN,
    );
    await until('opened');
    should(steps).equal(2);
  });

  it('does not keep more than a little of it', async () => {
    await start({ X: () => ({ start: () => new Promise(() => {}), step: async () => {} }) }, false);
    write(
      amqp.protocolHeader(3),
      { code: amqp.INIT, fields: [amqp.sym('X')] },
      ...Array(10).fill(amqp.frame(0, Buffer.alloc(0x4000 - 8).fill(0x40), 0)),
    );
    await until('unspoken');
  });

  it('takes one try at a login, and reads nothing behind that (5.3.2)', async () => {
    let tries = 0;
    const refused = (): ReturnType<ServerMechanisms[string]> => {
      tries++;
      return { outcome: false, start: async () => {}, step: async () => {} };
    };
    await start({ X: refused }, false);
    const init = { code: amqp.INIT, fields: [amqp.sym('X')] };
    await frame(write(amqp.protocolHeader(3), init, init, init), amqp.OUTCOME);
    const written = new Promise<void>((resolve) => socket.write(amqp.write(init), () => resolve()));
    await written;
    await new Promise((resolve) => setImmediate(resolve));
    should(tries).equal(1);
  });

  it('refuses a mechanism that was not offered, whatever its name', async () => {
    for (const name of ['Y', 'PLAIN']) {
      await start({ X: () => ({ start: async () => {}, step: async () => {} }) }, false);
      const reader = write(amqp.protocolHeader(3), { code: amqp.INIT, fields: [amqp.sym(name)] });
      should((await frame(reader, amqp.OUTCOME)).fields[0]).equal(1);
      socket.destroy();
      server.close();
    }
  });

  it('reads nothing more of a client that does not read what it is answered', async () => {
    await start();
    write(amqp.protocolHeader(0), OPEN);
    await until('opened');
    socket.pause();
    wire.output.append(Buffer.alloc(20 * 2 ** 20));
    const paused = once(accepted, 'pause');
    socket.write(amqp.frame(0, Buffer.alloc(0)));
    await paused;
    const resumed = once(accepted, 'resume');
    socket.resume();
    await resumed;
  });

  it('closes with an error', async () => {
    await start();
    const reader = write(amqp.protocolHeader(0), OPEN);
    await until('opened');
    wire.close({ condition: 'amqp:connection:forced', description: 'enough' });
    const { fields } = await frame(reader, amqp.CLOSE);
    should((fields[0] as { value: unknown[] }).value.slice(0, 2)).eql(['amqp:connection:forced', 'enough']);
  });

  const WRONG: [what: string, error: RegExp, ...plans: amqp.Plan[]][] = [
    ['beyond channel-max', /channel 3/, { ...BEGIN, channel: 3 }],
    ['twice on a channel', /channel 0/, BEGIN, BEGIN],
    ['as an answer', /session of nobody/, { ...BEGIN, fields: BEGIN.fields.with(0, amqp.ushort(0)) }],
  ];
  for (const [what, error, ...plans] of WRONG) {
    it(`takes no session that is begun ${what}`, async () => {
      await start();
      write(amqp.protocolHeader(0), OPEN, ...plans);
      should(await until('failed')).match(error);
    });
  }

  describe('has sessions, which', () => {
    let connection: Connection;

    async function connect(options: object = {}): Promise<void> {
      await start();
      const container = rhea.create_container();
      for (const event of [
        'disconnected',
        'error',
        'protocol_error',
        'sender_error',
        'receiver_error',
        'sender_close',
        'receiver_close',
        'session_close',
      ])
        container.on(event, () => {});
      connection = container.connect({ host: '127.0.0.1', port: port(), reconnect: false, ...options });
      await once(connection, 'connection_open');
      socket = (connection as unknown as { socket: net.Socket }).socket;
    }

    it('tell what a client asks for', async () => {
      await connect();
      connection.open_sender({ name: 'a', target: 'to', snd_settle_mode: 1 });
      connection.open_receiver({ name: 'c', source: { address: 'from', dynamic: false } });
      connection.open_receiver({ name: 'b', source: { dynamic: true } } as never);
      await once(connection, 'receiver_open');
      should(asked.map(({ role, address, dynamic, isPreSettled }) => [role, address, dynamic, isPreSettled])).eql([
        ['sender', 'to', false, true],
        ['receiver', 'from', false, false],
        ['receiver', undefined, true, false],
      ]);
    });

    it('take a sender and a receiver of one name (R23)', async () => {
      await start();
      const reader = write(amqp.protocolHeader(0), OPEN, BEGIN, attach(0, true), attach(1, false));
      const attached: amqp.Frame[] = [];
      while (attached.length < 2) {
        const [chunk] = (await once(socket, 'data')) as [Buffer];
        attached.push(...reader.read(chunk).filter(({ code }) => code === amqp.ATTACH));
      }
      should(attached.map(({ fields: [name, , role] }) => [name, role])).eql([
        ['same', false],
        ['same', true],
      ]);
      // Where a sender begins to count is mandatory (2.7.3).
      should(attached[0]!.fields[9]).equal(0);
    });

    it('give the address that was made', async () => {
      await connect();
      answer = (session, what) => ({ ...take(session, what), address: 'made' });
      const from = connection.open_receiver({ source: { dynamic: true } } as never);
      await once(from, 'receiver_open');
      should(from.source.address).equal('made');
    });

    it('refuse by an attach without terminus, and a detach with the error', async () => {
      await connect();
      answer = () => ({ refusal: { condition: 'amqp:not-found', description: 'none' }, gone: () => void gone++ });
      const to = connection.open_sender({ target: 'x' });
      to.on('sender_error', () => {});
      await once(to, 'sender_close');
      should((to.error as { condition?: string }).condition).equal('amqp:not-found');
      should(to.target).not.have.property('address', 'x');
    });

    it('say that nobody has attached what is taken all the same', async () => {
      await connect();
      answer = () => ({ gone: () => void gone++ });
      const to = connection.open_sender({ target: 'x' });
      to.on('sender_error', () => {});
      await once(to, 'sender_close');
      should((to.error as { condition?: string }).condition).equal('amqp:internal-error');
    });

    it('tell once that a link is gone, and keep nothing of it', async () => {
      await connect();
      for (let n = 1; n <= 20; n++) {
        const to = connection.open_sender({ target: 'x' });
        await once(to, 'sender_open');
        const closed = once(to, 'sender_close');
        to.close();
        await closed;
        should(gone).equal(n);
      }
      const [session] = sessions;
      should(session!.listenerCount('end')).be.belowOrEqual(2);
    });

    it('tell that all links are gone once the client ends them', async () => {
      await connect();
      const session = connection.create_session();
      session.begin();
      await Promise.all(['a', 'b'].map((name) => once(session.open_sender({ name, target: 'x' }), 'sender_open')));
      const ended = once(session, 'session_close');
      session.close();
      await ended;
      should(gone).equal(2);
    });

    it('end with the connection where the answer to an attach would not fit', async () => {
      await connect();
      answer = (session) => {
        session.attachSender('x', {}).remove();
        return { gone: () => void gone++ };
      };
      connection.open_receiver({ source: 'x' });
      should(await until('failed')).match(/larger than any frame/);
      should(gone).equal(1);
    });
  });
});
