import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { inspect } from 'node:util';
import should from 'should';
import type { EndpointNode } from '../../nodes/flow/endpoint';
import { collect, endpointNode, flow, helper, inject, message, messages, type Msg, node, nodes, status } from '../flow';
import { coreNode, type NodeConfig } from '../node-red';
import { logged, texts, WARN } from '../texts';
import { secretIn, secretOf } from '../secrets';
import { Broker, type BrokerOptions, type LinkInfo } from '../../broker/broker';

const HOUR = 3_600_000;
const PASSWORD = secretOf('password');
const LOGIN = { broker: { user: 'anna', pass: PASSWORD } };
const path = (name: string) => join(__dirname, '..', 'fixtures', name);
const fixture = (name: string) => readFileSync(path(name));

async function load(configs: NodeConfig[], credentials: object = {}, settings: object = {}): Promise<void> {
  helper.settings({ amqpEndpointReconnectTime: 20, amqpEndpointLoginRetryTime: 40, ...settings });
  await helper.load([texts, coreNode('network/05-tls'), ...nodes], configs, credentials);
}

const countOf = (type: RegExp): number => process.getActiveResourcesInfo().filter((name) => type.test(name)).length;
const resources = () => ({ timers: countOf(/Timeout/), sockets: countOf(/TCP|TLS|Connect/) });

/** The timers and sockets of Node-RED, which starts some of them late. */
async function ofNodeRed(): Promise<ReturnType<typeof resources>> {
  await load(flow());
  await helper.unload();
  return resources();
}

const names = (broker: Broker) =>
  broker
    .links()
    .map(({ name }) => name)
    .toSorted();

/** Resolves once all these nodes are connected. */
const connected = (...ids: string[]) => Promise.all(ids.map((id) => status(id, '.connected')));

/** Waits until there are no more timers and sockets than before. One that stays makes the test time out. */
async function released(before: ReturnType<typeof resources>): Promise<void> {
  for (let left = resources(); left.timers > before.timers || left.sockets > before.sockets; left = resources()) {
    await pause(5);
  }
}

/** A tls-config node, as the editor saves it. */
function tlsNode(properties: object = {}): NodeConfig {
  const files = { cert: '', key: '', ca: '', certname: '', keyname: '', caname: '' };
  return { id: 'tls', type: 'tls-config', ...files, servername: '', verifyservercert: true, ...properties };
}

const secured = (port: number, properties: object = {}) =>
  endpointNode(port, { usetls: true, tls: 'tls', ...properties });

/** The status of a node that is not connected. */
async function refusal(id: string) {
  const reasons = ['untrusted', 'the peer is gone or silent', 'client-certificate', 'ECONNRESET'];
  return Promise.race(reasons.map((reason) => status(id, reason)));
}

const FOUR = ['sender', 'receiver', 'requester', 'responder'];
const LINKS = ['receiver', 'requester:reply', 'requester:request', 'responder:reply', 'responder:request', 'sender'];

/** One node of each type. */
const four = () => FOUR.map((name) => node(`amqp-${name}`, { address: name }));

/** The same nodes, but for some properties of one of them. */
const changed = (configs: NodeConfig[], id: string, properties: object): NodeConfig[] =>
  configs.map((config) => (config.id === id ? { ...config, ...properties } : config));

