import { DESCRIPTOR } from '../codec/codes';
import { Encoder } from '../codec/encoder';
import type { LinkConnection } from '../connection/connection';
import { type AmqpError, amqpError, type PeerError } from '../errors';
import { Pause } from '../pause';
import type { OutgoingDelivery, SendingEnd } from '../wire/link-end';
import { readOutcome, transactionIn } from '../wire/outcome';
import type { Session } from '../wire/session';
import type { State } from '../state';
import { Link } from './link';
import type { SharedSession } from './shared-session';

type Settled = { descriptor?: number; bytes?: Buffer };

/** A question to the coordinator, until it is answered. */
interface Question extends OutgoingDelivery {
  answered(outcome: Settled): void;
  lost(error: AmqpError): void;
}

/** Milliseconds that the coordinator has to give credit, and to answer. */
const ANSWER_TIMEOUT = 30_000;
/** Most bytes of a transaction's id: 32 (4.5.4), but Artemis has longer ones. The head of a transfer has no room for 223. */
const LONGEST_ID = 200;
const OUTCOMES = ['accepted', 'rejected', 'released', 'modified', 'declared'].map((name) => `amqp:${name}:list`);

/** The link by which transactions are begun and ended (part 4). They belong to its session. */
export class CoordinatorLink extends Link<SendingEnd> {
  readonly #session: SharedSession;
  readonly #answerTimeout: number;
  readonly #questions = new Set<Question>();
  /** Those that wait for a link or credit. */
  readonly #waiting = new Set<Pause>();

  /** `answerTimeout`: milliseconds that the peer has to give credit, and then to answer. */
  constructor(connection: LinkConnection, name: string, session: SharedSession, answerTimeout = ANSWER_TIMEOUT) {
    super(connection, name);
    this.#session = session;
    this.#answerTimeout = answerTimeout;
  }

  /** Begins a transaction. Resolves with its id; rejects with an AmqpError. */
  async declare(): Promise<Buffer> {
    // After a reconnect, what is to be answered may be here before this link is.
    if (this.state.name === 'connecting') await this.#wait(() => this.state.name === 'connecting');
    const { descriptor, bytes } = await this.#ask(DESCRIPTOR.declare, []);
    const id = bytes && transactionIn(descriptor, bytes);
    if (id && id.length <= LONGEST_ID) return id;
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
    const { end } = this;
    if (!end) throw amqpError('AMQP_DISCONNECTED.detached');
    // In a loop: of several that wait, those before may have used the credit up.
    while (this.end === end && !end.isReady) await this.#wait(() => this.end === end && !end.isReady);
    if (this.end !== end) throw amqpError('AMQP_DISCONNECTED.detached');
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
          end.forget(question);
          reject(error);
        },
      };
      const late = (): void => question.lost(amqpError('AMQP_IN_DOUBT.transaction'));
      const timer = setTimeout(this.connection.guarded(late), this.#answerTimeout);
      this.#questions.add(question);
      end.send(question, bytes, false);
    });
  }

  async #wait(isToWait: () => boolean): Promise<void> {
    const until = performance.now() + this.#answerTimeout;
    const pause = new Pause();
    this.#waiting.add(pause);
    try {
      while (isToWait()) {
        const left = until - performance.now();
        if (left <= 0) throw amqpError('AMQP_TIMEOUT.transaction');
        await pause.wait(left);
      }
    } finally {
      this.#waiting.delete(pause);
    }
  }

  #wake(): void {
    for (const pause of this.#waiting) pause.end();
  }

  protected override change(state: State): void {
    super.change(state);
    this.#wake();
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
