// What the hostile peer writes: one of a list of tricks, or what is drawn from a seed.
import * as amqp from './frames';
import {
  attach,
  begin,
  CHALLENGE,
  detach,
  disposition,
  errorOf,
  flow,
  INBOUND,
  LINKS,
  mechanisms,
  OPEN,
  type Peer,
  saslOutcome,
  type Stage,
  STAGES,
  transfer,
  VALUE,
} from './hostile';

// Tricks

const many = <T>(length: number, make: (index: number) => T): T[] => Array.from({ length }, (_, index) => make(index));
/** The frame with other fields. */
const but = (plan: amqp.Plan, other: Record<number, Buffer>): amqp.Plan => ({
  ...plan,
  fields: many(
    Math.max(plan.fields.length, ...Object.keys(other).map((index) => Number(index) + 1)),
    (index) => other[index] ?? plan.fields[index] ?? amqp.nul,
  ),
});
/** A message that is never settled. */
const next = (peer: Peer): amqp.Plan => transfer(peer.link('receiver'), 'held');
/** The first message on its link, and so in its session. */
const first = (peer: Peer): amqp.Plan => transfer(peer.link('requester:reply'), 'x');
const all = (peer: Peer, isSender: boolean): amqp.Plan =>
  disposition({ ...peer.link('receiver'), isSender }, 0, 2 ** 32 - 1, amqp.composite(0x24, []));
const deep = (depth: number, count: number): Buffer =>
  Buffer.concat([...many(depth, () => amqp.list([], { size: 60_000, count })), amqp.nul]);
const PROTO = amqp.str('__proto__');
const ERROR = errorOf(amqp.map([PROTO, amqp.nul]));
const THROWS = amqp.described(amqp.sym('toString'), amqp.uint(1));
const source = (address: Buffer): Record<number, Buffer> => ({ 5: amqp.composite(0x28, [address]) });
/** rhea makes property names of keys when a map is read: of this one it cannot. */
const KEYED = amqp.map([amqp.map([amqp.str('toString'), amqp.nul]), amqp.nul]);
/** What cannot be made a text. */
const UNTEXT = amqp.map([amqp.sym('toString'), amqp.nul, amqp.sym('valueOf'), amqp.nul]);
const withInfo = (info: Buffer): Buffer => amqp.composite(0x1d, [amqp.sym('amqp:internal-error'), amqp.str('x'), info]);
const ANNOTATED = (annotations: Buffer): Buffer =>
  amqp.composite(0x27, [amqp.bool(true), amqp.bool(false), annotations]);
const FORGED = amqp.str(`\u001b[31m${'a\nb\r'.repeat(12_000)}`);
/** Where a peer may send its clients to. */
const ELSEWHERE: Record<string, Buffer> = {
  nowhere: amqp.nul,
  'a port that cannot be made a number': amqp.map([
    amqp.sym('hostname'),
    amqp.str('127.0.0.1'),
    amqp.sym('port'),
    UNTEXT,
  ]),
  'a host that is no text': amqp.map([amqp.sym('network-host'), UNTEXT, amqp.sym('scheme'), UNTEXT]),
  'a scheme __proto__': amqp.map([amqp.sym('hostname'), amqp.str('127.0.0.1'), amqp.sym('scheme'), PROTO]),
  'a port that nobody has': amqp.map([amqp.sym('hostname'), amqp.str('127.0.0.1'), amqp.sym('port'), amqp.uint(1)]),
  'a host with line breaks': amqp.map([amqp.sym('hostname'), FORGED]),
  'an address that is no text': amqp.map([amqp.sym('hostname'), amqp.str('127.0.0.1'), amqp.sym('address'), UNTEXT]),
};
const redirect = (kind: 'connection' | 'link', info: Buffer): Buffer =>
  amqp.composite(0x1d, [amqp.sym(`amqp:${kind}:redirect`), amqp.nul, info]);
/** Replaces fields of the source that the peer answers with. */
const answering = (peer: Peer, fields: Record<number, Buffer>): amqp.Plan =>
  but(attach(peer.link('receiver')), {
    5: amqp.composite(
      0x28,
      many(11, (index) => fields[index] ?? (index === 0 ? amqp.str('q') : amqp.nul)),
    ),
  });
