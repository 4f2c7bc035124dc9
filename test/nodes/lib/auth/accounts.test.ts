import should from 'should';
import { type Account, accountOf, Accounts, isAccount } from '../../../../nodes/lib/auth/accounts';
import { secretOf } from '../../../secrets';

const password = secretOf('password');

describe('accounts', () => {
  let account: Account;
  let accounts: Accounts;
  before(async () => {
    account = await accountOf('user', password);
    accounts = new Accounts([account]);
  });

  it('keep nothing of a password that would let anybody in', async () => {
    should(Object.keys(account)).eql(['name', 'salt', 'iterations', 'stored', 'server']);
    for (const value of [account.stored, account.server, account.salt])
      should(await accounts.verify('user', value)).be.false();
  });

  it('have another salt each time', async () => {
    should((await accountOf('user', password)).stored).not.equal(account.stored);
  });

  it('know who has the password', async () => {
    should(await accounts.verify('user', password)).be.true();
    for (const [name, given] of [
      ['user', ''],
      ['user', `${password}x`],
      ['User', password],
      ['nobody', password],
      ['', ''],
      ['user', 'not allowed: \u0000'],
    ] as const)
      should(await accounts.verify(name, given)).be.false();
  });

  it('compare names and passwords as SASLprep has them (RFC 4013)', async () => {
    const some = new Accounts([await accountOf('\u2168\u00ad', `a\u00a0${password}`)]);
    should(some.has('IX')).be.true();
    should(await some.verify('\u2168', `a ${password}`)).be.true();
    should(some.has('\u0007')).be.false();
    await accountOf('\u0007', password).should.be.rejectedWith({ code: 'AMQP_AUTH' });
  });

  it('make up the same account each time for a name that is unknown', () => {
    const [one, same] = [accounts.of('nobody'), accounts.of('nobody')];
    should(one).eql(same);
    should(one.isKnown).be.false();
    should(one.account.iterations).equal(account.iterations);
    should(Buffer.from(one.account.salt, 'base64').length).equal(Buffer.from(account.salt, 'base64').length);
    should(accounts.of('other').account.salt).not.equal(one.account.salt);
  });

  it('let in who has the password, however many ask at the same time who have not', async () => {
    const wrong = Array.from({ length: 150 }, () => accounts.verify('user', 'wrong'));
    should(await accounts.verify('user', password)).be.true();
    should(await Promise.all(wrong)).eql(Array(150).fill(false));
  });

  it('take turns between the places where clients come from', async () => {
    let left = 200;
    const wrong = Array.from({ length: left }, () =>
      accounts.verify('user', 'wrong', { from: 'flood' }).finally(() => left--),
    );
    should(await accounts.verify('user', password, { from: 'elsewhere' })).be.true();
    should(left).be.above(190);
    await Promise.all(wrong);
  });

  it('do nothing for a client that is gone', async () => {
    should(await accounts.verify('user', password, { isGone: () => true })).be.false();
    should(await accounts.verify('user', password)).be.true();
  });

  it('are told from what is none', () => {
    should(isAccount(account)).be.true();
    const others = [
      null,
      'user',
      [],
      {},
      { ...account, name: '' },
      { ...account, iterations: 0 },
      { ...account, iterations: 1.5 },
      { ...account, iterations: 1e9 },
      { ...account, stored: 1 },
    ];
    for (const one of others) should(isAccount(one)).be.false();
  });

  it('of which the key is damaged let nobody in', async () => {
    const damaged = new Accounts([{ ...account, stored: 'AAAA' }]);
    should(await damaged.verify('user', password)).be.false();
  });
});
