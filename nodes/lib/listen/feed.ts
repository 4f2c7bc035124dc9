import type { Entry } from '../link/entry';
import { type Outcome, SenderLink } from '../link/sender-link';
import type { AmqpError, PeerError } from '../errors';
import { ClientConnection, type ClientOptions, type Place } from './client-connection';

/** What feeds clients: the messages of one sender for one address. */
export interface Source {
  /** A link may be able to take messages. */
  ready(feed: Feed): void;
  joined(feed: Feed, link: SenderLink): void;
  left(feed: Feed, link: SenderLink): void;
  /** The address is not there any more. */
  gone(feed: Feed): void;
  settled(entry: Entry, outcome: Outcome): void;
  failed(entry: Entry, error: AmqpError): void;
  lost(feed: Feed, inDoubt: Entry[], error: AmqpError): void;
}

/** The clients that receive from one address, each by a link of its own, and what feeds them. */
export class Feed {
  readonly address: string;
  readonly sources = new Set<Source>();
  readonly #options: ClientOptions;
  readonly #links: SenderLink[] = [];
  /** Whose the messages are that are on their way, and by which link they went. */
  readonly #sent = new Map<Entry, { source: Source; link: SenderLink }>();
  #count = 0;
  /** The one whose turn it is. */
  #next = 0;

  constructor(address: string, options: ClientOptions) {
    this.address = address;
    this.#options = options;
  }

  get links(): readonly SenderLink[] {
    return this.#links;
  }

  /** Nobody receives from it, and nobody feeds it. */
  get isUnused(): boolean {
    return this.#links.length === 0 && this.sources.size === 0;
  }

  /** A client attaches a link that receives from the address. */
  attach(place: Place, isPreSettled: boolean): () => void {
    const connection = new ClientConnection(this.#options, place);
    const link = new SenderLink(
      connection,
      `${this.address}:${++this.#count}`,
      { address: this.address, guarantee: isPreSettled ? 'pre-settled' : 'at-least-once', isAccepted: true },
      {
        ready: () => this.#tell((source) => source.ready(this)),
        settled: (entry, outcome) => this.#take(entry)?.settled(entry, outcome),
        failed: (entry, error) => this.#take(entry)?.failed(entry, error),
        lost: (entries, error) => this.#lost(entries, error),
      },
    );
    this.#links.push(link);
    link.open();
    this.#tell((source) => source.joined(this, link));
    return () => {
      connection.over();
      if (this.#remove(link)) this.#tell((source) => source.left(this, link));
      void link.close();
    };
  }

  /** False for one that was sent away before. */
  #remove(link: SenderLink): boolean {
    const at = this.#links.indexOf(link);
    if (at >= 0) this.#links.splice(at, 1);
    return at >= 0;
  }

  /** Sends a client away: whether it answers or not, nothing is for it any more. Resolves in bounded time. */
  async dismiss(link: SenderLink, error: PeerError): Promise<void> {
    if (!this.#remove(link)) return;
    const detached = link.detach({ error });
    this.#tell((source) => source.left(this, link));
    await detached;
  }

  async dismissAll(error: PeerError): Promise<void> {
    await Promise.all(Array.from(this.#links).map((link) => this.dismiss(link, error)));
  }

  /** The address is not there any more. */
  end(): void {
    void this.dismissAll({ condition: 'amqp:resource-deleted', description: `${this.address} is gone` });
    this.#tell((source) => source.gone(this));
  }

  /** The next link that can take a message, in turn. */
  ready(): SenderLink | undefined {
    const links = this.#links;
    for (let tries = links.length; tries > 0; tries--) {
      this.#next = (this.#next + 1) % links.length;
      const link = links[this.#next]!;
      if (link.isReady) return link;
    }
    return undefined;
  }

  send(link: SenderLink, entry: Entry, source: Source): void {
    this.#sent.set(entry, { source, link });
    link.send(entry);
  }

  forget(entry: Entry): void {
    this.#sent.get(entry)?.link.forget(entry);
    this.#sent.delete(entry);
  }

  #take(entry: Entry): Source | undefined {
    const source = this.#sent.get(entry)?.source;
    this.#sent.delete(entry);
    return source;
  }

  #lost(entries: Entry[], error: AmqpError): void {
    const bySource = new Map<Source, Entry[]>();
    for (const entry of entries) {
      const source = this.#take(entry);
      if (!source) continue;
      const inDoubt = bySource.get(source);
      if (inDoubt) inDoubt.push(entry);
      else bySource.set(source, [entry]);
    }
    for (const [source, inDoubt] of bySource) source.lost(this, inDoubt, error);
  }

  /** A source may leave when it is told. */
  #tell(tell: (source: Source) => void): void {
    for (const source of Array.from(this.sources)) tell(source);
  }
}
