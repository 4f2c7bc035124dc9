// The editor in a browser, handled as a person does: drag, click, type.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { chromium, type Browser, type Locator, type Page } from 'playwright-core';
import should from 'should';
import { nodeRedVersion, type Flow } from './installation';

// oxlint-disable-next-line no-explicit-any -- the editor's global, in the browser
declare const RED: any;
// oxlint-disable-next-line no-explicit-any -- another, once it is there
declare const axe: any;

const screenshots = join(__dirname, '..', '..', 'screenshots');

export type Theme = 'light' | 'dark';
export type Values = Record<string, string | boolean>;

export function launch(executablePath: string): Promise<Browser> {
  return chromium.launch({
    executablePath,
    args: ['--disable-gpu', '--disable-quic', '--disable-background-networking'],
    chromiumSandbox: process.getuid?.() !== 0,
  });
}

export class Editor {
  /** What went wrong in the browser: errors and warnings on the console, failed requests. */
  readonly complaints: string[] = [];
  /** The addresses that the management of each endpoint's server tells; and whose was asked. */
  readonly served: Record<string, string[]> = {};
  readonly asked: string[] = [];

  private constructor(
    readonly page: Page,
    private readonly url: string,
    readonly theme: Theme,
    readonly locale: string,
  ) {
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) this.complaints.push(message.text());
    });
    page.on('pageerror', (error) => this.complaints.push(error.message));
    page.on('requestfailed', (request) => this.complaints.push(`${request.url()}: ${request.failure()?.errorText}`));
    page.on('response', (response) => {
      if (response.status() >= 400) this.complaints.push(`${response.url()}: ${response.status()}`);
    });
  }

  static async open(browser: Browser, url: string, theme: Theme = 'light', locale = 'en-US'): Promise<Editor> {
    const context = await browser.newContext({ locale, viewport: { width: 1400, height: 900 } });
    context.setDefaultTimeout(10_000);
    await context.addInitScript((value) => {
      localStorage.clear();
      localStorage.setItem('view-dark-theme', value);
    }, theme);
    const editor = new Editor(await context.newPage(), url, theme, locale);
    await editor.load();
    return editor;
  }

  /** Loads the editor, which knows nothing of what was there before. In a page that had it once, that takes a third of the time. */
  async load(): Promise<void> {
    this.complaints.length = this.asked.length = 0;
    for (const id of Object.keys(this.served)) delete this.served[id];
    await this.page.unrouteAll();
    await this.page.route('**/amqp-endpoint/addresses', async (route) => {
      const { id } = route.request().postDataJSON() as { id: string };
      this.asked.push(id);
      await route.fulfill({ json: this.served[id] ?? [] });
    });
    await this.page.goto(this.url);
    await this.palette('amqp-responder').waitFor();
    await this.page.locator('#red-ui-loading-progress').waitFor({ state: 'hidden' });
    if (this.theme === 'dark') await this.page.locator('html.nr-theme-dark').waitFor();
  }

  /** Ends what the editor does. The page stays, with nothing in it, and the editor's scripts in memory: it is of the same server. */
  async leave(): Promise<void> {
    // What is under the mouse would show its tooltip when the editor is loaded again.
    await this.page.mouse.move(0, 0);
    const nothing = `${this.url}/nothing`;
    // The browser asks the server for an icon of a page that names none.
    const body = '<link rel="icon" href="data:,">';
    await this.page.route(nothing, (route) => route.fulfill({ contentType: 'text/html', body }));
    await this.page.goto(nothing);
  }

  async close(): Promise<void> {
    await this.page.context().close();
  }

  async screenshot(name: string): Promise<void> {
    mkdirSync(screenshots, { recursive: true });
    await this.page.screenshot({ path: join(screenshots, `${nodeRedVersion}-${this.theme}-${name}.png`) });
  }

  palette(type: string): Locator {
    return this.page.locator(`.red-ui-palette-node[data-palette-type="${type}"]`);
  }

  /** Drags a node from the palette onto the flow; answers its id. */
  async drag(type: string, x: number, y: number): Promise<string> {
    const before = await this.#ids(type);
    await this.palette(type).dragTo(this.page.locator('#red-ui-workspace-chart'), { targetPosition: { x, y } });
    const [added] = (await this.#ids(type)).filter((id) => !before.includes(id));
    if (!added) throw new Error(`${type} did not arrive in the flow`);
    return added;
  }

  #ids(type: string): Promise<string[]> {
    return this.page.evaluate(
      (wanted) => RED.nodes.filterNodes({ type: wanted }).map((n: { id: string }) => n.id),
      type,
    );
  }

  label(id: string): Promise<string> {
    return this.page.evaluate((node) => RED.utils.getNodeLabel(RED.nodes.node(node)), id);
  }

  /** What the editor has against a node with these properties. */
  errors(id: string, properties: object): Promise<string[]> {
    return this.page.evaluate(
      ([wanted, values]) => {
        const subject = RED.nodes.node(wanted);
        const before = Object.keys(values).map((name) => [name, subject[name]]);
        Object.assign(subject, values);
        RED.editor.validateNode(subject);
        const errors = subject.validationErrors;
        Object.assign(subject, Object.fromEntries(before));
        RED.editor.validateNode(subject);
        return errors;
      },
      [id, properties] as const,
    );
  }

  /** What the editor has against the nodes of the flows as they are. */
  invalid(): Promise<string[]> {
    return this.page.evaluate(() => {
      const all: { id: string; valid: boolean; validationErrors: string[] }[] = [];
      RED.nodes.eachNode((node: (typeof all)[number]) => all.push(node));
      RED.nodes.eachConfig((node: (typeof all)[number]) => all.push(node));
      for (const node of all) RED.editor.validateNode(node);
      return all.filter(({ valid }) => !valid).map(({ id, validationErrors }) => `${id}: ${validationErrors.join()}`);
    });
  }

  /** A property of a node as the editor knows it. */
  property(id: string, name: string): Promise<unknown> {
    return this.page.evaluate(([node, key]) => RED.nodes.node(node)[key!], [id, name]);
  }

  /** The flows as they would be deployed: Deploy itself asks first when something is wrong. */
  saved(): Promise<Flow[]> {
    return this.page.evaluate(() => RED.nodes.createCompleteNodeSet({ credentials: false }));
  }

  /** Opens the form of a node or config node. */
  async edit(id: string): Promise<Form> {
    const isConfig = await this.page.evaluate(
      (node) => RED.nodes.getType(RED.nodes.node(node).type).category === 'config',
      id,
    );
    if (isConfig) {
      await this.page.evaluate((node) => RED.editor.editConfig('', RED.nodes.node(node).type, node), id);
      return this.form('node-config-input');
    }
    // Not by a double click, which a busy machine may make two clicks of.
    await this.page.evaluate((node) => RED.editor.edit(RED.nodes.node(node)), id);
    return this.form('node-input');
  }

  async form(prefix: Form['prefix']): Promise<Form> {
    const form = new Form(this.page, prefix);
    await form.ready();
    return form;
  }

  /** What the dialog to export offers to copy: of the tab that is shown, or all. */
  async exported(range: 'flow' | 'full'): Promise<string> {
    await this.page.evaluate(() => RED.actions.invoke('core:show-export-dialog'));
    const dialog = this.page.locator('#red-ui-clipboard-dialog');
    await dialog.locator(`#red-ui-clipboard-dialog-export-rng-${range}`).click();
    await dialog.locator('#red-ui-clipboard-dialog-export-tab-clipboard-tabs a', { hasText: 'JSON' }).click();
    const text = await dialog.locator('#red-ui-clipboard-dialog-export-text').inputValue();
    await this.page.locator('#red-ui-clipboard-dialog-cancel').click();
    await dialog.waitFor({ state: 'hidden' });
    return text;
  }

  /** Puts it into the dialog to import, and confirms it. */
  async import(text: string): Promise<void> {
    await this.page.evaluate(() => RED.actions.invoke('core:show-import-dialog'));
    const field = this.page.locator('#red-ui-clipboard-dialog-import-text');
    await field.fill(text);
    // It is looked at after a key.
    await field.press('End');
    await this.page.locator('#red-ui-clipboard-dialog-ok').click();
    await this.page.locator('#red-ui-clipboard-dialog').waitFor({ state: 'hidden' });
  }

  /** Presses Deploy and waits until the runtime has the flows. */
  async deploy(): Promise<void> {
    await this.#posts(() => this.page.locator('#red-ui-header-button-deploy').click());
  }

  /** Restarts the flows, as the menu beside Deploy offers it. */
  async restart(): Promise<void> {
    await this.page.locator('#red-ui-header-button-deploy-options').click();
    await this.#posts(() => this.page.locator('#deploymenu-item-reload').click());
  }

  async #posts(click: () => Promise<void>): Promise<void> {
    const posted = this.page.waitForResponse(
      (response) => response.url().endsWith('/flows') && response.request().method() === 'POST',
    );
    await click();
    should((await posted).ok()).be.true();
  }
}

