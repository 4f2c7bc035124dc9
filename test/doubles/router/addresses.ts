// How messages are shared out among the receivers of an address, and how the outcome comes back to the sender.
import type { Delivery, EventContext } from 'rhea';
import type { Link } from '../../../broker/rhea';

/** `unavailable`: nobody may attach, or send there. */
export type Distribution = 'closest' | 'balanced' | 'multicast' | 'unavailable';

export const OUTCOMES = ['accepted', 'rejected', 'released', 'modified'] as const;
export type State = (typeof OUTCOMES)[number];
/** As it came, or one that the router gives itself. */
export interface Outcome {
  state: State;
  described?: unknown;
}

/** A link by which messages come in. */
export interface Producer {
  link: Link;
  /** the router that it is on */
  at: number;
  /** undefined: each message says its own */
  address?: Address;
}

/** A link by which messages go out. */
export interface Consumer {
  link: Link;
  at: number;
  /** kept for it until it has credit */
  undelivered: Message[];
  unsettled: Map<object, Message>;
}

/** A message on its way: the router keeps it until each receiver that it went to has said what became of it. */
export class Message {
  private readonly outcomes: Outcome[] = [];

  constructor(
    readonly bytes: Buffer,
    readonly format: number,
    private readonly copies: number,
    private readonly settle: (outcome: Outcome) => void,
  ) {}

  /** What one receiver has made of it. */
  settled(outcome: Outcome): void {
    this.outcomes.push(outcome);
    if (this.outcomes.length < this.copies) return;
    if (this.copies === 1) return this.settle(outcome);
    // of several receivers no error is told
    const strongest = ORDER.find((state) => this.outcomes.some((one) => one.state === state))!;
    this.settle({ state: strongest });
  }
}

/** Which of several outcomes the sender gets. */
const ORDER: State[] = ['rejected', 'accepted', 'modified', 'released'];

/** `a` is the prefix of `a`, `a.1` and `a/1`, and not of `a1`. */
export function isPrefix(prefix: string, name: string): boolean {
  return name === prefix || ['.', '/'].some((separator) => name.startsWith(prefix + separator));
}

export const linkOf = (context: EventContext) => (context.sender ?? context.receiver) as unknown as Link;

/** The outcome with all that it has. */
export function describedIn(delivery: Delivery): unknown {
  return delivery.remote_state?.['described']?.();
}

export class Address {
  consumers: Consumer[] = [];
  /** messages that came in, and those that went out */
  readonly deliveries = { ingress: 0, egress: 0 };

  constructor(
    /** `M`, the phase, and the name */
    readonly key: string,
    readonly distribution: Distribution,
  ) {}

  /** Those who are to get the message that comes in at this router. Receivers count whether they have credit or not. */
  choose(at: number): Consumer[] {
    if (this.distribution === 'multicast') return this.consumers;
    const near = this.consumers.filter((consumer) => consumer.at === at);
    const eligible = this.distribution === 'closest' && near.length > 0 ? near : this.consumers;
    const cost = (consumer: Consumer) =>
      this.distribution === 'closest'
        ? 0
        : consumer.undelivered.length + consumer.unsettled.size + Number(consumer.at !== at);
    const ranked = eligible.toSorted((a, b) => cost(a) - cost(b) || Number(a.at !== at) - Number(b.at !== at));
    const [chosen] = ranked;
    if (!chosen) return [];
    // next time it is the turn of another one that costs the same
    this.consumers = [...this.consumers.filter((other) => other !== chosen), chosen];
    return [chosen];
  }
}
