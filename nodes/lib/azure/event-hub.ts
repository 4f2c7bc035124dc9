import type { Connection } from '../connection/connection';
import { bareOf } from '../codec/notation';
import { type Answer, Management } from './management';

/** What is known of a partition. */
export interface PartitionInfo {
  id: string;
  /** Text: beyond what JavaScript has as a number. */
  firstSequenceNumber: number | string;
  lastSequenceNumber: number | string;
  /** Of the last event; "-1" where there was none. */
  lastOffset: string;
  lastEnqueued?: Date;
  isEmpty: boolean;
}

export interface HubInfo {
  name: string;
  partitions: string[];
}

/** What an event hub tells of itself (Event Hubs, "AMQP 1.0 protocol guide", management). */
export class EventHub {
  readonly #connection: Connection;
  readonly #name: string;
  readonly #management: Management;

  constructor(connection: Connection, name: string) {
    this.#connection = connection;
    this.#name = name;
    this.#management = new Management(connection, '$management', name);
  }

  close(): void {
    this.#management.close();
  }

  async info(): Promise<HubInfo> {
    const { partition_ids: ids } = await this.#read('eventhub', {});
    return { name: this.#name, partitions: Array.isArray(ids) ? ids.map(String) : [] };
  }

  async partition(id: string): Promise<PartitionInfo> {
    const answer = await this.#read('partition', { partition: id });
    const { last_enqueued_time_utc: time, last_enqueued_offset: offset } = answer;
    return {
      id,
      firstSequenceNumber: bareOf(answer['begin_sequence_number']) as number | string,
      lastSequenceNumber: bareOf(answer['last_enqueued_sequence_number']) as number | string,
      lastOffset: typeof offset === 'string' ? offset : String(Number(offset ?? -1)),
      ...(time instanceof Date && { lastEnqueued: time }),
      isEmpty: answer['is_partition_empty'] === true,
    };
  }

  async #read(type: string, more: Answer): Promise<Answer> {
    const token = await this.#connection.options.tokenFor?.(this.#connection, this.#name);
    return this.#management.ask(
      {
        operation: 'READ',
        name: this.#name,
        type: `com.microsoft:${type}`,
        ...more,
        ...(token !== undefined && { security_token: token }),
      },
      {},
    );
  }
}
