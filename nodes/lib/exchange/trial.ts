import { randomUUID } from 'node:crypto';
import { isIP } from 'node:net';
import { Connection, type ConnectionOptions } from '../connection/connection';
import { type AmqpError, amqpError, type Diagnosis } from '../errors';
import { ReceiverLink } from '../link/receiver-link';
import { SenderLink } from '../link/sender-link';
import type { State } from '../state';
import { type Passed, WAY } from '../wire/passed';
import type { Opened } from '../wire/remote';

/** The steps of a trial, in their order; of a connection some are not there. */
export type Step = Passed | 'open' | 'token' | 'attach';

/** What to attach to, beside connecting. */
export interface Target {
  address: string;
  /** Whether to receive from the address, or to send to it. */
  role: 'source' | 'target';
}

/** How it went. */
export interface Verdict {
  /** What was passed. */
  steps: Step[];
  failure?: { step: Step; error: AmqpError };
  /** What the peer says of itself. */
  peer?: Opened;
}

const NOTHING = (): void => {};
/** Of the steps of the way, those that a diagnosis or an error code belongs to for certain. */
const STEP_OF: Partial<Record<Diagnosis, Step>> = {
  'host-not-found': 'name',
  refused: 'tcp',
  unreachable: 'tcp',
  'proxy-login': 'proxy',
  'proxy-refused': 'proxy',
  'proxy-unreachable': 'proxy',
  'client-certificate': 'tls',
  expired: 'tls',
  'no-tls': 'tls',
  'tls-expected': 'tls',
  untrusted: 'tls',
  'wrong-name': 'tls',
  'no-websocket': 'websocket',
  'login-expected': 'login',
  mechanism: 'login',
  unverified: 'login',
  'client-id': 'open',
  'no-token': 'token',
  'token-expired': 'token',
  'token-refused': 'token',
  'token-server': 'token',
};

/**
 * Connects once, as an endpoint with these options would, attaches if there is something to attach to, and closes. No
 * message is sent, and none is asked for. Its container id is one of its own, so that a connection which is in use is not
 * disturbed. Resolves in `timeout` milliseconds and the little that closing takes.
 */
export async function tryOut(given: ConnectionOptions, target: Target | undefined, timeout: number): Promise<Verdict> {
  const passed = new Set<Step>();
  const options = { ...given, containerId: `${given.containerId}_test`, passed: (what: Step) => passed.add(what) };
  const connection = new Connection(options);
  const timer = new Promise<undefined>((resolve) => setTimeout(resolve, timeout, undefined).unref());
  const user = { sessions: 0, connected: NOTHING, disconnected: NOTHING };
  try {
    connection.add(user);
    connection.open();
    const state = await Promise.race([settledState(connection), timer]);
    const error = errorIn(state, timeout);
    if (error) return { steps: [...passed], failure: { step: failedStep(error, passed, options), error } };
    passed.add('open');
    const { opened: peer } = connection;
    if (!target) return { steps: [...passed], peer };
    const refusal = await authorize(connection, target.address);
    if (refusal) return { steps: [...passed], peer, failure: { step: 'token', error: refusal } };
    const link = linkOf(connection, target);
    link.open();
    const objection = errorIn(await Promise.race([settledState(link), timer]), timeout);
    await link.close();
    if (objection) return { steps: [...passed], peer, failure: { step: 'attach', error: objection } };
    passed.add('attach');
    return { steps: [...passed], peer };
  } finally {
    await connection.close();
  }
}

/** Puts the token for an address, where the peer wants one. It is bounded by itself. */
async function authorize(connection: Connection, address: string): Promise<AmqpError | undefined> {
  try {
    await connection.options.authorize?.(connection, address);
    return undefined;
  } catch (error) {
    return error as AmqpError;
  }
}

function linkOf(connection: Connection, { address, role }: Target): SenderLink | ReceiverLink {
  const name = `test ${randomUUID()}`;
  if (role === 'target')
    return new SenderLink(
      connection,
      name,
      { address, guarantee: 'at-least-once' },
      { ready: NOTHING, settled: NOTHING, failed: NOTHING, lost: NOTHING },
    );
  // Without credit, nothing comes.
  return new ReceiverLink(
    connection,
    { name, address, isPreSettled: false },
    { message: NOTHING, attached: NOTHING, lost: NOTHING },
  );
}

/** The first state of a connection or link that is not on the way to another one. */
function settledState(of: Connection | SenderLink | ReceiverLink): Promise<State> {
  return new Promise((resolve) => {
    const look = (state: State): void => {
      if (['idle', 'connecting', 'detached'].includes(state.name)) return;
      of.off('state', look);
      resolve(state);
    };
    of.on('state', look);
    look(of.state);
  });
}

function errorIn(state: State | undefined, timeout: number): AmqpError | undefined {
  if (!state) return amqpError('AMQP_CONNECT.failed', { why: `no answer within ${timeout / 1000} s` });
  return 'error' in state ? state.error : undefined;
}

/** What an attempt has failed at: what the error is of, else the first thing that it has not passed. */
function failedStep(error: AmqpError, passed: Set<Step>, { servers, mechanism, tokens }: ConnectionOptions): Step {
  const known = STEP_OF[error.diagnosis!];
  if (known) return known;
  if (error.code === 'AMQP_AUTH') return tokens && !passed.has('tcp') ? 'token' : 'login';
  const isThere: Partial<Record<Passed, boolean>> = {
    name: servers.some(({ host }) => isIP(host) === 0),
    proxy: false,
    tls: servers.some(({ isSecure }) => isSecure),
    websocket: servers.some(({ path }) => path !== undefined),
    login: mechanism !== 'none',
  };
  const isProxied = passed.has('proxy');
  return WAY.find((step) => !passed.has(step) && isThere[step] !== false && !(isProxied && BEYOND.has(step))) ?? 'open';
}

/** What a proxy does for us. */
const BEYOND = new Set<Step>(['name', 'tcp']);
