// Microsoft's clients for services and for devices, which do one request after the other.
import { join } from 'node:path';
import { cached, FIXTURES, run } from '../../brokers/broker';
import { Client } from '../service-bus/client';

/** A command, as the client tells it. */
export interface Received {
  /** stands for it in requests */
  handle: number;
  id: string;
  body: string;
  to: string;
  properties: Record<string, unknown>;
}

const PACKAGES = ['azure-iothub@1.16.6', 'azure-iot-device@1.18.4', 'azure-iot-device-amqp@1.14.4'];

export const NAME = `${PACKAGES[0]} and ${PACKAGES[2]}`;

/** Fetches the clients, which are on a rhea of their own. Rejects with the reason when they cannot be had here. */
export function prepare(): Promise<string> {
  return cached(PACKAGES.join('_'), async (folder) => {
    await run('npm', ['install', '--no-audit', '--no-fund', '--ignore-scripts', '--prefix', folder, ...PACKAGES]);
  });
}

/** A process that is one client, from the folder that `prepare` has filled; it trusts the CA of the tests. */
export function start(folder: string): Client {
  const authority = `NODE_EXTRA_CA_CERTS=${join(FIXTURES, 'ca.crt')}`;
  return new Client(['env', authority, process.execPath, join(__dirname, 'client.mjs'), folder]);
}
