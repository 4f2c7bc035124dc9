import { EventEmitter } from 'node:events';
import { type Bounds, isFull } from '../bounds';
import type { Style } from '../codec/notation';
import { pauseAfter } from '../connection/backoff';
import type { Connection, ConnectionUser } from '../connection/connection';
import type { Counters } from '../counters';
import { type AmqpError, amqpError, messageOf } from '../errors';
import { type Expires, Expiring } from '../expiring';
import { encode, type Outgoing, withMessageId, withReplyTo } from '../message/message';
import { Pause } from '../pause';
import { randomId } from '../random-id';
import { because } from '../sender/sender';
import type { State } from '../state';
import { LinkPair, PAIRED } from './link-pair';
import type { PendingRequest, RequestUser } from './requester';

export interface ManagementOptions extends Bounds {
  /** Begins the names of links. */
  name: string;
  /** Of the peer's node that answers. */
  address: string;
  /**
   * `pair`: RabbitMQ's, two links of one name, with replies to `$me`. `target`: Azure's, with replies to the target of the
   * link that they come by.
   */
  kind: 'pair' | 'target';
  /** Milliseconds to wait for a reply. 0: for ever. */
  timeout: number;
  styles: { fields: Style; body: Style };
}

interface Asked extends Expires {
  number: number;
  bytes: Buffer;
  id: unknown;
  user: RequestUser;
  /** When it was taken: milliseconds since 1970. */
  since: number;
  isSent: boolean;
  isOver: boolean;
  /** Ends the wait for its reply. */
  abandon?: () => void;
}

const OPEN_TIMEOUT = 30_000;

/**
 * Asks a management node of the peer, one request after the other, in the form that it wants. Its links are attached
 * whenever the connection is open. Emits 'state' after each change.
 */
export class ManagementRequester extends EventEmitter<{ state: [State] }> implements ConnectionUser {
  readonly sessions = 1;
  state: State = { name: 'detached' };
  readonly #connection: Connection;
  readonly #options: ManagementOptions;
  readonly #requests: Expiring<Asked>;
  readonly #drained = new Pause();
  #bytes = 0;
  #number = 0;
  readonly #counts = { sent: 0, received: 0, failed: 0 };
  #pair: LinkPair | undefined;
  #failures = 0;
  #retry: NodeJS.Timeout | undefined;
  /** What was begun in an earlier one comes too late. */
  #turn = 0;
  #isAsking = false;
  #isClosing = false;

  constructor(connection: Connection, options: ManagementOptions) {
    super();
    this.#connection = connection;
    this.#options = options;
    this.#requests = new Expiring(
      options.timeout,
      connection.guarded((one: Asked) => this.#expired(one)),
    );
  }

  get address(): string {
    return this.#options.address;
  }

  get counters(): Counters {
    return { ...this.#counts, pending: this.#requests.size };
  }

  open(): void {
    this.#connection.add(this);
  }

  /** Sends a request. Throws when it cannot be encoded, or too many wait. */
  request(message: Outgoing, _address: string | undefined, user: RequestUser): void {
    if (this.#isClosing) throw amqpError('AMQP_SHUTDOWN.closing');
    const { size } = this.#requests;
    const { fields } = withMessageId(message);
    // Until there are links this only finds out whether the message can be encoded.
    fields.reply_to = '';
    const bytes = encode(message);
    if (isFull(this.#options, size, this.#bytes, bytes.length))
      throw amqpError('AMQP_BUFFER_FULL.requests', { count: size });
    const number = ++this.#number;
    const id = fields.message_id;
    this.#requests.set(number, {
      number,
      bytes,
      id,
      user,
      since: Date.now(),
      isSent: false,
      isOver: false,
      deadline: 0,
    });
    this.#bytes += bytes.length;
    // Needed when the endpoint does not connect by itself.
    this.#connection.open();
    this.#ask();
  }

  pending(): PendingRequest[] {
    const now = Date.now();
    return Array.from(this.#requests.values(), ({ since, isSent }) => ({
      address: this.#options.address,
      stage: isSent ? ('delivered' as const) : ('sending' as const),
      age: now - since,
      replies: 0,
    }));
  }