/** A message of many frames. */
function large(peer: Peer, content: Buffer): amqp.Plan[] {
  const link = peer.link('receiver');
  const whole = Buffer.concat([VALUE, content]);
  const count = Math.ceil(whole.length / 60_000);
  return many(count, (index) =>
    transfer(link, whole.subarray(60_000 * index, 60_000 * (index + 1)), { more: index < count - 1 }),
  );
}
const filled = (code: number, size: number, element: Buffer): Buffer => {
  const content = Buffer.alloc(size, element);
  const head = Buffer.alloc(9, code);
  head.writeUInt32BE(content.length + 4, 1);
  head.writeUInt32BE(size / element.length, 5);
  return Buffer.concat([head, content]);
};
type Trick = (peer: Peer) => (amqp.Plan | Buffer)[];

const HEADER: Record<string, Trick> = {
  'header of another protocol': () => [amqp.protocolHeader(0), OPEN],
  'header of another version': () => [amqp.protocolHeader(3, 0, 9, 1)],
  'an answer in HTTP': () => [Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')],
  'half a header': () => [amqp.protocolHeader(3).subarray(0, 5)],
};
const SASL: Record<string, Trick> = {
  'mechanisms not offered': () => [mechanisms('SCRAM-SHA-1', '__proto__')],
  'mechanisms without end': () => [but(mechanisms(), { 0: amqp.array(Buffer.of(0x40), [], { count: 2 ** 32 - 1 }) })],
  'outcome before init': () => [saslOutcome(0)],
  'challenges before mechanisms': () => many(9, () => CHALLENGE),
  challenges: () => [mechanisms('ANONYMOUS'), ...many(9, () => CHALLENGE)],
};
const OPENING: Record<string, Trick> = {
  'a second outcome': () => [saslOutcome(0), OPEN],
  'array of empty elements': () => [but(OPEN, { 7: amqp.array(Buffer.of(0x40), [], { count: 2 ** 32 - 1 }) })],
  'huge count': () => [but(OPEN, { 9: amqp.list([], { count: 2 ** 25 - 1 }) })],
  'nested huge counts': () => [but(OPEN, { 9: deep(40, 2 ** 25 - 1) })],
  'nested descriptors': () => [amqp.frame(0, Buffer.alloc(60_000))],
  'max-frame-size 20': () => [but(OPEN, { 2: amqp.uint(20) })],
  'max-frame-size not whole': () => [but(OPEN, { 2: amqp.double(51.00001) })],
  'channel-max as text': () => [but(OPEN, { 3: amqp.str('x') })],
  'channel-max 0': () => [but(OPEN, { 3: amqp.ushort(0) })],
  'idle-time-out as large as can be': () => [but(OPEN, { 4: amqp.uint(2 ** 32 - 1) })],
  'idle-time-out as text': () => [but(OPEN, { 4: amqp.str('x') })],
  'properties with a map as key': () => [but(OPEN, { 9: KEYED })],
  'properties in properties with a map as key': () => [but(OPEN, { 9: amqp.map([amqp.sym('product'), KEYED]) })],
  'product and version that are no text': () => [
    but(OPEN, { 9: amqp.map([amqp.sym('product'), UNTEXT, amqp.sym('version'), UNTEXT]) }),
  ],
  'product and version with escapes and line breaks': () => [
    but(OPEN, { 9: amqp.map([amqp.sym('product'), FORGED, amqp.sym('version'), amqp.str('1\n\u001b[31m')]) }),
  ],
  'further servers that are none': () => [
    but(OPEN, {
      9: amqp.map([amqp.sym('failover-server-list'), amqp.list([UNTEXT, ...Object.values(ELSEWHERE)])]),
    }),
  ],
  ...Object.fromEntries(
    Object.entries(ELSEWHERE).map(([where, info]): [string, Trick] => [
      `a redirect to ${where}`,
      () => [OPEN, { code: amqp.CLOSE, fields: [redirect('connection', info)] }],
    ]),
  ),
  'capability that throws': () => [but(OPEN, { 7: amqp.map([amqp.str('toString'), amqp.nul]) })],
};
const ATTACHING: Record<string, Trick> = {
  'reply address 5': (peer) => [but(attach(peer.link('requester:reply')), source(amqp.uint(5)))],
  'filter with a map as key': (peer) => [answering(peer, { 7: KEYED })],
  'filter that is no text': (peer) => [answering(peer, { 7: amqp.map([amqp.sym('jms-selector'), UNTEXT]) })],
  'properties of a node with a map as key': (peer) => [answering(peer, { 5: KEYED })],
  'default outcome that is no outcome': (peer) => [answering(peer, { 8: UNTEXT })],
  'address that throws': (peer) => [but(attach(peer.link('receiver')), source(THROWS))],
};
const ATTACHED: Record<string, Trick> = {
  'no delivery-id': (peer) => [but(first(peer), { 1: amqp.nul })],
  'delivery-id as a double': (peer) => [
    ...many(2, () => but(first(peer), { 1: amqp.double(1e308) })),
    { ...but(all(peer, false), { 1: amqp.double(1e308), 2: amqp.double(Infinity) }), channel: first(peer).channel },
  ],
  'delivery-ids that wrap': (peer) => [but(first(peer), { 1: amqp.uint(2 ** 32 - 1) }), first(peer), first(peer)],
  'attach without fields': (peer) => [{ ...attach(peer.link('receiver')), fields: [] }],
  'attach named __proto__': (peer) => many(2, () => but(attach(peer.link('receiver')), { 0: PROTO })),
  ...Object.fromEntries(
    Object.entries(ELSEWHERE).map(([where, info]): [string, Trick] => [
      `a link redirected to ${where}`,
      (peer) => [detach(peer.link('receiver'), true, redirect('link', info))],
    ]),
  ),
  'attach twice': (peer) => many(2, () => attach(peer.link('receiver'))),
  'handle __proto__': (peer) => [but(next(peer), { 0: PROTO, 9: amqp.bool(true) })],
  'unknown handle': (peer) => [but(next(peer), { 0: amqp.uint(77) })],
  'no delivery-tag': (peer) => [but(next(peer), { 2: amqp.nul })],
  'tag with a length': (peer) => [but(next(peer), { 2: amqp.map([amqp.str('length'), amqp.uint(2e9)]) })],
  'aborted first frame': (peer) => [transfer(peer.link('receiver'), 'x', { aborted: true }), next(peer)],
  'all dispositions': (peer) => [all(peer, true), all(peer, false)],
  'flow of doubles': (peer) => [but(flow(peer.link('sender'), 1), { 1: amqp.double(0.5), 6: amqp.double(Infinity) })],
  'flow out of range': (peer) => [
    but(flow(peer.link('receiver'), 0), { 2: amqp.uint(2 ** 32 - 1) }),
    ...many(50, () => next(peer)),
  ],
  'drain to a list': (peer) => [but(flow(peer.link('receiver'), 0), { 5: amqp.emptyList, 8: amqp.bool(true) })],
  'error of a detach': (peer) => [detach(peer.link('receiver'), true, ERROR)],
  'error of an end': (peer) => [{ code: amqp.END, channel: peer.link('sender').channel, fields: [ERROR] }],
  ...Object.fromEntries(
    Object.entries({
      'a map as key': KEYED,
      'what is no text': UNTEXT,
      'escapes and line breaks': amqp.map([amqp.sym('x'), FORGED]),
    }).flatMap(([name, info]): [string, Trick][] => [
      [`a detach with ${name}`, (peer) => [detach(peer.link('receiver'), true, withInfo(info))]],
      [
        `an end with ${name}`,
        (peer) => [{ code: amqp.END, channel: peer.link('sender').channel, fields: [withInfo(info)] }],
      ],
      [`a close with ${name}`, () => [{ code: amqp.CLOSE, fields: [withInfo(info)] }]],
      [
        `rejected with ${name}`,
        (peer) => [disposition(peer.link('sender'), 0, 2000, amqp.composite(0x25, [withInfo(info)]))],
      ],
      [`modified with ${name}`, (peer) => [disposition(peer.link('sender'), 0, 2000, ANNOTATED(info))]],
    ]),
  ),
  'a state that is no outcome': (peer) => [
    disposition(peer.link('sender'), 0, 2000, amqp.composite(0x34, [amqp.binary(Buffer.of(1))])),
  ],
  'drain that is answered with credit': (peer) => [but(flow(peer.link('receiver'), 5), { 8: amqp.bool(true) })],
  'a message of a million nulls': (peer) => large(peer, filled(0xd0, 6_000_000, amqp.nul)),
  'a message of a million lists': (peer) => large(peer, filled(0xd0, 3_000_000, amqp.emptyList)),
  'a message of a million binaries': (peer) => large(peer, filled(0xd0, 6_000_000, amqp.binary(Buffer.alloc(0)))),
  'a message with maps as keys in maps': (peer) => {
    let key = amqp.str('x'.repeat(100_000));
    for (let level = 0; level < 100; level++) key = amqp.map([key, amqp.nul]);
    return large(peer, key);
  },
  'error of a close': () => [{ code: amqp.CLOSE, fields: [ERROR] }],
  'error of rejected': (peer) => [disposition(peer.link('sender'), 0, 2000, amqp.composite(0x25, [ERROR]))],
  'deep message': (peer) => [transfer(peer.link('receiver'), Buffer.concat([VALUE, deep(6000, 1)]))],
  'frame of 2 GiB': () => [Buffer.of(0x7f, 0xff, 0xff, 0xff), Buffer.alloc(200e6)],
  ...Object.fromEntries(
    [0, 1, 255].map((doff) => [`data offset ${doff}`, () => [Buffer.of(0, 0, 0, 8, doff, 0, 0, 0)]]),
  ),
  'unknown performative': () => [{ code: 0x19, fields: [] }],
  'empty frames': () => many(200_000, () => amqp.frame(0, Buffer.alloc(0))),
  flows: (peer) => many(50_000, () => flow(peer.link('sender'), 10)),
  'sessions of its own': () => many(65_000, (index) => begin(300 + index, amqp.nul)),
  'links of its own': (peer) =>
    many(20_000, (index) => attach({ ...peer.link('receiver'), name: `${index}`, handle: index + 9, isSender: true })),
  'a session of its own, and a link': (peer) => {
    const link = { ...peer.link('receiver'), channel: 299, name: 'other' };
    return [begin(299, amqp.nul), attach(link), transfer(link, 'x'), { ...all(peer, false), channel: 299 }];
  },
  'a message without end': (peer) =>
    many(4000, () => transfer(peer.link('receiver'), Buffer.alloc(60_000), { more: true })),
  'messages beyond credit': (peer) => many(150_000, () => next(peer)),
  'messages to a sender': (peer) => many(1000, () => transfer(peer.link('sender'), 'x')),
};

const bytesOf = (written: (amqp.Plan | Buffer)[]): Buffer =>
  Buffer.concat(written.map((one) => (Buffer.isBuffer(one) ? one : amqp.write(one))));

/** What is known to hurt: its name, the stage at which it comes, and what the peer writes then. */
export const TRICKS = (
  [
    ['header', HEADER],
    ['sasl', SASL],
    ['open', OPENING],
    ['attach', ATTACHING],
    ['attached', ATTACHED],
  ] as const
).flatMap(([stage, tricks]) =>
  Object.entries(tricks).map(([name, trick]) => ({ name, stage, write: (peer: Peer) => [bytesOf(trick(peer))] })),
);

// What is drawn

/** A source of chance that gives the same for the same seed and number. */
export class Draw {
  #state: number;

  constructor(seed: number, number: number) {
    this.#state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(number + 1, 0xc2b2ae35);
  }

  /** From `min` to `max`, both included (mulberry32). */
  int(min: number, max: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return min + Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * (max - min + 1));
  }

  chance(percent: number): boolean {
    return this.int(1, 100) <= percent;
  }

  pick<T>(choice: readonly T[]): T {
    return choice[this.int(0, choice.length - 1)]!;
  }

  times<T>(min: number, max: number, make: (index: number) => T): T[] {
    return many(this.int(min, max), make);
  }

  bytes(max: number): Buffer {
    return Buffer.from(this.times(0, max, () => this.int(0, 255)));
  }
}

