// The forms without a browser: what their validators accept, and the texts they name. What a person sees of them is in test/editor.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createContext, runInContext } from 'node:vm';
import should from 'should';
import { filterOf } from '../../nodes/flow/filters';
import { isLoopback, serverOf, serversOf } from '../../nodes/flow/server';
import { NUMBERS } from '../../nodes/flow/settings';
import { nodeRedDir } from '../node-red';
import { secretIn, secretOf } from '../secrets';

const root = join(__dirname, '..', '..');
/** Numbers of an endpoint that listens: another has no such rows. */
const LISTENING = ['maxclients', 'maxlinks', 'maxmemory'];
const TYPES = ['amqp-endpoint', 'amqp-receiver', 'amqp-requester', 'amqp-responder', 'amqp-sender'];

type Verdict = true | string;
interface Definition {
  defaults: Record<
    string,
    { value?: unknown; label?: string; validate?: (this: object, value: unknown, opt: object) => Verdict }
  >;
  credentials?: Definition['defaults'];
  label(this: object): string;
}

const fromNodeRed = createRequire(join(nodeRedDir, 'package.json'));
const catalogueOf = (module: string, file: string): object =>
  JSON.parse(readFileSync(join(fromNodeRed.resolve(`${module}/package.json`), '..', 'locales/en-US', file), 'utf8'));
const core = catalogueOf('@node-red/nodes', 'messages.json');
const editor = catalogueOf('@node-red/editor-client', 'editor.json');
const ours = Object.fromEntries(
  TYPES.flatMap((type) =>
    Object.entries(JSON.parse(readFileSync(join(root, 'locales/en-US', `${type}.json`), 'utf8')) as object),
  ),
);

/** What a key stands for: a text, or the group of texts that a key with a dot at its end begins. */
function lookUp(key: string): unknown {
  const [, namespace = '', path = ''] = /^(?:(.+):)?(.*?)\.?$/.exec(key)!;
  const catalogue = namespace === 'node-red' ? core : { ...editor, ...ours };
  return path
    .split('.')
    .reduce<unknown>((value, name) => (value as Record<string, unknown> | undefined)?.[name], catalogue);
}

function text(key: string, values: Record<string, unknown> = {}): string {
  return String(lookUp(key)).replace(/__(\w+)__/g, (_match, name: string) => String(values[name]));
}

const { formOf } = createRequire(__filename)(join(root, 'scripts', 'form.mjs')) as {
  formOf: (type: string) => string;
};
const html = Object.fromEntries(TYPES.map((type) => [type, formOf(type)]));
const shared = readFileSync(join(root, 'resources', 'forms.js'), 'utf8');
const forms: Record<string, Definition> = {};
/** Configuration nodes. */
const CONFIG: Record<string, object> = {
  tls: { id: 'tls' },
  servicebus: { id: 'servicebus', peer: 'servicebus' },
  eventhubs: { id: 'eventhubs', peer: 'eventhubs' },
  listen: { id: 'listen', role: 'listen' },
};
/** What is known of a kind of server. */
interface Peer {
  known?: RegExp;
  kinds?: string[];
  hint?: string;
  both?: Record<string, (name: string) => string>;
  source?: Peer['both'];
  target?: Peer['both'];
}
const editorStub = {
  RED: {
    _: text,
    nodes: {
      registerType: (type: string, definition: Definition) => (forms[type] = definition),
      node: (id: string) => CONFIG[id] ?? null,
    },
    // As if all that the editor itself checks were right.
    utils: { validateTypedProperty: () => true, validatePropertyExpression: (name: string) => !/\s/.test(name) },
  },
  // No form is open.
  $: () => [],
  window: {},
  amqp10: { peers: {} as Record<string, Peer> },
};
editorStub.window = editorStub;
createContext(editorStub);
for (const type of TYPES)
  runInContext(/<script type="text\/javascript">(.*?)<\/script>/s.exec(html[type]!)![1]!, editorStub);
// Last: the forms have to load without it.
runInContext(shared, editorStub);

function validate(type: string, name: string, value: unknown, properties: object = {}): Verdict {
  const { defaults, credentials } = forms[type]!;
  const { validate: check, label } = { ...defaults, ...credentials }[name]!;
  // With one parameter it could not give a reason.
  should(check).have.length(2);
  return check!.call({ _: text, ...properties, [name]: value }, value, { label });
}

function accountsOf(...accounts: (object | undefined)[]): string {
  return JSON.stringify(accounts);
}

/** The text beside a field. */
function labelOf(type: string, name: string): string {
  const label = new RegExp(`<label\\s+for="node-(?:config-)?input-${name}".*?data-i18n="([^"]+)"`, 's');
  return text(label.exec(html[type]!)![1]!);
}

/** What an endpoint is called in the editor. */
function nodeLabel(properties: object): string {
  return forms['amqp-endpoint']!.label.call({ port: 5672, _: text, ...properties });
}

