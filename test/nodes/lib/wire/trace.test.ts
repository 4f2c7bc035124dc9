import { execFile } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import rhea from 'rhea';
import should from 'should';
import { secretIn, secretOf } from '../../../secrets';

const CHALLENGE = secretOf('challenge');
const LOGINS: Record<string, string[]> = {
  PLAIN: [`\0anna\0${secretOf('password')}`],
  XOAUTH2: [`user=anna\x01auth=Bearer ${secretOf('token')}\x01\x01`],
  'SCRAM-SHA-256': [`n,,n=anna,r=${secretOf('nonce')}`, `c=biws,r=rO,p=${secretOf('proof')}`],
};

/** Logs in by a mechanism, in a process that has all of rhea's trace. */
async function traceOf(name: string): Promise<{ stdout: string; stderr: string; responses: string[] }> {
  const responses: string[] = [];
  const container = rhea.create_container();
  const take = (response: Buffer): unknown => {
    responses.push(response.toString());
    if (responses.length < LOGINS[name]!.length) return Buffer.from(CHALLENGE);
    return void (mechanism.outcome = true);
  };
  const mechanism: { outcome?: boolean; start: typeof take; step: typeof take } = { start: take, step: take };
  Object.assign(container.sasl_server_mechanisms, { OTHER: () => mechanism, [name]: () => mechanism });
  for (const event of ['connection_close', 'disconnected']) container.on(event, () => {});
  const server = container.listen({ port: 0, host: '127.0.0.1' });
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  try {
    const told = await promisify(execFile)(process.execPath, ['--require', 'tsx/cjs', join(__dirname, 'log-in.ts')], {
      env: { ...process.env, DEBUG: 'rhea:*', LOG_IN: JSON.stringify({ port, mechanisms: { [name]: LOGINS[name] } }) },
    });
    return { ...told, responses };
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
}

describe('The trace of rhea', () => {
  for (const [name, responses] of Object.entries(LOGINS)) {
    it(`keeps a login by ${name} to itself, and shows how it went (R68)`, async () => {
      const told = await traceOf(name);
      should(told.responses).deepEqual(responses);
      should(told.stdout).equal('logged in\n');
      const { stderr } = told;
      should(secretIn(stderr)).equal(undefined);
      // What finds out why a login fails is there all the same.
      should(stderr).match(/"sasl_server_mechanisms":\["OTHER","[\w-]+"\]/);
      should(stderr).containEql(`{"mechanism":"${name}","initial_response":"(masked)","hostname":"127.0.0.1"}`);
      should(stderr.match(/SENT: \(masked\)/g)).have.length(responses.length);
      should(stderr.match(/RECV: \(masked\)/g)).have.length(responses.length + 1);
      // What comes after the login is not masked.
      should(stderr).match(/-> .*"container_id":"client"/s);
      should(stderr)
        .match(/SENT: \d+ [\da-f]+/)
        .and.match(/RECV: \d+ [\da-f]+/);
    });
  }
});
