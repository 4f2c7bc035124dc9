// The nodes as a device, and as a service, of Azure IoT Hub, with a double of it that its official clients have proved.
// Nothing here has run against the service itself.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import should from 'should';
import { IotHub } from '../doubles/iot-hub/iot-hub';
import { endpointNode, flow, helper, inject, message, node, nodes, send, status } from '../flow';
import type { NodeConfig } from '../node-red';
import { logged, texts, WARN } from '../texts';

const FIXTURES = join(__dirname, '..', 'fixtures');
const [key, cert] = ['server.key', 'server.crt'].map((name) => readFileSync(join(FIXTURES, name)));
/** Both links of a channel say the same. */
const channel = (name: string) =>
  JSON.stringify({
    'com.microsoft:channel-correlation-id': name,
    'com.microsoft:api-version': { $amqp: 'string', value: '2021-04-12' },
  });

/** Asks the twin. */
const ask = async (operation: string, payload: unknown, resource?: string) => {
  const answer = message('outcome');
  const annotations = { operation, ...(resource && { resource }) };
  inject('sender', { payload, amqp: { correlation_id: operation, message_annotations: annotations } });
  return answer;
};

const endpointOf = (properties: object = {}) =>
  endpointNode(5671, { peer: 'iothub', host: '${AMQP_TEST_VALUE}', rejectUnauthorized: false, ...properties });

async function run(connectionString: string, ...configs: NodeConfig[]): Promise<void> {
  process.env['AMQP_TEST_VALUE'] = connectionString;
  helper.settings({ amqpEndpointReconnectTime: 20, amqpEndpointLoginRetryTime: 40 });
  await helper.load([texts, ...nodes], flow(endpointOf(), ...configs));
}

