import { createHash, createHmac, pbkdf2Sync } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import rhea from 'rhea';
import should from 'should';
import { Broker, type BrokerOptions } from '../../broker/broker';
import { connectTo, first } from './client';

type Done = (error: unknown, response?: Buffer) => void;
type Mechanism = { start(done: Done): void; step(challenge: Buffer, done: Done): void };

type Outcome = { performative: { additional_data?: Buffer } };
type Sasl = { on_sasl_outcome(frame: Outcome): void };

const fixture = (name: string) => readFileSync(path.join(__dirname, '..', 'fixtures', name));

const REFUSED = { condition: 'amqp:unauthorized-access' };

let broker: Broker;
const start = async (options?: BrokerOptions) => (broker = await Broker.start(options));

/** Logs in by the one mechanism. */
const logIn = (name: string, mechanism: Mechanism, options: object = {}) =>
  connectTo(broker.port, { ...options, sasl_mechanisms: { [name]: mechanism } });

/** A mechanism of one message, that answers a challenge with nothing. */
const say = (text: string, challenges: string[] = []): Mechanism => ({
  start: (done) => done(undefined, Buffer.from(text)),
  step: (challenge, done) => {
    challenges.push(String(challenge));
    done(undefined, Buffer.alloc(0));
  },
});

/** The additional data of the outcome of a login, which rhea does not hand to the mechanism. */
async function finalMessage(sasl_mechanisms: object): Promise<string | undefined> {
  const options = { host: '127.0.0.1', port: broker.port, reconnect: false, sasl_mechanisms };
  const connection = rhea.create_container().connect(options);
  const { sasl_transport: sasl } = connection as unknown as { sasl_transport: Sasl };
  let outcome: Outcome | undefined;
  const onOutcome = sasl.on_sasl_outcome.bind(sasl);
  sasl.on_sasl_outcome = (frame) => {
    outcome = frame;
    onOutcome(frame);
  };
  await first(connection, 'connection_open');
  return outcome!.performative.additional_data?.toString();
}

/** The client of RFC 5802 without channel binding. It keeps what the server said last, and what that should have been. */
class Scram implements Mechanism {
  expected?: string;
  last?: string;
  private readonly first: string;

  constructor(
    private readonly hash: string,
    user: string,
    private readonly password: string,
  ) {
    this.first = `n=${user},r=abc`;
  }

  start(done: Done): void {
    done(undefined, Buffer.from(`n,,${this.first}`));
  }

  step(challenge: Buffer, done: Done): void {
    if (this.expected) {
      this.last = String(challenge);
      return done(undefined, Buffer.alloc(0));
    }
    const [, nonce, salt, iterations] = /^r=(.*),s=(.*),i=(\d+)$/.exec(String(challenge))!;
    const hmac = (key: Buffer, text: string) => createHmac(this.hash, key).update(text).digest();
    const bytes = createHash(this.hash).update('').digest().length;
    const salted = pbkdf2Sync(this.password, Buffer.from(salt!, 'base64'), Number(iterations), bytes, this.hash);
    const clientKey = hmac(salted, 'Client Key');
    const withoutProof = `c=biws,r=${nonce}`;
    const authMessage = [this.first, challenge, withoutProof].join(',');
    const signature = hmac(createHash(this.hash).update(clientKey).digest(), authMessage);
    const proof = Buffer.from(clientKey.map((byte, i) => byte ^ signature[i]!));
    this.expected = `v=${hmac(hmac(salted, 'Server Key'), authMessage).toString('base64')}`;
    done(undefined, Buffer.from(`${withoutProof},p=${proof.toString('base64')}`));
  }
}

