// The example Systems/MQTT over AMQP, with doubles of both sides.
import should from 'should';
import { MqttServices, type Publication } from '../doubles/mqtt-services';
import { MqttBroker } from '../doubles/mqtt-broker';
import { idOf, isConnected, loadExample, press, readExample, shown, startExamples } from '../example';
import { collect, inject, message, status } from '../flow';
import helper from '../node-red';

const FILE = 'Systems/MQTT over AMQP.json';
const CLIENT = 'example.gateway';
const LIGHT = 'example.rooms/kitchen/light';
const GONE: Publication = {
  topic: 'example.rooms/gateway/state',
  body: 'gone',
  qos: 1,
  isRetained: true,
  isDurable: true,
};

const subscribe = async (): Promise<void> => {
  const granted = shown('granted?');
  press('3. subscribe');
  should((await granted).sent).match({ address: '$subctrl', state: 'accepted' });
};
const list = async (): Promise<unknown> => {
  const told = shown('subscribed to');
  press('5. what is subscribed to?');
  return (await told).payload;
};

describe('A gateway for MQTT over AMQP', () => {
  let services: MqttServices;
  let mqtt: MqttBroker;

  startExamples();
  beforeEach(async () => {
    services = await MqttServices.start('example.rooms');
    mqtt = await MqttBroker.start();
    await load();
  });
  afterEach(async () => {
    await helper.unload();
    await services.stop();
    await mqtt.stop();
  });

  /** Until it has left a will, and asked for its session. */
  const load = async (): Promise<void> => {
    await loadExample(FILE, services.port, { mqtt: mqtt.port });
    const session = shown('subscribed to');
    await Promise.all([
      services.until(() => services.kept.size === 1),
      session,
      status(idOf('mqtt in', 'a lamp'), '.connected'),
      isConnected('amqp-receiver', 'kitchen, temperature'),
      isConnected('amqp-receiver', 'state of the gateway'),
    ]);
  };
  /** Another client, which is no MQTT gateway. */
  const publish = (body: string, isRetained = false): void =>
    services.publish({ topic: LIGHT, body, qos: 1, isRetained, isDurable: true });

  it('publishes what devices say, and tells what is retained and its quality of service', async () => {
    const [published, reading] = [shown('published'), shown('reading')];
    press('1. a reading by MQTT');
    should((await published).sent).match({ address: 'example.rooms/kitchen/temperature', state: 'accepted' });
    should(services.published).deepEqual([
      { topic: 'example.rooms/kitchen/temperature', body: '21.5', qos: 1, isRetained: true, isDurable: true },
    ]);
    should((await reading).amqp).match({
      durable: true,
      message_annotations: { 'x-opt-retain-message': true, 'x-opt-mqtt-qos': 1 },
    });

    const another = shown('published');
    press('2. a reading without MQTT');
    should((await another).sent).match({ address: 'example.rooms/cellar/temperature', state: 'accepted' });
    should(services.published[1]).deepEqual({
      topic: 'example.rooms/cellar/temperature',
      body: '19',
      qos: 1,
      isRetained: true,
      isDurable: true,
    });
  });

  it('subscribes, and gives devices what comes then, until it unsubscribes', async () => {
    await subscribe();
    const heard = collect(idOf('debug', 'the lamp hears'));
    const first = shown('the lamp hears');
    press('4. switch the lamp on');
    should(await first).match({ payload: 'on', topic: LIGHT, qos: 1, retain: false });

    const done = shown('granted?');
    press('6. unsubscribe');
    should((await done).sent).match({ state: 'accepted' });
    publish('nobody hears that');
    await subscribe();
    const next = shown('the lamp hears');
    publish('heard again');
    should((await next).payload).equal('heard again');
    heard.length.should.equal(2);
    should(services.asked).deepEqual(['list', 'subscribe', 'unsubscribe', 'subscribe']);
  });

  it('gives devices no more than the quality of service that was granted', async () => {
    const granted = shown('granted?');
    const amqp = { subject: 'subscribe', correlation_id: `$mqtt.to.${CLIENT}.publish` };
    inject(idOf('amqp-sender', 'subscription service'), { payload: { [LIGHT]: '0' }, amqp });
    should((await granted).sent).match({ state: 'accepted' });
    const heard = shown('the lamp hears');
    press('4. switch the lamp on');
    should(await heard).match({ payload: 'on', qos: 0 });
  });

  it('gets what is retained once it subscribes, and devices see that it is', async () => {
    publish('dimmed', true);
    const heard = shown('the lamp hears');
    await subscribe();
    should(await heard).match({ payload: 'dimmed', topic: LIGHT, qos: 1, retain: true });
  });

  it('learns by the outcome why it gets no subscription', async () => {
    const refusals = [
      {
        asked: () => press('7. subscribe to what is not there'),
        condition: 'amqp:precondition-failed',
      },
      {
        asked: () => inject(idOf('amqp-sender', 'subscription service'), { payload: null, amqp: { subject: 'x' } }),
        condition: 'amqp:not-implemented',
      },
      {
        asked: () => {
          services.isBroken = true;
          press('3. subscribe');
        },
        condition: 'amqp:internal-error',
      },
    ];
    for (const { asked, condition } of refusals) {
      const [granted, why] = [shown('granted?'), shown('why not')];
      asked();
      should((await granted).sent).match({ state: 'rejected', error: { condition } });
      should((await why).error).match({ code: 'AMQP_REJECTED', message: new RegExp(condition) });
    }
    services.isBroken = false;
    should(await list()).deepEqual({});
  });

  it('has its session again after a restart, with what has come meanwhile', async () => {
    should(await list()).deepEqual({});
    await subscribe();
    should(await list()).deepEqual({ 'example.rooms/+/light': '1' });
    await helper.unload();
    publish('on, meanwhile');
    await loadExample(FILE, services.port, { mqtt: mqtt.port });
    const [session, command] = [shown('subscribed to'), message(idOf('mqtt out', 'to the devices'))];
    should((await session).payload).deepEqual({ 'example.rooms/+/light': '1' });
    const { payload, ...others } = await command;
    String(payload).should.equal('on, meanwhile');
    should(others).match({ topic: LIGHT, qos: 1, retain: false });
  });

  describe('leaves a last will under the name of its link', () => {
    it('which is published once when it goes with an error, and not again', async () => {
      should([...services.kept]).deepEqual([[CLIENT, GONE]]);
      const state = shown('state of the gateway');
      press('9. go with an error');
      should((await state).payload).equal('gone');
      should(services.wills).deepEqual([GONE]);
      services.kept.size.should.equal(0);

      services.cut();
      await services.until(() => services.kept.size === 1);
      should(services.wills).deepEqual([GONE]);
      should(services.ends).deepEqual([`${CLIENT}: error`]);
    });

    it('which is published once for each connection that is lost, and left again by the next', async () => {
      for (const count of [1, 2]) {
        services.cut();
        await services.until(() => services.wills.length === count && services.kept.size === 1);
      }
      should(services.wills).deepEqual([GONE, GONE]);
      should(services.ends).deepEqual([`${CLIENT}: lost`, `${CLIENT}: lost`]);
    });

    it('which is forgotten when it goes in good order, until it leaves another', async () => {
      press('10. go in good order');
      await services.until(() => services.ends.length === 1);
      const kept = shown('will is kept');
      press('8. leave a will');
      should((await kept).sent).match({ address: '$lwt', state: 'accepted' });
      should([...services.kept]).deepEqual([[CLIENT, GONE]]);
      services.wills.should.be.empty();
    });

    it('which is forgotten when flows are deployed or stopped, and not when only other nodes are', async () => {
      const flow = readExample(FILE).map((node) => {
        if ('port' in node) node['port'] = node.type === 'mqtt-broker' ? mqtt.port : services.port;
        return node;
      });
      Object.assign(
        flow.find(({ name }) => name === 'why not')!,
        { name: 'why' },
      );
      await helper.setFlows(flow, 'nodes');
      // What had been said before would have come by now.
      await list();
      services.kept.size.should.equal(1);
      services.ends.should.be.empty();

      await helper.setFlows(flow, 'full');
      await services.until(() => services.ends.length === 1 && services.kept.size === 1);
      await helper.unload();
      await services.until(() => services.ends.length === 2);
      should(services.ends).deepEqual([`${CLIENT}: clean`, `${CLIENT}: clean`]);
      services.wills.should.be.empty();
    });

    it('which is refused as what is no will: the flow is told, and the next one is taken', async () => {
      const failed = shown('why not');
      inject(idOf('amqp-sender', 'last will'), { payload: 'gone', amqp: { subject: 'will', to: GONE.topic } });
      should((await failed).error).match({ code: 'AMQP_IN_DOUBT' });
      const kept = shown('will is kept');
      press('8. leave a will');
      await kept;
      should([...services.kept]).deepEqual([[CLIENT, GONE]]);
      services.wills.should.be.empty();
    });

    it('which another one replaces', async () => {
      const kept = shown('will is kept');
      const amqp = {
        subject: 'will',
        to: GONE.topic,
        durable: false,
        message_annotations: { 'x-opt-retain-message': false, 'x-opt-mqtt-qos': 0 },
      };
      inject(idOf('amqp-sender', 'last will'), { payload: 'gone for lunch', amqp });
      await kept;
      press('9. go with an error');
      await services.until(() => services.ends.length === 1);
      should(services.wills).deepEqual([
        { topic: GONE.topic, body: 'gone for lunch', qos: 0, isRetained: false, isDurable: false },
      ]);
    });
  });
});
