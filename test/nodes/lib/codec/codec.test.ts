import { createRequire } from 'node:module';
import { join } from 'node:path';
import { inspect, isDeepStrictEqual } from 'node:util';
import { runInNewContext } from 'node:vm';
import * as fc from 'fast-check';
import should from 'should';
import { Allowance, Decoder } from '../../../../nodes/lib/codec/decoder';
import { Encoder } from '../../../../nodes/lib/codec/encoder';
import { type Style } from '../../../../nodes/lib/codec/notation';
import { decimalFromBytes } from '../../../../nodes/lib/codec/decimal';
import type { AmqpError } from '../../../../nodes/lib/errors';
import { nodeRedDir } from '../../../node-red';

type Util = { util: { cloneMessage<T>(this: void, msg: T): T } };
const { cloneMessage } = (createRequire(join(nodeRedDir, 'package.json'))('@node-red/util') as Util).util;

function encode(value: unknown): Buffer {
  const encoder = new Encoder('msg.payload');
  encoder.value(value);
  return encoder.finish();
}

/** The one value that the bytes hold. */
function decode(bytes: Buffer, style: Style = 'exact'): unknown {
  const decoder = new Decoder(bytes, style);
  const value = decoder.value();
  should(decoder.done).be.true();
  return value;
}

const bytes = (hex: string) => Buffer.from(hex.replaceAll(' ', ''), 'hex');
const hexOf = (value: unknown) => encode(value).toString('hex');
const amqp = (type: string, value: unknown) => ({ $amqp: type, value });
const describedBy = (descriptor: unknown, value: unknown) => ({ $amqp: 'described', descriptor, value });
const arrayOf = (of: unknown, value: unknown[]) => ({ $amqp: 'array', of, value });
const uint = (number: number, width: number) => number.toString(16).padStart(width * 2, '0');

/** An array in its wide and its narrow encoding, of the elements' constructor and contents. */
function arrays(count: number, constructor: string, contents = ''): [wide: string, narrow: string] {
  const content = (constructor + contents).replaceAll(' ', '');
  const size = content.length / 2;
  return [
    `f0 ${uint(size + 4, 4)} ${uint(count, 4)} ${content}`,
    `e0 ${uint(size + 1, 1)} ${uint(count, 1)} ${content}`,
  ];
}

const UUID = '00112233-4455-6677-8899-aabbccddeeff';
const UUID_HEX = '00112233445566778899aabbccddeeff';
const text255 = 'x'.repeat(255);
const text256 = 'x'.repeat(256);
const hex255 = '78'.repeat(255);
const hex256 = '78'.repeat(256);
const symbol = (text: string) => amqp('symbol', text);

