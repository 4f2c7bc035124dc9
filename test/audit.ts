// A root hook: looks for the secrets of tests (secrets.ts) in all that is let out while tests run, and fails the file, or
// the run, in which one is. Where it was, and in which test, is named; the secret is not.
import { join } from 'node:path';
import type { Context, RootHookObject } from 'mocha';
import { secretIn } from './secrets';

/** Objects within objects, and bytes of a Buffer, that are looked at: tests of what is large would take long. */
const [MAX_DEPTH, MAX_BYTES] = [8, 65_536];

interface Sent {
  msg: unknown;
  source: { node: { type: string } };
}
interface Completed {
  msg: unknown;
  error?: unknown;
  node: { node: { type: string } };
}

/** What is used of Node-RED. */
interface NodeRedUtil {
  log: { log(entry: object): void };
  events: { on(name: 'node-status', listener: (status: object) => void): void };
  hooks: {
    add(name: 'onSend.audit', listener: (sent: Sent[]) => void): void;
    add(name: 'onComplete.audit', listener: (completed: Completed) => void): void;
  };
}

/** What gives a msg that is to be free of secrets; what else sends is the test itself. */
const FROM_US = /^(amqp-|catch$|complete$|status$)/;

const found = new Set<string>();
let during = 'before the first test';
/** The Node-REDs that are listened to. */
const heard = new Set<string>();

/** For what no hook sees, such as a flow that was saved, or the output of another process. */
export function audit(channel: string, value: unknown): void {
  const form = formIn(value, MAX_DEPTH, new Set());
  if (form !== undefined) found.add(`${during}: ${channel} has a secret ${form}`);
}

/** Gives what was found so far, and forgets it: for the test of this. */
export function takeFound(): string[] {
  const taken = [...found];
  found.clear();
  return taken;
}

function formIn(value: unknown, depth: number, seen: Set<object>): string | undefined {
  if (typeof value === 'string') return secretIn(value);
  if (typeof value !== 'object' || value === null || depth === 0 || seen.has(value)) return undefined;
  seen.add(value);
  if (ArrayBuffer.isView(value)) {
    const { buffer, byteOffset, byteLength } = value;
    return secretIn(Buffer.from(buffer, byteOffset, Math.min(byteLength, MAX_BYTES)).toString('latin1'));
  }
  const isList = value instanceof Map || value instanceof Set || Array.isArray(value);
  const parts = isList ? value : Object.entries(value);
  for (const part of parts as Iterable<unknown>) {
    const form = formIn(part, depth - 1, seen);
    if (form !== undefined) return form;
  }
  if (!(value instanceof Error)) return undefined;
  // These are no enumerable properties.
  const { message, stack, cause } = value;
  return formIn([message, stack, cause], depth, seen);
}

for (const name of ['stdout', 'stderr'] as const) {
  const stream = process[name];
  const write = stream.write.bind(stream) as (...args: unknown[]) => boolean;
  stream.write = (...args: [unknown, ...unknown[]]) => {
    audit(name, args[0]);
    return write(...args);
  };
}

/**
 * Once a test file has loaded Node-RED, which is not done for those that do without. The test helper loads the one of this
 * project beside the one under test.
 */
function hearNodeRed(): void {
  for (const path of Object.keys(require.cache)) {
    if (!path.endsWith(UTIL) || heard.has(path)) continue;
    heard.add(path);
    hear(path);
  }
}

function hear(path: string): void {
  const { log, events, hooks } = require(path) as NodeRedUtil;
  const write = log.log.bind(log);
  log.log = (entry) => {
    audit("Node-RED's log", entry);
    write(entry);
  };
  events.on('node-status', (status) => audit('a status', status));
  hooks.add('onSend.audit', (sent) => {
    for (const { msg, source } of sent) if (FROM_US.test(source.node.type)) audit('a msg', msg);
  });
  hooks.add('onComplete.audit', ({ msg, error, node }) => {
    if (!FROM_US.test(node.node.type)) return;
    audit('a msg that a node is done with', msg);
    audit('an error', error);
  });
}

const UTIL = join('@node-red', 'util', 'index.js');

export const mochaHooks: RootHookObject = {
  beforeAll(): void {
    hearNodeRed();
  },
  beforeEach(this: Context): void {
    during = this.currentTest!.fullTitle();
    hearNodeRed();
  },
  afterEach(): void {
    during = `after ${during}`;
  },
  afterAll(): void {
    const taken = takeFound();
    during = 'before the first test';
    if (taken.length > 0) throw new Error(`secrets were let out:\n${taken.join('\n')}`);
  },
};
