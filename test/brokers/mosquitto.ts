// Mosquitto, which is Debian's, and the MQTT client that Node-RED has, as a device on it.
import type { EventEmitter } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { freePort } from '../../scripts/free-port';
import { nodeRedDir } from '../node-red';
import { type BrokerKind, LocalBroker } from './broker';

const MOSQUITTO = '/usr/sbin/mosquitto';

export const mosquitto = {
  async prepare() {
    if (!existsSync(MOSQUITTO)) throw new Error(`no ${MOSQUITTO} (Debian: apt-get install mosquitto)`);
  },
  start: async () => await new Mosquitto(await freePort()).launch(),
} satisfies BrokerKind;

export class Mosquitto extends LocalBroker<void> {
  readonly version = 'mosquitto';

  constructor(readonly port: number) {
    super('mosquitto');
  }

  async start(): Promise<void> {
    const args = ['-c', join(this.directory, 'mosquitto.conf')];
    await this.server.start(MOSQUITTO, args, { env: process.env }, /mosquitto version \S+ running/);
  }

  /** Ends it as an administrator does, until `start` is called. */
  end(): Promise<void> {
    return this.server.end('SIGTERM');
  }

  /** With limits that are never in the way. It keeps sessions and what is retained, as that of Debian does. */
  protected configure(): void {
    const lines = [
      `listener ${this.port} 127.0.0.1`,
      'allow_anonymous true',
      'max_inflight_messages 0',
      'max_queued_messages 0',
      'set_tcp_nodelay true',
      'persistence true',
      `persistence_location ${this.directory}/`,
      'user root',
    ];
    writeFileSync(join(this.directory, 'mosquitto.conf'), `${lines.join('\n')}\n`);
  }
}

/** What a device is told of a message. */
interface Packet {
  qos: number;
  retain: boolean;
}

export interface MqttClient extends EventEmitter<{ message: [topic: string, payload: Buffer, packet: Packet] }> {
  readonly stream: { destroy(): void };
  publishAsync(topic: string, payload: string, options?: { qos?: number; retain?: boolean }): Promise<unknown>;
  subscribeAsync(topic: string, options?: object): Promise<unknown>;
  endAsync(): Promise<void>;
}

const mqtt: { connectAsync(url: string, options?: object): Promise<MqttClient> } = createRequire(
  join(nodeRedDir, 'package.json'),
)('mqtt');

export function connectMqtt(port: number, options: object = {}): Promise<MqttClient> {
  return mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, options);
}
