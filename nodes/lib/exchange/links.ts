import type { LinkConnection } from '../connection/connection';
import { Receiver, type ReceiverOptions, type ReceiverUser } from '../receiver/receiver';
import { Sender, type SenderOptions } from '../sender/sender';
import type { State } from '../state';

/** What receives, by one link or by those that clients attach. */
export interface Receiving extends Pick<
  Receiver,
  | 'state'
  | 'address'
  | 'counters'
  | 'open'
  | 'stop'
  | 'leave'
  | 'close'
  | 'detach'
  | 'holds'
  | 'settle'
  | 'notHeld'
  | 'acceptOnArrival'
  | 'pause'
  | 'resume'
> {
  on(event: 'state', listener: (state: State) => void): unknown;
}

/** Where links come from: our own attach them, or clients do. */
export interface Links extends Pick<LinkConnection, 'guarded'> {
  sender(options: SenderOptions): Sender;
  receiver(options: ReceiverOptions, user: ReceiverUser): Receiving;
  emit(event: 'fault', error: unknown): boolean;
  /** The peer is who sends and receives, and no server between them. */
  readonly isDirect?: boolean;
}

/** Links that we attach. */
export function linksOn(connection: LinkConnection): Links {
  return {
    sender: (options) => new Sender(connection, options),
    receiver: (options, user) => new Receiver(connection, options, user),
    guarded: (callback) => connection.guarded(callback),
    emit: (event, error) => connection.emit(event, error),
  };
}
