import { mock } from 'node:test';
import should from 'should';
import { expiryOf, type Token, Tokens, type TokenUser } from '../../../../nodes/lib/auth/tokens';
import { AmqpError, amqpError } from '../../../../nodes/lib/errors';

const jwt = (claims: object) => `e30.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.sig`;

/** An issuer of tokens that live so many milliseconds, and what it has given. */
function issuer(life: number | undefined) {
  const given: Token[] = [];
  const issue = async (): Promise<Token> => {
    const token = { value: `token ${given.length}`, expires: life === undefined ? undefined : Date.now() + life };
    given.push(token);
    return token;
  };
  return { given, issue };
}

describe('tokens', () => {
  const releases: (() => void)[] = [];
  afterEach(() => {
    for (const release of releases.splice(0)) release();
  });

  /** The next token, or the next failure. */
  function told(tokens: Tokens): Promise<Token | AmqpError> {
    return new Promise((resolve) => {
      const user: TokenUser = { renewed: resolve, failed: resolve };
      releases.push(tokens.use(user));
    });
  }

  it('are asked for when one is needed, and kept while they live', async () => {
    const { given, issue } = issuer(60_000);
    const tokens = new Tokens(issue);
    const [one, other] = await Promise.all([tokens.get(), tokens.get()]);
    should(one).equal(other);
    should(await tokens.get()).equal(one);
    should(given).have.length(1);
  });

  it('are kept for good when nobody says how long they live', async () => {
    const { given, issue } = issuer(undefined);
    const tokens = new Tokens(issue);
    await tokens.get();
    await tokens.get();
    should(given).have.length(1);
  });

  it('are asked for anew once they have expired, or were refused', async () => {
    const { given, issue } = issuer(0);
    const tokens = new Tokens(issue);
    await tokens.get();
    await tokens.get();
    should(given).have.length(2);

    const lasting = issuer(60_000);
    const others = new Tokens(lasting.issue);
    others.drop(await others.get());
    await others.get();
    should(lasting.given).have.length(2);
  });

  it('are not dropped when it was another one that was refused', async () => {
    const { given, issue } = issuer(60_000);
    const tokens = new Tokens(issue);
    await tokens.get();
    tokens.drop({ value: 'of before' });
    await tokens.get();
    should(given).have.length(1);
  });

  it('are renewed ahead of their end as long as somebody uses them', async () => {
    const { given, issue } = issuer(1000);
    const tokens = new Tokens(issue);
    const renewal = told(tokens);
    const first = await tokens.get();
    const renewed = (await renewal) as Token;
    should(renewed).equal(given[1]);
    should(Date.now()).be.below(first.expires!);
    should(await tokens.get()).equal(renewed);
  });

  it('that have expired by the clock of this computer are not renewed on and on', async () => {
    mock.timers.enable({ apis: ['setTimeout'] });
    const { given, issue } = issuer(-1000);
    const tokens = new Tokens(issue);
    releases.push(tokens.use({ renewed: () => {}, failed: () => {} }));
    await tokens.get();
    mock.timers.tick(3_600_000);
    mock.timers.reset();
    should(given).have.length(1);
  });

  it('are asked for again while the old one lives, when they cannot be renewed', async () => {
    let asked = 0;
    const tokens = new Tokens(async () => {
      asked++;
      if (asked === 2) throw amqpError('AMQP_CONNECT.token-server', { server: 's', why: 'is down' });
      return { value: `token ${asked}`, expires: Date.now() + 2000 };
    });
    const failure = told(tokens);
    await tokens.get();
    should(await failure).match({ code: 'AMQP_CONNECT' });
    should(await told(tokens)).match({ value: 'token 3' });
  });

  it('that nobody gives are told as an error', async () => {
    const error = amqpError('AMQP_AUTH.token-refused', { server: 's', why: 'no' });
    await should(new Tokens(() => Promise.reject(error)).get()).be.rejectedWith(error);
  });

  describe('that a flow gives', () => {
    it('are missing at first', async () => {
      await should(new Tokens().get()).be.rejectedWith({ code: 'AMQP_AUTH', diagnosis: 'no-token' });
    });

    it('are told to who waits for one, the first one too', async () => {
      const tokens = new Tokens();
      const given = told(tokens);
      tokens.give('given');
      should(await given).match({ value: 'given', expires: undefined });
      should(await tokens.get()).match({ value: 'given' });
    });

    it('live as long as is said, or as they say themselves', async () => {
      const tokens = new Tokens();
      tokens.give('given', 60);
      should((await tokens.get()).expires).be.approximately(Date.now() + 60_000, 5000);
      tokens.give(jwt({ exp: 4_000_000_000 }));
      should((await tokens.get()).expires).equal(4_000_000_000_000);
      tokens.give(jwt({ exp: 1000 }));
      await should(tokens.get()).be.rejectedWith({ code: 'AMQP_AUTH', message: /expired/, diagnosis: 'token-expired' });
    });
  });

  it('tell when they expire only if they are JWTs that do', () => {
    should(expiryOf(jwt({ exp: 5 }))).equal(5000);
    for (const other of ['', 'opaque', 'a.b.c', jwt({}), jwt({ exp: '5' }), `e30.${btoa('null')}.`])
      should(expiryOf(other)).equal(undefined);
  });
});
