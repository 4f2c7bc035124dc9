import type { EventEmitter } from 'node:events';

/** What lies between us and an open connection, in the order in which it is passed. */
export const WAY = ['name', 'tcp', 'proxy', 'tls', 'websocket', 'login'] as const;
export type Passed = (typeof WAY)[number];

/** Tells how far a socket comes. */
export function watch(socket: EventEmitter, passed: (what: Passed) => void): void {
  socket.once('lookup', (error: unknown) => error || passed('name'));
  socket.once('connect', () => passed('tcp'));
  socket.once('secureConnect', () => passed('tls'));
}
