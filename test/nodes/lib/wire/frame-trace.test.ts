import should from 'should';
import { Broker } from '../../../../broker/broker';
import { Connection, type ConnectionOptions } from '../../../../nodes/lib/connection/connection';
import { encode, outgoing } from '../../../../nodes/lib/message/message';
import { Entry } from '../../../../nodes/lib/link/entry';
import { Sender } from '../../../../nodes/lib/sender/sender';
import { FrameTrace } from '../../../../nodes/lib/wire/frame-trace';
import { secretOf } from '../../../secrets';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
const OPEN = hex('0000001a 02000000 005310 d0 0000000a 00000002 a10161 a10162');
const EMPTY = hex('00000008 02000000');

/** The lines of what is received, in pieces of so many bytes. */
function linesOf(bytes: Buffer, piece = bytes.length): string[] {
  const lines: string[] = [];
  const trace = new FrameTrace((line) => lines.push(line));
  for (let at = 0; at < bytes.length; at += piece) trace.received(bytes.subarray(at, at + piece));
  return lines;
}

describe('a trace of frames', () => {
  it('has a line for each frame, in whatever pieces it comes', () => {
    const bytes = Buffer.concat([Buffer.from('AMQP\0\x01\0\0'), OPEN, EMPTY]);
    const lines = [
      '<- AMQP protocol 0.1.0.0',
      '<- channel 0 open container-id="a" hostname="b"',
      '<- channel 0 empty frame',
    ];
    for (const piece of [1, 2, 3, 7, 8, 9, 27, bytes.length]) linesOf(bytes, piece).should.deepEqual(lines);
  });

  it('has nothing of what logs in', () => {
    const response = Buffer.from(secretOf('password'));
    const init = Buffer.concat([
      hex('00000000 02010000 005341 d0 00000000 00000002 a305'),
      Buffer.from('PLAIN'),
      Buffer.from([0xa0, response.length]),
      response,
    ]);
    init.writeUInt32BE(init.length, 0);
    init.writeUInt32BE(init.length - 16, 12);
    linesOf(init).should.deepEqual(['<- sasl-init mechanism="PLAIN" initial-response=(masked)']);
  });

  it('has nothing of a secret that the peer repeats, however long it is and whatever characters it has', () => {
    const secret = `${secretOf('password', '"\\ ')}${'x'.repeat(1500)}`;
    const description = Buffer.from(`cannot read ${secret}`);
    const head = hex('00000000 02000000 005318 d0 00000000 00000001 00531d d0 00000000 00000002 a30161 b1 00000000');
    const close = Buffer.concat([head, description]);
    close.writeUInt32BE(close.length, 0);
    close.writeUInt32BE(close.length - 16, 12);
    close.writeUInt32BE(close.length - 28, 24);
    close.writeUInt32BE(description.length, head.length - 4);
    const lines: string[] = [];
    new FrameTrace(
      (line) => lines.push(line),
      (text) => text.replaceAll(secret, '…'),
    ).received(close);
    lines.should.deepEqual(['<- channel 0 close error={"error":["a","cannot read …"]}']);
  });

  it('shows binary in hexadecimal', () => {
    linesOf(hex('00000014 02000000 005314 c0 07 03 43 43 a0 02 00ff')).should.deepEqual([
      '<- channel 0 transfer handle=0 delivery-id=0 delivery-tag="0x00ff" (message: 0 bytes)',
    ]);
  });

  it('looks at no more than the beginning of a large frame, and goes on behind it', () => {
    const large = Buffer.concat([hex('00000000 02000000 005314 c0 04 02 43 5205'), Buffer.alloc(100_000, 1)]);
    large.writeUInt32BE(large.length, 0);
    for (const piece of [1000, large.length])
      linesOf(Buffer.concat([large, EMPTY]), piece).should.deepEqual([
        '<- channel 0 transfer handle=0 delivery-id=5 (message: 100000 bytes)',
        '<- channel 0 empty frame',
      ]);
  });

  it('takes what is no AMQP for what it is', () => {
    linesOf(hex('0000000c 02000000 ffffffff')).should.deepEqual(['<- channel 0 frame of 12 bytes']);
    linesOf(hex('00000000 00000000')).should.deepEqual(['<- channel 0 frame of 8 bytes']);
  });

  it('shows what goes over a connection, without messages and passwords', async () => {
    const password = secretOf('password');
    const broker = await Broker.start({ users: { user: password }, anonymous: false, mechanisms: ['PLAIN'] });
    const lines: string[] = [];
    const options: ConnectionOptions = {
      servers: [{ host: '127.0.0.1', port: broker.port }],
      containerId: 'client',
      username: 'user',
      password,
      connectTimeout: 5000,
      idleTimeout: 0,
      backoff: { initial: 10, max: 20 },
      loginBackoff: { initial: 10, max: 20 },
      trace: (line) => lines.push(line),
    };
    const connection = new Connection(options);
    try {
      connection.open();
      const sender = new Sender(connection, {
        name: 'sender',
        address: 'orders',
        guarantee: 'at-least-once',
        buffer: 10,
        bufferBytes: 10_000,
        full: 'refuse',
        timeout: 0,
        retryTime: 0,
      });
      sender.open();
      const bytes = encode(outgoing({ payload: 'a confidential body' }, { format: 'body', body: 'auto' }));
      await new Promise((resolve) => sender.send(new Entry(bytes, resolve)));
      await sender.close(1000);
      await connection.close();
    } finally {
      await broker.stop();
    }
    const text = lines.join('\n');
    for (const part of [
      '-> sasl-init mechanism="PLAIN" initial-response=(masked)',
      '<- sasl-outcome code=0',
      '-> channel 0 open container-id="client"',
      'target={"target":["orders"',
      ' transfer handle=0 delivery-id=',
      'state={"accepted":[]}',
      '-> channel 0 close',
    ])
      text.should.containEql(part);
    text.should.match(/\(message: \d+ bytes\)/);
    text.should.not.containEql('confidential');
    should(lines.every((line) => /^(->|<-) /.test(line) && line.length <= 1003)).be.true();
  });
});
