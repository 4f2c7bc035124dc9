import type { Entry } from '../link/entry';
import { type Outcome, SenderLink } from '../link/sender-link';
import type { AmqpError } from '../errors';
import { ClientConnection, type ClientOptions, type Place } from './client-connection';

/** What feeds clients: the messages of one sender for one address. */
export interface Source {
  /** A link may be able to take messages. */
  ready(feed: Feed): void;
  joined(feed: Feed, link: SenderLink): void;
  left(feed: Feed, link: SenderLink): void;
  settled(entry: Entry, outcome: Outcome): void;
  failed(entry: Entry, error: AmqpError): void;
  lost(inDoubt: Entry[], error: AmqpError): void;
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
      this.#links.splice(this.#links.indexOf(link), 1);
      connection.over();
      this.#tell((source) => source.left(this, link));
      void link.close();
    };
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
      if (source) bySource.set(source, [...(bySource.get(source) ?? []), entry]);
    }
    for (const [source, inDoubt] of bySource) source.lost(inDoubt, error);
  }

  /** A source may leave when it is told. */
  #tell(tell: (source: Source) => void): void {
    for (const source of Array.from(this.sources)) tell(source);
  }
}
