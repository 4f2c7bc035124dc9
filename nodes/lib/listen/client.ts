import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { mechanismsFor } from '../auth/server-sasl';
import { messageOf, type PeerError } from '../errors';
import type { AcceptedSession, AttachAnswer, Attaching } from '../wire/accepted-session';
import { AcceptedWire } from '../wire/accepted-wire';
import type { AskedLink } from '../wire/remote';
import { MIN_MAX_FRAME_SIZE, type WireUser } from '../wire/wire';
import type { Accounts } from '../auth/accounts';
import type { Place } from './client-connection';
import type { Gone } from './hub';

/** Milliseconds that a client has to read why it is sent away. */
const LAST_WORDS = 1000;
const TOO_MUCH = 'amqp:resource-limit-exceeded';

/** What a client needs of who listens. */
export interface ClientUser {
  readonly accounts: Accounts;
  readonly settings: {
    containerId: string;
    properties?: Record<string, string>;
    idleTimeout: number;
    connectTimeout: number;
    maxLinks: number;
    maxMemory: number;
    allowsAnonymous: boolean;
    takesCertificates: boolean;
    trace?: (line: string) => void;
  };
  /** Bytes of messages that have not come whole, of all clients. */
  memory: number;
  guarded<A extends unknown[]>(callback: (...args: A) => void): (...args: A) => void;
  fault(error: unknown): void;
  /** It attaches a link. Gives what ends it, and the address where that is made here; or why it is refused. */
  attach(asked: AskedLink, place: Place): { gone: Gone; address?: string } | PeerError;
  /** A login has failed. */
  refused(client: Client, user: string): void;
  /** It has sent what cannot be, and is dropped. */
  dropped(client: Client, reason: string): void;
  /** It has opened, or is gone. */
  changed(client: Client): void;
}

/** One client: its connection from the socket to its end, and its links. */
export class Client implements WireUser, Attaching {
  isOpen = false;
  isOver = false;
  readonly #listener: ClientUser;
  readonly #socket: Socket;
  readonly #wire: AcceptedWire;
  readonly #links = new Set<Gone>();
  /** Bytes of deliveries that have not come whole. */
  #held = 0;
  /** Links that were refused, and that it has not detached yet. */
  #refusals = 0;
  #timer: NodeJS.Timeout;

  constructor(listener: ClientUser, socket: Socket) {
    this.#listener = listener;
    this.#socket = socket;
    const { settings } = listener;
    const { containerId, properties, idleTimeout, maxLinks, connectTimeout, allowsAnonymous, trace } = settings;
    this.#timer = setTimeout(
      listener.guarded(() => this.discard()),
      connectTimeout,
    );
    socket.on('error', () => this.discard());
    socket.on('close', () => this.discard());
    this.#wire = new AcceptedWire(
      {
        containerId,
        properties,
        idleTimeout,
        maxSessions: maxLinks,
        ...(trace && { trace: (line) => trace(`${this.from} ${line}`) }),
      },
      this.#mechanisms(),
      allowsAnonymous,
      this,
      this,
    );
    this.#wire.accept(socket);
  }

  /** Where it has connected from. */
  get from(): string {
    return this.#socket.remoteAddress ?? '';
  }

  #mechanisms(): ReturnType<typeof mechanismsFor> {
    const { accounts, settings } = this.#listener;
    const { allowsAnonymous, takesCertificates, connectTimeout } = settings;
    return mechanismsFor({
      accounts,
      client: { from: this.from, isGone: () => this.isOver },
      allowsAnonymous,
      certified: takesCertificates ? certifiedName(this.#socket) : undefined,
      refused: (user) => this.#refused(user),
      refusalDelay: connectTimeout / 2,
    });
  }

  /** The login has failed: the client hears so, and goes. */
  #refused(user: string): void {
    if (this.isOver) return;
    this.#listener.refused(this, user);
    this.#later(LAST_WORDS);
  }

  #later(delay: number): void {
    clearTimeout(this.#timer);
    if (this.isOver) return;
    this.#timer = setTimeout(
      this.#listener.guarded(() => this.discard()),
      delay,
    );
  }

  /** Sends it away in good order. */
  close(error: PeerError & { condition: string } = { condition: 'amqp:connection:forced' }): void {
    if (!this.isOpen) return this.discard();
    this.#endLinks();
    this.#wire.close(error);
    this.#later(LAST_WORDS);
  }

  /** Lets go of it at once. */
  discard(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.isOpen = false;
    clearTimeout(this.#timer);
    this.#endLinks();
    this.#listener.memory -= this.#held;
    this.#held = 0;
    this.#wire.discard();
    this.#socket.destroy();
    this.#listener.changed(this);
  }

  #endLinks(): void {
    for (const gone of Array.from(this.#links)) gone();
  }

  // For sessions

  attaching(session: AcceptedSession, asked: AskedLink): AttachAnswer {
    const { maxLinks } = this.#listener.settings;
    if (this.#links.size >= maxLinks)
      return this.#refuse({ condition: TOO_MUCH, description: 'the client has too many links' });
    const answer = this.#listener.attach(asked, { wire: this.#wire, session });
    if (!('gone' in answer)) return this.#refuse(answer);
    const gone = this.#listener.guarded(() => {
      if (this.#links.delete(gone)) answer.gone();
    });
    this.#links.add(gone);
    return { ...answer, gone };
  }

  /** What is kept of a delivery that never becomes whole is memory of all clients. */
  hold(bytes: number): void {
    const listener = this.#listener;
    this.#held += bytes;
    listener.memory += bytes;
    if (bytes > 0 && listener.memory > listener.settings.maxMemory) throw new Error('too much has not come whole');
  }

  /** What was refused is kept until the client has detached it. */
  #refuse(refusal: PeerError): AttachAnswer {
    if (++this.#refusals > this.#listener.settings.maxLinks)
      throw new Error('the client does not detach the links that it was refused');
    return { refusal, gone: () => void this.#refusals-- };
  }

  // For the wire

  began(first: Buffer): void {
    if (first.toString('latin1', 0, Math.min(4, first.length)) !== 'AMQP'.slice(0, first.length))
      throw new Error('the client does not speak AMQP 1.0');
  }

  loggingIn(): void {}

  refused(): void {
    this.discard();
  }

  opened(): void {
    if (this.isOver) return;
    if (this.#wire.maxFrameSize < MIN_MAX_FRAME_SIZE) return this.discard();
    clearTimeout(this.#timer);
    this.isOpen = true;
    this.#listener.changed(this);
  }

  closed(): void {
    this.#endLinks();
    this.#later(LAST_WORDS);
  }

  dropped(): void {
    this.discard();
  }

  unspoken(error: unknown): void {
    this.#wrong(error);
  }

  failed(error: unknown): void {
    this.#wrong(error);
  }

  /** What a client sends that cannot be costs it its connection. */
  #wrong(error: unknown): void {
    if (this.isOver) return;
    this.#listener.dropped(this, messageOf(error));
    this.discard();
  }

  fault(error: unknown): void {
    this.#listener.fault(error);
  }
}

/** The common name in the certificate of a client, where that was verified. */
function certifiedName(socket: Socket): string | undefined {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined;
  const [name] = [socket.getPeerCertificate().subject?.CN].flat();
  return name || undefined;
}
