// Local transactions (part 4): what is sent in one goes into queues when it is committed, outcomes count then.
import rhea, { type Delivery, type Typed } from 'rhea';
import { errorOf, type Fields, type Frame, type Link, type PeerError, type PeerSession } from './rhea';

const [COORDINATOR, DECLARE, DISCHARGE, DECLARED, TRANSACTIONAL] = [0x30, 0x31, 0x32, 0x33, 0x34];
const [ACCEPTED, REJECTED, MODIFIED] = [0x24, 0x25, 0x27];
const NAMES: Record<string, number> = {
  'amqp:coordinator:list': COORDINATOR,
  'amqp:declare:list': DECLARE,
  'amqp:discharge:list': DISCHARGE,
  'amqp:transactional-state:list': TRANSACTIONAL,
};
const { Reader } = rhea.types as unknown as { Reader: new (bytes: Buffer) => { read(): Typed } };
/** The place of the field. */
const STATE_OF_TRANSFER = 7;
/** The section of a message with its body as one value, up to that value. */
const VALUE_HEAD = 3;

/** What a client asks of the coordinator. */
export type Step = 'declare' | 'commit' | 'rollback';

/**
 * What the coordinator makes of it: as asked; an error = it refuses, and what it refuses to commit is rolled back; `none` =
 * nothing, and it does not answer; `unanswered` = as asked, without an answer; `end` = it ends the session instead, `drop` =
 * the connection; `done-drop` = as asked, and the connection is gone before the answer.
 */
export type Turn = 'done' | 'none' | 'unanswered' | 'end' | 'drop' | 'done-drop' | PeerError;

/** A message that was sent in a transaction. */
export interface Sent {
  address: string;
  bytes: Buffer;
  format: number;
}

/** An outcome that was given in a transaction, ready for rhea. */
interface Given {
  session: PeerSession;
  delivery: Delivery;
  apply: (state: unknown) => void;
}

interface Transaction {
  readonly id: Buffer;
  readonly link: Link;
  readonly sent: Sent[];
  readonly given: Given[];
}

/** What the coordinator needs of its broker. */
interface Host {
  route(sent: Sent): void;
  /** Whether a delivery is still out with the consumer that has given its outcome. */
  isOut(delivery: Delivery): boolean;
  drop(link: Link): void;
}

const codeOf = (descriptor: unknown): number =>
  typeof descriptor === 'number' ? descriptor : (NAMES[String(descriptor)] ?? Number(descriptor));
const codeIn = (value: any): number => codeOf(value?.descriptor?.value);

function described(code: number, fields: (Typed | undefined)[]): Typed {
  const { types } = rhea;
  return types.wrap_described(types.wrap_list(fields), code);
}

/** The parts of a transactional state; undefined: it is none. */
export function transactionalIn(state: any): { id: Buffer; outcome: unknown } | undefined {
  if (!state || codeIn(state) !== TRANSACTIONAL) return undefined;
  const [id, outcome] = state.value as Typed[];
  return { id: id!.value as Buffer, outcome };
}

export function isCoordinator({ coordinator }: Fields): boolean {
  return coordinator !== undefined;
}

export class Transactions {
  /** What clients asked for, oldest first. */
  readonly steps: Step[] = [];
  /** bytes of an id (at most 32 by 4.5.4, which Artemis exceeds) */
  idSize = 4;
  private readonly open = new Map<string, Transaction>();
  private readonly turns = new Map<Step, { turn: Turn; times: number }>();
  private last = 0;

  constructor(private readonly host: Host) {}

  /** Transactions that have begun, and are neither committed nor rolled back. */
  get size(): number {
    return this.open.size;
  }

  /** The next `times` such steps come to this. */
  answer(step: Step, turn: Turn, times = Infinity): void {
    this.turns.set(step, { turn, times });
  }

  /** rhea knows no such target, and no such state. */
  teach(session: PeerSession): void {
    const onAttach = session.on_attach.bind(session);
    session.on_attach = (frame) => {
      const { target } = frame.performative;
      if (codeIn(target) === COORDINATOR) {
        frame.performative.target = null;
        frame.performative.coordinator = target;
      }
      onAttach(frame);
    };
    const onTransfer = session.on_transfer.bind(session);
    session.on_transfer = (frame) => {
      // It would leave out of what kind the state is.
      const { performative } = frame;
      Object.defineProperty(performative, 'state', { value: performative.value[STATE_OF_TRANSFER] });
      onTransfer(frame);
    };
    const onDisposition = session.on_disposition.bind(session);
    session.on_disposition = (frame) => {
      const transactional = frame.performative.role && transactionalIn(frame.performative.state);
      if (transactional) this.onOutcome(session, frame, transactional, onDisposition);
      else onDisposition(frame);
    };
  }

