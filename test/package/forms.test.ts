// The forms without a browser: what their validators accept, and the texts they name. What a person sees of them is in test/editor.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createContext, runInContext } from 'node:vm';
import should from 'should';
import { serverOf } from '../../nodes/flow/server';
import { NUMBERS } from '../../nodes/flow/settings';
import { nodeRedDir } from '../node-red';
import { secretIn, secretOf } from '../secrets';

const root = join(__dirname, '..', '..');
const TYPES = ['amqp-endpoint', 'amqp-receiver', 'amqp-requester', 'amqp-responder', 'amqp-sender'];

type Verdict = true | string;
interface Definition {
  defaults: Record<string, { value?: unknown; validate?: (this: object, value: unknown, opt: object) => Verdict }>;
  credentials?: object;
  label(this: object): string;
}

const fromNodeRed = createRequire(join(nodeRedDir, 'package.json'));
const catalogueOf = (module: string, file: string): object =>
  JSON.parse(readFileSync(join(fromNodeRed.resolve(`${module}/package.json`), '..', 'locales/en-US', file), 'utf8'));
const core = catalogueOf('@node-red/nodes', 'messages.json');
const editor = catalogueOf('@node-red/editor-client', 'editor.json');
const ours = Object.fromEntries(
  TYPES.flatMap((type) =>
    Object.entries(JSON.parse(readFileSync(join(root, 'locales/en-US', `${type}.json`), 'utf8')) as object),
  ),
);

/** What a key stands for: a text, or the group of texts that a key with a dot at its end begins. */
function lookUp(key: string): unknown {
  const [, namespace = '', path = ''] = /^(?:(.+):)?(.*?)\.?$/.exec(key)!;
  const catalogue = namespace === 'node-red' ? core : { ...editor, ...ours };
  return path
    .split('.')
    .reduce<unknown>((value, name) => (value as Record<string, unknown> | undefined)?.[name], catalogue);
}

function text(key: string, values: Record<string, unknown> = {}): string {
  return String(lookUp(key)).replace(/__(\w+)__/g, (_match, name: string) => String(values[name]));
}

const { formOf } = createRequire(__filename)(join(root, 'scripts', 'form.mjs')) as {
  formOf: (type: string) => string;
};
const html = Object.fromEntries(TYPES.map((type) => [type, formOf(type)]));
const shared = readFileSync(join(root, 'resources', 'forms.js'), 'utf8');
const forms: Record<string, Definition> = {};
const editorStub = {
  RED: {
    _: text,
    nodes: { registerType: (type: string, definition: Definition) => (forms[type] = definition) },
    validators: { typedInput: () => () => true },
  },
  // No form is open.
  $: () => [],
  window: {},
};
editorStub.window = editorStub;
createContext(editorStub);
for (const type of TYPES)
  runInContext(/<script type="text\/javascript">(.*?)<\/script>/s.exec(html[type]!)![1]!, editorStub);
// Last: the forms have to load without it.
runInContext(shared, editorStub);

function validate(type: string, name: string, value: unknown): Verdict {
  return forms[type]!.defaults[name]!.validate!.call({ _: text }, value, {});
}

/** The text beside a field. */
function labelOf(type: string, name: string): string {
  const label = new RegExp(`<label\\s+for="node-(?:config-)?input-${name}".*?data-i18n="([^"]+)"`, 's');
  return text(label.exec(html[type]!)![1]!);
}

/** What an endpoint is called in the editor. */
function nodeLabel(properties: object): string {
  return forms['amqp-endpoint']!.label.call({ port: 5672, _: text, ...properties });
}

