// The ways to reach a server and to log in there, with servers of someone else.
import should from 'should';
import { helper, type Msg } from '../flow';
import type { NodeConfig } from '../node-red';
import { secretOf } from '../secrets';
import { type Broker, needed } from './broker';
import { numbers } from './features';
import { HttpProxy, type HttpProxyOptions } from './http-proxy';
import { type Peer, peerNamed } from './peers';
import { type RabbitMQKind, rabbitmq40, rabbitmq43 } from './rabbitmq';
import { Tap } from './tap';
import { Issuer } from './tokens';
import { type Reach, Trial } from './trial';

const COUNT = 20;
const QUEUE = 'reach';
/** How many messages wait for their outcome when they come one after another. */
const ON_THE_WAY = 5;
/** More than goes into one frame, and more than Artemis takes in one of a WebSocket. */
const LARGE = 'x'.repeat(500_000);
const NOBODY = {};

/** The server of one suite; what it is reached by, and what comes of it. */
class Place {
  broker!: Broker;
  trial!: Trial;
  #runs = 0;
  readonly #helpers = new Set<{ stop(): Promise<void> }>();

  constructor(readonly peer: Peer) {}

  /** Starts what a test needs beside the server, which ends with the test. */
  async with<T extends { stop(): Promise<void> }>(starting: Promise<T>): Promise<T> {
    const started = await starting;
    this.#helpers.add(started);
    return started;
  }

  tap(port = this.broker.port): Promise<Tap> {
    return this.with(Tap.start(port));
  }

  proxy(options: HttpProxyOptions = {}): Promise<HttpProxy> {
    return this.with(HttpProxy.start(options));
  }

