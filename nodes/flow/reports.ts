/** How it stands with all endpoints and their nodes, for who watches Node-RED. */
import type { NodeAPI } from 'node-red';
import { GAUGES, TOTALS } from '../lib/counters';
import type { ConnectionReport, EndpointNode, NodeReport } from './endpoint';

export interface Reports {
  endpoints: ({ id: string; name?: string } & ConnectionReport)[];
  nodes: NodeReport[];
}

export interface Health {
  ok: boolean;
  endpoints: { id: string; name?: string; state: string; server: string; reason?: string }[];
  /** Those in error. */
  nodes: { id: string; type: string; name?: string; state: string; reason?: string }[];
}

/** States in which messages go nowhere, but for those that a flow has asked for. */
const ILL = new Set<string>(['fault', 'auth', 'disconnected', 'refused', 'connecting']);
/** States of a node that are its own, and not that of the connection. */
const ILL_NODE = new Set<string>(['fault', 'refused']);

const HELP: Record<(typeof TOTALS)[number] | (typeof GAUGES)[number], string> = {
  sent: 'Messages sent, repeated ones too.',
  received: 'Messages received.',
  accepted: 'Messages with the outcome accepted.',
  rejected: 'Messages with the outcome rejected.',
  released: 'Messages with the outcome released.',
  modified: 'Messages with the outcome modified.',
  retried: 'Messages to be sent again: given back, or in doubt after a lost connection.',
  failed: 'Messages that failed, as Catch nodes are told.',
  unmatched: 'Replies that no request waited for.',
  buffered: 'Messages taken from the flow that have no outcome yet.',
  inflight: 'Messages on their way.',
  held: 'Messages given to the flow that are not settled.',
  pending: 'Requests without their reply.',
  credit: 'Messages that may be sent now.',
};

/** The endpoints that are deployed, and the nodes that name them. */
export function reportsOf(RED: NodeAPI): Reports {
  const reports: Reports = { endpoints: [], nodes: [] };
  RED.nodes.eachNode(({ id, type }) => {
    if (type !== 'amqp-endpoint') return;
    const { endpoint, name } = (RED.nodes.getNode(id) ?? {}) as Partial<EndpointNode>;
    if (!endpoint) return;
    reports.endpoints.push({ id, ...(name && { name }), ...endpoint.report() });
    reports.nodes.push(...endpoint.reports());
  });
  return reports;
}

/** Nothing is wrong with an endpoint that no node uses, or that is not to connect yet. */
export function healthOf({ endpoints, nodes }: Reports): Health {
  const used = new Set(nodes.map(({ endpoint }) => endpoint));
  const isIll = ({ id, state }: Reports['endpoints'][number]): boolean => used.has(id) && ILL.has(state);
  const illNodes = nodes.filter(({ state }) => ILL_NODE.has(state));
  return {
    ok: !endpoints.some(isIll) && illNodes.length === 0,
    endpoints: endpoints.map((one) => {
      const { id, name, state, server, lastError } = one;
      return {
        id,
        ...(name && { name }),
        state,
        server,
        ...(isIll(one) && lastError && { reason: lastError.message }),
      };
    }),
    nodes: illNodes.map(({ id, type, name, state, lastError }) => ({
      id,
      type,
      ...(name && { name }),
      state,
      ...(lastError && { reason: lastError.message }),
    })),
  };
}

/** In the text format of Prometheus (0.0.4). */
export function prometheusOf({ endpoints, nodes }: Reports): string {
  const nameOf = new Map(endpoints.map(({ id, name }) => [id, name ?? id]));
  const ofNodes = [...TOTALS, ...GAUGES].map((counter) => {
    const isTotal = (TOTALS as readonly string[]).includes(counter);
    const lines = nodes.flatMap(({ id, type, name, address, endpoint, [counter]: count }) =>
      count === undefined
        ? []
        : [{ labels: { node: id, type, name, address, endpoint: nameOf.get(endpoint) }, value: count }],
    );
    return metric(isTotal ? `${counter}_total` : counter, isTotal ? 'counter' : 'gauge', HELP[counter], lines);
  });
  const ofEndpoints = (value: (one: Reports['endpoints'][number]) => number | undefined): Line[] =>
    endpoints.flatMap((one) => {
      const count = value(one);
      const { id, name, server } = one;
      return count === undefined ? [] : [{ labels: { endpoint: name ?? id, server }, value: count }];
    });
  return [
    ...ofNodes,
    metric(
      'connected',
      'gauge',
      '1 while there is a connection, or the endpoint listens.',
      ofEndpoints(({ state }) => Number(state === 'connected' || state === 'listening')),
    ),
    metric(
      'reconnects_total',
      'counter',
      'Connections after the first one.',
      ofEndpoints(({ reconnects }) => reconnects),
    ),
    metric(
      'clients',
      'gauge',
      'Clients of an endpoint that listens.',
      ofEndpoints(({ clients }) => clients),
    ),
  ].join('');
}

interface Line {
  labels: Record<string, string | undefined>;
  value: number;
}

function metric(name: string, type: 'counter' | 'gauge', help: string, lines: Line[]): string {
  if (lines.length === 0) return '';
  const full = `nodered_amqp_${name}`;
  const values = lines.map(({ labels, value }) => {
    const pairs = Object.entries(labels).flatMap(([key, label]) => (label ? [`${key}="${escaped(label)}"`] : []));
    return `${full}{${pairs.join(',')}} ${value}\n`;
  });
  return `# HELP ${full} ${help}\n# TYPE ${full} ${type}\n${values.join('')}`;
}

function escaped(label: string): string {
  return label.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
