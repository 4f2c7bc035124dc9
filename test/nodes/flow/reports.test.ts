import { once } from 'node:events';
import should from 'should';
import { Broker } from '../../../broker/broker';
import type { Health, Reports } from '../../../nodes/flow/reports';
import {
  collect,
  endpointNode,
  flow,
  helper,
  inject,
  load,
  message,
  messages,
  type Msg,
  node,
  status,
} from '../../flow';
import type { NodeConfig } from '../../node-red';

const PLACE = { x: 0, y: 0, z: 'flow' };

const get = async (path: string): Promise<{ status: number; body: any; text: string }> => {
  const { status: code, text, headers } = await helper.request().get(`/amqp-endpoint/${path}`);
  const isJson = headers['content-type']!.includes('json');
  return { status: code, text, body: isJson ? JSON.parse(text) : undefined };
};
const counters = async (): Promise<Reports> => (await get('counters')).body as Reports;
const health = async (): Promise<{ status: number } & Health> => {
  const { status: code, body } = await get('health');
  return { ...(body as Health), status: code };
};
/** What a node answers to the action "status". */
const ask = async (id: string, out = 'out'): Promise<any> => {
  const answer = message(out);
  inject(id, { action: 'status' });
  return (await answer).payload;
};

describe('What is told of the nodes', () => {
  let broker: Broker;
  before(() => helper.startServer());
  after(() => helper.stopServer());
  beforeEach(async () => {
    broker = await Broker.start({ properties: { product: 'Embedded', version: '1.2' } });
  });
  afterEach(async () => {
    await helper.unload();
    await broker.stop();
  });

  const start = (...nodes: NodeConfig[]): Promise<void> =>
    load(flow(endpointNode(broker.port, { name: 'The broker' }), ...nodes));
  it('counts what a sender has sent, by the outcomes of the peer', async () => {
    await start(node('amqp-sender', { name: 'Orders' }));
    await status('sender', '.connected');
    const ended = [messages('completed', 3), messages('caught', 1)];
    broker.answer('q', 'reject', 1);
    for (let n = 0; n < 4; n++) inject('sender', { payload: n });
    await Promise.all(ended);
    const report = await ask('sender');
    report.should.match({
      id: 'sender',
      type: 'amqp-sender',
      name: 'Orders',
      address: 'q',
      endpoint: 'broker',
      state: 'connected',
      sent: 4,
      accepted: 3,
      rejected: 1,
      released: 0,
      modified: 0,
      retried: 0,
      failed: 1,
      buffered: 0,
      inflight: 0,
    });
    should(report.credit).be.above(0);
    report.connection.should.match({
      state: 'connected',
      server: `amqp://127.0.0.1:${broker.port}`,
      product: 'Embedded',
      version: '1.2',
      reconnects: 0,
    });
  });

  it('counts what is sent again, and what waits', async () => {
    await start(node('amqp-sender', { retrytime: 60 }));
    await status('sender', '.connected');
    broker.answer('q', 'release', 1);
    const sent = message('completed');
    inject('sender', { payload: 'again' });
    await sent;
    (await ask('sender')).should.match({ sent: 2, accepted: 1, released: 1, retried: 1, failed: 0 });
    await broker.stop();
    await status('sender', '.reason.refused');
    inject('sender', { payload: 'waits' });
    const report = await ask('sender');
    report.should.match({ sent: 2, buffered: 1, inflight: 0, credit: 0, state: 'disconnected' });
    report.lastError.should.match({ code: 'AMQP_CONNECT', time: /^\d{4}-\d\d-\d\dT/ });
  });

  it('counts what a receiver has, and what became of it', async () => {
    await start(node('amqp-receiver', { settle: 'flow', creditwindow: 10 }));
    const given = messages('out', 5);
    for (let n = 0; n < 5; n++) broker.put('q', { body: n });
    const [one, two, three] = await given;
    for (const [msg, settle] of [
      [one, 'accept'],
      [two, 'reject'],
    ] as const) {
      const settled = once(broker, 'settled');
      inject('receiver', { delivery: msg!.delivery, settle });
      await settled;
    }
    const report = await ask('receiver');
    report.should.match({
      received: 5,
      accepted: 1,
      rejected: 1,
      released: 0,
      modified: 0,
      held: 3,
      state: 'connected',
    });
    should(report.credit).be.within(1, 7);
    should(three).be.ok();
  });

  it('counts requests, their replies, and what was answered', async () => {
    await start(node('amqp-requester', { timeout: 30 }), node('amqp-responder', { wires: [['work']] }), {
      id: 'work',
      type: 'helper',
      ...PLACE,
      wires: [],
    });
    const replies = messages('out', 2);
    helper.getNode('work').on('input', (msg) => helper.getNode('responder').receive(msg));
    inject('requester', { payload: 1 });
    inject('requester', { payload: 2 });
    await replies;
    (await ask('requester')).should.match({ sent: 2, accepted: 2, received: 2, pending: 0, unmatched: 0, failed: 0 });
    const answer = message('work');
    helper.getNode('work').removeAllListeners('input');
    const taken = message('work');
    inject('responder', { action: 'status' });
    (await taken).payload!.should.match({ received: 2, accepted: 2, sent: 2, held: 0 });
    should(answer).be.ok();
  });

  it('keeps the counts of subscriptions that are gone', async () => {
    await start(node('amqp-receiver', { addresses: 'several', address: '' }));
    inject('receiver', { action: 'subscribe', topic: 'a' });
    const got = message('out');
    broker.put('a', { body: 1 });
    await got;
    const gone = message('completed');
    inject('receiver', { action: 'unsubscribe', topic: 'a' });
    await gone;
    (await ask('receiver')).should.match({ received: 1, accepted: 1 });
  });

  it('counts connections after the first one', async () => {
    await start(node('amqp-sender'));
    await status('sender', '.connected');
    await broker.stop();
    await status('sender', '.reason.refused');
    await broker.resume();
    await status('sender', '.connected');
    const { connection } = await ask('sender');
    connection.should.match({ state: 'connected', reconnects: 1, lastError: { code: 'AMQP_CONNECT' } });
  });

  describe('by HTTP', () => {
    it('has all endpoints and nodes', async () => {
      await start(node('amqp-sender'), node('amqp-receiver', { settle: 'arrival' }));
      await Promise.all(['sender', 'receiver'].map((id) => status(id, '.connected')));
      const { endpoints, nodes } = await counters();
      endpoints.should.match([{ id: 'broker', name: 'The broker', state: 'connected' }]);
      nodes
        .map(({ id, endpoint }) => [id, endpoint])
        .should.deepEqual([
          ['sender', 'broker'],
          ['receiver', 'broker'],
        ]);
    });

    it('is a text that Prometheus takes', async () => {
      await start(node('amqp-sender', { name: 'a "b" \\ c' }));
      await status('sender', '.connected');
      const done = message('completed');
      inject('sender', { payload: 'x' });
      await done;
      const { text } = await get('counters?format=prometheus');
      const labels = 'node="sender",type="amqp-sender",name="a \\"b\\" \\\\ c",address="q",endpoint="The broker"';
      const lines = text.split('\n');
      lines.should.containEql('# TYPE nodered_amqp_sent_total counter');
      lines.should.containEql(`nodered_amqp_sent_total{${labels}} 1`);
      lines.should.containEql(`nodered_amqp_buffered{${labels}} 0`);
      lines.should.containEql(
        `nodered_amqp_connected{endpoint="The broker",server="amqp://127.0.0.1:${broker.port}"} 1`,
      );
      for (const line of lines.slice(0, -1))
        line.should.match(/^(# (HELP|TYPE) nodered_amqp_\w+ .+|nodered_amqp_\w+\{.+\} \d+)$/);
      lines.at(-1)!.should.equal('');
    });

    it('is healthy while all that is in use is connected', async () => {
      await start(node('amqp-sender'));
      await status('sender', '.connected');
      (await health()).should.match({ status: 200, ok: true, endpoints: [{ state: 'connected' }], nodes: [] });
      await broker.stop();
      await status('sender', '.reason.refused');
      (await health()).should.match({
        status: 503,
        ok: false,
        endpoints: [{ state: 'disconnected', reason: /refused/ }],
      });
    });

    it('is not healthy with a node that is refused, or whose settings cannot be used', async () => {
      broker.refuse('secret');
      await start(node('amqp-sender', { address: 'secret' }), node('amqp-receiver', { creditwindow: 'x' }));
      await status('sender', 'refused');
      const { status: code, nodes } = await health();
      code.should.equal(503);
      Object.fromEntries(nodes.map(({ id, state }) => [id, state])).should.deepEqual({
        receiver: 'fault',
        sender: 'refused',
      });
    });

    it('is healthy with an endpoint that is not to connect yet, or that no node uses', async () => {
      await load(flow(endpointNode(broker.port, { autoconnect: false }), node('amqp-sender')));
      (await health()).should.match({ status: 200, ok: true, endpoints: [{ state: 'idle' }] });
      await helper.unload();
      await load([endpointNode(1)]);
      (await health()).should.match({ status: 200, ok: true });
    });
  });

  it('is in the status, for flows', async () => {
    await load([
      ...flow(endpointNode(broker.port), node('amqp-sender')),
      { id: 'watch', type: 'status', ...PLACE, scope: null, wires: [['watched']] },
      { id: 'watched', type: 'helper', ...PLACE, wires: [] },
    ]);
    const told = collect('watched');
    await status('sender', '.connected');
    await broker.stop();
    await status('sender', '.reason.refused');
    const details = (id: string): any[] =>
      told
        .map(({ status: one }) => one as { source: { id: string }; amqp: object })
        .filter(({ source }) => source.id === id)
        .map(({ amqp }) => amqp);
    const server = `amqp://127.0.0.1:${broker.port}`;
    const last = { state: 'disconnected', server, code: 'AMQP_CONNECT', reason: /refused/ };
    for (const id of ['sender', 'broker']) {
      while (details(id).at(-1)?.code !== 'AMQP_CONNECT') await message('watched');
      details(id).at(-1).should.match(last);
      details(id).should.matchAny({ state: 'connected', server });
    }
    should(told.every((msg: Msg) => JSON.parse(JSON.stringify(msg)))).be.true();
  });
});
