import should from 'should';
import type { AmqpError } from '../../../../nodes/lib/errors';
import {
  type Outcome,
  readOutcome,
  type RemoteOutcome,
  stateIn,
  stateOf,
  transactionIn,
} from '../../../../nodes/lib/wire/outcome';

const written = (outcome: Outcome, limit = Infinity): Buffer => stateOf(outcome, limit);
const hex = (outcome: Outcome): string => written(outcome).toString('hex');

function refusal(outcome: unknown, limit = Infinity): string {
  try {
    stateOf(outcome as Outcome, limit);
  } catch (error) {
    const { code, message } = error as AmqpError;
    should(code).equal('AMQP_BAD_INPUT');
    return message;
  }
  throw new Error('was taken');
}

const reject = (error: object): Outcome => ({ settle: 'reject', error });
const modify = (annotations: Record<string, unknown>): Outcome => ({ settle: 'modify', annotations });

describe('an outcome', () => {
  it('is written as the specification has it (3.4)', () => {
    should(hex({ settle: 'accept' })).equal('00532445');
    should(hex({ settle: 'release' })).equal('00532645');
    should(hex({ settle: 'reject' })).equal('00532545');
    should(hex(reject({ condition: 'a', description: 'b' }))).equal('005325c00e0100531dc00803a30161a1016240');
    should(hex({ settle: 'modify' })).equal('005327c00403414240');
    should(hex({ settle: 'modify', undeliverableHere: true })).equal('005327c00403414140');
  });

  it('has annotations with symbols as keys, and values of all types', () => {
    const map = hex(modify({ 'x-a': 1, 'x-b': { $amqp: 'ulong', value: '18446744073709551615' }, 'x-c': [true] }));
    should(map).endWith('c11f06a303782d615401a303782d6280ffffffffffffffffa303782d63c0020141');
    should(hex(modify({ 'x-big': 2n ** 63n - 1n, 'x-tiny': 1e300 }))).containEql('817fffffffffffffff');
    should(hex(modify({ 'x-none': undefined }))).endWith('c10100');
  });

  for (const [what, outcome, text] of [
    ['a number beyond 64 bits', modify({ 'x-a': 2n ** 64n }), /msg\.annotations\["x-a"\] is out of range/],
    [
      'a number that AMQP has not',
      reject({ condition: 'a', info: { b: { $amqp: 'int', value: 1e10 } } }),
      /info\["b"\]/,
    ],
    ['a key that is no symbol', modify({ 'x-grün': 1 }), /msg\.annotations\["x-grün"\]/],
    ['what is no map', modify(5 as never), /msg\.annotations is not an object/],
    ['a condition that is no symbol', reject({ condition: 'grün' }), /msg\.error\.condition/],
    ['a condition that is too long', reject({ condition: 'x'.repeat(256) }), /msg\.error\.condition/],
    ['a description that is no text', reject({ condition: 'a', description: 5 }), /msg\.error\.description/],
  ] as const) {
    it(`is refused for ${what}`, () => {
      should(refusal(outcome)).match(text);
    });
  }

  for (const limit of [512, 4096, 65_536]) {
    it(`fits a frame of ${limit} bytes: its description is cut, and what cannot be cut is refused`, () => {
      const error = { condition: 'a', description: '€'.repeat(100_000) };
      should(written(reject(error), limit).length).be.within(300, limit - 35);
      const info = { a: 'x'.repeat(limit - 100) };
      should(written(reject({ ...error, info }), limit).length).be.within(limit - 100, limit - 20);
      should(refusal(reject({ ...error, info: { a: 'x'.repeat(limit) } }), limit)).match(
        /msg\.error\.info takes \d+ bytes/,
      );
      should(refusal(modify({ 'x-a': 'x'.repeat(limit) }), limit)).match(/msg\.annotations takes \d+ bytes/);
    });
  }

  it('has no half of a character in its description', () => {
    const description = '😀'.repeat(1000);
    for (let pad = 0; pad < 4; pad++) {
      const bytes = written(reject({ condition: 'a', description: 'x'.repeat(pad) + description }), 512);
      should(bytes.toString()).not.containEql('\ufffd\ufffd');
    }
  });
});

const bytes = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

function read(outcome: string): RemoteOutcome | undefined {
  const fields = bytes(`02 a0020102 ${outcome}`);
  return readOutcome(0x34, Buffer.concat([bytes('005334 c0'), Buffer.of(fields.length), fields]));
}

describe('the state of what belongs to a transaction', () => {
  const id = Buffer.from('0102', 'hex');

  it('is written as the specification has it (4.5.8)', () => {
    should(stateIn(id).toString('hex')).equal('005334c00501a0020102');
    should(hex({ settle: 'accept', transaction: id })).equal('005334c00902a002010200532445');
    should(hex({ settle: 'accept', transaction: Buffer.alloc(32, 1) })).match(/^005334c02702a020(01){32}00532445$/);
  });

  it('is read with the outcome in it', () => {
    should(read('00532445')).eql({ state: 'accepted' });
    should(read('00532645')).eql({ state: 'released' });
    should(read('005325 c0 0a 01 00531d c0 04 01 a3 01 61')).match({
      state: 'rejected',
      error: { condition: 'a' },
    });
    should(read('005327 c0 03 02 41 41')).match({ state: 'modified', isUndeliverable: true });
    // By name, in place of its number.
    should(read('00 a3 12 616d71703a61636365707465643a6c697374 45')).eql({ state: 'accepted' });
  });

  it('says nothing without an outcome, or with what is none', () => {
    should(readOutcome(0x34, stateIn(id))).equal(undefined);
    for (const none of ['40', '43', '45', '00533445', '00533345', 'a10161']) should(read(none)).equal(undefined, none);
    should(readOutcome(0x34, bytes('00533445'))).equal(undefined);
  });

  it('has an id only where the peer has begun one (4.5.6)', () => {
    should(transactionIn(0x33, bytes('005333 c0 05 01 a0020102'))).eql(id);
    should(transactionIn(0x24, bytes('00532445'))).equal(undefined);
    should(transactionIn(0x25, bytes('00532545'))).equal(undefined);
    for (const bad of ['00533345', '005333 c0 02 01 40', '005333 c0 04 01 a1 01 61'])
      should(transactionIn(0x33, bytes(bad))).equal(undefined, bad);
  });
});
