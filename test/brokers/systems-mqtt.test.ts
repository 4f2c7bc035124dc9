// The example Systems/MQTT over AMQP as it is shipped, on a real Mosquitto with devices of their own. Its AMQP side is a double.
import { once } from 'node:events';
import should from 'should';
import { MqttServices, type Publication } from '../doubles/mqtt-services';
import { idOf, isConnected, loadExample, press, shown, startExamples } from '../example';
import { helper, status } from '../flow';
import { needed } from './broker';
import { connectMqtt, type Mosquitto, mosquitto, type MqttClient } from './mosquitto';

const KITCHEN = 'example.rooms/kitchen/temperature';
const CELLAR = 'example.rooms/cellar/temperature';
const LIGHT = 'example.rooms/kitchen/light';

/** What Mosquitto has not taken is given back earlier. */
const LIMITS = { 'over-amqp-receive': { settletimeout: 0.3 } };

interface Heard {
  body: string;
  qos: number;
  retain: boolean;
}

describe('on a Mosquitto, the flow Systems/MQTT over AMQP', function () {
  this.timeout(20_000);
  let services: MqttServices;
  let broker: Mosquitto;
  let devices: MqttClient[];

  before(async function () {
    await needed(this, 'Mosquitto', () => mosquitto.prepare());
  });
  startExamples();
  beforeEach(async () => {
    devices = [];
    services = await MqttServices.start('example.rooms');
    broker = await mosquitto.start();
    await load();
  });
  afterEach(async () => {
    for (const one of devices) await one.endAsync();
    await helper.unload();
    await services.stop();
    await broker.stop();
  });

  async function load(): Promise<void> {
    await loadExample('Systems/MQTT over AMQP.json', services.port, { mqtt: broker.port }, LIMITS);
    await Promise.all([
      shown('subscribed to'),
      ...['all thermometers', 'a lamp'].map((name) => status(idOf('mqtt in', name), '.connected')),
      isConnected('amqp-receiver', 'kitchen, temperature'),
    ]);
  }

  async function device(options: object = {}): Promise<MqttClient> {
    const client = await connectMqtt(broker.port, { reconnectPeriod: 100, ...options });
    devices.push(client);
    return client;
  }

  /** A device that listens, and what it hears. */
  async function listener(
    topic: string,
    options?: object,
  ): Promise<{ heard: Heard[]; count(n: number): Promise<void> }> {
    const client = await device(options);
    const heard: Heard[] = [];
    client.on('message', (_, payload, { qos, retain }) => {
      heard.push({ body: String(payload), qos, retain });
    });
    await client.subscribeAsync(topic, { qos: 1 });
    const count = async (n: number): Promise<void> => {
      while (heard.length < n) await once(client, 'message');
    };
    return { heard, count };
  }

  /** Another client of AMQP. */
  const publish = (body: string, properties: Partial<Publication> = {}): void =>
    services.publish({ topic: LIGHT, body, qos: 1, isRetained: false, isDurable: true, ...properties });
  const published = async (count: number): Promise<Publication[]> => {
    await services.until(() => services.published.length >= count);
    return services.published;
  };

  it('publishes what devices say with QoS 0 and 1', async () => {
    const meter = await device();
    for (const qos of [0, 1]) await meter.publishAsync(KITCHEN, `2${qos}`, { qos });
    should(await published(2)).deepEqual([
      { topic: KITCHEN, body: '20', qos: 0, isRetained: false, isDurable: false },
      { topic: KITCHEN, body: '21', qos: 1, isRetained: false, isDurable: true },
    ]);
    press('1. a reading by MQTT');
    should((await published(3))[2]).match({ body: '21.5', isRetained: true });
  });

  it('gives devices what was subscribed to, with QoS 0 and 1, until it unsubscribes', async () => {
    const lamp = await listener('example.rooms/#');
    should(await list()).deepEqual({});
    await subscribe();
    should(await list()).deepEqual({ 'example.rooms/+/light': '1' });
    publish('on', { qos: 0, isDurable: false });
    press('4. switch the lamp on');
    await lamp.count(2);
    should(lamp.heard).deepEqual([
      { body: 'on', qos: 0, retain: false },
      { body: 'on', qos: 1, retain: false },
    ]);

    const done = shown('granted?');
    press('6. unsubscribe');
    should((await done).sent).match({ state: 'accepted' });
    should(await list()).deepEqual({});
    publish('nobody hears that');
    await subscribe();
    publish('heard again');
    await lamp.count(3);
    should(lamp.heard[2]).match({ body: 'heard again' });

    const refused = shown('granted?');
    press('7. subscribe to what is not there');
    should((await refused).sent).match({ state: 'rejected', error: { condition: 'amqp:precondition-failed' } });
  });

  it('tells AMQP what devices have retained, which Mosquitto gives to those who come later, until it is cleared', async () => {
    const meter = await device();
    await meter.publishAsync(KITCHEN, '21', { qos: 1, retain: true });
    should((await published(1)).at(-1)).match({ body: '21', isRetained: true });
    const later = await listener(KITCHEN);
    await later.count(1);
    should(later.heard).deepEqual([{ body: '21', qos: 1, retain: true }]);

    // Mosquitto tells it once more to those who connect again.
    await helper.unload();
    await load();
    should((await published(2)).at(-1)).match({ body: '21', isRetained: true });
    await meter.publishAsync(KITCHEN, '', { qos: 1, retain: true });
    should((await published(3)).at(-1)).match({ body: '', isRetained: true });
    const last = await listener(KITCHEN);
    await meter.publishAsync(KITCHEN, '22', { qos: 1 });
    await last.count(1);
    should(last.heard).deepEqual([{ body: '22', qos: 1, retain: false }]);
  });

  it('has Mosquitto retain what AMQP had retained when it subscribed, and a device clears that', async () => {
    publish('dimmed', { isRetained: true });
    const kept = await listener(LIGHT);
    await subscribe();
    await kept.count(1);
    // To those who are subscribed, as the gateway is now, it is no longer told as retained.
    publish('bright', { isRetained: true });
    await kept.count(2);
    const later = await listener(LIGHT);
    await later.count(1);
    should(later.heard).deepEqual([{ body: 'dimmed', qos: 1, retain: true }]);

    const meter = await device();
    await meter.publishAsync(LIGHT, '', { qos: 1, retain: true });
    const last = await listener(LIGHT);
    publish('on');
    await last.count(1);
    should(last.heard).deepEqual([{ body: 'on', qos: 1, retain: false }]);
  });

  it('passes the last will of a device on, when that is lost and not when it leaves in good order', async () => {
    const will = { topic: CELLAR, payload: 'gone', qos: 1, retain: true };
    const [lost, left] = [await device({ will, reconnectPeriod: 0 }), await device({ will })];
    await left.endAsync();
    const meter = await device();
    await meter.publishAsync(CELLAR, '12', { qos: 1 });
    await published(1);
    lost.stream.destroy();
    should((await published(2)).slice(0, 2)).deepEqual([
      { topic: CELLAR, body: '12', qos: 1, isRetained: false, isDurable: true },
      { topic: CELLAR, body: 'gone', qos: 1, isRetained: true, isDurable: true },
    ]);
  });

  it('gets what devices said with QoS 1 while it was away, though Mosquitto was stopped meanwhile', async () => {
    await helper.unload();
    const meter = await device();
    for (const qos of [0, 1]) await meter.publishAsync(KITCHEN, `with QoS ${qos}`, { qos });
    await broker.restart();
    await load();
    const another = await device();
    await another.publishAsync(KITCHEN, 'later', { qos: 1 });
    should((await published(2)).map(({ body }) => body)).deepEqual(['with QoS 1', 'later']);
  });

  it('loses nothing of QoS 1 when Mosquitto is stopped and started while messages go', async () => {
    await subscribe();
    const meter = await device({ clientId: 'meter', clean: false });
    const lamp = await listener(LIGHT, { clientId: 'lamp', clean: false });
    const numbers = Array.from({ length: 300 }, (_, n) => String(n));
    const toAmqp = (): string[] => services.published.filter(({ topic }) => topic === KITCHEN).map(({ body }) => body);
    const toDevices = (): string[] => lamp.heard.map(({ body }) => body);
    const told = (async () => {
      for (const number of numbers) await meter.publishAsync(KITCHEN, number, { qos: 1 });
    })();
    for (const number of numbers.slice(0, 100)) publish(number);
    await published(200);
    const away = status(idOf('mqtt out', 'to the devices'), '.disconnected');
    await broker.end();
    await away;
    toAmqp().length.should.be.below(numbers.length);
    for (const number of numbers.slice(100, 200)) publish(number);
    await broker.start();
    for (const number of numbers.slice(200)) publish(number);
    await told;

    await services.until(() => new Set(toAmqp()).size === numbers.length);
    while (new Set(toDevices()).size < numbers.length) await lamp.count(lamp.heard.length + 1);
    const again = [toAmqp(), toDevices()].map(({ length }) => length - numbers.length);
    process.stdout.write(
      `\nOf ${numbers.length} each way, with QoS 1: again to AMQP ${again[0]}, to devices ${again[1]}\n\n`,
    );
  });
});

async function subscribe(): Promise<void> {
  const granted = shown('granted?');
  press('3. subscribe');
  should((await granted).sent).match({ state: 'accepted' });
}

async function list(): Promise<unknown> {
  const told = shown('subscribed to');
  press('5. what is subscribed to?');
  return (await told).payload;
}
