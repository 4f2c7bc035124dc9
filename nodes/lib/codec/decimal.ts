/**
 * Decimal numbers as text <-> the IEEE 754-2008 interchange bytes in binary integer decimal encoding (AMQP 1.0, 1.6.13-15).
 * The text is that of the General Decimal Arithmetic specification ("1.20", "1E+3", "NaN7"), which keeps sign,
 * coefficient and exponent apart, so nothing is rounded.
 */
interface Format {
  bytes: 4 | 8 | 16;
  digits: number;
  /** Smallest exponent of the integer coefficient is `-bias`, the largest is `most`. */
  bias: number;
  most: number;
  exponentBits: bigint;
}

const FORMATS: Record<4 | 8 | 16, Format> = {
  4: { bytes: 4, digits: 7, bias: 101, most: 90, exponentBits: 8n },
  8: { bytes: 8, digits: 16, bias: 398, most: 369, exponentBits: 10n },
  16: { bytes: 16, digits: 34, bias: 6176, most: 6111, exponentBits: 14n },
};

/** More than enough for the smallest number written without exponent. */
const MAX_LENGTH = 10_000;

const TEXT = /^([+-])?(?:(\d+)(?:\.(\d*))?|\.(\d+))(?:[eE]([+-]?\d{1,6}))?$/;
const SPECIAL = /^([+-])?(?:(inf(?:inity)?)|(s)?nan(\d*))$/i;

/** The bytes of `text`. Throws RangeError when it is no decimal number or does not fit without rounding. */
export function decimalToBytes(text: string, bytes: 4 | 8 | 16): Buffer {
  const { digits, bias, most, exponentBits } = FORMATS[bytes];
  const width = BigInt(bytes * 8);
  if (text.length > MAX_LENGTH) throw new RangeError('is too long a number');
  const special = SPECIAL.exec(text);
  if (special) {
    const [, sign, infinity, signaling, payload = ''] = special;
    const combination = infinity ? 0b11110n << 1n : (0b11111n << 1n) | (signaling ? 1n : 0n);
    // sign, then five combination bits and the signaling bit
    const head = ((sign === '-' ? 1n : 0n) << 6n) | combination;
    const diagnostic = BigInt(payload || 0);
    if (diagnostic >= 10n ** BigInt(digits - 1)) throw new RangeError(`NaN payload has more than ${digits - 1} digits`);
    return toBytes((head << (width - 7n)) | diagnostic, bytes);
  }
  const number = TEXT.exec(text);
  if (!number) throw new RangeError('is not a decimal number');
  const [, sign, whole = '', fraction = number[4] ?? '', , power = '0'] = number;
  let coefficient = BigInt(whole + fraction || 0);
  let exponent = Number(power) - fraction.length;
  // Zeros may move between coefficient and exponent when only so the number fits.
  while (coefficient >= 10n ** BigInt(digits) && coefficient % 10n === 0n) {
    coefficient /= 10n;
    exponent++;
  }
  while (exponent < -bias && coefficient % 10n === 0n && coefficient > 0n) {
    coefficient /= 10n;
    exponent++;
  }
  while (exponent > most && coefficient > 0n && coefficient * 10n < 10n ** BigInt(digits)) {
    coefficient *= 10n;
    exponent--;
  }
  if (coefficient === 0n) exponent = Math.max(-bias, Math.min(most, exponent));
  if (coefficient >= 10n ** BigInt(digits)) throw new RangeError(`has more than ${digits} digits`);
  if (exponent < -bias || exponent > most) throw new RangeError('has an exponent out of range');

  const biased = BigInt(exponent + bias);
  const small = width - 1n - exponentBits;
  const signBit = (sign === '-' ? 1n : 0n) << (width - 1n);
  if (coefficient < 1n << small) return toBytes(signBit | (biased << small) | coefficient, bytes);
  // The coefficient's three leading bits are 100: they are implied by "11" after the sign.
  const large = small - 2n;
  return toBytes(signBit | (0b11n << (width - 3n)) | (biased << large) | (coefficient & ((1n << large) - 1n)), bytes);
}

/** The text of the decimal number in `buffer` (4, 8 or 16 bytes). */
export function decimalFromBytes(buffer: Buffer): string {
  const bytes = buffer.length as 4 | 8 | 16;
  const { digits, bias, exponentBits } = FORMATS[bytes];
  const width = BigInt(bytes * 8);
  const bits = BigInt(`0x${buffer.toString('hex')}`);
  const sign = bits >> (width - 1n) ? '-' : '';
  const combination = (bits >> (width - 6n)) & 0b11111n;
  if (combination === 0b11110n) return `${sign}Infinity`;
  const small = width - 1n - exponentBits;
  if (combination === 0b11111n) {
    const signaling = (bits >> (width - 7n)) & 1n;
    const payload = bits & ((1n << (small - 3n)) - 1n);
    const valid = payload > 0n && payload < 10n ** BigInt(digits - 1);
    return `${sign}${signaling ? 's' : ''}NaN${valid ? payload : ''}`;
  }
  const isLarge = combination >> 3n === 0b11n;
  const field = isLarge ? small - 2n : small;
  const exponent = Number((bits >> field) & ((1n << exponentBits) - 1n)) - bias;
  let coefficient = bits & ((1n << field) - 1n);
  if (isLarge) coefficient |= 0b100n << field;
  // A coefficient beyond the precision is not canonical and means zero (IEEE 754-2008, 3.5.2).
  if (coefficient >= 10n ** BigInt(digits)) coefficient = 0n;
  return sign + scientific(coefficient.toString(), exponent);
}

/** "to-scientific-string" of the General Decimal Arithmetic specification. */
function scientific(digits: string, exponent: number): string {
  const adjusted = exponent + digits.length - 1;
  if (exponent <= 0 && adjusted >= -6) {
    if (exponent === 0) return digits;
    const padded = digits.padStart(1 - exponent, '0');
    return `${padded.slice(0, exponent)}.${padded.slice(exponent)}`;
  }
  const mantissa = digits.length > 1 ? `${digits[0]}.${digits.slice(1)}` : digits;
  return `${mantissa}E${adjusted < 0 ? '' : '+'}${adjusted}`;
}

function toBytes(bits: bigint, bytes: number): Buffer {
  return Buffer.from(bits.toString(16).padStart(bytes * 2, '0'), 'hex');
}
