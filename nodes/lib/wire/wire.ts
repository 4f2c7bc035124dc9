import type { Duplex } from 'node:stream';
import rhea, { type ConnectionOptions, type EventContext } from 'rhea';
import { type AmqpError, amqpError, type PeerError } from '../errors';
import { MAX_TIMEOUT } from '../pause';
import { FrameTrace, type Mask } from './frame-trace';
import { Frames, type MessageFrames } from './frames';
import { Output } from './output';
import { type Opened, openedOf, peerErrorOf } from './remote';
import type { RheaConnection, RheaSaslClient, RheaSession } from './rhea';
import { Session, type SessionUser } from './session';
import { maskTrace } from './trace';
import { MAX_FRAME_SIZE, openSocket, type TransportOptions } from './transport';

export interface WireOptions extends TransportOptions {
  /** Sent in open.container-id. */
  containerId: string;
  /** Sent in open.hostname. Default: the host. */
  hostname?: string;
  /** Sent in open.properties: who we are, for those who look at the peer. */
  properties?: Record<string, string>;
  /** Milliseconds without a frame from the peer after which the connection counts as lost. 0: never. */
  idleTimeout: number;
  /** Gets a line for each frame, without what logs in. */
  trace?: (line: string) => void;
  /** Takes out of it what the peer was told in confidence. */
  mask?: Mask;
}

/** How to log in by one SASL mechanism (5.3.2). Errors are AmqpErrors. */
export interface Mechanism {
  /** Gives the initial response. */
  start(callback: (error: undefined, response: Buffer) => void): void;
  /** Answers a challenge. */
  step(challenge: Buffer, callback: (error: Error | undefined, response?: Buffer) => void): void;
  /** Throws where a login that the peer has taken is none, by the additional data of the outcome. */
  finish?(additionalData: Buffer | undefined): void;
}

/** What makes a mechanism, by its name: the best first. It may throw an AmqpError. */
export type Mechanisms = Record<string, () => Mechanism>;

/** How a wire says what becomes of it. Those from `closed` to `failed` are ends: several may come. */
export interface WireUser {
  /** The first bytes have come. Throws when they are of another protocol. */
  began(first: Buffer): void;
  /** The login is about to begin, by this mechanism. */
  loggingIn(mechanism: string): void;
  /** There can be no login: a mechanism in common is missing, or fails. */
  refused(error: AmqpError): void;
  /** The peer has opened. */
  opened(): void;
  /** The peer has closed: with an error, or in good order. Before `opened` the login may have been refused. */
  closed(error: PeerError | undefined): void;
  /** The socket is gone. */
  dropped(error: unknown): void;
  /** What came is not AMQP 1.0. */
  unspoken(error: unknown): void;
  /** rhea cannot go on. */
  failed(error: unknown): void;
  /** What was thrown by who uses a link: the connection goes on. */
  fault(error: unknown): void;
}

/** The smallest max-frame-size that a peer may have (2.7.1). */
export const MIN_MAX_FRAME_SIZE = 512;
/** By these the protocol is told. */
const FIRST_BYTES = 8;
/** The code of an outcome that lets us in (5.3.3.5). */
const SASL_OK = 0;
/** What is made use of where a peer has it: some offer a capability only to who desires it (2.7.1). */
const DESIRED = ['ANONYMOUS-RELAY'];
/** R10: without a listener anywhere these would be thrown. */
const UNHEARD = ['session_error', 'session_close', 'sender_error', 'sender_close', 'receiver_error', 'receiver_close'];

/**
 * One connection to a peer: the place where all meet that go over it. rhea does the protocol header, SASL, open and
 * close, begin and end, attach and detach, and the idle time-out. Each is a new rhea connection with rhea's own
 * reconnecting switched off (R2, R13-R17).
 */
export abstract class Wire implements SessionUser {
  /** The first bytes of the peer. */
  first: Buffer = Buffer.alloc(0);
  /** The socket can be written to: with TLS, once the peer is verified. */
  isConnected = false;
  /** The most bytes of a frame that the peer takes, once it has opened. Read once: rhea unwraps it each time (R85). */
  maxFrameSize = Infinity;
  /** Nothing of the peer is taken any more. */
  isOver = false;
  output!: Output;
  /** Bytes that the socket keeps while the peer does not read: the rest waits in the buffer, which is bounded. */
  readonly maxUnread: number = 2 ** 20;
  protected readonly user: WireUser;
  protected readonly rhea: RheaConnection;
  protected socket: Duplex | undefined;
  #trace: FrameTrace | undefined;
  readonly #frames = new Frames(this);
  /** By the peer's channel. */
  readonly #sessions = new Map<number, MessageFrames>();
  readonly #input: (bytes: Buffer) => void;

