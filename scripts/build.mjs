// Compiles nodes/ and lays forms, icons and locales beside the js, where Node-RED's loader looks for them. Each file in dist is
// replaced at once, so that a Node-RED that is starting from it, or another build, never finds it half made.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { formOf } from './form.mjs';

process.chdir(join(import.meta.dirname, '..'));
// On the same disk, so that a file can be renamed into its place.
const made = mkdtempSync('.build-');
process.on('exit', () => rmSync(made, { recursive: true, force: true }));

const typescript = dirname(createRequire(import.meta.url).resolve('typescript/package.json'));
const compiled = spawnSync(process.execPath, [join(typescript, 'bin', 'tsc'), '-p', 'nodes', '--outDir', made], {
  stdio: 'inherit',
});
if (compiled.status !== 0) process.exit(compiled.status ?? 1);

for (const file of readdirSync('nodes')) {
  if (file.endsWith('.html')) writeFileSync(join(made, file), formOf(basename(file, '.html')));
}
for (const folder of ['icons', 'locales']) cpSync(folder, join(made, folder), { recursive: true });

const filesIn = (folder) =>
  readdirSync(folder, { recursive: true }).filter((file) => statSync(join(folder, file)).isFile());
const files = filesIn(made);
for (const file of files) {
  mkdirSync(dirname(join('dist', file)), { recursive: true });
  renameSync(join(made, file), join('dist', file));
}
for (const file of filesIn('dist')) if (!files.includes(file)) rmSync(join('dist', file), { force: true });
