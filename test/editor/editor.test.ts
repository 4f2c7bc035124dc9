import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import should from 'should';
import { secretOf } from '../secrets';
import type { Editor, Theme, Values } from './editor';
import { nodeRedVersion, type Flow } from './installation';
import { THEMES, workbench } from './workbench';

// oxlint-disable-next-line no-explicit-any -- the editor's global, in the browser
declare const RED: any;

const PASSWORD = secretOf('password');
/** Of characters that a URL has to encode. */
const SPECIAL = secretOf('password', '@ ');
const MODULE = '@amqp10/node-red-amqp10';
const NODES = ['amqp-sender', 'amqp-receiver', 'amqp-requester', 'amqp-responder'];

const TAB = { id: 'tab', type: 'tab', label: 'Test' };
const ENDPOINT = { id: 'endpoint', type: 'amqp-endpoint', name: '', host: 'localhost', port: 5672, autoconnect: false };

function node(type: string, properties: object = {}): Flow {
  return {
    id: type,
    type,
    z: 'tab',
    x: 300,
    y: 60 + 80 * NODES.indexOf(type),
    wires: type === 'amqp-requester' ? [[], []] : [[]],
    format: 'body',
    ...properties,
  };
}

/** A node as node-red-contrib-rhea saved it. */
function rhea(type: string, properties: object): Flow {
  const { format: _format, ...saved } = node(type, { endpoint: 'endpoint', address: 'queue', name: '', ...properties });
  return saved;
}

