// The double of Azure IoT Hub, with Microsoft's own clients, which know nothing of it, and with a client that is only AMQP.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import rhea, { type Connection, type EventContext, type Receiver, type Sender } from 'rhea';
import should from 'should';
import { type Driver, refused } from '../doubles/azure/client';
import type { LinkInfo, Settled } from '../doubles/azure/server';
import { sign } from '../doubles/iot-hub/authorization';
import { javascript, type Received } from '../doubles/iot-hub/client';
import { type FeedbackRecord, IotHub, type IotHubOptions } from '../doubles/iot-hub/iot-hub';
import { secretOf } from '../secrets';
import { FIXTURES } from './broker';
import { startBefore } from './microsoft';

const secure = {
  key: readFileSync(join(FIXTURES, 'server.key')),
  cert: readFileSync(join(FIXTURES, 'server.crt')),
};

/** What a promise rejects with. */
async function failure(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => should.fail(undefined, undefined, 'it did not fail'),
    (reason: unknown) => reason,
  );
}

/** The first event of this name for which the test holds. */
async function next<T>(hub: IotHub, event: string, is: (value: T) => boolean): Promise<T> {
  for (;;) {
    const [value] = (await once(hub, event)) as [T];
    if (is(value)) return value;
  }
}

const attached = (hub: IotHub, address: string, role: LinkInfo['role']) =>
  next<LinkInfo>(hub, 'attach', (link) => link.address === address && link.role === role);

/** A connection of rhea, which has the trust that the test needs, and no more. */
async function connect(hub: IotHub, username?: string, password?: string): Promise<Connection> {
  const connection = rhea.create_container().connect({
    transport: 'tls',
    host: 'localhost',
    port: hub.port,
    ca: readFileSync(join(FIXTURES, 'ca.crt')),
    reconnect: false,
    username: username ?? 'anonymous',
    password,
  });
  connection.on('disconnected', () => {});
  await new Promise((resolve, reject) => {
    connection.once('connection_open', resolve);
    connection.once('connection_error', ({ error }: EventContext) => reject(error as Error));
  });
  return connection;
}

/** Rejects with the condition when the link is refused. */
async function opened<T extends Sender | Receiver>(link: T): Promise<T> {
  const side = link.is_sender() ? 'sender' : 'receiver';
  await new Promise<void>((resolve, reject) => {
    link.once(`${side}_error`, () => reject((link as unknown as Sender).error as Error));
    // what refuses a link answers its attach first, without the node
    link.once(`${side}_open`, () => {
      const { address } = (link.is_sender() ? link.target : link.source) as { address?: string };
      if (address) resolve();
    });
  });
  return link;
}

/** What becomes of a message: its outcome, or the condition of its rejection. */
async function sent(sender: Sender, message: rhea.Message): Promise<string> {
  const delivery = sender.send(message);
  return new Promise((resolve) => {
    for (const outcome of ['accepted', 'rejected', 'released']) {
      sender.once(outcome, (context: EventContext) => {
        const state = delivery.remote_state as { error?: { condition: string } } | undefined;
        if (context.delivery === delivery) resolve(state?.error?.condition ?? outcome);
      });
    }
  });
}

async function messageOf(receiver: Receiver): Promise<rhea.Message> {
  const [{ message }] = (await once(receiver, 'message')) as [EventContext];
  return message!;
}

const bytesOf = (value: unknown) => rhea.message.data_section(Buffer.from(JSON.stringify(value)));

/** The two links of a channel for the twin, or for methods. */
async function channel(connection: Connection, address: string, properties: object): Promise<[Sender, Receiver]> {
  const modes = { snd_settle_mode: 1, rcv_settle_mode: 0 } as const;
  const options = { properties, ...(address.endsWith('/twin') && modes) };
  const sender = await opened(connection.open_sender({ target: address, ...options }));
  const receiver = await opened(connection.open_receiver({ source: address, ...options }));
  return [sender, receiver];
}

