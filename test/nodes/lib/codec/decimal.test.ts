import * as fc from 'fast-check';
import should from 'should';
import { decimalFromBytes, decimalToBytes } from '../../../../nodes/lib/codec/decimal';

const toHex = (text: string, bytes: 4 | 8 | 16) => decimalToBytes(text, bytes).toString('hex');
const fromHex = (hex: string) => decimalFromBytes(Buffer.from(hex, 'hex'));

/** Text and bits in binary integer decimal encoding, from IEEE 754-2008 and the tables of Intel's decimal library. */
const VECTORS: [text: string, hex: string][] = [
  ['0', '32800000'],
  ['-0', 'b2800000'],
  ['1', '32800001'],
  ['-1', 'b2800001'],
  ['0.1', '32000001'],
  ['1.20', '31800078'],
  ['1E+3', '34000001'],
  ['0.00', '31800000'],
  ['0E+2', '33800000'],
  // the largest coefficient of the first form, the smallest and the largest of the second
  ['8388607', '32ffffff'],
  ['8388608', '6ca00000'],
  ['9999999', '6cb8967f'],
  ['9.999999E+96', '77f8967f'],
  ['-9.999999E+96', 'f7f8967f'],
  ['1E-101', '00000001'],
  ['1.000000E-95', '000f4240'],
  ['Infinity', '78000000'],
  ['-Infinity', 'f8000000'],
  ['NaN', '7c000000'],
  ['-NaN', 'fc000000'],
  ['sNaN', '7e000000'],
  ['NaN123', '7c00007b'],
  ['sNaN999999', '7e0f423f'],

  ['0', '31c0000000000000'],
  ['-0', 'b1c0000000000000'],
  ['1', '31c0000000000001'],
  ['3.14', '318000000000013a'],
  ['9007199254740991', '31dfffffffffffff'],
  ['9007199254740992', '6c70000000000000'],
  ['9.999999999999999E+384', '77fb86f26fc0ffff'],
  ['1E-398', '0000000000000001'],
  ['-Infinity', 'f800000000000000'],
  ['NaN', '7c00000000000000'],

  ['0', '30400000000000000000000000000000'],
  ['-0', 'b0400000000000000000000000000000'],
  ['1', '30400000000000000000000000000001'],
  ['-1.5', 'b03e000000000000000000000000000f'],
  ['9.999999999999999999999999999999999E+6144', '5fffed09bead87c0378d8e63ffffffff'],
  ['1E-6176', '00000000000000000000000000000001'],
  ['Infinity', '78000000000000000000000000000000'],
  ['sNaN', '7e000000000000000000000000000000'],
];

