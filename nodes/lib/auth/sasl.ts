import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { amqpError } from '../errors';

export interface Login {
  username?: string;
  password?: string;
  /** With a client certificate among them the peer knows us by that. */
  tls?: TlsOptions;
}

/** What rhea calls to log in: the initial response, and an answer to each challenge. */
export interface Mechanism {
  start(callback: (error: Error | undefined, response: Buffer) => void): void;
  step(challenge: Buffer, callback: (error: Error | undefined, response?: Buffer) => void): void;
}

/**
 * The SASL mechanisms that a login allows, the best first: PLAIN with a user name; without, EXTERNAL with a client
 * certificate, and ANONYMOUS. Never PLAIN and another one: a peer must not be able to turn a login into an anonymous
 * one. There is always a SASL layer, since many brokers insist on it (R25).
 */
export function mechanismsOf({ username, password, tls }: Login): Record<string, Mechanism> {
  // R57: rhea would log in anonymously with an empty password. R26: it counts characters, not bytes.
  if (username) return { PLAIN: mechanism(Buffer.from(`\0${username}\0${password ?? ''}`)) };
  return {
    // R58: rhea's own is for a certificate in `cert` only.
    ...(tls?.cert || tls?.pfx ? { EXTERNAL: mechanism(Buffer.alloc(0)) } : {}),
    ANONYMOUS: mechanism(Buffer.from('anonymous')),
  };
}

function mechanism(response: Buffer): Mechanism {
  return {
    start: (callback) => callback(undefined, response),
    step: (_challenge, callback) => callback(amqpError('AMQP_AUTH.more')),
  };
}
