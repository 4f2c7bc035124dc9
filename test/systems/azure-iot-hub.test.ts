// The flow examples/Systems/Azure IoT Hub.json, with doubles of IoT Hub and of the event hub that has its telemetry: it never ran
// with the service itself.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import rhea, { type Message as AmqpMessage } from 'rhea';
import should from 'should';
import { Message } from '../doubles/azure/messages';
import type { Settled } from '../doubles/azure/server';
import { EventHubs } from '../doubles/event-hubs/event-hubs';
import { IotHub, type IotHubOptions, type Telemetry } from '../doubles/iot-hub/iot-hub';
import { idOf, isConnected, loadExample, press, readExample, shown, startExamples } from '../example';
import { message, status } from '../flow';
import helper from '../node-red';

const FILE = 'Systems/Azure IoT Hub.json';
const ID = 'thermometer-1';
const EVENTS = 'event-hub-compatible-name';
const FIXTURES = join(__dirname, '..', 'fixtures');
const [key, cert] = ['server.key', 'server.crt'].map((name) => readFileSync(join(FIXTURES, name)));
const VARIABLES = ['AZURE_IOT_HUB_EVENTS', 'AZURE_IOT_HUB', 'AZURE_IOT_DEVICE', 'AZURE_IOT_DEVICE_ID', 'AZURE_KEY'];
const DEVICE = 'amqp-systems-iot-hub-endpoint-device';

describe('With Azure IoT Hub', () => {
  let hub: IotHub;
  let events: EventHubs;

  startExamples();
  afterEach(async () => {
    for (const variable of VARIABLES) delete process.env[variable];
    await helper.unload();
    await Promise.all([hub.stop(), events.stop()]);
  });

  async function serve(options: Partial<IotHubOptions>): Promise<void> {
    hub = await IotHub.start({ devices: { [ID]: {} }, ...options });
    events = await EventHubs.start({ hubs: { [EVENTS]: { partitions: 4 } } });
    hub.on('telemetry', ({ deviceId, body, properties, annotations }: Telemetry) =>
      put(body as Buffer, deviceId, properties, annotations),
    );
    process.env['AZURE_IOT_HUB_EVENTS'] = events.connectionString(undefined, EVENTS);
    process.env['AZURE_IOT_HUB'] = hub.serviceConnectionString();
    process.env['AZURE_IOT_DEVICE'] = hub.deviceConnectionString(ID);
    process.env['AZURE_IOT_DEVICE_ID'] = ID;
  }

  /** What the device makes of the next command; feedback is settled, too. */
  async function settledByDevice(): Promise<Settled> {
    for (;;) {
      const [settled] = (await once(hub, 'settled')) as [Settled];
      if (settled.address.endsWith('devicebound')) return settled;
    }
  }

  /** Telemetry gets into the event hub, as an IoT hub puts it there. */
  function put(body: Buffer, deviceId: string, properties: object, annotations: object): void {
    const sent = {
      message_annotations: annotations,
      application_properties: properties,
      body: rhea.message.data_section(body),
    } as AmqpMessage;
    events.put(EVENTS, Message.decode(rhea.message.encode(sent)), deviceId);
  }

  describe('by its own ports', () => {
    beforeEach(async () => {
      await serve({ tls: { key: key!, cert: cert! } });
      const trusting = { rejectUnauthorized: false };
      const endpoints = {
        'endpoint-device': trusting,
        'endpoint-service': trusting,
        'endpoint-events': { usetls: false },
      };
      await loadExample(FILE, hub.port, { 'endpoint-events': events.port }, endpoints);
      const used = readExample(FILE).filter(({ type }) => /^amqp-(sender|receiver|requester)$/.test(type));
      await Promise.all(used.map(({ id }) => status(id, '.connected')));
    });

    it('telemetry of a device reaches the service, which is told which device has sent what', async () => {
      const [sent, reported] = [shown('sent'), shown('telemetry')];
      const since = Date.now();
      press('1. 21 degrees');
      should(await sent).match({ sent: { address: `/devices/${ID}/messages/events`, state: 'accepted' } });
      const { payload } = await reported;
      should(payload).match({ device: ID, properties: { room: 'kitchen' }, reading: { degrees: 21 } });
      should(Number((payload as { enqueued: Date }).enqueued)).be.within(since, Date.now());
    });

    it('telemetry that is no JSON is shown, and it goes on', async () => {
      const annotations = { 'iothub-connection-device-id': 'other', 'iothub-enqueuedtime': new Date() };
      const failed = shown('failed');
      put(Buffer.from('21 degrees'), 'other', {}, annotations);
      should(await failed).match({ payload: Buffer.from('21 degrees'), error: { code: 'AMQP_DECODE' } });
      const reported = shown('telemetry');
      put(Buffer.from('{"degrees":22}'), 'other', {}, annotations);
      should((await reported).payload).match({ device: 'other', reading: { degrees: 22 } });
    });

    for (const [button, body, outcome, statusCode] of [
      ['2. switch the lamp on', 'on', 'accepted', 'Success'],
      ['3. dance', 'dance', 'rejected', 'Rejected'],
    ] as const) {
      it(`the command ${body} is ${outcome} by the device, and the service is told so`, async () => {
        const [sent, accepted, feedback] = [
          message(idOf('amqp-sender', 'send commands')),
          shown('accepted'),
          shown('feedback'),
        ];
        const settled = settledByDevice();
        press(button);
        should((await accepted).sent).match({ address: '/messages/devicebound', state: 'accepted' });
        should(await settled).match({ outcome });
        const { message_id: id } = (await sent).amqp!;
        should((await feedback).payload).match([{ originalMessageId: id, deviceId: ID, statusCode }]);
        hub.commands(ID).should.equal(0);
      });
    }

    it('the device reads its twin', async () => {
      hub.setDesired(ID, { interval: 5 });
      const twin = shown('twin');
      press('4. read the twin');
      should((await twin).payload).match({ desired: { interval: 5 }, reported: {} });
    });

    it('the device answers direct methods', async () => {
      should(await hub.invokeMethod(ID, 'lamp')).deepEqual({ status: 200, payload: { lamp: 'off' } });
      const command = shown('command');
      press('2. switch the lamp on');
      await command;
      should(await hub.invokeMethod(ID, 'lamp')).deepEqual({ status: 200, payload: { lamp: 'on' } });
      should(await hub.invokeMethod(ID, 'dance', { times: 3 })).match({ status: 404 });
    });
  });

  it('a device goes by WebSocket, with its key from the environment', async () => {
    await serve({ websocket: true });
    const [, sharedKey] = /SharedAccessKey=(.*)/.exec(hub.deviceConnectionString(ID))!;
    process.env['AZURE_KEY'] = sharedKey;
    const urls = `ws://localhost:${hub.port}/$iothub/websocket`;
    const credentials = { [DEVICE]: { user: `devices/${ID}`, pass: '${AZURE_KEY}' } };
    const endpoints = {
      'endpoint-device': { usetls: false, connectto: 'urls', urls, login: 'sas' },
      'endpoint-service': { autoconnect: false },
      'endpoint-events': { usetls: false },
    };
    await loadExample(FILE, hub.port, { 'endpoint-events': events.port }, endpoints, { credentials });
    await isConnected('amqp-sender', 'telemetry');
    const sent = shown('sent');
    press('1. 21 degrees');
    await sent;
    should(hub.telemetry).match([{ deviceId: ID }]);
  });
});