/** For each type: values in exact style, the bytes they are written in, and other bytes that are read as the same value. */
const ENCODINGS: Record<string, [value: unknown, written: string, ...alsoRead: string[]][]> = {
  null: [[null, '40']],
  boolean: [
    [true, '41', '5601'],
    [false, '42', '5600'],
  ],
  ubyte: [
    [amqp('ubyte', 0), '5000'],
    [amqp('ubyte', 255), '50ff'],
  ],
  ushort: [
    [amqp('ushort', 0), '600000'],
    [amqp('ushort', 258), '600102'],
    [amqp('ushort', 65535), '60ffff'],
  ],
  uint: [
    [amqp('uint', 0), '43', '5200', '7000000000'],
    [amqp('uint', 1), '5201', '7000000001'],
    [amqp('uint', 255), '52ff', '70000000ff'],
    [amqp('uint', 256), '7000000100'],
    [amqp('uint', 4294967295), '70ffffffff'],
  ],
  ulong: [
    [amqp('ulong', 0), '44', '5300', '800000000000000000'],
    [amqp('ulong', 1), '5301', '800000000000000001'],
    [amqp('ulong', 255), '53ff', '8000000000000000ff'],
    [amqp('ulong', 256), '800000000000000100'],
    [amqp('ulong', Number.MAX_SAFE_INTEGER), '80001fffffffffffff'],
    [amqp('ulong', '9007199254740992'), '800020000000000000'],
    [amqp('ulong', '9007199254740993'), '800020000000000001'],
    [amqp('ulong', '18446744073709551615'), '80ffffffffffffffff'],
  ],
  byte: [
    [amqp('byte', -128), '5180'],
    [amqp('byte', -1), '51ff'],
    [amqp('byte', 127), '517f'],
  ],
  short: [
    [amqp('short', -32768), '618000'],
    [amqp('short', -2), '61fffe'],
    [amqp('short', 32767), '617fff'],
  ],
  int: [
    [0, '5400', '7100000000'],
    [-1, '54ff', '71ffffffff'],
    [127, '547f', '710000007f'],
    [-128, '5480', '71ffffff80'],
    [128, '7100000080'],
    [-129, '71ffffff7f'],
    [2147483647, '717fffffff'],
    [-2147483648, '7180000000'],
  ],
  long: [
    [amqp('long', 0), '5500', '810000000000000000'],
    [amqp('long', -1), '55ff', '81ffffffffffffffff'],
    [amqp('long', 127), '557f', '81000000000000007f'],
    [amqp('long', -128), '5580', '81ffffffffffffff80'],
    [amqp('long', 128), '810000000000000080'],
    [amqp('long', -2147483648), '81ffffffff80000000'],
    [2147483648, '810000000080000000'],
    [-2147483649, '81ffffffff7fffffff'],
    [Number.MAX_SAFE_INTEGER, '81001fffffffffffff'],
    [Number.MIN_SAFE_INTEGER, '81ffe0000000000001'],
    [amqp('long', '9007199254740993'), '810020000000000001'],
    [amqp('long', '-9007199254740993'), '81ffdfffffffffffff'],
    [amqp('long', '9223372036854775807'), '817fffffffffffffff'],
    [amqp('long', '-9223372036854775808'), '818000000000000000'],
  ],
  float: [
    [amqp('float', 0), '7200000000'],
    [amqp('float', 1.5), '723fc00000'],
    [amqp('float', 0.10000000149011612), '723dcccccd'],
    [amqp('float', '-0'), '7280000000'],
    [amqp('float', 'NaN'), '727fc00000'],
    [amqp('float', 'Infinity'), '727f800000'],
    [amqp('float', '-Infinity'), '72ff800000'],
    [amqp('float', 3.4028234663852886e38), '727f7fffff'],
    [amqp('float', 1.401298464324817e-45), '7200000001'],
  ],
  double: [
    [1.5, '823ff8000000000000'],
    [-0.1, '82bfb999999999999a'],
    [1e300, '827e37e43c8800759c'],
    [5e-324, '820000000000000001'],
    [amqp('double', 0), '820000000000000000'],
    [amqp('double', 1), '823ff0000000000000'],
    [amqp('double', 4294967296), '8241f0000000000000'],
    [amqp('double', '-0'), '828000000000000000'],
    [amqp('double', 'NaN'), '827ff8000000000000'],
    [amqp('double', 'Infinity'), '827ff0000000000000'],
    [amqp('double', '-Infinity'), '82fff0000000000000'],
  ],
  decimal32: [
    [amqp('decimal32', '1'), '7432800001'],
    [amqp('decimal32', '-0'), '74b2800000'],
    [amqp('decimal32', '9.999999E+96'), '7477f8967f'],
    [amqp('decimal32', 'NaN'), '747c000000'],
  ],
  decimal64: [
    [amqp('decimal64', '3.14'), '84318000000000013a'],
    [amqp('decimal64', '-Infinity'), '84f800000000000000'],
  ],
  decimal128: [
    [amqp('decimal128', '-1.5'), '94b03e000000000000000000000000000f'],
    [amqp('decimal128', '0'), '9430400000000000000000000000000000'],
  ],
  char: [
    [amqp('char', '\0'), '7300000000'],
    [amqp('char', 'A'), '7300000041'],
    [amqp('char', '7'), '7300000037'],
    [amqp('char', '\n'), '730000000a'],
    [amqp('char', '€'), '73000020ac'],
    [amqp('char', '😀'), '730001f600'],
    [amqp('char', '\u{10ffff}'), '730010ffff'],
  ],
  timestamp: [
    [amqp('timestamp', 0), '830000000000000000'],
    [amqp('timestamp', 1700000000000), '830000018bcfe56800'],
    [amqp('timestamp', -1), '83ffffffffffffffff'],
    [amqp('timestamp', '9223372036854775807'), '837fffffffffffffff'],
    [amqp('timestamp', '-9223372036854775808'), '838000000000000000'],
  ],
  uuid: [[amqp('uuid', UUID), `98${UUID_HEX}`]],
  binary: [
    [Buffer.alloc(0), 'a000', 'b000000000'],
    [Buffer.from([0, 255]), 'a00200ff', 'b00000000200ff'],
    [Buffer.from(text255), `a0ff${hex255}`, `b0000000ff${hex255}`],
    [Buffer.from(text256), `b000000100${hex256}`],
  ],
  string: [
    ['', 'a100', 'b100000000'],
    ['grüße €😀', 'a10f 6772c3bcc39f6520e282ac f09f9880', 'b10000000f 6772c3bcc39f6520e282ac f09f9880'],
    [text255, `a1ff${hex255}`, `b1000000ff${hex255}`],
    [text256, `b100000100${hex256}`],
    // 254 characters, 256 bytes
    [`${'x'.repeat(252)}éé`, `b100000100${'78'.repeat(252)}c3a9c3a9`],
  ],
  symbol: [
    [symbol(''), 'a300', 'b300000000'],
    [symbol('x-opt'), 'a305782d6f7074', 'b300000005782d6f7074'],
    [symbol(text255), `a3ff${hex255}`, `b3000000ff${hex255}`],
    [symbol(text256), `b300000100${hex256}`],
  ],
  list: [
    [[], '45', 'c00100', 'd00000000400000000'],
    [[1, 'a', null], 'c007 03 5401 a10161 40', 'd00000000a 00000003 5401 a10161 40'],
    [[[[]]], 'c005 01 c002 01 45'],
    // as many elements, and as many bytes, as the narrow encoding just holds and just does not
    [Array(254).fill(null), `c0fffe${'40'.repeat(254)}`, `d00000010200 0000fe${'40'.repeat(254)}`],
    [Array(255).fill(null), `d0000001030 00000ff${'40'.repeat(255)}`],
    [['x'.repeat(252)], `c0ff01 a1fc${'78'.repeat(252)}`],
    [['x'.repeat(253)], `d00000010300000001 a1fd${'78'.repeat(253)}`],
  ],
  map: [
    [{}, 'c10100', 'd10000000400000000'],
    [
      { a: 1, b: [true] },
      'c10d 04 a10161 5401 a10162 c002 01 41',
      'd100000013 00000004 b100000001 61 5401 a10162 c002 01 41',
    ],
    [{ a: 'x'.repeat(247) }, `c1fd02 a10161 a1f7${'78'.repeat(247)}`],
    [{ a: 'x'.repeat(250) }, `d10000010300000002 a10161 a1fa${'78'.repeat(250)}`],
    // keys that are no strings
    [
      amqp('map', [
        [1, 'a'],
        [null, 'b'],
        [symbol('a'), 1],
        [[], 2],
      ]),
      'c112 08 5401 a10161 40 a10162 a30161 5401 45 5402',
    ],
    // keys that an object has in another order
    [
      amqp('map', [
        ['2', 1],
        ['1', 2],
      ]),
      'c10b 04 a10132 5401 a10131 5402',
    ],
    // what a plain object would be read as something else
    [amqp('map', [['$amqp', 'int']]), 'c10d 02 a10524616d7170 a103696e74'],
    [
      amqp('map', [
        ['type', 'Buffer'],
        ['data', [1]],
      ]),
      'c11a 04 a10474797065 a106427566666572 a10464617461 c003 01 5401',
    ],
  ],
  described: [
    [describedBy(symbol('a:b'), 'x'), '00 a303613a62 a10178', '00 b300000003613a62 b10000000178'],
    [describedBy(amqp('ulong', 0x70), []), '00 5370 45', '00 800000000000000070 c00100'],
    [describedBy(null, null), '00 40 40'],
    [describedBy(1, describedBy('b', 2)), '00 5401 00 a10162 5402'],
    [describedBy(describedBy(1, 2), 3), '00 00 5401 5402 5403'],
    [[describedBy(1, 2)], 'c006 01 00 5401 5402'],
  ],
  array: [
    [arrayOf('int', []), ...arrays(0, '71')],
    [arrayOf('null', [null, null]), ...arrays(2, '40')],
    [arrayOf('boolean', [true, false]), ...arrays(2, '56', '01 00')],
    [arrayOf('boolean', [true, true]), arrays(2, '56', '01 01')[0], ...arrays(2, '41')],
    [arrayOf('boolean', [false]), arrays(1, '56', '00')[0], ...arrays(1, '42')],
    [arrayOf('ubyte', [0, 255]), ...arrays(2, '50', '00 ff')],
    [arrayOf('ushort', [0, 65535]), ...arrays(2, '60', '0000 ffff')],
    [arrayOf('uint', [1, 255]), arrays(2, '70', '00000001 000000ff')[0], ...arrays(2, '52', '01 ff')],
    [arrayOf('uint', [0, 0]), arrays(2, '70', '00000000 00000000')[0], ...arrays(2, '43')],
    [arrayOf('ulong', [1, '18446744073709551615']), ...arrays(2, '80', '0000000000000001 ffffffffffffffff')],
    [arrayOf('ulong', [0]), arrays(1, '80', '0000000000000000')[0], ...arrays(1, '44')],
    [arrayOf('ulong', [9]), arrays(1, '80', '0000000000000009')[0], ...arrays(1, '53', '09')],
    [arrayOf('byte', [-1, 1]), ...arrays(2, '51', 'ff 01')],
    [arrayOf('short', [-1, 1]), ...arrays(2, '61', 'ffff 0001')],
    [arrayOf('int', [-1, 1]), arrays(2, '71', 'ffffffff 00000001')[0], ...arrays(2, '54', 'ff 01')],
    [arrayOf('long', [-1, 1]), arrays(2, '81', 'ffffffffffffffff 0000000000000001')[0], ...arrays(2, '55', 'ff 01')],
    [arrayOf('float', [1.5, 'NaN', '-0', '-Infinity']), ...arrays(4, '72', '3fc00000 7fc00000 80000000 ff800000')],
    [arrayOf('double', [1, 'Infinity']), ...arrays(2, '82', '3ff0000000000000 7ff0000000000000')],
    [arrayOf('decimal32', ['1', '-0']), ...arrays(2, '74', '32800001 b2800000')],
    [arrayOf('decimal64', ['3.14']), ...arrays(1, '84', '318000000000013a')],
    [arrayOf('decimal128', ['0']), ...arrays(1, '94', '30400000000000000000000000000000')],
    [arrayOf('char', ['A', '😀']), ...arrays(2, '73', '00000041 0001f600')],
    [arrayOf('timestamp', [-1, 0]), ...arrays(2, '83', 'ffffffffffffffff 0000000000000000')],
    [arrayOf('uuid', [UUID]), ...arrays(1, '98', UUID_HEX)],
    [
      arrayOf('binary', [Buffer.from([1]), Buffer.alloc(0)]),
      arrays(2, 'b0', '00000001 01 00000000')[0],
      ...arrays(2, 'a0', '01 01 00'),
    ],
    [arrayOf('string', ['ab', '']), arrays(2, 'b1', '00000002 6162 00000000')[0], ...arrays(2, 'a1', '02 6162 00')],
    [arrayOf('symbol', ['a']), arrays(1, 'b3', '00000001 61')[0], ...arrays(1, 'a3', '01 61')],
    [
      arrayOf('list', [[1], []]),
      arrays(2, 'd0', '00000006 00000001 5401 00000004 00000000')[0],
      ...arrays(2, 'c0', '03 01 5401 01 00'),
    ],
    [arrayOf('list', [[], []]), arrays(2, 'd0', '00000004 00000000 00000004 00000000')[0], ...arrays(2, '45')],
    [
      arrayOf('map', [{ a: 1 }]),
      arrays(1, 'd1', '00000009 00000002 a10161 5401')[0],
      ...arrays(1, 'c1', '06 02 a10161 5401'),
    ],
    // arrays in an array: each has a constructor of its own
    [
      arrayOf('array', [arrayOf('ubyte', [1, 2]), arrayOf('string', [])]),
      arrays(2, 'f0', '00000007 00000002 50 01 02 00000005 00000000 b1')[0],
      ...arrays(2, 'e0', '04 02 50 01 02 02 00 a1'),
    ],
    [
      arrayOf({ descriptor: symbol('a:b'), of: 'int' }, [1]),
      arrays(1, '00 a303613a62 71', '00000001')[0],
      ...arrays(1, '00 b300000003613a62 54', '01'),
    ],
    [
      arrayOf({ descriptor: amqp('ulong', 5), of: { descriptor: 'x', of: 'list' } }, [[]]),
      arrays(1, '00 5305 00 a10178 d0', '00000004 00000000')[0],
      ...arrays(1, '00 5305 00 a10178 45'),
    ],
  ],
};

