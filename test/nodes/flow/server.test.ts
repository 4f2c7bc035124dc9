import should from 'should';
import { secretIn, secretOf } from '../../secrets';
import { isLoopback, type Server, serverOf } from '../../../nodes/flow/server';

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
  };
  for (const [text, server] of Object.entries(taken)) {
    it(`may hold ${JSON.stringify(text)}`, () => {
      should(serverOf(text)).eql(server);
    });
  }

  it('tells what stays on this computer from what goes over a network', () => {
    for (const host of ['localhost', 'LOCALHOST', '127.0.0.1', '127.1.2.3', '::1'])
      should(isLoopback(host)).be.true(host);
    for (const host of ['localhost.example', '10.127.0.1', '127.0.0.1.example', '::2', 'broker'])
      should(isLoopback(host)).be.false(host);
  });

  const refused: Record<string, RegExp> = {
    '': /is missing/,
    ' ': /is missing/,
    [`Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKeyName=n;SharedAccessKey=${SECRET}=`]: /connection string/,
    'host name': /characters/,
    [`anna:${SECRET}@broker`]: /characters/,
    [`broker/${SECRET}`]: /characters/,
    [`broker;${SECRET}`]: /characters/,
    [`broker=${SECRET}`]: /characters/,
    'broker:99999': /port/,
    'broker:0': /port/,
    [`broker:${SECRET}`]: /characters/,
    [`ws://broker/${SECRET}`]: /amqp:\/\//,
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
