import { createHmac } from 'node:crypto';

/** A shared access policy of Azure. */
export interface SharedKey {
  name: string;
  key: string;
}

/**
 * A shared access signature of Azure (Service Bus, "Shared Access Signatures"): it lets its holder use what lies below the
 * audience, a URI, until `expires`, in milliseconds since 1970. The key is taken as it is written, not decoded.
 */
export function sharedAccessSignature(audience: string, { name, key }: SharedKey, expires: number): string {
  return `${signed(audience, key, expires)}&skn=${encodeURIComponent(name)}`;
}

/**
 * The same of Azure IoT Hub, which has its keys in base64 (IoT Hub, "Control access by shared access signatures"). Without
 * `policy` the key is that of the device which the resource is.
 */
export function hubSignature(resource: string, key: string, expires: number, policy?: string): string {
  const signature = signed(resource, Buffer.from(key, 'base64'), expires);
  return policy === undefined ? signature : `${signature}&skn=${encodeURIComponent(policy)}`;
}

function signed(audience: string, key: string | Buffer, expires: number): string {
  const resource = encodeURIComponent(audience);
  const end = Math.ceil(expires / 1000);
  const signature = createHmac('sha256', key).update(`${resource}\n${end}`).digest('base64');
  return `SharedAccessSignature sr=${resource}&sig=${encodeURIComponent(signature)}&se=${end}`;
}
