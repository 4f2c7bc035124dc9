// An endpoint that listens, in the Node-RED under test, and clients of it.
import { once } from 'node:events';
import type { EventContext, Receiver, Sender } from 'rhea';
import type { EndpointNode } from '../nodes/flow/endpoint';
import type { Listener } from '../nodes/lib/listen/listener';
import { first } from './broker/client';
import { endpointNode, helper } from './flow';
import type { NodeConfig } from './node-red';

/** An endpoint that lets in everybody. rhea's clients leave timers behind where the peer asks for heartbeats. */
export function listening(port: number, properties: object = {}): NodeConfig {
  return endpointNode(port, { role: 'listen', anonymous: true, idletimeout: 0, ...properties });
}

/** Resolves once the endpoint listens, and has so many clients. */
export async function clients(count: number, id = 'broker'): Promise<void> {
  const { endpoint } = helper.getNode(id) as EndpointNode;
  const listener = endpoint.links as Listener;
  const has = ({ state }: Listener): boolean => state.name === 'listening' && state.count === count;
  while (!has(listener)) await once(listener, 'state');
}

/** What became of a message: its outcome, and the error that it has. */
export interface Told {
  state: string;
  condition?: string;
  description?: string;
  isFailed?: boolean;
  isUndeliverable?: boolean;
}

/** Sends a message, and resolves with its outcome. */
export async function sendTo(link: Sender, body: unknown, fields: object = {}): Promise<Told> {
  if (!link.sendable()) await first(link, 'sendable');
  link.setMaxListeners(0);
  const delivery = link.send({ body, ...fields });
  return new Promise((resolve) => {
    for (const state of ['accepted', 'rejected', 'released', 'modified'])
      link.on(state, (context: EventContext) => {
        if (context.delivery !== delivery) return;
        const {
          error,
          delivery_failed: isFailed,
          undeliverable_here: isUndeliverable,
        } = (delivery as unknown as { remote_state: Record<string, any> }).remote_state;
        resolve({
          state,
          ...(error && { condition: error.condition, description: error.description }),
          ...(state === 'modified' && { isFailed, isUndeliverable }),
        });
      });
  });
}

/** The next messages, with credit for just these. Each is accepted unless `keeps`. */
export function takeFrom(link: Receiver, count: number, keeps = false): Promise<unknown[]> {
  const bodies: unknown[] = [];
  return new Promise((resolve) => {
    const listener = ({ message, delivery }: EventContext): void => {
      if (!keeps) delivery!.accept();
      if (bodies.push(message!.body) < count) return;
      link.removeListener('message', listener);
      resolve(bodies);
    };
    link.on('message', listener);
    link.add_credit(count);
  });
}

/** Why a link was detached. */
export async function detached(link: Sender | Receiver): Promise<string | undefined> {
  link.on(link.is_sender() ? 'sender_error' : 'receiver_error', () => {});
  await once(link, link.is_sender() ? 'sender_close' : 'receiver_close');
  return (link.error as { condition?: string } | undefined)?.condition;
}
