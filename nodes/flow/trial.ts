/** Tries an endpoint as it stands in its form, deployed or not. */
import type { Node, NodeAPI } from 'node-red';
import { isPlainObject } from '../lib/codec/notation';
import { type Step, type Target, tryOut, type Verdict } from '../lib/exchange/trial';
import { type EndpointDef, EndpointSettings } from './endpoint-options';
import { HttpError } from './http-error';
import { Settings } from './settings';

/** What the form sends. A secret that is kept as it is stands as `__PWRD__`. */
export interface Asked {
  id?: unknown;
  properties?: unknown;
  credentials?: unknown;
  address?: unknown;
  role?: unknown;
}

/** What the form gets. Of a `diagnosis` it says itself what to do, in the language of its user. */
export type Answer =
  | {
      ok: true;
      steps: Step[];
      peer: { product?: string; version?: string; container?: string; capabilities: string[] };
    }
  | { ok: false; step: Step | 'settings'; reason: string; diagnosis?: string };

/** Trials in a minute, so that nobody looks through a network by them. */
const [MOST, MINUTE] = [10, 60_000];
const MOST_SERVERS = 10;
/** Milliseconds that a trial takes at most. */
const LONGEST = 60_000;
const UNCHANGED = '__PWRD__';

export class Trials {
  readonly #RED: NodeAPI;
  /** What the open says of us. */
  readonly #properties: Record<string, string>;
  /** When the last ones began. */
  #begun: number[] = [];
  #isRunning = false;

  constructor(RED: NodeAPI, properties: Record<string, string>) {
    this.#RED = RED;
    this.#properties = properties;
  }

  /** Rejects with an HttpError where nothing is tried. */
  async run(asked: Asked): Promise<Answer> {
    const target = targetOf(asked);
    const { properties, credentials = {}, id } = asked;
    if (!isPlainObject(properties) || !isPlainObject(credentials))
      throw new HttpError(400, 'properties and credentials are needed');
    // The editor's word for a configuration node that is not there.
    const given = Object.entries(properties).filter(([, value]) => value !== '_ADD_');
    const config = { ...Object.fromEntries(given), id: String(id), type: 'amqp-endpoint' } as unknown as EndpointDef;
    const { options, fault } = this.#optionsOf(config, credentials);
    if (options.listens) throw new HttpError(400, 'an endpoint that listens has no server');
    if (fault) return { ok: false, step: 'settings', reason: fault };
    if (options.servers.length > MOST_SERVERS) throw new HttpError(400, `more than ${MOST_SERVERS} servers`);
    this.#admit();
    this.#isRunning = true;
    try {
      return this.#answer(await tryOut(options, target, LONGEST));
    } finally {
      this.#isRunning = false;
    }
  }

  #admit(): void {
    const now = Date.now();
    this.#begun = this.#begun.filter((time) => now - time < MINUTE);
    if (this.#isRunning || this.#begun.length >= MOST) throw new HttpError(429, this.#text('error.tests'));
    this.#begun.push(now);
  }

  #optionsOf(config: EndpointDef, given: Record<string, unknown>) {
    const RED = this.#RED;
    const { id, tls, proxy } = config;
    const deployed = RED.nodes.getNode(id) as (Node & { _flow?: unknown }) | null | undefined;
    const stored = (RED.nodes.getCredentials(id) ?? {}) as Record<string, unknown>;
    const credentials = Object.fromEntries(
      Object.entries(given).map(([name, value]) => [name, value === UNCHANGED ? stored[name] : this.#resolved(value)]),
    );
    // What reads the settings asks a node for its credentials, and Node-RED asks it for its environment.
    const node = { id, credentials, _flow: deployed?._flow } as unknown as Node;
    const settings = new Settings(RED, node, config, 'amqp-endpoint');
    const options = new EndpointSettings(RED, node, settings, config).options(this.#properties);
    const missing = [tls, proxy].find((one) => one && !RED.nodes.getNode(one));
    const fault = missing ? this.#text('error.not-deployed') : settings.fault?.message;
    return { options, fault };
  }

  /** Node-RED puts environment variables into the credentials of a node that it makes. */
  #resolved(value: unknown): unknown {
    const [, variable] = (typeof value === 'string' && /^\$\{(\w+)\}$/.exec(value)) || [];
    return variable === undefined ? value : (process.env[variable] ?? value);
  }

  #answer({ steps, failure, peer }: Verdict): Answer {
    if (failure) {
      const { message: reason, diagnosis } = failure.error;
      return { ok: false, step: failure.step, reason, ...(diagnosis && { diagnosis }) };
    }
    const { product, container, capabilities } = peer!;
    return {
      ok: true,
      steps,
      peer: { product: product.name, version: product.version, container, capabilities },
    };
  }

  #text(key: string): string {
    return this.#RED._(`@amqp10/node-red-amqp10/amqp-endpoint:amqp-endpoint.${key}`);
  }
}

function targetOf({ address, role = 'source' }: Asked): Target | undefined {
  if (address === undefined || address === '') return undefined;
  if (typeof address !== 'string') throw new HttpError(400, 'address is not text');
  const known = (['source', 'target'] as const).find((one) => one === role);
  if (!known) throw new HttpError(400, 'role is neither source nor target');
  return { address, role: known };
}
