import { randomUUID } from 'node:crypto';
import { pauseAfter } from '../connection/backoff';
import type { Connection } from '../connection/connection';
import { type AmqpError, amqpError, messageOf } from '../errors';
import { LinkPair } from '../exchange/link-pair';
import { type ReplyStatus, statusOf } from '../exchange/status';
import type { AmqpFields } from '../message/fields';
import { Pause } from '../pause';
import { isBusy } from '../wire/outcome';

/** Milliseconds for the links, and for each answer. */
const TIMEOUT = 30_000;
/** Milliseconds for which it is tried to ask. */
const RETRY_TIME = 60_000;
const RETRY = { initial: 200, max: 10_000 };
/** Conditions by which the service says that a lock is gone, of a message or of a session. */
const LOCK_LOST = ['com.microsoft:message-lock-lost', 'com.microsoft:session-lock-lost'];
/** The status of an answer, in the words of HTTP, where there is nothing to give. */
const NO_CONTENT = 204;

/** What an answer holds. */
export type Answer = Record<string, unknown>;

/**
 * Asks the node `$management` of an entity of Azure Service Bus, or of a namespace of Azure Event Hubs, one question at a
 * time. Its links are attached with the first question, and again after a loss.
 */
export class Management {
  readonly #connection: Connection;
  readonly #address: string;
  readonly #entity: string;
  readonly #pause = new Pause();
  #pair: LinkPair | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  /** `entity`: what it is permitted to ask about, where that is not told by the address. */
  constructor(connection: Connection, address: string, entity = address) {
    this.#connection = connection;
    this.#address = address;
    this.#entity = entity;
  }

  /**
   * Resolves with the answer, which is empty where there is nothing to tell. For a minute it waits for a connection, and
   * asks a busy service again; and once more what may be asked twice (`isRepeatable`) when the answer is lost.
   * Rejects with an AmqpError: AMQP_LOCK_LOST, AMQP_REJECTED for any other refusal, AMQP_IN_DOUBT where the answer is lost.
   */
  ask(properties: AmqpFields, body: Answer, isRepeatable = false): Promise<Answer> {
    const end = performance.now() + RETRY_TIME;
    const mayRetry = ({ code, condition }: AmqpError): boolean =>
      code === 'AMQP_DISCONNECTED' || isBusy({ condition }) || (isRepeatable && code === 'AMQP_IN_DOUBT');
    const asked = this.#last.then(() => this.#askUntil(end, properties, body, mayRetry));
    this.#last = asked.catch(() => {});
    return asked;
  }

  /** What is asked fails from now on, and so does what is not answered yet. */
  close(): void {
    this.#isClosed = true;
    this.#pair?.close();
    this.#pause.end();
  }

  async #askUntil(
    end: number,
    properties: AmqpFields,
    body: Answer,
    mayRetry: (error: AmqpError) => boolean,
  ): Promise<Answer> {
    for (let failures = 0; ; failures++) {
      if (this.#isClosed) throw amqpError('AMQP_SHUTDOWN.link');
      try {
        return await this.#askOnce(properties, body);
      } catch (error) {
        const pause = pauseAfter(failures, RETRY);
        // To wait opens the connection, which is not to be after its end.
        if (this.#isClosed || !mayRetry(error as AmqpError) || performance.now() + pause > end) throw error;
        await this.#wait(pause);
      }
    }
  }

  /** Until there is a connection, or for some time. */
  async #wait(pause: number): Promise<void> {
    const connection = this.#connection;
    // Needed when the endpoint does not connect by itself.
    connection.open();
    const over = (): void => {
      if (connection.state.name === 'connected') this.#pause.end();
    };
    connection.on('state', over);
    await this.#pause.wait(pause);
    connection.off('state', over);
  }

  async #askOnce(properties: AmqpFields, body: Answer): Promise<Answer> {
    const pair = await this.#open();
    const answer = await pair
      .ask({ message_id: randomUUID(), reply_to: pair.own, application_properties: properties }, body)
      .catch((cause: unknown) => {
        throw amqpError('AMQP_IN_DOUBT.request', { text: messageOf(cause) }, { cause });
      });
    const status = statusOf(answer.fields) ?? { code: NaN };
    if (status.code === NO_CONTENT) return {};
    if (!(status.code >= 200 && status.code <= 299)) throw refusal(status, String(properties['operation']));
    return (answer.body?.content ?? {}) as Answer;
  }

  async #open(): Promise<LinkPair> {
    if (this.#pair && !this.#pair.isOver) return this.#pair;
    this.#pair?.close();
    this.#pair = undefined;
    const connection = this.#connection;
    await connection.options.authorize?.(connection, this.#entity);
    const own = randomUUID();
    const pair = await LinkPair.open(connection, {
      address: this.#address,
      own,
      // The service sends answers by the link whose name is where they are to go.
      names: [`${own}-requests`, own],
      timeout: TIMEOUT,
    });
    if (this.#isClosed) {
      pair.close();
      throw amqpError('AMQP_SHUTDOWN.link');
    }
    this.#pair = pair;
    return pair;
  }
}

function refusal({ code, ...peer }: ReplyStatus, operation: string): AmqpError {
  if (LOCK_LOST.includes(peer.condition ?? '')) return amqpError('AMQP_LOCK_LOST.refused', {}, { peer });
  return amqpError('AMQP_REJECTED.request', { operation, code }, { peer });
}
