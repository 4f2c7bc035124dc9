// Our own nodes, as the clients of Microsoft for Service Bus are used.
import { type EventEmitter, once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { helper, inject, type Msg, node } from '../../flow';
import { annotated, Nodes, nodesKind, PATIENCE } from '../azure/nodes';
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

interface Settlement {
  properties?: object;
  reason?: string;
  description?: string;
}

const STATES = ['active', 'deferred', 'scheduled'] as const;

export const ours = nodesKind(() => new ServiceBusNodes());

class ServiceBusNodes extends Nodes {
  protected override readonly operations = {
    open: (connectionString: string) => this.#open(connectionString),
    send: (address: string, messages: Outgoing[], options?: { batch?: boolean }) =>
      this.#send(address, messages, options),
    receiver: (name: string, source: Source) => this.#receiver(name, source),
    receive: (name: string, count: number, wait: number) => this.#receive(name, count, wait),
    settle: (name: string, handle: number, outcome: string, more?: Settlement) =>
      this.#settle(name, handle, outcome, more),
    receiveDeferred: (name: string, sequenceNumber: number[]) => this.#ask(name, { action: 'receive', sequenceNumber }),
    peek: (name: string, count: number) => this.#ask(name, { action: 'peek', count }),
    schedule: (address: string, messages: Outgoing[], delay: number) => this.#schedule(address, messages, delay),
    cancel: async (address: string, sequenceNumber: number[]) => {
      await this.done(await this.#sender(address), { action: 'cancel', sequenceNumber });
    },
    closeReceiver: (name: string) => this.remove(name),
    close: () => this.close(),
  };
  #received: Msg[] = [];

  constructor() {
    super({
      peer: 'servicebus',
      names: {
        'amqp:unauthorized-access': 'UnauthorizedAccess',
        'amqp:not-found': 'MessagingEntityNotFound',
        'takes no more than': 'MessageSizeExceeded',
        'com.microsoft:entity-disabled': 'MessagingEntityDisabled',
        'com.microsoft:message-lock-lost': 'MessageLockLost',
        'com.microsoft:message-not-found': 'MessageNotFound',
        'com.microsoft:server-busy': 'ServiceBusy',
        'com.microsoft:session-cannot-be-locked': 'SessionCannotBeLocked',
        'com.microsoft:session-lock-lost': 'SessionLockLost',
      },
    });
  }

  async #open(connectionString: string): Promise<void> {
    this.#received = [];
    await this.open(connectionString);
  }

  #sender(address: string, more: object = {}): Promise<string> {
    // What is busy for long fails, as it does with the clients.
    return this.sender(address, { retrytime: 0.3, ...more });
  }

  async #send(address: string, messages: Outgoing[], { batch = false } = {}): Promise<void> {
    const id = await this.#sender(address, batch ? { batch: 'array' } : {});
    const [first] = messages as [Outgoing];
    const payload = batch ? messages.map(({ body }) => body) : first.body;
    await this.done(id, { ...msgOf(first), payload });
  }

  async #schedule(address: string, messages: Outgoing[], delay: number): Promise<unknown[]> {
    const id = await this.#sender(address);
    const numbers: unknown[] = [];
    for (const message of messages) {
      const time = new Date(Date.now() + delay);
      const { sent } = await this.done(id, { ...msgOf(message), action: 'schedule', scheduledEnqueueTime: time });
      numbers.push((sent as unknown as { sequenceNumber: number }).sequenceNumber);
    }
    return numbers;
  }

  async #receiver(name: string, source: Source): Promise<string | null> {
    const { queue, topic, subscription, receiveAndDelete, deadLetters, session } = source;
    const entity = queue ?? `${topic}/Subscriptions/${subscription}`;
    await this.add({
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
      while (arrived.length < count && !signal.aborted) await once(this.events, 'out', { signal }).catch(() => {});
      if (arrived.length < count) await this.done(name, { action: 'drain' });
    });
  }

  /** What the receiver puts out for it. */
  async #ask(name: string, msg: object): Promise<Received[]> {
    return this.#arriving(async () => {
      await this.done(name, msg);
      // Node-RED hands on in its next turn what was put out before.
      await turn();
    });
  }

  async #arriving(task: (arrived: Msg[]) => Promise<void>): Promise<Received[]> {
    const arrived: Msg[] = [];
    const take = (msg?: Msg): void => void arrived.push(msg!);
    this.events.on('out', take);
    try {
      await task(arrived);
    } finally {
      this.events.off('out', take);
    }
    return arrived.map((msg) => this.#told(msg));
  }

  async #settle(
    name: string,
    handle: number,
    outcome: string,
    { properties, reason, description }: Settlement = {},
  ): Promise<void> {
    const settlement = {
      complete: { settle: 'accept' },
      abandon: { settle: 'modify', annotations: properties },
      defer: { settle: 'modify', undeliverable_here: true, annotations: properties },
      'dead-letter': { settle: 'reject', error: { condition: reason, description, info: properties } },
    }[outcome];
    await this.done(name, { ...this.#received[handle], ...settlement });
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
      const deployed = once(this.events, 'deployed', until);
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
        if (!signal.aborted) throw this.errorOf(text);
      }
    }
  }

  #told(msg: Msg): Received {
    const { payload, amqp = {} } = msg;
    const properties = (amqp['application_properties'] ?? {}) as Record<string, unknown>;
    const { DeadLetterReason: reason, DeadLetterErrorDescription: description, ...own } = properties;
    return {
      handle: this.#received.push(msg) - 1,
      id: amqp['message_id'] as string,
      body: payload as string,
      sequenceNumber: annotated(msg, 'x-opt-sequence-number')!,
      deliveryCount: (amqp['delivery_count'] as number | undefined) ?? 0,
      sessionId: (amqp['group_id'] as string | undefined) ?? null,
      properties: own,
      state: STATES[annotated(msg, 'x-opt-message-state') ?? 0]!,
      reason: (reason as string | undefined) ?? null,
      description: (description as string | undefined) ?? null,
      enqueuedAt: annotated(msg, 'x-opt-enqueued-time')!,
      lockedUntil: annotated(msg, 'x-opt-locked-until') ?? null,
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
