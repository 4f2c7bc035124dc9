import rhea from 'rhea';
import { Encoder } from '../codec/encoder';
import { AmqpError, type PeerError } from '../errors';
import { isPlainObject, type Notation } from '../codec/notation';

/** An outcome (3.4), in the words of `msg.settle`. */
export type Outcome =
  | { settle: 'accept' | 'release' }
  | { settle: 'reject'; error?: PeerError }
  | { settle: 'modify'; undeliverableHere?: boolean; annotations?: Record<string, unknown> };

const SYMBOL = /^[\x20-\x7e]+$/;
/** The longest condition and description, in characters. */
const [LONGEST_CONDITION, LONGEST_DESCRIPTION] = [255, 1000];
/** Bytes of a disposition beside its state. */
const HEAD = 40;

const ACCEPTED = stateFor(0x24, []);
const RELEASED = stateFor(0x26, []);

/**
 * The outcome as rhea writes it, in a frame of at most `limit` bytes. Throws AMQP_BAD_INPUT for what cannot be sent: rhea
 * would garble it, or throw once the message is out of reach (R24), and a larger frame would cost the connection (2.3.2).
 */
export function stateOf(outcome: Outcome, limit: number): unknown {
  switch (outcome.settle) {
    case 'accept':
      return ACCEPTED;
    case 'release':
      return RELEASED;
    case 'modify': {
      const annotations = mapOf(outcome.annotations, 'msg.annotations', limit);
      return stateFor(0x27, [true, outcome.undeliverableHere ?? false, annotations]);
    }
    default:
      return stateFor(0x25, outcome.error ? [errorOf(outcome.error, limit)] : []);
  }
}

function errorOf(error: PeerError, limit: number): Notation {
  const { condition, description, info } = error as { condition: unknown; description: unknown; info: unknown };
  if (typeof condition !== 'string' || !SYMBOL.test(condition) || condition.length > LONGEST_CONDITION)
    throw badInput(`msg.error.condition is not ASCII text of at most ${LONGEST_CONDITION} characters`);
  if (description !== undefined && typeof description !== 'string')
    throw badInput('msg.error.description is not a string');
  const map = mapOf(info, 'msg.error.info', limit - condition.length);
  // Of text that goes on and on, what it begins with is enough; a character takes up to three bytes of UTF-8.
  const room = Math.floor((limit - HEAD - condition.length - (map ? bytesOf(map).length : 0)) / 3) - 10;
  const text = description?.slice(0, Math.max(0, Math.min(LONGEST_DESCRIPTION, room))).toWellFormed();
  return described(0x1d, [{ $amqp: 'symbol', value: condition }, text, map]);
}

/** A map with keys that are symbols (2.8.13). */
function mapOf(map: unknown, path: string, limit: number): Notation | undefined {
  if (map === undefined || map === null) return undefined;
  if (!isPlainObject(map)) throw badInput(`${path} is not an object`);
  const pairs = Object.entries(map).filter(([, value]) => value !== undefined);
  const notation: Notation = {
    $amqp: 'map',
    value: pairs.map(([key, value]) => [{ $amqp: 'symbol', value: key }, value]),
  };
  let size: number;
  try {
    const encoder = new Encoder(path);
    encoder.map(pairs, 'symbol');
    size = encoder.finish().length;
  } catch (error) {
    throw badInput((error as Error).message);
  }
  if (size > limit - HEAD) throw badInput(`${path} takes ${size} bytes, more than the peer takes in one frame`);
  return notation;
}

function described(descriptor: number, fields: unknown[]): Notation {
  return { $amqp: 'described', descriptor: { $amqp: 'ulong', value: descriptor }, value: fields };
}

function bytesOf(value: unknown): Buffer {
  const encoder = new Encoder();
  encoder.value(value);
  return encoder.finish();
}

/** rhea reads what we have encoded, and writes it again as it is. */
function stateFor(descriptor: number, fields: unknown[]): unknown {
  const { Reader } = rhea.types as unknown as { Reader: new (bytes: Buffer) => { read(): unknown } };
  return new Reader(bytesOf(described(descriptor, fields))).read();
}

function badInput(text: string): AmqpError {
  return new AmqpError('AMQP_BAD_INPUT', text);
}
