import type { AmqpError } from '../errors';
import { Entry } from '../link/entry';
import type { Outcome, SenderLink } from '../link/sender-link';
import { isOverdue, Lane } from '../sender/lane';
import { ClientRoutes } from './client-routes';
import type { Feed } from './feed';

/** A message of which each client gets a copy. */
interface Original {
  readonly entry: Entry;
  /** The copies without an outcome. */
  readonly copies: Set<Entry>;
  isTaken: boolean;
  /** That of a client which did not take it. */
  refusal?: Outcome;
}

/** A copy, and the client that it is for. */
interface Copy {
  readonly original: Original;
  readonly feed: Feed;
  readonly link: SenderLink;
  readonly lane: Lane;
}

/**
 * Copies without an outcome that a client may have beyond what the fastest has. One that is further behind is sent away: as
 * long as it has not had them, they fill the buffer of the sender.
 */
const MOST_BEHIND = 1000;
const NOTHING = (): void => {};

/**
 * As `ClientRoutes`, but each client that receives from the address gets a copy of each message. Without any client, messages
 * wait for the first one. A message is accepted once a client has accepted it and all others have had their say.
 */
export class CopyRoutes extends ClientRoutes {
  readonly #copies = new Map<Entry, Copy>();
  readonly #originals = new Map<Entry, Original>();
  readonly #lanes = new Map<SenderLink, { lane: Lane; behind: number }>();

  override delete(entry: Entry): void {
    const original = this.#originals.get(entry);
    this.#originals.delete(entry);
    for (const copy of original?.copies ?? []) this.#drop(copy);
    super.delete(entry);
  }

  override left(feed: Feed, link: SenderLink): void {
    this.#lanes.delete(link);
    const lost = Array.from(this.#copies).filter(([, copy]) => copy.link === link);
    for (const [entry, { original }] of lost) this.#without(entry, original);
    super.left(feed, link);
  }

  override settled(entry: Entry, outcome: Outcome): void {
    const copy = this.#copies.get(entry);
    if (!copy) return;
    const { original, feed, link, lane } = copy;
    this.count(feed, -1);
    const { retryTime } = this.options;
    if (outcome.mayRetry && retryTime > 0 && !isOverdue(entry, retryTime) && feed.links.includes(link))
      return lane.retry(entry, outcome.sent.state === 'released');
    lane.taken(entry);
    if (outcome.sent.state === 'accepted' || outcome.sent.state === 'settled') original.isTaken = true;
    else original.refusal ??= outcome;
    this.#without(entry, original);
  }

  override failed(entry: Entry, error: AmqpError): void {
    const copy = this.#copies.get(entry);
    if (!copy) return;
    this.count(copy.feed, -1);
    copy.original.refusal ??= {
      sent: { address: copy.feed.address, state: 'rejected' },
      peer: { condition: 'amqp:link:message-size-exceeded', description: error.message },
    };
    this.#without(entry, copy.original);
  }

  /** Of a client that is gone. */
  override lost(feed: Feed, inDoubt: Entry[]): void {
    this.count(feed, -inDoubt.length);
    for (const entry of inDoubt) {
      const copy = this.#copies.get(entry);
      if (copy) this.#without(entry, copy.original);
    }
  }

  /** Hands over what can be sent, and makes copies of what waits, as fast as the fastest client takes them. */
  protected override pump(feed: Feed, lane: Lane): void {
    if (this.isPaused) return;
    this.#pumpAllTo(feed);
    while (feed.links.some(({ isReady }) => isReady)) {
      const entry = lane.shift();
      if (!entry) break;
      this.waiting--;
      this.#copy(entry, feed);
      this.#pumpAllTo(feed);
    }
    this.user.changed();
  }

  #pumpAllTo(feed: Feed): void {
    for (const link of Array.from(feed.links)) this.#pumpTo(feed, link);
  }

  #copy(entry: Entry, feed: Feed): void {
    const original: Original = { entry, copies: new Set(), isTaken: false };
    this.#originals.set(entry, original);
    for (const link of Array.from(feed.links)) {
      const { bytes, format } = entry;
      const copy = new Entry(bytes, NOTHING, { address: feed.address, format });
      copy.sequence = entry.sequence;
      original.copies.add(copy);
      const queue = this.#laneOf(feed, link);
      this.#copies.set(copy, { original, feed, link, lane: queue.lane });
      queue.lane.put(copy);
      queue.behind++;
    }
    this.#sendAwaySlow(feed);
  }

  #sendAwaySlow(feed: Feed): void {
    const behindOf = (link: SenderLink): number => this.#lanes.get(link)?.behind ?? 0;
    const least = feed.links.reduce((fewest, link) => Math.min(fewest, behindOf(link)), Infinity);
    const description = `this client is more than ${MOST_BEHIND} messages behind others`;
    for (const link of Array.from(feed.links)) {
      if (behindOf(link) - least <= MOST_BEHIND) continue;
      void feed.dismiss(link, { condition: 'amqp:resource-limit-exceeded', description });
    }
  }

  #laneOf(feed: Feed, link: SenderLink): { lane: Lane; behind: number } {
    let queue = this.#lanes.get(link);
    if (!queue) {
      const ready = this.hub.guarded(() => this.#pumpTo(feed, link));
      queue = { lane: new Lane(ready, this.options.retryTime), behind: 0 };
      this.#lanes.set(link, queue);
    }
    return queue;
  }

  #pumpTo(feed: Feed, link: SenderLink): void {
    const lane = this.#lanes.get(link)?.lane;
    if (!lane) return;
    while (!this.isPaused && link.isReady) {
      const copy = lane.shift();
      if (!copy) break;
      this.count(feed, 1);
      feed.send(link, copy, this);
    }
  }

  /** A copy has its outcome, or its client is gone. */
  #without(copy: Entry, original: Original): void {
    this.#drop(copy);
    original.copies.delete(copy);
    const { entry, isTaken, refusal } = original;
    if (original.copies.size > 0 || !this.#originals.delete(entry)) return;
    if (refusal) this.user.settled(entry, { ...refusal, mayRetry: false });
    else if (isTaken) this.user.settled(entry, { sent: { address: this.addressOf(entry), state: 'accepted' } });
    // No client has had it: the next one gets it.
    else this.putBack(entry);
  }

  #drop(entry: Entry): void {
    const copy = this.#copies.get(entry);
    if (!copy) return;
    this.#copies.delete(entry);
    const { feed, link, lane } = copy;
    const queue = this.#lanes.get(link);
    if (queue) queue.behind--;
    if (!lane.delete(entry) && entry.end) {
      this.count(feed, -1);
      feed.forget(entry);
    }
  }
}
