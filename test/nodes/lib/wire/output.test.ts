import { once } from 'node:events';
import net from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import should from 'should';
import { Output } from '../../../../nodes/lib/wire/output';

describe('what is written to a peer', () => {
  let server: net.Server;
  let socket: net.Socket;
  let peer: net.Socket;
  let output: Output;
  let received: string;

  beforeEach(async () => {
    server = net.createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const accepted = once(server, 'connection');
    socket = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
    socket.on('error', () => {});
    output = new Output(socket);
    [peer] = (await accepted) as [net.Socket];
    received = '';
    peer.on('error', () => {}).on('data', (data) => (received += data.toString()));
    if (socket.connecting) await once(socket, 'connect');
  });
  afterEach(async () => {
    socket.destroy();
    peer.destroy();
    await new Promise((resolve) => server.close(resolve));
  });

  /** Writes text as frames are written. */
  function put(text: string): void {
    const at = output.reserve(text.length);
    output.slab.write(text, at);
  }

  async function all(): Promise<string> {
    socket.end();
    await once(peer, 'end');
    return received;
  }

  it('in one turn goes out together, in order, whoever writes it', async () => {
    for (const turns of ['one ', 'two ']) {
      for (const text of ['a', 'b', 'c']) socket.write(turns + text);
      should(socket.writableLength).equal(15, 'nothing is sent before the turn ends');
      await turn();
      should(socket.writableCorked).equal(0);
    }
    put('1');
    socket.write('2');
    put('3');
    put('4');
    output.append(Buffer.from('5'));
    put('6');
    should(output.unread).equal(6);
    await turn();
    should(await all()).equal('one aone bone ctwo atwo btwo c123456');
  });

  it('has what was put off before what rhea writes', async () => {
    let count = 0;
    const due = { writeDue: () => put(`due ${++count} `) };
    output.put(due);
    output.put(due);
    socket.write('rhea ');
    output.put(due);
    await turn();
    should(await all()).equal('due 1 rhea due 2 ');
  });

  it('is kept until the slab is full, and what is larger than it goes through too', async () => {
    const texts = Array.from({ length: 200 }, (_, index) => String(index % 10).repeat(1000)).concat(
      'x'.repeat(100_000),
    );
    for (const text of texts) put(text);
    await turn();
    should((await all()) === texts.join('')).be.true();
  });

  it('is what was put, though room is used again', async () => {
    const texts: string[] = [];
    for (let round = 0; round < 50; round++) {
      for (let part = 0; part < 1 + (round % 5); part++) {
        texts.push(`${round}.${part} `.repeat(3000));
        put(texts.at(-1)!);
      }
      await turn();
      if (round % 7 === 0) socket.write((texts.push(`rhea ${round} `), texts.at(-1)!));
    }
    should((await all()) === texts.join('')).be.true();
  });

  it('is kept before there is a connection', async () => {
    const early = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
    const accepted = once(server, 'connection');
    const { unread } = new Output(early);
    early.write('early');
    should(unread).equal(0);
    const [other] = (await accepted) as [net.Socket];
    should(String((await once(other, 'data'))[0])).equal('early');
    early.destroy();
    other.destroy();
  });

  it('goes nowhere once the socket is destroyed', async () => {
    put('never sent');
    socket.write('never sent');
    socket.destroy();
    put('never sent');
    await once(socket, 'close');
    await turn();
  });
});
