// The flows of the how-to pages in docs, with doubles of the services: only TLS is switched off, which most of these do not
// have, and no certificate is verified.
// Nothing here has run against the services themselves.
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import rhea, { type Message } from 'rhea';
import should from 'should';
import { EventHubs } from '../doubles/event-hubs/event-hubs';
import { IotHub } from '../doubles/iot-hub/iot-hub';
import { ServiceBus } from '../doubles/service-bus/service-bus';
import { collect, inject, message, messages, type Msg, nodes, status } from '../flow';
import helper, { coreNode, type NodeConfig } from '../node-red';

const CORE = [
  'common/20-inject',
  'common/21-debug',
  'common/90-comment',
  'common/91-global-config',
  'function/10-function',
  'function/10-switch',
  'function/15-change',
].map(coreNode);

const root = join(__dirname, '..', '..');
const docs = join(root, 'docs');
const folder = join(docs, 'flows');
const files = readdirSync(folder).toSorted();
const read = (file: string): NodeConfig[] => JSON.parse(readFileSync(join(folder, file), 'utf8'));
const textOf = (file: string) => readFileSync(join(docs, file), 'utf8');
/** The page that is about a flow. */
const pageOf = (file: string) => file.replace(/json$/, 'md').replace('iot-device', 'iot-hub');
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
  before(() => helper.startServer());
  after(() => helper.stopServer());

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

  it('have a page each, maybe a shared one, which links to them and says that nothing ran against the service', () => {
    for (const file of files) {
      const page = pageOf(file);
      existsSync(join(docs, page)).should.equal(true, page);
      textOf(page).should.containEql(`](flows/${file})`);
      textOf(page).should.match(/never (been )?(run|tried|tested) (against|with) the service itself/, page);
    }
  });

  it('have pages that tell symptoms in the very words of the nodes and the services', () => {
    const sources = ['nodes', 'locales/en-US', 'test/doubles']
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
      const stems = told.map((words) => words.replace(/^(refused|error): /, '').replace(/AZURE_\w+|\boffset\b/, '*'));
      const own = ['Server', 'consumergroups', 'event-hub-compatible-name'];
      stems.filter((words) => !own.includes(words) && !sources.includes(words)).should.deepEqual([], file);
    }
  });

  it('share no node id with another flow that is shipped, so that all can be imported side by side', () => {
    const examples = readdirSync(join(root, 'examples')).map((file): NodeConfig[] =>
      JSON.parse(readFileSync(join(root, 'examples', file), 'utf8')),
    );
    const ids = [...examples, ...files.map(read)].flat().map(({ id }) => id);
    ids.filter((id, index) => ids.indexOf(id) < index).should.be.empty();
  });

  it('name nodes that are there, and one endpoint, whose server is an environment variable', () => {
    for (const file of files) {
      const all = read(file);
      const ids = new Set(all.map(({ id }) => id));
      for (const { z, wires = [], scope = [], endpoint = [] } of all) {
        const named = [z ?? [], wires, scope, endpoint].flat(3) as string[];
        named.filter((id) => !ids.has(id)).should.deepEqual([], file);
      }
      const endpoints = all.filter(({ type }) => type === 'amqp-endpoint');
      endpoints.should.have.length(1, file);
      should(endpoints[0]).match({ host: /^\$\{AZURE_\w+\}$/, port: 5671, usetls: true, rejectUnauthorized: true });
    }
  });

  it('have all that the forms save, so that no value is one of an older version', () => {
    for (const type of ['amqp-sender', 'amqp-receiver', 'amqp-requester']) {
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
