// Microsoft's clients for Service Bus.
import { javascriptClient, pythonClient } from '../azure/client';

/** What a client tells of a message. */
export interface Received {
  /** stands for it in requests */
  handle: number;
  id: string;
  body: string;
  sequenceNumber: number;
  deliveryCount: number;
  sessionId: string | null;
  properties: Record<string, unknown>;
  state: 'active' | 'deferred' | 'scheduled';
  reason: string | null;
  description: string | null;
  enqueuedAt: number;
  lockedUntil: number | null;
}

export const javascript = javascriptClient({ '@azure/service-bus': '7.9.5' }, __dirname);
export const python = pythonClient({ 'azure-servicebus': '7.15.0' }, __dirname);
