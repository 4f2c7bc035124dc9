import type { AmqpError } from './errors';

/** Options of a source of which a peer's answer tells whether it has taken them. */
export const SOURCE_OPTIONS = ['selector', 'browse', 'durable', 'shared'] as const;
export type SourceOption = (typeof SOURCE_OPTIONS)[number];

/** What a connection or link is doing, in the words that users see. */
export type State =
  | { name: 'idle' | 'connecting' | 'waiting' | 'detached' | 'paused' }
  /** `address`: what the peer has given, an address or a session. */
  | { name: 'connected'; address?: string }
  /** It waits for a session of Azure Service Bus to become free. */
  | { name: 'no-session' }
  /** Clients can connect, and so many are. */
  | { name: 'listening'; count: number }
  /** It waits for the flow to name an address. */
  | { name: 'unsubscribed' }
  | {
      /** Connected, but the peer does not do what was asked. */
      name: 'ignored';
      /** Those of a source, and names of filters. */
      options: string[];
    }
  | {
      /** Connected, but the peer may not do what it confirms. */
      name: 'unsure';
      options: string[];
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

const WORST_FIRST: State['name'][] = [
  'fault',
  'auth',
  'disconnected',
  'refused',
  'connecting',
  'idle',
  'detached',
  'unsubscribed',
  'ignored',
  'unsure',
  'paused',
  'retrying',
  'buffering',
  'waiting',
  'listening',
  'connected',
  'no-session',
];

/** The state to show for a node that has several links; the last of those that are alike. */
export function worstOf(...states: State[]): State {
  const rank = ({ name }: State): number => WORST_FIRST.indexOf(name);
  return states.reduce((worst, state) => (rank(state) <= rank(worst) ? state : worst));
}

/** Whether two states look the same to a person; counts of failing states are ignored. */
export function isSame(state: State, other: State): boolean {
  if (state === other) return true;
  if (state.name !== other.name) return false;
  if ('error' in state && 'error' in other) return reasonOf(state.error) === reasonOf(other.error);
  return JSON.stringify(state) === JSON.stringify(other);
}

/** The shortest name of what went wrong: the setting, the peer's condition, the system's code, or all that is known. */
export function reasonOf(error: AmqpError): string {
  if (error.field) return error.field;
  if (error.diagnosis) return error.diagnosis;
  const { code } = (error.cause ?? {}) as { code?: unknown };
  return error.condition ?? (typeof code === 'string' ? code : error.message);
}