describe('Azure IoT Hub', () => {
  let hub: IotHub;

  before(() => helper.startServer());
  after(() => helper.stopServer());
  beforeEach(async () => {
    hub = await IotHub.start({ devices: { d1: {}, d2: {} }, tls: { key, cert } });
  });
  afterEach(async () => {
    delete process.env['AMQP_TEST_VALUE'];
    delete process.env['AMQP_TEST_DEVICE'];
    await helper.unload();
    await hub.stop();
  });

  const asDevice = (...configs: NodeConfig[]) => run(hub.deviceConnectionString('d1'), ...configs);
  const asService = (...configs: NodeConfig[]) => run(hub.serviceConnectionString(), ...configs);

  describe('has a device that', () => {
    it('sends telemetry', async () => {
      await asDevice(node('amqp-sender', { address: '/devices/d1/messages/events', body: 'json' }));
      should(await send({ payload: { degrees: 21 }, amqp: { application_properties: { room: 'hall' } } })).match({
        sent: { state: 'accepted' },
      });
      should(hub.telemetry).match([{ deviceId: 'd1', properties: { room: 'hall' } }]);
      should(JSON.parse(String(hub.telemetry[0]!.body))).deepEqual({ degrees: 21 });
    });

    it('is no other one', async () => {
      await asDevice(node('amqp-sender', { address: '/devices/d2/messages/events' }));
      await status('sender', 'refused: amqp:unauthorized-access');
    });

    it('gets commands, and says what became of them', async () => {
      const address = '/devices/d1/messages/devicebound';
      await asDevice(node('amqp-receiver', { address, settle: 'flow', wires: [['outcome']] }));
      const received = message('outcome');
      hub.sendCommand('d1', { body: 'on', properties: { lamp: '3' } });
      const command = await received;
      should(command).match({ amqp: { application_properties: { lamp: '3' } } });
      const settled = once(hub, 'settled');
      inject('receiver', command);
      should((await settled)[0]).match({ outcome: 'accepted' });
      should(hub.commands('d1')).equal(0);
    });

    it('asks for its twin, changes it, and is told of changes', async () => {
      const address = '/devices/d1/twin';
      const linkproperties = channel('twin:1');
      await asDevice(
        node('amqp-sender', { address, linkproperties, body: 'json', wires: [] }),
        // Not all answers have a body.
        node('amqp-receiver', { address, linkproperties, output: 'string', wires: [['outcome']] }),
      );
      await Promise.all(['sender', 'receiver'].map((id) => status(id, '.connected')));
      await ask('PATCH', { degrees: 21 }, '/properties/reported');
      should(hub.twin('d1').reported).match({ degrees: 21 });
      const twin = await ask('GET', {});
      should(twin.amqp).match({ correlation_id: 'GET' });
      should(JSON.parse(twin.payload as string)).match({ reported: { degrees: 21 } });
      await ask('PUT', {}, '/notifications/twin/properties/desired');
      const told = message('outcome');
      hub.setDesired('d1', { interval: 5 });
      should(JSON.parse((await told).payload as string)).match({ interval: 5 });
    });

    it('asks for its twin as one asks for a reply', async () => {
      const address = '/devices/d1/twin';
      await asDevice(
        node('amqp-requester', {
          address,
          replyto: 'fixed',
          replyaddress: address,
          linkproperties: channel('twin:2'),
          body: 'json',
          output: 'json',
        }),
      );
      await status('requester', '.connected');
      const reply = message('out');
      inject('requester', { payload: {}, amqp: { message_annotations: { operation: 'GET' } } });
      should(await reply).match({ payload: { desired: {}, reported: {} } });
    });

    it('answers direct methods', async () => {
      const address = '/devices/d1/methods/devicebound';
      const linkproperties = channel('methods:1');
      await asDevice(
        node('amqp-receiver', { address, linkproperties, output: 'json', wires: [['outcome']] }),
        node('amqp-sender', { address, linkproperties, body: 'json', wires: [] }),
      );
      await Promise.all(['sender', 'receiver'].map((id) => status(id, '.connected')));
      const asked = message('outcome');
      const answer = hub.invokeMethod('d1', 'blink', { times: 3 });
      const method = await asked;
      should(method).match({
        payload: { times: 3 },
        amqp: { application_properties: { 'IoThub-methodname': 'blink' } },
      });
      const { correlation_id } = method.amqp!;
      const properties = { 'IoThub-status': 200 };
      inject('sender', { payload: { done: true }, amqp: { correlation_id, application_properties: properties } });
      should(await answer).match({ status: 200, payload: { done: true } });
    });

    it('goes on after idle links, tokens that end, and lost connections', async () => {
      await asDevice(node('amqp-sender', { address: '/devices/d1/messages/events' }));
      await send({ payload: 'a' });
      for (const [payload, misbehave] of [
        ['b', () => hub.detachIdle()],
        ['c', () => hub.expireTokens()],
        ['d', () => hub.dropSockets()],
      ] as const) {
        misbehave();
        await send({ payload });
      }
      should(hub.telemetry.length).be.aboveOrEqual(4);
      should(logged(10)).deepEqual([]);
    });
  });

  describe('has a service that', () => {
    it('sends commands, and is told what became of them', async () => {
      const device = endpointOf({ id: 'device', host: '${AMQP_TEST_DEVICE}' });
      const commands = '/devices/d1/messages/devicebound';
      process.env['AMQP_TEST_DEVICE'] = hub.deviceConnectionString('d1');
      await asService(
        node('amqp-sender', { address: '/messages/devicebound' }),
        node('amqp-receiver', { address: '/messages/serviceBound/feedback', output: 'json', wires: [['outcome']] }),
        device,
        { ...node('amqp-receiver', { endpoint: 'device', address: commands, wires: [[]] }), id: 'lamp' },
      );
      await Promise.all(['sender', 'receiver', 'lamp'].map((id) => status(id, '.connected')));
      const feedback = message('outcome');
      const amqp = { to: commands, message_id: 'c1', application_properties: { 'iothub-ack': 'full' } };
      should(await send({ payload: 'on', amqp })).match({ sent: { state: 'accepted' } });
      should((await feedback).payload).match([{ originalMessageId: 'c1', deviceId: 'd1', statusCode: 'Success' }]);
    });

    it('is told that there is no such device', async () => {
      await asService(node('amqp-sender', { address: '/messages/devicebound' }));
      const caught = message('caught');
      inject('sender', { payload: 'on', amqp: { to: '/devices/nobody/messages/devicebound' } });
      should((await caught).error).match({ code: 'AMQP_REJECTED', message: /amqp:not-found/ });
    });

    it('is refused with a key that is wrong', async () => {
      const wrong = hub.serviceConnectionString().replace(/SharedAccessKey=.*/, 'SharedAccessKey=d3Jvbmc=');
      await run(wrong, node('amqp-sender', { address: '/messages/devicebound' }));
      await status('sender', 'refused: amqp:unauthorized-access');
      should(logged(WARN, 'sender')).match([/InvalidSignature/]);
    });
  });
});
