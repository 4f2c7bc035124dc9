import type { LinkConnection } from '../connection/connection';
import { type AmqpError, amqpError, type PeerError } from '../errors';
import { CoordinatorLink } from '../link/coordinator-link';
import { type Done, Entry } from '../link/entry';
import { Pause } from '../pause';
import type { Settled } from '../link/receiver-link';
import { SharedSession } from '../link/shared-session';
import { Receiver, type ReceiverOptions, type ReceiverUser } from '../receiver/receiver';
import { Receivers } from '../receiver/receivers';
import { Sender, type SenderOptions } from '../sender/sender';
import { type State, worstOf } from '../state';
import { type Outcome, stateIn } from '../wire/outcome';

/** What belongs to one message that was received. */
interface Transaction {
  /** The token of the message. */
  readonly token: string;
  /** Resolves once it has begun. */
  readonly id: Promise<Buffer>;
  /** What is sent in it and has no outcome yet. */
  readonly entries: Set<Entry>;
  /** Something of it was not taken. */
  hasFailed: boolean;
  isOver: boolean;
  /** Ends the wait for those outcomes. */
  readonly sent: Pause;
}

/**
 * Receives messages one at a time, each in a transaction with all that the flow sends over it (part 4): the peer forgets the
 * message and has what was sent, or neither. All links share one session, to which a transaction belongs. It begins with
 * the first message that is sent, and ends when the received one is settled: accepted, it is committed, else rolled back.
 */
export class TransactionalReceiver extends Receivers {
  readonly #connection: LinkConnection;
  readonly #name: string;
  readonly #session = new SharedSession();
  readonly #coordinator: CoordinatorLink;
  readonly #receiver: Receiver;
  /** By the names of those who send: on the session, with all else as they have it. */
  readonly #senders = new Map<string, { options: SenderOptions; sender: Sender }>();
  #transaction: Transaction | undefined;
  #isOpen = false;

