// Our own nodes, as the clients of Microsoft are used: to do the same with the double, with the same results.
import { EventEmitter, once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { flow, helper, inject, type Msg, node, nodes } from '../../flow';
import type { NodeConfig } from '../../node-red';
import { texts } from '../../texts';
import { ClientError, type ClientKind, type Driver } from '../azure/client';
import type { Received } from './client';

interface Outgoing {
  id?: string;
  body: string;
  sessionId?: string;
  ttl?: number;
  properties?: object;
  scheduledIn?: number;
}

interface Source {
  queue?: string;
  topic?: string;
  subscription?: string;
  receiveAndDelete?: boolean;
  deadLetters?: boolean;
  session?: string | null;
}

/** The names that the clients have for what the service refuses. */
const NAMES: Record<string, string> = {
  'amqp:unauthorized-access': 'UnauthorizedAccess',
  'amqp:not-found': 'MessagingEntityNotFound',
  'takes no more than': 'MessageSizeExceeded',
  'com.microsoft:entity-disabled': 'MessagingEntityDisabled',
  'com.microsoft:message-lock-lost': 'MessageLockLost',
  'com.microsoft:message-not-found': 'MessageNotFound',
  'com.microsoft:server-busy': 'ServiceBusy',
  'com.microsoft:session-cannot-be-locked': 'SessionCannotBeLocked',
  'com.microsoft:session-lock-lost': 'SessionLockLost',
};

/** Milliseconds. */
const PATIENCE = 1000;
const STATES = ['active', 'deferred', 'scheduled'] as const;

/** The nodes of this package, in a flow that grows with what is asked for. */
export const ours: ClientKind = {
  name: 'our nodes',
  isAttentive: true,
  isOurs: true,
  prepare: () => helper.startServer(),
  start: () => new Nodes(),
};

class Nodes implements Driver {
  #configs: NodeConfig[] = [];
  /** What has reached helper nodes: 'out', 'completed', 'caught'. */
  readonly #events = new EventEmitter<Record<string, [Msg?]>>();
  #received: Msg[] = [];
  #count = 0;
  #deployed: Promise<void> = Promise.resolve();

  async call<T>(operation: string, ...parameters: any[]): Promise<T> {
    const [first, second, third, fourth] = parameters;
    switch (operation) {
      case 'open':
        return (await this.#open(first)) as T;
      case 'send':
        return (await this.#send(first, second, third)) as T;
      case 'receiver':
        return (await this.#receiver(first, second)) as T;
      case 'receive':
        return (await this.#receive(first, second, third)) as T;
      case 'settle':
        return (await this.#settle(first, second, third, fourth)) as T;
      case 'receiveDeferred':
        return (await this.#ask(first, { action: 'receive', sequenceNumber: second })) as T;
      case 'peek':
        return (await this.#ask(first, { action: 'peek', count: second })) as T;
      case 'schedule':
        return (await this.#schedule(first, second, third)) as T;
      case 'cancel':
        return (await this.#done(await this.#sender(first), { action: 'cancel', sequenceNumber: second })) as T;
      case 'closeReceiver':
        this.#configs = this.#configs.filter(({ id }) => id !== first);
        return (await helper.setFlows(flow(...this.#configs), 'nodes')) as T;
      case 'close':
        return (await helper.unload()) as T;
      default:
        throw new Error(`there is no operation ${operation}`);
    }
  }

  async end(): Promise<void> {
    await helper.stopServer();
  }

  async #open(connectionString: string): Promise<void> {
    await helper.unload();
    process.env['AMQP_TEST_VALUE'] = connectionString;
    this.#received = [];
    this.#configs = [
      {
        id: 'broker',
        type: 'amqp-endpoint',
        z: '',
        peer: 'servicebus',
        host: '${AMQP_TEST_VALUE}',
        port: 5671,
        autoconnect: true,
      },
    ];
    helper.settings({ amqpEndpointReconnectTime: 20, amqpEndpointLoginRetryTime: 40 });
    await helper.load([texts, ...nodes], flow(...this.#configs));
    for (const id of ['out', 'completed', 'caught'])
      helper.getNode(id).on('input', (msg) => void this.#events.emit(id, msg));
  }

  async #add(config: NodeConfig): Promise<void> {
    this.#configs = [...this.#configs.filter(({ id }) => id !== config.id), config];
    // Of two deployments at a time Node-RED would take what is new in the first for new in the second too.
    this.#deployed = this.#deployed.then(() => helper.setFlows(flow(...this.#configs), 'nodes'));
    await this.#deployed;
    this.#events.emit('deployed');
  }

  async #sender(address: string, more: object = {}): Promise<string> {
    const id = `to-${address}${JSON.stringify(more)}`;
    // What is busy for long fails, as it does with the clients.
    const properties = { address, retrytime: 0.3, ...more };
    if (!helper.getNode(id)) await this.#add({ ...node('amqp-sender', properties), id });
    return id;
  }

  async #send(address: string, messages: Outgoing[], { batch = false } = {}): Promise<void> {
    const id = await this.#sender(address, batch ? { batch: 'array' } : {});
    const [first] = messages as [Outgoing];
    const payload = batch ? messages.map(({ body }) => body) : first.body;
    await this.#done(id, { ...msgOf(first), payload });
  }

  async #schedule(address: string, messages: Outgoing[], delay: number): Promise<unknown[]> {
    const id = await this.#sender(address);
    const numbers: unknown[] = [];
    for (const message of messages) {
      const time = new Date(Date.now() + delay);
      const { sent } = await this.#done(id, { ...msgOf(message), action: 'schedule', scheduledEnqueueTime: time });
      numbers.push((sent as unknown as { sequenceNumber: number }).sequenceNumber);
    }
    return numbers;
  }

  async #receiver(name: string, source: Source): Promise<string | null> {
    const { queue, topic, subscription, receiveAndDelete, deadLetters, session } = source;
    const entity = queue ?? `${topic}/Subscriptions/${subscription}`;
    await this.#add({
      ...node('amqp-receiver', {
        address: deadLetters ? `${entity}/$DeadLetterQueue` : entity,
        settle: receiveAndDelete ? 'pre-settled' : 'flow',
        // It takes what is asked for.
        creditwindow: 0,
        ...(session !== undefined && {
          session: session === null ? 'next' : 'named',
          sessionid: session ?? '',
          sessions: 1,
        }),
        wires: [['out']],
      }),
      id: name,
    });
    const over = new AbortController();
    try {
      const attached = this.#status(name, isAttached, over.signal);
      const text = await Promise.race([attached, this.#refusal(name, over.signal)]);
      return session === undefined ? null : text;
    } finally {
      over.abort();
    }
  }

  async #receive(name: string, count: number, wait: number): Promise<Received[]> {
    return this.#arriving(async (arrived) => {
      inject(name, { credit: count });
      const signal = AbortSignal.timeout(wait);
      while (arrived.length < count && !signal.aborted) await once(this.#events, 'out', { signal }).catch(() => {});
      if (arrived.length < count) await this.#done(name, { action: 'drain' });
    });
  }

  /** What the receiver puts out for it. */
  async #ask(name: string, msg: object): Promise<Received[]> {
    return this.#arriving(async () => {
      await this.#done(name, msg);
      // Node-RED hands on in its next turn what was put out before.
      await turn();
    });
  }

  async #arriving(task: (arrived: Msg[]) => Promise<void>): Promise<Received[]> {
    const arrived: Msg[] = [];
    const take = (msg?: Msg): void => void arrived.push(msg!);
    this.#events.on('out', take);
    try {
      await task(arrived);
    } finally {
      this.#events.off('out', take);
    }
    return arrived.map((msg) => this.#told(msg));
  }

  async #settle(
    name: string,
    handle: number,
    outcome: string,
    { properties, reason, description }: { properties?: object; reason?: string; description?: string } = {},
  ): Promise<void> {
    const settlement = {
      complete: { settle: 'accept' },
      abandon: { settle: 'modify', annotations: properties },
      defer: { settle: 'modify', undeliverable_here: true, annotations: properties },
      'dead-letter': { settle: 'reject', error: { condition: reason, description, info: properties } },
    }[outcome];
    await this.#done(name, { ...this.#received[handle], ...settlement });
  }

  /** Gives a node a msg. Resolves with what Complete has, rejects with what Catch has, or what the status shows. */
  async #done(id: string, msg: object): Promise<Msg> {
    const over = new AbortController();
    const { signal } = over;
    try {
      const refusal = this.#refusal(id, signal);
      const given: Msg = { _msgid: `${++this.#count}`, ...msg };
      const done = this.#next('completed', given, signal);
      const caught = this.#next('caught', given, signal).then(({ error }) => {
        throw errorOf(error!.message);
      });
      for (const each of [refusal, done, caught]) (each as Promise<unknown>).catch(() => {});
      inject(id, given);
      return await Promise.race([done, caught, refusal]);
    } finally {
      over.abort();
    }
  }

  /** The msg as it reaches a node. */
  async #next(id: string, { _msgid }: Msg, signal: AbortSignal): Promise<Msg> {
    for (;;) {
      const [msg] = (await once(this.#events, id, { signal })) as [Msg];
      // oxlint-disable-next-line no-underscore-dangle -- Node-RED's own name
      if (msg._msgid === _msgid) return msg;
    }
  }

  /** Resolves with the status that a node has, or gets, that is so. */
  async #status(id: string, isIt: (text: string) => boolean, signal?: AbortSignal): Promise<string> {
    for (;;) {
      const target = helper.getNode(id);
      const { status: spy } = target as unknown as { status: { args: [{ text?: string }][]; thisValues: unknown[] } };
      const text = spy.args[spy.thisValues.lastIndexOf(target)]?.[0].text ?? '';
      if (isIt(text)) return text;
      const changed = new AbortController();
      const until = { signal: AbortSignal.any([changed.signal, ...(signal ? [signal] : [])]) };
      // It may be another node after that.
      const deployed = once(this.#events, 'deployed', until);
      const shown = once(target as unknown as EventEmitter, 'call:status', until);
      for (const each of [deployed, shown]) each.catch(() => {});
      await Promise.race([deployed, shown]).finally(() => changed.abort());
    }
  }

  /** Rejects once a node has been refused for as long as a client tries. */
  async #refusal(id: string, signal: AbortSignal): Promise<never> {
    for (;;) {
      const text = await this.#status(id, isRefused, signal);
      const patience = AbortSignal.any([signal, AbortSignal.timeout(PATIENCE)]);
      try {
        await this.#status(id, (one) => !isRefused(one), patience);
      } catch {
        if (!signal.aborted) throw errorOf(text);
      }
    }
  }

  #told(msg: Msg): Received {
    const { payload, amqp = {} } = msg;
    const properties = (amqp['application_properties'] ?? {}) as Record<string, unknown>;
    const annotations = (amqp['message_annotations'] ?? {}) as Record<string, any>;
    const number = (name: string): number | undefined => annotations[name]?.value ?? annotations[name];
    const { DeadLetterReason: reason, DeadLetterErrorDescription: description, ...own } = properties;
    return {
      handle: this.#received.push(msg) - 1,
      id: amqp['message_id'] as string,
      body: payload as string,
      sequenceNumber: number('x-opt-sequence-number')!,
      deliveryCount: (amqp['delivery_count'] as number | undefined) ?? 0,
      sessionId: (amqp['group_id'] as string | undefined) ?? null,
      properties: own,
      state: STATES[number('x-opt-message-state') ?? 0]!,
      reason: (reason as string | undefined) ?? null,
      description: (description as string | undefined) ?? null,
      enqueuedAt: number('x-opt-enqueued-time')!,
      lockedUntil: number('x-opt-locked-until') ?? null,
    };
  }
}

function isRefused(text: string): boolean {
  return text.startsWith('refused: ');
}

/** Connected, or in a session, which is what the status is then. */
function isAttached(text: string): boolean {
  return text.endsWith('.connected') || !(text === '' || text.includes('.status.') || isRefused(text));
}

/** The error that the service's words in a text stand for. */
function errorOf(text: string): ClientError {
  const [, name] = Object.entries(NAMES).find(([condition]) => text.includes(condition)) ?? [];
  return new ClientError(name ?? text, text);
}

function msgOf({ id, body, sessionId, ttl, properties, scheduledIn }: Outgoing): object {
  const time = { $amqp: 'timestamp', value: Date.now() + (scheduledIn ?? 0) };
  return {
    payload: body,
    amqp: {
      message_id: id,
      group_id: sessionId,
      ttl,
      application_properties: properties,
      ...(scheduledIn && { message_annotations: { 'x-opt-scheduled-enqueue-time': time } }),
    },
  };
}
