// The flow of docs/edge-gateway.md as it is shipped, in a small process: devices on MQTT, HTTP and AMQP, a server that goes away,
// kills, and a power failure. Mosquitto and the devices are real, the server is the embedded broker behind TLS.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { join } from 'node:path';
import type { Delivery, Sender } from 'rhea';
import should from 'should';
import { freePort } from '../../scripts/free-port';
import { Broker } from '../../broker/broker';
import { connectTo, sender } from '../broker/client';
import { connectMqtt, type Mosquitto, mosquitto } from '../brokers/mosquitto';
import { readExample } from '../example';
import type { NodeConfig } from '../node-red';
import { Ledger } from './ledger';
import { NodeRedProcess } from './node-red-process';
import { PoweredDisk } from './small-disk';

const FIXTURES = join(__dirname, '..', 'fixtures');
const [OUT, IN] = ['example.gateway.out', 'example.gateway.in'];
/** Megabytes of V8's heap, as on a device with 256 MB of memory. */
const HEAP = 64;

/** Devices that have no outcome yet, by their deliveries. */
type Waiting = Map<Delivery, (isKept: boolean) => void>;

const reading = (n: number): string => JSON.stringify({ n, degrees: 20 });

describe('The edge gateway of the examples', function () {
  this.timeout(120_000);

  let server: Broker;
  let disk: PoweredDisk;
  let gateway: NodeRedProcess;
  let mqtt: Mosquitto;
  let ports: { http: number; amqp: number };
  let agent: Agent;
  let devices: { sender: Sender; waiting: Waiting } | undefined;
  /** Numbers of readings whose device was told that they are kept. */
  let told: Set<number>;
  /** How often each has reached the server. */
  let arrived: Map<number, number>;
  let last: number;

  before(() => NodeRedProcess.build());
  beforeEach(async () => {
    const [key, cert] = ['server.key', 'server.crt'].map((file) => readFileSync(join(FIXTURES, file)));
    server = await Broker.start({ tls: { key: key!, cert: cert! } });
    disk = new PoweredDisk(128);
    gateway = new NodeRedProcess(new Ledger(), disk.directory);
    mqtt = await mosquitto.start();
    ports = { http: await freePort(), amqp: await freePort() };
    agent = new Agent({ keepAlive: true });
    [told, arrived, last] = [new Set(), new Map(), 0];
    server.on('message', (address, { body }) => {
      if (address !== OUT) return;
      // What comes over AMQP goes on as it came.
      const { n } = Buffer.isBuffer(body.content) ? JSON.parse(body.content) : body;
      arrived.set(n, (arrived.get(n) ?? 0) + 1);
    });
  });
  afterEach(async () => {
    agent.destroy();
    devices?.sender.connection.close();
    devices = undefined;
    await gateway.remove();
    await mqtt.stop();
    await server.stop();
    disk.remove();
  });

  /** The flow of the example, but for ports and TLS. */
  function flow(store: string): NodeConfig[] {
    const ca = join(FIXTURES, 'ca.crt');
    const files = { cert: '', key: '', ca, certname: '', keyname: '', caname: '' };
    const tls = { id: 'tls', type: 'tls-config', z: '', name: '', ...files, servername: '', verifyservercert: true };
    const changed = readExample('Systems/Edge gateway.json').map((node) => {
      if (node.id.endsWith('-endpoint')) return { ...node, port: server.port, usetls: true, tls: 'tls' };
      if (node.id.endsWith('-listener')) return { ...node, port: ports.amqp };
      if (node.id.endsWith('-mqtt')) return { ...node, port: mqtt.port };
      return node.id.endsWith('-send') ? { ...node, store } : node;
    });
    return [...changed, tls];
  }

  async function start(store: string): Promise<void> {
    const settings = {
      httpAdminRoot: '/',
      httpNodeRoot: '/',
      uiHost: '127.0.0.1',
      uiPort: ports.http,
      amqpEndpointReconnectTime: 20,
    };
    const env = { NODE_OPTIONS: `--max-old-space-size=${HEAP}` };
    await gateway.start(flow(store), { isPlain: true, settings, env });
    await gateway.until(() => gateway.log.includes('Connected to broker'));
    const connection = await connectTo(ports.amqp);
    const waiting: Waiting = new Map();
    devices = { sender: await sender(connection, IN), waiting };
    for (const outcome of ['accepted', 'rejected', 'released', 'modified'])
      devices.sender.on(outcome, ({ delivery }) => {
        waiting.get(delivery)!(outcome === 'accepted');
        waiting.delete(delivery);
      });
    connection.on('disconnected', () => {
      for (const answer of waiting.values()) answer(false);
    });
  }

  /** Resolves once the device has its answer, or will get none. */
  function overHttp(n: number): Promise<void> {
    return new Promise((resolve) => {
      const headers = { 'content-type': 'application/json' };
      const options = { port: ports.http, path: '/example/gateway', method: 'POST', headers, agent };
      const asked = request({ host: '127.0.0.1', ...options }, (response) => {
        if (response.statusCode === 202) told.add(n);
        response.resume();
        response.on('close', resolve);
      });
      asked.on('error', () => resolve());
      asked.end(reading(n));
    });
  }

  function overAmqp(n: number): Promise<void> {
    const { sender: link, waiting } = devices!;
    return new Promise((resolve) => {
      if (!link.connection.is_open()) return resolve();
      waiting.set(link.send({ body: { n } }), (isKept) => {
        if (isKept) told.add(n);
        resolve();
      });
    });
  }

  async function overMqtt(count: number): Promise<number[]> {
    const client = await connectMqtt(mqtt.port);
    const numbers = Array.from({ length: count }, () => last++);
    for (const n of numbers) await client.publishAsync('example/gateway/meter', reading(n), { qos: 1 });
    await client.endAsync();
    return numbers;
  }

  /** One device on HTTP and one on AMQP, until this many more were told, or nobody tells them any more. */
  async function load(count: number): Promise<void> {
    const enough = told.size + count;
    const device = async (send: (n: number) => Promise<void>): Promise<void> => {
      for (let before = -1; told.size < enough && before !== told.size;) {
        before = told.size;
        await Promise.all(Array.from({ length: 10 }, () => send(last++)));
      }
    };
    await Promise.all([device(overHttp), device(overAmqp)]);
  }

  async function counters(): Promise<{ name?: string; buffered?: number }[]> {
    const response = await fetch(`http://127.0.0.1:${ports.http}/amqp-endpoint/counters`);
    return ((await response.json()) as { nodes: object[] }).nodes;
  }

  async function buffered(count: number): Promise<void> {
    for (;;) {
      const sending = (await counters()).find(({ name }) => name === 'to the server');
      if (sending!.buffered === count) return;
    }
  }

  async function allArrived(numbers: Iterable<number>): Promise<void> {
    for (const n of numbers) while (!arrived.has(n)) await once(server, 'message');
  }

  /** Kills it while both devices send. */
  async function kill(count: number): Promise<void> {
    const loading = load(Infinity);
    const enough = told.size + count;
    while (told.size < enough) await new Promise<void>((resolve) => setImmediate(resolve));
    await gateway.end('SIGKILL');
    await loading;
  }

  /** What the process has taken since its start. */
  function used(): string {
    const [status, stat] = ['status', 'stat'].map((file) => readFileSync(`/proc/${gateway.pid}/${file}`, 'utf8'));
    const [, kilobytes] = /^VmHWM:\s+(\d+)/m.exec(status!)!;
    // After the name, which may have spaces; in hundredths of a second (proc(5)).
    const [user, system] = stat!.split(') ').at(-1)!.split(' ').slice(11, 13).map(Number);
    return `${Math.round(Number(kilobytes) / 1024)} MB at most, ${(user! + system!) / 100} s of CPU`;
  }

  it('loses nothing that a device was told is kept, whether the server is away or the process is killed', async () => {
    await start('write');
    const idle = used();
    const meters = await overMqtt(50);
    await load(2000);
    await allArrived([...told, ...meters]);
    process.stdout.write(`\nA gateway with ${HEAP} MB of heap: ${idle}; after ${arrived.size} readings: ${used()}\n\n`);

    // Mosquitto keeps what is published while the gateway is stopped in good order.
    await gateway.end('SIGTERM');
    meters.push(...(await overMqtt(50)));
    await start('write');
    await allArrived(meters);

    await server.stop();
    const [before, late] = [last, await overMqtt(50)];
    meters.push(...late);
    await load(200);
    await buffered(last - before);
    await kill(200);
    // Mosquitto keeps these until the gateway is back.
    meters.push(...(await overMqtt(50)));
    await start('write');
    await kill(100);

    await start('write');
    await server.resume();
    await allArrived([...told, ...meters]);
    should(told.size).be.aboveOrEqual(2500);
    await buffered(0);
  });

  it('loses nothing over a power failure either, where the disk is told to keep it', async () => {
    await start('sync');
    await server.stop();
    await load(100);
    await kill(100);
    disk.cutPower();

    await start('sync');
    await server.resume();
    await allArrived(told);
    should(told.size).be.aboveOrEqual(200);
  });
});
