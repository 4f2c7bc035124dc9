import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { saslprep } from '@mongodb-js/saslprep';
import { amqpError, type AmqpError } from '../errors';
import type { Mechanism } from '../wire/wire';

/** What each mechanism hashes with, the strongest first. */
export const SCRAM_HASHES = { 'SCRAM-SHA-512': 'sha512', 'SCRAM-SHA-256': 'sha256', 'SCRAM-SHA-1': 'sha1' } as const;

export type ScramName = keyof typeof SCRAM_HASHES;

/**
 * Rounds of hashing that a server may ask for. Fewer than RFC 7677 has as the least make a password easy to guess for
 * who poses as the server; more would keep this computer busy for seconds.
 */
const [LEAST_ROUNDS, MOST_ROUNDS] = [4096, 1_000_000];

const derived = promisify(pbkdf2);

/**
 * A login by SCRAM (RFC 5802, RFC 7677), without channel binding: the password never leaves this computer, and the
 * server has to prove that it knows it too. Throws an AmqpError for a user or password that SASLprep (RFC 4013) does
 * not allow.
 */
export function scram(
  name: ScramName,
  username: string,
  password: string,
  nonce = randomBytes(24).toString('base64'),
): Mechanism {
  const hash = SCRAM_HASHES[name];
  const [user, secret] = [prepared('user name', username), prepared('password', password)];
  const bare = `n=${user.replaceAll('=', '=3D').replaceAll(',', '=2C')},r=${nonce}`;
  /** Of the server, once it is known. */
  let signature: Buffer | undefined;
  let isVerified = false;
  let isAsked = false;

  const proof = async (first: string): Promise<string> => {
    const { r = '', s = '', i = '' } = fieldsOf(first);
    const [salt, rounds] = [Buffer.from(s, 'base64'), /^\d{1,9}$/.test(i) ? Number(i) : 0];
    if (!r.startsWith(nonce) || r === nonce || salt.length === 0) throw broken('its answer is not that of this login');
    if (rounds < LEAST_ROUNDS || rounds > MOST_ROUNDS)
      throw broken(`it asks for ${rounds} rounds of hashing, which is not from ${LEAST_ROUNDS} to ${MOST_ROUNDS}`);
    const salted = await derived(secret, salt, rounds, createHash(hash).digest().length, hash);
    const hmac = (key: Buffer, text: string): Buffer => createHmac(hash, key).update(text).digest();
    const clientKey = hmac(salted, 'Client Key');
    // biws: "n,,", which says that there is no channel binding.
    const final = `c=biws,r=${r}`;
    const signed = `${bare},${first},${final}`;
    const clientSignature = hmac(createHash(hash).update(clientKey).digest(), signed);
    signature = hmac(hmac(salted, 'Server Key'), signed);
    return `${final},p=${Buffer.from(clientKey.map((byte, at) => byte ^ clientSignature[at]!)).toString('base64')}`;
  };

  const verify = (last: string): void => {
    const { v, e } = fieldsOf(last);
    if (e !== undefined) throw amqpError('AMQP_AUTH.scram', { why: e });
    const given = Buffer.from(v ?? '', 'base64');
    isVerified = signature !== undefined && given.length === signature.length && timingSafeEqual(given, signature);
    if (!isVerified) throw unverified();
  };

  return {
    start: (callback) => callback(undefined, Buffer.from(`n,,${bare}`)),
    step: (challenge, callback) => {
      const text = challenge.toString();
      // Peers may send their proof as a last challenge, which is answered with nothing, or with the outcome.
      if (signature) return answer(callback, () => (verify(text), Promise.resolve('')));
      // Each answer takes a lot of hashing.
      if (isAsked) return callback(broken('it asks twice'));
      isAsked = true;
      return answer(callback, () => proof(text));
    },
    finish: (data) => {
      if (!isVerified) verify(data?.toString() ?? '');
    },
  };
}

function answer(callback: Parameters<Mechanism['step']>[1], text: () => Promise<string>): void {
  // What is thrown in there at once is told in the same way.
  void Promise.resolve()
    .then(text)
    .then(
      (response) => callback(undefined, Buffer.from(response)),
      (error: Error) => callback(error),
    );
}

/** `r=…,s=…,i=…` by letter. A value may hold "=". */
function fieldsOf(text: string): Record<string, string | undefined> {
  return Object.fromEntries(text.split(',').map((field) => [field.slice(0, 1), field.slice(2)]));
}

/** The text as SASLprep has it. Throws AMQP_AUTH for one that it does not allow. */
export function prepared(what: string, text: string): string {
  try {
    // As a query: letters that are newer than SASLprep are the server's to judge (RFC 5802, 5.1).
    return saslprep(text, { allowUnassigned: true });
  } catch (cause) {
    // Its own error says which character, and so a part of a password.
    void cause;
    throw amqpError('AMQP_AUTH.characters', { what });
  }
}

function broken(why: string): AmqpError {
  return amqpError('AMQP_AUTH.scram', { why });
}

function unverified(): AmqpError {
  return amqpError('AMQP_AUTH.unverified', {}, { diagnosis: 'unverified' });
}
