import type { Fields } from '../../../broker/rhea';
import { secretOf } from '../../secrets';
import type { Answer, StatusNames } from './answers';
import { allows, Authority, type Claim, pathOf, type Policy, type Right, type Tokens } from './authorization';
import { busy, disabled, Refusal, type ServiceError, toError, unauthorized } from './refusals';
import { type Attached, type LinkInfo, type Purpose, Server, type ServerOptions } from './server';

export interface NamespaceOptions extends ServerOptions {
  /** by their names; default: RootManageSharedAccessKey, which may do everything */
  policies?: Record<string, Policy>;
  /** tokens of Entra (type `jwt`) that it takes */
  tokens?: Tokens;
}

/** What differs between the services that have namespaces. */
export interface Kind {
  name: string;
  /** bytes */
  maxMessageSize: number;
  /** its own number for what is throttled */
  busyCode: number;
  /** how the answers of its `$management` are written */
  statusNames: StatusNames;
}

const ROOT = 'RootManageSharedAccessKey';
const MANAGEMENT = '$management';

export const isManagement = (path: string) => path === MANAGEMENT || path.endsWith(`/${MANAGEMENT}`);

/**
 * A namespace, with what Service Bus and Event Hubs have in common: policies and tokens, requests to `$management`, and
 * entities that can fail or be disabled. Paths are in small letters.
 *
 * Events, besides those of each server: 'request' (address, operation, status).
 */
export abstract class Namespace<I extends LinkInfo> extends Server<Claim, I> {
  readonly authority: Authority;

  private readonly failures = new Map<string, { error: ServiceError; times: number }>();

  protected constructor(
    private readonly namespaceOptions: NamespaceOptions,
    private readonly kind: Kind,
  ) {
    const { name, maxMessageSize } = kind;
    super(namespaceOptions, {
      name,
      maxMessageSize,
      websocketPath: '/$servicebus/websocket',
      requiresSasl: true,
      tokenStatus: 202,
    });
    const { policies = { [ROOT]: { key: secretOf(`${name} key`) } }, tokens = new Set() } = namespaceOptions;
    this.authority = new Authority(policies, tokens);
  }

  /** Does what is asked for by a request to `$management`; throws a Refusal, when it does not. */
  protected abstract manage(attached: Attached<Claim, I>, request: Fields): Answer;
  protected abstract setDisabled(address: string, isDisabled: boolean): void;

  /** As an administrator copies it from the portal; with the switch that makes official clients do without TLS. */
  connectionString(policy = Object.keys(this.authority.policies)[0]!, entityPath?: string): string {
    const { key } = this.authority.policies[policy]!;
    return [
      `Endpoint=sb://127.0.0.1:${this.port}/`,
      `SharedAccessKeyName=${policy}`,
      `SharedAccessKey=${key}`,
      ...(entityPath === undefined ? [] : [`EntityPath=${entityPath}`]),
      ...(this.namespaceOptions.tls ? [] : ['UseDevelopmentEmulator=true']),
    ].join(';');
  }

  // Misbehaving

  /** The next so many operations on the entity fail with this error; which ones, the service says. */
  fail(address: string, error: ServiceError, times = Infinity): void {
    this.failures.set(pathOf(address), { error, times });
  }

  /** The service has too much to do, so many times. */
  throttle(address: string, times = Infinity): void {
    this.fail(address, toError(busy(this.kind.busyCode)), times);
  }

  recover(address: string): void {
    this.failures.delete(pathOf(address));
  }

  /** As an administrator disables an entity: its links end, and none is attached. */
  disable(address: string): void {
    this.setDisabled(address, true);
    for (const attached of this.linksOf(address)) this.cut(attached, disabled(address));
  }

  enable(address: string): void {
    this.setDisabled(address, false);
  }

  /** Throws what `fail` has planned for the path. */
  protected failAsPlanned(path: string): void {
    const plan = this.failures.get(path);
    if (!plan) return;
    if (--plan.times <= 0) this.failures.delete(path);
    throw new Refusal(plan.error.condition, plan.error.description ?? '', 503);
  }

  // Links

  protected override pathOf(address: string): string {
    return pathOf(address);
  }

  protected override authorizeLink({ peer, info }: Attached<Claim, I>): void {
    const right = info.role === 'receiver' ? 'Listen' : 'Send';
    this.authorize(peer.claims.values(), info.address, isManagement(info.address) ? undefined : right);
  }

  /** Throws a Refusal, unless a claim has the right, or any one. */
  protected authorize(claims: Iterable<Claim>, path: string, right: Right | undefined): void {
    const rights: Right[] = right ? [right] : ['Send', 'Listen', 'Manage'];
    if ([...claims].some((claim) => rights.some((each) => allows(claim, path, each)))) return;
    const claimsNeeded = right ? `'${right}'` : 'Some';
    throw unauthorized(`Unauthorized access. ${claimsNeeded} claim(s) are required.`);
  }

  /** What a link to `$management` is for. */
  protected management(attached: Attached<Claim, I>): Purpose {
    const run = (request: Fields) => {
      const body = this.manage(attached, request);
      return { status: body ? 200 : 204, body };
    };
    const answered = ({ operation }: Fields, status: number) =>
      this.emit('request', attached.info.address, operation, status);
    return { requests: { names: this.kind.statusNames, run, answered }, outbox: [] };
  }
}
