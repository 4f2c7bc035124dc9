// An HTTP proxy of its own for one test run: Debian's tinyproxy.
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../../scripts/free-port';
import { Server } from './broker';

const COMMAND = '/usr/bin/tinyproxy';

export type HttpProxyOptions = {
  /** Asks for these (Basic). */
  login?: { user: string; password: string };
  /** The ports that it lets clients through to: all, when none is named. Debian's own configuration has 443 and 563. */
  ports?: number[];
};

export class HttpProxy {
  /** Throws with the reason when there can be none here. */
  static prepare(): void {
    if (!existsSync(COMMAND)) throw new Error(`no ${COMMAND} (Debian: apt-get install tinyproxy-bin)`);
  }

  static async start(options: HttpProxyOptions = {}): Promise<HttpProxy> {
    const proxy = new HttpProxy(await freePort());
    try {
      await proxy.#start(options);
    } catch (error) {
      await proxy.stop();
      throw error;
    }
    return proxy;
  }

  readonly host = '127.0.0.1';
  readonly #directory = mkdtempSync(join(tmpdir(), 'http-proxy-'));
  readonly #server = new Server();

  private constructor(readonly port: number) {}

  /** `host:port` of each CONNECT that it was asked for, whatever came of it. It notes them before it does them. */
  get connects(): string[] {
    return [...this.#server.output.matchAll(/: CONNECT (\S+) HTTP/g)].map(([, to]) => to!);
  }

  async stop(): Promise<void> {
    await this.#server.end('SIGTERM');
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async #start({ login, ports = [] }: HttpProxyOptions): Promise<void> {
    const configuration = join(this.#directory, 'tinyproxy.conf');
    const lines = [
      `Listen ${this.host}`,
      `Port ${this.port}`,
      `Allow ${this.host}`,
      'Timeout 60',
      'MaxClients 20',
      'LogLevel Info',
      ...(login ? [`BasicAuth ${login.user} ${login.password}`] : []),
      ...ports.map((port) => `ConnectPort ${port}`),
    ];
    writeFileSync(configuration, `${lines.join('\n')}\n`);
    await this.#server.start(COMMAND, ['-d', '-c', configuration], { env: process.env }, /listening/i);
  }
}
