// The examples as a newcomer meets them: imported from the menu one after the other, deployed, and tried.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import should from 'should';
import { Broker } from '../../broker/broker';
import type { Editor } from './editor';
import { type Flow, nodeRedVersion } from './installation';
import { workbench } from './workbench';

// oxlint-disable-next-line no-explicit-any -- the editor's global, in the browser
declare const RED: any;

const MODULE = '@amqp10/node-red-amqp10';
const folder = join(__dirname, '..', '..', 'examples');
const examples = readdirSync(folder)
  .toSorted()
  .map((file) => {
    const nodes: Flow[] = JSON.parse(readFileSync(join(folder, file), 'utf8'));
    return { title: file.replace('.json', ''), nodes, tab: nodes.find(({ type }) => type === 'tab')!.id };
  });
const nodes = examples.flatMap((example) => example.nodes);
const endpoints = nodes.filter(({ type }) => type === 'amqp-endpoint');

describe(`The examples in the editor of Node-RED ${nodeRedVersion}`, function () {
  this.timeout(240_000);
  const { open } = workbench();
  let editor: Editor;
  let broker: Broker;

  before(async () => {
    broker = await Broker.start();
  });
  after(() => broker?.stop());

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
  };
  /** What the editor wants to know: whatever has buttons to choose from. */
  const questions = () => editor.page.locator('.red-ui-notification button, .ui-dialog:visible').allInnerTexts();
  const invalid = () =>
    editor.page.evaluate(() => {
      const all: { id: string; valid: boolean; validationErrors: string[] }[] = [];
      RED.nodes.eachNode((node: (typeof all)[number]) => all.push(node));
      RED.nodes.eachConfig((node: (typeof all)[number]) => all.push(node));
      for (const node of all) RED.editor.validateNode(node);
      return all.filter(({ valid }) => !valid).map(({ id, validationErrors }) => `${id}: ${validationErrors.join()}`);
    });
  const show = async (tab: string) => {
    await editor.page.evaluate((id) => RED.workspaces.show(id), tab);
    await editor.page.locator(`[id="${tab}-about"]`).waitFor();
  };
  const press = (id: string) => editor.page.locator(`[id="${id}"] .red-ui-flow-node-button-button`).click();
  const statusOf = (id: string, text: string) =>
    editor.page.locator(`[id="${id}"] .red-ui-flow-node-status-label`).filter({ hasText: text }).waitFor();
  const debugged = (name: string, text: string) =>
    editor.page.locator('.red-ui-debug-msg').filter({ hasText: name }).filter({ hasText: text }).first().waitFor();

  it('are imported from the menu, all of them, without a question, and run', async () => {
    editor = await open([{ id: 'mine', type: 'tab', label: 'My flow' }]);
    for (const { title, tab } of examples) {
      await importExample(title, tab);
      (await questions()).should.eql([], title);
    }

    (await invalid()).should.eql([]);
    const saved = await editor.saved();
    saved.filter(({ type }) => type === 'amqp-endpoint').should.have.length(endpoints.length);
    for (const node of saved.filter(({ type }) => type.startsWith('amqp-'))) {
      // As the forms save it: nothing changes by opening and closing one.
      const { credentials: _none, ...properties } = JSON.parse(JSON.stringify(node));
      should(nodes.find(({ id }) => id === node.id)).match(properties);
    }
    for (const { title, tab } of examples) {
      await show(tab);
      await editor.screenshot(`example-${title.slice(0, 2)}`);
    }

    await editor.page.evaluate((port) => {
      RED.nodes.eachConfig((node: { type: string; port: number }) => {
        if (node.type === 'amqp-endpoint') node.port = port;
      });
    }, broker.port);
    await editor.deploy();
    (await questions()).should.eql([]);

    await editor.page.evaluate(() => RED.sidebar.show('debug'));
    await show('amqp-example-01');
    await statusOf('amqp-example-01-receive', 'connected');
    await press('amqp-example-01-hello');
    await statusOf('amqp-example-01-send', 'connected');
    await debugged('received', 'Hello');
    await editor.screenshot('example-01-runs');
    await show('amqp-example-02');
    await press('amqp-example-02-good');
    await debugged('processed', 'processed');
    await show('amqp-example-03');
    await press('amqp-example-03-ask');
    await debugged('reply', 'Hello, Ada');
    await editor.screenshot('example-03-runs');
  });
});
