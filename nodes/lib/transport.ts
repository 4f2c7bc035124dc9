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
  joinWrites(socket);
  boundFrames(socket);
  return socket;
}

/**
 * Sends what is written within one turn of the event loop by one system call. rhea writes each frame on its own, and
 * with Nagle off, as it must be, each would be a packet.
 */
function joinWrites(socket: net.Socket): void {
  const write = socket.write.bind(socket) as (...args: unknown[]) => boolean;
  let isJoining = false;
  socket.write = (...args: unknown[]): boolean => {
    if (!isJoining) {
      isJoining = true;
      socket.cork();
      setImmediate(() => {
        isJoining = false;
        socket.uncork();
      });
    }
    return write(...args);
  };
}

/** "AMQP": what a protocol header begins with, where a frame has its size (2.2, 5.3.1). */
const HEADER = 0x414d5150;
const HEADER_SIZE = 8;

/** Ends the connection at a frame of a size that cannot be. rhea would wait for all of it, and keep what comes (R19). */
function boundFrames(socket: net.Socket): void {
  /** Bytes of the present frame that are still to come. */
  let missing = 0;
  /** The beginning of a size that is cut by the end of a chunk. */
  let start = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    let offset = missing;
    if (start.length > 0) {
      chunk = Buffer.concat([start, chunk]);
      start = Buffer.alloc(0);
    }
    while (offset + 4 <= chunk.length) {
      const size = chunk.readUInt32BE(offset);
      const isHeader = size === HEADER;
      if (!isHeader && (size < HEADER_SIZE || size > MAX_FRAME_SIZE)) {
        socket.destroy(new Error(`the peer sent a frame of ${size} bytes`));
        return;
      }
      offset += isHeader ? HEADER_SIZE : size;
    }
    missing = Math.max(0, offset - chunk.length);
    if (missing === 0) start = Buffer.from(chunk.subarray(offset));
  });
}