  constructor(user: WireUser, options: object) {
    this.user = user;
    this.rhea = this.#connectionOf(options);
    this.#input = this.rhea.input.bind(this.rhea);
    this.#intercept();
  }

  #connectionOf(options: object): RheaConnection {
    const { user } = this;
    const container = rhea.create_container();
    container.on('connection_open', () => {
      this.maxFrameSize = this.rhea.max_frame_size ?? Infinity;
      user.opened();
    });
    container.on('connection_error', ({ error }: EventContext) => {
      // R89: what rhea gives has no info.
      user.closed(peerErrorOf(this.rhea.remote.close?.error ?? error));
    });
    container.on('connection_close', () => user.closed(undefined));
    container.on('disconnected', ({ error }: EventContext) => user.dropped(error));
    // R34, R43: these two get the error itself. The socket may stay half open after them.
    container.on('protocol_error', (error: unknown) => user.unspoken(error));
    container.on('error', (error: unknown) => user.failed(error));
    for (const event of UNHEARD) container.on(event, () => {});
    const connection = container.create_connection({
      reconnect: false,
      tcp_no_delay: true,
      max_frame_size: MAX_FRAME_SIZE,
      ...options,
    } as unknown as ConnectionOptions) as unknown as RheaConnection;
    connection.setMaxListeners(0);
    return connection;
  }

  /** Keeps from rhea what would make it hang, grow without bound, or throw where nobody catches; and the messages. */
  #intercept(): void {
    const connection = this.rhea;
    connection.input = (chunk) => this.guarded(() => this.#take(chunk));
    const process = connection._process.bind(connection);
    // R11: rhea runs it in a turn of its own, where nobody catches what frames that cannot be written throw.
    connection._process = () => this.guarded(process);
    const onOpen = connection.on_open.bind(connection);
    connection.on_open = (frame) => {
      // R79: rhea sends its empty frames in half the time, and Node makes 1 ms of what is beyond 2^31.
      const { performative } = frame;
      if ((performative.idle_time_out ?? 0) > MAX_TIMEOUT) performative.idle_time_out = MAX_TIMEOUT;
      onOpen(frame);
    };
  }

  protected guarded(callback: () => void): void {
    if (this.isOver) return;
    try {
      callback();
    } catch (error) {
      this.isOver = true;
      this.user.unspoken(error);
    }
  }

  /** All that goes over the socket is traced from now on. */
  protected traced(socket: Duplex, tell: (line: string) => void, mask?: Mask): void {
    const trace = new FrameTrace(tell, mask);
    this.#trace = trace;
    const write = socket.write.bind(socket) as (...args: unknown[]) => boolean;
    socket.write = (...args: unknown[]): boolean => {
      if (args[0] instanceof Uint8Array) trace.sent(args[0]);
      return write(...args);
    };
  }

  #take(chunk: Buffer): void {
    this.#trace?.received(chunk);
    if (this.first.length < FIRST_BYTES) {
      this.first = Buffer.concat([this.first, chunk.subarray(0, FIRST_BYTES - this.first.length)]);
      this.user.began(this.first);
    }
    this.#frames.take(chunk);
  }

  /** For the frames. */
  sessionOf(channel: number): MessageFrames | undefined {
    return this.#sessions.get(channel);
  }

  /** For the frames. */
  others(bytes: Buffer): void {
    if (!this.isOver) this.#input(bytes);
  }

  /** For a session. */
  route(channel: number, session: Session | undefined): void {
    if (session) this.#sessions.set(channel, session);
    else this.#sessions.delete(channel);
  }

  /** For a session. */
  fault(error: unknown): void {
    this.user.fault(error);
  }

  /** What the peer has said of itself in its open. */
  get opened(): Opened {
    return openedOf(this.rhea);
  }

  /** Sessions that the peer allows. */
  get maxSessions(): number {
    return (this.rhea.channel_max ?? 0xffff) + 1;
  }

  /** Calls back when the peer reads again what it has let wait. Returns what ends that. */
  onRead(callback: () => void): () => void {
    const socket = this.socket;
    socket?.on('drain', callback);
    return () => socket?.off('drain', callback);
  }

  /** A new session, still to be begun. Undefined: the peer has no more (R53: rhea would take one all the same). */
  session(): Session | undefined {
    if (Object.keys(this.rhea.local_channel_map).length >= this.maxSessions) return undefined;
    return new Session(this, this.rhea.create_session() as RheaSession);
  }

  close(): void {
    this.rhea.close();
  }

  /** Lets go of it at once, in whatever state: no timer, listener or socket of it stays (R40, R43, R87). */
  discard(): void {
    this.isOver = true;
    const connection = this.rhea;
    const socket = this.socket;
    if (!socket) return;
    connection.abort_socket(socket);
    // What rhea still has to say goes nowhere, or it would start its idle timer again.
    connection.socket_ready = false;
    connection.local.open.idle_time_out = 0;
    socket.on('error', () => {});
  }
}

