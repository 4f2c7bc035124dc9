import type http from 'node:http';
import { answerJson, close, listen } from './server';

export interface ManagedIdentityOptions {
  /** the form that App Service has, with its secret; without it the one of a virtual machine */
  appService?: { secret: string };
  /** the client id of an identity that the machine has beside its own */
  clientId?: string;
  /** seconds, default 3600 */
  life?: number;
}

const OWN_CLIENT_ID = 'own-identity';

/** The endpoint of an Azure machine that gives tokens to what runs there. */
export class ManagedIdentity {
  /** seconds that the next tokens live */
  life: number;
  /** statuses with which the next requests are answered, as of an endpoint that is not ready (404) or is busy (429) */
  readonly failures: number[] = [];
  readonly requests: { parameters: Record<string, string>; headers: http.IncomingHttpHeaders; status: number }[] = [];
  /** the access tokens given out, oldest first */
  readonly tokens: string[] = [];

  static async start(options: ManagedIdentityOptions = {}): Promise<ManagedIdentity> {
    const { server, url } = await listen();
    return new ManagedIdentity(options, server, url);
  }

  private constructor(
    private readonly options: ManagedIdentityOptions,
    private readonly server: http.Server,
    /** of the server, without a path */
    readonly url: string,
  ) {
    this.life = options.life ?? 3600;
    server.on('request', (request, response) => this.handle(request, response));
  }

  get endpoint(): string {
    return this.url + (this.options.appService ? '/msi/token/' : '/metadata/identity/oauth2/token');
  }

  /** The environment variables by which App Service tells of the endpoint. */
  get environment(): Record<string, string> {
    const { appService } = this.options;
    return appService ? { IDENTITY_ENDPOINT: this.endpoint, IDENTITY_HEADER: appService.secret } : {};
  }

  async stop(): Promise<void> {
    await close(this.server);
  }

  private handle(request: http.IncomingMessage, response: http.ServerResponse): void {
    const url = new URL(request.url!, this.url);
    const parameters = Object.fromEntries(url.searchParams);
    const status = this.failures.shift() ?? this.check(request, url);
    this.requests.push({ parameters, headers: request.headers, status });
    if (status === 200) return answerJson(response, 200, this.token(parameters));
    if (status === 429) response.setHeader('Retry-After', '1');
    answerJson(response, status, { error: 'invalid_request', error_description: `refused with ${status}` });
  }

  private check({ method, headers }: http.IncomingMessage, { origin, pathname, searchParams }: URL): number {
    const { appService, clientId = OWN_CLIENT_ID } = this.options;
    if (origin + pathname !== this.endpoint) return 404;
    if (method !== 'GET') return 405;
    if (appService) {
      if (headers['x-identity-header'] !== appService.secret) return 401;
      if (searchParams.get('api-version') !== '2019-08-01') return 400;
    } else {
      // the header keeps a server from being talked into asking for others, and so does the look for a proxy
      if (headers['metadata'] !== 'true' || headers['x-forwarded-for'] !== undefined) return 400;
      if (!searchParams.get('api-version')) return 400;
    }
    if (!searchParams.get('resource')) return 400;
    return [null, OWN_CLIENT_ID, clientId].includes(searchParams.get('client_id')) ? 200 : 400;
  }

  private token({ resource, client_id = OWN_CLIENT_ID }: Record<string, string>): object {
    this.tokens.push(`identity-token-${this.tokens.length + 1}`);
    const now = Math.floor(Date.now() / 1000);
    return {
      access_token: this.tokens.at(-1),
      client_id,
      // numbers come as text; App Service says only when the token ends
      ...(this.options.appService ? {} : { expires_in: String(this.life) }),
      expires_on: String(now + this.life),
      not_before: String(now),
      resource,
      token_type: 'Bearer',
    };
  }
}
