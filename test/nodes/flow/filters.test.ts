import should from 'should';
import { filterOf } from '../../../nodes/flow/filters';

const row = (filter: string, value?: unknown) => filterOf({ filter, value });
const other = (value: unknown, type?: string, more: object = {}) =>
  filterOf({ filter: 'other', name: 'mine', value, type, ...more });

describe('a filter of the form', () => {
  describe('that is offered by name', () => {
    it('keeps away what the same connection has sent', () => {
      should(row('no-local')).eql({ name: 'no-local', descriptor: 0x468c00000003, value: [] });
    });

    for (const [text, value] of [
      ['first', 'first'],
      [' last ', 'last'],
      ['next', 'next'],
      ['10m', '10m'],
      ['7D', '7D'],
      ['4711', { $amqp: 'ulong', value: 4711 }],
      ['2026-11-27T12:00:00Z', { $amqp: 'timestamp', value: Date.UTC(2026, 10, 27, 12) }],
    ] as const) {
      it(`begins in a stream at ${text}`, () => {
        const name = 'rabbitmq:stream-offset-spec';
        should(row('stream-offset', text)).eql({ name, descriptor: name, value });
      });
    }

    it('takes the values of a stream that are named, and messages without one', () => {
      should(row('stream-filter', 'a, b ,,c').value).eql(['a', 'b', 'c']);
      should(row('stream-unfiltered')).match({ name: 'rabbitmq:stream-match-unfiltered', value: true });
    });

    it('compares properties, by the names that AMQP or a msg has for them', () => {
      should(row('properties', '{"group_id": "g", "subject": "&p:a"}')).eql({
        name: 'properties-filter',
        descriptor: 'amqp:properties-filter',
        value: {
          $amqp: 'map',
          value: [
            [{ $amqp: 'symbol', value: 'group-id' }, 'g'],
            [{ $amqp: 'symbol', value: 'subject' }, '&p:a'],
          ],
        },
      });
    });

    it('compares application properties, with values of any type', () => {
      const text = '{"room_no": 7, "size": {"$amqp": "ulong", "value": 5}}';
      should(row('application-properties', text)).eql({
        name: 'application-properties-filter',
        descriptor: 'amqp:application-properties-filter',
        value: {
          $amqp: 'map',
          value: [
            ['room_no', 7],
            ['size', { $amqp: 'ulong', value: 5 }],
          ],
        },
      });
    });

    it('is an expression of SQL, or on annotations', () => {
      should(row('sql', "a = 'b'")).eql({ name: 'sql-filter', descriptor: 'amqp:sql-filter', value: "a = 'b'" });
      should(row('annotations', 'x > 1')).match({ name: 'apache.org:selector-filter:string', value: 'x > 1' });
    });

    it("is one of Strimzi's bridge to Kafka, plain", () => {
      should(row('kafka-partition', '0')).eql({
        name: 'io.strimzi:partition-filter:int',
        value: { $amqp: 'int', value: 0 },
      });
      should(row('kafka-offset', 12)).match({ value: { $amqp: 'long', value: 12 } });
    });
  });

  describe('that is another one', () => {
    it('has the name, descriptor and type that are given', () => {
      should(other('x')).eql({ name: 'mine', value: { $amqp: 'string', value: 'x' } });
      should(other('x', 'symbol', { descriptor: 'app:mine' })).eql({
        name: 'mine',
        descriptor: 'app:mine',
        value: { $amqp: 'symbol', value: 'x' },
      });
      should(other('7', 'ubyte', { descriptor: '0x468C00000004' }).descriptor).equal(0x468c00000004);
      should(other('7', 'ubyte', { descriptor: '12' }).descriptor).equal(12);
    });

    for (const [text, type, value] of [
      ['true', 'boolean', true],
      ['false', 'boolean', false],
      ['-3', 'int', { $amqp: 'int', value: -3 }],
      ['1.5', 'double', { $amqp: 'double', value: 1.5 }],
      ['1700000000000', 'timestamp', { $amqp: 'timestamp', value: 1_700_000_000_000 }],
      ['{"a": [1]}', 'json', { a: [1] }],
    ] as const) {
      it(`has a value of ${type}`, () => {
        should(other(text, type).value).eql(value);
      });
    }
  });

  for (const [what, wrong, why] of [
    ['is no row', 'text', /not known/],
    ['is of no kind', { value: 'x' }, /not known/],
    ['is of an unknown kind', { filter: 'stream', value: 'x' }, /not known/],
    ['is of a kind that objects have', { filter: 'constructor', value: 'x' }, /not known/],
    ['is of a kind that is a list', { filter: ['sql'], value: 'x' }, /not known/],
    ['has no value', { filter: 'sql', value: '  ' }, /no value/],
    ['has no offset', { filter: 'stream-offset', value: 'middle' }, /no time/],
    ['has an offset beyond what numbers hold', { filter: 'stream-offset', value: '99999999999999999999' }, /cannot be/],
    ['has no whole number', { filter: 'kafka-partition', value: '1.5' }, /no whole number/],
    ['has a number that is too large', { filter: 'kafka-partition', value: '9999999999' }, /cannot be sent/],
    ['has no JSON', { filter: 'properties', value: '{' }, /no valid JSON/],
    ['has JSON that is no object', { filter: 'application-properties', value: '[1]' }, /no JSON object/],
    ['has no name', { filter: 'other', value: 'x' }, /no name/],
    ['has a name that is not ASCII', { filter: 'other', name: 'ä', value: 'x' }, /cannot be sent/],
    ['has a descriptor that is no code', { filter: 'other', name: 'a', descriptor: '9'.repeat(20) }, /no code/],
    ['has an unknown type', { filter: 'other', name: 'a', type: 'text', value: 'x' }, /type that is not known/],
    ['has bytes', { filter: 'other', name: 'a', type: 'binary', value: 'x' }, /type that is not known/],
    ['has a number that is none', { filter: 'other', name: 'a', type: 'int', value: 'x' }, /cannot be sent/],
    ['has a number that is blank', { filter: 'other', name: 'a', type: 'int', value: '' }, /cannot be sent/],
    [
      'has a boolean that is none',
      { filter: 'other', name: 'a', type: 'boolean', value: 'yes' },
      /neither true nor false/,
    ],
    ['has null in its JSON', { filter: 'other', name: 'a', type: 'json', value: '[null]' }, /cannot be sent/],
  ] as const) {
    it(`is refused when it ${what}`, () => {
      should(() => filterOf(wrong)).throw(why);
    });
  }

  it('is never repeated when it is refused: it may be a secret in the wrong field', () => {
    for (const secret of [
      { filter: 's3cret', value: 's3cret' },
      { filter: 'stream-offset', value: 's3cret' },
      { filter: 'kafka-offset', value: 's3cret' },
      { filter: 'properties', value: 's3cret' },
      { filter: 'other', name: 'a', type: 's3cret', value: 's3cret' },
      { filter: 'other', name: 'a', type: 'timestamp', value: 's3cret' },
    ])
      should(() => filterOf(secret)).throw(/^(?!.*s3cret)/);
  });
});
