// The nodes and a JMS client with each other, over the embedded broker and over those that JMS is at home with.
import should from 'should';
import { flow, helper, inject, load, message, messages, type Msg } from '../flow';
import { Broker } from '../../broker/broker';
import { activemq } from './activemq';
import { artemis } from './artemis';
import { type BrokerKind, needed } from './broker';
import { type CorrelatedBy, JmsClient, type JmsMessage, type Kind } from './jms/client';
import { savedEndpoint, savedNode } from './saved';

const amqp = (type: string, value: unknown) => ({ $amqp: type, value });

const KINDS: Kind[] = ['text', 'bytes', 'map', 'stream', 'object', 'typed-object', 'no-body'];

const BYTES = Buffer.from('0001feff', 'hex');
const TEXT = 'grüße €';
/** The nearest number that a Java float holds, as a double. */
const FLOAT = Math.fround(0.1);
const LARGE = String(2n ** 63n - 1n);

/** What the JMS client sets on all its messages, and how a flow reads it. */
const PROPERTIES = {
  aBoolean: true,
  aByte: amqp('byte', -8),
  aShort: amqp('short', -16),
  anInt: -32,
  aLong: amqp('long', -64),
  aLargeLong: amqp('long', LARGE),
  aFloat: amqp('float', FLOAT),
  aDouble: 0.1,
  aWholeDouble: amqp('double', 2),
  aString: TEXT,
};

const type = (number: number) => ({ message_annotations: { 'x-opt-jms-msg-type': number } });

const MAP = {
  aBoolean: true,
  aByte: -8,
  aShort: -16,
  anInt: -32,
  aLong: -64,
  aLargeLong: amqp('long', LARGE),
  aFloat: FLOAT,
  aDouble: 0.1,
  aWholeDouble: 2,
  aChar: '€',
  aString: TEXT,
  noString: null,
  bytes: BYTES,
};
/** What the JMS client sends, and what a flow has of it. */
const RECEIVED: [name: string, kind: Kind, payload: unknown, type: number, fields: object][] = [
  ['TextMessage as its text', 'text', TEXT, 5, { body_type: 'value' }],
  ['BytesMessage as a Buffer', 'bytes', BYTES, 3, { body_type: 'data', content_type: 'application/octet-stream' }],
  ['MapMessage as an object', 'map', MAP, 2, { body_type: 'value' }],
  ['StreamMessage as an array', 'stream', Object.values(MAP), 4, { body_type: 'sequence' }],
  ['ObjectMessage of AMQP types as its value', 'typed-object', [TEXT, 1], 1, { body_type: 'value' }],
  ['Message as null', 'no-body', null, 0, {}],
];

const VALUES = {
  aBoolean: true,
  anInt: 1,
  aLong: 2 ** 31,
  aDouble: 0.5,
  aString: TEXT,
  aByte: amqp('byte', -8),
  aShort: amqp('short', -16),
  aLargeLong: amqp('long', LARGE),
  aFloat: amqp('float', 0.5),
  aWholeDouble: amqp('double', 2),
};
const IN_JAVA = {
  aBoolean: 'Boolean true',
  anInt: 'Integer 1',
  aLong: 'Long 2147483648',
  aDouble: 'Double 0.5',
  aString: `String ${TEXT}`,
  aByte: 'Byte -8',
  aShort: 'Short -16',
  aLargeLong: `Long ${LARGE}`,
  aFloat: 'Float 0.5',
  aWholeDouble: 'Double 2.0',
};
const ENTRIES = { ...VALUES, aChar: amqp('char', '€'), bytes: BYTES, noString: null };
const ENTRIES_IN_JAVA = { ...IN_JAVA, aChar: 'Character €', bytes: 'byte[] 0001feff', noString: 'null' };
/** What a flow sends, and what the JMS client has of it. */
const SENT: [what: string, msg: object, type: JmsMessage['type'], body: unknown, option?: string][] = [
  ['a string', { payload: TEXT }, 'TextMessage', `String ${TEXT}`],
  ['what the body "string" writes', { payload: 42 }, 'TextMessage', 'String 42', 'string'],
  ['what the body "json" writes', { payload: { a: TEXT } }, 'TextMessage', `String {"a":"${TEXT}"}`, 'json'],
  ['a string of type 5', { payload: TEXT, amqp: type(5) }, 'TextMessage', `String ${TEXT}`],
  ['a Buffer', { payload: BYTES }, 'BytesMessage', 'byte[] 0001feff'],
  ['a Buffer of type 3', { payload: BYTES, amqp: type(3) }, 'BytesMessage', 'byte[] 0001feff'],
  ['what the body "binary" writes', { payload: 'abc' }, 'BytesMessage', 'byte[] 616263', 'binary'],
  ['an object of type 2', { payload: ENTRIES, amqp: type(2) }, 'MapMessage', ENTRIES_IN_JAVA],
  [
    'an array of type 4',
    { payload: Object.values(ENTRIES), amqp: type(4) },
    'StreamMessage',
    Object.values(ENTRIES_IN_JAVA),
  ],
  ['an object without a type', { payload: { a: 1 } }, 'ObjectMessage', 'LinkedHashMap {a=1}'],
  ['an array without a type', { payload: [1, TEXT] }, 'ObjectMessage', `ArrayList [1, ${TEXT}]`],
  ['a number', { payload: 42 }, 'ObjectMessage', 'Integer 42'],
  ['null', { payload: null }, 'TextMessage', 'null'],
  ['null of type 0', { payload: null, amqp: type(0) }, 'Message', ''],
];

