// Against Proton, the AMQP library of someone else: its codec and ours, and its messages and ours over a connection.
import should from 'should';
import { Decoder } from '../../nodes/lib/codec/decoder';
import { Encoder } from '../../nodes/lib/codec/encoder';
import { flow, helper, inject, load, message, messages, type Msg } from '../flow';
import { Broker } from '../../broker/broker';
import { artemis } from './artemis';
import { type BrokerKind, needed } from './broker';
import { Proton } from './proton-client';
import { savedEndpoint, savedNode } from './saved';

/** A value as the Python side has it: see proton.py. */
type Tree = [type: string, value: unknown];

const amqp = (type: string, value: unknown) => ({ $amqp: type, value });
const symbol = (text: string) => amqp('symbol', text);
const described = (descriptor: unknown, value: unknown) => ({ $amqp: 'described', descriptor, value });
const arrayOf = (of: unknown, value: unknown[]) => ({ $amqp: 'array', of, value });
const t = (type: string, value: unknown = null): Tree => [type, value];
const array = (element: string, values: Tree[], descriptor: Tree | null = null): Tree =>
  t('array', [element, descriptor, values]);

const UUID = '00112233-4455-6677-8899-aabbccddeeff';
const UUID_HEX = UUID.replaceAll('-', '');
const text300 = 'ü'.repeat(150);

/** A message as the Python side has it. */
type Received = { fields: Record<string, unknown>; body: Tree; inferred: boolean };
/** One for the Python side to make. */
type Sent = { fields: object; body: Tree; inferred: boolean };

/** Ids of each type as we have them, and as Proton does. */
const IDS: [ours: unknown, protons: Tree][] = [
  ['text', t('string', 'text')],
  [0, t('ulong', '0')],
  [amqp('ulong', '18446744073709551615'), t('ulong', '18446744073709551615')],
  [amqp('uuid', UUID), t('uuid', UUID_HEX)],
  [Buffer.from([1, 2, 3]), t('binary', '010203')],
];

/** All fields, with values that are not the defaults. */
const FIELDS = {
  ours: {
    durable: true,
    priority: 7,
    ttl: 60000,
    message_id: 'm1',
    user_id: Buffer.from('guest'),
    to: 'somewhere',
    subject: 'grüße',
    reply_to: 'r',
    correlation_id: 7,
    content_type: 'text/plain',
    content_encoding: 'gzip',
    absolute_expiry_time: 4000000000000,
    creation_time: 1600000000123,
    group_id: 'g',
    group_sequence: 5,
    reply_to_group_id: 'h',
    delivery_annotations: { 'x-opt-a': amqp('ulong', 1) },
    message_annotations: { 'x-opt-b': symbol('c'), 'x-opt-d': amqp('uuid', UUID) },
    application_properties: {
      text: 'x',
      int: 1,
      double: 1.5,
      ulong: amqp('ulong', '18446744073709551615'),
      none: null,
    },
  },
  protons: {
    durable: true,
    priority: 7,
    ttl: 60000,
    message_id: t('string', 'm1'),
    user_id: '6775657374',
    to: 'somewhere',
    subject: 'grüße',
    reply_to: 'r',
    correlation_id: t('ulong', '7'),
    content_type: 'text/plain',
    content_encoding: 'gzip',
    absolute_expiry_time: 4000000000000,
    creation_time: 1600000000123,
    group_id: 'g',
    group_sequence: 5,
    reply_to_group_id: 'h',
    delivery_annotations: t('map', [t('symbol', 'x-opt-a'), t('ulong', '1')]),
    message_annotations: t('map', [
      t('symbol', 'x-opt-b'),
      t('symbol', 'c'),
      t('symbol', 'x-opt-d'),
      t('uuid', UUID_HEX),
    ]),
    application_properties: t('map', [
      t('string', 'text'),
      t('string', 'x'),
      t('string', 'int'),
      t('int', '1'),
      t('string', 'double'),
      t('double', '3ff8000000000000'),
      t('string', 'ulong'),
      t('ulong', '18446744073709551615'),
      t('string', 'none'),
      t('null'),
    ]),
  },
};

