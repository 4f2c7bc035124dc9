// A token that a flow gives to an endpoint: it is used, and gets no further. The audit (audit.ts) looks for it as well.
import should from 'should';
import { Broker } from '../../broker/broker';
import { endpointNode, flow, helper, inject, load, message, node, status } from '../flow';
import { secretIn, secretOf } from '../secrets';

const TOKEN = secretOf('token');
const FOUR = ['sender', 'receiver', 'requester', 'responder'];

describe('a token of a flow', () => {
  let broker: Broker;

  before(() => helper.startServer());
  after(() => helper.stopServer());
  beforeEach(async () => {
    broker = await Broker.start({ tokens: new Set([TOKEN]), users: {}, anonymous: false });
    const four = FOUR.map((name) => node(`amqp-${name}`, { address: name }));
    await load(flow(endpointNode(broker.port, { login: 'flow' }), ...four));
  });
  afterEach(async () => {
    await helper.unload();
    await broker.stop();
  });

  for (const id of FOUR) {
    for (const [what, token] of Object.entries({
      alone: TOKEN,
      'with its life': { access_token: TOKEN, expires_in: 60, token_type: 'Bearer' },
    })) {
      it(`is taken from a msg to a ${id}, ${what}, and is no longer in it`, async () => {
        const completed = message('completed');
        inject(id, { action: 'token', token, topic: 'kept' });
        should(await completed)
          .match({ action: 'token', topic: 'kept' })
          .and.not.have.property('token');
        await Promise.all(FOUR.map((name) => status(name, 'connected')));
      });
    }

    it(`is refused, and no longer in the msg, where the endpoint of a ${id} logs in otherwise`, async () => {
      await helper.unload();
      broker.users = undefined;
      await load(flow(endpointNode(broker.port), node(`amqp-${id}`)));
      const caught = message('caught');
      inject(id, { action: 'token', token: TOKEN });
      const msg = await caught;
      should(msg.error).match({ code: 'AMQP_BAD_INPUT', message: /msg\.token is of no use/, source: { id } });
      should(secretIn(JSON.stringify(msg))).equal(undefined);
    });

    it(`is not in the msg either when a ${id} cannot use it`, async () => {
      const caught = message('caught');
      inject(id, { action: 'token', token: [TOKEN] });
      const msg = await caught;
      should(msg.error).match({ code: 'AMQP_BAD_INPUT', source: { id } });
      should(secretIn(JSON.stringify(msg))).equal(undefined);
    });
  }
});