// Generators: of values in exact style, and of their bytes in all encodings that the specification allows.

const exactNumber = (number: bigint) => (Number.isSafeInteger(Number(number)) ? Number(number) : String(number));
const within = (min: bigint, max: bigint) => fc.bigInt(min, max).map(exactNumber);
const textual = (number: number) => (Object.is(number, -0) ? '-0' : Number.isFinite(number) ? number : String(number));
const unicode = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 12 }),
  fc.string({ unit: 'binary-ascii', maxLength: 12 }),
  fc.nat().map(String),
);
const ascii = fc.string({ unit: 'binary-ascii', maxLength: 12 });
const character = fc.string({ unit: 'binary', minLength: 1, maxLength: 1 });
const decimal = (length: number) =>
  fc.uint8Array({ minLength: length, maxLength: length }).map((data) => decimalFromBytes(Buffer.from(data)));

/** Values as they stand in an array of the type. */
const SIMPLE_VALUES: Record<string, fc.Arbitrary<unknown>> = {
  null: fc.constant(null),
  boolean: fc.boolean(),
  ubyte: fc.integer({ min: 0, max: 0xff }),
  ushort: fc.integer({ min: 0, max: 0xffff }),
  uint: fc.integer({ min: 0, max: 0xffffffff }),
  ulong: within(0n, 2n ** 64n - 1n),
  byte: fc.integer({ min: -0x80, max: 0x7f }),
  short: fc.integer({ min: -0x8000, max: 0x7fff }),
  int: fc.integer(),
  long: within(-(2n ** 63n), 2n ** 63n - 1n),
  float: fc.float().map(textual),
  double: fc.double().map(textual),
  decimal32: decimal(4),
  decimal64: decimal(8),
  decimal128: decimal(16),
  char: character,
  timestamp: within(-(2n ** 63n), 2n ** 63n - 1n),
  uuid: fc.uuid(),
  binary: fc.uint8Array({ maxLength: 12 }).map((data) => Buffer.from(data)),
  string: unicode,
  symbol: ascii,
};

/** A value of the type where its type is not known: plain only when a plain one is written as the type. */
function exact(type: string, value: unknown): unknown {
  if (['null', 'boolean', 'int', 'binary', 'string'].includes(type)) return value;
  const isWhole = Number.isSafeInteger(value);
  const isInt = isWhole && (value as number) >= -0x80000000 && (value as number) <= 0x7fffffff;
  if (typeof value === 'number' && (type === 'long' ? isWhole && !isInt : type === 'double' && !isWhole)) return value;
  return amqp(type, value);
}

/** Not that one, with which a map is read in the notation. */
const property = unicode.filter((text) => text !== '__proto__');

const exactValue: fc.Arbitrary<unknown> = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    tie('simple'),
    tie('list'),
    tie('object'),
    tie('map'),
    tie('described'),
    tie('array'),
  ),
  simple: fc
    .constantFrom(...Object.keys(SIMPLE_VALUES))
    .chain((type) => SIMPLE_VALUES[type]!.map((value) => exact(type, value))),
  list: fc.array(tie('value'), { maxLength: 4 }),
  object: fc.dictionary(property, tie('value'), { maxKeys: 4, noNullPrototype: true }),
  map: fc
    .uniqueArray(fc.tuple(tie('value'), tie('value')), { maxLength: 4, selector: ([key]) => hexOf(key) })
    .filter((pairs) => pairs.some(([key]) => typeof key !== 'string'))
    .map((pairs) => amqp('map', pairs)),
  described: fc.tuple(tie('value'), tie('value')).map(([descriptor, value]) => describedBy(descriptor, value)),
  array: fc.oneof(
    fc
      .constantFrom(...Object.keys(SIMPLE_VALUES))
      .chain((type) => fc.array(SIMPLE_VALUES[type]!, { maxLength: 4 }).map((values) => arrayOf(type, values))),
    fc.array(tie('list'), { maxLength: 3 }).map((lists) => arrayOf('list', lists)),
    fc.array(tie('object'), { maxLength: 3 }).map((objects) => arrayOf('map', objects)),
    fc.array(tie('array'), { maxLength: 3 }).map((elements) => arrayOf('array', elements)),
    fc
      .tuple(tie('value'), fc.array(tie('list'), { maxLength: 3 }))
      .map(([descriptor, lists]) => arrayOf({ descriptor, of: 'list' }, lists)),
  ),
})).value;

/** Any bytes, and often those that are zero, the extremes, infinite, or no number. */
const hexOfSize = (length: number) =>
  fc.oneof(
    fc.uint8Array({ minLength: length, maxLength: length }).map((data) => Buffer.from(data).toString('hex')),
    fc
      .constantFrom('00', '01', '80', 'ff', '7ff0', 'fff0', '7f80', '7ff8', '7fff')
      .map((start) => start.padEnd(length * 2, '0').slice(0, length * 2)),
  );
const hexOfText = (text: fc.Arbitrary<string>, width: number) =>
  text.map((value) => uint(Buffer.byteLength(value), width) + Buffer.from(value).toString('hex'));
const each = (codes: string[], contents: fc.Arbitrary<string>) =>
  Object.fromEntries(codes.map((code) => [code, contents]));

/** In hex what follows the constructor, by the code of that. */
const SIMPLE_CONTENTS: Record<string, fc.Arbitrary<string>> = {
  ...each(['40', '41', '42', '43', '44', '45'], fc.constant('')),
  ...each(['50', '51', '52', '53', '54', '55'], hexOfSize(1)),
  ...each(['60', '61'], hexOfSize(2)),
  ...each(['70', '71', '72', '74'], hexOfSize(4)),
  ...each(['80', '81', '82', '83', '84'], hexOfSize(8)),
  ...each(['94', '98'], hexOfSize(16)),
  '56': fc.constantFrom('00', '01'),
  '73': character.map((text) => uint(text.codePointAt(0)!, 4)),
  ...each(['a0', 'a1'], hexOfText(unicode, 1)),
  ...each(['b0', 'b1'], hexOfText(unicode, 4)),
  a3: hexOfText(ascii, 1),
  b3: hexOfText(ascii, 4),
};

function wireContents(code: string, depth: number): fc.Arbitrary<string> {
  const width = 'ce'.includes(code[0]!) ? 1 : 4;
  const framed = (count: number, contents: string) =>
    uint(contents.length / 2 + width, width) + uint(count, width) + contents;
  const fits = (contents: string) => width === 4 || contents.length / 2 < 0xff;
  switch (code[0]) {
    case 'c':
    case 'd': {
      const inner = wireValueOf(depth - 1);
      if (code[1] === '0') {
        return fc
          .array(inner, { maxLength: 4 })
          .filter((values) => fits(values.join('')))
          .map((values) => framed(values.length, values.join('')));
      }
      const selector = ([key]: string[]) => JSON.stringify(parse(bytes(key!)));
      return fc
        .uniqueArray(fc.tuple(inner, inner), { maxLength: 3, selector })
        .filter((pairs) => fits(pairs.flat().join('')))
        .map((pairs) => framed(2 * pairs.length, pairs.flat().join('')));
    }
    case 'e':
    case 'f':
      return fc
        .tuple(fc.array(wireValueOf(depth - 1), { maxLength: 2 }), fc.constantFrom(...codesAt(depth - 1)))
        .chain(([descriptors, element]) =>
          fc
            .array(wireContents(element, depth - 1), { maxLength: 4 })
            .map(
              (values) =>
                [values.length, [...descriptors.map((hex) => `00${hex}`), element, ...values].join('')] as const,
            ),
        )
        .filter(([, contents]) => fits(contents))
        .map(([count, contents]) => framed(count, contents));
    default:
      return SIMPLE_CONTENTS[code]!;
  }
}

function codesAt(depth: number): string[] {
  return Object.keys(SIMPLE_CONTENTS).concat(depth > 0 ? ['c0', 'd0', 'c1', 'd1', 'e0', 'f0'] : []);
}

