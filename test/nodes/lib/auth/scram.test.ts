import should from 'should';
import { scram, type ScramName } from '../../../../nodes/lib/auth/scram';
import type { AmqpError } from '../../../../nodes/lib/errors';
import type { Mechanism } from '../../../../nodes/lib/wire/wire';
import { secretIn, secretOf } from '../../../secrets';

const initial = (mechanism: Mechanism) =>
  new Promise<string>((resolve) => mechanism.start((_error, response) => resolve(response.toString())));

const step = (mechanism: Mechanism, challenge: string) =>
  new Promise<string>((resolve, reject) =>
    mechanism.step(Buffer.from(challenge), (error, response) =>
      error ? reject(error) : resolve(response!.toString()),
    ),
  );

/** Examples of RFC 5802 (5) and RFC 7677 (3), for "user" with the password "pencil". */
const EXAMPLES: Partial<Record<ScramName, { nonce: string; challenge: string; response: string; last: string }>> = {
  'SCRAM-SHA-1': {
    nonce: 'fyko+d2lbbFgONRv9qkxdawL',
    challenge: 'r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096',
    response: 'c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=',
    last: 'v=rmF9pqV8S7suAoZWja4dJRkFsKQ=',
  },
  'SCRAM-SHA-256': {
    nonce: 'rOprNGfwEbeRWgbNEkqO',
    challenge: 'r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096',
    response:
      'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=',
    last: 'v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=',
  },
};

describe('SCRAM', () => {
  for (const [name, { nonce, challenge, response, last }] of Object.entries(EXAMPLES)) {
    it(`answers as the example of ${name} has it, and takes the proof of the server`, async () => {
      const mechanism = scram(name as ScramName, 'user', 'pencil', nonce);
      should(await initial(mechanism)).equal(`n,,n=user,r=${nonce}`);
      should(await step(mechanism, challenge)).equal(response);
      mechanism.finish!(Buffer.from(last));
    });

    it(`of ${name} takes the proof as a last challenge too`, async () => {
      const mechanism = scram(name as ScramName, 'user', 'pencil', nonce);
      await step(mechanism, challenge);
      should(await step(mechanism, last)).equal('');
      mechanism.finish!(undefined);
    });
  }

  const { nonce, challenge, last } = EXAMPLES['SCRAM-SHA-256']!;
  const begun = () => scram('SCRAM-SHA-256', 'user', 'pencil', nonce);

  for (const [what, data] of Object.entries<string | undefined>({
    'no proof': undefined,
    'the proof of another password': 'v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=',
    'half a proof': 'v=6rri',
    nonsense: '💥',
  })) {
    it(`takes a server that sends ${what} for another one (R60)`, async () => {
      const mechanism = begun();
      await step(mechanism, challenge);
      should(() => mechanism.finish!(data === undefined ? undefined : Buffer.from(data))).throw({
        code: 'AMQP_AUTH',
        diagnosis: 'unverified',
      });
    });
  }

  it('takes a server that lets us in without a challenge for another one', () => {
    should(() => begun().finish!(Buffer.from(last))).throw({ diagnosis: 'unverified' });
  });

  it('says what the server says is wrong', async () => {
    const mechanism = begun();
    await step(mechanism, challenge);
    await should(step(mechanism, 'e=other-error')).be.rejectedWith({ code: 'AMQP_AUTH', message: /other-error/ });
  });

  for (const [what, bad, why] of [
    ['for another login', 'r=other,s=QSXC,i=4096', /not that of this login/],
    ['that adds nothing to the nonce', `r=${nonce},s=QSXC,i=4096`, /not that of this login/],
    ['without salt', `r=${nonce}x,s=,i=4096`, /not that of this login/],
    ['with too few rounds', `r=${nonce}x,s=QSXC,i=4095`, /4095 rounds/],
    ['with so many rounds that it would take for ever', `r=${nonce}x,s=QSXC,i=999999999`, /rounds/],
    ['with no number of rounds', `r=${nonce}x,s=QSXC,i=-1`, /rounds/],
    ['that is empty', '', /not that of this login/],
  ] as const) {
    it(`refuses a challenge ${what}`, async () => {
      await should(step(begun(), bad)).be.rejectedWith({ code: 'AMQP_AUTH', message: why });
    });
  }

  it('is asked once only: each answer takes a lot of hashing', async () => {
    const mechanism = begun();
    const first = step(mechanism, challenge);
    await should(step(mechanism, challenge)).be.rejectedWith({ code: 'AMQP_AUTH', message: /asks twice/ });
    await first;
  });

  it('writes what separates fields in another way, in user names (RFC 5802, 5.1)', async () => {
    should(await initial(scram('SCRAM-SHA-1', 'a=b,c', 'x', 'n'))).equal('n,,n=a=3Db=2Cc,r=n');
  });

  it('prepares user and password as SASLprep has it (RFC 4013)', async () => {
    // Letters that look alike are one, and what nobody sees is left out.
    should(await initial(scram('SCRAM-SHA-1', 'ª\u00ad', 'x', 'n'))).equal('n,,n=a,r=n');
    const [one, other] = ['I\u00adX', 'IX'].map((password) => scram('SCRAM-SHA-256', 'user', password, nonce));
    should(await step(one!, challenge)).equal(await step(other!, challenge));
  });

  it('does not repeat a password that SASLprep refuses', () => {
    try {
      scram('SCRAM-SHA-1', 'user', `${secretOf('password')}\u0007`);
      should.fail('taken', 'refused');
    } catch (error) {
      should(error).match({ code: 'AMQP_AUTH', message: /password has a character/ });
      should(secretIn(JSON.stringify(error) + String((error as AmqpError).cause))).equal(undefined);
    }
  });

  it('has another nonce each time', async () => {
    const nonces = await Promise.all([1, 2].map(() => initial(scram('SCRAM-SHA-1', 'user', 'pencil'))));
    should(nonces[0]).not.equal(nonces[1]);
  });
});
