// Just enough of an MQTT broker for Node-RED's own MQTT nodes, of MQTT 3.1.1 and 5: what is published goes to all subscribers.
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { nodeRedDir } from '../node-red';

type Packet = {
  cmd: string;
  messageId?: number;
  topic?: string;
  payload?: Buffer;
  qos?: number;
  retain?: boolean;
  protocolVersion?: number;
  subscriptions?: Subscription[];
};
type Subscription = { qos: number; rap?: boolean };
type Options = { protocolVersion?: number };
type Mqtt = {
  parser(options: Options): {
    on(event: 'packet', listener: (packet: Packet) => void): void;
    parse(bytes: Buffer): void;
  };
  generate(packet: object, options: Options): Buffer;
};
type Client = { socket: Socket; options: Options; subscription?: Subscription };

// What the client in Node-RED is made of.
const fromMqtt = createRequire(createRequire(join(nodeRedDir, 'package.json')).resolve('mqtt'));
const mqtt: Mqtt = fromMqtt('mqtt-packet');

export class MqttBroker {
  readonly #server: Server;
  readonly #clients = new Set<Client>();

  static async start(): Promise<MqttBroker> {
    const broker = new MqttBroker();
    broker.#server.listen(0, '127.0.0.1');
    await once(broker.#server, 'listening');
    return broker;
  }

  private constructor() {
    this.#server = createServer((socket) => this.#serve(socket));
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** As a client does, to all that have subscribed to anything. */
  publish(topic: string, payload: Buffer | string, { qos = 0, retain = false } = {}): void {
    for (const { socket, options, subscription } of this.#clients) {
      if (!subscription) continue;
      const { rap = false, qos: granted } = subscription;
      const flags = { qos: Math.min(qos, granted), retain: rap && retain, dup: false };
      socket.write(mqtt.generate({ cmd: 'publish', topic, payload, messageId: 1, ...flags }, options));
    }
  }

  async stop(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const { socket } of this.#clients) socket.destroy();
    await closed;
  }

  #serve(socket: Socket): void {
    // The parser and all that is generated go by the version that the client names first.
    const client: Client = { socket, options: {} };
    this.#clients.add(client);
    socket.on('error', () => {});
    socket.on('close', () => this.#clients.delete(client));
    const parser = mqtt.parser(client.options);
    parser.on('packet', (packet) => this.#answer(client, packet));
    socket.on('data', (bytes) => parser.parse(bytes));
  }

  #answer(client: Client, { cmd, messageId, topic, payload, qos = 0, retain, ...packet }: Packet): void {
    const say = (answer: object): void => void client.socket.write(mqtt.generate(answer, client.options));
    if (cmd === 'connect') {
      client.options.protocolVersion = packet.protocolVersion!;
      say({ cmd: 'connack', returnCode: 0, reasonCode: 0, sessionPresent: false });
    }
    if (cmd === 'pingreq') say({ cmd: 'pingresp' });
    if (cmd === 'subscribe') {
      client.subscription = packet.subscriptions![0]!;
      say({ cmd: 'suback', messageId, granted: packet.subscriptions!.map((one) => one.qos) });
    }
    if (cmd === 'unsubscribe') say({ cmd: 'unsuback', messageId, granted: [0] });
    if (cmd === 'publish') {
      if (qos === 1) say({ cmd: 'puback', messageId });
      this.publish(topic!, payload!, { qos, retain });
    }
  }
}
