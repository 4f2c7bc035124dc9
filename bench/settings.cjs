// Settings of the Node-RED of a benchmark: as delivered, but without a server and without a palette that no flow here uses.
const path = require('node:path');

module.exports = {
  ...require('../scripts/node-red-settings.cjs'),
  nodesDir: path.join(__dirname, 'nodes'),
  httpAdminRoot: false,
  httpNodeRoot: false,
  nodesExcludes: ['exec.js', 'httprequest.js'],
  credentialSecret: false,
};
