// What the service refuses, and in what words.

/** What the service refuses, as clients are told it. */
export class Refusal extends Error {
  constructor(
    readonly condition: string,
    description: string,
    /** of an answer to a request */
    readonly status = 400,
  ) {
    super(description);
  }
}

export const busy = () =>
  new Refusal(
    'com.microsoft:server-busy',
    'The request was terminated because the entity is being throttled. Error code: 50009.',
    503,
  );
export const disabled = (path: string) =>
  new Refusal('com.microsoft:entity-disabled', `The entity '${path}' is disabled.`);
export const lockLost = () =>
  new Refusal('com.microsoft:message-lock-lost', 'The lock supplied is invalid. It has expired or was settled.', 410);
export const missing = (path: string) =>
  new Refusal('amqp:not-found', `The messaging entity '${path}' could not be found.`, 404);
export const notAllowed = (description: string) => new Refusal('amqp:not-allowed', description);
export const notFound = (sequenceNumber: number) =>
  new Refusal('com.microsoft:message-not-found', `There is no such message with number ${sequenceNumber}.`, 404);
export const sessionLost = () =>
  new Refusal('com.microsoft:session-lock-lost', 'The session lock has expired or was given back.', 410);
export const sessionTaken = (id: string) =>
  new Refusal('com.microsoft:session-cannot-be-locked', `The requested session '${id}' cannot be accepted.`);
export const timedOut = () =>
  new Refusal('com.microsoft:timeout', 'The operation did not complete within the allotted time.', 408);
export const tooLarge = ({ length }: Buffer) =>
  new Refusal(
    'amqp:link:message-size-exceeded',
    `The received message of ${length} bytes exceeds the limit of the link.`,
  );
export const unauthorized = (description: string) => new Refusal('amqp:unauthorized-access', description, 401);

/** What a client got wrong in a way that nobody thought of is its fault too. */
export const refusalOf = (error: unknown) =>
  error instanceof Refusal ? error : new Refusal('amqp:decode-error', String(error));

/** The same as rhea wants errors. */
export const toError = ({ condition, message }: Refusal) => ({ condition, description: message });
