// The flows of the how-to pages in docs. Those for Azure run with doubles of the services: only TLS is switched off, which most
// of these do not have, and no certificate is verified. Nothing here has run against the services themselves. The others run
// with the embedded broker, or with clients of their own; only the port is another one.
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import rhea, { type Connection, type EventContext, type Message, type Source } from 'rhea';
import should from 'should';
import { Broker, type BrokerOptions } from '../../broker/broker';
import { freePort } from '../../scripts/free-port';
import { EventHubs } from '../doubles/event-hubs/event-hubs';
import { IotHub } from '../doubles/iot-hub/iot-hub';
import { ServiceBus } from '../doubles/service-bus/service-bus';
import { exampleFiles, readExample, startHelper } from '../example';
import { collect, inject, message, messages, type Msg, nodes, status } from '../flow';
import helper, { coreNode, type NodeConfig } from '../node-red';

const CORE = [
  'common/20-inject',
  'common/21-debug',
  'common/24-complete',
  'common/25-catch',
  'common/90-comment',
  'common/91-global-config',
  'function/10-function',
  'function/10-switch',
  'function/15-change',
  'sequence/17-split',
].map(coreNode);

const root = join(__dirname, '..', '..');
const docs = join(root, 'docs');
const folder = join(docs, 'flows');
const files = readdirSync(folder).toSorted();
const read = (file: string): NodeConfig[] => JSON.parse(readFileSync(join(folder, file), 'utf8'));
const textOf = (file: string) => readFileSync(join(docs, file), 'utf8');
const ofAzure = files.filter((file) => file.startsWith('azure-'));
/** The page that is about a flow, where it does not have its name. */
const PAGES: Record<string, string> = {
  'azure-iot-device.json': 'azure-iot-hub.md',
  'groups.json': 'receiving.md',
  'rabbitmq-management.json': 'requests.md',
  'several-replies.json': 'requests.md',
  'subscriptions.json': 'receiving.md',
  'together.json': 'receiving.md',
};
const pageOf = (file: string) => PAGES[file] ?? file.replace(/json$/, 'md');
const [key, cert] = ['server.key', 'server.crt'].map((name) => readFileSync(join(root, 'test', 'fixtures', name)));

let flow: NodeConfig[];

/** A node of the flow, by its type and name. */
function idOf(type: string, name: string): string {
  const found = flow.find((candidate) => candidate.type === type && candidate['name'] === name);
  if (!found) throw new Error(`there is no ${type} ${name}`);
  return found.id;
}

/** Presses the button of an inject node. */
const press = (name: string) => helper.getNode(idOf('inject', name)).receive({});
/** The next message that a debug node shows. */
const shown = (name: string) => message(idOf('debug', name));
const isConnected = (type: string, name: string) => status(idOf(type, name), '.connected');

/** A flow as it is imported, with what the environment says; `more`: nodes of the test. */
async function load(file: string, variable: string, connectionString: string, more: NodeConfig[] = []): Promise<void> {
  process.env[variable] = connectionString;
  await loadWith(file, {}, more);
}

/** A flow with an endpoint that has these properties. */
async function loadWith(
  file: string,
  endpoint: object,
  more: NodeConfig[] = [],
  credentials: object = {},
): Promise<void> {
  flow = [...read(file), ...more];
  for (const node of flow) {
    if (node.type === 'amqp-endpoint') Object.assign(node, { usetls: false }, endpoint);
    if (node.type === 'tab') node['disabled'] = false;
  }
  helper.settings({ amqpEndpointReconnectTime: 20, amqpEndpointLoginRetryTime: 40 });
  await helper.load([...nodes, ...CORE], flow, credentials);
}

/** Deploys the flow with a node that has these properties now. */
async function deploy(id: string, properties: object): Promise<void> {
  flow = flow.map((node) => (node.id === id ? { ...node, ...properties } : node));
  await helper.setFlows(flow, 'nodes');
}

