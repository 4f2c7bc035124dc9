// What becomes of each message in a Node-RED: told by its hooks, which live on while nodes come and go. Used in this
// process and, by node-red-settings.ts, in a Node-RED of its own.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { Node, NodeMessage } from 'node-red';

/** Messages `{ payload: { n } }` for a node, so many at a time: the next some time after one has ended. */
export interface Feed {
  to: string;
  /** The first number. */
  from: number;
  /** How many there are at most; without, there is no end of them. */
  count?: number;
  /** How many are under way at the same time. */
  ahead: number;
  /** Milliseconds from the end of one to the next, on average. */
  pause: number;
}

/** With the number of the message. */
export type Report =
  | ['sent' | 'done', number]
  | ['failed', number, string]
  /** It reached the flow: the node "work", which is done with it later. */
  | ['got' | 'worked', number]
  /** The receiver took the outcome that the flow gave, or did not. */
  | ['settled', number]
  | ['unsettled', number, string];

type Listener<E> = (event: E) => void;
type Msg = { payload?: { n?: number }; amqp?: Record<string, unknown> };
type Complete = { msg: Msg; error?: { code?: string; message: string }; node: { id: string } };

/** What is used of Node-RED. */
interface NodeRed {
  hooks: {
    add(name: 'onComplete.faults', listener: Listener<Complete>): void;
    add(name: 'onReceive.faults', listener: Listener<{ msg: Msg; destination: { id: string } }>): void;
    remove(name: '*.faults'): void;
  };
  events: {
    on(name: 'flows:started' | 'flows:stopping', listener: () => void): void;
    off(name: 'flows:started' | 'flows:stopping', listener: () => void): void;
  };
  nodes: { getNode(id: string): Node | null | undefined };
}

/** Messages for a node that has been told to close: it still takes them, and is to tell what becomes of them. */
export const LAST = 10;

/** Reports, and feeds, from the next start of the flows until the function returned is called. */
export function observe(nodeRedDir: string, report: (...report: Report) => void, feed?: Feed): () => void {
  const RED: NodeRed = createRequire(join(nodeRedDir, 'package.json'))(nodeRedDir);
  let next = feed?.from ?? 0;
  let underWay = 0;
  let target: Node | null | undefined;

  const give = (to: Node): void => {
    const n = next++;
    underWay++;
    report('sent', n);
    const msg: Msg & NodeMessage = { payload: { n }, amqp: { message_id: `${n}`, durable: true } };
    to.receive(msg);
  };
  const isLeft = (): boolean => feed !== undefined && next < feed.from + (feed.count ?? Infinity);
  /** False when there is nothing to give, or nobody to give it to. */
  const giveOne = (): boolean => {
    if (!target || !isLeft() || underWay >= feed!.ahead) return false;
    give(target);
    return true;
  };

  RED.hooks.add('onComplete.faults', ({ msg, error, node }) => {
    const { n } = msg.payload ?? {};
    if (n === undefined) return;
    const code = error && (error.code ?? error.message);
    if (node.id === feed?.to) {
      underWay--;
      if (code) report('failed', n, code);
      else report('done', n);
      setTimeout(giveOne, 2 * feed.pause * Math.random());
    } else if (node.id === 'work') {
      report('worked', n);
    } else if (node.id === 'receiver' || node.id === 'responder') {
      if (code) report('unsettled', n, code);
      else report('settled', n);
    }
  });
  RED.hooks.add('onReceive.faults', ({ msg, destination }) => {
    if (destination.id === 'work') report('got', msg.payload!.n!);
  });
  const started = (): void => {
    target = feed && RED.nodes.getNode(feed.to);
    while (giveOne());
  };
  const stopping = (): void => {
    process.nextTick(() => {
      // Node-RED has told the nodes to close by now, and begins with that in the next turn.
      const closing = target;
      target = undefined;
      setImmediate(() => {
        if (!closing) return;
        for (let i = 0; i < LAST && isLeft(); i++) give(closing);
      });
    });
  };
  RED.events.on('flows:started', started);
  RED.events.on('flows:stopping', stopping);
  return () => {
    target = undefined;
    RED.hooks.remove('*.faults');
    RED.events.off('flows:started', started);
    RED.events.off('flows:stopping', stopping);
  };
}