export class Form {
  constructor(
    readonly page: Page,
    readonly prefix: 'node-input' | 'node-config-input',
  ) {}

  get element(): Locator {
    return this.page.locator(this.prefix === 'node-input' ? '#dialog-form' : '#node-config-dialog-edit-form');
  }

  get folds(): Locator {
    return this.element.locator('.amqp10-fold:visible');
  }

  /** Waits until the dialog has stopped sliding in. */
  async ready(): Promise<void> {
    await this.element.waitFor();
    await this.#button('ok').click({ trial: true });
  }

  field(name: string): Locator {
    return this.page.locator(`#${this.prefix}-${name}`);
  }

  row(name: string): Locator {
    return this.element.locator('.form-row').filter({ has: this.field(name) });
  }

  /** Is the row of this field offered? (It may be in a fold.) */
  async offers(name: string): Promise<boolean> {
    await this.show(name);
    return this.row(name).isVisible();
  }

  /** Opens the fold that has the field. */
  async show(name: string): Promise<void> {
    const fold = this.folds.filter({ has: this.field(name) });
    if (await fold.count()) await this.unfold(fold);
  }

  /** Goes to an element by the keyboard. */
  async tabTo(target: Locator): Promise<void> {
    const isThere = (): Promise<boolean> => target.evaluate((element) => element === document.activeElement);
    for (let n = 0; n < 100; n++) {
      if (await isThere()) return;
      await this.page.keyboard.press('Tab');
    }
    throw new Error('The tab key does not lead there');
  }

