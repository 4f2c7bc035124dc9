// CloudEvents AMQP protocol binding 1.0.2 and JSON event format 1.0.2; the numbers in the names are their sections.
import rhea, { type Message, type Typed } from 'rhea';
import should from 'should';
import { fromCloudEvent } from '../../../../nodes/lib/message/cloudevents';
import type { AmqpError } from '../../../../nodes/lib/errors';
import { type BodyOption, payloadOf } from '../../../../nodes/lib/message/body';
import {
  decode,
  encode,
  type Format,
  type Msg,
  outgoing,
  stylesOf,
  toMsg,
} from '../../../../nodes/lib/message/message';
import { collect, endpointNode, flow, helper, inject, load, message, node } from '../../../flow';
import { Broker, type Disposition } from '../../../../broker/broker';

const amqp = (type: string, value: unknown) => ({ $amqp: type, value });

/** The attributes that every event has, as application properties. */
const REQUIRED = {
  'cloudEvents:specversion': '1.0',
  'cloudEvents:type': 'com.example.someevent',
  'cloudEvents:source': '/mycontext',
  'cloudEvents:id': 'A234',
};
const JSON_EVENT = { specversion: '1.0', type: 'com.example.someevent', source: '/mycontext', id: 'A234' };
const ENVELOPE = 'application/cloudevents+json; charset=utf-8';
const BYTES = Buffer.from([0, 1, 0xfe, 0xff]);
const UTF8 = 'grüße €';

/** A msg with an event: its required attributes, and the further properties given. */
function event(payload: unknown, properties: object = {}, fields: object = {}): Msg {
  return { payload, amqp: { ...fields, application_properties: { ...REQUIRED, ...properties } } };
}

function send(msg: Msg, body: BodyOption): Buffer {
  return encode(outgoing(msg, { format: 'body', body }));
}

type Wire = Message & { body: { typecode: number; content: unknown } };

/** What is sent, as rhea reads it. */
function sent(msg: Msg, body: BodyOption): Wire {
  return rhea.message.decode(send(msg, body)) as unknown as Wire;
}

/** The event that a structured message holds, and the message. */
function sentEvent(msg: Msg): { wire: Wire; json: Record<string, unknown> } {
  const wire = sent(msg, 'cloudevent-json');
  return { wire, json: JSON.parse(String(wire.body.content)) };
}

/** What a receiver with the output "cloudevent" makes of a message. */
function receive(bytes: Buffer, format: Format = 'body'): Msg & { amqp?: Record<string, any> } {
  const incoming = fromCloudEvent(decode(bytes, stylesOf(format, 'cloudevent')));
  return toMsg(incoming, payloadOf(incoming, 'cloudevent'), format);
}

const received = (wire: Message, format?: Format) => receive(rhea.message.encode(wire), format);
const section = (content: Buffer | string) => rhea.message.data_section(Buffer.from(content));

function receivedEvent(json: object, fields: object = {}) {
  return received({ content_type: ENVELOPE, body: section(JSON.stringify(json)), ...fields });
}

/** The types of the application properties, which rhea's decoded message does not tell. */
function typesOf(bytes: Buffer): Record<string, string> {
  const { Reader } = rhea.types as unknown as {
    Reader: new (bytes: Buffer) => { read(): Typed; remaining(): number };
  };
  const reader = new Reader(bytes);
  while (reader.remaining()) {
    const { descriptor, value } = reader.read() as unknown as { descriptor: Typed; value: Typed[] };
    if (descriptor.value !== 0x74) continue;
    const types: Record<string, string> = {};
    for (let i = 0; i < value.length; i += 2) types[value[i]!.value] = typeName(value[i + 1]!);
    return types;
  }
  return {};
}

const typeName = (typed: Typed) => (typed.type as unknown as { name: string }).name;

function failure(action: () => unknown): AmqpError {
  try {
    action();
  } catch (error) {
    return error as AmqpError;
  }
  throw new Error('it did not fail');
}

