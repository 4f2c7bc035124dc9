import should from 'should';
import { isLoopback, type Server, serverOf, serversOf } from '../../../nodes/flow/server';
import { secretIn, secretOf } from '../../secrets';

const SECRET = secretOf('password');

/** For a title. */
const shown = (text: string) => JSON.stringify(text.replaceAll(SECRET, 'secret'));

describe('the field Server', () => {
  const taken: Record<string, Server> = {
    localhost: { host: 'localhost' },
    '  broker.example.com ': { host: 'broker.example.com' },
    '10.0.0.1': { host: '10.0.0.1' },
    'broker:5673': { host: 'broker', port: 5673 },
    '::1': { host: '::1' },
    'fe80::1%eth0': { host: 'fe80::1%eth0' },
    '[::1]:5673': { host: '::1', port: 5673 },
    'bücher.example': { host: 'bücher.example' },
    under_score: { host: 'under_score' },
    'amqp://broker': { host: 'broker', port: 5672, isSecure: false },
    'AMQPS://broker/': { host: 'broker', port: 5671, isSecure: true },
    'amqps://broker:443': { host: 'broker', port: 443, isSecure: true },
    'amqp://[::1]:5673': { host: '::1', port: 5673, isSecure: false },
    'amqp://anna:s%40cret%2F@broker': { host: 'broker', port: 5672, isSecure: false, user: 'anna', pass: 's@cret/' },
    'amqp://anna@broker': { host: 'broker', port: 5672, isSecure: false, user: 'anna', pass: '' },
    'ws://broker': { host: 'broker', port: 80, isSecure: false, path: '/' },
    'WSS://broker': { host: 'broker', port: 443, isSecure: true, path: '/' },
    'wss://broker:443/amqp': { host: 'broker', port: 443, isSecure: true, path: '/amqp' },
    'ws://broker:443/amqp': { host: 'broker', port: 443, isSecure: false, path: '/amqp' },
    'ws://broker:8080?x=1': { host: 'broker', port: 8080, isSecure: false, path: '/?x=1' },
    'ws://broker/a:443': { host: 'broker', port: 80, isSecure: false, path: '/a:443' },
    'wss://[::1]:8443/a%20b': { host: '::1', port: 8443, isSecure: true, path: '/a%20b' },
    'wss://anna:443@broker/': { host: 'broker', port: 443, isSecure: true, path: '/', user: 'anna', pass: '443' },
    'wss://ns.example/$servicebus/websocket?x=1': {
      host: 'ns.example',
      port: 443,
      isSecure: true,
      path: '/$servicebus/websocket?x=1',
    },
  };
  for (const [text, server] of Object.entries(taken)) {
    it(`may hold ${JSON.stringify(text)}`, () => {
      should(serverOf(text)).eql(server);
    });
  }

  const SIGNATURE = `SharedAccessSignature sr=sb%3A%2F%2Fns.example%2Fq&sig=${SECRET}%3D&se=4102444800&skn=n`;
  const azure: Server = {
    host: 'ns.example',
    port: 5671,
    isSecure: true,
    user: 'n',
    pass: `${SECRET}=`,
    isShared: true,
  };
  const NAMED = 'SharedAccessKeyName=n';
  const KEYED = `${NAMED};SharedAccessKey=${SECRET}=`;
  const strings: Record<string, Server> = {
    [`Endpoint=sb://ns.example/;${KEYED}`]: azure,
    [` endpoint = SB://ns.example ; sharedaccesskeyname = n ; SHAREDACCESSKEY = ${SECRET}= ; `]: azure,
    [`${KEYED};EntityPath=q/a;Endpoint=sb://ns.example/;TransportType=Amqp`]: azure,
    [`Endpoint=sb://ns.example/;SharedAccessSignature=${SIGNATURE}`]: { ...azure, user: '', pass: SIGNATURE },
    [`Endpoint=sb://ns.example:5670/;${KEYED};UseDevelopmentEmulator=false`]: { ...azure, port: 5670 },
    [`Endpoint=sb://localhost;${KEYED};UseDevelopmentEmulator=true;`]: {
      ...azure,
      host: 'localhost',
      port: 5672,
      isSecure: false,
    },
    [`Endpoint=sb://[::1]:5680/;${KEYED};usedevelopmentemulator=True`]: {
      ...azure,
      host: '::1',
      port: 5680,
      isSecure: false,
    },
  };
  const hub: Server = { ...azure, host: 'hub.example', isHub: true };
  strings[`HostName=hub.example;${KEYED}`] = hub;
  strings[`HostName=hub.example;DeviceId=d 1;SharedAccessKey=${SECRET}=`] = { ...hub, user: 'devices/d 1' };
  strings[`DeviceId=d1;ModuleId=m;hostname=hub.example;SharedAccessKey=${SECRET}=`] = {
    ...hub,
    user: 'devices/d1/modules/m',
  };
  for (const [text, server] of Object.entries(strings)) {
    it(`may hold the connection string ${shown(text)}`, () => {
      should(serverOf(text)).eql(server);
    });
  }

  it('takes a URL for one, whatever its password looks like', () => {
    should(serverOf(`amqp://me:;SharedAccessKey=${SECRET}@broker`)).containEql({ host: 'broker', user: 'me' });
  });

  it('tells what stays on this computer from what goes over a network', () => {
    for (const host of ['localhost', 'LOCALHOST', '127.0.0.1', '127.1.2.3', '::1'])
      should(isLoopback(host)).be.true(host);
    for (const host of ['localhost.example', '10.127.0.1', '127.0.0.1.example', '::2', 'broker'])
      should(isLoopback(host)).be.false(host);
  });

  const refused: Record<string, RegExp> = {
    '': /is missing/,
    ' ': /is missing/,
    [KEYED]: /^is a connection string without an Endpoint or a HostName$/,
    [`HostName=https://hub.example;${KEYED}`]: /HostName is not a host/,
    [`HostName=hub.example;DeviceId=d1`]: /without a SharedAccessKey/,
    [`Endpoint=;${KEYED}`]: /without an Endpoint/,
    [`Endpoint=https://ns.example/${SECRET};${KEYED}`]: /^is a connection string whose Endpoint is not a URL of sb:/,
    [`Endpoint=ns.example;${KEYED}`]: /not a URL of sb:/,
    [`Endpoint=sb://;${KEYED}`]: /not a URL of sb:/,
    [`Endpoint=sb://ns.example/${SECRET};${KEYED}`]: /not a URL of sb:/,
    [`Endpoint=sb://me:${SECRET}@ns.example;${KEYED}`]: /not a URL of sb:/,
    [`Endpoint=sb://ns.example:0;${KEYED}`]: /port/,
    [`Endpoint=sb://ns.example/;EntityPath=${SECRET}`]: /without a SharedAccessKey or a SharedAccessSignature$/,
    [`Endpoint=sb://ns.example/;${NAMED};SharedAccessKey`]: /a SharedAccessKeyName, but no SharedAccessKey$/,
    [`Endpoint=sb://ns.example/;SharedAccessKey=${SECRET}=`]: /a SharedAccessKey, but no SharedAccessKeyName$/,
    [`Endpoint=sb://ns.example/;${KEYED};SharedAccessSignature=${SIGNATURE}`]: /both/,
    'host name': /characters/,
    [`anna:${SECRET}@broker`]: /characters/,
    [`broker/${SECRET}`]: /characters/,
    [`broker;${SECRET}`]: /characters/,
    [`broker=${SECRET}`]: /characters/,
    'broker:99999': /port/,
    'broker:0': /port/,
    [`broker:${SECRET}`]: /characters/,
    [`constructor://broker/${SECRET}`]: /amqp:\/\//,
    [`mqtt://broker/${SECRET}`]: /amqp:\/\//,
    [`ws://anna:12/${SECRET}@broker`]: /%40/,
    [`ws://broker/#${SECRET}`]: /%23/,
    [`amqp://broker;${SECRET}`]: /characters/,
    [`amqp://broker,${SECRET}`]: /characters/,
    [`ws://broker:99999/${SECRET}`]: /not a valid URL/,
    [`ws://broker:0/${SECRET}`]: /port/,
    [`http://anna:${SECRET}@broker`]: /amqp:\/\//,
    [`amqp://anna:${SECRET}@broker/vhost`]: /virtual host/,
    [`amqp://anna:${SECRET}@broker?${SECRET}`]: /virtual host/,
    [`amqp://anna:${SECRET}@broker:99999`]: /not a valid URL/,
    'amqp://': /not a valid URL/,
  };
  for (const [text, why] of Object.entries(refused)) {
    it(`may not hold ${shown(text)}, and does not repeat it`, () => {
      should(() => serverOf(text)).throw(why);
      try {
        serverOf(text);
      } catch (error) {
        should(secretIn((error as Error).message)).equal(undefined);
      }
    });
  }
});

