import should from 'should';
import { Frames, type Transfer } from '../../../../nodes/lib/wire/frames';
import { MAX_FRAME_SIZE } from '../../../../nodes/lib/wire/transport';

const header = (protocol: number) => Buffer.from([...Buffer.from('AMQP'), protocol, 1, 0, 0]);

/** A frame of so many bytes that may claim to have another number of them. Up to 8 it is an empty one. */
function frame(size: number, claimed = size): Buffer {
  const bytes = Buffer.alloc(size);
  bytes.writeUInt32BE(claimed);
  bytes[4] = size / 4 < 255 ? size / 4 : 2;
  return bytes;
}

const symbol = (name: string) => Buffer.concat([Buffer.of(0xa3, name.length), Buffer.from(name)]);
const map = (...entries: Buffer[]) => {
  const content = Buffer.concat(entries);
  return Buffer.concat([Buffer.of(0xc1, content.length + 1, entries.length), content]);
};
/** An open that has this as its properties. */
const open = (properties: Buffer) => {
  const fields = Buffer.concat([Buffer.of(0xa1, 1, 0x78), Buffer.alloc(8, 0x40), properties]);
  const body = Buffer.concat([Buffer.of(0x00, 0x53, 0x10, 0xc0, fields.length + 1, 10), fields]);
  const head = Buffer.alloc(8);
  head.writeUInt32BE(body.length + 8);
  head[4] = 2;
  return Buffer.concat([header(0), head, body]);
};
const NULL = Buffer.of(0x40);

/** Takes the chunks, and gives what is handed on: all frames together. */
function taken(...chunks: Buffer[]): Buffer {
  const all: Buffer[] = [];
  const frames = new Frames({ sessionOf: () => undefined, others: (bytes) => all.push(bytes), isOver: false });
  for (const chunk of chunks) frames.take(chunk);
  return Buffer.concat(all);
}

describe('frames', () => {
  it('come whole, wherever the bytes are cut', () => {
    const bytes = Buffer.concat([header(3), frame(8), frame(20), header(0), frame(12), frame(8)]);
    for (const size of [1, 2, 3, 5, 8, 11, bytes.length]) {
      const chunks = [];
      for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size));
      should(taken(...chunks).equals(bytes)).be.true();
    }
  });

  it('are taken up to the size that the peer is told', () => {
    const transfer = Buffer.alloc(MAX_FRAME_SIZE);
    // The performative of a transfer with a handle, and then all payload.
    Buffer.from([0, 1, 0, 0, 2, 0, 0, 0, 0x00, 0x53, 0x14, 0xc0, 2, 1, 0x43]).copy(transfer);
    const sizes: number[] = [];
    const session = {
      onTransfer: ({ payload }: Transfer) => sizes.push(payload.length),
      onDisposition: () => {},
      onFlow: () => {},
    };
    const frames = new Frames({ sessionOf: () => session, others: () => {}, isOver: false });
    frames.take(Buffer.concat([header(0), transfer]));
    should(sizes).deepEqual([MAX_FRAME_SIZE - 15]);
  });

  for (const size of [0, 7, MAX_FRAME_SIZE + 1, 0x80000000]) {
    it(`end at one of ${size} bytes, as there can be none (R19)`, () => {
      const bytes = Buffer.concat([header(0), frame(12), frame(8, size)]);
      should(() => taken(bytes)).throw(new RegExp(`${size} bytes`));
    });
  }

  it('of a message never come to rhea, whose session may be gone', () => {
    const disposition = Buffer.from([0, 0, 0, 19, 2, 0, 0, 0, 0x00, 0x53, 0x15, 0xc0, 6, 3, 0x41, 0x43, 0x52, 9, 0x41]);
    disposition.writeUInt32BE(disposition.length);
    should(() => taken(Buffer.concat([header(0), disposition]))).throw(/channel without session/);
  });

  describe('with a map', () => {
    it('come when its keys are simple values, whatever is in it', () => {
      for (const properties of [
        map(symbol('toString'), NULL),
        map(symbol('__proto__'), map(symbol('a'), Buffer.of(0x45))),
        map(NULL, NULL),
        map(Buffer.of(0x53, 1), NULL),
      ]) {
        should(taken(open(properties))).have.length(open(properties).length);
      }
    });

    it('end when a key is a map, a list, an array or a described value: rhea would throw when it is read', () => {
      const described = Buffer.concat([Buffer.of(0x00), symbol('d'), NULL]);
      for (const key of [map(symbol('toString'), NULL), Buffer.of(0x45), Buffer.of(0xc0, 1, 0), described]) {
        should(() => taken(open(map(key, NULL)))).throw(/wrong key of a map/);
        should(() => taken(open(map(symbol('a'), map(key, NULL))))).throw(/wrong key of a map/);
      }
      const array = Buffer.of(0xe0, 2, 0, 0x40);
      should(() => taken(open(map(array, NULL)))).throw(/wrong key of a map/);
    });
  });
});
