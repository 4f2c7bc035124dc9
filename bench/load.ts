// Messages of one run: how many are on their way, and how long it takes until all have ended. Used by each contestant that sends.

/** What a contestant is told to send. */
export interface Run {
  size: number;
  count: number;
  /** Messages on their way at most. */
  window: number;
  /** The time of each message is measured, not only that of all. */
  isTimed?: boolean;
}

export interface Ran {
  seconds: number;
  /** Milliseconds that single messages took, where they were measured, at 50 % and 99 %. */
  p50?: number;
  p99?: number;
}

export class Load {
  readonly ended: Promise<Ran>;
  sent = 0;
  #ended = 0;
  readonly #times: number[] = [];
  readonly #start = performance.now();
  #resolve!: (ran: Ran) => void;
  #reject!: (error: Error) => void;

  /** Calls `pump` at once, and whenever there is room. */
  constructor(
    private readonly run: Omit<Run, 'size' | 'isTimed'>,
    private readonly pump: () => void,
  ) {
    this.ended = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Not before the caller has this object.
    process.nextTick(pump);
  }

  /** Whether one more message is to be sent now. */
  take(): boolean {
    if (this.sent >= this.run.count || this.sent - this.#ended >= this.run.window) return false;
    this.sent++;
    return true;
  }

  end(time?: number): void {
    if (time !== undefined) this.#times.push(time);
    if (++this.#ended < this.run.count) return this.pump();
    const sorted = Float64Array.from(this.#times).toSorted();
    const at = (part: number): number | undefined => sorted[Math.floor(part * sorted.length)];
    this.#resolve({ seconds: (performance.now() - this.#start) / 1000, p50: at(0.5), p99: at(0.99) });
  }

  fail(error: Error): void {
    this.#reject(error);
  }
}
