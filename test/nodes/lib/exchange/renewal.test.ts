import { once } from 'node:events';
import should from 'should';
import { type Token, Tokens } from '../../../../nodes/lib/auth/tokens';
import { Connection } from '../../../../nodes/lib/connection/connection';
import { renewToken } from '../../../../nodes/lib/exchange/renewal';
import { encode, outgoing } from '../../../../nodes/lib/message/message';
import { Entry } from '../../../../nodes/lib/link/entry';
import type { State } from '../../../../nodes/lib/state';
import { Sender } from '../../../../nodes/lib/sender/sender';
import { Broker, type BrokerOptions } from '../../../../broker/broker';
import { secretIn, secretOf } from '../../../secrets';

describe('a token of RabbitMQ', () => {
  const cleanups: (() => unknown)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
  });

  /** A connection that logs in with tokens that live so long. */
  async function open(life: number, options: BrokerOptions = {}) {
    const tokens = new Map<string, number>();
    const properties = { product: 'RabbitMQ', version: '4.1.0' };
    const broker = await Broker.start({ mechanisms: ['PLAIN'], tokens, tokenRenewal: true, properties, ...options });
    cleanups.push(() => broker.stop());
    const issue = async (): Promise<Token> => {
      const value = secretOf(`${tokens.size} token`);
      tokens.set(value, life);
      return { value, expires: Date.now() + life };
    };
    const connection = new Connection({
      servers: [{ host: '127.0.0.1', port: broker.port }],
      containerId: 'client',
      connectTimeout: 5000,
      idleTimeout: 0,
      backoff: { initial: 10, max: 20 },
      loginBackoff: { initial: 10, max: 20 },
      tokens: new Tokens(issue),
      tokenUse: 'password',
      renew: renewToken,
    });
    cleanups.push(() => connection.close());
    const states: string[] = [];
    connection.on('state', ({ name }) => states.push(name));
    connection.open();
    while (connection.state.name !== 'connected') await once(connection, 'state');
    return { broker, connection, states, tokens };
  }

  it('is renewed on the connection that goes on, again and again', async () => {
    const { broker, states } = await open(1000);
    for (let times = 0; times < 3; times++) should((await once(broker, 'renewal'))[0]).equal('204');
    should(states).deepEqual(['connecting', 'connected']);
  });

  it('is renewed while messages are on their way, and each arrives once', async () => {
    const { broker, connection } = await open(600);
    const sender = new Sender(connection, {
      name: 'sender',
      address: 'q',
      guarantee: 'at-most-once',
      buffer: 100_000,
      bufferBytes: Infinity,
      full: 'refuse',
      retryTime: 60_000,
      timeout: 0,
    });
    cleanups.push(() => sender.close(0));
    sender.open();
    const renewed: unknown[] = [];
    broker.on('renewal', (answer) => renewed.push(answer));
    const outcomes: string[] = [];
    for (let body = 0; renewed.length === 0 || outcomes.length < 100; body++) {
      const bytes = encode(outgoing({ payload: body }, { format: 'body', body: 'auto' }));
      outcomes.push(
        await new Promise<string>((resolve) => {
          sender.send(new Entry(bytes, (error, sent) => resolve(error?.code ?? sent.state)));
        }),
      );
    }
    should(new Set(outcomes)).deepEqual(new Set(['accepted']));
    should(broker.received['q']).equal(outcomes.length);
  });

  for (const [what, options] of Object.entries<BrokerOptions>({
    'a version before 4.1': { properties: { product: 'RabbitMQ', version: '4.0.9' }, tokenRenewal: false },
    'another product': { properties: { product: 'Broker', version: '5.0' }, tokenRenewal: false },
    'a peer that has no management': { tokenRenewal: false, mustExist: true },
  })) {
    it(`is renewed by a new connection, with ${what}`, async () => {
      const { connection, states, tokens } = await open(1000, options);
      while (states.length < 4) await once(connection, 'state');
      should(states).deepEqual(['connecting', 'connected', 'connecting', 'connected']);
      should(tokens.size).equal(2);
    });
  }

  it('that the server does not take costs the connection, and is not repeated', async () => {
    const { broker, connection } = await open(1000);
    broker.tokens = new Map([...broker.tokens!.keys()].slice(0, 1).map((token) => [token, 60_000]));
    const state = await new Promise<State>((resolve) => {
      connection.on('state', (next) => 'error' in next && resolve(next));
    });
    should(state).match({ error: { condition: 'amqp:unauthorized-access', description: /badarg,\[<<"…">>\]/ } });
    should(secretIn(JSON.stringify(state))).equal(undefined);
  });
});
