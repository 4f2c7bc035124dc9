import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { NodeAPI } from 'node-red';
import { admin } from './flow/admin';
import { configOf, Endpoint, type EndpointNode } from './flow/endpoint';
import { type Credentials, type EndpointDef, EndpointSettings } from './flow/endpoint-options';
import { Settings } from './flow/settings';

const { name: product, version } = JSON.parse(readFileSync(join(__dirname, '../package.json'), 'utf8')) as {
  name: string;
  version: string;
};

export default function init(RED: NodeAPI): void {
  const platform = `Node-RED ${(RED.settings as { version?: string }).version}, Node.js ${process.version}, ${process.platform}`;
  const properties = { product, version, platform };

  function AmqpEndpoint(this: EndpointNode, config: EndpointDef): void {
    RED.nodes.createNode(this, config);
    const settings = new Settings(RED, this, config, 'amqp-endpoint');
    const options = new EndpointSettings(RED, this, settings, config).options(properties);
    // A URL may as well come from the environment, where it is no secret kept in the flow.
    const { host, urls } = configOf(RED, this.id) ?? {};
    const isInUrl = /:\/\/[^/\s]*@|SharedAccess(Key|Signature)=/i.test(`${String(host)} ${String(urls)}`);
    if (config.username || config.password || isInUrl) this.warn(RED._('amqp-endpoint.log.clear-text'));
    this.users = {};
    this.endpoint = new Endpoint(RED, this, options);
    this.on('close', (done: () => void) => void this.endpoint.close().finally(done));
  }

  admin(RED, properties);

  RED.nodes.registerType<EndpointNode, EndpointDef, object, Credentials>('amqp-endpoint', AmqpEndpoint, {
    credentials: {
      user: { type: 'text' },
      pass: { type: 'password' },
      clientsecret: { type: 'password' },
      headers: { type: 'text' },
      accounts: { type: 'text' },
    },
    settings: {
      amqpEndpointReconnectTime: { value: 500 },
      amqpEndpointLoginRetryTime: { value: 30_000 },
      amqpEndpointCloseTime: { value: 5000 },
    },
  });
}
