import { randomUUID } from 'node:crypto';
import { hubSignature, sharedAccessSignature, type SharedKey } from '../auth/sas';
import type { Tokens, TokenUser } from '../auth/tokens';
import { pauseAfter } from '../connection/backoff';
import type { Connection } from '../connection/connection';
import { type AmqpError, amqpError } from '../errors';
import { MAX_TIMEOUT } from '../pause';
import type { Wire } from '../wire/wire';
import { LinkPair } from './link-pair';

/** A token that stands for one or more addresses, as claims-based security takes it. */
interface Claim {
  value: string;
  type: 'jwt' | 'servicebus.windows.net:sastoken';
  /** Milliseconds since 1970, where it is to be renewed ahead of that. */
  expires?: number;
  /** What it is put as, where that is not the audience itself. */
  name?: string;
}

/** Where claims come from. */
export interface Claims {
  /** What to show for an audience. Rejects with an AmqpError where there is nothing. */
  get(audience: string): Promise<Claim>;
  /** What one claim opens of this host: all that it is used for. Without, each address is an audience. */
  audienceOf?(host: string): string;
  /** Tells of new ones, which replace those of all audiences, until the function returned is called. */
  use?(user: TokenUser): () => void;
}

const ADDRESS = '$cbs';
/** Milliseconds for an answer. */
const TIMEOUT = 10_000;
/** Milliseconds that a signature of ours lives; and the share of any claim's life after which it is renewed. */
const [LIFE, RENEW_AFTER] = [3_600_000, 0.75];
/** Milliseconds between attempts to renew a claim that lives. */
const RETRY = { initial: 1000, max: 60_000 };

/** Signatures made by a shared key, for each address one of its own. */
export function signatures(key: SharedKey): Claims {
  const type = 'servicebus.windows.net:sastoken';
  return {
    get: async (audience) => {
      const expires = Date.now() + LIFE;
      return { value: sharedAccessSignature(audience, key, expires), type, expires };
    },
  };
}

/**
 * Signatures for Azure IoT Hub, which open all that one device, or one policy of the service, may use. `name`: the policy,
 * or `devices/<id>`.
 */
export function hubSignatures({ name, key }: SharedKey): Claims {
  const isDevice = name.startsWith('devices/');
  return {
    audienceOf: (host) => (isDevice ? `${host}/${name}` : host),
    get: async (audience) => {
      const expires = Date.now() + LIFE;
      return {
        value: hubSignature(audience, key, expires, isDevice ? undefined : name),
        type: 'servicebus.windows.net:sastoken',
        expires,
        name: encodeURIComponent(audience),
      };
    },
  };
}

/** A signature that somebody has made. It cannot be renewed. */
export function readySignature(value: string): Claims {
  return { get: async () => ({ value, type: 'servicebus.windows.net:sastoken' }) };
}

/** As `readySignature`, for Azure IoT Hub: it is for what it says. */
export function readyHubSignature(value: string): Claims {
  const name = /[ &]sr=([^&]*)/.exec(value)?.[1] ?? '';
  return {
    audienceOf: () => name,
    get: async () => ({ value, type: 'servicebus.windows.net:sastoken' }),
  };
}

/** Tokens of OAuth 2, the same for all addresses. */
export function jwts(tokens: Tokens): Claims {
  return {
    get: async () => ({ value: (await tokens.get()).value, type: 'jwt' }),
    use: (user) => tokens.use(user),
  };
}

/**
 * Claims-based security, as Azure's services have it: each address is open to links once a token for it was put to the
 * node `$cbs` of the peer, and as long as that lives. Tokens are put one at a time, and renewed ahead of their end. One
 * that is refused harms no other address.
 */
export class Cbs {
  readonly #claims: Claims;
  /** By their connection to the peer; gone with that. */
  readonly #open = new WeakMap<Wire, Permits>();

  constructor(claims: Claims) {
    this.#claims = claims;
  }

