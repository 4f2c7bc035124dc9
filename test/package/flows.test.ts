// The flows of the how-to pages in docs, with the embedded broker, or with clients of their own: only the port is another one. And
// what pages say that does not work.
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import rhea, { type Connection, type EventContext, type Source } from 'rhea';
import should from 'should';
import { Broker, type BrokerOptions } from '../../broker/broker';
import { freePort } from '../../scripts/free-port';
import { exampleFiles, readExample, startHelper } from '../example';
import { collect, message, messages, type Msg, nodes, status } from '../flow';
import helper, { coreNode, type NodeConfig } from '../node-red';

const CORE = [
  'common/20-inject',
  'common/21-debug',
  'common/24-complete',
  'common/25-catch',
  'common/90-comment',
  'function/10-function',
  'function/10-switch',
  'function/15-change',
  'sequence/17-split',
].map(coreNode);

const root = join(__dirname, '..', '..');
const docs = join(root, 'docs');
const folder = join(docs, 'flows');
const files = readdirSync(folder).toSorted();
const read = (file: string): NodeConfig[] => JSON.parse(readFileSync(join(folder, file), 'utf8'));
const textOf = (file: string) => readFileSync(join(docs, file), 'utf8');
/** The page that is about a flow, where it does not have its name. */
const PAGES: Record<string, string> = {
  'groups.json': 'receiving.md',
  'rabbitmq-management.json': 'requests.md',
  'several-replies.json': 'requests.md',
  'subscriptions.json': 'receiving.md',
  'together.json': 'receiving.md',
};
const pageOf = (file: string) => PAGES[file] ?? file.replace(/json$/, 'md');
/** The flows of these are examples. */
const ofAzure = readdirSync(docs).filter((file) => file.startsWith('azure-'));

let flow: NodeConfig[];

/** A node of the flow, by its type and name. */
function idOf(type: string, name: string): string {
  const found = flow.find((candidate) => candidate.type === type && candidate['name'] === name);
  if (!found) throw new Error(`there is no ${type} ${name}`);
  return found.id;
}

/** Presses the button of an inject node. */
const press = (name: string) => helper.getNode(idOf('inject', name)).receive({});
/** The next message that a debug node shows. */
const shown = (name: string) => message(idOf('debug', name));
const isConnected = (type: string, name: string) => status(idOf(type, name), '.connected');

/** A flow with an endpoint at this port. */
async function loadAt(port: number, file: string): Promise<void> {
  flow = read(file);
  for (const node of flow) if (node.type === 'amqp-endpoint') Object.assign(node, { port });
  helper.settings({ amqpEndpointReconnectTime: 20, amqpEndpointLoginRetryTime: 40 });
  await helper.load([...nodes, ...CORE], flow);
}

/** Deploys the flow with a node that has these properties now. */
async function deploy(id: string, properties: object): Promise<void> {
  flow = flow.map((node) => (node.id === id ? { ...node, ...properties } : node));
  await helper.setFlows(flow, 'nodes');
}

/** Of a client of rhea's. */
const next = async (from: NodeJS.EventEmitter, event: string) => (await once(from, event))[0] as EventContext;