describe('amqp-endpoint', () => {
  const faults: unknown[] = [];
  const onFault = (fault: unknown): number => faults.push(fault);
  const cleanups: (() => unknown)[] = [];

  before(() => helper.startServer());
  before(() => process.on('uncaughtException', onFault).on('unhandledRejection', onFault));
  after(() => process.off('uncaughtException', onFault).off('unhandledRejection', onFault));
  after(() => helper.stopServer());
  afterEach(async () => {
    await helper.unload();
    for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
    should(faults.splice(0)).deepEqual([]);
  });

  async function start(options?: BrokerOptions): Promise<Broker> {
    const broker = await Broker.start(options);
    cleanups.push(() => broker.stop());
    return broker;
  }

  /** Lines of frames in the log, as an endpoint has them that a sender uses for one message. */
  async function traced(trace: boolean): Promise<string[]> {
    const password = secretOf('password');
    const broker = await start({ users: { user: password }, anonymous: false });
    await load(flow(endpointNode(broker.port, { trace }), node('amqp-sender')), {
      broker: { user: 'user', pass: password },
    });
    const done = message('completed');
    inject('sender', { payload: 'a confidential body' });
    await done;
    return logged(40).filter((line) => /^(->|<-) /.test(line));
  }

  /** A peer that is no broker; `stop` frees its port. */
  async function listen(server: net.Server): Promise<{ port: number; stop: () => Promise<void> }> {
    const sockets = new Set<net.Socket>();
    server.on('connection', (socket: net.Socket) => {
      sockets.add(socket);
      socket.on('error', () => {}).on('close', () => sockets.delete(socket));
    });
    const stop = async (): Promise<void> => {
      if (!server.listening) return;
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    };
    cleanups.push(stop);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return { port: (server.address() as net.AddressInfo).port, stop };
  }

  describe('when the peer is not as it should be', () => {
    it('waits for a broker that is absent at deploy', async () => {
      const broker = await start();
      await broker.stop();
      await load(flow(endpointNode(broker.port), node('amqp-sender')));
      should(await status('sender', '.reason.refused')).match({ fill: 'red', shape: 'ring' });
      const sent = message('out');
      inject('sender', { payload: 'early' });
      await broker.resume();
      should(await sent).match({ payload: 'early', sent: { state: 'accepted' } });
      should(await status('sender', '.connected')).match({ fill: 'green', shape: 'dot' });
    });

    it('says that a port speaks HTTP, and connects when a broker is there', async () => {
      const server = http.createServer();
      let attempts = 0;
      const { port, stop } = await listen(server);
      const many = new Promise<void>((resolve) => {
        server.on('connection', () => ++attempts === 4 && resolve());
      });
      await load(flow(endpointNode(port), node('amqp-sender'), node('amqp-receiver')));
      await many;
      const [line, ...others] = logged(WARN);
      should(line).match(
        /^not connected to amqp:\/\/127.0.0.1:\d+: cannot connect: the server speaks HTTP, not AMQP; the port is of a web server/,
      );
      should(others).deepEqual([], 'one line for an outage, not one for each attempt');
      await stop();
      await start({ port });
      await connected('sender');
    });

    it('gives up on a mute peer after the connect time-out, and connects when a broker is there', async () => {
      const { port, stop } = await listen(net.createServer());
      await load(flow(endpointNode(port, { connecttimeout: 1 }), node('amqp-sender')));
      should(await status('sender', '.reason.silent')).match({ fill: 'red', shape: 'ring' });
      await stop();
      await start({ port });
      await connected('sender');
    });

    it('notices a peer that falls silent', async () => {
      const broker = await start();
      let isMute = false;
      const proxy = await listen(
        net.createServer((client) => {
          const peer = net.connect(broker.port, '127.0.0.1');
          client.on('data', (data) => isMute || peer.write(data)).on('close', () => peer.destroy());
          peer.on('data', (data) => isMute || client.write(data)).on('error', () => {});
          peer.on('close', () => isMute || client.destroy());
        }),
      );
      await load(flow(endpointNode(proxy.port, { idletimeout: '0.1' }), node('amqp-sender')));
      await connected('sender');
      isMute = true;
      await status('sender', 'the peer is gone or silent');
      isMute = false;
      await connected('sender');
    });

    it('says that a login was refused, and recovers without a deploy once the account exists', async () => {
      const broker = await start({ users: { anna: 'other' }, anonymous: false });
      // A refused login has a pause of its own.
      await load(flow(endpointNode(broker.port), node('amqp-sender')), LOGIN, { amqpEndpointReconnectTime: HOUR });
      should(await status('sender', 'login refused')).match({ fill: 'red', shape: 'ring' });
      should(logged(WARN)).have.length(1);
      should(logged(WARN)[0]).startWith(`login refused by amqp://127.0.0.1:${broker.port}: `);
      broker.users = { anna: PASSWORD };
      await connected('sender');
    });

    it('warns once of a password that goes over a network in the clear', async () => {
      const broker = await start({ users: { anna: PASSWORD }, anonymous: false });
      // 127.1 is the host 127.0.0.1 to the system, and any host to who reads it.
      for (const [host, count] of [
        ['127.1', 1],
        ['127.0.0.1', 0],
      ] as const) {
        await load(flow(endpointNode(broker.port, { host }), node('amqp-sender')), LOGIN);
        await connected('sender');
        const lost = status('sender', '.connecting');
        broker.closeConnections();
        await lost;
        await connected('sender');
        should(logged(WARN).filter((line) => line.includes('in the clear'))).have.length(count);
        await helper.unload();
      }
    });

    it('keeps the password out of logs, statuses and messages', async () => {
      const broker = await start({ users: { anna: 'other' }, anonymous: false });
      const watch = { id: 'watch', type: 'status', z: 'flow', scope: null, wires: [['seen']] };
      const seen = { id: 'seen', type: 'helper', z: 'flow', wires: [] };
      const configs = flow(endpointNode(broker.port), node('amqp-sender'), node('amqp-receiver'), watch, seen);
      await load(configs, LOGIN);
      const all = ['seen', 'out', 'caught', 'completed'].map(collect);
      await status('sender', 'login refused');
      broker.users = { anna: PASSWORD };
      await connected('receiver');
      const caught = message('caught');
      broker.answer('q', 'reject', 1);
      inject('sender', { payload: 1 });
      await caught;
      const completed = message('completed');
      const received = messages('out', 2);
      inject('sender', { payload: 2 });
      await Promise.all([completed, received]);
      broker.closeConnections({ condition: 'amqp:internal-error' });
      await status('sender', 'amqp:internal-error');
      should(all.every((msgs) => msgs.length > 0)).equal(true);
      const told = inspect([all, helper.log().args], { depth: 12, maxArrayLength: null });
      should(told.includes('login refused by')).equal(true);
      should(secretIn(told)).equal(undefined);
    });

    it('refuses a port that cannot be', async () => {
      await load(flow(endpointNode(0, { port: '56 72' }), node('amqp-sender')));
      should(await status('sender', 'error: no text for node-red:mqtt.label.port')).match({ fill: 'red' });
      should(logged(20)).match([/\(port\): is not a whole number from 1 to 65535$/]);
    });
  });

  describe('without an endpoint', () => {
    for (const name of FOUR) {
      it(`amqp-${name} says so, in its status and to each msg`, async () => {
        const disabled = { ...endpointNode(5672), id: 'disabled', d: true };
        await load(
          flow(disabled, node(`amqp-${name}`, { endpoint: '' }), {
            ...node(`amqp-${name}`, { endpoint: 'disabled' }),
            id: 'other',
          }),
        );
        for (const [id, text] of [
          [name, '.no-endpoint'],
          ['other', '.disabled'],
        ] as const) {
          should(await status(id, text)).match({ fill: 'red', shape: 'ring' });
          const caught = message('caught');
          inject(id, { payload: 1 });
          should((await caught).error).match({ code: 'AMQP_NO_ENDPOINT', source: { id } });
        }
      });
    }
  });

  describe('with a trace', () => {
    it('has each frame in the log, without the login and without messages', async () => {
      const lines = (await traced(true)).join('\n');
      lines.should.match(/-> sasl-init mechanism="PLAIN" initial-response=\(masked\)/);
      lines.should.match(/-> channel \d+ transfer .*\(message: \d+ bytes\)/);
      lines.should.match(/<- channel \d+ disposition .*accepted/);
      lines.should.not.containEql('confidential');
    });

    it('has none by default', async () => {
      (await traced(false)).should.be.empty();
    });
  });

  describe('with TLS', () => {
    const SERVER = { key: fixture('server.key'), cert: fixture('server.crt'), ca: fixture('ca.crt') };

    it('trusts the CA of its tls-config node', async () => {
      const broker = await start({ tls: SERVER });
      await load(flow(tlsNode({ ca: path('ca.crt') }), secured(broker.port), node('amqp-sender')));
      await connected('sender');
      should(logged(40)).deepEqual([`connected to amqps://127.0.0.1:${broker.port}`]);
    });

    it('trusts a CA that was uploaded', async () => {
      const broker = await start({ tls: SERVER });
      await load(flow(tlsNode(), secured(broker.port), node('amqp-sender')), {
        tls: { cadata: fixture('ca.crt').toString() },
      });
      await connected('sender');
    });

    it('shows the client certificate of its tls-config node', async () => {
      const broker = await start({ tls: { ...SERVER, requestCert: true, rejectUnauthorized: true } });
      const files = { ca: path('ca.crt'), cert: path('client.crt'), key: path('client.key') };
      await load(
        flow(
          tlsNode(files),
          tlsNode({ id: 'anonymous', ca: path('ca.crt') }),
          secured(broker.port),
          { ...secured(broker.port, { tls: 'anonymous' }), id: 'other' },
          node('amqp-sender'),
          node('amqp-receiver', { endpoint: 'other' }),
        ),
      );
      await connected('sender');
      should((await refusal('receiver')).fill).equal('red');
      should(broker.connections()).equal(1);
    });

    for (const [what, properties] of Object.entries({
      'without the CA': tlsNode(),
      'with another CA': tlsNode({ ca: path('client.crt') }),
      'with a tls-config node that says nothing of it': tlsNode({ verifyservercert: undefined }),
      'without a tls-config node': undefined,
    })) {
      it(`refuses a peer that it cannot verify, ${what}`, async () => {
        const broker = await start({ tls: SERVER });
        const tls = properties ? 'tls' : '';
        await load(flow(...(properties ? [properties] : []), secured(broker.port, { tls }), node('amqp-sender')));
        should(await status('sender', '.reason.untrusted')).match({ fill: 'red', shape: 'ring' });
        should(broker.connections()).equal(0);
      });
    }

    it('verifies no peer where it is told not to', async () => {
      const broker = await start({ tls: SERVER });
      await load(flow(secured(broker.port, { tls: '', rejectUnauthorized: false }), node('amqp-sender')));
      await connected('sender');
    });

    for (const [what, config] of Object.entries({
      'whose files are missing': tlsNode({ ca: path('missing.crt') }),
      'with a certificate without its key': tlsNode({ cert: path('client.crt') }),
      'that is disabled': tlsNode({ d: true }),
      'that was deleted': { ...tlsNode(), id: 'another' },
    })) {
      it(`does not connect with a tls-config node ${what}`, async () => {
        const plain = await start();
        const other = endpointNode(plain.port);
        let accepted = 0;
        const { port } = await listen(net.createServer(() => accepted++));
        await load(
          flow(
            config,
            { ...secured(port), id: 'secured' },
            other,
            node('amqp-sender', { endpoint: 'secured' }),
            node('amqp-receiver'),
          ),
        );
        should(await status('sender', 'error: no text for node-red:mqtt.label.tls-config')).match({
          fill: 'red',
          shape: 'ring',
        });
        // By the time that another endpoint has come back, this one would have tried too.
        await connected('receiver');
        plain.dropSockets();
        await status('receiver', 'the peer is gone or silent');
        await connected('receiver');
        should(accepted).equal(0);
      });
    }
  });

  describe('and its nodes', () => {
    it('share one connection, with stable names of it and of their links', async () => {
      const broker = await start();
      const peers: string[] = [];
      broker.on('connection', ({ containerId }) => peers.push(containerId));
      for (let round = 0; round < 2; round++) {
        await load(flow(endpointNode(broker.port), ...four()));
        await connected(...FOUR);
        should(broker.connections()).equal(1);
        should(names(broker)).deepEqual(LINKS);
        await helper.unload();
        should(broker.connections()).equal(0);
      }
      should(peers[0]).match(/^nodered_[0-9a-f]{16}_broker$/);
      should(peers).deepEqual([peers[0], peers[0]]);
    });

    it('are known to the peer as configured', async () => {
      const broker = await start({ users: { anna: PASSWORD }, anonymous: false });
      const opened = once(broker, 'connection');
      await load(
        flow(endpointNode(broker.port, { container_id: 'plant-7', hostname: 'vhost:orders' }), node('amqp-sender')),
        LOGIN,
      );
      should((await opened)[0]).match({ containerId: 'plant-7', hostname: 'vhost:orders' });
    });

    it('tell the peer what they are, and where they run', async () => {
      const broker = await start();
      const opened = once(broker, 'connection');
      await load(flow(endpointNode(broker.port), node('amqp-sender')));
      const { name, version } = JSON.parse(readFileSync(join(__dirname, '..', '..', 'package.json'), 'utf8'));
      should((await opened)[0].properties).match({
        product: name,
        version,
        platform: /^Node-RED \d+\.\d+\.\S+, Node\.js v\d+\.\S+, \w+$/,
      });
    });

    it('have a connection for each endpoint, apart from that of others', async () => {
      const [one, other] = [
        await start(),
        await start({ users: { berta: secretOf('other password') }, anonymous: false }),
      ];
      await load(
        flow(
          endpointNode(one.port),
          { ...endpointNode(other.port), id: 'other' },
          node('amqp-sender'),
          { ...node('amqp-sender', { endpoint: 'other' }), id: 'sender2' },
          { ...node('amqp-receiver', { endpoint: 'other' }), id: 'receiver2' },
        ),
        { other: { user: 'berta', pass: secretOf('other password') } },
      );
      await connected('sender', 'sender2', 'receiver2');
      const received = messages('out', 2);
      inject('sender2', { payload: 'over there' });
      should((await received).map(({ payload }) => payload)).deepEqual(['over there', 'over there']);
      should(one.received).deepEqual({});

      await other.stop();
      await status('sender2', '.reason.refused');
      const sent = message('out');
      inject('sender', { payload: 'here' });
      should(await sent).match({ payload: 'here', sent: { state: 'accepted' } });
      should(one.messages('q')).match([{ body: 'here' }]);
    });

    it('keep the connection when one of them is deployed anew', async () => {
      const broker = await start();
      const configs = flow(endpointNode(broker.port), ...four());
      await load(configs);
      await connected(...FOUR);
      let connections = 0;
      const detached: string[] = [];
      broker.on('connection', () => connections++);
      broker.on('detach', ({ name }: LinkInfo) => detached.push(name));

      await helper.setFlows(changed(configs, 'receiver', { address: 'elsewhere' }), 'nodes');
      await connected(...FOUR);
      should(broker.links().find(({ name }) => name === 'receiver')).match({ address: 'elsewhere' });
      const received = message('out');
      broker.put('elsewhere', { body: 'new' });
      should(await received).match({ payload: 'new' });
      should(detached).deepEqual(['receiver']);
      should(connections).equal(0);
    });

    it('lose it with the last of them, and get it back with the next', async () => {
      const broker = await start();
      const configs = flow(endpointNode(broker.port), node('amqp-sender'), node('amqp-receiver'));
      await load(configs);
      await connected('sender', 'receiver');
      const without = (...ids: string[]) => configs.filter(({ id }) => !ids.includes(id));
      await helper.setFlows(without('sender'), 'nodes');
      should(broker.connections()).equal(1);
      await helper.setFlows(without('sender', 'receiver'), 'nodes');
      should(broker.connections()).equal(0);
      await helper.setFlows(without('receiver'), 'nodes');
      await connected('sender');
      should(Object.keys((helper.getNode('broker') as EndpointNode).users)).deepEqual(['sender']);
    });

    it('say so when their endpoint is deleted', async () => {
      const broker = await start();
      const configs = flow(endpointNode(broker.port), node('amqp-sender'), node('amqp-receiver'));
      await load(configs);
      await connected('sender', 'receiver');
      await helper.setFlows(
        configs.filter(({ id }) => id !== 'broker'),
        'full',
      );
      await Promise.all(['sender', 'receiver'].map((id) => status(id, '.no-endpoint')));
      should(broker.connections()).equal(0);
    });

    it('may be deployed anew before the peer has answered them, and keep the connection', async () => {
      const broker = await start();
      const configs = flow(endpointNode(broker.port), node('amqp-sender'), node('amqp-receiver'));
      await load(configs);
      await connected('sender', 'receiver');
      let connections = 0;
      broker.on('connection', () => connections++);
      for (const address of ['a', 'b', 'c']) {
        const attach = once(broker, 'attach');
        await helper.setFlows(changed(configs, 'receiver', { address }), 'nodes');
        should((await attach)[0]).match({ name: 'receiver', address });
      }
      await connected('receiver');
      should(connections).equal(0);
    });

    it('connect anew when the endpoint is deployed anew', async () => {
      const broker = await start();
      const peers: unknown[] = [];
      broker.on('connection', ({ containerId }) => peers.push(containerId));
      const configs = flow(endpointNode(broker.port), ...four());
      await load(configs);
      await connected(...FOUR);
      await helper.setFlows(changed(configs, 'broker', { container_id: 'renamed' }), 'nodes');
      await connected(...FOUR);
      should(broker.links().map(({ containerId }) => containerId)).deepEqual(Array(6).fill('renamed'));
      should(broker.connections()).equal(1);
      should(peers).have.length(2);
      should(peers[1]).equal('renamed');
      const sent = message('out');
      inject('sender', { payload: 1 });
      should(await sent).match({ sent: { state: 'accepted' } });
    });

    it('wait for the first message to connect, where autoconnect is off', async () => {
      const broker = await start();
      const other = { ...endpointNode(broker.port, { container_id: 'second' }), id: 'other' };
      const peers: string[] = [];
      broker.on('connection', ({ containerId }) => peers.push(containerId));
      await load(
        flow(
          endpointNode(broker.port, { autoconnect: false }),
          other,
          node('amqp-sender'),
          node('amqp-receiver', { address: 'elsewhere' }),
          { ...node('amqp-receiver', { endpoint: 'other' }), id: 'third' },
        ),
      );
      should(await status('sender', '.idle')).match({ fill: 'grey', shape: 'ring' });
      await status('receiver', '.idle');
      await connected('third');
      should(peers).deepEqual(['second']);
      const received = message('out');
      inject('sender', { payload: 'first' });
      should(await received).match({ payload: 'first' });
      await connected('receiver');
    });

    it('are disconnected, and connected again, by a msg to any of them', async () => {
      const broker = await start();
      const all = ['sender', 'receiver', 'requester', 'responder'];
      const addresses: Record<string, object> = { receiver: { address: 'r' }, responder: { address: 's' } };
      await load(flow(endpointNode(broker.port), ...all.map((name) => node(`amqp-${name}`, addresses[name]))));
      for (const name of all) {
        for (const one of all) await status(one, 'connected');
        inject(name, { action: 'disconnect' });
        for (const one of all) await status(one, '.idle');
        should(broker.connections()).equal(0);
        inject(name, { action: 'connect' });
      }
      for (const one of all) await status(one, 'connected');
    });

    it('stay disconnected when one of them is deployed anew', async () => {
      const broker = await start();
      await load(flow(endpointNode(broker.port), node('amqp-sender')));
      await status('sender', 'connected');
      inject('sender', { action: 'disconnect' });
      await status('sender', '.idle');
      await helper.setFlows(flow(endpointNode(broker.port), node('amqp-sender', { name: 'new' })), 'nodes');
      const done = message('completed');
      inject('sender', { payload: 1 });
      should(broker.connections()).equal(0);
      inject('sender', { action: 'connect' });
      await done;
      await status('sender', 'connected');
    });

    it('are disconnected while there is no server to connect to', async () => {
      const broker = await start();
      await broker.stop();
      await load(flow(endpointNode(broker.port), node('amqp-sender')));
      await status('sender', '.reason.refused');
      inject('sender', { action: 'disconnect' });
      await status('sender', '.idle');
      await broker.resume();
      inject('sender', { action: 'connect' });
      await status('sender', 'connected');
    });

    it('hand its status to the Status nodes of their flows', async () => {
      const broker = await start();
      const watch = { id: 'watch', type: 'status', z: 'flow', scope: null, wires: [['seen']] };
      const seen = { id: 'seen', type: 'helper', z: 'flow', wires: [] };
      await load(flow(endpointNode(broker.port), node('amqp-sender'), watch, seen));
      await connected('sender');
      const told = collect('seen');
      broker.dropSockets();
      await status('sender', 'the peer is gone or silent');
      await connected('sender');
      const next = message('seen');
      broker.closeConnections({ condition: 'amqp:internal-error' });
      await next;
      type Told = Msg & { status: { text: string; source: { id: string; type: string } } };
      const ofEndpoint = (told as Told[]).filter(({ status: { source } }) => source.type === 'amqp-endpoint');
      should(ofEndpoint.length).be.above(1);
      should(ofEndpoint[0]!.status).match({ fill: 'red', text: /gone or silent$/, source: { id: 'broker' } });
      should(ofEndpoint[1]!.status).match({ fill: 'green', text: /\.connected$/ });
    });
  });

  describe('with a login that node-red-contrib-rhea saved as clear text', () => {
    const legacy = { username: 'anna', password: PASSWORD };

    it('logs in, and warns of it once', async () => {
      const broker = await start({ users: { anna: PASSWORD }, anonymous: false });
      await load(flow(endpointNode(broker.port, legacy), node('amqp-sender'), node('amqp-receiver')));
      await connected('sender');
      broker.dropSockets();
      await status('sender', 'the peer is gone or silent');
      await connected('sender');
      should(logged(WARN).filter((line) => line.includes('plain text'))).have.length(1);
      should(secretIn(inspect(helper.log().args, { depth: 8 }))).equal(undefined);
    });

    it('prefers the credentials', async () => {
      const broker = await start({ users: { anna: PASSWORD }, anonymous: false });
      const old = { username: 'old', password: 'old' };
      await load(flow(endpointNode(broker.port, old), node('amqp-sender')), LOGIN);
      await connected('sender');
    });
  });

  describe('that is closed leaves nothing open', () => {
    it('while it waits for the next attempt', async () => {
      const broker = await start();
      await broker.stop();
      const before = await ofNodeRed();
      await load(
        flow(endpointNode(broker.port), node('amqp-sender'), node('amqp-receiver')),
        {},
        {
          amqpEndpointReconnectTime: HOUR,
        },
      );
      await status('sender', '.reason.refused');
      await helper.unload();
      await released(before);
    });

    it('while it is connected', async () => {
      const before = await ofNodeRed();
      const broker = await start();
      await load(flow(endpointNode(broker.port), ...four()));
      await connected(...FOUR);
      await helper.unload();
      await broker.stop();
      await released(before);
    });

    it('while its peer is silent', async () => {
      const before = await ofNodeRed();
      const broker = await start();
      const sockets: net.Socket[] = [];
      const { port, stop } = await listen(
        net.createServer((client) => {
          const peer = net.connect(broker.port, '127.0.0.1');
          sockets.push(client, peer);
          client.pipe(peer).on('error', () => {});
          peer.pipe(client);
        }),
      );
      await load(flow(endpointNode(port), node('amqp-sender'), node('amqp-receiver')));
      await connected('sender', 'receiver');
      for (const socket of sockets) socket.unpipe();
      await helper.unload();
      await broker.stop();
      await stop();
      await released(before);
    });

    it('while it connects to a mute peer', async () => {
      const before = await ofNodeRed();
      const server = net.createServer();
      const { port, stop } = await listen(server);
      const accepted = once(server, 'connection');
      await load(flow(endpointNode(port, { connecttimeout: 3600 }), node('amqp-sender')));
      await accepted;
      await helper.unload();
      await stop();
      await released(before);
    });

    it('while it is not allowed in', async () => {
      const before = await ofNodeRed();
      const broker = await start({ users: {}, anonymous: false });
      await load(flow(endpointNode(broker.port), node('amqp-sender')), LOGIN, { amqpEndpointLoginRetryTime: HOUR });
      await status('sender', 'login refused');
      await helper.unload();
      await broker.stop();
      await released(before);
    });
  });
});