/** A connection that we have opened, from dialling to its end. */
export class DialledWire extends Wire {
  /** Without mechanisms there is no SASL layer. */
  constructor(options: WireOptions, mechanisms: Mechanisms | undefined, user: WireUser) {
    const { containerId, hostname, properties, host, port, idleTimeout } = options;
    super(user, {
      container_id: containerId,
      hostname: hostname || host,
      properties,
      desired_capabilities: DESIRED,
      host,
      port,
      // R42: rhea gives up after twice the value.
      ...(idleTimeout ? { idle_time_out: idleTimeout / 2 } : {}),
      // Any, for there to be a SASL layer: what is offered is seen to below.
      sasl_mechanisms: mechanisms,
      connection_details: () => ({
        host,
        port,
        connect: (_port: number, _host: string, _options: unknown, connected: () => void) => {
          const socket = openSocket(options, () => {
            this.isConnected = true;
            connected();
          });
          this.socket = socket;
          if (options.trace) this.traced(socket, options.trace, options.mask);
          this.output = new Output(socket);
          return socket;
        },
      }),
    });
    const connection = this.rhea;
    const onBegin = connection.on_begin.bind(connection);
    connection.on_begin = (frame) => {
      // R74: a client has no use for sessions of its peer, and rhea would keep any number.
      if (typeof frame.performative.remote_channel !== 'number') throw new Error('the peer begins a session');
      onBegin(frame);
    };
    const connect = connection.connect.bind(connection);
    connection.connect = () => {
      connect();
      if (mechanisms) this.#logIn(connection.sasl_transport as RheaSaslClient, mechanisms, options.passed);
      return connection;
    };
  }

  /** Dials. Throws for a port or TLS option that Node refuses. */
  connect(): void {
    this.rhea.connect();
  }

  /** Chooses the mechanism, and hears the outcome, before rhea does. */
  #logIn(client: RheaSaslClient, mechanisms: Mechanisms, passed: WireOptions['passed']): void {
    maskTrace(client.transport);
    let mechanism: Mechanism | undefined;
    const refused = (error: unknown): void => {
      if (!this.isOver) this.user.refused(error as AmqpError);
    };
    const onMechanisms = client.on_sasl_mechanisms.bind(client);
    client.on_sasl_mechanisms = (frame) => {
      const offered = [frame.performative.sasl_server_mechanisms].flat();
      // R27: rhea takes the first of the peer's list that we have, not the first of ours.
      const name = Object.keys(mechanisms).find((one) => offered.includes(one));
      if (name === undefined) return refused(noneInCommon(offered, Object.keys(mechanisms)));
      try {
        mechanism = mechanisms[name]!();
      } catch (error) {
        return refused(error);
      }
      this.user.loggingIn(name);
      const chosen = mechanism;
      client.mechanisms = {
        [name]: {
          start: chosen.start.bind(chosen),
          step: (challenge: Buffer, callback: (error: undefined, response?: Buffer) => void) =>
            chosen.step(challenge, (error, response) => {
              if (error) refused(error);
              else if (!this.isOver) callback(undefined, response);
            }),
        },
      };
      frame.performative.sasl_server_mechanisms = [name];
      onMechanisms(frame);
    };
    const onOutcome = client.on_sasl_outcome.bind(client);
    client.on_sasl_outcome = (frame) => {
      if (!mechanism) throw new Error('the peer ends the login before it has begun');
      const { code, additional_data: data } = frame.performative;
      try {
        // R60: rhea drops what the outcome says beyond its code.
        if (code === SASL_OK) {
          mechanism.finish?.(Buffer.isBuffer(data) ? data : undefined);
          passed?.('login');
        }
      } catch (error) {
        return refused(error);
      }
      onOutcome(frame);
    };
  }
}

function noneInCommon(offered: unknown[], ours: string[]): AmqpError {
  const texts = offered.filter((one) => typeof one === 'string').join(', ');
  return amqpError(
    'AMQP_AUTH.mechanism',
    { offered: texts || 'none', ours: ours.join(', ') },
    { diagnosis: 'mechanism' },
  );
}
