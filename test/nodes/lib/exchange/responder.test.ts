import { EventEmitter, once } from 'node:events';
import { linksOn } from '../../../../nodes/lib/exchange/links';
import type { Message } from 'rhea';
import should from 'should';
import { Connection } from '../../../../nodes/lib/connection/connection';
import type { AmqpError } from '../../../../nodes/lib/errors';
import { type Incoming, outgoing, stylesOf } from '../../../../nodes/lib/message/message';
import type { DeliveryInfo } from '../../../../nodes/lib/receiver/receiver';
import { Requester } from '../../../../nodes/lib/exchange/requester';
import { Responder, type ResponderOptions } from '../../../../nodes/lib/exchange/responder';
import type { Sent } from '../../../../nodes/lib/link/entry';
import { Broker, type BrokerOptions } from '../../../../broker/broker';

/** Long enough never to end in a test. */
const LONG = 60_000;
const SHORT = 30;

interface Request {
  fields: Incoming['fields'];
  body: unknown;
  delivery: DeliveryInfo;
  id: string;
}

let broker: Broker;
let connection: Connection;
let responder: Responder;
/** Emits 'request' for each that the responder takes, and 'undecodable'. */
let flow: EventEmitter<{ request: [Request]; undecodable: [AmqpError, DeliveryInfo] }>;

/** What the flow could not be given. */
let undelivered: AmqpError[];

async function start(options: Partial<ResponderOptions> = {}, brokerOptions?: BrokerOptions): Promise<void> {
  broker = await Broker.start(brokerOptions);
  connection = new Connection({
    servers: [{ host: '127.0.0.1', port: broker.port }],
    containerId: 'responder-test',
    connectTimeout: 5000,
    idleTimeout: 0,
    backoff: { initial: 10, max: 10 },
    loginBackoff: { initial: 10, max: 10 },
  });
  flow = new EventEmitter();
  undelivered = [];
  responder = new Responder(
    linksOn(connection),
    {
      name: 'responder',
      address: 'q',
      settle: 'reply',
      creditWindow: 100,
      windowBytes: 2 ** 26,
      timeout: LONG,
      retryTime: 0,
      styles: stylesOf('body', 'auto'),
      ...options,
    },
    {
      message: ({ fields, body }, delivery) =>
        void flow.emit('request', { fields, body: body?.content, delivery, id: delivery.id! }),
      undelivered: (error) => {
        undelivered.push(error);
        return { settle: 'modify' };
      },
      undecodable: (error, delivery) => flow.emit('undecodable', error, delivery),
    },
  );
  responder.open();
  connection.open();
}

/** The next requests that the responder takes. */
function requests(count = 1): Promise<Request[]> {
  const taken: Request[] = [];
  return new Promise((resolve) => {
    const listener = (next: Request): void => {
      if (taken.push(next) < count) return;
      flow.off('request', listener);
      resolve(taken);
    };
    flow.on('request', listener);
  });
}

/** Sends a request, and resolves once the responder has it. */
async function request(fields: Message): Promise<Request> {
  const taken = requests();
  broker.put('q', fields);
  return (await taken)[0]!;
}

/** Replies to a request. Resolves with what became of the reply. */
function respond(id: string, payload: unknown, amqp: object = {}): Promise<Sent> {
  return new Promise((resolve, reject) => {
    const message = outgoing({ payload, amqp, delivery: {} }, { format: 'body', body: 'auto' });
    responder.respond(id, message, (error, sent) => (error ? reject(error) : resolve(sent)));
  });
}

/** Resolves once the responder is in the state. */
function state(name: string): Promise<void> {
  return new Promise((resolve) => {
    const check = (): void => {
      if (responder.state.name !== name) return;
      responder.off('state', check);
      resolve();
    };
    responder.on('state', check);
    check();
  });
}

const settled = async (): Promise<unknown> => (await once(broker, 'settled'))[0];

