import type { ClientRequest } from 'node:http';
import type { Duplex } from 'node:stream';
import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { createWebSocketStream, WebSocket } from 'ws';
import { type Passed, watch } from './passed';
import { agentFor, type Proxy } from './proxy';

/** Of the AMQP WebSocket Binding (OASIS, 2.1), and what Azure calls it. */
const SUB_PROTOCOLS = ['amqp', 'AMQPWSB10'];
/** Bytes of one message: a peer may put several frames into one, and is not to fill the memory with it. */
const MAX_MESSAGE_SIZE = 2 ** 24;
/** Bytes of one message of ours. Artemis ends the connection at one of more than 2^16, though its AMQP frames are larger. */
const MAX_SENT_SIZE = 2 ** 15;

/** What dialling comes to where nothing answers. */
const UNREACHABLE = new Set('ECONNREFUSED ENOTFOUND EAI_AGAIN EHOSTUNREACH ENETUNREACH ETIMEDOUT'.split(' '));

interface WebSocketOptions {
  host: string;
  port: number;
  path: string;
  /** Given: TLS. */
  tls?: TlsOptions;
  headers?: Record<string, string>;
  proxy?: Proxy;
  connectTimeout?: number;
  passed?: (what: Passed) => void;
}

/** Why an upgrade to WebSocket came to nothing, with a `code` as errors of the system have one. */
class UpgradeError extends Error {
  readonly code: string;

  constructor(code: string, message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}

/**
 * AMQP over WebSocket as a stream of bytes: how the peer cuts them into messages says nothing (AMQP WebSocket Binding,
 * 2.3). `connected` is called once it can be written to. Its errors have a `code`: that of the system, `HTTP_403` for a
 * server and `PROXY_407` for a proxy that refuses with that status, `PROXY_…` for a proxy that cannot be reached, and
 * `NO_AMQP` for a server that does not take AMQP.
 */
export function openWebSocket(options: WebSocketOptions, connected: () => void): Duplex {
  const { host, port, path, tls, headers, proxy, connectTimeout = 0, passed } = options;
  const url = `${tls ? 'wss' : 'ws'}://${host.includes(':') ? `[${host}]` : host}:${port}${path}`;
  const agent = agentFor(url, proxy, connectTimeout, tls);
  const socket = new WebSocket(url, SUB_PROTOCOLS, {
    ...tls,
    headers,
    agent,
    maxPayload: MAX_MESSAGE_SIZE,
    perMessageDeflate: false,
    ...(passed && { finishRequest: (request: ClientRequest) => watchRequest(request, agent !== undefined, passed) }),
  });
  const stream = createWebSocketStream(socket);
  cutUp(stream);
  stream.setMaxListeners(0);
  let isOpen = false;
  socket.on('open', () => {
    isOpen = true;
    passed?.('websocket');
    connected();
  });
  // Before the stream's own listener, which would tell of the error as it is.
  socket.prependListener('error', (error: Error & { code?: string }) => {
    if (stream.destroyed) return;
    stream.destroy(isOpen ? error : upgradeErrorOf(error, agent !== undefined));
  });
  return stream;
}

/** An agent gives its socket once the proxy has connected it. */
function watchRequest(request: ClientRequest, isProxied: boolean, passed: (what: Passed) => void): void {
  request.once('socket', (socket) => {
    if (isProxied) passed('proxy');
    watch(socket, passed);
  });
  request.end();
}

/** Has it write no message that is longer than servers take. */
function cutUp(stream: Duplex): void {
  const write = stream._write.bind(stream);
  stream._write = (chunk: Buffer, encoding, callback) => {
    const rest = chunk.subarray(MAX_SENT_SIZE);
    if (rest.length === 0) return write(chunk, encoding, callback);
    write(chunk.subarray(0, MAX_SENT_SIZE), encoding, (error) => {
      if (error) callback(error);
      else stream._write(rest, encoding, callback);
    });
  };
}

function upgradeErrorOf(error: Error & { code?: string }, isProxied: boolean): Error {
  // hpagent and ws say it in words only.
  const answer = /^Unexpected server response: (\d+)/.exec(error.message)?.[1];
  if (answer) return new UpgradeError(`HTTP_${answer}`, `the server answers with status ${answer}`);
  const status = /^Bad response: (\d+)/.exec(error.message)?.[1];
  if (isProxied && status) return new UpgradeError(`PROXY_${status}`, `the proxy answers with status ${status}`);
  // What is dialled is the proxy. What comes of TLS is the server's.
  if (isProxied && UNREACHABLE.has(error.code ?? ''))
    return new UpgradeError(`PROXY_${error.code}`, `the proxy cannot be reached: ${error.code}`, error);
  if (isProxied && error.message === 'Proxy timeout') return new UpgradeError('PROXY_ETIMEDOUT', 'the proxy is silent');
  if (/subprotocol/i.test(error.message)) return new UpgradeError('NO_AMQP', error.message);
  return error;
}
