import should from 'should';
import { AmqpError } from '../../../nodes/lib/errors';
import { isSame, reasonOf, worstOf } from '../../../nodes/lib/state';
import { failure, states } from '../states';

describe('a state', () => {
  it('of several links is that of the worst', () => {
    for (const [rank, state] of states.entries()) {
      for (const better of states.slice(rank)) {
        should(worstOf(state, better)).equal(state);
        should(worstOf(better, state)).equal(state);
      }
    }
  });

  it('is the same as long as there is nothing new to tell', () => {
    should(isSame({ name: 'connected' }, { name: 'connected' })).equal(true);
    should(isSame({ name: 'connected' }, { name: 'connected', address: 'a' })).equal(false);
    should(isSame({ name: 'buffering', count: 1, percent: 1 }, { name: 'buffering', count: 2, percent: 1 })).equal(
      false,
    );
    should(isSame({ name: 'refused', error: failure() }, { name: 'refused', error: failure() })).equal(true);
    should(isSame({ name: 'refused', error: failure() }, { name: 'disconnected', error: failure() })).equal(false);
    should(isSame({ name: 'refused', error: failure('a') }, { name: 'refused', error: failure('b') })).equal(false);
    should(isSame({ name: 'auth', error: failure() }, { name: 'connecting' })).equal(false);
  });

  it('names a failure by the condition of the peer, else the code of the system, else in our words', () => {
    const system = Object.assign(new Error('connect failed'), { code: 'ECONNREFUSED' });
    should(reasonOf(new AmqpError('AMQP_CONNECT', 'text', { condition: 'amqp:not-found' }, system))).equal(
      'amqp:not-found',
    );
    should(reasonOf(new AmqpError('AMQP_CONNECT', 'text', null, system))).equal('ECONNREFUSED');
    should(reasonOf(new AmqpError('AMQP_CONNECT', 'text', null, new Error('other')))).equal('text');
    should(reasonOf(new AmqpError('AMQP_CONNECT', 'text'))).equal('text');
  });
});
