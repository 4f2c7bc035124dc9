import type { LinkConnection } from '../connection/connection';
import type { State } from '../state';
import type { ClientOptions, Place } from './client-connection';
import type { Feed } from './feed';

/** Called when a link is gone, or its client. */
export type Gone = () => void;

/** Who takes what clients send to an address. */
export interface Taker {
  /** Clients that send to it. */
  readonly count: number;
  /** A client attaches a link that sends to the address. */
  attach(place: Place): Gone;
}

/** Where nodes and clients meet: by addresses. */
export interface Hub extends ClientOptions, Pick<LinkConnection, 'guarded'> {
  readonly state: State;
  open(): void;
  on(event: 'state', listener: (state: State) => void): unknown;
  off(event: 'state', listener: (state: State) => void): unknown;
  /** An address that nobody else has. */
  newAddress(): string;
  /** Whether an address was made here, and is not there any more. */
  isGone(address: string): boolean;
  /** Whether an address was made here, and is still there. */
  isMade(address: string): boolean;
  /** What clients send to the address is for this one. Several share the clients. */
  receive(address: string, taker: Taker): void;
  forget(address: string, taker: Taker): void;
  /** The clients that receive from an address. To be released. */
  feed(address: string): Feed;
  release(address: string): void;
}
