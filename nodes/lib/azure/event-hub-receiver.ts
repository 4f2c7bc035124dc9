import { pauseAfter } from '../connection/backoff';
import type { Connection, ConnectionUser } from '../connection/connection';
import { bareOf } from '../codec/notation';
import type { AmqpError } from '../errors';
import { type Received, Receiver, type ReceiverOptions, type ReceiverUser } from '../receiver/receiver';
import { Receivers, share } from '../receiver/receivers';
import { type State, worstOf } from '../state';
import { EventHub, type PartitionInfo } from './event-hub';
import { type Place, Progress } from './progress';

/** Where to begin in a partition in which the flow has not been before. */
export type Start =
  | { at: 'latest' | 'earliest' }
  /** Behind the event with this offset. */
  | { at: 'offset'; offset: string }
  /** With the event of this number. */
  | { at: 'sequence'; number: string }
  /** With the first event from then on: milliseconds since 1970. */
  | { at: 'time'; time: number };

/** The places of a flow, by the ids of partitions. */
export type Places = Record<string, Place>;

/** Keeps places while nothing receives. */
export interface PlaceStore {
  load(): Promise<Places>;
  save(places: Places): Promise<void>;
}

export interface EventHubReceiverOptions extends Omit<ReceiverOptions, 'address' | 'dynamic' | 'isAnswered'> {
  /** The event hub. */
  address: string;
  /** The consumer group. */
  group: string;
  /** Undefined: all that there are. */
  partitions?: string[];
  start: Start;
  /** Of two receivers of a group and partition the one with the higher epoch stays. Undefined: up to five may receive. */
  epoch?: number;
  /** Undefined: places are known as long as this receives. */
  places?: PlaceStore;
}

/** A partition, and how far the flow has come in it. */
interface Partition {
  id: string;
  receiver: Receiver;
  progress: Progress;
}

/** Milliseconds between saves of places that have changed. */
const SAVE_INTERVAL = 5000;
const OFFSET = 'x-opt-offset';

/**
 * Receives from partitions of an event hub of Azure, by a link for each. After a loss of the link it goes on behind the
 * last event up to which the flow is done; after a restart too, where places are kept. The service itself keeps none.
 */
export class EventHubReceiver extends Receivers implements ConnectionUser {
  readonly sessions = 0;
  readonly #connection: Connection;
  readonly #options: EventHubReceiverOptions;
  readonly #user: ReceiverUser;
  readonly #hub: EventHub;
  readonly #partitions = new Map<string, Partition>();
  #places: Places | undefined;
  /** As they were saved. */
  #saved = '';
  #saving: Promise<void> = Promise.resolve();
  #saver: NodeJS.Timeout | undefined;
  #retry: NodeJS.Timeout | undefined;
  #failures = 0;
  #isSearching = false;
  /** Of the search for partitions. */
  #searchState: State = { name: 'detached' };
  #isOpen = false;
  /** Nothing more is taken: the node is closing. */
  #isStopped = false;
  /** What was asked for before it was known which partitions there are. */
  #granted = 0;

  constructor(connection: Connection, options: EventHubReceiverOptions, user: ReceiverUser) {
    super();
    this.#connection = connection;
    this.#options = options;
    this.#user = user;
    this.#hub = new EventHub(connection, options.address);
  }

  override get state(): State {
    return this.all.length === 0 ? this.#searchState : worstOf(this.#searchState, super.state);
  }