describe('The forms', () => {
  for (const [type, numbers] of Object.entries(NUMBERS)) {
    for (const [name, { min, max, value: number, isWhole }] of Object.entries(numbers)) {
      it(`take for ${name} of ${type} what the runtime takes, and say what is wrong with all else`, () => {
        const value = number ?? '';
        should(forms[type]!.defaults[name]!.value).equal(value);
        const right = [
          value,
          min,
          max,
          String(min),
          String(max),
          undefined,
          ...(value === '' ? [' '] : []),
          ...(isWhole ? [] : [min + 0.5, ' 2.5 ']),
        ];
        for (const each of right) should(validate(type, name, each)).equal(true, String(each));
        const wrong = [min - (isWhole ? 1 : 0.001), max + 1, 'abc', '-5', '1e9', ...(isWhole ? [min + 0.5] : [])];
        const blank = value === '' ? [] : ['', ' '];
        for (const each of [...wrong, ...blank]) {
          const verdict = validate(type, name, each);
          should(typeof verdict).equal('string', `"${each}"`);
          should(verdict)
            .startWith(`${labelOf(type, name)}: `)
            .and.containEql(`from ${min} to ${max}`);
        }
      });
    }
  }

  it('have no other numbers', () => {
    for (const type of TYPES) {
      const numbers = Object.entries(forms[type]!.defaults).filter(([, { value }]) => typeof value === 'number');
      Object.keys(NUMBERS[type as keyof typeof NUMBERS]).should.containDeep(numbers.map(([name]) => name));
    }
  });

  it('send durable messages where nothing would notice that they are lost', () => {
    const durable = TYPES.map((type) => [type, forms[type]!.defaults['durablemessages']?.value]);
    Object.fromEntries(durable.filter(([, value]) => value !== undefined)).should.deepEqual({
      'amqp-requester': false,
      'amqp-responder': true,
      'amqp-sender': true,
    });
  });

  describe('take as the server', () => {
    const understood: Record<string, string> = {
      localhost: 'localhost:5672',
      ' broker.example ': 'broker.example:5672',
      my_broker: 'my_broker:5672',
      '192.0.2.1': '192.0.2.1:5672',
      '::1': '[::1]:5672',
      'fe80::1%eth0': '[fe80::1%eth0]:5672',
      '[::1]': '[::1]:5672',
      '[::1]:5673': '[::1]:5673',
      'broker:5673': 'broker:5673',
      '${HOST}': '${HOST}:5672',
      'broker-${NUMBER}.example': 'broker-${NUMBER}.example:5672',
      '${HOST}:${PORT}': '${HOST}:${PORT}',
      'amqp://broker': 'broker:5672',
      'amqps://broker/': 'broker:5671',
      'AMQPS://[::1]:5673': '[::1]:5673',
      'amqps://me:p%40ss@broker': 'broker:5671',
    };
    // What should have been encoded, and was not: only the form, where a person can look at it, makes sense of that.
    const UNENCODED = 'amqp://me:p@s/s:#1%@broker:5673';
    const refused: Record<string, RegExp> = {
      '': /missing/,
      ' ': /missing/,
      'my broker': /host name/,
      'me@broker': /host name/,
      'a;b': /host name/,
      'a=b': /host name/,
      '/vhost': /host name/,
      'broker:amqp': /host name/,
      '[broker]': /host name/,
      'amqp://': /host name/,
      'broker/vhost': /must end/,
      'broker?a=b': /must end/,
      [`amqp://me:${secretOf('password')}@broker/vhost`]: /must end/,
      'amqp://broker#a': /must end/,
      'broker:0': /port/,
      'amqp://broker:65536': /port/,
      'ws://broker': /amqp:\/\//,
      [`http://me:${secretOf('password')}@broker:8161/console`]: /amqp:\/\//,
      [`Endpoint=sb://name.servicebus.windows.net/;SharedAccessKeyName=root;SharedAccessKey=${secretOf('password')}=`]:
        /connection string/,
      [`SharedAccessKey=${secretOf('password')}=;Endpoint=sb://name.servicebus.windows.net/`]: /connection string/,
    };

    it('a host, a host and a port, or a URL, and show no more of it than host and port', () => {
      for (const [host, shown] of Object.entries(understood)) {
        should(validate('amqp-endpoint', 'host', host)).equal(true, host);
        nodeLabel({ host }).should.equal(shown, host);
      }
      should(validate('amqp-endpoint', 'host', undefined)).be.true();
      should(validate('amqp-endpoint', 'host', UNENCODED)).be.true();
      nodeLabel({ host: UNENCODED }).should.equal('broker:5673');
    });

    it('nothing else, say why, and show nothing of it', () => {
      for (const [host, reason] of Object.entries(refused)) {
        const verdict = validate('amqp-endpoint', 'host', host);
        should(typeof verdict).equal('string', host);
        should(verdict).startWith('Server: ').and.match(reason);
        should(secretIn(String(verdict))).equal(undefined, host);
        nodeLabel({ host }).should.equal('amqp endpoint', host);
      }
    });

    it('what the runtime takes as well', () => {
      for (const [host, shown] of Object.entries(understood)) {
        // Variables are resolved by then.
        if (host.includes('${')) continue;
        const server = serverOf(host);
        nodeLabel({ host: server.host, port: server.port ?? 5672 }).should.equal(shown, host);
      }
      for (const host of Object.keys(refused)) should.throws(() => serverOf(host), host);
    });

    it('a refused one with its name, if it has one', () => {
      nodeLabel({ host: 'a b', name: 'Broker' }).should.equal('Broker');
    });
  });

  it('have each row once, whole, and with a property of the node', () => {
    for (const type of TYPES) {
      html[type]!.should.not.match(/<!--|\{\w+\}/, type);
      const ids = [...html[type]!.matchAll(/\bid="node-(?:config-)?input-([^"]+)"/g)].map(([, id]) => id!);
      ids.should.deepEqual([...new Set(ids)], type);
      for (const [, labelled] of html[type]!.matchAll(/ for="node-(?:config-)?input-([^"]+)"/g)) {
        ids.should.containEql(labelled);
        const { defaults, credentials } = forms[type]!;
        should({ ...defaults, ...credentials }).have.property(labelled!);
      }
    }
  });

  it('name only texts that there are', () => {
    for (const [name, source] of Object.entries({ ...html, shared })) {
      const inRows = [...source.matchAll(/data-i18n="(?:\[\w+\])?([^"]+)"/g)].map(([, key]) => key!);
      const inScript = [...source.matchAll(/'((?:@amqp10\/[\w/-]+:|node-red:)?[\w-]+\.[\w.-]+)'/g)]
        .map(([, key]) => key!)
        .filter((key) => /:|^amqp-/.test(key));
      const keys = [...inRows, ...inScript];
      keys.length.should.be.above(5, name);
      for (const key of keys) {
        const found = lookUp(key);
        should(typeof found).equal(key.endsWith('.') ? 'object' : 'string', `${key} in ${name}`);
      }
    }
  });

  it('have a reason of fewer than 20 characters for each failure to connect, and a remedy in the log', () => {
    const reasons = lookUp('amqp-endpoint.status.reason') as Record<string, string>;
    for (const reason of Object.values(reasons)) reason.length.should.be.below(20, reason);
    Object.keys(lookUp('amqp-endpoint.log.remedy') as object).should.deepEqual(Object.keys(reasons));
  });
});
