// A network between a node and its broker that can be made bad.
import { EventEmitter, once } from 'node:events';
import net from 'node:net';
import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises';

/** What the proxy does to what it carries, both ways. */
interface Weather {
  /** Milliseconds that each chunk takes. */
  latency: number;
  /** Bytes come one at a time. */
  isDribbling: boolean;
  /** Nothing gets through, and nobody is told: what a lost route looks like. */
  isSilent: boolean;
}

/** Listens on a port of its own, and carries what comes to the target. Emits 'connection' for each that comes. */
export class Proxy extends EventEmitter<{ connection: [] }> {
  port = 0;
  readonly #target: { host: string; port: number };
  readonly #server = net.createServer((socket) => this.#accept(socket));
  readonly #sockets = new Set<net.Socket>();
  readonly #weather: Weather = { latency: 0, isDribbling: false, isSilent: false };

  static async start(port: number, host = '127.0.0.1'): Promise<Proxy> {
    const proxy = new Proxy({ host, port });
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    proxy.port = (proxy.#server.address() as net.AddressInfo).port;
    return proxy;
  }

  private constructor(target: { host: string; port: number }) {
    super();
    this.#target = target;
  }

  get connections(): number {
    return this.#sockets.size / 2;
  }

  set latency(milliseconds: number) {
    this.#weather.latency = milliseconds;
  }

  set dribbling(isDribbling: boolean) {
    this.#weather.isDribbling = isDribbling;
  }

  /** Connections of before stay silent for good: their bytes are lost. */
  set silent(isSilent: boolean) {
    this.#weather.isSilent = isSilent;
  }

  /** Ends all connections with a TCP reset. */
  reset(): void {
    for (const socket of this.#sockets) reset(socket);
  }

  async stop(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.reset();
    await closed;
  }

  #accept(near: net.Socket): void {
    const far = net.connect({ ...this.#target, noDelay: true });
    near.setNoDelay(true);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(from);
      from.on('error', () => {}); // 'close' follows, with all there is to do
      from.on('close', () => {
        this.#sockets.delete(from);
        if (!isLost) reset(to);
      });
      let last = Promise.resolve();
      from.on('data', (chunk) => {
        isLost ||= this.#weather.isSilent;
        if (isLost) return;
        const due = performance.now() + this.#weather.latency;
        last = last.then(() => this.#carry(chunk, to, due));
      });
    }
    let isLost = false;
    this.emit('connection');
  }

  async #carry(chunk: Buffer, to: net.Socket, due: number): Promise<void> {
    const pause = due - performance.now();
    if (pause > 0) await delay(pause);
    if (!this.#weather.isDribbling) return void to.write(chunk);
    for (const byte of chunk) {
      to.write(Buffer.of(byte));
      await turn();
    }
  }
}

/** A reset while the socket is ending fails in libuv, and Node.js then waits for its handle for ever when it exits. */
function reset(socket: net.Socket): void {
  if (socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}
