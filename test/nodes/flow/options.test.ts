import type { Node, NodeAPI } from 'node-red';
import should from 'should';
import * as made from '../../../nodes/flow/options';
import { Settings } from '../../../nodes/flow/settings';
import { savedNode } from '../../brokers/saved';

type Type = 'amqp-sender' | 'amqp-receiver' | 'amqp-requester' | 'amqp-responder';

/** What Node-RED itself knows of a node in the flow file. */
const BARE = { z: '', name: '', endpoint: 'broker' };
const MEGABYTE = 2 ** 20;
/** Of the message fields, and of the body, where neither is asked to keep its types. */
const STYLES = { fields: 'exact', body: 'plain' };

const environment: Record<string, string> = { SEVEN: '7', PLANT: 'plant-7', SURE: 'at-least-once', YES: 'true' };
const evaluated: Record<string, (value: string) => unknown> = {
  env: (name) => environment[name] ?? '',
  flow: (name) => ({ queue: 'of.flow', number: 5 })[name],
  global: () => {
    throw new Error('no such store');
  },
};
const RED = {
  _: (key: string) => key,
  util: {
    getSetting: (_node: Node, name: string) => environment[name],
    evaluateNodeProperty: (value: string, type: string) => evaluated[type]!(value),
  },
} as unknown as NodeAPI;

/** All that a node of this type makes of its properties. */
function optionsOf(type: Type, properties: object) {
  const config = { ...BARE, id: 'n', type, ...properties };
  const settings = new Settings(RED, {} as Node, config, type);
  const mapping = made.mappingOf(settings);
  const address = settings.text('address');
  const options = {
    'amqp-sender': () => ({
      ...made.senderOptions(settings, config, address),
      header: made.headerOf(settings, { isDurable: !made.isLegacy(config) }),
      outcomes: made.outcomesOf(settings, config),
      durability: made.durabilityOf(settings),
    }),
    'amqp-receiver': () => ({
      ...made.receiverOptions(settings, config, mapping),
      onerror: made.onErrorOf(settings, config),
    }),
    'amqp-requester': () => made.requesterOptions(settings, config, address, mapping),
    'amqp-responder': () => made.responderOptions(settings, config, mapping),
  }[type]();
  return { options: { ...options, mapping } as Record<string, unknown>, fault: settings.fault };
}

/** The options of properties of which none is wrong. */
function read(type: Type, properties: object): Record<string, unknown> {
  const { options, fault } = optionsOf(type, properties);
  should(fault).equal(undefined);
  return options;
}

const SOURCE = { kind: undefined, selector: undefined, browse: false, shared: false, trust: false };
const NEW = { name: 'n', address: 'q', mapping: { format: 'body', body: 'auto', output: 'auto' } };
const BUFFER = { buffer: 10_000, bufferBytes: 64 * MEGABYTE };
const WINDOW = { creditWindow: 100, windowBytes: 64 * MEGABYTE, styles: STYLES };
const KEPT = {
  properties: undefined,
  guarantee: 'at-least-once',
  full: 'refuse',
  retryTime: 60_000,
  timeout: 0,
  durability: undefined,
};
const TAKEN = {
  properties: undefined,
  settle: 'arrival',
  isAnswered: false,
  onerror: 'modify',
  settleTimeout: 300_000,
};
const HEADER = { durable: true, priority: undefined, ttl: undefined };
const ASKED = {
  properties: undefined,
  kind: undefined,
  replyTo: {},
  timeout: 30_000,
  reconnect: 'resend',
  styles: STYLES,
};
const ANSWERED = { kind: undefined, settle: 'reply', timeout: 300_000, retryTime: 1000 };
const DEFAULTS: Record<Type, object> = {
  'amqp-sender': { ...NEW, ...BUFFER, ...KEPT, dynamic: false, target: {}, outcomes: 'accepted', header: HEADER },
  'amqp-receiver': { ...NEW, ...WINDOW, ...TAKEN, dynamic: false, source: SOURCE },
  'amqp-requester': { ...NEW, ...BUFFER, ...ASKED },
  'amqp-responder': { ...NEW, ...WINDOW, ...ANSWERED },
};
const TYPES = Object.keys(DEFAULTS) as Type[];

const fresh = (properties: object) => ({ format: 'body', address: 'q', ...properties });

/** A new node with all of its fields blank but those that must not be. */
function blanked(type: Type, blank: unknown): object {
  const fields = Object.keys(savedNode(type)).filter((name) => !['id', 'type', 'format', 'address'].includes(name));
  return fresh(Object.fromEntries(fields.map((name) => [name, blank])));
}

