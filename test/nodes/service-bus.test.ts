// The nodes as a user of Azure Service Bus has them, with a double of the service that its official clients have proved.
// Nothing here has run against the service itself.
import { once } from 'node:events';
import rhea, { type Message } from 'rhea';
import should from 'should';
import { ServiceBus, type ServiceBusOptions } from '../doubles/service-bus/service-bus';
import {
  collect,
  endpointNode,
  fail,
  flow,
  helper,
  inject,
  message,
  messages,
  node,
  nodes,
  send,
  status,
} from '../flow';
import type { NodeConfig } from '../node-red';
import { secretIn, secretOf } from '../secrets';
import { logged, texts, WARN } from '../texts';

const POLICY = 'RootManageSharedAccessKey';
const KEY = secretOf('service bus key');

const receiver = (properties: object = {}) =>
  node('amqp-receiver', { settle: 'flow', answered: true, wires: [['outcome']], ...properties });

describe('Azure Service Bus', () => {
  let service: ServiceBus;

  before(() => helper.startServer());
  after(() => helper.stopServer());
  afterEach(async () => {
    delete process.env['AMQP_TEST_VALUE'];
    await helper.unload();
    await service.stop();
  });

  const start = async (options: ServiceBusOptions = {}) => {
    service = await ServiceBus.start({ queues: { q: {}, other: {} }, ...options });
  };

  /** Loads nodes whose endpoint has the connection string of the environment, unless it has something else. */
  async function run(configs: NodeConfig[], properties: object = {}, credentials: object = {}): Promise<void> {
    if (POLICY in service.authority.policies) process.env['AMQP_TEST_VALUE'] = service.connectionString();
    const endpoint = endpointNode(service.port, { host: '${AMQP_TEST_VALUE}', ...properties });
    helper.settings({ amqpEndpointReconnectTime: 20, amqpEndpointLoginRetryTime: 40 });
    await helper.load([texts, ...nodes], flow(endpoint, ...configs), { broker: credentials });
  }

  /** What comes of a message to which the flow says this. */
  async function settled(reply: object): Promise<void> {
    await run([node('amqp-sender'), receiver()]);
    const received = message('outcome');
    await send({ payload: 'x' });
    const done = message('completed');
    inject('receiver', { ...(await received), ...reply });
    await done;
  }

  it('takes and gives messages with the connection string, whose key stays where it is', async () => {
    await start();
    await run([node('amqp-sender'), receiver()]);
    const received = message('outcome');
    await send({ payload: { degrees: 21 } });
    should(await received).match({ payload: { degrees: 21 }, delivery: { address: 'q' } });
    should(service.entity('q').peek()).have.length(1);
    should(secretIn(JSON.stringify(helper.log().args))).equal(undefined);
  });

  it('takes a key and its name from the form, and shows an address for which they are not', async () => {
    await start({ policies: { narrow: { key: KEY, entity: 'q' } } });
    const login = { host: '127.0.0.1', login: 'sas' };
    await run([node('amqp-sender'), receiver({ address: 'other' })], login, { user: 'narrow', pass: KEY });
    await status('receiver', 'refused: amqp:unauthorized-access');
    should(await send({ payload: 1 })).match({ sent: { state: 'accepted' } });
  });

  it('takes a token of Entra that a flow gives', async () => {
    await start({ policies: {}, tokens: new Set([secretOf('token')]) });
    await run([node('amqp-sender')], { host: '127.0.0.1', login: 'flow', tokenuse: 'cbs' });
    await status('sender', '.reason.no-token');
    await send({ action: 'token', token: secretOf('token') });
    should(await send({ payload: 1 })).match({ sent: { state: 'accepted' } });
  });

  it('says that a key is wrong', async () => {
    await start();
    const login = { host: '127.0.0.1', login: 'sas' };
    await run([node('amqp-sender')], login, { user: POLICY, pass: secretOf('other key') });
    await status('sender', 'refused: amqp:unauthorized-access');
    should(logged(WARN, 'sender')).match([/InvalidSignature/]);
  });

  describe('when the flow is done with a message', () => {
    beforeEach(() => start({ queues: { q: { maxDeliveryCount: 2 } } }));

    it('completes it', async () => {
      await settled({});
      should(service.entity('q').peek()).have.length(0);
    });

    it('moves it to the dead letters with a reason that all clients see', async () => {
      const info = { DeadLetterReason: 'bad', DeadLetterErrorDescription: 'no degrees' };
      await settled({ settle: 'reject', error: { condition: 'com.microsoft:dead-letter', info } });
      const [entry] = service.entity('q/$deadletterqueue').peek();
      const { application_properties: told } = rhea.message.decode(entry!.message.encode()) as unknown as Message;
      should(told).match({ DeadLetterReason: 'bad', DeadLetterErrorDescription: 'no degrees' });
    });

    it('gives it back, and the service counts', async () => {
      await run([node('amqp-sender'), receiver()]);
      const twice = messages('outcome', 2);
      const first = message('outcome');
      await send({ payload: 'x' });
      inject('receiver', { ...(await first), settle: 'modify' });
      const [, again] = await twice;
      should(again).match({ delivery: { redelivered: true } });
      inject('receiver', { ...again, settle: 'modify' });
      // The second delivery was the last.
      while (service.entity('q/$deadletterqueue').peek().length === 0) await once(service, 'settled');
    });

    it('tells that the lock was lost, and gets the message again', async () => {
      await run([node('amqp-sender'), receiver()]);
      const twice = messages('outcome', 2);
      const first = message('outcome');
      await send({ payload: 'x' });
      const msg = await first;
      service.expireLocks('q');
      const caught = message('caught');
      inject('receiver', msg);
      should((await caught).error).match({ code: 'AMQP_LOCK_LOST', message: /com\.microsoft:message-lock-lost/ });
      const [, again] = await twice;
      const done = message('completed');
      inject('receiver', again!);
      should(await done).match({ payload: 'x' });
    });
  });

  it('detaches idle links and idle connections, which is no fault', async () => {
    await start();
    await run([node('amqp-sender'), receiver({ address: 'other' })]);
    await Promise.all(['sender', 'receiver'].map((id) => status(id, '.connected')));
    const log = helper.log().args.length;
    service.detachIdle('other');
    await once(service, 'attach');
    await status('receiver', '.connected');
    service.closeIdleConnections();
    await Promise.all(['sender', 'receiver'].map((id) => status(id, '.connecting')));
    await Promise.all(['sender', 'receiver'].map((id) => status(id, '.connected')));
    const told = helper
      .log()
      .args.slice(log)
      .map(([entry]) => entry);
    should(told.filter(({ level, id }) => level <= 30 && id !== undefined)).deepEqual([]);
    should(await send({ payload: 1 })).match({ sent: { state: 'accepted' } });
  });

  it('refuses a message that is too large, with the size', async () => {
    await start({ maxMessageSize: 1000 });
    await run([node('amqp-sender')]);
    should((await fail({ payload: 'x'.repeat(2000) })).error).match({ code: 'AMQP_TOO_LARGE', message: /1000/ });
  });

  it('says that an entity is disabled, and goes on once it is enabled', async () => {
    await start();
    await run([node('amqp-sender')]);
    await status('sender', '.connected');
    service.disable('q');
    await status('sender', 'refused: com.microsoft:entity-disabled');
    const sent = message('out');
    inject('sender', { payload: 'later' });
    service.enable('q');
    should(await sent).match({ payload: 'later', sent: { state: 'accepted' } });
  });

  it('loses nothing when the connection goes with messages on their way', async () => {
    await start();
    await run([node('amqp-sender')]);
    await status('sender', '.connected');
    const done = collect('completed');
    for (let payload = 0; payload < 200; payload++) inject('sender', { payload });
    await once(service, 'message');
    service.dropSockets();
    while (done.length < 200) await once(helper.getNode('completed'), 'input');
    const entries = service.entity('q').peek();
    const bodies = entries.map((entry) => rhea.message.decode(entry.message.encode()).body as unknown);
    should(new Set(bodies).size).equal(200);
  });
});
