// The texts of the nodes as users see them, in English: the test helper of Node-RED gives their keys instead.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { NodeInitializer } from 'node-red';
import helper from './node-red';

/** The level of warnings in Node-RED's log. */
export const WARN = 30;

const catalogue = JSON.parse(readFileSync(join(__dirname, '..', 'locales', 'en-US', 'amqp-endpoint.json'), 'utf8'));

/** Loaded before the nodes, gives them their texts. */
export const texts: NodeInitializer = (RED) => void Object.assign(RED, { _: translate });

export function translate(key: string, blanks: Record<string, string> = {}): string {
  const place = key.replace(/.*:/, '').split('.');
  const text: string = place.reduce((part, name) => part?.[name], catalogue) ?? `no text for ${key}`;
  return text.replace(/__(\w+?)__/g, (_, name: string) => blanks[name] ?? name);
}

/** What a node wrote to the log at this level or a worse one. */
export function logged(level: number, id = 'broker'): string[] {
  const entries = helper.log().args.map(([entry]) => entry);
  return entries.filter((entry) => entry.id === id && entry.level <= level).map(({ msg }) => String(msg));
}
