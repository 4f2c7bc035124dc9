import should from 'should';
import { AmqpError, guarded, messageOf, nameOf } from '../../../nodes/lib/errors';

describe('AmqpError', () => {
  it('says what went wrong in our words and in those of the peer', () => {
    const peer = { condition: 'amqp:not-found', description: 'no node q', info: { hint: 'declare it' } };
    const error = new AmqpError('AMQP_LINK_REFUSED', 'the peer detached the link', peer);
    should(error)
      .be.an.Error()
      .and.match({ code: 'AMQP_LINK_REFUSED', name: 'AmqpError', ...peer });
    should(error.message).equal('the peer detached the link (amqp:not-found: no node q)');
  });

  it('has no empty places where the peer said nothing', () => {
    for (const peer of [undefined, null, {}, { condition: undefined, description: '', info: null }]) {
      const error = new AmqpError('AMQP_TIMEOUT', 'no answer', peer);
      should(error.message).equal('no answer');
      should(JSON.parse(JSON.stringify(error))).deepEqual({ code: 'AMQP_TIMEOUT', name: 'AmqpError' });
      should(error).not.have.property('cause');
    }
  });

  it('makes one line of what a peer says, and a short one', () => {
    const peer = { condition: 'amqp:\u001b[31mred', description: `one\r\ntwo\u2028three\u202e${'x'.repeat(60_000)}` };
    const { condition, description, message } = new AmqpError('AMQP_REJECTED', 'rejected', peer);
    should(condition).equal('amqp: [31mred');
    should(description).startWith('one two three x').and.have.length(500);
    should(message).have.length('rejected (): '.length + condition!.length + 500);
  });

  it('makes one line of what came over the network into its own text, and a short one', () => {
    const { message } = new AmqpError('AMQP_CONNECT', `cannot connect:\r\n\u001b[31m${'x'.repeat(60_000)}`);
    should(message).startWith('cannot connect: [31mx').and.have.length(1000);
  });

  it('passes the cause on, which is what the peer said if there is no other', () => {
    const cause = new Error('connect ECONNREFUSED');
    should(new AmqpError('AMQP_CONNECT', 'cannot connect', null, cause).cause).equal(cause);
    for (const said of [
      { condition: 'amqp:not-found' },
      { description: 'no node q' },
      { condition: 'amqp:not-found', description: 'no node q' },
    ]) {
      should(new AmqpError('AMQP_REJECTED', 'rejected', { ...said, info: { hint: 'x' } }).cause).deepEqual(said);
      should(new AmqpError('AMQP_REJECTED', 'rejected', said, cause).cause).equal(cause);
    }
  });
});

describe('a value of a flow', () => {
  it('has a name, whatever it is', () => {
    const untext = { toString: null, valueOf: null };
    should(['x', 5, 5n, true, null, undefined].map((value) => nameOf(value))).eql([
      'x',
      '5',
      '5',
      'true',
      'null',
      'undefined',
    ]);
    should([untext, Symbol('x'), () => {}, []].map((value) => nameOf(value))).eql([
      'of type object',
      'of type symbol',
      'of type function',
      'of type object',
    ]);
    should(nameOf('x'.repeat(60_000))).have.length(500);
  });

  it('that is thrown says why, whatever it is', () => {
    should([new Error('why'), { message: 'why' }, 'why'].map((error) => messageOf(error))).eql(['why', 'why', 'why']);
    should([null, { message: 5 }, Symbol('x')].map((error) => messageOf(error))).eql([
      'null',
      'of type object',
      'of type symbol',
    ]);
  });
});

describe('a callback that is guarded', () => {
  it('is called with what it is given, and tells what it throws (R11)', () => {
    const seen: unknown[] = [];
    const fault = new Error('thrown');
    const callback = guarded(
      (...args: unknown[]) => {
        seen.push(args);
        if (args.length === 0) throw fault;
      },
      (error) => seen.push(error),
    );
    callback(1, 'two');
    callback();
    should(seen).eql([[1, 'two'], [], fault]);
  });
});
