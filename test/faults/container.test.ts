// Node-RED as a container is configured: the flow file has `${NAME}` in each field, the values are in the environment.
import { EventEmitter, once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runInNewContext } from 'node:vm';
import type { EventContext } from 'rhea';
import should from 'should';
import { accountOf } from '../../nodes/lib/auth/accounts';
import { freePort } from '../../scripts/free-port';
import { Broker, type LinkInfo, type Login } from '../../broker/broker';
import { type Link, nameOf } from '../../broker/rhea';
import { HttpProxy } from '../doubles/http-proxy';
import { EventHubs } from '../doubles/event-hubs/event-hubs';
import { ServiceBus } from '../doubles/service-bus/service-bus';
import { TokenServer } from '../doubles/token-server';
import { node } from '../flow';
import type { NodeConfig } from '../node-red';
import { secretOf } from '../secrets';
import { Ledger } from './ledger';
import { NodeRedProcess } from './node-red-process';

const TYPES = ['amqp-endpoint', 'amqp-sender', 'amqp-receiver', 'amqp-requester', 'amqp-responder'];
const FIXTURES = join(__dirname, '..', 'fixtures');

/** What is in none of these flows, by the reason. */
const EXCEPT: Record<string, Record<string, string[]>> = {
  'what only the editor shows': {
    'amqp-endpoint': ['name'],
    'amqp-sender': ['name'],
    'amqp-receiver': ['name', 'outputs'],
    'amqp-requester': ['name'],
    'amqp-responder': ['name'],
  },
  'lists, whose rows may have variables in their cells': {
    'amqp-receiver': ['filters'],
  },
  'what node-red-contrib-rhea saved, and no form has': {
    'amqp-endpoint': ['username', 'password'],
    'amqp-sender': ['autosettle', 'dynamic', 'sndsettlemode', 'rcvsettlemode', 'durable', 'expirypolicy'],
    'amqp-receiver': ['autoaccept', 'sndsettlemode', 'rcvsettlemode', 'durable', 'expirypolicy'],
  },
};
/** Ids of other nodes: without the variable there is no such node, which is said in other words. */
const IDS = ['endpoint', 'tls', 'tokentls', 'proxy'];
/** What can be any text, so that none is wrong. */
const TEXTS = [
  'peer',
  'hostname',
  'container_id',
  'user',
  'pass',
  'clientid',
  'clientsecret',
  'scope',
  'address',
  'subscriptionname',
  'selector',
  'sessionid',
  'group',
  'startvalue',
  'places',
  'replycapability',
  'replyaddress',
  'linkname',
  'capabilities',
  'endmarker',
];
const OAUTH = { login: 'oauth', tokenurl: 'https://localhost/token', clientid: 'client' };
/** Without what a field is not looked at. */
const NEEDS: Record<string, object> = {
  rejectUnauthorized: { usetls: true },
  urls: { connectto: 'urls' },
  tokenuse: OAUTH,
  tokenurl: OAUTH,
  clientid: OAUTH,
  clientsecret: OAUTH,
  scope: OAUTH,
  tokenparams: OAUTH,
  tokenauth: OAUTH,
  subscriptionname: { subscription: 'durable' },
  batch: { endpoint: 'bus' },
  batchtime: { endpoint: 'bus' },
  session: { endpoint: 'bus' },
  sessionid: { endpoint: 'bus', session: 'named' },
  sessions: { endpoint: 'bus', session: 'next' },
  sessionidle: { endpoint: 'bus', session: 'next' },
  group: { endpoint: 'hub' },
  partitions: { endpoint: 'hub' },
  start: { endpoint: 'hub' },
  startvalue: { endpoint: 'hub', start: 'offset' },
  places: { endpoint: 'hub' },
  epoch: { endpoint: 'hub' },
  maxclients: { role: 'listen', anonymous: true },
  maxlinks: { role: 'listen', anonymous: true },
  maxmemory: { role: 'listen', anonymous: true },
  anonymous: { role: 'listen' },
  clientcertificates: { role: 'listen', anonymous: true },
  accounts: { role: 'listen', anonymous: true },
  togethertime: { together: 5 },
  replycount: { replies: 'several' },
  endmarker: { replies: 'several' },
  replycapability: { replyto: 'capability' },
  replyaddress: { replyto: 'fixed' },
  replyaddressType: { replyto: 'fixed' },
};

