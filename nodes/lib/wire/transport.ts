import * as net from 'node:net';
import type { Duplex } from 'node:stream';
import * as tls from 'node:tls';
import { type Passed, watch } from './passed';
import type { Proxy } from './proxy';
import { openWebSocket } from './websocket';

/** The largest frame that we take, and tell the peer that we do. */
export const MAX_FRAME_SIZE = 65536;

/** Where a server is, and how it is reached. */
export interface Server {
  host: string;
  port: number;
  /** TLS. */
  isSecure?: boolean;
  /** Of its WebSocket, with the query if there is one. Undefined: AMQP straight over TCP or TLS. */
  path?: string;
  /** Its name in the open, where that is not what the endpoint says. */
  hostname?: string;
}

export interface TransportOptions extends Server {
  /** Options of `tls.connect`, for a server with TLS. */
  tls?: tls.ConnectionOptions;
  /** What else the upgrade to WebSocket says. */
  headers?: Record<string, string>;
  /** Between us and a WebSocket. Undefined: as the usual environment variables say. */
  proxy?: Proxy;
  /** Milliseconds that a proxy has to answer. */
  connectTimeout?: number;
  /** Told how far it comes. */
  passed?: (what: Passed) => void;
}

/** Opens a connection; `connected` is called once it can be written to (with TLS: once the peer is verified). */
export function openSocket(options: TransportOptions, connected: () => void): Duplex {
  const { host, port, isSecure, passed } = options;
  const secure = isSecure ? { ...serverNameOf(options), ...options.tls } : undefined;
  if (options.path !== undefined) return openWebSocket({ ...options, path: options.path, tls: secure }, connected);
  const socket = secure ? tls.connect({ host, port, ...secure }, connected) : net.connect({ host, port }, connected);
  if (passed) watch(socket, passed);
  // Each sender waits for it to be read.
  socket.setMaxListeners(0);
  return socket;
}

/** SNI has no place for IP addresses (RFC 6066). */
function serverNameOf({ host }: Server): { servername?: string } {
  return net.isIP(host) ? {} : { servername: host };
}
