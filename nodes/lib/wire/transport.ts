import * as net from 'node:net';
import * as tls from 'node:tls';

/** The largest frame that we take, and tell the peer that we do. */
export const MAX_FRAME_SIZE = 65536;

export interface TransportOptions {
  host: string;
  port: number;
  /** Given: TLS, with these options of `tls.connect`. */
  tls?: tls.ConnectionOptions;
}

/** Opens a socket; `connected` is called once it can be written to (with TLS: once the peer is verified). */
export function openSocket({ host, port, tls: secure }: TransportOptions, connected: () => void): net.Socket {
  const socket = secure
    ? // SNI has no place for IP addresses (RFC 6066).
      tls.connect({ host, port, ...(net.isIP(host) ? {} : { servername: host }), ...secure }, connected)
    : net.connect({ host, port }, connected);
  // Each sender waits for it to be read.
  socket.setMaxListeners(0);
  return socket;
}