describe('the list of servers', () => {
  const a: Server = { host: 'a', port: 5672, isSecure: false };
  const b: Server = { host: 'b', port: 5673, isSecure: false };
  const taken: Record<string, Server[]> = {
    'amqp://a': [a],
    'amqp://a\namqp://b:5673': [a, b],
    '\r\n amqp://a \r\n\r\n\tamqp://b:5673\r\n': [a, b],
    'amqp://a,amqp://b:5673,': [a, b],
    ', amqp://a , amqp://b:5673': [a, b],
    'amqp://a  amqp://b:5673': [a, b],
    'amqp://a\nws://b/?x=1,2': [a, { host: 'b', port: 80, isSecure: false, path: '/?x=1,2' }],
    'amqps://a wss://b': [
      { host: 'a', port: 5671, isSecure: true },
      { host: 'b', port: 443, isSecure: true, path: '/' },
    ],
    'amqp://me:my, word@a, amqp://b:5673': [{ ...a, user: 'me', pass: 'my, word' }, b],
  };
  for (const [text, servers] of Object.entries(taken)) {
    it(`may be ${JSON.stringify(text)}`, () => {
      should(serversOf(text)).eql(servers);
    });
  }

  const refused: Record<string, RegExp> = {
    '': /^is missing$/,
    ' ,\n, ': /^is missing$/,
    [`amqp://a\n${SECRET}`]: /^number 2 is not a URL that begins with amqp:\/\/, amqps:\/\/, ws:\/\/ or wss:\/\/$/,
    [`${SECRET}:5672`]: /^number 1 is not a URL/,
    [`amqp://a, http://me:${SECRET}@b`]: /^number 2 is a URL, but not one/,
    [`amqp://a amqp://b amqp://me:${SECRET}@c:99999`]: /^number 3 is not a valid URL$/,
    [`amqp://a\nEndpoint=sb://ns/;SharedAccessKey=${SECRET}`]: /^number 2 is a connection string/,
    [`amqp://a, ${SECRET}`]: /^number 1 /,
    [`amqp://a\namqps://me:${SECRET}@b`]: /^all servers of the list must use TLS, or none$/,
    [`wss://a ws://${SECRET}`]: /^all servers of the list must use TLS, or none$/,
  };
  for (const [text, why] of Object.entries(refused)) {
    it(`may not be ${shown(text)}, and is not repeated`, () => {
      should(() => serversOf(text)).throw(why);
      try {
        serversOf(text);
      } catch (error) {
        should(secretIn((error as Error).message)).equal(undefined);
      }
    });
  }
});
