// A wire that is listened to: what clients say to a server, byte for byte.
import { once } from 'node:events';
import net from 'node:net';

export class Tap {
  /** Passes on what comes to a port of its own. */
  static async start(target: number): Promise<Tap> {
    const tap = new Tap(target);
    tap.#server.listen(0, '127.0.0.1');
    await once(tap.#server, 'listening');
    return tap;
  }

  /** What clients have said, by connection. */
  readonly said: Buffer[][] = [];
  readonly #sockets = new Set<net.Socket>();
  readonly #server = net.createServer((near) => this.#accept(near));

  private constructor(private readonly target: number) {}

  get port(): number {
    return (this.#server.address() as net.AddressInfo).port;
  }

  /** Whether this went to the server, on any of the connections. */
  heard(text: string): boolean {
    return this.said.some((chunks) => Buffer.concat(chunks).includes(text));
  }

  async stop(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #accept(near: net.Socket): void {
    const far = net.connect(this.target, '127.0.0.1');
    const said: Buffer[] = [];
    this.said.push(said);
    near.on('data', (chunk) => said.push(chunk));
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(from);
      from.pipe(to);
      from.on('error', () => {}); // 'close' follows
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
  }
}