const refusal = (msg: Msg, mode: BodyOption) => failure(() => send(msg, mode));

describe('CloudEvents', () => {
  describe('sent in binary content mode', () => {
    it('have their data as the data section, its type as the content type, all else as properties (3.1)', () => {
      const extensions = { 'cloudEvents:subject': 'larger', 'cloudEvents:comexampleextension1': 'value' };
      const wire = sent(
        event(BYTES, extensions, { content_type: 'application/vnd.apache.thrift.binary' }),
        'cloudevent',
      );
      should(wire.content_type).equal('application/vnd.apache.thrift.binary');
      should(wire.application_properties).eql({ ...REQUIRED, ...extensions });
      should(wire.body.typecode).equal(0x75);
      should(wire.body.content).eql(BYTES);
    });

    for (const [what, value, type, onTheWire] of [
      ['a boolean', true, 'True', true],
      ['an integer', 5, 'SmallLong', 5],
      ['a larger integer', -2147483648, 'Long', -2147483648],
      ['a string', 'value', 'Str8', 'value'],
      ['a timestamp as text', '2018-04-05T17:31:00Z', 'Str8', '2018-04-05T17:31:00Z'],
      ['a Date', new Date('2018-04-05T17:31:00Z'), 'Timestamp', new Date('2018-04-05T17:31:00Z')],
      ['binary', BYTES, 'Vbin8', BYTES],
    ] as const) {
      it(`have ${what} as ${type} (3.1.3.2)`, () => {
        const bytes = send(event('', { 'cloudEvents:extension': value }), 'cloudevent');
        should(typesOf(bytes)['cloudEvents:extension']).equal(type);
        const { application_properties: properties } = rhea.message.decode(bytes) as unknown as Message;
        should(properties!['cloudEvents:extension']).eql(onTheWire);
      });
    }

    for (const [what, payload, given, type, content] of [
      ['an object', { appinfo: [UTF8] }, undefined, 'application/json', `{"appinfo":["${UTF8}"]}`],
      [
        'an object of a JSON type',
        { a: 1 },
        'application/vnd.a+json; charset=utf-8',
        'application/vnd.a+json; charset=utf-8',
        '{"a":1}',
      ],
      ['a number', 42, undefined, 'application/json', '42'],
      ['a string of a JSON type', "I'm just a string", 'application/json', 'application/json', '"I\'m just a string"'],
      ['text of its own type', `<much wow="${UTF8}"/>`, 'application/xml', 'application/xml', `<much wow="${UTF8}"/>`],
      ['bytes of a JSON type', Buffer.from('{}'), 'application/json', 'application/json', '{}'],
    ] as const) {
      it(`have ${what} as ${content} (3.1.2)`, () => {
        const wire = sent(event(payload, {}, { content_type: given }), 'cloudevent');
        should(String(wire.body.content)).equal(content);
        should(wire.content_type).equal(type);
      });
    }

    it('have an empty data section when there is no data, since a message has a body', () => {
      for (const payload of [undefined, null]) {
        const { body } = sent(event(payload), 'cloudevent');
        should(body.typecode).equal(0x75);
        should(body.content).eql(Buffer.alloc(0));
      }
    });

    it('keep the names of JMS out of the wire, where the prefix is "cloudEvents:" (3.1.3.1)', () => {
      const { application_properties: properties } = sent(
        { payload: '', amqp: { application_properties: { cloudEvents_type: 't', cloudEvents_source: 's', other: 1 } } },
        'cloudevent',
      );
      should(Object.keys(properties!).toSorted()).eql([
        'cloudEvents:id',
        'cloudEvents:source',
        'cloudEvents:specversion',
        'cloudEvents:type',
        'other',
      ]);
    });
  });

  describe('sent in structured content mode', () => {
    it('are one JSON object in a data section, with nothing in the application properties (3.2)', () => {
      const { wire, json } = sentEvent(event({ a: UTF8 }, {}, { content_type: 'application/json' }));
      should(wire.content_type).equal(ENVELOPE);
      should(wire.body.typecode).equal(0x75);
      should(wire.application_properties).be.undefined();
      should(json).eql({ ...JSON_EVENT, datacontenttype: 'application/json', data: { a: UTF8 } });
    });

    it('have the types of JSON for their attributes (JSON 2.2)', () => {
      const { json } = sentEvent(
        event(undefined, {
          'cloudEvents:time': new Date('2018-04-05T17:31:00Z'),
          'cloudEvents:sampledat': amqp('timestamp', 1522949460000),
          'cloudEvents:flag': false,
          'cloudEvents:count': -5,
          'cloudEvents:size': amqp('long', 5),
          'cloudEvents:digest': BYTES,
        }),
      );
      should(json).eql({
        ...JSON_EVENT,
        time: '2018-04-05T17:31:00.000Z',
        sampledat: '2018-04-05T17:31:00.000Z',
        flag: false,
        count: -5,
        size: 5,
        digest: BYTES.toString('base64'),
      });
    });

    it('have binary data as data_base64, of whatever type (JSON 3.1.1)', () => {
      for (const datacontenttype of ['application/vnd.apache.thrift.binary', 'application/json']) {
        const { json } = sentEvent(event(BYTES, {}, { content_type: datacontenttype }));
        should(json).eql({ ...JSON_EVENT, datacontenttype, data_base64: BYTES.toString('base64') });
      }
    });

    it('have text as text, and JSON as it is (JSON 3.1.1)', () => {
      const xml = '<much wow="xml"/>';
      const { json } = sentEvent(event(xml, {}, { content_type: 'application/xml' }));
      should(json).eql({ ...JSON_EVENT, datacontenttype: 'application/xml', data: xml });
      should(sentEvent(event("I'm just a string")).json).eql({ ...JSON_EVENT, data: "I'm just a string" });
      should(sentEvent(event([0, false, ''])).json).eql({ ...JSON_EVENT, data: [0, false, ''] });
    });

    it('have no data member without data', () => {
      should(sentEvent(event(undefined)).json).eql(JSON_EVENT);
    });

    it('keep what is not of the event beside it', () => {
      const { wire, json } = sentEvent(event('', { own: 1 }, { subject: 's', message_annotations: { 'x-opt-a': 1 } }));
      should(wire).match({ subject: 's', message_annotations: { 'x-opt-a': 1 }, application_properties: { own: 1 } });
      should(wire.application_properties).eql({ own: 1 });
      should(json).eql({ ...JSON_EVENT, data: '' });
    });
  });

  for (const mode of ['cloudevent', 'cloudevent-json'] as const) {
    describe(`sent as ${mode}`, () => {
      it('get what the flow need not say: version, and the message id as id', () => {
        const properties = { 'cloudEvents:type': 't', 'cloudEvents:source': 's' };
        const msg = { payload: '', amqp: { message_id: 'm1', application_properties: properties } };
        should(receive(send(msg, mode)).amqp).match({
          application_properties: { ...properties, 'cloudEvents:specversion': '1.0', 'cloudEvents:id': 'm1' },
        });
        const ids = [1, 2].map(() => {
          const { amqp: fields } = receive(send({ payload: '', amqp: { application_properties: properties } }, mode));
          return fields!['application_properties']['cloudEvents:id'] as string;
        });
        ids.forEach((id) => should(id).match(/^[\da-f-]{36}$/));
        should(ids[0]).not.equal(ids[1]);
      });

      it('leave the msg as it is', () => {
        const msg = event({ a: 1 });
        const before = structuredClone(msg);
        send(msg, mode);
        should(msg).eql(before);
      });

      for (const name of ['type', 'source']) {
        it(`are refused without ${name}`, () => {
          const error = refusal(event('', { [`cloudEvents:${name}`]: undefined }), mode);
          should(error.code).equal('AMQP_BAD_MESSAGE');
          should(error.message).startWith(`msg.amqp.application_properties["cloudEvents:${name}"] is missing`);
        });
      }

      it('are refused when the name of an attribute is not of lower-case letters and digits', () => {
        for (const name of ['cloudEvents:someThing', 'cloudEvents_some_thing', 'cloudEvents:']) {
          const error = refusal(event('', { [name]: 'x' }), mode);
          should(error.code).equal('AMQP_BAD_MESSAGE');
          should(error.message).equal(`msg.amqp.application_properties["${name}"] is no name of an attribute`);
        }
      });

      it('leave unset attributes out', () => {
        const { amqp: fields } = receive(send(event('', { 'cloudEvents:subject': null }), mode));
        should(fields!['application_properties']).eql(REQUIRED);
      });

      for (const [what, value] of [
        ['a fraction', 1.5],
        ['an integer beyond 32 bits', 2 ** 31],
        ['a double', amqp('double', 1)],
        ['an object', { a: 1 }],
        ['a list', ['a']],
        ['an invalid Date', new Date(NaN)],
      ] as const) {
        it(`are refused with ${what} as an attribute, for which events have no type`, () => {
          const error = refusal(event('', { 'cloudEvents:extension': value }), mode);
          should(error.code).equal('AMQP_BAD_MESSAGE');
          should(error.message).startWith('msg.amqp.application_properties["cloudEvents:extension"]');
        });
      }

      it('take an integer and a timestamp in any form that the notation has', () => {
        const { amqp: fields } = receive(
          send(
            event('', {
              'cloudEvents:a': amqp('int', 5),
              'cloudEvents:b': 5n,
              'cloudEvents:c': amqp('long', '5'),
              'cloudEvents:time': amqp('timestamp', '2018-04-05T17:31:00Z'),
            }),
            mode,
          ),
        );
        should(fields!['application_properties']).eql({
          ...REQUIRED,
          'cloudEvents:a': 5,
          'cloudEvents:b': 5,
          'cloudEvents:c': 5,
          'cloudEvents:time': '2018-04-05T17:31:00.000Z',
        });
      });

      it('are refused with an empty attribute that every event has', () => {
        for (const name of Object.keys(REQUIRED)) {
          should(refusal(event('', { [name]: '' }), mode)).match({ code: 'AMQP_BAD_MESSAGE' });
        }
      });

      it('are refused with an attribute "data", or with the content type as one', () => {
        for (const name of ['cloudEvents:data', 'cloudEvents:datacontenttype']) {
          should(refusal(event('', { [name]: 'x' }), mode)).match({ code: 'AMQP_BAD_MESSAGE' });
        }
      });

      it('are refused when data that is no text has a type that is not JSON (JSON 3.1.1)', () => {
        for (const payload of [{ a: 1 }, 42]) {
          const error = refusal(event(payload, {}, { content_type: 'application/xml' }), mode);
          should(error.code).equal('AMQP_BAD_MESSAGE');
          should(error.message).startWith('msg.payload');
        }
      });

      it('are refused when the data is nothing that JSON has', () => {
        const cyclic: Record<string, unknown> = {};
        cyclic['self'] = cyclic;
        for (const payload of [cyclic, { big: 1n }, () => 1]) {
          const error = refusal(event(payload, {}, { content_type: 'application/json' }), mode);
          should(error.code).equal('AMQP_BAD_MESSAGE');
          should(error.message).startWith('msg.payload');
        }
      });
    });
  }

  describe('received in binary content mode', () => {
    it('have their data by its content type, and the attributes as properties', () => {
      const properties = { ...REQUIRED, 'cloudEvents:subject': 's', own: 'x' };
      const msg = received({
        content_type: 'application/json; charset=utf-8',
        application_properties: properties,
        body: section('{"a":1}'),
      });
      should(msg.payload).eql({ a: 1 });
      should(msg.amqp).match({ content_type: 'application/json; charset=utf-8', application_properties: properties });
      should(received({ content_type: 'text/xml', body: section('<a/>') }).payload).equal('<a/>');
      should(received({ body: section(BYTES) }).payload).eql(BYTES);
    });

    for (const [what, typed, canonical] of [
      ['a timestamp', rhea.types.wrap_timestamp(1522949460000), '2018-04-05T17:31:00.000Z'],
      ['text', rhea.types.wrap_string('2018-04-05T17:31:00Z'), '2018-04-05T17:31:00Z'],
      ['a long', rhea.types.wrap_long(5), 5],
      ['a ubyte', rhea.types.wrap_ubyte(5), 5],
      ['an int', rhea.types.wrap_int(5), 5],
      ['a boolean', rhea.types.wrap_boolean(false), false],
      ['binary', rhea.types.wrap_binary(BYTES), BYTES.toString('base64')],
    ] as const) {
      it(`have ${what} as ${JSON.stringify(canonical)} (3.1.3.2)`, () => {
        const msg = received({ application_properties: { 'cloudEvents:extension': typed }, body: section('') });
        should(msg.amqp!['application_properties']).eql({ 'cloudEvents:extension': canonical });
      });
    }

    it('have a timestamp that no Date holds as it came', () => {
      const msg = received({
        application_properties: { 'cloudEvents:time': rhea.types.wrap_timestamp(8.64e15 + 1) },
        body: section(''),
      });
      should(msg.amqp!['application_properties']).have.key('cloudEvents:time');
    });

    it('have the names of the binding also when a JMS client has sent them', () => {
      const msg = received({ application_properties: { cloudEvents_type: 't', own_one: 'x' }, body: section('') });
      should(msg.amqp!['application_properties']).eql({ 'cloudEvents:type': 't', own_one: 'x' });
    });

    it('have no data when the data section is empty, whatever its type', () => {
      for (const content_type of [undefined, 'application/json']) {
        should(received({ content_type, application_properties: REQUIRED, body: section('') }).payload).be.null();
      }
    });
  });

  describe('received in structured content mode', () => {
    for (const content_type of [
      'application/cloudevents+json',
      'application/cloudevents+json; charset=UTF-8',
      'Application/CloudEvents+JSON;charset=utf-8',
    ]) {
      it(`are told by their content type ${content_type} (3)`, () => {
        const msg = receivedEvent({ ...JSON_EVENT, data: { a: 1 } }, { content_type });
        should(msg.payload).eql({ a: 1 });
        should(msg.amqp!['application_properties']).eql(REQUIRED);
      });
    }

    it('have the type of their data as content type, JSON when they name none (JSON 3.1.2)', () => {
      const xml = receivedEvent({ ...JSON_EVENT, datacontenttype: 'application/xml', data: '<a/>' });
      should(xml.payload).equal('<a/>');
      should(xml.amqp!['content_type']).equal('application/xml');
      should(receivedEvent({ ...JSON_EVENT, data: 1 }).amqp!['content_type']).equal('application/json');
    });

    it('have a string as it is, even one with JSON in it (JSON 3.1.2)', () => {
      should(receivedEvent({ ...JSON_EVENT, data: '{"a":1}' }).payload).equal('{"a":1}');
      const typed = { ...JSON_EVENT, datacontenttype: 'application/json', data: '{"a":1}' };
      should(receivedEvent(typed).payload).equal('{"a":1}');
    });

    it('have a Buffer of data_base64 (JSON 3.1.2)', () => {
      const binary = { ...JSON_EVENT, datacontenttype: 'image/png', data_base64: BYTES.toString('base64') };
      should(receivedEvent(binary).payload).eql(BYTES);
    });

    it('have null without data, and for null (JSON 3.1.1)', () => {
      should(receivedEvent(JSON_EVENT).payload).be.null();
      should(receivedEvent({ ...JSON_EVENT, data: null }).payload).be.null();
    });

    it('have no attribute where there is null (JSON 2.2)', () => {
      const msg = receivedEvent({ ...JSON_EVENT, subject: null, datacontenttype: null, data: 1 });
      should(msg.amqp!['application_properties']).eql(REQUIRED);
      should(msg.amqp!['content_type']).equal('application/json');
    });

    it('win over the same attributes in the application properties (3.2.3)', () => {
      const application_properties = { 'cloudEvents:id': 'other', cloudEvents_type: 'other', own: 'x' };
      const msg = receivedEvent({ ...JSON_EVENT, comexampleothervalue: 5 }, { application_properties });
      should(msg.amqp!['application_properties']).eql({ ...REQUIRED, own: 'x', 'cloudEvents:comexampleothervalue': 5 });
    });

    it('are also read from a body of text', () => {
      const msg = received({ content_type: ENVELOPE, body: JSON.stringify({ ...JSON_EVENT, data: 1 }) });
      should(msg.payload).equal(1);
    });

    for (const [content_type, payload] of [
      ['application/cloudevents+avro', Buffer.from('[]')],
      ['application/cloudevents-batch+json', []],
    ] as const) {
      it(`are read by their content type alone in the format ${content_type} (3)`, () => {
        const msg = received({ content_type, body: section('[]') });
        should(msg.payload).eql(payload);
        should(msg.amqp).eql({ content_type, body_type: 'data' });
      });
    }

    for (const content of ['{', '[]', '"text"', 'null', '']) {
      it(`are an error when they are ${content || 'empty'}`, () => {
        const error = failure(() => received({ content_type: ENVELOPE, body: section(content) }));
        should(error.code).equal('AMQP_DECODE');
      });
    }
  });

  it('are told from other messages, which are read as ever', () => {
    const msg = received({ subject: 's', application_properties: { own: 'x' }, body: { a: [true] } });
    should(msg).eql({
      payload: { a: [true] },
      amqp: { subject: 's', application_properties: { own: 'x' }, body_type: 'value' },
    });
  });

  for (const [name, payload, contentType] of [
    ['JSON', { a: [1, UTF8, null] }, 'application/json'],
    ['a string as JSON', '{"a":1}', 'application/json'],
    ['text', UTF8, 'text/plain'],
    ['binary', BYTES, 'application/octet-stream'],
    ['nothing', null, undefined],
    ['false', false, undefined],
    ['zero', 0, undefined],
    ['an empty string', '', undefined],
    ['text without a type', UTF8, undefined],
    ['bytes without a type', BYTES, undefined],
  ] as const) {
    it(`read the same in both content modes, and when sent on in the other, with ${name} as data`, () => {
      const attributes = { 'cloudEvents:time': '2018-04-05T17:31:00Z', 'cloudEvents:flag': true, 'cloudEvents:n': 7 };
      const msg = event(payload, attributes, { content_type: contentType });
      const binary = receive(send(msg, 'cloudevent'));
      const structured = receive(send(msg, 'cloudevent-json'));
      should(binary.payload).eql(payload);
      should(structured).eql(binary);
      should(receive(send(binary, 'cloudevent-json'))).eql(binary);
      should(receive(send(structured, 'cloudevent'))).eql(binary);
    });
  }

  it('have bytes with their type read alike in both content modes', () => {
    for (const [payload, contentType] of [
      [Buffer.from('{"a":1}'), 'application/json'],
      [Buffer.from(UTF8), 'text/plain'],
    ] as const) {
      const msg = event(payload, {}, { content_type: contentType });
      should(receive(send(msg, 'cloudevent-json'))).eql(receive(send(msg, 'cloudevent')));
    }
  });

  it('take a boolean, binary and a string in the notation', () => {
    const properties = {
      'cloudEvents:a': amqp('boolean', true),
      'cloudEvents:b': amqp('binary', 'AAH+/w=='),
      'cloudEvents:c': amqp('string', 'x'),
    };
    for (const mode of ['cloudevent', 'cloudevent-json'] as const) {
      should(receive(send(event('', properties), mode)).amqp!['application_properties']).eql({
        ...REQUIRED,
        'cloudEvents:a': true,
        'cloudEvents:b': 'AAH+/w==',
        'cloudEvents:c': 'x',
      });
    }
  });

  it('have the type of their data also when it is given in the notation', () => {
    const { json } = sentEvent(event('<a/>', {}, { content_type: amqp('symbol', 'application/xml') }));
    should(json).eql({ ...JSON_EVENT, datacontenttype: 'application/xml', data: '<a/>' });
  });

  it('have data of any type with the subtype json as JSON (JSON 3.1.1)', () => {
    for (const datacontenttype of ['text/json', 'model/gltf+json']) {
      const { json } = sentEvent(event({ a: 1 }, {}, { content_type: datacontenttype }));
      should(json).eql({ ...JSON_EVENT, datacontenttype, data: { a: 1 } });
    }
  });

  it('are the same in msg.payload, where the format is that of node-red-contrib-rhea', () => {
    const application_properties = { ...REQUIRED, 'cloudEvents:time': new Date('2018-04-05T17:31:00Z') };
    for (const body of ['cloudevent', 'cloudevent-json'] as const) {
      const bytes = encode(
        outgoing({ payload: { body: { a: 1 }, application_properties } }, { format: 'message', body }),
      );
      should(receive(bytes, 'message').payload).eql({
        body: { a: 1 },
        content_type: 'application/json',
        application_properties: { ...REQUIRED, 'cloudEvents:time': '2018-04-05T17:31:00.000Z' },
      });
    }
  });

  describe('in a flow', () => {
    let broker: Broker;

    before(() => helper.startServer());
    after(() => helper.stopServer());
    beforeEach(async () => {
      broker = await Broker.start();
    });
    afterEach(async () => {
      await helper.unload();
      await broker.stop();
    });

    for (const body of ['cloudevent', 'cloudevent-json']) {
      it(`go from a sender with the body ${body} to a receiver`, async () => {
        await load(
          flow(
            endpointNode(broker.port),
            node('amqp-sender', { body, wires: [['sent']] }),
            node('amqp-receiver', { output: 'cloudevent' }),
          ),
        );
        const [out, wire] = [
          message('out'),
          new Promise<Message>((resolve) => broker.once('message', (_q, m) => resolve(m))),
        ];
        const { amqp: fields } = event(undefined);
        inject('sender', { payload: { a: 1 }, amqp: fields });
        const msg = await out;
        should(msg['payload']).eql({ a: 1 });
        should(msg.amqp).match({ content_type: 'application/json', application_properties: REQUIRED });
        const { content_type: type } = await wire;
        should(type).equal(body === 'cloudevent' ? 'application/json' : ENVELOPE);
      });
    }

    it('that are not valid are told to Catch, with the body as it came, and get the outcome "on error"', async () => {
      await load(
        flow(
          endpointNode(broker.port),
          node('amqp-receiver', { output: 'cloudevent', settle: 'flow', onerror: 'reject' }),
        ),
      );
      const [caught, out] = [message('caught'), collect('out')];
      const settled = new Promise<Disposition>((resolve) => broker.once('settled', resolve));
      broker.put('q', { content_type: ENVELOPE, body: section('{no json') });
      const msg = await caught;
      should(msg['payload']).eql(Buffer.from('{no json'));
      should(msg.error!.code).equal('AMQP_DECODE');
      should((await settled).state).equal('rejected');
      should(out).be.empty();
    });

    it('that are not valid are told to Catch, and not sent', async () => {
      await load(flow(endpointNode(broker.port), node('amqp-sender', { body: 'cloudevent' })));
      const caught = message('caught');
      inject('sender', { payload: 'x' });
      should((await caught).error!.code).equal('AMQP_BAD_MESSAGE');
      should(broker.received).be.empty();
    });
  });
});
