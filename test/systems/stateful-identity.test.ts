// The flow examples/Systems/Stateful identity.json: an instance of a StatefulSet, and two with one name.
import { once } from 'node:events';
import should from 'should';
import { Broker } from '../../broker/broker';
import { OneIdentity } from '../doubles/one-identity';
import { idOf, isConnected, loadExample, press, readExample, shown, startExamples } from '../example';
import { collect, nodes, status } from '../flow';
import helper, { coreNode, type NodeConfig } from '../node-red';
import { logged, texts, WARN } from '../texts';

const FILE = 'Systems/Stateful identity.json';
const TOPIC = 'topic://example.identity.news';
const PREFIX = 'amqp-systems-identity';

/** As a pod of the set has it. */
function be(name: string): void {
  process.env['HOSTNAME'] = name;
}

describe('An instance of a StatefulSet', () => {
  const before = process.env['HOSTNAME'];
  let broker: Broker;

  startExamples((started) => (broker = started));
  afterEach(() => {
    if (before === undefined) delete process.env['HOSTNAME'];
    else process.env['HOSTNAME'] = before;
  });

  async function start(name: string): Promise<void> {
    be(name);
    await loadExample(FILE, broker.port);
    await isConnected('amqp-receiver', 'news');
  }

  it('is known by its host name, and gets after a restart what it has missed, once', async () => {
    const opened = once(broker, 'connection');
    await start('orders-0');
    should(await opened).match([{ containerId: 'orders-0' }]);
    should(broker.links().find(({ role }) => role === 'receiver')).match({
      name: 'example-news',
      containerId: 'orders-0',
      source: { address: TOPIC, durable: 2, expiry_policy: 'never' },
    });
    const own = shown('name of this instance');
    press('1. who am I?');
    should((await own).payload).equal('orders-0');

    const left = once(broker, 'detach');
    await helper.unload();
    should(await left).match([{ closed: false }]);
    broker.put(TOPIC, { body: 'missed' });
    be('orders-0');
    await loadExample(FILE, broker.port);
    should((await shown('arrived')).payload).equal('missed');
    const next = shown('arrived');
    press('2. publish');
    should((await next).payload).be.a.Number();
  });

  it('with another name has a subscription of its own, and leaves the other one alone', async () => {
    await start('orders-0');
    await helper.unload();
    broker.put(TOPIC, { body: 'for orders-0' });
    await start('orders-1');
    const first = shown('arrived');
    press('2. publish');
    should((await first).payload).be.a.Number();
    await helper.unload();
    be('orders-0');
    await loadExample(FILE, broker.port);
    should((await shown('arrived')).payload).equal('for orders-0');
  });

  it('that goes for good unsubscribes: nothing is kept any more', async () => {
    await start('orders-0');
    const gone = once(broker, 'detach');
    press('3. unsubscribe');
    should(await gone).match([{ closed: true }]);
    await helper.unload();
    broker.put(TOPIC, { body: 'to nobody' });
    await start('orders-0');
    const next = shown('arrived');
    press('2. publish');
    should((await next).payload).be.a.Number();
  });

  it('says so when the server gives its subscription to another client of its name', async () => {
    await start('orders-0');
    broker.detach(TOPIC, { condition: 'amqp:link:stolen' });
    should(await status(idOf('amqp-receiver', 'news'), '.reason.client-id')).match({ fill: 'red', shape: 'ring' });
  });

  describe('with a second one of the same name', () => {
    let server: OneIdentity;

    beforeEach(async () => {
      server = await OneIdentity.start();
    });
    afterEach(async () => {
      await helper.unload();
      await server.stop();
    });

    /** The same flow once more, as in another pod. */
    const copy = (suffix: string): NodeConfig[] => {
      const flow: NodeConfig[] = JSON.parse(JSON.stringify(readExample(FILE)).replaceAll(PREFIX, `${PREFIX}${suffix}`));
      for (const node of flow) if ('port' in node) Object.assign(node, { port: server.port });
      return flow;
    };
    const CORE = ['common/20-inject', 'common/21-debug', 'common/25-status', 'common/90-comment'].map(coreNode);
    const [receiver, twin] = ['', '-twin'].map((suffix) => `${PREFIX}${suffix}-receive`);

    it('the second one is turned away, says why in status and log, does not fight, and comes in once the first is gone', async () => {
      be('orders-0');
      helper.settings({ amqpEndpointReconnectTime: 20, amqpEndpointLoginRetryTime: 200 });
      const [first, second] = [copy(''), copy('-twin')];
      await helper.load([texts, ...nodes, ...CORE], first);
      await status(receiver!, '.connected');
      const refused = once(server, 'refused');
      await helper.setFlows([...first, ...second], 'nodes');
      const told = collect(`${PREFIX}-twin-shown`);
      should(await refused).deepEqual(['orders-0']);
      should(await status(twin!, '.reason.client-id')).match({ fill: 'red', shape: 'ring' });
      should(logged(WARN, `${PREFIX}-twin-endpoint`)).match([
        /another client uses the client ID orders-0.*give this endpoint a Client ID of its own/,
      ]);
      // It is tried again, and neither takes the place of the first one nor says it all again.
      await once(server, 'refused');
      should(server.clientIds()).deepEqual(['orders-0']);
      should(logged(WARN, `${PREFIX}-twin-endpoint`)).have.length(1);
      should(logged(WARN, `${PREFIX}-endpoint`)).deepEqual([]);

      should(told.at(-1)!['status']).match({ text: /\.reason\.client-id$/, amqp: { state: 'disconnected' } });

      await helper.setFlows(second, 'nodes');
      await status(twin!, '.connected');
    });
  });
});
