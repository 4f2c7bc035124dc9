// Microsoft's clients for Event Hubs.
import { type ClientKind, javascriptClient, pythonClient } from '../azure/client';

/** Where a receiver begins: at one of these, and just there where it is inclusive. */
export interface Position {
  /** `-1` is the earliest, `@latest` what comes after the receiver */
  offset?: string;
  sequenceNumber?: number;
  /** milliseconds */
  enqueuedAt?: number;
  /** not with a time, which the client for JavaScript has only exclusive */
  isInclusive?: boolean;
}

/** What a client is asked to receive. */
export interface Subscription extends Position {
  /** default: all of them, and no epoch */
  partition?: string;
  /** default: `$Default` */
  group?: string;
  epoch?: number;
  /** ask for what there is to tell of the partition with each event (default false) */
  metrics?: boolean;
  /** attempts after the first (default 2); only with 0 does the client for Python tell why it has failed */
  retries?: number;
}

/** What a client tells of an event. */
export interface Received {
  body: string;
  partition: string;
  sequenceNumber: number;
  offset: string;
  partitionKey: string | null;
  enqueuedAt: number;
  properties: Record<string, unknown>;
  /** of the last event in its partition, where metrics are asked for */
  last: { sequenceNumber: number; offset: string } | null;
}

/** What not every client can do. */
export type Ability =
  /** tell when the hub was made */
  | 'createdAt'
  /** ask for one partition by its id */
  | 'partition'
  /** have what there is to tell of the partition with each event */
  | 'metrics'
  /** begin there */
  | 'with an offset'
  | 'after a sequence number'
  | 'after a time'
  | 'with a time';

export interface EventHubsClient extends ClientKind {
  /** Whether it can send an event that is not in a batch. */
  readonly sendsSingly: boolean;
  /** What it cannot do, since it has no option for it, and why: the tests of that are not for it. */
  readonly lacks: Partial<Record<Ability, string>>;
}

export const javascript: EventHubsClient = {
  ...javascriptClient({ '@azure/event-hubs': '6.0.4' }, __dirname),
  sendsSingly: false,
  lacks: { 'with a time': 'it has a time only exclusive' },
};
export const python: EventHubsClient = {
  ...pythonClient({ 'azure-eventhub': '5.15.1' }, __dirname),
  sendsSingly: true,
  lacks: {},
};
