// The flow examples/Systems/Azure Event Hubs.json, with a double of the service: it never ran with the service itself. TLS is
// switched off. With a Node-RED that restarts it is in test/faults/event-hubs.test.ts.
import should from 'should';
import { EventHubs } from '../doubles/event-hubs/event-hubs';
import { allShown, deploy, idOf, isConnected, loadExample, press, shown, startExamples } from '../example';
import { collect, type Msg, status } from '../flow';
import helper from '../node-red';

const FILE = 'Systems/Azure Event Hubs.json';
/** With so many, the double has the two sensors in different ones. */
const PARTITIONS = 3;
const RECEIVER = 'amqp-systems-event-hubs-receive';

type Telemetry = { degrees: number; sensor: string; partition: string };
const telemetry = ({ payload }: Msg) => payload as Telemetry;
const degrees = (msgs: Msg[]) => msgs.map((msg) => telemetry(msg).degrees);

async function send(...buttons: string[]): Promise<void> {
  for (const button of buttons) {
    const sent = shown('sent');
    press(button);
    await sent;
  }
}

async function pause(): Promise<void> {
  press('6. pause');
  await status(RECEIVER, '.paused');
}

describe('With Azure Event Hubs', () => {
  let service: EventHubs;

  startExamples();
  beforeEach(async () => {
    service = await EventHubs.start({ hubs: { telemetry: { partitions: PARTITIONS } } });
    process.env['AZURE_EVENT_HUBS'] = service.connectionString();
    await loadExample(FILE, service.port, {}, { endpoint: { usetls: false } });
    await isConnected('amqp-receiver', 'telemetry');
  });
  afterEach(async () => {
    delete process.env['AZURE_EVENT_HUBS'];
    await helper.unload();
    await service.stop();
  });

  it('telemetry is sent with a partition key, and received', async () => {
    const [sent, event] = [shown('sent'), shown('event')];
    press('1. of sensor 1');
    should(await sent).match({ sent: { address: 'telemetry', state: 'accepted' } });
    should(telemetry(await event)).match({ degrees: 21, sensor: 'sensor 1', partition: /^[012]$/ });
  });

  it('several go together, to one partition, in their order', async () => {
    const events = allShown('event', 3);
    let transfers = 0;
    service.on('message', () => transfers++);
    press('3. three together');
    const all = await events;
    should(degrees(all)).deepEqual([20, 21, 22]);
    new Set(all.map((msg) => telemetry(msg).partition)).size.should.equal(1);
    transfers.should.equal(1);
  });

  it('the partition key of each sensor decides on the partition', async () => {
    const events = allShown('event', 7);
    await send('1. of sensor 1', '2. of sensor 2', '3. three together', '2. of sensor 2', '1. of sensor 1');
    const all = (await events).map((msg) => telemetry(msg));
    const of = (name: string) => all.filter(({ sensor }) => sensor === name);
    should(of('sensor 1').map((one) => one.degrees)).deepEqual([21, 20, 21, 22, 21]);
    should(of('sensor 2').map((one) => one.degrees)).deepEqual([5, 5]);
    should(new Set(all.map(({ sensor, partition }) => `${sensor} ${partition}`)).size).equal(2);
    should(new Set(all.map(({ partition }) => partition)).size).equal(2);
  });

  it('it goes on where it was after a change was deployed, also behind an event that failed', async () => {
    const failed = shown('failed events');
    press('4. one that fails');
    should((await failed).error).match({ message: 'Error: no degrees' });
    const event = shown('event');
    press('1. of sensor 1');
    await event;
    await pause();
    await send('3. three together');
    const again = collect(idOf('debug', 'failed events'));
    const events = allShown('event', 3);
    await deploy({ [RECEIVER]: { epoch: '1' } });
    // All are of one partition: what came before the first of these would have come by now.
    should(degrees(await events)).deepEqual([20, 21, 22]);
    should(again).deepEqual([]);
  });

  it('nothing is lost and nothing comes twice in any partition, when it was away in between', async () => {
    const before = allShown('event', 2);
    await send('1. of sensor 1', '2. of sensor 2');
    await before;
    await pause();
    const events = collect(idOf('debug', 'event'));
    await send('3. three together', '2. of sensor 2');
    should(events).deepEqual([]);
    const missed = allShown('event', 4);
    await deploy({ [RECEIVER]: { epoch: '1' } });
    await missed;
    const more = allShown('event', 2);
    await send('1. of sensor 1', '2. of sensor 2');
    await more;
    const of = (name: string) => degrees(events.filter((msg) => telemetry(msg).sensor === name));
    should(of('sensor 1')).deepEqual([20, 21, 22, 21]);
    should(of('sensor 2')).deepEqual([5, 5]);
  });

  it('the service says what it knows of the partitions', async () => {
    const told = shown('what the service knows');
    press('5. ask about the partitions');
    should((await told).payload).match({
      name: 'telemetry',
      partitions: ['0', '1', '2'].map((id) => ({ id, isEmpty: true })),
    });
  });
});
