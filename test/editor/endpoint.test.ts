// The form of an endpoint with all that servers may ask for: lists of URLs, logins, WebSocket.
import type { Route } from 'playwright-core';
import should from 'should';
import { Broker } from '../../broker/broker';
import { secretIn, secretOf } from '../secrets';
import type { Editor, Form, Values } from './editor';
import { nodeRedVersion } from './installation';
import { THEMES, workbench } from './workbench';

// Whatever Node-RED answers is searched for these; see audit.ts.
const PASSWORD = secretOf('password');
/** Of characters that a URL has to encode. */
const SPECIAL = secretOf('password', '@: ');
const SECRET = secretOf('client secret', ':/');
const KEY = secretOf('key', '+/');
/** Node-RED shows it to those who may edit flows. */
const HEADERS = 'X-Key: key-of-the-header\nX-Other: ${OTHER}';

const TAB = { id: 'tab', type: 'tab', label: 'Test' };
const ENDPOINT = { id: 'endpoint', type: 'amqp-endpoint', name: '', host: 'localhost', port: 5672, autoconnect: false };
const FLOW = [
  TAB,
  ENDPOINT,
  { id: 'tls', type: 'tls-config', name: 'certificates' },
  { id: 'proxy', type: 'http proxy', name: 'the proxy', url: 'http://proxy.example:3128', noproxy: [] },
];
/** All fields of the form whose row comes and goes. */
const COMING = `host port urls order sasl user pass flowtoken inclear tokeninclear usetls tls rejectUnauthorized
  tokenurl clientid clientsecret tokenauth scope tokenparams tokentls tokenuse headers proxy`.split(/\s+/);
/** The same for one that listens. */
const LISTENING = `accountlist anonymous clientcertificates maxclients maxlinks maxmemory`.split(' ');
/** Of one that connects, whatever else is chosen. */
const CONNECTING = `peer connectto autoconnect login hostname trustnamed sessions connecttimeout firstpause longestpause
  giveup`.split(/\s+/);
/** Those of the simplest endpoint. */
const SIMPLE = ['host', 'port', 'sasl', 'user', 'pass', 'usetls'];
const LIST = ['urls', 'order', 'sasl', 'user', 'pass'];
const SHARED = ['host', 'port', 'user', 'pass', 'usetls'];
const TOKEN = ['host', 'port', 'usetls', 'tokenuse', 'user'];

/** What each kind of server that has a form of its own fills in. */
const KINDS: Record<string, { port?: string; usetls?: boolean; host?: string; sessions?: string; hint?: RegExp }> = {
  artemis: {},
  openshift: { port: '443', usetls: true, host: 'broker.apps.example.com', hint: /SNI/ },
  activemq: {},
  rabbitmq4: {},
  rabbitmq3: { hint: /rabbitmq_amqp1_0/ },
  brokerj: {},
  ibmmq: { sessions: 'one', hint: /topic/ },
  solace: { port: '5671', usetls: true, host: 'name.messaging.solace.cloud', hint: /topic:/ },
  router: {},
  amazonmq: { port: '5671', usetls: true, host: 'b-….mq.eu-west-1.amazonaws.com', hint: /RabbitMQ 4/ },
  servicebus: { port: '5671', usetls: true, host: 'name.servicebus.windows.net', hint: /connection string/ },
  eventhubs: { port: '5671', usetls: true, host: 'name.servicebus.windows.net', hint: /connection string/ },
  iothub: { port: '5671', usetls: true, host: 'name.azure-devices.net', hint: /connection string/ },
  sap: { host: '{"messaging": …}', hint: /service key/ },
};
const SAP_URL = 'wss://gateway.example/protocols/amqp10ws';
const serviceKey = (oa2: object, uri = SAP_URL): string =>
  JSON.stringify(
    {
      messaging: [
        { oa2: {}, protocol: ['mqtt311ws'], uri: 'wss://gateway.example/protocols/mqtt311ws' },
        { oa2, protocol: ['amqp10ws'], broker: { type: 'sapmgw' }, uri },
      ],
      namespace: 'default/orders/1',
    },
    undefined,
    2,
  );

