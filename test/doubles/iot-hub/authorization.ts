// Who is who: devices and policies with their keys, and the signatures made with these.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { Refusal, unauthorized } from '../azure/refusals';
import type { Claim as Basic, Guard } from '../azure/server';

/** ServiceConnect: the service's endpoints. DeviceConnect: those of all devices. */
export type Right = 'ServiceConnect' | 'DeviceConnect';

/** A shared access policy. */
export interface Policy {
  /** base64 */
  key: string;
  /** default: all */
  rights?: Right[];
}

export interface DeviceOptions {
  /** base64 */
  key?: string;
}

/** What a signature allows: the service's endpoints, or those of a device. */
export interface Claim extends Basic {
  service: boolean;
  device?: string;
  /** of all devices */
  devices: boolean;
}

const SAS = 'servicebus.windows.net:sastoken';
const LOGIN = /^(?<name>.+)@sas\.(?<root>root\.)?(?<hub>[^.]+)$/;
/** The resource of a signature: the hub, or one of its devices. Ports are for tests; the service has always the same. */
const RESOURCE = /^(?<host>[^/:]+)(?::\d+)?(?:\/devices\/(?<device>[^/]+))?$/;

export class Authority implements Guard<Claim> {
  constructor(
    readonly host: string,
    readonly devices: Record<string, { key: string }>,
    readonly policies: Record<string, Policy>,
  ) {}

  login(user: string, password: string): Claim | undefined {
    const { name, root, hub } = LOGIN.exec(user)?.groups ?? {};
    if (!name || hub !== this.host.split('.')[0]) return undefined;
    try {
      const claim = this.read(password, root ? name : undefined);
      return root || claim.device === name ? claim : undefined;
    } catch {
      return undefined;
    }
  }

  claim(type: unknown, audience: string, token: string): Claim {
    if (type !== SAS) throw new Refusal('amqp:invalid-field', `Tokens are of the type ${SAS} here.`, 400);
    const claim = this.read(token);
    // clients take it as it stands in the token
    if (decodeURIComponent(audience) !== claim.audience) throw refused(`The token is not for '${audience}'.`);
    return claim;
  }

  /** The claim in a signature; with `policy`, only one that is made with its key. Throws a Refusal. */
  private read(token: string, policy?: string): Claim {
    const [kind, fields = ''] = token.split(' ', 2);
    const { sr, sig, se, skn } = Object.fromEntries(new URLSearchParams(fields.replaceAll('+', '%2B')));
    // in the signature the resource stands as it is written in the token
    const signed = /(?:^|&)sr=([^&]*)/.exec(fields)?.[1];
    if (kind !== 'SharedAccessSignature' || !sr || !sig || !se) throw refused('MalformedToken');
    if (policy !== undefined && skn !== policy) throw refused('InvalidSignature');
    const { host, device } = RESOURCE.exec(sr)?.groups ?? {};
    if (host?.toLowerCase() !== this.host) throw refused('InvalidAudience');
    const key = skn ? own(this.policies, skn)?.key : own(this.devices, device ?? '')?.key;
    if (key === undefined || !isSignedWith(key, `${signed}\n${se}`, sig)) throw refused('InvalidSignature');
    const until = Number(se) * 1000;
    if (!(until > Date.now())) throw refused('ExpiredToken');
    const rights = skn ? (own(this.policies, skn)?.rights ?? ['ServiceConnect', 'DeviceConnect']) : [];
    return {
      audience: sr,
      service: !device && rights.includes('ServiceConnect'),
      devices: !device && rights.includes('DeviceConnect'),
      ...(device && (!skn || rights.includes('DeviceConnect')) && { device }),
      until,
    };
  }
}

/** A signature for a resource, until a time in milliseconds; with the name of the policy that the key is of, if it is of one. */
export function sign(resource: string, key: string, until: number, policy?: string): string {
  const sr = encodeURIComponent(resource);
  const se = Math.floor(until / 1000);
  const sig = encodeURIComponent(hmac(key, `${sr}\n${se}`).toString('base64'));
  return `SharedAccessSignature sr=${sr}&sig=${sig}&se=${se}${policy === undefined ? '' : `&skn=${policy}`}`;
}

function isSignedWith(key: string, text: string, signature: string): boolean {
  const [given, right] = [Buffer.from(signature, 'base64'), hmac(key, text)];
  return given.length === right.length && timingSafeEqual(given, right);
}

const hmac = (key: string, text: string) => createHmac('sha256', Buffer.from(key, 'base64')).update(text).digest();

const refused = (why: string): Refusal => unauthorized(`401002: IotHubUnauthorizedAccess (${why})`);

const own = <T>(all: Record<string, T>, name: string): T | undefined =>
  Object.hasOwn(all, name) ? all[name] : undefined;
