// The nodes of a benchmark's flow: a generator, a counter for what ends a message, and one for what fails.
import type { Node, NodeAPI, NodeMessage } from 'node-red';
import { answer } from './child';
import { Load, type Run } from './load';

type Msg = NodeMessage & { sentAt?: number; error?: { message: string } };

let load: Load | undefined;
let generator: Node | undefined;
let failure: Error | undefined;

function run({ size, isTimed, ...rest }: Run): Promise<unknown> {
  const payload = size <= 100 ? 'x'.repeat(size) : Buffer.alloc(size, 'x');
  if (failure) throw failure;
  load = new Load(rest, () => {
    while (load!.take()) generator!.send(isTimed ? { payload, sentAt: performance.now() } : { payload });
  });
  return load.ended;
}

/** Bytes in use, in the heap of JavaScript and beside it. */
export interface Heap {
  used: number;
  outside: number;
}

function heap(): Heap {
  for (let n = 0; n < 4; n++) globalThis.gc!();
  const { heapUsed: used, external: outside } = process.memoryUsage();
  return { used, outside };
}

export default function init(RED: NodeAPI): void {
  RED.nodes.registerType('bench-generator', function (this: Node, config) {
    RED.nodes.createNode(this, config);
  });
  RED.nodes.registerType('bench-counter', function (this: Node, config) {
    RED.nodes.createNode(this, config);
    this.on('input', ({ sentAt }: Msg, _send, done) => {
      load?.end(sentAt && performance.now() - sentAt);
      done();
    });
  });
  RED.nodes.registerType('bench-failed', function (this: Node, config) {
    RED.nodes.createNode(this, config);
    this.on('input', ({ error }: Msg) => {
      failure = new Error(error!.message);
      load?.fail(failure);
    });
  });
  RED.events.once('flows:started', () => {
    generator = RED.nodes.getNode('generator') as Node | undefined;
    answer({ run, heap });
  });
}
