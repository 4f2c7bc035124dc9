// A state of each kind, for the tests of states and of statuses.
import { AmqpError } from '../../nodes/lib/errors';
import type { State } from '../../nodes/lib/state';

export const failure = (condition?: string) => new AmqpError('AMQP_CONNECT', 'cannot connect', { condition });
/** From worst to best. */
export const states: State[] = [
  { name: 'auth', error: failure() },
  { name: 'disconnected', error: failure() },
  { name: 'refused', error: failure() },
  { name: 'connecting' },
  { name: 'idle' },
  { name: 'detached' },
  { name: 'unsubscribed' },
  { name: 'ignored', options: ['selector', 'browse'] },
  { name: 'paused' },
  { name: 'buffering', count: 7, percent: 1 },
  { name: 'waiting' },
  { name: 'connected' },
];
