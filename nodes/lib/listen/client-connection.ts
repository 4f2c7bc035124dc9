import { EventEmitter } from 'node:events';
import type { ConnectionUser, LinkConnection, SessionLease } from '../connection/connection';
import { type AmqpError, guarded } from '../errors';
import type { State } from '../state';
import type { Product } from '../wire/remote';
import type { Session } from '../wire/session';
import type { Wire } from '../wire/wire';

/** Where a link is that a client has attached. */
export interface Place {
  wire: Wire;
  session: Session;
}

/** What the connections of all clients have in common for links. */
export interface ClientOptions {
  options: LinkConnection['options'];
  fault(error: unknown): void;
}

/**
 * What one link needs of a connection, where a client has attached it: it attaches at once, on the client's session, and
 * never again.
 */
export class ClientConnection
  extends EventEmitter<{ state: [State]; fault: [unknown]; quiet: [AmqpError] }>
  implements LinkConnection
{
  readonly hasOneSession = false;
  readonly product: Product = {};
  readonly options: LinkConnection['options'];
  readonly #place: Place;
  #user: ConnectionUser | undefined;

  constructor(listener: ClientOptions, place: Place) {
    super();
    this.options = listener.options;
    this.on('fault', (error) => listener.fault(error));
    this.#place = place;
  }

  /** It is open already. */
  open(): void {}

  add(user: ConnectionUser): void {
    this.#user = user;
    user.connected(this.#place.wire, this);
  }

  async remove(): Promise<void> {
    this.#user = undefined;
  }

  beginSession(): SessionLease {
    return { session: this.#place.session, isShared: true };
  }

  /** Clients do not redirect. */
  redirect(): AmqpError | undefined {
    return undefined;
  }

  offers(): boolean {
    return false;
  }

  guarded<A extends unknown[]>(callback: (...args: A) => void): (...args: A) => void {
    return guarded(callback, (error) => this.emit('fault', error));
  }

  /** The link is gone, or its connection is. */
  over(): void {
    this.#user?.disconnected({ name: 'detached' });
    this.emit('state', { name: 'detached' });
  }
}
