import { Allowance, COST } from '../codec/decoder';
import { amqpError, messageOf } from '../errors';
import { MAX_DEPTH } from '../codec/notation';

/** A value as JSON. Throws AMQP_BAD_MESSAGE, which begins with the path, when it cannot be written or read again. */
export function writeJson(value: unknown, path: string): Buffer {
  let text: string | undefined;
  try {
    text = JSON.stringify(value ?? null) as string | undefined;
  } catch (error) {
    const [reason = ''] = messageOf(error).split('\n');
    throw amqpError('AMQP_BAD_MESSAGE.json', { path, reason }, { cause: error });
  }
  if (text === undefined) throw amqpError('AMQP_BAD_MESSAGE.no-json', { path, type: typeof value });
  const bytes = Buffer.from(text);
  const excess = excessOf(bytes);
  if (excess) throw amqpError('AMQP_BAD_MESSAGE.json', { path, reason: excess });
  return bytes;
}

/** Throws AMQP_DECODE, which begins with `what` the bytes are. */
export function parseJson(bytes: Buffer, what: string): unknown {
  const excess = excessOf(bytes);
  if (excess) throw amqpError('AMQP_DECODE.json-refused', { what, reason: excess });
  try {
    return JSON.parse(bytes.toString()) as unknown;
  } catch (error) {
    throw amqpError('AMQP_DECODE.json', { what, reason: (error as Error).message }, { cause: error });
  }
}

/**
 * Why bytes are not to be taken for JSON: nested too deeply for all who have to copy the value (Node-RED does for each
 * further wire), or of too many values for the memory. They are bounded as those of AMQP are. Undefined: nothing is wrong.
 */
function excessOf(bytes: Buffer): string | undefined {
  if (bytes.length < ALWAYS_FITS && hasFewBrackets(bytes)) return undefined;
  let { left } = new Allowance();
  let depth = 0;
  for (let at = 0; at < bytes.length; at++) {
    switch (bytes[at]) {
      case QUOTE:
        left -= COST.text;
        while (++at < bytes.length && bytes[at] !== QUOTE) if (bytes[at] === BACKSLASH) at++;
        break;
      case COMMA:
        left -= COST.value;
        break;
      case BRACKET:
      case BRACE:
        left -= COST.container;
        if (++depth > MAX_DEPTH) return `it is nested deeper than ${MAX_DEPTH}`;
        break;
      case BRACKET_END:
      case BRACE_END:
        depth--;
        break;
      default:
    }
  }
  return left < 0 ? 'it has too many values' : undefined;
}

/** Bytes of which no JSON can take too much memory, whatever its values. */
const ALWAYS_FITS = new Allowance().left / COST.container;

/** Whether there are too few brackets for a value that is nested too deeply, those in texts counted too: found natively. */
function hasFewBrackets(bytes: Buffer): boolean {
  let count = 0;
  for (const bracket of [BRACKET, BRACE]) {
    for (let at = bytes.indexOf(bracket!); at >= 0; at = bytes.indexOf(bracket!, at + 1)) {
      if (++count > MAX_DEPTH) return false;
    }
  }
  return true;
}

const [QUOTE, COMMA, BRACKET, BACKSLASH, BRACKET_END, BRACE, BRACE_END] = [...Buffer.from('",[\\]{}')];
