import should from 'should';
import { Broker } from '../../../broker/broker';
import { endpointNode, flow, helper, load, node, status } from '../../flow';
import { secretOf } from '../../secrets';

async function post(path: string, body: object): Promise<{ status: number; text: string }> {
  const { status: code, text } = await helper.request().post(`/amqp-endpoint/${path}`).send(body);
  return { status: code, text };
}

describe('The admin routes', () => {
  let broker: Broker;
  before(() => helper.startServer());
  after(() => helper.stopServer());
  beforeEach(async () => {
    broker = await Broker.start();
  });
  afterEach(async () => {
    await helper.unload();
    await broker.stop();
  });

  it('make an account of a name and a password, which is not told', async () => {
    await load([]);
    const { status: code, text } = await post('account', { name: 'device', password: secretOf('password') });
    code.should.equal(200);
    JSON.parse(text).should.have.property('name', 'device');
    for (const body of [{}, { name: 'device' }, { name: 'device', password: '' }, { name: 7, password: 'x' }])
      (await post('account', body)).status.should.equal(400);
  });

  it('tell no addresses of what is not deployed, not connected, or does not tell them', async () => {
    await load(flow(endpointNode(broker.port), node('amqp-sender')));
    await status('sender', '.connected');
    (await post('addresses', { id: 'elsewhere' })).status.should.equal(404);
    (await post('addresses', { id: 'sender' })).status.should.equal(404);
    (await post('addresses', { id: 'broker' })).should.match({ status: 503, text: /does not tell/ });
    await broker.stop();
    await status('sender', '.reason.refused');
    (await post('addresses', { id: 'broker' })).status.should.equal(503);
    should(broker.received['activemq.management']).be.undefined();
  });
});
