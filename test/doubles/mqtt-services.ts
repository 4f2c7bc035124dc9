/**
 * What EnMasse's “MQTT over AMQP” has on the AMQP side, as a gateway sees it: topics, the subscription service and the will
 * service. Written from its specification and its source, without either of them running; retained messages are of the
 * specification alone. All is in memory. It shares no code with nodes/.
 */
import { EventEmitter, once } from 'node:events';
import type { AddressInfo, Server, Socket } from 'node:net';
import rhea, {
  type Connection,
  type Delivery,
  type EventContext,
  type Message,
  type Receiver,
  type Sender,
  type Typed,
} from 'rhea';
import { keepBytes, type PeerSession } from '../../broker/rhea';
import { listenAmqp } from './server';

const WILLS = '$lwt';
const SUBSCRIPTIONS = '$subctrl';
const [RETAIN, QOS] = ['x-opt-retain-message', 'x-opt-mqtt-qos'];
const [HEADER, ANNOTATIONS, DATA] = [0x70, 0x72, 0x75];

const { Reader } = rhea.types as unknown as {
  Reader: new (bytes: Buffer) => { remaining(): number; read(): { descriptor: Typed; value: unknown } };
};

/** A message on a topic. */
export interface Publication {
  topic: string;
  body: string;
  qos: number;
  isRetained: boolean;
  isDurable: boolean;
}

interface Session {
  /** What was granted, by topic. */
  granted: Map<string, number>;
  waiting: Publication[];
  /** Since its client left, until it asks for the list: the answer comes before what has waited. */
  isAway: boolean;
}

/** Why a message or link is refused. */
type Refusal = { condition: string; description: string };

/** Emits 'change' with all that happens. */
export class MqttServices extends EventEmitter<{ change: [] }> {
  /** All that came on topics, wills included, in order. */
  readonly published: Publication[] = [];
  /** Those of them that the will service has published. */
  readonly wills: Publication[] = [];
  /** Wills that are kept now, by the name of their link. */
  readonly kept = new Map<string, Publication>();
  /** How links to the will service have ended, in order: each with its name. */
  readonly ends: string[] = [];
  /** Subjects of what the subscription service was asked, in order. */
  readonly asked: string[] = [];
  /** Its broker fails while this is set. */
  isBroken = false;
  /** By the address to which its client has messages published. */
  readonly #sessions = new Map<string, Session>();
  readonly #retained = new Map<string, Publication>();
  readonly #willLinks = new Set<Receiver>();
  /** Links to clients, by address. */
  readonly #clients = new Map<string, Sender>();
  /** Who receives from a topic as any AMQP client does, and from which. */
  readonly #listeners = new Map<Sender, string>();
  /** What clients have not settled. */
  readonly #unsettled = new Map<Delivery, { sender: Sender; client: string; publication: Publication }>();
  readonly #sockets = new Set<Socket>();
  readonly #server: Server;

  /** `topics`: the first levels that are defined. */
  static async start(...topics: string[]): Promise<MqttServices> {
    const { container, server } = await listenAmqp();
    return new MqttServices(container, server, topics);
  }

