// Microsoft's clients for services and for devices.
import { javascriptClient } from '../azure/client';

/** A command, as the client tells it. */
export interface Received {
  /** stands for it in requests */
  handle: number;
  id: string;
  body: string;
  to: string;
  properties: Record<string, unknown>;
}

export const javascript = javascriptClient(
  { 'azure-iothub': '1.16.6', 'azure-iot-device': '1.18.4', 'azure-iot-device-amqp': '1.14.4' },
  __dirname,
);
