import { createHash } from 'node:crypto';
import type { EventEmitter } from 'node:events';
import { hostname } from 'node:os';
import type { ConnectionOptions as TlsOptions } from 'node:tls';
import type { Node, NodeAPI, NodeDef } from 'node-red';
import { isLoopback, type Server, serverOf } from './flow/server';
import { Settings, STATUS } from './flow/settings';
import { Connection } from './lib/connection/connection';
import { AmqpError, messageOf } from './lib/errors';
import type { SourceOption } from './lib/link/source';
import { isSame, type State, statusOf } from './lib/status';

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

/** What a node does on a connection: a sender, receiver, requester or responder of lib. */
interface Link extends EventEmitter<{ state: [State] }> {
  readonly state: State;
  open(): void;
  /** Takes no more messages from the peer. */
  stop?(): void;
  /** Bounded by `timeout` milliseconds and the little that detaching takes. */
  close(timeout: number): Promise<void>;
}

/** A link whose messages come back from the flow, to be settled. */
export interface Holder extends Link {
  holds(id: string): boolean;
  /** Takes nothing more, and waits for what is held, at most `timeout` milliseconds. */
  leave(timeout: number): Promise<void>;
}

export interface EndpointNode extends Node<Credentials> {
  connection: Connection;
  /** The client ID is a person's choice. */
  isNamed: boolean;
  /** The nodes on this endpoint. Node-RED hands status and errors of a config node to the flows of these. */
  users: Record<string, Node>;
  /** Opens the link, shows its state as the status of the node, and closes it with the node. */
  register(node: Node, link: Link | Holder): void;
  /** The link that holds a message: the node's own, or that of the node as it was before it was redeployed. */
  holderOf<L extends Holder>(node: Node, link: L, id: string): L;
}

interface TlsNode extends Node {
  valid?: boolean;
  addTLSOptions(options: TlsOptions): void;
}

/** The longest that a timer of Node.js runs, in milliseconds. */
const MAX_TIME = 2 ** 31 - 1;
/** What detaching and closing take at most, in milliseconds. */
const DETACH_TIME = 7000;

/** The endpoint that a node names. Without one the node says so, in its status and to each msg. */
export function endpointOf(RED: NodeAPI, node: Node, id: string): EndpointNode | undefined {
  const endpoint = RED.nodes.getNode(id) as EndpointNode | null | undefined;
  if (endpoint?.connection) return endpoint;
  const isDisabled = configOf(RED, id)?.['d'] === true;
  node.status({ fill: 'red', shape: 'ring', text: STATUS + (isDisabled ? 'disabled' : 'no-endpoint') });
  const text = isDisabled ? 'the AMQP endpoint of the node is disabled' : 'no AMQP endpoint is chosen';
  node.on('input', (_msg, _send, done) => done(new AmqpError('AMQP_NO_ENDPOINT', text)));
  return undefined;
}

/** A node as it stands in the flow file. */
function configOf(RED: NodeAPI, id: string): Record<string, unknown> | undefined {
  let found: Record<string, unknown> | undefined;
  RED.nodes.eachNode((config) => {
    if (config.id === id) found = config as unknown as Record<string, unknown>;
  });
  return found;
}

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

