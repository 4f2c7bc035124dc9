import { AmqpError } from './errors';

export interface Login {
  username?: string;
  password?: string;
}

/** What rhea calls to log in: the initial response, and an answer to each challenge. */
interface Mechanism {
  start(callback: (error: Error | undefined, response: Buffer) => void): void;
  step(challenge: Buffer, callback: (error: Error | undefined, response?: Buffer) => void): void;
}

/**
 * The SASL mechanisms that a login allows: PLAIN with a user name, ANONYMOUS without. Never both: the peer's list
 * decides (R27), and it must not be able to turn a login into an anonymous one. There is always a SASL layer, since
 * many brokers insist on it (R25).
 */
export function mechanismsOf({ username, password }: Login): Record<string, Mechanism> {
  if (!username) return { ANONYMOUS: mechanism(Buffer.from('anonymous')) };
  // R25: rhea would log in anonymously with an empty password. R26: it counts characters, not bytes.
  return { PLAIN: mechanism(Buffer.from(`\0${username}\0${password ?? ''}`)) };
}

function mechanism(response: Buffer): Mechanism {
  return {
    start: (callback) => callback(undefined, response),
    step: (_challenge, callback) =>
      callback(new AmqpError('AMQP_AUTH', 'the peer asked for more than this mechanism has')),
  };
}
