// docs/rhea.md against the code: a number that is named is explained there, and what it says of guards and tests is so.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import should from 'should';

const root = join(__dirname, '..', '..', '..', '..');
const textOf = (...path: string[]) => readFileSync(join(root, ...path), 'utf8');
const sources = ['broker', 'nodes', 'test'].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => join(folder, file)),
);

const rows = [...textOf('docs', 'rhea.md').matchAll(/^\| (R\d+) \|(.*)\|$/gm)];
const traps = rows.map(([, number, cells]) => {
  const [, places, guard, test] = cells!.split('|').map((cell) => cell.trim());
  return { number: number!, places: places!, guard: guard!, test: test! };
});
const numbers = traps.map(({ number }) => number);
const guarded = traps.filter(({ guard }) => !guard.startsWith('not met: '));

/** The titles of the tests in a file, as they stand in the source. */
function titlesIn(file: string): string[] {
  const calls = textOf(file).matchAll(/\bit\(\s*(['"`])(.*?)(?<!\\)\1,/g);
  return [...calls].map(([, , title]) => title!.replace(/\\(['"`])/g, '$1'));
}

describe('The table of the traps of rhea', () => {
  it('has each number once, from R1 on', () => {
    numbers
      .map((number) => Number(number.slice(1)))
      .toSorted((a, b) => a - b)
      .should.deepEqual(numbers.map((_, index) => index + 1));
  });

  it('has each number that code and tests name', () => {
    const unknown = sources.flatMap((file) =>
      [...new Set(textOf(file).match(/\bR\d+\b/g))]
        .filter((number) => !numbers.includes(number))
        .map((number) => `${file}: ${number}`),
    );
    should(unknown).deepEqual([]);
  });

  it('names places that there are in rhea', () => {
    const folder = join(root, 'node_modules', 'rhea', 'lib');
    const missing = traps.flatMap(({ number, places }) => {
      let lines = 0;
      return places.split(', ').flatMap((place) => {
        const [, file, first, last] = /^(?:(\w+):)?(\d+)(?:-(\d+))?$/.exec(place) ?? [];
        if (file) lines = readFileSync(join(folder, `${file}.js`), 'utf8').split('\n').length;
        return Number(last ?? first) <= lines ? [] : [`${number}: ${place}`];
      });
    });
    should(missing).deepEqual([]);
  });

  it('names guards that there are', () => {
    const missing = guarded.flatMap(({ number, guard }) =>
      guard.split('; ').flatMap((part) => {
        const [file, ...names] = [...part.matchAll(/`([^`]+)`/g)].map(([, name]) => name!);
        if (!file || names.length === 0 || !existsSync(join(root, 'nodes', file))) return [`${number}: ${part}`];
        return names.filter((name) => !textOf('nodes', file).includes(name)).map((name) => `${number}: ${name}`);
      }),
    );
    should(missing).deepEqual([]);
  });

  it('names a test that there is for each trap with a guard', () => {
    const missing = guarded.filter(({ test }) => {
      const [, file, title] = /^`([^`]+)` "(.+)"$/.exec(test) ?? [];
      return !file || !title || !existsSync(join(root, 'test', file)) || !titlesIn(join('test', file)).includes(title);
    });
    missing.map(({ number, test }) => `${number}: ${test}`).should.deepEqual([]);
  });
});
