/** The numbers by which AMQP 1.0 names types, performatives, states and sections on the wire. */

/**
 * Codes of encodings (1.6). A type has the name of its widest one; with `8`, size or value take one byte, with `0` none.
 */
export const CODE = {
  described: 0x00,
  null: 0x40,
  true: 0x41,
  false: 0x42,
  uint0: 0x43,
  ulong0: 0x44,
  list0: 0x45,
  ubyte: 0x50,
  byte: 0x51,
  uint8: 0x52,
  ulong8: 0x53,
  int8: 0x54,
  long8: 0x55,
  boolean: 0x56,
  ushort: 0x60,
  short: 0x61,
  uint: 0x70,
  int: 0x71,
  float: 0x72,
  char: 0x73,
  decimal32: 0x74,
  ulong: 0x80,
  long: 0x81,
  double: 0x82,
  timestamp: 0x83,
  decimal64: 0x84,
  decimal128: 0x94,
  uuid: 0x98,
  binary8: 0xa0,
  string8: 0xa1,
  symbol8: 0xa3,
  binary: 0xb0,
  string: 0xb1,
  symbol: 0xb3,
  list8: 0xc0,
  map8: 0xc1,
  list: 0xd0,
  map: 0xd1,
  array8: 0xe0,
  array: 0xf0,
} as const;

/** The types of the encodings that do not have the name of one. */
const COMPACT = {
  true: 'boolean',
  false: 'boolean',
  uint0: 'uint',
  uint8: 'uint',
  ulong0: 'ulong',
  ulong8: 'ulong',
  int8: 'int',
  long8: 'long',
  binary8: 'binary',
  string8: 'string',
  symbol8: 'symbol',
  list0: 'list',
  list8: 'list',
  map8: 'map',
  array8: 'array',
} as const;

export type TypeName = Exclude<keyof typeof CODE, keyof typeof COMPACT>;

export function isTypeName(name: unknown): name is TypeName {
  return typeof name === 'string' && Object.hasOwn(CODE, name) && !Object.hasOwn(COMPACT, name);
}

/** Types by code; undefined for what is no code, and for that of described values, whose type follows. */
export const TYPES: readonly (TypeName | undefined)[] = typesByCode();

function typesByCode(): (TypeName | undefined)[] {
  const types = Array.from<TypeName | undefined>({ length: 0x100 });
  for (const [name, code] of Object.entries(CODE)) types[code] = { ...COMPACT }[name] ?? (name as TypeName);
  types[CODE.described] = undefined;
  return types;
}

/** Descriptors of frames (2.7, 5.3.3), of an error (2.8.14), and of states, termini and sections (3.4, 3.5, 3.2). */
export const DESCRIPTOR = {
  open: 0x10,
  begin: 0x11,
  attach: 0x12,
  flow: 0x13,
  transfer: 0x14,
  disposition: 0x15,
  detach: 0x16,
  end: 0x17,
  close: 0x18,
  error: 0x1d,
  received: 0x23,
  accepted: 0x24,
  rejected: 0x25,
  released: 0x26,
  modified: 0x27,
  source: 0x28,
  target: 0x29,
  coordinator: 0x30,
  declare: 0x31,
  discharge: 0x32,
  declared: 0x33,
  transactional: 0x34,
  saslMechanisms: 0x40,
  saslInit: 0x41,
  saslChallenge: 0x42,
  saslResponse: 0x43,
  saslOutcome: 0x44,
  header: 0x70,
  deliveryAnnotations: 0x71,
  messageAnnotations: 0x72,
  properties: 0x73,
  applicationProperties: 0x74,
  data: 0x75,
  sequence: 0x76,
  value: 0x77,
  footer: 0x78,
} as const;

/** The same by symbol, as peers may name them too (1.3.1). Frames are always named by number. */
export const DESCRIPTOR_OF: Readonly<Record<string, number | undefined>> = Object.assign(Object.create(null), {
  'amqp:error:list': DESCRIPTOR.error,
  'amqp:received:list': DESCRIPTOR.received,
  'amqp:accepted:list': DESCRIPTOR.accepted,
  'amqp:rejected:list': DESCRIPTOR.rejected,
  'amqp:released:list': DESCRIPTOR.released,
  'amqp:modified:list': DESCRIPTOR.modified,
  'amqp:declared:list': DESCRIPTOR.declared,
  'amqp:transactional-state:list': DESCRIPTOR.transactional,
  'amqp:source:list': DESCRIPTOR.source,
  'amqp:target:list': DESCRIPTOR.target,
  'amqp:header:list': DESCRIPTOR.header,
  'amqp:delivery-annotations:map': DESCRIPTOR.deliveryAnnotations,
  'amqp:message-annotations:map': DESCRIPTOR.messageAnnotations,
  'amqp:properties:list': DESCRIPTOR.properties,
  'amqp:application-properties:map': DESCRIPTOR.applicationProperties,
  'amqp:data:binary': DESCRIPTOR.data,
  'amqp:amqp-sequence:list': DESCRIPTOR.sequence,
  'amqp:amqp-value:*': DESCRIPTOR.value,
  'amqp:footer:map': DESCRIPTOR.footer,
});
