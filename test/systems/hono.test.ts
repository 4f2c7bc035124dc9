// The flow examples/Systems/Hono.json, with a double of Eclipse Hono: it never ran with Hono itself.
import { EventEmitter, once } from 'node:events';
import should from 'should';
import { type Device, Hono } from '../doubles/hono';
import { idOf, isConnected, loadExample, press, shown, startExamples } from '../example';
import { inject } from '../flow';
import helper from '../node-red';

const FILE = 'Systems/Hono.json';
const TENANT = 'example.hono';
const REPLIES = `command_response/${TENANT}/node-red`;

const lamp: Device = ({ subject, payload }) =>
  subject === 'setBrightness'
    ? { status: 200, body: { was: 10, ...JSON.parse(payload) } }
    : { status: 400, body: { error: `${subject} is not known` } };

describe('With Eclipse Hono', () => {
  let hono: Hono;

  startExamples();
  beforeEach(async () => {
    hono = await Hono.start(TENANT);
    await loadExample(FILE, hono.port);
    await Promise.all([isConnected('amqp-receiver', 'telemetry'), isConnected('amqp-requester', 'command')]);
  });
  afterEach(async () => {
    await helper.unload();
    await hono.stop();
  });

  it('the flow gets what devices report, with who and when', async () => {
    const reported = shown('reported');
    hono.report('lamp', { brightness: 10 });
    const { payload, amqp } = await reported;
    should(payload).deepEqual({ brightness: 10 });
    should(amqp).match({ content_type: 'application/json', application_properties: { device_id: 'lamp' } });
    should(Date.now() - Number(amqp!['creation_time'])).be.within(0, 10_000);
  });

  it('a command reaches its device with name and body, and the reply comes to the fixed address', async () => {
    hono.connect('lamp', lamp);
    const [command, accepted, done] = [once(hono, 'command'), shown('the device has it'), shown('done')];
    press('1. brightness 80');
    should(await command).deepEqual([
      { device: 'lamp', subject: 'setBrightness', payload: '{"brightness":80}', replyTo: REPLIES },
    ]);
    should((await accepted).sent).match({ address: `command/${TENANT}`, state: 'accepted' });
    should(await done).match({
      payload: { was: 10, brightness: 80 },
      amqp: { application_properties: { device_id: 'lamp', tenant_id: TENANT, status: 200 } },
    });
  });

  it('replies find their commands, in whatever order devices reply', async () => {
    const gate = new EventEmitter();
    hono.connect('lamp', async (command) => {
      if (command.subject === 'setBrightness') await once(gate, 'open');
      return lamp(command);
    });
    const [refused, done] = [shown('refused by the device'), shown('done')];
    press('1. brightness 80');
    press('2. sing');
    should((await refused).payload).deepEqual({ error: 'sing is not known' });
    gate.emit('open');
    should((await done).payload).match({ brightness: 80 });
  });

  it('a reply whose status is not 2xx takes the other way', async () => {
    hono.connect('lamp', lamp);
    const refused = shown('refused by the device');
    press('2. sing');
    should(await refused).match({
      payload: { error: 'sing is not known' },
      amqp: { application_properties: { status: 400 } },
    });
  });

  it('a command for a device that is not connected is given back, and sent again until the device is there', async () => {
    const released = once(hono, 'released');
    press('1. brightness 80');
    should(await released).deepEqual(['lamp']);
    const done = shown('done');
    hono.connect('lamp', lamp);
    should((await done).payload).match({ brightness: 80 });
  });

  it('a command for a device that stays away fails when the time is over', async () => {
    const failed = shown('why not');
    press('1. brightness 80');
    should((await failed).error).match({ code: 'AMQP_REPLY_TIMEOUT', message: /released/ });
  });

  it('a command that wants no reply names no reply address, and is done once the device has it', async () => {
    hono.connect('lamp', lamp);
    const [command, accepted] = [once(hono, 'command'), shown('the device has it')];
    press('3. blink');
    should(await command).deepEqual([{ device: 'lamp', subject: 'blink', payload: '{"times":3}', replyTo: undefined }]);
    should((await accepted).sent).match({ state: 'accepted' });
  });

  it('a command that wants no reply, for a device that stays away, fails as given back', async () => {
    const failed = shown('why not');
    press('3. blink');
    should((await failed).error).match({ code: 'AMQP_RELEASED' });
  });

  it('a command of the flow goes to the device that msg.amqp.to names', async () => {
    hono.connect('door', () => ({ status: 204, body: {} }));
    const command = once(hono, 'command');
    inject(idOf('amqp-requester', 'command'), {
      payload: {},
      amqp: { to: `command/${TENANT}/door`, subject: 'open' },
    });
    should(await command).match([{ device: 'door', subject: 'open' }]);
    should(await shown('done')).match({ amqp: { application_properties: { device_id: 'door', status: 204 } } });
  });
});