const SMALL = [0, 1, 2, 5, 8, 50, 53, 127, 128, 255, 256, 511, 512, 2047, 2048, 65535, 65536];
const LARGE = [2 ** 25 - 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 2, 2 ** 32 - 1];
const integer = (d: Draw): number => d.pick(d.chance(70) ? SMALL : LARGE);
const NAMES = ['', 'q', '__proto__', 'constructor', 'toString', 'length', 'value', 'PLAIN', 'ANONYMOUS', '\0', 'ü€😀'];
const CONDITIONS = ['amqp:internal-error', 'amqp:connection:forced', 'amqp:link:stolen', 'amqp:unauthorized-access'];
const COMPOSITES = [0x10, 0x14, 0x1d, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x70, 0x77];
const lie = (d: Draw): amqp.Lie => ({ [d.pick(['size', 'count'])]: integer(d) });

const SCALARS: ((d: Draw) => Buffer)[] = [
  () => amqp.nul,
  () => amqp.emptyList,
  () => KEYED,
  () => UNTEXT,
  (d) => amqp.fixed(d.pick([4, 5, 6, 7, 8, 9]) * 16 + d.pick([0, 1, 2, 3, 4, 5, 6, 8]), d.int(0, 255)),
  (d) => amqp.ushort(integer(d)),
  (d) => amqp.uint(integer(d)),
  (d) => amqp.ulong(d.pick([0n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n])),
  (d) => amqp.double(d.pick([0, -1, 0.5, 50.5, 1e308, NaN, Infinity, -Infinity])),
  (d) => amqp.binary(d.bytes(40)),
  (d) => amqp.str(d.chance(50) ? d.pick(NAMES) : d.bytes(20)),
  (d) => amqp.sym(d.chance(50) ? d.pick([...NAMES, ...CONDITIONS]) : d.bytes(20)),
  (d) => amqp.str('x'.repeat(d.pick([255, 256, 5000]))),
];

