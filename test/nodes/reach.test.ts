// Each way in which an endpoint cannot be reached as it is set, in the words that users read: status and log.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import should from 'should';
import { Broker, type BrokerOptions } from '../../broker/broker';
import { HttpProxy } from '../doubles/http-proxy';
import { type Behaviour, MisbehavingTokenServer } from '../doubles/misbehaving-token-server';
import { endpointNode, flow, helper, node, nodes, status } from '../flow';
import { coreNode, type NodeConfig } from '../node-red';
import { secretOf } from '../secrets';
import { logged, texts, translate, WARN } from '../texts';

const PASSWORD = secretOf('password');
const LOGIN = { user: 'anna', pass: PASSWORD };
const OAUTH = { login: 'oauth', clientid: 'node-red', tokenuse: 'password' };
const path = (name: string) => join(__dirname, '..', 'fixtures', name);
const fixture = (name: string) => readFileSync(path(name));
const TLS = { key: fixture('server.key'), cert: fixture('server.crt'), ca: fixture('ca.crt') };

const listed = (text: string, more: object = {}) => ({ connectto: 'urls', urls: text, ...more });
const webSocket = (port: number, more: object = {}) => ({ host: `ws://127.0.0.1:${port}/`, ...more });
const proxyNode = (url: string) => ({ id: 'proxy', type: 'http proxy', z: '', url, noproxy: [] });

async function load(properties: object, credentials: object = {}, others: NodeConfig[] = []): Promise<void> {
  helper.settings({ amqpEndpointReconnectTime: 20, amqpEndpointLoginRetryTime: 40 });
  const core = [coreNode('network/05-tls'), coreNode('network/06-httpproxy')];
  const configs = flow(...others, endpointNode(5672, properties), node('amqp-sender'));
  await helper.load([texts, ...core, ...nodes], configs, { broker: credentials });
}

/** The status shows a reason, whose remedy stands in the log behind what is wrong, once. */
async function told(reason: string, why: RegExp): Promise<void> {
  const shown = await status('sender', `.reason.${reason}`);
  should(shown).match({ fill: 'red', shape: 'ring' });
  const [line, ...more] = logged(WARN);
  should(line).match(why);
  should(line).endWith(translate(`amqp-endpoint.log.remedy.${reason}`));
  should(more).deepEqual([]);
}

