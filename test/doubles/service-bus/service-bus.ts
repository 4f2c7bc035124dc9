import type { Delivery } from 'rhea';
import type { Fields } from '../../../broker/rhea';
import type { Answer } from '../azure/answers';
import { pathOf } from '../azure/authorization';
import { sendSettled } from '../azure/links';
import { type LockToken, tagOf } from '../azure/locks';
import { Message, unpack } from '../azure/messages';
import {
  type Attached as Linked,
  isManagement,
  type LinkInfo as Info,
  Namespace,
  type NamespaceOptions,
} from '../azure/namespace';
import { disabled, missing, notAllowed, refusalOf } from '../azure/refusals';
import { Entity, type EntityOptions, type Outcome } from './entity';
import { answer, grantSession, outcomeOf, sessionAskedFor, withhold } from './links';
import { operationOf, type Request } from './management';
import { sessionLost, timedOut } from './refusals';

export type { Policy, Right, Tokens } from '../azure/authorization';
export type { ServiceError } from '../azure/namespace';
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

/** What became of a message at a consumer; `error` when the service did not agree. */
export interface Settled {
  address: string;
  outcome: Outcome['name'];
  error?: string;
}

const MANAGEMENT = '/$management';

interface Attached extends Linked {
  info: LinkInfo;
  /** What it receives from, once it may: not as long as it waits for a session. */
  entity?: Entity;
  /** What is unsettled; nothing, where messages are received and deleted. */
  locks?: Map<Delivery, LockToken>;
  waiting?: { session: string | null; timer: NodeJS.Timeout };
}

/**
 * A double of Azure Service Bus: it does what the vendor's documentation says and the vendor's own clients rely on, and was
 * never compared with the service itself.
 *
 * Left out: rules of subscriptions (each gets all messages), transactions, duplicate detection, forwarding, partitions.
 *
 * What `fail` plans goes for messages, which are rejected, for receivers, which are refused, and for requests to
 * `$management`. Events, besides those of each namespace: 'waiting' (for a session: a LinkInfo), 'settled' (a Settled).
 */
export class ServiceBus extends Namespace<Attached> {
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

  protected linksOf(address: string): Attached[] {
    return this.at(address);
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

  protected admit(attached: Attached): void {
    const { link, info } = attached;
    const path = info.address;
    this.authorizeLink(attached);
    if (isManagement(path)) {
      this.found(entityOf(path));
      return this.open(attached);
    }
    if (info.role === 'sender') {
      const targets = this.found(path);
      if (targets.some((target) => target.disabled)) throw disabled(path);
      if (targets.some((target) => !target.deadLetters)) throw notAllowed('Nothing is sent to a dead-letter queue.');
      return this.open(attached);
    }
    const entity = this.entities.get(path);
    if (!entity) throw this.topics.has(path) ? notAllowed('A topic has subscriptions to receive from.') : missing(path);
    if (entity.disabled) throw disabled(path);
    this.failAsPlanned(path);
    // who asks for messages that are settled already receives and deletes
    if (link.remote.attach.snd_settle_mode !== 1) attached.locks = new Map();
    const session = sessionAskedFor(link);
    const { requiresSession = false } = entity.options;
    if (requiresSession && session === undefined) throw notAllowed('A receiver must ask for a session here.');
    if (!requiresSession && session !== undefined) throw notAllowed('The entity does not have sessions.');
    if (session === undefined) return this.consume(attached, entity);
    if (this.acceptSession(attached, entity, session)) return;
    this.waitForSession(attached, session);
  }

  private consume(attached: Attached, entity: Entity): void {
    attached.entity = entity;
    attached.sendNext = () => this.sendNext(attached, entity);
    this.open(attached);
    this.wake();
  }

  private acceptSession(attached: Attached, entity: Entity, asked: string | null): boolean {
    const { link, info } = attached;
    const holder = { onSessionLost: () => this.cut(attached, sessionLost()) };
    const session = entity.acceptSession(asked, holder);
    if (!session) return false;
    info.sessionId = session.id;
    grantSession(link, session);
    this.consume(attached, entity);
    return true;
  }

  /** The attach is answered once there is a session with messages, or when the client's time is over. */
  private waitForSession(attached: Attached, session: string | null): void {
    const { link } = attached;
    const { properties } = link.remote.attach;
    const time: number = properties?.['com.microsoft:timeout'] ?? 60_000;
    withhold(link);
    const timer = setTimeout(() => this.cut(attached, timedOut()), time);
    attached.waiting = { session, timer };
    this.emit('waiting', attached.info);
    this.attached.set(link, attached);
  }

  protected override answerLate({ link }: Attached): void {
    answer(link);
  }

  protected override leave({ info, entity, waiting }: Attached): void {
    clearTimeout(waiting?.timer);
    if (entity && info.sessionId !== undefined) entity.releaseSession(info.sessionId);
  }

  /** What messages to the path go to. */
  private found(path: string): Entity[] {
    const entity = this.entities.get(path);
    const targets = entity ? [entity] : this.topics.get(path);
    if (!targets) throw missing(path);
    return targets;
  }

  // Messages and requests that come

  protected take({ info }: Attached, bytes: Buffer, isBatch: boolean): void {
    this.failAsPlanned(info.address);
    const targets = this.found(info.address);
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

  // Messages that go

  protected override deliver(attached: Attached): void {
    if (attached.waiting) this.tryAgain(attached);
    super.deliver(attached);
  }

  private tryAgain(attached: Attached): void {
    const { link, info, waiting } = attached;
    if (!this.acceptSession(attached, this.entity(info.address), waiting!.session)) return;
    clearTimeout(waiting!.timer);
    attached.waiting = undefined;
    answer(link);
  }

  private sendNext({ link, locks, info }: Attached, entity: Entity): boolean {
    const entry = entity.next(info.sessionId);
    if (!entry) return false;
    if (locks) {
      const token = entity.lock(entry);
      locks.set(link.send(entity.encode(entry), tagOf(token), 0), token);
    } else {
      entity.remove(entry);
      sendSettled(link, entity.encode(entry));
    }
    return true;
  }

  protected settle({ info, entity, locks }: Attached, delivery: Delivery, state: string, remote: Fields): void {
    const token = locks?.get(delivery);
    if (!entity || token === undefined) return;
    locks!.delete(delivery);
    const { address } = info;
    const outcome = outcomeOf(state, remote);
    const settled: Settled = { address, outcome: outcome.name };
    try {
      entity.settle(token, outcome);
    } catch (error) {
      settled.error = refusalOf(error).condition;
      throw error;
    } finally {
      this.emit('settled', settled);
    }
  }
}

/** The entity of a `$management` node. */
const entityOf = (path: string) => path.slice(0, -MANAGEMENT.length);
