// A Node-RED that keeps its context on disk, and so its place in an event hub (a double), ended in several ways.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { watch } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import rhea from 'rhea';
import should from 'should';
import { Message } from '../doubles/azure/messages';
import { EventHubs } from '../doubles/event-hubs/event-hubs';
import { readExample } from '../example';
import { node } from '../flow';
import type { NodeConfig } from '../node-red';
import { Ledger } from './ledger';
import { NodeRedProcess } from './node-red-process';

const FLOW = [
  { id: 'flow', type: 'tab', label: 'flow' },
  { id: 'hub', type: 'amqp-endpoint', z: '', peer: 'eventhubs', host: '${AMQP_TEST_VALUE}', autoconnect: true },
  node('amqp-receiver', {
    endpoint: 'hub',
    address: 'telemetry',
    settle: 'flow',
    start: 'earliest',
    places: 'default',
    wires: [['shown']],
  }),
  { id: 'shown', type: 'debug', z: 'flow', x: 0, y: 0, active: true, console: true, complete: 'payload', wires: [] },
  { id: 'done', type: 'complete', z: 'flow', x: 0, y: 0, scope: ['shown'], wires: [['receiver']] },
];

describe('Node-RED with its place in an event hub on disk', function () {
  this.timeout(60_000);

  let service: EventHubs;
  let nodeRed: NodeRedProcess;
  let directory: string;
  before(() => NodeRedProcess.build());
  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'context-'));
    service = await EventHubs.start({ hubs: { telemetry: { partitions: 3 } } });
    nodeRed = new NodeRedProcess(new Ledger());
  });
  afterEach(async function () {
    if (this.currentTest!.state === 'failed') console.error(nodeRed.log);
    await nodeRed.remove();
    await service.stop();
    rmSync(directory, { recursive: true });
  });

  const partition = () => service.hub('telemetry').partition(0);
  const add = (...bodies: string[]) =>
    partition().add(bodies.map((body) => Message.decode(rhea.message.encode({ body }))));
  const start = (flow: NodeConfig[] = FLOW) =>
    nodeRed.start(flow, {
      env: { AMQP_TEST_VALUE: service.connectionString(), AZURE_EVENT_HUBS: service.connectionString() },
      settings: {
        contextStorage: { default: { module: 'localfilesystem', config: { dir: directory, flushInterval: 1 } } },
      },
    });
  /** The events that the flow has had, in their order, once it has had the one named. */
  async function shown(last: string): Promise<string[]> {
    await nodeRed.until(() => nodeRed.log.includes(`:shown] '${last}'`) || nodeRed.log.includes(`:shown] ${last}\n`));
    return Array.from(nodeRed.log.matchAll(/:shown\] '?(\w+)'?/g), ([, body]) => body!);
  }

  /** Resolves once the place on disk is that of the last event. */
  async function kept(): Promise<void> {
    const { offset } = partition().events.at(-1)!;
    const isKept = (): boolean =>
      existsSync(join(directory, 'context')) &&
      readdirSync(join(directory, 'context'), { recursive: true, withFileTypes: true }).some(
        // Node-RED renames it to that once it is written.
        (file) =>
          file.name.endsWith('.json') && readFileSync(join(file.parentPath, file.name), 'utf8').includes(`"${offset}"`),
      );
    const over = new AbortController();
    try {
      for await (const _change of watch(directory, { recursive: true, signal: over.signal }))
        if (isKept()) over.abort();
    } catch (error) {
      if (!over.signal.aborted) throw error;
    }
  }

  /** Numbers of degrees come from a sensor; the double has these two in different partitions. */
  const measure = (sensor: 1 | 2, ...all: number[]) => {
    for (const degrees of all) {
      const body = rhea.message.data_section(Buffer.from(JSON.stringify({ degrees })));
      service.put('telemetry', Message.decode(rhea.message.encode({ body })), `sensor ${sensor}`);
    }
  };
  /** Resolves once there is a link to each partition. */
  const attached = () =>
    new Promise<void>((resolve) => {
      let receivers = 0;
      service.on('attach', ({ address }: { address: string }) => {
        if (/partitions/.test(address) && ++receivers === 3) resolve();
      });
    });

  it('goes on there after it was stopped in good order', async () => {
    add('a', 'b');
    await start();
    should(await shown('b')).deepEqual(['a', 'b']);
    await nodeRed.end('SIGTERM');
    add('c');
    await start();
    should(await shown('c')).deepEqual(['c']);
  });

  it('goes on in each partition with the flow of the examples: nothing is lost, and nothing comes twice', async () => {
    const flow = readExample('Systems/Azure Event Hubs.json');
    const named = (type: string, name: string) => flow.find((one) => one.type === type && one['name'] === name)!;
    named('amqp-endpoint', 'Azure Event Hubs')['usetls'] = false;
    Object.assign(named('debug', 'event'), { console: true, complete: 'payload.degrees' });
    const measured = async (count: number) => {
      const told = () => Array.from(nodeRed.log.matchAll(/:event\] (\d+)/g), ([, degrees]) => Number(degrees));
      await nodeRed.until(() => told().length >= count);
      return told().toSorted((a, b) => a - b);
    };
    await Promise.all([attached(), start(flow)]);
    measure(1, 1, 2);
    measure(2, 3);
    should(await measured(3)).deepEqual([1, 2, 3]);
    await nodeRed.end('SIGTERM');
    measure(1, 4, 5);
    measure(2, 6);
    await start(flow);
    should(await measured(3)).deepEqual([4, 5, 6]);
    // What comes twice in a partition would do so before these.
    measure(1, 7);
    measure(2, 8);
    should(await measured(5)).deepEqual([4, 5, 6, 7, 8]);
  });

  it('goes on where it was at the last time that this was saved, when it was killed', async () => {
    add('a', 'b');
    await start();
    should(await shown('b')).deepEqual(['a', 'b']);
    await kept();
    await nodeRed.end('SIGKILL');
    add('c');
    await start();
    should(await shown('c')).deepEqual(['c']);
  });
});
