/** What a buffer may hold. */
export interface Bounds {
  /** Most messages. */
  buffer: number;
  /** Most bytes of them; a single message may have more. */
  bufferBytes: number;
}

/** Whether there is no room for one more message of `size` bytes beside `count` messages of `bytes` together. */
export function isFull({ buffer, bufferBytes }: Bounds, count: number, bytes: number, size: number): boolean {
  return count >= buffer || (count > 0 && bytes + size > bufferBytes);
}
