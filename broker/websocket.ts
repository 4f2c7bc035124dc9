// AMQP over WebSocket: the HTTP server and its upgrades, and a WebSocket as a stream of bytes.
import http from 'node:http';
import https from 'node:https';
import { Duplex } from 'node:stream';
import type { TlsOptions } from 'node:tls';
import { type RawData, type WebSocket, WebSocketServer } from 'ws';

export interface WebSocketOptions {
  /** other paths are not found; default: any is right */
  path?: string;
  /** the sub-protocols it knows, the one that it likes best first (default amqp, AMQPWSB10) */
  protocols?: string[];
  /** the upgrade wants `Authorization: Bearer` with one of the tokens */
  bearer?: boolean;
  /** cut all that is written into messages of so many bytes */
  cut?: number;
  /** cut the messages into WebSocket frames of so many bytes */
  fragment?: number;
  /** join all that is written in one turn into one message */
  join?: boolean;
}

/** An answer in place of the upgrade. */
export interface HttpAnswer {
  status: number;
  headers?: Record<string, string>;
  /** taken for HTML, if the headers do not say otherwise */
  body?: string;
}

/** What a client asked for, and got. */
export interface Upgrade {
  /** with the query */
  path: string;
  headers: http.IncomingHttpHeaders;
  /** the sub-protocols that the client speaks */
  protocols: string[];
  /** the one that was chosen */
  protocol?: string;
  /** how it was answered */
  status: number;
}

interface Hooks {
  /** what to answer in place of the upgrade, if anything */
  refuse(token: string | undefined): HttpAnswer | undefined;
  upgraded(upgrade: Upgrade): void;
  accept(stream: Duplex, request: http.IncomingMessage, token: string | undefined): void;
}

const noUpgrade: http.RequestListener = (_request, response) => response.writeHead(426).end();

export function webSocketServer(options: WebSocketOptions, tls: TlsOptions | undefined, hooks: Hooks): http.Server {
  const { protocols = ['amqp', 'AMQPWSB10'] } = options;
  const choose = (spoken: Set<string>) => protocols.find((protocol) => spoken.has(protocol));
  const upgrades = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    handleProtocols: (spoken) => choose(spoken) ?? false,
  });
  const server = tls ? https.createServer(tls, noUpgrade) : http.createServer(noUpgrade);
  server.on('upgrade', (request, socket, head) => {
    const { url = '', headers } = request;
    const spoken = (headers['sec-websocket-protocol'] ?? '').split(',').map((protocol) => protocol.trim());
    const token = /^Bearer (.+)$/i.exec(headers.authorization ?? '')?.[1];
    const found = !options.path || url.split('?')[0] === options.path;
    const refusal = found ? hooks.refuse(token) : { status: 404 };
    const protocol = choose(new Set(spoken));
    const status = refusal?.status ?? 101;
    hooks.upgraded({ path: url, headers, protocols: spoken.filter(Boolean), ...(protocol && { protocol }), status });
    if (refusal) return answer(socket, refusal);
    upgrades.handleUpgrade(request, socket, head, (webSocket) =>
      hooks.accept(new WebSocketStream(webSocket, options), request, token),
    );
  });
  return server;
}

function answer(socket: Duplex, { status, headers, body = '' }: HttpAnswer): void {
  const all = {
    'Content-Type': 'text/html',
    'Content-Length': Buffer.byteLength(body),
    Connection: 'close',
    ...headers,
  };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`);
  const first = `HTTP/1.1 ${status} ${http.STATUS_CODES[status] ?? ''}`;
  socket.on('error', () => {}); // the client may be gone
  socket.end(`${[first, ...lines].join('\r\n')}\r\n\r\n${body}`);
}

/** The bytes in binary messages; where these begin and end means nothing. */
class WebSocketStream extends Duplex {
  private waiting: Buffer[] = [];

  constructor(
    private readonly webSocket: WebSocket,
    private readonly options: WebSocketOptions,
  ) {
    super({ allowHalfOpen: false });
    webSocket.on('message', (data: RawData, isBinary) => {
      if (isBinary) this.push(data);
      else webSocket.close(1003);
    });
    webSocket.on('error', () => {}); // it closes after that
    webSocket.on('close', () => this.push(null));
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    if (!this.options.join) this.send(chunk);
    else if (this.waiting.push(chunk) === 1) setImmediate(() => this.flush());
    done();
  }

  override _final(done: () => void): void {
    this.flush();
    this.webSocket.close();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    // after a close frame the peer has its time to answer; without one the connection is cut
    if (!this.writableFinished) this.webSocket.terminate();
    done(error);
  }

  private flush(): void {
    const bytes = Buffer.concat(this.waiting);
    this.waiting = [];
    if (bytes.length > 0) this.send(bytes);
  }

  private send(bytes: Buffer): void {
    const { cut, fragment } = this.options;
    for (const message of pieces(bytes, cut)) {
      const frames = pieces(message, fragment);
      frames.forEach((frame, i) => this.webSocket.send(frame, { binary: true, fin: i === frames.length - 1 }));
    }
  }
}

function pieces(bytes: Buffer, size = Infinity): Buffer[] {
  const result: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += size) result.push(bytes.subarray(at, at + size));
  return result;
}
