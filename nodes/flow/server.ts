import { SCHEMES } from '../lib/connection/servers';

/**
 * What the field Server of an endpoint may hold, a host, a host and a port, a URL, or a connection string of Azure; and
 * one of its list of URLs.
 */
export interface Server {
  host: string;
  port?: number;
  /** Only a URL or a connection string says whether there is TLS. */
  isSecure?: boolean;
  /** With its query; only there when AMQP goes over a WebSocket. */
  path?: string;
  user?: string;
  pass?: string;
  /** Of a connection string: user and pass are name and key of a shared access key, or there is a ready signature in pass. */
  isShared?: true;
  /** Of a connection string of Azure IoT Hub, where user is a policy, or `devices/<id>`. */
  isHub?: true;
}

/** A name, an IPv4 address, or an IPv6 address as it is or in brackets; then a port, maybe. */
const HOST = /^(?:\[([\da-f:.]+(?:%\w+)?)\]|([^\s@;=/?#[\]:,"'<>\\]+))(?::(\d{1,5}))?$/i;
const IPV6 = /^[\da-f]*:[\da-f:.]*:[\da-f.]*(?:%\w+)?$/i;
const URL_SCHEME = /^([a-z][a-z\d+.-]*):\/\//i;
/** The parts that tell a connection string: the order is free. One that lacks a part is to be called what it is, too. */
const CONNECTION_STRING = /(?:^|;)\s*(?:endpoint|hostname|sharedaccess(?:keyname|key|signature)|entitypath)\s*=/i;
/** A comma or a blank inside a URL may belong to a password: they separate only where another URL, or nothing, follows. */
const BETWEEN = /\s*\n\s*|[\s,]+(?=[a-z][a-z\d+.-]*:\/\/|$)/i;

const ALL = 'amqp://, amqps://, ws:// or wss://';
const STRANGE = 'has characters that no host has (such as spaces, @ ; = /)';

/**
 * Reads the field Server. Throws an Error that says why it cannot be used, without the text itself: it may hold a
 * password.
 */
export function serverOf(given: string): Server {
  const text = given.trim();
  if (text === '') throw new Error('is missing');
  const scheme = URL_SCHEME.exec(text)?.[1]?.toLowerCase();
  if (scheme !== undefined) return ofUrl(text, scheme);
  if (CONNECTION_STRING.test(text)) return ofConnectionString(text);
  if (IPV6.test(text)) return { host: text };
  const [, ipv6, name, port] = HOST.exec(text) ?? [];
  const host = ipv6 ?? name;
  if (host === undefined) throw new Error(STRANGE);
  return port === undefined ? { host } : { host, port: portOf(port) };
}

/** Reads a list of URLs. The Error tells which of them is wrong by its number. */
export function serversOf(given: string): Server[] {
  const servers = given
    .split(BETWEEN)
    .filter((entry) => entry.trim() !== '')
    .map((entry, index) => {
      try {
        return inList(entry.trim());
      } catch (error) {
        throw new Error(`number ${index + 1} ${(error as Error).message}`, { cause: error });
      }
    });
  if (servers.length === 0) throw new Error('is missing');
  if (servers.some(({ isSecure }) => isSecure !== servers[0]!.isSecure))
    throw new Error('all servers of the list must use TLS, or none');
  return servers;
}

/** Whether what is sent to a host stays on this computer. */
export function isLoopback(host: string): boolean {
  return /^(localhost|127(\.\d{1,3}){3}|::1)$/i.test(host);
}

/** The scheme alone decides on TLS there, so there must be one. */
function inList(text: string): Server {
  // The login in it is of its namespace alone.
  if (!URL_SCHEME.test(text) && CONNECTION_STRING.test(text))
    throw new Error('is a connection string: it must stand alone, as the one server');
  const server = serverOf(text);
  if (server.isSecure === undefined) throw new Error(`is not a URL that begins with ${ALL}`);
  return server;
}

function ofUrl(text: string, name: string): Server {
  const scheme = SCHEMES.get(name);
  if (scheme === undefined) throw new Error(`is a URL, but not one that begins with ${ALL}`);
  const { isSecure, isWebSocket } = scheme;
  let url: URL;
  try {
    // Of a scheme that it does not know, URL checks nothing of the host.
    url = new URL(text.replace(URL_SCHEME, 'https://'));
  } catch {
    throw new Error('is not a valid URL');
  }
  if (!isWebSocket && (!['', '/'].includes(url.pathname) || url.search || url.hash))
    throw new Error('goes on after the host and port: a virtual host has a field of its own');
  const path = url.pathname + url.search;
  // A password with a slash in it would be taken for a port and a path, and shown.
  if (path.includes('@')) throw new Error('has an @ in its path: write %40 for it, and %2F for a slash in a password');
  if (url.hash) throw new Error('has a #, which is never sent: write %23 for it');
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  if (!HOST.test(url.hostname)) throw new Error(STRANGE);
  // URL leaves out the port 443 of the scheme that stands in.
  const port = url.port || (/^[^/?#\\]*:0*443(?=[/?#\\]|$)/.test(text.replace(URL_SCHEME, '')) ? '443' : '');
  const [user, pass] = [url.username, url.password].map(decoded);
  return {
    host,
    port: port === '' ? scheme.port : portOf(port),
    isSecure,
    ...(isWebSocket && { path }),
    ...(user && { user, pass }),
  };
}

/**
 * As the portal of Azure shows it: `Endpoint=sb://name.servicebus.windows.net/;SharedAccessKeyName=...;SharedAccessKey=...`, or
 * of an IoT Hub `HostName=name.azure-devices.net;DeviceId=...;SharedAccessKey=...`.
 */
function ofConnectionString(text: string): Server {
  const parts = new Map(
    text.split(';').map((part) => {
      const [name = '', ...value] = part.split('=');
      // A key ends in =.
      return [name.trim().toLowerCase(), value.join('=').trim()];
    }),
  );
  const [endpoint, hub, device, module, policy = '', key = '', signature = ''] = [
    'endpoint',
    'hostname',
    'deviceid',
    'moduleid',
    'sharedaccesskeyname',
    'sharedaccesskey',
    'sharedaccesssignature',
  ].map((name) => parts.get(name) || undefined);
  if (endpoint === undefined && hub === undefined)
    throw new Error('is a connection string without an Endpoint or a HostName');
  const user = device === undefined ? policy : `devices/${device}${module === undefined ? '' : `/modules/${module}`}`;
  const place = endpoint === undefined ? hub : /^sb:\/\/([^/]*)\/?$/i.exec(endpoint)?.[1];
  const [, ipv6, name, port] = HOST.exec(place ?? '') ?? [];
  const host = ipv6 ?? name;
  if (host === undefined) {
    const wanted = endpoint === undefined ? 'HostName is not a host' : 'Endpoint is not a URL of sb:// and a host';
    throw new Error(`is a connection string whose ${wanted}`);
  }
  if (signature && (policy || key))
    throw new Error('is a connection string with both a shared access key and a SharedAccessSignature');
  if (policy && !key) throw new Error('is a connection string with a SharedAccessKeyName, but no SharedAccessKey');
  if (key && !user) throw new Error('is a connection string with a SharedAccessKey, but no SharedAccessKeyName');
  if (!key && !signature)
    throw new Error('is a connection string without a SharedAccessKey or a SharedAccessSignature');
  // The emulator on one's own computer has no TLS.
  const isSecure = parts.get('usedevelopmentemulator')?.toLowerCase() !== 'true';
  return {
    host,
    port: port === undefined ? SCHEMES.get(isSecure ? 'amqps' : 'amqp')!.port : portOf(port),
    isSecure,
    user,
    pass: key || signature,
    isShared: true,
    ...(endpoint === undefined && { isHub: true }),
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
