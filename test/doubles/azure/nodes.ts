// Our own nodes, as the clients of Microsoft are used: to do the same with a double, with the same results.
import { EventEmitter, once } from 'node:events';
import type { NodeInitializer } from 'node-red';
import { flow, helper, inject, type Msg, node, nodes } from '../../flow';
import type { NodeConfig } from '../../node-red';
import { texts } from '../../texts';
import { ClientError, type ClientKind, type Driver } from './client';

/** What differs between the services, in all that is done with the nodes for both. */
export interface Service {
  /** as the endpoint calls it */
  peer: 'servicebus' | 'eventhubs';
  /** The names that the clients have for what is refused, by the condition, or our own words. */
  names: Record<string, string>;
  /** other nodes that the flows have */
  others?: NodeInitializer[];
}

/** Milliseconds for which refusals are taken to be of a moment: a client tries again for as long. */
export const PATIENCE = 2000;

/** Our nodes as a client; `start` makes what does with them as it is told. */
export function nodesKind(start: () => Driver): ClientKind {
  return { name: 'our nodes', isAttentive: true, isOurs: true, prepare: () => helper.startServer(), start };
}

/** The nodes of this package, in a flow that grows with what is asked for. */
export abstract class Nodes implements Driver {
  /** 'deployed', and what has reached helper nodes: 'out', 'completed', 'caught'. */
  protected readonly events = new EventEmitter<Record<string, [Msg?]>>();
  /** What it does, by what that is called. */
  protected abstract readonly operations: Record<string, (...parameters: any[]) => Promise<unknown>>;
  readonly #service: Service;
  #configs: NodeConfig[] = [];
  #count = 0;
  #deployed: Promise<void> = Promise.resolve();

  constructor(service: Service) {
    this.#service = service;
  }

  async call<T>(operation: string, ...parameters: unknown[]): Promise<T> {
    const act = this.operations[operation];
    if (!act) throw new Error(`there is no operation ${operation}`);
    return (await act(...parameters)) as T;
  }

  async end(): Promise<void> {
    delete process.env['AMQP_TEST_VALUE'];
    await helper.stopServer();
  }

  /** Begins anew, with an endpoint and no other node of ours. */
  protected async open(connectionString: string): Promise<void> {
    const { peer, others = [] } = this.#service;
    await helper.unload();
    process.env['AMQP_TEST_VALUE'] = connectionString;
    this.#configs = [
      { id: 'broker', type: 'amqp-endpoint', z: '', peer, host: '${AMQP_TEST_VALUE}', port: 5671, autoconnect: true },
    ];
    helper.settings({ amqpEndpointReconnectTime: 20, amqpEndpointLoginRetryTime: 40 });
    await helper.load([texts, ...others, ...nodes], flow(...this.#configs));
    for (const id of ['out', 'completed', 'caught'])
      helper.getNode(id).on('input', (msg) => void this.events.emit(id, msg));
  }

  protected async close(): Promise<void> {
    await helper.unload();
  }

  /** Deploys these too, in place of those with the same ids. */
  protected async add(...configs: NodeConfig[]): Promise<void> {
    const ids = new Set(configs.map(({ id }) => id));
    await this.#deploy([...this.#configs.filter(({ id }) => !ids.has(id)), ...configs]);
  }

  protected async remove(name: string): Promise<void> {
    await this.#deploy(this.#configs.filter(({ id }) => id !== name));
  }

  async #deploy(configs: NodeConfig[]): Promise<void> {
    this.#configs = configs;
    // Of two deployments at a time Node-RED would take what is new in the first for new in the second too.
    this.#deployed = this.#deployed.then(() => helper.setFlows(flow(...this.#configs), 'nodes'));
    await this.#deployed;
    this.events.emit('deployed');
  }

  /** The id of a sender to the address. */
  protected async sender(address: string, more: object = {}): Promise<string> {
    const id = `to-${address}${JSON.stringify(more)}`;
    // It keeps what cannot be sent, as long as it may: a client gives up sooner.
    const properties = { address, timeout: PATIENCE / 1000, ...more };
    if (!helper.getNode(id)) await this.add({ ...node('amqp-sender', properties), id });
    return id;
  }

  /** Gives a node a msg. Resolves with what Complete has, rejects with what Catch has. */
  protected async done(id: string, msg: object): Promise<Msg> {
    const over = new AbortController();
    const { signal } = over;
    try {
      const given: Msg = { _msgid: `${++this.#count}`, ...msg };
      const done = this.#next('completed', given, signal);
      const caught = this.#next('caught', given, signal).then(({ error }) => {
        throw this.errorOf(error!.message);
      });
      for (const each of [done, caught]) (each as Promise<unknown>).catch(() => {});
      inject(id, given);
      return await Promise.race([done, caught]);
    } finally {
      over.abort();
    }
  }

  /** The msg as it reaches a node. */
  async #next(id: string, { _msgid }: Msg, signal: AbortSignal): Promise<Msg> {
    for (;;) {
      const [msg] = (await once(this.events, id, { signal })) as [Msg];
      // oxlint-disable-next-line no-underscore-dangle -- Node-RED's own name
      if (msg._msgid === _msgid) return msg;
    }
  }

  /** The error that a text of the nodes stands for: with the service's own words, where they are in it. */
  protected errorOf(text: string): ClientError {
    const [, name] = Object.entries(this.#service.names).find(([known]) => text.includes(known)) ?? [];
    const [, description] = /\([a-z.-]+:[a-z:-]+: (.+)\)$/.exec(text) ?? [];
    return new ClientError(name ?? text, description ?? text);
  }
}

/** The number that an annotation of a message is. */
export function annotated(msg: Msg, name: string): number | undefined {
  const annotations = (msg.amqp?.['message_annotations'] ?? {}) as Record<string, any>;
  return annotations[name]?.value ?? annotations[name];
}
