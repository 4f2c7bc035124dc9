import type { Fields } from '../../../broker/rhea';
import type { Answer } from '../azure/answers';
import { type Claim, pathOf } from '../azure/authorization';
import { tagOf } from '../azure/locks';
import { Message, unpack } from '../azure/messages';
import { isManagement, Namespace, type NamespaceOptions } from '../azure/namespace';
import { disabled, missing, notAllowed } from '../azure/refusals';
import type { Attached as Linked, LinkInfo as Info, Outgoing, Purpose } from '../azure/server';
import { Entity, type EntityOptions } from './entity';
import { grantSession, outcomeOf, sessionAskedFor } from './links';
import { operationOf, type Request } from './management';
import { sessionLost, timedOut } from './refusals';

export type { Policy, Right, Tokens } from '../azure/authorization';
export type { ServiceError } from '../azure/refusals';
export type { Settled } from '../azure/server';
export type { Entity, EntityOptions } from './entity';

export interface ServiceBusOptions extends NamespaceOptions {
  queues?: Record<string, EntityOptions>;
  /** the subscriptions of each topic */
  topics?: Record<string, Record<string, EntityOptions>>;
}

/** A link, as the client sees it. */
export interface LinkInfo extends Info {
  sessionId?: string;
}

type Attached = Linked<Claim, LinkInfo>;

const MANAGEMENT = '/$management';

/**
 * A double of Azure Service Bus: it does what the vendor's documentation says and the vendor's own clients rely on, and was
 * never compared with the service itself.
 *
 * Left out: rules of subscriptions (each gets all messages), transactions, duplicate detection, forwarding, partitions.
 *
 * What `fail` plans goes for messages, which are rejected, for receivers, which are refused, and for requests to
 * `$management`. Events: those of each namespace; a link is 'waiting' for a session.
 */
export class ServiceBus extends Namespace<LinkInfo> {
  private readonly entities = new Map<string, Entity>();
  private readonly topics = new Map<string, Entity[]>();

  static async start(options: ServiceBusOptions = {}): Promise<ServiceBus> {
    const serviceBus = new ServiceBus(options);
    await serviceBus.listen();
    return serviceBus;
  }

  private constructor(readonly options: ServiceBusOptions) {
    super(options, { name: 'service bus', maxMessageSize: 262_144, busyCode: 50_009, statusNames: 'camelCase' });
    for (const [name, settings] of Object.entries(options.queues ?? {})) this.addEntity(name, settings);
    for (const [name, subscriptions] of Object.entries(options.topics ?? {})) {
      const entities = Object.entries(subscriptions).map(([subscription, settings]) =>
        this.addEntity(`${name}/subscriptions/${subscription}`, settings),
      );
      this.topics.set(pathOf(name), entities);
    }
  }

  /** A queue, a subscription, or the dead-letter queue of one. */
  entity(address: string): Entity {
    const entity = this.entities.get(pathOf(address));
    if (!entity) throw new Error(`no entity ${address}`);
    return entity;
  }

  override async stop(): Promise<void> {
    for (const entity of this.entities.values()) entity.stop();
    await super.stop();
  }

  /** All message locks of the entity are lost now. */
  expireLocks(address: string): void {
    this.entity(address).expireLocks();
  }

  /** The lock of the session is lost now, and its holder's link with it. */
  expireSession(address: string, sessionId: string): void {
    this.entity(address).expireSession(sessionId);
  }

  protected setDisabled(address: string, isDisabled: boolean): void {
    this.entity(address).disabled = isDisabled;
  }

  private addEntity(path: string, settings: EntityOptions): Entity {
    const entity = new Entity(path, settings);
    for (const each of [entity, entity.deadLetters!]) {
      this.entities.set(pathOf(each.path), each);
      each.on('ready', () => this.wake());
    }
    return entity;
  }

  // Links

