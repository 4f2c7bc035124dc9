import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { prepared } from './scram';

/** Who may log in, by name and what RFC 5802 has a server keep of a password: nobody can log in with that. Bytes are base64. */
export interface Account {
  name: string;
  salt: string;
  iterations: number;
  stored: string;
  server: string;
}

/** SCRAM-SHA-256 (RFC 7677) keeps this of a password. */
export const ACCOUNT_HASH = 'sha256';
const KEY_LENGTH = 32;
const ITERATIONS = 10_000;
/** Logins that hash at the same time: others wait, so that they do not use all of this computer. */
const MOST_AT_ONCE = 2;
const derived = promisify(pbkdf2);

/** What is kept of a password. Throws AMQP_AUTH for characters that SASLprep (RFC 4013) does not allow. */
export async function accountOf(name: string, password: string): Promise<Account> {
  const salt = randomBytes(16);
  const keys = await keysOf(prepared('password', password), salt, ITERATIONS);
  return {
    name: prepared('user name', name),
    salt: salt.toString('base64'),
    iterations: ITERATIONS,
    stored: keys.stored.toString('base64'),
    server: keys.server.toString('base64'),
  };
}

/** Whether something is an account, as a credential may hold it. */
export function isAccount(given: unknown): given is Account {
  const { name, salt, iterations, stored, server } = (given ?? {}) as Record<string, unknown>;
  return (
    [name, salt, stored, server].every((text) => typeof text === 'string' && text !== '') &&
    Number.isInteger(iterations) &&
    (iterations as number) >= 1 &&
    (iterations as number) <= 1_000_000
  );
}

export function hmac(key: Buffer, text: string): Buffer {
  return createHmac(ACCOUNT_HASH, key).update(text).digest();
}

export function hashOf(bytes: Buffer): Buffer {
  return createHash(ACCOUNT_HASH).update(bytes).digest();
}

async function keysOf(password: string, salt: Buffer, iterations: number): Promise<{ stored: Buffer; server: Buffer }> {
  const salted = await derived(password, salt, iterations, KEY_LENGTH, ACCOUNT_HASH);
  return { stored: hashOf(hmac(salted, 'Client Key')), server: hmac(salted, 'Server Key') };
}

/** Who asks whether a password is right. */
export interface Asking {
  /** Their address. */
  from?: string;
  isGone?: () => boolean;
}

/** The accounts of a listening endpoint. */
export class Accounts {
  readonly #accounts: Map<string, Account>;
  /** Makes up what an unknown name would have: who asks is not to find out that it is unknown. */
  readonly #secret = randomBytes(32);
  #running = 0;
  /** By where they come from, which take turns: who floods us from one place does not keep out others. */
  readonly #waiting = new Map<string, (() => void)[]>();

  constructor(accounts: Account[]) {
    this.#accounts = new Map(accounts.map((one) => [one.name, one]));
  }

  get size(): number {
    return this.#accounts.size;
  }

  has(name: string): boolean {
    return this.#find(name) !== undefined;
  }

  /** Names are compared as SASLprep has them. */
  #find(name: string): Account | undefined {
    try {
      return this.#accounts.get(prepared('user name', name));
    } catch {
      // One that it does not allow is nobody's.
      return undefined;
    }
  }

  /** That of a name; `isKnown` false: it is made up. */
  of(name: string): { account: Account; isKnown: boolean } {
    const account = this.#find(name);
    if (account) return { account, isKnown: true };
    const bytes = createHmac(ACCOUNT_HASH, this.#secret).update(name).digest();
    const made = bytes.toString('base64');
    const salt = bytes.subarray(0, 16).toString('base64');
    return { account: { name, salt, iterations: ITERATIONS, stored: made, server: made }, isKnown: false };
  }

  /** Whether a password is that of the name. Nothing is done for who is gone when the turn comes. */
  async verify(name: string, password: string, { from = '', isGone = () => false }: Asking = {}): Promise<boolean> {
    if (this.#running < MOST_AT_ONCE) this.#running++;
    else await new Promise<void>((resolve) => this.#wait(from, resolve));
    try {
      return !isGone() && (await this.#isRight(name, password));
    } finally {
      const next = this.#next();
      if (next) next();
      else this.#running--;
    }
  }

  async #isRight(name: string, password: string): Promise<boolean> {
    const { account, isKnown } = this.of(name);
    try {
      const { salt, iterations } = account;
      const { stored } = await keysOf(prepared('password', password), Buffer.from(salt, 'base64'), iterations);
      return timingSafeEqual(stored, hashedKey(account)) && isKnown;
    } catch {
      // A password that cannot be one.
      return false;
    }
  }

  #wait(from: string, resolve: () => void): void {
    const waiting = this.#waiting.get(from);
    if (waiting) waiting.push(resolve);
    else this.#waiting.set(from, [resolve]);
  }

  #next(): (() => void) | undefined {
    const [first] = this.#waiting;
    if (!first) return undefined;
    const [from, waiting] = first;
    const next = waiting.shift();
    this.#waiting.delete(from);
    if (waiting.length > 0) this.#waiting.set(from, waiting);
    return next;
  }
}

/** Of the length that it has to have, whatever a credential holds. */
export function hashedKey({ stored }: Account): Buffer {
  const bytes = Buffer.from(stored, 'base64');
  return bytes.length === KEY_LENGTH ? bytes : Buffer.alloc(KEY_LENGTH);
}
