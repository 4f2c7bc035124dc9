import type { Node, NodeAPI } from 'node-red';
import should from 'should';
import type { ConnectingOptions } from '../../../nodes/flow/endpoint';
import { EndpointSettings } from '../../../nodes/flow/endpoint-options';
import { Settings } from '../../../nodes/flow/settings';
import { savedNode } from '../../brokers/saved';
import { secretIn, secretOf } from '../../secrets';

const KEY = secretOf('connection key');
const PASSWORD = secretOf('password');
const SIGNATURE = `SharedAccessSignature sr=a&sig=${KEY}&se=1&skn=n`;
const TLS = { valid: true, addTLSOptions: (options: object) => void Object.assign(options, { ca: 'ca' }) };
const NODES: Record<string, object> = {
  tls: TLS,
  broken: { ...TLS, valid: false },
  proxy: {
    url: 'http://proxy.example:3128',
    noproxy: ['a.example'],
    credentials: { username: 'p', password: PASSWORD },
  },
  'no proxy': { url: 'proxy.example' },
};

/** What an endpoint makes of its properties and credentials. */
function optionsOf(properties: object = {}, credentials: object = {}, inSettings: object = {}) {
  const config = { ...savedNode('amqp-endpoint', { id: 'n' }), ...properties };
  const RED = {
    _: (key: string) => key.replace(/.*\./, ''),
    nodes: { getNode: (id: string) => NODES[id] },
    settings: { userDir: '/kept', ...inSettings },
    util: { getSetting: () => undefined },
  } as unknown as NodeAPI;
  const node = { id: 'n', credentials } as unknown as Node;
  const settings = new Settings(RED, node, config, 'amqp-endpoint');
  const options = new EndpointSettings(RED, node, settings, config as never).options({
    product: 'nodes',
  }) as ConnectingOptions;
  return { options, fault: settings.fault };
}

/** The options of properties of which none is wrong. */
function read(properties: object = {}, credentials: object = {}, inSettings: object = {}): ConnectingOptions {
  const { options, fault } = optionsOf(properties, credentials, inSettings);
  should(fault).equal(undefined);
  return options;
}

/** The field that is wrong, and why. */
const wrong = (properties: object, credentials: object = {}) => optionsOf(properties, credentials).fault?.message;