  constructor(connection: LinkConnection, options: ReceiverOptions, user: ReceiverUser) {
    super();
    const { name } = options;
    const session = this.#session;
    this.#connection = connection;
    this.#name = name;
    this.#coordinator = new CoordinatorLink(connection, `${name}:transactions`, session);
    this.#coordinator.on('state', (state) => {
      // Without it nothing could be sent in answer to a message.
      if (state.name === 'connected' && this.#isOpen) super.open();
      this.emit('state', this.state);
    });
    this.#receiver = new Receiver(
      connection,
      // One at a time: a session has one transaction, with most peers.
      { ...options, session, settle: 'flow', creditWindow: 1 },
      {
        ...user,
        lost: () => {
          this.#giveUp();
          user.lost?.();
        },
      },
    );
    this.add(this.#receiver);
  }

  override get state(): State {
    const senders = Array.from(this.#senders.values(), ({ sender }) => sender.state);
    const state = worstOf(super.state, ...senders, this.#coordinator.state);
    return state.name === 'connected' ? { name: 'connected' } : state;
  }

  override open(): void {
    this.#isOpen = true;
    this.#coordinator.open();
  }

  /**
   * Sends a message with the one of this token. What becomes of it is told by its `done`: accepted, it counts once the
   * transaction is committed. `options`: of who sends, the same object each time.
   */
  send(token: string, entry: Entry, options: SenderOptions): void {
    if (!this.holds(token)) return entry.fail(this.#receiver.notHeld(token));
    const transaction = this.#transactionOf(token);
    const { bytes, address, format } = entry;
    const ended: Done = (error, sent) => {
      transaction.entries.delete(own);
      if (error) transaction.hasFailed = true;
      if (transaction.entries.size === 0) transaction.sent.end();
      entry.done(error, sent);
    };
    const own = new Entry(bytes, ended, { format, ...(address !== undefined && { address }) });
    transaction.entries.add(own);
    transaction.id.then(
      (id) => {
        if (transaction.isOver) return;
        own.state = stateIn(id);
        this.#senderOf(options).send(own);
      },
      (error: AmqpError) => transaction.entries.has(own) && own.fail(error),
    );
  }

  #senderOf(options: SenderOptions): Sender {
    const { name } = options;
    const known = this.#senders.get(name);
    if (known?.options === options) return known.sender;
    // That of a node as it was before it was deployed anew.
    void known?.sender.close(0);
    const { store: _, ...rest } = options;
    const sender = new Sender(this.#connection, {
      ...rest,
      name: `${this.#name}:${name}`,
      session: this.#session,
      guarantee: 'at-most-once',
      // What comes back is for the flow to send again, in another transaction.
      retryTime: 0,
      timeout: 0,
    });
    this.#senders.set(name, { options, sender });
    sender.on('state', () => this.emit('state', this.state));
    sender.open();
    return sender;
  }

  #transactionOf(token: string): Transaction {
    const present = this.#transaction;
    if (present?.token === token && !present.isOver) return present;
    // Of a message that was given back since, by its time-out.
    if (present) this.#rollBack(present);
    const id = this.#coordinator.declare();
    id.catch(() => {});
    const entries = new Set<Entry>();
    const transaction = { token, id, entries, hasFailed: false, isOver: false, sent: new Pause() };
    this.#transaction = transaction;
    return transaction;
  }

  override settle(token: string, outcome: Outcome, settled?: Settled): void {
    const transaction = this.#begun(token);
    if (outcome.settle !== 'accept' || !transaction) {
      super.settle(token, outcome, settled);
      if (transaction) this.#rollBack(transaction);
    } else if (!this.holds(token)) throw this.#receiver.notHeld(token);
    else void this.#commit(transaction).then(() => settled?.(), settled);
  }

  override fail(token: string, outcome: Outcome, settled?: Settled): void {
    super.fail(token, outcome, settled);
    const transaction = this.#begun(token);
    if (transaction) this.#rollBack(transaction);
  }

  #begun(token: string): Transaction | undefined {
    return this.#transaction?.token === token && !this.#transaction.isOver ? this.#transaction : undefined;
  }

  async #commit(transaction: Transaction): Promise<void> {
    const id = await transaction.id;
    // The flow may be done with the message before all that it sends has its outcome.
    while (transaction.entries.size > 0) await transaction.sent.wait(Infinity);
    if (transaction.isOver || !this.holds(transaction.token)) throw rolledBack();
    if (transaction.hasFailed) {
      this.#rollBack(transaction);
      throw rolledBack();
    }
    transaction.isOver = true;
    this.#transaction = undefined;
    this.#receiver.settle(transaction.token, { settle: 'accept', transaction: id });
    // The outcome is to be before the commit, which is written at once.
    await new Promise<void>((resolve) => setImmediate(resolve));
    await this.#coordinator.discharge(id, false);
  }

  #rollBack(transaction: Transaction): void {
    transaction.isOver = true;
    if (this.#transaction === transaction) this.#transaction = undefined;
    this.#failAll(transaction);
    // Where that fails it has gone with its session.
    transaction.id.then((id) => this.#coordinator.discharge(id, true)).catch(() => {});
  }

  /** The session is gone, and with it what had begun. */
  #giveUp(): void {
    const transaction = this.#transaction;
    this.#transaction = undefined;
    if (!transaction) return;
    transaction.isOver = true;
    this.#failAll(transaction);
  }

  #failAll({ entries }: Transaction): void {
    for (const entry of Array.from(entries)) {
      for (const { sender } of this.#senders.values()) sender.cancel(entry);
      entry.fail(rolledBack());
    }
  }

  override async detach(error?: PeerError): Promise<void> {
    if (this.#transaction) this.#rollBack(this.#transaction);
    await super.detach(error);
  }

  override async close(): Promise<void> {
    this.#isOpen = false;
    if (this.#transaction) this.#rollBack(this.#transaction);
    await super.close();
    await Promise.all(Array.from(this.#senders.values(), ({ sender }) => sender.close(0)));
    await this.#coordinator.close();
    this.#session.end();
  }
}

function rolledBack(): AmqpError {
  return amqpError('AMQP_TRANSACTION.rolled-back');
}
