// What the editor asks of brokers: whether an endpoint works as it stands in its form, and which addresses there are.
import should from 'should';
import type { Answer } from '../../nodes/flow/trial';
import { helper, status } from '../flow';
import { type Broker, needed } from './broker';
import { peerNamed } from './peers';
import { Trial } from './trial';

const post = async (path: string, body: object): Promise<{ status: number; body: any }> => {
  const { status: code, text } = await helper.request().post(`/amqp-endpoint/${path}`).send(body);
  return { status: code, body: code === 200 ? JSON.parse(text) : text };
};

for (const [name, product] of [
  ['ActiveMQ Artemis', /artemis/],
  ['ActiveMQ Classic', /ActiveMQ/],
  ['RabbitMQ 4.3', /RabbitMQ/],
  ['Qpid Broker-J', /qpid/i],
] as const) {
  describe(`the form of an endpoint, with ${name}`, function () {
    this.timeout(60_000);

    const peer = peerNamed(name);
    let broker: Broker;
    let trial: Trial;

    before(async function () {
      this.timeout(300_000); // the first time, it is fetched
      await needed(this, name, () => peer.kind.prepare());
      broker = await peer.kind.start({ queues: [{ name: 'orders' }], topics: [] });
      await helper.startServer();
      trial = new Trial(peer, broker);
      await trial.load([trial.receiver(peer.queue('orders'))]);
      await status('receiver', '.connected');
    });
    after(async () => {
      if (!broker) return;
      await trial.end();
      await helper.stopServer();
      await broker.stop();
    });

    const test = async (credentials: object, target: object = {}): Promise<Answer> => {
      const properties = { host: broker.host, port: String(broker.port) };
      return (await post('test', { id: 'broker', properties, credentials, ...target })).body as Answer;
    };

    it('tells what it is, and that the address can be used', async () => {
      const { address } = peer.queue('orders');
      for (const role of ['source', 'target']) {
        const answer = await test({ ...peer.login, pass: '__PWRD__' }, { address, role });
        answer.should.match({ ok: true, steps: ['tcp', 'login', 'open', 'attach'] });
        (answer as { peer: { product: string } }).peer.product.should.match(product);
      }
    });

    it('tells of a wrong password at the login', async () => {
      (await test({ ...peer.login, pass: 'wrong' })).should.match({ ok: false, step: 'login' });
    });

    it('has the addresses of Artemis, and of no other broker', async () => {
      const { body } = await post('addresses', { id: 'broker' });
      should((body as string[]).includes('orders')).equal(/artemis/i.test(name));
    });
  });
}