function wireValueOf(depth: number): fc.Arbitrary<string> {
  const undescribed = fc
    .constantFrom(...codesAt(depth))
    .chain((code) => wireContents(code, depth).map((contents) => code + contents));
  if (depth === 0) return undescribed;
  const inner = wireValueOf(depth - 1);
  return fc.oneof(
    { weight: 5, arbitrary: undescribed },
    { weight: 1, arbitrary: fc.tuple(inner, inner).map(([descriptor, value]) => `00${descriptor}${value}`) },
  );
}

const wireValue = wireValueOf(3);

const TYPE_OF_CODE = new Map(
  Object.entries({
    null: [0x40],
    boolean: [0x41, 0x42, 0x56],
    ubyte: [0x50],
    ushort: [0x60],
    uint: [0x43, 0x52, 0x70],
    ulong: [0x44, 0x53, 0x80],
    byte: [0x51],
    short: [0x61],
    int: [0x54, 0x71],
    long: [0x55, 0x81],
    float: [0x72],
    double: [0x82],
    decimal32: [0x74],
    decimal64: [0x84],
    decimal128: [0x94],
    char: [0x73],
    timestamp: [0x83],
    uuid: [0x98],
    binary: [0xa0, 0xb0],
    string: [0xa1, 0xb1],
    symbol: [0xa3, 0xb3],
    list: [0x45, 0xc0, 0xd0],
    map: [0xc1, 0xd1],
    array: [0xe0, 0xf0],
  }).flatMap(([type, codes]) => codes.map((code): [number, string] => [code, type])),
);

/**
 * The value in valid bytes as a tree of types and contents, in which nothing tells how it was encoded: another decoder,
 * so that ours does not vouch for itself.
 */
function parse(input: Buffer): unknown {
  let at = 0;
  const take = (length: number) => input.subarray(at, (at += length));
  const number = (width: number) => take(width).readUIntBE(0, width);
  const value = (): unknown => {
    const code = number(1);
    return code === 0 ? ['described', value(), value()] : [TYPE_OF_CODE.get(code), contents(code)];
  };
  const contents = (code: number): unknown => {
    if (code === 0x45) return [];
    if (code < 0x50) return code === 0x41 ? '1' : '0';
    if (code < 0xa0) return simple(TYPE_OF_CODE.get(code)!, take(1 << ((code >> 4) - 5)));
    const width = code & 0x10 ? 4 : 1;
    const size = number(width);
    if (code < 0xc0) return take(size).toString('hex');
    const count = number(width);
    if (code < 0xe0) return Array.from({ length: count }, value);
    const descriptors: unknown[] = [];
    let element: number;
    while ((element = number(1)) === 0) descriptors.push(value());
    return [descriptors, TYPE_OF_CODE.get(element), Array.from({ length: count }, () => contents(element))];
  };
  return value();
}

function simple(type: string, data: Buffer): string {
  if (type.startsWith('decimal')) return decimalFromBytes(data);
  const whole = BigInt(`0x${data.toString('hex')}`);
  if (type === 'float' && Number.isNaN(data.readFloatBE())) return 'NaN';
  if (type === 'double' && Number.isNaN(data.readDoubleBE())) return 'NaN';
  if (['byte', 'short', 'int', 'long'].includes(type)) return String(BigInt.asIntN(data.length * 8, whole));
  return String(whole);
}

