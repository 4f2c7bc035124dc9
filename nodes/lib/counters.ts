/**
 * What has become of messages since a node was started, and how many are where now. Plain data: whole numbers.
 *
 * Of what is sent: `sent` transfers, repeated ones too; by the outcomes of the peer, `accepted`, `rejected`, `released` and
 * `modified`; `retried`, because the peer gave it back or the connection was lost; `failed`, told to the flow as an error. Of
 * what is received: `received` messages, and deliveries by the outcome that they were given.
 */
export const TOTALS = [
  'sent',
  'received',
  'accepted',
  'rejected',
  'released',
  'modified',
  'retried',
  'failed',
  'unmatched',
] as const;

/**
 * `buffered`: taken from the flow, without an outcome. `inflight`: of these, on their way. `held`: given to the flow, and
 * not settled. `pending`: requests without their reply. `credit`: messages that may be sent now.
 */
export const GAUGES = ['buffered', 'inflight', 'held', 'pending', 'credit'] as const;

export type Counters = Partial<Record<(typeof TOTALS)[number] | (typeof GAUGES)[number], number>>;

export function sumOf(all: Iterable<Counters>): Counters {
  const sum: Counters = {};
  for (const one of all)
    for (const [name, count] of Object.entries(one) as [keyof Counters, number][]) sum[name] = (sum[name] ?? 0) + count;
  return sum;
}

/** Without what is only the case now. */
export function totalsOf(counters: Counters): Counters {
  return Object.fromEntries(TOTALS.flatMap((name) => (name in counters ? [[name, counters[name]]] : [])));
}
