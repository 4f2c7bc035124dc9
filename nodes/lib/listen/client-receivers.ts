import { amqpError } from '../errors';
import { type Budget, Receiver, type ReceiverOptions, type ReceiverUser } from '../receiver/receiver';
import { Receivers } from '../receiver/receivers';
import type { State } from '../state';
import { ClientConnection, type Place } from './client-connection';
import { STOPPED } from './client-routes';
import type { Gone, Hub, Taker } from './hub';

/** The largest message that is taken from a client where the node does not say, in bytes. */
const MAX_MESSAGE_SIZE = 2 ** 20;

/** Receives what clients send to an address: from each by a link of its own, with credit of its own. */
export class ClientReceivers extends Receivers implements Taker {
  readonly #hub: Hub;
  readonly #options: ReceiverOptions;
  readonly #user: ReceiverUser;
  readonly #budget: Budget;
  /** Where clients send to. Undefined: the flow has yet to name it. */
  #address: string | undefined;
  #isOpen = false;
  #isStopped = false;
  #links = 0;

  constructor(hub: Hub, options: ReceiverOptions, user: ReceiverUser) {
    super(options.name);
    this.#hub = hub;
    this.#options = options;
    this.#user = user;
    this.#address = options.dynamic ? hub.newAddress() : options.address;
    this.#budget = { bytes: 0, most: options.windowBytes };
  }

  get address(): string | undefined {
    return this.#address;
  }

  /** Messages that the flow has not settled. */
  get unsettled(): number {
    return this.all.reduce((sum, one) => sum + one.unsettled, 0);
  }

  override get state(): State {
    const { state } = this.#hub;
    if (!this.#isOpen) return { name: 'detached' };
    if (state.name !== 'listening') return state;
    if (this.isPaused) return { name: 'paused' };
    // Who waits for replies has to know where they come to.
    return this.#options.dynamic
      ? { name: 'connected', address: this.#address! }
      : { name: 'listening', count: this.all.length };
  }

  /** For the hub: a client attaches a link that sends to the address. */
  attach(place: Place): Gone {
    const connection = new ClientConnection(this.#hub, place);
    const { name, maxMessageSize = MAX_MESSAGE_SIZE } = this.#options;
    const receiver = new Receiver(
      connection,
      {
        ...this.#options,
        name: `${name}:${++this.#links}`,
        address: this.#address,
        dynamic: false,
        source: {},
        maxMessageSize,
        budget: this.#budget,
        isAccepted: true,
        // It is the client's to say whether it wants an answer.
        isAnswered: false,
      },
      this.#user,
    );
    this.add(receiver);
    // Until the flow has settled what it has, when all clients are sent away.
    if (this.#isStopped) receiver.stop();
    receiver.open();
    this.emit('state', this.state);
    return () => {
      connection.over();
      this.remove(receiver);
      void receiver.close();
      this.emit('state', this.state);
    };
  }

  override open(): void {
    if (this.#isOpen || this.#address === undefined) return;
    this.#isOpen = true;
    this.#hub.receive(this.#address, this);
    this.#hub.on('state', this.#changed);
    this.#hub.open();
    this.emit('state', this.state);
  }

  override stop(): void {
    this.#isStopped = true;
    super.stop();
  }

  override pause(): void {
    super.pause();
    this.emit('state', this.state);
  }

  override resume(): void {
    super.resume();
    this.emit('state', this.state);
  }

  override async subscribe(address?: string): Promise<boolean> {
    if (this.#isStopped) return false;
    if (address !== undefined && address !== this.#address) {
      await this.#leave();
      this.#address = address;
    }
    if (this.#address === undefined) throw amqpError('AMQP_NO_ADDRESS.subscribe');
    this.open();
    return true;
  }

  override async unsubscribe(): Promise<void> {
    await this.#leave();
  }

  override async close(): Promise<void> {
    await this.#leave();
  }

  readonly #changed = (): void => void this.emit('state', this.state);

  /** Clients that send to the address are told that nobody takes it any more. */
  async #leave(): Promise<void> {
    if (this.#address !== undefined) this.#hub.forget(this.#address, this);
    this.#hub.off('state', this.#changed);
    this.#isOpen = false;
    await this.detach(STOPPED);
    this.emit('state', this.state);
  }
}
