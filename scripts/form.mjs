// A form as the editor gets it. A row that several forms have stands once in nodes/rows, and the forms name it in a line of
// its own: `<!-- include rows/kind.html -->`. In the row `{type}` is the node's type, and `{id}`, say, what that line gives:
// `<!-- include rows/seconds.html id=timeout icon=clock-o unit=seconds-or-never -->`.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const nodes = join(import.meta.dirname, '..', 'nodes');
const read = (file) => readFileSync(join(nodes, file), 'utf8');

export function formOf(type) {
  return read(`${type}.html`).replace(/^( *)<!-- include (\S+)(.*) -->\n/gm, (_line, indent, row, given) => {
    const values = { type, ...Object.fromEntries(given.match(/\S+=\S+/g)?.map((pair) => pair.split('=')) ?? []) };
    const text = read(row).replace(/\{(\w+)\}/g, (name, key) => values[key] ?? name);
    return text.replace(/^(?=.)/gm, indent);
  });
}
