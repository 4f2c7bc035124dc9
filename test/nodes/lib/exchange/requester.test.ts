import { once } from 'node:events';
import { linksOn } from '../../../../nodes/lib/exchange/links';
import type { AddressInfo } from 'node:net';
import rhea, { type EventContext, type Message, type Typed } from 'rhea';
import should from 'should';
import { Connection } from '../../../../nodes/lib/connection/connection';
import type { AmqpError } from '../../../../nodes/lib/errors';
import { type Outgoing, outgoing, stylesOf } from '../../../../nodes/lib/message/message';
import {
  DIRECT_REPLY_TO,
  type ReplyPlace,
  Requester,
  type RequesterOptions,
} from '../../../../nodes/lib/exchange/requester';
import type { Sent } from '../../../../nodes/lib/link/entry';
import { Broker, type BrokerOptions, type LinkInfo } from '../../../../broker/broker';

/** Long enough never to end in a test. */
const LONG = 60_000;
const SHORT = 100;

let broker: Broker;
let connection: Connection;
let requesters: Requester[] = [];

async function start(options?: BrokerOptions): Promise<void> {
  broker = await Broker.start(options);
  connectTo(broker.port);
}

function connectTo(port: number): void {
  connection = new Connection({
    servers: [{ host: '127.0.0.1', port }],
    containerId: 'requester-test',
    connectTimeout: 5000,
    idleTimeout: 0,
    backoff: { initial: 10, max: 10 },
    loginBackoff: { initial: 10, max: 10 },
  });
}

function open(options: Partial<RequesterOptions> = {}): Requester {
  const requester = new Requester(linksOn(connection), {
    name: `requester-${requesters.length}`,
    address: 'q',
    replyTo: {},
    timeout: LONG,
    reconnect: 'resend',
    buffer: 10_000,
    bufferBytes: Infinity,
    styles: stylesOf('body', 'auto'),
    ...options,
  });
  requesters.push(requester);
  requester.open();
  connection.open();
  return requester;
}

const message = (payload: unknown, amqp: object = {}): Outgoing =>
  outgoing({ payload, amqp }, { format: 'body', body: 'auto' });

/** Sends a request. Resolves with the body of its reply. */
function ask(requester: Requester, payload: unknown, amqp?: object, told: Sent[] = []): Promise<unknown> {
  return new Promise((resolve, reject) => {
    requester.request(message(payload, amqp), undefined, {
      sent: (sent) => told.push(sent),
      reply: ({ body }) => resolve(body?.content),
      failed: reject,
    });
  });
}

/** What is told of a request with several replies: their bodies and places, and how it ended. */
class Asked {
  readonly bodies: unknown[] = [];
  readonly places: (ReplyPlace | undefined)[] = [];
  readonly ended: Promise<void>;

  constructor(requester: Requester, payload: unknown, isLast: (body: unknown) => boolean = () => false) {
    this.ended = new Promise((resolve, reject) => {
      requester.request(message(payload), undefined, {
        sent: () => {},
        reply: ({ body }, _delivery, place) => {
          this.bodies.push(body?.content);
          this.places.push(place);
          return isLast(body?.content);
        },
        ended: resolve,
        failed: reject,
      });
    });
    this.ended.catch(() => {});
  }
}

/** The next requests that reach the broker. */
function requests(count = 1, address = 'q'): Promise<Message[]> {
  const taken: Message[] = [];
  return new Promise((resolve) => {
    const listener = (to: string, request: Message): void => {
      if (to !== address || taken.push(request) < count) return;
      broker.off('message', listener);
      resolve(taken);
    };
    broker.on('message', listener);
  });
}

function reply({ reply_to: to, correlation_id: id }: Message, body: unknown): void {
  broker.put(to!, { correlation_id: id, body });
}

/** Resolves once the requester is in the state. */
function state(requester: Requester, name: string): Promise<void> {
  return new Promise((resolve) => {
    const check = (): void => {
      if (requester.state.name !== name) return;
      requester.off('state', check);
      resolve();
    };
    requester.on('state', check);
    check();
  });
}

const link = (name: string): LinkInfo | undefined => broker.links().find((info) => info.name === name);

/** The order of the indexes 0 … n-1 when dealt out in a fixed but wild way; n is no multiple of 7919. */
const shuffled = <T>(items: T[]): T[] => items.map((_, i) => items[(i * 7919 + 13) % items.length]!);

