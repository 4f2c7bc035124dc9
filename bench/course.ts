// One run of one contestant: how many messages it handles, what it has used, and how long each took.

export interface Task {
  workload: 'sink' | 'source' | 'round trip' | 'requests' | 'settle';
  port: number;
  /** Bytes of a body: text below 1,000, a Buffer from there on. */
  size: number;
  count: number;
  /** Most messages on their way. */
  inFlight: number;
}

export interface Result {
  /** Messages a second. */
  rate: number;
  /** Seconds of CPU for 100,000 messages. */
  cpu: number;
  /** Peak of resident memory, in megabytes. */
  memory: number;
  /** Milliseconds. */
  p50?: number;
  p99?: number;
}

export function bodyOf(size: number): string | Buffer {
  return size < 1000 ? 'x'.repeat(size) : Buffer.alloc(size, 'x');
}

export class Course {
  readonly #task: Task;
  readonly #warmUp: number;
  #sent = 0;
  #arrived = 0;
  #start = 0;
  #usage: NodeJS.CpuUsage | undefined;
  #isFilling = false;
  readonly #times: number[] = [];

  constructor(task: Task) {
    this.#task = task;
    // What is compiled on the way says nothing of long runs.
    this.#warmUp = Math.ceil(task.count / 5);
  }

  /** Sends until enough are on their way. */
  fill(send: () => void, isReady = (): boolean => true): void {
    if (this.#isFilling) return;
    this.#isFilling = true;
    const { inFlight, count } = this.#task;
    while (this.#sent - this.#arrived < inFlight && this.#sent < count + this.#warmUp && isReady()) {
      this.#sent++;
      send();
    }
    this.#isFilling = false;
  }

  /** Counts one; the last ends the process. */
  arrive(since?: number): void {
    this.#arrived++;
    if (this.#arrived === this.#warmUp) {
      this.#start = performance.now();
      this.#usage = process.cpuUsage();
    }
    if (since !== undefined && this.#usage) this.#times.push(performance.now() - since);
    if (this.#arrived === this.#warmUp + this.#task.count) this.#end();
  }

  #end(): void {
    const seconds = (performance.now() - this.#start) / 1000;
    const { user, system } = process.cpuUsage(this.#usage);
    const { count } = this.#task;
    const times = this.#times.toSorted((a, b) => a - b);
    const result: Result = {
      rate: count / seconds,
      cpu: (user + system) / 1e6 / (count / 1e5),
      memory: process.resourceUsage().maxRSS / 1024,
      ...(times.length > 0 && { p50: times[times.length >> 1], p99: times[Math.floor(times.length * 0.99)] }),
    };
    process.send!(result, () => process.exit());
  }
}
