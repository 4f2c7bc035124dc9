import type { Source } from 'rhea';
import should from 'should';
import { openedOf, peerErrorOf, sourceOf } from '../../../../nodes/lib/wire/remote';

/** What rhea makes of maps that a peer may send: nothing can be made a text of the last. */
const ODD = [undefined, null, 5, 'text', Buffer.from('x'), [], [{}], { toString: null, valueOf: null }];

const mapOf = (open: { properties?: unknown }) => open.properties as { product?: unknown } | undefined | null;
const opened = (open: object) => openedOf(open);

describe('what a peer tells of itself', () => {
  it('in its open is read when it is what it should be', () => {
    const properties = { product: 'Broker', version: '1.0' };
    should(opened({ container_id: 'one', properties, offered_capabilities: ['a', 'b'] })).eql({
      product: { name: 'Broker', version: '1.0' },
      container: 'one',
      capabilities: ['a', 'b'],
      failover: [],
    });
    should(opened({ offered_capabilities: 'a' })).eql({
      product: { name: undefined, version: undefined },
      container: undefined,
      capabilities: ['a'],
      failover: [],
    });
    const failover = { 'failover-server-list': [{ 'network-host': 'two', port: '5673' }, 'odd'] };
    should(opened({ properties: failover }).failover).eql([{ 'network-host': 'two', port: '5673' }, 'odd']);
  });

  it('in its open can be anything', () => {
    for (const odd of ODD) {
      for (const open of [{ properties: odd }, { properties: { product: odd, version: odd } }]) {
        const { product } = opened({ ...open, offered_capabilities: odd });
        should(product.name).equal(mapOf(open)?.product === 'text' ? 'text' : undefined);
      }
    }
  });

  it('is shown on one line, and no longer than people read', () => {
    const { product } = opened({ properties: { product: `a\n\u001b[31mb${'x'.repeat(60_000)}`, version: '\r\n' } });
    should(product.name).match(/^a \[31mbx{400,}…$/);
    should(product.version).equal('');
  });

  it('in its source is read when it is what it should be, and else left out', () => {
    const source = {
      filter: { a: 1 },
      distribution_mode: 'copy',
      durable: 2,
      expiry_policy: 'never',
      capabilities: 'x',
    };
    should(sourceOf(source as unknown as Source, ['y'])).eql({
      filters: { a: 1 },
      mode: 'copy',
      durable: 2,
      expiry: 'never',
      capabilities: ['x'],
      offered: ['y'],
    });
    for (const odd of ODD) {
      const fields = Object.fromEntries(Object.keys(source).map((name) => [name, odd]));
      const { mode, durable } = sourceOf(fields as unknown as Source);
      should(mode).equal(odd === 'text' ? odd : undefined);
      should(durable).equal(odd === 5 ? odd : 0);
    }
  });

  it('in an error is text and plain data', () => {
    class Composite {
      value = [1];
    }
    const info = { a: [1, { b: Buffer.from('x') }], c: new Composite(), d: null };
    should(peerErrorOf({ condition: 'c', description: 'd', info })).eql({
      condition: 'c',
      description: 'd',
      info: { a: [1, { b: Buffer.from('x') }], c: undefined, d: null },
    });
    for (const odd of ODD) {
      const { condition } = peerErrorOf({ condition: odd, description: odd, info: odd });
      should(condition).equal(odd === 'text' ? odd : undefined);
      peerErrorOf(odd);
    }
  });
});