  override open(): void {
    this.#isOpen = true;
    this.#connection.add(this);
    this.#saver ??= setInterval(
      this.#connection.guarded(() => void this.#save()),
      SAVE_INTERVAL,
    );
    super.open();
  }

  override stop(): void {
    this.#isStopped = true;
    for (const { progress } of this.#partitions.values()) progress.stop();
    super.stop();
  }

  override grant(credit: number): void {
    if (this.all.length === 0) this.#granted += credit;
    super.grant(credit);
  }

  /** For the connection. */
  connected(): void {
    clearTimeout(this.#retry);
    void this.#search();
  }

  /** For the connection. */
  disconnected(state: State): void {
    clearTimeout(this.#retry);
    this.#show(state);
  }

  #show(state: State): void {
    this.#searchState = state;
    this.emit('state', this.state);
  }

  /** Finds out which partitions there are, and where to begin in each; more may have come since the last time. */
  async #search(): Promise<void> {
    if (this.#isSearching || this.#isStopped) return;
    this.#isSearching = true;
    if (this.#searchState.name !== 'refused') this.#show({ name: 'connecting' });
    try {
      const { partitions, places } = this.#options;
      this.#places ??= (await places?.load()) ?? {};
      const ids = partitions ?? (await this.#hub.info()).partitions;
      for (const id of ids) {
        if (this.#partitions.has(id) || this.#isStopped) continue;
        const place = this.#places[id] ?? (await this.#beginning(id));
        if (!this.#isStopped) this.#receive(id, place, ids.length);
      }
      this.#failures = this.#granted = 0;
      this.#show({ name: 'connected' });
    } catch (error) {
      this.#failed(error as AmqpError);
    } finally {
      this.#isSearching = false;
    }
  }

  #failed(error: AmqpError): void {
    // The connection tells itself of what it has lost.
    if (this.#isStopped || this.#connection.state.name !== 'connected') return;
    this.#show({ name: 'refused', error });
    const again = this.#connection.guarded(() => void this.#search());
    this.#retry = setTimeout(again, pauseAfter(this.#failures++, this.#connection.options.backoff));
  }

  /** What comes while there is no link is to come too: so "from now on" is a place. */
  async #beginning(id: string): Promise<Place | undefined> {
    if (this.#options.start.at !== 'latest') return undefined;
    return { offset: (await this.#hub.partition(id)).lastOffset };
  }

  #receive(id: string, place: Place | undefined, count: number): void {
    const { name, address, group, source } = this.#options;
    const progress = new Progress((token) => receiver.holds(token));
    progress.begin(place);
    const { start, epoch } = this.#options;
    const given = ({ incoming, delivery }: Received): void => {
      const offset = offsetOf(incoming.fields.message_annotations);
      if (offset !== undefined) progress.given(offset, delivery.id);
    };
    const receiver: Receiver = new Receiver(
      this.#connection,
      {
        ...this.#options,
        name: `${name}:${id}`,
        address: `${address}/ConsumerGroups/${group}/Partitions/${id}`,
        dynamic: false,
        creditWindow: share(this.#options.creditWindow, count),
        windowBytes: share(this.#options.windowBytes, count),
        source: {
          ...source,
          // Asked for with each attach.
          get events() {
            return conditionOf(progress.place, start);
          },
        },
        ...(epoch !== undefined && { properties: { 'com.microsoft:epoch': { $amqp: 'long', value: epoch } } }),
      },
      {
        ...this.#user,
        message: (incoming, delivery) => {
          delivery.partition = id;
          this.#user.message(incoming, delivery);
          given({ incoming, delivery });
        },
        messages: (all) => {
          for (const { delivery } of all) delivery.partition = id;
          this.#user.messages?.(all);
          for (const one of all) given(one);
        },
        lost: () => progress.interrupt(),
      },
    );
    this.#partitions.set(id, { id, receiver, progress });
    this.add(receiver);
    if (this.#granted > 0) receiver.grant(this.#granted);
    if (this.#isOpen) receiver.open();
  }

  /** Begins anew in each partition, as if the flow had never been there. */
  async forget(): Promise<void> {
    // All that may fail comes before anything is forgotten.
    const beginnings = new Map<string, Place | undefined>();
    for (const id of this.#partitions.keys()) beginnings.set(id, await this.#beginning(id));
    for (const { id, receiver, progress } of this.#partitions.values()) {
      progress.interrupt();
      await receiver.unsubscribe();
      delete this.#places?.[id];
      progress.begin(beginnings.get(id));
      if (!this.#isStopped) receiver.open();
    }
    await this.#save();
  }

  /** What the service knows of all partitions. */
  async info(): Promise<{ name: string; partitions: PartitionInfo[] }> {
    const { name, partitions: ids } = await this.#hub.info();
    const partitions: PartitionInfo[] = [];
    for (const id of ids) partitions.push(await this.#hub.partition(id));
    return { name, partitions };
  }

  /** The places to go on from. */
  get places(): Places {
    const places: Places = { ...this.#places };
    for (const { id, progress } of this.#partitions.values()) {
      const { place } = progress;
      if (place) places[id] = place;
    }
    return places;
  }

  #save(): Promise<void> {
    const { places: store } = this.#options;
    if (!store || !this.#places) return this.#saving;
    const { places } = this;
    const text = JSON.stringify(places);
    if (text === this.#saved) return this.#saving;
    this.#saved = text;
    this.#saving = this.#saving
      .then(() => store.save(places))
      .catch((error: unknown) => {
        this.#saved = '';
        this.#connection.emit('fault', error);
      });
    return this.#saving;
  }

  /** What is taken off now comes again. */
  #interrupt(): void {
    for (const { progress } of this.#partitions.values()) progress.interrupt();
  }

  override async unsubscribe(): Promise<void> {
    this.#interrupt();
    await super.unsubscribe();
  }

  override async close(): Promise<void> {
    this.stop();
    clearTimeout(this.#retry);
    clearInterval(this.#saver);
    this.#interrupt();
    await this.#save();
    await super.close();
    this.#hub.close();
    await this.#connection.remove(this);
  }
}

/** The condition on events to begin with (Event Hubs, "AMQP 1.0 protocol guide"). */
function conditionOf(place: Place | undefined, start: Start): string {
  if (place) return behind(place.offset);
  switch (start.at) {
    case 'offset':
      return behind(start.offset);
    case 'sequence':
      return `amqp.annotation.x-opt-sequence-number >= '${start.number}'`;
    case 'time':
      return `amqp.annotation.x-opt-enqueued-time >= '${start.time}'`;
    case 'earliest':
      return behind('-1');
    case 'latest':
      return behind('@latest');
  }
}

function behind(offset: string): string {
  return `amqp.annotation.${OFFSET} > '${offset}'`;
}

function offsetOf(annotations: unknown): string | undefined {
  const offset = bareOf((annotations as Record<string, unknown> | undefined)?.[OFFSET]);
  return typeof offset === 'string' || typeof offset === 'number' ? String(offset) : undefined;
}