describe('codec', () => {
  describe('in exact style', () => {
    for (const [type, rows] of Object.entries(ENCODINGS)) {
      it(`writes each ${type} in the bytes of the specification, and reads all its encodings`, () => {
        for (const [value, written, ...alsoRead] of rows) {
          should(hexOf(value)).equal(written.replaceAll(' ', ''));
          for (const hex of [written, ...alsoRead]) should(decode(bytes(hex))).deepEqual(value, hex);
        }
      });
    }

    it('keeps a map key that would set the prototype of an object', () => {
      const value = decode(bytes('c10d02 a1095f5f70726f746f5f5f 45')) as object;
      should(Object.getPrototypeOf(value)).equal(Object.prototype);
      for (const same of [value, ...clonesOf(value)]) should(hexOf(same)).equal('c10d02a1095f5f70726f746f5f5f45');
    });

    it('reads binary as a copy that does not keep the input alive', () => {
      const input = bytes('a00101');
      const value = decode(input) as Buffer;
      input.fill(0);
      should(value).deepEqual(Buffer.from([1]));
    });
  });

  it('reads plain values in plain style, and the notation where there are none', () => {
    const rows: [hex: string, value: unknown][] = [
      ['40', null],
      ['5601', true],
      ['50ff', 255],
      ['600102', 258],
      ['43', 0],
      ['53ff', 255],
      ['51ff', -1],
      ['61fffe', -2],
      ['5580', -128],
      ['723fc00000', 1.5],
      ['727fc00000', NaN],
      ['7280000000', -0],
      ['82fff0000000000000', -Infinity],
      ['823ff0000000000000', 1],
      ['73000020ac', '€'],
      ['830000018bcfe56800', new Date(1700000000000)],
      ['83ffffffffffffffff', new Date(-1)],
      [`98${UUID_HEX}`, UUID],
      ['a00101', Buffer.from([1])],
      ['a30161', 'a'],
      ['c108 02 a10161 e002 02 43', { a: [0, 0] }],
      [arrays(2, 'e0', '03 01 50 01 02 00 50')[1], [[1], []]],
      ['80001fffffffffffff', Number.MAX_SAFE_INTEGER],
      ['800020000000000001', amqp('ulong', '9007199254740993')],
      ['81ffdfffffffffffff', amqp('long', '-9007199254740993')],
      ['837fffffffffffffff', amqp('timestamp', '9223372036854775807')],
      // one millisecond more than a Date holds
      ['83001eb208c2dc0001', amqp('timestamp', 8640000000000001)],
      ['7432800001', amqp('decimal32', '1')],
      ['84318000000000013a', amqp('decimal64', '3.14')],
      ['9430400000000000000000000000000001', amqp('decimal128', '1')],
      ['c10502 5401 5402', amqp('map', [[1, 2]])],
      ['c10b04 a10132 5401 a10131 5402', { 1: 2, 2: 1 }],
      // of keys that are the same in JavaScript none is lost
      [
        'c10b04 a10161 5401 a30161 5402',
        amqp('map', [
          ['a', 1],
          ['a', 2],
        ]),
      ],
      // a descriptor is a type, and stays what it is
      ['00 a303613a62 5201', describedBy(symbol('a:b'), 1)],
      ['00 5370 45', describedBy(amqp('ulong', 0x70), [])],
    ];
    for (const [hex, value] of rows) should(decode(bytes(hex), 'plain')).deepEqual(value, hex);
  });

  describe('given plain JavaScript', () => {
    class Reading {
      constructor(readonly value: number) {}
      toJSON(): unknown {
        return { value: this.value };
      }
    }

    const rows: [name: string, value: unknown, hex: string][] = [
      ['undefined as null', undefined, '40'],
      ['a whole number as int', 5, '5405'],
      ['a larger whole number as long', 2 ** 31, '810000000080000000'],
      ['a fraction as double', 0.5, '823fe0000000000000'],
      ['a whole number beyond 2^53 as double', 2 ** 53, '824340000000000000'],
      ['NaN as double', NaN, '827ff8000000000000'],
      ['infinity as double', -Infinity, '82fff0000000000000'],
      ['negative zero as double', -0, '828000000000000000'],
      ['a BigInt as long', 5n, '5505'],
      ['a negative BigInt as long', -(2n ** 63n), '818000000000000000'],
      ['a BigInt too large for long as ulong', 2n ** 63n, '808000000000000000'],
      ['a Date as timestamp', new Date(1700000000000), '830000018bcfe56800'],
      ['a Buffer as binary', Buffer.from([1, 2]), 'a0020102'],
      ['a view into an ArrayBuffer as binary', new Uint8Array([0, 1, 2, 3]).subarray(1, 3), 'a0020102'],
      ['an ArrayBuffer as binary', new Uint8Array([1, 2]).buffer, 'a0020102'],
      ['what JSON makes of a Buffer as binary', { type: 'Buffer', data: [1, 2] }, 'a0020102'],
      ['an array as list', [1, [2]], 'c008 02 5401 c003 01 5402'],
      ['holes in an array as null', [1, , 3], 'c006 03 5401 40 5403'], // oxlint-disable-line no-sparse-arrays
      ['undefined in an array as null', [undefined], 'c00201 40'],
      ['a Set as list', new Set(['a']), 'c00401 a10161'],
      ['a Map as map', new Map<unknown, unknown>([['a', 1]]), 'c10602 a10161 5401'],
      ['the keys of a Map as what they are', new Map([[1, true]]), 'c10402 5401 41'],
      ['an object as map', { a: { b: null } }, 'c10b 02 a10161 c105 02 a10162 40'],
      ['an object without a prototype as map', Object.assign(Object.create(null), { a: 1 }), 'c10602 a10161 5401'],
      ['properties that are undefined as absent', { a: undefined, b: 1 }, 'c10602 a10162 5401'],
      ['an object with toJSON as what that gives', new Reading(5), 'c10a02 a10576616c7565 5405'],
      ['a URL as its text', new URL('a:b'), 'a103613a62'],
    ];
    for (const [name, value, hex] of rows) {
      it(`sends ${name}`, () => should(hexOf(value)).equal(hex.replaceAll(' ', '')));
    }

    it('sends an object that only looks like what JSON makes of a Buffer as map', () => {
      const lookalikes = [
        { type: 'Buffer', data: [256] },
        { type: 'Buffer', data: ['1'] },
        { type: 'Buffer' },
        { type: 'Buffer', data: [1], name: 'x' },
      ];
      for (const value of lookalikes) should(decode(encode(value))).deepEqual(value);
    });

    it('knows values of another realm, as function nodes make them', () => {
      const given = runInNewContext(`({
        date: new Date(1), map: new Map([['a', 1]]), set: new Set([1]), bytes: new Uint8Array([1]),
        buffer: new ArrayBuffer(1), list: [[]], object: {}, notation: { $amqp: 'array', of: 'int', value: [1] },
        nothing: Object.create(null), id: 1n, instance: new (class { toJSON() { return 'json'; } })(),
      })`) as object;
      should(decode(encode(given))).deepEqual({
        date: amqp('timestamp', 1),
        map: { a: 1 },
        set: [1],
        bytes: Buffer.from([1]),
        buffer: Buffer.from([0]),
        list: [[]],
        object: {},
        notation: arrayOf('int', [1]),
        nothing: {},
        id: amqp('long', 1),
        instance: 'json',
      });
    });
  });

  describe('given the notation', () => {
    it('takes other forms of a value that are exact too', () => {
      const rows: [given: unknown, hex: string][] = [
        [amqp('null', null), '40'],
        [{ $amqp: 'null' }, '40'],
        [amqp('boolean', true), '41'],
        [amqp('ubyte', '255'), '50ff'],
        [amqp('short', -2n), '61fffe'],
        [amqp('ulong', 2n ** 64n - 1n), '80ffffffffffffffff'],
        [amqp('long', '-5'), '55fb'],
        [amqp('float', 0.1), '723dcccccd'],
        [amqp('float', '1.5'), '723fc00000'],
        [amqp('float', NaN), '727fc00000'],
        [amqp('double', 'NaN'), '827ff8000000000000'],
        [amqp('double', '-Infinity'), '82fff0000000000000'],
        [amqp('double', '-0'), '828000000000000000'],
        [amqp('decimal32', 1), '7432800001'],
        [amqp('decimal32', 1n), '7432800001'],
        [amqp('decimal64', 3.14), '84318000000000013a'],
        [amqp('char', 0x1f600), '730001f600'],
        [amqp('timestamp', new Date(-1)), '83ffffffffffffffff'],
        [amqp('timestamp', '2023-11-14T22:13:20Z'), '830000018bcfe56800'],
        [amqp('timestamp', '2023-11-14T23:13:20.000+01:00'), '830000018bcfe56800'],
        [amqp('timestamp', '1970-01-02'), '830000000005265c00'],
        [amqp('timestamp', 5n), '830000000000000005'],
        [amqp('uuid', UUID_HEX.toUpperCase()), `98${UUID_HEX}`],
        [amqp('uuid', Buffer.from(UUID_HEX, 'hex')), `98${UUID_HEX}`],
        [amqp('binary', 'AQI='), 'a0020102'],
        [amqp('binary', ''), 'a000'],
        [amqp('binary', { type: 'Buffer', data: [1] }), 'a00101'],
        [amqp('string', 'a'), 'a10161'],
        [amqp('list', new Set([1])), 'c00301 5401'],
        [amqp('map', { a: 1 }), 'c10602 a10161 5401'],
        [amqp('map', new Map([['a', 1]])), 'c10602 a10161 5401'],
        [amqp('map', []), 'c10100'],
        [describedBy('a', amqp('ubyte', 1)), '00 a10161 5001'],
        // an array takes its type from its elements
        [amqp('array', [1, 2]), arrays(2, '71', '00000001 00000002')[0]],
        [amqp('array', [1, 2 ** 31]), arrays(2, '81', '0000000000000001 0000000080000000')[0]],
        [amqp('array', [1, 0.5]), arrays(2, '82', '3ff0000000000000 3fe0000000000000')[0]],
        [amqp('array', ['a']), arrays(1, 'b1', '00000001 61')[0]],
        [amqp('array', [symbol('a')]), arrays(1, 'b3', '00000001 61')[0]],
        [amqp('array', [null]), arrays(1, '40')[0]],
        [amqp('array', [new Date(1)]), arrays(1, '83', '0000000000000001')[0]],
        [amqp('array', [amqp('array', [true])]), arrays(1, 'f0', '00000006 00000001 56 01')[0]],
        [arrayOf('uint', [amqp('uint', 1), 2]), arrays(2, '70', '00000001 00000002')[0]],
      ];
      for (const [given, hex] of rows) should(hexOf(given)).equal(hex.replaceAll(' ', ''));
    });

    const refused: [value: unknown, path: string, reason: RegExp][] = [
      [amqp('unit', 1), '', /unknown AMQP type "unit"/],
      [amqp('constructor', 1), '', /unknown AMQP type "constructor"/],
      [{ $amqp: 5, value: 1 }, '', /unknown AMQP type 5/],
      [{ $amqp: 'int', value: 1, of: 'int' }, '', /unknown key "of"/],
      [{ $amqp: 'int', Value: 1 }, '', /unknown key "Value"/],
      [{ $amqp: 'int' }, '', /no "value"/],
      [{ $amqp: 'described', value: 1 }, '', /no "descriptor"/],
      [{ $amqp: 'described', descriptor: 1 }, '', /no "value"/],
      [amqp('null', 0), '', /not null/],
      [amqp('boolean', 'true'), '', /not a boolean/],
      [amqp('boolean', 1), '', /not a boolean/],
      [amqp('ubyte', 300), '', /out of range: 300/],
      [amqp('ubyte', -1), '', /out of range: -1/],
      [amqp('ushort', 65536), '', /out of range/],
      [amqp('uint', -1), '', /out of range: -1/],
      [amqp('uint', 2 ** 32), '', /out of range/],
      [amqp('uint', '-1'), '', /out of range/],
      [amqp('ulong', -1), '', /out of range: -1/],
      [amqp('ulong', 2n ** 64n), '', /out of range/],
      [amqp('ulong', '99999999999999999999'), '', /out of range/],
      [amqp('ulong', 2 ** 53), '', /holds exactly/],
      [amqp('byte', 128), '', /out of range/],
      [amqp('short', -32769), '', /out of range/],
      [amqp('int', 2 ** 31), '', /out of range/],
      [amqp('int', 1.5), '', /not a whole number: 1.5/],
      [amqp('int', NaN), '', /not a whole number: NaN/],
      [amqp('int', '1.5'), '', /not a whole number/],
      [amqp('int', 'one'), '', /not a whole number/],
      [amqp('int', null), '', /not a whole number/],
      [amqp('int', true), '', /not a whole number/],
      [amqp('int', [1]), '', /not a whole number/],
      [amqp('long', 0.5), '', /not a whole number/],
      [amqp('long', 2n ** 63n), '', /out of range/],
      [amqp('long', '9223372036854775808'), '', /out of range/],
      [amqp('float', 1e39), '', /out of range/],
      [amqp('float', 'one'), '', /not a number/],
      [amqp('double', ''), '', /not a number/],
      [amqp('double', null), '', /not a number/],
      [amqp('double', '1e400'), '', /out of range/],
      [amqp('decimal32', '12345678'), '', /more than 7 digits/],
      [amqp('decimal64', '1E+999'), '', /exponent out of range/],
      [amqp('decimal128', 'one'), '', /not a decimal number/],
      [amqp('decimal128', true), '', /not a decimal number/],
      [amqp('char', ''), '', /not a character/],
      [amqp('char', 'ab'), '', /not a character/],
      [amqp('char', '65'), '', /not a character/],
      [amqp('char', 0x110000), '', /out of range/],
      [amqp('char', 0xd800), '', /surrogate/],
      [amqp('char', '\ud800'), '', /surrogate/],
      [amqp('timestamp', 'yesterday'), '', /not a point in time/],
      [amqp('timestamp', '2023-13-01'), '', /not a valid point in time/],
      [amqp('timestamp', new Date(NaN)), '', /not a valid point in time/],
      [amqp('timestamp', 0.5), '', /not a valid point in time/],
      [amqp('timestamp', 2n ** 63n), '', /out of range/],
      [amqp('timestamp', {}), '', /not a/],
      [amqp('uuid', UUID.slice(1)), '', /not a uuid/],
      [amqp('uuid', Buffer.alloc(15)), '', /not a uuid/],
      [amqp('uuid', 5), '', /not a uuid/],
      [amqp('binary', 'no base64!'), '', /not binary/],
      [amqp('binary', 5), '', /not binary/],
      [amqp('binary', [1, 2]), '', /not binary/],
      [amqp('string', 5), '', /not a string/],
      [amqp('string', '\ud800'), '', /surrogate/],
      [amqp('symbol', 'grüße'), '', /not a symbol/],
      [amqp('symbol', 5), '', /not a symbol/],
      [amqp('list', {}), '', /not a list/],
      [amqp('list', 'ab'), '', /not a list/],
      [amqp('map', 5), '', /not a map/],
      [amqp('map', [[1]]), '', /not a map/],
      [amqp('map', new Date(0)), '', /not a map/],
      [
        amqp('map', [
          ['a', 1],
          ['a', 2],
        ]),
        '["a"]',
        /twice/,
      ],
      [amqp('array', 5), '', /needs an array/],
      [amqp('array', []), '', /needs "of"/],
      [amqp('array', [1, 'a']), '', /different types: it needs "of"/],
      [arrayOf('unit', [1]), '', /unknown type in "of": "unit"/],
      [arrayOf('described', [1]), '', /unknown type in "of": "described"/],
      [arrayOf({ of: 'int' }, [1]), '', /no "descriptor" in "of"/],
      [arrayOf({ descriptor: 1 }, [1]), '', /unknown type in "of"/],
      [arrayOf('ubyte', [1, 300]), '[1]', /out of range: 300/],
      [arrayOf('int', [1, null]), '[1]', /not a whole number/],
      [arrayOf('array', [[1]]), '[0]', /not in array notation/],
      [arrayOf('array', [arrayOf('ubyte', [1]), arrayOf('ubyte', [-1])]), '[1][0]', /out of range/],
      [arrayOf({ descriptor: amqp('ubyte', -1), of: 'int' }, []), '["of"]', /out of range/],
      // paths
      [{ a: [0, { 'b c': amqp('ubyte', 300) }] }, '["a"][1]["b c"]', /out of range/],
      [new Map([[5, amqp('int', 'x')]]), '[0]', /not a whole number/],
      [new Set([0, () => {}]), '[1]', /is a function/],
      [describedBy(amqp('int', 0.5), 1), '["descriptor"]', /not a whole number/],
      [describedBy(1, [amqp('int', 0.5)]), '["value"][0]', /not a whole number/],
      [amqp('map', [['a', amqp('int', 0.5)]]), '["a"]', /not a whole number/],
      [arrayOf('int', [1, , 3]), '[1]', /not a whole number/], // oxlint-disable-line no-sparse-arrays
      // what has no AMQP type
      [() => {}, '', /is a function, which cannot be sent/],
      [{ f: () => {} }, '["f"]', /is a function, which cannot be sent/],
      [{ s: Symbol('s') }, '["s"]', /is a symbol, which cannot be sent/],
      [[new WeakMap()], '[0]', /of class WeakMap/],
      [[new Error('x')], '[0]', /of class Error/],
      [[/x/], '[0]', /of class RegExp/],
      [[new Date(NaN)], '[0]', /not a valid point in time/],
      [{ a: 'half \udc00' }, '["a"]', /surrogate/],
      [{ 'half \udc00': 1 }, '["half \\udc00"]', /surrogate/],
      [[2n ** 64n], '[0]', /out of range/],
      [[-(2n ** 63n) - 1n], '[0]', /out of range/],
    ];
    for (const [value, path, reason] of refused) {
      it(`refuses ${inspect(value, { breakLength: Infinity })}, naming msg.payload${path}`, () => {
        const error = failure(() => encode(value));
        should(error).match({ name: 'AmqpError', code: 'AMQP_BAD_MESSAGE', message: reason });
        should(error.message).startWith(`msg.payload${path} `);
      });
    }

    it('refuses values that throw when they are read', () => {
      class Broken {
        toJSON() {
          throw new Error('broken');
        }
      }
      const getter = {
        get broken() {
          throw new Error('broken');
        },
      };
      for (const value of [[new Broken()], [getter]]) {
        const error = failure(() => encode(value));
        should(error).match({ name: 'AmqpError', code: 'AMQP_BAD_MESSAGE', message: /broken/ });
        should(error.message).startWith('msg.payload[0] ');
      }
    });

    it('takes base64 of any length', () => {
      should(encode(amqp('binary', 'AAAA'.repeat(5_000_000))).length).equal(15_000_005);
    });

    it('refuses cyclic values, with a path that stays readable', () => {
      const object: Record<string, unknown> = {};
      object['self'] = object;
      const list: unknown[] = [];
      list.push([list]);
      const map = new Map();
      map.set('map', map);
      const notation: Record<string, unknown> = { $amqp: 'described', descriptor: 1 };
      notation['value'] = notation;
      class Endless {
        toJSON() {
          return new Endless();
        }
      }
      const of: Record<string, unknown> = { descriptor: 1 };
      of['of'] = of;
      for (const value of [object, list, map, notation, new Endless(), arrayOf(of, [])]) {
        const error = failure(() => encode(value));
        should(error).match({ code: 'AMQP_BAD_MESSAGE', message: /cyclic/ });
        should(error.message.length).be.below(200);
      }
    });
  });

  describe('given malformed bytes', () => {
    const malformed: [hex: string, position: number, reason: RegExp][] = [
      ['', 0, /end too early/],
      ['3f', 0, /unknown type code 0x3f/],
      ['46', 0, /unknown type code/],
      ['57', 0, /unknown type code/],
      ['99', 0, /unknown type code/],
      ['ff', 0, /unknown type code 0xff/],
      ['50', 1, /end too early/],
      ['5602', 1, /neither 0 nor 1/],
      ['70000000', 1, /end too early/],
      ['9800', 1, /end too early/],
      ['7300110000', 1, /not a Unicode character/],
      ['730000d800', 1, /not a Unicode character/],
      ['a00201', 2, /end too early/],
      ['b0ffffffff', 5, /end too early/],
      ['a101ff', 2, /not UTF-8/],
      ['a102c080', 2, /not UTF-8/],
      ['a103eda080', 2, /not UTF-8/],
      ['a301e9', 2, /not ASCII/],
      ['00', 1, /end too early/],
      ['005370', 3, /end too early/],
      ['c0', 1, /end too early/],
      ['c00000', 0, /wrong size/],
      ['c0050140', 0, /wrong size/],
      ['c00102', 0, /more values than there are/],
      ['c0020240', 0, /more values than there are/],
      ['c00301405401', 0, /does not fill its size/],
      ['c00201 5401', 0, /does not fill its size/],
      ['d0ffffffffffffffff', 0, /wrong size/],
      ['d000000004ffffffff', 0, /more values than there are/],
      ['c1040340 4040', 3, /key without a value/],
      ['c10904 a1016140 a1016140', 7, /same key twice/],
      ['c10c04 a1016140 b1000000016140', 7, /same key twice/],
      ['e0', 1, /end too early/],
      ['e00100', 3, /end too early/],
      ['e0020146', 3, /unknown type code/],
      ['e0020100', 4, /end too early/],
      ['e0020350', 4, /more elements than there are/],
      ['f000000005ffffffff70', 10, /more elements than there are/],
      ['f000000005ffffffff40', 10, /more elements than there are/],
      ['e004 01 51 02 03', 0, /does not fill its size/],
      ['e006 02 73 00000041', 8, /end too early/],
    ];
    for (const [hex, position, reason] of malformed) {
      it(`refuses ${hex || 'nothing'} with the position of the error`, () => {
        const error = failure(() => new Decoder(bytes(hex)).value());
        should(error).match({ name: 'AmqpError', code: 'AMQP_DECODE', message: reason, info: {} });
        should(error.message).endWith(` at byte ${(error.info as { position: number }).position}`);
        should(error.info).deepEqual({ position });
      });
    }
  });
});

