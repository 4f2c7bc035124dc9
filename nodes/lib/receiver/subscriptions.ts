import type { Connection } from '../connection/connection';
import { amqpError } from '../errors';
import type { State } from '../state';
import { Receiver, type ReceiverOptions, type ReceiverUser, type Settle } from './receiver';
import { Receivers } from './receivers';

/** What a flow asks for with an address; what it leaves out is that of the node. */
export interface SubscriptionOptions {
  selector?: string;
  creditWindow?: number;
  settle?: Settle;
}

/** A subscription as a flow is told of it. Plain data. */
export interface Subscription {
  address: string;
  selector?: string;
  window: number;
  settle: Settle;
  state: State['name'];
  /** Messages that the flow has not settled. */
  unsettled: number;
}

/** Receives from the addresses that the flow names, any number of them, each by a link of its own. */
export class Subscriptions extends Receivers {
  readonly #connection: Connection;
  readonly #options: ReceiverOptions;
  readonly #user: ReceiverUser;
  readonly #byAddress = new Map<string, { receiver: Receiver; options: ReceiverOptions }>();
  #isOpen = false;

  constructor(connection: Connection, options: ReceiverOptions, user: ReceiverUser) {
    super(options.name);
    this.#connection = connection;
    this.#options = options;
    this.#user = user;
  }

  /** Throws AMQP_BAD_INPUT when it receives from there already; what was detached begins anew. */
  receiveFrom(address: string, { selector, creditWindow, settle }: SubscriptionOptions): void {
    const former = this.#byAddress.get(address)?.receiver;
    if (former && !this.#isDetached(former)) throw amqpError('AMQP_BAD_INPUT.subscribed', { address });
    if (former) this.remove(former);
    const { name, source } = this.#options;
    const options: ReceiverOptions = {
      ...this.#options,
      // The same after each restart: a durable subscription is known by it.
      name: `${name}:${address}`,
      address,
      ...(selector !== undefined && { source: { ...source, selector } }),
      ...(creditWindow !== undefined && { creditWindow }),
      ...(settle !== undefined && { settle }),
    };
    const receiver = new Receiver(this.#connection, options, this.#user);
    this.#byAddress.set(address, { receiver, options });
    this.add(receiver);
    if (this.#isOpen) receiver.open();
    this.emit('state', this.state);
  }

  #isDetached({ state }: Receiver): boolean {
    return this.#isOpen && state.name === 'detached';
  }

  /** Ends the subscription to an address; what the flow has not settled of it is released. */
  async end(address: string): Promise<void> {
    const subscription = this.#byAddress.get(address);
    if (!subscription) throw amqpError('AMQP_BAD_INPUT.not-subscribed', { address });
    await subscription.receiver.unsubscribe();
    // It may have been ended by two at the same time.
    if (this.#byAddress.get(address) !== subscription) return;
    this.#byAddress.delete(address);
    this.remove(subscription.receiver);
    this.emit('state', this.state);
  }

  override async unsubscribe(): Promise<void> {
    await Promise.all([...this.#byAddress.keys()].map((address) => this.end(address)));
  }

  list(): Subscription[] {
    return Array.from(this.#byAddress, ([address, { receiver, options }]) => ({
      address,
      ...(options.source?.selector !== undefined && { selector: options.source.selector }),
      window: options.creditWindow,
      settle: options.settle,
      state: receiver.state.name,
      unsettled: receiver.unsettled,
    }));
  }

  /** Without any subscription it waits for the flow to name one. */
  override get state(): State {
    return this.all.length === 0 ? { name: 'unsubscribed' } : super.state;
  }

  override open(): void {
    this.#isOpen = true;
    super.open();
  }
}
