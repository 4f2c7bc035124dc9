/** A trace of frames for people: one line each, with nothing that logs in, and of messages only how many bytes they have. */
import { DESCRIPTOR } from '../codec/codes';
import { Decoder } from '../codec/decoder';
import { bareOf, isNotation, isPlainObject, type Notation } from '../codec/notation';
import { cleaned } from '../errors';

/** Performatives (2.7) and SASL frames (5.3.3): the name of each, and of its fields in their order. */
const FIELDS: Readonly<Record<number, string>> = {
  [DESCRIPTOR.open]:
    'open container-id hostname max-frame-size channel-max idle-time-out outgoing-locales incoming-locales ' +
    'offered-capabilities desired-capabilities properties',
  [DESCRIPTOR.begin]:
    'begin remote-channel next-outgoing-id incoming-window outgoing-window handle-max offered-capabilities ' +
    'desired-capabilities properties',
  [DESCRIPTOR.attach]:
    'attach name handle role snd-settle-mode rcv-settle-mode source target unsettled incomplete-unsettled ' +
    'initial-delivery-count max-message-size offered-capabilities desired-capabilities properties',
  [DESCRIPTOR.flow]:
    'flow next-incoming-id incoming-window next-outgoing-id outgoing-window handle delivery-count link-credit ' +
    'available drain echo properties',
  [DESCRIPTOR.transfer]:
    'transfer handle delivery-id delivery-tag message-format settled more rcv-settle-mode state resume aborted ' +
    'batchable',
  [DESCRIPTOR.disposition]: 'disposition role first last settled state batchable',
  [DESCRIPTOR.detach]: 'detach handle closed error',
  [DESCRIPTOR.end]: 'end error',
  [DESCRIPTOR.close]: 'close error',
  [DESCRIPTOR.saslMechanisms]: 'sasl-mechanisms sasl-server-mechanisms',
  [DESCRIPTOR.saslInit]: 'sasl-init mechanism initial-response hostname',
  [DESCRIPTOR.saslChallenge]: 'sasl-challenge challenge',
  [DESCRIPTOR.saslResponse]: 'sasl-response response',
  [DESCRIPTOR.saslOutcome]: 'sasl-outcome code additional-data',
};
/** What holds a login, or what it could be guessed from (R68). */
const MASKED = new Set(['initial-response', 'challenge', 'response', 'additional-data']);
/** Names of what stands in these fields. */
const NAMES: Record<string, string> = Object.fromEntries(
  Object.entries(DESCRIPTOR).map(([name, code]) => [String(code), name]),
);
/** Bytes of a frame that are looked at: a performative is mostly far shorter. */
const MOST = 2 ** 14;
/** Characters of a line. */
const LONGEST = 1000;

/** What one side says. */
class Side {
  readonly #tell: (frame: Buffer, size: number) => void;
  #bytes: Buffer = Buffer.alloc(0);
  /** Bytes of the present frame that are not looked at. */
  #skip = 0;

  /** `tell` gets each frame, but no more than its beginning, and how many bytes it has. */
  constructor(tell: (frame: Buffer, size: number) => void) {
    this.#tell = tell;
  }

  take(chunk: Uint8Array): void {
    let rest = Buffer.from(chunk);
    while (rest.length > 0) {
      const skipped = Math.min(this.#skip, rest.length);
      this.#skip -= skipped;
      rest = rest.subarray(skipped);
      const size = this.#sizeOf(rest);
      if (size === undefined) {
        this.#bytes = Buffer.concat([this.#bytes, rest]);
        return;
      }
      const all = Buffer.concat([this.#bytes, rest]);
      const wanted = Math.min(size, MOST);
      if (all.length < wanted) {
        this.#bytes = all;
        return;
      }
      this.#bytes = Buffer.alloc(0);
      this.#tell(all.subarray(0, wanted), size);
      this.#skip = size - wanted;
      rest = all.subarray(wanted);
    }
  }

  /** Undefined: that is not known yet. */
  #sizeOf(rest: Buffer): number | undefined {
    const start = Buffer.concat([this.#bytes, rest.subarray(0, 4)]);
    if (start.length < 4) return undefined;
    // A protocol header, or what is no AMQP.
    return start.toString('latin1', 0, 4) === 'AMQP' ? 8 : Math.max(8, start.readUInt32BE(0));
  }
}

/** Takes out of a text what the peer was told in confidence, and may repeat. */
export type Mask = (text: string) => string;

export class FrameTrace {
  readonly #ours: Side;
  readonly #theirs: Side;

  /** `tell` gets each line: `-> ` or `<- `, and the frame. */
  constructor(tell: (line: string) => void, mask: Mask = (text) => text) {
    this.#ours = new Side((bytes, size) => tell(`-> ${lineOf(bytes, size, mask)}`));
    this.#theirs = new Side((bytes, size) => tell(`<- ${lineOf(bytes, size, mask)}`));
  }

  sent(bytes: Uint8Array): void {
    this.#ours.take(bytes);
  }

  received(bytes: Uint8Array): void {
    this.#theirs.take(bytes);
  }
}

function lineOf(bytes: Buffer, size: number, mask: Mask): string {
  if (bytes.toString('latin1', 0, 4) === 'AMQP') return `AMQP protocol ${bytes.subarray(4, 8).join('.')}`;
  const dataOffset = 4 * bytes[4]!;
  const channel = bytes[5] === 0 ? `channel ${bytes.readUInt16BE(6)} ` : '';
  if (size <= dataOffset) return `${channel}empty frame`;
  try {
    const decoder = new Decoder(bytes.subarray(dataOffset), 'plain');
    const code = decoder.descriptor();
    const [name, ...fields] = FIELDS[code]?.split(' ') ?? [`performative ${code}`];
    const shown: string[] = [];
    for (const [index, value] of decoder.list().entries()) {
      const field = fields[index] ?? String(index);
      if (value === null || value === undefined) continue;
      shown.push(`${field}=${MASKED.has(field) ? '(masked)' : textOf(value, mask)}`);
    }
    const payload = code === DESCRIPTOR.transfer ? ` (message: ${size - dataOffset - decoder.offset} bytes)` : '';
    return cleaned(`${channel}${name} ${shown.join(' ')}${payload}`.trim(), LONGEST);
  } catch {
    // It is shown by whoever has to make something of it.
    return `${channel}frame of ${size} bytes`;
  }
}

/** JSON, with binary in hexadecimal. A secret is masked while it is whole, and as it is: neither cut off nor escaped. */
function textOf(value: unknown, mask: Mask): string {
  const shown = (one: unknown): unknown => {
    if (typeof one === 'string') return mask(one);
    if (Buffer.isBuffer(one)) return `0x${one.toString('hex')}`;
    if (Array.isArray(one)) return one.map(shown);
    if (isNotation(one)) return shown(named(one));
    if (isPlainObject(one))
      return Object.fromEntries(Object.entries(one).map(([key, field]) => [mask(key), shown(field)]));
    return one;
  };
  return JSON.stringify(shown(value)) ?? '';
}

/** Sources, targets and outcomes by their names. */
function named({ $amqp: type, descriptor, value }: Notation): unknown {
  if (type !== 'described') return value;
  const name = String(bareOf(descriptor));
  return { [NAMES[name] ?? name]: value };
}
