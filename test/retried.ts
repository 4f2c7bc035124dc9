// Root hooks for suites that need other programs, and so are tried twice: what passed at the second try is named, with what was
// wrong at the first one, and CI repeats that at its end. It is to be looked into.
import type { Context, RootHookObject } from 'mocha';

type Retried = Mocha.Test & { currentRetry(): number };

/** What was wrong at the first try, by the title of the test: mocha keeps it to itself. */
const wrong = new Map<string, string>();
const watched = new WeakSet<object>();

export const mochaHooks: RootHookObject = {
  beforeEach(this: Context) {
    const test = this.currentTest as Retried;
    const { fn } = test;
    // A clone of the test has the function that is watched.
    if (!fn || fn.length > 0 || watched.has(fn)) return;
    test.fn = async function (this: Context) {
      try {
        await (fn as Mocha.AsyncFunc).call(this);
      } catch (error) {
        wrong.set(test.fullTitle(), (error as Error).message);
        throw error;
      }
    };
    watched.add(test.fn);
  },
  afterEach(this: Context) {
    const test = this.currentTest as Retried | undefined;
    if (test?.state !== 'passed' || test.currentRetry() === 0) return;
    const title = test.fullTitle();
    const reason = (wrong.get(title) ?? 'it took too long, or a hook failed').replaceAll(/\s+/g, ' ');
    console.log(`second try: ${title} (${reason.slice(0, 500)})`);
  },
};
