import { existsSync } from 'node:fs';
import type { Browser } from 'playwright-core';
import { Editor, launch, type Theme } from './editor';
import { Installation, nodeRedVersion, type Flow } from './installation';

const CHROMIUM = process.env['CHROMIUM'] ?? '/usr/bin/chromium';
/** Node-RED 4 has one only. */
export const THEMES: Theme[] = nodeRedVersion.startsWith('4.') ? ['light'] : ['light', 'dark'];

export interface Workbench {
  readonly installation: Installation;
  /** Deploys the flows and loads the editor, which stays until it is opened again, or all tests are over. */
  readonly open: (flows: Flow[], theme?: Theme, locale?: string) => Promise<Editor>;
  /** A node as it stands in the flow file. */
  readonly deployed: (id: string) => Promise<Flow>;
}

/** A Node-RED and a browser, for the tests of the suite that this is called in. */
export function workbench(): Workbench {
  const installation = new Installation();
  let browser: Browser | undefined;
  let editor: Editor | undefined;

  before(async function () {
    if (!existsSync(CHROMIUM)) {
      if (process.env['CI']) throw new Error(`No Chromium at ${CHROMIUM}: set CHROMIUM`);
      console.warn(`\n*** EDITOR NOT TESTED: no Chromium at ${CHROMIUM} (set CHROMIUM) ***\n`);
      this.skip();
    }
    this.timeout(300_000);
    await installation.start();
    browser = await launch(CHROMIUM);
  });

  afterEach(() => void editor?.complaints.should.eql([]));

  after(async () => {
    await editor?.close();
    await browser?.close();
    await installation.stop();
  });

  return {
    installation,
    open: async (flows, theme = 'light', locale = 'en-US') => {
      await editor?.leave();
      await installation.deploy(flows);
      if (editor?.theme === theme && editor.locale === locale) await editor.load();
      else {
        await editor?.close();
        editor = await Editor.open(browser!, installation.url, theme, locale);
      }
      return editor;
    },
    deployed: async (id) => (await installation.flows()).find((flow) => flow.id === id)!,
  };
}
