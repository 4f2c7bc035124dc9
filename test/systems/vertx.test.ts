// The flow examples/Systems/Vert.x.json. What Vert.x has is written down here as JSON; no Vert.x is part of it.
import { once } from 'node:events';
import rhea, { type Message } from 'rhea';
import should from 'should';
import { Broker } from '../../broker/broker';
import { idOf, loadExample, press, shown, startExamples } from '../example';
import { inject } from '../flow';

const FILE = 'Systems/Vert.x.json';
const ADDRESS = 'example.vertx.orders';
const { message: amqp, types } = rhea;

/** All that the bridge of Vert.x 3 puts into its JSON. */
const ALL = {
  body: { item: 'tea', amounts: [1, 2.5], note: null },
  body_type: 'value',
  header: { durable: true, priority: 7, ttl: 60000, first_acquirer: true, delivery_count: 0 },
  properties: {
    to: ADDRESS,
    reply_to: 'replies',
    message_id: 'm-1',
    correlation_id: 'c-1',
    subject: 'order',
    group_id: 'g',
    group_sequence: 3,
    reply_to_group_id: 'rg',
    content_type: 'text/plain',
    content_encoding: 'identity',
    creation_time: 1764288000000,
    absolute_expiry_time: 4102444800000,
    user_id: 'anna',
  },
  application_properties: { region: 'eu', urgent: true },
  message_annotations: { 'x-opt-kind': 'test' },
};

describe('The JSON of Vert.x', () => {
  let broker: Broker;

  startExamples((started) => (broker = started));
  beforeEach(async () => {
    await loadExample(FILE, broker.port);
  });

  /** The message that comes of JSON, as it is on the wire. */
  async function messageOf(json: object): Promise<Message> {
    const stored = once(broker, 'message');
    inject(idOf('function', 'from Vert.x'), { payload: json });
    return (await stored)[1];
  }
  /** The JSON that comes of a message. */
  async function jsonOf(message: Partial<Message>): Promise<Record<string, unknown>> {
    const json = shown('for the event bus');
    broker.put(ADDRESS, amqp.encode(message));
    return (await json).payload as Record<string, unknown>;
  }

  it('goes to the address in its properties, as the flow says, and comes back as it was', async () => {
    for (const [button, expected] of [
      ['1. an order', { body: { item: 'tea', amount: 2 }, body_type: 'value', header: { durable: true, priority: 4 } }],
      ['2. three bytes', { body: 'AQID', body_type: 'data', header: { durable: true } }],
    ] as const) {
      const [sent, json] = [shown('sent'), shown('for the event bus')];
      press(button);
      should((await sent).sent).match({ address: ADDRESS, state: 'accepted' });
      should((await json).payload).match(expected);
    }
  });

  it('has each of its fields on the wire, but for the two that are for the server to say', async () => {
    const message = await messageOf(ALL);
    const { first_acquirer, delivery_count, ...header } = ALL.header;
    should([first_acquirer, delivery_count]).deepEqual([true, 0]);
    const { creation_time, absolute_expiry_time, user_id, ...properties } = ALL.properties;
    should(message).match({
      ...header,
      ...properties,
      body: ALL.body,
      application_properties: ALL.application_properties,
      message_annotations: ALL.message_annotations,
    });
    should(message.creation_time!.valueOf()).equal(creation_time);
    should(message.absolute_expiry_time!.valueOf()).equal(absolute_expiry_time);
    should(String(message.user_id)).equal(user_id);
    should(message.first_acquirer).not.equal(true);
  });

  it('has each of its fields after a way there and back', async () => {
    const json = shown('for the event bus');
    inject(idOf('function', 'from Vert.x'), { payload: ALL });
    // What a function node makes is of another realm.
    const { header, ...back }: typeof ALL = JSON.parse(JSON.stringify((await json).payload));
    const { header: given, ...rest } = ALL;
    should(back).deepEqual(rest);
    should(header).match({ durable: given.durable, priority: given.priority, ttl: given.ttl });
  });

  it('has a body of bytes as base64, whatever the content type, and a sequence as a list', async () => {
    const text = Buffer.from('{"a":1}');
    const json = await jsonOf({ body: amqp.data_section(text), content_type: 'application/json' });
    should(json).match({
      body: text.toString('base64'),
      body_type: 'data',
      properties: { content_type: 'application/json' },
    });
    const sequence = await jsonOf({ body: amqp.sequence_section([1, 'two', { three: 3 }]) });
    should(sequence).match({ body: [1, 'two', { three: 3 }], body_type: 'sequence' });

    should((await messageOf({ ...json, properties: { to: 'elsewhere' } })).body).match({ content: text });
    should((await messageOf({ ...sequence, properties: { to: 'elsewhere' } })).body).match({
      content: [1, 'two', { three: 3 }],
    });
  });

  it('has no AMQP types: numbers, texts and times are plain', async () => {
    const json = await jsonOf({
      body: { long: types.wrap_long(5), symbol: types.wrap_symbol('s'), time: types.wrap_timestamp(1000) },
      message_id: 7,
      application_properties: { byte: types.wrap_byte(1) },
    });
    should(json).match({
      body: { long: 5, symbol: 's', time: 1000 },
      properties: { message_id: '7' },
      application_properties: { byte: 1 },
    });
  });

  it('without a body is a message with null, and without a body_type one with a value', async () => {
    should((await messageOf({ properties: { to: 'elsewhere' } })).body).equal(null);
    should((await messageOf({ body: 'text', properties: { to: 'elsewhere' } })).body).equal('text');
  });

  it('that names no address, or an unknown body_type, goes to the catch node', async () => {
    const nowhere = shown('why not');
    press('3. without an address');
    should((await nowhere).error).match({ code: 'AMQP_NO_ADDRESS' });
    const unknown = shown('why not');
    inject(idOf('function', 'from Vert.x'), { payload: { body: 1, body_type: 'map', properties: { to: ADDRESS } } });
    should((await unknown).error).match({ message: 'Error: map is not a body_type' });
    should(broker.received).deepEqual({});
  });
});
