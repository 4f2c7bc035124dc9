// Just enough of an MQTT broker for Node-RED's own MQTT nodes: what is published goes to all subscribers.
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
  subscriptions?: object[];
};
type Mqtt = {
  parser(): { on(event: 'packet', listener: (packet: Packet) => void): void; parse(bytes: Buffer): void };
  generate(packet: object): Buffer;
};

// What the client in Node-RED is made of.
const fromMqtt = createRequire(createRequire(join(nodeRedDir, 'package.json')).resolve('mqtt'));
const mqtt: Mqtt = fromMqtt('mqtt-packet');

export class MqttBroker {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #subscribers = new Set<Socket>();

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
  publish(topic: string, payload: Buffer | string): void {
    const packet = { cmd: 'publish', topic, payload, qos: 0, retain: false, dup: false };
    for (const subscriber of this.#subscribers) subscriber.write(mqtt.generate(packet));
  }

  async stop(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#sockets.delete(socket);
      this.#subscribers.delete(socket);
    });
    const parser = mqtt.parser();
    parser.on('packet', (packet) => this.#answer(socket, packet));
    socket.on('data', (bytes) => parser.parse(bytes));
  }

  #answer(socket: Socket, { cmd, messageId, topic, payload, qos, subscriptions }: Packet): void {
    const say = (packet: object): void => void socket.write(mqtt.generate(packet));
    if (cmd === 'connect') say({ cmd: 'connack', returnCode: 0, sessionPresent: false });
    if (cmd === 'pingreq') say({ cmd: 'pingresp' });
    if (cmd === 'subscribe') {
      this.#subscribers.add(socket);
      say({ cmd: 'suback', messageId, granted: subscriptions!.map(() => 0) });
    }
    if (cmd === 'unsubscribe') say({ cmd: 'unsuback', messageId });
    if (cmd === 'publish') {
      if (qos === 1) say({ cmd: 'puback', messageId });
      this.publish(topic!, payload!);
    }
  }
}