/** For each type values as we have them, and as Proton does. */
const VALUES: Record<string, [value: unknown, tree: Tree][]> = {
  null: [[null, t('null')]],
  boolean: [
    [true, t('boolean', true)],
    [false, t('boolean', false)],
  ],
  ubyte: [
    [amqp('ubyte', 0), t('ubyte', '0')],
    [amqp('ubyte', 255), t('ubyte', '255')],
  ],
  ushort: [[amqp('ushort', 65535), t('ushort', '65535')]],
  uint: [
    [amqp('uint', 0), t('uint', '0')],
    [amqp('uint', 255), t('uint', '255')],
    [amqp('uint', 256), t('uint', '256')],
    [amqp('uint', 4294967295), t('uint', '4294967295')],
  ],
  ulong: [
    [amqp('ulong', 0), t('ulong', '0')],
    [amqp('ulong', 255), t('ulong', '255')],
    [amqp('ulong', 256), t('ulong', '256')],
    [amqp('ulong', '18446744073709551615'), t('ulong', '18446744073709551615')],
  ],
  byte: [[amqp('byte', -128), t('byte', '-128')]],
  short: [[amqp('short', -32768), t('short', '-32768')]],
  int: [
    [0, t('int', '0')],
    [-128, t('int', '-128')],
    [128, t('int', '128')],
    [-2147483648, t('int', '-2147483648')],
  ],
  long: [
    [amqp('long', 127), t('long', '127')],
    [amqp('long', -129), t('long', '-129')],
    [2147483648, t('long', '2147483648')],
    [amqp('long', '-9223372036854775808'), t('long', '-9223372036854775808')],
  ],
  float: [
    [amqp('float', 1.5), t('float', '3fc00000')],
    [amqp('float', '-0'), t('float', '80000000')],
    [amqp('float', 'NaN'), t('float', '7fc00000')],
    [amqp('float', '-Infinity'), t('float', 'ff800000')],
  ],
  double: [
    [0.1, t('double', '3fb999999999999a')],
    [amqp('double', 1), t('double', '3ff0000000000000')],
    [amqp('double', '-0'), t('double', '8000000000000000')],
    [amqp('double', 'NaN'), t('double', '7ff8000000000000')],
    [amqp('double', 'Infinity'), t('double', '7ff0000000000000')],
  ],
  decimal32: [
    [amqp('decimal32', '1'), t('decimal32', '32800001')],
    [amqp('decimal32', '-0'), t('decimal32', 'b2800000')],
  ],
  decimal64: [[amqp('decimal64', '3.14'), t('decimal64', '318000000000013a')]],
  decimal128: [[amqp('decimal128', '-1.5'), t('decimal128', 'b03e000000000000000000000000000f')]],
  char: [
    [amqp('char', '€'), t('char', '€')],
    [amqp('char', '😀'), t('char', '😀')],
  ],
  timestamp: [
    [amqp('timestamp', 4000000000000), t('timestamp', '4000000000000')],
    [amqp('timestamp', -1), t('timestamp', '-1')],
  ],
  uuid: [[amqp('uuid', UUID), t('uuid', UUID_HEX)]],
  binary: [
    [Buffer.alloc(0), t('binary', '')],
    [Buffer.from([0, 255]), t('binary', '00ff')],
    [Buffer.alloc(300, 7), t('binary', '07'.repeat(300))],
  ],
  string: [
    ['', t('string', '')],
    ['grüße €😀', t('string', 'grüße €😀')],
    [text300, t('string', text300)],
  ],
  symbol: [
    [symbol('x-opt'), t('symbol', 'x-opt')],
    [symbol('x'.repeat(300)), t('symbol', 'x'.repeat(300))],
  ],
  list: [
    [[], t('list', [])],
    [[1, ['a', null]], t('list', [t('int', '1'), t('list', [t('string', 'a'), t('null')])])],
    [Array<null>(300).fill(null), t('list', Array(300).fill(t('null')))],
  ],
  map: [
    [{}, t('map', [])],
    [
      { a: 1, b: [true] },
      t('map', [t('string', 'a'), t('int', '1'), t('string', 'b'), t('list', [t('boolean', true)])]),
    ],
    [
      amqp('map', [
        [1, symbol('a')],
        [amqp('uuid', UUID), {}],
      ]),
      t('map', [t('int', '1'), t('symbol', 'a'), t('uuid', UUID_HEX), t('map', [])]),
    ],
    [{ long: text300 }, t('map', [t('string', 'long'), t('string', text300)])],
  ],
  described: [
    [described(symbol('a:b'), 'x'), t('described', [t('symbol', 'a:b'), t('string', 'x')])],
    [described(amqp('ulong', 112), []), t('described', [t('ulong', '112'), t('list', [])])],
    [
      described(1, described('b', null)),
      t('described', [t('int', '1'), t('described', [t('string', 'b'), t('null')])]),
    ],
  ],
  array: [
    [arrayOf('boolean', [true, false]), array('boolean', [t('boolean', true), t('boolean', false)])],
    [arrayOf('ubyte', [1, 255]), array('ubyte', [t('ubyte', '1'), t('ubyte', '255')])],
    [arrayOf('ushort', [1]), array('ushort', [t('ushort', '1')])],
    [arrayOf('uint', [0, 256]), array('uint', [t('uint', '0'), t('uint', '256')])],
    [
      arrayOf('ulong', [0, '18446744073709551615']),
      array('ulong', [t('ulong', '0'), t('ulong', '18446744073709551615')]),
    ],
    [arrayOf('byte', [-1]), array('byte', [t('byte', '-1')])],
    [arrayOf('short', [-1]), array('short', [t('short', '-1')])],
    [arrayOf('int', [-1, 1000]), array('int', [t('int', '-1'), t('int', '1000')])],
    [arrayOf('int', []), array('int', [])],
    [arrayOf('long', [-1]), array('long', [t('long', '-1')])],
    [arrayOf('float', [1.5, 'Infinity']), array('float', [t('float', '3fc00000'), t('float', '7f800000')])],
    [arrayOf('double', [1, '-0']), array('double', [t('double', '3ff0000000000000'), t('double', '8000000000000000')])],
    [arrayOf('decimal32', ['1']), array('decimal32', [t('decimal32', '32800001')])],
    [arrayOf('decimal64', ['1']), array('decimal64', [t('decimal64', '31c0000000000001')])],
    [arrayOf('decimal128', ['1']), array('decimal128', [t('decimal128', '30400000000000000000000000000001')])],
    [arrayOf('char', ['A', '😀']), array('char', [t('char', 'A'), t('char', '😀')])],
    [arrayOf('timestamp', [-1]), array('timestamp', [t('timestamp', '-1')])],
    [arrayOf('uuid', [UUID]), array('uuid', [t('uuid', UUID_HEX)])],
    [arrayOf('binary', [Buffer.from([1])]), array('binary', [t('binary', '01')])],
    [arrayOf('string', ['a', text300]), array('string', [t('string', 'a'), t('string', text300)])],
    [arrayOf('symbol', ['a', '']), array('symbol', [t('symbol', 'a'), t('symbol', '')])],
    [arrayOf('list', [[1], []]), array('list', [t('list', [t('int', '1')]), t('list', [])])],
    [arrayOf('map', [{ a: 1 }]), array('map', [t('map', [t('string', 'a'), t('int', '1')])])],
    [
      arrayOf('array', [arrayOf('int', [1]), arrayOf('int', [2, 3])]),
      array('array', [array('int', [t('int', '1')]), array('int', [t('int', '2'), t('int', '3')])]),
    ],
    [arrayOf({ descriptor: symbol('a:b'), of: 'int' }, [1]), array('int', [t('int', '1')], t('symbol', 'a:b'))],
  ],
};

