// What people have deployed when they update the package: flows as the forms of earlier versions saved them, with the nodes of
// today. `flows-<version>.json` has such nodes; here they get ports, wires and a login.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Node } from 'node-red';
import should from 'should';
import { Broker } from '../../broker/broker';
import { freePort } from '../../scripts/free-port';
import { endpointNode, helper, inject, load, message, type Msg, node, status } from '../flow';
import type { NodeConfig } from '../node-red';
import { secretOf } from '../secrets';

/** Each has a file in test/fixtures. */
const VERSIONS = ['0.1.0'];
const PASSWORD = secretOf('password');
/** Where what leaves a node arrives. */
const out = (id: string) => `out of ${id}`;

let broker: Broker;
let nodes: NodeConfig[];

const settled = async (): Promise<unknown> => (await once(broker, 'settled'))[0];
const isOfClients = ({ endpoint }: NodeConfig): boolean => endpoint === 'saved-listener';

async function start(version: string): Promise<void> {
  broker = await Broker.start({ users: { ada: PASSWORD }, anonymous: false });
  const port = await freePort();
  const fixture = join(__dirname, '..', 'fixtures', `flows-${version}.json`);
  const saved: NodeConfig[] = JSON.parse(readFileSync(fixture, 'utf8'));
  nodes = saved.filter(({ type }) => type !== 'amqp-endpoint');
  const wired = saved.map((config) => {
    if (config.type === 'amqp-endpoint')
      return { ...config, port: String(config.id === 'saved-listener' ? port : broker.port) };
    return { ...config, wires: config.type === 'amqp-requester' ? [[], [out(config.id)]] : [[out(config.id)]] };
  });
  await load(
    [
      { id: 'more', type: 'tab', label: 'More' },
      ...wired,
      ...nodes.map(({ id }) => ({ id: out(id), type: 'helper', z: 'more', x: 0, y: 0, wires: [] })),
      // What a client of the listening endpoint has.
      { id: 'out', type: 'helper', z: 'more', x: 0, y: 0, wires: [] },
      endpointNode(port),
      node('amqp-sender', { z: 'more', address: 'saved.fromclients', wires: [[]] }),
      node('amqp-receiver', { z: 'more', address: 'saved.clients' }),
    ],
    { 'saved-server': { user: 'ada', pass: PASSWORD } },
  );
}

/** Sends a message by a sender of the flow, and resolves with what leaves another node of it then. */
function sent(msg: object, to: string, by = 'to any address'): Promise<Msg> {
  const received = message(to);
  inject(by, msg);
  return received;
}

for (const version of VERSIONS) {
  describe(`A flow that version ${version} saved`, () => {
    before(() => helper.startServer());
    after(() => helper.stopServer());
    beforeEach(() => start(version));
    afterEach(async () => {
      await helper.unload();
      await broker.stop();
    });

    it('comes up after an update: each node connects, and none has an error', async () => {
      nodes.length.should.be.above(10);
      for (const { id, addresses, ...config } of nodes) {
        // It waits for the flow to name one.
        const text =
          addresses === 'several' ? '.unsubscribed' : isOfClients({ id, ...config }) ? '.listening' : '.connected';
        await status(id, text);
      }
      const { status: spy } = helper.getNode('ask') as unknown as {
        status: { args: [{ fill?: string }][]; thisValues: Node[] };
      };
      spy.args.length.should.be.above(nodes.length);
      spy.args.filter(([{ fill }]) => fill === 'red').should.eql([]);
      const log = helper.log().args.map(([entry]) => entry);
      // Warnings are 30, errors less; what Node-RED itself says has no id.
      log.filter(({ id, level }) => id && level <= 30).should.eql([]);
    });

    it('sends', async () => {
      for (const [id, address] of [
        ['at most once', 'saved.once'],
        ['pre-settled', 'saved.settled'],
      ] as const) {
        await sent({ payload: 'Hello' }, out(id), id);
        while (broker.messages(address).length === 0) await once(broker, 'received');
        should(broker.messages(address)).match([{ body: 'Hello', durable: true }]);
      }
      should(await sent({ topic: 'saved.other', payload: 'Hello' }, out('to any address'))).match({
        sent: { address: 'saved.other', state: 'accepted' },
      });
    });

    it('receives', async () => {
      should(await sent({ topic: 'saved.arrival', payload: 1 }, out('on arrival'))).match({ payload: 1 });
      await status('durable', '.connected');
      should(await sent({ topic: 'topic/saved', payload: 2 }, out('durable'))).match({ payload: 2 });
      await sent({ topic: 'saved.browsed', payload: 3 }, out('to any address'));
      // It is shown what is there when it attaches.
      const [detached] = [once(broker, 'detach'), inject('browser', { action: 'detach' })];
      await detached;
      const shown = message(out('browser'));
      inject('browser', { action: 'subscribe' });
      should(await shown).match({ payload: 3 });
      broker.depth('saved.browsed').should.equal(1);

      const ten = message(out('ten together'));
      for (let n = 0; n < 10; n++) inject('to any address', { topic: 'saved.ten', payload: n });
      const { payload } = (await ten) as { payload: { payload: number }[] };
      payload.map((msg) => msg.payload).should.eql([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);

      const held = await sent({ topic: 'saved.flow', payload: 4 }, out('by the flow'));
      broker.unsettled('saved.flow').should.equal(1);
      const outcome = settled();
      inject('by the flow', held);
      should(await outcome).match({ address: 'saved.flow', state: 'accepted' });

      inject('several', { action: 'subscribe', topic: 'saved.several' });
      should(await sent({ topic: 'saved.several', payload: 5 }, out('several'))).match({ payload: 5 });
    });

    it('asks and answers', async () => {
      for (const id of ['ask', 'ask by a queue']) {
        const [request, reply] = [message(out('answer')), message(out(id))];
        inject(id, { payload: 'How are you?', mine: id });
        inject('answer', { ...(await request), payload: 'Well' });
        should(await reply).match({ payload: 'Well', mine: id });
      }
    });

    it('serves clients', async () => {
      should(await sent({ payload: 6 }, out('from clients'), 'sender')).match({ payload: 6 });
      should(await sent({ payload: 7 }, 'out', 'to clients')).match({ payload: 7 });
    });
  });
}
