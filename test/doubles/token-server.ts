import { generateKeyPairSync, type JsonWebKey, X509Certificate } from 'node:crypto';
import type http from 'node:http';
import type { TLSSocket } from 'node:tls';
import type { ClientMetadata, Configuration, KoaContextWithOIDC } from 'oidc-provider';
import { close, listen } from './server';
import { secretOf } from '../secrets';

export interface TokenServerOptions {
  /** default client */
  clientId?: string;
  /** default secret */
  clientSecret?: string;
  /** how the client proves who it is; tls_client_auth wants `tls` and the client certificate of the fixtures */
  clientAuth?: 'client_secret_basic' | 'client_secret_post' | 'tls_client_auth';
  /** default jwt */
  format?: 'jwt' | 'opaque';
  /** seconds, default 3600 */
  life?: number;
  /** what may be asked for (default read, write) */
  scopes?: string[];
  /** for whom the tokens are (default amqp) */
  audience?: string;
  /** https, with the certificate for localhost (default false) */
  tls?: boolean;
}

export interface TokenRequest {
  /** what the body says */
  parameters: Record<string, unknown>;
  authorization: string | undefined;
  /** the error that it was answered with */
  error?: string;
}

const SIGNING = { use: 'sig', alg: 'RS256', kid: 'signing' } as const;
/** Nothing is asked for again: the one client stands in the configuration, and a token is the business of who takes it. */
const nothing = async (): Promise<undefined> => undefined;
const noStore = {
  upsert: nothing,
  find: nothing,
  findByUid: nothing,
  findByUserCode: nothing,
  consume: nothing,
  destroy: nothing,
  revokeByGrantId: nothing,
};

let signingKey: JsonWebKey | undefined;

/** An authorization server of OAuth 2 that gives tokens for client credentials. */
export class TokenServer {
  /** seconds that the next tokens live */
  life: number;
  readonly requests: TokenRequest[] = [];
  /** the access tokens given out, oldest first */
  readonly tokens: string[] = [];

  static async start(options: TokenServerOptions = {}): Promise<TokenServer> {
    const { server, url } = await listen(options.tls);
    const tokenServer = new TokenServer(options, server, url);
    await tokenServer.serve();
    return tokenServer;
  }

  private constructor(
    private readonly options: TokenServerOptions,
    private readonly server: http.Server,
    readonly url: string,
  ) {
    this.life = options.life ?? 3600;
  }

  get tokenUrl(): string {
    return `${this.url}/token`;
  }

  get discoveryUrl(): string {
    return `${this.url}/.well-known/openid-configuration`;
  }

  /** The keys by which others verify its JWTs. */
  get jwksUrl(): string {
    return `${this.url}/jwks`;
  }

  async stop(): Promise<void> {
    await close(this.server);
  }

  private async serve(): Promise<void> {
    const { Provider } = await import('oidc-provider'); // there is no CommonJS form of it
    const provider = new Provider(this.url, this.configuration());
    const note = ({ oidc, headers }: KoaContextWithOIDC, error?: string): void => {
      const { authorization } = headers;
      this.requests.push({ parameters: { ...oidc?.body }, authorization, ...(error && { error }) });
    };
    provider.on('grant.success', (context) => {
      note(context);
      this.tokens.push((context.body as { access_token: string }).access_token);
    });
    provider.on('grant.error', (context, error) => note(context, error.error));
    const handle = provider.callback();
    this.server.on('request', (request, response) => void handle(request, response));
  }

  private configuration(): Configuration {
    const { scopes = ['read', 'write'], audience = 'amqp', format = 'jwt' } = this.options;
    const life = (): number => this.life;
    const jwt = { sign: { alg: SIGNING.alg } };
    return {
      adapter: () => noStore,
      clients: [this.client()],
      scopes,
      // By this it is found wherever one is let out.
      extraTokenClaims: () => ({ mark: secretOf('claim') }),
      jwks: { keys: [{ ...key(), ...SIGNING }] },
      clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'tls_client_auth'],
      ttl: { ClientCredentials: life },
      features: {
        clientCredentials: { enabled: true },
        devInteractions: { enabled: false },
        mTLS: {
          enabled: true,
          tlsClientAuth: true,
          getCertificate: certificateOf,
          certificateAuthorized: ({ socket }) => (socket as TLSSocket).authorized,
          certificateSubjectMatches: (context, property, expected) =>
            property === 'tls_client_auth_subject_dn' && certificateOf(context)?.subject === expected,
        },
        resourceIndicators: {
          enabled: true,
          defaultResource: () => 'urn:amqp',
          getResourceServerInfo: () => ({
            scope: scopes.join(' '),
            audience,
            accessTokenFormat: format,
            ...(format === 'jwt' && { jwt }),
          }),
        },
      },
    };
  }

  private client(): ClientMetadata {
    const {
      clientId = 'client',
      clientSecret = secretOf('client secret'),
      clientAuth = 'client_secret_basic',
    } = this.options;
    return {
      client_id: clientId,
      token_endpoint_auth_method: clientAuth,
      ...(clientAuth === 'tls_client_auth'
        ? { tls_client_auth_subject_dn: 'CN=client' }
        : { client_secret: clientSecret }),
      grant_types: ['client_credentials'],
      response_types: [],
      redirect_uris: [],
    };
  }
}

function certificateOf({ socket }: { socket: unknown }): X509Certificate | undefined {
  return (socket as Partial<TLSSocket>).getPeerX509Certificate?.();
}

/** One key for all servers of a process: making one takes a while. */
function key(): JsonWebKey {
  signingKey ??= generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });
  return signingKey;
}
