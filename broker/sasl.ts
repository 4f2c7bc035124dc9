// The server's side of the SASL mechanisms.
import { createHash, createHmac, pbkdf2Sync, randomBytes, timingSafeEqual } from 'node:crypto';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { Connection } from 'rhea';
import type { Fields } from './rhea';

/** What rhea calls: as long as there is no outcome, what `start` and `step` return goes out as a challenge. */
interface Mechanism {
  outcome?: boolean;
  username?: string;
  /** what it logged in with, if that was a token */
  token?: string;
  /** what goes into the outcome's additional-data */
  additionalData?: Buffer;
  start(response: Buffer | null, hostname?: string | null): Buffer | void;
  step?(response: Buffer | null): Buffer | void;
}

export interface ScramOptions {
  /** default 4096 */
  iterations?: number;
  /** where the server's final message goes: the additional-data of the outcome (default), or one more challenge */
  finalIn?: 'outcome' | 'challenge';
  /** what is wrong with the server: its signature, that there is none, a nonce that is not the client's */
  fault?: 'signature' | 'no signature' | 'nonce';
}

/** Who may log in. */
export interface Accounts {
  /** the password of a user, if there is such a user */
  passwordOf(user: string): string | undefined;
  passwordFits(user: string, password: string): boolean;
  tokenIsValid(token: string): boolean;
  scram: ScramOptions;
}

const SCRAM_HASHES: Record<string, string> = {
  'SCRAM-SHA-1': 'sha1',
  'SCRAM-SHA-256': 'sha256',
  'SCRAM-SHA-512': 'sha512',
};

class Anonymous implements Mechanism {
  outcome?: boolean;
  username?: string;

  start(response: Buffer | null): void {
    this.username = response?.toString() ?? 'anonymous';
    this.outcome = true;
  }
}

class Plain implements Mechanism {
  outcome?: boolean;
  username?: string;
  /** the password, if it is a token */
  token?: string;

  constructor(private readonly accounts: Accounts) {}

  start(response: Buffer | null): void {
    const [, user, password, ...more] = String(response ?? '').split('\0');
    this.username = user ?? '';
    if (password === undefined || more.length > 0) {
      this.outcome = false;
      return;
    }
    if (this.accounts.tokenIsValid(password)) this.token = password;
    this.outcome = this.token !== undefined || this.accounts.passwordFits(this.username, password);
  }
}

/** The login is the client's certificate. */
class External implements Mechanism {
  outcome?: boolean;
  username?: string;

  constructor(private readonly socket: Socket) {}

  start(): void {
    this.username = certifiedName(this.socket);
    this.outcome = this.username !== undefined;
  }
}

/** The common name in a client's certificate ('' if there is none in it); undefined without one that is trusted. */
export function certifiedName(socket: Socket): string | undefined {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined;
  return [socket.getPeerCertificate().subject?.CN].flat()[0] ?? '';
}

/** A token in the form in which Google, Microsoft and Solace take it; a wrong one is told in a challenge first. */
class XOAuth2 implements Mechanism {
  outcome?: boolean;
  username?: string;
  token?: string;

  constructor(private readonly accounts: Accounts) {}

  start(response: Buffer | null): Buffer | void {
    const [user, auth, ...end] = String(response ?? '').split('\x01');
    this.username = user?.startsWith('user=') ? user.slice(5) : undefined;
    this.token = auth?.startsWith('auth=Bearer ') ? auth.slice(12) : undefined;
    if (this.username === undefined || this.token === undefined || end.join() !== ',') this.outcome = false;
    else if (this.accounts.tokenIsValid(this.token)) this.outcome = true;
    else return Buffer.from(JSON.stringify({ status: '401', schemes: 'bearer', scope: '' }));
  }

  step(): void {
    this.outcome = false;
  }
}

/** RFC 5802, RFC 7677. */
class Scram implements Mechanism {
  outcome?: boolean;
  username?: string;
  additionalData?: Buffer;
  private readonly salt = randomBytes(16);
  private readonly iterations: number;
  private nonce = '';
  private gs2Header = '';
  private firstMessages = '';
  private next: 'first' | 'final' | 'end' = 'first';

  constructor(
    private readonly hash: string,
    private readonly accounts: Accounts,
  ) {
    this.iterations = accounts.scram.iterations ?? 4096;
  }

  start(response: Buffer | null): Buffer | void {
    // a client may wait for a challenge before it begins
    return response?.length ? this.step(response) : Buffer.alloc(0);
  }

  step(response: Buffer | null): Buffer | void {
    const message = String(response ?? '');
    if (this.next === 'first') return this.first(message);
    if (this.next === 'final') return this.final(message);
    this.outcome = true;
  }

