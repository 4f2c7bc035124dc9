import * as fc from 'fast-check';
import rhea from 'rhea';
import should from 'should';
import type { AmqpError } from '../../../../nodes/lib/errors';
import { type BodyOption, type OutputOption, payloadOf } from '../../../../nodes/lib/message/body';
import {
  decode,
  encode,
  type Format,
  messagesIn,
  type Msg,
  outgoing,
  stylesOf,
  toMsg,
  withMessageId,
} from '../../../../nodes/lib/message/message';

const amqp = (type: string, value: unknown) => ({ $amqp: type, value });

function send(msg: Msg, { format = 'body', body = 'auto' }: { format?: Format; body?: BodyOption } = {}): Buffer {
  return encode(outgoing(msg, { format, body }));
}

function receive(input: Buffer, { format = 'body', output = 'auto' }: { format?: Format; output?: OutputOption } = {}) {
  const incoming = decode(input, stylesOf(format, output));
  return toMsg(incoming, payloadOf(incoming, output), format);
}

/** Receives, and sends what `change` leaves of it. */
function forward(input: Buffer, output: OutputOption, change: (msg: Msg) => void = () => {}): string {
  const msg = receive(input, { output });
  const forwarded: Msg = { ...msg, delivery: { id: 'token', to: msg.amqp!['to'] } };
  change(forwarded);
  return send(forwarded).toString('hex');
}

const bytes = (hex: string) => Buffer.from(hex.replaceAll(' ', ''), 'hex');
const hexOf = (text: string) => Buffer.from(text).toString('hex');
const byte = (number: number) => number.toString(16).padStart(2, '0');
const string = (text: string) => `a1${byte(Buffer.byteLength(text))}${hexOf(text)}`;
const symbol = (text: string) => `a3${byte(text.length)}${hexOf(text)}`;
const binary = (text: string) => `a0${byte(Buffer.byteLength(text))}${hexOf(text)}`;
const compound = (code: string, items: string[]) => {
  const content = items.join('').replaceAll(' ', '');
  return `${code}${byte(content.length / 2 + 1)}${byte(items.length)}${content}`;
};
const list = (...items: string[]) => compound('c0', items);
const map = (...items: string[]) => compound('c1', items);
const section = (descriptor: string, content: string) => `0053${descriptor}${content}`;

const NULL_BODY = section('77', '40');
const ID = '00112233-4455-6677-8899-aabbccddeeff';
const ID_HEX = ID.replaceAll('-', '');

/** A field of the header or the properties as a flow gives it, and as it stands in its section. */
const HEADER: [name: string, value: unknown, hex: string][] = [
  ['durable', true, '41'],
  ['priority', 9, '5009'],
  ['ttl', 60000, '700000ea60'],
  ['first_acquirer', true, '41'],
  ['delivery_count', 3, '5203'],
];
const PROPERTIES: [name: string, value: unknown, hex: string][] = [
  ['message_id', 'm1', 'a1026d31'],
  ['user_id', Buffer.from('guest'), 'a0056775657374'],
  ['to', 'q', 'a10171'],
  ['subject', 'grüße', 'a1076772c3bcc39f65'],
  ['reply_to', 'r', 'a10172'],
  ['correlation_id', 7, '5307'],
  ['content_type', 'text/plain', 'a30a746578742f706c61696e'],
  ['content_encoding', 'gzip', 'a304677a6970'],
  ['absolute_expiry_time', 1700000000000, '830000018bcfe56800'],
  ['creation_time', 0, '830000000000000000'],
  ['group_id', 'g', 'a10167'],
  ['group_sequence', 4294967295, '70ffffffff'],
  ['reply_to_group_id', 'h', 'a10168'],
];
const FIELDS: Record<string, unknown> = Object.fromEntries(
  [...HEADER, ...PROPERTIES].map(([name, value]) => [name, value]),
);
const HEADER_SECTION = section('70', list(...HEADER.map(([, , hex]) => hex)));
const PROPERTIES_SECTION = section('73', list(...PROPERTIES.map(([, , hex]) => hex)));

/** Maps of which each value is of a type that plain JavaScript would lose. */
const MAPS: [name: string, value: object, hex: string][] = [
  [
    'delivery_annotations',
    { 'x-opt-hop': amqp('symbol', 'here') },
    section('71', map(symbol('x-opt-hop'), symbol('here'))),
  ],
  [
    'message_annotations',
    { 'x-opt-partition': amqp('uint', 7), 'x-list': [1, amqp('uuid', ID)] },
    section('72', map(symbol('x-opt-partition'), '5207', symbol('x-list'), list('5401', `98${ID_HEX}`))),
  ],
  [
    'application_properties',
    { text: 'x', int: 1, ulong: amqp('ulong', '18446744073709551615'), none: null },
    section(
      '74',
      map(
        string('text'),
        string('x'),
        string('int'),
        '5401',
        string('ulong'),
        '80ffffffffffffffff',
        string('none'),
        '40',
      ),
    ),
  ],
  ['footer', { 'x-crc': Buffer.from('abc') }, section('78', map(symbol('x-crc'), binary('abc')))],
];
const [DELIVERY_ANNOTATIONS, MESSAGE_ANNOTATIONS, APPLICATION_PROPERTIES, FOOTER] = MAPS.map(([, , hex]) => hex) as [
  string,
  string,
  string,
  string,
];
const ALL_FIELDS = { ...FIELDS, ...Object.fromEntries(MAPS.map(([name, value]) => [name, value])) };
const ALL_SECTIONS =
  HEADER_SECTION +
  DELIVERY_ANNOTATIONS +
  MESSAGE_ANNOTATIONS +
  PROPERTIES_SECTION +
  APPLICATION_PROPERTIES +
  section('77', string('body')) +
  FOOTER;

