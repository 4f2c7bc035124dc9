import should from 'should';
import { randomId } from '../../../nodes/lib/random-id';

describe('randomId', () => {
  it('gives 128 bits in hexadecimal, and never the same ones', () => {
    const ids = new Set(Array.from({ length: 1000 }, randomId));
    should(ids.size).equal(1000);
    for (const id of ids) should(id).match(/^[\da-f]{32}$/);
  });

  it('leaves no digit the same in all ids', () => {
    const ids = Array.from({ length: 1000 }, randomId);
    for (let place = 0; place < 32; place++) should(new Set(ids.map((id) => id[place])).size).equal(16);
  });
});
