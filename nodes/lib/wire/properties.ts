import { isPlainObject } from '../codec/notation';
import { simple } from './typed';

/** Properties of a link (2.7.3): values as they are, or in the notation of AMQP types. */
export type LinkProperties = Record<string, unknown>;

/** Whether they can be sent: an object of simple values. */
export function areLinkProperties(given: unknown): given is LinkProperties {
  return isPlainObject(given) && Object.values(given).every((value) => simple(value) !== undefined);
}

/** The properties as rhea writes them. */
export function propertiesOf(properties: LinkProperties): object {
  return Object.fromEntries(Object.entries(properties).map(([name, value]) => [name, simple(value)]));
}