export default function init(RED: NodeAPI): void {
  /** A time in settings.js, in milliseconds. */
  function timeIn(settings: Settings, name: string, value: number): number {
    const given = (RED.settings as unknown as Record<string, unknown>)[name] ?? value;
    if (typeof given === 'number' && given >= 0 && given <= MAX_TIME) return given;
    settings.refuse(name, `is not a number of milliseconds from 0 to ${MAX_TIME}`, 'settings.js');
    return value;
  }

  function Endpoint(this: EndpointNode, config: EndpointDef): void {
    RED.nodes.createNode(this, config);
    const settings = new Settings(RED, this, config, 'amqp-endpoint');
    const server = serverIn(settings);
    const { host } = server;
    const port = server.port ?? settings.number('port');
    const username = server.user ?? config.username;
    const isOfFlow = !this.credentials?.user;
    const user = isOfFlow ? username : this.credentials.user;
    const pass = isOfFlow ? (server.user ? server.pass : config.password) : this.credentials.pass;
    // A URL may as well come from the environment, where it is no secret kept in the flow.
    const isInUrl = server.user !== undefined && String(configOf(RED, this.id)?.['host']).includes('@');
    if (config.username || config.password || isInUrl) this.warn(RED._('amqp-endpoint.log.clear-text'));

    let tls: TlsOptions | undefined;
    // Never plain where TLS is asked for, whatever the URL says.
    if (settings.flag('usetls', false) || server.isSecure) {
      tls = config.tls ? {} : { rejectUnauthorized: settings.flag('rejectUnauthorized', true) };
      const node = config.tls ? (RED.nodes.getNode(config.tls) as TlsNode | null | undefined) : undefined;
      node?.addTLSOptions(tls);
      // With files missing nothing would be set, and the peer not be verified as asked.
      if (config.tls && (!node || node.valid === false)) settings.refuse('tls', 'the TLS configuration is not valid');
    }

    // SASL PLAIN sends it as it is.
    if (user && !tls && host && !isLoopback(host)) this.warn(RED._('amqp-endpoint.log.unprotected'));

    const initial = timeIn(settings, 'amqpEndpointReconnectTime', 500);
    const loginRetry = timeIn(settings, 'amqpEndpointLoginRetryTime', 30_000);
    const closeTime = timeIn(settings, 'amqpEndpointCloseTime', 5000);
    const isAutomatic = settings.flag('autoconnect', true);
    const containerId = settings.text('container_id');
    const connection = new Connection({
      host,
      port,
      tls,
      username: user,
      password: pass,
      hostname: settings.text('hostname'),
      containerId: containerId ?? `nodered_${instanceOf(RED)}_${this.id}`,
      connectTimeout: settings.milliseconds('connecttimeout'),
      idleTimeout: settings.milliseconds('idletimeout'),
      backoff: { initial, max: Math.max(initial, 30_000) },
      loginBackoff: { initial: loginRetry, max: loginRetry },
      fault: settings.fault,
    });
    this.isNamed = containerId !== undefined;
    this.connection = connection;
    this.users = {};

    const named = (options: SourceOption[]): string =>
      options.map((option) => RED._(`amqp-endpoint.option.${option}`)).join(', ');

    const show = (node: Node, state: State): void => {
      const {
        fill,
        shape,
        key,
        options,
        args = options && { options: named(options) },
        waiting,
        text,
      } = statusOf(state);
      // A key that is all of the text is translated by the editor, into the language of who looks at it.
      const words = text ?? (args || waiting ? RED._(STATUS + key, args ?? {}) : STATUS + key);
      node.status({ fill, shape, text: waiting ? `${words} (${RED._(`${STATUS}count`, waiting)})` : words });
    };
    const peer = `${tls ? 'amqps' : 'amqp'}://${host.includes(':') ? `[${host}]` : host}:${port}`;
    /** A line of the log: what is wrong, and what to do about it where that is known. */
    const lineOf = (name: string, { message, diagnosis }: AmqpError): string => {
      const line = RED._(`amqp-endpoint.log.${name}`, { peer, reason: message });
      if (!diagnosis) return line;
      return `${line}; ${RED._(`amqp-endpoint.log.remedy.${diagnosis}`)}`;
    };
    let isQuiet = false;
    connection.on('quiet', (error) => {
      isQuiet ||= error.code === 'AMQP_DISCONNECTED';
      this.debug(`${peer}: ${error.message}`);
    });
    connection.on('state', (state) => {
      show(this, state);
      if (state.name === 'fault') this.error(state.error.message);
      else if ('error' in state) this.warn(lineOf(state.name, state.error));
      else if (state.name === 'connected')
        this[isQuiet ? 'debug' : 'log'](RED._('amqp-endpoint.log.connected', { peer }));
      if (state.name !== 'connecting') isQuiet = false;
    });
    // Node-RED takes no error that cannot be made a text.
    connection.on('fault', (error) => this.error(error instanceof Error ? error : messageOf(error)));

    let isClosing = false;
    const closings = new Set<Promise<void>>();
    const keep = (closing: Promise<void>): void => {
      const closed = closing.finally(() => closings.delete(closed));
      closings.add(closed);
    };
    /** Links of nodes that were redeployed, by the node's id, while the flow has messages of them. */
    const leaving = new Map<string, { link: Holder; left: Promise<void> }>();

    /** Node-RED routes what comes back to the next instance of the node, so that is not to wait for this one. */
    const leave = (node: Node, link: Holder): void => {
      const left = link.leave(closeTime).then(() => link.close(closeTime));
      const entry = { link, left };
      leaving.set(node.id, entry);
      keep(left.finally(() => leaving.get(node.id) === entry && leaving.delete(node.id)));
    };

    this.register = (node, link) => {
      this.users[node.id] = node;
      let logged: State = link.state;
      const tell = (state: State): void => {
        show(node, state);
        // Of the connection the endpoint tells, once for all its nodes.
        if (state.name === 'refused' && !isSame(state, logged)) {
          node.warn(lineOf('refused', state.error));
        }
        if (state.name === 'fault' && state.error !== settings.fault && !isSame(state, logged)) node.error(state.error);
        if ((state.name === 'ignored' || state.name === 'unsure') && !isSame(state, logged)) {
          const { name = '', version = '' } = connection.product;
          const product = `${name} ${version}`.trim();
          const who = product ? `${peer} (${product})` : peer;
          node.warn(RED._(`amqp-endpoint.log.${state.name}`, { peer: who, options: named(state.options) }));
        }
        if (['fault', 'refused', 'ignored', 'unsure', 'connected'].includes(state.name)) logged = state;
      };
      link.on('state', tell);
      let isOpen = true;
      const open = (): void => {
        if (!isOpen) return;
        link.open();
        if (isAutomatic) connection.open();
      };
      // Two links of one name would be one and the same to the peer.
      const predecessor = leaving.get(node.id);
      if (predecessor) void predecessor.left.finally(open);
      else open();
      show(node, link.state);

      node.on('close', (isRemoved: boolean, done: () => void) => {
        isOpen = false;
        // In this very turn: what is accepted later would be lost with the flow, which is closed at the same time.
        link.stop?.();
        link.off('state', tell);
        if (this.users[node.id] === node) delete this.users[node.id];
        // All nodes of a flow are closed at the same time, config nodes last.
        const closing = new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
          if ('leave' in link && !isRemoved && !isClosing) return leave(node, link);
          return link.close(closeTime);
        });
        keep(closing);
        void closing.finally(done);
      });
    };
    this.holderOf = <L extends Holder>(node: Node, link: L, id: string) => {
      const former = leaving.get(node.id)?.link;
      return former?.holds(id) ? (former as L) : link;
    };

    this.on('close', (done: () => void) => {
      isClosing = true;
      // Node-RED routes nothing back any more.
      for (const { link } of leaving.values()) void link.close(closeTime);
      const timer = setTimeout(() => void connection.close(), closeTime + DETACH_TIME);
      const users = new Promise<void>((resolve) => setImmediate(resolve)).then(() => Promise.allSettled(closings));
      void users
        .then(() => connection.close())
        .finally(() => {
          clearTimeout(timer);
          done();
        });
    });
  }

  RED.nodes.registerType<EndpointNode, EndpointDef, object, Credentials>('amqp-endpoint', Endpoint, {
    credentials: { user: { type: 'text' }, pass: { type: 'password' } },
    settings: {
      amqpEndpointReconnectTime: { value: 500 },
      amqpEndpointLoginRetryTime: { value: 30_000 },
      amqpEndpointCloseTime: { value: 5000 },
    },
  });
}
