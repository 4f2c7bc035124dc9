import should from 'should';
import { isFull } from '../../../nodes/lib/bounds';

describe('the bounds of a buffer', () => {
  const bounds = { buffer: 3, bufferBytes: 100 };

  it('are those of number and bytes, whichever comes first', () => {
    should(isFull(bounds, 2, 10, 90)).be.false();
    should(isFull(bounds, 2, 10, 91)).be.true();
    should(isFull(bounds, 3, 3, 1)).be.true();
  });

  it('let one message in, however large it is', () => {
    should(isFull(bounds, 0, 0, 1000)).be.false();
    should(isFull(bounds, 1, 1000, 1)).be.true();
  });
});
