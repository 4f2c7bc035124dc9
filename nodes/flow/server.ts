/** What the field Server of an endpoint may hold: a host, a host and a port, or a URL. */
export interface Server {
  host: string;
  port?: number;
  /** Only a URL says whether there is TLS. */
  isSecure?: boolean;
  user?: string;
  pass?: string;
}

/** A name, an IPv4 address, or an IPv6 address as it is or in brackets; then a port, maybe. */
const HOST = /^(?:\[([\da-f:.]+(?:%\w+)?)\]|([^\s@;=/?#[\]:,"'<>\\]+))(?::(\d{1,5}))?$/i;
const IPV6 = /^[\da-f]*:[\da-f:.]*:[\da-f.]*(?:%\w+)?$/i;
const URL_SCHEME = /^([a-z][a-z\d+.-]*):\/\//i;
const SECURE: Record<string, boolean> = { amqp: false, amqps: true };

/**
 * Reads the field Server. Throws an Error that says why it cannot be used, without the text itself: it may hold a
 * password.
 */
export function serverOf(given: string): Server {
  const text = given.trim();
  if (text === '') throw new Error('is missing');
  if (/^endpoint\s*=/i.test(text))
    throw new Error('is a connection string: enter its host here, and its key name and key as user and password');
  const scheme = URL_SCHEME.exec(text)?.[1]?.toLowerCase();
  if (scheme !== undefined) return ofUrl(text, scheme);
  if (IPV6.test(text)) return { host: text };
  const [, ipv6, name, port] = HOST.exec(text) ?? [];
  const host = ipv6 ?? name;
  if (host === undefined) throw new Error('has characters that no host has (such as spaces, @ ; = /)');
  return port === undefined ? { host } : { host, port: portOf(port) };
}

/** Whether what is sent to a host stays on this computer. */
export function isLoopback(host: string): boolean {
  return /^(localhost|127(\.\d{1,3}){3}|::1)$/i.test(host);
}

function ofUrl(text: string, scheme: string): Server {
  const isSecure = SECURE[scheme];
  if (isSecure === undefined) throw new Error('is a URL, but not one that begins with amqp:// or amqps://');
  let url: URL;
  try {
    // Of a scheme that it does not know, URL checks nothing of the host.
    url = new URL(text.replace(URL_SCHEME, 'https://'));
  } catch {
    throw new Error('is not a valid URL');
  }
  if (!['', '/'].includes(url.pathname) || url.search || url.hash)
    throw new Error('goes on after the host and port: a virtual host has a field of its own');
  // For the scheme that stands in, port 443 is the one that need not be said.
  const port = url.port || (/:443\/?$/.test(text) ? '443' : '');
  const [user, pass] = [url.username, url.password].map(decoded);
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: port === '' ? (isSecure ? 5671 : 5672) : portOf(port),
    isSecure,
    ...(user && { user, pass }),
  };
}

function portOf(text: string): number {
  const port = Number(text);
  if (port < 1 || port > 65_535) throw new Error('has a port that is not one from 1 to 65535');
  return port;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // A percent sign that stands for itself.
    return text;
  }
}
