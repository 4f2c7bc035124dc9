import should from 'should';
import { Broker } from '../../../broker/broker';
import { traceOf, withTraceOf } from '../../../nodes/flow/trace-context';
import { outgoing } from '../../../nodes/lib/message/message';
import { endpointNode, flow, helper, inject, load, message, node } from '../../flow';

const PARENT = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';

const sent = (msg: object): unknown => {
  const made = outgoing(msg, { format: 'body', body: 'auto' });
  withTraceOf(msg, made);
  return made.fields.application_properties;
};

describe('W3C trace context', () => {
  it('is taken from application properties, if it is one', () => {
    traceOf({ application_properties: { traceparent: PARENT, tracestate: 'a=1', other: 1 } }).should.deepEqual({
      traceparent: PARENT,
      tracestate: 'a=1',
    });
    traceOf({ application_properties: { traceparent: `cc${PARENT.slice(2)}-more` } }).should.have.key('traceparent');
    for (const traceparent of ['', 'x', PARENT.toUpperCase(), `${PARENT}x`, 7, null])
      traceOf({ application_properties: { traceparent, tracestate: 'a=1' } }).should.deepEqual({});
    traceOf({ application_properties: { traceparent: PARENT, tracestate: 'a'.repeat(513) } }).should.deepEqual({
      traceparent: PARENT,
    });
    traceOf({}).should.deepEqual({});
  });

  it('goes into application properties, beside what is there', () => {
    should(sent({ traceparent: PARENT })).deepEqual({ traceparent: PARENT });
    const former = { traceparent: PARENT.replace('4bf9', '0000'), other: 1 };
    should(sent({ traceparent: PARENT, tracestate: 'a=1', amqp: { application_properties: former } })).deepEqual({
      other: 1,
      traceparent: PARENT,
      tracestate: 'a=1',
    });
    former.should.have.property('other', 1);
    const pairs = new Map<string, unknown>([['other', 1]]);
    should(sent({ traceparent: PARENT, amqp: { application_properties: pairs } })).deepEqual(
      new Map<string, unknown>([
        ['other', 1],
        ['traceparent', PARENT],
      ]),
    );
  });

  it('leaves messages as they are where a msg has none', () => {
    should(sent({ traceparent: 'none', amqp: { application_properties: { a: 1 } } })).deepEqual({ a: 1 });
    should(sent({})).be.undefined();
  });

  describe('of nodes', () => {
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

    const start = (tracecontext: boolean): Promise<void> =>
      load(
        flow(
          endpointNode(broker.port, { tracecontext }),
          node('amqp-sender', { wires: [[]] }),
          node('amqp-receiver'),
          node('amqp-requester', { address: 'work' }),
          node('amqp-responder', { address: 'work', wires: [['responder']] }),
        ),
      );

    it('travels from msg to msg by choice', async () => {
      await start(true);
      const out = message('out');
      inject('sender', { payload: 'x', traceparent: PARENT, tracestate: 'a=1' });
      (await out).should.match({ payload: 'x', traceparent: PARENT, tracestate: 'a=1' });
      const reply = message('out');
      inject('requester', { payload: 'x', traceparent: PARENT });
      (await reply).should.match({ payload: 'x', traceparent: PARENT });
      (await reply).amqp!['application_properties']!.should.match({ traceparent: PARENT });
    });

    it('stays behind by default', async () => {
      await start(false);
      const out = message('out');
      inject('sender', { payload: 'x', traceparent: PARENT });
      (await out).should.not.have.property('traceparent');
      should((await out).amqp!['application_properties']).be.undefined();
    });
  });
});
