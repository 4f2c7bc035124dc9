// The double of Azure Service Bus, where Microsoft's clients (test/brokers/service-bus.test.ts) do not go.
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import rhea, { type Connection, type Message } from 'rhea';
import should from 'should';
import { WebSocket } from 'ws';
import { ServiceBus, type ServiceBusOptions } from '../doubles/service-bus/service-bus';
import { secretOf } from '../secrets';
import { begin, connectTo, first, receiver, send, sender, take } from './client';

const { types } = rhea;
const POLICY = 'RootManageSharedAccessKey';
const key = secretOf('service bus key');

/** A signature for a resource, as the documentation has it. */
function signature(resource: string, { until = Date.now() + 60_000, secret = key, policy = POLICY } = {}): string {
  const sr = encodeURIComponent(resource);
  const se = Math.floor(until / 1000);
  const sig = createHmac('sha256', secret).update(`${sr}\n${se}`).digest('base64');
  return `SharedAccessSignature sr=${sr}&sig=${encodeURIComponent(sig)}&se=${se}&skn=${policy}`;
}

/** Asks a node that answers, and gives the answer. */
async function ask(connection: Connection, address: string, request: object): Promise<Message> {
  const session = begin(connection);
  const answers = session.open_receiver({ source: address, target: 'me', name: 'me' });
  const requests = session.open_sender({ target: address });
  await first(requests, 'sendable');
  requests.send({ message_id: 1, reply_to: 'me', body: null, ...request });
  const { message } = await first(answers, 'message');
  session.close();
  return message!;
}

const SAS = 'servicebus.windows.net:sastoken';
const audienceOf = (path: string) => `sb://here/${path}`;

/** Gives the status that the answer has. */
async function putToken(connection: Connection, name: string, token: string, type = SAS): Promise<number> {
  const request = { application_properties: { operation: 'put-token', name, type }, body: token };
  const answer = await ask(connection, '$cbs', request);
  return answer.application_properties!['status-code'];
}