/** A value of any type, well formed or not. */
function anything(d: Draw, depth = 0): Buffer {
  if (depth > 3 || d.chance(65)) return d.pick(SCALARS)(d);
  const one = (): Buffer => anything(d, depth + 1);
  return d.pick([
    () => amqp.list(d.times(0, 4, one)),
    () => amqp.map([amqp.str(d.pick(NAMES)), ...d.times(0, 5, one)]),
    () => amqp.map([amqp.str(d.pick(['length', 'toJSON', 'toString', 'valueOf'])), amqp.uint(d.pick([3, 2e9]))]),
    () => amqp.described(one(), one()),
    () => amqp.composite(d.pick(COMPOSITES), d.times(0, 4, one)),
    () => amqp.array(Buffer.of(d.int(0x40, 0x45)), [], lie(d)),
    () => amqp.array(one(), d.times(0, 5, one), d.chance(20) ? lie(d) : {}),
    () => deep(d.pick([2, 10, 100, 3000]), 1),
    () => amqp.list(d.times(0, 3, one), lie(d)),
    () => amqp.map(d.times(0, 3, one), lie(d)),
  ])();
}

/** Fields of which some are something else. */
const some = (d: Draw, percent: number, fields: Buffer[]): Buffer[] =>
  fields.map((field) => (d.chance(percent) ? anything(d) : field));