  private onOutcome(
    session: PeerSession,
    { performative }: Frame,
    { id, outcome }: { id: Buffer; outcome: unknown },
    onDisposition: (frame: Frame) => void,
  ): void {
    const transaction = this.open.get(id.toString('hex'));
    if (!transaction) return session.close(errorOf(UNKNOWN));
    const { first, last, settled } = performative as { first: number; last?: number | null; settled: boolean };
    for (let number = first; number <= (last ?? first); number++) {
      const delivery = session.outgoing.deliveries.by_id(number);
      if (!delivery) continue;
      const apply = (state: unknown): void =>
        onDisposition({ performative: { role: true, first: number, last: number, settled, state } });
      transaction.given.push({ session, delivery, apply: (state) => apply(state ?? outcome) });
    }
  }

  /** A message that came in a transaction. `refusal`: why it is not taken. */
  take(delivery: Delivery, id: Buffer, sent: Sent, refusal: PeerError | undefined): void {
    const { link } = delivery as unknown as { link: Link };
    const transaction = this.open.get(id.toString('hex'));
    if (!transaction) {
      Object.assign(delivery, { settled: true });
      return link.close(errorOf(UNKNOWN));
    }
    if (!refusal) transaction.sent.push(sent);
    const outcome = refusal ? rejected(refusal) : described(ACCEPTED, []);
    answer(delivery, described(TRANSACTIONAL, [rhea.types.wrap_binary(id), outcome]));
  }

  /** A message to the coordinator. */
  ask(delivery: Delivery, bytes: Buffer): void {
    const { link } = delivery as unknown as { link: Link };
    const question = new Reader(bytes.subarray(VALUE_HEAD)).read();
    const [id, isFailed] = question.value as Typed[];
    const step = codeIn(question) === DECLARE ? 'declare' : isFailed?.value === true ? 'rollback' : 'commit';
    this.steps.push(step);
    const turn = this.turnOf(step);
    if (turn === 'none') return;
    if (turn === 'end') return link.session.close();
    if (turn === 'drop') return this.host.drop(link);
    const refusal = typeof turn === 'object' ? turn : undefined;
    const state = step === 'declare' ? this.declare(link, refusal) : this.discharge(id, step === 'rollback', refusal);
    if (turn === 'done-drop') this.host.drop(link);
    else if (turn !== 'unanswered') answer(delivery, state);
  }

  private turnOf(step: Step): Turn {
    const plan = this.turns.get(step);
    if (!plan) return 'done';
    if (--plan.times <= 0) this.turns.delete(step);
    return plan.turn;
  }

  private declare(link: Link, refusal?: PeerError): Typed {
    if (refusal) return rejected(refusal);
    const id = Buffer.alloc(this.idSize);
    id.writeUInt32BE(++this.last);
    this.open.set(id.toString('hex'), { id, link, sent: [], given: [] });
    return described(DECLARED, [rhea.types.wrap_binary(id)]);
  }

  private discharge(id: Typed | undefined, isFailed: boolean, refusal?: PeerError): Typed {
    const key = (id?.value as Buffer | undefined)?.toString('hex') ?? '';
    const transaction = this.open.get(key);
    if (!transaction) return rejected(UNKNOWN);
    this.open.delete(key);
    // What went back with its link would be taken, and be there again.
    const isWhole = transaction.given.every(({ delivery }) => this.host.isOut(delivery));
    if (isFailed || refusal || !isWhole) {
      this.rollBack(transaction);
      return isFailed && !refusal ? described(ACCEPTED, []) : rejected(refusal ?? ROLLED_BACK);
    }
    for (const given of transaction.given) given.apply(undefined);
    for (const sent of transaction.sent) this.host.route(sent);
    return described(ACCEPTED, []);
  }

  /** The messages go back as those of a failed delivery; what was sent is forgotten. */
  private rollBack({ given }: Transaction): void {
    const failed = described(MODIFIED, [rhea.types.wrap_boolean(true)]);
    for (const { session, delivery, apply } of given) if (session.is_open() && this.host.isOut(delivery)) apply(failed);
  }

  /** The link to the coordinator is gone, and with it what has begun over it. */
  forget(link: Link): void {
    for (const [key, transaction] of this.open) {
      if (transaction.link !== link) continue;
      this.open.delete(key);
      this.rollBack(transaction);
    }
  }
}

const UNKNOWN: PeerError = { condition: 'amqp:transaction:unknown-id' };
const ROLLED_BACK: PeerError = { condition: 'amqp:transaction:rollback' };

function rejected(error: PeerError): Typed {
  const { types } = rhea;
  const { value } = errorOf(error) as unknown as { value: unknown[] };
  const [condition, description] = value as [Typed, string | undefined];
  const text = description === undefined ? [] : [types.wrap_string(description)];
  return described(REJECTED, [types.wrap_described(types.wrap_list([condition, ...text]), 0x1d)]);
}

/* oxlint-disable no-underscore-dangle -- rhea's inner methods are named so */
/** Apart from other outcomes, for R1. */
function answer(delivery: Delivery, state: Typed): void {
  const { connection } = delivery.link;
  connection._process();
  delivery.update(true, state);
  connection._process();
}
