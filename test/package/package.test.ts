// Packs the tarball, installs it into an empty user directory, and asks the Node-RED under test what it makes of it.
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import should from 'should';
import { freePort } from '../../scripts/free-port';
import { exampleFiles, readExample } from '../example';
import { nodeRedDir, type NodeConfig } from '../node-red';

const run = promisify(execFile);
const root = join(__dirname, '..', '..');
const NAME = '@amqp10/node-red-amqp10';
const SOURCES = [
  'nodes',
  'icons',
  'locales',
  'examples',
  'resources',
  'scripts',
  'package.json',
  'tsconfig.json',
].concat(readdirSync(root).filter((file) => /^[A-Z]/.test(file)));
const TYPES = ['amqp-endpoint', 'amqp-receiver', 'amqp-requester', 'amqp-responder', 'amqp-sender'];

/** What examples take from the environment: as in a StatefulSet, and a server that is not there. */
const VARIABLES = {
  HOSTNAME: 'orders-0',
  AZURE_SERVICE_BUS: 'localhost',
  AZURE_EVENT_HUBS: 'localhost',
  AZURE_IOT_HUB: 'localhost',
  AZURE_IOT_HUB_EVENTS: 'localhost',
  AZURE_IOT_DEVICE: 'localhost',
  AZURE_IOT_DEVICE_ID: 'thermometer-1',
};