describe('a requester', () => {
  afterEach(async () => {
    await Promise.all(requesters.map((requester) => requester.close(0)));
    requesters = [];
    await broker.stop();
  });

  describe('with many requests in flight', () => {
    it('gives each its own reply, in whatever order they are answered', async () => {
      await start();
      const requester = open();
      const taken = requests(1000);
      const replies = Array.from({ length: 1000 }, (_, n) => ask(requester, n));
      for (const request of shuffled(await taken)) reply(request, `reply to ${request.body}`);
      (await Promise.all(replies)).should.eql(replies.map((_, n) => `reply to ${n}`));
      requester.unmatched.should.equal(0);
    });

    it('shares the connection with another one, and even ids, without mixing up replies', async () => {
      await start();
      const taken = requests(200);
      const ids = Array.from({ length: 100 }, (_, n) => `id ${n}`);
      const replies = ['a', 'b'].map((name) => {
        const requester = open();
        return ids.map((id) => ask(requester, `${name} ${id}`, { correlation_id: id }));
      });
      for (const request of shuffled(await taken)) reply(request, `reply to ${request.body}`);
      const [a, b] = await Promise.all(replies.map((all) => Promise.all(all)));
      a!.should.eql(ids.map((id) => `reply to a ${id}`));
      b!.should.eql(ids.map((id) => `reply to b ${id}`));
    });

    it('takes no more than its buffer holds, and more again once some are answered', async () => {
      await start();
      const requester = open({ buffer: 2 });
      const taken = requests(2);
      const [first, second] = [ask(requester, 1), ask(requester, 2)];
      const [request, other] = await taken;
      // Once this one is answered those have arrived: they count all the same.
      const between = requests();
      const answered = ask(open(), 'between');
      reply((await between)[0]!, 'yes');
      await answered;
      await ask(requester, 3).should.be.rejectedWith({ code: 'AMQP_BUFFER_FULL' });
      reply(request!, 'one');
      (await first)!.should.equal('one');
      const next = requests();
      const third = ask(requester, 3);
      reply((await next)[0]!, 'three');
      reply(other!, 'two');
      (await Promise.all([second, third])).should.eql(['two', 'three']);
    });
  });

  describe('names as the address for replies', () => {
    it('a temporary queue, to JMS services, when the peer makes it', async () => {
      await start();
      const taken = requests(2);
      ask(open(), 'dynamic', { message_annotations: { 'x-opt-a': 1, 'x-opt-jms-reply-to': 0 } }).catch(() => {});
      ask(open({ replyTo: { address: 'replies' } }), 'fixed').catch(() => {});
      const annotations = Object.fromEntries(
        (await taken).map((request) => [request.body, request.message_annotations]),
      );
      should(annotations).eql({ dynamic: { 'x-opt-a': 1, 'x-opt-jms-reply-to': 2 }, fixed: undefined });
    });

    it('one that the peer makes, another one for each requester', async () => {
      await start();
      const taken = requests(2);
      for (const requester of [open(), open()]) ask(requester, 'hi').catch(() => {});
      const addresses = (await taken).map((request) => request.reply_to);
      addresses.should.eql(['requester-0:reply', 'requester-1:reply'].map((name) => link(name)!.address));
      addresses[0]!.should.not.equal(addresses[1]);
      link('requester-0:reply')!.should.match({ role: 'receiver', source: { dynamic: true } });
    });

    it('one that the peer makes with the capability asked for', async () => {
      await start();
      await state(open({ replyTo: { capabilities: ['temporary-queue'] } }), 'connected');
      link('requester-0:reply')!.source!.should.match({ dynamic: true, capabilities: ['temporary-queue'] });
    });

    it('a fixed one', async () => {
      await start();
      const taken = requests();
      const answer = ask(open({ replyTo: { address: 'replies' } }), 'hi');
      const [request] = await taken;
      request!.reply_to!.should.equal('replies');
      link('requester-0:reply')!.source!.should.not.have.property('dynamic', true);
      reply(request!, 'ho');
      (await answer)!.should.equal('ho');
    });

    it('its own in place of the one that the message had before', async () => {
      await start();
      const requester = open();
      await state(requester, 'connected');
      const taken = requests();
      ask(requester, 'hi', { reply_to: 'elsewhere' }).catch(() => {});
      (await taken)[0]!.reply_to!.should.equal(link('requester-0:reply')!.address);
    });

    it('sends nothing before there is one', async () => {
      await start();
      broker.refuse('');
      const requester = open();
      const taken = requests();
      const answer = ask(requester, 'hi');
      await state(requester, 'refused');
      should(broker.received['q']).be.undefined();
      broker.allow('');
      reply((await taken)[0]!, 'ho');
      (await answer)!.should.equal('ho');
    });
  });

  describe('finds the request of a reply', () => {
    const IDS: [type: string, id: unknown, onTheWire: string][] = [
      ['string', 'seven', 'Str8'],
      ['ulong', 7, 'SmallUlong'],
      ['ulong beyond 2^53', { $amqp: 'ulong', value: '18446744073709551615' }, 'Ulong'],
      ['BigInt', 7n, 'SmallUlong'],
      ['uuid', { $amqp: 'uuid', value: '01234567-89AB-CDEF-0123-456789abcdef' }, 'Uuid'],
      ['binary', Buffer.from('seven'), 'Vbin8'],
    ];

    for (const [type, id, onTheWire] of IDS) {
      it(`by a correlation id of type ${type}, which keeps its type`, async () => {
        await start();
        const seen = await service(({ correlationId }) => correlationId);
        (await ask(open(), 'hi', { correlation_id: id }))!.should.equal('reply');
        seen[0]!.correlationId.type.name.should.equal(onTheWire);
      });

      it(`by its message id of type ${type}, sent back as correlation id`, async () => {
        await start();
        const seen = await service(({ messageId }) => messageId);
        (await ask(open(), 'hi', { message_id: id, correlation_id: 'other' }))!.should.equal('reply');
        seen[0]!.messageId.type.name.should.equal(onTheWire);
      });
    }

    it('by either id when the flow gives none: then they are the same', async () => {
      await start();
      const seen = await service(({ messageId }) => messageId);
      (await ask(open(), 'hi'))!.should.equal('reply');
      seen[0]!.messageId.value.should.be.a.String().and.equal(seen[0]!.correlationId.value);
    });

    it('by the message id of a reply that has no correlation id', async () => {
      await start();
      const taken = requests();
      const answer = ask(open(), 'hi');
      const [request] = await taken;
      broker.put(request!.reply_to!, { message_id: request!.message_id, body: 'ho' });
      (await answer)!.should.equal('ho');
    });

    it('by the type of the id too: "7" is not 7', async () => {
      await start();
      const requester = open();
      await service(
        ({ correlationId }) => correlationId,
        ({ correlationId }) => correlationId.type.name,
      );
      const ids = ['7', 7, Buffer.from('7')];
      const replies = await Promise.all(ids.map((id) => ask(requester, 'hi', { correlation_id: id })));
      replies.should.eql(['Str8', 'SmallUlong', 'Vbin8']);
    });

    it('and refuses a request whose id is in flight already, until that is answered', async () => {
      await start();
      const requester = open();
      const taken = requests();
      const first = ask(requester, 1, { correlation_id: 'same' });
      await ask(requester, 2, { correlation_id: 'same' }).should.be.rejectedWith({
        code: 'AMQP_BAD_MESSAGE',
        message: /^msg\.amqp\.correlation_id /,
      });
      reply((await taken)[0]!, 'one');
      (await first)!.should.equal('one');
      const again = requests();
      const second = ask(requester, 2, { correlation_id: 'same' });
      reply((await again)[0]!, 'two');
      (await second)!.should.equal('two');
      broker.received['q']!.should.equal(2);
    });

    it('by an id that comes back as another kind of integer', async () => {
      await start();
      const requester = open();
      const asked = requests();
      const answered = ask(requester, 'hi', { message_id: 7 });
      const [{ reply_to: to }] = (await asked) as [Message];
      // Properties with the int 7 as correlation id, as Qpid Dispatch's management answers.
      broker.put(to!, Buffer.from('005373c00b0640404040407100000007005377a10568656c6c6f', 'hex'));
      should(await answered).equal('hello');
    });

    it('of which only the body cannot be decoded: the request fails, with what could be read', async () => {
      await start();
      const requester = open();
      const asked = requests();
      const failed = new Promise<[AmqpError, unknown]>((resolve, reject) => {
        requester.request(message('hi', { message_id: 'm' }), undefined, {
          sent: () => {},
          reply: reject,
          failed: (error, fields) => resolve([error, fields]),
        });
      });
      const [{ reply_to: to }] = (await asked) as [Message];
      const status = rhea.message.encode({
        correlation_id: 'm',
        application_properties: { why: 'no' },
        body: '',
      });
      // The body is a list that claims more than there is.
      broker.put(
        to!,
        Buffer.concat([status.subarray(0, status.length - 5), Buffer.from('005377d0000000ff00000001', 'hex')]),
      );
      const [error, fields] = await failed;
      should(error).match({ code: 'AMQP_DECODE', message: /^the reply cannot be decoded: / });
      should(fields).match({ correlation_id: 'm', application_properties: { why: 'no' } });
      should(requester.unmatched).equal(0);
    });

    it('or counts and drops it: nobody asked for it', async () => {
      await start();
      const requester = open();
      await state(requester, 'connected');
      const { address } = link('requester-0:reply')!;
      const taken = requests();
      const answer = ask(requester, 'hi');
      const [request] = await taken;
      broker.put(address, { body: 'without an id' });
      broker.put(address, { correlation_id: 'unknown', body: 'for another' });
      reply(request!, 'ho');
      reply(request!, 'ho again');
      (await answer)!.should.equal('ho');
      while (broker.dispositions.length < 4) await once(broker, 'settled');
      requester.unmatched.should.equal(3);
      broker.dispositions.map((disposition) => disposition.state).should.eql(Array(4).fill('accepted'));
    });
  });

  it('sends a request again that the peer releases, for as long as it waits for the reply', async () => {
    await start();
    const requester = open({ timeout: 3000 });
    broker.answer('q', 'release', 3);
    const asked = requests();
    const answered = ask(requester, 'hi');
    reply((await asked)[0]!, 'late, but there');
    should(await answered).equal('late, but there');
    should(broker.received['q']).equal(4);
  });

  it('says that the peer has released the request when that is why there is no reply', async () => {
    await start();
    broker.answer('q', 'release');
    await should(ask(open({ timeout: 300 }), 'hi')).be.rejectedWith({
      code: 'AMQP_REPLY_TIMEOUT',
      message: /no reply within 0\.3 s: the peer released the message/,
    });
  });

  describe('when no reply comes in time', () => {
    it('fails the request, and counts and drops the reply that comes late', async () => {
      await start();
      const requester = open({ timeout: SHORT });
      await state(requester, 'connected');
      const taken = requests();
      await ask(requester, 'hi').should.be.rejectedWith({ code: 'AMQP_REPLY_TIMEOUT' });
      const settled = once(broker, 'settled');
      reply((await taken)[0]!, 'too late');
      (await settled)[0].should.match({ state: 'accepted' });
      requester.unmatched.should.equal(1);
    });

    it('does not send a request any more that waited for credit', async () => {
      await start();
      broker.holdCredit('q');
      const impatient = open({ timeout: SHORT });
      const patient = open();
      // In this order, so that the one that gave up would have been the first to send.
      await state(impatient, 'connected');
      await state(patient, 'connected');
      await ask(impatient, 'too late').should.be.rejectedWith({ code: 'AMQP_REPLY_TIMEOUT' });
      const taken = requests();
      ask(patient, 'in time').catch(() => {});
      broker.giveCredit('q');
      (await taken)[0]!.body.should.equal('in time');
      broker.received['q']!.should.equal(1);
    });

    it('fails it also where the peer makes no addresses for replies', async () => {
      await start({ dynamic: false });
      const requester = open({ timeout: SHORT });
      await ask(requester, 'hi').should.be.rejectedWith({ code: 'AMQP_REPLY_TIMEOUT' });
      await state(requester, 'refused');
    });

    it('waits for ever when there is no time-out', async () => {
      await start();
      const [impatient, patient] = [open({ timeout: SHORT }), open({ timeout: 0 })];
      const taken = requests();
      const answer = ask(patient, 'patient');
      const [request] = await taken;
      await ask(impatient, 'impatient').should.be.rejectedWith({ code: 'AMQP_REPLY_TIMEOUT' });
      reply(request!, 'ho');
      (await answer)!.should.equal('ho');
    });
  });

  describe('with several replies to a request', () => {
    it('gives so many, with their places, and is done with the last', async () => {
      await start();
      const requester = open({ replies: { count: 3, isMarked: false } });
      const taken = requests();
      const asked = new Asked(requester, 'hi');
      const [request] = await taken;
      for (const body of ['a', 'b', 'c']) reply(request!, body);
      await asked.ended;
      should(asked.bodies).eql(['a', 'b', 'c']);
      should(asked.places).eql([
        { index: 0, isLast: false },
        { index: 1, isLast: false },
        { index: 2, isLast: true },
      ]);
      should(requester.pending()).be.empty();
    });

    it('gives those up to the one that its user calls the last', async () => {
      await start();
      const requester = open({ replies: { isMarked: true } });
      const taken = requests();
      const asked = new Asked(requester, 'hi', (body) => body === 'end');
      const [request] = await taken;
      for (const body of ['a', 'end', 'late']) reply(request!, body);
      await asked.ended;
      while (requester.unmatched === 0) await once(broker, 'settled');
      should(asked.bodies).eql(['a', 'end']);
    });

    it('is done with the mark before the number, and with the number before the mark', async () => {
      await start();
      const requester = open({ replies: { count: 2, isMarked: true } });
      for (const [bodies, given] of [
        [['end', 'b'], ['end']],
        [
          ['a', 'b', 'end'],
          ['a', 'b'],
        ],
      ] as const) {
        const taken = requests();
        const asked = new Asked(requester, 'hi', (body) => body === 'end');
        const [request] = await taken;
        for (const body of bodies) reply(request!, body);
        await asked.ended;
        should(asked.bodies).eql(given);
      }
    });

    it('gives those that come in time where nothing else ends them', async () => {
      await start();
      const requester = open({ replies: { isMarked: false }, timeout: SHORT });
      const taken = requests();
      const asked = new Asked(requester, 'hi');
      const [request] = await taken;
      for (const body of ['a', 'b']) reply(request!, body);
      await asked.ended;
      should(asked.bodies).eql(['a', 'b']);
      reply(request!, 'late');
      while (requester.unmatched === 0) await once(broker, 'settled');
      should(asked.bodies).eql(['a', 'b']);
    });

    it('fails a request without any reply, however they are to end', async () => {
      await start();
      for (const replies of [{ isMarked: false }, { isMarked: true }, { count: 2, isMarked: false }]) {
        const asked = new Asked(open({ replies, timeout: SHORT }), 'hi');
        await should(asked.ended).be.rejectedWith({ code: 'AMQP_REPLY_TIMEOUT', message: /^no reply/ });
      }
    });

    for (const replies of [{ count: 3, isMarked: false }, { isMarked: true }]) {
      it(`fails a request whose last reply does not come, and says how many came (${JSON.stringify(replies)})`, async () => {
        await start();
        const requester = open({ replies, timeout: SHORT });
        const taken = requests();
        const asked = new Asked(requester, 'hi');
        const [request] = await taken;
        for (const body of ['a', 'b']) reply(request!, body);
        await should(asked.ended).be.rejectedWith({ code: 'AMQP_REPLY_TIMEOUT', message: /2 came/ });
        should(asked.bodies).eql(['a', 'b']);
        should(requester.pending()).be.empty();
      });
    }

    it('keeps those of requests in flight apart', async () => {
      await start();
      const requester = open({ replies: { count: 3, isMarked: false } });
      const taken = requests(50);
      const all = Array.from({ length: 50 }, (_, n) => new Asked(requester, n));
      const answers = (await taken).flatMap((request) => [0, 1, 2].map((part) => ({ request, part })));
      for (const { request, part } of shuffled(answers)) reply(request, `${request.body}: ${part}`);
      await Promise.all(all.map(({ ended }) => ended));
      for (const [n, { bodies }] of all.entries())
        should(new Set(bodies)).eql(new Set([0, 1, 2].map((part) => `${n}: ${part}`)));
    });

    it('does not ask again what was answered in part before the connection was lost', async () => {
      await start();
      const requester = open({ replies: { count: 2, isMarked: false } });
      const taken = requests(2);
      const [partly, not] = [new Asked(requester, 'partly'), new Asked(requester, 'not')];
      reply(
        (await taken).find(({ body }) => body === 'partly')!,
        'a',
      );
      while (partly.bodies.length === 0) await once(broker, 'settled');
      const again = requests();
      broker.dropSockets();
      await should(partly.ended).be.rejectedWith({ code: 'AMQP_IN_DOUBT' });
      const [request] = await again;
      should(request!.body).equal('not');
      for (const body of ['x', 'y']) reply(request!, body);
      await not.ended;
      should(not.bodies).eql(['x', 'y']);
    });

    it('fails a request over a reply that cannot be decoded', async () => {
      await start();
      const requester = open({ replies: { count: 2, isMarked: false } });
      const taken = requests();
      const asked = new Asked(requester, 'hi');
      const [request] = await taken;
      const bad = rhea.message.encode({ correlation_id: request!.correlation_id, body: '' });
      broker.put(request!.reply_to!, Buffer.concat([bad.subarray(0, bad.length - 5), Buffer.from('005377ff', 'hex')]));
      await should(asked.ended).be.rejectedWith({ code: 'AMQP_DECODE' });
    });
  });

  describe('tells of the requests in flight', () => {
    it('none', async () => {
      await start();
      should(open().pending()).be.empty();
    });

    it('each with its address, how far it is, its age and its replies, the oldest first', async () => {
      await start();
      broker.holdCredit('q');
      const requester = open({ replies: { count: 2, isMarked: false } });
      await state(requester, 'connected');
      const before = Date.now();
      const taken = requests();
      const first = new Asked(requester, 1);
      broker.giveCredit('q', 1);
      const [request] = await taken;
      reply(request!, 'a');
      while (first.bodies.length === 0) await once(broker, 'settled');
      new Asked(requester, 2).ended.catch(() => {});
      const pending = requester.pending();
      should(pending).match([
        { address: 'q', stage: 'delivered', replies: 1 },
        { address: 'q', stage: 'sending', replies: 0 },
      ]);
      for (const { age } of pending) should(age).be.within(0, Date.now() - before);
      should(structuredClone(pending)).eql(pending);
    });
  });

  describe('with direct reply-to, as RabbitMQ has it', () => {
    const direct = { replyTo: DIRECT_REPLY_TO };

    it('asks for an address of settled messages, on the session of its requests', async () => {
      await start();
      const requester = open(direct);
      const taken = requests();
      const asked = ask(requester, 'hi');
      const [request] = await taken;
      reply(request!, 'ho');
      should(await asked).equal('ho');
      const { source, sndSettleMode } = link('requester-0:reply')!;
      should(source).match({ dynamic: true, expiry_policy: 'link-detach' });
      should([source!['capabilities']].flat()).eql(['rabbitmq:volatile-queue']);
      should([source!['durable'] ?? 0, sndSettleMode]).eql([0, 1]);
    });

    it('gets another address after a reconnect, and asks there again what has no reply', async () => {
      await start();
      const requester = open(direct);
      const first = requests();
      const asked = ask(requester, 'hi');
      const [{ reply_to: before }] = (await first) as [Message];
      const second = requests();
      broker.dropSockets();
      const [request] = (await second) as [Message];
      should(request.reply_to).not.equal(before);
      reply(request, 'ho');
      should(await asked).equal('ho');
    });

    for (const [what, lose] of [
      ['session', () => broker.endSessions('q')],
      ['link', () => broker.detach('q')],
    ] as const) {
      it(`goes on after the loss of its ${what}`, async () => {
        await start();
        const requester = open(direct);
        await state(requester, 'connected');
        lose();
        broker.on('message', (to: string, request: Message) => to === 'q' && reply(request, `re ${request.body}`));
        should(await ask(requester, 'hi')).equal('re hi');
      });
    }
  });

  it('tells what became of a request, and fails one that the peer rejects', async () => {
    await start();
    const requester = open();
    const told: Sent[] = [];
    broker.answer('q', 'reject', 1);
    await ask(requester, 'no', { correlation_id: 'id' }, told).should.be.rejectedWith({
      code: 'AMQP_REJECTED',
      condition: 'amqp:not-allowed',
    });
    told.should.have.length(1);
    told[0]!.should.match({ state: 'rejected', address: 'q', error: { code: 'AMQP_REJECTED' } });
    // It is not in flight any more.
    const taken = requests();
    const answer = ask(requester, 'yes', { correlation_id: 'id' }, told);
    reply((await taken)[0]!, 'ho');
    (await answer)!.should.equal('ho');
  });

  it('refuses a request that cannot be encoded, and holds nothing of it', async () => {
    await start();
    const requester = open({ buffer: 1 });
    const bad = ask(requester, () => {}, { correlation_id: 'id' });
    await bad.should.be.rejectedWith({ code: 'AMQP_BAD_MESSAGE', message: /^msg\.payload / });
    const taken = requests();
    const answer = ask(requester, 'hi', { correlation_id: 'id' });
    reply((await taken)[0]!, 'ho');
    (await answer)!.should.equal('ho');
  });

  it('sends each request to the address it names, where there is no anonymous relay too', async () => {
    await start({ anonymousRelay: false });
    const requester = open({ address: undefined });
    const answers = ['a', 'b'].map(async (address) => {
      const taken = requests(1, address);
      const answer = new Promise((resolve, reject) => {
        const user = { sent: () => {}, reply: resolve, failed: reject };
        requester.request(message('hi'), address, user);
      });
      reply((await taken)[0]!, address);
      return answer;
    });
    (await Promise.all(answers)).should.match([{ body: { content: 'a' } }, { body: { content: 'b' } }]);
  });

  describe('after the connection was lost', () => {
    it('sends requests that have no reply yet again, with its new address (R52)', async () => {
      await start();
      const requester = open();
      const taken = requests(2);
      const told: Sent[] = [];
      const replies = [ask(requester, 1, {}, told), ask(requester, 2, {}, told)];
      const before = await taken;
      const again = requests(2);
      broker.dropSockets();
      const after = await again;
      after
        .map(({ message_id, correlation_id, body }) => [message_id, correlation_id, body])
        .should.eql(before.map(({ message_id, correlation_id, body }) => [message_id, correlation_id, body]));
      for (const { reply_to: to } of after) {
        to!.should.equal(link('requester-0:reply')!.address);
        to!.should.not.equal(before[0]!.reply_to);
      }
      for (const request of after.toReversed()) reply(request, `reply to ${request.body}`);
      (await Promise.all(replies)).should.eql(['reply to 1', 'reply to 2']);
      requester.unmatched.should.equal(0);
    });

    it('sends a request again whose outcome is not known', async () => {
      await start();
      const answer = ask(open(), 'hi');
      const again = requests(2);
      // Before the outcome is written.
      broker.once('message', () => broker.dropSockets());
      const [before, after] = await again;
      after!.message_id!.should.equal(before!.message_id);
      after!.reply_to!.should.not.equal(before!.reply_to);
      reply(after!, 'ho');
      (await answer)!.should.equal('ho');
    });

    for (const [when, drop] of [
      ['before', () => broker.once('message', () => broker.dropSockets())],
      ['after', () => broker.once('message', () => setImmediate(() => broker.dropSockets()))],
    ] as const) {
      it(`fails a request whose reply can not come any more, when told so, ${when} its outcome`, async () => {
        await start();
        const requester = open({ reconnect: 'fail' });
        await state(requester, 'connected');
        drop();
        await ask(requester, 'hi').should.be.rejectedWith({ code: 'AMQP_IN_DOUBT' });
        const taken = requests();
        const answer = ask(requester, 'hi again');
        reply((await taken)[0]!, 'ho');
        (await answer)!.should.equal('ho');
        broker.received['q']!.should.equal(2);
      });
    }

    for (const reconnect of ['resend', 'fail'] as const) {
      it(`sends what was asked meanwhile, when it is to ${reconnect} what was in flight`, async () => {
        await start();
        const requester = open({ reconnect });
        await state(requester, 'connected');
        await broker.stop();
        await state(requester, 'disconnected');
        const taken = requests();
        const answer = ask(requester, 'hi');
        await broker.resume();
        const [request] = await taken;
        request!.reply_to!.should.equal(link('requester-0:reply')!.address);
        reply(request!, 'ho');
        (await answer)!.should.equal('ho');
      });
    }

    for (const reconnect of ['resend', 'fail'] as const) {
      it(`takes replies that came to its fixed address meanwhile, when it is to ${reconnect} what was in flight`, async () => {
        await start();
        const requester = open({ reconnect, replyTo: { address: 'replies' } });
        await state(requester, 'connected');
        const taken = requests();
        const answer = new Promise((resolve, reject) => {
          requester.request(message('hi'), undefined, {
            sent: () => void broker.stop(),
            reply: ({ body }) => resolve(body?.content),
            failed: reject,
          });
        });
        const [request] = await taken;
        await state(requester, 'disconnected');
        reply(request!, 'ho');
        await broker.resume();
        (await answer)!.should.equal('ho');
        broker.received['q']!.should.equal(1);
      });
    }
  });

  it('sends requests again when only its reply address was lost', async () => {
    await start();
    const requester = open();
    const taken = requests();
    const answer = ask(requester, 'hi');
    const [before] = await taken;
    const again = requests();
    broker.detach(before!.reply_to!, { condition: 'amqp:resource-deleted' });
    const [after] = await again;
    after!.reply_to!.should.not.equal(before!.reply_to);
    reply(after!, 'ho');
    (await answer)!.should.equal('ho');
    broker.connections().should.equal(1);
  });

  it('sends nothing between the loss of its reply address and the next one', async () => {
    await start();
    const requester = open();
    await state(requester, 'connected');
    broker.refuse('');
    broker.detach(link('requester-0:reply')!.address);
    await state(requester, 'refused');
    const taken = requests();
    const answer = ask(requester, 'hi');
    broker.allow('');
    const [request] = await taken;
    request!.reply_to!.should.equal(link('requester-0:reply')!.address);
    reply(request!, 'ho');
    (await answer)!.should.equal('ho');
  });

  for (const [reconnect, does] of [
    ['resend', 'sends again'],
    ['fail', 'fails, when told so,'],
  ] as const) {
    it(`${does} what was on its way when the reply address was lost, once it has arrived`, async () => {
      const peer = rhea.create_container({ id: 'peer' });
      peer.sasl_server_mechanisms.enable_anonymous();
      peer.on('disconnected', () => {});
      peer.on('receiver_open', ({ receiver }: EventContext) => receiver!.set_target(receiver!.target));
      let addresses = 0;
      peer.on('sender_open', ({ sender }: EventContext) => sender!.set_source({ address: `reply-${++addresses}` }));
      const server = peer.listen({ port: 0, host: '127.0.0.1', autoaccept: false } as object);
      await once(server, 'listening');
      connectTo((server.address() as AddressInfo).port);

      const attached = once(peer, 'sender_open') as Promise<[EventContext]>;
      const arrived = once(peer, 'message') as Promise<[EventContext]>;
      const requester = open({ reconnect });
      const answer = ask(requester, 'hi');
      answer.catch(() => {});
      const [{ sender: replies }] = await attached;
      const [request] = await arrived;
      const attachedAgain = once(peer, 'sender_open') as Promise<[EventContext]>;
      replies!.close();
      const [{ sender: repliesAgain }] = await attachedAgain;
      await state(requester, 'connected');
      const sentAgain = once(peer, 'message') as Promise<[EventContext]>;
      request.delivery!.accept();
      if (reconnect === 'fail') {
        await answer.should.be.rejectedWith({ code: 'AMQP_IN_DOUBT' });
      } else {
        const [{ message: resent }] = await sentAgain;
        resent!.should.match({ body: 'hi', reply_to: 'reply-2', message_id: request.message!.message_id });
        repliesAgain!.send({ correlation_id: resent!.correlation_id, body: 'ho' });
        (await answer)!.should.equal('ho');
      }
      await requester.close(0);
      server.close();
    });
  }

  describe('when it is closed', () => {
    it('gives replies their time, and takes no more requests', async () => {
      await start();
      const requester = open();
      const taken = requests();
      const answer = ask(requester, 'hi');
      const [request] = await taken;
      const closed = requester.close(LONG);
      await ask(requester, 'more').should.be.rejectedWith({ code: 'AMQP_SHUTDOWN' });
      reply(request!, 'ho');
      (await answer)!.should.equal('ho');
      await closed;
      broker.links().should.eql([]);
      broker.received['q']!.should.equal(1);
    });

    it('fails what has no reply by then', async () => {
      await start();
      const requester = open();
      const taken = requests();
      const failed = ask(requester, 'hi').should.be.rejectedWith({ code: 'AMQP_SHUTDOWN' });
      await taken;
      await requester.close(SHORT);
      await failed;
      broker.links().should.eql([]);
    });

    it('is done also without a connection', async () => {
      await start();
      await broker.stop();
      const requester = open();
      const failed = ask(requester, 'hi').should.be.rejectedWith({ code: 'AMQP_SHUTDOWN' });
      await state(requester, 'disconnected');
      await requester.close(SHORT);
      await failed;
    });
  });
});

