// The forms in languages whose words are longer, or whose letters are wider, than those of English.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import should from 'should';
import { nodeRedVersion } from './installation';
import { workbench } from './workbench';

const TYPES = ['amqp-endpoint', 'amqp-sender', 'amqp-receiver', 'amqp-requester', 'amqp-responder'];
const FLOW = [
  { id: 'tab', type: 'tab', label: 'Test' },
  { id: 'endpoint', type: 'amqp-endpoint', host: 'localhost', port: 5672, autoconnect: false },
  ...TYPES.slice(1).map((type, index) => ({
    id: type,
    type,
    z: 'tab',
    x: 200,
    y: 60 + 80 * index,
    endpoint: 'endpoint',
    format: 'body',
    address: 'orders',
    wires: [],
  })),
];
const textsOf = (language: string, type: string) =>
  JSON.parse(readFileSync(join(__dirname, '../../locales', language, `${type}.json`), 'utf8'))[type];

for (const language of ['de', 'ja']) {
  describe(`The editor of Node-RED ${nodeRedVersion} in the language ${language}`, function () {
    this.timeout(120_000);
    const { open } = workbench();

    for (const type of TYPES) {
      it(`has the form of ${type} translated, with nothing cut off`, async () => {
        const editor = await open(FLOW, 'light', language);
        const form = await editor.edit(type === 'amqp-endpoint' ? 'endpoint' : type);
        for (const fold of await form.folds.all()) await form.unfold(fold);
        await editor.screenshot(`${type}-${language}`);
        const labels = form.element.locator('.amqp10-form label:visible');
        const told = (await labels.allInnerTexts()).map((text) => text.trim()).filter(Boolean);
        const own: string[] = Object.values({
          ...textsOf(language, 'amqp-endpoint').label,
          ...textsOf(language, type).label,
        });
        const english: string[] = Object.values(textsOf('en-US', type).label);
        told.filter((text) => own.includes(text)).length.should.be.above(3);
        told.filter((text) => english.includes(text) && !own.includes(text)).should.be.empty();
        for (const label of await labels.all()) {
          const { height, overflow } = await label.evaluate((element) => ({
            height: (element as HTMLElement).offsetHeight,
            overflow: element.scrollWidth - element.clientWidth,
          }));
          should(height < 30 && overflow < 1).be.true(`"${await label.innerText()}" is cut or wrapped`);
        }
        const width = await form.element.evaluate(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth);
        width.should.not.be.above(0, 'the form is wider than its dialog');
        await form.cancel();
      });
    }

    it('has the help of each node, and its status', async () => {
      const editor = await open(FLOW, 'light', language);
      const { idle } = textsOf(language, 'amqp-endpoint').status;
      await editor.page.locator('.red-ui-flow-node-status-label', { hasText: idle }).first().waitFor();
      for (const type of TYPES.slice(1)) {
        const [heading] = /^### (.*)$/m
          .exec(readFileSync(join(__dirname, '../../locales', language, `${type}.html`), 'utf8'))!
          .slice(1);
        await editor.page.evaluate((name) => (globalThis as any).RED.sidebar.help.show(name), type);
        await editor.page.locator('.red-ui-help h3', { hasText: heading! }).first().waitFor();
      }
    });
  });
}
