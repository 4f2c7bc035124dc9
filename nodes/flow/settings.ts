import type { Node, NodeAPI } from 'node-red';
import { type AmqpError, amqpError, messageOf } from '../lib/errors';
import { isPlainObject } from '../lib/codec/notation';
import { areLinkProperties, type LinkProperties } from '../lib/wire/properties';
import { STATUS } from './status';

/** A number that a node is configured with. `value` is what blank stands for; undefined: nothing is asked for then. */
interface NumberSetting<V = number | undefined> {
  min: number;
  max: number;
  value: V;
  isWhole: boolean;
}

function whole<V extends number | undefined>(min: number, max: number, value: V): NumberSetting<V> {
  return { min, max, value, isWhole: true };
}

function seconds<V extends number | undefined>(min: number, max: number, value: V): NumberSetting<V> {
  return { min, max, value, isWhole: false };
}

/** 23 days: timers of Node.js run for no more than 2^31 ms, and at once beyond that. */
const LONGEST = 2_000_000;
const buffer = whole<number>(1, 10_000_000, 10_000);
/** Megabytes. */
const bytes = whole<number>(1, 65_536, 64);
const timeout = (value: number): NumberSetting<number> => seconds(0, LONGEST, value);
const header = {
  priority: whole(0, 255, undefined),
  /** A uint of milliseconds in the header (3.2.1). */
  ttl: seconds(0.001, 4_000_000, undefined),
};
/** Of a source or target (3.5.3). */
const terminus = {
  /** Seconds. */
  expirytime: whole(0, 999_999_999, undefined),
};
const reconnect = {
  /** settings.js has a say here. */
  firstpause: seconds(0.01, 3600, undefined),
  longestpause: seconds(0.01, 86_400, undefined),
  giveup: seconds(0, LONGEST, undefined),
};

/** The bounds of all numbers, and what they are when nothing is entered. The forms have the same, which a test compares. */
export const NUMBERS = {
  'amqp-endpoint': {
    port: whole<number>(1, 65_535, 5672),
    connecttimeout: seconds<number>(1, 3600, 10),
    idletimeout: seconds<number>(0, 86_400, 30),
    maxclients: whole<number>(1, 65_535, 1000),
    maxlinks: whole<number>(1, 65_535, 100),
    /** Megabytes. */
    maxmemory: whole<number>(1, 65_536, 256),
    ...reconnect,
  },
  'amqp-sender': {
    expirytime: terminus.expirytime,
    buffer,
    bufferbytes: bytes,
    timeout: timeout(0),
    retrytime: timeout(60),
    batchtime: seconds<number>(0.001, 60, 0.1),
    ...header,
  },
  'amqp-receiver': {
    creditwindow: whole<number>(0, 65_535, 100),
    windowbytes: bytes,
    settletimeout: timeout(300),
    sessions: whole<number>(1, 100, 8),
    sessionidle: seconds<number>(0.1, 86_400, 10),
    epoch: whole(0, 999_999_999, undefined),
    expirytime: terminus.expirytime,
    consumerpriority: whole(-1_000_000, 1_000_000, undefined),
    /** Kilobytes. */
    maxmessagesize: whole(1, 65_536, undefined),
    together: whole<number>(1, 10_000, 1),
    togethertime: seconds<number>(0.001, 3600, 1),
    maxattempts: whole(1, 1_000_000, undefined),
  },
  'amqp-requester': {
    timeout: timeout(30),
    replycount: whole(1, 1_000_000, undefined),
    buffer,
    ...header,
  },
  'amqp-responder': {
    creditwindow: whole<number>(1, 65_535, 100),
    windowbytes: bytes,
    settletimeout: timeout(300),
    ...header,
  },
};

type Type = keyof typeof NUMBERS;
type OptionalName =
  | keyof typeof header
  | keyof typeof reconnect
  | keyof typeof terminus
  | 'epoch'
  | 'consumerpriority'
  | 'maxmessagesize'
  | 'maxattempts'
  | 'replycount';
/** The numbers that are always there. */
type NumberName = Exclude<{ [T in Type]: keyof (typeof NUMBERS)[T] }[Type], OptionalName>;

