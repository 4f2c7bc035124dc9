// Compiles nodes/ and lays forms, icons and locales beside the js, where Node-RED's loader looks for them.
import { spawnSync } from 'node:child_process';
import { cpSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { formOf } from './form.mjs';

process.chdir(join(import.meta.dirname, '..'));
rmSync('dist', { recursive: true, force: true });

const typescript = dirname(createRequire(import.meta.url).resolve('typescript/package.json'));
const compiled = spawnSync(process.execPath, [join(typescript, 'bin', 'tsc'), '-p', 'nodes'], { stdio: 'inherit' });
if (compiled.status !== 0) process.exit(compiled.status ?? 1);

for (const file of readdirSync('nodes')) {
  if (file.endsWith('.html')) writeFileSync(join('dist', file), formOf(basename(file, '.html')));
}
for (const folder of ['icons', 'locales']) cpSync(folder, join('dist', folder), { recursive: true });
