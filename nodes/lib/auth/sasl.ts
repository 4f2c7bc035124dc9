import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { amqpError } from '../errors';
import type { Mechanism, Mechanisms } from '../wire/wire';
import { scram, SCRAM_HASHES, type ScramName } from './scram';

export type MechanismName = 'ANONYMOUS' | 'PLAIN' | 'EXTERNAL' | 'XOAUTH2' | ScramName;

export interface Login {
  username?: string;
  password?: string;
  /** With a client certificate among them the peer knows us by that. */
  tls?: TlsOptions;
  /** A person's choice: no other one is offered. Undefined: the strongest that the login and the peer have in common. */
  mechanism?: MechanismName | 'none';
}

/** Those that show a password, or a token, to whoever listens on a connection without TLS. */
export const REVEALING: readonly string[] = ['PLAIN', 'XOAUTH2'] satisfies MechanismName[];

const SCRAM = Object.keys(SCRAM_HASHES) as ScramName[];
const EMPTY = Buffer.alloc(0);

/**
 * The SASL mechanisms that a login allows, the best first. A user name means that user: SCRAM, then PLAIN, then a client
 * certificate; without one a client certificate, then nobody. Never one that logs in as nobody beside one that logs in
 * as somebody by name: a peer must not be able to turn the one into the other. There is always a SASL layer, since many
 * brokers insist on it (R25), unless a person wants none: undefined then.
 *
 * XOAUTH2 takes the password as the token.
 */
export function mechanismsOf(login: Login): Mechanisms | undefined {
  const { mechanism } = login;
  if (mechanism === 'none') return undefined;
  return Object.fromEntries((mechanism ? [mechanism] : namesOf(login)).map((name) => [name, () => build(name, login)]));
}

function namesOf({ username, password, tls }: Login): MechanismName[] {
  // R58: rhea's own is for a certificate in `cert` only.
  const external: MechanismName[] = tls?.cert || tls?.pfx ? ['EXTERNAL'] : [];
  if (username) return [...SCRAM, 'PLAIN', ...external];
  // A token as password may need no user name (RabbitMQ).
  return password ? ['PLAIN'] : [...external, 'ANONYMOUS'];
}

function build(name: MechanismName, { username = '', password = '' }: Login): Mechanism {
  switch (name) {
    case 'ANONYMOUS':
      return single(Buffer.from('anonymous'));
    case 'EXTERNAL':
      return single(EMPTY);
    // R57: rhea would log in anonymously with an empty password. R26: it counts characters, not bytes.
    case 'PLAIN':
      return single(Buffer.from(`\0${username}\0${password}`));
    case 'XOAUTH2':
      return {
        ...single(Buffer.from(`user=${username}\u0001auth=Bearer ${password}\u0001\u0001`)),
        // A server says what is wrong with the token, and refuses only when that has been answered.
        step: (_error, callback) => callback(undefined, EMPTY),
      };
    default:
      return scram(name, username, password);
  }
}

/** One that has said all with its first response. */
function single(response: Buffer): Mechanism {
  return {
    start: (callback) => callback(undefined, response),
    step: (_challenge, callback) => callback(amqpError('AMQP_AUTH.more')),
  };
}
