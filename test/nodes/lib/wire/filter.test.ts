import rhea from 'rhea';
import should from 'should';
import { type Filter, filtersOf, isFilter } from '../../../../nodes/lib/wire/filter';

/** As rhea has it before it writes it: types, and what describes each. */
type Written = Record<string, { value: unknown; descriptor?: { value: unknown; type: { name: string } } }>;
const written = (...filters: Filter[]) => filtersOf({ filters }) as Written;

describe('the filters of a source', () => {
  it('are none where nothing is asked for', () => {
    should(filtersOf({})).equal(undefined);
    should(filtersOf({ selector: '', events: '', filters: [] })).equal(undefined);
  });

  it('are described by a code', () => {
    const { local } = written({ name: 'local', descriptor: 0x468c00000003, value: [] });
    should(local!.descriptor).match({ value: 0x468c00000003, type: { name: /Ulong/ } });
  });

  it('are described by a symbol', () => {
    const { offset } = written({ name: 'offset', descriptor: 'rabbitmq:stream-offset-spec', value: 'first' });
    should(offset!.descriptor).match({ value: 'rabbitmq:stream-offset-spec', type: { name: /Sym/ } });
    should(offset!.value).equal('first');
  });

  it('stand plain where nothing describes them', () => {
    const { partition } = written({ name: 'partition', value: { $amqp: 'int', value: 3 } });
    should(partition!.value).equal(3);
    should(partition!.descriptor).equal(undefined);
  });

  it('stand beside a selector, a session and the beginning of a partition', () => {
    const all = filtersOf({
      selector: 'a = 1',
      session: null,
      events: "amqp.annotation.x-opt-offset > '1'",
      filters: [{ name: 'mine', value: 'x' }],
    });
    should(Object.keys(all!)).eql([
      ...Object.keys(rhea.filter.selector('a = 1')),
      'com.microsoft:session-filter',
      'apache.org:selector-filter:string',
      'mine',
    ]);
  });

  it('can be sent where name and descriptor are symbols, and the value has a type', () => {
    should(isFilter({ name: 'a', value: 'x' })).equal(true);
    should(isFilter({ name: 'a', descriptor: 'b', value: { list: [1] } })).equal(true);
    should(isFilter({ name: 'a', descriptor: 7, value: false })).equal(true);
    for (const wrong of [
      { name: '', value: 'x' },
      { name: 'ä', value: 'x' },
      { name: 'a', descriptor: '', value: 'x' },
      { name: 'a', descriptor: 'ü', value: 'x' },
      { name: 'a', value: undefined },
      { name: 'a', value: { $amqp: 'ubyte', value: -1 } },
    ])
      should(isFilter(wrong)).equal(false);
  });
});
