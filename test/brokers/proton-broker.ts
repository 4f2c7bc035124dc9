// The example broker of Qpid Proton C++: queues that come into being when named, in memory; no accounts, TLS or administration.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../../scripts/free-port';
import { type BrokerKind, cached, LocalBroker, run } from './broker';

const SOURCE = '/usr/share/proton/examples/cpp/broker.cpp';

export const protonBroker: BrokerKind = {
  async prepare() {
    if (!existsSync(SOURCE)) {
      const packages = 'libqpid-proton-cpp12-dev libqpid-proton11-dev-examples';
      throw new Error(`no ${SOURCE} (Debian: apt-get install ${packages})`);
    }
    await compiled();
  },

  async start(setup) {
    return new ProtonBroker(await compiled(), await installed(), await freePort()).launch(setup);
  },
};

class ProtonBroker extends LocalBroker {
  readonly version: string;

  constructor(
    private readonly command: string,
    proton: string,
    readonly port: number,
  ) {
    super('proton');
    this.version = `Qpid Proton ${proton}`;
  }

  async start(): Promise<void> {
    const address = ['-a', `${this.host}:${this.port}`];
    await this.server.start(this.command, address, { env: process.env }, /broker listening/);
  }

  /** There is nothing to configure: queues come into being when they are named. */
  protected configure(): void {}
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
