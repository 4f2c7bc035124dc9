// Compiles nodes/ and lays html, icons and locales beside the js, where Node-RED's loader looks for them.
import { spawnSync } from 'node:child_process';
import { cpSync, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

process.chdir(join(import.meta.dirname, '..'));
rmSync('dist', { recursive: true, force: true });

const typescript = dirname(createRequire(import.meta.url).resolve('typescript/package.json'));
const compiled = spawnSync(process.execPath, [join(typescript, 'bin', 'tsc'), '-p', 'nodes'], { stdio: 'inherit' });
if (compiled.status !== 0) process.exit(compiled.status ?? 1);

for (const file of readdirSync('nodes')) {
  if (file.endsWith('.html')) cpSync(join('nodes', file), join('dist', file));
}
for (const folder of ['icons', 'locales']) cpSync(folder, join('dist', folder), { recursive: true });