/** A message of sections that may be missing, in any order, unknown, or not what they are called. */
function message(d: Draw): Buffer {
  const id = d.pick([amqp.str('id'), amqp.ulong(1), amqp.nul]);
  const properties = [id, amqp.nul, amqp.str('to'), amqp.nul, amqp.str('replies'), id, amqp.sym('application/json')];
  const sections: [number, Buffer][] = [
    [0x70, amqp.list(some(d, 10, [amqp.bool(true), amqp.ubyte(4), amqp.uint(60_000)]))],
    [0x72, amqp.map(some(d, 20, [amqp.sym('x-opt-b'), amqp.str('b')]))],
    [0x73, amqp.list(some(d, 10, properties))],
    [0x74, amqp.map(some(d, 10, [amqp.str(d.pick(NAMES)), amqp.str('b')]))],
    [d.int(0x6f, 0x79), anything(d)],
    [0x75, amqp.binary(Buffer.from('{"a":1}'))],
    [0x77, anything(d)],
  ];
  const chosen = sections.filter(([code]) => d.chance(code === 0x77 ? 70 : 30));
  return Buffer.concat(chosen.map(([code, content]) => amqp.described(Buffer.of(0x53, code), content)));
}

/** A frame that would be due at a stage. */
function due(d: Draw, peer: Peer, stage: Stage): amqp.Plan {
  const link = { ...peer.link(d.pick(LINKS)) };
  if (d.chance(5)) link.handle = integer(d);
  if (d.chance(5)) link.channel = integer(d);
  if (d.chance(5)) link.isSender = !link.isSender;
  if (d.chance(5)) link.name = d.pick(NAMES);
  const error = errorOf(d.chance(70) ? amqp.sym(d.pick(CONDITIONS)) : anything(d));
  const state = d.chance(30) ? anything(d) : amqp.composite(d.int(0x23, 0x27), d.chance(50) ? [error] : []);
  const id = link.inFlight.shift() ?? integer(d);
  const plans: Record<Stage, () => amqp.Plan[]> = {
    header: () => [mechanisms(d.pick(NAMES)), saslOutcome(d.int(0, 6)), CHALLENGE],
    sasl: () => [mechanisms(d.pick(NAMES)), mechanisms('ANONYMOUS'), saslOutcome(d.int(0, 6)), CHALLENGE],
    open: () => [OPEN, but(OPEN, { [d.int(2, 4)]: amqp.uint(integer(d)) }), { code: amqp.CLOSE, fields: [error] }],
    begin: () => [begin(link.channel), begin(integer(d), d.chance(50) ? amqp.nul : undefined)],
    attach: () => [attach(link), attach(link), flow(link, integer(d)), detach(link, d.chance(50), error)],
    attached: () => [
      flow(link, d.chance(50) ? d.int(0, 100) : integer(d)),
      transfer(d.chance(20) ? { ...link, nextId: integer(d) } : link, message(d), { aborted: d.chance(10) }),
      transfer(peer.link(d.pick(INBOUND)), message(d), { more: d.chance(20), aborted: d.chance(10) }),
      disposition(link, id, d.chance(50) ? id : integer(d), state),
      { code: amqp.END, channel: link.channel, fields: [error] },
    ],
    delivering: () => [transfer(peer.link('receiver'), message(d), { more: d.chance(50), aborted: d.chance(20) })],
  };
  return d.pick(plans[stage]());
}

