// What the servers among the doubles have in common.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import type { AddressInfo, Server } from 'node:net';
import path from 'node:path';
import type { TlsOptions } from 'node:tls';
import rhea, { type Container } from 'rhea';

const fixture = (name: string) => readFileSync(path.join(__dirname, '..', 'fixtures', name));

/** TLS with the certificate for localhost; it looks at client certificates, and takes clients without one as well. */
export const localhostTls = (): TlsOptions => ({
  key: fixture('server.key'),
  cert: fixture('server.crt'),
  ca: fixture('ca.crt'),
  requestCert: true,
  rejectUnauthorized: false,
});

/** A server on a free port of the loopback interface, with TLS or without. */
export async function listen(tls = false): Promise<{ server: http.Server; port: number; url: string }> {
  const server = tls ? https.createServer(localhostTls()) : http.createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return { server, port, url: tls ? `https://localhost:${port}` : `http://127.0.0.1:${port}` };
}

/** A container of rhea that listens on a free port of the loopback interface, and settles nothing by itself. */
export async function listenAmqp(options: object = {}): Promise<{ container: Container; server: Server }> {
  const container = rhea.create_container({ autoaccept: false, ...options });
  const server = container.listen({ port: 0, host: '127.0.0.1' });
  await once(server, 'listening');
  return { container, server };
}

/** Closes a server and all its connections. */
export async function close(server: http.Server): Promise<void> {
  if (!server.listening) return;
  const closed = once(server, 'close');
  server.close();
  server.closeAllConnections();
  await closed;
}

/** The whole body of a request. */
export async function bodyOf(request: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = await request.toArray();
  return String(Buffer.concat(chunks));
}

export function answerJson(response: http.ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
}