describe('The flows of the how-to pages', () => {
  startHelper();

  describe('for clients that connect to Node-RED', () => {
    let port: number;
    let connections: Connection[];

    beforeEach(async () => {
      connections = [];
      port = await freePort(5673);
      await loadAt(port, 'listen.json');
      await isConnected('amqp-receiver', 'commands');
    });
    afterEach(async () => {
      for (const connection of connections) connection.close();
      await helper.unload();
    });

    /** Another client than our own. */
    const client = (): Connection => {
      const connection = rhea.create_container().connect({
        host: '127.0.0.1',
        port,
        username: 'anonymous',
        reconnect: false,
      });
      // What is refused is looked at where it is expected.
      connection.on('error', () => {});
      connections.push(connection);
      return connection;
    };

    it('take what they send, and tell them what was not done', async () => {
      const [accepted, reading] = [shown('accepted'), shown('reading')];
      press('21 degrees');
      should(await accepted).match({ sent: { address: 'readings', state: 'accepted' } });
      should((await reading).payload).deepEqual({ degrees: 21 });
      const why = shown('why not');
      press('no degrees');
      should((await why).error).match({ code: 'AMQP_REJECTED', message: /no degrees/ });
    });

    it('do the same with clients of other makes', async () => {
      const sender = client().open_sender('readings');
      await next(sender, 'sendable');
      sender.send({ body: { degrees: 22 } });
      await next(sender, 'accepted');
      sender.send({ body: 'none' });
      const { delivery } = await next(sender, 'rejected');
      should(delivery!.remote_state).match({ error: { condition: 'amqp:internal-error', description: /no degrees/ } });
    });

    it('answer requests, and say what could not be answered', async () => {
      const answer = shown('answer');
      press('21 °C');
      should((await answer).payload).equal(69.8);
      const why = shown('why not');
      press('a word');
      should((await why).error).match({ code: 'AMQP_REPLY_STATUS', message: /500 \(.*not a number/ });
    });

    it('make addresses for the replies to other clients', async () => {
      const connection = client();
      const replies = connection.open_receiver({ source: { dynamic: true } as Source });
      await next(replies, 'receiver_open');
      const address = (replies as unknown as { remote: { attach: { source: { address: string } } } }).remote.attach
        .source.address;
      should(address).match(/^temporary\//);
      const sender = connection.open_sender('convert');
      await next(sender, 'sendable');
      sender.send({ message_id: 1, reply_to: address, body: 100 });
      const { message: reply } = await next(replies, 'message');
      should(reply).match({ correlation_id: 1, body: 212 });
    });

    it('give each of them a copy of what is sent', async () => {
      const other = client().open_receiver('commands');
      await next(other, 'receiver_open');
      const [command, message_, delivered] = [shown('command'), next(other, 'message'), shown('delivered')];
      press('switch on');
      should((await command).payload).deepEqual({ lamp: 'on' });
      should((await message_).message!.body).deepEqual({ lamp: 'on' });
      should(await delivered).match({ sent: { address: 'commands', state: 'accepted' } });
    });

    it('tell them of an address that is not there, and of a node that is gone', async () => {
      const connection = client();
      const nowhere = connection.open_sender('nowhere');
      const { sender } = await next(nowhere, 'sender_error');
      should(sender!.error).match({ condition: 'amqp:not-found' });
      const readings = connection.open_sender('readings');
      await next(readings, 'sendable');
      const gone = next(readings, 'sender_error');
      await deploy('amqp-listen-readings', { creditwindow: 50 });
      should((await gone).sender!.error).match({ condition: 'amqp:link:detach-forced' });
      // Our own attach again by themselves.
      const accepted = shown('accepted');
      press('21 degrees');
      await accepted;
    });
  });

  describe('for a server', () => {
    let broker: Broker;

    afterEach(async () => {
      await helper.unload();
      await broker.stop();
    });

    const start = async (file: string, options: BrokerOptions = {}) => {
      broker = await Broker.start(options);
      await loadAt(broker.port, file);
    };

    it('subscribe as their messages say', async () => {
      await start('subscriptions.json');
      const receiver = idOf('amqp-receiver', 'rooms');
      await status(receiver, 'connected');
      const hall = shown('message');
      press('to the hall');
      should(await hall).match({ payload: 21, topic: 'rooms.hall' });

      press('kitchen');
      press('cellar');
      const list = shown('subscriptions');
      press('list');
      should((await list).payload).match([
        { address: 'rooms.hall', window: 100, settle: 'arrival' },
        { address: 'rooms.kitchen', window: 100 },
        { address: 'rooms.cellar', window: 5 },
      ]);
      const kitchen = shown('message');
      press('to the kitchen');
      should(await kitchen).match({ topic: 'rooms.kitchen' });

      const twice = shown('why not');
      press('kitchen');
      should((await twice).error).match({ code: 'AMQP_BAD_INPUT', message: /subscribed to rooms.kitchen already/ });

      press('not the kitchen');
      press('none');
      await status(receiver, '.unsubscribed');
    });

    it('take several messages as one, and settle them together', async () => {
      await start('together.json');
      await isConnected('amqp-receiver', 'readings');
      const five = shown('stored');
      press('five readings');
      should((await five).payload).deepEqual([20, 21, 22, 23, 24]);
      const two = shown('stored');
      press('two readings');
      should((await two).payload).deepEqual([18, 19]);
      while (broker.dispositions.length < 7) await once(broker, 'settled');
      should(broker.dispositions.map(({ state }) => state)).deepEqual(Array.from({ length: 7 }, () => 'accepted'));
    });

    it('reject one of several alone', async () => {
      await start('together.json');
      await isConnected('amqp-receiver', 'readings');
      const stored = shown('stored');
      press('one is a word');
      should((await stored).payload).deepEqual([20, 21, 23, 24]);
      while (broker.dispositions.length < 5) await once(broker, 'settled');
      const states = broker.dispositions.map(({ state }) => state);
      should(states.filter((state) => state === 'accepted')).have.length(4);
      should(broker.dispositions.find(({ state }) => state === 'rejected')).match({
        error: { description: 'no number' },
      });
    });

    it('work on one message of a group at a time', async () => {
      await start('groups.json');
      await isConnected('amqp-receiver', 'jobs');
      const all = collect(idOf('function', 'work'));
      const finished = messages(idOf('debug', 'finished'), 6);
      press('three jobs each');
      const jobs = (await finished).map(({ payload }) => payload as { machine: string; step: string });
      for (const name of ['A', 'B'])
        should(jobs.filter(({ machine }) => machine === name).map(({ step }) => step)).deepEqual([
          'drill',
          'paint',
          'pack',
        ]);
      // The first of both before the second of either.
      should(all.slice(0, 2).map(({ payload }) => (payload as { step: string }).step)).deepEqual(['drill', 'drill']);
    });

    it('count attempts, and set aside what has failed three times', async () => {
      await start('groups.json', { maxDeliveries: 10 });
      await isConnected('amqp-receiver', 'jobs');
      const all = collect(idOf('function', 'work'));
      const givenUp = shown('given up');
      press('one that fails');
      should(await givenUp).match({ payload: { step: 'jam' }, delivery: { attempt: 4 } });
      should(all.map(({ delivery }) => (delivery as { attempt?: number }).attempt)).deepEqual([1, 2, 3]);
      while (broker.dispositions.at(-1)?.state !== 'accepted') await once(broker, 'settled');
    });

    it('declare, inspect and delete a queue', async () => {
      await start('rabbitmq-management.json', { management: true });
      await isConnected('amqp-requester', 'RabbitMQ');
      const ask = async (name: string): Promise<Msg> => {
        const reply = shown('reply');
        press(name);
        return reply;
      };
      const why = shown('why not');
      press('inspect');
      should((await why).error).match({ code: 'AMQP_REPLY_STATUS', message: /404/ });
      should(await ask('declare')).match({ payload: { status: '201' } });
      should(await ask('inspect')).match({ payload: { status: '200', name: 'example.orders', message_count: 0 } });
      should(await ask('delete')).match({ payload: { status: '200' } });
    });

    it('put several replies together', async () => {
      await start('several-replies.json');
      await isConnected('amqp-receiver', 'lists');
      for (const [name, count] of [
        ['three', 3],
        ['five', 5],
      ] as const) {
        const [each, all] = [messages(idOf('debug', 'one reply'), count), shown('all replies')];
        press(name);
        const expected = Array.from({ length: count }, (_, index) => `number ${index + 1}`);
        should((await each).map(({ payload }) => payload)).deepEqual(expected);
        should((await all).payload).deepEqual(expected);
      }
    });
  });

  it('have a page each, maybe a shared one, which links to them', () => {
    for (const file of files) {
      const page = pageOf(file);
      existsSync(join(docs, page)).should.equal(true, page);
      textOf(page).should.containEql(`](flows/${file})`);
    }
  });

  it('have pages that say of Azure that nothing ran against the service', () => {
    should(ofAzure).have.length(3);
    for (const page of ofAzure)
      textOf(page).should.match(/never (been )?(run|tried|tested) (against|with) the service itself/, page);
  });

  it('have pages that tell symptoms in the very words of the nodes and the services', () => {
    const sources = ['nodes', 'locales/en-US', 'test/doubles', 'broker']
      .flatMap((path) =>
        readdirSync(join(root, path), { recursive: true, encoding: 'utf8' }).map((file) => join(root, path, file)),
      )
      .filter((path) => /\.(ts|json)$/.test(path))
      .map((path) => readFileSync(path, 'utf8').replace(/\$\{\w+\}|\{\w+\}|__\w+__/g, '*'))
      .join('\n');
    for (const page of new Set([...files.map(pageOf), ...ofAzure])) {
      const [, section = ''] = textOf(page).split('## When it does not work');
      const rows = section.split('\n').filter((line) => /^\| (?!status|-)/.test(line));
      rows.length.should.be.above(5, page);
      const told = rows.flatMap((row) => {
        const [, shownAs = '', logged = ''] = row.split('|');
        return [...`${shownAs} ${logged}`.matchAll(/`([^`]+)`/g)].map(([, words]) => words!);
      });
      const stems = told.map((words) =>
        words.replace(/^(refused|error|ignored|disconnected): /, '').replace(/AZURE_\w+|\boffset\b/, '*'),
      );
      const own = ['Server', 'TLS Configuration', 'consumergroups', 'event-hub-compatible-name'];
      stems.filter((words) => !own.includes(words) && !sources.includes(words)).should.deepEqual([], page);
    }
  });

  it('share no node id with another flow that is shipped, so that all can be imported side by side', () => {
    const examples = [...exampleFiles(), ...exampleFiles('Systems')];
    const ids = [...examples.map(readExample), ...files.map(read)].flat().map(({ id }) => id);
    ids.filter((id, index) => ids.indexOf(id) < index).should.be.empty();
  });

  it('name nodes that are there', () => {
    for (const file of files) {
      const all = read(file);
      const ids = new Set(all.map(({ id }) => id));
      for (const { type, z, wires = [], scope = [], endpoint = [] } of all) {
        // The scope of an endpoint is that of OAuth.
        const named = [z ?? [], wires, type === 'amqp-endpoint' ? [] : scope, endpoint].flat(3) as string[];
        named.filter((id) => !ids.has(id)).should.deepEqual([], file);
      }
    }
  });

  it('have one endpoint, but for those who listen, which have a client as well', () => {
    for (const file of files) {
      const endpoints = read(file).filter(({ type }) => type === 'amqp-endpoint');
      const isListening = file === 'listen.json';
      endpoints.should.have.length(isListening ? 2 : 1, file);
      // Who imports it is not to open a port to the network by that.
      for (const { host } of endpoints) should(host).equal(isListening ? '127.0.0.1' : 'localhost');
    }
  });

  it('have all that the forms save, so that no value is one of an older version', () => {
    for (const type of ['amqp-sender', 'amqp-receiver', 'amqp-requester', 'amqp-responder']) {
      const form = readFileSync(join(root, 'nodes', `${type}.html`), 'utf8');
      const defaults = /\n {4}defaults: \{\n(.*?)\n {4}\},/s.exec(form)![1]!.split('// Of node-red-contrib-rhea')[0]!;
      const names = [...defaults.matchAll(/^ {6}(\w+): \{/gm)].map(([, name]) => name!);
      names.length.should.be.above(10);
      for (const node of files.flatMap(read).filter((one) => one.type === type))
        names.filter((name) => !(name in node)).should.deepEqual([], node.id);
    }
  });

  it('are laid out so that no node covers another', () => {
    for (const file of files) {
      const boxes = read(file)
        .filter((placed) => 'x' in placed)
        .map(boxOf);
      for (const box of boxes) boxes.filter((other) => overlap(box, other)).should.deepEqual([box], file);
    }
  });
});

type Box = { name: string; tab: string; left: number; right: number; y: number };

/** About what the editor draws, on its grid. */
function boxOf({ name, z, x, y }: NodeConfig): Box {
  const half = Math.max(100, 60 + String(name).length * 7) / 2;
  const left = Number(x) - half;
  should(left).be.aboveOrEqual(0, String(name));
  should(Number(y) % 20).equal(0, String(name));
  return { name: String(name), tab: String(z), left, right: Number(x) + half, y: Number(y) };
}

function overlap(a: Box, b: Box): boolean {
  return a.tab === b.tab && Math.abs(a.y - b.y) < 40 && a.left < b.right && b.left < a.right;
}