describe('embedded broker, SASL', () => {
  afterEach(() => broker.stop());

  it('tells how connections logged in, or tried to', async () => {
    await start({ users: { ann: 'secret' } });
    const login = { username: 'ann', password: 'secret', sasl_init_hostname: 'vhost' };
    await connectTo(broker.port, login);
    await connectTo(broker.port, { ...login, password: 'wrong' }).should.be.rejectedWith(REFUSED);
    await connectTo(broker.port, { username: undefined, hostname: 'other' });
    broker.logins.should.eql([
      { mechanism: 'PLAIN', user: 'ann', hostname: 'vhost' },
      { mechanism: 'none', user: undefined, hostname: 'other' },
    ]);
    broker.refusedLogins.should.eql([{ mechanism: 'PLAIN', user: 'ann', hostname: 'vhost' }]);
  });

  it('offers the mechanisms in the order given, and takes no others', async () => {
    await start({ mechanisms: ['ANONYMOUS', 'PLAIN'] });
    await connectTo(broker.port, { username: 'ann', password: 'x', sasl_mechanisms: undefined });
    await logIn('EXTERNAL', say('')).should.be.rejected();
    broker.logins.should.match([{ mechanism: 'PLAIN', user: 'ann' }]);
    await broker.stop();

    await start({ mechanisms: ['ANONYMOUS', 'PLAIN'] });
    const both = { PLAIN: say('\0ann\0x'), ANONYMOUS: say('me') };
    await connectTo(broker.port, { sasl_mechanisms: both });
    broker.logins.should.match([{ mechanism: 'ANONYMOUS', user: 'me' }]);
  });

  it('can be absent', async () => {
    await start({ mechanisms: [] });
    await connectTo(broker.port, { username: undefined });
    const fault = once(broker, 'fault');
    await connectTo(broker.port).should.be.rejected();
    await fault;
  });

  for (const [name, hash] of Object.entries({
    'SCRAM-SHA-1': 'sha1',
    'SCRAM-SHA-256': 'sha256',
    'SCRAM-SHA-512': 'sha512',
  })) {
    it(`takes ${name}`, async () => {
      await start({ mechanisms: [name], users: { 'a,n=n': 'paß' }, scram: { finalIn: 'challenge' } });
      const scram = new Scram(hash, 'a=2Cn=3Dn', 'paß');
      await logIn(name, scram);
      scram.last!.should.equal(scram.expected);
      broker.logins.should.match([{ mechanism: name, user: 'a,n=n' }]);
      await logIn(name, new Scram(hash, 'a=2Cn=3Dn', 'wrong')).should.be.rejectedWith(REFUSED);
      await logIn(name, new Scram(hash, 'bob', 'paß')).should.be.rejectedWith(REFUSED);
      broker.refusedLogins.should.match([{ user: 'a,n=n' }, { user: 'bob' }]);
    });
  }

  it('gives the final message of SCRAM with the outcome, or a wrong one, or none', async () => {
    for (const fault of [undefined, 'signature', 'no signature'] as const) {
      await start({ mechanisms: ['SCRAM-SHA-256'], users: { ann: 'secret' }, scram: { iterations: 5000, fault } });
      const scram = new Scram('sha256', 'ann', 'secret');
      const final = await finalMessage({ 'SCRAM-SHA-256': scram });
      if (fault === 'no signature') should.not.exist(final);
      else (final === scram.expected).should.equal(fault === undefined);
      await broker.stop();
    }
  });

  it('can answer SCRAM with a nonce that is not the client’s', async () => {
    await start({ mechanisms: ['SCRAM-SHA-1'], users: { ann: 'secret' }, scram: { fault: 'nonce' } });
    const challenge = new Promise<Buffer>((resolve, reject) => {
      logIn('SCRAM-SHA-1', { ...say('n,,n=ann,r=abc'), step: resolve }).catch(reject);
    });
    String(await challenge).should.not.startWith('r=abc');
  });

  it('takes a token by XOAUTH2, and tells what is wrong with another', async () => {
    await start({ mechanisms: ['XOAUTH2'], tokens: new Set(['good']) });
    await logIn('XOAUTH2', say('user=ann\x01auth=Bearer good\x01\x01'));
    broker.logins.should.match([{ mechanism: 'XOAUTH2', user: 'ann' }]);
    const challenges: string[] = [];
    const refused = logIn('XOAUTH2', say('user=ann\x01auth=Bearer bad\x01\x01', challenges));
    await refused.should.be.rejectedWith(REFUSED);
    challenges.map((text) => JSON.parse(text)).should.match([{ status: '401' }]);
  });

  it('takes a token for a password, and nothing else where there are no users', async () => {
    await start({ tokens: new Set(['good']) });
    await logIn('PLAIN', say('\0\0good'));
    await logIn('PLAIN', say('\0\0bad')).should.be.rejectedWith(REFUSED);
    broker.tokens = new Set(['bad']);
    await logIn('PLAIN', say('\0\0bad'));
  });

  it('ends a connection with its token, and takes that token no more', async () => {
    await start({ tokens: new Map([['short', 100]]) });
    const client = await logIn('PLAIN', say('\0\0short'));
    const closed = first(client, 'connection_close');
    await closed.should.be.rejectedWith(REFUSED);
    (client.error as { description: string }).description.should.equal('credentials expired');
    await logIn('PLAIN', say('\0\0short')).should.be.rejectedWith(REFUSED);
  });

  it('takes EXTERNAL for the name in the certificate, and refuses it without one', async () => {
    const server = { key: fixture('server.key'), cert: fixture('server.crt'), ca: fixture('ca.crt') };
    await start({ mechanisms: ['EXTERNAL'], tls: { ...server, requestCert: true, rejectUnauthorized: false } });
    const trusting = { transport: 'tls', ca: fixture('ca.crt'), host: 'localhost' };
    await logIn('EXTERNAL', say(''), { ...trusting, key: fixture('client.key'), cert: fixture('client.crt') });
    broker.logins.should.match([{ mechanism: 'EXTERNAL', user: 'client' }]);
    await logIn('EXTERNAL', say(''), trusting).should.be.rejectedWith(REFUSED);
  });
});