/** Labels that the forms of several nodes share stand in the catalogue of the endpoint. */
const SHARED = [
  'address',
  'kind',
  'format',
  'body',
  'output',
  'durablemessages',
  'priority',
  'ttl',
  'windowbytes',
  'linkproperties',
  'linkname',
  'capabilities',
  'durability',
  'expiry',
  'expirytime',
];
/** Labels that are Node-RED's own. */
const CORE: Record<string, string> = {
  host: 'node-red:mqtt.label.broker',
  port: 'node-red:mqtt.label.port',
  autoconnect: 'node-red:mqtt.label.auto-connect',
  usetls: 'node-red:mqtt.label.use-tls',
  tls: 'node-red:mqtt.label.tls-config',
  rejectUnauthorized: 'node-red:mqtt.label.verify-server-cert',
  user: 'node-red:common.label.username',
  pass: 'node-red:common.label.password',
};

/**
 * Reads what a node is configured with: the form, an import, or environment variables may have put anything there. What
 * is wrong is collected in `fault`, which names the field and never its value, since that may be a secret pasted into
 * the wrong field.
 */
export class Settings {
  readonly #RED: NodeAPI;
  readonly #node: Node;
  readonly #config: Record<string, unknown>;
  readonly #type: Type;
  /** The first thing that is wrong. */
  fault: AmqpError | undefined;

  constructor(RED: NodeAPI, node: Node, config: object, type: Type) {
    this.#RED = RED;
    this.#node = node;
    this.#config = config as Record<string, unknown>;
    this.#type = type;
  }

  /** Notes that a field cannot be used; `why` goes on from its name. */
  refuse(name: string, why: string, label = this.labelOf(name)): void {
    this.fault ??= amqpError('AMQP_CONFIG.setting', { label, name, why }, { field: label });
  }

  number(name: NumberName): number {
    return this.#number(name) ?? NaN;
  }

  /** Blank is undefined. */
  optionalNumber(name: OptionalName): number | undefined {
    return this.#number(name);
  }

