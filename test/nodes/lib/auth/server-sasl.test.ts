import should from 'should';
import { type Account, accountOf, Accounts } from '../../../../nodes/lib/auth/accounts';
import { scram } from '../../../../nodes/lib/auth/scram';
import { mechanismsFor, type ServerLogin } from '../../../../nodes/lib/auth/server-sasl';
import type { ServerMechanism } from '../../../../nodes/lib/wire/accepted-wire';
import { secretOf } from '../../../secrets';

const password = secretOf('password');

describe('logins of clients', () => {
  let account: Account;
  let login: ServerLogin;
  const refused: string[] = [];
  before(async () => {
    account = await accountOf('us,er=', password);
  });
  beforeEach(() => {
    refused.length = 0;
    login = {
      accounts: new Accounts([account]),
      allowsAnonymous: false,
      certified: undefined,
      refusalDelay: 1,
      refused: (user) => void refused.push(user),
    };
  });
  const offered = (some: Partial<ServerLogin> = {}): string[] => Object.keys(mechanismsFor({ ...login, ...some }));
  const mechanism = (name: string, some: Partial<ServerLogin> = {}): ServerMechanism =>
    mechanismsFor({ ...login, ...some })[name]!();

  it('are offered by what there is: a certificate, accounts, or nothing at all', () => {
    should(offered()).eql(['SCRAM-SHA-256', 'PLAIN']);
    should(offered({ certified: 'us,er=' })).eql(['EXTERNAL', 'SCRAM-SHA-256', 'PLAIN']);
    should(offered({ certified: 'nobody' })).eql(['SCRAM-SHA-256', 'PLAIN']);
    should(offered({ accounts: new Accounts([]), allowsAnonymous: true })).eql(['ANONYMOUS']);
  });

  for (const name of ['ANONYMOUS', 'EXTERNAL'] as const) {
    it(`by ${name} are done with the first message`, async () => {
      const one = mechanism(name, { allowsAnonymous: true, certified: 'us,er=' });
      await one.start(null);
      should(one.outcome).be.true();
      should(one.username).equal(name === 'ANONYMOUS' ? '' : 'us,er=');
    });
  }

  const PLAIN: [what: string, message: string, isRight: boolean][] = [
    ['name and password', `\0us,er=\0${password}`, true],
    ['the same name twice', `us,er=\0us,er=\0${password}`, true],
    ['somebody else as who to act for', `admin\0us,er=\0${password}`, false],
    ['a wrong password', '\0us,er=\0wrong', false],
    ['no password', '\0us,er=', false],
    ['nothing', '', false],
    ['more than that', `\0us,er=\0${password}\0more`, false],
  ];
  for (const [what, text, isRight] of PLAIN) {
    it(`by PLAIN with ${what} are ${isRight ? 'good' : 'refused'}`, async () => {
      const one = mechanism('PLAIN');
      should(await one.start(Buffer.from(text))).be.undefined();
      should(one.outcome).equal(isRight);
      should(refused.length).equal(isRight ? 0 : 1);
    });
  }

  it('by PLAIN take no second message', async () => {
    const one = mechanism('PLAIN');
    await one.step(Buffer.from(`\0us,er=\0${password}`));
    should(one.outcome).be.false();
  });

  /** Our own client logs in. `change` stands between the two. */
  async function scramLogin(
    user: string,
    secret: string,
    change: (message: string) => string = (message) => message,
  ): Promise<ServerMechanism> {
    const server = mechanism('SCRAM-SHA-256');
    const client = scram('SCRAM-SHA-256', user, secret);
    const first = await new Promise<Buffer>((resolve) => client.start((_error, response) => resolve(response)));
    const challenge = (await server.start(first)) as Buffer;
    const last = await new Promise<Buffer>((resolve, reject) =>
      client.step(challenge, (error, response) => (error ? reject(error) : resolve(response!))),
    );
    await server.step(Buffer.from(change(last.toString())));
    if (server.outcome) client.finish!(server.additionalData);
    return server;
  }

  it('by SCRAM-SHA-256 are good with the password, which the server shows to know too', async () => {
    const server = await scramLogin('us,er=', password);
    should(server.outcome).be.true();
    should(server.username).equal('us,er=');
    should(refused).eql([]);
  });

  it('by SCRAM-SHA-256 may begin with an empty message', async () => {
    const server = mechanism('SCRAM-SHA-256');
    should(await server.start(null)).eql(Buffer.alloc(0));
    should(((await server.step(Buffer.from('n,,n=user,r=nonce'))) as Buffer).toString()).match(
      /^r=nonce.{20,},s=.+,i=\d+$/,
    );
  });

  const WRONG: [what: string, user: string, secret: string, change?: (message: string) => string][] = [
    ['a wrong password', 'us,er=', 'wrong'],
    ['an unknown name', 'nobody', password],
    ['a proof that is too short', 'us,er=', password, (message) => message.replace(/p=.*/, 'p=AAAA')],
    ['no proof', 'us,er=', password, (message) => message.replace(/,p=.*/, '')],
    ['the nonce of another', 'us,er=', password, (message) => message.replace(/r=[^,]*/, 'r=other')],
    ['a channel binding that is not there', 'us,er=', password, (message) => message.replace('c=biws', 'c=eSws')],
    ['nothing', 'us,er=', password, () => ''],
  ];
  for (const [what, user, secret, change] of WRONG) {
    it(`by SCRAM-SHA-256 with ${what} are refused`, async () => {
      const server = await scramLogin(user, secret, change);
      should(server.outcome).be.false();
      should(server.additionalData!.toString()).match(/^e=/);
      should(refused).eql([user]);
    });
  }

  const FIRST: [what: string, message: string][] = [
    ['a channel binding is asked for', 'p=tls-unique,,n=user,r=nonce'],
    ['there is no nonce', 'n,,n=user'],
    ['there is no name', 'n,,r=nonce'],
    ['it is nonsense', '\u0000\uffff'],
  ];
  for (const [what, text] of FIRST) {
    it(`by SCRAM-SHA-256 are refused at once where ${what}`, async () => {
      const server = mechanism('SCRAM-SHA-256');
      await server.start(Buffer.from(text));
      should(server.outcome).be.false();
      should(refused.length).equal(1);
    });
  }
});
