// Clients of others, and our own nodes, with an endpoint that listens: no broker is between them.
import { join } from 'node:path';
import should from 'should';
import { accountOf } from '../../nodes/lib/auth/accounts';
import { flow, helper, inject, message, messages, nodes, status } from '../flow';
import { freePort } from '../../scripts/free-port';
import { clients } from '../listen';
import { coreNode, type NodeConfig } from '../node-red';
import { audit } from '../audit';
import { secretOf } from '../secrets';
import { needed } from './broker';
import { JmsClient } from './jms/client';
import { Proton } from './proton-client';
import { savedEndpoint, savedNode } from './saved';

const fixture = (name: string): string => join(__dirname, '..', 'fixtures', name);
const password = secretOf('password');
const t = (type: string, value: unknown = null): [string, unknown] => [type, value];

let port: number;

/** What listens, with nodes that take, give and answer. */
async function listen(properties: object = {}, ...more: NodeConfig[]): Promise<void> {
  port = await freePort();
  const tls = { id: 'tls', type: 'tls-config', cert: fixture('server.crt'), key: fixture('server.key'), ca: '' };
  const configs = flow(
    savedEndpoint(port, { role: 'listen', anonymous: true, ...properties }),
    tls,
    savedNode('amqp-receiver', { address: 'in' }),
    savedNode('amqp-sender', { address: 'out', wires: [['outcome']] }),
    savedNode('amqp-responder', { address: 'service', wires: [['responder']] }),
    savedNode('amqp-requester', { address: 'asked', wires: [[], ['outcome']] }),
    ...more,
  );
  const accounts = JSON.stringify([await accountOf('user', password)]);
  const own = { user: 'user', pass: password };
  await helper.load([...nodes, coreNode('network/05-tls')], configs, { broker: { accounts }, client: own });
  await clients(0);
}

const url = (login = '', scheme = 'amqp'): string => `${scheme}://${login}localhost:${port}`;
const sent = (text: string, fields: object = {}): object => ({ fields, body: t('string', text), inferred: false });

/** Nodes on an endpoint that connects to it. */
const own = (id: string, type: string, address: string, wires: string[][]): NodeConfig =>
  savedNode(type, { id, endpoint: 'client', address, wires });

const dialling = (properties: object = {}): NodeConfig[] => [
  savedEndpoint(port, { id: 'client', ...properties }),
  own('to', 'amqp-sender', 'in', [[]]),
  own('from', 'amqp-receiver', 'out', [['caught-out']]),
  own('ask', 'amqp-requester', 'service', [[], ['asked']]),
  own('serve', 'amqp-responder', 'asked', [['serve']]),
  { id: 'caught-out', type: 'helper', z: 'flow', x: 0, y: 0, wires: [] },
  { id: 'asked', type: 'helper', z: 'flow', x: 0, y: 0, wires: [] },
];

