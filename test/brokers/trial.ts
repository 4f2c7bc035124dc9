// One feature tried on one broker: flows of the nodes, addressed as this peer wants it, and what a person would look at.
import type { EventEmitter } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { NodeInitializer } from 'node-red';
import { flow, helper, inject, type Msg, nodes } from '../flow';
import { coreNode, type NodeConfig } from '../node-red';
import { type Broker, FIXTURES } from './broker';
import type { Peer } from './peers';
import { savedEndpoint, savedNode } from './saved';

const catalogue = JSON.parse(
  readFileSync(join(__dirname, '..', '..', 'locales', 'en-US', 'amqp-endpoint.json'), 'utf8'),
);

/** Gives the nodes their texts, which the test helper replaces by their keys. */
export const texts: NodeInitializer = (RED) => void Object.assign(RED, { _: translate });

function translate(key: string, blanks: Record<string, string> = {}): string {
  const place = key.replace(/.*:/, '').split('.');
  const text: string = place.reduce((part, name) => part?.[name], catalogue) ?? `no text for ${key}`;
  return text.replace(/__(\w+?)__/g, (_, name: string) => blanks[name] ?? name);
}

const WARN = 30;
const path = (name: string) => join(FIXTURES, name);

/** What a node's status tells once it is no longer on the way. */
export type Settled = 'connected' | 'ignored' | 'refused';

/** Collects what reaches a node, from now on. */
export class Inbox {
  readonly all: Msg[] = [];
  #read = 0;
  #wake: (() => void) | undefined;

  constructor(id: string) {
    helper.getNode(id).on('input', (msg) => {
      this.all.push(msg);
      this.#wake?.();
    });
  }

  /** The next one for which this is true; those before it are skipped. */
  async until(isIt: (msg: Msg) => boolean): Promise<Msg> {
    for (;;) {
      while (this.#read === this.all.length) await new Promise<void>((resolve) => (this.#wake = resolve));
      const msg = this.all[this.#read++]!;
      if (isIt(msg)) return msg;
    }
  }

  next(): Promise<Msg> {
    return this.until(() => true);
  }

  async take(count: number): Promise<Msg[]> {
    const taken: Msg[] = [];
    while (taken.length < count) taken.push(await this.next());
    return taken;
  }

  /** Until there are so many different payloads: what comes again counts once. */
  async distinct(count: number): Promise<void> {
    while (new Set(this.all.map(({ payload }) => payload)).size < count) await this.next();
  }
}

/** What is set of the endpoint. */
export interface Reach {
  /** Its credentials. */
  login?: object;
  /** Its properties. */
  endpoint?: object;
  /** Credentials of other nodes, by id. */
  credentials?: Record<string, object>;
}

export class Trial {
  #isOver = false;

  constructor(
    readonly peer: Peer,
    readonly broker: Broker,
  ) {}

  /** Loads the nodes, as a person who logs in and does nothing else. Whatever they are wired to and is not there is an inbox. */
  async load(
    configs: NodeConfig[],
    { login = this.peer.login, endpoint = {}, credentials = {} }: Reach = {},
  ): Promise<void> {
    const given = flow(savedEndpoint(this.broker.port, { host: this.broker.host, ...endpoint }), ...configs);
    const wired = new Set(given.flatMap(({ wires = [] }) => wires as string[][]).flat());
    const missing = [...wired].filter((id) => !given.some((config) => config.id === id));
    const inboxes = missing.map((id) => ({ id, type: 'helper', z: 'flow', x: 0, y: 0, wires: [] }));
    // The pauses of a person's Node-RED, but for a login that is refused.
    helper.settings({ amqpEndpointReconnectTime: 100, amqpEndpointLoginRetryTime: 500 });
    const core = ['network/05-tls', 'network/06-httpproxy'].map(coreNode);
    await helper.load([texts, ...core, ...nodes], [...given, ...inboxes], { broker: login, ...credentials });
  }

  /** A sender; what became of each message goes to `outcome`, accepted or not. */
  sender(properties: object): NodeConfig {
    return savedNode('amqp-sender', { wires: [['outcome']], outcomes: 'all', ...properties });
  }

  receiver(properties: object): NodeConfig {
    return savedNode('amqp-receiver', properties);
  }

  requester(properties: object): NodeConfig {
    return savedNode('amqp-requester', properties);
  }

  responder(properties: object): NodeConfig {
    return savedNode('amqp-responder', properties);
  }

  send(msg: object, id = 'sender'): void {
    inject(id, msg);
  }

  inbox(id = 'out'): Inbox {
    return new Inbox(id);
  }

  /** Sends these and resolves once the peer has taken all of them. */
  async deliver(...messages: object[]): Promise<void> {
    const outcomes = this.inbox('outcome');
    for (const msg of messages) this.send(msg);
    for (const { sent } of await outcomes.take(messages.length)) {
      if (sent?.state !== 'accepted') throw new Error(`not accepted: ${JSON.stringify(sent)}`);
    }
  }

  /** Resolves once the node shows how it went with its link. */
  settled(id: string): Promise<Settled> {
    const target = helper.getNode(id) as unknown as {
      status: { args: [{ fill: string; shape: string; text: string }][]; thisValues: unknown[] };
      on(event: string, listener: () => void): void;
      off(event: string, listener: () => void): void;
    };
    return new Promise((resolve) => {
      const check = (): void => {
        const { args, thisValues } = target.status;
        const shown = args[thisValues.lastIndexOf(target)]?.[0];
        const isRefused = shown?.fill === 'red';
        const isIgnored = shown?.text.startsWith('ignored:');
        if (!isRefused && !isIgnored && shown?.fill !== 'green') return;
        target.off('call:status', check);
        if (isRefused) resolve('refused');
        else resolve(isIgnored ? 'ignored' : 'connected');
      };
      target.on('call:status', check);
      check();
    });
  }

  /** The warnings of a node in the log. */
  warnings(id: string): string[] {
    const entries = helper.log().args.map(([entry]) => entry);
    return entries.filter((entry) => entry.id === id && entry.level <= WARN).map(({ msg }) => String(msg));
  }

  /** Resolves with the first warning of a node that says this. */
  warned(id: string, words: RegExp): Promise<string> {
    const target = helper.getNode(id) as unknown as EventEmitter;
    return new Promise((resolve) => {
      const check = (): void => {
        const found = this.warnings(id).find((text) => words.test(text));
        if (found === undefined) return;
        target.off('call:warn', check);
        resolve(found);
      };
      target.on('call:warn', check);
      check();
    });
  }

  /** Resolves once the queue holds so many; one that never does lets the test time out. Not every broker tells. */
  async depth(queue: string, count: number): Promise<void> {
    while (!this.#isOver && this.broker.depth && (await this.broker.depth(queue)) !== count);
  }

  /** Ends what still waits. */
  end(): Promise<void> {
    this.#isOver = true;
    return this.unload();
  }

  /** The nodes as after a restart of Node-RED. */
  unload(): Promise<void> {
    return helper.unload();
  }

  /** A tls-config node that trusts the brokers of the tests, with a client certificate or without. */
  tls(client?: 'client'): NodeConfig {
    const files = { cert: client ? path(`${client}.crt`) : '', key: client ? path(`${client}.key`) : '' };
    const none = { certname: '', keyname: '', caname: '', servername: '', verifyservercert: true };
    return { id: 'tls', type: 'tls-config', ...none, ca: path('ca.crt'), ...files };
  }
}