/** The outcome; rhea makes it, and does not say so in its typings. */
const accepted = (rhea.message as unknown as { accepted(fields: object): { described(): object } }).accepted({});

const keyOf = (kind: string) => Buffer.from(secretOf(kind)).toString('base64');

describe(`double of Azure IoT Hub, with ${javascript.name}`, () => {
  let hub: IotHub;
  let device: Driver;
  let service: Driver;

  startBefore(javascript, (started) => {
    device = started;
  });
  startBefore(javascript, (started) => {
    service = started;
  });

  async function startHub(options: Partial<IotHubOptions> = {}): Promise<void> {
    hub = await IotHub.start({ devices: { d1: {}, d2: {} }, tls: secure, ...options });
  }
  afterEach(async () => {
    await device.call('close');
    await service.call('close');
    await hub.stop();
  });

  const openDevice = () => device.call('open', hub.deviceConnectionString('d1'));
  const openService = () => service.call('openService', hub.serviceConnectionString());
  async function listen(): Promise<void> {
    const ready = attached(hub, 'devices/d1/messages/devicebound', 'receiver');
    await device.call('listen');
    await ready;
  }
  async function settled(handle: number, outcome: string): Promise<Settled> {
    const told = once(hub, 'settled') as Promise<[Settled]>;
    await device.call('settle', handle, outcome);
    return (await told)[0];
  }

  async function commandOf(options: object = {}): Promise<Received> {
    await service.call('sendCommand', 'd1', { id: 'c1', body: 'grüße', ack: 'full', ...options });
    return device.call<Received>('receive');
  }
  async function feedback(): Promise<FeedbackRecord[]> {
    const { type, records } = await service.call<{ type: string; records: FeedbackRecord[] }>('feedback');
    type.should.equal('application/vnd.microsoft.iothub.feedback.json');
    return records;
  }
  async function openAll(options?: Partial<IotHubOptions>): Promise<void> {
    await startHub(options);
    await openDevice();
    await openService();
    await listen();
    await service.call('watchFeedback');
  }
  async function onMethod(status: number, payload: unknown): Promise<void> {
    const ready = attached(hub, 'devices/d1/methods/devicebound', 'receiver');
    await device.call('onMethod', 'reboot', status, payload);
    await ready;
  }

  it('has telemetry, with properties, and what the service adds', async () => {
    await startHub();
    await openDevice();
    const sentAt = Date.now();
    const telemetry = { id: 't1', body: '{"t":21}', contentType: 'application/json', properties: { kind: 'heat' } };
    await device.call('send', telemetry);
    await device.call('send', { body: 'second' });
    hub.telemetry.map(({ body }) => String(body)).should.eql(['{"t":21}', 'second']);
    const { deviceId, properties, annotations, message } = hub.telemetry[0]!;
    deviceId.should.equal('d1');
    properties.should.eql({ kind: 'heat' });
    message.should.match({ message_id: 't1', content_type: 'application/json', to: '/devices/d1/messages/events' });
    annotations.should.match({ 'iothub-connection-device-id': 'd1', 'iothub-message-source': 'Telemetry' });
    Number(annotations['iothub-enqueuedtime']).should.be.within(sentAt, Date.now());
  });

  it('refuses telemetry that is too large', async () => {
    await startHub({ maxMessageSize: 1000 });
    await openDevice();
    (await refused(device.call('send', { body: 'x'.repeat(1000) }))).should.match(/^MessageTooLargeError: /);
    hub.telemetry.should.eql([]);
  });

  describe('commands', () => {
    it('go from the service to the device, and feedback comes back', async () => {
      await openAll();
      const sentAt = Date.now();
      const received = await commandOf({ properties: { a: 'b' } });
      received.should.match({
        id: 'c1',
        body: 'grüße',
        to: '/devices/d1/messages/devicebound',
        properties: { a: 'b' },
      });
      hub.commands('d1').should.equal(1);
      (await settled(received.handle, 'complete')).outcome.should.equal('accepted');
      hub.commands('d1').should.equal(0);
      const [record, ...more] = await feedback();
      more.should.eql([]);
      record!.should.match({ originalMessageId: 'c1', deviceId: 'd1', statusCode: 'Success', description: 'Success' });
      Date.parse(record!.enqueuedTimeUtc).should.be.within(sentAt, Date.now());
    });

    it('that are abandoned come again, until there were too many deliveries', async () => {
      await openAll({ maxDeliveryCount: 2 });
      const first = await commandOf();
      (await settled(first.handle, 'abandon')).outcome.should.equal('released');
      const second = await device.call<Received>('receive');
      second.should.match({ id: 'c1', body: 'grüße' });
      await device.call('settle', second.handle, 'abandon');
      (await feedback()).should.match([{ originalMessageId: 'c1', statusCode: 'DeliveryCountExceeded' }]);
      hub.commands('d1').should.equal(0);
    });

    it('that are rejected do not come again', async () => {
      await openAll();
      const received = await commandOf();
      (await settled(received.handle, 'reject')).outcome.should.equal('rejected');
      (await feedback()).should.match([{ originalMessageId: 'c1', statusCode: 'Rejected' }]);
      hub.commands('d1').should.equal(0);
    });

    it('expire while nobody takes them', async () => {
      await startHub();
      await openService();
      await service.call('watchFeedback');
      await service.call('sendCommand', 'd1', { id: 'c1', body: 'a', ack: 'negative', expiresAt: Date.now() + 100 });
      (await feedback()).should.match([{ originalMessageId: 'c1', statusCode: 'Expired' }]);
      hub.commands('d1').should.equal(0);
    });

    it('have feedback only of the outcomes that it is wanted of', async () => {
      await openAll();
      for (const ack of ['none', 'negative', 'positive']) {
        const { handle } = await commandOf({ id: ack, ack });
        await settled(handle, 'complete');
      }
      (await feedback()).map(({ originalMessageId: id }) => id).should.eql(['positive']);
    });

    it('wait for a device that is not there, and are refused when they are too many', async () => {
      await startHub({ maxCommands: 1 });
      await openService();
      await service.call('sendCommand', 'd1', { id: 'c1', body: 'a' });
      const tooMany = service.call('sendCommand', 'd1', { id: 'c2', body: 'b' });
      (await refused(tooMany)).should.match(/^DeviceMaximumQueueDepthExceededError: /);
      await openDevice();
      await listen();
      (await device.call<Received>('receive')).id.should.equal('c1');
    });

    it('are refused where there is no such device', async () => {
      await startHub();
      await openService();
      const unknown = service.call('sendCommand', 'nobody', { id: 'c1', body: 'a' });
      (await refused(unknown)).should.match(/^DeviceNotFoundError: /);
    });

    it('can come from the test itself', async () => {
      await openAll();
      const id = hub.sendCommand('d1', { body: 'a', properties: { n: 'x' }, ack: 'positive' });
      const received = await device.call<Received>('receive');
      received.should.match({ id, body: 'a', properties: { n: 'x' } });
      await settled(received.handle, 'complete');
      (await feedback()).should.match([{ originalMessageId: id, statusCode: 'Success' }]);
    });
  });

  describe('twin', () => {
    it('is read, and reports', async () => {
      await startHub();
      hub.setDesired('d1', { interval: 10, unit: { name: 'C' } });
      await openDevice();
      const { desired } = await device.call<{ desired: object }>('twin');
      desired.should.eql({ interval: 10, unit: { name: 'C' }, $version: 2 });
      await device.call('report', { interval: 10, gone: 1, nested: { a: 1, b: 2 } });
      await device.call('report', { gone: null, nested: { b: null, c: 3 } });
      hub.twin('d1').reported.should.eql({ interval: 10, nested: { a: 1, c: 3 }, $version: 3 });
      hub.twin('d2').reported.should.eql({ $version: 1 });
    });

    it('tells what is changed once the device has asked for it', async () => {
      await startHub();
      hub.setDesired('d1', { interval: 10 });
      await openDevice();
      await device.call('twin');
      const notifying = once(hub, 'notifying');
      await device.call('watchDesired');
      should(await device.call('desired')).eql({ interval: 10, $version: 2 }); // as it was read
      (await notifying).should.eql(['d1', true]);
      hub.setDesired('d1', { interval: 20 });
      should(await device.call('desired')).eql({ interval: 20, $version: 3 });
      hub.setDesired('d2', { interval: 30 });
      hub.setDesired('d1', { interval: null });
      should(await device.call('desired')).eql({ interval: null, $version: 4 });
      hub.twin('d1').desired.should.eql({ $version: 4 });
    });
  });

  describe('methods', () => {
    it('are answered by the device, several at once', async () => {
      await startHub();
      await openDevice();
      await onMethod(207, { done: true });
      const [one, other] = await Promise.all([
        hub.invokeMethod('d1', 'reboot', { in: 5 }),
        hub.invokeMethod('d1', 'reboot'),
      ]);
      one.should.eql({ status: 207, payload: { done: true } });
      other.should.eql(one);
      should(await device.call('method')).eql({ name: 'reboot', payload: { in: 5 } });
      should(await device.call('method')).eql({ name: 'reboot', payload: null });
    });

    it('fail where the device is not there, or does not answer', async () => {
      await startHub();
      await openDevice();
      should(await failure(hub.invokeMethod('d1', 'reboot'))).have.property('status', 404);
      await onMethod(200, null);
      const unknown = hub.invokeMethod('d1', 'unknown', null, { timeout: 100 });
      should(await failure(unknown)).have.property('status', 504);
      await device.call('close');
      should(await failure(hub.invokeMethod('d1', 'reboot'))).have.property('status', 404);
    });
  });

  describe('refuses', () => {
    it('a device with a wrong key, or one that it does not know', async () => {
      await startHub();
      const right = hub.deviceConnectionString('d1');
      const status = once(hub, 'token');
      const wrongKey = right.replace(/SharedAccessKey=.*/, `SharedAccessKey=${keyOf('wrong key')}`);
      (await refused(device.call('open', wrongKey))).should.match(/^UnauthorizedError: /);
      (await status)[1].should.equal(401);
      const unknown = right.replace('DeviceId=d1', 'DeviceId=d3');
      (await refused(device.call('open', unknown))).should.match(/^UnauthorizedError: /);
    });

    it('a signature that has expired, or is of another device', async () => {
      await startHub();
      const expired = hub.deviceSignature('d1', { life: -1000 });
      const forged = hub.deviceSignature('d2').replace('devices%2Fd2', 'devices%2Fd1');
      for (const signature of [expired, forged]) {
        const opening = device.call('open', signature, { signature: true });
        (await refused(opening)).should.match(/^UnauthorizedError: /);
      }
    });

    it('a service whose policy does not let it connect', async () => {
      await startHub({ policies: { device: { key: keyOf('device policy'), rights: ['DeviceConnect'] } } });
      await openService();
      const command = service.call('sendCommand', 'd1', { id: 'c1', body: 'a' });
      (await refused(command)).should.match(/^UnauthorizedError: /);
      hub.commands('d1').should.equal(0);
    });
  });

  it('lets a device send on after its links were idle, its token was over, or its connection was lost', async () => {
    await startHub();
    await openDevice();
    const misbehave = [() => hub.detachIdle(), () => hub.expireTokens(), () => hub.dropSockets()];
    for (const [i, each] of misbehave.entries()) {
      await device.call('send', { body: `before ${i}` });
      each();
      await device.call('disconnected');
      await device.call('send', { body: `after ${i}` });
    }
    hub.telemetry.should.have.length(6);
  });

  it('has file notifications that can be waited for', async () => {
    await startHub();
    await openService();
    const ready = attached(hub, 'messages/serviceBound/filenotifications', 'receiver');
    await service.call('watchFiles');
    await ready;
  });

  it('speaks AMQP over WebSocket', async () => {
    await startHub({ websocket: true });
    // the client builds the URL without a port of its own
    const connectionString = hub.deviceConnectionString('d1').replace(`:${hub.port}`, '');
    await device.call('open', connectionString, { websocketPort: hub.port });
    await device.call('send', { body: 'over a WebSocket' });
    String(hub.telemetry[0]!.body).should.equal('over a WebSocket');
  });
});

