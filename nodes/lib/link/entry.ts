import type { AmqpError } from '../errors';
import type { Expires } from '../expiring';
import type { OutgoingDelivery, SendingEnd } from '../wire/link-end';

/** What became of a message: `msg.sent`. */
export type Sent = {
  address?: string;
  /** Delivery tag in hexadecimal. */
  tag?: string;
  state: 'accepted' | 'rejected' | 'released' | 'modified' | 'settled' | 'failed' | 'scheduled' | 'cancelled';
  /** Of a scheduled message: by which it can be cancelled. */
  sequenceNumber?: number | string;
  error?: { code: string; condition?: string; description?: string };
};

/** Called once, with an error unless the message was accepted (or, pre-settled, written). */
export type Done = (error: AmqpError | undefined, sent: Sent) => void;

export interface EntryOptions {
  /** For senders without an address of their own. */
  address?: string;
  /** It goes by a link to that address, whatever the sender's own is. */
  isDirect?: boolean;
  /** The message-format, where it is not 0. */
  format?: number;
  /** With a store: called once it is on disk, before `done`. What fails before that has only `done`. */
  stored?: () => void;
}

/** A message that is to be sent, and all that its sender and its link know of it. An object is sent by one sender, once. */
export class Entry implements OutgoingDelivery, Expires {
  bytes: Buffer;
  address: string | undefined;
  isDirect: boolean;
  readonly format: number;
  readonly done: Done;
  readonly stored: (() => void) | undefined;

  /** Of the transaction that it belongs to, encoded. */
  state: Buffer | undefined = undefined;
  /** Of its delivery; with an `end` only while that is on its way. */
  id = 0;
  end: SendingEnd | undefined = undefined;

  /** Its place in the order of all. */
  sequence = 0;
  /** When it was taken: milliseconds since 1970. */
  taken = 0;
  /** By which its sender finds it. */
  number = 0;
  deadline = 0;
  isOnDisk = false;
  /** It was sent, and its outcome never came. */
  isInDoubt = false;
  /** Connections that were lost with this as the oldest in doubt. */
  losses = 0;
  /** How often the peer has released or modified it. */
  returns = 0;
  /** Since when the peer does not take it, or what is before it. */
  refusedAt: number | undefined = undefined;
  /** The peer takes others for the same address. */
  isRefusedAlone = false;

  constructor(bytes: Buffer, done: Done, { address, isDirect = false, format = 0, stored }: EntryOptions = {}) {
    this.bytes = bytes;
    this.done = done;
    this.address = address;
    this.isDirect = isDirect;
    this.format = format;
    this.stored = stored;
  }

  /** Ends it with an error. */
  fail(error: AmqpError, sent: Sent = { address: this.address, state: 'failed' }): void {
    const { code, condition, description } = error;
    this.done(error, {
      ...sent,
      error: { code, ...(condition && { condition }), ...(description && { description }) },
    });
  }
}
