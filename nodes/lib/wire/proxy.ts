import type { Agent } from 'node:http';
import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { HttpProxyAgent, HttpsProxyAgent } from 'hpagent';
import { getProxyForUrl } from 'proxy-from-env';

/** An HTTP proxy, by which what is HTTP at first goes. */
export interface Proxy {
  /** `http://` or `https://`. */
  url: string;
  username?: string;
  password?: string;
  /** Hosts that are reached without it, by name, with a port or not, and with them all below that name. */
  except: string[];
}

/**
 * What connects by way of a proxy to a URL of http, https, ws or wss: the proxy that is given, or else the one that the
 * usual environment variables name (`HTTPS_PROXY`, `NO_PROXY` and so on). Undefined: it is reached straight. A proxy with TLS
 * is verified as `tls` says, like the server. Throws for a proxy whose URL is none.
 */
export function agentFor(
  url: string,
  proxy: Proxy | undefined,
  timeout: number,
  { ca, rejectUnauthorized }: TlsOptions = {},
): Agent | undefined {
  const via = proxy ? chosen(url, proxy) : getProxyForUrl(url.replace(/^ws/i, 'http')) || getProxyForUrl(url);
  if (!via) return undefined;
  const Via = /^(https|wss):/i.test(url) ? HttpsProxyAgent : HttpProxyAgent;
  // Without a bound, a proxy that says nothing would keep its socket for ever.
  return new Via({
    proxy: new URL(via),
    timeout,
    proxyRequestOptions: {
      ...(ca !== undefined && { ca }),
      ...(rejectUnauthorized === false && { rejectUnauthorized }),
    },
  } as ConstructorParameters<typeof Via>[0]);
}

function chosen(url: string, { url: address, username, password, except }: Proxy): string | undefined {
  const { host, hostname } = new URL(url);
  if (except.some((one) => [host, hostname].some((name) => isWithin(name, one.trim())))) return undefined;
  const via = new URL(address);
  if (username) [via.username, via.password] = [encodeURIComponent(username), encodeURIComponent(password ?? '')];
  return via.href;
}

function isWithin(name: string, given: string): boolean {
  const domain = given.replace(/^\*?\.?/, '');
  return domain !== '' && (name === domain || name.endsWith(`.${domain}`));
}
