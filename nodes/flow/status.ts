import type { Node, NodeAPI } from 'node-red';
import { cleaned } from '../lib/errors';
import { reasonOf, SOURCE_OPTIONS, type State } from '../lib/state';

/** Begins the keys of status texts, for the editor to translate. */
export const STATUS = '@amqp10/node-red-amqp10/amqp-endpoint:amqp-endpoint.status.';

export interface Status {
  fill: 'red' | 'green' | 'yellow' | 'blue' | 'grey';
  shape: 'ring' | 'dot';
  /** Key of the text in the catalogue of amqp-endpoint, below `amqp-endpoint.status`. */
  key: string;
  /** Options that the text is to name, each by its translation. */
  options?: string[];
  /** What the text is to be filled with. */
  args?: Record<string, string | number>;
  /** Messages that wait, and how full the buffer is: stands behind the text. */
  waiting?: { n: number; percent: number };
  /** Shown as it is, in place of a translated text. */
  text?: string;
}

/** The one table of states and their looks. */
const LOOKS: Record<State['name'], Pick<Status, 'fill' | 'shape'>> = {
  fault: { fill: 'red', shape: 'ring' },
  auth: { fill: 'red', shape: 'ring' },
  disconnected: { fill: 'red', shape: 'ring' },
  refused: { fill: 'red', shape: 'ring' },
  connecting: { fill: 'yellow', shape: 'ring' },
  idle: { fill: 'grey', shape: 'ring' },
  detached: { fill: 'grey', shape: 'ring' },
  unsubscribed: { fill: 'grey', shape: 'ring' },
  ignored: { fill: 'yellow', shape: 'ring' },
  unsure: { fill: 'yellow', shape: 'ring' },
  paused: { fill: 'yellow', shape: 'dot' },
  retrying: { fill: 'yellow', shape: 'dot' },
  buffering: { fill: 'yellow', shape: 'dot' },
  waiting: { fill: 'yellow', shape: 'dot' },
  connected: { fill: 'green', shape: 'dot' },
  listening: { fill: 'green', shape: 'dot' },
  'no-session': { fill: 'green', shape: 'ring' },
};

/** `server`: the one in use, where it is one of several. */
export function statusOf(state: State, server?: string): Status {
  const look = { ...LOOKS[state.name], key: state.name };
  if ('error' in state) {
    const { error, count, percent = 0 } = state;
    const waiting = count ? { waiting: { n: count, percent } } : {};
    if (error.diagnosis) return { ...look, key: `reason.${error.diagnosis}`, ...waiting };
    return { ...look, args: { reason: reasonOf(error) }, ...waiting };
  }
  if (state.name === 'ignored' || state.name === 'unsure') return { ...look, options: state.options };
  if (state.name === 'retrying')
    return { ...look, ...(state.count && { waiting: { n: state.count, percent: state.percent } }) };
  if (state.name === 'buffering') return { ...look, args: { n: state.count, percent: state.percent } };
  if (state.name === 'listening') return { ...look, args: { n: state.count } };
  if (state.name === 'connected' && state.address) return { ...look, text: cleaned(state.address) };
  if (state.name === 'connected' && server) return { ...look, key: 'connected-to', args: { server } };
  return look;
}

/** What a status tells a flow, by Status nodes, beyond its text: plain data. */
export interface StatusDetail {
  state: State['name'];
  /** That is connected to, or tried; or where it listens. */
  server: string;
  code?: string;
  condition?: string;
  /** What is wrong, in English, as in the log. */
  reason?: string;
  /** Messages that wait, or clients. */
  count?: number;
}

function detailOf(state: State, server: string): StatusDetail {
  const { name } = state;
  const error = 'error' in state ? state.error : undefined;
  return {
    state: name,
    server,
    ...(error && { code: error.code, ...(error.condition && { condition: error.condition }), reason: error.message }),
    ...('count' in state && state.count !== undefined && { count: state.count }),
  };
}

/** Shows a state as the status of a node. `peer`: the server, and `server` the same where it is one of several. */
export function show(RED: NodeAPI, node: Node, state: State, peer: string, server?: string): void {
  const {
    fill,
    shape,
    key,
    options,
    args = options && { options: named(RED, options) },
    waiting,
    text,
  } = statusOf(state, server);
  // A key that is all of the text is translated by the editor, into the language of who looks at it.
  const words = text ?? (args || waiting ? RED._(STATUS + key, args ?? {}) : STATUS + key);
  const shown = { fill, shape, text: waiting ? `${words} (${RED._(`${STATUS}count`, waiting)})` : words };
  // Node-RED hands all of it to Status nodes.
  node.status(Object.assign(shown, { amqp: detailOf(state, peer) }));
}

/** The names of options, as the form has them; those of filters are what they are. */
export function named(RED: NodeAPI, options: string[]): string {
  const known: readonly string[] = SOURCE_OPTIONS;
  return options.map((one) => (known.includes(one) ? RED._(`amqp-endpoint.option.${one}`) : one)).join(', ');
}
