// How Service Bus speaks on links: outcomes, sessions asked for and granted.
import rhea from 'rhea';
import { echo, type Fields, type Link, terminus } from '../../../broker/rhea';
import type { Outcome } from './entity';

const SESSION_FILTER = 'com.microsoft:session-filter';
const SESSION_FILTER_CODE = 0x137000000c;

/** What the client means by its outcome. */
export function outcomeOf(state: string, remote: Fields): Outcome {
  if (state === 'accepted') return { name: 'complete' };
  // not a delivery that failed: so clients give back what they have not looked at
  if (state === 'released') return { name: 'release' };
  if (state === 'modified') {
    return { name: remote.undeliverable_here ? 'defer' : 'abandon', changes: remote.message_annotations };
  }
  const { DeadLetterReason: reason, DeadLetterErrorDescription: description, ...changes } = remote.error?.info ?? {};
  return { name: 'dead-letter', reason, description, changes };
}

/** The session that a receiver asks for, null = any; undefined = none. */
export function sessionAskedFor(link: Link): string | null | undefined {
  const filter: Fields = link.remote.attach.source?.filter ?? {};
  if (!(SESSION_FILTER in filter)) return undefined;
  const asked = filter[SESSION_FILTER];
  // clients write it plain, or described
  return asked?.value === undefined ? (asked ?? null) : asked.value;
}

/** Tells the client the session that it has, in the form in which it asked. */
export function grantSession(link: Link, { id, lockedUntil }: { id: string; lockedUntil: number }): void {
  const source = terminus(link.remote.attach.source)!;
  const isDescribed: boolean = source['filter'][SESSION_FILTER]?.descriptor !== undefined;
  const filter = isDescribed ? rhea.types.wrap_described(id, SESSION_FILTER_CODE) : id;
  link.local.attach.source = echo(source, { filter: { [SESSION_FILTER]: filter } });
  link.local.attach.properties = { 'com.microsoft:locked-until-utc': rhea.types.wrap_long(ticksOf(lockedUntil)) };
}

/** .NET's count of 100 nanoseconds since the year 1. */
function ticksOf(time: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(BigInt(time) * 10_000n + 621_355_968_000_000_000n);
  return bytes;
}