describe('double of Azure IoT Hub, with a client that is only AMQP', () => {
  let hub: IotHub;
  const connections: Connection[] = [];
  const policies: IotHubOptions['policies'] = {
    iothubowner: { key: keyOf('owner key') },
    device: { key: keyOf('device policy'), rights: ['DeviceConnect'] },
    service: { key: keyOf('service policy'), rights: ['ServiceConnect'] },
  };
  const events = { hostname: 'hub.example', port: 5671, name: 'telemetry' };

  beforeEach(async () => {
    hub = await IotHub.start({ devices: { d1: { key: keyOf('d1') }, d2: {} }, policies, events, tls: secure });
  });
  afterEach(async () => {
    for (const connection of connections.splice(0)) connection.close();
    await hub.stop();
  });

  async function open(username?: string, password?: string): Promise<Connection> {
    const connection = await connect(hub, username, password);
    connections.push(connection);
    return connection;
  }
  const asDevice = () => open('d1@sas.localhost', hub.deviceSignature('d1'));
  const withPolicy = (policy: string) => open(`${policy}@sas.root.localhost`, hub.serviceSignature({ policy }));

  it('logs in by PLAIN with a signature: as a device, and as a service', async () => {
    const device = await asDevice();
    const commands = await opened(device.open_receiver('/devices/d1/messages/devicebound'));
    const telemetry = await opened(device.open_sender('/devices/d1/messages/events'));
    (await sent(telemetry, { body: 'a value' })).should.equal('accepted');
    hub.telemetry[0]!.should.match({ deviceId: 'd1', body: 'a value' });
    const service = await opened((await withPolicy('iothubowner')).open_sender('/messages/devicebound'));
    const command = messageOf(commands);
    (await sent(service, { to: '/devices/d1/messages/devicebound', body: 'b' })).should.equal('accepted');
    (await command).should.match({ body: 'b', delivery_count: 0, message_annotations: { 'x-opt-sequence-number': 1 } });
    (await sent(service, { to: '/devices/d3/messages/devicebound', body: 'b' })).should.equal('amqp:not-found');
  });

  it('is refused with the signature of another device, one that has expired, or none', async () => {
    const condition = 'amqp:unauthorized-access';
    const wrong = [
      hub.deviceSignature('d2'),
      hub.deviceSignature('d1', { life: -1000 }),
      sign('elsewhere/devices/d1', keyOf('d1'), Date.now() + 60_000),
      keyOf('d1'),
    ];
    for (const password of wrong) {
      should(await failure(open('d1@sas.localhost', password))).have.property('condition', condition);
    }
    const right = hub.deviceSignature('d1');
    should(await failure(open('d1@sas.elsewhere', right))).have.property('condition', condition);
    const stranger = await open();
    should(await failure(opened(stranger.open_sender('/devices/d1/messages/events')))).have.property(
      'condition',
      condition,
    );
    const device = await asDevice();
    for (const address of ['/devices/d2/messages/events', '/devices/d3/messages/events', '/messages/devicebound']) {
      should(await failure(opened(device.open_sender(address)))).have.property('condition', condition);
    }
  });

  it('may do what its policy says', async () => {
    const [device, service] = [await withPolicy('device'), await withPolicy('service')];
    await opened(device.open_sender('/devices/d2/messages/events'));
    await opened(service.open_receiver('/messages/serviceBound/feedback'));
    const foreign = [
      [device, '/messages/devicebound'],
      [service, '/devices/d2/messages/events'],
    ] as const;
    for (const [connection, address] of foreign) {
      const error = await failure(opened(connection.open_sender(address)));
      should(error).have.property('condition', 'amqp:unauthorized-access');
    }
    const foreignSignature = open('service@sas.root.localhost', hub.serviceSignature({ policy: 'device' }));
    should(await failure(foreignSignature)).have.property('condition', 'amqp:unauthorized-access');
  });

  it('sends telemetry in batches', async () => {
    const sender = await opened((await asDevice()).open_sender('/devices/d1/messages/events'));
    const messages = ['a', 'b'].map((body) => rhea.message.encode({ body, message_annotations: { 'x-mine': body } }));
    const batch = rhea.message.encode({ body: rhea.message.data_sections(messages) });
    const taken = once(sender, 'accepted');
    sender.send(batch, undefined, 0x80013700);
    await taken;
    hub.telemetry.map(({ body }) => body).should.eql(['a', 'b']);
    hub.telemetry[1]!.annotations.should.match({ 'x-mine': 'b', 'iothub-connection-device-id': 'd1' });
  });

  it('is told where to read telemetry', async () => {
    const address = '/messages/events/ConsumerGroups/$Default/Partitions/0';
    const receiver = (await withPolicy('service')).open_receiver(address);
    should(await failure(opened(receiver))).match({
      condition: 'amqp:link:redirect',
      info: {
        hostname: 'hub.example',
        'network-host': 'hub.example',
        port: 5671,
        address: 'amqps://hub.example:5671/telemetry/ConsumerGroups/$Default/Partitions/0',
      },
    });
    const stranger = (await asDevice()).open_receiver(address);
    should(await failure(opened(stranger))).have.property('condition', 'amqp:unauthorized-access');
  });

  it('brings a token, which is good until it ends', async () => {
    const connection = await open();
    const answers = await opened(connection.open_receiver('$cbs'));
    const requests = await opened(connection.open_sender('$cbs'));
    const put = async (name: string, body: string, type = 'servicebus.windows.net:sastoken') => {
      const answer = messageOf(answers);
      requests.send({ message_id: 'm1', body, application_properties: { operation: 'put-token', type, name } });
      const { correlation_id: id, application_properties: properties } = await answer;
      should(id).equal('m1');
      return properties!['status-code'] as number;
    };
    const audience = `${hub.hostName}/devices/d1`;
    (await put(audience, hub.deviceSignature('d1'), 'jwt')).should.equal(400);
    (await put(audience, hub.deviceSignature('d2'))).should.equal(401);
    (await put(`${hub.hostName}/devices/d2`, hub.deviceSignature('d1'))).should.equal(401);
    (await put(audience, hub.deviceSignature('d1'))).should.equal(200);
    const sender = await opened(connection.open_sender('/devices/d1/messages/events'));
    (await put(audience, hub.deviceSignature('d1', { life: 2000 }))).should.equal(200);
    await once(sender, 'sender_error');
    should(sender.error).have.property('condition', 'amqp:unauthorized-access');
  });

  it('must say which channel its links for the twin are of', async () => {
    const device = await asDevice();
    const id = { 'com.microsoft:channel-correlation-id': 'twin:1' };
    for (const properties of [{}, id, { ...id, 'com.microsoft:channel-correlation-id': 'methods:1' }]) {
      const error = await failure(channel(device, '/devices/d1/twin', properties));
      should(error).have.property('condition', 'com.microsoft:argument-error');
    }
  });

  it('reads its twin, and is told what is wrong with a request', async () => {
    const device = await asDevice();
    const properties = { 'com.microsoft:channel-correlation-id': 'twin:1', 'com.microsoft:api-version': '2021-04-12' };
    const [requests, answers] = await channel(device, '/devices/d1/twin', properties);
    const ask = async (annotations: object, body: unknown = {}) => {
      const answer = messageOf(answers);
      requests.send({ correlation_id: 'r1', message_annotations: annotations, body: bytesOf(body) });
      const message = await answer;
      should(message.correlation_id).equal('r1');
      return message;
    };
    const read = await ask({ operation: 'GET' });
    read.message_annotations!.should.have.property('status', 200);
    JSON.parse(String(read.body.content)).should.eql({ desired: { $version: 1 }, reported: { $version: 1 } });
    const reported = await ask({ operation: 'PATCH', resource: '/properties/reported' }, { a: 1 });
    reported.message_annotations!.should.eql({ status: 200, version: 2 });
    const status = async (annotations: object, body?: unknown) =>
      (await ask(annotations, body)).message_annotations!['status'];
    should(await status({ operation: 'PATCH', resource: '/properties/reported' }, [1])).equal(400);
    should(await status({ operation: 'PATCH', resource: '/properties/desired' })).equal(400);
    should(await status({ 'x-operation': 'GET' })).equal(400);
    hub.setDesired('d1', { a: 1 }); // what is not told yet would come before the next answer
    const resource = '/notifications/twin/properties/desired';
    should(await status({ operation: 'PUT', resource })).equal(200);
    const told = messageOf(answers);
    hub.setDesired('d1', { b: 2 });
    const change = await told;
    should(change.correlation_id).equal(undefined);
    change.message_annotations!.should.eql({ resource: '/properties/desired', version: 3 });
    JSON.parse(String(change.body.content)).should.eql({ b: 2, $version: 3 });
    should(await status({ operation: 'DELETE', resource })).equal(200);
    hub.setDesired('d1', { b: 3 });
    should(await status({ operation: 'GET' })).equal(200);
  });

  it('answers methods with an int and the uuid that it got', async () => {
    const device = await asDevice();
    const properties = {
      'com.microsoft:channel-correlation-id': 'methods:1',
      'com.microsoft:api-version': '2021-04-12',
    };
    const [answers, requests] = await channel(device, '/devices/d1/methods/devicebound', properties);
    const request = messageOf(requests);
    const result = hub.invokeMethod('d1', 'reboot', { in: 5 });
    const { correlation_id: id, application_properties: named, body } = await request;
    named!.should.eql({ 'IoThub-methodname': 'reboot' });
    JSON.parse(String(body.content)).should.eql({ in: 5 });
    const answer = async (correlationId: typeof id, status: unknown) =>
      sent(answers, {
        correlation_id: correlationId,
        application_properties: { 'IoThub-status': status },
        body: bytesOf({ done: true }),
      });
    (await answer(id, rhea.types.wrap_double(200))).should.equal('amqp:invalid-field');
    (await answer(rhea.uuid_to_string(id as Buffer), rhea.types.wrap_int(200))).should.equal('amqp:invalid-field');
    (await answer(id, rhea.types.wrap_int(200))).should.equal('accepted');
    (await result).should.eql({ status: 200, payload: { done: true } });
  });

  it('is told that it was too late with an outcome, if it waits for that', async () => {
    const device = await asDevice();
    const receiver = device.open_receiver({
      source: '/devices/d1/messages/devicebound',
      rcv_settle_mode: 1,
      autoaccept: false,
    });
    await opened(receiver);
    const delivered = once(receiver, 'message') as Promise<[EventContext]>;
    hub.sendCommand('d1', { body: 'a' });
    const [{ delivery }] = await delivered;
    should(delivery!.tag).have.length(16);
    hub.expireLocks('d1');
    const told = once(hub, 'settled') as Promise<[Settled]>;
    delivery!.update(false, accepted.described());
    (await told)[0].should.match({ outcome: 'accepted', error: 'com.microsoft:message-lock-lost' });
    hub.commands('d1').should.equal(1);
  });
});