  /** Opens the fold that has the field, by the keyboard. */
  async unfoldByKeys(name: string): Promise<void> {
    await this.tabTo(this.folds.filter({ has: this.field(name) }).locator('summary'));
    await this.page.keyboard.press('Enter');
  }

  /** What axe-core has against our part of the form, as it is shown. */
  async violations(): Promise<string[]> {
    await this.page.addScriptTag({ path: require.resolve('axe-core') });
    return this.element.locator('.amqp10-form').evaluate(async (form) => {
      const { violations, passes } = await axe.run(form);
      if (passes.length < 10) throw new Error('axe-core found next to nothing to check');
      return violations.flatMap(({ id, nodes }: { id: string; nodes: { html: string }[] }) =>
        nodes.map(({ html }) => `${id}: ${html}`),
      );
    });
  }

  async unfold(fold: Locator): Promise<void> {
    if ((await fold.getAttribute('open')) === null) await fold.locator('summary').click();
  }

  async enter(values: Values): Promise<void> {
    for (const [name, value] of Object.entries(values)) {
      await this.show(name);
      const field = this.field(name);
      const kind = await field.evaluate((element) => `${element.tagName} ${element.getAttribute('type')}`);
      if (typeof value === 'boolean') await field.setChecked(value);
      else if (kind.startsWith('SELECT')) await field.selectOption(value);
      else if (kind.endsWith('hidden')) await this.#fillTyped(name, value);
      else {
        await field.fill(value);
        await field.blur();
      }
    }
  }

  /** Pastes a text in place of what is in the field. It is cut from the name, which is empty after that. */
  async paste(name: string, text: string): Promise<void> {
    await this.field('name').fill(text);
    await this.field('name').press('Control+A');
    await this.field('name').press('Control+X');
    await this.show(name);
    await this.field(name).press('Control+A');
    await this.field(name).press('Control+V');
  }

  /** `type:value` into a typed input, or text. */
  async #fillTyped(name: string, value: string): Promise<void> {
    const [, type = 'str', text = value] = /^(str|msg|flow|global|env|jsonata):(.*)$/.exec(value) ?? [];
    const row = this.row(name);
    await row.locator('.red-ui-typedInput-type-select').click();
    const menu = this.page.locator('.red-ui-typedInput-options:visible');
    await menu.waitFor();
    // A person cannot click while it slides in, and then the choice may be lost.
    await this.page.waitForFunction(() => $(':animated').length === 0);
    await menu.locator(`[value="${type}"]`).click();
    await row.locator('.red-ui-typedInput-input').fill(text);
  }

  value(name: string): Promise<string> {
    return this.field(name).inputValue();
  }

  async placeholder(name: string): Promise<string> {
    return (await this.field(name).getAttribute('placeholder'))!;
  }

  /** Where a person types the address. */
  get address(): Locator {
    return this.row('address').locator('.red-ui-typedInput-input');
  }

  /** The addresses offered beneath it. */
  get hints(): Locator {
    return this.row('address').locator('.amqp10-hints a');
  }

  async invalid(name: string): Promise<boolean> {
    return ((await this.field(name).getAttribute('class')) ?? '').includes('input-error');
  }

  async done(): Promise<void> {
    await this.#close('ok');
  }

  /** Saves by the keyboard, with the focus where it is. */
  async confirm(): Promise<void> {
    await this.page.keyboard.press('Control+Enter');
    await this.element.waitFor({ state: 'detached' });
  }

  async cancel(): Promise<void> {
    await this.#close('cancel');
  }

  #button(name: 'ok' | 'cancel'): Locator {
    return this.page.locator(`#${this.prefix === 'node-input' ? 'node-dialog' : 'node-config-dialog'}-${name}`);
  }

  async #close(button: 'ok' | 'cancel'): Promise<void> {
    await this.#button(button).click();
    await this.element.waitFor({ state: 'detached' });
  }
}
