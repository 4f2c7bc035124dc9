import { DESCRIPTOR, DESCRIPTOR_OF } from '../codec/codes';
import { Decoder } from '../codec/decoder';
import { Encoder } from '../codec/encoder';
import { amqpError, type PeerError } from '../errors';
import { bareOf, bytesOf as binaryOf, isPlainObject, type Notation } from '../codec/notation';

/** An outcome (3.4), in the words of `msg.settle`. */
export type Outcome =
  /** `transaction`: its id; the outcome counts once that is committed (4.4.2). */
  | { settle: 'accept'; transaction?: Buffer }
  | { settle: 'release' }
  | { settle: 'reject'; error?: PeerError }
  | { settle: 'modify'; undeliverableHere?: boolean; annotations?: Record<string, unknown> };

/** Conditions of Azure's services for what they do not take for now, and are to be asked again. */
const BUSY = new Set([
  'com.microsoft:server-busy',
  'com.microsoft:timeout',
  'com.microsoft:operation-cancelled',
  'com.microsoft:container-close',
]);

/** Whether a peer refuses what it would take a little later. */
export function isBusy({ condition }: PeerError): boolean {
  return condition !== undefined && BUSY.has(condition);
}

const SYMBOL = /^[\x20-\x7e]+$/;
/** The longest condition and description, in characters. */
const [LONGEST_CONDITION, LONGEST_DESCRIPTION] = [255, 1000];
/** Bytes of a disposition beside its state. */
const HEAD = 40;

const ACCEPTED = stateFor(DESCRIPTOR.accepted, []);
const RELEASED = stateFor(DESCRIPTOR.released, []);

/**
 * The outcome encoded, to fit a frame of at most `limit` bytes. Throws AMQP_BAD_INPUT for what cannot be sent: a larger
 * frame would cost the connection (2.3.2).
 */
export function stateOf(outcome: Outcome, limit: number): Buffer {
  switch (outcome.settle) {
    case 'accept':
      return outcome.transaction ? stateIn(outcome.transaction, described(DESCRIPTOR.accepted, [])) : ACCEPTED;
    case 'release':
      return RELEASED;
    case 'modify': {
      const annotations = mapOf(outcome.annotations, 'msg.annotations', limit);
      return stateFor(DESCRIPTOR.modified, [true, outcome.undeliverableHere ?? false, annotations]);
    }
    default:
      return stateFor(DESCRIPTOR.rejected, outcome.error ? [errorOf(outcome.error, limit)] : []);
  }
}

/** Condition and description of an error (2.8.14) that a flow gives. Throws AMQP_BAD_INPUT for what cannot be sent. */
export function checkedError(error: unknown): { condition: string; description?: string } {
  if (typeof error !== 'object' || error === null) throw amqpError('AMQP_BAD_INPUT.object', { path: 'msg.error' });
  const { condition, description } = error as { condition?: unknown; description?: unknown };
  if (typeof condition !== 'string' || !SYMBOL.test(condition) || condition.length > LONGEST_CONDITION)
    throw amqpError('AMQP_BAD_INPUT.condition', { longest: LONGEST_CONDITION });
  if (description === undefined) return { condition };
  if (typeof description !== 'string') throw amqpError('AMQP_BAD_INPUT.description');
  return { condition, description: description.slice(0, LONGEST_DESCRIPTION).toWellFormed() };
}

function errorOf(error: PeerError, limit: number): Notation {
  const { condition, description } = checkedError(error);
  const { info } = error;
  const map = mapOf(info, 'msg.error.info', limit - condition.length);
  // Of text that goes on and on, what it begins with is enough; a character takes up to three bytes of UTF-8.
  const room = Math.floor((limit - HEAD - condition.length - (map ? bytesOf(map).length : 0)) / 3) - 10;
  // Cut again, it may end in half a character.
  const text = description?.slice(0, Math.max(0, room)).toWellFormed();
  return described(DESCRIPTOR.error, [{ $amqp: 'symbol', value: condition }, text, map]);
}

