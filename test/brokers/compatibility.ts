// The tables in docs/compatibility.md of what works with which broker: made of what the suite has just seen.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';
import { type Feature, features, refusals } from './features';

/** What came of each feature on each peer; without an entry there was nothing to try. */
export type Results = Map<string, Map<Feature, string>>;

const PAGE = join(__dirname, '..', '..', 'docs', 'compatibility.md');
const [BEGIN, END] = ['<!-- compatibility: made by the interop suite -->', '<!-- /compatibility -->'];

/** The part of the page that these results make. */
export function tables(results: Results): string {
  const notes: string[] = [];
  const noteOf = (text: string): string => {
    if (!notes.includes(text)) notes.push(text);
    return `(${notes.indexOf(text) + 1})`;
  };
  const outcome = (verdict = '–'): string => (verdict === 'works' ? '✓' : verdict === '–' ? verdict : noteOf(verdict));
  const words = (said = '–'): string => {
    if (said === 'taken') return 'takes it';
    if (/ECONNRESET|the peer is gone/.test(said)) return 'drops the connection';
    return /amqp:[\w:-]*\w/.exec(said)?.[0] ?? /AMQP_\w+/.exec(said)?.[0] ?? outcome(said);
  };
  const works = table('Feature', Object.values(features), results, outcome);
  const refused = table('What is refused', Object.values(refusals), results, words);
  const list = notes.map((text, i) => `(${i + 1}) ${text}`).join(' · ');
  return [BEGIN, works, list, refused, END].join('\n\n');
}

function table(head: string, rows: Feature[], results: Results, cell: (verdict?: string) => string): string {
  const lines = [
    [head, ...results.keys()],
    ['---', ...[...results.keys()].map(() => '---')],
    ...rows.map((row) => [row.title, ...[...results.values()].map((verdicts) => cell(verdicts.get(row)))]),
  ];
  return lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** The same part as the page has it. */
export function published(): string {
  const text = readFileSync(PAGE, 'utf8');
  return text.slice(text.indexOf(BEGIN), text.indexOf(END) + END.length);
}

/** Puts it into the page. */
export async function publish(part: string): Promise<void> {
  const text = readFileSync(PAGE, 'utf8').replace(published(), () => part);
  writeFileSync(PAGE, await format(text, { ...(await resolveConfig(PAGE)), filepath: PAGE }));
}

/** Without what formatting adds. */
export function bare(part: string): string {
  return part.replaceAll(/ +/g, ' ').replaceAll(/-{3,}/g, '---');
}
