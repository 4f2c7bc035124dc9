// Every example flow as it is shipped, on the embedded broker: only ports are changed.
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import should from 'should';
import { Broker, type Disposition } from '../../broker/broker';
import { MqttBroker } from '../doubles/mqtt-broker';
import {
  allShown,
  ask,
  exampleFiles,
  idOf,
  isConnected,
  loadExample,
  press,
  readExample as read,
  shown,
  startExamples,
} from '../example';
import { collect, message, payloadsOf, status } from '../flow';
import helper, { type NodeConfig } from '../node-red';

const root = join(__dirname, '..', '..');
/** Those for beginners, in the order in which they are read. */
const files = exampleFiles();
/** Those that show what stands around Node-RED: each has a test in test/systems or test/brokers. */
const systems = exampleFiles('Systems');
const all = [...files, ...systems];
const titleOf = (file: string) => file.replace('.json', '');
const ofType = (file: string, type: string) => read(file).filter((node) => node.type === type);
/** Examples in which two parts are apart: each has its own endpoint. */
const APART = ['10 - Back-pressure.json', '12 - Forward between two servers.json'];

const times = (count: number, word: string) => Array.from({ length: count }, () => word);

async function subscriptions(): Promise<unknown> {
  const told = shown('subscriptions');
  press('3. list');
  return (await told).payload;
}

/** Waits until the broker has done something that makes it true. */
async function until(broker: Broker, isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await Promise.race(['message', 'settled', 'detach'].map((event) => once(broker, event)));
}