/** A flow with one node of each kind, all valid. */
const FLOW = [TAB, ENDPOINT, ...NODES.map((type) => node(type, { endpoint: 'endpoint', address: 'queue' }))];

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

  describe('a form', () => {
    const offers: [type: string, given: Values, rows: Record<string, boolean>][] = [
      ['amqp-endpoint', { usetls: false }, { tls: false, rejectUnauthorized: false }],
      ['amqp-endpoint', { usetls: true }, { tls: true, rejectUnauthorized: true }],
      ['amqp-sender', { guarantee: 'at-least-once' }, { retrytime: true }],
      ['amqp-sender', { guarantee: 'pre-settled' }, { retrytime: false }],
      ['amqp-receiver', { settle: 'arrival' }, { onerror: false, settletimeout: false }],
      ['amqp-receiver', { settle: 'flow' }, { onerror: true, settletimeout: true }],
      ['amqp-receiver', { settle: 'pre-settled' }, { onerror: false, settletimeout: false }],
      ['amqp-receiver', { dynamic: false }, { address: true, kind: true, subscription: true }],
      ['amqp-receiver', { dynamic: true }, { address: false, kind: false, subscription: false }],
      ['amqp-receiver', { subscription: '' }, { subscriptionname: false, selector: true, browse: true }],
      ['amqp-receiver', { subscription: 'durable' }, { subscriptionname: true, selector: true, browse: false }],
      ['amqp-receiver', { subscription: 'shared' }, { subscriptionname: true, selector: true, browse: false }],
      [
        'amqp-receiver',
        { subscription: 'shared', dynamic: true },
        { subscription: false, subscriptionname: false, browse: true },
      ],
      ['amqp-receiver', { addresses: 'several' }, { address: false, dynamic: false, kind: true, selector: true }],
      ['amqp-receiver', { subscription: '' }, { linkname: true, distribution: true }],
      ['amqp-receiver', { subscription: 'durable' }, { linkname: false, distribution: false }],
      ['amqp-receiver', { browse: true }, { linkname: true, distribution: false }],
      ['amqp-receiver', { together: '1' }, { togethertime: false }],
      ['amqp-receiver', { together: '10' }, { togethertime: true }],
      ['amqp-receiver', { settle: 'arrival' }, { maxattempts: false, exhausted: false, order: false }],
      ['amqp-receiver', { settle: 'flow' }, { maxattempts: true, exhausted: false, order: true }],
      ['amqp-receiver', { settle: 'flow', maxattempts: '3' }, { exhausted: true }],
      ['amqp-requester', { replyto: 'dynamic' }, { replycapability: false, replyaddress: false, replies: true }],
      ['amqp-requester', { replies: 'one' }, { replycount: false, endmarker: false }],
      ['amqp-requester', { replies: 'several' }, { replycount: true, endmarker: true }],
      [
        'amqp-requester',
        { replies: 'several', replyto: 'pair' },
        { replies: false, replycount: false, endmarker: false },
      ],
      ['amqp-requester', { replyto: 'target' }, { replies: false, reconnect: false, replyaddress: false }],
      ['amqp-requester', { replyto: 'capability' }, { replycapability: true, replyaddress: false }],
      ['amqp-requester', { replyto: 'fixed' }, { replycapability: false, replyaddress: true }],
    ];

    it('offers only what matters for the choices made', async () => {
      await open(FLOW);
      for (const [type, given, rows] of offers) {
        const form = await editor.edit(type === 'amqp-endpoint' ? 'endpoint' : type);
        await form.enter(given);
        await editor.screenshot(`${type}-${Object.entries(given).join('-').replaceAll(',', '-')}`);
        for (const [name, offered] of Object.entries(rows)) {
          should(await form.offers(name)).equal(offered, `${name} of ${type} with ${JSON.stringify(given)}`);
        }
        await form.cancel();
      }
    });

    it('moves the default port along with a click on TLS', async () => {
      await open(FLOW);
      const form = await editor.edit('endpoint');
      await form.enter({ usetls: true });
      (await form.value('port')).should.equal('5671');
      await form.enter({ usetls: false });
      (await form.value('port')).should.equal('5672');
      await form.enter({ port: '1234', usetls: true });
      (await form.value('port')).should.equal('1234');
      await form.cancel();
    });

    it('sets what Azure needs when a person chooses it, and takes it back with another choice', async () => {
      await open(FLOW);
      const form = await editor.edit('endpoint');
      await form.enter({ peer: 'servicebus' });
      (await form.value('port')).should.equal('5671');
      (await form.field('usetls').isChecked()).should.be.true();
      (await form.placeholder('host')).should.equal('name.servicebus.windows.net');
      (await form.value('host')).should.equal('');
      await form.show('host');
      await editor.screenshot('amqp-endpoint-peer-servicebus');
      await form.enter({ peer: 'rabbitmq4' });
      (await form.value('host')).should.equal('localhost');
      (await form.value('port')).should.equal('5672');
      (await form.field('usetls').isChecked()).should.be.false();
      (await form.placeholder('hostname')).should.equal('vhost:name');
      await form.enter({ host: 'name.example', peer: 'eventhubs', port: '1234' });
      (await form.value('host')).should.equal('name.example');
      await form.enter({ peer: '' });
      (await form.value('host')).should.equal('name.example');
      (await form.value('port')).should.equal('1234');
      (await form.field('usetls').isChecked()).should.be.true();
      await form.cancel();
    });

    it('leaves TLS on that a person chose, whatever the kind of server', async () => {
      await open(FLOW);
      const form = await editor.edit('endpoint');
      await form.enter({ usetls: true, peer: 'artemis' });
      (await form.value('port')).should.equal('5671');
      (await form.field('usetls').isChecked()).should.be.true();
      await form.cancel();
    });

    it('puts each part of what is pasted as the server into its own field', async () => {
      await open(FLOW);
      const form = await editor.edit('endpoint');
      await form.paste('host', ` amqps://me:${encodeURIComponent(SPECIAL)}@broker.example `);
      for (const [name, value] of Object.entries({
        host: 'broker.example',
        port: '5671',
        user: 'me',
        pass: SPECIAL,
      }))
        (await form.value(name)).should.equal(value, name);
      (await form.field('usetls').isChecked()).should.be.true();
      (await form.invalid('host')).should.be.false();
      await editor.screenshot('amqp-endpoint-pasted');
      await form.done();
      await editor.deploy();
      (await deployed('endpoint')).should.containEql({ host: 'broker.example', port: '5671', usetls: true });
      (await installation.get('/credentials/amqp-endpoint/endpoint'))!.should.containEql({
        user: 'me',
        has_pass: true,
      });
    });

    it('understands a host with a port once the field is left', async () => {
      await open(FLOW);
      const form = await editor.edit('endpoint');
      const typed: [host: string, shown: Values][] = [
        ['broker:5673', { host: 'broker', port: '5673' }],
        ['[::1]:5674', { host: '::1', port: '5674' }],
        ['::2', { host: '::2', port: '5674' }],
        [' 192.0.2.1 ', { host: '192.0.2.1', port: '5674' }],
        ['amqp://other', { host: 'other', port: '5672' }],
        ['${HOST}', { host: '${HOST}', port: '5672' }],
      ];
      for (const [host, shown] of typed) {
        await form.enter({ host });
        for (const [name, value] of Object.entries(shown)) (await form.value(name)).should.equal(value, host);
        (await form.invalid('host')).should.be.false();
      }
      await form.cancel();
    });

    it('keeps no password as the server, even if the field is saved without being left', async () => {
      await open(FLOW);
      const saved: [host: string, left: string, label: string][] = [
        [`amqp://me:${PASSWORD}@broker`, 'broker', 'broker:5672'],
        [`amqp://me:${PASSWORD}@broker/vhost`, 'amqp://broker/vhost', 'amqp endpoint'],
        [`https://me:${PASSWORD}@broker`, 'https://broker', 'amqp endpoint'],
        [
          `Endpoint=sb://name.example/;SharedAccessKeyName=root;SharedAccessKey=${PASSWORD}`,
          'name.example',
          'name.example:5671',
        ],
        [`Endpoint=sb://name.example/;SharedAccessKey=${PASSWORD}`, '', 'amqp endpoint'],
        [`me:${PASSWORD}@broker`, '', 'amqp endpoint'],
      ];
      for (const [host, left, label] of saved) {
        const form = await editor.edit('endpoint');
        await form.field('host').fill(host);
        await form.confirm();
        should(await editor.property('endpoint', 'host')).equal(left, host);
        (await editor.label('endpoint')).should.equal(label, host);
      }
    });

    it('refuses what cannot be a server, and shows it nowhere else', async () => {
      await open(FLOW);
      const form = await editor.edit('endpoint');
      for (const host of ['Endpoint=sb://name.example/;SharedAccessKey=secret', 'mqtt://broker', 'my broker']) {
        await form.paste('host', host);
        (await form.invalid('host')).should.be.true(host);
        await editor.screenshot('amqp-endpoint-refused');
      }
      await form.cancel();
    });

    it('says what a subscription depends on that is kept for a client ID made up by us', async () => {
      await open([...FLOW, { ...ENDPOINT, id: 'known', name: 'known', container_id: 'mine' }]);
      const form = await editor.edit('amqp-receiver');
      const tips: [given: Values, shown: boolean][] = [
        [{ subscription: '' }, false],
        [{ subscription: 'durable' }, true],
        [{ endpoint: 'known' }, false],
        [{ endpoint: 'endpoint' }, true],
        [{ dynamic: true }, false],
        [{ dynamic: false }, true],
        [{ subscription: 'shared-durable' }, false],
      ];
      for (const [given, shown] of tips) {
        await form.enter(given);
        should(await form.offers('clientid')).equal(shown, JSON.stringify(given));
      }
      await form.cancel();
    });

    it('takes blanks off the ends of addresses', async () => {
      await open(FLOW);
      for (const type of NODES) {
        const form = await editor.edit(type);
        await form.address.fill('  my queue ');
        if (type === 'amqp-requester') await form.enter({ replyto: 'fixed', replyaddress: ' replies ' });
        await form.done();
        should(await editor.property(type, 'address')).equal('my queue', type);
      }
      should(await editor.property('amqp-requester', 'replyaddress')).equal('replies');
      const form = await editor.edit('amqp-sender');
      await form.enter({ address: 'jsonata: "a" & " b " ' });
      await form.done();
      should(await editor.property('amqp-sender', 'address')).equal(' "a" & " b " ');
    });

    it('has its fields in line, however long the name of the server', async () => {
      await open(FLOW.map((flow) => (flow.id === 'endpoint' ? { ...flow, name: 'a long name '.repeat(10) } : flow)));
      for (const type of NODES) {
        const form = await editor.edit(type);
        // The tray is still moving in, and the row is laid out once it is there.
        await editor.page.waitForFunction(() => {
          const [button, name] = ['node-input-btn-endpoint-add', 'node-input-name'].map(
            (id) => document.getElementById(id)!.getBoundingClientRect().right,
          );
          return Math.abs(button! - name!) <= 2;
        });
        await form.cancel();
      }
    });

    it('changes nothing by itself when an endpoint with a kind of server is opened', async () => {
      await open([TAB, { ...ENDPOINT, peer: 'servicebus', port: '5672', usetls: false }]);
      const form = await editor.edit('endpoint');
      (await form.placeholder('host')).should.equal('name.servicebus.windows.net');
      await form.done();
      await editor.deploy();
      (await deployed('endpoint')).should.containEql({ peer: 'servicebus', port: '5672', usetls: false });
    });

    const PEERS = ['', 'artemis', 'activemq', 'rabbitmq4', 'rabbitmq3', 'router', 'servicebus', 'eventhubs', 'iothub'];
    const SERVERS = PEERS.map((peer) => ({ ...ENDPOINT, id: `endpoint-${peer}`, name: peer, peer }));

    it('has the rows of the service that the endpoint is for', async () => {
      await open([...FLOW, ...SERVERS, { ...ENDPOINT, id: 'endpoint-listen', role: 'listen' }]);
      const ASKED = ['filterlist', 'unfiltered', 'capabilities', 'durability', 'expiry', 'expirytime'];
      const OTHERS = [
        'addresses',
        'dynamic',
        'kind',
        'subscription',
        'selector',
        'browse',
        'trust',
        'answered',
        'transaction',
      ];
      const LINK = ['distribution', 'consumerpriority', 'order'];
      const ALL = [...OTHERS, ...ASKED, ...LINK, 'maxattempts'];
      const BUS = ['session', 'sessionid', 'sessions', 'sessionidle'];
      const HUB = ['group', 'partitions', 'start', 'startvalue', 'places', 'epoch'];
      const cases: [type: string, given: Values, shown: string[]][] = [
        ['amqp-receiver', { endpoint: 'endpoint-' }, ALL],
        ['amqp-receiver', { endpoint: 'endpoint-servicebus', session: '' }, ['maxattempts', 'session']],
        [
          'amqp-receiver',
          { endpoint: 'endpoint-servicebus', session: 'named' },
          ['maxattempts', 'session', 'sessionid'],
        ],
        [
          'amqp-receiver',
          { endpoint: 'endpoint-servicebus', session: 'next' },
          ['maxattempts', 'session', 'sessions', 'sessionidle'],
        ],
        ['amqp-receiver', { endpoint: 'endpoint-eventhubs' }, ['group', 'partitions', 'start', 'places', 'epoch']],
        ['amqp-receiver', { endpoint: 'endpoint-eventhubs', start: 'time' }, HUB],
        ['amqp-sender', { endpoint: 'endpoint-' }, []],
        ['amqp-sender', { endpoint: 'endpoint-servicebus' }, ['batch']],
        ['amqp-sender', { endpoint: 'endpoint-eventhubs', batch: 'time' }, ['batch', 'batchtime']],
        ['amqp-requester', { endpoint: 'endpoint-iothub' }, ['linkproperties']],
        ['amqp-requester', { endpoint: 'endpoint-' }, []],
        ['amqp-sender', { endpoint: 'endpoint-listen' }, ['copies']],
      ];
      for (const [type, given, shown] of cases) {
        const form = await editor.edit(type);
        await form.enter({ ...(type === 'amqp-receiver' && { settle: 'flow' }), ...given });
        const rows = {
          'amqp-receiver': [...ALL, ...BUS, ...HUB],
          'amqp-sender': ['batch', 'batchtime', 'copies'],
          'amqp-requester': ['linkproperties'],
        }[type]!;
        const offered: string[] = [];
        for (const name of rows) if (await form.offers(name)) offered.push(name);
        offered.toSorted().should.eql(shown.toSorted(), `${type} with ${JSON.stringify(given)}`);
        await editor.screenshot(`${type}-${Object.values(given).join('-')}`);
        await form.cancel();
      }
    });

    it('gives an example of an address for the server chosen', async () => {
      await open([...FLOW, ...SERVERS]);
      const examples: Record<string, Record<string, string>> = {
        'amqp-sender': {
          rabbitmq4: 'e.g. /queues/orders',
          activemq: 'e.g. queue://orders',
          eventhubs: 'e.g. orders',
          '': 'Leave blank to take it from each message',
        },
        'amqp-receiver': {
          eventhubs: 'e.g. orders',
          servicebus: 'e.g. orders/Subscriptions/name',
          '': 'Leave blank to subscribe by msg.action',
        },
        'amqp-requester': { rabbitmq3: 'e.g. /amq/queue/orders', '': 'Leave blank to take it from each message' },
        'amqp-responder': { rabbitmq4: 'e.g. /queues/orders', '': 'Address of the requests' },
      };
      for (const [type, given] of Object.entries(examples)) {
        const form = await editor.edit(type);
        for (const [peer, example] of Object.entries(given)) {
          await form.enter({ endpoint: `endpoint-${peer}` });
          (await form.address.getAttribute('placeholder'))!.should.equal(example, `${type} with ${peer}`);
        }
        await form.cancel();
      }
    });

    it('shows how an address is written for the server chosen', async () => {
      await open([...FLOW, ...SERVERS]);
      const receiving: [peer: string, typed: string, offered: string[]][] = [
        ['rabbitmq4', 'my queue', ['/queues/my%20queue']],
        ['rabbitmq4', 'orders/eu', ['/queues/orders%2Feu']],
        ['rabbitmq4', "it's (ä)*!", ['/queues/it%27s%20%28%C3%A4%29%2A%21']],
        ['rabbitmq4', '/queues/orders', []],
        ['rabbitmq4', '${QUEUE}', []],
        ['rabbitmq4', '', []],
        ['rabbitmq3', 'my queue', ['/amq/queue/my queue', '/queue/my queue', '/topic/my queue']],
        ['rabbitmq3', 'orders/eu', ['/amq/queue/orders%2Feu', '/queue/orders%2Feu', '/topic/orders%2Feu']],
        ['rabbitmq3', '/queue/orders', []],
        ['activemq', 'orders', ['queue://orders', 'topic://orders']],
        ['activemq', 'topic://orders', []],
        ['servicebus', 'orders', ['orders/Subscriptions/name']],
        ['servicebus', 'orders/subscriptions/mine', []],
        ['servicebus', 'orders/$DeadLetterQueue', []],
        ['eventhubs', 'hub', []],
        ['iothub', 'd1', ['/devices/d1/messages/devicebound', '/messages/serviceBound/feedback']],
        ['artemis', 'orders', ['a queue', 'a topic']],
        ...['', 'router'].map((peer): [string, string, string[]] => [peer, 'orders/eu', []]),
      ];
      const sending: typeof receiving = [
        ['rabbitmq4', 'my queue', ['/queues/my%20queue', '/exchanges/my%20queue']],
        ['rabbitmq4', 'orders/eu', ['/queues/orders%2Feu', '/exchanges/orders/eu']],
        ['rabbitmq4', 'orders/eu/a b', ['/queues/orders%2Feu%2Fa%20b', '/exchanges/orders/eu%2Fa%20b']],
        ['rabbitmq3', 'orders', ['/amq/queue/orders', '/queue/orders', '/topic/orders', '/exchange/orders/key']],
        ['servicebus', 'orders', []],
        ['eventhubs', 'hub', []],
        ['artemis', 'orders', ['a queue', 'a topic']],
      ];
      for (const type of NODES) {
        const cases = ['amqp-sender', 'amqp-requester'].includes(type) ? sending : receiving;
        const form = await editor.edit(type);
        for (const [peer, typed, offered] of cases) {
          await form.enter({ endpoint: `endpoint-${peer}` });
          await form.address.fill(typed);
          (await form.hints.allInnerTexts()).should.eql(offered, `${type}: ${typed} with ${peer}`);
          if (offered.length) await editor.screenshot(`${type}-hints-${peer}`);
        }
        await form.cancel();
      }
    });

    it('puts in the address that is clicked', async () => {
      await open([...FLOW, ...SERVERS]);
      for (const type of ['amqp-sender', 'amqp-receiver']) {
        const form = await editor.edit(type);
        await form.enter({ endpoint: 'endpoint-rabbitmq4' });
        await form.address.fill('my queue');
        await form.hints.first().click();
        (await form.address.inputValue()).should.equal('/queues/my%20queue');
        (await form.hints.count()).should.equal(0);
        await form.done();
      }
      await editor.deploy();
      for (const type of ['amqp-sender', 'amqp-receiver'])
        (await deployed(type)).should.containEql({ address: '/queues/my%20queue' });
    });

    it('has one say whether an address is a queue or a topic where the server would make a topic of it', async () => {
      await open([...FLOW, ...SERVERS]);
      const form = await editor.edit('amqp-receiver');
      await form.enter({ endpoint: 'endpoint-artemis' });
      await form.address.fill('orders');
      await form.hints.first().click();
      (await form.hints.count()).should.equal(0);
      await form.done();
      await editor.deploy();
      (await deployed('amqp-receiver')).should.containEql({ address: 'orders', kind: 'queue' });
    });

    it('offers a requester what the server has instead of an address that it makes', async () => {
      await open([...FLOW, ...SERVERS]);
      const form = await editor.edit('amqp-requester');
      await form.show('replyto');
      const hints = form.row('replyto').locator('.amqp10-hints a');
      const offered: Record<string, string[]> = {
        artemis: [],
        rabbitmq3: ['a fixed address'],
        servicebus: ["the request's own link (Azure, management)", 'a fixed address'],
        rabbitmq4: [
          'an address of a certain kind',
          'the channel itself (RabbitMQ, direct reply-to)',
          'a fixed address',
          'a link of a pair (RabbitMQ, management)',
        ],
      };
      for (const [peer, shown] of Object.entries(offered)) {
        await form.enter({ endpoint: `endpoint-${peer}` });
        (await hints.allInnerTexts()).should.eql(shown, peer);
        const said = (await form.row('replyto').innerText()).match(/this server has/g) ?? [];
        said.length.should.equal(shown.length ? 1 : 0, peer);
      }
      await hints.first().click();
      (await hints.count()).should.equal(0);
      await form.done();
      await editor.deploy();
      (await deployed('amqp-requester')).should.containEql({ replyto: 'capability' });
    });

    it('shows where management nodes are asked', async () => {
      await open([...FLOW, ...SERVERS]);
      const form = await editor.edit('amqp-requester');
      await form.address.fill('');
      const examples = { pair: '/management', target: 'e.g. orders/$management', dynamic: 'e.g. /queues/orders' };
      await form.enter({ endpoint: 'endpoint-rabbitmq4' });
      for (const [replyto, example] of Object.entries(examples)) {
        await form.enter({ replyto });
        (await form.address.getAttribute('placeholder'))!.should.equal(example);
      }
      await form.cancel();
    });

    it('takes a list of filters by the keyboard, says what is wrong with one, and saves what is right', async () => {
      await open(FLOW);
      let form = await editor.edit('amqp-receiver');
      await form.show('filterlist');
      const row = form.row('filterlist');
      const { keyboard } = editor.page;
      const wrong = row.locator('.amqp10-wrong');
      await row.locator('.red-ui-editableList-addButton').focus();
      await keyboard.press('Enter');
      await wrong.filter({ hasText: 'Filters, number 1: has no value' }).waitFor();
      await keyboard.press('Tab');
      await keyboard.type('first');
      (await wrong.innerText()).should.equal('');
      await row.locator('.red-ui-editableList-addButton').focus();
      await keyboard.press('Enter');
      const second = row.locator('li').nth(1);
      await second.getByLabel('Filter').selectOption('other');
      await wrong.filter({ hasText: 'Filters, number 2: has no name' }).waitFor();
      await second.getByLabel('Name').fill('x:filter');
      await second.getByLabel('Described by').fill('0x10');
      await second.getByLabel('Type').selectOption('uint');
      await second.getByLabel('Value').fill('-1');
      await wrong.filter({ hasText: 'Filters, number 2: its value is not of its type' }).waitFor();
      await editor.screenshot('amqp-receiver-filters');
      await second.getByLabel('Value').fill('5');
      await row.locator('.red-ui-editableList-addButton').focus();
      await keyboard.press('Enter');
      const third = row.locator('li').nth(2);
      await third.getByLabel('Filter').selectOption('no-local');
      (await third.getByLabel('Value').isVisible()).should.be.false();
      (await wrong.innerText()).should.equal('');
      await form.done();
      await editor.deploy();
      const filters = [
        { filter: 'stream-offset', value: 'first' },
        { filter: 'other', value: '5', name: 'x:filter', descriptor: '0x10', type: 'uint' },
        { filter: 'no-local', value: '' },
      ];
      (await deployed('amqp-receiver')).should.containEql({ filters });

      form = await editor.edit('amqp-receiver');
      await form.show('filterlist');
      await form.row('filterlist').locator('.red-ui-editableList-item-remove').first().focus();
      await keyboard.press('Enter');
      await editor.page.waitForFunction(() => document.querySelectorAll('#node-input-filterlist > li').length === 2);
      await form.done();
      await editor.deploy();
      (await deployed('amqp-receiver')).should.containEql({ filters: filters.slice(1) });
    });

    it('gives a receiver a second output for what was tried too often, and takes it back', async () => {
      await open(FLOW);
      let form = await editor.edit('amqp-receiver');
      await form.enter({ settle: 'flow', maxattempts: '3', exhausted: 'output' });
      await form.done();
      should(await editor.property('amqp-receiver', 'outputs')).equal(2);
      await editor.page.evaluate(() => {
        const source = RED.nodes.node('amqp-receiver');
        RED.nodes.addLink({ source, sourcePort: 1, target: RED.nodes.node('amqp-sender') });
        RED.view.redraw(true);
      });
      await editor.deploy();
      (await deployed('amqp-receiver')).should.containEql({ outputs: 2, wires: [[], ['amqp-sender']] });
      await editor.page.locator('[id="amqp-receiver"] .red-ui-flow-port-output').nth(1).hover();
      await editor.page.getByText('message with too many attempts').first().waitFor();
      form = await editor.edit('amqp-receiver');
      await form.enter({ settle: 'arrival' });
      await form.done();
      await editor.deploy();
      (await deployed('amqp-receiver')).should.containEql({
        outputs: 1,
        wires: [[]],
        maxattempts: '',
        exhausted: 'reject',
      });
    });

    it('forgets the address of a receiver whose flow names the addresses', async () => {
      await open(FLOW);
      const form = await editor.edit('amqp-receiver');
      await form.enter({ dynamic: true, addresses: 'several' });
      await form.done();
      await editor.deploy();
      (await deployed('amqp-receiver')).should.containEql({ addresses: 'several', address: '', dynamic: false });
    });

    it('takes an address that is no text as it is', async () => {
      await open([...FLOW, ...SERVERS]);
      const form = await editor.edit('amqp-sender');
      await form.enter({ endpoint: 'endpoint-rabbitmq4' });
      (await form.hints.count()).should.equal(2);
      await form.enter({ address: 'msg:queue' });
      (await form.hints.count()).should.equal(0);
      await form.cancel();
    });

    it('wants a name for a shared subscription, and only for that', async () => {
      await open(FLOW);
      const form = await editor.edit('amqp-receiver');
      for (const [subscription, wrong] of Object.entries({ shared: true, durable: false, 'shared-durable': true })) {
        await form.enter({ subscription });
        should(await form.invalid('subscriptionname')).equal(wrong, subscription);
      }
      await form.enter({ subscriptionname: 'mine' });
      (await form.invalid('subscriptionname')).should.be.false();
      await form.cancel();
    });

    it('forgets the choices that exclude each other', async () => {
      await open(FLOW);
      let form = await editor.edit('amqp-receiver');
      await form.enter({ browse: true, subscription: 'durable' });
      await form.done();
      await editor.deploy();
      (await deployed('amqp-receiver')).should.containEql({ browse: false, subscription: 'durable' });
      form = await editor.edit('amqp-receiver');
      await form.enter({ dynamic: true });
      await form.done();
      await editor.deploy();
      (await deployed('amqp-receiver')).should.containEql({ dynamic: true, subscription: '' });
    });

    it('can be filled and saved by the keyboard alone', async () => {
      const types = ['amqp-sender', 'amqp-receiver'];
      await open([TAB, ENDPOINT, ...types.map((type) => node(type, { endpoint: 'endpoint' }))]);
      const { keyboard } = editor.page;
      let form = await editor.edit('amqp-sender');
      await form.tabTo(form.address);
      await keyboard.type('orders');
      await form.tabTo(form.field('guarantee'));
      await keyboard.press('ArrowDown');
      await form.unfoldByKeys('buffer');
      await form.tabTo(form.field('buffer'));
      await keyboard.type('50');
      await form.confirm();
      form = await editor.edit('amqp-receiver');
      await form.tabTo(form.address);
      await keyboard.type('replies');
      await form.tabTo(form.field('settle'));
      await keyboard.press('ArrowDown');
      await form.unfoldByKeys('subscription');
      await form.tabTo(form.field('subscription'));
      await keyboard.press('ArrowDown');
      await form.tabTo(form.field('subscriptionname'));
      await keyboard.type('mine');
      await form.confirm();
      await editor.deploy();
      const sent = { address: 'orders', addressType: 'str', guarantee: 'at-most-once', buffer: '50' };
      (await deployed('amqp-sender')).should.containEql(sent);
      const received = { address: 'replies', settle: 'flow', subscription: 'durable', subscriptionname: 'mine' };
      (await deployed('amqp-receiver')).should.containEql(received);
    });

    it('suggests the addresses that other nodes use, and that the server tells', async () => {
      await open([
        TAB,
        ENDPOINT,
        { ...ENDPOINT, id: 'other' },
        ...NODES.map((type) => node(type, { endpoint: 'endpoint', address: '' })),
        { ...node('amqp-sender', { endpoint: 'endpoint', address: 'orders' }), id: 'same' },
        { ...node('amqp-sender', { endpoint: 'endpoint', address: 'order.to', addressType: 'msg' }), id: 'dynamic' },
        { ...node('amqp-sender', { endpoint: 'other', address: 'orders.elsewhere' }), id: 'elsewhere' },
      ]);
      editor.served['endpoint'] = ['billing', 'orders.eu', 'orders'];
      const suggested = editor.page.locator('.red-ui-autoComplete-container li');
      const form = await editor.edit('amqp-receiver');
      const answered = editor.page.waitForResponse('**/amqp-endpoint/addresses');
      await form.address.click();
      await answered;
      await form.address.pressSequentially('or');
      await suggested.nth(2).waitFor();
      (await suggested.allInnerTexts()).should.eql(['or', 'orders', 'orders.eu']);
      await editor.screenshot('amqp-receiver-suggestions');
      // Who goes on with the next field does not mean another address than the one typed.
      await editor.page.keyboard.press('Tab');
      (await form.address.inputValue()).should.equal('or');
      await form.address.pressSequentially('ders');
      await suggested.filter({ hasText: 'orders.eu' }).click();
      (await form.address.inputValue()).should.equal('orders.eu');
      await form.enter({ endpoint: 'other' });
      await form.address.fill('');
      await form.address.press('ArrowDown');
      await suggested.filter({ hasText: 'orders.elsewhere' }).waitFor();
      (await suggested.count()).should.equal(2);
      await editor.page.keyboard.press('Escape');
      await form.cancel();
      editor.asked.should.eql(['endpoint', 'other']);
    });

    it('suggests what the flows have where the server tells nothing', async () => {
      await open([...FLOW, { ...node('amqp-sender', { endpoint: 'endpoint', address: 'orders' }), id: 'same' }]);
      await editor.page.route('**/amqp-endpoint/addresses', (route) => route.fulfill({ status: 503 }));
      const form = await editor.edit('amqp-requester');
      await form.enter({ replyto: 'fixed' });
      const typed = form.row('replyaddress').locator('.red-ui-typedInput-input');
      const answered = editor.page.waitForResponse('**/amqp-endpoint/addresses');
      await typed.click();
      await answered;
      await typed.pressSequentially('ord');
      await editor.page.locator('.red-ui-autoComplete-container li').filter({ hasText: 'orders' }).click();
      (await typed.inputValue()).should.equal('orders');
      await form.done();
      should(await editor.property('amqp-requester', 'replyaddress')).equal('orders');
      // The browser's own words for the answer.
      editor.complaints
        .splice(0)
        .every((text) => /503/.test(text))
        .should.be.true();
    });

    it('takes addresses from where a node finds them when it starts', async () => {
      await open(FLOW);
      for (const type of ['amqp-receiver', 'amqp-responder']) {
        const form = await editor.edit(type);
        for (const [address, wrong] of Object.entries({ 'env:QUEUE': false, 'flow:a b': true, 'global:': true })) {
          await form.enter({ address });
          await form.address.blur();
          should(await form.invalid('address')).equal(wrong, `${type} ${address}`);
        }
        await form.enter({ address: 'flow:queue' });
        await form.done();
      }
      const requester = await editor.edit('amqp-requester');
      await requester.enter({ replyto: 'fixed', replyaddress: 'env:REPLIES' });
      await requester.done();
      await editor.deploy();
      for (const type of ['amqp-receiver', 'amqp-responder'])
        (await deployed(type)).should.containEql({ address: 'queue', addressType: 'flow' });
      (await deployed('amqp-requester')).should.containEql({ replyaddress: 'REPLIES', replyaddressType: 'env' });
      (await editor.label('amqp-receiver')).should.equal('amqp receiver');
    });

    it('opens with the folds closed in which nothing is wrong', async () => {
      await open(
        FLOW.map((flow) => ({ ...flow, ...(flow.type === 'amqp-receiver' && { creditwindow: 'x', filters: [{}] }) })),
      );
      const form = await editor.edit('amqp-receiver');
      const unfolded = form.folds.and(editor.page.locator('[open]')).locator('summary');
      await unfolded.nth(1).waitFor();
      (await unfolded.allTextContents()).should.eql(['Subscription', 'Limits']);
      await form.cancel();
      const right = await editor.edit('amqp-sender');
      (await right.folds.count()).should.equal(2);
      (await unfolded.count()).should.equal(0);
      await right.cancel();
    });

    it('hides a fold with nothing to show', async () => {
      await open([...FLOW, { ...ENDPOINT, id: 'hub', peer: 'eventhubs' }]);
      const form = await editor.edit('amqp-receiver');
      const titles = ['Subscription', 'Limits', 'More'];
      (await form.folds.locator('summary').allInnerTexts()).should.eql(titles);
      await form.enter({ endpoint: 'hub' });
      (await form.folds.locator('summary').allInnerTexts()).should.eql(titles.slice(1));
      await form.enter({ endpoint: 'endpoint' });
      (await form.folds.locator('summary').allInnerTexts()).should.eql(titles);
      await form.cancel();
    });

    it('says how the flow confirms, where it does', async () => {
      await open(FLOW);
      const form = await editor.edit('amqp-receiver');
      for (const [settle, said] of Object.entries({ arrival: false, flow: true, 'pre-settled': false })) {
        await form.enter({ settle });
        should(await form.field('wiring').isVisible()).equal(said, settle);
        if (said) await editor.screenshot('amqp-receiver-wiring');
      }
      await form.cancel();
    });

    it('marks a wrong value while it is typed', async () => {
      await open(FLOW);
      const form = await editor.edit('amqp-sender');
      for (const [value, wrong] of Object.entries({
        '0': true,
        '1': false,
        '': true,
        '2.5': true,
        '${BUFFER}': false,
      })) {
        await form.enter({ buffer: value });
        should(await form.invalid('buffer')).equal(wrong, `"${value}"`);
      }
      await form.cancel();
    });
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
