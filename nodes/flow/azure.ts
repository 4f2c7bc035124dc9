/** What the nodes are configured with for Azure's services, as the options of lib. */
import type { SessionOptions } from '../lib/azure/service-bus-receiver';
import { requiredText } from './options';
import type { Settings } from './settings';

/** Whether the node works with what one of Azure's services has beyond AMQP. */
export type Service = '' | 'service-bus';

export function serviceOf(settings: Settings): Service {
  return settings.choice<Service>('service', ['', 'service-bus']);
}

/** What a sender sends as one: the elements of a payload that is an array, or what comes within some time. */
export type BatchOption = 'off' | 'array' | 'time';

export function batchOf(settings: Settings): BatchOption {
  return settings.choice<BatchOption>('batch', ['off', 'array', 'time']);
}

/** Undefined: the entity has no sessions. */
export function sessionsOf(settings: Settings): SessionOptions | undefined {
  const sessions = settings.choice<'' | 'next' | 'named'>('session', ['', 'next', 'named']);
  if (!sessions) return undefined;
  const isNamed = sessions === 'named';
  return {
    id: isNamed ? requiredText(settings, 'sessionid') : null,
    count: isNamed ? 1 : settings.number('sessions'),
    idleTime: settings.milliseconds('sessionidle'),
  };
}
