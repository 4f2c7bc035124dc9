/**
 * A server that allows each client ID once, and turns a second client away in the words of ActiveMQ. It takes all links, and
 * what comes over them. It shares no code with nodes/.
 */
import { EventEmitter, once } from 'node:events';
import type { AddressInfo, Server } from 'node:net';
import rhea, { type Connection, type EventContext } from 'rhea';

/** Emits 'refused' with the client ID of a client that it turned away. */
export class OneIdentity extends EventEmitter<{ refused: [string] }> {
  /** Those that are in, by client ID. */
  readonly #clients = new Map<string, Connection>();
  readonly #connections = new Set<Connection>();
  readonly #server: Server;

  static async start(): Promise<OneIdentity> {
    const container = rhea.create_container({ id: 'one-identity' });
    const server = container.listen({ port: 0, host: '127.0.0.1' });
    await once(server, 'listening');
    return new OneIdentity(container, server);
  }

  private constructor(container: rhea.Container, server: Server) {
    super();
    this.#server = server;
    for (const event of ['connection_error', 'error']) container.on(event, () => {});
    container.on('connection_open', ({ connection }: EventContext) => this.#opened(connection));
    for (const event of ['connection_close', 'disconnected'])
      container.on(event, ({ connection }: EventContext) => this.#gone(connection));
    container.on('sender_open', ({ sender }: EventContext) => sender!.set_source(sender!.source));
    container.on('receiver_open', ({ receiver }: EventContext) => receiver!.set_target(receiver!.target));
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  clientIds(): string[] {
    return [...this.#clients.keys()];
  }

  async stop(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const connection of this.#connections) connection.close();
    await closed;
  }

  #opened(connection: Connection): void {
    this.#connections.add(connection);
    const { container_id: id } = connection;
    if (!this.#clients.has(id)) {
      this.#clients.set(id, connection);
      return;
    }
    connection.close({
      condition: 'amqp:invalid-field',
      description: `Broker: one-identity - Client: ${id} already connected`,
      info: { 'invalid-field': 'container-id' },
    });
    this.emit('refused', id);
  }

  #gone(connection: Connection): void {
    this.#connections.delete(connection);
    if (this.#clients.get(connection.container_id) === connection) this.#clients.delete(connection.container_id);
  }
}
