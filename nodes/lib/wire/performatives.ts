/**
 * Writes the performatives that carry messages (2.7.4 to 2.7.6), and reads nothing. rhea writes all others.
 */
import { CODE, DESCRIPTOR } from '../codec/codes';
import type { Output } from './output';

/** The most bytes of a transfer beside its payload. */
export const TRANSFER_SIZE = 40;
/** Payloads from this size on are not copied. */
const LARGE = 2 ** 13;
const MAX_UINT = 0xffffffff;

/** A frame of a delivery: its tag is its id. */
export function writeTransfer(
  output: Output,
  { channel, handle, id, format, isSettled, more, state }: Readonly<TransferHead>,
  payload: Buffer,
  from: number,
  to: number,
): void {
  const uintSize = sizeOfUint(handle);
  const headSize = 28 + uintSize + (format === 0 ? 0 : 4) + (state ? 1 + state.length : 0);
  const size = to - from;
  const isCopied = size < LARGE;
  let at = output.reserve(isCopied ? headSize + size : headSize);
  const { slab } = output;
  at = putHead(slab, at, headSize + size, channel, DESCRIPTOR.transfer);
  slab[at++] = CODE.list8;
  slab[at++] = headSize - 13;
  slab[at++] = state ? 8 : 6;
  at = putUint(slab, at, handle);
  at = putUint32(slab, at, id);
  slab[at++] = CODE.binary8;
  slab[at++] = 4;
  slab.writeUInt32BE(id, at);
  at += 4;
  if (format === 0) slab[at++] = CODE.uint0;
  else at = putUint32(slab, at, format);
  slab[at++] = isSettled ? CODE.true : CODE.false;
  slab[at++] = more ? CODE.true : CODE.false;
  if (state) {
    // The settle mode is that of the link.
    slab[at++] = CODE.null;
    slab.set(state, at);
    at += state.length;
  }
  const bytes = from === 0 && to === payload.length ? payload : payload.subarray(from, to);
  if (isCopied) slab.set(bytes, at);
  else output.append(bytes);
}

export interface TransferHead {
  channel: number;
  handle: number;
  id: number;
  /** The message-format. */
  format: number;
  isSettled: boolean;
  /** Further frames of the delivery follow. */
  more: boolean;
  /** Of a transaction, encoded; short. */
  state?: Buffer | undefined;
}

/**
 * Gives the deliveries from `first` to `last` a state, which is encoded, and settles them, or leaves that to the peer.
 * `role`: whether they came to us.
 */
export function writeDisposition(
  output: Output,
  channel: number,
  role: boolean,
  first: number,
  last: number,
  state: Buffer,
  isSettled = true,
): void {
  const fields = 1 + 5 + (first === last ? 1 : 5) + 1 + state.length;
  const isLarge = fields + 1 > 255;
  const size = 11 + (isLarge ? 9 : 3) + fields;
  let at = output.reserve(size);
  const { slab } = output;
  at = putHead(slab, at, size, channel, DESCRIPTOR.disposition);
  if (isLarge) {
    slab[at++] = CODE.list;
    slab.writeUInt32BE(fields + 4, at);
    slab.writeUInt32BE(5, at + 4);
    at += 8;
  } else {
    slab[at++] = CODE.list8;
    slab[at++] = fields + 1;
    slab[at++] = 5;
  }
  slab[at++] = role ? CODE.true : CODE.false;
  at = putUint32(slab, at, first);
  if (first === last) slab[at++] = CODE.null;
  else at = putUint32(slab, at, last);
  slab[at++] = isSettled ? CODE.true : CODE.false;
  slab.set(state, at);
}

/** The windows of a session. */
export interface SessionFlow {
  nextIncomingId: number;
  incomingWindow: number;
  nextOutgoingId: number;
}

/** The state of one of its links. */
export interface LinkFlow {
  handle: number;
  deliveryCount: number;
  credit: number;
  drain: boolean;
}

export function writeFlow(output: Output, channel: number, session: SessionFlow, link?: LinkFlow): void {
  const fields = 20 + (link ? sizeOfUint(link.handle) + 12 : 0);
  const size = 14 + fields;
  let at = output.reserve(size);
  const { slab } = output;
  at = putHead(slab, at, size, channel, DESCRIPTOR.flow);
  slab[at++] = CODE.list8;
  slab[at++] = fields + 1;
  slab[at++] = link ? 9 : 4;
  at = putUint32(slab, at, session.nextIncomingId);
  at = putUint32(slab, at, session.incomingWindow);
  at = putUint32(slab, at, session.nextOutgoingId);
  at = putUint32(slab, at, MAX_UINT);
  if (!link) return;
  at = putUint(slab, at, link.handle);
  at = putUint32(slab, at, link.deliveryCount);
  at = putUint32(slab, at, link.credit);
  // How many messages wait is not told.
  slab[at++] = CODE.null;
  slab[at] = link.drain ? CODE.true : CODE.false;
}

function putHead(bytes: Buffer, at: number, size: number, channel: number, descriptor: number): number {
  bytes.writeUInt32BE(size, at);
  bytes[at + 4] = 2;
  bytes[at + 5] = 0;
  bytes.writeUInt16BE(channel, at + 6);
  bytes[at + 8] = CODE.described;
  bytes[at + 9] = CODE.ulong8;
  bytes[at + 10] = descriptor;
  return at + 11;
}

function sizeOfUint(value: number): number {
  return value === 0 ? 1 : value < 256 ? 2 : 5;
}

function putUint(bytes: Buffer, at: number, value: number): number {
  if (value >= 256) return putUint32(bytes, at, value);
  if (value === 0) {
    bytes[at] = CODE.uint0;
    return at + 1;
  }
  bytes[at] = CODE.uint8;
  bytes[at + 1] = value;
  return at + 2;
}

function putUint32(bytes: Buffer, at: number, value: number): number {
  bytes[at] = CODE.uint;
  bytes.writeUInt32BE(value, at + 1);
  return at + 5;
}
