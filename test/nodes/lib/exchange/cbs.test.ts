import { EventEmitter, once } from 'node:events';
import should from 'should';
import { type Token, Tokens } from '../../../../nodes/lib/auth/tokens';
import { Connection, type Note } from '../../../../nodes/lib/connection/connection';
import { Cbs, type Claims, jwts, readySignature, signatures } from '../../../../nodes/lib/exchange/cbs';
import { sharedAccessSignature } from '../../../../nodes/lib/auth/sas';
import { encode, outgoing } from '../../../../nodes/lib/message/message';
import { Entry } from '../../../../nodes/lib/link/entry';
import { Sender } from '../../../../nodes/lib/sender/sender';
import type { State } from '../../../../nodes/lib/state';
import { ServiceBus, type ServiceBusOptions } from '../../../doubles/service-bus/service-bus';
import { secretOf } from '../../../secrets';

const KEY = secretOf('service bus key');

async function state(sender: Sender, name: State['name']): Promise<State> {
  while (sender.state.name !== name) await once(sender, 'state');
  return sender.state;
}

const send = (sender: Sender) =>
  new Promise<string>((resolve) => {
    const bytes = encode(outgoing({ payload: 'x' }, { format: 'body', body: 'auto' }));
    sender.send(new Entry(bytes, (error, sent) => resolve(error?.code ?? sent.state)));
  });

describe('claims-based security', () => {
  const cleanups: (() => unknown)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
  });

  async function start(options: ServiceBusOptions = {}): Promise<ServiceBus> {
    const service = await ServiceBus.start({ queues: { a: {}, b: {} }, ...options });
    cleanups.push(() => service.stop());
    return service;
  }

  function connect({ port }: ServiceBus, claims: Claims): Connection {
    const connection = new Connection({
      servers: [{ host: '127.0.0.1', port }],
      containerId: 'client',
      connectTimeout: 5000,
      idleTimeout: 0,
      backoff: { initial: 10, max: 20 },
      loginBackoff: { initial: 10, max: 20 },
      mechanism: 'ANONYMOUS',
      authorize: new Cbs(claims).authorize,
    });
    cleanups.push(() => connection.close());
    connection.open();
    return connection;
  }

  function senderTo(connection: Connection, address: string): Sender {
    const sender = new Sender(connection, {
      name: `sender to ${address}`,
      address,
      guarantee: 'at-least-once',
      buffer: 100,
      bufferBytes: Infinity,
      full: 'refuse',
      retryTime: 60_000,
      timeout: 0,
    });
    cleanups.push(() => sender.close(0));
    sender.open();
    return sender;
  }

  it('opens addresses by a signature for each of them, made with a shared key', async () => {
    const service = await start();
    const connection = connect(service, signatures({ name: 'RootManageSharedAccessKey', key: KEY }));
    const senders = ['a', 'b'].map((address) => senderTo(connection, address));
    should(await Promise.all(senders.map(send))).deepEqual(['accepted', 'accepted']);
  });

  it('opens addresses by a signature that somebody has made', async () => {
    const service = await start();
    const policy = { name: 'RootManageSharedAccessKey', key: KEY };
    const signature = sharedAccessSignature('sb://127.0.0.1/a', policy, Date.now() + 60_000);
    should(await send(senderTo(connect(service, readySignature(signature)), 'a'))).equal('accepted');
  });

  it('tells of an address that it does not open in the words of the service, and opens the others', async () => {
    const service = await start({ policies: { narrow: { key: KEY, entity: 'a' } } });
    const connection = connect(service, signatures({ name: 'narrow', key: KEY }));
    const [a, b] = ['a', 'b'].map((address) => senderTo(connection, address));
    should(await state(b!, 'refused')).match({
      error: {
        code: 'AMQP_LINK_REFUSED',
        condition: 'amqp:unauthorized-access',
        description: /InvalidAudience.*\(status 401\)/,
      },
    });
    should(await send(a!)).equal('accepted');
    should(connection.state.name).equal('connected');
  });

  it('opens an address later that was refused at first', async () => {
    const service = await start({ policies: { late: { key: secretOf('other key') } } });
    const sender = senderTo(connect(service, signatures({ name: 'late', key: KEY })), 'a');
    await state(sender, 'refused');
    service.authority.policies['late']!.key = KEY;
    should(await send(sender)).equal('accepted');
  });

  it('shows a token of OAuth 2, and each new one for all addresses before the old one ends', async () => {
    const tokens = new Map<string, number>();
    const issue = async (): Promise<Token> => {
      const value = secretOf(`${tokens.size} token`);
      tokens.set(value, 1000);
      return { value, expires: Date.now() + 1000 };
    };
    const service = await start({ policies: {}, tokens });
    const connection = connect(service, jwts(new Tokens(issue)));
    const senders = ['a', 'b'].map((address) => senderTo(connection, address));
    await Promise.all(senders.map((sender) => state(sender, 'connected')));
    const states: string[] = [];
    for (const sender of senders) sender.on('state', ({ name }) => states.push(name));
    while (tokens.size < 4) should(await Promise.all(senders.map(send))).deepEqual(['accepted', 'accepted']);
    should(states).deepEqual([]);
  });

  it('waits for the token that a flow gives', async () => {
    const service = await start({ policies: {}, tokens: new Set([secretOf('token')]) });
    const tokens = new Tokens();
    const sender = senderTo(connect(service, jwts(tokens)), 'a');
    should(await state(sender, 'refused')).match({ error: { code: 'AMQP_AUTH', diagnosis: 'no-token' } });
    tokens.give(secretOf('token'));
    should(await send(sender)).equal('accepted');
  });

  it('says that a token was not renewed, and goes on while the old one lives', async () => {
    const asked = new EventEmitter();
    let count = 0;
    const claims: Claims = {
      get: async (audience) => {
        asked.emit('asked', ++count);
        const key = count === 2 ? secretOf('other key') : KEY;
        const expires = Date.now() + 1000;
        const value = sharedAccessSignature(audience, { name: 'RootManageSharedAccessKey', key }, Date.now() + 60_000);
        return { value, type: 'servicebus.windows.net:sastoken', expires };
      },
    };
    const service = await start();
    const connection = connect(service, claims);
    const sender = senderTo(connection, 'a');
    const [note] = (await once(connection, 'note')) as [Note];
    should(note).match({ name: 'token-not-renewed', error: { description: /InvalidSignature/ } });
    should(await send(sender)).equal('accepted');
    // It is tried again.
    for (let last = count; last < 3;) [last] = (await once(asked, 'asked')) as [number];
  });

  it('begins anew with each connection', async () => {
    const service = await start();
    const connection = connect(service, signatures({ name: 'RootManageSharedAccessKey', key: KEY }));
    const sender = senderTo(connection, 'a');
    await state(sender, 'connected');
    service.dropSockets();
    await state(sender, 'disconnected');
    should(await send(sender)).equal('accepted');
  });
});
