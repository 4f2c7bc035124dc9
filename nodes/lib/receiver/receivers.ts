import { EventEmitter } from 'node:events';
import { type Counters, sumOf, totalsOf } from '../counters';
import { type AmqpError, amqpError, type PeerError } from '../errors';
import type { Settled } from '../link/receiver-link';
import { type State, worstOf } from '../state';
import type { Outcome } from '../wire/outcome';
import type { Receiver } from './receiver';

/** Several receivers as one. Tokens of messages are told apart by the names of their links. */
export class Receivers extends EventEmitter<{ state: [State] }> {
  protected readonly all: Receiver[] = [];
  /** One that is added is paused too. */
  protected isPaused = false;
  /** Of those that are gone. */
  #past: Counters = {};
  /** What the names of those begin with that come and go. */
  readonly #prefix: string | undefined;

  /** Where receivers come and go, each is named `<name>:<anything>`. */
  constructor(name?: string) {
    super();
    if (name !== undefined) this.#prefix = `${name}:`;
  }

  get count(): number {
    return this.all.length;
  }

  protected add(receiver: Receiver): void {
    this.all.push(receiver);
    if (this.isPaused) receiver.pause();
    receiver.on('state', () => this.emit('state', this.state));
  }

  protected remove(receiver: Receiver): void {
    this.#past = sumOf([this.#past, totalsOf(receiver.counters)]);
    receiver.removeAllListeners();
    this.all.splice(this.all.indexOf(receiver), 1);
  }

  get counters(): Counters {
    return sumOf([this.#past, ...this.all.map((one) => one.counters)]);
  }

  /** Of the one that is worst off. Where all is well, what there is to say of a single one is not that of all. */
  get state(): State {
    const state = worstOf(...this.all.map((one) => one.state));
    return state.name === 'connected' && this.all.length > 1 ? { name: 'connected' } : state;
  }

  open(): void {
    for (const one of this.all) one.open();
  }

  stop(): void {
    for (const one of this.all) one.stop();
  }

  async leave(timeout: number): Promise<void> {
    await Promise.all(this.all.map((one) => one.leave(timeout)));
  }

  async close(): Promise<void> {
    await Promise.all(this.all.map((one) => one.close()));
  }

  /** Attaches those that are not. They have their addresses, so that none can be given. */
  async subscribe(address?: string): Promise<boolean> {
    if (address !== undefined) throw amqpError('AMQP_BAD_INPUT.fixed');
    const opened = await Promise.all(this.all.map((one) => one.subscribe()));
    return opened.every(Boolean);
  }

  /** Detaches all, with an error if one is given, until the next `subscribe`. */
  async detach(error?: PeerError): Promise<void> {
    await Promise.all(this.all.map((one) => one.detach(error)));
  }

  async unsubscribe(): Promise<void> {
    await Promise.all(this.all.map((one) => one.unsubscribe()));
  }

  holds(id: string): boolean {
    return this.all.some((one) => one.holds(id));
  }

  settle(id: string, outcome: Outcome, settled?: Settled): void {
    this.holderOf(id).settle(id, outcome, settled);
  }

  fail(id: string, outcome: Outcome, settled?: Settled): void {
    this.holderOf(id).fail(id, outcome, settled);
  }

  acceptOnArrival(id: string): void {
    this.holderOf(id).acceptOnArrival(id);
  }

  notHeld(id: string): AmqpError {
    return this.holderOf(id).notHeld(id);
  }

  /** The one that holds a message, else the one that says best why it does not. Throws where that one is gone. */
  protected holderOf(id: string): Receiver {
    const holder = this.all.find((one) => one.holds(id)) ?? this.#namedIn(id);
    if (holder) return holder;
    const [first] = this.all;
    const isOfOneGone = this.#prefix !== undefined && id.startsWith(this.#prefix);
    if (!first || isOfOneGone) throw amqpError('AMQP_DELIVERY_LOST.lost');
    return first;
  }

  /** The one whose name a token begins with. One name may begin with another. */
  #namedIn(id: string): Receiver | undefined {
    const named = this.all.filter(({ name }) => id.startsWith(`${name}.`));
    return named.toSorted((one, other) => other.name.length - one.name.length)[0];
  }

  /** For each of them. */
  grant(credit: number): void {
    for (const one of this.all) one.grant(credit);
  }

  pause(): void {
    this.isPaused = true;
    for (const one of this.all) one.pause();
  }

  resume(): void {
    this.isPaused = false;
    for (const one of this.all) one.resume();
  }

  /** Those that are attached; without any it fails. */
  async drain(): Promise<void> {
    const attached = this.all.filter((one) => one.isAttached);
    if (attached.length === 0) throw amqpError('AMQP_DISCONNECTED.drain');
    await Promise.all(attached.map((one) => one.drain()));
  }
}

/** The part of one of several in what was meant for one; 0 stays. */
export function share(most: number, count: number): number {
  return most === 0 ? 0 : Math.max(1, Math.floor(most / count));
}
