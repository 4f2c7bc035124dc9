// Microsoft's clients for JavaScript, one for services and one for devices, as a process that is one of them.
import https from 'node:https';
import tls from 'node:tls';
import { load, serve } from '../azure/serve.mjs';

const service = load('azure-iothub');
const device = load('azure-iot-device');
const { Amqp, AmqpWs } = load('azure-iot-device-amqp');
const { Message, NoRetry } = load('azure-iot-common');

let client;
let twin;
/** What was received, by the numbers that stand for it in requests. */
const received = [];

/** What has come, for requests that wait for it. */
class Inbox {
  #items = [];
  #waiting = [];

  put(item) {
    const next = this.#waiting.shift();
    if (next) next(item);
    else this.#items.push(item);
  }

  take() {
    return this.#items.length > 0 ? this.#items.shift() : new Promise((resolve) => this.#waiting.push(resolve));
  }
}
const messages = new Inbox();
const desired = new Inbox();
const disconnects = new Inbox();
const methods = new Inbox();
const feedback = new Inbox();

const message = ({ id, body, ack, expiresAt, contentType, properties = {} }) => {
  const made = new Message(body);
  Object.assign(made, {
    ...(id !== undefined && { messageId: id }),
    ...(ack && { ack }),
    // a Date cannot be encoded by the rhea that they have, and the request would hang
    ...(expiresAt !== undefined && { expiryTimeUtc: expiresAt }),
    ...(contentType && { contentType }),
  });
  for (const [name, value] of Object.entries(properties)) made.properties.add(name, value);
  return made;
};

const told = (each) => ({
  handle: received.push(each) - 1,
  id: each.messageId,
  body: each.getData().toString(),
  to: each.to,
  properties: Object.fromEntries(each.properties.propertyList.map(({ key, value }) => [key, value])),
});

/** The vendor's port is fixed where it speaks WebSocket: an agent dials another. */
const toPort = (port) => {
  const agent = new https.Agent();
  agent.createConnection = (options) => tls.connect({ ...options, port });
  return agent;
};

const operations = {
  async openService(connectionString) {
    client = service.Client.fromConnectionString(connectionString);
    client.setRetryPolicy(new NoRetry());
    await client.open();
  },

  async sendCommand(deviceId, command) {
    await client.send(deviceId, message(command));
  },

  async watchFeedback() {
    const { result } = await client.getFeedbackReceiver();
    result.on('message', (each) => feedback.put({ type: each.contentType, records: JSON.parse(each.getData()) }));
  },
  feedback: () => feedback.take(),

  async watchFiles() {
    await client.getFileNotificationReceiver();
  },

  async open(connection, { signature = false, websocketPort } = {}) {
    const transport = websocketPort === undefined ? Amqp : AmqpWs;
    const { Client } = device;
    client = signature
      ? Client.fromSharedAccessSignature(connection, transport)
      : Client.fromConnectionString(connection, transport);
    client.setRetryPolicy(new NoRetry());
    client.on('error', () => {});
    client.on('disconnect', () => disconnects.put(null));
    if (websocketPort !== undefined) {
      await client.setOptions({ amqp: { webSocketAgent: toPort(websocketPort) } });
    }
    await client.open();
  },
  disconnected: () => disconnects.take(),

  async renew(signature) {
    await client.updateSharedAccessSignature(signature);
  },

  async send(telemetry) {
    await client.sendEvent(message(telemetry));
  },

  listen() {
    client.on('message', (each) => messages.put(told(each)));
  },
  receive: () => messages.take(),
  async settle(handle, outcome) {
    await client[outcome](received[handle]);
  },

  onMethod(name, status, payload) {
    client.onDeviceMethod(name, async (request, response) => {
      await response.send(status, payload);
      methods.put({ name: request.methodName, payload: request.payload });
    });
  },
  method: () => methods.take(),

  async twin() {
    twin = await client.getTwin();
    const { desired: wanted, reported } = twin.properties;
    return JSON.parse(JSON.stringify({ desired: wanted, reported }));
  },
  report(patch) {
    return new Promise((resolve, reject) => {
      twin.properties.reported.update(patch, (error) => (error ? reject(error) : resolve()));
    });
  },
  watchDesired() {
    twin.on('properties.desired', (patch) => desired.put(patch));
  },
  desired: () => desired.take(),

  async close() {
    await client?.close();
    client = undefined;
  },
};

await serve(operations);