/** Ids of requests, of each type. */
const IDS: [what: string, id: unknown][] = [
  ['a string that begins as in JMS', 'ID:1'],
  ['another string', 'one'],
  ['a ulong', amqp('ulong', '18446744073709551615')],
  ['a uuid', amqp('uuid', '00112233-4455-6677-8899-aabbccddeeff')],
  ['binary', BYTES],
];

let broker: { port: number; stop(): Promise<void> };
let jms: JmsClient;

/** What the JMS client receives of a msg. */
async function receive(msg: object, properties: object = {}): Promise<JmsMessage> {
  await load(flow(savedEndpoint(broker.port), savedNode('amqp-sender', { wires: [['outcome']], ...properties })));
  inject('sender', msg);
  return jms.receive('q');
}

/** What the JMS client sends, and what it receives after a receiver and a sender have forwarded that. */
async function forward(kind: Kind, output: string): Promise<[sent: JmsMessage, received: JmsMessage]> {
  await load(
    flow(
      savedEndpoint(broker.port),
      savedNode('amqp-receiver', { output, wires: [['sender']] }),
      savedNode('amqp-sender', { address: 'forwarded', wires: [['outcome']] }),
    ),
  );
  return [await jms.send('q', kind), await jms.receive('forwarded')];
}

/** The msg that leaves with the reply, and the request as the service had it. */
async function ask(id: CorrelatedBy, msg: object, reply: Kind | 'same', output: string): Promise<[Msg, JmsMessage]> {
  await load(flow(savedEndpoint(broker.port), savedNode('amqp-requester', { output })));
  const out = message('out');
  inject('requester', msg);
  const [request] = await jms.serve('q', id, reply);
  return [await out, request!];
}

const QUEUES = { queues: [{ name: 'q' }, { name: 'forwarded' }], topics: [] };
/** Some peers make a topic of an address that they do not know: here all of them know the queues. */
const BROKERS: { name: string; kind?: BrokerKind; prefix?: string }[] = [
  { name: 'the embedded broker' },
  { name: 'ActiveMQ Artemis', kind: artemis },
  // It tells JMS clients to put this before the names of queues.
  { name: 'ActiveMQ Classic', kind: activemq, prefix: 'queue://' },
];

