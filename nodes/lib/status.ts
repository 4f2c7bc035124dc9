import { type AmqpError, cleaned } from './errors';
import type { SourceOption } from './link/source';

/** What a connection or link is doing, in the words that users see. */
export type State =
  | { name: 'idle' | 'connecting' | 'waiting' | 'detached' | 'paused' }
  | { name: 'connected'; address?: string }
  | {
      /** Connected, but the peer does not do what was asked. */
      name: 'ignored';
      options: SourceOption[];
    }
  | {
      /** Connected, but the peer may not do what it confirms. */
      name: 'unsure';
      options: SourceOption[];
    }
  /** `retrying`: because the peer has released messages. */
  | { name: 'buffering' | 'retrying'; count: number; percent: number }
  | {
      /** `fault`: of the node itself. */
      name: 'refused' | 'disconnected' | 'auth' | 'fault';
      error: AmqpError;
      /** Of a sender: messages that wait, and how full its buffer is. */
      count?: number;
      percent?: number;
    };

export interface Status {
  fill: 'red' | 'green' | 'yellow' | 'blue' | 'grey';
  shape: 'ring' | 'dot';
  /** Key of the text in the catalogue of amqp-endpoint, below `amqp-endpoint.status`. */
  key: string;
  /** Options that the text is to name, each by its translation. */
  options?: SourceOption[];
  /** What the text is to be filled with. */
  args?: Record<string, string | number>;
  /** Messages that wait, and how full the buffer is, to be told beside the text. */
  waiting?: { n: number; percent: number };
  /** Shown as it is, in place of a translated text. */
  text?: string;
}

/** The one table of states and their looks, worst first. */
const LOOKS: Record<State['name'], Pick<Status, 'fill' | 'shape'>> = {
  fault: { fill: 'red', shape: 'ring' },
  auth: { fill: 'red', shape: 'ring' },
  disconnected: { fill: 'red', shape: 'ring' },
  refused: { fill: 'red', shape: 'ring' },
  connecting: { fill: 'yellow', shape: 'ring' },
  idle: { fill: 'grey', shape: 'ring' },
  detached: { fill: 'grey', shape: 'ring' },
  ignored: { fill: 'yellow', shape: 'ring' },
  unsure: { fill: 'yellow', shape: 'ring' },
  paused: { fill: 'yellow', shape: 'dot' },
  retrying: { fill: 'yellow', shape: 'dot' },
  buffering: { fill: 'yellow', shape: 'dot' },
  waiting: { fill: 'yellow', shape: 'dot' },
  connected: { fill: 'green', shape: 'dot' },
};
const ORDER = Object.keys(LOOKS);

export function statusOf(state: State): Status {
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
  if (state.name === 'connected' && state.address) return { ...look, text: cleaned(state.address) };
  return look;
}

/** The state to show for a node that has several links; the last of those that are alike. */
export function worstOf(...states: State[]): State {
  return states.reduce((worst, state) => (ORDER.indexOf(state.name) <= ORDER.indexOf(worst.name) ? state : worst));
}

/** True when there is nothing new to tell, but for numbers of messages that wait while something is wrong. */
export function isSame(state: State, other: State): boolean {
  if ('error' in state && 'error' in other)
    return state.name === other.name && reasonOf(state.error) === reasonOf(other.error);
  return state.name === other.name && JSON.stringify(state) === JSON.stringify(other);
}

/** The shortest name of what went wrong: the setting, the peer's condition, the system's code, or all that is known. */
export function reasonOf(error: AmqpError): string {
  if (error.field) return error.field;
  if (error.diagnosis) return error.diagnosis;
  const { code } = (error.cause ?? {}) as { code?: unknown };
  return error.condition ?? (typeof code === 'string' ? code : error.message);
}
