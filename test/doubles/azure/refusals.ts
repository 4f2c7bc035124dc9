// What the services refuse, and in what words.

/** What a connection, a link or a message is refused with. */
export interface ServiceError {
  condition: string;
  description?: string;
  info?: object;
}

/** What a service refuses, as clients are told it. */
export class Refusal extends Error {
  constructor(
    readonly condition: string,
    description: string,
    /** of an answer to a request */
    readonly status = 400,
    /** what else there is to tell */
    readonly info?: object,
  ) {
    super(description);
  }
}

/** The service has too much to do; `code` is its own number for that. */
export const busy = (code: number) =>
  new Refusal(
    'com.microsoft:server-busy',
    `The request was terminated because the entity is being throttled. Error code: ${code}.`,
    503,
  );
export const disabled = (path: string) =>
  new Refusal('com.microsoft:entity-disabled', `The entity '${path}' is disabled.`);
export const idle = (link: string) =>
  new Refusal(
    'amqp:link:detach-forced',
    `The link '${link}' is force detached. Code: publisher. Details: IdleTimerExpired: Idle timeout: 00:10:00.`,
  );
export const lockLost = () =>
  new Refusal('com.microsoft:message-lock-lost', 'The lock supplied is invalid. It has expired or was settled.', 410);
export const missing = (path: string) =>
  new Refusal('amqp:not-found', `The messaging entity '${path}' could not be found.`, 404);
export const notAllowed = (description: string) => new Refusal('amqp:not-allowed', description);
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
export const toError = ({ condition, message, info }: Refusal): ServiceError => ({
  condition,
  description: message,
  info,
});
