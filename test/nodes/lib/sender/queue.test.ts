import should from 'should';
import { Queue } from '../../../../nodes/lib/sender/queue';

describe('a queue', () => {
  const items = Array.from({ length: 6 }, (_, sequence) => ({ sequence }));
  let queue: Queue<{ sequence: number }>;

  beforeEach(() => {
    queue = new Queue();
    for (const item of items) queue.put(item);
  });

  it('gives items in the order in which they came', () => {
    should(items.map(() => queue.shift())).eql(items);
    should(queue.shift()).equal(undefined);
  });

  it('puts back where they were what was taken, in whatever order it comes back', () => {
    const [first, second, third] = [queue.shift()!, queue.shift()!, queue.shift()!];
    for (const item of [second, third, first]) queue.put(item);
    [...queue].should.eql(items);
    queue.size.should.equal(6);
    should(queue.first).equal(first);
  });

  it('forgets what is deleted, waiting or put back, and says whether it was there', () => {
    const first = queue.shift()!;
    queue.delete(first).should.equal(false);
    queue.put(first);
    queue.delete(first).should.equal(true);
    queue.delete(items[3]!).should.equal(true);
    [...queue].should.eql([1, 2, 4, 5].map((sequence) => ({ sequence })));
  });
});