describe('double of Azure Service Bus', () => {
  let serviceBus: ServiceBus;

  async function start(options: ServiceBusOptions = {}): Promise<void> {
    serviceBus = await ServiceBus.start({ queues: { q: {} }, ...options });
  }
  afterEach(() => serviceBus.stop());

  const login = (username: string, password?: string) => connectTo(serviceBus.port, { username, password });

  it('logs in by PLAIN with a policy and its key', async () => {
    await start();
    const connection = await login(POLICY, key);
    (await send(await sender(connection, 'q'), { body: 'a' })).should.equal('accepted');
    await login(POLICY, secretOf('wrong key')).should.be.rejected();
  });

  it('refuses links without a token that covers them', async () => {
    await start({ queues: { q: {}, other: {} } });
    const connection = await login('anonymous');
    const unauthorized = { condition: 'amqp:unauthorized-access' };
    await sender(connection, 'q').should.be.rejectedWith(unauthorized);
    should(await putToken(connection, audienceOf('q'), signature(audienceOf('q')))).equal(202);
    await sender(connection, 'q');
    await receiver(connection, 'q/$DeadLetterQueue');
    await sender(connection, 'other').should.be.rejectedWith(unauthorized);
  });

  it('refuses tokens that are not good', async () => {
    await start({ policies: { [POLICY]: { key }, narrow: { key: secretOf('narrow key'), entity: 'q' } } });
    const connection = await login('anonymous');
    const audience = audienceOf('q');
    const narrow = { secret: secretOf('narrow key'), policy: 'narrow' };
    const refused: [status: number, token: string, audience?: string, type?: string][] = [
      [401, signature(audience, { secret: secretOf('wrong key') })],
      [401, signature(audience, { policy: 'nobody' })],
      [401, signature(audience, { until: Date.now() - 1000 })],
      [401, signature(audience), audienceOf('other')],
      [401, signature(audienceOf(''), narrow), audienceOf('other')],
      [401, 'SharedAccessSignature nonsense'],
      [401, secretOf('unknown token'), audience, 'jwt'],
      [400, signature(audience), audience, 'another:type'],
    ];
    for (const [status, token, name = audience, type = SAS] of refused) {
      should(await putToken(connection, name, token, type)).equal(status);
    }
    should(await putToken(connection, audience, signature(audienceOf(''), narrow))).equal(202);
  });

  it('takes tokens of Entra, and ends links with their token', async () => {
    const token = secretOf('entra token');
    await start({ tokens: new Map([[token, 100]]) });
    const connection = await login('anonymous');
    should(await putToken(connection, audienceOf('q'), token, 'jwt')).equal(202);
    const link = await sender(connection, 'q');
    await first(link, 'sender_error');
    link.error!.should.match({ condition: 'amqp:unauthorized-access' });
    connection.is_open().should.equal(true);
  });

  const SESSION_FILTER = 'com.microsoft:session-filter';

  for (const [form, filter] of [
    ['plain', 's'],
    ['described', types.wrap_described('s', 0x137000000c)],
  ] as const) {
    it(`takes a session filter that is ${form}, and answers in the same form`, async () => {
      await start({ queues: { q: { requiresSession: true } } });
      const connection = await login(POLICY, key);
      const link = await receiver(connection, { address: 'q', filter: { [SESSION_FILTER]: filter } });
      const granted: unknown = (link.source.filter as Record<string, unknown>)[SESSION_FILTER];
      should(String(granted)).equal('s');
      should((granted as { descriptor?: unknown }).descriptor !== undefined).equal(form === 'described');
    });
  }

  it('ends the wait for a session when the time of the client is over', async () => {
    await start({ queues: { q: { requiresSession: true } } });
    const connection = await login(POLICY, key);
    const properties = { 'com.microsoft:timeout': types.wrap_uint(50) };
    const source = { address: 'q', filter: { [SESSION_FILTER]: null } };
    await receiver(connection, source, { properties }).should.be.rejectedWith({ condition: 'com.microsoft:timeout' });
  });

  it('has no sessions among dead letters', async () => {
    await start({ queues: { q: { requiresSession: true, maxDeliveryCount: 1 } } });
    const connection = await login(POLICY, key);
    await send(await sender(connection, 'q'), { body: 'a', group_id: 's' });
    await take(await receiver(connection, { address: 'q', filter: { [SESSION_FILTER]: 's' } }));
    serviceBus.expireSession('q', 's');
    const { message } = await take(await receiver(connection, 'q/$DeadLetterQueue'));
    message.should.match({ body: 'a', group_id: 's' });
    await sender(connection, 'q/$DeadLetterQueue').should.be.rejectedWith({ condition: 'amqp:not-allowed' });
  });

  it('refuses who waits for a session of an entity that is disabled', async () => {
    await start({ queues: { q: { requiresSession: true } } });
    const connection = await login(POLICY, key);
    const waiting = once(serviceBus, 'waiting');
    const link = receiver(connection, { address: 'q', filter: { [SESSION_FILTER]: null } });
    await waiting;
    serviceBus.disable('q');
    await link.should.be.rejectedWith({ condition: 'com.microsoft:entity-disabled' });
  });

  it('rejects what is no message', async () => {
    await start();
    const link = await sender(await login(POLICY, key), 'q');
    (await send(link, Buffer.from('00', 'hex'), 0)).should.equal('rejected');
    serviceBus.entity('q').depth.should.equal(0);
  });

  it('answers an outcome after the lock has expired with what is wrong', async () => {
    await start({ queues: { q: { lockDuration: 30 } } });
    const connection = await login(POLICY, key);
    await send(await sender(connection, 'q'), { body: 'a' });
    const link = await receiver(connection, 'q', { rcv_settle_mode: 1, autosettle: false });
    const { delivery } = await take(link);
    await once(serviceBus.entity('q'), 'ready');
    const settled = first(link, 'settled');
    delivery.accept();
    await settled;
    should(delivery.remote_state).match({ error: { condition: 'com.microsoft:message-lock-lost' } });
    serviceBus.entity('q').peek().should.matchEach({ deliveryCount: 1 });
  });

  it('says busy to messages, receivers and requests, so many times', async () => {
    await start();
    const connection = await login(POLICY, key);
    serviceBus.throttle('q', 3);
    const link = await sender(connection, 'q');
    (await send(link, { body: 'a' })).should.equal('rejected');
    await receiver(connection, 'q').should.be.rejectedWith({ condition: 'com.microsoft:server-busy' });
    const request = { application_properties: { operation: 'com.microsoft:peek-message' }, body: {} };
    const refused = await ask(connection, 'q/$management', request);
    refused.application_properties!.should.match({ statusCode: 503, errorCondition: 'com.microsoft:server-busy' });
    (await send(link, { body: 'b' })).should.equal('accepted');
  });

  it('does not know operations that it was not taught', async () => {
    await start();
    const connection = await login(POLICY, key);
    const request = { application_properties: { operation: 'com.microsoft:add-rule' }, body: {} };
    const answer = await ask(connection, 'q/$management', request);
    answer.application_properties!.should.match({ statusCode: 501 });
  });

  it('detaches the sender of what is too large, where it is told to', async () => {
    await start({ maxMessageSize: 1000, detachesTooLarge: true });
    const link = await sender(await login(POLICY, key), 'q');
    link.send({ body: 'x'.repeat(1000) });
    await first(link, 'sender_error');
    link.error!.should.match({ condition: 'amqp:link:message-size-exceeded' });
  });

  it('speaks over WebSocket', async () => {
    await start({ websocket: true });
    // its typings know the WebSocket of browsers only
    const open = rhea.websocket_connect(WebSocket) as (...args: unknown[]) => unknown;
    const url = `ws://127.0.0.1:${serviceBus.port}/$servicebus/websocket`;
    const details = open(url, ['AMQPWSB10'], {});
    const connection = await connectTo(serviceBus.port, {
      connection_details: details,
      username: POLICY,
      password: key,
    });
    (await send(await sender(connection, 'q'), { body: 'a' })).should.equal('accepted');
    connection.close();
  });
});