interface Request {
  messageId: Typed;
  replyTo: Typed;
  correlationId: Typed;
}

type TypedValue = Typed & { type: { name: string } };
type Seen = { [Field in keyof Request]: TypedValue };

const { Reader } = rhea.types as unknown as {
  Reader: new (bytes: Buffer) => {
    remaining(): number;
    read(): { descriptor: { value: number }; value: TypedValue[] };
  };
};

/**
 * A service that knows nothing of us, on rhea: it answers with the correlation id and body that are made of the
 * request. It sees bytes, as rhea would not tell ids of type uuid and binary apart.
 */
async function service(
  correlationId: (request: Seen) => Typed,
  body: (request: Seen) => string = () => 'reply',
): Promise<Seen[]> {
  const seen: Seen[] = [];
  const container = rhea.create_container({ id: 'service' });
  const client = container.connect({ host: '127.0.0.1', port: broker.port, reconnect: false, username: 'anonymous' });
  container.on('disconnected', () => {});
  const sender = client.open_sender({ target: {} });
  await once(sender, 'sendable');
  const receiver = client.open_receiver({ source: 'q' });
  type Internals = { on_transfer(frame: { performative: { message_format: number } }): void };
  const session = receiver.session as unknown as Internals;
  const onTransfer = session.on_transfer.bind(session);
  session.on_transfer = (frame) => {
    frame.performative.message_format = 1;
    onTransfer(frame);
  };
  receiver.on('message', (context: EventContext) => {
    const reader = new Reader(context.message as unknown as Buffer);
    let section = reader.read();
    while (section.descriptor.value !== 0x73) section = reader.read();
    const [messageId, , , , replyTo, correlation] = section.value;
    const request = { messageId: messageId!, replyTo: replyTo!, correlationId: correlation! };
    seen.push(request);
    const id = correlationId(request) as unknown as string;
    sender.send({ to: request.replyTo.value as string, correlation_id: id, body: body(request) });
  });
  await once(receiver, 'receiver_open');
  return seen;
}