  /** `host:port` of a WebSocket, as a proxy is asked for it. */
  name(scheme: 'ws' | 'wss'): string {
    return this.url(scheme).replace(/^.*\//, '');
  }

  url(scheme: 'ws' | 'wss', port = scheme === 'ws' ? this.broker.wsPort : this.broker.wssPort): string {
    return `${scheme}://${this.broker.host}:${port}`;
  }

  /** What is set of an endpoint for AMQP over WebSocket. */
  webSocket(scheme: 'ws' | 'wss', port?: number): object {
    return { connectto: 'urls', urls: this.url(scheme, port), tls: 'tls' };
  }

  async load(reach: Reach = {}, ...others: NodeConfig[]): Promise<void> {
    const address = this.peer.queue(QUEUE);
    await this.trial.load([this.trial.sender(address), this.trial.receiver(address), ...others], reach);
  }

  /** Has messages go there and back, and counts them. What a test that failed has left there does not matter. */
  async carries(...more: string[]): Promise<void> {
    const run = `${(this.#runs += 1)}:`;
    const sent = [...numbers(COUNT), ...more].map((part) => `${run}${part}`);
    const received = this.trial.inbox();
    await this.trial.deliver(...sent.map((payload) => ({ payload })));
    const isOurs = ({ payload }: Msg) => String(payload).startsWith(run);
    for (const payload of sent)
      should((await received.until(isOurs)).payload === payload).be.true('all in their order');
    should(received.all.filter(isOurs).length).equal(sent.length);
  }

  /** Sends one message after another until it is enough, and sees each of them arrive. Resolves with how many came again. */
  async flows(isEnough: () => boolean): Promise<number> {
    const [outcomes, received] = [this.trial.inbox('outcome'), this.trial.inbox()];
    let count = 0;
    const send = (): void => this.trial.send({ payload: count++ });
    numbers(ON_THE_WAY).forEach(send);
    for (let done = 0; done < count; done++) {
      should((await outcomes.next()).sent).match({ state: 'accepted' });
      if (!isEnough()) send();
    }
    await received.distinct(count);
    return received.all.length - count;
  }

  /** Why it does not come to a connection, in the words of the log. */
  async refused(): Promise<string> {
    should(await this.trial.settled('sender')).equal('refused');
    return this.trial.warnings('broker').at(-1)!;
  }

  async end(): Promise<void> {
    await this.trial?.end();
    await Promise.all([...this.#helpers].map((one) => one.stop()));
    this.#helpers.clear();
  }
}

const PROXY_LOGIN = { user: 'me', password: secretOf('proxy password') };
const PROXY_CREDENTIALS = { proxy: { username: PROXY_LOGIN.user, password: PROXY_LOGIN.password } };

function byNode({ host, port }: HttpProxy, noproxy: string[] = []): NodeConfig {
  return { id: 'proxy', type: 'http proxy', url: `http://${host}:${port}`, noproxy };
}

/** For the environment, which has no other place for the login. */
function urlOf({ host, port }: HttpProxy): string {
  return `http://${PROXY_LOGIN.user}:${PROXY_LOGIN.password}@${host}:${port}`;
}

/** A suite with a server of its own. */
function reaching(
  name: string,
  suite: (place: Place) => void,
  start = (peer: Peer) => peer.kind.start({ queues: [{ name: QUEUE }], topics: [] }),
): void {
  describe(`reaching ${name}`, function () {
    this.timeout(30_000);
    const place = new Place(peerNamed(name));
    before(async function () {
      this.timeout(300_000); // the first time, it is fetched
      await needed(this, name, () => place.peer.kind.prepare());
      place.broker = await start(place.peer);
      await helper.startServer();
    });
    after(async () => {
      if (!place.broker) return;
      await helper.stopServer();
      await place.broker.stop();
    });
    beforeEach(() => {
      place.trial = new Trial(place.peer, place.broker);
    });
    afterEach(() => place.end());
    suite(place);

    // A suite within comes after all tests.
    describe('in all these ways', () => {
      it('leaves nothing behind', async () => {
        await place.trial.depth(QUEUE, 0);
      });
    });
  });
}

/** Both take AMQP over WebSocket at any path. */
function webSockets(place: Place): void {
  it('sends and receives over WebSocket', async () => {
    await place.load({ endpoint: { connectto: 'urls', urls: place.url('ws') } });
    await place.carries(LARGE);
  });

  it('takes a URL in the field of the server, with a path', async () => {
    await place.load({ endpoint: { host: `${place.url('ws')}/some/where?for=us`, port: '' } });
    await place.carries();
  });

  it('sends and receives over WebSocket with TLS', async () => {
    await place.load({ endpoint: place.webSocket('wss') }, place.trial.tls());
    await place.carries(LARGE);
  });

  it('says that the server of a WebSocket is not trusted', async () => {
    await place.load({ endpoint: { connectto: 'urls', urls: place.url('wss') } });
    should(await place.refused()).match(/certificate is not trusted/);
  });
}

reaching('ActiveMQ Artemis', (place) => {
  it('logs in by SCRAM where there is nothing else', async () => {
    const tap = await place.tap(place.broker.scramPort);
    await place.load({ endpoint: { port: tap.port } });
    await place.carries();
    should(tap.heard('SCRAM-SHA-512')).be.true('the strongest that the server has');
  });

  for (const sasl of ['SCRAM-SHA-256', 'SCRAM-SHA-512']) {
    it(`logs in by ${sasl} when it is chosen`, async () => {
      const tap = await place.tap(place.broker.scramPort);
      await place.load({ endpoint: { port: tap.port, sasl } });
      await place.carries();
      should(tap.heard(sasl)).be.true();
    });
  }

  it('says that the password is wrong, by SCRAM', async () => {
    await place.load({
      endpoint: { port: place.broker.scramPort },
      login: { user: 'guest', pass: secretOf('wrong password') },
    });
    should(await place.refused()).match(/login refused/);
  });

  it('says which mechanisms the server has when it does not have the chosen one', async () => {
    await place.load({ endpoint: { port: place.broker.scramPort, sasl: 'PLAIN' } });
    should(await place.refused()).match(/SCRAM-SHA-256.*PLAIN/);
  });

  webSockets(place);

  it('logs in by client certificate over WebSocket', async () => {
    const endpoint = { ...place.webSocket('wss', place.broker.tlsPort), sasl: 'EXTERNAL' };
    await place.load({ endpoint, login: NOBODY }, place.trial.tls('client'));
    await place.carries();
  });

  describe('by way of an HTTP proxy', () => {
    before(async function () {
      await needed(this, 'an HTTP proxy', () => HttpProxy.prepare());
    });

    for (const scheme of ['ws', 'wss'] as const) {
      it(`goes through one that a node names (${scheme})`, async () => {
        const proxy = await place.proxy();
        await place.load(
          { endpoint: { ...place.webSocket(scheme), proxy: 'proxy' } },
          byNode(proxy),
          place.trial.tls(),
        );
        await place.carries(LARGE);
        should(proxy.connects).deepEqual([place.name(scheme)]);
      });

      it(`goes through one that asks for a password (${scheme})`, async () => {
        const proxy = await place.proxy({ login: PROXY_LOGIN });
        await place.load(
          { endpoint: { ...place.webSocket(scheme), proxy: 'proxy' }, credentials: PROXY_CREDENTIALS },
          byNode(proxy),
          place.trial.tls(),
        );
        await place.carries();
        should(proxy.connects).deepEqual([place.name(scheme)]);
      });
    }

    it('says that the proxy asks for a password', async () => {
      const proxy = await place.proxy({ login: PROXY_LOGIN });
      await place.load({ endpoint: { ...place.webSocket('wss'), proxy: 'proxy' } }, byNode(proxy), place.trial.tls());
      should(await place.refused()).match(/proxy asks for a user name and password/);
    });

    it('says that the proxy does not let it through', async () => {
      const proxy = await place.proxy({ ports: [443] });
      await place.load({ endpoint: { ...place.webSocket('wss'), proxy: 'proxy' } }, byNode(proxy), place.trial.tls());
      should(await place.refused()).match(/proxy refuses to connect/);
    });

    it('says that the proxy cannot be reached', async () => {
      const proxy = await place.proxy();
      await proxy.stop();
      await place.load({ endpoint: { ...place.webSocket('wss'), proxy: 'proxy' } }, byNode(proxy), place.trial.tls());
      should(await place.refused()).match(/proxy cannot be reached/);
    });

    it('goes past it to a server that is excepted', async () => {
      const proxy = await place.proxy();
      await place.load(
        { endpoint: { ...place.webSocket('ws'), proxy: 'proxy' } },
        byNode(proxy, [place.broker.host]),
        place.trial.tls(),
      );
      await place.carries();
      should(proxy.connects).be.empty();
    });

    describe('that the environment names', () => {
      const NAMES = ['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'NO_PROXY'].flatMap((name) => [
        name,
        name.toLowerCase(),
      ]);
      const kept = Object.fromEntries(NAMES.map((name) => [name, process.env[name]]));

      beforeEach(() => {
        for (const name of NAMES) delete process.env[name];
      });
      afterEach(() => {
        for (const name of NAMES) {
          if (kept[name] === undefined) delete process.env[name];
          else process.env[name] = kept[name];
        }
      });

      for (const [scheme, name] of [
        ['ws', 'HTTP_PROXY'],
        ['wss', 'https_proxy'],
      ] as const) {
        it(`goes through it (${name})`, async () => {
          const proxy = await place.proxy({ login: PROXY_LOGIN });
          process.env[name] = urlOf(proxy);
          await place.load({ endpoint: place.webSocket(scheme) }, place.trial.tls());
          await place.carries();
          should(proxy.connects).deepEqual([place.name(scheme)]);
        });
      }

      it('goes past it where NO_PROXY says so', async () => {
        const proxy = await place.proxy({ login: PROXY_LOGIN });
        process.env['HTTPS_PROXY'] = urlOf(proxy);
        process.env['NO_PROXY'] = place.broker.host;
        await place.load({ endpoint: place.webSocket('wss') }, place.trial.tls());
        await place.carries();
        should(proxy.connects).be.empty();
      });
    });
  });
});

reaching('Qpid Broker-J', (place) => {
  it('takes SCRAM where the server has PLAIN as well', async () => {
    const tap = await place.tap();
    await place.load({ endpoint: { port: tap.port } });
    await place.carries();
    should(tap.heard('SCRAM-SHA-256')).be.true();
    should(tap.heard('\0guest\0guest')).be.false();
  });

  for (const [sasl, port] of [
    ['PLAIN', 'port'],
    ['SCRAM-SHA-1', 'port'],
    ['SCRAM-SHA-256', 'scramPort'],
  ] as const) {
    it(`logs in by ${sasl} when it is chosen`, async () => {
      const tap = await place.tap(place.broker[port]);
      await place.load({ endpoint: { port: tap.port, sasl } });
      await place.carries();
      should(tap.heard(sasl)).be.true();
    });
  }

  it('says that the password is wrong, by SCRAM', async () => {
    await place.load({
      endpoint: { port: place.broker.scramPort },
      login: { user: 'guest', pass: secretOf('wrong password') },
    });
    should(await place.refused()).match(/login refused/);
  });

  it('logs in by client certificate when that is chosen', async () => {
    const endpoint = { port: place.broker.tlsPort, usetls: true, tls: 'tls', sasl: 'EXTERNAL' };
    await place.load({ endpoint, login: NOBODY }, place.trial.tls('client'));
    await place.carries();
  });

  webSockets(place);
});

const issuer = new Issuer();

for (const [name, kind, isInPlace] of [
  ['RabbitMQ 4.0', rabbitmq40, false],
  ['RabbitMQ 4.3', rabbitmq43, true],
] satisfies [string, RabbitMQKind, boolean][]) {
  const tests = (place: Place): void => {
    /** Of an endpoint that logs in with tokens of a flow. */
    const byToken = (port = place.broker.port): Reach => ({
      endpoint: { port, login: 'flow', tokenuse: 'password' },
      login: NOBODY,
    });
    const give = (token: unknown) => place.trial.send({ action: 'token', token });

    it('logs in by client certificate when that is chosen', async () => {
      const endpoint = { port: place.broker.tlsPort, usetls: true, tls: 'tls', sasl: 'EXTERNAL' };
      await place.load({ endpoint, login: NOBODY }, place.trial.tls('client'));
      await place.carries();
    });

    it('logs in with a token that a flow gives', async () => {
      await place.load(byToken());
      give(issuer.token(60));
      await place.carries();
    });

    it(
      isInPlace
        ? 'renews the token on the connection that it has, while messages flow'
        : 'logs in with the new token on a new connection before the old one ends, and loses nothing',
      async () => {
        const tap = await place.tap();
        await place.load(byToken(tap.port));
        give(issuer.token(3));
        await place.carries();
        const told = place.trial.warnings('broker').length; // that there was no token yet
        give(issuer.token(60));
        const end = Date.now() + 3500; // of the first token, and a little more
        const again = await place.flows(() => Date.now() > end);
        should(tap.said.length).equal(isInPlace ? 1 : 2);
        should(place.trial.warnings('broker').slice(told)).be.empty();
        if (isInPlace) should(again).equal(0);
      },
    );

    if (!isInPlace) return;

    it('logs in with an answer of a token server that a flow gives', async () => {
      await place.load(byToken());
      give({ access_token: issuer.token(60), token_type: 'bearer', expires_in: 60 });
      await place.carries();
    });

    it('says that a token has expired, and goes on with a new one', async () => {
      await place.load(byToken());
      give(issuer.token(-60));
      await place.trial.warned('broker', /token .*has expired/);
      give(issuer.token(60));
      await place.carries();
    });

    it('says that a token is refused, and goes on with another one', async () => {
      await place.load(byToken());
      give(new Issuer().token(60));
      await place.trial.warned('broker', /the login with the token was refused/); // the server takes its time to
      give(issuer.token(60));
      await place.carries();
    });

    it('waits for a new token when the server ends the connection since the old one has expired', async () => {
      await place.load(byToken());
      give(issuer.token(2));
      await place.carries();
      await place.trial.warned('broker', /expired/);
      give(issuer.token(60));
      await place.carries();
    });

    it('keeps a token to itself that the server repeats in its words', async () => {
      await place.load(byToken());
      give(issuer.token(60));
      await place.carries();
      give(secretOf('key')); // no JWT, which is what it repeats; audit.ts looks for it
      await place.trial.warned('broker', /credential|login with the token/);
      give(issuer.token(60));
      await place.carries();
    });

    it('logs in anew when the server refuses to take a new token in place, and loses nothing', async () => {
      const tap = await place.tap();
      await place.load(byToken(tap.port));
      give(issuer.token(60));
      await place.carries();
      give(issuer.token(60, { sub: 'somebody else' })); // it takes no other user there
      await place.flows(() => tap.said.length === 2);
    });
  };
  reaching(name, tests, () => kind.startWith({ queues: [QUEUE], tokenKey: issuer.key }));
}
