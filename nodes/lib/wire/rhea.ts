/**
 * What is used of rhea beyond its typings. A test asks the version that is installed for each of these by name.
 */
import type { Connection, Receiver, Sender, Session, Typed } from 'rhea';

export interface Frame<P> {
  channel: number;
  performative: P;
}

export type RheaConnection = Omit<Connection, 'on_open' | 'on_begin' | 'input' | 'local' | 'remote' | '_process'> & {
  local_channel_map: object;
  offered_capabilities?: unknown;
  /** By the peer's channels: the sessions. */
  remote_channel_map: Record<number, unknown>;
  accept(socket: unknown): void;
  /** rhea's own view of whether the socket can be written to. */
  socket_ready: boolean;
  local: { open: { idle_time_out?: number }; close: { error?: unknown } };
  remote: { close?: { error?: unknown } };
  input(chunk: Buffer): void;
  on_open(frame: Frame<{ idle_time_out?: number | null }>): void;
  on_begin(frame: Frame<{ remote_channel?: number | null }>): void;
  abort_socket(socket: unknown): void;
  sasl_transport: RheaSaslClient | RheaSaslServer | RheaSelective;
  /** Writes what is to be written: by itself in its next turn. */
  _process(): void;
};

export interface RheaSaslClient {
  mechanisms: object;
  transport: RheaTransport;
  on_sasl_mechanisms(frame: { performative: { sasl_server_mechanisms: unknown } }): void;
  on_sasl_outcome(frame: { performative: { code: number; additional_data?: unknown } }): void;
}

/** What logs a client in. */
export interface RheaSaslServer {
  transport: RheaTransport & { encode(frame: { performative: { code?: number; additional_data?: Buffer } }): void };
  mechanism?: { additionalData?: Buffer };
  /** The code of the outcome; 0: it lets in. */
  outcome?: number;
  do_step(challenge: Buffer | undefined): void;
  on_sasl_init(frame: object): void;
  on_sasl_response(frame: object): void;
}

/** The same for clients that may do without a login. */
export interface RheaSelective {
  transports: Record<number, RheaSaslServer>;
}

export type RheaSession = Omit<Session, 'local' | 'incoming' | 'on_begin' | 'on_end' | 'on_attach' | 'on_detach'> & {
  local: {
    channel: number;
    begin: { next_outgoing_id: number; incoming_window: number; remote_channel?: number };
  };
  create_sender(name: string, options: object): Sender;
  create_receiver(name: string, options: object): Receiver;
  state: { local_open: boolean; remote_open: boolean };
  incoming: { max_transfer_id: number };
  links: Record<string, RheaLink>;
  on_begin(frame: Frame<{ next_outgoing_id: number; incoming_window: number }>): void;
  on_end(frame: Frame<object>): void;
  on_attach(frame: Frame<Attach>): void;
  on_detach(frame: Frame<{ handle: number }>): void;
  _write_flow(): void;
};

export type RheaLink = Omit<Receiver | Sender, 'local' | 'remote'> & {
  local: { handle: number; attach: LocalAttach; detach: { error?: unknown } };
  set_source(fields: object): void;
  set_target(fields: object): void;
  remote: { detach?: { closed?: boolean } };
  state: { local_open: boolean };
};

interface Described {
  descriptor?: { value: unknown };
}

interface LocalAttach {
  name: string;
  source?: unknown;
  target?: unknown;
}

/** An attach of the peer. */
export interface Attach {
  name: string;
  handle: number;
  /** True: of a receiver. */
  role: boolean;
  snd_settle_mode?: number | null;
  source?: Described | null;
  target?: Described | null;
  initial_delivery_count?: number | null;
}

export interface RheaTypes {
  Writer: new () => { write(value: object): void; toBuffer(): Buffer };
  List32(items: Typed[]): Typed;
  Map32(items: Typed[]): Typed;
}

/** The SASL layer: it takes what comes, writes what waits, and tells the trace of both. */
export interface RheaTransport {
  read(bytes: Buffer): number;
  write(socket: unknown): void;
}

type Trace = ((format: string, ...values: unknown[]) => void) & { enabled: boolean };

/** Looked up at each call. */
export interface RheaLog {
  frames: Trace;
  raw: Trace;
}
