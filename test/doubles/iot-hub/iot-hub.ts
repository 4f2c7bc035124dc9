import { randomUUID } from 'node:crypto';
import rhea, { type Message as Decoded } from 'rhea';
import { decode } from '../../../broker/bytes';
import type { Fields } from '../../../broker/rhea';
import { secretOf } from '../../secrets';
import { tagOf, tokenOf } from '../azure/locks';
import { Message, unpack } from '../azure/messages';
import { missing, notAllowed, Refusal, refusalOf, unauthorized } from '../azure/refusals';
import { type Attached, type LinkInfo, type Outgoing, type Purpose, Server, type ServerOptions } from '../azure/server';
import { Authority, type Claim, type DeviceOptions, type Policy, sign } from './authorization';
import { type Answer, type Channel, Channels, contentOf, textIn } from './channels';
import { type Fate, type Outcome, Queue, type QueueOptions } from './queue';
import { Twin, type TwinAnswer, type TwinDocument } from './twin';

const { types } = rhea;

export interface IotHubOptions extends ServerOptions, QueueOptions {
  /** by their ids, which differ by case */
  devices: Record<string, DeviceOptions>;
  /** by their names; default: iothubowner, which may do everything */
  policies?: Record<string, Policy>;
  /** as clients name it, whose first part is the name of the hub (default localhost) */
  host?: string;
  /** commands that wait for one device at the most (default 50) */
  maxCommands?: number;
  /** the event hub for telemetry, to which those are sent who want to read it here (default: they are refused) */
  events?: { hostname: string; port: number; name: string };
}

/** What a device has sent. */
export interface Telemetry {
  deviceId: string;
  /** the bytes of a data section, or else the value */
  body: unknown;
  /** application properties */
  properties: Fields;
  /** those of the device, and what the service adds for its consumers */
  annotations: Fields;
  message: Decoded;
}

/** A command for a device. */
export interface Command {
  /** message-id (default: a new one) */
  id?: string;
  body: string | Buffer;
  properties?: Record<string, unknown>;
  /** which outcomes feedback is wanted of (default none) */
  ack?: 'none' | 'positive' | 'negative' | 'full';
  /** when it is given up; milliseconds since 1970 (default: in an hour) */
  expiresAt?: number;
}

/** What became of a command, as the service writes it. */
export interface FeedbackRecord {
  originalMessageId: string;
  description: string;
  deviceGenerationId: string;
  deviceId: string;
  enqueuedTimeUtc: string;
  statusCode: Fate;
}

interface Device {
  id: string;
  key: string;
  generationId: string;
  commands: Queue;
  twin: Twin;
  channels: Channels;
}

const HOUR = 3_600_000;
const OWNER = 'iothubowner';
const EVENTS = /^messages\/events(\/ConsumerGroups\/[^/]+\/Partitions\/\d+)$/i;
const DEVICE_NODE = /^devices\/([^/]+)\/(messages\/events|messages\/devicebound|twin|methods\/devicebound)$/i;
/** as many records are told in one message at the most */
const MOST_RECORDS = 64;

/** A key of a kind, as the portal gives them. */
const keyOf = (kind: string) => Buffer.from(secretOf(kind)).toString('base64');

/**
 * A double of Azure IoT Hub's AMQP endpoint: it does what the vendor's documentation says and the vendor's own clients rely
 * on, and was never compared with the service itself.
 *
 * Left out: modules, certificates of devices, Entra, file uploads (its notifications are attached to, and nothing comes),
 * the event hub that has telemetry, the registry and all else that is HTTP. Feedback is told at once; the service collects
 * it for some seconds.
 *
 * Events, besides those of each server: 'telemetry' (a Telemetry), 'command' (device id), 'twin' (device id, operation,
 * status), 'notifying' (device id, whether changes are told).
 */
export class IotHub extends Server<Claim> {
  readonly authority: Authority;
  /** all that devices have sent, in order */
  readonly telemetry: Telemetry[] = [];

  private readonly host: string;
  private readonly devices = new Map<string, Device>();
  private readonly feedback: Queue;
  private records: FeedbackRecord[] = [];

