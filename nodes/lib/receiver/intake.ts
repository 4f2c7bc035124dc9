import type { Incoming } from '../message/message';
import type { Outcome } from '../wire/outcome';
import { Attempts } from './attempts';

export interface IntakeOptions {
  /** The flow gets the next message of a group (3.2.4, group-id) once the one before is settled. Others come as they are. */
  inOrder?: boolean;
  /** The flow gets so many messages at once, or those that came within so many milliseconds. */
  together?: { count: number; time: number };
  /** Deliveries of a message after which it is given up. */
  maxAttempts?: number;
}

/** A message that came, and that the flow does not have yet. `D`: its delivery. */
export interface Pending<D> {
  incoming: Incoming;
  delivery: D;
  /** Which delivery of the message it is, where that is counted. */
  attempt?: number;
}

export interface IntakeUser<D> {
  /** The flow's turn. */
  give(messages: Pending<D>[]): void;
  /** Calls back after so many milliseconds, unless that is cancelled by what is returned. */
  later(callback: () => void, delay: number): () => void;
}

/** What happens to messages between their arrival and the flow: they are counted, put in order, and collected. */
export class Intake<D> {
  /** Messages that the flow does not have yet. */
  size = 0;
  readonly #options: IntakeOptions;
  readonly #user: IntakeUser<D>;
  readonly #attempts: Attempts | undefined;
  /** By group, while the flow has a message of it: those that are next. */
  readonly #groups = new Map<string, Pending<D>[]>();
  /** Groups of which a message is to come again: what comes of them before that is not in order. */
  readonly #broken = new Set<string>();
  #collected: Pending<D>[] = [];
  /** What the flow is to have next: giving it may settle it, whereupon more of it is due. */
  #due: Pending<D>[][] = [];
  #isGiving = false;
  /** Cancels what ends the present collection. */
  #cancel: (() => void) | undefined;

  constructor(options: IntakeOptions, user: IntakeUser<D>) {
    this.#options = options;
    this.#user = user;
    this.#attempts = options.maxAttempts === undefined ? undefined : new Attempts();
  }

  /** False: it is to come again, after one of its group that is to be given back. */
  take(incoming: Incoming, delivery: D): boolean {
    const group = this.#groupOf(incoming);
    if (group !== undefined && this.#broken.has(group)) return false;
    this.#take({ incoming, delivery }, group);
    return true;
  }

  #take(one: Pending<D>, group: string | undefined): void {
    this.size++;
    if (group === undefined) return this.#collect(one);
    const waiting = this.#groups.get(group);
    if (waiting) waiting.push(one);
    else {
      this.#groups.set(group, []);
      this.#collect(one);
    }
  }

  /** Whether there is a group that is broken: until `mend`, none of its messages are taken. */
  get isBroken(): boolean {
    return this.#broken.size > 0;
  }

  /** Whether others come after a message. */
  isInOrder(incoming: Incoming): boolean {
    return this.#groupOf(incoming) !== undefined;
  }

  /** All that is to come again has been given back. */
  mend(): void {
    this.#broken.clear();
  }

  /**
   * The flow is done with a message. Returns those of its group that are to be given back with it, for they come after it;
   * else the next of them is given to the flow.
   */
  settled(incoming: Incoming, { settle }: Outcome): Pending<D>[] {
    const isDone = settle === 'accept' || settle === 'reject';
    if (isDone) this.#attempts?.forget(incoming);
    const group = this.#groupOf(incoming);
    const waiting = group === undefined ? undefined : this.#groups.get(group);
    if (group === undefined || !waiting) return [];
    const next = isDone ? waiting.shift() : undefined;
    if (next) {
      this.#collect(next);
      return [];
    }
    this.#groups.delete(group);
    if (!isDone) this.#broken.add(group);
    this.size -= waiting.length;
    return waiting;
  }

  /** Gives the flow what was collected so far. */
  flush(): void {
    const collected = this.#collection();
    if (collected.length > 0) this.#give(collected);
  }

  /** Takes back all that the flow does not have, in the order in which it came. */
  clear(): Pending<D>[] {
    const pending = [...this.#due.flat(), ...this.#collection(), ...Array.from(this.#groups.values()).flat()];
    this.#due = [];
    this.#groups.clear();
    this.#broken.clear();
    this.size = 0;
    return pending;
  }

  #groupOf({ fields: { group_id: group } }: Incoming): string | undefined {
    return this.#options.inOrder && typeof group === 'string' && group !== '' ? group : undefined;
  }

  #collect(one: Pending<D>): void {
    const { together } = this.#options;
    if (!together) return this.#give([one]);
    if (this.#collected.push(one) >= together.count) return this.flush();
    if (this.#collected.length > 1) return;
    this.#cancel = this.#user.later(() => this.flush(), together.time);
  }

  /** Ends the present collection. */
  #collection(): Pending<D>[] {
    this.#cancel?.();
    this.#cancel = undefined;
    const collected = this.#collected;
    this.#collected = [];
    return collected;
  }

  /** One after the other, however many of a group are given up in a row. */
  #give(messages: Pending<D>[]): void {
    this.#due.push(messages);
    if (this.#isGiving) return;
    this.#isGiving = true;
    try {
      for (let next = this.#due.shift(); next; next = this.#due.shift()) {
        this.size -= next.length;
        // What waited, and was given back or lost, was no attempt.
        this.#user.give(this.#attempts ? next.map((one) => this.#counted(one, this.#attempts!)) : next);
      }
    } finally {
      this.#isGiving = false;
    }
  }

  #counted(one: Pending<D>, attempts: Attempts): Pending<D> {
    return { ...one, attempt: attempts.next(one.incoming) };
  }
}
