/**
 * The side of Eclipse Hono that applications see, written from its description: telemetry, and commands to devices, of one
 * tenant. It shares no code with nodes/.
 */
import { EventEmitter, once } from 'node:events';
import type { AddressInfo, Server } from 'node:net';
import rhea, {
  type Connection,
  type Delivery,
  type EventContext,
  type Message,
  type Receiver,
  type Sender,
} from 'rhea';
import { listenAmqp } from './server';

export interface Command {
  device: string;
  subject: string | undefined;
  payload: string;
  /** where the device's reply goes; undefined: none is wanted */
  replyTo: string | undefined;
}

export interface Reply {
  status: number;
  body: object;
}

/** What a device does with a command: its reply, at once or later. */
export type Device = (command: Command) => Reply | Promise<Reply>;

/** Emits 'command' with each one that reaches a device, and 'released' with the device that one was for and that is not there. */
export class Hono extends EventEmitter<{ command: [Command]; released: [string] }> {
  readonly #server: Server;
  readonly #connections = new Set<Connection>();
  /** Links that applications read from, by address. */
  readonly #readers = new Map<string, Sender>();
  readonly #devices = new Map<string, Device>();

  static async start(tenant: string): Promise<Hono> {
    const { container, server } = await listenAmqp();
    return new Hono(container, server, tenant);
  }

  private constructor(
    container: rhea.Container,
    server: Server,
    private readonly tenant: string,
  ) {
    super();
    this.#server = server;
    for (const event of ['connection_error', 'sender_error', 'receiver_error', 'error']) container.on(event, () => {});
    container.on('connection_open', ({ connection }: EventContext) => this.#connections.add(connection));
    container.on('disconnected', ({ connection }: EventContext) => this.#connections.delete(connection));
    container.on('sender_open', ({ sender }: EventContext) => this.#read(sender!));
    container.on('receiver_open', ({ receiver }: EventContext) => this.#written(receiver!));
    container.on('message', ({ message, delivery }: EventContext) => void this.#command(message!, delivery!));
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const connection of this.#connections) connection.close();
    await closed;
  }

  connect(device: string, does: Device): void {
    this.#devices.set(device, does);
  }

  /** A device reports. */
  report(device: string, body: object): void {
    this.#send(`telemetry/${this.tenant}`, {
      body: dataOf(body),
      content_type: 'application/json',
      creation_time: new Date(),
      application_properties: { device_id: device },
    });
  }

  #read(sender: Sender): void {
    const { address } = sender.source;
    if (address !== `telemetry/${this.tenant}` && !address.startsWith(`command_response/${this.tenant}/`))
      return sender.close({ condition: 'amqp:unauthorized-access', description: address });
    sender.set_source({ address });
    this.#readers.set(address, sender);
  }

  #written(receiver: Receiver): void {
    const { address } = receiver.target;
    if (address !== `command/${this.tenant}`)
      return receiver.close({ condition: 'amqp:unauthorized-access', description: address });
    receiver.set_target({ address });
  }

  async #command(message: Message, delivery: Delivery): Promise<void> {
    const { to = '', subject, reply_to: replyTo, correlation_id = message.message_id } = message;
    const prefix = `command/${this.tenant}/`;
    const device = to.startsWith(prefix) ? to.slice(prefix.length) : '';
    const does = this.#devices.get(device);
    if (!does) {
      delivery.release();
      this.emit('released', device);
      return;
    }
    delivery.accept();
    const payload = String((message.body as { content?: Buffer }).content);
    const command: Command = { device, subject, payload, replyTo };
    this.emit('command', command);
    const reply = await does(command);
    if (replyTo === undefined) return;
    this.#send(replyTo, {
      correlation_id,
      body: dataOf(reply.body),
      content_type: 'application/json',
      application_properties: {
        device_id: device,
        tenant_id: this.tenant,
        status: rhea.types.wrap_int(reply.status),
      },
    });
  }

  /** What nobody reads is lost, as in a network of routers. */
  #send(address: string, message: Message): void {
    this.#readers.get(address)?.send(message);
  }
}

function dataOf(body: object): unknown {
  return rhea.message.data_section(Buffer.from(JSON.stringify(body)));
}
