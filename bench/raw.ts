// rhea alone, in a process of its own: what all others are compared with.
import { once } from 'node:events';
import rhea, { type Connection, type EventContext, type Message, type Sender, type Source } from 'rhea';
import { answer } from './child';
import { Load, type Run } from './load';

/** What it does, and where; written to its command line. */
export interface RawOptions {
  does: 'sink' | 'source' | 'round trip' | 'request';
  port: number;
  address: string;
  login?: { username: string; password: string };
}

const CREDIT = 1000;
const options: RawOptions = JSON.parse(process.argv[2]!);
let load: Load | undefined;
let sender: Sender | undefined;
let replies: string | undefined;
let message: (n: number) => Message;
const sentAt = new Map<string, number>();

function pump(): void {
  while (sender?.sendable() && load?.take()) sender.send(message(load.sent));
}

function bodyOf(size: number): unknown {
  return size <= 100 ? 'x'.repeat(size) : rhea.message.data_section(Buffer.alloc(size, 'x'));
}

function run({ size, ...rest }: Run): Promise<unknown> {
  const body = bodyOf(size);
  const isBroker = options.login !== undefined;
  message = () => (isBroker ? { durable: true, body } : { body });
  if (options.does === 'request') {
    message = (n) => {
      const id = String(n);
      sentAt.set(id, performance.now());
      return { message_id: id, reply_to: replies, body };
    };
  }
  load = new Load(rest, pump);
  return load.ended;
}

function listen(connection: Connection): void {
  connection.on('sendable', pump);
  if (options.does === 'sink') connection.on('accepted', () => load?.end());
  if (options.does === 'round trip') connection.on('message', () => load?.end());
  if (options.does === 'request') {
    connection.on('message', ({ message: reply }: EventContext) => {
      const id = reply!.correlation_id as string;
      load?.end(performance.now() - sentAt.get(id)!);
      sentAt.delete(id);
    });
  }
}

async function main(): Promise<void> {
  const { does, port, address, login } = options;
  const connection = rhea.create_container().connect({ host: '127.0.0.1', port, reconnect: false, ...login });
  listen(connection);
  if (does !== 'sink') {
    const source = (does === 'request' ? { dynamic: true } : { address }) as Source;
    const receiver = connection.open_receiver({ source, credit_window: CREDIT });
    await once(receiver, 'receiver_open');
    replies = receiver.source.address;
  }
  if (does !== 'source') {
    sender = connection.open_sender({ target: { address } });
    await once(sender, 'sendable');
  }
  answer({ run });
}

void main();
