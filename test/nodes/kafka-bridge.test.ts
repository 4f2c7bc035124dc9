// The receiver's filters for Kafka, with a double of Strimzi's bridge: written from its source, not run with it.
import { once } from 'node:events';
import should from 'should';
import { texts } from '../brokers/trial';
import { KafkaBridge } from '../doubles/kafka-bridge';
import { collect, endpointNode, flow, helper, messages, node, nodes, status } from '../flow';

const ADDRESS = 'readings/group.id/flow';
const partition = (value: string) => ({ filter: 'kafka-partition', value });
const offset = (value: string) => ({ filter: 'kafka-offset', value });
const other = (name: string, type: string, value: string, descriptor = '') => ({
  filter: 'other',
  name,
  type,
  value,
  descriptor,
});
const PARTITION = 'io.strimzi:partition-filter:int';
const OFFSET = 'io.strimzi:offset-filter:long';

describe('a receiver from a bridge to Kafka', () => {
  let bridge: KafkaBridge;
  before(async () => {
    await helper.startServer();
    bridge = await KafkaBridge.start({
      partitions: [
        ['a0', 'a1'],
        ['b0', 'b1', 'b2', 'b3'],
      ],
    });
  });
  after(async () => {
    await bridge.stop();
    await helper.stopServer();
  });
  afterEach(() => helper.unload());

  const start = (filters: object[], address = ADDRESS) =>
    helper.load([texts, ...nodes], flow(endpointNode(bridge.port), node('amqp-receiver', { address, filters })));

  it('gets all partitions without a filter', async () => {
    await start([]);
    const received = await messages('out', 6);
    should(received.map(({ payload }) => String(payload))).eql(['a0', 'a1', 'b0', 'b1', 'b2', 'b3']);
  });

  it('gets one partition', async () => {
    const consumer = once(bridge, 'consumer');
    await start([partition('0')]);
    const received = await messages('out', 2);
    should(received.map(({ payload }) => String(payload))).eql(['a0', 'a1']);
    should(await consumer).eql([{ topic: 'readings', group: 'flow', partition: 0 }]);
    await status('receiver', 'connected');
  });

  it('gets one partition from an offset on', async () => {
    await start([partition('1'), offset('2')]);
    const received = await messages('out', 2);
    should(received.map(({ payload }) => String(payload))).eql(['b2', 'b3']);
    should(received[0]!.amqp).match({
      message_annotations: { 'x-opt-bridge.partition': 1, 'x-opt-bridge.offset': { $amqp: 'long', value: 2 } },
    });
  });

  const refused: [what: string, filters: object[], condition: string][] = [
    ['an offset without a partition', [offset('2')], 'no-partition-filter'],
    ['a negative partition', [partition('-1')], 'wrong-filter'],
    ['a negative offset', [partition('0'), offset('-2')], 'wrong-filter'],
    ['a partition that there is not', [partition('7')], 'partition-not-exists'],
    ['a partition that is a uint', [other(PARTITION, 'uint', '0')], 'wrong-partition-filter'],
    ['a partition that is described', [other(PARTITION, 'int', '0', PARTITION)], 'wrong-partition-filter'],
    ['an offset that is an int', [partition('0'), other(OFFSET, 'int', '1')], 'wrong-offset-filter'],
  ];
  for (const [what, filters, condition] of refused) {
    it(`shows the bridge's own condition for ${what}, and gets nothing`, async () => {
      await start(filters);
      const received = collect('out');
      should(await status('receiver', `io.strimzi:${condition}`)).match({ fill: 'red' });
      should(received).be.empty();
    });
  }

  it("shows the bridge's own condition for an address without a group", async () => {
    await start([partition('0')], 'readings');
    should(await status('receiver', 'io.strimzi:no-group-id')).match({ fill: 'red' });
  });
});
