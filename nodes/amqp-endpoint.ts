import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { ConnectionOptions as TlsOptions } from 'node:tls';
import type { Node, NodeAPI, NodeDef } from 'node-red';
import { configOf, Endpoint, type EndpointNode } from './flow/endpoint';
import { isLoopback, type Server, serverOf } from './flow/server';
import { Settings } from './flow/settings';

interface EndpointDef extends NodeDef {
  host?: string;
  port?: number | string;
  hostname?: string;
  container_id?: string;
  usetls?: boolean;
  tls?: string;
  rejectUnauthorized?: boolean;
  autoconnect?: boolean;
  connecttimeout?: number | string;
  idletimeout?: number | string;
  /** Clear text, in flows of node-red-contrib-rhea. */
  username?: string;
  password?: string;
}

interface Credentials {
  user?: string;
  pass?: string;
}

interface TlsNode extends Node {
  valid?: boolean;
  addTLSOptions(options: TlsOptions): void;
}

/** The longest that a timer of Node.js runs, in milliseconds. */
const MAX_TIME = 2 ** 31 - 1;

const { name: product, version } = JSON.parse(readFileSync(join(__dirname, '../package.json'), 'utf8')) as {
  name: string;
  version: string;
};

/** What Node-RED keeps beside the flows. */
interface Kept {
  available?(): boolean;
  get?(name: string): unknown;
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

/** What the field Server holds. */
function serverIn(settings: Settings): Server {
  try {
    return serverOf(settings.text('host') ?? '');
  } catch (error) {
    settings.refuse('host', (error as Error).message);
    return { host: '' };
  }
}

/** The login: the credentials, else what stands in the URL or, in flows of node-red-contrib-rhea, in clear text. */
function loginOf(config: EndpointDef, server: Server, { user, pass }: Credentials): Credentials {
  if (user) return { user, pass };
  return server.user ? { user: server.user, pass: server.pass } : { user: config.username, pass: config.password };
}

function tlsOf(RED: NodeAPI, settings: Settings, config: EndpointDef, server: Server): TlsOptions | undefined {
  // Never plain where TLS is asked for, whatever the URL says.
  if (!settings.flag('usetls', false) && !server.isSecure) return undefined;
  if (!config.tls) return { rejectUnauthorized: settings.flag('rejectUnauthorized', true) };
  const node = RED.nodes.getNode(config.tls) as TlsNode | null | undefined;
  const tls: TlsOptions = {};
  node?.addTLSOptions(tls);
  // With files missing nothing would be set, and the peer not be verified as asked.
  if (!node || node.valid === false) settings.refuse('tls', 'the TLS configuration is not valid');
  return tls;
}

/** A time in settings.js, in milliseconds. */
function timeIn(RED: NodeAPI, settings: Settings, name: string, value: number): number {
  const given = (RED.settings as unknown as Record<string, unknown>)[name] ?? value;
  if (typeof given === 'number' && given >= 0 && given <= MAX_TIME) return given;
  settings.refuse(name, `is not a number of milliseconds from 0 to ${MAX_TIME}`, 'settings.js');
  return value;
}

export default function init(RED: NodeAPI): void {
  function AmqpEndpoint(this: EndpointNode, config: EndpointDef): void {
    RED.nodes.createNode(this, config);
    const settings = new Settings(RED, this, config, 'amqp-endpoint');
    const server = serverIn(settings);
    const { host } = server;
    const { user, pass } = loginOf(config, server, this.credentials ?? {});
    const tls = tlsOf(RED, settings, config, server);
    // A URL may as well come from the environment, where it is no secret kept in the flow.
    const isInUrl = server.user !== undefined && String(configOf(RED, this.id)?.['host']).includes('@');
    if (config.username || config.password || isInUrl) this.warn(RED._('amqp-endpoint.log.clear-text'));
    // SASL PLAIN sends it as it is.
    if (user && !tls && host && !isLoopback(host)) this.warn(RED._('amqp-endpoint.log.unprotected'));

    const initial = timeIn(RED, settings, 'amqpEndpointReconnectTime', 500);
    const loginRetry = timeIn(RED, settings, 'amqpEndpointLoginRetryTime', 30_000);
    const closeTime = timeIn(RED, settings, 'amqpEndpointCloseTime', 5000);
    const containerId = settings.text('container_id');
    const options = {
      host,
      port: server.port ?? settings.number('port'),
      tls,
      username: user,
      password: pass,
      hostname: settings.text('hostname'),
      properties: {
        product,
        version,
        platform: `Node-RED ${(RED.settings as { version?: string }).version}, Node.js ${process.version}, ${process.platform}`,
      },
      containerId: containerId ?? `nodered_${instanceOf(RED)}_${this.id}`,
      isNamed: containerId !== undefined,
      isAutomatic: settings.flag('autoconnect', true),
      connectTimeout: settings.milliseconds('connecttimeout'),
      idleTimeout: settings.milliseconds('idletimeout'),
      closeTime,
      backoff: { initial, max: Math.max(initial, 30_000) },
      loginBackoff: { initial: loginRetry, max: loginRetry },
    };
    this.users = {};
    this.endpoint = new Endpoint(RED, this, { ...options, fault: settings.fault });
    this.on('close', (done: () => void) => void this.endpoint.close().finally(done));
  }

  RED.nodes.registerType<EndpointNode, EndpointDef, object, Credentials>('amqp-endpoint', AmqpEndpoint, {
    credentials: { user: { type: 'text' }, pass: { type: 'password' } },
    settings: {
      amqpEndpointReconnectTime: { value: 500 },
      amqpEndpointLoginRetryTime: { value: 30_000 },
      amqpEndpointCloseTime: { value: 5000 },
    },
  });
}
