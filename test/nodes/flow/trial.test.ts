import should from 'should';
import { Broker } from '../../../broker/broker';
import type { Answer } from '../../../nodes/flow/trial';
import helper from '../../node-red';
import { endpointNode, load } from '../../flow';
import { secretOf } from '../../secrets';

const PASSWORD = secretOf('password');

async function ask(body: object): Promise<{ status: number; text: string; answer: Answer }> {
  const { status, text } = await helper.request().post('/amqp-endpoint/test').send(body);
  return { status, text, answer: status === 200 ? (JSON.parse(text) as Answer) : (undefined as never) };
}

describe('The route that tries an endpoint', () => {
  let broker: Broker;
  before(() => helper.startServer());
  after(() => helper.stopServer());
  // What is loaded counts the trials of a minute anew.
  beforeEach(async () => {
    broker = await Broker.start({ users: { user: PASSWORD }, anonymous: false });
  });
  afterEach(async () => {
    await helper.unload();
    await broker.stop();
  });

  const deployed = (properties: object = {}): Promise<void> =>
    load([endpointNode(broker.port, { autoconnect: false, ...properties })], {
      broker: { user: 'user', pass: PASSWORD },
    });

  const values = (properties: object = {}, credentials: object = {}): object => ({
    id: 'broker',
    properties: { host: '127.0.0.1', port: String(broker.port), ...properties },
    credentials: { user: 'user', pass: '__PWRD__', ...credentials },
  });

  it('uses the values of the form, and the password that is stored where that is kept', async () => {
    await deployed({ host: 'elsewhere.invalid' });
    const { answer, text } = await ask(values());
    answer.should.match({ ok: true, steps: ['tcp', 'login', 'open'] });
    should(text).not.containEql(PASSWORD);
    broker.logins.map(({ user }) => user).should.deepEqual(['user']);
  });

  it('tries one that was never deployed, with its password from the environment', async () => {
    await load([]);
    process.env['TRIAL_PASSWORD'] = PASSWORD;
    try {
      const { answer } = await ask(values({}, { pass: '${TRIAL_PASSWORD}' }));
      answer.ok.should.be.true();
    } finally {
      delete process.env['TRIAL_PASSWORD'];
    }
  });

  it('says what is wrong, and what to do about it', async () => {
    await deployed();
    const { answer } = await ask(values({ host: 'no-such-host.invalid' }));
    answer.should.match({ ok: false, step: 'name', diagnosis: 'host-not-found' });
    const refused = await ask(values({}, { pass: 'wrong' }));
    refused.answer.should.match({ ok: false, step: 'login' });
    refused.text.should.not.containEql('wrong');
  });

  it('says which setting is wrong, or not deployed yet, without trying anything', async () => {
    await deployed();
    const wrong = await ask(values({ port: 'x' }));
    wrong.answer.should.match({ ok: false, step: 'settings', reason: /port/ });
    const undeployed = await ask(values({ usetls: true, tls: 'nowhere' }));
    undeployed.answer.should.match({ ok: false, step: 'settings', reason: /not-deployed/ });
    broker.logins.should.be.empty();
  });

  it('attaches to an address, or says why the server does not let it', async () => {
    await deployed();
    broker.refuse('secret', { condition: 'amqp:unauthorized-access', description: 'not for you' });
    for (const role of ['source', 'target', undefined]) {
      const { answer } = await ask({ ...values(), address: 'orders', role });
      answer.should.match({ ok: true, steps: ['tcp', 'login', 'open', 'attach'] });
      const refused = await ask({ ...values(), address: 'secret', role });
      refused.answer.should.match({ ok: false, step: 'attach', reason: /not for you/ });
    }
  });

  it('refuses what is no endpoint that connects', async () => {
    await deployed();
    const answers = await Promise.all([
      ask({}),
      ask(values({ role: 'listen' })),
      ask({ ...values(), address: 7 }),
      ask({ ...values(), address: 'a', role: 'both' }),
      ask(values({ connectto: 'urls', urls: Array.from({ length: 11 }, () => 'amqp://127.0.0.1').join('\n') })),
    ]);
    answers.map(({ status }) => status).should.deepEqual([400, 400, 400, 400, 400]);
  });

  it('is no means to look through a network: one at a time, and ten a minute', async () => {
    await deployed();
    const [one, other] = await Promise.all([ask(values()), ask(values())]);
    [one.status, other.status].toSorted((a, b) => a - b).should.deepEqual([200, 429]);
    const statuses: number[] = [];
    for (let i = 0; i < 10; i++) statuses.push((await ask(values())).status);
    statuses.should.deepEqual([...Array.from({ length: 9 }, () => 200), 429]);
  });
});
