// An event hub with its partitions, and the events in them. No word of AMQP's links.
import { createHash } from 'node:crypto';
import rhea, { type Message as AmqpMessage } from 'rhea';
import type { Message } from '../azure/messages';
import { badPartition } from './refusals';

const { types } = rhea;

export interface HubOptions {
  partitions: number;
  /** consumer groups, besides `$Default` (default: none) */
  groups?: string[];
}

export interface Event {
  /** from 0 on, without gaps */
  sequenceNumber: number;
  /** the number of a byte, and never the same as the sequence number */
  offset: string;
  /** milliseconds */
  enqueuedAt: number;
  partitionKey: string | undefined;
  /** as a client gets it */
  message: AmqpMessage;
}

/** Where the first event of a partition begins. */
const FIRST_OFFSET = 4096;
/** What the service tells of the last event, where there never was one: .NET's first moment. */
const NEVER = -62_135_596_800_000;

export class Partition {
  /** What is left of them: the older ones go first. */
  events: Event[] = [];
  private readonly stored = new WeakMap<Event, Message>();
  private nextSequenceNumber = 0;
  private nextOffset = FIRST_OFFSET;
  /** the last one that was enqueued, gone or not */
  private last: Event | undefined;

  constructor(readonly id: string) {}

  get beginSequenceNumber(): number {
    return this.events[0]?.sequenceNumber ?? this.nextSequenceNumber;
  }

  get lastSequenceNumber(): number {
    return this.nextSequenceNumber - 1;
  }

  get lastOffset(): string {
    return this.last?.offset ?? '-1';
  }

  /** milliseconds */
  get lastEnqueuedAt(): number {
    return this.last?.enqueuedAt ?? NEVER;
  }

  /** Appends events, all of them or, when one is no message, none; the messages are the partition's from now on. */
  add(messages: Message[]): void {
    const enqueuedAt = Date.now();
    let [sequenceNumber, nextOffset] = [this.nextSequenceNumber, this.nextOffset];
    const fresh = messages.map((message) => {
      const offset = String(nextOffset);
      message.annotate({
        'x-opt-sequence-number': types.wrap_long(sequenceNumber),
        'x-opt-offset': types.wrap_string(offset),
        'x-opt-enqueued-time': types.wrap_timestamp(enqueuedAt),
      });
      const bytes = message.encode();
      const { partitionKey } = message;
      const decoded = rhea.message.decode(bytes) as unknown as AmqpMessage;
      const event: Event = { sequenceNumber, offset, enqueuedAt, partitionKey, message: decoded };
      this.stored.set(event, message);
      sequenceNumber++;
      nextOffset += bytes.length;
      return event;
    });
    this.events.push(...fresh);
    this.last = fresh.at(-1) ?? this.last;
    Object.assign(this, { nextSequenceNumber: sequenceNumber, nextOffset });
  }

  /** The first one from a sequence number on that is still there. */
  from(sequenceNumber: number): Event | undefined {
    return this.events[Math.max(0, sequenceNumber - this.beginSequenceNumber)];
  }

  /** The event as a client gets it; with what there is to tell of the partition, if asked for. */
  encode(event: Event, { metrics = false } = {}): Buffer {
    const message = this.stored.get(event)!;
    if (!metrics) return message.encode();
    return message.encode({
      last_enqueued_sequence_number: types.wrap_long(this.lastSequenceNumber),
      last_enqueued_offset: types.wrap_string(this.lastOffset),
      last_enqueued_time_utc: types.wrap_timestamp(this.lastEnqueuedAt),
      runtime_info_retrieval_time_utc: types.wrap_timestamp(Date.now()),
    });
  }

  /** Retention: what is older than the one with this sequence number is gone. */
  trim(sequenceNumber: number): void {
    this.events = this.events.filter((event) => event.sequenceNumber >= sequenceNumber);
  }
}

export class Hub {
  readonly createdAt = Date.now();
  readonly partitions: Partition[];
  /** in small letters */
  readonly groups: Set<string>;
  disabled = false;
  private turn = 0;

  constructor(
    readonly name: string,
    { partitions, groups = [] }: HubOptions,
  ) {
    this.partitions = Array.from({ length: partitions }, (_, id) => new Partition(String(id)));
    this.groups = new Set(['$Default', ...groups].map((group) => group.toLowerCase()));
  }

  /** All events that are left, by their partitions. */
  get events(): Event[] {
    return this.partitions.flatMap(({ events }) => events);
  }

  /** Throws a Refusal, when there is no such partition. */
  partition(id: number | string): Partition {
    const partition = this.partitions.find((each) => each.id === String(id));
    if (!partition) throw badPartition(this.partitions.length);
    return partition;
  }

  /** Where events with this key go, always; those without one take turns. */
  partitionFor(key: string | undefined): Partition {
    const number = key === undefined ? this.turn++ : createHash('sha256').update(key).digest().readUInt32BE();
    return this.partitions[number % this.partitions.length]!;
  }
}
