// The flow Systems/Kafka bridge as it is shipped, with a double of Strimzi's bridge: written from its source, not run with it.
import { once } from 'node:events';
import should from 'should';
import { KafkaBridge } from '../doubles/kafka-bridge';
import { allShown, idOf, isConnected, loadExample, press, shown, startExamples } from '../example';
import { collect, type Msg, status } from '../flow';
import helper from '../node-red';

const FILE = 'Systems/Kafka bridge.json';
const TOPIC = 'example.sensors';
const GROUP = ['read by the first', 'read by the second'];

const payloadOf = ({ payload }: Msg) => payload as number;
/** Where in Kafka a message was. */
function placeOf({ amqp }: Msg): { partition: number; offset: number } {
  const { message_annotations: annotations } = amqp as { message_annotations: Record<string, unknown> };
  const offset = annotations['x-opt-bridge.offset'] as { value: number };
  return { partition: annotations['x-opt-bridge.partition'] as number, offset: offset.value };
}
/** The next status with this condition. */
async function refusal(condition: string): Promise<Msg> {
  for (;;) {
    const msg = await shown('refused');
    if ((msg['status'] as { amqp: { condition?: string } }).amqp.condition === condition) return msg;
  }
}

describe('The flow Systems/Kafka bridge', () => {
  let bridge: KafkaBridge;

  startExamples();
  beforeEach(async () => {
    bridge = await KafkaBridge.start({ partitions: [[], []], keepsOffsets: true });
  });
  afterEach(async () => {
    await helper.unload();
    await bridge.stop();
  });

  const load = async () => {
    await loadExample(FILE, bridge.port);
    await Promise.all(['first', 'second'].map((name) => isConnected('amqp-receiver', `${name} of the group`)));
  };
  const values = () => bridge.records(TOPIC).map((records) => records.map(({ value }) => Number(value)));
  /** Waits until the group has committed so many records. */
  const committed = async (count: number) => {
    const offsets = () => Object.values(bridge.committed(TOPIC, 'flow'));
    while (offsets().reduce((sum, offset) => sum + offset, 0) < count) await once(bridge, 'commit');
  };

  it('writes by key, by partition and in turn, and tells why a record cannot be written', async () => {
    await load();
    const key = allShown('written', 3);
    press('1. three with the key kitchen');
    for (const { sent } of await key) should(sent).match({ address: TOPIC, state: 'accepted' });
    const [ofKey] = values().filter(({ length }) => length > 0);
    should(ofKey).deepEqual([20, 21, 22]);
    should(values().flat().length).equal(3);
    for (const record of bridge.records(TOPIC).flat()) should(record.key).equal('kitchen');

    const before = values();
    const partition = allShown('written', 3);
    press('2. three to partition 1');
    await partition;
    should(values()).deepEqual([before[0], [...before[1]!, 30, 31, 32]]);

    const turns = allShown('written', 4);
    press('3. four without either');
    await turns;
    should(values()).deepEqual([
      [...before[0]!, 40, 42],
      [...before[1]!, 30, 31, 32, 41, 43],
    ]);

    const failed = shown('why not');
    press('4. one to partition 7');
    const { error } = await failed;
    should(error).match({ code: 'AMQP_REJECTED', message: /io\.strimzi:error-to-kafka: Partition 7 / });
    should(values().flat().length).equal(10);
  });

  it('reads each record once, in a group whose members have a partition each', async () => {
    await load();
    const read = GROUP.map((name) => collect(idOf('debug', name)));
    press('1. three with the key kitchen');
    press('2. three to partition 1');
    press('3. four without either');
    await committed(10);
    should(read.flat().length).equal(10);
    const partitions = read.map((msgs) => [...new Set(msgs.map((msg) => placeOf(msg).partition))]);
    should(partitions.flat().toSorted((a, b) => a - b)).deepEqual([0, 1]);
    for (const [index, msgs] of read.entries()) {
      const [partition] = partitions[index]!;
      should(msgs.map(payloadOf)).deepEqual(values()[partition!]);
      should(msgs.map((msg) => placeOf(msg).offset)).deepEqual(msgs.map((_, offset) => offset));
    }
  });

  it('goes on where the group was when Node-RED is back', async () => {
    await load();
    press('2. three to partition 1');
    await committed(3);
    await helper.unload();
    await load();
    const read = GROUP.map((name) => collect(idOf('debug', name)));
    press('2. three to partition 1');
    await committed(6);
    should(read.flat().map((msg) => placeOf(msg).offset)).deepEqual([3, 4, 5]);
  });

  it('reads a partition from an offset on, as often as it is asked to', async () => {
    await load();
    press('2. three to partition 1');
    press('2. three to partition 1');
    await committed(6);
    for (let times = 0; times < 2; times++) {
      const [consumer, again] = [once(bridge, 'consumer'), allShown('read again', 4)];
      press('5. read partition 1 from offset 2 on');
      should(await consumer).deepEqual([{ topic: TOPIC, group: 'again', partition: 1, offset: 2 }]);
      should((await again).map(placeOf)).deepEqual([2, 3, 4, 5].map((offset) => ({ partition: 1, offset })));
      press('6. stop reading');
      await status(idOf('amqp-receiver', 'from offset 2'), '.detached');
    }
  });

  it("shows the bridge's own conditions, while the group reads on", async () => {
    await load();
    const asked: [button: string, receiver: string, condition: string][] = [
      ['7. a third one in the group of two', 'without filters', 'no-free-partitions'],
      ['8. an address without a group', 'without filters', 'no-group-id'],
      ['9. an offset without a partition', 'offset alone', 'no-partition-filter'],
    ];
    for (const [button, receiver, condition] of asked) {
      const said = refusal(`io.strimzi:${condition}`);
      press(button);
      should(await said).match({ status: { source: { name: receiver }, fill: 'red', shape: 'ring' } });
    }
    press('10. give up');
    const ids = ['without filters', 'offset alone'].map((name) => idOf('amqp-receiver', name));
    await Promise.all(ids.map((id) => status(id, '.detached')));
    press('2. three to partition 1');
    await committed(3);
  });
});
