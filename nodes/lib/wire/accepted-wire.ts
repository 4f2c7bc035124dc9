import type { Duplex } from 'node:stream';
import { AcceptedSession, type Attaching } from './accepted-session';
import { Output } from './output';
import type { RheaSaslServer, RheaSelective, RheaSession } from './rhea';
import { maskTrace } from './trace';
import { Wire, type WireUser } from './wire';

export interface AcceptedOptions {
  /** Sent in open.container-id. */
  containerId: string;
  /** Sent in open.properties: who we are. */
  properties?: Record<string, string>;
  /** Milliseconds without a frame from the client after which the connection counts as lost. 0: never. */
  idleTimeout: number;
  /** Sessions that the client may begin. */
  maxSessions: number;
  /** Gets a line for each frame, without what logs in. */
  trace?: (line: string) => void;
}

/** The server's side of a SASL mechanism (5.3.2), as rhea calls it: what is returned goes out as a challenge while there is no outcome. */
export interface ServerMechanism {
  outcome?: boolean;
  username?: string;
  /** Of the outcome. */
  additionalData?: Buffer;
  start(response: Buffer | null): Promise<Buffer | void>;
  step(response: Buffer): Promise<Buffer | void>;
}

export type ServerMechanisms = Record<string, () => ServerMechanism>;

/** Bytes that a client may send before its login is answered. */
const MAX_EARLY = 2 ** 16;
/** Bytes that a client has not read, beyond which nothing more is read of what it sends: answers would gather without end. */
const MOST_UNREAD = 2 ** 20;
const MAX_SESSIONS_ERROR = 'amqp:resource-limit-exceeded';

/** A connection that a client has opened to us. */
export class AcceptedWire extends Wire {
  override readonly maxUnread = 2 ** 16;
  readonly #maxSessions: number;
  readonly #listener: Attaching;
  readonly #tell: AcceptedOptions['trace'];
  /** What has come behind a step of the login that is not answered yet: rhea would take it for more of the login. */
  #early: Buffer[] | undefined;
  #earlySize = 0;
  /** The login has failed: there is no other try on this connection. */
  #isRefused = false;

  /** `mechanisms`: none of them, and the client may go without SASL. */
  constructor(
    options: AcceptedOptions,
    mechanisms: ServerMechanisms,
    isLoginOptional: boolean,
    user: WireUser,
    listener: Attaching,
  ) {
    const { containerId, properties, idleTimeout, maxSessions } = options;
    super(user, {
      container_id: containerId,
      properties,
      channel_max: maxSessions - 1,
      // R42: rhea gives up after twice the value.
      ...(idleTimeout ? { idle_time_out: idleTimeout / 2 } : {}),
      require_sasl: !isLoginOptional,
    });
    this.#maxSessions = maxSessions;
    this.#listener = listener;
    this.#tell = options.trace;
    // rhea looks for them in the container.
    Object.assign((this.rhea as unknown as { container: { sasl_server_mechanisms: object } }).container, {
      sasl_server_mechanisms: mechanisms,
    });
    this.#takeSessions();
  }

  /** Takes what comes over the socket from now on. */
  accept(socket: Duplex): void {
    this.socket = socket;
    this.isConnected = true;
    socket.setMaxListeners(0);
    if (this.#tell) this.traced(socket, this.#tell);
    this.output = new Output(socket);
    this.rhea.accept(socket);
    socket.on('data', () => {
      if (this.output.unread > MOST_UNREAD) socket.pause();
    });
    socket.on('drain', () => socket.resume());
    const layer = this.rhea.sasl_transport as RheaSaslServer | RheaSelective;
    this.#watchLogin('transports' in layer ? layer.transports[3]! : layer);
  }

  #takeSessions(): void {
    const connection = this.rhea;
    connection.on_begin = (frame) => {
      const { channel, performative } = frame;
      if (typeof performative.remote_channel === 'number') throw new Error('the client answers a session of nobody');
      if (channel >= this.#maxSessions || channel in connection.remote_channel_map)
        throw new Error(`${MAX_SESSIONS_ERROR}: the client begins a session on channel ${channel}`);
      const begun = connection.create_session() as unknown as RheaSession;
      begun.local.begin.remote_channel = channel;
      const session = new AcceptedSession(this, begun, this.#listener);
      // Whoever uses it listens for its links alone.
      session.on('end', () => {});
      begun.on_begin(frame as Parameters<RheaSession['on_begin']>[0]);
      connection.remote_channel_map[channel] = begun;
    };
  }

  /** R60: rhea has nothing to say in an outcome but its code. What a client sends behind a step has to wait for the answer. */
  #watchLogin(server: RheaSaslServer): void {
    maskTrace(server.transport);
    const encode = server.transport.encode.bind(server.transport);
    server.transport.encode = (frame) => {
      const { performative } = frame;
      if ('code' in performative && server.mechanism?.additionalData)
        performative.additional_data = server.mechanism.additionalData;
      encode(frame);
    };
    for (const step of ['on_sasl_init', 'on_sasl_response'] as const) {
      const take = server[step].bind(server);
      server[step] = (frame) => {
        this.#early = [];
        take(frame);
        // A mechanism that was not offered.
        this.#isRefused ||= Boolean(server.outcome);
      };
    }
    const doStep = server.do_step.bind(server);
    server.do_step = (challenge) => {
      doStep(challenge);
      this.#isRefused ||= Boolean(server.outcome);
      this.#release();
    };
  }

  override others(bytes: Buffer): void {
    if (this.#isRefused) return;
    if (!this.#early) return super.others(bytes);
    this.#earlySize += bytes.length;
    if (this.#earlySize > MAX_EARLY) throw new Error('the client does not wait for its login');
    this.#early.push(Buffer.from(bytes));
  }

  #release(): void {
    const early = this.#early ?? [];
    this.#early = undefined;
    this.#earlySize = 0;
    // A login among them begins to wait anew.
    for (const bytes of early) this.guarded(() => this.others(bytes));
  }

  /** For a session. */
  hold(bytes: number): void {
    this.#listener.hold(bytes);
  }

  /** Closes, with an error if one is given. */
  override close(error?: { condition: string; description?: string }): void {
    if (error) this.rhea.local.close.error = error;
    super.close();
  }
}
