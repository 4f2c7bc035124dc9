import should from 'should';
import { AmqpError } from '../../../../nodes/lib/errors';
import { Entry, type Sent } from '../../../../nodes/lib/link/entry';

/** What is told of one that fails with this error. */
function failed(error: AmqpError, sent?: Sent): [AmqpError | undefined, Sent] {
  let told: [AmqpError | undefined, Sent];
  const entry = new Entry(Buffer.alloc(0), (...ended) => (told = ended), { address: 'q' });
  entry.fail(error, sent);
  return told!;
}

describe('an entry', () => {
  it('that fails says so with the code of the error, and the words of the peer', () => {
    const error = new AmqpError('AMQP_REJECTED', 'rejected', { condition: 'c', description: 'd' });
    should(failed(error)).eql([
      error,
      { address: 'q', state: 'failed', error: { code: 'AMQP_REJECTED', condition: 'c', description: 'd' } },
    ]);
  });

  it('that fails after its outcome keeps what is known of that', () => {
    const error = new AmqpError('AMQP_RELEASED', 'released');
    const sent = { address: 'other', tag: '00', state: 'released' } as const;
    should(failed(error, sent)[1]).eql({ ...sent, error: { code: 'AMQP_RELEASED' } });
  });
});
