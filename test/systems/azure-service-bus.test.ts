// The flow examples/Systems/Azure Service Bus.json, with a double of the service: it never ran with the service itself. TLS is
// switched off.
import { once } from 'node:events';
import rhea, { type Message } from 'rhea';
import should from 'should';
import {
  type EntityOptions,
  ServiceBus,
  type ServiceBusOptions,
  type Settled,
} from '../doubles/service-bus/service-bus';
import { allShown, idOf, isConnected, loadExample, press, shown, startExamples } from '../example';
import { collect, inject } from '../flow';
import helper from '../node-red';

const FILE = 'Systems/Azure Service Bus.json';
const ENDPOINT = 'amqp-systems-service-bus-endpoint';
const DEAD = 'orders/$deadletterqueue';
const KEY = 'RootManageSharedAccessKey';

/** An order goes all its way. */
async function isProcessed(): Promise<void> {
  await isConnected('amqp-receiver', 'orders');
  const processed = shown('processed');
  press('1. an order');
  should(await processed).match({ payload: { state: 'processed' } });
}

describe('With Azure Service Bus', () => {
  let service: ServiceBus;

  startExamples();
  afterEach(async () => {
    delete process.env['AZURE_SERVICE_BUS'];
    delete process.env['AZURE_KEY'];
    await helper.unload();
    await service.stop();
  });

  async function serve(orders: EntityOptions = {}, options: ServiceBusOptions = {}): Promise<void> {
    const queues = { orders: { maxDeliveryCount: 3, ...orders }, 'orders-in-sessions': { requiresSession: true } };
    service = await ServiceBus.start({ queues, ...options });
  }
  const load = (endpoint: object = {}, others = {}) =>
    loadExample(FILE, service.port, {}, { [ENDPOINT]: { usetls: false, ...endpoint } }, others);
  /** With the connection string in the environment, as the flow is shipped. */
  async function start(orders: EntityOptions = {}): Promise<void> {
    await serve(orders);
    process.env['AZURE_SERVICE_BUS'] = service.connectionString();
    await load();
    await isConnected('amqp-receiver', 'orders');
  }

  const queue = () => service.entity('orders');
  const deadLetters = () =>
    service
      .entity(DEAD)
      .peek()
      .map(({ message }) => rhea.message.decode(message.encode()) as unknown as Message);
  const settled = async (): Promise<Settled> => (await once(service, 'settled'))[0];

  describe('an order', () => {
    it('is processed, and the service forgets it', async () => {
      await start();
      const [sent, processed] = [shown('sent'), shown('processed')];
      const ended = settled();
      press('1. an order');
      should(await sent).match({ sent: { address: 'orders', state: 'accepted' } });
      should(await processed).match({ payload: { item: 'tea', amount: 2, state: 'processed' } });
      should(await ended).match({ address: 'orders', outcome: 'complete' });
      queue().depth.should.equal(0);
    });

    it('that takes as long as several locks is locked all the time, and processed once', async () => {
      const LOCK = 1500;
      await start({ lockDuration: LOCK });
      const [checked, processed] = [collect(idOf('function', 'check')), collect(idOf('debug', 'processed'))];
      const outcomes: string[] = [];
      service.on('settled', ({ outcome }: Settled) => outcomes.push(outcome));
      const begun = once(helper.getNode(idOf('delay', 'as long as it takes')), 'input');
      press('2. one that takes three minutes');
      await begun;
      const over = Date.now() + 3 * LOCK;
      while (Date.now() < over) {
        const [address, operation, status] = await once(service, 'request');
        should({ address, operation, status }).match({
          address: 'orders/$management',
          operation: 'com.microsoft:renew-lock',
          status: 200,
        });
      }
      // It is done before its three minutes are over.
      const ended = settled();
      inject(idOf('delay', 'as long as it takes'), { flush: true });
      should(await ended).match({ address: 'orders', outcome: 'complete' });
      should(checked).match([{ amqp: { delivery_count: 0 } }]);
      should(processed).match([{ payload: { item: 'piano', state: 'processed' } }]);
      should(outcomes).deepEqual(['complete']);
      queue().depth.should.equal(0);
      should(deadLetters()).deepEqual([]);
    });

    it('that cannot be processed goes to the dead letters, with reason and description', async () => {
      await start();
      const ended = settled();
      press('3. one without an amount');
      should(await ended).match({ address: 'orders', outcome: 'dead-letter' });
      const [letter] = deadLetters();
      should(letter!.application_properties).match({
        DeadLetterReason: 'NoAmount',
        DeadLetterErrorDescription: 'an order needs an amount',
      });
    });

    it('that fails is counted, and goes to the dead letters after the last attempt', async () => {
      await start();
      const outcomes: string[] = [];
      service.on('settled', ({ outcome }: Settled) => outcomes.push(outcome));
      press('4. one that always fails');
      while (deadLetters().length === 0) await settled();
      should(outcomes).deepEqual(['abandon', 'abandon', 'abandon']);
      should(deadLetters()[0]!.application_properties).match({ DeadLetterReason: 'MaxDeliveryCountExceeded' });
    });
  });

  describe('the dead letters', () => {
    beforeEach(async () => {
      await start();
      const buried = settled();
      press('3. one without an amount');
      await buried;
    });

    it('are shown, and stay there', async () => {
      const letter = shown('dead letter');
      press('7. look at the dead letters');
      should(await letter).match({
        payload: { item: 'tea' },
        amqp: { application_properties: { DeadLetterReason: 'NoAmount' } },
        delivery: { peeked: true },
      });
      deadLetters().length.should.equal(1);
    });

    it('are taken by a second receiver, one at a time', async () => {
      const buried = settled();
      press('3. one without an amount');
      await buried;
      const [letter, taken] = [shown('dead letter'), settled()];
      press('8. take one away');
      should(await letter).match({
        payload: { item: 'tea' },
        amqp: {
          application_properties: {
            DeadLetterReason: 'NoAmount',
            DeadLetterErrorDescription: 'an order needs an amount',
          },
        },
      });
      should(await taken).match({ address: DEAD, outcome: 'complete' });
      deadLetters().length.should.equal(1);
    });
  });

  describe('an order for later', () => {
    beforeEach(() => start());

    it('is kept by the service, and comes in its time', async () => {
      const scheduled = shown('scheduled');
      const before = Date.now();
      press('5. in one minute');
      should(await scheduled).match({ sent: { state: 'scheduled', sequenceNumber: 1 } });
      const [entry] = queue().peek();
      should(entry).match({ state: 'scheduled', sequenceNumber: 1 });
      should(entry!.message.scheduledFor).be.within(before + 59_000, Date.now() + 61_000);
      const processed = shown('processed');
      queue().enqueueAllScheduled();
      should(await processed).match({ payload: { item: 'coffee', state: 'processed' } });
    });

    it('is taken back', async () => {
      const scheduled = shown('scheduled');
      press('5. in one minute');
      await scheduled;
      const cancelled = shown('scheduled');
      press('6. take it back');
      should(await cancelled).match({ sent: { state: 'cancelled' } });
      queue().depth.should.equal(0);
    });
  });

  it('the messages of each session are counted, and the service keeps the counts', async () => {
    await start();
    const counted = allShown('counted', 5);
    const [a, b] = ['9. of session A', '10. of session B'] as const;
    for (const name of [a, b, a, a, b]) press(name);
    const payloads = (await counted).map(({ payload }) => payload as string);
    should(payloads.filter((text) => text.startsWith('A'))).deepEqual(['A 1', 'A 2', 'A 3']);
    should(payloads.filter((text) => text.startsWith('B'))).deepEqual(['B 1', 'B 2']);
    const sessions = service.entity('orders-in-sessions');
    while (sessions.depth > 0) await settled();
    should(sessions.sessionState('A')?.toString()).equal('3');
  });

  describe('by other ways that the page names', () => {
    it('the connection string is taken from the credentials among the global environment variables', async () => {
      await serve();
      const variable = { name: 'AZURE_SERVICE_BUS', value: '__PWRD__', type: 'cred' };
      const settings = { id: 'settings', type: 'global-config', name: '', env: [variable] };
      const credentials = { settings: { map: { AZURE_SERVICE_BUS: service.connectionString() } } };
      await load({}, { more: [settings], credentials });
      await isProcessed();
    });

    it('it goes by WebSocket, with the key from the environment', async () => {
      await serve({}, { websocket: true });
      process.env['AZURE_KEY'] = service.authority.policies[KEY]!.key;
      const urls = `ws://127.0.0.1:${service.port}/$servicebus/websocket`;
      const credentials = { [ENDPOINT]: { user: KEY, pass: '${AZURE_KEY}' } };
      await load({ connectto: 'urls', urls, login: 'sas' }, { credentials });
      await isProcessed();
    });
  });
});
