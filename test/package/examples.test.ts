// Every example flow as it is shipped, on the embedded broker: only the endpoint's port is changed.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import should from 'should';
import endpoint from '../../nodes/amqp-endpoint';
import receiver from '../../nodes/amqp-receiver';
import requester from '../../nodes/amqp-requester';
import responder from '../../nodes/amqp-responder';
import sender from '../../nodes/amqp-sender';
import helper, { coreNode, type NodeConfig } from '../node-red';
import { Broker } from '../../broker/broker';

type Msg = Record<string, any>;

const CORE = ['common/20-inject', 'common/21-debug', 'common/90-comment', 'function/10-function'];
const folder = join(__dirname, '..', '..', 'examples');
const examples = readdirSync(folder).toSorted();
const read = (file: string): NodeConfig[] => JSON.parse(readFileSync(join(folder, file), 'utf8'));

describe('the examples', () => {
  let broker: Broker;
  let flow: NodeConfig[];

  before(() => helper.startServer());
  after(() => helper.stopServer());
  beforeEach(async () => {
    broker = await Broker.start();
  });
  afterEach(async () => {
    await helper.unload();
    await broker.stop();
  });

  const load = async (file: string) => {
    flow = read(file);
    for (const node of flow) if (node.type === 'amqp-endpoint') node['port'] = broker.port;
    await helper.load([endpoint, sender, receiver, requester, responder, ...CORE.map(coreNode)], flow);
  };
  const node = (type: string, name: string) => {
    const found = flow.find((candidate) => candidate.type === type && candidate['name'] === name);
    return helper.getNode(found!.id);
  };
  /** Presses the button of an inject node. */
  const press = (name: string) => node('inject', name).receive({});
  /** The next message that a debug node shows. */
  const shown = (name: string) =>
    new Promise<Msg>((resolve) => node('debug', name).once('input', (msg) => resolve(msg)));

  const runs: Record<string, () => Promise<void>> = {
    '01 - Send a message.json': async () => {
      for (const name of ['Hello', 'with properties']) {
        const delivered = shown('delivered');
        press(name);
        should((await delivered)['sent']).match({ address: 'example.queue', state: 'accepted' });
      }
      const [hello, properties] = broker.messages('example.queue');
      should(hello).match({ body: 'Hello' });
      should(properties).match({ subject: 'reading', durable: true, application_properties: { room: 'kitchen' } });

      broker.answer('example.queue', 'reject', 1);
      const lost = shown('why not');
      press('Hello');
      should((await lost)['error']).have.property('code');
    },

    '02 - Receive messages.json': async () => {
      const message = shown('message');
      press('Hello');
      should(await message).match({ payload: 'Hello', topic: 'example.queue' });
    },

    '03 - Request a reply.json': async () => {
      const [accepted, reply] = [shown('accepted'), shown('reply')];
      press('Ada');
      should(await accepted).match({ sent: { state: 'accepted' } });
      should(await reply).match({ payload: 'Hello, Ada' });
    },

    '04 - Reply to requests.json': async () => {
      const sum = shown('sum');
      press('1, 2, 3');
      should(await sum).match({ payload: 6 });

      const refusal = shown('sum');
      press('not numbers');
      should((await refusal)['payload']['error'])
        .be.a.String()
        .and.match(/reduce/);
    },

    '05 - Process, then confirm.json': async () => {
      for (const [name, state] of [
        ['a good order', 'accepted'],
        ['a bad order', 'rejected'],
      ] as const) {
        const settled = new Promise((resolve) => broker.once('settled', resolve));
        press(name);
        should(await settled).match({ address: 'example.orders', state });
      }
      broker.depth('example.orders').should.equal(0);
    },
  };

  for (const file of examples) {
    it(`${file.replace('.json', '')}: messages flow`, async () => {
      should(runs).have.property(file);
      await load(file);
      await runs[file]!();
    });
  }

  it('share no node id, so that several can be imported side by side without a question', () => {
    const ids = examples.flatMap((file) => read(file).map(({ id }) => id));
    ids.filter((id, index) => ids.indexOf(id) < index).should.be.empty();
  });

  it('each have one endpoint of their own, which all their AMQP nodes use', () => {
    for (const file of examples) {
      const nodes = read(file);
      const endpoints = nodes.filter(({ type }) => type === 'amqp-endpoint').map(({ id }) => id);
      endpoints.should.have.length(1, file);
      const used = nodes.filter((user) => 'endpoint' in user).map((user) => user['endpoint']);
      new Set(used).should.deepEqual(new Set(endpoints), file);
    }
  });

  it('are laid out so that no node covers another', () => {
    for (const file of examples) {
      const boxes = read(file)
        .filter((placed) => 'x' in placed)
        .map(boxOf);
      for (const box of boxes) boxes.filter((other) => overlap(box, other)).should.deepEqual([box], file);
    }
  });
});

type Box = { name: string; x: number; y: number; width: number };

/** About what the editor draws. */
function boxOf(node: NodeConfig): Box {
  const name = String(node['name']);
  return { name, x: Number(node['x']), y: Number(node['y']), width: Math.max(100, 60 + name.length * 7) };
}

function overlap(a: Box, b: Box): boolean {
  return Math.abs(a.y - b.y) < 40 && Math.abs(a.x - b.x) < (a.width + b.width) / 2;
}
