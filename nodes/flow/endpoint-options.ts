import { createHash } from 'node:crypto';
import { hostname } from 'node:os';
import type { ConnectionOptions as TlsOptions, TlsOptions as TlsServerOptions } from 'node:tls';
import type { Node, NodeAPI, NodeDef } from 'node-red';
import { type Account, isAccount } from '../lib/auth/accounts';
import { clientCredentials, managedIdentity } from '../lib/auth/oauth';
import { type Issuer, Tokens } from '../lib/auth/tokens';
import type { ConnectionOptions, TokenUse } from '../lib/connection/connection';
import {
  Cbs,
  type Claims,
  jwts,
  hubSignatures,
  readyHubSignature,
  readySignature,
  signatures,
} from '../lib/exchange/cbs';
import { renewToken } from '../lib/exchange/renewal';
import { MAX_TIMEOUT } from '../lib/pause';
import type { Proxy } from '../lib/wire/proxy';
import type { Server as Place } from '../lib/wire/transport';
import type { ConnectingOptions, EndpointOptions, Service } from './endpoint';
import { isLoopback, type Server, serverOf, serversOf } from './server';
import type { Settings } from './settings';

export interface EndpointDef extends NodeDef {
  tls?: string;
  tokentls?: string;
  proxy?: string;
  /** Clear text, in flows of node-red-contrib-rhea. */
  username?: string;
  password?: string;
}

export interface Credentials {
  user?: string;
  pass?: string;
  clientsecret?: string;
  /** Of the upgrade to WebSocket: `Name: value`, one a line. */
  headers?: string;
  /** Who may log in, where it listens: a JSON list of accounts, without their passwords. */
  accounts?: string;
}

interface TlsNode extends Node {
  valid?: boolean;
  addTLSOptions(options: TlsOptions): void;
}

interface ProxyNode extends Node<{ username?: string; password?: string }> {
  url?: string;
  noproxy?: string[];
}

/** What Node-RED keeps beside the flows. */
interface Kept {
  available?(): boolean;
  get?(name: string): unknown;
}

