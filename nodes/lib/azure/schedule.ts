import type { Connection } from '../connection/connection';
import { Entity, type SequenceNumber } from './entity';

/** Entities whose links are kept. */
const MOST = 8;

/** What is given to Azure Service Bus to be kept until its time, and can be taken back until then. */
export class Schedule {
  readonly #connection: Connection;
  /** By their addresses; the one that was used last at the end. */
  readonly #entities = new Map<string, Entity>();

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** `message`: encoded, with its time as an annotation. Resolves with its sequence number. */
  put(
    address: string,
    message: { bytes: Buffer; id: string; session?: string; partition?: string },
  ): Promise<SequenceNumber | undefined> {
    return this.#entity(address).schedule(message);
  }

  cancel(address: string, numbers: SequenceNumber[]): Promise<void> {
    return this.#entity(address).cancelScheduled(numbers);
  }

  close(): void {
    for (const entity of this.#entities.values()) entity.close();
    this.#entities.clear();
  }

  #entity(address: string): Entity {
    const entity = this.#entities.get(address) ?? new Entity(this.#connection, address);
    this.#entities.delete(address);
    this.#entities.set(address, entity);
    const [oldest] = this.#entities.keys();
    if (this.#entities.size > MOST && oldest !== undefined) {
      this.#entities.get(oldest)?.close();
      this.#entities.delete(oldest);
    }
    return entity;
  }
}
