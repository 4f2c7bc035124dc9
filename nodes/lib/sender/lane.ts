import { type Backoff, pauseAfter } from '../connection/backoff';
import { Queue } from './queue';
import type { Held } from '../link/sender-link';

/** A message with its place in the order of all. */
export interface Ordered extends Held {
  readonly sequence: number;
  /** How often the peer has released or modified it. */
  returns: number;
  /** Since when the peer does not take it, or what is before it. */
  refusedAt?: number;
  /** The peer takes others for the same address. */
  isRefusedAlone?: boolean;
}

/** An address that releases messages: they wait, and so does what is for the same address behind them. */
interface Refusal<H extends Ordered> {
  readonly waiting: Queue<H>;
  /** Sent alone, to find out whether the address takes messages again. */
  probe?: H;
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
export class Lane<H extends Ordered> {
  readonly #waiting = new Queue<H>();
  readonly #refusals = new Map<string | undefined, Refusal<H>>();
  /** Those that pause without holding up others. */
  readonly #pausing = new Map<H, NodeJS.Timeout>();
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
  get first(): H | undefined {
    const firsts = [this.#waiting.first, ...this.#pausing.keys()];
    for (const { waiting } of this.#refusals.values()) firsts.push(waiting.first);
    return firsts.reduce(
      (oldest, one) => (one && (!oldest || one.sequence < oldest.sequence) ? one : oldest),
      undefined,
    );
  }

  /** Adds a message that is later than all others. */
  push(message: H): void {
    this.#waiting.push(message);
  }

  /** Takes back a message that was taken before, to its place. */
  putBack(message: H): void {
    this.#waiting.putBack(message);
  }

  /** Takes the next message that may be sent now. */
  shift(): H | undefined {
    for (;;) {
      const message = this.#waiting.shift();
      const refusal = message && this.#refusals.get(message.entry.address);
      if (!refusal || refusal.probe === message) return message;
      message.refusedAt ??= performance.now();
      refusal.waiting.putBack(message);
    }
  }

  /** Takes back a message that the peer has released or modified, to be sent again after a pause. */
  retry(message: H, isReleased: boolean): void {
    message.refusedAt ??= performance.now();
    message.returns++;
    const { address } = message.entry;
    let refusal = this.#refusals.get(address);
    // That one message was modified says nothing of the next.
    if (!refusal && (!isReleased || message.isRefusedAlone)) return this.#pause(message);
    if (!refusal) this.#refusals.set(address, (refusal = { waiting: new Queue(), probes: 0 }));
    refusal.waiting.putBack(message);
    if (refusal.probe === message) refusal.probe = undefined;
    this.#probeLater(refusal);
  }

  /** Notes that the peer has taken a message: what waits for the same address can be sent. */
  taken(message: H): void {
    const { address } = message.entry;
    const refusal = this.#refusals.get(address);
    if (!refusal) return;
    this.#end(address, refusal);
    for (const other of refusal.waiting) {
      if (other.returns === 0 || other.sequence > message.sequence) this.#free(other);
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
      for (const message of refusal.waiting) this.#free(message);
    }
  }

  /** Puts back what is refused no longer: should it be again, its time begins anew. */
  #free(message: H): void {
    message.refusedAt = undefined;
    this.#waiting.putBack(message);
  }

  /** Forgets a message. False when it does not wait here: it may be on its way. */
  delete(message: H): boolean {
    const timer = this.#pausing.get(message);
    clearTimeout(timer);
    const { address } = message.entry;
    const refusal = this.#refusals.get(address);
    const isDeleted =
      this.#pausing.delete(message) || this.#waiting.delete(message) || refusal?.waiting.delete(message) === true;
    if (refusal?.probe === message) {
      refusal.probe = undefined;
      this.#probeLater(refusal);
    }
    if (refusal && !refusal.probe && refusal.waiting.size === 0) this.#end(address, refusal);
    return isDeleted;
  }

  /** Those behind a refusal that have waited there for so many milliseconds. */
  overdue(address: string | undefined, time: number): H[] {
    const { waiting = [] } = this.#refusals.get(address) ?? {};
    return Array.from(waiting).filter((message) => isOverdue(message, time));
  }

  /** Takes all messages, in order. */
  clear(): H[] {
    this.lift();
    for (const [message, timer] of this.#pausing) {
      clearTimeout(timer);
      this.#waiting.putBack(message);
    }
    this.#pausing.clear();
    const messages = [...this.#waiting];
    for (const message of messages) this.#waiting.delete(message);
    return messages;
  }

  #end(address: string | undefined, refusal: Refusal<H>): void {
    clearTimeout(refusal.timer);
    this.#refusals.delete(address);
  }

  #pause(message: H): void {
    const resume = (): void => {
      this.#pausing.delete(message);
      this.#waiting.putBack(message);
      this.#ready();
    };
    this.#pausing.set(message, setTimeout(resume, pauseAfter(message.returns - 1, this.#backoff)));
  }

  #probeLater(refusal: Refusal<H>): void {
    if (refusal.probe || refusal.timer) return;
    const probe = (): void => {
      refusal.timer = undefined;
      const [first, second] = refusal.waiting;
      const isSecond = second !== undefined && refusal.probes % SECOND === 0;
      refusal.probe = isSecond ? second : first;
      if (!refusal.probe) return;
      refusal.waiting.delete(refusal.probe);
      this.#waiting.putBack(refusal.probe);
      this.#ready();
    };
    refusal.timer = setTimeout(probe, pauseAfter(refusal.probes++, this.#backoff));
  }
}

export function isOverdue({ refusedAt }: Ordered, time: number): boolean {
  return refusedAt !== undefined && performance.now() - refusedAt >= time;
}
