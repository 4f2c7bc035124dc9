import should from 'should';
import type { AmqpFields } from '../../../../nodes/lib/message/fields';
import { Attempts } from '../../../../nodes/lib/receiver/attempts';

const message = (fields: AmqpFields) => ({ fields, body: undefined });

describe('attempts', () => {
  it('are one more than the failed ones that the peer has counted', () => {
    const attempts = new Attempts();
    should(attempts.next(message({}))).equal(1);
    should(attempts.next(message({ delivery_count: 0 }))).equal(1);
    should(attempts.next(message({ delivery_count: 4 }))).equal(5);
    should(attempts.next(message({ delivery_count: 4 }))).equal(5);
  });

  it('are counted by the id of the message where the peer counts none', () => {
    const attempts = new Attempts();
    for (const count of [1, 2, 3]) should(attempts.next(message({ message_id: 'a' }))).equal(count);
    should(attempts.next(message({ message_id: 'b' }))).equal(1);
  });

  it('are the larger of both counts', () => {
    const attempts = new Attempts();
    should(attempts.next(message({ message_id: 'a', delivery_count: 6 }))).equal(7);
    should(attempts.next(message({ message_id: 'a' }))).equal(8);
  });

  it('are told apart by ids of every type', () => {
    const attempts = new Attempts();
    const ids = ['1', 1, { $amqp: 'ulong', value: 1n }, { $amqp: 'uuid', value: 'x' }, { $amqp: 'binary', value: 'x' }];
    for (const id of ids) should(attempts.next(message({ message_id: id }))).equal(1);
    for (const id of ids.slice(2)) should(attempts.next(message({ message_id: id }))).equal(2);
  });

  it('begin anew for a message that was done with', () => {
    const attempts = new Attempts();
    attempts.next(message({ message_id: 'a' }));
    attempts.forget(message({ message_id: 'a' }));
    attempts.forget(message({}));
    should(attempts.next(message({ message_id: 'a' }))).equal(1);
  });

  it('are remembered of the last 10,000 messages that came', () => {
    const attempts = new Attempts();
    attempts.next(message({ message_id: 'first' }));
    attempts.next(message({ message_id: 'second' }));
    for (let id = 0; id < 9998; id++) attempts.next(message({ message_id: `other ${id}` }));
    should(attempts.next(message({ message_id: 'first' }))).equal(2);
    attempts.next(message({ message_id: 'one too many' }));
    should(attempts.next(message({ message_id: 'first' }))).equal(3);
    should(attempts.next(message({ message_id: 'second' }))).equal(1);
  });
});
