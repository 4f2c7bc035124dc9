// The node `$management` of a router, after AMQP Management WD09: what it answers to a request.
import rhea, { type Message } from 'rhea';
import type { Fields } from '../../../broker/rhea';
import type { Address, Distribution } from './addresses';

const PREFIX = 'org.apache.qpid.dispatch.';
const CONFIG = `${PREFIX}router.config.address`;
const OPERATIONS = ['QUERY', 'READ', 'CREATE', 'DELETE'];
const DISTRIBUTIONS = ['multicast', 'closest', 'balanced'];

/** An address as it is configured. */
export interface AddressConfig {
  name: string | null;
  identity: string;
  prefix: string;
  distribution: Distribution;
  waypoint: boolean;
}

export interface Managed {
  configs: AddressConfig[];
  addresses: Iterable<Address>;
  connections: Fields[];
  links: Fields[];
}

interface Answer {
  status: number;
  description: string;
  body: unknown;
}

const refusal = (status: number, description: string): Answer => ({ status, description, body: null });
const BAD_REQUEST = (description: string) => refusal(400, description);
const NOT_FOUND = refusal(404, 'Not Found');

/** The reply, but for where it goes. It has the correlation id of the request only, never its message id. */
export function replyTo(request: Message, managed: Managed): Message {
  const { status, description, body } = answer(request, managed);
  return {
    correlation_id: request.correlation_id,
    application_properties: { statusCode: rhea.types.wrap_int(status), statusDescription: description },
    body,
  };
}

function answer({ application_properties: asked = {}, body }: Message, managed: Managed): Answer {
  const { operation, type, entityType, name } = asked as Record<string, string | undefined>;
  if (!operation) return BAD_REQUEST('No operation');
  if (!OPERATIONS.includes(operation)) return refusal(501, 'Not Implemented');
  if (body === undefined) return refusal(500, 'No body');
  if (operation === 'QUERY') return query(entityType ?? '', body, managed);
  if (!type || (type !== CONFIG && !tableOf(type, managed))) return BAD_REQUEST('Unknown entity type');
  if (operation === 'CREATE') return create(type, name ?? null, body, managed);
  if (!name) return BAD_REQUEST('No name or identity provided');
  const found = tableOf(type, managed)!.find((entity) => entity['name'] === name);
  if (!found) return NOT_FOUND;
  if (operation === 'READ') return { status: 200, description: 'OK', body: found };
  if (type !== CONFIG) return refusal(403, 'Forbidden');
  managed.configs.splice(
    managed.configs.findIndex((config) => config.name === name),
    1,
  );
  return { status: 204, description: 'No Content', body: {} };
}

function query(entityType: string, body: Fields | null, managed: Managed): Answer {
  const table = tableOf(entityType, managed);
  if (!table) return BAD_REQUEST('Unknown entity type');
  const [columns = []] = COLUMNS.filter(([type]) => PREFIX + type === entityType).map(([, names]) => names.split(' '));
  const asked: string[] = body?.['attributeNames'] ?? [];
  const known = asked.filter((attribute) => columns.includes(attribute));
  const attributeNames = known.length > 0 ? known : columns;
  const results = table.map((entity) => attributeNames.map((attribute) => entity[attribute] ?? null));
  return { status: 200, description: 'OK', body: { attributeNames, results } };
}

function create(type: string, name: string | null, body: Fields | null, managed: Managed): Answer {
  if (type !== CONFIG) return refusal(403, 'Forbidden');
  const { configs } = managed;
  if (name !== null && configs.some((config) => config.name === name))
    return BAD_REQUEST('Name conflicts with an existing entity');
  if (!body || typeof body !== 'object') return BAD_REQUEST('Body of request must be a map');
  const { prefix, distribution, waypoint = false } = body;
  if (!prefix) return BAD_REQUEST('a prefix or pattern field is mandatory');
  if (configs.some((config) => config.prefix === prefix))
    return BAD_REQUEST('Address prefix conflicts with an existing entity');
  const identity = String(1 + Math.max(0, ...configs.map((config) => Number(config.identity))));
  configs.push({
    name,
    identity,
    prefix,
    distribution: DISTRIBUTIONS.includes(distribution) ? distribution : 'balanced',
    waypoint,
  });
  return { status: 201, description: 'Created', body: { ...configs.at(-1), type } };
}

/** Attributes of each type that can be asked for; a real router has more. */
const COLUMNS: [type: string, attributes: string][] = [
  ['connection', 'name identity host role dir container isAuthenticated user isEncrypted type opened operStatus'],
  [
    'router.link',
    'name identity type linkName linkType linkDir owningAddr capacity undeliveredCount unsettledCount deliveryCount connectionId',
  ],
  [
    'router.address',
    'name identity type key distribution subscriberCount remoteCount deliveriesIngress deliveriesEgress',
  ],
  ['router.config.address', 'name identity type prefix distribution waypoint'],
];

function tableOf(type: string, { configs, addresses, connections, links }: Managed): Fields[] | undefined {
  const rows: Record<string, () => Fields[]> = {
    connection: () => connections,
    'router.link': () => links,
    'router.config.address': () => configs,
    'router.address': () =>
      [...addresses].map(({ key, distribution, consumers, deliveries }) => ({
        name: key,
        identity: key,
        key,
        distribution,
        subscriberCount: consumers.length,
        remoteCount: 0,
        deliveriesIngress: deliveries.ingress,
        deliveriesEgress: deliveries.egress,
      })),
  };
  if (!type.startsWith(PREFIX)) return undefined;
  return rows[type.slice(PREFIX.length)]?.().map((row) => ({ ...row, type }));
}
