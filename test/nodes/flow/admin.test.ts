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
    const none = { status: 200, text: '[]' };
    for (const id of ['elsewhere', 'sender', 'broker', undefined])
      (await post('addresses', { id })).should.deepEqual(none, String(id));
    await broker.stop();
    await status('sender', '.reason.refused');
    (await post('addresses', { id: 'broker' })).should.deepEqual(none);
    should(broker.received['activemq.management']).be.undefined();
  });
});
