// The last will of the example Systems/MQTT over AMQP, when its Node-RED goes: wills are counted where they are published.
import should from 'should';
import { MqttBroker } from '../doubles/mqtt-broker';
import { MqttServices } from '../doubles/mqtt-services';
import { readExample } from '../example';
import { Ledger } from './ledger';
import { NodeRedProcess } from './node-red-process';

describe('The last will of a Node-RED', function () {
  this.timeout(60_000);

  let services: MqttServices;
  let mqtt: MqttBroker;
  let nodeRed: NodeRedProcess;

  before(() => NodeRedProcess.build());
  beforeEach(async () => {
    services = await MqttServices.start('example.rooms');
    mqtt = await MqttBroker.start();
    nodeRed = new NodeRedProcess(new Ledger());
  });
  afterEach(async () => {
    await nodeRed.remove();
    await services.stop();
    await mqtt.stop();
  });

  const start = async (): Promise<void> => {
    const flow = readExample('Systems/MQTT over AMQP.json').map((node) => {
      if (!('port' in node)) return node;
      return { ...node, port: node.type === 'mqtt-broker' ? mqtt.port : services.port };
    });
    await nodeRed.start(flow);
    await services.until(() => services.kept.size === 1);
  };

  it('that is killed is published once each time, and that of one told to stop is not', async () => {
    for (const kills of [1, 2]) {
      await start();
      should(await nodeRed.end('SIGKILL')).deepEqual([null, 'SIGKILL']);
      await services.until(() => services.ends.length === kills);
      services.wills.length.should.equal(kills);
    }
    await start();
    should(await nodeRed.end('SIGTERM')).deepEqual([0, null]);
    await services.until(() => services.ends.length === 3);
    should(services.ends).deepEqual(['lost', 'lost', 'clean'].map((end) => `example.gateway: ${end}`));
    should(services.wills.map(({ topic, body }) => [topic, body])).deepEqual([
      ['example.rooms/gateway/state', 'gone'],
      ['example.rooms/gateway/state', 'gone'],
    ]);
    services.kept.size.should.equal(0);
  });
});