  /**
   * Resolves once links may be attached to the address; with `anew`, a token is put again. Rejects with an AmqpError which
   * says why not.
   */
  readonly authorize = (connection: Connection, address: string, anew = false): Promise<void> => {
    const { wire } = connection;
    if (!wire) return Promise.reject(amqpError('AMQP_DISCONNECTED.never'));
    let permits = this.#open.get(wire);
    if (!permits) {
      permits = new Permits(connection, wire, this.#claims);
      this.#open.set(wire, permits);
    }
    return permits.get(this.#audienceOf(connection, address), anew);
  };

  /** The token for an address, for requests that carry it themselves. */
  readonly tokenFor = async (connection: Connection, address: string): Promise<string> =>
    (await this.#claims.get(this.#audienceOf(connection, address))).value;

  /** What a token is for (Azure, "AMQP claims-based security"). */
  #audienceOf({ server, options }: Connection, address: string): string {
    const host = options.hostname ?? server.host;
    return this.#claims.audienceOf?.(host) ?? `sb://${host}/${address.replace(/^\//, '')}`;
  }
}

/** What one connection to the peer has been permitted. */
class Permits {
  readonly #connection: Connection;
  readonly #wire: Wire;
  readonly #claims: Claims;
  #pair: LinkPair | undefined;
  /** The end of the line of those that wait to put theirs. */
  #last: Promise<unknown> = Promise.resolve();
  readonly #permitted = new Map<string, { put: Promise<void>; timer?: NodeJS.Timeout; failures: number }>();

  constructor(connection: Connection, wire: Wire, claims: Claims) {
    this.#connection = connection;
    this.#wire = wire;
    this.#claims = claims;
    const release = claims.use?.({
      renewed: connection.guarded(() => {
        for (const audience of this.#permitted.keys()) this.#renew(audience);
      }),
      failed: (error) => connection.emit('note', { name: 'token-not-renewed', error }),
    });
    const over = (): void => {
      if (connection.wire === wire) return;
      connection.off('state', over);
      release?.();
      for (const { timer } of this.#permitted.values()) clearTimeout(timer);
    };
    connection.on('state', over);
  }

  get(audience: string, anew: boolean): Promise<void> {
    const known = this.#permitted.get(audience);
    if (known && !anew) return known.put;
    clearTimeout(known?.timer);
    const permit = { put: this.#put(audience), failures: 0 };
    this.#permitted.set(audience, permit);
    // Who asks next may have more luck.
    permit.put.catch(() => this.#permitted.get(audience) === permit && this.#permitted.delete(audience));
    return permit.put;
  }

  #put(audience: string): Promise<void> {
    const put = this.#last.then(() => this.#putNow(audience));
    this.#last = put.catch(() => {});
    return put;
  }

  async #putNow(audience: string): Promise<void> {
    const { value, type, expires, name: putAs = audience } = await this.#claims.get(audience);
    // The peer detaches links that are idle for long.
    if (this.#pair?.isOver) {
      this.#pair.close();
      this.#pair = undefined;
    }
    const name = `cbs-${randomUUID()}`;
    this.#pair ??= await LinkPair.open(this.#connection, {
      address: ADDRESS,
      own: name,
      names: [`${name}-requests`, name],
      timeout: TIMEOUT,
    });
    const { fields } = await this.#pair.ask(
      {
        message_id: randomUUID(),
        to: ADDRESS,
        reply_to: this.#pair.own,
        application_properties: { operation: 'put-token', name: putAs, type },
      },
      value,
    );
    const { 'status-code': status, 'status-description': text } = (fields.application_properties ?? {}) as Record<
      string,
      unknown
    >;
    if (typeof status !== 'number' || status < 200 || status > 299)
      throw refused(status, text, expires !== undefined && expires > Date.now());
    this.#renewLater(audience, expires);
  }

  #renewLater(audience: string, expires: number | undefined): void {
    const permit = this.#permitted.get(audience);
    if (!permit || expires === undefined) return;
    permit.failures = 0;
    this.#wait(audience, (expires - Date.now()) * RENEW_AFTER);
  }

  #wait(audience: string, delay: number): void {
    const permit = this.#permitted.get(audience);
    if (!permit || this.#connection.wire !== this.#wire) return;
    clearTimeout(permit.timer);
    const renew = this.#connection.guarded(() => this.#renew(audience));
    permit.timer = setTimeout(renew, Math.min(Math.max(delay, 0), MAX_TIMEOUT));
  }

  #renew(audience: string): void {
    this.#put(audience).catch((error: AmqpError) => {
      const permit = this.#permitted.get(audience);
      if (!permit || this.#connection.wire !== this.#wire) return;
      // The links of the address are detached when the old one ends, and say so.
      this.#connection.emit('note', { name: 'token-not-renewed', error });
      this.#wait(audience, pauseAfter(permit.failures++, RETRY));
    });
  }
}

/** In the words of HTTP, which the service uses here. */
function refused(status: unknown, text: unknown, isFresh: boolean): AmqpError {
  const isSkewed = isFresh && typeof text === 'string' && /expired/i.test(text);
  const clock = isSkewed ? ', though it was made just now: the clock of this computer is wrong' : '';
  const condition = status === 404 ? 'amqp:not-found' : 'amqp:unauthorized-access';
  const description = `${typeof text === 'string' ? text : 'no reason given'} (status ${String(status)})`;
  return amqpError(
    'AMQP_LINK_REFUSED.why',
    { why: `the token for the address was refused${clock}` },
    { peer: { condition, description } },
  );
}
