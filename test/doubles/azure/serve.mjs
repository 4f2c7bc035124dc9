// What a client for JavaScript is driven by: reads requests from stdin, one JSON value a line ([operation, parameters...]), and
// answers each with a line. serve.py does the same for Python.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import path from 'node:path';

/** Gives a package of the folder that the process is started with. */
export const load = createRequire(path.join(process.argv[2], 'package.json'));

/** What an error is called, and what it says. */
export function failureOf(thrown) {
  // some operations tell all that went wrong at each attempt
  if (thrown.errors?.length > 0) return failureOf(thrown.errors.at(-1));
  return { error: thrown.code ?? thrown.name, message: thrown.message };
}

export async function serve(operations) {
  const lines = createInterface({ input: process.stdin });
  // a request may wait for what does not come, and a client may leave timers behind
  lines.once('close', () => process.exit());
  for await (const line of lines) {
    const [name, ...parameters] = JSON.parse(line);
    let answer;
    try {
      answer = { result: (await operations[name](...parameters)) ?? null };
    } catch (thrown) {
      answer = failureOf(thrown);
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
}
