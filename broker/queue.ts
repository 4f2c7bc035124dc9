import type { Delivery } from 'rhea';
import { recount } from './bytes';
import { type Fields, type Link, room } from './rhea';

export interface LinkInfo {
  name: string;
  address: string;
  /** as the client sees it */
  role: 'sender' | 'receiver';
  containerId: string;
  sndSettleMode: number;
  rcvSettleMode: number;
  /** the termini as the client asked for them */
  source: Fields | null;
  target: Fields | null;
  /** as the client sent them, where it did */
  properties?: Fields;
  maxMessageSize?: number;
}

export interface Entry {
  seq: number;
  bytes: Buffer;
  format: number;
  id: unknown;
  expires: number;
  failures: number;
  undeliverableAt: Set<Link>;
}

export interface Attached {
  info: LinkInfo;
  link: Link;
  /** the node was made for this link and goes with it */
  dynamic: boolean;
  /** what a client's receiver reads from, until it is cut off */
  queue?: Queue;
  unsettled: Map<Delivery, Entry>;
}

export class Queue {
  ready: Entry[] = [];
  consumers: Attached[] = [];
  private last = 0;
  private turn = 0;

  constructor(readonly name: string) {}

  add(message: Pick<Entry, 'bytes' | 'format' | 'id'>, expires = Infinity): void {
    const { bytes, format, id } = message;
    this.ready.push({ seq: this.last++, bytes, format, id, expires, failures: 0, undeliverableAt: new Set() });
  }

  /** A queue with what is ready here, for who only looks. */
  copy(): Queue {
    const copy = new Queue(this.name);
    copy.ready = this.ready.map((entry) => ({ ...entry, undeliverableAt: new Set() }));
    return copy;
  }

  putBack(entry: Entry): void {
    const at = this.ready.findIndex(({ seq }) => seq > entry.seq);
    this.ready.splice(at < 0 ? this.ready.length : at, 0, entry);
  }

  unsettled(): number {
    return this.consumers.reduce((sum, { unsettled }) => sum + unsettled.size, 0);
  }

  /** Hands out what is ready, in turn to the consumers that have room for it. */
  deliver(): void {
    const rooms = this.consumers.map(({ link }) => room(link));
    let left = rooms.reduce((sum, n) => sum + n, 0);
    let next = 0;
    const kept: Entry[] = [];
    for (; left > 0 && next < this.ready.length; next++) {
      const entry = this.ready[next]!;
      if (entry.expires <= Date.now()) continue;
      const taker = this.taker(entry, rooms);
      if (taker < 0) {
        kept.push(entry);
        continue;
      }
      rooms[taker]!--;
      left--;
      this.turn = taker + 1;
      const { link, unsettled } = this.consumers[taker]!;
      const delivery = link.send(recount(entry.bytes, entry.failures), undefined, entry.format);
      if (!delivery.settled) unsettled.set(delivery, entry);
    }
    this.ready.splice(0, next, ...kept);
  }

  private taker(entry: Entry, rooms: number[]): number {
    for (let i = 0; i < rooms.length; i++) {
      const at = (this.turn + i) % rooms.length;
      if (rooms[at]! > 0 && !entry.undeliverableAt.has(this.consumers[at]!.link)) return at;
    }
    return -1;
  }
}