describe('options', () => {
  for (const type of TYPES) {
    describe(`of ${type}`, () => {
      it('have safe defaults, which a new node of the editor has too', () => {
        const saved = savedNode(type, { id: 'n', address: 'q' });
        should(read(type, saved)).eql(DEFAULTS[type]);
      });

      for (const blank of ['', '  ', null, undefined]) {
        it(`are the defaults where each field is ${JSON.stringify(blank)}`, () => {
          should(read(type, blanked(type, blank))).eql(DEFAULTS[type]);
        });
      }
    });
  }

  describe('of a node of node-red-contrib-rhea', () => {
    const mapping = { format: 'message', body: 'auto', output: 'auto' };

    it('take the whole message for the payload, give each outcome, and make nothing durable', () => {
      const header = { ...HEADER, durable: false };
      const expected = { ...DEFAULTS['amqp-sender'], header, outcomes: 'all', mapping };
      should(read('amqp-sender', { address: 'q' })).eql(expected);
    });

    it('release what the flow fails', () => {
      const styles = { fields: 'plain', body: 'plain' };
      const expected = { ...DEFAULTS['amqp-receiver'], onerror: 'release', styles, mapping };
      should(read('amqp-receiver', { address: 'q' })).eql(expected);
    });

    for (const [type, properties, expected] of [
      ['amqp-sender', { sndsettlemode: 1 }, { guarantee: 'pre-settled' }],
      ['amqp-sender', { sndsettlemode: '1' }, { guarantee: 'pre-settled' }],
      ['amqp-sender', { sndsettlemode: '0' }, { guarantee: 'at-least-once' }],
      ['amqp-sender', { sndsettlemode: 2 }, { guarantee: 'at-least-once' }],
      ['amqp-sender', { sndsettlemode: '' }, { guarantee: 'at-least-once' }],
      ['amqp-sender', { sndsettlemode: 1, guarantee: 'at-least-once' }, { guarantee: 'at-least-once' }],
      ['amqp-sender', { outcomes: 'accepted' }, { outcomes: 'accepted' }],
      ['amqp-sender', { durable: '2', expirypolicy: 'never' }, { target: { durable: 2, expiry_policy: 'never' } }],
      ['amqp-sender', { durable: '0', expirypolicy: '' }, { target: {} }],
      ['amqp-sender', { durable: 'no' }, { target: {} }],
      ['amqp-receiver', { autoaccept: true }, { settle: 'arrival' }],
      ['amqp-receiver', { autoaccept: false }, { settle: 'flow' }],
      ['amqp-receiver', { sndsettlemode: '1', autoaccept: false }, { settle: 'pre-settled' }],
      ['amqp-receiver', { autoaccept: false, settle: 'arrival' }, { settle: 'arrival' }],
      ['amqp-receiver', { sndsettlemode: 1, settle: 'flow' }, { settle: 'flow' }],
      ['amqp-receiver', { onerror: 'modify' }, { onerror: 'modify' }],
    ] as const) {
      it(`of ${type} are ${JSON.stringify(expected)} for ${JSON.stringify(properties)}`, () => {
        for (const [name, value] of Object.entries(expected))
          should(read(type, { address: 'q', ...properties })[name]).eql(value);
      });
    }

    it('keep the durability of a receiver until its subscription is edited', () => {
      const legacy = { address: 'q', durable: '1', expirypolicy: 'session-end' };
      should(read('amqp-receiver', legacy)['source']).match({ durable: 1, expiry_policy: 'session-end' });
      const edited = read('amqp-receiver', { ...legacy, subscription: '' });
      should(edited['source']).not.have.any.keys('durable', 'expiry_policy');
    });
  });

  describe('of a subscription', () => {
    const FOREVER = { durable: 2, expiry_policy: 'never' };
    for (const [what, properties, name, source] of [
      ['durable', { subscription: 'durable' }, 'n', { ...FOREVER, shared: false }],
      ['durable and named', { subscription: 'durable', subscriptionname: 's' }, 's', { ...FOREVER, shared: false }],
      ['shared', { subscription: 'shared', subscriptionname: 's' }, 's|n', { shared: true }],
      ['shared without a name', { subscription: 'shared' }, 'n|n', { shared: true }],
      ['both', { subscription: 'shared-durable', subscriptionname: 's' }, 's|n', { ...FOREVER, shared: true }],
      ['none, with a name left', { subscription: '', subscriptionname: 's' }, 'n', { shared: false }],
      ['dynamic', { subscription: 'shared-durable', subscriptionname: 's', dynamic: true }, 'n', { shared: false }],
      ['of the environment', { subscription: 'durable', subscriptionname: '${PLANT}' }, 'plant-7', FOREVER],
    ] as const) {
      it(`that is ${what} name its link ${name}`, () => {
        const options = read('amqp-receiver', fresh(properties));
        should(options['name']).equal(name);
        should(options['source']).match(source);
        if (!('durable' in source)) should(options['source']).not.have.any.keys('durable', 'expiry_policy');
      });
    }

    it('never only browse: what is kept for the subscriber is there to be taken', () => {
      const browsing = fresh({ browse: true });
      should(read('amqp-receiver', browsing)['source']).match({ browse: true });
      should(read('amqp-receiver', { ...browsing, subscription: 'durable' })['source']).match({ browse: false });
    });
  });

  for (const [type, properties, expected] of [
    ['amqp-sender', { buffer: '5', timeout: '0.25' }, { buffer: 5, timeout: 250 }],
    ['amqp-sender', { buffer: '${SEVEN}', bufferbytes: '${SEVEN}' }, { buffer: 7, bufferBytes: 7 * MEGABYTE }],
    ['amqp-sender', { guarantee: '${SURE}', kind: 'queue' }, { target: { capabilities: ['queue'] } }],
    ['amqp-sender', { ttl: '0.0014', priority: '0' }, { header: { durable: true, priority: 0, ttl: 1 } }],
    ['amqp-sender', { durablemessages: 'false' }, { header: { ...HEADER, durable: false } }],
    ['amqp-sender', { store: 'sync' }, { durability: 'sync' }],
    ['amqp-receiver', { address: 'from.${PLANT}.${SEVEN}' }, { address: 'from.plant-7.7' }],
    ['amqp-receiver', { address: 5 }, { address: '5' }],
    ['amqp-receiver', { address: 'PLANT', addressType: 'env' }, { address: 'plant-7' }],
    ['amqp-receiver', { address: 'queue', addressType: 'flow' }, { address: 'of.flow' }],
    ['amqp-responder', { address: 'PLANT', addressType: 'env' }, { address: 'plant-7' }],
    [
      'amqp-requester',
      { replyto: 'fixed', replyaddress: 'queue', replyaddressType: 'flow' },
      { replyTo: { address: 'of.flow' } },
    ],
    ['amqp-requester', { replyaddress: 'unset', replyaddressType: 'env' }, { replyTo: {} }],
    ['amqp-receiver', { settle: 'flow', answered: 'true' }, { settle: 'flow', isAnswered: true }],
    ['amqp-receiver', { settle: 'arrival', answered: true }, { isAnswered: false }],
    ['amqp-receiver', { creditwindow: '0', settletimeout: '1.5' }, { creditWindow: 0, settleTimeout: 1500 }],
    ['amqp-receiver', { dynamic: '${YES}' }, { dynamic: true }],
    ['amqp-receiver', { output: 'typed' }, { styles: { fields: 'exact', body: 'exact' } }],
    ['amqp-requester', { replyto: 'capability' }, { replyTo: { capabilities: ['temporary-queue'] } }],
    ['amqp-requester', { replyto: 'capability', replycapability: 'x' }, { replyTo: { capabilities: ['x'] } }],
    ['amqp-requester', { replyto: 'fixed', replyaddress: '${PLANT}' }, { replyTo: { address: 'plant-7' } }],
    ['amqp-requester', { replyaddress: 'left' }, { replyTo: {} }],
    ['amqp-responder', { settletimeout: '0', kind: 'topic' }, { timeout: 0, kind: 'topic' }],
  ] as [Type, object, object][]) {
    it(`of ${type} are ${JSON.stringify(expected)} for ${JSON.stringify(properties)}`, () => {
      const options = read(type, fresh(properties));
      for (const [name, value] of Object.entries(expected)) should(options[name]).eql(value);
    });
  }

  for (const [type, properties, field, option, kept] of [
    ['amqp-sender', { guarantee: 'none' }, 'guarantee', 'guarantee', 'at-least-once'],
    ['amqp-sender', { buffer: 'many' }, 'buffer', 'buffer', 10_000],
    ['amqp-sender', { full: true }, 'full', 'full', 'refuse'],
    ['amqp-sender', { outcomes: '${UNSET}' }, 'outcomes', 'outcomes', 'accepted'],
    ['amqp-receiver', { settle: 'never' }, 'settle', 'settle', 'arrival'],
    ['amqp-receiver', { onerror: 'ACCEPT' }, 'onerror', 'onerror', 'modify'],
    ['amqp-receiver', { browse: 'yes' }, 'browse', 'source', SOURCE],
    ['amqp-receiver', { addressType: 'msg' }, 'addressType', 'address', 'q'],
    ['amqp-receiver', { address: 'UNSET', addressType: 'env' }, 'address', 'address', undefined],
    ['amqp-receiver', { address: 'number', addressType: 'flow' }, 'address', 'address', undefined],
    ['amqp-responder', { address: 'x', addressType: 'global' }, 'address', 'address', ''],
    [
      'amqp-requester',
      { replyto: 'fixed', replyaddress: 'unset', replyaddressType: 'flow' },
      'replyaddress',
      'replyTo',
      { address: '' },
    ],
    ['amqp-requester', { reconnect: 1 }, 'reconnect', 'reconnect', 'resend'],
    ['amqp-requester', { replyto: 'fixed', replyaddress: ' ' }, 'replyaddress', 'replyTo', { address: '' }],
    ['amqp-responder', { creditwindow: 0 }, 'creditwindow', 'creditWindow', 100],
    ['amqp-responder', { address: undefined }, 'address', 'address', ''],
  ] as [Type, object, string, string, unknown][]) {
    it(`of ${type} cannot be made of ${JSON.stringify(properties)}: the fault names the field`, () => {
      const { options, fault } = optionsOf(type, fresh(properties));
      should(fault).match({ code: 'AMQP_CONFIG', message: new RegExp(`\\(${field}\\): `) });
      should(options[option]).eql(kept);
    });
  }
});
