import rhea, { type Source } from 'rhea';
import should from 'should';
import { type Product, sourceOf as remoteSourceOf } from '../../../../nodes/lib/wire/remote';
import { answerTo, isHarmful, type SourceOptions, sourceOf } from '../../../../nodes/lib/link/source';

const ALL: SourceOptions = { selector: 'a = 1', browse: true, durable: 2, expiry_policy: 'never', shared: true };
const echo = (options: SourceOptions, changes: object = {}, offered?: unknown) =>
  remoteSourceOf({ ...sourceOf(options), ...changes } as Source, offered);
/** Each with a value that peers can read. */
const filtered = (...names: string[]): SourceOptions => ({
  filters: names.map((name) => ({ name, descriptor: name, value: 'x' })),
});

const harm = (options: SourceOptions, ignored: string[], unsure: string[] = []) =>
  isHarmful(options, { ignored, unsure });

describe('source', () => {
  it('asks for nothing that was not asked for', () => {
    should(sourceOf({})).eql({});
  });

  it('asks for a selector as JMS clients do', () => {
    should(sourceOf({ selector: "colour = 'red'" })).eql({ filter: rhea.filter.selector("colour = 'red'") });
  });

  it('asks for capabilities as an array (R56)', () => {
    should(sourceOf({ kind: 'topic' })).eql({ capabilities: ['topic'] });
    should(sourceOf({ kind: 'topic', shared: true })).eql({ capabilities: ['topic', 'shared', 'global'] });
  });

  it('asks to read without removing, and to keep the subscription', () => {
    should(sourceOf({ browse: true })).eql({ distribution_mode: 'copy' });
    should(sourceOf({ durable: 2, expiry_policy: 'never' })).eql({ durable: 2, expiry_policy: 'never' });
  });

  it('asks for what a person names: capabilities, a time, a mode', () => {
    should(sourceOf({ timeout: 0, distribution_mode: 'move', capabilities: ['a', 'b'] })).eql({
      timeout: 0,
      distribution_mode: 'move',
      capabilities: ['a', 'b'],
    });
    should(sourceOf({ browse: true, distribution_mode: 'move' })).eql({ distribution_mode: 'copy' });
  });

  it('asks for each capability once', () => {
    const options: SourceOptions = { kind: 'topic', shared: true, capabilities: ['topic', 'mine', 'global'] };
    should(sourceOf(options)).eql({ capabilities: ['topic', 'shared', 'global', 'mine'] });
  });

  it('tells by name which filters the peer has not taken', () => {
    const filters = [
      { name: 'one', value: 'x' },
      { name: 'two', value: 'y' },
    ];
    const answer = (filter: object | undefined, more: SourceOptions = {}) =>
      answerTo({ filters, ...more }, remoteSourceOf({ filter } as Source), {}).ignored;
    should(answer({ one: 'x', two: 'y' })).eql([]);
    should(answer({ two: 'y' })).eql(['one']);
    should(answer({ one: null, two: 'y' })).eql(['one']);
    should(answer(undefined)).eql(['one', 'two']);
    // By whatever key a selector comes back: not by that of a filter.
    should(answer({ one: 'x', two: 'y' }, { selector: 'a = 1' })).eql(['selector']);
    should(answer({ one: 'x', two: 'y', 'jms-selector': 'a = 1' }, { selector: 'a = 1' })).eql([]);
  });

  it('does harm where messages would come that are to be kept away, unless that is wanted', () => {
    const filters = [{ name: 'one', value: 'x' }];
    should(harm({ selector: 'a' }, ['selector'])).equal(true);
    should(harm({ filters }, ['one'])).equal(true);
    should(harm({ filters, unfiltered: true }, ['one'])).equal(false);
    should(harm({ selector: 'a', unfiltered: true }, ['selector'])).equal(false);
    should(harm({ browse: true, unfiltered: true }, ['browse'])).equal(true);
    should(harm({ browse: true }, [], ['browse'])).equal(true);
    should(harm({ filters, durable: 2 }, ['durable'])).equal(false);
    should(harm({ filters }, [])).equal(false);
  });

  it('tells of no option that the peer confirms', () => {
    should(answerTo(ALL, echo(ALL), {})).eql({ ignored: [], unsure: [] });
    should(answerTo({}, remoteSourceOf({} as Source), { name: 'RabbitMQ', version: '3.13.7' })).eql({
      ignored: [],
      unsure: [],
    });
  });

  const missing: [name: string, changes: object, ignored: string[]][] = [
    ['no filter', { filter: undefined }, ['selector']],
    ['an empty filter', { filter: {} }, ['selector']],
    ['no distribution mode', { distribution_mode: undefined }, ['browse']],
    ['the distribution mode move', { distribution_mode: 'move' }, ['browse']],
    ['no durability', { durable: 0 }, ['durable']],
    ['an earlier end', { expiry_policy: 'session-end' }, ['durable']],
    ['no capabilities', { capabilities: undefined }, ['shared']],
    ['another capability', { capabilities: 'topic' }, ['shared']],
  ];
  for (const [name, changes, ignored] of missing) {
    it(`tells what the peer ignores when it answers with ${name}`, () => {
      should(answerTo(ALL, echo(ALL, changes), {}).ignored).eql(ignored);
    });
  }

  it('takes a lower durability for one: some peers have one kind only', () => {
    should(answerTo(ALL, echo(ALL, { durable: 1 }), {}).ignored).be.empty();
  });

  const products: [product: Product, ignored: string[]][] = [
    [{ name: 'RabbitMQ', version: '3.10.8' }, ['selector', 'browse', 'durable', 'shared']],
    [{ name: 'RabbitMQ', version: '4.0.5' }, ['selector', 'browse']],
    [{ name: 'RabbitMQ', version: '4.3.6' }, ['browse']],
    [{ name: 'ActiveMQ', version: '6.3.1' }, ['shared']],
    [{ name: 'apache-activemq-artemis', version: '2.56.0' }, []],
  ];
  for (const [product, ignored] of products) {
    it(`knows what ${product.name} ${product.version ?? ''} confirms and does not do`, () => {
      should(answerTo(ALL, echo(ALL), product)).eql({ ignored, unsure: [] });
    });
  }

  for (const name of ['qpid-dispatch-router', 'skupper-router']) {
    it(`cannot tell what a link route of ${name} does that confirms`, () => {
      const answer = { ignored: [], unsure: ['selector', 'browse', 'durable'] };
      should(answerTo(ALL, echo(ALL), { name })).eql(answer);
      should(answerTo(ALL, echo(ALL, { filter: {} }), { name })).eql({
        ignored: ['selector'],
        unsure: ['browse', 'durable'],
      });
    });
  }

  it('tells which filters the peer does not give back', () => {
    const options = filtered('one', 'two', 'three');
    should(answerTo(options, echo(options, { filter: { one: 'x', three: null } }), {})).eql({
      ignored: ['two', 'three'],
      unsure: [],
    });
    should(answerTo(options, echo(options), {})).eql({ ignored: [], unsure: [] });
  });

  const STREAM = ['rabbitmq:stream-offset-spec', 'rabbitmq:stream-filter', 'rabbitmq:stream-match-unfiltered'];
  const PROPERTIES = ['properties-filter', 'application-properties-filter'];
  const OTHERS = ['sql-filter', 'no-local'];
  const RABBITMQ: [version: string, offered: string[] | undefined, answer: { ignored: string[]; unsure: string[] }][] =
    [
      ['3.10.8', undefined, { ignored: [...STREAM, ...PROPERTIES, ...OTHERS], unsure: [] }],
      // Of its streams, too.
      ['4.0.5', undefined, { ignored: [...PROPERTIES, ...OTHERS], unsure: STREAM }],
      ['4.1.0', ['AMQP_FILTEX_PROP_V1_0'], { ignored: ['sql-filter'], unsure: [] }],
      ['4.3.6', undefined, { ignored: [...STREAM, ...PROPERTIES, ...OTHERS], unsure: [] }],
      ['4.3.6', ['AMQP_FILTEX_PROP_V1_0', 'AMQP_FILTEX_SQL_V1_0'], { ignored: [], unsure: [] }],
    ];
  for (const [version, offered, answer] of RABBITMQ) {
    it(`knows which filters RabbitMQ ${version} gives back in vain by a link that offers ${offered?.join() ?? 'none'}`, () => {
      const options = filtered(...STREAM, ...PROPERTIES, ...OTHERS);
      const source = echo(options, {}, offered);
      should(answerTo(options, source, { name: 'RabbitMQ', version })).eql(answer);
      should(answerTo({ ...options, trust: true }, source, { name: 'RabbitMQ', version })).eql({
        ignored: [],
        unsure: [],
      });
    });
  }

  it('knows that a stream of RabbitMQ can be browsed', () => {
    const [options, product] = [{ browse: true }, { name: 'RabbitMQ', version: '4.3.6' }];
    should(answerTo(options, echo(options, {}, ['AMQP_FILTEX_PROP_V1_0']), product).ignored).be.empty();
    should(answerTo(options, echo(options), product).ignored).eql(['browse']);
  });

  it('believes what is confirmed where it is to be trusted, and nothing else', () => {
    const trusting = { ...ALL, trust: true };
    should(answerTo(trusting, echo(trusting), { name: 'skupper-router' })).eql({ ignored: [], unsure: [] });
    should(answerTo(trusting, echo(trusting, { filter: {} }), { name: 'skupper-router' }).ignored).eql(['selector']);
  });
});
