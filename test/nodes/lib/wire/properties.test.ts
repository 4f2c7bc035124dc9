// What we write is read by rhea's own codec.
import rhea from 'rhea';
import should from 'should';
import { areLinkProperties, propertiesOf } from '../../../../nodes/lib/wire/properties';

interface Codec {
  Writer: new () => { write(value: unknown): void; toBuffer(): Buffer };
  Reader: new (bytes: Buffer) => { read(): { type: { name: string }; value: unknown } };
}
const { Writer, Reader } = rhea.types as unknown as Codec;

function read(value: unknown): { type: string; value: unknown } {
  const writer = new Writer();
  writer.write((propertiesOf({ p: value }) as { p: unknown }).p);
  const { type, value: written } = new Reader(writer.toBuffer()).read();
  return { type: type.name.toLowerCase(), value: written };
}

describe('properties of a link', () => {
  it('are of the type that JavaScript gives them, or of the one that they name', () => {
    for (const [value, type, written] of [
      ['text', 'str8', 'text'],
      [true, 'true', true],
      [1, 'smallint', 1],
      [2 ** 40, 'long', 2 ** 40],
      [1.5, 'double', 1.5],
      [{ $amqp: 'symbol', value: 'a' }, 'sym8', 'a'],
      [{ $amqp: 'uint', value: 60_000 }, 'uint', 60_000],
      [{ $amqp: 'long', value: 2 }, 'smalllong', 2],
    ] as const) {
      should(areLinkProperties({ p: value })).be.true(type);
      const { type: name, value: read0 } = read(value);
      should(name).equal(type);
      should(read0).equal(written);
    }
  });

  it('are an object of simple values', () => {
    for (const given of [
      undefined,
      null,
      'text',
      [],
      { p: null },
      { p: {} },
      { p: [1] },
      { p: { $amqp: 'uint', value: -1 } },
      { p: { $amqp: 'uint', value: 'text' } },
      { p: { $amqp: 'symbol', value: 'ä' } },
      { p: { $amqp: 'map', value: {} } },
    ])
      should(areLinkProperties(given)).be.false(JSON.stringify(given));
  });
});