  protected admit(attached: Attached): Purpose {
    const { link, info } = attached;
    const path = info.address;
    if (isManagement(path)) {
      this.found(entityOf(path));
      return this.management(attached);
    }
    if (info.role === 'sender') {
      const targets = this.found(path);
      if (targets.some((target) => target.disabled)) throw disabled(path);
      if (targets.some((target) => !target.deadLetters)) throw notAllowed('Nothing is sent to a dead-letter queue.');
      return { take: (bytes, isBatch) => this.take(path, bytes, isBatch) };
    }
    const entity = this.entities.get(path);
    if (!entity) throw this.topics.has(path) ? notAllowed('A topic has subscriptions to receive from.') : missing(path);
    if (entity.disabled) throw disabled(path);
    this.failAsPlanned(path);
    const session = sessionAskedFor(link);
    const { requiresSession = false } = entity.options;
    if (requiresSession && session === undefined) throw notAllowed('A receiver must ask for a session here.');
    if (!requiresSession && session !== undefined) throw notAllowed('The entity does not have sessions.');
    if (session === undefined) return { next: () => nextOf(attached, entity) };
    const accept = () => this.acceptSession(attached, entity, session);
    return accept() ?? this.waitForSession(attached, accept);
  }

  private acceptSession(attached: Attached, entity: Entity, asked: string | null): Purpose | undefined {
    const { link, info } = attached;
    const holder = { onSessionLost: () => this.cut(attached, sessionLost()) };
    const session = entity.acceptSession(asked, holder);
    if (!session) return undefined;
    info.sessionId = session.id;
    grantSession(link, session);
    return { next: () => nextOf(attached, entity), end: () => entity.releaseSession(session.id) };
  }

  /** The attach is answered once there is a session with messages, or when the client's time is over. */
  private waitForSession(attached: Attached, later: () => Purpose | undefined): Purpose {
    const { properties } = attached.link.remote.attach;
    const time: number = properties?.['com.microsoft:timeout'] ?? 60_000;
    const timer = setTimeout(() => this.cut(attached, timedOut()), time);
    return { later, end: () => clearTimeout(timer) };
  }

  /** What messages to the path go to. */
  private found(path: string): Entity[] {
    const entity = this.entities.get(path);
    const targets = entity ? [entity] : this.topics.get(path);
    if (!targets) throw missing(path);
    return targets;
  }

  // Messages and requests that come

  private take(path: string, bytes: Buffer, isBatch: boolean): void {
    this.failAsPlanned(path);
    const targets = this.found(path);
    const messages = (isBatch ? unpack(bytes) : [bytes]).map((each) => Message.decode(each));
    for (const { options } of targets) {
      const lacking = options.requiresSession && messages.some(({ sessionId }) => sessionId === undefined);
      if (lacking) throw notAllowed('The entity requires sessions: a message must have a SessionId.');
    }
    for (const entity of targets) for (const message of messages) entity.add(message.copy());
  }

  protected manage({ peer, info }: Attached, { application_properties: properties, body }: Fields): Answer {
    const operation = operationOf(String(properties?.operation));
    const path = entityOf(info.address);
    this.authorize(peer.claims.values(), info.address, operation.right);
    this.failAsPlanned(path);
    const answers = this.found(path).map((entity) => operation.run(entity, body as Request));
    // a topic can only be scheduled to, and its subscriptions number their messages alike
    return answers[0];
  }

  /** What it comes to for the message. */
  protected override outcomeName(state: string, remote: Fields): string {
    return outcomeOf(state, remote).name;
  }
}

function nextOf({ link, info }: Attached, entity: Entity): Outgoing | undefined {
  const entry = entity.next(info.sessionId);
  if (!entry) return undefined;
  // who asks for messages that are settled already receives and deletes
  if (link.remote.attach.snd_settle_mode === 1) {
    entity.remove(entry);
    return { bytes: entity.encode(entry) };
  }
  const token = entity.lock(entry);
  const settle = (state: string, remote: Fields) => entity.settle(token, outcomeOf(state, remote));
  return { bytes: entity.encode(entry), tag: tagOf(token), settle };
}

/** The entity of a `$management` node. */
const entityOf = (path: string) => path.slice(0, -MANAGEMENT.length);
