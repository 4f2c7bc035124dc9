import { once } from 'node:events';
import rhea, {
  type Connection,
  type EventContext,
  type Message,
  type Receiver,
  type Sender,
  type Session,
  type Typed,
} from 'rhea';
import should from 'should';
import { Broker, type BrokerOptions } from '../../broker/broker';
import { begin, connectTo, first, receiver, sender, take } from './client';

type Attach = { performative: { name: string; role: boolean } };

let broker: Broker;
const start = async (options?: BrokerOptions) => (broker = await Broker.start(options));
const logIn = (password: string) => connectTo(broker.port, { username: 'ann', password });

const NOT_ALLOWED = { condition: 'amqp:not-allowed' };
const EXPIRED = { condition: 'amqp:unauthorized-access' };
const MANAGEMENT = { address: '/management' };

describe('embedded broker as IBM MQ', () => {
  afterEach(() => broker.stop());

  it('closes a connection at its second begin', async () => {
    await start({ oneSession: true });
    const client = await connectTo(broker.port);
    await sender(client, 'q');
    const closed = first(client, 'connection_close');
    begin(client);
    await closed.should.be.rejectedWith(NOT_ALLOWED);
    await sender(await connectTo(broker.port), 'q');
  });

  it('closes a connection that answers anything but accepted', async () => {
    await start({ acceptedOnly: true });
    broker.put('q', { body: 1 });
    const accepted = await take(await receiver(await connectTo(broker.port), 'q'));
    const settled = once(broker, 'settled');
    accepted.delivery.accept();
    await settled;

    broker.put('q', { body: 2 });
    for (const outcome of ['release', 'reject', 'modified'] as const) {
      const client = await connectTo(broker.port);
      const { delivery } = await take(await receiver(client, 'q'));
      const closed = first(client, 'connection_close');
      delivery[outcome]();
      await closed.should.be.rejectedWith(NOT_ALLOWED);
      broker.ready('q').should.equal(1);
    }
  });
});

/** A pair of links for requests to the broker itself. */
async function pair(client: Connection): Promise<{ requests: Sender; responses: Receiver }> {
  const session = begin(client) as Session & { on_attach(frame: Attach): void };
  const both = {
    name: 'pair',
    source: MANAGEMENT,
    target: MANAGEMENT,
    properties: { paired: true },
    snd_settle_mode: 1,
  };
  const requests = session.open_sender({ ...both, name: 'requests' });
  const responses = session.open_receiver({ ...both, credit_window: 0 });
  // rhea knows links by their names alone: one of the two has another name for it than for the broker
  (requests as unknown as { local: { attach: { name: string } } }).local.attach.name = 'pair';
  const onAttach = session.on_attach.bind(session);
  session.on_attach = ({ performative, ...frame }) => {
    if (performative.role) performative.name = 'requests';
    onAttach({ ...frame, performative });
  };
  await Promise.all([first(responses, 'receiver_open'), first(requests, 'sendable')]);
  return { requests, responses };
}

async function renew(
  { requests, responses }: { requests: Sender; responses: Receiver },
  message_id: string | Typed,
  request: object,
): Promise<EventContext> {
  const taken = first(responses, 'message');
  responses.add_credit(1);
  // or the request would be written first
  (responses.connection as unknown as { _process(): void })._process();
  requests.send({ to: '/auth/tokens', subject: 'PUT', reply_to: '$me', message_id, ...request } as Message);
  return taken;
}

describe('embedded broker as RabbitMQ', () => {
  afterEach(() => broker.stop());

  it('renews the token of a connection', async () => {
    await start({
      tokenRenewal: true,
      tokens: new Map([
        ['short', 200],
        ['long', 100_000],
      ]),
    });
    const [renewed, other] = await Promise.all([logIn('short'), logIn('short')]);
    const closed = first(other, 'connection_close');
    const { message } = await renew(await pair(renewed), rhea.types.wrap_binary(Buffer.from('1')), {
      body: Buffer.from('long'),
    });
    should(message).match({ subject: '204', correlation_id: Buffer.from('1'), body: null });
    await closed.should.be.rejectedWith(EXPIRED);
    await sender(renewed, 'q');
    broker.connections().should.equal(1);
  });

  it('ends the session of a request that it does not understand, or that it has no credit to answer', async () => {
    await start({ tokenRenewal: true, tokens: new Set(['good']) });
    for (const request of [{ body: 'good' }, { body: Buffer.from('good'), subject: 'GET' }, undefined]) {
      const links = await pair(await logIn('good'));
      const ended = first(links.requests.session, 'session_error');
      if (request) void renew(links, 'id', request);
      else links.requests.send({ to: '/auth/tokens', subject: 'PUT', reply_to: '$me', body: Buffer.from('good') });
      should((await ended).session!.error).match({
        condition: request ? 'amqp:internal-error' : 'amqp:precondition-failed',
      });
    }
  });

  it('ends the connection of a token that it does not know, which it repeats', async () => {
    await start({ tokenRenewal: true, tokens: new Set(['good']) });
    const client = await logIn('good');
    const closed = first(client, 'connection_error');
    should((await renew(await pair(client), 'id', { body: Buffer.from('bad') })).message).match({ subject: '204' });
    should((await closed).connection.error).match({ condition: 'amqp:unauthorized-access', description: /"bad"/ });
  });

  it('takes requests over a pair of links only', async () => {
    await start({ tokenRenewal: true });
    const client = await connectTo(broker.port);
    await sender(client, '/management').should.be.rejectedWith(NOT_ALLOWED);
    await receiver(client, '/management').should.be.rejectedWith(NOT_ALLOWED);
    await broker.stop();
    await start();
    await sender(await connectTo(broker.port), '/management');
  });
});