  /** Waits `timeout` milliseconds for the replies that are missing, fails the rest, and detaches. */
  async close(timeout: number): Promise<void> {
    this.#isClosing = true;
    if (this.#requests.size > 0) await this.#drained.wait(timeout);
    this.#turn++;
    clearTimeout(this.#retry);
    for (const one of this.#requests.clear()) this.#fail(one, amqpError('AMQP_SHUTDOWN.no-reply'));
    this.removeAllListeners();
    this.#pair?.close();
    await this.#connection.remove(this);
  }

  /** For the connection. */
  connected(): void {
    this.#failures = 0;
    void this.#attach();
  }

  /** For the connection. */
  disconnected(state: State): void {
    this.#turn++;
    clearTimeout(this.#retry);
    this.#pair?.close();
    this.#pair = undefined;
    this.#show(state);
  }

  #show(state: State): void {
    this.state = state;
    this.emit('state', state);
  }

  async #attach(): Promise<void> {
    const turn = ++this.#turn;
    const { name, address, kind } = this.#options;
    const isPaired = kind === 'pair';
    const own = isPaired ? address : randomId();
    const names = isPaired ? ([name, name] as const) : ([`${own}-requests`, own] as const);
    if (this.state.name !== 'refused') this.#show({ name: 'connecting' });
    try {
      // Azure permits what is asked of an entity by that of the entity.
      await this.#connection.options.authorize?.(this.#connection, address.replace(/\/?\$management$/, '') || address);
      const pair = await LinkPair.open(this.#connection, {
        address,
        own,
        names,
        ...(isPaired && PAIRED),
        timeout: OPEN_TIMEOUT,
      });
      if (turn !== this.#turn) return pair.close();
      this.#pair = pair;
      pair.over.addEventListener(
        'abort',
        this.#connection.guarded(() => this.#lost(pair)),
      );
      this.#show({ name: 'connected' });
      this.#ask();
    } catch (error) {
      if (turn === this.#turn) this.#refused(error as AmqpError);
    }
  }

  #lost(pair: LinkPair): void {
    if (this.#pair !== pair) return;
    this.#pair = undefined;
    pair.close();
    this.#refused(pair.loss);
  }

  #refused(error: AmqpError): void {
    if (this.#connection.state.name !== 'connected') return;
    this.#show({ name: 'refused', error });
    const again = this.#connection.guarded(() => void this.#attach());
    this.#retry = setTimeout(again, pauseAfter(this.#failures++, this.#connection.options.backoff));
  }

  /** Asks what is next, if nothing is being asked. */
  #ask(): void {
    const pair = this.#pair;
    const [next] = this.#requests.values();
    if (!pair || !next || this.#isAsking) return;
    this.#isAsking = true;
    next.isSent = true;
    this.#counts.sent++;
    const asked = this.#connection.guarded(() => {
      this.#isAsking = false;
      this.#ask();
    });
    void this.#asked(pair, next).then(asked);
  }

  async #asked(pair: LinkPair, one: Asked): Promise<void> {
    const { kind, address, styles } = this.#options;
    const abandoned = new Promise<undefined>((resolve) => (one.abandon = () => resolve(undefined)));
    try {
      const bytes = withReplyTo(one.bytes, kind === 'pair' ? '$me' : pair.own);
      const asked = pair.request(bytes, one.id, styles, Infinity);
      // It may be lost after it was abandoned.
      asked.catch(() => {});
      const reply = await Promise.race([asked, abandoned]);
      if (!reply || !this.#end(one)) return;
      this.#counts.received++;
      one.user.sent({ address, state: 'accepted' });
      one.user.reply(reply, { tag: '', address, redelivered: false });
    } catch (cause) {
      // It may have been carried out.
      this.#fail(one, amqpError('AMQP_IN_DOUBT.request', { text: messageOf(cause) }, { cause }));
    }
  }

  #expired(one: Asked): void {
    const why = 'error' in this.state ? this.state.error : undefined;
    const values = { seconds: this.#options.timeout / 1000, because: because(why) };
    this.#fail(one, amqpError('AMQP_REPLY_TIMEOUT.time', values, { peer: why, cause: why }));
  }

  #fail(one: Asked, error: AmqpError): void {
    if (!this.#end(one)) return;
    this.#counts.failed++;
    one.abandon?.();
    one.user.failed(error);
  }

  /** False: it has ended already. */
  #end(one: Asked): boolean {
    if (one.isOver) return false;
    one.isOver = true;
    this.#requests.take(one.number);
    this.#bytes -= one.bytes.length;
    if (this.#requests.size === 0) this.#drained.end();
    return true;
  }
}
