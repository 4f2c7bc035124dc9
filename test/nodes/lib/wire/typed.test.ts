import rhea, { type Typed } from 'rhea';
import should from 'should';
import { decode, encode, outgoing } from '../../../../nodes/lib/message/message';
import { coordinator, simple, SIMPLE_TYPES, typed } from '../../../../nodes/lib/wire/typed';

const { Writer } = rhea.types as unknown as { Writer: new () => { write(value: Typed): void; toBuffer(): Buffer } };

/** The value as our own decoder reads it, with its type: as the body of a message. */
function read(value: Typed | undefined): unknown {
  const writer = new Writer();
  writer.write(rhea.types.wrap_described(value, 0x77));
  return decode(writer.toBuffer(), { fields: 'exact', body: 'exact' }).body!.content;
}

const { Reader } = rhea.types as unknown as { Reader: new (bytes: Buffer) => { read(): any } };
const readBack = (bytes: Buffer) => new Reader(bytes).read();

const OF_EACH: Record<string, unknown> = {
  boolean: true,
  string: 'text',
  symbol: 'sym',
  ubyte: 255,
  ushort: 65_535,
  uint: 2 ** 32 - 1,
  ulong: 2 ** 53 - 1,
  byte: -128,
  short: -32_768,
  int: -(2 ** 31),
  long: -(2 ** 53) + 1,
  double: 1.5,
  timestamp: 1_700_000_000_000,
  binary: Buffer.of(1, 2),
};

/** As the message of a flow says it, encoded by our own encoder. */
function same(value: unknown): unknown {
  const bytes = encode(outgoing({ payload: value, amqp: { body_type: 'value' } }, { format: 'body', body: 'auto' }));
  return decode(bytes, { fields: 'exact', body: 'exact' }).body!.content;
}

describe('a value for rhea', () => {
  it('is there for each type that is offered', () => {
    should(Object.keys(OF_EACH)).eql(SIMPLE_TYPES);
    for (const [type, value] of Object.entries(OF_EACH)) {
      const notation = { $amqp: type, value };
      should(read(simple(notation))).eql(same(notation), type);
    }
  });

  it('has the type of what JavaScript has', () => {
    for (const value of ['text', true, false, 7, 2 ** 40, 0.5]) should(read(typed(value))).eql(same(value));
  });

  it('may be a list or a map of such, to any depth', () => {
    const map = { text: 'a', list: [1, 'b', [true]], deep: { number: { $amqp: 'ubyte', value: 3 } } };
    should(read(typed(map))).eql(same(map));
    should(read(typed([]))).eql([]);
    const ordered = {
      $amqp: 'map',
      value: [
        [
          { $amqp: 'symbol', value: 'key' },
          { $amqp: 'ulong', value: 1 },
        ],
        ['other', ['x']],
      ],
    };
    should(read(typed(ordered))).eql(same(ordered));
    should(read(typed({ $amqp: 'list', value: [1] }))).eql([1]);
  });

  for (const [what, value] of [
    ['undefined', undefined],
    ['null', null],
    ['a function', () => {}],
    ['a number that is none', { $amqp: 'ulong', value: NaN }],
    ['a ubyte that is too large', { $amqp: 'ubyte', value: 256 }],
    ['an int with a fraction', { $amqp: 'int', value: 1.5 }],
    ['a negative ulong', { $amqp: 'ulong', value: -1 }],
    ['a symbol that is not ASCII', { $amqp: 'symbol', value: 'ä' }],
    ['a boolean that is text', { $amqp: 'boolean', value: 'yes' }],
    ['a type that there is not', { $amqp: 'toString', value: 'x' }],
    ['a list that is none', { $amqp: 'list', value: 'x' }],
    ['a map of what are no pairs', { $amqp: 'map', value: [['key']] }],
    ['a list with what cannot be written', ['a', null]],
    ['a map with what cannot be written', { a: { b: undefined } }],
  ] as const) {
    it(`is none for ${what}`, () => {
      should(typed(value)).equal(undefined);
    });
  }

  it('is single where a list is not wanted', () => {
    should(simple([1])).equal(undefined);
    should(simple({ a: 1 })).equal(undefined);
  });
});

describe('the target of a link that controls transactions', () => {
  it('is written as the specification has it (4.5.1)', () => {
    const writer = new Writer();
    writer.write(coordinator());
    const capability = Buffer.from('amqp:local-transactions').toString('hex');
    // A described list of one field, an array of one symbol.
    should(writer.toBuffer().toString('hex')).match(new RegExp(`^005330(c0|d0).*(a3|b3).*${capability}$`));
    const { descriptor, value } = readBack(writer.toBuffer());
    should(descriptor.value).equal(0x30);
    should(value).have.length(1);
    should(value[0].value.map(String)).eql(['amqp:local-transactions']);
  });
});
