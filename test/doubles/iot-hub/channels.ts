// The channels of a device: pairs of links for its twin and for its methods, which it names alike.
import { randomUUID } from 'node:crypto';
import rhea, { type Typed } from 'rhea';
import { decode } from '../../../broker/bytes';
import type { Fields } from '../../../broker/rhea';
import { tokenOf, uuidOf } from '../azure/locks';
import { Refusal } from '../azure/refusals';

const { Reader, ...types } = rhea.types as unknown as {
  Reader: new (bytes: Buffer) => { remaining(): number; read(): Typed & { descriptor?: Typed } };
} & typeof rhea.types;

type Kind = 'twin' | 'methods';

/** What a method has answered. */
export interface Answer {
  status: number;
  payload: unknown;
}

export interface Channel {
  id: string;
  kind: Kind;
  /** the links that it has now */
  roles: Set<'sender' | 'receiver'>;
  /** what waits for the device's receiver */
  outbox: Buffer[];
  /** whether changes of what is desired are told on it */
  notifies: boolean;
}

interface Pending {
  timer: NodeJS.Timeout;
  resolve(answer: Answer): void;
  reject(error: Refusal): void;
}

export class Channels {
  private readonly channels = new Map<string, Channel>();
  private readonly pending = new Map<string, Pending>();

  /** `ready` is called when there is something to be delivered. */
  constructor(private readonly ready: () => void) {}

  /** The channel that a link's properties name; there is one as long as there are links of it. */
  at(kind: Kind, properties: Fields): Channel {
    const id: unknown = properties['com.microsoft:channel-correlation-id'];
    if (typeof id !== 'string' || !id.startsWith(`${kind}:`)) {
      throw new Refusal('com.microsoft:argument-error', `com.microsoft:channel-correlation-id must be ${kind}:<id>`);
    }
    if (typeof properties['com.microsoft:api-version'] !== 'string') {
      throw new Refusal('com.microsoft:argument-error', 'com.microsoft:api-version is missing');
    }
    return this.channels.get(id) ?? { id, kind, roles: new Set(), outbox: [], notifies: false };
  }

  /** The channel has such a link now, until what this gives is called. */
  join(channel: Channel, role: 'sender' | 'receiver'): () => void {
    channel.roles.add(role);
    this.channels.set(channel.id, channel);
    return () => {
      channel.roles.delete(role);
      if (channel.roles.size === 0) this.channels.delete(channel.id);
    };
  }

  /** Tells a change of what is desired on all channels that asked for it. */
  notify(patch: { $version: number }): void {
    for (const { notifies, outbox } of this.channels.values()) {
      if (notifies) outbox.push(notification(patch));
    }
    this.ready();
  }

  async invoke(name: string, payload: unknown, timeout: number): Promise<Answer> {
    const channel = [...this.channels.values()].findLast(({ kind, roles }) => kind === 'methods' && roles.size === 2);
    if (!channel) throw new Refusal('amqp:not-found', '404103: DeviceNotOnline', 404);
    const id = randomUUID();
    const answered = new Promise<Answer>((resolve, reject) => {
      const late = () => this.fail(id, '504101: GatewayTimeout');
      this.pending.set(id, { timer: setTimeout(late, timeout), resolve, reject });
    });
    channel.outbox.push(
      rhea.message.encode({
        correlation_id: types.wrap_uuid(uuidOf(id)) as unknown as Buffer,
        application_properties: { 'IoThub-methodname': name },
        body: rhea.message.data_section(Buffer.from(JSON.stringify(payload))),
      }),
    );
    this.ready();
    return answered;
  }

  /** Throws a Refusal when it is not as the vendor's clients write answers. */
  onAnswer(bytes: Buffer): void {
    const message: Fields = decode(bytes) ?? {};
    const { correlation_id: id, application_properties: properties = {} } = message;
    if (!Buffer.isBuffer(id) || id.length !== 16) throw invalid('The correlation-id of an answer is a uuid.');
    if (!isInt(bytes, 'IoThub-status')) throw invalid('IoThub-status is an int.');
    const pending = this.pending.get(tokenOf(id));
    if (!pending) return; // nobody waits for it any more
    const text = textIn(message);
    let payload: unknown;
    try {
      payload = text === '' ? null : JSON.parse(text);
    } catch {
      throw invalid('The body of an answer is JSON.');
    }
    this.forget(tokenOf(id));
    pending.resolve({ status: properties['IoThub-status'], payload });
  }

  /** Gives up what waits for an answer. */
  stop(): void {
    for (const id of this.pending.keys()) this.fail(id, '503: the hub is gone');
  }

  private fail(id: string, description: string): void {
    const pending = this.pending.get(id);
    this.forget(id);
    pending?.reject(new Refusal('com.microsoft:timeout', description, 504));
  }

  private forget(id: string): void {
    clearTimeout(this.pending.get(id)?.timer);
    this.pending.delete(id);
  }
}

const invalid = (description: string) => new Refusal('amqp:invalid-field', description);

const notification = (patch: { $version: number }): Buffer =>
  rhea.message.encode({
    message_annotations: { resource: '/properties/desired', version: types.wrap_long(patch.$version) },
    body: rhea.message.data_section(Buffer.from(JSON.stringify(patch))),
  });

/** The bytes of a data section, or else the value. */
export const contentOf = ({ body }: Fields): unknown => body?.content ?? body;

/** The body, if it is text: in a data section, or as a value. */
export function textIn(message: Fields): string {
  const content = contentOf(message);
  if (Buffer.isBuffer(content)) return content.toString();
  return typeof content === 'string' ? content : '';
}

/** Whether an application property is there as an int, which rhea's numbers do not say (R24). */
function isInt(bytes: Buffer, property: string): boolean {
  const reader = new Reader(bytes);
  while (reader.remaining() > 0) {
    const { descriptor, value } = reader.read();
    if (descriptor?.value !== 0x74) continue;
    const flat = value as Typed[];
    const type: Fields | undefined = flat[flat.findIndex((key, i) => i % 2 === 0 && key.value === property) + 1]?.type;
    return type?.name === 'Int' || type?.name === 'SmallInt';
  }
  return false;
}
