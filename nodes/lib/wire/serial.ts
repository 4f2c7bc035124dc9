/** Ids and counts are serial numbers of 32 bits, which go on at 0 (2.8.10, RFC 1982; R38). */

/** The serial number that comes `add` after another. */
export function serial(number: number, add = 1): number {
  return (number + add) >>> 0;
}

/** How far `to` is ahead of `from`; below 0: behind it. */
export function distance(from: number, to: number): number {
  return (to - from) | 0;
}