  static async start(options: IotHubOptions): Promise<IotHub> {
    const hub = new IotHub(options);
    await hub.listen();
    return hub;
  }

  private constructor(readonly options: IotHubOptions) {
    super(options, {
      name: 'iot hub',
      maxMessageSize: 262_144,
      websocketPath: '/$iothub/websocket',
      requiresSasl: false, // the vendor's clients for JavaScript begin with the open, and bring a token then
      tokenStatus: 200,
    });
    const { host = 'localhost', policies = { [OWNER]: { key: keyOf('hub key') } } } = options;
    this.host = host;
    for (const [id, { key = keyOf(`key of ${id}`) }] of Object.entries(options.devices)) {
      const commands = new Queue(options, () => this.wake());
      const channels = new Channels(() => this.wake());
      this.devices.set(id, { id, key, generationId: randomUUID(), commands, twin: new Twin(), channels });
    }
    this.authority = new Authority(host, Object.fromEntries(this.devices), policies);
    this.feedback = new Queue(options, () => this.wake());
  }

  // For tests

  /** The host, with the port that the service need not name. */
  get hostName(): string {
    return `${this.host}:${this.port}`;
  }

  /** As an administrator copies it from the portal, with the port. */
  serviceConnectionString(policy = Object.keys(this.authority.policies)[0]!): string {
    const { key } = this.authority.policies[policy]!;
    return `HostName=${this.hostName};SharedAccessKeyName=${policy};SharedAccessKey=${key}`;
  }

  deviceConnectionString(id: string): string {
    return `HostName=${this.hostName};DeviceId=${id};SharedAccessKey=${this.device(id).key}`;
  }

  /** A signature with a policy's key, for `life` milliseconds. */
  serviceSignature({ policy = Object.keys(this.authority.policies)[0]!, life = HOUR } = {}): string {
    return sign(this.hostName, this.authority.policies[policy]!.key, Date.now() + life, policy);
  }

  /** A signature with a device's key, for `life` milliseconds. */
  deviceSignature(id: string, { life = HOUR } = {}): string {
    return sign(`${this.hostName}/devices/${id}`, this.device(id).key, Date.now() + life);
  }

  /** As the service sends one; gives its message-id. Throws a Refusal when the device has too many already. */
  sendCommand(id: string, { id: messageId = randomUUID(), body, properties, ack, expiresAt }: Command): string {
    const bytes = rhea.message.encode({
      message_id: messageId,
      to: `/devices/${id}/messages/devicebound`,
      ...(expiresAt !== undefined && { absolute_expiry_time: new Date(expiresAt) }),
      application_properties: { ...properties, ...(ack && { 'iothub-ack': ack }) },
      body: rhea.message.data_section(Buffer.from(body)),
    });
    this.enqueue(bytes);
    return messageId;
  }

  /** Commands that wait for the device, or are locked by it. */
  commands(id: string): number {
    return this.device(id).commands.depth;
  }

  /** All locks of the device's commands are lost now. */
  expireLocks(id: string): void {
    this.device(id).commands.expireLocks();
  }

  /** Rejects with a Refusal when the device is not there (status 404), or gives no answer in `timeout` milliseconds (504). */
  invokeMethod(id: string, name: string, payload: unknown = null, { timeout = 30_000 } = {}): Promise<Answer> {
    return this.device(id).channels.invoke(name, payload, timeout);
  }

  /** As the service changes what is desired; null removes a property. */
  setDesired(id: string, patch: Record<string, unknown>): void {
    const { twin, channels } = this.device(id);
    channels.notify(twin.desire(patch));
  }

  twin(id: string): TwinDocument {
    return this.device(id).twin.document();
  }

  override async stop(): Promise<void> {
    for (const { commands, channels } of this.devices.values()) {
      commands.stop();
      channels.stop();
    }
    this.feedback.stop();
    await super.stop();
  }

  // Nodes

