// What the forms of all nodes share. Node-RED serves this folder, and the editor loads this file once, with
// amqp-endpoint.html. Forms look into it when they are used, never while they load: sets may arrive in any order.
// It is a module, so that its names stay its own.

// As RFC 3986 has it, which leaves less as it is than JavaScript does.
const encode = (text) =>
  encodeURIComponent(text).replace(/[!'()*]/g, (c) => '%' + c.charCodeAt(0).toString(16).toUpperCase());
// RabbitMQ 3 decodes nothing but the slash.
const escapeSlash = (text) => text.replaceAll('/', '%2F');
// The name of an exchange and, behind the first slash, the key.
const keyed = (name) => name.split(/\/(.*)/s, 2).filter(Boolean);

// Credentials in a URL: what is not encoded as it should be is meant as it stands.
const decode = (text) => {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
};
const SERVER_URL = /^([a-z][a-z\d+.-]*):\/\/(?:([^:]*)(?::(.*))?@)?(.*)$/is;
// The parts that tell a connection string: the order is free. One without Endpoint is to be called what it is, too.
const CONNECTION_STRING = /(?:^|;)\s*(?:endpoint|hostname|sharedaccess(?:keyname|key|signature)|entitypath)\s*=/i;
// A comma or a blank inside a URL may belong to a password: they separate only where another URL, or nothing, follows.
const BETWEEN = /\s*\n\s*|[\s,]+(?=[a-z][a-z\d+.-]*:\/\/|\$\{|$)/i;
const SCHEMES = new Map([
  ['amqp', { port: '5672', usetls: false }],
  ['amqps', { port: '5671', usetls: true }],
  ['ws', { port: '80', usetls: false, isWebSocket: true }],
  ['wss', { port: '443', usetls: true, isWebSocket: true }],
]);
const IPV6 = /^[\da-f]*:[\da-f:.]*:[\da-f.]*(?:%\w+)?$/i;
const HOST = /^(?:\[([\da-f:.]+(?:%\w+)?)\]|([^\s@;=/?#[\]:,"'<>\\]+))(?::(\d{1,5}|\$\{\w+\}))?$/i;

// What the portal of Azure gives to copy: Endpoint=sb://name.servicebus.windows.net/;SharedAccessKeyName=...;SharedAccessKey=...
const connectionString = (text) => {
  const parts = new Map(
    text.split(';').map(function (part) {
      const [name, ...value] = part.split('=');
      // A key ends in =.
      return [name.trim().toLowerCase(), value.join('=').trim()];
    }),
  );
  const part = (name) => parts.get(name) || '';
  const [endpoint, hub, device, module, policy, key, signature] = [
    'endpoint',
    'hostname',
    'deviceid',
    'moduleid',
    'sharedaccesskeyname',
    'sharedaccesskey',
    'sharedaccesssignature',
  ].map(part);
  if (!endpoint && !hub) return { error: 'string-endpoint' };
  const user = device ? 'devices/' + device + (module && '/modules/' + module) : policy;
  const place = endpoint ? /^sb:\/\/([^/]*)\/?$/i.exec(endpoint)?.[1] || '' : hub;
  const [, ipv6, name, port] = HOST.exec(place) || [];
  const host = ipv6 || name;
  if (!host) return { error: endpoint ? 'string-host' : 'string-hub' };
  if (/^\d/.test(port) && (port < 1 || port > 65535)) return { error: 'port' };
  if (signature && (policy || key)) return { error: 'string-both' };
  if (policy && !key) return { error: 'string-key' };
  if (key && !user) return { error: 'string-name' };
  if (!key && !signature) return { error: 'string-login' };
  const isEmulator = part('usedevelopmentemulator').toLowerCase() === 'true';
  return {
    host: host,
    port: port || (isEmulator ? '5672' : '5671'),
    usetls: !isEmulator,
    user: user,
    pass: key || signature,
    isShared: true,
    peer: endpoint ? 'servicebus' : 'iothub',
    entity: part('entitypath'),
  };
};

// What SAP gives to copy: {"messaging": [{"protocol": ["amqp10ws"], "uri": "wss://...", "oa2": {"tokenendpoint": ..., "clientid": ...}}]}
const serviceKey = (text) => {
  const key = jsonOf(text);
  if (!isObject(key)) return { error: 'key-json' };
  // A binding has the key in it.
  const { messaging, namespace } = isObject(key.credentials) ? key.credentials : key;
  const all = Array.isArray(messaging) ? messaging : [];
  const { uri, oa2 } = all.find((one) => [one?.protocol].flat().includes('amqp10ws')) || {};
  const server = amqp10.server(String(uri ?? ''));
  if (server.error || server.path === undefined) return { error: 'key-protocol' };
  const { tokenendpoint, clientid, clientsecret } = isObject(oa2) ? oa2 : {};
  if (!tokenendpoint || !clientid) return { error: 'key-login' };
  return {
    isServiceKey: true,
    urls: server.rest,
    tokenurl: String(tokenendpoint),
    clientid: String(clientid),
    clientsecret: String(clientsecret ?? ''),
    namespace: String(namespace ?? ''),
  };
};

const VARIABLE = /\$\{\w+\}/g;
const hasVariable = (text) => String(text).search(VARIABLE) >= 0;

const isSimple = (value) => ['string', 'number', 'boolean'].includes(typeof (value?.$amqp ? value.value : value));

const numberOf = (value) => Number(String(value).trim() || NaN);

const AZURE = {
  usetls: true,
  host: 'name.servicebus.windows.net',
  replyto: ['target', 'fixed'],
  hint: 'amqp-endpoint.hint.azure',
};
const CLASSIC = {
  known: /:\/\//,
  both: { queue: (name) => 'queue://' + name, topic: (name) => 'topic://' + name },
};

// What is wrong is seen at once.
const openWrongFolds = () => $('.amqp10-fold').has('.input-error, .amqp10-refused').prop('open', true);

// What a typed input for an address offers besides text: where each message has its own, and where there is no message yet.
const PER_MESSAGE = ['msg', 'flow', 'global', 'env', 'jsonata'];
const AT_START = ['flow', 'global', 'env'];

// The addresses that other nodes have with an endpoint.
const usedWith = (endpoint, node) => {
  const addresses = [];
  RED.nodes.eachNode(function (other) {
    if (other === node || other.endpoint !== endpoint) return;
    ['address', 'replyaddress'].forEach(function (name) {
      if (other[name] && (other[name + 'Type'] || 'str') === 'str') addresses.push(other[name]);
    });
  });
  return addresses;
};

// The addresses that servers have, by their endpoint, as far as they were asked since the form was opened.
let served = {};

const askServer = (endpoint) => {
  if (served[endpoint] || !RED.nodes.node(endpoint)) return;
  served[endpoint] = [];
  $.ajax({
    url: 'amqp-endpoint/addresses',
    method: 'POST',
    contentType: 'application/json',
    data: JSON.stringify({ id: endpoint }),
    success: (addresses) => (served[endpoint] = addresses),
  });
};

// A typed input for an address. Text is completed to the addresses in use. Answers the input in which a person types.
const typedAddress = (node, name, types) => {
  const row = $('#node-input-' + name).closest('.form-row');
  const complete = (typed) => {
    const endpoint = $('#node-input-endpoint').val();
    const all = new Set([...usedWith(endpoint, node), ...(served[endpoint] || [])]);
    const addresses = [...all].toSorted((a, b) => a.localeCompare(b));
    const found = addresses.filter((one) => one !== typed && one.toLowerCase().includes(typed.toLowerCase()));
    if (!found.length) return [];
    // The tab key takes the first one: it must not replace what was typed.
    const own = { value: typed, label: typed || input.attr('placeholder') };
    return [own, ...found.map((one) => ({ value: one, label: one }))];
  };
  const text = {
    value: 'str',
    label: RED._('typedInput.type.str'),
    icon: 'red/images/typedInput/az.svg',
    autoComplete: complete,
  };
  $('#node-input-' + name).typedInput({
    default: 'str',
    types: [text, ...types],
    typeField: '#node-input-' + name + 'Type',
  });
  const input = row.find('.red-ui-typedInput-input').attr('id', 'node-input-' + name + '-text');
  // The field that it was for is hidden now.
  row.find('label').first().attr('for', input.attr('id'));
  row.on('focusin', () => askServer($('#node-input-endpoint').val()));
  return input;
};

// The kinds of filter of a receiver, in groups, as nodes/flow/filters.ts reads them.
const FILTERS = {
  any: ['no-local'],
  rabbitmq: ['stream-offset', 'stream-filter', 'stream-unfiltered', 'properties', 'application-properties', 'sql'],
  kafka: ['kafka-partition', 'kafka-offset'],
  more: ['annotations', 'other'],
};
const FILTER_KINDS = Object.values(FILTERS).flat();
// Those that say all by themselves.
const COMPLETE = ['no-local', 'stream-unfiltered'];
const FILTER_TYPES = ['string', 'symbol', 'boolean', 'int', 'uint', 'long', 'ulong', 'double', 'timestamp', 'json'];
// The whole numbers that a type has, as far as JavaScript has them exactly.
const WHOLE = {
  int: [-(2 ** 31), 2 ** 31 - 1],
  uint: [0, 2 ** 32 - 1],
  long: [Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
  ulong: [0, Number.MAX_SAFE_INTEGER],
  timestamp: [0, Number.MAX_SAFE_INTEGER],
};
const isWithin = (type, number) => Number.isInteger(number) && number >= WHOLE[type][0] && number <= WHOLE[type][1];
const isAscii = (text) => /^[\x20-\x7e]*$/.test(text);
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
const timeOf = (text) => (/^\d+$/.test(text) ? Number(text) : Date.parse(text));
const jsonOf = (text) => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

// Single values, and lists and maps of such: there is no null.
const isTyped = (value) => {
  if (Array.isArray(value)) return value.every(isTyped);
  if (!isObject(value)) return value !== null && value !== undefined;
  if (!('$amqp' in value)) return Object.values(value).every(isTyped);
  return WHOLE[value.$amqp] ? isWithin(value.$amqp, value.value) : isTyped(value.value);
};
const isObjectText = (text) => isObject(jsonOf(text)) && isTyped(jsonOf(text));

// What the value of a filter has to be, each with the name of what is said of another.
const VALUES = {
  'stream-offset': [
    (text) =>
      /^(first|last|next|\d+[YMDhms])$/.test(text) ||
      (/^\d+$/.test(text) ? isWithin('ulong', Number(text)) : isWithin('timestamp', timeOf(text))),
    'offset',
  ],
  properties: [(text) => isObjectText(text) && Object.keys(jsonOf(text)).every(isAscii), 'object'],
  'application-properties': [isObjectText, 'object'],
  'kafka-partition': [(text) => /^-?\d+$/.test(text) && isWithin('int', Number(text)), 'whole'],
  'kafka-offset': [(text) => /^-?\d+$/.test(text) && isWithin('long', Number(text)), 'whole'],
};
// The same of one that is not in the list, by its type.
const ofWhole = (type) => [(text) => text !== '' && isWithin(type, Number(text)), 'type'];
const OF_TYPE = {
  symbol: [isAscii, 'ascii'],
  boolean: [(text) => text === 'true' || text === 'false', 'type'],
  double: [(text) => text !== '' && !Number.isNaN(Number(text)), 'type'],
  timestamp: [(text) => isWithin('timestamp', timeOf(text)), 'time'],
  json: [(text) => isTyped(jsonOf(text)), 'json'],
  ...Object.fromEntries(['int', 'uint', 'long', 'ulong'].map((type) => [type, ofWhole(type)])),
};

// What is wrong with a filter, by its name in the catalogue; undefined: nothing.
const wrongInFilter = ({ filter, type = 'string', ...row }) => {
  const [text, name, symbol] = [row.value, row.name, row.descriptor].map((cell) => String(cell ?? '').trim());
  if (!FILTER_KINDS.includes(filter)) return 'kind';
  if (filter !== 'other') {
    if (COMPLETE.includes(filter) || hasVariable(text)) return undefined;
    const [isRight, wrong] = VALUES[filter] || [() => true];
    return text === '' ? 'value' : isRight(text) ? undefined : wrong;
  }
  const isCode = /^(0x[\da-f]+|\d+)$/i.test(symbol);
  if (!name) return 'name';
  if (![name, symbol].every((one) => isAscii(one) || hasVariable(one))) return 'ascii';
  if (isCode && !Number.isSafeInteger(Number(symbol))) return 'descriptor';
  if (!FILTER_TYPES.includes(type)) return 'kind';
  // Plain, an empty text is none.
  if (type === 'json' && !symbol && jsonOf(text) === '') return 'value';
  const [isRight, wrong] = OF_TYPE[type] || [() => true];
  return hasVariable(text) || isRight(text) ? undefined : wrong;
};

// Two filters of the same name are one to the server.
const filterName = ({ filter, name }) => (filter === 'other' ? 'other ' + String(name).trim() : filter);

const say = (key) => amqp10.text('amqp-receiver.' + key);
const option = (value, text) => $('<option>').val(value).text(text);

// The row of a filter; answers what reads it.
const buildFilter = function (container, { filter = 'stream-offset', value, name, descriptor, type = 'string' }) {
  const [first, second] = [1, 2].map(() => $('<div class="amqp10-cells"></div>').appendTo(container));
  const cell = (element, key, given, row) => amqp10.cell(element, say(key), given).appendTo(row);
  const kinds = cell('<select>', 'cell.filter', undefined, first);
  Object.entries(FILTERS).forEach(function ([group, names]) {
    const options = names.map((one) => option(one, say('filter.' + one)));
    $('<optgroup>')
      .attr('label', say('filters.' + group))
      .append(options)
      .appendTo(kinds);
  });
  const text = cell('<input type="text">', 'cell.value', value, first);
  const names = cell('<input type="text">', 'cell.name', name, second).attr('placeholder', say('placeholder.name'));
  const symbol = cell('<input type="text">', 'cell.descriptor', descriptor, second);
  symbol.attr('placeholder', say('placeholder.descriptor'));
  const types = cell('<select>', 'cell.type', undefined, second);
  types.append(FILTER_TYPES.map((one) => option(one, one))).val(type);
  const update = function () {
    const kind = kinds.val();
    text.toggle(!COMPLETE.includes(kind)).attr('placeholder', say('placeholder.filter.' + kind));
    second.toggle(kind === 'other');
  };
  kinds.val(filter).on('change', update);
  update();
  return function () {
    const kind = kinds.val();
    return {
      filter: kind,
      value: COMPLETE.includes(kind) ? '' : text.val().trim(),
      ...(kind === 'other' && { name: names.val().trim(), descriptor: symbol.val().trim(), type: types.val() }),
    };
  };
};

// Ours, whatever settings.nodeDefaults says for new nodes.
const defaultOf = (def) => (def._override ? def._originalValue : def.value);

const setTo = (input, value) => {
  if (input.attr('type') === 'checkbox') input.prop('checked', value);
  else input.val(value);
};

const isAtDefault = (input, def) => {
  const value = input.type === 'checkbox' ? input.checked : ($(input).val() ?? '');
  return (def?.type && value === '_ADD_') || String(value) === String((def && defaultOf(def)) ?? '');
};

// Each fold says in how many of its rows something is set.
const countSet = (node, prefix) => {
  const form = $('#' + prefix + 'name').closest('.amqp10-form');
  const fields = { ...node._def.credentials, ...node._def.defaults };
  const isSet = (row) =>
    row.style.display !== 'none' &&
    [...row.querySelectorAll('[id^="' + prefix + '"]')].some(function (input) {
      const name = input.id.slice(prefix.length);
      return name in fields && !isAtDefault(input, node._def.defaults[name]);
    });
  const count = () =>
    form.find('.amqp10-fold').each(function () {
      const set = $(this).find('.form-row').toArray().filter(isSet).length;
      const summary = $(this).children('summary');
      if (set) summary.attr('data-set', amqp10.text('amqp-endpoint.fold.set', { n: set }));
      else summary.removeAttr('data-set');
    });
  form.on('change input', count);
  // The editor fills in the rest after this.
  setTimeout(count, 0);
};

// The node that each kind of form, of a node or of a configuration node, was opened for last.
const opened = {};
const prefixOf = (node) => (node._def?.category === 'config' ? 'node-config-input-' : 'node-input-');

// A property an old flow does not have gets the value the runtime gives it.
const fillMissing = (node, field, legacy) => {
  Object.entries(node._def.defaults).forEach(function ([name, def]) {
    const value = legacy && name in legacy ? legacy[name] : defaultOf(def);
    if (node[name] === undefined && value !== undefined) setTo(field(name), value);
  });
};

window.amqp10 = {
  // What the forms know of each kind of server. `usetls`, `port` and `sessions` are set when a person chooses it. `host`,
  // `urls` and `hostname` are examples. The functions say how an address is written, given a bare name: for a receiver
  // (`source`), a sender (`target`) or `both`; `known` tells that it is so already. `replyto`: what a requester has instead of
  // an address that the server makes. `hint`: the key of a text.
  peers: {
    // It makes a topic of a new address.
    artemis: { kinds: ['queue', 'topic'] },
    openshift: {
      usetls: true,
      port: '443',
      host: 'broker.apps.example.com',
      kinds: ['queue', 'topic'],
      hint: 'amqp-endpoint.hint.openshift',
    },
    activemq: CLASSIC,
    rabbitmq4: {
      replyto: ['capability', 'direct', 'fixed', 'pair'],
      hostname: 'vhost:name',
      known: /^\//,
      both: { queue: (name) => '/queues/' + encode(name) },
      target: { exchange: (name) => '/exchanges/' + keyed(name).map(encode).join('/') },
    },
    rabbitmq3: {
      replyto: ['fixed'],
      hostname: 'vhost:name',
      known: /^\//,
      both: {
        'existing-queue': (name) => '/amq/queue/' + escapeSlash(name),
        'new-queue': (name) => '/queue/' + escapeSlash(name),
        topic: (name) => '/topic/' + escapeSlash(name),
      },
      target: { exchange: (name) => '/exchange/' + [...keyed(name), 'key'].slice(0, 2).map(escapeSlash).join('/') },
      hint: 'amqp-endpoint.hint.rabbitmq3',
    },
    brokerj: {},
    ibmmq: {
      replyto: ['capability', 'fixed'],
      kinds: ['queue'],
      sessions: 'one',
      hint: 'amqp-endpoint.hint.ibmmq',
    },
    solace: {
      usetls: true,
      host: 'name.messaging.solace.cloud',
      replyto: ['capability', 'fixed'],
      known: /^(queue|topic):\/\//,
      both: { queue: (name) => 'queue://' + name, topic: (name) => 'topic://' + name },
      hint: 'amqp-endpoint.hint.solace',
    },
    router: {},
    amazonmq: {
      ...CLASSIC,
      usetls: true,
      host: 'b-….mq.eu-west-1.amazonaws.com',
      hint: 'amqp-endpoint.hint.amazonmq',
    },
    servicebus: {
      ...AZURE,
      known: /\/(Subscriptions\/|\$)/i,
      source: { subscription: (name) => name + '/Subscriptions/name' },
    },
    eventhubs: AZURE,
    iothub: {
      ...AZURE,
      host: 'name.azure-devices.net',
      replyto: ['fixed'],
      known: /^\//,
      source: {
        commands: (name) => '/devices/' + name + '/messages/devicebound',
        feedback: () => '/messages/serviceBound/feedback',
      },
      target: {
        telemetry: (name) => '/devices/' + name + '/messages/events',
        command: () => '/messages/devicebound',
      },
    },
    sap: {
      host: '{"messaging": …}',
      urls: 'wss://….cfapps.eu10.hana.ondemand.com/protocols/amqp10ws',
      replyto: ['fixed'],
      known: /^(queue|topic):/,
      both: { queue: (name) => 'queue:' + name, topic: (name) => 'topic:' + name },
      hint: 'amqp-endpoint.hint.sap',
    },
  },

  // What the field Server says: a host, a host and a port, a URL, a connection string of Azure (`isShared`; `entity`
  // is the address in it), or a service key of SAP (`isServiceKey`). `rest` is all that was entered but the login of a URL.
  // What cannot be used has an `error`; what goes over a WebSocket a `path`.
  server: function (text) {
    const given = String(text).trim();
    let [, scheme, user, pass, rest = given] = SERVER_URL.exec(given) || [];
    const kind = SCHEMES.get(scheme?.toLowerCase());
    // The @ of a path, with no password that could have a slash in it.
    if (kind?.isWebSocket && user && pass === undefined && /[/?#]/.test(user)) {
      rest = user + '@' + rest;
      user = undefined;
    }
    const login = { ...(user && { user: decode(user) }), ...(pass && { pass: decode(pass) }) };
    const left = { rest: scheme ? scheme + '://' + rest : rest, ...login };
    const wrong = (error) => ({ error: error, ...left });
    if (!given) return wrong('missing');
    if (/^\{\s*"/.test(given)) return { ...serviceKey(given), rest: given };
    if (!scheme && CONNECTION_STRING.test(given)) return { ...connectionString(given), rest: given };
    if (scheme && !kind) return wrong('scheme');
    const [authority, path] = kind?.isWebSocket ? /^([^/?#]*)(.*)$/s.exec(rest).slice(1) : [rest];
    const place = scheme && !path ? authority.replace(/\/$/, '') : authority;
    const [, ipv6 = !scheme && IPV6.test(place) ? place : undefined, name, port] = HOST.exec(place) || [];
    const host = ipv6 || name;
    if (!host) return wrong(/^[^\s/?#]+[/?#]/.test(place) ? 'path' : 'host');
    if (/^\d/.test(port) && (port < 1 || port > 65535)) return wrong('port');
    if (/[@#]/.test(path)) return wrong('characters');
    if (!scheme) return { host: host, ...(port && { port: port }), ...left };
    return {
      host: host,
      port: port || kind.port,
      usetls: kind.usetls,
      ...(kind.isWebSocket && { path: path || '/' }),
      ...left,
    };
  },

  // The same of each URL of a list. One that an environment variable gives is `unknown`.
  servers: function (text) {
    return String(text ?? '')
      .split(BETWEEN)
      .map((entry) => entry.trim())
      .filter(Boolean)
      .map(function (entry) {
        if (/^\$\{\w+\}[^\s@;=]*$/.test(entry)) return { unknown: true, rest: entry };
        const server = amqp10.server(entry);
        // The login in a connection string is of its namespace alone.
        if (server.isShared || server.error?.startsWith('string-')) return { error: 'string-alone', rest: entry };
        return server.error || server.usetls !== undefined ? server : { error: 'scheme', rest: entry };
      });
  },

  decode: decode,

  // Whether what is sent to a host stays on this computer.
  isLoopback: function (host) {
    return /^(localhost|127(\.\d{1,3}){3}|::1)$/i.test(host);
  },

  // A text by its key, which begins with the set that has it, or with the namespace of Node-RED's own.
  text: function (key, values) {
    const [set] = key.split('.');
    return RED._(set.includes(':') ? key : '@amqp10/node-red-amqp10/' + set + ':' + key, values);
  },

  // What the dialog of each node begins with. `legacy` has the values of what an old flow does not have, where they are
  // not the defaults. Answers the function that finds the input of a property.
  open: function (node, legacy) {
    const prefix = prefixOf(node);
    const field = (name) => $('#' + prefix + name);
    opened[prefix] = node;
    fillMissing(node, field, legacy);
    countSet(node, prefix);
    // Node-RED looks for what is wrong once the form is prepared.
    setTimeout(openWrongFolds, 0);
    return field;
  },

  // `shown` says for which fields the row is visible; it is asked again whenever one of the watched fields changes.
  rows: function (field, watched, shown) {
    const update = function () {
      Object.entries(shown()).forEach(function ([name, visible]) {
        field(name).closest('.form-row').toggle(Boolean(visible));
      });
    };
    watched.forEach(function (name) {
      field(name).on('change', update);
    });
    update();
  },

  // What is known of the kind of server that is chosen in the form of a node.
  peer: function () {
    const endpoint = RED.nodes.node($('#node-input-endpoint').val());
    return endpoint && amqp10.peers[endpoint.peer];
  },

  // A line of links beneath a field, each to set a field to a value: what `offers` gives whenever the function returned is called.
  hints: function (row, offers) {
    const line = $('<div class="amqp10-hints"></div>').appendTo(row);
    let shown;
    return function () {
      const offered = offers();
      // The links stay while they are the same: leaving the field to click one must not replace it.
      const links = JSON.stringify(offered.map(({ label, text }) => [label, text]));
      if (links === shown) return;
      shown = links;
      line.empty();
      let group;
      offered.forEach(function ({ label, text, field, value }, index) {
        const link = $('<a href="#"></a>').text(text);
        link.on('click', function (event) {
          event.preventDefault();
          field.val(value).trigger('change').trigger('focus');
        });
        if (label === offered[index - 1]?.label) {
          group.append(', ', link);
          return;
        }
        group = $('<span></span>')
          .text(label + ': ')
          .append(link);
        line.append(group, ' ');
      });
    };
  },

  // An editable list. `build` fills a row and answers the function that reads it; `check` says what is wrong with all of
  // them, which stands beneath. `changed` gets them as they are. The list has the function that reads all as its `read`.
  table: function ({ list, rows, build, check, changed }) {
    const wrong = $('<div class="amqp10-wrong" role="alert"></div>');
    const read = () =>
      list
        .editableList('items')
        .toArray()
        .map((item) => item.data('read')());
    const update = function () {
      const all = read();
      if (changed) changed(all);
      const verdict = check(all);
      wrong.text(verdict === true ? '' : verdict);
      list.closest('.red-ui-editableList-container').toggleClass('amqp10-refused', verdict !== true);
    };
    let isFilled = false;
    list.editableList({
      height: 'auto',
      removable: true,
      removeItem: update,
      addItem: function (container, _index, row) {
        container.data('read', build(container, row));
        container
          .siblings('.red-ui-editableList-item-remove')
          .attr({ role: 'button', 'aria-label': RED._('common.label.delete') });
        if (!isFilled) return;
        update();
        container.find('select, input').first().trigger('focus');
      },
    });
    list.closest('.red-ui-editableList').append(wrong);
    list.editableList('addItems', rows);
    isFilled = true;
    list.data('read', read).on('input change', update);
    update();
  },

  // A field in a row of a list, which has no room for a label.
  cell: function (element, label, value = '') {
    return $(element).attr({ 'aria-label': label, autocomplete: 'off' }).val(value);
  },

  // The filters of a receiver as an editable list.
  filterTable: function (list, filters) {
    list.attr('aria-label', say('label.filters'));
    amqp10.table({ list: list, rows: filters, build: buildFilter, check: amqp10.filters });
  },

  // The address field: an example for the server chosen, and beneath it how a bare name may have to be written there.
  // `given` may know a better example.
  address: function (node, role, placeholder, given = () => undefined) {
    served = {};
    const type = $('#node-input-addressType');
    const row = type.closest('.form-row');
    const input = typedAddress(node, 'address', role === 'target' ? PER_MESSAGE : AT_START);
    const kind = $('#node-input-kind');
    const formsOf = (peer) => Object.entries({ ...peer?.both, ...peer?.[role] });
    const suggest = amqp10.hints(row, function () {
      const peer = amqp10.peer();
      const name = input.val().trim();
      if (!peer || !name || type.val() !== 'str' || name.includes('${')) return [];
      const forms = peer.known?.test(name) ? [] : formsOf(peer);
      const kinds = kind.val() ? [] : peer.kinds || [];
      return [
        ...forms.map(function ([form, write]) {
          return {
            label: amqp10.text('amqp-endpoint.form.' + form),
            text: write(name),
            field: input,
            value: write(name),
          };
        }),
        ...kinds.map(function (value) {
          return {
            label: amqp10.text('amqp-endpoint.form.kind'),
            text: amqp10.text('amqp-endpoint.kind.' + value),
            field: kind,
            value: value,
          };
        }),
      ];
    });
    const update = function () {
      const peer = amqp10.peer();
      const [form] = formsOf(peer);
      const example = form ? form[1]('orders') : 'orders';
      const told = given() || (peer && amqp10.text('amqp-endpoint.placeholder.example', { example: example }));
      input.attr('placeholder', told || placeholder);
      suggest();
    };
    row.on('input change', suggest);
    kind.on('change', suggest);
    $('#node-input-endpoint').on('change', update);
    update();
    return update;
  },

  // The field for the fixed address of replies.
  replyAddress: function (node) {
    typedAddress(node, 'replyaddress', AT_START);
  },

  // For names in a form that is being saved: a blank at an end is never meant. Expressions stay as they are.
  trim: function (...names) {
    names.forEach(function (name) {
      const input = $('#node-input-' + name);
      if (($('#node-input-' + name + 'Type').val() || 'str') === 'str') input.val(input.val().trim());
    });
  },

  // What was entered in fields that a choice has hidden does not count: back to the defaults with it.
  clear: function (node, field, names) {
    names.forEach(function (name) {
      const def = node._def.defaults[name];
      setTo(field(name), def?.type ? '_ADD_' : def ? defaultOf(def) : '');
    });
  },

  // Whether the choices made leave the row of a field there, be it in a fold that is closed.
  isOffered: function (field) {
    return field.closest('.form-row').css('display') !== 'none';
  },

  // The same for those of the fields whose row is not there.
  forget: function (node, ...names) {
    const field = (name) => $('#' + prefixOf(node) + name);
    const hidden = names.filter((name) => !amqp10.isOffered(field(name)));
    amqp10.clear(node, field, hidden);
  },

  // What Update would save of an open form, without the fields that a choice has hidden.
  saved: function (node, hidden) {
    const { defaults, credentials } = node._def;
    const isField = (name) => $('#' + prefixOf(node) + name).length > 0;
    const valueOf = function (name) {
      const def = defaults[name];
      const value = (hidden.includes(name) ? def && defaultOf(def) : amqp10.entered(node, name)) ?? '';
      return def?.type && value === '_ADD_' ? '' : value;
    };
    const valuesOf = (names) => Object.fromEntries(names.filter(isField).map((name) => [name, valueOf(name)]));
    return { properties: valuesOf(Object.keys(defaults)), credentials: valuesOf(Object.keys(credentials)) };
  },

  // What a validator goes by: the form of the node while it is open, else the node. Another's form may be open just then.
  entered: function (node, name) {
    const prefix = prefixOf(node);
    const input = $('#' + prefix + name);
    if (!input.length || opened[prefix] !== node) return node[name];
    return input.attr('type') === 'checkbox' ? input.prop('checked') : input.val();
  },

  // Validators' answers, for a field with the label of this key; undefined is the missing property of an old flow.
  required: function (value, key) {
    const label = amqp10.text(key);
    return String(value ?? '').trim() !== '' || RED._('validator.errors.missing-required-prop', { prop: label });
  },

  // A typed input, which may be blank with the types of which `mayBeBlank` says so.
  typed: function (node, name, value, opt, mayBeBlank) {
    const type = amqp10.entered(node, name + 'Type') || 'str';
    if (String(value ?? '').trim() === '') {
      return mayBeBlank(type) || RED._('validator.errors.missing-required-prop', { prop: opt.label });
    }
    return RED.utils.validateTypedProperty(value, type, opt);
  },

  // The name of a property of the msg.
  property: function (value, key) {
    const name = String(value ?? '').trim();
    if (!name || hasVariable(name) || RED.utils.validatePropertyExpression(name.replace(/^msg\./, ''))) return true;
    return amqp10.text('amqp-endpoint.error.property', { label: amqp10.text(key) });
  },

  whole: function (value, key, min, max) {
    const number = numberOf(value);
    if (value === undefined || hasVariable(value)) return true;
    if (Number.isInteger(number) && number >= min && number <= max) return true;
    return amqp10.text('amqp-endpoint.error.range', { label: amqp10.text(key), min: min, max: max });
  },

  optionalWhole: function (value, key, min, max) {
    return String(value).trim() === '' || amqp10.whole(value, key, min, max);
  },

  // Whether the form of a requester has them: who has none needs none, but for an IoT Hub.
  hasLinkProperties: function (node) {
    return RED.nodes.node($('#node-input-endpoint').val())?.peer === 'iothub' || Boolean(node.linkproperties);
  },

  linkProperties: function (value) {
    const text = String(value ?? '').trim();
    if (!text || hasVariable(text)) return true;
    try {
      const properties = JSON.parse(text);
      if (properties.constructor === Object && Object.values(properties).every(isSimple)) return true;
    } catch {
      // Said below.
    }
    const label = amqp10.text('amqp-endpoint.label.linkproperties');
    return amqp10.text('amqp-endpoint.error.link-properties', { label: label });
  },

  // For a text that nobody takes for a secret: a URL or a key that was pasted there may have one in it.
  plain: function (value, key) {
    const isPlain = !/:\/\/[^/]*@|sharedaccess\w+\s*=|"clientsecret"/i.test(value);
    return isPlain || amqp10.text('amqp-endpoint.error.login', { label: amqp10.text(key) });
  },

  // Names of AMQP, which are ASCII, with commas or blanks between them.
  symbols: function (value, key) {
    const text = String(value ?? '').replace(VARIABLE, 'x');
    return isAscii(text) || amqp10.text('amqp-endpoint.error.ascii', { label: amqp10.text(key) });
  },

  // The accounts of clients, each with a new password or what is kept of an old one.
  accounts: function (value) {
    const accounts = jsonOf(value || '[]');
    const label = amqp10.text('amqp-endpoint.label.accounts');
    const wrongIn = ({ name, stored, isNew }, index) => {
      if (!name) return 'account-name';
      if (accounts.findIndex((other) => other.name === name) < index) return 'account-twice';
      return stored || isNew ? undefined : 'account-password';
    };
    const wrongs = Array.isArray(accounts) ? accounts.map(wrongIn) : ['account-list'];
    const at = wrongs.findIndex(Boolean);
    if (at < 0) return true;
    const place = amqp10.text('amqp-endpoint.error.number', { label: label, number: at + 1 });
    return amqp10.text('amqp-endpoint.error.' + wrongs[at], { label: place });
  },

  // A list of filters. What is wrong with one is said with its number.
  filters: function (value) {
    const filters = value ?? [];
    const label = amqp10.text('amqp-receiver.label.filters');
    const isTwice = (row, index) => filters.findIndex((other) => filterName(other) === filterName(row)) < index;
    const wrongs = filters.map((row, index) => wrongInFilter(row) || (isTwice(row, index) ? 'twice' : undefined));
    const at = wrongs.findIndex(Boolean);
    if (at < 0) return true;
    const place = amqp10.text('amqp-endpoint.error.number', { label: label, number: at + 1 });
    return amqp10.text('amqp-receiver.error.' + wrongs[at], { label: place });
  },

  // Where to begin in an event hub, which nodes/flow/azure.ts reads.
  startValue: function (value, start, key) {
    const text = String(value ?? '').trim();
    if (!text) return amqp10.required(value, key);
    const wrong = {
      offset: text.includes("'") && 'quote',
      sequence: !/^\d+$/.test(text) && 'sequence',
      time: Number.isNaN(timeOf(text)) && 'instant',
    }[start];
    return !wrong || hasVariable(text) || amqp10.text('amqp-receiver.error.' + wrong, { label: amqp10.text(key) });
  },

  // Words with commas between them.
  list: function (value, key) {
    const isList = String(value ?? '')
      .replace(VARIABLE, 'x')
      .split(',')
      .every((one) => /^\s*\w*\s*$/.test(one));
    return isList || amqp10.text('amqp-endpoint.error.list', { label: amqp10.text(key) });
  },

  seconds: function (value, key, min, max) {
    const number = numberOf(value);
    if (value === undefined || hasVariable(value) || (number >= min && number <= max)) return true;
    return amqp10.text('amqp-endpoint.error.seconds', { label: amqp10.text(key), min: min, max: max });
  },

  optionalSeconds: function (value, key, min, max) {
    return String(value).trim() === '' || amqp10.seconds(value, key, min, max);
  },

  // A list of URLs. What is wrong with one is said with its number.
  urls: function (value, key) {
    const label = amqp10.text(key);
    const servers = amqp10.servers(value);
    if (!servers.length) return amqp10.required('', key);
    const at = servers.findIndex(({ error }) => error);
    if (at >= 0) {
      const place = amqp10.text('amqp-endpoint.error.number', { label: label, number: at + 1 });
      return amqp10.text('amqp-endpoint.error.' + servers[at].error, { label: place });
    }
    const known = servers.filter(({ unknown }) => !unknown);
    if (known.every(({ usetls }) => usetls === known[0].usetls)) return true;
    return amqp10.text('amqp-endpoint.error.mixed', { label: label });
  },

  // Where a secret is sent to: by HTTPS, or within this computer.
  tokenurl: function (value, key) {
    const label = amqp10.text(key);
    const text = String(value ?? '').trim();
    if (!text) return amqp10.required('', key);
    const [, scheme, place = ''] = /^(https?):\/\/([^/?#\s]+)([/?#]\S*)?$/i.exec(text) || [];
    const [, ipv6, name] = HOST.exec(place) || [];
    const host = ipv6 || name;
    if (!host) return /^\$\{\w+\}\S*$/.test(text) || amqp10.text('amqp-endpoint.error.http', { label: label });
    if (scheme.length === 5 || amqp10.isLoopback(host)) return true;
    return amqp10.text('amqp-endpoint.error.clear', { label: label });
  },

  // Text with a line for each of something: which one is wrong is said with its number. A variable may be a line, or more.
  lines: function (value, key, pattern, error) {
    const lines = String(value ?? '').split('\n');
    const isRight = (line) => pattern.test(line.trim().replace(VARIABLE, 'x'));
    const at = lines.findIndex((line) => line.replace(VARIABLE, '').trim() && !isRight(line));
    if (at < 0) return true;
    const label = amqp10.text('amqp-endpoint.error.line', { label: amqp10.text(key), number: at + 1 });
    return amqp10.text(error, { label: label });
  },

  // Of a message, blank by default: it goes without them then.
  priority: function (value) {
    return String(value).trim() === '' || amqp10.whole(value, 'amqp-endpoint.label.priority', 0, 255);
  },

  ttl: function (value) {
    return amqp10.optionalSeconds(value, 'amqp-endpoint.label.ttl', 0.001, 4000000);
  },
};