/** An order goes all its way. */
const isProcessed = async () => {
  await isConnected('amqp-receiver', 'orders');
  const processed = shown('processed');
  press('an order');
  should(await processed).match({ payload: { state: 'processed' } });
};

/** Of a client of rhea's. */
const next = async (from: NodeJS.EventEmitter, event: string) => (await once(from, event))[0] as EventContext;

/** Of an event. */
const degrees = ({ payload }: Msg) => (payload as { degrees: number }).degrees;

/** What an IoT hub makes of the message of a device. */
const give = (payload: unknown, time = Date.now()) =>
  inject('devices', {
    payload,
    amqp: {
      application_properties: { room: 'kitchen' },
      message_annotations: {
        'iothub-connection-device-id': 'thermometer-1',
        'iothub-enqueuedtime': { $amqp: 'timestamp', value: time },
      },
    },
  });

describe('The flows of the how-to pages', () => {
  startHelper();

  describe('for Azure Service Bus', () => {
    let service: ServiceBus;

    beforeEach(async () => {
      service = await ServiceBus.start({
        queues: { orders: { maxDeliveryCount: 3 }, 'orders-in-sessions': { requiresSession: true } },
      });
      await load('azure-service-bus.json', 'AZURE_SERVICE_BUS', service.connectionString());
      await isConnected('amqp-receiver', 'orders');
    });
    afterEach(async () => {
      delete process.env['AZURE_SERVICE_BUS'];
      await helper.unload();
      await service.stop();
    });

    const queue = () => service.entity('orders');
    const deadLetters = () =>
      service
        .entity('orders/$deadletterqueue')
        .peek()
        .map((entry) => rhea.message.decode(entry.message.encode()) as unknown as Message);

    it('process an order, and the service forgets it', async () => {
      const [sent, processed] = [shown('sent'), shown('processed')];
      const settled = once(service, 'settled');
      press('an order');
      should(await sent).match({ sent: { address: 'orders', state: 'accepted' } });
      should(await processed).match({ payload: { item: 'tea', amount: 2, state: 'processed' } });
      should(await settled).match([{ address: 'orders', outcome: 'complete' }]);
      queue().depth.should.equal(0);
    });

    it('move one that cannot be processed to the dead letters, with the reason', async () => {
      const settled = once(service, 'settled');
      press('without an amount');
      should(await settled).match([{ address: 'orders', outcome: 'dead-letter' }]);
      const [letter] = deadLetters();
      should(letter!.application_properties).match({
        DeadLetterReason: 'NoAmount',
        DeadLetterErrorDescription: 'an order needs an amount',
      });
    });

    it('have one that fails counted, and moved to the dead letters after the last attempt', async () => {
      const outcomes: string[] = [];
      service.on('settled', ({ outcome }: { outcome: string }) => outcomes.push(outcome));
      press('one that fails');
      while (deadLetters().length === 0) await once(service, 'settled');
      should(outcomes).deepEqual(['abandon', 'abandon', 'abandon']);
      should(deadLetters()[0]!.application_properties).match({ DeadLetterReason: 'MaxDeliveryCountExceeded' });
    });

    it('show the dead letters, and leave them there', async () => {
      const settled = once(service, 'settled');
      press('without an amount');
      await settled;
      const letter = shown('dead letter');
      press('look');
      should(await letter).match({
        payload: { item: 'tea' },
        amqp: { application_properties: { DeadLetterReason: 'NoAmount' } },
        delivery: { peeked: true },
      });
      deadLetters().length.should.equal(1);
    });

    it('keep an order for later, which comes in its time', async () => {
      const scheduled = shown('scheduled');
      const before = Date.now();
      press('in one minute');
      should(await scheduled).match({ sent: { state: 'scheduled', sequenceNumber: 1 } });
      const [entry] = queue().peek();
      should(entry).match({ state: 'scheduled', sequenceNumber: 1 });
      should(entry!.message.scheduledFor).be.within(before + 59_000, Date.now() + 61_000);
      const processed = shown('processed');
      queue().enqueueAllScheduled();
      should(await processed).match({ payload: { item: 'coffee', state: 'processed' } });
    });

    it('take an order back that was for later', async () => {
      const scheduled = shown('scheduled');
      press('in one minute');
      await scheduled;
      const cancelled = shown('scheduled');
      press('take it back');
      should(await cancelled).match({ sent: { state: 'cancelled' } });
      queue().depth.should.equal(0);
    });

    it('count the messages of each session, and the service keeps the counts', async () => {
      const counted = messages(idOf('debug', 'counted'), 5);
      for (const name of ['of session A', 'of session B', 'of session A', 'of session A', 'of session B']) press(name);
      const payloads = (await counted).map(({ payload }) => payload as string);
      should(payloads.filter((text) => text.startsWith('A'))).deepEqual(['A 1', 'A 2', 'A 3']);
      should(payloads.filter((text) => text.startsWith('B'))).deepEqual(['B 1', 'B 2']);
      const sessions = service.entity('orders-in-sessions');
      while (sessions.depth > 0) await once(service, 'settled');
      should(sessions.sessionState('A')?.toString()).equal('3');
    });
  });

  describe('by other ways that the pages name', () => {
    const ENTITIES = { queues: { orders: {}, 'orders-in-sessions': { requiresSession: true } } };
    const KEY = 'RootManageSharedAccessKey';
    let service: ServiceBus;

    afterEach(async () => {
      delete process.env['AZURE_KEY'];
      await helper.unload();
      await service.stop();
    });

    it('take the connection string from the credentials among the global environment variables', async () => {
      service = await ServiceBus.start(ENTITIES);
      const variable = { name: 'AZURE_SERVICE_BUS', value: '__PWRD__', type: 'cred' };
      const settings = { id: 'settings', type: 'global-config', name: '', env: [variable] };
      const credentials = { settings: { map: { AZURE_SERVICE_BUS: service.connectionString() } } };
      await loadWith('azure-service-bus.json', {}, [settings], credentials);
      await isProcessed();
    });

    it('go by WebSocket, with the key from the environment', async () => {
      service = await ServiceBus.start({ ...ENTITIES, websocket: true });
      process.env['AZURE_KEY'] = service.authority.policies[KEY]!.key;
      const urls = `ws://127.0.0.1:${service.port}/$servicebus/websocket`;
      const credentials = { 'amqp-azure-service-bus-endpoint': { user: KEY, pass: '${AZURE_KEY}' } };
      await loadWith('azure-service-bus.json', { connectto: 'urls', urls, login: 'sas' }, [], credentials);
      await isProcessed();
    });
  });

  describe('for Azure Event Hubs', () => {
    let service: EventHubs;

    beforeEach(async () => {
      service = await EventHubs.start({ hubs: { telemetry: { partitions: 2 } } });
      await load('azure-event-hubs.json', 'AZURE_EVENT_HUBS', service.connectionString());
      await isConnected('amqp-receiver', 'telemetry');
    });
    afterEach(async () => {
      delete process.env['AZURE_EVENT_HUBS'];
      await helper.unload();
      await service.stop();
    });

    it('send events and receive them', async () => {
      const [sent, event] = [shown('sent'), shown('event')];
      press('one event');
      should(await sent).match({ sent: { address: 'telemetry', state: 'accepted' } });
      should((await event).payload).match({ degrees: 21, partition: /^[01]$/ });
    });

    it('send several together, to one partition, in their order', async () => {
      const events = messages(idOf('debug', 'event'), 3);
      let transfers = 0;
      service.on('message', () => transfers++);
      press('three together');
      const all = await events;
      should(all.map((msg) => degrees(msg))).deepEqual([20, 21, 22]);
      new Set(all.map(({ payload }) => (payload as { partition: string }).partition)).size.should.equal(1);
      transfers.should.equal(1);
    });

    it('go on where they were after they were away, also behind an event that failed', async () => {
      const failed = shown('failed events');
      press('one that fails');
      should((await failed).error).match({ message: 'Error: no degrees' });
      const event = shown('event');
      press('one event');
      await event;
      const receiver = idOf('amqp-receiver', 'telemetry');
      inject(receiver, { action: 'pause' });
      await status(receiver, '.paused');
      const sent = shown('sent');
      press('three together');
      await sent;
      const again = collect(idOf('debug', 'failed events'));
      const events = messages(idOf('debug', 'event'), 3);
      await deploy(receiver, { epoch: '1' });
      // All are of one partition: what came before the first of these would have come by now.
      should((await events).map((msg) => degrees(msg))).deepEqual([20, 21, 22]);
      should(again).deepEqual([]);
    });

    it('say what the service knows of the partitions', async () => {
      const told = shown('what the service knows');
      press('partitions');
      const { payload } = await told;
      should(payload).match({
        name: 'telemetry',
        partitions: [
          { id: '0', isEmpty: true },
          { id: '1', isEmpty: true },
        ],
      });
    });
  });

  describe('for Azure IoT Hub', () => {
    const HUB = 'event-hub-compatible-name';
    let service: EventHubs;

    beforeEach(async () => {
      service = await EventHubs.start({ hubs: { [HUB]: { partitions: 4 } } });
      // What an IoT hub does with what its devices send.
      const devices = {
        id: 'devices',
        type: 'amqp-sender',
        z: 'amqp-azure-iot-hub',
        name: 'devices',
        endpoint: 'amqp-azure-iot-hub-endpoint',
        address: HUB,
        format: 'body',
        x: 0,
        y: 0,
        wires: [[]],
      };
      const string = service.connectionString(undefined, HUB);
      await load('azure-iot-hub.json', 'AZURE_IOT_HUB_EVENTS', string, [devices]);
      await isConnected('amqp-receiver', 'telemetry of devices');
    });
    afterEach(async () => {
      delete process.env['AZURE_IOT_HUB_EVENTS'];
      await helper.unload();
      await service.stop();
    });

    it('say which device has sent what', async () => {
      const telemetry = shown('telemetry');
      const time = Date.now();
      // Without a content type, as most devices send.
      give(Buffer.from('{"degrees":21}'), time);
      should((await telemetry).payload).match({
        device: 'thermometer-1',
        enqueued: new Date(time),
        properties: { room: 'kitchen' },
        reading: { degrees: 21 },
      });
    });

    it('show what is no JSON, and go on', async () => {
      const failed = shown('failed');
      give(Buffer.from('21 degrees'));
      should(await failed).match({ payload: Buffer.from('21 degrees'), error: { code: 'AMQP_DECODE' } });
      const telemetry = shown('telemetry');
      give(Buffer.from('{"degrees":22}'));
      should((await telemetry).payload).match({ reading: { degrees: 22 } });
    });
  });

  describe('for a device of Azure IoT Hub', () => {
    const ID = 'thermometer-1';
    let hub: IotHub;

    beforeEach(async () => {
      hub = await IotHub.start({ devices: { [ID]: {} }, tls: { key, cert } });
      process.env['AZURE_IOT_DEVICE'] = hub.deviceConnectionString(ID);
      process.env['AZURE_IOT_DEVICE_ID'] = ID;
      await loadWith('azure-iot-device.json', { usetls: true, rejectUnauthorized: false });
      const used = flow.filter(({ type }) => /^amqp-(sender|receiver|requester)$/.test(type));
      await Promise.all(used.map(({ id }) => status(id, '.connected')));
    });
    afterEach(async () => {
      delete process.env['AZURE_IOT_DEVICE'];
      delete process.env['AZURE_IOT_DEVICE_ID'];
      await helper.unload();
      await hub.stop();
    });

    it('send telemetry', async () => {
      const sent = shown('sent');
      press('21 degrees');
      should(await sent).match({ sent: { address: `/devices/${ID}/messages/events`, state: 'accepted' } });
      should(hub.telemetry).match([{ deviceId: ID, properties: { room: 'kitchen' } }]);
      should(JSON.parse(String(hub.telemetry[0]!.body))).deepEqual({ degrees: 21 });
    });

    it('do commands, and refuse those that they cannot do', async () => {
      for (const [body, outcome] of [
        ['on', 'accepted'],
        ['dance', 'rejected'],
      ] as const) {
        const settled = once(hub, 'settled');
        hub.sendCommand(ID, { body, ack: 'full' });
        should(await settled).match([{ outcome }]);
        hub.commands(ID).should.equal(0);
      }
    });

    it('read the twin', async () => {
      hub.setDesired(ID, { interval: 5 });
      const twin = shown('twin');
      press('read the twin');
      should((await twin).payload).match({ desired: { interval: 5 }, reported: {} });
    });

    it('answer direct methods', async () => {
      should(await hub.invokeMethod(ID, 'lamp')).deepEqual({ status: 200, payload: { lamp: 'off' } });
      const command = shown('command');
      hub.sendCommand(ID, { body: 'on' });
      await command;
      should(await hub.invokeMethod(ID, 'lamp')).deepEqual({ status: 200, payload: { lamp: 'on' } });
      should(await hub.invokeMethod(ID, 'dance', { times: 3 })).match({ status: 404 });
    });
  });

  describe('for clients that connect to Node-RED', () => {
    let port: number;
    let connections: Connection[];

    beforeEach(async () => {
      connections = [];
      port = await freePort(5673);
      await loadWith('listen.json', { port });
      await isConnected('amqp-receiver', 'commands');
    });
    afterEach(async () => {
      for (const connection of connections) connection.close();
      await helper.unload();
    });

    /** Another client than our own. */
    const client = (): Connection => {
      const connection = rhea.create_container().connect({
        host: '127.0.0.1',
        port,
        username: 'anonymous',
        reconnect: false,
      });
      // What is refused is looked at where it is expected.
      connection.on('error', () => {});
      connections.push(connection);
      return connection;
    };

    it('take what they send, and tell them what was not done', async () => {
      const [accepted, reading] = [shown('accepted'), shown('reading')];
      press('21 degrees');
      should(await accepted).match({ sent: { address: 'readings', state: 'accepted' } });
      should((await reading).payload).deepEqual({ degrees: 21 });
      const why = shown('why not');
      press('no degrees');
      should((await why).error).match({ code: 'AMQP_REJECTED', message: /no degrees/ });
    });

    it('do the same with clients of other makes', async () => {
      const sender = client().open_sender('readings');
      await next(sender, 'sendable');
      sender.send({ body: { degrees: 22 } });
      await next(sender, 'accepted');
      sender.send({ body: 'none' });
      const { delivery } = await next(sender, 'rejected');
      should(delivery!.remote_state).match({ error: { condition: 'amqp:internal-error', description: /no degrees/ } });
    });

    it('answer requests, and say what could not be answered', async () => {
      const answer = shown('answer');
      press('21 °C');
      should((await answer).payload).equal(69.8);
      const why = shown('why not');
      press('a word');
      should((await why).error).match({ code: 'AMQP_REPLY_STATUS', message: /500 \(.*not a number/ });
    });

    it('make addresses for the replies to other clients', async () => {
      const connection = client();
      const replies = connection.open_receiver({ source: { dynamic: true } as Source });
      await next(replies, 'receiver_open');
      const address = (replies as unknown as { remote: { attach: { source: { address: string } } } }).remote.attach
        .source.address;
      should(address).match(/^temporary\//);
      const sender = connection.open_sender('convert');
      await next(sender, 'sendable');
      sender.send({ message_id: 1, reply_to: address, body: 100 });
      const { message: reply } = await next(replies, 'message');
      should(reply).match({ correlation_id: 1, body: 212 });
    });

    it('give each of them a copy of what is sent', async () => {
      const other = client().open_receiver('commands');
      await next(other, 'receiver_open');
      const [command, message_, delivered] = [shown('command'), next(other, 'message'), shown('delivered')];
      press('switch on');
      should((await command).payload).deepEqual({ lamp: 'on' });
      should((await message_).message!.body).deepEqual({ lamp: 'on' });
      should(await delivered).match({ sent: { address: 'commands', state: 'accepted' } });
    });

    it('tell them of an address that is not there, and of a node that is gone', async () => {
      const connection = client();
      const nowhere = connection.open_sender('nowhere');
      const { sender } = await next(nowhere, 'sender_error');
      should(sender!.error).match({ condition: 'amqp:not-found' });
      const readings = connection.open_sender('readings');
      await next(readings, 'sendable');
      const gone = next(readings, 'sender_error');
      await deploy('amqp-listen-readings', { creditwindow: 50 });
      should((await gone).sender!.error).match({ condition: 'amqp:link:detach-forced' });
      // Our own attach again by themselves.
      const accepted = shown('accepted');
      press('21 degrees');
      await accepted;
    });
  });

  describe('for a server', () => {
    let broker: Broker;

    afterEach(async () => {
      await helper.unload();
      await broker.stop();
    });

    const start = async (file: string, options: BrokerOptions = {}) => {
      broker = await Broker.start(options);
      await loadWith(file, { port: broker.port });
    };

    it('subscribe as their messages say', async () => {
      await start('subscriptions.json');
      const receiver = idOf('amqp-receiver', 'rooms');
      await status(receiver, 'connected');
      const hall = shown('message');
      press('to the hall');
      should(await hall).match({ payload: 21, topic: 'rooms.hall' });

      press('kitchen');
      press('cellar');
      const list = shown('subscriptions');
      press('list');
      should((await list).payload).match([
        { address: 'rooms.hall', window: 100, settle: 'arrival' },
        { address: 'rooms.kitchen', window: 100 },
        { address: 'rooms.cellar', window: 5 },
      ]);
      const kitchen = shown('message');
      press('to the kitchen');
      should(await kitchen).match({ topic: 'rooms.kitchen' });

      const twice = shown('why not');
      press('kitchen');
      should((await twice).error).match({ code: 'AMQP_BAD_INPUT', message: /subscribed to rooms.kitchen already/ });

      press('not the kitchen');
      press('none');
      await status(receiver, '.unsubscribed');
    });

    it('take several messages as one, and settle them together', async () => {
      await start('together.json');
      await isConnected('amqp-receiver', 'readings');
      const five = shown('stored');
      press('five readings');
      should((await five).payload).deepEqual([20, 21, 22, 23, 24]);
      const two = shown('stored');
      press('two readings');
      should((await two).payload).deepEqual([18, 19]);
      while (broker.dispositions.length < 7) await once(broker, 'settled');
      should(broker.dispositions.map(({ state }) => state)).deepEqual(Array.from({ length: 7 }, () => 'accepted'));
    });

    it('reject one of several alone', async () => {
      await start('together.json');
      await isConnected('amqp-receiver', 'readings');
      const stored = shown('stored');
      press('one is a word');
      should((await stored).payload).deepEqual([20, 21, 23, 24]);
      while (broker.dispositions.length < 5) await once(broker, 'settled');
      const states = broker.dispositions.map(({ state }) => state);
      should(states.filter((state) => state === 'accepted')).have.length(4);
      should(broker.dispositions.find(({ state }) => state === 'rejected')).match({
        error: { description: 'no number' },
      });
    });

    it('work on one message of a group at a time', async () => {
      await start('groups.json');
      await isConnected('amqp-receiver', 'jobs');
      const all = collect(idOf('function', 'work'));
      const finished = messages(idOf('debug', 'finished'), 6);
      press('three jobs each');
      const jobs = (await finished).map(({ payload }) => payload as { machine: string; step: string });
      for (const name of ['A', 'B'])
        should(jobs.filter(({ machine }) => machine === name).map(({ step }) => step)).deepEqual([
          'drill',
          'paint',
          'pack',
        ]);
      // The first of both before the second of either.
      should(all.slice(0, 2).map(({ payload }) => (payload as { step: string }).step)).deepEqual(['drill', 'drill']);
    });

    it('count attempts, and set aside what has failed three times', async () => {
      await start('groups.json', { maxDeliveries: 10 });
      await isConnected('amqp-receiver', 'jobs');
      const all = collect(idOf('function', 'work'));
      const givenUp = shown('given up');
      press('one that fails');
      should(await givenUp).match({ payload: { step: 'jam' }, delivery: { attempt: 4 } });
      should(all.map(({ delivery }) => (delivery as { attempt?: number }).attempt)).deepEqual([1, 2, 3]);
      while (broker.dispositions.at(-1)?.state !== 'accepted') await once(broker, 'settled');
    });

    it('declare, inspect and delete a queue', async () => {
      await start('rabbitmq-management.json', { management: true });
      await isConnected('amqp-requester', 'RabbitMQ');
      const ask = async (name: string): Promise<Msg> => {
        const reply = shown('reply');
        press(name);
        return reply;
      };
      const why = shown('why not');
      press('inspect');
      should((await why).error).match({ code: 'AMQP_REPLY_STATUS', message: /404/ });
      should(await ask('declare')).match({ payload: { status: '201' } });
      should(await ask('inspect')).match({ payload: { status: '200', name: 'example.orders', message_count: 0 } });
      should(await ask('delete')).match({ payload: { status: '200' } });
    });

    it('put several replies together', async () => {
      await start('several-replies.json');
      await isConnected('amqp-receiver', 'lists');
      for (const [name, count] of [
        ['three', 3],
        ['five', 5],
      ] as const) {
        const [each, all] = [messages(idOf('debug', 'one reply'), count), shown('all replies')];
        press(name);
        const expected = Array.from({ length: count }, (_, index) => `number ${index + 1}`);
        should((await each).map(({ payload }) => payload)).deepEqual(expected);
        should((await all).payload).deepEqual(expected);
      }
    });
  });

  it('go to Azure IoT Hub by WebSocket, with the key from the environment', async () => {
    const hub = await IotHub.start({ devices: { d1: {} }, websocket: true });
    try {
      const [, sharedKey] = /SharedAccessKey=(.*)/.exec(hub.deviceConnectionString('d1'))!;
      process.env['AZURE_IOT_DEVICE_ID'] = 'd1';
      process.env['AZURE_KEY'] = sharedKey;
      const urls = `ws://localhost:${hub.port}/$iothub/websocket`;
      const credentials = { 'amqp-azure-iot-device-endpoint': { user: 'devices/d1', pass: '${AZURE_KEY}' } };
      await loadWith('azure-iot-device.json', { connectto: 'urls', urls, login: 'sas' }, [], credentials);
      await isConnected('amqp-sender', 'telemetry');
      const sent = shown('sent');
      press('21 degrees');
      await sent;
      should(hub.telemetry).match([{ deviceId: 'd1' }]);
    } finally {
      delete process.env['AZURE_IOT_DEVICE_ID'];
      delete process.env['AZURE_KEY'];
      await helper.unload();
      await hub.stop();
    }
  });

  it('have a page each, maybe a shared one, which links to them', () => {
    for (const file of files) {
      const page = pageOf(file);
      existsSync(join(docs, page)).should.equal(true, page);
      textOf(page).should.containEql(`](flows/${file})`);
    }
  });

  it('have pages that say of Azure that nothing ran against the service', () => {
    for (const page of ofAzure.map(pageOf))
      textOf(page).should.match(/never (been )?(run|tried|tested) (against|with) the service itself/, page);
  });

  it('have pages that tell symptoms in the very words of the nodes and the services', () => {
    const sources = ['nodes', 'locales/en-US', 'test/doubles', 'broker']
      .flatMap((path) =>
        readdirSync(join(root, path), { recursive: true, encoding: 'utf8' }).map((file) => join(root, path, file)),
      )
      .filter((path) => /\.(ts|json)$/.test(path))
      .map((path) => readFileSync(path, 'utf8').replace(/\$\{\w+\}|\{\w+\}|__\w+__/g, '*'))
      .join('\n');
    for (const file of files) {
      const [, section = ''] = textOf(pageOf(file)).split('## When it does not work');
      const rows = section.split('\n').filter((line) => /^\| (?!status|-)/.test(line));
      rows.length.should.be.above(5, file);
      const told = rows.flatMap((row) => {
        const [, shownAs = '', logged = ''] = row.split('|');
        return [...`${shownAs} ${logged}`.matchAll(/`([^`]+)`/g)].map(([, words]) => words!);
      });
      const stems = told.map((words) =>
        words.replace(/^(refused|error|ignored|disconnected): /, '').replace(/AZURE_\w+|\boffset\b/, '*'),
      );
      const own = ['Server', 'TLS Configuration', 'consumergroups', 'event-hub-compatible-name'];
      stems.filter((words) => !own.includes(words) && !sources.includes(words)).should.deepEqual([], file);
    }
  });

  it('share no node id with another flow that is shipped, so that all can be imported side by side', () => {
    const examples = [...exampleFiles(), ...exampleFiles('Systems')];
    const ids = [...examples.map(readExample), ...files.map(read)].flat().map(({ id }) => id);
    ids.filter((id, index) => ids.indexOf(id) < index).should.be.empty();
  });

  it('name nodes that are there', () => {
    for (const file of files) {
      const all = read(file);
      const ids = new Set(all.map(({ id }) => id));
      for (const { type, z, wires = [], scope = [], endpoint = [] } of all) {
        // The scope of an endpoint is that of OAuth.
        const named = [z ?? [], wires, type === 'amqp-endpoint' ? [] : scope, endpoint].flat(3) as string[];
        named.filter((id) => !ids.has(id)).should.deepEqual([], file);
      }
    }
  });

  it('have one endpoint, but for those who listen, which have a client as well', () => {
    for (const file of files) {
      const endpoints = read(file).filter(({ type }) => type === 'amqp-endpoint');
      const isListening = file === 'listen.json';
      endpoints.should.have.length(isListening ? 2 : 1, file);
      if (ofAzure.includes(file))
        should(endpoints[0]).match({ host: /^\$\{AZURE_\w+\}$/, port: 5671, usetls: true, rejectUnauthorized: true });
      // Who imports it is not to open a port to the network by that.
      else for (const { host } of endpoints) should(host).equal(isListening ? '127.0.0.1' : 'localhost');
    }
  });

  it('have all that the forms save, so that no value is one of an older version', () => {
    for (const type of ['amqp-sender', 'amqp-receiver', 'amqp-requester', 'amqp-responder']) {
      const form = readFileSync(join(root, 'nodes', `${type}.html`), 'utf8');
      const defaults = /\n {4}defaults: \{\n(.*?)\n {4}\},/s.exec(form)![1]!.split('// Of node-red-contrib-rhea')[0]!;
      const names = [...defaults.matchAll(/^ {6}(\w+): \{/gm)].map(([, name]) => name!);
      names.length.should.be.above(10);
      for (const node of files.flatMap(read).filter((one) => one.type === type))
        names.filter((name) => !(name in node)).should.deepEqual([], node.id);
    }
  });

  it('are laid out so that no node covers another', () => {
    for (const file of files) {
      const boxes = read(file)
        .filter((placed) => 'x' in placed)
        .map(boxOf);
      for (const box of boxes) boxes.filter((other) => overlap(box, other)).should.deepEqual([box], file);
    }
  });
});

type Box = { name: string; tab: string; left: number; right: number; y: number };

/** About what the editor draws, on its grid. */
function boxOf({ name, z, x, y }: NodeConfig): Box {
  const half = Math.max(100, 60 + String(name).length * 7) / 2;
  const left = Number(x) - half;
  should(left).be.aboveOrEqual(0, String(name));
  should(Number(y) % 20).equal(0, String(name));
  return { name: String(name), tab: String(z), left, right: Number(x) + half, y: Number(y) };
}

function overlap(a: Box, b: Box): boolean {
  return a.tab === b.tab && Math.abs(a.y - b.y) < 40 && a.left < b.right && b.left < a.right;
}
