// The flow Systems/Edge gateway as it is shipped; test/faults/edge-gateway.test.ts has its outages, kills and power failures.
import { once } from 'node:events';
import type { EventContext, Sender } from 'rhea';
import should from 'should';
import { Broker } from '../../broker/broker';
import { freePort } from '../../scripts/free-port';
import { connectTo, sender } from '../broker/client';
import { MqttBroker } from '../doubles/mqtt-broker';
import { allShown, ask, idOf, isConnected, loadExample, press, shown, startExamples } from '../example';
import { helper, message, status } from '../flow';

const FLOW = 'Systems/Edge gateway.json';
const READING = { device: 'meter', degrees: 20 };

const post = () =>
  ask('/example/gateway', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(READING),
  });

describe('The edge gateway', () => {
  let broker: Broker;
  let mqtt: MqttBroker;
  let port: number;
  let device: Sender | undefined;

  startExamples();
  beforeEach(async () => {
    [broker, mqtt, port] = await Promise.all([Broker.start(), MqttBroker.start(), freePort()]);
  });
  afterEach(async () => {
    device?.connection.close();
    await helper.unload();
    await Promise.all([broker.stop(), mqtt.stop()]);
  });

  async function start(limits: object = {}): Promise<void> {
    await loadExample(FLOW, broker.port, { '-listener': port, '-mqtt': mqtt.port }, { '-send': limits });
    await isConnected('amqp-sender', 'to the server');
    device = await sender(await connectTo(port), 'example.gateway.in');
  }

  /** What a device that speaks AMQP is told of its reading. */
  async function told(): Promise<{ outcome: string; description?: string }> {
    const answers = ['accepted', 'rejected', 'released', 'modified'].map(async (outcome) => {
      const [{ delivery }] = (await once(device!, outcome)) as [EventContext];
      const { error } = delivery!.remote_state as { error?: { description: string } };
      return { outcome, ...(error && { description: error.description }) };
    });
    device!.send({ body: READING });
    return Promise.race(answers);
  }

  it('passes on what comes from a button, MQTT, HTTP and AMQP, and tells devices that it is kept', async () => {
    await start();
    await status(idOf('mqtt in', 'MQTT devices'), '.connected');
    const readings = allShown('reading', 4);
    press('1. a reading');
    mqtt.publish('example/gateway/meter', JSON.stringify(READING));
    should((await post()).status).equal(202);
    should(await told()).eql({ outcome: 'accepted' });
    const subjects = (await readings).map(({ amqp }) => String(amqp!['subject']));
    should(subjects.toSorted()).eql(['button', 'example/gateway/meter', 'http', 'undefined']);
  });

  it('tells devices when it keeps no more, and takes readings again once the server is back', async () => {
    await start({ buffer: 1 });
    await broker.stop();
    should((await post()).status).equal(202);
    const why = shown('why not');
    should((await post()).status).equal(503);
    should((await why).error).match({ code: 'AMQP_BUFFER_FULL' });
    should(await told()).match({ outcome: 'rejected', description: /buffer/ });

    const kept = message(idOf('debug', 'reading'));
    await broker.resume();
    should((await kept).payload).eql(READING);
    should((await post()).status).equal(202);
  });
});
