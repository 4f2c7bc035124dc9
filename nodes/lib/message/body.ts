/** `msg.payload` <-> the body of a message (3.2.6 to 3.2.8). Pure. */
import { types } from 'node:util';
import { bareOf, bytesOf, isNotation } from '../codec/notation';
import { amqpError } from '../errors';
import { type AmqpFields, BODY_TYPES, isPresent } from './fields';
import { parseJson, writeJson } from './json';

/** How a payload becomes a body: the default first. */
export const BODIES = ['auto', 'value', 'json', 'string', 'binary', 'cloudevent', 'cloudevent-json'] as const;
/** `bytes`: as `auto`, for peers whose clients know data sections only (Azure). Users do not choose it. */
export type BodyOption = (typeof BODIES)[number] | 'bytes';
/** How a body becomes a payload: the default first. */
export const OUTPUTS = ['auto', 'buffer', 'string', 'json', 'typed', 'cloudevent'] as const;
export type OutputOption = (typeof OUTPUTS)[number];

/** What a body is made of. */
export interface OutgoingBody {
  payload: unknown;
  /** Name of the payload in errors. */
  payloadPath: string;
  fields: AmqpFields;
  /** Name of the fields in errors. */
  fieldsPath: string;
  body: BodyOption;
}

/** A body as it was sent; undefined: none. */
export type IncomingBody =
  { type: 'data'; content: Buffer } | { type: 'value' | 'sequence'; content: unknown } | undefined;

interface Body {
  type: 'data' | 'sequence' | 'value';
  content: unknown;
  /** Set when the message gets a content type that the flow did not give. */
  contentType?: string;
}

export function bodyOf({ payload, payloadPath, fields, fieldsPath, body }: OutgoingBody): Body {
  const given = bareOf(fields.content_type);
  const jsonType = isJson(given) ? undefined : 'application/json';
  const json = (): Body => ({ type: 'data', content: writeJson(payload, payloadPath), contentType: jsonType });
  switch (fields.body_type) {
    case undefined:
    case null:
      break;
    case 'value':
      return { type: 'value', content: payload };
    case 'sequence':
      if (!Array.isArray(payload))
        throw amqpError('AMQP_BAD_MESSAGE.sequence', { path: payloadPath, fields: fieldsPath });
      return { type: 'sequence', content: payload };
    case 'data': {
      const content =
        bytesOf(payload) ?? (typeof payload === 'string' && !isJson(given) ? Buffer.from(payload) : undefined);
      if (content) return { type: 'data', content };
      if (isPresent(given) && !isJson(given)) {
        throw amqpError('AMQP_BAD_MESSAGE.data', { path: payloadPath, fields: fieldsPath });
      }
      return json();
    }
    default:
      throw amqpError('AMQP_BAD_MESSAGE.body-type', { fields: fieldsPath, types: BODY_TYPES.join(', ') });
  }
  const bytes = bytesOf(payload);
  switch (body) {
    case 'json':
      return json();
    case 'string':
      return { type: 'value', content: bytes ? bytes.toString() : toText(payload, payloadPath) };
    case 'binary':
      if (!bytes && typeof payload !== 'string') throw amqpError('AMQP_BAD_MESSAGE.binary', { path: payloadPath });
      return { type: 'data', content: bytes ?? Buffer.from(payload as string) };
    case 'bytes':
      if (bytes) return { type: 'data', content: bytes };
      if (payload === undefined || payload === null || isNotation(payload)) return { type: 'value', content: payload };
      if (typeof payload !== 'string' || isJson(given)) return json();
      return {
        type: 'data',
        content: Buffer.from(payload),
        contentType: isPresent(given) ? undefined : 'text/plain; charset=utf-8',
      };
    case 'auto':
      if (bytes) return { type: 'data', content: bytes };
      return isJson(given) ? json() : { type: 'value', content: payload };
    default:
      return { type: 'value', content: payload };
  }
}

function toText(payload: unknown, path: string): string {
  if (payload === undefined || payload === null) return '';
  if (typeof payload === 'string' || typeof payload === 'bigint' || typeof payload === 'number') return String(payload);
  // One that is no point in time is null in JSON.
  if (types.isDate(payload) && !Number.isNaN(payload.getTime())) return payload.toISOString();
  if (isNotation(payload) && typeof payload.value === 'string') return payload.value;
  return writeJson(payload, path).toString();
}

/**
 * The payload for a body. Throws AMQP_DECODE for JSON that does not parse; the raw body can be had with 'buffer' then.
 */
export function payloadOf({ body, fields }: { body: IncomingBody; fields: AmqpFields }, output: OutputOption): unknown {
  if (!body) return null;
  const { content_type: type, content_encoding: encoding } = fields;
  if (body.type === 'data') {
    const { content } = body;
    if (output === 'string') return content.toString();
    if (output === 'json') return parseJson(content, 'the body');
    if ((output !== 'auto' && output !== 'cloudevent') || isPresent(encoding)) return content;
    if (isJson(type)) return parseJson(content, 'the body');
    return isText(type) ? asUtf8(content) : content;
  }
  const { content } = body;
  switch (output) {
    case 'buffer':
      return bytesOf(content) ?? Buffer.from(toText(content, 'the body'));
    case 'string':
      return bytesOf(content)?.toString() ?? toText(content, 'the body');
    case 'json': {
      const bytes = typeof content === 'string' ? Buffer.from(content) : bytesOf(content);
      return bytes ? parseJson(bytes, 'the body') : content;
    }
    default:
      return content;
  }
}

/** Text when it is UTF-8; the bytes as they are when it is not, so that nothing is lost. */
function asUtf8(content: Buffer): string | Buffer {
  const text = content.toString();
  return Buffer.byteLength(text) === content.length && Buffer.from(text).equals(content) ? text : content;
}

function isJson(contentType: unknown): boolean {
  return typeof contentType === 'string' && /^\s*application\/(?:[\w.-]+\+)?json\s*(?:;|$)/i.test(contentType);
}

function isText(contentType: unknown): boolean {
  if (typeof contentType !== 'string') return false;
  const charset = /;\s*charset\s*=\s*"?([^\s;"]+)/i.exec(contentType)?.[1]?.toLowerCase();
  if (charset && !['utf-8', 'utf8', 'us-ascii', 'ascii'].includes(charset)) return false;
  return /^\s*(?:text\/|application\/(?:[\w.-]+\+)?xml\s*(?:;|$))/i.test(contentType);
}
