// What we write is read by rhea, which shares no code with it.
import type net from 'node:net';
import { Writable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import rhea from 'rhea';
import should from 'should';
import { Output } from '../../../../nodes/lib/wire/output';
import { TRANSFER_SIZE, writeDisposition, writeFlow, writeTransfer } from '../../../../nodes/lib/wire/performatives';
import { stateIn, stateOf } from '../../../../nodes/lib/wire/outcome';

interface Frame {
  size: number;
  channel: number;
  performative: Record<string, any>;
  payload?: Buffer;
}
const frames: { read_frame(bytes: Buffer): Frame } = require('rhea/lib/frames.js');

const outcomes = rhea.message as unknown as { unwrap_outcome(state: unknown): any };

const MAX = 0xffffffff;

/** The frames that are written. */
async function written(write: (output: Output) => void): Promise<Frame[]> {
  const chunks: Buffer[] = [];
  const socket = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      chunks.push(chunk);
      done();
    },
  });
  write(new Output(socket as unknown as net.Socket));
  await turn();
  const bytes = Buffer.concat(chunks);
  const all: Frame[] = [];
  for (let at = 0; at < bytes.length; at += all.at(-1)!.size)
    all.push(frames.read_frame(bytes.subarray(at, at + bytes.readUInt32BE(at))));
  return all;
}

describe('a performative', () => {
  for (const handle of [0, 1, 255, 256, MAX]) {
    for (const size of [0, 1, 8191, 8192, 100_000]) {
      it(`of a transfer on handle ${handle} is read with its ${size} bytes, all or part of them`, async () => {
        const payload = Buffer.alloc(size, 'payload');
        const head = { channel: 7, handle, id: MAX - 1, format: 0, isSettled: true, more: false };
        const half = size >> 1;
        const [whole, part] = await written((output) => {
          writeTransfer(output, head, payload, 0, size);
          writeTransfer(output, { ...head, format: 0x80013700, isSettled: false, more: true }, payload, half, size);
        });
        const tag = Buffer.from([0xff, 0xff, 0xff, 0xfe]);
        const fields = { handle, delivery_id: MAX - 1, delivery_tag: tag, message_format: 0 };
        should(whole!.channel).equal(7);
        should(whole!.performative).match({ ...fields, settled: true, more: false });
        should(part!.performative).match({ ...fields, message_format: 0x80013700, settled: false, more: true });
        should((whole!.payload ?? Buffer.alloc(0)).equals(payload)).be.true();
        should((part!.payload ?? Buffer.alloc(0)).equals(payload.subarray(half))).be.true();
        should(whole!.size - size).be.belowOrEqual(TRANSFER_SIZE);
      });
    }
  }

  for (const length of [1, 32, 200]) {
    it(`of a transfer has the state of a transaction whose id has ${length} bytes, in each of its frames`, async () => {
      const id = Buffer.alloc(length, 7);
      const state = stateIn(id);
      const payload = Buffer.alloc(20_000, 'payload');
      const head = { channel: 1, handle: MAX, id: MAX, format: 0x80013700, isSettled: false, state };
      const cuts = [0, 100, 9000, payload.length];
      const all = await written((output) => {
        for (let i = 0; i < 3; i++) writeTransfer(output, { ...head, more: i < 2 }, payload, cuts[i]!, cuts[i + 1]!);
        writeTransfer(output, { ...head, format: 0, isSettled: true, more: false }, payload, 0, 0);
      });
      should(all).have.length(4);
      for (const { performative, size, payload: part } of all) {
        const raw = performative['value'];
        should(raw).have.length(8);
        should(raw[6].value).equal(null);
        should(raw[7].descriptor.value).equal(0x34);
        should(raw[7].value[0].value.equals(id)).equal(true);
        should(performative).match({ handle: MAX, delivery_id: MAX });
        should(size - (part?.length ?? 0)).be.belowOrEqual(TRANSFER_SIZE + state.length);
      }
      should(all.map(({ performative: { more } }) => more)).eql([true, true, false, false]);
      should(Buffer.concat(all.map((one) => one.payload ?? Buffer.alloc(0))).equals(payload)).equal(true);
    });
  }

  it('of a disposition is read with its state, however long that is', async () => {
    for (const length of [1, 200, 210, 220, 230, 240, 5000]) {
      const error = { condition: 'a', info: { text: 'x'.repeat(length) } };
      const state = stateOf({ settle: 'reject', error }, Infinity);
      const [one, many] = await written((output) => {
        writeDisposition(output, 65_535, true, 5, 5, state);
        writeDisposition(output, 0, false, MAX, 3, state);
      });
      should(one!.channel).equal(65_535);
      should(one!.performative).match({ role: true, first: 5, settled: true });
      should(one!.performative['last'] ?? 5).equal(5);
      should(outcomes.unwrap_outcome(one!.performative['state']).error.info).have.property('text', 'x'.repeat(length));
      should(many!.performative).match({ role: false, first: MAX, last: 3, settled: true });
    }
  });

  it('of a flow is read, with a link and without', async () => {
    const session = { nextIncomingId: MAX, incomingWindow: 2048, nextOutgoingId: 7 };
    for (const handle of [0, 200, 70_000]) {
      const [alone, link] = await written((output) => {
        writeFlow(output, 1, session);
        writeFlow(output, 1, session, { handle, deliveryCount: MAX, credit: 0x7fffffff, drain: true });
      });
      const windows = {
        next_incoming_id: MAX,
        incoming_window: 2048,
        next_outgoing_id: 7,
        outgoing_window: MAX,
      };
      should(alone!.performative).match(windows);
      should(alone!.performative['handle'] ?? null).equal(null);
      should(link!.performative).match({
        ...windows,
        handle,
        delivery_count: MAX,
        link_credit: 0x7fffffff,
        drain: true,
      });
    }
  });
});
