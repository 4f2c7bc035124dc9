import should from 'should';
import { parseJson, writeJson } from '../../../../nodes/lib/message/json';

const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth);
function value(depth: number): unknown {
  let inner: unknown[] = [];
  for (let level = 1; level < depth; level++) inner = [inner];
  return inner;
}

describe('JSON', () => {
  it('is written and read as it is', () => {
    for (const one of [null, 1, 'a "b" \\ {[,', { a: [1, { b: 'ü' }] }, [], nested(100)]) {
      should(parseJson(writeJson(one, 'msg.payload'), 'the body')).eql(one);
    }
  });

  it('is written of nothing as null', () => {
    should(writeJson(undefined, 'msg.payload').toString()).equal('null');
  });

  it('may be nested as deeply as AMQP values, in both directions', () => {
    const bytes = writeJson(value(128), 'msg.payload');
    should(bytes.toString()).equal(nested(128));
    should(parseJson(bytes, 'the body')).eql(value(128));
    should(() => writeJson(value(129), 'msg.payload')).throw({
      code: 'AMQP_BAD_MESSAGE',
      message: 'msg.payload cannot be written as JSON: it is nested deeper than 128',
    });
    for (const depth of [129, 20_000]) {
      should(() => parseJson(Buffer.from(nested(depth)), 'the body')).throw({
        code: 'AMQP_DECODE',
        message: 'the body is JSON that is not taken: it is nested deeper than 128',
      });
    }
  });

  it('takes no bracket in a text for nesting', () => {
    const text = JSON.stringify(['[{'.repeat(200), '\\"'.repeat(200), '"['.repeat(200)]);
    should(parseJson(Buffer.from(text), 'the body')).eql(JSON.parse(text));
  });

  it('is refused when a few bytes stand for too much memory', () => {
    for (const [element, count] of [
      ['{}', 1_000_000],
      ['""', 1_500_000],
    ] as const) {
      const text = `[${`${element},`.repeat(count)}0]`;
      should(() => parseJson(Buffer.from(text), 'the body')).throw({ code: 'AMQP_DECODE', message: /too many values/ });
    }
    should(parseJson(Buffer.from(`["${'x'.repeat(20_000_000)}"]`), 'the body')).have.length(1);
  });

  it('tells what is wrong', () => {
    should(() => parseJson(Buffer.from('{"a"'), 'the event')).throw({
      code: 'AMQP_DECODE',
      message: /^the event is not JSON: /,
    });
    should(() => writeJson(1n, 'msg.payload')).throw({ code: 'AMQP_BAD_MESSAGE', message: /^msg\.payload cannot be/ });
    should(() => writeJson(Symbol('x'), 'msg.payload')).throw({ code: 'AMQP_BAD_MESSAGE', message: /is a symbol/ });
  });
});