  #number(name: string): number | undefined {
    const { min, max, value, isWhole } = (NUMBERS[this.#type] as Record<string, NumberSetting>)[name]!;
    const given = this.#resolved(name);
    if (given === undefined) return value;
    const number = typeof given === 'string' ? Number(given) : given;
    if (typeof number !== 'number') this.refuse(name, 'is not a number');
    else if (number >= min && number <= max && (!isWhole || Number.isInteger(number))) return number;
    this.refuse(name, `is not a ${isWhole ? 'whole number' : 'number'} from ${min} to ${max}`);
    return value;
  }

  /** A number of seconds, in milliseconds. */
  milliseconds(name: NumberName): number {
    return Math.round(1000 * this.number(name));
  }

  /** The same; blank is undefined. */
  optionalMilliseconds(name: 'firstpause' | 'longestpause' | 'giveup'): number | undefined {
    const number = this.#number(name);
    return number === undefined ? undefined : Math.round(1000 * number);
  }

  /** A number of megabytes, in bytes. */
  megabytes(name: NumberName): number {
    return 2 ** 20 * this.number(name);
  }

  /** One of several words; blank and missing are the first. */
  choice<C extends string>(name: string, choices: readonly [C, ...C[]]): C {
    const given = this.#resolved(name);
    if (given === undefined) return choices[0];
    const choice = choices.find((one) => one === given);
    if (choice === undefined) this.refuse(name, `is not one of ${choices.filter(Boolean).join(', ')}`);
    return choice ?? choices[0];
  }

  flag(name: string, value: boolean): boolean {
    const given = this.#resolved(name);
    if (given === undefined) return value;
    if (given === true || given === 'true') return true;
    if (given === false || given === 'false') return false;
    this.refuse(name, 'is neither true nor false');
    return value;
  }

  /** Text with the environment variables in it resolved; blank is undefined. */
  text(name: string): string | undefined {
    const given = this.#resolved(name);
    if (given === undefined || typeof given === 'string') return given;
    if (typeof given === 'number') return String(given);
    this.refuse(name, 'is not text');
    return undefined;
  }

  /**
   * Text that a typed input gives, evaluated once, when the node starts. Blank text is undefined; any other type has to
   * give text. JSONata is not offered: its result would come after the node has started.
   */
  typedText(name: string): string | undefined {
    const type = this.choice(`${name}Type`, ['str', 'env', 'flow', 'global']);
    if (type === 'str') return this.text(name);
    const expression = (this.#config[name] ?? '') as string;
    try {
      const value: unknown = this.#RED.util.evaluateNodeProperty(expression, type, this.#node, {});
      if (typeof value === 'string' && value.trim() !== '') return value;
      const isNothing = value === undefined || value === null || typeof value === 'string';
      this.refuse(name, isNothing ? 'gives nothing' : 'does not give text');
    } catch (error) {
      this.refuse(name, `cannot be evaluated: ${messageOf(error)}`);
    }
    return undefined;
  }

  /** Words that commas or blanks separate. */
  list(name: string): string[] {
    return (this.text(name) ?? '').split(/[\s,]+/).filter(Boolean);
  }

  /** What a table of the form has, each row read by `read`, which throws an Error that says what is wrong with it. */
  rows<T>(name: string, read: (row: unknown) => T): T[] {
    const given = this.#resolved(name) ?? [];
    const rows: unknown[] = Array.isArray(given) ? given : [];
    if (rows !== given) this.refuse(name, 'is not a list');
    return rows.flatMap((row, index) => {
      try {
        return [read(this.#rowWithVariables(name, row))];
      } catch (error) {
        this.refuse(name, `number ${index + 1} ${(error as Error).message}`);
        return [];
      }
    });
  }

  #rowWithVariables(name: string, row: unknown): unknown {
    if (!isPlainObject(row)) return row;
    const cells = Object.entries(row).map(([key, value]) => [
      key,
      typeof value === 'string' ? (this.#withVariables(name, value) ?? '') : value,
    ]);
    return Object.fromEntries(cells);
  }

  /** Properties of links, as a JSON object; blank is undefined. */
  linkProperties(): LinkProperties | undefined {
    const text = this.text('linkproperties');
    if (text === undefined) return undefined;
    let properties: unknown;
    try {
      properties = JSON.parse(text);
    } catch {
      // Said below.
    }
    if (areLinkProperties(properties)) return properties;
    this.refuse('linkproperties', 'is not a JSON object of simple values, such as {"name": "text"}');
    return undefined;
  }

  /** Text of the credentials with the environment variables in it resolved; blank is undefined. */
  textOfCredentials(name: string): string | undefined {
    const given = this.#credential(name);
    return given === undefined ? undefined : this.#withVariables(name, given);
  }

  /**
   * A secret of the credentials; blank is undefined. Node-RED itself puts in a variable, where there is nothing but
   * `${NAME}`: what still stands so would be sent as a password. Within a text it may be a part of the password.
   */
  credential(name: string): string | undefined {
    const text = this.#credential(name);
    const [, variable] = /^\$\{(\w+)\}$/.exec(text ?? '') ?? [];
    if (variable !== undefined) this.refuse(name, `the environment variable ${variable} is not set`);
    return text;
  }

  /**
   * True when all that was read can be used. Else the node is in error from now on: it says so in its status, in the log,
   * and to each msg.
   */
  check(): boolean {
    const { fault } = this;
    if (!fault) return true;
    this.#node.status({ fill: 'red', shape: 'ring', text: this.#RED._(`${STATUS}fault`, { reason: fault.field! }) });
    this.#node.error(fault.message);
    this.#node.on('input', (_msg, _send, done) => done(fault));
    return false;
  }

  /** The value, with nothing entered as undefined. */
  #resolved(name: string): unknown {
    const given = this.#config[name];
    if (given === null) return undefined;
    if (typeof given !== 'string') return given;
    return this.#withVariables(name, given);
  }

  /** Blank is undefined. */
  #withVariables(name: string, given: string): string | undefined {
    // Node-RED itself replaces only what is nothing but `${NAME}`, and only if there is such a variable.
    const text = given.replace(/\$\{(\w+)\}/g, (_match, variable: string) => {
      const value = this.#RED.util.getSetting(this.#node, variable) as string | number | boolean | undefined;
      if (value === undefined) this.refuse(name, `the environment variable ${variable} is not set`);
      return String(value ?? '');
    });
    return text.trim() === '' ? undefined : text;
  }

  #credential(name: string): string | undefined {
    const { credentials } = this.#node as { credentials?: Record<string, string | number> };
    return String(credentials?.[name] ?? '') || undefined;
  }

  /** What the form calls a field. */
  labelOf(property: string): string {
    // A typed input is one field of the form.
    const name = property.replace(/Type$/, '');
    if (CORE[name]) return this.#RED._(CORE[name]);
    const set = SHARED.includes(name) ? 'amqp-endpoint' : this.#type;
    return this.#RED._(`@amqp10/node-red-amqp10/${set}:${set}.label.${name}`);
  }
}
