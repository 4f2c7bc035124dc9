// Tokens: which are good, how long connections last with them, and how RabbitMQ renews them.
import type { Connection, Message } from 'rhea';
import { decode } from './bytes';

/** A token's life begins when it is first seen; a connection ends with the token that it was opened with. */
export type Tokens = Set<string> | Map<string, number>;

export class TokenBook {
  tokens: Tokens | undefined;
  /** when the tokens that were seen end */
  private readonly ends = new Map<string, number>();
  private readonly held = new WeakMap<Connection, string>();
  private readonly timers = new Map<Connection, NodeJS.Timeout>();

  constructor(private readonly onExpired: (connection: Connection) => void) {}

  isValid(token: string): boolean {
    return this.tokens?.has(token) === true && this.endOf(token) > Date.now();
  }

  /** The connection logs in with this token, or has it for a new one. */
  give(connection: Connection, token: string): void {
    this.held.set(connection, token);
  }

  /** The connection lasts as long as its token from now on, if it has one. */
  watch(connection: Connection): void {
    this.forget(connection);
    const token = this.held.get(connection);
    const end = token === undefined ? Infinity : this.endOf(token);
    if (end === Infinity) return;
    const longest = 2 ** 31 - 1; // of a timer
    const timer = setTimeout(() => this.onExpired(connection), Math.min(end - Date.now(), longest));
    this.timers.set(connection, timer);
  }

  forget(connection: Connection): void {
    clearTimeout(this.timers.get(connection));
    this.timers.delete(connection);
  }

  private endOf(token: string): number {
    const life = this.tokens instanceof Map ? (this.tokens.get(token) ?? 0) : Infinity;
    const end = this.ends.get(token) ?? Date.now() + life;
    this.ends.set(token, end);
    return end;
  }
}

/** The token in a request to renew it, if it is one: a value of binary, as RabbitMQ wants it. */
export function renewalIn(request: Buffer): string | undefined {
  const { subject, to, reply_to, body }: Partial<Message> = decode(request) ?? {};
  const isOne = subject === 'PUT' && to === '/auth/tokens' && reply_to === '$me' && Buffer.isBuffer(body);
  return isOne ? String(body) : undefined;
}
