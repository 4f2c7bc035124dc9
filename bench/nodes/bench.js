module.exports = require('../flow-nodes.ts').default;
