// What RabbitMQ 4 has and other brokers have not: streams and their filters, direct reply-to, a node that manages it.
import { setTimeout as pause } from 'node:timers/promises';
import should from 'should';
import { helper, type Msg, status } from '../flow';
import type { NodeConfig } from '../node-red';
import { needed } from './broker';
import { numbers } from './features';
import { peerNamed } from './peers';
import { type RabbitMQ, rabbitmq40, rabbitmq43 } from './rabbitmq';
import { savedEndpoint } from './saved';
import { Trial } from './trial';

const guest = { user: 'guest', pass: 'guest' };
const payloads = (messages: Msg[]) => messages.map(({ payload }) => payload);
const stream = (name: string) => ({ name, arguments: { 'x-queue-type': 'stream' } });
const quorum = (name: string) => ({ name, arguments: { 'x-queue-type': 'quorum' } });
const queue = (name: string) => ({ address: `/queues/${name}` });

/** Rows of the form. */
const offset = (value: string) => ({ filter: 'stream-offset', value });
const values = (value: string) => ({ filter: 'stream-filter', value });
const UNFILTERED = { filter: 'stream-unfiltered' };
const properties = (value: object) => ({ filter: 'properties', value: JSON.stringify(value) });
const applicationProperties = (value: object) => ({ filter: 'application-properties', value: JSON.stringify(value) });
const sql = (value: string) => ({ filter: 'sql', value });
const FIRST = offset('first');

/** What the filters are tried with: the number is in the payload. */
const COLOURS = ['red', 'green', 'blue'];
const coloured = (n: number) => ({
  payload: n,
  amqp: {
    subject: n % 2 === 0 ? 'even' : 'odd',
    message_id: `m-${n}`,
    correlation_id: n > 5 ? 'large-x' : 'small',
    application_properties: { n, half: n < 5, colour: COLOURS[n % 3] },
    // One in three has none.
    ...(n % 3 < 2 && { message_annotations: { 'x-stream-filter-value': COLOURS[n % 3] } }),
  },
});
const COUNT = 10;

const squares = (answers: Msg[]) =>
  answers.map(({ payload, own }) => [Number(own), payload]).toSorted(([a], [b]) => Number(a) - Number(b));

