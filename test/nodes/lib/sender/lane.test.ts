import { EventEmitter, once } from 'node:events';
import should from 'should';
import { Entry } from '../../../../nodes/lib/link/entry';
import { isOverdue, Lane } from '../../../../nodes/lib/sender/lane';

/** A message with this place in the order of all. */
function message(sequence: number, address = 'q'): Entry {
  return Object.assign(new Entry(Buffer.alloc(0), () => {}, { address }), { sequence });
}

const sequences = (messages: (Entry | undefined)[]) => messages.map((one) => one?.sequence);

describe('a lane', () => {
  let told: EventEmitter;
  let lane: Lane;
  beforeEach(() => {
    told = new EventEmitter();
    lane = new Lane(() => told.emit('ready'));
  });
  afterEach(() => lane.clear());

  const ready = () => once(told, 'ready');
  const push = (...messages: Entry[]) => messages.forEach((one) => lane.put(one));
  /** All that may be sent now. */
  function taken(): number[] {
    const all = [];
    for (let next = lane.shift(); next; next = lane.shift()) all.push(next.sequence);
    return all;
  }

  it('gives messages in order, also those that come back', () => {
    const [one, two, three] = [message(1), message(2), message(3)];
    push(one, two, three);
    should(sequences([lane.shift(), lane.shift()])).eql([1, 2]);
    lane.put(two);
    lane.put(one);
    should(taken()).eql([1, 2, 3]);
    should(lane.isEmpty).be.true();
  });

  it('holds up one address behind a message that was released, and no other', () => {
    const one = message(1);
    push(one, message(2), message(3, 'other'), message(4));
    lane.shift();
    lane.retry(one, true);
    should(taken()).eql([3]);
    should(lane.isRefused).be.true();
    should(lane.first).equal(one);
  });

  it('tries an address with its first message, and sends the rest once that is taken', async () => {
    const one = message(1);
    push(one, message(2), message(3));
    lane.shift();
    lane.retry(one, true);
    await ready();
    should(taken()).eql([1]);
    push(message(4));
    should(taken()).eql([]);
    lane.taken(one);
    should(taken()).eql([2, 3, 4]);
    should(lane.isRefused).be.false();
  });

  it('lets others go first where the peer takes those: then it is one message that it refuses', () => {
    const [one, two] = [message(1), message(2)];
    push(one, two, message(3));
    should(sequences([lane.shift(), lane.shift()])).eql([1, 2]);
    lane.retry(one, true);
    lane.taken(two);
    should(taken()).eql([3]);
    lane.retry(message(5), true);
    should(one.isRefusedAlone).be.true();
  });

  it('tries the second message, too, in case that only the first is refused', async () => {
    const [one, two] = [message(1), message(2)];
    push(one, two, message(3));
    lane.shift();
    const tried: number[] = [];
    for (let n = 0; n < 4; n++) {
      lane.retry(one, true);
      should(taken()).eql([]);
      await ready();
      tried.push(...taken());
    }
    should(tried).eql([1, 1, 1, 2]);
    lane.taken(two);
    should(taken()).eql([3]);
  });

  it('holds up nothing behind a message that was modified', async () => {
    const one = message(1);
    push(one, message(2));
    lane.shift();
    lane.retry(one, false);
    should(taken()).eql([2]);
    await ready();
    should(taken()).eql([1]);
  });

  it('goes on at once when the peer may take messages again', () => {
    const one = message(1);
    push(one, message(2));
    lane.shift();
    lane.retry(one, true);
    should(taken()).eql([]);
    lane.lift();
    should(isOverdue(one, 0)).be.false('its time begins anew');
    should(taken()).eql([1, 2]);
  });

  it('forgets a message wherever it is, and tries the next when it was the one that was tried', async () => {
    const [one, two, three] = [message(1), message(2), message(3)];
    push(one, two, three);
    lane.shift();
    lane.retry(one, true);
    await ready();
    should(taken()).eql([1]);
    should(lane.delete(one)).be.false('it is on its way');
    should(lane.delete(two)).be.true();
    await ready();
    should(taken()).eql([3]);
    should(lane.delete(three)).be.false();
    should(lane.isRefused).be.false();
  });

  it('knows what has waited behind a refusal for too long', () => {
    const [one, two] = [message(1), message(2)];
    push(one, two);
    lane.shift();
    lane.retry(one, true);
    taken();
    should(lane.overdue('q', 60_000)).be.empty();
    should(lane.overdue('q', 0)).eql([one, two]);
    should(lane.overdue('other', 0)).be.empty();
    should(isOverdue(message(3), 0)).be.false();
  });
});
