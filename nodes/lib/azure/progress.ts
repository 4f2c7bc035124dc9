/** Where to go on in a partition. */
export interface Place {
  /** Of the last event that the flow is done with. Text: it need not be a number. */
  offset: string;
}

interface Given extends Place {
  /** The token of the event. */
  id: string;
}

/** Entries that are looked at before they are dropped, all at once. */
const MANY = 1000;

/**
 * How far a flow has come in a partition: to the last event before the first that it is not done with. Whether it is done
 * with one is looked up when the place is asked for, so that an event costs no more than an entry.
 */
export class Progress {
  readonly #holds: (id: string) => boolean;
  #place: Place | undefined;
  /** What was given to the flow, in order: those from `#first` on. */
  #given: Given[] = [];
  #first = 0;
  /** Of the last event that nobody has to settle, until the flow has it. */
  #arriving: { offset: string; turn: NodeJS.Immediate } | undefined;

  constructor(holds: (id: string) => boolean) {
    this.#holds = holds;
  }

  /** Begins here; events that were given before are of no interest any more. */
  begin(place: Place | undefined): void {
    this.#place = place;
    this.#clear();
  }

  /** An event was given to the flow: with its token, where the flow is to say when it is done. */
  given(offset: string, id?: string): void {
    if (id !== undefined) this.#given.push({ offset, id });
    else if (this.#arriving) this.#arriving.offset = offset;
    else this.#arriving = { offset, turn: setImmediate(() => this.#arrived()) };
  }

  /** R3: Node-RED hands a msg on in its next turn, and not at all when the flow is closed by then. */
  #arrived(): void {
    const { offset } = this.#arriving!;
    this.#place = { offset };
    this.#arriving = undefined;
  }

  /** The flow is closed: what it has not had by now comes again. What it has may still be done. */
  stop(): void {
    clearImmediate(this.#arriving?.turn);
    this.#arriving = undefined;
  }

  get place(): Place | undefined {
    for (; this.#first < this.#given.length; this.#first++) {
      const { offset, id } = this.#given[this.#first]!;
      if (this.#holds(id)) break;
      this.#place = { offset };
    }
    if (this.#first >= Math.min(MANY, this.#given.length)) {
      this.#given = this.#given.slice(this.#first);
      this.#first = 0;
    }
    return this.#place;
  }

  /** What the flow is not done with by now comes again. To be called while that can still be told. */
  interrupt(): void {
    void this.place;
    this.#clear();
  }

  #clear(): void {
    this.stop();
    this.#given = [];
    this.#first = 0;
  }
}
