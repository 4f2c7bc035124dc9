import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import should from 'should';
import { secretOf } from '../secrets';
import type { Editor, Theme, Values } from './editor';
import { ENDPOINT, FLOW, node, NODES, rhea, TAB } from './flows';
import { nodeRedVersion, type Flow } from './installation';
import { THEMES, workbench } from './workbench';

// oxlint-disable-next-line no-explicit-any -- the editor's global, in the browser
declare const RED: any;

const PASSWORD = secretOf('password');
const MODULE = '@amqp10/node-red-amqp10';

/** The examples, as their menu entries are called. */
function examplesIn(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((file) => file.endsWith('.json'))
    .map((file) => file.replace('.json', ''));
}

describe(`The editor of Node-RED ${nodeRedVersion}`, function () {
  this.timeout(120_000);
  const { installation, deployed, ...bench } = workbench();
  let editor: Editor;

  async function open(flows: Flow[], theme?: Theme): Promise<void> {
    editor = await bench.open(flows, theme);
  }

  for (const theme of THEMES) {
    it(`shows the four nodes in the palette, with icon and tooltip, in the ${theme} theme`, async () => {
      await open([TAB], theme);
      for (const type of NODES) {
        const entry = editor.palette(type);
        (await entry.innerText()).trim().should.match(new RegExp(`^${type.replace('-', '\\s')}$`));
        (await entry.locator('.red-ui-palette-icon').getAttribute('style'))!.should.containEql(`${MODULE}/${type}.svg`);
        await entry.hover();
        await editor.page.locator('.red-ui-popover', { hasText: /AMQP 1.0 server/ }).waitFor();
      }
      await editor.screenshot('palette');
    });

    for (const type of ['amqp-endpoint', ...NODES]) {
      it(`opens the form of ${type} complete and translated, in the ${theme} theme`, async () => {
        await open(FLOW, theme);
        const form = await editor.edit(type === 'amqp-endpoint' ? 'endpoint' : type);
        const folds = await form.folds.all();
        folds.length.should.be.greaterThan(1);
        await editor.screenshot(type);
        for (const fold of folds) {
          const text = (await fold.locator('summary').innerText()).trim();
          text.should.match(/^[\w ]+$/);
          await form.unfold(fold);
          await editor.screenshot(`${type}-${text.toLowerCase()}`);
          for (const label of await form.element.locator('label:visible').all()) {
            const { height, overflow } = await label.evaluate((element) => ({
              height: (element as HTMLElement).offsetHeight,
              overflow: element.scrollWidth - element.clientWidth,
            }));
            should(height < 30 && overflow < 1).be.true(`"${await label.innerText()}" is cut or wrapped`);
          }
        }
        for (const element of await form.element.locator('[data-i18n]').all()) {
          const key = (await element.getAttribute('data-i18n'))!;
          const text = key.startsWith('[placeholder]')
            ? await element.getAttribute('placeholder')
            : await element.textContent();
          should(Boolean(text) && !/^\S+[.:]\S+\.\S+$/.test(text!)).be.true(`${key} is shown as "${text}"`);
        }
        await form.cancel();
      });
    }
  }

  for (const theme of THEMES) {
    it(`has nothing in the forms of the nodes that keeps people out, in the ${theme} theme`, async () => {
      await open(
        FLOW.map((flow) => ({ ...flow, settle: 'flow', subscription: 'durable', filters: [{ filter: 'other' }] })),
        theme,
      );
      for (const type of NODES) {
        const form = await editor.edit(type);
        for (const fold of await form.folds.all()) await form.unfold(fold);
        (await form.violations()).should.eql([], type);
        await form.cancel();
      }
    });
  }

  it('names nodes by name, else by address, else by what they are', async () => {
    await open([
      ...FLOW,
      { ...node('amqp-sender', { y: 400 }), id: 'blank' },
      { ...ENDPOINT, id: 'named', name: 'Broker' },
    ]);
    (await editor.label('amqp-receiver')).should.equal('queue');
    (await editor.label('blank')).should.equal('amqp sender');
    (await editor.label('endpoint')).should.equal('localhost:5672');
    (await editor.label('named')).should.equal('Broker');
  });

  it('shows what the connection of a node is doing, in words', async () => {
    await open(FLOW);
    const status = editor.page.locator('.red-ui-flow-node-status-label');
    for (const index of NODES.keys())
      await status
        .nth(index)
        .filter({ hasText: /^not connected$/ })
        .waitFor();
  });

  it('labels the ports of the nodes', async () => {
    await open(FLOW);
    const tooltip = editor.page.locator(
      '.red-ui-popover-content, .red-ui-flow-port-tooltip, .red-ui-flow-port-tooltip-label',
    );
    const port = editor.page.locator('[id="amqp-requester"] .red-ui-flow-port-output .red-ui-flow-port');
    for (const [index, text] of ['delivery outcome', 'reply'].entries()) {
      await port.nth(index).hover();
      await tooltip.filter({ hasText: text }).first().waitFor();
    }
  });

  describe('a node', () => {
    const whole = 'must be a whole number';
    const wrong: [id: string, properties: object, reason: RegExp][] = [
      ['endpoint', { host: '' }, /^Server: property value missing$/],
      [
        'endpoint',
        { host: 'Endpoint=sb://name.example/;SharedAccessKey=secret' },
        /^Server: this connection string has a SharedAccessKey, but no SharedAccessKeyName$/,
      ],
      ['endpoint', { port: 0 }, new RegExp(`^Port: ${whole} from 1 to 65535$`)],
      ['endpoint', { port: '65536' }, /^Port: /],
      ['endpoint', { port: 'amqp' }, /^Port: /],
      ['endpoint', { connecttimeout: 0 }, /^Connect within: /],
      ['endpoint', { idletimeout: '' }, /^Lost after: must be a number of seconds from 0 to 86400$/],
      ['amqp-sender', { endpoint: '' }, /^Server: property value missing$/],
      ['amqp-sender', { endpoint: 'gone' }, /^Server: missing configuration node$/],
      ['amqp-sender', { address: 'a b', addressType: 'msg' }, /^Address: Invalid property/],
      ['amqp-sender', { address: '(', addressType: 'jsonata' }, /^Address: Invalid JSONata expression/],
      ['amqp-sender', { buffer: 0 }, new RegExp(`^Buffer at most: ${whole} from 1 to 10000000$`)],
      ['amqp-sender', { retrytime: '' }, /^Try again for: must be a number of seconds from 0 to 2000000$/],
      ['amqp-sender', { priority: '1.5' }, new RegExp(`^Priority: ${whole} from 0 to 255$`)],
      ['amqp-sender', { ttl: 0 }, /^Time to live: must be a number of seconds from 0.001 to 4000000$/],
      ['amqp-sender', { expirytime: '1.5' }, new RegExp(`^Expires after: ${whole} from 0 to 999999999$`)],
      ['amqp-sender', { capabilities: 'ä' }, /^Capabilities: must be plain ASCII text$/],
      ['amqp-receiver', { filters: [{ filter: 'sql' }] }, /^Filters, number 1: has no value$/],
      ['amqp-receiver', { together: 0 }, new RegExp(`^Messages in one msg: ${whole} from 1 to 10000$`)],
      ['amqp-receiver', { consumerpriority: 'x' }, /^Consumer priority: /],
      ['amqp-requester', { replycount: 0 }, /^Number of replies: /],
      ['endpoint', { role: 'listen', host: '', maxclients: 0 }, /^Clients at most: /],
      ['amqp-receiver', { endpoint: '' }, /^Server: /],
      ['amqp-receiver', { creditwindow: 65536 }, new RegExp(`^Messages in progress: ${whole} from 0 to 65535$`)],
      ['amqp-receiver', { settletimeout: 'x' }, /^Give back after: /],
      ['amqp-receiver', { subscription: 'shared' }, /^Subscription name: property value missing$/],
      ['amqp-receiver', { subscription: 'shared-durable' }, /^Subscription name: property value missing$/],
      ['amqp-requester', { endpoint: '' }, /^Server: /],
      ['amqp-requester', { replyto: 'fixed', replyaddress: '' }, /^Reply address: property value missing$/],
      ['amqp-requester', { timeout: -1 }, /^Wait for the reply: /],
      ['amqp-requester', { buffer: 0 }, /^In progress at most: /],
      ['amqp-responder', { endpoint: '' }, /^Server: /],
      ['amqp-responder', { address: '' }, /^Address: property value missing$/],
      ['amqp-responder', { creditwindow: -1 }, /^In progress at most: /],
      ['amqp-responder', { settletimeout: -1 }, /^Give back after: /],
    ];
    const right: [id: string, properties: object][] = [
      ['endpoint', { port: '${PORT}', connecttimeout: '5', idletimeout: '0.5' }],
      ['endpoint', { role: 'listen', host: '', connecttimeout: '' }],
      ['amqp-receiver', { filters: [{ filter: 'no-local' }], consumerpriority: '-3', maxmessagesize: '' }],
      ['amqp-sender', { address: '', buffer: '${BUFFER}', retrytime: 0 }],
      ['amqp-sender', { priority: '', ttl: '' }],
      ['amqp-sender', { priority: '${PRIORITY}', ttl: '0.5' }],
      ['amqp-sender', { address: 'amqp.to', addressType: 'msg' }],
      ['amqp-receiver', { address: '', creditwindow: 0, settletimeout: '0' }],
      ['amqp-receiver', { subscription: 'durable', subscriptionname: '' }],
      ['amqp-receiver', { subscription: 'shared', subscriptionname: 'mine' }],
      ['amqp-receiver', { subscription: 'shared', dynamic: true }],
      ['amqp-requester', { address: '', replyto: 'dynamic', replyaddress: '', timeout: '0.25' }],
      ['amqp-requester', { replyto: 'fixed', replyaddress: 'replies' }],
    ];

    it('says what is wrong with it', async () => {
      await open(FLOW);
      for (const [id, properties, reason] of wrong) {
        const errors = await editor.errors(id, properties);
        should(errors.length).equal(1, `${id} ${JSON.stringify(properties)}: ${errors.join()}`);
        errors[0]!.should.match(reason);
      }
    });

    it('is valid with the values it may have', async () => {
      await open(FLOW);
      for (const [id, properties] of right) {
        should(await editor.errors(id, properties)).eql([], `${id} ${JSON.stringify(properties)}`);
      }
    });
  });

  it('saves a flow as a person builds it', async () => {
    await open([TAB]);
    const sender = await editor.drag('amqp-sender', 300, 100);
    let form = await editor.edit(sender);
    await editor.page.locator('#node-input-btn-endpoint-add').click();
    const endpointForm = await editor.form('node-config-input');
    await endpointForm.enter({
      name: 'Broker',
      peer: 'artemis',
      host: 'broker.example',
      autoconnect: false,
      sasl: 'SCRAM-SHA-256',
      user: 'me',
      pass: PASSWORD,
      usetls: true,
      rejectUnauthorized: false,
      hostname: 'virtual',
      container_id: 'client',
      trustnamed: true,
      tracecontext: true,
      trace: true,
      sessions: 'one',
      connecttimeout: '5',
      idletimeout: '60',
      firstpause: '0.1',
      longestpause: '${PAUSE}',
      giveup: '3600',
    });
    await endpointForm.done();
    await form.ready();
    const endpoint = await form.value('endpoint');
    const senderValues = {
      name: 'Send',
      kind: 'topic',
      format: 'message',
      body: 'json',
      guarantee: 'at-most-once',
      retrytime: '5',
      durablemessages: false,
      priority: '7',
      ttl: '2.5',
      outcomes: 'all',
      buffer: '50',
      full: 'drop',
      linkname: 'mine',
      capabilities: 'shared, global',
      durability: 'configuration',
      expiry: 'never',
      expirytime: '60',
      linkproperties: '{"a": 1}',
    };
    await form.enter({ ...senderValues, address: 'msg:to.where' });
    await form.done();

    const others: Record<string, Values> = {
      'amqp-receiver': {
        name: 'Receive',
        address: 'orders',
        kind: 'queue',
        subscription: 'shared-durable',
        subscriptionname: 'mine',
        selector: 'weight > 2',
        trust: true,
        format: 'message',
        output: 'typed',
        settle: 'flow',
        onerror: 'reject',
        settletimeout: '20',
        creditwindow: '17',
        windowbytes: '5',
        unfiltered: true,
        capabilities: 'global',
        durability: 'unsettled-state',
        expiry: 'link-detach',
        expirytime: '1',
        consumerpriority: '-5',
        maxmessagesize: '${KB}',
        together: '10',
        togethertime: '0.5',
        maxattempts: '4',
        exhausted: 'output',
        order: 'group',
      },
      'amqp-requester': {
        name: 'Request',
        format: 'message',
        body: 'string',
        durablemessages: true,
        priority: '0',
        ttl: '10',
        output: 'json',
        replyto: 'fixed',
        replyaddress: 'replies',
        timeout: '2.5',
        reconnect: 'fail',
        buffer: '9',
        replies: 'several',
        replycount: '3',
        endmarker: 'amqp.subject',
        statuserrors: true,
      },
      'amqp-responder': {
        name: 'Respond',
        address: 'requests',
        format: 'message',
        output: 'buffer',
        body: 'binary',
        durablemessages: false,
        settle: 'arrival',
        settletimeout: '0',
        creditwindow: '3',
        windowbytes: '6',
        errorreplies: true,
      },
    };
    const ids: Record<string, string> = {};
    for (const [type, values] of Object.entries(others)) {
      ids[type] = await editor.drag(type, 300, 100 + 80 * NODES.indexOf(type));
      form = await editor.edit(ids[type]);
      await form.enter({ endpoint, ...values });
      await form.done();
    }
    await editor.screenshot('flow');
    await editor.deploy();

    (await deployed(endpoint)).should.eql({
      id: endpoint,
      type: 'amqp-endpoint',
      name: 'Broker',
      peer: 'artemis',
      connectto: 'host',
      host: 'broker.example',
      port: '5671',
      urls: '',
      order: 'listed',
      hostname: 'virtual',
      container_id: 'client',
      login: '',
      sasl: 'SCRAM-SHA-256',
      tokenuse: 'password',
      tokenurl: '',
      clientid: '',
      scope: '',
      tokenparams: '',
      tokenauth: 'basic',
      tokentls: '',
      usetls: true,
      tls: '',
      rejectUnauthorized: false,
      autoconnect: false,
      proxy: '',
      trustnamed: true,
      tracecontext: true,
      trace: true,
      sessions: 'one',
      connecttimeout: '5',
      idletimeout: '60',
      firstpause: '0.1',
      longestpause: '${PAUSE}',
      giveup: '3600',
      role: 'connect',
      anonymous: false,
      clientcertificates: false,
      maxclients: 1000,
      maxlinks: 100,
      maxmemory: 256,
    });
    const place = { z: 'tab', endpoint };
    (await deployed(sender)).should.containEql({ ...place, ...senderValues, address: 'to.where', addressType: 'msg' });
    for (const [type, values] of Object.entries(others)) {
      (await deployed(ids[type]!)).should.containEql({ ...place, ...values });
    }
    const reply = await deployed(ids['amqp-requester']!);
    reply.should.containEql({ address: '', addressType: 'str', replycapability: 'temporary-queue' });
    (await deployed(ids['amqp-receiver']!)).should.containEql({ dynamic: false, browse: false });

    (await installation.get(`/credentials/amqp-endpoint/${endpoint}`))!.should.containEql({
      user: 'me',
      has_pass: true,
    });
  });

  it('gives a new node the defaults, as numbers, and no property of the predecessor', async () => {
    await open(FLOW);
    const LINK = { linkname: '', capabilities: '', durability: '', expiry: '', expirytime: '', linkproperties: '' };
    const expected: Record<string, object> = {
      'amqp-sender': {
        addressType: 'str',
        body: 'auto',
        guarantee: 'at-least-once',
        buffer: 10000,
        bufferbytes: 64,
        full: 'refuse',
        store: 'none',
        timeout: 0,
        retrytime: 60,
        outcomes: 'accepted',
        copies: false,
        ...LINK,
        batch: 'off',
        batchtime: 0.1,
        durablemessages: true,
        priority: '',
        ttl: '',
      },
      'amqp-receiver': {
        addressType: 'str',
        dynamic: false,
        output: 'auto',
        settle: 'arrival',
        onerror: 'modify',
        transaction: false,
        answered: false,
        creditwindow: 100,
        windowbytes: 64,
        settletimeout: 300,
        subscription: '',
        subscriptionname: '',
        selector: '',
        browse: false,
        trust: false,
        addresses: 'one',
        filters: [],
        unfiltered: false,
        ...LINK,
        distribution: '',
        consumerpriority: '',
        maxmessagesize: '',
        together: 1,
        togethertime: 1,
        maxattempts: '',
        exhausted: 'reject',
        outputs: 1,
        order: '',
        session: '',
        sessionid: '',
        sessions: 8,
        sessionidle: 10,
        group: '',
        partitions: '',
        start: 'latest',
        startvalue: '',
        places: 'default',
        epoch: '',
      },
      'amqp-requester': {
        addressType: 'str',
        body: 'auto',
        output: 'auto',
        replyto: 'dynamic',
        replycapability: 'temporary-queue',
        replyaddress: '',
        replyaddressType: 'str',
        timeout: 30,
        reconnect: 'resend',
        buffer: 10000,
        linkproperties: '',
        replies: 'one',
        replycount: '',
        endmarker: '',
        statuserrors: false,
        durablemessages: false,
        priority: '',
        ttl: '',
      },
      'amqp-responder': {
        addressType: 'str',
        body: 'auto',
        output: 'auto',
        settle: 'reply',
        creditwindow: 100,
        windowbytes: 64,
        settletimeout: 300,
        errorreplies: false,
        durablemessages: true,
        priority: '',
        ttl: '',
      },
    };
    const ids: Record<string, string> = {};
    for (const type of NODES) {
      ids[type] = await editor.drag(type, 600, 60 + 80 * NODES.indexOf(type));
      const form = await editor.edit(ids[type]);
      await form.enter({ endpoint: 'endpoint' });
      if (type === 'amqp-responder') await form.enter({ address: 'requests' });
      await form.done();
    }
    await editor.deploy();
    for (const type of NODES) {
      const { x: _x, y: _y, ...saved } = await deployed(ids[type]!);
      saved.should.eql({
        id: ids[type],
        type,
        z: 'tab',
        name: '',
        endpoint: 'endpoint',
        address: type === 'amqp-responder' ? 'requests' : '',
        kind: '',
        format: 'body',
        wires: type === 'amqp-requester' ? [[], []] : [[]],
        ...expected[type],
      });
    }
  });

  it('gives a node that was saved before there were durable messages the default', async () => {
    await open(FLOW);
    const durable = { 'amqp-sender': true, 'amqp-requester': false, 'amqp-responder': true };
    for (const [type, value] of Object.entries(durable)) {
      const form = await editor.edit(type);
      await form.done();
      should(await editor.property(type, 'durablemessages')).equal(value, type);
    }
  });

  it('keeps an environment variable in a number field', async () => {
    await open([TAB, { ...ENDPOINT, port: '${PORT}' }]);
    const form = await editor.edit('endpoint');
    (await form.value('port')).should.equal('${PORT}');
    await form.enter({ name: 'Broker' });
    await form.done();
    await editor.deploy();
    (await deployed('endpoint')).should.containEql({ name: 'Broker', port: '${PORT}' });
  });

  it('forgets the TLS configuration once TLS is off', async () => {
    await open([TAB, { id: 'tls', type: 'tls-config', name: '' }, { ...ENDPOINT, usetls: true, tls: 'tls' }]);
    const form = await editor.edit('endpoint');
    (await form.offers('rejectUnauthorized')).should.be.false();
    await form.enter({ usetls: false });
    await form.done();
    await editor.deploy();
    (await deployed('endpoint')).should.containEql({ usetls: false, tls: '' });
  });

  describe('a flow of node-red-contrib-rhea', () => {
    const links = { sndsettlemode: '1', rcvsettlemode: 0, durable: 2, expirypolicy: 'never' };
    const LEGACY = [
      TAB,
      {
        id: 'endpoint',
        type: 'amqp-endpoint',
        name: '',
        host: 'localhost',
        port: '5673',
        username: 'old',
        password: 'clear text',
        container_id: 'here',
        usetls: false,
        tls: '',
        rejectUnauthorized: true,
      },
      rhea('amqp-sender', { address: 'queue', autosettle: true, dynamic: false, ...links }),
      rhea('amqp-receiver', {
        address: 'queue',
        autoaccept: false,
        dynamic: false,
        creditwindow: 0,
        ...links,
        sndsettlemode: 2,
      }),
      rhea('amqp-requester', { address: 'queue' }),
      rhea('amqp-responder', { address: 'queue' }),
    ];

    it('is valid as it is', async () => {
      await open(LEGACY);
      for (const flow of LEGACY.slice(1)) should(await editor.property(flow.id, 'valid')).equal(true, flow.id);
    });

    it('keeps its properties and its meaning when its nodes are edited', async () => {
      await open(LEGACY);
      for (const type of NODES) {
        const form = await editor.edit(type);
        (await form.value('format')).should.equal('message');
        await form.done();
      }
      await editor.deploy();
      const [, , ...originals] = JSON.parse(JSON.stringify(LEGACY)) as Flow[];
      for (const original of originals)
        (await deployed(original.id)).should.containEql({ ...original, format: 'message' });
      (await deployed('amqp-sender')).should.containEql({ guarantee: 'pre-settled', outcomes: 'all', buffer: '10000' });
      (await deployed('amqp-receiver')).should.containEql({ settle: 'flow', onerror: 'release', output: 'auto' });
      (await deployed('amqp-receiver')).should.containEql({ subscription: 'durable', browse: false, kind: '' });
      (await deployed('amqp-requester')).should.containEql({ replyto: 'dynamic', addressType: 'str' });
      for (const type of ['amqp-sender', 'amqp-requester', 'amqp-responder'])
        (await deployed(type)).should.containEql({ durablemessages: false, priority: '', ttl: '' });
      (await deployed('amqp-responder')).should.containEql({ settle: 'reply', creditwindow: '100' });
    });

    it('has its clear-text login moved to the credentials when its endpoint is edited', async () => {
      // Credentials of an endpoint with this id go with it.
      await open([TAB]);
      await open(LEGACY);
      const form = await editor.edit('endpoint');
      (await form.value('user')).should.equal('old');
      await form.show('user');
      await editor.page.locator('#amqp-endpoint-legacy').waitFor();
      await editor.screenshot('amqp-endpoint-legacy');
      await form.done();
      await editor.deploy();
      const endpoint = await deployed('endpoint');
      endpoint.should.containEql({
        peer: '',
        port: '5673',
        container_id: 'here',
        autoconnect: true,
        connecttimeout: '10',
      });
      endpoint.should.not.have.properties('username').and.not.have.properties('password');
      (await installation.get('/credentials/amqp-endpoint/endpoint'))!.should.containEql({
        user: 'old',
        has_pass: true,
      });
    });

    it('arrives unchanged by import', async () => {
      await open([TAB]);
      await editor.page.evaluate(
        (nodes) => RED.view.importNodes(nodes, { generateIds: false }),
        LEGACY.slice(1) as object,
      );
      await editor.page.locator('#red-ui-workspace-chart').click({ position: { x: 300, y: 200 } });
      await editor.deploy();
      for (const { x: _x, y: _y, z: _z, ...original } of JSON.parse(JSON.stringify(LEGACY.slice(1))) as Flow[]) {
        const saved = await deployed(original.id);
        saved.should.containEql(original);
        saved.should.not.have.property('format');
      }
    });
  });

  it('shows the help of every node', async () => {
    await open([TAB]);
    for (const type of ['amqp-endpoint', ...NODES]) {
      await editor.page.evaluate((wanted) => RED.sidebar.help.show(wanted), type);
      const help = editor.page
        .locator('.red-ui-help')
        .filter({ hasText: type.replace('-', ' ') })
        .last();
      await help.locator('h3', { hasText: 'Details' }).waitFor();
      const text = await help.innerText();
      text.should.match(/AMQP 1\.0 server/).and.match(/References/);
      // What a slip in the mark-up would leave behind.
      text.should.not.match(/^\s*[:#*-] /m).and.not.match(/`/);
      if (type !== 'amqp-endpoint') (await help.locator('dl.message-properties dt').count()).should.be.greaterThan(2);
      await editor.screenshot(`${type}-help`);
    }
  });

  it('offers the examples for import', async function () {
    const examples = examplesIn(join(__dirname, '..', '..', 'examples'));
    examples.length.should.be.above(0);
    await open([TAB]);
    await editor.page.evaluate(() => RED.actions.invoke('core:show-examples-import-dialog'));
    const tree = editor.page.locator('.ui-dialog .red-ui-treeList-label');
    await tree.filter({ hasText: MODULE }).click();
    for (const example of examples) {
      await tree.filter({ hasText: example }).waitFor();
    }
    await editor.screenshot('examples');
  });
});