  protected override authorizeLink({ peer, info }: Attached<Claim, LinkInfo>): void {
    const [, id] = DEVICE_NODE.exec(info.address) ?? [];
    // who may not use a device is not told whether there is one
    const isKnown = id === undefined || this.devices.has(id);
    const isFor = ({ service, devices, device }: Claim) => (id === undefined ? service : devices || device === id);
    const claims = [...peer.claims.values()];
    if (isKnown && claims.some((claim) => claim.until > Date.now() && isFor(claim))) return;
    throw unauthorized('401002: IotHubUnauthorizedAccess (no token for it)');
  }

  protected override admit({ info, link }: Attached<Claim, LinkInfo>): Purpose {
    const { address, role } = info;
    const [, id, node] = DEVICE_NODE.exec(address) ?? [];
    if (id !== undefined) {
      return this.admitToDevice(this.device(id), `${role} ${node!.toLowerCase()}`, link.remote.attach.properties ?? {});
    }
    switch (`${role} ${address.toLowerCase()}`) {
      case 'sender messages/devicebound':
        return { take: (bytes) => this.enqueue(bytes) };
      case 'receiver messages/servicebound/feedback':
        return { next: () => this.nextFeedback() };
      case 'receiver messages/servicebound/filenotifications':
        return {};
      default:
        throw this.elsewhere(info);
    }
  }

  /** Another server has the node, or none. */
  private elsewhere({ address, role }: LinkInfo): Refusal {
    const { events } = this.options;
    const [, partition] = EVENTS.exec(address) ?? [];
    if (!events || role === 'sender' || partition === undefined) return missing(address);
    const { hostname, port, name } = events;
    return new Refusal('amqp:link:redirect', 'The node is elsewhere.', 400, {
      hostname,
      'network-host': hostname,
      port: types.wrap_uint(port),
      address: `amqps://${hostname}:${port}/${name}${partition}`,
    });
  }

  private admitToDevice(device: Device, place: string, properties: Fields): Purpose {
    const { channels, commands } = device;
    switch (place) {
      case 'sender messages/events':
        return { take: (bytes, isBatch) => this.onTelemetry(device, isBatch ? unpack(bytes) : [bytes]) };
      case 'receiver messages/devicebound':
        return { next: () => nextOf(commands) };
      case 'sender twin': {
        const channel = channels.at('twin', properties);
        const take = (bytes: Buffer) => this.onTwinRequest(device, channel, bytes);
        return { take, end: channels.join(channel, 'sender') };
      }
      case 'sender methods/devicebound': {
        const channel = channels.at('methods', properties);
        return { take: (bytes) => channels.onAnswer(bytes), end: channels.join(channel, 'sender') };
      }
      case 'receiver twin':
      case 'receiver methods/devicebound': {
        const channel = channels.at(place.endsWith('twin') ? 'twin' : 'methods', properties);
        return { outbox: channel.outbox, end: channels.join(channel, 'receiver') };
      }
      default:
        throw notAllowed(`There is no ${place} of a device.`);
    }
  }

  private device(id: string): Device {
    const device = this.devices.get(id);
    if (!device) throw new Refusal('amqp:not-found', `404001: DeviceNotFound (${id})`, 404);
    return device;
  }

  // Messages

  private onTelemetry({ id, generationId }: Device, messages: Buffer[]): void {
    for (const bytes of messages) {
      const message: Fields = decode(bytes) ?? {};
      const annotations = {
        ...message.message_annotations,
        'iothub-connection-device-id': id,
        'iothub-connection-auth-generation-id': generationId,
        'iothub-connection-auth-method':
          '{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}',
        'iothub-enqueuedtime': new Date(),
        'iothub-message-source': 'Telemetry',
      };
      const telemetry: Telemetry = {
        deviceId: id,
        body: contentOf(message),
        properties: message.application_properties ?? {},
        annotations,
        message: message as Decoded,
      };
      this.telemetry.push(telemetry);
      this.emit('telemetry', telemetry);
    }
  }