describe('the package', function () {
  this.timeout(120_000);

  const directory = mkdtempSync(join(tmpdir(), 'package-'));
  const userDir = join(directory, 'user');
  let packed: string[];
  let url: string;
  let nodeRed: ChildProcess;
  let log = '';

  const get = async (path: string, headers: Record<string, string> = {}) => {
    const response = await fetch(url + path, { headers });
    return { status: response.status, type: response.headers.get('content-type'), text: await response.text() };
  };
  const getJson = async (path: string) => JSON.parse((await get(path, { Accept: 'application/json' })).text);

  before(async () => {
    mkdirSync(userDir);
    // A copy of its own, since `npm start`, which may be tested meanwhile, builds here too.
    const copy = join(directory, 'copy');
    for (const file of SOURCES) cpSync(join(root, file), join(copy, file), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
    const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', directory], { cwd: copy });
    const [tarball] = JSON.parse(stdout.slice(stdout.indexOf('[\n')));
    packed = tarball.files.map((file: { path: string }) => file.path);
    const install = ['install', '--prefer-offline', '--no-audit', '--no-fund', join(directory, tarball.filename)];
    await run('npm', install, { cwd: userDir });

    const port = await freePort();
    url = `http://127.0.0.1:${port}`;
    const settings = join(root, 'scripts', 'node-red-settings.cjs');
    const red = [join(nodeRedDir, 'red.js'), '-u', userDir, '-p', String(port), '-s', settings];
    const env = { ...process.env, ...VARIABLES };
    const child = spawn(process.execPath, red, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    nodeRed = child;
    await new Promise<void>((resolve, reject) => {
      const read = (chunk: Buffer) => {
        log += chunk.toString();
        if (log.includes(`Server now running at ${url}`)) resolve();
      };
      child.stdout.on('data', read);
      child.stderr.on('data', read);
      child.once('error', reject);
      child.once('exit', (code) => reject(new Error(`Node-RED ended with ${code}:\n${log}`)));
    });
  });

  after(async () => {
    if (nodeRed?.exitCode === null) {
      nodeRed.kill();
      await once(nodeRed, 'exit');
    }
    rmSync(directory, { recursive: true, force: true });
  });

  it('holds what users need and nothing else', () => {
    const compiled = readdirSync(join(root, 'nodes'), { encoding: 'utf8', recursive: true })
      .filter((file) => /\.(ts|html)$/.test(file) && !file.endsWith('.d.ts'))
      .map((file) => `dist/${file.replace(/ts$/, 'js')}`);
    const locales = readdirSync(join(root, 'locales')).flatMap((language) =>
      list(`locales/${language}`, `${language}/`),
    );
    packed.toSorted().should.deepEqual(
      [
        // Shared rows are in the forms by then.
        ...compiled.filter((file) => !file.startsWith('dist/rows/')),
        ...list('icons').map((file) => `dist/icons/${file}`),
        ...locales.map((file) => `dist/locales/${file}`),
        ...exampleFiles().map((file) => `examples/${file}`),
        ...exampleFiles('Systems').map((file) => `examples/${file}`),
        ...list('resources').map((file) => `resources/${file}`),
        'CHANGELOG.md',
        'LICENSE',
        'README.md',
        'package.json',
      ].toSorted(),
    );
    packed.filter((file) => /\.(ts|map|tgz)$|test/.test(file)).should.be.empty();
  });

  it('has a lock file that agrees with it, for everybody and whatever their registry', () => {
    const [ours, { packages }] = ['package.json', 'package-lock.json'].map((file) =>
      JSON.parse(readFileSync(join(root, file), 'utf8')),
    );
    for (const kind of ['dependencies', 'devDependencies', 'optionalDependencies']) {
      should(packages[''][kind]).deepEqual(ours[kind], kind);
    }
    for (const [path, locked] of Object.entries<object>(packages)) should(locked).not.have.property('resolved', path);
  });

  it('gives Node-RED five sets that load without error', async () => {
    const sets: Record<string, unknown>[] = await getJson('/nodes');
    const ours = sets.filter(({ module }) => module === NAME);
    const loaded = ours.map(({ name, enabled, err, types }) => [name, { enabled, err, types }]);
    Object.fromEntries(loaded).should.deepEqual(
      Object.fromEntries(TYPES.map((type) => [type, { enabled: true, err: undefined, types: [type] }])),
    );
  });

  it('registers each node in the editor, with help for it', async () => {
    const { text } = await get('/nodes', { Accept: 'text/html', 'Accept-Language': 'en-US' });
    for (const type of TYPES) {
      text.should.match(new RegExp(`registerType\\(\\s*'${type}'`));
      text.should.containEql(`data-template-name="${type}"`);
      text.should.containEql(`data-help-name="${type}"`);
    }
  });

  // Its editor waits for ever for one that it does not get.
  it('serves the scripts that its forms name', async () => {
    const { text } = await get('/nodes', { Accept: 'text/html' });
    const scripts = [...text.matchAll(/<script[^>]* src="(resources\/@amqp10\/[^"]+)"/g)].map(([, path]) => path!);
    scripts.should.deepEqual(list('resources', `resources/${NAME}/`));
    for (const script of scripts) {
      const { status, type, text: source } = await get(`/${script}`);
      status.should.equal(200);
      should(type).match(/javascript/);
      source.should.equal(readFileSync(join(root, 'resources', script.split('/').at(-1)!), 'utf8'));
    }
  });

  it('gives each node its texts', async () => {
    const messages = await getJson('/nodes/messages?lng=en-US');
    for (const type of TYPES) should(messages[`${NAME}/${type}`]).have.property(type).which.is.an.Object();
  });

  it('serves its icons: one for each node, white on transparent, of 2 to 3', async () => {
    const { [NAME]: icons } = await getJson('/icons');
    should(icons).deepEqual(list('icons'));
    const { text: forms } = await get('/nodes', { Accept: 'text/html' });
    const named = TYPES.flatMap((type) => {
      const [definition] = forms.split(`registerType('${type}'`)[1]!.split('registerType(');
      return /^ +icon: '(.+)',$/m.exec(definition!)?.[1] ?? [];
    });
    named.toSorted().should.deepEqual(icons);
    for (const icon of icons) {
      const { status, type, text } = await get(`/icons/${NAME}/${icon}`);
      status.should.equal(200);
      should(type).match(/^image\/svg/);
      const [, width, height] = /<svg[^>]* viewBox="0 0 (\d+) (\d+)"/.exec(text)!.map(Number);
      (width! / height!).should.equal(2 / 3, icon);
      text.should.not.match(/<(?!\/?svg|path)/);
      for (const [path] of text.matchAll(/<path[^>]*>/g)) {
        // What names no colour would be black.
        const colours = [...path.matchAll(/ (?:fill|stroke)="([^"]*)"/g)].map(([, colour]) => colour!);
        path.should.match(/ fill="/);
        colours.should.containEql('#fff').and.matchEach(/^(#fff|none)$/);
      }
    }
  });

  it('offers its examples, which import', async () => {
    const library = `/library/examples/flows/${NAME}`;
    const offered: (string | { fn: string })[] = await getJson(`${library}/`);
    const systems: { fn: string }[] = await getJson(`${library}/Systems/`);
    const names = [
      ...offered.flatMap((one) => (typeof one === 'string' ? [] : [one.fn])),
      ...systems.map(({ fn }) => `Systems/${fn}`),
    ];
    names.map((fn) => `${fn}.json`).should.deepEqual([...exampleFiles(), ...exampleFiles('Systems')]);
    const [port, own] = [await freePort(), await freePort()];
    for (const fn of names) {
      const flow: NodeConfig[] = await getJson(`${library}/${encodeURI(fn)}`);
      const types = new Set(flow.map(({ type }) => type));
      types.has('comment').should.be.true(`${fn} has no comment`);
      flow.some((node) => 'credentials' in node).should.be.false(`${fn} holds credentials`);
      const nodes = flow.map((node) =>
        node.type === 'amqp-endpoint' ? { ...node, port: node['role'] === 'listen' ? own : port } : node,
      );
      const { status } = await fetch(`${url}/flows`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify(nodes),
      });
      status.should.equal(204, fn);
      (await getJson('/flows')).should.have.length(flow.length);
    }
    log.should.not.match(/missing types|\[error\]/i);
  });

  it('has an example of each node', () => {
    const types = new Set(
      exampleFiles()
        .flatMap(readExample)
        .map(({ type }) => type),
    );
    for (const type of TYPES) types.has(type).should.be.true(type);
  });
});

function list(folder: string, prefix = ''): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => prefix + entry.name)
    .toSorted();
}
