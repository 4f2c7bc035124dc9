// `npm run pictures`: takes the pictures of docs/images in a real editor, with the embedded broker. Run by hand: they are
// taken anew when a form or an icon changes, and somebody looks at them.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Locator } from 'playwright-core';
import { Broker } from '../broker/broker';
import { Editor, launch } from '../test/editor/editor';
import { type Flow, Installation } from '../test/editor/installation';
import { freePort } from './free-port';

const images = join(__dirname, '..', 'docs', 'images');
const CHROMIUM = process.env['CHROMIUM'] ?? '/usr/bin/chromium';
/** Pixels around what is shown. */
const MARGIN = 4;
/** What a form has room in. */
const VIEW = { width: 1400, height: 710 };

const onTab = { z: 'tab' };
const address = { endpoint: 'endpoint', address: 'orders' };
const flowWith = (port: number): Flow[] => [
  { id: 'tab', type: 'tab', label: 'Orders' },
  { id: 'endpoint', type: 'amqp-endpoint', name: '', host: 'localhost', port, autoconnect: true },
  {
    ...onTab,
    id: 'order',
    type: 'inject',
    name: 'an order',
    props: [{ p: 'payload' }],
    payload: '{"item":"lamp","amount":2}',
    payloadType: 'json',
    topic: '',
    repeat: '',
    crontab: '',
    once: false,
    onceDelay: 0.1,
    x: 130,
    y: 80,
    wires: [['send']],
  },
  {
    ...onTab,
    ...address,
    id: 'send',
    type: 'amqp-sender',
    name: '',
    addressType: 'str',
    format: 'body',
    x: 310,
    y: 80,
    wires: [['sent']],
  },
  { ...onTab, ...debug('sent', 'accepted', 'sent'), x: 490, y: 80 },
  {
    ...onTab,
    ...address,
    id: 'receive',
    type: 'amqp-receiver',
    name: '',
    format: 'body',
    settle: 'flow',
    creditwindow: 100,
    outputs: 1,
    x: 310,
    y: 200,
    wires: [['work']],
  },
  {
    ...onTab,
    id: 'work',
    type: 'function',
    name: 'work',
    func: 'return msg;',
    outputs: 1,
    x: 490,
    y: 200,
    wires: [['got']],
  },
  { ...onTab, ...debug('got', 'order', 'payload'), x: 650, y: 200 },
  {
    ...onTab,
    id: 'done',
    type: 'complete',
    name: 'done',
    scope: ['work'],
    uncaught: false,
    x: 130,
    y: 180,
    wires: [['receive']],
  },
  { ...onTab, id: 'failed', type: 'catch', name: 'failed', scope: ['work'], x: 130, y: 240, wires: [['receive']] },
];

function debug(id: string, name: string, complete: string): Flow {
  const shown = { active: true, tosidebar: true, complete, targetType: 'msg' };
  return { ...shown, id, type: 'debug', name, wires: [] };
}

async function main(): Promise<void> {
  mkdirSync(images, { recursive: true });
  const broker = await Broker.start({ port: await freePort(5672) });
  const installation = new Installation();
  const browser = await launch(CHROMIUM);
  try {
    await installation.start();
    await installation.deploy(flowWith(broker.port));
    const editor = await Editor.open(browser, installation.url);
    await palette(editor);
    await flow(editor, installation.url);
    await editor.page.setViewportSize(VIEW);
    await form(editor, 'send', 'sender');
    await form(editor, 'endpoint', 'endpoint');
    await editor.close();
  } finally {
    await browser.close();
    await installation.stop();
    await broker.stop();
  }
}

async function palette(editor: Editor): Promise<void> {
  const search = editor.page.locator('#red-ui-palette-search input');
  // The palette listens for keys.
  await search.pressSequentially('amqp');
  const nodes = editor.page.locator('.red-ui-palette-node:visible');
  await editor.palette('inject').waitFor({ state: 'hidden' });
  await take(editor, 'palette', [search, nodes.first(), nodes.last()]);
  await search.fill('');
}

/** The flow after its button was pressed, and what the debug sidebar has of it. */
async function flow({ page }: Editor, url: string): Promise<void> {
  await page.getByText('connected', { exact: true }).nth(1).waitFor();
  await page.evaluate("RED.sidebar.show('debug')");
  await page.request.post(`${url}/inject/order`);
  await page.locator('.red-ui-debug-msg').nth(1).waitFor();
  for (const arrow of await page.locator('.red-ui-debug-msg .red-ui-debug-msg-object-handle').all())
    await arrow.click();
  // What tells that a node is changed, or where the mouse is, is not of the flow.
  await page.mouse.move(0, 0);
  await page.screenshot({ path: join(images, 'flow.png'), clip: { x: 180, y: 49, width: 1220, height: 340 } });
}

async function form(editor: Editor, id: string, name: string): Promise<void> {
  const opened = await editor.edit(id);
  await editor.page
    .locator('.red-ui-tray')
    .last()
    .screenshot({ path: join(images, `${name}.png`) });
  await opened.cancel();
}

/** What is around all of these. */
async function take({ page }: Editor, name: string, shown: Locator[]): Promise<void> {
  const boxes = (await Promise.all(shown.map((one) => one.boundingBox()))).filter((box) => box !== null);
  const [x, y] = [Math.min(...boxes.map((box) => box.x)), Math.min(...boxes.map((box) => box.y))];
  const right = Math.max(...boxes.map((box) => box.x + box.width));
  const bottom = Math.max(...boxes.map((box) => box.y + box.height));
  const clip = {
    x: Math.max(0, x - MARGIN),
    y: y - MARGIN,
    width: right - Math.max(0, x - MARGIN) + MARGIN,
    height: bottom - y + 2 * MARGIN,
  };
  await page.screenshot({ path: join(images, `${name}.png`), clip });
}

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
  process.exit(1);
});