const shuffled = <T>(items: T[]): T[] => items.map((_, i) => items[(i * 7919 + 13) % items.length]!);

describe('a responder', () => {
  afterEach(async () => {
    await responder.close(0);
    await broker.stop();
  });

  describe('sends each reply', () => {
    it('to the address that its own request names, with its correlation id, in whatever order flows finish', async () => {
      await start({ creditWindow: 200 });
      const taken = requests(200);
      for (let n = 0; n < 200; n++) broker.put('q', { body: n, correlation_id: `c${n}`, reply_to: `back ${n % 4}` });
      const replies = shuffled(await taken).map(({ id, body }) => respond(id, `reply to ${String(body)}`));
      (await Promise.all(replies)).forEach(({ state: outcome }) => outcome.should.equal('accepted'));
      for (let back = 0; back < 4; back++) {
        const received = broker.messages(`back ${back}`);
        received.should.have.length(50);
        for (const reply of received) {
          const n = Number(reply!.correlation_id!.toString().slice(1));
          should([n % 4, reply!.body]).eql([back, `reply to ${n}`]);
        }
      }
    });

    it('with the message id of the request where that has no correlation id', async () => {
      await start();
      const { id } = await request({ body: 1, message_id: 'm', reply_to: 'back' });
      await respond(id, 'reply', { correlation_id: 'another' });
      broker.messages('back')[0]!.should.match({ correlation_id: 'm', body: 'reply', to: 'back' });
    });

    it('with the id in the type that it had', async () => {
      await start();
      flow.on('request', ({ id, body }) => void respond(id, body));
      const requester = new Requester(linksOn(connection), {
        name: 'requester',
        address: 'q',
        replyTo: {},
        timeout: LONG,
        reconnect: 'resend',
        buffer: 100,
        bufferBytes: Infinity,
        styles: stylesOf('body', 'auto'),
      });
      requester.open();
      // The requester takes a reply only for the request whose id has its type too.
      const uuid = { $amqp: 'uuid', value: '01234567-89ab-cdef-0123-456789abcdef' };
      const ids = ['7', 7, Buffer.from('7'), uuid, { $amqp: 'ulong', value: '18446744073709551615' }];
      const replies = ids.map(
        (id, index) =>
          new Promise((resolve, reject) => {
            const message = outgoing(
              { payload: index, amqp: { correlation_id: id } },
              { format: 'body', body: 'auto' },
            );
            const reply = ({ body }: Incoming): void => resolve(body?.content);
            requester.request(message, undefined, { sent: () => {}, reply, failed: reject });
          }),
      );
      (await Promise.all(replies)).should.eql([0, 1, 2, 3, 4]);
      await requester.close(0);
    });

    it('without what belonged to the request alone', async () => {
      await start();
      const { id, fields } = await request({
        body: 1,
        message_id: 'm',
        user_id: Buffer.from('me') as unknown as string,
        to: 'q',
        reply_to: 'back',
        reply_to_group_id: 'group',
        correlation_id: 'c',
        creation_time: new Date(1),
        absolute_expiry_time: new Date(2),
        delivery_count: 1,
        first_acquirer: true,
        delivery_annotations: { 'x-hop': 1 },
        subject: 'sum',
        application_properties: { a: 'b' },
      });
      await respond(id, 'reply', fields);
      const reply = broker.messages('back')[0]!;
      reply.should.match({ body: 'reply', to: 'back', correlation_id: 'c', subject: 'sum' });
      reply.application_properties!.should.eql({ a: 'b' });
      Object.entries(reply)
        .filter(([, value]) => value !== undefined)
        .map(([name]) => name)
        .toSorted()
        .should.eql(['application_properties', 'body', 'correlation_id', 'subject', 'to']);
    });

    it('where there is no anonymous relay too, by a link to each address', async () => {
      await start({}, { anonymousRelay: false });
      const taken = requests(20);
      for (let n = 0; n < 20; n++) broker.put('q', { body: n, message_id: n, reply_to: `back ${n}` });
      await Promise.all((await taken).map(({ id, body }) => respond(id, body)));
      for (let n = 0; n < 20; n++) broker.messages(`back ${n}`).should.match([{ body: n, correlation_id: n }]);
    });
  });

  describe('accepts a request', () => {
    it('once its reply is accepted', async () => {
      await start();
      await state('connected');
      broker.holdCredit('');
      const first = await request({ body: 1, message_id: 1, reply_to: 'back' });
      const replied = respond(first.id, 'reply');
      // Outcomes go the same way as the request for more: if there were one it would be here.
      await request({ body: 2, message_id: 2, reply_to: 'back' });
      broker.dispositions.should.eql([]);
      const outcome = settled();
      broker.giveCredit('');
      (await outcome)!.should.match({ address: 'q', id: 1, state: 'accepted' });
      (await replied).should.match({ address: 'back', state: 'accepted' });
      broker.unsettled('q').should.equal(1);
    });

    it('when the flow has it, if told so', async () => {
      await start({ settle: 'arrival' });
      const outcome = settled();
      const { id } = await request({ body: 1, message_id: 1, reply_to: 'back' });
      (await outcome)!.should.match({ id: 1, state: 'accepted' });
      (await respond(id, 'reply')).state.should.equal('accepted');
      broker.messages('back').should.match([{ body: 'reply', correlation_id: 1 }]);
      broker.dispositions.should.have.length(1);
    });

    it('that wants no reply at once, and says so to who replies', async () => {
      await start();
      const outcome = settled();
      const { id, body } = await request({ body: 'just so', message_id: 1 });
      body!.should.equal('just so');
      (await outcome)!.should.match({ id: 1, state: 'accepted' });
      await respond(id, 'reply').should.be.rejectedWith({ code: 'AMQP_NO_REPLY_TO' });
    });
  });

  it('takes no more requests at a time than its credit window', async () => {
    await start({ creditWindow: 3 });
    const taken = requests(3);
    for (let n = 0; n < 5; n++) broker.put('q', { body: n, message_id: n, reply_to: 'back' });
    const first = (await taken)[1]!;
    should([broker.unsettled('q'), broker.ready('q')]).eql([3, 2]);
    const next = requests();
    await respond(first.id, 'reply');
    (await next)[0]!.body!.should.equal(3);
    should([broker.unsettled('q'), broker.ready('q')]).eql([3, 1]);
  });

  it('rejects requests that nobody waits for any more, so that they keep no others from being answered', async () => {
    await start({ creditWindow: 2 });
    for (const n of [1, 2]) {
      const { id } = await request({ message_id: `old ${n}`, reply_to: 'dynamic-gone', body: n });
      await respond(id, 'reply').should.be.rejectedWith({ code: 'AMQP_RELEASED' });
    }
    const { id } = await request({ message_id: 'new', reply_to: 'back', body: 'new' });
    await respond(id, 'reply');
    broker.messages('back')[0]!.should.match({ correlation_id: 'new' });
    broker.depth('DLQ').should.equal(2);
  });

  describe('refuses a reply', () => {
    it('to a request that it never took', async () => {
      await start();
      await respond('made up', 'reply').should.be.rejectedWith({ code: 'AMQP_DELIVERY_UNKNOWN' });
    });

    it('to a request that has one, on its way or delivered', async () => {
      await start();
      const { id } = await request({ body: 1, message_id: 1, reply_to: 'back' });
      const first = respond(id, 'first');
      await respond(id, 'second').should.be.rejectedWith({ code: 'AMQP_DELIVERY_SETTLED' });
      await first;
      await respond(id, 'third').should.be.rejectedWith({ code: 'AMQP_DELIVERY_SETTLED' });
      broker.messages('back').should.match([{ body: 'first' }]);
    });

    it('that cannot be encoded, and takes another one', async () => {
      await start();
      const { id } = await request({ body: 1, message_id: 1, reply_to: 'back' });
      await respond(id, () => {}).should.be.rejectedWith({ code: 'AMQP_BAD_MESSAGE', message: /^msg\.payload / });
      await respond(id, 'better');
      broker.messages('back').should.match([{ body: 'better' }]);
    });
  });

  describe('when a reply cannot be delivered', () => {
    it('says why, and takes another one to the same request', async () => {
      await start();
      broker.answer('back', 'reject', 1);
      const { id } = await request({ body: 1, message_id: 1, reply_to: 'back' });
      await respond(id, 'bad').should.be.rejectedWith({ code: 'AMQP_REJECTED', condition: 'amqp:not-allowed' });
      broker.unsettled('q').should.equal(1);
      const outcome = settled();
      await respond(id, 'good');
      (await outcome)!.should.match({ id: 1, state: 'accepted' });
      broker.messages('back').should.match([{ body: 'good' }]);
    });

    for (const [anonymousRelay, code] of [
      [true, 'AMQP_RELEASED'],
      [false, 'AMQP_LINK_REFUSED'],
    ] as const) {
      it(`as its address is gone, other replies go out, ${anonymousRelay ? 'by' : 'without'} a relay`, async () => {
        await start({}, { anonymousRelay });
        const lost = await request({ body: 1, message_id: 1, reply_to: 'dynamic-gone' });
        const other = await request({ body: 2, message_id: 2, reply_to: 'back' });
        const failed = respond(lost.id, 'reply').should.be.rejectedWith({ code });
        (await respond(other.id, 'reply')).state.should.equal('accepted');
        await failed;
        broker.messages('back').should.match([{ correlation_id: 2 }]);
      });
    }
  });

  describe('when the time-out is over', () => {
    it('releases a request without a reply, and refuses a reply to it', async () => {
      await start({ timeout: SHORT });
      const outcome = settled();
      const { id } = await request({ body: 1, message_id: 1, reply_to: 'back' });
      const again = requests();
      (await outcome)!.should.match({ id: 1, state: 'released' });
      await respond(id, 'late').should.be.rejectedWith({ code: 'AMQP_DELIVERY_SETTLED' });
      (await again)[0]!.body!.should.equal(1);
    });

    it('releases one whose reply is not gone, and does not send that any more', async () => {
      await start({ timeout: SHORT });
      await state('connected');
      broker.holdCredit('');
      const outcome = settled();
      const { id } = await request({ body: 1, message_id: 1, reply_to: 'back' });
      await respond(id, 'late').should.be.rejectedWith({ code: 'AMQP_TIMEOUT' });
      (await outcome)!.should.match({ id: 1, state: 'released' });
      const replied = once(broker, 'message');
      flow.on('request', (redelivered) => void respond(redelivered.id, 'in time').catch(() => {}));
      broker.giveCredit('');
      (await replied)[1].body.should.equal('in time');
    });

    it('forgets one that was accepted on arrival', async () => {
      await start({ timeout: SHORT, settle: 'arrival' });
      const { id } = await request({ body: 1, reply_to: 'back' });
      // There is nothing to be seen of it.
      await new Promise((resolve) => setTimeout(resolve, 3 * SHORT));
      await respond(id, 'reply').should.be.rejectedWith({ code: 'AMQP_DELIVERY_SETTLED' });
    });
  });

  describe('after the connection was lost', () => {
    it('answers the requests that come again', async () => {
      await start();
      await request({ body: 1, message_id: 1, reply_to: 'back' });
      const again = requests();
      broker.dropSockets();
      const [redelivered] = await again;
      redelivered!.should.match({ body: 1, delivery: { redelivered: true } });
      const outcome = settled();
      await respond(redelivered!.id, 'reply');
      (await outcome)!.should.match({ id: 1, state: 'accepted' });
    });

    it('sends a reply whose outcome is not known again, and tells of it once', async () => {
      await start({ settle: 'arrival' });
      const { id } = await request({ body: 1, message_id: 1, reply_to: 'back' });
      // Before the outcome is written.
      broker.once('message', () => broker.dropSockets());
      (await respond(id, 'reply')).state.should.equal('accepted');
      broker.messages('back').should.match([{ body: 'reply' }, { body: 'reply' }]);
    });

    it('replies to requests that were accepted on arrival', async () => {
      await start({ settle: 'arrival' });
      const { id } = await request({ body: 1, message_id: 1, reply_to: 'back' });
      await broker.stop();
      await state('disconnected');
      const replied = respond(id, 'reply');
      await broker.resume();
      (await replied).state.should.equal('accepted');
    });
  });

  for (const settle of ['reply', 'arrival'] as const) {
    it(`gives back requests that the flow cannot be given, and credit goes on (${settle})`, async () => {
      await start({ creditWindow: 2, settle }, { maxDeliveries: 1 });
      let count = 0;
      const given = new Promise<Request>((resolve) => {
        flow.on('request', (one) => {
          if (++count < 5) throw new RangeError('too deep');
          resolve(one);
        });
      });
      for (let n = 0; n < 5; n++) broker.put('q', { body: n, message_id: n, reply_to: n % 2 ? undefined : 'back' });
      const { id, fields } = await given;
      should(fields.message_id).equal(4);
      should(undelivered.map(({ code }) => code)).eql(Array.from({ length: 4 }, () => 'AMQP_FLOW'));
      while (broker.depth('DLQ') < 4) await once(broker, 'settled');
      should(responder.holds(id)).be.true();
      should(broker.connections()).equal(1);
    });
  }

  it('rejects what is no message, and takes the next request', async () => {
    await start();
    const [undecodable, outcome] = [once(flow, 'undecodable'), settled()];
    broker.put('q', Buffer.from('no message'));
    const [error, delivery] = await undecodable;
    should({ code: error.code, address: delivery.address }).eql({ code: 'AMQP_DECODE', address: 'q' });
    (await outcome)!.should.match({ state: 'rejected', error: { condition: 'amqp:decode-error' } });
    (await request({ body: 'good' })).body!.should.equal('good');
  });

  describe('when it is closed', () => {
    it('gives replies their time, and releases requests without one', async () => {
      await start();
      await state('connected');
      broker.holdCredit('');
      const answered = await request({ body: 1, message_id: 1, reply_to: 'back' });
      await request({ body: 2, message_id: 2, reply_to: 'back' });
      const replied = respond(answered.id, 'reply');
      const closed = responder.close(LONG);
      await new Promise((resolve) => setTimeout(resolve, SHORT));
      broker.giveCredit('');
      (await replied).state.should.equal('accepted');
      await closed;
      broker.links().should.eql([]);
      broker.dispositions.should.match([
        { id: 1, state: 'accepted' },
        { id: 2, state: 'released' },
      ]);
    });

    it('fails replies that find no end', async () => {
      await start();
      await state('connected');
      broker.holdCredit('');
      const { id } = await request({ body: 1, message_id: 1, reply_to: 'back' });
      const failed = respond(id, 'reply').should.be.rejectedWith({ code: 'AMQP_SHUTDOWN' });
      await responder.close(SHORT);
      await failed;
      broker.ready('q').should.equal(1);
      broker.links().should.eql([]);
    });

    it('is done also without a connection', async () => {
      await start({ settle: 'arrival' });
      const { id } = await request({ body: 1, message_id: 1, reply_to: 'back' });
      await broker.stop();
      await state('disconnected');
      const failed = respond(id, 'reply').catch((error: unknown) => error);
      await responder.close(SHORT);
      (await failed)!.should.have.property('code', 'AMQP_SHUTDOWN');
    });
  });
});
