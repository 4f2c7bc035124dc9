// Qpid JMS, a client that knows nothing of us, as a process that is told on its standard input what to do.
import { execFile, spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

const CACHE = join(__dirname, '../../../.cache');
const CLASSPATH = join(CACHE, 'jms.classpath');

/** The messages that the client sends: one of each type, and one of each way to write an ObjectMessage. */
export type Kind = 'text' | 'bytes' | 'map' | 'stream' | 'object' | 'typed-object' | 'no-body';

/** What JMS services put into the correlation id of a reply: both are usual. */
export type CorrelatedBy = 'message-id' | 'correlation-id';

/** A message as JMS shows it; each value as "<Java class> <value>". */
export interface JmsMessage {
  type: 'Message' | 'TextMessage' | 'BytesMessage' | 'MapMessage' | 'StreamMessage' | 'ObjectMessage';
  body: string | string[] | Record<string, string>;
  headers: Record<string, string>;
  properties: Record<string, string>;
}

export class JmsClient {
  /** Has Maven fetch the client. Throws, with the reason, where that or a JDK cannot be had. */
  static async fetch(): Promise<void> {
    const run = promisify(execFile);
    mkdirSync(CACHE, { recursive: true });
    await run('javac', ['-version']);
    const goal = ['dependency:build-classpath', `-Dmdep.outputFile=${CLASSPATH}`];
    await run('mvn', ['--batch-mode', '--quiet', '--file', join(__dirname, 'pom.xml'), ...goal]);
  }

  readonly #process: ChildProcessWithoutNullStreams;
  readonly #answers: AsyncIterator<string>;
  #errors = '';

  /** For the broker at `url`, with what Qpid JMS takes as options in it. */
  constructor(url: string) {
    const source = join(__dirname, 'JmsClient.java');
    this.#process = spawn('java', ['-cp', readFileSync(CLASSPATH, 'utf8'), source, url]);
    this.#process.stderr.on('data', (chunk: Buffer) => (this.#errors += chunk.toString()));
    this.#answers = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
  }

  /** Sends a message, and resolves with it once the broker has it. */
  send(queue: string, kind: Kind): Promise<JmsMessage> {
    return this.#ask(`send ${queue} ${kind}`);
  }

  /** The next message of the queue. */
  receive(queue: string): Promise<JmsMessage> {
    return this.#ask(`receive ${queue}`);
  }

  /** Sends a request with a temporary queue, always the same, as reply-to. Resolves with it once the broker has it. */
  request(queue: string, kind: Kind, correlationId: string): Promise<JmsMessage> {
    return this.#ask(`request ${queue} ${kind} ${correlationId}`);
  }

  /** The next replies to our requests. */
  replies(count: number): Promise<JmsMessage[]> {
    return this.#ask(`reply ${count}`);
  }

  /**
   * Takes so many requests, then replies to each, the last first, with `id` of the request as correlation id: with a
   * message of its own, or the request itself ("same"). Resolves with the requests.
   */
  serve(queue: string, id: CorrelatedBy, reply: Kind | 'same', count = 1): Promise<JmsMessage[]> {
    return this.#ask(`serve ${queue} ${id} ${reply} ${count}`);
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exit = once(this.#process, 'exit');
    this.#process.kill();
    await exit;
  }

  async #ask<T>(question: string): Promise<T> {
    this.#process.stdin.write(`${question}\n`);
    const { value, done } = await this.#answers.next();
    if (done) throw new Error(`the JMS client has ended:\n${this.#errors}`);
    return JSON.parse(value);
  }
}
