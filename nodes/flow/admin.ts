/** What the editor, and who watches Node-RED, ask by HTTP. Each route needs a permission. */
import type { NodeAPI } from 'node-red';
import { accountOf } from '../lib/auth/accounts';
import { messageOf } from '../lib/errors';
import type { EndpointNode } from './endpoint';
import { HttpError } from './http-error';
import { healthOf, prometheusOf, reportsOf } from './reports';
import { Trials } from './trial';

/** What is used of a request and a response of Express. */
interface Request {
  body?: unknown;
  query: Record<string, unknown>;
}
interface Response {
  status(code: number): this;
  type(name: string): this;
  json(body: unknown): void;
  send(text: string): void;
}

type Take = (request: Request) => unknown;

/** Answers with what there is to tell, or with why not: with the status of HTTP that says so. */
const answer = (take: Take) => (request: Request, response: Response) => {
  void (async () => response.json(await take(request)))().catch((error: unknown) =>
    response.status(error instanceof HttpError ? error.status : 400).send(messageOf(error)),
  );
};

/** `properties`: what the open says of us. */
export function admin(RED: NodeAPI, properties: Record<string, string>): void {
  const trials = new Trials(RED, properties);
  const post = (path: string, permission: string, take: Take): void => {
    RED.httpAdmin?.post(`/amqp-endpoint/${path}`, RED.auth.needsPermission(permission), answer(take));
  };
  const get = (path: string, take: (request: Request, response: Response) => void): void => {
    RED.httpAdmin?.get(`/amqp-endpoint/${path}`, RED.auth.needsPermission('amqp-endpoint.read'), take);
  };

  // The form sends a password here, and keeps what comes back: the password itself is stored nowhere.
  post('account', 'flows.write', ({ body }) => {
    const { name, password } = (body ?? {}) as { name?: unknown; password?: unknown };
    if (typeof name !== 'string' || name === '' || typeof password !== 'string' || password === '')
      throw new Error('name and password are needed');
    return accountOf(name, password);
  });

  // Who may deploy flows can send the stored password anywhere as well.
  post('test', 'flows.write', ({ body }) => trials.run(body ?? {}));

  post('addresses', 'amqp-endpoint.read', ({ body }) => {
    const { id } = (body ?? {}) as { id?: unknown };
    const { endpoint } = (RED.nodes.getNode(String(id)) ?? {}) as Partial<EndpointNode>;
    // Nothing to suggest is no error, which a browser would have in its console.
    return endpoint?.addresses().catch(() => []) ?? [];
  });

  get('counters', ({ query }, response) => {
    const reports = reportsOf(RED);
    if (query['format'] !== 'prometheus') return response.json(reports);
    response.type('text/plain; version=0.0.4; charset=utf-8').send(prometheusOf(reports));
  });

  get('health', (_request, response) => {
    const health = healthOf(reportsOf(RED));
    response.status(health.ok ? 200 : 503).json(health);
  });
}
