import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import should from 'should';
import { statusOf } from '../../../nodes/flow/status';
import { failure, states } from '../states';

const catalogue = join(__dirname, '../../../locales', 'en-US', 'amqp-endpoint.json');
const texts: Record<string, string> = JSON.parse(readFileSync(catalogue, 'utf8'))['amqp-endpoint'].status;

describe('a status', () => {
  it('has a text for each state, with all its blanks filled', () => {
    for (const state of states) {
      const { key, options, args = { options } } = statusOf(state);
      should(texts).have.property(key);
      const blanks = [...texts[key]!.matchAll(/__(\w+?)__/g)].map(([, name]) => name);
      should(args).have.properties(blanks);
    }
  });

  it('is red when something failed, yellow on the way, green only when connected', () => {
    const looks = Object.fromEntries(states.map((state) => [state.name, statusOf(state)]));
    for (const name of ['auth', 'disconnected', 'refused']) should(looks[name]).match({ fill: 'red', shape: 'ring' });
    should(looks['connecting']).match({ fill: 'yellow', shape: 'ring' });
    for (const name of ['waiting', 'buffering', 'paused']) should(looks[name]).match({ fill: 'yellow', shape: 'dot' });
    should(looks['ignored']).match({ fill: 'yellow', shape: 'ring' });
    should(looks['connected']).match({ fill: 'green', shape: 'dot' });
    should(states.filter((state) => statusOf(state).fill === 'green')).have.length(1);
  });

  it('counts what waits, and gives the reason of a failure', () => {
    should(statusOf({ name: 'buffering', count: 7, percent: 1 }).args).deepEqual({ n: 7, percent: 1 });
    should(statusOf({ name: 'refused', error: failure('amqp:not-found') }).args).deepEqual({
      reason: 'amqp:not-found',
    });
  });

  it('shows the address that the peer has made', () => {
    should(statusOf({ name: 'connected', address: 'amq.gen-1' }).text).equal('amq.gen-1');
  });
});