const LINK = '{"plant": 7}';

/** Of an inject node. */
const TRACE_PARENT = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
const ONCE = {
  once: true,
  onceDelay: 0.01,
  props: [{ p: 'payload' }, { p: 'traceparent', v: TRACE_PARENT, vt: 'str' }],
  payload: '{}',
  payloadType: 'json',
  repeat: '',
};

interface Definition {
  defaults: object;
  credentials?: object;
}

/** What the editor is told of the types. */
const definitions: Record<string, Definition> = {};
for (const type of TYPES) {
  const html = readFileSync(join(__dirname, '..', '..', 'nodes', `${type}.html`), 'utf8');
  const [, script] = /<script type="text\/javascript">(.*?)<\/script>/s.exec(html)!;
  const registerType = (name: string, definition: Definition): void => void (definitions[name] = definition);
  runInNewContext(script!, { RED: { _: String, nodes: { registerType }, validators: { typedInput: String } } });
}

function fieldsOf(type: string): string[] {
  const { defaults, credentials = {} } = definitions[type]!;
  const excepted = Object.values(EXCEPT).flatMap((types) => types[type] ?? []);
  return Object.keys({ ...defaults, ...credentials }).filter((name) => !excepted.includes(name));
}

/** A flow and its environment. */
class Site {
  readonly flow: NodeConfig[] = [{ id: 'flow', type: 'tab', label: 'flow' }];
  readonly env: Record<string, string> = {};
  readonly credentials: Record<string, Record<string, string>> = {};
  /** What has a variable, as `type.field`. */
  readonly fields = new Set<string>();

  /** A node that has variables in place of these values. */
  add(type: string, id: string, values: Record<string, string | number | boolean>): void {
    const fields: Record<string, string> = {};
    for (const [name, value] of Object.entries(values)) {
      this.fields.add(`${type}.${name}`);
      const variable = `${id}_${name}`.replaceAll(/\W/g, '_').toUpperCase();
      fields[name] = `\${${variable}}`;
      this.env[variable] = String(value);
    }
    this.#add(type, id, fields, {});
  }

  /** One that has a variable in one field. Without a value there is no such variable. */
  addOne(type: string, name: string, value?: string): void {
    const id = `${type}.${name}`;
    if (value !== undefined) this.env[variableOf(name)] = value;
    const properties = { format: 'body', address: 'q', endpoint: 'broker', ...NEEDS[name] };
    this.#add(type, id, { [name]: `\${${variableOf(name)}}` }, properties);
    // Nodes show what is wrong with their endpoint.
    if (type === 'amqp-endpoint') this.#add('amqp-sender', `${id} sender`, {}, { ...properties, endpoint: id });
  }

  #add(type: string, id: string, fields: Record<string, string>, properties: object): void {
    const own = { wires: [[]], ...properties, ...fields, id };
    const { credentials = {} } = definitions[type]!;
    const secret = Object.keys(fields).filter((name) => name in credentials);
    this.credentials[id] = Object.fromEntries(secret.map((name) => [name, fields[name]!]));
    const open: Record<string, unknown> = { ...own };
    for (const name of secret) delete open[name];
    this.flow.push(
      type === 'amqp-endpoint' ? { host: '127.0.0.1', ...open, id, type, z: '' } : node(type, { address: '', ...open }),
    );
  }
}

/** Fields that cannot be without their variable. */
const needed = (type: string): string[] => fieldsOf(type).filter((name) => !IDS.includes(name));
/** Fields that cannot have just any text. */
const checked = (type: string): string[] => needed(type).filter((name) => !TEXTS.includes(name));

function keysOf(namesOf: (type: string) => string[]): string[] {
  return TYPES.flatMap((type) => namesOf(type).map((name) => `${type}.${name}`)).toSorted();
}

const variableOf = (name: string): string => `AMQP_TEST_${name.toUpperCase()}`;

