import { type AmqpError, amqpError } from '../errors';
import { MAX_TIMEOUT } from '../pause';

/** What stands for a login for a while. */
export interface Token {
  value: string;
  /** Milliseconds since 1970; undefined: it is not known that it ever expires. */
  expires?: number;
}

/** Where tokens come from. Rejects with an AmqpError. */
export type Issuer = () => Promise<Token>;

/** The share of its life after which a token is replaced, so that there is time left for a server that is down. */
const [RENEW_AFTER, RENEW_JITTER] = [0.7, 0.1];
/** Milliseconds between attempts to renew a token while it lives. */
const [RETRY_FIRST, RETRY_LONGEST] = [1000, 60_000];
/** Milliseconds: a token that lives no longer than this is taken for dead, since it has a way to go. */
const MARGIN = 250;
/** Who is to be told of tokens. */
export interface TokenUser {
  /** There is a new one, before the last one expires. */
  renewed(token: Token): void;
  /** It could not be renewed. It is tried again, while the old one lives. */
  failed(error: AmqpError): void;
}

/**
 * The token that an endpoint logs in with: asked for when it is needed, kept as long as it lives, and renewed ahead of its
 * end, with jitter, as long as somebody uses it.
 */
export class Tokens {
  readonly #issue: Issuer | undefined;
  readonly #users = new Set<TokenUser>();
  #token: Token | undefined;
  #asking: Promise<Token> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #failures = 0;

  /** Without an issuer the flow gives each token. */
  constructor(issue?: Issuer) {
    this.#issue = issue;
  }

  get isGiven(): boolean {
    return this.#issue === undefined;
  }

  /** A token that lives. Rejects with an AmqpError where none is to be had. */
  async get(): Promise<Token> {
    const token = this.#token;
    if (token && (token.expires === undefined || token.expires - MARGIN > Date.now())) return token;
    if (!this.#issue) {
      // Two of one diagnosis would count as one, and the second not be told.
      if (token) throw amqpError('AMQP_AUTH.token-expired', {}, { diagnosis: 'token-expired' });
      throw amqpError('AMQP_AUTH.no-token', {}, { diagnosis: 'no-token' });
    }
    return this.#ask(this.#issue);
  }

  /** Takes a token that a flow gives. `life`: seconds; without, the token says it itself, if it is a JWT. */
  give(value: string, life?: number): void {
    this.#take({ value, expires: life === undefined ? expiryOf(value) : Date.now() + 1000 * life });
  }

  /** It was refused: it is not used again. */
  drop({ value }: Token): void {
    if (this.#token?.value === value && this.#issue) this.#token = undefined;
  }

  /** Renews tokens from now on, until the function returned is called. */
  use(user: TokenUser): () => void {
    this.#users.add(user);
    if (this.#users.size === 1) this.#schedule();
    return () => {
      this.#users.delete(user);
      if (this.#users.size === 0) clearTimeout(this.#timer);
    };
  }

  #ask(issue: Issuer): Promise<Token> {
    this.#asking ??= issue()
      .then((token) => {
        this.#take(token);
        return token;
      })
      .finally(() => (this.#asking = undefined));
    return this.#asking;
  }

  #take(token: Token): void {
    const isFirst = this.#token === undefined;
    this.#token = token;
    this.#failures = 0;
    this.#schedule();
    // Who asks for the first one is waiting for it, unless it was given.
    if (!isFirst || this.isGiven) for (const user of this.#users) user.renewed(token);
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    const expires = this.#token?.expires;
    if (expires === undefined || !this.#issue || this.#users.size === 0) return;
    const life = expires - Date.now();
    // By our clock it is over already: nothing would be gained by the next one. Who needs one asks for it.
    if (life <= 0) return;
    this.#wait(life * (RENEW_AFTER + Math.random() * RENEW_JITTER));
  }

  #wait(delay: number): void {
    this.#timer = setTimeout(() => void this.#renew(), Math.min(Math.max(delay, MARGIN), MAX_TIMEOUT));
  }

  async #renew(): Promise<void> {
    try {
      await this.#ask(this.#issue!);
    } catch (error) {
      if (this.#users.size === 0) return;
      for (const user of this.#users) user.failed(error as AmqpError);
      // Once it has expired, who needs one asks for it.
      if ((this.#token?.expires ?? 0) <= Date.now()) return;
      this.#wait(Math.min(RETRY_LONGEST, RETRY_FIRST * 2 ** this.#failures++) * (0.5 + Math.random() / 2));
    }
  }
}

/** When a JWT expires by its own words (RFC 7519, 4.1.4), in milliseconds since 1970. It is the peer's to verify it. */
export function expiryOf(token: string): number | undefined {
  try {
    const { exp } = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as { exp?: unknown };
    return typeof exp === 'number' ? 1000 * exp : undefined;
  } catch {
    // It is no JWT.
    return undefined;
  }
}