describe('the options of an endpoint', () => {
  it('have safe defaults, which a new endpoint of the editor has too', () => {
    const { containerId, ...options } = read();
    should(options).eql({
      servers: [{ host: 'localhost', port: 5672, isSecure: false }],
      order: 'listed',
      trustsNamed: false,
      tls: undefined,
      username: undefined,
      password: undefined,
      mechanism: undefined,
      headers: undefined,
      proxy: undefined,
      hostname: undefined,
      properties: { product: 'nodes' },
      isTraced: false,
      carriesTrace: false,
      isNamed: false,
      service: undefined,
      isAutomatic: true,
      connectTimeout: 10_000,
      idleTimeout: 30_000,
      closeTime: 5000,
      hasOneSession: undefined,
      giveUpAfter: undefined,
      backoff: { initial: 500, max: 30_000 },
      loginBackoff: { initial: 30_000, max: 30_000 },
      fault: undefined,
    });
    should(containerId).match(/^nodered_[\da-f]{16}_n$/);
  });

  describe('for servers', () => {
    it('take the list in place of host and port, each with the TLS of its scheme', () => {
      const urls = 'wss://one.example/amqp?x=1\nwss://two.example:8443';
      const { servers, order, tls } = read({ connectto: 'urls', urls, order: 'random', host: 'other', usetls: false });
      should(servers).eql([
        { host: 'one.example', port: 443, isSecure: true, path: '/amqp?x=1' },
        { host: 'two.example', port: 8443, isSecure: true, path: '/' },
      ]);
      should({ order, tls }).eql({ order: 'random', tls: { rejectUnauthorized: true } });
    });

    it('keep no login that a URL holds, but as the login', () => {
      const { servers, username, password } = read({ host: `amqp://anna:${PASSWORD}@broker` });
      should({ servers, username, password }).eql({
        servers: [{ host: 'broker', port: 5672, isSecure: false }],
        username: 'anna',
        password: PASSWORD,
      });
    });

    it('never drop TLS that was asked for, and take it from its configuration', () => {
      const { servers, tls } = read({ host: 'amqp://broker', usetls: true, tls: 'tls' });
      should({ servers, tls }).eql({ servers: [{ host: 'broker', port: 5672, isSecure: true }], tls: { ca: 'ca' } });
      should(wrong({ usetls: true, tls: 'broken' })).match(/the TLS configuration is not valid/);
      should(wrong({ usetls: true, tls: 'gone' })).match(/the TLS configuration is not valid/);
    });

    it('take the proxy with its login and its exceptions', () => {
      should(read({ proxy: 'proxy' }).proxy).eql({
        url: 'http://proxy.example:3128',
        username: 'p',
        password: PASSWORD,
        except: ['a.example'],
      });
      for (const proxy of ['gone', 'no proxy']) should(wrong({ proxy })).match(/has no URL of http/);
    });

    it('take headers of several lines, whose names may be written in any case', () => {
      const headers = `X-Key: ${KEY}\r\n\n  Accept : no\n`;
      should(read({}, { headers: `X-Key: ${KEY}\r\n\n Other:` }).headers).eql({ 'x-key': KEY, other: '' });
      should(wrong({}, { headers })).match(/line 2 is not "Name: value"/);
      should(secretIn(String(wrong({}, { headers })))).equal(undefined);
    });
  });

  it('take pauses from the form, else from settings.js', () => {
    const inSettings = { amqpEndpointReconnectTime: 20, amqpEndpointLoginRetryTime: 40, amqpEndpointCloseTime: 60 };
    should(read({}, {}, inSettings)).match({
      backoff: { initial: 20, max: 30_000 },
      loginBackoff: { initial: 40, max: 40 },
      closeTime: 60,
    });
    const pauses = { firstpause: '60', longestpause: '5', giveup: '90' };
    should(read(pauses, {}, inSettings)).match({ backoff: { initial: 60_000, max: 60_000 }, giveUpAfter: 90_000 });
    should(read({ giveup: 0 }).giveUpAfter).equal(undefined);
    should(optionsOf({}, {}, { amqpEndpointCloseTime: 'x' }).fault?.message).match(/settings\.js .*milliseconds/);
  });

  it('have one session where a person says so', () => {
    should(read({ sessions: 'one' }).hasOneSession).equal(true);
  });

  describe('for the login', () => {
    it('take the credentials before what stands in a URL', () => {
      const login = { user: 'berta', pass: KEY };
      should(read({ host: `amqp://anna:${PASSWORD}@broker` }, login)).match({ username: 'berta', password: KEY });
    });

    it('narrow the mechanisms to one', () => {
      should(read({ sasl: 'EXTERNAL' }).mechanism).equal('EXTERNAL');
      should(wrong({ sasl: 'PLAIN' })).match(/needs a user name/);
    });

    for (const tokenuse of ['password', 'xoauth2'] as const) {
      it(`use a token of OAuth 2 as ${tokenuse}`, () => {
        const oauth = { login: 'oauth', tokenurl: 'https://login.example/token', clientid: 'id', tokenuse };
        const options = read(oauth, { user: 'anna', pass: 'left over', clientsecret: KEY });
        should(options).match({ username: 'anna', tokenUse: tokenuse });
        should(options.tokens!.isGiven).equal(false);
        should(options).not.have.property('password');
        should(options.flowTokens).equal(undefined);
      });
    }

    it('send a token as header by WebSocket only', () => {
      const identity = { login: 'identity', scope: 'https://a.example', tokenuse: 'header' };
      should(wrong(identity)).match(/only a WebSocket has headers/);
      should(read({ ...identity, host: 'wss://broker/' }).tokenUse).equal('header');
    });

    it('show no token to Azure IoT Hub, which would want it in another form', () => {
      const identity = { login: 'identity', scope: 'https://a.example', tokenuse: 'cbs' };
      should(wrong({ ...identity, peer: 'iothub' })).match(/not for Azure IoT Hub/);
      should(read({ ...identity, peer: 'servicebus' }).authorize).be.a.Function();
    });

    it('let a flow give the token', () => {
      const options = read({ login: 'flow' });
      should(options.flowTokens!.isGiven).equal(true);
      should(options.tokens).equal(options.flowTokens);
    });

    it('open addresses one by one with a shared key, a signature, or a token, and log in as nobody', () => {
      for (const [properties, credentials] of [
        [{ login: 'sas' }, { user: 'policy', pass: KEY }],
        [{ login: 'sas' }, { user: 'policy', pass: SIGNATURE }],
        [{ login: 'sas' }, { pass: SIGNATURE }],
        [{ host: `Endpoint=sb://ns.example/;SharedAccessKeyName=policy;SharedAccessKey=${KEY}` }, {}],
        [{ host: `Endpoint=sb://ns.example/;SharedAccessSignature=${SIGNATURE}` }, {}],
        [{ login: 'flow', tokenuse: 'cbs' }, {}],
      ]) {
        const options = read(properties, credentials);
        should(options.mechanism).equal('ANONYMOUS');
        should(options).have.property('authorize').which.is.a.Function();
        for (const name of ['username', 'password', 'tokens']) should(options).not.have.property(name);
      }
      for (const credentials of [{}, { user: 'policy' }, { pass: KEY }])
        should(wrong({ login: 'sas' }, credentials)).match(/^key \(pass\): needs a key and its name, or a signature/);
    });
  });
});