for (const [version, kind] of [
  ['4.0', rabbitmq40],
  ['4.3', rabbitmq43],
] as const) {
  describe(`on RabbitMQ ${version}`, function () {
    this.timeout(60_000);

    const isOld = version === '4.0';
    let broker: RabbitMQ;
    let trial: Trial;

    before(async function () {
      this.timeout(300_000); // the first time, it is fetched
      await needed(this, `RabbitMQ ${version}`, () => kind.prepare());
      broker = await kind.startWith({
        queues: [
          ...['counted', 'timed', 'coloured', 'chunks', 'unfit', 'browsed'].map(stream),
          quorum('quorum'),
          'classic',
          'requests',
        ],
      });
      await helper.startServer();
    });
    after(async () => {
      if (!broker) return;
      await helper.stopServer();
      await broker.stop();
    });
    beforeEach(() => {
      trial = new Trial(peerNamed(`RabbitMQ ${version}`), broker);
    });
    afterEach(() => trial?.end());

    /** Sends one after the other, each in a chunk of its own. */
    const fill = async (name: string, ...messages: object[]): Promise<void> => {
      await trial.load([trial.sender(queue(name))]);
      for (const one of messages) await trial.deliver(one);
      await trial.unload();
    };

    /** What a receiver with these filters gets, up to the message that it gets last. */
    const read = async (name: string, filters: object[], last: unknown): Promise<unknown[]> => {
      await trial.load([trial.receiver({ ...queue(name), filters, trust: isOld })]);
      const received = trial.inbox();
      await received.until(({ payload }) => payload === last);
      await trial.unload();
      return payloads(received.all);
    };

    /** Sees that a receiver gets nothing, and that its status says why. */
    const ignoring = async (name: string, filters: readonly object[], ignored: string): Promise<void> => {
      await trial.load([
        trial.receiver({ ...queue(name), filters }),
        trial.receiver({ id: 'other', ...queue(name), wires: [['other']] }),
        trial.sender(queue(name)),
      ]);
      const shown = await status('receiver', `: ${ignored}`);
      should(shown).match({ fill: 'yellow', shape: 'ring', text: `ignored: ${ignored}` });
      await trial.settled('other');
      const [received, other] = [trial.inbox(), trial.inbox('other')];
      await trial.deliver({ payload: 'for another' });
      await other.next();
      should(received.all).be.empty();
      await trial.unload();
    };

    describe('a receiver of a stream', () => {
      it('begins with its first, its last or its next message, or with one by its number', async () => {
        await fill('counted', ...numbers(5).map((payload) => ({ payload })));
        should(await read('counted', [FIRST], 4)).eql(numbers(5));
        should(await read('counted', [offset('last')], 4)).eql([4]);
        should(await read('counted', [offset('3')], 4)).eql([3, 4]);
        await trial.load([
          trial.receiver({ ...queue('counted'), filters: [offset('next')], trust: true }),
          trial.receiver({ id: 'without', ...queue('counted'), wires: [['other']] }),
          trial.sender(queue('counted')),
        ]);
        await Promise.all([trial.settled('receiver'), trial.settled('without')]);
        const [received, other] = [trial.inbox(), trial.inbox('other')];
        await trial.deliver({ payload: 5 });
        const msg = await received.next();
        should(msg).match({ payload: 5, amqp: { message_annotations: { 'x-stream-offset': { value: 5 } } } });
        should((await other.next()).payload).equal(5);
        should([...received.all, ...other.all]).have.length(2);
      });

      it('begins at a time, or so long ago', async () => {
        await fill('timed', { payload: 'old' });
        await pause(6000); // what is tried here is time
        const time = new Date();
        await fill('timed', { payload: 'new' });
        should(await read('timed', [offset('5s')], 'new')).eql(['new']);
        should(await read('timed', [offset('1h')], 'new')).eql(['old', 'new']);
        should(await read('timed', [offset(time.toISOString())], 'new')).eql(['new']);
        should(await read('timed', [offset('2000-01-01T00:00:00Z')], 'new')).eql(['old', 'new']);
      });

      let isFilled = false;
      /** A stream that is only read. */
      const colours = async (): Promise<string> => {
        if (!isFilled) await fill('coloured', ...numbers(COUNT).map(coloured));
        isFilled = true;
        return 'coloured';
      };

      for (const [what, filters, expected] of [
        ['a value', [values('red')], [0, 3, 6, 9]],
        ['several values', [values('red, green')], [0, 1, 3, 4, 6, 7, 9]],
        ['a value, and those that have none', [values('red'), UNFILTERED], [0, 2, 3, 5, 6, 8, 9]],
      ] as const) {
        it(`gets what has ${what}`, async () => {
          should(await read(await colours(), [FIRST, ...filters], expected.at(-1))).eql(expected);
        });
      }

      it('gets whole chunks where a message of a chunk has the value', async () => {
        await trial.load([trial.sender(queue('chunks'))]);
        await trial.deliver(...numbers(COUNT).map(coloured));
        await trial.unload();
        const received = await read('chunks', [FIRST, values('red')], 9);
        should(received.length).be.above(4);
      });

      const applied = [
        ['a property', [properties({ subject: 'odd' })], [1, 3, 5, 7, 9]],
        [
          'properties that begin and end so',
          [properties({ message_id: '&p:m-', correlation_id: '&s:-x' })],
          [6, 7, 8, 9],
        ],
        ['an application property that is a number', [applicationProperties({ n: 3 })], [3]],
        ['application properties', [applicationProperties({ half: true, colour: '&p:r' })], [0, 3]],
        ['what SQL says', [sql("properties.subject = 'odd' AND n > 2")], [3, 5, 7, 9]],
        ['a value, and what SQL says', [values('red'), sql('n < 4 AND half')], [0, 3]],
      ] as const;
      for (const [what, filters, expected] of isOld ? [] : applied) {
        it(`gets what has ${what}`, async () => {
          should(await read(await colours(), [FIRST, ...filters], expected.at(-1))).eql(expected);
        });
      }

      const unfit = [
        ['of SQL that is none', [sql('n = = 1')], 'sql-filter'],
        ['of a property that there is not', [properties({ nonsense: 1 })], 'properties-filter'],
        ['that it does not have', [{ filter: 'no-local' }], 'no-local'],
        // One of them is taken.
        [
          'of SQL beside one of properties',
          [sql("properties.subject = 'a'"), properties({ subject: 'a' })],
          'sql-filter',
        ],
      ] as const;
      /** From 4.1 and 4.2 on; 4.0 gives them back, and does nothing with them. */
      const later = [
        ['of properties', [properties({ subject: 'a' })], 'properties-filter'],
        ['of application properties', [applicationProperties({ a: 1 })], 'application-properties-filter'],
        ['of SQL', [sql('n = 1')], 'sql-filter'],
        ['that it does not have', [{ filter: 'no-local' }], 'no-local'],
      ] as const;
      for (const [what, filters, ignored] of isOld ? later : unfit) {
        it(`gets nothing by a filter ${what}, and says so`, async () => {
          await fill('unfit', { payload: 1 });
          await ignoring('unfit', filters, ignored);
        });
      }

      it('may be told to read without removing, where the stream tells that it is one', async () => {
        await fill('browsed', { payload: 2 });
        await trial.load([trial.receiver({ ...queue('browsed'), browse: true, filters: [FIRST] })]);
        const settled = await trial.settled('receiver');
        should(settled).equal(isOld ? 'ignored' : 'connected');
        if (!isOld) await trial.inbox().until(({ payload }) => payload === 2);
      });
    });

    const ofStreams = [
      [FIRST, 'rabbitmq:stream-offset-spec'],
      [values('red'), 'rabbitmq:stream-filter'],
      [UNFILTERED, 'rabbitmq:stream-match-unfiltered'],
    ] as const;
    const ofAny = [
      [properties({ subject: 'a' }), 'properties-filter'],
      [applicationProperties({ n: 1 }), 'application-properties-filter'],
      [sql('n = 1'), 'sql-filter'],
    ] as const;
    for (const name of ['classic', 'quorum']) {
      it(`a receiver of a ${name} queue gets nothing by filters that only streams have, and says so`, async () => {
        for (const [filter, ignored] of isOld ? ofAny : [...ofStreams, ...ofAny])
          await ignoring(name, [filter], ignored);
      });

      it(`a receiver of a ${name} queue that may gets all, and says which filter is ignored`, async () => {
        await trial.load([
          trial.receiver({ ...queue(name), filters: [properties({ subject: 'a' })], unfiltered: true }),
          trial.sender(queue(name)),
        ]);
        should(await status('receiver', ': properties-filter')).match({ fill: 'yellow' });
        const received = trial.inbox();
        await trial.deliver({ payload: 'b', amqp: { subject: 'b' } });
        await received.until(({ payload }) => payload === 'b');
      });
    }

    if (isOld) {
      it('a receiver cannot tell whether a stream is one, and says so', async () => {
        for (const name of ['counted', 'classic']) {
          await trial.load([trial.receiver({ ...queue(name), filters: [FIRST] })]);
          should((await status('receiver', ': rabbitmq:stream-offset-spec')).text).match(/^cannot tell: /);
          await trial.unload();
        }
      });

      it('a requester with direct reply-to is told that there is none', async () => {
        await trial.load([trial.requester({ ...queue('requests'), replyto: 'direct' })]);
        should(await trial.settled('requester')).equal('refused');
        should(trial.warnings('requester').join()).match(/amqp:not-implemented: Dynamic sources not supported/);
      });
    }

    /** Its responder is on another connection. */
    const start = (
      asks: object = {},
      answers = trial.responder({ ...queue('requests'), endpoint: 'other', wires: [['requests']] }),
      more: NodeConfig[] = [],
    ) =>
      trial.load(
        [
          savedEndpoint(broker.port, { id: 'other' }),
          trial.requester({ ...queue('requests'), replyto: 'direct', wires: [[], ['replies']], ...asks }),
          answers,
          ...more,
        ],
        { credentials: { other: guest } },
      );
    const answer = (msg: Msg): void => trial.send({ ...msg, payload: Number(msg.payload) ** 2 }, 'responder');

    if (!isOld)
      describe('a requester with direct reply-to', () => {
        it('gets the replies to many requests in flight, in whatever order', async () => {
          await start();
          const [requests, replies] = [trial.inbox('requests'), trial.inbox('replies')];
          for (const n of numbers(400)) trial.send({ payload: n, own: n }, 'requester');
          // As many as the responder takes at once.
          for (const _ of numbers(40)) for (const msg of (await requests.take(10)).toReversed()) answer(msg);
          should(squares(await replies.take(400))).eql(numbers(400).map((n) => [n, n * n]));
          const [{ amqp }] = requests.all as [Msg];
          should(amqp!['reply_to']).match(/^\/queues\/amq\.rabbitmq\.reply-to\./);
        });

        it('asks again after a reconnect, with its new address', async () => {
          await start();
          const [requests, replies] = [trial.inbox('requests'), trial.inbox('replies')];
          for (const n of numbers(20)) trial.send({ payload: n, own: n }, 'requester');
          const before = (await requests.next()).amqp!['reply_to'];
          await broker.disconnect();
          for (const n of numbers(20)) trial.send({ payload: 20 + n, own: 20 + n }, 'requester');
          // Requests to the former address are delivered again to the responder, and answered in vain.
          helper.getNode('requests').on('input', (msg) => answer(msg));
          should(squares(await replies.take(40))).eql(numbers(40).map((n) => [n, n * n]));
          should(requests.all.at(-1)!.amqp!['reply_to']).not.equal(before);
          should(replies.all).have.length(40);
        });

        it('gets several replies to a request, and ends with the last', async () => {
          await start(
            { replies: 'several', replycount: 3, timeout: 20 },
            trial.sender({ endpoint: 'other', address: '' }),
            [trial.receiver({ ...queue('requests'), endpoint: 'other', wires: [['requests']] })],
          );
          const [requests, replies, completed] = ['requests', 'replies', 'completed'].map((id) => trial.inbox(id));
          for (const n of numbers(5)) trial.send({ payload: n, own: n }, 'requester');
          for (const { amqp } of await requests!.take(5)) {
            const { reply_to: to, correlation_id: correlationId } = amqp!;
            for (const payload of ['a', 'b', 'c']) trial.send({ payload, amqp: { to, correlation_id: correlationId } });
          }
          const got = (await replies!.take(15)).map(({ own, payload, parts }) => ({ own, payload, parts }));
          for (const own of numbers(5)) {
            const ofOne = got.filter((reply) => reply.own === own);
            should(ofOne.map(({ payload }) => payload)).eql(['a', 'b', 'c']);
            should(ofOne.map(({ parts }) => parts)).match([{ index: 0 }, { index: 1 }, { index: 2, count: 3 }]);
          }
          await completed!.until(() => completed!.all.filter(({ own }) => own !== undefined).length === 5);
        });
      });

    const ask = (method: string, path: string, payload: unknown = null, more: object = {}): void =>
      trial.send({ payload, amqp: { subject: method, to: path }, ...more }, 'requester');

    const asked = async (...question: Parameters<typeof ask>): Promise<Msg> => {
      const replies = trial.inbox('replies');
      ask(...question);
      return replies.next();
    };

    describe('a requester that asks the management of the broker', () => {
      const asks = { address: '', replyto: 'pair', statuserrors: true, wires: [['outcome'], ['replies']] };
      const DURABLE = { durable: true, arguments: { 'x-queue-type': 'quorum' } };

      it('makes, reads, binds, empties and deletes a queue', async () => {
        await trial.load([trial.requester(asks), trial.sender({ address: '/exchanges/amq.topic/a.b' })]);
        const made = await asked('PUT', '/queues/made', DURABLE, { own: 'property' });
        should(made).match({ own: 'property', payload: { name: 'made', durable: true, type: 'quorum' } });
        should(made.amqp).match({ subject: '201' });
        should((await asked('PUT', '/queues/made', DURABLE)).amqp).match({ subject: '200' });
        should(await asked('GET', '/queues/made')).match({ amqp: { subject: '200' }, payload: { message_count: 0 } });
        const binding = { source: 'amq.topic', destination_queue: 'made', binding_key: 'a.*', arguments: {} };
        should((await asked('POST', '/bindings', binding)).amqp).match({ subject: '204' });
        const bindings = await asked('GET', '/bindings?src=amq.topic&dstq=made&key=a.*');
        should(bindings.payload).match([binding]);
        await trial.deliver({ payload: 1 }, { payload: 2 });
        should((await asked('DELETE', '/queues/made/messages')).payload).eql({ message_count: 2 });
        should((await asked('DELETE', '/queues/made')).payload).eql({ message_count: 0 });
      });

      it('gives what it has failed to a Catch node, with the status and why', async () => {
        await trial.load([trial.requester(asks)]);
        const [caught, replies] = [trial.inbox('caught'), trial.inbox('replies')];
        ask('GET', '/queues/nowhere');
        const msg = await caught.next();
        should(msg).match({ amqp: { subject: '404' }, payload: /queue 'nowhere' in vhost '\/' not found/ });
        should(msg.error).match({
          code: 'AMQP_REPLY_STATUS',
          message: /404 \(queue 'nowhere' in vhost '\/' not found\)/,
        });
        ask('PUT', '/queues/classic', { ...DURABLE });
        should((await caught.next()).error).match({ code: 'AMQP_REPLY_STATUS', message: /409/ });
        ask('PUT', '/queues/bad', { nonsense: true });
        should((await caught.next()).error).match({ code: 'AMQP_REPLY_STATUS', message: /400 \(bad queue property/ });
        should(replies.all).be.empty();
      });

      it('says what came of a question that the broker cannot read, and goes on', async () => {
        await trial.load([trial.requester(asks)]);
        const caught = trial.inbox('caught');
        for (const [method, path, payload] of [
          ['GET', '/nonsense', null],
          ['NONSENSE', '/queues/classic', null],
          ['GET', '/queues/classic', Date.now()], // as from an inject node
        ] as const) {
          ask(method, path, payload);
          const { error } = await caught.next();
          should(error).match({ code: 'AMQP_IN_DOUBT', message: /amqp:internal-error: function_clause/ });
          should((await asked('GET', '/queues/classic')).payload).match({ name: 'classic' });
        }
      });

      it('gives the same to its output where a status is no error', async () => {
        await trial.load([trial.requester({ ...asks, statuserrors: false })]);
        should((await asked('GET', '/queues/nowhere')).amqp).match({ subject: '404' });
      });

      it('asks 20 at once in their order, also across a reconnect', async () => {
        await trial.load([trial.requester(asks)]);
        const [replies, caught] = [trial.inbox('replies'), trial.inbox('caught')];
        await trial.settled('requester');
        const names = numbers(20).map((n) => `/queues/order-${n}`);
        for (const name of names) ask('PUT', name, DURABLE);
        should((await replies.take(20)).map(({ payload }) => `/queues/${(payload as { name: string }).name}`)).eql(
          names,
        );
        for (const name of names.slice(0, 10)) ask('GET', name);
        const disconnected = broker.disconnect();
        for (const name of names.slice(10)) ask('GET', name);
        await disconnected;
        ask('GET', names[0]!);
        const last = await replies.until(() => replies.all.length + caught.all.length === 41);
        should(last.payload).match({ name: 'order-0' });
        const told = replies.all.slice(20).map(({ payload }) => `/queues/${(payload as { name: string }).name}`);
        const failed = caught.all.map(({ error }) => error?.code);
        // At most the one that was asked at that moment may have been carried out or not.
        should(failed.filter((code) => code !== 'AMQP_IN_DOUBT')).be.empty();
        should(failed.length).be.belowOrEqual(1);
        should(told).eql([...names.filter((name) => told.includes(name)), names[0]]);
      });
    });
  });
}
