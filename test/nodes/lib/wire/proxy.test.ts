import should from 'should';
import { agentFor, type Proxy } from '../../../../nodes/lib/wire/proxy';
import { secretOf } from '../../../secrets';

const PROXY: Proxy = { url: 'http://proxy.example:3128', except: [] };

/** The proxy by which a URL is reached. */
const via = (url: string, proxy?: Proxy) =>
  (agentFor(url, proxy, 1000) as unknown as { proxy: URL } | undefined)?.proxy.href;

describe('a proxy', () => {
  const kept = { ...process.env };
  afterEach(() => {
    process.env = { ...kept };
  });

  it('is the one that is given, with user name and password as they are', () => {
    should(via('wss://broker/', PROXY)).equal('http://proxy.example:3128/');
    const password = `%:@/${secretOf('proxy password')}`;
    const agent = agentFor('ws://broker/', { ...PROXY, username: 'a:b', password }, 1000);
    const { proxy } = agent as unknown as { proxy: URL };
    should([proxy.username, proxy.password].map(decodeURIComponent)).deepEqual(['a:b', password]);
  });

  it('is left out for the hosts that are excepted, and for those below', () => {
    const except = ['internal.example', '.lan', '*.corp.example', ' 10.0.0.1 ', 'broker:5671', ''];
    for (const host of ['internal.example', 'a.internal.example', 'b.lan', 'x.corp.example', '10.0.0.1', 'broker:5671'])
      should(via(`wss://${host}/`, { ...PROXY, except })).equal(undefined, host);
    for (const host of ['xinternal.example', 'internal.example.org', 'plan', '10.0.0.11', 'broker:5672'])
      should(via(`wss://${host}/`, { ...PROXY, except })).not.equal(undefined, host);
  });

  it('is else the one of the environment, for WebSockets the one of HTTP', () => {
    process.env['HTTPS_PROXY'] = 'http://secure.example:1';
    process.env['HTTP_PROXY'] = 'http://plain.example:2';
    process.env['NO_PROXY'] = 'excepted.example';
    should(via('wss://broker/')).equal('http://secure.example:1/');
    should(via('https://broker/')).equal('http://secure.example:1/');
    should(via('ws://broker/')).equal('http://plain.example:2/');
    should(via('wss://excepted.example/')).equal(undefined);
  });

  it('may have the variables of WebSockets', () => {
    process.env['WSS_PROXY'] = 'http://socket.example:3';
    should(via('wss://broker/')).equal('http://socket.example:3/');
  });

  it('is nothing without either', () => {
    should(via('wss://broker/')).equal(undefined);
  });
});
