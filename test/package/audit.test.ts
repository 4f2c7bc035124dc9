// The audit of the other tests, itself under test: it is worth nothing unless it finds a secret wherever one gets out.
import { inspect } from 'node:util';
import should from 'should';
import { audit, takeFound } from '../audit';
import { endpointNode, flow, helper, inject, load, message, node } from '../flow';
import { secretIn, secretOf } from '../secrets';

const PASSWORD = secretOf('password');
const PLAIN = Buffer.from(`\0anna\0${PASSWORD}`);

const FORMS: Record<string, [text: string, form: string]> = {
  alone: [PASSWORD, 'as it is'],
  'in a URL': [`amqp://anna:${encodeURIComponent(secretOf('password', '@/ä'))}@broker`, 'as it is'],
  'in lower case': [PASSWORD.toLowerCase(), 'in other letters'],
  'of PLAIN, in base64': [PLAIN.toString('base64'), 'in base64'],
  'of PLAIN with another user': [Buffer.from(`\0an\0${PASSWORD}`).toString('base64url'), 'in base64'],
  'of Basic': [`Basic ${Buffer.from(`a:${PASSWORD}`).toString('base64')}`, 'in base64'],
  'as the claims of a token': [secretOf('token').split('.')[1]!, 'in base64'],
  'in hexadecimal': [PLAIN.toString('hex').toUpperCase(), 'in hexadecimal'],
  'as inspected': [inspect(PLAIN), 'in hexadecimal'],
  'as rhea prints what it cannot read': [
    [...PLAIN].map((byte) => `0x${byte.toString(16).padStart(2, '0')}`).join(','),
    'as 0x and hexadecimal',
  ],
  'as JSON of its bytes': [JSON.stringify(PLAIN), 'as a list of bytes'],
  'as JSON of its bytes, indented': [JSON.stringify(PLAIN, null, 2), 'as a list of bytes'],
  'all in percent signs': [PLAIN.toString('hex').replaceAll(/../g, '%$&'), 'in percent signs'],
  'in UTF-16': [Buffer.from(PASSWORD, 'utf16le').toString('latin1'), 'in UTF-16'],
};

const titleOf = (context: Mocha.Context): string => context.test!.fullTitle();
const sender = () => load(flow(endpointNode(1, { autoconnect: false }), node('amqp-sender')));

describe('The audit', () => {
  before(() => helper.startServer());
  after(() => helper.stopServer());
  beforeEach(() => void takeFound());
  afterEach(() => helper.unload());

  for (const [what, [text, form]] of Object.entries(FORMS)) {
    it(`knows a secret ${what}`, () => {
      should(secretIn(`before ${text} after`)).equal(form);
    });
  }

  it('knows what is no secret', () => {
    should(secretIn(`anna, password, ${PASSWORD.slice(0, -8)}`)).equal(undefined);
  });

  for (const [what, value] of Object.entries({
    'an object': { deep: [{ in: PASSWORD }] },
    'a name': { [PASSWORD]: 1 },
    'a Map': new Map([['name', PASSWORD]]),
    bytes: Uint8Array.from(PLAIN),
    'an error': new Error(PASSWORD),
    'its cause': new Error('', { cause: new Error(PASSWORD) }),
    'a property of it': Object.assign(new Error(), { token: PASSWORD }),
  })) {
    it(`looks into ${what}`, function () {
      const circle: Record<string, unknown> = { value };
      circle['circle'] = circle;
      audit('it', [circle, value]);
      should(takeFound()).match([/: it has a secret as it is$/]);
    });
  }

  for (const name of ['stdout', 'stderr'] as const) {
    it(`listens to ${name}`, function () {
      const stream = process[name];
      const write = stream._write.bind(stream);
      stream._write = (_chunk, _encoding, done) => done();
      try {
        console[name === 'stdout' ? 'log' : 'error'](`a login: ${PASSWORD}`);
      } finally {
        stream._write = write;
      }
      should(takeFound()).deepEqual([`${titleOf(this)}: ${name} has a secret as it is`]);
    });
  }

  for (const level of ['error', 'warn', 'log', 'debug', 'trace'] as const) {
    it(`listens to the log, at the level of ${level}`, async function () {
      await sender();
      helper.getNode('sender')[level](`a login: ${PASSWORD}`);
      should(takeFound()).containEql(`${titleOf(this)}: Node-RED's log has a secret as it is`);
    });
  }

  it('listens to statuses', async function () {
    await sender();
    helper.getNode('sender').status({ text: PASSWORD });
    should(takeFound()).containEql(`${titleOf(this)}: a status has a secret as it is`);
  });

  it('listens to msgs that our nodes send, and not to what a test gives them', async function () {
    await sender();
    const out = message('out');
    helper.getNode('caught').send({ token: PASSWORD });
    should(takeFound()).deepEqual([]);
    helper.getNode('sender').send({ token: PASSWORD });
    await out;
    should(takeFound()).deepEqual([`${titleOf(this)}: a msg has a secret as it is`]);
  });

  it('listens to what our nodes are done with', async function () {
    await sender();
    const target = helper.getNode('sender');
    target.removeAllListeners('input');
    target.on('input', (_msg, _send, done) => done(Object.assign(new Error('refused'), { token: PASSWORD })));
    const caught = message('caught');
    inject('sender', { token: PASSWORD });
    await caught;
    const all = takeFound();
    for (const channel of ['an error', 'a msg', 'a msg that a node is done with']) {
      all.should.containEql(`${titleOf(this)}: ${channel} has a secret as it is`);
    }
  });
});