describe('an endpoint that is not reached', () => {
  const cleanups: (() => unknown)[] = [];

  before(() => helper.startServer());
  after(() => helper.stopServer());
  afterEach(async () => {
    await helper.unload();
    for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
  });

  async function start(options?: BrokerOptions): Promise<Broker> {
    const broker = await Broker.start(options);
    cleanups.push(() => broker.stop());
    return broker;
  }

  async function proxyOf(options?: Parameters<typeof HttpProxy.start>[0]): Promise<HttpProxy> {
    const proxy = await HttpProxy.start(options);
    cleanups.push(() => proxy.stop());
    return proxy;
  }

  async function tokenServer(behaviour: Behaviour, tls = false): Promise<MisbehavingTokenServer> {
    const server = await MisbehavingTokenServer.start(behaviour, { tls });
    cleanups.push(() => server.stop());
    return server;
  }

  describe('because a setting is wrong, says which', () => {
    for (const [what, properties, label, why] of [
      ['an unknown scheme', { host: 'mqtt://broker' }, '.*', /is a URL, but not one that begins with amqp/],
      ['a URL that is none', listed('amqp://a amqp://'), 'URLs', /number 2 is not a valid URL/],
      ['no URL at all', listed(' '), 'URLs', /is missing/],
      ['servers with and without TLS', listed('amqp://a\namqps://b'), 'URLs', /must use TLS, or none/],
      ['a path that is not sent', { host: 'ws://a/b#c' }, '.*', /has a #/],
      ['a proxy that is none', { proxy: 'proxy' }, 'Proxy', /has no URL of http/],
      ['a mechanism without its user', { sasl: 'SCRAM-SHA-256' }, 'Mechanism', /needs a user name/],
      ['an unknown mechanism', { sasl: 'GSSAPI' }, 'Mechanism', /is not one of none, ANONYMOUS/],
      [
        'a token in a header without WebSocket',
        { ...OAUTH, tokenuse: 'header', tokenurl: 'https://a/' },
        '.*',
        /only a WebSocket has headers/,
      ],
      ['a token URL that is none', { ...OAUTH, tokenurl: 'login' }, 'Token URL', /is not a URL of https/],
      ['a token URL without TLS', { ...OAUTH, tokenurl: 'http://login.example/' }, 'Token URL', /without TLS/],
      ['no client ID', { login: 'oauth', tokenurl: 'https://a/' }, '.*', /is missing/],
      [
        'a parameter that is none',
        { ...OAUTH, tokenurl: 'https://a/', tokenparams: 'a' },
        '.*',
        /line 1 is not "name=value"/,
      ],
      ['an identity without a resource', { login: 'identity' }, '.*', /is missing/],
      ['pauses that are none', { firstpause: '-1' }, 'First pause', /is not a number from 0.01 to 3600/],
    ] as const) {
      it(`with ${what}`, async () => {
        const proxy = { id: 'proxy', type: 'http proxy', z: '', url: 'proxy.example', noproxy: [] };
        await load(properties, {}, [proxy]);
        const { text } = await status('sender', '');
        should(text).match(/error: |:amqp-endpoint.status.fault/);
        const [line, ...more] = logged(WARN);
        should(line)
          .match(new RegExp(`^${label} \\(\\w+\\): `))
          .and.match(why);
        should(more).deepEqual([]);
      });
    }

    it('with headers that are none, which it does not repeat', async () => {
      await load({ host: 'ws://127.0.0.1:1/' }, { headers: `X-Key: a\n${secretOf('header')}` });
      should(logged(WARN)).match([/line 2 is not "Name: value"/]);
    });
  });

  describe('because of the login, says why', () => {
    it('when the server does not offer the mechanism', async () => {
      const { port } = await start({ users: { anna: PASSWORD }, mechanisms: ['PLAIN'] });
      await load({ port, sasl: 'SCRAM-SHA-256' }, LOGIN);
      await told('mechanism', /^not connected to .*\(PLAIN\).*\(SCRAM-SHA-256\)/);
    });

    it('when the server cannot prove that it knows the password', async () => {
      const scram = { fault: 'signature' } as const;
      const { port } = await start({ users: { anna: PASSWORD }, mechanisms: ['SCRAM-SHA-256'], scram });
      await load({ port }, LOGIN);
      await told('unverified', /could not prove that it knows the password/);
    });

    it('when the token is wrong', async () => {
      const tokens = await tokenServer('good');
      const { port } = await start({ mechanisms: ['PLAIN'], tokens: new Set() });
      await load({ port, ...OAUTH, tokenurl: tokens.tokenUrl });
      await status('sender', 'login refused');
      should(logged(WARN)).match([/the login with the token was refused/]);
    });

    it('when it waits for a token of the flow', async () => {
      const { port } = await start();
      await load({ port, login: 'flow' });
      await told('no-token', /no flow has given a token yet/);
    });

    it('when the token server refuses the client', async () => {
      const tokens = await tokenServer('invalid_client');
      await load({ ...OAUTH, tokenurl: tokens.tokenUrl }, { clientsecret: secretOf('client secret') });
      await told('token-refused', /gives no token: invalid_client/);
    });

    for (const [behaviour, why] of [
      ['html', /answers with status 200 and text\/html, not with JSON/],
      ['silent', /does not answer within 1 s/],
      ['500', /answers with status 500/],
    ] as const) {
      it(`when the token server answers with ${behaviour}`, async () => {
        const tokens = await tokenServer(behaviour);
        await load({ ...OAUTH, tokenurl: tokens.tokenUrl, connecttimeout: 1 });
        await told('token-server', why);
      });
    }

    it('when the token server is down, or not to be trusted', async () => {
      const tokens = await tokenServer('good', true);
      await load({ ...OAUTH, tokenurl: tokens.tokenUrl });
      await told('token-server', /cannot be reached: (SELF_SIGNED|UNABLE_TO_VERIFY)/);
      await helper.unload();
      await tokens.stop();
      await load({ ...OAUTH, tokenurl: tokens.tokenUrl });
      await told('token-server', /cannot be reached: ECONNREFUSED/);
    });

    it('when the WebSocket refuses it', async () => {
      const broker = await start({ websocket: { bearer: true }, tokens: new Set() });
      const tokens = await tokenServer('good');
      const urls = `ws://127.0.0.1:${broker.port}/`;
      await load({ connectto: 'urls', urls, ...OAUTH, tokenuse: 'header', tokenurl: tokens.tokenUrl });
      await status('sender', 'login refused');
      should(logged(WARN)).match([/the server answers with status 401/]);
    });

    it('when the server wants a login where there is to be none', async () => {
      const server = net.createServer((socket) => {
        socket
          .on('error', () => {})
          .resume()
          .end('AMQP\x03\x01\x00\x00');
      });
      cleanups.push(() => server.close());
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      await load({ port: (server.address() as net.AddressInfo).port, sasl: 'none' });
      await told('login-expected', /insists on a login by SASL/);
    });
  });

  describe('by WebSocket', () => {
    it('says that there is no WebSocket at the path', async () => {
      const broker = await start({ websocket: { path: '/amqp' } });
      await load(webSocket(broker.port));
      await told('no-websocket', /takes no AMQP over WebSocket there/);
    });

    it('says that the server speaks another protocol by it', async () => {
      const broker = await start({ websocket: { protocols: ['mqtt'] } });
      await load(webSocket(broker.port));
      await told('no-websocket', /takes no AMQP over WebSocket there/);
    });

    it('says that the certificate is not trusted, or of another name', async () => {
      const broker = await start({ websocket: true, tls: TLS });
      await load({ host: `wss://127.0.0.1:${broker.port}/` });
      await told('untrusted', /certificate is not trusted/);
      await helper.unload();
      const files = { cert: '', key: '', ca: path('ca.crt'), certname: '', keyname: '', caname: '' };
      const tls = { id: 'tls', type: 'tls-config', z: '', ...files, servername: 'other', verifyservercert: true };
      await load({ host: `wss://127.0.0.1:${broker.port}/`, tls: 'tls' }, {}, [tls]);
      await told('wrong-name', /certificate is for another name/);
    });

    it('says that the proxy asks for a password', async () => {
      const proxy = await proxyOf({ user: 'p', password: secretOf('proxy password') });
      await load(webSocket(5672, { proxy: 'proxy' }), {}, [proxyNode(proxy.url)]);
      await told('proxy-login', /the proxy asks for a user name and password/);
    });

    it('says that the proxy refuses to connect', async () => {
      const proxy = await proxyOf();
      proxy.refuse = 403;
      await load(webSocket(5672, { proxy: 'proxy' }), {}, [proxyNode(proxy.url)]);
      await told('proxy-refused', /the proxy refuses to connect/);
    });

    it('says that the proxy is away', async () => {
      const proxy = await proxyOf();
      await proxy.stop();
      await load(webSocket(5672, { proxy: 'proxy' }), {}, [proxyNode(proxy.url)]);
      await told('proxy-unreachable', /the proxy cannot be reached/);
    });
  });

  describe('because of a redirect', () => {
    it('says that it goes round', async () => {
      const broker = await start();
      broker.redirect = { 'network-host': '127.0.0.1', port: broker.port };
      await load({ port: broker.port });
      await told('redirect-loop', /redirected 5 times in a row/);
    });

    it('says that it leads out of TLS', async () => {
      const broker = await start({ tls: TLS });
      broker.redirect = { 'network-host': 'localhost', port: 5672, scheme: 'amqp' };
      await load({ host: 'localhost', port: broker.port, usetls: true, rejectUnauthorized: false });
      await told('redirect-plain', /redirected to amqp:\/\/localhost:5672, which is without TLS/);
    });

    it('says that it leads to a server that is not listed', async () => {
      const broker = await start({ users: { anna: PASSWORD } });
      broker.redirect = { 'network-host': 'elsewhere.example', port: 5672 };
      await load({ port: broker.port }, LOGIN);
      await told('redirect-unlisted', /elsewhere\.example:5672, which is not in the list/);
    });
  });

  it('says that it has given up', async () => {
    const broker = await start();
    await broker.stop();
    await load({ port: broker.port, giveup: '0.1' });
    should(await status('sender', '.reason.given-up')).match({ fill: 'red', shape: 'ring' });
    should(logged(WARN).at(-1)).match(/given up after 0.1 s: cannot connect: connection refused/);
  });

  it('but one of its list is, says which one', async () => {
    const gone = await start();
    await gone.stop();
    const there = await start();
    const urls = [gone, there].map(({ port }) => `amqp://127.0.0.1:${port}`);
    await load({ connectto: 'urls', urls: urls.join('\n') });
    should(await status('sender', urls[1]!)).match({ fill: 'green', shape: 'dot', text: `connected to ${urls[1]}` });
    should(logged(40).filter((line) => line.includes('connected to'))).deepEqual([`connected to ${urls[1]}`]);
    await there.stop();
    await status('sender', '.reason.refused');
    should(logged(WARN).at(-1)).match(new RegExp(`not connected to ${urls.join(', ')}: cannot connect to any of 2`));
  });
});
