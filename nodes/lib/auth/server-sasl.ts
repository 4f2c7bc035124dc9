import { randomBytes, timingSafeEqual } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { ServerMechanism, ServerMechanisms } from '../wire/accepted-wire';
import { type Account, type Accounts, type Asking, hashedKey, hashOf, hmac } from './accounts';

export interface ServerLogin {
  accounts: Accounts;
  client?: Asking;
  allowsAnonymous: boolean;
  /** The common name in the client's certificate, where that was verified. */
  certified: string | undefined;
  /** A login has failed. */
  refused: (user: string) => void;
  /** Most milliseconds before a client hears so: it is not to be dropped before. Default: `REFUSAL_DELAY`. */
  refusalDelay?: number;
}

/** Milliseconds before a client hears that its login has failed: who guesses is not to try many. */
const REFUSAL_DELAY = 1000;

/** The mechanisms that a client may log in by, the strongest first. */
export function mechanismsFor(login: ServerLogin): ServerMechanisms {
  const { accounts, allowsAnonymous, certified } = login;
  return {
    ...(certified !== undefined && accounts.has(certified) && { EXTERNAL: () => external(certified) }),
    ...(accounts.size > 0 && {
      'SCRAM-SHA-256': () => new Scram(login),
      PLAIN: () => plain(login),
    }),
    ...(allowsAnonymous && { ANONYMOUS: () => anonymous() }),
  };
}

function anonymous(): ServerMechanism {
  return single(async () => ({ outcome: true, username: '' }));
}

function external(certified: string): ServerMechanism {
  return single(async () => ({ outcome: true, username: certified }));
}

/** RFC 4616. */
function plain(login: ServerLogin): ServerMechanism {
  return single(async (response) => {
    const [as, username = '', password, ...more] = response.toString().split('\0');
    const isWhole = password !== undefined && more.length === 0 && (as === '' || as === username);
    const outcome = isWhole && (await login.accounts.verify(username, password, login.client));
    if (!outcome) await refusal(login, username);
    return { outcome, username };
  });
}

/** A mechanism of one message. */
function single(judge: (response: Buffer) => Promise<{ outcome: boolean; username: string }>): ServerMechanism {
  const mechanism: ServerMechanism = {
    async start(response) {
      Object.assign(mechanism, await judge(response ?? Buffer.alloc(0)));
    },
    async step() {
      mechanism.outcome = false;
    },
  };
  return mechanism;
}

async function refusal({ refused, refusalDelay = REFUSAL_DELAY }: ServerLogin, username: string): Promise<void> {
  await delay(Math.min(refusalDelay, REFUSAL_DELAY), undefined, { ref: false });
  refused(username);
}

const FIRST = /^([ny],(?:a=[^,]*)?,)(n=([^,]*),r=([\x21-\x2b\x2d-\x7e]{1,256})(?:,.*)?)$/;
const FINAL = /^(c=([^,]*),r=([^,]*)(?:,[^,]*)*),p=([^,]*)$/;

/** RFC 5802, RFC 7677, without channel binding. */
class Scram implements ServerMechanism {
  outcome?: boolean;
  username?: string;
  additionalData?: Buffer;
  readonly #login: ServerLogin;
  #account: Account | undefined;
  #isKnown = false;
  #nonce = '';
  #header = '';
  /** The first messages of both. */
  #firsts = '';

  constructor(login: ServerLogin) {
    this.#login = login;
  }

  /** A client may wait for a challenge before it begins. */
  async start(response: Buffer | null): Promise<Buffer | void> {
    return response?.length ? this.step(response) : Buffer.alloc(0);
  }

  async step(response: Buffer): Promise<Buffer | void> {
    return this.#account ? this.#last(response.toString(), this.#account) : this.#first(response.toString());
  }

  async #first(message: string): Promise<Buffer | void> {
    const [, header, bare, name, nonce] = FIRST.exec(message) ?? [];
    if (header === undefined || bare === undefined || name === undefined) return this.#fail('other-error');
    const username = name.replaceAll('=2C', ',').replaceAll('=3D', '=');
    const { account, isKnown } = this.#login.accounts.of(username);
    this.username = username;
    this.#account = account;
    this.#isKnown = isKnown;
    this.#header = header;
    this.#nonce = nonce + randomBytes(18).toString('base64');
    const challenge = `r=${this.#nonce},s=${account.salt},i=${account.iterations}`;
    this.#firsts = `${bare},${challenge}`;
    return Buffer.from(challenge);
  }

  async #last(message: string, account: Account): Promise<Buffer | void> {
    const [, withoutProof, binding, nonce, given = ''] = FINAL.exec(message) ?? [];
    if (withoutProof === undefined || nonce !== this.#nonce) return this.#fail('other-error');
    if (binding !== Buffer.from(this.#header).toString('base64')) return this.#fail('channel-bindings-dont-match');
    const signed = `${this.#firsts},${withoutProof}`;
    const stored = hashedKey(account);
    const signature = hmac(stored, signed);
    const proof = Buffer.from(given, 'base64');
    const key = Buffer.from(signature.map((byte, at) => byte ^ (proof[at] ?? 0)));
    const isRight = proof.length === signature.length && timingSafeEqual(hashOf(key), stored) && this.#isKnown;
    if (!isRight) return this.#fail('invalid-proof');
    const server = Buffer.from(account.server, 'base64');
    this.additionalData = Buffer.from(`v=${hmac(server, signed).toString('base64')}`);
    this.outcome = true;
  }

  async #fail(error: string): Promise<void> {
    await refusal(this.#login, this.username ?? '');
    this.additionalData = Buffer.from(`e=${error}`);
    this.outcome = false;
  }
}