  private constructor(
    container: rhea.Container,
    server: Server,
    private readonly topics: string[],
  ) {
    super();
    this.setMaxListeners(0);
    this.#server = server;
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    for (const event of ['connection_error', 'session_error', 'sender_error', 'receiver_error', 'error'])
      container.on(event, () => {});
    const on = (event: string, act: (context: EventContext) => void): void => {
      container.on(event, (context: EventContext) => {
        act(context);
        this.emit('change');
      });
    };
    on('session_open', ({ session }) => keepBytes(session as PeerSession));
    on('receiver_open', ({ receiver }) => this.#sends(receiver!));
    on('sender_open', ({ sender }) => this.#receives(sender!));
    on('message', (context) => this.#take(context));
    on('accepted', ({ delivery }) => this.#unsettled.delete(delivery!));
    on('released', ({ delivery }) => this.#giveBack((one) => one === delivery));
    on('receiver_close', ({ receiver }) => this.#left(receiver!, receiver!.error ? 'error' : 'clean'));
    on('sender_close', ({ sender }) => this.#away(sender!));
    // The service is behind a router, which tells it of who has closed and not detached as of who was lost.
    on('connection_close', ({ connection }) => this.#lost(connection));
    on('disconnected', ({ connection }) => this.#lost(connection));
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Resolves as soon as this is true. */
  async until(isSo: () => boolean): Promise<void> {
    while (!isSo()) await once(this, 'change');
  }

  /** Ends all connections as a cut wire does. */
  cut(): void {
    // rhea notices only what ends by an error.
    for (const socket of this.#sockets) socket.destroy(new Error('cut'));
  }

  async stop(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.cut();
    await closed;
  }

  #isDefined(topic: string): boolean {
    return this.topics.some((defined) => topic === defined || topic.startsWith(`${defined}/`));
  }

  #sends(receiver: Receiver): void {
    const { address } = receiver.target;
    if (![WILLS, SUBSCRIPTIONS].includes(address) && !this.#isDefined(address)) {
      receiver.close({ condition: 'amqp:not-found', description: "The provided address isn't supported" });
      return;
    }
    receiver.set_target(receiver.target);
    if (address !== WILLS) return;
    this.#willLinks.add(receiver);
    receiver.set_credit_window(0);
    receiver.add_credit(1);
  }

  #receives(sender: Sender): void {
    const { address } = sender.source;
    if (address.startsWith('$mqtt.to.')) this.#clients.set(address, sender);
    else if (this.#isDefined(address)) this.#listeners.set(sender, address);
    else return sender.close({ condition: 'amqp:not-found', description: `unknown topic ${address}` });
    sender.set_source(sender.source);
  }

  #away(sender: Sender): void {
    this.#listeners.delete(sender);
    for (const [address, client] of this.#clients) {
      if (client !== sender) continue;
      this.#clients.delete(address);
      const session = this.#sessions.get(address);
      if (session) session.isAway = true;
      this.#giveBack((_, of) => of === sender);
    }
  }

  /** What was released, or left unsettled, is delivered again. */
  #giveBack(isIt: (delivery: Delivery, sender: Sender) => boolean): void {
    for (const [delivery, { sender, client, publication }] of this.#unsettled) {
      if (!isIt(delivery, sender)) continue;
      this.#unsettled.delete(delivery);
      const session = this.#sessions.get(client);
      if (session) this.#deliver(client, session, publication);
    }
  }

  /** A will is published once and forgotten when its link ends in any way but a clean one. */
  #left(receiver: Receiver, end: 'clean' | 'error' | 'lost'): void {
    if (!this.#willLinks.delete(receiver)) return;
    this.ends.push(`${receiver.name}: ${end}`);
    const will = this.kept.get(receiver.name);
    this.kept.delete(receiver.name);
    if (!will || end === 'clean') return;
    this.wills.push(will);
    this.publish(will);
  }

  #lost(connection: Connection): void {
    for (const receiver of this.#willLinks) if (receiver.connection === connection) this.#left(receiver, 'lost');
    for (const sender of [...this.#listeners.keys(), ...this.#clients.values()])
      if (sender.connection === connection) this.#away(sender);
  }

  #take({ message, receiver, delivery }: EventContext): void {
    const bytes = message as unknown as Buffer;
    const read = rhea.message.decode(bytes) as unknown as Message;
    const { address } = receiver!.target;
    if (address === WILLS) this.#keep(receiver!, delivery!, read, bytes);
    else if (address === SUBSCRIPTIONS) this.#answer(delivery!, read);
    else {
      const publication = publicationOf(read, bytes);
      if (!publication) return refuse(delivery!, 'amqp:decode-error', 'not what MQTT can publish');
      delivery!.accept();
      this.publish(publication, { isToSessions: isTopic(receiver!) });
    }
  }

  #keep(receiver: Receiver, delivery: Delivery, message: Message, bytes: Buffer): void {
    const will = message.subject === 'will' && message.message_annotations ? publicationOf(message, bytes) : undefined;
    if (will) this.kept.set(receiver.name, will);
    else if (message.subject === 'will-clear') this.kept.delete(receiver.name);
    else {
      receiver.close({ condition: 'amqp:decode-error', description: 'Received message is not a will message' });
      return;
    }
    delivery.accept();
    receiver.add_credit(1);
  }

  #answer(delivery: Delivery, message: Message): void {
    const { subject = '', body, reply_to: replyTo } = message;
    const client = String(message.correlation_id);
    const session = this.#sessions.get(client) ?? { granted: new Map(), waiting: [], isAway: false };
    this.asked.push(subject);
    if (this.isBroken) return refuse(delivery, 'amqp:internal-error', 'No brokers available');
    switch (subject) {
      case 'list':
        // An empty one says that there is no session.
        this.#reply(replyTo, { subject: 'subscriptions', correlation_id: client, body: textsOf(session.granted) });
        break;
      case 'list_topics':
        this.#reply(replyTo, { subject: 'topics', correlation_id: client, body: [...this.topics] });
        break;
      case 'close':
        this.#sessions.delete(client);
        break;
      case 'subscribe':
      case 'unsubscribe': {
        const asked = subscriptionsIn(body);
        const unknown = [...asked.keys()].find((topic) => !this.#isDefined(topic));
        if (unknown !== undefined)
          return refuse(delivery, 'amqp:precondition-failed', `Unrecognised topic: ${unknown}`);
        if (subject === 'unsubscribe') for (const topic of asked.keys()) session.granted.delete(topic);
        else {
          this.#sessions.set(client, session);
          for (const [topic, qos] of asked) session.granted.set(topic, qos);
        }
        delivery.accept();
        if (subject === 'subscribe')
          for (const [topic, qos] of asked)
            for (const kept of this.#retained.values())
              if (matches(topic, kept.topic)) this.#deliver(client, session, { ...kept, qos: Math.min(kept.qos, qos) });
        return;
      }
      default:
        return refuse(delivery, 'amqp:not-implemented', `unrecognised subject ${subject}`);
    }
    delivery.accept();
    if (subject !== 'list') return;
    session.isAway = false;
    for (const publication of session.waiting.splice(0)) this.#deliver(client, session, publication);
  }

  #reply(to: string | undefined, message: Message): void {
    this.#clients.get(to ?? '')?.send({ to, ...message });
  }

  /** Subscriptions get only what comes by a link with the capability `topic`. */
  publish(publication: Publication, { isToSessions } = { isToSessions: true }): void {
    const { topic, body, isRetained } = publication;
    this.published.push(publication);
    if (isRetained && body === '') this.#retained.delete(topic);
    else if (isRetained) this.#retained.set(topic, publication);
    for (const [listener, address] of this.#listeners)
      if (matches(address, topic)) listener.send(messageOf(publication));
    if (!isToSessions) return;
    // What goes to those who were there is not what is kept for others.
    const live = { ...publication, isRetained: false };
    for (const [client, session] of this.#sessions) {
      const granted = [...session.granted].filter(([filter]) => matches(filter, topic)).map(([, qos]) => qos);
      if (granted.length > 0)
        this.#deliver(client, session, { ...live, qos: Math.min(publication.qos, Math.max(...granted)) });
    }
  }

  #deliver(client: string, session: Session, publication: Publication): void {
    const link = this.#clients.get(client);
    if (link && !session.isAway)
      this.#unsettled.set(link.send(messageOf(publication)), { sender: link, client, publication });
    else session.waiting.push(publication);
  }
}

function refuse(delivery: Delivery, condition: string, description: string): void {
  const refusal: Refusal = { condition, description };
  delivery.reject(refusal);
}

function isTopic(receiver: Receiver): boolean {
  const { capabilities } = receiver.target as { capabilities?: unknown };
  return [capabilities ?? []].flat().some((one: unknown) => String(one) === 'topic');
}

/** `+` is one level, `#` one or more. */
function matches(filter: string, topic: string): boolean {
  const [wanted, levels] = [filter.split('/'), topic.split('/')];
  if (wanted.at(-1) === '#' ? levels.length < wanted.length : levels.length !== wanted.length) return false;
  return wanted.every((level, i) => level === '+' || level === '#' || level === levels[i]);
}

/** A map of topic to quality of service, a list of topics, or one: what is not named is 0. */
function subscriptionsIn(body: unknown): Map<string, number> {
  if (typeof body === 'string') return new Map([[body, 0]]);
  if (Array.isArray(body)) return new Map(body.map((topic) => [String(topic), 0]));
  return new Map(Object.entries(body as object).map(([topic, qos]) => [topic, Number(qos)]));
}

function textsOf(granted: Map<string, number>): Record<string, string> {
  return Object.fromEntries([...granted].map(([topic, qos]) => [topic, String(qos)]));
}

/** The topic is what `to` says. The quality of service is an int, which a Java client casts it to, or is told by `durable`. */
function publicationOf(message: Message, bytes: Buffer): Publication | undefined {
  const { to: topic, body, durable = false } = message;
  const { typecode, content } = (body ?? {}) as { typecode?: number; content: Buffer };
  const { [RETAIN]: retain, [QOS]: qos } = annotationsIn(bytes);
  const isWrong = (qos && !/^(Small)?Int$/.test(qos.type.name)) || (retain && typeof retain.value !== 'boolean');
  if (topic === undefined || typecode !== DATA || isWrong) return undefined;
  return {
    topic,
    body: content.toString(),
    qos: qos ? Number(qos.value) : Number(durable),
    isRetained: retain?.value === true,
    isDurable: durable,
  };
}

/** The message annotations with their types, which rhea takes off. */
function annotationsIn(bytes: Buffer): Record<string, Typed | undefined> {
  const reader = new Reader(bytes);
  while (reader.remaining()) {
    const { descriptor, value } = reader.read();
    const code = Number(descriptor.value);
    if (code < HEADER || code > ANNOTATIONS) break;
    if (code < ANNOTATIONS) continue;
    const parts = value as Typed[];
    return Object.fromEntries(parts.flatMap((key, i) => (i % 2 ? [] : [[String(key.value), parts[i + 1]]])));
  }
  return {};
}

function messageOf({ topic, body, qos, isRetained }: Publication): Message {
  return {
    to: topic,
    durable: qos > 0,
    message_annotations: { [RETAIN]: isRetained, [QOS]: rhea.types.wrap_int(qos) },
    body: rhea.message.data_section(Buffer.from(body)) as unknown,
  };
}
