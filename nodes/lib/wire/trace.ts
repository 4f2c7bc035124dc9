import type { RheaLog, RheaTransport } from './rhea';

const log: RheaLog = require('rhea/lib/log.js');

/** The fields of SASL frames (5.3.3) that hold a login, or that it could be guessed from. */
const MASKED = ['initial_response', 'challenge', 'response', 'additional_data'];

/**
 * R68: keeps what logs in out of rhea's trace (`DEBUG=rhea:*`), and leaves in what helps to find out why a login fails:
 * the mechanisms, the one that was chosen, the code of the outcome.
 */
export function maskTrace(sasl: RheaTransport): void {
  const read = sasl.read.bind(sasl);
  const write = sasl.write.bind(sasl);
  sasl.read = (bytes) => masked(() => read(bytes));
  sasl.write = (socket) => masked(() => write(socket));
}

/** rhea has one trace for all connections: it is another one for as long as the call takes, in which nothing waits. */
function masked<R>(call: () => R): R {
  const { frames, raw } = log;
  if (!frames.enabled && !raw.enabled) return call();
  log.frames = Object.assign((format: string, ...values: unknown[]) => frames(format, ...values.map(mask)), frames);
  // Without the number of bytes, too: it tells how long a password is.
  log.raw = Object.assign((format: string, id: unknown) => raw(format.replace('%d %h', '(masked)'), id), raw);
  try {
    return call();
  } finally {
    Object.assign(log, { frames, raw });
  }
}

function mask(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  return JSON.parse(JSON.stringify(value, (name, field) => (MASKED.includes(name) ? '(masked)' : field)));
}