/** How a value may be wrapped in another, each a level deeper. */
const WRAPS: ((inner: unknown) => unknown)[] = [
  (inner) => [inner],
  (inner) => ({ a: inner }),
  (inner) => new Set([inner]),
  (inner) => new Map([[inner, 1]]),
  (inner) => new Map([[1, inner]]),
  (inner) => amqp('list', [inner]),
  (inner) => amqp('map', [[inner, 1]]),
  (inner) => describedBy(inner, 1),
  (inner) => describedBy(1, inner),
  (inner) => arrayOf('list', [[inner]]),
  (inner) => arrayOf('map', [{ a: inner }]),
  (inner) => arrayOf({ descriptor: inner, of: 'int' }, [1]),
  (inner) => ({ toJSON: () => inner, constructor: undefined }),
];
const SCALARS = fc.oneof(
  fc.constantFrom(null, undefined, true, '', -0, NaN, 2 ** 53, 1e300, '\ud800', 2n ** 64n, new Date(NaN), Symbol('x')),
  fc.integer(),
  fc.bigInt(),
  fc.double(),
  fc.date({ noInvalidDate: false }),
  unicode,
  fc.uint8Array({ maxLength: 12 }),
);

/** Anything that a flow may give, right or wrong. */
const anyValue: fc.Arbitrary<unknown> = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    SCALARS,
    tie('notation'),
    tie('array'),
    tie('map'),
    tie('nested'),
    tie('many'),
  ),
  notation: fc
    .tuple(fc.constantFrom(...Object.keys(SIMPLE_VALUES), 'list', 'map', 'bogus'), fc.oneof(SCALARS, tie('value')))
    .map(([type, value]) => amqp(type, value)),
  array: fc
    .tuple(
      fc.option(fc.constantFrom(...Object.keys(SIMPLE_VALUES), 'list', 'map', 'array'), { nil: undefined }),
      fc.array(fc.oneof(SCALARS, tie('value'), fc.array(tie('value'), { maxLength: 2 })), { maxLength: 4 }),
    )
    .map(([of, values]) => (of ? arrayOf(of, values) : amqp('array', values))),
  // Of different keys some are the same once encoded.
  map: fc
    .array(
      fc.tuple(fc.oneof(fc.constantFrom(1, amqp('int', 1), 1n, 'x', amqp('string', 'x')), tie('value')), tie('value')),
      {
        maxLength: 4,
      },
    )
    .chain((pairs) => fc.constantFrom(new Map(pairs), amqp('map', pairs), new Set(pairs))),
  nested: fc
    .tuple(
      fc.array(fc.constantFrom(...WRAPS), { minLength: 1, maxLength: 4 }),
      fc.integer({ min: 1, max: 130 }),
      SCALARS,
    )
    .map(([wraps, depth, innermost]) =>
      Array.from({ length: depth }).reduce((inner, _, level) => wraps[level % wraps.length]!(inner), innermost),
    ),
  // Elements that take no bytes.
  many: fc
    .tuple(
      fc.integer({ min: 0, max: 5000 }),
      fc.constantFrom('null', undefined, 'list', 'boolean', { descriptor: 1, of: 'null' }),
    )
    .map(([length, of]) => {
      const values = Array.from({ length }, () => (of === 'list' ? [] : of === 'boolean' ? true : null));
      return of ? arrayOf(of, values) : amqp('array', values);
    }),
})).value;

