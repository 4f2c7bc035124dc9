// How people find the nodes, and tell them apart.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import should from 'should';
import type { Editor } from './editor';
import { nodeRedVersion } from './installation';
import { THEMES, workbench } from './workbench';

// oxlint-disable-next-line no-explicit-any -- the editor's global, in the browser
declare const RED: any;

const NODES = ['amqp-receiver', 'amqp-requester', 'amqp-responder', 'amqp-sender'];
const WORDS = ['amqp', 'rabbit', 'azure', 'service bus', 'queue', 'broker', 'artemis', 'activemq'];
const FLOW = [
  { id: 'tab', type: 'tab', label: 'Test' },
  { id: 'endpoint', type: 'amqp-endpoint', host: 'localhost', port: 5672, autoconnect: false },
  ...NODES.map((type, n) => ({
    id: type,
    type,
    z: 'tab',
    x: 300,
    y: 60 + 80 * n,
    endpoint: 'endpoint',
    address: 'queue',
    format: 'body',
    wires: type === 'amqp-requester' ? [[], []] : [[]],
  })),
];
const { name, keywords } = JSON.parse(readFileSync(join(__dirname, '..', '..', 'package.json'), 'utf8'));

describe(`The palette of Node-RED ${nodeRedVersion}`, function () {
  this.timeout(120_000);
  const { open } = workbench();
  let editor: Editor;

  /** The nodes that the palette shows when this is typed into its search. */
  async function found(word: string): Promise<string[]> {
    const field = editor.page.locator('#red-ui-palette-search input');
    const inject = '.red-ui-palette-node[data-palette-type="inject"]';
    for (const [typed, other] of [
      ['', `${inject}:not([data-filter])`],
      [word, `${inject}[data-filter]`],
    ] as const) {
      await field.fill(typed);
      // The search waits for a key to be released. It is done when it has marked a node that none of the words is about.
      await field.press('End');
      await editor.page.locator(other).waitFor({ state: 'attached' });
    }
    const shown = await editor.page
      .locator('.red-ui-palette-node[data-palette-type]:not([data-filter])')
      .evaluateAll((nodes) => nodes.map((node) => node.getAttribute('data-palette-type')!));
    return shown.toSorted();
  }

  it('finds the nodes by what people call their servers, and shows no more of their labels', async () => {
    editor = await open(FLOW);
    for (const type of NODES)
      (await editor.palette(type).innerText()).trim().should.match(new RegExp(`^${type.replace('-', '\\s')}$`));
    (await found('rabbit')).should.deepEqual(NODES);
    for (const type of NODES) await editor.palette(type).waitFor();
    await editor.palette('inject').waitFor({ state: 'hidden' });
    for (const word of WORDS) should(await found(word)).containDeep(NODES);
    await editor.screenshot('palette-search');
    (await found('responder')).should.deepEqual(['amqp-responder']);
  });

  it('finds them as well after they were removed and installed again', async () => {
    editor = await open(FLOW);
    await editor.page.evaluate((types) => {
      for (const type of types) {
        RED.events.emit('registry:node-type-removed', type);
        RED.events.emit('registry:node-type-added', type);
      }
    }, NODES);
    (await found('rabbit')).should.deepEqual(NODES);
  });

  // The editor of this suite may install nothing, so it has no such search: this is what it compares.
  it('finds the package by the same words where packages are installed', () => {
    const index = [name, ...keywords, ...NODES].join().toLowerCase();
    for (const word of WORDS) index.should.containEql(word.toLowerCase());
  });

  for (const theme of THEMES) {
    it(`has an icon of its own for each node, white on transparent, in the ${theme} theme`, async () => {
      editor = await open(FLOW, theme);
      await editor.palette('amqp-sender').scrollIntoViewIfNeeded();
      await editor.screenshot('icons');
      const drawn = await Promise.all(
        NODES.map((type) =>
          editor.page.evaluate(async (nodeType) => {
            const image = new Image();
            image.src = RED.utils.getNodeIcon(RED.nodes.getType(nodeType));
            await image.decode();
            // As wide as the editor shows it.
            const context = Object.assign(document.createElement('canvas'), { width: 20, height: 30 }).getContext(
              '2d',
            )!;
            context.drawImage(image, 0, 0, 20, 30);
            const { data } = context.getImageData(0, 0, 20, 30);
            const opacity = data.filter((_value, n) => n % 4 === 3);
            const colours = data.filter((_value, n) => n % 4 !== 3 && data[n - (n % 4) + 3]! > 0);
            const { naturalWidth: width, naturalHeight: height } = image;
            return { ratio: width / height, opacity: [...opacity], darkest: Math.min(...colours) };
          }, type),
        ),
      );
      for (const [n, { ratio, opacity, darkest }] of drawn.entries()) {
        ratio.should.equal(2 / 3);
        darkest.should.be.above(240, NODES[n]);
        opacity.filter((value) => value === 0).length.should.be.within(300, 500, NODES[n]);
        // Others differ from it in a tenth of what can be seen at least.
        for (const other of drawn.slice(n + 1)) {
          const differing = opacity.filter((value, at) => Math.abs(value - other.opacity[at]!) > 128).length;
          should(differing).be.above(60, NODES[n]);
        }
      }
    });
  }
});
