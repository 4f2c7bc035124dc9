// The twin of a device: what it is to be (desired), and what it says that it is (reported).
import { Refusal } from '../azure/refusals';

type Properties = Record<string, unknown>;

export interface TwinDocument {
  desired: Properties;
  reported: Properties;
}

/** What a device asks of its twin; the fields of its message. */
export interface TwinRequest {
  operation: unknown;
  resource: unknown;
  body: string;
}

/** `version`: of the properties that were changed. */
export interface TwinAnswer {
  body?: string;
  version?: number;
  /** whether changes of what is desired are told from now on */
  notifies?: boolean;
}

const NOTIFICATIONS = '/notifications/twin/properties/desired';

export class Twin {
  private desired: Properties = { $version: 1 };
  private reported: Properties = { $version: 1 };

  document(): TwinDocument {
    return structuredClone({ desired: this.desired, reported: this.reported });
  }

  /** Changes what is desired; null removes a property. Gives the change, with the new version, as devices are told it. */
  desire(patch: Properties): Properties & { $version: number } {
    const $version = nextVersion(this.desired);
    this.desired = { ...merged(this.desired, patch), $version };
    return { ...patch, $version };
  }

  /** Throws a Refusal, whose status is for the answer. */
  answer({ operation, resource, body }: TwinRequest): TwinAnswer {
    if (operation === 'GET' && resource === undefined) return { body: JSON.stringify(this.document()) };
    if (operation === 'PATCH' && resource === '/properties/reported') return this.report(body);
    if (resource === NOTIFICATIONS && operation === 'PUT') return { notifies: true };
    if (resource === NOTIFICATIONS && operation === 'DELETE') return { notifies: false };
    throw badRequest(`There is no ${String(operation)} of ${String(resource)}.`);
  }

  private report(body: string): TwinAnswer {
    const patch = objectIn(body);
    const version = nextVersion(this.reported);
    this.reported = { ...merged(this.reported, patch), $version: version };
    return { version };
  }
}

const badRequest = (description: string) => new Refusal('amqp:invalid-field', description, 400);
const nextVersion = ({ $version }: Properties): number => Number($version) + 1;
const isObject = (value: unknown): value is Properties =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function objectIn(json: string): Properties {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw badRequest(`The body is no JSON: ${String(error)}`);
  }
  if (!isObject(value)) throw badRequest('The body is no object.');
  return value;
}

function merged(old: Properties, patch: Properties): Properties {
  const changed = Object.entries(patch).map(([name, value]): [string, unknown] => {
    if (!isObject(value)) return [name, value];
    const before = old[name];
    return [name, merged(isObject(before) ? before : {}, value)];
  });
  return Object.fromEntries(
    Object.entries({ ...old, ...Object.fromEntries(changed) }).filter(([, value]) => value !== null),
  );
}