/** The properties section with nothing in it but a content type. */
const contentType = (type: string) => section('73', list(...Array<string>(6).fill('40'), symbol(type)));
const JSON_TYPE = contentType('application/json');

describe('message', () => {
  describe('sections', () => {
    it('are written in the order of the specification, the footer last', () => {
      const fields = Object.fromEntries(Object.entries(ALL_FIELDS).toReversed());
      send({ payload: 'body', amqp: fields }).toString('hex').should.equal(ALL_SECTIONS);
    });

    it('are read with all their fields', () => {
      receive(bytes(ALL_SECTIONS)).should.deepEqual({ payload: 'body', amqp: { ...ALL_FIELDS, body_type: 'value' } });
    });

    for (const [fields, code] of [
      [HEADER, '70'],
      [PROPERTIES, '73'],
    ] as const) {
      it(`of fields are as long as the last field that is there needs (0x${code})`, () => {
        fields.forEach(([name, value, hex], index) => {
          const expected = section(code, list(...Array<string>(index).fill('40'), hex)) + NULL_BODY;
          send({ amqp: { [name]: value } })
            .toString('hex')
            .should.equal(expected);
          receive(bytes(expected)).amqp!.should.deepEqual({ [name]: value, body_type: 'value' });
        });
      });
    }

    it('are absent when they have nothing in them', () => {
      const absent = Object.fromEntries(
        Object.keys(ALL_FIELDS).map((name, index) => [name, index % 2 ? null : undefined]),
      );
      for (const msg of [{}, { amqp: null }, { amqp: {} }, { amqp: absent }]) {
        send(msg).toString('hex').should.equal(NULL_BODY);
      }
      should(receive(bytes(NULL_BODY))).deepEqual({ payload: null, amqp: { body_type: 'value' } });
    });

    it('are read in every encoding that the specification allows', () => {
      const wide = [
        // descriptors as long number and as symbol; lists and maps with sizes of four bytes
        '00 80 0000000000000070 d0 00000007 00000002 5601 40',
        `00 ${symbol('amqp:message-annotations:map')} d1 0000000c 00000002 b300000001 78 5401`,
        `00 b3 00000014 ${hexOf('amqp:properties:list')} 45`,
        `00 ${symbol('amqp:data:binary')} b000000001 ff`,
      ].join('');
      receive(bytes(wide)).should.deepEqual({
        payload: Buffer.from([255]),
        amqp: { durable: true, message_annotations: { x: 1 }, body_type: 'data' },
      });
      for (const empty of ['45', 'c00100', 'd00000000400000000']) {
        receive(bytes(section('70', empty) + section('73', empty) + NULL_BODY)).amqp!.should.deepEqual({
          body_type: 'value',
        });
      }
    });

    it('of maps may have keys that would harm an object', () => {
      const input = bytes(section('74', map(string('__proto__'), string('x'), string('$amqp'), '5401')) + NULL_BODY);
      const { amqp: fields } = receive(input);
      send({ amqp: fields }).should.deepEqual(input);
    });

    it('are joined when there are several of data or of a sequence', () => {
      const data = section('75', binary('ab')) + section('75', 'a000') + section('75', `b000000001${hexOf('c')}`);
      receive(bytes(data)).should.deepEqual({ payload: Buffer.from('abc'), amqp: { body_type: 'data' } });
      const sequence = section('76', list('5401', '40')) + section('76', '45') + section('76', list(string('a')));
      receive(bytes(sequence)).should.deepEqual({ payload: [1, null, 'a'], amqp: { body_type: 'sequence' } });
    });

    it('need no body, as some peers send a null', () => {
      should(receive(bytes(HEADER_SECTION)).payload).be.null();
    });
  });

  describe('ids', () => {
    const ids: [given: unknown, hex: string, received: unknown][] = [
      ['text', string('text'), 'text'],
      ['', 'a100', ''],
      [0, '44', 0],
      [255, '53ff', 255],
      [2 ** 53 - 1, '80001fffffffffffff', 2 ** 53 - 1],
      [2n ** 64n - 1n, '80ffffffffffffffff', amqp('ulong', '18446744073709551615')],
      [amqp('ulong', '9007199254740993'), '800020000000000001', amqp('ulong', '9007199254740993')],
      [Buffer.from('bytes'), binary('bytes'), Buffer.from('bytes')],
      [Buffer.alloc(16), `a010${'00'.repeat(16)}`, Buffer.alloc(16)],
      [JSON.parse(JSON.stringify(Buffer.from('bytes'))), binary('bytes'), Buffer.from('bytes')],
      [amqp('binary', 'YQ=='), binary('a'), Buffer.from('a')],
      [amqp('uuid', ID), `98${ID_HEX}`, amqp('uuid', ID)],
      [amqp('string', 'text'), string('text'), 'text'],
    ];
    for (const name of ['message_id', 'correlation_id']) {
      it(`keep their type in ${name} (R24)`, () => {
        for (const [given, hex, received] of ids) {
          const fields = name === 'message_id' ? [hex] : [...Array<string>(5).fill('40'), hex];
          const expected = section('73', list(...fields)) + NULL_BODY;
          send({ amqp: { [name]: given } })
            .toString('hex')
            .should.equal(expected);
          const { amqp: fieldsReceived } = receive(bytes(expected));
          should(fieldsReceived![name]).deepEqual(received);
          send({ amqp: JSON.parse(JSON.stringify(fieldsReceived)) })
            .toString('hex')
            .should.equal(expected);
        }
      });
    }

    it('are made for a message that has none, and left alone otherwise', () => {
      const options = { format: 'body', body: 'auto' } as const;
      const made = [1, 2].map(() => withMessageId(outgoing({ payload: 1 }, options)).fields['message_id']);
      should(made[0]).be.a.String();
      should(made[0]).not.equal(made[1]);
      should(withMessageId(outgoing({ amqp: { message_id: 0 } }, options)).fields['message_id']).equal(0);
    });
  });

  describe('body on send', () => {
    const JSON_OBJECT = section('75', binary('{"a":1}'));
    const rows: [body: BodyOption, fields: object | undefined, payload: unknown, hex: string][] = [
      ['auto', undefined, 'text', section('77', string('text'))],
      ['auto', undefined, 1, section('77', '5401')],
      ['auto', undefined, undefined, NULL_BODY],
      ['auto', undefined, { a: [1] }, section('77', map(string('a'), list('5401')))],
      ['auto', undefined, amqp('ubyte', 1), section('77', '5001')],
      ['auto', undefined, Buffer.from('ab'), section('75', binary('ab'))],
      ['auto', undefined, new Uint8Array([1]), section('75', 'a00101')],
      ['auto', undefined, { type: 'Buffer', data: [1] }, section('75', 'a00101')],
      ['auto', undefined, Buffer.alloc(0), section('75', 'a000')],
      ['auto', { content_type: 'application/json' }, { a: 1 }, JSON_TYPE + JSON_OBJECT],
      ['auto', { content_type: 'application/json' }, 'text', JSON_TYPE + section('75', binary('"text"'))],
      ['auto', { content_type: 'application/json' }, null, JSON_TYPE + section('75', binary('null'))],
      ['auto', { content_type: 'application/json' }, Buffer.from('{}'), JSON_TYPE + section('75', binary('{}'))],
      [
        'auto',
        { content_type: 'application/cloudevents+json; charset=utf-8' },
        { a: 1 },
        contentType('application/cloudevents+json; charset=utf-8') + JSON_OBJECT,
      ],
      ['auto', { content_type: amqp('symbol', 'application/json') }, { a: 1 }, JSON_TYPE + JSON_OBJECT],
      ['auto', { content_type: 'text/plain' }, 'text', contentType('text/plain') + section('77', string('text'))],
      ['value', undefined, Buffer.from('ab'), section('77', binary('ab'))],
      ['value', { content_type: 'application/json' }, { a: 1 }, JSON_TYPE + section('77', map(string('a'), '5401'))],
      ['json', undefined, { a: 1 }, JSON_TYPE + JSON_OBJECT],
      ['json', undefined, undefined, JSON_TYPE + section('75', binary('null'))],
      ['json', undefined, 'grüße', JSON_TYPE + section('75', binary('"grüße"'))],
      ['json', { content_type: 'text/plain' }, { a: 1 }, JSON_TYPE + JSON_OBJECT],
      ['json', { content_type: 'text/x+json' }, {}, JSON_TYPE + section('75', binary('{}'))],
      ['json', { content_type: 'application/x+json' }, { a: 1 }, contentType('application/x+json') + JSON_OBJECT],
      ['string', undefined, 'text', section('77', string('text'))],
      ['string', undefined, 5, section('77', string('5'))],
      ['string', undefined, 5n, section('77', string('5'))],
      ['string', undefined, true, section('77', string('true'))],
      ['string', undefined, amqp('ulong', '18446744073709551615'), section('77', string('18446744073709551615'))],
      ['string', undefined, new Date(0), section('77', string('1970-01-01T00:00:00.000Z'))],
      ['string', undefined, undefined, section('77', 'a100')],
      ['string', undefined, { a: 1 }, section('77', string('{"a":1}'))],
      ['string', undefined, Buffer.from('grüße'), section('77', string('grüße'))],
      ['binary', undefined, Buffer.from('ab'), section('75', binary('ab'))],
      ['binary', undefined, 'grüße', section('75', binary('grüße'))],
      // msg.amqp.body_type wins
      ['binary', { body_type: 'value' }, 'ab', section('77', string('ab'))],
      ['json', { body_type: 'value' }, Buffer.from('ab'), section('77', binary('ab'))],
      ['string', { body_type: 'sequence' }, [1, 'a'], section('76', list('5401', string('a')))],
      ['auto', { body_type: 'sequence' }, [], section('76', '45')],
      ['value', { body_type: 'data' }, Buffer.from('ab'), section('75', binary('ab'))],
      ['value', { body_type: 'data' }, 'ab', section('75', binary('ab'))],
      ['auto', { body_type: 'data' }, { a: 1 }, JSON_TYPE + JSON_OBJECT],
      ['auto', { body_type: 'data', content_type: 'application/json' }, 'a', JSON_TYPE + section('75', binary('"a"'))],
      ['json', { body_type: null }, { a: 1 }, JSON_TYPE + JSON_OBJECT],
    ];
    for (const [body, fields, payload, hex] of rows) {
      const type = fields ? ` with ${JSON.stringify(fields)}` : '';
      it(`"${body}"${type} makes of ${nameOf(payload)} ${nameOf(bytes(hex).toString('latin1'))}`, () => {
        send({ payload, amqp: fields }, { body }).toString('hex').should.equal(hex);
      });
    }

    it('of user_id is text or bytes', () => {
      const hex = section('73', list('40', binary('test'))) + NULL_BODY;
      for (const id of ['test', Buffer.from('test'), amqp('binary', 'dGVzdA==')]) {
        send({ amqp: { user_id: id } })
          .toString('hex')
          .should.equal(hex);
      }
    });

    it('leaves the fields of the msg as they are', () => {
      const msg = { payload: {}, amqp: { to: 'q', footer: {} }, delivery: { to: 'q' } };
      send(msg, { body: 'json' });
      msg.should.deepEqual({ payload: {}, amqp: { to: 'q', footer: {} }, delivery: { to: 'q' } });
    });
  });

  describe('body on receive', () => {
    const JSON_DATA = JSON_TYPE + section('75', binary('{"a":1}'));
    const data = (text: string, type?: string) => (type ? contentType(type) : '') + section('75', binary(text));
    const value = (hex: string) => section('77', hex);
    const gzip = section('73', list(...Array<string>(6).fill('40'), symbol('application/json'), symbol('gzip')));
    const LATIN1 = Buffer.from('grüße', 'latin1');
    const latin1 = `a0${byte(LATIN1.length)}${LATIN1.toString('hex')}`;
    const rows: [output: OutputOption, hex: string, payload: unknown][] = [
      ['auto', value(string('text')), 'text'],
      ['auto', value('5201'), 1],
      ['auto', value('830000018bcfe56800'), new Date(1700000000000)],
      ['auto', value(`98${ID_HEX}`), ID],
      ['auto', value(binary('ab')), Buffer.from('ab')],
      ['auto', value('800020000000000001'), amqp('ulong', '9007199254740993')],
      ['auto', JSON_DATA, { a: 1 }],
      ['auto', data('[1]', 'application/x.y+json;charset="utf-8"'), [1]],
      ['auto', data('null', 'application/json'), null],
      ['auto', data('grüße', 'text/plain'), 'grüße'],
      ['auto', data('<a/>', 'application/xml'), '<a/>'],
      ['auto', data('<a/>', 'application/soap+xml; charset=UTF-8'), '<a/>'],
      ['auto', data('{"a":1}'), Buffer.from('{"a":1}')],
      ['auto', data('x', 'application/octet-stream'), Buffer.from('x')],
      ['auto', contentType('text/plain') + section('75', latin1), LATIN1],
      ['auto', contentType('text/plain; charset=iso-8859-1') + section('75', latin1), LATIN1],
      ['auto', data('text', 'text/plain; charset="utf-16"'), Buffer.from('text')],
      ['auto', gzip + section('75', binary('{}')), Buffer.from('{}')],
      ['auto', section('75', binary('["a')) + section('75', binary('"]')) + FOOTER, Buffer.from('["a"]')],
      ['auto', JSON_TYPE + section('75', binary('["a')) + section('75', binary('"]')), ['a']],
      ['auto', section('76', list('5201', symbol('a'))), [1, 'a']],
      ['auto', HEADER_SECTION, null],
      ['buffer', JSON_DATA, Buffer.from('{"a":1}')],
      ['buffer', value(string('grüße')), Buffer.from('grüße')],
      ['buffer', value(binary('ab')), Buffer.from('ab')],
      ['buffer', value(map(string('a'), '5401')), Buffer.from('{"a":1}')],
      ['buffer', value('40'), Buffer.alloc(0)],
      ['string', JSON_DATA, '{"a":1}'],
      ['string', data('grüße'), 'grüße'],
      ['string', value(string('text')), 'text'],
      ['string', value(binary('grüße')), 'grüße'],
      ['string', value('5405'), '5'],
      ['string', value('80ffffffffffffffff'), '18446744073709551615'],
      ['string', value('827ff8000000000000'), 'NaN'],
      ['string', value('830000000000000000'), '1970-01-01T00:00:00.000Z'],
      ['string', value('40'), ''],
      ['string', value(map(string('a'), '5401')), '{"a":1}'],
      ['string', section('76', list('5401', string('a'))), '[1,"a"]'],
      ['json', data('{"a":1}'), { a: 1 }],
      ['json', value(string('{"a":1}')), { a: 1 }],
      ['json', value(binary('{"a":1}')), { a: 1 }],
      ['json', value(map(string('a'), '5401')), { a: 1 }],
      ['json', section('76', list('5401')), [1]],
      ['typed', value('5201'), amqp('uint', 1)],
      ['typed', value('5401'), 1],
      ['typed', value('830000018bcfe56800'), amqp('timestamp', 1700000000000)],
      ['typed', value(`00${symbol('a:b')}5401`), { $amqp: 'described', descriptor: amqp('symbol', 'a:b'), value: 1 }],
      ['typed', JSON_DATA, Buffer.from('{"a":1}')],
      ['typed', section('76', list('5201', symbol('a'))), [amqp('uint', 1), amqp('symbol', 'a')]],
    ];
    for (const [output, hex, payload] of rows) {
      it(`"${output}" makes of ${nameOf(bytes(hex).toString('latin1'))} ${nameOf(payload)}`, () => {
        should(receive(bytes(hex), { output }).payload).deepEqual(payload);
      });
    }

    it('that is not the JSON it should be is an error, and can be had as it is', () => {
      for (const [output, hex] of [
        ['auto', data('{"a"', 'application/json')],
        ['json', data('{"a"')],
        ['json', value(string('{"a"'))],
        ['json', value(string(''))],
      ] as const) {
        const error = failure(() => receive(bytes(hex), { output }));
        should(error).match({ name: 'AmqpError', code: 'AMQP_DECODE', message: /not JSON/ });
        const incoming = decode(bytes(hex), stylesOf('body', output));
        should(payloadOf(incoming, 'buffer')).be.instanceOf(Buffer);
      }
    });

    it('is a copy that does not keep what came from the socket alive', () => {
      const input = bytes(section('75', binary('ab')));
      const { payload } = receive(input);
      input.fill(0);
      should(payload).deepEqual(Buffer.from('ab'));
    });
  });

  describe('of a received msg that is sent again', () => {
    const withoutHop =
      section('70', list(...HEADER.slice(0, 3).map(([, , hex]) => hex))) +
      MESSAGE_ANNOTATIONS +
      section('73', list(...PROPERTIES.map(([name, , hex]) => (name === 'user_id' || name === 'to' ? '40' : hex)))) +
      APPLICATION_PROPERTIES;

    it('has the same body, properties, application properties and message annotations, and nothing of the hop', () => {
      forward(bytes(ALL_SECTIONS), 'auto').should.equal(withoutHop + section('77', string('body')));
    });

    it('goes to the address that the flow has set', () => {
      const sent = forward(bytes(ALL_SECTIONS), 'auto', (msg) => Object.assign(msg.amqp!, { to: 'other' }));
      should(receive(bytes(sent)).amqp!['to']).equal('other');
    });

    it('has the same body of each kind', () => {
      const bodies: [OutputOption, string][] = [
        ['auto', section('77', string('text'))],
        ['auto', section('77', binary('ab'))],
        ['auto', section('77', map(string('a'), list('5401', '41', '823fe0000000000000')))],
        ['auto', section('77', '830000018bcfe56800')],
        ['auto', section('77', '800020000000000001')],
        ['auto', section('77', '40')],
        ['auto', section('75', binary('ab'))],
        ['auto', contentType('text/plain') + section('75', binary('grüße'))],
        ['auto', JSON_TYPE + section('75', binary('{"a":[1,"b"]}'))],
        ['auto', JSON_TYPE + section('75', binary('"text"'))],
        ['auto', section('76', list('5401', string('a')))],
        ['buffer', section('75', binary('ab'))],
        ['string', contentType('text/plain') + section('75', binary('grüße'))],
        ['typed', section('77', list('5001', `98${ID_HEX}`, symbol('a'), '73000020ac', '7432800001', '55ff', '5201'))],
        ['typed', section('77', `00${symbol('a:b')}5301`)],
        ['typed', section('76', list('5201'))],
        ['typed', section('75', binary('ab'))],
      ];
      for (const [output, hex] of bodies) forward(bytes(hex), output).should.equal(hex);
    });

    it('is the same after JSON, a structured clone or a context store', () => {
      const msg = receive(bytes(ALL_SECTIONS), { output: 'typed' });
      const sent = send(msg);
      for (const clone of [JSON.parse(JSON.stringify(msg)), structuredClone(msg)]) {
        send(clone as Msg).should.deepEqual(sent);
      }
    });

    it('keeps the type of application properties that are named like annotations of JMS', () => {
      const hex = section('74', map(string('x-opt-jms-msg-type'), '5105')) + NULL_BODY;
      forward(bytes(hex), 'auto').should.equal(hex);
    });

    it('has annotations under reserved keys where the flow gives them: some services ask for such', () => {
      const { message_annotations: sent } = receive(
        send({ payload: 1, amqp: { message_annotations: { operation: 'GET' } } }),
      ).amqp!;
      should(sent).eql({ operation: 'GET' });
    });

    it('can be sent though a peer has put reserved keys into its annotations', () => {
      const annotations = map(symbol('iothub-enqueuedtime'), '5401', '5305', '41', symbol('x-opt-a'), '42');
      const received = section('72', annotations) + NULL_BODY;
      const { message_annotations: sent } = receive(bytes(forward(bytes(received), 'auto'))).amqp!;
      should(new Map(Object.entries(sent as object)).get('x-opt-a')).be.false();
    });

    it('loses nothing when it was not received', () => {
      send({ payload: 'body', amqp: ALL_FIELDS }).toString('hex').should.equal(ALL_SECTIONS);
    });
  });

  describe('in dialect "message"', () => {
    it('is all in msg.payload', () => {
      const payload = { ...ALL_FIELDS, body: 'body' };
      send({ payload }, { format: 'message' }).toString('hex').should.equal(ALL_SECTIONS);
      receive(bytes(ALL_SECTIONS), { format: 'message', output: 'typed' }).should.deepEqual({ payload });
    });

    it('has plain values, as rhea gives them', () => {
      receive(bytes(ALL_SECTIONS), { format: 'message' }).payload!.should.match({
        message_annotations: { 'x-opt-partition': 7, 'x-list': [1, ID] },
        delivery_annotations: { 'x-opt-hop': 'here' },
      });
    });

    it('reads what rhea writes', () => {
      for (const message of messages) {
        const input = rhea.message.encode(message);
        receive(input, { format: 'message' }).should.deepEqual({ payload: message });
      }
      for (const [body, payload] of sections) {
        const input = rhea.message.encode({ body });
        should(receive(input).payload).deepEqual(payload);
      }
    });

    it('writes what rhea reads', () => {
      for (const message of messages) {
        const output = send({ payload: message }, { format: 'message' });
        const decoded: object = JSON.parse(JSON.stringify(rhea.message.decode(output)));
        decoded.should.deepEqual(JSON.parse(JSON.stringify(message)));
      }
    });

    const messages = [
      { body: 'text' },
      { body: null },
      { body: true },
      { body: 2.5 },
      { body: [1, -1, 'a', null, [false]] },
      { body: { a: { b: [1, 'c'] } } },
      { body: 'x'.repeat(300), subject: 'y'.repeat(300) },
      { durable: true, priority: 7, ttl: 1000, first_acquirer: true, delivery_count: 1, body: '' },
      {
        message_id: 'm',
        to: 't',
        subject: 's',
        reply_to: 'r',
        correlation_id: 5,
        content_type: 'text/plain',
        content_encoding: 'gzip',
        group_id: 'g',
        group_sequence: 1,
        reply_to_group_id: 'h',
        body: 'text',
      },
      {
        delivery_annotations: { 'x-a': 1 },
        message_annotations: { 'x-b': 'c', 'x-d': true },
        application_properties: { a: 1, b: 'c', d: true, e: 1.5 },
        body: 'text',
      },
    ];
    const sections: [body: unknown, payload: unknown][] = [
      [rhea.message.data_section(Buffer.from('ab')), Buffer.from('ab')],
      [rhea.message.data_sections([Buffer.from('a'), Buffer.from('b')]), Buffer.from('ab')],
      [rhea.message.sequence_section([1, 'a']), [1, 'a']],
      [rhea.message.sequence_sections([[1], ['a']]), [1, 'a']],
    ];
  });

  describe('with bad input', () => {
    const circular: Record<string, unknown> = {};
    circular['self'] = circular;
    const rows: [msg: Msg, start: string, options?: { format?: Format; body?: BodyOption }][] = [
      [{ amqp: 'text' }, 'msg.amqp must be an object'],
      [{ amqp: [] }, 'msg.amqp must be an object'],
      [{ amqp: { subjekt: 's' } }, 'msg.amqp has unknown field: subjekt'],
      [{ amqp: { a: 1, b: undefined } }, 'msg.amqp has unknown fields: a, b'],
      [{ amqp: { 'message-id': 1 } }, 'msg.amqp has unknown field: message-id'],
      [{ amqp: { durable: 'false' } }, 'msg.amqp.durable is not a boolean'],
      [{ amqp: { priority: 300 } }, 'msg.amqp.priority is out of range'],
      [{ amqp: { ttl: -1 } }, 'msg.amqp.ttl is out of range'],
      [{ amqp: { ttl: 1.5 } }, 'msg.amqp.ttl is not a whole number'],
      [{ amqp: { subject: 5 } }, 'msg.amqp.subject is not a string'],
      [{ amqp: { to: {} } }, 'msg.amqp.to is not a string'],
      [{ amqp: { content_type: 'grüße' } }, 'msg.amqp.content_type is not a symbol'],
      [{ amqp: { absolute_expiry_time: 'tomorrow' } }, 'msg.amqp.absolute_expiry_time is not a point in time'],
      [{ amqp: { creation_time: new Date(NaN) } }, 'msg.amqp.creation_time is not a valid point in time'],
      [{ amqp: { group_sequence: 2 ** 32 } }, 'msg.amqp.group_sequence is out of range'],
      [{ amqp: { user_id: 5 } }, 'msg.amqp.user_id is not binary'],
      [{ amqp: { message_id: true } }, 'msg.amqp.message_id is no message id'],
      [{ amqp: { message_id: {} } }, 'msg.amqp.message_id is no message id'],
      [{ amqp: { message_id: -1 } }, 'msg.amqp.message_id is out of range'],
      [{ amqp: { message_id: amqp('int', 1) } }, 'msg.amqp.message_id is no message id'],
      [{ amqp: { message_id: amqp('uuid', 'short') } }, 'msg.amqp.message_id is not a uuid'],
      [{ amqp: { correlation_id: 1.5 } }, 'msg.amqp.correlation_id is not a whole number'],
      [{ amqp: { application_properties: 'text' } }, 'msg.amqp.application_properties is not a map'],
      [
        { amqp: { application_properties: { list: [1] } } },
        'msg.amqp.application_properties["list"] is not a simple value',
      ],
      [
        { amqp: { application_properties: { map: { a: 1 } } } },
        'msg.amqp.application_properties["map"] is not a simple value',
      ],
      [
        { amqp: { application_properties: new Map([[1, 2]]) } },
        'msg.amqp.application_properties[0] has a key that is not a string',
      ],
      [
        { amqp: { application_properties: { 'a b': amqp('ubyte', 300) } } },
        'msg.amqp.application_properties["a b"] is out of range',
      ],
      [
        { amqp: { message_annotations: { 'x-a': amqp('unit', 1) } } },
        'msg.amqp.message_annotations["x-a"] names an unknown AMQP type "unit"',
      ],
      [
        { amqp: { message_annotations: { 'x-a': [0, amqp('uint', -1)] } } },
        'msg.amqp.message_annotations["x-a"][1] is out of range',
      ],
      [{ amqp: { application_properties: { f: () => {} } } }, 'msg.amqp.application_properties["f"] is a function'],
      [{ amqp: { footer: 5 } }, 'msg.amqp.footer is not a map'],
      [{ amqp: { message_annotations: { 'x-ü': 1 } } }, 'msg.amqp.message_annotations["x-ü"] is not a symbol'],
      [{ amqp: { body_type: 'text' } }, 'msg.amqp.body_type must be one of value, data, sequence'],
      [{ payload: 'text', amqp: { body_type: 'sequence' } }, 'msg.payload must be an array'],
      [
        { payload: {}, amqp: { body_type: 'data', content_type: 'text/plain' } },
        'msg.payload must be a Buffer or string',
      ],
      [{ payload: () => {} }, 'msg.payload is a function'],
      [{ payload: { a: [Symbol('s')] } }, 'msg.payload["a"][0] is a symbol'],
      [{ payload: { a: amqp('ubyte', 300) } }, 'msg.payload["a"] is out of range'],
      [{ payload: circular }, 'msg.payload["self"]["self"]'],
      [{ payload: circular }, 'msg.payload cannot be written as JSON', { body: 'json' }],
      [{ payload: circular }, 'msg.payload cannot be written as JSON', { body: 'string' }],
      [{ payload: { a: 1n } }, 'msg.payload cannot be written as JSON', { body: 'json' }],
      [{ payload: () => {} }, 'msg.payload is a function', { body: 'json' }],
      [{ payload: 5 }, 'msg.payload must be a Buffer or string', { body: 'binary' }],
      [{ payload: { a: 1 } }, 'msg.payload must be a Buffer or string', { body: 'binary' }],
      [{ payload: 'text' }, 'msg.payload must be the AMQP message', { format: 'message' }],
      [{ payload: { subjekt: 's' } }, 'msg.payload has unknown field: subjekt', { format: 'message' }],
      [{ payload: { subject: 5 } }, 'msg.payload.subject is not a string', { format: 'message' }],
      [{ payload: { body: { f: () => {} } } }, 'msg.payload.body["f"] is a function', { format: 'message' }],
    ];
    for (const [msg, start, options] of rows) {
      it(`says "${start}"${options ? ` with ${JSON.stringify(options)}` : ''}`, () => {
        const error = failure(() => send(msg, options));
        should(error).match({ name: 'AmqpError', code: 'AMQP_BAD_MESSAGE' });
        should(error.message).startWith(start);
      });
    }
  });

  describe('that is none', () => {
    const rows: [name: string, hex: string, position: number | undefined, reason: RegExp][] = [
      ['is empty', '', undefined, /empty/],
      ['has an unknown section', `${HEADER_SECTION}${section('79', '45')}`, 17, /unknown message section 0x79/],
      ['has an unknown section with a long number', '00 80 0000468c00000077 40', 0, /unknown message section/],
      ['has an unknown section with a name', `00${symbol('a:b')}45`, 0, /unknown message section/],
      ['has a section twice', section('77', '40') + section('77', '40'), 4, /twice/],
      ['has a section twice, once by name', `00537045 00${symbol('amqp:header:list')}45`, 4, /twice/],
      ['has a value and data', section('77', '40') + section('75', 'a000'), 4, /different kinds: value and data/],
      ['has data and a sequence', section('75', 'a000') + section('76', '45'), 5, /different kinds/],
      ['has a section that is not described', '45', 0, /must be described/],
      ['has a section described by something else', '00540045', 0, /described by a number or a symbol/],
      ['has a header that is no list', section('70', 'c10100'), 3, /expected a list/],
      ['has properties that are null', section('73', '40'), 3, /expected a list/],
      ['has application properties that are no map', section('74', '45'), 3, /expected a map/],
      ['has data that is no binary', section('75', 'a100'), 3, /expected binary/],
      ['has a sequence that is no list', section('76', '40'), 3, /expected a list/],
      ['has a field of a wrong type', section('70', list('41', '5401')), 7, /expected ubyte, got code 0x54/],
      ['has a message id of a wrong type', section('73', list('41')), 6, /expected a message id, got code 0x41/],
      ['has a negative number as id', section('73', list('54ff')), 6, /expected a message id, got code 0x54/],
      ['has more fields than are defined', section('70', list('40', '40', '40', '40', '40', '40')), 11, /more fields/],
      [
        'has a map with a key without value',
        section('74', 'c10201a10161'.replace('0201', '0401')),
        6,
        /without a value/,
      ],
      ['has a key twice', section('74', map('a10161', '40', 'a10161', '40')), 10, /twice/],
      ['has text that is not UTF-8', section('73', list('40', '40', 'a101ff')), 10, /not UTF-8/],
      ['ends in a descriptor', '0053', 2, /end too early/],
      ['ends after a descriptor', '005377', 3, /end too early/],
      ['ends in a body', section('75', 'b0000000ff00'), 8, /end too early/],
      ['is text', hexOf('hello'), 0, /must be described/],
    ];
    for (const [name, hex, position, reason] of rows) {
      it(`because it ${name} is told so, with the position`, () => {
        const error = failure(() => receive(bytes(hex)));
        should(error).match({ name: 'AmqpError', code: 'AMQP_DECODE', message: reason });
        if (position !== undefined) should(error.message).endWith(`at byte ${position}`);
      });
    }

    it('because it was cut off is told so, wherever it was', () => {
      const input = bytes(ALL_SECTIONS);
      // a message ends where a section ends
      const ends = new Set<number>();
      for (let end = 1; end < input.length; end++) {
        try {
          receive(input.subarray(0, end));
          ends.add(end);
        } catch (error) {
          should(error).match({ name: 'AmqpError', code: 'AMQP_DECODE' });
        }
      }
      const lengths = ALL_SECTIONS.split(/(?=00537[0-8])/).map((hex) => hex.length / 2);
      should([...ends]).deepEqual(
        lengths.slice(0, -1).map((_, index) => lengths.slice(0, index + 1).reduce((a, b) => a + b)),
      );
    });

    it('gives AMQP_DECODE or a msg, whatever was done to its bytes', () => {
      const before = HEADER_SECTION + MESSAGE_ANNOTATIONS + JSON_TYPE + APPLICATION_PROPERTIES;
      const messages = [
        section('77', map(string('a'), list('5401'))),
        section('75', binary('{"a":1}')),
        section('76', list('41')),
      ].map((body) => bytes(before + body + FOOTER));
      let received = 0;
      fc.assert(
        fc.property(
          fc.constantFrom(...messages),
          fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 3 }),
          fc.oneof({ weight: 9, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: fc.nat() }),
          fc.constantFrom<OutputOption>('auto', 'buffer', 'string', 'json', 'typed'),
          (message, changes, end, output) => {
            const input = Buffer.from(message);
            for (const [at, value] of changes) input[at % input.length] = value;
            try {
              receive(input.subarray(0, end && end % input.length), { output });
              received++;
            } catch (error) {
              should(error).have.property('code', 'AMQP_DECODE');
            }
          },
        ),
        { numRuns: 6000 },
      );
      should(received).be.above(600);
    });
  });

  describe('of another message-format', () => {
    it('0x80013700 is a batch of messages, one in each data section', () => {
      const [first, second] = [section('77', '5401'), HEADER_SECTION + section('75', binary('b'))].map(bytes) as [
        Buffer,
        Buffer,
      ];
      const batch = [first, second].map((message) =>
        section('75', `a0${byte(message.length)}${message.toString('hex')}`),
      );
      const annotated = bytes(MESSAGE_ANNOTATIONS + batch.join(''));
      messagesIn(annotated, 0x80013700).should.deepEqual([first, second]);
      messagesIn(annotated, 0).should.deepEqual([annotated]);
    });

    it('is an error that names it', () => {
      should(failure(() => messagesIn(bytes(NULL_BODY), 0x12345))).match({ code: 'AMQP_DECODE', message: /0x12345/ });
    });
  });

  describe('for JMS', () => {
    it('has annotations of the types that its clients insist on, also when given as plain numbers', () => {
      const types = { 'x-opt-jms-msg-type': 5, 'x-opt-jms-dest': 0, 'x-opt-jms-reply-to': 1, 'x-opt-delivery-time': 7 };
      const hex = section(
        '72',
        map(
          symbol('x-opt-jms-msg-type'),
          '5105',
          symbol('x-opt-jms-dest'),
          '5100',
          symbol('x-opt-jms-reply-to'),
          '5101',
          symbol('x-opt-delivery-time'),
          '5507',
        ),
      );
      send({ amqp: { message_annotations: types } })
        .toString('hex')
        .should.equal(hex + NULL_BODY);
      receive(bytes(hex + NULL_BODY)).amqp!.should.match({ message_annotations: types });
      const error = failure(() => send({ amqp: { message_annotations: { 'x-opt-jms-msg-type': 300 } } }));
      should(error.message).startWith('msg.amqp.message_annotations["x-opt-jms-msg-type"] is out of range');
    });
  });
});

function failure(run: () => unknown): AmqpError {
  try {
    run();
  } catch (error) {
    return error as AmqpError;
  }
  throw new Error('did not fail');
}

/** Short and printable. */
function nameOf(value: unknown): string {
  if (typeof value === 'bigint') return `${value}n`;
  return (JSON.stringify(value) ?? 'undefined').replaceAll(/\\u00[\da-f]{2}|[^ -~]/g, '·');
}