const MECHANISMS = [
  '',
  'none',
  'ANONYMOUS',
  'PLAIN',
  'EXTERNAL',
  'SCRAM-SHA-512',
  'SCRAM-SHA-256',
  'SCRAM-SHA-1',
] as const satisfies ('' | NonNullable<ConnectionOptions['mechanism']>)[];
/** Milliseconds between attempts to listen on a port that another program uses. */
const LONGEST_LISTEN_PAUSE = 10_000;
const SERVICES: readonly Service[] = ['servicebus', 'eventhubs', 'iothub'];
/** What the name of an HTTP header is made of (RFC 9110, 5.6.2). */
const HEADER = /^([!#$%&'*+.^`|~\w-]+):\s*([\t\x20-\x7e\x80-\xff]*)$/;

/** Reads all that an endpoint is configured with. */
export class EndpointSettings {
  readonly #RED: NodeAPI;
  readonly #node: Node;
  readonly #settings: Settings;
  readonly #config: EndpointDef;

  constructor(RED: NodeAPI, node: Node, settings: Settings, config: EndpointDef) {
    this.#RED = RED;
    this.#node = node;
    this.#settings = settings;
    this.#config = config;
  }

  options(properties: Record<string, string>): EndpointOptions {
    const listens = this.#settings.choice('role', ['connect', 'listen']) === 'listen';
    return listens ? this.#listening(properties) : this.#connecting(properties);
  }

  #listening(properties: Record<string, string>): EndpointOptions {
    const settings = this.#settings;
    const host = settings.text('host');
    const tls = settings.flag('usetls', false) ? this.#serverTls() : undefined;
    const first = this.#time('amqpEndpointReconnectTime', 500);
    const accounts = this.#accounts();
    const allowsAnonymous = settings.flag('anonymous', false);
    const takesCertificates = settings.flag('clientcertificates', false) && tls !== undefined;
    // Without an authority of its own any would do that Node.js trusts for web sites.
    if (takesCertificates && !tls.ca && !tls.pfx)
      settings.refuse('clientcertificates', 'needs a CA certificate in the TLS configuration');
    if (accounts.length === 0 && !allowsAnonymous)
      settings.refuse('accounts', 'is empty, so that no client could log in');
    return {
      listens: true,
      ...(host !== undefined && { host }),
      port: settings.number('port'),
      ...(tls && { tls }),
      accounts,
      allowsAnonymous,
      takesCertificates,
      maxClients: settings.number('maxclients'),
      maxLinks: settings.number('maxlinks'),
      maxMemory: settings.megabytes('maxmemory'),
      idleTimeout: settings.milliseconds('idletimeout'),
      connectTimeout: settings.milliseconds('connecttimeout'),
      backoff: { initial: first, max: Math.max(first, LONGEST_LISTEN_PAUSE) },
      containerId: settings.text('container_id') ?? `nodered_${instanceOf(this.#RED)}_${this.#node.id}`,
      properties,
      ...this.#watching(),
      closeTime: this.#time('amqpEndpointCloseTime', 5000),
      ...(settings.fault && { fault: settings.fault }),
    };
  }

  #watching(): { isTraced: boolean; carriesTrace: boolean } {
    const settings = this.#settings;
    return { isTraced: settings.flag('trace', false), carriesTrace: settings.flag('tracecontext', false) };
  }

  /** The certificate that clients are shown is that of a TLS configuration. */
  #serverTls(): TlsOptions & TlsServerOptions {
    const { tls: id } = this.#config;
    const options = id ? this.#tlsOf(id, 'tls') : {};
    if (!options.cert && !options.pfx)
      this.#settings.refuse('tls', 'has no certificate, which clients are to be shown');
    return options as TlsOptions & TlsServerOptions;
  }

  #accounts(): Account[] {
    const text = this.#settings.textOfCredentials('accounts');
    if (text === undefined) return [];
    let accounts: unknown;
    try {
      accounts = JSON.parse(text);
    } catch {
      // Said below.
    }
    if (Array.isArray(accounts) && accounts.every(isAccount)) return accounts;
    this.#settings.refuse('accounts', 'cannot be read: enter them anew');
    return [];
  }

  #connecting(properties: Record<string, string>): EndpointOptions {
    const settings = this.#settings;
    const servers = this.#servers();
    const containerId = settings.text('container_id');
    const closeTime = this.#time('amqpEndpointCloseTime', 5000);
    const loginRetry = this.#time('amqpEndpointLoginRetryTime', 30_000);
    const first = settings.optionalMilliseconds('firstpause') ?? this.#time('amqpEndpointReconnectTime', 500);
    const longest = settings.optionalMilliseconds('longestpause') ?? 30_000;
    const proxy = this.#proxy();
    const connectTimeout = settings.milliseconds('connecttimeout');
    return {
      servers: servers.map(placeOf),
      order: settings.choice<'listed' | 'random'>('order', ['listed', 'random']),
      trustsNamed: settings.flag('trustnamed', false),
      tls: servers.some(({ isSecure }) => isSecure) ? this.#tls() : undefined,
      ...this.#login(servers, proxy, connectTimeout),
      headers: this.#headers(),
      proxy,
      hostname: settings.text('hostname'),
      properties,
      ...this.#watching(),
      containerId: containerId ?? `nodered_${instanceOf(this.#RED)}_${this.#node.id}`,
      isNamed: containerId !== undefined,
      service: SERVICES.find((service) => service === settings.text('peer')),
      isAutomatic: settings.flag('autoconnect', true),
      connectTimeout,
      idleTimeout: settings.milliseconds('idletimeout'),
      closeTime,
      hasOneSession: settings.choice('sessions', ['', 'one']) === 'one' || undefined,
      giveUpAfter: settings.optionalMilliseconds('giveup') || undefined,
      backoff: { initial: first, max: Math.max(first, longest) },
      loginBackoff: { initial: loginRetry, max: loginRetry },
      fault: settings.fault,
    };
  }

  #servers(): Server[] {
    const settings = this.#settings;
    const field = settings.choice('connectto', ['host', 'urls']) === 'urls' ? 'urls' : 'host';
    try {
      if (field === 'urls') return serversOf(settings.text('urls') ?? '');
      const server = serverOf(settings.text('host') ?? '');
      // Never plain where TLS is asked for, whatever the URL says.
      const isSecure = settings.flag('usetls', false) || server.isSecure === true;
      return [{ ...server, port: server.port ?? settings.number('port'), isSecure }];
    } catch (error) {
      settings.refuse(field, (error as Error).message);
      return [{ host: '', port: NaN }];
    }
  }

  #tls(): TlsOptions {
    const { tls: id } = this.#config;
    return id ? this.#tlsOf(id, 'tls') : { rejectUnauthorized: this.#settings.flag('rejectUnauthorized', true) };
  }

  #tlsOf(id: string, field: string): TlsOptions {
    const node = this.#RED.nodes.getNode(id) as TlsNode | null | undefined;
    const tls: TlsOptions = {};
    node?.addTLSOptions(tls);
    // With files missing nothing would be set, and the peer not be verified as asked.
    if (!node || node.valid === false) this.#settings.refuse(field, 'the TLS configuration is not valid');
    return tls;
  }

  #proxy(): Proxy | undefined {
    const { proxy: id } = this.#config;
    if (!id) return undefined;
    const node = this.#RED.nodes.getNode(id) as ProxyNode | null | undefined;
    const { url = '', noproxy, credentials } = node ?? {};
    if (!/^https?:/i.test(url) || !URL.canParse(url))
      this.#settings.refuse('proxy', 'has no URL of http:// or https://');
    return { url, ...credentials, except: noproxy ?? [] };
  }

  #headers(): Record<string, string> | undefined {
    const lines = (this.#settings.textOfCredentials('headers') ?? '')
      .split(/\r?\n/)
      .filter((line) => line.trim() !== '');
    if (lines.length === 0) return undefined;
    const headers: Record<string, string> = {};
    for (const [index, line] of lines.entries()) {
      const [, name, value] = HEADER.exec(line.trim()) ?? [];
      if (name !== undefined) headers[name.toLowerCase()] = value!;
      // The line itself may be a secret.
      else this.#settings.refuse('headers', `line ${index + 1} is not "Name: value"`);
    }
    return headers;
  }

  // The login

  #login(servers: Server[], proxy: Proxy | undefined, timeout: number): Partial<ConnectingOptions> {
    const settings = this.#settings;
    const { username, password } = this.#password(servers);
    const isHub = settings.text('peer') === 'iothub' || servers.some((server) => server.isHub);
    const kind = settings.choice('login', ['', 'oauth', 'identity', 'flow', 'sas']);
    // A signature may stand alone in the field of the password.
    if (kind === 'sas' || servers.some(({ isShared }) => isShared))
      return this.#shared(username, password ?? settings.credential('pass'), isHub);
    if (kind === '') {
      const mechanism = settings.choice('sasl', MECHANISMS) || undefined;
      if (mechanism && /^(PLAIN|SCRAM)/.test(mechanism) && !username) settings.refuse('sasl', 'needs a user name');
      return { username, password, mechanism };
    }
    const tokenUse = settings.choice<TokenUse | 'cbs'>('tokenuse', ['password', 'xoauth2', 'header', 'cbs']);
    if (tokenUse === 'header' && servers.some(({ path }) => path === undefined))
      settings.refuse('tokenuse', 'only a WebSocket has headers: all servers must be ws:// or wss://');
    const tokens = new Tokens(this.#issuer(kind, proxy, timeout));
    const flowTokens = kind === 'flow' ? tokens : undefined;
    if (tokenUse === 'cbs' && isHub)
      settings.refuse('tokenuse', 'is not for Azure IoT Hub: log in by its connection string');
    if (tokenUse === 'cbs') return { ...byClaims(jwts(tokens)), flowTokens };
    return { username, tokens, tokenUse, renew: renewToken, flowTokens };
  }

  /** A key of Azure with its name, or a signature that was made with one. */
  #shared(name = '', secret = '', isHub = false): Partial<ConnectingOptions> {
    const isReady = secret.startsWith('SharedAccessSignature ');
    const label = this.#settings.labelOf('key');
    if (!isReady && !(name && secret)) this.#settings.refuse('pass', 'needs a key and its name, or a signature', label);
    const key = { name, key: secret };
    if (!isHub) return byClaims(isReady ? readySignature(secret) : signatures(key));
    // Its own clients speak without SASL.
    return { ...byClaims(isReady ? readyHubSignature(secret) : hubSignatures(key)), mechanism: 'none' };
  }

  #issuer(kind: 'oauth' | 'identity' | 'flow', proxy: Proxy | undefined, timeout: number): Issuer | undefined {
    const settings = this.#settings;
    if (kind === 'flow') return undefined;
    const [clientId, scope] = [settings.text('clientid'), settings.text('scope')];
    if (kind === 'identity') {
      // The form has other names for these two then.
      if (!scope) settings.refuse('scope', 'is missing', settings.labelOf('resource'));
      return managedIdentity({ resource: scope ?? '', clientId, timeout });
    }
    const url = settings.text('tokenurl') ?? '';
    if (!clientId) settings.refuse('clientid', 'is missing');
    this.#checkTokenUrl(url);
    return clientCredentials({
      url,
      clientId: clientId ?? '',
      clientSecret: settings.credential('clientsecret'),
      scope,
      params: this.#params(),
      auth: settings.choice('tokenauth', ['basic', 'body']),
      tls: this.#config.tokentls ? this.#tlsOf(this.#config.tokentls, 'tokentls') : undefined,
      proxy,
      timeout,
    });
  }

  #checkTokenUrl(url: string): void {
    if (!/^https?:/i.test(url) || !URL.canParse(url))
      return this.#settings.refuse('tokenurl', 'is not a URL of https://');
    const { protocol, hostname: host } = new URL(url);
    if (protocol === 'http:' && !isLoopback(host.replace(/^\[(.*)\]$/, '$1')))
      this.#settings.refuse('tokenurl', 'is without TLS, and the client secret would go there in the clear');
  }

  #params(): Record<string, string> {
    const lines = (this.#settings.text('tokenparams') ?? '').split(/\r?\n/).filter((line) => line.trim() !== '');
    const pairs = lines.map((line, index) => {
      const at = line.indexOf('=');
      if (at < 1) this.#settings.refuse('tokenparams', `line ${index + 1} is not "name=value"`);
      return [line.slice(0, at).trim(), line.slice(at + 1).trim()];
    });
    return Object.fromEntries(pairs) as Record<string, string>;
  }

  /** The login: the credentials, else what stands in a URL or, in flows of node-red-contrib-rhea, in clear text. */
  #password(servers: Server[]): { username?: string; password?: string } {
    const [user, pass] = ['user', 'pass'].map((name) => this.#settings.credential(name));
    if (user) return { username: user, password: pass };
    const { username, password } = this.#config;
    // A signature has no name.
    const inUrl = servers.find((server) => server.user || server.isShared);
    return inUrl ? { username: inUrl.user, password: inUrl.pass } : { username, password };
  }

  /** A time in settings.js, in milliseconds. */
  #time(name: string, value: number): number {
    const given = (this.#RED.settings as unknown as Record<string, unknown>)[name] ?? value;
    if (typeof given === 'number' && given >= 0 && given <= MAX_TIMEOUT) return given;
    this.#settings.refuse(name, `is not a number of milliseconds from 0 to ${MAX_TIMEOUT}`, 'settings.js');
    return value;
  }
}

/** Links are permitted one by one; the login itself is nobody's. */
function byClaims(claims: Claims): Partial<ConnectingOptions> {
  const { authorize, tokenFor } = new Cbs(claims);
  return { mechanism: 'ANONYMOUS', authorize, tokenFor };
}

/** Without the login that may stand in a URL. */
function placeOf({ host, port = NaN, isSecure, path }: Server): Place {
  return { host, port, isSecure, ...(path !== undefined && { path }) };
}

/**
 * Tells this Node-RED from others that run the same flow, and stays the same as long as its user directory does. Made of
 * letters and digits: IBM MQ takes few others in a client ID.
 */
function instanceOf(RED: NodeAPI): string {
  const settings = RED.settings as unknown as Kept & { userDir?: string };
  const id = settings.available?.() ? settings.get?.('instanceId') : undefined;
  if (typeof id === 'string' && id !== '') return id;
  // Where nothing can be kept.
  const place = `${hostname()}\n${settings.userDir ?? ''}`;
  return createHash('sha256').update(place).digest('hex').slice(0, 16);
}
