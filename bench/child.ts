// The one protocol of all processes of a benchmark: questions by IPC, and an answer to each.
import { type ChildProcess, spawn, type SpawnOptions } from 'node:child_process';
import { once } from 'node:events';

/** What a process has used so far: seconds of CPU, and bytes of memory, now and at most. */
export interface Usage {
  cpu: number;
  memory: number;
  peak: number;
}

type Answers = Record<string, (argument: any) => unknown>;
type Question = { id: number; name: string; argument: unknown };
type Reply = { id: number; answer?: any; error?: string };

/** In the child: says that it is ready, and answers until the parent is gone. */
export function answer(answers: Answers): void {
  const all: Answers = { usage, ...answers };
  process.on('message', ({ id, name, argument }: Question) => {
    Promise.resolve()
      .then(() => all[name]!(argument))
      .then(
        (result) => process.send!({ id, answer: result } satisfies Reply),
        (error: Error) => process.send!({ id, error: error.message } satisfies Reply),
      );
  });
  process.on('disconnect', () => process.exit());
  process.send!({ id: 0 } satisfies Reply);
}

function usage(): Usage {
  const { user, system } = process.cpuUsage();
  return { cpu: (user + system) / 1e6, memory: process.memoryUsage.rss(), peak: process.resourceUsage().maxRSS * 1024 };
}

/** Killed with this process. */
const running = new Set<ChildProcess>();
process.once('exit', () => running.forEach((child) => child.kill('SIGKILL')));

export class Child {
  readonly #process: ChildProcess;
  readonly #waiting = new Map<number, Waiting>();
  #log = '';
  #last = 0;

  /** Resolves once the process is ready to be asked. */
  static async start(args: string[], options: SpawnOptions = {}): Promise<Child> {
    const child = new Child(args, options);
    await child.#wait(0);
    return child;
  }

  private constructor(args: string[], options: SpawnOptions) {
    const child = spawn(process.execPath, args, { ...options, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
    this.#process = child;
    running.add(child);
    const read = (chunk: Buffer): void => void (this.#log = (this.#log + chunk.toString()).slice(-5000));
    child.stdout!.on('data', read);
    child.stderr!.on('data', read);
    child.on('message', ({ id, answer: result, error }: Reply) => {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve(result);
      else waiting?.reject(new Error(`${error}\n${this.#log}`));
    });
    child.on('exit', (code, signal) => {
      const error = new Error(`a process ended with ${signal ?? code}:\n${this.#log}`);
      for (const { reject } of this.#waiting.values()) reject(error);
    });
  }

  ask(name: string, argument?: unknown): Promise<any> {
    const id = ++this.#last;
    this.#process.send({ id, name, argument } satisfies Question);
    return this.#wait(id);
  }

  usage(): Promise<Usage> {
    return this.ask('usage') as Promise<Usage>;
  }

  async stop(): Promise<void> {
    const child = this.#process;
    running.delete(child);
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  #wait(id: number): Promise<unknown> {
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }
}

interface Waiting {
  resolve: (result: unknown) => void;
  reject: (error: Error) => void;
}
