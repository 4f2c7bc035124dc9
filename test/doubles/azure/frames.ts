/* oxlint-disable no-underscore-dangle -- rhea's inner methods are named so */
// How the services write frames.
import rhea, { type Connection } from 'rhea';
import type { Fields } from '../../../broker/rhea';

/** How many fields a performative has, by its code. */
const FIELDS: Record<number, number> = {
  0x10: 10,
  0x11: 8,
  0x12: 14,
  0x13: 11,
  0x14: 11,
  0x15: 6,
  0x16: 3,
  0x17: 1,
  0x18: 1,
};

/**
 * Writes all fields of each frame, as the services do. rhea leaves out those at the end that are null, which it may; but
 * azure-eventhub counts on them.
 */
export function writeAllFields(connection: Connection): void {
  const inner = connection as unknown as { _write_frame(channel?: number, frame?: Fields, payload?: Buffer): void };
  const write = inner._write_frame.bind(connection);
  inner._write_frame = (channel, frame, payload) => {
    // there is none in a heartbeat
    if (frame) {
      const count = FIELDS[(frame.constructor as unknown as Fields)['descriptor'].numeric] ?? 0;
      for (let i = 0; i < count; i++) frame['value'][i] ??= rhea.types.wrap(null);
    }
    write(channel, frame, payload);
  };
}
