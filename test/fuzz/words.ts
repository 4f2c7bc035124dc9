// What the nodes say: no text of a peer is to get into the log, a status or an error as it came.
import { type EventEmitter, once } from 'node:events';
import { helper, type Msg } from '../flow';

type Status = { fill?: string; shape?: string; text?: string };
type LogLine = { type?: string; msg: unknown };

/** The longest text that anybody reads. */
const MAX_LENGTH = 1000;
/** Control characters, separators of lines, and marks that turn the direction of text around. */
// oxlint-disable-next-line no-control-regex -- they are what is to be found
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/;

/** Of the helper: what Node-RED itself uses. */
interface Inside {
  _events: EventEmitter;
  _log: { addHandler(handler: object): void; removeHandler(handler: object): void };
}

/** Looks at each text of the nodes as it comes and keeps none. */
export class Words {
  /** The last of each node. */
  readonly statuses = new Map<string, Status>();
  readonly #fail: (text: string) => void;
  readonly #handler = { emit: (_event: string, line: LogLine): void => this.#checkLine(line) };
  readonly #onStatus = ({ id, status }: { id: string; status: Status }): void => {
    this.#check(`the status of ${id}`, status.text);
    this.statuses.set(id, status);
  };

  constructor(fail: (text: string) => void) {
    this.#fail = fail;
  }

  listen(): void {
    const { _events: events, _log: log } = helper as unknown as Inside;
    log.addHandler(this.#handler);
    events.on('node-status', this.#onStatus);
  }

  close(): void {
    const { _events: events, _log: log } = helper as unknown as Inside;
    log.removeHandler(this.#handler);
    events.off('node-status', this.#onStatus);
  }

  /** Resolves once the node says that something is wrong. */
  async wrong(id: string): Promise<void> {
    const { _events: events } = helper as unknown as Inside;
    while (this.statuses.get(id)?.fill !== 'red') await once(events, 'node-status');
  }

  /** A msg that has failed. */
  checkCaught({ error, sent }: Msg): void {
    this.#checkError('msg.error', error);
    this.#checkError('msg.sent.error', sent?.error);
  }

  #checkLine({ type, msg }: LogLine): void {
    if (!type?.startsWith('amqp-')) return;
    if (typeof msg === 'object') this.#checkError(`an error in the log of ${type}`, msg);
    else this.#check(`a line in the log of ${type}`, msg);
  }

  #checkError(what: string, error: unknown): void {
    const { message, condition, description } = (error ?? {}) as Record<string, unknown>;
    for (const text of [message, condition, description]) this.#check(what, text);
  }

  #check(what: string, text: unknown): void {
    if (typeof text !== 'string') return;
    const at = text.search(UNPRINTABLE);
    if (at !== -1)
      this.#fail(`${what} has a control character: ${JSON.stringify(text.slice(Math.max(0, at - 80), at + 20))}`);
    if (text.length > MAX_LENGTH) this.#fail(`${what} has ${text.length} characters: ${text.slice(0, 80)}`);
  }
}
