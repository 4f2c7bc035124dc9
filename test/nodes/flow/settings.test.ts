import { once } from 'node:events';
import should from 'should';
import { NUMBERS } from '../../../nodes/flow/settings';
import { endpointNode, flow, helper, inject, load, message, node, status } from '../../flow';
import { Broker } from '../../../broker/broker';
import { secretIn, secretOf } from '../../secrets';

const ERROR = 20;

/** What is wrong with a number of any field. */
const WRONG = ['${NOT_SET}', 'abc', '-5', '1e99', Infinity, true, [5]];

const errors = () =>
  helper
    .log()
    .args.map(([entry]) => entry)
    .filter(({ level }) => level <= ERROR)
    .map(({ msg }) => String(msg));

const PASSWORD = secretOf('password');

/** What it takes for a field to count. */
const USED: Record<string, { peer?: string; [setting: string]: unknown }> = {
  sessions: { peer: 'servicebus', session: 'next' },
  sessionidle: { peer: 'servicebus', session: 'next' },
  epoch: { peer: 'eventhubs' },
  batchtime: { peer: 'servicebus' },
  togethertime: { together: 2 },
  replycount: { replies: 'several' },
  maxclients: { role: 'listen', anonymous: true },
  maxlinks: { role: 'listen', anonymous: true },
  maxmemory: { role: 'listen', anonymous: true },
};

