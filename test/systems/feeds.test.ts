// The flow examples/Systems/Feeds.json with TLS and a client certificate, as the page has one enter them. No service of aviation or
// road traffic is part of it, and the embedded broker applies no selector: what is asked of it is looked at.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import should from 'should';
import { Broker, type BrokerOptions, type LinkInfo } from '../../broker/broker';
import { readExample, startExamples } from '../example';
import { collect, inject, message, nodes, status } from '../flow';
import helper, { coreNode, type NodeConfig } from '../node-red';

const FILE = 'Systems/Feeds.json';
const PREFIX = 'amqp-systems-feeds';
const [FLIGHTS, TRAFFIC] = ['example.feeds.flights', 'example.feeds.traffic'];
const SELECTOR = "messageType = 'DENM' AND originatingCountry IN ('NO', 'SE')";
const CORE = [
  'common/20-inject',
  'common/21-debug',
  'common/24-complete',
  'common/25-catch',
  'common/90-comment',
  'network/05-tls',
].map(coreNode);

const path = (name: string) => join(__dirname, '..', 'fixtures', name);
const fixture = (name: string) => readFileSync(path(name));
const OWN = { cert: path('client.crt'), key: path('client.key') };
const id = (key: string) => `${PREFIX}-${key}`;

/** The next link of a client that reads from the address. */
function attached(server: Broker, address: string): Promise<LinkInfo> {
  return new Promise((resolve) =>
    server.on('attach', (info: LinkInfo) => {
      if (info.address === address) resolve(info);
    }),
  );
}

describe('Feeds of aviation and road traffic', () => {
  let broker: Broker | undefined;

  startExamples();
  afterEach(async () => {
    await helper.unload();
    await broker?.stop();
  });

  /** A service that lets in who has a certificate of its CA, and nobody else. */
  async function start(options: BrokerOptions = {}, files: object = OWN): Promise<Broker> {
    const [key, cert, ca] = ['server.key', 'server.crt', 'ca.crt'].map(fixture);
    const tls = { key, cert, ca, requestCert: true, rejectUnauthorized: true };
    broker = await Broker.start({ tls, mechanisms: ['EXTERNAL'], ...options });
    const flow: NodeConfig[] = readExample(FILE);
    const endpoint = flow.find(({ type }) => type === 'amqp-endpoint')!;
    Object.assign(endpoint, { port: broker.port, usetls: true, tls: 'tls' });
    const names = { certname: '', keyname: '', caname: '', servername: '', verifyservercert: true };
    flow.push({ id: 'tls', type: 'tls-config', cert: '', key: '', ca: path('ca.crt'), ...names, ...files });
    helper.settings({ amqpEndpointReconnectTime: 20, amqpEndpointLoginRetryTime: 40 });
    await helper.load([...nodes, ...CORE], flow);
    return broker;
  }

  it('the certificate is the login, and a flight leaves its queue once the flow is done with it', async () => {
    const server = await start();
    await status(id('flights'), '.connected');
    should(server.logins).match([{ mechanism: 'EXTERNAL', user: 'client' }]);
    const [flight, settled] = [message(id('flight')), once(server, 'settled')];
    server.put(FLIGHTS, { body: '<flight/>', content_type: 'application/xml' });
    should(await flight).match({ payload: '<flight/>', amqp: { content_type: 'application/xml' } });
    should(await settled).match([{ address: FLIGHTS, state: 'accepted' }]);
    should(server.depth(FLIGHTS)).equal(0);
  });

  for (const [what, files] of [
    ['no certificate', {}],
    ['the CA of another service', { ...OWN, ca: path('client.crt') }],
  ] as const) {
    it(`with ${what} nobody is logged in, and nothing is received`, async () => {
      const server = await start({}, files);
      server.put(FLIGHTS, { body: 'secret' });
      const seen = collect(id('flight'));
      const reasons = ['.client-certificate', '.untrusted', '.ECONNRESET', 'silent'];
      const shown = await Promise.race(reasons.map((reason) => status(id('flights'), reason)));
      should(shown).match({ fill: 'red', shape: 'ring' });
      should(server.connections()).equal(0);
      should(server.logins).deepEqual([]);
      should(server.ready(FLIGHTS)).equal(1);
      should(seen).deepEqual([]);
    });
  }

  it('the subscription that the msg names asks for its selector, and again after the connection was lost', async () => {
    const server = await start({ confirmsFilters: true });
    await status(id('traffic'), '.unsubscribed');
    const first = attached(server, TRAFFIC);
    inject(id('subscribe'), {});
    const { source, role } = await first;
    should(role).equal('receiver');
    should(JSON.stringify(source!['filter'])).containEql(SELECTOR);
    should(Object.keys(source!['filter'])).deepEqual(['jms-selector']);
    const [hazard, settled] = [message(id('hazard')), once(server, 'settled')];
    server.put(TRAFFIC, { body: 'ice', application_properties: { messageType: 'DENM', originatingCountry: 'NO' } });
    should(await hazard).match({
      payload: 'ice',
      delivery: { address: TRAFFIC },
      amqp: { application_properties: { messageType: 'DENM', originatingCountry: 'NO' } },
    });

    await settled;
    const again = attached(server, TRAFFIC);
    server.dropSockets();
    should((await again).source!['filter']).deepEqual(source!['filter']);
    should(server.logins.map(({ mechanism }) => mechanism)).deepEqual(['EXTERNAL', 'EXTERNAL']);

    const more = message(id('hazard'));
    server.put(TRAFFIC, { body: 'fog' });
    should((await more).payload).equal('fog');
    const gone = once(server, 'detach');
    inject(id('end'), {});
    should(await gone).match([{ address: TRAFFIC, closed: true }]);
  });

  it('a server that does not do selectors gives nothing, and the status says why', async () => {
    const server = await start();
    await status(id('traffic'), '.unsubscribed');
    server.put(TRAFFIC, { body: 'all of it' });
    const seen = collect(id('hazard'));
    inject(id('subscribe'), {});
    should((await status(id('traffic'), '.ignored')).fill).equal('yellow');
    should(server.ready(TRAFFIC)).equal(1);
    should(seen).deepEqual([]);
  });
});