  private first(message: string): Buffer | void {
    const [, gs2Header, bare, user, clientNonce] =
      /^([ny],(?:a=[^,]*)?,)(n=([^,]*),r=([\x21-\x2b\x2d-\x7e]+)(?:,.*)?)$/.exec(message) ?? [];
    if (!gs2Header || !bare || !clientNonce) return this.fail('other-error');
    this.next = 'final';
    this.username = user!.replaceAll('=2C', ',').replaceAll('=3D', '=');
    const { fault } = this.accounts.scram;
    this.nonce = (fault === 'nonce' ? 'another' : clientNonce) + randomBytes(18).toString('base64');
    this.gs2Header = gs2Header;
    const challenge = `r=${this.nonce},s=${this.salt.toString('base64')},i=${this.iterations}`;
    this.firstMessages = `${bare},${challenge}`;
    return Buffer.from(challenge);
  }

  private final(message: string): Buffer | void {
    const [, withoutProof, binding, nonce, proof] = /^(c=([^,]*),r=([^,]*)),p=([^,]*)$/.exec(message) ?? [];
    if (withoutProof === undefined || nonce !== this.nonce) return this.fail('other-error');
    if (binding !== Buffer.from(this.gs2Header).toString('base64')) {
      return this.fail('channel-bindings-dont-match');
    }
    const password = this.accounts.passwordOf(this.username!);
    if (password === undefined) return this.fail('unknown-user');

    const bytes = createHash(this.hash).update('').digest().length;
    const salted = pbkdf2Sync(password.normalize('NFKC'), this.salt, this.iterations, bytes, this.hash);
    const storedKey = createHash(this.hash).update(this.hmac(salted, 'Client Key')).digest();
    const authMessage = `${this.firstMessages},${withoutProof}`;
    const clientKey = xor(Buffer.from(proof!, 'base64'), this.hmac(storedKey, authMessage));
    if (!timingSafeEqual(createHash(this.hash).update(clientKey).digest(), storedKey)) {
      return this.fail('invalid-proof');
    }

    const { finalIn, fault } = this.accounts.scram;
    const signature = this.hmac(this.hmac(salted, 'Server Key'), authMessage);
    if (fault === 'signature') signature[0]! ^= 1;
    const verifier = fault === 'no signature' ? undefined : Buffer.from(`v=${signature.toString('base64')}`);
    if (finalIn === 'challenge' && verifier) {
      this.next = 'end';
      return verifier;
    }
    this.additionalData = verifier;
    this.outcome = true;
  }

  private hmac(key: Buffer, text: string): Buffer {
    return createHmac(this.hash, key).update(text).digest();
  }

  private fail(error: string): void {
    this.additionalData = Buffer.from(`e=${error}`);
    this.outcome = false;
  }
}

const xor = (a: Buffer, b: Buffer): Buffer => Buffer.from(b.map((byte, i) => byte ^ (a[i] ?? 0)));

export type ServerMechanisms = Record<string, () => Mechanism>;

/** The mechanisms of these names, for one connection. The socket is the one that may have TLS. */
export function mechanismsOf(names: string[], accounts: Accounts, socket: Socket): ServerMechanisms {
  const mechanisms: ServerMechanisms = {};
  for (const name of names) {
    const hash = SCRAM_HASHES[name];
    if (hash) mechanisms[name] = () => new Scram(hash, accounts);
    else if (name === 'PLAIN') mechanisms[name] = () => new Plain(accounts);
    else if (name === 'ANONYMOUS') mechanisms[name] = () => new Anonymous();
    else if (name === 'EXTERNAL') mechanisms[name] = () => new External(socket);
    else if (name === 'XOAUTH2') mechanisms[name] = () => new XOAuth2(accounts);
    else throw new Error(`no such SASL mechanism: ${name}`);
  }
  return mechanisms;
}

/** How a connection logged in, or tried to. */
export interface Login {
  /** 'none' = without SASL */
  mechanism: string;
  user: string | undefined;
  /** as the client named the server in the SASL init; without SASL, in its open */
  hostname: string | undefined;
}

/** rhea's server of the SASL layer, as far as the client uses that layer. */
export function saslOf(connection: Connection): Fields | undefined {
  const { sasl_transport: layer } = connection as unknown as Fields;
  // where a client may go without, rhea has one transport for either case, and takes the one that the client begins
  const server: Fields | undefined = layer?.transports ? (layer.selected ?? layer.transports[3]) : layer;
  return server && 'mechanisms' in server ? server : undefined;
}

/** Tells of the login's end, and adds to the outcome what the mechanism has for it, which rhea does not. */
export function watchLogin(
  connection: Connection,
  done: (login: Login, accepted: boolean, token: string | undefined) => void,
): void {
  const server = saslOf(connection);
  if (!server) return;
  let init: Fields = {};
  const onInit = server.on_sasl_init.bind(server);
  server.on_sasl_init = (frame: Fields) => {
    init = frame.performative;
    onInit(frame);
  };
  const encode = server.transport.encode.bind(server.transport);
  server.transport.encode = (frame: Fields) => {
    const { performative } = frame;
    if ('code' in performative) {
      const mechanism: Mechanism | undefined = server.mechanism;
      performative.additional_data = mechanism?.additionalData;
      const login = { mechanism: init.mechanism, user: mechanism?.username, hostname: init.hostname ?? undefined };
      done(login, performative.code === 0, mechanism?.token);
    }
    encode(frame);
  };
}