/** Replies in the order of the requests, whose correlation ids are numbers. */
const byCorrelation = ({ fields: a }: Received, { fields: b }: Received): number =>
  Number((a['correlation_id'] as Tree)[1]) - Number((b['correlation_id'] as Tree)[1]);

const NAMES = ['to-proton', 'from-proton', 'to-forward', 'forwarded', 'values', 'kinds', 'later', 'service'];
const QUEUES = { queues: NAMES.map((name) => ({ name })), topics: [] };
/** Brokers, and what they leave of the fields that belong to the hop. */
const PLACES: {
  name: string;
  kind?: BrokerKind;
  hop: { delivery_count: number };
  annotations: { isKept: boolean; protons?: { delivery_annotations: Tree } };
  redelivered: boolean;
}[] = [
  { name: 'the embedded broker', hop: { delivery_count: 2 }, annotations: { isKept: true }, redelivered: true },
  {
    name: 'ActiveMQ Artemis',
    kind: artemis,
    hop: { delivery_count: 0 },
    annotations: { isKept: false, protons: { delivery_annotations: t('null') } },
    redelivered: false,
  },
];

describe('with Proton', function () {
  let proton: Proton;

  before(async function () {
    await needed(this, 'Proton', () => {
      Proton.find();
    });
    proton = new Proton();
  });
  after(() => proton?.end());

  describe('the codec', () => {
    for (const [type, rows] of Object.entries(VALUES)) {
      it(`writes each ${type} as Proton reads it`, async () => {
        for (const [value, tree] of rows) {
          const encoder = new Encoder();
          encoder.value(value);
          should(await proton.call('decode', encoder.finish().toString('hex'))).deepEqual(tree);
        }
      });

      it(`reads each ${type} as Proton writes it`, async () => {
        for (const [value, tree] of rows) {
          const decoder = new Decoder(Buffer.from(await proton.call<string>('encode', tree), 'hex'));
          should(decoder.value()).deepEqual(value);
          should(decoder.done).be.true();
        }
      });
    }
  });

  for (const { name: place, kind, hop, annotations, redelivered } of PLACES) {
    describe(`over ${place}`, () => {
      let broker: { port: number; stop(): Promise<void> };
      let url: string;

      before(async function () {
        this.timeout(300_000); // the first time, it is fetched
        await needed(this, `Proton over ${place}`, async () => kind?.prepare());
        broker = await (kind ? kind.start(QUEUES) : Broker.start());
        url = `amqp://127.0.0.1:${broker.port}`;
        await helper.startServer();
        await load(
          flow(
            savedEndpoint(broker.port),
            savedNode('amqp-sender', { address: 'to-proton' }),
            savedNode('amqp-receiver', { address: 'from-proton', output: 'typed' }),
            savedNode('amqp-receiver', { id: 'take', address: 'to-forward', output: 'typed', wires: [['pass']] }),
            savedNode('amqp-sender', { id: 'pass', address: 'forwarded' }),
            savedNode('amqp-responder', {
              id: 'values',
              address: 'values',
              output: 'typed',
              body: 'value',
              wires: [['values']],
            }),
            savedNode('amqp-responder', { id: 'kinds', address: 'kinds', output: 'typed', wires: [['kinds']] }),
            savedNode('amqp-responder', { id: 'later', address: 'later', wires: [['asked']] }),
            savedNode('helper', { id: 'asked', wires: [] }),
            savedNode('amqp-requester', { address: 'service', output: 'typed', wires: [['outcomes'], ['answers']] }),
            savedNode('helper', { id: 'outcomes', wires: [] }),
            savedNode('helper', { id: 'answers', wires: [] }),
          ),
        );
      });
      after(async () => {
        await helper.unload();
        await helper.stopServer();
        await broker.stop();
      });

      // Proton takes the section for a part of a body that is a described value twice over
      const rows = Object.values(VALUES)
        .flat()
        .filter(([, [type, value]]) => type !== 'described' || (value as Tree[])[1]![0] !== 'described');

      it('Proton receives a body of each type', async () => {
        for (const [payload] of rows) inject('sender', { payload, amqp: { body_type: 'value' } });
        const received = await proton.call<Received[]>('receive', url, 'to-proton', rows.length);
        for (const [index, [, body]] of rows.entries()) should(received[index]).match({ body, inferred: false });
      });

      it('Proton sends a body of each type', async () => {
        const received = messages('out', rows.length);
        const sent = rows.map(([, body]) => ({ fields: {}, body, inferred: false }));
        await proton.call('send', url, 'from-proton', sent);
        for (const [index, { payload }] of (await received).entries()) should(payload).deepEqual(rows[index]![0]);
      });

      it('Proton receives a body of each kind', async () => {
        inject('sender', { payload: Buffer.from('ab') });
        inject('sender', { payload: ['a', 1], amqp: { body_type: 'sequence' } });
        inject('sender', { payload: { a: 1 }, amqp: { content_type: 'application/json' } });
        const [data, sequence, json] = await proton.call<Received[]>('receive', url, 'to-proton', 3);
        should(data).match({ body: t('binary', '6162'), inferred: true });
        should(sequence).match({ body: t('list', [t('string', 'a'), t('int', '1')]), inferred: true });
        should(json).match({ body: t('binary', Buffer.from('{"a":1}').toString('hex')), inferred: true });
        should(json!.fields['content_type']).equal('application/json');
      });

      it('Proton sends a body of each kind', async () => {
        const received = messages('out', 3);
        await proton.call('send', url, 'from-proton', [
          { fields: {}, body: t('binary', '6162'), inferred: true },
          { fields: {}, body: t('list', [t('string', 'a'), t('int', '1')]), inferred: true },
          { fields: {}, body: t('null'), inferred: false },
        ]);
        const [data, sequence, none] = await received;
        should(data).match({ payload: Buffer.from('ab'), amqp: { body_type: 'data' } });
        should(sequence).match({ payload: ['a', 1], amqp: { body_type: 'sequence' } });
        should(none!.payload).be.null();
      });

      it('Proton receives all fields', async () => {
        inject('sender', { payload: 'body', amqp: { ...FIELDS.ours, first_acquirer: true, delivery_count: 2 } });
        const [received] = await proton.call<Received[]>('receive', url, 'to-proton', 1);
        should(received!.fields).deepEqual({ ...FIELDS.protons, ...annotations.protons, first_acquirer: true, ...hop });
      });

      it('Proton sends all fields', async () => {
        const received = message('out');
        const fields = { ...FIELDS.protons, first_acquirer: true, delivery_count: 2 };
        await proton.call('send', url, 'from-proton', [{ fields, body: t('string', 'body'), inferred: false }]);
        const { amqp: received1, delivery, topic } = await received;
        const { delivery_annotations: dropped, ...kept } = FIELDS.ours;
        const sent = annotations.isKept ? { ...kept, delivery_annotations: dropped } : kept;
        should(received1).deepEqual({ ...sent, first_acquirer: true, ...hop, body_type: 'value' });
        should(delivery).match({ address: 'from-proton', redelivered, to: 'somewhere' });
        should(topic).equal('somewhere');
      });

      it('Proton exchanges ids of each type', async () => {
        for (const [id] of IDS) inject('sender', { payload: 'body', amqp: { message_id: id, correlation_id: id } });
        const received = await proton.call<Received[]>('receive', url, 'to-proton', IDS.length);
        should(received.map(({ fields }) => fields['message_id'])).deepEqual(IDS.map(([, tree]) => tree));
        should(received.map(({ fields }) => fields['correlation_id'])).deepEqual(IDS.map(([, tree]) => tree));

        const arrived = messages('out', IDS.length);
        const sent = IDS.map(([, id]) => ({
          fields: { message_id: id, correlation_id: id },
          body: t('string', 'body'),
          inferred: false,
        }));
        await proton.call('send', url, 'from-proton', sent);
        should((await arrived).map((msg) => msg.amqp!['message_id'])).deepEqual(IDS.map(([id]) => id));
      });

      it('a receiver wired to a sender forwards bodies and fields from Proton to Proton', async () => {
        const inOrder = { ...FIELDS.protons, priority: 4 };
        const sent = [
          ...rows.map(([, body]) => ({ fields: {}, body, inferred: false })),
          { fields: inOrder, body: t('binary', '6162'), inferred: true },
          { fields: inOrder, body: t('list', [t('symbol', 'a')]), inferred: true },
        ];
        await proton.call('send', url, 'to-forward', sent);
        const received = await proton.call<Received[]>('receive', url, 'forwarded', sent.length);
        should(received.map(({ body }) => body)).deepEqual(sent.map(({ body }) => body));
        should(received.map(({ inferred }) => inferred)).deepEqual(sent.map(({ inferred }) => inferred));
        const { delivery_annotations: _, ...fields } = inOrder;
        should(received.at(-1)!.fields).match({ ...fields, user_id: '', to: null });
      });

      /** What comes back from a responder that gives each request back as it is, with that input and output. */
      const turnAround = async (sent: Sent[], address: string): Promise<Received[]> => {
        const asked = ['request', url, address, sent] as const;
        const { reply_to: replyTo, replies } = await proton.call<{ reply_to: string; replies: Received[] }>(...asked);
        should(replies.map(({ fields }) => fields['to'])).deepEqual(replies.map(() => replyTo));
        should(replies.map(({ fields }) => fields['reply_to'])).deepEqual(replies.map(() => null));
        return replies;
      };

      describe('Proton asks a responder', () => {
        it('with a body of each type, which comes back unchanged', async () => {
          const sent = rows.map(([, body], n) => ({
            fields: { correlation_id: t('ulong', `${n}`) },
            body,
            inferred: false,
          }));
          const replies = (await turnAround(sent, 'values')).toSorted(byCorrelation);
          for (const [n, { fields, body, inferred }] of replies.entries()) {
            should({ id: fields['correlation_id'], body, inferred }).deepEqual({
              id: t('ulong', `${n}`),
              body: rows[n]![1],
              inferred: false,
            });
          }
        });

        it('with a body as data, as a value or with none, which comes back as the same', async () => {
          const bodies: Omit<Sent, 'fields'>[] = [
            { body: t('binary', '6162'), inferred: true },
            { body: t('list', [t('symbol', 'a'), t('int', '1')]), inferred: false },
            { body: t('string', 'a'), inferred: false },
            { body: t('null'), inferred: false },
          ];
          const sent = bodies.map((body, n) => ({ fields: { correlation_id: t('ulong', `${n}`) }, ...body }));
          const replies = (await turnAround(sent, 'kinds')).toSorted(byCorrelation);
          should(replies.map(({ body, inferred }) => ({ body, inferred }))).deepEqual(bodies);
        });

        it('with an id of each type, which comes back as correlation id', async () => {
          const ids = IDS.map(([, id]) => id);
          const sent = [
            ...ids.map((id) => ({ fields: { message_id: id }, body: t('null'), inferred: false })),
            ...ids.map((id) => ({
              fields: { message_id: t('string', 'm'), correlation_id: id },
              body: t('null'),
              inferred: false,
            })),
          ];
          const replies = await turnAround(sent, 'values');
          should(replies.map(({ fields }) => fields['correlation_id'])).deepEqual([...ids, ...ids]);
        });

        it('with all fields, of which those come back that are not of the request alone', async () => {
          const [reply] = await turnAround(
            [{ fields: FIELDS.protons, body: t('string', 'body'), inferred: false }],
            'values',
          );
          const { durable, priority, subject, correlation_id, content_type, application_properties } = FIELDS.protons;
          should(reply!.fields).match({
            durable,
            priority,
            subject,
            correlation_id,
            content_type,
            application_properties,
            message_id: t('null'),
            user_id: '',
            ttl: 0,
            absolute_expiry_time: 0,
            creation_time: 0,
            group_id: null,
            group_sequence: 0,
            reply_to_group_id: null,
            delivery_annotations: t('null'),
          });
        });

        it('and each reply has the correlation id of its own request, in whatever order the flow answers', async () => {
          const taken = messages('asked', 5);
          const sent = [0, 1, 2, 3, 4].map((n) => ({
            fields: { message_id: t('string', 'same'), correlation_id: t('ulong', `${n}`) },
            body: t('int', `${n}`),
            inferred: false,
          }));
          const replies = turnAround(sent, 'later');
          const requests = await taken;
          const order = [2, 0, 4, 3, 1];
          for (const n of order) inject('later', { ...requests[n], payload: `to ${requests[n]!.payload as number}` });
          should((await replies).map(({ fields, body }) => [fields['correlation_id'], body])).deepEqual(
            order.map((n) => [t('ulong', `${n}`), t('string', `to ${n}`)]),
          );
        });
      });

      for (const relay of [false, true]) {
        for (const id of ['message_id', 'correlation_id']) {
          const how = relay ? 'the anonymous relay' : 'a sender to its reply-to';
          /** The msgs that leave with the replies (the last one's first) and the requests as the service had them. */
          const ask = async (msgs: object[]): Promise<[answers: Msg[], requests: Received[]]> => {
            const [answers, outcomes] = [messages('answers', msgs.length), messages('outcomes', msgs.length)];
            for (const [n, msg] of msgs.entries()) inject('requester', { ...msg, n });
            const asked = ['serve', url, 'service', msgs.length, id, relay] as const;
            const requests = await proton.call<Received[]>(...asked);
            for (const { sent } of await outcomes) should(sent).match({ address: 'service', state: 'accepted' });
            should((await answers).map(({ n }) => n)).deepEqual(msgs.map((_, n) => n).toReversed());
            return [await answers, requests];
          };

          describe(`Proton answers a requester by the ${id} of the request, over ${how},`, () => {
            it('each of many with its own body, of each type', async () => {
              const [answers, requests] = await ask(
                rows.map(([payload]) => ({ payload, amqp: { body_type: 'value' } })),
              );
              for (const [n, { body, inferred }] of requests.entries())
                should({ body, inferred }).deepEqual({ body: rows[n]![1], inferred: false });
              for (const { n, payload } of answers) should(payload).deepEqual(rows[n as number]![0]);
            });

            it('with a body of each kind', async () => {
              const [answers, requests] = await ask([
                { payload: Buffer.from('ab') },
                { payload: ['a', 1], amqp: { body_type: 'sequence' } },
                { payload: null },
              ]);
              should(requests.map(({ body, inferred }) => ({ body, inferred }))).deepEqual([
                { body: t('binary', '6162'), inferred: true },
                { body: t('list', [t('string', 'a'), t('int', '1')]), inferred: true },
                { body: t('null'), inferred: false },
              ]);
              const [none, sequence, data] = answers;
              should(data).match({ payload: Buffer.from('ab'), amqp: { body_type: 'data' } });
              should(sequence).match({ payload: ['a', 1], amqp: { body_type: 'sequence' } });
              should(none!.payload).be.null();
            });

            it('whatever type the id is of', async () => {
              const [answers] = await ask(
                IDS.map(([value], n) => ({
                  payload: n,
                  amqp: { message_id: `m${n}`, correlation_id: `c${n}`, [id]: value },
                })),
              );
              for (const { n, payload, amqp: fields } of answers) {
                should(payload).equal(n);
                should(fields!['correlation_id']).deepEqual(IDS[n as number]![0]);
              }
            });
          });
        }
      }
    });
  }
});
