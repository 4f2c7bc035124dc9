import type http from 'node:http';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import { close, listen } from './server';

export interface HttpProxyOptions {
  /** Basic authentication; without it anybody may use the proxy */
  user?: string;
  password?: string;
  /** the proxy itself is reached by https (default false) */
  tls?: boolean;
}

/** A proxy that takes CONNECT and nothing else. */
export class HttpProxy {
  /** when set, every CONNECT that has the right password is answered with this status */
  refuse: number | undefined;
  /** when true, a CONNECT gets no answer */
  silent = false;
  /** names of hosts that the proxy alone knows, and their addresses */
  readonly hosts: Record<string, string> = {};
  /** what clients wanted to be connected to, and how that was answered */
  readonly requests: { target: string; headers: http.IncomingHttpHeaders; status?: number }[] = [];

  private readonly sockets = new Set<Duplex>();

  static async start(options: HttpProxyOptions = {}): Promise<HttpProxy> {
    const { server, url, port } = await listen(options.tls);
    return new HttpProxy(options, server, url, port);
  }

  private constructor(
    private readonly options: HttpProxyOptions,
    private readonly server: http.Server,
    readonly url: string,
    readonly port: number,
  ) {
    server.on('request', (_request, response) => void response.writeHead(405).end());
    server.on('connect', (request: http.IncomingMessage, socket: Duplex, head: Buffer) =>
      this.handle(request, socket, head),
    );
  }

  /** The `host:port` of all CONNECTs. */
  get targets(): string[] {
    return this.requests.map(({ target }) => target);
  }

  /** Cuts the connections through the proxy. */
  dropSockets(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  async stop(): Promise<void> {
    const closed = close(this.server);
    this.dropSockets(); // the server no longer knows them
    await closed;
  }

  private handle({ url = '', headers }: http.IncomingMessage, client: Duplex, head: Buffer): void {
    this.track(client);
    const request: HttpProxy['requests'][number] = { target: url, headers };
    this.requests.push(request);
    const answer = (status: number, text: string, ...lines: string[]) => {
      request.status = status;
      return [`HTTP/1.1 ${status} ${text}`, ...lines, '', ''].join('\r\n');
    };
    if (this.silent) return;
    if (!this.isAuthorized(headers)) {
      const wanted = 'Proxy-Authenticate: Basic realm="proxy"';
      return void client.end(answer(407, 'Proxy Authentication Required', wanted, 'Content-Length: 0'));
    }
    if (this.refuse) return void client.end(answer(this.refuse, 'Refused', 'Content-Length: 0'));

    const { hostname, port } = new URL(`http://${url}`);
    const host = this.hosts[hostname] ?? hostname.replace(/^\[|\]$/g, '');
    const server = net.connect(Number(port || 80), host);
    this.track(server);
    server.once('connect', () => {
      client.write(answer(200, 'Connection established'));
      server.write(head);
      client.pipe(server).pipe(client);
    });
    server.on('error', () => {
      if (!request.status) client.end(answer(502, 'Bad Gateway', 'Content-Length: 0'));
    });
    server.on('close', (failed) => failed && request.status === 200 && client.destroy());
    client.on('close', () => server.destroy());
  }

  private isAuthorized({ 'proxy-authorization': given }: http.IncomingHttpHeaders): boolean {
    const { user, password = '' } = this.options;
    return user === undefined || given === `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
  }

  private track(socket: Duplex): void {
    this.sockets.add(socket);
    socket.on('error', () => {}); // its close is what matters
    socket.once('close', () => this.sockets.delete(socket));
  }
}
