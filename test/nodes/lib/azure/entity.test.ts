import should from 'should';
import { deadLetter, sequenceNumbersOf } from '../../../../nodes/lib/azure/entity';

describe('sequence numbers', () => {
  it('are one or several, as numbers, as text, or as they stand in a message', () => {
    for (const [given, numbers] of [
      [1, [1]],
      ['9007199254740993', ['9007199254740993']],
      [{ $amqp: 'long', value: 7 }, [7]],
      [
        [1, '2', { $amqp: 'long', value: '72057594037927937' }],
        [1, '2', '72057594037927937'],
      ],
    ])
      should(sequenceNumbersOf(given, 'msg.sequenceNumber')).deepEqual(numbers);
  });

  it('are nothing else, which names where they were looked for', () => {
    for (const given of [undefined, null, '', 'x', -1, 1.5, NaN, 2 ** 60, [], [[1]], {}, true])
      should(() => sequenceNumbersOf(given, 'msg.sequenceNumber')).throw({
        code: 'AMQP_BAD_INPUT',
        message: /^msg\.sequenceNumber/,
      });
  });
});

describe('the reason of a dead letter', () => {
  it('is what the error of the flow says', () => {
    should(deadLetter({ condition: 'bad', description: 'no degrees', info: { sensor: 3 } })).deepEqual({
      condition: 'com.microsoft:dead-letter',
      description: 'no degrees',
      info: { DeadLetterReason: 'bad', DeadLetterErrorDescription: 'no degrees', sensor: 3 },
    });
  });

  it('is in words where the flow has no condition', () => {
    const { info } = deadLetter({ condition: 'amqp:internal-error', description: 'odd' });
    should(info).deepEqual({ DeadLetterReason: 'the flow failed', DeadLetterErrorDescription: 'odd' });
  });

  it('is left as it is where the flow gives it in the words of the service', () => {
    const info = { DeadLetterReason: 'bad' };
    const error = { condition: 'com.microsoft:dead-letter', description: undefined, info };
    should(deadLetter(error)).deepEqual(error);
  });
});
