// Lock tokens are uuids: .NET has the first three groups of them in the other byte order, and a delivery tag is one of .NET's.
import { randomUUID } from 'node:crypto';

export type LockToken = string;
export const newLockToken = (): LockToken => randomUUID();

export function tagOf(token: LockToken): Buffer {
  const bytes = uuidOf(token);
  bytes.subarray(0, 4).reverse();
  bytes.subarray(4, 6).reverse();
  bytes.subarray(6, 8).reverse();
  return bytes;
}

export const uuidOf = (token: LockToken): Buffer => Buffer.from(token.replaceAll('-', ''), 'hex');
export const tokenOf = (uuid: Buffer): LockToken =>
  uuid.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