describe('The example', () => {
  let broker: Broker;

  startExamples((started) => (broker = started));

  const settled = async (): Promise<Disposition> => (await once(broker, 'settled'))[0];
  /** What becomes of an order in the end. */
  const ended = async (address: string) => {
    for (;;) {
      const disposition = await settled();
      if (disposition.address === address && disposition.state !== 'modified') return disposition;
    }
  };
  const detached = () => once(broker, 'detach');

  const load = (file: string, ports?: Record<string, number>) => loadExample(file, broker.port, ports);

  /** What each of them promises. */
  const runs: Record<string, (file: string) => Promise<void>> = {
    '01 - Hello.json': async (file) => {
      await load(file);
      const [sent, received] = [shown('sent'), allShown('received', 2)];
      press('1. send Hello');
      should((await sent).sent).match({ address: 'example.hello', state: 'accepted' });
      press('2. send a reading with properties');
      const [hello, reading] = await received;
      should(hello).match({ payload: 'Hello', topic: 'example.hello' });
      should(reading).match({
        payload: { temperature: 21.5 },
        amqp: { subject: 'reading', durable: true, application_properties: { room: 'kitchen' } },
      });

      broker.answer('example.hello', 'reject', 1);
      const failed = shown('why not');
      press('1. send Hello');
      should((await failed).error).match({ code: 'AMQP_REJECTED' });
    },

    '02 - Process, then settle.json': async (file) => {
      await load(file);
      const processed = shown('processed');
      const good = settled();
      press('1. a good order');
      should((await processed).payload).deepEqual({ item: 'tea', amount: 2, state: 'processed' });
      should(await good).match({ address: 'example.orders', state: 'accepted' });
      const bad = settled();
      press('2. a bad order');
      should(await bad).match({ address: 'example.orders', state: 'rejected' });
      broker.depth('example.orders').should.equal(0);
    },

    '03 - Request and reply.json': async (file) => {
      await load(file);
      const [accepted, reply] = [shown('accepted'), shown('reply')];
      press('1. ask for a greeting');
      should(await accepted).match({ sent: { state: 'accepted' } });
      should(await reply).match({ payload: 'Hello, Ada' });

      const refusal = shown('reply');
      press('2. ask without a name');
      should(await refusal).match({ payload: { error: 'Error: a greeting needs a name' } });

      broker.answer('example.greetings', 'reject', 1);
      const failed = shown('why not');
      press('1. ask for a greeting');
      should((await failed).error).match({ code: 'AMQP_REJECTED' });
    },

    '04 - Competing consumers.json': async (file) => {
      await load(file);
      await Promise.all(['worker A', 'worker B'].map((name) => isConnected('amqp-receiver', name)));
      const done = ['A', 'B'].map((name) => collect(idOf('debug', `done by ${name}`)));
      press('1. send six jobs');
      await until(broker, () => broker.dispositions.length === 6);
      should(
        done
          .flatMap(payloadsOf)
          .map(Number)
          .toSorted((a, b) => a - b),
      ).deepEqual([1, 2, 3, 4, 5, 6]);
      for (const jobs of done) jobs.length.should.be.above(0);
      broker.depth('example.jobs').should.equal(0);
    },

    '05 - Dead letters.json': async (file) => {
      await load(file);
      const orders = 'example.orders.in';
      const processed = shown('processed');
      const accepted = ended(orders);
      press('1. a good order');
      should(await processed).match({ payload: { item: 'tea', amount: 2 } });
      should(await accepted).match({ state: 'accepted' });

      const letter = shown('dead letter');
      const buried = ended(orders);
      press('2. one that fails each time');
      should(await letter).match({
        payload: { item: 'tea' },
        topic: 'example.orders.dead',
        amqp: { application_properties: { reason: 'gave up after 3 attempts' } },
      });
      should(await buried).match({ state: 'accepted' });
      const attempts = broker.dispositions.filter(({ state }) => state === 'modified');
      attempts.length.should.equal(3);

      const rejected = ended(orders);
      press('3. one without an item');
      should(await rejected).match({
        state: 'rejected',
        error: { condition: 'amqp:decode-error', description: 'an order needs an item' },
      });
      should(broker.messages('DLQ')).match([{ body: { amount: 2 } }]);
      broker.depth(orders).should.equal(0);
    },

    '06 - Retry with a delay.json': async (file) => {
      await load(file);
      const [why, pauses] = [shown('why'), allShown('tries again in (ms)', 2)];
      press('1. switch the machine off');
      press('2. send an order');
      should((await why).error).match({ message: 'Error: the machine is off' });
      should((await pauses).map(({ delay }) => delay)).deepEqual([1000, 2000]);
      broker.depth('example.retries').should.equal(1);
      const processed = shown('processed');
      press('3. switch it on again');
      should(await processed).match({ payload: { item: 'tea', amount: 2 }, amqp: { delivery_count: 2 } });
      await until(broker, () => broker.depth('example.retries') === 0);
      should(broker.dispositions.map(({ state }) => state)).deepEqual(['modified', 'modified', 'accepted']);
    },

    '07 - Durable subscription.json': async (file) => {
      await load(file);
      await isConnected('amqp-receiver', 'prices');
      const left = detached();
      press('1. go away');
      should(await left).match([{ closed: false }]);
      const published = once(broker, 'message');
      press('2. publish a price');
      await published;
      const price = shown('price');
      press('3. come back');
      should((await price).payload).be.a.Number();

      await isConnected('amqp-receiver', 'prices');
      const gone = detached();
      press('4. unsubscribe');
      should(await gone).match([{ closed: true }]);
    },

    '08 - Browse a queue.json': async (file) => {
      await load(file);
      press('1. put three in');
      await until(broker, () => broker.ready('example.shelf') === 3);
      for (let looks = 0; looks < 2; looks++) {
        const seen = allShown('seen', 3);
        press('2. look');
        should(payloadsOf(await seen)).deepEqual(['tea', 'coffee', 'cocoa']);
      }
      broker.depth('example.shelf').should.equal(3);
      const taken = shown('taken');
      press('3. take one');
      should((await taken).payload).equal('tea');
      await until(broker, () => broker.depth('example.shelf') === 2);
    },

    '09 - Broadcast.json': async (file) => {
      await load(file);
      const rooms = ['kitchen', 'office', 'garden'];
      await Promise.all(rooms.map((name) => isConnected('amqp-receiver', `in the ${name}`)));
      const heard = rooms.map((name) => shown(`heard in the ${name}`));
      press('1. announce lunch');
      should(payloadsOf(await Promise.all(heard))).deepEqual(rooms.map(() => 'Lunch is ready'));
    },

    '10 - Back-pressure.json': async (file) => {
      await load(file);
      await Promise.all([isConnected('amqp-sender', 'send'), isConnected('amqp-receiver', 'five at a time')]);
      const queue = 'example.load';
      let most = 0;
      const slow = helper.getNode(idOf('delay', 'two a second'));
      slow.on('input', () => (most = Math.max(most, broker.unsettled(queue))));
      const processed = allShown('processed', 3);
      press('1. send 20 messages');
      await processed;
      most.should.equal(5);
      broker.ready(queue).should.be.above(10);

      const sender = idOf('amqp-sender', 'send');
      broker.holdCredit(queue);
      const told = shown('status');
      press('1. send 20 messages');
      await status(sender, '.buffering');
      should((await told)['status']).match({ amqp: { state: 'buffering', count: 20 } });
      broker.giveCredit(queue);
      await status(sender, '.connected');

      press('2. disconnect');
      await status(sender, '.idle');
      const refused = allShown('refused', 10);
      press('1. send 20 messages');
      press('1. send 20 messages');
      for (const { error } of await refused) should(error).match({ code: 'AMQP_BUFFER_FULL' });
      press('3. connect');
      await until(broker, () => broker.received[queue] === 20 + 20 + 30);
    },

    '11 - MQTT to AMQP, with a disk buffer.json': async (file) => {
      const mqtt = await MqttBroker.start();
      try {
        await load(file, { mqtt: mqtt.port });
        await status(idOf('mqtt in', 'all devices'), '.connected');
        const reading = shown('reading');
        press('1. publish a reading by MQTT');
        should(await reading).match({
          payload: { degrees: 21.5 },
          amqp: { subject: 'example/kitchen/temperature', content_type: 'application/json' },
        });
        await until(broker, () => broker.depth('example.readings') === 0);

        await broker.stop();
        const sender = idOf('amqp-sender', 'readings');
        await status(sender, '.reason.refused');
        press('2. a reading without MQTT');
        await status(sender, '.count)');
        await helper.unload();
        await broker.resume();
        await load(file, { mqtt: mqtt.port });
        should(await shown('reading')).match({
          payload: { degrees: 19 },
          amqp: { subject: 'example/cellar/temperature' },
        });
        await helper.unload();
      } finally {
        await mqtt.stop();
      }
    },

    '12 - Forward between two servers.json': async (file) => {
      const second = await Broker.start();
      try {
        second.holdCredit('example.second');
        await load(file, { second: second.port });
        const [waiting, arrived] = [message(idOf('amqp-sender', 'to the second')), shown('arrived')];
        press('1. send to the first server');
        await waiting;
        broker.unsettled('example.first').should.equal(1);
        const accepted = settled();
        second.giveCredit('example.second');
        should(await accepted).match({ address: 'example.first', state: 'accepted' });
        should(await arrived).match({ payload: { item: 'tea', amount: 2 } });

        second.answer('example.second', 'reject', 1);
        const again = shown('arrived');
        press('1. send to the first server');
        should(await settled()).match({ address: 'example.first', state: 'modified' });
        await again;
        broker.depth('example.second').should.equal(0);
        await helper.unload();
      } finally {
        await second.stop();
      }
    },

    '13 - Subscribe by msg.json': async (file) => {
      await load(file);
      await status(idOf('amqp-receiver', 'rooms'), '.unsubscribed');
      press('1. subscribe to the kitchen');
      const received = shown('message');
      press('2. send to the kitchen');
      should(await received).match({ payload: 21, delivery: { address: 'example.kitchen' } });
      press('4. and to the cellar');
      const fromCellar = shown('message');
      press('2. send to the cellar');
      should(await fromCellar).match({ payload: 21, delivery: { address: 'example.cellar' } });
      should(await subscriptions()).match([{ address: 'example.kitchen' }, { address: 'example.cellar', window: 5 }]);

      const failed = shown('why not');
      press('1. subscribe to the kitchen');
      should((await failed).error).match({ code: 'AMQP_BAD_INPUT' });
      press('5. no more of the kitchen');
      let left: unknown;
      do left = await subscriptions();
      while ((left as object[]).length > 1);
      should(left).match([{ address: 'example.cellar' }]);
      press('6. no more at all');
      await status(idOf('amqp-receiver', 'rooms'), '.unsubscribed');
      should(await subscriptions()).deepEqual([]);
    },

    '14 - Batch.json': async (file) => {
      await load(file);
      const stored = async (name: string, count: number) => {
        const batch = shown('stored');
        const before = broker.dispositions.length;
        press(name);
        const { payload } = await batch;
        await until(broker, () => broker.dispositions.length === before + count);
        return { payload, states: broker.dispositions.slice(before).map(({ state }) => state) };
      };
      should(await stored('1. five readings', 5)).deepEqual({
        payload: [20, 21, 22, 23, 24],
        states: times(5, 'accepted'),
      });
      should(await stored('2. two readings', 2)).deepEqual({ payload: [18, 19], states: times(2, 'accepted') });
      const { payload, states } = await stored('3. five, one is a word', 5);
      should(payload).deepEqual([20, 21, 23, 24]);
      should(states.toSorted()).deepEqual([...times(4, 'accepted'), 'rejected']);
      should(broker.dispositions.find(({ state }) => state === 'rejected')).match({
        error: { description: 'not a number' },
      });
    },

    '15 - Counters.json': async (file) => {
      await load(file);
      await isConnected('amqp-receiver', 'orders in');
      const received = shown('message');
      press('1. send an order');
      should(await received).match({ payload: { item: 'tea', amount: 2 } });
      await until(broker, () => broker.dispositions.length === 1);
      const counters = allShown('counters', 2);
      press('ask every 5 seconds');
      const told = (await counters).map(({ payload }) => payload as { name: string });
      should(told.find(({ name }) => name === 'orders out')).match({ state: 'connected', sent: 1, accepted: 1 });
      should(told.find(({ name }) => name === 'orders in')).match({ state: 'connected', received: 1, held: 0 });
      const { text: page } = await ask('/amqp-counters');
      page.should.match(/orders out *<td>example\.counted *<td>connected *<td>1/);
    },
  };

  for (const file of files) {
    it(`${titleOf(file)} does what it says`, async () => {
      should(runs).have.property(file);
      await runs[file]!(file);
    });
  }
});