describe('codec, whatever the value', () => {
  it('writes nothing that it would not read', () => {
    let written = 0;
    fc.assert(
      fc.property(anyValue, fc.constantFrom<Style>('exact', 'plain'), (value, style) => {
        let input: Buffer;
        try {
          input = encode(value);
        } catch (error) {
          should(error).have.property('code', 'AMQP_BAD_MESSAGE');
          return;
        }
        written++;
        decode(input, style);
      }),
      { numRuns: 3000 },
    );
    // many of them are not refused
    should(written).be.above(500);
  });

  it('reads what it has written as the same value', () => {
    fc.assert(
      fc.property(exactValue, (value) => {
        should(isDeepStrictEqual(decode(encode(value)), value)).be.true();
      }),
      { numRuns: 1500 },
    );
  });

  it('writes what it has read as the same value and type', () => {
    fc.assert(
      fc.property(wireValue, (hex) => {
        should(parse(encode(decode(bytes(hex))))).deepEqual(parse(bytes(hex)));
      }),
      { numRuns: 2000 },
    );
  });

  it('loses nothing when what it has read goes through JSON, a structured clone or the clone of Node-RED', () => {
    fc.assert(
      fc.property(wireValue, (hex) => {
        const payload = decode(bytes(hex));
        const written = encode(payload);
        for (const clone of clonesOf(payload)) should(encode(clone)).deepEqual(written);
      }),
      { numRuns: 1000 },
    );
  });

  it('ends with a value or AMQP_DECODE, whatever the bytes, and makes no more than they hold', () => {
    const corpus = Object.values(ENCODINGS)
      .flatMap((rows) => rows.flatMap(([, ...encodings]) => encodings))
      .concat(fc.sample(wireValue, 1000))
      .map(bytes);
    let values = 0;
    const read = (input: Buffer, style: Style) => {
      const decoder = new Decoder(input, style);
      let value: unknown;
      try {
        value = decoder.value();
      } catch (error) {
        if ((error as AmqpError).code !== 'AMQP_DECODE') throw error;
        return;
      }
      values++;
      const taken = input.subarray(0, decoder.offset);
      if (sizeOf(value) > 4 * taken.length + 1024) throw new Error('too large');
      if (style === 'exact' && !isDeepStrictEqual(parse(encode(value)), parse(taken))) throw new Error('changed');
    };
    for (let run = 0; run < 40_000; run++) {
      const input = run % 4 ? mutated(corpus) : Buffer.from(Array.from({ length: random(64) }, () => random(256)));
      try {
        read(input, run % 8 < 4 ? 'exact' : 'plain');
      } catch (error) {
        throw new Error(`${input.toString('hex')}: ${String(error)}`, { cause: error });
      }
    }
    // many of them are not refused at once
    should(values).be.above(10_000);
  });
});

const repeated = (count: number, element: string) => Buffer.alloc((count * element.length) / 2, element, 'hex');
const numbered = (n: number) => Buffer.from([0x70, n >> 24, n >> 16, n >> 8, n]);

const NULLS = (count: number) => ({ $amqp: 'array', of: 'null', value: Array.from({ length: count }, () => null) });

/** A list, map (0xd1) or array (0xf0) with this content. */
function compound(code: number, count: number, content: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head[0] = code;
  head.writeUInt32BE(content.length + 4, 1);
  head.writeUInt32BE(count, 5);
  return Buffer.concat([head, content]);
}
const mapOf = (count: number, key: (index: number) => Buffer) =>
  compound(0xd1, 2 * count, Buffer.concat(Array.from({ length: count }, (_, n) => [key(n), Buffer.of(0x40)]).flat()));
function keyInKey(levels: number, innermost: Buffer): Buffer {
  let key = innermost;
  for (let level = 0; level < levels; level++) key = compound(0xd1, 2, Buffer.concat([key, Buffer.of(0x40)]));
  return key;
}

