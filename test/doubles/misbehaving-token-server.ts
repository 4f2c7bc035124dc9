import type http from 'node:http';
import { answerJson, bodyOf, close, listen } from './server';

/** What a token server does with a request; with `redirect` it sends the client to `location`. */
export type Behaviour = 'good' | 'silent' | '500' | 'html' | 'garbage' | 'no token' | 'invalid_client' | 'redirect';

/** A token server whose answers are chosen; 'good' gives a new token each time. */
export class MisbehavingTokenServer {
  behaviour: Behaviour = 'good';
  /** what 'good' answers beside the token; without `expires_in` it does not say how long it lives */
  answer: Record<string, unknown> = { token_type: 'Bearer', expires_in: 3600 };
  location = 'http://127.0.0.1:1/token';
  readonly requests: { headers: http.IncomingHttpHeaders; body: string }[] = [];
  /** the access tokens given out, oldest first */
  readonly tokens: string[] = [];

  static async start(behaviour: Behaviour = 'good', { tls = false } = {}): Promise<MisbehavingTokenServer> {
    const { server, url } = await listen(tls);
    const tokenServer = new MisbehavingTokenServer(server, url);
    tokenServer.behaviour = behaviour;
    return tokenServer;
  }

  private constructor(
    private readonly server: http.Server,
    readonly url: string,
  ) {
    server.on('request', (request, response) => void this.handle(request, response));
  }

  get tokenUrl(): string {
    return `${this.url}/token`;
  }

  async stop(): Promise<void> {
    await close(this.server);
  }

  private async handle(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    this.requests.push({ headers: request.headers, body: await bodyOf(request) });
    switch (this.behaviour) {
      case 'good':
        this.tokens.push(`token-${this.tokens.length + 1}`);
        return answerJson(response, 200, { access_token: this.tokens.at(-1), ...this.answer });
      case 'silent':
        return;
      case '500':
        return void response.writeHead(500).end('internal server error');
      case 'html':
        response.writeHead(200, { 'Content-Type': 'text/html' });
        return void response.end('<!DOCTYPE html><html><title>Sign in</title></html>');
      case 'garbage':
        response.writeHead(200, { 'Content-Type': 'application/json' });
        return void response.end('{"access_token":');
      case 'no token':
        return answerJson(response, 200, this.answer);
      case 'invalid_client':
        return answerJson(response, 401, { error: 'invalid_client', error_description: 'no such client' });
      case 'redirect':
        return void response.writeHead(307, { Location: this.location }).end();
    }
  }
}