describe('an endpoint that listens', function () {
  this.timeout(60_000);
  before(() => helper.startServer());
  after(() => helper.stopServer());
  afterEach(() => helper.unload());

  describe('to a JMS client (Qpid JMS 2.10)', () => {
    let jms: JmsClient | undefined;
    before(async function () {
      this.timeout(300_000); // the first time, Maven fetches it
      await needed(this, 'a JMS client of an endpoint that listens', () => JmsClient.fetch());
    });
    afterEach(async () => {
      await jms?.stop();
      jms = undefined;
    });
    /** `options` are those of Qpid JMS in its URL. */
    const connect = (options = '', scheme = 'amqp'): JmsClient =>
      (jms = new JmsClient(`${scheme}://localhost:${port}?${options}`));

    it('takes what it sends', async () => {
      await listen();
      const client = connect();
      for (const kind of ['text', 'bytes', 'map'] as const) {
        const out = message('out');
        await client.send('in', kind);
        should((await out).topic).equal('in');
      }
    });

    it('gives it what it receives, each consumer anew', async () => {
      await listen();
      const client = connect();
      for (let n = 0; n < 3; n++) inject('sender', { payload: `number ${n}` });
      for (let n = 0; n < 3; n++) should((await client.receive('out')).body).equal(`String number ${n}`);
    });

    it('answers its requests at its temporary queue', async () => {
      await listen();
      const client = connect();
      for (const id of ['a', 'b', 'c']) await client.request('service', 'text', id);
      const replies = await client.replies(3);
      should(replies.map(({ headers }) => headers['JMSCorrelationID'])).eql(['String a', 'String b', 'String c']);
    });

    it('asks it, and has the replies of a producer without a queue of its own', async () => {
      await listen();
      const client = connect();
      const answered = messages('outcome', 2);
      for (const payload of ['one', 'two']) inject('requester', { payload });
      should((await client.serve('asked', 'message-id', 'same', 2)).map(({ body }) => body)).eql([
        'String one',
        'String two',
      ]);
      should((await answered).map(({ payload }) => payload)).eql(['two', 'one']);
    });

    for (const mechanism of ['PLAIN', 'SCRAM-SHA-256']) {
      it(`lets it log in by ${mechanism}, over TLS`, async () => {
        await listen({ anonymous: false, usetls: true, tls: 'tls' });
        const trust = 'transport.trustAll=true&transport.verifyHost=false';
        const login = `jms.username=user&jms.password=${password}&amqp.saslMechanisms=${mechanism}`;
        const out = message('out');
        await connect(`${trust}&${login}`, 'amqps').send('in', 'text');
        should((await out).payload).equal('grüße €');
      });
    }

    it('does not let it in with a wrong password', async () => {
      await listen({ anonymous: false });
      const wrong = connect('jms.username=user&jms.password=wrong').send('in', 'text');
      await wrong.should.be.rejectedWith(/JMSSecurity|authenticate|has ended/);
    });
  });

  describe('to Proton', () => {
    const protons: Proton[] = [];
    const client = (options: ConstructorParameters<typeof Proton>[0] = {}): Proton => {
      const proton = new Proton(options);
      protons.push(proton);
      return proton;
    };
    before(async function () {
      await needed(this, 'Proton as a client of an endpoint that listens', async () => Proton.find());
    });
    afterEach(async () => {
      await Promise.all(protons.splice(0).map((one) => one.end()));
    });
    it('takes what it sends', async () => {
      await listen();
      const out = messages('out', 3);
      await client().call(
        'send',
        url(),
        'in',
        ['a', 'b', 'c'].map((text) => sent(text)),
      );
      should((await out).map(({ payload }) => payload)).eql(['a', 'b', 'c']);
    });

    it('gives it what it receives', async () => {
      await listen();
      const outcomes = messages('outcome', 3);
      for (const payload of ['a', 'b', 'c']) inject('sender', { payload });
      const received = await client().call<{ body: unknown }[]>('receive', url(), 'out', 3);
      should(received.map(({ body }) => body)).eql(['a', 'b', 'c'].map((text) => t('string', text)));
      should((await outcomes).map(({ sent: one }) => one!.state)).eql(['accepted', 'accepted', 'accepted']);
    });

    it('answers its requests at the address that it is given', async () => {
      await listen();
      const requests = ['a', 'b', 'c'].map((text) => sent(text, { correlation_id: t('string', text) }));
      const { reply_to: address, replies } = await client().call<{ reply_to: string; replies: { body: unknown }[] }>(
        'request',
        url(),
        'service',
        requests,
      );
      should(address).match(/^temporary\//);
      should(replies.map(({ body }) => body)).eql(['a', 'b', 'c'].map((text) => t('string', text)));
    });

    it('asks it', async () => {
      await listen();
      const answered = messages('outcome', 2);
      for (const payload of ['one', 'two']) inject('requester', { payload });
      await client().call('serve', url(), 'asked', 2, 'message_id', false);
      should((await answered).map(({ payload }) => payload)).eql(['two', 'one']);
    });

    it('says that there is no such address', async () => {
      await listen();
      await client()
        .call('send', url(), 'nowhere', [sent('a')])
        .should.be.rejectedWith(/amqp:not-found/);
      await client()
        .call('receive', url(), 'nowhere', 1)
        .should.be.rejectedWith(/amqp:not-found/);
    });

    // Proton itself has no SCRAM: JMS has.
    it('lets it log in by PLAIN, with the right password', async () => {
      await listen({ anonymous: false });
      const out = message('out');
      await client().call('send', url(`user:${password}@`), 'in', [sent('a')]);
      should((await out).payload).equal('a');
      const wrong = client().call('send', url('user:wrong@'), 'in', [sent('a')]);
      await wrong.should.be.rejectedWith(/auth/i);
    });

    it('speaks TLS with it', async () => {
      await listen({ anonymous: false, usetls: true, tls: 'tls' });
      const out = message('out');
      await client({ ca: fixture('ca.crt') }).call('send', url(`user:${password}@`, 'amqps'), 'in', [sent('a')]);
      should((await out).payload).equal('a');
    });
  });

  describe('to our own nodes', () => {
    const LOGINS: [what: string, server: object, client: object][] = [
      ['without a login', {}, {}],
      ['by SCRAM-SHA-256', { anonymous: false }, { sasl: 'SCRAM-SHA-256' }],
      [
        'by PLAIN, over TLS',
        { anonymous: false, usetls: true, tls: 'tls' },
        { sasl: 'PLAIN', usetls: true, tls: 'trust' },
      ],
    ];
    for (const [what, server, client] of LOGINS) {
      it(`each kind of node does its work, ${what}`, async () => {
        port = 0;
        await listen(server);
        const trust = {
          id: 'trust',
          type: 'tls-config',
          cert: '',
          key: '',
          ca: fixture('ca.crt'),
          servername: 'localhost',
        };
        await helper.unload();
        // The same port, with those that connect to it.
        const accounts = JSON.stringify([await accountOf('user', password)]);
        const configs = flow(
          savedEndpoint(port, { role: 'listen', anonymous: true, ...server }),
          { id: 'tls', type: 'tls-config', cert: fixture('server.crt'), key: fixture('server.key'), ca: '' },
          trust,
          savedNode('amqp-receiver', { address: 'in' }),
          savedNode('amqp-sender', { address: 'out', wires: [['outcome']] }),
          savedNode('amqp-responder', { address: 'service', wires: [['responder']] }),
          savedNode('amqp-requester', { address: 'asked', wires: [[], ['outcome']] }),
          ...dialling(client),
        );
        await helper.load([...nodes, coreNode('network/05-tls')], configs, {
          broker: { accounts },
          client: { user: 'user', pass: password },
        });
        audit('the flow', configs);
        for (const id of ['to', 'from', 'ask', 'serve']) await status(id, 'status.connected');
        const cases: [into: string, out: string][] = [
          ['to', 'out'],
          ['sender', 'caught-out'],
          ['ask', 'asked'],
          ['requester', 'outcome'],
        ];
        for (const [into, out] of cases) {
          const arrived = messages(out, 10);
          for (let n = 0; n < 10; n++) inject(into, { payload: n });
          const numbers = (await arrived).map(({ payload }) => payload);
          if (into !== 'sender')
            should(numbers.toSorted((a, b) => Number(a) - Number(b))).eql([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        }
      });
    }
  });
});
