import { type AmqpError, amqpError, cleaned } from '../errors';
import type { Server } from '../wire/transport';

export interface ServersOptions {
  /** At least one. */
  servers: Server[];
  /** In which they are tried. */
  order?: 'listed' | 'random';
  /** Those that are connected to show a password, a token or the like. */
  hasLogin: boolean;
  /** The login may go to servers that a server names, too. */
  trustsNamed?: boolean;
}

/** The most servers that are taken from a peer's list. */
const MAX_ANNOUNCED = 16;

export interface Scheme {
  /** The one that need not be said. */
  port: number;
  isSecure: boolean;
  isWebSocket: boolean;
}

/** By their names in URLs, and in what a peer says of servers. */
export const SCHEMES: ReadonlyMap<string, Scheme> = new Map([
  ['amqp', { port: 5672, isSecure: false, isWebSocket: false }],
  ['amqps', { port: 5671, isSecure: true, isWebSocket: false }],
  ['ws', { port: 80, isSecure: false, isWebSocket: true }],
  ['wss', { port: 443, isSecure: true, isWebSocket: true }],
]);

/** What there may be in a host's name or address. */
const HOST = /^[\w.:%-]{1,255}$/;

/** A server as a URL, which says all of it but the virtual host. */
export function urlOf({ host, port, isSecure, path }: Server): string {
  return `${schemeOf({ isSecure, path })}://${host.includes(':') ? `[${host}]` : host}:${port}${path ?? ''}`;
}

/** The same, to be shown: a query may hold a key. */
export function nameOf(server: Server): string {
  return urlOf(server).replace(/\?.*/s, '?…');
}

/**
 * The servers that a connection may go to: those that were configured, then those that the last peer has named in
 * `failover-server-list`. Nobody who has TLS is led to a server without it, and a login goes to configured hosts only,
 * unless a person wants it otherwise.
 */
export class Servers {
  readonly #options: ServersOptions;
  #announced: Server[] = [];

  constructor(options: ServersOptions) {
    this.#options = options;
  }

  /** All of them, in the order in which they are to be tried. */
  round(): Server[] {
    const { servers, order } = this.#options;
    return [...(order === 'random' ? shuffled(servers) : servers), ...this.#announced];
  }

  /** Takes the list that a peer has given, in the place of the last one. Returns what of it cannot be used. */
  announce(from: Server, list: unknown[]): Server[] {
    this.#announced = [];
    const unused: Server[] = [];
    for (const place of list.slice(0, MAX_ANNOUNCED)) {
      const server = this.#serverAt(from, place);
      if (!server || this.round().some((other) => urlOf(other) === urlOf(server))) continue;
      if (this.#refusal(from, server)) unused.push(server);
      else this.#announced.push(server);
    }
    return unused;
  }

  /** The server to which a peer redirects, by the info of its error (2.8.16, 2.8.17), or why not to go there. */
  redirected(from: Server, info: unknown): Server | AmqpError {
    const server = this.#serverAt(from, info);
    if (!server) return amqpError('AMQP_CONNECT.redirect-nowhere');
    return this.#refusal(from, server) ?? server;
  }

  #refusal(from: Server, to: Server): AmqpError | undefined {
    const { servers, hasLogin, trustsNamed } = this.#options;
    const values = { server: nameOf(to) };
    if (from.isSecure && !to.isSecure)
      return amqpError('AMQP_CONNECT.redirect-plain', values, { diagnosis: 'redirect-plain' });
    const isListed = servers.some(({ host }) => host.toLowerCase() === to.host.toLowerCase());
    if (isListed || !hasLogin || trustsNamed) return undefined;
    return amqpError('AMQP_CONNECT.redirect-unlisted', values, { diagnosis: 'redirect-unlisted' });
  }

  /** What is not said is as it is with the server that says it. */
  #serverAt(from: Server, info: unknown): Server | undefined {
    const place = (typeof info === 'object' && info !== null ? info : {}) as Record<string, unknown>;
    const [networkHost, hostname] = [textOf(place['network-host']), textOf(place['hostname'])];
    const host = networkHost ?? hostname;
    if (host === undefined || !HOST.test(host)) return undefined;
    const name = textOf(place['scheme'])?.toLowerCase() ?? schemeOf(from);
    const scheme = SCHEMES.get(name);
    if (!scheme) return undefined;
    const given = place['port'] ?? scheme.port;
    // Some give it as text. Nothing else can be made a number without a risk.
    const port = ['number', 'string'].includes(typeof given) ? Number(given) : NaN;
    if (!Number.isInteger(port) || port < 1 || port > 65_535) return undefined;
    return {
      host,
      port,
      isSecure: scheme.isSecure,
      ...(scheme.isWebSocket && { path: pathOf(place['path']) ?? from.path ?? '/' }),
      ...(hostname !== undefined && hostname !== host && { hostname }),
    };
  }
}

function schemeOf({ isSecure, path }: Pick<Server, 'isSecure' | 'path'>): string {
  return `${path === undefined ? 'amqp' : 'ws'}${isSecure ? 's' : ''}`;
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? cleaned(value) : undefined;
}

function pathOf(value: unknown): string | undefined {
  const path = textOf(value);
  return path === undefined || /[\s#]/.test(path) ? undefined : path.replace(/^(?!\/)/, '/');
}

function shuffled<T>(values: readonly T[]): T[] {
  const left = [...values];
  for (let at = left.length - 1; at > 0; at--) {
    const other = Math.floor(Math.random() * (at + 1));
    [left[at], left[other]] = [left[other]!, left[at]!];
  }
  return left;
}