describe('The examples', () => {
  it('share no node id, so that several can be imported side by side without a question', () => {
    const ids = all.flatMap((file) => read(file).map(({ id }) => id));
    ids.filter((id, index) => ids.indexOf(id) < index).should.be.empty();
  });

  it('share no address, so that none of them takes the messages of another', () => {
    const used = all.flatMap((file) => {
      const addresses = JSON.stringify(read(file)).match(/example\.[a-z.]+/g) ?? [];
      return [...new Set(addresses.map((address) => address.replace(/\.$/, '')))].map((address) => ({ file, address }));
    });
    const replies = 'example.replies';
    const own = used.filter(({ address }) => address !== replies);
    own.length.should.be.above(files.length);
    own.filter(({ address }, index) => own.findIndex((one) => one.address === address) < index).should.be.empty();
  });

  it('name nodes that are there, and the endpoint is one of their own', () => {
    for (const file of all) {
      const nodes = read(file);
      const ids = new Set(nodes.map(({ id }) => id));
      for (const { type, z, g, wires = [], scope = [], endpoint = [], broker = [], nodes: members = [] } of nodes) {
        // The scope of an endpoint is that of OAuth, and the broker of an MQTT broker its host.
        const isConfig = z === undefined;
        const named = [z ?? [], g ?? [], wires, isConfig ? [] : [scope ?? [], endpoint, broker], members].flat(3);
        named.filter((id) => !ids.has(id as string)).should.deepEqual([], `${file}, ${type}`);
      }
    }
  });

  it('have a page and a test where they are of a system around Node-RED', () => {
    for (const folders of [['docs'], ['test/systems', 'test/brokers']])
      systems.filter((file) => !textsIn(...folders).includes(titleOf(file))).should.deepEqual([], folders.join());
  });

  it('have one endpoint, at localhost, or one for each side', () => {
    for (const file of files) {
      const endpoints = ofType(file, 'amqp-endpoint');
      endpoints.should.have.length(APART.includes(file) ? 2 : 1, file);
      for (const { host, port, name } of endpoints) {
        should({ host, port }).deepEqual({ host: 'localhost', port: 5672 });
        should(name).startWith(`example server ${file.slice(0, 2)}`);
      }
    }
  });

  it('for Azure take their connection strings from the environment, and verify who answers', () => {
    const ofAzure = systems.filter((file) => basename(file).startsWith('Azure '));
    ofAzure.should.have.length(3);
    for (const endpoint of ofAzure.flatMap((file) => ofType(file, 'amqp-endpoint')))
      should(endpoint).match({ host: /^\$\{AZURE_\w+\}$/, port: 5671, usetls: true, rejectUnauthorized: true });
  });

  it('say on the canvas what to press, and what it is about', () => {
    for (const file of all) {
      const [comment, ...more] = ofType(file, 'comment');
      more.should.be.empty();
      should(comment!['name']).match(/^Press /, file);
      String(comment!['info']).length.should.be.above(200, file);
      should(ofType(file, 'inject')[0]!['name']).match(/^1\. /, file);
      const [tab] = ofType(file, 'tab');
      should(titleOf(basename(file)).replace(' - ', ' ')).startWith(String(tab!['label']));
    }
  });

  it('have all that the forms save, so that no value is one of an older version', () => {
    for (const type of ['amqp-endpoint', 'amqp-sender', 'amqp-receiver', 'amqp-requester', 'amqp-responder']) {
      const form = readFileSync(join(root, 'nodes', `${type}.html`), 'utf8');
      const [, indent = '', defaults = ''] = /\n( +)defaults: \{\n(.*?)\n\1\},/s.exec(form)!;
      const [current = ''] = defaults.split('// Of node-red-contrib-rhea');
      const names = [...current.matchAll(new RegExp(`^${indent}  (\\w+): \\{(?!\\})`, 'gm'))].map(([, name]) => name!);
      names.length.should.be.above(10);
      for (const node of all.flatMap((file) => ofType(file, type)))
        names.filter((name) => !(name in node)).should.deepEqual([], node.id);
    }
  });

  it('are laid out from left to right, and no node covers another', () => {
    for (const file of all) {
      const placed = read(file).filter((node) => 'x' in node && node.type !== 'group');
      const boxes = placed.map(boxOf);
      for (const box of boxes) boxes.filter((other) => overlap(box, other)).should.deepEqual([box], file);
      for (const group of ofType(file, 'group')) {
        const frame = frameOf(group);
        const inside = boxes.filter((box) => overlap(frame, box)).map(({ id }) => id);
        should(inside).deepEqual(group['nodes'], `${file}, ${String(group['name'])}`);
      }
    }
  });
});

/** All that pages and tests say. */
function textsIn(...folders: string[]): string {
  return folders
    .flatMap((folder) => readdirSync(join(root, folder)).map((file) => join(root, folder, file)))
    .filter((file) => /\.(md|ts)$/.test(file))
    .map((file) => readFileSync(file, 'utf8'))
    .join();
}

type Box = { id: string; left: number; right: number; top: number; bottom: number };

/** About what the editor draws. */
function boxOf({ id, name, x, y }: NodeConfig): Box {
  const half = Math.max(100, 60 + String(name).length * 6.2) / 2;
  const [left, right] = [Number(x) - half, Number(x) + half];
  left.should.be.aboveOrEqual(0, id);
  return { id, left, right, top: Number(y) - 20, bottom: Number(y) + 20 };
}

function frameOf({ id, x, y, w, h }: NodeConfig): Box {
  return { id, left: Number(x), right: Number(x) + Number(w), top: Number(y), bottom: Number(y) + Number(h) };
}

function overlap(a: Box, b: Box): boolean {
  return a.top < b.bottom && b.top < a.bottom && a.left < b.right && b.left < a.right;
}
