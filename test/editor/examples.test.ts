// The examples as a newcomer meets them: imported from the menu one after the other, deployed, and tried by their buttons.
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Locator } from 'playwright-core';
import should from 'should';
import { Broker, type Disposition } from '../../broker/broker';
import { MqttBroker } from '../doubles/mqtt-broker';
import type { Editor } from './editor';
import { type Flow, nodeRedVersion } from './installation';
import { workbench } from './workbench';

// oxlint-disable-next-line no-explicit-any -- the editor's global, in the browser
declare const RED: any;

const MODULE = '@amqp10/node-red-amqp10';
const folder = join(__dirname, '..', '..', 'examples');
const examples = readdirSync(folder)
  .filter((file) => file.endsWith('.json'))
  .toSorted()
  .map((file) => {
    const nodes: Flow[] = JSON.parse(readFileSync(join(folder, file), 'utf8'));
    return { title: file.replace('.json', ''), nodes, tab: nodes.find(({ type }) => type === 'tab')!.id };
  });
const nodes = examples.flatMap((example) => example.nodes);
const endpoints = nodes.filter(({ type }) => type === 'amqp-endpoint');

const payloads = (entries: Locator) => entries.locator('.red-ui-debug-msg-payload').allInnerTexts();

describe(`The examples in the editor of Node-RED ${nodeRedVersion}`, function () {
  this.timeout(240_000);
  const { installation, open } = workbench();
  let editor: Editor;
  let broker: Broker;
  /** The other server of the example that forwards. */
  let second: Broker;
  /** One that may be away while the others are not. */
  let distant: Broker;
  let mqtt: MqttBroker;
  /** What the editor wanted to know during import or deploy. */
  const questions: string[] = [];
  /** The one that is tried. */
  let example: (typeof examples)[number];

  before(async () => {
    [broker, second, distant] = await Promise.all([Broker.start(), Broker.start(), Broker.start()]);
    mqtt = await MqttBroker.start();
    editor = await open([{ id: 'mine', type: 'tab', label: 'My flow' }]);
    for (const { title, tab } of examples) await importExample(title, tab);
    const ports = nodes.filter((node) => 'port' in node).map(({ id }) => [id, portOf(id)] as const);
    await editor.page.evaluate((all) => {
      for (const [id, port] of all) RED.nodes.node(id).port = port;
    }, ports);
    await editor.deploy();
    await ask();
    await editor.page.evaluate(() => RED.sidebar.show('debug'));
  });
  beforeEach(async function () {
    // What a first try leaves behind, such as a subscription that was ended.
    if ((this.currentTest as unknown as { currentRetry(): number }).currentRetry() > 0) await editor.restart();
    await editor.page.locator('#red-ui-sidebar-debug-clear').click();
  });
  after(() => Promise.all([broker, second, distant, mqtt].map((server) => server?.stop())));

  /** Whatever has buttons to choose from. */
  const ask = async () => {
    const found = editor.page.locator('.red-ui-notification button, .ui-dialog:visible');
    questions.push(...(await found.allInnerTexts()));
  };
  /** Chooses it from the menu, as it is offered. */
  const importExample = async (title: string, tab: string) => {
    const { page } = editor;
    await page.evaluate(() => RED.actions.invoke('core:show-examples-import-dialog'));
    const tree = page.locator('.ui-dialog .red-ui-treeList-label');
    await tree.filter({ hasText: MODULE }).click();
    await tree.filter({ hasText: title }).click();
    await page.locator('#red-ui-clipboard-dialog-ok').click();
    await page.waitForFunction((id) => RED.nodes.workspace(id), tab);
    await page.locator('#red-ui-clipboard-dialog').waitFor({ state: 'hidden' });
    await ask();
  };
  const portOf = (id: string) => {
    const own = { 'amqp-example-11-mqtt': mqtt, 'amqp-example-11-endpoint': distant };
    return { ...own, 'amqp-example-12-endpoint-second': second }[id]?.port ?? broker.port;
  };
  const show = async (tab: string) => {
    await editor.page.evaluate((id) => RED.workspaces.show(id), tab);
    await editor.page.locator(`[id="${tab}-about"]`).waitFor();
  };

  /** A node of the example, by its type and name. */
  const idOf = (type: string, name: string): string => {
    const found = example.nodes.find((node) => node.type === type && node['name'] === name);
    if (!found) throw new Error(`there is no ${type} ${name} in ${example.title}`);
    return found.id;
  };
  const press = (name: string) =>
    editor.page.locator(`[id="${idOf('inject', name)}"] .red-ui-flow-node-button-button`).click();
  /** Waits until this stands below the node. */
  const status = (type: string, name: string, text: string | RegExp) =>
    editor.page
      .locator(`[id="${idOf(type, name)}"] .red-ui-flow-node-status-label`)
      .filter({ hasText: text })
      .waitFor();
  /** What a debug node has put into the sidebar. */
  const entries = (name: string): Locator => editor.page.locator(`.red-ui-debug-msg-node-${idOf('debug', name)}`);
  /** Waits until the debug node has put in so many; gives what they say. */
  const shown = async (name: string, count = 1): Promise<string[]> => {
    await entries(name)
      .nth(count - 1)
      .waitFor();
    return payloads(entries(name));
  };
  /** The last one of a debug node that has put in so many, with all that is in it opened. */
  const opened = async (name: string, count = 1): Promise<string> => {
    const entry = entries(name).nth(count - 1);
    await entry.waitFor();
    const closed = entry.locator('.collapsed > .red-ui-debug-msg-expandable .red-ui-debug-msg-object-handle');
    while ((await closed.count()) > 0) await closed.first().click();
    return entry.locator('.red-ui-debug-msg-payload').innerText();
  };
  const settled = async (): Promise<Disposition> => (await once(broker, 'settled'))[0];

  it('are imported from the menu and deployed, all of them, without a question', async () => {
    questions.should.eql([]);
    (await editor.invalid()).should.eql([]);
    const saved = await installation.flows();
    saved.filter(({ type }) => type === 'amqp-endpoint').should.have.length(endpoints.length);
    for (const node of saved.filter(({ type }) => type.startsWith('amqp-'))) {
      // As the forms save it: nothing changes by opening and closing one.
      const { port: _port, ...properties } = node;
      should(nodes.find(({ id }) => id === node.id)).match(properties);
    }
    for (const { title, tab } of examples) {
      await show(tab);
      await editor.screenshot(`example-${title.slice(0, 2)}`);
    }
  });

  /** What each of them promises, as far as it is to be seen. */
  const runs: Record<string, () => Promise<void>> = {
    '01 - Hello': async () => {
      await status('amqp-receiver', 'receive', 'connected');
      await press('1. send Hello');
      await status('amqp-sender', 'send', 'connected');
      (await shown('sent')).should.match([/address: "example.hello".* state: "accepted"/]);
      (await shown('received')).should.match([/payload: "Hello"/]);
      await press('2. send a reading with properties');
      (await opened('received', 2)).should.match(/temperature: 21.5/).and.match(/subject: "reading"/);
      (await opened('received', 2)).should.match(/room: "kitchen"/);

      broker.answer('example.hello', 'reject', 1);
      await press('1. send Hello');
      (await shown('why not')).should.match([/code: "AMQP_REJECTED"/]);
    },

    '02 - Process, then settle': async () => {
      const good = settled();
      await press('1. a good order');
      (await shown('processed')).should.eql(['{ item: "tea", amount: 2, state: "processed" }']);
      should(await good).match({ address: 'example.orders', state: 'accepted' });
      const bad = settled();
      await press('2. a bad order');
      should(await bad).match({ address: 'example.orders', state: 'rejected' });
      (await entries('processed').count()).should.equal(1);
    },

    '03 - Request and reply': async () => {
      await press('1. ask for a greeting');
      (await shown('accepted')).should.match([/state: "accepted"/]);
      (await shown('reply')).should.eql(['"Hello, Ada"']);
      await press('2. ask without a name');
      (await shown('reply', 2)).should.match({ 1: /error: "Error: a greeting needs a name"/ });
    },

    '04 - Competing consumers': async () => {
      for (const name of ['worker A', 'worker B']) await status('amqp-receiver', name, 'connected');
      await press('1. send six jobs');
      const [byA, byB] = [entries('done by A'), entries('done by B')];
      await byA.or(byB).nth(5).waitFor();
      (await payloads(byA.or(byB))).toSorted().should.eql(['1', '2', '3', '4', '5', '6']);
      for (const by of [byA, byB]) (await by.count()).should.be.above(0);
    },

    '05 - Dead letters': async () => {
      await press('1. a good order');
      (await shown('processed')).should.eql(['{ item: "tea", amount: 2 }']);
      await press('2. one that fails each time');
      const letter = await opened('dead letter');
      letter.should.match(/item: "tea"/).and.match(/reason: "gave up after 3 attempts"/);
      await press('3. one without an item');
      (await shown('rejected')).should.match([/description: "an order needs an item"/]);
      (await entries('processed').count()).should.equal(1);
    },

    '06 - Retry with a delay': async () => {
      await press('1. switch the machine off');
      await press('2. send an order');
      (await shown('tries again in (ms)', 2)).should.eql(['1000', '2000']);
      (await shown('why', 2)).should.match([/the machine is off/, /the machine is off/]);
      (await entries('processed').count()).should.equal(0);
      await press('3. switch it on again');
      (await shown('processed')).should.eql(['{ item: "tea", amount: 2 }']);
    },

    '07 - Durable subscription': async () => {
      await status('amqp-receiver', 'prices', 'connected');
      await press('1. go away');
      await status('amqp-receiver', 'prices', 'detached');
      const published = once(broker, 'message');
      await press('2. publish a price');
      await published;
      (await entries('price').count()).should.equal(0);
      await press('3. come back');
      await status('amqp-receiver', 'prices', 'connected');
      (await shown('price')).should.match([/^[\d.]+$/]);
      const detached = once(broker, 'detach');
      await press('4. unsubscribe');
      await status('amqp-receiver', 'prices', 'detached');
      should(await detached).match([{ closed: true }]);
    },

    '08 - Browse a queue': async () => {
      // What a first try has left there.
      broker.purge('example.shelf');
      const looks = ['"tea"', '"coffee"', '"cocoa"'];
      await press('1. put three in');
      while (broker.ready('example.shelf') < 3) await once(broker, 'message');
      await press('2. look');
      (await shown('seen', 3)).should.eql(looks);
      await press('2. look');
      (await shown('seen', 6)).should.eql([...looks, ...looks]);
      await press('3. take one');
      (await shown('taken')).should.eql(['"tea"']);
    },

    '09 - Broadcast': async () => {
      const rooms = ['kitchen', 'office', 'garden'];
      for (const room of rooms) await status('amqp-receiver', `in the ${room}`, 'connected');
      await press('1. announce lunch');
      for (const room of rooms) (await shown(`heard in the ${room}`)).should.eql(['"Lunch is ready"']);
    },

    '10 - Back-pressure': async () => {
      const queue = 'example.load';
      const before = broker.received[queue] ?? 0;
      await status('amqp-receiver', 'five at a time', 'connected');
      await press('1. send 20 messages');
      await shown('processed', 3);
      await status('delay', 'two a second', /^[45]$/);
      broker.unsettled(queue).should.be.belowOrEqual(5);
      broker.ready(queue).should.be.above(10);

      broker.holdCredit(queue);
      await press('1. send 20 messages');
      await status('amqp-sender', 'send', 'buffering 20 (67 %)');
      broker.giveCredit(queue);
      await status('amqp-sender', 'send', 'connected');

      await press('2. disconnect');
      await status('amqp-sender', 'send', 'not connected');
      await entries('status').filter({ hasText: 'state: "idle"' }).first().waitFor();
      await press('1. send 20 messages');
      await press('1. send 20 messages');
      const refused = await shown('refused', 10);
      refused.should.eql(refused.map(() => refused[0])).and.match({ 0: /code: "AMQP_BUFFER_FULL"/ });
      await press('3. connect');
      while (broker.received[queue]! - before < 20 + 20 + 30) await once(broker, 'message');
      await status('amqp-sender', 'send', /^connected$/);
      (await entries('refused').count()).should.equal(10);
      broker.purge(queue);
    },

    '11 - MQTT to AMQP, with a disk buffer': async () => {
      await status('mqtt in', 'all devices', 'connected');
      await press('1. publish a reading by MQTT');
      const reading = await opened('reading');
      reading.should.match(/degrees: 21.5/).and.match(/subject: "example\/kitchen\/temperature"/);

      await distant.stop();
      try {
        await status('amqp-sender', 'readings', 'connection refused');
        await press('2. a reading without MQTT');
        await status('amqp-sender', 'readings', /\(1 waiting/);
        await editor.restart();
      } finally {
        await distant.resume();
      }
      const late = await opened('reading', 2);
      late.should.match(/degrees: 19/).and.match(/subject: "example\/cellar\/temperature"/);
    },

    '12 - Forward between two servers': async () => {
      second.holdCredit('example.second');
      await press('1. send to the first server');
      await status('amqp-sender', 'to the second', 'waiting for credit');
      broker.unsettled('example.first').should.equal(1);
      const accepted = settled();
      second.giveCredit('example.second');
      should(await accepted).match({ address: 'example.first', state: 'accepted' });
      (await shown('forwarded')).should.match([/address: "example.second".* state: "accepted"/]);
      (await shown('arrived')).should.eql(['{ item: "tea", amount: 2 }']);

      second.answer('example.second', 'reject', 1);
      const again = settled();
      await press('1. send to the first server');
      should(await again).match({ address: 'example.first', state: 'modified' });
      (await shown('arrived', 2)).should.match({ 1: '{ item: "tea", amount: 2 }' });
    },

    '13 - Subscribe by msg': async () => {
      await status('amqp-receiver', 'rooms', 'no subscription');
      let lists = 0;
      const list = async () => {
        await press('3. list');
        return opened('subscriptions', ++lists);
      };
      await press('1. subscribe to the kitchen');
      await status('amqp-receiver', 'rooms', 'connected');
      await press('2. send to the kitchen');
      (await shown('message')).should.match([/topic: "example.kitchen", payload: 21/]);
      await press('4. and to the cellar');
      await press('2. send to the cellar');
      (await shown('message', 2)).should.match({ 1: /topic: "example.cellar", payload: 21/ });
      (await list()).should.match(/"example.kitchen"[^]*"example.cellar"[^]*window: 5/);

      await press('1. subscribe to the kitchen');
      (await shown('why not')).should.match([/code: "AMQP_BAD_INPUT"/]);
      await press('5. no more of the kitchen');
      let left = await list();
      while (left.includes('example.kitchen')) left = await list();
      left.should.match(/"example.cellar"/);
      await press('6. no more at all');
      await status('amqp-receiver', 'rooms', 'no subscription');
    },

    '14 - Batch': async () => {
      await press('1. five readings');
      (await shown('stored')).should.match({ 0: '[ 20, 21, 22, 23, 24 ]' });
      await press('2. two readings');
      (await shown('stored', 2)).should.match({ 1: '[ 18, 19 ]' });
      await press('3. five, one is a word');
      (await shown('stored', 3)).should.match({ 2: '[ 20, 21, 23, 24 ]' });
    },

    '15 - Counters': async () => {
      await status('amqp-receiver', 'orders in', 'connected');
      for (let orders = 1; orders <= 3; orders++) {
        await press('1. send an order');
        (await shown('message', orders)).should.match({ [orders - 1]: '{ item: "tea", amount: 2 }' });
      }
      await press('ask every 5 seconds');
      const page = await editor.page.context().newPage();
      await page.goto(new URL('/amqp-counters', editor.page.url()).href);
      // It loads itself anew.
      const row = (text: RegExp) => page.locator('tr').filter({ hasText: text }).waitFor();
      await row(/orders out *example\.counted *connected *3 *3 *0/);
      await row(/orders in *example\.counted *connected/);
      await page.close();
    },
  };

  for (const one of examples) {
    it(`are run by their buttons: ${one.title} does what it says`, async () => {
      should(runs).have.property(one.title);
      example = one;
      await show(one.tab);
      await runs[one.title]!();
      await editor.screenshot(`example-${one.title.slice(0, 2)}-runs`);
    });
  }
});