describe('decimal', () => {
  for (const [text, hex] of VECTORS) {
    it(`writes decimal${hex.length * 4} ${text} as ${hex}, and reads it back`, () => {
      toHex(text, (hex.length / 2) as 4 | 8 | 16).should.equal(hex);
      fromHex(hex).should.equal(text);
    });
  }

  it('gives numbers the text of the General Decimal Arithmetic specification', () => {
    // its own examples, of coefficient 123 and exponents from 3 to -10, and of zeros
    const examples = {
      '123': '123',
      '-123': '-123',
      '123E1': '1.23E+3',
      '123E3': '1.23E+5',
      '123E-1': '12.3',
      '123E-5': '0.00123',
      '123E-10': '1.23E-8',
      '-123E-12': '-1.23E-10',
      '0E-2': '0.00',
      '0E-7': '0E-7',
      '5E-6': '0.000005',
      '50E-7': '0.0000050',
      '5E-7': '5E-7',
    };
    for (const [given, text] of Object.entries(examples)) {
      for (const bytes of [4, 8, 16] as const) decimalFromBytes(decimalToBytes(given, bytes)).should.equal(text);
    }
  });

  it('takes text in any usual form', () => {
    const one = '32800001';
    for (const text of ['1', '+1', '01', '1.', '1e0', '1E+0', '1E-0']) toHex(text, 4).should.equal(one);
    toHex('.5', 4).should.equal('32000005');
    for (const text of ['inf', '+Infinity', 'INF']) toHex(text, 4).should.equal('78000000');
    for (const text of ['nan', 'NAN', '+NaN']) toHex(text, 4).should.equal('7c000000');
  });

  it('moves zeros between coefficient and exponent when only so a number fits', () => {
    fromHex(toHex('10000000', 4)).should.equal('1.000000E+7');
    fromHex(toHex('1E+96', 4)).should.equal('1.000000E+96');
    fromHex(toHex('10E-102', 4)).should.equal('1E-101');
    fromHex(toHex('0E+200', 4)).should.equal('0E+90');
    fromHex(toHex('-0E-200', 4)).should.equal('-0E-101');
  });

  it('refuses what it would have to round', () => {
    const refused: [string, 4 | 8 | 16, RegExp][] = [
      ['12345678', 4, /more than 7 digits/],
      ['1.0000001', 4, /more than 7 digits/],
      ['12345678901234567', 8, /more than 16 digits/],
      ['12345678901234567890123456789012345', 16, /more than 34 digits/],
      ['1E+97', 4, /exponent out of range/],
      ['1E-102', 4, /exponent out of range/],
      ['12E-102', 4, /exponent out of range/],
      ['1E+385', 8, /exponent out of range/],
      ['1E+6145', 16, /exponent out of range/],
      ['NaN1000000', 4, /payload has more than 6 digits/],
    ];
    for (const [text, bytes, message] of refused)
      should(() => decimalToBytes(text, bytes)).throw(RangeError, { message });
  });

  it('refuses at once what is far too long', () => {
    should(() => decimalToBytes(`1${'0'.repeat(100_000)}`, 16)).throw(RangeError);
    should(() => decimalToBytes(`0.${'1'.repeat(100_000)}`, 16)).throw(RangeError);
  });

  it('refuses what is no decimal number', () => {
    for (const text of ['', ' ', 'one', '1.2.3', '--1', '1e', '0x10', '1,5', ' 1', '.', 'Infinity1', '1E9999999']) {
      should(() => decimalToBytes(text, 16)).throw(RangeError, { message: 'is not a decimal number' });
    }
  });

  it('reads a coefficient beyond the precision as zero', () => {
    // one more than the largest coefficient, and the largest that the bits allow
    for (const hex of ['6cb89680', '6cbfffff']) fromHex(hex).should.equal('0');
    fromHex('ecbfffff').should.equal('-0');
    fromHex('77ffffff').should.equal('0E+90');
    fromHex('6c7386f26fc10000').should.equal('0');
    fromHex('3041ed09bead87c0378d8e6400000000').should.equal('0');
    // the second form holds no coefficient that 34 digits could hold
    fromHex('6c100000000000000000000000000001').should.equal('0');
  });

  it('reads infinities and NaN whatever their unused bits', () => {
    fromHex('7bffffff').should.equal('Infinity');
    fromHex('f8000001').should.equal('-Infinity');
    fromHex('7c0fffff').should.equal('NaN');
    fromHex('7dfffffe').should.equal('NaN');
  });

  it('keeps sign, coefficient and exponent of every number', () => {
    const formats = [
      { bytes: 4, digits: 7, bias: 101, most: 90 },
      { bytes: 8, digits: 16, bias: 398, most: 369 },
      { bytes: 16, digits: 34, bias: 6176, most: 6111 },
    ] as const;
    for (const { bytes, digits, bias, most } of formats) {
      const number = fc.record({
        sign: fc.constantFrom('', '-'),
        coefficient: fc.bigInt(0n, 10n ** BigInt(digits) - 1n),
        exponent: fc.integer({ min: -bias, max: most }),
      });
      fc.assert(
        fc.property(number, ({ sign, coefficient, exponent }) => {
          const buffer = decimalToBytes(`${sign}${coefficient}E${exponent}`, bytes);
          const text = decimalFromBytes(buffer);
          const [, minus, whole, fraction = '', power = '0'] = /^(-?)(\d+)(?:\.(\d+))?(?:E([+-]\d+))?$/.exec(text)!;
          should(minus).equal(sign);
          should(BigInt(whole + fraction)).equal(coefficient);
          should(Number(power) - fraction.length).equal(exponent);
          should(decimalToBytes(text, bytes).equals(buffer)).be.true();
        }),
        { numRuns: 1000 },
      );
    }
  });
});
