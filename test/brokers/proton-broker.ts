// The example broker of Qpid Proton C++: queues that come into being when named, in memory; no accounts, TLS or administration.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../../scripts/free-port';
import { type Broker, type BrokerKind, cached, run, Server } from './broker';

const SOURCE = '/usr/share/proton/examples/cpp/broker.cpp';

export const protonBroker: BrokerKind = {
  async prepare() {
    if (!existsSync(SOURCE)) {
      const packages = 'libqpid-proton-cpp12-dev libqpid-proton11-dev-examples';
      throw new Error(`no ${SOURCE} (Debian: apt-get install ${packages})`);
    }
    await compiled();
  },

  async start() {
    const broker = new ProtonBroker(await compiled(), await installed(), await freePort());
    try {
      await broker.start();
    } catch (error) {
      await broker.stop();
      throw error;
    }
    return broker;
  },
};

class ProtonBroker implements Broker {
  readonly version: string;
  readonly host = '127.0.0.1';
  readonly tlsPort = undefined;
  readonly #server = new Server();

  constructor(
    private readonly command: string,
    proton: string,
    readonly port: number,
  ) {
    this.version = `Qpid Proton ${proton}`;
  }

  async start(): Promise<void> {
    const address = ['-a', `${this.host}:${this.port}`];
    await this.#server.start(this.command, address, { env: process.env }, /broker listening/);
  }

  /** Comes back empty. */
  async restart(): Promise<void> {
    await this.#server.end('SIGTERM');
    await this.start();
  }

  async kill(): Promise<void> {
    await this.#server.end('SIGKILL');
  }

  async stop(): Promise<void> {
    await this.#server.end('SIGTERM');
  }
}

async function installed(): Promise<string> {
  const { stdout } = await run('dpkg-query', ['-W', '-f', '${Version}', 'libqpid-proton-cpp12-dev']);
  return stdout.replace(/-.*/, '');
}

async function compiled(): Promise<string> {
  const name = `proton-broker-${await installed()}`;
  const directory = await cached(name, async (unfinished) => {
    await run('g++', ['-std=c++17', '-O1', '-o', join(unfinished, 'broker'), SOURCE, '-lqpid-proton-cpp', '-lpthread']);
  });
  return join(directory, 'broker');
}
