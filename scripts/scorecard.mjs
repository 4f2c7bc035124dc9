// What npm and Node-RED's flow library make of the package: packs it, and has publint and node-red-dev, whose scorecard the
// library shows, look at that. Fails when a check of theirs does. The npm registry is all that is needed: catalogue.cjs stands in
// for the library's catalogue.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';

const PUBLINT = 'publint@0.3.25';
const NODE_RED_DEV = 'node-red-dev@0.1.6';
// P02 is switched off in node-red-dev.
const CHECKS = ['P01', 'P03', 'P04', 'P05', 'P06', 'P07', 'P08', 'N01', 'N02', 'D01', 'D02'];
// D03, that each dependency takes the newest version there is, is only told: somebody else's release would fail an unchanged project.
const TOLD = /warning: D03/i;

const project = join(import.meta.dirname, '..');
// Not dependencies of ours: one of them has some 300 of its own, most of them old.
const tools = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'node-red-amqp10', 'scorecard');
const folder = mkdtempSync(join(tmpdir(), 'scorecard-'));
const unpacked = join(folder, 'package');
const report = join(folder, 'report.json');
const wrong = [];

/** Runs a tool, and shows what it says; answers that, and whether it ended well. */
function run(...command) {
  const { status, stdout, stderr } = spawnSync(process.execPath, command, { encoding: 'utf8' });
  process.stdout.write(stdout + stderr);
  return { said: stdout + stderr, isWell: status === 0 };
}

try {
  mkdirSync(tools, { recursive: true });
  const install = ['install', '--prefix', tools, '--ignore-scripts', '--no-audit', '--no-fund', PUBLINT, NODE_RED_DEV];
  execFileSync('npm', install, { stdio: ['ignore', 'ignore', 'inherit'] });
  const packed = execFileSync('npm', ['pack', '--silent', '--pack-destination', folder], { cwd: project });
  const tarball = join(folder, packed.toString().trim().split('\n').at(-1));
  execFileSync('tar', ['-xzf', tarball, '-C', folder]);

  const bin = (name, path) => join(tools, 'node_modules', name, path);
  if (!run(bin('publint', 'src/cli.js'), '--strict', tarball).isWell) wrong.push('publint');

  const catalogue = ['--require', join(import.meta.dirname, 'catalogue.cjs')];
  const validate = [bin('node-red-dev', 'bin/run'), 'validate', '--path', unpacked, '--output', report];
  const { said, isWell } = run(...catalogue, ...validate);
  const results = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : {};
  wrong.push(...CHECKS.filter((check) => results[check]?.test !== true));
  // P05 always passes, but warns; nodes that cannot be read count as unique and as shown in examples.
  const warnings = said.split('\n').filter((line) => /warning|unable to parse/i.test(line) && !TOLD.test(line));
  if (!isWell || warnings.length > 0) wrong.push('a warning');
  const types = Object.keys(JSON.parse(readFileSync(join(unpacked, 'package.json'), 'utf8'))['node-red'].nodes);
  const read = results.N02?.nodes ?? [];
  // All but the configuration node.
  if (read.length !== types.length - 1) wrong.push('nodes that cannot be read');
} finally {
  rmSync(folder, { recursive: true, force: true });
}
console.log(
  wrong.length ? `\nScorecard: wrong are ${wrong.join(', ')}` : `\nScorecard: ${CHECKS.join(', ')} and publint pass`,
);
process.exitCode = wrong.length ? 1 : 0;
