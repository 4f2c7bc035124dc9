import { DESCRIPTOR } from '../codec/codes';
import { Encoder } from '../codec/encoder';
import type { LinkConnection } from '../connection/connection';
import { type AmqpError, amqpError, type PeerError } from '../errors';
import type { OutgoingDelivery, SendingEnd } from '../wire/link-end';
import { readOutcome, transactionIn } from '../wire/outcome';
import type { Session } from '../wire/session';
import { Link } from './link';
import type { SharedSession } from './shared-session';

type Settled = { descriptor?: number; bytes?: Buffer };

/** A question to the coordinator, until it is answered. */
interface Question extends OutgoingDelivery {
  answered(outcome: Settled): void;
  lost(error: AmqpError): void;
}

/** Milliseconds that the coordinator has to answer. */
const ANSWER_TIMEOUT = 30_000;
const OUTCOMES = ['accepted', 'rejected', 'released', 'modified', 'declared'].map((name) => `amqp:${name}:list`);

/** The link by which transactions are begun and ended (part 4). They belong to its session. */
export class CoordinatorLink extends Link<SendingEnd> {
  readonly #session: SharedSession;
  readonly #questions = new Set<Question>();
  /** Those that wait for credit. */
  #waiting: (() => void)[] = [];

  constructor(connection: LinkConnection, name: string, session: SharedSession) {
    super(connection, name);
    this.#session = session;
  }

  /** Begins a transaction. Resolves with its id; rejects with an AmqpError. */
  async declare(): Promise<Buffer> {
    const { descriptor, bytes } = await this.#ask(DESCRIPTOR.declare, []);
    const id = bytes && transactionIn(descriptor, bytes);
    if (id) return id;
    throw amqpError('AMQP_TRANSACTION.declare', {}, { peer: errorIn({ descriptor, bytes }) });
  }

  /** Commits a transaction, or rolls it back (`isFailed`). Rejects when that was not done: it has been rolled back then. */
  async discharge(id: Buffer, isFailed: boolean): Promise<void> {
    const outcome = await this.#ask(DESCRIPTOR.discharge, [{ $amqp: 'binary', value: id }, isFailed]);
    if (outcome.descriptor === DESCRIPTOR.accepted) return;
    throw amqpError('AMQP_TRANSACTION.commit', {}, { peer: errorIn(outcome) });
  }

  async #ask(descriptor: number, fields: unknown[]): Promise<Settled> {
    const encoder = new Encoder('transaction');
    encoder.describe(DESCRIPTOR.value);
    encoder.value({ $amqp: 'described', descriptor: { $amqp: 'ulong', value: descriptor }, value: fields });
    const bytes = encoder.finish();
    const end = await this.#ready();
    return new Promise<Settled>((resolve, reject) => {
      const ended = (): void => {
        clearTimeout(timer);
        this.#questions.delete(question);
      };
      const question: Question = {
        id: 0,
        answered: (outcome) => {
          ended();
          resolve(outcome);
        },
        lost: (error) => {
          ended();
          reject(error);
        },
      };
      const timer = setTimeout(() => question.lost(amqpError('AMQP_IN_DOUBT.transaction')), ANSWER_TIMEOUT);
      this.#questions.add(question);
      end.send(question, bytes, false);
    });
  }

  /** The end, once it has credit. Rejects where there is no link. */
  async #ready(): Promise<SendingEnd> {
    const { end } = this;
    if (!end) throw amqpError('AMQP_DISCONNECTED.detached');
    if (!end.isReady) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    if (this.end !== end) throw amqpError('AMQP_DISCONNECTED.detached');
    return end;
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resume of waiting) resume();
  }

  protected override get sharedSession(): SharedSession {
    return this.#session;
  }

  protected override get needsAddress(): 'never' {
    return 'never';
  }

  protected override addressOf(): undefined {
    return undefined;
  }

  protected override attach(session: Session): SendingEnd {
    const end = session.attachSender(this.name, {
      source: { outcomes: OUTCOMES },
      isControlling: true,
      snd_settle_mode: 0,
      rcv_settle_mode: 0,
    });
    end.user = {
      ready: () => this.#wake(),
      draining: () => {},
      written: () => {},
      settled: (delivery, outcome) => (delivery as Question).answered(outcome),
    };
    return end;
  }

  protected override attached(): void {
    this.#wake();
  }

  protected override lost(_error: AmqpError, end: SendingEnd): void {
    end.forgetAll();
    for (const question of Array.from(this.#questions)) question.lost(amqpError('AMQP_IN_DOUBT.transaction'));
    this.#wake();
  }
}

function errorIn({ descriptor, bytes }: Settled): PeerError | undefined {
  return bytes && readOutcome(descriptor, bytes)?.error;
}
