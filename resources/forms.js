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
const IPV6 = /^[\da-f]*:[\da-f:.]*:[\da-f.]*(?:%\w+)?$/i;
const HOST = /^(?:\[([\da-f:.]+(?:%\w+)?)\]|([^\s@;=/?#[\]:,"'<>\\]+))(?::(\d{1,5}|\$\{\w+\}))?$/i;

const numberOf = (value) => Number(String(value).trim() || NaN);

const AZURE = { usetls: true, host: 'name.servicebus.windows.net', replyto: ['fixed'] };

const addTabs = (prefix, names) => {
  const content = $('#' + prefix + 'tabs-content');
  const tabs = RED.tabs.create({
    id: prefix + 'tabs',
    onchange: function (tab) {
      content.children().hide();
      $('#' + tab.id).show();
    },
  });
  names.forEach(function (name) {
    tabs.addTab({ id: prefix + 'tab-' + name, label: amqp10.text('amqp-endpoint.tab.' + name) });
  });
  setTimeout(function () {
    tabs.resize();
  }, 0);
};

// A property an old flow does not have gets the value the runtime gives it: ours, whatever settings.nodeDefaults says for new nodes.
const fillMissing = (node, field, legacy) => {
  Object.entries(node._def.defaults).forEach(function ([name, def]) {
    const value = legacy && name in legacy ? legacy[name] : def._override ? def._originalValue : def.value;
    if (node[name] !== undefined || value === undefined) return;
    const input = field(name);
    if (input.attr('type') === 'checkbox') input.prop('checked', value);
    else input.val(value);
  });
};

window.amqp10 = {
  // What the forms know of each kind of server. `host` and `hostname` are examples. The functions say how an address
  // is written, given a bare name: for a receiver (`source`), a sender (`target`) or `both`; `known` tells that it is so already.
  // `replyto`: what a requester has instead of an address that the server makes.
  peers: {
    activemq: {
      known: /:\/\//,
      both: { queue: (name) => 'queue://' + name, topic: (name) => 'topic://' + name },
    },
    rabbitmq4: {
      replyto: ['capability', 'fixed'],
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
    },
    servicebus: {
      ...AZURE,
      known: /\/(Subscriptions\/|\$)/i,
      source: { subscription: (name) => name + '/Subscriptions/name' },
    },
    eventhubs: {
      ...AZURE,
      known: /\/ConsumerGroups\//i,
      source: { partition: (name) => name + '/ConsumerGroups/$Default/Partitions/0' },
    },
    // It makes a topic of a new address.
    artemis: { kinds: ['queue', 'topic'] },
    router: {},
  },

  // What the field Server says: a host, a host and a port, or a URL. Else there is an `error`, and of what was
  // entered the `rest`, which is all of it but the login of a URL.
  server: function (text) {
    const given = String(text).trim();
    const [, scheme, user, pass, rest = given] = SERVER_URL.exec(given) || [];
    const login = { ...(user && { user: decode(user) }), ...(pass && { pass: decode(pass) }) };
    const wrong = (error) => ({ error: error, rest: scheme ? scheme + '://' + rest : rest, ...login });
    if (!given) return wrong('missing');
    if (/(^|;)\s*endpoint\s*=/i.test(given)) return wrong('connectionstring');
    if (scheme && !/^amqps?$/i.test(scheme)) return wrong('scheme');
    const place = scheme ? rest.replace(/\/$/, '') : rest;
    const [, ipv6 = IPV6.test(place) ? place : undefined, name, port] = HOST.exec(place) || [];
    const host = ipv6 || name;
    if (!host) return wrong(/^[^\s/?#]+[/?#]/.test(place) ? 'path' : 'host');
    if (/^\d/.test(port) && (port < 1 || port > 65535)) return wrong('port');
    if (!scheme) return { host: host, ...(port && { port: port }) };
    const usetls = scheme.length === 5;
    return { host: host, port: port || (usetls ? '5671' : '5672'), usetls: usetls, ...login };
  },

  // A text by its key, which begins with the set that has it, or with the namespace of Node-RED's own.
  text: function (key, values) {
    const [set] = key.split('.');
    return RED._(set.includes(':') ? key : '@amqp10/node-red-amqp10/' + set + ':' + key, values);
  },

  // What the dialog of each node begins with. Answers the function that finds the input of a property.
  open: function (node, tabs, legacy) {
    const prefix = node._def.category === 'config' ? 'node-config-input-' : 'node-input-';
    const field = (name) => $('#' + prefix + name);
    addTabs(prefix, tabs);
    fillMissing(node, field, legacy);
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

  // The address field: an example for the server chosen, and beneath it how a bare name may have to be written there.
  address: function (role, placeholder) {
    const type = $('#node-input-addressType');
    if (type.length) {
      $('#node-input-address').typedInput({
        default: 'str',
        types: ['str', 'msg', 'flow', 'global', 'env', 'jsonata'],
        typeField: '#node-input-addressType',
      });
    }
    const row = $('#node-input-address').closest('.form-row');
    const input = row.find('input[type="text"]');
    const kind = $('#node-input-kind');
    const formsOf = (peer) => Object.entries({ ...peer?.both, ...peer?.[role] });
    const suggest = amqp10.hints(row, function () {
      const peer = amqp10.peer();
      const name = input.val().trim();
      if (!peer || !name || (type.val() || 'str') !== 'str' || name.includes('${')) return [];
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
      input.attr(
        'placeholder',
        peer ? amqp10.text('amqp-endpoint.placeholder.example', { example: example }) : placeholder,
      );
      suggest();
    };
    row.on('input change', suggest);
    kind.on('change', suggest);
    $('#node-input-endpoint').on('change', update);
    update();
  },

  // For names in a form that is being saved: a blank at an end is never meant. Expressions stay as they are.
  trim: function (...names) {
    names.forEach(function (name) {
      const input = $('#node-input-' + name);
      if (($('#node-input-' + name + 'Type').val() || 'str') === 'str') input.val(input.val().trim());
    });
  },

  // What a validator goes by: the form while it is open, else the node.
  entered: function (node, name) {
    const input = $('#node-input-' + name);
    if (!input.length) return node[name];
    return input.attr('type') === 'checkbox' ? input.prop('checked') : input.val();
  },

  // Validators' answers, for a field with the label of this key; undefined is the missing property of an old flow.
  required: function (value, key) {
    const label = amqp10.text(key);
    return String(value ?? '').trim() !== '' || RED._('validator.errors.missing-required-prop', { prop: label });
  },

  whole: function (value, key, min, max) {
    const number = numberOf(value);
    if (value === undefined || (Number.isInteger(number) && number >= min && number <= max)) return true;
    return amqp10.text('amqp-endpoint.error.range', { label: amqp10.text(key), min: min, max: max });
  },

  seconds: function (value, key, min, max) {
    const number = numberOf(value);
    if (value === undefined || (number >= min && number <= max)) return true;
    return amqp10.text('amqp-endpoint.error.seconds', { label: amqp10.text(key), min: min, max: max });
  },

  // Of a message, blank by default: it goes without them then.
  priority: function (value) {
    return String(value).trim() === '' || amqp10.whole(value, 'amqp-endpoint.label.priority', 0, 255);
  },

  ttl: function (value) {
    return String(value).trim() === '' || amqp10.seconds(value, 'amqp-endpoint.label.ttl', 0.001, 4000000);
  },
};
