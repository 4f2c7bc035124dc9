// A flow on its way to another Node-RED, as the menu exports and imports it.
import should from 'should';
import { secretIn, secretOf } from '../secrets';
import type { Editor } from './editor';
import { type Flow, nodeRedVersion } from './installation';
import { workbench } from './workbench';

// oxlint-disable-next-line no-explicit-any -- the editor's global, in the browser
declare const RED: any;

const TAB = { id: 'tab', type: 'tab', label: 'Mine', disabled: false, info: '', env: [] };
const CONNECTED = { type: 'amqp-endpoint', autoconnect: false, usetls: true };
const OAUTH = { ...CONNECTED, login: 'oauth', tokenurl: 'https://login.example/token', clientid: 'nodes' };

/** Each property has a value that is not its default, in one of them at least. */
const SERVERS: Flow[] = [
  { id: 'tls', type: 'tls-config', name: 'certificates', cert: '', key: '', ca: '', verifyservercert: false },
  { id: 'proxy', type: 'http proxy', name: 'the proxy', url: 'http://proxy.example:3128', noproxy: ['near.example'] },
  {
    ...CONNECTED,
    id: 'by-password',
    name: 'by a password',
    role: 'connect',
    peer: 'artemis',
    connectto: 'urls',
    urls: 'wss://one.example/amqp\nwss://two.example/amqp',
    order: 'random',
    hostname: 'virtual',
    container_id: 'client',
    sasl: 'PLAIN',
    tls: 'tls',
    rejectUnauthorized: false,
    proxy: 'proxy',
    trustnamed: true,
    tracecontext: true,
    trace: true,
    sessions: 'one',
    connecttimeout: '5',
    idletimeout: '60',
    firstpause: '0.1',
    longestpause: '${PAUSE}',
    giveup: '3600',
  },
  {
    ...OAUTH,
    id: 'by-token',
    name: 'by a token',
    host: 'broker.example',
    port: '5699',
    tokenuse: 'xoauth2',
    scope: 'broker',
    tokenparams: 'resource=broker',
    tokenauth: 'body',
  },
  { ...OAUTH, id: 'by-certificate', name: 'by a certificate', tokentls: 'tls' },
  {
    id: 'listening',
    type: 'amqp-endpoint',
    name: 'listening',
    role: 'listen',
    host: '127.0.0.1',
    port: '5698',
    anonymous: true,
    clientcertificates: true,
    maxclients: '9',
    maxlinks: '8',
    maxmemory: '7',
  },
];
const NODES: Flow[] = [
  {
    id: 'sender',
    type: 'amqp-sender',
    name: 'Send',
    endpoint: 'by-token',
    address: 'to.where',
    addressType: 'msg',
    kind: 'topic',
    format: 'message',
    body: 'json',
    durablemessages: false,
    priority: '7',
    ttl: '2.5',
    guarantee: 'at-most-once',
    buffer: '50',
    bufferbytes: '5',
    full: 'drop',
    store: 'write',
    timeout: '9',
    retrytime: '5',
    outcomes: 'all',
    copies: true,
    linkname: 'mine',
    capabilities: 'shared, global',
    durability: 'configuration',
    expiry: 'never',
    expirytime: '60',
    linkproperties: '{"a": 1}',
    batch: 'array',
    batchtime: '0.2',
    wires: [[]],
  },
  {
    id: 'receiver',
    type: 'amqp-receiver',
    name: 'Receive',
    endpoint: 'by-password',
    address: 'ORDERS',
    addressType: 'env',
    addresses: 'several',
    kind: 'queue',
    dynamic: true,
    format: 'message',
    output: 'typed',
    settle: 'pre-settled',
    onerror: 'reject',
    transaction: true,
    answered: true,
    creditwindow: '17',
    windowbytes: '5',
    settletimeout: '20',
    subscription: 'shared-durable',
    together: '10',
    togethertime: '0.5',
    maxattempts: '4',
    exhausted: 'output',
    outputs: 2,
    order: 'group',
    subscriptionname: 'mine',
    selector: 'weight > 2',
    filters: [{ filter: 'stream-offset', value: 'first' }],
    unfiltered: true,
    linkname: 'mine',
    capabilities: 'global',
    durability: 'unsettled-state',
    expiry: 'link-detach',
    expirytime: '1',
    distribution: 'move',
    consumerpriority: '-5',
    maxmessagesize: '${KB}',
    linkproperties: '{"b": "text"}',
    session: 'named',
    sessionid: 'one',
    sessions: '3',
    sessionidle: '5',
    group: 'readers',
    partitions: '0, 1',
    start: 'offset',
    startvalue: '17',
    places: 'elsewhere',
    epoch: '3',
    browse: true,
    trust: true,
    wires: [['sender'], ['requester']],
  },
  {
    id: 'requester',
    type: 'amqp-requester',
    name: 'Request',
    endpoint: 'by-certificate',
    address: 'asked',
    addressType: 'flow',
    kind: 'queue',
    format: 'message',
    body: 'string',
    durablemessages: true,
    priority: '0',
    ttl: '10',
    output: 'json',
    replyto: 'fixed',
    replycapability: 'queue',
    replyaddress: 'REPLIES',
    replyaddressType: 'env',
    replies: 'several',
    replycount: '3',
    endmarker: 'amqp.subject',
    statuserrors: true,
    timeout: '2.5',
    reconnect: 'fail',
    buffer: '9',
    linkproperties: '{"c": true}',
    wires: [[], ['sender']],
  },
  {
    id: 'responder',
    type: 'amqp-responder',
    name: 'Respond',
    endpoint: 'listening',
    address: 'REQUESTS',
    addressType: 'env',
    kind: 'queue',
    format: 'message',
    body: 'binary',
    durablemessages: false,
    priority: '9',
    ttl: '3',
    output: 'buffer',
    settle: 'arrival',
    creditwindow: '3',
    windowbytes: '6',
    settletimeout: '0',
    errorreplies: true,
    wires: [['responder']],
  },
].map((node, index) => ({ ...node, z: 'tab', x: 300, y: 80 + 80 * index }));

