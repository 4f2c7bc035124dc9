// What the repository's own pages, help texts, forms and workflows name exists. That their YAML parses is for `prettier --check` to say.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, extname, join } from 'node:path';
import should from 'should';

const root = join(__dirname, '..', '..');
const { scripts, repository } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const home = repository.url.replace(/^git\+|\.git$/g, '');
const raw = home.replace('github.com', 'raw.githubusercontent.com');

const MOST_WORDS = 900;
/** Servers that nothing of this package ran against. */
const UNTRIED = ['amazon-mq.md', 'ibm-mq.md', 'sap-event-mesh.md', 'solace.md'];

const pages = [
  'README.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  'CHANGELOG.md',
  ...filesIn('docs').filter((file) => extname(file) !== '.png'),
  ...filesIn('locales').filter((file) => extname(file) === '.html'),
  ...filesIn('examples'),
  ...filesIn('.github'),
];
const docs = filesIn('docs').filter((file) => extname(file) === '.md');

describe('The repository', () => {
  it('has the scripts that its pages, forms and workflows run', () => {
    const names = matchesIn([...pages, '.ci/run'], /\bnpm run ([\w:-]+)/g);
    names.length.should.be.above(10);
    names.filter(({ match }) => !(match in scripts)).should.be.empty();
  });

  it('has the files that they run', () => {
    const paths = matchesIn([...pages, '.ci/run'], /(?:\bbash|\bnode|npx mocha|--import tsx) ([\w./-]+\/[\w.-]+)/g);
    paths.length.should.be.above(5);
    paths.filter(({ match }) => !existsSync(join(root, match))).should.be.empty();
  });

  it('has the files and headings that they link to', () => {
    const links = pages.flatMap(linksIn);
    links.length.should.be.above(250);
    links.filter((link) => !exists(link)).should.be.empty();
  });

  it('has a README that fits the palette, and works where it is shown beside GitHub', () => {
    const text = textOf('README.md');
    text.split(/\s+/).length.should.not.be.above(MOST_WORDS);
    const targets = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target!);
    targets.length.should.be.above(20);
    targets.filter((target) => !/^(https:\/\/|#)/.test(target)).should.be.empty();
    [...text.matchAll(/!\[[^\]]+\]\(([^)]+)\)/g)]
      .map(([, image]) => dirname(image!))
      .should.deepEqual(Array(3).fill(`${raw}/main/docs/images`));
  });

  it('has no picture that no page shows', () => {
    const shown = ['README.md', ...docs].flatMap(linksIn).map(({ path }) => path);
    filesIn('docs/images')
      .filter((image) => !shown.includes(image))
      .should.be.empty();
  });

  it('leads from the index of the documentation to each page', () => {
    const linked = linksIn('docs/README.md').map(({ path }) => path);
    docs.filter((page) => page !== 'docs/README.md' && !linked.includes(page)).should.be.empty();
  });

  it('leads from the help of each node to its page', () => {
    const help = filesIn('locales').filter((file) => extname(file) === '.html');
    help.length.should.be.above(0);
    for (const file of help) {
      const page = `docs/${basename(file, '.html').replace('amqp-', '')}.md`;
      const paths = linksIn(file).map(({ path }) => path);
      paths.includes(page).should.equal(true, `${file} has no link to ${page}`);
    }
  });

  it('has the properties of a msg in the help as Node-RED reads them: a second colon takes the whole list apart', () => {
    const lines = filesIn('locales').flatMap((file) => textOf(file).match(/^: .*$/gm) ?? []);
    lines.length.should.be.above(30);
    lines.filter((line) => !/^: \*?\w+\*? \([^:()]+\) : [^:]+$/.test(line)).should.be.empty();
  });

  it('says of servers that nothing ran against them', () => {
    for (const page of UNTRIED) textOf(`docs/${page}`).should.match(/^Nothing of this package ran against /m, page);
  });

  it('gives workflows no right but to read, and one job the right to publish', () => {
    const publishing = ['permissions:', '  contents: read', '  id-token: write'].join('\n    ');
    for (const file of filesIn('.github/workflows')) {
      const isRelease = file.endsWith('release.yml');
      should(textOf(file).match(/permissions:(\n +.*: (read|write))+/g)).deepEqual(
        ['permissions:\n  contents: read', ...(isRelease ? [publishing] : [])],
        file,
      );
    }
  });

  it('pins the actions of its workflows by major version', () => {
    const actions = matchesIn(filesIn('.github/workflows'), /\buses: (.*)/g);
    actions.length.should.be.above(5);
    const others = actions.filter(({ match }) => !/^actions\/[\w-]+@v\d+$/.test(match));
    // Workflows of our own.
    others.filter(({ match }) => !match.startsWith('./') || !existsSync(join(root, match))).should.be.empty();
  });

  it('knows the anchors of headings as GitHub makes them', () => {
    const text = '# A `b.c`, (D) & e\n\n## From node-red-contrib-rhea\n\n```sh\n# no\n```\n\n## Same\n\n## Same\n';
    anchorsOf(text).should.deepEqual(['a-bc-d--e', 'from-node-red-contrib-rhea', 'same', 'same-1']);
  });
});

function textOf(file: string): string {
  return readFileSync(join(root, file), 'utf8');
}

/** The files of a folder and those below it, if there is such a folder. */
function filesIn(folder: string): string[] {
  if (!existsSync(join(root, folder))) return [];
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((path) => statSync(join(root, path)).isFile())
    .toSorted();
}

function matchesIn(files: string[], pattern: RegExp): { file: string; match: string }[] {
  return files.flatMap((file) => [...textOf(file).matchAll(pattern)].map(([, match]) => ({ file, match: match! })));
}

/** Links to files of the repository: relative ones, and those by way of GitHub, which issue forms need. */
function linksIn(file: string): { file: string; path: string; anchor: string }[] {
  const text = withoutFences(textOf(file)).replace(/`[^`\n]*`/g, '');
  return [...text.matchAll(/\]\(([^)\s]+)\)|\burl: (\S+)/g)].flatMap(([, link, url]) => {
    const target = (link ?? url!)
      .replace(`${home}#`, '/README.md#')
      .replace(`${home}/blob/main/`, '/')
      .replace(`${raw}/main/`, '/');
    const [path = '', anchor = ''] = target.split('#');
    if (/^\w+:/.test(path)) return [];
    const from = path.startsWith('/') ? '' : path ? dirname(file) : file;
    return [{ file, path: join(from, path).replace(/^\//, ''), anchor }];
  });
}

function exists({ path, anchor }: { path: string; anchor: string }): boolean {
  return existsSync(join(root, path)) && (!anchor || anchorsOf(textOf(path)).includes(anchor));
}

/** The anchors of a page's headings, as GitHub makes them. */
function anchorsOf(markdown: string): string[] {
  const found = new Map<string, number>();
  return [...withoutFences(markdown).matchAll(/^#+ (.*)$/gm)].map(([, heading]) => {
    const slug = heading!
      .toLowerCase()
      .replace(/[^\p{L}\p{N}_ -]/gu, '')
      .replaceAll(' ', '-');
    const count = found.get(slug) ?? 0;
    found.set(slug, count + 1);
    return count ? `${slug}-${count}` : slug;
  });
}

function withoutFences(markdown: string): string {
  return markdown.replace(/^ *```.*?^ *```/gms, '');
}