  private enqueue(bytes: Buffer): void {
    const { to, message_id: messageId, absolute_expiry_time: end, ...rest }: Fields = decode(bytes) ?? {};
    const id = /^\/devices\/([^/]+)\/messages\/devicebound$/i.exec(String(to))?.[1];
    if (id === undefined) throw new Refusal('com.microsoft:argument-error', `to is no device: ${String(to)}`);
    const device = this.device(decodeURIComponent(id));
    if (device.commands.depth >= (this.options.maxCommands ?? 50)) {
      throw new Refusal('amqp:resource-limit-exceeded', '403004: DeviceMaximumQueueDepthExceeded');
    }
    const ack: unknown = rest.application_properties?.['iothub-ack'] ?? 'none';
    device.commands.add(Message.decode(bytes), {
      expiresAt: end ? Number(end) : Date.now() + HOUR,
      over: (fate) => {
        const wanted = fate === 'Success' ? ['positive', 'full'] : ['negative', 'full'];
        if (wanted.includes(String(ack))) this.record(device, messageId, fate);
      },
    });
    this.emit('command', device.id);
  }

  private record({ id, generationId }: Device, messageId: unknown, fate: Fate): void {
    this.records.push({
      originalMessageId: textOf(messageId),
      description: fate,
      deviceGenerationId: generationId,
      deviceId: id,
      enqueuedTimeUtc: new Date().toISOString(),
      statusCode: fate,
    });
    this.wake();
  }

  private nextFeedback(): Outgoing | undefined {
    const records = this.records.splice(0, MOST_RECORDS);
    if (records.length > 0) {
      const bytes = rhea.message.encode({
        message_id: randomUUID(),
        user_id: Buffer.from(this.host.split('.')[0]!),
        content_type: 'application/vnd.microsoft.iothub.feedback.json',
        body: rhea.message.data_section(Buffer.from(JSON.stringify(records))),
      });
      this.feedback.add(Message.decode(bytes));
    }
    return nextOf(this.feedback);
  }

  private onTwinRequest({ id, twin }: Device, channel: Channel, bytes: Buffer): void {
    const message: Fields = decode(bytes) ?? {};
    const { operation, resource } = message.message_annotations ?? {};
    let answer: TwinAnswer;
    let status = 200;
    try {
      answer = twin.answer({ operation, resource, body: textIn(message) });
    } catch (error) {
      const refusal = refusalOf(error);
      ({ status } = refusal);
      answer = { body: JSON.stringify({ errorCode: status, message: refusal.message }) };
    }
    const { version, notifies, body = '' } = answer;
    channel.notifies = notifies ?? channel.notifies;
    channel.outbox.push(
      rhea.message.encode({
        correlation_id: message.correlation_id,
        message_annotations: {
          status: types.wrap_int(status),
          ...(version !== undefined && { version: types.wrap_long(version) }),
        },
        body: rhea.message.data_section(Buffer.from(body)),
      }),
    );
    this.wake();
    this.emit('twin', id, operation, status);
    if (notifies !== undefined) this.emit('notifying', id, notifies);
  }
}

/** What a consumer means by an outcome. */
const MEANINGS: Record<string, Outcome> = {
  accepted: 'complete',
  released: 'abandon',
  modified: 'abandon',
  rejected: 'reject',
};

function nextOf(queue: Queue): Outgoing | undefined {
  const next = queue.next();
  if (!next) return undefined;
  const { entry, token } = next;
  const { message, deliveryCount, sequenceNumber, enqueuedAt } = entry;
  message.deliveryCount = deliveryCount;
  message.annotate({
    'x-opt-sequence-number': types.wrap_long(sequenceNumber),
    'x-opt-enqueued-time': types.wrap_timestamp(enqueuedAt),
  });
  const settle = (outcome: string) => queue.settle(token, MEANINGS[outcome]!);
  return { bytes: message.encode(), tag: tagOf(token), settle };
}

/** A message-id as text: a uuid is 16 bytes. */
function textOf(id: unknown): string {
  if (Buffer.isBuffer(id)) return id.length === 16 ? tokenOf(id) : id.toString('base64');
  return typeof id === 'string' || typeof id === 'number' ? String(id) : '';
}
