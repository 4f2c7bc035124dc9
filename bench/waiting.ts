// What messages cost that wait in a sender's buffer, since the peer gives no credit.
import { setTimeout as delay } from 'node:timers/promises';
import { flows, nodeRed } from './contestants';
import type { Heap } from './flow-nodes';
import type { Ran } from './load';
import { bounded, startPeer } from './measure';

export interface Waiting {
  /** Bytes for each message, in the heap of JavaScript and beside it. */
  heap: number;
  outside: number;
  /** Messages a second, once the peer takes those that wait. */
  flushed: number;
  /** Messages a second, with none that waits. */
  sent: number;
}

const COUNT = 100_000;
const WINDOW = 1000;
const CREDIT = 2000;

export async function wait({ pairs, isQuick }: { pairs: number; isQuick: boolean }): Promise<Waiting[]> {
  const count = isQuick ? COUNT / 20 : COUNT;
  const peer = await startPeer();
  const port = (await peer.ask('port')) as number;
  const child = await nodeRed(flows.sink(port, { buffer: count }));
  const seconds = async (window: number): Promise<number> => {
    const ran = (await bounded('sending', isQuick, child.ask('run', { size: 100, count, window }))) as Ran;
    return ran.seconds;
  };
  const heap = async (): Promise<Heap> => (await child.ask('heap')) as Heap;

  const all: Waiting[] = [];
  await seconds(WINDOW); // to be warm
  for (let pair = 0; pair < pairs; pair++) {
    const sent = count / (await seconds(WINDOW));
    await peer.ask('credit', 0);
    // The peer does not learn when that has arrived.
    await delay(500);
    const before = await heap();
    const ended = seconds(count);
    // All messages reach the sender in one turn of the event loop; the next question comes after that.
    await delay(isQuick ? 500 : 2000);
    const after = await heap();
    const start = performance.now();
    await peer.ask('credit', CREDIT);
    await ended;
    const flushed = count / ((performance.now() - start) / 1000);
    const each = (name: keyof Heap): number => (after[name] - before[name]) / count;
    all.push({ heap: each('used'), outside: each('outside'), flushed, sent });
  }
  await child.stop();
  await peer.stop();
  return all;
}