describe('settings', () => {
  let broker: Broker;

  before(() => helper.startServer());
  after(() => helper.stopServer());
  beforeEach(async () => {
    broker = await Broker.start();
  });
  afterEach(async () => {
    await helper.unload();
    await broker.stop();
    delete process.env['AMQP_TEST_VALUE'];
  });

  for (const [type, numbers] of Object.entries(NUMBERS)) {
    if (type === 'amqp-endpoint') continue;
    for (const [field, { min }] of Object.entries<{ min: number }>(numbers)) {
      it(`of ${type}: a ${field} that is none puts the node into error, which names the field`, async () => {
        const { peer, ...more } = USED[field] ?? {};
        const wrong = WRONG.filter((value) => min > -5 || value !== '-5');
        const nodes = wrong.map((value, n) => node(type, { id: `node-${n}`, ...more, [field]: value }));
        await load(flow(endpointNode(broker.port, { peer }), ...nodes));
        for (const { id } of nodes) {
          should(await status(id, '.fault')).match({ fill: 'red', shape: 'ring' });
          const caught = message('caught');
          inject(id, { payload: 1 });
          const { error } = await caught;
          should(error).match({ code: 'AMQP_CONFIG', source: { id } });
          should(error!.message).match(new RegExp(`\\(${field}\\): (is not a|the environment variable NOT_SET)`));
        }
        should(broker.links()).be.empty();
      });
    }
  }

  for (const field of Object.keys(NUMBERS['amqp-endpoint'])) {
    it(`of amqp-endpoint: a ${field} that is none puts it and its nodes into error, which names the field`, async () => {
      for (const value of WRONG) {
        await load(flow(endpointNode(broker.port, { ...USED[field], [field]: value }), node('amqp-sender')));
        should(await status('sender', '.fault')).match({ fill: 'red', shape: 'ring' });
        should(errors().filter((line) => line.includes(`(${field}): `))).have.length(1);
        await helper.unload();
      }
      should(broker.connections()).equal(0);
    });
  }

  for (const [type, properties] of [
    ['amqp-sender', { guarantee: 'twice' }],
    ['amqp-sender', { store: 'tape' }],
    ['amqp-sender', { body: 'xml' }],
    ['amqp-sender', { durablemessages: 'maybe' }],
    ['amqp-sender', { format: 'text' }],
    ['amqp-receiver', { settle: 'later' }],
    ['amqp-receiver', { onerror: 'panic' }],
    ['amqp-receiver', { address: '${NOT_SET}' }],
    ['amqp-requester', { replyto: 'fixed', replyaddress: '' }],
    ['amqp-responder', { address: '' }],
    ['amqp-responder', { kind: 'exchange' }],
  ] as const) {
    it(`of ${type}: ${JSON.stringify(properties)} is an error`, async () => {
      await load(flow(endpointNode(broker.port), node(type, properties)));
      await status(type.replace('amqp-', ''), '.fault');
      const [field] = Object.keys(properties).toReversed();
      should(errors().join()).containEql(`(${field}): `);
    });
  }

  it('never repeat what was entered: it may be a secret in the wrong field', async () => {
    const secret = `Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKey=${secretOf('key')}=`;
    const wrong = { host: secret, port: secret, connecttimeout: secret };
    for (const [name, value] of Object.entries(wrong)) {
      await load(flow(endpointNode(broker.port, { [name]: value }), node('amqp-sender', { buffer: secret })));
      await status('sender', '.fault');
      should(secretIn(JSON.stringify(helper.log().args))).equal(undefined);
      await helper.unload();
    }
  });

  it('take environment variables, alone and within a text, as a container is configured', async () => {
    process.env['AMQP_TEST_VALUE'] = '7';
    const opened = once(broker, 'connection');
    const attached = once(broker, 'attach');
    await load(
      flow(
        endpointNode(broker.port, { container_id: 'orders-${AMQP_TEST_VALUE}' }),
        node('amqp-receiver', { address: 'plant${AMQP_TEST_VALUE}', creditwindow: '${AMQP_TEST_VALUE}' }),
      ),
    );
    should((await opened)[0]).match({ containerId: 'orders-7' });
    should((await attached)[0]).match({ address: 'plant7' });
  });

  it('of the credentials name the variable that is not set, in place of sending its name as a password', async () => {
    const login = { broker: { user: 'anna', pass: '${AMQP_TEST_MISSING}' } };
    await load(flow(endpointNode(broker.port), node('amqp-sender')), login);
    await status('sender', '.fault');
    should(errors()).match([/\(pass\): the environment variable AMQP_TEST_MISSING is not set$/]);
  });

  it('of the credentials are taken as they are where more than a variable stands in them', async () => {
    const pass = `\${AMQP_TEST_MISSING}${PASSWORD}`;
    await broker.stop();
    broker = await Broker.start({ users: { anna: pass }, anonymous: false });
    await load(flow(endpointNode(broker.port), node('amqp-sender')), { broker: { user: 'anna', pass } });
    await status('sender', 'connected');
  });

  it('may be a URL for the server, also from the environment', async () => {
    await broker.stop();
    broker = await Broker.start({ users: { anna: PASSWORD }, anonymous: false });
    process.env['AMQP_TEST_VALUE'] = `amqp://anna:${PASSWORD}@127.0.0.1:${broker.port}`;
    await load(flow(endpointNode(5672, { host: '${AMQP_TEST_VALUE}' }), node('amqp-sender')));
    await status('sender', 'connected');
    should(secretIn(JSON.stringify(helper.log().args))).equal(undefined);
    should(JSON.stringify(helper.log().args)).not.containEql('clear-text');
  });

  it('warn of a password that a URL keeps in the flow', async () => {
    await load(
      flow(endpointNode(5672, { host: `amqp://anna:${PASSWORD}@127.0.0.1:${broker.port}` }), node('amqp-sender')),
    );
    await status('sender', 'connected');
    should(JSON.stringify(helper.log().args)).containEql('clear-text');
    should(secretIn(JSON.stringify(helper.log().args))).equal(undefined);
  });

  it('warn of a connection string that is kept in the flow, and do not repeat its key', async () => {
    const parts = [`Endpoint=sb://127.0.0.1:${broker.port}`, 'SharedAccessKeyName=n', `SharedAccessKey=${PASSWORD}`];
    const host = [...parts, 'UseDevelopmentEmulator=true'].join(';');
    await load(flow(endpointNode(5672, { host }), node('amqp-receiver')));
    // The broker has no claims-based security.
    await status('receiver', 'amqp-endpoint.status.refused');
    should(JSON.stringify(helper.log().args)).containEql('clear-text');
    should(secretIn(JSON.stringify(helper.log().args))).equal(undefined);
  });
});
