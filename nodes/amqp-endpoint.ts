import type { EventEmitter } from 'node:events';
import type { ConnectionOptions as TlsOptions } from 'node:tls';
import type { Node, NodeAPI, NodeDef } from 'node-red';
import { Connection } from './lib/connection';
import { AmqpError } from './lib/errors';
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
}

export interface EndpointNode extends Node<Credentials> {
  connection: Connection;
  /** The nodes on this endpoint. Node-RED hands status and errors of a config node to the flows of these. */
  users: Record<string, Node>;
  /** Opens the link, and shows its state as the status of the node for as long as it is there. */
  register(node: Node, link: Link): void;
  /** To be called when a node closes, with the closing of its link. */
  deregister(node: Node, closing: Promise<void>): Promise<void>;
}

interface TlsNode extends Node {
  valid?: boolean;
  addTLSOptions(options: TlsOptions): void;
}

const STATUS = '@amqp10/node-red-amqp10/amqp-endpoint:amqp-endpoint.status.';
/** Node-RED waits 15 s for a node to close. */
const CLOSE_TIMEOUT = 12_000;
/** What a node gives its messages on their way when it is closed. */
export const FLUSH_TIMEOUT = 5000;

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

    const settings = RED.settings as { amqpEndpointReconnectTime?: number; amqpEndpointLoginRetryTime?: number };
    const { amqpEndpointReconnectTime: initial = 500, amqpEndpointLoginRetryTime: loginRetry = 30_000 } = settings;
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

    const show = (node: Node, state: State): void => {
      const { fill, shape, key, args, text } = statusOf(state);
      // A key without arguments is translated by the editor, into the language of who looks at it.
      node.status({ fill, shape, text: text ?? (args ? RED._(STATUS + key, args) : STATUS + key) });
    };
    const peer = `${tls ? 'amqps' : 'amqp'}://${host}:${port}`;
    connection.on('state', (state) => {
      show(this, state);
      if ('error' in state) this.warn(RED._(`amqp-endpoint.log.${state.name}`, { peer, reason: state.error.message }));
      else if (state.name === 'connected') this.log(RED._('amqp-endpoint.log.connected', { peer }));
    });
    connection.on('fault', (error) => this.error(error));

    const closings = new Set<Promise<void>>();
    this.register = (node, link) => {
      this.users[node.id] = node;
      let logged: State = link.state;
      link.on('state', (state) => {
        show(node, state);
        // Of the connection the endpoint tells, once for all its nodes.
        if (state.name === 'refused' && !isSame(state, logged)) {
          node.warn(RED._('amqp-endpoint.log.refused', { peer, reason: state.error.message }));
        }
        if (state.name === 'refused' || state.name === 'connected') logged = state;
      });
      link.open();
      if (config.autoconnect !== false) connection.open();
      show(node, link.state);
    };
    this.deregister = (node, closing) => {
      const closed = closing.finally(() => {
        delete this.users[node.id];
        closings.delete(closed);
      });
      closings.add(closed);
      return closed;
    };

    this.on('close', (done: () => void) => {
      // All nodes of a flow are closed at the same time, and those on this endpoint may still have messages to send.
      const timer = setTimeout(() => void connection.close(), CLOSE_TIMEOUT);
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
    },
  });
}
