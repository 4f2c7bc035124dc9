// Loaded into node-red-dev before it starts: answers for the public catalogue of nodes, with the packages for AMQP that we know,
// so that the checks of unique names have something to compare with.
const { createRequire } = require('node:module');
const axios = createRequire(process.argv[1])('axios');

const modules = [
  { id: 'node-red-contrib-amqp', types: ['amqp in', 'amqp out', 'amqp-server'] },
  { id: '@meowwolf/node-red-contrib-amqp', types: ['amqp-in', 'amqp-out', 'amqp-broker', 'amqp-in-manual-ack'] },
  { id: '@frankvdb/node-red-contrib-amqp', types: ['amqp-in', 'amqp-out', 'amqp-broker', 'amqp-in-manual-ack'] },
];

const get = axios.get;
axios.get = (url, ...options) =>
  url.startsWith('https://catalogue.nodered.org/') ? Promise.resolve({ data: { modules } }) : get(url, ...options);
