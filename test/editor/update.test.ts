// What somebody sees who opens the editor after an update of the package.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { nodeRedVersion, type Flow } from './installation';
import { workbench } from './workbench';

// oxlint-disable-next-line no-explicit-any -- the editor's global, in the browser
declare const RED: any;

const saved: Flow[] = JSON.parse(readFileSync(join(__dirname, '..', 'fixtures', 'flows-0.1.0.json'), 'utf8'));

describe(`After an update, the editor of Node-RED ${nodeRedVersion}`, function () {
  this.timeout(120_000);
  const { open } = workbench();

  it('finds nothing wrong with what version 0.1.0 saved, and nothing to deploy', async () => {
    const editor = await open([{ id: 'more', type: 'tab', label: 'More' }, ...saved]);
    const nodes = await editor.page.evaluate(() => {
      const found: { id: string; valid: boolean; changed?: boolean; validationErrors?: string[] }[] = [];
      RED.nodes.eachNode((node: never) => void found.push(node));
      RED.nodes.eachConfig((node: never) => void found.push(node));
      return found.map(({ id, valid, changed, validationErrors }) => ({ id, valid, changed, validationErrors }));
    });
    nodes
      .map(({ id }) => id)
      .toSorted()
      .should.eql(saved.map(({ id }) => id).toSorted());
    nodes.filter(({ valid, changed }) => !valid || changed).should.eql([]);
    (await editor.page.evaluate(() => RED.nodes.dirty())).should.be.false();
  });

  it('opens each of its forms, and keeps what it saved', async () => {
    const editor = await open([{ id: 'more', type: 'tab', label: 'More' }, ...saved]);
    for (const { id } of saved) {
      const form = await editor.edit(id);
      await form.done();
    }
    const now = new Map((await editor.saved()).map((node) => [node.id, node]));
    for (const node of saved) {
      const before = Object.fromEntries(Object.entries(node).map(([name, value]) => [name, text(value)]));
      const after = Object.fromEntries(Object.entries(now.get(node.id)!).map(([name, value]) => [name, text(value)]));
      after.should.containEql(before);
    }
  });
});

/** Forms save numbers as texts. */
function text(value: unknown): unknown {
  return typeof value === 'number' ? String(value) : value;
}
