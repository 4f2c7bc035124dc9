// The nodes speak the languages of Node-RED, and say the same in each.
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import should from 'should';
import { nodeRedDir } from '../node-red';

const root = join(__dirname, '..', '..', 'locales');
const core = join(
  createRequire(join(nodeRedDir, 'package.json')).resolve('@node-red/nodes/package.json'),
  '..',
  'locales',
);
const ENGLISH = 'en-US';
const languages = readdirSync(root);
const files = readdirSync(join(root, ENGLISH)).toSorted();
const catalogues = files.filter((file) => file.endsWith('.json'));
const helps = files.filter((file) => file.endsWith('.html'));

/** Texts that are the same in other languages: names, examples, and what is written like that everywhere. */
const ALIKE = 0.35;

const read = (...path: string[]) => readFileSync(join(root, ...path), 'utf8');
const textsOf = (language: string, file: string) => flatten(JSON.parse(read(language, file)));

/** The texts of a catalogue by their full keys. */
function flatten(value: unknown, key = ''): Record<string, string> {
  if (typeof value === 'string') return { [key]: value };
  return Object.assign({}, ...Object.entries(value as object).map(([name, child]) => flatten(child, `${key}.${name}`)));
}

const placeholders = (text: string) => (text.match(/__\w+?__/g) ?? []).toSorted();
const all = (text: string, pattern: RegExp) => Array.from(text.matchAll(pattern), ([, found]) => found);

/** What has to be the same in a help text in whatever language. */
const partsOf = (help: string) => ({
  headings: all(help, /^(#+) /gm),
  properties: all(help, /^: (\*?[\w.]+\*?) /gm),
  lists: all(help, /^ *(-|\d+\.) /gm),
  samples: all(help, /^(```\w*)$/gm),
  links: new Set(all(help, /\]\(([^)]+)\)/g)),
});

/** The text outside of code, without names of properties and addresses of links. */
const bareOf = (help: string) =>
  help
    .replaceAll(/```[\s\S]*?```|`[^`]*`/g, '')
    .replaceAll(/\]\([^)]*\)/g, ']')
    .replaceAll(/^: \*[\w.]+\*|^: \w+/gm, ':');

/** What stands in italics. */
const namesIn = (help: string) => all(bareOf(help), /(?<![\w*])_([^_\n]+?)_(?!\w)/g);

describe('The languages', () => {
  it('are those of Node-RED', () => {
    languages.toSorted().should.deepEqual(readdirSync(core).toSorted());
  });

  for (const language of languages) {
    describe(language, () => {
      it('has each file', () => {
        readdirSync(join(root, language)).toSorted().should.deepEqual(files);
      });

      for (const file of catalogues) {
        it(`has each text of ${file}, with the same blanks to fill`, () => {
          const [texts, english] = [textsOf(language, file), textsOf(ENGLISH, file)];
          Object.keys(texts).should.deepEqual(Object.keys(english));
          for (const [key, text] of Object.entries(texts)) {
            should(text.trim() === '').equal(english[key]!.trim() === '', key);
            placeholders(text).should.deepEqual(placeholders(english[key]!), key);
          }
        });
      }

      for (const file of helps) {
        it(`has all parts of the help ${file}`, () => {
          const [help, english] = [read(language, file), read(ENGLISH, file)];
          help.should.containEql(`data-help-name="${file.replace('.html', '')}"`);
          partsOf(help).should.deepEqual(partsOf(english));
          // Markdown has no italics that begin or end beside a letter, of whatever alphabet.
          for (const { 0: found, index, input } of bareOf(help).matchAll(/_[^_\n]+_/g)) {
            const beside = input[index - 1]! + (input[index + found.length] ?? '');
            should(/[\p{L}\p{N}]/u.test(beside)).be.false(found);
          }
          // Node-RED takes a list of properties apart at a second colon.
          for (const line of all(help, /^(: .*)$/gm)) should(line!.split(' : ').length).equal(2, line);
        });
      }

      it('calls fields and options in the help what the forms call them', () => {
        const texts = catalogues.flatMap((file) => Object.values(textsOf(language, file)));
        const ofNodeRed = Object.values(
          flatten(JSON.parse(readFileSync(join(core, language, 'messages.json'), 'utf8'))),
        );
        const bare = texts.map((text) => text.replace(/ ?[(（].*[)）]$/, ''));
        const known = new Set([...texts, ...bare, ...ofNodeRed]);
        for (const file of helps)
          namesIn(read(language, file))
            .filter((name) => !known.has(name!))
            .should.deepEqual([], file);
      });

      if (language === ENGLISH) return;
      it('is no copy of the English texts', () => {
        const [texts, english] = [language, ENGLISH].map((one) =>
          Object.assign({}, ...catalogues.map((file) => textsOf(one, file))),
        ) as [Record<string, string>, Record<string, string>];
        const keys = Object.keys(english);
        const same = keys.filter((key) => texts[key] === english[key]);
        (same.length / keys.length).should.be.below(ALIKE, same.join(', '));
        for (const file of helps) read(language, file).should.not.equal(read(ENGLISH, file));
      });
    });
  }
});
