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
  /** From when the flow has accepted the message. */
  committing?: Promise<void>;
  /** Of the time in which the flow is to settle the message. */
  timer?: NodeJS.Timeout;
  /** Ends the wait for those outcomes. */
  readonly sent: Pause;
}

/** Milliseconds that `close` waits for the answer to a commit. */
const COMMIT_TIME = 2000;

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
  /** Of messages that the flow still has, and whose transactions were rolled back: to accept them now would lose what was sent. */
  readonly #rolledBack = new Set<string>();
  /** Commits that the peer has not answered. */
  readonly #commits = new Set<Promise<void>>();
  /** Senders of nodes that were deployed anew, which detach. */
  readonly #closings = new Set<Promise<void>>();
  readonly #settleTimeout: number;
  #isOpen = false;

  constructor(connection: LinkConnection, options: ReceiverOptions, user: ReceiverUser) {
    super();
    const { name } = options;
    const session = this.#session;
    this.#connection = connection;
    this.#name = name;
    this.#settleTimeout = options.settleTimeout;
    this.#coordinator = new CoordinatorLink(connection, `${name}:transactions`, session);
    this.#coordinator.on('state', (state) => this.#coordinated(state));
    this.#receiver = new Receiver(
      connection,
      // One at a time: a session has one transaction, with most peers.
      { ...options, session, settle: 'flow', creditWindow: 1 },
      {
        ...user,
        message: (incoming, delivery) => {
          this.#rollBackLate();
          user.message(incoming, delivery);
        },
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
    if (this.#coordinator.state.name === 'connected') super.open();
  }

  #coordinated({ name }: State): void {
    // What it has begun has gone with it.
    if (name !== 'connected' && this.#transaction) this.#transaction.hasFailed = true;
    // Without it nothing could be sent in answer to a message.
    if (name === 'connected' && this.#isOpen) super.open();
    if (name === 'refused') {
      if (this.#transaction) this.#rollBack(this.#transaction);
      // Not in this turn: where the session has ended, the receiver is not told of it yet, and would wait for an answer.
      setImmediate(this.#connection.guarded(() => this.#detachUncoordinated()));
    }
    this.emit('state', this.state);
  }

  #detachUncoordinated(): void {
    if (this.#coordinator.state.name === 'refused') void this.#receiver.detach();
  }

  override async subscribe(address?: string): Promise<boolean> {
    if (this.#coordinator.state.name === 'connected' || address !== undefined) {
      const isSubscribed = await super.subscribe(address);
      this.#isOpen ||= isSubscribed;
      return isSubscribed;
    }
    this.open();
    return true;
  }

  /** It takes one message at a time, whatever the flow asks for. */
  override grant(_credit: number): void {}

  /** Whether the token is of a message that has come here, whatever became of it. */
  hasGiven(token: string): boolean {
    return token.startsWith(`${this.#name}.`);
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
    if (!known) sender.open();
    // That of a node as it was before it was deployed anew: its link has the same name.
    else void this.#closeSender(known.sender).then(() => this.#senders.get(name)?.sender === sender && sender.open());
    return sender;
  }

  #closeSender(sender: Sender): Promise<void> {
    sender.removeAllListeners();
    const closing = sender.close(0).finally(() => this.#closings.delete(closing));
    this.#closings.add(closing);
    return closing;
  }

  #transactionOf(token: string): Transaction {
    const present = this.#transaction;
    if (present?.token === token && !present.isOver) return present;
    // Of a message that was given back since, by its time-out, or of another one of a batch.
    if (present) this.#rollBack(present);
    const id = this.#coordinator.declare();
    id.catch(() => {});
    const entries = new Set<Entry>();
    const transaction: Transaction = { token, id, entries, hasFailed: false, isOver: false, sent: new Pause() };
    this.#transaction = transaction;
    // By then at the latest the message was given back, unless it is settled.
    const late = this.#connection.guarded(() => this.#rollBackLate());
    if (this.#settleTimeout > 0) transaction.timer = setTimeout(late, this.#settleTimeout);
    return transaction;
  }

  /** Of a message that the flow has not settled in time. */
  #rollBackLate(): void {
    const transaction = this.#transaction;
    if (transaction && !this.holds(transaction.token)) this.#rollBack(transaction);
    for (const token of this.#rolledBack) if (!this.holds(token)) this.#rolledBack.delete(token);
  }

  override settle(token: string, outcome: Outcome, settled?: Settled): void {
    const transaction = this.#begun(token);
    if (outcome.settle === 'accept' && this.holds(token)) {
      if (this.#rolledBack.has(token)) return settled?.(rolledBack());
      if (transaction) return this.#accept(transaction, settled);
    }
    super.settle(token, outcome, settled);
    this.#rolledBack.delete(token);
    if (transaction) this.#rollBack(transaction);
  }

  /** More than one node may say that the flow is done with a message. */
  #accept(transaction: Transaction, settled?: Settled): void {
    transaction.committing ??= this.#commit(transaction);
    transaction.committing.then(
      () => settled?.(),
      (error: AmqpError) => settled?.(error),
    );
  }

  override fail(token: string, outcome: Outcome, settled?: Settled): void {
    super.fail(token, outcome, settled);
    this.#rolledBack.delete(token);
    const transaction = this.#begun(token);
    if (transaction) this.#rollBack(transaction);
  }

  #begun(token: string): Transaction | undefined {
    return this.#transaction?.token === token && !this.#transaction.isOver ? this.#transaction : undefined;
  }

  async #commit(transaction: Transaction): Promise<void> {
    const id = await transaction.id.catch((error: unknown) => {
      this.#rollBack(transaction);
      throw error;
    });
    // The flow may be done with the message before all that it sends has its outcome.
    while (transaction.entries.size > 0) await transaction.sent.wait(Infinity);
    if (transaction.isOver || !this.holds(transaction.token)) throw rolledBack();
    if (transaction.hasFailed) {
      this.#rollBack(transaction);
      throw rolledBack();
    }
    this.#end(transaction);
    this.#receiver.settle(transaction.token, { settle: 'accept', transaction: id });
    const commit = this.#discharge(id).finally(() => this.#commits.delete(commit));
    this.#commits.add(commit);
    await commit;
  }

  async #discharge(id: Buffer): Promise<void> {
    // The outcome is to be before the commit, which is written at once.
    await new Promise<void>((resolve) => setImmediate(resolve));
    await this.#coordinator.discharge(id, false);
  }

  #end(transaction: Transaction): void {
    transaction.isOver = true;
    clearTimeout(transaction.timer);
    if (this.#transaction === transaction) this.#transaction = undefined;
  }

  #rollBack(transaction: Transaction): void {
    if (transaction.isOver) return;
    this.#end(transaction);
    if (this.holds(transaction.token)) this.#rolledBack.add(transaction.token);
    this.#failAll(transaction);
    // Where that fails it has gone with its session.
    transaction.id.then((id) => this.#coordinator.discharge(id, true)).catch(() => {});
  }

  /** The session is gone, and with it what had begun. */
  #giveUp(): void {
    const transaction = this.#transaction;
    this.#rolledBack.clear();
    if (!transaction) return;
    this.#end(transaction);
    this.#failAll(transaction);
  }

  #failAll({ entries }: Transaction): void {
    for (const entry of Array.from(entries)) {
      for (const { sender } of this.#senders.values()) sender.cancel(entry);
      entry.fail(rolledBack());
    }
  }

  override async detach(error?: PeerError): Promise<void> {
    this.#isOpen = false;
    if (this.#transaction) this.#rollBack(this.#transaction);
    await super.detach(error);
  }

  override async unsubscribe(): Promise<void> {
    await super.unsubscribe();
    this.#isOpen = false;
  }

  override async close(): Promise<void> {
    this.#isOpen = false;
    if (this.#transaction) this.#rollBack(this.#transaction);
    await this.#answered();
    await super.close();
    for (const { sender } of this.#senders.values()) void this.#closeSender(sender);
    this.#senders.clear();
    await Promise.all(this.#closings);
    await this.#coordinator.close();
    this.#session.end();
  }

  /** Resolves once the commits on their way are answered: else it would not be known what became of them. */
  async #answered(): Promise<void> {
    if (this.#commits.size === 0) return;
    const pause = new Pause();
    void Promise.allSettled(this.#commits).then(() => pause.end());
    await pause.wait(COMMIT_TIME);
  }
}

function rolledBack(): AmqpError {
  return amqpError('AMQP_TRANSACTION.rolled-back');
}