/** A map with keys that are symbols (2.8.13). */
function mapOf(map: unknown, path: string, limit: number): Notation | undefined {
  if (map === undefined || map === null) return undefined;
  if (!isPlainObject(map)) throw amqpError('AMQP_BAD_INPUT.object', { path });
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
    throw amqpError('AMQP_BAD_INPUT.map', { text: (error as Error).message });
  }
  if (size > limit - HEAD) throw amqpError('AMQP_BAD_INPUT.size', { path, size });
  return notation;
}

function described(descriptor: number, fields: unknown[]): Notation {
  return { $amqp: 'described', descriptor: { $amqp: 'ulong', value: descriptor }, value: fields };
}

/** The state of what belongs to a transaction (4.5.8), encoded; with its outcome where it was received. */
export function stateIn(transaction: Buffer, outcome?: Notation): Buffer {
  const id = { $amqp: 'binary', value: transaction };
  return stateFor(DESCRIPTOR.transactional, outcome ? [id, outcome] : [id]);
}

function bytesOf(value: unknown): Buffer {
  const encoder = new Encoder();
  encoder.value(value);
  return encoder.finish();
}

function stateFor(descriptor: number, fields: unknown[]): Buffer {
  return bytesOf(described(descriptor, fields));
}

/** What a peer made of a message (3.4). */
export interface RemoteOutcome {
  state: 'accepted' | 'rejected' | 'released' | 'modified';
  error?: PeerError;
  /** Of `modified`: it is not to be sent there again. */
  isUndeliverable?: boolean;
}

const REMOTE_ACCEPTED: RemoteOutcome = { state: 'accepted' };

/** Reads an outcome, which was checked as a frame. Undefined: it is none that says something of a message. */
export function readOutcome(descriptor: number | undefined, bytes: Buffer): RemoteOutcome | undefined {
  switch (descriptor) {
    case DESCRIPTOR.accepted:
      return REMOTE_ACCEPTED;
    case DESCRIPTOR.rejected:
      return { state: 'rejected', error: readError(fieldsOf(bytes)[0]) };
    case DESCRIPTOR.released:
      return { state: 'released' };
    case DESCRIPTOR.modified:
      return { state: 'modified', isUndeliverable: fieldsOf(bytes)[1] === true };
    case DESCRIPTOR.transactional:
      return outcomeIn(fieldsOf(bytes)[1]);
    default:
      return undefined;
  }
}

/** The outcome that a message of a transaction has in it. */
function outcomeIn(outcome: unknown): RemoteOutcome | undefined {
  const { descriptor } = (outcome ?? {}) as Partial<Notation>;
  const given = bareOf(descriptor);
  const code = typeof given === 'string' ? DESCRIPTOR_OF[given] : Number(given);
  return code === DESCRIPTOR.transactional ? undefined : readOutcome(code, bytesOf(outcome));
}

/** The id of a transaction that the peer has begun (4.5.6); undefined: it has not. */
export function transactionIn(descriptor: number | undefined, bytes: Buffer): Buffer | undefined {
  return descriptor === DESCRIPTOR.declared ? binaryOf(fieldsOf(bytes)[0]) : undefined;
}

function fieldsOf(bytes: Buffer): unknown[] {
  try {
    return listIn(new Decoder(bytes, 'plain').value());
  } catch {
    // The outcome counts, also when what it says beside cannot be read, as a map with equal keys.
    return [];
  }
}

function listIn(value: unknown): unknown[] {
  const { value: fields } = (value ?? {}) as Partial<Notation>;
  return Array.isArray(fields) ? fields : [];
}

function readError(value: unknown): PeerError | undefined {
  if (!value) return undefined;
  const [condition, description, info] = listIn(value);
  return {
    condition: typeof condition === 'string' ? condition : undefined,
    description: typeof description === 'string' ? description : undefined,
    info: info ?? undefined,
  };
}