for (const { name: place, kind: real, prefix = '' } of BROKERS) {
  describe(`A JMS client (Qpid JMS 2.10), over ${place},`, function () {
    before(async function () {
      this.timeout(300_000); // the first time, Maven fetches it
      await needed(this, `a JMS client over ${place}`, async () => {
        await JmsClient.fetch();
        await real?.prepare();
      });
      broker = await (real ? real.start(QUEUES) : Broker.start());
      jms = new JmsClient(`amqp://127.0.0.1:${broker.port}`);
      await helper.startServer();
    });
    after(async () => {
      if (!jms) return;
      await helper.stopServer();
      await jms.stop();
      await broker.stop();
    });
    afterEach(() => helper.unload());

    describe('sends a message that a receiver reads', () => {
      for (const [name, kind, payload, number, fields] of RECEIVED) {
        it(name, async () => {
          await load(flow(savedEndpoint(broker.port), savedNode('amqp-receiver')));
          const received = message('out');
          const { headers } = await jms.send('q', kind);
          const msg = await received;
          should(msg.topic).equal(`${prefix}q`);
          should(msg['payload']).eql(payload);
          should(msg.amqp).eql({
            durable: true,
            priority: 7,
            ttl: 3_600_000,
            message_id: headers['JMSMessageID']!.replace('String ', ''),
            to: `${prefix}q`,
            subject: 'greeting',
            reply_to: `${prefix}replies`,
            correlation_id: 'correlated',
            absolute_expiry_time: Number(headers['JMSExpiration']!.replace('Long ', '')),
            creation_time: Number(headers['JMSTimestamp']!.replace('Long ', '')),
            group_id: 'group',
            group_sequence: 7,
            message_annotations: { 'x-opt-jms-msg-type': number, 'x-opt-jms-dest': 0, 'x-opt-jms-reply-to': 0 },
            application_properties: PROPERTIES,
            ...fields,
          });
        });
      }

      it('ObjectMessage as the bytes of the object in Java', async () => {
        await load(flow(savedEndpoint(broker.port), savedNode('amqp-receiver')));
        const received = message('out');
        await jms.send('q', 'object');
        const msg = await received;
        const bytes = msg['payload'] as Buffer;
        should(bytes.subarray(0, 4)).eql(Buffer.from('aced0005', 'hex'));
        should(bytes.includes(TEXT)).be.true();
        should(msg.amqp).match({
          body_type: 'data',
          content_type: 'application/x-java-serialized-object',
          message_annotations: { 'x-opt-jms-msg-type': 1 },
        });
      });
    });

    describe('receives what a sender sends', () => {
      for (const [what, msg, expected, body, option = 'auto'] of SENT) {
        it(`${what} as a ${expected}`, async () => {
          should(await receive(msg, { body: option })).match({ type: expected, body });
        });
      }

      it('the application properties with the type that each has', async () => {
        const { properties } = await receive({ payload: '', amqp: { application_properties: VALUES } });
        should(properties).eql({ JMSXDeliveryCount: 'Integer 1', ...IN_JAVA });
      });

      it('the other fields as headers', async () => {
        const { headers, properties } = await receive({
          payload: '',
          amqp: {
            message_id: 'ID:1',
            correlation_id: 'correlated',
            subject: 'greeting',
            reply_to: 'replies',
            durable: true,
            priority: 7,
            creation_time: new Date(1000),
            absolute_expiry_time: new Date(4e12),
            group_id: 'group',
            group_sequence: 7,
            message_annotations: { 'x-opt-jms-reply-to': 1, 'x-opt-delivery-time': 2000 },
          },
        });
        should(headers).eql({
          JMSMessageID: 'String ID:1',
          JMSCorrelationID: 'String correlated',
          JMSType: 'String greeting',
          JMSReplyTo: 'JmsTopic replies',
          JMSDeliveryMode: 'Integer 2',
          JMSPriority: 'Integer 7',
          JMSTimestamp: 'Long 1000',
          JMSDeliveryTime: 'Long 2000',
          JMSExpiration: 'Long 4000000000000',
        });
        should(properties).eql({
          JMSXDeliveryCount: 'Integer 1',
          JMSXGroupID: 'String group',
          JMSXGroupSeq: 'Integer 7',
        });
      });
    });

    describe('receives what another has sent, forwarded from a receiver to a sender,', () => {
      for (const kind of KINDS) {
        it(`unchanged (${kind}, output "typed")`, async () => {
          const [sent, received] = await forward(kind, 'typed');
          should(received).eql(sent);
        });
      }

      for (const kind of ['text', 'bytes', 'object', 'typed-object', 'no-body'] as const) {
        it(`unchanged (${kind}, output "auto")`, async () => {
          const [sent, received] = await forward(kind, 'auto');
          should(received).eql(sent);
        });
      }

      for (const kind of ['map', 'stream'] as const) {
        it(`with the types that JavaScript has (${kind}, output "auto")`, async () => {
          const [sent, received] = await forward(kind, 'auto');
          const widened: Record<string, string> = {
            'Byte -8': 'Integer -8',
            'Short -16': 'Integer -16',
            'Long -64': 'Integer -64',
            'Float 0.1': `Double ${FLOAT}`,
            'Double 2.0': 'Integer 2',
            'Character €': 'String €',
          };
          const entries = Object.entries(sent.body).map(([name, value]) => [name, widened[value] ?? value]);
          const body = kind === 'stream' ? entries.map(([, value]) => value) : Object.fromEntries(entries);
          should(received).eql({ ...sent, body });
        });
      }
    });

    describe('sends a request that a responder answers', () => {
      for (const kind of KINDS) {
        it(`with a reply equal to the request, when the flow gives that back (${kind}, output "typed")`, async () => {
          await load(
            flow(savedEndpoint(broker.port), savedNode('amqp-responder', { output: 'typed', wires: [['responder']] })),
          );
          const request = await jms.request('q', kind, 'asked');
          const [reply] = await jms.replies(1);
          const { type: sent, body, headers, properties } = request;
          should({ type: reply!.type, body: reply!.body }).eql({ type: sent, body });
          const { JMSXGroupID: _id, JMSXGroupSeq: _seq, ...rest } = properties;
          should(reply!.properties).eql({ JMSXDeliveryCount: 'Integer 1', ...rest });
          should(reply!.headers).match({
            JMSCorrelationID: 'String asked',
            JMSReplyTo: 'null',
            JMSType: 'String greeting',
          });
          should(reply!.headers['JMSMessageID']).not.equal(headers['JMSMessageID']);
        });
      }

      for (const [what, msg, expected, body, option = 'auto'] of SENT) {
        it(`with ${what}, as a ${expected}`, async () => {
          await load(flow(savedEndpoint(broker.port), savedNode('amqp-responder', { body: option })));
          const taken = message('out');
          await jms.request('q', 'text', 'asked');
          inject('responder', { delivery: (await taken).delivery, ...msg });
          const [reply] = await jms.replies(1);
          should({ type: reply!.type, body: reply!.body }).eql({ type: expected, body });
          should(reply!.headers['JMSCorrelationID']).equal('String asked');
        });
      }

      it('with the correlation id of its own, in whatever order the flow answers', async () => {
        await load(flow(savedEndpoint(broker.port), savedNode('amqp-responder')));
        const taken = messages('out', 5);
        for (const id of ['a', 'b', 'c', 'd', 'e']) await jms.request('q', 'text', id);
        const [a, b, c, d, e] = await taken;
        const order = [c!, a!, e!, d!, b!];
        for (const msg of order)
          inject('responder', { ...msg, payload: `to ${msg.amqp!['correlation_id'] as string}` });
        should((await jms.replies(5)).map(({ headers, body }) => [headers['JMSCorrelationID'], body])).eql(
          ['c', 'a', 'e', 'd', 'b'].map((id) => [`String ${id}`, `String to ${id}`]),
        );
      });
    });

    for (const id of ['message-id', 'correlation-id'] satisfies CorrelatedBy[]) {
      describe(`answers a requester by the ${id} of the request`, () => {
        for (const [name, kind, payload, number, fields] of RECEIVED) {
          it(`with a ${name}`, async () => {
            const [msg] = await ask(id, { payload: 'asked', topic: 'mine', keep: name }, kind, 'auto');
            should(msg).match({ topic: 'mine', keep: name });
            should(msg.payload).eql(payload);
            should(msg.amqp).match({ ...fields, ...type(number) });
          });
        }

        it('with an ObjectMessage as the bytes of the object in Java', async () => {
          const [{ payload, amqp: fields }] = await ask(id, { payload: 'asked' }, 'object', 'auto');
          should((payload as Buffer).subarray(0, 4)).eql(Buffer.from('aced0005', 'hex'));
          should(fields).match({ body_type: 'data', content_type: 'application/x-java-serialized-object', ...type(1) });
        });

        for (const [what, msg, expected, body, option] of SENT) {
          if (option) continue; // its payload is another than the one that comes back
          it(`with ${what}, which it had as a ${expected} from the flow`, async () => {
            const { payload, amqp: fields } = msg as Msg;
            const ids = { message_id: 'ID:m', correlation_id: 'c' };
            const [answer, request] = await ask(
              id,
              { payload, amqp: { ...fields, ...ids }, keep: what },
              'same',
              'typed',
            );
            should({ type: request.type, body: request.body }).eql({ type: expected, body });
            should(request.headers).match({ JMSMessageID: 'String ID:m', JMSCorrelationID: 'String c' });
            should(request.headers['JMSReplyTo']).match(/^JmsTemporaryQueue ./);
            should(answer.payload).eql(payload);
            should(answer['keep']).equal(what);
            should(answer.amqp!['correlation_id']).equal(id === 'message-id' ? 'ID:m' : 'c');
          });
        }

        for (const [what, value] of IDS) {
          it(`that is ${what}`, async () => {
            const ids = { message_id: 'other', correlation_id: 'another', [id.replace('-', '_')]: value };
            const [{ payload, amqp: fields }] = await ask(id, { payload: 'asked', amqp: ids }, 'text', 'auto');
            should(payload).equal(TEXT);
            should(fields!['correlation_id']).eql(value);
          });
        }

        it('each with its own reply, in whatever order they come', async () => {
          await load(flow(savedEndpoint(broker.port), savedNode('amqp-requester')));
          const [out, outcomes] = [messages('out', 5), messages('outcome', 5)];
          for (let n = 0; n < 5; n++) inject('requester', { payload: `request ${n}`, n });
          const requests = await jms.serve('q', id, 'same', 5);
          should(requests.map(({ body }) => body)).eql([0, 1, 2, 3, 4].map((n) => `String request ${n}`));
          should((await out).map(({ n, payload }) => [n, payload])).eql(
            [4, 3, 2, 1, 0].map((n) => [n, `request ${n}`]),
          );
          for (const { sent } of await outcomes) should(sent).match({ address: 'q', state: 'accepted' });
        });
      });
    }
  });
}
