import type { EventEmitter } from 'node:events';
import type { ConnectionOptions as TlsOptions } from 'node:tls';
import type { Node, NodeAPI, NodeDef } from 'node-red';
import { Connection } from './lib/connection';
import { AmqpError } from './lib/errors';
import type { SourceOption } from './lib/source';
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

const STATUS = '@amqp10/node-red-amqp10/amqp-endpoint:amqp-endpoint.status.';
/** What detaching and closing take at most, in milliseconds. */
const DETACH_TIME = 7000;

/** The endpoint that a node names. Without one the node says so, in its status and to each msg. */
export function endpointOf(RED: NodeAPI, node: Node, id: string): EndpointNode | undefined {
  const endpoint = RED.nodes.getNode(id) as EndpointNode | null | undefined;
  if (endpoint?.connection) return endpoint;
  node.status({ fill: 'red', shape: 'ring', text: `${STATUS}no-endpoint` });
  node.on('input', (_msg, _send, done) =>
    done(new AmqpError('AMQP_NO_ENDPOINT', 'no AMQP endpoint is chosen, or it is disabled')),
  );
  return undefined;
}

export default function init(RED: NodeAPI): void {
  function Endpoint(this: EndpointNode, config: EndpointDef): void {
    RED.nodes.createNode(this, config);
    const { host = 'localhost', username, password } = config;
    const port = Number(config.port || 5672);
    const user = this.credentials?.user || username;
    const pass = this.credentials?.user ? this.credentials.pass : password;
    if (username || password) this.warn(RED._('amqp-endpoint.log.clear-text'));

    let fault: AmqpError | undefined;
    if (!Number.isInteger(port) || port < 1 || port > 65535)
      fault = new AmqpError('AMQP_CONFIG', `port is not valid: ${config.port}`);
    let tls: TlsOptions | undefined;
    if (config.usetls) {
      tls = config.tls ? {} : { rejectUnauthorized: config.rejectUnauthorized !== false };
      const node = config.tls ? (RED.nodes.getNode(config.tls) as TlsNode | null | undefined) : undefined;
      node?.addTLSOptions(tls);
      // With files missing nothing would be set, and the peer not be verified as asked.
      if (config.tls && (!node || node.valid === false))
        fault = new AmqpError('AMQP_CONFIG', 'the TLS configuration is not valid');
    }

    const {
      amqpEndpointReconnectTime: initial = 500,
      amqpEndpointLoginRetryTime: loginRetry = 30_000,
      amqpEndpointCloseTime: closeTime = 5000,
    } = RED.settings as { [K in `amqpEndpoint${'Reconnect' | 'LoginRetry' | 'Close'}Time`]?: number };
    const connection = new Connection({
      host,
      port,
      tls,
      username: user,
      password: pass,
      hostname: config.hostname,
      containerId: config.container_id || `node-red-${this.id}`,
      connectTimeout: 1000 * Number(config.connecttimeout || 10),
      idleTimeout: 1000 * Number(config.idletimeout ?? 30),
      backoff: { initial, max: Math.max(initial, 30_000) },
      loginBackoff: { initial: loginRetry, max: loginRetry },
      fault,
    });
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
      // A key without arguments is translated by the editor, into the language of who looks at it.
      const words = text ?? (args ? RED._(STATUS + key, args) : STATUS + key);
      node.status({ fill, shape, text: waiting ? `${words} (${RED._(`${STATUS}count`, waiting)})` : words });
    };
    const peer = `${tls ? 'amqps' : 'amqp'}://${host}:${port}`;
    connection.on('state', (state) => {
      show(this, state);
      if ('error' in state) this.warn(RED._(`amqp-endpoint.log.${state.name}`, { peer, reason: state.error.message }));
      else if (state.name === 'connected') this.log(RED._('amqp-endpoint.log.connected', { peer }));
    });
    connection.on('fault', (error) => this.error(error));

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
          node.warn(RED._('amqp-endpoint.log.refused', { peer, reason: state.error.message }));
        }
        if (state.name === 'fault' && !isSame(state, logged)) node.error(state.error);
        if (state.name === 'ignored' && !isSame(state, logged)) {
          const { name = '', version = '' } = connection.product;
          const product = `${name} ${version}`.trim();
          const who = product ? `${peer} (${product})` : peer;
          node.warn(RED._('amqp-endpoint.log.ignored', { peer: who, options: named(state.options) }));
        }
        if (['fault', 'refused', 'ignored', 'connected'].includes(state.name)) logged = state;
      };
      link.on('state', tell);
      let isOpen = true;
      const open = (): void => {
        if (!isOpen) return;
        link.open();
        if (config.autoconnect !== false) connection.open();
      };
      // Two links of one name would be one and the same to the peer.
      const predecessor = leaving.get(node.id);
      if (predecessor) void predecessor.left.finally(open);
      else open();
      show(node, link.state);

      node.on('close', (isRemoved: boolean, done: () => void) => {
        isOpen = false;
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
