// Settings of a Node-RED that NodeRedProcess starts: it writes its reports, a line each, to a descriptor of its own.
import type { EventEmitter } from 'node:events';
import { writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { observe } from './reports';

const REPORTS = 3;

const { dir, feed, settings, printsStatuses } = JSON.parse(process.env['FAULTS']!);

// At once, so that what is reported stays so when the process is killed right behind.
observe(dir, (...report) => void writeSync(REPORTS, `${JSON.stringify(report)}\n`), feed);

if (printsStatuses) {
  const { events } = createRequire(join(dir, 'package.json'))('@node-red/util') as { events: EventEmitter };
  events.on('node-status', ({ id, status }) => console.log(`<${id}> shows <${status.text}>`));
}

module.exports = {
  ...require('../../scripts/node-red-settings.cjs'),
  // No server, and of the palette only what the flows of these tests need: it starts faster so.
  httpAdminRoot: false,
  httpNodeRoot: false,
  nodesExcludes: ['exec.js', 'httprequest.js'],
  ...settings,
};
