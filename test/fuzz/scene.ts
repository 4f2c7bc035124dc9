// The nodes with one peer that is scripted: for tests of their own, beside the cases of the fuzzer.
import { once } from 'node:events';
import * as net from 'node:net';
import should from 'should';
import type { EndpointNode } from '../../nodes/flow/endpoint';
import { endpointNode, flow, helper, load, node } from '../flow';
import { type Manners, Peer } from './hostile';

/** Bounds everything that is waited for, in milliseconds. */
export const PATIENCE = 10_000;

/** Waits, but not for ever. */
export async function patiently<T>(promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`waited too long for ${what}`)), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Resolves once it is so, which frames of the endpoint bring about. */
export async function until(peer: Peer, is: () => boolean, what: string): Promise<void> {
  const end = new AbortController();
  const stop = (): void => end.abort();
  const timer = setTimeout(stop, PATIENCE);
  peer.once('over', stop);
  try {
    if (!peer.isOver) while (!is()) await once(peer, 'frame', { signal: end.signal });
  } catch {
    // Told below.
  } finally {
    clearTimeout(timer);
    peer.off('over', stop);
  }
  if (!is()) throw new Error(`${peer.isOver ? 'the connection was lost' : 'waited too long'}: ${what}`);
}

/** A receiver and a sender, as it were; each node is on the endpoint `broker`. */
type Configs = ReturnType<typeof node>[];

export class Scene {
  /** In the order of their connections. */
  readonly peers: Peer[] = [];
  /** What the endpoint has sent that it must not. */
  readonly faults: string[] = [];
  readonly #server: net.Server;

  private constructor(manners: Manners) {
    this.#server = net.createServer({ allowHalfOpen: true }, (socket) => {
      this.peers.push(new Peer(socket, 'attached', manners).on('fault', (text) => void this.faults.push(text)));
    });
  }

  static async start(configs: Configs, manners: Manners): Promise<Scene> {
    const scene = new Scene(manners);
    scene.#server.listen(0, '127.0.0.1');
    await once(scene.#server, 'listening');
    await load(flow(endpointNode((scene.#server.address() as net.AddressInfo).port), ...configs));
    (helper.getNode('broker') as EndpointNode).endpoint.connection.options.backoff.max = 100;
    return scene;
  }

  /** The peer of the first connection, once there is a link of each name, receivers with credit. */
  async attached(...names: string[]): Promise<Peer> {
    if (this.peers.length === 0) await patiently(once(this.#server, 'connection'), 'a connection');
    const peer = this.peers[0]!;
    const isThere = (name: string): boolean => {
      const link = peer.links.get(name);
      return link !== undefined && (link.isSender || link.credit > 0);
    };
    await until(peer, () => names.every(isThere), `links ${names.join()} attach`);
    return peer;
  }

  /** All is as it was: still the first connection, nothing sent that must not be. */
  check(): void {
    should(this.faults).deepEqual([]);
    should(this.peers.length).equal(1);
    should(this.peers[0]!.isOver).equal(false);
  }

  async stop(): Promise<void> {
    await helper.unload();
    for (const { socket } of this.peers) socket.destroy();
    this.#server.close();
  }
}