/** A user or an account is no secret, but nothing that others should have either. */
const CREDENTIALS: Record<string, Record<string, string>> = {
  tls: { certdata: 'of-the-client', keydata: secretOf('key'), passphrase: secretOf('passphrase') },
  proxy: { username: 'user-of-the-proxy', password: secretOf('proxy password') },
  'by-password': { user: 'user-of-the-server', pass: secretOf('password'), headers: 'X-Key: key-of-the-header' },
  'by-token': { user: 'user-of-the-token', clientsecret: secretOf('client secret') },
  listening: { accounts: '[{"name":"account-of-ada"}]' },
};
const withCredentials = SERVERS.map((node) => ({ ...node, credentials: CREDENTIALS[node.id] }));
const own = [...SERVERS, ...NODES];

const byId = (nodes: Flow[]) => Object.fromEntries(nodes.map((node) => [node.id, node]));

describe(`A flow exported from the editor of Node-RED ${nodeRedVersion}`, function () {
  this.timeout(120_000);
  const { installation, open } = workbench();
  let editor: Editor;
  /** What was exported. */
  let text: string;

  beforeEach(async () => {
    // Credentials of nodes with these ids go with them.
    await installation.deploy([]);
    editor = await open([TAB, ...withCredentials, ...NODES]);
    text = await editor.exported('flow');
  });

  const credentialsOf = (id: string, type = 'amqp-endpoint') =>
    installation.get(`/credentials/${encodeURIComponent(type)}/${id}`) as Promise<Record<string, unknown>>;
  /** Deploys what is in the editor, and gives those of its nodes. */
  const deployed = async (isOurs: (node: Flow) => boolean): Promise<Flow[]> => {
    // Deploy would ask.
    (await editor.invalid()).should.eql([]);
    await editor.deploy();
    return (await installation.flows()).filter(isOurs);
  };
  /** Properties of our nodes, but those of node-red-contrib-rhea, that have no other value here than the default. */
  const untried = async (): Promise<string[]> => {
    const defaults: Record<string, Record<string, { value?: unknown; type?: string }>> = await editor.page.evaluate(
      (types) =>
        Object.fromEntries(types.map((type) => [type, JSON.parse(JSON.stringify(RED.nodes.getType(type).defaults))])),
      [...new Set(own.map(({ type }) => type))].filter((type) => type.startsWith('amqp-')),
    );
    return Object.entries(defaults).flatMap(([type, properties]) => {
      const nodes = own.filter((node) => node.type === type);
      return Object.entries(properties)
        .filter(([, property]) => 'value' in property || 'type' in property)
        .filter(([name, { value = '' }]) => nodes.every((node) => String(node[name] ?? value) === String(value)))
        .map(([name]) => `${type}.${name}`);
    });
  };

  it('has no password, key, or name of a user in it, whether the tab is exported or all', async () => {
    for (const exported of [text, await editor.exported('full')]) {
      const found = JSON.parse(exported) as Flow[];
      should(byId(found)).containDeep(byId(own));
      found.filter((node) => 'credentials' in node).should.eql([]);
      should(secretIn(exported)).be.undefined();
      for (const value of Object.values(CREDENTIALS).flatMap((each) => Object.values(each)))
        exported.should.not.containEql(JSON.stringify(value).slice(1, -1));
    }
    should(await credentialsOf('by-password')).match({ user: 'user-of-the-server', has_pass: true });
  });

  it('arrives in another Node-RED with all but the credentials, and its forms say which are missing', async () => {
    (await untried()).should.eql([]);
    editor.complaints.should.eql([]);
    editor = await open([{ id: 'other', type: 'tab', label: 'Of another' }]);
    await editor.import(text);
    const arrived = await deployed(({ id }) => own.some((node) => node.id === id));
    should(byId(arrived)).eql(byId(own));
    for (const { id, type } of SERVERS) {
      const left = Object.values(await credentialsOf(id, type)).filter(Boolean);
      left.should.eql([], id);
    }

    for (const [id, name] of [
      ['by-password', 'user'],
      ['by-token', 'clientsecret'],
    ] as const) {
      const form = await editor.edit(id);
      (await form.invalid(name)).should.be.true(name);
      await form.cancel();
    }
  });

  it('is copied beside the original, to the same servers', async () => {
    await editor.import(text);
    await editor.page.locator('.red-ui-notification button', { hasText: 'Import copy' }).click();
    const copies = await deployed(({ id, name }) => NODES.some((node) => node['name'] === name && node.id !== id));
    const ids = new Map(copies.map(({ id, name }) => [id, NODES.find((node) => node['name'] === name)!.id]));
    ids.set(copies[0]!['z'] as string, 'tab');
    let renamed = JSON.stringify(copies);
    for (const [id, original] of ids) renamed = renamed.replaceAll(`"${id}"`, `"${original}"`);
    should(byId(JSON.parse(renamed))).eql(byId(NODES));
    should(await credentialsOf('by-password')).match({ user: 'user-of-the-server', has_pass: true });
  });
});
