import { type Backoff, pauseAfter } from '../connection/backoff';
import { Queue } from './queue';
import type { Entry } from '../link/entry';

/** An address that releases messages: they wait, and so does what is for the same address behind them. */
interface Refusal {
  readonly waiting: Queue<Entry>;
  /** Sent alone, to find out whether the address takes messages again. */
  probe?: Entry;
  probes: number;
  /** Runs until the next probe. */
  timer?: NodeJS.Timeout;
}

const FIRST_PAUSE = 200;
const LONGEST_PAUSE = 10_000;
/** Each so many probes the second message is tried: if that is taken, only the first is refused. */
const SECOND = 4;

/**
 * What waits for one link. Each address keeps its order, also when the peer releases messages: these are sent again
 * after growing pauses, one at first, and the rest once that was taken.
 */
export class Lane {
  readonly #waiting = new Queue<Entry>();
  readonly #refusals = new Map<string | undefined, Refusal>();
  /** Those that pause without holding up others. */
  readonly #pausing = new Map<Entry, NodeJS.Timeout>();
  readonly #ready: () => void;
  readonly #backoff: Backoff;

  /**
   * `ready` is called when there may be something to send after a pause. `time`: the milliseconds for which messages are
   * sent again, in which there are several tries.
   */
  constructor(ready: () => void, time = Infinity) {
    this.#ready = ready;
    this.#backoff = { initial: FIRST_PAUSE, max: Math.min(LONGEST_PAUSE, time / 2) };
  }

  get isEmpty(): boolean {
    return this.#waiting.size === 0 && !this.isRefused;
  }

  /** True while messages are to be sent again that the peer did not take. */
  get isRefused(): boolean {
    return this.#refusals.size > 0 || this.#pausing.size > 0;
  }

  /** The oldest message. */
  get first(): Entry | undefined {
    const firsts = [this.#waiting.first, ...this.#pausing.keys()];
    for (const { waiting } of this.#refusals.values()) firsts.push(waiting.first);
    return firsts.reduce(
      (oldest, one) => (one && (!oldest || one.sequence < oldest.sequence) ? one : oldest),
      undefined,
    );
  }

  /** Adds a message, or takes one back, to its place in the order of all. */
  put(entry: Entry): void {
    this.#waiting.put(entry);
  }

  /** Takes the next message that may be sent now. */
  shift(): Entry | undefined {
    for (;;) {
      const entry = this.#waiting.shift();
      const refusal = entry && this.#refusals.get(entry.address);
      if (!refusal || refusal.probe === entry) return entry;
      entry.refusedAt ??= performance.now();
      refusal.waiting.put(entry);
    }
  }

  /** Takes back a message that the peer has released or modified, to be sent again after a pause. */
  retry(entry: Entry, isReleased: boolean): void {
    entry.refusedAt ??= performance.now();
    entry.returns++;
    const { address } = entry;
    let refusal = this.#refusals.get(address);
    // That one message was modified says nothing of the next.
    if (!refusal && (!isReleased || entry.isRefusedAlone)) return this.#pause(entry);
    if (!refusal) this.#refusals.set(address, (refusal = { waiting: new Queue<Entry>(), probes: 0 }));
    refusal.waiting.put(entry);
    if (refusal.probe === entry) refusal.probe = undefined;
    this.#probeLater(refusal);
  }

  /** Notes that the peer has taken a message: what waits for the same address can be sent. */
  taken(entry: Entry): void {
    if (this.#refusals.size === 0) return;
    const { address } = entry;
    const refusal = this.#refusals.get(address);
    if (!refusal) return;
    this.#end(address, refusal);
    for (const other of refusal.waiting) {
      if (other.returns === 0 || other.sequence > entry.sequence) this.#free(other);
      else {
        other.isRefusedAlone = true;
        this.#pause(other);
      }
    }
    this.#ready();
  }

  /** Ends all waiting for an address: the peer may take messages again. */
  lift(): void {
    for (const [address, refusal] of this.#refusals) {
      this.#end(address, refusal);
      for (const entry of refusal.waiting) this.#free(entry);
    }
  }

  /** Puts back what is refused no longer: should it be again, its time begins anew. */
  #free(entry: Entry): void {
    entry.refusedAt = undefined;
    this.#waiting.put(entry);
  }

  /** Forgets a message. False when it does not wait here: it may be on its way. */
  delete(entry: Entry): boolean {
    const timer = this.#pausing.get(entry);
    clearTimeout(timer);
    const { address } = entry;
    const refusal = this.#refusals.get(address);
    const isDeleted =
      this.#pausing.delete(entry) || this.#waiting.delete(entry) || refusal?.waiting.delete(entry) === true;
    if (refusal?.probe === entry) {
      refusal.probe = undefined;
      this.#probeLater(refusal);
    }
    if (refusal && !refusal.probe && refusal.waiting.size === 0) this.#end(address, refusal);
    return isDeleted;
  }

  /** Those behind a refusal that have waited there for so many milliseconds. */
  overdue(address: string | undefined, time: number): Entry[] {
    const { waiting = [] } = this.#refusals.get(address) ?? {};
    return Array.from(waiting).filter((entry) => isOverdue(entry, time));
  }

  /** Takes all messages, in order. */
  clear(): Entry[] {
    this.lift();
    for (const [entry, timer] of this.#pausing) {
      clearTimeout(timer);
      this.#waiting.put(entry);
    }
    this.#pausing.clear();
    const messages = [...this.#waiting];
    for (const entry of messages) this.#waiting.delete(entry);
    return messages;
  }

  #end(address: string | undefined, refusal: Refusal): void {
    clearTimeout(refusal.timer);
    this.#refusals.delete(address);
  }

  #pause(entry: Entry): void {
    const resume = (): void => {
      this.#pausing.delete(entry);
      this.#waiting.put(entry);
      this.#ready();
    };
    this.#pausing.set(entry, setTimeout(resume, pauseAfter(entry.returns - 1, this.#backoff)));
  }

  #probeLater(refusal: Refusal): void {
    if (refusal.probe || refusal.timer) return;
    const probe = (): void => {
      refusal.timer = undefined;
      const [first, second] = refusal.waiting;
      const isSecond = second !== undefined && refusal.probes % SECOND === 0;
      refusal.probe = isSecond ? second : first;
      if (!refusal.probe) return;
      refusal.waiting.delete(refusal.probe);
      this.#waiting.put(refusal.probe);
      this.#ready();
    };
    refusal.timer = setTimeout(probe, pauseAfter(refusal.probes++, this.#backoff));
  }
}

export function isOverdue({ refusedAt }: Entry, time: number): boolean {
  return refusedAt !== undefined && performance.now() - refusedAt >= time;
}