describe('codec, of what is large', () => {
  /** Inputs of about `size` bytes. */
  const inputs: Record<string, (size: number) => Buffer> = {
    'a list of nulls': (size) => compound(0xd0, size, repeated(size, '40')),
    'a list of lists': (size) => compound(0xd0, size, repeated(size, '45')),
    'an array of bytes': (size) => compound(0xf0, size, Buffer.concat([Buffer.of(0x50), repeated(size, '07')])),
    'a map of many keys': (size) => mapOf(Math.floor(size / 6), numbered),
    'a map of many texts': (size) =>
      mapOf(Math.floor(size / 9), (n) => Buffer.from(`\xa1\x06${String(n).padStart(6, 'x')}`, 'latin1')),
    'a map with a map as key, 120 deep': (size) => keyInKey(120, mapOf(Math.floor(size / 6), numbered)),
    'many maps with maps as keys': (size) => {
      const count = Math.floor(size / 1300);
      return compound(0xd0, count, Buffer.concat(Array.from({ length: count }, () => keyInKey(120, Buffer.of(0x40)))));
    },
    'a text': (size) => Buffer.concat([Buffer.of(0xb1), numbered(size).subarray(1), repeated(size, '61')]),
  };

  for (const name of Object.keys(inputs)) {
    it(`takes steps in proportion to the bytes: ${name}`, () => {
      for (const size of [10_000, 40_000, 160_000]) {
        const input = inputs[name]!(size);
        const decoder = new Decoder(input, 'plain');
        try {
          decoder.value();
        } catch (error) {
          should(error).have.property('code', 'AMQP_DECODE');
        }
        // Of values and of keys that are compared; those of small inputs may be deeper.
        should(decoder.steps).be.below(10 * input.length + 65_536);
      }
    });
  }

  it('refuses what would take too much memory', () => {
    for (const name of Object.keys(inputs).filter((one) => !/text$|as key/.test(one))) {
      for (const style of ['plain', 'exact'] as const) {
        const allowance = new Allowance();
        allowance.left = 2 ** 17;
        const decoder = new Decoder(inputs[name]!(20_000), style, allowance);
        should(() => decoder.value()).throw({ code: 'AMQP_DECODE', message: /too much memory/ });
      }
    }
    should(() => new Decoder(inputs['a list of nulls']!(4_500_000), 'plain').value()).throw({ code: 'AMQP_DECODE' });
    should(new Decoder(inputs['a text']!(8_000_000)).value()).have.length(8_000_000);
  });

  it('counts the messages of one delivery together', () => {
    const allowance = new Allowance();
    allowance.left = 2 ** 19;
    const input = inputs['a list of nulls']!(10_000);
    for (let n = 0; n < 3; n++) new Decoder(input, 'plain', allowance).value();
    should(() => new Decoder(input, 'plain', allowance).value()).throw({ message: /too much memory/ });
  });

  it('refuses in both directions more elements of no bytes than a message may have', () => {
    should(decode(encode(NULLS(1024)))).eql(NULLS(1024));
    should(() => encode(NULLS(1025))).throw({ code: 'AMQP_BAD_MESSAGE', message: /more than 1024 nulls/ });
    should(() => encode([NULLS(600), NULLS(600)])).throw({ code: 'AMQP_BAD_MESSAGE' });
    should(() => decode(compound(0xf0, 1025, Buffer.of(0x40)))).throw({ code: 'AMQP_DECODE' });
  });

  it('refuses in both directions a map with two keys that are the same once encoded', () => {
    const map = new Map<unknown, unknown>([
      [1, 'a'],
      [{ $amqp: 'int', value: 1 }, 'b'],
    ]);
    should(() => encode(map)).throw({ code: 'AMQP_BAD_MESSAGE', message: /is there twice/ });
    for (const style of ['plain', 'exact'] as const) {
      const input = Buffer.from('c10a04 5401 40 7100000001 40'.replaceAll(' ', ''), 'hex');
      should(() => new Decoder(input, style).value()).throw({ code: 'AMQP_DECODE', message: /same key twice/ });
    }
  });

  it('refuses in both directions keys that are maps in maps, when they are large', () => {
    let key: unknown = 'x'.repeat(10_000);
    for (let level = 0; level < 100; level++) key = new Map([[key, 1]]);
    should(() => encode(key)).throw({ code: 'AMQP_BAD_MESSAGE', message: /keys that are maps or lists/ });
    let small: unknown = 'x';
    for (let level = 0; level < 100; level++) small = new Map([[small, 1]]);
    decode(encode(small));
  });
});

/** The bytes of a value that `wrap` has put into others so often. */
function nested(levels: number, innermost: string, wrap: (inner: string) => string): Buffer {
  let hex = innermost;
  for (let level = 1; level < levels; level++) hex = wrap(hex);
  return bytes(hex);
}

/** The constructor and the bytes of an element are those of a value. */
const arrayOfOne = (inner: string) => `f0${uint(inner.length / 2 + 4, 4)}00000001${inner}`;
const listOf = (inner: string) => `d0${uint(inner.length / 2 + 4, 4)}00000001${inner}`;

describe('codec, of values nested deeply', () => {
  const shapes: Record<string, [innermost: string, wrap: (inner: string) => string]> = {
    lists: ['45', listOf],
    maps: ['c10100', (inner) => `d1${uint(inner.length / 2 + 7, 4)}00000002a10161${inner}`],
    'maps in keys': ['c10100', (inner) => `d1${uint(inner.length / 2 + 5, 4)}00000002${inner}40`],
    'maps with keys that are no strings': ['c10100', (inner) => `d1${uint(inner.length / 2 + 5, 4)}0000000240${inner}`],
    'described values': ['5401', (inner) => `00a10161${inner}`],
    'described descriptors': ['5401', (inner) => `00${inner}40`],
    arrays: [arrays(1, '40')[0].replaceAll(' ', ''), arrayOfOne],
    'arrays in lists': ['45', (inner) => arrayOfOne(listOf(inner))],
  };

  for (const [name, [innermost, wrap]] of Object.entries(shapes)) {
    it(`reads ${name} 60 deep and writes them again`, () => {
      const input = nested(60, innermost, wrap);
      should(parse(encode(decode(input)))).deepEqual(parse(input));
    });

    it(`refuses ${name} 5000 deep`, () => {
      const input = nested(5000, innermost, wrap);
      should(failure(() => decode(input))).match({ code: 'AMQP_DECODE', message: /nested deeper/ });
    });

    it(`can write all ${name} that it can read`, () => {
      for (let levels = 60; ; levels++) {
        const input = nested(levels, innermost, wrap);
        let value: unknown;
        try {
          value = decode(input);
        } catch {
          return;
        }
        encode(value);
      }
    });
  }

  it('can read all lists that it can write', () => {
    for (let list: unknown[] = []; ; list = [list]) {
      let written: Buffer;
      try {
        written = encode(list);
      } catch {
        return;
      }
      decode(written);
    }
  });

  it('refuses an array whose descriptors are nested deeply', () => {
    const input = bytes(arrays(0, '00a10161'.repeat(200) + '71')[0]);
    should(failure(() => decode(input))).match({ code: 'AMQP_DECODE', message: /nested deeper/ });
  });
});

describe('codec, of arrays of nulls, which take no bytes', () => {
  it('reads as many as a peer may reasonably send', () => {
    should((decode(bytes(arrays(1000, '40')[0]), 'plain') as unknown[]).length).equal(1000);
  });

  it('refuses many such arrays that together are far larger than their bytes', () => {
    const many = 300;
    const array = arrays(1000, '40')[0].replaceAll(' ', '');
    const input = bytes(`d0${uint((array.length / 2) * many + 4, 4)}${uint(many, 4)}${array.repeat(many)}`);
    should(failure(() => decode(input))).match({ code: 'AMQP_DECODE', message: /more elements than there are/ });
  });
});

/** What is left of a payload that went through a context store, or to several nodes. */
function clonesOf(payload: unknown): unknown[] {
  return [JSON.parse(JSON.stringify(payload)), structuredClone(payload), cloneMessage({ payload }).payload];
}

/** A number of values, nested ones with it, and characters. */
function sizeOf(value: unknown): number {
  if (typeof value === 'string') return value.length;
  if (typeof value !== 'object' || value === null) return 1;
  if (Buffer.isBuffer(value)) return value.length;
  return Object.values(value).reduce<number>((sum, inner) => sum + sizeOf(inner), 1);
}

/** A whole number below a bound. */
const random = (below: number) => Math.floor(Math.random() * below);

/** One of the corpus with one to three things done to its bytes. */
function mutated(corpus: Buffer[]): Buffer {
  const pick = () => corpus[random(corpus.length)]!;
  let result = Buffer.from(pick());
  for (let times = random(3); times >= 0; times--) {
    const at = random(result.length + 1);
    const [head, tail] = [result.subarray(0, at), result.subarray(at)];
    switch (random(6)) {
      case 0:
        if (tail.length) tail[0]! ^= 1 << random(8);
        break;
      case 1:
        if (tail.length) tail[0] = random(256);
        break;
      case 2:
        result = Buffer.from(head);
        break;
      case 3:
        result = Buffer.concat([head, tail.subarray(1 + random(4))]);
        break;
      case 4:
        result = Buffer.concat([head, Buffer.from([random(256)]), tail]);
        break;
      default:
        result = Buffer.concat([head, pick(), tail]);
    }
  }
  return result;
}

function failure(run: () => unknown): AmqpError {
  try {
    run();
  } catch (error) {
    return error as AmqpError;
  }
  throw new Error('did not fail');
}