describe('The forms', () => {
  for (const [type, numbers] of Object.entries(NUMBERS)) {
    for (const [name, { min, max, value: number, isWhole }] of Object.entries(numbers)) {
      it(`take for ${name} of ${type} what the runtime takes, and say what is wrong with all else`, () => {
        const value = number ?? '';
        const role = LISTENING.includes(name) ? 'listen' : 'connect';
        should(forms[type]!.defaults[name]!.value).equal(value);
        const right = [
          value,
          min,
          max,
          String(min),
          String(max),
          undefined,
          ...(value === '' ? [' '] : []),
          ...(isWhole ? [] : [min + 0.5, ' 2.5 ']),
        ];
        for (const each of right) should(validate(type, name, each, { role })).equal(true, String(each));
        const outside = ['-5', '1e9'].filter((one) => Number(one) < min || Number(one) > max);
        const wrong = [min - (isWhole ? 1 : 0.001), max + 1, 'abc', ...outside, ...(isWhole ? [min + 0.5] : [])];
        const blank = value === '' ? [] : ['', ' '];
        for (const each of [...wrong, ...blank]) {
          const verdict = validate(type, name, each, { role });
          should(typeof verdict).equal('string', `"${each}"`);
          should(verdict)
            .startWith(`${labelOf(type, name)}: `)
            .and.containEql(`from ${min} to ${max}`);
        }
      });
    }
  }

  it('have no other numbers', () => {
    for (const type of TYPES) {
      const { outputs: _ofNodeRed, ...defaults } = forms[type]!.defaults;
      const numbers = Object.entries(defaults).filter(([, { value }]) => typeof value === 'number');
      Object.keys(NUMBERS[type as keyof typeof NUMBERS]).should.containDeep(numbers.map(([name]) => name));
    }
  });

  it('send durable messages where nothing would notice that they are lost', () => {
    const durable = TYPES.map((type) => [type, forms[type]!.defaults['durablemessages']?.value]);
    Object.fromEntries(durable.filter(([, value]) => value !== undefined)).should.deepEqual({
      'amqp-requester': false,
      'amqp-responder': true,
      'amqp-sender': true,
    });
  });

  describe('take as the server', () => {
    const KEYED = `SharedAccessKeyName=root;SharedAccessKey=${secretOf('key')}=`;
    const understood: Record<string, string> = {
      localhost: 'localhost:5672',
      ' broker.example ': 'broker.example:5672',
      my_broker: 'my_broker:5672',
      '192.0.2.1': '192.0.2.1:5672',
      '::1': '[::1]:5672',
      'fe80::1%eth0': '[fe80::1%eth0]:5672',
      '[::1]': '[::1]:5672',
      '[::1]:5673': '[::1]:5673',
      'broker:5673': 'broker:5673',
      '${HOST}': '${HOST}:5672',
      'broker-${NUMBER}.example': 'broker-${NUMBER}.example:5672',
      '${HOST}:${PORT}': '${HOST}:${PORT}',
      'amqp://broker': 'broker:5672',
      'amqps://broker/': 'broker:5671',
      'AMQPS://[::1]:5673': '[::1]:5673',
      'amqps://me:p%40ss@broker': 'broker:5671',
      'ws://broker': 'broker:80',
      'WSS://me:secret@[::1]/$servicebus/websocket?a=b': '[::1]:443',
      'ws://broker:443/amqp': 'broker:443',
      [`Endpoint=sb://ns.example/;${KEYED}`]: 'ns.example:5671',
      [`EntityPath=q; ${KEYED} ;endpoint=sb://ns.example:5670;`]: 'ns.example:5670',
      [`Endpoint=sb://ns.example/;SharedAccessSignature=SharedAccessSignature sr=a&sig=${secretOf('key')}%3D&se=1`]:
        'ns.example:5671',
      [`Endpoint=sb://[::1];${KEYED};UseDevelopmentEmulator=true`]: '[::1]:5672',
      [`Endpoint=sb://localhost:5680;${KEYED};UseDevelopmentEmulator=True`]: 'localhost:5680',
      [`HostName=hub.example;${KEYED}`]: 'hub.example:5671',
      [`HostName=hub.example;DeviceId=d1;SharedAccessKey=${secretOf('key')}=`]: 'hub.example:5671',
      'Endpoint=sb://${NS}.example:${PORT};SharedAccessKeyName=${NAME};SharedAccessKey=${KEY}': '${NS}.example:${PORT}',
    };
    // What should have been encoded, and was not: only the form, where a person can look at it, makes sense of that.
    const UNENCODED = 'amqp://me:p@s/s:#1%@broker:5673';
    const refused: Record<string, RegExp> = {
      '': /missing/,
      ' ': /missing/,
      'my broker': /host name/,
      'me@broker': /host name/,
      'a;b': /host name/,
      'a=b': /host name/,
      '/vhost': /host name/,
      'broker:amqp': /host name/,
      '[broker]': /host name/,
      'amqp://': /host name/,
      'broker/vhost': /must end/,
      'broker?a=b': /must end/,
      [`amqp://me:${secretOf('password')}@broker/vhost`]: /must end/,
      'amqp://broker#a': /must end/,
      'broker:0': /port/,
      'amqp://broker:65536': /port/,
      'mqtt://broker': /amqp:\/\//,
      'constructor://broker': /amqp:\/\//,
      [`wss://broker:0/${secretOf('password')}`]: /port/,
      [`wss://broker/${secretOf('password')}#a`]: /%23/,
      [`wss://broker/${secretOf('password')}@a`]: /%40/,
      [`wss://my broker/${secretOf('password')}`]: /host name/,
      [`http://me:${secretOf('password')}@broker:8161/console`]: /amqp:\/\//,
      [KEYED]: /string has no Endpoint and no HostName$/,
      [`HostName=https://hub.example;${KEYED}`]: /HostName of this connection string must be a host$/,
      [`Endpoint=https://ns.example/${secretOf('key')};${KEYED}`]: /must be sb:\/\/ and a host$/,
      [`Endpoint=sb://ns.example/${secretOf('key')};${KEYED}`]: /must be sb:\/\/ and a host$/,
      [`Endpoint=sb://me:${secretOf('key')}@ns.example;${KEYED}`]: /must be sb:\/\/ and a host$/,
      [`Endpoint=sb://ns.example:0;${KEYED}`]: /port/,
      [`Endpoint=sb://ns.example;EntityPath=${secretOf('key')}`]: /no SharedAccessKey and no SharedAccessSignature$/,
      'Endpoint=sb://ns.example;SharedAccessKeyName=root': /a SharedAccessKeyName, but no SharedAccessKey$/,
      [`SharedAccessKey=${secretOf('key')}=;Endpoint=sb://ns.example/`]:
        /a SharedAccessKey, but no SharedAccessKeyName$/,
      [`Endpoint=sb://ns.example;${KEYED};SharedAccessSignature=${secretOf('key')}`]: /string has both/,
    };

    it('a host, a host and a port, or a URL, and show no more of it than host and port', () => {
      for (const [host, shown] of Object.entries(understood)) {
        should(validate('amqp-endpoint', 'host', host)).equal(true, host);
        nodeLabel({ host }).should.equal(shown, host);
      }
      should(validate('amqp-endpoint', 'host', undefined)).be.true();
      should(validate('amqp-endpoint', 'host', UNENCODED)).be.true();
      nodeLabel({ host: UNENCODED }).should.equal('broker:5673');
    });

    it('nothing else, say why, and show nothing of it', () => {
      for (const [host, reason] of Object.entries(refused)) {
        const verdict = validate('amqp-endpoint', 'host', host);
        should(typeof verdict).equal('string', host);
        should(verdict).startWith('Server: ').and.match(reason);
        should(secretIn(String(verdict))).equal(undefined, host);
        nodeLabel({ host }).should.equal('amqp endpoint', host);
      }
    });

    it('what the runtime takes as well', () => {
      for (const [host, shown] of Object.entries(understood)) {
        // Variables are resolved by then.
        if (host.includes('${')) continue;
        const server = serverOf(host);
        nodeLabel({ host: server.host, port: server.port ?? 5672 }).should.equal(shown, host);
      }
      for (const host of Object.keys(refused)) should.throws(() => serverOf(host), host);
    });

    it('for one that stays on this computer what the runtime does', () => {
      const forEditor = (editorStub as unknown as { amqp10: { isLoopback: typeof isLoopback } }).amqp10;
      for (const host of [
        'localhost',
        'LocalHost',
        '127.0.0.1',
        '127.1.2.3',
        '::1',
        '::2',
        'localhost.example',
        '10.0.0.1',
      ])
        should(forEditor.isLoopback(host)).equal(isLoopback(host), host);
    });

    it('a refused one with its name, if it has one', () => {
      nodeLabel({ host: 'a b', name: 'Broker' }).should.equal('Broker');
    });
  });

  describe('take as a list of servers', () => {
    const list = { connectto: 'urls' };
    const understood: Record<string, string> = {
      'amqp://a': 'a:5672',
      'amqps://a\nwss://b/path?x=1,2': 'a:5671 +1',
      ' ws://a:8080, amqp://b,\n\namqp://c:1\n': 'a:8080 +2',
      'amqp://me:my, secret@a amqp://b': 'a:5672 +1',
      '${BROKERS}': '${BROKERS}',
      'amqps://${HOST}:${PORT}, ${OTHERS}': '${HOST}:${PORT} +1',
    };
    const refused: Record<string, RegExp> = {
      '': /^URLs: property value missing$/,
      ' \n, ': /^URLs: property value missing$/,
      'amqp://a\nbroker:5672': /^URLs, number 2: a URL must begin/,
      'amqp://a, http://me:secret@b': /^URLs, number 2: a URL must begin/,
      'amqp://a amqp://me:secret@b/c': /^URLs, number 2: must end/,
      'amqp://a:70000': /^URLs, number 1: its port/,
      'amqp://a\n\namqp://b\nws://c/secret@': /^URLs, number 3: its path/,
      'amqp://a\nEndpoint=sb://ns/;SharedAccessKey=secret': /^URLs, number 2: this is a connection string/,
      'amqp://a\nEndpoint=sb://ns/;SharedAccessKeyName=n;SharedAccessKey=secret': /^URLs, number 2: .* stand alone/,
      'amqps://a ws://b': /^URLs: all must use TLS/,
    };

    it('URLs, and show of them where the first one leads to', () => {
      for (const [urls, shown] of Object.entries(understood)) {
        should(validate('amqp-endpoint', 'urls', urls, list)).equal(true, urls);
        nodeLabel({ ...list, urls }).should.equal(shown, urls);
        if (!urls.includes('${')) serversOf(urls).should.have.length(1 + Number(/\+(\d)/.exec(shown)?.[1] ?? 0));
      }
    });

    it('nothing else, and say which of them is wrong', () => {
      for (const [urls, reason] of Object.entries(refused)) {
        const verdict = validate('amqp-endpoint', 'urls', urls, list);
        should(verdict)
          .be.a.String()
          .and.match(reason, urls)
          .and.not.match(/secret/);
        nodeLabel({ ...list, urls }).should.not.match(/secret/);
        should.throws(() => serversOf(urls), urls);
      }
    });
  });

  describe('of an endpoint', () => {
    const oauth = { login: 'oauth' };
    const azure = { login: 'sas' };
    const socket = { connectto: 'urls', urls: 'wss://broker' };
    const listen = { role: 'listen' };
    const [ADA, GRACE] = ['ada', 'grace'].map((name) => ({ name, salt: 'c2FsdA==', iterations: 4096, stored: 'a' }));
    type Case = [name: string, value: unknown, properties: object, reason?: RegExp];
    const cases: Case[] = [
      ['tokenurl', '', oauth, /^Token URL: property value missing$/],
      ['tokenurl', 'https://login.example/token?p=1', oauth],
      ['tokenurl', 'https://${TENANT}.example/.well-known/openid-configuration', oauth],
      ['tokenurl', '${TOKEN_URL}', oauth],
      ['tokenurl', 'HTTP://localhost:8080/token', oauth],
      ['tokenurl', 'http://[::1]/token', oauth],
      ['tokenurl', 'http://login.example/token', oauth, /^Token URL: .* in the clear$/],
      ['tokenurl', 'http://localhost.example/token', oauth, /in the clear$/],
      ['tokenurl', 'https://id:secret@login.example/', oauth, /^Token URL: must be a URL/],
      ['tokenurl', 'login.example', oauth, /^Token URL: must be a URL/],
      ['tokenurl', 'Endpoint=sb://ns/;SharedAccessKey=secret', oauth, /^Token URL: must be a URL/],
      ['clientid', '', oauth, /^OAuth client ID: property value missing$/],
      ['clientid', 'me', oauth],
      ['clientid', '', { login: 'identity' }],
      ['clientsecret', '', oauth, /^Client secret: property value missing$/],
      ['clientsecret', '', { ...oauth, tokentls: 'tls' }],
      ['clientsecret', '__PWRD__', oauth],
      ['scope', '', oauth],
      ['scope', '', { login: 'identity' }, /^Resource: property value missing$/],
      ['tokenparams', 'a=b\n\nresource=https://a.example/?b=c\n${MORE}\n${NAME}=${VALUE}', oauth],
      ['tokenparams', 'a=b\nsecret', oauth, /^More parameters, line 2: must be name=value$/],
      ['tokenparams', 'password=secret', oauth, /^More parameters: a secret must not be in the flow/],
      ['tokenparams', 'client_assertion=', oauth, /^More parameters: a secret/],
      ['tokenparams', 'password=${PASSWORD}\nclient_assertion_type=urn', oauth],
      ['tokenuse', 'header', oauth, /^Use token as: /],
      ['tokenuse', 'header', { ...oauth, host: '${BROKER_URL}' }],
      ['tokenuse', 'header', { ...oauth, ...socket }],
      ['tokenuse', 'header', { ...oauth, ...socket, urls: '${BROKERS}' }],
      ['tokenuse', 'header', { ...oauth, ...socket, urls: 'wss://a amqps://b' }, /^Use token as: /],
      ['tokenuse', 'xoauth2', oauth],
      ['user', '', { ...oauth, tokenuse: 'xoauth2' }, /^Username: property value missing$/],
      ['user', '', { ...oauth, tokenuse: 'password' }],
      ['user', '', { sasl: 'SCRAM-SHA-256' }, /^Username: /],
      ['user', '', { sasl: 'PLAIN' }, /^Username: /],
      ['user', '', { sasl: '' }],
      ['user', '', { sasl: 'ANONYMOUS' }],
      ['user', '', { ...oauth, tokenuse: 'cbs' }],
      ['user', '', { ...azure, pass: 'key' }, /^Key name: property value missing$/],
      ['user', '', { ...azure, pass: 'key', tokenuse: 'cbs', sasl: 'ANONYMOUS' }, /^Key name: /],
      ['user', '', { ...azure, pass: 'SharedAccessSignature sr=a&sig=secret' }],
      ['user', '', { ...azure, pass: '${SIGNATURE}' }],
      ['user', '', { ...azure, pass: '__PWRD__' }],
      ['user', 'root', { ...azure, pass: 'key' }],
      ['pass', '', azure, /^Key or signature: property value missing$/],
      ['pass', '__PWRD__', azure],
      ['pass', '', {}],
      ['pass', '', oauth],
      ['tokenuse', 'cbs', oauth],
      ['sasl', 'EXTERNAL', azure],
      ['tokenuse', 'header', azure],
      ['sasl', 'EXTERNAL', {}, /^Mechanism: .* certificate$/],
      ['sasl', 'EXTERNAL', { usetls: true }, /^Mechanism: /],
      ['sasl', 'EXTERNAL', { usetls: true, tls: 'tls' }],
      ['sasl', 'EXTERNAL', { ...socket, tls: 'tls' }],
      ['sasl', 'EXTERNAL', { ...socket, urls: 'ws://broker', tls: 'tls' }, /^Mechanism: /],
      ['headers', 'X-Key: secret\n\nAuthorization: Bearer ${TOKEN}\n${MORE}\nX-${NAME}:a', socket],
      ['headers', 'X-Key: a\nsecret', socket, /^WebSocket headers, line 2: /],
      ['headers', 'X Key: secret', socket, /^WebSocket headers, line 1: /],
      ['headers', 'X-Key: secret ä', socket, /^WebSocket headers, line 1: /],
      ['hostname', 'vhost:name', {}],
      ['hostname', 'amqp://me:secret@broker', {}, /^Virtual host: must not hold a login/],
      ['container_id', 'orders-${HOSTNAME}', {}],
      ['container_id', '{"clientsecret":"secret"}', listen, /^Client ID: must not hold a login/],
      ['container_id', 'orders-1', { peer: 'ibmmq' }, /^Client ID: IBM MQ takes/],
      ['container_id', 'orders_1.${HOST-NAME}', { peer: 'ibmmq' }, /^Client ID: IBM MQ takes/],
      ['container_id', 'orders_1.${HOSTNAME}/%', { peer: 'ibmmq' }],
      ['container_id', 'a'.repeat(257), { peer: 'ibmmq' }, /^Client ID: IBM MQ takes/],
      ['container_id', '', { peer: 'ibmmq' }],
      ['container_id', 'orders-1', { ...listen, peer: 'ibmmq' }],
      ['clientid', 'https://me:secret@login', oauth, /^OAuth client ID: must not hold a login/],
      ['clientid', 'SharedAccessKey=secret', { login: 'identity' }, /^Identity client ID: must not hold a login/],
      ['scope', 'a sb://me:secret@ns', oauth, /^Scope: must not hold a login/],
      ['tokenparams', '"clientsecret":"secret="', oauth, /^More parameters, line 1: must be name=value$/],
      ['host', '{"messaging": "secret"', {}, /^Server: this looks like a service key/],
      ['host', '{"credentials": {"messaging": [{"protocol": "mqtt"}]}}', {}, /^Server: this service key has no AMQP/],
      ['host', '{"a": null}', listen, /^Listen on: this service key has no AMQP/],
      ['urls', '{"messaging": []}', { connectto: 'urls' }, /^URLs, number 1: this service key has no AMQP/],
      // Not there for these choices, so not wrong.
      ['host', 'a b', { connectto: 'urls' }],
      ['port', 'a', { connectto: 'urls' }],
      ['urls', 'a b', { connectto: 'host' }],
      ['urls', 'a b', {}],
      ['tokenurl', '', { login: 'identity' }],
      ['tokenparams', 'a', {}],
      ['clientid', '', { login: 'flow' }],
      ['scope', '', {}],
      ['sasl', 'EXTERNAL', oauth],
      ['tokenuse', 'header', {}],
      ['headers', 'a', { urls: 'wss://broker' }],
      ['user', '', { ...oauth, tokenuse: 'header', sasl: 'PLAIN' }],
      ['host', '', listen],
      ['host', '192.0.2.1', listen],
      ['host', '${ADDRESS}', listen],
      ['host', 'a b', listen, /^Listen on: must be a host name/],
      ['host', 'wss://broker/path', listen, /^Listen on: must be a host name/],
      ['host', 'Endpoint=sb://ns.example;SharedAccessKeyName=n;SharedAccessKey=secret', listen, /^Listen on: /],
      ['port', '', listen, /^Port: /],
      ['port', '', { ...listen, connectto: 'urls' }, /^Port: /],
      ['maxclients', '', listen, /^Clients at most: /],
      ['maxclients', '', {}],
      ['connecttimeout', '', listen],
      ['giveup', 'a', listen],
      ['urls', '', { ...listen, connectto: 'urls' }],
      ['sasl', 'EXTERNAL', listen],
      ['scope', '', { ...listen, login: 'identity' }],
      ['accounts', '', listen],
      ['accounts', '[]', listen],
      ['accounts', accountsOf(ADA, GRACE), listen],
      ['accounts', accountsOf(ADA, { name: 'b', isNew: true }), listen],
      ['accounts', accountsOf(ADA, { ...GRACE, name: '' }), listen, /^Accounts, number 2: has no name$/],
      ['accounts', accountsOf(ADA, GRACE, ADA), listen, /^Accounts, number 3: another account has this name$/],
      ['accounts', accountsOf({ name: 'a' }), listen, /^Accounts, number 1: has no password$/],
      ['accounts', '{', listen, /^Accounts, number 1: cannot be read$/],
      ['accounts', '{', {}],
    ];
    for (const [name, value, properties, reason] of cases) {
      const given = `${JSON.stringify(value)} with ${JSON.stringify(properties)}`;
      it(`${reason ? 'refuse' : 'take'} as ${name} ${given}`, () => {
        const verdict = validate('amqp-endpoint', name, value, properties);
        if (!reason) return should(verdict).be.true();
        should(verdict).be.a.String().and.match(reason);
        return should(verdict).not.match(/secret@|=secret|: secret/);
      });
    }

    it('knows of each kind of server how addresses are written there', () => {
      const written: Record<string, string[]> = {
        artemis: [],
        openshift: [],
        activemq: ['queue://orders', 'topic://orders'],
        rabbitmq4: ['/queues/orders', '/exchanges/orders'],
        rabbitmq3: ['/amq/queue/orders', '/queue/orders', '/topic/orders', '/exchange/orders/key'],
        brokerj: [],
        ibmmq: [],
        solace: ['queue://orders', 'topic://orders'],
        router: [],
        amazonmq: ['queue://orders', 'topic://orders'],
        servicebus: ['orders/Subscriptions/name'],
        eventhubs: [],
        iothub: [
          '/devices/orders/messages/devicebound',
          '/messages/serviceBound/feedback',
          '/devices/orders/messages/events',
          '/messages/devicebound',
        ],
        sap: ['queue:orders', 'topic:orders'],
      };
      const options = /id="node-config-input-peer".*?<\/select>/s.exec(html['amqp-endpoint']!)![0];
      const values = [...options.matchAll(/value="(\w*)"/g)].map(([, value]) => value);
      values.should.eql(['', ...Object.keys(written)]);
      const { peers } = editorStub.amqp10;
      Object.keys(peers).should.eql(Object.keys(written));
      for (const [name, { known, both, source, target }] of Object.entries(peers)) {
        const ways = { ...both, ...source, ...target };
        const addresses = Object.values(ways).map((write) => write('orders'));
        addresses.should.eql(written[name], name);
        for (const address of addresses) known!.test(address).should.be.true(address);
        should(known?.test('orders') ?? false).be.false(name);
        for (const form of Object.keys(ways)) should(lookUp(`amqp-endpoint.form.${form}`)).be.a.String();
      }
      should([...peers['ibmmq']!.kinds!]).eql(['queue']);
    });

    it('is valid as it was saved before there was any of that', () => {
      const { defaults, credentials } = forms['amqp-endpoint']!;
      for (const [name, { validate: check }] of Object.entries({ ...defaults, ...credentials }))
        if (check) should(validate('amqp-endpoint', name, undefined)).equal(true, name);
    });
  });

  describe('take as filters', () => {
    const object = '{"subject": "a", "more": [1, {"b": true}]}';
    const values: Record<string, [right: unknown[], wrong: unknown[]]> = {
      'no-local': [['', undefined, 'a'], []],
      'stream-unfiltered': [['', undefined], []],
      'stream-offset': [
        ['first', 'last', 'next', '0', '4096', '10m', '7D', '2026-11-27T12:00:00Z', ' next '],
        ['', ' ', undefined, 'now', '10 m', '99999999999999999', '1900-01-01T00:00:00Z'],
      ],
      'stream-filter': [
        ['red', 'red, blue'],
        ['', ' '],
      ],
      properties: [
        [object, '{}', '{"ttl": {"$amqp": "uint", "value": 5}}'],
        ['', '{', '[]', '"a"', 'null', '{"a": null}'],
      ],
      'application-properties': [
        [object, '{"ä": 1}'],
        ['', 'a', '{"a": [null]}', '{"a": {"$amqp": "uint", "value": -5}}'],
      ],
      sql: [["properties.subject LIKE 'a%'"], ['', ' ']],
      annotations: [["amqp.annotation.x-opt-offset > '5'"], ['']],
      'kafka-partition': [
        ['0', '-1', 7, ' 3 '],
        ['', '1.5', 'a', '3000000000'],
      ],
      'kafka-offset': [
        ['0', '3000000000'],
        ['', '1e3', '99999999999999999'],
      ],
      'no-such': [[], ['', 'a']],
    };
    const others: [right: boolean, row: object][] = [
      [true, { name: 'a', value: '' }],
      [true, { name: ' a ', value: 'b', type: 'string' }],
      [true, { name: 'a', value: 'b', descriptor: 'c:d', type: 'symbol' }],
      [true, { name: 'a', value: 'true', descriptor: '0x468C00000003', type: 'boolean' }],
      [true, { name: 'a', value: '-5', descriptor: '77567109365763', type: 'int' }],
      [true, { name: 'a', value: '4294967295', type: 'uint' }],
      [true, { name: 'a', value: '-9007199254740991', type: 'long' }],
      [true, { name: 'a', value: '9007199254740991', type: 'ulong' }],
      [true, { name: 'a', value: '-0.5', type: 'double' }],
      [true, { name: 'a', value: '2026-11-27', type: 'timestamp' }],
      [true, { name: 'a', value: '1700000000000', type: 'timestamp' }],
      [true, { name: 'a', value: '[1, "b", {"c": true}]', type: 'json' }],
      [true, { name: 'a', value: '""', descriptor: 'b', type: 'json' }],
      [false, { value: 'b' }],
      [false, { name: ' ', value: 'b' }],
      [false, { name: 'ä', value: 'b' }],
      [false, { name: 'a', value: 'b', descriptor: 'ä' }],
      [false, { name: 'a', value: 'b', descriptor: '99999999999999999999' }],
      [false, { name: 'a', value: 'ä', type: 'symbol' }],
      [false, { name: 'a', value: '', type: 'boolean' }],
      [false, { name: 'a', value: '', type: 'int' }],
      [false, { name: 'a', value: '1.5', type: 'int' }],
      [false, { name: 'a', value: '-1', type: 'uint' }],
      [false, { name: 'a', value: 'b', type: 'ulong' }],
      [false, { name: 'a', value: 'b', type: 'timestamp' }],
      [false, { name: 'a', value: '', type: 'json' }],
      [false, { name: 'a', value: 'null', type: 'json' }],
      [false, { name: 'a', value: '[null]', type: 'json' }],
      [false, { name: 'a', value: '""', type: 'json' }],
      [false, { name: 'a', value: 'b', type: 'binary' }],
      [false, { name: 'a', value: 'b', type: 'no-such' }],
    ];
    const rows: [right: boolean, row: object][] = [
      ...Object.entries(values).flatMap(([filter, [right, wrong]]) => [
        ...right.map((value): [boolean, object] => [true, { filter, value }]),
        ...wrong.map((value): [boolean, object] => [false, { filter, value }]),
      ]),
      ...others.map(([isRight, row]): [boolean, object] => [isRight, { filter: 'other', ...row }]),
    ];

    it('what the runtime takes, and say which other one is wrong', () => {
      for (const [isRight, row] of rows) {
        const given = JSON.stringify(row);
        // The one that is always there may not come again.
        const before = given.includes('"sql"') ? 1 : 0;
        const verdict = validate('amqp-receiver', 'filters', [{ filter: 'sql', value: 'a' }, row].slice(before));
        if (isRight) {
          should(verdict).equal(true, given);
          should.doesNotThrow(() => filterOf(row), given);
        } else {
          should(typeof verdict).equal('string', given);
          should(verdict).match(/^Filters, number [12]: \S/, given);
          should.throws(() => filterOf(row), given);
        }
      }
    });

    it('none that is there twice', () => {
      const twice = [{ filter: 'other', name: 'a', value: '1' }, { filter: 'no-local' }];
      should(validate('amqp-receiver', 'filters', [...twice, { filter: 'other', name: 'b', value: '1' }])).be.true();
      should(validate('amqp-receiver', 'filters', [...twice, twice[0]])).equal('Filters, number 3: is there twice');
    });

    it('what an environment variable is to give, and none at all', () => {
      for (const filter of Object.keys(values).slice(0, 10))
        should(validate('amqp-receiver', 'filters', [{ filter, value: '${A}' }])).be.true();
      const other = { filter: 'other', name: '${A}', descriptor: '${B}', value: '${C}' };
      should(validate('amqp-receiver', 'filters', [{ ...other, type: 'uint' }])).be.true();
      should(validate('amqp-receiver', 'filters', [])).be.true();
      should(validate('amqp-receiver', 'filters', undefined)).be.true();
    });
  });

  describe('of nodes', () => {
    const fixed = { replyto: 'fixed' };
    const several = { replies: 'several' };
    const offset = { start: 'offset' };
    const sequence = { start: 'sequence' };
    const time = { start: 'time' };
    const TYPED = ['env', 'flow', 'global'].map((type) => ({ addressType: type }));
    const cases: [type: string, name: string, value: unknown, properties: object, reason?: RegExp][] = [
      ['amqp-sender', 'address', '', {}],
      ['amqp-sender', 'address', '', { addressType: 'msg' }],
      ['amqp-requester', 'address', '', { addressType: 'flow' }],
      ['amqp-requester', 'address', '', { replyto: 'target' }, /^Address: property value missing$/],
      ['amqp-requester', 'address', 'orders/$management', { replyto: 'target' }],
      ['amqp-receiver', 'address', '', {}],
      ['amqp-receiver', 'address', 'queue', {}],
      ['amqp-receiver', 'address', ' ', { endpoint: 'servicebus' }, /^Address: property value missing$/],
      ['amqp-receiver', 'address', '', { endpoint: 'eventhubs' }, /^Address: property value missing$/],
      ['amqp-receiver', 'address', 'hub', { endpoint: 'eventhubs' }],
      ['amqp-responder', 'address', '', {}, /^Address: property value missing$/],
      ['amqp-responder', 'address', 'queue', {}],
      ...TYPED.flatMap((typed): typeof cases => [
        ['amqp-receiver', 'address', '', typed, /^Address: property value missing$/],
        ['amqp-receiver', 'address', 'QUEUE', typed],
        ['amqp-responder', 'address', '', typed, /^Address: property value missing$/],
        ['amqp-responder', 'address', 'QUEUE', typed],
      ]),
      ['amqp-requester', 'replyaddress', '', {}],
      ['amqp-requester', 'replyaddress', '', fixed, /^Reply address: property value missing$/],
      ['amqp-requester', 'replyaddress', '', { ...fixed, replyaddressType: 'env' }, /^Reply address: /],
      ['amqp-requester', 'replyaddress', 'QUEUE', { ...fixed, replyaddressType: 'env' }],
      ['amqp-requester', 'replyto', 'pair', { endpoint: 'servicebus' }],
      ['amqp-requester', 'replyto', 'pair', { endpoint: 'listen' }, /^Replies come to: this is for an endpoint/],
      ['amqp-requester', 'replyto', 'dynamic', { endpoint: 'listen' }],
      ['amqp-requester', 'replycapability', 'temporary-topic', {}],
      ['amqp-requester', 'replycapability', 'Schlüssel', {}, /^Kind of address: must be plain ASCII text$/],
      ['amqp-requester', 'endmarker', '', {}],
      ['amqp-requester', 'endmarker', 'msg.payload.last', {}],
      ['amqp-requester', 'endmarker', '${MARKER}', {}],
      ['amqp-requester', 'endmarker', 'the last', {}, /^Last reply has: must be the name of a property/],
      ['amqp-requester', 'timeout', 0, {}],
      ['amqp-requester', 'timeout', '0', several, /^Wait for the reply: must not be 0/],
      ['amqp-requester', 'timeout', '0', { ...several, replyto: 'pair' }],
      ['amqp-requester', 'timeout', '0', { ...several, replycount: '3' }],
      ['amqp-requester', 'timeout', '0', { ...several, endmarker: 'last' }],
      ['amqp-receiver', 'together', '10', { creditwindow: '10' }],
      ['amqp-receiver', 'together', '11', { creditwindow: '10' }, /^Messages in one msg: must not be more/],
      ['amqp-receiver', 'together', '11', { creditwindow: '0' }],
      ['amqp-receiver', 'together', '11', { creditwindow: '${WINDOW}' }],
      ['amqp-receiver', 'together', '2', { settle: 'flow', transaction: true }, /must be 1 with 'All or nothing/],
      ['amqp-receiver', 'together', '2', { settle: 'arrival', transaction: true }],
      ['amqp-receiver', 'startvalue', '', {}],
      ['amqp-receiver', 'startvalue', '', time, /^Which is: property value missing$/],
      ['amqp-receiver', 'startvalue', "1' OR", offset, /^Which is: must not have a quote/],
      ['amqp-receiver', 'startvalue', '4096', offset],
      ['amqp-receiver', 'startvalue', '1.5', sequence, /^Which is: must be a whole number$/],
      ['amqp-receiver', 'startvalue', ' 42 ', sequence],
      ['amqp-receiver', 'startvalue', 'now', time, /^Which is: must be a time/],
      ['amqp-receiver', 'startvalue', '2026-11-27T12:00:00Z', time],
      ['amqp-receiver', 'startvalue', '${SINCE}', time],
    ];
    for (const [type, name, value, properties, reason] of cases) {
      const given = `${JSON.stringify(value)} with ${JSON.stringify(properties)}`;
      it(`${reason ? 'refuse' : 'take'} as ${name} of ${type} ${given}`, () => {
        const verdict = validate(type, name, value, properties);
        if (!reason) return should(verdict).be.true();
        return should(verdict).be.a.String().and.match(reason);
      });
    }
  });

  it('take as capabilities what AMQP can name', () => {
    for (const type of ['amqp-receiver', 'amqp-sender']) {
      for (const right of ['', undefined, 'shared, global topic', '${A}'])
        should(validate(type, 'capabilities', right)).be.true();
      should(validate(type, 'capabilities', 'Käse')).equal('Capabilities: must be plain ASCII text');
    }
  });

  it('take an environment variable for any number', () => {
    for (const [type, numbers] of Object.entries(NUMBERS))
      for (const name of Object.keys(numbers)) should(validate(type, name, '${A}${B}')).equal(true, name);
  });

  it('have each row once, whole, and with a property of the node', () => {
    for (const type of TYPES) {
      html[type]!.should.not.match(/<!--|\{\w+\}/, type);
      const ids = [...html[type]!.matchAll(/\bid="node-(?:config-)?input-([^"]+)"/g)].map(([, id]) => id!);
      ids.should.deepEqual([...new Set(ids)], type);
      for (const [, labelled] of html[type]!.matchAll(/ for="node-(?:config-)?input-([^"]+)"/g)) {
        ids.should.containEql(labelled);
        const { defaults, credentials } = forms[type]!;
        should({ ...defaults, ...credentials }).have.property(labelled!);
      }
    }
  });

  it('name only texts that there are', () => {
    for (const [name, source] of Object.entries({ ...html, shared })) {
      const inRows = [...source.matchAll(/data-i18n="(?:\[\w+\])?([^"]+)"/g)].map(([, key]) => key!);
      const inScript = [...source.matchAll(/'((?:@amqp10\/[\w/-]+:|node-red:)?[\w-]+\.[\w.-]+)'/g)]
        .map(([, key]) => key!)
        .filter((key) => /:|^amqp-(?!.*\.svg$)/.test(key));
      const keys = [...inRows, ...inScript];
      keys.length.should.be.above(5, name);
      for (const key of keys) {
        const found = lookUp(key);
        should(typeof found).equal(key.endsWith('.') ? 'object' : 'string', `${key} in ${name}`);
      }
    }
  });

  it('have a reason of fewer than 20 characters for each failure to connect, and a remedy in the log', () => {
    const reasons = lookUp('amqp-endpoint.status.reason') as Record<string, string>;
    for (const reason of Object.values(reasons)) reason.length.should.be.below(20, reason);
    Object.keys(lookUp('amqp-endpoint.log.remedy') as object).should.deepEqual(Object.keys(reasons));
  });
});
