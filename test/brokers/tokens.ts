// An issuer of tokens that a broker knows by its key alone: no server is asked.
import { createSign, generateKeyPairSync } from 'node:crypto';
import { secretOf } from '../secrets';

/** Who the tokens are for, as the broker calls itself. */
export const RESOURCE = 'broker';
export const KEY_ID = 'test';

const EVERYTHING = ['read', 'write', 'configure'].map((right) => `${RESOURCE}.${right}:*/*/*`);

export class Issuer {
  readonly #keys = generateKeyPairSync('rsa', { modulusLength: 2048 });

  /** What verifies its tokens. */
  readonly key = this.#keys.publicKey.export({ type: 'spki', format: 'pem' }).toString();

  /** A JSON Web Token that ends after so many seconds. Without more it may do everything. */
  token(seconds: number, claims: object = {}): string {
    const now = Math.floor(Date.now() / 1000);
    const payload = {
      sub: 'reader',
      jti: secretOf('token id'),
      aud: [RESOURCE],
      iat: now,
      exp: now + seconds,
      scope: EVERYTHING.join(' '),
      ...claims,
    };
    const signed = [{ alg: 'RS256', typ: 'JWT', kid: KEY_ID }, payload]
      .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
      .join('.');
    return `${signed}.${createSign('RSA-SHA256').update(signed).sign(this.#keys.privateKey, 'base64url')}`;
  }
}
