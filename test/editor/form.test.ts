import should from 'should';
import { secretOf } from '../secrets';
import type { Editor, Values } from './editor';
import { ENDPOINT, FLOW, node, NODES, TAB } from './flows';
import { nodeRedVersion, type Flow } from './installation';
import { workbench } from './workbench';

// oxlint-disable-next-line no-explicit-any -- the editor's global, in the browser
declare const RED: any;

const PASSWORD = secretOf('password');
/** Of characters that a URL has to encode. */
const SPECIAL = secretOf('password', '@ ');

describe(`A form in the editor of Node-RED ${nodeRedVersion}`, function () {
  this.timeout(120_000);
  const { installation, deployed, ...bench } = workbench();
  let editor: Editor;

  async function open(flows: Flow[]): Promise<void> {
    editor = await bench.open(flows);
  }

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
      ['amqp-receiver', { endpoint: 'endpoint-servicebus', session: 'named' }, ['maxattempts', 'session', 'sessionid']],
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
