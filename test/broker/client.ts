// A client of the broker under test, on rhea.
import rhea, { type Connection, type EventContext, type Message, type Receiver, type Sender, type Session } from 'rhea';

type Options = Record<string, unknown>;
type Failure = Error & { condition?: string };

const OUTCOMES = ['accepted', 'rejected', 'released', 'modified'];

/** Waits for one of the events; a link, session or connection that fails instead rejects. */
export function first(emitter: Connection | Session | Sender | Receiver, ...events: string[]): Promise<EventContext> {
  return new Promise((resolve, reject) => {
    for (const event of events) emitter.once(event, resolve);
    for (const failure of ['connection_error', 'session_error', 'sender_error', 'receiver_error', 'disconnected']) {
      if (events.includes(failure)) continue;
      emitter.once(failure, (context: EventContext) => {
        const error = emitter.error ?? context.error;
        reject(Object.assign(new Error(failure), error && { condition: (error as Failure).condition, cause: error }));
      });
    }
  });
}

export async function connectTo(port: number, options: Options = {}): Promise<Connection> {
  const container = rhea.create_container({ id: 'client' });
  for (const event of ['error', 'protocol_error', 'disconnected', 'connection_close']) container.on(event, () => {});
  for (const event of ['session_close', 'sender_close', 'receiver_close']) container.on(event, () => {});
  const defaults = {
    host: '127.0.0.1',
    port,
    reconnect: false,
    username: 'anonymous',
    tcp_no_delay: true,
  };
  const connection = container.connect({ ...defaults, ...options });
  await first(connection, 'connection_open');
  return connection;
}

export function begin(connection: Connection): Session {
  const session = connection.create_session();
  session.begin();
  return session;
}

/** Waits for the attach, and where the broker refused it for the detach that follows (R21). */
async function attached<Link extends Sender | Receiver>(link: Link, opened: string, refused: string): Promise<Link> {
  const refusal = first(link, refused);
  refusal.catch(() => {});
  await first(link, opened);
  // rhea shows a null terminus as an object that has only a type
  if ('type' in (link.is_sender() ? link.target : link.source)) await refusal;
  return link;
}

export function sender(connection: Connection, target: unknown, options: Options = {}): Promise<Sender> {
  const link = begin(connection).open_sender({ target, treat_modified_as_released: false, ...options });
  return attached(link, 'sender_open', 'sender_close');
}

export function receiver(connection: Connection, source: unknown, options: Options = {}): Promise<Receiver> {
  const link = begin(connection).open_receiver({ source, credit_window: 0, autoaccept: false, ...options });
  return attached(link, 'receiver_open', 'receiver_close');
}

/** Sends and tells the outcome. */
export async function send(link: Sender, message: unknown, format?: number): Promise<string> {
  if (!link.sendable()) await first(link, 'sendable');
  const delivery = link.send(message as Message, undefined, format);
  return new Promise((resolve) => {
    for (const outcome of OUTCOMES) {
      link.on(outcome, (context: EventContext) => context.delivery === delivery && resolve(outcome));
    }
  });
}

/** Asks for one message and gives it, with its delivery. */
export async function take(link: Receiver): Promise<Required<Pick<EventContext, 'message' | 'delivery'>>> {
  const arrived = first(link, 'message');
  link.add_credit(1);
  const { message, delivery } = await arrived;
  return { message: message!, delivery: delivery! };
}
