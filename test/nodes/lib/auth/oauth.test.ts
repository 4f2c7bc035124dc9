import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import should from 'should';
import { type ClientCredentials, clientCredentials, managedIdentity } from '../../../../nodes/lib/auth/oauth';
import { HttpProxy } from '../../../doubles/http-proxy';
import { ManagedIdentity } from '../../../doubles/managed-identity';
import { type Behaviour, MisbehavingTokenServer } from '../../../doubles/misbehaving-token-server';
import { TokenServer, type TokenServerOptions } from '../../../doubles/token-server';
import { secretIn, secretOf } from '../../../secrets';

const fixture = (name: string) => readFileSync(join(__dirname, '../../../fixtures', name));
const clientSecret = secretOf('client secret');

const ask = (options: Partial<ClientCredentials> & { url: string }) =>
  clientCredentials({ clientId: 'node-red', clientSecret, auth: 'basic', timeout: 5000, ...options })();

describe('tokens by OAuth 2', () => {
  const cleanups: (() => unknown)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
  });

  async function started<S extends { stop(): Promise<void> }>(starting: Promise<S>): Promise<S> {
    const server = await starting;
    cleanups.push(() => server.stop());
    return server;
  }

  const start = (options: TokenServerOptions = {}) =>
    started(TokenServer.start({ clientId: 'node-red', clientSecret, ...options }));

  for (const auth of ['basic', 'body'] as const) {
    it(`are given to who shows id and secret ${auth === 'basic' ? 'by HTTP Basic' : 'in the body'}`, async () => {
      const clientAuth = auth === 'basic' ? 'client_secret_basic' : 'client_secret_post';
      const server = await start({ clientAuth, life: 60 });
      const { value, expires } = await ask({ url: server.tokenUrl, auth, scope: 'read' });
      should(value).equal(server.tokens[0]);
      should(expires).be.approximately(Date.now() + 60_000, 5000);
      should(server.requests[0]).match({ parameters: { grant_type: 'client_credentials', scope: 'read' } });
    });
  }

  it('are given to an id and secret of whatever letters', async () => {
    const server = await start({ clientId: 'a+b %:&', clientSecret: `%:+& ${clientSecret}` });
    const { value } = await ask({ url: server.tokenUrl, clientId: 'a+b %:&', clientSecret: `%:+& ${clientSecret}` });
    should(value).equal(server.tokens[0]);
  });

  it('are asked for where the discovery document says', async () => {
    const server = await start();
    const issue = clientCredentials({
      url: server.discoveryUrl,
      clientId: 'node-red',
      clientSecret,
      auth: 'basic',
      timeout: 5000,
    });
    should([(await issue()).value, (await issue()).value]).deepEqual(server.tokens);
  });

  it('are asked for with further parameters', async () => {
    const server = await started(MisbehavingTokenServer.start());
    await ask({ url: server.tokenUrl, params: { audience: 'a b', resource: 'urn:x' } });
    should(server.requests[0]!.body).containEql('audience=a+b&resource=urn%3Ax');
  });

  it('are asked for over TLS of a server that is verified', async () => {
    const server = await start({ tls: true });
    await should(ask({ url: server.tokenUrl })).be.rejectedWith({
      diagnosis: 'token-server',
      message: /^the token server localhost:\d+ cannot be reached: SELF_SIGNED_CERT_IN_CHAIN$/,
    });
    should((await ask({ url: server.tokenUrl, tls: { ca: fixture('ca.crt') } })).value).equal(server.tokens[0]);
  });

  it('are given to a client certificate in place of a secret (RFC 8705)', async () => {
    const server = await start({ tls: true, clientAuth: 'tls_client_auth' });
    const tls = { ca: fixture('ca.crt'), cert: fixture('client.crt'), key: fixture('client.key') };
    const { value } = await ask({ url: server.tokenUrl, clientSecret: undefined, tls });
    should(value).equal(server.tokens[0]);
  });

  it('are asked for by way of a proxy', async () => {
    const server = await start();
    const proxy = await started(HttpProxy.start({ user: 'p', password: secretOf('proxy password') }));
    const { url } = proxy;
    const through = { url, username: 'p', password: secretOf('proxy password'), except: [] };
    await ask({ url: server.tokenUrl, proxy: through });
    should(proxy.targets).deepEqual([new URL(server.url).host]);
  });

  it('live as long as the answer says, be it in text, or else the token', async () => {
    const server = await started(MisbehavingTokenServer.start());
    server.answer = { expires_in: '60' };
    should((await ask({ url: server.tokenUrl })).expires).be.approximately(Date.now() + 60_000, 5000);
    server.answer = {};
    should((await ask({ url: server.tokenUrl })).expires).equal(undefined);
  });

  it('are refused to who has another secret, and that is told without it', async () => {
    const server = await start();
    const error = (await ask({ url: server.tokenUrl, clientSecret: secretOf('other secret') }).catch(
      (one: unknown) => one,
    )) as Error;
    should(error).match({ code: 'AMQP_AUTH', diagnosis: 'token-refused', message: /invalid_client/ });
    should(secretIn(JSON.stringify(error) + error.stack)).equal(undefined);
  });

  for (const [behaviour, why] of Object.entries({
    silent: /does not answer within 0.1 s/,
    '500': /answers with status 500/,
    html: /answers with status 200 and text\/html, not with JSON/,
    garbage: /not with JSON/,
    'no token': /without an access_token/,
    redirect: /answers with status 307/,
  })) {
    it(`are not to be had of a server that answers with ${behaviour}, which is told`, async () => {
      const server = await started(MisbehavingTokenServer.start(behaviour as Behaviour));
      const asked = ask({ url: server.tokenUrl, timeout: behaviour === 'silent' ? 100 : 5000 });
      await should(asked).be.rejectedWith({ code: 'AMQP_CONNECT', diagnosis: 'token-server', message: why });
    });
  }

  it('are not to be had where there is no server', async () => {
    const server = await started(MisbehavingTokenServer.start());
    await server.stop();
    await should(ask({ url: server.tokenUrl })).be.rejectedWith({
      diagnosis: 'token-server',
      message: /cannot be reached: ECONNREFUSED/,
    });
  });

  it('are not asked for without TLS where the discovery document came with it', async () => {
    const server = await started(MisbehavingTokenServer.start('no token', { tls: true }));
    server.answer = { token_endpoint: 'http://127.0.0.1:1/token' };
    const url = `${server.url}/.well-known/openid-configuration`;
    await should(ask({ url, tls: { ca: fixture('ca.crt') } })).be.rejectedWith({
      message: /token_endpoint without TLS/,
    });
    server.answer = {};
    await should(ask({ url, tls: { ca: fixture('ca.crt') } })).be.rejectedWith({ message: /names no token_endpoint/ });
  });

  describe('of a managed identity', () => {
    const kept = { ...process.env };
    afterEach(() => {
      process.env = { ...kept };
    });

    it('are given to a machine of Azure, past any proxy', async () => {
      const identity = await started(ManagedIdentity.start({ life: 60 }));
      process.env['AZURE_POD_IDENTITY_AUTHORITY_HOST'] = identity.url;
      process.env['HTTP_PROXY'] = 'http://127.0.0.1:1';
      const { value, expires } = await managedIdentity({ resource: 'https://a.example/.default', timeout: 5000 })();
      should(value).equal(identity.tokens[0]);
      should(expires).be.approximately(Date.now() + 60_000, 5000);
      should(identity.requests[0]!.parameters).match({ resource: 'https://a.example' });
    });

    it('are given to an application that Azure hosts, for one of its identities', async () => {
      const appService = { secret: secretOf('identity header') };
      const identity = await started(ManagedIdentity.start({ appService, clientId: 'other', life: 60 }));
      Object.assign(process.env, identity.environment);
      const issue = managedIdentity({ resource: 'https://a.example', clientId: 'other', timeout: 5000 });
      should((await issue()).expires).be.approximately(Date.now() + 60_000, 5000);
      should(identity.requests[0]!.parameters).match({ client_id: 'other' });
    });

    it('are refused to an identity that the machine does not have', async () => {
      const identity = await started(ManagedIdentity.start());
      process.env['AZURE_POD_IDENTITY_AUTHORITY_HOST'] = identity.url;
      const asked = managedIdentity({ resource: 'https://a.example', clientId: 'nobody', timeout: 5000 })();
      await should(asked).be.rejectedWith({
        code: 'AMQP_AUTH',
        diagnosis: 'token-refused',
        message: /invalid_request/,
      });
    });
  });
});
