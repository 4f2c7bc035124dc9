// Node-RED copies a msg for each further wire, for Catch and for Complete nodes, and throws for one that is nested too deeply.
import { once } from 'node:events';
import type { NodeMessage } from 'node-red';
import rhea from 'rhea';
import should from 'should';
import { collect, endpointNode, flow, helper, inject, load, message, messages, node } from '../../flow';
import type { NodeConfig } from '../../node-red';
import { Broker } from '../../../broker/broker';

const ENDS = ['uncaughtException', 'unhandledRejection'] as const;
/** Two wires: the second gets a copy. */
const TWO = ['out', 'outcome'];
const bodies = (broker: Broker) => broker.messages('q').map((stored) => stored!.body as unknown);

function deep(): unknown {
  let value: unknown[] = [];
  for (let level = 0; level < 20_000; level++) value = [value];
  return value;
}

describe('a msg that Node-RED cannot copy', () => {
  let broker: Broker;
  const faults: unknown[] = [];
  const onFault = (fault: unknown): number => faults.push(fault);
  const listeners = ENDS.map((event) => process.listeners(event as 'uncaughtException'));

  before(() => helper.startServer());
  after(() => helper.stopServer());
  beforeEach(async () => {
    for (const event of ENDS) process.removeAllListeners(event).on(event, onFault);
    broker = await Broker.start();
  });
  afterEach(async () => {
    await helper.unload();
    await broker.stop();
    ENDS.forEach((event, index) => {
      process.removeAllListeners(event);
      for (const listener of listeners[index]!) process.on(event, listener);
    });
    should(faults.splice(0)).eql([]);
  });

  const start = (...configs: NodeConfig[]) => load(flow(endpointNode(broker.port), ...configs));

  for (const type of ['amqp-sender', 'amqp-requester', 'amqp-receiver', 'amqp-responder']) {
    it(`ends an attempt of the flow, and ${type} goes on`, async () => {
      const other = node('amqp-sender', { id: 'other', wires: [[]], address: 'other' });
      await start(node(type, { id: 'node', timeout: 5 }), other);
      inject('node', { payload: deep(), credit: 'none' });
      inject('node', { payload: 1, deep: deep(), credit: 'none', delivery: { id: 'x' } });
      const completed = message('completed');
      inject('other', { payload: 1 });
      should((await completed).payload).equal(1);
    });
  }

  it('is sent by a sender all the same, and the next one leaves it', async () => {
    await start(node('amqp-sender', { wires: [TWO] }));
    const arrived = once(broker, 'message');
    inject('sender', { payload: 1, deep: deep() });
    await arrived;
    const outcome = message('outcome');
    inject('sender', { payload: 2 });
    should((await outcome).payload).equal(2);
    should(bodies(broker)).eql([1, 2]);
  });

  it('ends also when nothing can be written into it, or reading it throws anything', async () => {
    await start(node('amqp-sender'), node('amqp-responder', { address: 'r' }));
    const throwing = {
      get: () => {
        throw undefined;
      },
    };
    for (const [id, msg, code] of [
      ['sender', Object.freeze({ payload: 1 }), 'AMQP_FLOW'],
      ['sender', { amqp: Object.defineProperty({}, 'subject', { ...throwing, enumerable: true }) }, 'AMQP_BAD_MESSAGE'],
      ['responder', { delivery: Object.defineProperty({}, 'id', throwing) }, 'AMQP_BAD_MESSAGE'],
      ['responder', Object.defineProperty({}, 'error', throwing), 'AMQP_BAD_MESSAGE'],
    ] as const) {
      const logged = once(helper.getNode(id) as never, 'call:error') as Promise<
        [{ args: [Error & { code?: string }] }]
      >;
      helper.getNode(id).emit(
        'input',
        msg,
        () => {},
        (error?: Error) => error && helper.getNode(id).error(error),
      );
      const [{ args }] = await logged;
      should(args[0]).have.property('code', code);
    }
  });

  it('is asked by a requester all the same, and the next one gets its reply', async () => {
    const echo = node('amqp-responder', { wires: [['responder']] });
    await start(node('amqp-requester', { timeout: 5, wires: [TWO, TWO] }), echo);
    inject('requester', { payload: 1, deep: deep() });
    const reply = new Promise<NodeMessage>((resolve) => {
      helper.getNode('out').on('input', (msg) => {
        // The first wire may get the msg itself.
        if ('amqp' in msg && !('deep' in msg)) resolve(msg);
      });
    });
    inject('requester', { payload: 2 });
    should((await reply).payload).equal(2);
  });

  it('is not made of a message: JSON that is nested too deeply gets the outcome of the node, and credit goes on', async () => {
    broker.options.maxDeliveries = 1;
    await start(node('amqp-receiver', { settle: 'flow', onerror: 'reject', creditwindow: 5, wires: [TWO] }));
    const caught = messages('caught', 8);
    const body = rhea.message.data_section(Buffer.from('['.repeat(20_000) + ']'.repeat(20_000)));
    for (let n = 0; n < 8; n++) broker.put('q', { body, content_type: 'application/json', message_id: n });
    for (const { error } of await caught)
      should(error).match({ code: 'AMQP_DECODE', message: /nested deeper than 128/ });
    while (broker.dispositions.length < 8) await once(broker, 'settled');
    should(broker.dispositions.map(({ state }) => state)).eql(Array.from({ length: 8 }, () => 'rejected'));
    const out = collect('out');
    const last = message('outcome');
    broker.put('q', { body: 'flat' });
    await last;
    should(out.map(({ payload }) => payload)).eql(['flat']);
  });
});
