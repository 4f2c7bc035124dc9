// Who may do what: policies with their keys, the tokens signed with these, and how long a connection may use a node.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { pathIn } from './paths';
import { Refusal, unauthorized } from './refusals';
import type { Claim as Basic, Guard } from './server';

export type Right = 'Send' | 'Listen' | 'Manage';

/** A shared access policy, of the namespace or of one entity. */
export interface Policy {
  key: string;
  /** default: all of the namespace */
  entity?: string;
  /** default: all; Manage comprises the others */
  rights?: Right[];
}

/** Tokens of Entra that are good for everything; a Map says for how many milliseconds. */
export type Tokens = Set<string> | Map<string, number>;

/** What a token allows, or a login. */
export interface Claim extends Basic {
  /** the path of a node, for it and all below it; '' = all of them */
  audience: string;
  rights: Right[];
}

export class Authority implements Guard<Claim> {
  /** Milliseconds since 1970, as the service has it. */
  clock: () => number = Date.now;

  constructor(
    readonly policies: Record<string, Policy>,
    public tokens: Tokens,
  ) {}

  /** What somebody who logs in with a policy's name and key may do. */
  login(name: string, key: string): Claim | undefined {
    const policy = this.policy(name);
    if (policy?.key !== key) return undefined;
    return { audience: pathOf(policy.entity ?? ''), rights: rightsOf(policy), until: Infinity };
  }

  /** The claim in a token for an audience, as put-token brings it. */
  claim(type: unknown, audience: string, token: string): Claim {
    if (type !== 'servicebus.windows.net:sastoken' && type !== 'jwt') {
      throw new Refusal('amqp:not-implemented', `Unsupported token type ${String(type)}`, 400);
    }
    // the client for Python says jwt of signatures too
    return token.startsWith('SharedAccessSignature ')
      ? this.sharedAccess(audience, token)
      : this.bearer(audience, token);
  }

  private sharedAccess(audience: string, token: string): Claim {
    const [, fields = ''] = token.split(' ', 2);
    // in the signature the resource stands as it is written in the token
    const { sr, sig, se, skn } = Object.fromEntries(fields.split('&').map((field) => divided(field)));
    if (!sr || !sig || !se || !skn) throw unauthorized('MalformedToken');
    const policy = this.policy(decodeURIComponent(skn));
    const right = createHmac('sha256', policy?.key ?? '')
      .update(`${sr}\n${se}`)
      .digest();
    const given = Buffer.from(decodeURIComponent(sig), 'base64');
    if (!policy || given.length !== right.length || !timingSafeEqual(given, right)) {
      throw unauthorized('InvalidSignature: The token has an invalid signature.');
    }
    const until = Number(se) * 1000;
    if (!(until > this.clock())) throw unauthorized('ExpiredToken: The token is expired.');
    const resource = pathOf(decodeURIComponent(sr));
    const path = pathOf(audience);
    if (!covers(resource, path) || !covers(pathOf(policy.entity ?? ''), path)) {
      throw unauthorized(`InvalidAudience: The token is not for '${audience}'.`);
    }
    return { audience: path, rights: rightsOf(policy), until };
  }

  private bearer(audience: string, token: string): Claim {
    if (!this.tokens.has(token)) throw unauthorized('InvalidToken: The token is not known.');
    const life = this.tokens instanceof Map ? this.tokens.get(token)! : Infinity;
    return { audience: pathOf(audience), rights: ['Manage'], until: Date.now() + life };
  }

  private policy(name: string): Policy | undefined {
    return Object.hasOwn(this.policies, name) ? this.policies[name] : undefined;
  }
}

/** Whether the claim lets its owner do this with a node. */
export function allows({ audience, rights, until }: Claim, address: string, right: Right): boolean {
  const has = rights.includes('Manage') || rights.includes(right);
  return has && until > Date.now() && covers(audience, pathOf(address));
}

/** The path of a node, from its address or its URL: names of entities are the same in all cases. */
export const pathOf = (address: string): string => pathIn(address).toLowerCase();

const covers = (path: string, other: string) => path === '' || path === other || other.startsWith(`${path}/`);
const rightsOf = ({ rights = ['Manage'] }: Policy): Right[] => rights;

function divided(field: string): [string, string] {
  const at = field.indexOf('=');
  return [field.slice(0, at), field.slice(at + 1)];
}
