// What becomes of each message of a run under faults.
import { EventEmitter, once } from 'node:events';
import { helper } from '../flow';

export interface Counts {
  sent: number;
  done: number;
  failed: number;
  /** Different messages that reached the consumer. */
  delivered: number;
  /** Deliveries beyond the first of each. */
  duplicated: number;
}

const rows: ({ fault: string } & Counts)[] = [];

/** Messages have numbers. Each is sent once and ends once, done or failed; it may arrive any number of times. */
export class Ledger {
  sent = 0;
  readonly done = new Set<number>();
  /** Error codes. */
  readonly failed = new Map<number, string>();
  /** How often each has arrived. */
  readonly delivered = new Map<number, number>();
  /** What must not be: a message that ended twice, or before it was sent. */
  readonly violations: string[] = [];
  #changes = new EventEmitter<{ change: [] }>();

  /** The number of the next message. */
  next(): number {
    return this.sent++;
  }

  end(n: number, code?: string): void {
    if (this.done.has(n) || this.failed.has(n)) this.violations.push(`${n} ended twice`);
    if (!(n < this.sent)) this.violations.push(`${n} ended, and was never sent`);
    if (code === undefined) this.done.add(n);
    else this.failed.set(n, code);
    this.#changes.emit('change');
  }

  arrive(n: number): void {
    this.delivered.set(n, (this.delivered.get(n) ?? 0) + 1);
    this.#changes.emit('change');
  }

  get counts(): Counts {
    let arrivals = 0;
    for (const times of this.delivered.values()) arrivals += times;
    return {
      sent: this.sent,
      done: this.done.size,
      failed: this.failed.size,
      delivered: this.delivered.size,
      duplicated: arrivals - this.delivered.size,
    };
  }

  /** Resolves as soon as this is true; looked at after each change. */
  async until(isSo: (ledger: this) => boolean): Promise<void> {
    while (!isSo(this)) await once(this.#changes, 'change');
  }

  /** Waits until each message has ended, and what is done has arrived. */
  async settle(): Promise<void> {
    await this.until(({ sent, done, failed }) => done.size + failed.size >= sent);
    await this.until(({ done, delivered }) => done.size <= delivered.size && [...done].every((n) => delivered.has(n)));
  }

  /** Throws unless sent = done + failed, and everything done is at the consumer. Notes the counts for `table`. */
  check(fault: string): Counts {
    const { counts } = this;
    rows.push({ fault, ...counts });
    const missing = [...this.done].filter((n) => !this.delivered.has(n));
    const problems = [...this.violations];
    // Known only now: what a process has sent is told by its own pipe, which may be read after the arrival.
    const unsent = [...this.delivered.keys()].filter((n) => !(n < this.sent));
    if (unsent.length > 0) problems.push(`arrived, and never sent: ${unsent.slice(0, 20).join(', ')}`);
    if (counts.sent !== counts.done + counts.failed) problems.push('not all that was sent has ended');
    if (missing.length > 0) problems.push(`done, but not delivered: ${missing.slice(0, 20).join(', ')}`);
    if (problems.length > 0) throw new Error(`${fault}: ${JSON.stringify(counts)}: ${problems.join('; ')}`);
    return counts;
  }
}

/** The counts of all runs so far, for the report. */
export function table(): string {
  const heading = '| fault | sent | done | failed | delivered | duplicated |\n|---|--:|--:|--:|--:|--:|';
  const lines = rows.map((row) => `| ${Object.values(row).join(' | ')} |`);
  return [heading, ...lines].join('\n');
}

/**
 * Keeps the ledger of a flow made by `flow`: what ends at the sender comes by its Complete and Catch nodes, what is
 * delivered by "out". The number is `msg.payload.n`.
 */
export function keep(ledger: Ledger, { sender = 'sender', out = 'out' } = {}): void {
  listen('completed', (msg) => msg.complete.source.id === sender && ledger.end(msg.payload.n));
  listen('caught', (msg) => msg.error.source.id === sender && ledger.end(msg.payload.n, msg.error.code));
  listen(out, (msg) => ledger.arrive(msg.payload.n));
}

function listen(id: string, listener: (msg: any) => void): void {
  helper.getNode(id)?.on('input', (msg: unknown) => listener(msg));
}
