// What the flows for both kinds of ActiveMQ have: two workers, which share the groups of jobs.
import should from 'should';
import { allShown, isConnected, press } from '../example';
import { payloadsOf } from '../flow';

/** An order for what is compared, by its text. */
export const byText = (one: unknown, other: unknown): number => String(one).localeCompare(String(other));

/** Has two groups of three jobs sent by this inject node. Each comes to one worker, in order. */
export async function shareGroups(button: string): Promise<void> {
  const workers = ['A', 'B'];
  await Promise.all(workers.map((name) => isConnected('amqp-receiver', `worker ${name}`)));
  const done = workers.map((name) => allShown(`done by ${name}`, 3));
  press(button);
  const both = (await Promise.all(done)).map(payloadsOf);
  const groups = ['blue', 'red'].map((colour) => [1, 2, 3].map((n) => `${colour} ${n}`));
  should(both.toSorted(byText)).deepEqual(groups);
}