describe(`The form of an endpoint in Node-RED ${nodeRedVersion}`, function () {
  this.timeout(120_000);
  const { installation, deployed, open } = workbench();
  let editor: Editor;
  let form: Form;

  beforeEach(async () => {
    // Credentials of an endpoint with this id go with it.
    await installation.deploy([TAB]);
    editor = await open(FLOW);
    form = await editor.edit('endpoint');
  });

  /** What is in the form, by the names of the fields. */
  async function values(...names: string[]): Promise<Record<string, string>> {
    return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await form.value(name)] as const)));
  }

  async function offered(names = COMING): Promise<string[]> {
    const shown: string[] = [];
    for (const name of names) {
      // Not by a click on its tab, which takes long: only what its own row says.
      if (await form.row(name).evaluate((row) => row.style.display !== 'none')) shown.push(name);
    }
    return shown;
  }

  async function saved(): Promise<{ flow: Record<string, unknown>; credentials: unknown }> {
    await form.done();
    await editor.deploy();
    const flow = await deployed('endpoint');
    return { flow, credentials: await savedCredentials() };
  }

  /** But for accounts, where there are none. */
  async function savedCredentials(): Promise<unknown> {
    const { accounts, ...credentials } = (await installation.get('/credentials/amqp-endpoint/endpoint')) as Record<
      string,
      unknown
    >;
    return accounts ? { ...credentials, accounts } : credentials;
  }

  /** One of those that test the connection. */
  const part = (name: string) => editor.page.locator(`#amqp-endpoint-test-${name}`);

  /** Answers the test by the runtime; gives what was asked. */
  async function press(answer: Parameters<Route['fulfill']>[0]): Promise<Record<string, unknown>> {
    let asked: Record<string, unknown> = {};
    await editor.page.route(
      '**/amqp-endpoint/test',
      async (route) => {
        asked = route.request().postDataJSON();
        await part('result')
          .filter({ hasText: /^Connecting…$/ })
          .waitFor();
        (await part('button').getAttribute('aria-disabled'))!.should.equal('true');
        await route.fulfill(answer);
      },
      { times: 1 },
    );
    await part('button').click();
    await editor.page.locator('#amqp-endpoint-test-button:not([aria-disabled])').waitFor();
    // Else the request would reach Node-RED.
    Object.keys(asked).should.not.be.empty();
    return asked;
  }

  it('has only what listening needs, and knows its accounts by name', async () => {
    const all = [...COMING, ...CONNECTING, ...LISTENING];
    const simple = ['host', 'port', 'usetls', ...LISTENING].filter((name) => name !== 'clientcertificates');
    (await offered([...CONNECTING, ...LISTENING])).should.eql(CONNECTING);
    await form.enter({ user: 'me', pass: PASSWORD, sasl: 'PLAIN', giveup: '5', role: 'listen' });
    (await offered(all)).toSorted().should.eql(simple.toSorted());
    (await form.value('host')).should.equal('');
    (await form.placeholder('host')).should.equal('all addresses');
    (await form.row('host').innerText()).trim().should.startWith('Listen on');
    for (const name of ['host', 'port', 'giveup']) (await form.invalid(name)).should.be.false(name);
    await editor.screenshot('endpoint-listen');
    await form.enter({ usetls: true });
    (await offered(all)).toSorted().should.eql([...simple, 'clientcertificates', 'tls'].toSorted());
    await form.enter({ role: 'connect' });
    (await form.value('host')).should.equal('localhost');
    await form.enter({ role: 'listen', host: '127.0.0.1:5699' });
    (await values('host', 'port')).should.eql({ host: '127.0.0.1', port: '5699' });
    await form.enter({ tls: 'tls', anonymous: true, clientcertificates: true, maxclients: '5', idletimeout: '60' });
    await form.enter({ trace: true, tracecontext: true });
    const { flow, credentials } = await saved();
    flow.should.containEql({ trace: true, tracecontext: true });
    flow.should.containEql({ role: 'listen', host: '127.0.0.1', port: '5699', usetls: true, tls: 'tls' });
    flow.should.containEql({ anonymous: true, clientcertificates: true, maxclients: '5', idletimeout: '60' });
    // What only one that connects has.
    flow.should.containEql({ peer: '', sasl: '', giveup: '', autoconnect: true, connecttimeout: '10' });
    should(credentials).eql({ user: '', has_pass: false, has_clientsecret: false, headers: '' });
    (await editor.label('endpoint')).should.equal('127.0.0.1:5699');
    form = await editor.edit('endpoint');
    await form.enter({ host: '' });
    await form.done();
    (await editor.label('endpoint')).should.equal('*:5699');
  });

  it('offers only what the choices need', async () => {
    const choices: [given: Values, shown: string[]][] = [
      [{}, SIMPLE],
      [{ user: 'me', host: 'broker.example' }, [...SIMPLE, 'inclear']],
      [{ sasl: 'SCRAM-SHA-512' }, SIMPLE],
      [{ sasl: 'PLAIN' }, [...SIMPLE, 'inclear']],
      [{ usetls: true }, [...SIMPLE, 'tls', 'rejectUnauthorized']],
      [{ tls: 'tls' }, [...SIMPLE, 'tls']],
      [{ sasl: 'EXTERNAL' }, ['host', 'port', 'sasl', 'usetls', 'tls']],
      [{ usetls: false, sasl: 'none' }, ['host', 'port', 'sasl', 'usetls']],
      [{ sasl: '', host: 'localhost' }, SIMPLE],
      [{ host: '${BROKER_URL}' }, [...SIMPLE, 'headers', 'proxy']],
      [{ connectto: 'urls' }, LIST],
      [{ urls: 'amqp://localhost, amqp://127.0.0.1' }, LIST],
      [{ urls: 'amqp://localhost, amqp://broker.example' }, [...LIST, 'inclear']],
      [{ urls: 'amqps://broker.example', tls: '_ADD_' }, [...LIST, 'tls', 'rejectUnauthorized']],
      [{ urls: 'wss://broker.example' }, [...LIST, 'tls', 'rejectUnauthorized', 'headers', 'proxy']],
      [{ urls: '${BROKERS}' }, [...LIST, 'tls', 'rejectUnauthorized', 'headers', 'proxy']],
      [{ urls: 'ws://broker.example' }, [...LIST, 'inclear', 'headers', 'proxy']],
      [{ login: 'flow' }, ['urls', 'order', 'flowtoken', 'user', 'tokeninclear', 'tokenuse', 'headers', 'proxy']],
      [{ tokenuse: 'header' }, ['urls', 'order', 'flowtoken', 'tokeninclear', 'tokenuse', 'headers', 'proxy']],
      [{ connectto: 'host', tokenuse: 'xoauth2', host: 'localhost' }, [...TOKEN, 'flowtoken']],
      [{ login: 'identity' }, [...TOKEN, 'clientid', 'scope']],
      [
        { login: 'oauth' },
        [...TOKEN, 'tokenurl', 'clientid', 'clientsecret', 'tokenauth', 'scope', 'tokenparams', 'tokentls', 'proxy'],
      ],
      [{ login: 'identity', tokenuse: 'cbs' }, ['host', 'port', 'usetls', 'tokenuse', 'clientid', 'scope']],
      [{ login: 'sas' }, SHARED],
      [{ host: 'ns.example' }, [...SHARED, 'tokeninclear']],
      [{ usetls: true }, [...SHARED, 'tls', 'rejectUnauthorized']],
    ];
    for (const [given, shown] of choices) {
      await form.enter(given);
      (await offered()).toSorted().should.eql(shown.toSorted(), JSON.stringify(given));
    }
    await form.cancel();
  });

  it('saves a list of URLs, one a line, and moves the login in it to the credentials', async () => {
    await form.enter({ connectto: 'urls' });
    await form.paste(
      'urls',
      `amqps://me:${encodeURIComponent(SPECIAL)}@one.example, wss://you:${PASSWORD}@two.example/a?b=c \${MORE}`,
    );
    const lines = 'amqps://one.example\nwss://two.example/a?b=c\n${MORE}';
    (await values('urls', 'user', 'pass')).should.eql({ urls: lines, user: 'me', pass: SPECIAL });
    (await form.invalid('urls')).should.be.false();
    await form.enter({ order: 'random', proxy: 'proxy', headers: HEADERS });
    for (const tab of ['urls', 'user', 'headers']) {
      await form.show(tab);
      await editor.screenshot(`endpoint-list-${tab}`);
    }
    const { flow, credentials } = await saved();
    flow.should.containEql({ connectto: 'urls', urls: lines, order: 'random', proxy: 'proxy' });
    // What a list has no use for.
    flow.should.containEql({ host: 'localhost', port: 5672, usetls: false });
    should(credentials).eql({
      user: 'me',
      has_pass: true,
      has_clientsecret: false,
      headers: HEADERS,
    });
    JSON.stringify(flow).should.not.containEql('key-of-the-header');
    (await editor.label('endpoint')).should.equal('one.example:5671 +2');
  });

  it('makes a list of the URL of a WebSocket that is pasted as the server', async () => {
    await form.paste('host', ` wss://me:${encodeURIComponent(SPECIAL)}@broker.example/$servicebus/websocket `);
    (await values('connectto', 'urls', 'user', 'pass')).should.eql({
      connectto: 'urls',
      urls: 'wss://broker.example/$servicebus/websocket',
      user: 'me',
      pass: SPECIAL,
    });
    await form.show('urls');
    (await form.row('host').isVisible()).should.be.false();
    (await form.field('urls').evaluate((field) => field === document.activeElement)).should.be.true();
    const { flow, credentials } = await saved();
    flow.should.containEql({
      connectto: 'urls',
      urls: 'wss://broker.example/$servicebus/websocket',
      host: 'localhost',
    });
    should(credentials).eql({ user: 'me', has_pass: true, has_clientsecret: false, headers: '' });
  });

  it('fills in what a connection string of Azure says, its key with the credentials', async () => {
    await form.enter({ login: 'oauth', tokenurl: 'https://login.example', clientid: 'me', clientsecret: SECRET });
    await form.enter({ login: '', user: 'me', pass: PASSWORD, sasl: 'PLAIN' });
    await form.paste(
      'host',
      ` Endpoint=sb://ns.example/;SharedAccessKeyName=root;SharedAccessKey=${KEY}=;EntityPath=orders `,
    );
    const filled = { peer: 'servicebus', connectto: 'host', host: 'ns.example', port: '5671', login: 'sas' };
    const login = { user: 'root', pass: `${KEY}=` };
    (await values(...Object.keys(filled), ...Object.keys(login))).should.eql({ ...filled, ...login });
    const tip = editor.page.locator('#amqp-endpoint-entity');
    await form.show('host');
    (await tip.innerText()).trim().should.match(/^Use this as the address of the nodes: orders .*server kind\.$/);
    await editor.screenshot('endpoint-connection-string');
    await form.show('pass');
    (await form.row('user').innerText()).trim().should.equal('Key name');
    (await form.row('pass').innerText()).trim().should.equal('Key or signature');
    for (const name of ['host', 'port', 'user', 'pass']) (await form.invalid(name)).should.be.false(name);
    await editor.screenshot('endpoint-shared-key');
    const { flow, credentials } = await saved();
    flow.should.containEql({ ...filled, port: '5671', usetls: true, sasl: '', tokenurl: '', clientid: '' });
    JSON.stringify(flow).should.not.containEql('orders');
    should(secretIn(JSON.stringify(flow))).be.undefined();
    should(credentials).eql({ user: 'root', has_pass: true, has_clientsecret: false, headers: '' });

    // A ready signature, of the emulator, over that.
    form = await editor.edit('endpoint');
    await form.show('host');
    (await tip.isVisible()).should.be.false();
    const signature = `SharedAccessSignature sr=sb%3A%2F%2Flocalhost&sig=${KEY}%3D&se=4102444800&skn=root`;
    await form.enter({ peer: 'eventhubs' });
    await form.paste('host', `Endpoint=sb://localhost;SharedAccessSignature=${signature};UseDevelopmentEmulator=true;`);
    (await values('peer', 'host', 'port', 'login', 'user', 'pass')).should.eql({
      peer: 'eventhubs',
      host: 'localhost',
      port: '5672',
      login: 'sas',
      user: '',
      pass: signature,
    });
    for (const name of ['user', 'pass']) (await form.invalid(name)).should.be.false(name);
    const other = await saved();
    other.flow.should.containEql({ host: 'localhost', usetls: false, login: 'sas' });
    should(secretIn(JSON.stringify(other.flow))).be.undefined();
    should(other.credentials).eql({ user: '', has_pass: true, has_clientsecret: false, headers: '' });

    // And a server with a login of its own in place of it.
    form = await editor.edit('endpoint');
    await form.paste('host', `amqps://me:${PASSWORD}@broker.example`);
    (await values('host', 'login', 'user', 'pass')).should.eql({
      host: 'broker.example',
      login: '',
      user: 'me',
      pass: PASSWORD,
    });
    await form.cancel();
  });

  it('says which URL of a list is wrong, and keeps no secret of it', async () => {
    await form.enter({ connectto: 'urls', urls: `amqp://one.example\nhttp://me:${PASSWORD}@two.example\n\n` });
    (await form.invalid('urls')).should.be.true();
    await form.field('urls').hover();
    await editor.page.locator('.red-ui-popover', { hasText: 'URLs, number 2: a URL must begin with' }).waitFor();
    await editor.screenshot('endpoint-list-wrong');
    const wrong: [urls: string, left: string][] = [
      [`amqp://one\nEndpoint=sb://ns.example/;SharedAccessKeyName=root;SharedAccessKey=${PASSWORD}=`, 'amqp://one\n?'],
      [`amqp://one\nme:${PASSWORD}@two`, 'amqp://one\n?'],
      [`amqp://one\nX-Key: ${PASSWORD}`, 'amqp://one\n?'],
      [`amqp://one\nws://two/a@b;${PASSWORD}`, 'amqp://one\nws://'],
      [`amqp://one\namqp://me:my ${PASSWORD}, too@two`, 'amqp://one\namqp://two'],
      ['broker:5672', 'broker:5672'],
    ];
    for (const [urls, left] of wrong) {
      await form.show('urls');
      await form.field('urls').fill(urls);
      await form.confirm();
      should(await editor.property('endpoint', 'urls')).equal(left, urls);
      (await editor.label('endpoint')).should.not.containEql(PASSWORD);
      form = await editor.edit('endpoint');
    }
    await form.cancel();
  });

  it('saves what OAuth 2 needs, the secret with the credentials', async () => {
    await form.enter({ user: 'me', pass: PASSWORD, sasl: 'PLAIN', login: 'oauth' });
    for (const name of ['tokenurl', 'clientid', 'clientsecret']) (await form.invalid(name)).should.be.true(name);
    await editor.screenshot('endpoint-oauth-empty');
    await form.paste('tokenurl', `https://my%20id:${encodeURIComponent(SECRET)}@login.example/token?p=1`);
    (await values('tokenurl', 'clientid', 'clientsecret')).should.eql({
      tokenurl: 'https://login.example/token?p=1',
      clientid: 'my id',
      clientsecret: SECRET,
    });
    const given = {
      tokenauth: 'body',
      scope: 'a b',
      tokenparams: 'audience=orders\nresource=x',
      tokentls: 'tls',
      tokenuse: 'password',
    };
    await form.enter(given);
    for (const name of ['tokenurl', 'clientid', 'clientsecret', 'tokenparams'])
      (await form.invalid(name)).should.be.false(name);
    await editor.screenshot('endpoint-oauth');
    const { flow, credentials } = await saved();
    const place = { tokenurl: 'https://login.example/token?p=1', clientid: 'my id' };
    flow.should.containEql({ login: 'oauth', sasl: '', ...place, ...given });
    should(credentials).eql({ user: 'me', has_pass: false, has_clientsecret: true, headers: '' });

    // And back: what only the other way of logging in had is gone.
    form = await editor.edit('endpoint');
    await form.enter({ login: '' });
    const back = await saved();
    back.flow.should.containEql({ login: '', tokenurl: '', clientid: '', scope: '', tokenparams: '', tokentls: '' });
    back.flow.should.containEql({ tokenauth: 'basic', tokenuse: 'password' });
    should(back.credentials).eql({ user: 'me', has_pass: false, has_clientsecret: false, headers: '' });
  });

  it('keeps secrets out of the flow that were entered beside the field for them', async () => {
    await form.enter({ login: 'oauth', tokenurl: 'https://login.example', clientid: 'me', clientsecret: 'x' });
    await form.enter({ tokenparams: `client_id=other\nclient_secret=${PASSWORD}\na=b` });
    (await values('tokenparams', 'clientid', 'clientsecret')).should.eql({
      tokenparams: 'a=b',
      clientid: 'other',
      clientsecret: PASSWORD,
    });
    await form.enter({
      tokenparams: `password=${PASSWORD}\n${PASSWORD}\na=b\nassertion=\${ASSERTION}`,
      tokenurl: `Endpoint=sb://ns/;SharedAccessKey=${PASSWORD}`,
      scope: `sb://me:${PASSWORD}@ns`,
      port: `${PASSWORD}=`,
      giveup: `${PASSWORD}=`,
    });
    for (const name of ['tokenparams', 'tokenurl', 'giveup']) (await form.invalid(name)).should.be.true(name);
    await form.done();
    const flows = await editor.saved();
    const flow = flows.find(({ id }) => id === 'endpoint')!;
    flow.should.containEql({ tokenparams: 'password=\n?\na=b\nassertion=${ASSERTION}', tokenurl: '', scope: '' });
    flow.should.containEql({ port: '', giveup: '' });
    should(secretIn(JSON.stringify(flows))).be.undefined();
  });

  it('saves what a managed identity and a token of the flow need', async () => {
    await form.enter({ login: 'identity' });
    (await form.row('clientid').innerText()).trim().should.equal('Identity client ID');
    (await form.row('scope').innerText()).trim().should.equal('Resource');
    (await form.invalid('scope')).should.be.true();
    (await form.invalid('clientid')).should.be.false();
    await form.enter({ scope: 'https://servicebus.azure.net/', tokenuse: 'xoauth2' });
    (await form.invalid('user')).should.be.true();
    await form.enter({ user: 'me' });
    (await form.invalid('user')).should.be.false();
    await editor.screenshot('endpoint-identity');
    const { flow, credentials } = await saved();
    flow.should.containEql({ login: 'identity', scope: 'https://servicebus.azure.net/', tokenuse: 'xoauth2' });
    should(credentials).containEql({ user: 'me' });

    form = await editor.edit('endpoint');
    await form.enter({ login: 'flow', tokenuse: 'header' });
    (await form.invalid('tokenuse')).should.be.true();
    await editor.screenshot('endpoint-flow');
    await form.enter({ host: 'wss://broker.example/amqp' });
    (await form.invalid('tokenuse')).should.be.false();
    const other = await saved();
    other.flow.should.containEql({ login: 'flow', tokenuse: 'header', scope: '', urls: 'wss://broker.example/amqp' });
    should(other.credentials).containEql({ user: '' });
  });

  it('takes a proxy that is added from it', async () => {
    await form.enter({ connectto: 'urls', urls: 'wss://broker.example' });
    await form.show('proxy');
    await editor.page.locator('#node-config-input-btn-proxy-add').click();
    const url = editor.page.locator('#node-config-input-url');
    await url.fill('http://other.example:3128');
    await editor.page.locator('#node-config-dialog-ok:visible').last().click();
    await url.waitFor({ state: 'detached' });
    const { flow } = await saved();
    (await deployed(String(flow['proxy']))).should.containEql({ type: 'http proxy', url: 'http://other.example:3128' });
  });

  it('goes by the endpoint itself while the form of another one is open', async () => {
    await form.enter({ connectto: 'urls' });
    (await editor.errors('endpoint', {})).should.eql(['URLs: property value missing']);
    await editor.page.evaluate(() => {
      // oxlint-disable-next-line no-explicit-any -- the editor's global, in the browser
      const { RED } = globalThis as any;
      RED.nodes.add({
        id: 'other',
        type: 'amqp-endpoint',
        _def: RED.nodes.getType('amqp-endpoint'),
        host: '',
        users: [],
      });
    });
    (await editor.errors('other', {})).should.eql(['Server: property value missing']);
    await form.cancel();
  });

  it('takes the service key of SAP apart, its secret with the credentials', async () => {
    const key = serviceKey({
      clientid: 'me',
      clientsecret: SECRET,
      tokenendpoint: 'https://login.example/oauth/token',
    });
    await form.paste('host', key);
    const filled = {
      peer: 'sap',
      connectto: 'urls',
      urls: SAP_URL,
      login: 'oauth',
      tokenurl: 'https://login.example/oauth/token',
      clientid: 'me',
      tokenuse: 'header',
    };
    (await values(...Object.keys(filled))).should.eql(filled);
    (await form.value('clientsecret')).should.equal(SECRET);
    (await form.field('tokenurl').isVisible()).should.be.true();
    const tip = editor.page.locator('#amqp-endpoint-entity');
    (await tip.innerText())
      .trim()
      .should.equal('Addresses begin with queue:default/orders/1/ or topic:default/orders/1/.');
    for (const name of ['urls', 'tokenurl', 'clientid', 'clientsecret', 'tokenuse'])
      (await form.invalid(name)).should.be.false(name);
    await editor.screenshot('endpoint-service-key');
    const { flow, credentials } = await saved();
    flow.should.containEql({ ...filled, host: 'localhost' });
    should(secretIn(JSON.stringify(await editor.saved()))).be.undefined();
    should(credentials).eql({ user: '', has_pass: false, has_clientsecret: true, headers: '' });
  });

  it('keeps nothing of a service key that it cannot use', async () => {
    const wrong: [key: string, reason: string][] = [
      [`{"messaging": [{"clientsecret": "${PASSWORD}"`, 'but is not valid JSON'],
      [serviceKey({ clientid: 'me', clientsecret: SECRET, tokenendpoint: 'https://a' }, 'https://b'), 'has no AMQP'],
      [serviceKey({ clientsecret: SECRET }), 'has no OAuth login'],
    ];
    for (const [key, reason] of wrong) {
      await form.paste('host', key);
      (await form.invalid('host')).should.be.true(reason);
      const errors = await editor.errors('endpoint', { host: key });
      errors.join().should.containEql(reason).and.not.containEql('clientsecret');
      await form.done();
      should(await editor.property('endpoint', 'host')).equal('', reason);
      form = await editor.edit('endpoint');
      await form.enter({ connectto: 'urls', urls: key, container_id: key });
      (await form.invalid('container_id')).should.be.true();
      await form.done();
      should(secretIn(JSON.stringify(await editor.saved()))).be.undefined();
      form = await editor.edit('endpoint');
      await form.enter({ connectto: 'host', container_id: '' });
    }
    await form.cancel();
  });

  it('fills in what is known of each kind of server, and takes it back with another choice', async () => {
    const kinds = await form
      .field('peer')
      .locator('option')
      .evaluateAll((all) => all.map((one) => (one as HTMLOptionElement).value));
    kinds.should.eql(['', ...Object.keys(KINDS)]);
    for (const [peer, { port = '5672', usetls = false, host, sessions = '', hint }] of Object.entries(KINDS)) {
      await form.field('peer').selectOption(peer);
      const told = { peer, port, sessions, host: host ? '' : 'localhost' };
      (await values(...Object.keys(told))).should.eql(told);
      should(await form.field('usetls').isChecked()).equal(usetls, peer);
      if (host) (await form.placeholder('host')).should.equal(host);
      (await editor.page.locator('#amqp-endpoint-hint').innerText()).should.match(hint ?? /^$/, peer);
    }
    await form.field('peer').selectOption('ibmmq');
    await editor.screenshot('endpoint-ibmmq');
    await form.enter({ container_id: 'a-b' });
    (await form.invalid('container_id')).should.be.true();
    await form.enter({ container_id: 'a.b/${HOSTNAME}' });
    (await form.invalid('container_id')).should.be.false();
    await form.field('peer').selectOption('');
    (await values('port', 'sessions', 'host')).should.eql({ port: '5672', sessions: '', host: 'localhost' });
    await form.cancel();
  });

  it('opens a fold by itself in which something is wrong, and counts what is set in the others', async () => {
    const [login, advanced] = [0, 1].map((n) => form.folds.nth(n));
    const isOpen = async (): Promise<boolean[]> =>
      Promise.all([login!, advanced!].map(async (fold) => (await fold.getAttribute('open')) !== null));
    const set = (): Promise<(string | null)[]> =>
      Promise.all([login!, advanced!].map((fold) => fold.locator('summary').getAttribute('data-set')));
    (await isOpen()).should.eql([false, false]);
    // That it does not connect by itself.
    (await set()).should.eql([null, '1 set']);
    await form.enter({ hostname: 'virtual', trace: true });
    (await set()).should.eql([null, '3 set']);
    await form.enter({ login: 'oauth' });
    (await set()).should.eql(['1 set', '3 set']);
    await form.done();
    form = await editor.edit('endpoint');
    await editor.page.locator('.amqp10-fold[open]').waitFor();
    (await isOpen()).should.eql([true, false]);
    (await set()).should.eql(['1 set', '3 set']);
    await form.cancel();
  });

  describe('tests the connection', () => {
    const passed = { ok: true, steps: ['name', 'tcp', 'open'], peer: { product: 'ActiveMQ Artemis', version: '2.44' } };

    it('with the values of the form, as they would be saved', async () => {
      await form.enter({ login: 'oauth', tokenurl: 'https://login.example', clientid: 'me', clientsecret: SECRET });
      await form.enter({ login: '', hostname: 'virtual', user: 'you', pass: PASSWORD });
      // Not left, so not split yet.
      await form.field('host').fill(`amqps://me:${encodeURIComponent(SPECIAL)}@broker.example`);
      const { id, properties, credentials, ...rest } = await press({ json: passed });
      should({ id, rest }).eql({ id: 'endpoint', rest: {} });
      should(credentials).eql({ user: 'me', pass: SPECIAL, clientsecret: '', headers: '', accounts: '' });
      const sent = properties as Record<string, unknown>;
      should(secretIn(JSON.stringify(sent))).be.undefined();
      const { flow, credentials: kept } = await saved();
      should(kept).eql({ user: 'me', has_pass: true, has_clientsecret: false, headers: '' });
      const { id: _id, type: _type, ...own } = flow;
      // What fields that are hidden have by default is no text yet.
      sent.should.eql({ ...own, maxclients: 1000, maxlinks: 100, maxmemory: 256 });
      sent.should.containEql({ host: 'broker.example', port: '5671', usetls: true, tokenurl: '', tls: '' });
    });

    it('without any secret that was not typed anew', async () => {
      await form.enter({ login: 'oauth', tokenurl: 'https://login.example', clientid: 'me', clientsecret: SECRET });
      await form.enter({ connectto: 'urls', urls: 'wss://broker.example', headers: HEADERS });
      await saved();
      form = await editor.edit('endpoint');
      (await press({ json: passed })).should.containEql({
        credentials: { user: '', pass: '', clientsecret: '__PWRD__', headers: HEADERS, accounts: '' },
      });
      await form.enter({ clientsecret: 'another' });
      (await press({ json: passed }))['credentials']!.should.containEql({ clientsecret: 'another' });
      await form.cancel();
    });

    it('at a real server: what it is, a wrong password, an address that it refuses, and nobody there', async () => {
      const properties = { product: 'Embedded', version: '1.2' };
      const broker = await Broker.start({ users: { me: PASSWORD }, anonymous: false, properties });
      try {
        const result = async (text: RegExp): Promise<void> => {
          await part('button').click();
          await part('result').filter({ hasText: text }).waitFor();
        };
        await form.enter({ host: '127.0.0.1', port: String(broker.port), user: 'me', pass: PASSWORD });
        await result(/^Connected to Embedded 1\.2\./);
        // With what is stored.
        await saved();
        form = await editor.edit('endpoint');
        broker.refuse('secret', { condition: 'amqp:unauthorized-access', description: 'not for you' });
        await part('address').fill('orders');
        await result(/The address orders can be used\./);
        await part('address').fill('secret');
        await result(/^The address cannot be used: .*not for you/);
        await form.enter({ pass: 'wrong' });
        await result(/^The login failed: /);
        await broker.stop();
        await result(/^The server was not reached: .*refused/);
        await form.cancel();
      } finally {
        await broker.stop();
      }
    });

    it('and says who answered, and what it offers', async () => {
      const peers: [peer: object, text: string][] = [
        [{ ...passed.peer, capabilities: [] }, 'Connected to ActiveMQ Artemis 2.44.'],
        [{ container: 'broker', capabilities: ['a', 'b'] }, 'Connected to broker.\nIt offers: a, b'],
        [{ container: '<b>bold</b>' }, 'Connected to <b>bold</b>.'],
        [{}, 'Connected to a server that does not say what it is.'],
      ];
      for (const [peer, text] of peers) {
        await press({ json: { ...passed, peer } });
        (await part('result').innerText()).should.equal(text);
      }
      (await part('result').getAttribute('role'))!.should.equal('status');
      await part('address').fill(' orders ');
      (await press({ json: passed })).should.containEql({ address: 'orders', role: 'source' });
      (await part('result').innerText()).should.containEql('The address orders can be used.');
      await editor.screenshot('endpoint-test-passed');
      await editor.page.getByLabel('Try the address').selectOption('target');
      (await press({ json: passed })).should.containEql({ address: 'orders', role: 'target' });
      await part('address').fill('');
      (await editor.page.getByLabel('Try the address').isVisible()).should.be.false();
      (await press({ json: passed })).should.not.have.properties('address');
      // It is of other values than these.
      await form.field('host').fill('other');
      (await part('result').innerText()).should.equal('');
      await form.cancel();
    });

    it('and says which step failed, why, and what to do', async () => {
      const steps = {
        settings: /^The settings cannot be used: /,
        name: /^The name of the server was not found: /,
        tcp: /^The server was not reached: /,
        proxy: /^The proxy did not let it through: /,
        tls: /^TLS failed: /,
        websocket: /^The WebSocket was not opened: /,
        login: /^The login failed: /,
        open: /^The server did not open the connection: /,
        token: /^No token was granted: /,
        attach: /^The address cannot be used: /,
      };
      for (const [step, text] of Object.entries(steps)) {
        await press({ json: { ok: false, step, reason: 'because', diagnosis: 'untrusted' } });
        (await part('result').innerText()).should.match(text, step).and.match(/: because\n.*certificate/);
      }
      await editor.screenshot('endpoint-test-failed');
      await press({ json: { ok: false, step: 'tcp', reason: 'no answer' } });
      (await part('result').innerText()).should.equal('The server was not reached: no answer');
      await form.cancel();
    });

    it('and says why it could not', async () => {
      const answers: [status: number, body: string, text: string][] = [
        [429, 'Wait a little before the next test.', 'Wait a little before the next test.'],
        [500, 'It broke.', 'It broke.'],
        [502, '<html>Bad gateway</html>', 'Node-RED did not run the test.'],
        [503, '', 'Node-RED did not run the test.'],
      ];
      for (const [status, body, text] of answers) {
        await press({ status, body });
        (await part('result').innerText()).should.equal(text);
      }
      const url = `${installation.url}/amqp-endpoint/test`;
      editor.complaints.filter((one) => one.startsWith(url)).should.eql(answers.map(([status]) => `${url}: ${status}`));
      editor.complaints.length = 0;
      await form.cancel();
    });

    it('only once what is wrong in the form is mended', async () => {
      await form.enter({ giveup: 'never' });
      await form.folds.nth(1).locator('summary').click();
      await part('button').click();
      (await part('result').innerText()).should.match(/^The settings cannot be used: Give up after: must be a number/);
      (await form.field('giveup').isVisible()).should.be.true();
      await form.enter({ giveup: '' });
      (await part('result').innerText()).should.equal('');
      await press({ json: passed });
      await form.enter({ role: 'listen' });
      (await part('button').isVisible()).should.be.false();
      await form.cancel();
    });
  });

  it('can be filled with the keyboard alone, and each field has a label', async () => {
    await form.enter({ login: 'oauth', connectto: 'urls', urls: 'wss://broker.example' });
    for (const fold of await form.folds.all()) {
      const wasOpen = (await fold.getAttribute('open')) !== null;
      await fold.locator('summary').focus();
      await editor.page.keyboard.press('Enter');
      await fold
        .locator('.form-row')
        .first()
        .waitFor({ state: wasOpen ? 'hidden' : 'visible' });
      if (wasOpen) await editor.page.keyboard.press('Enter');
    }
    const fields = form.element
      .locator('.amqp10-form')
      .locator('input:visible, select:visible, textarea:visible, button:visible');
    for (const field of await fields.all()) {
      const [labels, id] = await field.evaluate((element) => {
        const { labels: found, id: name, ariaLabel, innerText } = element as HTMLInputElement;
        return [ariaLabel || innerText || [...(found ?? [])].map((label) => label.textContent.trim()).join(), name];
      });
      should(labels).not.equal('', id);
    }
    const ids = await fields.evaluateAll((elements) => elements.map(({ id }) => id));
    ids.length.should.be.above(20);
    await fields.first().focus();
    const reached = new Set<string>();
    // A configuration node has two buttons beside it.
    for (let n = 0; n < 3 * ids.length; n++) {
      reached.add(await editor.page.evaluate(() => document.activeElement?.id ?? ''));
      await editor.page.keyboard.press('Tab');
    }
    ids.filter((id) => !reached.has(id)).should.eql([]);
    await form.cancel();
  });

  for (const theme of THEMES) {
    it(`has its rows in line and nothing cut off, in the ${theme} theme`, async () => {
      editor = await open(FLOW, theme);
      form = await editor.edit('endpoint');
      const looks: Record<string, Values> = {
        password: { user: 'me', host: 'broker.example' },
        list: { connectto: 'urls', urls: 'wss://one.example/$servicebus/websocket\nwss://two.example' },
        oauth: { login: 'oauth' },
        identity: { login: 'identity' },
        flow: { login: 'flow', urls: 'ws://one.example' },
        shared: { login: 'sas', connectto: 'host', host: 'ns.example' },
        listen: { role: 'listen', usetls: true },
      };
      for (const [name, given] of Object.entries(looks)) {
        await form.enter(given);
        for (const fold of await form.folds.all()) await form.unfold(fold);
        await editor.screenshot(`endpoint-look-${name}`);
        const wrong = await form.element.evaluate((element) => {
          const right = element.getBoundingClientRect().right;
          const fields = [...element.querySelectorAll<HTMLElement>('.form-row > *:not(label)')].filter(
            ({ offsetParent, offsetWidth }) => offsetParent && offsetWidth,
          );
          const cut = [...element.querySelectorAll<HTMLElement>('label')].filter(
            ({ offsetHeight, scrollWidth, clientWidth }) => offsetHeight > 30 || scrollWidth > clientWidth + 1,
          );
          const out = fields.filter((field) => field.getBoundingClientRect().right > right);
          return [...cut, ...out].map(({ id, textContent }) => id || textContent.trim());
        });
        wrong.should.eql([], name);
      }
      await form.cancel();
    });
  }

  for (const theme of THEMES) {
    it(`is accessible in all its parts, in the ${theme} theme`, async () => {
      editor = await open(FLOW, theme);
      form = await editor.edit('endpoint');
      const choices: Values[] = [
        {},
        { user: 'me', host: 'broker.example', peer: 'ibmmq', usetls: true },
        { connectto: 'urls', urls: 'wss://broker.example', login: 'oauth' },
        { login: 'flow' },
        { role: 'listen', usetls: true },
      ];
      for (const given of choices) {
        await form.enter(given);
        (await form.violations()).should.eql([], JSON.stringify(given));
        for (const fold of await form.folds.all()) await form.unfold(fold);
        (await form.violations()).should.eql([], `${JSON.stringify(given)}, unfolded`);
      }
      await form.enter({ role: 'connect', login: '', urls: 'amqp://broker.example' });
      for (const answer of [
        { ok: true, peer: { product: 'Broker', capabilities: ['a'] } },
        { ok: false, step: 'tcp', reason: 'no answer', diagnosis: 'silent' },
      ]) {
        await editor.page.route('**/amqp-endpoint/test', (route) => route.fulfill({ json: answer }), { times: 1 });
        await part('address').fill('orders');
        await part('button').click();
        await editor.page.locator(answer.ok ? '.amqp10-passed' : '.amqp10-failed').waitFor();
        (await form.violations()).should.eql([], JSON.stringify(answer));
      }
      await editor.page.locator('#amqp-endpoint-test').scrollIntoViewIfNeeded();
      await editor.screenshot('endpoint-accessible');
      await form.cancel();
    });
  }

  it('says what is wrong with its accounts, and keeps no password of them', async () => {
    await form.enter({ role: 'listen', host: '127.0.0.1', port: '5699' });
    await form.show('accountlist');
    const row = form.row('accountlist');
    const add = row.locator('.red-ui-editableList-addButton');
    const wrong = row.locator('.amqp10-wrong');
    const { keyboard } = editor.page;
    for (const name of ['ada', 'grace']) {
      await add.focus();
      await keyboard.press('Enter');
      await wrong.filter({ hasText: /has no name$/ }).waitFor();
      await keyboard.type(name);
      await wrong.filter({ hasText: /has no password$/ }).waitFor();
      await keyboard.press('Tab');
      await keyboard.type(PASSWORD);
      (await wrong.innerText()).should.equal('');
    }
    const names = row.getByLabel('Name');
    await names.nth(1).fill('ada');
    await wrong.filter({ hasText: 'Accounts, number 2: another account has this name' }).waitFor();
    await editor.screenshot('endpoint-accounts');
    await names.nth(1).fill('grace');
    (await form.value('accounts')).should.equal('[{"name":"ada","isNew":true},{"name":"grace","isNew":true}]');
    const { credentials } = await saved();
    const { accounts } = credentials as { accounts: string };
    const kept = JSON.parse(accounts) as Record<string, unknown>[];
    kept.map(({ name }) => name).should.eql(['ada', 'grace']);
    for (const account of kept) account.should.have.properties('salt', 'iterations', 'stored', 'server');
    should(secretIn(accounts)).be.undefined();
    should(secretIn(JSON.stringify(await editor.saved()))).be.undefined();

    // An old one keeps its password, under another name as well.
    form = await editor.edit('endpoint');
    await form.show('accountlist');
    (await row.getByLabel('Password').first().getAttribute('placeholder'))!.should.equal('unchanged');
    await names.first().fill('lovelace');
    await row.locator('.red-ui-editableList-item-remove').nth(1).click();
    await editor.page.waitForFunction(
      () => document.querySelectorAll('#node-config-input-accountlist > li').length === 1,
    );
    const after = await saved();
    JSON.parse((after.credentials as { accounts: string }).accounts).should.eql([{ ...kept[0], name: 'lovelace' }]);
  });
});
