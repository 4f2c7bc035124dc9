// Lets people find the nodes by the name of their server, or by a word such as queue. The palette's search reads a node's type and
// its label, as an attribute has it, and a label has no room for such words: they go into the attribute, where nobody sees them.
const TYPES = ['amqp-sender', 'amqp-receiver', 'amqp-requester', 'amqp-responder'];

const addWords = (type) => {
  const words = RED._('@amqp10/node-red-amqp10/amqp-endpoint:amqp-endpoint.search');
  $('.red-ui-palette-node[data-palette-type="' + type + '"]').attr(
    'data-palette-label',
    (_n, label) => label + ', ' + words,
  );
};

// Some may be there already. Others come later, and so do the same ones after an update of the package.
TYPES.forEach(addWords);
RED.events.on('registry:node-type-added', (type) => {
  if (TYPES.includes(type)) addWords(type);
});
