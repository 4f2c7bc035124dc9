import type { LinkConnection, SessionLease } from '../connection/connection';
import type { Session } from '../wire/session';
import type { Wire } from '../wire/wire';

/** One session for links that a peer knows to belong together by it, in place of one for each. */
export class SharedSession {
  #wire: Wire | undefined;
  #session: Session | undefined;

  /** Begins the session with the first link. Undefined: the peer has no more. */
  lease(connection: LinkConnection, wire: Wire): SessionLease | undefined {
    if (this.#session && this.#wire === wire) return { session: this.#session, isShared: true };
    const lease = connection.beginSession(wire);
    // Where the peer has one session only, that is shared by all.
    if (!lease || lease.isShared) return lease;
    const { session } = lease;
    this.#wire = wire;
    this.#session = session;
    session.once('end', () => {
      if (this.#session === session) this.#session = undefined;
    });
    return { session, isShared: true };
  }

  /** To be called once its links are detached. */
  end(): void {
    if (this.#wire && !this.#wire.isOver) this.#session?.end();
    this.#session = undefined;
  }
}
