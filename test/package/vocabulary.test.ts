// One vocabulary: what README, help, pages of docs and flows call a field, an option or an error is what a user finds under that name.
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import should from 'should';
import { NUMBERS } from '../../nodes/flow/settings';
import { nodeRedDir, type NodeConfig } from '../node-red';

const root = join(__dirname, '..', '..');
const locale = join(root, 'locales', 'en-US');
const filesOf = (folder: string, extension: string) =>
  readdirSync(folder)
    .filter((file) => file.endsWith(extension))
    .toSorted();
const textOf = (...path: string[]) => readFileSync(join(root, ...path), 'utf8');

/** Parts of our catalogues that name no field, tab or option. */
const OTHER = ['status', 'log', 'error', 'tip', 'placeholder'];
const ours = filesOf(locale, '.json').map((file) => JSON.parse(readFileSync(join(locale, file), 'utf8')));
const fromNodeRed = createRequire(join(nodeRedDir, 'package.json'));
const coreLocale = join(fromNodeRed.resolve('@node-red/nodes/package.json'), '..', 'locales', 'en-US');
const core = JSON.parse(readFileSync(join(coreLocale, 'messages.json'), 'utf8'));
/** Of Node-RED's own texts, those of which our forms and the TLS configuration are made. */
const used = [core.common.label, core.mqtt.label, core.tls.label];
const labels = new Set([...ours, ...used].flatMap(textsIn));

const help = filesOf(locale, '.html').map((file) => ({
  title: `the help ${file}`,
  text: textOf('locales/en-US', file),
}));
const comments = ['examples', 'examples/Systems', 'docs/flows'].flatMap((folder) =>
  filesOf(join(root, folder), '.json').map((file) => {
    const nodes: NodeConfig[] = JSON.parse(textOf(folder, file));
    const infos = nodes.filter(({ type }) => type === 'comment').map(({ info }) => String(info));
    return { title: `the flow ${folder}/${file}`, text: infos.join('\n\n') };
  }),
);
// Not those for who works on the package.
const ofDocs = filesOf(join(root, 'docs'), '.md')
  .filter((file) => file !== 'rhea.md')
  .map((file) => ({ title: `the page docs/${file}`, text: textOf('docs', file) }));
const pages = [{ title: 'README.md', text: textOf('README.md') }, ...help, ...ofDocs, ...comments];

describe('The vocabulary', () => {
  for (const { title, text } of pages) {
    it(`of ${title} is that of the forms`, () => {
      namesIn(text)
        .filter((name) => !labels.has(name))
        .should.be.empty();
    });
  }

  it('is read from each page', () => {
    for (const { title, text } of pages) namesIn(text).length.should.be.above(0, title);
    namesIn(
      '_a b_, *c*, "d", **_e_**, `_no_` and snake_case_no. See [x](no_x_y).\n\n: *no* (any) : f\n\n```\n_no_\n```\n',
    ).should.deepEqual(['a b', 'c', 'd', 'e']);
  });

  it('has each field of the forms on the page of its node', () => {
    for (const [index, file] of filesOf(locale, '.json').entries()) {
      const [type, { label }] = Object.entries<{ label: Record<string, string> }>(ours[index])[0]!;
      // The catalogue of the endpoint has what several forms share, and what is for logins.
      const places =
        type === 'amqp-endpoint' ? [...filesOf(locale, '.json').map(pageOf), 'docs/logins.md'] : [pageOf(file)];
      const told = new Set(places.flatMap((page) => namesIn(textOf(page))));
      Object.values(label)
        .filter((name) => !told.has(name))
        .should.deepEqual([], type);
    }
  });

  it('has the default of each number beside its field', () => {
    const shared = Object.assign({}, ...used, ...ours.map((one) => Object.values<{ label: object }>(one)[0]!.label));
    const missing = Object.entries(NUMBERS).flatMap(([type, numbers]) => {
      const own = (ours.find((one) => type in one)[type] as { label: Record<string, string> }).label;
      const rows = textOf(pageOf(type))
        .split('\n')
        .map((line) => line.split(' | '));
      return Object.entries(numbers)
        .filter(([, { value }]) => value !== undefined)
        .filter(([name, { value }]) => {
          const row = rows.find(([field = '']) => field.includes(`_${own[name] ?? shared[name]}_`));
          return !row?.[1]?.includes(Number(value).toLocaleString('en-US')) && !row?.[1]?.includes(String(value));
        })
        .map(([name]) => `${type} ${name}`);
    });
    missing.should.be.empty();
  });

  it('has each status on the page of troubleshooting', () => {
    const { status } = (ours[0] as { 'amqp-endpoint': { status: Record<string, unknown> } })['amqp-endpoint'];
    const page = textOf('docs/troubleshooting.md');
    // What is between the numbers and names that it is filled with.
    const stems = textsIn({ ...status, count: [] }).map((text) => text.split(/ ?__/)[0]!);
    stems.length.should.be.above(40);
    stems.filter((stem) => !page.includes('`' + stem)).should.be.empty();
  });

  it('has servers, and no peers', () => {
    for (const { title, text } of pages) should(text.match(/\bpeers?\b/gi)).equal(null, title);
  });

  it('of errors is that of the code, each in one row', () => {
    const told = [...textOf('docs/error-codes.md').matchAll(/^\| `(AMQP_\w+)`/gm)].map(([, code]) => code);
    const [, union = ''] = /type AmqpErrorCode =([^;]*);/.exec(textOf('nodes', 'lib', 'errors.ts'))!;
    told.should.deepEqual([...union.matchAll(/'(AMQP_\w+)'/g)].map(([, code]) => code));
    for (const { title, text } of pages) {
      const mentioned = new Set(text.match(/\bAMQP_[A-Z_]+\b/g));
      [...mentioned].filter((code) => !told.includes(code)).should.deepEqual([], title);
    }
  });
});

/** The page of the node that a catalogue is of. */
function pageOf(catalogue: string): string {
  return `docs/${catalogue.replace(/^amqp-|\.json$/g, '')}.md`;
}

/** The names of fields and options in a text: whatever is in italics or in quotes, but for code. */
function namesIn(markdown: string): string[] {
  const prose = markdown
    .replace(/^```.*?^```/gms, '')
    .replace(/`[^`]*`/g, '')
    .replace(/<[^>]*>/g, '')
    .replace(/\]\([^)]*\)/g, ']')
    // Node-RED marks an optional property of a msg so.
    .replace(/^: \*\w+\*/gm, '')
    .replaceAll('**', '');
  return [...prose.matchAll(/(?<!\w)(?:_([^_]+)_|\*([^*]+)\*|"([^"]+)")(?!\w)/g)].map(([, ...names]) =>
    names.join('').replace(/\s+/g, ' '),
  );
}

/** The names in a catalogue. */
function textsIn(catalogue: unknown): string[] {
  if (typeof catalogue === 'string') return [catalogue.trim()];
  return Object.entries(catalogue as object).flatMap(([key, child]) => (OTHER.includes(key) ? [] : textsIn(child)));
}
