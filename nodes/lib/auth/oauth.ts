import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { type AmqpError, amqpError, cleaned } from '../errors';
import type { Proxy } from '../wire/proxy';
import { HttpFailure, request, type Answer } from './http';
import { expiryOf, type Issuer, type Token } from './tokens';

/** What is the same for each that gives tokens. */
export interface IssuerOptions {
  /** Of the server: its CA, a client certificate, and whether it is verified. */
  tls?: TlsOptions;
  /** On the way to it. Undefined: as the usual environment variables say. */
  proxy?: Proxy;
  /** Milliseconds that a request may take. */
  timeout: number;
}

export interface ClientCredentials extends IssuerOptions {
  /** Its token endpoint, or its discovery document (a URL with `/.well-known/`). */
  url: string;
  clientId: string;
  clientSecret?: string;
  scope?: string;
  /** Further parameters of the request. */
  params?: Record<string, string>;
  /** How id and secret are sent: as HTTP Basic, or in the body. */
  auth: 'basic' | 'body';
}

export interface ManagedIdentity extends Pick<IssuerOptions, 'timeout'> {
  /** Of what the token is for, as an address or a scope of it. */
  resource: string;
  /** Of one of several identities of the machine. */
  clientId?: string;
}

/**
 * Tokens by OAuth 2 client credentials (RFC 6749, 4.4). A client certificate in `tls` may stand for the secret (RFC 8705).
 */
export function clientCredentials(options: ClientCredentials): Issuer {
  let endpoint = options.url.includes('/.well-known/') ? undefined : options.url;
  return async () => {
    endpoint ??= await discovered(options);
    const { clientId, clientSecret, scope, params, auth } = options;
    const isBasic = auth === 'basic' && clientSecret !== undefined;
    const body = new URLSearchParams({
      grant_type: 'client_credentials',
      ...(scope && { scope }),
      ...params,
      ...(!isBasic && { client_id: clientId, ...(clientSecret !== undefined && { client_secret: clientSecret }) }),
    });
    const answer = await ask(endpoint, options, {
      method: 'POST',
      headers: {
        'content-type': 'application/x-www-form-urlencoded',
        // Each part is form-encoded before it is joined (RFC 6749, 2.3.1).
        ...(isBasic && { authorization: basic(formEncoded(clientId), formEncoded(clientSecret)) }),
      },
      body: body.toString(),
    });
    return tokenIn(answer, endpoint, clientSecret);
  };
}

/** Where an application that Azure hosts asks for its tokens, and where any other machine of Azure does. */
const IMDS = 'http://169.254.169.254';

/** Tokens of the managed identity of an Azure machine or application. No proxy may stand in between. */
export function managedIdentity({ resource, clientId, timeout }: ManagedIdentity): Issuer {
  return () => {
    const {
      IDENTITY_ENDPOINT: endpoint,
      IDENTITY_HEADER: header,
      AZURE_POD_IDENTITY_AUTHORITY_HOST: host,
    } = process.env;
    const isHosted = endpoint !== undefined && header !== undefined;
    const url = new URL(isHosted ? endpoint : `${host ?? IMDS}/metadata/identity/oauth2/token`);
    url.searchParams.set('api-version', isHosted ? '2019-08-01' : '2018-02-01');
    // A scope is the resource and what is asked for there.
    url.searchParams.set('resource', resource.replace(/\/\.default$/, ''));
    if (clientId) url.searchParams.set('client_id', clientId);
    const headers: Record<string, string> = isHosted ? { 'x-identity-header': header } : { metadata: 'true' };
    const proxy = { url: 'http://none', except: [url.hostname] };
    return ask(url.href, { proxy, timeout }, { method: 'GET', headers }).then((answer) => tokenIn(answer, url.href));
  };
}

async function discovered(options: ClientCredentials): Promise<string> {
  const { json } = await ask(options.url, options, { method: 'GET', headers: { accept: 'application/json' } });
  const { token_endpoint: endpoint } = json as { token_endpoint?: unknown };
  if (typeof endpoint !== 'string' || !URL.canParse(endpoint))
    throw unusable(options.url, 'names no token_endpoint in its discovery document');
  // The secret goes there.
  if (new URL(options.url).protocol === 'https:' && new URL(endpoint).protocol !== 'https:')
    throw unusable(options.url, 'names a token_endpoint without TLS');
  return endpoint;
}

/** The answer, if it is one of a server that gives tokens. */
async function ask(
  url: string,
  options: IssuerOptions,
  { method, headers, body }: { method: 'GET' | 'POST'; headers: Record<string, string>; body?: string },
): Promise<{ status: number; json: object }> {
  let answer: Answer;
  try {
    answer = await request(url, { ...options, method, headers, body });
  } catch (error) {
    throw unusable(
      url,
      error instanceof HttpFailure ? error.message : `cannot be asked: ${(error as Error).message}`,
      error,
    );
  }
  const { status, type, text } = answer;
  if (status >= 500) throw unusable(url, `answers with status ${status}`);
  try {
    const json: unknown = JSON.parse(text);
    if (typeof json === 'object' && json !== null) return { status, json };
  } catch {
    // It is told below what it is instead.
  }
  throw unusable(url, `answers with status ${status} and ${type ? cleaned(type, 50) : 'something'}, not with JSON`);
}

function tokenIn({ status, json }: { status: number; json: object }, url: string, secret?: string): Token {
  const { error, error_description: description, ...rest } = json as Record<string, unknown>;
  if (status >= 400) {
    const words = [error, description].filter((one) => typeof one === 'string').join(': ') || `status ${status}`;
    // Nobody knows what a server repeats of what it was sent.
    const why = cleaned(secret ? words.replaceAll(secret, '…') : words);
    throw amqpError('AMQP_AUTH.token-refused', { server: hostOf(url), why }, { diagnosis: 'token-refused' });
  }
  const { access_token: value, expires_in: life, expires_on: end } = rest;
  if (typeof value !== 'string' || value === '') throw unusable(url, 'answers without an access_token');
  return { value, expires: lifeEnd(life) ?? (Number(end) > 0 ? 1000 * Number(end) : expiryOf(value)) };
}

/** Azure gives numbers as text. */
function lifeEnd(life: unknown): number | undefined {
  const seconds = Number(life);
  return life !== undefined && seconds > 0 ? Date.now() + 1000 * seconds : undefined;
}

function unusable(url: string, why: string, cause?: unknown): AmqpError {
  return amqpError('AMQP_CONNECT.token-server', { server: hostOf(url), why }, { diagnosis: 'token-server', cause });
}

/** The rest of a URL may hold more than is to be shown. */
function hostOf(url: string): string {
  return new URL(url).host;
}

function basic(user: string, password: string): string {
  return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
}

function formEncoded(text: string): string {
  return new URLSearchParams({ '': text }).toString().slice(1);
}