describe('Node-RED in a container, configured by its environment', function () {
  this.timeout(60_000);

  const cleanups: (() => Promise<unknown>)[] = [];
  let nodeRed: NodeRedProcess;
  before(() => NodeRedProcess.build());
  afterEach(async function () {
    if (this.currentTest!.state === 'failed') console.error((nodeRed as NodeRedProcess | undefined)?.log);
    for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
  });

  async function start({ flow, env, credentials }: Site): Promise<void> {
    nodeRed = new NodeRedProcess(new Ledger());
    cleanups.push(() => nodeRed.remove());
    await nodeRed.start(flow, { env, credentials, settings: { credentialSecret: false }, printsStatuses: true });
  }

  it('takes all of its settings from there', async () => {
    const login = { user: 'anna', pass: secretOf('password', '@ ä') };
    const [key, cert] = ['server.key', 'server.crt'].map((name) => readFileSync(join(FIXTURES, name)));
    const users = { [login.user]: login.pass };
    const mechanisms = ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512'];
    const broker = await Broker.start({
      tls: { key, cert },
      users,
      mechanisms,
      anonymous: false,
      confirmsFilters: true,
    });
    const cloud = await Broker.start({ websocket: true });
    const client = { clientId: 'plant', clientSecret: secretOf('client secret') };
    const tokenServer = await TokenServer.start({ ...client, clientAuth: 'client_secret_post', tls: true });
    const account = { user: 'me', password: secretOf('proxy password') };
    const proxy = await HttpProxy.start(account);
    const bus = await ServiceBus.start({ queues: { work: { requiresSession: true }, bulk: {} } });
    const hub = await EventHubs.start({ hubs: { telemetry: { partitions: 2, groups: ['line'] } } });
    cleanups.push(() => Promise.all([broker, cloud, tokenServer, proxy, bus, hub].map((one) => one.stop())));
    const seen = new EventEmitter();
    const opened: Record<string, { hostname: string; idleTimeout: number }> = {};
    const links: Record<string, Partial<LinkInfo>> = {};
    const credit: Record<string, number> = {};
    const sent: Record<string, object> = {};
    const properties: Record<string, unknown> = {};
    const logins: string[] = [];
    const azure: object[] = [];
    for (const service of [bus, hub] as EventEmitter[])
      for (const event of ['attach', 'waiting', 'message'])
        service.on(event, (info: string | { address: string; epoch?: number; sessionId?: string }) => {
          if (typeof info === 'object' && info.address.startsWith('$')) return;
          azure.push({ event, ...(typeof info === 'string' ? { address: info } : info) });
          seen.emit('more');
        });
    broker.on('login', ({ mechanism }: Login) => logins.push(mechanism));
    const container = broker['container'];
    container.on('connection_open', ({ connection }: EventContext) => {
      const { container_id: id, hostname, idle_time_out: idleTimeout } = connection as unknown as Record<string, any>;
      opened[id] = { hostname, idleTimeout };
    });
    container.on('sender_flow', ({ sender }: EventContext) => {
      const link = sender as unknown as Link;
      credit[nameOf(link)] = link.credit;
      seen.emit('more');
    });
    for (const one of [broker, cloud])
      one.on('attach', ({ name, address, sndSettleMode, source, target }: LinkInfo) => {
        links[name] = { address, sndSettleMode, source, target };
        seen.emit('more');
      });
    broker.on('message', (address: string, message: Record<string, unknown>) => {
      const { durable, priority, ttl, content_type, application_properties } = message;
      sent[address] = { durable, priority, ttl, content_type };
      properties[address] = application_properties;
      seen.emit('more');
    });

    const path = `/amqp?key=${secretOf('connection key')}`;
    const site = new Site();
    const files = { cert: '', key: '', ca: join(FIXTURES, 'ca.crt'), certname: '', keyname: '', caname: '' };
    site.flow.push({ id: 'tls', type: 'tls-config', z: '', ...files, servername: '', verifyservercert: true });
    const server = { host: '127.0.0.1', port: broker.port, usetls: true, ...login };
    const own = {
      sasl: 'SCRAM-SHA-256',
      hostname: 'plant',
      container_id: 'orders',
      connecttimeout: 7,
      idletimeout: 45,
      tracecontext: true,
    };
    site.add('amqp-endpoint', 'broker', { ...server, ...own, tls: 'tls', autoconnect: true });
    site.add('amqp-endpoint', 'unverified', {
      ...server,
      container_id: 'unverified',
      rejectUnauthorized: false,
      trace: true,
    });
    site.flow.push({ id: 'proxy', type: 'http proxy', z: '', name: '', url: proxy.url, noproxy: [] });
    site.credentials['proxy'] = { username: account.user, password: account.password };
    site.add('amqp-endpoint', 'cloud', {
      connectto: 'urls',
      urls: `ws://127.0.0.1:${cloud.port}${path}`,
      order: 'random',
      trustnamed: true,
      proxy: 'proxy',
      headers: `X-Key: ${secretOf('header')}`,
      login: 'oauth',
      tokenuse: 'header',
      tokenurl: tokenServer.tokenUrl,
      tokentls: 'tls',
      clientid: client.clientId,
      clientsecret: client.clientSecret,
      scope: 'read',
      tokenparams: 'tenant=plant',
      tokenauth: 'body',
      sessions: 'one',
      firstpause: 0.2,
      longestpause: 9,
      giveup: 100,
    });
    site.add('amqp-receiver', 'far', { endpoint: 'cloud', address: 'far' });
    site.add('amqp-endpoint', 'manual', { ...server, container_id: 'manual', autoconnect: false });
    const written = { kind: 'queue', format: 'body', body: 'json', priority: 7, ttl: 5 };
    const limits = { buffer: 70, timeout: 20 };
    site.add('amqp-sender', 'sender', {
      ...written,
      ...limits,
      endpoint: 'broker',
      address: 'out',
      addressType: 'str',
      durablemessages: false,
      outcomes: 'all',
      guarantee: 'pre-settled',
      linkproperties: LINK,
      bufferbytes: 3,
      full: 'drop',
      store: 'none',
      retrytime: 9,
    });
    const read = { format: 'body', output: 'json', creditwindow: 7, windowbytes: 5, settletimeout: 200 };
    site.add('amqp-receiver', 'receiver', {
      ...read,
      endpoint: 'broker',
      address: 'in',
      addressType: 'str',
      kind: 'topic',
      settle: 'flow',
      onerror: 'reject',
      answered: true,
      trust: true,
      subscription: 'shared-durable',
      subscriptionname: 'line',
      linkproperties: LINK,
      selector: 'n > 1',
      browse: false,
      dynamic: false,
    });
    site.add('amqp-sender', 'special', {
      endpoint: 'unverified',
      address: 'special',
      linkname: 'will',
      capabilities: 'temporary-queue',
      durability: 'configuration',
      expiry: 'never',
      expirytime: 60,
      copies: false,
    });
    site.add('amqp-receiver', 'careful', {
      endpoint: 'unverified',
      addresses: 'one',
      address: 'special',
      linkname: 'line-7',
      capabilities: 'shared',
      durability: 'configuration',
      expiry: 'never',
      expirytime: 70,
      distribution: 'move',
      consumerpriority: 3,
      maxmessagesize: 10,
      unfiltered: true,
      settle: 'flow',
      transaction: false,
      together: 5,
      togethertime: 2,
      maxattempts: 4,
      exhausted: 'output',
      order: 'group',
    });
    site.add('amqp-endpoint', 'own', {
      role: 'listen',
      host: '127.0.0.1',
      port: await freePort(),
      anonymous: false,
      clientcertificates: false,
      accounts: JSON.stringify([await accountOf('device', secretOf('device'))]),
      maxclients: 10,
      maxlinks: 5,
      maxmemory: 8,
    });
    site.add('amqp-receiver', 'devices', { endpoint: 'own', address: 'in' });
    const service = { host: bus.connectionString(), peer: 'servicebus' };
    site.add('amqp-endpoint', 'bus', service);
    const sessions = { endpoint: 'bus', address: 'work', sessions: 2, sessionidle: 9 };
    site.add('amqp-receiver', 'free', { ...sessions, session: 'next' });
    site.add('amqp-receiver', 'named', { ...sessions, session: 'named', sessionid: 'mine' });
    site.add('amqp-sender', 'bulk', { endpoint: 'bus', address: 'bulk', batch: 'time', batchtime: 0.05 });
    site.add('amqp-endpoint', 'hub', { host: hub.connectionString(), peer: 'eventhubs' });
    site.add('amqp-receiver', 'events', {
      endpoint: 'hub',
      address: 'telemetry',
      group: 'line',
      partitions: '1',
      start: 'time',
      startvalue: '2026-11-27T00:00:00Z',
      places: 'default',
      epoch: 3,
    });
    site.add('amqp-receiver', 'reader', { endpoint: 'unverified', address: 'in', browse: true });
    site.add('amqp-receiver', 'dynamic', { endpoint: 'unverified', dynamic: true });
    site.add('amqp-receiver', 'manually', { endpoint: 'manual', address: 'in' });
    const request = {
      ...written,
      ...limits,
      endpoint: 'broker',
      address: 'ask',
      output: 'json',
      durablemessages: true,
      linkproperties: LINK,
    };
    const reply = { addressType: 'str', reconnect: 'fail' };
    site.add('amqp-requester', 'asking', {
      ...request,
      ...reply,
      replyto: 'capability',
      replycapability: 'temporary-topic',
    });
    site.add('amqp-requester', 'fixed', {
      ...request,
      ...reply,
      replyto: 'fixed',
      replyaddress: 'answers',
      replyaddressType: 'str',
    });
    site.add('amqp-requester', 'gather', {
      endpoint: 'unverified',
      address: 'all',
      replyto: 'fixed',
      replyaddress: 'gathered',
      replies: 'several',
      replycount: 3,
      endmarker: 'payload.last',
      statuserrors: true,
    });
    site.add('amqp-responder', 'responder', {
      errorreplies: true,
      ...written,
      ...read,
      endpoint: 'broker',
      address: 'answer',
      addressType: 'str',
      durablemessages: true,
      settle: 'arrival',
      creditwindow: 9,
    });
    // A field that is new in a form has to come in here, too.
    should([...site.fields].toSorted()).deepEqual(keysOf(fieldsOf));
    site.flow.push({
      id: 'once',
      type: 'inject',
      z: 'flow',
      x: 0,
      y: 0,
      ...ONCE,
      wires: [['sender', 'asking', 'bulk']],
    });

    await start(site);
    const isAll = (): boolean =>
      Object.keys(links).length === 15 &&
      'line|receiver' in credit &&
      'responder:request' in credit &&
      'ask' in sent &&
      'out' in sent &&
      azure.length >= 6;
    while (!isAll()) await once(seen, 'more');
    should(opened).deepEqual({
      // rhea announces half of it.
      orders: { hostname: 'plant', idleTimeout: 22_500 },
      unverified: { hostname: '127.0.0.1', idleTimeout: 15_000 },
    });
    should(links).match({
      sender: { address: 'out', sndSettleMode: 1, target: { capabilities: ['queue'] } },
      'line|receiver': {
        address: 'in',
        source: {
          durable: 2,
          expiry_policy: 'never',
          filter: { 'jms-selector': 'n > 1' },
          capabilities: ['topic', 'shared', 'global'],
        },
      },
      reader: { address: 'in', source: { distribution_mode: 'copy' } },
      dynamic: { address: /^dynamic-/, source: { dynamic: true } },
      'asking:request': { address: 'ask', target: { capabilities: ['queue'] } },
      'asking:reply': { address: /^dynamic-/, source: { dynamic: true, capabilities: ['temporary-topic'] } },
      'fixed:request': { address: 'ask' },
      'fixed:reply': { address: 'answers' },
      'responder:request': { address: 'answer', source: { capabilities: ['queue'] } },
      'responder:reply': {},
      far: { address: 'far' },
      will: {
        address: 'special',
        target: { capabilities: ['temporary-queue'], durable: 1, expiry_policy: 'never', timeout: 60 },
      },
      'line-7': {
        address: 'special',
        source: {
          capabilities: ['shared'],
          durable: 1,
          expiry_policy: 'never',
          timeout: 70,
          distribution_mode: 'move',
        },
      },
      'gather:request': { address: 'all' },
      'gather:reply': { address: 'gathered' },
    });
    should(links['line|receiver']!.source).not.have.property('distribution_mode');
    should(credit).match({ 'line|receiver': 7, 'responder:request': 9 });
    const header = { priority: 7, ttl: 5000, content_type: 'application/json' };
    should(sent).deepEqual({ out: { ...header, durable: undefined }, ask: { ...header, durable: true } });
    should(properties).match({ out: { traceparent: TRACE_PARENT }, ask: { traceparent: TRACE_PARENT } });
    should(nodeRed.log).match(/-> channel 0 open container-id="unverified"/);
    should(nodeRed.log).not.match(/-> channel 0 open container-id="orders"/);
    should(logins.toSorted()).deepEqual(['SCRAM-SHA-256', 'SCRAM-SHA-512']);
    const partition = 'telemetry/consumergroups/line/partitions/1';
    should(azure).containDeep([
      { event: 'waiting', name: 'free:0', address: 'work' },
      { event: 'waiting', name: 'free:1', address: 'work' },
      { event: 'attach', name: 'named', address: 'work', sessionId: 'mine' },
      { event: 'attach', name: 'bulk', address: 'bulk' },
      { event: 'message', address: 'bulk' },
      { event: 'attach', name: 'events:1', address: partition, epoch: 3 },
    ]);
    const [upgrade] = cloud.upgrades;
    should(upgrade).match({ path, headers: { 'x-key': secretOf('header') } });
    should(upgrade!.headers.authorization).equal(`Bearer ${tokenServer.tokens[0]}`);
    const { clientId: client_id, clientSecret: client_secret } = client;
    const parameters = { scope: 'read', tenant: 'plant', client_id, client_secret };
    should(tokenServer.requests).match([{ parameters, authorization: undefined }]);
    should(proxy.targets).deepEqual([new URL(tokenServer.url).host, `127.0.0.1:${cloud.port}`]);
    should(nodeRed.log).not.match(/\[error\]/);
  });

  /**
   * Starts a flow with a node for each of these fields, and resolves with what each says of it, by `type.field`: the reason
   * in the log. Its status has to name the field by the same label.
   */
  async function told(namesOf: (type: string) => string[], value?: string): Promise<Record<string, string>> {
    const site = new Site();
    for (const type of TYPES) for (const name of namesOf(type)) site.addOne(type, name, value);
    for (const [id, peer] of Object.entries({ broker: '', bus: 'servicebus', hub: 'eventhubs' })) {
      const server = { host: '127.0.0.1', port: 5672, autoconnect: false };
      site.flow.push({ id, type: 'amqp-endpoint', z: '', peer, ...server });
    }
    // All of them do so before the flow is started.
    await start(site);
    const { log } = nodeRed;
    const shown: Record<string, string> = {};
    for (const [, id, text] of log.matchAll(/<(.+?)(?: sender)?> shows <(.*)>/g)) shown[id!] = text!;
    const said: Record<string, string> = {};
    for (const [, id, label, name, why] of log.matchAll(/\[error\] \[[\w-]+:(.+?)\] (.*) \((\w+)\): (.*)/g)) {
      should(id).endWith(`.${name}`);
      should(shown[id!]).equal(`error: ${label}`, id);
      // That would be a key in place of its text.
      should(label).not.match(/\.label\./);
      said[id!] = why!;
    }
    return said;
  }

  it('says which field lacks its variable, in log and status', async () => {
    const said = await told(needed);
    should(Object.keys(said).toSorted()).deepEqual(keysOf(needed));
    for (const [id, why] of Object.entries(said))
      should(why).equal(`the environment variable ${variableOf(id.split('.')[1]!)} is not set`, id);
  });

  it('says which field has a variable that does not fit, in log and status', async () => {
    const said = await told(checked, 'a b');
    should(Object.keys(said).toSorted()).deepEqual(keysOf(checked));
    for (const [id, why] of Object.entries(said)) should(why).not.match(/environment variable/, id);
  });
});
