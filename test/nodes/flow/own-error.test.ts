import type { Node } from 'node-red';
import should from 'should';
import { isOwnError } from '../../../nodes/flow/own-error';

describe('an error that comes back', () => {
  const node = { id: 'me' } as Node;

  it("is a node's own when the node is its source", () => {
    should(isOwnError(node, { error: { source: { id: 'me' } } })).be.true();
    should(isOwnError(node, { error: { source: { id: 'other' } } })).be.false();
  });

  it('is none in a msg without one, or with another kind of error', () => {
    for (const msg of [{}, { error: 'text' }, { error: {} }, { error: null }, { error: { source: null } }])
      should(isOwnError(node, msg)).be.false();
  });
});