/** The bytes of a frame in which something may be wrong. */
function twisted(d: Draw, { code, channel = 0, fields: right, payload }: amqp.Plan): Buffer {
  const fields = d.chance(30) ? some(d, 15, right) : right;
  if (d.chance(88)) return amqp.write({ code, channel, fields, payload });
  const value = d.pick([amqp.list(fields, lie(d)), amqp.map(fields), amqp.list(fields.slice(0, -2)), anything(d)]);
  const descriptor = d.chance(70) ? Buffer.of(0x53, code) : anything(d);
  const type = d.chance(90) ? amqp.typeOf(code) : d.pick([0, 1, 2, 255]);
  const bytes = amqp.frame(channel, Buffer.concat([amqp.described(descriptor, value), d.bytes(4)]), type);
  if (d.chance(20)) bytes[4] = d.pick([0, 1, 3, 4, 255]);
  if (d.chance(20)) bytes.writeUInt32BE(d.chance(50) ? integer(d) : bytes.length + d.int(-2, 2), 0);
  for (let i = d.chance(30) ? d.int(1, 4) : 0; i > 0; i--) bytes[d.int(4, bytes.length - 1)] = d.int(0, 255);
  return bytes;
}

/** What the peer writes in one case, in the chunks in which it does. */
export function drawn(d: Draw, peer: Peer): Buffer[] {
  const frames = d.times(1, 5, () => twisted(d, due(d, peer, d.chance(85) ? peer.stage : d.pick(STAGES))));
  const header = d.chance(50) ? amqp.protocolHeader(3) : amqp.protocolHeader(d.int(0, 4), d.int(0, 2), d.int(0, 9));
  if (peer.stage === 'header' || d.chance(1)) frames.unshift(d.chance(90) ? header : d.bytes(16));
  if (d.chance(2)) frames.push(...many(d.int(50, 500), () => frames.at(-1)!));
  const bytes = Buffer.concat(frames);
  if (d.chance(80)) return [bytes];
  const cuts = d.times(1, 20, () => d.int(0, bytes.length)).toSorted((a, b) => a - b);
  return [0, ...cuts].map((start, index) => bytes.subarray(start, cuts[index]));
}
