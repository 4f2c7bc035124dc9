import type { Node } from 'node-red';

/**
 * Whether the msg brings back an error of this very node: a Catch node for all nodes is wired to its input. To fail once
 * more over it would send the msg round and round.
 */
export function isOwnError(node: Node, msg: object): boolean {
  const { error } = msg as { error?: { source?: { id?: unknown } } };
  return error?.source?.id === node.id;
}
